/* tests/test_gate_up.c: the gate and up rows of many bundles in one call, held against the reference's product of each row alone. */
#include "offload/gate_up.h"
#include "tests/kernels_material.h"

#define D       96
#define BUNDLES (2 * SLI_GATE_UP_BUNDLES + 19) /* three calls of the kernels, the last one short */

typedef struct bed {
    sl_packed_layer layer;
    uint8_t *memory;
    const uint8_t *bundles[BUNDLES];
    float x[D];
    sl_acts acts;
} bed;

static bed *make_bed(uint32_t gate_type, uint32_t up_type)
{
    bed *t = calloc(1, sizeof *t);
    assert_non_null(t);
    uint64_t random = gate_type + 100 * up_type;
    t->layer = (sl_packed_layer){.gate_type = gate_type, .up_type = up_type, .d = D};
    t->layer.gate_bytes = (uint32_t)sl_row_bytes(gate_type, D);
    t->layer.up_bytes = (uint32_t)sl_row_bytes(up_type, D);
    t->layer.stride = (t->layer.gate_bytes + t->layer.up_bytes + 63) / 64 * 64;
    t->memory = allocate((size_t)BUNDLES * t->layer.stride);
    for (size_t i = 0; i < (size_t)BUNDLES * t->layer.stride; i++)
        t->memory[i] = (uint8_t)(next_random(&random) & 0x3f); /* no fp16 and no float that is no number */
    for (uint32_t i = 0; i < BUNDLES; i++)
        t->bundles[i] = t->memory + (size_t)(next_random(&random) % BUNDLES) * t->layer.stride;
    fill(t->x, D, random);
    t->acts = (sl_acts){.rows = 1, .cols = D, .f32 = t->x, .q = allocate(D), .d = allocate(D), .sum = allocate(D)};
    reference()->quantize(&t->acts, 0, 1);
    return t;
}

static void free_bed(bed *t)
{
    free(t->memory);
    free(t->acts.q);
    free(t->acts.d);
    free(t->acts.sum);
    free(t);
}

static void check_types(const sl_kernels *kernels, uint32_t gate_type, uint32_t up_type)
{
    static const uint32_t counts[] = {0, 1, SLI_GATE_UP_BUNDLES, BUNDLES};
    static float gate[BUNDLES + 1], up[BUNDLES + 1];
    bed *t = make_bed(gate_type, up_type);
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
        gate[counts[c]] = up[counts[c]] = 12345.75f;
        sli_gate_up(kernels, &t->layer, &t->acts, t->bundles, counts[c], gate, up);
        assert_true(gate[counts[c]] == 12345.75f && up[counts[c]] == 12345.75f);
        for (uint32_t i = 0; i < counts[c]; i++) {
            const uint8_t *gate_row = t->bundles[i], *up_row = gate_row + t->layer.gate_bytes;
            float want[2];
            reference()->dot_rows(gate_type, &gate_row, 1, &t->acts, &want[0]);
            reference()->dot_rows(up_type, &up_row, 1, &t->acts, &want[1]);
            assert_same_bits(&gate[i], &want[0], 1, "gate");
            assert_same_bits(&up[i], &want[1], 1, "up");
        }
    }
    free_bed(t);
}

static void check_all(const sl_kernels *kernels)
{
    check_types(kernels, SL_TYPE_Q4_0, SL_TYPE_Q4_0);
    check_types(kernels, SL_TYPE_Q4_0, SL_TYPE_Q4_1);
    check_types(kernels, SL_TYPE_F16, SL_TYPE_Q8_0);
}

static void many_bundles_give_what_each_row_alone_gives(void **state)
{
    (void)state;
    check_all(reference());
    for_each_isa(check_all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_bundles_give_what_each_row_alone_gives),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
