/* offload/cli/session.c: --session: what a conversation takes from its file, and what it leaves there. */
#include "core/os.h"
#include "offload/cli/run_state.h"

#include <stdio.h>
#include <string.h>

sl_status cli_session_open(cli_run_state *s, sl_error *err)
{
    const sl_token_id *unused;
    if (s->args->session == NULL)
        return SL_OK;
    SL_TRY(sl_session_file_open(s->engine, s->args->session, &s->kept.file, err));
    s->kept.stored = sl_session_file_tokens(s->kept.file, &unused);
    return SL_OK;
}

sl_status cli_session_load(cli_run_state *s, const sl_token_id *tokens, size_t count, sl_error *err)
{
    cli_kept *kept = &s->kept;
    char line[400];
    if (kept->file == NULL || kept->stored == 0)
        return SL_OK;
    uint64_t start = sl_now_ns();
    SL_TRY(sl_session_file_load(kept->file, s->session, tokens, count, &kept->reused, err));
    kept->load_s = (double)(sl_now_ns() - start) * 1e-9;
    uint32_t common = sl_session_file_common(kept->file, tokens, count);
    if (kept->reused == kept->stored)
        return SL_OK;
    if (kept->reused == common)
        snprintf(line, sizeof line, "session %.200s: the text begins with %u of its %u tokens; what follows is computed", s->args->session,
                 common, kept->stored);
    else
        snprintf(
            line, sizeof line,
            "session %.200s: the text begins with %u of its %u tokens, but layers with a window keep only the last ones; all is computed",
            s->args->session, common, kept->stored);
    cli_note(s->warnings, line);
    return SL_OK;
}

sl_status cli_session_save(cli_run_state *s, const char *note, size_t note_length, sl_error *err)
{
    cli_kept *kept = &s->kept;
    sl_error reason = {0};
    char line[400];
    if (kept->file == NULL)
        return SL_OK;
    uint64_t start = sl_now_ns();
    sl_status status = sl_session_file_save(kept->file, s->session, note, note_length, &kept->last, &reason);
    kept->save_s = (double)(sl_now_ns() - start) * 1e-9;
    kept->saved = status == SL_OK;
    snprintf(kept->failure, sizeof kept->failure, "%s", reason.message);
    if (status != SL_OK && err != NULL)
        *err = reason;
    if (status != SL_OK || kept->last.tokens == sl_session_position(s->session))
        return status;
    snprintf(
        line, sizeof line,
        "session %.200s: %u of %u tokens are kept; those behind were decoded approximately, and will be computed when they are text again",
        s->args->session, kept->last.tokens, sl_session_position(s->session));
    cli_note(s->warnings, line);
    return SL_OK;
}

json_t *cli_json_session(const cli_run_state *s)
{
    const cli_kept *kept = &s->kept;
    return json_pack("{s:o, s:i, s:i, s:i, s:I, s:f, s:f, s:o}", "file", cli_json_text(s->args->session, strlen(s->args->session)),
                     "stored_tokens", (int)kept->stored, "reused_tokens", (int)kept->reused, "saved_tokens",
                     kept->saved ? (int)kept->last.tokens : 0, "saved_bytes", kept->saved ? (json_int_t)kept->last.bytes : (json_int_t)0,
                     "load_s", kept->load_s, "save_s", kept->save_s, "error",
                     kept->failure[0] != '\0' ? cli_json_text(kept->failure, strlen(kept->failure)) : json_null());
}

void cli_print_session(const cli_run_state *s)
{
    const cli_kept *kept = &s->kept;
    char bytes[24];
    if (kept->file == NULL)
        return;
    fprintf(stderr, "session %u tokens were in %s (%.2f s)", kept->reused, s->args->session, kept->load_s);
    sl_format_size(kept->last.bytes, bytes);
    if (kept->saved)
        fprintf(stderr, "; %u are now, %s (%.2f s)", kept->last.tokens, bytes, kept->save_s);
    fputc('\n', stderr);
}
