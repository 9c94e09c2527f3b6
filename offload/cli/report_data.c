/* offload/cli/report_data.c: results of bench, doctor, perplexity and eval into plots. */
#include "offload/cli/report.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

const char *const cli_report_plots[REPORT_PLOTS] = {"speed", "quality", "requests", "roofline", "breakdown", "latencies", "tasks"};

/* ---- values ---- */

static double number_of(const json_t *value, const char *key)
{
    const json_t *found = json_object_get(value, key);
    return json_is_number(found) ? json_number_value(found) : NAN;
}

static const char *text_of(const json_t *value, const char *key, const char *otherwise)
{
    const char *text = json_string_value(json_object_get(value, key));
    return text != NULL ? text : otherwise;
}

static bool is_bench(const json_t *v)
{
    return json_object_get(v, "avg_ts") != NULL;
}

static bool is_read(const json_t *v)
{
    return json_object_get(v, "request_bytes") != NULL && json_object_get(v, "bytes_per_s") != NULL;
}

static bool is_doctor(const json_t *v)
{
    return json_is_array(json_object_get(v, "reads")) && json_object_get(v, "verdict") != NULL;
}

static bool is_perplexity(const json_t *v)
{
    return json_is_number(json_object_get(v, "perplexity"));
}

static bool is_eval(const json_t *v)
{
    return json_is_array(json_object_get(v, "modes")) && json_is_array(json_object_get(v, "kinds"));
}

/* Adds a line to a list that has not got it yet. */
static void say(json_t *lines, const char *line)
{
    size_t i;
    const json_t *known;
    json_array_foreach(lines, i, known)
    {
        if (strcmp(json_string_value(known), line) == 0)
            return;
    }
    json_array_append_new(lines, cli_json_text(line, strlen(line)));
}

/* ---- reading ---- */

static sl_status take(cli_report_data *r, const char *file, json_t *value, sl_error *err)
{
    if (json_is_array(value)) {
        for (size_t i = 0; i < json_array_size(value); i++)
            if (!json_is_object(json_array_get(value, i)))
                return sl_fail(err, SL_INVALID, "%s: element %zu of the list is no JSON object", file, i);
            else
                SL_TRY(take(r, file, json_array_get(value, i), err));
        return SL_OK;
    }
    if (json_object_get(value, "error") != NULL && !is_bench(value)) {
        char line[PLOT_TEXT + 300];
        snprintf(line, sizeof line, "%s: a command that failed: %.200s", file,
                 text_of(json_object_get(value, "error"), "message", "no reason given"));
        say(r->notes, line);
        return SL_OK;
    }
    if (!is_bench(value) && !is_read(value) && !is_doctor(value) && !is_perplexity(value) && !is_eval(value))
        return sl_fail(err, SL_INVALID, "%s: value %zu is nothing that bench, doctor, perplexity or eval print with --json", file,
                       json_array_size(r->values));
    json_array_append(r->values, value);
    return SL_OK;
}

sl_status cli_report_read(cli_report_data *r, const char *file, const char *text, size_t length, sl_error *err)
{
    size_t before = json_array_size(r->values) + json_array_size(r->notes);
    for (size_t at = 0;;) {
        json_error_t why;
        while (at < length && strchr(" \t\r\n", text[at]) != NULL && text[at] != '\0')
            at++;
        if (at == length)
            break;
        json_t *value = json_loadb(text + at, length - at, JSON_DISABLE_EOF_CHECK | JSON_DECODE_INT_AS_REAL, &why);
        if (value == NULL)
            return sl_fail(err, SL_INVALID, "%s: no JSON at byte %zu: %s", file, at + (size_t)why.position, why.text);
        sl_status status = take(r, file, value, err);
        json_decref(value);
        SL_TRY(status);
        at += (size_t)why.position;
    }
    if (before == json_array_size(r->values) + json_array_size(r->notes))
        return sl_fail(err, SL_INVALID, "%s: there is no result in it", file);
    return SL_OK;
}

/* ---- bench ---- */

/* "sluice, fine 0.3, 8 drafted". */
static void name_of(const cli_report_data *r, const json_t *v, char out[PLOT_TEXT])
{
    char sets[48] = "", drafts[48] = "", model[80] = "";
    const char *sparsity = text_of(v, "sparsity", "off"), *draft = text_of(v, "draft", "0");
    if (strcmp(sparsity, "off") != 0)
        snprintf(sets, sizeof sets, ", %.20s %.3g", sparsity, number_of(v, "density"));
    if (strcmp(draft, "0") != 0)
        snprintf(drafts, sizeof drafts, ", draft %.20s", draft);
    if (r->several_models)
        snprintf(model, sizeof model, ", %.60s", text_of(v, "model_type", text_of(v, "model_filename", "model")));
    snprintf(out, PLOT_TEXT, "%.30s%.40s%.30s%.59s", text_of(v, "program", "sluice"), sets, drafts, model);
}

/* The spread of a row: its samples, or its standard deviation. */
static plot_point point_of(const json_t *v, double x)
{
    double y = number_of(v, "avg_ts"), low = y, high = y, deviation = number_of(v, "stddev_ts");
    const json_t *samples = json_object_get(v, "samples_ts");
    for (size_t i = 0; i < json_array_size(samples); i++) {
        low = fmin(low, json_number_value(json_array_get(samples, i)));
        high = fmax(high, json_number_value(json_array_get(samples, i)));
    }
    if (json_array_size(samples) == 0 && deviation > 0) {
        low = y - deviation;
        high = y + deviation;
    }
    return (plot_point){.x = x, .y = y, .low = low, .high = high};
}

static sl_status put(plot *p, const char *name, plot_point point, sl_error *err)
{
    plot_series *s = plot_find_series(p, name);
    if (s == NULL || plot_add(p, s, point))
        return SL_OK;
    return sl_fail(err, SL_NO_MEMORY, "out of memory for a plot");
}

/* The percentiles of --breakdown: what is slow once in a hundred times is not seen in a mean. */
static sl_status put_latencies(cli_report_data *r, const json_t *v, const char *run, sl_error *err)
{
    static const char *const keys[] = {"pass_ns", "pass_wait_ns", "read_ns"}, *const names[] = {"a pass", "of it, waiting", "a read"},
                             *const percentiles[] = {"p50", "p90", "p99", "max"},
                             *const series[] = {"median", "9 of 10", "99 of 100", "all"};
    const json_t *breakdown = json_object_get(v, "breakdown");
    plot *p = &r->plots[REPORT_LATENCIES];
    for (size_t k = 0; k < 3; k++) {
        const json_t *histogram = json_object_get(breakdown, keys[k]);
        char row[PLOT_TEXT];
        if (!(number_of(histogram, "count") > 0) || !(number_of(histogram, "p50") > 0)) /* nothing was read, or hardly waited for */
            continue;
        snprintf(row, sizeof row, "%s: %.130s", names[k], run);
        size_t index = plot_find_row(p, row);
        for (size_t i = 0; i < 4; i++) {
            double ms = number_of(histogram, percentiles[i]) * 1e-6;
            if (index == SIZE_MAX)
                return sl_fail(err, SL_NO_MEMORY, "out of memory for a plot");
            SL_TRY(put(p, series[i], (plot_point){.y = ms, .low = ms, .high = ms, .row = index}, err));
        }
    }
    return SL_OK;
}

static sl_status put_parts(cli_report_data *r, const json_t *v, const char *name, sl_error *err)
{
    static const char *const keys[] = {"compute_s", "wait_s", "other_s"}, *const names[] = {"computing", "waiting for reads", "neither"};
    plot *p = &r->plots[REPORT_BREAKDOWN];
    char row[PLOT_TEXT], budget[32] = "";
    double prompt = number_of(v, "n_prompt"), generated = number_of(v, "n_gen");
    double tokens = (prompt > 0 ? prompt : 0) + (generated > 0 ? generated : 0);
    if (!isfinite(number_of(v, "compute_s")) || !(tokens > 0))
        return SL_OK;
    if (number_of(v, "ram_budget_bytes") > 0)
        plot_value_text(PLOT_BYTES, number_of(v, "ram_budget_bytes"), budget);
    snprintf(row, sizeof row, "%.80s%s%.20s, %s%.0f tokens", name, budget[0] != '\0' ? ", " : "", budget, generated > 0 ? "" : "prompt of ",
             tokens);
    size_t index = plot_find_row(p, row);
    for (size_t i = 0; i < 3; i++) {
        double ms = number_of(v, keys[i]) / tokens * 1e3;
        if (index == SIZE_MAX)
            return sl_fail(err, SL_NO_MEMORY, "out of memory for a plot");
        if (isfinite(ms))
            SL_TRY(put(p, names[i], (plot_point){.y = ms > 0 ? ms : 0, .low = ms, .high = ms, .row = index}, err));
    }
    return put_latencies(r, v, row, err);
}

static sl_status put_bench(cli_report_data *r, const json_t *v, sl_error *err)
{
    char name[PLOT_TEXT], limit[PLOT_TEXT];
    const char *cpu = text_of(v, "cpu_info", NULL), *machine = text_of(v, "machine", NULL);
    double speed = number_of(v, "avg_ts"), bytes = number_of(v, "bytes_read_per_token"), most = number_of(v, "tokens_per_s_limit");
    if (!(speed > 0)) {
        r->failed++;
        return SL_OK;
    }
    if (cpu != NULL)
        say(r->facts, cpu);
    if (machine != NULL)
        say(r->facts, machine);
    name_of(r, v, name);
    SL_TRY(put_parts(r, v, name, err));
    if (!(number_of(v, "n_gen") > 0))
        return SL_OK;
    if (number_of(v, "ram_budget_bytes") > 0)
        SL_TRY(put(&r->plots[REPORT_SPEED], name, point_of(v, number_of(v, "ram_budget_bytes")), err));
    if (!(bytes > 0))
        return SL_OK;
    SL_TRY(put(&r->plots[REPORT_ROOFLINE], name, point_of(v, bytes), err));
    snprintf(limit, sizeof limit, "the disk alone allows");
    if (most > 0)
        SL_TRY(put(&r->plots[REPORT_ROOFLINE], limit, (plot_point){.x = bytes, .y = most, .low = most, .high = most}, err));
    return SL_OK;
}

/* ---- doctor, perplexity, eval ---- */

static sl_status put_read(cli_report_data *r, const json_t *v, sl_error *err)
{
    char name[PLOT_TEXT];
    double depth = number_of(v, "depth"), speed = number_of(v, "bytes_per_s");
    const char *order = text_of(v, "order", "");
    snprintf(name, sizeof name, "%.30s%s%.20s, %.0f in flight", text_of(v, "engine", "reads"), order[0] != '\0' ? ", " : "", order,
             isfinite(depth) ? depth : 1.0);
    return put(&r->plots[REPORT_REQUESTS], name, (plot_point){.x = number_of(v, "request_bytes"), .y = speed, .low = speed, .high = speed},
               err);
}

static sl_status put_doctor(cli_report_data *r, const json_t *v, sl_error *err)
{
    size_t i;
    const json_t *value;
    char line[200];
    json_array_foreach(json_object_get(v, "reads"), i, value) SL_TRY(put_read(r, value, err));
    const json_t *verdict = json_object_get(v, "verdict");
    snprintf(line, sizeof line, "doctor: suits offloading: %.40s; limit: %.40s", text_of(verdict, "suits", "unknown"),
             text_of(verdict, "limit", "unknown"));
    say(r->facts, line);
    return SL_OK;
}

static sl_status put_perplexity(cli_report_data *r, const json_t *v, sl_error *err)
{
    const json_t *sparsity = json_object_get(v, "sparsity");
    char name[PLOT_TEXT];
    double value = number_of(v, "perplexity"), error = number_of(v, "perplexity_error"), density = number_of(sparsity, "density_asked");
    if (json_object_get(v, "sparq") != NULL) {
        say(r->notes, "perplexity with SparQ has no density: it is not shown");
        return SL_OK;
    }
    (void)error; /* of the text, not of the density: it would hide what is compared on the same text */
    snprintf(name, sizeof name, "%.20s%s%.20s%.60s", text_of(sparsity, "mode", "dense"), sparsity != NULL ? ", " : "",
             text_of(sparsity, "predictor", ""), text_of(v, "label", ""));
    return put(&r->plots[REPORT_QUALITY], name, (plot_point){.x = sparsity != NULL ? density : 1, .y = value, .low = value, .high = value},
               err);
}

static sl_status put_kind(cli_report_data *r, const json_t *v, const json_t *modes, sl_error *err)
{
    plot *p = &r->plots[REPORT_TASKS];
    size_t i;
    const json_t *mode;
    json_array_foreach(modes, i, mode)
    {
        char name[PLOT_TEXT], row[PLOT_TEXT];
        const char *word = text_of(mode, "mode", ""), *how = text_of(mode, "how", "");
        const json_t *share = json_object_get(v, word), *interval = json_object_get(share, "interval");
        if (share == NULL || json_is_null(share))
            continue;
        snprintf(name, sizeof name, "%.20s%s%.100s", word, how[0] != '\0' ? ": " : "", how);
        snprintf(row, sizeof row, "%.100s, %.0f items", text_of(v, "kind", "?"), number_of(share, "items"));
        size_t index = plot_find_row(p, row);
        if (index == SIZE_MAX)
            return sl_fail(err, SL_NO_MEMORY, "out of memory for a plot");
        SL_TRY(put(p, name,
                   (plot_point){.y = 100 * number_of(share, "acc"),
                                .low = 100 * json_number_value(json_array_get(interval, 0)),
                                .high = 100 * json_number_value(json_array_get(interval, 1)),
                                .row = index},
                   err));
    }
    return SL_OK;
}

static sl_status put_eval(cli_report_data *r, const json_t *v, sl_error *err)
{
    size_t i;
    const json_t *kind, *modes = json_object_get(v, "modes"), *all = json_object_get(v, "all");
    json_array_foreach(json_object_get(v, "kinds"), i, kind) SL_TRY(put_kind(r, kind, modes, err));
    return json_array_size(json_object_get(v, "kinds")) > 1 && all != NULL ? put_kind(r, all, modes, err) : SL_OK;
}

/* ---- all ---- */

static sl_status put_value(cli_report_data *r, const json_t *v, sl_error *err)
{
    if (is_bench(v))
        return put_bench(r, v, err);
    if (is_doctor(v))
        return put_doctor(r, v, err);
    if (is_eval(v))
        return put_eval(r, v, err);
    return is_perplexity(v) ? put_perplexity(r, v, err) : put_read(r, v, err);
}

static bool has_several_models(const cli_report_data *r)
{
    const char *first = NULL;
    size_t i;
    const json_t *v;
    json_array_foreach(r->values, i, v)
    {
        const char *model = is_bench(v) ? text_of(v, "model_type", text_of(v, "model_filename", NULL)) : NULL;
        if (model != NULL && first != NULL && strcmp(first, model) != 0)
            return true;
        first = model != NULL ? model : first;
    }
    if (first != NULL)
        say(r->facts, first);
    return false;
}

/* What there is to say of a plot that does not show everything. */
static void note_losses(cli_report_data *r, const plot *p)
{
    char line[PLOT_TEXT + 120];
    if (p->series_lost > 0) {
        snprintf(line, sizeof line, "%s: points beyond the first %d series are not shown: %zu", p->title, PLOT_SERIES_MAX, p->series_lost);
        say(r->notes, line);
    }
    if (p->points_lost > 0) {
        snprintf(line, sizeof line, "%s: values that its axes cannot have (zero, negative or not finite): %zu", p->title, p->points_lost);
        say(r->notes, line);
    }
}

/* Dense has no density to vary: a line through its value, as far as the others go. */
static sl_status draw_dense_across(plot *p, sl_error *err)
{
    double low = 1;
    plot_series *dense = NULL;
    for (size_t s = 0; s < p->series_count; s++) {
        dense = strcmp(p->series[s].name, "dense") == 0 ? &p->series[s] : dense;
        for (size_t i = 0; i < p->series[s].count; i++)
            low = fmin(low, p->series[s].points[i].x);
    }
    if (dense == NULL || dense->count == 0 || !(low < 1))
        return SL_OK;
    plot_point end = dense->points[0];
    end.x = low;
    dense->dashed = true;
    return plot_add(p, dense, end) ? SL_OK : sl_fail(err, SL_NO_MEMORY, "out of memory for a plot");
}

sl_status cli_report_fill(cli_report_data *r, sl_error *err)
{
    size_t i;
    const json_t *v;
    r->several_models = has_several_models(r);
    json_array_foreach(r->values, i, v) SL_TRY(put_value(r, v, err));
    SL_TRY(draw_dense_across(&r->plots[REPORT_QUALITY], err));
    for (size_t s = 0; s < r->plots[REPORT_ROOFLINE].series_count; s++) {
        plot_series *series = &r->plots[REPORT_ROOFLINE].series[s];
        series->line = strcmp(series->name, "the disk alone allows") == 0;
        series->hollow = series->line;
    }
    for (size_t p = 0; p < REPORT_PLOTS; p++)
        note_losses(r, &r->plots[p]);
    if (r->failed > 0) {
        char line[80];
        snprintf(line, sizeof line, "rows of bench without a figure, because they failed: %zu", r->failed);
        say(r->notes, line);
    }
    return SL_OK;
}

sl_status cli_report_open(cli_report_data *r, sl_error *err)
{
    *r = (cli_report_data){.values = json_array(), .facts = json_array(), .notes = json_array()};
    const plot plots[REPORT_PLOTS] = {
        [REPORT_SPEED] = {PLOT_XY, "speed", "Speed by memory budget",
                          "Decoded tokens per second against the budget of memory; vertical lines are the spread of repetitions.",
                          .x = {"memory budget", PLOT_BYTES, .from_zero = true}, .y = {"tokens/s", .log = true}},
        [REPORT_QUALITY] = {PLOT_XY, "quality", "Perplexity by density",
                            "Perplexity against the share of the neurons that is kept; lower is better, the dashed line is dense.",
                            .x = {.label = "kept share of the neurons"}, .y = {"perplexity", .log = true}},
        [REPORT_REQUESTS] = {PLOT_XY, "requests", "Read bandwidth by request size",
                             "Bytes per second that the disk gives, against the size of a request, by engine and requests in flight.",
                             .x = {"request", PLOT_BYTES, .log = true}, .y = {"read each second", PLOT_BYTES, .from_zero = true}},
        [REPORT_ROOFLINE] = {PLOT_XY, "roofline", "Measured speed under the disk's limit",
                             "Tokens per second against bytes read for each token; the line is what the disk alone would allow.",
                             .x = {"read for each token", PLOT_BYTES, .log = true}, .y = {"tokens/s", .log = true}},
        [REPORT_BREAKDOWN] = {PLOT_STACK, "breakdown", "Where a token's time goes",
                              "Milliseconds of a token, divided into computing, waiting for reads, and neither.", .x = {.label = "run"},
                              .y = {"ms a token", .from_zero = true}},
        [REPORT_LATENCIES] = {PLOT_DOTS, "latencies", "How long passes and reads take",
                              "Milliseconds that half, 90 and 99 per cent and all of the passes, their waiting and the reads stay within.",
                              .x = {.label = "run"}, .y = {"ms that so many stay within", .log = true}},
        [REPORT_TASKS] = {PLOT_DOTS, "tasks", "Right answers by kind of item",
                          "Per cent of the items answered right, by mode; lines are the middle 95 per cent.", .x = {.label = "kind"},
                          .y = {"per cent right", .from_zero = true}}};
    memcpy(r->plots, plots, sizeof plots);
    return r->values != NULL && r->facts != NULL && r->notes != NULL ? SL_OK : sl_fail(err, SL_NO_MEMORY, "out of memory for a report");
}

void cli_report_close(cli_report_data *r)
{
    for (size_t i = 0; i < REPORT_PLOTS; i++)
        plot_free(&r->plots[i]);
    json_decref(r->values);
    json_decref(r->facts);
    json_decref(r->notes);
}
