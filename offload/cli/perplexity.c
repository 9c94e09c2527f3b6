/* offload/cli/perplexity.c: `sluice perplexity`: the text is tokenised once and cut into chunks of the context's length; each chunk starts from an
 * empty cache, and its second half is scored (as llama-perplexity does it, so that figures compare). */
#include "core/os.h"
#include "core/sampler.h"
#include "offload/cli/cli.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct score {
    const cli_args *args;
    sl_engine *engine;
    sl_session *session;
    sl_engine_info info;
    sl_token_id *tokens;
    size_t count;
    size_t chunk, first; /* tokens of a chunk; the first that is fed for its logits */
    double nll, squares;
    uint64_t scored;
    unsigned sparse; /* SL_EVAL_SPARSE, SL_EVAL_SPARQ and SL_EVAL_EARLY, as the options have it */
    /* With --early-exit, of the dense rows beside: */
    sl_token_id *dense; /* [chunk] the first token of each row */
    double dense_nll;
    uint64_t agreed;
} score;

static void add_rows(score *s, const float *logits, const sl_token_id *next, size_t rows)
{
    for (size_t i = 0; i < rows; i++) {
        double nll = -sl_log_probability(logits + i * s->info.vocab, s->info.vocab, next[i]);
        s->nll += nll;
        s->squares += nll * nll;
        s->scored++;
    }
}

static sl_token_id first_of(const float *logits, uint32_t vocab)
{
    uint32_t first = 0;
    for (uint32_t id = 1; id < vocab; id++)
        if (logits[id] > logits[first])
            first = id;
    return (sl_token_id)first;
}

/* The scored rows once more, all layers, to compare with; the session is back at the first of them then. */
static sl_status score_densely(score *s, const sl_token_id *tokens, sl_error *err)
{
    for (size_t at = s->first; at + 1 < s->chunk;) {
        size_t rows = s->chunk - 1 - at < s->info.batch ? s->chunk - 1 - at : s->info.batch;
        const float *logits;
        SL_TRY(sl_session_eval(s->session, tokens + at, rows, SL_EVAL_LOGITS, &logits, err));
        for (size_t i = 0; i < rows; i++) {
            s->dense[at + i] = first_of(logits + i * s->info.vocab, s->info.vocab);
            s->dense_nll -= sl_log_probability(logits + i * s->info.vocab, s->info.vocab, tokens[at + i + 1]);
        }
        at += rows;
    }
    return sl_session_truncate(s->session, (uint32_t)s->first, err);
}

/* As decoding would: row by row. */
static sl_status score_early(score *s, const sl_token_id *tokens, sl_error *err)
{
    SL_TRY(score_densely(s, tokens, err));
    for (size_t at = s->first; at + 1 < s->chunk; at++) {
        const float *logits;
        unsigned more = at + 2 < s->chunk ? SL_EVAL_MORE : 0;
        SL_TRY(sl_session_eval(s->session, tokens + at, 1, SL_EVAL_LOGITS | SL_EVAL_EARLY | more, &logits, err));
        s->agreed += first_of(logits, s->info.vocab) == s->dense[at];
        add_rows(s, logits, tokens + at + 1, 1);
    }
    return SL_OK;
}

/* With --sparsity or --sparq-k the first part of a chunk is a dense prompt, and the scored part runs as decoding would: each row with its own neurons,
 * and its own positions.
 * Rows [first, chunk - 1) predict their successors; the last token of a chunk has none. */
static sl_status score_chunk(score *s, const sl_token_id *tokens, sl_error *err)
{
    SL_TRY(sl_session_truncate(s->session, 0, err));
    if (s->first > 0)
        SL_TRY(sl_session_eval(s->session, tokens, s->first, 0, NULL, err));
    if ((s->sparse & SL_EVAL_EARLY) != 0)
        return score_early(s, tokens, err);
    for (size_t at = s->first; at + 1 < s->chunk;) {
        size_t rows = s->chunk - 1 - at < s->info.batch ? s->chunk - 1 - at : s->info.batch;
        const float *logits;
        SL_TRY(sl_session_eval(s->session, tokens + at, rows, SL_EVAL_LOGITS | s->sparse, &logits, err));
        add_rows(s, logits, tokens + at + 1, rows);
        at += rows;
    }
    return SL_OK;
}

static sl_status open_all(score *s, json_t *warnings, sl_error *err)
{
    sl_engine_options options;
    char *text;
    size_t length;
    SL_TRY(cli_engine_options(s->args, warnings, &options, err));
    if (s->args->file == NULL)
        return sl_fail(err, SL_INVALID, "no text; -f FILE names one");
    SL_TRY(cli_check_text(s->args->file, err));
    options.all_logits = true;
    s->sparse = (options.sparsity != SL_SPARSITY_OFF ? SL_EVAL_SPARSE : 0u) | (options.sparq_k > 0 ? SL_EVAL_SPARQ : 0u) |
                (options.early_exit != SL_EARLY_EXIT_OFF ? SL_EVAL_EARLY : 0u);
    if (options.context == 0)
        options.context = 512;
    SL_TRY(sl_engine_open(&options, &s->engine, err));
    cli_catch_interrupt(s->engine);
    sl_engine_describe(s->engine, &s->info);
    SL_TRY(cli_read_file(s->args->file, &text, &length, err));
    sl_status status = sl_engine_tokenize(s->engine, text, length, true, false, &s->tokens, &s->count, err);
    free(text);
    SL_TRY(status);
    s->chunk = s->info.context;
    s->first = s->chunk / 2;
    if (s->args->score_last != 0 && (size_t)s->args->score_last < s->chunk)
        s->first = s->chunk - 1 - (size_t)s->args->score_last;
    else if (s->args->score_last != 0)
        return sl_fail(err, SL_INVALID, "--score-last %lld: it must be below the chunk's %zu tokens", (long long)s->args->score_last,
                       s->chunk);
    if (s->count < s->chunk || s->chunk < 4)
        return sl_fail(err, SL_INVALID, "%s has %zu tokens; a chunk needs %zu (-c sets it, at least 4)", s->args->file, s->count, s->chunk);
    s->dense = malloc(s->chunk * sizeof *s->dense);
    if (s->dense == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for a chunk of %zu tokens", s->chunk);
    return sl_session_open(s->engine, &s->session, err);
}

static int report(const score *s, json_t *warnings)
{
    double mean = s->nll / (double)s->scored;
    double variance = s->squares / (double)s->scored - mean * mean;
    double error = exp(mean) * sqrt((variance > 0 ? variance : 0) / (double)s->scored);
    if (s->args->json) {
        json_t *value = json_pack("{s:f, s:f, s:f, s:I, s:I, s:s, s:O}", "perplexity", exp(mean), "perplexity_error", error, "nll_mean",
                                  mean, "tokens_scored", (json_int_t)s->scored, "context", (json_int_t)s->chunk, "isa", s->info.isa,
                                  "warnings", warnings);
        if ((s->sparse & SL_EVAL_SPARSE) != 0)
            json_object_set_new(value, "sparsity", cli_json_sparsity(s->engine));
        if ((s->sparse & SL_EVAL_SPARQ) != 0)
            json_object_set_new(value, "sparq", cli_json_sparq(s->engine));
        if ((s->sparse & SL_EVAL_EARLY) != 0) {
            json_object_set_new(value, "early_exit", cli_json_early_exit(s->engine));
            json_object_set_new(value, "top1_agreement", json_real((double)s->agreed / (double)s->scored));
            json_object_set_new(value, "dense_perplexity", json_real(exp(s->dense_nll / (double)s->scored)));
        }
        return cli_print_json(value);
    }
    cli_print_sparsity(s->engine);
    cli_print_sparq(s->engine);
    cli_print_early_exit(s->engine);
    if ((s->sparse & SL_EVAL_EARLY) != 0)
        printf("agreement with the last layer %.4f; dense perplexity %.4f\n", (double)s->agreed / (double)s->scored,
               exp(s->dense_nll / (double)s->scored));
    printf("perplexity %.4f +/- %.4f over %llu tokens, chunks of %zu\n", exp(mean), error, (unsigned long long)s->scored, s->chunk);
    return cli_finish_text();
}

static sl_status score_all(score *s, sl_error *err)
{
    size_t chunks = s->count / s->chunk;
    if (s->args->chunks > 0 && (size_t)s->args->chunks < chunks)
        chunks = (size_t)s->args->chunks;
    for (size_t i = 0; i < chunks; i++) {
        sl_token_id *chunk = s->tokens + i * s->chunk;
        if (s->info.bos >= 0)
            chunk[0] = s->info.bos; /* a chunk is a text of its own */
        SL_TRY(score_chunk(s, chunk, err));
        cli_progress("scoring", i + 1, chunks);
    }
    cli_progress_end();
    return SL_OK;
}

int cli_perplexity(const cli_args *args)
{
    score s = {.args = args};
    sl_error err = {0};
    json_t *warnings = json_array();
    sl_status status = open_all(&s, warnings, &err);
    if (status == SL_OK)
        status = score_all(&s, &err);
    int result = cli_write_observed(args, s.session != NULL ? s.engine : NULL,
                                    status == SL_OK ? report(&s, warnings) : cli_fail(args, &err));
    cli_catch_interrupt(NULL);
    sl_session_close(s.session);
    sl_engine_close(s.engine);
    free(s.tokens);
    free(s.dense);
    json_decref(warnings);
    return result;
}
