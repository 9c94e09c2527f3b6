/* kernels/cuda/tile.h: a segment of a panel times columns of activations, in one warp, by the matrix product of 8-bit integers (D2).
 *
 * One product is a line: sixteen rows of weights x 32 elements x eight rows of activations give that line's sums exactly, and D2's fma follow one by one
 * in registers, as they do for a single row. So results do not depend on how many rows there are, nor on which kernel made them. A lane feeds in pair t
 * of rows g and g + 8 (t = lane % 4, g = lane / 4), which is a word as it lies in the panel: nothing is exchanged between lanes. Halves of a line that
 * have scales of their own are two products, the other half's integers zero.
 *
 * Where the activations come from is the kernel's business: x.pair(n, j, word), x.scales(n, j, d) and x.shares(n, j, d, share) give this lane's part of line
 * j of columns 8n..8n + 7: column g's words t and 4 + t; the scales of columns 2t and 2t + 1, and what sli_shares makes of them. An offset is taken from the
 * weights, once for all columns. */
#ifndef SL_KERNELS_CUDA_TILE_H
#define SL_KERNELS_CUDA_TILE_H

#include "kernels/cuda/products.h"

#define SLI_TILE_COLS 8 /* rows of activations that a product takes */

/* The sums of four results of a lane: [0], [1] are row g's with columns 2t, 2t + 1, the others row g + 8's. */
struct sli_tile_sum {
    sli_segment_sum of[4];
};

template <uint32_t TYPE, typename Acts>
SLI_DEVICE void sli_tile_line(const uint32_t w[4], const sli_terms terms[2], const Acts &x, int n, int j, sli_tile_sum *s)
{
    constexpr sli_form form = sli_form_of(TYPE);
    uint32_t q[2];
    float d[2], share[2][2] = {};
    int low[4] = {0, 0, 0, 0}, high[4] = {0, 0, 0, 0};
    x.pair(n, j, q);
    x.scales(n, j, d);
    if constexpr (form.has_min)
        x.shares(n, j, d, share);
    if constexpr (form.sub == 16) {
        const uint32_t first[4] = {w[0], w[1], 0, 0}, second[4] = {0, 0, w[2], w[3]};
        sli_mma_s8(low, first, q);
        sli_mma_s8(high, second, q);
    } else {
        sli_mma_s8(low, w, q);
    }
#pragma unroll
    for (int i = 0; i < 4; i++)
        sli_add_line<TYPE>(&s->of[i], terms[i / 2], low[i], high[i], d[i % 2], share[i % 2]);
}

/* out[n][i] as in sli_tile_sum. All lanes of the warp come here together. */
template <uint32_t TYPE, int NT, typename Acts>
SLI_DEVICE void sli_tile_segment(const uint8_t *panel, uint32_t cols, uint32_t segment, const Acts &x, float out[NT][4])
{
    constexpr sli_form form = sli_form_of(TYPE);
    uint32_t lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    const sli_panel_source<TYPE> source[2] = {{panel, cols, segment, g}, {panel, cols, segment, g + 8}};
    sli_lines<TYPE, 1> lines[2];
    sli_terms terms[2] = {};
    sli_tile_sum s[NT] = {};
    const int left = form.elements == 32 ? (int)min(cols / SLI_LINE_COLS - segment * SLI_SEGMENT_LINES, (uint32_t)SLI_SEGMENT_LINES)
                                         : SLI_SEGMENT_LINES;
    for (int i = 0; i < 2; i++) {
        lines[i].open(source[i], t);
        if constexpr (form.elements != 32)
            sli_block_terms(source[i], 0, form.has_min, &terms[i]);
    }
#pragma unroll 2
    for (int j = 0; j < left; j++) {
        uint32_t w[4];
#pragma unroll
        for (int i = 0; i < 2; i++) {
            lines[i].fetch(source[i], t, j);
            if constexpr (form.elements == 32)
                sli_block_terms(source[i], (uint32_t)j, form.has_min, &terms[i]);
            lines[i].terms(source[i], j, &terms[i]);
            lines[i].pair(j, 0, &w[i], &w[2 + i]);
            if constexpr (form.offset != 0) {
                w[i] = sli_less(w[i], form.offset);
                w[2 + i] = sli_less(w[2 + i], form.offset);
            }
        }
#pragma unroll
        for (int n = 0; n < NT; n++)
            sli_tile_line<TYPE>(w, terms, x, n, j, &s[n]);
    }
#pragma unroll
    for (int n = 0; n < NT; n++)
#pragma unroll
        for (int i = 0; i < 4; i++)
            out[n][i] = sli_end_segment<TYPE>(s[n].of[i], terms[i / 2]);
}

#endif
