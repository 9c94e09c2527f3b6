/* tests/test_pack.c: what is packed comes back byte for byte, whatever the types, the order and the moment at which the process dies. */
/* link: -Wl,--wrap=pwrite */
#include "offload/tools/pack.h"
#include "offload/tools/pack_layer.h"
#include "tests/packed_material.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* Writes fail from the one with this number on; -1: never. */
static int64_t writes_left = -1;
ssize_t __real_pwrite(int fd, const void *data, size_t bytes, off_t offset);
ssize_t __wrap_pwrite(int fd, const void *data, size_t bytes, off_t offset);
ssize_t __wrap_pwrite(int fd, const void *data, size_t bytes, off_t offset)
{
    if (writes_left == 0) {
        errno = EIO;
        return -1;
    }
    writes_left -= writes_left > 0;
    return __real_pwrite(fd, data, bytes, offset);
}

typedef struct folder {
    char path[64], stock[96], packed[96], other[96], back[96], partial[112];
} folder;

static int make_folder(void **state)
{
    folder *f = calloc(1, sizeof *f);
    if (!f)
        return -1;
    strcpy(f->path, "/tmp/sluice-pack-XXXXXX");
    if (!mkdtemp(f->path))
        return -1;
    snprintf(f->stock, sizeof f->stock, "%s/stock", f->path);
    snprintf(f->packed, sizeof f->packed, "%s/packed", f->path);
    snprintf(f->other, sizeof f->other, "%s/other", f->path);
    snprintf(f->back, sizeof f->back, "%s/back", f->path);
    snprintf(f->partial, sizeof f->partial, "%s/packed.partial", f->path);
    *state = f;
    return 0;
}

/* Fails where something else than the named files was left. */
static int remove_folder(void **state)
{
    folder *f = *state;
    unlink(f->stock);
    unlink(f->packed);
    unlink(f->other);
    unlink(f->back);
    int failed = rmdir(f->path);
    free(f);
    return failed;
}

static void expect_same(const char *a, const char *b)
{
    blob x = blob_read(a), y = blob_read(b);
    if (x.bytes != y.bytes || memcmp(x.data, y.data, x.bytes) != 0)
        fail_msg("%s and %s differ", a, b);
    free(x.data);
    free(y.data);
}

static void pack_or_fail(const sli_pack_options *o, sli_pack_result *result)
{
    sl_error err = {0};
    if (sli_pack(o, result, &err) != SL_OK)
        fail_msg("%s", err.message);
}

/* Packs, verifies, unpacks, compares. */
static void round_trip(const folder *f, const material *m, sli_pack_order order, sli_pack_result *result)
{
    sl_error err = {0};
    material_write(f->stock, m);
    sli_pack_options o = {.in_path = f->stock, .out_path = f->packed, .order = order, .seed = 3};
    o.zeros = m->pruned ? SLI_PACK_LEAVE_ZEROS_OUT : SLI_PACK_ZEROS_AUTO;
    pack_or_fail(&o, result);
    if (sli_pack_verify(f->packed, NULL, NULL, &err) != SL_OK || sli_unpack(f->packed, f->back, NULL, NULL, &err) != SL_OK)
        fail_msg("%s", err.message);
    expect_same(f->stock, f->back);
}

/* ---- round trips ---- */

static void every_type_comes_back(void **state)
{
    static const uint32_t types[] = {0, 1, 30, 2, 3, 6, 7, 8, 10, 11, 12, 13, 14, 20, 23};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        /* 40 rows of down fill one group of columns and begin another; gate and up can be anything. */
        material m = material_of(40, 256, SL_TYPE_F16, SL_TYPE_BF16, types[i]);
        sli_pack_result result;
        m.seed = i;
        round_trip(*state, &m, SLI_PACK_FILE_ORDER, &result);
        assert_int_equal(result.bundled_layers, 3);
        m = material_of(256, 512, types[i], types[(i + 1) % 15], types[i]);
        round_trip(*state, &m, SLI_PACK_RANDOM_ORDER, &result);
        assert_int_equal(result.bundled_layers, 3);
    }
}

static void types_may_differ_by_matrix_and_layer(void **state)
{
    material m = material_of(256, 256, 12, 12, 14);
    m.up[0] = 2;
    m.down[1] = 12;
    m.gate[2] = SL_TYPE_F32;
    sli_pack_result result;
    round_trip(*state, &m, SLI_PACK_RANDOM_ORDER, &result);
    assert_int_equal(result.bundled_layers, 3);
}

static void a_layer_that_cannot_be_cut_stays_plain(void **state)
{
    material m = material_of(32, 256, 2, 2, 2);
    sli_pack_result result;
    m.down[1] = 16; /* IQ2_XXS */
    m.no_gate = true;
    round_trip(*state, &m, SLI_PACK_RANDOM_ORDER, &result);
    assert_int_equal(result.layers, 3);
    assert_int_equal(result.bundled_layers, 1);
}

static void padding_trailing_bytes_and_an_older_version_come_back(void **state)
{
    for (uint32_t alignment = 8; alignment <= 65536; alignment *= 4) {
        material m = material_of(32, 64, 2, 8, 3);
        m.alignment = alignment;
        m.trailing_bytes = alignment % 7 * 1001;
        m.version_2 = alignment == 32;
        round_trip(*state, &m, SLI_PACK_FILE_ORDER, NULL);
    }
}

/* ---- orders ---- */

static void packing_a_packed_file_is_packing_the_original_in_the_new_order(void **state)
{
    const folder *f = *state;
    material m = material_of(40, 64, SL_TYPE_F16, SL_TYPE_F16, 3);
    round_trip(f, &m, SLI_PACK_RANDOM_ORDER, NULL);
    sli_pack_options o = {.in_path = f->packed, .out_path = f->other};
    pack_or_fail(&o, NULL);
    o.in_path = f->stock;
    o.out_path = f->back;
    pack_or_fail(&o, NULL);
    expect_same(f->other, f->back);
    /* The order it has is kept on demand, and so are all bytes. */
    o = (sli_pack_options){.in_path = f->packed, .out_path = f->other, .order = SLI_PACK_KEPT_ORDER};
    pack_or_fail(&o, NULL);
    expect_same(f->other, f->packed);
}

/* What a pruned model's file does not say twice comes back too: neurons that are zero, and zeros in rows and columns. */
static void zeros_that_were_left_out_come_back(void **state)
{
    static const uint32_t types[] = {SL_TYPE_F16, SL_TYPE_Q8_0};
    for (size_t t = 0; t < 2; t++)
        for (size_t u = 0; u < 2; u++) {
            material m = material_of(256, 64, types[t], types[u], types[t]);
            sli_pack_result whole, result;
            round_trip(*state, &m, SLI_PACK_RANDOM_ORDER, &whole);
            m.pruned = true;
            round_trip(*state, &m, SLI_PACK_RANDOM_ORDER, &result);
            assert_int_equal(result.bundled_layers, 3);
            assert_int_equal(result.neurons, 3 * 64);
            assert_int_equal(result.silent_neurons, 3 * 16);
            assert_int_equal(result.compact_layers, t == 0 || u == 0 ? 3 : 0);
            assert_true(result.packed_bytes < whole.packed_bytes);
        }
}

/* Who asks for nothing gets the first version of the layout, which earlier programs read, unless the file says that it was pruned. */
static void zeros_are_left_out_where_it_was_asked_for(void **state)
{
    const folder *f = *state;
    sl_error err = {0};
    material m = material_of(256, 64, SL_TYPE_F16, SL_TYPE_F16, SL_TYPE_F16);
    m.pruned = true;
    material_write(f->stock, &m);
    sli_pack_options o = {.in_path = f->stock, .out_path = f->packed};
    sli_pack_result result;
    pack_or_fail(&o, &result);
    assert_int_equal(result.silent_neurons + result.compact_layers, 0);
    o.zeros = SLI_PACK_STORE_ZEROS;
    o.out_path = f->other;
    pack_or_fail(&o, NULL);
    expect_same(f->packed, f->other);
    /* A packed file's zeros stay as they are, and its order may change. */
    o.in_path = f->packed;
    assert_int_equal(sli_pack(&o, NULL, &err), SL_INVALID);
    assert_non_null(strstr(err.message, "unpack it"));
}

static void without_zeros_too_packing_a_packed_file_is_packing_the_original(void **state)
{
    const folder *f = *state;
    material m = material_of(256, 64, SL_TYPE_F16, SL_TYPE_F16, SL_TYPE_Q8_0);
    m.pruned = true;
    round_trip(f, &m, SLI_PACK_RANDOM_ORDER, NULL);
    sli_pack_options o = {.in_path = f->packed, .out_path = f->other};
    pack_or_fail(&o, NULL);
    o.in_path = f->stock;
    o.out_path = f->back;
    o.zeros = SLI_PACK_LEAVE_ZEROS_OUT;
    pack_or_fail(&o, NULL);
    expect_same(f->other, f->back);
}

/* A layer in which nothing is left keeps one neuron, because a section has at least one row. */
static void one_neuron_at_least_is_stored(void **state)
{
    material m = material_of(32, 64, SL_TYPE_F16, SL_TYPE_F16, SL_TYPE_F16);
    m.pruned = m.empty = true;
    sli_pack_result result;
    round_trip(*state, &m, SLI_PACK_FILE_ORDER, &result);
    assert_int_equal(result.silent_neurons, 3 * 63);
}

static void a_given_order_is_the_order_on_disk(void **state)
{
    const folder *f = *state;
    sl_error err;
    material m = material_of(32, 64, 2, 2, 2);
    uint32_t order[64];
    for (uint32_t i = 0; i < 64; i++)
        order[i] = (i * 37 + 5) % 64;
    const uint32_t *orders[] = {NULL, order};
    material_write(f->stock, &m);
    sli_pack_options o = {.in_path = f->stock, .out_path = f->packed, .order = SLI_PACK_GIVEN_ORDER, .orders = orders, .layer_count = 2};
    pack_or_fail(&o, NULL);
    sl_gguf *g;
    sl_packed *p;
    assert_int_equal(sl_gguf_open(f->packed, &g, &err), SL_OK);
    assert_int_equal(sl_packed_open(g, &p, &err), SL_OK);
    assert_memory_equal(sl_packed_layer_at(p, 1)->order, order, sizeof order);
    for (uint32_t i = 0; i < 64; i++)
        assert_int_equal(sl_packed_layer_at(p, 0)->order[i], i);
    assert_int_equal(sli_pack_check_columns(p, &err), SL_OK);
    sl_packed_close(p);
    sl_gguf_close(g);
    assert_int_equal(sli_unpack(f->packed, f->back, NULL, NULL, &err), SL_OK);
    expect_same(f->stock, f->back);

    order[3] = order[4];
    assert_int_equal(sli_pack(&o, NULL, &err), SL_INVALID);
    assert_non_null(strstr(err.message, "layer 1 is not a permutation of its 64 neurons"));
    o.orders = NULL;
    assert_int_equal(sli_pack(&o, NULL, &err), SL_INVALID);
}

/* Large layers are made and taken apart in rounds, so that memory has a bound. */
static void rounds_make_no_difference(void **state)
{
    const folder *f = *state;
    sl_error err = {0};
    material m = material_of(40, 64, SL_TYPE_F16, SL_TYPE_F16, 3);
    round_trip(f, &m, SLI_PACK_RANDOM_ORDER, NULL);
    sli_pack_source stock, packed;
    assert_int_equal(sli_pack_source_open(f->stock, &stock, &err), SL_OK);
    assert_int_equal(sli_pack_source_open(f->packed, &packed, &err), SL_OK);
    const sl_packed_layer *l = sl_packed_layer_at(packed.packed, 1);
    uint32_t place_of[64];
    for (uint32_t i = 0; i < 64; i++)
        place_of[l->order[i]] = i;
    uint8_t *whole = malloc((size_t)l->stride * 64), *part = malloc((size_t)l->stride * 7), *meta = malloc(l->meta_bytes);
    assert_true(whole && part && meta);
    for (int s = 0; s < 2; s++) {
        sli_pack_source *source = s ? &packed : &stock;
        assert_int_equal(sli_pack_fill(source, 1, l, place_of, 0, 64, whole, meta, &err), SL_OK);
        for (uint32_t first = 0; first < 64; first += 7) {
            uint32_t count = first + 7 > 64 ? 64 - first : 7;
            assert_int_equal(sli_pack_fill(source, 1, l, place_of, first, count, part, meta, &err), SL_OK);
            assert_memory_equal(part, whole + (size_t)first * l->stride, (size_t)count * l->stride);
        }
    }
    free(whole);
    free(part);
    free(meta);
    sli_pack_source_close(&stock);
    sli_pack_source_close(&packed);
}

static sl_status ignore_told(void *ctx, uint64_t bytes, sl_error *err)
{
    (void)err;
    *(uint64_t *)ctx += bytes;
    return SL_OK;
}

static void a_layer_is_taken_apart_in_several_passes_where_memory_is_short(void **state)
{
    const folder *f = *state;
    sl_error err = {0};
    material m = material_of(40, 64, SL_TYPE_F16, SL_TYPE_F16, 3);
    round_trip(f, &m, SLI_PACK_RANDOM_ORDER, NULL);
    blob stock = blob_read(f->stock);
    for (uint64_t work = 1; work < 100000; work *= 10) {
        sli_pack_source packed;
        sl_file_writer *w;
        uint64_t bytes = 0;
        assert_int_equal(sli_pack_source_open(f->packed, &packed, &err), SL_OK);
        assert_int_equal(sl_file_writer_create(f->other, &w, &err), SL_OK);
        assert_int_equal(sl_file_writer_begin(w, stock.bytes, false, &err), SL_OK);
        assert_int_equal(sli_unpack_layer(&packed, 1, work, w, ignore_told, &bytes, &err), SL_OK);
        assert_int_equal(sl_file_writer_finish(w, &err), SL_OK);
        blob other = blob_read(f->other);
        const sl_gguf_tensor *matrices[3];
        sl_packed_layer ignored;
        assert_true(sli_packed_layer_of(packed.original, 1, &ignored, matrices));
        for (int i = 0; i < 3; i++)
            assert_memory_equal(other.data + matrices[i]->offset, stock.data + matrices[i]->offset, matrices[i]->bytes);
        assert_int_equal(bytes, matrices[0]->bytes + matrices[1]->bytes + matrices[2]->bytes);
        free(other.data);
        sli_pack_source_close(&packed);
    }
    free(stock.data);
}

/* ---- restarts ---- */

typedef struct watched {
    uint64_t stop_at; /* bytes; 0: never */
    int notes;
    char note[512];
} watched;

static bool on_progress(void *ctx, uint64_t done, uint64_t total)
{
    const watched *w = ctx;
    assert_true(done <= total);
    return w->stop_at == 0 || done < w->stop_at;
}

static void on_note(void *ctx, const char *line)
{
    watched *w = ctx;
    w->notes++;
    snprintf(w->note, sizeof w->note, "%s", line);
}

static void a_pack_goes_on_after_a_failure_of_any_write(void **state)
{
    const folder *f = *state;
    material m = material_of(40, 64, SL_TYPE_F16, SL_TYPE_F16, 3);
    material_write(f->stock, &m);
    watched w = {0};
    sli_pack_options o = {.in_path = f->stock, .out_path = f->other, .order = SLI_PACK_RANDOM_ORDER, .watch = {on_progress, on_note, &w}};
    pack_or_fail(&o, NULL);
    o.out_path = f->packed;
    uint64_t kept_most = 0;
    bool failed = true;
    for (int64_t n = 0; failed; n++) {
        sl_error err = {0};
        sli_pack_result result = {0};
        w = (watched){0};
        writes_left = n;
        failed = sli_pack(&o, NULL, &err) != SL_OK;
        writes_left = -1;
        assert_int_equal(access(f->packed, F_OK) == 0, !failed);
        if (failed) {
            assert_non_null(strstr(err.message, "cannot write at byte"));
            pack_or_fail(&o, &result);
        }
        assert_int_equal(access(f->partial, F_OK), -1);
        expect_same(f->packed, f->other);
        if (failed && result.kept_bytes > 0) {
            assert_int_equal(w.notes, 1);
            assert_non_null(strstr(w.note, "taking up "));
        }
        kept_most = result.kept_bytes > kept_most ? result.kept_bytes : kept_most;
        unlink(f->packed);
    }
    assert_true(kept_most > 10000);
}

/* Leaves a partial file with everything in it but the end. */
static void stop_late(const folder *f, sli_pack_options *o, watched *w)
{
    sl_error err = {0};
    sli_pack_result result;
    pack_or_fail(o, &result);
    unlink(f->packed);
    w->stop_at = result.packed_bytes / 2; /* sections end at every step, progress is told at the last only */
    assert_int_equal(sli_pack(o, NULL, &err), SL_INTERRUPTED);
    assert_non_null(strstr(err.message, "packed.partial keeps what is done"));
    assert_int_equal(access(f->packed, F_OK), -1);
    w->stop_at = 0;
}

static void a_stopped_pack_is_taken_up_and_damage_in_it_is_made_good(void **state)
{
    const folder *f = *state;
    material m = material_of(40, 64, SL_TYPE_F16, SL_TYPE_F16, 3);
    material_write(f->stock, &m);
    watched w = {0};
    sli_pack_options o = {.in_path = f->stock, .out_path = f->other, .watch = {on_progress, on_note, &w}};
    pack_or_fail(&o, NULL);
    o.out_path = f->packed;
    stop_late(f, &o, &w);
    sli_pack_result all, some;
    blob partial = blob_read(f->partial);
    pack_or_fail(&o, &all);
    expect_same(f->packed, f->other);
    assert_true(all.kept_bytes > 0);

    sl_gguf *g;
    sl_error err;
    assert_int_equal(sl_gguf_open(f->packed, &g, &err), SL_OK);
    const sl_gguf_tensor *bundles = sl_gguf_find_tensor(g, "blk.0.ffn.bundles");
    partial.data[bundles->offset + 700] ^= 1;
    blob_write(f->partial, &partial);
    pack_or_fail(&o, &some);
    expect_same(f->packed, f->other);
    assert_int_equal(all.kept_bytes - some.kept_bytes, bundles->bytes);
    sl_gguf_close(g);
    free(partial.data);
}

static void another_jobs_partial_file_is_not_taken_up(void **state)
{
    const folder *f = *state;
    material m = material_of(40, 64, SL_TYPE_F16, SL_TYPE_F16, 3);
    material_write(f->stock, &m);
    watched w = {0};
    sli_pack_options o = {.in_path = f->stock, .out_path = f->packed, .order = SLI_PACK_RANDOM_ORDER, .watch = {on_progress, on_note, &w}};
    sli_pack_result result;
    stop_late(f, &o, &w);
    o.seed = 99; /* another order under the same header */
    pack_or_fail(&o, &result);
    assert_int_equal(result.kept_bytes, 0);
    stop_late(f, &o, &w);
    m.seed = 2; /* another model under the same header */
    material_write(f->stock, &m);
    pack_or_fail(&o, &result);
    assert_int_equal(result.kept_bytes, 0);
    sl_error err;
    assert_int_equal(sli_unpack(f->packed, f->back, NULL, NULL, &err), SL_OK);
    expect_same(f->stock, f->back);
}

/* ---- damage ---- */

static void a_damaged_section_is_named_and_nothing_is_made_of_it(void **state)
{
    static const char *const sections[] = {"token_embd.weight", "sluice.padding", "blk.1.ffn.bundles", "blk.2.ffn.meta",
                                           "blk.2.attn_norm.weight"};
    const folder *f = *state;
    material m = material_of(40, 64, SL_TYPE_F16, SL_TYPE_F16, 3);
    round_trip(f, &m, SLI_PACK_RANDOM_ORDER, NULL);
    unlink(f->back);
    blob good = blob_read(f->packed);
    for (size_t i = 0; i < sizeof sections / sizeof *sections; i++) {
        sl_gguf *g;
        sl_error err = {0};
        assert_int_equal(sl_gguf_open(f->packed, &g, &err), SL_OK);
        blob bad = blob_copy(&good);
        bad.data[sl_gguf_find_tensor(g, sections[i])->offset + 2] ^= 8;
        sl_gguf_close(g);
        blob_write(f->packed, &bad);
        assert_int_equal(sli_pack_verify(f->packed, NULL, NULL, &err), SL_FORMAT);
        assert_non_null(strstr(err.message, sections[i]));
        assert_int_equal(sli_unpack(f->packed, f->back, NULL, NULL, &err), SL_FORMAT);
        assert_non_null(strstr(err.message, sections[i]));
        sli_pack_options o = {.in_path = f->packed, .out_path = f->back};
        assert_int_equal(sli_pack(&o, NULL, &err), SL_FORMAT);
        assert_non_null(strstr(err.message, sections[i]));
        assert_int_equal(access(f->back, F_OK), -1);
        free(bad.data);
    }
    free(good.data);
}

static void sizes_that_only_the_kernels_know_are_checked(void **state)
{
    const folder *f = *state;
    sl_error err;
    material m = material_of(40, 64, SL_TYPE_F16, SL_TYPE_F16, 3);
    round_trip(f, &m, SLI_PACK_FILE_ORDER, NULL);
    blob b = blob_read(f->packed);
    uint8_t *key = memmem(b.data, b.bytes, "sluice.pack.column_bytes", 24);
    int32_t bytes;
    memcpy(&bytes, key + 24 + 16, 4);
    bytes++; /* the stride stays the same */
    memcpy(key + 24 + 16, &bytes, 4);
    blob_seal(&b);
    blob_write(f->packed, &b);
    assert_int_equal(sli_pack_verify(f->packed, NULL, NULL, &err), SL_FORMAT);
    assert_non_null(strstr(err.message, "layer 0 has columns of"));
    free(b.data);
}

static void what_is_not_packed_is_not_unpacked(void **state)
{
    const folder *f = *state;
    sl_error err;
    material m = material_of(32, 64, 2, 2, 2);
    material_write(f->stock, &m);
    assert_int_equal(sli_unpack(f->stock, f->back, NULL, NULL, &err), SL_FORMAT);
    assert_non_null(strstr(err.message, "is not a packed file"));
    assert_int_equal(sli_pack_verify(f->stock, NULL, NULL, &err), SL_FORMAT);
}

/* ---- in place, and with calibration ---- */

static void a_file_may_be_packed_and_unpacked_in_place(void **state)
{
    const folder *f = *state;
    sl_error err;
    material m = material_of(32, 64, 2, 2, 2);
    material_write(f->stock, &m);
    material_write(f->back, &m);
    sli_pack_options o = {.in_path = f->stock, .out_path = f->stock, .order = SLI_PACK_RANDOM_ORDER};
    pack_or_fail(&o, NULL);
    pack_or_fail(&o, NULL);
    assert_int_equal(sli_pack_verify(f->stock, NULL, NULL, &err), SL_OK);
    assert_int_equal(sli_unpack(f->stock, f->stock, NULL, NULL, &err), SL_OK);
    expect_same(f->stock, f->back);
}

static sl_status read_numbers(void *ctx, uint64_t offset, void *to, size_t bytes, sl_error *err)
{
    (void)err;
    memcpy(to, (const uint8_t *)ctx + offset, bytes);
    return SL_OK;
}

static bool has(const char *path, const char *tensor, const char *key)
{
    sl_gguf *g;
    sl_error err;
    assert_int_equal(sl_gguf_open(path, &g, &err), SL_OK);
    bool found = (!tensor || sl_gguf_find_tensor(g, tensor)) && (!key || sl_gguf_find(g, key));
    sl_gguf_close(g);
    return found;
}

static void calibration_is_stored_carried_over_replaced_and_dropped(void **state)
{
    const folder *f = *state;
    sl_error err;
    material m = material_of(32, 64, 2, 2, 2);
    material_write(f->stock, &m);
    float numbers[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    sli_pack_tensor tensors[] = {
        {.name = "blk.0.calibration.a", .type = SL_TYPE_F32, .dims = 2, .shape = {4, 2, 1, 1}, .data = numbers},
        {.name = "sluice.calibration.b", .type = SL_TYPE_F32, .dims = 1, .shape = {3, 1, 1, 1}, .read = read_numbers, .ctx = numbers}};
    sli_pack_key keys[] = {{.key = "sluice.calibration.text", .kind = SL_GGUF_STRING, .data = "hello"},
                           {.key = "sluice.calibration.density", .kind = SL_GGUF_F32, .data = numbers},
                           {.key = "sluice.calibration.layers", .kind = SL_GGUF_F32, .array = true, .count = 3, .data = numbers}};
    sli_pack_options o = {.in_path = f->stock, .out_path = f->packed, .tensors = tensors, .tensor_count = 2, .keys = keys, .key_count = 3};
    pack_or_fail(&o, NULL);
    assert_true(has(f->packed, "blk.0.calibration.a", "sluice.calibration.text"));
    assert_true(has(f->packed, "sluice.calibration.b", "sluice.calibration.layers"));
    assert_int_equal(sli_pack_verify(f->packed, NULL, NULL, &err), SL_OK);
    assert_int_equal(sli_unpack(f->packed, f->back, NULL, NULL, &err), SL_OK);
    expect_same(f->stock, f->back);

    /* Another order keeps it; what is given anew takes the place of the old. */
    keys[1].data = &numbers[7];
    tensors[1].shape[0] = 5;
    o = (sli_pack_options){.in_path = f->packed,
                           .out_path = f->other,
                           .order = SLI_PACK_RANDOM_ORDER,
                           .tensors = &tensors[1],
                           .tensor_count = 1,
                           .keys = &keys[1],
                           .key_count = 1};
    pack_or_fail(&o, NULL);
    assert_true(has(f->other, "blk.0.calibration.a", "sluice.calibration.text"));
    sl_gguf *g;
    float density;
    assert_int_equal(sl_gguf_open(f->other, &g, &err), SL_OK);
    assert_int_equal(sl_gguf_f32(g, "sluice.calibration.density", &density, &err), SL_OK);
    assert_true(density == 8.0f);
    assert_int_equal(sl_gguf_find_tensor(g, "sluice.calibration.b")->shape[0], 5);
    sl_gguf_close(g);

    o = (sli_pack_options){.in_path = f->packed, .out_path = f->other, .drop_calibration = true};
    pack_or_fail(&o, NULL);
    assert_false(has(f->other, "blk.0.calibration.a", NULL));
    assert_false(has(f->other, NULL, "sluice.calibration.text"));

    tensors[0].name = "blk.0.scores";
    o = (sli_pack_options){.in_path = f->packed, .out_path = f->other, .tensors = tensors, .tensor_count = 1};
    assert_int_equal(sli_pack(&o, NULL, &err), SL_INVALID);
    keys[0].key = "other.key";
    o = (sli_pack_options){.in_path = f->packed, .out_path = f->other, .keys = keys, .key_count = 1};
    assert_int_equal(sli_pack(&o, NULL, &err), SL_INVALID);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)
    const struct CMUnitTest tests[] = {
        TEST(every_type_comes_back),
        TEST(types_may_differ_by_matrix_and_layer),
        TEST(a_layer_that_cannot_be_cut_stays_plain),
        TEST(padding_trailing_bytes_and_an_older_version_come_back),
        TEST(packing_a_packed_file_is_packing_the_original_in_the_new_order),
        TEST(zeros_that_were_left_out_come_back),
        TEST(zeros_are_left_out_where_it_was_asked_for),
        TEST(without_zeros_too_packing_a_packed_file_is_packing_the_original),
        TEST(one_neuron_at_least_is_stored),
        TEST(a_given_order_is_the_order_on_disk),
        TEST(rounds_make_no_difference),
        TEST(a_layer_is_taken_apart_in_several_passes_where_memory_is_short),
        TEST(a_pack_goes_on_after_a_failure_of_any_write),
        TEST(a_stopped_pack_is_taken_up_and_damage_in_it_is_made_good),
        TEST(another_jobs_partial_file_is_not_taken_up),
        TEST(a_damaged_section_is_named_and_nothing_is_made_of_it),
        TEST(sizes_that_only_the_kernels_know_are_checked),
        TEST(what_is_not_packed_is_not_unpacked),
        TEST(a_file_may_be_packed_and_unpacked_in_place),
        TEST(calibration_is_stored_carried_over_replaced_and_dropped),
    };
    return cmocka_run_group_tests_name("pack", tests, NULL, NULL);
}
