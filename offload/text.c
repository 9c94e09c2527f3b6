/* offload/text.c: the engine's tokenizer and chat template, for callers outside. */
#include "offload/engine.h"

#include <stdlib.h>
#include <time.h>

sl_status sl_engine_tokenize(sl_engine *engine, const char *text, size_t length, bool add_bos, bool parse_special, sl_token_id **out,
                             size_t *count, sl_error *err)
{
    sl_tokens list = {0};
    sl_encode_options options = {.add_bos = add_bos, .parse_special = parse_special};
    *out = NULL;
    *count = 0;
    sl_status status = sl_tokenizer_encode(engine->tokenizer, text, length, options, &list, err);
    if (status != SL_OK) {
        sl_tokens_free(&list);
        return status;
    }
    *out = list.ids;
    *count = list.count;
    return SL_OK;
}

const char *sl_engine_piece(const sl_engine *engine, sl_token_id token, bool special, size_t *length)
{
    sl_str piece = sl_tokenizer_piece(engine->tokenizer, token, special);
    *length = piece.length;
    return piece.data;
}

bool sl_engine_ends_generation(const sl_engine *engine, sl_token_id token)
{
    return sl_tokenizer_ends_generation(engine->tokenizer, token);
}

static sl_status find_family(const sl_engine *engine, const char *template_name, const sl_chat_family **out, sl_error *err)
{
    return template_name != NULL ? sl_chat_by_name(template_name, out, err) : sl_chat_detect(engine->gguf, out, err);
}

/* The template's own system message, where the conversation has none. Few hold a date: today's, of UTC. */
static sl_status read_preset(const sl_engine *engine, const sl_message *messages, size_t count, char **out, sl_error *err)
{
    char today[16] = "";
    time_t now = time(NULL);
    struct tm date;
    if (count > 0 && messages[0].role == SL_ROLE_SYSTEM)
        return SL_OK;
    if (gmtime_r(&now, &date) != NULL)
        (void)strftime(today, sizeof today, "%Y-%m-%d", &date);
    return sl_chat_default_system(engine->gguf, today, out, err);
}

/* The conversation with the template's own system message before it, where it has none. The list is the caller's to free. */
static sl_status complete(const sl_message *messages, size_t count, const char *preset, sl_message **out, size_t *out_count, sl_error *err)
{
    bool given = count > 0 && messages[0].role == SL_ROLE_SYSTEM;
    const char *system = given ? messages[0].text : preset;
    *out_count = 0;
    *out = malloc((count + 1) * sizeof **out);
    if (*out == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for %zu messages", count);
    if (system != NULL && system[0] != '\0')
        (*out)[(*out_count)++] = (sl_message){SL_ROLE_SYSTEM, system};
    for (size_t i = given ? 1 : 0; i < count; i++)
        (*out)[(*out_count)++] = messages[i];
    return SL_OK;
}

sl_status sl_engine_chat_render(const sl_engine *engine, const char *template_name, const sl_message *messages, size_t count, char **out,
                                sl_error *err)
{
    const sl_chat_family *family;
    char *preset = NULL;
    sl_message *all = NULL;
    size_t all_count;
    *out = NULL;
    SL_TRY(find_family(engine, template_name, &family, err));
    if (template_name == NULL)
        SL_TRY(read_preset(engine, messages, count, &preset, err));
    sl_chat_tokens tokens = {sl_tokenizer_piece(engine->tokenizer, sl_tokenizer_bos(engine->tokenizer), true),
                             sl_tokenizer_piece(engine->tokenizer, sl_tokenizer_eos(engine->tokenizer), true)};
    sl_status status = complete(messages, count, preset, &all, &all_count, err);
    if (status == SL_OK)
        status = sl_chat_render(family, &tokens, all, all_count, out, err);
    free(all);
    free(preset);
    return status;
}

sl_status sl_engine_chat_prompt(const sl_engine *engine, const char *template_name, const char *system, const char *user, char **out,
                                sl_error *err)
{
    sl_message messages[2] = {{SL_ROLE_SYSTEM, system}, {SL_ROLE_USER, user}};
    size_t skip = system == NULL ? 1 : 0;
    return sl_engine_chat_render(engine, template_name, messages + skip, 2 - skip, out, err);
}
