/* offload/division.c: see placement.h. */
#include "offload/division.h"
#include "offload/early_exit.h"

#define MIB ((uint64_t)1 << 20)

/* The price has room for what a process may grow by under any loader; this is what it grew by in runs of 26 to 1240 MiB (bench/SPEED.md, "What plan
 * predicts"), at most, and the drift between two runs. */
#define PROCESS_GROWTH_BYTES ((uint64_t)1 << 20)
#define GROWTH_SHARE         200 /* and one part in so many of all, up to */
#define GROWTH_MAX           ((uint64_t)3 << 20)
#define FETCHING_BYTES       ((uint64_t)512 << 10) /* a second queue of reads, for single bundles */

const char *sli_part_name(sli_part part)
{
    static const char *const names[] = {
        [SLI_PART_EMBEDDING] = "embedding", [SLI_PART_ATTENTION] = "attention", [SLI_PART_FFN] = "ffn", [SLI_PART_HEAD] = "head"};
    return names[part];
}

static sli_part part_of(sl_tensor_role role)
{
    switch (role) {
    case SL_ROLE_FFN_GATE:
    case SL_ROLE_FFN_UP:
    case SL_ROLE_FFN_DOWN: return SLI_PART_FFN;
    case SL_ROLE_TOKEN_EMBD:
    case SL_ROLE_OUTPUT: return SLI_PART_HEAD;
    default: return SLI_PART_ATTENTION;
    }
}

static void add_matrix(const sl_engine *e, const sli_matrix *m, sli_part_division *p, uint64_t *largest)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < m->unit_count; i++) {
        const sl_unit *u = &e->units.units[m->first_unit + i];
        bytes += u->bytes;
        p->resident_bytes += u->home ? u->bytes : 0;
    }
    p->bytes += bytes;
    p->operations += 2.0 * m->rows * m->cols; /* bundles: of the gate; up and down have entries of their own, without units */
    if (bytes > *largest) {
        *largest = bytes;
        p->type = m->type;
    }
}

static void add_matrices(const sl_engine *e, sli_division *out)
{
    uint64_t largest[SLI_PART_COUNT] = {0};
    const sli_units *u = &e->units;
    for (uint32_t layer = 0; layer < e->model->layers; layer++)
        for (uint32_t op = 0; op < u->layer_ops; op++) {
            if (e->model->arch->layer[op].kind != SL_OP_MATMUL)
                continue;
            sli_part part = part_of(e->model->arch->layer[op].weight);
            add_matrix(e, sli_units_layer(u, layer, op), &out->part[part], &largest[part]);
        }
    for (uint32_t op = 0; op < u->head_ops; op++)
        if (e->model->arch->head[op].kind == SL_OP_MATMUL)
            add_matrix(e, sli_units_head(u, e->model, op), &out->part[SLI_PART_HEAD], &largest[SLI_PART_HEAD]);
}

/* A tied embedding is the head, and counted there. Learned positions are always read. */
static void add_embedding(const sl_engine *e, sli_division *out)
{
    const sli_matrix *m = &e->units.embedding, *positions = &e->units.positions;
    sli_part_division *p = &out->part[SLI_PART_EMBEDDING];
    const sli_part_division *head = &out->part[SLI_PART_HEAD];
    bool read = m->unit_count == 0 || head->resident_bytes < head->bytes;
    p->type = m->type;
    p->bytes = (m->unit_count == 0 ? (uint64_t)m->rows * m->row_bytes : 0) + (uint64_t)positions->rows * positions->row_bytes;
    out->embedding_row_bytes = (read ? m->row_bytes : 0) + positions->row_bytes;
}

static void add_bundles(const sl_engine *e, sli_division *out)
{
    sli_bundle_division *b = &out->bundles;
    uint64_t kept = 0, slots = 0, neurons = 0;
    for (uint32_t layer = 0; layer < e->model->layers; layer++) {
        const sl_packed_layer *l = sli_bundled_layer_at(e->packed, layer);
        if (l == NULL)
            continue;
        uint64_t cached = (uint64_t)l->stored * e->price.cache_share / SLI_CACHE_WHOLE;
        uint32_t keep = e->keep[layer] < l->stored ? e->keep[layer] : l->stored;
        b->layers++;
        b->count = l->stored > b->count ? l->stored : b->count;
        b->stride = l->stride > b->stride ? l->stride : b->stride;
        kept += keep;
        b->kept_max = keep > b->kept_max ? keep : b->kept_max;
        slots += cached;
        neurons += l->stored;
        out->part[SLI_PART_FFN].resident_bytes += cached * l->stride;
    }
    b->alignment = e->bundle_alignment;
    b->policy = SLI_CACHE_POLICY;
    b->gap_bytes = sli_bundles_gap_bytes(b->stride);
    b->kept_share = neurons > 0 ? (double)kept / (double)neurons : 0;
    b->cached_share = neurons > 0 ? (double)slots / (double)neurons : 0;
}

static void add_exits(const sl_engine *e, sli_division *out)
{
    const sli_exits *x = &e->early->exits;
    const sli_part_division *head = &out->part[SLI_PART_HEAD];
    sli_exit_division *exits = &out->exits;
    exits->layers_mean = (double)e->early->point.layers_mean;
    for (uint32_t i = 0; i < x->probe_count; i++)
        exits->probes += x->probes[i] + 1 <= exits->layers_mean;
    exits->probe_bytes = x->shortlist_count > 0 ? head->bytes * x->shortlist_count / e->model->vocab : head->bytes;
    exits->streamed_bytes = sli_early_exit_streamed(e);
}

static uint64_t vector_bytes(const sl_engine *e)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < sl_gguf_tensor_count(e->gguf); i++) {
        const sl_gguf_tensor *t = sl_gguf_tensor_at(e->gguf, i);
        bytes += t->shape[1] == 1 ? t->bytes : 0;
    }
    return bytes;
}

static uint64_t kv_position_bytes(const sl_engine *e)
{
    sli_kv_shape shape = sli_kv_shape_of(e);
    const sl_model *m = e->model;
    size_t head = sl_row_bytes(shape.k_type, m->head_dim) + sl_row_bytes(shape.v_type, m->head_dim);
    return (uint64_t)m->layers * m->kv_heads * head;
}

/* What the process will hold at its largest: of the price all but the kernel's page tables and the room for a process that grows more. */
static uint64_t peak_bytes(const sl_engine *e)
{
    const sli_price *p = &e->price;
    uint64_t share = p->total_bytes / GROWTH_SHARE < GROWTH_MAX ? p->total_bytes / GROWTH_SHARE : GROWTH_MAX;
    uint64_t growth = PROCESS_GROWTH_BYTES + share + (e->bundle_alignment > 0 ? FETCHING_BYTES : 0);
    return p->total_bytes - p->page_table_bytes - (SLI_PROCESS_MARGIN_BYTES - growth);
}

/* Neighbours are read together, up to an eighth of the ring. */
static uint64_t request_bytes(const sli_price *p)
{
    uint64_t eighth = p->staging_bytes / 8 < MIB ? p->staging_bytes / 8 : MIB;
    return p->unit_bytes > eighth ? p->unit_bytes : eighth;
}

void sli_division_of(const sl_engine *e, sli_division *out)
{
    const sl_model *m = e->model;
    *out = (sli_division){.packed = e->packed != NULL,
                          .layers = m->layers,
                          .d = m->d,
                          .ff = m->ff,
                          .vocab = m->vocab,
                          .head_dim = m->head_dim,
                          .context = e->context,
                          .window = m->window,
                          .batch = e->price.batch,
                          .threads = sl_threads_count(e->threads),
                          .draft_max = e->price.draft_max,
                          .sparsity = e->options.sparsity,
                          .density = e->options.sparsity == SL_SPARSITY_OFF ? 1 : e->options.density,
                          .sparq_k = e->options.sparq_k,
                          .sparq_r = e->options.sparq_r,
                          .price = e->price,
                          .budget_bytes = e->options.ram_budget_bytes,
                          .budget_min_bytes = e->price_min_bytes};
    add_matrices(e, out);
    add_embedding(e, out);
    if (e->bundle_alignment > 0)
        add_bundles(e, out);
    if (e->early != NULL)
        add_exits(e, out);
    out->vector_bytes = vector_bytes(e);
    out->kv_position_bytes = kv_position_bytes(e);
    for (uint32_t layer = 0; layer < m->layers; layer++)
        out->windowed_layers += sl_model_window(m, layer) > 0;
    out->draft_share = (double)e->price.draft_neurons / ((double)m->layers * m->ff);
    out->request_bytes = request_bytes(&e->price);
    out->io_alignment = SLI_IO_ALIGNMENT;
    out->peak_bytes = peak_bytes(e);
}
