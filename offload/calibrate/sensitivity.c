/* offload/calibrate/sensitivity.c: see sensitivity.h. */
#include "offload/calibrate/sensitivity.h"
#include "offload/engine.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONTEXT_ROWS 128 /* dense rows that precede */
#define SCORED_ROWS  64

/* logits become logarithms of probabilities. */
static void to_log_probabilities(float *logits, uint32_t vocab)
{
    float most = logits[0];
    double sum = 0;
    for (uint32_t i = 1; i < vocab; i++)
        most = logits[i] > most ? logits[i] : most;
    for (uint32_t i = 0; i < vocab; i++)
        sum += exp((double)(logits[i] - most));
    float log_sum = most + (float)log(sum);
    for (uint32_t i = 0; i < vocab; i++)
        logits[i] -= log_sum;
}

static double divergence(const float *dense, float *logits, uint32_t vocab)
{
    double sum = 0;
    to_log_probabilities(logits, vocab);
    for (uint32_t i = 0; i < vocab; i++)
        sum += exp((double)dense[i]) * ((double)dense[i] - (double)logits[i]);
    return sum;
}

typedef struct measuring {
    sl_session *session;
    const sl_token_id *tokens;
    uint32_t rows, vocab;
    float *dense; /* [rows][vocab] */
    float *other; /* [vocab] */
} measuring;

/* The rows behind the context, dense or sparse; what comes out is compared with m->dense, or becomes it. */
static sl_status run_rows(const measuring *m, bool sparse, double *mean, sl_error *err)
{
    const float *logits;
    SL_TRY(sl_session_truncate(m->session, CONTEXT_ROWS, err));
    SL_TRY(sl_session_eval(m->session, m->tokens + CONTEXT_ROWS, m->rows, SL_EVAL_LOGITS | (sparse ? SL_EVAL_SPARSE : 0u), &logits, err));
    *mean = 0;
    for (uint32_t r = 0; r < m->rows; r++) {
        float *to = sparse ? m->other : m->dense + (size_t)r * m->vocab;
        memcpy(to, logits + (size_t)r * m->vocab, m->vocab * sizeof *to);
        if (sparse)
            *mean += divergence(m->dense + (size_t)r * m->vocab, to, m->vocab) / m->rows;
        else
            to_log_probabilities(to, m->vocab);
    }
    return SL_OK;
}

static sl_status measure_layers(sl_engine *engine, const measuring *m, const sl_tool_watch *watch, float *kl, sl_error *err)
{
    const sl_model *model = engine->model;
    double mean;
    for (uint32_t at = 0; at < CONTEXT_ROWS; at += SCORED_ROWS)
        SL_TRY(sl_session_eval(m->session, m->tokens + at, SCORED_ROWS, 0, NULL, err));
    SL_TRY(run_rows(m, false, &mean, err));
    for (uint32_t layer = 0; layer < model->layers; layer++) {
        for (uint32_t i = 0; i < model->layers; i++)
            engine->sparsity.keep[i] = i == layer ? sli_sparsity_keep(model->ff, SLI_SENSITIVITY_DENSITY) : model->ff;
        SL_TRY(run_rows(m, true, &mean, err));
        kl[layer] = mean > 0 ? (float)mean : 0.0f;
        if (watch->progress != NULL && !watch->progress(watch->ctx, layer + 1, model->layers))
            return sl_fail(err, SL_INTERRUPTED, "interrupted");
    }
    return SL_OK;
}

static sl_status leave_out(const sl_engine_options *options, const char *why)
{
    char line[160];
    snprintf(line, sizeof line, "how sensitive the layers are is not measured (%s); all will have the same density", why);
    if (options->note != NULL)
        options->note(options->note_ctx, line);
    return SL_OK;
}

sl_status sli_sensitivity(const sl_engine_options *options, const sl_token_id *tokens, size_t count, const sl_tool_watch *watch,
                          const sl_model *model, float *kl, sl_error *err)
{
    sl_engine_options own = *options;
    sl_engine *engine = NULL;
    measuring m = {.tokens = tokens, .rows = SCORED_ROWS};
    uint64_t logits_bytes = (uint64_t)(SCORED_ROWS + 1) * model->vocab * sizeof(float);
    memset(kl, 0, model->layers * sizeof *kl);
    if (count < CONTEXT_ROWS + SCORED_ROWS || options->context < CONTEXT_ROWS + SCORED_ROWS)
        return leave_out(options, "the text or the context is too short");
    if (own.ram_budget_bytes > logits_bytes)
        own.ram_budget_bytes -= logits_bytes;
    own.context = CONTEXT_ROWS + SCORED_ROWS;
    own.batch = SCORED_ROWS;
    own.all_logits = true;
    own.sparsity = SL_SPARSITY_FINE;
    own.predictor = SL_PREDICTOR_ORACLE;
    own.density = 1;
    own.note = NULL; /* it was all said when the text was read */
    sl_status status = sl_engine_open(&own, &engine, err);
    if (status == SL_NO_BUDGET)
        return leave_out(options, "the budget has no room for it");
    SL_TRY(status);
    m.vocab = engine->model->vocab;
    m.dense = malloc((size_t)m.rows * m.vocab * sizeof *m.dense);
    m.other = malloc(m.vocab * sizeof *m.other);
    if (m.dense == NULL || m.other == NULL)
        status = sl_fail(err, SL_NO_MEMORY, "out of memory for logits");
    else
        status = sl_session_open(engine, &m.session, err);
    if (status == SL_OK)
        status = measure_layers(engine, &m, watch, kl, err);
    sl_session_close(m.session);
    sl_engine_close(engine);
    free(m.dense);
    free(m.other);
    return status;
}
