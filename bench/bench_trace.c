/* bench/bench_trace.c: what looking costs: passes of one row with a trace, or with a breakdown, beside the same passes without.
 *
 *     bench_trace MODEL [ROUNDS] [THREADS]        0 threads: one for each core
 *
 * In one process, for differences of a few parts in a hundred drown between two runs: a round is one pass of each kind at the same position, in an order
 * that turns from round to round, and what counts is the median over the rounds of a kind's time over that without; and, where others disturb
 * most rounds, the tenth of the passes that is fastest, of both. The trace's memory is fresh, as in a run. Tokens are not looked at: that tracing changes none is tested elsewhere (tests/cli_trace.sh). */
#include "core/os.h"
#include "offload/engine.h"

#include <stdio.h>
#include <stdlib.h>

#define POSITION    64
#define TRACE_BYTES ((uint64_t)64 << 20)

enum { OFF, TRACED, MEASURED, TWICE, KINDS }; /* TWICE: without, again: what the method itself is off by */

typedef struct bench {
    sl_engine *engine;
    sl_session *session;
    sl_breakdown breakdown;
    double *seconds[KINDS]; /* [rounds] */
    int rounds;
} bench;

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int fail(const sl_error *err)
{
    fprintf(stderr, "bench_trace: %s\n", err->message);
    return 1;
}

static sl_status time_pass(bench *b, int kind, sl_trace *trace, double *seconds, sl_error *err)
{
    static const sl_token_id token = 100;
    SL_TRY(sl_session_truncate(b->session, POSITION, err));
    b->engine->trace = kind == TRACED ? trace : NULL;
    sl_threads_trace(b->engine->threads, b->engine->trace);
    b->engine->options.breakdown = kind == MEASURED ? &b->breakdown : NULL;
    uint64_t start = sl_now_ns();
    SL_TRY(sl_session_eval(b->session, &token, 1, SL_EVAL_LOGITS | SL_EVAL_MORE, NULL, err));
    *seconds = (double)(sl_now_ns() - start) * 1e-9;
    return SL_OK;
}

static sl_status measure(bench *b, sl_error *err)
{
    sl_token_id text[POSITION];
    sl_trace *trace = b->engine->trace;
    for (int i = 0; i < POSITION; i++)
        text[i] = 100 + i;
    sl_status status = sl_session_eval(b->session, text, POSITION, SL_EVAL_MORE, NULL, err);
    for (int round = 0; round < b->rounds && status == SL_OK; round++)
        for (int i = 0; i < KINDS && status == SL_OK; i++) {
            int kind = (i + round) % KINDS;
            status = time_pass(b, kind, trace, &b->seconds[kind][round], err);
        }
    b->engine->trace = trace; /* the engine's to free */
    return status;
}

static void print_table(bench *b, double *ratio)
{
    static const char *const names[KINDS] = {"nothing", "a trace", "a breakdown", "nothing, again"};
    size_t n = (size_t)b->rounds;
    double low[KINDS], middle[KINDS], tenth[KINDS];
    for (int kind = 1; kind < KINDS; kind++) {
        for (size_t i = 0; i < n; i++)
            ratio[i] = b->seconds[kind][i] / b->seconds[OFF][i];
        qsort(ratio, n, sizeof *ratio, compare);
        low[kind] = ratio[n / 4], middle[kind] = ratio[n / 2];
    }
    printf("%u threads, %zu rounds, %llu events of a pass\n\n| with | over none, median of rounds (quarter) | of the fastest tenths | ms, "
           "fastest "
           "tenth |\n|---|---|---|---|\n",
           sl_threads_count(b->engine->threads), n, (unsigned long long)(b->engine->trace->lanes[0].written / n));
    for (int kind = 0; kind < KINDS; kind++) {
        qsort(b->seconds[kind], n, sizeof(double), compare);
        tenth[kind] = b->seconds[kind][n / 20]; /* its middle */
        if (kind != OFF)
            printf("| %s | %.4f (%.4f) | %.4f | %.3f |\n", names[kind], middle[kind], low[kind], tenth[kind] / tenth[OFF],
                   1e3 * tenth[kind]);
    }
}

int main(int argc, char **argv)
{
    sl_error err = {0};
    bench b = {.rounds = argc > 2 ? atoi(argv[2]) : 1000};
    sl_engine_options options = {.model_path = argc > 1 ? argv[1] : NULL,
                                 .context = 512,
                                 .trace_bytes = TRACE_BYTES,
                                 .threads = argc > 3 ? (uint32_t)atoi(argv[3]) : 0};
    if (argc < 2 || b.rounds < 1 || b.rounds > 1000000) {
        fprintf(stderr, "usage: bench_trace MODEL [ROUNDS] [THREADS]\n");
        return 2;
    }
    double *all = calloc((size_t)b.rounds * (KINDS + 1), sizeof *all);
    if (all == NULL)
        return 1;
    for (int kind = 0; kind < KINDS; kind++)
        b.seconds[kind] = all + (size_t)kind * (size_t)b.rounds;
    if (sl_engine_open(&options, &b.engine, &err) != SL_OK)
        return fail(&err);
    sl_status status = sl_session_open(b.engine, &b.session, &err);
    if (status == SL_OK)
        status = measure(&b, &err);
    if (status == SL_OK)
        print_table(&b, all + (size_t)KINDS * (size_t)b.rounds);
    sl_session_close(b.session);
    sl_engine_close(b.engine);
    free(all);
    return status == SL_OK ? 0 : fail(&err);
}
