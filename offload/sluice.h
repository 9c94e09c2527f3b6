/* sluice.h: run a language model that is bigger than the memory it may use.
 *
 * An engine is a model opened under a memory budget; a session is one conversation on it. The same tokens come out under any budget,
 * thread count, batch size, I/O engine and instruction set.
 *
 *     sl_engine_options options = {.model_path = "model.gguf", .ram_budget_bytes = 2ull << 30};
 *     sl_engine_open(&options, &engine, &err);      prices everything, and refuses what does not fit, before anything is loaded
 *     sl_session_open(engine, &session, &err);
 *     sl_generate(session, &request, &result, &err);
 *
 * Threads: an engine and its session are used by one thread at a time, which need not be the one that made them. sl_engine_interrupt
 * may be called by any thread and from a signal handler. Different engines are independent of each other.
 * Errors: functions return an sl_status and fill the sl_error (may be NULL). Nothing in this library prints, exits or aborts.
 * Ownership: what sl_X_open made, sl_X_close frees; other pointers that are handed out belong to their engine or session. */
#ifndef SLUICE_H
#define SLUICE_H

#include "core/histogram.h"
#include "core/message.h"
#include "core/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SLUICE_VERSION "0.1.0"

typedef struct sl_engine sl_engine;
typedef struct sl_session sl_session;

/* ---- engine ---- */

/* Which layers' keys and values lie in host memory where a device computes: as many as must, or more where then less crosses for a token; none; all; so many. */
typedef enum sl_kv_host { SL_KV_HOST_AUTO = 0, SL_KV_HOST_NONE, SL_KV_HOST_ALL, SL_KV_HOST_LAYERS } sl_kv_host;
typedef enum sl_kv_type { SL_KV_F16 = 0, SL_KV_F32, SL_KV_Q8_0, SL_KV_BF16, SL_KV_Q4_0 } sl_kv_type;

/* Which neurons of the feed-forwards are computed while decoding. Everything but OFF approximates. */
typedef enum sl_sparsity {
    SL_SPARSITY_OFF = 0, /* all: exact */
    SL_SPARSITY_COARSE,  /* one set per layer, from the prompt's activations */
    SL_SPARSITY_FINE     /* a set per token and layer, by a predicted score */
} sl_sparsity;
typedef enum sl_predictor {
    SL_PREDICTOR_STORED = 0, /* what `calibrate` stored in the packed file */
    SL_PREDICTOR_ORACLE,     /* the exact score: reads everything, for comparison */
    SL_PREDICTOR_GATE        /* |act(gate)|, the gate computed for all neurons: for comparison */
} sl_predictor;

/* Whether what SparQ leaves out is stood for by the mean of all values, by its estimated share. */
typedef enum sl_sparq_reallocate {
    SL_SPARQ_REALLOCATE_AUTO =
        0, /* on where each query head has a key head of its own, as the paper found best; off with grouped queries */
    SL_SPARQ_REALLOCATE_ON,
    SL_SPARQ_REALLOCATE_OFF
} sl_sparq_reallocate;

typedef enum sl_sparq_select {
    SL_SPARQ_SELECT_AUTO = 0, /* pages with kv_spill, else keys */
    SL_SPARQ_KEYS,            /* single positions, as in the paper: the best for what is in memory */
    SL_SPARQ_PAGES            /* whole pages of 64, by the attention that the keys in them would get: each is one read */
} sl_sparq_select;

/* When a decoded token may leave the layers: where its answer is judged to be settled, by what `calibrate` stored in the packed file. */
typedef enum sl_early_exit {
    SL_EARLY_EXIT_OFF = 0, /* never: exact */
    SL_EARLY_EXIT_SVM,     /* a support vector machine for each probed layer */
    SL_EARLY_EXIT_CRF,     /* a chain over the probed layers */
    SL_EARLY_EXIT_GAP      /* the first token's lead over the second alone */
} sl_early_exit;

/* Where the time of passes goes. A layer's figures are sums over passes; reads count where they were started, for it or ahead of it. */
typedef struct sl_layer_cost {
    uint64_t total_ns, wait_ns; /* of the total, waiting for reads */
    uint64_t bytes_read;
    uint64_t neurons_needed, neurons_resident, neurons_read; /* of single bundles: in sets; of those fetched, found in memory, and read */
} sl_layer_cost;
#define SL_BREAKDOWN_LAYERS_MAX 1024
typedef struct sl_breakdown {
    uint64_t passes, rows;              /* of them, drafts from what is in memory included */
    sl_histogram pass_ns, pass_wait_ns; /* a pass: all of it; of that, waiting for reads */
    sl_histogram read_ns;               /* a read: from submission until the computation is told of its end */
    sl_histogram request_bytes;
    uint32_t layers;
    sl_layer_cost layer[SL_BREAKDOWN_LAYERS_MAX + 1]; /* behind the model's layers: embedding and head */
} sl_breakdown;

#define SL_CONTEXT_MODEL  UINT32_MAX
#define SL_EXIT_AGREEMENT 0.99
#define SL_EXIT_DRAFT_MAX 7 /* tokens of a draft by early exit, at most */

typedef struct sl_engine_options { /* zero means the default, everywhere */
    const char *model_path;
    uint64_t ram_budget_bytes; /* peak resident memory of the process; default 0.8 x min(available memory, the cgroup's limit) */
    bool lower_budget;         /* to that default, where it is above what there is; else that is only told through `note` */
    uint32_t context;          /* positions; default min(the model's, 4096); SL_CONTEXT_MODEL: the model's */
    uint32_t batch;            /* rows of a pass; default: 512, less where the budget is tight (reported, and told through `note`) */
    bool all_logits;           /* sl_session_eval gives logits of every row, not of the last only */
    uint32_t draft_max;        /* drafted tokens that a check may have; fewer, or none, where context, batch or a tight budget say so */
    uint32_t threads;          /* default: one per physical core */
    sl_kv_type k_type, v_type; /* default f16 */
    /* A folder for keys and values that do not fit in memory, in a file that goes with the process; NULL: all of them stay. Not with SparQ. */
    const char *kv_spill;
    uint64_t
        kv_memory_bytes;   /* with kv_spill: that they take in memory at most; default: what all weights leave, else the least that works */
    const char *isa;       /* "scalar", "avx2", "avx512", "neon", "neon-dotprod"; default: the best that runs here */
    const char *io_engine; /* "auto", "uring", "pread" */
    uint32_t io_depth;     /* reads in flight */
    uint64_t throttle_Bps; /* reads no faster than this; for reproducing another machine's link */
    bool buffered;         /* read through the page cache (counted by the cgroup, not by the budget) */
    bool vocabulary_only;  /* no weights: for tokenising */
    bool plan_only;        /* no weights, and no sessions: everything is priced as it would be, for sl_engine_describe */
    bool session_file;     /* room for an sl_session_file is part of the budget */
    bool timing_only;      /* benchmarks: a device that computes nothing and keeps time alone may be opened; logits then mean nothing */
    /* A GPU computes, with the same result: "cuda", "cuda:1", "auto" (the CUDA device with the most free memory, where there is one and it does what
     * these options ask for; else the processor, and `note` is told why), "emulated" (for tests); default "none". */
    const char *device;
    uint64_t vram_budget_bytes; /* of its memory; default: what is free, less a sixteenth, at least 256 MiB */
    bool gpu_layers_given, cpu_share_given;
    sl_kv_host kv_host;
    uint32_t kv_host_layers; /* with SL_KV_HOST_LAYERS */
    uint32_t gpu_layers; /* if given: the first layers, whose weights may stay there; more than there are: the head's, too. Default: all */
    /* Decoded rows with SL_EVAL_EARLY leave the layers where their answer is settled (AdaInfer, arXiv 2403.02181). Wants a calibrated file. Approximates: the
     * share of tokens that are the last layer's is exit_agreement, on the text that was held out. Memory is given to the head and to the first layers. Not with
     * sparsity, SparQ, kv_spill, session_file, draft_resident. */
    sl_early_exit early_exit;
    /* The processor's part, 0 to 1, of the weights that a device does not hold and host memory does, in passes of few rows; the rest crosses the link.
     * Default: whichever is faster, by rates that are measured when the engine is opened. Tokens do not depend on it. */
    double cpu_share; /* if cpu_share_given */
    sl_sparsity sparsity;
    double density;         /* kept share of the neurons, over all layers, above 0 up to 1; default 0.5. Unused when sparsity is off */
    sl_predictor predictor; /* of SL_SPARSITY_FINE */
    bool uniform_density;   /* the same share in every layer, not the calibrated one */
    bool
        late_drop; /* neurons that are not there in time are left out: faster, worse, and not reproducible; on a device, those that have no place in either memory */
    /* SparQ attention (arXiv 2312.04985) of rows with SL_EVAL_SPARQ: they score all positions by the sparq_r components of the keys that matter most to
     * the query, and attend to the sparq_k best alone, the last sparq_local of the text always among them. Approximates; rows that have no more than
     * sparq_k positions to see are exact. Keys are then held twice. */
    uint32_t sparq_k, sparq_r; /* at most the context, at most a head's components; both, or neither: off */
    uint32_t sparq_local;      /* default sparq_k / 4, with pages 16; at most sparq_k */
    sl_sparq_reallocate sparq_reallocate;
    /* With SL_SPARQ_PAGES sparq_k counts in pages (rounded up, `note` is told), keys are held a second time in four bits, and nothing stands for what is
     * left out. */
    sl_sparq_select sparq_select;
    /* What stays in memory is chosen for SL_EVAL_DRAFT: all but the feed-forwards, and of those the first neurons in the file's order. Without
     * sparsity. Where the file is not packed, or the budget does not hold that much (`note` is told), memory is divided as without, and draft_density is 0. */
    bool draft_resident;
    double exit_agreement; /* of early_exit; above 0, below 1; default SL_EXIT_AGREEMENT */
    /* Filled as passes go; the caller's, who may zero it between two calls and keeps it until the engine is closed. NULL: nothing is measured. */
    sl_breakdown *breakdown;
    uint64_t reserve_bytes;          /* of the budget, for what the caller allocates himself while it generates */
    uint64_t reserve_position_bytes; /* the same, for each position of the context */
    /* Keeps what happens in so much memory of the budget, 0: nothing. Of events (sl_engine_trace) the last ones, of accesses to weights
     * (sl_engine_write_record) the first ones. Nothing is written anywhere before it is asked for. */
    uint64_t trace_bytes, record_bytes;
    /* Called for everything the user should be told (a fallback, a value chosen for him); one line without newline. */
    void (*note)(void *ctx, const char *line);
    void *note_ctx;
} sl_engine_options;

SL_MUST_USE sl_status sl_engine_open(const sl_engine_options *options, sl_engine **out, sl_error *err);
void sl_engine_close(sl_engine *engine); /* NULL is fine; after its session */

/* Makes the running call return SL_INTERRUPTED soon, leaving the session at its last committed token. Async-signal-safe. */
void sl_engine_interrupt(sl_engine *engine);

typedef struct sl_engine_info {
    const char *arch;          /* "llama" */
    const char *backend, *isa; /* "cpu", "avx512" */
    const char *thread_binding;
    uint32_t threads, context, context_model, batch, draft_max, layers, d, ff, heads, kv_heads, vocab;
    int32_t bos; /* the token before each text, or -1 */
    uint64_t file_bytes, weight_bytes;
    uint64_t ram_budget_bytes;
    /* what the budget was divided into; the sum is at most the budget */
    uint64_t process_bytes, kv_bytes, scratch_bytes, sparsity_bytes, bundled_bytes, cache_bytes, staging_bytes, table_bytes, resident_bytes;
    uint64_t kv_file_bytes; /* that keys and values take on disk at the end of the context; 0: they are in memory */
    uint32_t kv_resident;   /* first positions whose keys and values are always in memory */
    /* Of the device that computes: its name, what of its memory is allowed and taken, weights that stay there (as they lie in the file), keys and values.
     * "" and 0 where the processor computes. */
    const char *device;
    uint64_t vram_budget_bytes, vram_bytes, vram_weight_bytes, vram_kv_bytes;
    bool device_follows;     /* which neurons stay there follows a text's coarse sets */
    uint64_t late_bytes;     /* of neurons that neither it nor host memory holds: sparse rows leave them out (late_drop) */
    uint32_t kv_host_layers; /* whose keys and values lie in host memory (kv_bytes), where it reads and writes them */
    /* Of what it does not hold: the processor's part, bytes that cross for a token and bytes that the processor computes with; and what that was decided by,
     * measured when the engine was opened: bytes per second of the link and of the processor (0: not measured, nothing was to be decided). */
    double cpu_share, link_Bps, processor_Bps;
    uint64_t crossing_bytes, beside_bytes;
    uint64_t ram_budget_min_bytes;          /* a budget that works with these options, at most 2 MiB above the least */
    uint64_t streamed_bytes;                /* of weights that do not stay: read in each pass or, sparse, when a set asks */
    const char *sparsity, *predictor;       /* "off", "coarse", "fine"; "stored", "oracle", "gate", or "prompt" (coarse) */
    bool packed;                            /* the file's neurons are bundles */
    uint64_t ffn_bytes;                     /* of the weights: gates, ups and downs */
    double density;                         /* asked for; 1 with sparsity off */
    uint64_t predictor_bytes;               /* resident */
    uint32_t sparq_k, sparq_r, sparq_local; /* as they are used; 0: off */
    bool sparq_reallocate, sparq_pages;
    const char *early_exit; /* "off", "svm", "crf", "gap" */
    double exit_agreement, exit_held_agreement,
        exit_held_layers;                             /* asked for; reached, and the mean of layers, on the text that was held out */
    uint32_t exit_probes, exit_first, exit_shortlist; /* layers that are probed, the first of them (from 1), tokens looked at (0: all) */
    uint64_t
        exit_streamed_bytes; /* that are read for layers behind the first probe, or that a device does not hold: what can be saved of a token */
    double draft_density; /* share of the neurons that SL_EVAL_DRAFT computes with; 0: it cannot be done */
} sl_engine_info;
void sl_engine_describe(const sl_engine *engine, sl_engine_info *out);

typedef struct sl_early_exit_stats { /* of rows with SL_EVAL_EARLY, since open */
    uint64_t tokens, exits;          /* those that left early, drafts included */
    uint64_t given_up;               /* drafts that were not settled at the last probe */
    uint64_t layers, probes;         /* that they took, all together (of a draft that was given up: none) */
    double probe_s;                  /* that probes took */
    /* What was not read because tokens had left; what was read to bring them to the end before a prompt or a check, where no token went along. */
    uint64_t bytes_left_out, bytes_made_up;
    uint64_t link_bytes_left_out, link_bytes_made_up; /* the same of what did not cross to a device, and what did */
    uint64_t catch_ups;
} sl_early_exit_stats;

typedef struct sl_engine_stats { /* since open, monotonic */
    const char *io_engine;
    bool direct;
    uint64_t bytes_read, requests;
    uint64_t link_bytes;            /* of weights, that crossed to a device */
    double wait_s;                  /* the computation waited for reads */
    double compute_s;               /* in operations, all threads working */
    uint64_t resident_weight_bytes; /* now */
    uint64_t peak_rss_bytes, peak_cgroup_bytes;
    uint64_t passes; /* over the weights */
    /* of sparse rows; all zero with sparsity off */
    uint64_t kv_kept_bytes;                        /* of keys and values, with kv_spill: in memory because the folder was full */
    uint64_t kv_bytes_read, kv_bytes_written;      /* of keys and values, with kv_spill; the read ones are part of bytes_read */
    double kv_wait_s;                              /* and their part of wait_s */
    uint64_t sparse_sets, neurons_needed;          /* sets chosen; neurons in them */
    uint64_t neurons_resident, neurons_read;       /* of single bundles fetched: found in memory, read */
    uint64_t neurons_late, neurons_dropped;        /* asked for ahead and not there in time: waited for, left out (late_drop) */
    uint64_t sparq_bytes_moved, sparq_dense_bytes; /* of keys and values, by rows with SL_EVAL_SPARQ; what they would have read without */
    uint64_t neurons_followed_bytes;               /* that crossed to a device because the sets that it follows had changed */
    uint64_t neurons_compared, neurons_compared_right; /* members that were held against the exact set; those that are in it */
    sl_early_exit_stats early_exit;
} sl_engine_stats;
void sl_engine_measure(const sl_engine *engine, sl_engine_stats *out);

/* ---- text ---- */

typedef int32_t sl_token_id;

/* Tokens of `text`; *out is malloc'd, the caller frees it. add_bos: where the file asks for it. */
SL_MUST_USE sl_status sl_engine_tokenize(sl_engine *engine, const char *text, size_t length, bool add_bos, bool parse_special,
                                         sl_token_id **out, size_t *count, sl_error *err);
/* The bytes of a token (no NUL); control tokens are empty unless `special`. The engine's. */
const char *sl_engine_piece(const sl_engine *engine, sl_token_id token, bool special, size_t *length);
bool sl_engine_ends_generation(const sl_engine *engine, sl_token_id token);
/* A conversation (core/message.h: role and text) in the model's chat template, or in the named one, up to where the assistant answers. Where it
 * does not begin with a system message the template's own default goes before, if it has one; an empty system message at its beginning is
 * none. malloc'd text, the caller frees it; it is tokenised with add_bos and parse_special. */
SL_MUST_USE sl_status sl_engine_chat_render(const sl_engine *engine, const char *template_name, const sl_message *messages, size_t count,
                                            char **out, sl_error *err);
/* The same of one user message, and a system message, or NULL for the template's default. */
SL_MUST_USE sl_status sl_engine_chat_prompt(const sl_engine *engine, const char *template_name, const char *system, const char *user,
                                            char **out, sl_error *err);

/* ---- session ---- */

/* One session per engine at a time: its KV cache is part of the engine's budget. */
SL_MUST_USE sl_status sl_session_open(sl_engine *engine, sl_session **out, sl_error *err);
void sl_session_close(sl_session *session);
uint32_t sl_session_position(const sl_session *session); /* tokens in the cache */
/* Forgets the tokens from `position` on. With coarse sparsity what they showed keeps its part in the sets, unless position is 0. */
SL_MUST_USE sl_status sl_session_truncate(sl_session *session, uint32_t position, sl_error *err);
/* `position`, or 0 where the session cannot go back to it: layers with a window keep only what lies not far before what they have seen. */
uint32_t sl_session_reach(const sl_session *session, uint32_t position);

typedef enum sl_eval_flags {
    SL_EVAL_LOGITS = 1,     /* compute logits: of the last token, or of all with options.all_logits (count <= batch) */
    SL_EVAL_MORE = 2,       /* a hint: another eval with logits follows; its reads start early */
    SL_EVAL_SPARSE = 4,     /* with options.sparsity: only the chosen neurons take part; each row has its own set, as if it came alone */
    SL_EVAL_ALL_LOGITS = 8, /* with SL_EVAL_LOGITS: of every row (count <= 1 + the engine's draft_max) */
    /* With options.draft_resident: only neurons that are in memory take part. Reads no weights (but for the token's embedding where the head has a
     * matrix of its own), and reads for what follows go on. Row by row; logits of the last. The result depends on the budget. */
    SL_EVAL_DRAFT = 16,
    SL_EVAL_GROW = 32,   /* of a tree: its rows join those of the calls before */
    SL_EVAL_SPARQ = 64,  /* with options.sparq_k: each row attends with SparQ, as if it came alone */
    SL_EVAL_EARLY = 128, /* with options.early_exit: row by row, each may leave the layers early; logits of the last */
} sl_eval_flags;

/* Appends `count` tokens. On failure the session stays where it was, or, after more than a batch, where sl_session_reach says. *logits (may be NULL) points to [rows][vocab] floats of the session, valid until
 * the next eval. SL_FULL when the context would overflow. */
SL_MUST_USE sl_status sl_session_eval(sl_session *session, const sl_token_id *tokens, size_t count, unsigned flags, const float **logits,
                                      sl_error *err);

/* Tokens that branch, in one pass: parents[i] is the row before row i, an earlier one; the first row's is -1, and follows the session's text. Each
 * row's logits are those of its path, evaluated as a chain. The session stays where it was: sl_session_keep_path makes a path part of it,
 * every other call forgets the rows. With SL_EVAL_GROW they join the rows of the calls before, and are numbered behind them. At most a
 * batch of rows in a call (one with SL_EVAL_DRAFT where the processor computes), SL_TREE_ROWS_MAX in all, within the context. */
#define SL_TREE_ROWS_MAX 128
SL_MUST_USE sl_status sl_session_eval_tree(sl_session *session, const sl_token_id *tokens, const int32_t *parents, size_t count,
                                           unsigned flags, const float **logits, sl_error *err);
/* Appends the tokens of a path of the tree that was evaluated: rows[0] is 0, and each is the parent of the next. The others are forgotten; all
 * are where a write to the spill file fails (SL_IO), and the session stays where it was. */
SL_MUST_USE sl_status sl_session_keep_path(sl_session *session, const uint32_t *rows, size_t count, sl_error *err);

/* ---- sessions on disk ---- */

/* A session's tokens with their keys and values in a file, so that what was evaluated in one process is not evaluated again in the next: a longer text that
 * begins with the same tokens computes only the rest, and gives the same bits. Kept is what was computed densely, up to the first row that something
 * approximated. Wants options.session_file. Not with coarse sparsity (SL_INVALID).
 *
 * A file goes with the model's file and the types of keys and values it was made with; every other option may change. It is replaced whole or not at
 * all, and no two processes have it open: until it is closed PATH.partial is there, and locked. */
typedef struct sl_session_file sl_session_file;

/* Opens PATH, which need not be there yet. SL_FORMAT: damaged, cut off, or no session; SL_INVALID: of another model, or other types; SL_IO: another process
 * has it, or the system refuses. */
SL_MUST_USE sl_status sl_session_file_open(sl_engine *engine, const char *path, sl_session_file **out, sl_error *err);
void sl_session_file_close(sl_session_file *file);                                        /* NULL is fine; before its engine */
uint32_t sl_session_file_tokens(const sl_session_file *file, const sl_token_id **tokens); /* how many; the file's */
const char *sl_session_file_note(const sl_session_file *file,
                                 size_t *length); /* what the saver said, NUL-terminated; NULL: there is no file */
uint32_t sl_session_file_common(const sl_session_file *file, const sl_token_id *tokens,
                                size_t count); /* first tokens that are the file's, too */
/* Brings into a session at position 0 what the file has of these tokens, from the first on up to the first that differs; *loaded of them, to which the
 * session's position moves. That may be none where layers have a window and the file does not reach back far enough. On failure the session is empty. */
SL_MUST_USE sl_status sl_session_file_load(sl_session_file *file, sl_session *session, const sl_token_id *tokens, size_t count,
                                           uint32_t *loaded, sl_error *err);
typedef struct sl_session_saved {
    uint32_t tokens; /* fewer than the session has, where something approximated what follows */
    uint64_t bytes;
} sl_session_saved;
/* Replaces the file by what the session has now, and a note of the caller's (any bytes; NULL: none). On failure the file is as it was. */
SL_MUST_USE sl_status sl_session_file_save(sl_session_file *file, sl_session *session, const char *note, size_t note_length,
                                           sl_session_saved *out, sl_error *err);

/* ---- generation ---- */

/* Tokens are drafted and checked together by one dense pass, which reads the weights once for all of them. */
typedef enum sl_accept {
    SL_ACCEPT_EXACT = 0, /* what dense decoding picks, at any temperature: the text is the same as without drafts */
    SL_ACCEPT_THRESHOLD, /* what dense decoding finds likely enough: another text, lossy */
    SL_ACCEPT_SAMPLE     /* by rejection sampling: another text, of the same distribution; wants a top_k, up to SL_SAMPLE_TOP_K_MAX */
} sl_accept;
typedef enum sl_drafter {
    SL_DRAFTER_AUTO = 0, /* mixed where the model can draft, else lookup */
    SL_DRAFTER_LOOKUP,   /* what followed when the text went like this before; free */
    SL_DRAFTER_MODEL,    /* the model itself, with options.sparsity, early_exit or with what is in memory (options.draft_resident) */
    SL_DRAFTER_MIXED     /* lookup where it promises more, else the model */
} sl_drafter;
#define SL_SAMPLE_TOP_K_MAX 256
#define SL_DRAFT_AUTO       (-1)
#define SL_DRAFT_AUTO_MAX   8 /* tokens that it drafts at most */
#define SL_TREE_BEST        (-1)
typedef struct sl_drafting {
    int32_t tokens; /* of a draft, up to the engine's draft_max; 0: no drafts; SL_DRAFT_AUTO: as measured times and acceptance say */
    sl_accept accept;
    sl_drafter drafter;
    float tau, tau_temperature; /* of SL_ACCEPT_THRESHOLD: the least probability, 0..1, at this temperature; the paper's: 0.1 at 0.6 */
    /* Drafts that branch, by the model (and a lookup among them, mixed): 0: none, a chain; 2 and more: this many at each depth, `tokens` deep, tree *
     * tokens rows behind the first; SL_TREE_BEST: the likeliest tree_rows - 1, at most `tokens` deep. Rows count against draft_max. Not with
     * SL_DRAFT_AUTO, nor with SL_ACCEPT_SAMPLE. */
    int32_t tree;
    uint32_t tree_rows;
    float least_chance; /* 0..1: tokens are not drafted where the drafter gives their path less; 0: all are */
} sl_drafting;

typedef struct sl_request {
    const sl_token_id *prompt; /* appended to the session first */
    size_t prompt_count;
    uint32_t max_tokens; /* 0: until the context is full */
    bool ignore_eos;
    const char *const *stop; /* strings that end the text and are not part of it */
    size_t stop_count;
    uint64_t seed;
    float temperature, top_p, min_p, repeat_penalty; /* 0 / 1 / 0 / 1: off */
    int32_t top_k, repeat_last_n;                    /* 0: off */
    sl_drafting drafting;                            /* with it decoding is dense, and options.sparsity or early_exit only draft */
    bool all_layers;                                 /* with options.early_exit: without, as if it were off */
    uint32_t
        logprobs; /* likeliest tokens to be told of each token's place, up to SL_LOGPROBS_MAX; 0: none, nor the token's. Without drafting */
    /* Text as it comes, whole UTF-8 characters, never part of a stop string; return false to stop. */
    bool (*on_text)(void *ctx, const char *text, size_t length);
    /* A token was generated; the number of all so far. May be NULL. */
    void (*on_token)(void *ctx, size_t count);
    /* Progress of a long prompt: rows done of all. May be NULL. */
    void (*on_prompt)(void *ctx, size_t done, size_t total);
    void *ctx;
} sl_request;

#define SL_LOGPROBS_MAX 20
/* log p of a token, of all tokens and before temperature, penalties and filters; -9999 stands for what cannot be. */
typedef struct sl_logprob {
    sl_token_id token; /* -1: there are no more tokens */
    double logprob;
} sl_logprob;

typedef enum sl_stop_reason {
    SL_STOP_EOS,
    SL_STOP_STRING,
    SL_STOP_LENGTH,
    SL_STOP_CONTEXT,
    SL_STOP_CALLER,
    SL_STOP_INTERRUPTED
} sl_stop_reason;
const char *sl_stop_reason_name(sl_stop_reason reason); /* "eos", "stop", "length", "context", "caller", "interrupted" */

typedef struct sl_draft_stats {
    uint64_t checks, undrafted;  /* dense passes while decoding; those of them without a draft */
    uint64_t drafted, accepted;  /* tokens; a check gives what it accepts, and one token more */
    uint64_t drafted_by_lookup;  /* of the drafted */
    uint64_t *accepted_by_depth; /* [depths]; how many first, second, … tokens of a draft were accepted */
    uint32_t depths;
    uint64_t bytes_read;             /* by checks */
    double draft_s, check_s, wait_s; /* drafting; checking; of that, waiting for reads */
} sl_draft_stats;

typedef struct sl_result {
    sl_token_id *tokens; /* generated; free with sl_result_free */
    size_t count;
    sl_logprob *logprobs; /* with request.logprobs: for each token 1 + logprobs of them, its own first, then the likeliest; else NULL */
    char *text;           /* NUL-terminated, without a stop string */
    size_t text_length;
    sl_stop_reason reason;
    double prompt_s, decode_s; /* decode: from the first generated token to the last */
    uint64_t prompt_bytes_read, decode_bytes_read;
    uint64_t decode_link_bytes; /* of weights, that crossed to a device */
    double decode_wait_s;
    size_t decode_tokens;  /* that decode_s was spent on: count - 1 */
    sl_draft_stats drafts; /* all zero without drafting */
} sl_result;

/* Generates. On SL_OK and on SL_INTERRUPTED or SL_IO the result holds what was generated so far. */
SL_MUST_USE sl_status sl_generate(sl_session *session, const sl_request *request, sl_result *result, sl_error *err);
void sl_result_free(sl_result *result);

/* ---- traces ---- */

typedef enum sl_trace_type {
    SL_EVENT_SPAN,  /* work, from begin to end; spans of a thread nest */
    SL_EVENT_READ,  /* from a file; they overlap */
    SL_EVENT_TOKEN, /* one was generated */
    SL_EVENT_LEVEL  /* a figure as it was then */
} sl_trace_type;
typedef struct sl_trace_event {
    sl_trace_type type;
    const char *name;          /* "attention", "units", "token", "memory", … */
    unsigned thread;           /* of the crew; 0 is the caller's */
    uint64_t begin_ns, end_ns; /* monotonic clock; a read that never came back has end_ns 0 */
    int32_t layer, rows;       /* -1: none; rows that the work was for */
    /* of a read: where, how much, what (a tensor's rows, a layer's neurons), and the reads on their way when it had begun and when it was back */
    uint32_t file;
    uint64_t offset, bytes;
    char what[128];
    uint32_t depth_begin, depth_end;
    sl_token_id token;
    uint64_t value; /* a token's number, from 0; a level: bytes, or with "hit rate" thousandths */
} sl_trace_event;
/* Shows what is kept, thread after thread, each in the order in which it was noted; `see` returns false to stop. Returns how many events are lost
 * because there was no room. Without options.trace_bytes there are none. Not while the engine works. */
uint64_t sl_engine_trace(const sl_engine *engine, bool (*see)(void *ctx, const sl_trace_event *event), void *ctx);
/* Writes the record of accesses to weights, for `sluice replay`; pager/record.h describes the file. *complete is false where the memory was full before
 * the end: then it is the record of what came until then. SL_INVALID without options.record_bytes. Not while the engine works. */
SL_MUST_USE sl_status sl_engine_write_record(const sl_engine *engine, const char *path, bool *complete, sl_error *err);

/* ---- files ---- */

typedef bool (*sl_progress)(void *ctx, uint64_t done, uint64_t total); /* return false to stop */

#endif
