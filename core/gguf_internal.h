/* core/gguf_internal.h: what the four files that read a GGUF header share.
 *
 *   gguf.c        opening, reading in growing chunks, look-ups and typed reads
 *   gguf_parse.c  the walk over the header's bytes: rules G1 and G2, and each tensor's own part of G3
 *   gguf_split.c  the other files of a split model
 *   gguf_check.c  what needs the whole header at once: unique names, alignment, overlap (the rest of G2, G3 and G4)
 */
#ifndef SL_CORE_GGUF_INTERNAL_H
#define SL_CORE_GGUF_INTERNAL_H

#include "core/gguf.h"

#define SLI_GGUF_MAGIC             "GGUF"
#define SLI_GGUF_DEFAULT_ALIGNMENT 32u
#define SLI_GGUF_ALIGNMENT_MIN     8u
#define SLI_GGUF_ALIGNMENT_MAX     65536u
#define SLI_GGUF_NAME_BYTES_MAX    65535u

struct sl_gguf {
    char *path;
    uint8_t *header; /* header_bytes of it, once parsed; values and tensors point into it */
    size_t header_bytes;
    uint64_t file_bytes;
    uint64_t data_offset;
    uint32_t version;
    uint32_t alignment;

    sl_gguf_value *values;
    size_t value_count, value_capacity;
    sl_gguf_tensor *tensors;
    size_t tensor_count, tensor_capacity;
    uint32_t *values_by_key;   /* value indices in order of key */
    uint32_t *tensors_by_name; /* tensor indices in order of name */
    sl_gguf **parts;           /* the other files of a split model, whose headers hold their tensors' names */
    uint32_t part_count;       /* of `parts` */
};

/* A string from the file made fit for a one-line message: cut, and unprintable bytes as '?'. */
typedef struct sli_shown {
    char text[96];
} sli_shown;
sli_shown sli_show(sl_str s);

/* Byte order of strings, shorter first at a common prefix. */
int sli_str_compare(sl_str a, sl_str b);

/* Walks the header in the `length` bytes at `data`, the first of a file of g->file_bytes, and fills g's tables with pointers into
 * `data`; g->header_bytes says how long the header was. SL_PENDING (err untouched) when the header goes on behind `length` and the
 * file does too. On failure g's tables hold what was read so far. */
SL_MUST_USE sl_status sli_gguf_parse(sl_gguf *g, const uint8_t *data, size_t length, sl_error *err);

/* Builds the sorted indices and checks what sli_gguf_parse could not; makes tensor offsets absolute. */
SL_MUST_USE sl_status sli_gguf_check(sl_gguf *g, sl_error *err);

/* The tensors in order of name, which must be unique. */
SL_MUST_USE sl_status sli_gguf_index_tensors(sl_gguf *g, sl_error *err);

/* One file, whether it is a part or not. */
SL_MUST_USE sl_status sli_gguf_open_one(const char *path, sl_gguf **out, sl_error *err);
bool sli_gguf_is_split(const sl_gguf *g);
/* Finds, opens and joins the other parts of what is the first. */
SL_MUST_USE sl_status sli_gguf_open_parts(sl_gguf *g, sl_error *err);
/* Makes `others` ([count], malloc'd, in order) part of `first`, which takes them over on SL_OK. */
SL_MUST_USE sl_status sli_gguf_join(sl_gguf *first, sl_gguf **others, uint32_t count, sl_error *err);

/* Bytes of one element of a scalar kind; 0 for strings, arrays and unknown kinds. */
size_t sli_gguf_kind_bytes(sl_gguf_kind kind);
const char *sli_gguf_kind_name(uint32_t kind);

#endif
