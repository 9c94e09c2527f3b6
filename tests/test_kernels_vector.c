/* tests/test_kernels_vector.c: attention, norms, gated units, rotary positions, KV storage and exp: the reference against plain
 * double arithmetic, every instruction set that this machine runs against the reference, bit for bit. */
#include "kernels/exp.h"
#include "kernels/kernels.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* --- material ------------------------------------------------------------------------------------------------------------------- */

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

/* Between -1 and 1, with many short fractions and some zeros among them, so that ties and cancellations happen. */
static float random_float(uint64_t *state)
{
    uint64_t bits = next_random(state);
    if (bits % 16 == 0)
        return 0.0f;
    if (bits % 4 == 0)
        return (float)((int)(bits >> 40 & 255) - 128) / 128.0f;
    return (float)((double)(bits >> 11) * 0x1p-52 - 1.0);
}

static void fill(float *x, size_t n, uint64_t seed)
{
    for (size_t i = 0; i < n; i++)
        x[i] = random_float(&seed);
}

static void *allocate(size_t bytes)
{
    void *memory = aligned_alloc(64, (bytes + 63) / 64 * 64);
    assert_non_null(memory);
    memset(memory, 0, (bytes + 63) / 64 * 64);
    return memory;
}

static float from_bits(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static void assert_same_bits(const float *got, const float *want, size_t n, const char *what)
{
    for (size_t i = 0; i < n; i++)
        if (memcmp(&got[i], &want[i], sizeof *got) != 0)
            fail_msg("%s: element %zu of %zu is %a, the reference says %a", what, i, n, (double)got[i], (double)want[i]);
}

static const sl_kernels *reference(void)
{
    return sl_kernels_for(SL_ISA_SCALAR);
}

/* Calls check(kernels) for each instruction set that can run here; skips, and says so, when there is none. */
static void for_each_isa(void (*check)(const sl_kernels *kernels))
{
    int checked = 0;
    for (int isa = SL_ISA_SCALAR + 1; isa < SL_ISA_COUNT; isa++) {
        const sl_kernels *kernels = sl_kernels_for((sl_isa)isa);
        if (kernels == NULL || !sl_cpu_supports((sl_isa)isa))
            continue;
        check(kernels);
        checked++;
    }
    if (checked == 0) {
        print_message("skipped: this processor runs none of the vector instruction sets\n");
        skip();
    }
}

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

static const uint32_t kv_types[] = {SL_TYPE_F32, SL_TYPE_F16, SL_TYPE_Q8_0};
static const uint32_t head_dims[] = {16, 32, 48, 64, 80, 96, 128, 160, 256, 512};
#define HEAD_DIMS (sizeof head_dims / sizeof *head_dims)

static bool storable(uint32_t type, uint32_t head_dim)
{
    return type != SL_TYPE_Q8_0 || head_dim % 32 == 0;
}

static void kv_store_matches(const sl_kernels *kernels)
{
    const uint32_t slots[] = {0, 1, 31, 62, 63};
    for (size_t i = 0; i < 3 * HEAD_DIMS; i++) {
        uint32_t type = kv_types[i % 3], head_dim = head_dims[i / 3];
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

/* --- attention ------------------------------------------------------------------------------------------------------------------ */

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
                                                   .k_type = n % 3 == 0 ? kv_types[n % 2] : kv_types[n / 3 % 3],
                                                   .v_type = n % 3 == 0 ? kv_types[n / 2 % 2] : kv_types[n / 9 % 3]},
                                  n);
}

static void attention_matches_for_all_shapes(const sl_kernels *kernels)
{
    const uint32_t rows[] = {1, 2, 5, 9, 17, 33};
    uint32_t n = 0;
    for (size_t d = 0; d < HEAD_DIMS; d++)
        for (size_t t = 0; t < 9; t++, n++)
            if (storable(kv_types[t % 3], head_dims[d]) && storable(kv_types[t / 3], head_dims[d]))
                attention_matches(kernels,
                                  (attention_case){.head_dim = head_dims[d],
                                                   .group = 1 + n % 5,
                                                   .rows = rows[n % 6],
                                                   .pos0 = 50 + n % 30,
                                                   .window = n % 4 == 3 ? 20 : 0,
                                                   .k_type = kv_types[t % 3],
                                                   .v_type = kv_types[t / 3]},
                                  n);
}

static void attention_matches_for_batches(const sl_kernels *kernels)
{
    for (size_t t = 0; t < 3; t++) {
        attention_matches(kernels, (attention_case){64, 3, 150, 0, 0, kv_types[t], kv_types[t]}, t);
        attention_matches(kernels, (attention_case){64, 4, 100, 60, 70, kv_types[t], kv_types[t]}, t);
        attention_matches(kernels, (attention_case){32, 1, 200, 31, 1, kv_types[t], kv_types[t]}, t);
        attention_matches(kernels, (attention_case){32, 71, 3, 130, 0, kv_types[t], kv_types[t]}, t);
    }
}

static void attention_of_one_row_equals_the_reference(void **state)
{
    (void)state;
    for_each_isa(attention_matches_at_all_positions);
}

static void attention_of_every_shape_and_type_equals_the_reference(void **state)
{
    (void)state;
    for_each_isa(attention_matches_for_all_shapes);
}

static void attention_of_batches_across_pages_equals_the_reference(void **state)
{
    (void)state;
    for_each_isa(attention_matches_for_batches);
}

static void batches_match_single_rows(const sl_kernels *kernels)
{
    const attention_case cases[] = {{64, 3, 140, 59, 0, SL_TYPE_F16, SL_TYPE_F16},
                                    {128, 8, 70, 640, 0, SL_TYPE_Q8_0, SL_TYPE_Q8_0},
                                    {80, 5, 66, 100, 90, SL_TYPE_F16, SL_TYPE_F32},
                                    {512, 2, 40, 50, 0, SL_TYPE_F32, SL_TYPE_F16}};
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
    for_each_isa(batches_match_single_rows);
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
    for_each_isa(exponentials_match);
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
    for_each_isa(zeros_match);
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
        cmocka_unit_test(exp_is_within_one_ulp_of_the_true_value),
        cmocka_unit_test(exp_is_defined_at_the_edges),
        cmocka_unit_test(norms_and_sums_equal_the_reference),
        cmocka_unit_test(rms_norm_is_what_its_name_says),
        cmocka_unit_test(glu_equals_the_reference),
        cmocka_unit_test(glu_is_what_its_name_says),
        cmocka_unit_test(rope_equals_the_reference),
        cmocka_unit_test(rope_turns_the_pairs_of_its_kind_and_nothing_else),
        cmocka_unit_test(stored_pages_equal_the_reference),
        cmocka_unit_test(q8_0_pages_hold_quants_and_scales_where_the_contract_says),
        cmocka_unit_test(attention_of_one_row_equals_the_reference),
        cmocka_unit_test(attention_of_every_shape_and_type_equals_the_reference),
        cmocka_unit_test(attention_of_batches_across_pages_equals_the_reference),
        cmocka_unit_test(a_batch_of_rows_equals_its_rows_apart),
        cmocka_unit_test(exp_has_the_same_bits_in_every_instruction_set),
        cmocka_unit_test(the_sign_of_a_zero_does_not_depend_on_the_batch),
        cmocka_unit_test(attention_is_softmax_of_scaled_products),
        cmocka_unit_test(scratch_stays_below_its_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
