/* tests/bundle_rig.h: bundles over the synthetic device, which knows every byte, with a tier between them that holds every read to the
 * contract and fails some. Needs cmocka's names. */
#ifndef SL_TESTS_BUNDLE_RIG_H
#define SL_TESTS_BUNDLE_RIG_H

#include "pager/bundles.h"
#include "pager/bundles_private.h"

#include <stdlib.h>
#include <string.h>

#define SEED       4711
#define FILE_SIZE  2000003 /* the last block is cut short */
#define LAYERS_MAX 4
#define PLACES_MAX 200
#define DEPTH_MAX  64

/* xorshift: the script is the same on every machine */
static inline uint32_t rnd(uint64_t *state, uint32_t limit)
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

static inline sl_status strict_submit(sl_tier *tier, const sl_read *read, sl_error *err)
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

static inline size_t strict_reap(sl_tier *tier, bool wait, sl_read_done *done, size_t max, sl_error *err)
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

static inline void strict_destroy(sl_tier *tier)
{
    strict_tier *t = (strict_tier *)tier;
    sl_tier_destroy(t->inner);
    free(t);
}

static const sl_tier_ops strict_ops = {.submit = strict_submit, .reap = strict_reap, .destroy = strict_destroy};

static inline strict_tier *open_strict(uint32_t alignment, uint32_t depth)
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

static inline void open_rig(rig *r, uint32_t depth)
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
static inline rig plain_rig(void)
{
    rig r = {
        .layer = {{.offset = 4096, .stride = 512, .bytes = 512, .count = 64}, {.offset = 65536, .stride = 512, .bytes = 512, .count = 64}}};
    r.config = (sl_bundles_config){
        .layer_count = 2, .alignment = 512, .wanted_max = 64, .staging_bytes = 1 << 18, .request_bytes = 8192, .policy = SL_BUNDLES_LRU};
    return r;
}

static inline void check_invariants(rig *r)
{
    const char *broken = sli_bundles_broken(r->b, r->seen);
    if (broken != NULL)
        fail_msg("invariant %s does not hold", broken);
}

static inline void check_bundle(const sl_bundle_layer *layer, uint32_t place, const uint8_t *data)
{
    uint64_t from = layer->offset + (uint64_t)place * layer->stride;
    assert_int_equal((uintptr_t)data % SL_BUNDLE_ALIGNMENT, 0);
    for (uint32_t i = 0; i < layer->bytes; i++)
        if (data[i] != sl_synthetic_byte(SEED, from + i))
            fail_msg("byte %u of the bundle at place %u is wrong", i, place);
}

static inline void check_all(const rig *r, uint32_t layer, const uint32_t *places, uint32_t count, const uint8_t *const *addresses)
{
    for (uint32_t i = 0; i < count; i++)
        check_bundle(&r->layer[layer], places[i], addresses[i]);
}

/* fetch, check, done */
static inline void visit(rig *r, uint32_t layer, const uint32_t *places, uint32_t count)
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

static inline uint32_t random_set(uint64_t *state, uint32_t limit, uint32_t most, uint32_t per_mille, uint32_t *places)
{
    uint32_t count = 0;
    for (uint32_t p = 0; p < limit && count < most; p++)
        if (rnd(state, 1000) < per_mille)
            places[count++] = p;
    return count;
}

static inline void random_rig(rig *r, uint64_t *state, uint32_t alignment)
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

#endif
