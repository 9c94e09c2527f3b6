/* tests/test_chat_template.c: which family a template is of, what a conversation becomes, and the system message that a template brings.
 *
 * What conversations become is in tests/golden/chat_templates.txt, rendered by Jinja2 (scripts/chat-oracle). */
#include "core/chat_template.h"

#include "tests/header_builder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SMOLLM2                                                                                                                            \
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are a helpful AI "    \
    "assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + "               \
    "message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
#define SMOLLM2_SYSTEM "You are a helpful AI assistant named SmolLM, trained by Hugging Face"

#define LLAMA3                                                                                                                             \
    "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + message['role'] + "      \
    "'<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content "   \
    "%}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"        \
    "{% endif %}"

#define GEMMA3                                                                                                                             \
    "{{ bos_token }}\n{%- if messages[0]['role'] == 'system' -%}\n{%- set first_user_prefix = messages[0]['content'] + '\n\n' -%}\n"       \
    "{%- set loop_messages = messages[1:] -%}\n{%- else -%}\n{%- set first_user_prefix = \"\" -%}\n{%- set loop_messages = messages "      \
    "-%}\n{%- endif -%}\n{%- for message in loop_messages -%}\n{%- if (message['role'] == 'assistant') -%}\n{%- set role = \"model\" "     \
    "-%}\n{%- else -%}\n{%- set role = message['role'] -%}\n{%- endif -%}\n{{ '<start_of_turn>' + role + '\n' + (first_user_prefix if "    \
    "loop.first else \"\") }}\n{{ message['content'] | trim }}\n{{ '<end_of_turn>\n' }}\n{%- endfor -%}\n{%- if "                          \
    "add_generation_prompt -%}\n{{'<start_of_turn>model\n'}}\n{%- endif -%}\n"

#define DEEPSEEK_MARKS                                                                                                                     \
    "{{'### Instruction:\\n' + message['content'] + '\\n'}}{{'### Response:\\n' + message['content'] + '\\n<|EOT|>\\n'}}{{'### "           \
    "Response:'}}\n"

static sl_gguf *with_template(const char *template)
{
    header h;
    header_start(&h);
    header_string(&h, "general.architecture", "llama", 5);
    if (template)
        header_string(&h, "tokenizer.chat_template", template, strlen(template));
    sl_gguf *gguf = header_parse(&h);
    assert_non_null(gguf);
    return gguf;
}

static const sl_chat_family *by_name(const char *name)
{
    const sl_chat_family *family;
    assert_int_equal(sl_chat_by_name(name, &family, NULL), SL_OK);
    return family;
}

static void expect_render(const char *family, const sl_message *messages, size_t count, const char *expected)
{
    char *text;
    assert_int_equal(sl_chat_render(by_name(family), NULL, messages, count, &text, NULL), SL_OK);
    assert_string_equal(text, expected);
    free(text);
}

static void expect_family(const char *template, const char *name)
{
    sl_gguf *gguf = with_template(template);
    const sl_chat_family *family;
    assert_int_equal(sl_chat_detect(gguf, &family, NULL), SL_OK);
    assert_string_equal(sl_chat_name(family), name);
    sl_gguf_close(gguf);
}

static void expect_unknown(const char *template, const char *words)
{
    sl_gguf *gguf = with_template(template);
    const sl_chat_family *family = (const sl_chat_family *)1;
    sl_error err = {0};
    assert_int_equal(sl_chat_detect(gguf, &family, &err), SL_UNSUPPORTED);
    assert_null(family);
    assert_non_null(strstr(err.message, words));
    assert_non_null(strstr(err.message, "built.gguf"));
    assert_non_null(strstr(err.message, "chatml"));
    sl_gguf_close(gguf);
}

static char *default_system_of(const char *template)
{
    sl_gguf *gguf = with_template(template);
    char *text;
    assert_int_equal(sl_chat_default_system(gguf, "2026-01-02", &text, NULL), SL_OK);
    sl_gguf_close(gguf);
    return text;
}

static void expect_system(const char *template, const char *expected)
{
    char *text = default_system_of(template);
    assert_string_equal(text, expected);
    free(text);
}

static void a_family_is_told_by_the_texts_of_its_template(void **state)
{
    (void)state;
    expect_family(SMOLLM2, "chatml");
    expect_family(LLAMA3, "llama3");
    expect_family(GEMMA3, "gemma");
    expect_unknown("{{ '<|im_start|>' + role + '<|im_sep|>' + content + '<|im_end|>' }}", "no family that we know");
    expect_unknown("<|start_header_id|><|end_header_id|><|eot_id|>Cutting Knowledge Date: December 2023", "no family that we know");
    expect_unknown("{{ '<|im_start|>' + role + content + '<|im_end|>' + strftime_now('%d') }}", "no family that we know");
    expect_unknown("{{ '<|im_start|>' + role + content + '<|im_end|>' }}{{ content.split('</think>') }}", "no family that we know");
    expect_unknown("{{ '<|user|>\n' + message['content'] + '\n' }}{{ '<|assistant|>\n' + message['content'] + eos_token }}",
                   "no family that we know");
    expect_unknown("<｜User｜><｜Assistant｜><｜end▁of▁sentence｜>{% if thinking %}<think>{% else %}</think>{% endif %}",
                   "no family that we know");
    expect_unknown("{{ '[INST] ' + content + ' [/INST]' }}", "no family that we know");
    /* relatives that say more than their family, or close what it leaves open */
    expect_unknown("{{ '<|im_start|>system\nYou are a function calling AI model.<|im_end|>' }}", "no family that we know");
    expect_unknown("<|start_header_id|><|end_header_id|><|eot_id|>{{ generate_schema_from_functions() }}", "no family that we know");
    expect_unknown("<｜User｜>{{'<｜User｜>' + message['content'] + '<｜end▁of▁sentence｜>'}}<｜Assistant｜>", "no family that we know");
    expect_unknown("{{ '<|im_start|>' }}{{ content.split('</think>')[-1].lstrip('\n') }}<|im_end|>{{- '<think>\n' }}",
                   "no family that we know");
    expect_unknown("{{ '<|user|>\n<|end|>\n<|assistant|>\n' }}[BEGIN FINAL RESPONSE]", "no family that we know");
    expect_unknown("", "no family that we know");
    expect_unknown(NULL, "no chat template");
}

static void a_name_that_no_family_has_is_refused_with_the_list(void **state)
{
    (void)state;
    const sl_chat_family *family;
    sl_error err = {0};
    assert_int_equal(sl_chat_by_name("martian", &family, &err), SL_INVALID);
    assert_null(family);
    assert_non_null(strstr(err.message, "'martian'"));
    assert_non_null(strstr(err.message, "chatml, qwen3, qwq"));
}

static void chatml_renders_as_its_template_does(void **state)
{
    (void)state;
    const sl_message talk[] = {{SL_ROLE_SYSTEM, "Be brief."}, {SL_ROLE_USER, " Hi \n"}, {SL_ROLE_ASSISTANT, "Hello!"}, {SL_ROLE_USER, ""}};
    expect_render("chatml", talk, 4,
                  "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n Hi \n<|im_end|>\n<|im_start|>assistant\nHello!<|im_end|>\n"
                  "<|im_start|>user\n<|im_end|>\n<|im_start|>assistant\n");
    expect_render("chatml", NULL, 0, "<|im_start|>assistant\n");
}

static void llama3_trims_what_is_said(void **state)
{
    (void)state;
    const sl_message talk[] = {{SL_ROLE_USER, " \n Hi there \t"}, {SL_ROLE_ASSISTANT, "  \n "}};
    expect_render(
        "llama3", talk, 2,
        "<|start_header_id|>user<|end_header_id|>\n\nHi there<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n");
}

static void gemma_folds_the_system_message_into_the_first_turn(void **state)
{
    (void)state;
    const sl_message talk[] = {
        {SL_ROLE_SYSTEM, " Be brief. "}, {SL_ROLE_USER, " Hi \n"}, {SL_ROLE_ASSISTANT, "Hello! "}, {SL_ROLE_USER, "a"}};
    expect_render("gemma", talk, 4,
                  "<start_of_turn>user\n Be brief. \n\nHi<end_of_turn>\n<start_of_turn>model\nHello!<end_of_turn>\n"
                  "<start_of_turn>user\na<end_of_turn>\n<start_of_turn>model\n");
    expect_render("gemma", talk + 1, 1, "<start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n");
    expect_render("gemma", talk, 1, "<start_of_turn>model\n");
}

/* ---- the golden file ---- */

#define GOLDEN         "tests/golden/chat_templates.txt"
#define TALKS_MAX      8
#define MESSAGES_MAX   8
#define FIELDS_MAX     4
#define FAMILIES_LEAST 20

typedef struct conversation {
    sl_message messages[MESSAGES_MAX];
    size_t count;
} conversation;

/* A JSON string's escapes, in place. */
static void unescape(char *text)
{
    char *to = text;
    for (const char *from = text; *from; from++) {
        if (*from == '\\') {
            from++;
            *to++ = *from == 'n' ? '\n' : *from == 't' ? '\t' : *from;
        } else {
            *to++ = *from;
        }
    }
    *to = '\0';
}

static size_t split(char *line, char *fields[FIELDS_MAX])
{
    size_t count = 0;
    line[strcspn(line, "\n")] = '\0';
    for (char *field; count < FIELDS_MAX && (field = strsep(&line, "\t")) != NULL; count++)
        fields[count] = field;
    unescape(fields[count - 1]);
    return count;
}

static sl_role role_named(const char *name)
{
    return strcmp(name, "system") == 0 ? SL_ROLE_SYSTEM : strcmp(name, "user") == 0 ? SL_ROLE_USER : SL_ROLE_ASSISTANT;
}

/* `preset`: the system message that the template brings, for conversations without one; or NULL. */
static void expect_as_rendered(const conversation *t, const char *preset, const char *family, const char *expected)
{
    char *text;
    const sl_chat_tokens tokens = {{"<s>", 3}, {NULL, 0}};
    sl_message messages[MESSAGES_MAX + 1] = {{SL_ROLE_SYSTEM, preset}};
    size_t skip = preset && t->messages[0].role != SL_ROLE_SYSTEM ? 0 : 1;
    memcpy(messages + 1, t->messages, sizeof t->messages);
    assert_int_equal(sl_chat_render(by_name(family), &tokens, messages + skip, t->count + 1 - skip, &text, NULL), SL_OK);
    assert_string_equal(text, expected);
    free(text);
}

/* What Jinja2 makes of each family's template, for conversations with and without a system message, over several turns, with white space
 * around what is said and reasoning in answers. A conversation that a template refuses is not in the file. */
static void each_family_renders_as_its_templates_do(void **state)
{
    (void)state;
    static conversation talks[TALKS_MAX];
    char *line = NULL, *preset = NULL, *fields[FIELDS_MAX], *kept[TALKS_MAX * MESSAGES_MAX];
    size_t capacity = 0, kept_count = 0, families = 0, rendered = 0, presets = 0;
    FILE *file = fopen(GOLDEN, "r");
    assert_non_null(file);
    while (getline(&line, &capacity, file) > 0) {
        size_t count = split(line, fields);
        if (strcmp(fields[0], "say") == 0) {
            assert_int_equal(count, 4);
            conversation *t = &talks[atoi(fields[1])];
            kept[kept_count] = strdup(fields[3]);
            t->messages[t->count++] = (sl_message){role_named(fields[2]), kept[kept_count++]};
        } else if (strcmp(fields[0], "template") == 0) {
            expect_family(fields[2], fields[1]);
            free(preset);
            preset = default_system_of(fields[2]);
            families++;
        } else if (strcmp(fields[0], "preset") == 0) {
            assert_string_equal(preset, fields[2]);
            presets++;
        } else if (strcmp(fields[0], "render") == 0) {
            expect_as_rendered(&talks[atoi(fields[2])], *preset ? preset : NULL, fields[1], fields[3]);
            rendered++;
        }
    }
    assert_true(families >= FAMILIES_LEAST);
    assert_null(sl_chat_family_at(families)); /* a family without a golden template is not tested */
    assert_true(rendered >= 5 * families && presets > 0);
    free(preset);
    for (size_t i = 0; i < kept_count; i++)
        free(kept[i]);
    free(line);
    fclose(file);
}

static void the_files_own_tokens_stand_in_a_rendering(void **state)
{
    (void)state;
    const sl_message talk[] = {{SL_ROLE_USER, "a"}, {SL_ROLE_ASSISTANT, "b"}, {SL_ROLE_USER, "c"}};
    const sl_chat_tokens tokens = {{"<B>", 3}, {"<|endoftext|>", 13}};
    char *text;
    assert_int_equal(sl_chat_render(by_name("llama2"), &tokens, talk, 3, &text, NULL), SL_OK);
    assert_string_equal(text, "[INST] a [/INST] b <|endoftext|><B>[INST] c [/INST]");
    free(text);
    assert_int_equal(sl_chat_render(by_name("zephyr"), &tokens, talk, 1, &text, NULL), SL_OK);
    assert_string_equal(text, "<|user|>\na<|endoftext|>\n<|assistant|>\n");
    free(text);
    assert_int_equal(sl_chat_render(by_name("deepseek2"), NULL, talk, 3, &text, NULL), SL_OK);
    assert_string_equal(text, "User: a\n\nAssistant: b<｜end▁of▁sentence｜>User: c\n\nAssistant:");
    free(text);
}

static void a_long_conversation_is_rendered_whole(void **state)
{
    (void)state;
    enum { COUNT = 500, LENGTH = 1000 };
    static char text[LENGTH + 1];
    static sl_message talk[COUNT];
    memset(text, 'x', LENGTH);
    for (int i = 0; i < COUNT; i++)
        talk[i] = (sl_message){SL_ROLE_USER, text};
    char *out;
    assert_int_equal(sl_chat_render(by_name("chatml"), NULL, talk, COUNT, &out, NULL), SL_OK);
    size_t turn = strlen("<|im_start|>user\n<|im_end|>\n") + LENGTH;
    assert_int_equal(strlen(out), COUNT * turn + strlen("<|im_start|>assistant\n"));
    for (int i = 0; i < COUNT; i++)
        assert_memory_equal(out + (size_t)i * turn, "<|im_start|>user\nxxx", 20);
    free(out);
}

static void the_default_system_message_is_read_from_the_template(void **state)
{
    (void)state;
    expect_system(SMOLLM2, SMOLLM2_SYSTEM);
    /* the same with escapes, as templates stand in JSON files; with the other quotes; and outside of any constant */
    expect_system("{{ '<|im_start|>system\\nIt\\'s \\\"me\\\"\\t\\\\<|im_end|>\\n' }}", "It's \"me\"\t\\");
    expect_system("{{ \"<|im_start|>system\nIt's<|im_end|>\n\" }}", "It's");
    expect_system("{% if x %}<|im_start|>system\nPlain 'text'<|im_end|>\n{% endif %}", "Plain 'text'");
    /* constants that are only pieces of a turn are none, whatever follows */
    expect_system("{{ '<|im_start|>system\n' + system + '<|im_end|>' }}{{ '<|im_start|>system\nYes<|im_end|>' }}", "Yes");
    expect_system("<|im_start|>system\n{{ system }}<|im_end|>", "");
    expect_system("{{ '<|im_start|>' + role + '\n' + content + '<|im_end|>' }}", "");
    expect_system("{{ '<|im_start|>system\nnever closed", "");
    expect_system("{{ '<|im_start|>system\n' }}<|im_end|><|im_start|>system", "");
    expect_system("not ns.found -%}\n{{'Code\\n'}}" DEEPSEEK_MARKS, "Code\n");
    expect_system(DEEPSEEK_MARKS "not ns.found -%}\n{{'Code", "");
    expect_system(DEEPSEEK_MARKS "not ns.found -%}", "");
    expect_system(LLAMA3, "");
    expect_system(GEMMA3, "");
    expect_system("", "");
    expect_system(NULL, "");
}

#define DATED_MARKS                                                                                                                        \
    "{{ '[SYSTEM_PROMPT]' + system_message + '[/SYSTEM_PROMPT]' }}{{ '[INST]' + message['content'] + '[/INST]' }}{{ eos_token }}"

static void a_system_message_with_the_date_has_todays(void **state)
{
    (void)state;
    expect_system("{%- set default_system_message = 'It is ' + today + \".\" %}" DATED_MARKS, "It is 2026-01-02.");
    expect_system("{%- set default_system_message = 'On ' + today %}" DATED_MARKS, "On 2026-01-02");
    expect_system("{%- set default_system_message = 'Never' %}" DATED_MARKS, "Never");
    expect_system(DATED_MARKS, "");
    static const char *const computed[] = {"'It was ' + yesterday + '.'", "'It is ' + todays_date", "'It is ' + (today | upper)"};
    for (size_t i = 0; i < sizeof computed / sizeof *computed; i++) {
        char template[512], *text = (char *)1;
        sl_error err = {0};
        snprintf(template, sizeof template, "{%%- set default_system_message = %s %%}" DATED_MARKS, computed[i]);
        sl_gguf *gguf = with_template(template);
        assert_int_equal(sl_chat_default_system(gguf, "2026-01-02", &text, &err), SL_UNSUPPORTED);
        assert_null(text);
        assert_non_null(strstr(err.message, "built.gguf: its chat template computes the system message"));
        sl_gguf_close(gguf);
    }
}

static void a_template_of_nothing_but_openings_is_read_in_one_pass(void **state)
{
    (void)state;
    enum { COUNT = 100000 };
    const char *opening = "<|im_start|>system\n";
    size_t length = strlen(opening);
    char *template = malloc(COUNT * length + 16);
    assert_non_null(template);
    for (size_t i = 0; i < COUNT; i++)
        memcpy(template + i * length, opening, length + 1);
    strcpy(template + COUNT * length, "{{<|im_end|>"); /* quadratic would be 10^11 steps */
    expect_system(template, "");
    free(template);
}

static void smollm2s_own_file_says_the_same(void **state)
{
    (void)state;
    const char *path = getenv("SLUICE_TEST_MODEL");
    if (!path) {
        print_message("SLUICE_TEST_MODEL is not set: it names SmolLM2's GGUF file\n");
        skip();
    }
    sl_gguf *gguf;
    const sl_chat_family *family;
    char *text;
    assert_int_equal(sl_gguf_open(path, &gguf, NULL), SL_OK);
    assert_int_equal(sl_chat_detect(gguf, &family, NULL), SL_OK);
    assert_string_equal(sl_chat_name(family), "chatml");
    assert_int_equal(sl_chat_default_system(gguf, "2026-01-02", &text, NULL), SL_OK);
    assert_string_equal(text, SMOLLM2_SYSTEM);
    free(text);
    sl_gguf_close(gguf);
}

/* test_chat_template --families FILE...: which family the template in each file is of, and the system message that it brings, for scripts/chat-oracle. */
static int name_families(char **paths)
{
    for (; *paths != NULL; paths++) {
        static char template[1 << 20];
        FILE *file = fopen(*paths, "r");
        if (file == NULL)
            return 1;
        template[fread(template, 1, sizeof template - 1, file)] = '\0';
        (void)fclose(file);
        sl_gguf *gguf = with_template(template);
        const sl_chat_family *family;
        char *preset = default_system_of(template);
        bool known = sl_chat_detect(gguf, &family, NULL) == SL_OK;
        printf("%s\t%s\t", *paths, known ? sl_chat_name(family) : "-");
        for (const char *at = preset; *at != '\0'; at++)
            printf(*at == '\n' ? "\\n" : *at == '\t' ? "\\t" : *at == '\\' || *at == '"' ? "\\%c" : "%c", *at);
        printf("\n");
        free(preset);
        sl_gguf_close(gguf);
        memset(template, 0, sizeof template);
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc > 2 && strcmp(argv[1], "--families") == 0)
        return name_families(argv + 2);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_family_is_told_by_the_texts_of_its_template),
        cmocka_unit_test(a_name_that_no_family_has_is_refused_with_the_list),
        cmocka_unit_test(chatml_renders_as_its_template_does),
        cmocka_unit_test(llama3_trims_what_is_said),
        cmocka_unit_test(gemma_folds_the_system_message_into_the_first_turn),
        cmocka_unit_test(each_family_renders_as_its_templates_do),
        cmocka_unit_test(the_files_own_tokens_stand_in_a_rendering),
        cmocka_unit_test(a_long_conversation_is_rendered_whole),
        cmocka_unit_test(the_default_system_message_is_read_from_the_template),
        cmocka_unit_test(a_system_message_with_the_date_has_todays),
        cmocka_unit_test(a_template_of_nothing_but_openings_is_read_in_one_pass),
        cmocka_unit_test(smollm2s_own_file_says_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
