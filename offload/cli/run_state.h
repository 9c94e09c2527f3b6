/* offload/cli/run_state.h: one `sluice run`, shared by what runs it (run.c) and what reports it (run_report.c). */
#ifndef SL_OFFLOAD_CLI_RUN_STATE_H
#define SL_OFFLOAD_CLI_RUN_STATE_H

#include "offload/cli/cli.h"

/* --session: what came from its file, and went there. */
typedef struct cli_kept {
    sl_session_file *file; /* NULL: none was asked for */
    uint32_t stored, reused;
    double load_s, save_s;
    bool saved;
    sl_session_saved last;
    char failure[SL_ERROR_MESSAGE_MAX]; /* of the save; "": none */
} cli_kept;

typedef struct cli_run_state {
    const cli_args *args;
    sl_engine *engine;
    sl_session *session;
    json_t *warnings;
    sl_token_id *prompt;
    size_t prompt_count;
    double load_s;
    uint64_t seed;
    int write_error; /* errno of standard output; 0: it takes all */
    sl_drafting drafting;
    cli_kept kept;
    bool all_layers; /* --early-exit is left off, as was told */
    sl_result result;
} cli_run_state;

/* As the flags say, or drawn. */
SL_MUST_USE sl_status cli_choose_seed(cli_run_state *s, sl_error *err);
/* What the flags ask of a generation, but for the prompt; text goes to stdout as it comes. */
sl_request cli_request(cli_run_state *s);
void cli_say_write_error(int error, const char *behind); /* errno of standard output */
/* Leaves --early-exit off where nothing is gained by it, and says so. */
void cli_settle_exit(cli_run_state *s);
/* When drafts by early exit have read more than decoding without them reads: a note. */
void cli_judge_exit_drafts(cli_run_state *s);
/* What the opened engine makes of s->drafting. */
SL_MUST_USE sl_status cli_settle_drafting(cli_run_state *s, sl_error *err);
json_t *cli_json_drafts(const cli_run_state *s);
void cli_print_drafts(const cli_run_state *s); /* nothing where nothing was checked */

void cli_print_summary(const cli_run_state *s);   /* for people, on stderr */
void cli_print_division(const sl_engine *engine); /* of the budget, with -v */
int cli_print_run_json(const cli_run_state *s);

/* --logprobs: what it asks of drafts and of memory; and what came of it. */
SL_MUST_USE sl_status cli_logprobs_options(cli_run_state *s, sl_engine_options *options, sl_error *err);
json_t *cli_json_logprobs(const cli_run_state *s);
void cli_print_logprobs(const cli_run_state *s);

/* --session, all no-ops without: opens the file of the opened engine; takes from it what `tokens` begin with, and says what they do not share; puts there
 * what the session has, with a note. A save that fails is said. */
SL_MUST_USE sl_status cli_session_open(cli_run_state *s, sl_error *err);
SL_MUST_USE sl_status cli_session_load(cli_run_state *s, const sl_token_id *tokens, size_t count, sl_error *err);
SL_MUST_USE sl_status cli_session_save(cli_run_state *s, const char *note, size_t note_length, sl_error *err);
json_t *cli_json_session(const cli_run_state *s);
void cli_print_session(const cli_run_state *s);

#endif
