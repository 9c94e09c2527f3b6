/* offload/cli/drafting.c: drafts and checks of `sluice run`: what the flags mean, and what came of it. */
#include "offload/cli/run_state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TAU             0.1 /* the paper's, and its temperature */
#define TAU_TEMPERATURE 0.6

#define TREE_DEPTH      6  /* of a constant width: later tokens are rarely reached (bench/SPEED.md) */
#define TREE_DEPTH_BEST 10 /* best first goes as deep only where the drafter is sure */
#define TREE_ROWS       24
#define LOOKUP_ROWS     4 /* that a constant width leaves to what was looked up */

/* ---- flags ---- */

/* "auto", or a number of tokens. */
static sl_status parse_draft(const char *text, int32_t *out, sl_error *err)
{
    char *end;
    *out = SL_DRAFT_AUTO;
    if (strcmp(text, "auto") == 0)
        return SL_OK;
    errno = 0;
    long n = strtol(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || n > INT32_MAX)
        return sl_fail(err, SL_INVALID, "--draft %s: it must be auto or a whole number from 0 (no drafts) up", text);
    *out = (int32_t)n;
    return SL_OK;
}

/* "best", or a width. */
static sl_status parse_tree(const cli_args *a, sl_drafting *d, sl_error *err)
{
    char *end;
    if (a->tree == NULL && a->tree_rows > 0)
        return sl_fail(err, SL_INVALID, "--tree-rows has no meaning without --tree best");
    if (a->tree == NULL)
        return SL_OK;
    d->tree = SL_TREE_BEST;
    d->tree_rows = a->tree_rows > 0 ? (uint32_t)a->tree_rows : TREE_ROWS;
    if (strcmp(a->tree, "best") != 0) {
        errno = 0;
        long width = strtol(a->tree, &end, 10);
        if (a->tree[0] < '0' || a->tree[0] > '9' || *end != '\0' || errno != 0 || width < 2 || width > 16)
            return sl_fail(err, SL_INVALID, "--tree %s: it must be best or a width from 2 to 16", a->tree);
        if (a->tree_rows > 0)
            return sl_fail(err, SL_INVALID,
                           "--tree-rows belongs to --tree best: a tree of width %ld has %ld rows for each token of --draft", width, width);
        d->tree = (int32_t)width;
    }
    if (a->draft == NULL)
        d->tokens = d->tree == SL_TREE_BEST ? TREE_DEPTH_BEST : TREE_DEPTH;
    if (d->tokens < 1)
        return sl_fail(err, SL_INVALID, "--tree wants a depth: --draft N, not --draft %s", a->draft);
    int64_t rows = d->tree == SL_TREE_BEST ? d->tokens + 1 : (int64_t)d->tree * d->tokens + 1;
    if (rows > SL_TREE_ROWS_MAX)
        return sl_fail(err, SL_INVALID, "--tree %s --draft %d: a tree of %lld rows; it may have %d", a->tree, d->tokens, (long long)rows,
                       SL_TREE_ROWS_MAX);
    return SL_OK;
}

/* Rows of a check behind its first. */
static uint32_t rows_behind(const sl_drafting *d)
{
    if (d->tokens == SL_DRAFT_AUTO)
        return SL_DRAFT_AUTO_MAX;
    if (d->tree == SL_TREE_BEST)
        return d->tree_rows - 1;
    return d->tree > 0 ? (uint32_t)d->tree * (uint32_t)d->tokens : (uint32_t)d->tokens;
}

/* Flags that say how to draft want one that says to. */
static sl_status check_belonging(const cli_args *a, int32_t tokens, sl_error *err)
{
    const char *flag = a->accept != NULL         ? "--accept"
                       : a->drafter != NULL      ? "--drafter"
                       : a->tau >= 0             ? "--tau"
                       : a->tau_temperature >= 0 ? "--tau-temperature"
                       : a->least_chance >= 0    ? "--least-chance"
                                                 : NULL;
    if (flag != NULL && (a->draft == NULL || tokens == 0) && a->tree == NULL)
        return sl_fail(err, SL_INVALID, "%s has no meaning without --draft auto or --draft N", flag);
    return SL_OK;
}

sl_status cli_drafting_options(const cli_args *a, sl_engine_options *options, sl_drafting *out, sl_error *err)
{
    int policy, drafter;
    bool sets = options->sparsity != SL_SPARSITY_OFF;
    /* A lookup costs nothing, so it is the default; a set of neurons, SparQ, or early exit, alone is the approximation that was asked for. */
    bool early = options->early_exit != SL_EARLY_EXIT_OFF;
    int32_t tokens = sets || early || options->sparq_k > 0 ? 0 : SL_DRAFT_AUTO;
    if (a->draft != NULL)
        SL_TRY(parse_draft(a->draft, &tokens, err));
    SL_TRY(check_belonging(a, tokens, err));
    SL_TRY(cli_one_of("--accept", a->accept, cli_accept_word, &policy, err));
    SL_TRY(cli_one_of("--drafter", a->drafter, cli_drafter_word, &drafter, err));
    if (policy != SL_ACCEPT_THRESHOLD && (a->tau >= 0 || a->tau_temperature >= 0))
        return sl_fail(err, SL_INVALID, "%s belongs to --accept threshold", a->tau >= 0 ? "--tau" : "--tau-temperature");
    *out = (sl_drafting){.tokens = tokens,
                         .accept = (sl_accept)policy,
                         .drafter = (sl_drafter)drafter,
                         .tau = (float)(a->tau >= 0 ? a->tau : TAU),
                         .tau_temperature = (float)(a->tau_temperature >= 0 ? a->tau_temperature : TAU_TEMPERATURE),
                         .least_chance = (float)(a->least_chance > 0 ? a->least_chance : 0)};
    SL_TRY(parse_tree(a, out, err));
    if (out->tree != 0 && policy == SL_ACCEPT_SAMPLE)
        return sl_fail(err, SL_INVALID, "--accept sample judges one draft at a time: it takes chains, no --tree");
    if (out->tree != 0 && drafter == SL_DRAFTER_LOOKUP)
        return sl_fail(err, SL_INVALID, "--drafter lookup gives chains: --tree wants model or mixed");
    SL_TRY(cli_exit_drafting(a, options, out, err));
    bool lookup_only = drafter == SL_DRAFTER_LOOKUP || (drafter == SL_DRAFTER_AUTO && !sets && out->tree == 0);
    if (out->tokens != 0 && options->sparq_k > 0 && lookup_only)
        return sl_fail(
            err, SL_INVALID,
            "--sparq-k has no meaning where drafts are looked up and checks are dense: --drafter model drafts with it, --draft 0 "
            "decodes with it");
    /* Wants another division of the memory, and the processor gains nothing by it (bench/SPEED.md): only for who asks. */
    options->draft_resident = out->tokens != 0 && !sets && !early && (drafter > SL_DRAFTER_LOOKUP || out->tree != 0);
    options->draft_max = rows_behind(out) + (out->tree > 0 && drafter != SL_DRAFTER_MODEL ? LOOKUP_ROWS : 0);
    if (out->tree != 0 && options->draft_max >= SL_TREE_ROWS_MAX)
        options->draft_max = SL_TREE_ROWS_MAX - 1;
    return SL_OK;
}

/* What the engine could not grant. */
static sl_status check_granted(const cli_args *a, const sl_engine_info *info, uint32_t wanted, sl_error *err)
{
    if (a->tree != NULL && (wanted >= info->context || (a->batch != 0 && wanted >= a->batch)))
        return sl_fail(err, SL_INVALID, "--tree %s: a check is one pass of %u rows, and %s allows fewer", a->tree, wanted + 1,
                       wanted >= info->context ? "the context (-c)" : "-b");
    if (wanted >= info->context)
        return sl_fail(err, SL_INVALID, "--draft %u: it must be below the context of %u tokens (-c sets it)", wanted, info->context);
    if (a->batch != 0 && wanted >= a->batch)
        return sl_fail(err, SL_INVALID, "--draft %u: a check is one pass of %u rows, and -b %lld allows fewer", wanted, wanted + 1,
                       (long long)a->batch);
    return SL_OK;
}

sl_status cli_settle_drafting(cli_run_state *s, sl_error *err)
{
    sl_engine_info info;
    const cli_args *a = s->args;
    sl_drafting *d = &s->drafting;
    sl_engine_describe(s->engine, &info);
    bool by_model = d->drafter > SL_DRAFTER_LOOKUP || d->tree != 0;
    if (by_model && strcmp(info.sparsity, "off") == 0 && strcmp(info.early_exit, "off") == 0 && info.draft_density == 0)
        return sl_fail(err, SL_INVALID,
                       "%s %s needs --sparsity coarse or fine, --early-exit, or a packed file and a budget (with a device, --vram-budget) "
                       "that holds its attention and head: the model drafts with a part of its neurons",
                       a->drafter != NULL ? "--drafter" : "--tree", a->drafter != NULL ? a->drafter : a->tree);
    if (a->draft == NULL && a->tree == NULL && info.streamed_bytes == 0)
        d->tokens = 0; /* where nothing is read, a check is no cheaper than its rows */
    if (d->tokens > 0)
        SL_TRY(check_granted(a, &info, rows_behind(d), err));
    if ((a->draft != NULL || d->tree != 0) && d->tokens != 0 && info.draft_max == 0) {
        d->tree = 0;
        cli_note(s->warnings, "no drafts: budget or batch have no room for the rows of a check");
        d->tokens = SL_DRAFT_AUTO; /* decoding is dense all the same */
    }
    return SL_OK;
}

/* ---- reports ---- */

static double advance_of(const sl_draft_stats *d)
{
    return d->checks > 0 ? (double)(d->checks + d->accepted) / (double)d->checks : 0;
}

static double rows_of(const sl_draft_stats *d)
{
    return d->checks > 0 ? (double)(d->checks + d->drafted) / (double)d->checks : 0;
}

static json_t *json_tree(const sl_drafting *d)
{
    if (d->tree == 0)
        return json_null();
    if (d->tree == SL_TREE_BEST)
        return json_pack("{s:s, s:i, s:i}", "shape", "best", "depth", (int)d->tokens, "rows", (int)d->tree_rows);
    return json_pack("{s:s, s:i, s:i, s:i}", "shape", "width", "width", (int)d->tree, "depth", (int)d->tokens, "rows",
                     (int)(d->tree * d->tokens + 1));
}

json_t *cli_json_drafts(const cli_run_state *s)
{
    const sl_draft_stats *d = &s->result.drafts;
    json_t *depths = json_array();
    uint32_t deepest = d->depths;
    while (deepest > 0 && d->accepted_by_depth[deepest - 1] == 0)
        deepest--;
    for (uint32_t i = 0; i < deepest; i++)
        json_array_append_new(depths, json_integer((json_int_t)d->accepted_by_depth[i]));
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:o, s:o, s:I, s:f, s:f, s:f, s:f, s:f, s:s}", "checks", (json_int_t)d->checks,
                     "undrafted", (json_int_t)d->undrafted, "drafted", (json_int_t)d->drafted, "drafted_by_lookup",
                     (json_int_t)d->drafted_by_lookup, "accepted", (json_int_t)d->accepted, "advance_mean", advance_of(d), "rows_mean",
                     rows_of(d), "tree", json_tree(&s->drafting), "accepted_by_depth", depths, "rolled_back",
                     (json_int_t)(d->drafted - d->accepted), "bytes_per_check",
                     d->checks > 0 ? (double)d->bytes_read / (double)d->checks : 0.0, "draft_s", d->draft_s, "stream_s", d->check_s,
                     "compute_s", d->check_s - d->wait_s, "wait_s", d->wait_s, "accept", cli_accept_word(s->drafting.accept));
}

void cli_print_drafts(const cli_run_state *s)
{
    const sl_draft_stats *d = &s->result.drafts;
    if (d->checks == 0)
        return;
    char rows[48] = "";
    if (s->drafting.tree != 0)
        snprintf(rows, sizeof rows, " of trees with %.1f rows", rows_of(d));
    fprintf(stderr,
            "drafts  %llu checks%s, mean advance %.2f tokens; %llu of %llu drafted tokens accepted (%llu of them looked up), %llu checks "
            "without a draft\n",
            (unsigned long long)d->checks, rows, advance_of(d), (unsigned long long)d->accepted, (unsigned long long)d->drafted,
            (unsigned long long)d->drafted_by_lookup, (unsigned long long)d->undrafted);
    fprintf(stderr, "        drafting %.2f s, checking %.2f s, of which %.0f %% waiting for reads; ", d->draft_s, d->check_s,
            d->check_s > 0 ? 100 * d->wait_s / d->check_s : 0);
    if (s->drafting.accept == SL_ACCEPT_EXACT) {
        fputs("exact: the text is that of dense decoding without drafts\n", stderr);
        return;
    }
    if (s->drafting.accept == SL_ACCEPT_SAMPLE)
        fputs("sampled: another text than without drafts, of the same distribution", stderr);
    else
        fprintf(stderr, "lossy: drafts of probability %.2g and more were kept", (double)s->drafting.tau);
    fputs(s->drafting.tokens == SL_DRAFT_AUTO ? "; their lengths follow measured times, so this text cannot be reproduced\n" : "\n",
          stderr);
}
