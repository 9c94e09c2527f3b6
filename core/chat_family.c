/* core/chat_family.c: the families of chat templates, as a table, and which of them a template is of.
 *
 * A file's template is a Jinja program. Nearly all such programs put the same few texts around each message, so we look for the texts and
 * write them ourselves. That is exact only while the program does nothing else; so a family also lists the marks of relatives that do, and
 * a template which has one is refused rather than rendered nearly right.
 *
 * The same text can be written in several ways: 'a' + '\n', "a\n". So a template is flattened before it is searched: escaped line ends become
 * real ones, double quotes single ones, white space around + goes, and so do the quotes and the + between two constants. */
#include "core/chat_family.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEMPLATE_KEY "tokenizer.chat_template"
#define ALL_ROLES    7u
#define USER         (1u << SL_ROLE_USER)
#define ASSISTANT    (1u << SL_ROLE_ASSISTANT)
#define LLAMA_HEADER "<|start_header_id|>system<|end_header_id|>\n\n"
#define DEEPSEEK_END "<｜end▁of▁sentence｜>"
/* A relative ends the user's turns, too. */
#define DEEPSEEK_USER_ENDS   "'<｜User｜>'+message['content']+'" DEEPSEEK_END
#define LAST_THOUGHT         "split('</think>')[-1]"
#define NO_THOUGHT_NOR_LINES "split('</think>')[-1].lstrip('\n')"

#define CHATML_TURNS                                                                                                                       \
    .open = {"<|im_start|>system\n", "<|im_start|>user\n", "<|im_start|>assistant\n"},                                                     \
    .close = {"<|im_end|>\n", "<|im_end|>\n", "<|im_end|>\n"}
#define LLAMA3_TURNS(system)                                                                                                               \
    .open = {system, "<|start_header_id|>user<|end_header_id|>\n\n", "<|start_header_id|>assistant<|end_header_id|>\n\n"},                 \
    .close = {"<|eot_id|>", "<|eot_id|>", "<|eot_id|>"}, .trims = ALL_ROLES
#define DEEPSEEK3_TURNS                                                                                                                    \
    .open = {"", "<｜User｜>", "<｜Assistant｜>"}, .close = {"", "", DEEPSEEK_END}, .bos = "<｜begin▁of▁sentence｜>", .eos = DEEPSEEK_END

static const sl_chat_family families[] = {
    {
        .name = "chatml",
        .has = {"<|im_start|>", "<|im_end|>"},
        /* another separator after the role, today's date, reasoning to be dropped, instructions that are always there */
        .lacks = {"<|im_sep|>", "<|im_middle|>", "strftime_now", "</think>", "function calling AI model"},
        CHATML_TURNS,
    },
    {
        .name = "qwen3",
        .has = {"<|im_start|>", "<|im_end|>", "</think>", "lstrip('\n')"},
        .lacks = {"<|im_sep|>", "strftime_now", "assistant\n<think>", "'<think>\n'"},
        CHATML_TURNS,
        .thoughts = SLI_THOUGHTS_DROPPED_WITH_LINES,
    },
    {
        .name = "qwq", /* an answer always begins with reasoning */
        .has = {"<|im_start|>", "<|im_end|>", NO_THOUGHT_NOR_LINES, "'<|im_start|>assistant\n<think>\n'"},
        .lacks = {"<|im_sep|>", "strftime_now", "enable_thinking"},
        CHATML_TURNS,
        .ask = "<|im_start|>assistant\n<think>\n",
        .thoughts = SLI_THOUGHTS_DROPPED_WITH_LINES,
    },
    {
        .name = "qwq-no-think", /* or ends it at once, unless asked to think */
        .has = {"<|im_start|>", "<|im_end|>", NO_THOUGHT_NOR_LINES, "'<|im_start|>assistant\n<think>\n'",
                "if not enable_thinking -%}{{- '</think>'"},
        .lacks = {"<|im_sep|>", "strftime_now"},
        CHATML_TURNS,
        .ask = "<|im_start|>assistant\n<think>\n</think>",
        .thoughts = SLI_THOUGHTS_DROPPED_WITH_LINES,
    },
    {
        .name = "llama2",
        .has = {"<<SYS>>\n'+system_message+'\n<</SYS>>\n\n'", "bos_token+'[INST] '+content.strip()+' [/INST]'",
                "' '+content.strip()+' '+eos_token"},
        .lacks = {"true == true"}, /* a system message of its own */
        .open = {"<<SYS>>\n", SLI_CHAT_BOS "[INST] ", " "},
        .close = {"\n<</SYS>>\n\n", " [/INST]", " " SLI_CHAT_EOS},
        .ask = "",
        .system = SLI_SYSTEM_IN_NEXT,
        .trims = USER | ASSISTANT,
        .trims_whole = true,
        .begins_with_bos = true,
    },
    {
        .name = "llama3",
        .has = {"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"},
        .lacks = {"Cutting Knowledge Date", "strftime_now", "thinking", "generate_schema", "datetime"},
        LLAMA3_TURNS(LLAMA_HEADER),
    },
    {
        .name = "llama3.1", /* to 3.3; the date is the one that the template falls back to, so that a text does not depend on the day */
        .has = {"<|start_header_id|>", "<|eot_id|>", "Cutting Knowledge Date: December 2023\n", "'Today Date: '+date_string+'\n\n'",
                "'26 Jul 2024'"},
        .lacks = {"if system_message %"}, /* no turn without a message */
        LLAMA3_TURNS(LLAMA_HEADER "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"),
        .system_always = true,
    },
    {
        .name = "mistral-v0", /* before there were system messages */
        .has = {"'[INST] '+message['content']+' [/INST]'", "message['content']+eos_token"},
        .lacks = {"<<SYS>>", "' '+message['content']", "eos_token+' '"},
        .open = {"", "[INST] ", ""},
        .close = {"\n\n", " [/INST]", SLI_CHAT_EOS},
        .system = SLI_SYSTEM_IN_NEXT,
    },
    {
        .name = "mistral-v1",
        .has = {"' [INST] '+message['content']+' [/INST]'", "' '+message['content']+eos_token", "' [INST] '+system_message+'\n\n'",
                "loop.first and system_message"},
        .open = {"", " [INST] ", " "},
        .close = {"\n\n", " [/INST]", SLI_CHAT_EOS},
        .ask = "",
        .system = SLI_SYSTEM_IN_NEXT,
    },
    {
        .name = "mistral-v3",
        .has = {"'[INST] '+message['content']+'[/INST]'", "' '+message['content']|trim+eos_token", "'[INST] '+system_message+'\n\n'",
                "loop.last and system_message"},
        .open = {"", "[INST] ", " "},
        .close = {"\n\n", "[/INST]", SLI_CHAT_EOS},
        .ask = "",
        .system = SLI_SYSTEM_IN_LAST,
        .trims = ASSISTANT,
    },
    {
        .name = "mistral-tekken",
        .has = {"'[INST]'+message['content']+'[/INST]'", "message['content']+eos_token", "'[INST]'+system_message+'\n\n'",
                "loop.last and system_message"},
        .lacks = {"[SYSTEM_PROMPT]", "' '+message['content']"},
        .open = {"", "[INST]", ""},
        .close = {"\n\n", "[/INST]", SLI_CHAT_EOS},
        .system = SLI_SYSTEM_IN_LAST,
    },
    {
        .name = "mistral-v7",
        .has = {"'[SYSTEM_PROMPT] '+message['content']+'[/SYSTEM_PROMPT]'", "'[INST] '+message['content']+'[/INST]'",
                "' '+message['content']+eos_token"},
        .open = {"[SYSTEM_PROMPT] ", "[INST] ", " "},
        .close = {"[/SYSTEM_PROMPT]", "[/INST]", SLI_CHAT_EOS},
        .ask = "",
    },
    {
        .name = "mistral-v7-tekken", /* Mistral Small 3 and later; its own system message may hold today's date */
        .has = {"'[SYSTEM_PROMPT]'+system_", "+'[/SYSTEM_PROMPT]'", "'[INST]'", "'[/INST]'", "eos_token"},
        .lacks = {"'[INST] '", "[THINK]", "' '+message['content']", "SYSTEM_PROMPT] "},
        .open = {"[SYSTEM_PROMPT]", "[INST]", ""},
        .close = {"[/SYSTEM_PROMPT]", "[/INST]", SLI_CHAT_EOS},
        .preset_mark = "set default_system_message",
    },
    {
        .name = "gemma", /* 3; the templates of 1 and 2 differ in refusing a system message */
        .has = {"<start_of_turn>", "<end_of_turn>"},
        .open = {"", "<start_of_turn>user\n", "<start_of_turn>model\n"},
        .close = {"\n\n", "<end_of_turn>\n", "<end_of_turn>\n"},
        .system = SLI_SYSTEM_IN_NEXT,
        .trims = USER | ASSISTANT,
        .eos = "<eos>",
    },
    {
        .name = "phi3",
        .has = {"<|end|>\n", "<|assistant|>\n"},
        .lacks = {"<|im_start|>", "<|start|>", "FINAL RESPONSE"},
        .open = {"<|system|>\n", "<|user|>\n", "<|assistant|>\n"},
        .close = {"<|end|>\n", "<|end|>\n", "<|end|>\n"},
    },
    {
        .name = "phi4",
        .has = {"<|im_start|>system<|im_sep|>", "<|im_start|>user<|im_sep|>", "<|im_end|>"},
        .lacks = {"<think>"},
        .open = {"<|im_start|>system<|im_sep|>", "<|im_start|>user<|im_sep|>", "<|im_start|>assistant<|im_sep|>"},
        .close = {"<|im_end|>", "<|im_end|>", "<|im_end|>"},
    },
    {
        .name = "phi4-mini",
        .has = {"'<|'+message['role']+'|>'+message['content']+'<|end|>'", "'<|assistant|>'"},
        .open = {"<|system|>", "<|user|>", "<|assistant|>"},
        .close = {"<|end|>", "<|end|>", "<|end|>"},
    },
    {
        .name = "zephyr",
        .has = {"'<|user|>\n'+message['content']+eos_token }}\n", "'<|system|>\n'+message['content']+eos_token }}\n",
                "'<|assistant|>\n'+message['content']+eos_token }}\n"},
        .open = {"<|system|>\n", "<|user|>\n", "<|assistant|>\n"},
        .close = {SLI_CHAT_EOS "\n", SLI_CHAT_EOS "\n", SLI_CHAT_EOS "\n"},
    },
    {
        .name = "deepseek", /* coder: the first generation */
        .has = {"'### Instruction:\n'+message['content']+'\n'", "'### Response:\n'+message['content']+'\n<|EOT|>\n'",
                "'### Response:'}}\n"},
        .open = {"", "### Instruction:\n", "### Response:\n"},
        .close = {"", "\n", "\n<|EOT|>\n"},
        .preset_mark = "not ns.found -%}",
    },
    {
        .name = "deepseek2", /* llm and v2 */
        .has = {"'User: '+message['content']+'\n\n'", "'Assistant: '+message['content']+eos_token", "'Assistant:'"},
        .open = {"", "User: ", "Assistant: "},
        .close = {"\n\n", "\n\n", SLI_CHAT_EOS},
        .ask = "Assistant:",
        .bos = "<｜begin▁of▁sentence｜>",
        .eos = DEEPSEEK_END,
    },
    {
        .name = "deepseek3", /* v2.5 and v3 */
        .has = {"<｜User｜>", "<｜Assistant｜>", DEEPSEEK_END},
        .lacks = {"</think>", DEEPSEEK_USER_ENDS},
        DEEPSEEK3_TURNS,
    },
    {
        .name = "deepseek-v3.1", /* without reasoning, as its template is unless asked */
        .has = {"<｜User｜>", "<｜Assistant｜>", "split('</think>', 1)[1]", "'</think>'}}", "if not thinking"},
        .lacks = {"<think></think>", DEEPSEEK_USER_ENDS},
        .open = {"", "<｜User｜>", "<｜Assistant｜></think>"},
        .close = {"", "", DEEPSEEK_END},
        .thoughts = SLI_THOUGHTS_DROPPED_AT_FIRST,
        .bos = "<｜begin▁of▁sentence｜>",
        .eos = DEEPSEEK_END,
    },
    {
        .name = "deepseek-v3.1-pair", /* where the empty reasoning is opened, too */
        .has = {"<｜User｜>", "<｜Assistant｜>", "split('</think>', 1)[1]", "if not thinking -%}{{'<think></think>'}}"},
        .lacks = {DEEPSEEK_USER_ENDS},
        .open = {"", "<｜User｜>", "<｜Assistant｜><think></think>"},
        .close = {"", "", DEEPSEEK_END},
        .thoughts = SLI_THOUGHTS_DROPPED_AT_FIRST,
        .bos = "<｜begin▁of▁sentence｜>",
        .eos = DEEPSEEK_END,
    },
    {
        .name = "deepseek-r1", /* and what was distilled from it */
        .has = {"<｜User｜>", "<｜Assistant｜><think>\n", DEEPSEEK_END, LAST_THOUGHT},
        .lacks = {"thinking", DEEPSEEK_USER_ENDS},
        DEEPSEEK3_TURNS,
        .ask = "<｜Assistant｜><think>\n",
        .thoughts = SLI_THOUGHTS_DROPPED,
    },
    {
        .name = "deepseek-r1-no-think",
        .has = {"<｜User｜>", "<｜Assistant｜><think>\n", DEEPSEEK_END, LAST_THOUGHT, "if not enable_thinking %}{{- '</think>'"},
        .lacks = {DEEPSEEK_USER_ENDS},
        DEEPSEEK3_TURNS,
        .ask = "<｜Assistant｜><think>\n</think>",
        .thoughts = SLI_THOUGHTS_DROPPED,
    },
    {
        .name = "deepseek-r1-open", /* its first templates, which leave it to the model to begin with <think> */
        .has = {"<｜User｜>", "<｜Assistant｜>", DEEPSEEK_END, LAST_THOUGHT},
        .lacks = {"thinking", "<｜Assistant｜><think>", DEEPSEEK_USER_ENDS},
        DEEPSEEK3_TURNS,
        .thoughts = SLI_THOUGHTS_DROPPED,
    },
};
#define FAMILIES    (sizeof families / sizeof *families)
#define NAMES_BYTES 400

const sl_chat_family *sl_chat_family_at(size_t index)
{
    return index < FAMILIES ? &families[index] : NULL;
}

/* All names, for those who are told to choose one. */
static const char *name_all(char names[NAMES_BYTES])
{
    size_t used = 0;
    for (size_t i = 0; i < FAMILIES && used < NAMES_BYTES; i++)
        used += (size_t)snprintf(names + used, NAMES_BYTES - used, "%s%s", i > 0 ? ", " : "", families[i].name);
    return names;
}

/* ---- flattening ---- */

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool is_quote(char c)
{
    return c == '\'' || c == '"';
}

/* A + between what came and what comes: without white space, and not at all between two constants. */
static size_t flatten_plus(sl_str from, size_t at, char *to, size_t *used)
{
    while (*used > 0 && is_space(to[*used - 1]))
        (*used)--;
    while (at < from.length && is_space(from.data[at]))
        at++;
    if (*used > 0 && to[*used - 1] == '\'' && at < from.length && is_quote(from.data[at])) {
        (*used)--;
        return at + 1;
    }
    to[(*used)++] = '+';
    return at;
}

/* `to` has room for as much as there is. */
static size_t flatten(sl_str from, char *to)
{
    size_t used = 0;
    for (size_t at = 0; at < from.length;) {
        char c = from.data[at++];
        if (c == '+') {
            at = flatten_plus(from, at, to, &used);
        } else if (c == '\\' && at < from.length && from.data[at] == 'n') {
            to[used++] = '\n';
            at++;
        } else {
            to[used++] = c;
            if (is_quote(c))
                to[used - 1] = '\'';
        }
    }
    return used;
}

/* ---- which family ---- */

static bool contains(sl_str text, const char *what)
{
    return text.length > 0 && memmem(text.data, text.length, what, strlen(what)) != NULL;
}

static bool is_of_family(sl_str flat, const sl_chat_family *family)
{
    for (size_t i = 0; i < SLI_CHAT_MARKS_MAX && family->has[i]; i++) {
        if (!contains(flat, family->has[i]))
            return false;
    }
    for (size_t i = 0; i < SLI_CHAT_MARKS_MAX && family->lacks[i]; i++) {
        if (contains(flat, family->lacks[i]))
            return false;
    }
    return true;
}

sl_status sli_chat_family_of(sl_str template, const sl_chat_family **out, sl_error *err)
{
    *out = NULL;
    char *text = malloc(template.length + 1);
    if (!text)
        return sl_fail(err, SL_NO_MEMORY, "no memory for a chat template of %zu bytes", template.length);
    sl_str flat = {text, flatten(template, text)};
    for (size_t i = 0; i < FAMILIES && !*out; i++) {
        if (is_of_family(flat, &families[i]))
            *out = &families[i];
    }
    free(text);
    return SL_OK;
}

sl_status sl_chat_detect(const sl_gguf *gguf, const sl_chat_family **out, sl_error *err)
{
    char names[NAMES_BYTES];
    *out = NULL;
    if (!sl_gguf_find(gguf, TEMPLATE_KEY))
        return sl_fail(err, SL_UNSUPPORTED, "%s: it has no chat template; --chat-template takes one of %s", sl_gguf_path(gguf),
                       name_all(names));
    sl_str template;
    SL_TRY(sl_gguf_str(gguf, TEMPLATE_KEY, &template, err));
    SL_TRY(sli_chat_family_of(template, out, err));
    if (!*out)
        return sl_fail(err, SL_UNSUPPORTED, "%s: its chat template is of no family that we know; --chat-template takes one of %s",
                       sl_gguf_path(gguf), name_all(names));
    return SL_OK;
}

sl_status sl_chat_by_name(const char *name, const sl_chat_family **out, sl_error *err)
{
    char names[NAMES_BYTES];
    *out = NULL;
    for (size_t i = 0; i < FAMILIES; i++) {
        if (strcmp(name, families[i].name) == 0) {
            *out = &families[i];
            return SL_OK;
        }
    }
    return sl_fail(err, SL_INVALID, "there is no chat template '%.64s'; known are %s", name, name_all(names));
}

const char *sl_chat_name(const sl_chat_family *family)
{
    return family->name;
}
