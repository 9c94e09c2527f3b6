/* tests/test_tree.c: that a row of a tree is its path evaluated as a chain, bit by bit, and that a path that is kept leaves the cache of a text
 * that was never a tree. */
#include "core/cpu.h"
#include "offload/engine.h"
#include "offload/tools/pack.h"
#include "tests/tiny_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/stage.h"

#define MIB ((uint64_t)1 << 20)

enum { VOCAB = 387, CONTEXT = 224, ROWS = 24, MOST = 80 };

static char *stock_path, *packed_path, *windowed_path, *wide_path, *learned_path;

static int write_models(void **unused)
{
    tiny_model model = TINY_MODEL, windowed = TINY_MODEL, learned = TINY_MODEL, wide;
    sl_error err = {0};
    (void)unused;
    model.types[0] = SL_TYPE_Q8_0;
    model.types[1] = SL_TYPE_Q4_0;
    windowed.arch = "gemma3";
    windowed.window = 6;
    windowed.window_period = 2;
    wide = windowed;
    wide.window = 100; /* has a whole page in it */
    learned.arch = "opt";
    stock_path = tiny_path("tree.gguf");
    learned_path = tiny_path("tree.learned.gguf");
    packed_path = tiny_path("tree.packed.gguf");
    windowed_path = tiny_path("tree.windowed.gguf");
    wide_path = tiny_path("tree.wide.gguf");
    if (tiny_write(&model, stock_path, &err) != SL_OK || tiny_write(&windowed, windowed_path, &err) != SL_OK ||
        tiny_write(&wide, wide_path, &err) != SL_OK || tiny_write(&learned, learned_path, &err) != SL_OK)
        return -1;
    sli_pack_options options = {.in_path = stock_path, .out_path = packed_path, .order = SLI_PACK_RANDOM_ORDER, .seed = 3};
    return sli_pack(&options, NULL, &err) == SL_OK ? 0 : -1;
}

static int forget_models(void **unused)
{
    char *paths[] = {stock_path, packed_path, windowed_path, wide_path, learned_path};
    (void)unused;
    for (int i = 0; i < 5; i++) {
        unlink(paths[i]);
        free(paths[i]);
    }
    return 0;
}

/* ---- engines ---- */

static sl_engine_options options_of(const char *path)
{
    return (sl_engine_options){
        .model_path = path, .ram_budget_bytes = 1024 * MIB, .context = CONTEXT, .threads = 1, .draft_max = MOST - 1, .batch = 96};
}

/* ---- trees ---- */

typedef struct tokens_tree {
    uint32_t count;
    int32_t parents[SL_TREE_ROWS];
    sl_token_id tokens[SL_TREE_ROWS];
} tokens_tree;

static uint32_t next_random(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

enum shape { CHAIN, STAR, TWINS, RANDOM, DEEP, SHAPES };

static int32_t parent_of(enum shape shape, uint32_t row, uint32_t *seed)
{
    switch (shape) {
    case CHAIN: return (int32_t)row - 1;
    case STAR: return row == 0 ? -1 : 0;
    case TWINS: return row == 0 ? -1 : (int32_t)(row - 1) / 2;
    case RANDOM: return row == 0 ? -1 : (int32_t)(next_random(seed) % row);
    default: return row < 3 ? (int32_t)row - 1 : (int32_t)row - 2 - (int32_t)(next_random(seed) % 8 == 0); /* two long branches */
    }
}

static tokens_tree tree_of(enum shape shape, uint32_t rows, uint32_t seed)
{
    tokens_tree t = {.count = rows};
    for (uint32_t row = 0; row < rows; row++) {
        t.parents[row] = parent_of(shape, row, &seed);
        t.tokens[row] = (sl_token_id)(next_random(&seed) % 384);
    }
    return t;
}

/* Rows from the first to `row`; returns how many. */
static uint32_t path_to(const tokens_tree *t, uint32_t row, uint32_t path[SL_TREE_ROWS])
{
    uint32_t count = 0;
    for (int32_t at = (int32_t)row; at >= 0; at = t->parents[at])
        count++;
    uint32_t left = count;
    for (int32_t at = (int32_t)row; at >= 0; at = t->parents[at])
        path[--left] = (uint32_t)at;
    return count;
}

static sl_token_id text_token(uint32_t position)
{
    return (sl_token_id)((position * 53 + 7) % 384);
}

static void begin_text(const stage *s, uint32_t count)
{
    sl_token_id tokens[CONTEXT];
    sl_error err = {0};
    for (uint32_t i = 0; i < count; i++)
        tokens[i] = text_token(i);
    check(sl_session_truncate(s->session, 0, &err), &err);
    if (count > 0)
        check(sl_session_eval(s->session, tokens, count, SL_EVAL_MORE, NULL, &err), &err);
}

/* Logits of all rows, each from its path as a chain: [row][VOCAB], the caller frees. */
static float *chain_logits(const stage *s, uint32_t position, const tokens_tree *t, unsigned flags)
{
    float *all = malloc((size_t)t->count * VOCAB * sizeof *all);
    sl_error err = {0};
    assert_non_null(all);
    for (uint32_t row = 0; row < t->count; row++) {
        uint32_t path[SL_TREE_ROWS], count = path_to(t, row, path);
        const float *logits = NULL;
        check(sl_session_truncate(s->session, position, &err), &err);
        for (uint32_t i = 0; i < count; i++)
            check(sl_session_eval(s->session, &t->tokens[path[i]], 1, SL_EVAL_LOGITS | flags, &logits, &err), &err);
        memcpy(all + (size_t)row * VOCAB, logits, VOCAB * sizeof *all);
    }
    check(sl_session_truncate(s->session, position, &err), &err);
    return all;
}

static const float *eval_tree(const stage *s, const tokens_tree *t, uint32_t first, uint32_t rows, unsigned flags)
{
    const float *logits = NULL;
    sl_error err = {0};
    check(sl_session_eval_tree(s->session, t->tokens + first, t->parents + first, rows, SL_EVAL_LOGITS | SL_EVAL_ALL_LOGITS | flags,
                               &logits, &err),
          &err);
    return logits;
}

static void same_rows(const float *wanted, const float *got, uint32_t rows, const char *what, uint32_t position, int shape)
{
    for (uint32_t row = 0; row < rows; row++)
        if (memcmp(wanted + (size_t)row * VOCAB, got + (size_t)row * VOCAB, VOCAB * sizeof *got) != 0)
            fail_msg("%s, position %u, shape %d: row %u is not what its path gives as a chain", what, position, shape, row);
}

/* `rest` does not matter to what comes out: the chains come from an engine on one thread with all of the memory and the machine's own instruction
 * set, as scalar ones take a minute. */
static void check_engine(const sl_engine_options *rest, const char *what)
{
    static const uint32_t positions[] = {0, 40, 63, 64, 118};
    sl_engine_options plain_options = options_of(rest->model_path == packed_path ? stock_path : rest->model_path);
    plain_options.k_type = rest->k_type;
    plain_options.v_type = rest->v_type;
    plain_options.sparq_k = rest->sparq_k;
    plain_options.sparq_r = rest->sparq_r;
    plain_options.sparq_reallocate = rest->sparq_reallocate;
    unsigned flags = rest->sparq_k > 0 ? SL_EVAL_SPARQ : 0;
    stage plain = open_stage(&plain_options), s = open_stage(rest);
    for (size_t p = 0; p < sizeof positions / sizeof *positions; p++)
        for (int shape = CHAIN; shape < SHAPES; shape++) {
            /* Deep ones reach over two borders of pages, where there is one row to spare before the first. */
            tokens_tree t = tree_of((enum shape)shape,
                                    shape == DEEP && positions[p] == 63 ? MOST
                                    : shape == DEEP                     ? 40
                                                                        : ROWS,
                                    9 + (uint32_t)p);
            begin_text(&plain, positions[p]);
            begin_text(&s, positions[p]);
            float *wanted = chain_logits(&plain, positions[p], &t, flags);
            same_rows(wanted, eval_tree(&s, &t, 0, t.count, flags), t.count, what, positions[p], shape);
            assert_int_equal(sl_session_position(s.session), positions[p]);
            free(wanted);
        }
    close_stage(&s);
    close_stage(&plain);
}

/* ---- what a row gives ---- */

static void rows_of_a_tree_are_chains_in_every_instruction_set(void **unused)
{
    (void)unused;
    for (sl_isa isa = SL_ISA_SCALAR; isa < SL_ISA_COUNT; isa++) {
        sl_engine_options options = options_of(stock_path);
        options.isa = sl_isa_name(isa);
        if (sl_cpu_supports(isa) && sl_kernels_for(isa) != NULL)
            check_engine(&options, options.isa);
    }
}

static void rows_of_a_tree_are_chains_with_every_type_of_cache(void **unused)
{
    static const sl_kv_type types[][2] = {{SL_KV_F32, SL_KV_F32},  {SL_KV_Q8_0, SL_KV_Q8_0}, {SL_KV_F16, SL_KV_Q8_0},
                                          {SL_KV_Q8_0, SL_KV_F32}, {SL_KV_BF16, SL_KV_Q4_0}, {SL_KV_Q4_0, SL_KV_BF16}};
    (void)unused;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        sl_engine_options options = options_of(stock_path);
        options.k_type = types[i][0];
        options.v_type = types[i][1];
        check_engine(&options, "types");
    }
}

static void rows_of_a_tree_see_no_further_than_their_window(void **unused)
{
    (void)unused;
    for (int type = SL_KV_F16; type <= SL_KV_Q4_0; type++) {
        sl_engine_options options = options_of(windowed_path);
        options.k_type = options.v_type = (sl_kv_type)type;
        check_engine(&options, "windows");
    }
}

static void rows_of_a_tree_have_the_learned_positions_of_their_depth(void **unused)
{
    (void)unused;
    sl_engine_options options = options_of(learned_path);
    check_engine(&options, "learned positions");
}

/* Which positions they choose, and the mean of the values, go by their paths. */
static void rows_of_a_tree_with_sparq_attention_are_chains_with_it(void **unused)
{
    (void)unused;
    for (int i = 0; i < 2; i++) {
        sl_engine_options options = options_of(i == 0 ? stock_path : wide_path);
        options.sparq_k = 12;
        options.sparq_r = 8;
        options.sparq_reallocate = SL_SPARQ_REALLOCATE_ON;
        options.threads = 2;
        check_engine(&options, "sparq");
    }
}

static void budgets_threads_and_packed_files_do_not_show(void **unused)
{
    (void)unused;
    for (int way = 0; way < 4; way++) {
        sl_engine_options options = options_of(way % 2 ? packed_path : stock_path);
        options.threads = 2 + (uint32_t)way / 2;
        if (way >= 2) {
            options.io_engine = "pread";
            options.ram_budget_bytes = minimum_budget(options) + 2 * GROWTH + MIB / 2;
        }
        check_engine(&options, "budgets");
    }
}

/* Level by level, as a drafter does it, all rows with sets of neurons; on a packed file their bundles alone are fetched. */
static void sparse_rows_that_join_a_tree_are_sparse_chains(void **unused)
{
    const char *const paths[] = {stock_path, packed_path};
    (void)unused;
    for (int way = 0; way < 6; way++) {
        sl_engine_options options = options_of(paths[way % 2]);
        options.sparsity = way < 4 ? SL_SPARSITY_COARSE : SL_SPARSITY_FINE;
        options.predictor = way < 4 ? SL_PREDICTOR_STORED : SL_PREDICTOR_ORACLE;
        if (way == 2 || way == 3)
            options.ram_budget_bytes = minimum_budget(options) + 2 * GROWTH + MIB / 2;
        stage s = open_stage(&options);
        for (int shape = CHAIN; shape < SHAPES; shape++) {
            tokens_tree t = tree_of((enum shape)shape, ROWS, 3);
            begin_text(&s, 60);
            float *wanted = chain_logits(&s, 60, &t, SL_EVAL_SPARSE);
            for (uint32_t first = 0, rows; first < t.count; first += rows) {
                rows = 1;
                while (first + rows < t.count && t.parents[first + rows] < (int32_t)first) /* none of them follows another of them */
                    rows++;
                const float *got = eval_tree(&s, &t, first, rows, SL_EVAL_SPARSE | SL_EVAL_MORE | (first > 0 ? SL_EVAL_GROW : 0u));
                same_rows(wanted + (size_t)first * VOCAB, got, rows, "sparse", 60, shape);
            }
            free(wanted);
        }
        close_stage(&s);
    }
}

/* ---- what is kept ---- */

/* What layers and heads hold of the positions before `end` is the same. */
static void same_cache(const stage *a, const stage *b, uint32_t end)
{
    static const char *const names[SLI_KV_KINDS] = {"keys", "values", "keys as rows"};
    const sl_model *m = a->engine->model;
    const sl_kernels *kernels = a->engine->kernels;
    const sli_kv *of[] = {&a->session->kv, &b->session->kv};
    uint8_t *page[2];
    size_t bytes = of[0]->page_bytes[SLI_KV_KEYS] + of[0]->page_bytes[SLI_KV_VALUES];
    for (int i = 0; i < 2; i++)
        assert_non_null(page[i] = malloc(bytes));
    for (uint32_t position = 0; position < end; position++)
        for (uint32_t row = 0; row < m->layers * m->kv_heads * SLI_KV_KINDS; row++) {
            uint32_t kind = row % SLI_KV_KINDS, layer = row / SLI_KV_KINDS / m->kv_heads, head = row / SLI_KV_KINDS % m->kv_heads;
            if (of[0]->page_bytes[kind] == 0)
                continue;
            for (int i = 0; i < 2; i++) {
                const uint8_t *from = sli_kv_pages(of[i], layer, head, (sli_kv_kind)kind)[position / SL_KV_PAGE];
                memset(page[i], 0, bytes);
                (kind == SLI_KV_KEYS ? kernels->kv_copy_k : kernels->kv_copy_v)(kind == SLI_KV_VALUES ? of[i]->v_type : of[i]->k_type, from,
                                                                                position % SL_KV_PAGE, page[i], 3, m->head_dim);
            }
            if (memcmp(page[0], page[1], bytes) != 0)
                fail_msg("position %u of %u: layer %u, head %u, %s differ", position, end, layer, head, names[kind]);
        }
    free(page[0]);
    free(page[1]);
}

/* A token that attends to a part of the cache, and is taken back: what it summed of the values must not outlive them. */
static const float *try_sparq(const stage *s, uint32_t position)
{
    const sl_token_id token = 77;
    const float *logits;
    sl_error err = {0};
    check(sl_session_eval(s->session, &token, 1, SL_EVAL_LOGITS | SL_EVAL_SPARQ, &logits, &err), &err);
    check(sl_session_truncate(s->session, position, &err), &err);
    return logits;
}

/* Random trees, of each a random path kept, between them plain rows and steps back; the account is a list of tokens. */
static void any_paths_that_are_kept_leave_the_cache_of_plain_text(void **unused)
{
    (void)unused;
    for (uint32_t seed = 1; seed <= 12; seed++) {
        sl_engine_options options = options_of(seed % 3 == 0 ? windowed_path : stock_path);
        options.k_type = (sl_kv_type)(seed % 5);
        options.v_type = (sl_kv_type)(seed / 3 % 5);
        options.sparq_k = options.sparq_r = seed % 2 ? 8 : 0;
        options.sparq_reallocate = SL_SPARQ_REALLOCATE_ON;
        stage s = open_stage(&options), plain = open_stage(&options);
        sl_token_id text[CONTEXT];
        uint32_t count = 0, state = seed;
        sl_error err = {0};
        for (int step = 0; step < 14; step++) {
            uint32_t room = CONTEXT - 1 - count, rows = 1 + next_random(&state) % (step % 4 == 0 ? MOST : ROWS);
            tokens_tree t = tree_of(step % 2 ? RANDOM : DEEP, rows < room ? rows : room, next_random(&state));
            uint32_t path[SL_TREE_ROWS];
            if (t.count == 0)
                break;
            eval_tree(&s, &t, 0, t.count, 0);
            assert_int_equal(sl_session_position(s.session), count);
            if (step % 5 != 3) { /* else it is forgotten */
                uint32_t kept = path_to(&t, next_random(&state) % t.count, path);
                check(sl_session_keep_path(s.session, path, kept, &err), &err);
                for (uint32_t i = 0; i < kept; i++)
                    text[count++] = t.tokens[path[i]];
            }
            if (step % 6 == 5) {
                count -= next_random(&state) % (count < 9 ? count + 1 : 9);
                check(sl_session_truncate(s.session, count, &err), &err);
            }
            text[count] = (sl_token_id)(next_random(&state) % 384);
            check(sl_session_eval(s.session, &text[count++], 1, 0, NULL, &err), &err);
            if (options.sparq_k > 0 && count < CONTEXT)
                (void)try_sparq(&s, count);
            assert_int_equal(sl_session_position(s.session), count);
            assert_memory_equal(s.session->history, text, count * sizeof *text);
        }
        check(sl_session_eval(plain.session, text, count, 0, NULL, &err), &err);
        same_cache(&plain, &s, count);
        if (options.sparq_k > 0 && count < CONTEXT)
            assert_memory_equal(try_sparq(&s, count), try_sparq(&plain, count), VOCAB * sizeof(float));
        close_stage(&s);
        close_stage(&plain);
    }
}

/* ---- what goes wrong ---- */

typedef struct tripwire {
    sl_engine *engine;
    int left;
} tripwire;

static void trip(void *ctx, uint32_t layer, const float *x, uint32_t rows)
{
    tripwire *t = ctx;
    (void)layer;
    (void)x;
    (void)rows;
    if (--t->left == 0)
        sl_engine_interrupt(t->engine);
}

static void an_interrupted_tree_leaves_the_session_and_the_rows_before_it(void **unused)
{
    sl_engine_options options = options_of(stock_path);
    stage s = open_stage(&options), plain = open_stage(&options);
    tokens_tree t = tree_of(RANDOM, ROWS, 5), other = tree_of(RANDOM, ROWS, 6);
    sl_error err = {0};
    (void)unused;
    begin_text(&plain, 50);
    float *wanted = chain_logits(&plain, 50, &t, 0);
    for (int at = 1; at <= 2; at++) {
        tripwire wire = {s.engine, at};
        begin_text(&s, 50);
        eval_tree(&s, &t, 0, 8, 0);
        s.engine->observer = (sli_observer){.see = trip, .ctx = &wire};
        assert_int_equal(
            sl_session_eval_tree(s.session, other.tokens + 8, t.parents + 8, ROWS - 8, SL_EVAL_LOGITS | SL_EVAL_GROW, NULL, &err),
            SL_INTERRUPTED);
        s.engine->observer = (sli_observer){0};
        assert_int_equal(sl_session_position(s.session), 50);
        same_rows(wanted + 8 * VOCAB, eval_tree(&s, &t, 8, ROWS - 8, SL_EVAL_GROW), ROWS - 8, "after an interrupt", 50, RANDOM);
        uint32_t path[SL_TREE_ROWS], kept = path_to(&t, ROWS - 1, path);
        check(sl_session_keep_path(s.session, path, kept, &err), &err);
        check(sl_session_truncate(plain.session, 50, &err), &err);
        for (uint32_t i = 0; i < kept; i++)
            check(sl_session_eval(plain.session, &t.tokens[path[i]], 1, 0, NULL, &err), &err);
        same_cache(&plain, &s, 50 + kept);
    }
    free(wanted);
    close_stage(&s);
    close_stage(&plain);
}

static void what_is_no_tree_and_no_path_is_refused(void **unused)
{
    static const int32_t chain[] = {-1, 0, 1, 1}, rootless[] = {0, 0}, forward[] = {-1, 1}, twice[] = {-1, -1};
    static const sl_token_id tokens[SL_TREE_ROWS_MAX + 1] = {1, 2, 3, 4};
    static const uint32_t right[] = {0, 1, 3}, headless[] = {1, 3}, jump[] = {0, 3}, beyond[] = {0, 1, 4}, repeated[] = {0, 0};
    int32_t many[SL_TREE_ROWS_MAX + 1] = {-1};
    sl_engine_options options = options_of(stock_path);
    options.batch = 200;
    options.draft_max = 199;
    stage s = open_stage(&options);
    sl_error err = {0};
    (void)unused;
    begin_text(&s, 20);
    assert_int_equal(sl_session_eval_tree(s.session, tokens, rootless, 2, 0, NULL, &err), SL_INVALID);
    assert_int_equal(sl_session_eval_tree(s.session, tokens, forward, 2, 0, NULL, &err), SL_INVALID);
    assert_int_equal(sl_session_eval_tree(s.session, tokens, twice, 2, 0, NULL, &err), SL_INVALID);
    assert_int_equal(sl_session_eval_tree(s.session, tokens, many, SL_TREE_ROWS_MAX + 1, 0, NULL, &err), SL_INVALID);
    assert_int_equal(sl_session_eval_tree(s.session, tokens, many, 0, 0, NULL, &err), SL_INVALID);
    check(sl_session_eval_tree(s.session, tokens, many, SL_TREE_ROWS_MAX, 0, NULL, &err), &err);
    assert_int_equal(sl_session_eval_tree(s.session, tokens, forward, 1, SL_EVAL_GROW, NULL, &err), SL_INVALID);
    assert_int_equal(sl_session_eval(s.session, tokens, 1, SL_EVAL_GROW, NULL, &err), SL_INVALID);
    check(sl_session_eval_tree(s.session, tokens, chain, 4, 0, NULL, &err), &err);
    assert_int_equal(sl_session_keep_path(s.session, headless, 2, &err), SL_INVALID);
    assert_int_equal(sl_session_keep_path(s.session, jump, 2, &err), SL_INVALID);
    assert_int_equal(sl_session_keep_path(s.session, beyond, 3, &err), SL_INVALID);
    assert_int_equal(sl_session_keep_path(s.session, repeated, 2, &err), SL_INVALID);
    assert_int_equal(sl_session_position(s.session), 20);
    check(sl_session_keep_path(s.session, right, 3, &err), &err);
    assert_int_equal(sl_session_position(s.session), 23);
    assert_int_equal(sl_session_keep_path(s.session, right, 1, &err), SL_INVALID); /* the tree is gone */
    begin_text(&s, CONTEXT - 3);
    assert_int_equal(sl_session_eval_tree(s.session, tokens, chain, 4, 0, NULL, &err), SL_FULL);
    check(sl_session_eval_tree(s.session, tokens, chain, 3, 0, NULL, &err), &err);
    check(sl_session_keep_path(s.session, right, 2, &err), &err);
    close_stage(&s);
}

/* Against a plain way to find paths: by walking to the root. */
static void paths_of_random_trees_are_those_of_their_parents(void **unused)
{
    (void)unused;
    for (uint32_t seed = 1; seed <= 200; seed++) {
        tokens_tree t = tree_of(seed % 2 ? RANDOM : DEEP, 1 + seed % SL_TREE_ROWS, seed);
        sli_tree tree = {0};
        sl_error err = {0};
        for (uint32_t row = 0, rows; row < t.count; row += rows) {
            rows = 1 + (row + seed) % 5 < t.count - row ? 1 + (row + seed) % 5 : t.count - row;
            check(sli_tree_check(&tree, t.parents + row, rows, &err), &err);
            sli_tree_add(&tree, t.parents + row, rows);
        }
        for (uint32_t row = 0; row < t.count; row++) {
            uint32_t path[SL_TREE_ROWS], count = path_to(&t, row, path);
            assert_int_equal(tree.depth[row], count - 1);
            for (uint32_t i = 0; i < count; i++)
                assert_int_equal(tree.path[row][i], path[i]);
            assert_true(sli_tree_is_path(&tree, path, count));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paths_of_random_trees_are_those_of_their_parents),
        cmocka_unit_test(rows_of_a_tree_are_chains_in_every_instruction_set),
        cmocka_unit_test(rows_of_a_tree_are_chains_with_every_type_of_cache),
        cmocka_unit_test(rows_of_a_tree_see_no_further_than_their_window),
        cmocka_unit_test(rows_of_a_tree_have_the_learned_positions_of_their_depth),
        cmocka_unit_test(rows_of_a_tree_with_sparq_attention_are_chains_with_it),
        cmocka_unit_test(budgets_threads_and_packed_files_do_not_show),
        cmocka_unit_test(sparse_rows_that_join_a_tree_are_sparse_chains),
        cmocka_unit_test(any_paths_that_are_kept_leave_the_cache_of_plain_text),
        cmocka_unit_test(an_interrupted_tree_leaves_the_session_and_the_rows_before_it),
        cmocka_unit_test(what_is_no_tree_and_no_path_is_refused),
    };
    return cmocka_run_group_tests(tests, write_models, forget_models);
}
