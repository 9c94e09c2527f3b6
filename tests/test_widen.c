/* tests/test_widen.c: a widened model is the small one, copied and shared out.
 *
 * The wide file is compared with the small one weight by weight: that the function is the same follows (head comment of widen.h). */
#include "kernels/kernels.h"
#include "offload/tools/synth.h"
#include "offload/tools/widen.h"

#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

enum { LONGEST = 160, FACTOR_MAX = 5 }; /* the tiny shape's longest row */

typedef struct folder {
    char path[64], small[96], wide[96];
} folder;

static int make_folder(void **state)
{
    folder *f = calloc(1, sizeof(*f));
    if (!f)
        return -1;
    strcpy(f->path, "/tmp/sluice-widen-XXXXXX");
    if (!mkdtemp(f->path))
        return -1;
    snprintf(f->small, sizeof(f->small), "%s/small.gguf", f->path);
    snprintf(f->wide, sizeof(f->wide), "%s/wide.gguf", f->path);
    *state = f;
    return 0;
}

/* Fails where something else than the two files was left. */
static int remove_folder(void **state)
{
    folder *f = *state;
    unlink(f->small);
    unlink(f->wide);
    int failed = rmdir(f->path);
    free(f);
    return failed;
}

typedef struct model {
    sl_gguf *gguf;
    uint8_t *data;
    size_t bytes;
} model;

static model open_model(const char *path)
{
    model m;
    sl_error err = {0};
    if (sl_gguf_open(path, &m.gguf, &err) != SL_OK)
        fail_msg("%s", err.message);
    m.bytes = sl_gguf_file_bytes(m.gguf);
    m.data = malloc(m.bytes);
    int fd = open(path, O_RDONLY);
    assert_int_equal(pread(fd, m.data, m.bytes, 0), m.bytes);
    close(fd);
    return m;
}

static void close_model(model *m)
{
    sl_gguf_close(m->gguf);
    free(m->data);
}

static const uint8_t *row_of(const model *m, const sl_gguf_tensor *t, uint64_t row)
{
    return m->data + t->offset + row * sl_row_bytes(t->type, t->shape[0]);
}

static void floats_of(const model *m, const sl_gguf_tensor *t, uint64_t row, float *out)
{
    sl_kernels_for(SL_ISA_SCALAR)->dequantize_row(t->type, row_of(m, t, row), (uint32_t)t->shape[0], out);
}

static void synthesise(const char *path, const char *shape, uint32_t type)
{
    sl_error err = {0};
    sl_synth_options o = {.shape = shape, .path = path, .type = type, .seed = 5};
    if (sl_synth(&o, &err) != SL_OK)
        fail_msg("%s", err.message);
}

static void widen(const folder *f, uint32_t factor, uint64_t seed)
{
    sl_error err = {0};
    sl_widen_options o = {.in_path = f->small, .out_path = f->wide, .factor = factor, .seed = seed};
    if (sl_widen(&o, &err) != SL_OK)
        fail_msg("%s", err.message);
}

/* ---- weight by weight ---- */

typedef enum expectation { COPIED, SHARED } expectation;

static bool ends_with(sl_str name, const char *end)
{
    size_t length = strlen(end);
    return name.length >= length && memcmp(name.data + name.length - length, end, length) == 0;
}

/* In each wide row the copies of an input sum to the small weight (SHARED), or are it (COPIED). Sums are exact up to the roundings of
 * fp32 and of the last copy's 16-bit number: for F16 steps half a unit in the last place of about a third of the weight. */
static void compare_row(const float *narrow, const float *wide, uint64_t n, uint32_t factor, expectation expect, float gain,
                        float tolerance)
{
    for (uint64_t i = 0; i < n; i++) {
        float sum = 0.0f;
        for (uint32_t c = 0; c < factor; c++) {
            float w = wide[c * n + i];
            sum += w;
            if (expect == COPIED)
                assert_true(fabsf(w - narrow[i] * gain) <= fabsf(narrow[i]) * 1e-6f);
            else if (factor > 1 && fabsf(narrow[i]) > 0.01f) /* each gets its part: 0.5 .. 1.5 in proportion */
                assert_true(w / narrow[i] > 0.9f * 0.5f / (1.5f * (float)factor) && w / narrow[i] < 1.1f * 1.5f / (0.5f * (float)factor));
        }
        if (expect == SHARED)
            assert_true(fabsf(sum - narrow[i]) <= tolerance);
    }
}

static void compare_tensor(const model *s, const model *w, size_t index, uint32_t factor, bool tied)
{
    const sl_gguf_tensor *small = sl_gguf_tensor_at(s->gguf, index), *wide = sl_gguf_tensor_at(w->gguf, index);
    bool embedding = ends_with(small->name, "token_embd.weight"), head = sl_str_equal(small->name, "output.weight");
    bool norm = ends_with(small->name, "_norm.weight");
    float gain = tied && ends_with(small->name, "output_norm.weight") ? 1.0f / (float)factor : 1.0f;
    float *narrow = malloc(LONGEST * sizeof(float)), *broad = malloc(LONGEST * FACTOR_MAX * sizeof(float));

    assert_int_equal(small->name.length, wide->name.length);
    assert_memory_equal(small->name.data, wide->name.data, small->name.length);
    assert_int_equal(wide->type, small->type);
    assert_int_equal(wide->shape[0], small->shape[0] * factor);
    assert_int_equal(wide->shape[1], small->shape[1] * (embedding || head || norm ? 1 : factor));
    for (uint64_t r = 0; r < wide->shape[1]; r++) {
        floats_of(s, small, r % small->shape[1], narrow);
        floats_of(w, wide, r, broad);
        compare_row(narrow, broad, small->shape[0], factor, embedding || norm ? COPIED : SHARED, gain,
                    small->type == SL_TYPE_BF16 ? 1e-3f : 2e-4f);
    }
    free(narrow);
    free(broad);
}

static void every_weight_is_copied_or_shared_out(void **state)
{
    folder *f = *state;
    static const uint32_t types[] = {SL_TYPE_F32, SL_TYPE_F16, SL_TYPE_BF16, SL_TYPE_Q4_0, SL_TYPE_Q4_1, SL_TYPE_Q8_0};
    static const uint32_t factors[] = {1, 2, 5};
    for (size_t t = 0; t < 6; t++) {
        for (size_t k = 0; k < 3; k++) {
            bool tied = (t + k) % 2;
            synthesise(f->small, tied ? "tiny" : "tiny-untied", types[t]);
            widen(f, factors[k], 1);
            model s = open_model(f->small), w = open_model(f->wide);
            assert_int_equal(sl_gguf_tensor_count(s.gguf), sl_gguf_tensor_count(w.gguf));
            for (size_t i = 0; i < sl_gguf_tensor_count(s.gguf); i++)
                compare_tensor(&s, &w, i, factors[k], tied);
            close_model(&s);
            close_model(&w);
        }
    }
}

/* Widened once with the same type and factor 1 nothing is rounded at all. */
static void factor_1_changes_no_tensor_byte(void **state)
{
    folder *f = *state;
    synthesise(f->small, "tiny", SL_TYPE_Q4_1);
    widen(f, 1, 1);
    model s = open_model(f->small), w = open_model(f->wide);
    for (size_t i = 0; i < sl_gguf_tensor_count(s.gguf); i++) {
        const sl_gguf_tensor *a = sl_gguf_tensor_at(s.gguf, i), *b = sl_gguf_tensor_at(w.gguf, i);
        assert_int_equal(a->bytes, b->bytes);
        assert_memory_equal(s.data + a->offset, w.data + b->offset, a->bytes);
    }
    close_model(&s);
    close_model(&w);
}

static void without_a_type_the_quants_carry_over(void **state)
{
    folder *f = *state;
    static const struct {
        uint32_t type;
        size_t block, quants; /* where the quants begin */
    } formats[] = {{SL_TYPE_Q4_0, 18, 2}, {SL_TYPE_Q4_1, 20, 4}, {SL_TYPE_Q8_0, 34, 2}};
    for (size_t k = 0; k < 3; k++) {
        synthesise(f->small, "tiny", formats[k].type);
        widen(f, 3, 1);
        model s = open_model(f->small), w = open_model(f->wide);
        const sl_gguf_tensor *a = sl_gguf_find_tensor(s.gguf, "blk.1.ffn_down.weight"),
                             *b = sl_gguf_find_tensor(w.gguf, "blk.1.ffn_down.weight");
        size_t blocks = a->shape[0] / 32, differ = 0;
        for (uint64_t r = 0; r < b->shape[1]; r++) {
            for (size_t i = 0; i < blocks * 3; i++) {
                const uint8_t *x = row_of(&s, a, r % a->shape[1]) + i % blocks * formats[k].block,
                              *y = row_of(&w, b, r) + i * formats[k].block;
                assert_memory_equal(x + formats[k].quants, y + formats[k].quants, formats[k].block - formats[k].quants);
                differ += memcmp(row_of(&w, b, r % a->shape[1]) + i * formats[k].block, y, 2) != 0;
            }
        }
        assert_true(differ > blocks * 3 * a->shape[1]); /* copies of a row have shares of their own */
        close_model(&s);
        close_model(&w);
    }
}

static uint32_t number(const model *m, const char *key)
{
    sl_error err = {0};
    uint32_t value = 0;
    if (sl_gguf_u32(m->gguf, key, &value, &err) != SL_OK)
        fail_msg("%s", err.message);
    return value;
}

static void widths_grow_and_all_else_is_kept(void **state)
{
    folder *f = *state;
    synthesise(f->small, "tiny", SL_TYPE_Q4_0);
    widen(f, 3, 1);
    model s = open_model(f->small), w = open_model(f->wide);
    static const char *const growing[] = {"llama.embedding_length", "llama.feed_forward_length", "llama.attention.head_count",
                                          "llama.attention.head_count_kv"};
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(number(&w, growing[i]), 3 * number(&s, growing[i]));
    assert_int_equal(number(&w, "sluice.widen.factor"), 3);
    for (size_t i = 0; i < sl_gguf_value_count(s.gguf); i++) {
        const sl_gguf_value *a = sl_gguf_value_at(s.gguf, i);
        char key[128];
        snprintf(key, sizeof(key), "%.*s", (int)a->key.length, a->key.data);
        bool grew = false;
        for (size_t k = 0; k < 4; k++)
            grew = grew || strcmp(key, growing[k]) == 0;
        if (grew)
            continue;
        const sl_gguf_value *b = sl_gguf_find(w.gguf, key);
        assert_non_null(b);
        assert_int_equal(a->bytes, b->bytes);
        assert_memory_equal(a->data, b->data, a->bytes);
    }
    close_model(&s);
    close_model(&w);
}

static void same_seed_same_bytes_and_another_seed_other_shares(void **state)
{
    folder *f = *state;
    synthesise(f->small, "tiny", SL_TYPE_Q4_0);
    widen(f, 2, 1);
    model a = open_model(f->wide);
    widen(f, 2, 1);
    model b = open_model(f->wide);
    widen(f, 2, 2);
    model c = open_model(f->wide);
    assert_int_equal(a.bytes, b.bytes);
    assert_memory_equal(a.data, b.data, a.bytes);
    const sl_gguf_tensor *q = sl_gguf_find_tensor(a.gguf, "blk.0.attn_q.weight"),
                         *other = sl_gguf_find_tensor(c.gguf, "blk.0.attn_q.weight");
    assert_true(memcmp(a.data + q->offset, c.data + other->offset, q->bytes) != 0);
    close_model(&a);
    close_model(&b);
    close_model(&c);
}

static void remember_note(void *ctx, const char *line)
{
    int *lines = ctx;
    assert_non_null(strstr(line, "requantised"));
    assert_null(strchr(line, '\n'));
    (*lines)++;
}

/* Layers take the type, embedding and head at least Q8_0; it is said once, and not at all where nothing changed. */
static void another_type_requantises_once_and_says_so(void **state)
{
    folder *f = *state;
    sl_error err = {0};
    int lines = 0;
    sl_widen_options o = {.in_path = f->small,
                          .out_path = f->wide,
                          .factor = 2,
                          .change_type = true,
                          .type = SL_TYPE_Q4_0,
                          .watch = {.note = remember_note, .ctx = &lines}};
    synthesise(f->small, "tiny-untied", SL_TYPE_F32);
    assert_int_equal(sl_widen(&o, &err), SL_OK);
    assert_int_equal(lines, 1);
    model w = open_model(f->wide);
    assert_int_equal(sl_gguf_find_tensor(w.gguf, "blk.0.attn_v.weight")->type, SL_TYPE_Q4_0);
    assert_int_equal(sl_gguf_find_tensor(w.gguf, "blk.0.attn_norm.weight")->type, SL_TYPE_F32);
    assert_int_equal(sl_gguf_find_tensor(w.gguf, "token_embd.weight")->type, SL_TYPE_Q8_0);
    assert_int_equal(sl_gguf_find_tensor(w.gguf, "output.weight")->type, SL_TYPE_Q8_0);
    assert_int_equal(number(&w, "general.file_type"), 2);
    close_model(&w);
    synthesise(f->small, "tiny", SL_TYPE_Q4_0);
    assert_int_equal(sl_widen(&o, &err), SL_OK);
    assert_int_equal(lines, 1);
}

static bool stop_at_once(void *ctx, uint64_t done, uint64_t total)
{
    (void)ctx;
    (void)done;
    (void)total;
    return false;
}

static void a_stopped_or_refused_widening_leaves_no_file(void **state)
{
    folder *f = *state;
    sl_error err;
    sl_widen_options o = {.in_path = f->small, .out_path = f->wide, .factor = 2};
    assert_int_equal(sl_widen(&o, &err), SL_IO); /* there is no small file yet */
    synthesise(f->small, "tiny", SL_TYPE_F32);
    o.watch.progress = stop_at_once;
    assert_int_equal(sl_widen(&o, &err), SL_INTERRUPTED);
    o.watch.progress = NULL;
    static const uint32_t bad_factors[] = {0, 65, UINT32_MAX};
    for (size_t i = 0; i < 3; i++) {
        o.factor = bad_factors[i];
        assert_int_equal(sl_widen(&o, &err), SL_INVALID);
    }
    o.factor = 2;
    o.change_type = true;
    o.type = 14;
    assert_int_equal(sl_widen(&o, &err), SL_INVALID);
    o.change_type = false;
    o.out_path = f->small;
    assert_int_equal(sl_widen(&o, &err), SL_INVALID);
    assert_non_null(strstr(err.message, "is the model to widen"));
    o.out_path = f->wide;

    struct rlimit old, small_limit;
    getrlimit(RLIMIT_FSIZE, &old);
    small_limit = (struct rlimit){.rlim_cur = 100000, .rlim_max = old.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small_limit);
    sl_status status = sl_widen(&o, &err);
    setrlimit(RLIMIT_FSIZE, &old);
    assert_int_equal(status, SL_IO);
    assert_int_equal(access(f->wide, F_OK), -1);
}

/* A model of one tensor that widening has no rule for. */
static void unknown_tensors_and_architectures_are_refused_by_name(void **state)
{
    folder *f = *state;
    static const char *const architectures[] = {"llama", "gemma"};
    static const char *const expected[] = {"blk.0.ffn_gate_exps.weight", "\"gemma\""};
    float data[32] = {0};
    for (size_t i = 0; i < 2; i++) {
        sl_error err;
        sl_gguf_writer *w;
        assert_int_equal(sl_gguf_writer_create(f->small, 32, &w, &err), SL_OK);
        assert_int_equal(sl_gguf_write_str(w, "general.architecture", architectures[i], &err), SL_OK);
        assert_int_equal(sl_gguf_write_tensor(w, "token_embd.weight", SL_TYPE_F32, (uint64_t[]){32, 1}, 2, &err), SL_OK);
        assert_int_equal(sl_gguf_write_tensor(w, "blk.0.ffn_gate_exps.weight", SL_TYPE_F32, (uint64_t[]){32, 1}, 2, &err), SL_OK);
        assert_int_equal(sl_gguf_writer_begin_data(w, &err), SL_OK);
        assert_int_equal(sl_gguf_writer_data(w, data, sizeof(data), &err), SL_OK);
        assert_int_equal(sl_gguf_writer_data(w, data, sizeof(data), &err), SL_OK);
        assert_int_equal(sl_gguf_writer_finish(w, &err), SL_OK);
        sl_widen_options o = {.in_path = f->small, .out_path = f->wide, .factor = 2};
        assert_int_equal(sl_widen(&o, &err), SL_UNSUPPORTED);
        assert_non_null(strstr(err.message, expected[i]));
    }
}

#define WITH_FOLDER(test) cmocka_unit_test_setup_teardown(test, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FOLDER(every_weight_is_copied_or_shared_out),
        WITH_FOLDER(factor_1_changes_no_tensor_byte),
        WITH_FOLDER(without_a_type_the_quants_carry_over),
        WITH_FOLDER(widths_grow_and_all_else_is_kept),
        WITH_FOLDER(same_seed_same_bytes_and_another_seed_other_shares),
        WITH_FOLDER(another_type_requantises_once_and_says_so),
        WITH_FOLDER(a_stopped_or_refused_widening_leaves_no_file),
        WITH_FOLDER(unknown_tensors_and_architectures_are_refused_by_name),
    };
    return cmocka_run_group_tests_name("widen", tests, NULL, NULL);
}
