/* offload/cli/bench_test.c: one test, measured: so many tokens of a prompt, so many decoded behind them. See bench.h.
 *
 * As in llama-bench a prompt is random tokens in one call, and decoding is one pass for each token. Decoding is what `run` does: greedy,
 * with whatever drafts and sets the flags ask for. The pass over its first token belongs to neither and is not timed. */
#include "core/gguf.h"
#include "core/os.h"
#include "offload/cli/bench.h"
#include "offload/cli/run_state.h"
#include "offload/tools/read_bench.h"
#include "offload/tools/tool.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LINK_NS      ((uint64_t)250000000)
#define LINK_DEPTH   32
#define LINK_MAX     ((uint32_t)1 << 20)
#define LINK_ALIGNED ((uint32_t)4096)

typedef struct measured { /* differences of the engine's counters, summed over repetitions */
    double total_s, compute_s, wait_s;
    uint64_t bytes, link_bytes, requests, needed, resident, read;
    uint64_t checks, accepted;
    uint64_t walked, layers; /* tokens that could leave early, and what they took */
    int64_t left_out_bytes;
} measured;

typedef struct bench_test {
    const cli_bench_case *c;
    json_t *row;
    cli_run_state run;              /* engine, session, drafting, notes */
    sl_token_id *tokens;            /* depth, prompt, one */
    sl_breakdown *breakdown, *kept; /* as it was before the pass that is not timed */
    sl_engine_stats before;
    measured sum;
} bench_test;

/* ---- tokens ---- */

static sl_status random_tokens(bench_test *t, size_t count, const sl_engine_info *info)
{
    uint64_t seed = 1;
    for (size_t i = 0; i < count; i++)
        t->tokens[i] = (sl_token_id)(sli_random_next(&seed) % info->vocab);
    if (info->bos >= 0 && count > 0)
        t->tokens[0] = info->bos;
    return SL_OK;
}

/* Tokens of a text, again from its beginning where it is too short. */
static sl_status text_tokens(bench_test *t, size_t count, sl_error *err)
{
    char *text;
    size_t length, had;
    sl_token_id *all = NULL;
    SL_TRY(cli_read_file(t->c->args.file, &text, &length, err));
    sl_status status = sl_engine_tokenize(t->run.engine, text, length, true, true, &all, &had, err);
    free(text);
    SL_TRY(status);
    for (size_t i = 0; i < count && had > 0; i++)
        t->tokens[i] = all[i % had];
    free(all);
    return had > 0 ? SL_OK : sl_fail(err, SL_INVALID, "%s: no text to take tokens from", t->c->args.file);
}

static sl_status make_tokens(bench_test *t, sl_error *err)
{
    size_t count = (size_t)t->c->depth + t->c->prompt + 1;
    sl_engine_info info;
    sl_engine_describe(t->run.engine, &info);
    t->tokens = malloc(count * sizeof *t->tokens);
    if (t->tokens == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for %zu tokens", count);
    if (t->c->decode > 0 && (t->run.drafting.tokens != 0 || strcmp(info.early_exit, "off") != 0) && t->c->args.file == NULL)
        cli_note(t->run.warnings,
                 "drafts and early exits of a text that begins with random tokens say little of real ones: -f TEXT gives a "
                 "text to begin with");
    return t->c->args.file != NULL ? text_tokens(t, count, err) : random_tokens(t, count, &info);
}

/* ---- opening ---- */

static sl_status open_test(bench_test *t, sl_error *err)
{
    const cli_args *a = &t->c->args;
    sl_engine_options options;
    uint64_t context = (uint64_t)t->c->depth + t->c->prompt + t->c->decode + (t->c->decode > 0 ? 2 : 1);
    SL_TRY(cli_engine_options(a, t->run.warnings, &options, err));
    SL_TRY(cli_drafting_options(a, &options, &t->run.drafting, err));
    if (a->draft == NULL && a->tree == NULL) { /* llama-bench decodes token by token, and so do we unless asked */
        t->run.drafting.tokens = 0;
        options.draft_max = 0;
    }
    context += options.draft_max;
    if (context > INT32_MAX)
        return sl_fail(err, SL_INVALID, "a test of %llu positions; no model has as many", (unsigned long long)context);
    options.context = (uint32_t)context;
    options.breakdown = t->breakdown;
    options.reserve_bytes = (t->breakdown != NULL ? 2 * sizeof *t->breakdown : 0) + context * (sizeof *t->tokens * 2 + 16);
    SL_TRY(sl_engine_open(&options, &t->run.engine, err));
    cli_catch_interrupt(t->run.engine);
    if (t->breakdown != NULL && cli_bench_on_device(a))
        cli_note(t->run.warnings, "what each layer computes is not measured on a device: of --breakdown, passes, waits and reads are");
    SL_TRY(cli_settle_drafting(&t->run, err));
    SL_TRY(make_tokens(t, err));
    return sl_session_open(t->run.engine, &t->run.session, err);
}

/* ---- the parts of a test ---- */

static void begin_counting(bench_test *t)
{
    sl_engine_measure(t->run.engine, &t->before);
}

static void count(bench_test *t, double seconds)
{
    sl_engine_stats now;
    measured *m = &t->sum;
    sl_engine_measure(t->run.engine, &now);
    m->total_s += seconds;
    m->compute_s += now.compute_s - t->before.compute_s;
    m->wait_s += now.wait_s - t->before.wait_s;
    m->bytes += now.bytes_read - t->before.bytes_read;
    m->link_bytes += now.link_bytes - t->before.link_bytes;
    m->requests += now.requests - t->before.requests;
    m->needed += now.neurons_needed - t->before.neurons_needed;
    m->resident += now.neurons_resident - t->before.neurons_resident;
    m->read += now.neurons_read - t->before.neurons_read;
    const sl_early_exit_stats *x = &now.early_exit, *had = &t->before.early_exit;
    m->walked += x->tokens - x->given_up - (had->tokens - had->given_up);
    m->layers += x->layers - had->layers;
    m->left_out_bytes += (int64_t)(x->bytes_left_out - had->bytes_left_out) - (int64_t)(x->bytes_made_up - had->bytes_made_up);
}

static sl_status evaluate(bench_test *t, size_t from, size_t count_, double *seconds, sl_error *err)
{
    uint64_t begin = sl_now_ns();
    sl_status status = count_ == 0 ? SL_OK : sl_session_eval(t->run.session, t->tokens + from, count_, SL_EVAL_LOGITS, NULL, err);
    *seconds = (double)(sl_now_ns() - begin) * 1e-9;
    return status;
}

/* The first token has had its pass: what follows counts. */
static void on_prompt(void *ctx, size_t done, size_t total)
{
    bench_test *t = ctx;
    if (done < total)
        return;
    if (t->breakdown != NULL)
        memcpy(t->breakdown, t->kept, sizeof *t->breakdown);
    begin_counting(t);
}

static sl_status decode(bench_test *t, uint32_t tokens, double *seconds, sl_error *err)
{
    sl_request request = {.prompt = t->tokens + t->c->depth + t->c->prompt,
                          .prompt_count = 1,
                          .max_tokens = tokens + 1,
                          .ignore_eos = true,
                          .top_p = 1,
                          .repeat_penalty = 1,
                          .drafting = t->run.drafting,
                          .on_prompt = on_prompt,
                          .ctx = t};
    sl_result result;
    if (t->breakdown != NULL)
        memcpy(t->kept, t->breakdown, sizeof *t->kept);
    sl_status status = sl_generate(t->run.session, &request, &result, err);
    *seconds = result.decode_s;
    if (status == SL_OK && result.decode_tokens != tokens)
        status = sl_fail(err, SL_FULL, "%zu of %u tokens were decoded: the context is full", result.decode_tokens, tokens);
    t->sum.checks += result.drafts.checks;
    t->sum.accepted += result.drafts.accepted;
    sl_result_free(&result);
    return status;
}

static sl_status warm_up(bench_test *t, sl_error *err)
{
    double unused;
    SL_TRY(sl_session_truncate(t->run.session, 0, err));
    SL_TRY(evaluate(t, t->c->depth, t->c->prompt, &unused, err));
    return t->c->decode > 0 ? decode(t, 1, &unused, err) : SL_OK;
}

static sl_status repeat(bench_test *t, sl_error *err)
{
    const cli_bench_case *c = t->c;
    double prompt_s = 0, decode_s = 0, unused;
    SL_TRY(sl_session_truncate(t->run.session, 0, err));
    if (t->breakdown != NULL)
        memcpy(t->kept, t->breakdown, sizeof *t->kept);
    SL_TRY(evaluate(t, 0, c->depth, &unused, err));
    if (t->breakdown != NULL)
        memcpy(t->breakdown, t->kept, sizeof *t->breakdown);
    if (c->prompt > 0) {
        begin_counting(t);
        SL_TRY(evaluate(t, c->depth, c->prompt, &prompt_s, err));
        count(t, prompt_s);
    }
    if (c->decode > 0) {
        SL_TRY(decode(t, c->decode, &decode_s, err));
        count(t, decode_s);
    }
    json_array_append_new(json_object_get(t->row, "samples_ns"), json_integer((json_int_t)((prompt_s + decode_s) * 1e9)));
    return SL_OK;
}

static sl_status run_all(bench_test *t, sl_error *err)
{
    uint64_t begin = sl_now_ns();
    SL_TRY(open_test(t, err));
    if (!t->c->args.no_warmup)
        SL_TRY(warm_up(t, err));
    json_object_set_new(t->row, "load_s", json_real((double)(sl_now_ns() - begin) * 1e-9));
    t->sum = (measured){0};
    if (t->breakdown != NULL)
        memset(t->breakdown, 0, sizeof *t->breakdown);
    for (int64_t i = 0; i < t->c->args.repetitions; i++)
        SL_TRY(repeat(t, err));
    return SL_OK;
}

/* ---- what was measured ---- */

static void put(json_t *row, const char *key, uint64_t value)
{
    json_object_set_new(row, key, json_integer((json_int_t)value));
}

static void put_real(json_t *row, const char *key, double value)
{
    json_object_set_new(row, key, json_real(value));
}

static void put_device(json_t *row, const sl_engine_info *info)
{
    json_object_set_new(row, "gpu_info", json_string(info->device));
    json_object_set_new(row, "backends", json_string(info->backend));
    put(row, "vram_budget_bytes", info->vram_budget_bytes);
    put(row, "vram_bytes", info->vram_bytes);
    put(row, "vram_weight_bytes", info->vram_weight_bytes);
    put_real(row, "cpu_share", info->cpu_share);
}

static void put_engine(bench_test *t)
{
    sl_engine_info info;
    sl_engine_stats stats;
    json_t *row = t->row;
    sl_engine_describe(t->run.engine, &info);
    sl_engine_measure(t->run.engine, &stats);
    put(row, "n_batch", info.batch);
    put(row, "n_ubatch", info.batch);
    put(row, "n_threads", info.threads);
    put(row, "ram_budget_bytes", info.ram_budget_bytes);
    put(row, "ram_budget_min_bytes", info.ram_budget_min_bytes);
    put(row, "context", info.context);
    put(row, "resident_weight_bytes", stats.resident_weight_bytes);
    put(row, "streamed_bytes", info.streamed_bytes);
    put(row, "peak_rss_bytes", stats.peak_rss_bytes);
    put(row, "peak_cgroup_bytes", stats.peak_cgroup_bytes);
    json_object_set_new(row, "isa", json_string(info.isa));
    json_object_set_new(row, "io_engine", json_string(stats.io_engine));
    json_object_set_new(row, "io_direct", json_boolean(stats.direct));
    if (info.device[0] != '\0')
        put_device(row, &info);
    put_real(row, "density", info.density);
    if (strcmp(info.sparsity, "off") != 0)
        json_object_set_new(row, "predictor", json_string(info.predictor));
    if (strcmp(info.early_exit, "off") != 0)
        put_real(row, "exit_agreement", info.exit_agreement);
}

static void put_measured(bench_test *t)
{
    const measured *m = &t->sum;
    json_t *row = t->row;
    double runs = (double)t->c->args.repetitions, tokens = runs * ((double)t->c->prompt + t->c->decode);
    put_real(row, "total_s", m->total_s / runs);
    put_real(row, "compute_s", m->compute_s / runs);
    put_real(row, "wait_s", m->wait_s / runs);
    put_real(row, "other_s", (m->total_s - m->compute_s - m->wait_s) / runs);
    put_real(row, "bytes_read_per_token", (double)m->bytes / tokens);
    if (cli_bench_on_device(&t->c->args))
        put_real(row, "link_bytes_per_token", (double)m->link_bytes / tokens);
    put_real(row, "requests_per_token", (double)m->requests / tokens);
    if (m->requests > 0)
        put_real(row, "request_bytes_mean", (double)m->bytes / (double)m->requests);
    if (strcmp(json_string_value(json_object_get(row, "sparsity")), "off") != 0) {
        put_real(row, "neurons_needed", (double)m->needed / runs);
        put_real(row, "neurons_resident", (double)m->resident / runs);
        put_real(row, "neurons_read", (double)m->read / runs);
    }
    if (m->checks > 0)
        put_real(row, "advance_mean", (double)(m->checks + m->accepted) / (double)m->checks);
    if (m->walked > 0) {
        put_real(row, "layers_mean", (double)m->layers / (double)m->walked);
        put_real(row, "left_out_bytes_per_token", (double)m->left_out_bytes / tokens);
    }
    if (t->breakdown != NULL)
        json_object_set_new(row, "breakdown", cli_bench_breakdown(t->breakdown));
}

/* ---- the link ---- */

/* What the tier alone reads with requests of about that size, in the order that they had. */
static sl_status measure_link(const cli_args *a, uint32_t bytes, const char *engine, bool sequential, double *bandwidth_Bps, sl_error *err)
{
    sl_gguf *file = NULL;
    sl_tier *tier = NULL;
    uint64_t random = 1;
    SL_TRY(sl_gguf_open(a->model, &file, err));
    const char *path = sl_gguf_part_path(file, 0);
    sl_read_case wanted = {
        .bytes = bytes, .depth = LINK_DEPTH, .sequential = sequential, .file_bytes = sl_gguf_part_bytes(file, 0), .limit_ns = LINK_NS};
    if (a->io_depth > 0)
        wanted.depth = a->io_depth < SL_READ_DEPTH_MAX ? (uint32_t)a->io_depth : SL_READ_DEPTH_MAX;
    size_t area = (size_t)wanted.bytes * wanted.depth;
    char *memory = sl_pages_alloc(area);
    sl_read_figures *figures = calloc(1, sizeof *figures);
    sl_files_options options = {.engine = strcmp(engine, "uring") == 0 ? SL_IO_URING : SL_IO_PREAD,
                                .depth = wanted.depth,
                                .register_memory = memory,
                                .register_bytes = area};
    sl_status status = memory == NULL || figures == NULL ? sl_fail(err, SL_NO_MEMORY, "no memory to measure the disk with") : SL_OK;
    if (status == SL_OK)
        status = sl_tier_open_files(&path, 1, &options, &tier, err);
    if (status == SL_OK)
        status = sl_read_bench(tier, &wanted, memory, &random, figures, err);
    if (status == SL_OK)
        *bandwidth_Bps = figures->bandwidth_Bps;
    sl_tier_destroy(tier);
    sl_pages_free(memory, area);
    free(figures);
    sl_gguf_close(file);
    return status;
}

/* After the engine is closed: nothing reads beside it, and its memory is not the test's. */
static void put_limit(const cli_args *a, json_t *row)
{
    double mean = json_number_value(json_object_get(row, "request_bytes_mean")), link_Bps = 0;
    double token = json_number_value(json_object_get(row, "bytes_read_per_token"));
    bool sequential = strcmp(json_string_value(json_object_get(row, "sparsity")), "off") == 0;
    sl_error err;
    if (mean <= 0 || a->buffered)
        return;
    uint32_t bytes = mean < LINK_MAX ? ((uint32_t)mean + LINK_ALIGNED / 2) / LINK_ALIGNED * LINK_ALIGNED : LINK_MAX;
    bytes = bytes < LINK_ALIGNED ? LINK_ALIGNED : bytes;
    if (measure_link(a, bytes, json_string_value(json_object_get(row, "io_engine")), sequential, &link_Bps, &err) != SL_OK) {
        cli_note(json_object_get(row, "warnings"), err.message);
        return;
    }
    if (a->throttle_Bps > 0 && link_Bps > (double)a->throttle_Bps)
        link_Bps = (double)a->throttle_Bps;
    put_real(row, "disk_bytes_per_s", link_Bps);
    put_real(row, "tokens_per_s_limit", link_Bps / token);
}

static const char *status_text(sl_status status)
{
    return status == SL_OK ? "ok" : status == SL_NO_BUDGET ? "does not fit" : status == SL_INTERRUPTED ? "interrupted" : "failed";
}

void cli_bench_measure(const cli_bench_case *c, json_t *row)
{
    bench_test t = {.c = c, .row = row, .run = {.args = &c->args, .warnings = json_object_get(row, "warnings")}};
    sl_error err = {0};
    sl_status status = SL_OK;
    if (c->args.breakdown) {
        t.breakdown = calloc(1, sizeof *t.breakdown);
        t.kept = calloc(1, sizeof *t.kept);
        if (t.breakdown == NULL || t.kept == NULL)
            status = sl_fail(&err, SL_NO_MEMORY, "no memory for the breakdown");
    }
    if (status == SL_OK)
        status = run_all(&t, &err);
    cli_catch_interrupt(NULL);
    if (status == SL_OK) {
        put_engine(&t);
        put_measured(&t);
    } else {
        json_object_set_new(row, "status", json_string(status_text(status)));
        json_object_set_new(row, "reason", cli_json_text(err.message, strlen(err.message)));
        if (err.ram_budget_min_bytes != 0)
            put(row, "ram_budget_min_bytes", err.ram_budget_min_bytes);
        if (err.vram_budget_min_bytes != 0)
            put(row, "vram_budget_min_bytes", err.vram_budget_min_bytes);
    }
    sl_session_close(t.run.session);
    if (cli_write_observed(&c->args, t.run.engine, CLI_DONE) != CLI_DONE && status == SL_OK)
        json_object_set_new(row, "status", json_string("failed"));
    sl_engine_close(t.run.engine);
    free(t.breakdown);
    free(t.kept);
    free(t.tokens);
    if (status == SL_OK)
        put_limit(&c->args, row);
}

/* ---- in a child ---- */

static int answer(void *ctx, int fd)
{
    const cli_bench_case *c = ctx;
    json_t *row = cli_bench_row(c);
    cli_bench_measure(c, row);
    int failed = json_dumpfd(row, fd, JSON_COMPACT | JSON_REAL_PRECISION(12)) != 0;
    json_decref(row);
    return failed ? CLI_FAILED : CLI_DONE;
}

json_t *cli_bench_run_case(const cli_bench_case *c, const char *cgroup)
{
    cli_child child;
    sl_error err = {0};
    sl_status status = cli_in_child(answer, (void *)(uintptr_t)c, cgroup, &child, &err);
    json_t *row = child.answer;
    if (status != SL_OK || row == NULL) {
        char why[SL_ERROR_MESSAGE_MAX];
        row = cli_bench_row(c);
        snprintf(why, sizeof why, "%s", err.message);
        if (status == SL_OK && (child.status & 0x7f) != 0)
            snprintf(why, sizeof why, "the test was killed by signal %d%s", child.status & 0x7f,
                     (child.status & 0x7f) == 9 ? ": did it run out of memory?" : "");
        else if (status == SL_OK)
            snprintf(why, sizeof why, "the test ended without a result (%s)", cgroup != NULL ? "can it join its cgroup?" : "exit status");
        json_object_set_new(row, "status", json_string("failed"));
        json_object_set_new(row, "reason", json_string(why));
    }
    json_object_set_new(row, "others_share", cli_others_share(&child));
    cli_bench_finish_row(row);
    return row;
}
