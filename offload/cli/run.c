/* offload/cli/run.c: `sluice run`: a prompt in, text out as it comes, and a summary that explains the speed. */
#include "core/os.h"
#include "offload/cli/run_state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/* ---- options ---- */

void cli_note(json_t *warnings, const char *line)
{
    json_array_append_new(warnings, cli_json_text(line, strlen(line)));
    fprintf(stderr, "%s%s%s\n", cli_color() ? "\033[2m" : "", line, cli_color() ? "\033[0m" : "");
}

static void note(void *ctx, const char *line)
{
    cli_note(ctx, line);
}

static sl_status kv_type(const char *flag, const char *name, sl_kv_type *out, sl_error *err)
{
    int type;
    sl_status status = cli_one_of(flag, name, cli_kv_type_word, &type, err);
    *out = (sl_kv_type)type;
    return status;
}

/* "auto", "none", "all" or a number of layers. */
static sl_status kv_host_options(const cli_args *args, sl_engine_options *out, sl_error *err)
{
    const char *text = args->no_kv_offload ? "all" : args->kv_host;
    if (args->no_kv_offload && args->kv_host != NULL && strcmp(args->kv_host, text) != 0)
        return sl_fail(err, SL_INVALID, "-nkvo says --kv-host all, and --kv-host %s is given, too; one of them decides", args->kv_host);
    for (size_t i = 0; text != NULL && cli_kv_host_word(i) != NULL; i++)
        if (strcmp(text, cli_kv_host_word(i)) == 0) {
            out->kv_host = (sl_kv_host)i;
            return SL_OK;
        }
    char *end = NULL;
    unsigned long layers = text != NULL && text[0] >= '0' && text[0] <= '9' ? strtoul(text, &end, 10) : 0;
    if (text != NULL && (end == NULL || *end != '\0' || layers > UINT32_MAX))
        return sl_fail(err, SL_INVALID, "--kv-host %s: it is a number of layers, all, none or auto", text);
    out->kv_host = text != NULL ? SL_KV_HOST_LAYERS : SL_KV_HOST_AUTO;
    out->kv_host_layers = (uint32_t)layers;
    return SL_OK;
}

static sl_status sparsity_options(const cli_args *args, sl_engine_options *out, sl_error *err)
{
    int mode, predictor, drop;
    SL_TRY(cli_one_of("--sparsity", args->sparsity, cli_sparsity_word, &mode, err));
    SL_TRY(cli_one_of("--predictor", args->predictor, cli_predictor_word, &predictor, err));
    SL_TRY(cli_one_of("--late", args->late, cli_late_word, &drop, err));
    if (args->density == 0)
        return sl_fail(err, SL_INVALID, "--density %g: the kept share of the neurons lies above 0 and is at most 1", args->density);
    if (mode == SL_SPARSITY_OFF && ((args->density > 0) || args->predictor != NULL || args->uniform_density))
        return sl_fail(err, SL_INVALID, "%s has no meaning without --sparsity coarse or fine",
                       (args->density > 0)       ? "--density"
                       : args->predictor != NULL ? "--predictor"
                                                 : "--uniform-density");
    if (mode == SL_SPARSITY_OFF && args->late != NULL)
        return sl_fail(err, SL_INVALID, "--late has no meaning without --sparsity coarse or fine");
    if (mode == SL_SPARSITY_COARSE && args->predictor != NULL)
        return sl_fail(err, SL_INVALID, "--predictor belongs to --sparsity fine; coarse takes its neurons from the prompt");
    out->sparsity = (sl_sparsity)mode;
    out->predictor = (sl_predictor)predictor;
    out->density = args->density > 0 ? args->density : 0;
    out->uniform_density = args->uniform_density;
    out->late_drop = drop == 1;
    return SL_OK;
}

static sl_status sparq_options(const cli_args *args, sl_engine_options *out, sl_error *err)
{
    int reallocate, select;
    SL_TRY(cli_one_of("--sparq-select", args->sparq_select, cli_select_word, &select, err));
    SL_TRY(cli_one_of("--sparq-reallocate", args->sparq_reallocate, cli_reallocate_word, &reallocate, err));
    const char *flag = args->sparq_r > 0                ? "--sparq-r"
                       : args->sparq_local > 0          ? "--sparq-local"
                       : args->sparq_reallocate != NULL ? "--sparq-reallocate"
                       : args->sparq_select != NULL     ? "--sparq-select"
                                                        : NULL;
    if (args->sparq_k == 0 && flag != NULL)
        return sl_fail(err, SL_INVALID, "%s has no meaning without --sparq-k", flag);
    if (args->sparq_k > 0 && args->sparq_r == 0)
        return sl_fail(err, SL_INVALID, "--sparq-k wants --sparq-r: the components of the keys to choose positions by");
    out->sparq_k = (uint32_t)args->sparq_k;
    out->sparq_r = (uint32_t)args->sparq_r;
    out->sparq_local = (uint32_t)args->sparq_local;
    out->sparq_reallocate = (sl_sparq_reallocate)reallocate;
    out->sparq_select = (sl_sparq_select)select;
    return SL_OK;
}

sl_status cli_engine_options(const cli_args *args, json_t *warnings, sl_engine_options *out, sl_error *err)
{
    if (args->model == NULL)
        return sl_fail(err, SL_INVALID, "no model; -m FILE names one");
    *out = (sl_engine_options){.model_path = args->model,
                               .ram_budget_bytes = args->ram_budget_bytes,
                               .lower_budget = args->lower_budget,
                               .context = (uint32_t)args->context,
                               .batch = (uint32_t)args->batch,
                               .threads = (uint32_t)args->threads,
                               .isa = args->isa,
                               .io_engine = args->io_engine,
                               .io_depth = (uint32_t)args->io_depth,
                               .throttle_Bps = args->throttle_Bps,
                               .buffered = args->buffered,
                               .kv_spill = args->kv_spill,
                               .kv_memory_bytes = args->kv_memory_bytes,
                               .device = args->device,
                               .vram_budget_bytes = args->vram_budget_bytes,
                               .gpu_layers_given = args->gpu_layers >= 0,
                               .gpu_layers = args->gpu_layers >= 0 ? (uint32_t)args->gpu_layers : 0,
                               .cpu_share_given = args->cpu_share >= 0,
                               .cpu_share = args->cpu_share >= 0 ? args->cpu_share : 0,
                               .note = note,
                               .note_ctx = warnings};
    SL_TRY(cli_observe_options(args, out, err));
    SL_TRY(sparsity_options(args, out, err));
    SL_TRY(sparq_options(args, out, err));
    SL_TRY(cli_exit_options(args, out, err));
    SL_TRY(kv_host_options(args, out, err));
    SL_TRY(kv_type("-ctk", args->cache_type_k, &out->k_type, err));
    return kv_type("-ctv", args->cache_type_v, &out->v_type, err);
}

/* ---- prompt ---- */

static sl_status prompt_text(cli_run_state *s, char **out, size_t *length, sl_error *err)
{
    const cli_args *a = s->args;
    if (a->file != NULL)
        return cli_read_file(a->file, out, length, err);
    *out = strdup(a->prompt);
    *length = strlen(a->prompt);
    return *out != NULL ? SL_OK : sl_fail(err, SL_NO_MEMORY, "out of memory for the prompt");
}

static sl_status tokenize_prompt(cli_run_state *s, sl_error *err)
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
    cli_run_state *s = ctx;
    cli_progress_end();
    if (!s->args->json && (fwrite(text, 1, length, stdout) != length || fflush(stdout) != 0))
        s->write_error = errno != 0 ? errno : EIO;
    return s->write_error == 0;
}

void cli_say_write_error(int error, const char *behind)
{
    if (error == EPIPE)
        fprintf(stderr, "sluice: standard output was closed%s\n", behind);
    else
        fprintf(stderr, "sluice: standard output does not take the text: %s%s\n", strerror(error), behind);
}

static void on_token(void *ctx, size_t count)
{
    (void)ctx;
    cli_status_token(count);
}

static void on_prompt(void *ctx, size_t done, size_t total)
{
    const cli_run_state *s = ctx;
    (void)s;
    if (done < total)
        cli_progress("reading the prompt", done, total);
    else
        cli_progress_end();
}

/* ---- the command ---- */

/* Wrong usage that can be seen without a model is told before one is opened, and before notes about opening it. */
static sl_status check_usage(const cli_args *a, sl_error *err)
{
    if (a->prompt == NULL && a->file == NULL)
        return sl_fail(err, SL_INVALID,
                       "no prompt; -p TEXT gives one, -f FILE reads it (- is standard input), `sluice chat` asks for messages");
    if (a->prompt != NULL && a->file != NULL)
        return sl_fail(err, SL_INVALID, "-p and -f both give a prompt: one of them is enough");
    if (a->predict == 0)
        return sl_fail(err, SL_INVALID, "-n 0: it must be at least 1, or -1 for no limit");
    return cli_check_text(a->file, err);
}

/* --session: the prompt's beginning; its last token is always computed, for its logits are wanted. */
static sl_status open_kept(cli_run_state *s, sl_error *err)
{
    size_t length = 0;
    SL_TRY(cli_session_open(s, err));
    if (s->kept.file != NULL)
        (void)sl_session_file_note(s->kept.file, &length);
    if (length > 0)
        return sl_fail(err, SL_INVALID,
                       "--session %s: it holds a conversation of `sluice chat`, which would be lost; another file, or chat",
                       s->args->session);
    return cli_session_load(s, s->prompt, s->prompt_count - 1, err);
}

static sl_status open_all(cli_run_state *s, sl_error *err)
{
    sl_engine_options options;
    uint64_t start = sl_now_ns();
    SL_TRY(cli_engine_options(s->args, s->warnings, &options, err));
    SL_TRY(check_usage(s->args, err));
    SL_TRY(cli_drafting_options(s->args, &options, &s->drafting, err));
    SL_TRY(cli_logprobs_options(s, &options, err));
    options.session_file = s->args->session != NULL;
    SL_TRY(sl_engine_open(&options, &s->engine, err));
    cli_catch_interrupt(s->engine);
    SL_TRY(cli_settle_drafting(s, err));
    cli_settle_exit(s);
    SL_TRY(tokenize_prompt(s, err));
    SL_TRY(sl_session_open(s->engine, &s->session, err));
    SL_TRY(open_kept(s, err));
    s->load_s = (double)(sl_now_ns() - start) * 1e-9;
    if (s->args->verbose)
        cli_print_division(s->engine);
    return SL_OK;
}

sl_status cli_choose_seed(cli_run_state *s, sl_error *err)
{
    s->seed = s->args->seed;
    if (!s->args->seed_given && getrandom(&s->seed, 4, 0) != 4)
        return sl_fail(err, SL_IO, "no random seed to be had from the system: %s; -s gives one", strerror(errno));
    if (!s->args->seed_given)
        s->seed &= UINT32_MAX;
    return SL_OK;
}

sl_request cli_request(cli_run_state *s)
{
    const cli_args *a = s->args;
    return (sl_request){.max_tokens = a->predict < 0 ? 0 : (uint32_t)a->predict,
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
                        .drafting = s->drafting,
                        .all_layers = s->all_layers,
                        .logprobs = (uint32_t)a->logprobs,
                        .on_text = on_text,
                        .on_prompt = on_prompt,
                        .on_token = on_token,
                        .ctx = s};
}

static sl_status generate(cli_run_state *s, sl_error *err)
{
    SL_TRY(cli_choose_seed(s, err));
    sl_request request = cli_request(s);
    request.prompt = s->prompt + s->kept.reused;
    request.prompt_count = s->prompt_count - s->kept.reused;
    if (s->args->verbose && !s->args->json)
        cli_status_begin(s->engine);
    sl_status status = sl_generate(s->session, &request, &s->result, err);
    cli_status_end();
    if (status == SL_OK || (status == SL_INTERRUPTED && s->result.count > 0)) /* before the prompt is through the file has more */
        (void)!cli_session_save(s, NULL, 0, NULL);                            /* reported with the rest */
    return status;
}

/* What was generated is given also when something ended it early. */
static int report(cli_run_state *s, sl_status status, const sl_error *err)
{
    if (s->write_error != 0) {
        char behind[48];
        snprintf(behind, sizeof behind, "; stopped after %zu token%s", s->result.count, s->result.count == 1 ? "" : "s");
        cli_say_write_error(s->write_error, behind);
        return CLI_FAILED;
    }
    if (status != SL_OK && status != SL_INTERRUPTED)
        return cli_fail(s->args, err);
    if (!s->args->json && s->result.text != NULL) {
        cli_print_logprobs(s);
        cli_print_summary(s);
    }
    int printed = s->args->json && s->result.text != NULL ? cli_print_run_json(s) : CLI_DONE;
    if (s->kept.failure[0] != '\0') {
        fprintf(stderr, "sluice: %s\n", s->kept.failure);
        printed = CLI_FAILED;
    }
    return status == SL_INTERRUPTED ? CLI_INTERRUPTED : printed;
}

int cli_run(const cli_args *args)
{
    cli_run_state s = {.args = args, .warnings = json_array()};
    sl_error err = {0};
    sl_status status = open_all(&s, &err);
    int result;
    if (status != SL_OK) {
        result = cli_fail(args, &err);
    } else {
        status = generate(&s, &err);
        cli_catch_interrupt(NULL);
        cli_judge_exit_drafts(&s);
        result = cli_write_observed(args, s.engine, report(&s, status, &err));
    }
    cli_catch_interrupt(NULL);
    sl_result_free(&s.result);
    sl_session_file_close(s.kept.file);
    sl_session_close(s.session);
    sl_engine_close(s.engine);
    free(s.prompt);
    json_decref(s.warnings);
    return result;
}
