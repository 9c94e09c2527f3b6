/* tests/test_device_engine_sparq.c: rows that attend to a part of the cache, with a model computed on a device: the processor's logits and the processor's
 * account, whatever was said, taken back, drafted and kept before. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "offload/device_engine.h"
#include "tests/device_material.h" /* these need cmocka's names */
#include "tests/device_shapes.h"
#include "tests/engine_runs.h"

enum { CONTEXT = 192, LONG = 317, LONG_CONTEXT = 384, LOGITS_MAX = 64 };

/* The window is larger than what some choose, smaller than what others do. */
static const tiny_model shapes[] = {SHAPE_LLAMA(2, 256), SHAPE_GEMMA3(3, 256, 70), SHAPE_QWEN2(2, 256)};

typedef struct wish {
    uint32_t k, r, local;
    sl_sparq_reallocate reallocate;
    sl_kv_type k_type, v_type;
    bool pages; /* whole ones */
} wish;

static sl_engine_options options_of(const char *path, const wish *w)
{
    sl_engine_options options = base_options(path);
    options.context = w->pages && w->k > 64 ? LONG_CONTEXT : CONTEXT;
    options.draft_max = 8;
    options.sparq_k = w->k;
    options.sparq_r = w->r;
    options.sparq_local = w->local;
    options.sparq_reallocate = w->reallocate;
    options.sparq_select = w->pages ? SL_SPARQ_PAGES : SL_SPARQ_KEYS;
    options.k_type = w->k_type;
    options.v_type = w->v_type;
    return options;
}

static sl_engine_options on_device(sl_engine_options options, const char *how)
{
    static char name[256];
    bool plain = !device_is_emulated();
    snprintf(name, sizeof name, "%s%s%s", device_wanted(), plain ? "" : ":memory=64M", plain ? "" : how);
    options.device = name;
    options.vram_budget_bytes = 32 * MIB;
    return options;
}

/* What an engine said, to be compared. */
typedef struct talk {
    sl_engine *engine;
    sl_session *session;
    float *logits; /* [LOGITS_MAX][vocab] */
    uint32_t count, vocab;
} talk;

static talk talk_open(const sl_engine_options *options)
{
    talk t = {.engine = open_engine(options)};
    t.session = open_session(t.engine);
    t.vocab = vocabulary(t.engine);
    t.logits = malloc((size_t)LOGITS_MAX * t.vocab * sizeof *t.logits);
    assert_non_null(t.logits);
    return t;
}

static void talk_close(talk *t)
{
    sl_session_close(t->session);
    sl_engine_close(t->engine);
    free(t->logits);
}

static void keep(talk *t, const float *logits, uint32_t rows)
{
    assert_true(t->count + rows <= LOGITS_MAX);
    memcpy(t->logits + (size_t)t->count * t->vocab, logits, (size_t)rows * t->vocab * sizeof *logits);
    t->count += rows;
}

/* The text up to `end`, so many rows at a time; the last row's logits are kept, none of a pass without. */
static void follow(talk *t, uint32_t end, uint32_t rows, unsigned flags)
{
    const float *logits = NULL;
    sl_error err = {0};
    for (uint32_t at = sl_session_position(t->session); at < end; at += rows) {
        sl_token_id tokens[LONG_CONTEXT];
        rows = rows < end - at ? rows : end - at;
        for (uint32_t i = 0; i < rows; i++)
            tokens[i] = (sl_token_id)(((at + i) * 53 + (at + i) * (at + i) * 7 + 7) % 384);
        bool last = at + rows == end;
        if (sl_session_eval(t->session, tokens, rows, flags | (last ? SL_EVAL_LOGITS : 0u), &logits, &err) != SL_OK)
            fail_msg("%s", err.message);
    }
    keep(t, logits, 1);
}

static void go_back(talk *t, uint32_t position)
{
    sl_error err = {0};
    if (sl_session_truncate(t->session, position, &err) != SL_OK)
        fail_msg("%s", err.message);
}

/* Rows that branch, and a path of them that stays. */
static void branch(talk *t)
{
    static const int32_t parents[] = {-1, 0, 0, 1, 2, 2};
    static const uint32_t kept[] = {0, 2, 5};
    const float *logits;
    sl_error err = {0};
    if (sl_session_eval_tree(t->session, some_tokens(), parents, 6, SL_EVAL_LOGITS | SL_EVAL_ALL_LOGITS | SL_EVAL_SPARQ, &logits, &err) !=
        SL_OK)
        fail_msg("%s", err.message);
    keep(t, logits, 6);
    if (sl_session_keep_path(t->session, kept, 3, &err) != SL_OK)
        fail_msg("%s", err.message);
}

/* All that a conversation may do, over three pages. */
static void converse(talk *t)
{
    follow(t, 1, 1, SL_EVAL_SPARQ);
    follow(t, 20, 19, 0);
    follow(t, 30, 1, SL_EVAL_SPARQ);
    follow(t, 61, 31, SL_EVAL_SPARQ);
    branch(t);
    follow(t, 67, 1, SL_EVAL_SPARQ);
    follow(t, 68, 1, 0);
    go_back(t, 63);
    follow(t, 70, 1, SL_EVAL_SPARQ);
    follow(t, 125, 55, 0);
    branch(t);
    branch(t);
    follow(t, 133, 1, SL_EVAL_SPARQ);
    go_back(t, 130);
    follow(t, 140, 5, SL_EVAL_SPARQ);
    go_back(t, 0);
    follow(t, 66, 66, 0);
    follow(t, 68, 1, SL_EVAL_SPARQ);
}

/* Behind a text of pages enough to choose among. */
static void converse_behind(talk *t, uint32_t position)
{
    follow(t, position, 128, 0);
    go_back(t, position - 70);
    follow(t, position, 35, SL_EVAL_SPARQ);
    branch(t);
    follow(t, position + 12, 5, SL_EVAL_SPARQ);
}

static void check_talks(const talk *want, const talk *got, const char *what)
{
    sl_engine_stats wanted, found;
    assert_int_equal(want->count, got->count);
    for (uint32_t row = 0; row < want->count; row++)
        if (memcmp(want->logits + (size_t)row * want->vocab, got->logits + (size_t)row * want->vocab, want->vocab * sizeof(float)) != 0)
            fail_msg("%s: row %u of logits differs", what, row);
    sl_engine_measure(want->engine, &wanted);
    sl_engine_measure(got->engine, &found);
    assert_true(wanted.sparq_bytes_moved < wanted.sparq_dense_bytes);
    assert_int_equal(wanted.sparq_bytes_moved, found.sparq_bytes_moved);
    assert_int_equal(wanted.sparq_dense_bytes, found.sparq_dense_bytes);
}

/* Of what is complete: rows that branched and went are not in it. */
static void check_indexes(const talk *want, const talk *got)
{
    const sli_kv *kv = &want->session->kv;
    sli_device *d = got->engine->device;
    uint32_t complete = sl_session_position(got->session) / SL_KV_PAGE;
    size_t bytes = complete * kv->index_page_bytes;
    void *there;
    assert_true(complete > 0 && d->indexed_pages == complete);
    device_ok(d->device->ops->host_alloc(d->device, bytes, &there, E));
    for (uint32_t layer = 0, index = 0; layer < want->engine->model->layers; layer++)
        for (uint32_t head = 0; head < kv->kv_heads && sli_kv_index(kv, layer, head) != NULL; head++, index++) {
            sl_device_ptr at = d->memory.key_index + (uint64_t)index * kv->page_count * kv->index_page_bytes;
            device_ok(d->device->ops->copy_out(d->device, SL_STREAM_COMPUTE, there, at, bytes, E));
            device_ok(d->device->ops->synchronize(d->device, SL_STREAM_COMPUTE, E));
            assert_memory_equal(there, sli_kv_index(kv, layer, head), bytes);
        }
    d->device->ops->host_free(d->device, there);
}

/* in_host: layers whose keys and values lie in host memory. */
static void compare(const char *path, const wish *w, uint32_t in_host, const char *how)
{
    sl_engine_options base = options_of(path, w), device = on_device(base, how);
    device.kv_host = SL_KV_HOST_LAYERS;
    device.kv_host_layers = in_host;
    sl_engine_info info;
    talk want = talk_open(&base), got = talk_open(&device);
    sl_engine_describe(got.engine, &info);
    assert_string_not_equal(info.backend, "cpu");
    converse(&want);
    converse(&got);
    if (w->pages && w->k > 64)
        converse_behind(&want, LONG);
    if (w->pages && w->k > 64)
        converse_behind(&got, LONG);
    check_talks(&want, &got, how);
    if (w->pages)
        check_indexes(&want, &got);
    talk_close(&want);
    talk_close(&got);
}

static void a_conversation_with_sparq_is_the_processors(void **state)
{
    static const wish wishes[] = {{24, 8, 6, SL_SPARQ_REALLOCATE_ON, SL_KV_F16, SL_KV_F16, false},
                                  {64, 5, 0, SL_SPARQ_REALLOCATE_AUTO, SL_KV_F32, SL_KV_BF16, false},
                                  {80, 12, 80, SL_SPARQ_REALLOCATE_ON, SL_KV_BF16, SL_KV_F32, false}};
    static const struct {
        uint8_t shape, wish;
        const char *way;
    } talks[] = {{0, 0, ",lazy=1"}, {1, 0, ",lazy=1,seed=1,graphs=0"}, {1, 2, ",seed=2"}, {2, 1, ",lazy=1,seed=3"}};
    (void)state;
    for (size_t i = 0; i < sizeof talks / sizeof *talks; i++) {
        char *path = write_tiny("sparq.gguf", &shapes[talks[i].shape]);
        compare(path, &wishes[talks[i].wish], 0, talks[i].way);
        forget(path);
    }
}

static void pages_are_chosen_as_by_the_processor(void **state)
{
    static const wish wishes[] = {{192, 8, 6, SL_SPARQ_REALLOCATE_AUTO, SL_KV_F16, SL_KV_F16, true},
                                  {192, 12, 40, SL_SPARQ_REALLOCATE_OFF, SL_KV_Q8_0, SL_KV_Q4_0, true},
                                  {64, 5, 0, SL_SPARQ_REALLOCATE_AUTO, SL_KV_F32, SL_KV_BF16, true}};
    static const struct {
        uint8_t shape, wish, in_host;
        const char *way;
    } talks[] = {{0, 0, 0, ",lazy=1"}, {1, 1, 3, ",lazy=1,seed=2"}, {2, 2, 1, ",lazy=1,seed=3,graphs=0"}};
    (void)state;
    for (size_t i = 0; i < sizeof talks / sizeof *talks; i++) {
        tiny_model model = shapes[talks[i].shape];
        model.context = 512;
        char *path = write_tiny("sparq.gguf", &model);
        compare(path, &wishes[talks[i].wish], talks[i].in_host, talks[i].way);
        forget(path);
    }
}

/* Their blocks have scales, and only the device knows how many of those the scores read. */
static void a_quantised_cache_is_counted_too(void **state)
{
    static const wish wishes[] = {{24, 8, 6, SL_SPARQ_REALLOCATE_ON, SL_KV_Q8_0, SL_KV_Q4_0, false},
                                  {40, 20, 6, SL_SPARQ_REALLOCATE_OFF, SL_KV_Q4_0, SL_KV_Q8_0, false}};
    tiny_model wide = {.layers = 2, .d = 64, .ff = 96, .heads = 2, .kv_heads = 1, .head_dim = 64, .vocab = 387, .context = 256, .seed = 4};
    char *path = write_tiny("sparq.gguf", &wide);
    (void)state;
    for (size_t w = 0; w < 2; w++)
        compare(path, &wishes[w], 0, ",lazy=1,seed=3");
    forget(path);
}

/* Rows that choose read what they chose where it lies; for the others, and for prompts, it is brought. */
static void caches_in_host_memory_are_read_in_place(void **state)
{
    static const wish wishes[] = {{24, 8, 6, SL_SPARQ_REALLOCATE_ON, SL_KV_F16, SL_KV_F16, false},
                                  {24, 8, 6, SL_SPARQ_REALLOCATE_ON, SL_KV_Q8_0, SL_KV_Q8_0, false}};
    (void)state;
    for (uint32_t i = 0; i < 2; i++) {
        char *path = write_tiny("sparq.gguf", &shapes[i]);
        compare(path, &wishes[i], shapes[i].layers - i, i == 0 ? ",lazy=1,seed=1" : ",lazy=1,seed=3");
        forget(path);
    }
}

/* A prompt, and rows with SparQ: the first completes a page, the second wants the sum of its values. */
static sl_status talk_shortly(talk *t, sl_error *err)
{
    t->vocab = vocabulary(t->engine);
    t->logits = malloc((size_t)LOGITS_MAX * t->vocab * sizeof *t->logits);
    assert_non_null(t->logits);
    for (int step = 0; step < 4; step++) {
        const float *logits;
        unsigned sparq = step > 0 ? SL_EVAL_SPARQ : 0u;
        SL_TRY(sl_session_eval(t->session, some_tokens(), step == 0 ? 63 : 1, SL_EVAL_LOGITS | sparq, &logits, err));
        keep(t, logits, 1);
    }
    return SL_OK;
}

static talk short_talk(const char *path, const wish *w)
{
    sl_engine_options options = options_of(path, w);
    sl_error err = {0};
    talk t = {.engine = open_engine(&options)};
    t.session = open_session(t.engine);
    assert_int_equal(talk_shortly(&t, &err), SL_OK);
    return t;
}

static const wish quantised = {24, 8, 6, SL_SPARQ_REALLOCATE_ON, SL_KV_Q8_0, SL_KV_Q8_0, false};

static void a_call_that_fails_changes_neither_logits_nor_the_account(void **state)
{
    (void)state;
    if (device_must_be_emulated("a call that is made to fail"))
        return;
    char *path = write_tiny("sparq.gguf", &shapes[0]);
    talk want = short_talk(path, &quantised);
    for (unsigned n = 20; n < 1000; n += n / 3) {
        char how[64];
        sl_error err = {0};
        talk got = {0};
        snprintf(how, sizeof how, ",%s=%u", n % 2 == 0 ? "lost" : "fail", n);
        sl_engine_options options = on_device(options_of(path, &quantised), how);
        sl_status status = sl_engine_open(&options, &got.engine, &err);
        if (status == SL_OK)
            status = sl_session_open(got.engine, &got.session, &err);
        if (status == SL_OK)
            status = talk_shortly(&got, &err);
        if (status == SL_OK)
            check_talks(&want, &got, "a call that failed");
        else
            assert_true(status == SL_NO_DEVICE_MEMORY || status == SL_NO_MEMORY || status == SL_DEVICE_LOST);
        talk_close(&got);
    }
    talk_close(&want);
    forget(path);
}

static struct watch { /* of the kernels that attend to a part of the cache */
    const sl_device_kernels *real;
    unsigned calls, fails; /* the call of this number is made, and then fails */
} watch;

static sl_status failing_sparq(sl_device *device, const sl_device_sparq *job, sl_error *err)
{
    SL_TRY(watch.real->sparq(device, job, err));
    return ++watch.calls == watch.fails ? sl_fail(err, SL_NO_DEVICE_MEMORY, "call %u was to fail", watch.fails) : SL_OK;
}

/* In each of two layers of three rows. */
static void a_pass_that_is_run_again_is_counted_once(void **state)
{
    char *path = write_tiny("sparq.gguf", &shapes[0]);
    talk want = short_talk(path, &quantised);
    (void)state;
    for (unsigned n = 1; n <= 6; n++) {
        sl_engine_options options = on_device(options_of(path, &quantised), ",graphs=0");
        sl_error err = {0};
        talk got = {.engine = open_engine(&options)};
        sl_device_kernels kernels = *got.engine->device->device->kernels;
        watch = (struct watch){.real = got.engine->device->device->kernels, .fails = n};
        kernels.sparq = failing_sparq;
        got.engine->device->device->kernels = &kernels;
        got.session = open_session(got.engine);
        assert_int_equal(talk_shortly(&got, &err), SL_OK);
        if (device_is_emulated()) /* elsewhere the call fails where a graph is captured, and there are none from then on */
            assert_int_equal(watch.calls, 6 + (n % 2 == 0 ? 2 : 1));
        got.engine->device->device->kernels = watch.real;
        check_talks(&want, &got, "a pass that was run again");
        talk_close(&got);
    }
    talk_close(&want);
    forget(path);
}

static void memory_that_sparq_takes_of_the_device_is_priced(void **state)
{
    static const wish without = {0, 0, 0, SL_SPARQ_REALLOCATE_AUTO, SL_KV_F16, SL_KV_F16, false},
                      some = {24, 8, 6, SL_SPARQ_REALLOCATE_OFF, SL_KV_F16, SL_KV_F16, false},
                      means = {24, 8, 6, SL_SPARQ_REALLOCATE_ON, SL_KV_F16, SL_KV_F16, false},
                      pages = {64, 8, 6, SL_SPARQ_REALLOCATE_OFF, SL_KV_F16, SL_KV_F16, true},
                      *const wishes[] = {&without, &some, &means, &pages};
    uint64_t kv[4], index = 2 * 2 * CONTEXT * (32 / 2 + 2), keys = 2 * 2 * CONTEXT * 32 * 2,
                    sums = 2 * 2 * CONTEXT / SL_KV_PAGE * 32 * 4; /* layers, KV heads, .. */
    char *path = write_tiny("sparq.gguf", &shapes[0]);
    (void)state;
    for (int i = 0; i < 4; i++) {
        sl_engine_options options = on_device(options_of(path, wishes[i]), "");
        sl_engine *engine = open_engine(&options);
        sl_engine_info info;
        sl_engine_describe(engine, &info);
        kv[i] = info.vram_kv_bytes;
        assert_true(engine->price.vram.block_bytes >= kv[i] && info.vram_budget_bytes == 32 * MIB);
        sl_engine_close(engine);
    }
    assert_int_equal(kv[1], kv[0] + keys);
    assert_int_equal(kv[2], kv[1] + sums);
    assert_int_equal(kv[3], kv[0] + index);
    forget(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_conversation_with_sparq_is_the_processors),
        cmocka_unit_test(pages_are_chosen_as_by_the_processor),
        cmocka_unit_test(a_quantised_cache_is_counted_too),
        cmocka_unit_test(caches_in_host_memory_are_read_in_place),
        cmocka_unit_test(a_call_that_fails_changes_neither_logits_nor_the_account),
        cmocka_unit_test(a_pass_that_is_run_again_is_counted_once),
        cmocka_unit_test(memory_that_sparq_takes_of_the_device_is_priced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
