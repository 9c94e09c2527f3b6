/* core/sampler.c: the Gumbel-max trick with a counter in place of a random generator.
 *
 * argmax(logit / T + g), with independent standard Gumbel noise g for each token, is distributed as softmax(logit / T). The noise is not
 * drawn from a stream but computed from (seed, position, token), so nothing that happened before can shift it: a draft that was thrown
 * away, a batch of another size or a token filtered out leave every other token's noise as it was.
 *
 * Filters work on a scratch of (logit, id) pairs. They need the largest few of many: top-k holds the k best so far in a heap with the worst
 * on top, which few of the rest displace; top-p does not know how many it needs, so it makes a heap of all and pops as often as it must. The
 * order is total (equal logits: lower id first), so the result does not depend on how a heap happens to be laid out.
 *
 * A NaN logit counts as minus infinity. If all are, the token is 0. */
#include "core/sampler.h"

#include "core/mathx.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define LN2 0x1.62e42fefa39efp-1

typedef struct entry {
    float logit;
    sl_token id;
} entry;

struct sl_sampler {
    sl_sampling how;
    uint32_t vocab;
    entry entries[];
};

/* The kept tokens: entries[first .. first + count). */
typedef struct kept {
    uint32_t first, count;
} kept;

/* ---- options ---- */

sl_status sl_sampling_check(const sl_sampling *s, sl_error *err)
{
    if (!(s->temperature >= 0.0f && s->temperature < INFINITY))
        return sl_fail(err, SL_INVALID, "temperature %g is not a number from 0 (greedy) up", (double)s->temperature);
    if (s->top_k < 0)
        return sl_fail(err, SL_INVALID, "top-k %d is below 0 (0 keeps all tokens)", s->top_k);
    if (!(s->top_p >= 0.0f && s->top_p <= 1.0f))
        return sl_fail(err, SL_INVALID, "top-p %g is not within 0..1 (1 keeps all tokens)", (double)s->top_p);
    if (!(s->min_p >= 0.0f && s->min_p <= 1.0f))
        return sl_fail(err, SL_INVALID, "min-p %g is not within 0..1 (0 keeps all tokens)", (double)s->min_p);
    if (!(s->repeat_penalty > 0.0f && s->repeat_penalty < INFINITY))
        return sl_fail(err, SL_INVALID, "repeat penalty %g is not a number above 0 (1 is none)", (double)s->repeat_penalty);
    if (s->repeat_last_n < -1)
        return sl_fail(err, SL_INVALID, "repeat-last-n %d is below -1 (-1 is everything so far, 0 nothing)", s->repeat_last_n);
    return SL_OK;
}

size_t sl_sampler_heap_bytes(uint32_t vocab)
{
    return sizeof(sl_sampler) + (size_t)vocab * sizeof(entry);
}

sl_status sl_sampler_create(const sl_sampling *s, uint32_t vocab, sl_sampler **out, sl_error *err)
{
    *out = NULL;
    SL_TRY(sl_sampling_check(s, err));
    if (vocab == 0 || vocab > INT32_MAX)
        return sl_fail(err, SL_INVALID, "a vocabulary of %u tokens cannot be sampled from", vocab);
    sl_sampler *sampler = malloc(sl_sampler_heap_bytes(vocab));
    if (!sampler)
        return sl_fail(err, SL_NO_MEMORY, "no memory for a sampler (%zu bytes)", sl_sampler_heap_bytes(vocab));
    sampler->how = *s;
    sampler->vocab = vocab;
    *out = sampler;
    return SL_OK;
}

void sl_sampler_destroy(sl_sampler *sampler)
{
    free(sampler);
}

/* ---- noise ---- */

static uint64_t mix(uint64_t x) /* the finaliser of splitmix64: each bit of x moves half of the result's */
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* 52 random bits: seed, position and token go through the mixer one after the other, each after a step of the golden ratio. */
static uint64_t noise_bits(uint64_t seed, uint64_t position, sl_token token)
{
    const uint64_t golden = 0x9e3779b97f4a7c15u;
    uint64_t x = mix(seed + golden);
    x = mix(x + golden * (position + 1));
    x = mix(x + golden * ((uint64_t)(uint32_t)token + 1));
    return x >> 12;
}

static double uniform_of(uint64_t bits)
{
    return ((double)bits + 0.5) * 0x1p-52; /* exact, and within 2^-53 .. 1 - 2^-53 */
}

static double gumbel_of(uint64_t bits)
{
    return -sl_log(-sl_log(uniform_of(bits)));
}

double sl_uniform(uint64_t seed, uint64_t position, sl_token token)
{
    return uniform_of(noise_bits(seed, position, token));
}

double sl_gumbel(uint64_t seed, uint64_t position, sl_token token)
{
    return gumbel_of(noise_bits(seed, position, token));
}

/* Not below gumbel_of(bits), and free of logarithms: -ln u >= 1 - u, so the noise is at most -ln(1 - u); and if the complement of the bits
 * has z leading zeros, 1 - u is at least 2^-(z+1). The margin covers rounding. */
static double gumbel_limit(uint64_t bits)
{
    uint64_t complement = ~bits & 0xfffffffffffffu;
    int zeros = complement ? __builtin_clzll(complement) - 12 : 52;
    return (zeros + 1) * LN2 + 0x1p-20;
}

/* ---- candidates ---- */

static float without_nan(float logit)
{
    return logit == logit ? logit : -INFINITY;
}

static float penalised(float logit, float penalty)
{
    return logit <= 0.0f ? logit * penalty : logit / penalty;
}

/* The logits, those of recent tokens penalised: once each, however often they occurred, for it is computed from the given logit. */
static void fill(sl_sampler *s, const float *logits, const sl_token *history, size_t history_count)
{
    for (uint32_t i = 0; i < s->vocab; i++)
        s->entries[i] = (entry){without_nan(logits[i]), (sl_token)i};
    if (s->how.repeat_penalty == 1.0f)
        return;
    size_t window = s->how.repeat_last_n < 0 ? history_count : (size_t)s->how.repeat_last_n;
    size_t from = history_count > window ? history_count - window : 0;
    for (size_t i = from; i < history_count; i++) {
        sl_token id = history[i];
        if (id >= 0 && (uint32_t)id < s->vocab)
            s->entries[id].logit = penalised(without_nan(logits[id]), s->how.repeat_penalty);
    }
}

typedef bool (*order)(entry, entry);

static bool is_before(entry a, entry b) /* larger logit first, lower id among equals */
{
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

static bool is_after(entry a, entry b)
{
    return is_before(b, a);
}

/* A binary heap, on top the entry that comes first in `before`. */
static inline void sift_down(entry *heap, uint32_t count, uint32_t at, order before)
{
    entry moving = heap[at];
    for (uint32_t child = 2 * at + 1; child < count; child = 2 * at + 1) {
        if (child + 1 < count && before(heap[child + 1], heap[child]))
            child++;
        if (!before(heap[child], moving))
            break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = moving;
}

static inline void build_heap(entry *heap, uint32_t count, order before)
{
    for (uint32_t at = count / 2; at-- > 0;)
        sift_down(heap, count, at, before);
}

/* Moves the top of heap[0 .. count) to heap[count - 1]. */
static inline void pop(entry *heap, uint32_t count, order before)
{
    entry top = heap[0];
    heap[0] = heap[count - 1];
    heap[count - 1] = top;
    sift_down(heap, count - 1, 0, before);
}

/* exp(logit - largest), also where both are infinite. */
static double weight(float logit, float largest)
{
    return logit == largest ? 1.0 : sl_exp((double)logit - (double)largest);
}

static float largest_of(const entry *entries, uint32_t count)
{
    float largest = entries[0].logit;
    for (uint32_t i = 1; i < count; i++)
        largest = entries[i].logit > largest ? entries[i].logit : largest;
    return largest;
}

/* ---- filters ---- */

/* The k largest, in order. */
static kept keep_top_k(sl_sampler *s)
{
    uint32_t k = (uint32_t)s->how.top_k;
    entry *best = s->entries;
    build_heap(best, k, is_after);
    for (uint32_t i = k; i < s->vocab; i++) {
        if (is_before(s->entries[i], best[0])) {
            best[0] = s->entries[i];
            sift_down(best, k, 0, is_after);
        }
    }
    for (uint32_t left = k; left > 1; left--)
        pop(best, left, is_after);
    return (kept){0, k};
}

/* Sum of the weights in the order in which they lie: by rank after top-k, by id before it. */
static double total_weight(const entry *entries, uint32_t count, float largest)
{
    double total = 0.0;
    for (uint32_t i = 0; i < count; i++)
        total += weight(entries[i].logit, largest);
    return total;
}

/* The fewest, from the largest down, whose probability reaches top_p; of k that top-k has put in order. */
static kept keep_top_p_sorted(const sl_sampler *s, kept k)
{
    float largest = s->entries[0].logit;
    double wanted = (double)s->how.top_p * total_weight(s->entries, k.count, largest), reached = 0.0;
    uint32_t count = 0;
    do {
        reached += weight(s->entries[count++].logit, largest);
    } while (count < k.count && reached < wanted);
    return (kept){0, count};
}

/* The same of all tokens: they gather at the end of the scratch. */
static kept keep_top_p(sl_sampler *s)
{
    float largest = largest_of(s->entries, s->vocab);
    double wanted = (double)s->how.top_p * total_weight(s->entries, s->vocab, largest), reached = 0.0;
    build_heap(s->entries, s->vocab, is_before);
    uint32_t first = s->vocab;
    do {
        pop(s->entries, first--, is_before);
        reached += weight(s->entries[first].logit, largest);
    } while (first > 0 && reached < wanted);
    return (kept){first, s->vocab - first};
}

/* The smallest logit that min-p lets pass. */
static double least_logit(const sl_sampler *s, kept k)
{
    if (s->how.min_p == 0.0f)
        return -INFINITY;
    return (double)largest_of(s->entries + k.first, k.count) + sl_log(s->how.min_p);
}

/* ---- picking ---- */

static sl_token argmax(const float *logits, uint32_t count)
{
    uint32_t best = 0;
    float value = -INFINITY;
    for (uint32_t i = 0; i < count; i++) {
        if (logits[i] > value) { /* false for NaN */
            value = logits[i];
            best = i;
        }
    }
    return (sl_token)best;
}

static sl_token first_entry(const entry *entries, uint32_t count)
{
    entry best = entries[0];
    for (uint32_t i = 1; i < count; i++)
        best = is_before(entries[i], best) ? entries[i] : best;
    return best.id;
}

static kept keep(sl_sampler *s)
{
    bool limited = s->how.top_k > 0 && (uint32_t)s->how.top_k < s->vocab;
    kept k = limited ? keep_top_k(s) : (kept){0, s->vocab};
    if (s->how.top_p < 1.0f)
        k = limited ? keep_top_p_sorted(s, k) : keep_top_p(s);
    return k;
}

static sl_token pick_noisy(const sl_sampler *s, kept k, uint64_t position)
{
    double temperature = s->how.temperature, least = least_logit(s, k), best_value = -INFINITY;
    sl_token best = SL_TOKEN_NONE;
    for (uint32_t i = k.first; i < k.first + k.count; i++) {
        entry e = s->entries[i];
        if (!((double)e.logit >= least))
            continue;
        double scaled = (double)e.logit / temperature;
        uint64_t bits = noise_bits(s->how.seed, position, e.id);
        if (best != SL_TOKEN_NONE && scaled + gumbel_limit(bits) < best_value) /* saves nearly all logarithms, changes nothing */
            continue;
        double value = scaled + gumbel_of(bits);
        if (best == SL_TOKEN_NONE || value > best_value || (value == best_value && e.id < best)) {
            best_value = value;
            best = e.id;
        }
    }
    return best;
}

sl_token sl_sampler_pick(sl_sampler *s, const float *logits, const sl_token *history, size_t history_count, uint64_t position)
{
    bool greedy = s->how.temperature == 0.0f;
    if (greedy && s->how.repeat_penalty == 1.0f)
        return argmax(logits, s->vocab);
    fill(s, logits, history, history_count);
    if (greedy) /* the filters never drop the largest */
        return first_entry(s->entries, s->vocab);

    return pick_noisy(s, keep(s), position);
}

/* Puts a token among the `count` best so far, of at most `most`; returns how many there are then. Tokens come by id or by rank. */
static uint32_t rank_in(sl_choice *out, uint32_t count, uint32_t most, sl_choice one)
{
    uint32_t at = count < most ? count++ : count;
    if (at == most && !(one.log_p > out[most - 1].log_p || (one.log_p == out[most - 1].log_p && one.id < out[most - 1].id)))
        return count;
    at = at == most ? most - 1 : at;
    for (; at > 0 && (one.log_p > out[at - 1].log_p || (one.log_p == out[at - 1].log_p && one.id < out[at - 1].id)); at--)
        out[at] = out[at - 1];
    out[at] = one;
    return count;
}

/* A token's value as pick_noisy compares it; minus infinity when it cannot come among the best, of which the last has `least`. */
static double value_of(const sl_sampler *s, entry e, uint64_t position, double least)
{
    if (s->how.temperature == 0.0f)
        return (double)e.logit;
    double scaled = (double)e.logit / (double)s->how.temperature;
    uint64_t bits = noise_bits(s->how.seed, position, e.id);
    return scaled + gumbel_limit(bits) < least ? -INFINITY : scaled + gumbel_of(bits);
}

/* A token this far below the first (as an exponent) has a ten-millionth of its weight: of a vocabulary, most is that far below, and all of it
 * together would be less than a hundredth. */
#define UNSEEN 16.0

uint32_t sl_sampler_choices(sl_sampler *s, const float *logits, const sl_token *history, size_t history_count, uint64_t position,
                            uint32_t most, sl_choice *out)
{
    fill(s, logits, history, history_count);
    bool greedy = s->how.temperature == 0.0f;
    kept k = greedy ? (kept){0, s->vocab} : keep(s);
    double least = greedy ? -INFINITY : least_logit(s, k), total = 0;
    uint32_t count = 0;
    for (uint32_t i = k.first; i < k.first + k.count; i++) {
        entry *e = &s->entries[i];
        double last = count == most ? out[count - 1].log_p : -INFINITY;
        double value = (double)e->logit >= least ? value_of(s, *e, position, last) : -INFINITY;
        if (value > -INFINITY || count == 0)
            count = rank_in(out, count, most, (sl_choice){e->id, value});
        e->logit = (float)value; /* for the sum: what was not computed is far behind, and has no part */
    }
    double scale = (greedy ? 1.0 : (double)s->how.temperature) / SL_CHOICE_TEMPERATURE, first = out[0].log_p;
    for (uint32_t i = k.first; i < k.first + k.count; i++) {
        double below = ((double)s->entries[i].logit - first) * scale;
        total += below > -UNSEEN ? sl_exp(below) : 0;
    }
    /* The first alone makes 1, but for the rounding of what was stored: no chance may be above 1. */
    double log_total = total > 1 ? sl_log(total) : 0;
    for (uint32_t i = 0; i < count; i++)
        out[i].log_p = out[i].log_p > -INFINITY ? (out[i].log_p - first) * scale - log_total : -INFINITY;
    return count;
}

/* Puts the newest of out[0 .. count] in its place by id. */
static void sort_in(sl_chance *out, uint32_t count)
{
    sl_chance moving = out[count];
    for (; count > 0 && out[count - 1].id > moving.id; count--)
        out[count] = out[count - 1];
    out[count] = moving;
}

uint32_t sl_sampler_chances(sl_sampler *s, const float *logits, const sl_token *history, size_t history_count, sl_chance *out)
{
    fill(s, logits, history, history_count);
    if (s->how.temperature == 0.0f) {
        *out = (sl_chance){first_entry(s->entries, s->vocab), 1};
        return 1;
    }
    kept k = keep(s);
    double least = least_logit(s, k), total = 0;
    float largest = largest_of(s->entries + k.first, k.count);
    uint32_t count = 0;
    for (uint32_t i = k.first; i < k.first + k.count; i++) {
        entry e = s->entries[i];
        if (!((double)e.logit >= least))
            continue;
        double p = e.logit == largest ? 1.0 : sl_exp(((double)e.logit - (double)largest) / (double)s->how.temperature);
        out[count] = (sl_chance){e.id, p};
        total += p;
        sort_in(out, count++);
    }
    for (uint32_t i = 0; i < count; i++)
        out[i].p /= total;
    return count;
}

double sl_log_probability(const float *logits, uint32_t vocab, sl_token token)
{
    float largest = -INFINITY;
    for (uint32_t i = 0; i < vocab; i++)
        largest = logits[i] > largest ? logits[i] : largest;
    double total = 0.0;
    for (uint32_t i = 0; i < vocab; i++) {
        if (logits[i] == logits[i])
            total += weight(logits[i], largest);
    }
    if (token < 0 || (uint32_t)token >= vocab || logits[token] != logits[token])
        return -INFINITY;
    double above = logits[token] == largest ? 0.0 : (double)logits[token] - (double)largest;
    return above - sl_log(total);
}
