/* offload/cli/chat_turn.c: one turn of a conversation: what is new is evaluated, the answer streams.
 *
 * The text that counts is always that of the whole conversation, rendered and tokenised anew. What the session has evaluated already is kept as
 * far as it is the same: nearly all of it, but an answer may be tokenised in another way than it was generated, a template may drop white space
 * or reasoning from it, or move the system message. So a conversation never drifts away from what the model would be given at once. */
#include "offload/cli/chat_state.h"

#include <stdlib.h>
#include <string.h>

/* ---- the conversation ---- */

sl_status cli_chat_add(cli_chat *c, sl_role role, const char *text, sl_error *err)
{
    if (c->message_count == c->message_capacity) {
        size_t capacity = 2 * c->message_capacity + 16;
        sl_message *grown = realloc(c->messages, capacity * sizeof *grown);
        if (grown == NULL)
            return sl_fail(err, SL_NO_MEMORY, "out of memory for %zu messages", capacity);
        c->messages = grown;
        c->message_capacity = capacity;
    }
    char *copy = strdup(text);
    if (copy == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for a message");
    c->messages[c->message_count++] = (sl_message){role, copy};
    return SL_OK;
}

void cli_chat_cut(cli_chat *c, size_t count)
{
    while (c->message_count > count)
        free((char *)(uintptr_t)c->messages[--c->message_count].text); /* ours: cli_chat_add made it */
}

void cli_chat_drop(cli_chat *c, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free((char *)(uintptr_t)c->messages[i].text);
    c->message_count -= count;
    if (count > 0)
        memmove(c->messages, c->messages + count, c->message_count * sizeof *c->messages);
}

sl_status cli_chat_reset(cli_chat *c, sl_error *err)
{
    cli_chat_cut(c, c->message_count > 0 && c->messages[0].role == SL_ROLE_SYSTEM ? 1 : 0);
    c->seen_count = 0;
    c->unsaved = true;
    return sl_session_truncate(c->run.session, 0, err);
}

void cli_chat_forget(cli_chat *c)
{
    cli_chat_cut(c, 0);
    free(c->messages);
    free(c->seen);
}

/* ---- evaluating ---- */

/* The tokens of the whole conversation, up to where the answer begins. */
static sl_status tokenize(cli_chat *c, sl_token_id **out, size_t *count, sl_error *err)
{
    char *text;
    SL_TRY(sl_engine_chat_render(c->run.engine, c->args.chat_template, c->messages, c->message_count, &text, err));
    sl_status status = sl_engine_tokenize(c->run.engine, text, strlen(text), true, true, out, count, err);
    free(text);
    if (status == SL_OK && *count == 0)
        status = sl_fail(err, SL_INVALID, "the conversation has no tokens");
    return status;
}

/* How many of the tokens the session has evaluated as they are. At least one is left: its logits are wanted. */
static size_t kept_of(const cli_chat *c, const sl_token_id *tokens, size_t count)
{
    size_t position = sl_session_position(c->run.session), most = c->seen_count < position ? c->seen_count : position, kept = 0;
    while (kept < most && kept + 1 < count && c->seen[kept] == tokens[kept])
        kept++;
    return sl_session_reach(c->run.session, (uint32_t)kept);
}

/* Of the tokens, what the session has not evaluated. */
static sl_status generate(cli_chat *c, const sl_token_id *tokens, size_t count, sl_error *err)
{
    size_t kept = kept_of(c, tokens, count);
    SL_TRY(sl_session_truncate(c->run.session, (uint32_t)kept, err));
    sl_request request = cli_request(&c->run);
    request.prompt = tokens + kept;
    request.prompt_count = count - kept;
    c->prompt_tokens = count;
    c->prompt_tokens_new = count - kept;
    c->unsaved = true;
    sl_result_free(&c->run.result);
    return sl_generate(c->run.session, &request, &c->run.result, err);
}

static sl_status generate_patiently(cli_chat *c, const sl_token_id *tokens, size_t count, sl_error *err)
{
    sl_status status = generate(c, tokens, count, err);
    if (status != SL_INTERRUPTED || cli_interrupted() || c->run.result.count > 0)
        return status;
    /* A press that came just as the answer before ended: nobody meant this one. */
    return generate(c, tokens, count, err);
}

/* Remembers what the session may hold: the tokens, and the answer behind them. Takes `tokens` over. */
static sl_status remember(cli_chat *c, sl_token_id *tokens, size_t count, sl_error *err)
{
    const sl_result *r = &c->run.result;
    free(c->seen);
    c->seen = tokens;
    c->seen_count = count;
    sl_token_id *grown = realloc(tokens, (count + r->count + 1) * sizeof *grown);
    if (grown == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for %zu tokens", count + r->count);
    if (r->count > 0)
        memcpy(grown + count, r->tokens, r->count * sizeof *grown);
    c->seen = grown;
    c->seen_count = count + r->count;
    return SL_OK;
}

/* The answer becomes part of the conversation, also one that was interrupted. */
static sl_status keep_answer(cli_chat *c, sl_error *err)
{
    const sl_result *r = &c->run.result;
    c->turns++;
    c->answered_tokens += (uint32_t)r->count;
    c->answered_s += r->prompt_s + r->decode_s;
    return cli_chat_add(c, SL_ROLE_ASSISTANT, r->text != NULL ? r->text : "", err);
}

sl_status cli_chat_turn(cli_chat *c, const char *text, sl_error *err)
{
    size_t before = c->message_count, count = 0;
    sl_token_id *tokens = NULL;
    sl_result_free(&c->run.result);
    SL_TRY(cli_chat_add(c, SL_ROLE_USER, text, err));
    sl_status status = tokenize(c, &tokens, &count, err);
    if (status != SL_OK) {
        cli_chat_cut(c, before);
        return status;
    }
    status = generate_patiently(c, tokens, count, err);
    sl_status remembered = remember(c, tokens, count, status == SL_OK ? err : NULL);
    bool answered = status == SL_OK || (status == SL_INTERRUPTED && c->run.result.count > 0);
    if (answered && remembered == SL_OK)
        remembered = keep_answer(c, status == SL_OK ? err : NULL);
    if (!answered || remembered != SL_OK)
        cli_chat_cut(c, before);
    return status != SL_OK ? status : remembered;
}
