/* offload/cli/eval.c: `sluice eval`: each mode opens the model under the budget, answers all items, and closes it again; so that what a mode may
 * hold, and what it reads, is what `run` would with the same flags. */
#include "offload/cli/eval.h"
#include "core/os.h"
#include "offload/cli/run_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EARLY_DRAFT     "7" /* the most that drafts by early exit may have */
#define CORRECTED_DRAFT "8" /* tokens between checks, and who judges, where no flag says: the paper's lossy mode */

const char *const cli_eval_modes[CLI_EVAL_MODES] = {"dense", "sparse", "corrected"};

/* ---- flags ---- */

static bool leaves_early(const cli_args *a)
{
    return a->early_exit != NULL && strcmp(a->early_exit, "off") != 0;
}

static bool approximates(const cli_args *a)
{
    return (a->sparsity != NULL && strcmp(a->sparsity, "off") != 0) || a->sparq_k > 0 || leaves_early(a);
}

static sl_status choose_modes(cli_eval *e, sl_error *err)
{
    const cli_args *a = e->args;
    bool sparse = approximates(a);
    if (a->modes == NULL)
        for (int m = 0; m < CLI_EVAL_MODES; m++)
            e->modes[m].asked = m == CLI_EVAL_DENSE || sparse;
    for (const char *at = a->modes; at != NULL && *at != '\0'; at += strcspn(at, ","), at += *at == ',') {
        char word[24];
        int mode;
        snprintf(word, sizeof word, "%.*s", (int)strcspn(at, ",") < 23 ? (int)strcspn(at, ",") : 23, at);
        SL_TRY(cli_one_of("--modes", word, cli_mode_word, &mode, err));
        e->modes[mode].asked = true;
    }
    if (a->modes != NULL && a->modes[0] == '\0')
        return sl_fail(err, SL_INVALID, "--modes: name one or more of dense, sparse and corrected, with commas between them");
    if (!sparse && (e->modes[CLI_EVAL_SPARSE].asked || e->modes[CLI_EVAL_CORRECTED].asked))
        return sl_fail(err, SL_INVALID, "--modes %s: say what is sparse: --sparsity coarse or fine, --sparq-k, or --early-exit", a->modes);
    if (sparse && !e->modes[CLI_EVAL_SPARSE].asked && !e->modes[CLI_EVAL_CORRECTED].asked)
        return sl_fail(err, SL_INVALID, "--modes dense has no use for --sparsity, --sparq-k or --early-exit");
    return SL_OK;
}

/* The flags as `run` would have them in this mode. */
static cli_args args_of(const cli_args *a, int mode)
{
    cli_args m = *a;
    if (mode == CLI_EVAL_CORRECTED) {
        m.draft = a->draft != NULL ? a->draft : a->tree != NULL ? NULL : leaves_early(a) ? EARLY_DRAFT : CORRECTED_DRAFT;
        m.drafter = a->drafter != NULL ? a->drafter : "model";
        m.accept = a->accept != NULL ? a->accept : "threshold";
        return m;
    }
    m.draft = "0";
    m.drafter = m.accept = m.tree = NULL;
    m.tau = m.tau_temperature = m.least_chance = -1;
    m.tree_rows = 0;
    if (mode == CLI_EVAL_DENSE) {
        m.sparsity = m.predictor = m.late = m.sparq_reallocate = NULL;
        m.density = -1;
        m.uniform_density = false;
        m.sparq_k = m.sparq_r = m.sparq_local = 0;
        m.early_exit = NULL;
        m.exit_agreement = 0;
    }
    return m;
}

static sl_status check_usage(cli_eval *e, sl_error *err)
{
    const cli_args *a = e->args;
    sl_engine_options options;
    sl_drafting drafting;
    SL_TRY(choose_modes(e, err));
    if (a->output != NULL && !a->force && access(a->output, F_OK) == 0)
        return sl_fail(err, SL_INVALID, "%s exists; --force replaces it", a->output);
    if (e->modes[CLI_EVAL_CORRECTED].asked && a->draft != NULL && strcmp(a->draft, "0") == 0)
        return sl_fail(err, SL_INVALID, "--draft 0 checks nothing: corrected answers want drafts, or --modes dense,sparse");
    for (int m = 0; m < CLI_EVAL_MODES; m++) { /* what is wrong with a later mode is said before an earlier one takes an hour */
        cli_args args = args_of(a, m);
        if (!e->modes[m].asked)
            continue;
        SL_TRY(cli_engine_options(&args, e->warnings, &options, err));
        SL_TRY(cli_drafting_options(&args, &options, &drafting, err));
    }
    return SL_OK;
}

/* ---- lengths ---- */

static void left_out(cli_eval *e, size_t index, const char *why)
{
    char said[SL_ERROR_MESSAGE_MAX + 64];
    cli_tasks *t = &e->tasks;
    snprintf(said, sizeof said, "%s:%zu: left out: %s", t->items[index].file, t->items[index].line, why);
    cli_note(e->warnings, said);
    sl_task_free(&t->items[index]);
    memmove(&t->items[index], &t->items[index + 1], (t->count - index - 1) * sizeof *t->items);
    t->count--;
    t->skipped++;
}

/* The context that the longest item needs; with -c, items that need more are broken lines. */
static sl_status measure_items(cli_eval *e, sl_engine *vocabulary, sl_error *err)
{
    sl_engine_info info;
    sl_engine_describe(vocabulary, &info);
    uint64_t given = (uint64_t)e->args->context, most = given != 0 && given != SL_CONTEXT_MODEL ? given : info.context_model;
    for (size_t i = 0; i < e->tasks.count;) {
        uint32_t needed;
        sl_error why = {0};
        const sl_task_item *item = &e->tasks.items[i];
        sl_status status = sl_task_context(vocabulary, item, &needed, &why);
        if (status == SL_OK && most != 0 && needed > most)
            status = sl_fail(&why, SL_INVALID, "the item needs %u positions, and the context has %llu (-c sets it)", needed,
                             (unsigned long long)most);
        if (status != SL_OK && !(e->args->skip_broken && status == SL_INVALID))
            return sl_fail(err, status, "%s:%zu: %s (--skip-broken goes on without the line)", item->file, item->line, why.message);
        if (status != SL_OK) {
            left_out(e, i, why.message);
            continue;
        }
        e->context = needed > e->context ? needed : e->context;
        i++;
    }
    if (e->tasks.count == 0)
        return sl_fail(err, SL_INVALID, "no item is left");
    return SL_OK;
}

static sl_status find_context(cli_eval *e, sl_error *err)
{
    sl_engine *engine;
    sl_engine_options options = {.model_path = e->args->model, .vocabulary_only = true};
    SL_TRY(sl_engine_open(&options, &engine, err));
    sl_status status = measure_items(e, engine, err);
    sl_engine_close(engine);
    return status;
}

/* ---- one mode ---- */

typedef struct clock_of {
    uint64_t start_ns;
    size_t done, total;
} clock_of;

/* A note that a mode before gave, too, is told once. */
static void note_once(void *ctx, const char *line)
{
    const json_t *known;
    size_t i;
    json_array_foreach((json_t *)ctx, i, known)
    {
        if (strcmp(json_string_value(known), line) == 0)
            return;
    }
    cli_note(ctx, line);
}

static void tell(clock_of *clock, const char *mode)
{
    char what[64];
    double elapsed = (double)(sl_now_ns() - clock->start_ns) * 1e-9;
    double left = clock->done > 0 ? elapsed / (double)clock->done * (double)(clock->total - clock->done) : 0;
    if (clock->done == 0)
        snprintf(what, sizeof what, "%s", mode);
    else if (left < 120)
        snprintf(what, sizeof what, "%s, %.0f s left,", mode, left);
    else
        snprintf(what, sizeof what, "%s, %.0f min left,", mode, left / 60);
    cli_progress(what, clock->done, clock->total);
}

/* Given tokens are scored by dense passes wherever there are checks: there is nothing of its own to measure. */
static bool has_own_answer(int mode, const sl_task_item *item)
{
    return mode != CLI_EVAL_CORRECTED || item->form == SL_TASK_GENERATION;
}

static sl_status answer_all(cli_eval *e, int mode, sl_task_runner *runner, clock_of *clock, sl_error *err)
{
    cli_eval_mode *m = &e->modes[mode];
    for (size_t i = 0; i < e->tasks.count; i++) {
        const sl_task_item *item = &e->tasks.items[i];
        sl_error why = {0};
        clock->done++;
        if (!has_own_answer(mode, item))
            continue;
        tell(clock, cli_eval_modes[mode]);
        sl_status status = sl_task_run(runner, item, &m->outcomes[i], &why);
        if (status == SL_INTERRUPTED || cli_interrupted())
            return sl_fail(err, SL_INTERRUPTED, "interrupted at item %zu of %zu, %s", i + 1, e->tasks.count, cli_eval_modes[mode]);
        if (status != SL_OK)
            return sl_fail(err, status, "%s:%zu: %s", item->file, item->line, why.message);
        m->done[i] = true;
    }
    return SL_OK;
}

static void describe(cli_eval *e, int mode, const sl_engine_info *info, const sl_drafting *d)
{
    char drafts[96] = "", sets[64] = "", positions[48] = "";
    if (d->tokens > 0)
        snprintf(drafts, sizeof drafts, ", %d drafted", d->tokens);
    else if (d->tokens < 0)
        snprintf(drafts, sizeof drafts, ", drafts auto");
    if (d->tokens != 0 && d->accept == SL_ACCEPT_THRESHOLD)
        snprintf(drafts + strlen(drafts), sizeof drafts - strlen(drafts), ", threshold %.3g", (double)d->tau);
    else if (d->tokens != 0)
        snprintf(drafts + strlen(drafts), sizeof drafts - strlen(drafts), ", %s", d->accept == SL_ACCEPT_EXACT ? "exact" : "sample");
    if (strcmp(info->sparsity, "off") != 0)
        snprintf(sets, sizeof sets, "%s %.3g", info->sparsity, info->density);
    if (info->sparq_k > 0)
        snprintf(positions, sizeof positions, "%sSparQ %u of %u components", sets[0] != '\0' ? ", " : "", info->sparq_k, info->sparq_r);
    if (strcmp(info->early_exit, "off") != 0)
        snprintf(sets, sizeof sets, "early exit %s %.4g", info->early_exit, info->exit_agreement);
    snprintf(e->how[mode], sizeof e->how[mode], "%s%s%s", sets, positions, drafts);
}

static sl_status run_mode(cli_eval *e, int mode, clock_of *clock, sl_error *err)
{
    cli_args args = args_of(e->args, mode);
    cli_eval_mode *m = &e->modes[mode];
    cli_run_state s = {.args = &args, .warnings = e->warnings};
    sl_engine_options options;
    sl_engine_stats stats;
    sl_task_runner runner = {0};
    SL_TRY(cli_engine_options(&args, e->warnings, &options, err));
    SL_TRY(cli_drafting_options(&args, &options, &s.drafting, err));
    options.note = note_once;
    options.context = e->args->context != 0 ? (uint32_t)e->args->context : (e->context + 63) / 64 * 64;
    options.reserve_bytes = e->tasks.bytes + e->tasks.count * CLI_EVAL_MODES * sizeof(sl_task_outcome);
    options.draft_max = options.draft_max > SL_TASK_ROWS ? options.draft_max : SL_TASK_ROWS;
    SL_TRY(sl_engine_open(&options, &s.engine, err));
    cli_catch_interrupt(s.engine);
    unsigned sparse = (options.sparsity != SL_SPARSITY_OFF ? SL_EVAL_SPARSE : 0u) | (options.sparq_k > 0 ? SL_EVAL_SPARQ : 0u) |
                      (options.early_exit != SL_EARLY_EXIT_OFF ? SL_EVAL_EARLY : 0u);
    sl_status status = cli_settle_drafting(&s, err);
    if (status == SL_OK)
        status = sl_task_open(s.engine, sparse, &s.drafting, &runner, err);
    if (status == SL_OK) {
        describe(e, mode, &runner.info, &s.drafting);
        e->isa = runner.info.isa;
        status = answer_all(e, mode, &runner, clock, err);
    }
    if (status == SL_OK) {
        sl_engine_measure(s.engine, &stats);
        m->totals = runner.totals;
        m->bytes_resident = stats.resident_weight_bytes;
        m->peak_rss_bytes = stats.peak_rss_bytes;
        m->ram_budget_bytes = runner.info.ram_budget_bytes;
        m->early = stats.early_exit;
        m->early_exit = options.early_exit != SL_EARLY_EXIT_OFF ? cli_json_early_exit(s.engine) : NULL;
        m->sparsity = options.sparsity != SL_SPARSITY_OFF ? cli_json_sparsity(s.engine) : NULL;
        m->sparq = options.sparq_k > 0 ? cli_json_sparq(s.engine) : NULL;
    }
    cli_progress_end();
    cli_catch_interrupt(NULL);
    sl_task_close(&runner);
    sl_engine_close(s.engine);
    return status;
}

/* ---- the command ---- */

static sl_status run_modes(cli_eval *e, sl_error *err)
{
    clock_of clock = {.start_ns = sl_now_ns()};
    for (int m = 0; m < CLI_EVAL_MODES; m++)
        clock.total += e->modes[m].asked ? e->tasks.count : 0;
    for (int m = 0; m < CLI_EVAL_MODES; m++) {
        if (!e->modes[m].asked)
            continue;
        e->modes[m].outcomes = calloc(e->tasks.count, sizeof *e->modes[m].outcomes);
        e->modes[m].done = calloc(e->tasks.count, sizeof *e->modes[m].done);
        if (e->modes[m].outcomes == NULL || e->modes[m].done == NULL)
            return sl_fail(err, SL_NO_MEMORY, "out of memory for the answers to %zu items", e->tasks.count);
        SL_TRY(run_mode(e, m, &clock, err));
    }
    e->seconds = (double)(sl_now_ns() - clock.start_ns) * 1e-9;
    return SL_OK;
}

static sl_status evaluate(cli_eval *e, sl_error *err)
{
    if (e->args->model == NULL)
        return sl_fail(err, SL_INVALID, "no model; -m FILE names one");
    SL_TRY(check_usage(e, err));
    SL_TRY(cli_tasks_read(e->args, e->warnings, &e->tasks, err));
    SL_TRY(find_context(e, err));
    SL_TRY(run_modes(e, err));
    if (e->args->output == NULL)
        return SL_OK;
    size_t length;
    char *lines = cli_eval_lines(e, &length);
    if (lines == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for the answers to %zu items", e->tasks.count);
    sl_status status = cli_write_file(e->args->output, lines, length, err);
    free(lines);
    return status;
}

int cli_eval_main(const cli_args *args)
{
    cli_eval e = {.args = args, .warnings = json_array()};
    sl_error err = {0};
    cli_catch_interrupt(NULL);
    sl_status status = evaluate(&e, &err);
    int result = status == SL_OK ? cli_eval_report(&e) : cli_fail(args, &err);
    for (int m = 0; m < CLI_EVAL_MODES; m++) {
        for (size_t i = 0; e.modes[m].outcomes != NULL && i < e.tasks.count; i++)
            free(e.modes[m].outcomes[i].text);
        free(e.modes[m].outcomes);
        free(e.modes[m].done);
        json_decref(e.modes[m].sparsity);
        json_decref(e.modes[m].early_exit);
        json_decref(e.modes[m].sparq);
    }
    cli_tasks_free(&e.tasks);
    json_decref(e.warnings);
    return result;
}
