/* offload/prune/layer.c: see layer.h. */
#include "offload/prune/layer.h"
#include "core/layout.h"
#include "core/os.h"

#include <string.h>

#define PIECE_BYTES ((size_t)1 << 20) /* of a file that are read at a time, or one row where that is longer */

const sl_tensor_role sli_prune_roles[SLI_PRUNE_MATRICES] = {SL_ROLE_ATTN_Q,   SL_ROLE_ATTN_K, SL_ROLE_ATTN_V,  SL_ROLE_ATTN_OUT,
                                                            SL_ROLE_FFN_GATE, SL_ROLE_FFN_UP, SL_ROLE_FFN_DOWN};

/* The roles of a layer's vectors. */
static const sl_tensor_role vectors[] = {SL_ROLE_ATTN_NORM,     SL_ROLE_ATTN_Q_BIAS,    SL_ROLE_ATTN_Q_NORM,    SL_ROLE_ATTN_K_BIAS,
                                         SL_ROLE_ATTN_K_NORM,   SL_ROLE_ATTN_V_BIAS,    SL_ROLE_ATTN_POST_NORM, SL_ROLE_FFN_NORM,
                                         SL_ROLE_FFN_POST_NORM, SL_ROLE_ATTN_NORM_BIAS, SL_ROLE_ATTN_OUT_BIAS,  SL_ROLE_FFN_NORM_BIAS,
                                         SL_ROLE_FFN_UP_BIAS,   SL_ROLE_FFN_DOWN_BIAS};

sl_status sli_layer_check(const sl_model *model, const char *path, sl_error *err)
{
    for (uint32_t layer = 0; layer < model->layers; layer++)
        for (int i = 0; i < SLI_PRUNE_MATRICES; i++)
            if (sl_model_tensor(model, sli_prune_roles[i], layer) == NULL && (model->gated || sli_prune_roles[i] != SL_ROLE_FFN_GATE))
                return sl_fail(err, SL_UNSUPPORTED,
                               "%s: layer %u of this %s model has no separate query, key, value, output, gate, up and down matrices; "
                               "prune knows only models that do",
                               path, layer, model->arch->name);
    return SL_OK;
}

static uint64_t elements_of(const sl_gguf_tensor *t)
{
    return t == NULL ? 0 : t->shape[0] * t->shape[1];
}

static void place_role(sli_layer *l, sl_layout *layout, const sl_model *m, sl_tensor_role role)
{
    uint64_t elements = elements_of(sl_model_tensor(m, role, 0));
    for (uint32_t layer = 1; layer < m->layers; layer++) /* a vector may be missing in some */
        if (elements_of(sl_model_tensor(m, role, layer)) > elements)
            elements = elements_of(sl_model_tensor(m, role, layer));
    l->at[role] = elements > 0 ? sl_layout_place(layout, elements * sizeof(float)) : NULL;
}

static size_t place(sli_layer *l, const sl_model *m, uint8_t *base)
{
    sl_layout layout = {.base = base};
    size_t longest = (m->ff > m->d ? m->ff : m->d) * sizeof(float);
    if (longest < (size_t)m->heads * m->head_dim * sizeof(float))
        longest = (size_t)m->heads * m->head_dim * sizeof(float);
    l->piece_bytes = longest > PIECE_BYTES ? longest : PIECE_BYTES;
    for (int i = 0; i < SLI_PRUNE_MATRICES; i++)
        place_role(l, &layout, m, sli_prune_roles[i]);
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++)
        place_role(l, &layout, m, vectors[i]);
    l->piece = sl_layout_place(&layout, l->piece_bytes);
    return layout.used;
}

uint64_t sli_layer_price(const sl_model *model)
{
    sli_layer unused;
    return sl_pages_round(place(&unused, model, NULL));
}

sl_status sli_layer_create(const sl_model *model, const sl_kernels *kernels, sli_layer *out, sl_error *err)
{
    *out = (sli_layer){.model = model, .kernels = kernels};
    out->arena_bytes = place(out, model, NULL);
    out->arena = sl_pages_alloc(out->arena_bytes);
    if (out->arena == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for a layer's matrices");
    place(out, model, out->arena);
    return SL_OK;
}

void sli_layer_free(sli_layer *l)
{
    sl_pages_free(l->arena, l->arena_bytes);
    l->arena = NULL;
}

static sl_status load_role(sli_layer *l, sl_tensor_role role, sli_tensor_source source, sli_tensor_of tensor_of, sl_error *err)
{
    const sl_gguf_tensor *t = tensor_of(source.ctx, role, l->index);
    if (t == NULL)
        return SL_OK;
    size_t row_bytes = sl_row_bytes(t->type, t->shape[0]);
    uint64_t at_once = l->piece_bytes / row_bytes;
    for (uint64_t row = 0; row < t->shape[1]; row += at_once) {
        uint64_t n = t->shape[1] - row < at_once ? t->shape[1] - row : at_once;
        SL_TRY(source.read(source.ctx, t, row * row_bytes, l->piece, (size_t)(n * row_bytes), err));
        for (uint64_t i = 0; i < n; i++)
            l->kernels->dequantize_row(t->type, l->piece + i * row_bytes, (uint32_t)t->shape[0], l->at[role] + (row + i) * t->shape[0]);
    }
    return SL_OK;
}

sl_status sli_layer_load(sli_layer *l, uint32_t index, sli_tensor_source source, sli_tensor_of tensor_of, sl_error *err)
{
    l->index = index;
    for (int i = 0; i < SLI_PRUNE_MATRICES; i++)
        SL_TRY(load_role(l, sli_prune_roles[i], source, tensor_of, err));
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++)
        SL_TRY(load_role(l, vectors[i], source, tensor_of, err));
    l->ff = (uint32_t)tensor_of(source.ctx, SL_ROLE_FFN_UP, index)->shape[1];
    return SL_OK;
}

uint32_t sli_layer_rows(const sli_layer *l, sl_tensor_role role)
{
    if (role == SL_ROLE_FFN_GATE || role == SL_ROLE_FFN_UP)
        return l->ff;
    return (uint32_t)sl_model_tensor(l->model, role, l->index)->shape[1];
}

uint32_t sli_layer_cols(const sli_layer *l, sl_tensor_role role)
{
    return role == SL_ROLE_FFN_DOWN ? l->ff : (uint32_t)sl_model_tensor(l->model, role, l->index)->shape[0];
}
