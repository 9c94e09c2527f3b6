/* core/gguf.h: reading a GGUF file's header, fully checked before anything is used.
 *
 * sl_gguf_open reads versions 2 and 3, little-endian. After it returns SL_OK these hold:
 *  G1  every count, length and offset lies inside the file, every string inside the header;
 *  G2  keys are unique, non-empty and at most 65535 bytes; array elements are of one scalar type or strings (no nesting);
 *  G3  tensor names are unique, 1..4 dimensions, each >= 1, element counts and byte sizes do not overflow, row length is a
 *      multiple of the format's block, the type number is one that GGUF defines;
 *  G4  tensor data is aligned to general.alignment (a power of two, 8..65536), lies inside the file, and does not overlap.
 * Tensor data itself is never read here. The header is read through O_DIRECT-free plain reads whose page cache is dropped again.
 *
 * Memory: one owned buffer with the header's bytes plus small tables; strings point into it (not NUL-terminated).
 * Threads: immutable after open. */
#ifndef SL_CORE_GGUF_H
#define SL_CORE_GGUF_H

#include "core/format.h"
#include "core/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum sl_gguf_kind {
    SL_GGUF_U8 = 0,
    SL_GGUF_I8,
    SL_GGUF_U16,
    SL_GGUF_I16,
    SL_GGUF_U32,
    SL_GGUF_I32,
    SL_GGUF_F32,
    SL_GGUF_BOOL,
    SL_GGUF_STRING,
    SL_GGUF_ARRAY,
    SL_GGUF_U64,
    SL_GGUF_I64,
    SL_GGUF_F64,
} sl_gguf_kind;

typedef struct sl_str {
    const char *data; /* not NUL-terminated */
    size_t length;
} sl_str;

typedef struct sl_gguf_value {
    sl_str key;
    sl_gguf_kind kind;         /* SL_GGUF_ARRAY for an array */
    sl_gguf_kind element_kind; /* of an array; else equal to kind */
    uint64_t count;            /* of an array; else 1 */
    const uint8_t *data;       /* first element, unaligned, little-endian; a string element is u64 length + bytes */
    size_t bytes;              /* of all elements at `data` */
} sl_gguf_value;

typedef struct sl_gguf_tensor {
    sl_str name;
    uint32_t type;     /* sl_type; sl_format_of(type) != NULL, but maybe not supported */
    uint32_t dims;     /* 1..4 */
    uint64_t shape[4]; /* elements, fastest first; shape[0] is the row length; unused ones are 1 */
    uint32_t file;     /* part of a split model that holds the data; else 0 */
    uint64_t offset;   /* from the start of that file, bytes */
    uint64_t bytes;    /* size of the data */
} sl_gguf_tensor;

typedef struct sl_gguf sl_gguf;

/* Opens and checks `path`; of a split model, NAME-00001-of-0000N.gguf, also the other parts, and the whole then is one header: values of the first,
 * tensors of all. On failure *out is NULL and `err` names the file, the value and what would be right. */
SL_MUST_USE sl_status sl_gguf_open(const char *path, sl_gguf **out, sl_error *err);

/* The same over a buffer that holds the first `length` bytes of a file of `file_bytes`; copies what it needs. For the fuzzer. */
SL_MUST_USE sl_status sl_gguf_parse(const char *name, const void *data, size_t length, uint64_t file_bytes, sl_gguf **out, sl_error *err);
void sl_gguf_close(sl_gguf *gguf); /* NULL is fine */

const char *sl_gguf_path(const sl_gguf *gguf);
uint32_t sl_gguf_version(const sl_gguf *gguf);
uint64_t sl_gguf_file_bytes(const sl_gguf *gguf); /* of all parts */
uint64_t sl_gguf_data_offset(const sl_gguf *gguf);
uint32_t sl_gguf_alignment(const sl_gguf *gguf);
uint32_t sl_gguf_part_count(const sl_gguf *gguf); /* files: 1, unless it is split */
const char *sl_gguf_part_path(const sl_gguf *gguf, uint32_t part);
uint64_t sl_gguf_part_bytes(const sl_gguf *gguf, uint32_t part);
/* For what works on one file alone: SL_UNSUPPORTED for a split model, naming the `command`. */
SL_MUST_USE sl_status sl_gguf_check_single(const sl_gguf *gguf, const char *command, sl_error *err);
size_t sl_gguf_heap_bytes(const sl_gguf *gguf); /* what it holds in memory, for the budget */

size_t sl_gguf_value_count(const sl_gguf *gguf);
const sl_gguf_value *sl_gguf_value_at(const sl_gguf *gguf, size_t index);
const sl_gguf_value *sl_gguf_find(const sl_gguf *gguf, const char *key); /* NULL when absent; O(log n) */

size_t sl_gguf_tensor_count(const sl_gguf *gguf);
const sl_gguf_tensor *sl_gguf_tensor_at(const sl_gguf *gguf, size_t index);       /* in file order of the header */
const sl_gguf_tensor *sl_gguf_find_tensor(const sl_gguf *gguf, const char *name); /* NULL when absent; O(log n) */
const sl_gguf_tensor *sl_gguf_find_tensor_named(const sl_gguf *gguf, sl_str name);

/* Typed reads. `key` absent: SL_FORMAT with a message that names file, key and wanted type (an optional key is looked up with
 * sl_gguf_find first). Integer kinds convert where the value fits, F32 and F64 convert; anything else is SL_FORMAT. */
SL_MUST_USE sl_status sl_gguf_u32(const sl_gguf *gguf, const char *key, uint32_t *out, sl_error *err);
SL_MUST_USE sl_status sl_gguf_u64(const sl_gguf *gguf, const char *key, uint64_t *out, sl_error *err);
SL_MUST_USE sl_status sl_gguf_f32(const sl_gguf *gguf, const char *key, float *out, sl_error *err);
SL_MUST_USE sl_status sl_gguf_bool(const sl_gguf *gguf, const char *key, bool *out, sl_error *err);
SL_MUST_USE sl_status sl_gguf_str(const sl_gguf *gguf, const char *key, sl_str *out, sl_error *err);

/* Walks a string array: *cursor starts at 0 and is an offset kept by the caller; false at the end. O(1) per element. */
bool sl_gguf_next_string(const sl_gguf_value *array, size_t *cursor, sl_str *out);

/* Element `index` of an integer or float array as a number; the caller has checked kind and count. */
double sl_gguf_number_at(const sl_gguf_value *v, uint64_t index);

bool sl_str_equal(sl_str a, const char *b);

#endif
