/* offload/bundle_trial.c: see bundle_trial.h.
 *
 * A neuron's score at a token is the sum of what it always has (hot), what it had before (lasting) and what is new; the set is the largest scores.
 * The guess sees the score through noise. All parts are about normal, and their variances add up to 1. */
#include "offload/bundle_trial.h"
#include "offload/select.h"
#include "offload/tools/tool.h"
#include "pager/bundles.h"

#include <math.h>
#include <stdlib.h>

/* Of the variance; fitted to bytes read and rows found in memory of runs of SmolLM2, as it is and widened (bench/plan.py). */
#define HOT     0.15 /* for ever, and known to the order on disk */
#define LASTING 0.15
#define LASTS   0.9 /* of what lasts, at the next token */
#define SHARED  0.9 /* of what is new: by neighbours on disk, where those stand together that fire together */
#define SHARERS 4
#define SEEN    0.93 /* of the score, by the guess: their correlation */

#define DEPTH 128

typedef struct trial {
    const sli_bundle_division *at;
    sl_bundles *bundles;
    uint32_t keep;
    uint64_t random;
    float *hot, *lasting, *score, *guess;
    uint32_t *places;
    const uint8_t **addresses;
} trial;

/* About normal, variance 1. */
static float normal(uint64_t *state)
{
    uint64_t bits = sli_random_next(state);
    int32_t sum = 0;
    for (int i = 0; i < 4; i++)
        sum += (int32_t)(bits >> (16 * i) & 0xffff);
    return ((float)sum / 65536.0f - 2.0f) * 1.7320508f;
}

static void begin_text(trial *t)
{
    uint32_t n = t->at->count;
    for (uint32_t i = 0; i < n; i++) {
        /* Hot first: places stand in the order of what the calibration saw, which half explains what a text needs. */
        float rank = (0.5f - ((float)i + 0.5f) / (float)n) * 3.4641016f;
        t->hot[i] = (rank + normal(&t->random)) * 0.70710678f;
        t->lasting[i] = normal(&t->random);
    }
}

static void next_token(trial *t)
{
    const float hot = sqrtf((float)HOT), lasting = sqrtf((float)LASTING), fresh = sqrtf((float)(1 - HOT - LASTING));
    const float together = sqrtf((float)SHARED), alone = sqrtf((float)(1 - SHARED));
    const float lasts = (float)LASTS, anew = sqrtf(1 - lasts * lasts), seen = (float)SEEN, unseen = sqrtf(1 - seen * seen);
    float shared = 0;
    for (uint32_t i = 0; i < t->at->count; i++) {
        if (i % SHARERS == 0)
            shared = normal(&t->random);
        t->lasting[i] = lasts * t->lasting[i] + anew * normal(&t->random);
        float s = hot * t->hot[i] + lasting * t->lasting[i] + fresh * (together * shared + alone * normal(&t->random));
        /* A set is the largest, whatever the sign: exp keeps the order. */
        t->score[i] = expf(s);
        t->guess[i] = expf(seen * s + unseen * normal(&t->random));
    }
}

static sl_status one_token(trial *t, sli_bundle_trial *sum, sl_error *err)
{
    sl_bundles_stats before = sl_bundles_statistics(t->bundles);
    next_token(t);
    if (t->at->cached_share < 1) {
        sli_select_top(t->guess, t->at->count, t->keep, t->places);
        sl_bundles_prefetch(t->bundles, 0, t->places, t->keep);
    }
    for (int i = 0; i < 64; i++) /* all of it has come by the time it is asked for */
        sl_bundles_poll(t->bundles);
    sl_bundles_stats ahead = sl_bundles_statistics(t->bundles);
    sli_select_top(t->score, t->at->count, t->keep, t->places);
    SL_TRY(sl_bundles_fetch(t->bundles, 0, t->places, t->keep, t->addresses, err));
    sl_bundles_done(t->bundles, 0);
    sl_bundles_stats after = sl_bundles_statistics(t->bundles);
    sum->bytes_ahead += (double)(ahead.bytes_read - before.bytes_read);
    sum->bytes_late += (double)(after.bytes_read - ahead.bytes_read);
    sum->requests += (double)(after.requests - before.requests);
    sum->cached_share += (double)(after.cached - before.cached) / t->keep;
    return SL_OK;
}

static sl_status run(trial *t, uint32_t tokens, sli_bundle_trial *out, sl_error *err)
{
    static const uint8_t nothing[64];
    begin_text(t);
    for (uint32_t place = 0; place < t->at->count; place++) /* the prompt's pass */
        sl_bundles_offer(t->bundles, 0, place, nothing);
    for (uint32_t i = 0; i < tokens; i++)
        SL_TRY(one_token(t, out, err));
    out->bytes_ahead /= tokens;
    out->bytes_late /= tokens;
    out->requests /= tokens;
    out->cached_share /= tokens;
    return SL_OK;
}

static sl_status open_bundles(trial *t, sl_error *err)
{
    const sli_bundle_division *p = t->at;
    sl_bundle_layer layer = {.stride = p->stride, .bytes = SL_BUNDLE_ALIGNMENT, .count = p->count};
    layer.capacity = (uint32_t)(p->cached_share * p->count + 0.5);
    sl_bundles_config config = {.layers = &layer,
                                .layer_count = 1,
                                .alignment = p->alignment,
                                .wanted_max = p->kept_max,
                                .gap_bytes = p->gap_bytes,
                                .request_bytes = SL_BUNDLES_REQUEST_BYTES,
                                .policy = p->policy};
    sl_tier *tier = NULL;
    sl_synthetic_options device = {
        .capacity_bytes = ((uint64_t)p->stride * p->count + 65535) / 65536 * 65536, .bandwidth_Bps = 1e12, .depth = DEPTH, .blank = true};
    SL_TRY(sl_bundles_create(&config, &t->bundles, err));
    SL_TRY(sl_tier_open_synthetic(&device, &tier, err));
    return sl_bundles_attach(t->bundles, tier, err);
}

sl_status sli_bundle_try(const sli_bundle_division *placement, uint32_t tokens, sli_bundle_trial *out, sl_error *err)
{
    size_t n = placement->count;
    trial t = {.at = placement, .random = 1, .keep = (uint32_t)(placement->kept_share * placement->count + 0.5)};
    *out = (sli_bundle_trial){0};
    t.keep = t.keep < 1 ? 1 : t.keep > placement->kept_max ? placement->kept_max : t.keep;
    float *scores = malloc(4 * n * sizeof *scores);
    t.places = malloc(n * sizeof *t.places);
    t.addresses = malloc(n * sizeof *t.addresses);
    sl_status status = SL_OK;
    if (scores == NULL || t.places == NULL || t.addresses == NULL)
        status = sl_fail(err, SL_NO_MEMORY, "out of memory for a trial of %u neurons", placement->count);
    t.hot = scores;
    t.lasting = scores + n;
    t.score = scores + 2 * n;
    t.guess = scores + 3 * n;
    if (status == SL_OK)
        status = open_bundles(&t, err);
    if (status == SL_OK)
        status = run(&t, tokens, out, err);
    sl_bundles_destroy(t.bundles);
    free(scores);
    free(t.places);
    free(t.addresses);
    return status;
}
