/* core/chat_template.h: the text around a conversation's messages, by the family that the file's template belongs to.
 *
 * Templates are recognised, not executed: a file whose template is of no known family is refused with the list of names for
 * --chat-template. A family is a row of a table (chat_family.h).  Threads: pure. */
#ifndef SL_CORE_CHAT_TEMPLATE_H
#define SL_CORE_CHAT_TEMPLATE_H

#include "core/gguf.h"
#include "core/message.h"

typedef struct sl_chat_family sl_chat_family;

/* The texts of the file's tokens that templates call bos_token and eos_token; an empty one: what the family's models have. */
typedef struct sl_chat_tokens {
    sl_str bos, eos;
} sl_chat_tokens;

/* From tokenizer.chat_template; SL_UNSUPPORTED when absent or unknown (the message lists the names). */
SL_MUST_USE sl_status sl_chat_detect(const sl_gguf *gguf, const sl_chat_family **out, sl_error *err);
SL_MUST_USE sl_status sl_chat_by_name(const char *name, const sl_chat_family **out, sl_error *err);
const char *sl_chat_name(const sl_chat_family *family);
const sl_chat_family *sl_chat_family_at(size_t index); /* NULL behind the last */
/* The default system message that the file's own template inserts when a conversation has none ("" when none); for SmolLM2 "You are a helpful AI
 * assistant named SmolLM, trained by Hugging Face". Read from the template's text. `today` is put where the message has the date, as
 * 2026-01-02; one that is computed otherwise is SL_UNSUPPORTED. Caller frees *out. */
SL_MUST_USE sl_status sl_chat_default_system(const sl_gguf *gguf, const char *today, char **out, sl_error *err);
/* Renders messages and the opening of the assistant's turn, without the BOS token that a tokenizer puts before each text; malloc'd,
 * NUL-terminated, caller frees. `tokens` may be NULL. */
SL_MUST_USE sl_status sl_chat_render(const sl_chat_family *family, const sl_chat_tokens *tokens, const sl_message *messages, size_t count,
                                     char **out, sl_error *err);

#endif
