/* offload/observe.c: what an engine traced and recorded, as whoever reads it wants it: spans by name, reads by what they brought. */
#include "core/os.h"
#include "offload/engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- while it runs ---- */

sl_trace_name sli_trace_name_of(const sl_op *op, bool in_layer)
{
    switch (op->kind) {
    case SL_OP_ATTENTION: return SL_TRACE_ATTENTION;
    case SL_OP_ROPE: return SL_TRACE_ROPE;
    case SL_OP_ADD: return SL_TRACE_ADD;
    case SL_OP_GLU: return SL_TRACE_GLU;
    case SL_OP_RELU: return SL_TRACE_RELU;
    case SL_OP_MATMUL:
        if (op->weight == SL_ROLE_FFN_GATE || op->weight == SL_ROLE_FFN_UP || op->weight == SL_ROLE_FFN_DOWN)
            return SL_TRACE_FFN;
        return in_layer ? SL_TRACE_PROJECTION : SL_TRACE_HEAD;
    case SL_OP_RMS_NORM:
    case SL_OP_LAYER_NORM:
    case SL_OP_HEAD_NORM:
    case SL_OP_END: break;
    }
    return SL_TRACE_NORM;
}

/* Of all that was used of the weights so far, what was found in memory. */
static uint64_t hit_permille(const sl_engine *e)
{
    sl_pager_stats pager = sl_pager_statistics(e->pager);
    uint64_t wanted = pager.bytes_wanted, used = e->passes * e->units.bytes;
    if (e->bundles != NULL) {
        sl_bundles_stats bundles = sl_bundles_statistics(e->bundles);
        return bundles.needed > 0 ? bundles.cached * 1000 / bundles.needed : 0;
    }
    return used > wanted ? (used - wanted) * 1000 / used : 0;
}

void sli_trace_levels(sl_engine *e)
{
    if (!sl_trace_wants_levels(e->trace))
        return;
    uint64_t resident = sl_pager_statistics(e->pager).resident_bytes;
    if (e->bundles != NULL)
        resident += sl_bundles_statistics(e->bundles).resident_bytes;
    sl_trace_level(e->trace, SL_TRACE_RSS_BYTES, sl_rss_bytes());
    sl_trace_level(e->trace, SL_TRACE_RESIDENT_BYTES, resident);
    sl_trace_level(e->trace, SL_TRACE_HIT_PERMILLE, hit_permille(e));
}

/* ---- what was read ---- */

/* The tensor whose rows a unit is, and those rows. */
static void name_unit(const sl_engine *e, sl_unit_id unit, char *out, size_t room)
{
    uint32_t entries = e->model->layers * e->units.layer_ops + e->units.head_ops;
    for (uint32_t i = 0; i < entries; i++) {
        const sli_matrix *m = &e->units.matrices[i];
        if (m->unit_count == 0 || unit < m->first_unit || unit >= m->first_unit + m->unit_count)
            continue;
        uint32_t body = e->model->layers * e->units.layer_ops, layer = i < body ? i / e->units.layer_ops : 0;
        const sl_op *op = i < body ? &e->model->arch->layer[i % e->units.layer_ops] : &e->model->arch->head[i - body];
        const sl_gguf_tensor *t = sl_model_tensor(e->model, op->weight, layer);
        uint32_t first = (unit - m->first_unit) * m->rows_per_unit, end = first + m->rows_per_unit;
        if (m == sli_units_bundles(e->model, e->packed, &e->units, layer))
            snprintf(out, room, "blk.%u bundles %u-%u", layer, first, (end < m->rows ? end : m->rows) - 1);
        else
            snprintf(out, room, "%.*s rows %u-%u", t->name.length < 64 ? (int)t->name.length : 64, t->name.data, first,
                     (end < m->rows ? end : m->rows) - 1);
        return;
    }
}

static void name_read(const sl_engine *e, const sl_trace_entry *entry, sl_trace_event *out)
{
    size_t used;
    switch (entry->name) {
    case SL_TRACE_UNITS:
        name_unit(e, entry->id, out->what, sizeof out->what);
        used = strlen(out->what);
        if (entry->count > 1)
            snprintf(out->what + used, sizeof out->what - used, " and %u more units", entry->count - 1);
        break;
    case SL_TRACE_NEURONS: {
        const sli_bundled_layer *b = sli_bundled_of(&e->bundled, entry->layer);
        if (b != NULL) {
            uint64_t at = entry->offset > b->packed->bundles_offset ? entry->offset - b->packed->bundles_offset : 0;
            snprintf(out->what, sizeof out->what, "blk.%u bundles from place %llu on", entry->layer,
                     (unsigned long long)(at / b->packed->stride));
        }
        break;
    }
    default: snprintf(out->what, sizeof out->what, "single rows"); break;
    }
}

/* ---- all of it ---- */

static sl_trace_event event_of(const sl_engine *e, const sl_trace_entry *entry, unsigned thread, const sl_ticks_scale *scale)
{
    static const sl_trace_type types[] = {[SL_TRACE_SPAN] = SL_EVENT_SPAN,
                                          [SL_TRACE_READ] = SL_EVENT_READ,
                                          [SL_TRACE_TOKEN] = SL_EVENT_TOKEN,
                                          [SL_TRACE_LEVEL] = SL_EVENT_LEVEL};
    sl_trace_event out = {.type = types[entry->kind],
                          .name = sl_trace_name_text((sl_trace_name)entry->name),
                          .thread = thread,
                          .begin_ns = sl_ticks_ns(scale, entry->begin_ticks),
                          .end_ns = entry->end_ticks != 0 ? sl_ticks_ns(scale, entry->end_ticks) : 0,
                          .layer = entry->layer == SL_TRACE_NONE ? -1 : entry->layer,
                          .rows = entry->rows,
                          .file = entry->file,
                          .offset = entry->offset,
                          .bytes = entry->bytes,
                          .depth_begin = entry->depth_begin,
                          .depth_end = entry->depth_end,
                          .token = (sl_token_id)entry->id,
                          .value = entry->offset};
    if (entry->kind == SL_TRACE_READ)
        name_read(e, entry, &out);
    return out;
}

uint64_t sl_engine_trace(const sl_engine *engine, bool (*see)(void *ctx, const sl_trace_event *event), void *ctx)
{
    const sl_trace *t = engine->trace;
    if (t == NULL)
        return 0;
    sl_ticks_scale scale = sl_ticks_scale_now(&t->clock);
    for (unsigned thread = 0; thread < t->threads; thread++) {
        const sl_trace_lane *lane = &t->lanes[thread];
        for (uint64_t i = lane->written > lane->capacity ? lane->written - lane->capacity : 0; i < lane->written; i++) {
            sl_trace_event event = event_of(engine, &lane->entries[i % lane->capacity], thread, &scale);
            if (!see(ctx, &event))
                return sl_trace_dropped(t);
        }
    }
    return sl_trace_dropped(t);
}

sl_status sl_engine_write_record(const sl_engine *e, const char *path, bool *complete, sl_error *err)
{
    if (e->record == NULL)
        return sl_fail(err, SL_INVALID, "%s: nothing was recorded: the engine was opened without record_bytes", path);
    uint16_t *flags = calloc(e->units.count + 1, sizeof *flags);
    if (flags == NULL)
        return sl_fail(err, SL_NO_MEMORY, "%s: out of memory for the flags of %u units", path, e->units.count);
    for (uint32_t layer = 0; layer < e->model->layers; layer++) {
        const sli_matrix *m = sli_units_bundles(e->model, e->packed, &e->units, layer);
        for (uint32_t i = 0; m != NULL && i < m->unit_count; i++)
            flags[m->first_unit + i] = SL_RECORD_BUNDLES;
    }
    for (uint32_t i = e->units.body_count; i < e->units.count; i++)
        flags[i] |= SL_RECORD_HEAD;
    sl_record_about about = {e->path, e->options.ram_budget_bytes, e->options.throttle_Bps, flags};
    sl_status status = sl_record_write(e->record, &about, path, err);
    *complete = !sl_record_cut(e->record);
    free(flags);
    return status;
}
