/* tests/test_kv_spill.c: that a cache of which a part is in a file gives the bits of one in memory, whatever is done to it and whatever fails. */
/* link: -Wl,--wrap=pread -Wl,--wrap=pwrite */
#include "offload/kv_spill.h"
#include "pager/spill.h"
#include "tests/tiny_model.h"

#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "tests/stage.h"

#define MIB ((uint64_t)1 << 20)

enum { CONTEXT = 960, BATCH = 320, VOCAB = 387, INDEX = 160 << 10 /* bytes, of the keys of all pages */ };
enum { DEVICE_CONTEXT = 640, DEVICE_LAYERS = 5 }; /* an emulated device takes its time */

static char *model_path, *folder, *device_model_path;

/* ---- calls that fail ---- */

static long calls_until_failure = -1; /* of pread and pwrite together; negative: none fails */

#define PLENTY (1L << 50)
static long bytes_until_full = PLENTY; /* of the disk */

static bool fails_now(void)
{
    return calls_until_failure >= 0 && calls_until_failure-- == 0;
}

ssize_t __real_pread(int fd, void *to, size_t bytes, off_t at);
ssize_t __wrap_pread(int fd, void *to, size_t bytes, off_t at);
ssize_t __wrap_pread(int fd, void *to, size_t bytes, off_t at)
{
    if (fails_now()) {
        errno = EIO;
        return -1;
    }
    return __real_pread(fd, to, bytes, at);
}

ssize_t __real_pwrite(int fd, const void *from, size_t bytes, off_t at);
ssize_t __wrap_pwrite(int fd, const void *from, size_t bytes, off_t at);
ssize_t __wrap_pwrite(int fd, const void *from, size_t bytes, off_t at)
{
    if (fails_now() || bytes_until_full < (long)bytes) {
        errno = bytes_until_full < (long)bytes ? ENOSPC : EIO;
        return -1;
    }
    bytes_until_full -= (long)bytes;
    return __real_pwrite(fd, from, bytes, at);
}

/* ---- models and engines ---- */

static int write_model(void **unused)
{
    tiny_model model = TINY_MODEL;
    sl_error err = {0};
    (void)unused;
    model.layers = 4;
    model.context = CONTEXT;
    model.types[0] = SL_TYPE_Q8_0;
    model_path = tiny_path("spill.gguf");
    folder = tiny_path("spill.d");
    device_model_path = tiny_path("spill-device.gguf");
    if (mkdir(folder, 0700) != 0 || tiny_write(&model, model_path, &err) != SL_OK)
        return -1;
    model.layers = DEVICE_LAYERS;
    model.heads = 2;
    model.kv_heads = 1;
    model.ff = 32;
    return tiny_write(&model, device_model_path, &err) == SL_OK ? 0 : -1;
}

static int forget_model(void **unused)
{
    (void)unused;
    unlink(model_path);
    unlink(device_model_path);
    int status = rmdir(folder); /* nothing was left in it */
    free(model_path);
    free(device_model_path);
    free(folder);
    return status;
}

static sl_engine_options options_of(sl_kv_type type)
{
    return (sl_engine_options){.model_path = model_path,
                               .ram_budget_bytes = 1024 * MIB,
                               .context = CONTEXT,
                               .batch = BATCH,
                               .threads = 2,
                               .k_type = type,
                               .v_type = type,
                               .io_engine = "pread",
                               .draft_max = SL_TREE_ROWS - 1};
}

static sl_engine_options spilling(sl_kv_type type, uint64_t memory_bytes)
{
    sl_engine_options options = options_of(type);
    options.kv_spill = folder;
    options.kv_memory_bytes = memory_bytes;
    return options;
}

/* The least that a cache of such a shape needs in memory, as the refusal of less says. */
static uint64_t least_memory_of(const char *path, sli_kv_shape shape)
{
    sl_model *model;
    sl_gguf *file;
    sl_error err;
    assert_int_equal(sl_gguf_open(path, &file, &err), SL_OK);
    assert_int_equal(sl_model_open(file, &model, &err), SL_OK);
    assert_true(sli_kv_fit(model, &shape, 0));
    uint64_t bytes = sli_kv_price(model, &shape);
    sl_model_close(model);
    sl_gguf_close(file);
    return bytes;
}

static uint64_t least_memory(sl_kv_type type)
{
    static const uint32_t types[] = {[SL_KV_F16] = SL_TYPE_F16, [SL_KV_F32] = SL_TYPE_F32, [SL_KV_Q8_0] = SL_TYPE_Q8_0};
    return least_memory_of(model_path, (sli_kv_shape){.context = CONTEXT, .k_type = types[type], .v_type = types[type], .alignment = 4096});
}

/* ---- a script that both caches go through ---- */

static uint32_t next_random(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

static void same_logits(const float *a, const float *b, uint32_t rows, uint32_t step)
{
    if (memcmp(a, b, (size_t)rows * VOCAB * sizeof *a) != 0)
        fail_msg("step %u: logits differ", step);
}

/* A call that fails is made again: nothing of what was there may be lost. Returns how often it failed. */
static uint32_t persist(const stage *s, const sl_token_id *tokens, const int32_t *parents, size_t count, unsigned flags,
                        const float **logits)
{
    sl_error err = {0};
    uint32_t position = sl_session_position(s->session);
    for (uint32_t failures = 0;; failures++) {
        sl_status status = parents != NULL ? sl_session_eval_tree(s->session, tokens, parents, count,
                                                                  flags | SL_EVAL_LOGITS | SL_EVAL_ALL_LOGITS, logits, &err)
                                           : sl_session_eval(s->session, tokens, count, flags | SL_EVAL_LOGITS, logits, &err);
        if (status == SL_OK)
            return failures;
        assert_int_equal(status, SL_IO);
        assert_int_equal(sl_session_position(s->session), position);
        calls_until_failure = -1;
    }
}

typedef struct script {
    stage whole, spilled;
    uint32_t seed, failures, context, longest; /* rows that are appended at once */
    bool faulty, sparse;
} script;

/* Few rows attend to some pages, in one text as in the other. */
static unsigned flags_of(const script *c, uint32_t rows)
{
    return c->sparse && rows < 20 ? SL_EVAL_SPARQ : 0;
}

static void arm(script *c)
{
    calls_until_failure = c->faulty ? (long)(next_random(&c->seed) % 40) : -1;
}

static void append(script *c, uint32_t step)
{
    sl_token_id tokens[CONTEXT];
    const float *expected, *got;
    uint32_t room = c->context - sl_session_position(c->whole.session);
    uint32_t most = next_random(&c->seed) % 3 == 0 ? c->longest : 20, count = 1 + next_random(&c->seed) % most;
    count = count < room ? count : room;
    if (count == 0)
        return;
    for (uint32_t i = 0; i < count; i++)
        tokens[i] = (sl_token_id)(next_random(&c->seed) % 384);
    persist(&c->whole, tokens, NULL, count, flags_of(c, count), &expected);
    arm(c);
    c->failures += persist(&c->spilled, tokens, NULL, count, flags_of(c, count), &got);
    calls_until_failure = -1;
    same_logits(expected, got, 1, step);
}

static void go_back(script *c)
{
    sl_error err;
    uint32_t position = sl_session_position(c->whole.session);
    uint32_t to = next_random(&c->seed) % 4 == 0 ? next_random(&c->seed) % (position + 1)
                                                 : position - next_random(&c->seed) % (1 + position % 90);
    assert_int_equal(sl_session_truncate(c->whole.session, to, &err), SL_OK);
    assert_int_equal(sl_session_truncate(c->spilled.session, to, &err), SL_OK);
}

/* A path from a random row to the root, in ascending order. */
static uint32_t random_path(const int32_t *parents, uint32_t row, uint32_t *path)
{
    uint32_t count = 0;
    for (int32_t at = (int32_t)row; at >= 0; at = parents[at])
        count++;
    for (int32_t at = (int32_t)row, left = (int32_t)count; at >= 0; at = parents[at])
        path[--left] = (uint32_t)at;
    return count;
}

/* A tree in two calls, of `first` rows and of the others (0: in one). */
static uint32_t plant(const stage *s, const sl_token_id *tokens, const int32_t *parents, uint32_t rows, uint32_t first, unsigned flags,
                      const float **logits)
{
    uint32_t failures = first > 0 ? persist(s, tokens, parents, first, flags, logits) : 0;
    return failures + persist(s, tokens + first, parents + first, rows - first, flags | (first > 0 ? SL_EVAL_GROW : 0), logits);
}

static void branch(script *c, uint32_t step)
{
    int32_t parents[SL_TREE_ROWS];
    sl_token_id tokens[SL_TREE_ROWS];
    uint32_t path[SL_TREE_ROWS], room = c->context - sl_session_position(c->whole.session), rows = 1 + next_random(&c->seed) % SL_TREE_ROWS;
    const float *expected, *got;
    sl_error err;
    if (rows > room)
        return;
    for (uint32_t i = 0; i < rows; i++) {
        parents[i] = i == 0 ? -1 : (int32_t)(i - 1 - next_random(&c->seed) % (i < 4 ? i : 4));
        tokens[i] = (sl_token_id)(next_random(&c->seed) % 384);
    }
    uint32_t first = next_random(&c->seed) % 2 == 0 ? next_random(&c->seed) % rows : 0;
    plant(&c->whole, tokens, parents, rows, first, flags_of(c, rows), &expected);
    arm(c);
    c->failures += plant(&c->spilled, tokens, parents, rows, first, flags_of(c, rows), &got);
    calls_until_failure = -1;
    same_logits(expected, got, rows - first, step);
    if (next_random(&c->seed) % 4 == 0)
        return; /* none of it is kept */
    uint32_t count = random_path(parents, next_random(&c->seed) % rows, path);
    assert_int_equal(sl_session_keep_path(c->whole.session, path, count, &err), SL_OK);
    arm(c);
    while (sl_session_keep_path(c->spilled.session, path, count, &err) != SL_OK) {
        calls_until_failure = -1; /* the tree is gone: again */
        plant(&c->spilled, tokens, parents, rows, first, flags_of(c, rows), &got);
        c->failures++;
    }
    calls_until_failure = -1;
}

#if defined(__SANITIZE_ADDRESS__)
#define STEPS(n) ((n) / 4) /* kernels take many times as long */
#else
#define STEPS(n) (n)
#endif

static void play_with(sl_engine_options whole, sl_engine_options spilled, bool faulty, uint32_t pages, uint32_t steps)
{
    if (pages > 0) {
        whole.sparq_k = spilled.sparq_k = pages * SL_KV_PAGE;
        whole.sparq_r = spilled.sparq_r = 12;
        whole.sparq_local = spilled.sparq_local = 20;
        whole.sparq_select = spilled.sparq_select = SL_SPARQ_PAGES;
    }
    script c = {.sparse = pages > 0,
                .whole = open_stage(&whole),
                .spilled = open_stage(&spilled),
                .seed = 5 + (uint32_t)spilled.kv_memory_bytes,
                .context = whole.context,
                .longest = spilled.device != NULL ? 250 : whole.context,
                .faulty = faulty};
    for (uint32_t step = 0; step < STEPS(steps); step++) {
        uint32_t what = next_random(&c.seed) % 8;
        if (what < 4)
            append(&c, step);
        else if (what < 7)
            branch(&c, step);
        else
            go_back(&c);
        if (sl_session_position(c.whole.session) == whole.context)
            go_back(&c);
    }
    sl_engine_stats stats;
    sl_engine_measure(c.spilled.engine, &stats);
    assert_true(stats.kv_bytes_read > 0 && stats.kv_bytes_written > 0);
    assert_true(stats.kv_kept_bytes > 0 || bytes_until_full > PLENTY / 2);
    assert_true(!faulty || c.failures > 0);
    if (!faulty) {
        sl_engine_stats expected;
        sl_engine_measure(c.whole.engine, &expected);
        assert_int_equal(stats.sparq_bytes_moved, expected.sparq_bytes_moved);
        assert_int_equal(stats.sparq_dense_bytes, expected.sparq_dense_bytes);
        assert_true(pages == 0 || stats.sparq_bytes_moved < stats.sparq_dense_bytes);
    }
    close_stage(&c.whole);
    close_stage(&c.spilled);
}

static void play(sl_kv_type type, uint64_t memory_bytes, bool faulty, uint32_t pages, uint32_t steps)
{
    play_with(options_of(type), spilling(type, memory_bytes), faulty, pages, steps);
}

/* Whoever asks says so and skips. */
static bool takes_minutes(void)
{
#if defined(__SANITIZE_ADDRESS__)
    printf("an emulated device takes minutes under a sanitizer; test_device_kv has short texts\n");
    return true;
#else
    return false;
#endif
}

/* On a device that leaves so many layers to a cache with so many parts in eight of the least memory. */
static void play_on_device(const char *device, uint32_t host_layers, uint64_t eighths, bool faulty, uint32_t pages, uint32_t steps)
{
    sli_kv_shape shape = {
        .context = DEVICE_CONTEXT, .k_type = SL_TYPE_F16, .v_type = SL_TYPE_F16, .alignment = 4096, .host_layers = host_layers};
    sl_engine_options whole = options_of(SL_KV_F16), options = spilling(SL_KV_F16, least_memory_of(device_model_path, shape) * eighths / 8);
    whole.model_path = options.model_path = device_model_path;
    whole.context = options.context = DEVICE_CONTEXT;
    options.device = device;
    options.vram_budget_bytes = 32 * MIB;
    options.kv_host = SL_KV_HOST_LAYERS;
    options.kv_host_layers = host_layers;
    play_with(whole, options, faulty, pages, steps);
}

static void texts_that_grow_branch_and_go_back_give_the_same_bits_from_the_least_memory(void **unused)
{
    (void)unused;
    play(SL_KV_F16, least_memory(SL_KV_F16), false, 0, 250);
    play(SL_KV_Q8_0, least_memory(SL_KV_Q8_0), false, 0, 120);
}

static void and_with_some_pages_that_stay(void **unused)
{
    (void)unused;
    for (uint64_t part = 9; part <= 13; part += 2)
        play(SL_KV_F32, least_memory(SL_KV_F32) * part / 8, false, 0, 80);
}

static void a_device_gives_the_same_bits_whatever_layers_it_leaves_to_such_a_cache(void **unused)
{
    (void)unused;
    if (takes_minutes())
        skip();
    play_on_device("emulated:memory=64M,lazy=1,seed=1", 5, 8, false, 0, 14);
    play_on_device("emulated:memory=64M,lazy=1,seed=2", 4, 9, false, 0, 14);
    play_on_device("emulated:memory=64M,lazy=1", 3, 8, false, 0, 14);
}

static void on_a_device_rows_choose_and_read_the_same_pages(void **unused)
{
    (void)unused;
    if (takes_minutes())
        skip();
    play_on_device("emulated:memory=64M,lazy=1,seed=1", 5, 9, false, 3, 14);
    play_on_device("emulated:memory=64M,lazy=1,seed=2", 5, 9, true, 2, 14);
}

static void on_a_device_too_a_read_or_write_that_fails_loses_nothing(void **unused)
{
    (void)unused;
    if (takes_minutes())
        skip();
    play_on_device("emulated:memory=64M,lazy=1,seed=3", 5, 9, true, 0, 14);
}

static void a_read_or_write_that_fails_ends_the_call_and_loses_nothing(void **unused)
{
    (void)unused;
    play(SL_KV_F16, least_memory(SL_KV_F16), true, 0, 250);
    play(SL_KV_F16, least_memory(SL_KV_F16) * 10 / 8, true, 0, 120);
}

static void what_a_full_disk_does_not_take_stays_in_memory_and_gives_the_same_bits(void **unused)
{
    (void)unused;
    bytes_until_full = 200 << 10;
    play(SL_KV_F16, least_memory(SL_KV_F16), false, 0, 120);
    bytes_until_full = 100 << 10;
    play(SL_KV_F16, least_memory(SL_KV_F16) + INDEX, true, 3, 120);
    bytes_until_full = PLENTY;
}

static void where_the_disk_is_full_and_the_budget_too_that_is_said_and_what_was_there_remains(void **unused)
{
    enum { CELL = 4096, CELLS = 8 };
    uint8_t *memory = aligned_alloc(CELL, CELL * CELLS), *back = aligned_alloc(CELL, CELL * CELLS);
    sl_spill_options options = {.bytes = CELL * CELLS,
                                .ranges = 1,
                                .engine = SL_IO_PREAD,
                                .buffered = true,
                                .memory = back,
                                .memory_bytes = CELL * CELLS,
                                .cell_bytes = CELL,
                                .kept_bytes_max = CELLS * sizeof(void *) + 2 * CELL};
    sl_spill *spill;
    sl_error err = {0};
    (void)unused;
    assert_true(memory != NULL && back != NULL);
    for (int i = 0; i < CELL * CELLS; i++)
        memory[i] = (uint8_t)(i / CELL + i);
    check(sl_spill_open(folder, &options, &spill, &err), &err);
    bytes_until_full = 3 * CELL;
    check(sl_spill_write(spill, 0, 2 * CELL, memory, &err), &err);
    check(sl_spill_write(spill, 3 * CELL, 2 * CELL, memory + 3 * CELL, &err), &err); /* one of them to the file */
    check(sl_spill_write(spill, 2 * CELL, CELL, memory + 2 * CELL, &err), &err);
    assert_int_equal(sl_spill_write(spill, 5 * CELL, CELL, memory, &err), SL_IO);
    assert_non_null(strstr(err.message, "No space left on device, and the RAM budget has no room for more"));
    check(sl_spill_write(spill, 2 * CELL, CELL, memory + 2 * CELL, &err), &err); /* once more: it has its place */
    check(sl_spill_read(spill, 0, 0, 5 * CELL, back, &err), &err);
    check(sl_spill_wait(spill, 0, &err), &err);
    assert_memory_equal(back, memory, 5 * CELL);
    assert_int_equal(sl_spill_measure(spill).kept_bytes, options.kept_bytes_max);
    bytes_until_full = PLENTY;
    sl_spill_close(spill);
    free(memory);
    free(back);
}

static void rows_that_attend_to_some_pages_choose_and_read_the_same_ones(void **unused)
{
    (void)unused;
    play(SL_KV_F16, least_memory(SL_KV_F16) + INDEX, false, 3, 250);
    play(SL_KV_Q8_0, least_memory(SL_KV_Q8_0) + INDEX, false, 4, 150);
    play(SL_KV_F16, least_memory(SL_KV_F16) + INDEX, true, 3, 150);
}

static void all_pages_are_dense_attention(void **unused)
{
    (void)unused;
    sl_engine_options options = options_of(SL_KV_F16);
    sl_token_id tokens[CONTEXT];
    const float *logits;
    float *dense = malloc(VOCAB * sizeof *dense);
    sl_error err;
    assert_non_null(dense);
    options.sparq_r = 16;
    options.sparq_select = SL_SPARQ_PAGES;
    for (uint32_t i = 0; i < CONTEXT; i++)
        tokens[i] = (sl_token_id)(i * 31 % 384);
    for (uint32_t k = 64; k <= CONTEXT; k += 448) { /* 64, 512, 960 */
        options.sparq_k = k;
        stage s = open_stage(&options);
        check(sl_session_eval(s.session, tokens, 800, SL_EVAL_LOGITS, &logits, &err), &err);
        check(sl_session_truncate(s.session, 799, &err), &err);
        memcpy(dense, logits, VOCAB * sizeof *dense);
        check(sl_session_eval(s.session, tokens + 799, 1, SL_EVAL_LOGITS | SL_EVAL_SPARQ, &logits, &err), &err);
        assert_int_equal(memcmp(dense, logits, VOCAB * sizeof *dense) == 0, k >= 800);
        close_stage(&s);
    }
    free(dense);
}

/* ---- shapes ---- */

static void what_is_priced_is_never_more_than_was_given(void **unused)
{
    (void)unused;
    sl_model *model;
    sl_gguf *file;
    sl_error err;
    assert_int_equal(sl_gguf_open(model_path, &file, &err), SL_OK);
    assert_int_equal(sl_model_open(file, &model, &err), SL_OK);
    sli_kv_shape wish = {.context = CONTEXT, .k_type = SL_TYPE_F16, .v_type = SL_TYPE_Q8_0, .alignment = 4096}, whole = wish, last = wish;
    uint64_t all = sli_kv_price(model, &whole);
    for (uint64_t memory = 1; memory < all + all / 8; memory += all / 64) {
        sli_kv_shape shape = wish;
        if (!sli_kv_fit(model, &shape, memory))
            continue;
        assert_true(sli_kv_price(model, &shape) <= memory);
        assert_true(shape.resident_pages * shape.group_heads >= last.resident_pages || shape.group_heads != last.group_heads ||
                    !shape.spill);
        assert_int_equal(shape.spill, memory < all);
        last = shape;
    }
    assert_false(last.spill);
    sl_model_close(model);
    sl_gguf_close(file);
}

/* ---- mistakes ---- */

static void refused(sl_engine_options options, const char *words)
{
    sl_engine *engine;
    sl_error err = {0};
    assert_int_not_equal(sl_engine_open(&options, &engine, &err), SL_OK);
    if (strstr(err.message, words) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", err.message, words);
}

static void a_folder_that_cannot_be_used_and_a_memory_that_is_too_small_are_named(void **unused)
{
    (void)unused;
    sl_engine_options options = spilling(SL_KV_F16, 0);
    options.kv_spill = "/nonexistent/folder";
    refused(options, "--kv-spill /nonexistent/folder: no file can be made in this folder: No such file");
    options.kv_spill = model_path;
    refused(options, "Not a directory");
    refused(spilling(SL_KV_F16, 1000), "keys and values of 960 positions need at least");
    options = spilling(SL_KV_F16, 0);
    options.kv_spill = NULL;
    options.kv_memory_bytes = 1 << 20;
    refused(options, "--kv-memory has no meaning without --kv-spill");
    options = spilling(SL_KV_F16, 0);
    options.sparq_k = 16;
    options.sparq_r = 8;
    options.sparq_select = SL_SPARQ_KEYS;
    refused(options, "--kv-spill with --sparq-k wants --sparq-select pages");
    options.kv_spill = NULL;
    options.sparq_select = SL_SPARQ_PAGES;
    options.sparq_reallocate = SL_SPARQ_REALLOCATE_ON;
    refused(options, "--sparq-reallocate on goes with single keys");
}

static void the_file_has_no_name(void **unused)
{
    (void)unused;
    sl_engine_options options = spilling(SL_KV_F16, least_memory(SL_KV_F16));
    stage s = open_stage(&options);
    DIR *entries = opendir(folder);
    assert_non_null(entries);
    for (struct dirent *e = readdir(entries); e != NULL; e = readdir(entries))
        assert_true(e->d_name[0] == '.' && strlen(e->d_name) <= 2);
    closedir(entries);
    close_stage(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_that_grow_branch_and_go_back_give_the_same_bits_from_the_least_memory),
        cmocka_unit_test(and_with_some_pages_that_stay),
        cmocka_unit_test(a_read_or_write_that_fails_ends_the_call_and_loses_nothing),
        cmocka_unit_test(a_device_gives_the_same_bits_whatever_layers_it_leaves_to_such_a_cache),
        cmocka_unit_test(on_a_device_rows_choose_and_read_the_same_pages),
        cmocka_unit_test(on_a_device_too_a_read_or_write_that_fails_loses_nothing),
        cmocka_unit_test(what_a_full_disk_does_not_take_stays_in_memory_and_gives_the_same_bits),
        cmocka_unit_test(where_the_disk_is_full_and_the_budget_too_that_is_said_and_what_was_there_remains),
        cmocka_unit_test(rows_that_attend_to_some_pages_choose_and_read_the_same_ones),
        cmocka_unit_test(all_pages_are_dense_attention),
        cmocka_unit_test(what_is_priced_is_never_more_than_was_given),
        cmocka_unit_test(a_folder_that_cannot_be_used_and_a_memory_that_is_too_small_are_named),
        cmocka_unit_test(the_file_has_no_name),
    };
    return cmocka_run_group_tests(tests, write_model, forget_model);
}
