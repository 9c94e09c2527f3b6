/* pager/packed.h: the layout of a packed file: a stock GGUF laid out anew so that one neuron is one short read.
 *
 *     the original                                  packed: a GGUF too, each tensor on a multiple of 4096 bytes
 *     +---------------------------------+           +---------------------------------------------------------+
 *     | header: keys, tensor table      | ------.   | header: sluice.pack.* keys, tensor table                |
 *     +---------------------------------+       |   +---------------------------------------------------------+
 *     | token_embd.weight               | --.   |   | sluice.checksums     I64 [tensors]   XXH3-64 of each    |
 *     | blk.0.attn_q.weight, norms, ... | --|   '-> | sluice.original      I8  [bytes]     header, verbatim   |
 *     | blk.0.ffn_gate.weight           | --|-.     | sluice.padding       I8  [bytes]     what no tensor has |
 *     | blk.0.ffn_up.weight             | --|-|     +---------------------------------------------------------+
 *     | blk.0.ffn_down.weight           | --|-|     | token_embd.weight    as it was                          |
 *     | blk.1. ...                      |   '-|---> | blk.0.attn_q.weight  as it was                          |
 *     '---------------------------------'     |     | ...                                                     |
 *                                             '---> | blk.0.ffn.bundles    I8  [stride, neurons]              |
 *        one bundle = one neuron:                   |   +----------+---------+-------------+-------+          |
 *        stride is a multiple of 512,               |   | gate row | up row  | down column | zeros | place 0  |
 *        rows as in the original file,              |   +----------+---------+-------------+-------+          |
 *        the column as kernels/columns.h            |   | gate row | up row  | down column | zeros | place 1  |
 *        lays it out                                |   '----------+---------+-------------+-------'  ...     |
 *                                                   | blk.0.ffn.meta       I8  [bytes]     what down's blocks |
 *                                                   |                                      share; may be none |
 *                                                   | blk.0.ffn.order      I32 [neurons]   neuron at a place  |
 *                                                   | blk.1. ...                                              |
 *                                                   | sluice.calibration.* blk.N.calibration.*   any          |
 *                                                   '---------------------------------------------------------'
 *
 * Place and neuron: `place` is a position in storage order, `neuron` a row of the original's gate; neuron = order[place].
 *
 * Version 2 leaves out zeros, of pruned models; a file without such layers is of version 1.
 *   Silent neurons, whose gate and up rows are zero, are not stored: bundles has fewer rows than there are neurons. They have the last places of the
 *     order. All of them have the same bytes, which blk.N.ffn.silent (I8, gate row, up row and column, plain) keeps for `unpack`.
 *   A part of a bundle may be compact: its zeros are left out as kernels/compact.h says, with room for as many elements as the layer's fullest
 *     neuron has there. That is so where its stored size is not the plain one.
 *
 * Keys: sluice.pack.version (u32), sluice.pack.alignment (u32: the stride is a multiple of it), sluice.pack.original_bytes (u64), and
 * sluice.pack.column_bytes (i32 array: of each layer's down column, 0: its matrices lie plain), which this folder cannot know by itself.
 * Of version 2 also sluice.pack.stored_neurons (i32 array: of each layer, 0: plain) and sluice.pack.stored_bytes (i32 array: of each layer, what a gate row, an
 * up row and a column take in a bundle).
 * sluice.pack.order (string) tells people what the order is. What `calibrate` finds is stored beside them in ordinary tensors and keys,
 * named sluice.calibration.* and blk.N.calibration.*; they are found with sl_gguf_find and sl_gguf_find_tensor in the packed file itself.
 *
 * A layer that cannot be cut (no gate, a format that kernels/columns.h does not know, shapes that don't fit) keeps its tensors plain.
 *
 * The checksum of sluice.checksums itself is that of the file's header followed by all other checksums. So after open these hold:
 *  P1  the packed file's header and table of checksums are those that were written;
 *  P2  the original's header is the one that was packed, and a GGUF that obeys G1..G4;
 *  P3  each tensor of the original has its bytes in exactly one place, and nothing else is there but the sections above;
 *  P4  a bundled layer's sizes agree with the original's shapes; its order is a permutation and the one that was written; at least one place is stored, and
 *      no part is stored larger than plain.
 * The data of other sections is not looked at: who loads one whole asks sl_packed_check_tensor; `pack --verify` and `unpack` check all.
 *
 * Threads: immutable after open. */
#ifndef SL_PAGER_PACKED_H
#define SL_PAGER_PACKED_H

#include "core/gguf.h"

#define SL_PACK_VERSION      2u              /* that is read at most; what has no zeros left out is written as the first */
#define SL_PACK_ALIGNMENT    4096u           /* of tensors in the file */
#define SL_PACK_STRIDE       512u            /* of a bundle: the logical block of most disks */
#define SL_PACK_PARTS        3               /* of a bundle: gate row, up row, column */
#define SL_PACK_ARCHITECTURE "sluice-packed" /* its general.architecture, so that other programs say what they do not know */

typedef struct sl_packed_layer {
    bool bundled;
    uint32_t gate_type, up_type, down_type;
    uint32_t ff, d;
    uint32_t gate_bytes, up_bytes, column_bytes; /* plain */
    uint32_t stored_bytes[SL_PACK_PARTS]; /* of gate, up and column, in this order at the start of each bundle; less than plain: compact */
    uint32_t stored;                      /* places that have a bundle: [0, stored); the others' neurons are silent */
    uint32_t stride;
    uint64_t bundles_offset;          /* in the file */
    uint64_t meta_offset, meta_bytes; /* 0, 0 where the blocks share nothing */
    uint64_t silent_offset;           /* 0: no neuron is silent */
    uint64_t order_offset;            /* int32 [ff] */
    const uint32_t *order;            /* the same, in memory: order[place] = neuron */
} sl_packed_layer;

/* What a part takes without compaction; the bytes of a bundle without its padding; those of a silent neuron's plain ones. */
static inline uint32_t sl_packed_plain_bytes(const sl_packed_layer *l, int part)
{
    return part == 0 ? l->gate_bytes : part == 1 ? l->up_bytes : l->column_bytes;
}
static inline uint32_t sl_packed_bundle_bytes(const sl_packed_layer *l)
{
    return l->stored_bytes[0] + l->stored_bytes[1] + l->stored_bytes[2];
}
static inline uint32_t sl_packed_silent_bytes(const sl_packed_layer *l)
{
    return l->gate_bytes + l->up_bytes + l->column_bytes;
}

typedef struct sl_packed sl_packed;

/* Where the bytes of a packed file come from. */
typedef struct sl_packed_source {
    sl_status (*read)(void *ctx, uint64_t offset, void *to, size_t bytes, sl_error *err);
    void *ctx;
} sl_packed_source;

/* Whether a GGUF is a packed file (of any version). */
bool sl_packed_is(const sl_gguf *file);
/* Reads and checks what `file` (kept by the caller, outliving *out) describes. SL_FORMAT for another version, a missing or mis-sized section,
 * a header or an order that is not the checksum's; the message names file and section. */
SL_MUST_USE sl_status sl_packed_open(const sl_gguf *file, sl_packed **out, sl_error *err);
/* The same with the file's bytes from elsewhere, for the fuzzer. */
SL_MUST_USE sl_status sl_packed_open_from(const sl_gguf *file, const sl_packed_source *source, sl_packed **out, sl_error *err);
void sl_packed_close(sl_packed *packed); /* NULL is fine */
size_t sl_packed_heap_bytes(const sl_packed *packed);

uint32_t sl_packed_version(const sl_packed *packed);
const sl_gguf *sl_packed_file(const sl_packed *packed);
/* The original's header, as if it had been opened; tensor offsets are the original's. Its path is the packed file's. */
const sl_gguf *sl_packed_original(const sl_packed *packed);
/* Where the data of a tensor of sl_packed_original lies in the packed file; UINT64_MAX when it was cut into bundles. */
uint64_t sl_packed_locate(const sl_packed *packed, const sl_gguf_tensor *original);
uint32_t sl_packed_layer_count(const sl_packed *packed);
const sl_packed_layer *sl_packed_layer_at(const sl_packed *packed, uint32_t layer); /* NULL behind the last */

/* What the table says for a tensor of the packed file. */
uint64_t sl_packed_checksum(const sl_packed *packed, const sl_gguf_tensor *tensor);
/* Compares data that was read whole with its checksum; SL_FORMAT names file and tensor. `tensor` is one of the packed file's. */
SL_MUST_USE sl_status sl_packed_check_tensor(const sl_packed *packed, const sl_gguf_tensor *tensor, const void *data, sl_error *err);

/* ---- what reader and writer share ---- */

/* Layers that a GGUF's names show: the largest N of "blk.N." plus one. N is below the number of tensors, else it is no layer of ours. */
uint32_t sli_packed_count_layers(const sl_gguf *original);
/* The three matrices of a layer's feed-forward when they are there and their shapes fit together; false when it must stay plain. Fills types,
 * ff, d, gate_bytes and up_bytes of *layer and clears the rest. matrices: gate, up, down; NULL when not wanted. */
bool sli_packed_layer_of(const sl_gguf *original, uint32_t layer, sl_packed_layer *out, const sl_gguf_tensor *matrices[3]);
/* Whether a name is one of those that only `calibrate` gives. */
bool sli_packed_is_calibration(sl_str name);
/* Bytes of the original that belong neither to its header nor to a tensor. */
uint64_t sli_packed_padding_bytes(const sl_gguf *original);
/* Visits those, in file order. `visit` gets offset and length of each gap. SL_NO_MEMORY, or what visit returned. */
SL_MUST_USE sl_status sli_packed_each_gap(const sl_gguf *original,
                                          sl_status (*visit)(void *ctx, uint64_t offset, uint64_t bytes, sl_error *err), void *ctx,
                                          sl_error *err);
/* The checksum of sluice.checksums: that of the header's bytes and then of all other entries of the table. */
SL_MUST_USE sl_status sli_packed_self_checksum(const sl_gguf *file, const sl_packed_source *source, const uint64_t *checksums,
                                               uint64_t *out, sl_error *err);

#endif
