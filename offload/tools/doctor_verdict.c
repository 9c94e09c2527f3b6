/* offload/tools/doctor_verdict.c: what the figures mean. Pure. See doctor.h.
 *
 * A streamed byte is read from the disk, a resident one from memory; so the disk is the limit as long as it is slower than memory, and
 * something is streamed. Then memory is, unless one thread more would bring as much as the first: then cores are. */
#include "offload/tools/doctor.h"

#define ABOUT_AS_FAST 0.9 /* of the fastest read: the disks that we know vary by more from minute to minute */
#define SCALES        0.8 /* of `threads` times one thread's bandwidth: memory is not the limit yet */
#define GOOD_BPS      1e9 /* 2 GB streamed for each token: 2 s */
#define FAIR_BPS      2e8 /* ... 10 s */
#define STAGING_BYTES ((uint64_t)32 << 20)

static bool is_better_use(const sl_doctor_read *a, const sl_doctor_read *b)
{
    if (a->bytes != b->bytes)
        return a->bytes < b->bytes;
    if (a->depth != b->depth)
        return a->depth < b->depth;
    return a->bandwidth_Bps > b->bandwidth_Bps;
}

static void choose_request(const sl_doctor_report *r, sl_doctor_verdict *v)
{
    for (size_t i = 0; i < r->reads; i++)
        if (r->read[i].bandwidth_Bps > v->best_Bps)
            v->best_Bps = r->read[i].bandwidth_Bps;
    for (size_t i = 0; i < r->reads; i++)
        if (r->read[i].bandwidth_Bps >= ABOUT_AS_FAST * v->best_Bps && (v->use.bytes == 0 || is_better_use(&r->read[i], &v->use)))
            v->use = r->read[i];
}

static sl_doctor_limit limit_in_memory(const sl_doctor_report *r)
{
    if (r->memories == 0)
        return SL_LIMIT_UNKNOWN;
    const sl_doctor_memory *one = &r->bandwidth[0], *all = &r->bandwidth[r->memories - 1];
    return all->bandwidth_Bps >= SCALES * all->threads * one->bandwidth_Bps ? SL_LIMIT_CORES : SL_LIMIT_MEMORY;
}

static bool fits(const sl_doctor_report *r)
{
    return r->place.is_file && r->place.bytes > 0 && r->place.bytes <= r->ram_budget_bytes;
}

static sl_doctor_limit limit_of(const sl_doctor_report *r, double disk_Bps)
{
    if (fits(r))
        return limit_in_memory(r);
    if (disk_Bps > 0 && (r->memories == 0 || disk_Bps < r->bandwidth[r->memories - 1].bandwidth_Bps))
        return SL_LIMIT_DISK;
    return disk_Bps > 0 ? limit_in_memory(r) : SL_LIMIT_UNKNOWN;
}

static sl_doctor_fitness fitness_of(const sl_doctor_report *r, double disk_Bps)
{
    if (r->place.direct_known && !r->place.direct)
        return SL_FITNESS_POOR;
    if (disk_Bps <= 0)
        return SL_FITNESS_UNKNOWN;
    return disk_Bps >= GOOD_BPS ? SL_FITNESS_GOOD : disk_Bps >= FAIR_BPS ? SL_FITNESS_FAIR : SL_FITNESS_POOR;
}

static void advise_of_system(const sl_doctor_report *r, sl_doctor_lines *advice)
{
    char size[24], whole[24];
    if (!r->uring)
        sli_doctor_say(advice, "%s: allow it (kernel.io_uring_disabled, the container's seccomp profile); pread needs more processor time",
                       r->uring_refusal);
    if (r->place.direct_known && !r->place.direct)
        sli_doctor_say(advice, "O_DIRECT is refused on %s: move the file to a disk (ext4, xfs), or run with --buffered",
                       r->place.file_system);
    if (r->uring && (r->unregistered || (r->reads == 0 && r->memlock_limit_bytes < STAGING_BYTES))) {
        sl_format_size(r->memlock_limit_bytes, size);
        sli_doctor_say(advice, "the limit on locked memory, %s, is below the 32 MiB of staging: ulimit -l 65536 saves processor time",
                       size);
    }
    if (r->memory.cgroup_limit_bytes < r->memory.total_bytes) {
        sl_format_size(r->memory.cgroup_limit_bytes, size);
        sl_format_size(r->memory.total_bytes, whole);
        sli_doctor_say(advice, "the cgroup allows %s of the machine's %s: a higher limit holds more of a model in memory", size, whole);
    }
}

static void advise_of_limit(const sl_doctor_report *r, const sl_doctor_verdict *v, sl_doctor_lines *advice)
{
    char size[24];
    switch (v->limit) {
    case SL_LIMIT_DISK:
        sli_doctor_say(advice, "faster would be: a larger --ram-budget, a faster disk, or a packed model with --sparsity");
        if (!r->place.is_file || r->place.bytes <= r->ram_budget_bytes)
            break;
        sl_format_size(r->place.bytes - r->ram_budget_bytes, size);
        sli_doctor_say(advice, "a dense pass streams %s and more: %.1f s at this disk's best", size,
                       (double)(r->place.bytes - r->ram_budget_bytes) / v->best_Bps);
        break;
    case SL_LIMIT_MEMORY: sli_doctor_say(advice, "faster would be: a smaller quantisation, or faster memory"); break;
    case SL_LIMIT_CORES: sli_doctor_say(advice, "faster would be: more cores, or a smaller quantisation"); break;
    case SL_LIMIT_UNKNOWN: break;
    }
}

void sli_doctor_judge(const sl_doctor_report *report, sl_doctor_verdict *out)
{
    *out = (sl_doctor_verdict){0};
    choose_request(report, out);
    out->limit = limit_of(report, out->best_Bps);
    out->fitness = fitness_of(report, out->best_Bps);
    advise_of_limit(report, out, &out->advice);
    advise_of_system(report, &out->advice);
}
