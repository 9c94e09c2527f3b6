/* kernels/cpu/walk.c: see walk.h. */
#include "kernels/cpu/walk.h"

#include <string.h>

#define INLINE static inline __attribute__((always_inline))

#define GROUP_MAX   8              /* panels that share a row block's laid-out activations */
#define GROUP_BYTES (384u * 1024u) /* weights of a group: they and the activations stay within an L2 cache of 1 MiB */

/* A quantised product: its sizes, and the cut that is being worked on. */
typedef struct walk {
    uint32_t type;
    sli_layout layout;
    size_t blocks; /* of activations in a row */
    size_t share;  /* how many of them a block of weights meets: 1, or 8 for a super-block */
    size_t panel_bytes;
    const uint8_t *panels;
    const sl_acts *x;
    sli_quant_step_fn step;
    sli_half_sums_fn half_sums;
} walk;

typedef float totals_of_panel[SLI_ROW_BLOCK][SL_PANEL_ROWS];

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

static sli_weight_parts parts_at(const walk *w, size_t panel, size_t block)
{
    size_t blocks = w->blocks / w->share, b = block / w->share;
    const uint8_t *base = w->panels + panel * w->panel_bytes;
    const uint8_t *scales = base + (blocks * w->layout.words * 4 + b * 2) * SL_PANEL_ROWS;
    return (sli_weight_parts){
        .quants = base + b * w->layout.words * 4 * SL_PANEL_ROWS,
        .scales = scales,
        .minima = w->layout.halves == 2 ? scales + blocks * 2 * SL_PANEL_ROWS : scales,
    };
}

/* What a row's blocks need beside their integers: the scales, and where sums start or what the minima are multiplied by. Inlined with
 * constants for whole tiles, which the compiler then vectorises. */
INLINE void lay_out_scales(bool has_min, int32_t bias, const float *restrict d, const int32_t *restrict sum, size_t r, size_t blocks,
                           sli_act_tile *restrict tile)
{
    for (size_t b = 0; b < blocks; b++)
        tile->d[r][b] = d[b];
    for (size_t b = 0; b < blocks; b++)
        if (has_min)
            tile->dsum[r][b] = d[b] * (float)sum[b];
        else
            tile->start[r][b] = sum[b] * bias;
}

/* What is added to a format's unsigned weights to give the meant ones. */
static int32_t bias_of(uint32_t type)
{
    switch (type) {
    case SL_TYPE_Q4_0: return -8;
    case SL_TYPE_Q5_0: return -16;
    default: return -128; /* signed bytes, and IQ4's table of them */
    }
}

static void lay_out_scales_of_type(const walk *w, const float *d, const int32_t *sum, size_t r, size_t blocks, sli_act_tile *tile)
{
    int32_t bias = bias_of(w->type);
    if (blocks != SLI_TILE_BLOCKS)
        lay_out_scales(w->layout.has_min, bias, d, sum, r, blocks, tile);
    else if (w->layout.has_min)
        lay_out_scales(true, 0, d, sum, r, SLI_TILE_BLOCKS, tile);
    else
        lay_out_scales(false, bias, d, sum, r, SLI_TILE_BLOCKS, tile);
}

/* The sums of the first pairs and of the second pairs of a sub-block's four words. Eight bytes at a time: made unsigned, their 16-bit lanes are
 * pairs of a word in turn. */
INLINE void sum_pairs(const int8_t *q, int16_t sums[2])
{
    const uint64_t low_bytes = 0x00ff00ff00ff00ff;
    uint64_t lanes = 0;
    for (int i = 0; i < SL_ACT_BLOCK / 2; i += 8) {
        uint64_t bytes;
        memcpy(&bytes, q + i, sizeof bytes);
        bytes ^= 0x8080808080808080;
        lanes += (bytes & low_bytes) + (bytes >> 8 & low_bytes);
    }
    lanes += lanes >> 32;
    sums[0] = (int16_t)((int)(lanes & 0xffff) - 8 * 128);
    sums[1] = (int16_t)((int)(lanes >> 16 & 0xffff) - 8 * 128);
}

static void lay_out_half_sums(uint32_t type, const int8_t *q, const float *d, size_t r, size_t blocks, sli_act_tile *tile)
{
    const int offset = type == SL_TYPE_Q6_K ? 32 : 4;
    for (size_t h = 0; h < 2 * blocks; h++) {
        int16_t sums[2];
        sum_pairs(q + h * (SL_ACT_BLOCK / 2), sums);
        if (type == SL_TYPE_Q2_K) {
            tile->half_dsum[r][h / 2][h % 2] = d[h / 2] * (float)(sums[0] + sums[1]);
            continue;
        }
        for (int i = 0; i < 2; i++)
            tile->half_start[r][h / 2][h % 2][i] = (int16_t)(-offset * sums[i]);
    }
}

static void lay_out_activations(const walk *w, size_t row, size_t rows, size_t block, size_t blocks, sli_act_tile *tile)
{
    for (size_t r = 0; r < rows; r++) {
        size_t at = (row + r) * w->blocks + block;
        const int8_t *q = w->x->q + at * SL_ACT_BLOCK;
        for (size_t b = 0; b < blocks; b++)
            memcpy(tile->q[b][r], q + b * SL_ACT_BLOCK, SL_ACT_BLOCK);
        lay_out_scales_of_type(w, w->x->d + at, w->x->sum + at, r, blocks, tile);
        if (w->layout.sub == SL_ACT_BLOCK / 2)
            w->half_sums(w->type, q, w->x->d + at, r, blocks, tile);
    }
}

static void store_totals(const totals_of_panel *totals, size_t rows, size_t lanes, float *out, size_t out_stride)
{
    for (size_t r = 0; r < rows; r++, out += out_stride)
        if (lanes == SL_PANEL_ROWS)
            memcpy(out, (*totals)[r], sizeof(*totals)[r]); /* a constant: four moves, not a call */
        else
            memcpy(out, (*totals)[r], lanes * sizeof(float));
}

/* One row block times panels [first, first + count). `after` is the panel whose start is wanted when this is done. */
static void row_block_times_group(const walk *w, size_t row, size_t rows, size_t first, size_t count, size_t after, totals_of_panel *totals)
{
    sli_act_tile tile;
    for (size_t p = 0; p < count; p++)
        for (size_t r = 0; r < rows; r++)
            memset(totals[p][r], 0, sizeof totals[p][r]);
    for (size_t block = 0; block < w->blocks; block += SLI_TILE_BLOCKS) {
        size_t blocks = min_size(w->blocks - block, SLI_TILE_BLOCKS);
        bool last_tile = block + blocks == w->blocks;
        lay_out_activations(w, row, rows, block, blocks, &tile);
        for (size_t p = 0; p < count; p += 2) {
            sli_weight_parts ahead = p + 2 < count ? parts_at(w, first + p + 2, block)
                                     : last_tile   ? parts_at(w, after, 0)
                                                   : parts_at(w, first, block + blocks);
            w->step(&(sli_quant_step){
                .x = &tile,
                .rows = (uint32_t)rows,
                .blocks = (uint32_t)blocks,
                .panels = (uint32_t)min_size(count - p, 2),
                .panel_bytes = w->panel_bytes,
                .now = parts_at(w, first + p, block),
                .ahead = ahead,
                .totals = totals + p,
            });
        }
    }
}

void sli_walk_halves(uint32_t type, const uint8_t *panels, uint32_t out_rows, const sl_acts *x, float *out, size_t out_stride,
                     sli_quant_step_fn step, sli_half_sums_fn half_sums)
{
    walk w = {
        .type = type,
        .layout = sli_layout_of(type),
        .blocks = x->cols / SL_ACT_BLOCK,
        .share = sli_layout_of(type).sub ? SLI_SEGMENT_BLOCKS : 1,
        .panel_bytes = sl_panel_bytes(type, x->cols),
        .panels = panels,
        .x = x,
        .step = step,
        .half_sums = half_sums,
    };
    size_t panel_count = (out_rows + SL_PANEL_ROWS - 1) / SL_PANEL_ROWS;
    size_t pairs_max = GROUP_BYTES / (2 * w.panel_bytes);
    size_t group_max = pairs_max == 0 ? 2 : min_size(2 * pairs_max, GROUP_MAX);
    _Alignas(64) totals_of_panel totals[GROUP_MAX];

    for (size_t first = 0; first < panel_count; first += group_max) {
        size_t count = min_size(panel_count - first, group_max);
        for (size_t row = 0; row < x->rows; row += SLI_ROW_BLOCK) {
            size_t rows = min_size(x->rows - row, SLI_ROW_BLOCK);
            bool last_rows = row + rows == x->rows;
            row_block_times_group(&w, row, rows, first, count, last_rows ? first + count : first, totals);
            for (size_t p = 0; p < count; p++) {
                size_t lane = (first + p) * SL_PANEL_ROWS;
                store_totals(&totals[p], rows, min_size(out_rows - lane, SL_PANEL_ROWS), out + row * out_stride + lane, out_stride);
            }
        }
    }
}

void sli_walk_quantized(uint32_t type, const uint8_t *panels, uint32_t out_rows, const sl_acts *x, float *out, size_t out_stride,
                        sli_quant_step_fn step)
{
    sli_walk_halves(type, panels, out_rows, x, out, out_stride, step, lay_out_half_sums);
}

void sli_walk_float(uint32_t type, const uint8_t *panels, uint32_t out_rows, const sl_acts *x, float *out, size_t out_stride,
                    sli_float_step_fn step)
{
    size_t panel_bytes = sl_panel_bytes(type, x->cols);
    size_t element_bytes = sl_row_bytes(type, SL_PANEL_ROWS); /* an element of all sixteen rows */
    _Alignas(64) totals_of_panel totals;

    for (size_t lane = 0; lane < out_rows; lane += SL_PANEL_ROWS, panels += panel_bytes) {
        for (size_t row = 0; row < x->rows; row += SLI_ROW_BLOCK) {
            size_t rows = min_size(x->rows - row, SLI_ROW_BLOCK);
            memset(totals, 0, sizeof totals);
            for (size_t k = 0; k < x->cols; k += SLI_SEGMENT_ELEMENTS)
                step(&(sli_float_step){
                    .x = x->f32 + row * x->cols + k,
                    .x_stride = x->cols,
                    .rows = (uint32_t)rows,
                    .count = (uint32_t)min_size(x->cols - k, SLI_SEGMENT_ELEMENTS),
                    .weights = panels + k * element_bytes,
                    .totals = totals,
                });
            store_totals(&totals, rows, min_size(out_rows - lane, SL_PANEL_ROWS), out + row * out_stride + lane, out_stride);
        }
    }
}
