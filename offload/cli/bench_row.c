/* offload/cli/bench_row.c: what a row holds: llama-bench's keys and ours. See bench.h. */
#include "core/format.h"
#include "core/gguf.h"
#include "core/os.h"
#include "offload/cli/bench.h"
#include "offload/tools/bench_figures.h"
#include "pager/packed.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

static void cpu_info(char out[128])
{
    char line[256];
    bool known = cli_system_line("/proc/cpuinfo", "model name", line);
    const char *value = known ? strchr(line, ':') : NULL;
    snprintf(out, 128, "%.*s", value != NULL && value[1] == ' ' ? (int)strcspn(value + 2, "\n") : 0, value != NULL ? value + 2 : "");
}

/* ---- the model ---- */

typedef struct model_facts {
    char type[80]; /* "llama 135M Q4_1" */
    uint64_t bytes, parameters;
} model_facts;

/* The type that most of the weights have. */
static const char *main_type(const sl_gguf *g)
{
    uint64_t bytes[64] = {0};
    size_t best = 0;
    for (size_t i = 0; i < sl_gguf_tensor_count(g); i++) {
        const sl_gguf_tensor *t = sl_gguf_tensor_at(g, i);
        if (t->type < 64 && (bytes[t->type] += t->bytes) > bytes[best])
            best = t->type;
    }
    const sl_format *format = sl_format_of((uint32_t)best);
    return format != NULL ? format->name : "?";
}

static void look_at(const sl_gguf *g, model_facts *out)
{
    sl_str architecture = {"?", 1};
    if (sl_gguf_find(g, "general.architecture") != NULL)
        (void)!sl_gguf_str(g, "general.architecture", &architecture, NULL);
    for (size_t i = 0; i < sl_gguf_tensor_count(g); i++) {
        const sl_gguf_tensor *t = sl_gguf_tensor_at(g, i);
        uint64_t elements = 1;
        for (uint32_t d = 0; d < t->dims; d++)
            elements *= t->shape[d];
        out->bytes += t->bytes;
        out->parameters += elements;
    }
    double millions = (double)out->parameters * 1e-6;
    snprintf(out->type, sizeof out->type, "%.*s %.*f%s %s", (int)(architecture.length < 40 ? architecture.length : 40), architecture.data,
             millions >= 1e4 || millions < 1e3 ? 0 : 1, millions < 1e3 ? millions : millions * 1e-3, millions < 1e3 ? "M" : "B",
             main_type(g));
}

/* All zero where the file cannot be read: the test will say why. */
static model_facts facts_of(const char *path)
{
    model_facts facts = {.type = "?"};
    sl_gguf *file = NULL;
    sl_packed *packed = NULL;
    sl_error err;
    if (path == NULL || sl_gguf_open(path, &file, &err) != SL_OK)
        return facts;
    if (sl_packed_is(file) && sl_packed_open(file, &packed, &err) == SL_OK)
        look_at(sl_packed_original(packed), &facts);
    else
        look_at(file, &facts);
    sl_packed_close(packed);
    sl_gguf_close(file);
    return facts;
}

/* ---- a row ---- */

static json_t *text_or(const char *text, const char *other)
{
    const char *chosen = text != NULL ? text : other;
    return chosen != NULL ? cli_json_text(chosen, strlen(chosen)) : json_null();
}

static json_t *given_count(int64_t value)
{
    return value > 0 ? json_integer(value) : json_null();
}

/* -1: all, as llama-bench has it. */
static int64_t gpu_layers(const cli_args *a)
{
    return !cli_bench_on_device(a) ? 0 : a->gpu_layers >= 0 ? a->gpu_layers : -1;
}

static const char *kv_host(const cli_args *a)
{
    return a->no_kv_offload ? "all" : a->kv_host != NULL ? a->kv_host : "auto";
}

static void put_device(const cli_args *a, json_t *row)
{
    bool device = cli_bench_on_device(a);
    json_object_set_new(row, "device", text_or(device ? a->device : NULL, "none"));
    json_object_set_new(row, "vram_budget_bytes", given_count((int64_t)a->vram_budget_bytes));
    json_object_set_new(row, "vram_budget_min_bytes", json_null());
    json_object_set_new(row, "kv_host", device ? json_string(kv_host(a)) : json_null());
    json_object_set_new(row, "cpu_share", a->cpu_share >= 0 ? json_real(a->cpu_share) : json_null());
}

static void put_settings(const cli_args *a, json_t *row)
{
    bool sparse = a->sparsity != NULL && strcmp(a->sparsity, "off") != 0;
    json_object_set_new(row, "program", json_string("sluice"));
    json_object_set_new(row, "status", json_string("ok"));
    json_object_set_new(row, "reason", json_null());
    json_object_set_new(row, "ram_budget_bytes", given_count((int64_t)a->ram_budget_bytes));
    json_object_set_new(row, "ram_budget_min_bytes", json_null());
    put_device(a, row);
    json_object_set_new(row, "context", json_null());
    json_object_set_new(row, "isa", text_or(a->isa, NULL));
    json_object_set_new(row, "io_engine", text_or(a->io_engine, NULL));
    json_object_set_new(row, "io_depth", given_count(a->io_depth));
    json_object_set_new(row, "io_direct", json_boolean(!a->buffered));
    json_object_set_new(row, "throttle_bytes_per_s", given_count((int64_t)a->throttle_Bps));
    json_object_set_new(row, "sparsity", text_or(a->sparsity, "off"));
    json_object_set_new(row, "density", json_real(!sparse ? 1 : a->density > 0 ? a->density : 0.5));
    json_object_set_new(row, "predictor", sparse ? text_or(a->predictor, NULL) : json_null());
    json_object_set_new(row, "draft", text_or(a->draft, a->tree != NULL ? NULL : "0"));
    json_object_set_new(row, "drafter", text_or(a->drafter, NULL));
    json_object_set_new(row, "tree", text_or(a->tree, NULL));
    json_object_set_new(row, "accept", text_or(a->accept, NULL));
    json_object_set_new(row, "tau", a->tau >= 0 ? json_real(a->tau) : json_null());
    json_object_set_new(row, "sparq_k", given_count(a->sparq_k));
    json_object_set_new(row, "sparq_r", given_count(a->sparq_r));
    json_object_set_new(row, "early_exit", text_or(a->early_exit, "off"));
    json_object_set_new(row, "exit_agreement", a->exit_agreement > 0 ? json_real(a->exit_agreement) : json_null());
}

/* What a test is measured to be; a row has null where it says nothing. Over several rounds some are means, the others are the first one's. */
static const struct {
    const char *name;
    bool mean;
} measured[] = {
    {"load_s", true},
    {"total_s", true},
    {"compute_s", true},
    {"wait_s", true},
    {"other_s", true},
    {"bytes_read_per_token", true},
    {"requests_per_token", true},
    {"request_bytes_mean", true},
    {"disk_bytes_per_s", true},
    {"tokens_per_s_limit", true},
    {"resident_weight_bytes", false},
    {"streamed_bytes", false},
    {"peak_rss_bytes", false},
    {"peak_cgroup_bytes", false},
    {"vram_bytes", false},
    {"vram_weight_bytes", false},
    {"link_bytes_per_token", true},
    {"neurons_needed", false},
    {"neurons_resident", false},
    {"neurons_read", false},
    {"advance_mean", false},
    {"layers_mean", false},
    {"left_out_bytes_per_token", false},
    {"others_share", true},
    {"peer_ratio_median", false},
    {"peer_ratio_min", false},
    {"peer_ratio_max", false},
    {"breakdown", false},
};

json_t *cli_bench_row(const cli_bench_case *c)
{
    const cli_args *a = &c->args;
    model_facts model = facts_of(a->model);
    char cpu[128], stamp[40];
    time_t now = time(NULL);
    struct tm utc;
    cpu_info(cpu);
    strftime(stamp, sizeof stamp, "%FT%TZ", gmtime_r(&now, &utc));
    json_t *row = json_pack("{s:s, s:i, s:o, s:s, s:s, s:o, s:s, s:I, s:I, s:I, s:I, s:I, s:s, s:b, s:i, s:o, s:o}", "build_commit",
                            SLUICE_VERSION, "build_number", 0, "cpu_info", cli_json_text(cpu, strlen(cpu)), "gpu_info", "", "backends",
                            "CPU", "model_filename", text_or(a->model, NULL), "model_type", model.type, "model_size",
                            (json_int_t)model.bytes, "model_n_params", (json_int_t)model.parameters, "n_batch", (json_int_t)a->batch,
                            "n_ubatch", (json_int_t)a->batch, "n_threads", (json_int_t)a->threads, "cpu_mask", "0x0", "cpu_strict", 0,
                            "poll", 0, "type_k", text_or(a->cache_type_k, "f16"), "type_v", text_or(a->cache_type_v, "f16"));
    json_t *rest = json_pack("{s:I, s:i, s:s, s:i, s:b, s:i, s:s, s:s, s:s, s:s, s:s, s:b, s:i, s:b, s:b, s:i, s:i, s:I, s:I, s:I, s:s}",
                             "n_gpu_layers", (json_int_t)gpu_layers(a), "n_cpu_moe", 0, "split_mode", "none", "main_gpu", 0,
                             "no_kv_offload", cli_bench_on_device(a) && strcmp(kv_host(a), "all") == 0, "flash_attn", 1, "devices",
                             cli_bench_on_device(a) ? a->device : "none", "tensor_split", "0.00", "tensor_buft_overrides", "none",
                             "load_mode", a->buffered ? "none" : "dio", "lazy_mode", "off", "embeddings", 0, "no_op_offload", 0, "no_host",
                             0, "repack", 1, "fit_target", 0, "fit_min_ctx", 0, "n_prompt", (json_int_t)c->prompt, "n_gen",
                             (json_int_t)c->decode, "n_depth", (json_int_t)c->depth, "test_time", stamp);
    json_object_update(row, rest);
    json_decref(rest);
    json_object_set_new(row, "avg_ns", json_integer(0));
    json_object_set_new(row, "stddev_ns", json_integer(0));
    json_object_set_new(row, "avg_ts", json_real(0));
    json_object_set_new(row, "stddev_ts", json_real(0));
    json_object_set_new(row, "samples_ns", json_array());
    json_object_set_new(row, "samples_ts", json_array());
    put_settings(a, row);
    for (size_t i = 0; i < sizeof measured / sizeof *measured; i++)
        json_object_set_new(row, measured[i].name, json_null());
    json_object_set_new(row, "warnings", json_array());
    return row;
}

void cli_bench_merge_round(json_t **all, json_t *round_row, double round)
{
    if (*all == NULL) {
        *all = round_row;
        return;
    }
    json_array_extend(json_object_get(*all, "samples_ns"), json_object_get(round_row, "samples_ns"));
    for (size_t i = 0; i < sizeof measured / sizeof *measured; i++) {
        const json_t *before = json_object_get(*all, measured[i].name), *now = json_object_get(round_row, measured[i].name);
        if (measured[i].mean && json_is_number(before) && json_is_number(now))
            json_object_set_new(*all, measured[i].name,
                                json_real((json_number_value(before) * round + json_number_value(now)) / (round + 1)));
    }
    json_decref(round_row);
}

void cli_bench_finish_row(json_t *row)
{
    const json_t *samples = json_object_get(row, "samples_ns");
    size_t count = json_array_size(samples);
    double *ns = calloc(count + 1, sizeof *ns), *rate = calloc(count + 1, sizeof *rate);
    double tokens = (double)(json_integer_value(json_object_get(row, "n_prompt")) + json_integer_value(json_object_get(row, "n_gen")));
    json_t *rates = json_array();
    for (size_t i = 0; i < count && ns != NULL && rate != NULL; i++) {
        ns[i] = json_number_value(json_array_get(samples, i));
        rate[i] = ns[i] > 0 ? 1e9 * tokens / ns[i] : 0;
        json_array_append_new(rates, json_real(rate[i]));
    }
    if (ns != NULL && rate != NULL) {
        json_object_set_new(row, "avg_ns", json_integer((json_int_t)sl_mean(ns, count)));
        json_object_set_new(row, "stddev_ns", json_integer((json_int_t)sl_stddev(ns, count)));
        json_object_set_new(row, "avg_ts", json_real(sl_mean(rate, count)));
        json_object_set_new(row, "stddev_ts", json_real(sl_stddev(rate, count)));
    }
    json_object_set_new(row, "samples_ts", rates);
    free(ns);
    free(rate);
}
