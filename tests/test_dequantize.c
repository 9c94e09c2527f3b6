/* tests/test_dequantize.c: what stored rows mean, as another implementation understands it.
 *
 * tests/golden/rows.txt comes from scripts/golden_rows.py: for each quantised format a row of random blocks and what the `gguf` package makes of it. No
 * format rounds more than once, so equality is asked for, not nearness. */
#include "core/cpu.h"
#include "kernels/kernels.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COLS        256
#define BYTES_MAX   (COLS / 32 * 34)
#define GOLDENS_MAX 32

typedef struct golden_row {
    char name[16];
    uint32_t type;
    uint8_t bytes[BYTES_MAX];
    float values[COLS];
} golden_row;

typedef struct goldens {
    size_t count;
    golden_row rows[GOLDENS_MAX];
} goldens;

static void *allocate(size_t bytes)
{
    void *memory = aligned_alloc(64, (bytes + 63) / 64 * 64);
    assert_non_null(memory);
    return memory;
}

static void read_row(FILE *file, golden_row *row)
{
    char stored[2 * BYTES_MAX + 1], values[8 * COLS + 1];
    assert_int_equal(fscanf(file, " %544s %2048s", stored, values), 2);
    assert_non_null(sl_format_by_name(row->name, &row->type));
    assert_int_equal(strlen(stored), 2 * sl_row_bytes(row->type, COLS));
    assert_int_equal(strlen(values), 8 * COLS);
    for (size_t i = 0; stored[2 * i]; i++) {
        char digits[3] = {stored[2 * i], stored[2 * i + 1]};
        row->bytes[i] = (uint8_t)strtoul(digits, NULL, 16);
    }
    for (size_t k = 0; k < COLS; k++) {
        char digits[9] = {0};
        memcpy(digits, values + 8 * k, 8);
        uint32_t bits = (uint32_t)strtoul(digits, NULL, 16);
        memcpy(&row->values[k], &bits, sizeof bits);
    }
}

static int read_goldens(void **state)
{
    goldens *g = calloc(1, sizeof *g);
    FILE *file = fopen("tests/golden/rows.txt", "r");
    if (g == NULL || file == NULL) {
        print_message("tests/golden/rows.txt: not here; tests run in the repository's root\n");
        return -1;
    }
    while (g->count < GOLDENS_MAX && fscanf(file, " %15s", g->rows[g->count].name) == 1)
        read_row(file, &g->rows[g->count++]);
    fclose(file);
    *state = g;
    return 0;
}

static int free_goldens(void **state)
{
    free(*state);
    return 0;
}

static void there_is_a_row_for_every_quantised_format_we_support(void **state)
{
    const goldens *g = *state;
    for (uint32_t type = 0; type < SL_TYPE_LIMIT; type++) {
        const sl_format *format = sl_format_of(type);
        size_t rows = 0;
        for (size_t i = 0; i < g->count; i++)
            rows += g->rows[i].type == type;
        if (format && format->supported && format->quantized && rows != 1)
            fail_msg("%s has %zu rows", format->name, rows);
    }
}

/* Packs the row as each of a panel's rows in turn; the other rows are absent. */
static void check_row(const sl_kernels *kernels, const golden_row *golden)
{
    float *values = allocate(COLS * sizeof *values);
    uint8_t *panel = allocate(sl_panel_bytes(golden->type, COLS));
    kernels->dequantize_row(golden->type, golden->bytes, COLS, values);
    for (uint32_t at = 0; at <= SL_PANEL_ROWS; at++) {
        for (size_t k = 0; k < COLS; k++)
            if (values[k] != golden->values[k])
                fail_msg("%s %s: element %zu is %a, the golden says %a", sl_isa_name(kernels->isa), golden->name, k, (double)values[k],
                         (double)golden->values[k]);
        if (at == SL_PANEL_ROWS)
            break;
        const uint8_t *rows[SL_PANEL_ROWS] = {0};
        rows[at] = golden->bytes;
        kernels->pack(golden->type, rows, COLS, panel);
        kernels->dequantize_panel_row(golden->type, panel, at, COLS, values);
    }
    free(panel);
    free(values);
}

static void rows_mean_what_the_gguf_package_says(void **state)
{
    const goldens *g = *state;
    for (int isa = 0; isa < SL_ISA_COUNT; isa++)
        for (size_t i = 0; i < g->count; i++)
            if (sl_kernels_for((sl_isa)isa) && sl_cpu_supports((sl_isa)isa))
                check_row(sl_kernels_for((sl_isa)isa), &g->rows[i]);
}

/* The product is that of the golden's values with the quantised activations, but for the roundings of some twenty additions in fp32. */
static void products_are_those_of_the_values_that_rows_mean(void **state)
{
    const goldens *g = *state;
    float f32[COLS], d[COLS / 32], out[SL_PANEL_ROWS];
    int8_t q[COLS];
    int32_t sum[COLS / 32];
    for (size_t k = 0; k < COLS; k++)
        f32[k] = sinf((float)(k * k)) * (k % 64 < 32 ? 1.0f : 0.1f);
    sl_acts x = {.rows = 1, .cols = COLS, .f32 = f32, .q = q, .d = d, .sum = sum};
    sl_kernels_for(SL_ISA_SCALAR)->quantize(&x, 0, 1);
    for (size_t i = 0; i < g->count; i++) {
        const golden_row *golden = &g->rows[i];
        const uint8_t *rows[SL_PANEL_ROWS] = {[3] = golden->bytes};
        uint8_t *panel = allocate(sl_panel_bytes(golden->type, COLS));
        sl_kernels_for(SL_ISA_SCALAR)->pack(golden->type, rows, COLS, panel);
        sl_kernels_for(SL_ISA_SCALAR)->matmul(golden->type, panel, SL_PANEL_ROWS, &x, out, SL_PANEL_ROWS);
        double exact = 0, size = 0;
        for (size_t k = 0; k < COLS; k++) {
            double product = (double)golden->values[k] * d[k / 32] * q[k];
            exact += product;
            size += fabs(product);
        }
        if (!(fabs(exact - (double)out[3]) <= 1e-6 * size))
            fail_msg("%s: %.9g, not %.9g of terms that make up %.9g", golden->name, (double)out[3], exact, size);
        free(panel);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(there_is_a_row_for_every_quantised_format_we_support),
        cmocka_unit_test(rows_mean_what_the_gguf_package_says),
        cmocka_unit_test(products_are_those_of_the_values_that_rows_mean),
    };
    return cmocka_run_group_tests(tests, read_goldens, free_goldens);
}
