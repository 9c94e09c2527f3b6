/* tests/test_device_products.c: packing and products on a device, bit for bit those of the reference.
 *
 * All runs on the emulated device, threads and blocks in several orders, and with SLUICE_TEST_DEVICE=cuda on a real one. */
#include "tests/device_memory.h"
#include "tests/weights_material.h"

#define OUT_STRIDE 150 /* more than a matrix here has rows */
#define GUARD      12345.75f

static int open_bed(void **state)
{
    *state = device_bed_open();
    return 0;
}

static int close_bed(void **state)
{
    device_bed_close(*state);
    return 0;
}

/* ---- panels ---- */

static void check_pack(device_bed *t, uint32_t type, uint32_t rows, uint32_t cols, size_t offset, size_t gap)
{
    cols = fitting(type, cols);
    uint64_t random = type + rows;
    size_t row_bytes = sl_row_bytes(type, cols), stride = row_bytes + gap, bytes = (rows + 15) / 16 * sl_panel_bytes(type, cols);
    uint8_t *file = allocate(offset + rows * stride), *want = allocate(bytes), *got = allocate(bytes + 1);
    for (uint32_t r = 0; r < rows; r++)
        fill_rows(&random, type, file + offset + r * stride, row_bytes);
    pack_rows(type, file + offset, stride, rows, cols, want);
    memset(got, 0x77, bytes + 1);
    sl_device_ptr from = device_put(t, file, offset + rows * stride), panels = device_put(t, got, bytes + 1);
    device_ok(t->kernels->pack(t->device, type, from + offset, stride, rows, cols, panels, E));
    device_read(t, got, panels, bytes + 1);
    assert_memory_equal(got, want, bytes);
    assert_int_equal(got[bytes], 0x77);
    free(file);
    free(want);
    free(got);
    device_clear(t);
}

static void rows_of_any_alignment_and_stride_become_the_panels_of_the_reference(void **state)
{
    device_bed *t = *state;
    for (size_t i = 0; i < TYPE_COUNT; i++) {
        device_reopen(t, (unsigned)(i % 3));
        check_pack(t, all_types[i], 16, 32, 0, 0);
        check_pack(t, all_types[i], 1, 288, 1, 0);
        check_pack(t, all_types[i], 35, 1056, 3, 5); /* more than a block of threads takes of a row */
        if (!sl_format_of(all_types[i])->quantized)
            check_pack(t, all_types[i], 18, 37, 2, 1); /* floats have rows of any length */
    }
}

/* ---- products ---- */

/* One product with this many rows of activations, written where nothing else may be. */
static void check_matmul(device_bed *t, const material *m, uint32_t act_rows, unsigned order)
{
    sl_acts x = make_acts(act_rows, m->cols, m->random + act_rows);
    device_reopen(t, order);
    size_t results = (size_t)act_rows * OUT_STRIDE;
    float *want = allocate(results * sizeof *want), *got = allocate(results * sizeof *got);
    for (size_t i = 0; i < results; i++)
        want[i] = GUARD;
    sl_device_product p = {.type = m->type, .rows = m->rows, .panels = device_put(t, m->panels, m->panels_bytes), .out_stride = OUT_STRIDE};
    p.out = device_put(t, want, results * sizeof *want);
    sl_device_acts acts = device_put_acts(t, &x);
    device_ok(t->kernels->matmul(t->device, &p, 1, &acts, E));
    device_read(t, got, p.out, results * sizeof *got);
    reference()->matmul(m->type, m->panels, m->rows, &x, want, OUT_STRIDE);
    char what[64];
    snprintf(what, sizeof what, "%s, %u x %u, %u rows", sl_format_of(m->type)->name, m->rows, m->cols, act_rows);
    assert_same_bits(got, want, results, what);
    unmake_acts(&x);
    free(want);
    free(got);
    device_clear(t);
}

static void products_of_any_number_of_rows_are_the_references(void **state)
{
    static const uint32_t counts[] = {1, 2, 4, 7, 8, 9, 16, 17, 33, 64, 65, 128, 129};
    device_bed *t = *state;
    for (size_t i = 0; i < TYPE_COUNT; i++) {
        material m = make(all_types[i], 19, 288, i); /* two panels, the second with three rows; a segment that is not whole */
        for (size_t c = 0; c < sizeof counts / sizeof *counts; c++)
            check_matmul(t, &m, counts[c], (unsigned)c);
        unmake(&m);
    }
}

static void products_of_any_width_and_height_are_the_references(void **state)
{
    static const uint32_t shapes[][2] = {{1, 32}, {16, 64}, {33, 544}, {149, 256}, {5, 2592}};
    device_bed *t = *state;
    for (size_t i = 0; i < TYPE_COUNT; i++)
        for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
            material m = make(all_types[i], shapes[s][0], shapes[s][1], s);
            check_matmul(t, &m, 1, (unsigned)(s));
            check_matmul(t, &m, 3, (unsigned)(s + 1));
            if (sl_format_of(m.type)->quantized)
                check_matmul(t, &m, s == 4 ? 20 : 12, (unsigned)(s + 2));
            unmake(&m);
        }
}

static void a_row_of_more_segments_than_a_block_has_threads_for_is_summed_in_order(void **state)
{
    static const uint32_t types[] = {SL_TYPE_Q4_0, SL_TYPE_Q6_K, SL_TYPE_F16};
    device_bed *t = *state;
    for (size_t i = 0; i < 3; i++) {
        material m = make(types[i], 17, 17664, i);
        check_matmul(t, &m, 1, (unsigned)(i));
        check_matmul(t, &m, 5, (unsigned)(i));
        check_matmul(t, &m, 10, (unsigned)(i));
        unmake(&m);
    }
}

static void floats_may_have_rows_of_any_length(void **state)
{
    device_bed *t = *state;
    for (size_t i = 0; i < 3; i++)
        for (uint32_t cols = 1; cols < 300; cols = cols * 3 + 1) {
            material m = make(all_types[i], 18, cols, cols);
            check_matmul(t, &m, 1, cols);
            check_matmul(t, &m, 6, cols);
            check_matmul(t, &m, 11, cols);
            unmake(&m);
        }
}

/* ---- several products, biases and sums ---- */

typedef struct fused {
    material m;
    float *bias, *add, *want;
    bool in_place;
} fused;

/* out = add + (product + bias), with whatever of it there is. */
static void define_fused(fused *f, const sl_acts *x)
{
    reference()->matmul(f->m.type, f->m.panels, f->m.rows, x, f->want, OUT_STRIDE);
    for (size_t a = 0; a < x->rows; a++)
        for (size_t r = 0; r < f->m.rows; r++) {
            float *value = &f->want[a * OUT_STRIDE + r];
            *value = f->bias != NULL ? *value + f->bias[r] : *value;
            *value = f->add != NULL ? f->add[a * OUT_STRIDE + r] + *value : *value;
        }
}

static void check_fused(device_bed *t, uint32_t act_rows)
{
    enum { COUNT = 5 };
    static const uint32_t types[COUNT] = {SL_TYPE_Q4_K, SL_TYPE_Q6_K, SL_TYPE_Q4_K, SL_TYPE_F16, SL_TYPE_Q4_K};
    static const uint32_t rows[COUNT] = {48, 17, 16, 33, 1};
    sl_acts x = make_acts(act_rows, 512, 5);
    device_reopen(t, act_rows);
    size_t results = (size_t)act_rows * OUT_STRIDE;
    fused f[COUNT];
    sl_device_product p[COUNT];
    float *got = allocate(results * sizeof *got);
    for (size_t i = 0; i < COUNT; i++) {
        f[i] = (fused){.m = make(types[i], rows[i], 512, i), .want = allocate(results * sizeof *f[i].want), .in_place = i == 1};
        fill(f[i].want, results, i);
        p[i] = (sl_device_product){.type = types[i], .rows = rows[i], .out_stride = OUT_STRIDE};
        p[i].panels = device_put(t, f[i].m.panels, f[i].m.panels_bytes);
        p[i].out = device_put(t, f[i].want, results * sizeof *f[i].want);
        if (i != 0) {
            f[i].bias = allocate(rows[i] * sizeof *f[i].bias);
            fill(f[i].bias, rows[i], i + 10);
            p[i].bias = device_put(t, f[i].bias, rows[i] * sizeof *f[i].bias);
        }
        if (i != 2) {
            f[i].add = allocate(results * sizeof *f[i].add);
            fill(f[i].add, results, f[i].in_place ? i : i + 20);
            p[i].add = f[i].in_place ? p[i].out : device_put(t, f[i].add, results * sizeof *f[i].add);
        }
        define_fused(&f[i], &x);
    }
    sl_device_acts acts = device_put_acts(t, &x);
    device_ok(t->kernels->matmul(t->device, p, COUNT, &acts, E));
    for (size_t i = 0; i < COUNT; i++) {
        device_read(t, got, p[i].out, results * sizeof *got);
        assert_same_bits(got, f[i].want, results, "one of several products");
        unmake(&f[i].m);
        free(f[i].bias);
        free(f[i].add);
        free(f[i].want);
    }
    unmake_acts(&x);
    free(got);
    device_clear(t);
}

static void products_of_one_source_have_their_own_types_biases_and_sums(void **state)
{
    check_fused(*state, 1);
    check_fused(*state, 6);
    check_fused(*state, 13);
    check_fused(*state, 130);
}

static void no_product_and_a_product_without_rows_do_nothing(void **state)
{
    device_bed *t = *state;
    sl_acts x = make_acts(1, 32, 1);
    sl_device_acts acts = device_put_acts(t, &x);
    sl_device_product p = {.type = SL_TYPE_Q4_0};
    device_ok(t->kernels->matmul(t->device, NULL, 0, &acts, E));
    device_ok(t->kernels->matmul(t->device, &p, 1, &acts, E));
    device_ok(t->device->ops->synchronize(t->device, SL_STREAM_COMPUTE, E));
    unmake_acts(&x);
    device_clear(t);
}

/* Whatever an address is told on the way, its bits are those of the reference (kernels.h, D2): with 32 products of one launch, too. */
static void a_launch_takes_as_many_products_as_it_says(void **state)
{
    device_bed *t = *state;
    material m = make(SL_TYPE_Q5_1, 20, 96, 3);
    sl_acts x = make_acts(2, m.cols, 4);
    sl_device_product p[SL_DEVICE_PRODUCTS];
    float want[2 * 20], got[2 * 20];
    reference()->matmul(m.type, m.panels, m.rows, &x, want, m.rows);
    sl_device_ptr panels = device_put(t, m.panels, m.panels_bytes);
    for (uint32_t i = 0; i < SL_DEVICE_PRODUCTS; i++)
        p[i] = (sl_device_product){
            .type = m.type, .rows = m.rows, .panels = panels, .out = device_room(t, sizeof got), .out_stride = m.rows};
    sl_device_acts acts = device_put_acts(t, &x);
    device_ok(t->kernels->matmul(t->device, p, SL_DEVICE_PRODUCTS, &acts, E));
    for (uint32_t i = 0; i < SL_DEVICE_PRODUCTS; i++) {
        device_read(t, got, p[i].out, sizeof got);
        assert_same_bits(got, want, 2 * 20, "one of 32 products");
    }
    unmake(&m);
    unmake_acts(&x);
    device_clear(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(rows_of_any_alignment_and_stride_become_the_panels_of_the_reference, open_bed, close_bed),
        cmocka_unit_test_setup_teardown(products_of_any_number_of_rows_are_the_references, open_bed, close_bed),
        cmocka_unit_test_setup_teardown(products_of_any_width_and_height_are_the_references, open_bed, close_bed),
        cmocka_unit_test_setup_teardown(a_row_of_more_segments_than_a_block_has_threads_for_is_summed_in_order, open_bed, close_bed),
        cmocka_unit_test_setup_teardown(floats_may_have_rows_of_any_length, open_bed, close_bed),
        cmocka_unit_test_setup_teardown(products_of_one_source_have_their_own_types_biases_and_sums, open_bed, close_bed),
        cmocka_unit_test_setup_teardown(no_product_and_a_product_without_rows_do_nothing, open_bed, close_bed),
        cmocka_unit_test_setup_teardown(a_launch_takes_as_many_products_as_it_says, open_bed, close_bed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
