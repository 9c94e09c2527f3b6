/* kernels/cpu/matmul_amx.c: products of many rows with AMX; a tile multiplies sixteen rows of activations with a panel's sixteen rows of weights.
 *
 * A panel's words are what a tile register wants of its second operand: four weights of each of sixteen rows, side by side. So a block of 32 is
 * eight rows of a tile, a row block of activations the other operand, and one TDPBSSD gives the block's integer sums of all rows at once, as D2 wants
 * them: no bias is needed, as both operands have a sign. What is left for AVX-512 is the fp32 part, a conversion, a multiplication and an FMA for
 * each row of activations; VPDPBUSD would be eight of these more.
 *
 * Weights that are no bytes in the panel are unpacked into the L1 cache, and sums come back through it, since tiles have no other way. One block
 * is summed while the sums of the block before it are scaled and the block behind it is unpacked.
 *
 * Few rows cost as much as sixteen here and are left to AVX-512, and so are formats of super-blocks and floats. Tiles are a thread's state: they are set
 * up for each product and given back after it, which also keeps context switches cheap. */
#if defined(__x86_64__)
#include "kernels/cpu/matmul_lanes_avx512.h"

#include <string.h>

#define ROWS_MIN 12 /* rows of activations from which on tiles are faster */

typedef int8_t weights_of_block[SL_ACT_BLOCK / 4][WORD];     /* a word of all rows of a panel, then the next */
typedef int32_t sums_of_block[SLI_ROW_BLOCK][SL_PANEL_ROWS]; /* [activation row][weight row] */
typedef int8_t activations_of_block[SLI_ROW_BLOCK][SL_ACT_BLOCK];

/* ---- tiles ---- */

/* What LDTILECFG reads (Intel SDM, volume 1, chapter 18). */
typedef struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_config;

/* Tiles 0 and 1 hold sums, 2 and 3 activations, 4 and 5 weights. */
static void configure_tiles(void)
{
    static const _Alignas(64) tile_config config = {
        .palette = 1,
        .row_bytes = {WORD, WORD, SL_ACT_BLOCK, SL_ACT_BLOCK, WORD, WORD},
        .rows = {SLI_ROW_BLOCK, SLI_ROW_BLOCK, SLI_ROW_BLOCK, SLI_ROW_BLOCK, SL_ACT_BLOCK / 4, SL_ACT_BLOCK / 4},
    };
    __asm__ volatile("ldtilecfg %0" : : "m"(config));
}

static void release_tiles(void)
{
    __asm__ volatile("tilerelease");
}

/* The instructions name their tiles, so these are macros; each says which memory it reads or writes, which the compiler's intrinsics do not. */
#define LOAD_WEIGHTS(t, at)                                                                                                                \
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #t : : "r"((at)), "r"((long)WORD), "m"(*(const weights_of_block *)(at)))
#define LOAD_ACTIVATIONS(t, at)                                                                                                            \
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #t : : "r"((at)), "r"((long)SL_ACT_BLOCK), "m"(*(const activations_of_block *)(at)))
#define MULTIPLY(sums, acts, weights)                                                                                                      \
    __asm__ volatile("tilezero %%tmm" #sums "\n\ttdpbssd %%tmm" #weights ", %%tmm" #acts ", %%tmm" #sums : :)
#define STORE_SUMS(t, at) __asm__ volatile("tilestored %%tmm" #t ", (%1,%2,1)" : "=m"(*(at)) : "r"((at)), "r"((long)WORD))

/* ---- a block's weights as signed bytes ---- */

/* Nibbles, with their fifth bits where there are any, as the signed numbers that they stand for. */
INLINE __m512i meant(uint32_t type, __m512i v)
{
    switch (type) {
    case SL_TYPE_Q4_0: return _mm512_sub_epi8(v, _mm512_set1_epi8(8));
    case SL_TYPE_Q5_0: return _mm512_sub_epi8(v, _mm512_set1_epi8(16));
    case SL_TYPE_IQ4_NL: return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)sli_iq4_values)), v);
    default: return v;
    }
}

INLINE void unpack_nibbles(uint32_t type, const uint8_t *words, weights_of_block *out)
{
    const __m512i nibble = _mm512_set1_epi8(15);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        __m512i word = load_word(words, (size_t)(i + is_five(type)));
        __m512i low = _mm512_and_si512(word, nibble), high = _mm512_and_si512(_mm512_srli_epi16(word, 4), nibble);
        if (is_five(type)) {
            low = add_fifth_bits(low, load_word(words, 0), i);
            high = add_fifth_bits(high, load_word(words, 0), 4 + i);
        }
        _mm512_store_si512((*out)[i], meant(type, low));
        _mm512_store_si512((*out)[4 + i], meant(type, high));
    }
}

/* ---- a tile of the long dimension ---- */

#define LAG  1         /* blocks between a store and the load that wants it; 2 to 6 are no faster */
#define RING (2 * LAG) /* blocks on their way */

/* What goes through memory between vectors and tiles. */
typedef struct passage {
    _Alignas(64) weights_of_block room[RING];
    sums_of_block sums[RING];
} passage;

/* The scales of the row block, and of rows that are computed with it and forgotten: zero, as memory might hold what is slow to multiply. */
typedef struct scales {
    const float (*d)[SLI_TILE_BLOCKS], (*dsum)[SLI_TILE_BLOCKS];
} scales;

typedef struct padded_scales {
    float d[SLI_ROW_BLOCK][SLI_TILE_BLOCKS], dsum[SLI_ROW_BLOCK][SLI_TILE_BLOCKS];
} padded_scales;

INLINE scales pad_scales(uint32_t type, const sli_quant_step *s, padded_scales *room)
{
    if (s->rows == SLI_ROW_BLOCK)
        return (scales){s->x->d, s->x->dsum};
    memset(room, 0, sizeof *room);
    memcpy(room->d, s->x->d, s->rows * sizeof room->d[0]);
    if (sli_layout_of(type).has_min)
        memcpy(room->dsum, s->x->dsum, s->rows * sizeof room->dsum[0]);
    return (scales){room->d, room->dsum};
}

/* A block of a panel, in the order of the pipeline: panel by panel. */
typedef struct place {
    size_t panel, block;
} place;

INLINE void advance(place *at, const sli_quant_step *s)
{
    if (++at->block == s->blocks) {
        at->block = 0;
        at->panel++;
    }
}

INLINE const uint8_t *words_at(uint32_t type, const sli_quant_step *s, place at)
{
    return s->now.quants + at.panel * s->panel_bytes + at.block * sli_layout_of(type).words * (size_t)WORD;
}

/* The block's integer sums. */
INLINE void sum_block(uint32_t type, const sli_quant_step *s, place at, size_t i, passage *way)
{
    const weights_of_block *weights = &way->room[i % RING];
    if (type == SL_TYPE_Q8_0)
        weights = (const weights_of_block *)words_at(type, s, at); /* bytes as they lie */
    if (i % 2 == 0) {
        LOAD_ACTIVATIONS(2, &s->x->q[at.block]);
        LOAD_WEIGHTS(4, weights);
        MULTIPLY(0, 2, 4);
        STORE_SUMS(0, &way->sums[i % RING]);
    } else {
        LOAD_ACTIVATIONS(3, &s->x->q[at.block]);
        LOAD_WEIGHTS(5, weights);
        MULTIPLY(1, 3, 5);
        STORE_SUMS(1, &way->sums[i % RING]);
    }
}

/* acc += the block's sums times its scales, plus its minima: the fp32 part of D2. */
INLINE void scale_block(uint32_t type, const sli_quant_step *s, const scales *of, place at, const sums_of_block *sums, __m512 *acc)
{
    const size_t halves = at.panel * s->panel_bytes + at.block * HALVES;
    __m512 scale = load_f16(s->now.scales + halves);
#pragma GCC unroll 16
    for (int r = 0; r < SLI_ROW_BLOCK; r++) {
        __m512 d = _mm512_mul_ps(scale, _mm512_set1_ps(of->d[r][at.block]));
        acc[r] = _mm512_fmadd_ps(d, _mm512_cvtepi32_ps(_mm512_load_si512((*sums)[r])), acc[r]);
    }
    if (!sli_layout_of(type).has_min)
        return;
    __m512 min = load_f16(s->now.minima + halves);
#pragma GCC unroll 16
    for (int r = 0; r < SLI_ROW_BLOCK; r++)
        acc[r] = _mm512_fmadd_ps(min, _mm512_set1_ps(of->dsum[r][at.block]), acc[r]);
}

/* Adds a segment's sums to the totals, and begins the next one's. */
INLINE void end_segment(const sli_quant_step *s, size_t panel, __m512 *acc)
{
#pragma GCC unroll 16
    for (int r = 0; r < SLI_ROW_BLOCK; r++) {
        float *total = s->totals[panel][r];
        _mm512_store_ps(total, _mm512_add_ps(_mm512_load_ps(total), acc[r]));
        acc[r] = _mm512_setzero_ps();
    }
}

INLINE void multiply_tile(uint32_t type, const sli_quant_step *s)
{
    const size_t count = s->panels * (size_t)s->blocks;
    passage way;
    padded_scales room;
    const scales of = pad_scales(type, s, &room);
    const size_t second = s->panel_bytes;
    const sli_weight_parts ahead[MAX_PANELS] = {s->ahead, {s->ahead.quants + second, s->ahead.scales + second, s->ahead.minima + second}};
    place unpacked = {0}, summed = {0}, scaled = {0};
    __m512 acc[SLI_ROW_BLOCK];
#pragma GCC unroll 16
    for (int r = 0; r < SLI_ROW_BLOCK; r++)
        acc[r] = _mm512_setzero_ps();
    for (size_t i = 0; i < count + 2 * LAG; i++) {
        if (i < count) {
            prefetch_parts(type, 1, &ahead[unpacked.panel], unpacked.block, 0, true);
            if (type != SL_TYPE_Q8_0)
                unpack_nibbles(type, words_at(type, s, unpacked), &way.room[i % RING]);
            advance(&unpacked, s);
        }
        if (i >= LAG && i < count + LAG) {
            sum_block(type, s, summed, i - LAG, &way);
            advance(&summed, s);
        }
        if (i >= 2 * LAG) {
            scale_block(type, s, &of, scaled, &way.sums[i % RING], acc);
            if (scaled.block % SLI_SEGMENT_BLOCKS == SLI_SEGMENT_BLOCKS - 1 || scaled.block + 1 == s->blocks)
                end_segment(s, scaled.panel, acc);
            advance(&scaled, s);
        }
    }
}

INLINE void multiply(uint32_t type, const sli_quant_step *s)
{
    if (s->rows < ROWS_MIN)
        sli_step_avx512(type)(s);
    else
        multiply_tile(type, s);
}

static void step_q4_0(const sli_quant_step *s)
{
    multiply(SL_TYPE_Q4_0, s);
}
static void step_q4_1(const sli_quant_step *s)
{
    multiply(SL_TYPE_Q4_1, s);
}
static void step_q5_0(const sli_quant_step *s)
{
    multiply(SL_TYPE_Q5_0, s);
}
static void step_q5_1(const sli_quant_step *s)
{
    multiply(SL_TYPE_Q5_1, s);
}
static void step_iq4_nl(const sli_quant_step *s)
{
    multiply(SL_TYPE_IQ4_NL, s);
}
static void step_q8_0(const sli_quant_step *s)
{
    multiply(SL_TYPE_Q8_0, s);
}

static sli_quant_step_fn step_of(uint32_t type)
{
    switch (type) {
    case SL_TYPE_Q4_0: return step_q4_0;
    case SL_TYPE_Q4_1: return step_q4_1;
    case SL_TYPE_Q5_0: return step_q5_0;
    case SL_TYPE_Q5_1: return step_q5_1;
    case SL_TYPE_IQ4_NL: return step_iq4_nl;
    case SL_TYPE_Q8_0: return step_q8_0;
    default: return NULL;
    }
}

void sli_matmul_amx(uint32_t type, const uint8_t *panels, uint32_t out_rows, const sl_acts *x, float *out, size_t out_stride)
{
    sli_quant_step_fn step = step_of(type);
    if (step == NULL || x->rows < ROWS_MIN) {
        sli_matmul_avx512(type, panels, out_rows, x, out, out_stride);
        return;
    }
    configure_tiles();
    sli_walk_quantized(type, panels, out_rows, x, out, out_stride, step);
    release_tiles();
}
#endif
