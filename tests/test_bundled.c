/* tests/test_bundled.c: that a packed file computes what the stock one does, bit by bit: dense, and over sets whose bundles alone are read. */
#include "tests/packed_pair.h"
#include "tests/sparse_rows.h"

#define VOCAB 387

static const uint32_t every_type[] = {SL_TYPE_F32, SL_TYPE_F16, SL_TYPE_BF16, SL_TYPE_Q4_0, SL_TYPE_Q4_1, SL_TYPE_Q8_0};
#define TYPES (sizeof every_type / sizeof *every_type)

static sl_engine_options options_of(const char *path, sl_sparsity mode, double density)
{
    return (sl_engine_options){.model_path = path,
                               .ram_budget_bytes = 1024 * MIB,
                               .context = 128,
                               .threads = 1,
                               .isa = "scalar",
                               .sparsity = mode,
                               .density = density};
}

static void check_same(const float *base, const sl_engine_options *options, uint32_t at_once, const char *what)
{
    float *other = sparse_logits(options, at_once, NULL);
    for (size_t i = 0; i < (size_t)STEPS * VOCAB; i++)
        if (memcmp(&base[i], &other[i], sizeof *base) != 0)
            fail_msg("%s: logit %zu is %a, not %a", what, i, (double)other[i], (double)base[i]);
    free(other);
}

/* What a process may grow by between two engines: packing and calibrating leave more behind in a sanitized one. */
#if defined(__SANITIZE_ADDRESS__)
#define ROOM (12 * MIB)
#else
#define ROOM GROWTH
#endif

static uint64_t minimum_budget(sl_engine_options options)
{
    sl_engine *engine;
    sl_engine_info info;
    sl_error err = {0};
    check(sl_engine_open(&options, &engine, &err), &err);
    sl_engine_describe(engine, &info);
    sl_engine_close(engine);
    return info.ram_budget_min_bytes + ROOM;
}

/* Every way that a packed file can be run in, against the stock file's logits. */
static void check_all_ways(const float *base, const sl_engine_options *given)
{
    sl_engine_options options = *given;
    check_same(base, &options, 1, "row after row");
    check_same(base, &options, STEPS, "rows at once");
    options.threads = 3;
    options.batch = 7;
    check_same(base, &options, 1, "three threads, a prompt in batches of 7");
    options.isa = NULL;
    options.batch = 0;
    check_same(base, &options, 1, "the best instruction set");
    check_same(base, &options, 3, "the best instruction set, rows at once");
    options.ram_budget_bytes = minimum_budget(options);
    check_same(base, &options, 1, "the smallest budget");
    options.io_engine = "pread";
    options.batch = 5;
    options.ram_budget_bytes = minimum_budget(options);
    check_same(base, &options, 1, "the smallest budget, pread");
}

static void check_model(const tiny_model *model)
{
    static const struct {
        sl_sparsity mode;
        sl_predictor predictor;
        double density;
    } ways[] = {{SL_SPARSITY_OFF, SL_PREDICTOR_STORED, 0},
                {SL_SPARSITY_COARSE, SL_PREDICTOR_STORED, 0.3},
                {SL_SPARSITY_COARSE, SL_PREDICTOR_STORED, 1},
                {SL_SPARSITY_FINE, SL_PREDICTOR_ORACLE, 0.3}};
    pair p = write_pair(model);
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        sl_engine_options options = options_of(p.stock, ways[i].mode, ways[i].density);
        options.predictor = ways[i].predictor;
        float *base = sparse_logits(&options, 1, NULL);
        options.model_path = p.packed;
        check_all_ways(base, &options);
        free(base);
    }
    forget_pair(p);
}

static void packed_files_give_the_same_logits_in_every_type(void **unused)
{
    (void)unused;
    for (size_t t = 0; t < TYPES; t++) {
        tiny_model model = TINY_MODEL;
        for (int i = 0; i < 4; i++)
            model.types[i] = every_type[t];
        check_model(&model);
    }
}

static void types_may_differ_from_matrix_to_matrix(void **unused)
{
    tiny_model model = TINY_MODEL;
    (void)unused;
    for (int i = 0; i < 4; i++)
        model.types[i] = every_type[TYPES - 1 - (size_t)i];
    model.layers = 3;
    check_model(&model);
}

/* How a pruned model's neurons are stored: in which layers without zeros, and how many neurons not at all. */
static sli_pack_result zeros_of(const tiny_model *model)
{
    pair p = write_pair(model);
    sli_pack_result result;
    sl_error err = {0};
    check(sli_pack_verify(p.packed, NULL, &result, &err), &err);
    forget_pair(p);
    return result;
}

/* Neurons that are zero are in no file, no memory and no sum, and rows without their zeros are had back before they are multiplied. */
static void what_is_left_out_of_a_pruned_model_changes_no_logit(void **unused)
{
    (void)unused;
    for (size_t t = 0; t < TYPES; t++) {
        tiny_model model = TINY_MODEL;
        model.pruned = true;
        model.d = 128; /* wide enough for a bundle to take a block less */
        for (int i = 0; i < 4; i++)
            model.types[i] = every_type[t];
        sli_pack_result zeros = zeros_of(&model);
        bool compact = every_type[t] == SL_TYPE_F16 || every_type[t] == SL_TYPE_BF16;
        assert_int_equal(zeros.compact_layers, compact ? model.layers : 0);
        if (every_type[t] != SL_TYPE_Q4_1) /* in which a zero has many forms */
            assert_int_equal(zeros.silent_neurons, model.layers * 19);
        check_model(&model);
    }
}

/* Gate rows without zeros beside up rows that cannot be so stored, and the other way about. */
static void what_is_left_out_may_differ_from_matrix_to_matrix(void **unused)
{
    (void)unused;
    tiny_model model = TINY_MODEL;
    model.pruned = true;
    model.d = 256;
    model.types[0] = SL_TYPE_F16;
    model.types[1] = SL_TYPE_Q8_0;
    model.types[2] = SL_TYPE_BF16;
    model.types[3] = SL_TYPE_Q4_0;
    model.layers = 3;
    sli_pack_result zeros = zeros_of(&model);
    assert_true(zeros.compact_layers > 0);
    check_model(&model);
}

/* ---- stored predictors ---- */

static void predicted_sets_give_the_same_logits_however_they_are_read(void **unused)
{
    static const uint32_t types[] = {SL_TYPE_Q4_0, SL_TYPE_Q8_0, SL_TYPE_F16, SL_TYPE_F16};
    (void)unused;
    for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
        tiny_model model = TINY_MODEL;
        model.pruned = t == 3;
        model.d = model.pruned ? 128 : model.d;
        for (int i = 0; i < 4; i++)
            model.types[i] = types[t];
        pair p = write_pair(&model);
        sl_engine_options dense = options_of(p.stock, SL_SPARSITY_OFF, 0), fine = options_of(p.packed, SL_SPARSITY_FINE, 0.4);
        calibrate(p.packed);
        float *all = sparse_logits(&dense, 1, NULL), *base = sparse_logits(&fine, STEPS, NULL); /* rows at once are masked */
        assert_memory_not_equal(all, base, STEPS * VOCAB * sizeof *all);
        check_all_ways(base, &fine);
        fine.uniform_density = true;
        float *uniform = sparse_logits(&fine, STEPS, NULL);
        check_all_ways(uniform, &fine);
        fine.density = 1;
        check_all_ways(all, &fine);
        free(uniform);
        free(base);
        free(all);
        forget_pair(p);
    }
}

/* What was promised to be small stays small: only the members of the sets are read, in whole blocks of the disk. */
static void sparse_rows_read_no_more_than_their_sets(void **unused)
{
    tiny_model model = TINY_MODEL;
    sl_engine_stats stats;
    (void)unused;
    model.ff = 8192; /* more than the room that the named budget leaves */
    model.d = 128;
    for (int i = 0; i < 4; i++)
        model.types[i] = SL_TYPE_Q8_0;
    pair p = write_pair(&model);
    sl_engine_options options = options_of(p.packed, SL_SPARSITY_COARSE, 0.1);
    options.isa = NULL;
    free(sparse_logits(&options, 1, &stats));
    const uint64_t members = 819;
    assert_int_equal(stats.sparse_sets, 2 * STEPS);
    assert_int_equal(stats.neurons_needed, 2 * STEPS * members);
    assert_int_equal(stats.neurons_resident + stats.neurons_read, stats.neurons_needed);
    assert_int_equal(stats.neurons_read, 0); /* the prompt has passed by, and there was room for all of it */

    options.ram_budget_bytes = minimum_budget(options);
    free(sparse_logits(&options, 1, &stats));
    assert_int_equal(stats.neurons_resident + stats.neurons_read, stats.neurons_needed);
    assert_true(stats.neurons_read > 0 || ROOM > MIB); /* with room for everything nothing is read */
    forget_pair(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packed_files_give_the_same_logits_in_every_type),
        cmocka_unit_test(types_may_differ_from_matrix_to_matrix),
        cmocka_unit_test(what_is_left_out_of_a_pruned_model_changes_no_logit),
        cmocka_unit_test(what_is_left_out_may_differ_from_matrix_to_matrix),
        cmocka_unit_test(predicted_sets_give_the_same_logits_however_they_are_read),
        cmocka_unit_test(sparse_rows_read_no_more_than_their_sets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
