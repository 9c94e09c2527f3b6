/* kernels/cpu/matmul_super_avx2.c: products with super-blocks (the K-quants and IQ4_XS); a vector lane is a row, a register half a panel.
 *
 * A super-block's scales are spread over a few words bit by bit, so they are unpacked once for each half panel and tile and then lie in L1 as what
 * the inner step wants: a 16-bit pair for each sub-block, the second operand of VPMADDWD (see matmul_lanes_avx2.h), and the minima as
 * floats. The quants are unpacked anew for each four rows of activations, which costs less than storing them would.
 *
 * Q3_K's and Q6_K's weights are taken as unsigned, 4 and 32 above the meant ones. What that adds to the pair sums depends on the activations
 * alone, so they start at minus that, and end within 32 * 127 * 8 = 32512 whatever they overflow to on the way.
 *
 * Words of a super-block, in the file's order; a line is 32 elements, four to a word:
 *     Q2_K    4 scales and minima, 2 x 8 of four lines each
 *     Q3_K    8 third bits, 2 x 8 of four lines each, 3 scales
 *     Q4_K    3 scales and minima, 4 x 8 of two lines each
 *     Q5_K    3 scales and minima, 8 fifth bits, then as Q4_K
 *     Q6_K    2 x 16 nibbles, 2 x 8 upper bit pairs, 4 scales
 *     IQ4_XS  1 scales, 8 x 4 of a line each, its second half in the upper nibbles */
#if defined(__x86_64__)
#include "kernels/cpu/matmul_lanes_avx2.h"

#define SUBS_MAX 16
#define MAX_SUMS 4 /* of lines times rows: registers */

/* Scales and minima of eight rows' super-block. */
typedef struct unpacked {
    __m256i scale[SUBS_MAX]; /* [sub-block] 16-bit pairs of equal halves */
    __m256 low[SUBS_MAX];    /* [sub-block] the minima's integers */
    __m256 d, m;
} unpacked;

/* ---- formats, as constants to the inlined functions ---- */

INLINE size_t words_of(uint32_t type)
{
    return sli_layout_of(type).words;
}

/* Sub-blocks in a block of 32. */
INLINE int subs_of(uint32_t type)
{
    return type == SL_TYPE_Q2_K || type == SL_TYPE_Q3_K || type == SL_TYPE_Q6_K ? 2 : 1;
}

INLINE bool has_minima(uint32_t type)
{
    return type == SL_TYPE_Q2_K || type == SL_TYPE_Q4_K || type == SL_TYPE_Q5_K;
}

/* Whether weights are taken as unsigned, above the meant ones. */
INLINE bool has_offset(uint32_t type)
{
    return type == SL_TYPE_Q6_K || type == SL_TYPE_Q3_K;
}

INLINE int chunk_words(uint32_t type)
{
    switch (type) {
    case SL_TYPE_Q4_K: return 8;
    case SL_TYPE_IQ4_XS: return 1;
    default: return 4;
    }
}

/* Lines whose words are unpacked with constant shifts; the loop over groups of them stays a loop. */
INLINE int group_lines(uint32_t type)
{
    return type == SL_TYPE_Q2_K || type == SL_TYPE_Q3_K || type == SL_TYPE_Q6_K ? 4 : type == SL_TYPE_IQ4_XS ? 1 : 2;
}

/* ---- quants ---- */

/* `mask` bits of every byte after a shift to the right, by a negative count to the left. */
INLINE __m256i shifted(__m256i word, int right, int mask)
{
    __m256i moved = right >= 0 ? _mm256_srli_epi16(word, right) : _mm256_slli_epi16(word, -right);
    return _mm256_and_si256(moved, _mm256_set1_epi8((char)mask));
}

INLINE __m256i shifted_by(__m256i word, size_t right)
{
    return _mm256_srl_epi16(word, _mm_cvtsi64_si128((long long)right));
}

/* Word `w` of line `j` of group `n`: four weights of eight rows; words points at the half's lanes. */
INLINE __m256i unpack_word(uint32_t type, const uint8_t *words, size_t n, int j, int w)
{
    size_t at = (size_t)w;
    switch (type) {
    case SL_TYPE_Q2_K: return shifted(load_word(words, 4 + 8 * n + at), 2 * j, 3);
    case SL_TYPE_Q3_K: {
        __m256i third = shifted_by(load_word(words, at), 4 * n);
        return _mm256_or_si256(shifted(load_word(words, 8 + 8 * n + at), 2 * j, 3), shifted(third, j - 2, 4));
    }
    case SL_TYPE_Q4_K: return shifted(load_word(words, 3 + 8 * n + at), 4 * j, 15);
    case SL_TYPE_Q5_K: {
        __m256i fifth = shifted_by(load_word(words, 3 + at), 2 * n);
        return _mm256_or_si256(shifted(load_word(words, 11 + 8 * n + at), 4 * j, 15), shifted(fifth, j - 4, 16));
    }
    case SL_TYPE_Q6_K: {
        __m256i lower = shifted(load_word(words, 16 * n + 8 * (size_t)(j & 1) + at), j / 2 * 4, 15);
        return _mm256_or_si256(lower, shifted(load_word(words, 32 + 8 * n + at), 2 * j - 4, 48));
    }
    default: { /* IQ4_XS: four words, the second half of the line above the first */
        const __m256i values = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)sli_iq4_values));
        return _mm256_shuffle_epi8(values, shifted(load_word(words, 1 + 4 * n + at % 4), w / 4 * 4, 15));
    }
    }
}

/* ---- scales and minima ---- */

/* A shuffle that puts bytes p0..p3 of each lane into its four bytes; -1 is a zero. */
INLINE __m256i lane_shuffle(int p0, int p1, int p2, int p3)
{
#define IN_LANE(lane, p) (char)((p) < 0 ? -1 : 4 * (lane) + (p))
#define OF_LANE(lane)    IN_LANE(lane, p0), IN_LANE(lane, p1), IN_LANE(lane, p2), IN_LANE(lane, p3)
    return _mm256_broadcastsi128_si256(_mm_setr_epi8(OF_LANE(0), OF_LANE(1), OF_LANE(2), OF_LANE(3)));
#undef OF_LANE
#undef IN_LANE
}

/* Byte `i` of every lane in both of the lane's 16-bit halves. */
INLINE __m256i unsigned_pair(__m256i bytes, int i)
{
    return _mm256_shuffle_epi8(bytes, lane_shuffle(i, -1, i, -1));
}

INLINE __m256i signed_pair(__m256i bytes, int i)
{
    return _mm256_srai_epi16(_mm256_shuffle_epi8(bytes, lane_shuffle(-1, i, -1, i)), 8);
}

INLINE __m256 byte_as_float(__m256i bytes, int i)
{
    return _mm256_cvtepi32_ps(_mm256_shuffle_epi8(bytes, lane_shuffle(i, -1, -1, -1)));
}

/* Four sub-blocks' unsigned scales and minima, from `s` on. */
INLINE void keep_four(unpacked *u, size_t s, __m256i scales, __m256i minima)
{
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        u->scale[s + (size_t)i] = unsigned_pair(scales, i);
        u->low[s + (size_t)i] = byte_as_float(minima, i);
    }
}

INLINE void keep_four_signed(unpacked *u, size_t s, __m256i scales)
{
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
        u->scale[s + (size_t)i] = signed_pair(scales, i);
}

INLINE void unpack_q2_k(const uint8_t *words, unpacked *u)
{
#pragma GCC unroll 4
    for (size_t w = 0; w < 4; w++) {
        __m256i word = load_word(words, w);
        keep_four(u, 4 * w, shifted(word, 0, 15), shifted(word, 4, 15));
    }
}

INLINE void unpack_q3_k(const uint8_t *words, unpacked *u)
{
    const __m256i zero_point = _mm256_set1_epi8(32);
    __m256i lower[2] = {load_word(words, 24), load_word(words, 25)}, upper = load_word(words, 26);
#pragma GCC unroll 4
    for (int w = 0; w < 4; w++) {
        __m256i scales = _mm256_or_si256(shifted(lower[w % 2], w / 2 * 4, 15), shifted(upper, 2 * w - 4, 48));
        keep_four_signed(u, 4 * (size_t)w, _mm256_sub_epi8(scales, zero_point));
    }
}

INLINE void unpack_six_bits(const uint8_t *words, unpacked *u)
{
    __m256i scales = load_word(words, 0), minima = load_word(words, 1), last = load_word(words, 2);
    keep_four(u, 0, shifted(scales, 0, 63), shifted(minima, 0, 63));
    keep_four(u, 4, _mm256_or_si256(shifted(last, 0, 15), shifted(scales, 2, 48)),
              _mm256_or_si256(shifted(last, 4, 15), shifted(minima, 2, 48)));
}

INLINE void unpack_q6_k(const uint8_t *words, unpacked *u)
{
#pragma GCC unroll 4
    for (size_t w = 0; w < 4; w++)
        keep_four_signed(u, 4 * w, load_word(words, 48 + w));
}

/* The lower four bits are the nibbles of a word, the upper two the bit pairs of the second 16-bit number. */
INLINE void unpack_iq4_xs(const uint8_t *words, const uint8_t *halves, unpacked *u)
{
    __m256i lower = load_word(words, 0), upper = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)halves));
#pragma GCC unroll 8
    for (int b = 0; b < SLI_SEGMENT_BLOCKS; b++) {
        __m256i low = _mm256_and_si256(_mm256_srli_epi32(lower, 4 * b), _mm256_set1_epi32(15));
        __m256i high = _mm256_and_si256(_mm256_slli_epi32(_mm256_srli_epi32(upper, 2 * b), 4), _mm256_set1_epi32(48));
        __m256i scale = _mm256_sub_epi32(_mm256_or_si256(low, high), _mm256_set1_epi32(32));
        u->scale[b] = _mm256_blend_epi16(scale, _mm256_slli_epi32(scale, 16), 0xaa);
    }
}

INLINE void unpack_scales(uint32_t type, const uint8_t *words, const uint8_t *scales, const uint8_t *minima, unpacked *u)
{
    switch (type) {
    case SL_TYPE_Q2_K: unpack_q2_k(words, u); break;
    case SL_TYPE_Q3_K: unpack_q3_k(words, u); break;
    case SL_TYPE_Q6_K: unpack_q6_k(words, u); break;
    case SL_TYPE_IQ4_XS: unpack_iq4_xs(words, minima, u); break;
    default: unpack_six_bits(words, u); break;
    }
    u->d = load_f16(scales);
    if (has_minima(type))
        u->m = load_f16(minima);
}

/* ---- products ---- */

/* Lines that are taken side by side, so that the words they share are loaded once; as many as the registers hold sums for. Where only two share
 * a word it does not pay. */
INLINE int lines_at_once(uint32_t type, int rows)
{
    return rows == 1 && group_lines(type) == 4 ? 4 : 1;
}

/* D2's step for `lines` lines of group `n` from line `j` on, which are blocks `b` .. of the tile: acc = fma(dx, isum, acc) for each row. */
INLINE void multiply_lines(uint32_t type, int lines, int rows, const uint8_t *words, const unpacked *u, size_t n, int j,
                           const sli_act_tile *x, size_t row, size_t b, __m256 *acc)
{
    const int chunk = chunk_words(type), subs = subs_of(type), sums = lines * rows;
    const __m256i *scale = u->scale + (n * (size_t)group_lines(type) + (size_t)j) * (size_t)subs;
    __m256i isum[MAX_SUMS], pairs[MAX_SUMS];
#pragma GCC unroll 8
    for (int w = 0; w < 8; w++) {
        __m256i weights = _mm256_setzero_si256(); /* the first of each line's rows unpacks them */
#pragma GCC unroll 8
        for (int i = 0; i < sums; i++) {
            const int l = i / rows, r = i % rows;
            const size_t block = b + (size_t)l, act_row = row + (size_t)r;
            if (r == 0)
                weights = unpack_word(type, words, n, j + l, w);
            __m256i product = multiply_word(weights, type == SL_TYPE_IQ4_XS, x->q[block][act_row] + 4 * w);
            if (w % chunk == 0 && has_offset(type))
                pairs[i] = broadcast_word(x->half_start[act_row][block][w / 4]);
            pairs[i] = w % chunk == 0 && !has_offset(type) ? product : _mm256_add_epi16(pairs[i], product);
            pairs[i] = in_order(pairs[i]);
            if (w % chunk == chunk - 1) {
                __m256i scaled = _mm256_madd_epi16(pairs[i], scale[l * subs + w * subs / 8]);
                isum[i] = w < chunk ? scaled : in_order(_mm256_add_epi32(isum[i], scaled));
            }
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < sums; i++)
        acc[i % rows] = _mm256_fmadd_ps(_mm256_broadcast_ss(&x->d[row + (size_t)(i % rows)][b + (size_t)(i / rows)]),
                                        _mm256_cvtepi32_ps(isum[i]), acc[i % rows]);
}

/* The minima's sum: low = fma(minimum, dx * sum, low) for each sub-block. */
INLINE void sum_minima(uint32_t type, int rows, const unpacked *u, const sli_act_tile *x, size_t row, size_t first, __m256 *low)
{
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++)
        low[r] = _mm256_setzero_ps();
#pragma GCC unroll 16
    for (size_t s = 0; s < (size_t)(SLI_SEGMENT_BLOCKS * subs_of(type)); s++)
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++) {
            const float *dsum = subs_of(type) == 1 ? &x->dsum[row + r][first + s] : &x->half_dsum[row + r][first + s / 2][s % 2];
            low[r] = _mm256_fmadd_ps(u->low[s], _mm256_broadcast_ss(dsum), low[r]);
        }
}

/* A super-block of half a panel times `rows` rows of activations, added to their totals; `first` is its first block in the tile. */
INLINE void multiply_rows(uint32_t type, int rows, const uint8_t *words, const unpacked *u, const uint8_t *ahead, const sli_act_tile *x,
                          size_t row, size_t first, size_t half, float (*totals)[SL_PANEL_ROWS])
{
    const int lines = group_lines(type), at_once = lines_at_once(type, rows);
    const size_t prefetched = words_of(type) * (size_t)lines / SLI_SEGMENT_BLOCKS + 1;
    __m256 acc[MAX_ROWS], low[MAX_ROWS];
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++)
        acc[r] = _mm256_setzero_ps();
    for (size_t n = 0; n < (size_t)(SLI_SEGMENT_BLOCKS / lines); n++) {
        if (half == 0 && row == 0)
            prefetch_lines(ahead + n * prefetched * WORD, prefetched);
#pragma GCC unroll 4
        for (int j = 0; j < lines; j += at_once)
            multiply_lines(type, at_once, rows, words, u, n, j, x, row, first + n * (size_t)lines + (size_t)j, acc);
    }
    if (has_minima(type))
        sum_minima(type, rows, u, x, row, first, low);
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++) {
        acc[r] = _mm256_mul_ps(u->d, acc[r]);
        if (has_minima(type))
            acc[r] = _mm256_fnmadd_ps(u->m, low[r], acc[r]);
    }
    add_to_totals(rows, totals, row, half, acc);
}

INLINE void multiply_half(uint32_t type, const sli_quant_step *s, size_t panel, size_t super, size_t half)
{
    sli_weight_parts now = parts_of_panel(&s->now, panel * s->panel_bytes), ahead = parts_of_panel(&s->ahead, panel * s->panel_bytes);
    const uint8_t *words = now.quants + super * words_of(type) * WORD + half * (WORD / 2);
    const uint8_t *next = ahead.quants + super * words_of(type) * WORD;
    size_t at = super * (WORD / 2) + half * (WORD / 4), first = super * SLI_SEGMENT_BLOCKS, row = 0;
    float(*totals)[SL_PANEL_ROWS] = s->totals[panel];
    unpacked u;
    unpack_scales(type, words, now.scales + at, now.minima + at, &u);
    prefetch_lines(ahead.scales + at, 1);
    prefetch_lines(ahead.minima + at, 1);
    for (; row + 4 <= s->rows; row += 4)
        multiply_rows(type, 4, words, &u, next, s->x, row, first, half, totals);
    if (s->rows & 2) {
        multiply_rows(type, 2, words, &u, next, s->x, row, first, half, totals);
        row += 2;
    }
    if (s->rows & 1)
        multiply_rows(type, 1, words, &u, next, s->x, row, first, half, totals);
}

INLINE void multiply_tile(uint32_t type, const sli_quant_step *s)
{
    for (size_t panel = 0; panel < s->panels; panel++)
        for (size_t super = 0; super < s->blocks / SLI_SEGMENT_BLOCKS; super++)
            for (size_t half = 0; half < 2; half++)
                multiply_half(type, s, panel, super, half);
}

static void step_q2_k(const sli_quant_step *s)
{
    multiply_tile(SL_TYPE_Q2_K, s);
}
static void step_q3_k(const sli_quant_step *s)
{
    multiply_tile(SL_TYPE_Q3_K, s);
}
static void step_q4_k(const sli_quant_step *s)
{
    multiply_tile(SL_TYPE_Q4_K, s);
}
static void step_q5_k(const sli_quant_step *s)
{
    multiply_tile(SL_TYPE_Q5_K, s);
}
static void step_q6_k(const sli_quant_step *s)
{
    multiply_tile(SL_TYPE_Q6_K, s);
}
static void step_iq4_xs(const sli_quant_step *s)
{
    multiply_tile(SL_TYPE_IQ4_XS, s);
}

void sli_matmul_super_avx2(uint32_t type, const uint8_t *panels, uint32_t out_rows, const sl_acts *x, float *out, size_t out_stride)
{
    switch (type) {
    case SL_TYPE_Q2_K: sli_walk_quantized(type, panels, out_rows, x, out, out_stride, step_q2_k); break;
    case SL_TYPE_Q3_K: sli_walk_quantized(type, panels, out_rows, x, out, out_stride, step_q3_k); break;
    case SL_TYPE_Q4_K: sli_walk_quantized(type, panels, out_rows, x, out, out_stride, step_q4_k); break;
    case SL_TYPE_Q5_K: sli_walk_quantized(type, panels, out_rows, x, out, out_stride, step_q5_k); break;
    case SL_TYPE_Q6_K: sli_walk_quantized(type, panels, out_rows, x, out, out_stride, step_q6_k); break;
    case SL_TYPE_IQ4_XS: sli_walk_quantized(type, panels, out_rows, x, out, out_stride, step_iq4_xs); break;
    default: break; /* the engine has refused other types when it opened the file */
    }
}
#endif
