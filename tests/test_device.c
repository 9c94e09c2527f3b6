/* tests/test_device.c: how a device is found, and that it keeps the contract of core/device.h (V1..V5). */
#include "core/device_private.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/device_material.h"

#define KIB ((size_t)1024)
#define MIB (KIB * 1024)

/* ---- finding one ---- */

static void a_name_is_a_backend_a_number_and_options(void **state)
{
    (void)state;
    static const struct {
        const char *wanted, *name, *options;
        uint32_t index;
    } good[] = {
        {"auto", "auto", "", 0},
        {"none", "none", "", 0},
        {"cuda", "cuda", "", 0},
        {"cuda:3", "cuda", "", 3},
        {"emulated", "emulated", "", 0},
        {"emulated:lazy=1,seed=7", "emulated", "lazy=1,seed=7", 0},
        {"emulated:0,lazy=1", "emulated", "lazy=1", 0},
        {"/opt/libsluice-cuda.so:1", "/opt/libsluice-cuda.so", "", 1},
        {"./a:b/c.so", "./a:b/c.so", "", 0},
    };
    static const char *const bad[] = {"", "gpu", "CUDA", "auto:1", "none:0", "cuda:1x", "cuda:99999", "cuda0", "vulkan:0"};
    sli_device_wanted w;
    sl_error err = {0};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(sli_device_parse(good[i].wanted, &w, &err), SL_OK);
        assert_string_equal(w.name, good[i].name);
        assert_string_equal(w.options, good[i].options);
        assert_int_equal(w.index, good[i].index);
        assert_int_equal(w.by_path, strchr(good[i].wanted, '/') != NULL);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(sli_device_parse(bad[i], &w, &err), SL_INVALID);
        assert_non_null(strstr(err.message, bad[i]));
    }
    char long_name[2000];
    memset(long_name, '/', sizeof long_name - 1);
    long_name[sizeof long_name - 1] = '\0';
    assert_int_equal(sli_device_parse(long_name, &w, &err), SL_INVALID);
}

static void a_plug_in_of_another_version_is_refused(void **state)
{
    (void)state;
    sl_device_plugin plugin = {.version = SL_DEVICE_VERSION, .backend = "x"};
    sl_error err = {0};
    assert_int_equal(sli_device_check(&plugin, "x.so", &err), SL_OK);
    plugin.version++;
    assert_int_equal(sli_device_check(&plugin, "x.so", &err), SL_UNSUPPORTED);
    assert_non_null(strstr(err.message, "x.so: is for version"));
    assert_int_equal(sli_device_check(NULL, "x.so", &err), SL_UNSUPPORTED);
}

static void assert_no_device(const char *wanted, const char *reason)
{
    char why[256];
    sl_error err = {0};
    sl_device *device = NULL;
    sl_status status = sl_device_open(wanted, &device, why, sizeof why, &err);
    sl_device_close(device);
    assert_int_not_equal(status, SL_OK);
    assert_null(device);
    if (strstr(err.message, reason) == NULL)
        fail_msg("'%s' does not say '%s'", err.message, reason);
}

static void a_file_that_is_no_plug_in_is_named(void **state)
{
    (void)state;
    assert_no_device("/proc/self/exe", "/proc/self/exe");
    assert_no_device("/nowhere/libsluice-cuda.so:1", "/nowhere/libsluice-cuda.so");
    assert_no_device("/etc/passwd", "/etc/passwd");
}

static void none_is_none_and_auto_says_why_there_is_none(void **state)
{
    (void)state;
    char why[256] = "";
    sl_error err = {0};
    sl_device *device = NULL;
    assert_int_equal(sl_device_open("none", &device, why, sizeof why, &err), SL_OK);
    assert_null(device);
    assert_string_not_equal(why, "");
    assert_int_equal(sl_device_open("auto", &device, why, sizeof why, &err), SL_OK);
    assert_true((device == NULL) == (why[0] != '\0'));
    sl_device_close(device);
    sl_device_close(NULL);
}

static void a_device_that_is_not_there_is_an_error(void **state)
{
    (void)state;
    char wanted[64];
    snprintf(wanted, sizeof wanted, "%.*s:77", (int)strcspn(device_wanted(), ":"), device_wanted());
    assert_no_device(wanted, "there is no device");
}

static void what_the_emulated_device_does_not_know_is_refused(void **state)
{
    (void)state;
    if (device_must_be_emulated("options"))
        skip();
    static const char *const bad[] = {"speed=3", "memory",           "memory=x", "lazy=2",  "seed=-1",
                                      "link=0",  "memory=99999999T", "memory=0", "graphs=", "seed=1seed=2"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char wanted[64];
        snprintf(wanted, sizeof wanted, "emulated:%s", bad[i]);
        assert_no_device(wanted, "emulated");
    }
}

/* ---- the contract ---- */

static uint8_t *pinned(sl_device *d, size_t bytes)
{
    void *p = NULL;
    device_ok(d->ops->host_alloc(d, bytes, &p, E));
    return p;
}

static sl_device_ptr allocated(sl_device *d, uint64_t bytes)
{
    sl_device_ptr p = 0;
    device_ok(d->ops->alloc(d, bytes, &p, E));
    assert_int_equal(p % 256, 0);
    return p;
}

static sl_event *created(sl_device *d)
{
    sl_event *e = NULL;
    device_ok(d->ops->event_create(d, &e, E));
    return e;
}

static void count_up(uint8_t *p, size_t bytes, unsigned from)
{
    for (size_t i = 0; i < bytes; i++)
        p[i] = (uint8_t)(from + i * 7 + i / 251);
}

static void memory_comes_back_as_it_was_sent(void **state)
{
    (void)state;
    sl_device *d = device_with("memory=8M");
    const size_t bytes = 300 * KIB + 13;
    uint8_t *there = pinned(d, bytes), *back = pinned(d, bytes);
    sl_device_ptr p = allocated(d, bytes), q = allocated(d, bytes);
    count_up(there, bytes, 1);
    device_ok(d->ops->copy_in(d, SL_STREAM_COMPUTE, p, there, bytes, E));
    device_ok(d->ops->copy_within(d, SL_STREAM_COMPUTE, q, p, bytes, E));
    device_ok(d->ops->zero(d, SL_STREAM_COMPUTE, q + 100, 50, E));
    device_ok(d->ops->copy_out(d, SL_STREAM_COMPUTE, back, q, bytes, E));
    device_ok(d->ops->synchronize(d, SL_STREAM_COMPUTE, E));
    memset(there + 100, 0, 50);
    assert_memory_equal(there, back, bytes);

    /* Rows, of both sides' own strides. */
    device_ok(d->ops->zero(d, SL_STREAM_COPY, p, bytes, E));
    device_ok(d->ops->copy_in_rows(d, SL_STREAM_COPY, p + 3, 1000, there + 5, 777, 600, 40, E));
    device_ok(d->ops->copy_out(d, SL_STREAM_COPY, back, p, bytes, E));
    device_ok(d->ops->synchronize(d, SL_STREAM_COPY, E));
    for (size_t r = 0; r < 40; r++) {
        assert_memory_equal(back + 3 + r * 1000, there + 5 + r * 777, 600);
        assert_int_equal(back[3 + r * 1000 + 600], 0);
    }
    d->ops->free(d, p);
    d->ops->free(d, q);
    d->ops->free(d, 0);
    d->ops->host_free(d, there);
    d->ops->host_free(d, back);
    sl_device_close(d);
}

/* Twice over the copy stream and once over the other, with no host in between: what comes out depends on events alone. */
static uint8_t ordered_by_events(const char *options, bool wait_for_copy, bool wait_for_reader)
{
    sl_device *d = device_with(options);
    const size_t bytes = 64 * KIB;
    uint8_t *first = pinned(d, bytes), *second = pinned(d, bytes), *out = pinned(d, bytes);
    sl_device_ptr p = allocated(d, bytes), q = allocated(d, bytes);
    sl_event *copied = created(d), *used = created(d);
    memset(first, 1, bytes);
    memset(second, 2, bytes);
    device_ok(d->ops->zero(d, SL_STREAM_COPY, p, bytes, E));
    device_ok(d->ops->synchronize(d, SL_STREAM_COPY, E));
    device_ok(d->ops->copy_in(d, SL_STREAM_COPY, p, first, bytes, E));
    device_ok(d->ops->event_record(d, copied, SL_STREAM_COPY, E));
    if (wait_for_copy)
        device_ok(d->ops->stream_wait(d, SL_STREAM_COMPUTE, copied, E));
    device_ok(d->ops->copy_within(d, SL_STREAM_COMPUTE, q, p, bytes, E));
    device_ok(d->ops->event_record(d, used, SL_STREAM_COMPUTE, E));
    if (wait_for_reader)
        device_ok(d->ops->stream_wait(d, SL_STREAM_COPY, used, E));
    device_ok(d->ops->copy_in(d, SL_STREAM_COPY, p, second, bytes, E));
    device_ok(d->ops->copy_out(d, SL_STREAM_COMPUTE, out, q, bytes, E));
    device_ok(d->ops->synchronize(d, SL_STREAM_COMPUTE, E));
    device_ok(d->ops->synchronize(d, SL_STREAM_COPY, E));
    uint8_t seen = out[bytes / 2];
    d->ops->event_destroy(d, copied);
    d->ops->event_destroy(d, used);
    d->ops->event_destroy(d, NULL);
    d->ops->host_free(d, first);
    d->ops->host_free(d, second);
    d->ops->host_free(d, out);
    d->ops->free(d, p);
    d->ops->free(d, q);
    sl_device_close(d);
    return seen;
}

static void events_order_the_streams(void **state)
{
    (void)state;
    assert_int_equal(ordered_by_events("", true, true), 1);
    for (int seed = 0; seed < 40; seed++) {
        char options[64];
        snprintf(options, sizeof options, "memory=1M,lazy=1,seed=%d", seed);
        assert_int_equal(ordered_by_events(options, true, true), 1);
    }
}

static void a_lazy_device_shows_that_an_event_is_missing(void **state)
{
    (void)state;
    if (device_must_be_emulated("laziness"))
        skip();
    bool early = false, late = false;
    for (int seed = 0; seed < 40; seed++) {
        char options[64];
        snprintf(options, sizeof options, "memory=1M,lazy=1,seed=%d", seed);
        early |= ordered_by_events(options, false, false) == 0;
        late |= ordered_by_events(options, true, false) == 2;
    }
    assert_true(early); /* read before it was written */
    assert_true(late);  /* overwritten before it was read */
}

static void the_later_record_counts_and_none_is_no_wait(void **state)
{
    (void)state;
    sl_device *d = device_with("memory=1M,lazy=1");
    uint8_t *out = pinned(d, KIB);
    sl_device_ptr p = allocated(d, KIB);
    sl_event *e = created(d);
    bool done = false;
    device_ok(d->ops->stream_wait(d, SL_STREAM_COMPUTE, e, E));
    device_ok(d->ops->event_wait(d, e, E));
    device_ok(d->ops->event_done(d, e, &done, E));
    assert_true(done);
    device_ok(d->ops->event_record(d, e, SL_STREAM_COMPUTE, E));
    device_ok(d->ops->zero(d, SL_STREAM_COPY, p, KIB, E));
    device_ok(d->ops->copy_out(d, SL_STREAM_COPY, out, p, KIB, E));
    device_ok(d->ops->event_record(d, e, SL_STREAM_COPY, E));
    for (int polls = 0; polls < 100000000 && (polls == 0 || !done); polls++)
        device_ok(d->ops->event_done(d, e, &done, E));
    assert_true(done);
    for (size_t i = 0; i < KIB; i++)
        assert_int_equal(out[i], 0);
    d->ops->event_destroy(d, e);
    d->ops->free(d, p);
    d->ops->host_free(d, out);
    sl_device_close(d);
}

static void running_out_of_memory_leaves_the_device_usable(void **state)
{
    (void)state;
    sl_device *d = device_with("memory=1M,pinned=1M");
    sl_error err = {0};
    sl_device_ptr p = 0, whole = 0;
    assert_int_equal(d->ops->alloc(d, d->attrs.total_bytes + 1, &p, &err), SL_NO_DEVICE_MEMORY);
    assert_int_equal(p, 0);
    assert_string_not_equal(err.message, "");
    assert_int_equal(d->ops->alloc(d, 0, &p, &err), SL_NO_DEVICE_MEMORY);
    if (device_is_emulated()) {
        void *q = NULL;
        uint64_t left = 1;
        assert_int_equal(d->ops->host_alloc(d, MIB + 1, &q, &err), SL_NO_MEMORY);
        whole = allocated(d, MIB);
        device_ok(d->ops->free_bytes(d, &left, E));
        assert_int_equal(left, 0);
        assert_int_equal(d->ops->alloc(d, 1, &p, &err), SL_NO_DEVICE_MEMORY);
        d->ops->free(d, whole);
    }
    p = allocated(d, 512 * KIB);
    device_ok(d->ops->zero(d, SL_STREAM_COMPUTE, p, 512 * KIB, E));
    device_ok(d->ops->synchronize(d, SL_STREAM_COMPUTE, E));
    d->ops->free(d, p);
    sl_device_close(d);
}

static void memory_that_is_there_can_be_page_locked(void **state)
{
    (void)state;
    sl_device *d = device_with("memory=1M,lazy=1");
    uint8_t *own = aligned_alloc(4096, 64 * KIB), *back = pinned(d, 64 * KIB);
    sl_device_ptr p = allocated(d, 64 * KIB);
    sl_error err = {0};
    assert_non_null(own);
    assert_int_not_equal(d->ops->host_register(d, own + 1, KIB, &err), SL_OK);
    device_ok(d->ops->host_register(d, own, 64 * KIB, E));
    count_up(own, 64 * KIB, 9);
    device_ok(d->ops->copy_in(d, SL_STREAM_COMPUTE, p, own, 64 * KIB, E));
    device_ok(d->ops->copy_out(d, SL_STREAM_COMPUTE, back, p, 64 * KIB, E));
    device_ok(d->ops->synchronize(d, SL_STREAM_COMPUTE, E));
    assert_memory_equal(own, back, 64 * KIB);

    /* And read in place, where the device can. */
    sl_device_ptr in_place = d->ops->host_address(d, own);
    if (in_place != 0) {
        count_up(own, 64 * KIB, 77);
        device_ok(d->ops->copy_within(d, SL_STREAM_COMPUTE, p, in_place, 64 * KIB, E));
        device_ok(d->ops->copy_out(d, SL_STREAM_COMPUTE, back, p, 64 * KIB, E));
        device_ok(d->ops->synchronize(d, SL_STREAM_COMPUTE, E));
        assert_memory_equal(own, back, 64 * KIB);
    }
    d->ops->host_unregister(d, own);
    free(own);
    d->ops->host_free(d, back);
    d->ops->free(d, p);
    sl_device_close(d);
}

static void host_memory_in_use_may_not_be_touched(void **state)
{
    (void)state;
    if (device_must_be_emulated("noticing it"))
        skip();
    sl_device *d = device_with("memory=1M,lazy=1");
    uint8_t *p = pinned(d, KIB), unlocked[16] = {0};
    sl_device_ptr at = allocated(d, KIB);
    sl_error err = {0};
    assert_int_equal(d->ops->copy_in(d, SL_STREAM_COPY, at, unlocked, sizeof unlocked, &err), SL_INVALID);
    assert_non_null(strstr(err.message, "V2"));
    assert_int_equal(d->ops->copy_in(d, SL_STREAM_COPY, at + 1, p, KIB, &err), SL_INVALID); /* one byte too far */

    memset(p, 5, KIB);
    device_ok(d->ops->zero(d, SL_STREAM_COPY, at, KIB, E));
    device_ok(d->ops->copy_out(d, SL_STREAM_COPY, p, at, KIB, E));
    assert_int_equal(p[0], 0xee); /* read too early: neither what was there nor what comes */
    device_ok(d->ops->synchronize(d, SL_STREAM_COPY, E));
    assert_int_equal(p[0], 0);

    device_ok(d->ops->copy_in(d, SL_STREAM_COPY, at, p, KIB, E));
    p[500] ^= 1;
    assert_int_equal(d->ops->synchronize(d, SL_STREAM_COPY, &err), SL_DEVICE_LOST);
    assert_non_null(strstr(err.message, "V2"));
    sl_device_close(d);
}

static void a_device_that_is_lost_stays_lost(void **state)
{
    (void)state;
    if (device_must_be_emulated("losing it at will"))
        skip();
    sl_device *d = device_with("memory=1M,broken=2,lazy=1");
    sl_device_ptr p = allocated(d, KIB);
    sl_error err = {0};
    bool done = false;
    sl_event *e = created(d);
    for (int i = 0; i < 3; i++)
        device_ok(d->ops->zero(d, SL_STREAM_COMPUTE, p, KIB, E)); /* the second fails, later */
    device_ok(d->ops->event_record(d, e, SL_STREAM_COMPUTE, E));
    assert_int_equal(d->ops->event_wait(d, e, &err), SL_DEVICE_LOST);
    assert_non_null(strstr(err.message, "illegal address"));
    assert_int_equal(d->ops->event_done(d, e, &done, &err), SL_DEVICE_LOST);
    assert_int_equal(d->ops->zero(d, SL_STREAM_COPY, p, KIB, &err), SL_DEVICE_LOST);
    assert_int_equal(d->ops->alloc(d, KIB, &p, &err), SL_DEVICE_LOST);
    d->ops->event_destroy(d, e);
    sl_device_close(d);

    d = device_with("memory=1M,lost=2");
    p = allocated(d, KIB);
    assert_int_equal(d->ops->zero(d, SL_STREAM_COMPUTE, p, KIB, &err), SL_DEVICE_LOST);
    assert_int_equal(d->ops->synchronize(d, SL_STREAM_COMPUTE, &err), SL_DEVICE_LOST);
    d->ops->free(d, p);
    sl_device_close(d);
}

static void a_graph_is_run_when_it_is_launched_and_as_often(void **state)
{
    (void)state;
    sl_device *d = device_with("memory=1M,lazy=1");
    if (!d->attrs.graphs) {
        sl_device_close(d);
        printf("this device captures no graphs\n");
        skip();
    }
    uint8_t *in = pinned(d, KIB), *out = pinned(d, KIB);
    sl_device_ptr p = allocated(d, 2 * KIB), other = 0;
    sl_error err = {0};
    sl_graph *g = NULL, *none = NULL;
    sl_event *e = created(d);
    device_ok(d->ops->zero(d, SL_STREAM_COMPUTE, p, 2 * KIB, E));
    device_ok(d->ops->graph_begin(d, E));
    device_ok(d->ops->copy_in(d, SL_STREAM_COMPUTE, p, in, KIB, E));
    device_ok(d->ops->copy_within(d, SL_STREAM_COMPUTE, p + KIB, p, KIB, E));
    assert_int_equal(d->ops->alloc(d, KIB, &other, &err), SL_INVALID); /* V5 */
    assert_int_equal(d->ops->synchronize(d, SL_STREAM_COMPUTE, &err), SL_INVALID);
    assert_int_equal(d->ops->event_record(d, e, SL_STREAM_COMPUTE, &err), SL_INVALID);
    assert_int_equal(d->ops->stream_wait(d, SL_STREAM_COMPUTE, e, &err), SL_INVALID);
    device_ok(d->ops->event_record(d, e, SL_STREAM_COPY, E)); /* the copy stream goes on */
    device_ok(d->ops->graph_end(d, &g, E));
    device_ok(d->ops->copy_out(d, SL_STREAM_COMPUTE, out, p + KIB, KIB, E));
    device_ok(d->ops->synchronize(d, SL_STREAM_COMPUTE, E));
    assert_int_equal(out[0], 0); /* not run yet */
    for (int run = 1; run <= 3; run++) {
        memset(in, run, KIB);
        device_ok(d->ops->graph_launch(d, g, E));
        device_ok(d->ops->copy_out(d, SL_STREAM_COMPUTE, out, p + KIB, KIB, E));
        device_ok(d->ops->synchronize(d, SL_STREAM_COMPUTE, E));
        assert_int_equal(out[KIB - 1], run);
    }
    assert_int_equal(d->ops->graph_end(d, &none, &err), SL_INVALID);
    d->ops->event_destroy(d, e);
    d->ops->graph_destroy(d, g);
    d->ops->graph_destroy(d, NULL);
    d->ops->free(d, p);
    d->ops->host_free(d, in);
    d->ops->host_free(d, out);
    sl_device_close(d);
}

/* ---- simulated time ---- */

static double seconds_of(sl_device *d, sl_event *from, sl_event *to)
{
    double seconds = 0;
    device_ok(d->ops->event_elapsed(d, from, to, &seconds, E));
    return seconds;
}

static void copies_take_what_the_link_says_and_overlap_arithmetic(void **state)
{
    (void)state;
    if (device_must_be_emulated("simulated time"))
        skip();
    sl_device *d = device_with("memory=4M,link=1G,memory_bandwidth=1G,latency_ns=1000000,launch_ns=0");
    uint8_t *p = pinned(d, MIB);
    sl_device_ptr q = allocated(d, MIB), r = allocated(d, MIB);
    sl_event *begin = created(d), *copied = created(d), *computed = created(d);
    sl_error err = {0};
    double seconds = 0;
    assert_int_equal(d->ops->event_elapsed(d, begin, copied, &seconds, &err), SL_INVALID); /* not recorded */
    device_ok(d->ops->event_record(d, begin, SL_STREAM_COPY, E));
    device_ok(d->ops->copy_in(d, SL_STREAM_COPY, q, p, MIB, E));
    device_ok(d->ops->event_record(d, copied, SL_STREAM_COPY, E));
    device_ok(d->ops->zero(d, SL_STREAM_COMPUTE, r, MIB, E));
    device_ok(d->ops->event_record(d, computed, SL_STREAM_COMPUTE, E));
    const double one = 1.0 / 1024; /* a MiB at a GiB per second */
    assert_true(seconds_of(d, begin, copied) > one + 0.00099 && seconds_of(d, begin, copied) < one + 0.00101);
    assert_true(seconds_of(d, begin, computed) > one * 0.99 && seconds_of(d, begin, computed) < one * 1.01);
    device_ok(d->ops->stream_wait(d, SL_STREAM_COMPUTE, copied, E));
    device_ok(d->ops->zero(d, SL_STREAM_COMPUTE, q, MIB, E));
    device_ok(d->ops->event_record(d, computed, SL_STREAM_COMPUTE, E));
    assert_true(seconds_of(d, copied, computed) > one * 0.99 && seconds_of(d, copied, computed) < one * 1.01);
    d->ops->event_destroy(d, begin);
    d->ops->event_destroy(d, copied);
    d->ops->event_destroy(d, computed);
    d->ops->host_free(d, p);
    d->ops->free(d, q);
    d->ops->free(d, r);
    sl_device_close(d);
}

static void a_device_may_keep_time_and_do_nothing_else(void **state)
{
    (void)state;
    if (device_must_be_emulated("an option of the emulated device"))
        skip();
    sl_device *d = device_with("memory=4M,timing_only=1,link=1G,latency_ns=0");
    uint8_t *p = pinned(d, MIB);
    sl_device_ptr q = allocated(d, MIB);
    sl_event *begin = created(d), *end = created(d);
    memset(p, 7, MIB);
    assert_true(d->attrs.timing_only);
    device_ok(d->ops->event_record(d, begin, SL_STREAM_COPY, E));
    device_ok(d->ops->copy_in(d, SL_STREAM_COPY, q, p, MIB, E));
    device_ok(d->ops->event_record(d, end, SL_STREAM_COPY, E));
    assert_true(seconds_of(d, begin, end) > 0.99 / 1024 && seconds_of(d, begin, end) < 1.01 / 1024);
    memset(p, 9, MIB);
    device_ok(d->ops->copy_out(d, SL_STREAM_COPY, p, q, MIB, E));
    device_ok(d->ops->synchronize(d, SL_STREAM_COPY, E));
    assert_int_equal(p[MIB - 1], 9);
    d->ops->event_destroy(d, begin);
    d->ops->event_destroy(d, end);
    d->ops->free(d, q);
    d->ops->host_free(d, p);
    sl_device_close(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_name_is_a_backend_a_number_and_options),
        cmocka_unit_test(a_plug_in_of_another_version_is_refused),
        cmocka_unit_test(a_file_that_is_no_plug_in_is_named),
        cmocka_unit_test(none_is_none_and_auto_says_why_there_is_none),
        cmocka_unit_test(a_device_that_is_not_there_is_an_error),
        cmocka_unit_test(what_the_emulated_device_does_not_know_is_refused),
        cmocka_unit_test(memory_comes_back_as_it_was_sent),
        cmocka_unit_test(events_order_the_streams),
        cmocka_unit_test(a_lazy_device_shows_that_an_event_is_missing),
        cmocka_unit_test(the_later_record_counts_and_none_is_no_wait),
        cmocka_unit_test(running_out_of_memory_leaves_the_device_usable),
        cmocka_unit_test(memory_that_is_there_can_be_page_locked),
        cmocka_unit_test(host_memory_in_use_may_not_be_touched),
        cmocka_unit_test(a_device_that_is_lost_stays_lost),
        cmocka_unit_test(a_graph_is_run_when_it_is_launched_and_as_often),
        cmocka_unit_test(copies_take_what_the_link_says_and_overlap_arithmetic),
        cmocka_unit_test(a_device_may_keep_time_and_do_nothing_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
