/* tests/test_kernels_vector.c: exp, norms, gated units, rotary positions and KV storage: the reference against plain double arithmetic,
 * every instruction set that this machine runs against the reference, bit for bit. */
#include "tests/kernels_material.h"

/* --- exp ------------------------------------------------------------------------------------------------------------------------ */

static double ulp_of(long double value)
{
    int exponent;
    frexpl(value, &exponent);
    return ldexp(1.0, exponent - 24);
}

static void exp_is_within_one_ulp_of_the_true_value(void **state)
{
    (void)state;
    double worst = 0.0;
    float worst_x = 0.0f;
    for (uint64_t bits = 0; bits < UINT64_C(1) << 32; bits += 1021) {
        float x = from_bits((uint32_t)bits);
        if (!(x >= SLI_EXP_MIN && x < SLI_EXP_LIMIT))
            continue;
        long double truth = expl((long double)x);
        double error = fabs((double)((long double)sli_exp(x) - truth)) / ulp_of(truth);
        if (error > worst) {
            worst = error;
            worst_x = x;
        }
    }
    print_message("worst error of exp: %.3f ulp, at %a\n", worst, (double)worst_x);
    assert_true(worst <= 1.0);
}

static void exp_is_defined_at_the_edges(void **state)
{
    (void)state;
    assert_true(sli_exp(0.0f) == 1.0f && sli_exp(-0.0f) == 1.0f);
    assert_true(sli_exp(SLI_EXP_MIN) >= 0x1p-126f && sli_exp(SLI_EXP_MIN) < 0x1.001p-126f);
    const float zeros[] = {nextafterf(SLI_EXP_MIN, -INFINITY), -100.0f, -1e30f, -INFINITY};
    for (size_t i = 0; i < sizeof zeros / sizeof *zeros; i++)
        assert_true(sli_exp(zeros[i]) == 0.0f && !signbit(sli_exp(zeros[i])));
    assert_true(isfinite(sli_exp(nextafterf(SLI_EXP_LIMIT, 0.0f))));
    assert_true(isinf(sli_exp(SLI_EXP_LIMIT)) && isinf(sli_exp(1e30f)) && isinf(sli_exp(INFINITY)));
    assert_true(isnan(sli_exp(NAN)) && isnan(sli_exp(-NAN)));
}

/* --- one vector ----------------------------------------------------------------------------------------------------------------- */

static const uint32_t lengths[] = {1, 2, 7, 8, 15, 16, 17, 31, 33, 63, 64, 65, 100, 576, 1536, 4611};
#define LENGTHS    (sizeof lengths / sizeof *lengths)
#define MAX_LENGTH 4611

static void norms_and_sums_match(const sl_kernels *kernels)
{
    static float x[MAX_LENGTH], y[MAX_LENGTH], got[MAX_LENGTH], want[MAX_LENGTH];
    for (size_t i = 0; i < 8 * LENGTHS; i++) { /* eight times each: a sum in a wrong order often rounds the same */
        uint32_t n = lengths[i % LENGTHS];
        fill(x, n, 2 * i);
        fill(y, n, 2 * i + 1);
        kernels->rms_norm(x, y, n, 1e-5f, got);
        reference()->rms_norm(x, y, n, 1e-5f, want);
        assert_same_bits(got, want, n, "rms_norm");
        memcpy(got, x, n * sizeof *x);
        kernels->rms_norm(got, y, n, 1e-5f, got);
        assert_same_bits(got, want, n, "rms_norm in place");

        const float *bias = i % 3 > 0 ? y : NULL;
        kernels->layer_norm(x, y, bias, n, 1e-5f, got);
        reference()->layer_norm(x, y, bias, n, 1e-5f, want);
        assert_same_bits(got, want, n, "layer_norm");
        memcpy(got, x, n * sizeof *x);
        kernels->layer_norm(got, y, bias, n, 1e-5f, got);
        assert_same_bits(got, want, n, "layer_norm in place");

        memcpy(got, x, n * sizeof *x);
        memcpy(want, x, n * sizeof *x);
        kernels->add(got, y, n);
        reference()->add(want, y, n);
        kernels->scale(got, 0.7f, n);
        reference()->scale(want, 0.7f, n);
        assert_same_bits(got, want, n, "add, scale");
    }
}

static void norms_and_sums_equal_the_reference(void **state)
{
    (void)state;
    for_each_isa(norms_and_sums_match);
}

static void rms_norm_is_what_its_name_says(void **state)
{
    (void)state;
    float x[100], w[100], y[100];
    double sum = 0.0;
    fill(x, 100, 1);
    fill(w, 100, 2);
    for (int i = 0; i < 100; i++)
        sum += (double)x[i] * x[i];
    reference()->rms_norm(x, w, 100, 1e-5f, y);
    for (int i = 0; i < 100; i++)
        assert_true(fabs(y[i] - x[i] / sqrt(sum / 100 + 1e-5) * w[i]) < 1e-6);
}

static void layer_norm_is_what_its_name_says(void **state)
{
    (void)state;
    float x[100], w[100], b[100], y[100];
    double mean = 0.0, sum = 0.0;
    fill(x, 100, 1);
    fill(w, 100, 2);
    fill(b, 100, 3);
    for (int i = 0; i < 100; i++)
        mean += (double)(x[i] += 2.0f) / 100;
    for (int i = 0; i < 100; i++)
        sum += (x[i] - mean) * (x[i] - mean);
    reference()->layer_norm(x, w, b, 100, 1e-5f, y);
    for (int i = 0; i < 100; i++)
        assert_true(fabs(y[i] - ((x[i] - mean) / sqrt(sum / 100 + 1e-5) * w[i] + b[i])) < 4e-6);
    reference()->layer_norm(x, w, NULL, 100, 1e-5f, y);
    for (int i = 0; i < 100; i++)
        assert_true(fabs(y[i] - (x[i] - mean) / sqrt(sum / 100 + 1e-5) * w[i]) < 4e-6);
}

/* A negative zero stays one and what is no number too, wherever it lies in a register. */
static void relu_matches(const sl_kernels *kernels)
{
    static float got[MAX_LENGTH], want[MAX_LENGTH];
    for (size_t i = 0; i < LENGTHS; i++) {
        uint32_t n = lengths[i];
        fill(want, n, n);
        for (uint32_t j = 0; j < n; j += 5)
            want[j] = j % 4 == 0 ? -0.0f : j % 4 == 1 ? 0.0f : j % 4 == 2 ? NAN : -INFINITY;
        memcpy(got, want, n * sizeof *got);
        reference()->relu(want, n);
        kernels->relu(got, n);
        assert_same_bits(got, want, n, "relu");
    }
}

static void relu_equals_the_reference(void **state)
{
    (void)state;
    float x[] = {-1.5f, 2.5f, -0.0f, 0.0f, -INFINITY, INFINITY, NAN};
    const float want[] = {0.0f, 2.5f, -0.0f, 0.0f, 0.0f, INFINITY};
    reference()->relu(x, 7);
    assert_same_bits(x, want, 6, "relu");
    assert_true(isnan(x[6]));
    for_each_isa(relu_matches);
}

static void glu_matches(const sl_kernels *kernels)
{
    static float gate[MAX_LENGTH], up[MAX_LENGTH], got[MAX_LENGTH], want[MAX_LENGTH];
    for (size_t i = 0; i < 2 * LENGTHS; i++) {
        sl_glu act = i % 2 == 0 ? SL_GLU_SILU : SL_GLU_GELU_TANH;
        uint32_t n = lengths[i / 2];
        fill(gate, n, n);
        fill(up, n, n + 1);
        for (uint32_t j = 0; j < n; j++)
            gate[j] *= (float)(j % 23);
        reference()->glu(act, gate, up, n, want);
        kernels->glu(act, gate, up, n, got);
        assert_same_bits(got, want, n, "glu");
        kernels->glu(act, gate, up, n, gate);
        assert_same_bits(gate, want, n, "glu in place");
    }
    /* Every finite float in coarse steps: all exponents, both signs, both ends of exp. */
    for (uint64_t bits = 0; bits < UINT64_C(1) << 32;) {
        for (uint32_t j = 0; j < MAX_LENGTH; j++, bits += 4093) {
            float x = from_bits((uint32_t)bits);
            gate[j] = isfinite(x) ? x : 0.0f;
            up[j] = 1.0f;
        }
        for (int act = SL_GLU_SILU; act <= SL_GLU_GELU_TANH; act++) {
            reference()->glu((sl_glu)act, gate, up, MAX_LENGTH, want);
            kernels->glu((sl_glu)act, gate, up, MAX_LENGTH, got);
            assert_same_bits(got, want, MAX_LENGTH, "glu over all exponents");
        }
    }
}

static void glu_equals_the_reference(void **state)
{
    (void)state;
    for_each_isa(glu_matches);
}

static void glu_is_what_its_name_says(void **state)
{
    (void)state;
    for (double x = -12.0; x < 12.0; x += 0.01) {
        float gate = (float)x, up = 1.5f, out;
        double silu = 1.5 * gate / (1.0 + exp(-(double)gate));
        double gelu = 1.5 * 0.5 * gate * (1.0 + tanh(sqrt(2.0 / acos(-1.0)) * (gate + 0.044715 * gate * gate * gate)));
        reference()->glu(SL_GLU_SILU, &gate, &up, 1, &out);
        assert_true(fabs(out - silu) < 4e-7 * (fabs(silu) + 0.1));
        reference()->glu(SL_GLU_GELU_TANH, &gate, &up, 1, &out);
        assert_true(fabs(out - gelu) < 4e-7 * (fabs(gelu) + 0.1));
    }
}

static void rope_matches(const sl_kernels *kernels)
{
    enum { HEADS = 3 };
    const uint32_t dims[][2] = {{16, 16}, {64, 64}, {64, 22}, {80, 32}, {96, 96}, {128, 64}, {128, 2}, {256, 250}};
    float got[HEADS * 256], want[HEADS * 256], cos[128], sin[128];
    for (size_t i = 0; i < 2 * sizeof dims / sizeof *dims; i++) {
        sl_rope kind = i % 2 == 0 ? SL_ROPE_PAIRS : SL_ROPE_HALVES;
        uint32_t head_dim = dims[i / 2][0], rope_dim = dims[i / 2][1];
        fill(got, HEADS * head_dim, i);
        memcpy(want, got, sizeof want);
        fill(cos, rope_dim / 2, i + 100);
        fill(sin, rope_dim / 2, i + 200);
        kernels->rope(kind, got, HEADS, head_dim, rope_dim, cos, sin);
        reference()->rope(kind, want, HEADS, head_dim, rope_dim, cos, sin);
        assert_same_bits(got, want, HEADS * head_dim, "rope");
    }
}

static void rope_equals_the_reference(void **state)
{
    (void)state;
    for_each_isa(rope_matches);
}

static void rope_turns_the_pairs_of_its_kind_and_nothing_else(void **state)
{
    (void)state;
    const float cos[2] = {0.0f, 1.0f}, sin[2] = {1.0f, 0.0f}; /* the first pair by a quarter turn, the second not at all */
    float pairs[8] = {1, 2, 3, 4, 5, 6, 7, 8}, halves[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    const float pairs_turned[8] = {-2, 1, 3, 4, 5, 6, 7, 8}, halves_turned[8] = {-3, 2, 1, 4, 5, 6, 7, 8};
    reference()->rope(SL_ROPE_PAIRS, pairs, 1, 8, 4, cos, sin);
    reference()->rope(SL_ROPE_HALVES, halves, 1, 8, 4, cos, sin);
    assert_same_bits(pairs, pairs_turned, 8, "pairs");
    assert_same_bits(halves, halves_turned, 8, "halves");
}

/* --- keys and values ------------------------------------------------------------------------------------------------------------ */

static void kv_store_matches(const sl_kernels *kernels)
{
    const uint32_t slots[] = {0, 1, 31, 62, 63};
    for (size_t i = 0; i < KV_TYPES * HEAD_DIMS; i++) {
        uint32_t type = kv_types[i % KV_TYPES], head_dim = head_dims[i / KV_TYPES];
        if (!storable(type, head_dim))
            continue;
        size_t bytes = sl_kv_page_bytes(type, head_dim);
        uint8_t *got = allocate(bytes), *want = allocate(bytes);
        float x[512];
        for (uint32_t j = 0; j < 5; j++) {
            const float magnitudes[] = {1.0f, 0.0f, 1e-38f, 300.0f, 1e-6f};
            fill(x, head_dim, i * 5 + j);
            for (uint32_t c = 0; c < head_dim; c++)
                x[c] *= magnitudes[(j + c / 32) % 5];
            kernels->kv_store_k(type, got, slots[j], x, head_dim);
            reference()->kv_store_k(type, want, slots[j], x, head_dim);
            assert_memory_equal(got, want, bytes);
            kernels->kv_store_v(type, got, slots[4 - j], x, head_dim);
            reference()->kv_store_v(type, want, slots[4 - j], x, head_dim);
            assert_memory_equal(got, want, bytes);
        }
        free(got);
        free(want);
    }
}

static void stored_pages_equal_the_reference(void **state)
{
    (void)state;
    for_each_isa(kv_store_matches);
}

static void q8_0_pages_hold_quants_and_scales_where_the_contract_says(void **state)
{
    (void)state;
    enum { DIM = 64, SLOT = 5 };
    float x[DIM];
    uint8_t page[SL_KV_PAGE * DIM + SL_KV_PAGE * DIM / 32 * 2] = {0};
    assert_int_equal(sl_kv_page_bytes(SL_TYPE_Q8_0, DIM), sizeof page);
    for (int c = 0; c < DIM; c++)
        x[c] = c < 32 ? (float)c / 31.0f : -2.0f * (float)(c - 32) / 31.0f;
    uint16_t scale;
    reference()->kv_store_k(SL_TYPE_Q8_0, page, SLOT, x, DIM);
    assert_int_equal((int8_t)page[31 * SL_KV_PAGE + SLOT], 127);
    assert_int_equal((int8_t)page[63 * SL_KV_PAGE + SLOT], -127);
    memcpy(&scale, page + SL_KV_PAGE * DIM + 2 * (SL_KV_PAGE + SLOT), sizeof scale);
    assert_int_equal(scale, sl_f32_to_f16(2.0f / 127.0f));

    memset(page, 0, sizeof page);
    reference()->kv_store_v(SL_TYPE_Q8_0, page, SLOT, x, DIM);
    assert_int_equal((int8_t)page[SLOT * DIM + 31], 127);
    assert_int_equal((int8_t)page[SLOT * DIM + 63], -127);
    memcpy(&scale, page + SL_KV_PAGE * DIM + 2 * (SLOT * 2 + 1), sizeof scale);
    assert_int_equal(scale, sl_f32_to_f16(2.0f / 127.0f));
}

/* 1/8 in the first block of 32 and 1/4 in the second are one step of the scale. */
static void q4_0_pages_hold_nibbles_and_scales_where_the_contract_says(void **state)
{
    (void)state;
    enum { DIM = 64, SLOT = 5 };
    float x[DIM] = {0};
    uint8_t page[SL_KV_PAGE * (DIM / 2 + DIM / 32 * 2)] = {0};
    assert_int_equal(sl_kv_page_bytes(SL_TYPE_Q4_0, DIM), sizeof page);
    x[3] = 1.0f;     /* the extreme: -8 */
    x[19] = -1.0f;   /* 8 becomes 7; the upper half of byte 3 */
    x[4] = 0.3f;     /* -2.4 */
    x[20] = 0.3125f; /* -2.5, to even */
    x[32 + 15] = -2.0f;
    x[32 + 31] = 1.9f; /* 7.6 */
    uint16_t scale;
    reference()->kv_store_k(SL_TYPE_Q4_0, page, SLOT, x, DIM);
    assert_int_equal(page[3 * SL_KV_PAGE + SLOT], 0x0 | 0xf0);
    assert_int_equal(page[4 * SL_KV_PAGE + SLOT], 0x6 | 0x60);
    assert_int_equal(page[5 * SL_KV_PAGE + SLOT], 0x88);
    assert_int_equal(page[31 * SL_KV_PAGE + SLOT], 0x0 | 0xf0);
    memcpy(&scale, page + SL_KV_PAGE * DIM / 2 + 2 * SLOT, sizeof scale);
    assert_int_equal(scale, sl_f32_to_f16(-0.125f));
    memcpy(&scale, page + SL_KV_PAGE * DIM / 2 + 2 * (SL_KV_PAGE + SLOT), sizeof scale);
    assert_int_equal(scale, sl_f32_to_f16(0.25f));

    memset(page, 0, sizeof page);
    reference()->kv_store_v(SL_TYPE_Q4_0, page, SLOT, x, DIM);
    assert_int_equal(page[SLOT * DIM / 2 + 3], 0x0 | 0xf0);
    assert_int_equal(page[SLOT * DIM / 2 + 31], 0x0 | 0xf0);
    memcpy(&scale, page + SL_KV_PAGE * DIM / 2 + 2 * (SLOT * 2 + 1), sizeof scale);
    assert_int_equal(scale, sl_f32_to_f16(0.25f));
}

/* What is stored is the number, to the type's precision: read through attention over one position, whose value it gives back. */
static void stored_values_are_the_numbers_to_their_precision(void **state)
{
    (void)state;
    static const float error_of[] = {0, 0x1p-11f, 0x1p-8f, 0.5f / 127, 1.01f / 8};
    enum { DIM = 64 };
    float x[DIM], q[DIM] = {0}, out[DIM];
    fill(x, DIM, 9);
    for (size_t t = 0; t < KV_TYPES; t++) {
        uint8_t *k = allocate(sl_kv_page_bytes(kv_types[t], DIM)), *v = allocate(sl_kv_page_bytes(kv_types[t], DIM));
        const uint8_t *k_page = k, *v_page = v;
        reference()->kv_store_v(kv_types[t], v, 0, x, DIM);
        sl_attention job = {.head_dim = DIM,
                            .group = 1,
                            .rows = 1,
                            .scale = 1,
                            .k_type = kv_types[t],
                            .v_type = kv_types[t],
                            .k_pages = &k_page,
                            .v_pages = &v_page,
                            .q = q,
                            .out = out};
        reference()->attention(&job);
        for (int c = 0; c < DIM; c++) /* of quantised types the error is one of the scale, and values go up to 1 */
            assert_true(fabsf(out[c] - x[c]) <= error_of[t] * (t < KV_FLOAT_TYPES ? fabsf(x[c]) : 1.0f) * 1.001f);
        free(k);
        free(v);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exp_is_within_one_ulp_of_the_true_value),
        cmocka_unit_test(exp_is_defined_at_the_edges),
        cmocka_unit_test(norms_and_sums_equal_the_reference),
        cmocka_unit_test(rms_norm_is_what_its_name_says),
        cmocka_unit_test(layer_norm_is_what_its_name_says),
        cmocka_unit_test(relu_equals_the_reference),
        cmocka_unit_test(glu_equals_the_reference),
        cmocka_unit_test(glu_is_what_its_name_says),
        cmocka_unit_test(rope_equals_the_reference),
        cmocka_unit_test(rope_turns_the_pairs_of_its_kind_and_nothing_else),
        cmocka_unit_test(stored_pages_equal_the_reference),
        cmocka_unit_test(q8_0_pages_hold_quants_and_scales_where_the_contract_says),
        cmocka_unit_test(q4_0_pages_hold_nibbles_and_scales_where_the_contract_says),
        cmocka_unit_test(stored_values_are_the_numbers_to_their_precision),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
