/* pager/replay_model.c: the accesses of a record under another policy, with other memory, over another link. See replay.h.
 *
 * Time. The link reads what misses in the order of its use, as far ahead as the ring has room: a read begins when the one before it is done and what
 * it needs room of has been used. Neurons have stages of their own: their reads begin when they are asked for, or guessed. A wait ends when
 * the read does; computing takes what it took in the run. */
#include "pager/bundle_runs.h"
#include "pager/replay_private.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define REQUEST_MAX ((uint64_t)1 << 20) /* of units; as pager.c has it */

/* ---- the accesses ---- */

static bool add(sl_replay *r, sli_access access, const uint32_t *list)
{
    if (r->count == r->capacity) {
        size_t capacity = 2 * r->capacity + 4096;
        sli_access *grown = realloc(r->access, capacity * sizeof *grown);
        if (grown == NULL)
            return false;
        r->access = grown;
        r->capacity = capacity;
    }
    if (list != NULL && r->listed + access.count >= r->list_capacity) {
        size_t capacity = 2 * r->list_capacity + access.count + 65536;
        uint32_t *grown = realloc(r->list, capacity * sizeof *grown);
        if (grown == NULL)
            return false;
        r->list = grown;
        r->list_capacity = capacity;
    }
    if (list != NULL) {
        access.first = r->listed;
        memcpy(r->list + r->listed, list, access.count * sizeof *list);
        r->listed += access.count;
        r->list_max = access.count > r->list_max ? access.count : r->list_max;
    }
    r->access[r->count++] = access;
    return r->count < SLI_NEVER;
}

static uint64_t widened(uint64_t offset, uint64_t bytes, uint64_t alignment)
{
    return (offset + bytes + alignment - 1) / alignment * alignment - offset / alignment * alignment;
}

static bool take(sl_replay *r, const sl_record_event *e)
{
    sli_access a = {.op = (uint8_t)e->op, .number = (uint32_t)e->number, .count = e->count, .compute_ns = e->compute_ns};
    uint64_t bytes = 0;
    switch (e->op) {
    case SL_RECORD_PASS: return add(r, a, NULL);
    case SL_RECORD_USE:
    case SL_RECORD_ACQUIRE: a.op = SL_RECORD_ACQUIRE; return add(r, a, NULL);
    case SL_RECORD_SMALL:
        for (uint32_t i = 0; i < e->count; i++)
            bytes += widened(e->wide[i], e->bytes, r->file->head.alignment);
        a.bytes = bytes < UINT32_MAX ? (uint32_t)bytes : UINT32_MAX;
        return add(r, a, NULL);
    case SL_RECORD_OFFER: a.first = e->first; return add(r, a, NULL);
    case SL_RECORD_FETCH: r->fetches[e->number]++; return add(r, a, e->list);
    case SL_RECORD_PREFETCH: return add(r, a, e->list);
    default: return true;
    }
}

/* Backwards: who comes next. */
static bool find_next(sl_replay *r)
{
    size_t units = r->file->head.unit_count, layers = r->file->head.layer_count;
    uint32_t *unit_next = malloc((units + 1) * sizeof *unit_next), *fetch = malloc((layers + 1) * sizeof *fetch);
    r->coming = malloc((layers * r->places_max + 1) * sizeof *r->coming);
    r->next = malloc((r->listed + 1) * sizeof *r->next);
    bool good = unit_next != NULL && fetch != NULL && r->coming != NULL && r->next != NULL;
    if (good) {
        memset(unit_next, 0xff, (units + 1) * sizeof *unit_next);
        memset(r->coming, 0xff, (layers * r->places_max + 1) * sizeof *r->coming);
        memcpy(fetch, r->fetches, layers * sizeof *fetch);
    }
    for (size_t i = r->count; good && i-- > 0;) {
        sli_access *a = &r->access[i];
        if (a->op == SL_RECORD_ACQUIRE) {
            a->next = unit_next[a->number];
            unit_next[a->number] = (uint32_t)i;
        } else if (a->op == SL_RECORD_FETCH) {
            uint32_t *coming = r->coming + (size_t)a->number * r->places_max, now = --fetch[a->number];
            for (size_t k = a->first; r->list != NULL && k < a->first + a->count; k++) {
                r->next[k] = coming[r->list[k]];
                coming[r->list[k]] = now;
            }
        }
    }
    free(unit_next);
    free(fetch);
    return good;
}

sl_status sl_replay_open(const sl_record_file *file, sl_replay **out, sl_error *err)
{
    sl_record_cursor cursor = {0};
    sl_record_event e;
    sl_replay *r = calloc(1, sizeof *r);
    *out = NULL;
    if (r == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for a replay");
    r->file = file;
    r->fetches = calloc(file->head.layer_count + 1, sizeof *r->fetches);
    for (uint64_t i = 0; i < file->head.layer_count; i++)
        r->places_max = file->layers[i].count > r->places_max ? file->layers[i].count : r->places_max;
    sl_status status = r->fetches != NULL ? sl_record_begin(file, &cursor, err) : SL_NO_MEMORY;
    bool good = true;
    while (status == SL_OK && good && sl_record_next(&cursor, &e))
        good = take(r, &e);
    if (status == SL_OK)
        sl_record_end(&cursor);
    if (status != SL_OK || !good || !find_next(r)) {
        sl_replay_close(r);
        return sl_fail(err, SL_NO_MEMORY, "out of memory for the accesses of %llu events", (unsigned long long)file->head.event_count);
    }
    *out = r;
    return SL_OK;
}

void sl_replay_close(sl_replay *r)
{
    if (r == NULL)
        return;
    free(r->access);
    free(r->list);
    free(r->next);
    free(r->fetches);
    free(r->coming);
    free(r);
}

uint64_t sl_replay_cache_bytes(const sl_record_file *file)
{
    uint64_t bytes = 0;
    for (uint64_t i = 0; i < file->head.unit_count; i++)
        bytes += file->units[i].home ? file->units[i].bytes : 0;
    for (uint64_t i = 0; i < file->head.layer_count; i++)
        bytes += (uint64_t)file->layers[i].capacity * sl_bundles_slot_bytes(&file->layers[i]);
    return bytes;
}

double sl_replay_link(const sl_record_file *file)
{
    const sl_record_head *h = &file->head;
    double read = (double)(h->bytes_read + h->bundle_bytes_read);
    return h->throttle_Bps > 0 ? (double)h->throttle_Bps : h->busy_ns > 0 && read > 0 ? read * 1e9 / (double)h->busy_ns : 1e9;
}

/* ---- playing them ---- */

typedef struct ahead { /* what was read and used */
    uint64_t bytes;    /* of all up to it */
    double used_at;
} ahead;

typedef struct play {
    const sl_replay *replay;
    const sl_record_file *file;
    sli_unit_cache *units;
    sli_neuron_cache *neurons; /* [layer] */
    double link_Bps, now, link_free, waited, begin;
    bool begun;
    /* units */
    uint64_t request_from, request_end, request_file, request_max, streamed;
    ahead *window;
    size_t window_first, window_count, window_capacity;
    /* a guess, of one layer */
    uint32_t guess_layer, *guess, guess_count, *useful;
    double guess_at;
    sl_replay_result *out;
} play;

static void wait_until(play *p, double when)
{
    if (when > p->now) {
        p->waited += when - p->now;
        p->now = when;
    }
}

/* Since when the ring has room for the bytes that end at `end`: what lies a ring's length before them has been used. */
static double room_since(play *p, uint64_t end)
{
    uint64_t ring = p->file->head.ring_bytes;
    while (p->window_first < p->window_count && p->window[p->window_first].bytes + ring < end)
        p->window_first++;
    return end > ring && p->window_first < p->window_count ? p->window[p->window_first].used_at : 0;
}

static bool remember_use(play *p)
{
    if (p->window_count == p->window_capacity) {
        size_t capacity = 2 * p->window_capacity + 1024;
        ahead *grown = realloc(p->window, capacity * sizeof *grown);
        if (grown == NULL)
            return false;
        p->window = grown;
        p->window_capacity = capacity;
    }
    p->window[p->window_count++] = (ahead){p->streamed, p->now};
    return true;
}

/* What the read of the unit adds: it joins the request before it where the pager would have it so. */
static uint64_t read_bytes(play *p, const sl_unit *u, uint64_t missing)
{
    uint64_t alignment = p->file->head.alignment, from = u->offset / alignment * alignment;
    uint64_t end = (u->offset + missing + alignment - 1) / alignment * alignment;
    if (p->request_file == u->file && from <= p->request_end && u->offset >= p->request_from && end > p->request_end &&
        end - p->request_from <= p->request_max) {
        uint64_t added = end - p->request_end;
        p->request_end = end;
        return added;
    }
    p->request_file = u->file;
    p->request_from = from;
    p->request_end = end;
    p->out->requests++;
    return end - from;
}

static bool use_unit(play *p, const sli_access *a, uint32_t index)
{
    const sl_unit *u = &p->file->units[a->number];
    uint64_t missing = sli_unit_cache_use(p->units, a->number, index, a->next);
    p->out->used_bytes += u->bytes;
    p->out->hit_bytes += u->bytes - missing;
    if (missing == 0)
        return true;
    uint64_t bytes = read_bytes(p, u, missing);
    p->out->bytes_read += bytes;
    p->streamed += bytes;
    double start = fmax(p->link_free, room_since(p, p->streamed));
    p->link_free = start + (double)bytes / p->link_Bps;
    wait_until(p, p->link_free);
    return remember_use(p);
}

/* What reading these places takes. */
static uint64_t runs_of(const play *p, uint32_t layer, const uint32_t *places, uint32_t count, uint64_t *requests)
{
    const sl_record_head *h = &p->file->head;
    const sl_bundle_layer *l = &p->file->layers[layer];
    uint32_t alignment = (uint32_t)h->bundle_alignment;
    uint64_t least = sli_runs_least(l, places, count, alignment, NULL), bytes = 0;
    uint64_t spare = h->stage_bytes > least ? h->stage_bytes - least : 0;
    for (uint32_t done = 0; done < count;) {
        sli_run run = sli_run_next(l, places + done, count - done, alignment, (uint32_t)h->gap_bytes, &spare);
        bytes += run.bytes;
        *requests += (run.bytes + h->request_bytes - 1) / h->request_bytes;
        done += run.places;
    }
    return bytes;
}

static void guess(play *p, const sli_access *a)
{
    p->guess_layer = a->number;
    p->guess_at = p->now;
    p->guess_count = sli_neuron_cache_absent(&p->neurons[a->number], p->replay->list + a->first, a->count, p->guess);
}

/* Of the missing places, those that were guessed, in `useful`. Both lists rise. */
static uint32_t guessed(play *p, uint32_t layer, const uint32_t *missing, uint32_t count)
{
    uint32_t n = 0;
    for (uint32_t i = 0, k = 0; p->guess_layer == layer && i < count; i++) {
        while (k < p->guess_count && p->guess[k] < missing[i])
            k++;
        if (k < p->guess_count && p->guess[k] == missing[i])
            p->useful[n++] = missing[i];
    }
    return n;
}

static void use_neurons(play *p, const sli_access *a)
{
    sli_neuron_cache *c = &p->neurons[a->number];
    uint64_t requests = 0, unused = 0;
    uint32_t missing = sli_neuron_cache_use(c, p->replay->list + a->first, p->replay->next + a->first, a->count);
    uint32_t useful = guessed(p, a->number, c->missing, missing);
    uint64_t needed = runs_of(p, a->number, c->missing, missing, &requests), wasted = 0, ahead_bytes = 0;
    double start = fmax(p->link_free, p->now);
    if (p->guess_layer == a->number && p->guess_count > 0) { /* of the guess, the link has read a part */
        uint64_t all = runs_of(p, a->number, p->guess, p->guess_count, &unused);
        uint64_t good = runs_of(p, a->number, p->useful, useful, &unused);
        double since = fmax(p->link_free, p->guess_at), read = fmax(0, p->now - since) * p->link_Bps;
        double part = all > 0 ? fmin(1, read / (double)all) : 0;
        ahead_bytes = (uint64_t)(part * (double)good);
        wasted = all > good ? (uint64_t)(part * (double)(all - good)) : 0;
        ahead_bytes = ahead_bytes < needed ? ahead_bytes : needed;
        p->guess_layer = UINT32_MAX;
    }
    uint64_t stride = c->layer.stride;
    p->out->used_bytes += a->count * stride;
    p->out->hit_bytes += (a->count - missing) * stride;
    p->out->bytes_read += needed + wasted;
    p->out->requests += requests;
    if (needed == 0)
        return;
    p->link_free = start + (double)(needed - ahead_bytes) / p->link_Bps;
    if (needed > ahead_bytes)
        wait_until(p, p->link_free);
}

static bool step(play *p, const sli_access *a, uint32_t index)
{
    if (a->op == SL_RECORD_PASS && !p->begun) {
        p->begun = true;
        p->begin = p->now;
        p->waited = 0;
    }
    p->now += (double)a->compute_ns * 1e-9;
    switch ((sl_record_op)a->op) {
    case SL_RECORD_ACQUIRE: return use_unit(p, a, index);
    case SL_RECORD_FETCH: use_neurons(p, a); return true;
    case SL_RECORD_PREFETCH: guess(p, a); return true;
    case SL_RECORD_OFFER: sli_neuron_cache_offer(&p->neurons[a->number], (uint32_t)a->first, a->count); return true;
    case SL_RECORD_SMALL:
        p->out->bytes_read += a->bytes;
        p->out->requests += a->count;
        p->link_free = fmax(p->link_free, p->now) + a->bytes / p->link_Bps;
        wait_until(p, p->link_free);
        return true;
    default: return true;
    }
}

/* ---- setting up ---- */

/* What units leave of the memory goes to the layers' neurons, in equal shares. */
static double share_of_neurons(const sl_record_file *file, uint64_t cache_bytes)
{
    uint64_t units = 0, all = 0;
    for (uint32_t u = 0; u < file->head.unit_count; u++)
        units += sli_unit_stays(file, u) ? file->units[u].bytes : 0;
    for (uint64_t i = 0; i < file->head.layer_count; i++)
        all += file->layers[i].count > 0 ? (uint64_t)file->layers[i].count * sl_bundles_slot_bytes(&file->layers[i]) : 0;
    double left = cache_bytes > units ? (double)(cache_bytes - units) : 0;
    return all > 0 ? fmin(1, left / (double)all) : 0;
}

static sl_status open_neurons(play *p, const sl_replay_config *config, uint64_t cache_bytes, sl_error *err)
{
    const sl_record_head *h = &p->file->head;
    double share = share_of_neurons(p->file, cache_bytes);
    p->neurons = calloc(h->layer_count + 1, sizeof *p->neurons);
    if (p->neurons == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for %llu layers", (unsigned long long)h->layer_count);
    for (uint32_t i = 0; i < h->layer_count; i++) {
        sl_bundle_layer layer = p->file->layers[i];
        if (config->policy != SL_REPLAY_RUN)
            layer.capacity = (uint32_t)(share * layer.count);
        SL_TRY(sli_neuron_cache_open(&layer, config->policy, (sl_bundle_policy)h->policy, p->replay->fetches[i],
                                     p->replay->coming + (size_t)i * p->replay->places_max, p->replay->list_max, &p->neurons[i], err));
    }
    return SL_OK;
}

static sl_status open_play(play *p, const sl_replay_config *config, sl_error *err)
{
    const sl_record_head *h = &p->file->head;
    p->out->cache_bytes = config->policy == SL_REPLAY_RUN ? sl_replay_cache_bytes(p->file) : config->cache_bytes;
    p->link_Bps = p->out->link_Bps = config->link_Bps > 0 ? config->link_Bps : sl_replay_link(p->file);
    p->guess_layer = UINT32_MAX;
    p->request_file = UINT64_MAX;
    uint64_t largest = h->alignment;
    for (uint64_t i = 0; i < h->unit_count; i++) {
        uint64_t bytes = widened(p->file->units[i].offset, p->file->units[i].bytes, h->alignment);
        largest = bytes > largest ? bytes : largest;
    }
    p->request_max = h->ring_bytes / 8 < REQUEST_MAX ? h->ring_bytes / 8 : REQUEST_MAX;
    p->request_max = p->request_max > largest ? p->request_max : largest;
    p->guess = malloc((p->replay->list_max + (size_t)1) * sizeof *p->guess);
    p->useful = malloc((p->replay->list_max + (size_t)1) * sizeof *p->useful);
    if (p->guess == NULL || p->useful == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for lists of %u places", p->replay->list_max);
    SL_TRY(sli_unit_cache_open(p->file, config->policy, p->out->cache_bytes, &p->units, err));
    return open_neurons(p, config, p->out->cache_bytes, err);
}

static void close_play(play *p)
{
    for (uint64_t i = 0; p->neurons != NULL && i < p->file->head.layer_count; i++)
        sli_neuron_cache_close(&p->neurons[i]);
    free(p->neurons);
    sli_unit_cache_close(p->units);
    free(p->window);
    free(p->guess);
    free(p->useful);
}

sl_status sl_replay_model(const sl_replay *replay, const sl_replay_config *config, sl_replay_result *out, sl_error *err)
{
    play p = {.replay = replay, .file = replay->file, .out = out};
    *out = (sl_replay_result){0};
    sl_status status = open_play(&p, config, err);
    for (size_t i = 0; status == SL_OK && i < replay->count; i++)
        if (!step(&p, &replay->access[i], (uint32_t)i))
            status = sl_fail(err, SL_NO_MEMORY, "out of memory for what is read ahead");
    out->seconds = p.now - p.begin;
    out->wait_s = p.waited;
    close_play(&p);
    return status;
}
