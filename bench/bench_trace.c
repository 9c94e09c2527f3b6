/* bench/bench_trace.c: which bundles a text needs, token by token, as a trace for bench_bundle_policy.
 *
 *   bench_trace MODEL TEXT [TOKENS [DENSITY]] > trace        MODEL is packed and calibrated
 *
 * The first PROMPT tokens of the text are a dense prompt, the next TOKENS (400) run as decoding would, with the stored predictor at DENSITY (0.3).
 * Each line is a layer's number and the places of its set. */
#include "offload/engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PROMPT  32
#define CONTEXT 1024
#define BUDGET  ((uint64_t)16 << 30)

typedef struct tracer {
    sl_engine *engine;
    bool *wanted; /* [place] */
    bool on;
} tracer;

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "bench_trace: %s\n", what);
    exit(1);
}

static void check(sl_status status, const sl_error *err)
{
    if (status != SL_OK)
        die(err->message);
}

/* The observer of feed-forward inputs: one row at a time here. */
static void see(void *ctx, uint32_t layer, const float *x, uint32_t rows)
{
    tracer *t = ctx;
    sli_sparsity *s = &t->engine->sparsity;
    const sli_bundled_layer *b = sli_bundled_of(&t->engine->bundled, layer);
    if (!t->on || b == NULL || rows != 1)
        return;
    const uint32_t *members = sli_sparsity_predict(s, layer, x, 0);
    memset(t->wanted, 0, s->ff * sizeof *t->wanted);
    for (uint32_t i = 0; i < s->keep[layer]; i++)
        t->wanted[b->place_of[members[i]]] = true;
    printf("%u", layer);
    for (uint32_t place = 0; place < s->ff; place++)
        if (t->wanted[place])
            printf(" %u", place);
    putchar('\n');
}

static char *read_text(const char *path, size_t *bytes)
{
    const size_t most = 256 << 10;
    char *text = malloc(most);
    FILE *file = fopen(path, "rb");
    if (text == NULL || file == NULL)
        die("the text cannot be read");
    *bytes = fread(text, 1, most, file);
    fclose(file);
    return text;
}

int main(int argc, char **argv)
{
    if (argc < 3)
        die("usage: bench_trace MODEL TEXT [TOKENS [DENSITY]]");
    uint32_t tokens = argc > 3 ? (uint32_t)strtoul(argv[3], NULL, 10) : 400;
    sl_engine_options options = {.model_path = argv[1],
                                 .ram_budget_bytes = BUDGET,
                                 .context = CONTEXT,
                                 .sparsity = SL_SPARSITY_FINE,
                                 .density = argc > 4 ? strtod(argv[4], NULL) : 0.3};
    sl_error err = {0};
    tracer t = {0};
    sl_session *session;
    sl_token_id *ids;
    size_t bytes, count;
    char *text = read_text(argv[2], &bytes);
    check(sl_engine_open(&options, &t.engine, &err), &err);
    check(sl_session_open(t.engine, &session, &err), &err);
    check(sl_engine_tokenize(t.engine, text, bytes, true, false, &ids, &count, &err), &err);
    if (tokens == 0 || PROMPT + tokens > CONTEXT || PROMPT + tokens > count)
        die("that many tokens are not there: at most 992, and no more than the text has");
    t.wanted = calloc(t.engine->model->ff, sizeof *t.wanted);
    if (t.wanted == NULL)
        die("out of memory");
    t.engine->observer = (sli_observer){see, &t};
    check(sl_session_eval(session, ids, PROMPT, 0, NULL, &err), &err);
    t.on = true;
    for (uint32_t i = 0; i < tokens; i++)
        check(sl_session_eval(session, ids + PROMPT + i, 1, SL_EVAL_SPARSE, NULL, &err), &err);
    sl_session_close(session);
    sl_engine_close(t.engine);
    free(t.wanted);
    free(ids);
    free(text);
    return 0;
}
