/* offload/ffn_members.c: see ffn_members.h.
 *
 *     gate and up of the members -> activations, where their neurons belong -> down over the members' columns */
#include "offload/ffn_members.h"
#include "kernels/columns.h"
#include "offload/gate_up.h"

#include <string.h>

#define MEMBERS_SHARED 16 /* a share's border: no two threads write to the same line of results */

typedef struct member_job {
    const sli_member_row *row;
    sl_acts acts; /* the layer's input, then the activations */
    sl_columns columns;
} member_job;

/* Compact bundles [begin, end) are made plain and multiplied, some at a time. Their columns are put where they were said to be. */
static void multiply_compact(const member_job *job, uint32_t begin, uint32_t end, unsigned thread)
{
    const sli_ffn *f = job->row->ffn;
    const sl_engine *e = f->engine;
    const sli_bundled *b = &e->bundled;
    const sli_bundled_layer *layer = job->row->layer;
    const uint8_t *rows[SLI_PLAIN_BUNDLES];
    for (uint32_t n; begin < end; begin += n) {
        n = end - begin < SLI_PLAIN_BUNDLES ? end - begin : SLI_PLAIN_BUNDLES;
        for (uint32_t i = 0; i < n; i++) {
            const uint8_t *bundle = b->bundles[begin + i];
            uint8_t *to = sli_ffn_plain_rows(f, layer->packed, thread, i);
            rows[i] = to;
            sli_bundle_make_plain(&layer->form, e->kernels, SLI_PART_GATE, SLI_PART_COLUMN, bundle, to);
            sli_bundle_make_plain(&layer->form, e->kernels, SLI_PART_COLUMN, SLI_PART_END, bundle,
                                  sli_bundled_column(b, layer, job->row->neurons[begin + i]));
        }
        sli_gate_up(e->kernels, layer->packed, &job->acts, rows, n, b->gate + begin, b->up + begin);
    }
}

static void gate_up_share(void *arg, unsigned index, unsigned count)
{
    const member_job *job = arg;
    const sl_engine *e = job->row->ffn->engine;
    const sli_bundled *b = &e->bundled;
    const sl_packed_layer *l = job->row->layer->packed;
    uint32_t begin, end;
    sli_share(job->row->count, MEMBERS_SHARED, index, count, &begin, &end);
    if (begin >= end)
        return;
    if (job->row->layer->form.compact)
        multiply_compact(job, begin, end, index);
    else
        sli_gate_up(e->kernels, l, &job->acts, b->bundles + begin, end - begin, b->gate + begin, b->up + begin);
    e->kernels->glu(sli_ffn_activation(job->row->ffn), b->gate + begin, b->up + begin, end - begin, b->gate + begin);
}

static void down_share(void *arg, unsigned index, unsigned count)
{
    const member_job *job = arg;
    const sli_ffn *f = job->row->ffn;
    uint32_t begin, end;
    sli_share(job->columns.rows, SL_COLUMN_GROUP, index, count, &begin, &end);
    if (begin < end)
        f->engine->kernels->matmul_columns(&job->columns, &job->acts, begin, end, sli_ffn_buffer(f, f->ops[SLI_FFN_DOWN].dst));
}

void sli_ffn_members(const sli_member_row *row)
{
    const sli_ffn *f = row->ffn;
    sl_engine *e = f->engine;
    const sli_bundled *b = &e->bundled;
    const sl_packed_layer *l = row->layer->packed;
    member_job job = {.row = row};
    bool quantized = sl_format_of(l->gate_type)->quantized || sl_format_of(l->up_type)->quantized;
    sli_prepare_source(e, sli_ffn_buffer(f, f->ops[SLI_FFN_GATE].src), 1, l->d, quantized, &job.acts);
    sl_threads_run(e->threads, gate_up_share, &job);
    float *h = sli_ffn_buffer(f, f->ops[SLI_FFN_DOWN].src);
    memset(h, 0, l->ff * sizeof *h);
    for (uint32_t i = 0; i < row->count; i++)
        h[row->neurons[i]] = b->gate[i];
    job.columns = (sl_columns){.type = l->down_type,
                               .rows = l->d,
                               .cols = l->ff,
                               .meta = row->layer->meta,
                               .count = row->count,
                               .member = row->members,
                               .column = b->addresses};
    sli_prepare_source(e, h, 1, l->ff, sl_format_of(l->down_type)->quantized, &job.acts);
    sl_threads_run(e->threads, down_share, &job);
}
