/* kernels/cuda/emulated.h: the emulated device: what it is told, and what its parts share.
 *
 *   runtime_emulated.cpp   the vtable, graphs, failures        emulated_queue.cpp    streams, events, time
 *   emulated_memory.cpp    its memory, page-locked memory      emulated_options.cpp  "memory=4G,lazy=1,..."
 *
 * Work is done and timed apart. Time is reckoned as work is given: a piece begins when its stream, its engine (copies in, copies out, arithmetic)
 * and the host have got there, and takes what bytes and rates say. So events' times are those of a device that overlaps all it may, and
 * depend on no clock. When bytes really move is another matter: at once, or, when lazy, as late or as early as the contract allows, chosen by a seed, so that work
 * whose order nothing assures is done in the wrong one, and shows.
 *
 * Invariants
 *  E1  A stream's work is done in its order. A wait is done after the record that it was given for, whenever that is.
 *  E2  Nothing of the device's memory can be read or written but while work is done (guard=1): a host that follows a device's address crashes.
 *  E3  Work that would break V2 makes the device fail (SL_DEVICE_LOST), with a message that begins with the rule.
 *  E4  A call that is made to fail has done nothing.
 *  E5  With timing_only work takes its time and does nothing else, so that models of any size can be timed. What comes out means nothing. */
#ifndef SL_KERNELS_CUDA_EMULATED_H
#define SL_KERNELS_CUDA_EMULATED_H

#include "kernels/cuda/stream.h"

#include <deque>
#include <map>
#include <memory>
#include <vector>

namespace emulated
{

/* Rates are bytes per second. Defaults are a laptop's RTX 4060 on PCIe 4 x8. */
struct options {
    uint64_t memory = (uint64_t)4 << 30;  /* of the device */
    uint64_t pinned = UINT64_MAX;         /* what may be page-locked */
    double link = 12e9;                   /* either way, both at once */
    double memory_bandwidth = 250e9;      /* kernels, and copies within */
    double latency_s = 2e-6;              /* latency_ns: of a copy, in its stream */
    double launch_s = 3e-6;               /* launch_ns: of a kernel, in its stream */
    double call_s = 0;                    /* call_ns: what a call takes of the host's time */
    uint64_t seed = 0;                    /* with lazy: in which order */
    uint64_t order = 0;                   /* kernels' threads run in another for each; 0: ascending (emulate.h) */
    uint64_t fail = 0, lost = 0;          /* the call of this number (from 1) finds no memory; finds the device lost */
    uint64_t broken = 0;                  /* the piece of work of this number fails when it is done */
    bool lazy = false, guard = false;     /* guard is on with lazy */
    bool graphs = true, zero_copy = true; /* zero_copy: host_address gives one */
    bool timing_only = false; /* no byte moves and no kernel runs: attrs say so, and nobody but a benchmark takes such a device (E5) */
};
sl_status parse(const char *text, options *out, sl_error *err);

struct event {
    uint64_t recorded = 0, done = 0; /* tickets; 0: never */
    sl_stream stream = SL_STREAM_COMPUTE;
    double at_s = 0; /* of the last record */
};

enum class work { COPY_IN, COPY_OUT, COPY_WITHIN, ZERO, KERNEL, RECORD, WAIT };

struct piece {
    work what;
    uint8_t *to;
    const uint8_t *from;
    size_t to_stride, from_stride, bytes, rows;
    uint64_t hash;          /* of what is copied in, when that was asked for; 0: not known */
    double takes_s, link_s; /* link_s: of a kernel that reads host memory, what it keeps the link busy */
    std::shared_ptr<event> on;
    uint64_t ticket;
    sl_stream ticket_stream; /* of a wait: where the record is */
    sli_closure_run run;
    std::shared_ptr<void> closure; /* one for all launches of a graph */
};

struct queue {
    std::deque<piece> pieces;
    double free_s; /* when all that was given is done */
};

struct range {
    uint8_t *at;
    uint64_t bytes;
    bool owned; /* host_alloc */
};

struct device {
    sl_device base; /* first */
    options how;
    sl_error failure; /* with status SL_DEVICE_LOST: of every call */
    uint64_t calls, done, tickets, lot;

    uint8_t *memory;
    std::map<uint64_t, uint64_t> taken; /* offset, bytes */
    std::vector<range> pinned;
    uint64_t pinned_bytes;

    queue stream[SL_STREAM_COUNT];
    double host_s, in_s, out_s, arithmetic_s; /* now; engines are free from then on */
    std::vector<piece> *capture;
    uint32_t gates; /* nested uses of open_gate */
};

inline device *of(sl_device *d)
{
    return reinterpret_cast<device *>(d);
}

/* ---- emulated_memory.cpp ---- */
sl_status memory_create(device *d, sl_error *err);
void memory_destroy(device *d);
sl_status memory_take(device *d, uint64_t bytes, sl_device_ptr *out, sl_error *err);
void memory_give(device *d, sl_device_ptr p);
uint64_t memory_free_bytes(const device *d);
/* Whether all these bytes lie in one piece of memory that was asked for. */
bool memory_holds(const device *d, sl_device_ptr p, uint64_t bytes);
void open_gate(device *d);
void close_gate(device *d);
sl_status pinned_take(device *d, size_t bytes, void **out, sl_error *err);
sl_status pinned_register(device *d, void *p, size_t bytes, sl_error *err);
void pinned_give(device *d, void *p, bool owned);
bool pinned_holds(const device *d, const void *p, uint64_t bytes);

/* ---- emulated_queue.cpp ---- */
sl_status give(device *d, sl_stream s, piece p, sl_error *err);
void run_stream(device *d, sl_stream s); /* all of it */
void run_event(device *d, const event *e);
void run_some(device *d); /* what chance says, when lazy */

} // namespace emulated

#endif
