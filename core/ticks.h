/* core/ticks.h: the cheapest clock there is, for who asks it some hundred times in a millisecond. Ticks become nanoseconds when they are read.
 *
 * On x86 it is the processor's counter, read in program order, where the kernel keeps time by that counter itself: then it runs at one rate and is the
 * same on all cores. Everywhere else ticks are the nanoseconds of sl_now_ns.
 *
 * Threads: pure. */
#ifndef SL_CORE_TICKS_H
#define SL_CORE_TICKS_H

#include "core/os.h"

typedef struct sl_ticks {
    bool counter;
    uint64_t first, first_ns; /* a moment on both clocks */
} sl_ticks;

sl_ticks sl_ticks_start(void);

static inline uint64_t sl_ticks_now(const sl_ticks *clock)
{
#if defined(__x86_64__)
    unsigned core;
    if (clock->counter)
        return __builtin_ia32_rdtscp(&core);
#else
    (void)clock;
#endif
    return sl_now_ns();
}

/* From ticks since the start to the nanoseconds of sl_now_ns: a line through the start and the moment that the scale was made. Order is kept. */
typedef struct sl_ticks_scale {
    uint64_t first, first_ns;
    double ns_per_tick;
} sl_ticks_scale;
sl_ticks_scale sl_ticks_scale_now(const sl_ticks *clock);
uint64_t sl_ticks_ns(const sl_ticks_scale *scale, uint64_t ticks);

#endif
