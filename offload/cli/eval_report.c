/* offload/cli/eval_report.c: what `sluice eval` found: a table by kind, the same as JSON, and a line for each item. */
#include "offload/cli/eval.h"
#include "offload/tools/task_stats.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LEAST_DENSE 0.60 /* a kind counts for what is recovered where dense decoding solves so much of it, */
#define LEAST_LOSS  0.10 /* and sparse decoding so much less */

typedef struct tally {
    size_t count[CLI_EVAL_MODES], right[CLI_EVAL_MODES], right_norm[CLI_EVAL_MODES];
    bool has_choices;
} tally;

static bool in_kind(const cli_eval *e, size_t index, const char *kind)
{
    return kind == NULL || strcmp(e->tasks.items[index].kind, kind) == 0;
}

/* Of one kind, or of all. */
static tally tally_of(const cli_eval *e, const char *kind)
{
    tally t = {0};
    for (size_t i = 0; i < e->tasks.count; i++) {
        if (!in_kind(e, i, kind))
            continue;
        t.has_choices |= e->tasks.items[i].form == SL_TASK_CHOICE;
        for (int m = 0; m < CLI_EVAL_MODES; m++)
            if (e->modes[m].asked && e->modes[m].done[i]) {
                t.count[m]++;
                t.right[m] += e->modes[m].outcomes[i].right;
                t.right_norm[m] += e->modes[m].outcomes[i].right_norm;
            }
    }
    return t;
}

static double share(size_t part, size_t whole)
{
    return whole > 0 ? (double)part / (double)whole : 0;
}

/* Two modes on the items that both answered. */
static sl_paired paired_of(const cli_eval *e, const char *kind, int first, int second)
{
    bool *a = calloc(2 * e->tasks.count + 1, sizeof *a), *b = a != NULL ? a + e->tasks.count : NULL;
    size_t count = 0;
    for (size_t i = 0; a != NULL && i < e->tasks.count; i++)
        if (in_kind(e, i, kind) && e->modes[first].done[i] && e->modes[second].done[i]) {
            a[count] = e->modes[first].outcomes[i].right;
            b[count++] = e->modes[second].outcomes[i].right;
        }
    sl_paired paired = sl_paired_of(a, b, count);
    free(a);
    return paired;
}

/* ---- what is recovered ---- */

static bool all_modes(const cli_eval *e)
{
    return e->modes[CLI_EVAL_DENSE].asked && e->modes[CLI_EVAL_SPARSE].asked && e->modes[CLI_EVAL_CORRECTED].asked;
}

static bool kind_counts(const cli_eval *e, const char *kind)
{
    tally t = tally_of(e, kind);
    double dense = share(t.right[CLI_EVAL_DENSE], t.count[CLI_EVAL_DENSE]);
    double sparse = share(t.right[CLI_EVAL_SPARSE], t.count[CLI_EVAL_SPARSE]);
    return all_modes(e) && t.count[CLI_EVAL_CORRECTED] > 0 && dense >= LEAST_DENSE && dense - sparse >= LEAST_LOSS - 1e-9;
}

typedef struct counted {
    size_t items;
    sl_recovered recovered;
    double rate[CLI_EVAL_MODES];
} counted;

static counted counted_of(const cli_eval *e)
{
    counted c = {0};
    bool *right = calloc(CLI_EVAL_MODES * e->tasks.count + 1, sizeof *right);
    for (size_t i = 0; right != NULL && i < e->tasks.count; i++) {
        if (!kind_counts(e, e->tasks.items[i].kind) || !e->modes[CLI_EVAL_CORRECTED].done[i])
            continue;
        for (int m = 0; m < CLI_EVAL_MODES; m++) {
            right[(size_t)m * e->tasks.count + c.items] = e->modes[m].outcomes[i].right;
            c.rate[m] += e->modes[m].outcomes[i].right;
        }
        c.items++;
    }
    if (c.items > 0)
        c.recovered = sl_recovered_of(right, right + e->tasks.count, right + 2 * e->tasks.count, c.items);
    for (int m = 0; m < CLI_EVAL_MODES && c.items > 0; m++)
        c.rate[m] /= (double)c.items;
    free(right);
    return c;
}

/* ---- for people ---- */

static void print_share(size_t right, size_t count)
{
    sl_interval i = sl_wilson(right, count);
    if (count == 0)
        printf("  %18s", "as dense");
    else
        printf("  %5.1f (%4.1f..%5.1f)", 100 * share(right, count), 100 * i.low, 100 * i.high);
}

static void print_difference(const cli_eval *e, const char *kind, int mode)
{
    sl_paired p = paired_of(e, kind, CLI_EVAL_DENSE, mode);
    if (p.count == 0)
        printf("  %28s", "");
    else
        printf("  %+6.1f (%+6.1f..%+6.1f) %4.2g", 100 * p.difference, 100 * p.interval.low, 100 * p.interval.high, p.p);
}

static void print_row(const cli_eval *e, const char *name, const char *kind)
{
    tally t = tally_of(e, kind);
    size_t items = 0;
    for (int m = 0; m < CLI_EVAL_MODES; m++)
        items = t.count[m] > items ? t.count[m] : items;
    printf("%-22.22s %5zu", name, items);
    for (int m = 0; m < CLI_EVAL_MODES; m++)
        if (e->modes[m].asked)
            print_share(t.right[m], t.count[m]);
    for (int m = CLI_EVAL_SPARSE; m < CLI_EVAL_MODES; m++)
        if (e->modes[m].asked && e->modes[CLI_EVAL_DENSE].asked)
            print_difference(e, kind, m);
    if (kind != NULL && all_modes(e))
        printf("  %s", kind_counts(e, kind) ? "counts" : "");
    puts("");
    if (!t.has_choices)
        return;
    printf("%-22s %5s", "  normalised", "");
    for (int m = 0; m < CLI_EVAL_MODES; m++)
        if (e->modes[m].asked)
            print_share(t.right_norm[m], t.count[m]);
    puts("");
}

/* ---- early exit ---- */

static double seconds_of(const sl_task_totals *t)
{
    return t->prompt_s + t->decode_s;
}

static bool on_device(const cli_eval *e)
{
    return e->modes[CLI_EVAL_DENSE].totals.link_bytes + e->modes[CLI_EVAL_SPARSE].totals.link_bytes > 0;
}

/* What early exits leave out: of what is read, or on a device of what crosses to it. */
static uint64_t moved_bytes(const cli_eval *e, int mode)
{
    const sl_task_totals *t = &e->modes[mode].totals;
    return on_device(e) ? t->link_bytes : t->bytes_read;
}

/* Probes included: fewer bytes, or less time and no more bytes, than dense on the same items; unknown without those: true. */
static bool early_exit_gains(const cli_eval *e)
{
    const sl_task_totals *dense = &e->modes[CLI_EVAL_DENSE].totals, *sparse = &e->modes[CLI_EVAL_SPARSE].totals;
    if (!e->modes[CLI_EVAL_DENSE].asked || !e->modes[CLI_EVAL_SPARSE].asked)
        return true;
    uint64_t moved = moved_bytes(e, CLI_EVAL_SPARSE), without = moved_bytes(e, CLI_EVAL_DENSE);
    return moved < without - without / 200 || (moved <= without && seconds_of(sparse) < 0.98 * seconds_of(dense));
}

static void print_early_exit(const cli_eval *e)
{
    const sl_early_exit_stats *x = &e->modes[CLI_EVAL_SPARSE].early;
    const json_t *told = e->modes[CLI_EVAL_SPARSE].early_exit;
    if (told == NULL || x->tokens == 0)
        return;
    printf("\nearly exit: %.2f of %lld layers a scored token, %llu of %llu left early; %llu probes in %.2f s; %.2f MiB not %s for them\n",
           json_real_value(json_object_get(told, "layers_mean")), (long long)json_integer_value(json_object_get(told, "layers")),
           (unsigned long long)x->exits, (unsigned long long)x->tokens, (unsigned long long)x->probes, x->probe_s,
           (on_device(e) ? (double)x->link_bytes_left_out - (double)x->link_bytes_made_up
                         : (double)x->bytes_left_out - (double)x->bytes_made_up) /
               (1 << 20),
           on_device(e) ? "sent" : "read");
    if (!early_exit_gains(e))
        printf("it gains nothing here: %.2f MiB %s and %.2f s, dense %.2f MiB and %.2f s: leave it off\n",
               (double)moved_bytes(e, CLI_EVAL_SPARSE) / (1 << 20), on_device(e) ? "sent to the device" : "read",
               seconds_of(&e->modes[CLI_EVAL_SPARSE].totals), (double)moved_bytes(e, CLI_EVAL_DENSE) / (1 << 20),
               seconds_of(&e->modes[CLI_EVAL_DENSE].totals));
}

static void print_modes(const cli_eval *e)
{
    for (int m = 0; m < CLI_EVAL_MODES; m++) {
        const sl_task_totals *t = &e->modes[m].totals;
        if (!e->modes[m].asked)
            continue;
        uint64_t tokens = t->tokens + t->decoded_tokens;
        char decoding[16] = "-"; /* choices are given, not decoded */
        if (t->decode_s > 0)
            snprintf(decoding, sizeof decoding, "%.1f", (double)t->decoded_tokens / t->decode_s);
        printf(
            "%-10s %6s tokens/s decoding, %7.1f tokens/s of prompts; %8.2f MiB read, %.3f MiB a token; %llu tokens, %llu used again%s%s\n",
            cli_eval_modes[m], decoding, t->prompt_s > 0 ? (double)t->tokens / t->prompt_s : 0.0, (double)t->bytes_read / (1 << 20),
            tokens > 0 ? (double)t->bytes_read / (1 << 20) / (double)tokens : 0.0, (unsigned long long)tokens,
            (unsigned long long)t->reused_tokens, e->how[m][0] != '\0' ? "; " : "", e->how[m]);
    }
}

static void print_counted(const cli_eval *e)
{
    counted c = counted_of(e);
    if (!all_modes(e))
        return;
    if (c.items == 0) {
        printf("\nno kind counts: of none does dense solve %.0f %% and sparse %.0f points less\n", 100 * LEAST_DENSE, 100 * LEAST_LOSS);
        return;
    }
    printf("\n%zu items of kinds that count (dense %.0f %% and more, sparse %.0f points less): dense %.1f, sparse %.1f, corrected %.1f %%; "
           "recovered %.0f %% (%.0f..%.0f)\n",
           c.items, 100 * LEAST_DENSE, 100 * LEAST_LOSS, 100 * c.rate[0], 100 * c.rate[1], 100 * c.rate[2], 100 * c.recovered.share,
           100 * c.recovered.interval.low, 100 * c.recovered.interval.high);
}

static int print_table(const cli_eval *e)
{
    size_t kinds;
    size_t *firsts = cli_eval_kinds(&e->tasks, &kinds);
    printf("%-22s %5s", "kind", "items");
    for (int m = 0; m < CLI_EVAL_MODES; m++)
        if (e->modes[m].asked)
            printf("  %-18s", cli_eval_modes[m]);
    for (int m = CLI_EVAL_SPARSE; m < CLI_EVAL_MODES; m++)
        if (e->modes[m].asked && e->modes[CLI_EVAL_DENSE].asked)
            printf("  %-28s", m == CLI_EVAL_SPARSE ? "sparse - dense        McNemar" : "corrected - dense     McNemar");
    puts("");
    for (size_t k = 0; firsts != NULL && k < kinds; k++)
        print_row(e, e->tasks.items[firsts[k]].kind, e->tasks.items[firsts[k]].kind);
    if (kinds > 1)
        print_row(e, "all", NULL);
    free(firsts);
    puts("per cent right, in brackets the middle 95 %\n");
    print_modes(e);
    print_early_exit(e);
    print_counted(e);
    if (e->tasks.skipped > 0)
        printf("\nbroken lines left out: %zu\n", e->tasks.skipped);
    return cli_finish_text();
}

/* ---- JSON ---- */

static json_t *json_interval(sl_interval i)
{
    return json_pack("[f, f]", i.low, i.high);
}

static json_t *json_share(size_t right, size_t right_norm, size_t count, bool choices)
{
    if (count == 0)
        return json_null();
    json_t *value = json_pack("{s:I, s:I, s:f, s:o}", "items", (json_int_t)count, "right", (json_int_t)right, "acc", share(right, count),
                              "interval", json_interval(sl_wilson(right, count)));
    if (choices) {
        json_object_set_new(value, "acc_norm", json_real(share(right_norm, count)));
        json_object_set_new(value, "interval_norm", json_interval(sl_wilson(right_norm, count)));
    }
    return value;
}

static json_t *json_paired(sl_paired p)
{
    return json_pack("{s:f, s:o, s:I, s:I, s:f}", "difference", p.difference, "interval", json_interval(p.interval), "lost",
                     (json_int_t)p.lost, "gained", (json_int_t)p.gained, "mcnemar_p", p.p);
}

static json_t *json_kind(const cli_eval *e, const char *kind)
{
    tally t = tally_of(e, kind);
    json_t *value = json_object();
    json_object_set_new(value, "kind", kind != NULL ? json_string(kind) : json_string("all"));
    for (int m = 0; m < CLI_EVAL_MODES; m++)
        if (e->modes[m].asked)
            json_object_set_new(value, cli_eval_modes[m], json_share(t.right[m], t.right_norm[m], t.count[m], t.has_choices));
    for (int m = CLI_EVAL_SPARSE; m < CLI_EVAL_MODES; m++)
        if (e->modes[m].asked && e->modes[CLI_EVAL_DENSE].asked && t.count[m] > 0)
            json_object_set_new(value, m == CLI_EVAL_SPARSE ? "sparse_less_dense" : "corrected_less_dense",
                                json_paired(paired_of(e, kind, CLI_EVAL_DENSE, m)));
    if (kind != NULL && all_modes(e))
        json_object_set_new(value, "counts", json_boolean(kind_counts(e, kind)));
    return value;
}

static json_t *json_mode(const cli_eval *e, int mode)
{
    const cli_eval_mode *m = &e->modes[mode];
    const sl_task_totals *t = &m->totals;
    uint64_t tokens = t->tokens + t->decoded_tokens;
    json_t *value = json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:f, s:f, s:I, s:f, s:I, s:I, s:I, s:I}", "mode", cli_eval_modes[mode], "how",
                              e->how[mode], "items", (json_int_t)t->items, "tokens_given", (json_int_t)t->tokens, "tokens_reused",
                              (json_int_t)t->reused_tokens, "tokens_decoded", (json_int_t)t->decoded_tokens, "given_tokens_per_s",
                              t->prompt_s > 0 ? (double)t->tokens / t->prompt_s : 0.0, "decode_tokens_per_s",
                              t->decode_s > 0 ? (double)t->decoded_tokens / t->decode_s : 0.0, "bytes_read", (json_int_t)t->bytes_read,
                              "bytes_read_per_token", tokens > 0 ? (double)t->bytes_read / (double)tokens : 0.0, "ram_budget_bytes",
                              (json_int_t)m->ram_budget_bytes, "peak_rss_bytes", (json_int_t)m->peak_rss_bytes, "resident_weight_bytes",
                              (json_int_t)m->bytes_resident, "link_bytes", (json_int_t)t->link_bytes);
    if (m->sparsity != NULL)
        json_object_set(value, "sparsity", m->sparsity);
    if (m->early_exit != NULL) {
        json_object_set(value, "early_exit", m->early_exit);
        json_object_set_new(value, "gains", early_exit_gains(e) ? json_true() : json_false());
    }
    if (m->sparq != NULL)
        json_object_set(value, "sparq", m->sparq);
    return value;
}

static json_t *json_counted(const cli_eval *e)
{
    counted c = counted_of(e);
    if (!all_modes(e) || c.items == 0)
        return json_null();
    return json_pack("{s:I, s:f, s:f, s:f, s:f, s:o}", "items", (json_int_t)c.items, "dense", c.rate[0], "sparse", c.rate[1], "corrected",
                     c.rate[2], "recovered", c.recovered.share, "interval", json_interval(c.recovered.interval));
}

static int print_json(const cli_eval *e)
{
    json_t *kinds = json_array(), *modes = json_array();
    size_t count;
    size_t *firsts = cli_eval_kinds(&e->tasks, &count);
    for (size_t k = 0; firsts != NULL && k < count; k++)
        json_array_append_new(kinds, json_kind(e, e->tasks.items[firsts[k]].kind));
    free(firsts);
    for (int m = 0; m < CLI_EVAL_MODES; m++)
        if (e->modes[m].asked)
            json_array_append_new(modes, json_mode(e, m));
    const char *slash = strrchr(e->args->model, '/');
    return cli_print_json(
        json_pack("{s:o, s:o, s:o, s:o, s:o, s:I, s:I, s:I, s:I, s:s, s:f, s:O}", "model",
                  cli_json_text(slash != NULL ? slash + 1 : e->args->model, strlen(slash != NULL ? slash + 1 : e->args->model)), "modes",
                  modes, "kinds", kinds, "all", json_kind(e, NULL), "recovered", json_counted(e), "items", (json_int_t)e->tasks.count,
                  "skipped", (json_int_t)e->tasks.skipped, "examples", (json_int_t)e->tasks.examples, "context", (json_int_t)e->context,
                  "isa", e->isa, "seconds", e->seconds, "warnings", e->warnings));
}

int cli_eval_report(const cli_eval *e)
{
    return e->args->json ? print_json(e) : print_table(e);
}

/* ---- items ---- */

static json_t *json_outcome(const sl_task_item *item, const sl_task_outcome *o)
{
    if (item->form == SL_TASK_GENERATION)
        return json_pack("{s:b, s:o}", "right", (int)o->right, "text", cli_json_text(o->text, o->text_length));
    json_t *log_p = json_array();
    for (size_t i = 0; i < item->text_count; i++)
        json_array_append_new(log_p, json_real(o->log_p[i]));
    if (item->form == SL_TASK_CONTINUATION)
        return json_pack("{s:b, s:o}", "right", (int)o->right, "log_p", log_p);
    return json_pack("{s:b, s:b, s:i, s:i, s:o}", "right", (int)o->right, "right_norm", (int)o->right_norm, "picked", (int)o->picked,
                     "picked_norm", (int)o->picked_norm, "log_p", log_p);
}

static json_t *json_item(const cli_eval *e, size_t index)
{
    const sl_task_item *item = &e->tasks.items[index];
    json_t *value = json_pack("{s:o, s:I, s:o, s:o}", "file", cli_json_text(item->file, strlen(item->file)), "line", (json_int_t)item->line,
                              "kind", cli_json_text(item->kind, strlen(item->kind)), "answer",
                              cli_json_text(item->texts[item->gold], strlen(item->texts[item->gold])));
    for (int m = 0; m < CLI_EVAL_MODES; m++)
        if (e->modes[m].asked && e->modes[m].done[index])
            json_object_set_new(value, cli_eval_modes[m], json_outcome(item, &e->modes[m].outcomes[index]));
    return value;
}

char *cli_eval_lines(const cli_eval *e, size_t *length)
{
    char *out = NULL;
    *length = 0;
    for (size_t i = 0; i < e->tasks.count; i++) {
        json_t *value = json_item(e, i);
        char *line = json_dumps(value, JSON_COMPACT | JSON_REAL_PRECISION(9));
        json_decref(value);
        size_t bytes = line != NULL ? strlen(line) : 0;
        char *grown = line != NULL ? realloc(out, *length + bytes + 2) : NULL;
        if (grown == NULL) {
            free(line);
            free(out);
            return NULL;
        }
        out = grown;
        snprintf(out + *length, bytes + 2, "%s\n", line);
        *length += bytes + 1;
        free(line);
    }
    return out;
}
