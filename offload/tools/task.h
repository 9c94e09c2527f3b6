/* offload/tools/task.h: an item of a task, what it takes to answer it, and whether the answer is right.
 *
 *   task.c        the judgement and the lengths: pure      task_run.c    an item on a session of the public API
 *   task_stats.c  intervals and tests: pure (task_stats.h)
 *
 * Three forms, as lm-evaluation-harness has them: the likeliest of several choices; a continuation, right where greedy decoding would give it;
 * a text that is generated greedily and compared. */
#ifndef SL_OFFLOAD_TOOLS_TASK_H
#define SL_OFFLOAD_TOOLS_TASK_H

#include "offload/sluice.h"

typedef enum sl_task_form { SL_TASK_CHOICE = 0, SL_TASK_CONTINUATION, SL_TASK_GENERATION } sl_task_form;
typedef enum sl_task_match {
    SL_MATCH_EXACT = 0, /* the whole text, without blanks around it */
    SL_MATCH_PREFIX,    /* what the text begins with */
    SL_MATCH_REGEX      /* found anywhere */
} sl_task_match;

enum { SL_TASK_TEXTS_MAX = 26, SL_TASK_STOPS_MAX = 8, SL_TASK_TOKENS = 32 };

/* All strings belong to the item. */
typedef struct sl_task_item {
    sl_task_form form;
    char *kind;
    char *context;   /* what the model is given */
    char *delimiter; /* stands between the context and a text: " " as a rule */
    char *texts[SL_TASK_TEXTS_MAX];
    size_t text_count;
    size_t gold;         /* of CHOICE: the right text */
    sl_task_match match; /* of GENERATION: each text is an answer that is right, or a pattern */
    char *stop[SL_TASK_STOPS_MAX];
    size_t stops;
    uint32_t max_tokens;
    const char *prefix; /* solved examples that go before the context; not the item's, may be NULL */
    const char *file;   /* where it comes from; not the item's */
    size_t line;
} sl_task_item;

void sl_task_free(sl_task_item *item); /* its strings; the struct is the caller's */

/* Whether a generated text is right. SL_INVALID where a pattern is wrong or costs too much. */
SL_MUST_USE sl_status sl_task_judge(const sl_task_item *item, const char *text, size_t length, bool *right, sl_error *err);
/* Characters of a text: lm-evaluation-harness' acc_norm divides a choice's log-likelihood by them, the delimiter not counted. */
size_t sl_task_characters(const char *text);
/* The choice of the largest value, the first of equal ones; normalised: of the largest value by length. */
size_t sl_task_best(const sl_task_item *item, const double *log_p, bool normalised);
/* Context, delimiter and text index, joined, behind the prefix; malloc'd. *context_bytes is what goes before the text, delimiter not included. */
char *sl_task_text(const sl_task_item *item, size_t index, size_t *context_bytes);

/* ---- running ---- */

typedef struct sl_task_outcome {
    bool right, right_norm; /* right_norm: of CHOICE; else as right */
    size_t picked, picked_norm;
    double log_p[SL_TASK_TEXTS_MAX]; /* of CHOICE and CONTINUATION */
    char *text;                      /* that was generated, or NULL; malloc'd, the caller frees it */
    size_t text_length;
} sl_task_outcome;

typedef struct sl_task_totals {
    uint64_t items;
    uint64_t tokens, reused_tokens; /* evaluated as prompts or for their likelihood; that were still there from the item before */
    uint64_t decoded_tokens;
    double prompt_s, decode_s; /* of the tokens; of the decoded ones, after each text's first */
    uint64_t bytes_read;
    uint64_t link_bytes; /* of weights, that crossed to a device */
} sl_task_totals;

typedef struct sl_task_runner {
    sl_engine *engine;
    sl_session *session;
    sl_drafting drafting; /* of generation */
    unsigned sparse;      /* flags of rows that are scored: SL_EVAL_SPARSE, SL_EVAL_SPARQ, SL_EVAL_EARLY */
    bool coarse;          /* sets come from all that was evaluated: a context is only used again whole */
    sl_task_totals totals;
    sl_engine_info info;
    sl_token_id *seen; /* dense rows of the session */
    size_t seen_count;
} sl_task_runner;

/* Logits of several rows at once want options.draft_max; one row at a time works too. */
#define SL_TASK_ROWS 15

/* What the longest item needs of a context, tokens of one text and what may be generated. The engine may be open for its vocabulary only. SL_INVALID
 * names what is wrong with the item: a context without tokens. */
SL_MUST_USE sl_status sl_task_context(sl_engine *engine, const sl_task_item *item, uint32_t *out, sl_error *err);

SL_MUST_USE sl_status sl_task_open(sl_engine *engine, unsigned sparse, const sl_drafting *drafting, sl_task_runner *out, sl_error *err);
void sl_task_close(sl_task_runner *runner);
/* Answers one item. The last token of a context is decoded as what follows it is: with sets of neurons where the runner has them, so that choices of
 * one token are subject to them, too. */
SL_MUST_USE sl_status sl_task_run(sl_task_runner *runner, const sl_task_item *item, sl_task_outcome *out, sl_error *err);

#endif
