/* offload/cli/run_report.c: what `sluice run` says at the end: where the time went and what would make it faster; or all of it as JSON. */
#include "core/os.h"
#include "offload/cli/run_state.h"

#include <stdio.h>
#include <string.h>

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
    sl_format_size(info->kv_bytes + info->vram_kv_bytes, kv);
    fprintf(stderr, "memory  peak %s of the %s budget; %.0f %% of the weights stay (%s of %s); KV cache %s\n", peak, budget,
            100.0 * (double)stats->resident_weight_bytes / (double)info->weight_bytes, resident, weights, kv);
}

/* Where weights lie with a device: there, in host memory, on the disk. */
static void print_device(const sl_engine_info *info, const sl_engine_stats *stats)
{
    char followed[24], taken[24], budget[24], there[24], crossing[24], disk[24], beside[24], link[24], speed[24], kv[24], late[24];
    if (info->device[0] == '\0')
        return;
    sl_format_size(info->vram_bytes, taken);
    sl_format_size(info->vram_budget_bytes, budget);
    sl_format_size(info->vram_weight_bytes, there);
    sl_format_size(info->crossing_bytes, crossing);
    sl_format_size(info->streamed_bytes - info->late_bytes, disk);
    fprintf(stderr,
            "gpu     %s (%s): %s of the %s budget; %.0f %% of the weights stay there (%s); %s cross to it for a token, %s of that from "
            "the disk",
            info->device, info->backend, taken, budget, 100.0 * (double)info->vram_weight_bytes / (double)info->weight_bytes, there,
            crossing, disk);
    if (info->kv_host_layers > 0) {
        sl_format_size(info->kv_bytes, kv);
        fprintf(stderr, "; keys and values of %u of %u layers (%s) lie in host memory%s", info->kv_host_layers, info->layers, kv,
                info->kv_file_bytes > 0 ? ", the rest of them in a file" : "");
    }
    if (info->late_bytes > 0) {
        sl_format_size(info->late_bytes, late);
        fprintf(stderr, "; neurons of %s are in neither memory and left out", late);
    }
    sl_format_size(stats->neurons_followed_bytes, followed);
    if (info->device_follows)
        fprintf(stderr, "; the neurons that stay follow the text (%s crossed for that)", followed);
    fputc('\n', stderr);
    if (info->processor_Bps <= 0)
        return;
    sl_format_size(info->beside_bytes, beside);
    sl_format_size((uint64_t)info->link_Bps, link);
    sl_format_size((uint64_t)info->processor_Bps, speed);
    fprintf(stderr, "beside  %s (%.0f %% of what RAM holds for it) are computed by the processor, at %s/s; ", beside, 100 * info->cpu_share,
            speed);
    if (info->link_Bps > 0)
        fprintf(stderr, "the link moves %s/s\n", link);
    else
        fprintf(stderr, "the link was not measured: VRAM and staging have too little room for that\n");
}

static void print_disk(const cli_run_state *s, const sl_engine_stats *stats)
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

#define EXAMPLE_DENSITY 0.5 /* of which the advice speaks: little is lost there */

/* The advice names the limit that this very run met. */
static void print_advice(const cli_run_state *s, const sl_engine_info *info)
{
    const sl_result *r = &s->result;
    double waiting = r->decode_s > 0 ? r->decode_wait_s / r->decode_s : 0;
    char more[24], all[24];
    uint64_t everything = info->ram_budget_bytes + info->streamed_bytes + (info->streamed_bytes >> 6) + (4 << 20);
    fprintf(stderr, "time    loading %.2f s, prompt %.2f s, decoding %.2f s, of which %.0f %% waiting for reads\n", s->load_s, r->prompt_s,
            r->decode_s, 100 * waiting);
    if (info->device[0] != '\0' && info->streamed_bytes == 0) {
        fprintf(stderr, "faster  %s\n",
                info->vram_weight_bytes == info->weight_bytes
                    ? "all weights are on the GPU: its memory's bandwidth is the limit (a smaller quantisation)"
                    : "what crosses to the GPU in each pass is the limit; a larger --vram-budget keeps more there");
        return;
    }
    if (info->streamed_bytes == 0) {
        fprintf(stderr, "faster  all weights are in memory: memory bandwidth and cores are the limit (-t, a smaller quantisation)\n");
        return;
    }
    sl_format_size(everything, all);
    sl_format_size(info->streamed_bytes / 4, more);
    fprintf(stderr, "faster  %s; --ram-budget +%s would stream a quarter less, %s would hold everything\n",
            waiting > 0.3 ? "the disk is the limit" : "computing is the limit now", more, all);
    if (info->packed)
        return;
    char left_out[24], ffn[24];
    sl_format_size(info->ffn_bytes, ffn);
    sl_format_size((uint64_t)((1 - EXAMPLE_DENSITY) * (double)info->ffn_bytes), left_out);
    fprintf(stderr,
            "        sluice pack, then calibrate: --sparsity fine --density %.1f leaves out %s of the %s of feed-forwards for each token, "
            "approximately the same text\n",
            EXAMPLE_DENSITY, left_out, ffn);
}

void cli_print_summary(const cli_run_state *s)
{
    sl_engine_info info;
    sl_engine_stats stats;
    const sl_result *r = &s->result;
    sl_engine_describe(s->engine, &info);
    sl_engine_measure(s->engine, &stats);
    fprintf(stderr, "\nspeed   %.2f tokens/s over %zu decoded tokens; prompt %.1f tokens/s over %zu tokens; ended by %s\n",
            per_second((double)r->decode_tokens, r->decode_s), r->decode_tokens,
            per_second((double)(s->prompt_count - s->kept.reused), r->prompt_s), s->prompt_count - s->kept.reused,
            sl_stop_reason_name(r->reason));
    print_memory(&info, &stats);
    print_device(&info, &stats);
    print_disk(s, &stats);
    cli_print_sparsity(s->engine);
    cli_print_sparq(s->engine);
    cli_print_kv(s->engine);
    cli_print_session(s);
    cli_print_early_exit(s->engine);
    cli_print_drafts(s);
    print_advice(s, &info);
}

void cli_print_division(const sl_engine *engine)
{
    sl_engine_info i;
    sl_engine_describe(engine, &i);
    const struct {
        const char *name;
        uint64_t bytes;
    } lines[] = {{"process", i.process_bytes},           {"KV cache", i.kv_bytes},
                 {"activations", i.scratch_bytes},       {"sets of neurons", i.sparsity_bytes},
                 {"staging", i.staging_bytes},           {"tables", i.table_bytes},
                 {"resident weights", i.resident_bytes}, {"streamed per pass", i.streamed_bytes}};
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

static json_t *json_timings(const cli_run_state *s)
{
    const sl_result *r = &s->result;
    return json_pack("{s:f, s:f, s:f, s:f, s:f}", "load_s", s->load_s, "prompt_s", r->prompt_s, "decode_s", r->decode_s,
                     "prompt_tokens_per_s", per_second((double)(s->prompt_count - s->kept.reused), r->prompt_s), "decode_tokens_per_s",
                     per_second((double)r->decode_tokens, r->decode_s));
}

static json_t *json_memory(const sl_engine_info *info, const sl_engine_stats *stats)
{
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "ram_budget_bytes", json_size(info->ram_budget_bytes),
                     "ram_budget_min_bytes", json_size(info->ram_budget_min_bytes), "peak_rss_bytes", json_size(stats->peak_rss_bytes),
                     "peak_cgroup_bytes", json_size(stats->peak_cgroup_bytes), "resident_weight_bytes",
                     json_size(stats->resident_weight_bytes), "kv_bytes", json_size(info->kv_bytes), "vram_budget_bytes",
                     json_size(info->vram_budget_bytes), "peak_vram_bytes", json_size(info->vram_bytes), "vram_kv_bytes",
                     json_size(info->vram_kv_bytes));
}

static json_t *json_device(const sl_engine_info *info, const sl_result *r, const sl_engine_stats *stats)
{
    return json_pack("{s:s, s:o, s:o, s:o, s:f, s:f, s:f, s:i, s:b, s:o, s:o}", "name", info->device, "weight_bytes",
                     json_size(info->vram_weight_bytes), "token_link_bytes", json_size(info->crossing_bytes), "token_cpu_bytes",
                     json_size(info->beside_bytes), "cpu_share", info->cpu_share, "link_bytes_per_s", info->link_Bps, "cpu_bytes_per_s",
                     info->processor_Bps, "kv_host_layers", (int)info->kv_host_layers, "neurons_follow", info->device_follows,
                     "decode_link_bytes", json_size(r->decode_link_bytes), "followed_bytes", json_size(stats->neurons_followed_bytes));
}

static json_t *json_io(const cli_run_state *s, const sl_engine_stats *stats)
{
    return json_pack("{s:s, s:b, s:o, s:o, s:o, s:f, s:f, s:f}", "engine", stats->io_engine, "direct", stats->direct, "bytes_read",
                     json_size(stats->bytes_read), "decode_bytes_read", json_size(s->result.decode_bytes_read), "requests",
                     json_size(stats->requests), "request_bytes_mean",
                     stats->requests > 0 ? (double)stats->bytes_read / (double)stats->requests : 0.0, "wait_s", stats->wait_s,
                     "decode_wait_s", s->result.decode_wait_s);
}

int cli_print_run_json(const cli_run_state *s)
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
    if (s->result.logprobs != NULL)
        json_object_set_new(value, "logprobs", cli_json_logprobs(s));
    if (s->args->sparsity != NULL)
        json_object_set_new(value, "sparsity", cli_json_sparsity(s->engine));
    if (info.device[0] != '\0')
        json_object_set_new(value, "device", json_device(&info, &s->result, &stats));
    if (info.sparq_k > 0)
        json_object_set_new(value, "sparq", cli_json_sparq(s->engine));
    if (info.kv_file_bytes > 0)
        json_object_set_new(value, "kv", cli_json_kv(s->engine));
    if (s->kept.file != NULL)
        json_object_set_new(value, "session", cli_json_session(s));
    if (strcmp(info.early_exit, "off") != 0)
        json_object_set_new(value, "early_exit", cli_json_early_exit(s->engine));
    if (s->drafting.tokens != 0)
        json_object_set_new(value, "sirius", cli_json_drafts(s));
    return cli_print_json(value);
}
