/* offload/tools/pack.h: re-laying a GGUF into neuron bundles (pager/packed.h draws them), and back, byte for byte.
 *
 * Packing works by the names of tensors (blk.N.ffn_gate.weight and its two companions) on any architecture, known to us or not. A layer whose
 * matrices cannot be cut stays plain. Packing a packed file lays it out anew in another order.
 *
 * Restarting. While it is being written, OUT.partial records the checksum of each section that is done. The same job (same input file, order
 * and layout) started again takes such a file up: sections whose data still has the recorded checksum are kept, the rest is made again;
 * the watch's note says so. A failed write and a stop leave the partial file for that; other failures remove it. Unpacking starts over.
 *
 * IN and OUT may be one file: it is replaced at the very end, by a rename.
 *
 * Memory: about one layer's feed-forward, at most some 128 MiB (packing: always; unpacking: unless one matrix of a layer is larger than that).
 * The page cache of what was read and written is dropped as it goes.
 * Threads: one call, one thread.  Same input and options, same bytes. */
#ifndef SL_OFFLOAD_TOOLS_PACK_H
#define SL_OFFLOAD_TOOLS_PACK_H

#include "offload/tools/tool.h"
#include "pager/packed.h"

typedef enum sli_pack_order {
    SLI_PACK_FILE_ORDER = 0, /* as the original's rows */
    SLI_PACK_RANDOM_ORDER,   /* by `seed` */
    SLI_PACK_KEPT_ORDER,     /* the input's: file order for a stock one */
    SLI_PACK_GIVEN_ORDER,    /* orders[layer]; where that is NULL the kept one */
} sli_pack_order;

/* Zeros of a pruned model (pack_zeros.h). A packed input's stay as they are. */
typedef enum sli_pack_zero_rule {
    SLI_PACK_ZEROS_AUTO = 0, /* left out where the file says that it was pruned */
    SLI_PACK_STORE_ZEROS,
    SLI_PACK_LEAVE_ZEROS_OUT,
} sli_pack_zero_rule;

/* A tensor to store beside the model's, named sluice.calibration.* or blk.N.calibration.*. */
typedef struct sli_pack_tensor {
    const char *name;
    uint32_t type, dims;
    uint64_t shape[4];
    const void *data; /* all of it; or NULL, and read is asked for one piece after the other */
    sl_status (*read)(void *ctx, uint64_t offset, void *to, size_t bytes, sl_error *err);
    void *ctx;
} sli_pack_tensor;

/* A key to store, named sluice.calibration.*. */
typedef struct sli_pack_key {
    const char *key;
    sl_gguf_kind kind; /* of the value or, with `array`, of its elements; SL_GGUF_STRING only without */
    bool array;
    uint64_t count;   /* of an array */
    const void *data; /* the elements; a string: its bytes with a NUL behind */
} sli_pack_key;

typedef struct sli_pack_options {
    const char *in_path, *out_path;
    sli_pack_order order;
    sli_pack_zero_rule zeros;
    uint64_t seed;
    const uint32_t *const *orders; /* SLI_PACK_GIVEN_ORDER: layer_count permutations, order[place] = neuron */
    uint32_t layer_count;
    const sli_pack_tensor *tensors; /* replace those of the same name in a packed input */
    size_t tensor_count;
    const sli_pack_key *keys;
    size_t key_count;
    bool drop_calibration; /* carry over nothing of a packed input's calibration; else it stays, it speaks of neurons and not of places */
    sl_tool_watch watch;
} sli_pack_options;

typedef struct sli_pack_result {
    uint64_t original_bytes, packed_bytes;
    uint64_t kept_bytes; /* taken over from an earlier run's partial file */
    size_t sections;
    uint32_t layers, bundled_layers;
    uint32_t neurons, silent_neurons; /* of the bundled layers; the latter are not stored */
    uint32_t compact_layers;
} sli_pack_result;

/* Counts the last ones over layers. */
void sli_pack_count_zeros(const sl_packed_layer *layers, uint32_t count, sli_pack_result *out);

/* SL_INVALID (options), SL_FORMAT (the input; a packed one with a wrong checksum), SL_IO, SL_NO_MEMORY, SL_INTERRUPTED. result: NULL is fine. */
SL_MUST_USE sl_status sli_pack(const sli_pack_options *options, sli_pack_result *result, sl_error *err);

/* Writes the original. Every section is checked as it is read; on failure no file is left. */
SL_MUST_USE sl_status sli_unpack(const char *in_path, const char *out_path, const sl_tool_watch *watch, sli_pack_result *result,
                                 sl_error *err);

/* Reads all of a packed file and compares all checksums; SL_FORMAT names the first section that is bad. */
SL_MUST_USE sl_status sli_pack_verify(const char *path, const sl_tool_watch *watch, sli_pack_result *result, sl_error *err);

/* What only the kernels know: that each bundled layer's column and meta data are as large as its down matrix makes them, and that parts which are
 * not plain have a size that compact ones can have. To be asked by whoever opens a packed file in order to use its bundles. */
SL_MUST_USE sl_status sli_pack_check_columns(const sl_packed *packed, sl_error *err);

#endif
