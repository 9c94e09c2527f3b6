/* core/ticks.c: see ticks.h. */
#include "core/ticks.h"

#include <stdio.h>
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#define ATTEMPTS 8

#if defined(__x86_64__)
static bool has_counter(void)
{
    unsigned a, b, c, d;
    char source[16] = "";
    FILE *file = fopen("/sys/devices/system/clocksource/clocksource0/current_clocksource", "re");
    if (file != NULL) {
        if (fgets(source, sizeof source, file) == NULL)
            source[0] = '\0';
        (void)fclose(file);
    }
    return strcmp(source, "tsc\n") == 0 && __get_cpuid(0x80000001, &a, &b, &c, &d) != 0 && (d >> 27 & 1) != 0; /* RDTSCP */
}
#else
static bool has_counter(void)
{
    return false;
}
#endif

/* One moment on both clocks. Whoever is interrupted between two readings has two moments: the attempt counts whose readings lie closest. */
static void look(const sl_ticks *clock, uint64_t *ticks, uint64_t *ns)
{
    uint64_t least = UINT64_MAX;
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        uint64_t before = sl_ticks_now(clock), now = sl_now_ns(), after = sl_ticks_now(clock);
        if (after - before >= least)
            continue;
        least = after - before;
        *ticks = before + least / 2;
        *ns = now;
    }
}

sl_ticks sl_ticks_start(void)
{
    sl_ticks clock = {.counter = has_counter()};
    look(&clock, &clock.first, &clock.first_ns);
    if (!clock.counter)
        clock.first = clock.first_ns;
    return clock;
}

sl_ticks_scale sl_ticks_scale_now(const sl_ticks *clock)
{
    sl_ticks_scale scale = {clock->first, clock->first_ns, 1};
    uint64_t ticks = clock->first, ns = clock->first_ns;
    if (!clock->counter)
        return scale;
    look(clock, &ticks, &ns);
    if (ticks > clock->first && ns > clock->first_ns)
        scale.ns_per_tick = (double)(ns - clock->first_ns) / (double)(ticks - clock->first);
    return scale;
}

uint64_t sl_ticks_ns(const sl_ticks_scale *scale, uint64_t ticks)
{
    return ticks <= scale->first ? scale->first_ns : scale->first_ns + (uint64_t)((double)(ticks - scale->first) * scale->ns_per_tick);
}
