/* tests/fuzz/fuzz_model.c: any keys and tensors through the table of architectures; what it takes is walked to the last operation.
 *
 * The header is described by lines, so that a seed can be read and a mutation is still a header. A line is
 *
 *     k NAME VALUE           a key: a number below 2^32, one with a point (a float), or else a string
 *     t NAME COLUMNS ROWS TYPE
 *
 * where %A in a name is general.architecture's value, and %L repeats the line for each layer below 3. */
/* fuzz: -max_len=900 */
#include "core/model.h"

#include "core/rope.h"
#include "tests/header_builder.h"

#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);

#define LINES_MAX 80
#define WORDS     5
#define WORD_MAX  80
#define LAYERS    3

typedef struct line {
    char words[WORDS][WORD_MAX];
    size_t count;
} line;

static size_t read_lines(const char *text, size_t length, line *lines)
{
    size_t count = 0, at = 0;
    while (count < LINES_MAX && at < length) {
        line *l = &lines[count];
        memset(l, 0, sizeof *l);
        size_t end = at;
        while (end < length && text[end] != '\n')
            end++;
        while (at < end && l->count < WORDS) {
            size_t word = at;
            while (at < end && text[at] != ' ')
                at++;
            size_t bytes = at - word < WORD_MAX - 1 ? at - word : WORD_MAX - 1;
            memcpy(l->words[l->count++], text + word, bytes);
            at++;
        }
        at = end + 1;
        count += l->count >= 3;
    }
    return count;
}

static void expand(const char *from, const char *arch, unsigned layer, char out[3 * WORD_MAX])
{
    size_t used = 0;
    for (; *from && used < 2 * WORD_MAX; from++) {
        if (from[0] == '%' && from[1] == 'A')
            used += (size_t)snprintf(out + used, WORD_MAX, "%s", arch);
        else if (from[0] == '%' && from[1] == 'L')
            used += (size_t)snprintf(out + used, WORD_MAX, "%u", layer);
        else {
            out[used++] = *from;
            continue;
        }
        from++;
    }
    out[used] = '\0';
}

static void add_key(header *h, const line *l, const char *arch)
{
    char name[3 * WORD_MAX], *end;
    expand(l->words[1], arch, 0, name);
    const char *value = l->words[2];
    unsigned long number = strtoul(value, &end, 10);
    if (*value >= '0' && *value <= '9' && *end == '\0' && number <= UINT32_MAX) {
        header_u32(h, name, (uint32_t)number);
    } else if (strchr(value, '.') != NULL && (*value == '-' || (*value >= '0' && *value <= '9'))) {
        float real = strtof(value, NULL);
        header_key(h, name, SL_GGUF_F32);
        header_add(h, &real, sizeof real);
    } else {
        header_string(h, name, value, strlen(value));
    }
}

/* Tensors lie on another: nobody reads them. */
static uint64_t add_tensor(header *h, const line *l, const char *arch)
{
    uint64_t columns = strtoul(l->words[2], NULL, 10) % (1u << 20), rows = strtoul(l->words[3], NULL, 10) % (1u << 20);
    unsigned layers = strstr(l->words[1], "%L") != NULL ? LAYERS : 1;
    for (unsigned layer = 0; layer < layers; layer++) {
        char name[3 * WORD_MAX];
        expand(l->words[1], arch, layer, name);
        header_add_bytes(h, name, strlen(name));
        header_add_u32(h, rows == 0 ? 1 : 2);
        header_add_u64(h, columns);
        if (rows > 0)
            header_add_u64(h, rows);
        header_add_u32(h, (uint32_t)strtoul(l->words[4], NULL, 10));
        header_add_u64(h, 0);
    }
    return layers;
}

static sl_gguf *build(const line *lines, size_t count)
{
    const char *arch = "llama";
    uint64_t tensors = 0;
    header h;
    header_start(&h);
    for (size_t i = 0; i < count; i++) {
        if (strcmp(lines[i].words[1], "general.architecture") == 0)
            arch = lines[i].words[2];
        if (lines[i].words[0][0] == 'k')
            add_key(&h, &lines[i], arch);
    }
    for (size_t i = 0; i < count; i++) {
        if (lines[i].words[0][0] == 't')
            tensors += add_tensor(&h, &lines[i], arch);
    }
    memcpy(h.data + 8, &tensors, sizeof tensors);
    memcpy(h.data + 16, &h.values, sizeof h.values);
    sl_gguf *gguf = NULL;
    if (sl_gguf_parse("built.gguf", h.data, h.count, h.count + ((uint64_t)1 << 44), &gguf, NULL) != SL_OK)
        gguf = NULL;
    free(h.data);
    return gguf;
}

/* Each operation has the weight that it needs, of the shape that its buffers have; no angle is infinite. */
static void walk(const sl_model *m)
{
    double steps[SL_HEAD_DIM_MAX];
    for (uint32_t layer = 0; layer < m->layers; layer++) {
        (void)sl_model_ffn_bytes(m, layer);
        for (const sl_op *op = m->arch->layer; op->kind != SL_OP_END; op++) {
            const sl_gguf_tensor *weight = sl_model_tensor(m, op->weight, layer);
            uint32_t rows = 0, first = sl_model_slice(m, op, &rows);
            if (op->kind == SL_OP_MATMUL && (weight == NULL || weight->shape[0] != sl_model_width(m, op->src) ||
                                             weight->shape[1] < (uint64_t)first + sl_model_width(m, op->dst)))
                __builtin_trap();
        }
        if (sl_model_rope_table(m, layer) >= sl_model_rope_tables(m) || sl_model_window(m, layer) > m->window)
            __builtin_trap();
    }
    if (sl_rope_factors(m, 1) != NULL && sl_rope_factors(m, 1)->shape[0] != m->rope_dim / 2)
        __builtin_trap();
    if (sl_rope_steps(m, NULL, "built.gguf", steps, NULL) != SL_OK)
        return;
    for (uint32_t i = 0; i < sl_model_rope_tables(m) * (m->rope_dim / 2); i++) {
        if (!(steps[i] >= 0 && steps[i] * m->context < 0x1p30))
            __builtin_trap();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
    static line lines[LINES_MAX];
    sl_gguf *gguf = build(lines, read_lines((const char *)data, length, lines));
    sl_model *model;
    if (gguf != NULL && sl_model_open(gguf, &model, NULL) == SL_OK) {
        walk(model);
        sl_model_close(model);
    }
    sl_gguf_close(gguf);
    return 0;
}
