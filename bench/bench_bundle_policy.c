/* bench/bench_bundle_policy.c: how often a bundle that is needed is in the cache, by policy and capacity, over a trace of what was used; and
 * what Belady's policy, which knows the future, would have had: the limit.
 *
 *   bench_bundle_policy [TRACE]
 *
 * A line of TRACE is one layer of one token, in the order of the tokens: the layer's number, a blank, and the places used (positions in storage
 * order), with blanks between. Without TRACE one is made up: popularity falls with the place as in a Zipf law, and a place keeps its state
 * (used or not) from token to token with probability 0.8. Hits are counted over the second half, when caches are full. "copied" is the share
 * of the bundles needed that were copied into the cache. */
#include "pager/bundle_policy.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MADE_LAYERS  4
#define MADE_COUNT   4096
#define MADE_TOKENS  512
#define MADE_DENSITY 0.3
#define MADE_KEEP    0.8
#define MADE_ZIPF    0.8
#define LAYERS_MAX   256

typedef struct set {
    uint32_t layer, count;
    size_t first; /* in trace.place */
} set;

typedef struct trace {
    uint32_t *place;
    size_t places, places_max;
    set *sets;
    size_t count, count_max;
    uint32_t layers, places_of_layer; /* numbers above all that occur */
} trace;

typedef struct contestant {
    const char *name;
    sl_bundle_policy policy;
    uint8_t fade;
} contestant;

typedef struct score {
    uint64_t needed, hits, copied;
} score;

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "bench_bundle_policy: %s\n", what);
    exit(1);
}

static void *grow(void *table, size_t count, size_t *max, size_t bytes)
{
    if (count < *max)
        return table;
    *max = *max > 0 ? 2 * *max : 4096;
    table = realloc(table, *max * bytes);
    if (table == NULL)
        die("no memory for the trace");
    return table;
}

static void begin_set(trace *t, uint32_t layer)
{
    t->sets = grow(t->sets, t->count, &t->count_max, sizeof *t->sets);
    t->sets[t->count++] = (set){.layer = layer, .first = t->places};
    t->layers = layer >= t->layers ? layer + 1 : t->layers;
}

static void add_place(trace *t, uint32_t place)
{
    t->place = grow(t->place, t->places, &t->places_max, sizeof *t->place);
    t->place[t->places++] = place;
    t->sets[t->count - 1].count++;
    t->places_of_layer = place >= t->places_of_layer ? place + 1 : t->places_of_layer;
}

static int ascending(const void *left, const void *right)
{
    const uint32_t *a = left, *b = right;
    return *a < *b ? -1 : *a > *b;
}

static void read_trace(trace *t, const char *path)
{
    FILE *file = fopen(path, "r");
    char *line = NULL;
    size_t room = 0;
    if (file == NULL)
        die(strerror(errno));
    while (getline(&line, &room, file) > 0) {
        char *at = line, *end;
        unsigned long number = strtoul(at, &end, 10);
        if (end == at)
            continue;
        if (number >= LAYERS_MAX)
            die("a layer's number is above 255");
        begin_set(t, (uint32_t)number);
        for (at = end; number = strtoul(at, &end, 10), end != at; at = end) {
            if (number > 1u << 24)
                die("a place is above 2^24");
            add_place(t, (uint32_t)number);
        }
        set *s = &t->sets[t->count - 1];
        qsort(t->place + s->first, s->count, sizeof *t->place, ascending);
    }
    free(line);
    fclose(file);
}

static double uniform(uint64_t *state)
{
    *state ^= *state << 13, *state ^= *state >> 7, *state ^= *state << 17;
    return (double)(*state >> 11) * 0x1p-53;
}

/* Chances that fall with the place and have the density as their mean. */
static void zipf_chances(double *chance, uint32_t count, double density)
{
    double low = 0, high = count;
    for (int step = 0; step < 60; step++) {
        double scale = (low + high) / 2, sum = 0;
        for (uint32_t p = 0; p < count; p++)
            sum += chance[p] = fmin(1, scale * pow(p + 1, -MADE_ZIPF));
        if (sum > density * count)
            high = scale;
        else
            low = scale;
    }
}

static void make_trace(trace *t)
{
    static double chance[MADE_COUNT];
    static bool on[MADE_LAYERS][MADE_COUNT];
    uint64_t state = 88172645463325252u;
    zipf_chances(chance, MADE_COUNT, MADE_DENSITY);
    for (uint32_t token = 0; token < MADE_TOKENS; token++)
        for (uint32_t layer = 0; layer < MADE_LAYERS; layer++) {
            begin_set(t, layer);
            for (uint32_t p = 0; p < MADE_COUNT; p++) {
                if (token == 0 || uniform(&state) >= MADE_KEEP)
                    on[layer][p] = uniform(&state) < chance[p];
                if (on[layer][p])
                    add_place(t, p);
            }
        }
}

/* One layer's cache under one of our policies, decided by the pager's own functions. */
static void run_policy(const trace *t, uint32_t layer, contestant who, uint32_t capacity, score *out)
{
    uint32_t count = t->places_of_layer, seen = 0, total = 0;
    uint32_t *place_of = malloc((capacity + 1) * sizeof *place_of), *missing = malloc(count * sizeof *missing);
    uint16_t *worth = calloc(count, sizeof *worth);
    bool *cached = calloc(count, sizeof *cached);
    sli_admission *admission = malloc(count * sizeof *admission);
    if (place_of == NULL || missing == NULL || worth == NULL || cached == NULL || admission == NULL)
        die("no memory for a cache");
    memset(place_of, 0xff, (capacity + 1) * sizeof *place_of);
    sli_ledger ledger = {
        .place_of = place_of, .worth = worth, .count = count, .capacity = capacity, .fade = who.fade, .policy = who.policy};
    for (size_t i = 0; i < t->count; i++)
        total += t->sets[i].layer == layer;
    for (size_t i = 0; i < t->count; i++) {
        const set *s = &t->sets[i];
        const uint32_t *places = t->place + s->first;
        uint32_t absent = 0;
        if (s->layer != layer)
            continue;
        for (uint32_t k = 0; k < s->count; k++)
            if (!cached[places[k]])
                missing[absent++] = places[k];
        sli_policy_use(&ledger, places, s->count);
        uint32_t admitted = sli_policy_admit(&ledger, missing, absent, admission);
        for (uint32_t k = 0; k < admitted; k++) {
            uint32_t gone = sli_policy_settle(&ledger, admission[k]);
            if (gone != SLI_NO_PLACE)
                cached[gone] = false;
            cached[admission[k].place] = true;
        }
        if (++seen > total / 2) {
            out->needed += s->count;
            out->hits += s->count - absent;
            out->copied += admitted;
        }
    }
    free(place_of), free(missing), free(worth), free(cached), free(admission);
}

/* For each use of a layer's places, the number of the set in which the place is used next; UINT32_MAX: never again. */
static void find_next(const trace *t, uint32_t layer, uint32_t total, uint32_t *next)
{
    uint32_t *coming = malloc(t->places_of_layer * sizeof *coming);
    if (coming == NULL)
        die("no memory for the future");
    memset(coming, 0xff, t->places_of_layer * sizeof *coming);
    for (size_t i = t->count; i-- > 0;) {
        const set *s = &t->sets[i];
        if (s->layer != layer)
            continue;
        total--;
        for (uint32_t k = 0; k < s->count; k++) {
            next[s->first + k] = coming[t->place[s->first + k]];
            coming[t->place[s->first + k]] = total;
        }
    }
    free(coming);
}

/* Keeps, of what is cached or was just used, the `capacity` that come next; those that come at the same time are alike. */
static void run_belady(const trace *t, uint32_t layer, uint32_t capacity, const uint32_t *next, uint32_t total, score *out)
{
    uint32_t count = t->places_of_layer, seen = 0;
    uint32_t *due = malloc(count * sizeof *due), *histogram = malloc((total + 1) * sizeof *histogram);
    if (due == NULL || histogram == NULL)
        die("no memory for a cache");
    memset(due, 0xff, count * sizeof *due); /* cached: when it comes next; UINT32_MAX: not cached */
    for (size_t i = 0; i < t->count; i++) {
        const set *s = &t->sets[i];
        uint32_t hits = 0, room = capacity, last = 0;
        if (s->layer != layer)
            continue;
        for (uint32_t k = 0; k < s->count; k++) {
            hits += due[t->place[s->first + k]] != UINT32_MAX;
            due[t->place[s->first + k]] = next[s->first + k];
        }
        memset(histogram, 0, (total + 1) * sizeof *histogram);
        for (uint32_t p = 0; p < count; p++)
            if (due[p] != UINT32_MAX)
                histogram[due[p]]++;
        for (; last < total && histogram[last] <= room; last++)
            room -= histogram[last];
        for (uint32_t p = 0; p < count; p++)
            if (due[p] != UINT32_MAX && due[p] >= last && !(due[p] == last && room > 0 && room--))
                due[p] = UINT32_MAX;
        if (++seen > total / 2) {
            out->needed += s->count;
            out->hits += hits;
        }
    }
    free(due), free(histogram);
}

static void print_score(const char *name, const score *scores, size_t count)
{
    printf("| %s |", name);
    for (size_t i = 0; i < count; i++) {
        double needed = scores[i].needed > 0 ? (double)scores[i].needed : 1;
        printf(" %.1f", 100 * (double)scores[i].hits / needed);
        if (scores[i].copied > 0)
            printf(" (%.1f)", 100 * (double)scores[i].copied / needed);
        printf(" |");
    }
    printf("\n");
}

static const double shares[] = {0.05, 0.1, 0.2, 0.3, 0.4, 0.6};
#define SHARES (sizeof shares / sizeof *shares)

static void compare(const trace *t)
{
    static const contestant contestants[] = {
        {"STATIC", SL_BUNDLES_STATIC, 0},    {"LRU", SL_BUNDLES_LRU, 0},         {"FREQUENT, 2 uses", SL_BUNDLES_FREQUENT, 1},
        {"4 uses", SL_BUNDLES_FREQUENT, 2},  {"8 uses", SL_BUNDLES_FREQUENT, 3}, {"16 uses", SL_BUNDLES_FREQUENT, 4},
        {"64 uses", SL_BUNDLES_FREQUENT, 6},
    };
    score scores[SHARES];
    uint32_t *next = malloc((t->places + 1) * sizeof *next);
    if (next == NULL)
        die("no memory for the future");
    printf("| hits, %% (copied) at capacity |");
    for (size_t i = 0; i < SHARES; i++)
        printf(" %.0f %% |", 100 * shares[i]);
    printf("\n|---|---|---|---|---|---|---|\n");
    for (size_t i = 0; i < sizeof contestants / sizeof *contestants; i++) {
        memset(scores, 0, sizeof scores);
        for (size_t k = 0; k < SHARES; k++)
            for (uint32_t layer = 0; layer < t->layers; layer++)
                run_policy(t, layer, contestants[i], (uint32_t)(shares[k] * t->places_of_layer), &scores[k]);
        print_score(contestants[i].name, scores, SHARES);
    }
    memset(scores, 0, sizeof scores);
    for (uint32_t layer = 0; layer < t->layers; layer++) {
        uint32_t total = 0;
        for (size_t i = 0; i < t->count; i++)
            total += t->sets[i].layer == layer;
        find_next(t, layer, total, next);
        for (size_t i = 0; i < SHARES; i++)
            run_belady(t, layer, (uint32_t)(shares[i] * t->places_of_layer), next, total, &scores[i]);
    }
    print_score("Belady", scores, SHARES);
    free(next);
}

int main(int argc, char **argv)
{
    trace t = {0};
    if (argc > 2 || (argc == 2 && argv[1][0] == '-')) {
        fprintf(stderr, "usage: bench_bundle_policy [TRACE]\n");
        return 2;
    }
    if (argc == 2)
        read_trace(&t, argv[1]);
    else
        make_trace(&t);
    if (t.places == 0)
        die("the trace names no places");
    printf("%zu sets of %u layers, %u places each; mean density %.3f\n\n", t.count, t.layers, t.places_of_layer,
           (double)t.places / (double)t.count / t.places_of_layer);
    compare(&t);
    free(t.place);
    free(t.sets);
    return 0;
}
