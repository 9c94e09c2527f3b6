/* offload/cli/plan_report.c: what `sluice plan` says: for one budget what lies where and what would be faster, for several a table; or all as JSON. */
#include "core/os.h"
#include "offload/cli/machine_file.h"
#include "offload/cli/plan_state.h"

#include <stdio.h>
#include <string.h>

/* ---- where everything lies ---- */

typedef struct place_line {
    const char *name;
    uint64_t bytes, resident_bytes;
    double token_bytes; /* from the disk, for a decoded token */
} place_line;

enum { PLACES = SLI_PART_COUNT + 8 };

static size_t places_of(const cli_plan_row *row, place_line out[PLACES])
{
    size_t n = 0;
    const sli_price *p = &row->at.price;
    for (int i = 0; i < SLI_PART_COUNT; i++)
        if (row->at.part[i].bytes > 0)
            out[n++] = (place_line){sli_part_name((sli_part)i), row->at.part[i].bytes, row->at.part[i].resident_bytes,
                                    row->plan.part_read_bytes[i]};
    const place_line rest[] = {{"metadata", row->at.vector_bytes + p->bundled_bytes, row->at.vector_bytes + p->bundled_bytes, 0},
                               {"predictor", p->predictor_bytes, p->predictor_bytes, 0},
                               {"kv_cache", p->kv_bytes, p->kv_bytes, 0},
                               {"scratch", p->scratch_bytes + p->sparsity_bytes, p->scratch_bytes + p->sparsity_bytes, 0},
                               {"staging", p->staging_bytes, p->staging_bytes, 0},
                               {"tables", p->table_bytes, p->table_bytes, 0},
                               {"process", p->process_bytes - row->at.vector_bytes, p->process_bytes - row->at.vector_bytes, 0}};
    for (size_t i = 0; i < sizeof rest / sizeof *rest; i++)
        if (rest[i].bytes > 0)
            out[n++] = rest[i];
    return n;
}

/* ---- text ---- */

static const char *limit_on_gpu(sl_placement_limit limit)
{
    static const char *const names[] = {[SL_PLACED_COMPUTE] = "the GPU",
                                        [SL_PLACED_LINK] = "its link",
                                        [SL_PLACED_HOST_MEMORY] = "memory bandwidth",
                                        [SL_PLACED_DISK] = "disk"};
    return names[limit];
}

static const char *mode_of(const cli_plan_state *s)
{
    return s->info.density < 1 || s->options.sparsity != SL_SPARSITY_OFF ? s->info.sparsity : "dense";
}

static void print_head(const cli_plan_state *s)
{
    char file[24], memory[24];
    sl_format_size(s->info.file_bytes, file);
    sl_format_size(s->machine.memory_bytes, memory);
    printf("model   %s, %s%s, %u layers; context %u; %s", s->args->model, file, s->info.packed ? " packed" : "", s->info.layers,
           s->info.context, mode_of(s));
    if (s->options.sparsity != SL_SPARSITY_OFF)
        printf(" at density %.2g", s->info.density);
    printf("\nmachine %s, %u cores, %s; %s\n", s->machine.name, s->machine.cores, memory, s->said);
}

static void print_places(const cli_plan_row *row)
{
    place_line line[PLACES];
    size_t n = places_of(row, line);
    printf("\n%-10s %12s %12s %12s %14s\n", "", "bytes", "in memory", "streamed", "read a token");
    for (size_t i = 0; i < n; i++) {
        char bytes[24], resident[24], streamed[24], token[24];
        sl_format_size(line[i].bytes, bytes);
        sl_format_size(line[i].resident_bytes, resident);
        sl_format_size(line[i].bytes - line[i].resident_bytes, streamed);
        sl_format_size((uint64_t)line[i].token_bytes, token);
        printf("%-10s %12s %12s %12s %14s\n", line[i].name, bytes, resident, streamed, line[i].token_bytes > 0 ? token : "");
    }
}

static void print_speed(const cli_plan_row *row)
{
    const sli_plan *p = &row->plan;
    printf("\nspeed   %.3g tokens/s (%.3g to %.3g), prompt %.3g tokens/s; limited by %s\n", p->decode_tokens_per_s, p->decode_low,
           p->decode_high, p->prompt_tokens_per_s, sli_plan_limit_name(p->limit));
    printf("        a token: reading %.3g ms, memory %.3g ms, computing %.3g ms; one beside the other %.3g ms\n", p->link_s * 1e3,
           p->memory_s * 1e3, p->compute_s * 1e3, p->token_s * 1e3);
    if (row->drafter != SLI_PLAN_NO_DRAFTS)
        printf("drafts  [%u x %.3g ms + %.3g ms] / %.2f tokens a check%s\n", row->drafter == SLI_PLAN_MODEL ? row->drafted : 0,
               p->draft_s * 1e3, p->check_s * 1e3, p->advance,
               p->advance_assumed ? " (assumed: it depends on the text; --advance A says what run measured)" : "");
    if (row->at.bundles.layers > 0)
        printf("sets    %.0f %% of the neurons, %.0f %% of those found in memory\n", 100 * row->at.bundles.kept_share,
               100 * p->cached_share);
}

static void print_exits(const cli_plan_state *s, const cli_plan_row *row)
{
    char left[24];
    if (row->at.exits.layers_mean <= 0)
        return;
    sl_format_size((uint64_t)row->plan.left_out_bytes, left);
    printf("early   by %s, agreement %.4g: %.2f of %u layers a token on the text held out; ", s->info.early_exit, s->info.exit_agreement,
           row->at.exits.layers_mean, row->at.layers);
    if (row->left_off)
        printf("nothing is gained here, and run leaves it off\n");
    else
        printf("%s a token not read, %u probes of %.2f MiB\n", left, row->at.exits.probes, (double)row->at.exits.probe_bytes / (1 << 20));
}

static const char *left_aside(const cli_plan_state *s)
{
    return s->options.early_exit != SL_EARLY_EXIT_OFF ? "drafts and early exit" : "drafts";
}

/* What lies above is the processor's alone. */
static void print_gpu(const cli_plan_state *s, uint32_t layers, const sli_device_plan *d)
{
    char budget[24], fixed[24], held[24], crossing[24], beside[24], disk[24];
    const sl_placement *p = &d->placed;
    if (s->machine.gpu.name[0] == '\0')
        return;
    sl_format_size(d->budget_bytes, budget);
    sl_format_size(d->fixed_bytes, fixed);
    if (!d->fits) {
        printf("gpu     %s: not with %s: activations and what attention sees of a layer take %s of it; -c takes less\n",
               s->machine.gpu.name, budget, fixed);
        return;
    }
    sl_format_size(p->vram_bytes, held);
    sl_format_size((uint64_t)p->streamed_bytes, crossing);
    sl_format_size((uint64_t)p->cpu_bytes, beside);
    sl_format_size((uint64_t)p->disk_bytes, disk);
    printf("gpu     %s, --device cuda: %.3g tokens/s without %s (%.3g to %.3g: reckoned, no GPU has confirmed it); limited by %s\n",
           s->machine.gpu.name, d->decode_tokens_per_s, left_aside(s), d->decode_low, d->decode_high, limit_on_gpu(p->limit));
    printf("        of %s of its memory %s hold weights, %s all else; a token: %s cross the link, %s the processor's, %s from the disk\n",
           budget, held, fixed, crossing, beside, disk);
    if (d->kv_host_layers > 0)
        printf("        keys and values of %u of %u layers lie in host memory\n", d->kv_host_layers, layers);
}

/* Whether it makes a difference. */
static bool print_change(const char *what, double with, double without)
{
    bool tells = with > 0 && (with > 1.01 * without || with < 0.99 * without);
    if (tells)
        printf("        %-28s %.3g tokens/s (%+.0f %%)\n", what, with, 100 * (with / without - 1));
    return tells;
}

static void print_changes(const cli_plan_row *row)
{
    const cli_plan_changes *c = &row->changes;
    char what[40];
    double now = row->plan.decode_tokens_per_s;
    printf("faster\n");
    bool any = print_change("a GiB more of memory", c->more_memory, now);
    any |= print_change("a disk twice as fast", c->faster_disk, now);
    snprintf(what, sizeof what, "--density %.2g", c->density);
    any |= print_change(what, c->other_density, now);
    any |= print_change("--sparsity fine --density 0.5", c->sparse, now);
    if (!any)
        printf("        neither more memory nor a faster disk: what computes is the limit\n");
}

static void print_command(const cli_plan_state *s, uint64_t budget_bytes)
{
    const cli_args *a = s->args;
    printf("command sluice run -m %s --ram-budget %lluM", a->model, (unsigned long long)(budget_bytes >> 20));
    if (a->context > 0)
        printf(" -c %lld", a->context == SL_CONTEXT_MODEL ? 0 : (long long)a->context);
    if (a->threads > 0)
        printf(" -t %lld", (long long)a->threads);
    if (a->sparsity != NULL)
        printf(" --sparsity %s --density %.3g", a->sparsity, s->info.density);
    if (a->early_exit != NULL)
        printf(" --early-exit %s", a->early_exit);
    if (a->exit_agreement > 0)
        printf(" --exit-agreement %g", a->exit_agreement);
    if (a->draft != NULL)
        printf(" --draft %s%s%s", a->draft, a->drafter != NULL ? " --drafter " : "", a->drafter != NULL ? a->drafter : "");
    printf(" -p TEXT\n");
}

static void print_one(const cli_plan_state *s)
{
    const cli_plan_row *row = &s->row[0];
    char budget[24], peak[24], least[24];
    sl_format_size(row->budget_bytes, budget);
    sl_format_size(row->at.peak_bytes, peak);
    sl_format_size(s->budget_min_bytes, least);
    print_places(row);
    print_speed(row);
    print_exits(s, row);
    print_gpu(s, row->at.layers, &row->device);
    printf("memory  peak %s of the %s budget with a full context; %s is the smallest budget that works\n", peak, budget, least);
    print_changes(row);
    print_command(s, row->budget_bytes);
}

static void print_table(const cli_plan_state *s)
{
    char least[24];
    bool gpu = s->machine.gpu.name[0] != '\0';
    printf("\n%12s %12s %12s %12s %8s %18s %10s  %s%s\n", "budget", "peak", "in memory", "read a token", "t/s", "range", "prompt t/s",
           gpu ? "GPU t/s  " : "", "limited by");
    for (size_t i = 0; i < s->rows; i++) {
        const cli_plan_row *row = &s->row[i];
        char budget[24], peak[24], resident[24], token[24], range[40];
        uint64_t in_memory = 0;
        sl_format_size(row->budget_bytes, budget);
        if (!row->fits) {
            printf("%12s does not fit\n", budget);
            continue;
        }
        for (int part = 0; part < SLI_PART_COUNT; part++)
            in_memory += row->at.part[part].resident_bytes;
        sl_format_size(row->at.peak_bytes, peak);
        sl_format_size(in_memory, resident);
        sl_format_size((uint64_t)row->plan.read_bytes, token);
        snprintf(range, sizeof range, "%.3g to %.3g", row->plan.decode_low, row->plan.decode_high);
        char on_gpu[24] = "";
        if (gpu)
            snprintf(on_gpu, sizeof on_gpu, "%7.3g  ", row->device.decode_tokens_per_s);
        printf("%12s %12s %12s %12s %8.3g %18s %10.3g  %s%s\n", budget, peak, resident, token, row->plan.decode_tokens_per_s, range,
               row->plan.prompt_tokens_per_s, on_gpu, sli_plan_limit_name(row->plan.limit));
    }
    sl_format_size(s->budget_min_bytes, least);
    printf("\nsmallest budget that works: %s\n", least);
    if (gpu)
        printf("GPU: the %s, without %s; reckoned, no GPU has confirmed it\n", s->machine.gpu.name, left_aside(s));
}

int cli_plan_print(const cli_plan_state *s)
{
    print_head(s);
    if (s->rows == 1)
        print_one(s);
    else
        print_table(s);
    return cli_finish_text();
}

/* ---- JSON ---- */

static json_t *json_placement(const cli_plan_row *row)
{
    place_line line[PLACES];
    size_t n = places_of(row, line);
    json_t *all = json_object();
    for (size_t i = 0; i < n; i++)
        json_object_set_new(all, line[i].name,
                            json_pack("{s:I, s:I, s:I, s:f}", "bytes", (json_int_t)line[i].bytes, "resident_bytes",
                                      (json_int_t)line[i].resident_bytes, "streamed_bytes",
                                      (json_int_t)(line[i].bytes - line[i].resident_bytes), "token_bytes", line[i].token_bytes));
    return all;
}

static json_t *json_or_null(double value)
{
    return value > 0 ? json_real(value) : json_null();
}

static json_t *json_predicted(const cli_plan_row *row)
{
    const sli_plan *p = &row->plan;
    return json_pack("{s:f, s:[ff], s:f, s:I, s:i, s:s, s:f, s:f, s:f, s:f, s:f}", "decode_tokens_per_s", p->decode_tokens_per_s,
                     "decode_tokens_per_s_range", p->decode_low, p->decode_high, "prompt_tokens_per_s", p->prompt_tokens_per_s,
                     "peak_ram_bytes", (json_int_t)row->at.peak_bytes, "peak_vram_bytes", 0, "limit", sli_plan_limit_name(p->limit),
                     "read_s", p->link_s, "memory_s", p->memory_s, "compute_s", p->compute_s, "token_s", p->token_s, "token_bytes",
                     p->read_bytes);
}

static json_t *json_drafts(const cli_plan_row *row)
{
    static const char *const drafters[] = {[SLI_PLAN_LOOKUP] = "lookup", [SLI_PLAN_MODEL] = "model"};
    if (row->drafter == SLI_PLAN_NO_DRAFTS)
        return json_null();
    return json_pack("{s:s, s:i, s:f, s:b, s:f, s:f}", "drafter", drafters[row->drafter], "tokens", (int)row->drafted, "advance_mean",
                     row->plan.advance, "assumed", (int)row->plan.advance_assumed, "draft_s", row->plan.draft_s, "check_s",
                     row->plan.check_s);
}

static json_t *json_exits(const cli_plan_state *s, const cli_plan_row *row)
{
    if (row->at.exits.layers_mean <= 0)
        return json_null();
    return json_pack("{s:s, s:f, s:f, s:i, s:b, s:i, s:f}", "by", s->info.early_exit, "agreement_asked", s->info.exit_agreement,
                     "held_layers_mean", row->at.exits.layers_mean, "layers", (int)row->at.layers, "left_off", (int)row->left_off, "probes",
                     (int)row->at.exits.probes, "bytes_left_out", row->plan.left_out_bytes);
}

static json_t *json_gpu(const sli_machine *m, const sli_device_plan *d)
{
    const sl_placement *p = &d->placed;
    if (m->gpu.name[0] == '\0')
        return json_null();
    if (!d->fits)
        return json_pack("{s:b, s:I, s:I}", "fits", 0, "vram_budget_bytes", (json_int_t)d->budget_bytes, "fixed_bytes",
                         (json_int_t)d->fixed_bytes);
    return json_pack("{s:b, s:I, s:I, s:f, s:[ff], s:s, s:I, s:f, s:f, s:f, s:f, s:i}", "fits", 1, "vram_budget_bytes",
                     (json_int_t)d->budget_bytes, "fixed_bytes", (json_int_t)d->fixed_bytes, "decode_tokens_per_s", d->decode_tokens_per_s,
                     "decode_tokens_per_s_range", d->decode_low, d->decode_high, "limit", sl_placement_limit_name(p->limit), "weight_bytes",
                     (json_int_t)p->vram_bytes, "device_token_bytes", p->device_bytes, "link_token_bytes", p->streamed_bytes,
                     "processor_token_bytes", p->cpu_bytes, "disk_token_bytes", p->disk_bytes, "kv_host_layers", (int)d->kv_host_layers);
}

static json_t *json_row(const cli_plan_state *s, const cli_plan_row *row)
{
    if (!row->fits)
        return json_pack("{s:I, s:b}", "ram_budget_bytes", (json_int_t)row->budget_bytes, "fits", 0);
    json_t *value = json_pack("{s:I, s:b, s:o, s:o, s:o, s:o, s:o, s:i}", "ram_budget_bytes", (json_int_t)row->budget_bytes, "fits", 1,
                              "predicted", json_predicted(row), "gpu", json_gpu(&s->machine, &row->device), "placement",
                              json_placement(row), "drafts", json_drafts(row), "early_exit", json_exits(s, row), "batch",
                              (int)row->at.batch);
    if (row->at.bundles.layers > 0)
        json_object_set_new(value, "sets",
                            json_pack("{s:f, s:f}", "kept_share", row->at.bundles.kept_share, "found_share", row->plan.cached_share));
    if (s->rows == 1)
        json_object_set_new(value, "faster",
                            json_pack("{s:o, s:o, s:o, s:o, s:o}", "gib_more", json_or_null(row->changes.more_memory), "disk_twice_as_fast",
                                      json_or_null(row->changes.faster_disk), "other_density", json_or_null(row->changes.other_density),
                                      "other_density_is", json_or_null(row->changes.density), "fine_half",
                                      json_or_null(row->changes.sparse)));
    return value;
}

int cli_plan_print_json(const cli_plan_state *s)
{
    json_t *plans = json_array();
    const cli_plan_row *first = NULL;
    for (size_t i = 0; i < s->rows; i++) {
        json_array_append_new(plans, json_row(s, &s->row[i]));
        first = first == NULL && s->row[i].fits ? &s->row[i] : first;
    }
    json_t *value = json_row(s, first != NULL ? first : &s->row[0]); /* there is one that fits, or the plan had failed */
    json_object_set_new(value, "model", cli_json_text(s->args->model, strlen(s->args->model)));
    json_object_set_new(value, "sparsity", json_string(s->info.sparsity));
    json_object_set_new(value, "density", json_real(s->info.density));
    json_object_set_new(value, "context", json_integer(s->info.context));
    json_object_set_new(value, "ram_budget_min_bytes", json_integer((json_int_t)s->budget_min_bytes));
    json_object_set_new(value, "machine", cli_machine_json(&s->machine));
    json_object_set_new(value, "machine_source", cli_json_text(s->said, strlen(s->said)));
    json_object_set(value, "warnings", s->warnings);
    json_object_set_new(value, "plans", plans);
    return cli_print_json(value);
}
