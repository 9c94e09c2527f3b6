/* offload/early_exit.h: decoded tokens that leave the layers when their answer is settled (exit.h says when that is).
 *
 *      layer  0 ········ first probe ········· exit ················· last
 *      t      ━━━━━━━━━━━━━━━┿━━━━━━━━━━━━━━━━━━▶ head: the token is picked; what is above is neither read nor computed
 *      u      ━━━━━━━━━━━━━━━┿━━━━▶ head
 *      v      ━━━━━━━━━━━━━━━┿━━━━┿━━━━━━━━━━━━━┿━━━━━━━━━━━━━━━━━━━━━▶ head
 *                                  └ u goes on   └ t goes on
 *
 * A token that left has no keys and values above its exit, and later ones must not see a hole. Projecting them from the residual it left with (the
 * paper's reproductions do that) changes what later tokens compute. Here tokens that left wait with their residuals, and the next one that goes
 * deeper takes them along from where they stopped: the weights are read for it anyway, and a few rows cost little more than one. So no token is ever
 * computed otherwise than densely: what is approximate is only where a token was picked. Each takes all that wait at or below its own depth, so
 * those that wait always stand at depths that do not increase with their positions: the rows of a layer follow each other.
 *
 * At most SLI_EXIT_WAITING wait; the token after those is not probed. What comes without probes (a prompt, a check of drafts) brings them to the end
 * first, unless it lies before them: drafts are forgotten that way.
 *
 * What is read, and what crosses to a device: a pass plans its layers up to the next probe, and goes on when the token does. Memory goes to the head, and to
 * layers from the first one on: what may be left out is what is not in memory.
 *
 *   exit.c         when a token leaves (pure)
 *   early_exit.c   opens what that takes
 *   exit_pass.c    a pass, probe by probe, and who waits
 *   exit_parts.c   its parts, as the processor computes them
 *   device_exit.c  and as a device does */
#ifndef SL_OFFLOAD_EARLY_EXIT_H
#define SL_OFFLOAD_EARLY_EXIT_H

#include "offload/exit.h"
#include "offload/pass.h"

#define SLI_EXIT_WAITING ((uint32_t)SL_EXIT_DRAFT_MAX) /* with the token in hand, the rows of the least batch */

struct sli_early_exit {
    void *blob;
    sli_exits exits;
    sl_early_exit kind;
    sli_exit_point point;
    sl_unit_id *layer_begin; /* [layers + 1] a layer's first unit; the head's */
    sl_early_exit_stats stats;
    /* Where the processor computes (a device has its own): */
    uint8_t *rows; /* of the head, the shortlist's, as they lie in the file */
    const uint8_t **row_at;
    float *logits;  /* [shortlist_count] */
    float *waiting; /* [SLI_EXIT_WAITING][d] residuals */
};

/* Reads what the file holds and checks it against the options, before anything is priced. */
SL_MUST_USE sl_status sli_early_exit_choose(sl_engine *engine, sl_error *err);
uint64_t sli_early_exit_bytes(const sl_engine *engine); /* that it holds, once open */
/* What a pass reads for layers behind the first probe, or sends over a device's link or leaves to the processor there, once priced: all that can be left
 * out. */
uint64_t sli_early_exit_streamed(const sl_engine *engine);
/* The shortlist's rows of the head from `first` on, `count` of at most SLI_EXIT_ROWS, as they lie in the file. */
#define SLI_EXIT_ROWS 64
SL_MUST_USE sl_status sli_early_exit_read_rows(sl_engine *engine, uint32_t first, uint32_t count, uint8_t *to, sl_error *err);
/* When the pager and its units are there. */
SL_MUST_USE sl_status sli_early_exit_open(sl_engine *engine, sl_error *err);
void sli_early_exit_close(sl_engine *engine);

/* How a token may leave. */
typedef enum sli_exit_mode {
    SLI_EXIT_NOT = 0,
    SLI_EXIT_MAY,
    SLI_EXIT_ONLY /* a draft: where it is not settled at the last probe, it is given up; session->settled says so */
} sli_exit_mode;

/* The parts of a pass with probes. It has the rows that are on their way, p->rows from p->pos0 on; those who still wait stand before them. */
typedef struct sli_exit_parts {
    /* Before the first layer; so many wait. */
    sl_status (*begin)(const sli_pass *p, uint32_t waiting, sl_error *err);
    /* The first of p's rows, so many, have waited until now, and so many still do. */
    void (*joined)(const sli_pass *p, uint32_t joining, uint32_t still_waiting);
    /* The layers or the head that have these units come next: what of them crosses may begin to. All that was listed before was used. */
    void (*list)(const sli_pass *p, sl_unit_id from, sl_unit_id to);
    sl_status (*layer)(const sli_pass *p, uint32_t layer, sl_error *err);
    /* At the last row; seconds that the arithmetic took. */
    sl_status (*look)(const sli_pass *p, sli_exit_look *out, double *seconds, sl_error *err);
    sl_status (*head)(const sli_pass *p, sl_error *err); /* logits of the last row, in the scratch */
    /* All rows wait from now on, behind so many who still do. */
    sl_status (*keep)(const sli_pass *p, uint32_t still_waiting, sl_error *err);
    uint64_t (*crossing_bytes)(const sl_engine *e, sl_unit_id from, sl_unit_id to); /* of these units, in a pass like the one in hand */
} sli_exit_parts;
const sli_exit_parts *sli_exit_on_processor(void);
const sli_exit_parts *sli_exit_on_device(void);

/* Those who wait: their positions end below the session's. Forgets those that do not; how many there are. */
uint32_t sli_exit_waiting(sl_session *session);
/* Brings them to the end. */
SL_MUST_USE sl_status sli_exit_catch_up(sl_session *session, sl_error *err);

/* Before the embedding: what the pager is told. */
SL_MUST_USE sl_status sli_exit_plan(const sli_pass *p, sl_error *err);
/* Tells the pager of the first layers of a pass with probes that follows. */
SL_MUST_USE sl_status sli_exit_plan_next(sl_session *session, sl_error *err);
/* The layers, the probes and the head of one row. */
SL_MUST_USE sl_status sli_exit_run(sli_pass *p, const sli_pass_kind *kind, sl_error *err);

#endif
