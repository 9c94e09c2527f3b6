/* tests/test_draft_length.c: how many tokens are drafted, on machines and texts that are made up.
 *
 * A world says what passes and drafts take and how likely a drafted token is to be right; time is counted, not measured. */
#include "offload/draft_length.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

typedef struct world {
    double plain_s, row_s;            /* a pass of one row; what each further row adds */
    double draft_s;                   /* a token by the model */
    double right[SLI_SOURCE_COUNT];   /* chance of a drafted token to be right, its predecessors being right */
    double offered[SLI_SOURCE_COUNT]; /* chance that a source has something to offer */
    double noise;                     /* measured times are up to so many times larger */
    uint32_t seed;
} world;

static double chance(world *w)
{
    w->seed = w->seed * 1664525u + 1013904223u;
    return (w->seed >> 8) * 0x1p-24;
}

typedef struct course {
    double seconds, plain_s;
    uint64_t tokens, drafted, checks, plain_passes;
} course;

static void step(world *w, sli_draft_length *c, sli_draft_choice choice, course *to)
{
    sli_draft_outcome o = {.source = choice.source, .drafted = choice.tokens};
    while (o.accepted < o.drafted && chance(w) < w->right[o.source])
        o.accepted++;
    double slow = 1 + w->noise * chance(w);
    o.draft_s = choice.source == SLI_SOURCE_MODEL ? choice.tokens * w->draft_s * slow : 0;
    o.pass_s = (w->plain_s + w->row_s * choice.tokens) * slow;
    to->seconds += o.draft_s + o.pass_s;
    to->plain_s += (o.accepted + 1) * w->plain_s * (1 + w->noise / 2);
    to->tokens += o.accepted + 1;
    to->drafted += o.drafted;
    to->checks++;
    to->plain_passes += o.drafted == 0;
    if (c != NULL)
        sli_draft_length_learn(c, &o);
}

static uint32_t offers(world *w, sli_source *out)
{
    uint32_t n = 0;
    for (int s = SLI_SOURCE_LOOKUP_1; s < SLI_SOURCE_COUNT; s++)
        if (chance(w) < w->offered[s])
            out[n++] = (sli_source)s;
    return n;
}

static course decode(world *w, sli_draft_length *c, uint64_t tokens)
{
    course to = {0};
    while (to.tokens < tokens) {
        sli_source offered[SLI_SOURCE_COUNT];
        uint32_t n = offers(w, offered);
        step(w, c, sli_draft_length_choose(c, offered, n, SL_DRAFT_AUTO_MAX), &to);
    }
    return to;
}

static course run(world w, uint64_t tokens)
{
    sli_draft_length c;
    sli_draft_length_begin(&c, SL_DRAFT_AUTO_MAX);
    return decode(&w, &c, tokens);
}

/* Always `n` tokens of one source. */
static double fixed_seconds_per_token(world w, sli_source source, uint32_t n)
{
    course to = {0};
    while (to.tokens < 20000)
        step(&w, NULL, (sli_draft_choice){source, n}, &to);
    return to.seconds / (double)to.tokens;
}

static double best_fixed(world w, sli_source source)
{
    double best = fixed_seconds_per_token(w, source, 0);
    for (uint32_t n = 1; n <= SL_DRAFT_AUTO_MAX; n++) {
        double s = fixed_seconds_per_token(w, source, n);
        best = s < best ? s : best;
    }
    return best;
}

static void the_first_pass_is_plain_and_so_is_all_without_an_offer(void **state)
{
    (void)state;
    sli_draft_length c;
    const sli_source model = SLI_SOURCE_MODEL;
    sli_draft_length_begin(&c, 8);
    assert_int_equal(sli_draft_length_choose(&c, &model, 1, 8).tokens, 0);
    sli_draft_length_learn(&c, &(sli_draft_outcome){.pass_s = 1});
    assert_true(sli_draft_length_choose(&c, &model, 1, 8).tokens > 0);
    assert_int_equal(sli_draft_length_choose(&c, &model, 0, 8).tokens, 0);
    assert_int_equal(sli_draft_length_choose(&c, &model, 1, 0).tokens, 0);
    for (uint32_t most = 1; most <= 8; most++)
        assert_in_range(sli_draft_length_choose(&c, &model, 1, most).tokens, 1, most);
    sli_draft_length_begin(&c, 0);
    sli_draft_length_learn(&c, &(sli_draft_outcome){.pass_s = 1});
    assert_int_equal(sli_draft_length_choose(&c, &model, 1, 8).tokens, 0);
}

/* Worlds in which drafting cannot pay: drafts that are always wrong, rows as dear as passes, drafts as dear as the model. */
static void hopeless_drafts_cost_a_fiftieth_at_most(void **state)
{
    (void)state;
    const world worlds[] = {
        {.plain_s = 1, .row_s = 0.1, .draft_s = 0.3, .offered[SLI_SOURCE_MODEL] = 1},
        {.plain_s = 1, .row_s = 1.0, .draft_s = 1.0, .right[SLI_SOURCE_MODEL] = 0.6, .offered[SLI_SOURCE_MODEL] = 1},
        {.plain_s = 1, .row_s = 2.0, .draft_s = 0, .right[SLI_SOURCE_LOOKUP_4] = 0.5, .offered[SLI_SOURCE_LOOKUP_4] = 1},
        {.plain_s = 1, .row_s = 0.05, .offered[SLI_SOURCE_LOOKUP_1] = 1, .offered[SLI_SOURCE_LOOKUP_4] = 0.5},
        {.plain_s = 1, .row_s = 0.2, .draft_s = 3, .right[SLI_SOURCE_MODEL] = 0.9, .offered[SLI_SOURCE_MODEL] = 1},
        {.plain_s = 1, .row_s = 0.6, .draft_s = 0.6, .right[SLI_SOURCE_MODEL] = 0.3, .offered[SLI_SOURCE_MODEL] = 1, .noise = 0.5},
    };
    for (size_t i = 0; i < sizeof worlds / sizeof *worlds; i++)
        for (uint32_t seed = 0; seed < 20; seed++)
            for (uint64_t tokens = 64; tokens <= 4096; tokens *= 4) {
                world w = worlds[i];
                w.seed = seed;
                course c = run(w, tokens);
                double allowed = 1.02 * c.plain_s + 7; /* passes: what the start costs, the check under way, and noise */
                if (c.seconds > allowed)
                    fail_msg("world %zu, seed %u: %.1f s for %.1f s of plain decoding", i, seed, c.seconds, c.plain_s);
            }
}

/* Where one length is right, it is found. */
static void the_length_comes_close_to_the_best_fixed_one(void **state)
{
    (void)state;
    static const double right[] = {0.5, 0.7, 0.85, 0.95}, rows[] = {0.0, 0.05, 0.2, 0.5}, drafts[] = {0.02, 0.1, 0.3};
    double worst = 0;
    for (size_t r = 0; r < 4; r++)
        for (size_t k = 0; k < 4; k++)
            for (size_t d = 0; d < 3; d++) {
                world w = {.plain_s = 1, .row_s = rows[k], .draft_s = drafts[d], .offered[SLI_SOURCE_MODEL] = 1, .seed = 9};
                w.right[SLI_SOURCE_MODEL] = right[r];
                course c = run(w, 6000);
                double over = c.seconds / (double)c.tokens / best_fixed(w, SLI_SOURCE_MODEL);
                worst = over > worst ? over : worst;
                if (over > 1.08)
                    fail_msg("right %g, rows %g, drafts %g: %.3f times the best", right[r], rows[k], drafts[d], over);
            }
    assert_true(worst > 0.9);
}

static void a_good_drafter_drafts_far_and_a_poor_one_little(void **state)
{
    (void)state;
    world w = {.plain_s = 1, .row_s = 0.05, .draft_s = 0.05, .offered[SLI_SOURCE_MODEL] = 1};
    w.right[SLI_SOURCE_MODEL] = 0.95;
    course good = run(w, 2000);
    w.right[SLI_SOURCE_MODEL] = 0.3;
    course poor = run(w, 2000);
    assert_true((double)good.drafted / (double)good.checks > 6);
    assert_true((double)poor.drafted / (double)poor.checks < 2.5);
    assert_true(good.seconds < 0.35 * good.plain_s);
    assert_true(poor.seconds < 0.9 * poor.plain_s);
}

static void each_source_is_judged_by_itself(void **state)
{
    (void)state;
    world w = {.plain_s = 1, .row_s = 0.15, .draft_s = 0.4};
    w.offered[SLI_SOURCE_MODEL] = 1;
    w.offered[SLI_SOURCE_LOOKUP_1] = 1;
    w.offered[SLI_SOURCE_LOOKUP_4] = 0.3;
    w.right[SLI_SOURCE_LOOKUP_4] = 0.95;
    sli_draft_length c;
    sli_draft_length_begin(&c, SL_DRAFT_AUTO_MAX);
    decode(&w, &c, 1000);
    const sli_source offered[] = {SLI_SOURCE_LOOKUP_1, SLI_SOURCE_LOOKUP_4, SLI_SOURCE_MODEL};
    sli_draft_choice choice = sli_draft_length_choose(&c, offered, 3, SL_DRAFT_AUTO_MAX);
    assert_int_equal(choice.source, SLI_SOURCE_LOOKUP_4);
    assert_true(choice.tokens >= 5);
    uint32_t drafted = 0;
    for (int i = 0; i < 20; i++) {
        choice = sli_draft_length_choose(&c, offered, 1, SL_DRAFT_AUTO_MAX);
        sli_draft_length_learn(&c, &(sli_draft_outcome){choice.source, choice.tokens, 0, 0, 1 + 0.15 * choice.tokens});
        drafted += choice.tokens;
    }
    assert_true(drafted <= 4); /* a lookup of one token was never right */
}

static void what_changes_is_noticed(void **state)
{
    (void)state;
    world w = {.plain_s = 1, .row_s = 0.05, .draft_s = 0.1, .offered[SLI_SOURCE_MODEL] = 1, .right[SLI_SOURCE_MODEL] = 0.9};
    sli_draft_length c;
    sli_draft_length_begin(&c, SL_DRAFT_AUTO_MAX);
    course good = decode(&w, &c, 1500);
    assert_true(good.seconds < 0.5 * good.plain_s);
    w.right[SLI_SOURCE_MODEL] = 0; /* another kind of text */
    course bad = decode(&w, &c, 1500);
    assert_true(bad.seconds < 1.03 * bad.plain_s + 10);
    w.right[SLI_SOURCE_MODEL] = 0.9;
    course again = decode(&w, &c, 3000);
    assert_true(again.seconds < 0.7 * again.plain_s);
    w.plain_s = 0.2; /* all that was read is in memory now: a plain pass is fast, rows and drafts are as they were */
    w.row_s = 0.2;
    w.draft_s = 0.2;
    decode(&w, &c, 1500);
    course fast = decode(&w, &c, 3000);
    assert_true(fast.seconds < 1.05 * fast.plain_s + 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_pass_is_plain_and_so_is_all_without_an_offer),
        cmocka_unit_test(hopeless_drafts_cost_a_fiftieth_at_most),
        cmocka_unit_test(the_length_comes_close_to_the_best_fixed_one),
        cmocka_unit_test(a_good_drafter_drafts_far_and_a_poor_one_little),
        cmocka_unit_test(each_source_is_judged_by_itself),
        cmocka_unit_test(what_changes_is_noticed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
