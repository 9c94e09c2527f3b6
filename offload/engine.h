/* offload/engine.h: what an engine holds, shared by the files of this folder.
 *
 *   price.c     what everything costs, and what stays (pure)          units.c     matrices cut into slabs
 *   engine.c    open and close in the order of the price list         kv.c        the cache's pages
 *   choices.c   what the options come to
 *   executor.c  runs the program of a pass, layer by layer             scratch.c   activations of a pass
 *   embed.c     what it starts from                                    attention.c    what looks back at the cache
 *   kv_spill.c  and those that lie in a file
 *   session.c   positions, batches, commit                             generate.c  sampling, stop strings, text
 *   session_tree.c, tree.c   rows that branch, and the path that is kept
 *   session_file.c, session_reader.c   a conversation on disk
 *   sirius.c    drafts and dense checks                                drafter.c, lookup.c   who drafts
 *   accept.c    which drafts may stay (pure)                           draft_length.c   how many to draft (pure)
 *   sparq_attention.c, sparq.c   rows that attend to a part of the cache
 *   probe.c     what parts of a pass cost, where that is asked for
 *   device_*.c  all of it on a device (device_engine.h)
 *   matmul.c    products over what is in memory                        describe.c, text.c   the rest of the public API
 *   division.c what the price list put where                          plan.c, machine.c    how fast that will be (pure)
 *   ffn.c       feed-forwards over sets of neurons                     sparsity.c, select.c   the sets
 *   exit.c, early_exit.c, exit_pass.c   tokens that leave the layers when they are settled
 *   observe.c   what is traced and recorded, as its reader wants it
 *   bundled.c, ffn_bundled.c    feed-forwards of a packed file: all of it
 *   ffn_members.c, ffn_sparse.c, ffn_resident.c    or some of its neurons: those of a set, or those that are in memory
 */
#ifndef SL_OFFLOAD_ENGINE_H
#define SL_OFFLOAD_ENGINE_H

#include "core/chat_template.h"
#include "core/model.h"
#include "core/sampler.h"
#include "core/threads.h"
#include "core/tokenizer.h"
#include "kernels/device.h"
#include "kernels/kernels.h"
#include "offload/bundled.h"
#include "offload/sluice.h"
#include "offload/sparsity.h"
#include "offload/tree.h"
#include "pager/bundles.h"
#include "pager/pager.h"
#include "pager/record.h"
#include "pager/spill.h"

#include <stdatomic.h>

/* A matrix of the model as the executor walks it: consecutive units of whole rows. */
typedef struct sli_matrix {
    uint32_t type, cols, rows;
    uint32_t row_bytes;
    uint32_t rows_per_unit; /* a multiple of SL_PANEL_ROWS; the last unit may have fewer */
    sl_unit_id first_unit;
    uint32_t unit_count;
    uint32_t file;
    uint64_t offset; /* in the file */
    bool bundles;    /* rows are a layer's bundles (pager/packed.h) */
} sli_matrix;

/* The units of a model in the order in which a pass uses them: layers first, then the head. */
typedef struct sli_units {
    sli_matrix *matrices; /* [layer][op of the layer's program], then [op of the head]; only MATMUL entries are filled */
    uint32_t layer_ops, head_ops;
    sl_unit *units;
    uint32_t count, body_count; /* units [0, body_count) are the layers', the rest the head's */
    uint64_t bytes, largest_bytes;
    size_t largest_panel_bytes;
    bool *in_vram;        /* [count]: stays on the device, in a pass after the first */
    sli_matrix embedding; /* unit_count 0 when it is not part of a pass (not tied) */
    sli_matrix positions; /* learned ones, whose rows are read as they are needed; rows 0: there are none */
} sli_units;

/* Cuts all matrices into units of about unit_bytes. */
/* `packed`: the file is one, and a bundled layer's gate stands for all its bundles, its up and down have no units; NULL: a stock file. */
SL_MUST_USE sl_status sli_units_build(const sl_model *model, const sl_packed *packed, uint32_t unit_bytes, sli_units *out, sl_error *err);
/* Units in the order of a pass, with or without those that are bundles, and the head's; returns how many. */
uint32_t sli_units_of_pass(const sl_model *model, const sl_packed *packed, const sli_units *u, bool bundles, bool head, sl_unit_id *order);
/* The bundles of a layer, as a matrix; NULL where it has none. */
const sli_matrix *sli_units_bundles(const sl_model *model, const sl_packed *packed, const sli_units *u, uint32_t layer);
/* Where a tensor's data lies in the file that is open. */
uint64_t sli_tensor_offset(const sl_packed *packed, const sl_gguf_tensor *tensor);
void sli_units_free(sli_units *units);
static inline const sli_matrix *sli_units_layer(const sli_units *u, uint32_t layer, uint32_t op)
{
    return &u->matrices[layer * u->layer_ops + op];
}
static inline const sli_matrix *sli_units_head(const sli_units *u, const sl_model *m, uint32_t op)
{
    return &u->matrices[m->layers * u->layer_ops + op];
}

/* How much larger a process may be at its pricing than an earlier run of the same command was: where the loader puts the libraries decides how
 * much of them a page fault brings in. */
#define SLI_PROCESS_DRIFT_BYTES ((uint64_t)768 << 10)

#define SLI_IO_ALIGNMENT 4096u /* what O_DIRECT wants at most; checked against the tier when it is attached */

/* Pages of code, libraries and heap that come into use only while running: the shared objects' text, the sampler, results, JSON. Measured as the
 * growth of RSS between pricing and exit beyond what is priced; see bench/SPEED.md. */
#define SLI_PROCESS_MARGIN_BYTES ((uint64_t)6 << 20)

/* What a KV cache is like. */
typedef struct sli_kv_shape {
    uint32_t context;        /* positions */
    uint32_t k_type, v_type; /* sl_type */
    bool key_rows, value_sums;
    bool key_index;
    uint32_t chosen_pages; /* that a row attends to at most, with key_index */
    uint32_t pass_rows;    /* at most: layers with a window keep no more than those and it need; 0: they keep the whole context */
    /* Of a cache that spills (kv_spill.h); without, all zero but the alignment. */
    bool spill;
    uint32_t resident_pages; /* of each head, the first ones */
    uint32_t group_heads;    /* that a window holds */
    uint32_t alignment;      /* of the spill file; 0: spilling is not wanted */
    uint32_t host_layers;    /* with a device: the cache of so many layers alone (kv_place.h says which); 0: of all */
} sli_kv_shape;

/* What is wished of a device, and what of its memory everything takes (device_price.c). */
typedef struct sli_device_wishes {
    const sl_device *device;
    uint64_t budget_bytes;
    uint64_t vector_bytes;   /* norm weights and biases */
    uint32_t layers;         /* the first ones, whose weights may stay there; more than the model has: the head, too */
    const sl_packed *packed; /* NULL: a stock file */
    sl_sparsity sparsity;
    double density;
    uint64_t predictor_bytes;
    bool draft_resident; /* what stays there shall draft: all but the feed-forwards, and of those the first places of each layer */
    bool late_drop;      /* sparse rows may leave neurons out that neither the device nor host memory holds */
    sl_kv_host kv_host;
    uint32_t kv_host_layers;
    bool cpu_share_given;
    double cpu_share;
    /* With SL_KV_HOST_AUTO: more layers than must, where then less crosses for a token, as far as host memory has so much room. */
    bool kv_least_crossing;
    uint64_t kv_host_room_bytes;
    uint32_t sparq_k, sparq_r; /* 0: no rows attend to a part of the cache */
    uint32_t exit_layers;      /* with early exits: the first ones, which no token leaves out; 0: there are none */
    uint64_t exit_panels_bytes;
} sli_device_wishes;
/* Of the engine's options and file. */
sli_device_wishes sli_device_wishes_of(const sl_engine *engine);
typedef struct sli_vram_price {
    uint64_t block_bytes;    /* activations, vectors, keys and values */
    uint64_t kv_bytes;       /* part of that: with keys that are there twice, and sums of values */
    uint32_t kv_host_layers; /* whose keys and values lie in host memory; page-locked, */
    uint64_t kv_host_bytes;  /* they take so much of it, as allocated, */
    uint64_t window_bytes;   /* and, all together, so much of block_bytes */
    uint64_t ring_bytes, resident_bytes, total_bytes;
    uint32_t tickets; /* of the ring */
} sli_vram_price;

/* The price list. Pure: the same inputs give the same prices, so that what is refused and what is promised agree. */
typedef struct sli_wishes {
    uint64_t budget_bytes, process_bytes;
    uint32_t batch, threads; /* batch 0: choose */
    sli_kv_shape kv;
    uint64_t kv_memory_bytes; /* with kv.alignment: of the cache at most; 0: what all weights leave, and the least where they don't stay */
    uint64_t attend_bytes;    /* see sli_scratch_shape */
    uint32_t io_alignment;
    bool all_logits;
    uint32_t draft_max; /* rows behind the first whose logits a pass may give; given up where the budget is tight */
    sl_sparsity sparsity;
    sl_predictor predictor;
    uint64_t predictor_bytes;        /* of the stored one, when it is used */
    const sl_packed *packed;         /* NULL: a stock file */
    const sli_device_wishes *device; /* NULL: none */
    /* Sparse rows fetch single bundles: a cache of them takes what other units' homes leave. */
    const uint32_t *keep; /* [layer] largest sets; NULL: they don't */
    uint32_t bundle_alignment;
    sl_bundle_policy cache_policy;
    bool draft_resident; /* homes for all that a draft needs whole, then for the first places of each layer; not with `keep` */
    bool early_exit;     /* homes for the head, then for layers from the first one on: later ones may be left out */
} sli_wishes;

typedef struct sli_price {
    uint32_t batch, draft_max, unit_bytes;
    uint64_t process_bytes, kv_bytes, scratch_bytes, staging_bytes, table_bytes, resident_bytes; /* as allocated, rounded */
    uint64_t page_table_bytes; /* of table_bytes: the kernel's, which the cgroup counts and resident memory does not */
    uint64_t sparsity_bytes;   /* sets of neurons */
    uint64_t predictor_bytes;
    uint64_t bundled_bytes; /* what is resident beside bundles */
    uint64_t cache_bytes;   /* of single bundles, with its stages and tables */
    uint32_t cache_share;   /* slots of a layer, in parts of SLI_CACHE_WHOLE of its neurons */
    sli_kv_shape kv;        /* as it is paid for */
    sli_vram_price vram;    /* with a device */
    bool follows;           /* bundles that stay there have homes, too, and may leave */
    uint64_t late_neurons;  /* with a device, of all layers: that neither it nor host memory holds, and sparse rows leave out */
    uint64_t draft_neurons; /* of all layers, that a draft computes with; 0: none can be made */
    uint64_t total_bytes;
} sli_price;

/* Chooses unit size, batch and staging for the budget, gives units their homes and fills *price and *units (the caller frees them).
 * SL_NO_BUDGET when it cannot fit. *min_bytes: the budget to ask for at least, in whole MiB; it also works where the process has grown by
 * SLI_PROCESS_DRIFT_BYTES, so that up to two MiB less may work in one run and not in the next. */
SL_MUST_USE sl_status sli_price_model(const sl_model *model, const char *name, const sli_wishes *wishes, sli_price *price, sli_units *units,
                                      uint64_t *min_bytes, sl_error *err);

/* Of the device's memory, for a pass of so many rows; gives units their places there (units->in_vram). *fits is false where the least does not fit: out->total_bytes
 * is what that takes. */
SL_MUST_USE sl_status sli_device_price(const sl_model *model, const sli_device_wishes *wishes, const sli_kv_shape *kv, uint32_t batch,
                                       uint32_t logits_rows, sli_units *units, sli_vram_price *out, bool *fits, sl_error *err);

/* KV cache of one session: for each layer and KV head a row of pages. One arena. */
typedef enum sli_kv_kind {
    SLI_KV_KEYS,
    SLI_KV_VALUES,
    SLI_KV_KEY_ROWS, /* the keys once more, each in one piece as values lie, for those who read single ones */
    SLI_KV_KINDS
} sli_kv_kind;
typedef struct sli_kv {
    uint8_t *arena;
    size_t arena_bytes;
    const uint8_t **pages; /* [layer][kv head][kind][page]; without key_rows those are NULL */
    uint32_t page_count, kv_heads, head_dim;
    /* Of a layer with a window page p lies where p + ring_pages lies: the later one is written over it; 0: each has its own place. What rows at a position
     * see is there as long as no slot beyond position - window + ring was written since a row stood at 0. */
    uint32_t ring_pages;
    const sl_model *model;
    uint32_t written;  /* slots before this one were */
    uint32_t unloaded; /* of layers with a window: pages before this one were not in the file that the cache came from */
    uint32_t k_type, v_type;
    bool key_rows;
    size_t page_bytes[SLI_KV_KINDS];
    /* With value_sums: of all values before a page, [layer][kv head][page][head_dim]; filled for the first summed_pages[layer] pages that ended
     * before what was written last. A function of what is stored, so that going back needs no undoing. */
    float *value_sums;
    uint32_t *summed_pages; /* [layer] */
    /* With key_index: the keys of complete pages once more in few bits (sparq_pages.h), always in memory, [layer without a window][kv head][page] pages
     * of keys of index_type; the first indexed_pages[layer] are there. */
    uint8_t *index;
    size_t index_page_bytes;
    uint32_t index_type;
    uint32_t *indexed_pages;
    uint32_t *chosen; /* of a row whose pages come from a file, [kv head][chosen_pages] */
    uint32_t chosen_pages;
    struct sli_kv_spilled *spilled; /* NULL: all of it is in memory */
} sli_kv;
uint64_t sli_session_file_price(const sl_model *model, const sli_kv_shape *kv); /* what an sl_session_file takes */
uint64_t sli_kv_price(const sl_model *model, const sli_kv_shape *shape);        /* all that sli_kv_create allocates */
static inline uint32_t sli_kv_layers(const sl_model *model, const sli_kv_shape *shape)
{
    return shape->host_layers > 0 ? shape->host_layers : model->layers;
}
SL_MUST_USE sl_status sli_kv_create(sl_engine *engine, const sli_kv_shape *shape, sli_kv *out, sl_error *err);
void sli_kv_free(sli_kv *kv);
size_t sli_kv_page_bytes(const sl_model *model, const sli_kv_shape *shape, int kind); /* a multiple of 64; 0: no such pages */
/* Before slots from `slot` on are written in a layer: sums and an index that contain them are forgotten. */
void sli_kv_begin_write(sli_kv *kv, uint32_t layer, uint32_t slot);
static inline float *sli_kv_value_sum(const sli_kv *kv, uint32_t layer, uint32_t head, uint32_t page)
{
    return kv->value_sums + (((size_t)layer * kv->kv_heads + head) * kv->page_count + page) * kv->head_dim;
}
/* Of such an index: four bits where a head has whole blocks of them. */
uint32_t sli_kv_index_type(const sl_model *model);
size_t sli_kv_index_page_bytes(const sl_model *model);
uint32_t sli_kv_indexed_layers(const sl_model *model,
                               uint32_t layer); /* that have one, of those before this layer: those without a window */
uint8_t *sli_kv_index(const sli_kv *kv, uint32_t layer, uint32_t head); /* its pages; NULL: of a layer with a window, or there is none */
/* Copies what all layers and heads hold of one position to another. */
void sli_kv_copy(const sli_kv *kv, const sl_model *model, const sl_kernels *kernels, uint32_t from, uint32_t to);
static inline const uint8_t *const *sli_kv_pages(const sli_kv *kv, uint32_t layer, uint32_t head, sli_kv_kind kind)
{
    return kv->pages + (((size_t)layer * kv->kv_heads + head) * SLI_KV_KINDS + kind) * kv->page_count;
}

/* Of layers with a window. The first page that rows behind `position` see; that is in memory, of a layer, where `written` slots are; and before which there
 * are none in this cache, as it has been written. After a text of so many positions was loaded, without its pages before `window_first`. */
uint32_t sli_kv_first_seen(const sl_model *model, uint32_t position);
uint32_t sli_kv_first_held(const sli_kv *kv, uint32_t layer, uint32_t written);
uint32_t sli_kv_window_first(const sli_kv *kv);
void sli_kv_loaded(sli_kv *kv, uint32_t positions, uint32_t window_first);
void sli_kv_note_write(sli_kv *kv, uint32_t slot, uint32_t rows); /* before a pass that writes these slots */

/* Activations and per-thread scratch of a pass. One arena. */
typedef struct sli_scratch {
    uint8_t *arena;
    size_t arena_bytes;
    float *buffers[SL_BUF_COUNT]; /* [batch][width]; some share memory, see scratch.c */
    sl_acts acts;                 /* quantised source of the current products */
    sl_device_pass *device_pass;  /* on its way to the device, where that computes; with what the processor computes beside it: */
    float *beside_src, *beside_out;
    float *device_seen;                    /* activations of neurons, [batch][ff], for coarse sets */
    uint32_t *device_members;              /* those sets, [layer][ff] */
    uint32_t *device_holders, *device_far; /* of slots there, and the neurons that have none, [layer][ff] */
    uint32_t beside_rows;                  /* of both, at most */
    float *rope_cos, *rope_sin;            /* [table][rows of the pass][rope_dim / 2] */
    uint8_t *embed_rows;                   /* rows of the embedding, or of learned positions, as they lie in the file, [SLI_EMBED_READS] */
    uint8_t *thread_memory;                /* [threads][thread_bytes]: packed panels, or attention scratch */
    size_t thread_bytes;
    size_t plain_at; /* in a thread's memory: bundles that are made plain */
} sli_scratch;
typedef struct sli_scratch_shape {
    uint32_t batch, logits_rows, threads;
    size_t largest_panel_bytes;
    bool bundled;        /* threads work on bundles, too */
    size_t attend_bytes; /* of a thread, for rows that attend to a part of the cache */
    bool device;         /* a device computes: only what goes there and comes back */
    size_t plain_bytes;  /* of a thread, for bundles that are made plain */
    sl_sparsity device_sparsity;
} sli_scratch_shape;
uint64_t sli_scratch_price(const sl_model *model, const sli_scratch_shape *shape);
SL_MUST_USE sl_status sli_scratch_create(const sl_model *model, const sli_scratch_shape *shape, sli_scratch *out, sl_error *err);
void sli_scratch_free(sli_scratch *scratch);

#define SLI_EMBED_READS 32 /* rows of the embedding that are read at once */
#define SLI_PACK_PANELS 2  /* panels that a thread packs at a time from staged rows */

struct sli_pass; /* pass.h */

/* Sees the normed input of every layer's feed-forward, in dense and in sparse passes; for calibration. */
typedef struct sli_observer {
    void (*see)(void *ctx, uint32_t layer, const float *x, uint32_t rows); /* NULL: nobody */
    /* Sees the residual behind every layer of a dense pass, and may use the other buffers; NULL: nobody. */
    sl_status (*see_residual)(void *ctx, const struct sli_pass *pass, uint32_t layer, sl_error *err);
    void *ctx;
} sli_observer;

/* What rows that attended to a part of the cache read of it, and what all of it would have been: bytes as stored. */
typedef struct sli_sparq_stats {
    atomic_ullong bytes_moved, dense_bytes;
} sli_sparq_stats;

struct sl_engine {
    sl_engine_options options;
    char *path;
    sl_gguf *file;       /* as opened */
    sl_packed *packed;   /* NULL: a stock file */
    const sl_gguf *gguf; /* the model's header: the file's, or the one it was packed from */
    sl_tokenizer *tokenizer;
    sl_model *model;
    sl_threads *threads;
    const sl_kernels *kernels;
    sli_price price;
    uint64_t price_min_bytes;
    uint64_t process_bytes; /* as they were when the engine was priced first */
    uint32_t context;
    sli_units units;
    sl_pager *pager;
    sli_bundled bundled;
    uint32_t *keep;            /* [layer] with sparsity: neurons of a set */
    uint32_t bundle_alignment; /* 0: sparse rows fetch no single bundles */
    sli_predictor *predictor;  /* stored in the file, when it is used */
    sl_bundles *bundles;       /* of sparse rows; NULL when they don't fetch */
    sli_scratch scratch;
    sli_sparsity sparsity;
    float *vectors;          /* norm weights and biases, resident, one block */
    const float **vector_at; /* [layer op or head op] x {weight, bias}, NULL where there is none; indexed as units.matrices, times 2 */
    double *rope_step;       /* [table][rope_dim / 2] radians per position */
    sl_unit_id *pass_plan;   /* room for one pass */
    uint64_t compute_ns, passes;
    sli_sparq_stats sparq;
    sl_spill_stats kv_io;         /* of closed sessions */
    sl_session *session;          /* NULL: none is open */
    struct sli_early_exit *early; /* NULL: tokens take all layers */
    struct sli_device *device;    /* that computes; NULL: the processor does */
    sli_observer observer;
    atomic_bool interrupted;
    sl_trace *trace; /* NULL: nobody looks; the same of the record */
    sl_record *record;
};

/* Which units a pass acquires. */
typedef enum sli_planned {
    SLI_PLANNED_NOTHING = 0,
    SLI_PLANNED_ALL,
    SLI_PLANNED_SPARSE, /* no bundles */
    SLI_PLANNED_EARLY   /* layers up to the first probe */
} sli_planned;

/* Tokens that left the layers early, until they are taken along (early_exit.h): the text's last ones. */
typedef struct sli_waiting {
    uint32_t first, count; /* positions */
    uint32_t layer[8];     /* that each goes on with */
} sli_waiting;

struct sl_session {
    sl_engine *engine;
    sli_kv kv;
    uint32_t position;
    uint32_t dense; /* positions, from the first on, whose keys and values no approximation has touched; more than `position` means all */
    sl_token *history;        /* [context] */
    sli_planned next_planned; /* what the pager already reads for */
    sli_tree tree;            /* the rows behind the position that sl_session_eval_tree evaluated; none after any other call */
    sl_token tree_tokens[SL_TREE_ROWS];
    bool tree_dense; /* all its rows were */
    sli_waiting waiting;
    bool settled; /* after a row with SLI_EVAL_SETTLED_ONLY */
};

/* Flags of sl_session_eval that only this folder gives. */
enum {
    SLI_EVAL_DENSE_NEXT = 1 << 16, /* with SL_EVAL_MORE: what follows is dense, also where the engine has sparsity */
    SLI_EVAL_FADE = 1 << 17,       /* of dense rows: what earlier ones showed of the neurons counts less from now on */
    SLI_EVAL_SETTLED_ONLY =
        1 << 18 /* with SL_EVAL_EARLY: a token that is not settled at the last probe has no logits; session->settled says so */
};

/* One pass over the weights for `rows` tokens at positions session->position.. , or as they stand in a tree; does not advance the position.
 * logits_rows: 0, 1 (the last) or rows. */
typedef struct sli_pass_kind {
    uint32_t logits_rows;
    bool sparse;    /* the rows have sets of neurons (engine->sparsity) */
    bool sparq;     /* the rows attend to a part of the cache (options.sparq_k) */
    bool plan_next; /* a pass with logits follows: of one sparse row where the engine has sparsity, unless next_dense */
    bool next_dense;
    bool tree; /* the rows are the last ones of session->tree */
    bool
        resident_only; /* a draft: one row that computes with what is in memory and leaves alone what is planned and read for the next pass */
    int exit;          /* sli_exit_mode (early_exit.h); not 0: one row */
} sli_pass_kind;
SL_MUST_USE sl_status sli_execute(sl_session *session, const sl_token *tokens, uint32_t rows, sli_pass_kind kind, sl_error *err);

/* Rows of a tree that draft together from what is in memory. */
static inline uint32_t sli_draft_rows(const sl_engine *e)
{
    return e->device != NULL ? e->price.batch : 1;
}

/* A pass of an eval; on failure what the rows showed and what was planned is undone. */
SL_MUST_USE sl_status sli_session_pass(sl_session *session, const sl_token *tokens, uint32_t rows, sli_pass_kind kind, sl_error *err);
/* Whether what rows of a pass write is what the model has, given that what they attend to is. */
static inline bool sli_pass_is_dense(const sli_pass_kind *kind)
{
    return !kind->sparse && !kind->sparq && !kind->resident_only;
}
/* What every eval asks of its tokens and flags; before its passes, what the rows will show is marked. */
SL_MUST_USE sl_status sli_session_check(const sl_session *session, const sl_token *tokens, size_t count, unsigned flags, sl_error *err);
void sli_session_begin(sl_session *session, unsigned flags);

/* What was read so far, by the pager and for sparse rows. */
typedef struct sli_io {
    uint64_t bytes_read, requests, wait_ns;
    uint64_t link_bytes; /* of weights, to a device */
} sli_io;
sli_io sli_engine_io(const sl_engine *engine);
sl_spill_stats sli_engine_kv_io(const sl_engine *engine); /* of that, keys and values, of the open conversation and of earlier ones */

/* Prices an engine that was opened with plan_only anew, as if it had been opened with this budget and this density (0: as it is). On
 * failure there is no price any more. */
SL_MUST_USE sl_status sli_engine_reprice(sl_engine *engine, uint64_t budget_bytes, double density, sl_error *err);

/* The same with the options as they are now, while an engine is opened. */
SL_MUST_USE sl_status sli_engine_price_again(sl_engine *engine, sl_error *err);

/* The cache that the options ask for; how it spills is up to the price. */
sli_kv_shape sli_kv_shape_of(const sl_engine *engine);

/* After a pass: levels for whoever traces. */
void sli_trace_levels(sl_engine *engine);
/* The span that an operation of a program is. */
sl_trace_name sli_trace_name_of(const sl_op *op, bool in_layer);

void sli_note(const sl_engine *engine, const char *format, ...) SL_PRINTF(2, 3);

#endif
