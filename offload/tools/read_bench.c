/* offload/tools/read_bench.c: see read_bench.h. */
#include "offload/tools/read_bench.h"
#include "core/os.h"
#include "offload/tools/tool.h"

#include <string.h>

/* The reads that are on their way. */
typedef struct flight {
    uint64_t begin_ns[SL_READ_DEPTH_MAX]; /* by slot */
    uint32_t free[SL_READ_DEPTH_MAX], free_count;
    uint64_t started;
} flight;

static sl_status submit_free(sl_tier *tier, const sl_read_case *c, char *memory, uint64_t *random, flight *f, sl_error *err)
{
    uint64_t blocks = c->file_bytes / c->bytes;
    while (f->free_count > 0) {
        uint32_t slot = f->free[f->free_count - 1];
        uint64_t block = c->sequential ? f->started : sli_random_next(random);
        sl_read read = {.offset = block % blocks * c->bytes, .bytes = c->bytes, .memory = memory + (size_t)slot * c->bytes, .tag = slot};
        f->begin_ns[slot] = sl_now_ns();
        SL_TRY(tier->ops->submit(tier, &read, err));
        f->free_count--;
        f->started++;
    }
    return SL_OK;
}

static sl_status reap(sl_tier *tier, flight *f, sl_read_figures *out, sl_error *err)
{
    sl_read_done done[SL_READ_DEPTH_MAX];
    size_t count = tier->ops->reap(tier, true, done, SL_READ_DEPTH_MAX, err);
    uint64_t now = sl_now_ns();
    sl_status status = SL_OK;
    for (size_t i = 0; i < count; i++) {
        status = done[i].status != SL_OK ? done[i].status : status;
        sl_histogram_add(&out->latency_ns, now - f->begin_ns[done[i].tag]);
        f->free[f->free_count++] = (uint32_t)done[i].tag;
    }
    out->requests += count;
    return status;
}

/* Waits for what is still on its way, so that the next case begins with an idle tier. */
static void drain(sl_tier *tier, const sl_read_case *c, const flight *f)
{
    sl_read_done done[SL_READ_DEPTH_MAX];
    sl_error late = {0};
    size_t count = 1; /* 0: a broken ring gives nothing back any more */
    for (uint32_t left = c->depth - f->free_count; left > 0 && count > 0; left -= (uint32_t)count)
        count = tier->ops->reap(tier, true, done, SL_READ_DEPTH_MAX, &late);
}

sl_status sl_read_bench(sl_tier *tier, const sl_read_case *c, char *memory, uint64_t *random, sl_read_figures *out, sl_error *err)
{
    uint64_t begin = sl_now_ns(), spent = 0;
    flight f = {.free_count = c->depth};
    sl_status status = SL_OK;
    memset(out, 0, sizeof *out);
    for (uint32_t i = 0; i < c->depth; i++)
        f.free[i] = i;
    while (status == SL_OK && spent < c->limit_ns) {
        status = submit_free(tier, c, memory, random, &f, err);
        if (status == SL_OK)
            status = reap(tier, &f, out, err);
        spent = sl_now_ns() - begin;
    }
    drain(tier, c, &f);
    out->seconds = (double)spent * 1e-9;
    out->requests_per_s = out->seconds > 0 ? (double)out->requests / out->seconds : 0;
    out->bandwidth_Bps = out->requests_per_s * c->bytes;
    return status;
}
