/* offload/cli/calibrate.c: `sluice calibrate`. */
#include "offload/calibrate/calibrate.h"
#include "core/file_write.h"
#include "core/os.h"
#include "offload/calibrate/store.h"
#include "offload/cli/cli.h"
#include "pager/packed.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct calibrating {
    const cli_args *args;
    json_t *warnings;
    sli_calibration found;
    sli_pack_result packed;
    const char *out_path;
    uint64_t started_ns;
} calibrating;

static bool on_progress(void *ctx, sli_calibrate_stage stage, uint64_t done, uint64_t total)
{
    static const char *const doing[] = {"reading the text", "comparing predictors", "fitting layers", "measuring layers", "probing layers"};
    (void)ctx;
    return cli_progress((void *)(uintptr_t)doing[stage], done, total);
}

static bool on_write(void *ctx, uint64_t done, uint64_t total)
{
    (void)ctx;
    return cli_progress_bytes("writing", done, total);
}

static void on_note(void *ctx, const char *line)
{
    calibrating *c = ctx;
    json_array_append_new(c->warnings, cli_json_text(line, strlen(line)));
    cli_progress_end();
    fprintf(stderr, "%s\n", line);
}

/* A packed file may take its calibration in; for a stock one another file must be named. */
static sl_status choose_output(calibrating *c, sl_error *err)
{
    const cli_args *args = c->args;
    sl_gguf *file;
    c->out_path = args->output != NULL ? args->output : args->model;
    if (args->model == NULL || args->file == NULL)
        return sl_fail(err, SL_INVALID, "calibrate needs -m FILE and -f TEXT");
    if (args->output != NULL && !args->force && access(args->output, F_OK) == 0)
        return sl_fail(err, SL_INVALID, "%s exists; --force replaces it", args->output);
    SL_TRY(cli_check_output_spares_text(c->out_path, args->file, err));
    SL_TRY(sl_gguf_open(args->model, &file, err));
    bool packed = sl_packed_is(file);
    sl_gguf_close(file);
    if (!packed && args->output == NULL)
        return sl_fail(err, SL_INVALID, "%s is no packed file; -o FILE names the packed and calibrated one to write", args->model);
    return SL_OK;
}

/* The lock of the output's partial file is held while the model is observed, so that who would write the same file is told at once and not in the end.
 * What an earlier run left in it stays for packing to take up. */
static void let_output_go(sl_file_writer *held)
{
    if (sl_file_writer_bytes(held) > 0)
        sl_file_writer_keep(held);
    else
        sl_file_writer_discard(held);
}

static sl_status work(calibrating *c, sl_error *err)
{
    const cli_args *args = c->args;
    char *text;
    size_t bytes;
    sl_file_writer *held;
    SL_TRY(choose_output(c, err));
    SL_TRY(cli_read_file(args->file, &text, &bytes, err));
    sli_calibrate_options options = {.model_path = args->model,
                                     .text = text,
                                     .text_bytes = bytes,
                                     .out_path = c->out_path,
                                     .ram_budget_bytes = args->ram_budget_bytes,
                                     .predictor_bytes = args->predictor_bytes,
                                     .tokens = (uint32_t)args->tokens,
                                     .threads = (uint32_t)args->threads,
                                     .exits = {.none = args->exit_every == 0,
                                               .first = (uint32_t)args->exit_first,
                                               .every = args->exit_every > 0 ? (uint32_t)args->exit_every : 0,
                                               .whole_vocabulary = args->exit_shortlist == 0,
                                               .shortlist = args->exit_shortlist > 0 ? (uint32_t)args->exit_shortlist : 0},
                                     .progress = on_progress,
                                     .note = on_note,
                                     .ctx = c};
    sl_tool_watch watch = {on_write, on_note, c};
    sl_status status = sl_file_writer_create(c->out_path, &held, err);
    if (status == SL_OK) {
        status = sli_calibrate(&options, &c->found, err);
        let_output_go(held);
    }
    free(text);
    SL_TRY(status);
    return sli_calibration_store(&c->found, args->model, c->out_path, &watch, &c->packed, err);
}

/* ---- what was found ---- */

static const char *const order_names[SLI_ORDER_COUNT] = {"tiered", "hot first", "file", "random"};

static json_t *json_quality(const sli_quality *q)
{
    return json_pack("{s:f, s:f, s:f, s:f}", "lost_0.5", q->lost[0], "lost_0.3", q->lost[1], "recall_0.5", q->recall[0], "recall_0.3",
                     q->recall[1]);
}

static const char *const exit_names[SLI_EXIT_KINDS] = {"svm", "crf", "gap"};

/* The classifiers as they are stored. */
static bool exits_of(const sli_calibration *f, sli_exits *out)
{
    const uint32_t *words = f->exits.blob;
    if (words == NULL)
        return false;
    sli_exit_shape shape = {words[SLI_EXIT_LAYERS], words[SLI_EXIT_D], words[SLI_EXIT_VOCAB]};
    return sli_exits_view(f->exits.blob, f->exits.blob_bytes, &shape, out) == NULL;
}

static json_t *json_exits(const sli_calibration *f)
{
    sli_exits x;
    if (!exits_of(f, &x))
        return json_null();
    json_t *probes = json_array(), *by = json_object();
    for (uint32_t i = 0; i < x.probe_count; i++)
        json_array_append_new(probes, json_integer(x.probes[i] + 1));
    for (int kind = 0; kind < SLI_EXIT_KINDS; kind++) {
        json_t *points = json_array();
        for (uint32_t i = 0; i < x.point_count; i++)
            json_array_append_new(points,
                                  json_pack("{s:f, s:f, s:f}", "asked", (double)x.asked[i], "agreement",
                                            (double)x.points[kind][i].agreement, "layers_mean", (double)x.points[kind][i].layers_mean));
        json_object_set_new(by, exit_names[kind], points);
    }
    return json_pack("{s:o, s:i, s:i, s:s, s:i, s:o, s:I, s:f}", "probed_layers", probes, "shortlist", (int)x.shortlist_count, "rows",
                     (int)f->exits.lessons.rows, "machine", x.radial ? "radial" : "linear", "layers", (int)x.layers, "by", by, "bytes",
                     (json_int_t)f->exits.blob_bytes, "seconds", f->exits.seconds);
}

static void print_exits(const sli_calibration *f)
{
    static const double asked[] = {0.8, 0.95, 0.99};
    sli_exits x;
    if (!exits_of(f, &x))
        return;
    fprintf(stderr, "early exit: %u layers probed from %d on, ", x.probe_count, x.probes[0] + 1);
    if (x.shortlist_count > 0)
        fprintf(stderr, "%u tokens looked at", x.shortlist_count);
    else
        fputs("all tokens looked at", stderr);
    fprintf(stderr, "; layers of %u that held-out tokens take at an agreement of 0.8, 0.95 and 0.99:", x.layers);
    for (int kind = 0; kind < SLI_EXIT_KINDS; kind++) {
        fprintf(stderr, "%s %s%s", kind > 0 ? "," : "", exit_names[kind], kind > 0 ? "" : x.radial ? " (radial)" : " (linear)");
        for (int i = 0; i < 3; i++)
            fprintf(stderr, " %.1f", (double)sli_exit_point_of(&x, (sl_early_exit)(kind + 1), asked[i])->layers_mean);
    }
    fputc('\n', stderr);
}

static json_t *json_found(const calibrating *c)
{
    const sli_calibration *f = &c->found;
    json_t *table = json_array(), *orders = json_array();
    for (uint32_t i = 0; i < f->table_rows; i++)
        json_array_append_new(table, json_pack("{s:s, s:f, s:I, s:f, s:b, s:b, s:o}", "name", f->table[i].name, "bits", f->table[i].bits,
                                               "bytes", (json_int_t)f->table[i].bytes, "share", f->table[i].share, "fits", f->table[i].fits,
                                               "chosen", i == f->chosen, "quality", json_quality(&f->table[i].quality)));
    for (int i = 0; i < SLI_ORDER_COUNT; i++)
        json_array_append_new(orders, json_pack("{s:s, s:f, s:f, s:f}", "order", order_names[i], "reads", f->runs[i], "rows_read",
                                                f->places[i], "first_fifth", f->first_fifth[i]));
    return json_pack("{s:s, s:I, s:I, s:I, s:f, s:o, s:o, s:o, s:f, s:f, s:I, s:o, s:O}", "file", c->out_path, "tokens",
                     (json_int_t)f->tokens, "predictor_bytes", (json_int_t)f->predictor_bytes, "ffn_bytes", (json_int_t)f->ffn_bytes,
                     "share", (double)f->predictor_bytes / (double)f->ffn_bytes, "predictors", table, "quality", json_quality(&f->quality),
                     "orders", orders, "read_s", f->read_s, "fit_s", f->fit_s, "peak_rss_bytes", (json_int_t)sl_peak_rss_bytes(), "exits",
                     json_exits(f), "warnings", c->warnings);
}

static void print_table(const sli_calibration *f)
{
    fprintf(stderr, "predictors, measured on held-out rows of some layers (lost: energy of the neurons left out)\n");
    fprintf(stderr, "  %-22s %6s %9s   %-15s  %-15s\n", "", "signs", "of FFN", "lost at 0.5/0.3", "recall 0.5/0.3");
    for (uint32_t i = 0; i < f->table_rows; i++) {
        const sli_calibrate_row *r = &f->table[i];
        char signs[16] = "", share[16] = "";
        if (r->bytes > 0) {
            snprintf(signs, sizeof signs, "%.2f", r->bits);
            snprintf(share, sizeof share, "%.1f %%", 100 * r->share);
        }
        fprintf(stderr, "%c %-22s %6s %9s   %.4f / %.4f  %.3f / %.3f\n", i == f->chosen ? '*' : ' ', r->name, signs, share,
                r->quality.lost[0], r->quality.lost[1], r->quality.recall[0], r->quality.recall[1]);
    }
}

static void print_found(const calibrating *c)
{
    const sli_calibration *f = &c->found;
    char size[24], peak[24];
    print_table(f);
    fprintf(stderr, "reads per layer and token for %u of %u neurons (rows read; share of them in the first fifth):", f->wanted, f->ff);
    for (int i = 0; i < SLI_ORDER_COUNT; i++)
        fprintf(stderr, "%s %s %.0f (%.0f; %.2f)", i == 0 ? "" : ",", order_names[i], f->runs[i], f->places[i], f->first_fifth[i]);
    fputc('\n', stderr);
    print_exits(f);
    sl_format_size(f->predictor_bytes, size);
    sl_format_size(sl_peak_rss_bytes(), peak);
    fprintf(stderr,
            "%s: predictor %s (%.1f %% of the feed-forwards), all layers: lost %.4f / %.4f, recall %.3f / %.3f; %u tokens in %.1f s, fits "
            "%.1f s, all %.1f s, peak memory %s\n",
            c->out_path, size, 100 * (double)f->predictor_bytes / (double)f->ffn_bytes, f->quality.lost[0], f->quality.lost[1],
            f->quality.recall[0], f->quality.recall[1], f->tokens, f->read_s, f->fit_s, (double)(sl_now_ns() - c->started_ns) * 1e-9, peak);
}

int cli_calibrate(const cli_args *args)
{
    calibrating c = {.args = args, .warnings = json_array(), .started_ns = sl_now_ns()};
    sl_error err = {0};
    int result = CLI_DONE;
    cli_catch_interrupt(NULL);
    sl_status status = work(&c, &err);
    cli_progress_end();
    if (status != SL_OK)
        result = cli_fail(args, &err);
    else if (args->json)
        result = cli_print_json(json_found(&c));
    else
        print_found(&c);
    sli_calibration_free(&c.found);
    json_decref(c.warnings);
    return result;
}
