/* offload/bundle_form.c: see bundle_form.h. */
#include "offload/bundle_form.h"

#include <string.h>

static uint32_t type_of(const sl_packed_layer *l, int part)
{
    return part == SLI_PART_GATE ? l->gate_type : part == SLI_PART_UP ? l->up_type : l->down_type;
}

bool sli_bundle_form_of(const sl_packed_layer *l, sli_bundle_form *out)
{
    size_t at = 0;
    *out = (sli_bundle_form){0};
    for (int i = 0; i < SLI_PART_END; i++) {
        sli_part_form *p = &out->part[i];
        p->plain_bytes = sl_packed_plain_bytes(l, i);
        p->bytes = l->stored_bytes[i];
        p->at = at;
        p->compact = p->bytes != p->plain_bytes;
        at += p->bytes;
        p->elements = l->d;
        p->can_be = sl_compact_works(type_of(l, i), l->d);
        if (p->compact && (!p->can_be || !sl_compact_kept_max(l->d, p->bytes, &p->kept_max)))
            return false;
        out->compact = out->compact || p->compact;
    }
    return true;
}

uint8_t *sli_bundle_make_plain(const sli_bundle_form *form, const sl_kernels *kernels, int first, int end, const uint8_t *bundle,
                               uint8_t *to)
{
    for (int i = first; i < end; i++) {
        const sli_part_form *p = &form->part[i];
        if (p->compact)
            kernels->expand(p->elements, bundle + p->at, p->kept_max, to);
        else
            memcpy(to, bundle + p->at, p->bytes);
        to += p->plain_bytes;
    }
    return to;
}

static bool is_zero_row(const sl_kernels *kernels, uint32_t type, const uint8_t *bytes, uint32_t d, float *row)
{
    kernels->dequantize_row(type, bytes, d, row);
    for (uint32_t i = 0; i < d; i++)
        if (row[i] != 0) /* a NaN, too */
            return false;
    return true;
}

bool sli_bundle_is_silent(const sl_packed_layer *l, const sl_kernels *kernels, const uint8_t *plain, float *row)
{
    return is_zero_row(kernels, l->gate_type, plain, l->d, row) && is_zero_row(kernels, l->up_type, plain + l->gate_bytes, l->d, row);
}

void sli_bundle_store(const sli_bundle_form *form, const uint8_t *plain, uint8_t *bundle)
{
    for (int i = 0; i < SLI_PART_END; i++) {
        const sli_part_form *p = &form->part[i];
        if (p->compact)
            sl_compact(p->elements, plain, p->kept_max, bundle + p->at);
        else
            memcpy(bundle + p->at, plain, p->bytes);
        plain += p->plain_bytes;
    }
}
