/* offload/draft_length.c: see draft_length.h. */
#include "offload/draft_length.h"

#include <math.h>
#include <string.h>

/* Before anything is known: chances of the first token, by source. Lookups' were measured on chats with SmolLM2 (bench/SPEED.md). */
static const double first_chance[SLI_SOURCE_COUNT] = {0, 0.17, 0.43, 0.6, 0.85, 0.6};
#define ASSUMED_WEIGHT 4.0  /* tokens' worth of belief in that */
#define ROW_SHARE      0.15 /* what a further row adds to a pass, in parts of a plain one */
#define DRAFT_SHARE    0.25 /* a token drafted by the model, likewise */

#define FADE        0.97 /* of counts, at each draft of their source: texts change */
#define TIME_WEIGHT 0.25 /* of a new measurement */
#define TIME_JUMP   2.0  /* a single one counts as at most so many times what was known: others use the machine, too */

#define MARGIN       0.97 /* of plain decoding's time: less of a gain is not worth a draft */
#define LOSS_SHARE   0.01
#define LOSS_PASSES  2.0
#define TRIAL_SHARE  0.01
#define TRIAL_PASSES 1.0
#define TRIAL_TOKENS 2
#define GAIN_PASSES  4.0 /* of gains that are remembered */
#define ACCOUNT_FADE 0.998
#define REMEASURE    64   /* choices after which a plain pass is measured again, where drafting gains */
#define AS_BEFORE    0.25 /* it is measured once more while it is further from what was known */

void sli_draft_length_begin(sli_draft_length *c, uint32_t max)
{
    memset(c, 0, sizeof *c);
    c->max = max < SL_DRAFT_AUTO_MAX ? max : SL_DRAFT_AUTO_MAX;
}

/* ---- what is expected ---- */

static double plain(const sli_draft_length *c)
{
    return c->pass_s[0][1];
}

static double drafting(const sli_draft_length *c, sli_source source)
{
    if (source != SLI_SOURCE_MODEL)
        return 0;
    return c->draft_s > 0 ? c->draft_s : DRAFT_SHARE * plain(c);
}

/* As measured; 0: not measured. */
static double measured(const sli_draft_length *c, sli_source source, uint32_t rows)
{
    return rows <= 1 ? plain(c) : c->pass_s[source == SLI_SOURCE_MODEL][rows];
}

static uint32_t last_measured(const sli_draft_length *c, sli_source source, uint32_t rows)
{
    while (rows > 1 && measured(c, source, rows) == 0)
        rows--;
    return rows;
}

/* A pass of so many rows: as measured, or in line with the nearest that were. */
static double passing(const sli_draft_length *c, sli_source source, uint32_t rows)
{
    uint32_t below = last_measured(c, source, rows), above = rows + 1;
    double at_below = measured(c, source, below), row_s = ROW_SHARE * plain(c);
    while (above <= c->max + 1 && measured(c, source, above) == 0)
        above++;
    if (above <= c->max + 1) {
        row_s = (measured(c, source, above) - at_below) / (above - below);
    } else if (below > 1) {
        uint32_t before = last_measured(c, source, below - 1);
        row_s = (at_below - measured(c, source, before)) / (below - before);
    }
    return at_below + (row_s > 0 ? row_s : 0) * (rows - below);
}

/* What nobody has measured is approached in steps: at most twice the rows of the largest pass so far. */
static uint32_t within_reach(const sli_draft_length *c, sli_source source, uint32_t most)
{
    uint32_t tokens = 2 * last_measured(c, source, c->max + 1) - 1;
    return tokens < most ? tokens : most;
}

typedef struct expectation {
    double advance, seconds;
} expectation;

/* What a later token's chance is taken for until it has been seen: that of the one before. A lookup whose first tokens were right is a
 * longer match, too. */
static double assumed(sli_source source, uint32_t tokens, double chance_before)
{
    if (source == SLI_SOURCE_MODEL)
        return chance_before;
    uint32_t as_match = source + tokens - 1 < SLI_SOURCE_LOOKUP_4 ? source + tokens - 1 : SLI_SOURCE_LOOKUP_4;
    return tokens > 1 && first_chance[as_match] > chance_before ? first_chance[as_match] : chance_before;
}

/* Of a check of `tokens`, following one of a token less. */
static void expect_next(const sli_draft_length *c, sli_source source, uint32_t tokens, double *chance, double *all, expectation *e)
{
    *chance = (c->accepted[source][tokens] + ASSUMED_WEIGHT * assumed(source, tokens, *chance)) /
              (c->reached[source][tokens] + ASSUMED_WEIGHT);
    *all *= *chance;
    e->advance += *all;
    e->seconds = tokens * drafting(c, source) + passing(c, source, tokens + 1);
}

typedef struct prospect {
    sli_draft_choice choice;
    double per_token_s;
} prospect;

/* Of up to `most` tokens from a source: that of the least time per token; that of all of them when `all`. */
static prospect best_of(const sli_draft_length *c, sli_source source, uint32_t most, bool all, expectation *expected)
{
    prospect best = {{SLI_SOURCE_NONE, 0}, 0};
    double chance = first_chance[source], together = 1;
    expectation e = {1, 0};
    most = within_reach(c, source, most);
    for (uint32_t n = 1; n <= most; n++) {
        expect_next(c, source, n, &chance, &together, &e);
        double per_token = e.seconds / e.advance;
        if (all ? n == most : best.choice.tokens == 0 || per_token < best.per_token_s) {
            best = (prospect){{source, n}, per_token};
            *expected = e;
        }
    }
    return best;
}

/* ---- choosing ---- */

static prospect best_offered(const sli_draft_length *c, const sli_source *offered, uint32_t count, uint32_t most, bool all,
                             expectation *of_best)
{
    prospect best = {{SLI_SOURCE_NONE, 0}, 0};
    for (uint32_t i = 0; i < count; i++) {
        expectation expected = {1, 0};
        prospect p = best_of(c, offered[i], most, all, &expected);
        if (p.choice.tokens > 0 && (best.choice.tokens == 0 || p.per_token_s < best.per_token_s)) {
            best = p;
            *of_best = expected;
        }
    }
    return best;
}

/* What looks like a loss is tried while trials are cheap: else what changed for the better would never be seen. */
static sli_draft_choice try_one(sli_draft_length *c, const sli_source *offered, uint32_t count, uint32_t most)
{
    expectation e = {1, 0};
    prospect p = best_offered(c, offered, count, most < TRIAL_TOKENS ? most : TRIAL_TOKENS, true, &e);
    double loss = e.seconds / plain(c) - e.advance;
    if (c->tried + loss > TRIAL_SHARE * c->advanced + TRIAL_PASSES)
        return (sli_draft_choice){SLI_SOURCE_NONE, 0};
    c->trying = true;
    return p.choice;
}

sli_draft_choice sli_draft_length_choose(sli_draft_length *c, const sli_source *offered, uint32_t count, uint32_t most)
{
    const sli_draft_choice none = {SLI_SOURCE_NONE, 0};
    expectation expected = {1, 0};
    most = most < c->max ? most : c->max;
    c->trying = false;
    c->unmeasured++;
    if (plain(c) == 0 || most == 0 || count == 0) /* a plain pass first: all else is compared with it */
        return none;
    if (c->gained < -(LOSS_SHARE * c->advanced + LOSS_PASSES))
        return none;
    prospect best = best_offered(c, offered, count, most, false, &expected);
    if (!(best.per_token_s < MARGIN * plain(c)))
        return try_one(c, offered, count, most);
    return c->unmeasured > REMEASURE ? none : best.choice;
}

/* ---- learning ---- */

static void measure(double *known, double seconds)
{
    if (*known == 0) {
        *known = seconds;
        return;
    }
    seconds = seconds < TIME_JUMP * *known ? seconds : TIME_JUMP * *known;
    *known += TIME_WEIGHT * (seconds - *known);
}

static void count_depths(sli_draft_length *c, const sli_draft_outcome *o)
{
    for (uint32_t depth = 1; depth <= c->max; depth++) {
        c->reached[o->source][depth] *= FADE;
        c->accepted[o->source][depth] *= FADE;
    }
    for (uint32_t depth = 1; depth <= o->drafted && depth <= o->accepted + 1; depth++) {
        c->reached[o->source][depth] += 1;
        c->accepted[o->source][depth] += depth <= o->accepted;
    }
}

static void balance(sli_draft_length *c, const sli_draft_outcome *o)
{
    double advance = o->accepted + 1, gain = advance - (o->draft_s + o->pass_s) / plain(c);
    c->advanced = ACCOUNT_FADE * c->advanced + advance;
    c->gained *= ACCOUNT_FADE;
    c->tried *= ACCOUNT_FADE;
    if (o->drafted == 0 || !(plain(c) > 0))
        return;
    c->gained = c->gained + gain < GAIN_PASSES ? c->gained + gain : GAIN_PASSES;
    if (c->trying && gain < 0)
        c->tried -= gain;
}

void sli_draft_length_learn(sli_draft_length *c, const sli_draft_outcome *o)
{
    bool by_model = o->drafted > 0 && o->source == SLI_SOURCE_MODEL;
    double change = fabs(o->pass_s - plain(c));
    if (o->drafted > c->max)
        return; /* not of our choosing */
    if (o->drafted == 0 && (plain(c) == 0 || change < AS_BEFORE * plain(c)))
        c->unmeasured = 0;
    measure(&c->pass_s[by_model][o->drafted + 1], o->pass_s);
    if (by_model)
        measure(&c->draft_s, o->draft_s / o->drafted);
    if (o->drafted > 0)
        count_depths(c, o);
    balance(c, o);
}
