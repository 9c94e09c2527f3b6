/* tests/test_kernels_matmul.c: quantising, packing, products and dequantising, in every instruction set that this machine runs.
 *
 * The reference is held against the definitions D1 to D3 of kernels.h, written out here once more from the file's bytes and not from a panel;
 * every other instruction set is held against the reference, bit for bit. Values are random with the awkward ones mixed in: zero,
 * denormal, negative and large scales, bytes of -128, blocks of activations that are all zero or nearly. */
#include "core/cpu.h"
#include "core/format.h"
#include "kernels/kernels.h"
#include "tests/formats.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COLS_MAX     12288
#define OUT_ROWS_MAX 48
#define ACT_ROWS_MAX 40
#define OUT_STRIDE   53        /* more than OUT_ROWS_MAX and no multiple of anything */
#define GUARD        12345.75f /* what outputs hold before; must stay where nothing is to be written */

/* Everything a case needs, at its largest. */
typedef struct bed {
    uint64_t random;
    uint8_t *file;   /* rows as in a file, OUT_ROWS_MAX of them, one byte off any alignment */
    uint8_t *panels; /* packed */
    uint8_t *other;  /* packed by someone else */
    float *f32;
    sl_acts x;
    float *expected, *got; /* [ACT_ROWS_MAX][OUT_STRIDE] */
} bed;

static void *allocate(size_t bytes)
{
    void *p = aligned_alloc(64, (bytes + 63) / 64 * 64);
    assert_non_null(p);
    return p;
}

static int create_bed(void **state)
{
    bed *t = calloc(1, sizeof *t);
    size_t weights = (size_t)OUT_ROWS_MAX * COLS_MAX * 4, acts = (size_t)ACT_ROWS_MAX * COLS_MAX;
    t->random = 7;
    t->file = (uint8_t *)allocate(weights + 64) + 1;
    t->panels = allocate(weights);
    t->other = allocate(weights);
    t->x.f32 = t->f32 = allocate(acts * 4);
    t->x.q = allocate(acts);
    t->x.d = allocate(acts / 8);
    t->x.sum = allocate(acts / 8);
    t->expected = allocate(ACT_ROWS_MAX * OUT_STRIDE * 4);
    t->got = allocate(ACT_ROWS_MAX * OUT_STRIDE * 4);
    *state = t;
    return 0;
}

static int destroy_bed(void **state)
{
    bed *t = *state;
    free(t->file - 1);
    free(t->panels);
    free(t->other);
    free(t->f32);
    free(t->x.q);
    free(t->x.d);
    free(t->x.sum);
    free(t->expected);
    free(t->got);
    free(t);
    return 0;
}

/* ---- values ---- */

static uint32_t next(bed *t)
{
    t->random = t->random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(t->random >> 33);
}

static float next_unit(bed *t)
{
    return (float)next(t) * 0x1p-30f - 1.0f;
}

/* A scale: mostly ordinary, sometimes zero of either sign, denormal, negative or the largest half. */
static uint16_t next_scale(bed *t)
{
    static const uint16_t awkward[] = {0x0000, 0x8000, 0x0001, 0x83ff, 0x7bff, 0xfbff, 0x3c00, 0xbc00};
    if (next(t) % 8 == 0)
        return awkward[next(t) % 8];
    return sl_f32_to_f16(next_unit(t) * 0.1f);
}

static void put_u16(uint8_t *at, uint16_t value)
{
    memcpy(at, &value, 2);
}

static void fill_quant_block(bed *t, uint32_t type, uint8_t *block)
{
    size_t bytes = sl_format_of(type)->block_bytes;
    uint32_t kind = next(t) % 8;
    for (size_t i = 0; i < bytes; i++)
        block[i] = kind == 0 ? 0x80 : kind == 1 ? 0xff : kind == 2 ? 0 : (uint8_t)next(t);
    size_t first, scales = file_scales(type, &first);
    if (next(t) % 2) /* else extreme quants would only meet extreme scales, some of them zero */
        for (size_t i = 0; i < scales; i++)
            block[first + i] = (uint8_t)next(t);
    file_halves halves = halves_of(type);
    put_u16(block + halves.d, next_scale(t));
    if (halves.has_min)
        put_u16(block + halves.m, next_scale(t));
}

static void fill_weights(bed *t, uint32_t type, uint32_t rows, uint32_t cols)
{
    size_t row_bytes = sl_row_bytes(type, cols), unit = sl_format_of(type)->block_bytes;
    for (uint8_t *at = t->file; at < t->file + rows * row_bytes; at += unit) {
        float value = next(t) % 16 == 0 ? 0.0f : next_unit(t);
        if (sl_format_of(type)->quantized)
            fill_quant_block(t, type, at);
        else if (type == SL_TYPE_F32)
            memcpy(at, &value, 4);
        else
            put_u16(at, type == SL_TYPE_F16 ? sl_f32_to_f16(value) : sl_f32_to_bf16(value));
    }
}

/* Values as near as can be to half an integer once they are scaled: a last bit more or less in the factor shows in the integers. */
static void put_near_ties(bed *t, float *block)
{
    float amax = 1.0f + fabsf(next_unit(t)), inv = 127.0f / amax;
    block[0] = amax;
    for (size_t k = 1; k < 32; k++)
        block[k] = ((float)(next(t) % 252) * 0.5f - 63.0f + 0.5f) / inv;
}

/* Activations whose blocks differ in size by many powers of two, some of them zero, constant, or too small to be quantised. */
static void fill_acts(bed *t, uint32_t rows, uint32_t cols)
{
    t->x.rows = rows;
    t->x.cols = cols;
    for (size_t i = 0; i < (size_t)rows * cols; i += 32) {
        static const float sizes[] = {1.0f, 1.0f, 1.0f, 1e4f, 1e-4f, 1e-30f, 1e-39f, 0.0f};
        float size = sizes[next(t) % 8];
        bool constant = next(t) % 16 == 0;
        for (size_t k = i; k < i + 32 && k < (size_t)rows * cols; k++)
            t->f32[k] = size * (constant ? -1.0f : next_unit(t));
        if (next(t) % 4 == 0 && i + 32 <= (size_t)rows * cols)
            put_near_ties(t, t->f32 + i);
    }
}

static void pack_all(bed *t, const sl_kernels *kernels, uint32_t type, uint32_t rows, uint32_t cols, uint8_t *panels)
{
    size_t row_bytes = sl_row_bytes(type, cols);
    for (uint32_t first = 0; first < rows; first += SL_PANEL_ROWS, panels += sl_panel_bytes(type, cols)) {
        const uint8_t *of_panel[SL_PANEL_ROWS] = {0};
        for (uint32_t r = 0; r < SL_PANEL_ROWS && first + r < rows; r++)
            of_panel[r] = t->file + (first + r) * row_bytes;
        kernels->pack(type, of_panel, cols, panels);
    }
}

static void fill_guard(float *out)
{
    for (size_t i = 0; i < ACT_ROWS_MAX * OUT_STRIDE; i++)
        out[i] = GUARD;
}

/* Runs `check` for every instruction set but the reference. */
static void for_each_isa(bed *t, void (*check)(bed *t, const sl_kernels *kernels))
{
    for (sl_isa isa = SL_ISA_SCALAR + 1; isa < SL_ISA_COUNT; isa++) {
        if (!sl_cpu_supports(isa) || !sl_kernels_for(isa)) {
            print_message("%s: this machine does not run it\n", sl_isa_name(isa));
            continue;
        }
        check(t, sl_kernels_for(isa));
    }
}

/* Without it a set whose table is missing would be passed over below, and nobody would be told. */
static void what_this_machine_runs_was_built(void **state)
{
    (void)state;
    for (sl_isa isa = 0; isa < SL_ISA_COUNT; isa++)
        if (sl_cpu_supports(isa) && sl_kernels_for(isa) == NULL)
            fail_msg("%s runs here and has no kernels", sl_isa_name(isa));
    assert_true(sl_cpu_supports(sl_cpu_best_isa()));
}

static const sl_kernels *reference(void)
{
    return sl_kernels_for(SL_ISA_SCALAR);
}

/* ---- the definitions once more, from the file's bytes ---- */

static float define_super_blocks(uint32_t type, const uint8_t *row, const sl_acts *x, size_t a)
{
    int step = has_subs_of_16(type) ? 16 : 32;
    file_halves halves = halves_of(type);
    float total = 0.0f;
    for (size_t b = 0; b < x->cols / 256; b++) {
        const uint8_t *block = row + b * sl_format_of(type)->block_bytes;
        const int8_t *q = x->q + a * x->cols + b * 256;
        const float *d = x->d + a * (x->cols / 32) + b * 8;
        float acc = 0.0f, low = 0.0f;
        for (int k = 0; k < 256; k += 32) {
            int32_t isum = 0;
            for (int i = k; i < k + 32; i++)
                isum += super_scale(type, block, i) * super_integer(type, block, i) * q[i];
            acc = fmaf(d[k / 32], (float)isum, acc);
        }
        for (int k = 0; k < 256 && halves.has_min; k += step) {
            int32_t sum = 0;
            for (int i = k; i < k + step; i++)
                sum += q[i];
            low = fmaf((float)super_minimum(type, block, k), d[k / 32] * (float)sum, low);
        }
        float segment = file_f16(block + halves.d) * acc;
        total = total + (halves.has_min ? fmaf(-file_f16(block + halves.m), low, segment) : segment);
    }
    return total;
}

static float define_blocks(uint32_t type, const uint8_t *row, const sl_acts *x, size_t a)
{
    size_t blocks = x->cols / 32;
    float total = 0.0f, acc = 0.0f;
    for (size_t b = 0; b < blocks; b++) {
        const uint8_t *block = row + b * sl_format_of(type)->block_bytes;
        int32_t isum = 0;
        for (int k = 0; k < 32; k++)
            isum += small_integer(type, block, k) * x->q[(a * blocks + b) * 32 + (size_t)k];
        float dx = x->d[a * blocks + b];
        acc = fmaf(file_f16(block) * dx, (float)isum, acc);
        if (halves_of(type).has_min)
            acc = fmaf(file_f16(block + 2), dx * (float)x->sum[a * blocks + b], acc);
        if (b % 8 == 7 || b + 1 == blocks) {
            total = total + acc;
            acc = 0.0f;
        }
    }
    return total;
}

static float define_quantized(uint32_t type, const uint8_t *row, const sl_acts *x, size_t a)
{
    return sl_format_of(type)->block_elements == 256 ? define_super_blocks(type, row, x, a) : define_blocks(type, row, x, a);
}

static float file_float(uint32_t type, const uint8_t *at)
{
    float value;
    uint16_t bits;
    memcpy(&bits, at, 2);
    if (type == SL_TYPE_F16)
        return sl_f16_to_f32(bits);
    if (type == SL_TYPE_BF16)
        return sl_bf16_to_f32(bits);
    memcpy(&value, at, 4);
    return value;
}

static float define_float(uint32_t type, const uint8_t *row, const float *x, size_t cols)
{
    float total = 0.0f, acc[4] = {0};
    for (size_t k = 0; k < cols; k++) {
        acc[k % 4] = fmaf(file_float(type, row + k * sl_format_of(type)->block_bytes), x[k], acc[k % 4]);
        if (k % 256 == 255 || k + 1 == cols) {
            total = total + ((acc[0] + acc[1]) + (acc[2] + acc[3]));
            memset(acc, 0, sizeof acc);
        }
    }
    return total;
}

/* ---- tests ---- */

static void reference_quantises_as_d1_says(void **state)
{
    bed *t = *state;
    fill_acts(t, 7, 1536);
    reference()->quantize(&t->x, 0, 7);
    for (size_t b = 0; b < 7 * 48; b++) {
        float amax = 0.0f;
        int32_t sum = 0;
        for (size_t k = b * 32; k < b * 32 + 32; k++)
            amax = fabsf(t->f32[k]) > amax ? fabsf(t->f32[k]) : amax;
        bool visible = amax >= 0x1p-120f;
        assert_true(t->x.d[b] == (visible ? amax / 127.0f : 0.0f));
        for (size_t k = b * 32; k < b * 32 + 32; k++) {
            float scaled = visible ? t->f32[k] * (127.0f / amax) : 0.0f;
            assert_int_equal(t->x.q[k], (int)nearbyintf(scaled));
            sum += t->x.q[k];
        }
        assert_int_equal(t->x.sum[b], sum);
    }
}

static void a_half_is_rounded_to_the_even_integer(void **state)
{
    bed *t = *state;
    static const float values[8] = {127.0f, 0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -2.5f, 0.0f};
    static const int8_t rounded[8] = {127, 0, 2, 2, 0, -2, -2, 0};
    for (sl_isa isa = 0; isa < SL_ISA_COUNT; isa++) {
        if (!sl_cpu_supports(isa) || !sl_kernels_for(isa))
            continue;
        for (size_t k = 0; k < 32; k++)
            t->f32[k] = values[k % 8];
        t->x.rows = 1;
        t->x.cols = 32;
        sl_kernels_for(isa)->quantize(&t->x, 0, 1);
        for (size_t k = 0; k < 32; k++)
            assert_int_equal(t->x.q[k], rounded[k % 8]);
        assert_int_equal(t->x.sum[0], 127 * 4);
        assert_true(t->x.d[0] == 1.0f);
    }
}

static void check_quantize(bed *t, const sl_kernels *kernels)
{
    static const uint32_t shapes[][2] = {{1, 32}, {3, 96}, {5, 288}, {20, 576}, {2, 12288}};
    for (size_t i = 0; i < 5; i++) {
        uint32_t rows = shapes[i][0], cols = shapes[i][1];
        size_t n = (size_t)rows * cols;
        fill_acts(t, rows, cols);
        reference()->quantize(&t->x, 0, rows);

        sl_acts mine = {.rows = rows, .cols = cols, .f32 = t->f32};
        mine.q = allocate(n);
        mine.d = allocate(n / 8);
        mine.sum = allocate(n / 8);
        memset(mine.q, 77, n);
        kernels->quantize(&mine, rows / 2, rows); /* in two parts, as threads do */
        if (rows / 2)
            assert_int_equal(mine.q[0], 77); /* rows outside the part are left alone */
        kernels->quantize(&mine, 0, rows / 2);
        assert_memory_equal(mine.q, t->x.q, n);
        assert_memory_equal(mine.d, t->x.d, n / 8);
        assert_memory_equal(mine.sum, t->x.sum, n / 8);
        free(mine.q);
        free(mine.d);
        free(mine.sum);
    }
}
static void every_isa_quantises_as_the_reference(void **state)
{
    for_each_isa(*state, check_quantize);
}

/* Where kernels.h says that byte `i` of row `r` lies in the panel. */
static size_t panel_place(uint32_t type, size_t cols, size_t r, size_t i)
{
    const sl_format *format = sl_format_of(type);
    size_t block = i / format->block_bytes, in_block = i % format->block_bytes, blocks = cols / format->block_elements;
    file_halves halves = halves_of(type);
    bool two = halves.has_min || type == SL_TYPE_IQ4_XS;
    size_t half = two && halves.m == 0 ? 2 : halves.m; /* IQ4_XS: upper bits of its scales */
    size_t word_bytes = format->block_bytes - (two ? 4u : 2u), words_at = halves.d == 0 ? format->block_bytes - word_bytes : 0;
    if (!format->quantized)
        return (block * 16 + r) * format->block_bytes + in_block;
    if (in_block - halves.d < 2)
        return blocks * word_bytes * 16 + (block * 16 + r) * 2 + (in_block - halves.d);
    if (two && in_block - half < 2)
        return blocks * word_bytes * 16 + blocks * 32 + (block * 16 + r) * 2 + (in_block - half);
    size_t in_words = in_block - words_at;
    return (block * word_bytes + in_words / 4 * 4) * 16 + r * 4 + in_words % 4;
}

static void reference_packs_each_byte_where_the_layout_says(void **state)
{
    bed *t = *state;
    for (size_t i = 0; i < TYPE_COUNT; i++) {
        uint32_t type = all_types[i], cols = fitting(type, 288);
        size_t row_bytes = sl_row_bytes(type, cols);
        fill_weights(t, type, 16, cols);
        pack_all(t, reference(), type, 16, cols, t->panels);
        for (size_t r = 0; r < 16; r++)
            for (size_t k = 0; k < row_bytes; k++)
                assert_int_equal(t->panels[panel_place(type, cols, r, k)], t->file[r * row_bytes + k]);
    }
}

static void check_pack(bed *t, const sl_kernels *kernels)
{
    static const uint32_t widths[] = {32, 64, 96, 288, 576, 4608};
    for (size_t i = 0; i < TYPE_COUNT; i++)
        for (size_t c = 0; c < 6; c++) {
            uint32_t type = all_types[i], cols = fitting(type, widths[c]), rows = 16 + next(t) % 17; /* absent rows in the last panel */
            size_t bytes = (rows + 15) / 16 * sl_panel_bytes(type, cols);
            fill_weights(t, type, rows, cols);
            memset(t->panels, 1, bytes + 1);
            memset(t->other, 2, bytes + 1);
            pack_all(t, reference(), type, rows, cols, t->panels);
            pack_all(t, kernels, type, rows, cols, t->other);
            assert_memory_equal(t->panels, t->other, bytes);
            assert_int_equal(t->other[bytes], 2);
        }
    for (uint32_t cols = 1; cols < 20; cols++) { /* float rows may have any length */
        fill_weights(t, SL_TYPE_F16, 16, cols);
        pack_all(t, reference(), SL_TYPE_F16, 16, cols, t->panels);
        pack_all(t, kernels, SL_TYPE_F16, 16, cols, t->other);
        assert_memory_equal(t->panels, t->other, sl_panel_bytes(SL_TYPE_F16, cols));
    }
}
static void every_isa_packs_as_the_reference(void **state)
{
    for_each_isa(*state, check_pack);
}

static void reference_products_are_d2_and_d3(void **state)
{
    bed *t = *state;
    static const uint32_t widths[] = {32, 96, 288, 576, 1536, 4608};
    for (size_t i = 0; i < TYPE_COUNT; i++)
        for (size_t c = 0; c < 6; c++) {
            uint32_t type = all_types[i], cols = fitting(type, widths[c]), out_rows = 19;
            fill_weights(t, type, out_rows, cols);
            pack_all(t, reference(), type, out_rows, cols, t->panels);
            fill_acts(t, 2, cols);
            reference()->quantize(&t->x, 0, 2);
            reference()->matmul(type, t->panels, out_rows, &t->x, t->got, OUT_STRIDE);
            for (size_t a = 0; a < 2; a++)
                for (size_t r = 0; r < out_rows; r++) {
                    const uint8_t *row = t->file + r * sl_row_bytes(type, cols);
                    float expected = sl_format_of(type)->quantized ? define_quantized(type, row, &t->x, a)
                                                                   : define_float(type, row, t->f32 + a * cols, cols);
                    assert_memory_equal(&t->got[a * OUT_STRIDE + r], &expected, sizeof expected);
                }
        }
}

static void reference_products_are_near_the_exact_ones(void **state)
{
    bed *t = *state;
    for (size_t i = 0; i < TYPE_COUNT; i++) {
        uint32_t type = all_types[i], cols = fitting(type, 576);
        fill_weights(t, type, 16, cols);
        pack_all(t, reference(), type, 16, cols, t->panels);
        fill_acts(t, 1, cols);
        reference()->quantize(&t->x, 0, 1);
        reference()->matmul(type, t->panels, 16, &t->x, t->got, OUT_STRIDE);
        for (size_t r = 0; r < 16; r++) {
            float *w = t->expected;
            double exact = 0.0, size = 0.0;
            assert_true(cols <= ACT_ROWS_MAX * OUT_STRIDE);
            reference()->dequantize_row(type, t->file + r * sl_row_bytes(type, cols), cols, w);
            for (size_t k = 0; k < cols; k++) {
                bool quantized = sl_format_of(type)->quantized;
                double x = quantized ? (double)t->x.d[k / 32] * t->x.q[k] : (double)t->f32[k];
                exact += w[k] * x;
                size += fabs(w[k] * x);
            }
            assert_true(fabs(exact - (double)t->got[r]) <= 1e-4 * size);
        }
    }
}

static void check_case(bed *t, const sl_kernels *kernels, uint32_t type, uint32_t cols, uint32_t out_rows, uint32_t rows)
{
    cols = fitting(type, cols);
    fill_weights(t, type, out_rows, cols);
    pack_all(t, reference(), type, out_rows, cols, t->panels);
    fill_acts(t, rows, cols);
    reference()->quantize(&t->x, 0, rows);
    fill_guard(t->expected);
    fill_guard(t->got);
    reference()->matmul(type, t->panels, out_rows, &t->x, t->expected, OUT_STRIDE);
    kernels->matmul(type, t->panels, out_rows, &t->x, t->got, OUT_STRIDE);
    if (memcmp(t->expected, t->got, ACT_ROWS_MAX * OUT_STRIDE * 4) != 0)
        fail_msg("%s %s: cols %u, out rows %u, rows %u differ", sl_isa_name(kernels->isa), sl_format_of(type)->name, cols, out_rows, rows);
}

static void check_every_row_count(bed *t, const sl_kernels *kernels)
{
    for (size_t i = 0; i < TYPE_COUNT; i++) {
        for (uint32_t rows = 1; rows <= 20; rows++)
            check_case(t, kernels, all_types[i], 288, 17, rows);
        for (uint32_t out_rows = 1; out_rows <= 40; out_rows++)
            check_case(t, kernels, all_types[i], 96, out_rows, 1 + out_rows % 5);
    }
}
static void every_isa_multiplies_any_count_of_rows_as_the_reference(void **state)
{
    for_each_isa(*state, check_every_row_count);
}

static void check_every_width(bed *t, const sl_kernels *kernels)
{
    static const uint32_t widths[] = {32, 64, 96, 128, 256, 288, 512, 544, 576, 800, 1536, 4608, 12288};
    for (size_t i = 0; i < TYPE_COUNT; i++)
        for (size_t c = 0; c < sizeof widths / sizeof widths[0]; c++)
            check_case(t, kernels, all_types[i], widths[c], 16, 3);
    for (uint32_t cols = 1; cols < 12; cols++) /* D3 has no blocks */
        check_case(t, kernels, SL_TYPE_F32, cols, 5, 6);
    check_case(t, kernels, SL_TYPE_BF16, 259, 16, 5);
}
static void every_isa_multiplies_any_width_as_the_reference(void **state)
{
    for_each_isa(*state, check_every_width);
}

static void check_random_shapes(bed *t, const sl_kernels *kernels)
{
    for (int i = 0; i < 60; i++) {
        uint32_t type = all_types[next(t) % TYPE_COUNT];
        check_case(t, kernels, type, 32 * (1 + next(t) % 40), 1 + next(t) % OUT_ROWS_MAX, 1 + next(t) % ACT_ROWS_MAX);
    }
}
static void every_isa_multiplies_random_shapes_as_the_reference(void **state)
{
    for_each_isa(*state, check_random_shapes);
}

/* More panels than one group holds, so that the walk crosses groups with several row blocks. */
static void check_many_panels(bed *t, const sl_kernels *kernels)
{
    enum { OUT_ROWS = 16 * 19 + 3, ROWS = 18 };
    for (size_t i = 0; i < TYPE_COUNT; i++) {
        uint32_t type = all_types[i], cols = fitting(type, 544);
        size_t panel_bytes = sl_panel_bytes(type, cols), panels = (OUT_ROWS + 15) / 16;
        uint8_t *pool = allocate(panels * panel_bytes);
        float *expected = allocate(sizeof(float[ROWS][OUT_ROWS])), *got = allocate(sizeof(float[ROWS][OUT_ROWS]));
        for (size_t p = 0; p < panels; p++) {
            fill_weights(t, type, 16, cols);
            pack_all(t, reference(), type, 16, cols, pool + p * panel_bytes);
        }
        fill_acts(t, ROWS, cols);
        reference()->quantize(&t->x, 0, ROWS);
        reference()->matmul(type, pool, OUT_ROWS, &t->x, expected, OUT_ROWS);
        kernels->matmul(type, pool, OUT_ROWS, &t->x, got, OUT_ROWS);
        assert_memory_equal(expected, got, sizeof(float[ROWS][OUT_ROWS]));
        free(pool);
        free(expected);
        free(got);
    }
}
static void every_isa_multiplies_many_panels_as_the_reference(void **state)
{
    for_each_isa(*state, check_many_panels);
}

/* A batch of rows gives each row what it gets alone: on this the dense check of n rows rests. */
static void check_batch(bed *t, const sl_kernels *kernels)
{
    enum { ROWS = 23, OUT_ROWS = 33 };
    for (size_t i = 0; i < TYPE_COUNT; i++) {
        uint32_t type = all_types[i], cols = fitting(type, 576);
        fill_weights(t, type, OUT_ROWS, cols);
        pack_all(t, kernels, type, OUT_ROWS, cols, t->panels);
        fill_acts(t, ROWS, cols);
        kernels->quantize(&t->x, 0, ROWS);
        kernels->matmul(type, t->panels, OUT_ROWS, &t->x, t->expected, OUT_STRIDE);
        for (size_t a = 0; a < ROWS; a++) {
            sl_acts one = {.rows = 1, .cols = cols, .f32 = t->f32 + a * cols};
            one.q = t->x.q + a * cols;
            one.d = t->x.d + a * (cols / 32);
            one.sum = t->x.sum + a * (cols / 32);
            kernels->matmul(type, t->panels, OUT_ROWS, &one, t->got, OUT_STRIDE);
            assert_memory_equal(t->got, t->expected + a * OUT_STRIDE, OUT_ROWS * sizeof(float));
        }
    }
}
static void a_row_in_a_batch_gets_what_it_gets_alone(void **state)
{
    for_each_isa(*state, check_batch);
}

static void check_dequantize(bed *t, const sl_kernels *kernels)
{
    for (size_t i = 0; i < TYPE_COUNT; i++) {
        uint32_t type = all_types[i], cols = fitting(type, 288);
        const sl_format *format = sl_format_of(type);
        fill_weights(t, type, 16, cols);
        pack_all(t, reference(), type, 16, cols, t->panels);
        for (uint32_t r = 0; r < 16; r++) {
            const uint8_t *row = t->file + r * sl_row_bytes(type, cols);
            kernels->dequantize_row(type, row, cols, t->got);
            kernels->dequantize_panel_row(type, t->panels, r, cols, t->expected);
            assert_memory_equal(t->got, t->expected, cols * sizeof(float));
            for (uint32_t k = 0; k < cols; k++) {
                const uint8_t *block = row + k / format->block_elements * format->block_bytes;
                float value = format->quantized ? file_element(type, block, (int)(k % format->block_elements)) : file_float(type, block);
                assert_true(t->got[k] == value);
            }
        }
    }
}

static void rows_dequantise_the_same_from_file_and_panel(void **state)
{
    check_dequantize(*state, reference());
    for_each_isa(*state, check_dequantize);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_this_machine_runs_was_built),
        cmocka_unit_test(reference_quantises_as_d1_says),
        cmocka_unit_test(a_half_is_rounded_to_the_even_integer),
        cmocka_unit_test(every_isa_quantises_as_the_reference),
        cmocka_unit_test(reference_packs_each_byte_where_the_layout_says),
        cmocka_unit_test(every_isa_packs_as_the_reference),
        cmocka_unit_test(reference_products_are_d2_and_d3),
        cmocka_unit_test(reference_products_are_near_the_exact_ones),
        cmocka_unit_test(every_isa_multiplies_any_count_of_rows_as_the_reference),
        cmocka_unit_test(every_isa_multiplies_any_width_as_the_reference),
        cmocka_unit_test(every_isa_multiplies_random_shapes_as_the_reference),
        cmocka_unit_test(every_isa_multiplies_many_panels_as_the_reference),
        cmocka_unit_test(a_row_in_a_batch_gets_what_it_gets_alone),
        cmocka_unit_test(rows_dequantise_the_same_from_file_and_panel),
    };
    return cmocka_run_group_tests(tests, create_bed, destroy_bed);
}
