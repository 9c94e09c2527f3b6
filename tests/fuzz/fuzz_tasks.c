/* tests/fuzz/fuzz_tasks.c: any bytes as a file of tasks: read to its end, with what is broken left out, or refused; and any bytes as an answer. */
/* fuzz: -max_len=512 */
#include "offload/cli/eval.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);

static void expect(bool holds)
{
    if (!holds)
        __builtin_trap();
}

static void check_item(const sl_task_item *item)
{
    expect(item->kind != NULL && item->context != NULL && item->delimiter != NULL && item->text_count > 0);
    expect(item->gold < item->text_count && item->line > 0);
    for (size_t i = 0; i < item->text_count; i++)
        expect(item->texts[i] != NULL && item->texts[i][0] != '\0');
    expect(item->form != SL_TASK_GENERATION || (item->max_tokens > 0 && item->max_tokens <= 4096));
    size_t before;
    char *text = sl_task_text(item, item->gold, &before);
    expect(text != NULL && before <= strlen(text));
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
    cli_tasks tasks = {0}, strict = {0};
    sl_error err = {0};
    json_t *warnings = json_array();
    sl_status status = cli_tasks_parse("f.jsonl", (const char *)data, length, true, warnings, &tasks, &err);
    expect(status == SL_OK && json_array_size(warnings) == tasks.skipped);
    for (size_t i = 0; i < tasks.count; i++) {
        bool right;
        check_item(&tasks.items[i]);
        status = sl_task_judge(&tasks.items[i], (const char *)data, length, &right, &err);
        expect(status == SL_OK || (status == SL_INVALID && tasks.items[i].match == SL_MATCH_REGEX));
    }
    status = cli_tasks_parse("f.jsonl", (const char *)data, length, false, NULL, &strict, &err);
    expect(status == SL_OK ? tasks.skipped == 0 && strict.count == tasks.count : tasks.skipped > 0 && strchr(err.message, '\n') == NULL);
    cli_tasks_free(&strict);
    cli_tasks_free(&tasks);
    json_decref(warnings);
    return 0;
}
