/* tests/weights_material.h: random matrices of every format and activations for them, awkward ones among them. Static, because each test is one program. */
#ifndef SL_TESTS_WEIGHTS_MATERIAL_H
#define SL_TESTS_WEIGHTS_MATERIAL_H

#include "tests/formats.h"
#include "tests/kernels_material.h"

typedef struct material {
    uint64_t random;
    uint32_t type, rows, cols;
    uint8_t *file;   /* rows as in a file */
    uint8_t *panels; /* as the reference packs them */
    size_t panels_bytes;
} material;

static inline uint32_t below(uint64_t *random, uint32_t n)
{
    return (uint32_t)(next_random(random) % n);
}

static inline void put_half(uint64_t *random, uint8_t *at)
{
    static const uint16_t awkward[] = {0x0000, 0x8000, 0x0001, 0x83ff, 0x7bff, 0xfbff, 0x3c00, 0xbc00};
    uint16_t half = below(random, 8) == 0 ? awkward[below(random, 8)] : sl_f32_to_f16(random_float(random) * 0.1f);
    memcpy(at, &half, sizeof half);
}

/* One block, or one float. The extremes come as whole blocks, so that sums reach their limits. */
static inline void fill_unit(uint64_t *random, uint32_t type, uint8_t *at)
{
    size_t bytes = sl_format_of(type)->block_bytes;
    float value = random_float(random);
    uint16_t half = type == SL_TYPE_F16 ? sl_f32_to_f16(value) : sl_f32_to_bf16(value);
    if (!sl_format_of(type)->quantized) {
        memcpy(at, type == SL_TYPE_F32 ? (const void *)&value : (const void *)&half, bytes);
        return;
    }
    uint32_t kind = below(random, 8);
    for (size_t i = 0; i < bytes; i++)
        at[i] = kind == 0 ? 0x80 : kind == 1 ? 0xff : kind == 2 ? 0 : (uint8_t)next_random(random);
    file_halves halves = halves_of(type);
    put_half(random, at + halves.d);
    if (halves.has_min)
        put_half(random, at + halves.m);
}

static inline void fill_rows(uint64_t *random, uint32_t type, uint8_t *rows, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += sl_format_of(type)->block_bytes)
        fill_unit(random, type, rows + i);
}

static inline void pack_rows(uint32_t type, const uint8_t *file, size_t stride, uint32_t rows, uint32_t cols, uint8_t *panels)
{
    for (uint32_t first = 0; first < rows; first += SL_PANEL_ROWS, panels += sl_panel_bytes(type, cols)) {
        const uint8_t *at[SL_PANEL_ROWS] = {0};
        for (uint32_t r = 0; r < SL_PANEL_ROWS && first + r < rows; r++)
            at[r] = file + (first + r) * stride;
        reference()->pack(type, at, cols, panels);
    }
}

static inline material make(uint32_t type, uint32_t rows, uint32_t cols, uint64_t seed)
{
    material m = {.random = seed * 1000003 + type, .type = type, .rows = rows, .cols = fitting(type, cols)};
    size_t bytes = rows * sl_row_bytes(type, m.cols);
    m.file = allocate(bytes);
    fill_rows(&m.random, type, m.file, bytes);
    m.panels_bytes = (rows + 15) / 16 * sl_panel_bytes(type, m.cols);
    m.panels = allocate(m.panels_bytes);
    pack_rows(type, m.file, sl_row_bytes(type, m.cols), rows, m.cols, m.panels);
    return m;
}

static inline void unmake(material *m)
{
    free(m->file);
    free(m->panels);
}

/* Blocks of very different sizes, some of them zero or too small to be seen; quantised where rows are whole blocks. */
static inline sl_acts make_acts(uint32_t rows, uint32_t cols, uint64_t seed)
{
    static const float sizes[] = {1.0f, 1.0f, 1.0f, 1e4f, 1e-4f, 1e-30f, 1e-39f, 0.0f};
    uint64_t random = seed + 77;
    size_t n = (size_t)rows * cols;
    float *f32 = allocate(n * sizeof *f32);
    for (size_t first = 0; first < n; first += 32) {
        float size = sizes[below(&random, 8)];
        uint32_t kind = below(&random, 6);
        for (size_t k = first; k < first + 32 && k < n; k++)
            f32[k] = size * (kind == 0 ? 1.0f : kind == 1 ? -1.0f : random_float(&random));
    }
    sl_acts x = {.rows = rows, .cols = cols, .f32 = f32};
    if (cols % SL_ACT_BLOCK != 0)
        return x;
    x.q = allocate(n);
    x.d = allocate(n / 8);
    x.sum = allocate(n / 8);
    reference()->quantize(&x, 0, rows);
    return x;
}

static inline void unmake_acts(sl_acts *x)
{
    free((void *)(uintptr_t)x->f32);
    free(x->q);
    free(x->d);
    free(x->sum);
}

#endif
