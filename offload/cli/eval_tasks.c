/* offload/cli/eval_tasks.c: files of JSON lines into items: which lines are broken, which items are asked for, which become examples. */
#include "offload/cli/eval.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static sl_status add(cli_tasks *t, const sl_task_item *item, sl_error *err)
{
    if (t->count == t->capacity) {
        size_t capacity = t->capacity == 0 ? 256 : 2 * t->capacity;
        sl_task_item *grown = realloc(t->items, capacity * sizeof *grown);
        if (grown == NULL)
            return sl_fail(err, SL_NO_MEMORY, "out of memory for %zu items", capacity);
        t->items = grown;
        t->capacity = capacity;
    }
    t->items[t->count++] = *item;
    t->bytes += sizeof *item + strlen(item->context);
    for (size_t i = 0; i < item->text_count; i++)
        t->bytes += strlen(item->texts[i]);
    return SL_OK;
}

/* "tasks/arc_easy.jsonl": "arc_easy". */
static void kind_of(const char *file, char out[64])
{
    const char *slash = strrchr(file, '/'), *name = slash != NULL ? slash + 1 : file;
    size_t length = strcspn(name, ".");
    snprintf(out, 64, "%.*s", length > 63 ? 63 : (int)length, length > 0 && strcmp(file, "-") != 0 ? name : "all");
}

static sl_status parse_line(const char *line, size_t length, const char *kind, sl_task_item *item, sl_error *err)
{
    json_error_t why;
    json_t *value = json_loadb(line, length, JSON_DECODE_ANY, &why);
    if (value == NULL)
        return sl_fail(err, SL_INVALID, "it is no JSON: %s", why.text);
    sl_status status = cli_task_parse(value, kind, item, err);
    json_decref(value);
    return status;
}

static bool is_empty(const char *line, size_t length)
{
    while (length > 0 && strchr(" \t\r", line[length - 1]) != NULL)
        length--;
    return length == 0;
}

sl_status cli_tasks_parse(const char *file, const char *text, size_t length, bool skip_broken, json_t *warnings, cli_tasks *out,
                          sl_error *err)
{
    char kind[64];
    kind_of(file, kind);
    for (size_t at = 0, number = 1; at < length; number++) {
        const char *end = memchr(text + at, '\n', length - at);
        size_t line_length = (end != NULL ? (size_t)(end - text) : length) - at;
        sl_task_item item;
        sl_error why = {0};
        sl_status status = SL_OK;
        if (!is_empty(text + at, line_length)) {
            status = parse_line(text + at, line_length, kind, &item, &why);
            item.file = file;
            item.line = number;
            if (status == SL_OK && add(out, &item, err) != SL_OK) {
                sl_task_free(&item);
                return SL_NO_MEMORY;
            }
        }
        at += line_length + 1;
        if (status == SL_NO_MEMORY || (status != SL_OK && !skip_broken))
            return sl_fail(err, status, "%s:%zu: %s (--skip-broken goes on without the line)", file, number, why.message);
        if (status != SL_OK) {
            char said[SL_ERROR_MESSAGE_MAX + 64];
            snprintf(said, sizeof said, "%s:%zu: left out: %s", file, number, why.message);
            cli_note(warnings, said);
            out->skipped++;
        }
    }
    return SL_OK;
}

/* ---- selection ---- */

static void drop(cli_tasks *t, size_t index)
{
    sl_task_free(&t->items[index]);
    memmove(&t->items[index], &t->items[index + 1], (t->count - index - 1) * sizeof *t->items);
    t->count--;
}

/* Whether `kind` is in a comma-separated list. */
static bool is_listed(const char *list, const char *kind)
{
    size_t length = strlen(kind);
    for (const char *at = list; *at != '\0'; at += strcspn(at, ","), at += *at == ',')
        if (strcspn(at, ",") == length && strncmp(at, kind, length) == 0)
            return true;
    return false;
}

static sl_status keep_kinds(cli_tasks *t, const char *list, sl_error *err)
{
    for (size_t i = t->count; i-- > 0;)
        if (!is_listed(list, t->items[i].kind))
            drop(t, i);
    return t->count > 0 ? SL_OK : sl_fail(err, SL_INVALID, "--kind %s: no item is of that kind", list);
}

static size_t before(const cli_tasks *t, size_t index)
{
    size_t same = 0;
    for (size_t i = 0; i < index; i++)
        same += strcmp(t->items[i].kind, t->items[index].kind) == 0;
    return same;
}

static sl_status append(char **to, const char *a, const char *b, const char *c, sl_error *err)
{
    size_t length = *to != NULL ? strlen(*to) : 0, bytes = length + strlen(a) + strlen(b) + strlen(c) + 3;
    char *grown = realloc(*to, bytes);
    if (grown == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for examples");
    snprintf(grown + length, bytes - length, "%s%s%s\n\n", a, b, c);
    *to = grown;
    return SL_OK;
}

/* The first K items of a kind become solved examples before the others of it. */
static sl_status make_examples(cli_tasks *t, size_t count, sl_error *err)
{
    size_t kinds;
    size_t *firsts = cli_eval_kinds(t, &kinds);
    t->prefixes = calloc(kinds + 1, sizeof *t->prefixes);
    if (firsts == NULL || t->prefixes == NULL) {
        free(firsts);
        return sl_fail(err, SL_NO_MEMORY, "out of memory for examples");
    }
    sl_status status = SL_OK;
    for (size_t k = 0; k < kinds; k++) {
        size_t seen = 0;
        const char *kind = t->items[firsts[k]].kind;
        for (size_t i = firsts[k]; i < t->count && seen < count && status == SL_OK; i++) {
            const sl_task_item *item = &t->items[i];
            if (strcmp(item->kind, kind) != 0)
                continue;
            seen++;
            if (item->form == SL_TASK_GENERATION && item->match == SL_MATCH_REGEX)
                status = sl_fail(err, SL_INVALID, "%s:%zu: --fewshot: a pattern is no answer to show", item->file, item->line);
            else
                status = append(&t->prefixes[k], item->context, item->delimiter, item->texts[item->gold], err);
        }
        for (size_t i = firsts[k]; i < t->count; i++)
            if (strcmp(t->items[i].kind, kind) == 0)
                t->items[i].prefix = t->prefixes[k];
        t->prefix_count = k + 1;
    }
    free(firsts);
    SL_TRY(status);
    for (size_t i = t->count; i-- > 0;)
        if (before(t, i) < count) {
            t->examples++;
            drop(t, i);
        }
    return t->count > 0 ? SL_OK : sl_fail(err, SL_INVALID, "--fewshot %zu: all items became examples; no kind has more", count);
}

static void keep_first(cli_tasks *t, size_t limit)
{
    for (size_t i = t->count; i-- > 0;)
        if (before(t, i) >= limit)
            drop(t, i);
}

size_t *cli_eval_kinds(const cli_tasks *t, size_t *count)
{
    size_t *firsts = malloc((t->count + 1) * sizeof *firsts);
    *count = 0;
    for (size_t i = 0; firsts != NULL && i < t->count; i++) {
        bool known = false;
        for (size_t k = 0; k < *count; k++)
            known = known || strcmp(t->items[firsts[k]].kind, t->items[i].kind) == 0;
        if (!known)
            firsts[(*count)++] = i;
    }
    return firsts;
}

sl_status cli_tasks_read(const cli_args *args, json_t *warnings, cli_tasks *out, sl_error *err)
{
    if (args->operands == 0)
        return sl_fail(err, SL_INVALID, "no tasks; name one or more files of JSON lines, - for standard input");
    for (int i = 0; i < args->operands; i++) {
        char *text;
        size_t length;
        SL_TRY(cli_read_file(args->operand[i], &text, &length, err));
        sl_status status = cli_tasks_parse(args->operand[i], text, length, args->skip_broken, warnings, out, err);
        free(text);
        SL_TRY(status);
    }
    if (out->count == 0)
        return sl_fail(err, SL_INVALID, "%s%s: no items", args->operand[0], args->operands > 1 ? " and the others" : "");
    if (args->kind != NULL)
        SL_TRY(keep_kinds(out, args->kind, err));
    if (args->fewshot > 0)
        SL_TRY(make_examples(out, (size_t)args->fewshot, err));
    if (args->limit > 0)
        keep_first(out, (size_t)args->limit);
    return SL_OK;
}

void cli_tasks_free(cli_tasks *t)
{
    for (size_t i = 0; i < t->count; i++)
        sl_task_free(&t->items[i]);
    for (size_t i = 0; i < t->prefix_count; i++)
        free(t->prefixes[i]);
    free(t->prefixes);
    free(t->items);
    *t = (cli_tasks){0};
}
