/* generate.c: the library in one screen: open a model under a memory budget, ask it something, stream the answer.
 *
 *     cc generate.c $(pkg-config --cflags --libs sluice) -o generate
 *     ./generate model.gguf 80 "Why is the sky blue?"          budget in MiB; 0: what the machine allows
 */
#include <sluice.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool print_text(void *ctx, const char *text, size_t length)
{
    (void)ctx;
    return fwrite(text, 1, length, stdout) == length && fflush(stdout) == 0;
}

static void print_note(void *ctx, const char *line)
{
    (void)ctx;
    fprintf(stderr, "note: %s\n", line);
}

/* The question as the model's chat template puts it, in tokens. */
static sl_status prompt_tokens(sl_engine *engine, const char *question, sl_token_id **tokens, size_t *count, sl_error *err)
{
    char *text;
    SL_TRY(sl_engine_chat_prompt(engine, NULL, NULL, question, &text, err));
    sl_status status = sl_engine_tokenize(engine, text, strlen(text), true, true, tokens, count, err);
    free(text);
    return status;
}

static sl_status answer(sl_engine *engine, const char *question, sl_error *err)
{
    sl_session *session = NULL;
    sl_result result = {0};
    sl_request request = {.max_tokens = 64, .temperature = 0, .top_p = 1, .repeat_penalty = 1, .on_text = print_text};
    sl_token_id *tokens = NULL;

    sl_status status = prompt_tokens(engine, question, &tokens, &request.prompt_count, err);
    if (status == SL_OK)
        status = sl_session_open(engine, &session, err);
    if (status == SL_OK) {
        request.prompt = tokens;
        status = sl_generate(session, &request, &result, err);
    }
    if (status == SL_OK)
        printf("\n[%zu tokens, %s]\n", result.count, sl_stop_reason_name(result.reason));
    sl_result_free(&result);
    sl_session_close(session);
    free(tokens);
    return status;
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: %s MODEL BUDGET_MIB QUESTION\n", argv[0]);
        return 2;
    }
    sl_engine *engine = NULL;
    sl_error err = {0};
    sl_engine_options options = {
        .model_path = argv[1], .ram_budget_bytes = strtoull(argv[2], NULL, 10) << 20, .context = 256, .note = print_note};
    sl_status status = sl_engine_open(&options, &engine, &err);
    if (status == SL_OK)
        status = answer(engine, argv[3], &err);
    sl_engine_close(engine);
    if (status != SL_OK) {
        fprintf(stderr, "%s\n", err.message);
        return status == SL_NO_BUDGET ? 3 : 1;
    }
    return 0;
}
