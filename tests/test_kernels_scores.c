/* tests/test_kernels_scores.c: what SparQ chooses positions by, the reference against plain double arithmetic, every instruction set that this machine
 * runs against the reference, bit for bit. */
#include "tests/kernels_material.h"

enum { PAGES = 5, POSITIONS = PAGES * SL_KV_PAGE, GROUP_MAX = 9 };

/* Pages of keys that hold random numbers, some pages of which are not there. */
typedef struct keys {
    uint32_t type, head_dim;
    const uint8_t *pages[PAGES];
    float *x; /* [position][head_dim] as they were before storing */
} keys;

static keys make_keys(uint32_t type, uint32_t head_dim, uint32_t begin, uint32_t end, uint64_t seed)
{
    keys k = {.type = type, .head_dim = head_dim, .x = allocate((size_t)POSITIONS * head_dim * sizeof(float))};
    fill(k.x, (size_t)POSITIONS * head_dim, seed);
    for (uint32_t page = begin; page < end; page++) {
        uint8_t *memory = allocate(sl_kv_page_bytes(type, head_dim));
        for (uint32_t i = 0; i < SL_KV_PAGE; i++)
            reference()->kv_store_k(type, memory, i, k.x + ((size_t)page * SL_KV_PAGE + i) * head_dim, head_dim);
        k.pages[page] = memory;
    }
    return k;
}

static void free_keys(keys *k)
{
    for (uint32_t page = 0; page < PAGES; page++)
        free((void *)(uintptr_t)k->pages[page]);
    free(k->x);
}

/* About every third component, in an order that meets the blocks' ends. */
static uint32_t some_components(uint32_t head_dim, uint32_t n, uint32_t *component)
{
    uint32_t count = 0;
    for (uint32_t c = n % 3; c < head_dim; c += 1 + (c + n) % 5)
        component[count++] = c;
    return count;
}

static float *scores_of(const sl_kernels *kernels, sl_key_scores job)
{
    float *out = allocate(job.group * job.out_stride * sizeof *out);
    for (size_t i = 0; i < job.group * job.out_stride; i++)
        out[i] = -7.0f;
    job.out = out;
    kernels->key_scores(&job);
    return out;
}

static void scores_match(const sl_kernels *kernels)
{
    for (uint32_t n = 0; n < 3 * HEAD_DIMS * KV_TYPES; n++) {
        uint32_t type = kv_types[n % KV_TYPES], head_dim = head_dims[n / KV_TYPES % HEAD_DIMS], begin = n % 2, end = PAGES - n % 3;
        uint32_t component[512], count = some_components(head_dim, n, component);
        if (!storable(type, head_dim))
            continue;
        keys k = make_keys(type, head_dim, begin, end, n);
        float *q = allocate((size_t)GROUP_MAX * count * sizeof *q);
        fill(q, (size_t)GROUP_MAX * count, n + 1000);
        sl_key_scores job = {.head_dim = head_dim,
                             .group = 1 + n % GROUP_MAX,
                             .k_type = type,
                             .k_pages = k.pages,
                             .page_begin = begin,
                             .page_end = end,
                             .count = count,
                             .component = component,
                             .q = q,
                             .out_stride = POSITIONS + SL_KV_PAGE};
        float *got = scores_of(kernels, job), *want = scores_of(reference(), job);
        assert_same_bits(got, want, job.group * job.out_stride, "scores"); /* what belongs to no page stays, too */
        free(got);
        free(want);
        free(q);
        free_keys(&k);
    }
}

static void scores_equal_the_reference(void **state)
{
    (void)state;
    for_each_isa(scores_match);
}

static void scores_are_products_of_the_named_components(void **state)
{
    (void)state;
    enum { DIM = 48, COUNT = 3, GROUP = 2 };
    const uint32_t component[COUNT] = {1, 31, 47};
    keys k = make_keys(SL_TYPE_F32, DIM, 0, PAGES, 3);
    float q[GROUP * COUNT];
    fill(q, GROUP * COUNT, 4);
    sl_key_scores job = {.head_dim = DIM,
                         .group = GROUP,
                         .k_type = SL_TYPE_F32,
                         .k_pages = k.pages,
                         .page_end = PAGES,
                         .count = COUNT,
                         .component = component,
                         .q = q,
                         .out_stride = POSITIONS};
    float *out = scores_of(reference(), job);
    for (uint32_t h = 0; h < GROUP; h++)
        for (uint32_t i = 0; i < POSITIONS; i++) {
            double want = 0;
            for (uint32_t n = 0; n < COUNT; n++)
                want += (double)q[h * COUNT + n] * k.x[(size_t)i * DIM + component[n]];
            assert_true(fabs(out[h * POSITIONS + i] - want) < 1e-6);
        }
    free(out);
    free_keys(&k);
}

static void softmax_matches(const sl_kernels *kernels)
{
    float got[POSITIONS] __attribute__((aligned(64))), want[POSITIONS] __attribute__((aligned(64)));
    for (uint32_t n = 0; n < 400; n++) {
        uint32_t begin = n * 7 % 130, end = begin + 1 + n * 13 % (POSITIONS - begin);
        fill(got, POSITIONS, n);
        for (uint32_t i = 0; i < POSITIONS; i++)
            got[i] = got[i] * (float)(n % 30) * 4 + (i < begin || i >= end ? 500.0f : 0.0f); /* what is not seen would win */
        memcpy(want, got, sizeof want);
        kernels->softmax(got, begin, end);
        reference()->softmax(want, begin, end);
        assert_same_bits(got + begin, want + begin, end - begin, "softmax");
        uint32_t first = begin / 16 * 16, last = (end + 15) / 16 * 16;
        assert_same_bits(got, want, first, "before the softmax");
        assert_same_bits(got + last, want + last, POSITIONS - last, "behind the softmax");
    }
}

static void softmax_equals_the_reference(void **state)
{
    (void)state;
    for_each_isa(softmax_matches);
}

static void softmax_is_what_its_name_says(void **state)
{
    (void)state;
    float x[100] __attribute__((aligned(64)));
    double want[100], sum = 0, total = 0;
    fill(x, 100, 8);
    for (int i = 17; i < 83; i++)
        sum += want[i] = exp(10.0 * x[i]);
    for (int i = 0; i < 100; i++)
        x[i] *= 10;
    reference()->softmax(x, 17, 83);
    for (int i = 17; i < 83; i++) {
        assert_true(fabs(x[i] - want[i] / sum) < 1e-6);
        total += x[i];
    }
    assert_true(fabs(total - 1) < 1e-6);
}

/* A value page that holds `x`, [SL_KV_PAGE][head_dim]. */
static uint8_t *value_page(uint32_t type, uint32_t head_dim, const float *x)
{
    uint8_t *page = allocate(sl_kv_page_bytes(type, head_dim));
    for (uint32_t i = 0; i < SL_KV_PAGE; i++)
        reference()->kv_store_v(type, page, i, x + (size_t)i * head_dim, head_dim);
    return page;
}

static void sums_match(const sl_kernels *kernels)
{
    for (uint32_t n = 0; n < 2 * HEAD_DIMS * KV_TYPES; n++) {
        uint32_t type = kv_types[n % KV_TYPES], head_dim = head_dims[n / KV_TYPES % HEAD_DIMS], begin = n * 5 % 60, end = begin + n % 5;
        if (!storable(type, head_dim))
            continue;
        float *x = allocate((size_t)SL_KV_PAGE * head_dim * sizeof *x), got[512] __attribute__((aligned(64))), want[512];
        fill(x, (size_t)SL_KV_PAGE * head_dim, n);
        uint8_t *page = value_page(type, head_dim, x);
        fill(got, 512, n + 1);
        memcpy(want, got, sizeof want);
        kernels->kv_sum_v(type, page, begin, end, head_dim, got);
        reference()->kv_sum_v(type, page, begin, end, head_dim, want);
        assert_same_bits(got, want, 512, "sum of values");
        free(page);
        free(x);
    }
}

static void sums_of_values_equal_the_reference(void **state)
{
    (void)state;
    for_each_isa(sums_match);
}

static void sums_are_of_the_named_slots(void **state)
{
    (void)state;
    enum { DIM = 16 };
    float x[SL_KV_PAGE * DIM], sum[DIM] = {0};
    for (int i = 0; i < SL_KV_PAGE * DIM; i++)
        x[i] = (float)i;
    uint8_t *page = value_page(SL_TYPE_F32, DIM, x);
    sum[3] = 0.5f;
    reference()->kv_sum_v(SL_TYPE_F32, page, 10, 13, DIM, sum);
    for (int c = 0; c < DIM; c++)
        assert_true(sum[c] == (float)((10 + 11 + 12) * DIM + 3 * c) + (c == 3 ? 0.5f : 0.0f));
    free(page);
}

/* A key that was stored as a value, turned, is the key stored as a key. */
static void keys_turned_match(const sl_kernels *kernels)
{
    for (uint32_t n = 0; n < HEAD_DIMS * KV_TYPES; n++) {
        uint32_t type = kv_types[n % KV_TYPES], head_dim = head_dims[n / KV_TYPES];
        if (!storable(type, head_dim))
            continue;
        size_t bytes = sl_kv_page_bytes(type, head_dim);
        uint8_t *rows = allocate(bytes), *got = allocate(bytes), *want = allocate(bytes);
        float x[512];
        for (uint32_t i = 0; i < SL_KV_PAGE; i++) {
            fill(x, head_dim, n * SL_KV_PAGE + i);
            reference()->kv_store_v(type, rows, i, x, head_dim);
            reference()->kv_store_k(type, want, (i * 5 + 3) % SL_KV_PAGE, x, head_dim);
        }
        for (uint32_t i = 0; i < SL_KV_PAGE; i++)
            kernels->kv_turn_k(type, rows, i, got, (i * 5 + 3) % SL_KV_PAGE, head_dim);
        assert_memory_equal(got, want, bytes);
        free(rows);
        free(got);
        free(want);
    }
}

static void a_turned_key_lies_as_if_it_had_been_stored_so(void **state)
{
    (void)state;
    keys_turned_match(reference());
    for_each_isa(keys_turned_match);
}

static void picks_match(const sl_kernels *kernels)
{
    float x[POSITIONS], values[2][POSITIONS + SL_PICK_SLACK];
    uint32_t index[2][POSITIONS + SL_PICK_SLACK];
    for (uint32_t n = 0; n < 200; n++) {
        uint32_t count = 1 + n * 29 % POSITIONS, picked = 0;
        float limit = n % 5 == 0 ? 0.0f : fabsf((float)(n % 7) * 0.15f);
        fill(x, POSITIONS, n);
        for (uint32_t i = n; i < POSITIONS; i += 40)
            x[i] = i % 3 == 0 ? -limit : i % 3 == 1 ? NAN : -INFINITY;
        for (uint32_t i = 0; i < count; i++)
            picked += isnan(x[i]) || fabsf(x[i]) >= limit;
        assert_int_equal(kernels->pick(x, count, limit, index[0], values[0]), picked);
        assert_int_equal(reference()->pick(x, count, -limit, index[1], values[1]), picked);
        assert_memory_equal(index[0], index[1], picked * sizeof **index);
        assert_memory_equal(values[0], values[1], picked * sizeof **values);
        for (uint32_t i = 0; i < picked; i++)
            assert_memory_equal(&values[0][i], &x[index[0][i]], sizeof(float));
    }
}

static void what_is_at_least_so_large_is_picked_in_order(void **state)
{
    (void)state;
    picks_match(reference());
    for_each_isa(picks_match);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scores_equal_the_reference),
        cmocka_unit_test(scores_are_products_of_the_named_components),
        cmocka_unit_test(softmax_equals_the_reference),
        cmocka_unit_test(softmax_is_what_its_name_says),
        cmocka_unit_test(sums_of_values_equal_the_reference),
        cmocka_unit_test(sums_are_of_the_named_slots),
        cmocka_unit_test(a_turned_key_lies_as_if_it_had_been_stored_so),
        cmocka_unit_test(what_is_at_least_so_large_is_picked_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
