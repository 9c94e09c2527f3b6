/* tests/fuzz/fuzz_template.c: any text as a file's chat template, then as what is said in a conversation of the
 * family that its last byte chooses. */
/* fuzz: -max_len=800 */
#include "core/chat_template.h"

#include "tests/header_builder.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);

static void render(const sl_chat_family *family, const uint8_t *data, size_t length)
{
    char *said = malloc(length + 1);
    if (!said)
        return;
    memcpy(said, data, length);
    said[length] = '\0';
    const sl_message messages[] = {{SL_ROLE_SYSTEM, said}, {SL_ROLE_USER, ""}, {SL_ROLE_ASSISTANT, said}};
    char *text;
    const sl_chat_tokens tokens = {{said, strlen(said)}, {"", 0}};
    if (sl_chat_render(family, &tokens, messages, 3, &text, NULL) != SL_OK)
        __builtin_trap(); /* only memory can fail it */
    free(text);
    free(said);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
    if (length == 0) /* memcpy may not be given NULL */
        return 0;
    header h;
    header_start(&h);
    header_string(&h, "tokenizer.chat_template", (const char *)data, length);
    sl_gguf *gguf = header_parse(&h);
    if (!gguf)
        __builtin_trap();

    const sl_chat_family *family;
    if (sl_chat_detect(gguf, &family, NULL) == SL_OK)
        render(family, data, length);
    char *text;
    sl_status status = sl_chat_default_system(gguf, "2", &text, NULL); /* shorter than what it stands for */
    if (status != SL_UNSUPPORTED && (status != SL_OK || strlen(text) > length))
        __builtin_trap();
    free(text);
    sl_gguf_close(gguf);

    size_t families = 0;
    while (sl_chat_family_at(families) != NULL)
        families++;
    render(sl_chat_family_at(data[length - 1] % families), data, length);
    return 0;
}
