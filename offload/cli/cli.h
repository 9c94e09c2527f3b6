/* offload/cli/cli.h: what the commands of the program share.
 *
 *   main.c       dispatch, exit status
 *   flags.c      commands and flags as tables; from them options.c (parsing), help.c (--help, the man page), completion.c; the words that flags
 *                take are words.c's, what was meant by a name that is not known hints.c's
 *   output.c     JSON and errors, sizes, colour          progress.c   how far long work is       status.c   a line of the terminal while text is generated
 *   interrupt.c  Ctrl-C                                  observe.c    --trace and --record       drafting.c drafts and checks, as flags say
 *   *_report.c   what a run says at its end of sets of neurons, parts of the cache, where it lies
 *   run.c chat.c (see chat_state.h) perplexity.c tokenize.c info.c bench.c (see bench.h) eval.c (see eval.h) report.c (see report.h) plan.c (see
 *   plan_state.h) replay.c prune.c calibrate.c doctor.c    one command each; make_model.c: synth and widen; pack.c: pack and unpack
 *   machine_file.h, machine_here.h   the machine that a plan is for
 *
 * stdout carries a command's result (text, or one JSON value with --json), stderr what is said to people. */
#ifndef SL_OFFLOAD_CLI_H
#define SL_OFFLOAD_CLI_H

#include "offload/cli/words.h"
#include "offload/sluice.h"

#include <jansson.h>

enum { CLI_DONE = 0, CLI_FAILED = 1, CLI_USAGE = 2, CLI_NO_FIT = 3, CLI_INTERRUPTED = 130 };

#define CLI_STOPS_MAX    16
#define CLI_OPERANDS_MAX 16
#define CLI_STOPS_MAX    16
#define CLI_LISTS_MAX    64

typedef struct cli_list { /* a flag whose values are swept, as it was given */
    const struct cli_flag *flag;
    const char *text;
} cli_list;

typedef struct cli_args {
    const char *command;
    const char *operand[CLI_OPERANDS_MAX]; /* arguments that belong to no flag */
    int operands;
    const char *model, *prompt, *file, *system, *chat_template, *output, *isa, *io_engine, *cache_type_k, *cache_type_v, *kv_spill,
        *kv_host, *shape, *type, *sparsity, *predictor, *late, *order, *zeros, *draft, *drafter, *accept, *tree, *sparq_reallocate,
        *sparq_select, *modes, *kind, *svg, *title, *device, *trace, *record, *policies, *caches, *links, *ram_budgets, *machine, *method,
        *pattern, *layers, *session, *early_exit;
    const char *stop[CLI_STOPS_MAX];
    size_t stops;
    const char *rates; /* of prune */
    uint64_t ram_budget_bytes, kv_memory_bytes, predictor_bytes, throttle_Bps, seed, trace_buffer_bytes, vram_budget_bytes;
    cli_list list[CLI_LISTS_MAX]; /* of bench: flags with several values */
    size_t lists;
    const char *format, *peer_dir, *io;
    int64_t repetitions, delay_s, gpu_layers;
    double io_seconds;
    bool no_warmup, progress, breakdown;
    int64_t context, predict, batch, threads, io_depth, top_k, repeat_last_n, chunks, score_last, factor, tokens, tree_rows, logprobs,
        sparq_k, sparq_r, sparq_local, fewshot, limit, exit_first, exit_every, exit_shortlist; /* the last two: -1 when not given */
    double temperature, top_p, min_p, repeat_penalty, density, tau, tau_temperature, least_chance, neurons,
        cpu_share;                  /* the last four: -1 when not given */
    double advance, exit_agreement; /* 0 when not given */
    bool no_kv_offload, json, verbose, chat, ignore_eos, buffered, no_bos, no_parse_special, decode, ids, help, seed_given, force, verify,
        uniform_density, lower_budget, quick, skip_broken, no_refit;
} cli_args;

/* Parses argv[1..]; on failure *err says what is wrong with which flag. Pure but for *out. */
SL_MUST_USE sl_status cli_parse(int argc, char **argv, cli_args *out, sl_error *err);
void cli_print_help(const char *command_name, void *stream); /* NULL: the program's; stream is a FILE * */
void cli_print_man(void);                                    /* roff on stdout */
void cli_print_completion(const char *shell);                /* "bash" or "zsh" */
bool cli_is_command(const char *name);
SL_MUST_USE sl_status cli_check_command(const char *name,
                                        sl_error *err); /* SL_INVALID says that there is none of this name, and what was meant */
/* Sets one of the flags that may change in a conversation: "temp", "0.5". */
SL_MUST_USE sl_status cli_set(cli_args *args, const char *key, const char *value, sl_error *err);

int cli_run(const cli_args *args);
int cli_chat_main(const cli_args *args);
int cli_perplexity(const cli_args *args);
int cli_tokenize(const cli_args *args);
int cli_info(const cli_args *args);
int cli_synth(const cli_args *args);
int cli_widen(const cli_args *args);
int cli_pack(const cli_args *args);
int cli_unpack(const cli_args *args);
int cli_calibrate(const cli_args *args);
int cli_doctor(const cli_args *args);
int cli_eval_main(const cli_args *args);
int cli_report(const cli_args *args);
int cli_replay(const cli_args *args);
int cli_bench_main(const cli_args *args);
int cli_plan(const cli_args *args);
int cli_prune(const cli_args *args);

/* Engine options as the flags say; notes are printed to stderr and kept for --json in `warnings` (an array, owned by the caller). */
SL_MUST_USE sl_status cli_engine_options(const cli_args *args, json_t *warnings, sl_engine_options *out, sl_error *err);

/* --trace and --record: what they ask of the engine; a file that is there or cannot be written is said now. */
SL_MUST_USE sl_status cli_observe_options(const cli_args *args, sl_engine_options *options, sl_error *err);
/* Writes what they ask for, also of a run that was interrupted; what it gives is `result`, or CLI_FAILED. NULL engine: nothing. */
int cli_write_observed(const cli_args *args, const sl_engine *engine, int result);
/* The trace alone, for whoever has several engines. */
SL_MUST_USE sl_status cli_write_trace(const sl_engine *engine, const char *path, sl_error *err);

/* Tells the user, and keeps it for --json in `warnings`. */
void cli_note(json_t *warnings, const char *line);
/* SL_INVALID where the output, --force or not, is the text that is read. */
SL_MUST_USE sl_status cli_check_output_spares_text(const char *output, const char *text, sl_error *err);
/* --early-exit as the flags say, and what drafts make of it. */
SL_MUST_USE sl_status cli_exit_options(const cli_args *args, sl_engine_options *out, sl_error *err);
SL_MUST_USE sl_status cli_exit_drafting(const cli_args *args, sl_engine_options *options, const sl_drafting *drafting, sl_error *err);
/* Whether nothing would be gained by leaving early, with the reason for people. Its layers, agreement and streamed bytes are what counts. */
#define CLI_EXIT_LINE 240
bool cli_exit_is_left_off(const sl_engine_info *info, char line[CLI_EXIT_LINE]);
/* Drafting as the flags say; what the engine has to know of it goes into `options`, whose sparsity is set. */
SL_MUST_USE sl_status cli_drafting_options(const cli_args *args, sl_engine_options *options, sl_drafting *out, sl_error *err);

/* Says the failure (JSON on stdout with --json, else one line on stderr) and gives the exit status that it means. */
int cli_fail(const cli_args *args, const sl_error *err);
/* Prints one JSON value; CLI_FAILED when stdout does not take it. Takes over `value`. */
int cli_print_json(json_t *value);
/* The end of a result that is text: CLI_FAILED, and said why, when stdout did not take all of it; without a word where its reader has gone. */
int cli_finish_text(void);
/* Text as JSON; bytes that are no UTF-8 become U+FFFD. */
json_t *cli_json_text(const char *text, size_t length);
/* The whole of FILE ("-": standard input); malloc'd with a NUL behind, the caller frees. */
SL_MUST_USE sl_status cli_read_file(const char *path, char **out, size_t *length, sl_error *err);

/* Says now that FILE, which is read later, is not there. NULL and "-" are fine. */
SL_MUST_USE sl_status cli_check_text(const char *path, sl_error *err);

/* Makes a file of `text`, whole or not at all; replaces one that is there. */
SL_MUST_USE sl_status cli_write_file(const char *path, const char *text, size_t length, sl_error *err);

json_t *cli_json_sparsity(const sl_engine *engine);
void cli_print_sparsity(const sl_engine *engine); /* a line for people, on stderr; nothing with sparsity off */

json_t *cli_json_sparq(const sl_engine *engine);
void cli_print_sparq(const sl_engine *engine); /* the same for attention to a part of the cache */

json_t *cli_json_early_exit(const sl_engine *engine);
void cli_print_early_exit(const sl_engine *engine); /* of tokens that left layers out; nothing where none could */

json_t *cli_json_kv(const sl_engine *engine);
void cli_print_kv(const sl_engine *engine); /* and for a cache that spills */

bool cli_has_isa(int isa, bool here); /* the instruction set (sl_isa) is built in; here: and runs here */
void cli_print_isas(bool here);       /* their names on stdout, a blank before each */
bool cli_terminal(void);              /* stderr is a terminal that can take back what it shows: TERM=dumb cannot */
bool cli_color(void);                 /* ... and NO_COLOR is not set */
size_t cli_columns(int fd);           /* of the terminal there; 0 where there is none, or it does not say */
/* A line that shows how a generation goes, on a terminal; nothing elsewhere. give_back may be called from a signal handler. */
void cli_status_begin(const sl_engine *engine);
void cli_status_token(size_t count);
void cli_status_end(void);
void cli_status_give_back(void);
/* A progress line on a terminal, with rate and time left; nothing elsewhere. cli_progress_end removes it. `what`: const char *; both are false after
 * Ctrl-C. Of bytes, or of whatever is counted. */
bool cli_progress(void *what, uint64_t done, uint64_t total);
bool cli_progress_bytes(void *what, uint64_t done_bytes, uint64_t total_bytes);
void cli_progress_end(void);
/* "1:05", "2:03:04": for what takes so many seconds. */
void cli_format_duration(double seconds, char out[24]);

void cli_catch_interrupt(sl_engine *engine); /* Ctrl-C interrupts this engine; NULL: only sets the flag */
bool cli_interrupted(void);
bool cli_terminated(void);       /* and that it was SIGTERM, which means the program and not what it is at */
void cli_forget_interrupt(void); /* Ctrl-C was answered: the next one is a first one */

#endif
