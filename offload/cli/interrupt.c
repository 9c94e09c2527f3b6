/* offload/cli/interrupt.c: Ctrl-C ends what runs, cleanly; a second one ends the program. */
#include "offload/cli/cli.h"

#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>

/* A signal handler has no argument of ours: this is the one piece of global state in the program, and only the command line has it. */
static _Atomic(sl_engine *) running;
static volatile sig_atomic_t interrupted;

static void on_interrupt(int signal_number)
{
    (void)signal_number;
    interrupted = 1;
    sl_engine *engine = atomic_load(&running);
    if (engine != NULL)
        sl_engine_interrupt(engine);
}

void cli_catch_interrupt(sl_engine *engine)
{
    struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = (int)SA_RESETHAND};
    atomic_store(&running, engine);
    sigemptyset(&action.sa_mask);
    if (engine != NULL || interrupted == 0) {
        sigaction(SIGINT, &action, NULL);
        sigaction(SIGTERM, &action, NULL);
    }
}

bool cli_interrupted(void)
{
    return interrupted != 0;
}
