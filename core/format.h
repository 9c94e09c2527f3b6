/* core/format.h: the storage formats of tensors, as a table.
 *
 * A format is a block of `block_elements` consecutive elements of a row stored in `block_bytes` bytes. Everything that only
 * needs sizes and names reads this table; the arithmetic of a format is in kernels/. Numbers are GGUF's own (ggml_type).
 *
 * Threads: constant data. */
#ifndef SL_CORE_FORMAT_H
#define SL_CORE_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum sl_type {
    SL_TYPE_F32 = 0,
    SL_TYPE_F16 = 1,
    SL_TYPE_Q4_0 = 2,
    SL_TYPE_Q4_1 = 3,
    SL_TYPE_Q5_0 = 6,
    SL_TYPE_Q5_1 = 7,
    SL_TYPE_Q8_0 = 8,
    SL_TYPE_Q2_K = 10,
    SL_TYPE_Q3_K = 11,
    SL_TYPE_Q4_K = 12,
    SL_TYPE_Q5_K = 13,
    SL_TYPE_Q6_K = 14,
    SL_TYPE_IQ4_NL = 20,
    SL_TYPE_IQ4_XS = 23,
    SL_TYPE_I8 = 24,
    SL_TYPE_I32 = 26,
    SL_TYPE_I64 = 27,
    SL_TYPE_BF16 = 30,
} sl_type;

/* The supported ones, for messages: as the table in format.c has them. */
#define SL_SUPPORTED_FORMATS "F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL and IQ4_XS"

#define SL_TYPE_LIMIT 64 /* GGUF type numbers lie below this */

typedef struct sl_format {
    const char *name;        /* "Q4_0"; NULL for a number that GGUF does not define */
    uint16_t block_elements; /* 1 for the float types */
    uint16_t block_bytes;
    bool supported; /* we have kernels for it; else only `info` can show it */
    bool quantized; /* activations are quantised to int8 per 32 elements before the product */
} sl_format;

/* The format of a GGUF type number, or NULL when GGUF defines none. */
const sl_format *sl_format_of(uint32_t type);

/* The format with this name (case-insensitive), its number in *type; NULL when there is none. */
const sl_format *sl_format_by_name(const char *name, uint32_t *type);

/* Bytes of one row of `elements`, a multiple of the block; `type` is known. */
size_t sl_row_bytes(uint32_t type, uint64_t elements);

/* IEEE half and bfloat16 conversions, round to nearest even; NaN stays NaN. The scalar reference for every kernel. */
float sl_f16_to_f32(uint16_t half);
uint16_t sl_f32_to_f16(float value);
float sl_bf16_to_f32(uint16_t half);
uint16_t sl_f32_to_bf16(float value);

#endif
