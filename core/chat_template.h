/* core/chat_template.h: the text around a conversation's messages, by the family that the file's template belongs to.
 *
 * Templates are recognised, not executed: a file whose template is of no known family is refused with the list of names for
 * --chat-template. A family is a row of a table.  Threads: pure. */
#ifndef SL_CORE_CHAT_TEMPLATE_H
#define SL_CORE_CHAT_TEMPLATE_H

#include "core/gguf.h"

typedef struct sl_chat_family sl_chat_family;
typedef enum sl_role { SL_ROLE_SYSTEM, SL_ROLE_USER, SL_ROLE_ASSISTANT } sl_role;
typedef struct sl_message {
    sl_role role;
    const char *text;
} sl_message;

/* From tokenizer.chat_template; SL_UNSUPPORTED when absent or unknown (the message lists the names). */
SL_MUST_USE sl_status sl_chat_detect(const sl_gguf *gguf, const sl_chat_family **out, sl_error *err);
SL_MUST_USE sl_status sl_chat_by_name(const char *name, const sl_chat_family **out, sl_error *err);
const char *sl_chat_name(const sl_chat_family *family);
/* The default system message that the file's own template inserts when a conversation has none ("" when none); for SmolLM2 "You are a helpful AI
 * assistant named SmolLM, trained by Hugging Face". Read from the template's text. Caller frees *out. */
SL_MUST_USE sl_status sl_chat_default_system(const sl_gguf *gguf, char **out, sl_error *err);
/* Renders messages and the opening of the assistant's turn; malloc'd, NUL-terminated, caller frees. */
SL_MUST_USE sl_status sl_chat_render(const sl_chat_family *family, const sl_message *messages, size_t count, char **out, sl_error *err);

#endif
