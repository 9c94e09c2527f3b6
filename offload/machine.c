/* offload/machine.c: see machine.h. */
#include "offload/machine.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- between figures ---- */

/* y at x, on the line through two points; beyond the outer ones it stays what it was. */
static double between(double x, double x0, double y0, double x1, double y1)
{
    if (!(x1 > x0) || x <= x0)
        return y0;
    return x >= x1 ? y1 : y0 + (y1 - y0) * (x - x0) / (x1 - x0);
}

double sli_machine_memory_rate(const sli_machine *m, uint32_t threads)
{
    const sli_machine_bandwidth *below = NULL, *above = NULL;
    for (size_t i = 0; i < m->bandwidths; i++) {
        const sli_machine_bandwidth *b = &m->bandwidth[i];
        if (b->threads <= threads && (below == NULL || b->threads > below->threads))
            below = b;
        if (b->threads >= threads && (above == NULL || b->threads < above->threads))
            above = b;
    }
    if (below == NULL || above == NULL)
        return below != NULL ? below->Bps : above != NULL ? above->Bps : 0;
    return between(threads, below->threads, below->Bps, above->threads, above->Bps);
}

/* Of one engine and depth: the line between the sizes on both sides, over their logarithms. */
static double read_at_depth(const sli_machine *m, const char *engine, uint64_t bytes, uint32_t depth)
{
    const sli_machine_read *below = NULL, *above = NULL;
    for (size_t i = 0; i < m->reads; i++) {
        const sli_machine_read *r = &m->read[i];
        if (r->depth != depth || strcmp(r->engine, engine) != 0)
            continue;
        if (r->bytes <= bytes && (below == NULL || r->bytes > below->bytes))
            below = r;
        if (r->bytes >= bytes && (above == NULL || r->bytes < above->bytes))
            above = r;
    }
    if (below == NULL && above == NULL)
        return 0;
    if (below == NULL) /* smaller than all that is known: a request costs what the smallest does */
        return above->Bps * (double)bytes / (double)above->bytes;
    if (above == NULL)
        return below->Bps;
    return between(log2((double)bytes), log2((double)below->bytes), below->Bps, log2((double)above->bytes), above->Bps);
}

#define DEEP_BYTES ((uint64_t)256 << 10)
#define DEEPER     0.16 /* a queue of 128 small reads gives a quarter more than one of 32 (bench/SPEED.md, "Bundles") */

static double read_of_engine(const sli_machine *m, const char *engine, uint64_t bytes, uint32_t depth)
{
    uint32_t below = 0, above = 0;
    for (size_t i = 0; i < m->reads; i++) {
        uint32_t d = m->read[i].depth;
        if (strcmp(m->read[i].engine, engine) != 0)
            continue;
        if (d <= depth && d > below)
            below = d;
        if (d >= depth && (above == 0 || d < above))
            above = d;
    }
    double at_below = read_at_depth(m, engine, bytes, below), at_above = read_at_depth(m, engine, bytes, above);
    if (below == 0)
        return at_above;
    if (above == 0) { /* more in flight: small requests gain, up to what large ones reach */
        double most = read_at_depth(m, engine, DEEP_BYTES, below), deeper = at_below * pow((double)depth / below, DEEPER);
        return deeper < most ? deeper : at_below > most ? at_below : most;
    }
    return between(log2(depth), log2(below), at_below, log2(above), at_above);
}

double sli_machine_read_rate(const sli_machine *m, const char *engine, uint64_t bytes, uint32_t depth)
{
    static const char *const engines[] = {"uring", "pread"};
    double best = 0;
    for (size_t i = 0; i < sizeof engines / sizeof *engines; i++) {
        double Bps = engine == NULL || strcmp(engine, engines[i]) == 0 ? read_of_engine(m, engines[i], bytes, depth) : 0;
        best = Bps > best ? Bps : best;
    }
    return best;
}

/* ---- computing ---- */

/* Operations per second of a core, quantised formats at many rows: measured with bench_matmul (bench/SPEED.md) on Zen 5 and Zen 4 (AVX-512; their
 * middle), Zen 3 (AVX2), Sapphire Rapids (AMX); NEON was never measured on a machine, its figures are AVX2's by the width of registers. */
static const double core_ops[SL_ISA_COUNT] = {[SL_ISA_SCALAR] = 3e9, [SL_ISA_AVX2] = 150e9, [SL_ISA_AVX512] = 450e9,
                                              [SL_ISA_AMX] = 550e9,  [SL_ISA_NEON] = 40e9,  [SL_ISA_NEON_DOTPROD] = 90e9};

#define FLOAT_OPS_SHARE 0.3  /* of products with floats, whose multiplications are wider */
#define K_QUANT_SHARE   0.8  /* scales within scales */
#define OPS_PER_BYTE    8.0  /* of a row that passes by once, at most: what a core computes bounds what it reads */
#define MEMORY_SHARE    0.95 /* of plain reading, that products with one row reach */

static double share_of_format(uint32_t type)
{
    const sl_format *f = sl_format_of(type);
    if (f == NULL || !f->quantized)
        return FLOAT_OPS_SHARE;
    return f->block_elements > 32 ? K_QUANT_SHARE : 1;
}

/* As measured with this format: between the figures for less and for more. False where there are none. */
static bool measured_rate(const sli_machine *m, uint32_t type, uint64_t touched_bytes, sli_machine_rate *out)
{
    const sli_machine_rate *below = NULL, *above = NULL;
    for (size_t i = 0; i < m->rates; i++) {
        const sli_machine_rate *r = &m->rate[i];
        if (r->type != type)
            continue;
        if (r->bytes <= touched_bytes && (below == NULL || r->bytes > below->bytes))
            below = r;
        if (r->bytes >= touched_bytes && (above == NULL || r->bytes < above->bytes))
            above = r;
    }
    if (below == NULL && above == NULL)
        return false;
    below = below != NULL ? below : above;
    above = above != NULL ? above : below;
    double x = log2((double)touched_bytes + 1), x0 = log2((double)below->bytes), x1 = log2((double)above->bytes);
    *out = (sli_machine_rate){type, touched_bytes, between(x, x0, below->weights_Bps, x1, above->weights_Bps),
                              between(x, x0, below->ops_per_s, x1, above->ops_per_s)};
    return true;
}

sli_machine_rate sli_machine_rate_of(const sli_machine *m, uint32_t type, uint32_t threads, uint64_t touched_bytes)
{
    sli_machine_rate r;
    double memory_Bps = MEMORY_SHARE * sli_machine_memory_rate(m, threads), share = m->cores > 0 ? (double)threads / m->cores : 1;
    if (share > 1)
        share = 1;
    if (measured_rate(m, type, touched_bytes, &r)) {
        r.ops_per_s *= share;
        /* Fewer threads than cores may still have all of the memory's bandwidth. */
        double fewer = r.weights_Bps * sli_machine_memory_rate(m, threads) / sli_machine_memory_rate(m, m->cores);
        r.weights_Bps = share < 1 && fewer < r.weights_Bps ? fewer : r.weights_Bps;
        return r;
    }
    double ops = core_ops[m->isa] * (m->cores > 0 ? share * m->cores : threads) * share_of_format(type);
    double weights_Bps = ops / OPS_PER_BYTE < memory_Bps ? ops / OPS_PER_BYTE : memory_Bps;
    return (sli_machine_rate){type, SLI_MACHINE_UNCACHED_BYTES, weights_Bps, ops};
}

/* ---- presets ---- */

/* Memory: the standard's transfer rate x the bus's width, of which reading reaches three quarters; one core some 20 to 30 GB/s of it, or what all
 * have. Disks: what the makers promise for the class, a tenth less. GPUs: NVIDIA's data sheets; links: PCI Express's rate, four fifths of it. */
typedef struct preset {
    const char *name, *source;
    uint32_t memory_gib, cores;
    sl_isa isa;
    uint32_t gpu_gib;
    double one_core, all_cores, disk; /* GB/s */
    const char *gpu;
    double gpu_memory, gpu_link; /* GB/s */
} preset;

static const preset presets[] = {
    {"laptop-sata", "typical: two channels of DDR4-2400 (38.4 GB/s), SATA SSD (6 Gbit/s)", 8, 4, SL_ISA_AVX2, 0, 14, 28, 0.5, NULL, 0, 0},
    {"laptop-ddr4", "typical: two channels of DDR4-3200 (51.2 GB/s), NVMe on PCIe 3 x4 (3.9 GB/s)", 16, 4, SL_ISA_AVX2, 0, 20, 38, 3.0,
     NULL, 0, 0},
    {"laptop-ddr5", "typical: two channels of DDR5-5600 (89.6 GB/s), NVMe on PCIe 4 x4 (7.9 GB/s)", 16, 8, SL_ISA_AVX512, 0, 28, 66, 6.0,
     NULL, 0, 0},
    {"laptop-lpddr5x", "typical: 128 bits of LPDDR5X-8533 (136.5 GB/s), NVMe on PCIe 4 x4 (7.9 GB/s)", 32, 8, SL_ISA_AVX2, 0, 30, 100, 6.0,
     NULL, 0, 0},
    {"steam-deck", "typical: 128 bits of LPDDR5-5500 (88 GB/s), NVMe on PCIe 3 x4", 16, 4, SL_ISA_AVX2, 0, 22, 60, 2.4, NULL, 0, 0},
    {"raspberry-pi-5", "typical: 32 bits of LPDDR4X-4267 (17.1 GB/s), NVMe on PCIe 2 x1 (0.5 GB/s)", 8, 4, SL_ISA_NEON_DOTPROD, 0, 8, 12,
     0.42, NULL, 0, 0},
    {"desktop-ddr5", "typical: two channels of DDR5-6000 (96 GB/s), NVMe on PCIe 4 x4 (7.9 GB/s)", 32, 16, SL_ISA_AVX512, 0, 32, 72, 6.3,
     NULL, 0, 0},
    {"laptop-rtx-4060", "typical laptop-ddr5; GPU: NVIDIA's data sheet (8 GiB, 256 GB/s, PCIe 4 x8)", 16, 8, SL_ISA_AVX2, 8, 28, 66, 6.0,
     "RTX 4060 Laptop", 256, 12.6},
    {"desktop-rtx-3060", "typical: DDR4-3200; GPU: NVIDIA's data sheet (12 GiB, 360 GB/s, PCIe 4 x16)", 32, 8, SL_ISA_AVX2, 12, 22, 38, 3.0,
     "RTX 3060", 360, 25},
    {"desktop-rtx-4090", "typical desktop-ddr5; GPU: NVIDIA's data sheet (24 GiB, 1008 GB/s, PCIe 4 x16)", 64, 16, SL_ISA_AVX512, 24, 32,
     72, 6.3, "RTX 4090", 1008, 25},
};

const char *sli_machine_preset_name(size_t index)
{
    return index < sizeof presets / sizeof *presets ? presets[index].name : NULL;
}

/* What smaller requests, and one at a time, reach of a flash disk's bandwidth: as on the disks of bench/SPEED.md. */
static void add_reads(sli_machine *m, double Bps)
{
    static const struct {
        uint64_t bytes;
        double alone, many;
    } shape[] = {{4 << 10, 0.02, 0.35}, {16 << 10, 0.07, 0.7}, {64 << 10, 0.2, 0.95}, {256 << 10, 0.5, 1}, {1 << 20, 0.75, 1}};
    for (size_t i = 0; i < sizeof shape / sizeof *shape; i++) {
        m->read[m->reads++] = (sli_machine_read){"uring", shape[i].bytes, 1, shape[i].alone * Bps};
        m->read[m->reads++] = (sli_machine_read){"uring", shape[i].bytes, 32, shape[i].many * Bps};
    }
}

bool sli_machine_preset(size_t index, sli_machine *out)
{
    if (index >= sizeof presets / sizeof *presets)
        return false;
    const preset *p = &presets[index];
    *out = (sli_machine){.memory_bytes = (uint64_t)p->memory_gib << 30, .cores = p->cores, .isa = p->isa};
    snprintf(out->name, sizeof out->name, "%s", p->name);
    snprintf(out->source, sizeof out->source, "%s", p->source);
    out->bandwidth[out->bandwidths++] = (sli_machine_bandwidth){1, p->one_core * 1e9};
    out->bandwidth[out->bandwidths++] = (sli_machine_bandwidth){p->cores, p->all_cores * 1e9};
    add_reads(out, p->disk * 1e9);
    if (p->gpu == NULL)
        return true;
    out->gpu = (sli_machine_gpu){
        .memory_bytes = (uint64_t)p->gpu_gib << 30, .memory_Bps = p->gpu_memory * 1e9, .link_Bps = p->gpu_link * 1e9};
    snprintf(out->gpu.name, sizeof out->gpu.name, "%s", p->gpu);
    return true;
}
