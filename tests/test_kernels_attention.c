/* tests/test_kernels_attention.c: attention, the reference against plain double arithmetic, every instruction set that this machine
 * runs against the reference, bit for bit: types, shapes, windows, batches. */
#include "tests/kernels_material.h"

typedef struct attention_case {
    uint32_t head_dim, group, rows, pos0, window, k_type, v_type;
} attention_case;

enum { MAX_PAGES = 16, GUARD = 64 };

/* A job over pages of its own. What no query may see is poisoned: slots after the last position hold huge values, pages before the
 * window are not there at all. */
typedef struct fixture {
    sl_attention job;
    const uint8_t *k_pages[MAX_PAGES], *v_pages[MAX_PAGES];
    uint8_t *memory[2 * MAX_PAGES];
    float *q;
    size_t floats; /* of q and of an output */
} fixture;

static void fixture_make(fixture *f, attention_case c, uint64_t seed)
{
    uint32_t positions = c.pos0 + c.rows, pages = (positions + SL_KV_PAGE - 1) / SL_KV_PAGE;
    uint32_t begin = c.window != 0 && c.pos0 >= c.window ? c.pos0 - c.window + 1 : 0;
    float x[512];
    assert_true(pages <= MAX_PAGES);
    memset(f, 0, sizeof *f);
    for (uint32_t page = begin / SL_KV_PAGE; page < pages; page++) {
        uint8_t *k = allocate(sl_kv_page_bytes(c.k_type, c.head_dim)), *v = allocate(sl_kv_page_bytes(c.v_type, c.head_dim));
        for (uint32_t i = 0; i < SL_KV_PAGE; i++) {
            float size = page * SL_KV_PAGE + i < positions ? 1.0f : 3000.0f;
            for (int value = 0; value < 2; value++) {
                for (uint32_t j = 0; j < c.head_dim; j++)
                    x[j] = random_float(&seed) * size;
                if (value)
                    reference()->kv_store_v(c.v_type, v, i, x, c.head_dim);
                else
                    reference()->kv_store_k(c.k_type, k, i, x, c.head_dim);
            }
        }
        f->k_pages[page] = f->memory[2 * page] = k;
        f->v_pages[page] = f->memory[2 * page + 1] = v;
    }
    size_t stride = (size_t)c.group * c.head_dim + 7;
    f->floats = c.rows * stride;
    f->q = allocate(f->floats * sizeof *f->q);
    for (size_t i = 0; i < f->floats; i++)
        f->q[i] = random_float(&seed) * 5.0f;
    f->job = (sl_attention){.head_dim = c.head_dim,
                            .group = c.group,
                            .rows = c.rows,
                            .pos0 = c.pos0,
                            .window = c.window,
                            .scale = 1.0f / sqrtf((float)c.head_dim),
                            .k_type = c.k_type,
                            .v_type = c.v_type,
                            .k_pages = f->k_pages,
                            .v_pages = f->v_pages,
                            .q = f->q,
                            .q_stride = stride,
                            .out_stride = stride};
}

static void fixture_free(fixture *f)
{
    for (size_t i = 0; i < 2 * MAX_PAGES; i++)
        free(f->memory[i]);
    free(f->q);
}

/* Rows [row, row + rows) of the fixture's job into a fresh output; what lies between heads and behind the scratch must stay. */
static float *attend(const sl_kernels *kernels, const fixture *f, uint32_t row, uint32_t rows)
{
    sl_attention job = f->job;
    size_t scratch_bytes = sl_attention_scratch_bytes(job.head_dim, job.group), head_floats = (size_t)job.group * job.head_dim;
    float *out = allocate(f->floats * sizeof *out);
    uint8_t *scratch = allocate(scratch_bytes + GUARD);
    memset(scratch, 0xa5, scratch_bytes + GUARD); /* as floats: finite nonsense */
    job.rows = rows;
    job.pos0 += row;
    job.q += row * job.q_stride;
    job.out = out + row * job.out_stride;
    job.scratch = (float *)scratch;
    kernels->attention(&job);
    for (size_t i = 0; i < GUARD; i++)
        assert_int_equal(scratch[scratch_bytes + i], 0xa5);
    for (size_t r = 0; r < f->job.rows; r++)
        for (size_t i = head_floats; i < job.out_stride; i++)
            assert_true(out[r * job.out_stride + i] == 0.0f);
    free(scratch);
    return out;
}

static void attention_matches(const sl_kernels *kernels, attention_case c, uint64_t seed)
{
    fixture f;
    char what[160];
    fixture_make(&f, c, seed);
    snprintf(what, sizeof what, "%s attention, head_dim %u group %u rows %u pos0 %u window %u types %u %u", sl_isa_name(kernels->isa),
             c.head_dim, c.group, c.rows, c.pos0, c.window, c.k_type, c.v_type);
    float *got = attend(kernels, &f, 0, c.rows), *want = attend(reference(), &f, 0, c.rows);
    assert_same_bits(got, want, f.floats, what);
    free(got);
    free(want);
    fixture_free(&f);
}

static void attention_matches_at_all_positions(const sl_kernels *kernels)
{
    const uint32_t groups[] = {1, 3, 4, 8}, positions[] = {0, 1, 63, 64, 65, 500}, windows[] = {0, 1, 40, 64, 100};
    uint32_t n = 0; /* walks through types and head sizes beside the loops: every pair of values meets, not every triple */
    for (size_t g = 0; g < 4; g++)
        for (size_t p = 0; p < 6; p++)
            for (size_t w = 0; w < 5; w++, n++)
                attention_matches(kernels,
                                  (attention_case){.head_dim = n % 3 == 0   ? 16
                                                               : n % 3 == 1 ? 32
                                                                            : 64,
                                                   .group = groups[g],
                                                   .rows = 1,
                                                   .pos0 = positions[p],
                                                   .window = windows[w],
                                                   .k_type = kv_types[n % 3 == 0 ? n % KV_FLOAT_TYPES : n / 3 % KV_TYPES],
                                                   .v_type = kv_types[n % 3 == 0 ? n / 2 % KV_FLOAT_TYPES : n / 15 % KV_TYPES]},
                                  n);
}

static void attention_matches_for_all_shapes(const sl_kernels *kernels)
{
    const uint32_t rows[] = {1, 2, 5, 9, 17, 33};
    uint32_t n = 0;
    for (size_t d = 0; d < HEAD_DIMS; d++)
        for (size_t t = 0; t < KV_TYPES * KV_TYPES; t++, n++)
            if (storable(kv_types[t % KV_TYPES], head_dims[d]) && storable(kv_types[t / KV_TYPES], head_dims[d]))
                attention_matches(kernels,
                                  (attention_case){.head_dim = head_dims[d],
                                                   .group = 1 + n % 5,
                                                   .rows = rows[n % 6],
                                                   .pos0 = 50 + n % 30,
                                                   .window = n % 4 == 3 ? 20 : 0,
                                                   .k_type = kv_types[t % KV_TYPES],
                                                   .v_type = kv_types[t / KV_TYPES]},
                                  n);
}

static void attention_matches_for_batches(const sl_kernels *kernels)
{
    for (size_t t = 0; t < KV_TYPES; t++) {
        attention_matches(kernels, (attention_case){64, 3, 150, 0, 0, kv_types[t], kv_types[t]}, t);
        attention_matches(kernels, (attention_case){64, 4, 100, 60, 70, kv_types[t], kv_types[t]}, t);
        attention_matches(kernels, (attention_case){32, 1, 200, 31, 1, kv_types[t], kv_types[t]}, t);
        attention_matches(kernels, (attention_case){32, 71, 3, 130, 0, kv_types[t], kv_types[t]}, t);
    }
}

static void attention_of_one_row_equals_the_reference(void **state)
{
    (void)state;
    for_each_isa_with_own(offsetof(sl_kernels, attention), attention_matches_at_all_positions);
}

static void attention_of_every_shape_and_type_equals_the_reference(void **state)
{
    (void)state;
    for_each_isa_with_own(offsetof(sl_kernels, attention), attention_matches_for_all_shapes);
}

static void attention_of_batches_across_pages_equals_the_reference(void **state)
{
    (void)state;
    for_each_isa_with_own(offsetof(sl_kernels, attention), attention_matches_for_batches);
}

static void batches_match_single_rows(const sl_kernels *kernels)
{
    const attention_case cases[] = {{64, 3, 140, 59, 0, SL_TYPE_F16, SL_TYPE_F16},  {128, 8, 70, 640, 0, SL_TYPE_Q8_0, SL_TYPE_Q8_0},
                                    {80, 5, 66, 100, 90, SL_TYPE_F16, SL_TYPE_F32}, {512, 2, 40, 50, 0, SL_TYPE_F32, SL_TYPE_F16},
                                    {64, 3, 70, 20, 0, SL_TYPE_Q4_0, SL_TYPE_BF16}, {96, 2, 50, 100, 70, SL_TYPE_BF16, SL_TYPE_Q4_0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fixture f;
        fixture_make(&f, cases[i], i);
        float *batch = attend(kernels, &f, 0, cases[i].rows);
        for (uint32_t row = 0, rows; row < cases[i].rows; row += rows) {
            rows = 1 + row % 4; /* single rows and small runs */
            if (rows > cases[i].rows - row)
                rows = cases[i].rows - row;
            float *part = attend(kernels, &f, row, rows);
            size_t begin = row * f.job.out_stride;
            assert_same_bits(part + begin, batch + begin, rows * f.job.out_stride, "rows apart");
            free(part);
        }
        free(batch);
        fixture_free(&f);
    }
}

static void a_batch_of_rows_equals_its_rows_apart(void **state)
{
    (void)state;
    for_each_isa_with_own(offsetof(sl_kernels, attention), batches_match_single_rows);
}

/* ---- trees ---- */

typedef struct branches {
    uint8_t depth[SL_TREE_ROWS], path[SL_TREE_ROWS][SL_TREE_ROWS];
} branches;

/* Mostly long branches: a row follows one of the four before it. */
static void grow(branches *t, uint32_t rows, uint64_t *seed)
{
    memset(t, 0, sizeof *t);
    for (uint32_t row = 1; row < rows; row++) {
        uint32_t back = 1 + (uint32_t)(fabsf(random_float(seed)) * 3.99f), parent = back > row ? 0 : row - back;
        memcpy(t->path[row], t->path[parent], SL_TREE_ROWS);
        t->depth[row] = (uint8_t)(t->depth[parent] + 1);
        t->path[row][t->depth[row]] = (uint8_t)row;
    }
}

/* The reference on row `row`'s path as a chain: the pages from the root's on are copied, then the path's slots one behind the other. */
static float *attend_path(const fixture *f, const branches *t, uint32_t row)
{
    fixture chain = *f;
    const sl_attention *job = &f->job;
    uint32_t first = job->pos0 / SL_KV_PAGE, last = (job->pos0 + job->rows - 1) / SL_KV_PAGE;
    size_t k_bytes = sl_kv_page_bytes(job->k_type, job->head_dim), v_bytes = sl_kv_page_bytes(job->v_type, job->head_dim);
    for (uint32_t page = first; page <= last; page++) {
        chain.k_pages[page] = memcpy(allocate(k_bytes), f->k_pages[page], k_bytes);
        chain.v_pages[page] = memcpy(allocate(v_bytes), f->v_pages[page], v_bytes);
    }
    for (uint32_t d = 0; d <= t->depth[row]; d++) {
        uint32_t from = job->pos0 + t->path[row][d], to = job->pos0 + d;
        reference()->kv_copy_k(job->k_type, f->k_pages[from / SL_KV_PAGE], from % SL_KV_PAGE,
                               (uint8_t *)(uintptr_t)chain.k_pages[to / SL_KV_PAGE], to % SL_KV_PAGE, job->head_dim);
        reference()->kv_copy_v(job->v_type, f->v_pages[from / SL_KV_PAGE], from % SL_KV_PAGE,
                               (uint8_t *)(uintptr_t)chain.v_pages[to / SL_KV_PAGE], to % SL_KV_PAGE, job->head_dim);
    }
    chain.job.k_pages = chain.k_pages;
    chain.job.v_pages = chain.v_pages;
    chain.job.tree = NULL;
    chain.job.pos0 = job->pos0 + t->depth[row] - row; /* attend() adds the row to it */
    float *out = attend(reference(), &chain, row, 1);
    for (uint32_t page = first; page <= last; page++) {
        free((void *)(uintptr_t)chain.k_pages[page]);
        free((void *)(uintptr_t)chain.v_pages[page]);
    }
    return out;
}

static void trees_match(const sl_kernels *kernels)
{
    static const uint32_t rows[] = {24, 1, 9, 128, 40}, positions[] = {0, 40, 63, 64, 191}, windows[] = {0, 0, 30, 1};
    uint64_t seed = 3;
    for (uint32_t n = 0; n < 60; n++) {
        attention_case c = {.head_dim = head_dims[n % HEAD_DIMS],
                            .group = n == 7 ? 71 : 1 + n % 4,
                            .rows = rows[n % 5],
                            .pos0 = positions[n / 5 % 5],
                            .window = windows[n / 3 % 4],
                            .k_type = kv_types[n % KV_TYPES],
                            .v_type = kv_types[n / 4 % KV_TYPES]};
        if (!storable(c.k_type, c.head_dim) || !storable(c.v_type, c.head_dim))
            continue;
        fixture f;
        branches t;
        fixture_make(&f, c, n);
        grow(&t, c.rows, &seed);
        sl_attention_tree tree = {t.depth, (const uint8_t(*)[SL_TREE_ROWS])t.path};
        f.job.tree = &tree;
        float *got = attend(kernels, &f, 0, c.rows);
        for (uint32_t row = 0; row < c.rows; row += kernels->isa == SL_ISA_SCALAR ? 1 : 5) {
            float *chain = attend_path(&f, &t, row);
            assert_same_bits(got + row * f.job.out_stride, chain + row * f.job.out_stride, f.job.out_stride, "a tree's row");
            free(chain);
        }
        float *want = attend(reference(), &f, 0, c.rows);
        assert_same_bits(got, want, f.floats, "a tree");
        free(want);
        free(got);
        fixture_free(&f);
    }
}

static void a_row_of_a_tree_equals_its_path_as_a_chain(void **state)
{
    (void)state;
    for_each_isa_with_own(offsetof(sl_kernels, attention), trees_match);
    trees_match(reference());
}

/* Scores from 0 down to -110 in fine steps, values that are one-hot: each output shows the bits of one exp. */
static void exponentials_match(const sl_kernels *kernels)
{
    enum { DIM = 64, ROUNDS = 200 };
    float *k = allocate(DIM * SL_KV_PAGE * sizeof *k), *v = allocate(DIM * SL_KV_PAGE * sizeof *v);
    float *scratch = allocate(sl_attention_scratch_bytes(DIM, 1));
    float q[DIM] = {1.0f}, got[DIM], want[DIM];
    const uint8_t *k_page = (const uint8_t *)k, *v_page = (const uint8_t *)v;
    sl_attention job = {.head_dim = DIM,
                        .group = 1,
                        .rows = 1,
                        .pos0 = 63,
                        .scale = 1.0f,
                        .k_type = SL_TYPE_F32,
                        .v_type = SL_TYPE_F32,
                        .k_pages = &k_page,
                        .v_pages = &v_page,
                        .q = q,
                        .q_stride = DIM,
                        .out_stride = DIM,
                        .scratch = scratch};
    for (size_t i = 0; i < SL_KV_PAGE; i++)
        v[i * DIM + i] = 1.0f;
    uint64_t seed = 1;
    for (int round = 0; round < ROUNDS; round++) {
        for (size_t i = 1; i < SL_KV_PAGE; i++)
            k[i] = -110.0f * fabsf(random_float(&seed));
        job.out = got;
        kernels->attention(&job);
        job.out = want;
        reference()->attention(&job);
        assert_same_bits(got, want, DIM, "exp inside attention");
    }
    free(k);
    free(v);
    free(scratch);
}

static void exp_has_the_same_bits_in_every_instruction_set(void **state)
{
    (void)state;
    for_each_isa_with_own(offsetof(sl_kernels, attention), exponentials_match);
}

/* The second row's output underflows to a negative zero; in a large batch it is multiplied with positions it does not see, alone it
 * is not. Nobody may notice. */
static void zeros_match(const sl_kernels *kernels)
{
    enum { DIM = 16, ROWS = 20 };
    float *k = allocate(DIM * SL_KV_PAGE * sizeof *k), *v = allocate(DIM * SL_KV_PAGE * sizeof *v);
    float *scratch = allocate(sl_attention_scratch_bytes(DIM, 1));
    float q[ROWS * DIM] = {0}, batch[ROWS * DIM], alone[DIM], want[ROWS * DIM];
    const uint8_t *k_page = (const uint8_t *)k, *v_page = (const uint8_t *)v;
    for (int row = 0; row < ROWS; row++)
        q[row * DIM] = 1.0f;
    k[1] = -80.0f;
    for (int c = 0; c < DIM; c++) {
        v[1 * DIM + c] = -1e-30f;
        v[2 * DIM + c] = 1.0f;
    }
    sl_attention job = {.head_dim = DIM,
                        .group = 1,
                        .rows = ROWS,
                        .scale = 1.0f,
                        .k_type = SL_TYPE_F32,
                        .v_type = SL_TYPE_F32,
                        .k_pages = &k_page,
                        .v_pages = &v_page,
                        .q = q,
                        .q_stride = DIM,
                        .out = batch,
                        .out_stride = DIM,
                        .scratch = scratch};
    kernels->attention(&job);
    job.out = want;
    reference()->attention(&job);
    assert_same_bits(batch, want, ROWS * DIM, "batch with a zero");
    job.out = alone;
    job.rows = 1;
    job.pos0 = 1;
    kernels->attention(&job);
    assert_same_bits(alone, batch + DIM, DIM, "row with a zero, alone");
    assert_true(alone[0] == 0.0f && !signbit(alone[0]));
    free(k);
    free(v);
    free(scratch);
}

static void the_sign_of_a_zero_does_not_depend_on_the_batch(void **state)
{
    (void)state;
    for_each_isa_with_own(offsetof(sl_kernels, attention), zeros_match);
}

static void attention_is_softmax_of_scaled_products(void **state)
{
    (void)state;
    fixture f;
    attention_case c = {32, 2, 3, 130, 100, SL_TYPE_F32, SL_TYPE_F32};
    fixture_make(&f, c, 5);
    float *out = attend(reference(), &f, 0, c.rows);
    for (uint32_t r = 0; r < c.rows; r++) {
        for (uint32_t h = 0; h < c.group; h++) {
            const float *q = f.q + r * f.job.q_stride + h * c.head_dim;
            double weights[256], sum = 0.0;
            uint32_t position = c.pos0 + r, begin = position - c.window + 1;
            for (uint32_t i = begin; i <= position; i++) {
                const float *k = (const float *)f.k_pages[i / SL_KV_PAGE] + i % SL_KV_PAGE;
                double score = 0.0;
                for (uint32_t d = 0; d < c.head_dim; d++)
                    score += (double)q[d] * k[d * SL_KV_PAGE];
                sum += weights[i - begin] = exp(score / sqrt((double)c.head_dim));
            }
            for (uint32_t d = 0; d < c.head_dim; d++) {
                double want = 0.0;
                for (uint32_t i = begin; i <= position; i++)
                    want += weights[i - begin] / sum * ((const float *)f.v_pages[i / SL_KV_PAGE])[i % SL_KV_PAGE * c.head_dim + d];
                assert_true(fabs(out[r * f.job.out_stride + h * c.head_dim + d] - want) < 1e-5);
            }
        }
    }
    free(out);
    fixture_free(&f);
}

static void scratch_stays_below_its_bound(void **state)
{
    (void)state;
    for (uint32_t head_dim = 16; head_dim <= 512; head_dim += 16)
        assert_in_range(sl_attention_scratch_bytes(head_dim, 8), 1, 256 * 1024);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attention_of_one_row_equals_the_reference),
        cmocka_unit_test(attention_of_every_shape_and_type_equals_the_reference),
        cmocka_unit_test(attention_of_batches_across_pages_equals_the_reference),
        cmocka_unit_test(a_batch_of_rows_equals_its_rows_apart),
        cmocka_unit_test(a_row_of_a_tree_equals_its_path_as_a_chain),
        cmocka_unit_test(exp_has_the_same_bits_in_every_instruction_set),
        cmocka_unit_test(the_sign_of_a_zero_does_not_depend_on_the_batch),
        cmocka_unit_test(attention_is_softmax_of_scaled_products),
        cmocka_unit_test(scratch_stays_below_its_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
