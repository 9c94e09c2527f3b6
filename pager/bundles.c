/* pager/bundles.c: see bundles.h. Prices and builds the whole; what moves is in bundle_fetch.c.
 *
 * Three arenas, each one sl_pages_alloc: the slots of all layers, the two stages, the tables (this structure among them). */
#include "pager/bundles.h"

#include "core/os.h"
#include "pager/bundles_private.h"

#include <assert.h>

#define ALIGNMENT_MAX     65536
#define PAGE_ALIGNMENT    4096 /* what sl_pages_alloc gives at least */
#define HUGE_ALIGNMENT    ((uint64_t)2 << 20)
#define TABLE_ALIGNMENT   64
#define STAGING_BYTES_MAX ((uint64_t)1 << 31) /* of a stage: places in it are 32 bits */
#define STRIDE_MAX        ((uint32_t)1 << 26)
#define REQUEST_MAX       ((uint32_t)1 << 26)

typedef struct layout { /* sizes as allocated, and where in the tables' arena what begins */
    uint64_t slots, staging, tables;
    uint64_t stage_bytes; /* of one, in use */
    uint64_t caches_at, layers_at, used_at, some_at, admission_at, requests_at, entries_at;
    uint32_t request_bytes, requests, entries; /* of one stage */
} layout;

static uint64_t round_up(uint64_t value, uint64_t unit)
{
    return (value + unit - 1) / unit * unit;
}

static uint64_t table(uint64_t count, uint64_t bytes)
{
    return round_up(count * bytes, TABLE_ALIGNMENT);
}

uint64_t sl_bundles_staging_min(const sl_bundle_layer *layers, uint32_t layer_count, uint32_t wanted_max, uint32_t alignment)
{
    uint64_t least = alignment;
    for (uint32_t i = 0; i < layer_count; i++) {
        const sl_bundle_layer *l = &layers[i];
        uint64_t wanted = l->count < wanted_max ? l->count : wanted_max;
        uint64_t apart = wanted * sli_run_alone_max(l, alignment);
        /* never more than the whole layer: runs that meet are one */
        uint64_t end = round_up(l->offset + (uint64_t)l->count * l->stride, alignment), whole = end - l->offset / alignment * alignment;
        uint64_t need = apart < whole ? apart : whole;
        least = need > least ? need : least;
    }
    return least;
}

/* Where bundles and uses, slots and worths of one layer lie in the tables. */
static uint64_t layer_tables(const sl_bundle_layer *l)
{
    return table(l->count, sizeof(uint32_t)) + table(l->capacity, sizeof(uint32_t)) + table(l->count, sizeof(uint16_t));
}

/* Entries have disjoint memory, and are of one layer. */
static uint32_t entries_max(const sl_bundles_config *config, uint64_t stage_bytes)
{
    uint64_t most = 0;
    for (uint32_t i = 0; i < config->layer_count; i++) {
        const sl_bundle_layer *l = &config->layers[i];
        uint64_t fit = l->count > 0 ? stage_bytes / l->stride : 0, entries = fit < l->count ? fit : l->count;
        most = entries > most ? entries : most;
    }
    return (uint32_t)most;
}

uint32_t sl_bundles_slot_bytes(const sl_bundle_layer *layer)
{
    return ((layer->bytes + SL_BUNDLE_ALIGNMENT - 1) / SL_BUNDLE_ALIGNMENT | 1) * SL_BUNDLE_ALIGNMENT;
}

static layout lay_out(const sl_bundles_config *config)
{
    layout l = {0};
    uint32_t alignment = config->alignment;
    uint64_t staging = config->staging_bytes, tables_of_layers = 0;
    if (staging == 0)
        staging = sl_bundles_staging_min(config->layers, config->layer_count, config->wanted_max, alignment);
    l.stage_bytes = round_up(staging, alignment);
    l.staging = sl_pages_round(SLI_STAGES * l.stage_bytes);
    if (alignment > PAGE_ALIGNMENT && l.staging < HUGE_ALIGNMENT)
        l.staging = HUGE_ALIGNMENT; /* smaller memory need not be aligned to more than a page */
    for (uint32_t i = 0; i < config->layer_count; i++) {
        l.slots += (uint64_t)config->layers[i].capacity * sl_bundles_slot_bytes(&config->layers[i]);
        tables_of_layers += layer_tables(&config->layers[i]);
    }
    l.slots = l.slots > 0 ? sl_pages_round(l.slots) : 0;

    l.request_bytes = (uint32_t)round_up(config->request_bytes > 0 ? config->request_bytes : SL_BUNDLES_REQUEST_BYTES, alignment);
    /* the requests of a guess, and those of a fetch: each run may end with a short one */
    l.requests = (uint32_t)(2 * (uint64_t)config->wanted_max + l.stage_bytes / l.request_bytes + 2);
    l.entries = entries_max(config, l.stage_bytes);
    l.caches_at = table(1, sizeof(sl_bundles));
    l.layers_at = l.caches_at + table(config->layer_count, sizeof(sli_cache));
    l.used_at = l.layers_at + tables_of_layers;
    l.some_at = l.used_at + table(config->wanted_max, sizeof(uint32_t));
    l.admission_at = l.some_at + table(config->wanted_max, sizeof(uint32_t));
    l.requests_at = l.admission_at + table(config->wanted_max, sizeof(sli_admission));
    l.entries_at = l.requests_at + SLI_STAGES * table(l.requests, sizeof(sli_request));
    l.tables = sl_pages_round(l.entries_at + SLI_STAGES * table(l.entries, sizeof(sli_entry)));
    return l;
}

sl_bundles_cost sl_bundles_price(const sl_bundles_config *config)
{
    layout l = lay_out(config);
    return (sl_bundles_cost){.slots_bytes = l.slots, .staging_bytes = l.staging, .tables_bytes = l.tables};
}

static sl_status check_layer(const sl_bundle_layer *l, uint32_t index, sl_error *err)
{
    if (l->count == 0 && l->capacity == 0)
        return SL_OK;
    if (l->stride == 0 || l->stride > STRIDE_MAX || l->stride % SL_BUNDLE_ALIGNMENT != 0 || l->offset % SL_BUNDLE_ALIGNMENT != 0 ||
        l->offset > INT64_MAX / 2)
        return sl_fail(err, SL_INVALID, "layer %u has bundles of %u bytes from %llu on; multiples of %d are needed, up to 64 MiB", index,
                       l->stride, (unsigned long long)l->offset, SL_BUNDLE_ALIGNMENT);
    if (l->bytes == 0 || l->bytes > l->stride)
        return sl_fail(err, SL_INVALID, "layer %u has bundles of %u bytes, of which %u are used; it must be 1 to all of them", index,
                       l->stride, l->bytes);
    if (l->capacity > l->count || l->count >= SLI_IN_STAGE)
        return sl_fail(err, SL_INVALID, "layer %u has %u slots for %u bundles; no more slots than bundles are of use", index, l->capacity,
                       l->count);
    return SL_OK;
}

static sl_status check_config(const sl_bundles_config *config, sl_error *err)
{
    uint32_t alignment = config->alignment;
    if (alignment == 0 || alignment > ALIGNMENT_MAX || (alignment & (alignment - 1)) != 0)
        return sl_fail(err, SL_INVALID, "an alignment of %u; a power of two up to %d is needed", alignment, ALIGNMENT_MAX);
    if (config->wanted_max == 0 || config->wanted_max >= SLI_IN_STAGE / 4 || config->request_bytes > REQUEST_MAX)
        return sl_fail(err, SL_INVALID, "fetches of at most %u bundles in requests of at most %u bytes; 1 bundle and 64 MiB are bounds",
                       config->wanted_max, config->request_bytes);
    for (uint32_t i = 0; i < config->layer_count; i++)
        SL_TRY(check_layer(&config->layers[i], i, err));
    uint64_t least = sl_bundles_staging_min(config->layers, config->layer_count, config->wanted_max, alignment);
    if ((config->staging_bytes != 0 && config->staging_bytes < least) || config->staging_bytes > STAGING_BYTES_MAX ||
        least > STAGING_BYTES_MAX)
        return sl_fail(err, SL_INVALID, "a stage of %llu bytes for %u bundles; %llu bytes are the least, 2 GiB the most",
                       (unsigned long long)config->staging_bytes, config->wanted_max, (unsigned long long)least);
    return SL_OK;
}

static void init_caches(sl_bundles *b, const sl_bundles_config *config, uint8_t *tables)
{
    uint8_t *slots = b->slots;
    for (uint32_t i = 0; i < config->layer_count; i++) {
        const sl_bundle_layer *l = &config->layers[i];
        uint8_t *place_of = tables + table(l->count, sizeof(uint32_t)), *worth = place_of + table(l->capacity, sizeof(uint32_t));
        sli_cache_init(&b->cache[i], l, config->policy, slots, (uint32_t *)(void *)tables, (uint32_t *)(void *)place_of,
                       (uint16_t *)(void *)worth);
        tables += layer_tables(l);
        if (l->capacity > 0)
            slots += (uint64_t)l->capacity * sl_bundles_slot_bytes(l);
    }
}

static void init_stages(sl_bundles *b, const layout *l, uint8_t *tables)
{
    for (uint32_t i = 0; i < SLI_STAGES; i++) {
        uint8_t *requests = tables + l->requests_at + i * table(l->requests, sizeof(sli_request));
        uint8_t *entries = tables + l->entries_at + i * table(l->entries, sizeof(sli_entry));
        b->stage[i] = (sli_stage){.memory = b->staging + i * l->stage_bytes,
                                  .bytes = (uint32_t)l->stage_bytes,
                                  .request = (sli_request *)(void *)requests,
                                  .request_max = l->requests,
                                  .entry = (sli_entry *)(void *)entries,
                                  .entry_max = l->entries};
    }
}

sl_status sl_bundles_create(const sl_bundles_config *config, sl_bundles **out, sl_error *err)
{
    *out = NULL;
    SL_TRY(check_config(config, err));
    layout l = lay_out(config);
    uint8_t *tables = sl_pages_alloc(l.tables);
    if (tables == NULL)
        return sl_fail(err, SL_NO_MEMORY, "no memory for the bundles' tables (%llu bytes)", (unsigned long long)l.tables);
    sl_bundles *b = (sl_bundles *)(void *)tables;
    b->tables_bytes = l.tables;
    b->slots_bytes = l.slots;
    b->staging_bytes = l.staging;
    b->staging = sl_pages_alloc(l.staging);
    b->slots = l.slots > 0 ? sl_pages_alloc(l.slots) : NULL;
    if (b->staging == NULL || (l.slots > 0 && b->slots == NULL)) {
        sl_bundles_destroy(b);
        return sl_fail(err, SL_NO_MEMORY, "no memory for bundles that stay (%llu bytes) and the two stages (%llu bytes)",
                       (unsigned long long)l.slots, (unsigned long long)l.staging);
    }
    b->cache = (sli_cache *)(void *)(tables + l.caches_at);
    b->layer_count = config->layer_count;
    b->file = config->file;
    b->wanted_max = config->wanted_max;
    b->how = (sli_reading){.alignment = config->alignment, .gap_bytes = config->gap_bytes, .request_bytes = l.request_bytes};
    b->used = (uint32_t *)(void *)(tables + l.used_at);
    b->some = (uint32_t *)(void *)(tables + l.some_at);
    b->admission = (sli_admission *)(void *)(tables + l.admission_at);
    init_caches(b, config, tables + l.layers_at);
    init_stages(b, &l, tables);
    *out = b;
    return SL_OK;
}

void *sl_bundles_staging(sl_bundles *b, size_t *bytes)
{
    *bytes = b->staging_bytes;
    return b->staging;
}

sl_status sl_bundles_attach(sl_bundles *b, sl_tier *tier, sl_error *err)
{
    sl_status status = SL_OK;
    if (b->tier != NULL)
        status = sl_fail(err, SL_INVALID, "the bundles have a tier already");
    else if (tier->attrs.alignment == 0 || b->how.alignment % tier->attrs.alignment != 0)
        status = sl_fail(err, SL_INVALID, "the %s tier aligns to %u bytes; the bundles were made for %u", tier->attrs.engine,
                         tier->attrs.alignment, b->how.alignment);
    if (status != SL_OK)
        sl_tier_destroy(tier);
    else
        b->tier = tier;
    return status;
}

void sl_bundles_trace(sl_bundles *b, sl_trace *trace)
{
    b->trace = trace;
}

void sl_bundles_destroy(sl_bundles *b)
{
    if (b == NULL)
        return;
    sl_tier_destroy(b->tier); /* what is in flight still writes into the stages */
    sl_pages_free(b->slots, b->slots_bytes);
    sl_pages_free(b->staging, b->staging_bytes);
    sl_pages_free(b, b->tables_bytes);
}

sl_bundles_stats sl_bundles_statistics(const sl_bundles *b)
{
    sl_bundles_stats stats = b->stats;
    for (uint32_t i = 0; i < b->layer_count; i++)
        stats.resident_bytes += (uint64_t)b->cache[i].ledger.filled * sl_bundles_slot_bytes(&b->cache[i].layer);
    return stats;
}

const sl_tier_attrs *sl_bundles_tier(const sl_bundles *b)
{
    return b->tier != NULL ? &b->tier->attrs : NULL;
}

const char *sli_bundles_broken(const sl_bundles *b, uint8_t *seen)
{
    uint32_t in_flight = 0, held = 0;
    for (uint32_t i = 0; i < SLI_STAGES; i++) {
        const char *broken = sli_stage_broken(&b->stage[i]);
        if (broken != NULL)
            return broken;
        in_flight += b->stage[i].in_flight;
        held += b->stage[i].state == SLI_STAGE_HELD;
    }
    if (in_flight != b->in_flight || (b->tier != NULL && in_flight > b->tier->attrs.depth))
        return "F1";
    if (held != (b->held != NULL) || (b->stage[0].cache != NULL && b->stage[0].cache == b->stage[1].cache &&
                                      b->stage[0].state != SLI_STAGE_DRAINING && b->stage[1].state != SLI_STAGE_DRAINING))
        return "F2";
    for (uint32_t i = 0; i < b->layer_count; i++) {
        const char *broken = sli_cache_broken(&b->cache[i], seen);
        if (broken != NULL)
            return broken;
    }
    return NULL;
}
