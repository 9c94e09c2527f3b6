/* offload/cli/interrupt.c: Ctrl-C ends what runs, cleanly; once more, a second later, it ends the program where it stands. */
#include "offload/cli/cli.h"

#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <time.h>

/* A signal handler has no argument of ours: this is the one piece of global state in the program, and only the command line has it. */
static _Atomic(sl_engine *) running;
static volatile sig_atomic_t interrupted, terminated;
static struct timespec first_time; /* of the handler alone */

/* One press can arrive twice: from the terminal, and from a parent that passes it on. Only a later one is a second thought. */
static bool insists(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (interrupted == 0)
        first_time = now;
    return (now.tv_sec - first_time.tv_sec) * 1000 + (now.tv_nsec - first_time.tv_nsec) / 1000000 > 1000;
}

static void on_interrupt(int signal_number)
{
    if (insists()) {
        cli_status_give_back();
        signal(signal_number, SIG_DFL);
        (void)raise(signal_number);
        return;
    }
    interrupted = 1;
    if (signal_number == SIGTERM)
        terminated = 1;
    sl_engine *engine = atomic_load(&running);
    if (engine != NULL)
        sl_engine_interrupt(engine);
}

void cli_catch_interrupt(sl_engine *engine)
{
    struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = SA_RESTART};
    atomic_store(&running, engine);
    sigemptyset(&action.sa_mask);
    if (engine != NULL || interrupted == 0) {
        sigaction(SIGINT, &action, NULL);
        sigaction(SIGTERM, &action, NULL);
    }
    if (engine != NULL && interrupted != 0) /* pressed before there was an engine to tell */
        sl_engine_interrupt(engine);
}

bool cli_interrupted(void)
{
    return interrupted != 0;
}

bool cli_terminated(void)
{
    return terminated != 0;
}

void cli_forget_interrupt(void)
{
    if (terminated == 0)
        interrupted = 0;
}
