/* offload/cli/bench.c: `sluice bench`: lists and ranges of options into rows, and the rows one after the other. See bench.h. */
#include "offload/cli/bench.h"
#include "core/os.h"
#include "offload/cli/flags.h"
#include "offload/tools/bench_figures.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ROWS_MAX        10000 /* unless --force */
#define ESTIMATE_MAX_S  (86400.0 * 3)
#define LINK_ASSUMED    1.5e9 /* bytes per second, of a disk nothing is known of */
#define COMPUTE_ASSUMED 10e9  /* weights that decoding goes through, per second */
#define QUIET_LOAD      0.3   /* of each processor */
#define OTHERS_MAX      0.05

/* ---- lists ---- */

static cli_bench_axis *axis_of(cli_bench *b, const cli_flag *flag)
{
    for (size_t i = 0; i < b->axes; i++)
        if (b->axis[i].flag == flag)
            return &b->axis[i];
    b->axis[b->axes] = (cli_bench_axis){.flag = flag};
    return &b->axis[b->axes++];
}

static bool is_flag(const cli_flag *flag, const char *name)
{
    return strcmp(flag->names[0], name) == 0;
}

sl_status cli_bench_axes(cli_bench *b, sl_error *err)
{
    for (size_t i = 0; i < b->args->lists; i++) {
        const cli_list *list = &b->args->list[i];
        cli_bench_axis *axis = axis_of(b, list->flag);
        size_t before = axis->values.count;
        SL_TRY(sl_sweep_parse(list->flag->names[0], list->text, !is_flag(list->flag, "-m") && !is_flag(list->flag, "-pg"), &axis->values,
                              err));
        if (is_flag(list->flag, "-pg") && axis->values.count != before + 2)
            return sl_fail(err, SL_INVALID, "-pg %.40s: it must be a pair PP,TG of tokens, such as 512,128", list->text);
        for (size_t v = before; v < axis->values.count; v++) {
            cli_args scratch = *b->args;
            const cli_flag *number = is_flag(list->flag, "-pg") ? cli_find_flag("-p", BENCH) : list->flag;
            SL_TRY(cli_store(number, list->flag->names[0], axis->values.text[v], &scratch, err));
        }
    }
    return SL_OK;
}

const sl_sweep_values *cli_bench_values(const cli_bench *b, const char *flag)
{
    for (size_t i = 0; i < b->axes; i++)
        if (is_flag(b->axis[i].flag, flag))
            return &b->axis[i].values;
    return NULL;
}

void cli_bench_free_axes(cli_bench *b)
{
    for (size_t i = 0; i < b->axes; i++)
        sl_sweep_free(&b->axis[i].values);
}

/* ---- settings ---- */

static bool sparse(const cli_args *a)
{
    return a->sparsity != NULL && strcmp(a->sparsity, "off") != 0;
}
static bool fine(const cli_args *a)
{
    return a->sparsity != NULL && strcmp(a->sparsity, "fine") == 0;
}
static bool drafts(const cli_args *a)
{
    return a->tree != NULL || (a->draft != NULL && strcmp(a->draft, "0") != 0);
}
static bool thresholds(const cli_args *a)
{
    return drafts(a) && a->accept != NULL && strcmp(a->accept, "threshold") == 0;
}
static bool sparq(const cli_args *a)
{
    return a->sparq_k > 0;
}
static bool leaves_early(const cli_args *a)
{
    return a->early_exit != NULL && strcmp(a->early_exit, "off") != 0;
}
bool cli_bench_on_device(const cli_args *a)
{
    return a->device != NULL && strcmp(a->device, "none") != 0;
}
static bool best_tree(const cli_args *a)
{
    return a->tree != NULL && strcmp(a->tree, "best") == 0;
}

/* Options that only mean something beside others, which are set before them: where they don't, they are left out and do not multiply rows. */
static const struct {
    const char *flag, *wants;
    int turn;
    bool (*means)(const cli_args *);
} dependent[] = {{"--density", "--sparsity coarse or fine", 1, sparse},
                 {"--late", "--sparsity coarse or fine", 1, sparse},
                 {"--predictor", "--sparsity fine", 1, fine},
                 {"--sparq-r", "--sparq-k", 1, sparq},
                 {"--sparq-local", "--sparq-k", 1, sparq},
                 {"--sparq-reallocate", "--sparq-k", 1, sparq},
                 {"--exit-agreement", "--early-exit svm, crf or gap", 1, leaves_early},
                 {"--drafter", "--draft auto or --draft N", 1, drafts},
                 {"--accept", "--draft auto or --draft N", 1, drafts},
                 {"--least-chance", "--draft auto or --draft N", 1, drafts},
                 {"--vram-budget", "--device", 0, cli_bench_on_device},
                 {"-ngl", "--device", 0, cli_bench_on_device},
                 {"--cpu-share", "--device", 0, cli_bench_on_device},
                 {"--kv-host", "--device", 0, cli_bench_on_device},
                 {"--tree-rows", "--tree best", 1, best_tree},
                 {"--tau", "--accept threshold", 2, thresholds},
                 {"--tau-temperature", "--accept threshold", 2, thresholds}};
#define DEPENDENTS (sizeof dependent / sizeof *dependent)

static size_t dependent_of(const cli_flag *flag)
{
    size_t i = 0;
    while (i < DEPENDENTS && !is_flag(flag, dependent[i].flag))
        i++;
    return i;
}

static bool is_setting(const cli_flag *flag)
{
    static const char *const tests[] = {"-p", "-n", "-pg", "-d", "--io-size", "--io-order"};
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
        if (is_flag(flag, tests[i]))
            return false;
    return true;
}

/* One combination. *repeated: it only differs from an earlier one in what has no meaning. */
static sl_status apply(cli_bench *b, const size_t *chosen, cli_args *out, bool *repeated, sl_error *err)
{
    *out = *b->args;
    *repeated = false;
    for (int turn = 0; turn < 3; turn++)
        for (size_t i = 0; i < b->axes; i++) {
            cli_bench_axis *axis = &b->axis[i];
            size_t d = dependent_of(axis->flag);
            if (!is_setting(axis->flag) || (d < DEPENDENTS ? dependent[d].turn : 0) != turn)
                continue;
            if (d < DEPENDENTS && !dependent[d].means(out)) {
                *repeated |= chosen[i] > 0;
                continue;
            }
            axis->used = true;
            SL_TRY(cli_store(axis->flag, axis->flag->names[0], axis->values.text[chosen[i]], out, err));
        }
    return SL_OK;
}

/* ---- rows ---- */

static sl_status add_case(cli_bench *b, const cli_args *args, double prompt, double decode, double depth, sl_error *err)
{
    if (prompt == 0 && decode == 0)
        return SL_OK;
    if (b->count == b->capacity) {
        size_t capacity = b->capacity == 0 ? 64 : 2 * b->capacity;
        cli_bench_case *grown = realloc(b->cases, capacity * sizeof *grown);
        if (grown == NULL)
            return sl_fail(err, SL_NO_MEMORY, "out of memory for %zu rows", capacity);
        b->cases = grown;
        b->capacity = capacity;
    }
    b->cases[b->count++] = (cli_bench_case){*args, (uint32_t)prompt, (uint32_t)decode, (uint32_t)depth};
    return SL_OK;
}

static double count_at(const sl_sweep_values *values, size_t index, double otherwise)
{
    return values != NULL ? strtod(values->text[index], NULL) : otherwise;
}

static size_t count_of(const sl_sweep_values *values)
{
    return values != NULL ? values->count : 1;
}

static void duration_text(double seconds, char out[32]);
static double estimate_s(const cli_bench *b);

/* The tests of one setting, in llama-bench's order. */
static sl_status add_tests(cli_bench *b, const cli_args *args, sl_error *err)
{
    const sl_sweep_values *p = cli_bench_values(b, "-p"), *n = cli_bench_values(b, "-n"), *pg = cli_bench_values(b, "-pg"),
                          *d = cli_bench_values(b, "-d");
    for (size_t k = 0; k < count_of(d); k++) {
        double depth = count_at(d, k, 0);
        for (size_t i = 0; i < count_of(p); i++)
            SL_TRY(add_case(b, args, count_at(p, i, 512), 0, depth, err));
        for (size_t i = 0; i < count_of(n); i++)
            SL_TRY(add_case(b, args, 0, count_at(n, i, 128), depth, err));
        for (size_t i = 0; pg != NULL && i + 1 < pg->count; i += 2)
            SL_TRY(add_case(b, args, count_at(pg, i, 0), count_at(pg, i + 1, 0), depth, err));
    }
    return SL_OK;
}

static uint64_t tests_per_setting(const cli_bench *b)
{
    const sl_sweep_values *pg = cli_bench_values(b, "-pg");
    return count_of(cli_bench_values(b, "-d")) *
           (count_of(cli_bench_values(b, "-p")) + count_of(cli_bench_values(b, "-n")) + (pg != NULL ? pg->count / 2 : 0));
}

static sl_status check_used(const cli_bench *b, sl_error *err)
{
    for (size_t i = 0; i < b->axes; i++)
        if (is_setting(b->axis[i].flag) && !b->axis[i].used)
            return sl_fail(err, SL_INVALID, "%s has no meaning without %s", b->axis[i].flag->names[0],
                           dependent[dependent_of(b->axis[i].flag)].wants);
    return SL_OK;
}

/* Said with the time that it would take, as the first combination makes one expect. */
static sl_status refuse_rows(cli_bench *b, uint64_t settings, uint64_t tests, sl_error *err)
{
    size_t first[CLI_LISTS_MAX] = {0};
    char time_text[32];
    cli_args args;
    bool repeated;
    SL_TRY(apply(b, first, &args, &repeated, err));
    SL_TRY(add_tests(b, &args, err));
    duration_text(estimate_s(b) * (double)settings, time_text);
    return sl_fail(err, SL_INVALID, "a sweep of %llu combinations times %llu tests, about %s; at most %d rows are run %s",
                   (unsigned long long)settings, (unsigned long long)tests, time_text, b->args->force ? ROWS_MAX * 100 : ROWS_MAX,
                   b->args->force ? "with --force" : "without --force");
}

static sl_status make_cases(cli_bench *b, sl_error *err)
{
    size_t counts[CLI_LISTS_MAX], chosen[CLI_LISTS_MAX];
    for (size_t i = 0; i < b->axes; i++)
        counts[i] = is_setting(b->axis[i].flag) ? b->axis[i].values.count : 1;
    uint64_t settings = sl_sweep_count(counts, b->axes), tests = tests_per_setting(b), rows;
    if (__builtin_mul_overflow(settings, tests, &rows))
        rows = UINT64_MAX;
    if (rows > ROWS_MAX && (!b->args->force || rows > ROWS_MAX * 100))
        return refuse_rows(b, settings, tests, err);
    for (uint64_t index = 0; index < settings; index++) {
        cli_args args;
        bool repeated;
        sl_sweep_at(counts, b->axes, index, chosen);
        SL_TRY(apply(b, chosen, &args, &repeated, err));
        if (!repeated)
            SL_TRY(add_tests(b, &args, err));
    }
    SL_TRY(check_used(b, err));
    return b->count > 0 ? SL_OK : sl_fail(err, SL_INVALID, "no tests: -p and -n are 0, and there is no -pg");
}

/* ---- before it starts ---- */

static double estimate_s(const cli_bench *b)
{
    double sum = 0;
    for (size_t i = 0; i < b->count; i++) {
        const cli_bench_case *c = &b->cases[i];
        struct stat info;
        double link = c->args.throttle_Bps > 0 && (double)c->args.throttle_Bps < LINK_ASSUMED ? (double)c->args.throttle_Bps : LINK_ASSUMED;
        sl_bench_guess guess = {.weight_bytes = stat(c->args.model, &info) == 0 ? (uint64_t)info.st_size : 0,
                                .budget_bytes = c->args.ram_budget_bytes,
                                .prompt_tokens = c->prompt,
                                .depth_tokens = c->depth,
                                .decoded_tokens = c->decode,
                                .batch = c->args.batch > 0 ? (uint64_t)c->args.batch : 512,
                                .repetitions = (uint64_t)b->args->repetitions,
                                .link_Bps = link,
                                .compute_Bps = COMPUTE_ASSUMED};
        sum += (sl_bench_estimate_s(&guess) + (double)b->args->delay_s) * (b->args->peer_dir != NULL ? 3 : 1);
    }
    return sum;
}

static void duration_text(double seconds, char out[32])
{
    if (seconds < 90)
        snprintf(out, 32, "%.0f s", ceil(seconds));
    else if (seconds < 5400)
        snprintf(out, 32, "%.0f min", ceil(seconds / 60));
    else if (seconds < 86400 * 2)
        snprintf(out, 32, "%.1f hours", seconds / 3600);
    else
        snprintf(out, 32, "%.0f days", ceil(seconds / 86400));
}

static sl_status announce(const cli_bench *b, sl_error *err)
{
    char time_text[32];
    double seconds = estimate_s(b), load[1] = {0};
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    duration_text(seconds, time_text);
    if (seconds > ESTIMATE_MAX_S && !b->args->force)
        return sl_fail(err, SL_INVALID, "%zu rows of %lld repetitions would take about %s; narrow the lists, or give --force", b->count,
                       (long long)b->args->repetitions, time_text);
    if (b->count > 1 || seconds > 60)
        fprintf(stderr, "%zu row%s, %lld repetition%s each: about %s, if reads come at 1.5 GB/s\n", b->count, b->count == 1 ? "" : "s",
                (long long)b->args->repetitions, b->args->repetitions == 1 ? "" : "s", time_text);
    if (getloadavg(load, 1) == 1 && load[0] > QUIET_LOAD * (double)processors)
        fprintf(stderr, "the machine is not quiet: a load of %.1f on %ld processors; figures will be low, and spread\n", load[0],
                processors);
    return SL_OK;
}

/* How often a processor was slowed down for its heat; 0 where nobody says. */
static unsigned long throttle_count(void)
{
    char line[256];
    bool known = cli_system_line("/sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_count", "", line);
    return known ? strtoul(line, NULL, 10) : 0;
}

/* ---- the loop ---- */

static void say_progress(const cli_bench *b, size_t index, uint64_t begin_ns)
{
    char left[48] = "", time_text[32];
    const cli_bench_case *c = &b->cases[index];
    if (index > 0) {
        duration_text((double)(sl_now_ns() - begin_ns) * 1e-9 / (double)index * (double)(b->count - index), time_text);
        snprintf(left, sizeof left, ", %s left", time_text);
    }
    if (b->args->progress || cli_terminal())
        fprintf(stderr, "%srow %zu of %zu: pp%u tg%u d%u%s%s", cli_terminal() ? "\r\033[K" : "", index + 1, b->count, c->prompt, c->decode,
                c->depth, left, cli_terminal() ? "" : "\n");
}

static void warn_of_row(json_t *row, unsigned long throttled)
{
    double others = json_number_value(json_object_get(row, "others_share"));
    char line[120];
    json_t *warnings = json_object_get(row, "warnings");
    snprintf(line, sizeof line, "others took %.0f %% of the processors during this test", 100 * others);
    if (others > OTHERS_MAX)
        cli_note(warnings, line);
    if (throttle_count() != throttled)
        cli_note(warnings, "the processor was slowed down for its heat during this test");
}

static void keep(cli_bench *b, json_t *row)
{
    cli_progress_end();
    cli_bench_print_row(b, row, json_array_size(b->rows) == 0);
    if (b->args->breakdown && !b->args->json && (b->args->format == NULL || strcmp(b->args->format, "md") == 0))
        cli_bench_print_breakdown(row);
    json_array_append_new(b->rows, row);
}

static const char *status_of(const json_t *row)
{
    return json_string_value(json_object_get(row, "status"));
}

/* CLI_DONE, or what the worst row means. */
static int run_rows(cli_bench *b)
{
    int result = CLI_DONE;
    uint64_t begin_ns = sl_now_ns();
    for (size_t i = 0; i < b->count && !cli_interrupted(); i++) {
        unsigned long throttled = throttle_count();
        json_t *peer = NULL;
        say_progress(b, i, begin_ns);
        for (int64_t s = 0; s < b->args->delay_s && !cli_interrupted(); s++)
            sleep(1);
        json_t *row = b->args->peer_dir != NULL ? cli_bench_beside_peer(&b->cases[i], &peer) : cli_bench_run_case(&b->cases[i], NULL);
        if (cli_interrupted() || strcmp(status_of(row), "interrupted") == 0) { /* half a row is none */
            json_decref(row);
            json_decref(peer);
            return CLI_INTERRUPTED;
        }
        warn_of_row(row, throttled);
        if (strcmp(status_of(row), "ok") != 0) {
            cli_progress_end();
            fprintf(stderr, "sluice: row %zu: %s\n", i + 1, json_string_value(json_object_get(row, "reason")));
            result = b->count == 1 && strcmp(status_of(row), "does not fit") == 0 ? CLI_NO_FIT : CLI_FAILED;
        }
        keep(b, row);
        if (peer != NULL)
            keep(b, peer);
    }
    return cli_interrupted() ? CLI_INTERRUPTED : result;
}

/* ---- the command ---- */

/* Rows go to stdout, or to PATH.partial, which takes its name when all, or all until Ctrl-C, are there. */
static sl_status open_output(cli_bench *b, char partial[4096], sl_error *err)
{
    const char *path = b->args->output;
    b->out = stdout;
    if (path == NULL)
        return SL_OK;
    if (!b->args->force && access(path, F_OK) == 0)
        return sl_fail(err, SL_INVALID, "%s: there is such a file; --force replaces it", path);
    if (snprintf(partial, 4096, "%s.partial", path) >= 4096)
        return sl_fail(err, SL_INVALID, "--output %.60s...: too long a name", path);
    b->out = fopen(partial, "we");
    return b->out != NULL ? SL_OK : sl_fail(err, SL_IO, "%s: cannot be written: %s", partial, strerror(errno));
}

static sl_status close_output(cli_bench *b, const char *partial, sl_error *err)
{
    bool written = fflush(b->out) == 0 && !ferror(b->out);
    if (b->out == stdout)
        return written ? SL_OK : sl_fail(err, SL_IO, "standard output did not take the rows");
    written &= fsync(fileno(b->out)) == 0;
    written &= fclose(b->out) == 0;
    if (!written || rename(partial, b->args->output) != 0) {
        unlink(partial);
        return sl_fail(err, SL_IO, "%s: cannot be written: %s", b->args->output, strerror(errno));
    }
    return SL_OK;
}

static sl_status check_usage(cli_bench *b, sl_error *err)
{
    SL_TRY(cli_bench_check_format(b->args, err));
    if (b->args->io != NULL && (b->args->peer_dir != NULL || b->args->trace != NULL || b->args->record != NULL))
        return sl_fail(err, SL_INVALID, "%s has no meaning with --io",
                       b->args->peer_dir != NULL ? "--peer-dir"
                       : b->args->trace != NULL  ? "--trace"
                                                 : "--record");
    if (b->args->io == NULL && cli_find_flag("-m", BENCH) != NULL && cli_bench_values(b, "-m") == NULL)
        return sl_fail(err, SL_INVALID, "no model; -m FILE names one (or --io PATH a file to read)");
    if (b->args->io == NULL && (cli_bench_values(b, "--io-size") != NULL || cli_bench_values(b, "--io-order") != NULL))
        return sl_fail(err, SL_INVALID, "--io-size and --io-order have no meaning without --io");
    return SL_OK;
}

/* A trace or a record is of one engine. Their files are looked at now, not behind the warm-up. */
static sl_status check_observed(const cli_bench *b, sl_error *err)
{
    sl_engine_options unused = {0};
    const char *flag = b->args->trace != NULL ? "--trace" : "--record";
    if ((b->args->trace != NULL || b->args->record != NULL) && b->count > 1)
        return sl_fail(err, SL_INVALID, "%s holds one test, and this is %zu; one of -p, -n and -pg, and single values, make one", flag,
                       b->count);
    if ((b->args->trace != NULL || b->args->record != NULL) && b->args->peer_dir != NULL)
        return sl_fail(err, SL_INVALID, "%s has no meaning with --peer-dir", flag);
    return cli_observe_options(b->args, &unused, err);
}

static int run_tests(cli_bench *b)
{
    char partial[4096] = "", program[4096];
    sl_error err = {0};
    sl_status status = make_cases(b, &err);
    if (status == SL_OK)
        status = check_observed(b, &err);
    if (status == SL_OK && b->args->peer_dir != NULL)
        status = cli_bench_find_peer(b->args->peer_dir, program, &err);
    if (status == SL_OK)
        status = announce(b, &err);
    if (status == SL_OK)
        status = open_output(b, partial, &err);
    if (status != SL_OK)
        return cli_fail(b->args, &err);
    cli_bench_print_head(b);
    int result = run_rows(b);
    cli_progress_end();
    cli_bench_print_foot(b);
    if (close_output(b, partial, &err) != SL_OK)
        return cli_fail(b->args, &err);
    return result;
}

int cli_bench_main(const cli_args *args)
{
    cli_args defaults = *args;
    defaults.repetitions = args->repetitions > 0 ? args->repetitions : 5;
    defaults.io_seconds = args->io_seconds > 0 ? args->io_seconds : 1;
    cli_bench b = {.args = &defaults, .rows = json_array(), .out = stdout};
    sl_error err = {0};
    cli_catch_interrupt(NULL);
    sl_status status = cli_bench_axes(&b, &err);
    if (status == SL_OK)
        status = check_usage(&b, &err);
    int result = status != SL_OK ? cli_fail(&defaults, &err) : defaults.io != NULL ? cli_bench_io(&b) : run_tests(&b);
    cli_bench_free_axes(&b);
    free(b.cases);
    json_decref(b.rows);
    return result;
}
