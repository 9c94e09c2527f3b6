/* core/message.h: what is said in a conversation, and by whom. */
#ifndef SL_CORE_MESSAGE_H
#define SL_CORE_MESSAGE_H

typedef enum sl_role { SL_ROLE_SYSTEM, SL_ROLE_USER, SL_ROLE_ASSISTANT } sl_role;
typedef struct sl_message {
    sl_role role;
    const char *text;
} sl_message;

#endif
