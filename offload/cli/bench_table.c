/* offload/cli/bench_table.c: rows as llama-bench prints them, with our columns beside its own; and the breakdown as a table. See bench.h. */
#include "offload/cli/bench.h"
#include "offload/cli/flags.h"

#include <stdlib.h>
#include <string.h>

typedef enum field_kind { WORDS, TRUTH, WHOLE, FRACTION } field_kind;

typedef struct field {
    const char *key;
    field_kind kind;
} field;

/* In llama-bench's order, then ours. */
static const field fields[] = {
    {"build_commit", WORDS},
    {"build_number", WHOLE},
    {"cpu_info", WORDS},
    {"gpu_info", WORDS},
    {"backends", WORDS},
    {"model_filename", WORDS},
    {"model_type", WORDS},
    {"model_size", WHOLE},
    {"model_n_params", WHOLE},
    {"n_batch", WHOLE},
    {"n_ubatch", WHOLE},
    {"n_threads", WHOLE},
    {"cpu_mask", WORDS},
    {"cpu_strict", TRUTH},
    {"poll", WHOLE},
    {"type_k", WORDS},
    {"type_v", WORDS},
    {"n_gpu_layers", WHOLE},
    {"n_cpu_moe", WHOLE},
    {"split_mode", WORDS},
    {"main_gpu", WHOLE},
    {"no_kv_offload", TRUTH},
    {"flash_attn", WHOLE},
    {"devices", WORDS},
    {"tensor_split", WORDS},
    {"tensor_buft_overrides", WORDS},
    {"load_mode", WORDS},
    {"lazy_mode", WORDS},
    {"embeddings", TRUTH},
    {"no_op_offload", WHOLE},
    {"no_host", TRUTH},
    {"repack", TRUTH},
    {"fit_target", WHOLE},
    {"fit_min_ctx", WHOLE},
    {"n_prompt", WHOLE},
    {"n_gen", WHOLE},
    {"n_depth", WHOLE},
    {"test_time", WORDS},
    {"avg_ns", WHOLE},
    {"stddev_ns", WHOLE},
    {"avg_ts", FRACTION},
    {"stddev_ts", FRACTION},
    {"program", WORDS},
    {"status", WORDS},
    {"reason", WORDS},
    {"ram_budget_bytes", WHOLE},
    {"ram_budget_min_bytes", WHOLE},
    {"device", WORDS},
    {"vram_budget_bytes", WHOLE},
    {"vram_budget_min_bytes", WHOLE},
    {"kv_host", WORDS},
    {"cpu_share", FRACTION},
    {"context", WHOLE},
    {"isa", WORDS},
    {"io_engine", WORDS},
    {"io_depth", WHOLE},
    {"io_direct", TRUTH},
    {"throttle_bytes_per_s", WHOLE},
    {"sparsity", WORDS},
    {"density", FRACTION},
    {"predictor", WORDS},
    {"draft", WORDS},
    {"drafter", WORDS},
    {"tree", WORDS},
    {"accept", WORDS},
    {"tau", FRACTION},
    {"sparq_k", WHOLE},
    {"sparq_r", WHOLE},
    {"early_exit", WORDS},
    {"exit_agreement", FRACTION},
    {"load_s", FRACTION},
    {"total_s", FRACTION},
    {"compute_s", FRACTION},
    {"wait_s", FRACTION},
    {"other_s", FRACTION},
    {"bytes_read_per_token", FRACTION},
    {"requests_per_token", FRACTION},
    {"request_bytes_mean", FRACTION},
    {"disk_bytes_per_s", FRACTION},
    {"tokens_per_s_limit", FRACTION},
    {"resident_weight_bytes", WHOLE},
    {"streamed_bytes", WHOLE},
    {"peak_rss_bytes", WHOLE},
    {"peak_cgroup_bytes", WHOLE},
    {"vram_bytes", WHOLE},
    {"vram_weight_bytes", WHOLE},
    {"link_bytes_per_token", FRACTION},
    {"neurons_needed", FRACTION},
    {"neurons_resident", FRACTION},
    {"neurons_read", FRACTION},
    {"advance_mean", FRACTION},
    {"layers_mean", FRACTION},
    {"left_out_bytes_per_token", FRACTION},
    {"others_share", FRACTION},
    {"peer_ratio_median", FRACTION},
    {"peer_ratio_min", FRACTION},
    {"peer_ratio_max", FRACTION},
};
#define FIELDS (sizeof fields / sizeof *fields)

static const char *format_of(const cli_args *a)
{
    return a->json ? "json" : a->format != NULL ? a->format : "md";
}

static bool is_format(const cli_bench *b, const char *name)
{
    return strcmp(format_of(b->args), name) == 0;
}

sl_status cli_bench_check_format(const cli_args *args, sl_error *err)
{
    int unused;
    return cli_one_of("-o", args->format, cli_format_word, &unused, err);
}

/* A value as text; "" for null. */
static void value_text(const json_t *row, const char *key, char *out, size_t room)
{
    const json_t *v = json_object_get(row, key);
    out[0] = '\0';
    if (json_is_string(v))
        snprintf(out, room, "%s", json_string_value(v));
    else if (json_is_integer(v))
        snprintf(out, room, "%lld", (long long)json_integer_value(v));
    else if (json_is_real(v))
        snprintf(out, room, "%f", json_real_value(v));
    else if (json_is_boolean(v))
        snprintf(out, room, "%d", json_is_true(v));
}

/* ---- md ---- */

typedef struct column {
    const char *title, *key;
    int width; /* negative: to the left */
} column;

/* What was swept gets a column, under the name of its flag. */
static const column swept[] = {{"-b", "n_batch", 7},
                               {"-ctk", "type_k", 6},
                               {"-ctv", "type_v", 6},
                               {"--ram-budget", "ram_budget_bytes", 10},
                               {"--vram-budget", "vram_budget_bytes", 11},
                               {"-ngl", "n_gpu_layers", 12},
                               {"--cpu-share", "cpu_share", 9},
                               {"--kv-host", "kv_host", 7},
                               {"--sparsity", "sparsity", -8},
                               {"--density", "density", 7},
                               {"--predictor", "predictor", -9},
                               {"--draft", "draft", 5},
                               {"--drafter", "drafter", -7},
                               {"--tree", "tree", 4},
                               {"--accept", "accept", -9},
                               {"--tau", "tau", 5},
                               {"--sparq-k", "sparq_k", 7},
                               {"--sparq-r", "sparq_r", 7},
                               {"--early-exit", "early_exit", -10},
                               {"--exit-agreement", "exit_agreement", 14},
                               {"--isa", "isa", -6},
                               {"--io-engine", "io_engine", -9},
                               {"--io-depth", "io_depth", 8},
                               {"--throttle", "throttle_bytes_per_s", 10}};

static size_t columns_of(const cli_bench *b, column *out)
{
    size_t n = 0;
    out[n++] = (column){"model", "model_type", -30};
    out[n++] = (column){"size", "model_size", 10};
    out[n++] = (column){"params", "model_n_params", 10};
    out[n++] = (column){"backend", "backends", -10};
    out[n++] = (column){"threads", "n_threads", 7};
    for (size_t i = 0; i < sizeof swept / sizeof *swept; i++)
        if (cli_bench_values(b, swept[i].title) != NULL)
            out[n++] = (column){swept[i].title[0] == '-' && swept[i].title[1] == '-' ? swept[i].title + 2 : swept[i].key, swept[i].key,
                                swept[i].width};
    out[n++] = (column){"read/token", "bytes_read_per_token", 10};
    if (cli_bench_on_device(b->args))
        out[n++] = (column){"link/token", "link_bytes_per_token", 10};
    out[n++] = (column){"wait %", "wait_s", 6};
    out[n++] = (column){"limit t/s", "tokens_per_s_limit", 9};
    if (b->args->peer_dir != NULL) {
        out[n++] = (column){"program", "program", -9};
        out[n++] = (column){"x llama.cpp", "peer_ratio_median", 18};
    }
    out[n++] = (column){"test", "", 15};
    out[n++] = (column){"t/s", "avg_ts", 20};
    return n;
}

static double number_of(const json_t *row, const char *key)
{
    return json_number_value(json_object_get(row, key));
}

static void test_name(const json_t *row, char out[64])
{
    long long prompt = (long long)number_of(row, "n_prompt"), decode = (long long)number_of(row, "n_gen"),
              depth = (long long)number_of(row, "n_depth");
    int used = decode == 0   ? snprintf(out, 64, "pp%lld", prompt)
               : prompt == 0 ? snprintf(out, 64, "tg%lld", decode)
                             : snprintf(out, 64, "pp%lld+tg%lld", prompt, decode);
    if (depth > 0)
        snprintf(out + used, 64 - (size_t)used, " @ d%lld", depth);
}

static void size_text(double bytes, char out[64])
{
    if (bytes < 1024.0 * 1024 * 1024)
        snprintf(out, 64, "%.2f MiB", bytes / 1024 / 1024);
    else
        snprintf(out, 64, "%.2f GiB", bytes / 1024 / 1024 / 1024);
}

static void cell_text(const json_t *row, const column *c, char out[64])
{
    bool ok = strcmp(json_string_value(json_object_get(row, "status")), "ok") == 0;
    double value = number_of(row, c->key);
    if (c->key[0] == '\0')
        test_name(row, out);
    else if (strcmp(c->key, "avg_ts") == 0 && ok)
        snprintf(out, 64, "%.2f ± %.2f", value, number_of(row, "stddev_ts"));
    else if (strcmp(c->key, "avg_ts") == 0)
        snprintf(out, 64, "%s", json_string_value(json_object_get(row, "status")));
    else if (json_is_null(json_object_get(row, c->key)) || json_object_get(row, c->key) == NULL)
        snprintf(out, 64, "-");
    else if (strstr(c->key, "bytes") != NULL || strcmp(c->key, "model_size") == 0)
        size_text(value, out);
    else if (strcmp(c->key, "model_n_params") == 0)
        snprintf(out, 64, value < 1e9 ? "%.2f M" : "%.2f B", value < 1e9 ? value * 1e-6 : value * 1e-9);
    else if (strcmp(c->key, "wait_s") == 0)
        snprintf(out, 64, "%.0f", number_of(row, "total_s") > 0 ? 100 * value / number_of(row, "total_s") : 0);
    else if (strcmp(c->key, "peer_ratio_median") == 0)
        snprintf(out, 64, "%.2f (%.2f..%.2f)", value, number_of(row, "peer_ratio_min"), number_of(row, "peer_ratio_max"));
    else if (strcmp(c->key, "tokens_per_s_limit") == 0 || strcmp(c->key, "density") == 0 || strcmp(c->key, "tau") == 0 ||
             strcmp(c->key, "cpu_share") == 0)
        snprintf(out, 64, "%.2f", value);
    else if (strcmp(c->key, "exit_agreement") == 0)
        snprintf(out, 64, "%.4g", value);
    else
        value_text(row, c->key, out, 64);
}

static void print_md_head(const cli_bench *b)
{
    column columns[40];
    size_t n = columns_of(b, columns);
    for (size_t i = 0; i < n; i++)
        fprintf(b->out, "%s %*s |", i == 0 ? "|" : "", columns[i].width, columns[i].title);
    fputc('\n', b->out);
    for (size_t i = 0; i < n; i++) {
        int width = abs(columns[i].width), title = (int)strlen(columns[i].title);
        fprintf(b->out, "%s ", i == 0 ? "|" : "");
        for (int d = 1; d < (width > title ? width : title); d++)
            fputc('-', b->out);
        fprintf(b->out, "%s |", columns[i].width > 0 ? ":" : "-");
    }
    fputc('\n', b->out);
}

static void print_md_row(const cli_bench *b, const json_t *row)
{
    column columns[40];
    char text[64];
    size_t n = columns_of(b, columns);
    for (size_t i = 0; i < n; i++) {
        cell_text(row, &columns[i], text);
        int wide = strstr(text, "±") != NULL ? 1 : 0; /* two bytes, one place */
        fprintf(b->out, "%s %*s |", i == 0 ? "|" : "", columns[i].width + (columns[i].width > 0 ? wide : -wide), text);
    }
    fputc('\n', b->out);
}

/* ---- csv, sql ---- */

static void print_csv_row(FILE *out, const json_t *row)
{
    for (size_t i = 0; i < FIELDS; i++) {
        char text[512];
        value_text(row, fields[i].key, text, sizeof text);
        fputs(i > 0 ? ",\"" : "\"", out);
        for (const char *c = text; *c != '\0'; c++)
            fprintf(out, *c == '"' ? "\"\"" : "%c", *c);
        fputc('"', out);
    }
    fputc('\n', out);
}

static void print_names(FILE *out, const char *between)
{
    for (size_t i = 0; i < FIELDS; i++)
        fprintf(out, "%s%s", i > 0 ? between : "", fields[i].key);
}

static void print_sql_head(FILE *out)
{
    fputs("CREATE TABLE IF NOT EXISTS llama_bench (\n", out);
    for (size_t i = 0; i < FIELDS; i++)
        fprintf(out, "  %s %s%s\n", fields[i].key,
                fields[i].kind == WORDS      ? "TEXT"
                : fields[i].kind == FRACTION ? "REAL"
                                             : "INTEGER",
                i + 1 < FIELDS ? "," : "");
    fputs(");\n\n", out);
}

static void print_sql_row(FILE *out, const json_t *row)
{
    fputs("INSERT INTO llama_bench (", out);
    print_names(out, ", ");
    fputs(") VALUES (", out);
    for (size_t i = 0; i < FIELDS; i++) {
        char text[512];
        value_text(row, fields[i].key, text, sizeof text);
        bool null = json_is_null(json_object_get(row, fields[i].key));
        fputs(i > 0 ? ", " : "", out);
        fputs(null ? "NULL" : "'", out);
        for (const char *c = text; *c != '\0'; c++)
            fprintf(out, *c == '\'' ? "''" : "%c", *c);
        fputs(null ? "" : "'", out);
    }
    fputs(");\n", out);
}

/* ---- any ---- */

void cli_bench_print_head(const cli_bench *b)
{
    if (is_format(b, "md"))
        print_md_head(b);
    else if (is_format(b, "csv"))
        print_names(b->out, ","), fputc('\n', b->out);
    else if (is_format(b, "sql"))
        print_sql_head(b->out);
    else if (is_format(b, "json"))
        fputs("[\n", b->out);
    fflush(b->out);
}

void cli_bench_print_row(const cli_bench *b, const json_t *row, bool first)
{
    if (is_format(b, "md"))
        print_md_row(b, row);
    else if (is_format(b, "csv"))
        print_csv_row(b->out, row);
    else if (is_format(b, "sql"))
        print_sql_row(b->out, row);
    else {
        fputs(is_format(b, "json") && !first ? ",\n" : "", b->out);
        json_dumpf(row, b->out, JSON_COMPACT | JSON_REAL_PRECISION(9));
        fputs(is_format(b, "json") ? "" : "\n", b->out);
    }
    fflush(b->out);
}

void cli_bench_print_foot(const cli_bench *b)
{
    if (is_format(b, "json"))
        fputs("\n]\n", b->out);
    else if (is_format(b, "md"))
        fprintf(b->out, "\nbuild: sluice %s (0)\n", SLUICE_VERSION);
}

/* ---- the breakdown ---- */

static json_t *json_spread(const sl_histogram *h)
{
    return json_pack("{s:I, s:f, s:I, s:I, s:I, s:I}", "count", (json_int_t)h->count, "mean",
                     h->count > 0 ? (double)h->sum / (double)h->count : 0.0, "p50", (json_int_t)sl_histogram_percentile(h, 0.5), "p90",
                     (json_int_t)sl_histogram_percentile(h, 0.9), "p99", (json_int_t)sl_histogram_percentile(h, 0.99), "max",
                     (json_int_t)h->max);
}

json_t *cli_bench_breakdown(const sl_breakdown *b)
{
    double passes = b->passes > 0 ? (double)b->passes : 1;
    json_t *layers = json_array();
    for (uint32_t i = 0; i <= b->layers; i++) {
        const sl_layer_cost *l = &b->layer[i];
        json_array_append_new(
            layers, json_pack("{s:o, s:f, s:f, s:f, s:f, s:f, s:f}", "layer", i < b->layers ? json_integer(i) : json_null(), "compute_ns",
                              (double)(l->total_ns - l->wait_ns) / passes, "wait_ns", (double)l->wait_ns / passes, "bytes_read",
                              (double)l->bytes_read / passes, "neurons_needed", (double)l->neurons_needed / passes, "neurons_resident",
                              (double)l->neurons_resident / passes, "neurons_read", (double)l->neurons_read / passes));
    }
    return json_pack("{s:I, s:I, s:o, s:o, s:o, s:o, s:o}", "passes", (json_int_t)b->passes, "rows", (json_int_t)b->rows, "pass_ns",
                     json_spread(&b->pass_ns), "pass_wait_ns", json_spread(&b->pass_wait_ns), "read_ns", json_spread(&b->read_ns),
                     "request_bytes", json_spread(&b->request_bytes), "layers", layers);
}

static void print_spread(const json_t *b, const char *name, const char *key, double scale, const char *unit)
{
    const json_t *h = json_object_get(b, key);
    fprintf(stderr, "%-13s %9.0f %10.3f %10.3f %10.3f %10.3f %10.3f %s\n", name, number_of(h, "count"), number_of(h, "mean") * scale,
            number_of(h, "p50") * scale, number_of(h, "p90") * scale, number_of(h, "p99") * scale, number_of(h, "max") * scale, unit);
}

/* Means of a pass. Of neurons only where a run chose some. */
static void print_layers(const json_t *layers, bool neurons)
{
    const json_t *layer;
    size_t i;
    fprintf(stderr, "%-13s %12s %12s %12s", "layer", "compute ms", "waiting ms", "read KiB");
    if (neurons)
        fprintf(stderr, " %10s %10s %10s", "neurons", "in memory", "read");
    fputc('\n', stderr);
    json_array_foreach(layers, i, layer)
    {
        char number[24] = "head etc.";
        if (json_is_integer(json_object_get(layer, "layer")))
            snprintf(number, sizeof number, "%zu", i);
        fprintf(stderr, "%-13s %12.3f %12.3f %12.1f", number, number_of(layer, "compute_ns") * 1e-6, number_of(layer, "wait_ns") * 1e-6,
                number_of(layer, "bytes_read") / 1024);
        if (neurons)
            fprintf(stderr, " %10.0f %10.0f %10.0f", number_of(layer, "neurons_needed"), number_of(layer, "neurons_resident"),
                    number_of(layer, "neurons_read"));
        fputc('\n', stderr);
    }
    fputc('\n', stderr);
}

void cli_bench_print_breakdown(const json_t *row)
{
    const json_t *b = json_object_get(row, "breakdown");
    char name[64];
    if (!json_is_object(b))
        return;
    test_name(row, name);
    fprintf(stderr, "\n%s: %.0f passes\n%-13s %9s %10s %10s %10s %10s %10s\n", name, number_of(b, "passes"), "", "count", "mean", "p50",
            "p90", "p99", "max");
    print_spread(b, "pass", "pass_ns", 1e-6, "ms");
    print_spread(b, "  waiting", "pass_wait_ns", 1e-6, "ms");
    print_spread(b, "read", "read_ns", 1e-6, "ms");
    print_spread(b, "request", "request_bytes", 1.0 / 1024, "KiB");
    print_layers(json_object_get(b, "layers"), number_of(row, "neurons_needed") > 0);
}
