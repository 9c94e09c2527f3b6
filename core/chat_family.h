/* core/chat_family.h: a family of chat templates, as data; shared by the table of them (chat_family.c) and what renders (chat_template.c). */
#ifndef SL_CORE_CHAT_FAMILY_H
#define SL_CORE_CHAT_FAMILY_H

#include "core/chat_template.h"

/* Stand in the texts of a family for the file's tokens. */
#define SLI_CHAT_BOS "\001"
#define SLI_CHAT_EOS "\002"

#define SLI_CHAT_MARKS_MAX 7
#define SLI_CHAT_ROLES     3

/* Where a system message goes. */
typedef enum sli_system_place {
    SLI_SYSTEM_TURN = 0, /* a turn of its own */
    SLI_SYSTEM_IN_NEXT,  /* before the text of the message behind it */
    SLI_SYSTEM_IN_LAST   /* before the text of the last message, so that it moves as the conversation goes on */
} sli_system_place;

/* What becomes of the reasoning, up to </think>, that an earlier answer began with. */
typedef enum sli_thoughts {
    SLI_THOUGHTS_KEPT = 0,
    SLI_THOUGHTS_DROPPED,
    SLI_THOUGHTS_DROPPED_AT_FIRST,  /* up to the first </think>; the others: up to the last one */
    SLI_THOUGHTS_DROPPED_WITH_LINES /* and the line ends behind it */
} sli_thoughts;

struct sl_chat_family {
    const char *name;
    const char *has[SLI_CHAT_MARKS_MAX];                      /* all of these are in the template, once it is flattened */
    const char *lacks[SLI_CHAT_MARKS_MAX];                    /* and none of these */
    const char *open[SLI_CHAT_ROLES], *close[SLI_CHAT_ROLES]; /* around a message's text, by role */
    const char *ask; /* opens the assistant's turn that is to be generated; NULL: open[SL_ROLE_ASSISTANT] */
    sli_system_place system;
    sli_thoughts thoughts;
    unsigned trims;          /* bit 1 << role: white space around the text is dropped */
    bool trims_whole;        /* a system message within a turn is part of the text that is trimmed */
    bool begins_with_bos;    /* its turns do: not the first, for tokenizers put one before each text */
    bool system_always;      /* a conversation without a system message has the turn all the same */
    const char *preset_mark; /* in the template before the constant that is its default system message; NULL: it is looked for as a turn */
    const char *bos, *eos;   /* what its models have */
};

/* The family of a template, or NULL: unknown, or no memory (*err then says so, and the result is SL_NO_MEMORY). */
SL_MUST_USE sl_status sli_chat_family_of(sl_str template, const sl_chat_family **out, sl_error *err);

#endif
