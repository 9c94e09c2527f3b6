/* core/trace.c: see trace.h. One arena: the recorder, what its owner writes, its lanes' heads, their entries. The owner's lane gets half of the
 * entries, for it has spans, reads and all else; the other threads' have shares of jobs alone. */
#include "core/trace.h"
#include "core/layout.h"
#include "core/os.h"

#include <assert.h>

#define ENTRIES_MIN 1024                  /* of a lane */
#define LEVELS_NS   ((uint64_t)100000000) /* asking the kernel for the memory in use takes some 20 us */

const char *sl_trace_name_text(sl_trace_name name)
{
    static const char *const texts[SL_TRACE_NAMES] = {
        [SL_TRACE_PROMPT] = "prompt",
        [SL_TRACE_DRAFT] = "draft",
        [SL_TRACE_CHECK] = "check",
        [SL_TRACE_SAMPLING] = "sampling",
        [SL_TRACE_DENSE_PASS] = "dense pass",
        [SL_TRACE_SPARSE_PASS] = "sparse pass",
        [SL_TRACE_DRAFT_PASS] = "draft pass",
        [SL_TRACE_LAYER] = "layer",
        [SL_TRACE_EMBEDDING] = "embedding",
        [SL_TRACE_NORM] = "norm",
        [SL_TRACE_ROPE] = "rope",
        [SL_TRACE_ADD] = "add",
        [SL_TRACE_GLU] = "glu",
        [SL_TRACE_RELU] = "relu",
        [SL_TRACE_PROJECTION] = "projection",
        [SL_TRACE_ATTENTION] = "attention",
        [SL_TRACE_FFN] = "ffn",
        [SL_TRACE_HEAD] = "head",
        [SL_TRACE_PREDICT] = "predict",
        [SL_TRACE_WAIT] = "wait for reads",
        [SL_TRACE_UNITS] = "units",
        [SL_TRACE_NEURONS] = "neurons",
        [SL_TRACE_ROWS] = "rows",
        [SL_TRACE_A_TOKEN] = "token",
        [SL_TRACE_RSS_BYTES] = "memory",
        [SL_TRACE_RESIDENT_BYTES] = "resident weights",
        [SL_TRACE_HIT_PERMILLE] = "hit rate",
    };
    return texts[name];
}

/* ---- memory ---- */

static uint64_t entries_of(uint64_t total, unsigned threads, unsigned thread)
{
    uint64_t share = threads == 1 ? total : thread == 0 ? total / 2 : (total - total / 2) / (threads - 1);
    return share > ENTRIES_MIN ? share : ENTRIES_MIN;
}

static sl_trace *lay_out(sl_layout *l, uint64_t bytes, unsigned threads)
{
    sl_trace *t = sl_layout_place(l, sizeof *t);
    sl_trace_owner *owner = sl_layout_place(l, sizeof *owner);
    sl_trace_lane *lanes = sl_layout_place(l, threads * sizeof *lanes);
    for (unsigned i = 0; i < threads; i++) {
        uint64_t capacity = entries_of(bytes / sizeof(sl_trace_entry), threads, i);
        sl_trace_entry *entries = sl_layout_place(l, capacity * sizeof *entries);
        if (lanes != NULL)
            lanes[i] = (sl_trace_lane){.entries = entries, .capacity = capacity};
    }
    if (t != NULL)
        *t = (sl_trace){.lanes = lanes, .owner = owner, .threads = threads, .clock = sl_ticks_start()};
    return t;
}

uint64_t sl_trace_price(uint64_t bytes, unsigned threads)
{
    sl_layout l = {0};
    lay_out(&l, bytes, threads);
    return sl_pages_round(l.used);
}

sl_status sl_trace_create(uint64_t bytes, unsigned threads, sl_trace **out, sl_error *err)
{
    uint64_t whole = sl_trace_price(bytes, threads);
    sl_layout l = {.base = sl_pages_alloc(whole)};
    *out = NULL;
    if (l.base == NULL)
        return sl_fail(err, SL_NO_MEMORY, "no memory for a trace (%llu bytes)", (unsigned long long)whole);
    *out = lay_out(&l, bytes, threads);
    (*out)->bytes = whole;
    return SL_OK;
}

void sl_trace_destroy(sl_trace *trace)
{
    if (trace != NULL)
        sl_pages_free(trace, trace->bytes);
}

uint64_t sl_trace_dropped(const sl_trace *t)
{
    uint64_t dropped = 0;
    for (unsigned i = 0; i < t->threads; i++)
        dropped += t->lanes[i].written > t->lanes[i].capacity ? t->lanes[i].written - t->lanes[i].capacity : 0;
    return dropped;
}

/* ---- writing ---- */

static sl_trace_entry *append(sl_trace_lane *lane)
{
    sl_trace_entry *entry = &lane->entries[lane->next];
    lane->written++;
    lane->next = lane->next + 1 < lane->capacity ? lane->next + 1 : 0; /* a division takes as long as the rest */
    return entry;
}

static void write_span(sl_trace_lane *lane, uint64_t begin_ticks, uint64_t end_ticks, sl_trace_label label)
{
    *append(lane) = (sl_trace_entry){.begin_ticks = begin_ticks,
                                     .end_ticks = end_ticks,
                                     .kind = SL_TRACE_SPAN,
                                     .name = label.name,
                                     .layer = label.layer,
                                     .rows = label.rows};
}

static void open_span(sl_trace *t, uint64_t ticks, sl_trace_name name, uint32_t layer, uint32_t rows)
{
    assert(t->owner->depth < SL_TRACE_DEPTH);
    t->owner->open[t->owner->depth++] = (sl_trace_open){ticks,
                                                        {(uint16_t)layer, rows < UINT16_MAX ? (uint16_t)rows : UINT16_MAX, (uint8_t)name}};
}

static void close_spans(sl_trace *t, uint64_t ticks, unsigned depth)
{
    while (t->owner->depth > depth) {
        const sl_trace_open *o = &t->owner->open[--t->owner->depth];
        write_span(&t->lanes[0], o->begin_ticks, ticks, o->label);
    }
}

unsigned sli_trace_begin(sl_trace *t, sl_trace_name name, uint32_t layer, uint32_t rows)
{
    open_span(t, sl_ticks_now(&t->clock), name, layer, rows);
    return t->owner->depth - 1;
}

void sli_trace_end(sl_trace *t, unsigned depth)
{
    if (t->owner->depth > depth)
        close_spans(t, sl_ticks_now(&t->clock), depth);
}

void sli_trace_next(sl_trace *t, unsigned depth, sl_trace_name name, uint32_t layer, uint32_t rows)
{
    uint64_t now = sl_ticks_now(&t->clock);
    close_spans(t, now, depth);
    open_span(t, now, name, layer, rows);
}

uint64_t sli_trace_read(sl_trace *t, const sl_trace_entry *read)
{
    sl_trace_entry *e = append(&t->lanes[0]);
    *e = *read;
    e->kind = SL_TRACE_READ;
    e->begin_ticks = sl_ticks_now(&t->clock);
    e->end_ticks = 0;
    return t->lanes[0].written;
}

void sli_trace_read_done(sl_trace *t, uint64_t read, uint32_t depth)
{
    sl_trace_lane *lane = &t->lanes[0];
    if (read == 0 || lane->written - read >= lane->capacity) /* it was overwritten */
        return;
    sl_trace_entry *e = &lane->entries[(read - 1) % lane->capacity];
    e->end_ticks = sl_ticks_now(&t->clock);
    e->depth_end = (uint16_t)depth;
}

void sli_trace_point(sl_trace *t, const sl_trace_entry *entry)
{
    sl_trace_entry *e = append(&t->lanes[0]);
    *e = *entry;
    e->layer = SL_TRACE_NONE;
    e->begin_ticks = e->end_ticks = sl_ticks_now(&t->clock);
}

void sli_trace_share(sl_trace *t, unsigned thread, uint64_t begin_ticks, sl_trace_label label)
{
    write_span(&t->lanes[thread], begin_ticks, sl_ticks_now(&t->clock), label);
}

bool sl_trace_wants_levels(sl_trace *t)
{
    uint64_t now = t != NULL ? sl_now_ns() : 0;
    if (t == NULL || now - t->owner->level_ns < LEVELS_NS)
        return false;
    t->owner->level_ns = now;
    return true;
}
