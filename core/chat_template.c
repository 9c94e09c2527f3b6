/* core/chat_template.c: a conversation as a family of templates writes it, and the system message that a file's own template brings.
 *
 * A turn is open, text, close, each by role; an opening without a text ends it. Where a family has no system turn, the message stands within
 * the turn that the family says. */
#include "core/chat_template.h"

#include "core/chat_family.h"

#include <stdlib.h>
#include <string.h>

#define TEMPLATE_KEY  "tokenizer.chat_template"
#define TRIMMED_SPACE " \t\n\r\v\f"
#define THOUGHTS_END  "</think>"

/* ---- growing text ---- */

typedef struct buffer {
    char *data; /* NULL: an allocation has failed, and all later ones are refused */
    size_t length, capacity;
} buffer;

static bool buffer_open(buffer *b)
{
    *b = (buffer){.data = malloc(256), .capacity = 256};
    return b->data != NULL;
}

static void append(buffer *b, const char *text, size_t length)
{
    if (!b->data)
        return;
    if (length >= b->capacity - b->length) {
        size_t capacity = 2 * (b->length + length + 1);
        char *data = realloc(b->data, capacity);
        if (!data) {
            free(b->data);
            b->data = NULL;
            return;
        }
        b->data = data;
        b->capacity = capacity;
    }
    if (length > 0)
        memcpy(b->data + b->length, text, length);
    b->length += length;
}

static void append_text(buffer *b, const char *text)
{
    append(b, text, strlen(text));
}

static sl_status buffer_finish(buffer *b, char **out, sl_error *err)
{
    append(b, "", 1);
    *out = b->data;
    return b->data ? SL_OK : sl_fail(err, SL_NO_MEMORY, "no memory for the text of the conversation");
}

/* ---- the default system message ---- */

/* Reads a template's text character by character as a reader of its output would: inside a string constant, escapes are resolved. */
typedef struct reader {
    const char *at, *end;
    char quote; /* the quote that closes the constant, or 0 outside of one */
} reader;

/* The next character, or -1 at the end of the constant, of the template, or where an expression or a statement begins. */
static int next_character(reader *r)
{
    if (r->at == r->end)
        return -1;
    char c = *r->at++;
    if (!r->quote)
        return c == '{' && r->at < r->end && (*r->at == '{' || *r->at == '%' || *r->at == '#') ? -1 : (unsigned char)c;
    if (c == r->quote)
        return -1;
    if (c != '\\' || r->at == r->end)
        return (unsigned char)c;
    char escaped = *r->at++;
    switch (escaped) {
    case 'n': return '\n';
    case 't': return '\t';
    case 'r': return '\r';
    default: return (unsigned char)escaped;
    }
}

static bool read_text(reader *r, const char *expected)
{
    for (; *expected; expected++) {
        if (next_character(r) != (unsigned char)*expected)
            return false;
    }
    return true;
}

/* Collects up to, not including, `end`; false when it does not come before the constant ends. */
static bool collect_until(reader *r, const char *end, buffer *out)
{
    size_t length = strlen(end);
    for (;;) {
        int c = next_character(r);
        if (c < 0)
            return false;
        char byte = (char)c;
        append(out, &byte, 1);
        if (!out->data)
            return false;
        if (out->length >= length && memcmp(out->data + out->length - length, end, length) == 0) {
            out->length -= length;
            return true;
        }
    }
}

/* What closes a system turn, without the white space that may be written separately. */
static void turn_end(const sl_chat_family *family, char out[32])
{
    size_t length = strcspn(family->close[SL_ROLE_SYSTEM], TRIMMED_SPACE);
    memcpy(out, family->close[SL_ROLE_SYSTEM], length < 31 ? length : 31);
    out[length < 31 ? length : 31] = '\0';
}

/* A whole system turn written out as a constant: the message that the template itself brings. */
static bool find_constant_system(sl_str template, const sl_chat_family *family, buffer *out)
{
    const char *end = template.data + template.length, *open = family->open[SL_ROLE_SYSTEM];
    size_t turn = strcspn(open, "\n"); /* a line end may be escaped: the reader knows */
    char closing[32];
    turn_end(family, closing);
    const char *found = turn > 0 && closing[0] != '\0' ? template.data : NULL;
    while (found && (found = memmem(found, (size_t)(end - found), open, turn)) != NULL) {
        char before = found > template.data ? found[-1] : 0;
        reader r = {found + turn, end, before == '\'' || before == '"' ? before : 0};
        out->length = 0;
        found += turn;
        if (!read_text(&r, open + turn))
            continue;
        if (collect_until(&r, closing, out))
            return true;
        if (!out->data)
            return false;
        found = r.at; /* what did not end from here does not end from further on either: one pass over the template */
    }
    out->length = 0;
    return false;
}

static void skip(reader *r, const char *characters)
{
    while (r->at < r->end && *r->at != '\0' && strchr(characters, *r->at))
        r->at++;
}

/* A constant at the reader's place, to its end; false when there is none. */
static bool collect_constant(reader *r, buffer *out)
{
    if (r->at == r->end || (*r->at != '\'' && *r->at != '"'))
        return false;
    r->quote = *r->at++;
    for (int c = next_character(r); c >= 0 && out->data; c = next_character(r)) {
        char byte = (char)c;
        append(out, &byte, 1);
    }
    return r->at < r->end && out->data; /* a constant that ends the template is not closed */
}

typedef enum preset { PRESET_NONE, PRESET_FOUND, PRESET_COMPUTED } preset;

/* Behind a mark, a constant, or constants with today's date between: 'It is ' + today + '.' */
static preset find_marked_system(sl_str template, const char *mark, const char *today, buffer *out)
{
    const char *end = template.data + template.length, *at = memmem(template.data, template.length, mark, strlen(mark));
    if (!at)
        return PRESET_NONE;
    reader r = {at + strlen(mark), end, 0};
    skip(&r, TRIMMED_SPACE "{-=");
    if (!collect_constant(&r, out))
        return PRESET_NONE;
    for (;;) {
        skip(&r, TRIMMED_SPACE);
        if (r.at == end || *r.at != '+')
            return PRESET_FOUND;
        r.at++;
        skip(&r, TRIMMED_SPACE);
        if ((size_t)(end - r.at) > strlen("today") && memcmp(r.at, "today", strlen("today")) == 0 &&
            strchr(" +%-", r.at[strlen("today")])) {
            append_text(out, today);
            r.at += strlen("today");
        } else if (!collect_constant(&r, out)) {
            return PRESET_COMPUTED;
        }
    }
}

sl_status sl_chat_default_system(const sl_gguf *gguf, const char *today, char **out, sl_error *err)
{
    *out = NULL;
    sl_str template = {NULL, 0};
    const sl_chat_family *family = NULL;
    if (sl_gguf_find(gguf, TEMPLATE_KEY))
        SL_TRY(sl_gguf_str(gguf, TEMPLATE_KEY, &template, err));
    if (template.length > 0)
        SL_TRY(sli_chat_family_of(template, &family, err));
    buffer text;
    if (!buffer_open(&text))
        return sl_fail(err, SL_NO_MEMORY, "%s: no memory for its system message", sl_gguf_path(gguf));
    preset found = PRESET_NONE;
    if (family && family->preset_mark)
        found = find_marked_system(template, family->preset_mark, today, &text);
    else if (family && find_constant_system(template, family, &text))
        found = PRESET_FOUND;
    if (found == PRESET_COMPUTED && text.data) {
        free(text.data);
        return sl_fail(err, SL_UNSUPPORTED,
                       "%s: its chat template computes the system message of conversations without one; -sys TEXT gives one",
                       sl_gguf_path(gguf));
    }
    if (found == PRESET_NONE && text.data)
        text.length = 0;
    return buffer_finish(&text, out, err);
}

/* ---- rendering ---- */

typedef struct rendering {
    const sl_chat_family *family;
    sl_str bos, eos;
    buffer text;
} rendering;

/* A text of the family, with the file's tokens in their places. */
static void put(rendering *r, const char *text)
{
    for (;;) {
        size_t plain = strcspn(text, SLI_CHAT_BOS SLI_CHAT_EOS);
        append(&r->text, text, plain);
        if (text[plain] == '\0')
            return;
        sl_str token = text[plain] == *SLI_CHAT_BOS ? r->bos : r->eos;
        append(&r->text, token.data, token.length);
        text += plain + 1;
    }
}

/* Without the reasoning before the answer. */
static const char *after_thoughts(const sl_chat_family *family, const char *text)
{
    const char *found = NULL;
    for (const char *at = text; family->thoughts != SLI_THOUGHTS_KEPT && (at = strstr(at, THOUGHTS_END)) != NULL;) {
        found = at += strlen(THOUGHTS_END);
        if (family->thoughts == SLI_THOUGHTS_DROPPED_AT_FIRST)
            break;
    }
    if (!found)
        return text;
    return family->thoughts == SLI_THOUGHTS_DROPPED_WITH_LINES ? found + strspn(found, "\n") : found;
}

/* `begun`: something of this message is there already, and white space behind it counts. */
static void put_message(rendering *r, const sl_message *message, bool begun)
{
    const char *text = message->role == SL_ROLE_ASSISTANT ? after_thoughts(r->family, message->text) : message->text;
    bool trims = (r->family->trims & 1u << message->role) != 0;
    if (trims && !begun)
        text += strspn(text, TRIMMED_SPACE);
    size_t length = strlen(text);
    while (trims && length > 0 && strchr(TRIMMED_SPACE, text[length - 1]))
        length--;
    append(&r->text, text, length);
}

/* The system messages that stand within message `at`; false when there are none. */
static bool put_folded(rendering *r, const sl_message *messages, size_t count, size_t at)
{
    const sl_chat_family *family = r->family;
    size_t first = at, end = at;
    if (family->system == SLI_SYSTEM_IN_LAST) {
        first = 0;
        end = at + 1 == count ? count : 0;
    } else if (family->system == SLI_SYSTEM_IN_NEXT) {
        while (first > 0 && messages[first - 1].role == SL_ROLE_SYSTEM)
            first--;
    }
    bool any = false;
    for (; first < end; first++) {
        if (messages[first].role != SL_ROLE_SYSTEM)
            continue;
        put(r, family->open[SL_ROLE_SYSTEM]);
        append_text(&r->text, messages[first].text);
        put(r, family->close[SL_ROLE_SYSTEM]);
        any = true;
    }
    return any;
}

static void put_turn(rendering *r, const sl_message *messages, size_t count, size_t at)
{
    const sl_message *message = &messages[at];
    put(r, r->family->open[message->role]);
    bool folded = r->family->system != SLI_SYSTEM_TURN && put_folded(r, messages, count, at);
    put_message(r, message, folded && r->family->trims_whole);
    put(r, r->family->close[message->role]);
}

/* A text begins with the BOS token that the tokenizer puts there. */
static void drop_first_bos(rendering *r)
{
    buffer *b = &r->text;
    if (!b->data || r->bos.length == 0 || b->length < r->bos.length || memcmp(b->data, r->bos.data, r->bos.length) != 0)
        return;
    b->length -= r->bos.length;
    memmove(b->data, b->data + r->bos.length, b->length);
}

static sl_str or_family(const sl_str *given, const char *family, const char *usual)
{
    if (given && given->length > 0)
        return *given;
    const char *text = family ? family : usual;
    return (sl_str){text, strlen(text)};
}

sl_status sl_chat_render(const sl_chat_family *family, const sl_chat_tokens *tokens, const sl_message *messages, size_t count, char **out,
                         sl_error *err)
{
    *out = NULL;
    rendering r = {.family = family,
                   .bos = or_family(tokens ? &tokens->bos : NULL, family->bos, "<s>"),
                   .eos = or_family(tokens ? &tokens->eos : NULL, family->eos, "</s>")};
    if (!buffer_open(&r.text))
        return sl_fail(err, SL_NO_MEMORY, "no memory for the text of the conversation");
    const sl_message nothing = {SL_ROLE_SYSTEM, ""};
    if (family->system_always && (count == 0 || messages[0].role != SL_ROLE_SYSTEM))
        put_turn(&r, &nothing, 1, 0);
    for (size_t i = 0; i < count; i++) {
        if (family->system == SLI_SYSTEM_TURN || messages[i].role != SL_ROLE_SYSTEM)
            put_turn(&r, messages, count, i);
    }
    if (family->begins_with_bos)
        drop_first_bos(&r);
    put(&r, family->ask ? family->ask : family->open[SL_ROLE_ASSISTANT]);
    return buffer_finish(&r.text, out, err);
}
