/* offload/prune/sparsegpt.c: see sparsegpt.h. */
#include "offload/prune/sparsegpt.h"

#include <math.h>

/* One block of columns, worked on by all threads, each with rows of its own. */
typedef struct block {
    const sli_sparsegpt *s;
    const sli_prune_rule *rule;
    size_t rows, cols;
    size_t first, count; /* columns */
    float *w;            /* [rows][cols] */
} block;

static void share_of(const block *b, unsigned index, unsigned count, size_t *first, size_t *end)
{
    *first = b->rows * index / count;
    *end = b->rows * (index + 1) / count;
}

/* U's entry, of the block's rows. */
static float factor_at(const block *b, size_t i, size_t j)
{
    return b->s->panel[i * b->cols + b->first + j];
}

static void score_share(void *arg, unsigned index, unsigned count)
{
    const block *b = arg;
    size_t row, end;
    for (share_of(b, index, count, &row, &end); row < end; row++)
        for (size_t i = 0; i < b->count; i++) {
            float x = b->w[row * b->cols + b->first + i] / factor_at(b, i, i);
            b->s->scores[row * b->count + i] = x * x;
        }
}

/* Marks what goes with a score of -1, where the whole block is compared. */
static void choose(const block *b)
{
    float *scores = b->s->scores;
    size_t count = b->rows * b->count;
    sli_prune_cut cut = sli_prune_cut_of(scores, count, sli_prune_drop_count(count, b->rule->density));
    for (size_t i = 0; i < count; i++)
        if (sli_prune_cuts(&cut, scores[i]))
            scores[i] = -1;
}

/* The same for a group of a row that begins at column `at`, from the weights as they are by now. */
static void choose_group(const block *b, const float *w, size_t at, float *scores)
{
    float group[SLI_PRUNE_GROUP_MAX];
    bool goes[SLI_PRUNE_GROUP_MAX];
    for (uint32_t i = 0; i < b->rule->of; i++) {
        float x = w[at + i] / factor_at(b, at + i, at + i);
        group[i] = x * x;
    }
    sli_prune_group(b->rule, group, goes);
    for (uint32_t i = 0; i < b->rule->of; i++)
        scores[at + i] = goes[i] ? -1.0f : 0.0f;
}

static void prune_row(const block *b, size_t row)
{
    float *w = b->w + row * b->cols + b->first, *errors = b->s->errors + row * b->count, *scores = b->s->scores + row * b->count;
    for (size_t i = 0; i < b->count; i++) {
        if (b->rule->of != 0 && i % b->rule->of == 0)
            choose_group(b, w, i, scores);
        errors[i] = 0;
        if (scores[i] != -1)
            continue;
        const float *factor = b->s->panel + i * b->cols + b->first;
        float error = w[i] / factor[i];
        errors[i] = error;
        for (size_t j = i + 1; j < b->count; j++)
            w[j] -= error * factor[j];
        w[i] = 0;
    }
}

static void prune_share(void *arg, unsigned index, unsigned count)
{
    const block *b = arg;
    size_t row, end;
    for (share_of(b, index, count, &row, &end); row < end; row++)
        prune_row(b, row);
}

static void take_panel(const block *b, const sli_hessian *h)
{
    for (size_t i = 0; i < b->count; i++)
        for (size_t j = b->first + i; j < b->cols; j++)
            b->s->panel[i * b->cols + j] = (float)h->at[(b->first + i) * b->cols + j];
}

/* A block holds whole groups of a pattern. */
static size_t block_columns(const sli_prune_rule *rule)
{
    return rule->of == 0 ? SLI_SPARSEGPT_BLOCK : SLI_SPARSEGPT_BLOCK / rule->of * rule->of;
}

void sli_sparsegpt_prune(const sli_sparsegpt *s, const sli_hessian *h, const sli_prune_rule *rule, size_t rows, float *w)
{
    size_t n = h->n, columns = block_columns(rule);
    for (size_t at = 0; at < n; at += columns) {
        block b = {s, rule, rows, n, at, n - at < columns ? n - at : columns, w};
        take_panel(&b, h);
        if (rule->of == 0) {
            sl_threads_run(s->threads, score_share, &b);
            choose(&b);
        }
        sl_threads_run(s->threads, prune_share, &b);
        size_t behind = at + b.count;
        if (behind < n)
            sli_linear_multiply(s->linear, rows, n - behind, b.count, -1.0f, (sli_factor){s->errors, b.count, false},
                                (sli_factor){s->panel + behind, n, false}, 1.0f, w + behind, n);
    }
}
