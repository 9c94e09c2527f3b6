/* offload/ffn_resident.c: see ffn_resident.h.
 *
 * Rows are read in storage order, so that memory is read as a stream; columns in the neurons' order, because the down product sums in that. */
#include "offload/ffn_resident.h"
#include "offload/ffn_members.h"

#include <assert.h>
#include <string.h>

/* A unit's bundles; returns how many rows there are now. */
static uint32_t add_unit(sli_bundled *b, const sli_bundled_layer *layer, uint32_t first_place, uint32_t count, const uint8_t *bundle,
                         uint32_t at)
{
    const sl_packed_layer *l = layer->packed;
    for (uint32_t i = 0; i < count; i++, at++, bundle += l->stride) {
        uint32_t neuron = l->order[first_place + i];
        b->neurons[at] = neuron;
        b->bundles[at] = bundle;
        b->column_at[neuron] = sli_ffn_column(b, layer, neuron, bundle);
    }
    return at;
}

static void find_bundles(sli_member_row *row, sli_bundled *b)
{
    const sli_matrix *m = &row->ffn->matrices[SLI_FFN_GATE];
    const sl_packed_layer *l = row->layer->packed;
    memset(b->column_at, 0, l->ff * sizeof *b->column_at);
    row->count = 0;
    for (uint32_t u = 0; u < m->unit_count; u++) {
        uint32_t first = u * m->rows_per_unit, count = m->rows - first < m->rows_per_unit ? m->rows - first : m->rows_per_unit;
        const uint8_t *home = sl_pager_resident(row->ffn->engine->pager, m->first_unit + u);
        if (home != NULL)
            row->count = add_unit(b, row->layer, first, count, home, row->count);
    }
    uint32_t n = 0;
    for (uint32_t neuron = 0; neuron < l->ff; neuron++)
        if (b->column_at[neuron] != NULL) {
            b->members[n] = neuron;
            b->addresses[n++] = b->column_at[neuron];
        }
    assert(n == row->count);
}

void sli_ffn_resident(const sli_ffn *f)
{
    sli_bundled *b = &f->engine->bundled;
    sli_member_row row = {.ffn = f, .layer = sli_bundled_of(b, f->layer), .members = b->members, .neurons = b->neurons};
    assert(row.layer != NULL && f->rows == 1);
    find_bundles(&row, b);
    sli_ffn_members(&row);
}
