/* tests/test_device_session.c: a conversation's file where a device computes: it is the processor's, byte for byte, and goes on with the same bits on either, wherever keys
 * and values lie. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/device_material.h" /* these need cmocka's names */
#include "tests/spilled_runs.h"

#define TEXT  150 /* positions: pages, and a part of one */
#define AFTER 3

static sl_token_id text[TEXT];
static char *kept;

static tiny_model model_with(bool window)
{
    return (tiny_model){.arch = window ? "gemma3" : NULL,
                        .layers = 3,
                        .d = 64,
                        .ff = 96,
                        .heads = 4,
                        .kv_heads = 2,
                        .head_dim = 32,
                        .vocab = 387,
                        .context = 512,
                        .tied = true,
                        .window = window ? 8 : 0,
                        .window_period = window ? 2 : 0,
                        .seed = 9};
}

/* in_host: layers; negative: the processor computes. */
static sl_engine_options options_of(const char *path, sl_kv_type type, int in_host, const char *how)
{
    static char device[256];
    sl_engine_options options = base_options(path);
    options.context = 512;
    options.batch = 32;
    options.session_file = true;
    options.k_type = options.v_type = type;
    if (in_host < 0)
        return options;
    bool plain = !device_is_emulated();
    snprintf(device, sizeof device, "%s%s%s", device_wanted(), plain ? "" : ":memory=64M,", plain ? "" : how);
    options.device = device;
    options.vram_budget_bytes = 32 * MIB;
    options.kv_host = SL_KV_HOST_LAYERS;
    options.kv_host_layers = (uint32_t)in_host;
    return options;
}

static void must(sl_status status, const sl_error *err)
{
    if (status != SL_OK)
        fail_msg("%s", err->message);
}

static sl_session_file *open_kept(sl_engine *engine)
{
    sl_session_file *file;
    sl_error err = {0};
    must(sl_session_file_open(engine, kept, &file, &err), &err);
    return file;
}

/* Evaluates text[0, count), of which it loads what is kept, and keeps it; returns how much it loaded. */
static uint32_t go_on(const sl_engine_options *options, uint32_t count)
{
    sl_engine *engine = open_engine(options);
    sl_session *session = open_session(engine);
    sl_session_file *file = open_kept(engine);
    sl_session_saved saved;
    sl_error err = {0};
    uint32_t loaded;
    must(sl_session_file_load(file, session, text, count, &loaded, &err), &err);
    if (loaded < count) /* no logits: what was given to the device may not be done when it is saved */
        must(sl_session_eval(session, text + loaded, count - loaded, 0, NULL, &err), &err);
    must(sl_session_file_save(file, session, "note", 4, &saved, &err), &err);
    assert_int_equal(saved.tokens, count);
    sl_session_file_close(file);
    sl_session_close(session);
    sl_engine_close(engine);
    return loaded;
}

/* Logits of AFTER tokens behind the text, [AFTER][vocab], of which it loads all but the last few. */
static float *logits_after(const sl_engine_options *options, size_t *count)
{
    sl_engine *engine = open_engine(options);
    sl_session *session = open_session(engine);
    sl_session_file *file = open_kept(engine);
    sl_error err = {0};
    uint32_t loaded, vocab = vocabulary(engine);
    float *all = malloc(AFTER * (size_t)vocab * sizeof *all);
    assert_non_null(all);
    must(sl_session_file_load(file, session, text, TEXT, &loaded, &err), &err);
    assert_int_equal(loaded, TEXT);
    for (uint32_t i = 0; i < AFTER; i++)
        memcpy(all + i * (size_t)vocab, eval(session, text + i, 1), vocab * sizeof *all);
    sl_session_file_close(file);
    sl_session_close(session);
    sl_engine_close(engine);
    *count = AFTER * (size_t)vocab;
    return all;
}

static char *read_kept(size_t *bytes)
{
    FILE *file = fopen(kept, "rb");
    assert_non_null(file);
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    *bytes = (size_t)ftell(file);
    rewind(file);
    char *all = malloc(*bytes);
    assert_non_null(all);
    assert_int_equal(fread(all, 1, *bytes, file), *bytes);
    fclose(file);
    return all;
}

static int set_up(void **state)
{
    (void)state;
    kept = tiny_path("device.session");
    for (uint32_t i = 0; i < TEXT; i++)
        text[i] = (sl_token_id)((i * 37 + i / 7) % 384);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    unlink(kept);
    free(kept);
    return 0;
}

static void a_device_writes_the_processors_file(void **state)
{
    static const sl_kv_type types[] = {SL_KV_F16, SL_KV_Q8_0, SL_KV_Q4_0};
    static const char *const ways[] = {"lazy=1", "lazy=1,seed=1", "lazy=1,seed=2", "lazy=1,seed=3"};
    tiny_model model = model_with(false);
    char *path = write_tiny("device.gguf", &model);
    (void)state;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        size_t bytes, found;
        sl_engine_options processor = options_of(path, types[i], -1, "");
        unlink(kept);
        go_on(&processor, TEXT);
        char *expected = read_kept(&bytes);
        for (int in_host = 0; in_host <= 3; in_host += i == 0 ? 1 : 3) {
            sl_engine_options device = options_of(path, types[i], in_host, ways[in_host]);
            unlink(kept);
            go_on(&device, TEXT);
            char *written = read_kept(&found);
            assert_int_equal(found, bytes);
            assert_memory_equal(written, expected, bytes);
            free(written);
        }
        free(expected);
    }
    forget(path);
}

static void a_text_goes_on_on_either_with_the_same_bits(void **state)
{
    (void)state;
    for (int window = 0; window < 2; window++) {
        size_t count, found;
        tiny_model model = model_with(window);
        char *path = write_tiny("device.gguf", &model);
        sl_engine_options processor = options_of(path, SL_KV_F16, -1, ""), device = options_of(path, SL_KV_F16, 2, "lazy=1,seed=1");
        unlink(kept);
        go_on(&processor, TEXT);
        float *expected = logits_after(&processor, &count);
        for (int first_on_device = 0; first_on_device < 2;
             first_on_device++) { /* two thirds on one, the rest on the other, in three files */
            unlink(kept);
            assert_int_equal(go_on(first_on_device ? &device : &processor, 50), 0);
            assert_int_equal(go_on(first_on_device ? &processor : &device, 100), 50);
            assert_int_equal(go_on(first_on_device ? &device : &processor, TEXT), 100);
            for (int on_device = 0; on_device < 2; on_device++) {
                float *logits = logits_after(on_device ? &device : &processor, &found);
                assert_int_equal(found, count);
                assert_memory_equal(logits, expected, count * sizeof *logits);
                free(logits);
            }
        }
        free(expected);
        forget(path);
    }
}

/* Of keys and values that spill, those of all layers or of some. */
static void what_lies_in_a_file_of_its_own_is_kept_and_goes_on_likewise(void **state)
{
    (void)state;
    for (int window = 0; window < 2; window++) {
        size_t count, found, bytes, written_bytes;
        tiny_model model = model_with(window);
        model.layers = 4;
        model.context = 1024;
        char *path = write_tiny("device.gguf", &model), *folder = folder_of(path);
        sl_engine_options processor = options_of(path, SL_KV_F16, -1, ""), device = options_of(path, SL_KV_F16, 0, "lazy=1,seed=1");
        device = with_file(device, 4 - (uint32_t)window, folder);
        unlink(kept);
        go_on(&processor, TEXT);
        char *expected_file = read_kept(&bytes);
        float *expected = logits_after(&processor, &count);
        float *logits = logits_after(&device, &found); /* the processor's text goes on on the device */
        assert_int_equal(found, count);
        assert_memory_equal(logits, expected, count * sizeof *logits);
        free(logits);
        unlink(kept);
        assert_int_equal(go_on(&device, 100), 0);
        assert_int_equal(go_on(&device, TEXT), 100);
        char *written = read_kept(&written_bytes);
        assert_int_equal(written_bytes, bytes);
        assert_memory_equal(written, expected_file, bytes);
        free(written);
        free(expected_file);
        free(expected);
        free(folder);
        forget(path);
    }
}

/* Logits of rows that attend to whole pages behind a long text, [AFTER][vocab], which is loaded where it was kept, else kept. */
static float *choose_pages_after(const sl_engine_options *options, size_t *count)
{
    enum { LONG = 330 };
    sl_token_id tokens[LONG];
    sl_engine *engine = open_engine(options);
    sl_session *session = open_session(engine);
    sl_session_file *file = open_kept(engine);
    sl_session_saved saved;
    sl_error err = {0};
    uint32_t loaded, vocab = vocabulary(engine);
    float *all = malloc(AFTER * (size_t)vocab * sizeof *all);
    assert_non_null(all);
    for (uint32_t i = 0; i < LONG; i++)
        tokens[i] = (sl_token_id)((i * i * 7 + i * 53) % 384);
    must(sl_session_file_load(file, session, tokens, LONG, &loaded, &err), &err);
    if (loaded == 0) {
        must(sl_session_eval(session, tokens, LONG, 0, NULL, &err), &err);
        must(sl_session_file_save(file, session, NULL, 0, &saved, &err), &err);
    } else
        assert_int_equal(loaded, LONG);
    for (uint32_t i = 0; i < AFTER; i++) {
        const float *logits;
        must(sl_session_eval(session, text + i, 1, SL_EVAL_LOGITS | SL_EVAL_SPARQ, &logits, &err), &err);
        memcpy(all + i * (size_t)vocab, logits, vocab * sizeof *all);
    }
    sl_session_file_close(file);
    sl_session_close(session);
    sl_engine_close(engine);
    *count = AFTER * (size_t)vocab;
    return all;
}

static void whole_pages_of_a_kept_text_are_chosen_as_by_the_processor(void **state)
{
    size_t count, found;
    tiny_model model = model_with(false);
    (void)state;
    model.layers = 4;
    model.context = 1024;
    char *path = write_tiny("device.gguf", &model), *folder = folder_of(path);
    sl_engine_options processor = options_of(path, SL_KV_F16, -1, ""), device = options_of(path, SL_KV_F16, 2, "lazy=1,seed=1");
    processor.sparq_select = device.sparq_select = SL_SPARQ_PAGES;
    processor.sparq_k = device.sparq_k = 192;
    processor.sparq_r = device.sparq_r = 8;
    processor.context = device.context = 1024;
    unlink(kept);
    float *expected = choose_pages_after(&processor, &count);
    for (int spills = 0; spills < 2; spills++) {
        sl_engine_options options = spills ? with_file(device, 4, folder) : device;
        float *logits = choose_pages_after(&options, &found);
        assert_int_equal(found, count);
        assert_memory_equal(logits, expected, count * sizeof *logits);
        free(logits);
    }
    free(expected);
    free(folder);
    forget(path);
}

/* A file of a text that has its windows behind it: what was before them is nowhere, and a device says so like the processor. */
static void going_back_behind_what_a_file_has_is_refused(void **state)
{
    tiny_model model = model_with(true);
    char *path = write_tiny("device.gguf", &model);
    sl_engine_options processor = options_of(path, SL_KV_F16, -1, ""), device = options_of(path, SL_KV_F16, 1, "lazy=1");
    sl_error err = {0};
    uint32_t loaded;
    (void)state;
    processor.batch = 1; /* so that it keeps of such layers little more than they see */
    unlink(kept);
    go_on(&processor, TEXT);
    sl_engine *engine = open_engine(&device);
    sl_session *session = open_session(engine);
    sl_session_file *file = open_kept(engine);
    must(sl_session_file_load(file, session, text, TEXT, &loaded, &err), &err);
    uint32_t back = sl_session_reach(session, 10);
    assert_int_equal(sl_session_truncate(session, 10, &err), back == 10 ? SL_OK : SL_INVALID);
    assert_int_equal(sl_session_truncate(session, 0, &err), SL_OK);
    sl_session_file_close(file);
    sl_session_close(session);
    sl_engine_close(engine);
    forget(path);
}

/* Each call of the device in turn: the file is as it was, or whole. */
static void a_device_that_fails_leaves_the_file_as_it_was(void **state)
{
    static const char *const how[] = {"fail", "lost"};
    tiny_model model = model_with(false);
    unsigned failed = 0;
    (void)state;
    if (device_must_be_emulated("a call that is made to fail"))
        skip();
    char *path = write_tiny("device.gguf", &model);
    sl_engine_options processor = options_of(path, SL_KV_F16, -1, "");
    for (int kind = 0; kind < 2; kind++)
        for (unsigned n = 20; n < 900; n += n / 3) {
            char options[64];
            sl_engine *engine = NULL;
            sl_session *session = NULL;
            sl_session_file *file = NULL;
            sl_session_saved saved;
            sl_error err = {0};
            uint32_t loaded;
            unlink(kept);
            go_on(&processor, 60);
            snprintf(options, sizeof options, "%s=%u", how[kind], n);
            sl_engine_options device = options_of(path, SL_KV_F16, 1, options);
            sl_status status = sl_engine_open(&device, &engine, &err);
            if (status == SL_OK)
                status = sl_session_open(engine, &session, &err);
            if (status == SL_OK)
                status = sl_session_file_open(engine, kept, &file, &err);
            if (status == SL_OK)
                status = sl_session_file_load(file, session, text, 80, &loaded, &err);
            if (status != SL_OK && session != NULL)
                assert_int_equal(sl_session_position(session), 0);
            if (status == SL_OK)
                status = sl_session_eval(session, text + loaded, 80 - loaded, 0, NULL, &err);
            if (status == SL_OK)
                status = sl_session_file_save(file, session, NULL, 0, &saved, &err);
            sl_session_file_close(file);
            sl_session_close(session);
            sl_engine_close(engine);
            if (status == SL_OK)
                continue;
            failed++;
            assert_true(status == SL_NO_MEMORY || status == SL_NO_DEVICE_MEMORY || status == SL_DEVICE_LOST);
            assert_int_equal(go_on(&processor, 80), 60);
        }
    assert_true(failed > 4);
    forget(path);
}

static void single_keys_on_a_device_have_no_file_yet(void **state)
{
    tiny_model model = model_with(false);
    char *path = write_tiny("device.gguf", &model);
    sl_engine_options options = options_of(path, SL_KV_F16, 0, "");
    sl_session_file *file = NULL;
    sl_error err = {0};
    (void)state;
    options.sparq_k = 64;
    options.sparq_r = 8;
    sl_engine *engine = open_engine(&options);
    assert_int_equal(sl_session_file_open(engine, kept, &file, &err), SL_INVALID);
    assert_non_null(strstr(err.message, "--sparq-k"));
    assert_null(file);
    sl_engine_close(engine);
    forget(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_device_writes_the_processors_file),
        cmocka_unit_test(a_text_goes_on_on_either_with_the_same_bits),
        cmocka_unit_test(what_lies_in_a_file_of_its_own_is_kept_and_goes_on_likewise),
        cmocka_unit_test(whole_pages_of_a_kept_text_are_chosen_as_by_the_processor),
        cmocka_unit_test(going_back_behind_what_a_file_has_is_refused),
        cmocka_unit_test(a_device_that_fails_leaves_the_file_as_it_was),
        cmocka_unit_test(single_keys_on_a_device_have_no_file_yet),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
