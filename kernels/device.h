/* kernels/device.h: the arithmetic of a model on a device: kernels.h's definitions (D1..D10), bit for bit, over memory of the device.
 *
 * Everything is given to the device's compute stream, but where another is named, and returns at once. A function returns what the launch returned; wrong arguments are asserted.
 * All addresses are the device's; what is an address of floats is 16-byte aligned, quantised activations 64-byte.
 *
 * What changes from pass to pass (positions, the tree) lies in the device's memory, so that a captured graph of a pass can be run again for the next.
 *
 * Threads: the device's owner. */
#ifndef SL_KERNELS_DEVICE_H
#define SL_KERNELS_DEVICE_H

#include "core/device.h"
#include "kernels/kernels.h"

/* What a pass is, in the device's memory. */
typedef struct sl_device_pass {
    uint32_t pos0;  /* position of row 0; of a tree: of its root */
    uint32_t first; /* of the tree's rows, which row 0 is; without a tree 0. Row r's keys and values go to slot pos0 + first + r */
    uint32_t tree;  /* 0: rows follow each other */
    uint32_t unused;
    uint8_t depth[SL_TREE_ROWS];              /* [row of the tree] */
    uint8_t path[SL_TREE_ROWS][SL_TREE_ROWS]; /* as sl_attention_tree */
} sl_device_pass;
#define SL_DEVICE_PASS_BYTES 16 /* of a pass that is no tree: what comes before its depths; others are not read */

/* Activations of `rows` rows (sl_acts, on the device). */
typedef struct sl_device_acts {
    uint32_t rows, cols;
    sl_device_ptr f32, q, d, sum;
} sl_device_acts;

/* Rows of one matrix, as panels that lie one after the other (kernels.h, "The panel"); a last panel with fewer rows is whole, with zero bytes. */
typedef struct sl_device_product {
    uint32_t type, rows;
    sl_device_ptr panels;
    sl_device_ptr out;  /* row a's results at out + a * out_stride floats */
    sl_device_ptr bias; /* [rows], or 0 */
    sl_device_ptr add;  /* as out, what the results (with the bias) are added to; may be `out` itself; or 0 */
    uint32_t out_stride;
} sl_device_product;
#define SL_DEVICE_PRODUCTS 32 /* of a call */

/* Keys and values of one layer: for each KV head pages of keys, then pages of values, as kernels.h's kv_store_k and kv_store_v lay them out. */
typedef struct sl_device_kv {
    sl_device_ptr base; /* keys of head 0, page 0 */
    uint32_t k_type, v_type;
    uint64_t head_stride, v_offset;      /* bytes, from a head's keys to the next head's, and to its values */
    uint64_t k_page_bytes, v_page_bytes; /* from page to page */
    bool in_host;                        /* where the device reads and writes it in place: for the emulated device's clock alone */
} sl_device_kv;

/* What a pass sees of a layer's keys and values, its own rows included, whole pages, to the same pages of another cache. */
typedef struct sl_device_kv_bring {
    sl_device_kv from, to; /* of the same shape; 16-byte aligned */
    uint32_t rows, kv_heads, window;
    uint32_t positions; /* as in sl_device_attention */
    sl_device_ptr pass; /* sl_device_pass */
} sl_device_kv_bring;
/* Pages [first, end) of one layer between a cache and host memory, where each has a place of its own. */
typedef struct sl_device_kv_pages {
    sl_device_kv kv;
    sl_device_ptr
        places; /* sl_device_ptr [kv_heads][stride]: where a page's keys begin, and right behind them its values; 16-byte aligned. May lie in host memory */
    uint32_t stride, kv_heads, first, end;
} sl_device_kv_pages;
/* The keys of one layer once more, each in one piece as kernels.h's kv_store_v lays values, for each KV head its pages; base 0: there are none. */
typedef struct sl_device_key_rows {
    sl_device_ptr base;
    uint64_t head_stride, page_bytes; /* from a head's to the next head's, from page to page */
} sl_device_key_rows;

typedef struct sl_device_norm {
    uint32_t rows, cols;
    float eps;
    sl_device_ptr src, weight, dst; /* dst may be src */
    const sl_device_acts *acts;     /* NULL, or what dst is quantised to at once (f32 of it is dst) */
} sl_device_norm;

typedef struct sl_device_glu {
    sl_glu act;
    uint32_t rows, cols;
    sl_device_ptr gate, up, dst; /* dst may be gate */
    const sl_device_acts *acts;  /* as in sl_device_norm */
} sl_device_glu;

/* All that happens to a layer's queries, keys and values between their products and attention: norms of heads, rotary turns, the store. */
typedef struct sl_device_heads {
    uint32_t rows, heads, kv_heads, head_dim, rope_dim;
    sl_rope rope;
    float eps;
    sl_device_ptr q, k, v;            /* [rows][heads or kv_heads][head_dim]; q is changed in place, k and v only in the cache */
    sl_device_ptr q_norm, k_norm;     /* [head_dim], or 0 */
    sl_device_ptr rope_cos, rope_sin; /* [rows][rope_dim / 2] */
    sl_device_ptr pass;               /* sl_device_pass */
    sl_device_kv kv;
    sl_device_key_rows key_rows; /* where keys are stored, too */
} sl_device_heads;

typedef struct sl_device_attention {
    uint32_t rows, heads, kv_heads, head_dim, window;
    uint32_t positions; /* no row of the pass sees more; a captured graph's must hold for all its runs */
    float scale;
    sl_device_ptr q, out;  /* [rows][heads][head_dim] */
    sl_device_ptr pass;    /* sl_device_pass */
    sl_device_ptr scratch; /* sl_device_kernels.attention_scratch() bytes */
    sl_device_kv kv;
    const sl_device_acts *acts; /* as in sl_device_norm, of out: cols is heads * head_dim */
} sl_device_attention;

/* Attention of each row to a part of the cache (SparQ, offload/sparq_attention.h): the query heads of a KV head take the `r` components with the largest sums
 * of |q|, score all positions by them (D10), and attend (D5) to the `k` best of them, the last `local` always among those; equal ones by the lower index first. A row that sees
 * no more than k positions attends to all. */
typedef struct sl_device_sparq {
    sl_device_attention all; /* as if all were attended to; a window is larger than k; scratch: sl_device_kernels.sparq_scratch() bytes */
    sl_device_key_rows key_rows;
    uint32_t k, r, local;
    bool alike; /* there is but one row, or every row sees more than k positions */
    sl_device_ptr
        value_sums; /* 0: nothing stands for what is left out; else [KV head][sums_pages][head_dim] floats, see the call that fills them; they */
    uint32_t sums_pages; /* hold those before the page of each row, or of the tree's root */
    sl_device_ptr
        blocks_read; /* uint64_t, to which is added, for each row and KV head that chooses: blocks of 32 with a component among the r, times
                                  positions that are scored */
} sl_device_sparq;

/* The same by whole pages (offload/sparq_pages.h): an index of the keys of complete pages is scored by the r components, and of the pages before those of the last
 * `local` positions the best are attended to, the first one among them, and those: k / SL_KV_PAGE in all, where a tree's count as its root's. A row whose own page (or its tree's root's) comes before that many
 * attends to all. */
typedef struct sl_device_sparq_pages {
    sl_device_attention all; /* as if all were attended to, without a window; scratch: sparq_pages_scratch() bytes */
    sl_device_kv
        index; /* keys alone, of SL_TYPE_Q4_0 or F16, by pages as those of all.kv; what is complete before the row, or its tree's root, is there */
    uint32_t k, r, local;
    uint32_t row0, rows;  /* of all.rows, those of this call: sparq_pages_rows() at most */
    sl_device_ptr places; /* 0: pages lie in all.kv; else as in sl_device_kv_pages, of those that were chosen */
    uint32_t stride;
    sl_device_ptr blocks_read; /* as in sl_device_sparq */
} sl_device_sparq_pages;

/* A layer's feed-forward over a list of its neurons, each of which lies as a bundle (pager/packed.h): gate row, up row and down column, as in the
 * packed file, anywhere the device can read. */
typedef struct sl_device_bundles {
    uint32_t gate_type, up_type, down_type;
    uint32_t d, ff;
    uint32_t gate_bytes, up_bytes, column_bytes;
    sl_device_ptr at;   /* [ff] sl_device_ptr of each neuron's bundle; 2-byte aligned */
    sl_device_ptr meta; /* of the down matrix */
    float host_share;   /* of the bytes that a call reads, what is expected to lie in host memory: for the emulated device's clock alone */
} sl_device_bundles;

#define SL_DEVICE_FRESH 0x80000000u /* of a slot's holder */

/* A predictor's signs of gate and up (D9), and what it knows of each neuron (offload/guess.h). */
typedef struct sl_device_guess {
    uint32_t ff, planes_sum; /* planes of all blocks of columns */
    sl_device_ptr planes, gate, up;
    sl_device_ptr neurons; /* bf16 [4][ff rounded up to 32] */
} sl_device_guess;

typedef struct sl_device_kernels {
    /* x->f32 to x->q, d, sum (D1). */
    sl_status (*quantize)(sl_device *dev, const sl_device_acts *x, sl_error *err);
    sl_status (*rms_norm)(sl_device *dev, const sl_device_norm *job, sl_error *err);
    sl_status (*glu)(sl_device *dev, const sl_device_glu *job, sl_error *err);
    sl_status (*add)(sl_device *dev, sl_device_ptr acc, sl_device_ptr x, uint64_t count, sl_error *err);
    /* `rows` rows of `cols` floats, whose beginnings lie a stride of floats apart on either side, from anywhere that the device can read. From host
     * memory, too, this needs no copy engine: it comes through between the weights that one is busy with. */
    sl_status (*place)(sl_device *dev, sl_device_ptr to, uint32_t to_stride, sl_device_ptr from, uint32_t from_stride, uint32_t cols,
                       uint32_t rows, sl_error *err);
    sl_status (*heads)(sl_device *dev, const sl_device_heads *job, sl_error *err);
    sl_status (*attention)(sl_device *dev, const sl_device_attention *job, sl_error *err);
    uint64_t (*attention_scratch)(uint32_t rows, uint32_t heads, uint32_t head_dim, uint32_t positions); /* bytes; pure */
    /* One position's keys and values of all heads to another slot, as they are stored, and the same of `rows`. */
    sl_status (*kv_copy)(sl_device *dev, const sl_device_kv *kv, const sl_device_key_rows *rows, uint32_t kv_heads, uint32_t head_dim,
                         uint32_t from, uint32_t to, sl_error *err);
    /* Once for a pass, from host memory, whatever its rows and heads. */
    sl_status (*kv_bring)(sl_device *dev, const sl_device_kv_bring *job, sl_error *err);
    /* From the places to the cache, and from it to them. */
    sl_status (*kv_gather)(sl_device *dev, const sl_device_kv_pages *job, sl_error *err);
    sl_status (*kv_scatter)(sl_device *dev, const sl_device_kv_pages *job, sl_error *err);
    sl_status (*sparq)(sl_device *dev, const sl_device_sparq *job, sl_error *err);
    uint64_t (*sparq_scratch)(const sl_device_sparq *job); /* bytes, for as many rows and positions; reads sizes alone; pure */
    /* Keys of pages [from, to) of the cache to the same pages of an index, from what is stored. */
    sl_status (*key_index)(sl_device *dev, const sl_device_kv *kv, const sl_device_kv *index, uint32_t kv_heads, uint32_t head_dim,
                           uint32_t from, uint32_t to, sl_error *err);
    sl_status (*sparq_pages_choose)(sl_device *dev, const sl_device_sparq_pages *job, sl_error *err);
    sl_status (*sparq_pages_attend)(sl_device *dev, const sl_device_sparq_pages *job, sl_error *err);
    uint32_t (*sparq_pages_rows)(const sl_device_sparq_pages *job);    /* at once; reads sizes alone; pure, and so are these: */
    uint64_t (*sparq_pages_scratch)(const sl_device_sparq_pages *job); /* bytes, for as many rows and positions */
    sl_device_ptr (*sparq_pages_lists)(
        const sl_device_sparq_pages
            *job); /* what was chosen: uint32_t [row of the call][KV head][4 + k / SL_KV_PAGE], how many and which pages, ascending */
    /* For pages [from, to), in order: sums[KV head][page][head_dim] (sums_pages of them a head) is the sum of all values before the page: those of the page before it, added up in
     * order from +0, then the sum before that page. */
    sl_status (*value_sums)(sl_device *dev, const sl_device_kv *kv, uint32_t kv_heads, uint32_t head_dim, sl_device_ptr sums,
                            uint32_t sums_pages, uint32_t from, uint32_t to, sl_error *err);

    /* `rows` rows that lie `stride` bytes apart, as in the file, any alignment, to panels; a last panel is filled up with zero bytes. */
    sl_status (*pack)(sl_device *dev, uint32_t type, sl_device_ptr from, uint64_t stride, uint32_t rows, uint32_t cols,
                      sl_device_ptr panels, sl_error *err);
    /* All products of one source, at most SL_DEVICE_PRODUCTS (D2, D3). */
    sl_status (*matmul)(sl_device *dev, const sl_device_product *products, uint32_t count, const sl_device_acts *x, sl_error *err);

    /* Where each neuron's bundle lies: at[n] = units[place_of[n] / per_unit] + place_of[n] % per_unit * stride, for n in [0, ff); `nowhere` where that unit is 0.
     * `units` ([count]) is the host's and read at once; place_of is uint32 [ff] and `at` sl_device_ptr [ff] on the device. */
    sl_status (*bundle_table)(sl_device *dev, const sl_device_ptr *units, uint32_t count, uint32_t per_unit, uint32_t stride,
                              sl_device_ptr place_of, uint32_t ff, sl_device_ptr nowhere, sl_device_ptr at, sl_error *err);
    /* Adds `times` to *sum (uint64_t, on the device) for each i in [0, count) whose at[neurons[i]] is `nowhere`. */
    sl_status (*bundle_count)(sl_device *dev, sl_device_ptr at, sl_device_ptr nowhere, sl_device_ptr neurons, uint32_t count,
                              uint32_t times, sl_device_ptr sum, sl_error *err);
    /* Slot s, of `slots`, lies at units[s / per_unit] + s % per_unit * stride, and holders[s] (uint32, on the device) is its neuron n: at[n] and also[n], of two
     * tables, become the slot's address. Where SL_DEVICE_FRESH is set in the holder, of `fresh` of them, its bundle is brought from where at[n] was. No neuron has two
     * slots; `units` as above. */
    sl_status (*bundle_settle)(sl_device *dev, sl_device_ptr holders, uint32_t slots, uint32_t fresh, const sl_device_ptr *units,
                               uint32_t per_unit, uint32_t stride, sl_device_ptr at, sl_device_ptr also, sl_error *err);
    /* For i in [0, count): the bundle of neuron n = neurons[i] from from[n], which is host memory, to `to` + i * stride; that becomes at[n]. On the copy stream, as the
     * copies of weights that it stands among. */
    sl_status (*bundle_gather)(sl_device *dev, sl_device_ptr neurons, uint32_t count, uint32_t stride, sl_device_ptr from, sl_device_ptr to,
                               sl_device_ptr at, sl_error *err);
    /* Rows of bundles to panels, as pack: row r lies `offset` bytes behind at[r]. */
    sl_status (*bundle_pack)(sl_device *dev, uint32_t type, sl_device_ptr at, uint32_t offset, uint32_t rows, uint32_t cols,
                             sl_device_ptr panels, sl_error *err);
    /* For i in [0, count): neuron n = neurons[i] (uint32; 0: n = i): h[r][n] = act(gate row . x[r]) * (up row . x[r]), for each row of x, which all read a bundle
     * once. h is [rows][ff]; others of it are left. */
    sl_status (*bundle_gate_up)(sl_device *dev, const sl_device_bundles *b, sl_glu act, sl_device_ptr neurons, uint32_t count,
                                const sl_device_acts *x, sl_device_ptr h, sl_error *err);
    /* out[r] (+= where `add`) for r in [0, d): the down product over the ascending list `neurons` (0: all ff) and its columns (D8), for each of h's rows, four of
     * which read a column once. h is quantised, with zeros where a neuron is no member. */
    sl_status (*bundle_down)(sl_device *dev, const sl_device_bundles *b, sl_device_ptr neurons, uint32_t count, const sl_device_acts *h,
                             sl_device_ptr out, bool add, sl_error *err);
    /* A predictor's inputs (offload/guess.h): out->f32[i] = x[select[i]] * factors[i] (select 0: x[i]), quantised to out. */
    sl_status (*guess_inputs)(sl_device *dev, sl_device_ptr x, sl_device_ptr select, sl_device_ptr factors, const sl_device_acts *out,
                              sl_error *err);
    /* And the scores [ff] of those inputs, by offload/guess.c's arithmetic. */
    sl_status (*guess_scores)(sl_device *dev, const sl_device_guess *guess, sl_glu act, const sl_device_acts *x, sl_device_ptr scores,
                              sl_error *err);
    /* The `keep` largest of `count` scores, equal ones by the smaller index first, as an ascending list (offload/select.c's rule). `clear`: floats [count] that
     * become zero meanwhile, or 0. */
    sl_status (*top)(sl_device *dev, sl_device_ptr scores, uint32_t count, uint32_t keep, sl_device_ptr members, sl_device_ptr clear,
                     sl_device_ptr scratch, sl_error *err);
    uint64_t (*top_scratch)(uint32_t count); /* bytes; pure */
} sl_device_kernels;

#endif
