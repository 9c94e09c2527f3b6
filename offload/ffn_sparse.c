/* offload/ffn_sparse.c: see ffn_sparse.h.
 *
 *     set -> places -> fetch (cache, disk) -> the members' feed-forward */
#include "offload/ffn_sparse.h"
#include "offload/ffn_members.h"
#include "offload/sparsity.h"

#include <assert.h>
#include <string.h>

bool sli_ffn_streams_sets(const sl_engine *engine, uint32_t layer)
{
    return engine->bundles != NULL && sli_bundled_of(&engine->bundled, layer) != NULL;
}

bool sli_ffn_guesses(const sl_engine *engine, uint32_t layer)
{
    return sli_ffn_streams_sets(engine, layer) && engine->sparsity.mode == SL_SPARSITY_FINE && engine->price.cache_share < SLI_CACHE_WHOLE;
}

/* ---- the set ---- */

typedef struct score_job {
    sli_predictor_row row;
    float *scores;
    uint32_t ff;
} score_job;

static void score_share(void *arg, unsigned index, unsigned count)
{
    const score_job *job = arg;
    uint32_t begin, end;
    sli_share(job->ff, SLI_PREDICTOR_ALIGN, index, count, &begin, &end);
    sli_predictor_scores(&job->row, begin, end, job->scores);
}

/* The set of a row whose normed input is x. */
static const uint32_t *choose(const sli_ffn *f, const float *x)
{
    sli_sparsity *s = &f->engine->sparsity;
    if (s->mode == SL_SPARSITY_COARSE)
        return sli_coarse_set(s, f->layer);
    unsigned depth = sl_trace_begin(f->engine->trace, SL_TRACE_PREDICT, f->layer, 1);
    score_job job = {.scores = sli_sparsity_scores(s, 0), .ff = s->ff};
    sli_sparsity_begin(s, f->layer, f->engine->threads, x, 0, &job.row);
    sl_threads_run(f->engine->threads, score_share, &job);
    const uint32_t *members = sli_sparsity_top(s, f->layer, job.scores, 0);
    sl_trace_end(f->engine->trace, depth);
    return members;
}

/* ---- bundles ---- */

/* Places of the members that are stored, ascending, and how many. O(ff): a mark for each, then a walk without a branch, which could not be foretold. */
static uint32_t find_places(sli_bundled *b, const sli_member_row *row)
{
    assert(row->layer != NULL);
    uint32_t stored = row->layer->packed->stored, n = 0;
    memset(b->wanted, 0, row->layer->packed->ff * sizeof *b->wanted);
    for (uint32_t i = 0; i < row->count; i++)
        b->wanted[row->layer->place_of[row->members[i]]] = true;
    for (uint32_t place = 0; place < stored && n < row->count; place++) {
        b->places[n] = place;
        n += b->wanted[place];
    }
    return n;
}

/* A silent neuron in a set gives zero, as one outside does. */
static void leave_silent_out(sli_bundled *b, sli_member_row *row)
{
    assert(row->layer != NULL);
    const sl_packed_layer *l = row->layer->packed;
    uint32_t n = 0;
    for (uint32_t i = 0; i < row->count && l->stored < l->ff; i++)
        if (row->layer->place_of[row->members[i]] < l->stored)
            b->members[n++] = row->members[i];
    if (l->stored < l->ff) {
        row->members = b->members;
        row->count = n;
    }
}

/* Leaves out what is not there yet: the members and places that are. */
static void drop_late(sli_bundled *b, sli_member_row *row)
{
    sl_engine *e = row->ffn->engine;
    uint32_t ff = row->layer->packed->ff, n = 0;
    uint32_t ready = sl_bundles_ready(e->bundles, row->ffn->layer, b->places, row->count, b->places);
    memset(b->wanted, 0, ff * sizeof *b->wanted);
    for (uint32_t i = 0; i < ready; i++)
        b->wanted[b->places[i]] = true;
    uint32_t *kept = e->sparsity.thread_members + ff; /* the owner's second list */
    for (uint32_t i = 0; i < row->count; i++)
        if (b->wanted[row->layer->place_of[row->members[i]]])
            kept[n++] = row->members[i];
    atomic_fetch_add_explicit(&e->sparsity.dropped, row->count - n, memory_order_relaxed);
    row->members = kept;
    row->count = n;
}

/* Rows and columns of the members, in the members' order. */
static void find_parts(sli_bundled *b, const sli_member_row *row)
{
    const sl_packed_layer *l = row->layer->packed;
    for (uint32_t i = 0; i < row->count; i++)
        b->column_at[l->order[b->places[i]]] = b->addresses[i]; /* by neuron, for now */
    for (uint32_t i = 0; i < row->count; i++) {
        const uint8_t *bundle = b->column_at[row->members[i]];
        b->bundles[i] = bundle;
        b->addresses[i] = sli_ffn_column(b, row->layer, row->members[i], bundle);
    }
}

/* ---- reading ahead, and all of it ---- */

/* A prompt's sets are known beforehand, so that the next layer's can be read meanwhile. */
static void prefetch_next(const sli_ffn *f)
{
    sl_engine *e = f->engine;
    if (e->sparsity.mode != SL_SPARSITY_COARSE || e->price.cache_share == SLI_CACHE_WHOLE)
        return;
    uint32_t next = (f->layer + 1) % e->model->layers;
    while (next != f->layer && !sli_ffn_streams_sets(e, next))
        next = (next + 1) % e->model->layers;
    if (next == f->layer)
        return;
    sli_member_row row = {.ffn = f, .layer = sli_bundled_of(&e->bundled, next), .count = e->sparsity.keep[next]};
    row.members = sli_coarse_set(&e->sparsity, next);
    uint32_t count = find_places(&e->bundled, &row);
    sl_bundles_prefetch(e->bundles, next, e->bundled.places, count);
}

void sli_ffn_guess(const sli_ffn *f, const float *x)
{
    sli_bundled *b = &f->engine->bundled;
    sli_member_row row = {.ffn = f, .layer = sli_bundled_of(b, f->layer), .count = f->engine->sparsity.keep[f->layer]};
    row.members = choose(f, x);
    sl_bundles_prefetch(f->engine->bundles, f->layer, b->places, find_places(b, &row));
}

sl_status sli_ffn_sparse(const sli_ffn *f, sl_error *err)
{
    sl_engine *e = f->engine;
    sli_bundled *b = &e->bundled;
    sli_member_row row = {.ffn = f, .layer = sli_bundled_of(b, f->layer), .count = e->sparsity.keep[f->layer]};
    row.members = choose(f, sli_ffn_buffer(f, f->ops[SLI_FFN_GATE].src));
    leave_silent_out(b, &row);
    (void)find_places(b, &row);
    if (e->options.late_drop)
        drop_late(b, &row);
    SL_TRY(sl_bundles_fetch(e->bundles, f->layer, b->places, row.count, b->addresses, err));
    find_parts(b, &row);
    prefetch_next(f);
    row.neurons = row.members;
    sli_ffn_members(&row);
    sl_bundles_done(e->bundles, f->layer);
    sli_sparsity_count(&e->sparsity, row.count);
    if (atomic_load_explicit(&e->interrupted, memory_order_relaxed))
        return sl_fail(err, SL_INTERRUPTED, "interrupted");
    return SL_OK;
}
