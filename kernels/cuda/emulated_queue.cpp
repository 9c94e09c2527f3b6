/* kernels/cuda/emulated_queue.cpp: see emulated.h. What streams were given, when it would be done, and when its bytes really move. */
#include "kernels/cuda/emulated.h"

#include <string.h>

namespace emulated
{

/* Who is let run ahead, and who is held back, when lazy. A seed is one of these and an order of chance. */
enum manner { ALL_LATE, COPIES_EARLY, ARITHMETIC_EARLY, BY_CHANCE, MANNERS };

static uint32_t chance(device *d, uint32_t of)
{
    d->lot = d->lot * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(d->lot >> 33) % of;
}

/* The first failure is the one that is told; a kernel's own (SL_INTERNAL) stays one. */
static void fail_later(device *d, sl_status status, const char *what)
{
    if (d->failure.status == SL_OK)
        sl_fail(&d->failure, status, "%s", what);
    for (queue &q : d->stream)
        q.pieces.clear();
}

/* FNV-1a over words; what it is for is noticing a change. Never 0. */
static uint64_t hash_of(const piece &p)
{
    uint64_t hash = 14695981039346656037u;
    for (size_t r = 0; r < p.rows; r++) {
        const uint8_t *row = p.from + r * p.from_stride;
        size_t i = 0;
        for (; i + sizeof hash <= p.bytes; i += sizeof hash) {
            uint64_t word;
            memcpy(&word, row + i, sizeof word);
            hash = (hash ^ word) * 1099511628211u;
        }
        for (; i < p.bytes; i++)
            hash = (hash ^ row[i]) * 1099511628211u;
    }
    return hash | 1;
}

/* Copies of the device's into this memory are still to be done, so that its bytes now say nothing. */
static bool to_be_written(const device *d, const piece &p)
{
    const uint8_t *begin = p.from, *end = p.from + (p.rows - 1) * p.from_stride + p.bytes;
    for (const queue &q : d->stream)
        for (const piece &other : q.pieces)
            if (other.what == work::COPY_OUT && other.to < end && begin < other.to + other.bytes)
                return true;
    return false;
}

static void move_rows(const piece &p)
{
    for (size_t r = 0; r < p.rows; r++)
        memmove(p.to + r * p.to_stride, p.from + r * p.from_stride, p.bytes);
}

static void run_kernel(device *d, const piece &p)
{
    sl_error err = {};
    sl_status status = p.run(p.closure.get(), &err);
    if (status != SL_OK)
        fail_later(d, status, err.message);
}

static void run_piece(device *d, const piece &p)
{
    if (++d->done == d->how.broken)
        return fail_later(d, SL_DEVICE_LOST, "the device met an illegal address");
    if (d->how.timing_only && p.what != work::RECORD) /* E5 */
        return;
    switch (p.what) {
    case work::COPY_IN:
        if (p.hash != 0 && p.hash != hash_of(p))
            return fail_later(d, SL_DEVICE_LOST, "V2: host memory was changed before its copy was done");
        move_rows(p);
        break;
    case work::COPY_OUT:
    case work::COPY_WITHIN: move_rows(p); break;
    case work::ZERO: memset(p.to, 0, p.bytes); break;
    case work::KERNEL: run_kernel(d, p); break;
    case work::RECORD: p.on->done = p.on->done > p.ticket ? p.on->done : p.ticket; break;
    case work::WAIT: break;
    }
}

/* One piece of this stream, or of the one that it waits for. */
static void step(device *d, sl_stream s)
{
    const piece *head = &d->stream[s].pieces.front();
    while (head->what == work::WAIT && head->on->done < head->ticket) { /* E1: the record is in its queue, for it was there first */
        s = head->ticket_stream;
        head = &d->stream[s].pieces.front();
    }
    piece p = std::move(d->stream[s].pieces.front());
    d->stream[s].pieces.pop_front();
    run_piece(d, p);
}

void run_stream(device *d, sl_stream s)
{
    open_gate(d);
    while (!d->stream[s].pieces.empty())
        step(d, s);
    close_gate(d);
}

void run_event(device *d, const event *e)
{
    open_gate(d);
    while (e->done < e->recorded && d->failure.status == SL_OK)
        step(d, e->stream);
    close_gate(d);
}

void run_some(device *d)
{
    if (!d->how.lazy)
        return;
    switch ((manner)(d->how.seed % MANNERS)) {
    case COPIES_EARLY: return run_stream(d, SL_STREAM_COPY);
    case ARITHMETIC_EARLY: return run_stream(d, SL_STREAM_COMPUTE);
    case BY_CHANCE: break;
    default: return;
    }
    open_gate(d);
    for (uint32_t n = chance(d, 4); n > 0; n--) {
        sl_stream s = (sl_stream)chance(d, SL_STREAM_COUNT);
        if (!d->stream[s].pieces.empty())
            step(d, s);
    }
    close_gate(d);
}

static double later(double a, double b)
{
    return a > b ? a : b;
}

static double *engine_of(device *d, work what)
{
    switch (what) {
    case work::COPY_IN: return &d->in_s;
    case work::COPY_OUT: return &d->out_s;
    case work::COPY_WITHIN:
    case work::ZERO:
    case work::KERNEL: return &d->arithmetic_s;
    default: return NULL;
    }
}

static void reckon(device *d, queue *q, const piece &p)
{
    double *engine = engine_of(d, p.what);
    q->free_s = later(q->free_s, d->host_s);
    if (p.what == work::WAIT)
        q->free_s = later(q->free_s, p.on->at_s);
    if (p.what == work::RECORD)
        p.on->at_s = q->free_s;
    if (engine == NULL)
        return;
    if (p.what == work::KERNEL && q == &d->stream[SL_STREAM_COPY]) { /* it takes the link as a copy does, in its turn */
        q->free_s = d->in_s = later(q->free_s, d->in_s) + later(p.takes_s, d->how.launch_s + p.link_s);
        return;
    }
    q->free_s = *engine = later(q->free_s, *engine) + p.takes_s;
    if (p.link_s >
        0) { /* what a kernel reads comes between copies: each has half of the link as long as both want it, and the copies end later */
        double begin = q->free_s - p.takes_s, behind = d->in_s > begin ? d->in_s - begin : 0;
        d->in_s = later(d->in_s, begin) + p.link_s;
        q->free_s = *engine = later(q->free_s, begin + p.link_s + (behind < p.link_s ? behind : p.link_s));
    }
}

sl_status give(device *d, sl_stream s, piece p, sl_error *err)
{
    if (d->capture != NULL && s == SL_STREAM_COMPUTE) {
        d->capture->push_back(std::move(p));
        return SL_OK;
    }
    queue *q = &d->stream[s];
    reckon(d, q, p);
    if (d->how.lazy && p.what == work::COPY_IN && !to_be_written(d, p))
        p.hash = hash_of(p);
    if (d->how.lazy && p.what == work::COPY_OUT) /* who reads too early finds this */
        memset(p.to, 0xee, p.bytes);
    q->pieces.push_back(std::move(p));
    if (!d->how.lazy)
        run_stream(d, s);
    run_some(d);
    (void)err; /* what fails in the streams is told later (V3) */
    return SL_OK;
}

} // namespace emulated
