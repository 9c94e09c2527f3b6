/* core/threads.c: see threads.h.
 *
 * A job is handed out by raising `generation`: members wait until it differs from the one they last served. They report back by counting
 * `remaining` down; the owner waits until it is 0. Both are futex words. Who waits first spins for a time that is longer than the pause
 * between two jobs of a decode step, then announces itself as a sleeper and sleeps.
 *
 * Why no wake-up is lost: a waiter raises its sleeper count, then the kernel compares the word with what the waiter saw before it lets
 * it sleep; a waker changes the word, then reads the sleeper count. All four are sequentially consistent, so at least one of the two sees
 * the other. `job` and `arg` are written before generation is raised and read after it was seen: that orders them. */
#include "core/threads.h"
#include "core/cores.h"
#include "core/os.h"
#include "core/os_private.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SPIN_NS     40000 /* a futex sleep and wake-up cost some 10 to 50 microseconds: spin for about as long as that */
#define SPIN_ROUNDS 32    /* pauses between two looks at the clock */
#define STACK_BYTES ((size_t)1 << 20)
#define THREADS_MAX 1024

#if defined(__x86_64__)
#define CPU_PAUSE() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define CPU_PAUSE() __asm__ __volatile__("yield")
#else
#define CPU_PAUSE() ((void)0)
#endif

typedef struct futex_word { /* alone on its cache line: one is written by the owner, one by all members */
    _Alignas(64) _Atomic uint32_t value;
    _Atomic uint32_t sleepers;
} futex_word;

typedef struct member {
    sl_threads *crew;
    pthread_t thread;
    unsigned index;
} member;

struct sl_threads {
    futex_word generation; /* members wait for it to change */
    futex_word remaining;  /* the owner waits for it to be 0 */
    sl_job job;            /* NULL: members leave */
    void *arg;
    sl_trace *trace;      /* NULL: nobody looks */
    sl_trace_label label; /* of the job, for who looks */
    unsigned count;
    bool spin; /* there is a core for each of us */
    bool bind;
    bool owner_bound;
    pthread_t owner;
    sli_cpu_mask owner_mask; /* as it was before we bound the owner */
    sli_cores cores;
    member *members; /* 1 .. count - 1 are threads */
    char binding[200];
};

static void futex_wait(_Atomic uint32_t *word, uint32_t seen)
{
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0); /* woken, changed or interrupted: the caller looks again */
}

static void futex_wake_all(_Atomic uint32_t *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

/* Returns a value other than `seen`. */
static uint32_t wait_change(futex_word *word, uint32_t seen, bool spin)
{
    uint32_t now = atomic_load_explicit(&word->value, memory_order_acquire);
    uint64_t until = spin && now == seen ? sl_now_ns() + SPIN_NS : 0;
    while (now == seen && spin) {
        for (int i = 0; i < SPIN_ROUNDS && now == seen; i++) {
            CPU_PAUSE();
            now = atomic_load_explicit(&word->value, memory_order_acquire);
        }
        spin = sl_now_ns() < until;
    }
    while (now == seen) {
        atomic_fetch_add(&word->sleepers, 1);
        futex_wait(&word->value, seen);
        atomic_fetch_sub(&word->sleepers, 1);
        now = atomic_load(&word->value);
    }
    return now;
}

static void *member_main(void *arg)
{
    const member *self = arg;
    sl_threads *crew = self->crew;
    if (crew->bind)
        sli_bind_self(crew->cores.cpu[self->index]);
    for (uint32_t seen = 0;;) {
        seen = wait_change(&crew->generation, seen, crew->spin);
        if (crew->job == NULL)
            return NULL;
        uint64_t begin = sl_trace_share_begin(crew->trace);
        crew->job(crew->arg, self->index, crew->count);
        sl_trace_share_end(crew->trace, self->index, begin, crew->label);
        if (atomic_fetch_sub(&crew->remaining.value, 1) == 1 && atomic_load(&crew->remaining.sleepers) > 0)
            futex_wake_all(&crew->remaining.value);
    }
}

static void hand_out(sl_threads *crew, sl_job job, void *arg)
{
    crew->job = job;
    crew->arg = arg;
    crew->label = sl_trace_label_of(crew->trace);
    atomic_store(&crew->remaining.value, crew->count - 1);
    atomic_fetch_add(&crew->generation.value, 1);
    if (atomic_load(&crew->generation.sleepers) > 0)
        futex_wake_all(&crew->generation.value);
}

/* The owner is bound at its first job and not before: threads that it starts until then do not inherit the binding. */
static void bind_owner(sl_threads *crew)
{
    pthread_t self = pthread_self();
    if (!crew->bind || (crew->owner_bound && pthread_equal(self, crew->owner)))
        return;
    if (sli_mask_get(&crew->owner_mask)) {
        sli_bind_self(crew->cores.cpu[0]);
        crew->owner = self;
        crew->owner_bound = true;
    }
}

void sl_threads_run(sl_threads *threads, sl_job fn, void *arg)
{
    assert(fn != NULL);
    bind_owner(threads);
    if (threads->count == 1) {
        fn(arg, 0, 1);
        return;
    }
    hand_out(threads, fn, arg);
    fn(arg, 0, threads->count);
    for (uint32_t left = atomic_load(&threads->remaining.value); left > 0;)
        left = wait_change(&threads->remaining, left, threads->spin);
}

/* Ends the first `started` members (index 0, the owner, among them). */
static void end_members(sl_threads *crew, unsigned started)
{
    if (started > 1)
        hand_out(crew, NULL, NULL);
    for (unsigned i = 1; i < started; i++)
        pthread_join(crew->members[i].thread, NULL);
}

static void describe_binding(sl_threads *crew)
{
    size_t used = 0, size = sizeof crew->binding;
    if (!crew->bind) {
        const char *reason = crew->cores.known ? "more threads than cores" : "the machine's cores are not known";
        snprintf(crew->binding, size, "not bound: %s (%u threads, %u cores)", reason, crew->count, crew->cores.count);
        return;
    }
    for (unsigned i = 0; i < crew->count && used < size - 16; i++)
        used += (size_t)snprintf(crew->binding + used, size - used, "%s%u", i == 0 ? "bound to cores " : ",", crew->cores.cpu[i]);
    if (used >= size - 16)
        snprintf(crew->binding + used, size - used, ",...");
}

static sl_status start_members(sl_threads *crew, sl_error *err)
{
    pthread_attr_t attr;
    int failure = pthread_attr_init(&attr);
    if (failure != 0)
        return sl_fail(err, SL_NO_MEMORY, "cannot start %u threads: %s", crew->count, strerror(failure));
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    unsigned started = 1;
    for (; started < crew->count && failure == 0; started += failure == 0) {
        crew->members[started] = (member){.crew = crew, .index = started};
        failure = pthread_create(&crew->members[started].thread, &attr, member_main, &crew->members[started]);
    }
    pthread_attr_destroy(&attr);
    if (failure == 0)
        return SL_OK;
    end_members(crew, started);
    return sl_fail(err, SL_NO_MEMORY, "cannot start thread %u of %u: %s; -t sets a smaller number", started + 1, crew->count,
                   strerror(failure));
}

sl_status sl_threads_create(unsigned count, sl_threads **out, sl_error *err)
{
    *out = NULL;
    if (count > THREADS_MAX)
        return sl_fail(err, SL_INVALID, "%u threads are too many; at most %d work together", count, THREADS_MAX);
    sl_threads *crew = aligned_alloc(_Alignof(sl_threads), sizeof *crew);
    if (crew == NULL)
        return sl_fail(err, SL_NO_MEMORY, "no memory for the threads' table (%zu bytes)", sizeof *crew);
    memset(crew, 0, sizeof *crew);

    sli_cores_find(&crew->cores);
    unsigned quota = sli_cpu_quota_from("");
    unsigned available = quota < crew->cores.count ? quota : crew->cores.count;
    crew->count = count > 0 ? count : available;
    crew->spin = crew->count <= available;
    crew->bind = crew->cores.known && crew->count <= crew->cores.count;
    describe_binding(crew);

    crew->members = calloc(crew->count, sizeof *crew->members);
    sl_status status = crew->members == NULL ? sl_fail(err, SL_NO_MEMORY, "no memory for %u threads", crew->count)
                                             : start_members(crew, err);
    if (status != SL_OK) {
        free(crew->members);
        free(crew);
        return status;
    }
    *out = crew;
    return SL_OK;
}

void sl_threads_destroy(sl_threads *threads)
{
    if (threads == NULL)
        return;
    end_members(threads, threads->count);
    if (threads->owner_bound && pthread_equal(pthread_self(), threads->owner))
        sli_mask_set(&threads->owner_mask);
    free(threads->members);
    free(threads);
}

unsigned sl_threads_count(const sl_threads *threads)
{
    return threads->count;
}

void sl_threads_trace(sl_threads *threads, sl_trace *trace)
{
    threads->trace = trace; /* members see it with their next job */
}

const char *sl_threads_binding(const sl_threads *threads)
{
    return threads->binding;
}
