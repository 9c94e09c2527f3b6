/* tests/test_predictor.c: planes of signs, and the guesses that are made of them.
 *
 * Products with signs are held against integers added up here from the bits' definition, every instruction set against the reference, bit for
 * bit. Guesses are put together by hand, so that their scores can be computed beside them from the formulas alone. */
#include "offload/guess.h"
#include "tests/kernels_material.h"

#include <math.h>
#include <string.h>

#define ROWS_MAX 200
#define COLS_MAX 1664
#define GUARD    12345.75f

typedef struct bed {
    uint64_t random;
    uint8_t planes[COLS_MAX / SL_SIGN_COLS];
    uint8_t *panels;
    float *f32, want[ROWS_MAX], got[ROWS_MAX + 1];
    sl_acts x;
    sl_signs w;
} bed;

static int create_bed(void **state)
{
    bed *t = calloc(1, sizeof *t);
    assert_non_null(t);
    t->random = 3;
    t->panels = allocate((size_t)ROWS_MAX * COLS_MAX);
    t->x.f32 = t->f32 = allocate(COLS_MAX * sizeof(float));
    t->x.q = allocate(COLS_MAX);
    t->x.d = allocate(COLS_MAX / 32 * sizeof(float));
    t->x.sum = allocate(COLS_MAX / 32 * sizeof(int32_t));
    t->x.rows = 1;
    *state = t;
    return 0;
}

static int destroy_bed(void **state)
{
    bed *t = *state;
    free(t->panels);
    free(t->f32);
    free(t->x.q);
    free(t->x.d);
    free(t->x.sum);
    free(t);
    return 0;
}

/* planes 0: mixed. */
static void make_case(bed *t, uint32_t rows, uint32_t cols, uint32_t planes)
{
    for (uint32_t b = 0; b < cols / SL_SIGN_COLS; b++)
        t->planes[b] = (uint8_t)(planes != 0 ? planes : 1 + next_random(&t->random) % SL_SIGN_PLANES);
    t->w = (sl_signs){rows, cols, t->planes, t->panels};
    size_t bytes = (rows + SL_SIGN_ROWS - 1) / SL_SIGN_ROWS * sl_sign_panel_bytes(t->planes, cols);
    for (size_t i = 0; i < bytes; i++)
        t->panels[i] = (uint8_t)next_random(&t->random);
    fill(t->f32, cols, next_random(&t->random));
    t->x.cols = cols;
    reference()->quantize(&t->x, 0, 1);
}

static int32_t weight_at(const sl_signs *w, uint32_t row, uint32_t col)
{
    const uint8_t *at = w->panels + row / SL_SIGN_ROWS * sl_sign_panel_bytes(w->planes, w->cols);
    uint32_t block = col / SL_SIGN_COLS, in_block = col % SL_SIGN_COLS;
    int32_t weight = 0;
    for (uint32_t b = 0; b < block; b++)
        at += w->planes[b] * 128;
    for (uint32_t p = 0; p < w->planes[block]; p++) {
        uint8_t byte = at[p * 128 + in_block / 4 * 16 + row % 16];
        unsigned bit = in_block % 4 + (row % 32 >= 16 ? 4 : 0);
        weight += (byte >> bit & 1) != 0 ? 1 << p : -(1 << p);
    }
    return weight;
}

static void a_product_with_signs_adds_what_the_bits_say(void **state)
{
    bed *t = *state;
    for (uint32_t planes = 0; planes <= SL_SIGN_PLANES; planes++) {
        make_case(t, 70, 96, planes);
        reference()->dot_signs(&t->w, &t->x, 0, 70, t->got);
        for (uint32_t r = 0; r < 70; r++) {
            float acc = 0;
            for (uint32_t b = 0; b < 3; b++) {
                int32_t sum = 0;
                for (uint32_t c = 0; c < 32; c++)
                    sum += weight_at(&t->w, r, b * 32 + c) * t->x.q[b * 32 + c];
                acc = fmaf(t->x.d[b], (float)sum, acc);
            }
            t->want[r] = acc;
        }
        assert_same_bits(t->got, t->want, 70, "reference");
    }
}

static bed *shared;

static void check_isa(const sl_kernels *kernels)
{
    static const uint32_t shapes[][2] = {{1, 32}, {32, 64}, {33, 96}, {96, 576}, {200, 1664}, {64, 1536}, {40, 1568}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (uint32_t planes = 0; planes <= SL_SIGN_PLANES; planes++) {
            uint32_t rows = shapes[i][0];
            make_case(shared, rows, shapes[i][1], planes);
            reference()->dot_signs(&shared->w, &shared->x, 0, rows, shared->want);
            shared->got[rows] = GUARD;
            for (uint32_t r = 0; r < rows; r += SL_SIGN_ROWS)
                kernels->dot_signs(&shared->w, &shared->x, r, r + SL_SIGN_ROWS < rows ? r + SL_SIGN_ROWS : rows, shared->got);
            assert_same_bits(shared->got, shared->want, rows, "ranges of one panel");
            kernels->dot_signs(&shared->w, &shared->x, 0, rows, shared->got);
            assert_same_bits(shared->got, shared->want, rows, "all rows at once");
            assert_true(shared->got[rows] == GUARD);
        }
}

static void every_isa_gives_the_reference_product_with_signs(void **state)
{
    shared = *state;
    for_each_isa(check_isa);
}

/* The largest activations, all signs alike: sums of 16 bits reach what they must hold. */
static void check_limits(const sl_kernels *kernels)
{
    make_case(shared, 64, 1664, SL_SIGN_PLANES);
    memset(shared->panels, 0xff, 64 * 1664);
    memset(shared->x.q, 127, 1664);
    reference()->dot_signs(&shared->w, &shared->x, 0, 64, shared->want);
    kernels->dot_signs(&shared->w, &shared->x, 0, 64, shared->got);
    assert_same_bits(shared->got, shared->want, 64, "all positive");
    memset(shared->panels, 0, 64 * 1664);
    reference()->dot_signs(&shared->w, &shared->x, 0, 64, shared->want);
    kernels->dot_signs(&shared->w, &shared->x, 0, 64, shared->got);
    assert_same_bits(shared->got, shared->want, 64, "all negative");
}

static void sums_at_their_limits_do_not_overflow(void **state)
{
    shared = *state;
    for_each_isa(check_limits);
}

/* ---- guesses ---- */

#define D  96
#define FF 70

typedef struct made {
    _Alignas(64) uint8_t blob[1 << 16];
    size_t bytes;
    uint32_t words[SLI_GUESS_WORDS];
    sli_guess_layout at;
} made;

static void make_guess(made *m, uint32_t projection, uint32_t inputs, uint64_t seed)
{
    uint32_t rows = sli_guess_rows(FF);
    memset(m, 0, sizeof *m);
    m->words[SLI_GUESS_VERSION] = SLI_GUESS_VERSION_NUMBER;
    m->words[SLI_GUESS_D] = D;
    m->words[SLI_GUESS_FF] = FF;
    m->words[SLI_GUESS_INPUTS] = inputs;
    m->words[SLI_GUESS_PROJECTION] = projection;
    m->words[SLI_GUESS_PLANES_SUM] = inputs / SL_SIGN_COLS + 1;
    m->at = sli_guess_layout_of(m->words);
    m->bytes = m->at.total_bytes;
    assert_true(m->bytes <= sizeof m->blob);
    memcpy(m->blob, m->words, sizeof m->words);
    memset(m->blob + m->at.offset[SLI_GUESS_PART_PLANES], 1, inputs / SL_SIGN_COLS);
    m->blob[m->at.offset[SLI_GUESS_PART_PLANES]] = 2;
    fill((float *)(void *)(m->blob + m->at.offset[SLI_GUESS_PART_FACTORS]), inputs, seed);
    uint32_t *select = (uint32_t *)(void *)(m->blob + m->at.offset[SLI_GUESS_PART_SELECT]);
    for (uint32_t i = 0; i < inputs && projection == SLI_GUESS_COPY; i++)
        select[i] = D - 1 - i;
    uint16_t *neurons = (uint16_t *)(void *)(m->blob + m->at.offset[SLI_GUESS_PART_NEURONS]);
    for (uint32_t i = 0; i < 4 * rows; i++)
        neurons[i] = sl_f32_to_bf16(fabsf(random_float(&seed)));
    for (size_t i = m->at.offset[SLI_GUESS_PART_GATE]; i < m->bytes; i++)
        m->blob[i] = (uint8_t)next_random(&seed);
    if (projection != SLI_GUESS_COPY)
        fill((float *)(void *)(m->blob + m->at.offset[SLI_GUESS_PART_PANELS]), (size_t)inputs * D, seed);
}

/* The scores by the formulas, from the guess's parts. */
static void expected_scores(const made *m, const float *x, uint32_t inputs, float *out)
{
    _Alignas(64) float values[D];
    _Alignas(64) int8_t q[D];
    _Alignas(64) float d[D / 32];
    _Alignas(64) int32_t sum[D / 32];
    sl_acts acts = {1, inputs, values, q, d, sum};
    const float *factors = (const float *)(const void *)(m->blob + m->at.offset[SLI_GUESS_PART_FACTORS]);
    const uint16_t *n = (const uint16_t *)(const void *)(m->blob + m->at.offset[SLI_GUESS_PART_NEURONS]);
    const float *panels = (const float *)(const void *)(m->blob + m->at.offset[SLI_GUESS_PART_PANELS]);
    uint32_t rows = sli_guess_rows(FF);
    sl_acts source = {.rows = 1, .cols = D, .f32 = x};
    if (m->words[SLI_GUESS_PROJECTION] != SLI_GUESS_COPY)
        reference()->matmul(SL_TYPE_F32, (const uint8_t *)panels, inputs, &source, values, inputs);
    for (uint32_t i = 0; i < inputs; i++)
        values[i] = (m->words[SLI_GUESS_PROJECTION] == SLI_GUESS_COPY ? x[D - 1 - i] : values[i]) * factors[i];
    reference()->quantize(&acts, 0, 1);
    sl_signs gate = {FF, inputs, m->blob + m->at.offset[SLI_GUESS_PART_PLANES], m->blob + m->at.offset[SLI_GUESS_PART_GATE]};
    sl_signs up = gate;
    up.panels = m->blob + m->at.offset[SLI_GUESS_PART_UP];
    float g[FF], u[FF];
    reference()->dot_signs(&gate, &acts, 0, FF, g);
    reference()->dot_signs(&up, &acts, 0, FF, u);
    for (uint32_t i = 0; i < FF; i++) {
        float scaled = g[i] * sl_bf16_to_f32(n[i]), error = sl_bf16_to_f32(n[rows + i]), one = 1, more, less;
        float high = scaled + error, low = scaled - error, by = u[i] * sl_bf16_to_f32(n[2 * rows + i]);
        reference()->glu(SL_GLU_SILU, &high, &one, 1, &more);
        reference()->glu(SL_GLU_SILU, &low, &one, 1, &less);
        out[i] = sqrtf(0.5f * (more * more + less * less) * (by * by + sl_bf16_to_f32(n[3 * rows + i])));
    }
}

static void check_scores(const sl_kernels *kernels, uint32_t projection, uint32_t inputs)
{
    static made m;
    _Alignas(64) float x[D];
    float want[FF], got[FF];
    sli_guess guess;
    sl_acts acts;
    void *memory = allocate(sli_guess_row_bytes(D));
    make_guess(&m, projection, inputs, 5);
    fill(x, D, 11);
    assert_null(sli_guess_view(m.blob, m.bytes, D, FF, &guess));
    expected_scores(&m, x, inputs, want);
    sli_guess_begin(&guess, kernels, NULL, x, memory, &acts);
    sli_guess_scores(&guess, kernels, SL_GLU_SILU, &acts, 0, FF, got);
    assert_same_bits(got, want, FF, "all neurons");
    for (uint32_t first = 0; first < FF; first += 32)
        sli_guess_scores(&guess, kernels, SL_GLU_SILU, &acts, first, first + 32 < FF ? first + 32 : FF, got + first);
    assert_same_bits(got, want, FF, "ranges");
    free(memory);
}

static void check_all_scores(const sl_kernels *kernels)
{
    check_scores(kernels, SLI_GUESS_COPY, D);
    check_scores(kernels, SLI_GUESS_COPY, 64);
    check_scores(kernels, SL_TYPE_F32, 32);
}

static void scores_are_what_the_formulas_say(void **state)
{
    (void)state;
    check_all_scores(reference());
}

static void scores_are_the_same_on_every_isa_and_in_any_ranges(void **state)
{
    (void)state;
    for_each_isa(check_all_scores);
}

static void refuse(made *m, size_t bytes, uint32_t d, uint32_t ff, const char *part_of_fault)
{
    sli_guess guess;
    const char *fault = sli_guess_view(m->blob, bytes, d, ff, &guess);
    assert_non_null(fault);
    assert_non_null(strstr(fault, part_of_fault));
}

static void a_damaged_guess_is_refused_with_a_reason(void **state)
{
    (void)state;
    static made m;
    make_guess(&m, SLI_GUESS_COPY, D, 5);
    refuse(&m, 10, D, FF, "shorter");
    refuse(&m, m.bytes - 1, D, FF, "fit together");
    refuse(&m, m.bytes, D + 32, FF, "other sizes");
    refuse(&m, m.bytes, D, FF + 1, "other sizes");
    m.blob[0] = 9;
    refuse(&m, m.bytes, D, FF, "version");
    make_guess(&m, SLI_GUESS_COPY, D, 5);
    m.blob[m.at.offset[SLI_GUESS_PART_PLANES]] = 4;
    refuse(&m, m.bytes, D, FF, "planes");
    make_guess(&m, SLI_GUESS_COPY, D, 5);
    m.blob[m.at.offset[SLI_GUESS_PART_SELECT] + 2] = 1;
    refuse(&m, m.bytes, D, FF, "no number");
    make_guess(&m, SLI_GUESS_COPY, D, 5);
    memset(m.blob + m.at.offset[SLI_GUESS_PART_NEURONS], 0xff, 2);
    refuse(&m, m.bytes, D, FF, "no number");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_product_with_signs_adds_what_the_bits_say, create_bed, destroy_bed),
        cmocka_unit_test_setup_teardown(every_isa_gives_the_reference_product_with_signs, create_bed, destroy_bed),
        cmocka_unit_test_setup_teardown(sums_at_their_limits_do_not_overflow, create_bed, destroy_bed),
        cmocka_unit_test(scores_are_what_the_formulas_say),
        cmocka_unit_test(scores_are_the_same_on_every_isa_and_in_any_ranges),
        cmocka_unit_test(a_damaged_guess_is_refused_with_a_reason),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
