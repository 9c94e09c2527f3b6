/* offload/cli/prune.c: `sluice prune`. */
#include "offload/prune/prune.h"
#include "core/os.h"
#include "offload/cli/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct pruning {
    const cli_args *args;
    json_t *warnings, *iterations, *layers;
    sli_prune_result result;
    uint64_t started_ns;
    double first_share; /* of the work, that an earlier run had done; below 0 before the first step */
} pruning;

/* What is done and how long the rest will take, judged by what this run has done so far. */
static bool on_progress(void *ctx, double done)
{
    pruning *p = ctx;
    char line[64] = "pruning";
    double seconds = (double)(sl_now_ns() - p->started_ns) * 1e-9;
    if (p->first_share < 0)
        p->first_share = done;
    double share = done - p->first_share;
    if (share > 0.01 && done < 1)
        snprintf(line, sizeof line, "pruning, about %.0f s left:", seconds * (1 - done) / share);
    return cli_progress(line, (uint64_t)(done * 1000), 1000);
}

static void on_note(void *ctx, const char *line)
{
    pruning *p = ctx;
    cli_progress_end();
    cli_note(p->warnings, line);
}

static void on_pruned(void *ctx, uint32_t layer, uint64_t weights, uint64_t zeros)
{
    pruning *p = ctx;
    double kept = weights > 0 ? 1 - (double)zeros / (double)weights : 1;
    json_array_append_new(p->layers, json_pack("{s:i, s:f}", "layer", (int)layer, "density", kept));
}

/* The objective after an auxiliary's update, which the last iteration has no need of. */
static json_t *after(const sli_sparsellm_report *r, sli_sparsellm_step step)
{
    return r->last ? json_null() : json_real(r->objective[step]);
}

static void on_iteration(void *ctx, uint32_t layer, const sli_sparsellm_report *r)
{
    pruning *p = ctx;
    const double *o = r->objective;
    cli_progress_end();
    fprintf(stderr, "layer %u, iteration %u: objective ", layer, r->iteration + 1);
    if (r->iteration > 0)
        fprintf(stderr, "%.6f, refit %.6f, ", r->before_refit, o[SLI_SPARSELLM_REFIT]);
    fprintf(stderr, "pruned %.6f", o[SLI_SPARSELLM_PRUNED]);
    if (!r->last)
        fprintf(stderr, ", p %.6f, z %.6f", o[SLI_SPARSELLM_P], o[SLI_SPARSELLM_Z]);
    if (!r->last && r->gated)
        fprintf(stderr, ", s %.6f", o[SLI_SPARSELLM_S]);
    fprintf(stderr, "; output error %.6f\n", r->output_error);
    json_array_append_new(p->iterations,
                          json_pack("{s:i, s:i, s:f, s:f, s:f, s:o, s:o, s:o, s:f}", "layer", (int)layer, "iteration",
                                    (int)r->iteration + 1, "before_refit", r->before_refit, "refit", o[SLI_SPARSELLM_REFIT], "pruned",
                                    o[SLI_SPARSELLM_PRUNED], "p", after(r, SLI_SPARSELLM_P), "z", after(r, SLI_SPARSELLM_Z), "s",
                                    r->gated ? after(r, SLI_SPARSELLM_S) : json_null(), "output_error", r->output_error));
}

/* ---- what was asked for ---- */

static sl_status take_method(const cli_args *args, sli_prune_options *out, sl_error *err)
{
    char known[80];
    int method;
    if (args->method == NULL) {
        cli_join_words(cli_method_word, " or ", known, sizeof known);
        return sl_fail(err, SL_INVALID, "prune needs --method %s", known);
    }
    SL_TRY(cli_one_of("--method", args->method, cli_method_word, &method, err));
    out->method = (sli_prune_method)method;
    return SL_OK;
}

static sl_status take_rate(const cli_args *args, sli_prune_options *out, sl_error *err)
{
    int given = (args->density >= 0) + (args->pattern != NULL) + (args->neurons >= 0);
    if (given != 1)
        return sl_fail(err, SL_INVALID, "prune needs one of --density D, --pattern N:M and --neurons D; %d are given", given);
    if (args->density == 0 || args->density == 1 || args->neurons == 0 || args->neurons == 1)
        return sl_fail(err, SL_INVALID, "%s %g: it is the share that is kept, and must lie between 0 and 1",
                       args->density >= 0 ? "--density" : "--neurons", args->density >= 0 ? args->density : args->neurons);
    if (args->pattern != NULL && !sli_prune_parse_pattern(args->pattern, &out->rule))
        return sl_fail(err, SL_INVALID,
                       "--pattern %s: it must be N:M, N of every M weights becoming zero, such as 2:4, 4:8 or 3:4, with M up to %d",
                       args->pattern, SLI_PRUNE_GROUP_MAX);
    if (args->no_refit && args->neurons < 0)
        return sl_fail(err, SL_INVALID, "--no-refit goes with --neurons");
    if (args->density >= 0)
        out->rule = (sli_prune_rule){.density = args->density};
    out->pattern = args->pattern;
    out->neurons = args->neurons >= 0 ? args->neurons : 0;
    out->no_refit = args->no_refit;
    return SL_OK;
}

static sl_status take_rates(const cli_args *args, sli_prune_options *out, sl_error *err)
{
    int rates;
    SL_TRY(cli_one_of("--rates", args->rates, cli_rates_word, &rates, err));
    if (args->rates != NULL && args->density < 0)
        return sl_fail(err, SL_INVALID, "--rates goes with --density; a pattern or --neurons leaves every layer the same share");
    out->rates = (sli_prune_rates)rates;
    return SL_OK;
}

static sl_status take_layers(const cli_args *args, sli_prune_options *out, sl_error *err)
{
    char *dash, *end = NULL;
    if (args->layers == NULL)
        return SL_OK;
    unsigned long first = strtoul(args->layers, &dash, 10), last = 0;
    bool numbers = strspn(args->layers, "0123456789-") == strlen(args->layers) && dash > args->layers && dash[0] == '-';
    if (numbers)
        last = strtoul(dash + 1, &end, 10);
    if (!numbers || end == dash + 1 || *end != '\0' || dash[1] == '-' || first > UINT32_MAX || last > UINT32_MAX)
        return sl_fail(err, SL_INVALID, "--layers %s: it must be A-B, such as 0-3", args->layers);
    out->first_layer = (uint32_t)first;
    out->last_layer = (uint32_t)last;
    out->some_layers = true;
    return SL_OK;
}

static sl_status take_type(const cli_args *args, sli_prune_options *out, sl_error *err)
{
    if (args->type == NULL)
        return SL_OK;
    const sl_format *format = sl_format_by_name(args->type, &out->type);
    if (format == NULL || !format->supported)
        return sl_fail(err, SL_INVALID, "--type %s: known are " SL_SUPPORTED_FORMATS, args->type);
    out->change_type = true;
    return SL_OK;
}

static sl_status take_options(const cli_args *args, sli_prune_options *out, sl_error *err)
{
    if (args->model == NULL || args->output == NULL)
        return sl_fail(err, SL_INVALID, "prune needs -m FILE and -o FILE");
    SL_TRY(take_method(args, out, err));
    SL_TRY(take_rate(args, out, err));
    SL_TRY(take_rates(args, out, err));
    SL_TRY(take_layers(args, out, err));
    SL_TRY(take_type(args, out, err));
    bool looks = out->method != SLI_PRUNE_MAGNITUDE || (out->neurons > 0 && !out->no_refit);
    if (looks && args->file == NULL)
        return sl_fail(err, SL_INVALID, "--method %s needs a calibration text; -f FILE names it", args->method);
    if (!args->force && access(args->output, F_OK) == 0)
        return sl_fail(err, SL_INVALID, "%s exists; --force replaces it", args->output);
    return cli_check_output_spares_text(args->output, args->file, err);
}

static sl_status work(pruning *p, sl_error *err)
{
    const cli_args *args = p->args;
    char *text = NULL;
    size_t bytes = 0;
    sli_prune_options options = {.model_path = args->model,
                                 .out_path = args->output,
                                 .ram_budget_bytes = args->ram_budget_bytes,
                                 .tokens = (uint32_t)args->tokens,
                                 .threads = (uint32_t)args->threads,
                                 .progress = on_progress,
                                 .note = on_note,
                                 .pruned = on_pruned,
                                 .iterated = on_iteration,
                                 .ctx = p};
    SL_TRY(take_options(args, &options, err));
    if (args->file != NULL)
        SL_TRY(cli_read_file(args->file, &text, &bytes, err));
    options.text = text;
    options.text_bytes = bytes;
    sl_status status = sli_prune(&options, &p->result, err);
    free(text);
    return status;
}

/* ---- what came of it ---- */

static json_t *json_result(const pruning *p)
{
    const sli_prune_result *r = &p->result;
    struct stat written = {0};
    stat(p->args->output, &written);
    return json_pack("{s:s, s:s, s:I, s:I, s:i, s:i, s:I, s:I, s:f, s:i, s:i, s:b, s:I, s:I, s:f, s:O, s:O, s:O}", "file", p->args->output,
                     "method", p->args->method, "bytes", (json_int_t)written.st_size, "tokens", (json_int_t)r->tokens, "layers",
                     (int)r->layers, "resumed_layers", (int)r->resumed_layers, "weights", (json_int_t)r->weights, "zeros",
                     (json_int_t)r->zeros, "zeros_share", r->weights > 0 ? (double)r->zeros / (double)r->weights : 0.0, "neurons_before",
                     (int)r->neurons_before, "neurons_after", (int)r->neurons_after, "spilled", (int)r->spilled, "ram_budget_bytes",
                     (json_int_t)r->budget_bytes, "peak_rss_bytes", (json_int_t)sl_peak_rss_bytes(), "seconds", r->seconds, "layer_density",
                     p->layers, "iterations", p->iterations, "warnings", p->warnings);
}

/* "density by layer (0-3): 0.412 0.501 0.533 0.554" */
static void print_layers(const json_t *layers)
{
    size_t count = json_array_size(layers);
    if (count == 0)
        return;
    int first = (int)json_integer_value(json_object_get(json_array_get(layers, 0), "layer"));
    fprintf(stderr, "density by layer (%d-%d):", first, first + (int)count - 1);
    for (size_t i = 0; i < count; i++)
        fprintf(stderr, " %.3f", json_real_value(json_object_get(json_array_get(layers, i), "density")));
    fprintf(stderr, "\n");
}

static void print_result(const pruning *p)
{
    const sli_prune_result *r = &p->result;
    struct stat written = {0};
    char size[24], peak[24], budget[24];
    stat(p->args->output, &written);
    sl_format_size((uint64_t)written.st_size, size);
    sl_format_size(sl_peak_rss_bytes(), peak);
    sl_format_size(r->budget_bytes, budget);
    fprintf(stderr, "%s: %s; ", p->args->output, size);
    if (r->neurons_after < r->neurons_before)
        fprintf(stderr, "%u of %u neurons in each layer", r->neurons_after, r->neurons_before);
    else
        fprintf(stderr, "%.2f %% of %llu weights are zero", r->weights > 0 ? 100.0 * (double)r->zeros / (double)r->weights : 0.0,
                (unsigned long long)r->weights);
    fprintf(stderr, "; %u tokens, %.1f s, peak memory %s of %s%s\n", r->tokens, r->seconds, peak, budget,
            r->spilled ? ", activations in a file" : "");
    if (r->neurons_after == r->neurons_before)
        print_layers(p->layers);
}

static void tell_kept(const pruning *p)
{
    if (p->result.kept && !p->args->json)
        fprintf(stderr, "%s.partial keeps the layers that are done; the same command goes on behind them\n", p->args->output);
}

int cli_prune(const cli_args *args)
{
    pruning p = {.args = args,
                 .warnings = json_array(),
                 .iterations = json_array(),
                 .layers = json_array(),
                 .started_ns = sl_now_ns(),
                 .first_share = -1};
    sl_error err = {0};
    int result = CLI_DONE;
    cli_catch_interrupt(NULL);
    sl_status status = work(&p, &err);
    cli_progress_end();
    if (status != SL_OK) {
        result = cli_fail(args, &err);
        tell_kept(&p);
    } else if (args->json) {
        result = cli_print_json(json_result(&p));
    } else {
        print_result(&p);
    }
    json_decref(p.warnings);
    json_decref(p.iterations);
    json_decref(p.layers);
    return result;
}
