/* offload/tools/pack_zeros.c: see pack_zeros.h. */
#include "offload/tools/pack_zeros.h"
#include "offload/bundle_form.h"
#include "offload/tools/pack_layer.h"

#include <stdlib.h>
#include <string.h>

bool sli_pack_says_pruned(const sl_gguf *original)
{
    return sl_gguf_find(original, "sluice.prune.method") != NULL;
}

typedef struct look {
    const sl_packed_layer *shape; /* plain */
    sli_bundle_form form;         /* of that: where parts could be compact */
    const sl_kernels *kernels;
    float *row;                        /* [d] */
    uint32_t kept_max[SL_PACK_PARTS];  /* of what is not silent */
    uint32_t silent_count, seen_count; /* neurons */
    sli_pack_zeros *out;
} look;

static sl_status no_memory(const sli_pack_source *s, sl_error *err)
{
    return sl_fail(err, SL_NO_MEMORY, "%s: no memory to look for zeros in it", sl_gguf_path(s->file));
}

/* Its activation is zero, and its bytes are those of the silent neurons before it. One neuron at least is stored. */
static bool is_silent(look *l, const uint8_t *bundle)
{
    const sl_packed_layer *s = l->shape;
    size_t bytes = sl_packed_silent_bytes(s);
    if (l->silent_count + 1 == s->ff)
        return false;
    if (l->silent_count > 0)
        return memcmp(bundle, l->out->bundle, bytes) == 0;
    if (!sli_bundle_is_silent(s, l->kernels, bundle, l->row))
        return false;
    memcpy(l->out->bundle, bundle, bytes);
    return true;
}

static void look_at(look *l, const uint8_t *bundle)
{
    bool silent = is_silent(l, bundle);
    l->out->silent[l->seen_count++] = silent;
    l->silent_count += silent;
    for (int i = 0; i < SL_PACK_PARTS; bundle += l->form.part[i++].plain_bytes) {
        if (silent || !l->form.part[i].can_be)
            continue;
        uint32_t kept = sl_compact_kept(l->form.part[i].elements, bundle);
        l->kept_max[i] = kept > l->kept_max[i] ? kept : l->kept_max[i];
    }
}

static uint32_t stride_of(const sl_packed_layer *l)
{
    return (sl_packed_bundle_bytes(l) + SL_PACK_STRIDE - 1) / SL_PACK_STRIDE * SL_PACK_STRIDE;
}

/* Compact are as few parts as give the least stride. */
static void choose_forms(const look *l, sl_packed_layer *layer)
{
    for (int i = 0; i < SL_PACK_PARTS; i++) {
        const sli_part_form *p = &l->form.part[i];
        size_t bytes = p->can_be ? sl_compact_bytes(p->elements, l->kept_max[i]) : p->plain_bytes;
        layer->stored_bytes[i] = (uint32_t)(bytes < p->plain_bytes ? bytes : p->plain_bytes);
    }
    layer->stride = stride_of(layer);
    for (int i = 0; i < SL_PACK_PARTS; i++) {
        uint32_t compact = layer->stored_bytes[i];
        layer->stored_bytes[i] = sl_packed_plain_bytes(layer, i);
        if (stride_of(layer) > layer->stride)
            layer->stored_bytes[i] = compact;
    }
}

static sl_status look_through(look *l, sli_pack_source *source, uint32_t index, sl_error *err)
{
    const sl_packed_layer *s = l->shape;
    uint64_t fit = SLI_PACK_WORK_BYTES / s->stride;
    uint32_t at_once = fit == 0 ? 1 : fit < s->ff ? (uint32_t)fit : s->ff;
    uint32_t *in_order = malloc(s->ff * sizeof *in_order);
    uint8_t *bundles = malloc((size_t)at_once * s->stride), *meta = malloc((size_t)s->meta_bytes + 1);
    sl_status status = in_order && bundles && meta ? SL_OK : no_memory(source, err);
    for (uint32_t i = 0; i < s->ff && status == SL_OK; i++)
        in_order[i] = i;
    for (uint32_t first = 0; first < s->ff && status == SL_OK; first += at_once) {
        uint32_t count = s->ff - first < at_once ? s->ff - first : at_once;
        status = sli_pack_fill(source, index, s, in_order, first, count, bundles, meta, err);
        for (uint32_t i = 0; i < count && status == SL_OK; i++)
            look_at(l, bundles + (size_t)i * s->stride);
    }
    free(meta);
    free(bundles);
    free(in_order);
    return status;
}

static sl_status allocate(const sli_pack_source *source, const sl_packed_layer *layer, sli_pack_zeros *out, sl_error *err)
{
    out->silent = calloc(layer->ff, sizeof *out->silent);
    out->bundle = malloc(sl_packed_silent_bytes(layer));
    return out->silent && out->bundle ? SL_OK : no_memory(source, err);
}

sl_status sli_pack_find_zeros(sli_pack_source *source, uint32_t index, sl_packed_layer *layer, sli_pack_zeros *out, sl_error *err)
{
    sl_packed_layer plain = *layer;
    look l = {.shape = &plain, .kernels = sl_kernels_for(SL_ISA_SCALAR), .out = out};
    SL_TRY(allocate(source, layer, out, err));
    if (!sli_bundle_form_of(&plain, &l.form))
        return sl_fail(err, SL_INTERNAL, "layer %u is not plain", index);
    l.row = malloc(layer->d * sizeof *l.row);
    sl_status status = l.row ? look_through(&l, source, index, err) : no_memory(source, err);
    free(l.row);
    SL_TRY(status);
    layer->stored = layer->ff - l.silent_count;
    choose_forms(&l, layer);
    if (l.silent_count == 0)
        sli_pack_zeros_free(out);
    return SL_OK;
}

static sl_status take(void *ctx, const uint8_t *data, size_t bytes, sl_error *err)
{
    (void)err;
    uint8_t **to = ctx;
    memcpy(*to, data, bytes);
    *to += bytes;
    return SL_OK;
}

sl_status sli_pack_carry_zeros(sli_pack_source *source, uint32_t index, const sl_packed_layer *layer, sli_pack_zeros *out, sl_error *err)
{
    if (layer->stored == layer->ff)
        return SL_OK;
    SL_TRY(allocate(source, layer, out, err));
    for (uint32_t place = layer->stored; place < layer->ff; place++)
        out->silent[layer->order[place]] = true;
    uint8_t *to = out->bundle;
    return sli_pack_stream_section(source, sli_pack_layer_section(source->file, index, "silent"), 1, take, &to, err);
}

void sli_pack_zeros_free(sli_pack_zeros *zeros)
{
    free(zeros->silent);
    free(zeros->bundle);
    *zeros = (sli_pack_zeros){0};
}
