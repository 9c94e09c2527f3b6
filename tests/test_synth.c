/* tests/test_synth.c: synthetic models are valid, scaled right, reproducible, and leave nothing behind when stopped. */
#include "kernels/kernels.h"
#include "offload/tools/synth.h"

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

static const uint32_t all_types[] = {SL_TYPE_F32,  SL_TYPE_F16,  SL_TYPE_BF16, SL_TYPE_Q4_0,   SL_TYPE_Q4_1,
                                     SL_TYPE_Q5_0, SL_TYPE_Q5_1, SL_TYPE_Q8_0, SL_TYPE_IQ4_NL, SL_TYPE_Q2_K,
                                     SL_TYPE_Q3_K, SL_TYPE_Q4_K, SL_TYPE_Q5_K, SL_TYPE_Q6_K,   SL_TYPE_IQ4_XS};
#define TYPES (sizeof all_types / sizeof *all_types)

typedef struct folder {
    char path[64], a[96], b[96];
} folder;

static int make_folder(void **state)
{
    folder *f = calloc(1, sizeof(*f));
    if (!f)
        return -1;
    strcpy(f->path, "/tmp/sluice-synth-XXXXXX");
    if (!mkdtemp(f->path))
        return -1;
    snprintf(f->a, sizeof(f->a), "%s/a.gguf", f->path);
    snprintf(f->b, sizeof(f->b), "%s/b.gguf", f->path);
    *state = f;
    return 0;
}

/* Fails where something else than the two files was left. */
static int remove_folder(void **state)
{
    folder *f = *state;
    unlink(f->a);
    unlink(f->b);
    int failed = rmdir(f->path);
    free(f);
    return failed;
}

static uint8_t *load(const char *path, size_t *bytes)
{
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    *bytes = (size_t)lseek(fd, 0, SEEK_END);
    uint8_t *data = malloc(*bytes);
    assert_non_null(data);
    assert_int_equal(pread(fd, data, *bytes, 0), *bytes);
    close(fd);
    return data;
}

static void make(const char *path, const char *shape, uint32_t type, uint64_t seed)
{
    sl_error err = {0};
    sl_synth_options o = {.shape = shape, .path = path, .type = type, .seed = seed};
    if (sl_synth(&o, &err) != SL_OK)
        fail_msg("%s", err.message);
}

static void same_seed_same_bytes_and_another_seed_other_bytes(void **state)
{
    folder *f = *state;
    for (size_t t = 0; t < TYPES; t++) {
        size_t a_bytes, b_bytes;
        make(f->a, "tiny", all_types[t], 1);
        make(f->b, "tiny", all_types[t], 1);
        uint8_t *a = load(f->a, &a_bytes), *b = load(f->b, &b_bytes);
        assert_int_equal(a_bytes, b_bytes);
        assert_memory_equal(a, b, a_bytes);
        free(b);
        make(f->b, "tiny", all_types[t], 2);
        b = load(f->b, &b_bytes);
        assert_int_equal(a_bytes, b_bytes);
        assert_true(memcmp(a, b, a_bytes) != 0);
        free(a);
        free(b);
    }
}

static void shape_and_tensors_agree_with_the_metadata(void **state)
{
    folder *f = *state;
    sl_error err;
    sl_gguf *g;
    uint32_t d, ff, layers;
    for (int tied = 0; tied < 2; tied++) {
        make(f->a, tied ? "tiny" : "tiny-untied", SL_TYPE_Q4_0, 1);
        assert_int_equal(sl_gguf_open(f->a, &g, &err), SL_OK);
        assert_int_equal(sl_gguf_u32(g, "llama.embedding_length", &d, &err), SL_OK);
        assert_int_equal(sl_gguf_u32(g, "llama.feed_forward_length", &ff, &err), SL_OK);
        assert_int_equal(sl_gguf_u32(g, "llama.block_count", &layers, &err), SL_OK);
        assert_int_equal(sl_gguf_tensor_count(g), layers * 9 + (tied ? 2 : 3));
        const sl_gguf_tensor *down = sl_gguf_find_tensor(g, "blk.1.ffn_down.weight");
        assert_int_equal(down->shape[0], ff);
        assert_int_equal(down->shape[1], d);
        assert_int_equal(down->type, SL_TYPE_Q4_0);
        assert_int_equal(sl_gguf_find_tensor(g, "blk.1.attn_k.weight")->shape[1], d / 2);
        assert_int_equal(sl_gguf_find_tensor(g, "blk.0.attn_norm.weight")->type, SL_TYPE_F32);
        assert_int_equal(sl_gguf_find_tensor(g, "output.weight") == NULL, tied);
        sl_gguf_close(g);
    }
}

/* Mean 0 and deviation 1/sqrt(n) in every format: the sample of 384 x 256 weights knows the deviation to well under 5 %. */
static void weights_have_the_deviation_that_keeps_activations_in_range(void **state)
{
    folder *f = *state;
    for (size_t t = 0; t < TYPES; t++) {
        sl_error err;
        sl_gguf *g;
        size_t bytes;
        make(f->a, "tiny-256", all_types[t], 3);
        assert_int_equal(sl_gguf_open(f->a, &g, &err), SL_OK);
        uint8_t *data = load(f->a, &bytes);
        const sl_gguf_tensor *e = sl_gguf_find_tensor(g, "token_embd.weight");
        assert_int_equal(e->type, all_types[t]);
        double sum = 0, squares = 0, count = (double)(e->shape[0] * e->shape[1]);
        float row[256];
        for (uint64_t r = 0; r < e->shape[1]; r++) {
            sl_kernels_for(SL_ISA_SCALAR)->dequantize_row(all_types[t], data + e->offset + r * sl_row_bytes(all_types[t], 256), 256, row);
            for (int i = 0; i < 256; i++) {
                assert_true(fabsf(row[i]) < 1.0f);
                sum += row[i];
                squares += (double)row[i] * row[i];
            }
        }
        double deviation = sqrt(squares / count) * sqrt(256.0);
        assert_true(deviation > 0.95 && deviation < 1.07);
        assert_true(fabs(sum / count) * sqrt(256.0) < 0.03);
        free(data);
        sl_gguf_close(g);
    }
}

/* What llama.cpp does with such rows, too. */
static void rows_that_super_blocks_do_not_divide_get_a_format_of_small_blocks(void **state)
{
    folder *f = *state;
    static const uint32_t stand_ins[][2] = {{SL_TYPE_Q2_K, SL_TYPE_IQ4_NL}, {SL_TYPE_Q3_K, SL_TYPE_IQ4_NL},
                                            {SL_TYPE_Q4_K, SL_TYPE_Q5_0},   {SL_TYPE_Q5_K, SL_TYPE_Q5_1},
                                            {SL_TYPE_Q6_K, SL_TYPE_Q8_0},   {SL_TYPE_IQ4_XS, SL_TYPE_IQ4_NL}};
    for (size_t i = 0; i < 6; i++) {
        sl_error err;
        sl_gguf *g;
        make(f->a, "tiny", stand_ins[i][0], 1);
        assert_int_equal(sl_gguf_open(f->a, &g, &err), SL_OK);
        assert_int_equal(sl_gguf_find_tensor(g, "blk.0.attn_q.weight")->type, stand_ins[i][1]);
        sl_gguf_close(g);
    }
}

static bool contains(char *const *set, size_t count, const char *text)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(set[i], text) == 0)
            return true;
    }
    return false;
}

/* All tokens differ, and both halves and the result of each merge are tokens. */
static void the_vocabulary_is_closed_under_its_merges(void **state)
{
    folder *f = *state;
    sl_error err;
    sl_gguf *g;
    sl_str s;
    size_t cursor = 0, count = 0;
    char *tokens[384], joined[64];
    make(f->a, "tiny", SL_TYPE_Q4_0, 1);
    assert_int_equal(sl_gguf_open(f->a, &g, &err), SL_OK);
    const sl_gguf_value *list = sl_gguf_find(g, "tokenizer.ggml.tokens");
    assert_int_equal(list->count, 384);
    while (sl_gguf_next_string(list, &cursor, &s)) {
        tokens[count] = strndup(s.data, s.length);
        assert_true(s.length > 0);
        assert_false(contains(tokens, count, tokens[count]));
        count++;
    }
    assert_int_equal(count, 384);
    assert_true(contains(tokens, count, "<|im_start|>") && contains(tokens, count, "<|im_end|>") &&
                contains(tokens, count, "<|endoftext|>"));

    cursor = 0;
    size_t merges = 0;
    while (sl_gguf_next_string(sl_gguf_find(g, "tokenizer.ggml.merges"), &cursor, &s)) {
        snprintf(joined, sizeof(joined), "%.*s", (int)s.length, s.data);
        char *right = strchr(joined, ' ');
        assert_non_null(right);
        *right++ = '\0';
        assert_true(contains(tokens, count, joined) && contains(tokens, count, right));
        memmove(right - 1, right, strlen(right) + 1);
        assert_true(contains(tokens, count, joined));
        merges++;
    }
    assert_true(merges > 50);
    for (size_t i = 0; i < count; i++)
        free(tokens[i]);
    sl_gguf_close(g);
}

static bool stop_at_once(void *ctx, uint64_t done, uint64_t total)
{
    (void)total;
    *(uint64_t *)ctx = done;
    return false;
}

static bool count_to_the_end(void *ctx, uint64_t done, uint64_t total)
{
    uint64_t *last = ctx;
    assert_true(done > *last && done <= total);
    *last = done == total ? UINT64_MAX : done;
    return true;
}

static void progress_runs_to_the_total_and_can_stop_it(void **state)
{
    folder *f = *state;
    sl_error err;
    uint64_t last = 0;
    sl_synth_options o = {
        .shape = "smollm2-135m", .path = f->a, .type = SL_TYPE_Q4_0, .watch = {.progress = count_to_the_end, .ctx = &last}};
    assert_int_equal(sl_synth(&o, &err), SL_OK);
    assert_true(last == UINT64_MAX);
    o.path = f->b;
    o.watch.progress = stop_at_once;
    assert_int_equal(sl_synth(&o, &err), SL_INTERRUPTED);
    assert_true(last >= SLI_TOOL_STEP_BYTES && last < 2 * SLI_TOOL_STEP_BYTES);
    assert_int_equal(access(f->b, F_OK), -1); /* and remove_folder sees that nothing else is there */
}

/* For who only asks how long moving it takes: the header of the real one, and nothing is written behind it. */
static void a_hollow_file_has_all_but_the_weights(void **state)
{
    folder *f = *state;
    sl_error err = {0};
    sl_synth_shape shape = *sl_synth_shape_at(0);
    sl_synth_options o = {.given = &shape, .path = f->b, .type = SL_TYPE_Q4_0, .hollow = true};
    size_t real_bytes, hollow_bytes;
    make(f->a, "tiny", SL_TYPE_Q4_0, 1);
    assert_int_equal(sl_synth(&o, &err), SL_OK);
    sl_gguf *file;
    assert_int_equal(sl_gguf_open(f->b, &file, &err), SL_OK);
    size_t data = sl_gguf_tensor_at(file, 0)->offset;
    sl_gguf_close(file);
    uint8_t *real = load(f->a, &real_bytes), *hollow = load(f->b, &hollow_bytes);
    assert_int_equal(hollow_bytes, real_bytes);
    assert_memory_equal(hollow, real, data);
    for (size_t i = data; i < hollow_bytes; i++)
        assert_int_equal(hollow[i], 0);
    free(real);
    free(hollow);
}

static void what_cannot_be_made_is_refused_with_the_choices(void **state)
{
    folder *f = *state;
    sl_error err;
    sl_synth_options o = {.shape = "llama-8", .path = f->a, .type = SL_TYPE_Q4_0};
    assert_int_equal(sl_synth(&o, &err), SL_INVALID);
    assert_non_null(strstr(err.message, "tiny"));
    assert_non_null(strstr(err.message, "llama3-70b"));
    o.shape = "tiny";
    o.type = 9;
    assert_int_equal(sl_synth(&o, &err), SL_INVALID);
    assert_non_null(strstr(err.message, "Q8_1"));
    assert_int_equal(access(f->a, F_OK), -1);
}

/* A limit on file sizes stands for a full disk. */
static void a_full_disk_is_said_and_nothing_is_left(void **state)
{
    folder *f = *state;
    sl_error err;
    struct rlimit old, small;
    getrlimit(RLIMIT_FSIZE, &old);
    small = (struct rlimit){.rlim_cur = 100000, .rlim_max = old.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small);
    sl_synth_options o = {.shape = "tiny", .path = f->a, .type = SL_TYPE_Q4_0};
    sl_status status = sl_synth(&o, &err);
    setrlimit(RLIMIT_FSIZE, &old);
    assert_int_equal(status, SL_IO);
    assert_non_null(strstr(err.message, "cannot reserve"));
    assert_int_equal(access(f->a, F_OK), -1);
}

static void every_shape_of_the_table_is_consistent(void **state)
{
    (void)state;
    const sl_synth_shape *s;
    for (size_t i = 0; (s = sl_synth_shape_at(i)) != NULL; i++) {
        assert_int_equal(s->d % s->heads, 0);
        assert_int_equal(s->heads % s->kv_heads, 0);
        assert_int_equal(s->d / s->heads % 32, 0);
        assert_int_equal(s->d % 32, 0);
        assert_int_equal(s->ff % 32, 0);
        assert_true(s->vocab >= 384);
    }
}

#define WITH_FOLDER(test) cmocka_unit_test_setup_teardown(test, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FOLDER(same_seed_same_bytes_and_another_seed_other_bytes),
        WITH_FOLDER(shape_and_tensors_agree_with_the_metadata),
        WITH_FOLDER(weights_have_the_deviation_that_keeps_activations_in_range),
        WITH_FOLDER(rows_that_super_blocks_do_not_divide_get_a_format_of_small_blocks),
        WITH_FOLDER(the_vocabulary_is_closed_under_its_merges),
        WITH_FOLDER(progress_runs_to_the_total_and_can_stop_it),
        WITH_FOLDER(a_hollow_file_has_all_but_the_weights),
        WITH_FOLDER(what_cannot_be_made_is_refused_with_the_choices),
        WITH_FOLDER(a_full_disk_is_said_and_nothing_is_left),
        cmocka_unit_test(every_shape_of_the_table_is_consistent),
    };
    return cmocka_run_group_tests_name("synth", tests, NULL, NULL);
}
