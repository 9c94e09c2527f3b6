/* offload/tools/doctor_device.c: see doctor_device.h. Copies are timed by the device's events; those of memory that is not page-locked also by the clock,
 * for half of them is the processor's work. */
#include "offload/tools/doctor_device.h"
#include "core/os.h"

#include <stdio.h>
#include <string.h>

#define COPY_MAX    ((uint64_t)64 << 20) /* long enough that a link's latency is below 1 % */
#define COPY_MIN    ((uint64_t)1 << 20)
#define STAGE_BYTES ((uint64_t)4 << 20) /* of each of two: as large as what drivers use themselves */
#define ROUNDS      4                   /* the first is not counted: clocks and links wake up */
#define PIN_MAX     ((uint64_t)1 << 30)

typedef struct bench {
    sl_device *d;
    sl_device_ptr there;
    uint8_t *pinned, *pageable;
    sl_event *from, *to, *stage[2];
    uint64_t bytes;
} bench;

typedef sl_status (*transfer)(bench *b, sl_error *err);

static sl_status pinned_in(bench *b, sl_error *err)
{
    return b->d->ops->copy_in(b->d, SL_STREAM_COPY, b->there, b->pinned, b->bytes, err);
}

static sl_status pinned_out(bench *b, sl_error *err)
{
    return b->d->ops->copy_out(b->d, SL_STREAM_COPY, b->pinned, b->there, b->bytes, err);
}

/* Two stages take turns: the processor fills one while the other is on its way. */
static sl_status staged_in(bench *b, sl_error *err)
{
    const sl_device_ops *ops = b->d->ops;
    for (uint64_t at = 0, i = 0; at < b->bytes; at += STAGE_BYTES, i++) {
        uint64_t n = b->bytes - at < STAGE_BYTES ? b->bytes - at : STAGE_BYTES;
        uint8_t *stage = b->pinned + i % 2 * STAGE_BYTES;
        if (i >= 2)
            SL_TRY(ops->event_wait(b->d, b->stage[i % 2], err));
        memcpy(stage, b->pageable + at, n);
        SL_TRY(ops->copy_in(b->d, SL_STREAM_COPY, b->there + at, stage, n, err));
        SL_TRY(ops->event_record(b->d, b->stage[i % 2], SL_STREAM_COPY, err));
    }
    return SL_OK;
}

static sl_status staged_out(bench *b, sl_error *err)
{
    const sl_device_ops *ops = b->d->ops;
    uint64_t pieces = (b->bytes + STAGE_BYTES - 1) / STAGE_BYTES;
    for (uint64_t i = 0; i <= pieces; i++) {
        uint64_t at = i * STAGE_BYTES;
        if (i < pieces) {
            uint64_t n = b->bytes - at < STAGE_BYTES ? b->bytes - at : STAGE_BYTES;
            SL_TRY(ops->copy_out(b->d, SL_STREAM_COPY, b->pinned + i % 2 * STAGE_BYTES, b->there + at, n, err));
            SL_TRY(ops->event_record(b->d, b->stage[i % 2], SL_STREAM_COPY, err));
        }
        if (i > 0) { /* the one before */
            uint64_t done = (i - 1) * STAGE_BYTES, n = b->bytes - done < STAGE_BYTES ? b->bytes - done : STAGE_BYTES;
            SL_TRY(ops->event_wait(b->d, b->stage[(i - 1) % 2], err));
            memcpy(b->pageable + done, b->pinned + (i - 1) % 2 * STAGE_BYTES, n);
        }
    }
    return SL_OK;
}

/* The best of some rounds: what else the machine does is not the link's. */
static sl_status measure(bench *b, transfer run, bool by_clock, double *out, sl_error *err)
{
    const sl_device_ops *ops = b->d->ops;
    for (int round = 0; round < ROUNDS; round++) {
        double seconds = 0;
        uint64_t begin = sl_now_ns();
        SL_TRY(ops->event_record(b->d, b->from, SL_STREAM_COPY, err));
        SL_TRY(run(b, err));
        SL_TRY(ops->event_record(b->d, b->to, SL_STREAM_COPY, err));
        SL_TRY(ops->event_wait(b->d, b->to, err));
        double clock_s = (double)(sl_now_ns() - begin) * 1e-9;
        SL_TRY(ops->event_elapsed(b->d, b->from, b->to, &seconds, err));
        if (by_clock && clock_s > seconds)
            seconds = clock_s;
        if (round > 0 && seconds > 0 && (double)b->bytes / seconds > *out)
            *out = (double)b->bytes / seconds;
    }
    return SL_OK;
}

static sl_status prepare(bench *b, sl_error *err)
{
    const sl_device_ops *ops = b->d->ops;
    void *pinned = NULL;
    SL_TRY(ops->event_create(b->d, &b->from, err));
    SL_TRY(ops->event_create(b->d, &b->to, err));
    SL_TRY(ops->event_create(b->d, &b->stage[0], err));
    SL_TRY(ops->event_create(b->d, &b->stage[1], err));
    SL_TRY(ops->alloc(b->d, b->bytes, &b->there, err));
    SL_TRY(ops->host_alloc(b->d, b->bytes > 2 * STAGE_BYTES ? b->bytes : 2 * STAGE_BYTES, &pinned, err));
    b->pinned = pinned;
    b->pageable = sl_pages_alloc(b->bytes);
    if (b->pageable == NULL)
        return sl_fail(err, SL_NO_MEMORY, "no memory for copies of %llu bytes", (unsigned long long)b->bytes);
    memset(b->pinned, 1, b->bytes);
    memset(b->pageable, 1, b->bytes);
    return SL_OK;
}

static void clean_up(bench *b)
{
    const sl_device_ops *ops = b->d->ops;
    ops->free(b->d, b->there);
    ops->host_free(b->d, b->pinned);
    sl_pages_free(b->pageable, b->bytes);
    ops->event_destroy(b->d, b->from);
    ops->event_destroy(b->d, b->to);
    ops->event_destroy(b->d, b->stage[0]);
    ops->event_destroy(b->d, b->stage[1]);
}

static sl_status measure_link(sl_device *d, uint64_t memory_left, sl_doctor_device *out, sl_error *err)
{
    bench b = {.d = d, .bytes = COPY_MAX};
    while (b.bytes > COPY_MIN && (b.bytes > d->attrs.free_bytes / 4 || b.bytes > memory_left / 16))
        b.bytes /= 2;
    sl_status status = prepare(&b, err);
    if (status == SL_OK)
        status = measure(&b, pinned_in, false, &out->in_Bps, err);
    if (status == SL_OK)
        status = measure(&b, pinned_out, false, &out->out_Bps, err);
    if (status == SL_OK)
        status = measure(&b, staged_in, true, &out->pageable_in_Bps, err);
    if (status == SL_OK)
        status = measure(&b, staged_out, true, &out->pageable_out_Bps, err);
    clean_up(&b);
    return status;
}

/* Page-locked memory has no limit that could be read, so it is tried, and given back at once. */
static sl_status try_to_pin(sl_device *d, uint64_t memory_left, uint64_t *pinned, sl_error *err)
{
    for (uint64_t bytes = COPY_MIN; bytes <= PIN_MAX && bytes <= memory_left / 8; bytes *= 4) {
        void *p = NULL;
        SL_TRY(d->ops->host_alloc(d, bytes, &p, err));
        d->ops->host_free(d, p);
        *pinned = bytes;
    }
    return SL_OK;
}

sl_status sl_doctor_device_examine(const char *wanted, uint64_t memory_left_bytes, sl_doctor_device *out, sl_error *err)
{
    sl_device *device = NULL;
    sl_error refused = {0};
    *out = (sl_doctor_device){0};
    SL_TRY(sl_device_open(wanted, &device, out->reason, sizeof out->reason, err));
    if (device == NULL)
        return SL_OK;
    out->used = true;
    out->attrs = device->attrs;
    /* A refusal to page-lock a large piece is a figure too; a smaller one may do for the link. */
    if (try_to_pin(device, memory_left_bytes, &out->pinned_bytes, &refused) != SL_OK)
        memcpy(out->skipped, refused.message, sizeof out->skipped);
    if (measure_link(device, memory_left_bytes, out, &refused) != SL_OK)
        memcpy(out->skipped, refused.message, sizeof out->skipped);
    sl_device_close(device);
    return SL_OK;
}
