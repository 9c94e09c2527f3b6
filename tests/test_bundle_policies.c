/* tests/test_bundle_policies.c: what policies keep, on ledgers alone; then bundles by a random script against a simple model of what
 * must be cached. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/bundle_rig.h"

#define FADE (1u << SLI_FADE)

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lru_keeps_what_was_used_last),
        cmocka_unit_test(lru_keeps_its_order_when_its_count_is_set_back),
        cmocka_unit_test(frequent_gives_nothing_up_for_what_is_not_used_more),
        cmocka_unit_test(static_holds_the_first_places_each_in_its_own_slot),
        cmocka_unit_test(a_random_script_finds_every_promise_kept),
        cmocka_unit_test(every_read_can_fail_and_be_tried_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
