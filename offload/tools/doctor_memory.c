/* offload/tools/doctor_memory.c: how fast one thread, and all, read memory that no cache holds. See doctor.h. */
#include "core/threads.h"
#include "offload/tools/doctor.h"

#define AREA_BYTES       ((size_t)256 << 20) /* beyond the caches of most machines */
#define AREA_BRIEF_BYTES ((size_t)96 << 20)
#define AREA_MIN_BYTES   ((size_t)32 << 20)
#define TIME_NS          ((uint64_t)400000000)
#define TIME_QUICK_NS    ((uint64_t)150000000)
#define TIME_BRIEF_NS    ((uint64_t)50000000)
#define STREAMS          8 /* sums side by side: one would wait for its own addition */
#define LINE_WORDS       8 /* 64 bytes: the parts of threads are whole lines */

typedef struct area {
    uint64_t *word;
    size_t words;
    uint64_t sum; /* of what was read, so that reading cannot be left out */
} area;

typedef struct part {
    uint64_t *word;
    size_t words;
} part;

static part part_of(const area *a, unsigned index, unsigned count)
{
    size_t lines = a->words / LINE_WORDS, first = lines * index / count, end = lines * (index + 1) / count;
    return (part){a->word + first * LINE_WORDS, (end - first) * LINE_WORDS};
}

/* Each thread touches first what it will read, so that the pages lie on its node. */
static void fill(void *arg, unsigned index, unsigned count)
{
    part p = part_of(arg, index, count);
    for (size_t i = 0; i < p.words; i++)
        p.word[i] = i;
}

static void add_up(void *arg, unsigned index, unsigned count)
{
    area *a = arg;
    part p = part_of(a, index, count);
    uint64_t sum[STREAMS] = {0};
    for (size_t i = 0; i < p.words; i += STREAMS)
        for (size_t s = 0; s < STREAMS; s++)
            sum[s] += p.word[i + s];
    for (size_t s = 1; s < STREAMS; s++)
        sum[0] += sum[s];
    __atomic_fetch_add(&a->sum, sum[0], __ATOMIC_RELAXED);
}

uint64_t sli_doctor_memory_left(const sl_memory_info *memory)
{
    if (memory->cgroup_limit_bytes == UINT64_MAX)
        return memory->available_bytes;
    uint64_t used = memory->cgroup_used_bytes, cache = memory->cgroup_cache_bytes, limit = memory->cgroup_limit_bytes;
    used = used > cache ? used - cache : 0;
    uint64_t left = limit > used ? limit - used : 0;
    return left < memory->available_bytes ? left : memory->available_bytes;
}

/* What there is room for: a quarter of the memory that is left. */
static size_t area_bytes(const sl_memory_info *memory, bool brief)
{
    uint64_t quarter = sli_doctor_memory_left(memory) / 4, most = brief ? AREA_BRIEF_BYTES : AREA_BYTES;
    return (size_t)(quarter < most ? quarter / 4096 * 4096 : most);
}

static sl_status measure(const sli_doctor_clock *clock, sl_threads *crew, area *a, sl_doctor_memory *out, sl_error *err)
{
    uint64_t limit = clock->brief ? TIME_BRIEF_NS : clock->quick ? TIME_QUICK_NS : TIME_NS, passes = 0;
    sl_threads_run(crew, fill, a);
    uint64_t begin = sl_now_ns(), spent;
    do {
        sl_threads_run(crew, add_up, a);
        passes++;
        spent = sl_now_ns() - begin;
        SL_TRY(sli_doctor_tick(clock, err));
    } while (spent < limit);
    *out = (sl_doctor_memory){.threads = sl_threads_count(crew),
                              .bandwidth_Bps = (double)passes * (double)a->words * sizeof *a->word / ((double)spent * 1e-9)};
    return SL_OK;
}

/* A failure other than an interruption is one line more of what was skipped. */
static sl_status measure_with(const sli_doctor_clock *clock, unsigned threads, size_t bytes, sl_doctor_report *r, sl_error *err)
{
    sl_threads *crew = NULL;
    area a = {.word = sl_pages_alloc(bytes), .words = bytes / sizeof *a.word};
    sl_status status = a.word != NULL ? sl_threads_create(threads, &crew, err) : sl_fail(err, SL_NO_MEMORY, "the system gives none");
    if (status == SL_OK)
        status = measure(clock, crew, &a, &r->bandwidth[r->memories], err);
    if (status == SL_OK)
        r->memories++;
    else if (status != SL_INTERRUPTED)
        sli_doctor_say(&r->skipped, "memory bandwidth: %.200s", err->message);
    sl_threads_destroy(crew);
    sl_pages_free(a.word, bytes);
    return status == SL_INTERRUPTED ? status : SL_OK;
}

sl_status sli_doctor_measure_memory(const sli_doctor_clock *clock, sl_doctor_report *report, sl_error *err)
{
    size_t bytes = area_bytes(&report->memory, clock->brief);
    if (bytes < AREA_MIN_BYTES) {
        sli_doctor_say(&report->skipped, "memory bandwidth: too little memory is left for it");
        return SL_OK;
    }
    SL_TRY(measure_with(clock, 1, bytes, report, err));
    if (report->topology.cores_usable > 1)
        SL_TRY(measure_with(clock, report->topology.cores_usable, bytes, report, err));
    return SL_OK;
}
