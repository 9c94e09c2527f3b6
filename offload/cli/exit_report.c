/* offload/cli/exit_report.c: --early-exit: what the flags mean, whether it is worth it, and what `run`, `perplexity` and `eval` say of it. */
#include "core/os.h"
#include "offload/cli/run_state.h"

#include <stdio.h>
#include <string.h>

#define DRAFT_AGREEMENT 0.8   /* a draft that is wrong costs a row of a check, and no text (bench/SPEED.md) */
#define LEAST_GAIN      0.005 /* of all layers, on the text that was held out: less is not told from nothing */

/* ---- flags ---- */

sl_status cli_exit_options(const cli_args *a, sl_engine_options *out, sl_error *err)
{
    int kind;
    SL_TRY(cli_one_of("--early-exit", a->early_exit, cli_early_exit_word, &kind, err));
    out->early_exit = (sl_early_exit)kind;
    out->exit_agreement = a->exit_agreement;
    if (kind == SL_EARLY_EXIT_OFF && a->exit_agreement > 0)
        return sl_fail(err, SL_INVALID, "--exit-agreement has no meaning without --early-exit svm, crf or gap");
    return SL_OK;
}

sl_status cli_exit_drafting(const cli_args *a, sl_engine_options *options, const sl_drafting *d, sl_error *err)
{
    if (options->early_exit == SL_EARLY_EXIT_OFF || d->tokens == 0)
        return SL_OK;
    if (d->tree != 0)
        return sl_fail(err, SL_INVALID, "--early-exit drafts chains: no --tree");
    if (d->tokens < 0 || d->tokens > SL_EXIT_DRAFT_MAX)
        return sl_fail(err, SL_INVALID,
                       "--draft %s: with --early-exit it must be a number from 1 to %d, or 0: tokens that leave early are "
                       "then the text",
                       a->draft, SL_EXIT_DRAFT_MAX);
    if (a->exit_agreement == 0)
        options->exit_agreement = DRAFT_AGREEMENT;
    return SL_OK;
}

/* ---- whether it is worth it ---- */

bool cli_exit_is_left_off(const sl_engine_info *info, char line[CLI_EXIT_LINE])
{
    line[0] = '\0';
    if (info->exit_streamed_bytes == 0 && info->device[0] != '\0')
        snprintf(
            line, CLI_EXIT_LINE,
            "early exit is left off: all layers that could be left out lie on the device, so that nothing less would cross, and probes "
            "cost time");
    else if (info->exit_streamed_bytes == 0)
        snprintf(line, CLI_EXIT_LINE,
                 "early exit is left off: all layers are in memory, so that nothing would be read less, and probes cost time");
    else if (info->layers - info->exit_held_layers < LEAST_GAIN * info->layers)
        snprintf(
            line, CLI_EXIT_LINE,
            "early exit is left off: with an agreement of %g, tokens of the text held out took %.2f of %u layers by %s, and probes cost "
            "time",
            info->exit_agreement, info->exit_held_layers, info->layers, info->early_exit);
    return line[0] != '\0';
}

void cli_settle_exit(cli_run_state *s)
{
    sl_engine_info info;
    char line[CLI_EXIT_LINE];
    sl_engine_describe(s->engine, &info);
    if (strcmp(info.early_exit, "off") == 0 || s->drafting.tokens != 0)
        return;
    s->all_layers = cli_exit_is_left_off(&info, line);
    if (s->all_layers)
        cli_note(s->warnings, line);
}

void cli_judge_exit_drafts(cli_run_state *s)
{
    sl_engine_info info;
    char line[CLI_EXIT_LINE], moved[24], plain[24];
    sl_engine_describe(s->engine, &info);
    if (strcmp(info.early_exit, "off") == 0 || s->drafting.tokens == 0 || s->result.drafts.checks == 0)
        return;
    bool device = info.device[0] != '\0';
    uint64_t bytes = device ? s->result.decode_link_bytes : s->result.decode_bytes_read,
             without = device ? info.crossing_bytes : info.streamed_bytes;
    double token = (double)bytes / (double)s->result.decode_tokens;
    if (token <= (double)without)
        return;
    sl_format_size((uint64_t)token, moved);
    sl_format_size(without, plain);
    snprintf(line, sizeof line,
             "drafts by early exit %s %s for a token here, plain decoding %s: it is the same text, and without --early-exit less is %s",
             device ? "send the device" : "read", moved, plain, device ? "sent" : "read");
    cli_note(s->warnings, line);
}

/* ---- reports ---- */

static double layers_mean(const sl_early_exit_stats *x)
{
    uint64_t tokens = x->tokens - x->given_up;
    return tokens > 0 ? (double)x->layers / (double)tokens : 0;
}

static int64_t saved_bytes(const sl_early_exit_stats *x)
{
    return (int64_t)x->bytes_left_out - (int64_t)x->bytes_made_up;
}

static int64_t saved_link_bytes(const sl_early_exit_stats *x)
{
    return (int64_t)x->link_bytes_left_out - (int64_t)x->link_bytes_made_up;
}

static void format_saved(int64_t bytes, char out[25])
{
    out[0] = '-';
    sl_format_size((uint64_t)(bytes < 0 ? -bytes : bytes), bytes < 0 ? out + 1 : out);
}

json_t *cli_json_early_exit(const sl_engine *engine)
{
    sl_engine_info info;
    sl_engine_stats stats;
    sl_engine_describe(engine, &info);
    sl_engine_measure(engine, &stats);
    const sl_early_exit_stats *x = &stats.early_exit;
    return json_pack("{s:s, s:f, s:f, s:f, s:i, s:i, s:i, s:i, s:I, s:I, s:I, s:f, s:I, s:f, s:I, s:I, s:I, s:I, s:I, s:I}", "by",
                     info.early_exit, "agreement_asked", info.exit_agreement, "held_agreement", info.exit_held_agreement,
                     "held_layers_mean", info.exit_held_layers, "layers", (int)info.layers, "probed_layers", (int)info.exit_probes,
                     "first_probe", (int)info.exit_first, "shortlist", (int)info.exit_shortlist, "tokens", (json_int_t)x->tokens, "exits",
                     (json_int_t)x->exits, "given_up", (json_int_t)x->given_up, "layers_mean", layers_mean(x), "probes",
                     (json_int_t)x->probes, "probe_s", x->probe_s, "bytes_saved", (json_int_t)saved_bytes(x), "bytes_left_out",
                     (json_int_t)x->bytes_left_out, "catch_ups", (json_int_t)x->catch_ups, "catch_up_bytes", (json_int_t)x->bytes_made_up,
                     "link_bytes_saved", (json_int_t)saved_link_bytes(x), "link_bytes_left_out", (json_int_t)x->link_bytes_left_out);
}

void cli_print_early_exit(const sl_engine *engine)
{
    sl_engine_info info;
    sl_engine_stats stats;
    char saved[25], uncrossed[25];
    sl_engine_describe(engine, &info);
    sl_engine_measure(engine, &stats);
    const sl_early_exit_stats *x = &stats.early_exit;
    if (x->tokens == 0)
        return;
    format_saved(saved_bytes(x), saved);
    format_saved(saved_link_bytes(x), uncrossed);
    fprintf(stderr,
            "early   by %s, agreement %.4g asked; %llu of %llu tokens left early, %.2f of %u layers a token; %llu probes in %.3f s; %s not "
            "read",
            info.early_exit, info.exit_agreement, (unsigned long long)x->exits, (unsigned long long)x->tokens, layers_mean(x), info.layers,
            (unsigned long long)x->probes, x->probe_s, saved);
    if (info.device[0] != '\0')
        fprintf(stderr, ", %s not sent to the device", uncrossed);
    fputc('\n', stderr);
    if (x->given_up > 0)
        fprintf(stderr, "        %llu drafts were given up where they were not settled\n", (unsigned long long)x->given_up);
}
