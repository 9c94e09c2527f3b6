/* offload/cli/run.c: `sluice run`: a prompt in, text out as it comes, and a summary that explains the speed. */
#include "core/os.h"
#include "offload/cli/cli.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

typedef struct run_state {
    const cli_args *args;
    sl_engine *engine;
    sl_session *session;
    json_t *warnings;
    sl_token_id *prompt;
    size_t prompt_count;
    double load_s;
    uint64_t seed;
    bool write_failed;
    sl_result result;
} run_state;

/* ---- options ---- */

static void note(void *ctx, const char *line)
{
    json_array_append_new(ctx, cli_json_text(line, strlen(line)));
    fprintf(stderr, "%s%s%s\n", cli_color() ? "\033[2m" : "", line, cli_color() ? "\033[0m" : "");
}

static sl_status kv_type(const char *flag, const char *name, sl_kv_type *out, sl_error *err)
{
    static const char *const names[] = {[SL_KV_F16] = "f16", [SL_KV_F32] = "f32", [SL_KV_Q8_0] = "q8_0"};
    *out = SL_KV_F16;
    if (name == NULL)
        return SL_OK;
    for (int i = 0; i < 3; i++)
        if (strcmp(name, names[i]) == 0) {
            *out = (sl_kv_type)i;
            return SL_OK;
        }
    return sl_fail(err, SL_INVALID, "%s %s: known types are f16, f32 and q8_0", flag, name);
}

sl_status cli_engine_options(const cli_args *args, json_t *warnings, sl_engine_options *out, sl_error *err)
{
    if (args->model == NULL)
        return sl_fail(err, SL_INVALID, "no model; -m FILE names one");
    *out = (sl_engine_options){.model_path = args->model,
                               .ram_budget_bytes = args->ram_budget_bytes,
                               .context = (uint32_t)args->context,
                               .batch = (uint32_t)args->batch,
                               .threads = (uint32_t)args->threads,
                               .isa = args->isa,
                               .io_engine = args->io_engine,
                               .io_depth = (uint32_t)args->io_depth,
                               .throttle_Bps = args->throttle_Bps,
                               .buffered = args->buffered,
                               .note = note,
                               .note_ctx = warnings};
    SL_TRY(kv_type("-ctk", args->cache_type_k, &out->k_type, err));
    return kv_type("-ctv", args->cache_type_v, &out->v_type, err);
}

/* ---- prompt ---- */

static sl_status prompt_text(run_state *s, char **out, size_t *length, sl_error *err)
{
    const cli_args *a = s->args;
    if ((a->prompt == NULL) == (a->file == NULL))
        return sl_fail(err, SL_INVALID, "give the prompt once: -p TEXT or -f FILE");
    if (a->file != NULL)
        return cli_read_file(a->file, out, length, err);
    *out = strdup(a->prompt);
    *length = strlen(a->prompt);
    return *out != NULL ? SL_OK : sl_fail(err, SL_NO_MEMORY, "out of memory for the prompt");
}

static sl_status tokenize_prompt(run_state *s, sl_error *err)
{
    const cli_args *a = s->args;
    char *text, *wrapped = NULL;
    size_t length;
    SL_TRY(prompt_text(s, &text, &length, err));
    sl_status status = SL_OK;
    if (a->chat || a->system != NULL || a->chat_template != NULL) {
        status = sl_engine_chat_prompt(s->engine, a->chat_template, a->system, text, &wrapped, err);
        length = wrapped != NULL ? strlen(wrapped) : 0;
    }
    if (status == SL_OK)
        status = sl_engine_tokenize(s->engine, wrapped != NULL ? wrapped : text, length, true, !a->no_parse_special, &s->prompt,
                                    &s->prompt_count, err);
    free(wrapped);
    free(text);
    if (status == SL_OK && s->prompt_count == 0)
        return sl_fail(err, SL_INVALID, "the prompt is empty; it must have at least one token");
    return status;
}

/* ---- streaming ---- */

static bool on_text(void *ctx, const char *text, size_t length)
{
    run_state *s = ctx;
    cli_progress_end();
    if (!s->args->json && (fwrite(text, 1, length, stdout) != length || fflush(stdout) != 0))
        s->write_failed = true;
    return !s->write_failed;
}

static void on_prompt(void *ctx, size_t done, size_t total)
{
    const run_state *s = ctx;
    (void)s;
    if (done < total)
        cli_progress("reading the prompt", done, total);
    else
        cli_progress_end();
}

/* ---- what is said at the end ---- */

static double per_second(double count, double seconds)
{
    return seconds > 0 ? count / seconds : 0;
}

static void print_memory(const sl_engine_info *info, const sl_engine_stats *stats)
{
    char peak[24], budget[24], resident[24], weights[24], kv[24];
    sl_format_size(stats->peak_rss_bytes, peak);
    sl_format_size(info->ram_budget_bytes, budget);
    sl_format_size(stats->resident_weight_bytes, resident);
    sl_format_size(info->weight_bytes, weights);
    sl_format_size(info->kv_bytes, kv);
    fprintf(stderr, "memory  peak %s of the %s budget; %.0f %% of the weights stay (%s of %s); KV cache %s\n", peak, budget,
            100.0 * (double)stats->resident_weight_bytes / (double)info->weight_bytes, resident, weights, kv);
}

static void print_disk(const run_state *s, const sl_engine_stats *stats)
{
    char all[24], token[24], request[24], speed[24];
    const sl_result *r = &s->result;
    sl_format_size(stats->bytes_read, all);
    sl_format_size(r->decode_tokens > 0 ? r->decode_bytes_read / r->decode_tokens : 0, token);
    sl_format_size(stats->requests > 0 ? stats->bytes_read / stats->requests : 0, request);
    sl_format_size((uint64_t)per_second((double)r->decode_bytes_read, r->decode_s), speed);
    fprintf(stderr, "disk    read %s in all, %s per decoded token (%s/s); %s, %s, %s a request\n", all, token, speed, stats->io_engine,
            stats->direct ? "direct" : "through the page cache", request);
}

/* The advice names the limit that this very run met. */
static void print_advice(const run_state *s, const sl_engine_info *info)
{
    const sl_result *r = &s->result;
    double waiting = r->decode_s > 0 ? r->decode_wait_s / r->decode_s : 0;
    char more[24], all[24];
    uint64_t everything = info->ram_budget_bytes + info->streamed_bytes + (info->streamed_bytes >> 6) + (4 << 20);
    fprintf(stderr, "time    loading %.2f s, prompt %.2f s, decoding %.2f s, of which %.0f %% waiting for reads\n", s->load_s, r->prompt_s,
            r->decode_s, 100 * waiting);
    if (info->streamed_bytes == 0) {
        fprintf(stderr, "faster  all weights are in memory: memory bandwidth and cores are the limit (-t, a smaller quantisation)\n");
        return;
    }
    sl_format_size(everything, all);
    sl_format_size(info->streamed_bytes / 4, more);
    fprintf(stderr, "faster  %s; --ram-budget +%s would stream a quarter less, %s would hold everything\n",
            waiting > 0.3 ? "the disk is the limit" : "computing is the limit now", more, all);
}

static void print_summary(const run_state *s)
{
    sl_engine_info info;
    sl_engine_stats stats;
    const sl_result *r = &s->result;
    sl_engine_describe(s->engine, &info);
    sl_engine_measure(s->engine, &stats);
    fprintf(stderr, "\nspeed   %.2f tokens/s over %zu decoded tokens; prompt %.1f tokens/s over %zu tokens; ended by %s\n",
            per_second((double)r->decode_tokens, r->decode_s), r->decode_tokens, per_second((double)s->prompt_count, r->prompt_s),
            s->prompt_count, sl_stop_reason_name(r->reason));
    print_memory(&info, &stats);
    print_disk(s, &stats);
    print_advice(s, &info);
}

static void print_division(const sl_engine *engine)
{
    sl_engine_info i;
    sl_engine_describe(engine, &i);
    const struct {
        const char *name;
        uint64_t bytes;
    } lines[] = {{"process", i.process_bytes},           {"KV cache", i.kv_bytes},  {"activations", i.scratch_bytes},
                 {"staging", i.staging_bytes},           {"tables", i.table_bytes}, {"resident weights", i.resident_bytes},
                 {"streamed per pass", i.streamed_bytes}};
    for (size_t n = 0; n < sizeof lines / sizeof *lines; n++) {
        char size[24];
        sl_format_size(lines[n].bytes, size);
        fprintf(stderr, "%-18s %12s\n", lines[n].name, size);
    }
    fprintf(stderr, "%u threads %s; %s kernels; batch %u; context %u of %u\n", i.threads, i.thread_binding, i.isa, i.batch, i.context,
            i.context_model);
}

/* ---- JSON ---- */

static json_t *json_size(uint64_t bytes)
{
    return json_integer((json_int_t)bytes);
}

static json_t *json_tokens(const sl_result *r)
{
    json_t *array = json_array();
    for (size_t i = 0; i < r->count; i++)
        json_array_append_new(array, json_integer(r->tokens[i]));
    return array;
}

static json_t *json_timings(const run_state *s)
{
    const sl_result *r = &s->result;
    return json_pack("{s:f, s:f, s:f, s:f, s:f}", "load_s", s->load_s, "prompt_s", r->prompt_s, "decode_s", r->decode_s,
                     "prompt_tokens_per_s", per_second((double)s->prompt_count, r->prompt_s), "decode_tokens_per_s",
                     per_second((double)r->decode_tokens, r->decode_s));
}

static json_t *json_memory(const sl_engine_info *info, const sl_engine_stats *stats)
{
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "ram_budget_bytes", json_size(info->ram_budget_bytes),
                     "ram_budget_min_bytes", json_size(info->ram_budget_min_bytes), "peak_rss_bytes", json_size(stats->peak_rss_bytes),
                     "peak_cgroup_bytes", json_size(stats->peak_cgroup_bytes), "resident_weight_bytes",
                     json_size(stats->resident_weight_bytes), "kv_bytes", json_size(info->kv_bytes), "vram_budget_bytes", json_size(0),
                     "peak_vram_bytes", json_size(0));
}

static json_t *json_io(const run_state *s, const sl_engine_stats *stats)
{
    return json_pack("{s:s, s:b, s:o, s:o, s:o, s:f, s:f, s:f}", "engine", stats->io_engine, "direct", stats->direct, "bytes_read",
                     json_size(stats->bytes_read), "decode_bytes_read", json_size(s->result.decode_bytes_read), "requests",
                     json_size(stats->requests), "request_bytes_mean",
                     stats->requests > 0 ? (double)stats->bytes_read / (double)stats->requests : 0.0, "wait_s", stats->wait_s,
                     "decode_wait_s", s->result.decode_wait_s);
}

static int print_json(run_state *s)
{
    sl_engine_info info;
    sl_engine_stats stats;
    sl_engine_describe(s->engine, &info);
    sl_engine_measure(s->engine, &stats);
    json_t *value = json_pack("{s:i, s:o, s:o, s:s, s:o, s:s, s:s, s:i, s:i, s:i, s:O}", "prompt_tokens", (int)s->prompt_count, "tokens",
                              json_tokens(&s->result), "text", cli_json_text(s->result.text, s->result.text_length), "stop_reason",
                              sl_stop_reason_name(s->result.reason), "seed", json_size(s->seed), "backend", info.backend, "isa", info.isa,
                              "threads", (int)info.threads, "context", (int)info.context, "batch", (int)info.batch, "warnings",
                              s->warnings);
    json_object_set_new(value, "timings", json_timings(s));
    json_object_set_new(value, "memory", json_memory(&info, &stats));
    json_object_set_new(value, "io", json_io(s, &stats));
    return cli_print_json(value);
}

/* ---- the command ---- */

static sl_status open_all(run_state *s, sl_error *err)
{
    sl_engine_options options;
    uint64_t start = sl_now_ns();
    SL_TRY(cli_engine_options(s->args, s->warnings, &options, err));
    SL_TRY(sl_engine_open(&options, &s->engine, err));
    cli_catch_interrupt(s->engine);
    SL_TRY(tokenize_prompt(s, err));
    SL_TRY(sl_session_open(s->engine, &s->session, err));
    s->load_s = (double)(sl_now_ns() - start) * 1e-9;
    if (s->args->verbose)
        print_division(s->engine);
    return SL_OK;
}

static sl_status generate(run_state *s, sl_error *err)
{
    const cli_args *a = s->args;
    s->seed = a->seed;
    if (!a->seed_given && getrandom(&s->seed, 4, 0) != 4)
        return sl_fail(err, SL_IO, "no random seed to be had from the system: %s; -s gives one", strerror(errno));
    if (!a->seed_given)
        s->seed &= UINT32_MAX;
    if (a->predict == 0)
        return sl_fail(err, SL_INVALID, "-n 0: it must be at least 1, or -1 for no limit");
    sl_request request = {.prompt = s->prompt,
                          .prompt_count = s->prompt_count,
                          .max_tokens = a->predict < 0 ? 0 : (uint32_t)a->predict,
                          .ignore_eos = a->ignore_eos,
                          .stop = a->stop,
                          .stop_count = a->stops,
                          .seed = s->seed,
                          .temperature = (float)a->temperature,
                          .top_p = (float)a->top_p,
                          .min_p = (float)a->min_p,
                          .repeat_penalty = (float)a->repeat_penalty,
                          .top_k = (int32_t)a->top_k,
                          .repeat_last_n = (int32_t)a->repeat_last_n,
                          .on_text = on_text,
                          .on_prompt = on_prompt,
                          .ctx = s};
    return sl_generate(s->session, &request, &s->result, err);
}

/* What was generated is given also when something ended it early. */
static int report(run_state *s, sl_status status, const sl_error *err)
{
    if (s->write_failed) {
        fprintf(stderr, "sluice: standard output was closed; stopped after %zu tokens\n", s->result.count);
        return CLI_FAILED;
    }
    if (status != SL_OK && status != SL_INTERRUPTED)
        return cli_fail(s->args, err);
    if (!s->args->json && s->result.text != NULL)
        print_summary(s);
    int printed = s->args->json && s->result.text != NULL ? print_json(s) : CLI_DONE;
    return status == SL_INTERRUPTED ? CLI_INTERRUPTED : printed;
}

int cli_run(const cli_args *args)
{
    run_state s = {.args = args, .warnings = json_array()};
    sl_error err = {0};
    sl_status status = open_all(&s, &err);
    int result;
    if (status != SL_OK) {
        result = cli_fail(args, &err);
    } else {
        status = generate(&s, &err);
        cli_catch_interrupt(NULL);
        result = report(&s, status, &err);
    }
    cli_catch_interrupt(NULL);
    sl_result_free(&s.result);
    sl_session_close(s.session);
    sl_engine_close(s.engine);
    free(s.prompt);
    json_decref(s.warnings);
    return result;
}
