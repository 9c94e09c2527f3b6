/* tests/fuzz/fuzz_gguf.c: any bytes through the GGUF reader; what it takes is then walked to the last value and tensor. */
#include "core/gguf.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);

/* Read through a volatile sink, so that no walk is optimised away and sanitizers see each byte. */
static void touch(const void *data, size_t length)
{
    volatile uint8_t sink = 0;
    for (size_t i = 0; i < length; i++)
        sink = (uint8_t)(sink ^ ((const uint8_t *)data)[i]);
}

static void walk_value(const sl_gguf_value *v)
{
    touch(v->key.data, v->key.length);
    touch(v->data, v->bytes);
    size_t cursor = 0;
    uint64_t strings = 0;
    sl_str s;
    while (sl_gguf_next_string(v, &cursor, &s)) {
        touch(s.data, s.length);
        strings++;
    }
    if (v->element_kind == SL_GGUF_STRING && strings != v->count)
        __builtin_trap();
    if (v->element_kind != SL_GGUF_STRING && v->count > 0) {
        volatile double number = sl_gguf_number_at(v, 0) + sl_gguf_number_at(v, v->count - 1);
        (void)number;
    }
}

/* G3 and G4 once more, from the outside. */
static void walk_tensor(const sl_gguf *g, const sl_gguf_tensor *t)
{
    touch(t->name.data, t->name.length);
    const sl_format *format = sl_format_of(t->type);
    if (!format || t->dims < 1 || t->dims > 4 || t->shape[0] % format->block_elements != 0)
        __builtin_trap();
    if (t->offset < sl_gguf_data_offset(g) || t->bytes > sl_gguf_file_bytes(g) || t->offset > sl_gguf_file_bytes(g) - t->bytes)
        __builtin_trap();
    uint64_t rows = t->shape[1] * t->shape[2] * t->shape[3];
    if (sl_row_bytes(t->type, t->shape[0]) * rows != t->bytes)
        __builtin_trap();
}

static void typed_reads(const sl_gguf *g)
{
    static const char *const keys[] = {"general.architecture",
                                       "general.alignment",
                                       "llama.block_count",
                                       "llama.rope.freq_base",
                                       "tokenizer.ggml.add_bos_token",
                                       "a.float"};
    uint32_t u;
    float f;
    bool b;
    sl_str s;
    sl_error err;
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        if (sl_gguf_u32(g, keys[i], &u, &err) != SL_OK && sl_gguf_f32(g, keys[i], &f, &err) != SL_OK &&
            sl_gguf_bool(g, keys[i], &b, &err) != SL_OK && sl_gguf_str(g, keys[i], &s, &err) == SL_OK)
            touch(s.data, s.length);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
    /* Data behind the header is never read, so the file may claim to be longer than the input: the input's last byte says how much. */
    uint64_t file_bytes = length;
    if (length && data[length - 1] & 1)
        file_bytes += (uint64_t)1 << (data[length - 1] >> 3 & 31);
    sl_gguf *g;
    sl_error err;
    if (sl_gguf_parse("fuzz", data, length, file_bytes, &g, &err) != SL_OK) {
        if (g || err.message[0] == '\0')
            __builtin_trap();
        return 0;
    }
    for (size_t i = 0; i < sl_gguf_value_count(g); i++)
        walk_value(sl_gguf_value_at(g, i));
    for (size_t i = 0; i < sl_gguf_tensor_count(g); i++)
        walk_tensor(g, sl_gguf_tensor_at(g, i));
    typed_reads(g);
    sl_gguf_close(g);
    return 0;
}
