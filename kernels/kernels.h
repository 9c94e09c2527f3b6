/* kernels/kernels.h: the arithmetic of a model, defined once.
 *
 * Every instruction set fills one sl_kernels table and equals kernels/ref bit for bit; so the definitions here are the product.
 * Nothing here allocates, locks or knows of files. All functions are pure over their arguments and may run on many threads at once
 * on disjoint outputs. Compiled with -ffp-contract=off; fma below is always an explicit one (a single rounding).
 *
 * D1  Activations for quantised weights. A row of x is cut into blocks of 32: d = amax / 127 (fp32 division), inv = 127 / amax,
 *     q = round-half-even(x * inv) as int8, sum = the int32 sum of q. Where amax < 2^-120 (inv would overflow) d, q and sum are 0.
 * D2  Products with quantised weights, out[r] = sum over blocks b of 32 in index order. Inside a block the products of integers sum in
 *     int32 (exact): isum. Blocks lie in segments of 8 (256 elements, aligned to element 0; the last may be shorter). The row's total starts
 *     at +0 and adds the segments in order: total = total + segment. dw and m are fp16 widened to fp32.
 *     Formats with blocks of 32: acc starts at +0, for each block
 *         Q4_0, Q5_0, Q8_0, IQ4_NL: acc = fma(dw * dx, (float)isum, acc)
 *         Q4_1, Q5_1:               acc = fma(dw * dx, (float)isum, acc); acc = fma(m, dx * (float)sum, acc)
 *     and the segment is acc. The integers w are nibble - 8, 5 bits - 16, the byte, the table's value at the nibble; nibble, 5 bits.
 *     Formats with super-blocks of 256, which are segments: each sub-block of 16 (Q2_K, Q3_K, Q6_K) or 32 (Q4_K, Q5_K, IQ4_XS) has an
 *     integer scale s, and in Q2_K, Q4_K and Q5_K an integer minimum l. acc and low start at +0, for each block of 32
 *         isum = the sum of s * w * q over its elements, |isum| < 2^24
 *         acc = fma(dx, (float)isum, acc); with minima, for each of its sub-blocks: low = fma((float)l, dx * (float)sum16or32, low)
 *     where sum16or32 is the sub-block's sum of q, and the segment is dw * acc, with minima fma(-m, low, dw * acc). The integers are w = 2 bits,
 *     3 bits - 4, nibble, 5 bits, 6 bits - 32, the table's value; s is as stored, in Q3_K and IQ4_XS less 32.
 * D3  Products with float weights (F32, F16, BF16 widened to fp32; x stays fp32), segments of 256 elements as above. In a segment lane
 *     j = k mod 4 accumulates acc_j = fma(w_k, x_k, acc_j) in order from +0; the segment is (acc_0 + acc_1) + (acc_2 + acc_3).
 * D4  Sums over a vector (RMS norm): 16 lanes, lane j = i mod 16, acc_j = fma(x_i, x_i, acc_j); then halves are folded: lane j += lane
 *     j + 8, then + 4, + 2, + 1. RMS norm: y_i = (x_i * (1 / sqrtf(sum / n + eps))) * w_i, every operation rounded to fp32.
 *     Layer norm: mean = (the sum of x, in lanes and folded likewise) / n, t_i = x_i - mean, sum as above but over t; with
 *     s_i = t_i * (1 / sqrtf(sum / n + eps)) it is y_i = s_i * w_i, with biases fma(s_i, w_i, b_i).
 * D5  Attention of a query at position p over stored keys and values 0..p (or the last `window` of them), in pages of 64 positions
 *     aligned to position 0, in order. K and V are read as stored and widened to fp32 (q8_0, q4_0: d * q, fp32). With q'_c = q_c * scale:
 *         s_i = sequential fma over components c = 0.. : acc = fma(q'_c, k_ic, acc) from +0; positions that are not visible: no part
 *         per page with a visible position: m' = max(m, max s_i); c = exp(m - m') (0 for the first page); p_i = exp(s_i - m'), 0 where not
 *         visible; page_sum = 16 lanes, lane j adds p_j, p_j+16, p_j+32, p_j+48 in order, then folded as in D4;
 *         l = l * c + page_sum (two roundings); o_d = o_d * c, then o_d = fma(p_i, v_id, o_d) for i in order; m = m'
 *     and out_d = o_d * (1 / l) + 0. A position that is not visible may be skipped or multiplied as p_i = 0: v must then be finite, and
 *     is; what is left of the choice, the sign of a zero, goes with the + 0.
 *     A row of a tree (sl_attention_tree) sees its own path only, and counts by where it stands on that: these are the bits that its path gives as
 *     a chain, wherever the path's keys and values lie.
 * D6  exp is kernels/exp.h's polynomial; silu(x) = x / (1 + exp(-x)); gelu_tanh(x) = x / (1 + exp(-2u)), see there. GLU: act(gate) * up.
 *     relu(x) = +0 where x < 0, else x.
 * D7  Rotary: pairs (x0, x1), c = cos, s = sin from the caller's table: y0 = fma(x0, c, -(x1 * s)), y1 = fma(x0, s, x1 * c).
 *
 * D8  A feed-forward over a set of neurons is the dense one with the other neurons' activations left out: D1 sees zeros in their place, and
 *     in the down product a block (D2) with no member in the set has no part in the sum, nor has an element (D3) that is no member. Of a
 *     block with members all of it is D2. Segments and lanes go by the neuron's own index, whatever order it is stored in. For finite
 *     weights these are the bits that D2 and D3 give with the zeros multiplied: what is left out could only turn a zero's sign inside a
 *     segment, and a total, which begins at +0, does not show that.
 * D9  Products with planes of signs (kernels/signs.h) and D1's activations: out[r] = sum over blocks b of 32 in index order, acc = fma(dx, (float)isum,
 *     acc) from +0, isum the int32 sum of weight times integer in the block.
 * D10 Approximate scores (SparQ): only the components of an ascending list count, s_i = sequential fma over the list, acc = fma(q_c, k_ic, acc) from +0.
 *     A softmax over positions begin <= i < end: m = max s_i, p_i = exp(s_i - m), total = 16 lanes, lane i mod 16 adds p_i in order, then folded as
 *     in D4; the result is p_i * (1 / total).
 *
 * The panel. Sixteen rows of a matrix, interleaved so that a vector lane is a row. A panel has exactly the bytes of its rows:
 *     quantised: a block consists of one or two 16-bit numbers (the fp16 dw; then m, or of IQ4_XS upper bits of the scales) and of 32-bit words
 *     (quants, upper bits, packed scales) that lie side by side in the file. The panel has first [block][word][row] of all blocks, then
 *     dw [block][row], then, for formats with a second 16-bit number, that one [block][row]. Words hold raw file bytes: word w of a Q4
 *     block is bytes 4w..4w+3, low nibbles elements 4w.., high nibbles elements 16+4w...
 *     float: [element][row].
 * So packing is a transposition of raw words, lossless and reversible; a format is described by where its words and its 16-bit numbers lie
 * in a block. */
#ifndef SL_KERNELS_KERNELS_H
#define SL_KERNELS_KERNELS_H

#include "core/cpu.h"
#include "core/format.h"
#include "kernels/compact.h"
#include "kernels/signs.h"

#include <stddef.h>
#include <stdint.h>

#define SL_PANEL_ROWS 16  /* rows of a panel */
#define SL_KV_PAGE    64  /* positions of a KV page */
#define SL_ACT_BLOCK  32  /* activations that share a scale */
#define SL_TREE_ROWS  128 /* rows of a tree, at most */
#define SL_PICK_SLACK 16  /* places behind what was picked */

/* Activations of `rows` rows, ready for products. f32 is always there; the others only after quantize(). The caller owns all memory;
 * every pointer is 64-byte aligned, rows follow each other without gaps. */
typedef struct sl_acts {
    uint32_t rows, cols;
    const float *f32; /* [rows][cols] */
    int8_t *q;        /* [rows][cols] */
    float *d;         /* [rows][cols / 32] */
    int32_t *sum;     /* [rows][cols / 32] */
} sl_acts;

/* Rows that branch: all the tree's keys and values lie behind position pos0 - 1, tree row i's in slot pos0 + i, whatever its depth. A row at
 * depth d is at position pos0 + d, and there position pos0 + k is what path[k] names: its ancestor at depth k, or itself. */
typedef struct sl_attention_tree {
    const uint8_t *depth;                /* [row of the job] */
    const uint8_t (*path)[SL_TREE_ROWS]; /* [row of the job][depth + 1] tree rows, ascending */
} sl_attention_tree;

/* One attention job: `rows` consecutive query rows at positions pos0.. of the `group` query heads that share one KV head. */
typedef struct sl_attention {
    uint32_t head_dim; /* components, a multiple of 16 (of 32 for q8_0 and q4_0), at most 512 */
    uint32_t group;    /* query heads per KV head */
    uint32_t rows;
    uint32_t pos0;                 /* position of row 0, which sees itself; with a tree: of the tree's root */
    const sl_attention_tree *tree; /* NULL: row r is at pos0 + r */
    uint32_t window;               /* 0: all positions; else only the last `window`, itself included */
    float scale;
    uint32_t k_type, v_type;       /* SL_TYPE_F32, F16, BF16, Q8_0 or Q4_0 */
    const uint8_t *const *k_pages; /* [page] -> K page of this head, see kv_store_k */
    const uint8_t *const *v_pages; /* [page] -> V page */
    const float *q;                /* row r, head h at q + r * q_stride + h * head_dim */
    size_t q_stride;               /* floats */
    float *out;                    /* the same shape */
    size_t out_stride;             /* floats */
    float *scratch;                /* sl_attention_scratch_bytes(), one per thread, 64-byte aligned */
} sl_attention;

/* Scores of `group` query heads by some of their components (D10), for all positions of the pages [page_begin, page_end). */
typedef struct sl_key_scores {
    uint32_t head_dim, group;
    uint32_t k_type;
    const uint8_t *const *k_pages; /* [page], as in sl_attention */
    uint32_t page_begin, page_end;
    uint32_t count;
    const uint32_t *component; /* [count], ascending */
    const float *q;            /* [group][count] those components of the queries, scaled */
    float *out;                /* head h's score of position i at out + h * out_stride + i; 64-byte aligned */
    size_t out_stride;         /* floats, a multiple of 64 */
} sl_key_scores;

/* A matrix that is there by columns (kernels/columns.h): the members of a set of its neurons. */
typedef struct sl_columns {
    uint32_t type, rows, cols;
    const uint8_t *meta;          /* of all blocks; not used for float types */
    uint32_t count;               /* members */
    const uint32_t *member;       /* [count] neurons, ascending */
    const uint8_t *const *column; /* [count] their columns, any alignment */
} sl_columns;

typedef enum sl_glu { SL_GLU_SILU, SL_GLU_GELU_TANH } sl_glu;
typedef enum sl_rope { SL_ROPE_PAIRS /* (2i, 2i+1), llama */, SL_ROPE_HALVES /* (i, i + n/2), neox */ } sl_rope;

typedef struct sl_kernels {
    sl_isa isa;

    /* Quantises rows [row_begin, row_end) of x->f32 into x->q, d, sum (D1). cols is a multiple of 32. */
    void (*quantize)(sl_acts *x, uint32_t row_begin, uint32_t row_end);

    /* Interleaves 16 rows of `cols` elements into a panel. rows[i] may be unaligned; a NULL row is packed as zero bytes. */
    void (*pack)(uint32_t type, const uint8_t *const rows[SL_PANEL_ROWS], uint32_t cols, uint8_t *panel);

    /* out[a * out_stride + r] for all rows a of x and rows r in [0, out_rows) of `panels` (one after the other, 16 rows each, the
     * last may be partly used). Uses x->q, d, sum for quantised formats (D2), x->f32 for float formats (D3). */
    void (*matmul)(uint32_t type, const uint8_t *panels, uint32_t out_rows, const sl_acts *x, float *out, size_t out_stride);

    /* out[i] for all i in [0, count): the row that lies at rows[i] as in the file, any alignment and order, times x, which has one row:
     * D2 or D3. What matmul gives for the same rows. */
    void (*dot_rows)(uint32_t type, const uint8_t *const *rows, uint32_t count, const sl_acts *x, float *out);

    /* out[a * w->rows + r] for all rows a of x and r in [row_begin, row_end): a matrix by columns, over the members alone (D8). row_begin is a
     * multiple of 32; x has w->cols, with zeros where a neuron is no member. A share of rows that is a multiple of 64 is fastest. */
    void (*matmul_columns)(const sl_columns *w, const sl_acts *x, uint32_t row_begin, uint32_t row_end, float *out);

    /* out[r], r in [row_begin, row_end), is row r of the signs times x's single row (D9). row_begin is a multiple of 32, row_end too unless it is w->rows. */
    void (*dot_signs)(const sl_signs *w, const sl_acts *x, uint32_t row_begin, uint32_t row_end, float *out);

    /* A strip with its zeros, 2 bytes an element, from a compact one (kernels/compact.h). Of one that keeps more than kept_max the rest are zeros. */
    void (*expand)(uint32_t elements, const uint8_t *compact, uint32_t kept_max, uint8_t *plain);

    /* One row of a matrix as fp32: as it lies in the file, or from a panel. */
    void (*dequantize_row)(uint32_t type, const uint8_t *row, uint32_t cols, float *out);
    void (*dequantize_panel_row)(uint32_t type, const uint8_t *panel, uint32_t row, uint32_t cols, float *out);

    void (*rms_norm)(const float *x, const float *w, uint32_t n, float eps, float *out);                   /* one row (D4); out may be x */
    void (*layer_norm)(const float *x, const float *w, const float *b, uint32_t n, float eps, float *out); /* likewise; b may be NULL */
    void (*add)(float *acc, const float *x, size_t n);                                                     /* acc += x */
    void (*scale)(float *x, float factor, size_t n);
    void (*glu)(sl_glu act, const float *gate, const float *up, size_t n, float *out); /* D6; out may be gate */
    void (*relu)(float *x, size_t n);                                                  /* D6, in place */
    /* One row of `heads` heads; only the first rope_dim components of a head turn; cos, sin: [rope_dim / 2] of its position (D7). */
    void (*rope)(sl_rope kind, float *x, uint32_t heads, uint32_t head_dim, uint32_t rope_dim, const float *cos, const float *sin);

    /* Writes one position's K or V vector of a head into slot `index` (0..63) of its page, rounded to the type (q8_0: D1's rule per 32
     * components, d rounded to fp16 after q was computed with the unrounded one; q4_0: of 32 components the first of the largest ones, x, becomes -8:
     * d = x / -8, inv = -8 / x, q = round-half-even(component * inv), at most 7; d and q are 0 as D1 has it).
     * K page: f32, f16, bf16: [component][64]; q8_0: int8 [component][64], then fp16 d [component / 32][64]; q4_0: bytes [component / 32][16][64],
     * whose byte c holds components c (low nibble) and c + 16 of the block, each q + 8, then fp16 d as in q8_0.
     * V page: f32, f16, bf16: [64][component]; q8_0: int8 [64][component], then fp16 d [64][component / 32]; q4_0: bytes [64][component / 32][16]
     * likewise, then d. */
    void (*kv_store_k)(uint32_t type, uint8_t *page, uint32_t index, const float *k, uint32_t head_dim);
    void (*kv_store_v)(uint32_t type, uint8_t *page, uint32_t index, const float *v, uint32_t head_dim);
    /* Copies one position as it is stored, to another page or slot of the same type. */
    void (*kv_copy_k)(uint32_t type, const uint8_t *from, uint32_t from_index, uint8_t *to, uint32_t to_index, uint32_t head_dim);
    void (*kv_copy_v)(uint32_t type, const uint8_t *from, uint32_t from_index, uint8_t *to, uint32_t to_index, uint32_t head_dim);
    /* Copies a key that lies as a value does (a page of kv_store_v) to where a page of keys has it. */
    void (*kv_turn_k)(uint32_t type, const uint8_t *from, uint32_t from_index, uint8_t *to, uint32_t to_index, uint32_t head_dim);
    /* sum[c] += the values in slots [begin, end) of a page, in order. */
    void (*kv_sum_v)(uint32_t type, const uint8_t *page, uint32_t begin, uint32_t end, uint32_t head_dim, float *sum);
    void (*attention)(const sl_attention *job);
    void (*key_scores)(const sl_key_scores *job);
    /* D10, in place; x is 64-byte aligned, and what shares a cache line with [begin, end) may be overwritten. begin < end. */
    void (*softmax)(float *x, uint32_t begin, uint32_t end);
    /* The indices i < count with |x[i]| >= limit, ascending, and what is there; a NaN is the largest. How many; SL_PICK_SLACK more of each may be
     * overwritten. */
    uint32_t (*pick)(const float *x, uint32_t count, float limit, uint32_t *index, float *value);
} sl_kernels;

/* The kernels of an instruction set; NULL when it was not built for this machine's architecture. The caller has checked that the CPU
 * can run it (sl_cpu_supports). SL_ISA_SCALAR is the reference. */
const sl_kernels *sl_kernels_for(sl_isa isa);

size_t sl_kv_page_bytes(uint32_t type, uint32_t head_dim); /* of one K or one V page */
/* A key of a K page, widened as D5 has it, to key[head_dim]. */
void sl_kv_key_floats(uint32_t type, const uint8_t *k_page, uint32_t index, uint32_t head_dim, float *key);
/* Copies a key from a page of keys to where a page of values has it: kv_turn_k the other way round. */
void sl_kv_key_row(uint32_t type, const uint8_t *from, uint32_t from_index, uint8_t *to, uint32_t to_index, uint32_t head_dim);
size_t sl_attention_scratch_bytes(uint32_t head_dim, uint32_t group);
static inline size_t sl_panel_bytes(uint32_t type, uint32_t cols)
{
    return SL_PANEL_ROWS * sl_row_bytes(type, cols);
}

#endif
