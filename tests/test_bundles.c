/* tests/test_bundles.c: pager/bundles.h over the synthetic device, which knows every byte, with a tier between them that holds every read
 * to the contract and fails some; a random script against a simple model of what must be cached. */
/* link: -Wl,--wrap=sl_pages_alloc,--wrap=malloc,--wrap=calloc,--wrap=realloc */
#include "core/os.h"
#include "pager/bundles.h"
#include "pager/bundles_private.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SEED       4711
#define FILE_SIZE  2000003 /* the last block is cut short */
#define LAYERS_MAX 4
#define PLACES_MAX 200
#define DEPTH_MAX  64
#define FADE       (1u << SLI_FADE)

/* ---- allocations are counted ---- */

static uint64_t pages_bytes, heap_calls;

void *__wrap_sl_pages_alloc(size_t bytes);
void *__real_sl_pages_alloc(size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__real_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__wrap_realloc(void *memory, size_t bytes);
void *__real_realloc(void *memory, size_t bytes);

void *__wrap_sl_pages_alloc(size_t bytes)
{
    pages_bytes += sl_pages_round(bytes);
    return __real_sl_pages_alloc(bytes);
}

void *__wrap_malloc(size_t bytes)
{
    heap_calls++;
    return __real_malloc(bytes);
}

void *__wrap_calloc(size_t count, size_t bytes)
{
    heap_calls++;
    return __real_calloc(count, bytes);
}

void *__wrap_realloc(void *memory, size_t bytes)
{
    heap_calls++;
    return __real_realloc(memory, bytes);
}

/* xorshift: the script is the same on every machine */
static uint32_t rnd(uint64_t *state, uint32_t limit)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return (uint32_t)(*state >> 33) % limit;
}

/* ---- a tier that holds us to T3, T4 and T5, and fails every n-th read ---- */

typedef struct strict_tier {
    sl_tier base;
    sl_tier *inner;
    uint32_t in_flight, held_back; /* held_back: submitted since the last reap */
    uint32_t fail_every, fail_at;  /* 0: none; counted from 1 */
    uint32_t reads, bursts;
    uint64_t largest;
    const uint8_t *memory; /* where reads may go; NULL: anywhere */
    size_t memory_bytes;
    bool fails[DEPTH_MAX];
    uint64_t tag[DEPTH_MAX];
    bool busy[DEPTH_MAX];
} strict_tier;

static sl_status strict_submit(sl_tier *tier, const sl_read *read, sl_error *err)
{
    strict_tier *t = (strict_tier *)tier;
    uint32_t a = t->base.attrs.alignment, slot = 0;
    if (((read->offset | read->bytes | (uintptr_t)read->memory) & (a - 1)) != 0 || read->bytes == 0)
        fail_msg("T4: a read of %zu bytes at %llu", read->bytes, (unsigned long long)read->offset);
    if (t->in_flight >= t->base.attrs.depth)
        fail_msg("T3: more than %u reads", t->base.attrs.depth);
    const uint8_t *memory = read->memory;
    if (t->memory != NULL && (memory < t->memory || memory + read->bytes > t->memory + t->memory_bytes))
        fail_msg("a read of %zu bytes goes outside the stages", read->bytes);
    while (t->busy[slot])
        slot++;
    sl_read mine = *read;
    mine.tag = slot;
    sl_status status = t->inner->ops->submit(t->inner, &mine, err);
    if (status != SL_OK)
        return status;
    t->reads++;
    t->in_flight++;
    t->held_back++;
    t->largest = read->bytes > t->largest ? read->bytes : t->largest;
    t->busy[slot] = true;
    t->tag[slot] = read->tag;
    t->fails[slot] = (t->fail_every > 0 && t->reads % t->fail_every == 0) || t->reads == t->fail_at;
    if (t->fails[slot])
        memset(read->memory, 0xee, read->bytes);
    return SL_OK;
}

static size_t strict_reap(sl_tier *tier, bool wait, sl_read_done *done, size_t max, sl_error *err)
{
    strict_tier *t = (strict_tier *)tier;
    t->bursts += t->held_back > 0;
    t->held_back = 0;
    if (wait)
        assert_true(t->in_flight > 0); /* nothing to wait for would be for ever */
    size_t count = t->inner->ops->reap(t->inner, wait, done, max, err);
    for (size_t i = 0; i < count; i++) {
        uint64_t slot = done[i].tag;
        done[i].tag = t->tag[slot];
        if (t->fails[slot])
            done[i].status = sl_fail(err, SL_IO, "model.sluice: a read fails as asked");
        t->busy[slot] = false;
        t->in_flight--;
    }
    return count;
}

static void strict_destroy(sl_tier *tier)
{
    strict_tier *t = (strict_tier *)tier;
    sl_tier_destroy(t->inner);
    free(t);
}

static const sl_tier_ops strict_ops = {.submit = strict_submit, .reap = strict_reap, .destroy = strict_destroy};

static strict_tier *open_strict(uint32_t alignment, uint32_t depth)
{
    sl_error err;
    strict_tier *t = calloc(1, sizeof *t);
    sl_synthetic_options options = {.seed = SEED, .capacity_bytes = FILE_SIZE, .bandwidth_Bps = 2e9, .latency_ns = 5000, .depth = depth};
    assert_non_null(t);
    assert_int_equal(sl_tier_open_synthetic(&options, &t->inner, &err), SL_OK);
    t->base = (sl_tier){.ops = &strict_ops, .attrs = t->inner->attrs};
    t->base.attrs.alignment = alignment;
    return t;
}

/* ---- a set-up ---- */

typedef struct rig {
    sl_bundle_layer layer[LAYERS_MAX];
    sl_bundles_config config;
    sl_bundles *b;
    strict_tier *tier;
    uint8_t seen[PLACES_MAX];
} rig;

static void open_rig(rig *r, uint32_t depth)
{
    sl_error err = {0};
    size_t bytes;
    r->config.layers = r->layer;
    if (sl_bundles_create(&r->config, &r->b, &err) != SL_OK)
        fail_msg("%s", err.message);
    r->tier = open_strict(r->config.alignment, depth);
    r->tier->memory = sl_bundles_staging(r->b, &bytes);
    r->tier->memory_bytes = bytes;
    assert_int_equal(sl_bundles_attach(r->b, &r->tier->base, &err), SL_OK);
}

/* One layer of 64 bundles of 512 bytes from 4096 on, nothing cached, gaps not read, as much room as anybody wants. */
static rig plain_rig(void)
{
    rig r = {
        .layer = {{.offset = 4096, .stride = 512, .bytes = 512, .count = 64}, {.offset = 65536, .stride = 512, .bytes = 512, .count = 64}}};
    r.config = (sl_bundles_config){
        .layer_count = 2, .alignment = 512, .wanted_max = 64, .staging_bytes = 1 << 18, .request_bytes = 8192, .policy = SL_BUNDLES_LRU};
    return r;
}

static void check_invariants(rig *r)
{
    const char *broken = sli_bundles_broken(r->b, r->seen);
    if (broken != NULL)
        fail_msg("invariant %s does not hold", broken);
}

static void check_bundle(const sl_bundle_layer *layer, uint32_t place, const uint8_t *data)
{
    uint64_t from = layer->offset + (uint64_t)place * layer->stride;
    assert_int_equal((uintptr_t)data % SL_BUNDLE_ALIGNMENT, 0);
    for (uint32_t i = 0; i < layer->bytes; i++)
        if (data[i] != sl_synthetic_byte(SEED, from + i))
            fail_msg("byte %u of the bundle at place %u is wrong", i, place);
}

static void check_all(const rig *r, uint32_t layer, const uint32_t *places, uint32_t count, const uint8_t *const *addresses)
{
    for (uint32_t i = 0; i < count; i++)
        check_bundle(&r->layer[layer], places[i], addresses[i]);
}

/* fetch, check, done */
static void visit(rig *r, uint32_t layer, const uint32_t *places, uint32_t count)
{
    const uint8_t *addresses[PLACES_MAX];
    sl_error err = {0};
    if (sl_bundles_fetch(r->b, layer, places, count, addresses, &err) != SL_OK)
        fail_msg("%s", err.message);
    check_invariants(r);
    check_all(r, layer, places, count, addresses);
    sl_bundles_done(r->b, layer);
    check_invariants(r);
}

static uint32_t random_set(uint64_t *state, uint32_t limit, uint32_t most, uint32_t per_mille, uint32_t *places)
{
    uint32_t count = 0;
    for (uint32_t p = 0; p < limit && count < most; p++)
        if (rnd(state, 1000) < per_mille)
            places[count++] = p;
    return count;
}

/* ---- the policies, on ledgers alone ---- */

typedef struct book { /* a ledger and its memory */
    sli_ledger ledger;
    uint32_t place_of[PLACES_MAX];
    uint16_t worth[PLACES_MAX];
} book;

static void open_book(book *k, sl_bundle_policy policy, uint32_t count, uint32_t capacity)
{
    memset(k, 0, sizeof *k);
    memset(k->place_of, 0xff, sizeof k->place_of);
    k->ledger = (sli_ledger){
        .place_of = k->place_of, .worth = k->worth, .count = count, .capacity = capacity, .policy = policy, .fade = SLI_FADE};
}

/* A use of these places; those that have no slot are candidates. */
static void book_use(book *k, const uint32_t *places, uint32_t count)
{
    uint32_t candidates[PLACES_MAX], absent = 0;
    sli_admission admission[PLACES_MAX];
    for (uint32_t i = 0; i < count; i++) {
        bool held = false;
        for (uint32_t slot = 0; slot < k->ledger.capacity; slot++)
            held |= k->place_of[slot] == places[i];
        if (!held)
            candidates[absent++] = places[i];
    }
    sli_policy_use(&k->ledger, places, count);
    uint32_t admitted = sli_policy_admit(&k->ledger, candidates, absent, admission);
    assert_true(admitted <= absent);
    for (uint32_t i = 0; i < admitted; i++)
        sli_policy_settle(&k->ledger, admission[i]);
    uint8_t seen[PLACES_MAX];
    assert_null(sli_policy_broken(&k->ledger, seen));
}

static bool book_holds(const book *k, uint32_t place)
{
    for (uint32_t slot = 0; slot < k->ledger.capacity; slot++)
        if (k->place_of[slot] == place)
            return true;
    return false;
}

static void lru_keeps_what_was_used_last(void **state)
{
    (void)state;
    book k;
    open_book(&k, SL_BUNDLES_LRU, 20, 4);
    book_use(&k, (uint32_t[]){1, 2, 3, 4}, 4);
    book_use(&k, (uint32_t[]){1, 3}, 2);
    book_use(&k, (uint32_t[]){9, 10}, 2);
    assert_true(book_holds(&k, 1) && book_holds(&k, 3) && book_holds(&k, 9) && book_holds(&k, 10));
    book_use(&k, (uint32_t[]){1, 5, 6, 7, 8}, 5); /* more than there are slots: what is there stays, then the first in storage order */
    assert_true(book_holds(&k, 1) && book_holds(&k, 5) && book_holds(&k, 6) && book_holds(&k, 7));
}

static void lru_keeps_its_order_when_its_count_is_set_back(void **state)
{
    (void)state;
    book k;
    open_book(&k, SL_BUNDLES_LRU, 20, 3);
    k.ledger.uses = UINT16_MAX - 2;
    book_use(&k, (uint32_t[]){1}, 1);
    book_use(&k, (uint32_t[]){2}, 1);
    book_use(&k, (uint32_t[]){3}, 1); /* set back before this one */
    assert_true(k.ledger.uses < UINT16_MAX / 2 + 10);
    book_use(&k, (uint32_t[]){4}, 1);
    assert_true(!book_holds(&k, 1) && book_holds(&k, 2) && book_holds(&k, 3) && book_holds(&k, 4));
}

static void frequent_gives_nothing_up_for_what_is_not_used_more(void **state)
{
    (void)state;
    book k;
    open_book(&k, SL_BUNDLES_FREQUENT, 20, 2);
    for (int i = 0; i < 3; i++)
        book_use(&k, (uint32_t[]){1, 2}, 2);
    book_use(&k, (uint32_t[]){1, 7}, 2); /* once is less than three times */
    assert_true(book_holds(&k, 1) && book_holds(&k, 2));
    for (int i = 0; i < 200; i++)
        book_use(&k, (uint32_t[]){7, 8}, 2);
    assert_true(book_holds(&k, 7) && book_holds(&k, 8)); /* old fame fades */
    assert_int_equal(k.worth[1], 0);
}

static void static_holds_the_first_places_each_in_its_own_slot(void **state)
{
    (void)state;
    book k;
    open_book(&k, SL_BUNDLES_STATIC, 20, 3);
    book_use(&k, (uint32_t[]){2, 3, 4, 5}, 4);
    book_use(&k, (uint32_t[]){0, 19}, 2);
    assert_int_equal(k.place_of[0], 0);
    assert_int_equal(k.place_of[1], SLI_NO_PLACE);
    assert_int_equal(k.place_of[2], 2);
    assert_int_equal(sli_policy_offer(&k.ledger, 1), 1);
    assert_int_equal(sli_policy_offer(&k.ledger, 3), SLI_NO_SLOT);
}

/* ---- what a policy must keep, told simply ---- */

typedef struct model_layer {
    bool cached[PLACES_MAX];
    uint32_t worth[PLACES_MAX];
    uint32_t uses;
} model_layer;

typedef struct ranked {
    uint32_t worth, place;
    bool cached;
} ranked;

/* Best first: worth, then what is cached, then storage order. */
static int better(const void *left, const void *right)
{
    const ranked *a = left, *b = right;
    if (a->worth != b->worth)
        return a->worth > b->worth ? -1 : 1;
    if (a->cached != b->cached)
        return a->cached ? -1 : 1;
    return a->place < b->place ? -1 : 1;
}

static void model_use(model_layer *m, const sl_bundle_layer *layer, sl_bundle_policy policy, const uint32_t *places, uint32_t count)
{
    ranked rank[PLACES_MAX];
    bool used[PLACES_MAX] = {false};
    uint32_t n = 0;
    m->uses++;
    for (uint32_t i = 0; i < count; i++)
        used[places[i]] = true;
    for (uint32_t p = 0; p < layer->count; p++) {
        if (policy == SL_BUNDLES_LRU)
            m->worth[p] = used[p] ? m->uses : m->worth[p];
        else if (policy == SL_BUNDLES_FREQUENT)
            m->worth[p] = m->worth[p] - (m->worth[p] + FADE - 1) / FADE + (used[p] ? 65535 / FADE : 0);
        if (m->cached[p] || used[p])
            rank[n++] = (ranked){.worth = m->worth[p], .place = p, .cached = m->cached[p]};
    }
    if (policy == SL_BUNDLES_STATIC) {
        for (uint32_t p = 0; p < layer->capacity; p++)
            m->cached[p] |= used[p];
        return;
    }
    qsort(rank, n, sizeof *rank, better);
    memset(m->cached, 0, sizeof m->cached);
    /* what leaves among equals in slots is open; the worths that stay are not, and are compared */
    for (uint32_t i = 0; i < n && i < layer->capacity; i++)
        m->cached[rank[i].place] = true;
}

/* The same bundles are cached, or others of the same worth; then the model follows. */
static void model_compare(const rig *r, uint32_t layer, model_layer *m)
{
    uint64_t mine = 0, theirs = 0;
    uint32_t mine_count = 0, their_count = 0;
    for (uint32_t p = 0; p < r->layer[layer].count; p++) {
        const uint8_t *data = sl_bundles_cached(r->b, layer, p);
        mine += m->cached[p] ? m->worth[p] : 0;
        mine_count += m->cached[p];
        theirs += data != NULL ? m->worth[p] : 0;
        their_count += data != NULL;
        if (m->cached[p] != (data != NULL) && r->config.policy == SL_BUNDLES_STATIC)
            fail_msg("place %u should%s be cached", p, m->cached[p] ? "" : " not");
        m->cached[p] = data != NULL;
        if (data != NULL)
            check_bundle(&r->layer[layer], p, data);
    }
    assert_int_equal(mine_count, their_count);
    assert_int_equal(mine, theirs);
}

/* ---- the random script ---- */

static void random_rig(rig *r, uint64_t *state, uint32_t alignment)
{
    static const sl_bundle_policy policies[] = {SL_BUNDLES_STATIC, SL_BUNDLES_LRU, SL_BUNDLES_FREQUENT};
    static const uint32_t gaps[] = {0, 512, 2048, 16384};
    uint64_t at = 64 * (uint64_t)rnd(state, 100);
    memset(r, 0, sizeof *r);
    r->config = (sl_bundles_config){.layer_count = 1 + rnd(state, LAYERS_MAX),
                                    .alignment = alignment,
                                    .wanted_max = 1 + rnd(state, PLACES_MAX),
                                    .gap_bytes = gaps[rnd(state, 4)],
                                    .request_bytes = 512 + rnd(state, 20000),
                                    .policy = policies[rnd(state, 3)]};
    uint32_t unit = rnd(state, 2) == 0 ? 512 : 64;
    for (uint32_t i = 0; i < r->config.layer_count; i++) {
        sl_bundle_layer *l = &r->layer[i];
        at = (at + unit - 1) / unit * unit;
        *l = (sl_bundle_layer){.offset = at, .stride = unit * (1 + rnd(state, 1536 / unit)), .count = rnd(state, PLACES_MAX + 1)};
        l->bytes = l->stride - l->stride / 64 * 37 % unit; /* some padding, and sometimes none */
        uint32_t kind = rnd(state, 4);                     /* no cache, a whole one, something between */
        l->capacity = kind == 0 ? 0 : kind == 1 ? l->count : rnd(state, l->count + 1);
        at += (uint64_t)l->stride * l->count + 64 * (uint64_t)rnd(state, 100);
    }
    uint64_t least = sl_bundles_staging_min(r->layer, r->config.layer_count, r->config.wanted_max, alignment);
    if (rnd(state, 2) == 0)
        r->config.staging_bytes = least + rnd(state, 3) * 5000;
}

/* Sometimes right, sometimes in part, sometimes all wrong. */
static void random_guess(rig *r, uint64_t *state, uint32_t layer, const uint32_t *places, uint32_t count)
{
    uint32_t guess[PLACES_MAX], guessed = 0, kind = rnd(state, 3), limit = r->layer[layer].count;
    bool set[PLACES_MAX] = {false};
    for (uint32_t i = 0; i < count; i++)
        set[places[i]] = kind == 0 || (kind == 1 && rnd(state, 4) != 0);
    for (uint32_t p = 0; p < limit; p++)
        if (set[p] || (kind != 0 && rnd(state, 6) == 0))
            guess[guessed++] = p;
    sl_bundles_prefetch(r->b, layer, guess, guessed);
}

static void random_offers(rig *r, uint64_t *state, uint32_t layer, model_layer *m)
{
    const sl_bundle_layer *l = &r->layer[layer];
    uint8_t data[1536] = {0};
    for (uint32_t n = rnd(state, 20); n > 0 && l->count > 0; n--) {
        uint32_t place = rnd(state, l->count), cached = 0;
        for (uint32_t i = 0; i < l->bytes; i++)
            data[i] = sl_synthetic_byte(SEED, l->offset + (uint64_t)place * l->stride + i);
        sl_bundles_offer(r->b, layer, place, data);
        for (uint32_t p = 0; p < l->count; p++)
            cached += m->cached[p];
        m->cached[place] |= r->config.policy == SL_BUNDLES_STATIC ? place < l->capacity : cached < l->capacity;
        assert_int_equal(sl_bundles_cached(r->b, layer, place) != NULL, m->cached[place]);
    }
}

/* Tries until it works: how often it had to be asked. */
static uint32_t fetch_at_last(rig *r, uint32_t layer, const uint32_t *places, uint32_t count, const uint8_t **addresses, bool may_fail)
{
    for (uint32_t tries = 1;; tries++) {
        sl_error err = {0};
        sl_status status = sl_bundles_fetch(r->b, layer, places, count, addresses, &err);
        check_invariants(r);
        if (status == SL_OK)
            return tries;
        assert_true(may_fail && tries < 1000);
        assert_int_equal(status, SL_IO);
        assert_non_null(strstr(err.message, "model.sluice")); /* the file is named */
    }
}

static uint64_t run_script(uint64_t seed, uint32_t steps, uint32_t alignment, uint32_t fail_every, uint32_t fail_at)
{
    rig r;
    model_layer model[LAYERS_MAX];
    uint64_t state = seed * 2654435761u + 99, retried = 0;
    memset(model, 0, sizeof model);
    random_rig(&r, &state, alignment);
    open_rig(&r, rnd(&state, 3) == 0 ? 1 : 1 + rnd(&state, DEPTH_MAX));
    r.tier->fail_every = fail_every;
    r.tier->fail_at = fail_at;
    uint32_t next[PLACES_MAX], per_mille = rnd(&state, 1000), next_layer = 0, next_count = 0;
    uint64_t needed = 0, cached = 0;
    for (uint32_t step = 0; step < steps; step++) {
        const uint8_t *addresses[PLACES_MAX];
        uint32_t places[PLACES_MAX], layer = next_layer, count = next_count;
        memcpy(places, next, sizeof places);
        next_layer = rnd(&state, 8) == 0 ? rnd(&state, r.config.layer_count) : (layer + 1) % r.config.layer_count;
        next_count = random_set(&state, r.layer[next_layer].count, r.config.wanted_max, per_mille, next);
        for (uint32_t i = 0; i < count; i++)
            cached += model[layer].cached[places[i]];
        needed += count;
        retried += fetch_at_last(&r, layer, places, count, addresses, fail_every + fail_at > 0) - 1;
        for (uint32_t n = rnd(&state, 3); n > 0; n--)
            random_guess(&r, &state, rnd(&state, 8) == 0 ? rnd(&state, r.config.layer_count) : next_layer, next, next_count);
        check_invariants(&r);
        uint32_t offered = rnd(&state, 4 * r.config.layer_count);
        if (offered < r.config.layer_count)
            random_offers(&r, &state, offered, &model[offered]);
        for (uint32_t n = rnd(&state, 3); n > 0; n--)
            sl_bundles_poll(r.b);
        check_all(&r, layer, places, count, addresses); /* B1: until now nothing moved */
        sl_bundles_done(r.b, layer);
        check_invariants(&r);
        model_use(&model[layer], &r.layer[layer], r.config.policy, places, count);
        model_compare(&r, layer, &model[layer]);
    }
    sl_bundles_stats s = sl_bundles_statistics(r.b);
    assert_int_equal(s.needed, needed);
    assert_int_equal(s.cached, cached); /* what is cached is no matter of guesses, failures and time: B2 */
    assert_int_equal(s.read, needed - cached);
    assert_int_equal(s.requests, r.tier->reads);
    assert_true(s.late <= s.prefetched && s.prefetched <= s.read);
    sl_bundles_destroy(r.b);
    return retried;
}

static void a_random_script_finds_every_promise_kept(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 100; seed++)
        run_script(seed, 60, seed % 2 == 0 ? 512 : 4096, 0, 0);
}

static void every_read_can_fail_and_be_tried_again(void **state)
{
    (void)state;
    uint64_t retried = 0;
    for (uint32_t every = 2; every <= 12; every++)
        retried += run_script(1000 + every, 40, every % 2 == 0 ? 512 : 4096, every, 0);
    for (uint32_t at = 1; at <= 60; at++)
        retried += run_script(2000 + at % 5, 12, 512, 0, at);
    assert_true(retried > 20);
}

/* ---- single promises ---- */

static void neighbours_are_read_together_in_requests_of_limited_size(void **state)
{
    (void)state;
    rig r = plain_rig();
    uint32_t places[40];
    for (uint32_t i = 0; i < 40; i++)
        places[i] = i;
    open_rig(&r, 8);
    visit(&r, 0, places, 40); /* 20480 bytes in requests of 8192 */
    assert_int_equal(r.tier->reads, 3);
    assert_int_equal(r.tier->largest, 8192);
    assert_int_equal(r.tier->bursts, 1); /* one system call */
    visit(&r, 0, (uint32_t[]){3, 5, 6}, 3);
    assert_int_equal(r.tier->reads, 5);
    sl_bundles_destroy(r.b);
}

static void a_gap_is_read_when_that_is_allowed_and_there_is_room(void **state)
{
    (void)state;
    rig r = plain_rig();
    r.config.gap_bytes = 1024;
    open_rig(&r, 8);
    visit(&r, 0, (uint32_t[]){3, 6, 10}, 3); /* gaps of 1024 and 1536 */
    sl_bundles_stats s = sl_bundles_statistics(r.b);
    assert_int_equal(s.requests, 2);
    assert_int_equal(s.bytes_read, 4 * 512 + 512);
    assert_int_equal(s.bytes_wanted, 3 * 512);
    sl_bundles_destroy(r.b);

    r = plain_rig();
    r.config.gap_bytes = 1024;
    r.config.wanted_max = 3;
    r.config.staging_bytes = 3 * 512 + 512; /* room for one bundle beside those wanted */
    open_rig(&r, 8);
    visit(&r, 0, (uint32_t[]){3, 5, 7}, 3);
    assert_int_equal(sl_bundles_statistics(r.b).requests, 2);
    sl_bundles_destroy(r.b);
}

static void a_run_takes_no_gap_beyond_the_rules_and_the_least_is_the_least(void **state)
{
    (void)state;
    uint64_t random = 12345;
    for (int trial = 0; trial < 2000; trial++) {
        uint32_t places[PLACES_MAX], alignment = rnd(&random, 2) ? 512 : 4096, gap = rnd(&random, 8000), runs = 0, least_runs;
        sl_bundle_layer l = {.offset = 64 * (uint64_t)rnd(&random, 1000), .stride = 64 * (1 + rnd(&random, 100)), .count = PLACES_MAX};
        uint32_t count = 1 + random_set(&random, PLACES_MAX - 1, PLACES_MAX - 1, rnd(&random, 1000), places);
        places[count - 1] = PLACES_MAX - 1;
        uint64_t spare = rnd(&random, 100000), before = spare, bytes = 0, end = 0;
        for (uint32_t done = 0; done < count; runs++) {
            sli_run run = sli_run_next(&l, places + done, count - done, alignment, gap, &spare);
            uint32_t first, stop;
            sli_run_whole(&l, &run, &first, &stop);
            assert_true(run.from % alignment == 0 && run.bytes % alignment == 0 && run.from >= end);
            assert_true(first <= places[done] && places[done + run.places - 1] < stop && stop <= l.count);
            assert_true(l.offset + (uint64_t)first * l.stride >= run.from);
            assert_true(l.offset + (uint64_t)stop * l.stride <= run.from + run.bytes);
            end = run.from + run.bytes;
            bytes += run.bytes;
            done += run.places;
        }
        assert_int_equal(bytes, sli_runs_least(&l, places, count, alignment, &least_runs) + (before - spare));
        assert_true(runs <= least_runs);
        assert_true(sli_runs_least(&l, places, count, alignment, NULL) <= (uint64_t)count * sli_run_alone_max(&l, alignment));
        assert_true(sli_runs_least(&l, places, count, alignment, NULL) <= sl_bundles_staging_min(&l, 1, count, alignment));
    }
}

static void a_right_guess_leaves_nothing_to_read(void **state)
{
    (void)state;
    rig r = plain_rig();
    uint32_t places[] = {1, 2, 9, 30};
    open_rig(&r, 8);
    sl_bundles_prefetch(r.b, 0, places, 4);
    assert_int_equal(r.tier->held_back, 0); /* T5: they have started */
    for (int i = 0; i < 20; i++)
        sl_bundles_poll(r.b); /* time passes */
    assert_int_equal(r.tier->reads, 3);
    visit(&r, 0, places, 4);
    sl_bundles_stats s = sl_bundles_statistics(r.b);
    assert_int_equal(s.requests, 3);
    assert_int_equal(s.prefetched, 4);
    assert_int_equal(s.late, 0);
    assert_int_equal(s.wasted, 0);
    sl_bundles_destroy(r.b);
}

static void a_guess_that_is_still_on_its_way_is_late(void **state)
{
    (void)state;
    rig r = plain_rig();
    uint32_t places[] = {1, 2, 9, 30};
    open_rig(&r, 8);
    sl_bundles_prefetch(r.b, 0, places, 4);
    visit(&r, 0, places, 4);
    sl_bundles_stats s = sl_bundles_statistics(r.b);
    assert_int_equal(s.requests, 3);
    assert_int_equal(s.late, 4);
    assert_true(s.wait_ns > 0);
    sl_bundles_destroy(r.b);
}

static void what_is_ready_is_told_without_waiting(void **state)
{
    (void)state;
    rig r = plain_rig();
    const uint32_t places[] = {1, 2, 9, 30};
    const uint8_t *addresses[4];
    uint32_t ready[4];
    open_rig(&r, 8);
    sl_bundles_prefetch(r.b, 0, (uint32_t[]){2, 9}, 2);
    assert_int_equal(sl_bundles_ready(r.b, 0, places, 4, ready), 0); /* on their way */
    uint32_t count = 0;
    for (int polls = 0; polls < 100000 && count < 2; polls++) /* each look lets a microsecond pass */
        count = sl_bundles_ready(r.b, 0, places, 4, ready);
    assert_int_equal(count, 2);
    assert_true(ready[0] == 2 && ready[1] == 9);
    assert_int_equal(sl_bundles_fetch(r.b, 0, ready, count, addresses, NULL), SL_OK);
    check_all(&r, 0, ready, count, addresses);
    sl_bundles_done(r.b, 0);
    sl_bundles_stats s = sl_bundles_statistics(r.b);
    assert_int_equal(s.late, 0);
    assert_true(s.requests <= 2);
    sl_bundles_destroy(r.b);
}

static void a_guess_that_is_right_in_part_is_completed(void **state)
{
    (void)state;
    rig r = plain_rig();
    open_rig(&r, 8);
    sl_bundles_prefetch(r.b, 0, (uint32_t[]){1, 9, 30}, 3);
    visit(&r, 0, (uint32_t[]){1, 9, 40}, 3);
    sl_bundles_stats s = sl_bundles_statistics(r.b);
    assert_int_equal(s.requests, 4);
    assert_int_equal(s.prefetched, 2);
    assert_int_equal(s.read, 3);
    assert_int_equal(s.wasted, 1);
    assert_int_equal(s.bytes_wanted, 3 * 512);
    assert_int_equal(s.bytes_read, 4 * 512);
    sl_bundles_destroy(r.b);
}

static void what_lay_in_a_gap_of_the_guess_is_not_read_again(void **state)
{
    (void)state;
    rig r = plain_rig();
    r.config.gap_bytes = 2048;
    open_rig(&r, 8);
    sl_bundles_prefetch(r.b, 0, (uint32_t[]){10, 14}, 2);
    visit(&r, 0, (uint32_t[]){10, 12, 13}, 3);
    sl_bundles_stats s = sl_bundles_statistics(r.b);
    assert_int_equal(s.requests, 1);
    assert_int_equal(s.prefetched, 1); /* it asked for one of the three */
    assert_int_equal(s.wasted, 1);
    sl_bundles_destroy(r.b);
}

static void what_of_a_wrong_guess_has_not_started_is_never_read(void **state)
{
    (void)state;
    rig r = plain_rig();
    open_rig(&r, 1);
    sl_bundles_prefetch(r.b, 0, (uint32_t[]){1, 3, 5, 7, 9}, 5);
    visit(&r, 0, (uint32_t[]){40}, 1);
    assert_int_equal(r.tier->reads, 2); /* the first of the guess, and the one that was needed */
    assert_int_equal(sl_bundles_statistics(r.b).wasted, 5);
    sl_bundles_destroy(r.b);
}

static void the_next_layer_is_read_while_one_is_held(void **state)
{
    (void)state;
    rig r = plain_rig();
    const uint8_t *addresses[3];
    uint32_t now[] = {1, 20, 40}, then[] = {2, 21, 41};
    sl_error err;
    open_rig(&r, 8);
    assert_int_equal(sl_bundles_fetch(r.b, 0, now, 3, addresses, &err), SL_OK);
    sl_bundles_prefetch(r.b, 1, then, 3);
    for (int i = 0; i < 20; i++)
        sl_bundles_poll(r.b);
    check_invariants(&r);
    check_all(&r, 0, now, 3, addresses);
    sl_bundles_done(r.b, 0);
    visit(&r, 1, then, 3);
    sl_bundles_stats s = sl_bundles_statistics(r.b);
    assert_int_equal(s.requests, 6);
    assert_int_equal(s.late, 0);
    sl_bundles_destroy(r.b);
}

/* The least stage, full of a guess that is wrong in all or in part: the fetch finds room all the same. */
static void a_guess_that_fills_the_stage_gives_way(void **state)
{
    (void)state;
    for (uint32_t alignment = 512; alignment <= 4096; alignment *= 8)
        for (uint32_t right = 0; right <= 20; right += 5) {
            rig r = plain_rig();
            uint32_t guess[20], places[20];
            for (uint32_t i = 0; i < 20; i++) {
                guess[i] = 3 * i;
                places[i] = 3 * i + (i >= right);
            }
            r.config.alignment = alignment;
            r.config.wanted_max = 20;
            r.config.staging_bytes = 0;
            open_rig(&r, 4);
            sl_bundles_prefetch(r.b, 0, guess, 20);
            visit(&r, 0, places, 20);
            sl_bundles_prefetch(r.b, 1, guess, 20);
            for (int i = 0; i < 100; i++)
                sl_bundles_poll(r.b);
            visit(&r, 1, places, 20);
            sl_bundles_destroy(r.b);
        }
}

static void a_failed_guess_is_read_again_by_the_fetch(void **state)
{
    (void)state;
    rig r = plain_rig();
    uint32_t places[] = {1, 9, 30};
    open_rig(&r, 8);
    r.tier->fail_at = 2;
    sl_bundles_prefetch(r.b, 0, places, 3);
    for (int i = 0; i < 20; i++)
        sl_bundles_poll(r.b);
    visit(&r, 0, places, 3);
    assert_int_equal(r.tier->reads, 4); /* only the one that failed */
    assert_int_equal(sl_bundles_statistics(r.b).failed, 1);
    sl_bundles_destroy(r.b);
}

static void a_failed_fetch_owes_nothing_and_reads_only_the_rest_when_tried_again(void **state)
{
    (void)state;
    rig r = plain_rig();
    const uint8_t *addresses[3];
    uint32_t places[] = {1, 9, 30};
    sl_error err = {0};
    open_rig(&r, 8);
    r.tier->fail_at = 2;
    assert_int_equal(sl_bundles_fetch(r.b, 0, places, 3, addresses, &err), SL_IO);
    assert_non_null(strstr(err.message, "model.sluice"));
    check_invariants(&r);
    visit(&r, 1, places, 3); /* nothing is owed: another layer may come between */
    visit(&r, 0, places, 3);
    assert_int_equal(r.tier->reads, 3 + 3 + 1);
    sl_bundles_destroy(r.b);
}

static void a_file_that_ends_inside_the_bundles_is_an_error_every_time(void **state)
{
    (void)state;
    rig r = plain_rig();
    const uint8_t *addresses[1];
    sl_error err = {0};
    r.layer[0].offset = (FILE_SIZE + 4095) / 4096 * 4096;
    open_rig(&r, 8);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(sl_bundles_fetch(r.b, 0, (uint32_t[]){5}, 1, addresses, &err), SL_IO);
        assert_non_null(strstr(err.message, "past the end"));
        check_invariants(&r);
    }
    sl_bundles_destroy(r.b);
}

static void what_is_cached_is_not_read_again(void **state)
{
    (void)state;
    rig r = plain_rig();
    r.layer[0].capacity = r.layer[0].count;
    uint32_t places[] = {1, 9, 30};
    open_rig(&r, 8);
    visit(&r, 0, places, 3);
    visit(&r, 0, places, 3);
    sl_bundles_stats s = sl_bundles_statistics(r.b);
    assert_int_equal(s.requests, 3);
    assert_int_equal(s.cached, 3);
    assert_int_equal(s.admitted, 3);
    sl_bundles_destroy(r.b);
}

static void what_is_held_is_its_price_and_nothing_is_allocated_later(void **state)
{
    (void)state;
    uint64_t random = 5;
    for (int trial = 0; trial < 60; trial++) {
        rig r;
        uint32_t places[PLACES_MAX];
        random_rig(&r, &random, trial % 2 == 0 ? 512 : 8192);
        r.config.layers = r.layer;
        sl_bundles_cost cost = sl_bundles_price(&r.config);
        pages_bytes = 0;
        open_rig(&r, 8);
        assert_int_equal(pages_bytes, cost.slots_bytes + cost.staging_bytes + cost.tables_bytes);
        uint64_t calls = heap_calls;
        for (uint32_t i = 0; i < 3 * r.config.layer_count; i++) {
            uint32_t layer = i % r.config.layer_count;
            const uint8_t *addresses[PLACES_MAX];
            sl_error err;
            uint32_t count = random_set(&random, r.layer[layer].count, r.config.wanted_max, 400, places);
            sl_bundles_prefetch(r.b, layer, places, count / 2);
            assert_int_equal(sl_bundles_fetch(r.b, layer, places, count, addresses, &err), SL_OK);
            sl_bundles_done(r.b, layer);
        }
        assert_int_equal(heap_calls, calls);
        assert_int_equal(pages_bytes, cost.slots_bytes + cost.staging_bytes + cost.tables_bytes);
        sl_bundles_destroy(r.b);
    }
}

static void a_slot_holds_a_bundle_without_its_padding_in_an_odd_number_of_lines(void **state)
{
    (void)state;
    for (uint32_t bytes = 1; bytes < 9000; bytes++) {
        sl_bundle_layer l = {.stride = 16384, .bytes = bytes, .count = 100, .capacity = 100};
        uint32_t slot = sl_bundles_slot_bytes(&l);
        assert_true(slot >= bytes && slot < bytes + 128 && slot / 64 % 2 == 1 && slot % 64 == 0);
    }
}

static void wrong_calls_are_refused(void **state)
{
    (void)state;
    rig r = plain_rig();
    const uint8_t *addresses[3];
    sl_error err;
    r.config.wanted_max = 2;
    open_rig(&r, 8);
    assert_int_equal(sl_bundles_fetch(r.b, 2, (uint32_t[]){1}, 1, addresses, &err), SL_INVALID);
    assert_int_equal(sl_bundles_fetch(r.b, 0, (uint32_t[]){64}, 1, addresses, &err), SL_INVALID);
    assert_int_equal(sl_bundles_fetch(r.b, 0, (uint32_t[]){2, 2}, 2, addresses, &err), SL_INVALID);
    assert_int_equal(sl_bundles_fetch(r.b, 0, (uint32_t[]){1, 2, 3}, 3, addresses, &err), SL_INVALID);
    sl_bundles_prefetch(r.b, 9, (uint32_t[]){1}, 1);
    sl_bundles_prefetch(r.b, 0, (uint32_t[]){3, 1}, 2);
    assert_int_equal(sl_bundles_fetch(r.b, 0, NULL, 0, NULL, &err), SL_OK);
    assert_int_equal(sl_bundles_fetch(r.b, 1, NULL, 0, NULL, &err), SL_INVALID); /* a done is owed */
    sl_bundles_done(r.b, 0);
    assert_int_equal(r.tier->reads, 0);
    assert_int_equal(sl_bundles_attach(r.b, &open_strict(512, 1)->base, &err), SL_INVALID);
    sl_bundles_destroy(r.b);
}

static void a_configuration_that_cannot_work_is_refused(void **state)
{
    (void)state;
    sl_error err;
    sl_bundles *b;
    for (int what = 0; what < 10; what++) {
        rig r = plain_rig();
        r.config.layers = r.layer;
        r.config.alignment = what == 0 ? 768 : what == 1 ? 0 : 512;
        r.config.wanted_max = what == 2 ? 0 : 64;
        r.config.staging_bytes = what == 3 ? 64 * 512 - 512 : 0;
        r.layer[1].capacity = what == 4 ? 65 : 0;
        r.layer[1].stride = what == 5 ? 500 : 512;
        r.layer[1].offset = what == 6 ? 1000 : 65536;
        r.layer[1].bytes = what == 7 ? 0 : what == 8 ? 513 : 512;
        assert_int_equal(sl_bundles_create(&r.config, &b, &err), what == 9 ? SL_OK : SL_INVALID);
        if (what < 9)
            continue;
        assert_int_equal(sl_bundles_fetch(b, 0, (uint32_t[]){1}, 1, NULL, &err), SL_INVALID);  /* no tier */
        assert_int_equal(sl_bundles_attach(b, &open_strict(4096, 1)->base, &err), SL_INVALID); /* coarser than expected */
        assert_null(sl_bundles_tier(b));
        sl_bundles_destroy(b);
    }
    sl_bundles_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lru_keeps_what_was_used_last),
        cmocka_unit_test(lru_keeps_its_order_when_its_count_is_set_back),
        cmocka_unit_test(frequent_gives_nothing_up_for_what_is_not_used_more),
        cmocka_unit_test(static_holds_the_first_places_each_in_its_own_slot),
        cmocka_unit_test(a_random_script_finds_every_promise_kept),
        cmocka_unit_test(every_read_can_fail_and_be_tried_again),
        cmocka_unit_test(neighbours_are_read_together_in_requests_of_limited_size),
        cmocka_unit_test(a_gap_is_read_when_that_is_allowed_and_there_is_room),
        cmocka_unit_test(a_run_takes_no_gap_beyond_the_rules_and_the_least_is_the_least),
        cmocka_unit_test(a_right_guess_leaves_nothing_to_read),
        cmocka_unit_test(a_guess_that_is_still_on_its_way_is_late),
        cmocka_unit_test(what_is_ready_is_told_without_waiting),
        cmocka_unit_test(a_guess_that_is_right_in_part_is_completed),
        cmocka_unit_test(what_lay_in_a_gap_of_the_guess_is_not_read_again),
        cmocka_unit_test(what_of_a_wrong_guess_has_not_started_is_never_read),
        cmocka_unit_test(the_next_layer_is_read_while_one_is_held),
        cmocka_unit_test(a_guess_that_fills_the_stage_gives_way),
        cmocka_unit_test(a_failed_guess_is_read_again_by_the_fetch),
        cmocka_unit_test(a_failed_fetch_owes_nothing_and_reads_only_the_rest_when_tried_again),
        cmocka_unit_test(a_file_that_ends_inside_the_bundles_is_an_error_every_time),
        cmocka_unit_test(what_is_cached_is_not_read_again),
        cmocka_unit_test(what_is_held_is_its_price_and_nothing_is_allocated_later),
        cmocka_unit_test(a_slot_holds_a_bundle_without_its_padding_in_an_odd_number_of_lines),
        cmocka_unit_test(wrong_calls_are_refused),
        cmocka_unit_test(a_configuration_that_cannot_work_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
