/* kernels/cuda/emulate.cpp: a block's threads, taking turns on fibers.
 *
 * A fiber runs threads of a block one after the other for as long as none has to wait; so kernels without barriers never switch. A thread that waits
 * keeps its fiber, and another one goes on with what can run: first threads whose wait is over, then those that have not begun. When nothing can run
 * and not all have ended, some wait for what will not come, and that is reported.
 *
 * A fault leaves the block as it stands: its fibers are begun anew for the next. */
#include "kernels/cuda/emulate.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define SWITCH_BEGINS(save, stack, bytes) __sanitizer_start_switch_fiber(save, stack, bytes)
#define SWITCH_ENDS(save, stack, bytes)   __sanitizer_finish_switch_fiber(save, stack, bytes)
#define STACK_IS_CLEAN(stack, bytes)      __asan_unpoison_memory_region(stack, bytes)
#else
#define SWITCH_BEGINS(save, stack, bytes) ((void)0)
#define SWITCH_ENDS(save, stack, bytes)   ((void)0)
#define STACK_IS_CLEAN(stack, bytes)      ((void)0)
#endif

#define THREADS_MAX  1024
#define WARPS_MAX    (THREADS_MAX / 32)
#define STACK_BYTES  ((size_t)128 << 10)
#define SHARED_BYTES ((size_t)48 << 10)
#define NO_THREAD    UINT32_MAX

sli_emulated_now sli_now;

struct fiber {
#if defined(__x86_64__)
    void *sp;
#else
    ucontext_t context;
#endif
    void *sanitizer;
    uint8_t *stack;     /* NULL: the caller's */
    size_t stack_bytes; /* of the caller's, as the sanitizer found it */
    const void *bottom;
    uint32_t thread; /* that it runs, or is to run first */
};

/* Lanes that meet: what each brought, and who is there. */
struct meeting {
    uint32_t expected, arrived;
    int line;
    void *mine[32];
};

struct thread_state {
    fiber *on; /* while it waits */
    bool ended;
};

/* All of the kernels' static shared memory, as the linker says. */
extern "C" __attribute__((weak, visibility("hidden"))) uint8_t __start_sli_shared[], __stop_sli_shared[];

static struct emulator {
    uint64_t order;

    /* The launch. */
    void (*body)(const void *closure);
    const void *closure;
    uint32_t threads;
    uint64_t random; /* 0: ascending */

    /* The block. */
    thread_state thread[THREADS_MAX];
    meeting warp[WARPS_MAX][32];
    uint32_t active[WARPS_MAX]; /* meetings, as bits */
    uint32_t ready[THREADS_MAX], ready_first, ready_count;
    uint32_t unstarted[THREADS_MAX], unstarted_count; /* from the end */
    uint32_t ended;
    uint32_t at_barrier, predicates, predicates_met;
    int barrier_line;
    char fault[256];

    /* Fibers. */
    fiber caller, fibers[THREADS_MAX], *idle[THREADS_MAX], *running;
    uint32_t made, idle_count;
    alignas(256) uint8_t shared[SHARED_BYTES];
} em;
static pthread_mutex_t launches = PTHREAD_MUTEX_INITIALIZER; /* one at a time */

void sli_emulated_order(uint64_t seed)
{
    pthread_mutex_lock(&launches);
    em.order = seed;
    pthread_mutex_unlock(&launches);
}

static uint32_t random_below(uint32_t bound)
{
    em.random = em.random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((em.random >> 33) % bound);
}

/* ---- fibers ---- */

static void fiber_main(void);

#if defined(__x86_64__)
/* Saves what a call must preserve on this stack, and goes on with what another one saved. */
extern "C" void sli_fiber_switch(void **save_sp, void *to_sp);
asm(".text\n.hidden sli_fiber_switch\n.globl sli_fiber_switch\n.type sli_fiber_switch, @function\nsli_fiber_switch:\n"
    "    pushq %rbp\n    pushq %rbx\n    pushq %r12\n    pushq %r13\n    pushq %r14\n    pushq %r15\n"
    "    movq %rsp, (%rdi)\n    movq %rsi, %rsp\n"
    "    popq %r15\n    popq %r14\n    popq %r13\n    popq %r12\n    popq %rbx\n    popq %rbp\n    ret\n"
    ".size sli_fiber_switch, .-sli_fiber_switch\n");

static void fiber_prepare(fiber *f)
{
    void **top = (void **)(f->stack + STACK_BYTES);
    *--top = NULL; /* where fiber_main would return to, and what aligns the stack as a call does */
    *--top = (void *)fiber_main;
    for (int saved = 0; saved < 6; saved++)
        *--top = NULL;
    f->sp = top;
}
static void fiber_jump(fiber *from, fiber *to)
{
    sli_fiber_switch(&from->sp, to->sp);
}
#else
static void fiber_prepare(fiber *f)
{
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = f->stack;
    f->context.uc_stack.ss_size = STACK_BYTES;
    makecontext(&f->context, fiber_main, 0);
}
static void fiber_jump(fiber *from, fiber *to)
{
    swapcontext(&from->context, &to->context);
}
#endif

/* The caller's stack is known to the sanitizer alone, which tells when it is left. */
static void fiber_arrived(fiber *self)
{
    const void *bottom = NULL;
    size_t bytes = 0;
    SWITCH_ENDS(self->sanitizer, &bottom, &bytes);
    if (em.caller.bottom == NULL && self != &em.caller) {
        em.caller.bottom = bottom;
        em.caller.stack_bytes = bytes;
    }
}

static void say_who_runs(uint32_t thread)
{
    uint32_t x = sli_now.block_dim.x, y = sli_now.block_dim.y;
    sli_now.thread = y == 1 ? uint3{thread % x, 0, thread / x} : uint3{thread % x, thread / x % y, thread / x / y};
}

static void fiber_switch(fiber *to)
{
    fiber *from = em.running;
    if (to == from)
        return; /* the last one to come was drawn to go on first */
    em.running = to;
    if (to->thread != NO_THREAD)
        say_who_runs(to->thread);
    SWITCH_BEGINS(&from->sanitizer, to->stack != NULL ? to->stack : to->bottom, to->stack != NULL ? STACK_BYTES : to->stack_bytes);
    fiber_jump(from, to);
    fiber_arrived(from);
}

static fiber *fiber_take(void)
{
    if (em.idle_count > 0)
        return em.idle[--em.idle_count];
    if (em.made == THREADS_MAX)
        return NULL;
    fiber *f = &em.fibers[em.made];
    if (f->stack == NULL) {
        void *stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (stack == MAP_FAILED)
            return NULL;
        f->stack = (uint8_t *)stack;
    }
    em.made++;
    f->sanitizer = NULL;
    STACK_IS_CLEAN(f->stack, STACK_BYTES);
    fiber_prepare(f);
    return f;
}

/* ---- who runs next ---- */

static void make_ready(uint32_t thread)
{
    em.ready[(em.ready_first + em.ready_count++) % THREADS_MAX] = thread;
}

static uint32_t take_ready(void)
{
    if (em.random != 0) { /* any of them: it changes places with the first */
        uint32_t *first = &em.ready[em.ready_first], *other = &em.ready[(em.ready_first + random_below(em.ready_count)) % THREADS_MAX];
        std::swap(*first, *other);
    }
    uint32_t thread = em.ready[em.ready_first];
    em.ready_first = (em.ready_first + 1) % THREADS_MAX;
    em.ready_count--;
    return thread;
}

/* Whether a thread that has not begun comes next, rather than one whose wait is over. */
static bool one_begins(void)
{
    return em.unstarted_count > 0 && (em.ready_count == 0 || (em.random != 0 && random_below(2) == 0));
}

/* Leaves the thread that runs for the next one; returns when it is its turn again, if it has a wait to come back from. */
static void run_next(void)
{
    if (one_begins()) {
        fiber *f = fiber_take();
        if (f == NULL) {
            snprintf(em.fault, sizeof em.fault, "no memory for the stacks of a block's threads");
            fiber_switch(&em.caller);
        }
        f->thread = em.unstarted[--em.unstarted_count];
        fiber_switch(f);
    } else if (em.ready_count > 0) {
        uint32_t thread = take_ready();
        fiber_switch(em.thread[thread].on);
    } else {
        fiber_switch(&em.caller);
    }
}

static void fiber_main(void)
{
    fiber *self = em.running;
    fiber_arrived(self);
    for (;;) {
        em.body(em.closure);
        em.thread[self->thread].ended = true;
        em.ended++;
        if (one_begins()) { /* here and now: without a switch */
            self->thread = em.unstarted[--em.unstarted_count];
            say_who_runs(self->thread);
        } else {
            em.idle[em.idle_count++] = self;
            fiber_switch(em.ready_count > 0 ? em.thread[take_ready()].on : &em.caller);
        }
    }
}

static void wait_here(void)
{
    em.thread[em.running->thread].on = em.running;
    run_next();
}

void sli_emulated_fault(const char *what, int line)
{
    uint3 t = sli_now.thread, b = sli_now.block;
    snprintf(em.fault, sizeof em.fault, "thread (%u, %u, %u) of block (%u, %u, %u), line %d: %s", t.x, t.y, t.z, b.x, b.y, b.z, line, what);
    fiber_switch(&em.caller);
    abort(); /* nobody comes back to a fault */
}

/* ---- meeting ---- */

int sli_meet_block(int line, bool predicate)
{
    if (em.at_barrier == 0)
        em.barrier_line = line;
    else if (em.barrier_line != line)
        sli_emulated_fault("other threads of the block wait at another barrier", line);
    em.predicates += predicate;
    if (++em.at_barrier < em.threads) {
        wait_here();
        return (int)em.predicates_met;
    }

    em.at_barrier = 0;
    em.predicates_met = em.predicates;
    em.predicates = 0;
    uint32_t self = em.running->thread;
    for (uint32_t t = 0; t < em.threads; t++)
        if (t != self)
            make_ready(t);
    if (em.random != 0) { /* it need not be the first that goes on */
        make_ready(self);
        wait_here();
    }
    return (int)em.predicates_met;
}

/* Where lanes of this mask meet: others of the warp may meet elsewhere, or be on their way to a meeting of all. */
static meeting *meeting_of(uint32_t warp, uint32_t mask)
{
    for (uint32_t active = em.active[warp]; active != 0; active &= active - 1) {
        meeting *m = &em.warp[warp][__builtin_ctz(active)];
        if (m->expected == mask)
            return m;
    }
    return &em.warp[warp][__builtin_ctz(~em.active[warp])]; /* each waits with a lane of its own, so that one is not in use */
}

void sli_meet_warp(uint32_t mask, int line, sli_complete complete, void *mine)
{
    uint32_t self = em.running->thread, lane = self % 32, first = self - lane;
    uint32_t there = em.threads - first < 32 ? (1u << (em.threads - first)) - 1 : 0xffffffffu;
    mask &= there; /* a last warp with fewer lanes: the full mask means those */
    if (!(mask >> lane & 1))
        sli_emulated_fault("a lane is not in the mask that it gives", line);
    meeting *m = meeting_of(first / 32, mask);
    if (m->arrived == 0) {
        em.active[first / 32] |= 1u << (m - em.warp[first / 32]);
        m->expected = mask;
        m->line = line;
    } else if (m->line != line) {
        sli_emulated_fault("other lanes of the warp are at another exchange", line);
    }
    m->mine[lane] = mine;
    m->arrived |= 1u << lane;
    if (m->arrived != mask) {
        wait_here();
        return;
    }

    complete(m->mine, mask);
    m->arrived = 0;
    em.active[first / 32] &= ~(1u << (m - em.warp[first / 32]));
    for (uint32_t i = 0; i < 32; i++)
        if ((mask >> i & 1) && i != lane)
            make_ready(first + i);
    if (em.random != 0) {
        make_ready(self);
        wait_here();
    }
}

struct mma {
    int *d;
    const uint32_t *a, *b;

    static int byte_of(uint32_t word, int i) { return (int8_t)(word >> 8 * i); }
    static void complete(void *const lane[32], uint32_t mask)
    {
        if (mask != 0xffffffffu)
            sli_emulated_fault("a product of matrices needs the whole warp", 0);
        int8_t a[16][32], b[8][32];
        for (int l = 0; l < 32; l++) {
            const mma *m = (const mma *)lane[l];
            for (int i = 0; i < 4; i++) {
                int column = 4 * (l % 4) + i;
                for (int w = 0; w < 4; w++)
                    a[l / 4 + w % 2 * 8][column + w / 2 * 16] = (int8_t)byte_of(m->a[w], i);
                b[l / 4][column] = (int8_t)byte_of(m->b[0], i);
                b[l / 4][column + 16] = (int8_t)byte_of(m->b[1], i);
            }
        }
        for (int l = 0; l < 32; l++)
            for (int w = 0; w < 4; w++)
                for (int k = 0; k < 32; k++)
                    ((const mma *)lane[l])->d[w] += a[l / 4 + w / 2 * 8][k] * b[2 * (l % 4) + w % 2][k];
    }
};

void sli_emulated_mma_s8(int line, int d[4], const uint32_t a[4], const uint32_t b[2])
{
    mma mine = {d, a, b};
    sli_meet_warp(0xffffffffu, line, mma::complete, &mine);
}

/* ---- launches ---- */

static void describe_deadlock(void)
{
    for (uint32_t w = 0; w < WARPS_MAX && em.fault[0] == '\0'; w++)
        for (uint32_t i = 0; i < 32 && em.fault[0] == '\0'; i++)
            if (em.warp[w][i].arrived != 0)
                snprintf(em.fault, sizeof em.fault, "block (%u, %u, %u), line %d: lanes of warp %u wait for others that do not come",
                         sli_now.block.x, sli_now.block.y, sli_now.block.z, em.warp[w][i].line, w);
    if (em.fault[0] == '\0')
        snprintf(em.fault, sizeof em.fault, "block (%u, %u, %u), line %d: %u of %u threads wait at a barrier that the others do not reach",
                 sli_now.block.x, sli_now.block.y, sli_now.block.z, em.barrier_line, em.at_barrier, em.threads);
}

static bool run_block(uint64_t index, size_t shared_bytes)
{
    dim3 grid = sli_now.grid_dim;
    sli_now.block = {(unsigned)(index % grid.x), (unsigned)(index / grid.x % grid.y), (unsigned)(index / grid.x / grid.y)};
    memset(em.shared, 0xff, shared_bytes); /* not a number: what is read before it is written shows */
    if (em.random != 0)
        memset(__start_sli_shared, 0xff, (size_t)(__stop_sli_shared - __start_sli_shared));
    for (uint32_t t = 0; t < em.threads; t++) {
        em.thread[t] = {};
        em.unstarted[t] = em.threads - 1 - t;
    }
    for (uint32_t t = em.threads - 1; em.random != 0 && t > 0; t--)
        std::swap(em.unstarted[t], em.unstarted[random_below(t + 1)]);
    em.unstarted_count = em.threads;
    em.ended = em.ready_count = em.at_barrier = em.predicates = 0;

    em.running = &em.caller;
    em.caller.thread = NO_THREAD;
    run_next();
    if (em.fault[0] == '\0' && em.ended < em.threads)
        describe_deadlock();
    if (em.fault[0] == '\0')
        return true;
    em.made = em.idle_count = 0; /* fibers stand anywhere: begin them anew */
    memset(em.warp, 0, sizeof em.warp);
    memset(em.active, 0, sizeof em.active);
    return false;
}

sl_status sli_emulate(void (*thread)(const void *closure), const void *closure, dim3 grid, dim3 block, size_t shared_bytes, sl_error *err)
{
    uint64_t threads = (uint64_t)block.x * block.y * block.z, blocks = (uint64_t)grid.x * grid.y * grid.z;
    if (threads == 0 || threads > THREADS_MAX || block.z > 64 || blocks == 0 || grid.y > 65535 || grid.z > 65535 ||
        shared_bytes > SHARED_BYTES)
        return sl_fail(err, SL_INTERNAL, "a kernel was launched with a grid of (%u, %u, %u), blocks of (%u, %u, %u) and %zu bytes shared",
                       grid.x, grid.y, grid.z, block.x, block.y, block.z, shared_bytes);

    pthread_mutex_lock(&launches);
    em.body = thread;
    em.closure = closure;
    em.threads = (uint32_t)threads;
    em.random = em.order;
    em.fault[0] = '\0';
    em.caller.bottom = NULL;
    sli_now = {{0, 0, 0}, {0, 0, 0}, block, grid, em.shared};
    /* A step that shares no factor with the number of blocks visits all of them in another order. */
    uint64_t step = em.random != 0 ? 1 + random_below(1u << 20) : 1, first = em.random != 0 ? random_below(1u << 30) : 0;
    while (std::__gcd(step, blocks) != 1)
        step++;
    bool fine = true;
    for (uint64_t i = 0; i < blocks && fine; i++)
        fine = run_block((first + i * step) % blocks, shared_bytes);
    sl_status status = fine ? SL_OK : sl_fail(err, SL_INTERNAL, "a kernel is wrong: %s", em.fault);
    pthread_mutex_unlock(&launches);
    return status;
}
