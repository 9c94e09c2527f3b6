/* tests/test_draft_tree.c: which tokens a tree of drafts has, against plain ways to find them, on a made-up drafter whose chances are a function of
 * the path. */
#include "offload/draft_tree.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { CHOICES = 5, PATH = 12 };

/* ---- the drafter ---- */

typedef struct path {
    uint32_t length; /* the first token included */
    sl_token tokens[PATH];
} path;

static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* What follows a path: likelier first, together less than 1. */
static void choices_of(const path *p, uint64_t seed, sl_choice out[CHOICES])
{
    uint64_t bits = mix(seed);
    for (uint32_t i = 0; i < p->length; i++)
        bits = mix(bits + (uint64_t)(uint32_t)p->tokens[i] + 1);
    double share = 0.35 + (double)(bits >> 40) / (double)(1 << 24) * 0.6, left = 1;
    for (int i = 0; i < CHOICES; i++, left *= 1 - share)
        out[i] = (sl_choice){(sl_token)(mix(bits + (uint64_t)i) % 1000 * CHOICES + (uint64_t)i), log(left * share)};
}

static path path_to(const sli_draft_tree *t, uint32_t node)
{
    path p = {.length = t->nodes[node].depth + 1};
    for (int32_t at = (int32_t)node; at >= 0; at = t->nodes[at].parent)
        p.tokens[t->nodes[at].depth] = t->nodes[at].token;
    return p;
}

static void draft(sli_draft_tree *t, uint64_t seed, uint32_t width)
{
    for (uint32_t depth = 0; depth < t->shape.depth; depth++) {
        uint16_t nodes[SL_TREE_ROWS];
        uint32_t count = sli_draft_tree_level(t, depth, nodes);
        for (uint32_t i = 0; i < count; i++) {
            sl_choice choices[CHOICES];
            path p = path_to(t, nodes[i]);
            assert_int_equal(t->nodes[nodes[i]].depth, depth);
            choices_of(&p, seed, choices);
            sli_draft_tree_offer(t, nodes[i], choices, width != 0 ? width : CHOICES);
        }
    }
}

/* ---- plain ways ---- */

typedef struct candidate {
    path p;
    double log_p;
    bool open; /* what follows was not looked at */
} candidate;

static candidate longer(const candidate *c, const sl_choice *choice)
{
    candidate next = *c;
    next.p.tokens[next.p.length++] = choice->id;
    next.log_p += choice->log_p;
    next.open = true;
    return next;
}

static int likelier(const void *a, const void *b)
{
    double x = ((const candidate *)a)->log_p, y = ((const candidate *)b)->log_p;
    return x > y ? -1 : x < y;
}

/* One by one: what follows the likeliest that is open, until `rows` of the likeliest are looked at. */
static uint32_t best_first(uint64_t seed, uint32_t depth, uint32_t rows, candidate *all)
{
    uint32_t count = 1;
    all[0] = (candidate){.p = {.length = 1, .tokens = {7}}, .open = true};
    for (;;) {
        uint32_t at = 0;
        qsort(all, count, sizeof *all, likelier);
        while (at < count && at < rows && (!all[at].open || all[at].p.length > depth))
            at++;
        if (at == count || at == rows)
            return count < rows ? count : rows;
        sl_choice choices[CHOICES];
        choices_of(&all[at].p, seed, choices);
        all[at].open = false;
        for (int i = 0; i < CHOICES; i++)
            all[count++] = longer(&all[at], &choices[i]);
    }
}

static uint32_t constant_width(uint64_t seed, uint32_t depth, uint32_t width, candidate *all)
{
    uint32_t count = 1, first = 0, level = 1;
    all[0] = (candidate){.p = {.length = 1, .tokens = {7}}};
    for (uint32_t d = 0; d < depth; d++) {
        candidate next[16 * CHOICES];
        uint32_t n = 0;
        for (uint32_t i = 0; i < level; i++) {
            sl_choice choices[CHOICES];
            choices_of(&all[first + i].p, seed, choices);
            for (uint32_t c = 0; c < width; c++)
                next[n++] = longer(&all[first + i], &choices[c]);
        }
        qsort(next, n, sizeof *next, likelier);
        first = count;
        level = n < width ? n : width;
        memcpy(all + count, next, level * sizeof *next);
        count += level;
    }
    return count;
}

static bool is_among(const candidate *all, uint32_t count, const path *p)
{
    for (uint32_t i = 0; i < count; i++)
        if (all[i].p.length == p->length && memcmp(all[i].p.tokens, p->tokens, p->length * sizeof *p->tokens) == 0)
            return true;
    return false;
}

/* The finished tree has these candidates, and its rows are in order. */
static void check_tree(sli_draft_tree *t, const candidate *wanted, uint32_t count)
{
    uint16_t nodes[SL_TREE_ROWS];
    sl_token tokens[SL_TREE_ROWS];
    int32_t parents[SL_TREE_ROWS];
    uint32_t rows = sli_draft_tree_finish(t, nodes, tokens, parents);
    assert_int_equal(rows, count);
    for (uint32_t row = 0; row < rows; row++) {
        path p = path_to(t, nodes[row]);
        assert_true(is_among(wanted, count, &p));
        assert_int_equal(tokens[row], p.tokens[p.length - 1]);
        assert_true(row == 0 ? parents[row] == -1 : parents[row] >= 0 && parents[row] < (int32_t)row);
        assert_true(row == 0 || nodes[parents[row]] == t->nodes[nodes[row]].parent);
    }
}

/* ---- tests ---- */

static sli_draft_tree tree;
static candidate found[4096];

static void best_first_by_levels_is_best_first_one_by_one(void **unused)
{
    (void)unused;
    for (uint64_t seed = 0; seed < 300; seed++) {
        sli_draft_shape shape = {.depth = 1 + (uint32_t)seed % 10, .rows = 2 + (uint32_t)seed * 7 % 60, .log_least = -INFINITY};
        uint32_t count = best_first(seed, shape.depth, shape.rows, found);
        sli_draft_tree_begin(&tree, &shape, 7);
        draft(&tree, seed, 0);
        check_tree(&tree, found, count);
    }
}

static void a_constant_width_keeps_the_likeliest_of_each_depth(void **unused)
{
    (void)unused;
    for (uint64_t seed = 0; seed < 300; seed++) {
        uint32_t width = 1 + (uint32_t)seed % CHOICES, depth = 1 + (uint32_t)seed % 10;
        sli_draft_shape shape = {.width = width, .depth = depth, .rows = width * depth + 1, .log_least = -INFINITY};
        uint32_t count = constant_width(seed, depth, width, found);
        sli_draft_tree_begin(&tree, &shape, 7);
        draft(&tree, seed, width);
        check_tree(&tree, found, count);
    }
}

static void what_is_less_likely_than_asked_for_is_left_out(void **unused)
{
    (void)unused;
    for (uint64_t seed = 0; seed < 100; seed++) {
        sli_draft_shape shape = {.width = 3 * (seed % 2), .depth = 8, .rows = 40, .log_least = log(0.1)};
        uint16_t nodes[SL_TREE_ROWS];
        sl_token tokens[SL_TREE_ROWS];
        int32_t parents[SL_TREE_ROWS];
        sli_draft_tree_begin(&tree, &shape, 7);
        draft(&tree, seed, shape.width);
        uint32_t rows = sli_draft_tree_finish(&tree, nodes, tokens, parents);
        for (uint32_t row = 0; row < rows; row++)
            assert_true(tree.nodes[nodes[row]].log_p >= log(0.1));
        assert_true(rows > 1 && rows < 25);
    }
}

/* A lookup joins a tree once: where the model drafts its tokens, too, they are the model's. */
static void a_lookup_is_a_branch_that_shares_what_the_model_drafts(void **unused)
{
    (void)unused;
    for (uint64_t seed = 0; seed < 100; seed++)
        for (uint32_t width = 0; width <= 3; width += 3) {
            sli_draft_shape shape = {.width = width, .depth = 5, .rows = 3 * 5 + 1 + 4, .log_least = -INFINITY};
            sl_token looked_up[4] = {6001, 6002, 6003, 6004};
            sl_choice choices[CHOICES];
            path first = {.length = 1, .tokens = {7}};
            uint16_t nodes[SL_TREE_ROWS];
            sl_token tokens[SL_TREE_ROWS];
            int32_t parents[SL_TREE_ROWS];
            choices_of(&first, seed, choices);
            if (seed % 2)
                looked_up[0] = choices[0].id;
            sli_draft_tree_begin(&tree, &shape, 7);
            sli_draft_tree_look_up(&tree, looked_up, 4, 0.85);
            draft(&tree, seed, width);
            uint32_t rows = sli_draft_tree_finish(&tree, nodes, tokens, parents), alone = 0, heads = 0, at = 0;
            assert_true(rows <= shape.rows);
            for (uint32_t row = 1; row < rows; row++) {
                alone += !tree.nodes[nodes[row]].by_model;
                heads += parents[row] == 0 && tokens[row] == looked_up[0];
                if (at < 4 && tokens[row] == looked_up[at] && tree.nodes[nodes[row]].depth == at + 1)
                    at++;
            }
            assert_int_equal(at, 4);
            assert_int_equal(heads, 1);
            assert_int_equal(alone, seed % 2 ? 3 : 4);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(best_first_by_levels_is_best_first_one_by_one),
        cmocka_unit_test(a_constant_width_keeps_the_likeliest_of_each_depth),
        cmocka_unit_test(what_is_less_likely_than_asked_for_is_left_out),
        cmocka_unit_test(a_lookup_is_a_branch_that_shares_what_the_model_drafts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
