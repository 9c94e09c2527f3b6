/* offload/tools/pack_plan.h: which sections a packed file will have: a function of the input's header, the options, and where zeros are looked for what is
 * found. */
#ifndef SL_OFFLOAD_TOOLS_PACK_PLAN_H
#define SL_OFFLOAD_TOOLS_PACK_PLAN_H

#include "offload/tools/pack.h"
#include "offload/tools/pack_source.h"
#include "offload/tools/pack_zeros.h"

typedef enum sli_pack_kind {
    SLI_PACK_CHECKSUMS,
    SLI_PACK_ORIGINAL,
    SLI_PACK_PADDING,
    SLI_PACK_PLAIN,
    SLI_PACK_BUNDLES,
    SLI_PACK_META,
    SLI_PACK_SILENT,
    SLI_PACK_ORDER,
    SLI_PACK_CARRIED,
    SLI_PACK_ADDED,
} sli_pack_kind;

typedef struct sli_pack_section {
    sli_pack_kind kind;
    char *name;
    uint32_t type, dims;
    uint64_t shape[4];
    uint32_t layer;               /* BUNDLES, META, SILENT, ORDER */
    const sl_gguf_tensor *tensor; /* PLAIN: of the original; CARRIED: of the packed input */
    const sli_pack_tensor *added; /* ADDED */
} sli_pack_section;

typedef struct sli_pack_plan {
    const sli_pack_options *options;
    const sli_pack_source *source;
    uint32_t layer_count, bundled_layers;
    sl_packed_layer *layers;    /* bundled or not; sizes, no offsets */
    sli_pack_zeros *zeros;      /* of each layer */
    uint32_t version;           /* of the layout */
    sli_pack_section *sections; /* in the order of the file; the first is CHECKSUMS */
    size_t section_count, section_capacity;
} sli_pack_plan;

/* On failure too, free undoes it. */
SL_MUST_USE sl_status sli_pack_plan_make(sli_pack_plan *out, sli_pack_source *source, const sli_pack_options *options, sl_error *err);
void sli_pack_plan_free(sli_pack_plan *plan);

/* Declares keys and sections. */
SL_MUST_USE sl_status sli_pack_plan_declare(const sli_pack_plan *plan, sl_gguf_writer *writer, sl_error *err);

#endif
