/* core/trace.h: what happened when: spans of work, reads, tokens and levels, kept in memory that was set aside beforehand.
 *
 * Each thread of the crew has a lane of its own, a ring that only it writes: nothing is locked, nothing is allocated. A full lane overwrites its
 * oldest entries, which are counted. Without a recorder (NULL) each call is one test of a pointer.
 *
 * Spans of the owner nest: begin gives the depth that it began at, and end(depth) ends all that is deeper, so that a function that fails in the middle
 * leaves nothing open that its caller does not close. A span is written when it ends, and then it is whole: what is kept nests.
 * A read is written when it starts and completed in place.
 *
 * Threads: lane 0, spans, reads, tokens and levels are the owner's; sl_trace_share is its thread's. Reading is for when no job runs. */
#ifndef SL_CORE_TRACE_H
#define SL_CORE_TRACE_H

#include "core/status.h"
#include "core/ticks.h"

typedef enum sl_trace_kind { SL_TRACE_SPAN, SL_TRACE_READ, SL_TRACE_TOKEN, SL_TRACE_LEVEL } sl_trace_kind;

typedef enum sl_trace_name {
    /* spans */
    SL_TRACE_PROMPT,
    SL_TRACE_DRAFT,
    SL_TRACE_CHECK,
    SL_TRACE_SAMPLING,
    SL_TRACE_DENSE_PASS,
    SL_TRACE_SPARSE_PASS,
    SL_TRACE_DRAFT_PASS,
    SL_TRACE_LAYER,
    SL_TRACE_EMBEDDING,
    SL_TRACE_NORM,
    SL_TRACE_ROPE,
    SL_TRACE_ADD,
    SL_TRACE_GLU,
    SL_TRACE_RELU,
    SL_TRACE_PROJECTION,
    SL_TRACE_ATTENTION,
    SL_TRACE_FFN,
    SL_TRACE_HEAD,
    SL_TRACE_PREDICT,
    SL_TRACE_WAIT,
    /* reads, by who asked */
    SL_TRACE_UNITS,
    SL_TRACE_NEURONS,
    SL_TRACE_ROWS,
    /* tokens */
    SL_TRACE_A_TOKEN,
    /* levels */
    SL_TRACE_RSS_BYTES,
    SL_TRACE_RESIDENT_BYTES,
    SL_TRACE_HIT_PERMILLE,
    SL_TRACE_NAMES
} sl_trace_name;

const char *sl_trace_name_text(sl_trace_name name); /* "attention" */

#define SL_TRACE_NONE  UINT16_MAX /* no layer */
#define SL_TRACE_DEPTH 16         /* spans that are open at once, at most */

typedef struct sl_trace_entry {
    uint64_t begin_ticks; /* of sl_trace.clock */
    uint64_t end_ticks;   /* of a read that is not back: 0 */
    uint64_t offset;      /* of a read; a token's number; a level */
    uint32_t bytes;       /* of a read */
    uint32_t id;          /* a token's; the first unit, or the first place, of a read */
    uint32_t count;       /* units of a read */
    uint16_t layer, rows;
    uint16_t file;                   /* of a read */
    uint16_t depth_begin, depth_end; /* of its queue, when a read had started, and when it was back */
    uint8_t kind, name;
} sl_trace_entry;

typedef struct sl_trace_lane {
    _Alignas(64) sl_trace_entry *entries;
    uint64_t capacity, written, next; /* all that ever were: entry i lies at i % capacity; the next one's place */
} sl_trace_lane;

/* What a span is, and so what the threads' shares of its jobs are. */
typedef struct sl_trace_label {
    uint16_t layer, rows;
    uint8_t name;
} sl_trace_label;

typedef struct sl_trace_open {
    uint64_t begin_ticks;
    sl_trace_label label;
} sl_trace_open;

/* On lines of its own, away from what all threads read: a line that one core writes is fetched anew by each other that looks at it. */
typedef struct sl_trace_owner {
    uint64_t level_ns;
    unsigned depth;
    sl_trace_open open[SL_TRACE_DEPTH];
} sl_trace_owner;

typedef struct sl_trace {
    sl_trace_lane *lanes; /* [threads] */
    sl_trace_owner *owner;
    sl_ticks clock;
    uint64_t bytes; /* of all of it, as allocated */
    unsigned threads;
} sl_trace;

/* Bytes that a recorder with `bytes` for its entries takes, as allocated; at least room for some thousand. Pure. */
uint64_t sl_trace_price(uint64_t bytes, unsigned threads);
SL_MUST_USE sl_status sl_trace_create(uint64_t bytes, unsigned threads, sl_trace **out, sl_error *err);
void sl_trace_destroy(sl_trace *trace); /* NULL is fine */
uint64_t sl_trace_dropped(const sl_trace *trace);

unsigned sli_trace_begin(sl_trace *t, sl_trace_name name, uint32_t layer, uint32_t rows);
void sli_trace_end(sl_trace *t, unsigned depth);
uint64_t sli_trace_read(sl_trace *t, const sl_trace_entry *read);
void sli_trace_read_done(sl_trace *t, uint64_t read, uint32_t depth);
void sli_trace_point(sl_trace *t, const sl_trace_entry *entry);
void sli_trace_next(sl_trace *t, unsigned depth, sl_trace_name name, uint32_t layer, uint32_t rows);
void sli_trace_share(sl_trace *t, unsigned thread, uint64_t begin_ticks, sl_trace_label label);

/* Opens a span; the depth to end it with. */
static inline unsigned sl_trace_begin(sl_trace *t, sl_trace_name name, uint32_t layer, uint32_t rows)
{
    return t != NULL ? sli_trace_begin(t, name, layer, rows) : 0;
}
/* Ends the spans that were opened at `depth` or deeper. */
static inline void sl_trace_end(sl_trace *t, unsigned depth)
{
    if (t != NULL)
        sli_trace_end(t, depth);
}
/* Ends what was opened at `depth`, and opens another span there: one after the other. */
static inline void sl_trace_next(sl_trace *t, unsigned depth, sl_trace_name name, uint32_t layer, uint32_t rows)
{
    if (t != NULL)
        sli_trace_next(t, depth, name, layer, rows);
}
/* The depth at which the next span will begin. */
static inline unsigned sl_trace_depth(const sl_trace *t)
{
    return t != NULL ? t->owner->depth : 0;
}
/* A read has started; the number to complete it with, or 0. `kind` and times need not be set. */
static inline uint64_t sl_trace_read(sl_trace *t, const sl_trace_entry *read)
{
    return t != NULL ? sli_trace_read(t, read) : 0;
}
static inline void sl_trace_read_done(sl_trace *t, uint64_t read, uint32_t depth)
{
    if (t != NULL)
        sli_trace_read_done(t, read, depth);
}
static inline void sl_trace_token(sl_trace *t, uint32_t token, uint64_t number)
{
    if (t != NULL)
        sli_trace_point(t, &(sl_trace_entry){.kind = SL_TRACE_TOKEN, .name = SL_TRACE_A_TOKEN, .id = token, .offset = number});
}
static inline void sl_trace_level(sl_trace *t, sl_trace_name name, uint64_t level)
{
    if (t != NULL)
        sli_trace_point(t, &(sl_trace_entry){.kind = SL_TRACE_LEVEL, .name = (uint8_t)name, .offset = level});
}
/* Whether it is time to look at levels that cost something to ask for; then not again for a while. */
bool sl_trace_wants_levels(sl_trace *t);
/* What the owner has open: handed out with a job, so that no thread has to look at the owner's memory. */
static inline sl_trace_label sl_trace_label_of(const sl_trace *t)
{
    return t != NULL && t->owner->depth > 0 ? t->owner->open[t->owner->depth - 1].label
                                            : (sl_trace_label){.name = SL_TRACE_LAYER, .layer = SL_TRACE_NONE};
}
/* A thread's share of a job: 0 without a recorder, then what it took. */
static inline uint64_t sl_trace_share_begin(const sl_trace *t)
{
    return t != NULL ? sl_ticks_now(&t->clock) : 0;
}
static inline void sl_trace_share_end(sl_trace *t, unsigned thread, uint64_t begin_ticks, sl_trace_label label)
{
    if (t != NULL)
        sli_trace_share(t, thread, begin_ticks, label);
}

#endif
