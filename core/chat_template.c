/* core/chat_template.c: the families of chat templates, as a table.
 *
 * A file's template is a Jinja program. Nearly all such programs put the same few texts around each message, so we look for the texts and
 * write them ourselves. That is exact only while the program does nothing else; so a family also lists the marks of relatives that do, and
 * a template which has one is refused rather than rendered nearly right.
 *
 * A turn is: turn, role, after_role, text, end, after_end. */
#include "core/chat_template.h"

#include <stdlib.h>
#include <string.h>

#define MARKS_MAX 4

struct sl_chat_family {
    const char *name;
    const char *has[MARKS_MAX];   /* all of these are in the template */
    const char *lacks[MARKS_MAX]; /* and none of these */
    const char *turn, *after_role, *end, *after_end;
    const char *assistant; /* what the assistant is called; NULL: that */
    bool trims;            /* white space around a message's text is dropped */
    bool folds_system;     /* a system message has no turn: it stands before the next message's text, an empty line between */
};

static const sl_chat_family families[] = {
    {
        .name = "chatml",
        .has = {"<|im_start|>", "<|im_end|>"},
        .lacks = {"<|im_sep|>", "<|im_middle|>"}, /* another separator after the role */
        .turn = "<|im_start|>",
        .after_role = "\n",
        .end = "<|im_end|>",
        .after_end = "\n",
    },
    {
        .name = "llama3",
        .has = {"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"},
        .lacks = {"Cutting Knowledge Date"}, /* 3.1 and later write dates into the system message */
        .turn = "<|start_header_id|>",
        .after_role = "<|end_header_id|>\n\n",
        .end = "<|eot_id|>",
        .after_end = "",
        .trims = true,
    },
    {
        .name = "gemma", /* 3; the templates of 1 and 2 differ in refusing a system message */
        .has = {"<start_of_turn>", "<end_of_turn>"},
        .turn = "<start_of_turn>",
        .after_role = "\n",
        .end = "<end_of_turn>",
        .after_end = "\n",
        .assistant = "model",
        .trims = true,
        .folds_system = true,
    },
};

#define FAMILIES      (sizeof families / sizeof *families)
#define FAMILY_NAMES  "chatml, llama3, gemma"
#define TEMPLATE_KEY  "tokenizer.chat_template"
#define TRIMMED_SPACE " \t\n\r\v\f"

static const char *const role_names[] = {[SL_ROLE_SYSTEM] = "system", [SL_ROLE_USER] = "user", [SL_ROLE_ASSISTANT] = "assistant"};

/* ---- which family ---- */

static bool contains(sl_str text, const char *what)
{
    return text.length > 0 && memmem(text.data, text.length, what, strlen(what)) != NULL;
}

static bool is_of_family(sl_str template, const sl_chat_family *family)
{
    for (size_t i = 0; i < MARKS_MAX && family->has[i]; i++) {
        if (!contains(template, family->has[i]))
            return false;
    }
    for (size_t i = 0; i < MARKS_MAX && family->lacks[i]; i++) {
        if (contains(template, family->lacks[i]))
            return false;
    }
    return true;
}

static const sl_chat_family *family_of(sl_str template)
{
    for (size_t i = 0; i < FAMILIES; i++) {
        if (is_of_family(template, &families[i]))
            return &families[i];
    }
    return NULL;
}

sl_status sl_chat_detect(const sl_gguf *gguf, const sl_chat_family **out, sl_error *err)
{
    *out = NULL;
    if (!sl_gguf_find(gguf, TEMPLATE_KEY))
        return sl_fail(err, SL_UNSUPPORTED, "%s: it has no chat template; --chat-template takes one of " FAMILY_NAMES, sl_gguf_path(gguf));
    sl_str template;
    SL_TRY(sl_gguf_str(gguf, TEMPLATE_KEY, &template, err));
    *out = family_of(template);
    if (!*out)
        return sl_fail(err, SL_UNSUPPORTED,
                       "%s: its chat template is of no family that we know; --chat-template takes one of " FAMILY_NAMES,
                       sl_gguf_path(gguf));
    return SL_OK;
}

sl_status sl_chat_by_name(const char *name, const sl_chat_family **out, sl_error *err)
{
    *out = NULL;
    for (size_t i = 0; i < FAMILIES; i++) {
        if (strcmp(name, families[i].name) == 0) {
            *out = &families[i];
            return SL_OK;
        }
    }
    return sl_fail(err, SL_INVALID, "there is no chat template '%.64s'; known are " FAMILY_NAMES, name);
}

const char *sl_chat_name(const sl_chat_family *family)
{
    return family->name;
}

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

/* A whole system turn written out as a constant: the message that the template itself brings. */
static bool find_constant_system(sl_str template, const sl_chat_family *family, buffer *out)
{
    const char *end = template.data + template.length;
    size_t turn = strlen(family->turn);
    const char *found = template.length > 0 ? template.data : NULL;
    while (found && (found = memmem(found, (size_t)(end - found), family->turn, turn)) != NULL) {
        char before = found > template.data ? found[-1] : 0;
        reader r = {found + turn, end, before == '\'' || before == '"' ? before : 0};
        out->length = 0;
        found += turn;
        if (!read_text(&r, role_names[SL_ROLE_SYSTEM]) || !read_text(&r, family->after_role))
            continue;
        if (collect_until(&r, family->end, out))
            return true;
        if (!out->data)
            return false;
        found = r.at; /* what did not end from here does not end from further on either: one pass over the template */
    }
    out->length = 0;
    return false;
}

sl_status sl_chat_default_system(const sl_gguf *gguf, char **out, sl_error *err)
{
    *out = NULL;
    sl_str template = {NULL, 0};
    if (sl_gguf_find(gguf, TEMPLATE_KEY))
        SL_TRY(sl_gguf_str(gguf, TEMPLATE_KEY, &template, err));
    const sl_chat_family *family = family_of(template);
    buffer text;
    if (!buffer_open(&text))
        return sl_fail(err, SL_NO_MEMORY, "%s: no memory for its system message", sl_gguf_path(gguf));
    if (family && !find_constant_system(template, family, &text) && text.data)
        text.length = 0;
    return buffer_finish(&text, out, err);
}

/* ---- rendering ---- */

static void append_message(buffer *b, const sl_chat_family *family, const char *text)
{
    size_t length = strlen(text);
    if (family->trims) {
        size_t skip = strspn(text, TRIMMED_SPACE);
        text += skip;
        length -= skip;
        while (length > 0 && strchr(TRIMMED_SPACE, text[length - 1]))
            length--;
    }
    append(b, text, length);
}

static void append_opening(buffer *b, const sl_chat_family *family, sl_role role)
{
    append_text(b, family->turn);
    append_text(b, role == SL_ROLE_ASSISTANT && family->assistant ? family->assistant : role_names[role]);
    append_text(b, family->after_role);
}

/* The system messages right before message `at`, as they were given. */
static void append_folded(buffer *b, const sl_message *messages, size_t at)
{
    size_t first = at;
    while (first > 0 && messages[first - 1].role == SL_ROLE_SYSTEM)
        first--;
    for (; first < at; first++) {
        append_text(b, messages[first].text);
        append_text(b, "\n\n");
    }
}

sl_status sl_chat_render(const sl_chat_family *family, const sl_message *messages, size_t count, char **out, sl_error *err)
{
    *out = NULL;
    buffer text;
    if (!buffer_open(&text))
        return sl_fail(err, SL_NO_MEMORY, "no memory for the text of the conversation");
    for (size_t i = 0; i < count; i++) {
        if (family->folds_system && messages[i].role == SL_ROLE_SYSTEM)
            continue;
        append_opening(&text, family, messages[i].role);
        if (family->folds_system)
            append_folded(&text, messages, i);
        append_message(&text, family, messages[i].text);
        append_text(&text, family->end);
        append_text(&text, family->after_end);
    }
    append_opening(&text, family, SL_ROLE_ASSISTANT);
    return buffer_finish(&text, out, err);
}
