/* offload/bundle_form.h: how the parts of a layer's bundles are stored, plain or without their zeros (kernels/compact.h), and how to get from one to the other.
 *
 * Bundles are kept in memory as they are stored; a part is made plain right before it is used, because memory and the disk are what there is too little of.
 *
 * Threads: pure functions over the caller's memory. */
#ifndef SL_OFFLOAD_BUNDLE_FORM_H
#define SL_OFFLOAD_BUNDLE_FORM_H

#include "kernels/kernels.h"
#include "pager/packed.h"

enum { SLI_PART_GATE, SLI_PART_UP, SLI_PART_COLUMN, SLI_PART_END };

typedef struct sli_part_form {
    bool can_be, compact;
    uint32_t elements, kept_max; /* the latter where it is compact */
    size_t plain_bytes;
    size_t at, bytes; /* in the bundle, as stored */
} sli_part_form;

typedef struct sli_bundle_form {
    bool compact; /* a part is */
    sli_part_form part[SLI_PART_END];
} sli_bundle_form;

/* False where a stored size is not one that a compact part can have. */
SL_MUST_USE bool sli_bundle_form_of(const sl_packed_layer *layer, sli_bundle_form *out);

/* Parts [first, end) of a bundle, plain, one behind the other; what follows them at `to`. */
uint8_t *sli_bundle_make_plain(const sli_bundle_form *form, const sl_kernels *kernels, int first, int end, const uint8_t *bundle,
                               uint8_t *to);
/* Whether a neuron's gate and up rows, plain, decode to nothing but zeros, so that its activation is zero whatever comes in. row: [d]. */
bool sli_bundle_is_silent(const sl_packed_layer *layer, const sl_kernels *kernels, const uint8_t *plain, float *row);
/* The bundle as it is stored, from plain parts. Each of them keeps no more than its kept_max. */
void sli_bundle_store(const sli_bundle_form *form, const uint8_t *plain, uint8_t *bundle);

#endif
