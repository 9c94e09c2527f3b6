/* offload/cli/chat_state.h: one `sluice chat`, shared by the files that make it up.
 *
 *   chat.c         opening, the loop over turns, the exit status     chat_turn.c      a question in, an answer out; what is kept between them
 *   chat_input.c   messages from a terminal or a pipe                chat_command.c   /help and the others
 *   chat_save.c    a conversation in files
 *   line_editor.c  libedit: editing, history, signals */
#ifndef SL_OFFLOAD_CLI_CHAT_STATE_H
#define SL_OFFLOAD_CLI_CHAT_STATE_H

#include "offload/cli/run_state.h"

typedef struct cli_line_editor cli_line_editor;

typedef struct cli_chat {
    cli_args args;           /* a copy: /set changes it */
    cli_run_state run;       /* of which engine, session, seed and the last result are used */
    cli_line_editor *editor; /* NULL: standard input is read as it comes */
    char *pending;           /* what was read of standard input and not yet used */
    size_t pending_length, pending_capacity;
    bool input_ended;

    sl_message *messages; /* the conversation, texts owned; with -sys its first is the system's */
    size_t message_count, message_capacity;
    sl_token_id *seen; /* of the last turn: what was evaluated, and the answer */
    size_t seen_count;
    uint64_t prompt_tokens, prompt_tokens_new; /* of the last turn: all, and those that were evaluated */
    uint32_t turns, answered_tokens;
    double answered_s;
    bool failed;  /* some turn did */
    bool unsaved; /* the conversation is another one than the session's file has */
} cli_chat;

typedef enum cli_input { CLI_INPUT_MESSAGE, CLI_INPUT_END, CLI_INPUT_INTERRUPTED, CLI_INPUT_FAILED } cli_input;

/* The next message; *out is malloc'd, without the line end. */
cli_input cli_chat_read(cli_chat *c, char **out, sl_error *err);
void cli_chat_input_close(cli_chat *c);

/* Evaluates what is new of the conversation with `text` behind it, and streams the answer. What fails leaves the conversation as it was. */
SL_MUST_USE sl_status cli_chat_turn(cli_chat *c, const char *text, sl_error *err);
/* Forgets what was said; the system message stays. */
SL_MUST_USE sl_status cli_chat_reset(cli_chat *c, sl_error *err);
SL_MUST_USE sl_status cli_chat_add(cli_chat *c, sl_role role, const char *text, sl_error *err);
void cli_chat_cut(cli_chat *c, size_t count);  /* takes messages off the end, down to so many */
void cli_chat_drop(cli_chat *c, size_t count); /* takes so many off the beginning */
void cli_chat_forget(cli_chat *c);             /* frees the conversation */

/* The conversation as JSON in a file; and from one, instead of this. */
SL_MUST_USE sl_status cli_chat_save(cli_chat *c, const char *path, sl_error *err);
SL_MUST_USE sl_status cli_chat_load(cli_chat *c, const char *path, sl_error *err);
/* --session: goes on with what its file has; puts there what is now. */
SL_MUST_USE sl_status cli_chat_open_session(cli_chat *c, sl_error *err);
SL_MUST_USE sl_status cli_chat_save_session(cli_chat *c, sl_error *err);

/* Whether `text` is a command; then it has been carried out, and *end says that it ends the program. */
bool cli_chat_command(cli_chat *c, const char *text, bool *end);

/* A line from a terminal; NULL with *interrupted after Ctrl-C, where *was_empty says that there was nothing on the line; NULL at its end. */
cli_line_editor *cli_line_editor_open(void); /* NULL: there is no terminal, or it cannot be edited on */
char *cli_line_editor_read(cli_line_editor *e, const char *prompt, bool *interrupted, bool *was_empty);
void cli_line_editor_remember(cli_line_editor *e, const char *entry); /* in the history */
void cli_line_editor_close(cli_line_editor *e);

#endif
