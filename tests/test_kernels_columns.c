/* tests/test_kernels_columns.c: products over sets of neurons, of many rows from columns, and of scattered rows, in every instruction set.
 *
 * All are held against what is tested elsewhere: pack and matmul of the reference over the whole matrix, with zeros for the neurons that are
 * not in the set (D8), bit for bit. Columns and rows have memory of their own, odd addresses included. */
#include "kernels/columns.h"
#include "kernels/internal.h"
#include "tests/kernels_material.h"

#include <string.h>

#define ROWS_MAX 2400
#define COLS_MAX 17667
#define GUARD    12345.75f

static const uint32_t all_types[] = {SL_TYPE_F32,  SL_TYPE_F16,  SL_TYPE_BF16, SL_TYPE_Q4_0,   SL_TYPE_Q4_1,
                                     SL_TYPE_Q8_0, SL_TYPE_Q5_0, SL_TYPE_Q5_1, SL_TYPE_Q2_K,   SL_TYPE_Q3_K,
                                     SL_TYPE_Q4_K, SL_TYPE_Q5_K, SL_TYPE_Q6_K, SL_TYPE_IQ4_NL, SL_TYPE_IQ4_XS};
#define TYPE_COUNT (sizeof all_types / sizeof *all_types)

/* A matrix in all its forms, a row of activations, and a set. */
typedef struct bed {
    uint64_t random;
    uint32_t type, rows, cols;
    uint8_t *file;
    uint8_t *panels;
    uint8_t *meta, *column_memory[COLS_MAX], *columns[COLS_MAX];
    float f32[COLS_MAX];
    sl_acts x;
    uint32_t member[COLS_MAX];
    const uint8_t *member_column[COLS_MAX];
    sl_columns w;
    float want[ROWS_MAX], got[ROWS_MAX + 1];
} bed;

static uint32_t below(bed *t, uint32_t n)
{
    return (uint32_t)(next_random(&t->random) % n);
}

/* ---- values ---- */

static void put_half(bed *t, uint8_t *at)
{
    static const uint16_t awkward[] = {0x0000, 0x8000, 0x0001, 0x83ff, 0x7bff, 0xfbff, 0x3c00, 0xbc00};
    uint16_t half = below(t, 8) == 0 ? awkward[below(t, 8)] : sl_f32_to_f16(random_float(&t->random) * 0.1f);
    memcpy(at, &half, sizeof half);
}

static void fill_unit(bed *t, uint8_t *at, size_t bytes)
{
    float value = random_float(&t->random);
    uint16_t half = t->type == SL_TYPE_F16 ? sl_f32_to_f16(value) : sl_f32_to_bf16(value);
    uint32_t kind = below(t, 8);
    if (t->type == SL_TYPE_F32)
        memcpy(at, &value, sizeof value);
    else if (!sl_format_of(t->type)->quantized)
        memcpy(at, &half, sizeof half);
    else {
        for (size_t i = 0; i < bytes; i++) /* the extremes as whole blocks: sums reach their limits */
            at[i] = kind == 0 ? 0x80 : kind == 1 ? 0xff : kind == 2 ? 0 : (uint8_t)next_random(&t->random);
        sli_layout layout = sli_layout_of(t->type);
        put_half(t, at + layout.half_offset[0]);
        if (layout.has_min)
            put_half(t, at + layout.half_offset[1]);
    }
}

static void fill_activations(bed *t)
{
    static const float sizes[] = {1.0f, 1.0f, 1.0f, 1e4f, 1e-4f, 1e-30f, 1e-39f, 0.0f};
    for (uint32_t k = 0; k < t->cols; k++)
        t->f32[k] = random_float(&t->random);
    for (uint32_t first = 0; first < t->cols; first += 32) {
        float size = sizes[below(t, 8)];
        uint32_t kind = below(t, 6);
        for (uint32_t k = first; k < first + 32 && k < t->cols; k++)
            t->f32[k] = size * (kind == 0 ? 1.0f : kind == 1 ? -1.0f : t->f32[k]);
    }
}

/* ---- a bed ---- */

static void pack_file(const bed *t, uint8_t *panels)
{
    size_t row_bytes = sl_row_bytes(t->type, t->cols);
    for (uint32_t first = 0; first < t->rows; first += SL_PANEL_ROWS, panels += sl_panel_bytes(t->type, t->cols)) {
        const uint8_t *rows[SL_PANEL_ROWS] = {0};
        for (uint32_t r = 0; r < SL_PANEL_ROWS && first + r < t->rows; r++)
            rows[r] = t->file + (first + r) * row_bytes;
        reference()->pack(t->type, rows, t->cols, panels);
    }
}

static bed *make_bed(uint32_t type, uint32_t rows, uint32_t cols, uint64_t seed)
{
    bed *t = calloc(1, sizeof *t);
    assert_non_null(t);
    uint32_t block = sl_format_of(type)->block_elements;
    cols = cols < block ? block : cols / block * block;
    assert_true(rows <= ROWS_MAX && cols <= COLS_MAX);
    t->random = seed * 1000003 + type;
    t->type = type;
    t->rows = rows;
    t->cols = cols;
    t->file = allocate(rows * sl_row_bytes(type, cols));
    size_t unit = sl_format_of(type)->block_bytes, bytes = rows * sl_row_bytes(type, cols);
    for (size_t i = 0; i < bytes; i += unit)
        fill_unit(t, t->file + i, unit);
    t->panels = allocate((rows + 15) / 16 * sl_panel_bytes(type, cols));
    pack_file(t, t->panels);
    t->meta = allocate(sl_column_meta_bytes(type, rows, cols) + 1);
    for (uint32_t n = 0; n < cols; n++) {
        t->column_memory[n] = malloc(sl_column_bytes(type, rows) + 1);
        assert_non_null(t->column_memory[n]);
        t->columns[n] = t->column_memory[n] + 1;
    }
    sl_columns_split(type, t->file, rows, cols, 0, rows, t->columns, t->meta);
    t->x = (sl_acts){.rows = 1, .cols = cols, .f32 = t->f32, .q = allocate(cols), .d = allocate(cols), .sum = allocate(cols)};
    t->w = (sl_columns){.type = type, .rows = rows, .cols = cols, .meta = t->meta, .member = t->member, .column = t->member_column};
    return t;
}

static void free_bed(bed *t)
{
    for (uint32_t n = 0; n < t->cols; n++)
        free(t->column_memory[n]);
    free(t->file);
    free(t->panels);
    free(t->meta);
    free(t->x.q);
    free(t->x.d);
    free(t->x.sum);
    free(t);
}

static void quantize(bed *t)
{
    if (sl_format_of(t->type)->quantized)
        reference()->quantize(&t->x, 0, 1);
}

/* Chooses a set: about density * cols neurons, exactly one where density is negative; the others' activations are zero. */
static void choose(bed *t, float density)
{
    uint32_t only = below(t, t->cols);
    fill_activations(t);
    t->w.count = 0;
    for (uint32_t n = 0; n < t->cols; n++) {
        bool in = density < 0 ? n == only : (float)below(t, 1000) < density * 1000.0f;
        if (in) {
            t->member[t->w.count] = n;
            t->member_column[t->w.count++] = t->columns[n];
        } else {
            t->f32[n] = 0.0f;
        }
    }
    quantize(t);
    reference()->matmul(t->type, t->panels, t->rows, &t->x, t->want, t->rows);
}

/* All rows in shares that are cut anywhere that is allowed, as threads do; rows of other shares are left alone. */
static void check_shares(bed *t, const sl_kernels *kernels)
{
    for (uint32_t r = 0; r <= t->rows; r++)
        t->got[r] = GUARD;
    for (uint32_t begin = 0, end; begin < t->rows; begin = end) {
        end = begin + 32 * (1 + below(t, 1 + t->rows / 32));
        end = end < t->rows ? end : t->rows;
        kernels->matmul_columns(&t->w, &t->x, begin, end, t->got);
        for (uint32_t r = end; r <= t->rows; r++)
            assert_true(t->got[r] == GUARD);
    }
    assert_same_bits(t->got, t->want, t->rows, sl_format_of(t->type)->name);
}

static const float densities[] = {0.0f, -1.0f, 0.05f, 0.3f, 0.5f, 1.0f};
#define DENSITIES (sizeof densities / sizeof *densities)

static void check_products(const sl_kernels *kernels)
{
    /* 2400 rows are more than a kernel takes at a time */
    static const uint32_t shapes[][2] = {{1, 32},   {19, 288},  {32, 64},    {33, 96},    {64, 544},
                                         {96, 256}, {100, 576}, {131, 1024}, {2400, 160}, {576, 1536}};
    for (size_t i = 0; i < TYPE_COUNT; i++)
        for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
            bool large = s + 1 == sizeof shapes / sizeof *shapes;
            bed *t = make_bed(all_types[i], shapes[s][0], shapes[s][1] + (sl_format_of(all_types[i])->quantized ? 0 : s % 4), s);
            for (size_t d = large ? 3 : 0; d < (large ? 4 : DENSITIES); d++) {
                choose(t, densities[d]);
                check_shares(t, kernels);
            }
            free_bed(t);
        }
}

static void the_reference_over_a_set_is_the_dense_product_with_zeros(void **state)
{
    (void)state;
    check_products(reference());
}

static void every_isa_over_a_set_gives_the_dense_product_with_zeros(void **state)
{
    (void)state;
    for_each_isa_with_own(offsetof(sl_kernels, matmul_columns), check_products);
}

/* All of a block but its 16-bit numbers. */
static void fill_words(bed *t, size_t block, int byte)
{
    sli_layout layout = sli_layout_of(t->type);
    memset(t->file + block * layout.block_bytes + layout.words_offset, byte, (size_t)layout.words * 4);
}

/* With dense activations and members that hold zeros, and sums at their limits. */
static void check_extremes(const sl_kernels *kernels)
{
    for (size_t i = 0; i < TYPE_COUNT; i++) {
        bed *t = make_bed(all_types[i], 64, 256, 9);
        if (sl_format_of(t->type)->quantized)
            for (size_t b = 0; b < (size_t)64 * 256 / sl_format_of(t->type)->block_elements; b++)
                fill_words(t, b, b % 3 == 0 ? 0x80 : b % 3 == 1 ? 0xff : 0x00);
        pack_file(t, t->panels);
        sl_columns_split(t->type, t->file, t->rows, t->cols, 0, t->rows, t->columns, t->meta);
        choose(t, 1.0f);
        for (uint32_t n = 0; n < t->cols; n++)
            t->f32[n] = n / 32 % 3 == 0 ? 0.0f : n / 32 % 3 == 1 ? 1.0f : -1.0f;
        quantize(t);
        reference()->matmul(t->type, t->panels, t->rows, &t->x, t->want, t->rows);
        check_shares(t, kernels);
        free_bed(t);
    }
}
static void integers_at_their_limits_do_not_overflow(void **state)
{
    (void)state;
    check_extremes(reference());
    for_each_isa_with_own(offsetof(sl_kernels, matmul_columns), check_extremes);
}

/* Several rows of activations, that have no set in common: all neurons are members. */
static void check_rows_together(const sl_kernels *kernels)
{
    static const uint32_t heights[] = {1, 16, 17, 40, 48, 100}, counts[] = {2, 3, 8, 33, 70, 5};
    for (size_t i = 0; i < TYPE_COUNT; i++)
        for (size_t h = 0; h < sizeof heights / sizeof *heights; h++) {
            bed *t = make_bed(all_types[i], heights[h], h % 2 ? 544 : 288, h);
            uint32_t rows = counts[h], blocks = t->cols / 32 + 1;
            choose(t, 1.0f);
            sl_acts x = {.rows = rows, .cols = t->cols, .q = allocate(rows * t->cols), .sum = allocate(rows * blocks * sizeof(int32_t))};
            float *f32 = allocate(rows * t->cols * sizeof *f32), *want = allocate(rows * t->rows * sizeof *want);
            float *got = allocate(rows * t->rows * sizeof *got);
            for (uint32_t k = 0; k < rows * t->cols; k++)
                f32[k] = below(t, 5) == 0 ? 0.0f : random_float(&t->random);
            x.f32 = f32;
            x.d = allocate(rows * blocks * sizeof *x.d);
            if (sl_format_of(t->type)->quantized)
                reference()->quantize(&x, 0, rows);
            reference()->matmul(t->type, t->panels, t->rows, &x, want, t->rows);
            for (uint32_t begin = 0; begin < t->rows; begin += 32)
                kernels->matmul_columns(&t->w, &x, begin, begin + 32 < t->rows ? begin + 32 : t->rows, got);
            assert_same_bits(got, want, rows * t->rows, sl_format_of(t->type)->name);
            free(x.q);
            free(x.sum);
            free(x.d);
            free(f32);
            free(want);
            free(got);
            free_bed(t);
        }
}
static void many_rows_through_columns_are_the_matrix_product(void **state)
{
    (void)state;
    check_rows_together(reference());
    for_each_isa_with_own(offsetof(sl_kernels, matmul_columns), check_rows_together);
}

/* `count` rows of the bed in any order, some of them twice, each in memory that ends with it. */
static void check_scattered(bed *t, const sl_kernels *kernels, uint32_t count)
{
    size_t bytes = sl_row_bytes(t->type, t->cols);
    uint32_t *chosen = allocate(count * sizeof *chosen);
    uint8_t **memory = allocate(count * sizeof *memory);
    const uint8_t **rows = allocate(count * sizeof *rows);
    float *out = allocate((count + 1) * sizeof *out);
    for (uint32_t i = 0; i < count; i++) {
        chosen[i] = below(t, t->rows);
        memory[i] = malloc(bytes + 1);
        assert_non_null(memory[i]);
        memcpy(memory[i] + i % 2, t->file + chosen[i] * bytes, bytes);
        rows[i] = memory[i] + i % 2;
    }
    out[count] = GUARD;
    kernels->dot_rows(t->type, rows, count, &t->x, out);
    assert_true(out[count] == GUARD);
    for (uint32_t i = 0; i < count; i++) {
        assert_same_bits(&out[i], &t->want[chosen[i]], 1, sl_format_of(t->type)->name);
        free(memory[i]);
    }
    free(chosen);
    free(memory);
    free(rows);
    free(out);
}

static void check_rows(const sl_kernels *kernels)
{
    static const uint32_t counts[] = {0, 1, 2, 7, 8, 9, 15, 16, 17, 24, 61};
    static const uint32_t widths[] = {32, 96, 256, 288, 576, 1536, 17664}; /* the last is more than kernels lay out at a time */
    for (size_t i = 0; i < TYPE_COUNT; i++)
        for (size_t c = 0; c < sizeof widths / sizeof *widths; c++) {
            bool quantized = sl_format_of(all_types[i])->quantized;
            bed *t = make_bed(all_types[i], 37, widths[c] + (quantized ? 0 : c % 4), c);
            choose(t, 1.0f);
            for (size_t n = 0; n < sizeof counts / sizeof *counts; n++)
                check_scattered(t, kernels, counts[n]);
            free_bed(t);
        }
}
static void scattered_rows_give_what_their_matrix_gives(void **state)
{
    (void)state;
    check_rows(reference());
    for_each_isa_with_own(offsetof(sl_kernels, matmul_columns), check_rows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_reference_over_a_set_is_the_dense_product_with_zeros),
        cmocka_unit_test(every_isa_over_a_set_gives_the_dense_product_with_zeros),
        cmocka_unit_test(integers_at_their_limits_do_not_overflow),
        cmocka_unit_test(many_rows_through_columns_are_the_matrix_product),
        cmocka_unit_test(scattered_rows_give_what_their_matrix_gives),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
