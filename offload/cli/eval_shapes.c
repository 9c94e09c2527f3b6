/* offload/cli/eval_shapes.c: one line of a task file: whose shape it has, and what it asks.
 *
 * Ours says what it means (README.md). The others are the shapes in which the usual data sets are published, and the text made of them is that of
 * lm-evaluation-harness' tasks of the same name, so that figures compare. A shape is known by the keys that it alone has. */
#include "offload/cli/eval.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOKENS_MAX 4096

/* ---- values ---- */

static sl_status text_at(const json_t *line, const char *key, const char **out, sl_error *err)
{
    const json_t *value = json_object_get(line, key);
    *out = json_string_value(value);
    if (value == NULL)
        return sl_fail(err, SL_INVALID, "there is no \"%s\"", key);
    if (*out == NULL)
        return sl_fail(err, SL_INVALID, "\"%s\" must be a text", key);
    if (strlen(*out) != json_string_length(value))
        return sl_fail(err, SL_INVALID, "\"%s\" has a NUL character in it", key);
    return SL_OK;
}

static bool has(const json_t *line, const char *key)
{
    return json_object_get(line, key) != NULL;
}

/* Pieces joined; *out is the item's. */
static sl_status join(char **out, const char *const *pieces, size_t count, sl_error *err)
{
    size_t length = 0;
    *out = NULL;
    for (size_t i = 0; i < count; i++)
        length += strlen(pieces[i]);
    char *text = malloc(length + 1);
    if (text == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for an item");
    *out = text;
    for (size_t i = 0; i < count; i++)
        text = stpcpy(text, pieces[i]);
    *text = '\0';
    return SL_OK;
}
#define JOIN(out, err, ...)                                                                                                                \
    join(out, (const char *const[]){__VA_ARGS__}, sizeof(const char *const[]){__VA_ARGS__} / sizeof(const char *), err)

static sl_status add_text(sl_task_item *item, const char *text, sl_error *err)
{
    if (item->text_count == SL_TASK_TEXTS_MAX)
        return sl_fail(err, SL_INVALID, "more than %d choices", SL_TASK_TEXTS_MAX);
    if (text == NULL || text[0] == '\0')
        return sl_fail(err, SL_INVALID, "choice %zu is no text, or an empty one", item->text_count + 1);
    SL_TRY(JOIN(&item->texts[item->text_count], err, text));
    item->text_count++;
    return SL_OK;
}

static sl_status add_texts(sl_task_item *item, const json_t *array, const char *key, sl_error *err)
{
    if (!json_is_array(array) || json_array_size(array) == 0)
        return sl_fail(err, SL_INVALID, "\"%s\" must be a list of texts, with one at least", key);
    for (size_t i = 0; i < json_array_size(array); i++)
        SL_TRY(add_text(item, json_string_value(json_array_get(array, i)), err));
    return SL_OK;
}

/* The right choice: its number from 0, or that number as a text, or its letter. */
static sl_status gold_at(const json_t *line, const char *key, sl_task_item *item, sl_error *err)
{
    const json_t *value = json_object_get(line, key);
    const char *text = json_string_value(value);
    json_int_t number = json_is_integer(value) ? json_integer_value(value) : -1;
    if (text != NULL && text[0] >= 'A' && text[0] <= 'Z' && text[1] == '\0')
        number = text[0] - 'A';
    else if (text != NULL && text[0] >= '0' && text[0] <= '9' && (text[1] == '\0' || text[2] == '\0'))
        number = strtol(text, NULL, 10);
    if (number < 0 || (size_t)number >= item->text_count)
        return sl_fail(err, SL_INVALID, "\"%s\" must say which of the %zu choices is right: a number from 0, or a letter from A", key,
                       item->text_count);
    item->gold = (size_t)number;
    return SL_OK;
}

/* ---- the shapes of data sets ---- */

/* {"text": ["…"], "label": ["A"]} or [{"text": "…", "label": "A"}], and the label of the right one. */
static sl_status labelled(const json_t *choices, const char *answer, sl_task_item *item, sl_error *err)
{
    const json_t *texts = json_object_get(choices, "text"), *labels = json_object_get(choices, "label");
    size_t count = json_is_array(choices) ? json_array_size(choices) : json_array_size(texts);
    bool found = false;
    if (count == 0 || (!json_is_array(choices) && json_array_size(labels) != count))
        return sl_fail(err, SL_INVALID, "\"choices\" must have as many labels as texts, and one at least");
    for (size_t i = 0; i < count; i++) {
        const json_t *one = json_array_get(choices, i);
        const json_t *text = one != NULL ? json_object_get(one, "text") : json_array_get(texts, i);
        const char *label = json_string_value(one != NULL ? json_object_get(one, "label") : json_array_get(labels, i));
        SL_TRY(add_text(item, json_string_value(text), err));
        if (label != NULL && strcmp(label, answer) == 0) {
            item->gold = i;
            found = true;
        }
    }
    return found ? SL_OK : sl_fail(err, SL_INVALID, "\"answerKey\" %.20s is the label of no choice", answer);
}

/* ARC and CommonsenseQA, as published and as lm-evaluation-harness loads them. */
static sl_status arc(const json_t *line, sl_task_item *item, sl_error *err)
{
    const char *question, *answer;
    const json_t *holder = json_object_get(line, "question"), *choices = json_object_get(line, "choices");
    if (json_is_object(holder)) {
        SL_TRY(text_at(holder, "stem", &question, err));
        choices = json_object_get(holder, "choices");
    } else {
        SL_TRY(text_at(line, "question", &question, err));
    }
    SL_TRY(text_at(line, "answerKey", &answer, err));
    SL_TRY(JOIN(&item->context, err, "Question: ", question, "\nAnswer:"));
    return labelled(choices, answer, item, err);
}

static sl_status open_book(const json_t *line, sl_task_item *item, sl_error *err)
{
    const char *question, *answer;
    SL_TRY(text_at(line, "question_stem", &question, err));
    SL_TRY(text_at(line, "answerKey", &answer, err));
    SL_TRY(JOIN(&item->context, err, question));
    return labelled(json_object_get(line, "choices"), answer, item, err);
}

/* As lm-evaluation-harness cleans HellaSwag: " [title]" ends a sentence, what else is in brackets goes, and so do double blanks. */
static void clean(char *text)
{
    char *to = text;
    while (isspace((unsigned char)*text))
        text++;
    for (const char *from = text; *from != '\0';) {
        const char *close = *from == '[' ? strchr(from, ']') : NULL;
        if (strncmp(from, " [title]", 8) == 0) {
            *to++ = '.';
            *to++ = ' ';
            from += 8;
        } else if (close != NULL) {
            from = close + 1;
        } else {
            *to++ = *from++;
        }
    }
    *to = '\0';
}

static void single_blanks(char *text)
{
    char *to = text;
    for (const char *from = text; *from != '\0'; from++) {
        *to++ = *from;
        if (from[0] == ' ' && from[1] == ' ') /* each pair becomes one, as str.replace does it */
            from++;
    }
    while (to > text && isspace((unsigned char)to[-1]))
        to--;
    *to = '\0';
}

static sl_status hellaswag(const json_t *line, sl_task_item *item, sl_error *err)
{
    const char *a, *b = "", *label = json_string_value(json_object_get(line, "activity_label"));
    SL_TRY(text_at(line, has(line, "ctx_a") ? "ctx_a" : "ctx", &a, err));
    if (has(line, "ctx_a") && has(line, "ctx_b"))
        SL_TRY(text_at(line, "ctx_b", &b, err));
    SL_TRY(JOIN(&item->context, err, label != NULL ? label : "", label != NULL ? ": " : "", a, has(line, "ctx_a") ? " " : "", b));
    char *second = item->context + strlen(item->context) - strlen(b);
    for (char *c = second; *c != '\0'; c++) /* str.capitalize() */
        *c = (char)(c == second ? toupper((unsigned char)*c) : tolower((unsigned char)*c));
    clean(item->context);
    single_blanks(item->context);
    SL_TRY(add_texts(item, json_object_get(line, "endings"), "endings", err));
    for (size_t i = 0; i < item->text_count; i++) {
        clean(item->texts[i]);
        single_blanks(item->texts[i]);
        if (item->texts[i][0] == '\0')
            return sl_fail(err, SL_INVALID, "ending %zu has nothing outside of brackets", i + 1);
    }
    return gold_at(line, "label", item, err);
}

static sl_status piqa(const json_t *line, sl_task_item *item, sl_error *err)
{
    const char *goal, *one, *two;
    SL_TRY(text_at(line, "goal", &goal, err));
    SL_TRY(text_at(line, "sol1", &one, err));
    SL_TRY(text_at(line, "sol2", &two, err));
    SL_TRY(JOIN(&item->context, err, "Question: ", goal, "\nAnswer:"));
    SL_TRY(add_text(item, one, err));
    SL_TRY(add_text(item, two, err));
    return gold_at(line, "label", item, err);
}

static sl_status boolq(const json_t *line, sl_task_item *item, sl_error *err)
{
    const char *passage, *question;
    const json_t *answer = json_object_get(line, "answer");
    SL_TRY(text_at(line, "passage", &passage, err));
    SL_TRY(text_at(line, "question", &question, err));
    SL_TRY(JOIN(&item->context, err, passage, "\nQuestion: ", question, "?\nAnswer:"));
    SL_TRY(add_text(item, "no", err));
    SL_TRY(add_text(item, "yes", err));
    if (!json_is_boolean(answer))
        return gold_at(line, "label", item, err);
    item->gold = json_is_true(answer);
    return SL_OK;
}

static sl_status sciq(const json_t *line, sl_task_item *item, sl_error *err)
{
    static const char *const wrong[] = {"distractor1", "distractor2", "distractor3"};
    const char *question, *text, *support = json_string_value(json_object_get(line, "support"));
    SL_TRY(text_at(line, "question", &question, err));
    SL_TRY(JOIN(&item->context, err, support != NULL ? support : "", "\nQuestion: ", question, "\nAnswer:"));
    for (size_t i = 0; i < 3; i++) {
        SL_TRY(text_at(line, wrong[i], &text, err));
        SL_TRY(add_text(item, text, err));
    }
    item->gold = 3;
    SL_TRY(text_at(line, "correct_answer", &text, err));
    return add_text(item, text, err);
}

static sl_status query_gold(const json_t *line, sl_task_item *item, sl_error *err)
{
    const char *query;
    SL_TRY(text_at(line, "query", &query, err));
    SL_TRY(JOIN(&item->context, err, query));
    SL_TRY(add_texts(item, json_object_get(line, "choices"), "choices", err));
    return gold_at(line, has(line, "gold") ? "gold" : "answer", item, err);
}

/* MMLU names its choices by letters, and those are scored. */
static sl_status mmlu(const json_t *line, sl_task_item *item, sl_error *err)
{
    const char *question;
    SL_TRY(text_at(line, "question", &question, err));
    SL_TRY(add_texts(item, json_object_get(line, "choices"), "choices", err));
    SL_TRY(gold_at(line, "answer", item, err));
    SL_TRY(JOIN(&item->context, err, question));
    for (size_t i = 0; i < item->text_count; i++) {
        char letter[2] = {(char)('A' + (int)i), '\0'}, *longer;
        SL_TRY(JOIN(&longer, err, item->context, "\n", letter, ". ", item->texts[i]));
        free(item->context);
        item->context = longer;
        snprintf(item->texts[i], strlen(item->texts[i]) + 1, "%s", letter);
    }
    char *whole;
    SL_TRY(JOIN(&whole, err, item->context, "\nAnswer:"));
    free(item->context);
    item->context = whole;
    return SL_OK;
}

static sl_status question_choices(const json_t *line, sl_task_item *item, sl_error *err)
{
    const char *question;
    SL_TRY(text_at(line, "question", &question, err));
    SL_TRY(JOIN(&item->context, err, "Question: ", question, "\nAnswer:"));
    SL_TRY(add_texts(item, json_object_get(line, "choices"), "choices", err));
    return gold_at(line, "answer", item, err);
}

static sl_status continuation(const json_t *line, sl_task_item *item, sl_error *err)
{
    const char *context, *text;
    item->form = SL_TASK_CONTINUATION;
    SL_TRY(text_at(line, "context", &context, err));
    SL_TRY(text_at(line, "continuation", &text, err));
    SL_TRY(JOIN(&item->context, err, context));
    if (text[0] != '\0' && isspace((unsigned char)text[0]))
        item->delimiter[0] = '\0';
    return add_text(item, text, err);
}

/* LAMBADA: the last word of a text. */
static sl_status last_word(const json_t *line, sl_task_item *item, sl_error *err)
{
    const char *text;
    item->form = SL_TASK_CONTINUATION;
    SL_TRY(text_at(line, "text", &text, err));
    SL_TRY(JOIN(&item->context, err, text));
    char *blank = strrchr(item->context, ' ');
    if (blank == NULL || blank == item->context || blank[1] == '\0')
        return sl_fail(err, SL_INVALID, "\"text\" has no last word with a blank before it");
    *blank = '\0';
    return add_text(item, blank + 1, err);
}

/* ---- ours ---- */

static sl_status read_stops(const json_t *line, sl_task_item *item, sl_error *err)
{
    const json_t *stop = json_object_get(line, "stop");
    size_t count = stop == NULL ? 1 : json_array_size(stop);
    if (stop != NULL && (!json_is_array(stop) || count > SL_TASK_STOPS_MAX))
        return sl_fail(err, SL_INVALID, "\"stop\" must be a list of at most %d texts", SL_TASK_STOPS_MAX);
    for (size_t i = 0; i < count; i++) {
        const char *text = stop == NULL ? "\n" : json_string_value(json_array_get(stop, i));
        if (text == NULL || text[0] == '\0')
            return sl_fail(err, SL_INVALID, "a text of \"stop\" is empty, or no text");
        SL_TRY(JOIN(&item->stop[item->stops], err, text));
        item->stops++;
    }
    return SL_OK;
}

static const char *match_word(size_t index)
{
    static const char *const words[] = {[SL_MATCH_EXACT] = "exact", [SL_MATCH_PREFIX] = "prefix", [SL_MATCH_REGEX] = "regex"};
    return index < sizeof words / sizeof *words ? words[index] : NULL;
}

static sl_status read_limits(const json_t *line, sl_task_item *item, sl_error *err)
{
    const json_t *tokens = json_object_get(line, "max_tokens");
    const char *match = NULL;
    int place;
    if (has(line, "match"))
        SL_TRY(text_at(line, "match", &match, err));
    SL_TRY(cli_one_of("\"match\"", match, match_word, &place, err));
    item->match = (sl_task_match)place;
    item->max_tokens = SL_TASK_TOKENS;
    if (tokens != NULL && (!json_is_integer(tokens) || json_integer_value(tokens) < 1 || json_integer_value(tokens) > TOKENS_MAX))
        return sl_fail(err, SL_INVALID, "\"max_tokens\" must be a whole number from 1 to %d", TOKENS_MAX);
    if (tokens != NULL)
        item->max_tokens = (uint32_t)json_integer_value(tokens);
    return read_stops(line, item, err);
}

static sl_status generated(const json_t *line, sl_task_item *item, sl_error *err)
{
    const json_t *answer = json_object_get(line, "answer");
    item->form = SL_TASK_GENERATION;
    SL_TRY(read_limits(line, item, err));
    if (json_is_array(answer))
        SL_TRY(add_texts(item, answer, "answer", err));
    else if (!json_is_string(answer) || json_string_length(answer) == 0)
        return sl_fail(err, SL_INVALID, "\"answer\" must be a text, or a list of texts");
    else
        SL_TRY(add_text(item, json_string_value(answer), err));
    bool right; /* of a pattern: whether it is one */
    return sl_task_judge(item, "", 0, &right, err);
}

static sl_status ours(const json_t *line, sl_task_item *item, sl_error *err)
{
    const char *prompt, *delimiter = " ";
    SL_TRY(text_at(line, "prompt", &prompt, err));
    SL_TRY(JOIN(&item->context, err, prompt));
    if (has(line, "delimiter"))
        SL_TRY(text_at(line, "delimiter", &delimiter, err));
    free(item->delimiter);
    item->delimiter = NULL;
    SL_TRY(JOIN(&item->delimiter, err, delimiter));
    if (!has(line, "choices"))
        return generated(line, item, err);
    SL_TRY(add_texts(item, json_object_get(line, "choices"), "choices", err));
    return gold_at(line, "answer", item, err);
}

static sl_status question_answer(const json_t *line, sl_task_item *item, sl_error *err)
{
    const char *question;
    SL_TRY(text_at(line, "question", &question, err));
    SL_TRY(JOIN(&item->context, err, "Question: ", question, "\nAnswer:"));
    return generated(line, item, err);
}

/* ---- which ---- */

static const struct shape {
    const char *keys[3]; /* that it has, all of them */
    sl_status (*read)(const json_t *, sl_task_item *, sl_error *);
} shapes[] = {
    {{"prompt"}, ours},
    {{"question_stem", "answerKey"}, open_book},
    {{"question", "answerKey"}, arc},
    {{"endings", "label"}, hellaswag},
    {{"goal", "sol1", "sol2"}, piqa},
    {{"passage", "question"}, boolq},
    {{"question", "correct_answer", "distractor1"}, sciq},
    {{"query", "choices"}, query_gold},
    {{"question", "choices", "subject"}, mmlu},
    {{"question", "choices"}, question_choices},
    {{"context", "continuation"}, continuation},
    {{"question", "answer"}, question_answer},
    {{"text"}, last_word},
};

static const struct shape *shape_of(const json_t *line)
{
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        bool all = true;
        for (size_t k = 0; k < 3 && shapes[i].keys[k] != NULL; k++)
            all = all && has(line, shapes[i].keys[k]);
        if (all)
            return &shapes[i];
    }
    return NULL;
}

static sl_status parse(const json_t *line, const char *kind, sl_task_item *item, sl_error *err)
{
    if (!json_is_object(line))
        return sl_fail(err, SL_INVALID, "it is no JSON object");
    const struct shape *shape = shape_of(line);
    if (shape == NULL)
        return sl_fail(err, SL_INVALID,
                       "no known shape: \"prompt\" with \"answer\" is ours; others are known by \"question\" and \"choices\", \"query\", "
                       "\"endings\", \"goal\", \"passage\", \"context\" and \"continuation\", or \"text\"");
    const char *named = json_string_value(json_object_get(line, "kind"));
    if (named == NULL)
        named = json_string_value(json_object_get(line, "subject"));
    SL_TRY(JOIN(&item->kind, err, named != NULL && named[0] != '\0' ? named : kind));
    SL_TRY(JOIN(&item->delimiter, err, " "));
    return shape->read(line, item, err);
}

sl_status cli_task_parse(const json_t *line, const char *kind, sl_task_item *out, sl_error *err)
{
    *out = (sl_task_item){0};
    sl_status status = parse(line, kind, out, err);
    if (status != SL_OK)
        sl_task_free(out);
    return status;
}
