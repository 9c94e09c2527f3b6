/* tests/test_columns.c: cutting a matrix into columns and joining it again, for every format that can be cut.
 *
 * Where a format keeps the bits of an element is not taken from us: tests/golden/block_bits.txt was found by experiment with the gguf package
 * (scripts/block-bits.py). */
#include "kernels/columns.h"
#include "tests/kernels_material.h"

#include <string.h>

#define COLUMNS_MAX 1024

/* All types that can be cut, with the bits of an element. */
static const struct {
    const char *name;
    uint32_t bits;
} kinds[] = {{"F32", 32}, {"F16", 16}, {"BF16", 16}, {"Q4_0", 4}, {"Q4_1", 4}, {"Q5_0", 5},   {"Q5_1", 5},  {"Q8_0", 8},
             {"Q2_K", 2}, {"Q3_K", 3}, {"Q4_K", 4},  {"Q5_K", 5}, {"Q6_K", 6}, {"IQ4_NL", 4}, {"IQ4_XS", 4}};
#define KINDS (sizeof kinds / sizeof *kinds)

static uint32_t type_of(const char *name)
{
    uint32_t type = 0;
    assert_non_null(sl_format_by_name(name, &type));
    return type;
}

/* A matrix and its cut form; each column has memory of its own, so that a sanitizer sees every step aside. */
typedef struct bed {
    uint32_t type, rows, cols;
    size_t matrix_bytes, column_bytes, meta_bytes;
    uint8_t *matrix, *meta;
    uint8_t *columns[COLUMNS_MAX];
} bed;

static bed make_bed(uint32_t type, uint32_t rows, uint32_t cols, uint64_t seed)
{
    bed t = {.type = type, .rows = rows, .cols = cols};
    assert_true(cols <= COLUMNS_MAX);
    t.matrix_bytes = rows * sl_row_bytes(type, cols);
    t.column_bytes = sl_column_bytes(type, rows);
    t.meta_bytes = sl_column_meta_bytes(type, rows, cols);
    t.matrix = malloc(t.matrix_bytes);
    t.meta = malloc(t.meta_bytes + 1);
    assert_non_null(t.matrix);
    assert_non_null(t.meta);
    memset(t.meta, 0x55, t.meta_bytes);
    for (uint32_t n = 0; n < cols; n++) {
        t.columns[n] = malloc(t.column_bytes);
        assert_non_null(t.columns[n]);
        memset(t.columns[n], 0x55, t.column_bytes);
    }
    for (size_t i = 0; i < t.matrix_bytes; i++)
        t.matrix[i] = (uint8_t)next_random(&seed);
    return t;
}

static void free_bed(bed *t)
{
    free(t->matrix);
    free(t->meta);
    for (uint32_t n = 0; n < t->cols; n++)
        free(t->columns[n]);
}

static void split(bed *t, uint32_t first, uint32_t count)
{
    const uint8_t *rows = t->matrix + first * sl_row_bytes(t->type, t->cols);
    sl_columns_split(t->type, rows, t->rows, t->cols, first, count, t->columns, t->meta);
}

static void join(const bed *t, uint32_t first, uint32_t count, uint8_t *matrix)
{
    uint8_t *rows = matrix + first * sl_row_bytes(t->type, t->cols);
    sl_columns_join(t->type, (const uint8_t *const *)t->columns, t->meta, t->rows, t->cols, first, count, rows);
}

static void check_round_trip(uint32_t type, uint32_t rows, uint32_t cols)
{
    bed t = make_bed(type, rows, cols, rows * 1000 + cols);
    uint8_t *back = malloc(t.matrix_bytes);
    assert_non_null(back);
    split(&t, 0, rows);
    memset(back, 0, t.matrix_bytes);
    join(&t, 0, rows, back);
    assert_memory_equal(back, t.matrix, t.matrix_bytes);
    free(back);
    free_bed(&t);
}

static void a_cut_matrix_is_joined_byte_for_byte(void **state)
{
    (void)state;
    static const uint32_t heights[] = {1, 31, 32, 33, 64, 100};
    for (size_t k = 0; k < KINDS; k++)
        for (size_t h = 0; h < sizeof heights / sizeof *heights; h++) {
            uint32_t type = type_of(kinds[k].name), block = sl_column_block(type);
            check_round_trip(type, heights[h], block);
            check_round_trip(type, heights[h], block == 1 ? 77 : 3 * block);
        }
}

static void parts_of_the_rows_give_what_all_rows_give(void **state)
{
    (void)state;
    for (size_t k = 0; k < KINDS; k++) {
        uint32_t type = type_of(kinds[k].name), cols = sl_column_block(type) == 1 ? 40 : sl_column_block(type), rows = 150;
        bed whole = make_bed(type, rows, cols, 3), parts = make_bed(type, rows, cols, 3);
        uint8_t *back = malloc(whole.matrix_bytes);
        assert_non_null(back);
        split(&whole, 0, rows);
        split(&parts, 96, 54); /* in any order */
        split(&parts, 0, 32);
        split(&parts, 32, 64);
        assert_memory_equal(whole.meta, parts.meta, whole.meta_bytes);
        for (uint32_t n = 0; n < cols; n++)
            assert_memory_equal(whole.columns[n], parts.columns[n], whole.column_bytes);
        join(&whole, 32, 64, back);
        join(&whole, 96, 54, back);
        join(&whole, 0, 32, back);
        assert_memory_equal(back, whole.matrix, whole.matrix_bytes);
        free(back);
        free_bed(&whole);
        free_bed(&parts);
    }
}

static void nothing_but_padding_is_added(void **state)
{
    (void)state;
    for (size_t k = 0; k < KINDS; k++) {
        uint32_t type = type_of(kinds[k].name), block = sl_column_block(type), cols = 2 * block;
        const uint32_t rows = 64;
        assert_int_equal(block, sl_format_of(type)->block_elements);
        assert_int_equal(sl_column_bytes(type, rows), rows * kinds[k].bits / 8);
        assert_int_equal(cols * sl_column_bytes(type, rows) + sl_column_meta_bytes(type, rows, cols), rows * sl_row_bytes(type, cols));
        if (block > 1)
            assert_int_equal(sl_column_bytes(type, 33), sl_column_bytes(type, 64));
    }
}

/* ---- bit by bit ---- */

/* A bit of the cut form: of neuron `column`, or of the meta data where that is -1. */
typedef struct bit {
    long column;
    size_t index;
} bit;

static size_t differing_bits(const uint8_t *a, const uint8_t *b, size_t bytes, size_t *index)
{
    size_t count = 0;
    for (size_t i = 0; i < bytes; i++)
        for (uint32_t bits = a[i] ^ b[i]; bits; bits &= bits - 1, count++)
            *index = 8 * i + (size_t)__builtin_ctz(bits);
    return count;
}

/* The one bit that follows bit `at` of the matrix. `t` has been split; `other` is a bed of the same matrix. */
static bit follow(const bed *t, bed *other, size_t at)
{
    bit found = {.column = -1};
    size_t count;
    other->matrix[at / 8] ^= (uint8_t)(1u << at % 8);
    split(other, 0, other->rows);
    count = differing_bits(t->meta, other->meta, t->meta_bytes, &found.index);
    for (uint32_t n = 0; n < t->cols; n++) {
        size_t here = differing_bits(t->columns[n], other->columns[n], t->column_bytes, &found.index);
        count += here;
        if (here)
            found.column = n;
    }
    other->matrix[at / 8] ^= (uint8_t)(1u << at % 8);
    if (count != 1)
        fail_msg("%s: bit %zu of the block is found %zu times", sl_format_of(t->type)->name, at, count);
    return found;
}

static void every_bit_of_a_block_is_kept_exactly_once(void **state)
{
    (void)state;
    for (size_t k = 0; k < KINDS; k++) {
        uint32_t type = type_of(kinds[k].name), block = sl_column_block(type);
        bed t = make_bed(type, 1, block, 5), other = make_bed(type, 1, block, 5);
        size_t shared = 0, own[256] = {0};
        split(&t, 0, 1);
        for (size_t at = 0; at < 8 * t.matrix_bytes; at++) {
            bit b = follow(&t, &other, at);
            if (b.column < 0)
                shared++;
            else
                own[b.column]++;
        }
        assert_int_equal(shared, 16 * sl_column_meta_words(type));
        for (uint32_t n = 0; n < block; n++)
            assert_int_equal(own[n], kinds[k].bits);
        free_bed(&t);
        free_bed(&other);
    }
}

/* Where columns.h says that bit `k` of an integer of `bits` bits lies in its column. */
static size_t place_of_bit(uint32_t bits, uint32_t rows, uint32_t row, uint32_t k)
{
    size_t base = 0;
    uint32_t plane = 8;
    for (;; plane /= 2) {
        if (!(bits & plane))
            continue;
        if (k < plane)
            break;
        k -= plane;
        base += (size_t)(rows + 31) / 32 * 4 * plane;
    }
    uint32_t run = 4 * plane, i = row % 32;
    return 8 * (base + row / 32 * 4 * plane + i % run) + i / run * plane + k;
}

static uint32_t bits_of(const char *name)
{
    for (size_t k = 0; k < KINDS; k++)
        if (strcmp(kinds[k].name, name) == 0)
            return kinds[k].bits;
    fail_msg("%s is not among the types that can be cut", name);
    return 0;
}

/* One line of the golden file, in row 37 of 70. */
static void check_golden_bits(const char *name, long element, const char *list)
{
    enum { ROWS = 70, ROW = 37 };
    uint32_t type = type_of(name), block = sl_column_block(type), bits = bits_of(name), k = 0;
    bed t = make_bed(type, ROWS, block, 7), other = make_bed(type, ROWS, block, 7);
    char *end;
    split(&t, 0, ROWS);
    for (long at = strtol(list, &end, 10); end != list; list = end, at = strtol(list, &end, 10), k++) {
        bit b = follow(&t, &other, 8 * ROW * sl_row_bytes(type, block) + (size_t)at);
        assert_int_equal(b.column, element);
        assert_int_equal(b.index, place_of_bit(bits, ROWS, ROW, k));
    }
    assert_int_equal(k, bits);
    free_bed(&t);
    free_bed(&other);
}

static void the_bits_of_an_element_are_those_that_gguf_decodes(void **state)
{
    (void)state;
    FILE *file = fopen("tests/golden/block_bits.txt", "r");
    char line[256], name[16], element[16];
    int at, lines = 0;
    assert_non_null(file);
    while (fgets(line, sizeof line, file)) {
        if (line[0] == '#')
            continue;
        assert_int_equal(sscanf(line, "%15s %15s%n", name, element, &at), 2);
        if (strcmp(element, "shared") == 0)
            assert_int_equal(strtol(line + at, NULL, 10), 16 * sl_column_meta_words(type_of(name)));
        else
            check_golden_bits(name, strtol(element, NULL, 10), line + at);
        lines++;
    }
    fclose(file);
    assert_int_equal(lines, 144);
}

static void types_that_cannot_be_cut_say_so(void **state)
{
    (void)state;
    assert_int_equal(sl_column_block(type_of("Q8_K")), 0);
    assert_int_equal(sl_column_block(type_of("IQ2_XS")), 0);
    assert_int_equal(sl_column_block(type_of("MXFP4")), 0);
    assert_int_equal(sl_column_block(SL_TYPE_LIMIT), 0);
    assert_int_equal(sl_column_block(UINT32_MAX), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cut_matrix_is_joined_byte_for_byte),
        cmocka_unit_test(parts_of_the_rows_give_what_all_rows_give),
        cmocka_unit_test(nothing_but_padding_is_added),
        cmocka_unit_test(every_bit_of_a_block_is_kept_exactly_once),
        cmocka_unit_test(the_bits_of_an_element_are_those_that_gguf_decodes),
        cmocka_unit_test(types_that_cannot_be_cut_say_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
