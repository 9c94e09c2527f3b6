/* tests/test_pager.c: pager/pager.h over the synthetic device, which knows every byte; a random script against a simple model of what
 * the pager promises, with the invariants of its parts checked at every step. */
#include "core/os.h"
#include "pager/pager.h"
#include "pager/pager_private.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Sanitizers keep notes about memory, which count as resident. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SHADOWED 1
#elif defined(__has_feature)
#define SHADOWED (__has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer))
#else
#define SHADOWED 0
#endif

#define SEED      77
#define UNITS_MAX 64
#define FILE_SIZE 1000003 /* the last block is cut short */
#define ALIGNMENT 4096

/* xorshift: the script is the same on every machine */
static uint32_t rnd(uint64_t *state, uint32_t limit)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return (uint32_t)(*state >> 33) % limit;
}

typedef struct bench {
    sl_unit unit[UNITS_MAX];
    uint32_t count;
    sl_pager *pager;
    sl_tier *tier;
} bench;

/* Units of mixed sizes: neighbours in the file, neighbours with padding, overlapping none, two files, some with a home. */
static void random_units(bench *b, uint64_t *state, uint32_t largest, bool homes)
{
    b->count = 3 + rnd(state, UNITS_MAX - 3);
    uint64_t at[2] = {rnd(state, 5000), rnd(state, 5000)};
    for (uint32_t i = 0; i < b->count; i++) {
        uint32_t file = rnd(state, 5) == 0;
        uint32_t bytes = 1 + rnd(state, largest);
        if (at[file] + bytes > FILE_SIZE)
            at[file] = 0;
        b->unit[i] = (sl_unit){.file = file, .bytes = bytes, .offset = at[file], .home = homes && rnd(state, 3) == 0};
        at[file] += bytes + (rnd(state, 2) == 0 ? 0 : rnd(state, 10000));
    }
}

static void open_pager(bench *b, uint64_t staging, uint32_t plan_max, uint32_t depth, uint32_t fail_read)
{
    sl_error err;
    sl_pager_config config = {.units = b->unit, .unit_count = b->count, .staging_bytes = staging, .plan_max = plan_max};
    sl_synthetic_options options = {
        .seed = SEED, .capacity_bytes = FILE_SIZE, .bandwidth_Bps = 2e9, .latency_ns = 5000, .depth = depth, .fail_read = fail_read};
    assert_int_equal(sl_pager_create(&config, ALIGNMENT, &b->pager, &err), SL_OK);
    assert_int_equal(sl_tier_open_synthetic(&options, &b->tier, &err), SL_OK);
    assert_int_equal(sl_pager_attach(b->pager, b->tier, &err), SL_OK);
}

static void check_bytes(const sl_unit *u, const uint8_t *data, uint8_t key)
{
    for (uint32_t i = 0; i < u->bytes; i++)
        if (data[i] != (sl_synthetic_byte(SEED + u->file, u->offset + i) ^ key))
            fail_msg("byte %u of the unit at %llu is wrong", i, (unsigned long long)u->offset);
}

static void check_invariants(const sl_pager *p)
{
    const char *broken = sli_units_broken(&p->units);
    if (broken == NULL)
        broken = sli_ring_broken(&p->ring);
    if (broken == NULL &&
        !(p->plan.head <= p->plan.next && p->plan.next <= p->plan.tail && p->plan.tail <= p->plan.head + p->plan.capacity))
        broken = "S1";
    uint32_t claims[UNITS_MAX] = {0};
    for (uint64_t at = p->plan.head; at < p->plan.tail; at++) {
        uint32_t entry = p->plan.entry[at % p->plan.capacity];
        claims[entry & ~SLI_CLAIMED] += (entry & SLI_CLAIMED) != 0;
    }
    for (uint32_t i = 0; broken == NULL && i < p->units.count; i++)
        broken = claims[i] != p->units.unit[i].claims ? "S2" : NULL;
    for (uint32_t i = 0; broken == NULL && i < p->units.count; i++) { /* P1: what is staged lies inside its extent */
        const sli_unit *u = &p->units.unit[i];
        if (u->extent == SLI_NONE)
            continue;
        const sli_extent *e = &p->ring.extent[u->extent];
        if (e->file != u->file || u->offset < e->file_offset || u->offset + u->bytes > e->file_offset + e->bytes)
            broken = "P1";
    }
    if (broken != NULL)
        fail_msg("invariant %s does not hold", broken);
}

/* What the script knows of a unit. */
typedef struct model {
    uint16_t pins[UNITS_MAX];
    bool resident[UNITS_MAX];
    bool may_fail;
    uint32_t staged_pins;
    sl_unit_id plan[256];
    uint32_t plan_count;
} model;

static uint8_t home_key(sl_unit_id id)
{
    return (uint8_t)(id * 7 + 1);
}

static void model_acquire(bench *b, model *m, sl_unit_id id, bool settle)
{
    sl_view view;
    sl_error err;
    bool ready = sl_pager_ready(b->pager, id);
    uint64_t waited_ns = sl_pager_statistics(b->pager).wait_ns;
    sl_status status = sl_pager_acquire(b->pager, id, &view, &err);
    if (ready) {
        assert_int_equal(status, SL_OK);
        assert_true(sl_pager_statistics(b->pager).wait_ns == waited_ns);
    }
    if (status == SL_IO) {
        assert_true(m->may_fail);
        assert_non_null(strstr(err.message, "synthetic device fails"));
        assert_int_equal(sl_pager_acquire(b->pager, id, &view, &err), SL_IO); /* sticky */
        sl_pager_retry(b->pager);
        status = sl_pager_acquire(b->pager, id, &view, &err); /* only one read fails */
    }
    if (status == SL_NO_MEMORY) {
        assert_true(m->staged_pins >= 2); /* with one pinned there is always room */
        return;
    }
    assert_int_equal(status, SL_OK);
    if (m->plan_count > 0 && m->plan[0] == id)
        memmove(m->plan, m->plan + 1, --m->plan_count * sizeof m->plan[0]);
    m->pins[id]++;
    const sl_unit *u = &b->unit[id];
    assert_int_equal(view.staged == NULL, m->resident[id]);
    assert_int_equal(view.home != NULL, u->home);
    if (view.staged != NULL) {
        check_bytes(u, view.staged, 0);
        m->staged_pins++;
    } else {
        check_bytes(u, view.home, home_key(id));
    }
    if (view.staged == NULL || !u->home || !settle || m->pins[id] > 1)
        return;
    for (uint32_t i = 0; i < u->bytes; i++)
        view.home[i] = view.staged[i] ^ home_key(id);
    sl_pager_settle(b->pager, id);
    m->resident[id] = true;
    m->staged_pins -= m->pins[id];
}

static void model_release(bench *b, model *m, sl_unit_id id)
{
    m->pins[id]--;
    m->staged_pins -= !m->resident[id];
    sl_pager_release(b->pager, id);
}

static void model_plan(bench *b, model *m, uint64_t *state, uint32_t plan_max)
{
    sl_unit_id ids[64];
    sl_error err;
    uint32_t count = 1 + rnd(state, 40), from = rnd(state, b->count);
    bool run = rnd(state, 4) != 0; /* mostly a run along the cycle, as a pass is */
    for (uint32_t i = 0; i < count; i++)
        ids[i] = run ? (from + i) % b->count : rnd(state, b->count);
    sl_status status = sl_pager_plan(b->pager, ids, count, &err);
    assert_int_equal(status, m->plan_count + count > plan_max ? SL_NO_MEMORY : SL_OK);
    if (status != SL_OK)
        return;
    memcpy(m->plan + m->plan_count, ids, count * sizeof ids[0]);
    m->plan_count += count;
}

static void small_reads(bench *b, uint64_t *state)
{
    uint64_t offsets[20];
    uint8_t out[20 * 600];
    uint32_t bytes = 1 + rnd(state, 600), count = rnd(state, 20), file = rnd(state, 2);
    sl_error err;
    for (uint32_t i = 0; i < count; i++)
        offsets[i] = rnd(state, FILE_SIZE - bytes + 1);
    if (sl_pager_read_small(b->pager, file, offsets, count, bytes, out, &err) != SL_OK)
        assert_int_equal(sl_pager_read_small(b->pager, file, offsets, count, bytes, out, &err), SL_OK); /* only one read fails */
    for (uint32_t i = 0; i < count; i++)
        check_bytes(&(sl_unit){.file = file, .offset = offsets[i], .bytes = bytes}, out + (size_t)i * bytes, 0);
}

static void run_script(uint64_t seed, uint32_t steps, uint32_t fail_read)
{
    bench b = {0};
    model m = {.may_fail = fail_read != 0};
    uint64_t state = seed * 2654435761u + 99;
    random_units(&b, &state, 1 + rnd(&state, 30000), rnd(&state, 2) == 0);
    uint64_t least = sl_pager_staging_min(b.unit, b.count, ALIGNMENT);
    uint32_t plan_max = 1 + rnd(&state, 200);
    open_pager(&b, least + (160 << 10), plan_max, 1 + rnd(&state, 8), fail_read);
    /* The script is about tight rings. */
    b.pager->ring.bytes = least + rnd(&state, 3) * (uint64_t)ALIGNMENT * rnd(&state, 20);
    if (rnd(&state, 3) == 0)
        b.pager->ring.capacity = 3;
    b.pager->request_max = (uint32_t)(least / 3);
    for (uint32_t step = 0; step < steps; step++) {
        uint32_t what = rnd(&state, 100);
        sl_unit_id id = rnd(&state, b.count);
        if (what < 45 && m.plan_count > 0 && m.staged_pins < 3)
            model_acquire(&b, &m, m.plan[0], rnd(&state, 2) == 0);
        else if (what < 50 && m.staged_pins < 3)
            model_acquire(&b, &m, id, rnd(&state, 2) == 0);
        else if (what < 90 && m.pins[id] > 0)
            model_release(&b, &m, id);
        else if (what < 93)
            model_plan(&b, &m, &state, plan_max);
        else if (what < 94) {
            sl_pager_cancel(b.pager);
            m.plan_count = 0;
        } else if (what < 95)
            small_reads(&b, &state);
        else
            sl_pager_poll(b.pager);
        for (uint32_t i = 0; m.staged_pins >= 2 && i < b.count; i++) /* an executor holds few at a time */
            while (m.pins[i] > 0)
                model_release(&b, &m, i);
        check_invariants(b.pager);
        assert_int_equal(sl_pager_resident(b.pager, id) != NULL, m.resident[id]);
    }
    sl_pager_destroy(b.pager);
}

static void a_random_script_finds_every_promise_kept(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 150; seed++)
        run_script(seed, 400, 0);
}

static void every_read_can_fail_and_be_tried_again(void **state)
{
    (void)state;
    for (uint32_t fail_read = 1; fail_read <= 80; fail_read++)
        run_script(1000 + fail_read % 5, 200, fail_read);
}

/* A cycle of equal units, larger than the ring. */
static void cycle(bench *b, uint32_t count, uint32_t bytes, uint32_t homes)
{
    b->count = count;
    for (uint32_t i = 0; i < count; i++)
        b->unit[i] = (sl_unit){.bytes = bytes, .offset = (uint64_t)i * bytes, .home = i % 2 == 0 && i / 2 < homes};
}

/* Two passes ahead: pass i + 1 is planned before pass i ends, as the executor does. */
static void run_passes(bench *b, uint32_t passes)
{
    sl_unit_id ids[UNITS_MAX];
    sl_error err;
    sl_view view;
    for (uint32_t i = 0; i < b->count; i++)
        ids[i] = i;
    assert_int_equal(sl_pager_plan(b->pager, ids, b->count, &err), SL_OK);
    for (uint32_t pass = 0; pass < passes; pass++) {
        if (pass + 1 < passes)
            assert_int_equal(sl_pager_plan(b->pager, ids, b->count, &err), SL_OK);
        for (uint32_t i = 0; i < b->count; i++) {
            assert_int_equal(sl_pager_acquire(b->pager, i, &view, &err), SL_OK);
            if (view.staged != NULL)
                check_bytes(&b->unit[i], view.staged, 0);
            if (view.staged != NULL && view.home != NULL) {
                memcpy(view.home, view.staged, b->unit[i].bytes);
                sl_pager_settle(b->pager, i);
            }
            sl_pager_release(b->pager, i);
            check_invariants(b->pager);
        }
    }
}

static void a_pass_reads_what_has_no_home_once_and_what_has_one_never_again(void **state)
{
    (void)state;
    bench b = {0};
    cycle(&b, 40, 20480, 10);
    open_pager(&b, 10 * 20480, 80, 4, 0);
    b.pager->ring.bytes = 10 * 20480;
    run_passes(&b, 5);
    sl_pager_stats s = sl_pager_statistics(b.pager);
    assert_int_equal(s.bytes_wanted, (40 + 4 * 30) * 20480);
    assert_int_equal(s.bytes_read, s.bytes_wanted); /* units are whole blocks here */
    assert_int_equal(s.resident_bytes, 10 * 20480);
    assert_int_equal(s.hits_resident, 4 * 10);
    assert_int_equal(s.demand_reads, 0);
    sl_pager_destroy(b.pager);
}

static void a_cycle_that_fits_the_ring_is_read_once(void **state)
{
    (void)state;
    bench b = {0};
    cycle(&b, 10, 20480, 0);
    open_pager(&b, 12 * 20480, 40, 4, 0);
    run_passes(&b, 4);
    assert_int_equal(sl_pager_statistics(b.pager).bytes_wanted, 10 * 20480);
    sl_pager_destroy(b.pager);
}

/* The simulated link is busy from the first read to the last: the time is that of the bytes. */
static void the_link_never_pauses_between_passes(void **state)
{
    (void)state;
    bench b = {0};
    cycle(&b, 40, 20480, 0);
    open_pager(&b, 20 * 20480, 80, 8, 0);
    b.pager->ring.bytes = 20 * 20480;
    run_passes(&b, 10);
    double least_ns = (double)sl_pager_statistics(b.pager).bytes_read * 1e9 / 2e9;
    double took_ns = (double)sl_synthetic_now_ns(b.tier);
    assert_true(took_ns < least_ns * 1.01 + 50000);
    sl_pager_destroy(b.pager);
}

static void neighbours_are_read_together(void **state)
{
    (void)state;
    bench b = {0};
    cycle(&b, 40, 5000, 0);
    open_pager(&b, 1 << 20, 40, 8, 0);
    run_passes(&b, 1);
    sl_pager_stats s = sl_pager_statistics(b.pager);
    assert_true(s.requests <= 2); /* 200 KB; a request is up to an eighth of the ring */
    assert_true(s.bytes_read < 40 * 5000 + 2 * 2 * ALIGNMENT);
    sl_pager_destroy(b.pager);
}

static void a_gap_between_neighbours_is_not_read(void **state)
{
    (void)state;
    bench b = {0};
    cycle(&b, 40, 4096, 0);
    for (uint32_t i = 0; i < 40; i++)
        b.unit[i].offset = (uint64_t)i * 3 * 4096;
    open_pager(&b, 1 << 20, 40, 8, 0);
    run_passes(&b, 1);
    assert_int_equal(sl_pager_statistics(b.pager).bytes_read, 40 * 4096);
    sl_pager_destroy(b.pager);
}

static void reads_in_flight_at_cancel_serve_the_next_plan(void **state)
{
    (void)state;
    bench b = {0};
    sl_error err;
    sl_view view;
    cycle(&b, 10, 20480, 0);
    open_pager(&b, 0, 10, 8, 0);
    sl_unit_id ids[] = {0, 1, 2, 3};
    assert_int_equal(sl_pager_plan(b.pager, ids, 4, &err), SL_OK);
    sl_pager_cancel(b.pager);
    assert_int_equal(sl_pager_plan(b.pager, ids, 4, &err), SL_OK);
    for (uint32_t i = 0; i < 4; i++) {
        assert_int_equal(sl_pager_acquire(b.pager, ids[i], &view, &err), SL_OK);
        check_bytes(&b.unit[i], view.staged, 0);
        sl_pager_release(b.pager, ids[i]);
    }
    assert_int_equal(sl_pager_statistics(b.pager).bytes_wanted, 4 * 20480);
    sl_pager_destroy(b.pager);
}

static void a_demand_read_finds_room_in_a_ring_full_of_planned_units(void **state)
{
    (void)state;
    bench b = {0};
    sl_error err;
    sl_view view, second;
    cycle(&b, 30, 20480, 0);
    open_pager(&b, 4 * 20480, 40, 4, 0);
    b.pager->ring.bytes = 4 * 20480;
    sl_unit_id ids[25];
    for (uint32_t i = 0; i < 25; i++)
        ids[i] = i;
    assert_int_equal(sl_pager_plan(b.pager, ids, 25, &err), SL_OK);
    for (int i = 0; i < 1000; i++)
        sl_pager_poll(b.pager); /* the ring fills */
    assert_int_equal(sl_pager_acquire(b.pager, 0, &view, &err), SL_OK);
    assert_int_equal(sl_pager_acquire(b.pager, 29, &second, &err), SL_OK);
    check_bytes(&b.unit[0], view.staged, 0);
    check_bytes(&b.unit[29], second.staged, 0);
    sl_pager_release(b.pager, 29);
    sl_pager_release(b.pager, 0);
    for (uint32_t i = 1; i < 25; i++) {
        for (int k = 0; k < 1000; k++)
            sl_pager_poll(b.pager); /* what had to give way is read again in its turn */
        assert_int_equal(sl_pager_acquire(b.pager, i, &view, &err), SL_OK);
        check_bytes(&b.unit[i], view.staged, 0);
        sl_pager_release(b.pager, i);
        check_invariants(b.pager);
    }
    assert_int_equal(sl_pager_statistics(b.pager).demand_reads, 1);
    assert_int_equal(sl_pager_statistics(b.pager).hits_staged, 25);
    sl_pager_destroy(b.pager);
}

static void a_ring_full_of_pinned_units_is_an_error_and_not_a_standstill(void **state)
{
    (void)state;
    bench b = {0};
    sl_error err;
    sl_view view;
    cycle(&b, 10, 20480, 0);
    open_pager(&b, 0, 10, 4, 0);
    b.pager->ring.bytes = 3 * 20480;
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(sl_pager_acquire(b.pager, i, &view, &err), SL_OK);
    assert_int_equal(sl_pager_acquire(b.pager, 3, &view, &err), SL_NO_MEMORY);
    assert_non_null(strstr(err.message, "staging ring"));
    sl_pager_release(b.pager, 1);
    assert_int_equal(sl_pager_acquire(b.pager, 3, &view, &err), SL_NO_MEMORY); /* the hole is in the middle */
    sl_pager_release(b.pager, 0);
    assert_int_equal(sl_pager_acquire(b.pager, 3, &view, &err), SL_OK);
    check_bytes(&b.unit[3], view.staged, 0);
    sl_pager_destroy(b.pager);
}

static void a_failed_read_names_unit_and_place_until_retry(void **state)
{
    (void)state;
    bench b = {0};
    sl_error err;
    sl_view view;
    cycle(&b, 6, 20480, 0);
    open_pager(&b, 0, 10, 4, 2);
    b.pager->request_max = 20480;
    sl_unit_id ids[] = {0, 1, 2};
    assert_int_equal(sl_pager_plan(b.pager, ids, 3, &err), SL_OK);
    assert_int_equal(sl_pager_acquire(b.pager, 0, &view, &err), SL_OK);
    sl_pager_release(b.pager, 0);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(sl_pager_acquire(b.pager, 1, &view, &err), SL_IO);
        assert_non_null(strstr(err.message, "read 2 of the synthetic device fails"));
        assert_non_null(strstr(err.message, "unit 1: 20480 bytes at 20480 of file 0"));
    }
    sl_pager_retry(b.pager);
    for (uint32_t i = 1; i < 3; i++) {
        assert_int_equal(sl_pager_acquire(b.pager, i, &view, &err), SL_OK);
        check_bytes(&b.unit[i], view.staged, 0);
        sl_pager_release(b.pager, i);
    }
    sl_pager_destroy(b.pager);
}

static void what_is_asked_wrongly_is_refused(void **state)
{
    (void)state;
    bench b = {0};
    sl_error err;
    sl_view view;
    uint8_t out[8];
    uint64_t offset = 0;
    sl_pager *pager = NULL;
    cycle(&b, 6, 20480, 0);
    sl_pager_config config = {.units = b.unit, .unit_count = 6, .staging_bytes = 3 * 20480 - 1, .plan_max = 8};
    assert_int_equal(sl_pager_create(&config, ALIGNMENT, &pager, &err), SL_INVALID);
    assert_non_null(strstr(err.message, "61440"));
    assert_null(pager);
    config.staging_bytes = 0;
    assert_int_equal(sl_pager_create(&config, 1000, &pager, &err), SL_INVALID);
    b.unit[2].bytes = 0;
    assert_int_equal(sl_pager_create(&config, ALIGNMENT, &pager, &err), SL_INVALID);
    b.unit[2].bytes = 20480;
    assert_int_equal(sl_pager_create(&config, 64, &pager, &err), SL_OK);
    assert_int_equal(sl_pager_acquire(pager, 0, &view, &err), SL_INVALID); /* no tier */
    assert_int_equal(sl_pager_read_small(pager, 0, &offset, 1, 8, out, &err), SL_INVALID);
    assert_null(sl_pager_tier(pager));
    sl_synthetic_options options = {.capacity_bytes = FILE_SIZE, .bandwidth_Bps = 1e9, .depth = 2};
    assert_int_equal(sl_tier_open_synthetic(&options, &b.tier, &err), SL_OK);
    assert_int_equal(sl_pager_attach(pager, b.tier, &err), SL_INVALID); /* the device wants 512 */
    sl_pager_destroy(pager);

    open_pager(&b, 0, 8, 4, 0);
    sl_unit_id bad[] = {0, 6}, many[9] = {0};
    assert_int_equal(sl_pager_plan(b.pager, bad, 2, &err), SL_INVALID);
    assert_int_equal(sl_pager_plan(b.pager, many, 9, &err), SL_NO_MEMORY);
    assert_int_equal(sl_pager_acquire(b.pager, 6, &view, &err), SL_INVALID);
    assert_int_equal(sl_pager_read_small(b.pager, 0, &offset, 1, 0, out, &err), SL_INVALID);
    sl_pager_destroy(b.pager);
    sl_pager_destroy(NULL);
}

static void what_is_held_is_what_was_priced(void **state)
{
    (void)state;
    bench b = {0};
    cycle(&b, 40, 100000, 0);
    for (uint32_t i = 0; i < 40; i++) {
        b.unit[i].home = true;
        b.unit[i].offset = (uint64_t)i * 20000;
    }
    sl_pager_config config = {.units = b.unit, .unit_count = 40, .staging_bytes = 8 << 20, .plan_max = 100};
    sl_pager_cost cost = sl_pager_price(&config, ALIGNMENT);
    assert_int_equal(cost.homes_bytes, sl_pages_round(40 * 100032));
    sl_pager *pager = NULL;
    sl_error err;
    uint64_t before = sl_rss_bytes();
    assert_int_equal(sl_pager_create(&config, ALIGNMENT, &pager, &err), SL_OK);
    assert_int_equal(pager->homes_bytes, cost.homes_bytes);
    assert_int_equal(pager->tables_bytes, cost.tables_bytes);
    size_t staging_bytes;
    uint8_t *staging = sl_pager_staging(pager, &staging_bytes);
    assert_int_equal(staging_bytes, cost.staging_bytes);
    assert_true(pager->ring.bytes >= config.staging_bytes);
    memset(staging, 1, staging_bytes);
    memset(pager->homes, 1, cost.homes_bytes);
    uint64_t priced = cost.homes_bytes + cost.staging_bytes + cost.tables_bytes, held = sl_rss_bytes() - before;
    if (!SHADOWED)
        assert_true(held + (256 << 10) >= priced - cost.tables_bytes && held <= priced + (512 << 10));
    sl_pager_destroy(pager);
}

static void small_reads_work_beside_a_plan(void **state)
{
    (void)state;
    bench b = {0};
    sl_error err;
    cycle(&b, 40, 20480, 0);
    open_pager(&b, 0, 80, 3, 0);
    sl_unit_id ids[40];
    for (uint32_t i = 0; i < 40; i++)
        ids[i] = i;
    assert_int_equal(sl_pager_plan(b.pager, ids, 40, &err), SL_OK);
    uint64_t offsets[100];
    static uint8_t out[100 * 4000];
    for (uint32_t i = 0; i < 100; i++)
        offsets[i] = (uint64_t)i * 9973;
    assert_int_equal(sl_pager_read_small(b.pager, 1, offsets, 100, 4000, out, &err), SL_OK);
    for (uint32_t i = 0; i < 100; i++)
        check_bytes(&(sl_unit){.file = 1, .offset = offsets[i], .bytes = 4000}, out + (size_t)i * 4000, 0);
    static uint8_t large[3 * 140000];
    static const uint32_t lengths[] = {65536, 65537, 140000}; /* one piece, and more */
    for (int i = 0; i < 3; i++) {
        assert_int_equal(sl_pager_read_small(b.pager, 1, offsets + 1, 3, lengths[i], large, &err), SL_OK);
        for (uint32_t j = 0; j < 3; j++)
            check_bytes(&(sl_unit){.file = 1, .offset = offsets[1 + j], .bytes = lengths[i]}, large + (size_t)j * lengths[i], 0);
    }
    offsets[1] = FILE_SIZE + 100000;
    assert_int_equal(sl_pager_read_small(b.pager, 1, offsets, 2, 100, out, &err), SL_IO);
    check_invariants(b.pager);
    sl_pager_destroy(b.pager);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_random_script_finds_every_promise_kept),
        cmocka_unit_test(every_read_can_fail_and_be_tried_again),
        cmocka_unit_test(a_pass_reads_what_has_no_home_once_and_what_has_one_never_again),
        cmocka_unit_test(a_cycle_that_fits_the_ring_is_read_once),
        cmocka_unit_test(the_link_never_pauses_between_passes),
        cmocka_unit_test(neighbours_are_read_together),
        cmocka_unit_test(a_gap_between_neighbours_is_not_read),
        cmocka_unit_test(reads_in_flight_at_cancel_serve_the_next_plan),
        cmocka_unit_test(a_demand_read_finds_room_in_a_ring_full_of_planned_units),
        cmocka_unit_test(a_ring_full_of_pinned_units_is_an_error_and_not_a_standstill),
        cmocka_unit_test(a_failed_read_names_unit_and_place_until_retry),
        cmocka_unit_test(what_is_asked_wrongly_is_refused),
        cmocka_unit_test(what_is_held_is_what_was_priced),
        cmocka_unit_test(small_reads_work_beside_a_plan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
