/* offload/cli/eval.h: `sluice eval`: tasks in JSON lines, answered in one or several modes, side by side.
 *
 *   eval.c         the command: modes one after the other      eval_tasks.c   lines into items, from a file
 *   eval_shapes.c  one line: whose shape it is, what it asks   eval_report.c  the table, --json, a line for each item
 *
 * Scoring is offload/tools/task.h. */
#ifndef SL_OFFLOAD_CLI_EVAL_H
#define SL_OFFLOAD_CLI_EVAL_H

#include "offload/cli/cli.h"
#include "offload/tools/task.h"

/* One JSON value as an item, whose strings are its own; SL_INVALID says what is wrong with it. `kind` is for lines that name none. */
SL_MUST_USE sl_status cli_task_parse(const json_t *line, const char *kind, sl_task_item *out, sl_error *err);

typedef struct cli_tasks {
    sl_task_item *items;
    size_t count, capacity;
    size_t skipped;  /* broken lines, with --skip-broken */
    size_t examples; /* items that became examples of others (--fewshot) */
    char **prefixes; /* of examples, by kind */
    size_t prefix_count;
    size_t bytes; /* of all texts */
} cli_tasks;

/* Reads all files as the flags say. A broken line is the end, or is told of and counted. */
SL_MUST_USE sl_status cli_tasks_read(const cli_args *args, json_t *warnings, cli_tasks *out, sl_error *err);
/* The text of a file as items, behind those that are there; pure but for *out and the warnings. */
SL_MUST_USE sl_status cli_tasks_parse(const char *file, const char *text, size_t length, bool skip_broken, json_t *warnings, cli_tasks *out,
                                      sl_error *err);
void cli_tasks_free(cli_tasks *tasks);

enum { CLI_EVAL_DENSE = 0, CLI_EVAL_SPARSE, CLI_EVAL_CORRECTED, CLI_EVAL_MODES };
extern const char *const cli_eval_modes[CLI_EVAL_MODES];

typedef struct cli_eval_mode {
    bool asked;
    sl_task_outcome *outcomes; /* [items]; where `done` */
    bool *done;                /* not: this mode has no answer of its own */
    sl_task_totals totals;
    uint64_t bytes_resident, peak_rss_bytes, ram_budget_bytes;
    json_t *sparsity, *sparq, *early_exit; /* as run and perplexity tell it, or NULL */
    sl_early_exit_stats early;
} cli_eval_mode;

typedef struct cli_eval {
    const cli_args *args;
    json_t *warnings;
    cli_tasks tasks;
    cli_eval_mode modes[CLI_EVAL_MODES];
    char how[CLI_EVAL_MODES][256]; /* "coarse 0.5, 8 drafted, threshold 0.1" */
    uint32_t context;
    const char *isa;
    double seconds;
} cli_eval;

/* Indices of the kinds' first items, in order of appearance; malloc'd. */
size_t *cli_eval_kinds(const cli_tasks *tasks, size_t *count);
int cli_eval_report(const cli_eval *e);
/* A line of JSON for each item; malloc'd. NULL where memory is out. */
char *cli_eval_lines(const cli_eval *e, size_t *length);

#endif
