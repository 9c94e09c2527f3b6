/* tests/test_device_neurons.c: what a device does with single neurons, bit for bit as the reference: bundles of the feed-forward, the predictor with its
 * planes of signs, and the choice of the largest scores.
 *
 * All runs on the emulated device, threads and blocks in several orders, and with SLUICE_TEST_DEVICE=cuda on a real one. */
#include "kernels/columns.h"
#include "offload/guess.h"
#include "offload/select.h"
#include "tests/device_memory.h"
#include "tests/weights_material.h"

#define GUARD 12345.75f

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

/* ---- bundles ---- */

/* A layer's feed-forward in bundles that lie in any order, at addresses of the alignment asked for. */
typedef struct ffn {
    material gate, up, down; /* [ff][d], [ff][d], [d][ff] */
    uint32_t d, ff, gate_bytes, up_bytes, column_bytes;
    sl_device_bundles on_device;
} ffn;

static uint32_t place_of(uint32_t neuron, uint32_t ff)
{
    return (neuron * 7 + 3) % ff; /* ff is no multiple of 7 */
}

static void put_bundles(device_bed *t, ffn *f, size_t alignment)
{
    size_t meta_bytes = sl_column_meta_bytes(f->down.type, f->d, f->ff), bytes = f->gate_bytes + f->up_bytes + f->column_bytes;
    size_t stride = (bytes + alignment - 1) / alignment * alignment, all = alignment + f->ff * stride;
    uint8_t *memory = allocate(all), *meta = allocate(meta_bytes + 1), **columns = allocate(f->ff * sizeof *columns);
    sl_device_ptr *at = allocate(f->ff * sizeof *at), base = device_room(t, all) + (alignment < 256 ? alignment : 0);
    for (uint32_t n = 0; n < f->ff; n++) {
        uint8_t *bundle = memory + place_of(n, f->ff) * stride;
        memcpy(bundle, f->gate.file + (size_t)n * f->gate_bytes, f->gate_bytes);
        memcpy(bundle + f->gate_bytes, f->up.file + (size_t)n * f->up_bytes, f->up_bytes);
        columns[n] = bundle + f->gate_bytes + f->up_bytes;
        at[n] = base + place_of(n, f->ff) * stride;
    }
    sl_columns_split(f->down.type, f->down.file, f->d, f->ff, 0, f->d, columns, meta);
    device_write(t, base, memory, f->ff * stride);
    f->on_device = (sl_device_bundles){.gate_type = f->gate.type,
                                       .up_type = f->up.type,
                                       .down_type = f->down.type,
                                       .d = f->d,
                                       .ff = f->ff,
                                       .gate_bytes = f->gate_bytes,
                                       .up_bytes = f->up_bytes,
                                       .column_bytes = f->column_bytes,
                                       .at = device_put(t, at, f->ff * sizeof *at),
                                       .meta = device_put(t, meta, meta_bytes)};
    free(memory);
    free(meta);
    free(columns);
    free(at);
}

static ffn make_ffn(device_bed *t, uint32_t gate_type, uint32_t up_type, uint32_t down_type, uint32_t d, uint32_t ff, size_t alignment)
{
    ffn f = {.gate = make(gate_type, ff, d, 1), .up = make(up_type, ff, d, 2), .down = make(down_type, d, ff, 3), .d = d, .ff = ff};
    assert_true(f.gate.cols == d && f.up.cols == d && f.down.cols == ff);
    f.gate_bytes = (uint32_t)sl_row_bytes(gate_type, d);
    f.up_bytes = (uint32_t)sl_row_bytes(up_type, d);
    f.column_bytes = (uint32_t)sl_column_bytes(down_type, d);
    put_bundles(t, &f, alignment);
    return f;
}

static void unmake_ffn(ffn *f)
{
    unmake(&f->gate);
    unmake(&f->up);
    unmake(&f->down);
}

/* About density * ff neurons, exactly one where it is negative; the count. */
static uint32_t choose(uint64_t *random, float density, uint32_t ff, uint32_t *neurons)
{
    uint32_t count = 0, only = below(random, ff);
    for (uint32_t n = 0; n < ff; n++)
        if (density < 0 ? n == only : (float)below(random, 1000) < density * 1000.0f)
            neurons[count++] = n;
    return count;
}

static void check_gate_up(device_bed *t, const ffn *f, sl_glu act, float density, uint32_t rows)
{
    uint64_t random = 5;
    size_t results = (size_t)rows * f->ff;
    uint32_t *neurons = allocate(f->ff * sizeof *neurons), count = f->ff;
    float *gate = allocate(results * sizeof(float)), *up = allocate(results * sizeof(float)), *want = allocate(results * sizeof(float));
    float *got = allocate(results * sizeof(float));
    sl_acts x = make_acts(rows, f->d, 8);
    sl_device_acts acts = device_put_acts(t, &x);
    reference()->matmul(f->gate.type, f->gate.panels, f->ff, &x, gate, f->ff);
    reference()->matmul(f->up.type, f->up.panels, f->ff, &x, up, f->ff);
    reference()->glu(act, gate, up, results, gate);
    for (size_t i = 0; i < results; i++)
        want[i] = GUARD;
    sl_device_ptr h = device_put(t, want, results * sizeof(float)), list = 0;
    if (density < 1.0f) {
        count = choose(&random, density, f->ff, neurons);
        list = device_put(t, neurons, count * sizeof *neurons);
    }
    for (uint32_t r = 0; r < rows; r++)
        for (uint32_t i = 0; i < count; i++) {
            size_t at = (size_t)r * f->ff + (density < 1.0f ? neurons[i] : i);
            want[at] = gate[at];
        }
    device_ok(t->kernels->bundle_gate_up(t->device, &f->on_device, act, list, count, &acts, h, E));
    device_read(t, got, h, results * sizeof(float));
    assert_same_bits(got, want, results, sl_format_of(f->gate.type)->name);
    unmake_acts(&x);
    free(neurons);
    free(gate);
    free(up);
    free(want);
    free(got);
}

static void gate_and_up_of_listed_bundles_are_those_of_their_rows(void **state)
{
    static const float densities[] = {0.0f, -1.0f, 0.3f, 1.0f};
    static const size_t alignments[] = {2, 4, 512};
    device_bed *t = *state;
    for (size_t i = 0; i < TYPE_COUNT; i++) {
        device_reopen(t, (unsigned)i);
        uint32_t gate = all_types[i], up = i % 2 ? gate : all_types[(i + 5) % TYPE_COUNT]; /* types may differ */
        ffn f = make_ffn(t, gate, up, SL_TYPE_F16, 512, 45, alignments[i % 3]);
        for (size_t d = 0; d < 4; d++)
            check_gate_up(t, &f, i % 2 ? SL_GLU_SILU : SL_GLU_GELU_TANH, densities[d], d % 2 ? 1 : 3);
        unmake_ffn(&f);
        device_clear(t);
    }
}

static void rows_too_long_for_shared_memory_are_read_where_they_lie(void **state)
{
    device_bed *t = *state;
    ffn f = make_ffn(t, SL_TYPE_F32, SL_TYPE_F32, SL_TYPE_F32, 5632, 5, 2);
    check_gate_up(t, &f, SL_GLU_SILU, 1.0f, 2);
    unmake_ffn(&f);
    device_clear(t);
    f = make_ffn(t, SL_TYPE_Q8_0, SL_TYPE_Q4_0, SL_TYPE_Q4_0, 5664, 32, 16); /* 23 segments, the last one not whole */
    check_gate_up(t, &f, SL_GLU_SILU, 1.0f, 2);
    unmake_ffn(&f);
    device_clear(t);
}

static void check_down(device_bed *t, const ffn *f, float density, uint32_t rows, bool add)
{
    uint64_t random = 5 + rows;
    size_t results = (size_t)rows * f->d;
    uint32_t *neurons = allocate(f->ff * sizeof *neurons), count = choose(&random, density, f->ff, neurons);
    float *want = allocate(results * sizeof(float)), *got = allocate(results * sizeof(float)), *before = allocate(results * sizeof(float));
    sl_acts h = make_acts(rows, f->ff, 8);
    float *values = (float *)(uintptr_t)h.f32;
    for (uint32_t n = 0, i = 0; n < f->ff && density < 1.0f; n++) {
        bool member = i < count && neurons[i] == n;
        i += member;
        for (uint32_t r = 0; r < rows && !member; r++)
            values[(size_t)r * f->ff + n] = 0.0f;
    }
    if (h.q != NULL)
        reference()->quantize(&h, 0, rows);
    reference()->matmul(f->down.type, f->down.panels, f->d, &h, want, f->d);
    fill(before, results, 3);
    for (size_t i = 0; i < results && add; i++)
        want[i] = before[i] + want[i];
    sl_device_acts acts = device_put_acts(t, &h);
    sl_device_ptr out = device_put(t, before, results * sizeof(float));
    sl_device_ptr list = density < 1.0f ? device_put(t, neurons, count * sizeof *neurons) : 0;
    device_ok(t->kernels->bundle_down(t->device, &f->on_device, list, count, &acts, out, add, E));
    device_read(t, got, out, results * sizeof(float));
    assert_same_bits(got, want, results, sl_format_of(f->down.type)->name);
    unmake_acts(&h);
    free(neurons);
    free(want);
    free(got);
    free(before);
}

static void the_down_product_over_listed_bundles_is_the_dense_one_with_zeros(void **state)
{
    static const float densities[] = {0.0f, -1.0f, 0.05f, 0.4f, 1.0f};
    device_bed *t = *state;
    for (size_t i = 0; i < TYPE_COUNT; i++) {
        device_reopen(t, (unsigned)i);
        uint32_t ff = sl_format_of(all_types[i])->block_elements == 256 ? 768 : 544;
        ffn f = make_ffn(t, SL_TYPE_F16, SL_TYPE_F16, all_types[i], i % 2 ? 101 : 64, ff, i % 2 ? 2 : 4); /* rows behind whole groups */
        for (size_t d = 0; d < 5; d++)
            check_down(t, &f, densities[d], 1, d % 2);
        check_down(t, &f, 1.0f, 3, true);
        check_down(t, &f, 0.4f, 7, false); /* four rows, two, and one */
        unmake_ffn(&f);
        device_clear(t);
    }
}

static void a_down_product_of_many_segments_is_summed_in_order(void **state)
{
    device_bed *t = *state;
    ffn f = make_ffn(t, SL_TYPE_F16, SL_TYPE_F16, SL_TYPE_Q4_0, 33, 256 * 33 + 32, 2);
    device_clear(t);
    device_reopen(t, 9);
    put_bundles(t, &f, 2);
    check_down(t, &f, 0.2f, 1, false);
    unmake_ffn(&f);
    device_clear(t);
}

#define NOWHERE ((sl_device_ptr)34)

static void a_table_says_where_each_bundle_lies(void **state)
{
    enum { FF = 1000, PER_UNIT = 3, STRIDE = 34, UNITS = (FF + PER_UNIT - 1) / PER_UNIT }; /* more units than go into one launch */
    device_bed *t = *state;
    uint64_t random = 1;
    uint32_t place_of[FF];
    sl_device_ptr units[UNITS], got[FF];
    for (uint32_t u = 0; u < UNITS; u++)
        units[u] = 4096 + (sl_device_ptr)next_random(&random) % 1000000 * 2;
    for (uint32_t n = 0; n < FF; n++)
        place_of[n] = n * 7 % FF; /* 7 and 1000 have no common divisor: each place once */
    units[0] = units[UNITS - 2] = 0;
    sl_device_ptr at = device_room(t, sizeof got), places = device_put(t, place_of, sizeof place_of);
    device_ok(t->kernels->bundle_table(t->device, units, UNITS, PER_UNIT, STRIDE, places, FF, NOWHERE, at, E));
    memset(units, 0xff, sizeof units); /* they were read */
    random = 1;
    for (uint32_t u = 0; u < UNITS; u++)
        units[u] = 4096 + (sl_device_ptr)next_random(&random) % 1000000 * 2;
    device_read(t, got, at, sizeof got);
    for (uint32_t n = 0; n < FF; n++) {
        uint32_t unit = place_of[n] / PER_UNIT;
        bool nowhere = unit == 0 || unit == UNITS - 2;
        assert_true(got[n] == (nowhere ? NOWHERE : units[unit] + place_of[n] % PER_UNIT * STRIDE));
    }
    device_clear(t);
}

static void members_whose_bundles_are_nowhere_are_counted(void **state)
{
    enum { FF = 1500, COUNT = 700 };
    device_bed *t = *state;
    uint64_t sum[2] = {((uint64_t)1 << 32) - 1, 5}, want = sum[0];
    uint32_t neurons[COUNT];
    sl_device_ptr where[FF];
    for (uint32_t n = 0; n < FF; n++)
        where[n] = n % 3 == 1 ? NOWHERE : 64 + n;
    for (uint32_t i = 0; i < COUNT; i++) {
        neurons[i] = 2 * i + i % 2;
        want += where[neurons[i]] == NOWHERE ? 4 : 0;
    }
    sl_device_ptr at = device_put(t, where, sizeof where), list = device_put(t, neurons, sizeof neurons);
    sl_device_ptr count = device_put(t, sum, sizeof sum);
    device_ok(t->kernels->bundle_count(t->device, at, NOWHERE, list, COUNT, 4, count, E));
    device_ok(t->kernels->bundle_count(t->device, at, NOWHERE, list, 0, 4, count, E));
    device_read(t, sum, count, sizeof sum);
    assert_true(sum[0] == want && sum[1] == 5);
    device_clear(t);
}

/* Slots in units, some of which are filled anew, from where their neurons were. */
static void slots_are_filled_and_their_addresses_entered(void **state)
{
    enum { FF = 40, PER_UNIT = 5, STRIDE = 46, SLOTS = 13 };
    static const uint32_t holders[SLOTS] = {3, 39 | SL_DEVICE_FRESH, 0,  7, 20 | SL_DEVICE_FRESH, 21, 22, 1, 2,
                                            4, 5 | SL_DEVICE_FRESH,  30, 31};
    device_bed *t = *state;
    uint8_t bundles[FF * STRIDE], slots[SLOTS * STRIDE], got[SLOTS * STRIDE];
    sl_device_ptr at[FF], units[(SLOTS + PER_UNIT - 1) / PER_UNIT], entered[FF];
    for (size_t i = 0; i < sizeof bundles; i++)
        bundles[i] = (uint8_t)(i * 7 + i / 256);
    memset(slots, 0xee, sizeof slots);
    sl_device_ptr home = device_put(t, bundles, sizeof bundles), room = device_put(t, slots, sizeof slots);
    for (uint32_t n = 0; n < FF; n++)
        at[n] = home + n * STRIDE;
    for (uint32_t u = 0; u < sizeof units / sizeof *units; u++)
        units[u] = room + u * PER_UNIT * STRIDE;
    sl_device_ptr table = device_put(t, at, sizeof at), also = device_put(t, at, sizeof at), list = device_put(t, holders, sizeof holders);
    device_ok(t->kernels->bundle_settle(t->device, list, SLOTS, 3, units, PER_UNIT, STRIDE, table, also, E));
    for (uint32_t s = 0; s < SLOTS; s++) {
        uint32_t neuron = holders[s] & ~SL_DEVICE_FRESH;
        if (neuron != holders[s])
            memcpy(slots + s * STRIDE, bundles + neuron * STRIDE, STRIDE);
        at[neuron] = room + s * STRIDE;
    }
    device_read(t, got, room, sizeof got);
    assert_memory_equal(got, slots, sizeof slots);
    device_read(t, entered, table, sizeof entered);
    assert_memory_equal(entered, at, sizeof at);
    device_read(t, entered, also, sizeof entered);
    assert_memory_equal(entered, at, sizeof at);
    device_clear(t);
}

static void bundles_are_gathered_on_the_copy_stream(void **state)
{
    enum { FF = 40, STRIDE = 46, COUNT = 4 };
    static const uint32_t neurons[COUNT] = {38, 2, 3, 17};
    device_bed *t = *state;
    uint8_t bundles[FF * STRIDE], got[COUNT * STRIDE];
    sl_device_ptr from[FF], entered[FF] = {0}, want[FF] = {0};
    for (size_t i = 0; i < sizeof bundles; i++)
        bundles[i] = (uint8_t)(i * 5 + i / 256);
    sl_device_ptr home = device_put(t, bundles, sizeof bundles), to = device_room(t, sizeof got),
                  at = device_put(t, entered, sizeof entered);
    for (uint32_t n = 0; n < FF; n++)
        from[n] = home + n * STRIDE;
    sl_device_ptr table = device_put(t, from, sizeof from), list = device_put(t, neurons, sizeof neurons);
    device_ok(t->kernels->bundle_gather(t->device, list, COUNT, STRIDE, table, to, at, E));
    device_ok(t->device->ops->synchronize(t->device, SL_STREAM_COPY, E));
    device_read(t, got, to, sizeof got);
    for (uint32_t i = 0; i < COUNT; i++) {
        assert_memory_equal(got + i * STRIDE, bundles + neurons[i] * STRIDE, STRIDE);
        want[neurons[i]] = to + i * STRIDE;
    }
    device_read(t, entered, at, sizeof entered);
    assert_memory_equal(entered, want, sizeof want);
    device_clear(t);
}

/* Panels of rows that lie in bundles are those of the rows. */
static void rows_of_bundles_become_panels(void **state)
{
    device_bed *t = *state;
    for (size_t i = 0; i < TYPE_COUNT; i++) {
        ffn f = make_ffn(t, all_types[i], SL_TYPE_F16, SL_TYPE_F16, 512, 37, 4);
        size_t bytes = f.up.panels_bytes;
        uint8_t *got = allocate(bytes);
        sl_device_ptr panels = device_room(t, bytes);
        device_ok(t->kernels->bundle_pack(t->device, f.up.type, f.on_device.at, f.gate_bytes, f.ff, f.d, panels, E));
        device_read(t, got, panels, bytes);
        assert_memory_equal(got, f.up.panels, bytes);
        free(got);
        unmake_ffn(&f);
        device_clear(t);
    }
}

/* ---- signs and scores ---- */

/* A predictor in memory, over inputs that it is given as they are. */
typedef struct predictor {
    sli_guess guess;
    uint8_t *planes, *gate, *up;
    uint32_t *select;
    float *factors;
    uint16_t *neurons;
    size_t panels_bytes;
} predictor;

static predictor make_predictor(uint32_t d, uint32_t inputs, uint32_t ff)
{
    uint64_t random = ff;
    uint32_t blocks = inputs / SL_SIGN_COLS, rows = sli_guess_rows(ff);
    predictor p = {.planes = allocate(blocks), .select = allocate(inputs * sizeof(uint32_t)), .factors = allocate(inputs * sizeof(float))};
    for (uint32_t b = 0; b < blocks; b++)
        p.planes[b] = (uint8_t)(1 + below(&random, SL_SIGN_PLANES));
    p.panels_bytes = rows / SL_SIGN_ROWS * sl_sign_panel_bytes(p.planes, inputs);
    p.gate = allocate(p.panels_bytes);
    p.up = allocate(p.panels_bytes);
    p.neurons = allocate(4 * (size_t)rows * sizeof(uint16_t));
    for (size_t i = 0; i < p.panels_bytes; i++) {
        p.gate[i] = (uint8_t)next_random(&random);
        p.up[i] = (uint8_t)next_random(&random);
    }
    for (uint32_t i = 0; i < inputs; i++) {
        p.select[i] = below(&random, d);
        p.factors[i] = random_float(&random);
    }
    for (size_t i = 0; i < 4 * (size_t)rows; i++)
        p.neurons[i] = sl_f32_to_bf16(fabsf(random_float(&random)) * 0.01f);
    p.guess = (sli_guess){.d = d, .ff = ff, .inputs = inputs, .projection = SLI_GUESS_COPY, .factors = p.factors, .select = p.select};
    p.guess.neurons = p.neurons;
    p.guess.gate = (sl_signs){ff, inputs, p.planes, p.gate};
    p.guess.up = (sl_signs){ff, inputs, p.planes, p.up};
    return p;
}

static void unmake_predictor(predictor *p)
{
    free(p->planes);
    free(p->gate);
    free(p->up);
    free(p->select);
    free(p->factors);
    free(p->neurons);
}

/* Inputs and scores: the host's and the device's. */
static void check_predictor(device_bed *t, uint32_t d, uint32_t inputs, uint32_t ff, sl_glu act)
{
    predictor p = make_predictor(d, inputs, ff);
    uint32_t rows = sli_guess_rows(ff);
    float *x = allocate(d * sizeof *x), *want = allocate(ff * sizeof *want), *got = allocate(ff * sizeof *got);
    void *memory = allocate(sli_guess_row_bytes(d > inputs ? d : inputs));
    sl_acts host;
    fill(x, d, inputs);
    sli_guess_begin(&p.guess, reference(), NULL, x, memory, &host);
    sl_device_acts acts = {.rows = 1, .cols = inputs, .f32 = device_room(t, inputs * 4), .q = device_room(t, inputs)};
    acts.d = device_room(t, inputs / 8);
    acts.sum = device_room(t, inputs / 8);
    device_ok(t->kernels->guess_inputs(t->device, device_put(t, x, d * sizeof *x), device_put(t, p.select, inputs * 4),
                                       device_put(t, p.factors, inputs * 4), &acts, E));
    int8_t *q = allocate(inputs);
    device_read(t, q, acts.q, inputs);
    assert_memory_equal(q, host.q, inputs);
    free(q);

    sl_device_guess guess = {ff,
                             0,
                             device_put(t, p.planes, inputs / SL_SIGN_COLS),
                             device_put(t, p.gate, p.panels_bytes),
                             device_put(t, p.up, p.panels_bytes),
                             device_put(t, p.neurons, 8 * (size_t)rows)};
    sl_device_ptr scores = device_room(t, ff * sizeof(float));
    device_ok(t->kernels->guess_scores(t->device, &guess, act, &acts, scores, E));
    sli_guess_scores(&p.guess, reference(), act, &host, 0, ff, want);
    device_read(t, got, scores, ff * sizeof(float));
    assert_same_bits(got, want, ff, "scores");
    unmake_predictor(&p);
    free(x);
    free(want);
    free(got);
    free(memory);
    device_clear(t);
}

static void a_predictors_scores_are_the_hosts(void **state)
{
    device_bed *t = *state;
    check_predictor(t, 64, 32, 1, SL_GLU_SILU);
    device_reopen(t, 2);
    check_predictor(t, 576, 192, 100, SL_GLU_GELU_TANH);
    check_predictor(t, 320, 320, 64, SL_GLU_SILU);
    device_reopen(t, 3);
    check_predictor(t, 9000, 8960, 33, SL_GLU_SILU); /* more blocks than are counted at a time */
}

static void inputs_without_a_selection_are_taken_as_they_lie(void **state)
{
    device_bed *t = *state;
    float x[64], factors[64], got[64];
    fill(x, 64, 1);
    fill(factors, 64, 2);
    sl_device_acts acts = {.rows = 1, .cols = 64, .f32 = device_room(t, 256), .q = device_room(t, 64), .d = device_room(t, 8)};
    acts.sum = device_room(t, 8);
    device_ok(t->kernels->guess_inputs(t->device, device_put(t, x, sizeof x), 0, device_put(t, factors, sizeof factors), &acts, E));
    device_read(t, got, acts.f32, sizeof got);
    for (int i = 0; i < 64; i++)
        x[i] = x[i] * factors[i];
    assert_same_bits(got, x, 64, "inputs");
    device_clear(t);
}

/* ---- the largest ---- */

static void check_top(device_bed *t, const float *scores, uint32_t count, uint32_t keep)
{
    uint32_t *want = allocate((count + 1) * sizeof *want), *got = allocate((count + 1) * sizeof *got);
    for (uint32_t i = 0; i <= count; i++)
        want[i] = 0xdeadbeef;
    sl_device_ptr members = device_put(t, want, (count + 1) * sizeof *want), clear = device_put(t, want, (count + 1) * sizeof *want);
    device_ok(t->kernels->top(t->device, device_put(t, scores, count * sizeof *scores), count, keep, members, clear,
                              device_room(t, t->kernels->top_scratch(count)), E));
    device_read(t, got, clear, (count + 1) * sizeof *got);
    for (uint32_t i = 0; i < count; i++)
        assert_int_equal(got[i], 0);
    assert_int_equal(got[count], 0xdeadbeef);
    sli_select_top(scores, count, keep, want);
    for (uint32_t i = keep; i <= count; i++)
        want[i] = 0xdeadbeef;
    device_read(t, got, members, (count + 1) * sizeof *got);
    assert_memory_equal(got, want, (count + 1) * sizeof *got);
    free(want);
    free(got);
    device_clear(t);
}

static void the_largest_scores_are_those_that_the_host_selects(void **state)
{
    static const uint32_t counts[] = {1, 2, 31, 1000, 1024, 1025, 5003};
    device_bed *t = *state;
    uint64_t random = 3;
    float *scores = allocate(5003 * sizeof *scores);
    for (unsigned kind = 0; kind < 5; kind++) {
        device_reopen(t, kind);
        for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
            for (uint32_t i = 0; i < counts[c]; i++) {
                float any = random_float(&random);
                float few = (float)below(&random, 4); /* most are equal */
                scores[i] = kind == 0 ? any : kind == 1 ? few : kind == 2 ? 1.5f : kind == 3 ? any * 1e-41f : -few;
                if (kind == 4 && below(&random, 9) == 0)
                    scores[i] = below(&random, 2) ? NAN : INFINITY;
            }
            check_top(t, scores, counts[c], 0);
            check_top(t, scores, counts[c], 1);
            check_top(t, scores, counts[c], (counts[c] + 1) / 3);
            check_top(t, scores, counts[c], counts[c]);
        }
    }
    free(scores);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(gate_and_up_of_listed_bundles_are_those_of_their_rows, open_bed, close_bed),
        cmocka_unit_test_setup_teardown(rows_too_long_for_shared_memory_are_read_where_they_lie, open_bed, close_bed),
        cmocka_unit_test_setup_teardown(the_down_product_over_listed_bundles_is_the_dense_one_with_zeros, open_bed, close_bed),
        cmocka_unit_test_setup_teardown(a_down_product_of_many_segments_is_summed_in_order, open_bed, close_bed),
        cmocka_unit_test_setup_teardown(a_table_says_where_each_bundle_lies, open_bed, close_bed),
        cmocka_unit_test_setup_teardown(members_whose_bundles_are_nowhere_are_counted, open_bed, close_bed),
        cmocka_unit_test_setup_teardown(slots_are_filled_and_their_addresses_entered, open_bed, close_bed),
        cmocka_unit_test_setup_teardown(bundles_are_gathered_on_the_copy_stream, open_bed, close_bed),
        cmocka_unit_test_setup_teardown(rows_of_bundles_become_panels, open_bed, close_bed),
        cmocka_unit_test_setup_teardown(a_predictors_scores_are_the_hosts, open_bed, close_bed),
        cmocka_unit_test_setup_teardown(inputs_without_a_selection_are_taken_as_they_lie, open_bed, close_bed),
        cmocka_unit_test_setup_teardown(the_largest_scores_are_those_that_the_host_selects, open_bed, close_bed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
