/* tests/test_packed.c: a packed file is believed only where everything in it agrees.
 *
 * Each test changes one thing in a good file. Where a checksum would notice first, all checksums are made right again (blob_seal), so that
 * the check behind it has to. */
#include "offload/tools/pack.h"
#include "tests/packed_material.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static blob good, stock; /* packed with two sections of calibration, and what was packed */
static blob lean;        /* of a pruned model, without its zeros: version 2 */

static int make_lean(const char *in, const char *out)
{
    sl_error err = {0};
    material m = material_of(256, 64, SL_TYPE_F16, SL_TYPE_F16, SL_TYPE_Q8_0);
    m.pruned = true;
    material_write(in, &m);
    sli_pack_options o = {.in_path = in, .out_path = out, .zeros = SLI_PACK_LEAVE_ZEROS_OUT};
    if (sli_pack(&o, NULL, &err) != SL_OK) {
        print_error("%s\n", err.message);
        return -1;
    }
    lean = blob_read(out);
    unlink(in);
    unlink(out);
    return 0;
}

static int make_files(void **state)
{
    (void)state;
    char folder[] = "/tmp/sluice-packed-XXXXXX", in[64], out[64];
    sl_error err = {0};
    if (!mkdtemp(folder))
        return -1;
    snprintf(in, sizeof in, "%s/in", folder);
    snprintf(out, sizeof out, "%s/out", folder);
    material m = material_of(40, 64, SL_TYPE_F16, SL_TYPE_F32, SL_TYPE_Q8_0);
    m.down[1] = SL_TYPE_F32; /* no meta data */
    m.down[2] = 16;          /* IQ2_XXS cannot be cut, and wants rows of 256 */
    m.ff = 256;
    m.trailing_bytes = 100;
    material_write(in, &m);
    static const float scores[4] = {1, 2, 3, 4};
    sli_pack_tensor tensors[] = {
        {.name = "sluice.calibration.table", .type = SL_TYPE_F32, .dims = 1, .shape = {4, 1, 1, 1}, .data = scores},
        {.name = "blk.1.calibration.scores", .type = SL_TYPE_F32, .dims = 2, .shape = {2, 2, 1, 1}, .data = scores}};
    sli_pack_options o = {.in_path = in, .out_path = out, .order = SLI_PACK_RANDOM_ORDER, .tensors = tensors, .tensor_count = 2};
    if (sli_pack(&o, NULL, &err) != SL_OK) {
        print_error("%s\n", err.message);
        return -1;
    }
    good = blob_read(out);
    stock = blob_read(in);
    unlink(in);
    unlink(out);
    return make_lean(in, out) != 0 ? -1 : rmdir(folder);
}

static int free_files(void **state)
{
    (void)state;
    free(good.data);
    free(stock.data);
    free(lean.data);
    return 0;
}

/* Opens the blob; SL_OK closes again. */
static sl_status try_open(blob *b, sl_error *err)
{
    sl_gguf *g;
    sl_packed *p = NULL;
    *err = (sl_error){0};
    sl_status status = sl_gguf_parse("packed.gguf", b->data, b->bytes, b->bytes, &g, err);
    if (status == SL_OK) {
        status = sl_packed_open_from(g, &(sl_packed_source){blob_source, b}, &p, err);
        assert_int_equal(status == SL_OK, p != NULL);
    }
    sl_packed_close(p);
    sl_gguf_close(g);
    return status;
}

static void expect_refusal(blob *b, const char *said)
{
    sl_error err;
    assert_int_equal(try_open(b, &err), SL_FORMAT);
    if (!strstr(err.message, "packed.gguf") || !strstr(err.message, said))
        fail_msg("\"%s\" does not say \"%s\"", err.message, said);
    free(b->data);
}

static size_t find_bytes(const blob *b, const char *text)
{
    const uint8_t *at = memmem(b->data, b->bytes, text, strlen(text));
    assert_non_null(at);
    return (size_t)(at - b->data);
}

/* A file with `bytes` written `ahead` of the end of a key or name, and its checksums made right. */
static blob changed_in(const blob *from, const char *name, size_t ahead, const void *bytes, size_t count)
{
    blob b = blob_copy(from);
    memcpy(b.data + find_bytes(&b, name) + strlen(name) + ahead, bytes, count);
    blob_seal(&b);
    return b;
}

static blob changed(const char *name, size_t ahead, const void *bytes, size_t count)
{
    return changed_in(&good, name, ahead, bytes, count);
}

#define KEY_VALUE   4                     /* behind a key: its kind, the value */
#define KEY_ELEMENT 16                    /* behind the key of an array: kind, element kind, count, elements */
#define SHAPE(i)    (4 + 8 * (size_t)(i)) /* behind a tensor's name: dimensions, shape, type, offset */

static uint64_t offset_of(const char *section)
{
    sl_gguf *g;
    sl_error err;
    assert_int_equal(sl_gguf_parse("g", good.data, good.bytes, good.bytes, &g, &err), SL_OK);
    const sl_gguf_tensor *t = sl_gguf_find_tensor(g, section);
    assert_non_null(t);
    uint64_t offset = t->offset;
    sl_gguf_close(g);
    return offset;
}

static void a_packed_file_describes_its_original(void **state)
{
    (void)state;
    sl_gguf *g, *original;
    sl_packed *p;
    sl_error err;
    assert_int_equal(sl_gguf_parse("packed.gguf", good.data, good.bytes, good.bytes, &g, &err), SL_OK);
    assert_int_equal(sl_gguf_parse("stock.gguf", stock.data, stock.bytes, stock.bytes, &original, &err), SL_OK);
    assert_true(sl_packed_is(g));
    assert_false(sl_packed_is(original));
    assert_int_equal(sl_packed_open_from(g, &(sl_packed_source){blob_source, &good}, &p, &err), SL_OK);

    const sl_gguf *seen = sl_packed_original(p);
    assert_int_equal(sl_gguf_tensor_count(seen), sl_gguf_tensor_count(original));
    assert_int_equal(sl_gguf_file_bytes(seen), stock.bytes);
    for (size_t i = 0; i < sl_gguf_tensor_count(seen); i++) {
        const sl_gguf_tensor *t = sl_gguf_tensor_at(seen, i);
        assert_int_equal(t->offset, sl_gguf_tensor_at(original, i)->offset);
        uint64_t at = sl_packed_locate(p, t);
        bool cut = memmem(t->name.data, t->name.length, "ffn", 3) && memcmp(t->name.data, "blk.2", 5) != 0;
        assert_int_equal(at == UINT64_MAX, cut);
        if (!cut)
            assert_memory_equal(good.data + at, stock.data + t->offset, t->bytes);
    }
    assert_int_equal(sl_packed_layer_count(p), 3);
    assert_false(sl_packed_layer_at(p, 2)->bundled);
    assert_null(sl_packed_layer_at(p, 3));
    for (uint32_t i = 0; i < 2; i++) {
        const sl_packed_layer *l = sl_packed_layer_at(p, i);
        const sl_gguf_tensor *matrices[3];
        sl_packed_layer ignored;
        assert_true(l->bundled);
        assert_int_equal(l->stride % SL_PACK_STRIDE, 0);
        assert_int_equal(l->meta_bytes == 0, i == 1);
        assert_true(sli_packed_layer_of(seen, i, &ignored, matrices));
        for (uint32_t place = 0; place < l->ff; place++) {
            const uint8_t *bundle = good.data + l->bundles_offset + (size_t)place * l->stride;
            uint32_t neuron;
            memcpy(&neuron, good.data + l->order_offset + place * 4, 4);
            assert_int_equal(neuron, l->order[place]);
            assert_memory_equal(bundle, stock.data + matrices[0]->offset + (size_t)neuron * l->gate_bytes, l->gate_bytes);
            assert_memory_equal(bundle + l->gate_bytes, stock.data + matrices[1]->offset + (size_t)neuron * l->up_bytes, l->up_bytes);
        }
    }
    assert_true(sl_packed_heap_bytes(p) > sl_gguf_heap_bytes(seen));
    const sl_gguf_tensor *table = sl_gguf_find_tensor(g, "sluice.calibration.table");
    assert_int_equal(sl_packed_check_tensor(p, table, good.data + table->offset, &err), SL_OK);
    assert_int_equal(sl_packed_check_tensor(p, table, good.data + table->offset + 1, &err), SL_FORMAT);
    assert_non_null(strstr(err.message, "sluice.calibration.table"));
    sl_packed_close(p);
    sl_packed_close(NULL);
    sl_gguf_close(g);
    sl_gguf_close(original);
}

static void a_stock_file_is_not_a_packed_one(void **state)
{
    (void)state;
    blob b = blob_copy(&stock);
    expect_refusal(&b, "is not a packed file");
}

static void each_key_is_checked(void **state)
{
    (void)state;
    blob b;
    b = changed("sluice.pack.version", KEY_VALUE, &(uint32_t){3}, 4);
    expect_refusal(&b, "version 3 of the layout, this program knows versions 1 to 2: use a newer one");
    b = changed("sluice.pack.version", KEY_VALUE, &(uint32_t){2}, 4);
    expect_refusal(&b, "\"sluice.pack.stored_neurons\" is not an array of 1 i32 for each of 3 layers");
    b = changed("sluice.pack.version", KEY_VALUE, &(uint32_t){0}, 4);
    expect_refusal(&b, "version 0 of the layout");
    b = changed("sluice.pack.alignment", KEY_VALUE, &(uint32_t){256}, 4);
    expect_refusal(&b, "\"sluice.pack.alignment\" is 256");
    b = changed("sluice.pack.alignment", KEY_VALUE, &(uint32_t){768}, 4);
    expect_refusal(&b, "\"sluice.pack.alignment\" is 768");
    b = changed("sluice.pack.alignment", KEY_VALUE, &(uint32_t){4096}, 4);
    expect_refusal(&b, "blk.0.ffn.bundles");
    b = changed("general.alignment", KEY_VALUE, &(uint32_t){256}, 4);
    expect_refusal(&b, "");
    b = changed("sluice.pack.original_bytes", KEY_VALUE, &(uint64_t){stock.bytes - 101}, 8);
    expect_refusal(&b, "truncated or damaged");
    b = changed("sluice.pack.original_bytes", KEY_VALUE, &(uint64_t){10}, 8);
    expect_refusal(&b, "more than the whole original's 10");
    b = changed("sluice.pack.original_bytes", KEY_VALUE, &(uint64_t){stock.bytes + 1}, 8);
    expect_refusal(&b, "sluice.padding");
    b = changed("sluice.pack.original_bytes", KEY_VALUE, &(uint64_t){UINT64_MAX}, 8);
    expect_refusal(&b, "sluice.padding");
    b = changed("sluice.pack.original_bytes", 0, &(uint32_t){SL_GGUF_F64}, 4);
    expect_refusal(&b, "sluice.pack.original_bytes");
    b = changed("sluice.pack.column_bytes", KEY_ELEMENT, &(int32_t){-4}, 4);
    expect_refusal(&b, "\"sluice.pack.column_bytes\" is -4 for layer 0");
    b = changed("sluice.pack.column_bytes", KEY_ELEMENT, &(int32_t){INT32_MAX}, 4);
    expect_refusal(&b, "\"sluice.pack.column_bytes\"");
    b = changed("sluice.pack.column_bytes", KEY_ELEMENT, &(int32_t){100000}, 4);
    expect_refusal(&b, "blk.0.ffn.bundles");
    b = changed("sluice.pack.column_bytes", KEY_ELEMENT, &(int32_t){0}, 4);
    expect_refusal(&b, "blk.0.ffn_down.weight\" is missing");
    b = changed("sluice.pack.column_bytes", 4, &(uint32_t){SL_GGUF_F32}, 4);
    expect_refusal(&b, "1 i32 for each of 3 layers");
    b = changed("sluice.pack.column_byte", 0, "z", 1);
    expect_refusal(&b, "1 i32 for each of 3 layers");
}

static void what_is_left_out_is_described_and_checked(void **state)
{
    (void)state;
    sl_error err;
    blob b = blob_copy(&lean);
    assert_int_equal(try_open(&b, &err), SL_OK);
    free(b.data);
    b = changed_in(&lean, "sluice.pack.stored_neurons", KEY_ELEMENT, &(int32_t){0}, 4);
    expect_refusal(&b, "\"sluice.pack.stored_neurons\" is 0 for layer 0, want 1..64");
    b = changed_in(&lean, "sluice.pack.stored_neurons", KEY_ELEMENT, &(int32_t){65}, 4);
    expect_refusal(&b, "\"sluice.pack.stored_neurons\" is 65 for layer 0, want 1..64");
    b = changed_in(&lean, "sluice.pack.stored_neurons", KEY_ELEMENT, &(int32_t){47}, 4);
    expect_refusal(&b, "blk.0.ffn.bundles");
    b = changed_in(&lean, "sluice.pack.stored_bytes", KEY_ELEMENT + 4, &(int32_t){513}, 4);
    expect_refusal(&b, "\"sluice.pack.stored_bytes\" is 513 for part 1 of layer 0, want 1..512");
    b = changed_in(&lean, "sluice.pack.stored_bytes", KEY_ELEMENT, &(int32_t){0}, 4);
    expect_refusal(&b, "\"sluice.pack.stored_bytes\" is 0 for part 0 of layer 0");
    b = changed_in(&lean, "sluice.pack.stored_bytes", KEY_ELEMENT + 8, &(int32_t){-1}, 4);
    expect_refusal(&b, "\"sluice.pack.stored_bytes\" is -1 for part 2 of layer 0");
    b = changed_in(&lean, "blk.0.ffn.silen", 0, "z", 1);
    expect_refusal(&b, "\"blk.0.ffn.silent\" is missing");
    b = changed_in(&lean, "blk.0.ffn.silent", SHAPE(0), &(uint64_t){11}, 8);
    expect_refusal(&b, "blk.0.ffn.silent");
    /* The first version has nothing left out; what it finds instead does not fit. */
    b = changed_in(&lean, "sluice.pack.version", KEY_VALUE, &(uint32_t){1}, 4);
    expect_refusal(&b, "blk.0.ffn.bundles");
}

static void a_key_that_is_missing_is_named(void **state)
{
    (void)state;
    static const char *const keys[] = {"sluice.pack.version", "sluice.pack.alignment", "sluice.pack.original_bytes",
                                       "sluice.pack.column_bytes"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        blob b = blob_copy(&good);
        b.data[find_bytes(&b, keys[i])] = 'S';
        blob_seal(&b);
        expect_refusal(&b, i == 0 ? "is not a packed file" : keys[i]);
    }
}

static void each_section_is_needed_and_has_its_size(void **state)
{
    (void)state;
    static const char *const sections[] = {"sluice.original",       "sluice.padding",    "token_embd.weight", "blk.0.attn_norm.weight",
                                           "blk.2.ffn_down.weight", "blk.0.ffn.bundles", "blk.0.ffn.order",   "blk.1.ffn.bundles"};
    for (size_t i = 0; i < sizeof sections / sizeof *sections; i++) {
        blob b = blob_copy(&good);
        b.data[find_bytes(&b, sections[i])] = 'B';
        blob_seal(&b);
        expect_refusal(&b, sections[i]);
        b = blob_copy(&good);
        size_t at = find_bytes(&b, sections[i]) + strlen(sections[i]);
        uint64_t count;
        memcpy(&count, b.data + at + SHAPE(0), 8);
        count -= strstr(sections[i], "blk.2") ? 256 : 1;
        if (count > 0)
            memcpy(b.data + at + SHAPE(0), &count, 8);
        else
            memcpy(b.data + at, &(uint32_t){3}, 4);
        blob_seal(&b);
        expect_refusal(&b, "");
        b = changed(sections[i], SHAPE(i == 2 || i == 4 || i == 5 || i == 7 ? 2 : 1), &(uint32_t){SL_TYPE_BF16}, 4);
        expect_refusal(&b, "");
    }
    /* Without its meta data a layer has none as far as this folder can know, but then the section has no owner. */
    blob b = blob_copy(&good);
    b.data[find_bytes(&b, "blk.0.ffn.meta") + 11] = 'z';
    blob_seal(&b);
    expect_refusal(&b, "sections");
    b = blob_copy(&good);
    b.data[find_bytes(&b, "sluice.checksums")] = 'S';
    expect_refusal(&b, "\"sluice.checksums\" is missing");
    b = changed("sluice.checksums", SHAPE(0), &(uint64_t){3}, 8);
    expect_refusal(&b, "sluice.checksums");
}

static void a_section_of_unknown_name_is_refused(void **state)
{
    (void)state;
    blob b = blob_copy(&good);
    b.data[find_bytes(&b, "sluice.calibration.table") + 7] = 'k';
    blob_seal(&b);
    expect_refusal(&b, "sections");
}

static void an_order_is_a_permutation(void **state)
{
    (void)state;
    static const uint32_t bad[] = {256, 0x80000000u, UINT32_MAX};
    uint64_t at = offset_of("blk.1.ffn.order");
    for (size_t i = 0; i < 3; i++) {
        blob b = blob_copy(&good);
        memcpy(b.data + at + 8, &bad[i], 4);
        blob_seal(&b);
        expect_refusal(&b, "\"blk.1.ffn.order\" has neuron");
    }
    blob b = blob_copy(&good);
    memcpy(b.data + at, b.data + at + 4, 4);
    blob_seal(&b);
    expect_refusal(&b, "has a place already");
}

static void the_original_must_be_a_gguf_that_ends_where_its_data_begins(void **state)
{
    (void)state;
    uint64_t at = offset_of("sluice.original");
    blob b = blob_copy(&good);
    b.data[at] = 'g';
    blob_seal(&b);
    expect_refusal(&b, "not a GGUF file");
    b = blob_copy(&good);
    memcpy(b.data + at + 8, &(uint64_t){1}, 8); /* tensors: the header ends early */
    blob_seal(&b);
    expect_refusal(&b, "sluice.original");
}

/* Nothing is made right again here: every byte of the header, of the table, and of what is loaded whole is under a checksum. */
static void damage_to_what_is_read_at_open_is_found(void **state)
{
    (void)state;
    static const char *const sections[] = {"sluice.checksums", "sluice.original", "blk.0.ffn.order", "blk.1.ffn.order"};
    sl_error err;
    uint64_t end = offset_of("sluice.checksums");
    for (uint64_t at = 0; at < end; at += at < 2600 ? 1 : 61) {
        blob b = blob_copy(&good);
        b.data[at] ^= 4;
        if (try_open(&b, &err) != SL_FORMAT)
            fail_msg("a change of byte %llu is not found", (unsigned long long)at);
        free(b.data);
    }
    for (size_t s = 0; s < 4; s++) {
        for (uint64_t at = 0; at < 130; at += 3) {
            blob b = blob_copy(&good);
            b.data[offset_of(sections[s]) + at] ^= 1;
            expect_refusal(&b, s == 0 ? "damaged" : sections[s]);
        }
    }
}

static void a_truncated_file_is_refused_wherever_it_ends(void **state)
{
    (void)state;
    sl_gguf *g;
    sl_error err;
    assert_int_equal(sl_gguf_parse("g", good.data, good.bytes, good.bytes, &g, &err), SL_OK);
    for (size_t i = 0; i < sl_gguf_tensor_count(g); i++) {
        const sl_gguf_tensor *t = sl_gguf_tensor_at(g, i);
        size_t ends[] = {(size_t)t->offset, (size_t)t->offset + 1, (size_t)(t->offset + t->bytes - 1)};
        for (int e = 0; e < 3; e++) {
            blob b = blob_copy(&good);
            b.bytes = ends[e];
            assert_int_equal(try_open(&b, &err), SL_FORMAT);
            free(b.data);
        }
    }
    sl_gguf_close(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_packed_file_describes_its_original),
        cmocka_unit_test(a_stock_file_is_not_a_packed_one),
        cmocka_unit_test(each_key_is_checked),
        cmocka_unit_test(what_is_left_out_is_described_and_checked),
        cmocka_unit_test(a_key_that_is_missing_is_named),
        cmocka_unit_test(each_section_is_needed_and_has_its_size),
        cmocka_unit_test(a_section_of_unknown_name_is_refused),
        cmocka_unit_test(an_order_is_a_permutation),
        cmocka_unit_test(the_original_must_be_a_gguf_that_ends_where_its_data_begins),
        cmocka_unit_test(damage_to_what_is_read_at_open_is_found),
        cmocka_unit_test(a_truncated_file_is_refused_wherever_it_ends),
    };
    return cmocka_run_group_tests_name("packed", tests, make_files, free_files);
}
