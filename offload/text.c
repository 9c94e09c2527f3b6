/* offload/text.c: the engine's tokenizer and chat template, for callers outside. */
#include "offload/engine.h"

#include <stdlib.h>

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

sl_status sl_engine_chat_prompt(const sl_engine *engine, const char *template_name, const char *system, const char *user, char **out,
                                sl_error *err)
{
    const sl_chat_family *family;
    sl_message messages[2];
    size_t count = 0;
    char *preset = NULL;
    *out = NULL;
    if (template_name != NULL)
        SL_TRY(sl_chat_by_name(template_name, &family, err));
    else
        SL_TRY(sl_chat_detect(engine->gguf, &family, err));
    if (system == NULL && template_name == NULL) {
        SL_TRY(sl_chat_default_system(engine->gguf, &preset, err));
        system = preset;
    }
    if (system != NULL && system[0] != '\0')
        messages[count++] = (sl_message){SL_ROLE_SYSTEM, system};
    messages[count++] = (sl_message){SL_ROLE_USER, user};
    sl_status status = sl_chat_render(family, messages, count, out, err);
    free(preset);
    return status;
}
