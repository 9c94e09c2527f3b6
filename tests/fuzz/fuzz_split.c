/* tests/fuzz/fuzz_split.c: any two headers as the parts of a split model. Input: the first one's length (u32), the first, the second; as
 * tests/split_gguf.py --seed writes it. */
#include "core/gguf_internal.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);

#define CLAIMED_BYTES ((uint64_t)1 << 40) /* data behind a header is never read */

static void walk(const sl_gguf *g)
{
    size_t own = 0;
    for (size_t i = 0; i < sl_gguf_tensor_count(g); i++) {
        const sl_gguf_tensor *t = sl_gguf_tensor_at(g, i);
        if (t->file >= sl_gguf_part_count(g) || t->bytes > sl_gguf_part_bytes(g, t->file) ||
            t->offset > sl_gguf_part_bytes(g, t->file) - t->bytes || sl_gguf_find_tensor_named(g, t->name) != t)
            __builtin_trap();
        own += t->file == 0;
    }
    if (own > sl_gguf_tensor_count(g) || sl_gguf_heap_bytes(g) == 0 || sl_gguf_check_single(g, "fuzz", NULL) == SL_OK)
        __builtin_trap();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
    uint32_t first_bytes;
    if (length < sizeof first_bytes)
        return 0;
    memcpy(&first_bytes, data, sizeof first_bytes);
    data += sizeof first_bytes;
    length -= sizeof first_bytes;
    if (first_bytes > length)
        first_bytes = (uint32_t)length;
    sl_gguf *first = NULL, **others = calloc(1, sizeof *others);
    if (others && sl_gguf_parse("first", data, first_bytes, CLAIMED_BYTES, &first, NULL) == SL_OK &&
        sl_gguf_parse("second", data + first_bytes, length - first_bytes, CLAIMED_BYTES, &others[0], NULL) == SL_OK) {
        size_t before = sl_gguf_tensor_count(first);
        sl_error err = {0};
        if (sli_gguf_join(first, others, 1, &err) == SL_OK) {
            walk(first);
            others = NULL;
        } else if (err.message[0] == '\0' || sl_gguf_part_count(first) != 1 || sl_gguf_tensor_count(first) != before) {
            __builtin_trap();
        }
    }
    if (others)
        sl_gguf_close(others[0]);
    free(others);
    sl_gguf_close(first);
    return 0;
}
