/* pager/uring.c: reads through io_uring. The only file that knows liburing.
 *
 * A read takes a request from a fixed table and waits in a queue until the next reap, which passes all that waits to the kernel, a few reads a
 * call. A completion is looked for in memory that the kernel shares with us; only when there is none and the caller wants to wait, or
 * when the kernel says that it holds completions back, is it asked.
 *
 * COOP_TASKRUN with TASKRUN_FLAG: a finished read does not interrupt the owner, who computes; it is posted when the owner next enters the
 * kernel for whatever reason (at the latest with the timer tick), and a flag in shared memory says that one is due. The disk does not wait
 * for that: its queue is `depth` deep. DEFER_TASKRUN would tie the ring to the thread that made it.
 *
 * Buffers are registered (pinned once, instead of at every read) as far as the system lets us; see register_memory(). */
#include "pager/files.h"

#include <errno.h>
#include <liburing.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REGISTER_MAX ((size_t)1 << 30)  /* of one registered buffer, as the kernel has it; no staging ring is larger */
#define REGISTER_MIN ((size_t)64 << 10) /* less is not worth the name */

/* Reads that go to the kernel in one call. It tells the disk of them when it has prepared the last, 1.5 us each: of a larger burst the disk may
 * begin with the first meanwhile. More calls than one in eight cost no time that could be measured (bench/SPEED.md, "The instrument"). */
#define PART_MAX 8

typedef struct request {
    sl_read read;
    sli_progress progress;
    uint32_t next_free;
} request;

typedef struct uring_tier {
    sl_tier base;
    sli_files files;
    struct io_uring ring;
    bool ring_made, files_registered;
    request *requests;  /* depth of them */
    uint32_t free_head; /* NONE: all taken */
    uint32_t taken;     /* requests in use: queued, in the kernel, or failed and not yet reported */
    uint32_t *queue;    /* ring of depth entries: requests in the order in which they go to the kernel */
    uint32_t queue_first, queue_count;
    uint32_t prepared; /* of the queue's first: those that have an SQE, not yet taken by the kernel */
    char *registered;  /* from here on, registered_bytes are pinned, as registered buffer 0 */
    size_t registered_bytes;
    int broken; /* errno of a submission that can't be repeated; 0: none */
} uring_tier;

#define NONE UINT32_MAX

static uint32_t take_request(uring_tier *t, const sl_read *read)
{
    uint32_t index = t->free_head;
    t->free_head = t->requests[index].next_free;
    t->taken++;
    t->requests[index] = (request){.read = *read};
    return index;
}

static void give_request(uring_tier *t, uint32_t index)
{
    t->requests[index].next_free = t->free_head;
    t->free_head = index;
    t->taken--;
}

static void enqueue(uring_tier *t, uint32_t index)
{
    t->queue[(t->queue_first + t->queue_count++) % t->base.attrs.depth] = index;
}

static sl_status uring_submit(sl_tier *tier, const sl_read *read, sl_error *err)
{
    uring_tier *t = (uring_tier *)tier;
    SL_TRY(sli_files_check(&t->files, read, err));
    if (t->free_head == NONE)
        return SL_PENDING;
    enqueue(t, take_request(t, read));
    return SL_OK;
}

static bool is_registered(const uring_tier *t, const char *memory, size_t bytes)
{
    return t->registered_bytes > 0 && memory >= t->registered && memory + bytes <= t->registered + t->registered_bytes;
}

static void prepare(uring_tier *t, struct io_uring_sqe *sqe, uint32_t index)
{
    const request *r = &t->requests[index];
    char *memory = (char *)r->read.memory + r->progress.done;
    unsigned bytes = (unsigned)(r->read.bytes - r->progress.done);
    uint64_t offset = r->read.offset + r->progress.done;
    int fd = t->files_registered ? (int)r->read.file : t->files.file[r->read.file].fd;
    if (is_registered(t, memory, bytes))
        io_uring_prep_read_fixed(sqe, fd, memory, bytes, offset, 0);
    else
        io_uring_prep_read(sqe, fd, memory, bytes, offset);
    if (t->files_registered)
        sqe->flags |= IOSQE_FIXED_FILE;
    io_uring_sqe_set_data64(sqe, index);
}

/* Passes the first of the queue to the kernel, up to PART_MAX of them, and waits there for a completion when `wait` and they are all. Whether
 * there are more that it would take now. */
static bool send_part(uring_tier *t, bool wait)
{
    uint32_t end = t->queue_count - t->prepared > PART_MAX ? t->prepared + PART_MAX : t->queue_count;
    while (t->prepared < end) {
        struct io_uring_sqe *sqe = io_uring_get_sqe(&t->ring);
        if (sqe == NULL)
            break;
        prepare(t, sqe, t->queue[(t->queue_first + t->prepared++) % t->base.attrs.depth]);
    }
    bool all = t->prepared == t->queue_count;
    int result = wait && all ? io_uring_submit_and_wait(&t->ring, 1) : io_uring_submit(&t->ring);
    if (result >= 0) {
        uint32_t left = io_uring_sq_ready(&t->ring), sent = t->prepared - left;
        t->queue_first = (t->queue_first + sent) % t->base.attrs.depth;
        t->queue_count -= sent;
        t->prepared = left;
        return !all && sent > 0;
    }
    if (result == -EAGAIN || result == -EBUSY)
        sched_yield(); /* the kernel is short of memory, or of room for completions: nothing of ours to wait for */
    else if (result != -EINTR)
        t->broken = -result;
    return false;
}

/* Passes the queue to the kernel, and waits there for a completion when `wait`. EAGAIN, EBUSY and EINTR leave the rest queued for the next call. */
static void enter(uring_tier *t, bool wait)
{
    while (send_part(t, wait))
        ;
}

/* One completion; false when the read goes on. */
static bool take_completion(uring_tier *t, const struct io_uring_cqe *cqe, sl_read_done *done, sl_error *err)
{
    uint32_t index = (uint32_t)io_uring_cqe_get_data64(cqe);
    request *r = &t->requests[index];
    sl_status status = sli_files_advance(&t->files, &r->read, &r->progress, cqe->res, err);
    if (status == SL_PENDING) {
        enqueue(t, index);
        return false;
    }
    *done = (sl_read_done){.tag = r->read.tag, .status = status};
    give_request(t, index);
    return true;
}

static size_t take_completions(uring_tier *t, sl_read_done *done, size_t max, sl_error *err)
{
    size_t count = 0;
    struct io_uring_cqe *cqe;
    while (count < max && io_uring_peek_cqe(&t->ring, &cqe) == 0) {
        count += take_completion(t, cqe, &done[count], err);
        io_uring_cqe_seen(&t->ring, cqe);
    }
    return count;
}

/* After a submission that the kernel will never take: what it does not have yet is reported as failed. */
static size_t fail_queued(uring_tier *t, sl_read_done *done, size_t max, sl_error *err)
{
    size_t count = 0;
    for (; count < max && t->queue_count > 0; count++, t->queue_count--) {
        uint32_t index = t->queue[t->queue_first];
        const sl_read *read = &t->requests[index].read;
        sl_status status = sl_fail(err, SL_IO, "%s: io_uring does not take reads any more: %s", t->files.file[read->file].path,
                                   strerror(t->broken));
        done[count] = (sl_read_done){.tag = read->tag, .status = status};
        t->queue_first = (t->queue_first + 1) % t->base.attrs.depth;
        give_request(t, index);
    }
    return count;
}

static size_t uring_reap(sl_tier *tier, bool wait, sl_read_done *done, size_t max, sl_error *err)
{
    uring_tier *t = (uring_tier *)tier;
    size_t count = take_completions(t, done, max, err);
    if (t->queue_count > 0 && t->broken == 0)
        enter(t, wait && max > 0 && count == 0); /* what is to start and the wait for it, in one call */
    count += take_completions(t, done + count, max - count, err);
    while (t->broken == 0 && max > 0 && count == 0 && wait && t->taken > 0) {
        enter(t, true);
        count = take_completions(t, done, max, err);
    }
    if (t->broken != 0)
        count += fail_queued(t, done + count, max - count, err);
    return count;
}

static void uring_destroy(sl_tier *tier)
{
    uring_tier *t = (uring_tier *)tier;
    sl_read_done done[16];
    sl_error err;
    /* The kernel writes into the caller's memory until the last read is done. */
    while (t->ring_made && t->taken > 0 && (uring_reap(tier, true, done, 16, &err) > 0 || t->broken == 0))
        ;
    if (t->ring_made)
        io_uring_queue_exit(&t->ring);
    sli_files_close(&t->files);
    free(t->queue);
    free(t->requests);
    free(t);
}

static const sl_tier_ops uring_ops = {.submit = uring_submit, .reap = uring_reap, .destroy = uring_destroy};

/* Registers a prefix of the memory: all of it, or what the limit on locked memory leaves. */
static void register_memory(uring_tier *t, char *memory, size_t bytes)
{
    size_t want = bytes < REGISTER_MAX ? bytes : REGISTER_MAX;
    int result = 0;
    while (want >= REGISTER_MIN) {
        struct iovec part = {memory, want};
        result = io_uring_register_buffers(&t->ring, &part, 1);
        if (result == 0) {
            t->registered = memory;
            t->registered_bytes = want;
            break;
        }
        if (result != -ENOMEM)
            break;
        want = want / 2 / 4096 * 4096; /* the limit is shared with others of this user: it is found by trying */
    }
    if (t->registered_bytes < bytes)
        snprintf(t->base.attrs.note, sizeof t->base.attrs.note,
                 "%zu of %zu KiB of staging memory are registered (%s); a larger limit on locked memory (ulimit -l) saves processor time",
                 t->registered_bytes / 1024, bytes / 1024, strerror(result != 0 ? -result : ENOMEM));
}

static void register_files(uring_tier *t)
{
    int *fds = calloc(t->files.count, sizeof *fds);
    if (fds == NULL)
        return;
    for (uint32_t i = 0; i < t->files.count; i++)
        fds[i] = t->files.file[i].fd;
    t->files_registered = io_uring_register_files(&t->ring, fds, t->files.count) == 0;
    free(fds);
}

static bool can_read(struct io_uring *ring)
{
    struct io_uring_probe *probe = io_uring_get_probe_ring(ring);
    bool able = probe != NULL && io_uring_opcode_supported(probe, IORING_OP_READ);
    io_uring_free_probe(probe);
    return able;
}

/* SL_UNSUPPORTED, with the reason, where the kernel or the container refuses. */
static sl_status make_ring(uring_tier *t, uint32_t depth, sl_error *err)
{
    static const unsigned flags[] = {IORING_SETUP_CLAMP | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG, IORING_SETUP_CLAMP, 0};
    int result = -EINVAL;
    for (size_t i = 0; i < sizeof flags / sizeof *flags && result == -EINVAL; i++) {
        struct io_uring_params params = {.flags = flags[i]};
        result = io_uring_queue_init_params(depth, &t->ring, &params);
        t->base.attrs.heap_bytes += result == 0 ? params.sq_entries * (uint64_t)68 + params.cq_entries * (uint64_t)16 + 4096 : 0;
    }
    if (result == -ENOMEM)
        return sl_fail(err, SL_UNSUPPORTED, "io_uring is refused here (no memory for it, or the limit on locked memory is too small)");
    if (result != 0)
        return sl_fail(err, SL_UNSUPPORTED, "io_uring is refused here (%s)", strerror(-result));
    t->ring_made = true;
    if (!can_read(&t->ring))
        return sl_fail(err, SL_UNSUPPORTED, "io_uring is refused here (this kernel's cannot read; 5.6 can)");
    return SL_OK;
}

sl_status sli_uring_open(sli_files *files, const sl_files_options *options, sl_tier **out, sl_error *err)
{
    uint32_t depth = options->depth > 0 ? options->depth : SLI_DEPTH_DEFAULT;
    uring_tier *t = calloc(1, sizeof *t);
    request *requests = calloc(depth, sizeof *requests);
    uint32_t *queue = calloc(depth, sizeof *queue);
    sl_status status = SL_OK;
    if (t == NULL || requests == NULL || queue == NULL) {
        free(t), free(requests), free(queue);
        sli_files_close(files);
        return sl_fail(err, SL_NO_MEMORY, "no memory for %u reads in flight", depth);
    }
    t->base = (sl_tier){.ops = &uring_ops};
    t->base.attrs = (sl_tier_attrs){.engine = "uring",
                                    .direct = files->direct,
                                    .alignment = files->alignment,
                                    .depth = depth,
                                    .capacity_bytes = sli_files_total_bytes(files),
                                    .heap_bytes = sizeof *t + depth * (sizeof *requests + sizeof *queue)};
    t->requests = requests;
    t->queue = queue;
    for (uint32_t i = 0; i < depth; i++)
        requests[i].next_free = i + 1 < depth ? i + 1 : NONE;

    status = make_ring(t, depth, err);
    if (status != SL_OK) { /* the files stay the caller's */
        uring_destroy(&t->base);
        return status;
    }
    t->files = *files;
    *files = (sli_files){0};
    register_files(t);
    if (options->register_memory != NULL && options->register_bytes > 0)
        register_memory(t, options->register_memory, options->register_bytes);
    *out = &t->base;
    return SL_OK;
}
