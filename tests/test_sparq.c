/* tests/test_sparq.c: attention to a part of the cache: the choice against a slow one, and that what comes out depends on the tokens and the options
 * alone: not on threads, batches, budgets, instruction sets, or on what was said and taken back before. */
#include "core/cpu.h"
#include "kernels/kernels.h"
#include "offload/sparq.h"
#include "tests/tiny_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/stage.h"

#define MIB ((uint64_t)1 << 20)

enum { VOCAB = 387, CONTEXT = 256, TEXT = 200, COUNT = 300 };

static uint32_t next_random(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

/* ---- the choice ---- */

/* Takes the best one that is left, again and again; the local ones first. */
static void choose_slowly(const float *weights, uint32_t begin, uint32_t end, uint32_t keep, uint32_t local, bool taken[COUNT])
{
    memset(taken, 0, COUNT * sizeof *taken);
    for (uint32_t i = end - local; i < end; i++)
        taken[i] = true;
    for (uint32_t n = local; n < keep; n++) {
        uint32_t best = end;
        for (uint32_t i = begin; i < end; i++)
            if (!taken[i] && (best == end || weights[i] > weights[best]))
                best = i;
        taken[best] = true;
    }
}

static void the_best_and_the_last_are_chosen_and_ties_go_to_the_lower_position(void **unused)
{
    const sl_kernels *kernels = sl_kernels_for(SL_ISA_SCALAR);
    float weights[COUNT], work[2 * (COUNT + SL_PICK_SLACK)];
    bool taken[COUNT];
    uint32_t chosen[COUNT], seed = 1;
    (void)unused;
    for (int round = 0; round < 400; round++) {
        uint32_t begin = next_random(&seed) % 100, end = begin + 1 + next_random(&seed) % (COUNT - begin);
        uint32_t keep = 1 + next_random(&seed) % (end - begin), local = next_random(&seed) % (keep + 1);
        for (uint32_t i = 0; i < COUNT; i++) /* many alike */
            weights[i] = (float)(next_random(&seed) % (round % 3 == 0 ? 4 : 1000)) * 0.001f;
        sli_sparq_choose(kernels, weights, work, begin, end, keep, local, chosen);
        choose_slowly(weights, begin, end, keep, local, taken);
        uint32_t n = 0;
        for (uint32_t i = 0; i < COUNT; i++)
            if (taken[i])
                assert_int_equal(chosen[n++], i);
        assert_int_equal(n, keep);
    }
}

static void components_are_those_with_the_largest_sums_over_the_heads(void **unused)
{
    (void)unused;
    /* sums: 3, 4, 4, 1 */
    const float q[] = {1, -4, 3, 1, -2, 0, -1, 0};
    float sums[4];
    uint32_t component[4];
    sli_sparq_components(q, 2, 4, 1, sums, component);
    assert_int_equal(component[0], 1);
    sli_sparq_components(q, 2, 4, 3, sums, component);
    assert_int_equal(component[0], 0);
    assert_int_equal(component[1], 1);
    assert_int_equal(component[2], 2);
    sli_sparq_components(q, 1, 4, 2, sums, component); /* of the first head alone: 1, 4, 3, 1 */
    assert_int_equal(component[0], 1);
    assert_int_equal(component[1], 2);
}

static void the_factor_makes_up_for_what_the_components_lack(void **unused)
{
    const float q[] = {1, -4, 3, 1}, nothing[4] = {0};
    const uint32_t some[] = {0, 1}, all[] = {0, 1, 2, 3};
    (void)unused;
    assert_true(sli_sparq_factor(q, 4, some, 2) == sqrtf(9.0f / 5.0f));
    assert_true(sli_sparq_factor(q, 4, all, 4) == 1.0f);
    assert_true(sli_sparq_factor(nothing, 4, some, 2) == 1.0f);
}

static void a_page_counts_for_what_its_keys_add_up_to_over_all_heads(void **unused)
{
    enum { GROUP = 3, PAGES = 4, STRIDE = 5 * SL_KV_PAGE };
    static float shares[GROUP * STRIDE];
    float weights[PAGES];
    uint32_t seed = 3;
    (void)unused;
    for (int i = 0; i < GROUP * STRIDE; i++)
        shares[i] = (float)(next_random(&seed) % 64) / 64; /* sums are exact */
    sli_sparq_page_weights(shares, STRIDE, GROUP, PAGES, weights);
    for (int page = 0; page < PAGES; page++) {
        float sum = 0;
        for (int h = 0; h < GROUP; h++)
            for (int i = 0; i < SL_KV_PAGE; i++)
                sum += shares[h * STRIDE + page * SL_KV_PAGE + i];
        assert_true(weights[page] == sum);
    }
}

static void what_scores_read_of_a_key_is_its_components_and_their_scales(void **unused)
{
    const uint32_t component[] = {0, 5, 31, 64, 65};
    (void)unused;
    uint32_t blocks = sli_sparq_blocks(component, 5);
    assert_int_equal(blocks, 2);
    assert_int_equal(sli_sparq_scored_bytes(SL_TYPE_F32, 5, blocks), 20);
    assert_int_equal(sli_sparq_scored_bytes(SL_TYPE_F16, 5, blocks), 10);
    assert_int_equal(sli_sparq_scored_bytes(SL_TYPE_Q8_0, 5, blocks), 5 + 2 * 2);
    assert_int_equal(sli_sparq_scored_bytes(SL_TYPE_Q4_0, 5, blocks), 3 + 2 * 2);
}

/* ---- engines ---- */

static char *stock_path, *windowed_path;

static int write_models(void **unused)
{
    tiny_model model = TINY_MODEL, windowed = TINY_MODEL;
    sl_error err = {0};
    (void)unused;
    model.types[0] = SL_TYPE_Q8_0;
    model.types[1] = SL_TYPE_Q4_0;
    windowed.arch = "gemma3";
    windowed.window = 100; /* more than a page: it begins and ends within pages, with a whole one between */
    windowed.window_period = 2;
    stock_path = tiny_path("sparq.gguf");
    windowed_path = tiny_path("sparq.windowed.gguf");
    return tiny_write(&model, stock_path, &err) == SL_OK && tiny_write(&windowed, windowed_path, &err) == SL_OK ? 0 : -1;
}

static int forget_models(void **unused)
{
    (void)unused;
    unlink(stock_path);
    unlink(windowed_path);
    free(stock_path);
    free(windowed_path);
    return 0;
}

static sl_engine_options options_of(const char *path, uint32_t k, uint32_t r)
{
    return (sl_engine_options){.model_path = path,
                               .ram_budget_bytes = 1024 * MIB,
                               .context = CONTEXT,
                               .threads = 1,
                               .isa = "scalar",
                               .sparq_k = k,
                               .sparq_r = r,
                               .sparq_reallocate = SL_SPARQ_REALLOCATE_ON};
}

static sl_token_id text_token(uint32_t position)
{
    return (sl_token_id)((position * 53 + position * position * 7 + 7) % 384);
}

/* Appends the text's tokens up to `end`, `rows` at a time; logits of the last. */
static const float *follow_text(const stage *s, uint32_t end, uint32_t rows, unsigned flags)
{
    const float *logits = NULL;
    sl_error err = {0};
    for (uint32_t at = sl_session_position(s->session); at < end; at += rows) {
        sl_token_id tokens[CONTEXT];
        rows = rows < end - at ? rows : end - at;
        for (uint32_t i = 0; i < rows; i++)
            tokens[i] = text_token(at + i);
        check(sl_session_eval(s->session, tokens, rows, SL_EVAL_LOGITS | flags, &logits, &err), &err);
    }
    return logits;
}

enum { DENSE = 90, ENDS = 4 };
static const uint32_t ends[ENDS] = {91, 128, 129, TEXT};

/* Logits at some places behind a dense prompt, [ENDS][VOCAB]; the caller frees. */
static float *logits_with(const sl_engine_options *options, uint32_t rows, unsigned flags)
{
    stage s = open_stage(options);
    float *all = malloc((size_t)ENDS * VOCAB * sizeof *all);
    assert_non_null(all);
    (void)follow_text(&s, DENSE, DENSE, 0);
    for (int i = 0; i < ENDS; i++)
        memcpy(all + (size_t)i * VOCAB, follow_text(&s, ends[i], rows, flags), VOCAB * sizeof *all);
    close_stage(&s);
    return all;
}

static bool equal(const float *a, const float *b)
{
    return memcmp(a, b, (size_t)ENDS * VOCAB * sizeof *a) == 0;
}

static void where_nothing_is_left_out_it_is_dense_attention(void **unused)
{
    (void)unused;
    for (int windowed = 0; windowed < 2; windowed++) {
        sl_engine_options options = options_of(windowed ? windowed_path : stock_path, CONTEXT, 32), dense = options;
        sl_engine_options few = options_of(options.model_path, TEXT - 1, 32), some = options_of(options.model_path, 40, 32);
        dense.sparq_k = dense.sparq_r = 0;
        float *wanted = logits_with(&dense, 1, 0), *got = logits_with(&options, 1, SL_EVAL_SPARQ);
        float *lacking = logits_with(&few, 1, SL_EVAL_SPARQ), *sparse = logits_with(&some, 1, SL_EVAL_SPARQ);
        float *unasked = logits_with(&some, 1, 0);
        assert_true(equal(got, wanted));
        assert_true(equal(unasked, wanted)); /* prompts and checks of such an engine are dense */
        size_t last = (size_t)(ENDS - 1) * VOCAB;
        assert_memory_equal(lacking, wanted, last * sizeof *wanted);
        assert_memory_not_equal(lacking + last, wanted + last, VOCAB * sizeof *wanted); /* one position is left out */
        for (int i = 0; i < ENDS; i++)
            assert_memory_not_equal(sparse + (size_t)i * VOCAB, wanted + (size_t)i * VOCAB, VOCAB * sizeof *wanted);
        free(wanted);
        free(got);
        free(lacking);
        free(sparse);
        free(unasked);
    }
}

static void every_option_has_its_effect(void **unused)
{
    sl_engine_options base = options_of(stock_path, 24, 8), others[5];
    float *seen[6];
    (void)unused;
    for (int i = 0; i < 5; i++)
        others[i] = base;
    others[0].sparq_k = 25;
    others[1].sparq_r = 9;
    others[2].sparq_local = 12;
    others[3].sparq_reallocate = SL_SPARQ_REALLOCATE_OFF;
    others[4].sparq_local = 6; /* the default */
    seen[5] = logits_with(&base, 1, SL_EVAL_SPARQ);
    for (int i = 0; i < 5; i++) {
        seen[i] = logits_with(&others[i], 1, SL_EVAL_SPARQ);
        assert_true(equal(seen[i], seen[5]) == (i == 4));
    }
    for (int i = 0; i < 6; i++)
        free(seen[i]);
}

static void threads_batches_budgets_and_instruction_sets_do_not_show(void **unused)
{
    static const sl_kv_type types[] = {SL_KV_F16, SL_KV_F32, SL_KV_Q8_0, SL_KV_BF16, SL_KV_Q4_0};
    (void)unused;
    for (uint32_t n = 0; n < 10; n++) {
        sl_engine_options options = options_of(n % 2 ? windowed_path : stock_path, 16 + 30 * (n % 3), 6 + n);
        options.k_type = types[n / 2];
        options.v_type = types[4 - n / 2];
        options.sparq_local = n % 4 == 3 ? 16 : 0;
        float *wanted = logits_with(&options, 1, SL_EVAL_SPARQ), *got;
        options.threads = 3;
        got = logits_with(&options, 37, SL_EVAL_SPARQ); /* each of the rows as if it came alone */
        assert_true(equal(got, wanted));
        free(got);
        for (sl_isa isa = SL_ISA_SCALAR + 1; isa < SL_ISA_COUNT; isa++) {
            if (!sl_cpu_supports(isa) || sl_kernels_for(isa) == NULL)
                continue;
            options.isa = sl_isa_name(isa);
            got = logits_with(&options, 5, SL_EVAL_SPARQ);
            assert_true(equal(got, wanted));
            free(got);
        }
        options.ram_budget_bytes = minimum_budget(options) + 2 * GROWTH;
        got = logits_with(&options, 3, SL_EVAL_SPARQ);
        assert_true(equal(got, wanted));
        free(got);
        free(wanted);
    }
}

/* Other tokens are said first, past ends of pages, and taken back in steps; nothing of them may be left in the mean of the values. */
static void what_was_taken_back_leaves_no_trace(void **unused)
{
    static const uint32_t backs[] = {150, 128, 127, 64, 63, 10};
    (void)unused;
    for (int windowed = 0; windowed < 2; windowed++) {
        sl_engine_options options = options_of(windowed ? windowed_path : stock_path, 20, 8);
        sl_error err = {0};
        stage used = open_stage(&options), fresh = open_stage(&options);
        for (size_t i = 0; i < sizeof backs / sizeof *backs; i++) {
            const sl_token_id other = 5;
            check(sl_session_truncate(used.session, 0, &err), &err);
            check(sl_session_truncate(fresh.session, 0, &err), &err);
            (void)follow_text(&used, backs[i], 64, SL_EVAL_SPARQ);
            while (sl_session_position(used.session) < TEXT)
                check(sl_session_eval(used.session, &other, 1, SL_EVAL_SPARQ, NULL, &err), &err);
            check(sl_session_truncate(used.session, backs[i], &err), &err);
            (void)follow_text(&fresh, backs[i], 64, SL_EVAL_SPARQ);
            for (uint32_t end = backs[i] + 1; end <= TEXT; end++)
                assert_memory_equal(follow_text(&used, end, 1, SL_EVAL_SPARQ), follow_text(&fresh, end, 1, SL_EVAL_SPARQ),
                                    VOCAB * sizeof(float));
        }
        close_stage(&used);
        close_stage(&fresh);
    }
}

/* By the paper's formula, r components of each position and k keys and values; the mean adds the values behind the last whole page. */
static void the_bytes_that_are_moved_are_counted(void **unused)
{
    enum { HEADS = 2 * 2 /* layers, KV heads */, DIM = 32, K = 32, R = 8 };
    (void)unused;
    for (int reallocate = 0; reallocate < 2; reallocate++) {
        sl_engine_options options = options_of(stock_path, K, R);
        sl_engine_stats stats;
        options.sparq_reallocate = reallocate ? SL_SPARQ_REALLOCATE_ON : SL_SPARQ_REALLOCATE_OFF;
        stage s = open_stage(&options);
        (void)follow_text(&s, DENSE, DENSE, 0);
        (void)follow_text(&s, TEXT, 1, SL_EVAL_SPARQ);
        sl_engine_measure(s.engine, &stats);
        uint64_t moved = 0, dense = 0;
        for (uint64_t seen = DENSE + 1; seen <= TEXT; seen++) {
            uint64_t behind = (seen - 1) % SL_KV_PAGE + 1;
            moved += HEADS * 2 * (seen * R + 2 * K * DIM);
            moved += reallocate ? HEADS * (4 * DIM + (behind > K / 4 ? behind - K / 4 : 0) * 2 * DIM) : 0;
            dense += HEADS * 2 * 2 * seen * DIM;
        }
        assert_int_equal(stats.sparq_bytes_moved, moved);
        assert_int_equal(stats.sparq_dense_bytes, dense);
        close_stage(&s);
    }
}

/* Pages: of all that lies before the local ones the components, in four bits, of the head's single block; then
 * whole pages, and of the row's own what it sees. */
static void the_bytes_of_whole_pages_are_counted(void **unused)
{
    enum { HEADS = 2 * 2, DIM = 32, K = 2 * SL_KV_PAGE, R = 8, LOCAL = 16 };
    (void)unused;
    sl_engine_options options = options_of(stock_path, K, R);
    sl_engine_stats stats;
    options.sparq_select = SL_SPARQ_PAGES;
    options.sparq_reallocate = SL_SPARQ_REALLOCATE_AUTO;
    stage s = open_stage(&options);
    (void)follow_text(&s, K, K, 0);
    (void)follow_text(&s, TEXT, 1, SL_EVAL_SPARQ);
    sl_engine_measure(s.engine, &stats);
    uint64_t moved = 0, dense = 0;
    for (uint64_t seen = K + 1; seen <= TEXT; seen++) {
        uint64_t own = (seen - 1) / SL_KV_PAGE, local = (seen - LOCAL) / SL_KV_PAGE, keep = K / SL_KV_PAGE, scored = 0;
        if (keep > own - local + 1)
            scored = local * SL_KV_PAGE * (R / 2 + 2);
        moved += HEADS * (scored + (keep * SL_KV_PAGE - (own + 1) * SL_KV_PAGE + seen) * 2 * 2 * DIM);
        dense += HEADS * 2 * 2 * seen * DIM;
    }
    assert_int_equal(stats.sparq_bytes_moved, moved);
    assert_int_equal(stats.sparq_dense_bytes, dense);
    close_stage(&s);
}

static void pages_are_chosen_where_the_cache_may_spill_and_else_keys(void **unused)
{
    (void)unused;
    for (int spill = 0; spill < 2; spill++) {
        sl_engine_options options = options_of(stock_path, 128, 8);
        sl_engine_info info;
        options.sparq_reallocate = SL_SPARQ_REALLOCATE_AUTO;
        options.kv_spill = spill ? "." : NULL;
        options.buffered = true;
        stage s = open_stage(&options);
        sl_engine_describe(s.engine, &info);
        assert_int_equal(info.sparq_pages, spill);
        assert_int_equal(info.sparq_local, spill ? 16 : 32);
        close_stage(&s);
    }
}

static void refused(sl_engine_options options, const char *part)
{
    sl_engine *engine;
    sl_error err = {0};
    assert_int_equal(sl_engine_open(&options, &engine, &err), SL_INVALID);
    if (strstr(err.message, part) == NULL)
        fail_msg("%s: should say %s", err.message, part);
}

static void limits_are_told(void **unused)
{
    sl_engine_options options = options_of(stock_path, CONTEXT + 1, 8);
    (void)unused;
    refused(options, "--sparq-k 257: the context has 256 positions");
    options.sparq_k = 16;
    options.sparq_r = 33;
    refused(options, "have 32 components");
    options.sparq_r = 0;
    refused(options, "--sparq-r");
    options.sparq_r = 8;
    options.sparq_local = 17;
    refused(options, "--sparq-local 17: it is part of the 16 positions");
    options.sparq_local = 16;
    options.sparq_k = 0;
    refused(options, "--sparq-k");
    options.sparq_r = 0;
    options.sparq_local = 0;
    stage s = open_stage(&options);
    sl_error err = {0};
    const sl_token_id token = 1;
    assert_int_equal(sl_session_eval(s.session, &token, 1, SL_EVAL_SPARQ, NULL, &err), SL_INVALID);
    close_stage(&s);
}

/* With grouped queries, off; the price knows of the second keys and of the sums. */
static void reallocation_follows_the_heads_and_memory_is_priced(void **unused)
{
    sl_engine_options options = options_of(stock_path, 16, 8);
    sl_engine_info info;
    uint64_t bytes[3];
    (void)unused;
    for (int i = 0; i < 3; i++) {
        options.sparq_k = options.sparq_r = i == 0 ? 0 : 8;
        options.sparq_reallocate = i == 1 ? SL_SPARQ_REALLOCATE_AUTO : SL_SPARQ_REALLOCATE_ON;
        stage s = open_stage(&options);
        sl_engine_describe(s.engine, &info);
        assert_int_equal(info.sparq_reallocate, i == 2);
        bytes[i] = info.kv_bytes;
        close_stage(&s);
    }
    assert_true(bytes[1] >= bytes[0] && bytes[2] > bytes[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_best_and_the_last_are_chosen_and_ties_go_to_the_lower_position),
        cmocka_unit_test(components_are_those_with_the_largest_sums_over_the_heads),
        cmocka_unit_test(the_factor_makes_up_for_what_the_components_lack),
        cmocka_unit_test(a_page_counts_for_what_its_keys_add_up_to_over_all_heads),
        cmocka_unit_test(what_scores_read_of_a_key_is_its_components_and_their_scales),
        cmocka_unit_test(where_nothing_is_left_out_it_is_dense_attention),
        cmocka_unit_test(every_option_has_its_effect),
        cmocka_unit_test(threads_batches_budgets_and_instruction_sets_do_not_show),
        cmocka_unit_test(what_was_taken_back_leaves_no_trace),
        cmocka_unit_test(the_bytes_that_are_moved_are_counted),
        cmocka_unit_test(the_bytes_of_whole_pages_are_counted),
        cmocka_unit_test(pages_are_chosen_where_the_cache_may_spill_and_else_keys),
        cmocka_unit_test(limits_are_told),
        cmocka_unit_test(reallocation_follows_the_heads_and_memory_is_priced),
    };
    return cmocka_run_group_tests(tests, write_models, forget_models);
}
