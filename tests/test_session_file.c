/* tests/test_session_file.c: conversations on disk: what comes back has the bits of what would be computed, and what is wrong with a file, or with the
 * system, is said and loses nothing. */
/* link: -Wl,--wrap=pread,--wrap=pwrite,--wrap=posix_fallocate,--wrap=fsync,--wrap=rename,--wrap=malloc,--wrap=calloc,--wrap=strdup */
#include "offload/engine.h"
#include "offload/session_reader.h"
#include "tests/tiny_model.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "tests/stage.h"

#define MIB ((uint64_t)1 << 20)

enum { CONTEXT = 640, WINDOW = 80, TOKENS = 420, VOCAB = 387 };

static char *model_path, *window_path, *folder, *path, *partial;
static sl_token_id tokens[TOKENS];

/* ---- calls that fail ---- */

static atomic_long calls_until_failure = -1; /* of those below together, in this thread; negative: none fails */
static atomic_int calls_seen;

static bool fails_now(int error)
{
    calls_seen++;
    if (calls_until_failure < 0 || calls_until_failure-- != 0)
        return false;
    errno = error;
    return true;
}

#define FRONT(result, name, failed, error, parameters, arguments)                                                                          \
    result __real_##name parameters;                                                                                                       \
    result __wrap_##name parameters;                                                                                                       \
    result __wrap_##name parameters                                                                                                        \
    {                                                                                                                                      \
        return fails_now(error) ? (failed) : __real_##name arguments;                                                                      \
    }
FRONT(ssize_t, pread, -1, EIO, (int fd, void *to, size_t bytes, off_t at), (fd, to, bytes, at))
FRONT(ssize_t, pwrite, -1, ENOSPC, (int fd, const void *from, size_t bytes, off_t at), (fd, from, bytes, at))
FRONT(int, posix_fallocate, ENOSPC, ENOSPC, (int fd, off_t at, off_t bytes), (fd, at, bytes))
FRONT(int, fsync, -1, EIO, (int fd), (fd))
FRONT(int, rename, -1, EACCES, (const char *from, const char *to), (from, to))
FRONT(void *, malloc, NULL, ENOMEM, (size_t bytes), (bytes))
FRONT(void *, calloc, NULL, ENOMEM, (size_t count, size_t bytes), (count, bytes))
FRONT(char *, strdup, NULL, ENOMEM, (const char *text), (text))

/* ---- models and engines ---- */

static int set_up(void **unused)
{
    tiny_model model = TINY_MODEL;
    sl_error err = {0};
    (void)unused;
    model.layers = 4;
    model.context = CONTEXT;
    model.types[0] = SL_TYPE_Q8_0;
    model_path = tiny_path("kept.gguf");
    window_path = tiny_path("kept-window.gguf");
    folder = tiny_path("kept.d");
    if (mkdir(folder, 0700) != 0 || tiny_write(&model, model_path, &err) != SL_OK || asprintf(&path, "%s/a session", folder) < 0 ||
        asprintf(&partial, "%s.partial", path) < 0)
        return -1;
    model.arch = "gemma3";
    model.window = WINDOW;
    model.window_period = 2;
    for (uint32_t i = 0; i < TOKENS; i++)
        tokens[i] = (sl_token_id)((i * 37 + i / 7) % 384);
    return tiny_write(&model, window_path, &err) == SL_OK ? 0 : -1;
}

static int tear_down(void **unused)
{
    (void)unused;
    unlink(model_path);
    unlink(window_path);
    unlink(path);
    int status = rmdir(folder); /* nothing was left in it */
    free(model_path);
    free(window_path);
    free(folder);
    free(path);
    free(partial);
    return status;
}

static sl_engine_options options_of(const char *model, sl_kv_type type)
{
    return (sl_engine_options){.model_path = model,
                               .ram_budget_bytes = 1024 * MIB,
                               .context = CONTEXT,
                               .batch = 64,
                               .threads = 2,
                               .k_type = type,
                               .v_type = type,
                               .io_engine = "pread",
                               .session_file = true};
}

/* With as little of the cache in memory as works. */
static sl_engine_options spilling(sl_engine_options options)
{
    sl_engine *engine;
    sl_engine_info info;
    sl_error err = {0};
    options.kv_spill = folder;
    for (options.kv_memory_bytes = 64 << 10; sl_engine_open(&options, &engine, &err) != SL_OK;)
        options.kv_memory_bytes += options.kv_memory_bytes / 4;
    sl_engine_describe(engine, &info);
    assert_in_range(info.kv_resident, 0, 192);
    assert_true(info.kv_file_bytes > 0);
    sl_engine_close(engine);
    return options;
}

static sl_session_file *open_file(const stage *s)
{
    sl_session_file *file;
    sl_error err = {0};
    check(sl_session_file_open(s->engine, path, &file, &err), &err);
    return file;
}

/* A file of the first `count` tokens. */
static void make_file(const sl_engine_options *options, uint32_t count)
{
    sl_session_saved saved;
    sl_error err = {0};
    unlink(path);
    stage s = open_stage(options);
    sl_session_file *file = open_file(&s);
    assert_int_equal(access(partial, F_OK), 0);
    check(sl_session_eval(s.session, tokens, count, 0, NULL, &err), &err);
    check(sl_session_file_save(file, s.session, "said", 4, &saved, &err), &err);
    assert_int_equal(saved.tokens, count);
    sl_session_file_close(file);
    close_stage(&s);
    assert_int_equal(access(partial, F_OK), -1);
}

static void logits_of(const sl_engine_options *options, uint32_t from, uint32_t to, unsigned flags, float *out)
{
    stage s = open_stage(options);
    const float *logits;
    sl_error err = {0};
    if (from > 0)
        check(sl_session_eval(s.session, tokens, from, 0, NULL, &err), &err);
    check(sl_session_eval(s.session, tokens + from, to - from, SL_EVAL_LOGITS | flags, &logits, &err), &err);
    memcpy(out, logits, VOCAB * sizeof *out);
    close_stage(&s);
}

/* A text that begins with `common` of the file's tokens goes on from there with the bits that it has when all of it is computed. */
static void check_continues(const sl_engine_options *options, uint32_t common, uint32_t expected, unsigned flags)
{
    float computed[VOCAB];
    const float *logits;
    sl_error err = {0};
    uint32_t loaded, end = common + 23;
    sl_token_id kept = tokens[common];
    tokens[common] = (kept + 1) % 384; /* the first that differs from the file's */
    logits_of(options, common, end, flags, computed);
    stage s = open_stage(options);
    sl_session_file *file = open_file(&s);
    check(sl_session_file_load(file, s.session, tokens, end, &loaded, &err), &err);
    assert_int_equal(loaded, expected);
    assert_int_equal(sl_session_position(s.session), expected);
    if (loaded < common)
        check(sl_session_eval(s.session, tokens + loaded, common - loaded, 0, NULL, &err), &err);
    check(sl_session_eval(s.session, tokens + common, end - common, SL_EVAL_LOGITS | flags, &logits, &err), &err);
    assert_memory_equal(logits, computed, sizeof computed);
    sl_session_file_close(file);
    close_stage(&s);
    tokens[common] = kept;
}

static const sl_kv_type all_types[] = {SL_KV_F16, SL_KV_F32, SL_KV_BF16, SL_KV_Q8_0, SL_KV_Q4_0};

/* ---- what comes back ---- */

static void a_text_that_begins_as_the_file_does_has_its_bits_without_its_work(void **state)
{
    (void)state;
    for (size_t t = 0; t < sizeof all_types / sizeof *all_types; t++) {
        sl_engine_options options = options_of(model_path, all_types[t]);
        make_file(&options, 300);
        check_continues(&options, 300, 300, 0);
        check_continues(&options, 256, 256, 0);
        check_continues(&options, 1, 1, 0);
        check_continues(&options, 0, 0, 0);
    }
}

static void a_spilled_cache_takes_and_gives_the_same_file(void **state)
{
    (void)state;
    struct stat in_memory, spilled;
    char *kept;
    assert_true(asprintf(&kept, "%s/kept", folder) > 0);
    for (size_t t = 0; t < sizeof all_types / sizeof *all_types; t++) {
        sl_engine_options whole = options_of(model_path, all_types[t]), partly = spilling(whole);
        make_file(&partly, 333);
        check_continues(&whole, 333, 333, 0);
        assert_int_equal(rename(path, kept), 0);
        make_file(&whole, 333);
        check_continues(&partly, 333, 333, 0);
        check_continues(&partly, 200, 200, 0);
        assert_int_equal(stat(path, &in_memory) + stat(kept, &spilled), 0);
        assert_int_equal(in_memory.st_size, spilled.st_size);
        char *command;
        assert_true(asprintf(&command, "cmp -s '%s' '%s'", path, kept) > 0);
        assert_int_equal(system(command), 0);
        free(command);
        unlink(kept);
    }
    free(kept);
}

static void rows_with_sparq_find_what_they_need(void **state)
{
    (void)state;
    for (int what = 0; what < 4; what++) {
        sl_engine_options dense = options_of(model_path, what < 2 ? SL_KV_F16 : SL_KV_Q8_0), sparq = dense;
        sparq.sparq_k = 128;
        sparq.sparq_r = 12;
        sparq.sparq_select = what % 2 == 0 ? SL_SPARQ_KEYS : SL_SPARQ_PAGES;
        sparq.sparq_reallocate = what % 2 == 0 ? SL_SPARQ_REALLOCATE_ON : SL_SPARQ_REALLOCATE_AUTO;
        make_file(&dense, 300);
        check_continues(&sparq, 300, 300, SL_EVAL_SPARQ);
        check_continues(&sparq, 250, 250, SL_EVAL_SPARQ);
        if (what % 2 == 0)
            continue;
        sparq = spilling(sparq);
        check_continues(&sparq, 300, 300, SL_EVAL_SPARQ);
    }
}

static void layers_with_a_window_go_back_as_far_as_they_were_kept(void **state)
{
    (void)state;
    sl_engine_options ring = options_of(window_path, SL_KV_F16), whole = ring;
    whole.batch = CONTEXT; /* the ring would be longer than the context */
    make_file(&ring, 390);
    check_continues(&ring, 390, 390, 0);
    check_continues(&whole, 390, 390, 0);
    check_continues(&ring, 330, 330, 0);
    check_continues(&whole, 330, 330, 0);
    check_continues(&ring, 70, 0, 0);
    check_continues(&whole, 70, 0, 0);
    sl_engine_options summing = ring; /* the mean of the values is made of sums of all pages */
    summing.sparq_k = 64;
    summing.sparq_r = 8;
    summing.sparq_reallocate = SL_SPARQ_REALLOCATE_ON;
    check_continues(&summing, 390, 0, SL_EVAL_SPARQ);
    make_file(&whole, 390);
    check_continues(&summing, 390, 390, SL_EVAL_SPARQ);
    check_continues(&ring, 390, 390, 0);
    check_continues(&ring, 70, 70, 0);
    check_continues(&whole, 200, 200, 0);
}

/* From a file that did not have the first pages, nothing goes back to where they would be seen; and what is saved again says so, too. */
static void what_was_not_in_the_file_is_not_gone_back_to(void **state)
{
    (void)state;
    sl_engine_options ring = options_of(window_path, SL_KV_F16), whole = ring;
    sl_session_saved saved;
    uint32_t loaded;
    sl_error err = {0};
    whole.batch = CONTEXT;
    make_file(&ring, 390);
    stage s = open_stage(&whole);
    sl_session_file *file = open_file(&s);
    check(sl_session_file_load(file, s.session, tokens, 390, &loaded, &err), &err);
    assert_int_equal(sl_session_reach(s.session, 100), 0);
    assert_int_equal(sl_session_reach(s.session, 380), 380);
    assert_int_equal(sl_session_truncate(s.session, 100, &err), SL_INVALID);
    check(sl_session_file_save(file, s.session, NULL, 0, &saved, &err), &err);
    sl_session_file_close(file);
    close_stage(&s);
    check_continues(&whole, 390, 390, 0);
    check_continues(&whole, 70, 0, 0);
}

/* What was approximated, and what came behind it, would not be what computing gives. */
static void rows_that_were_approximated_are_not_kept(void **state)
{
    (void)state;
    sl_engine_options options = options_of(model_path, SL_KV_F16);
    sl_session_saved saved;
    sl_error err = {0};
    options.sparq_k = 64;
    options.sparq_r = 8;
    unlink(path);
    stage s = open_stage(&options);
    sl_session_file *file = open_file(&s);
    check(sl_session_eval(s.session, tokens, 200, 0, NULL, &err), &err);
    check(sl_session_eval(s.session, tokens + 200, 5, SL_EVAL_SPARQ, NULL, &err), &err);
    check(sl_session_eval(s.session, tokens + 205, 20, 0, NULL, &err), &err);
    check(sl_session_file_save(file, s.session, NULL, 0, &saved, &err), &err);
    assert_int_equal(saved.tokens, 200);
    check(sl_session_truncate(s.session, 180, &err), &err); /* what is written over is dense again */
    check(sl_session_eval(s.session, tokens + 180, 60, 0, NULL, &err), &err);
    check(sl_session_file_save(file, s.session, NULL, 0, &saved, &err), &err);
    assert_int_equal(saved.tokens, 240);
    check(sl_session_truncate(s.session, 100, &err), &err);
    check(sl_session_eval(s.session, tokens + 100, 1, SL_EVAL_SPARQ, NULL, &err), &err);
    check(sl_session_file_save(file, s.session, NULL, 0, &saved, &err), &err);
    assert_int_equal(saved.tokens, 100);
    sl_session_file_close(file);
    close_stage(&s);
    options.sparq_k = options.sparq_r = 0;
    check_continues(&options, 100, 100, 0);
}

/* ---- what is wrong with a file ---- */

static void refused(const sl_engine_options *options, sl_status status, const char *says)
{
    stage s = open_stage(options);
    sl_session_file *file;
    sl_error err = {0};
    sl_status got = sl_session_file_open(s.engine, path, &file, &err);
    if (got != status || strstr(err.message, says) == NULL || strstr(err.message, "a session") == NULL || file != NULL)
        fail_msg("%s (%s), not \"%s\"", err.message, sl_status_name(got), says);
    assert_int_equal(access(partial, F_OK), -1);
    close_stage(&s);
}

static void a_file_of_something_else_is_refused(void **state)
{
    (void)state;
    sl_engine_options options = options_of(model_path, SL_KV_F16), other = options_of(window_path, SL_KV_F16);
    make_file(&options, 100);
    refused(&other, SL_INVALID, "of another model than");
    other = options_of(model_path, SL_KV_Q8_0);
    refused(&other, SL_INVALID, "with f16 keys and f16 values, this run has q8_0 and q8_0");
    other = options;
    other.v_type = SL_KV_F32;
    refused(&other, SL_INVALID, "this run has f16 and f32; -ctk and -ctv choose");
    other = options;
    other.sparsity = SL_SPARSITY_COARSE;
    refused(&other, SL_INVALID, "do not go with --sparsity coarse");
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs("Dear diary", f) >= 0 && fclose(f) == 0);
    refused(&options, SL_FORMAT, "it is no session: 10 bytes");
    assert_int_equal(truncate(path, 200), 0);
    refused(&options, SL_FORMAT, "it does not begin with SLUICEKV");
    unlink(path);
    assert_int_equal(mkdir(path, 0700), 0);
    refused(&options, SL_IO, "is a directory");
    rmdir(path);
}

/* A model with the same header, but trained further. */
static void another_file_of_the_same_shape_is_another_model(void **state)
{
    (void)state;
    sl_engine_options options = options_of(model_path, SL_KV_F16);
    make_file(&options, 100);
    FILE *f = fopen(model_path, "r+b");
    assert_non_null(f);
    assert_int_equal(fseek(f, -3000, SEEK_END), 0);
    uint8_t old[1000], changed[1000];
    assert_int_equal(fread(old, 1, sizeof old, f), sizeof old);
    for (size_t i = 0; i < sizeof old; i++)
        changed[i] = old[i] ^ 1;
    assert_true(fseek(f, -3000, SEEK_END) == 0 && fwrite(changed, 1, sizeof changed, f) == sizeof changed && fflush(f) == 0);
    refused(&options, SL_INVALID, "of another model than");
    assert_true(fseek(f, -3000, SEEK_END) == 0 && fwrite(old, 1, sizeof old, f) == sizeof old && fclose(f) == 0);
    check_continues(&options, 100, 100, 0);
}

/* longrope turns keys by other factors in a context that is longer than the original one. */
static void a_context_with_other_rotary_factors_is_another_model(void **state)
{
    (void)state;
    tiny_model model = TINY_MODEL;
    sl_error err = {0};
    char *stretched = tiny_path("kept-stretched.gguf");
    model.arch = "phi3";
    model.context = CONTEXT;
    model.rope_longrope = true;
    model.rope_original = CONTEXT / 2;
    check(tiny_write(&model, stretched, &err), &err);
    sl_engine_options options = options_of(stretched, SL_KV_F16), shorter = options, shortest = options;
    shorter.context = CONTEXT / 2;
    shortest.context = CONTEXT / 4;
    make_file(&options, 100);
    refused(&shorter, SL_INVALID, "the -c that it was made with");
    check_continues(&options, 100, 100, 0);
    make_file(&shorter, 50);
    refused(&options, SL_INVALID, "the -c that it was made with");
    stage s = open_stage(&shortest); /* the same factors */
    sl_session_file_close(open_file(&s));
    close_stage(&s);
    unlink(stretched);
    free(stretched);
}

static void flip(long at)
{
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    assert_int_equal(fseek(f, at, SEEK_SET), 0);
    int byte = fgetc(f);
    assert_int_equal(fseek(f, at, SEEK_SET), 0);
    assert_true(fputc(byte ^ 4, f) != EOF && fclose(f) == 0);
}

/* Whatever is wrong with it: nothing of it is used, the session is empty and usable, and the file is as it was. */
static bool is_taken(const stage *s)
{
    sl_session_file *file;
    sl_error err = {0};
    uint32_t loaded = 0;
    sl_status status = sl_session_file_open(s->engine, path, &file, &err);
    if (status == SL_OK) {
        status = sl_session_file_load(file, s->session, tokens, 130, &loaded, &err);
        sl_session_file_close(file);
    }
    if (status != SL_OK) {
        assert_true(status == SL_FORMAT || status == SL_UNSUPPORTED || status == SL_INVALID);
        assert_non_null(strstr(err.message, "a session"));
        assert_int_equal(loaded + sl_session_position(s->session), 0);
    } else {
        assert_int_equal(loaded, 130);
        assert_int_equal(sl_session_truncate(s->session, 0, &err), SL_OK);
    }
    return status == SL_OK;
}

static void a_bit_that_flips_anywhere_is_found(void **state)
{
    (void)state;
    sl_engine_options options = options_of(model_path, SL_KV_Q8_0);
    struct stat st;
    make_file(&options, 130);
    assert_int_equal(stat(path, &st), 0);
    stage s = open_stage(&options);
    for (long at = 0; at < st.st_size; at += at < 700 ? 1 : 509) {
        flip(at);
        if (is_taken(&s))
            fail_msg("byte %ld of %ld was changed, and nobody saw it", at, (long)st.st_size);
        flip(at);
    }
    assert_true(is_taken(&s));
    close_stage(&s);
}

static void a_file_that_is_cut_off_anywhere_is_found(void **state)
{
    (void)state;
    sl_engine_options options = options_of(model_path, SL_KV_Q8_0);
    struct stat st;
    make_file(&options, 130);
    assert_int_equal(stat(path, &st), 0);
    stage s = open_stage(&options);
    for (long size = st.st_size - 1; size >= 0; size = size > 700 ? size - 1001 : size - 1) {
        assert_int_equal(truncate(path, size), 0);
        assert_false(is_taken(&s));
    }
    close_stage(&s);
}

static void two_do_not_have_one_file(void **state)
{
    (void)state;
    sl_engine_options options = options_of(model_path, SL_KV_F16);
    sl_session_saved saved;
    sl_error err = {0};
    sl_session_file *file, *second;
    make_file(&options, 100);
    stage s = open_stage(&options), other = open_stage(&options);
    file = open_file(&s);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(sl_session_file_open(other.engine, path, &second, &err), SL_IO);
        assert_non_null(strstr(err.message, "another process"));
        check(sl_session_file_save(file, s.session, NULL, 0, &saved, &err), &err); /* and it is still ours afterwards */
    }
    sl_session_file_close(file);
    second = open_file(&other);
    sl_session_file_close(second);
    close_stage(&s);
    close_stage(&other);
}

/* ---- what is wrong with the system ---- */

static uint64_t sum_of_file(void)
{
    uint64_t sum = 1469598103934665603u;
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    for (int c; (c = fgetc(f)) != EOF;)
        sum = (sum ^ (uint64_t)c) * 1099511628211u;
    fclose(f);
    return sum;
}

/* Opens, loads, goes on and saves; each call of the system fails once. Until a save is through the file is as it was, and what is done again works. */
static void any_call_that_fails_is_said_and_loses_nothing(void **state)
{
    (void)state;
    sl_engine_options options = options_of(model_path, SL_KV_Q8_0);
    sl_error err = {0};
    make_file(&options, 130);
    stage s = open_stage(&options);
    check(sl_session_eval(s.session, tokens, 150, 0, NULL, &err), &err); /* weights are in memory: only the file is read */
    uint64_t before = sum_of_file();
    bool reached = true;
    int failures = 0;
    for (long call = 0; reached; call++) {
        sl_session_saved saved;
        sl_session_file *file = NULL;
        uint32_t loaded = 0;
        check(sl_session_truncate(s.session, 0, &err), &err);
        calls_seen = 0;
        calls_until_failure = call;
        sl_status status = sl_session_file_open(s.engine, path, &file, &err);
        if (status == SL_OK)
            status = sl_session_file_load(file, s.session, tokens, 150, &loaded, &err);
        if (status == SL_OK)
            status = sl_session_file_save(file, s.session, "said", 4, &saved, &err);
        calls_until_failure = -1;
        reached = calls_seen > call;
        failures += status != SL_OK;
        if (status != SL_OK && (err.message[0] == '\0' || (status != SL_IO && status != SL_NO_MEMORY)))
            fail_msg("call %ld: %s (%s)", call, err.message, sl_status_name(status));
        assert_int_equal(sum_of_file(), before);
        if (status != SL_OK && file != NULL && loaded > 0) { /* the save can be made again */
            check(sl_session_file_save(file, s.session, "said", 4, &saved, &err), &err);
            assert_int_equal(sum_of_file(), before);
        }
        sl_session_file_close(file);
        assert_int_equal(access(partial, F_OK), -1);
    }
    assert_true(failures > 30);
    close_stage(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_text_that_begins_as_the_file_does_has_its_bits_without_its_work),
        cmocka_unit_test(a_spilled_cache_takes_and_gives_the_same_file),
        cmocka_unit_test(rows_with_sparq_find_what_they_need),
        cmocka_unit_test(layers_with_a_window_go_back_as_far_as_they_were_kept),
        cmocka_unit_test(what_was_not_in_the_file_is_not_gone_back_to),
        cmocka_unit_test(rows_that_were_approximated_are_not_kept),
        cmocka_unit_test(a_file_of_something_else_is_refused),
        cmocka_unit_test(another_file_of_the_same_shape_is_another_model),
        cmocka_unit_test(a_context_with_other_rotary_factors_is_another_model),
        cmocka_unit_test(a_bit_that_flips_anywhere_is_found),
        cmocka_unit_test(a_file_that_is_cut_off_anywhere_is_found),
        cmocka_unit_test(two_do_not_have_one_file),
        cmocka_unit_test(any_call_that_fails_is_said_and_loses_nothing),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
