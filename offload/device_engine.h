/* offload/device_engine.h: a model on a device: what lies there, and a pass that is computed there.
 *
 *   device_price.c    what of the device's memory everything takes, and which weights stay there (pure)
 *   device_kv.c       where keys and values lie
 *   device_spill.c    and those of which a part is in a file
 *   device_engine.c   whether a device is used, and which; opens and closes what lies there
 *   device_weights.c  brings weights to where they are multiplied, ahead of that
 *   device_ffn.c      feed-forwards of a packed file, over all neurons or a set of them
 *   device_follow.c   coarse sets, which the neurons that stay follow
 *   device_late.c     neurons that neither the device nor host memory holds
 *   device_beside.c   what the processor computes meanwhile
 *   device_pass.c     runs the programs of a pass
 *   device_sparq.c, device_sparq_pages.c   attention to a part of the cache
 *   device_exit.c     tokens that leave the layers early
 *
 *        disk ──▶ staging ─────────────┐ page-locked
 *                    └──▶ home (RAM) ──┴──▶ ring (VRAM) ──pack──▶ place (VRAM), for good
 *                            │                   └──────────────▶ multiplied where it is, or as one unit's panels
 *                            └──▶ multiplied by the processor: activations come and go
 *
 * A weight that stays on the device crosses the link once, in the first pass that needs it, and has no home in host memory, but for bundles that may leave it again. All others cross it in every
 * pass, or are computed beside it. The host gives a pass's work and waits for the disk, for the sources of what the processor computes, and for the
 * logits: that a place in the ring is free again is an order between the device's streams (pager/vram.h). */
#ifndef SL_OFFLOAD_DEVICE_ENGINE_H
#define SL_OFFLOAD_DEVICE_ENGINE_H

#include "core/layout.h"
#include "kernels/device.h"
#include "offload/engine.h"
#include "pager/vram.h"

/* Where everything but weights lies on the device: one block. */
typedef struct sli_device_memory {
    sl_device_ptr buffers[SL_BUF_COUNT];
    sl_device_ptr q, d, sum; /* of quantised sources */
    sl_device_ptr rope_cos, rope_sin, pass, attention;
    sl_device_ptr panels; /* of one unit that only passes by */
    sl_device_ptr vectors;
    /* Of a packed file: [layer][ff] addresses of bundles for sparse rows, and in a dense pass; [layer][ff] the place of each neuron, and what the down matrices'
     * blocks share. */
    sl_device_ptr sparse_at, dense_at, place_of, meta;
    sl_device_ptr holders, far;  /* [layer][ff] of slots that follow a coarse set, and the neurons that have none (device_follow.c) */
    sl_device_ptr nowhere, late; /* where late neurons may be left out: a bundle of zeros, and a count of those that were (device_late.c) */
    /* Of sets: the members, [layer][ff] of coarse ones and of those that draft without sparsity, [ff] else; and the predictor with what it makes of a row. */
    sl_device_ptr members, predictor, guess_f32, guess_q, guess_d, guess_sum, guess_projected, scores, top;
    sl_device_ptr kv;     /* of the layers whose keys and values do not lie in host memory */
    sl_device_ptr window; /* what attention sees of the layer in hand, of the others; 0: there are none */
    /* Of rows that attend to a part of the cache: all layers' keys in one piece, sums of values, the device's part of the account, two counters (device_sparq.c),
     * and scratch. */
    sl_device_ptr key_rows, value_sums, blocks_read, sparq;
    sl_device_ptr waiting, shortlist; /* of early exits: residuals of tokens that wait, and rows of the head, as panels */
    sl_device_ptr key_index; /* of keys of complete pages, of layers without a window, in place of the former two (device_sparq_pages.c) */
} sli_device_memory;

typedef struct sli_device_shape {
    const sli_device_wishes *wishes;
    const sli_kv_shape *kv;
    uint32_t batch, logits_rows;
    uint64_t panel_bytes;
    uint32_t kv_host_layers;
} sli_device_shape;

sl_device_ptr sli_device_room(sl_layout *l, sl_device_ptr base, uint64_t bytes); /* so many more of a block that begins at `base` */
/* Lays the block out from `base` on; returns its bytes. Pure. */
uint64_t sli_device_lay(const sl_model *model, const sli_device_shape *shape, sl_device_ptr base, sli_device_memory *out);
uint64_t sli_device_kv_layer_bytes(const sl_model *model, const sli_kv_shape *shape);
sl_device_kv sli_device_kv_shape(const sl_model *model, const sli_kv_shape *shape, sl_device_ptr base); /* of one layer */
uint32_t sli_device_kv_pages(const sli_kv_shape *shape);
/* A unit as it lies in its place: whole panels, or bundles. */
uint64_t sli_device_unit_bytes(const sli_matrix *matrix, uint32_t index);
uint64_t sli_device_meta_at(const sl_packed *packed,
                            uint32_t layer); /* of a layer, in memory.meta; of the layer behind the last: all bytes */
uint64_t sli_device_largest_unit(const sl_model *model, const sli_units *units);
uint64_t sli_device_nowhere_bytes(const sl_model *model, const sl_packed *packed); /* the largest bundle */

typedef struct sli_held { /* staged bytes that the copy stream reads */
    sl_unit_id unit;
    uint32_t bytes;
    sl_ticket ticket;
} sli_held;
#define SLI_DEVICE_HELD    64
#define SLI_DEVICE_TICKETS 256 /* of the ring, at least */

#define SLI_BESIDE_THREAD_BYTES 8192 /* of a thread, at least: what measuring gives */
#define SLI_BESIDE_ROWS         16   /* of a pass in which the processor may have a part, at most */

/* Measured when the engine is opened; a wrong one costs speed alone. */
typedef struct sli_device_rates {
    double link_Bps, device_Bps; /* 0: not measured */
    double hop_s;                /* activations over, results back */
    double processor_s_per_byte; /* of weights, with one row; and with each row more */
    double processor_row_s_per_byte;
} sli_device_rates;

#define SLI_DEVICE_UNIT_BYTES 56 /* of tables, for each unit */

typedef struct sli_device_graph { /* of a token's pass */
    sl_graph *is;                 /* NULL: none yet */
    uint32_t positions;
} sli_device_graph;

/* Rows of a pass. */
typedef struct sli_device_rows {
    uint32_t rows, pos0, first, logits_rows;
    bool sparse;          /* each has a set of neurons; of a draft without sparsity it is what the device holds */
    bool sparq;           /* each attends to a part of the cache */
    const sli_tree *tree; /* NULL: the rows follow each other */
} sli_device_rows;

/* Of a session whose cache spills (device_spill.c). */
typedef struct sli_device_spill {
    sli_kv *kv;             /* NULL: none does */
    sl_device_ptr arena_at; /* where the device finds its memory */
    sl_device_ptr *places;  /* [2][kv head][page], page-locked; by turns */
    sl_device_ptr places_at;
    uint32_t *list;     /* [kv head][chosen pages], page-locked */
    sl_event *moved[2]; /* a layer's pages have come, and those that it wrote are back */
    uint32_t layer, turn;
    bool moving; /* the layer's pages may still be on their way */
} sli_device_spill;

typedef struct sli_device {
    sl_device *device;
    sl_vram *vram;
    sl_device_ptr block;
    sli_device_memory memory;
    sl_device_ptr *place; /* [unit]; 0: it only passes by */
    bool *loaded;         /* [unit]: its panels lie in its place, or will when the streams get there */
    /* What crosses the link in the pass in hand: order[used, pushed) are in the ring (device_weights.c). */
    sl_unit_id *order;
    sl_ticket *ticket_of; /* of order[i] */
    uint32_t order_count, used, pushed;
    uint32_t *entry_of; /* [unit]: whose it is in units.matrices */
    bool *by_cpu;       /* [unit]: the processor computes it in the pass in hand */
    uint32_t by_cpu_count;
    float *rank;                 /* [unit]: the processor's where its share is larger */
    sl_ticket *bundle_tickets;   /* [units]: of the layer in hand */
    sl_device_ptr *bundle_units; /* [units]: where those of the layer in hand lie */
    bool *reachable;             /* [layer] all of its bundles lie where sparse rows find them, and memory.sparse_at says so */
    sli_device_graph graphs[4];  /* dense, sparse; both with rows that attend to a part of the cache */
    uint32_t *held_neurons;      /* [layer] with options.draft_resident: neurons that stay on the device, which draft */
    double *host_share;          /* [layer] of its bundles, of a coarse set's where there is one, in host memory */
    uint64_t blocks_read;        /* of memory.blocks_read, as it was read last */
    uint64_t late;               /* of memory.late, likewise */
    /* device_follow.c: */
    bool *followed;          /* [layer] its places are slots of single neurons */
    uint32_t *far;           /* [unit] of such a layer: neurons that have none */
    uint8_t *marks;          /* [ff] */
    sl_event *gathered;      /* all that the copy stream had */
    sl_event *settled;       /* addresses and slots are as they were said */
    uint64_t followed_bytes; /* that crossed because sets had changed */
    sl_device_ptr *kv_at;    /* [layer] its keys and values */
    bool *kv_in_host;        /* [layer] they lie in kv_host */
    uint8_t *kv_host;        /* page-locked; NULL: none do */
    size_t kv_host_bytes;
    sl_device_ptr kv_host_at; /* where the device finds it */
    sli_device_spill spill;
    sli_device_rates rates;
    uint32_t beside_rows;                  /* of a pass in which the processor may have a part; 0: in none */
    double cpu_share[SLI_BESIDE_ROWS + 1]; /* [rows]: of what homes hold */
    sl_event *source;                      /* what the processor multiplies has come */
    sl_event *inputs;                      /* the pass's inputs were copied */
    sli_device_rows exit_rows;             /* of a pass with probes: all that may come */
    sl_event *look_begins, *look_ends;     /* its last probe */
    sli_held held[SLI_DEVICE_HELD];
    uint32_t first_held, held_count;
    uint64_t held_bytes;
    void *locked[4]; /* page-locked host memory that is ours: reads, weights, activations, keys and values */
    uint32_t locked_count;
    uint32_t indexed_pages; /* of memory.key_index, likewise */
    uint32_t summed_pages;  /* of memory.value_sums, the first ones: they end before what was written last */
    bool ahead;             /* the order is that of a dense pass to come */
    bool reads_host;        /* the device reads and writes page-locked memory in place */
    bool graphs_failed;     /* there are none */
    bool members_sent;      /* the coarse sets are those that the device has */
    bool unsettled;         /* slots may not hold what they should: a pass failed while they were filled */
    bool inputs_wanted;     /* nobody has waited for `inputs` since they were copied */
} sli_device;

/* Opens the device that the options name, if there is one that does what they ask for; e->device stays NULL where the processor computes. */
SL_MUST_USE sl_status sli_device_choose(sl_engine *e, sl_error *err);
/* Takes the device's memory as it was priced. Where others have taken some of it meanwhile the engine is priced anew, with less, and `note` told. */
SL_MUST_USE sl_status sli_device_reserve(sl_engine *e, sl_error *err);
/* After the pager, scratch and vectors are there. */
SL_MUST_USE sl_status sli_device_create(sl_engine *e, uint64_t vector_bytes, sl_error *err);
void sli_device_close(sl_engine *e);
/* Page-locks memory for the device until it is closed or that is taken back. `less`: what takes less of it. */
SL_MUST_USE sl_status sli_device_lock(sli_device *d, void *pages, size_t bytes, const char *what, const char *less, sl_error *err);
void sli_device_unlock(sli_device *d, void *pages); /* what is not locked is fine */

/* ---- device_weights.c ---- */

/* What crosses in a pass, in its order; by_cpu is decided. Of a sparse one no bundles that rows find where they are. */
SL_MUST_USE sl_status sli_device_list(sl_engine *e, bool head, bool sparse, sl_error *err);
/* Of these units, which come next; by_cpu is decided, and all that was listed before was used. */
void sli_device_list_range(sl_engine *e, sl_unit_id from, sl_unit_id to);
/* Of these units, what would cross in a dense pass as by_cpu is. */
uint64_t sli_device_crossing_bytes(const sl_engine *e, sl_unit_id from, sl_unit_id to);
/* Behind all work of a sparse pass: what crosses in the next dense one begins to. */
SL_MUST_USE sl_status sli_device_list_ahead(sl_engine *e, sl_error *err);
/* Sparse rows do not find the bundles of this unit yet, but will: there is a place for it on the device or in host memory. */
bool sli_device_comes(const sl_engine *e, sl_unit_id unit);
SL_MUST_USE sl_status sli_device_forget_ahead(sl_engine *e, sl_error *err); /* of what began to cross, nothing is wanted */
/* Pushes what can be pushed. *wait: fetching the unit will take a wait, or a place in the ring that must be given back first. */
SL_MUST_USE sl_status sli_device_look_ahead(sl_engine *e, sl_unit_id unit, bool *wait, sl_error *err);
typedef struct sli_fetched {
    sl_device_ptr panels; /* memory.panels: until the next fetch */
    sl_ticket ticket;
    bool in_ring; /* the ticket is to be done (sl_vram_done) once its product was given */
} sli_fetched;
SL_MUST_USE sl_status sli_device_fetch(sl_engine *e, const sli_matrix *matrix, uint32_t index, sli_fetched *out, sl_error *err);
void sli_device_settle(sl_engine *e); /* after a pass that failed */

/* Bundles of unit `index`, as they lie; `out->panels` is where. Not in the ring: they are where they stay. */
SL_MUST_USE sl_status sli_device_fetch_bundles(sl_engine *e, const sli_matrix *matrix, uint32_t index, sli_fetched *out, sl_error *err);

/* ---- device_ffn.c ---- */

/* Uploads what does not change: orders, what blocks share, predictors. Before weights come. */
SL_MUST_USE sl_status sli_device_ffn_open(sl_engine *e, sl_error *err);
/* A bundled layer's feed-forward, from `src` to `dst`. */
typedef struct sli_device_ffn {
    const sli_matrix *bundles;
    uint32_t layer, rows;
    bool sparse;
    sl_glu act;
    bool quantized; /* memory.q, d and sum have the source already */
    bool add;       /* to what `dst` holds */
    sl_device_ptr src, dst;
} sli_device_ffn;
SL_MUST_USE sl_status sli_device_ffn_run(sl_engine *e, const sli_device_ffn *f, sl_error *err);
sl_status sli_device_cannot_reach(const sl_engine *e, sl_error *err); /* says so */
/* Any bytes to the device, through the scratch, which nobody else uses; waits. */
SL_MUST_USE sl_status sli_device_upload(sl_engine *e, sl_device_ptr to, const void *from, uint64_t bytes, sl_error *err);

/* ---- device_follow.c ---- */

/* Before a sparse pass is listed, and any when slots are unsettled: coarse sets that changed go to the device, and the neurons that it holds follow them. */
SL_MUST_USE sl_status sli_device_follow(sl_engine *e, sl_error *err);

/* ---- device_late.c ---- */

/* Whether neither the device nor host memory has a place for the unit; and whether it is bundles, which sparse rows leave out then. */
bool sli_device_is_late(const sl_engine *e, sl_unit_id unit);
bool sli_device_leaves_out(const sl_engine *e, sl_unit_id unit);
SL_MUST_USE sl_status sli_device_late_open(sl_engine *e, sl_error *err);
/* Before a pass; behind one that failed. */
SL_MUST_USE sl_status sli_device_late_begin(sl_engine *e, const sli_device_rows *rows, sl_error *err);
void sli_device_late_undo(sl_engine *e, const sli_device_rows *rows);
/* `rows` rows are about to read the members ([count]) of a set: those that are late are counted. */
SL_MUST_USE sl_status sli_device_late_see(sl_engine *e, sl_device_ptr at, sl_device_ptr members, uint32_t count, uint32_t rows,
                                          sl_error *err);
uint64_t sli_device_late(const sl_engine *e); /* members that were left out so far; waits for the device */

/* A number that the device adds to, with what it was before the pass in hand behind it: uint64_t [2]. Kept before the pass, put back where that failed. */
SL_MUST_USE sl_status sli_device_count_open(const sl_engine *e, sl_device_ptr count, sl_error *err);
SL_MUST_USE sl_status sli_device_count_begin(const sl_engine *e, sl_device_ptr count, sl_error *err);
void sli_device_count_undo(const sl_engine *e, sl_device_ptr count);
/* Waits for the device. Where a call fails *known is what it was when it was read last. */
void sli_device_count_read(const sl_engine *e, sl_device_ptr count, uint64_t *known);

/* ---- device_sparq.c ---- */

sl_device_attention sli_device_attention_shape(const sl_model *model, const sli_device_shape *shape); /* of a pass, without memory */
/* Places what SparQ takes, but for what it shares with all passes. */
void sli_device_lay_sparq(sl_layout *l, const sl_model *model, const sli_device_shape *shape, sl_device_ptr base, sli_device_memory *out);
uint64_t sli_device_sparq_kv_bytes(const sl_model *model, const sli_kv_shape *shape); /* keys once more, and sums, of all layers */
sl_device_key_rows sli_device_key_rows_of(const sl_engine *e, uint32_t layer);        /* base 0: there are none */
SL_MUST_USE sl_status sli_device_sparq_open(sl_engine *e, sl_error *err);
/* Whether the rows of a pass attend to a part of the cache in some layer, where none sees more than so many positions. */
bool sli_device_sparq_takes_part(const sl_engine *e, const sli_device_rows *rows, uint32_t positions);
/* Whether a pass of such rows has sums of values to complete first. */
bool sli_device_sparq_wants_sums(const sl_engine *e, const sli_device_rows *rows);
/* Before a pass; behind one that failed; behind one that was given to the device. */
SL_MUST_USE sl_status sli_device_sparq_begin(sl_engine *e, const sli_device_rows *rows, sl_error *err);
void sli_device_sparq_undo(sl_engine *e, const sli_device_rows *rows);
void sli_device_sparq_end(sl_engine *e, const sli_device_rows *rows);
/* Attention of a layer, which is `all` for rows that attend to everything; its kv is found here. */
SL_MUST_USE sl_status sli_device_attend(sl_engine *e, const sli_device_rows *rows, uint32_t layer, sl_device_attention *all, sl_error *err);

/* ---- device_sparq_pages.c ---- */

uint64_t sli_device_index_bytes(const sl_model *model, const sli_kv_shape *shape);
uint64_t sli_device_pages_scratch(const sl_model *model, const sli_device_shape *shape);
/* Whether a pass completes pages that the index does not have. Before slots from this one on are written; behind a pass that was given to the device. */
bool sli_device_pages_wants_index(const sl_engine *e, const sli_device_rows *rows);
void sli_device_pages_begin(sl_engine *e, uint32_t slot);
void sli_device_pages_end(sl_engine *e, const sli_device_rows *rows);
void sli_device_pages_count(sl_engine *e, const sli_device_rows *rows); /* what rows read */
/* sli_device_attend where there is an index. */
SL_MUST_USE sl_status sli_device_pages_attend(sl_engine *e, const sli_device_rows *rows, uint32_t layer, sl_device_attention *all,
                                              sl_error *err);

/* What the device counted of the bytes that were moved; waits for it. */
uint64_t sli_device_sparq_bytes(const sl_engine *e);

/* ---- device_exit.c ---- */

uint64_t sli_device_exit_panels_bytes(const sl_engine *e); /* of the shortlist */
void sli_device_lay_exits(sl_layout *l, const sl_model *model, const sli_device_wishes *wishes, sl_device_ptr base, sli_device_memory *out);
SL_MUST_USE sl_status sli_device_exit_open(sl_engine *e, sl_error *err); /* uploads it */

/* ---- device_beside.c ---- */

/* Measures, and decides which units are the processor's. Nothing lies in homes or on the device yet. */
SL_MUST_USE sl_status sli_beside_plan(sl_engine *e, sl_error *err);
void sli_beside_choose(sl_engine *e, uint32_t rows); /* for a pass of so many rows */
/* Of a token: bytes of weights that cross, and that the processor computes with. */
void sli_beside_bytes(const sl_engine *e, uint64_t *streamed, uint64_t *computed);

/* Products with one source. */
typedef struct sli_beside {
    const sli_matrix *matrices; /* [count], neighbours */
    const float *bias[4];       /* in host memory, or NULL */
    sl_device_ptr src, dst[4];
    uint32_t count, rows;
    bool takes_part; /* set by begin */
} sli_beside;
SL_MUST_USE sl_status sli_beside_begin(sl_engine *e, sli_beside *b, sl_error *err);
SL_MUST_USE sl_status sli_beside_finish(sl_engine *e, const sli_beside *b, sl_error *err);

/* ---- device_pass.c ---- */

/* Before the pass's inputs are written (the last pass's were read). */
SL_MUST_USE sl_status sli_device_begin(sl_engine *e, sl_error *err);
/* From the residual and the rotary tables, in scratch, to the logits, in scratch. */
SL_MUST_USE sl_status sli_device_execute(sl_session *session, const sli_device_rows *rows, sl_error *err);
/* Runs a pass, and settles what one that fails leaves behind; one that fails for want of memory is run once more, if it may be. */
typedef sl_status (*sli_device_pass_fn)(void *ctx, sl_error *err);
SL_MUST_USE sl_status sli_device_try(sl_engine *e, sli_device_pass_fn pass, void *ctx, bool may_run_again, sl_error *err);
/* Of a pass that runs in parts: its rotary tables and so many bytes of scratch.device_pass; a layer, for its rows from first_row on; logits of its last
 * rows, to scratch. Nobody waits. */
SL_MUST_USE sl_status sli_device_send_tables(sl_engine *e, uint32_t rows, size_t pass_bytes, sl_error *err);
SL_MUST_USE sl_status sli_device_run_layer(sl_engine *e, const sli_device_rows *rows, uint32_t first_row, uint32_t layer, sl_error *err);
SL_MUST_USE sl_status sli_device_run_head(sl_engine *e, const sli_device_rows *rows, sl_error *err);
sl_device_ptr sli_device_vector(const sl_engine *e, uint32_t entry, bool bias); /* a norm's weights, or a bias; 0: there is none */

/* ---- device_kv.c ---- */

/* Whether the device reads page-locked memory in place, by a trial. */
bool sli_device_reads_host(sl_device *device);
/* After memory was laid out: page-locks what lies in host memory, and zeroes all of it. */
SL_MUST_USE sl_status sli_device_kv_open(sl_engine *e, sl_error *err);
void sli_device_kv_close(sl_engine *e); /* after host memory was unlocked */
/* Where a layer's keys and values lie: of a layer that does not spill. */
sl_device_kv sli_device_kv_at(const sl_engine *e, uint32_t layer);
/* Where a pass's rows are stored: there, or, of a layer that spills, in the window, to which what the pass sees is brought. */
SL_MUST_USE sl_status sli_device_kv_store(sl_engine *e, uint32_t layer, sl_device_kv *out, sl_error *err);
/* Where attention finds them: there, or in the window, to which what the pass sees is brought. After they were stored. */
typedef struct sli_device_sight {
    uint32_t layer, rows, positions;
    sl_device_ptr pass;
} sli_device_sight;
SL_MUST_USE sl_status sli_device_kv_see(sl_engine *e, const sli_device_sight *sight, sl_device_kv *out, sl_error *err);
/* Pages of a head in host memory, between passes, for who keeps them elsewhere (session_file.c): keys and values, sli_kv_page_bytes from page to page. */
#define SLI_DEVICE_PAGES 16 /* at once */
typedef struct sli_device_pages {
    uint8_t *keys, *values;             /* [SLI_DEVICE_PAGES]; page-locked */
    uint32_t layer, head, first, count; /* which they are */
} sli_device_pages;
uint64_t sli_device_pages_bytes(const sl_model *model, const sli_kv_shape *shape);
SL_MUST_USE sl_status sli_device_pages_open(sl_engine *e, sli_device_pages *out, sl_error *err);
void sli_device_pages_close(sl_engine *e, sli_device_pages *pages); /* all zero is fine */
/* From and to where the layer's keys and values are stored; count is at most SLI_DEVICE_PAGES. */
SL_MUST_USE sl_status sli_device_pages_get(sl_engine *e, sli_device_pages *pages, sl_error *err);
SL_MUST_USE sl_status sli_device_pages_put(sl_engine *e, const sli_device_pages *pages, sl_error *err);

/* ---- device_spill.c ---- */

/* Page-locks a session's cache that spills; before it is freed. */
SL_MUST_USE sl_status sli_device_spill_open(sl_engine *e, sli_kv *kv, sl_error *err);
void sli_device_spill_close(sl_engine *e);
bool sli_device_spills(const sl_engine *e, uint32_t layer);
/* Of a layer that spills, in the order of the layers: what is seen of it comes to the window, *out; once rows were stored there, they go back. */
SL_MUST_USE sl_status sli_device_spill_bring(sl_engine *e, uint32_t layer, sl_device_kv *out, sl_error *err);
SL_MUST_USE sl_status sli_device_spill_keep(sl_engine *e, uint32_t layer, sl_device_kv *out, sl_error *err);
/* Waits for what the last layer wrote, of which complete pages go to the file; at the end of a pass. Of one that failed, when nothing of it is on its way any more. */
SL_MUST_USE sl_status sli_device_spill_end(sl_engine *e, sl_error *err);
void sli_device_spill_forget(sl_engine *e);

/* Whether rows of the pass choose pages of the layer, which then are brought alone: those that the device has listed, for the row that job says, to places that the
 * job is told of; when all rows were given to the device. */
bool sli_device_spill_fetches(const sl_engine *e, uint32_t layer);
SL_MUST_USE sl_status sli_device_spill_fetch(sl_engine *e, uint32_t layer, sl_device_ptr lists, sl_device_sparq_pages *job, sl_error *err);
SL_MUST_USE sl_status sli_device_spill_fetched(sl_engine *e, sl_error *err);

/* sli_kv_copy on the device, of layers that do not spill. */
SL_MUST_USE sl_status sli_device_kv_copy(sl_engine *e, uint32_t from, uint32_t to, sl_error *err);

#endif
