/* offload/tools/task.c: whether an answer is right, and what its parts are. */
#include "offload/tools/task.h"
#include "core/regex.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void sl_task_free(sl_task_item *item)
{
    for (size_t i = 0; i < item->text_count; i++)
        free(item->texts[i]);
    for (size_t i = 0; i < item->stops; i++)
        free(item->stop[i]);
    free(item->kind);
    free(item->context);
    free(item->delimiter);
    *item = (sl_task_item){0};
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* Without the blanks around it. */
static void trim(const char **text, size_t *length)
{
    while (*length > 0 && is_blank(**text)) {
        ++*text;
        --*length;
    }
    while (*length > 0 && is_blank((*text)[*length - 1]))
        --*length;
}

static sl_status judge_one(sl_task_match match, const char *wanted, const char *text, size_t length, bool *right, sl_error *err)
{
    if (match == SL_MATCH_REGEX) {
        sl_regex *regex;
        SL_TRY(sl_regex_create(wanted, &regex, err));
        sl_status status = sl_regex_search(regex, text, length, right, err);
        sl_regex_free(regex);
        return status;
    }
    size_t wanted_length = strlen(wanted);
    trim(&wanted, &wanted_length);
    bool begins = length >= wanted_length && memcmp(text, wanted, wanted_length) == 0;
    *right = begins && (match == SL_MATCH_PREFIX || length == wanted_length);
    return SL_OK;
}

sl_status sl_task_judge(const sl_task_item *item, const char *text, size_t length, bool *right, sl_error *err)
{
    *right = false;
    trim(&text, &length);
    for (size_t i = 0; i < item->text_count && !*right; i++)
        SL_TRY(judge_one(item->match, item->texts[i], text, length, right, err));
    return SL_OK;
}

size_t sl_task_characters(const char *text)
{
    size_t count = 0;
    for (; *text != '\0'; text++)
        count += ((unsigned char)*text & 0xC0) != 0x80;
    return count;
}

size_t sl_task_best(const sl_task_item *item, const double *log_p, bool normalised)
{
    size_t best = 0;
    double most = 0;
    for (size_t i = 0; i < item->text_count; i++) {
        size_t characters = sl_task_characters(item->texts[i]);
        double value = normalised && characters > 0 ? log_p[i] / (double)characters : log_p[i];
        if (i == 0 || value > most) {
            most = value;
            best = i;
        }
    }
    return best;
}

char *sl_task_text(const sl_task_item *item, size_t index, size_t *context_bytes)
{
    const char *prefix = item->prefix != NULL ? item->prefix : "", *text = item->texts[index];
    size_t before = strlen(prefix) + strlen(item->context), bytes = before + strlen(item->delimiter) + strlen(text) + 1;
    char *out = malloc(bytes);
    *context_bytes = before;
    if (out != NULL)
        snprintf(out, bytes, "%s%s%s%s", prefix, item->context, item->delimiter, text);
    return out;
}
