/* bench/bench_bundles.c: what pager/bundles.h reads per second from a real file, for random sets of bundles: by density, by the gap that is
 * read through, by request size and by depth.
 *
 *   bench_bundles FILE [ROUNDS [SECONDS]]
 *
 * Nothing is cached and every guess is right: while a layer's bundles are held, the next layer's are read. All cases alternate in each round,
 * as a disk's speed drifts; a line is the median of the rounds, with the range of what was wanted. MB are 10^6 bytes. */
#include "core/os.h"
#include "pager/bundles.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define LAYERS_MAX 64
#define SETS       4 /* different ones for each density */
#define ROUNDS_MAX 15

typedef struct bundle_case {
    uint32_t stride, count;
    double density;
    uint32_t gap_bytes, request_bytes, depth;
} bundle_case;

typedef struct result {
    double wanted_Bps, read_Bps, requests_per_s, cpu;
} result;

static double cpu_seconds(void)
{
    struct rusage use;
    getrusage(RUSAGE_SELF, &use);
    return (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) + (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) * 1e-6;
}

static int complain(const char *what)
{
    fprintf(stderr, "%s\n", what);
    return 1;
}

/* Each place with the same chance; how many there are in each set. */
static void make_sets(const bundle_case *c, uint32_t *places, uint32_t counts[SETS])
{
    uint64_t random = 88172645463325252u;
    for (uint32_t set = 0; set < SETS; set++) {
        counts[set] = 0;
        for (uint32_t p = 0; p < c->count; p++) {
            random ^= random << 13, random ^= random >> 7, random ^= random << 17;
            if ((double)(random >> 40) < c->density * (double)(1 << 24))
                places[set * c->count + counts[set]++] = p;
        }
    }
}

/* Layer after layer, for `seconds`. */
static int run_layers(sl_bundles *b, const bundle_case *c, uint32_t layers, const uint32_t *places, const uint32_t counts[SETS],
                      double seconds, result *out)
{
    const uint8_t **addresses = calloc(c->count, sizeof *addresses);
    sl_error err = {0};
    if (addresses == NULL)
        return complain("no memory for addresses");
    double cpu = cpu_seconds();
    uint64_t begin = sl_now_ns();
    int failed = 0;
    for (uint32_t step = 0; !failed && (double)(sl_now_ns() - begin) * 1e-9 < seconds; step++) {
        uint32_t set = step % SETS, next = (step + 1) % SETS, layer = step % layers;
        if (sl_bundles_fetch(b, layer, places + (size_t)set * c->count, counts[set], addresses, &err) != SL_OK) {
            failed = complain(err.message);
            break;
        }
        sl_bundles_prefetch(b, (step + 1) % layers, places + (size_t)next * c->count, counts[next]);
        sl_bundles_done(b, layer);
    }
    double took = (double)(sl_now_ns() - begin) * 1e-9;
    sl_bundles_stats s = sl_bundles_statistics(b);
    *out = (result){.wanted_Bps = (double)s.bytes_wanted / took,
                    .read_Bps = (double)s.bytes_read / took,
                    .requests_per_s = (double)s.requests / took,
                    .cpu = (cpu_seconds() - cpu) / took};
    free(addresses);
    return failed;
}

/* What reads of the file have to be aligned to; 0, with a complaint, where it can't be read. */
static uint32_t alignment_of(const char *path)
{
    sl_tier *tier = NULL;
    sl_error err = {0};
    if (sl_tier_open_files(&path, 1, &(sl_files_options){.engine = SL_IO_AUTO}, &tier, &err) != SL_OK) {
        complain(err.message);
        return 0;
    }
    uint32_t alignment = tier->attrs.alignment;
    sl_tier_destroy(tier);
    return alignment;
}

static int run_case(const char *path, uint64_t file_bytes, uint32_t alignment, double seconds, const bundle_case *c, result *out)
{
    sl_bundle_layer layer[LAYERS_MAX];
    uint64_t layer_bytes = (uint64_t)c->stride * c->count;
    uint32_t layers = 0, counts[SETS];
    for (; layers < LAYERS_MAX && (layers + 1) * layer_bytes <= file_bytes; layers++)
        layer[layers] = (sl_bundle_layer){.offset = layers * layer_bytes, .stride = c->stride, .bytes = c->stride, .count = c->count};
    uint32_t *places = calloc((size_t)SETS * c->count, sizeof *places);
    sl_bundles *b = NULL;
    sl_tier *tier = NULL;
    sl_error err = {0};
    if (layers == 0 || places == NULL) {
        free(places);
        return complain("the file is too small for a layer, or there is no memory for its sets");
    }
    make_sets(c, places, counts);
    sl_bundles_config config = {.layers = layer,
                                .layer_count = layers,
                                .alignment = alignment,
                                .wanted_max = c->count,
                                .gap_bytes = c->gap_bytes,
                                .request_bytes = c->request_bytes,
                                .policy = SL_BUNDLES_LRU};
    sl_files_options options = {.engine = SL_IO_AUTO, .depth = c->depth};
    int failed = sl_bundles_create(&config, &b, &err) != SL_OK;
    if (!failed)
        options.register_memory = sl_bundles_staging(b, &options.register_bytes);
    failed = failed || sl_tier_open_files(&path, 1, &options, &tier, &err) != SL_OK || sl_bundles_attach(b, tier, &err) != SL_OK;
    if (failed)
        complain(err.message);
    else
        failed = run_layers(b, c, layers, places, counts, seconds, out);
    sl_bundles_destroy(b);
    free(places);
    return failed;
}

static int by_wanted(const void *left, const void *right)
{
    const result *a = left, *b = right;
    return a->wanted_Bps < b->wanted_Bps ? -1 : a->wanted_Bps > b->wanted_Bps;
}

static void report(const bundle_case *c, result *rounds, uint32_t count)
{
    qsort(rounds, count, sizeof *rounds, by_wanted);
    result r = rounds[count / 2];
    printf("| %u x %u | %.1f | %u | %u | %u | %.0f [%.0f, %.0f] | %.0f | %.2f | %.0f | %.1f | %.0f %% |\n", c->count, c->stride, c->density,
           c->gap_bytes / 1024, c->request_bytes / 1024, c->depth, r.wanted_Bps * 1e-6, rounds[0].wanted_Bps * 1e-6,
           rounds[count - 1].wanted_Bps * 1e-6, r.read_Bps * 1e-6, r.read_Bps / r.wanted_Bps, r.requests_per_s,
           r.read_Bps / r.requests_per_s / 1024, 100 * r.cpu);
}

#define KIB ((uint32_t)1024)
static const bundle_case cases[] = {
    /* a 7 B in Q4_0 */
    {7680, 12288, 0.1, 0, 256 * KIB, 128},
    {7680, 12288, 0.1, 4 * KIB, 256 * KIB, 128},
    {7680, 12288, 0.1, 8 * KIB, 256 * KIB, 128},
    {7680, 12288, 0.1, 16 * KIB, 256 * KIB, 128},
    {7680, 12288, 0.1, 32 * KIB, 256 * KIB, 128},
    {7680, 12288, 0.3, 0, 256 * KIB, 128},
    {7680, 12288, 0.3, 4 * KIB, 256 * KIB, 128},
    {7680, 12288, 0.3, 8 * KIB, 256 * KIB, 128},
    {7680, 12288, 0.3, 16 * KIB, 256 * KIB, 128},
    {7680, 12288, 0.3, 32 * KIB, 256 * KIB, 128},
    {7680, 12288, 0.5, 0, 256 * KIB, 128},
    {7680, 12288, 0.5, 4 * KIB, 256 * KIB, 128},
    {7680, 12288, 0.5, 8 * KIB, 256 * KIB, 128},
    {7680, 12288, 0.5, 16 * KIB, 256 * KIB, 128},
    {7680, 12288, 0.5, 32 * KIB, 256 * KIB, 128},
    /* request size, where runs are long */
    {7680, 12288, 0.5, 32 * KIB, 64 * KIB, 128},
    {7680, 12288, 0.5, 32 * KIB, 128 * KIB, 128},
    {7680, 12288, 0.5, 32 * KIB, 512 * KIB, 128},
    {7680, 12288, 0.5, 32 * KIB, 1024 * KIB, 128},
    /* depth, where requests are small */
    {7680, 12288, 0.3, 0, 256 * KIB, 8},
    {7680, 12288, 0.3, 0, 256 * KIB, 32},
    {7680, 12288, 0.3, 0, 256 * KIB, 64},
    {7680, 12288, 0.3, 0, 256 * KIB, 256},
    {7680, 12288, 0.3, 8 * KIB, 256 * KIB, 32},
    {7680, 12288, 0.3, 8 * KIB, 256 * KIB, 64},
    {7680, 12288, 0.3, 8 * KIB, 256 * KIB, 256},
    /* a 135 M */
    {1024, 1536, 0.1, 0, 256 * KIB, 128},
    {1024, 1536, 0.1, 4 * KIB, 256 * KIB, 128},
    {1024, 1536, 0.1, 8 * KIB, 256 * KIB, 128},
    {1024, 1536, 0.1, 16 * KIB, 256 * KIB, 128},
    {1024, 1536, 0.1, 32 * KIB, 256 * KIB, 128},
    {1024, 1536, 0.3, 0, 256 * KIB, 128},
    {1024, 1536, 0.3, 4 * KIB, 256 * KIB, 128},
    {1024, 1536, 0.3, 8 * KIB, 256 * KIB, 128},
    {1024, 1536, 0.3, 16 * KIB, 256 * KIB, 128},
    {1024, 1536, 0.3, 32 * KIB, 256 * KIB, 128},
    {1024, 1536, 0.5, 0, 256 * KIB, 128},
    {1024, 1536, 0.5, 4 * KIB, 256 * KIB, 128},
    {1024, 1536, 0.5, 8 * KIB, 256 * KIB, 128},
    {1024, 1536, 0.5, 16 * KIB, 256 * KIB, 128},
    {1024, 1536, 0.5, 32 * KIB, 256 * KIB, 128},
};
#define CASES (sizeof cases / sizeof *cases)

int main(int argc, char **argv)
{
    struct stat info;
    static result results[CASES][ROUNDS_MAX];
    long rounds = argc > 2 ? strtol(argv[2], NULL, 10) : 3;
    double seconds = argc > 3 ? strtod(argv[3], NULL) : 0.5;
    if (argc < 2 || argc > 4 || rounds < 1 || rounds > ROUNDS_MAX || !(seconds > 0) || stat(argv[1], &info) != 0) {
        fprintf(stderr, "usage: bench_bundles FILE [ROUNDS [SECONDS]]; FILE has at least 100 MB, ROUNDS is 1 to %d\n", ROUNDS_MAX);
        return 2;
    }
    uint32_t alignment = alignment_of(argv[1]);
    if (alignment == 0)
        return 1;
    for (long round = 0; round < rounds; round++)
        for (size_t i = 0; i < CASES; i++)
            if (run_case(argv[1], (uint64_t)info.st_size, alignment, seconds, &cases[i], &results[i][round]) != 0)
                return 1;
    printf("| bundles | density | gap KiB | request KiB | depth | wanted MB/s | read MB/s | read / wanted | requests/s | KiB each | of a "
           "core |\n"
           "|---|---|---|---|---|---|---|---|---|---|---|\n");
    for (size_t i = 0; i < CASES; i++)
        report(&cases[i], results[i], (uint32_t)rounds);
    return 0;
}
