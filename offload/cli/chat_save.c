/* offload/cli/chat_save.c: a conversation as JSON, in a file of its own (/save, /load) and beside keys and values (--session).
 *
 * The session's file holds what was said; keys and values only spare its evaluation. A conversation that is taken up again is rendered as ever, and what
 * of it the file has evaluated is kept as far as it is the same (chat_turn.c). */
#include "offload/cli/chat_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const roles[] = {[SL_ROLE_SYSTEM] = "system", [SL_ROLE_USER] = "user", [SL_ROLE_ASSISTANT] = "assistant"};
#define ROLES ((int)(sizeof roles / sizeof *roles))

/* ---- JSON ---- */

/* An answer may end in the middle of a character. Its bytes then go beside what JSON can say of it, as hexadecimal digits. */
static json_t *message_json(const sl_message *m)
{
    json_t *value = json_pack("{s:s, s:o}", "role", roles[m->role], "content", cli_json_text(m->text, strlen(m->text)));
    json_t *exact = json_string(m->text); /* NULL: no UTF-8 */
    char *digits = exact == NULL ? malloc(2 * strlen(m->text) + 1) : NULL;
    for (size_t i = 0; digits != NULL && m->text[i] != '\0'; i++)
        snprintf(digits + 2 * i, 3, "%02x", (unsigned char)m->text[i]);
    if (digits != NULL)
        json_object_set_new(value, "bytes", json_string(digits));
    free(digits);
    json_decref(exact);
    return value;
}

static json_t *conversation_json(const cli_chat *c)
{
    json_t *array = json_array();
    for (size_t i = 0; i < c->message_count; i++)
        json_array_append_new(array, message_json(&c->messages[i]));
    return array;
}

/* The text that hexadecimal digits stand for, malloc'd; NULL: they are none. */
static char *text_of_digits(const char *digits)
{
    size_t length = strlen(digits);
    char *text = length % 2 == 0 && strspn(digits, "0123456789abcdef") == length ? malloc(length / 2 + 1) : NULL;
    for (size_t i = 0; text != NULL && i <= length / 2; i++) {
        char pair[3] = {digits[2 * i], i < length / 2 ? digits[2 * i + 1] : '\0', '\0'};
        text[i] = (char)strtoul(pair, NULL, 16);
    }
    return text;
}

/* Takes over `value`. */
static sl_status dump(json_t *value, size_t flags, char **out, sl_error *err)
{
    *out = value != NULL ? json_dumps(value, flags) : NULL;
    json_decref(value);
    return *out != NULL ? SL_OK : sl_fail(err, SL_NO_MEMORY, "out of memory for the conversation");
}

/* False: it is none. *text is malloc'd. */
static bool read_message(const json_t *value, sl_role *role, char **text)
{
    const char *name = json_string_value(json_object_get(value, "role")), *content = json_string_value(json_object_get(value, "content"));
    const char *digits = json_string_value(json_object_get(value, "bytes"));
    int i = 0;
    while (name != NULL && i < ROLES && strcmp(name, roles[i]) != 0)
        i++;
    *text = NULL;
    if (name == NULL || i == ROLES)
        return false;
    *role = (sl_role)i;
    *text = digits != NULL ? text_of_digits(digits) : content != NULL ? strdup(content) : NULL;
    return *text != NULL;
}

/* The conversation becomes what a list of messages says; it is as it was where that is none. */
static sl_status take_messages(cli_chat *c, const char *path, const json_t *array, sl_error *err)
{
    size_t before = c->message_count;
    sl_status status = SL_OK;
    if (!json_is_array(array))
        return sl_fail(err, SL_FORMAT, "%s: it has no list of messages, as /save writes it", path);
    for (size_t i = 0; i < json_array_size(array) && status == SL_OK; i++) {
        sl_role role = SL_ROLE_USER;
        char *text;
        if (read_message(json_array_get(array, i), &role, &text))
            status = cli_chat_add(c, role, text, err);
        else
            status = sl_fail(err, SL_FORMAT, "%s: message %zu is not an object with a role (system, user, assistant) and content, a text",
                             path, i + 1);
        free(text);
    }
    if (status == SL_OK)
        cli_chat_drop(c, before);
    else
        cli_chat_cut(c, before);
    return status;
}

/* ---- /save FILE and /load FILE ---- */

sl_status cli_chat_save(cli_chat *c, const char *path, sl_error *err)
{
    char *text;
    SL_TRY(dump(conversation_json(c), JSON_INDENT(2), &text, err));
    size_t length = strlen(text);
    text[length] = '\n'; /* instead of its NUL */
    sl_status status = cli_write_file(path, text, length + 1, err);
    free(text);
    return status;
}

sl_status cli_chat_load(cli_chat *c, const char *path, sl_error *err)
{
    char *text;
    size_t length;
    json_error_t wrong;
    SL_TRY(cli_read_file(path, &text, &length, err));
    json_t *value = json_loadb(text, length, 0, &wrong);
    free(text);
    if (value == NULL)
        return sl_fail(err, SL_FORMAT, "%s: line %d: %s; it must be JSON, as /save writes it", path, wrong.line, wrong.text);
    sl_status status = take_messages(c, path, value, err);
    json_decref(value);
    return status;
}

/* ---- --session ---- */

static sl_status check_system(const cli_chat *c, sl_error *err)
{
    const char *given = c->args.system, *kept = c->message_count > 0 && c->messages[0].role == SL_ROLE_SYSTEM ? c->messages[0].text : NULL;
    if (given == NULL || c->message_count == 0 || (kept != NULL && strcmp(given, kept) == 0))
        return SL_OK;
    return sl_fail(err, SL_INVALID, "-sys: the conversation in %s %s; without -sys it goes on, with another file a new one begins",
                   c->args.session, kept != NULL ? "has another system message" : "has no system message");
}

static sl_status take_note(cli_chat *c, const char *note, size_t length, sl_error *err)
{
    json_error_t wrong;
    json_t *value = json_loadb(note, length, 0, &wrong);
    if (value == NULL)
        return sl_fail(err, SL_FORMAT, "%s: its conversation is no JSON: %s", c->args.session, wrong.text);
    sl_status status = take_messages(c, c->args.session, json_object_get(value, "messages"), err);
    json_t *seed = json_object_get(value, "seed");
    if (json_is_integer(seed) && !c->args.seed_given)
        c->run.seed = (uint64_t)json_integer_value(seed);
    json_decref(value);
    return status;
}

sl_status cli_chat_open_session(cli_chat *c, sl_error *err)
{
    const sl_token_id *stored;
    size_t length = 0;
    SL_TRY(cli_session_open(&c->run, err));
    if (c->run.kept.file == NULL)
        return SL_OK;
    const char *note = sl_session_file_note(c->run.kept.file, &length);
    if (length > 0)
        SL_TRY(take_note(c, note, length, err));
    SL_TRY(check_system(c, err));
    uint32_t count = sl_session_file_tokens(c->run.kept.file, &stored);
    SL_TRY(cli_session_load(&c->run, stored, count, err));
    c->seen_count = c->run.kept.reused;
    c->seen = malloc((c->seen_count + 1) * sizeof *c->seen);
    if (c->seen == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for %zu tokens", c->seen_count);
    if (c->seen_count > 0)
        memcpy(c->seen, stored, c->seen_count * sizeof *c->seen);
    if (c->message_count > 0)
        fprintf(stderr, "%s: %zu messages, %u tokens; the conversation goes on, /reset begins a new one\n", c->args.session,
                c->message_count, c->run.kept.reused);
    return SL_OK;
}

sl_status cli_chat_save_session(cli_chat *c, sl_error *err)
{
    char *note;
    SL_TRY(dump(json_pack("{s:I, s:o}", "seed", (json_int_t)c->run.seed, "messages", conversation_json(c)), JSON_COMPACT, &note, err));
    sl_status status = cli_session_save(&c->run, note, strlen(note), err);
    free(note);
    if (status == SL_OK)
        c->unsaved = false;
    return status;
}
