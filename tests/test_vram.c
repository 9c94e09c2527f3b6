/* tests/test_vram.c: the device's memory as a tier: what streams through it arrives in order, whole, and while the device computes. */
#include "pager/vram.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/device_material.h"

#define KIB 1024u
#define MIB (KIB * 1024)

/* A model that streams: its units one after the other in page-locked memory, passed through the ring in order, several times over. "Computing" on a unit
 * copies it to where all units are kept for the test to look at, and reads and writes `work_bytes` more. */
typedef struct model {
    sl_device *d;
    sl_vram *v;
    uint8_t *source, *seen;
    sl_device_ptr results, work;
    uint32_t units, unit_bytes, work_bytes;
    sl_event *begin, *end;
} model;

static uint8_t byte_of(uint32_t unit, uint32_t i)
{
    return (uint8_t)(unit * 31 + i * 7 + (i >> 8) + 1);
}

static uint32_t bytes_of(const model *m, uint32_t unit)
{
    return m->unit_bytes - unit % 3 * 100; /* no two neighbours are of one size */
}

static sl_status setup(model *m, const sl_vram_config *config, sl_error *err)
{
    const sl_device_ops *ops = m->d->ops;
    uint64_t all = (uint64_t)m->units * m->unit_bytes;
    void *p = NULL;
    SL_TRY(ops->host_alloc(m->d, all, &p, err));
    m->source = p;
    SL_TRY(ops->host_alloc(m->d, all, &p, err));
    m->seen = p;
    for (uint32_t u = 0; u < m->units; u++)
        for (uint32_t i = 0; i < m->unit_bytes; i++)
            m->source[(size_t)u * m->unit_bytes + i] = byte_of(u, i);
    SL_TRY(ops->alloc(m->d, all, &m->results, err));
    if (m->work_bytes > 0)
        SL_TRY(ops->alloc(m->d, m->work_bytes, &m->work, err));
    SL_TRY(ops->event_create(m->d, &m->begin, err));
    SL_TRY(ops->event_create(m->d, &m->end, err));
    return sl_vram_create(m->d, config, &m->v, err);
}

static void teardown(model *m)
{
    const sl_device_ops *ops = m->d->ops;
    sl_vram_destroy(m->v);
    ops->event_destroy(m->d, m->begin);
    ops->event_destroy(m->d, m->end);
    ops->free(m->d, m->results);
    ops->free(m->d, m->work);
    ops->host_free(m->d, m->source);
    ops->host_free(m->d, m->seen);
    sl_device_close(m->d);
}

static sl_status compute(model *m, uint32_t unit, sl_ticket ticket, sl_error *err)
{
    sl_device_ptr at = 0;
    SL_TRY(sl_vram_use(m->v, ticket, &at, err));
    SL_TRY(m->d->ops->copy_within(m->d, SL_STREAM_COMPUTE, m->results + (uint64_t)unit * m->unit_bytes, at, bytes_of(m, unit), err));
    if (m->work != 0)
        SL_TRY(m->d->ops->zero(m->d, SL_STREAM_COMPUTE, m->work, m->work_bytes, err));
    return sl_vram_done(m->v, ticket, err);
}

/* One pass: as far ahead as the ring lets it, then the next unit. */
static sl_status pass(model *m, sl_error *err)
{
    sl_ticket tickets[256];
    uint32_t pushed = 0;
    assert_true(m->units <= 256);
    for (uint32_t used = 0; used < m->units; used++) {
        sl_status status = SL_OK;
        while (pushed < m->units && status == SL_OK) {
            status = sl_vram_push(m->v, m->source + (size_t)pushed * m->unit_bytes, bytes_of(m, pushed), &tickets[pushed], err);
            pushed += status == SL_OK;
        }
        if (status != SL_OK && status != SL_PENDING)
            return status;
        assert_null(sl_vram_broken(m->v));
        assert_true(pushed > used); /* the ring holds at least one more than is being used */
        SL_TRY(compute(m, used, tickets[used], err));
    }
    return SL_OK;
}

static sl_status look(model *m, sl_error *err)
{
    uint64_t all = (uint64_t)m->units * m->unit_bytes;
    SL_TRY(m->d->ops->copy_out(m->d, SL_STREAM_COMPUTE, m->seen, m->results, all, err));
    return m->d->ops->synchronize(m->d, SL_STREAM_COMPUTE, err);
}

static void assert_all_arrived(const model *m)
{
    for (uint32_t u = 0; u < m->units; u++)
        assert_memory_equal(m->seen + (size_t)u * m->unit_bytes, m->source + (size_t)u * m->unit_bytes, bytes_of(m, u));
}

/* Everything, from opening to closing; what the first call that failed returned. */
static sl_status whole_run(const char *options, uint32_t units, uint32_t ring_units, uint32_t tickets, int passes, sl_error *err)
{
    model m = {.d = device_with(options), .units = units, .unit_bytes = 4 * KIB};
    sl_vram_config config = {.ring_bytes = ring_units * m.unit_bytes, .tickets = tickets};
    sl_status status = setup(&m, &config, err);
    for (int i = 0; i < passes && status == SL_OK; i++)
        status = pass(&m, err);
    if (status == SL_OK)
        status = look(&m, err);
    if (status == SL_OK)
        assert_all_arrived(&m);
    teardown(&m);
    return status;
}

static void units_arrive_whole_whatever_the_order_in_which_streams_run(void **state)
{
    (void)state;
    sl_error err = {0};
    for (int seed = 0; seed < 24; seed++) {
        char options[64];
        snprintf(options, sizeof options, "memory=2M,lazy=1,seed=%d", seed);
        for (uint32_t ring = 2; ring <= 7; ring++)
            if (whole_run(options, 23, ring, 0, 3, &err) != SL_OK)
                fail_msg("seed %d, a ring of %u units: %s", seed, ring, err.message);
    }
}

static void few_tickets_are_enough(void **state)
{
    (void)state;
    sl_error err = {0};
    for (int seed = 0; seed < 8; seed++) {
        char options[64];
        snprintf(options, sizeof options, "memory=2M,lazy=1,seed=%d", seed);
        for (uint32_t tickets = 2; tickets <= 4; tickets++)
            if (whole_run(options, 23, 6, tickets, 2, &err) != SL_OK)
                fail_msg("seed %d, %u tickets: %s", seed, tickets, err.message);
    }
}

static void what_does_not_fit_is_refused_before_anything_happens(void **state)
{
    (void)state;
    sl_device *d = device_with("memory=1M");
    sl_error err = {0};
    sl_vram *v = NULL;
    uint64_t before = 0, after = 0;
    device_ok(d->ops->free_bytes(d, &before, E));
    sl_vram_config config = {.resident_bytes = d->attrs.total_bytes, .ring_bytes = 64 * KIB};
    assert_int_equal(sl_vram_create(d, &config, &v, &err), SL_NO_DEVICE_MEMORY);
    assert_null(v);
    assert_int_equal(sl_vram_create(d, &(sl_vram_config){0}, &v, &err), SL_INVALID);
    device_ok(d->ops->free_bytes(d, &after, E));
    assert_int_equal(after, before);

    config.resident_bytes = 1000;
    assert_int_equal(sl_vram_price(&config), 1024 + 64 * KIB);
    assert_int_equal(sl_vram_ring_min(1000), 2048); /* one is copied while another is read */
    device_ok(sl_vram_create(d, &config, &v, E));   /* a smaller one may be tried */
    sl_device_ptr a = 0, b = 0;
    device_ok(sl_vram_place(v, 300, &a, E));
    device_ok(sl_vram_place(v, 512, &b, E));
    assert_int_equal(b - a, 512);
    assert_int_equal(a % SL_VRAM_ALIGNMENT, 0);
    assert_int_equal(sl_vram_place(v, 1, &a, &err), SL_NO_DEVICE_MEMORY);
    sl_ticket ticket;
    void *p = NULL;
    device_ok(d->ops->host_alloc(d, 65 * KIB, &p, E));
    assert_int_equal(sl_vram_push(v, p, 65 * KIB, &ticket, &err), SL_INVALID);
    assert_int_equal(sl_vram_push(v, p, 0, &ticket, &err), SL_INVALID);
    sl_vram_destroy(v);
    sl_vram_destroy(NULL);
    d->ops->host_free(d, p);
    sl_device_close(d);
}

static void a_place_in_use_is_not_had_until_its_reader_was_given(void **state)
{
    (void)state;
    sl_device *d = device_with("memory=1M,lazy=1");
    sl_vram *v = NULL;
    sl_vram_config config = {.ring_bytes = 2 * 4 * KIB};
    void *p = NULL;
    sl_ticket t[4];
    sl_device_ptr at = 0;
    sl_error err = {0};
    device_ok(d->ops->host_alloc(d, 4 * KIB, &p, E));
    memset(p, 1, 4 * KIB);
    device_ok(sl_vram_create(d, &config, &v, E));
    device_ok(sl_vram_push(v, p, 4 * KIB, &t[0], E));
    device_ok(sl_vram_push(v, p, 4 * KIB, &t[1], E));
    assert_int_equal(sl_vram_push(v, p, 4 * KIB, &t[2], &err), SL_PENDING);
    device_ok(sl_vram_use(v, t[1], &at, E));
    device_ok(sl_vram_done(v, t[1], E)); /* the second of two: the first still lies before it */
    assert_int_equal(sl_vram_push(v, p, 4 * KIB, &t[2], &err), SL_PENDING);
    device_ok(sl_vram_done(v, t[0], E)); /* done, and never used */
    device_ok(sl_vram_push(v, p, 4 * KIB, &t[2], E));
    assert_int_equal(sl_vram_statistics(v).pushes, 3);
    assert_int_equal(sl_vram_statistics(v).refused, 2);
    sl_vram_destroy(v);
    d->ops->host_free(d, p);
    sl_device_close(d);
}

static void a_source_may_be_changed_once_it_has_landed(void **state)
{
    (void)state;
    sl_device *d = device_with("memory=1M,lazy=1,seed=0");
    sl_vram *v = NULL;
    sl_vram_config config = {.ring_bytes = 16 * 4 * KIB, .tickets = 3};
    void *p = NULL;
    sl_ticket t[8];
    device_ok(d->ops->host_alloc(d, 4 * KIB, &p, E));
    device_ok(sl_vram_create(d, &config, &v, E));
    for (int i = 0; i < 8; i++) {
        memset(p, i, 4 * KIB);
        device_ok(sl_vram_push(v, p, 4 * KIB, &t[i], E));
        device_ok(sl_vram_done(v, t[i], E));
        bool landed = false;
        for (int polls = 0; polls < 100000000 && !landed && i % 2 == 0; polls++)
            device_ok(sl_vram_landed(v, t[i], &landed, E));
        device_ok(sl_vram_land(v, t[i], E));
        if (i > 0) { /* all before it have, too, also those whose slot went to another */
            device_ok(sl_vram_landed(v, t[0], &landed, E));
            assert_true(landed);
        }
    }
    device_ok(d->ops->synchronize(d, SL_STREAM_COPY, E)); /* V2 was kept, or the device would be lost */
    sl_vram_destroy(v);
    d->ops->host_free(d, p);
    sl_device_close(d);
}

static void a_unit_may_come_in_pieces_and_may_be_given_up(void **state)
{
    (void)state;
    sl_device *d = device_with("memory=1M,lazy=1,seed=1");
    sl_vram *v = NULL;
    sl_vram_config config = {.ring_bytes = 2 * 4 * KIB, .tickets = 4};
    void *p = NULL, *out = NULL;
    sl_ticket first, ticket;
    sl_device_ptr at = 0, again = 0;
    device_ok(d->ops->host_alloc(d, 4 * KIB, &p, E));
    device_ok(d->ops->host_alloc(d, 4 * KIB, &out, E));
    for (uint32_t i = 0; i < 4 * KIB; i++)
        ((uint8_t *)p)[i] = byte_of(0, i);
    device_ok(sl_vram_create(d, &config, &v, E));
    device_ok(sl_vram_push(v, p, 4 * KIB, &first, E));
    device_ok(sl_vram_reserve(v, 4 * KIB, &ticket, &at, E));
    device_ok(d->ops->copy_in(d, SL_STREAM_COPY, at, (uint8_t *)p + 512, 512, E));
    sl_vram_cancel(v, ticket);
    device_ok(sl_vram_land(v, first, E));
    device_ok(sl_vram_reserve(v, 4 * KIB, &ticket, &again, E));
    assert_int_equal(again, at);
    for (uint32_t piece = 0; piece < 4; piece++)
        device_ok(d->ops->copy_in(d, SL_STREAM_COPY, at + piece * KIB, (uint8_t *)p + piece * KIB, KIB, E));
    device_ok(sl_vram_commit(v, ticket, E));
    device_ok(sl_vram_use(v, ticket, &at, E));
    device_ok(d->ops->copy_out(d, SL_STREAM_COMPUTE, out, at, 4 * KIB, E));
    device_ok(sl_vram_done(v, ticket, E));
    device_ok(d->ops->synchronize(d, SL_STREAM_COMPUTE, E));
    assert_memory_equal(p, out, 4 * KIB);
    assert_null(sl_vram_broken(v));
    sl_vram_destroy(v);
    d->ops->host_free(d, p);
    d->ops->host_free(d, out);
    sl_device_close(d);
}

/* ---- failures ---- */

/* Whatever call finds no memory: that is what is said, nothing is written where it should not be, and closing works. */
static void every_call_may_run_out_of_memory(void **state)
{
    (void)state;
    if (device_must_be_emulated("failing at will"))
        skip();
    sl_status status = SL_INTERNAL;
    int call = 1;
    for (; status != SL_OK && call < 2000; call++) {
        char options[64];
        sl_error err = {0};
        snprintf(options, sizeof options, "memory=1M,lazy=1,seed=%d,fail=%d", call, call);
        status = whole_run(options, 7, 3, 4, 2, &err);
        assert_true(status == SL_OK || status == SL_NO_DEVICE_MEMORY || status == SL_NO_MEMORY);
        assert_true(status == SL_OK || strstr(err.message, "was to fail") != NULL);
    }
    assert_true(call > 50 && call < 2000); /* all calls had their turn */
}

static void a_push_that_failed_can_be_made_again(void **state)
{
    (void)state;
    if (device_must_be_emulated("failing at will"))
        skip();
    for (int call = 9; call < 60; call++) {
        char options[64];
        snprintf(options, sizeof options, "memory=1M,lazy=1,seed=%d,fail=%d", call, call);
        model m = {.d = device_with(options), .units = 12, .unit_bytes = 4 * KIB};
        sl_vram_config config = {.ring_bytes = 3 * 4 * KIB, .tickets = 1};
        sl_error err = {0};
        assert_int_equal(setup(&m, &config, &err), SL_OK);
        for (uint32_t u = 0; u < m.units; u++) {
            sl_ticket t;
            sl_device_ptr at = 0;
            const uint8_t *source = m.source + (size_t)u * m.unit_bytes;
            if (sl_vram_push(m.v, source, bytes_of(&m, u), &t, &err) != SL_OK)
                device_ok(sl_vram_push(m.v, source, bytes_of(&m, u), &t, E));
            if (sl_vram_use(m.v, t, &at, &err) != SL_OK)
                device_ok(sl_vram_use(m.v, t, &at, E));
            if (m.d->ops->copy_within(m.d, SL_STREAM_COMPUTE, m.results + (uint64_t)u * m.unit_bytes, at, bytes_of(&m, u), &err) != SL_OK)
                device_ok(m.d->ops->copy_within(m.d, SL_STREAM_COMPUTE, m.results + (uint64_t)u * m.unit_bytes, at, bytes_of(&m, u), E));
            if (sl_vram_done(m.v, t, &err) != SL_OK)
                device_ok(sl_vram_done(m.v, t, E));
            assert_null(sl_vram_broken(m.v));
        }
        if (look(&m, &err) != SL_OK)
            device_ok(look(&m, E));
        assert_all_arrived(&m);
        teardown(&m);
    }
}

static void a_lost_device_ends_the_run_with_its_reason(void **state)
{
    (void)state;
    if (device_must_be_emulated("losing it at will"))
        skip();
    static const char *const ways[] = {"lost", "broken"};
    for (int way = 0; way < 2; way++) {
        sl_status status = SL_INTERNAL;
        int at = 1;
        for (; status != SL_OK && at < 2000; at++) {
            char options[64];
            sl_error err = {0};
            snprintf(options, sizeof options, "memory=1M,lazy=1,seed=%d,%s=%d", at, ways[way], at);
            status = whole_run(options, 7, 3, 4, 2, &err);
            assert_true(status == SL_OK || status == SL_DEVICE_LOST);
            assert_true(status == SL_OK || strstr(err.message, way == 0 ? "off the bus" : "illegal address") != NULL);
        }
        assert_true(at > 30 && at < 2000);
    }
}

/* ---- overlap ---- */

/* Time of a pass over the larger of what its copies and its arithmetic take alone. */
static double overlap(double link, double memory, uint32_t ring_units, double balance)
{
    char options[128];
    model m = {.units = 100, .unit_bytes = 256 * KIB};
    const double copy_s = m.unit_bytes / link;
    m.work_bytes = (uint32_t)(copy_s * balance * memory);
    snprintf(options, sizeof options, "memory=1G,link=%.0f,memory_bandwidth=%.0f", link, memory);
    m.d = device_with(options);
    sl_vram_config config = {.ring_bytes = ring_units * m.unit_bytes};
    sl_error err = {0};
    double seconds = 0, copies = 0, arithmetic = 0;
    assert_int_equal(setup(&m, &config, &err), SL_OK);
    device_ok(m.d->ops->event_record(m.d, m.begin, SL_STREAM_COPY, E));
    device_ok(pass(&m, E));
    device_ok(m.d->ops->event_record(m.d, m.end, SL_STREAM_COMPUTE, E));
    device_ok(m.d->ops->event_wait(m.d, m.end, E));
    device_ok(m.d->ops->event_elapsed(m.d, m.begin, m.end, &seconds, E));
    for (uint32_t u = 0; u < m.units; u++) { /* as emulated.h reckons */
        copies += bytes_of(&m, u) / link + 2e-6;
        arithmetic += (2.0 * bytes_of(&m, u) + m.work_bytes) / memory + 3e-6 * (1 + (m.work_bytes > 0));
    }
    teardown(&m);
    return seconds / (copies > arithmetic ? copies : arithmetic);
}

static void copies_and_arithmetic_overlap(void **state)
{
    (void)state;
    if (device_must_be_emulated("simulated time"))
        skip();
    static const struct {
        const char *name;
        double link, memory;
    } machines[] = {{"PCIe 4 x16, RTX 4090", 25e9, 1008e9},
                    {"PCIe 4 x16, RTX 3060", 25e9, 360e9},
                    {"PCIe 3 x8, RTX 3060", 6.5e9, 360e9},
                    {"PCIe 3 x8, GTX 1650", 6.5e9, 128e9}};
    for (size_t i = 0; i < sizeof machines / sizeof *machines; i++)
        for (double balance = 0; balance < 2;
             balance = balance == 0 ? 0.5 : balance * 1.5) { /* from a link that is too slow to a device that is */
            double ratio = overlap(machines[i].link, machines[i].memory, 4, balance);
            if (balance == 0 || balance > 1.5)
                printf("%s, arithmetic %.2f of copies: %.3f\n", machines[i].name, balance, ratio);
            if (ratio > 1.05)
                fail_msg("%s, arithmetic %.2f of copies: time is %.3f of the larger", machines[i].name, balance, ratio);
            assert_true(ratio > 0.999);
        }
    /* Nothing to overlap with: one unit's place, so that each copy waits for the reader before it. */
    assert_true(overlap(25e9, 360e9, 1, 1) > 1.5);
}

/* After a failure nobody knows which tickets are done. */
static void forgetting_all_tickets_empties_the_ring(void **state)
{
    (void)state;
    sl_device *d = device_with("memory=8M,lazy=1");
    sl_vram *v = NULL;
    sl_vram_config config = {.ring_bytes = 4 * KIB, .tickets = 3};
    sl_ticket ticket = 0;
    sl_device_ptr at = 0;
    void *host = NULL;
    device_ok(d->ops->host_alloc(d, KIB, &host, E));
    device_ok(sl_vram_create(d, &config, &v, E));
    memset(host, 1, KIB);
    for (int round = 0; round < 5; round++) {
        device_ok(sl_vram_push(v, host, KIB, &ticket, E));
        device_ok(sl_vram_use(v, ticket, &at, E));
        device_ok(sl_vram_push(v, host, KIB, &ticket, E));
        device_ok(sl_vram_reserve(v, KIB, &ticket, &at, E));
        sl_error err = {0};
        assert_int_equal(sl_vram_push(v, host, KIB, &ticket, &err), SL_PENDING);
        device_ok(d->ops->synchronize(d, SL_STREAM_COPY, E));
        device_ok(d->ops->synchronize(d, SL_STREAM_COMPUTE, E));
        sl_vram_reset(v);
        assert_null(sl_vram_broken(v));
    }
    sl_vram_destroy(v);
    d->ops->host_free(d, host);
    sl_device_close(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(units_arrive_whole_whatever_the_order_in_which_streams_run),
        cmocka_unit_test(few_tickets_are_enough),
        cmocka_unit_test(what_does_not_fit_is_refused_before_anything_happens),
        cmocka_unit_test(a_place_in_use_is_not_had_until_its_reader_was_given),
        cmocka_unit_test(a_source_may_be_changed_once_it_has_landed),
        cmocka_unit_test(a_unit_may_come_in_pieces_and_may_be_given_up),
        cmocka_unit_test(every_call_may_run_out_of_memory),
        cmocka_unit_test(a_push_that_failed_can_be_made_again),
        cmocka_unit_test(a_lost_device_ends_the_run_with_its_reason),
        cmocka_unit_test(forgetting_all_tickets_empties_the_ring),
        cmocka_unit_test(copies_and_arithmetic_overlap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
