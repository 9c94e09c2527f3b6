/* bench/bench_pass.c: how long one pass over a model's weights takes, by rows: what a check of a few drafted tokens costs beside a plain step.
 *
 *     bench_pass MODEL [BUDGET] [ROUNDS] [MOST_ROWS]        an empty BUDGET is the default one
 *
 * Passes of 1 to MOST_ROWS (512) rows alternate, so that drift meets all alike; the table gives median and range, and each median over that of
 * one row. The cache is emptied before each pass, so that attention costs the same in all rounds. */
#include "core/os.h"
#include "offload/sluice.h"

#include <stdio.h>
#include <stdlib.h>

#define SIZES      7
#define ROUNDS_MAX 101
#define ROWS_MAX   512

static const uint32_t sizes[SIZES] = {1, 2, 4, 8, 16, 64, ROWS_MAX};

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int fail(const sl_error *err)
{
    fprintf(stderr, "bench_pass: %s\n", err->message);
    return 1;
}

static sl_status time_pass(sl_session *session, uint32_t rows, double *seconds, sl_error *err)
{
    sl_token_id tokens[ROWS_MAX];
    for (uint32_t i = 0; i < rows; i++)
        tokens[i] = (sl_token_id)(100 + i);
    SL_TRY(sl_session_truncate(session, 0, err));
    uint64_t start = sl_now_ns();
    SL_TRY(sl_session_eval(session, tokens, rows, SL_EVAL_LOGITS | SL_EVAL_MORE, NULL, err));
    *seconds = (double)(sl_now_ns() - start) * 1e-9;
    return SL_OK;
}

static sl_status measure(sl_session *session, int rounds, int count, double times[SIZES][ROUNDS_MAX], sl_error *err)
{
    double unused;
    SL_TRY(time_pass(session, 64, &unused, err)); /* fills what stays in memory */
    for (int round = 0; round < rounds; round++)
        for (int s = 0; s < count; s++)
            SL_TRY(time_pass(session, sizes[s], &times[s][round], err));
    return SL_OK;
}

static void print_table(const sl_engine *engine, int rounds, int count, double times[SIZES][ROUNDS_MAX])
{
    sl_engine_info info;
    sl_engine_describe(engine, &info);
    printf("%s, %u threads, %.2f GB of weights, %.2f GB of them streamed, %d rounds\n\n| rows | ms (range) | over one row | tokens/s "
           "|\n|---|---|---|---|\n",
           info.isa, info.threads, (double)info.weight_bytes * 1e-9, (double)info.streamed_bytes * 1e-9, rounds);
    for (int s = 0; s < count; s++)
        qsort(times[s], (size_t)rounds, sizeof(double), compare);
    for (int s = 0; s < count; s++)
        printf("| %u | %.1f (%.1f..%.1f) | %.2f x | %.1f |\n", sizes[s], 1e3 * times[s][rounds / 2], 1e3 * times[s][0],
               1e3 * times[s][rounds - 1], times[s][rounds / 2] / times[0][rounds / 2], sizes[s] / times[s][rounds / 2]);
}

int main(int argc, char **argv)
{
    static double times[SIZES][ROUNDS_MAX];
    sl_error err = {0};
    sl_engine *engine;
    sl_session *session;
    int rounds = argc > 3 ? atoi(argv[3]) : 9;
    unsigned long most_rows = argc > 4 ? strtoul(argv[4], NULL, 10) : ROWS_MAX;
    int count = 0;
    while (count < SIZES && sizes[count] <= most_rows)
        count++;
    sl_engine_options options = {.model_path = argc > 1 ? argv[1] : NULL, .context = 512, .batch = ROWS_MAX};
    if (argc < 2 || rounds < 1 || rounds > ROUNDS_MAX || count == 0 ||
        (argc > 2 && argv[2][0] != '\0' && !sl_parse_size(argv[2], &options.ram_budget_bytes))) {
        fprintf(stderr, "usage: bench_pass MODEL [BUDGET] [ROUNDS up to %d] [MOST_ROWS]\n", ROUNDS_MAX);
        return 2;
    }
    if (sl_engine_open(&options, &engine, &err) != SL_OK)
        return fail(&err);
    sl_status status = sl_session_open(engine, &session, &err);
    if (status == SL_OK) {
        status = measure(session, rounds, count, times, &err);
        if (status == SL_OK)
            print_table(engine, rounds, count, times);
        sl_session_close(session);
    }
    sl_engine_close(engine);
    return status == SL_OK ? 0 : fail(&err);
}
