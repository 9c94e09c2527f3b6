/* tests/test_prune.c: pruning whole models, tiny ones: what is zero afterwards and stays so, what is refused, what is taken up again; neurons.
 *
 * How a matrix is pruned is tested in test_prune_methods.c. */
#include "offload/prune/neurons.h"
#include "offload/prune/prune.h"
#include "offload/tools/pack.h"
#include "tests/kernels_material.h"
#include "tests/tiny_model.h"

#include "tests/blas.h" /* needs cmocka's names */

#include <errno.h>
#include <sys/stat.h>

static size_t zeros_of(const float *x, size_t count)
{
    size_t zeros = 0;
    for (size_t i = 0; i < count; i++)
        zeros += x[i] == 0;
    return zeros;
}

typedef struct watched {
    char notes[2000];
    uint32_t iterations;
    double stop_at; /* 0: never */
    double error[8], objective_before;
    double density[8]; /* of layers */
    uint64_t weights, zeros;
} watched;

static void on_note(void *ctx, const char *line)
{
    watched *w = ctx;
    strncat(w->notes, line, sizeof w->notes - strlen(w->notes) - 1);
}

static bool on_progress(void *ctx, double done)
{
    watched *w = ctx;
    return w->stop_at == 0 || done < w->stop_at;
}

static void on_pruned(void *ctx, uint32_t layer, uint64_t weights, uint64_t zeros)
{
    watched *w = ctx;
    w->density[layer % 8] = 1 - (double)zeros / (double)weights;
    w->weights += weights;
    w->zeros += zeros;
}

static void on_iteration(void *ctx, uint32_t layer, const sli_sparsellm_report *r)
{
    watched *w = ctx;
    const double *o = r->objective;
    (void)layer;
    if (r->iteration > 0)
        assert_true(o[SLI_SPARSELLM_REFIT] <= r->before_refit * (1 + 1e-5));
    w->error[w->iterations++ % 8] = r->output_error;
    if (r->last)
        return;
    assert_true(o[SLI_SPARSELLM_P] <= o[SLI_SPARSELLM_PRUNED] * (1 + 1e-5));
    assert_true(o[SLI_SPARSELLM_Z] <= o[SLI_SPARSELLM_P] * (1 + 1e-5));
    assert_true(o[SLI_SPARSELLM_S] <= o[SLI_SPARSELLM_Z] * (1 + 1e-5));
}

typedef struct setting {
    char *in, *out, *text;
    watched watched;
    sli_prune_options options;
    sli_prune_result result;
} setting;

#define TEXT_BYTES 6000

static void set_up(setting *s, const char *arch, uint32_t type, sli_prune_method method)
{
    tiny_model model = TINY_MODEL;
    model.arch = arch;
    uint64_t random = 11;
    sl_error err = {0};
    for (int i = 0; i < 4; i++)
        model.types[i] = type;
    *s = (setting){.in = tiny_path("prune-in.gguf"), .out = tiny_path("prune-out.gguf"), .text = malloc(TEXT_BYTES)};
    if (tiny_write(&model, s->in, &err) != SL_OK)
        fail_msg("%s", err.message);
    for (int i = 0; i < TEXT_BYTES; i++)
        s->text[i] = (char)('a' + sli_random_next(&random) % 26);
    s->options = (sli_prune_options){.model_path = s->in,
                                     .out_path = s->out,
                                     .text = s->text,
                                     .text_bytes = TEXT_BYTES,
                                     .method = method,
                                     .rule = {.density = 0.5},
                                     .tokens = 640,
                                     .threads = 2,
                                     .progress = on_progress,
                                     .note = on_note,
                                     .pruned = on_pruned,
                                     .iterated = on_iteration};
}

static sl_status prune(setting *s, sl_error *err)
{
    *err = (sl_error){0};
    s->options.ctx = &s->watched;
    return sli_prune(&s->options, &s->result, err);
}

static void prune_well(setting *s)
{
    sl_error err;
    if (prune(s, &err) != SL_OK)
        fail_msg("%s", err.message);
}

static void tear_down(setting *s)
{
    char other[4200];
    unlink(s->in);
    unlink(s->out);
    snprintf(other, sizeof other, "%s.partial", s->out);
    unlink(other);
    snprintf(other, sizeof other, "%s.partial.layers", s->out);
    unlink(other);
    free(s->in);
    free(s->out);
    free(s->text);
}

/* Zeros of a tensor as the file has it. */
static void count_tensor(const char *path, const sl_gguf_tensor *t, size_t *zeros, size_t *weights)
{
    FILE *file = fopen(path, "rb");
    uint8_t *data = malloc(t->bytes);
    float *row = malloc(t->shape[0] * sizeof *row);
    assert_true(file != NULL && data != NULL && row != NULL);
    assert_int_equal(fseek(file, (long)t->offset, SEEK_SET), 0);
    assert_int_equal(fread(data, 1, t->bytes, file), t->bytes);
    for (uint64_t r = 0; r < t->shape[1]; r++) {
        sl_kernels_for(SL_ISA_SCALAR)->dequantize_row(t->type, data + r * sl_row_bytes(t->type, t->shape[0]), (uint32_t)t->shape[0], row);
        *zeros += zeros_of(row, t->shape[0]);
        *weights += t->shape[0];
    }
    free(row);
    free(data);
    fclose(file);
}

static void count_file(const char *path, size_t *zeros, size_t *weights)
{
    sl_gguf *file;
    sl_model *model;
    sl_error err = {0};
    *zeros = *weights = 0;
    assert_int_equal(sl_gguf_open(path, &file, &err), SL_OK);
    assert_int_equal(sl_model_open(file, &model, &err), SL_OK);
    for (uint32_t layer = 0; layer < model->layers; layer++)
        for (int i = 0; i < SLI_PRUNE_MATRICES; i++)
            if (sl_model_tensor(model, sli_prune_roles[i], layer) != NULL)
                count_tensor(path, sl_model_tensor(model, sli_prune_roles[i], layer), zeros, weights);
    sl_model_close(model);
    sl_gguf_close(file);
}

static void zeros_are_there_after_reload_in_every_type_and_by_every_method(void **state)
{
    (void)state;
    static const uint32_t types[] = {SL_TYPE_F32, SL_TYPE_F16, SL_TYPE_BF16, SL_TYPE_Q8_0, SL_TYPE_Q5_0, SL_TYPE_Q4_0};
    if (no_blas())
        skip();
    for (size_t t = 0; t < sizeof types / sizeof *types; t++)
        for (int method = SLI_PRUNE_MAGNITUDE; method <= SLI_PRUNE_SPARSELLM; method++) {
            setting s;
            size_t zeros, weights;
            set_up(&s, NULL, SL_TYPE_Q8_0, (sli_prune_method)method);
            s.options.change_type = true;
            s.options.type = types[t];
            prune_well(&s);
            count_file(s.out, &zeros, &weights);
            assert_int_equal(zeros, s.result.zeros);
            assert_int_equal(weights, s.result.weights);
            assert_true(zeros >= weights / 2);
            assert_true(zeros < weights * 6 / 10 || types[t] == SL_TYPE_Q4_0); /* coarse types round some more to zero */
            tear_down(&s);
        }
}

static void every_architecture_with_matrices_of_its_own_is_pruned_and_runs(void **state)
{
    (void)state;
    static const char *const archs[] = {"llama", "qwen2", "qwen3", "gemma3", "opt"};
    if (no_blas())
        skip();
    for (size_t i = 0; i < sizeof archs / sizeof *archs; i++) {
        setting s;
        sl_engine *engine;
        sl_error err = {0};
        set_up(&s, archs[i], SL_TYPE_F16, SLI_PRUNE_SPARSELLM);
        s.options.rule = (sli_prune_rule){0.25, 3, 4};
        prune_well(&s);
        assert_int_equal(s.watched.iterations, 2 * SLI_SPARSELLM_ITERATIONS);
        sl_engine_options options = {.model_path = s.out, .threads = 1};
        if (sl_engine_open(&options, &engine, &err) != SL_OK)
            fail_msg("%s", err.message);
        sl_engine_close(engine);
        tear_down(&s);
    }
}

static void one_threshold_over_all_layers_keeps_the_asked_share_by_every_method(void **state)
{
    (void)state;
    if (no_blas())
        skip();
    for (int method = SLI_PRUNE_MAGNITUDE; method <= SLI_PRUNE_SPARSELLM; method++) {
        setting s;
        size_t zeros, weights;
        set_up(&s, method % 2 == 0 ? "opt" : NULL, SL_TYPE_F32, (sli_prune_method)method);
        s.options.rates = SLI_PRUNE_RATES_GLOBAL;
        s.options.rule.density = 0.6;
        prune_well(&s);
        count_file(s.out, &zeros, &weights);
        assert_true(zeros == s.watched.zeros && weights == s.watched.weights);
        assert_true(fabs(1 - (double)zeros / (double)weights - 0.6) < 0.01);
        assert_true(fabs(s.watched.density[0] - s.watched.density[1]) > 1e-4); /* layers differ */
        assert_non_null(strstr(s.watched.notes, "one threshold for all layers"));
        tear_down(&s);
    }
}

static void one_threshold_is_refused_where_layers_must_be_alike(void **state)
{
    (void)state;
    setting s;
    sl_error err;
    set_up(&s, NULL, SL_TYPE_F16, SLI_PRUNE_MAGNITUDE);
    s.options.rates = SLI_PRUNE_RATES_GLOBAL;
    s.options.rule = (sli_prune_rule){0.5, 2, 4};
    s.options.pattern = "2:4";
    assert_int_equal(prune(&s, &err), SL_INVALID);
    assert_non_null(strstr(err.message, "--rates global goes with --density"));
    s.options.rule = (sli_prune_rule){.density = 0};
    s.options.neurons = 0.5;
    assert_int_equal(prune(&s, &err), SL_INVALID);
    assert_int_equal(access(s.out, F_OK), -1);
    tear_down(&s);
}

static void a_packed_or_fused_model_is_refused(void **state)
{
    (void)state;
    setting s;
    sl_error err;
    set_up(&s, "phi3", SL_TYPE_F16, SLI_PRUNE_MAGNITUDE);
    assert_int_equal(prune(&s, &err), SL_UNSUPPORTED);
    assert_non_null(strstr(err.message, "phi3"));
    tear_down(&s);
}

static void a_type_without_an_exact_zero_is_refused_with_those_that_work(void **state)
{
    (void)state;
    setting s;
    sl_error err;
    set_up(&s, NULL, SL_TYPE_Q4_1, SLI_PRUNE_MAGNITUDE);
    assert_int_equal(prune(&s, &err), SL_UNSUPPORTED);
    assert_non_null(strstr(err.message, "F16"));
    assert_int_equal(access(s.out, F_OK), -1);
    s.options.change_type = true;
    s.options.type = SL_TYPE_Q5_1;
    assert_int_equal(prune(&s, &err), SL_INVALID);
    s.options.type = SL_TYPE_F16;
    prune_well(&s);
    tear_down(&s);
}

static uint64_t hash_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    uint64_t hash = 1;
    assert_non_null(file);
    for (int c; (c = fgetc(file)) != EOF;)
        hash = (hash ^ (unsigned)c) * 0x100000001b3u;
    fclose(file);
    return hash;
}

/* Stopped after its first layer, it leaves no file; the same call then goes on and gives what an unbroken run gives. */
static void a_run_that_was_stopped_goes_on_behind_its_last_layer(void **state)
{
    (void)state;
    setting s;
    sl_error err;
    if (no_blas())
        skip();
    set_up(&s, NULL, SL_TYPE_F16, SLI_PRUNE_SPARSELLM);
    prune_well(&s);
    uint64_t whole = hash_file(s.out), input = hash_file(s.in);
    unlink(s.out);
    s.watched.stop_at = 0.75;
    assert_int_equal(prune(&s, &err), SL_INTERRUPTED);
    assert_true(s.result.kept);
    assert_int_equal(access(s.out, F_OK), -1);
    s.watched.stop_at = 0;
    prune_well(&s);
    assert_int_equal(s.result.resumed_layers, 1);
    assert_non_null(strstr(s.watched.notes, "going on behind its first 1 layers"));
    assert_true(hash_file(s.out) == whole && hash_file(s.in) == input);

    /* Another question does not take up the old answer. */
    unlink(s.out);
    s.watched.stop_at = 0.75;
    assert_int_equal(prune(&s, &err), SL_INTERRUPTED);
    s.watched.stop_at = 0;
    s.options.rule.density = 0.4;
    prune_well(&s);
    assert_int_equal(s.result.resumed_layers, 0);
    tear_down(&s);
}

static void activations_in_a_file_give_the_same_model(void **state)
{
    (void)state;
    setting s;
    sl_error err;
    if (no_blas())
        skip();
    set_up(&s, NULL, SL_TYPE_F16, SLI_PRUNE_SPARSELLM);
    prune_well(&s);
    uint64_t whole = hash_file(s.out);
    assert_false(s.result.spilled);
    s.options.ram_budget_bytes = 1;
    assert_int_equal(prune(&s, &err), SL_NO_BUDGET);
    assert_true(err.ram_budget_min_bytes > 0);
    s.options.ram_budget_bytes = err.ram_budget_min_bytes;
    unlink(s.out);
    prune_well(&s);
    assert_true(hash_file(s.out) == whole);
    assert_true(s.result.spilled);
    tear_down(&s);
}

static void too_short_a_text_and_the_input_as_output_are_refused(void **state)
{
    (void)state;
    setting s;
    sl_error err;
    set_up(&s, NULL, SL_TYPE_F16, SLI_PRUNE_WANDA);
    s.options.text_bytes = 10;
    assert_int_equal(prune(&s, &err), SL_INVALID);
    assert_non_null(strstr(err.message, "calibration text has only"));
    s.options.text_bytes = TEXT_BYTES;
    uint64_t before = hash_file(s.in);
    s.options.out_path = s.in;
    assert_int_equal(prune(&s, &err), SL_INVALID);
    assert_true(hash_file(s.in) == before);
    s.options.out_path = s.out;
    s.options.some_layers = true;
    s.options.last_layer = 2;
    assert_int_equal(prune(&s, &err), SL_INVALID);
    tear_down(&s);
}

/* ---- neurons ---- */

static void neurons_are_taken_out_in_blocks_and_the_file_shrinks(void **state)
{
    (void)state;
    if (no_blas())
        skip();
    for (int method = SLI_PRUNE_MAGNITUDE; method <= SLI_PRUNE_SPARSEGPT; method++)
        for (int no_refit = 0; no_refit < 4; no_refit++) { /* and half of them without a gate */
            setting s;
            struct stat before, after;
            sl_engine *engine;
            sl_error err = {0};
            set_up(&s, no_refit < 2 ? NULL : "opt", SL_TYPE_Q4_1, (sli_prune_method)method); /* no zero has to survive */
            s.options.neurons = 0.7;
            s.options.no_refit = no_refit % 2;
            prune_well(&s);
            assert_int_equal(s.result.neurons_after, 64);
            assert_int_equal(stat(s.in, &before), 0);
            assert_int_equal(stat(s.out, &after), 0);
            assert_true(after.st_size < before.st_size);
            sl_engine_options options = {.model_path = s.out, .threads = 1};
            if (sl_engine_open(&options, &engine, &err) != SL_OK)
                fail_msg("%s", err.message);
            sl_engine_close(engine);
            tear_down(&s);
        }
}

/* Zeros of one layer's matrix. */
static size_t zeros_in(const char *path, sl_tensor_role role, uint32_t layer)
{
    sl_gguf *file;
    sl_model *model;
    sl_error err = {0};
    size_t zeros = 0, weights = 0;
    assert_int_equal(sl_gguf_open(path, &file, &err), SL_OK);
    assert_int_equal(sl_model_open(file, &model, &err), SL_OK);
    count_tensor(path, sl_model_tensor(model, role, layer), &zeros, &weights);
    sl_model_close(model);
    sl_gguf_close(file);
    return zeros;
}

/* A file has one number of neurons for all layers; so where some layers lose neurons they become zeros, and packing leaves them out. */
static void neurons_of_some_layers_become_zeros_and_packing_leaves_them_out(void **state)
{
    (void)state;
    if (no_blas())
        skip();
    setting s;
    sl_error err;
    set_up(&s, NULL, SL_TYPE_Q8_0, SLI_PRUNE_SPARSEGPT);
    s.options.neurons = 0.7;
    s.options.some_layers = true;
    s.options.first_layer = s.options.last_layer = 1;
    prune_well(&s);
    assert_int_equal(s.result.neurons_after, s.result.neurons_before);
    assert_true(zeros_in(s.out, SL_ROLE_FFN_GATE, 1) >= 32 * 64);
    assert_true(zeros_in(s.out, SL_ROLE_FFN_DOWN, 1) >= 32 * 64);
    assert_int_equal(zeros_in(s.out, SL_ROLE_FFN_GATE, 0), zeros_in(s.in, SL_ROLE_FFN_GATE, 0));
    assert_int_equal(zeros_in(s.out, SL_ROLE_ATTN_Q, 1), zeros_in(s.in, SL_ROLE_ATTN_Q, 1));

    char *packed = tiny_path("prune-packed.gguf");
    sli_pack_result result;
    sli_pack_options pack = {.in_path = s.out, .out_path = packed};
    if (sli_pack(&pack, &result, &err) != SL_OK)
        fail_msg("%s", err.message);
    assert_int_equal(result.silent_neurons, 32);
    unlink(packed);
    free(packed);

    tear_down(&s);

    /* A zero has to stay one, as it has not where neurons are taken out. */
    set_up(&s, NULL, SL_TYPE_Q4_1, SLI_PRUNE_MAGNITUDE);
    s.options.neurons = 0.7;
    s.options.some_layers = true;
    assert_int_equal(prune(&s, &err), SL_UNSUPPORTED);
    tear_down(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(zeros_are_there_after_reload_in_every_type_and_by_every_method),
        cmocka_unit_test(every_architecture_with_matrices_of_its_own_is_pruned_and_runs),
        cmocka_unit_test(one_threshold_over_all_layers_keeps_the_asked_share_by_every_method),
        cmocka_unit_test(one_threshold_is_refused_where_layers_must_be_alike),
        cmocka_unit_test(a_packed_or_fused_model_is_refused),
        cmocka_unit_test(a_type_without_an_exact_zero_is_refused_with_those_that_work),
        cmocka_unit_test(a_run_that_was_stopped_goes_on_behind_its_last_layer),
        cmocka_unit_test(activations_in_a_file_give_the_same_model),
        cmocka_unit_test(too_short_a_text_and_the_input_as_output_are_refused),
        cmocka_unit_test(neurons_are_taken_out_in_blocks_and_the_file_shrinks),
        cmocka_unit_test(neurons_of_some_layers_become_zeros_and_packing_leaves_them_out),
    };
    return cmocka_run_group_tests_name("prune", tests, NULL, NULL);
}
