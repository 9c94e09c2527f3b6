/* tests/fuzz/fuzz_packed.c: any bytes through the reader of packed files; what it takes is then held against P1..P4 from the outside.
 *
 * Checksums would stop every mutation at the door, so they are made right before the file is opened, unless its last byte is odd. */
#include "offload/tools/pack.h"
#include "tests/packed_material.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);

static void walk_layer(const sl_gguf *file, const sl_packed_layer *l)
{
    if (!l->bundled)
        return;
    uint64_t bundle_bytes = 0, end = sl_gguf_file_bytes(file), sum = 0;
    for (int part = 0; part < SL_PACK_PARTS; part++) {
        if (l->stored_bytes[part] == 0 || l->stored_bytes[part] > sl_packed_plain_bytes(l, part))
            __builtin_trap();
        bundle_bytes += l->stored_bytes[part];
    }
    if (bundle_bytes > l->stride || l->stride % SL_PACK_STRIDE != 0 || l->bundles_offset % SL_PACK_STRIDE != 0)
        __builtin_trap();
    if (l->bundles_offset > end || (uint64_t)l->stride * l->stored > end - l->bundles_offset)
        __builtin_trap();
    if (l->stored == 0 || l->stored > l->ff || (l->silent_offset != 0) != (l->stored < l->ff) || l->silent_offset > end ||
        (l->silent_offset != 0 && sl_packed_silent_bytes(l) > end - l->silent_offset))
        __builtin_trap();
    if (l->meta_offset > end || l->meta_bytes > end - l->meta_offset || l->order_offset > end ||
        4 * (uint64_t)l->ff > end - l->order_offset)
        __builtin_trap();
    for (uint32_t place = 0; place < l->ff; place++) {
        if (l->order[place] >= l->ff)
            __builtin_trap();
        sum += l->order[place];
    }
    if (sum != (uint64_t)l->ff * (l->ff - 1) / 2)
        __builtin_trap();
}

static void walk(const sl_packed *p)
{
    const sl_gguf *file = sl_packed_file(p), *original = sl_packed_original(p);
    sl_error err;
    for (uint32_t i = 0; i < sl_packed_layer_count(p); i++)
        walk_layer(file, sl_packed_layer_at(p, i));
    for (size_t i = 0; i < sl_gguf_tensor_count(original); i++) {
        const sl_gguf_tensor *t = sl_gguf_tensor_at(original, i);
        uint64_t at = sl_packed_locate(p, t);
        if (at != UINT64_MAX && (at > sl_gguf_file_bytes(file) || t->bytes > sl_gguf_file_bytes(file) - at))
            __builtin_trap();
    }
    (void)!sli_pack_check_columns(p, &err);
    volatile size_t heap = sl_packed_heap_bytes(p);
    (void)heap;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
    blob b = {malloc(length + 1), length};
    if (!b.data)
        return 0;
    if (length > 0)
        memcpy(b.data, data, length);
    if (length > 0 && (data[length - 1] & 1) == 0)
        blob_seal(&b);
    sl_gguf *g;
    sl_packed *p;
    sl_error err = {0};
    if (sl_gguf_parse("fuzz", b.data, b.bytes, b.bytes, &g, &err) == SL_OK) {
        if (sl_packed_open_from(g, &(sl_packed_source){blob_source, &b}, &p, &err) == SL_OK)
            walk(p);
        else if (p || err.message[0] == '\0')
            __builtin_trap();
        sl_packed_close(p);
        sl_gguf_close(g);
    }
    free(b.data);
    return 0;
}
