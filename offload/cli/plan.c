/* offload/cli/plan.c: `sluice plan`: whether a model fits, what lies where and how fast it will be. The engine prices, as for a run; offload/plan.h
 * predicts; plan_report.c prints. */
#include "core/os.h"
#include "offload/cli/machine_file.h"
#include "offload/cli/machine_here.h"
#include "offload/cli/plan_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ANY_BUDGET ((uint64_t)1 << 50) /* to open with; what is asked for is priced afterwards */
#define GIB        ((uint64_t)1 << 30)

/* Of what the changes speak. */
#define EXAMPLE_DENSITY 0.5
#define LOWER_DENSITY   0.6 /* times the one that was asked for */

static void note(void *ctx, const char *line)
{
    cli_note(ctx, line);
}

/* ---- budgets ---- */

/* What a run would take. */
static uint64_t budget_of_run(const cli_plan_state *s)
{
    sl_memory_info memory;
    sl_memory_info_get(&memory);
    return s->here ? sl_default_budget(&memory) : s->machine.memory_bytes / 5 * 4;
}

static sl_status add_budget(cli_plan_state *s, const char *word, sl_error *err)
{
    uint64_t bytes;
    if (strcmp(word, "min") == 0)
        bytes = s->budget_min_bytes;
    else if (strcmp(word, "auto") == 0)
        bytes = budget_of_run(s);
    else if (!sl_parse_size(word, &bytes) || bytes == 0)
        return sl_fail(err, SL_INVALID, "--ram-budget %.40s: a plan takes sizes such as 512M or 1G,2G,4G, auto and min", word);
    if (s->rows == CLI_PLAN_BUDGETS_MAX)
        return sl_fail(err, SL_INVALID, "--ram-budget: a plan takes up to %d budgets", CLI_PLAN_BUDGETS_MAX);
    s->row[s->rows++].budget_bytes = bytes;
    return SL_OK;
}

static sl_status list_budgets(cli_plan_state *s, sl_error *err)
{
    char word[64];
    if (s->args->ram_budgets == NULL) {
        s->row[s->rows++].budget_bytes = budget_of_run(s);
        return SL_OK;
    }
    for (const char *at = s->args->ram_budgets;; at++) {
        size_t length = strcspn(at, ",");
        snprintf(word, sizeof word, "%.*s", (int)(length < sizeof word ? length : sizeof word - 1), at);
        SL_TRY(add_budget(s, word, err));
        at += length;
        if (*at == '\0')
            return SL_OK;
    }
}

static void warn_of_budget(const cli_plan_state *s, uint64_t budget_bytes)
{
    sl_memory_info memory;
    char asked[24], limit[24], line[200];
    sl_memory_info_get(&memory);
    uint64_t within = s->here ? sl_memory_within(&memory) : s->machine.memory_bytes;
    if (budget_bytes <= within)
        return;
    sl_format_size(budget_bytes, asked);
    sl_format_size(within, limit);
    snprintf(line, sizeof line, "warning: the RAM budget of %s is above %s of %s", asked,
             !s->here                              ? "the machine's memory"
             : within == memory.cgroup_limit_bytes ? "the cgroup's limit"
                                                   : "the available memory",
             limit);
    cli_note(s->warnings, line);
}

/* ---- one prediction ---- */

static bool model_drafts(const cli_plan_state *s)
{
    return s->drafting.drafter > SL_DRAFTER_LOOKUP || s->drafting.tree != 0 ||
           (s->drafting.drafter == SL_DRAFTER_AUTO && s->options.sparsity != SL_SPARSITY_OFF);
}

/* Whether run lets tokens leave early with this placement: see cli_settle_exit. */
static bool leaves(const cli_plan_state *s, const sli_division *at)
{
    char why[CLI_EXIT_LINE];
    sl_engine_info info = s->info;
    info.exit_streamed_bytes = at->exits.streamed_bytes;
    return at->exits.layers_mean > 0 && !cli_exit_is_left_off(&info, why);
}

/* What run makes of its flags for this placement: see cli_settle_drafting. */
static sli_plan_work work_of(const cli_plan_state *s, const sli_division *at)
{
    const cli_args *a = s->args;
    sli_plan_work w = {
        .advance = a->advance, .link_Bps = (double)a->throttle_Bps, .depth = (uint32_t)a->io_depth, .engine = s->options.io_engine};
    if (w.engine != NULL && strcmp(w.engine, "auto") == 0)
        w.engine = NULL;
    uint64_t streamed = 0;
    for (int i = SLI_PART_ATTENTION; i < SLI_PART_COUNT; i++)
        streamed += at->part[i].bytes - at->part[i].resident_bytes;
    bool unasked = a->draft == NULL && a->tree == NULL;
    w.leave = leaves(s, at);
    if (s->drafting.tokens == 0 || at->draft_max == 0 || (unasked && streamed == 0))
        return w;
    w.drafter = model_drafts(s) ? SLI_PLAN_MODEL : SLI_PLAN_LOOKUP;
    uint32_t wanted = s->drafting.tokens > 0 ? (uint32_t)s->drafting.tokens : SL_DRAFT_AUTO_MAX;
    w.drafted = wanted < at->draft_max ? wanted : at->draft_max;
    return w;
}

static sl_status predict(const cli_plan_state *s, const sli_machine *machine, cli_plan_row *row, sl_error *err)
{
    bool fetches = row->at.bundles.layers > 0;
    sli_plan_work work = work_of(s, &row->at);
    if (fetches)
        SL_TRY(sli_bundle_try(&row->at.bundles, row->at.ff > 4096 ? 16 : 24, &row->trial, err));
    const sli_bundle_trial *trial = fetches ? &row->trial : NULL;
    sli_plan_predict(&row->at, trial, machine, &work, &row->plan);
    row->drafter = work.drafter;
    row->drafted = work.drafted;
    row->left_off = row->at.exits.layers_mean > 0 && !work.leave;
    /* Lengths that follow measured times do not stay with one that is slower than a shorter one, or none. */
    for (uint32_t n = 0; s->drafting.tokens == SL_DRAFT_AUTO && work.drafter != SLI_PLAN_NO_DRAFTS && n < row->drafted; n++) {
        sli_plan_work shorter = work;
        sli_plan plan;
        shorter.drafted = n;
        sli_division dense = row->at;
        dense.sparsity = SL_SPARSITY_OFF; /* undrafted checks are dense */
        sli_plan_predict(n == 0 ? &dense : &row->at, n == 0 ? NULL : trial, machine, &shorter, &plan);
        if (plan.decode_tokens_per_s > row->plan.decode_tokens_per_s) {
            row->plan = plan;
            row->drafted = n;
            row->drafter = n == 0 ? SLI_PLAN_NO_DRAFTS : work.drafter;
        }
    }
    return SL_OK;
}

/* The engine, priced with this budget and density (0: as it is); false where it does not fit. */
static sl_status place(sl_engine *engine, uint64_t budget_bytes, double density, sli_division *out, bool *fits, sl_error *err)
{
    sl_error refused = {0};
    sl_status status = sli_engine_reprice(engine, budget_bytes, density, &refused);
    *fits = status == SL_OK;
    if (status == SL_OK)
        sli_division_of(engine, out);
    else if (err != NULL)
        *err = refused;
    return status == SL_NO_BUDGET ? SL_OK : status;
}

/* The speed with this budget and density on this machine; 0 where it does not fit. */
static sl_status speed_with(const cli_plan_state *s, sl_engine *engine, const sli_machine *machine, uint64_t budget, double density,
                            double *out, sl_error *err)
{
    cli_plan_row other = {0};
    *out = 0;
    SL_TRY(place(engine, budget, density, &other.at, &other.fits, err));
    if (!other.fits)
        return SL_OK;
    SL_TRY(predict(s, machine, &other, err));
    *out = other.plan.decode_tokens_per_s;
    return SL_OK;
}

/* ---- what would be faster ---- */

/* A calibrated file that was not asked to leave anything out: what that would bring. */
static sl_status try_sparse(const cli_plan_state *s, cli_plan_row *row, sl_error *err)
{
    cli_plan_state other = *s;
    sl_error refused = {0};
    other.options.sparsity = SL_SPARSITY_FINE;
    other.options.density = EXAMPLE_DENSITY;
    other.options.draft_resident = false;
    other.options.draft_max = 0;
    other.options.ram_budget_bytes = ANY_BUDGET;
    other.options.note = NULL;
    other.drafting = (sl_drafting){0};
    other.engine = NULL;
    if (sl_engine_open(&other.options, &other.engine, &refused) != SL_OK)
        return SL_OK; /* it holds no predictor */
    sl_status status = speed_with(&other, other.engine, &s->machine, row->budget_bytes, 0, &row->changes.sparse, err);
    sl_engine_close(other.engine);
    return status;
}

static sl_status find_changes(cli_plan_state *s, cli_plan_row *row, sl_error *err)
{
    cli_plan_changes *c = &row->changes;
    sli_machine faster = s->machine;
    double density = s->options.sparsity != SL_SPARSITY_OFF ? s->info.density : 0;
    SL_TRY(speed_with(s, s->engine, &s->machine, row->budget_bytes + GIB, density, &c->more_memory, err));
    for (size_t i = 0; i < faster.reads; i++)
        faster.read[i].Bps *= 2;
    if (s->args->throttle_Bps == 0)
        SL_TRY(speed_with(s, s->engine, &faster, row->budget_bytes, density, &c->faster_disk, err));
    if (density > 0) {
        c->density = LOWER_DENSITY * density;
        SL_TRY(speed_with(s, s->engine, &s->machine, row->budget_bytes, c->density, &c->other_density, err));
        bool fits;
        sli_division as_asked;
        SL_TRY(place(s->engine, row->budget_bytes, density, &as_asked, &fits, err));
    } else if (s->info.packed) {
        SL_TRY(try_sparse(s, row, err));
    }
    return SL_OK;
}

/* ---- the command ---- */

static sl_status open_engine(cli_plan_state *s, sl_error *err)
{
    SL_TRY(cli_engine_options(s->args, s->warnings, &s->options, err));
    SL_TRY(cli_drafting_options(s->args, &s->options, &s->drafting, err));
    if (s->args->advance > 0 && s->drafting.tokens == 0)
        return sl_fail(err, SL_INVALID, "--advance has no meaning without drafts: --draft N");
    if (s->options.early_exit != SL_EARLY_EXIT_OFF && s->drafting.tokens != 0)
        return sl_fail(err, SL_INVALID,
                       "--draft %s: what early exit drafts is not predicted, only tokens that leave as the text (--draft 0)",
                       s->args->draft);
    s->options.plan_only = true;
    s->options.note = NULL; /* what it says of ANY_BUDGET says nothing */
    s->options.ram_budget_bytes = ANY_BUDGET;
    s->options.vram_budget_bytes = 0; /* what the processor does is planned; what a GPU would do follows from that */
    if (s->args->machine != NULL) {   /* another machine: its threads, its kernels */
        SL_TRY(cli_machine_named(s->args->machine, &s->machine, err));
        if (s->options.threads == 0)
            s->options.threads = s->machine.cores;
        if (s->options.isa != NULL)
            return sl_fail(err, SL_INVALID, "--isa %s: the machine's is %s, as --machine says", s->options.isa,
                           sl_isa_name(s->machine.isa));
    }
    SL_TRY(sl_engine_open(&s->options, &s->engine, err));
    s->options.note = note;
    sl_engine_describe(s->engine, &s->info);
    s->budget_min_bytes = s->info.ram_budget_min_bytes;
    return SL_OK;
}

static sl_status find_machine(cli_plan_state *s, sl_error *err)
{
    if (!s->here) {
        snprintf(s->said, sizeof s->said, "%s", s->machine.source);
        return SL_OK;
    }
    sli_division at;
    sli_division_of(s->engine, &at);
    cli_machine_wish wish = {.path = s->args->model, .touched_bytes = sli_plan_touched_bytes(&at), .no_reads = s->args->throttle_Bps > 0};
    for (int i = SLI_PART_ATTENTION; i < SLI_PART_COUNT; i++)
        wish.types[wish.type_count++] = at.part[i].type;
    return cli_machine_here(&wish, &s->machine, s->said, sizeof s->said, err);
}

/* Homes grow in whole huge pages: a process that is a little smaller than this one may have one more, and then its peak is larger. */
static sl_status larger_peak(cli_plan_state *s, cli_plan_row *row, sl_error *err)
{
    sli_division smaller;
    bool fits;
    s->engine->process_bytes -= SLI_PROCESS_DRIFT_BYTES;
    sl_status status = place(s->engine, row->budget_bytes, 0, &smaller, &fits, err);
    s->engine->process_bytes += SLI_PROCESS_DRIFT_BYTES;
    if (status == SL_OK && fits && smaller.peak_bytes > row->at.peak_bytes)
        row->at.peak_bytes = smaller.peak_bytes;
    return status;
}

static bool has_gpu(const cli_plan_state *s)
{
    return s->machine.gpu.name[0] != '\0';
}

static sl_status check_vram(const cli_plan_state *s, sl_error *err)
{
    char asked[24], there[24];
    sl_format_size(s->args->vram_budget_bytes, asked);
    sl_format_size(s->machine.gpu.memory_bytes, there);
    if (s->args->vram_budget_bytes > 0 && !has_gpu(s))
        return sl_fail(err, SL_INVALID, "--vram-budget %s: the machine has no GPU; --machine list shows some that have", asked);
    if (s->args->vram_budget_bytes > s->machine.gpu.memory_bytes)
        return sl_fail(err, SL_INVALID, "--vram-budget %s: the %s has %s", asked, s->machine.gpu.name, there);
    return SL_OK;
}

static sl_status make_rows(cli_plan_state *s, sl_error *err)
{
    sl_error refused = {0};
    bool any = false;
    for (size_t i = 0; i < s->rows; i++) {
        cli_plan_row *row = &s->row[i];
        sl_error why = {0};
        SL_TRY(place(s->engine, row->budget_bytes, 0, &row->at, &row->fits, &why));
        if (!row->fits) {
            refused = why;
            continue;
        }
        any = true;
        SL_TRY(larger_peak(s, row, err));
        warn_of_budget(s, row->budget_bytes);
        SL_TRY(predict(s, &s->machine, row, err));
        sli_plan_work work = work_of(s, &row->at);
        if (has_gpu(s))
            SL_TRY(sli_plan_on_device(&row->at, &s->machine, &work, s->args->vram_budget_bytes, &row->device, err));
    }
    if (!any) {
        *err = refused;
        return refused.status;
    }
    if (s->rows == 1)
        SL_TRY(find_changes(s, &s->row[0], err));
    return SL_OK;
}

static sl_status make_plan(cli_plan_state *s, sl_error *err)
{
    s->here = s->args->machine == NULL;
    SL_TRY(open_engine(s, err));
    SL_TRY(list_budgets(s, err));
    SL_TRY(find_machine(s, err));
    SL_TRY(check_vram(s, err));
    if (s->drafting.tree != 0)
        cli_note(s->warnings, "drafts that branch are predicted as chains of their depth");
    return make_rows(s, err);
}

/* All presets, or a line for each. */
static int list_machines(const cli_args *args)
{
    json_t *all = json_array();
    sli_machine m;
    for (size_t i = 0; sli_machine_preset(i, &m); i++) {
        char memory[24], bandwidth[24], disk[24];
        sl_format_size(m.memory_bytes, memory);
        sl_format_size((uint64_t)sli_machine_memory_rate(&m, m.cores), bandwidth);
        sl_format_size((uint64_t)sli_machine_read_rate(&m, NULL, 1 << 20, 32), disk);
        if (args->json)
            json_array_append_new(all, cli_machine_json(&m));
        else
            printf("%-18s %2u cores %-12s %10s  memory %11s/s  disk %11s/s\n%18s %s\n", m.name, m.cores, sl_isa_name(m.isa), memory,
                   bandwidth, disk, "", m.source);
    }
    if (args->json)
        return cli_print_json(all);
    json_decref(all);
    return cli_finish_text();
}

int cli_plan(const cli_args *args)
{
    if (args->machine != NULL && strcmp(args->machine, "list") == 0)
        return list_machines(args);
    cli_plan_state *s = calloc(1, sizeof *s);
    sl_error err = {0};
    if (s == NULL) {
        (void)sl_fail(&err, SL_NO_MEMORY, "out of memory for a plan");
        return cli_fail(args, &err);
    }
    s->args = args;
    s->warnings = json_array();
    int result;
    if (make_plan(s, &err) != SL_OK)
        result = cli_fail(args, &err);
    else
        result = args->json ? cli_plan_print_json(s) : cli_plan_print(s);
    sl_engine_close(s->engine);
    json_decref(s->warnings);
    free(s);
    return result;
}
