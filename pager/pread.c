/* pager/pread.c: reads through a pool of threads that call pread, for where io_uring is refused.
 *
 * The owner puts requests into one queue and takes finished ones from another, both under one lock; the threads sleep between. A read
 * is a system call of some hundred microseconds, so the lock is no matter. The count of finished reads is also kept where the owner can
 * look without the lock, which makes an empty poll free. */
#include "pager/files.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STACK_BYTES ((size_t)64 << 10) /* pread and an error message; glibc's minimum is 16 KiB */
#define THREADS_MAX 64

typedef struct finished {
    sl_read_done done;
    sl_error error;
} finished;

typedef struct pread_tier {
    sl_tier base;
    sli_files files;
    pthread_mutex_t lock;
    pthread_cond_t work, ready;
    /* under the lock */
    sl_read *queue; /* ring of depth entries */
    uint32_t queue_first, queue_count;
    finished *finished; /* ring of depth entries */
    uint32_t finished_first, finished_count;
    bool stop;
    /* the owner's */
    uint32_t taken; /* submitted and not yet reported */
    _Atomic uint32_t finished_seen;
    pthread_t *threads;
    uint32_t thread_count;
} pread_tier;

/* Reads to the end, without the lock. */
static finished read_all(const sli_files *files, const sl_read *read)
{
    finished result = {.done = {.tag = read->tag}};
    sli_progress progress = {0};
    do {
        ssize_t got = pread(files->file[read->file].fd, (char *)read->memory + progress.done, read->bytes - progress.done,
                            (off_t)(read->offset + progress.done));
        result.done.status = sli_files_advance(files, read, &progress, got < 0 ? -errno : got, &result.error);
    } while (result.done.status == SL_PENDING);
    return result;
}

static void *reader_main(void *arg)
{
    pread_tier *t = arg;
    pthread_mutex_lock(&t->lock);
    for (;;) {
        while (t->queue_count == 0 && !t->stop)
            pthread_cond_wait(&t->work, &t->lock);
        if (t->queue_count == 0)
            break;
        sl_read read = t->queue[t->queue_first];
        t->queue_first = (t->queue_first + 1) % t->base.attrs.depth;
        t->queue_count--;
        pthread_mutex_unlock(&t->lock);
        finished result = read_all(&t->files, &read);
        pthread_mutex_lock(&t->lock);
        t->finished[(t->finished_first + t->finished_count++) % t->base.attrs.depth] = result;
        atomic_store(&t->finished_seen, t->finished_count);
        pthread_cond_signal(&t->ready);
    }
    pthread_mutex_unlock(&t->lock);
    return NULL;
}

static sl_status pread_submit(sl_tier *tier, const sl_read *read, sl_error *err)
{
    pread_tier *t = (pread_tier *)tier;
    SL_TRY(sli_files_check(&t->files, read, err));
    if (t->taken >= t->base.attrs.depth)
        return SL_PENDING;
    t->taken++;
    pthread_mutex_lock(&t->lock);
    t->queue[(t->queue_first + t->queue_count++) % t->base.attrs.depth] = *read;
    pthread_mutex_unlock(&t->lock);
    pthread_cond_signal(&t->work);
    return SL_OK;
}

static size_t pread_reap(sl_tier *tier, bool wait, sl_read_done *done, size_t max, sl_error *err)
{
    pread_tier *t = (pread_tier *)tier;
    if (max == 0 || t->taken == 0 || (!wait && atomic_load(&t->finished_seen) == 0))
        return 0;
    size_t count = 0;
    pthread_mutex_lock(&t->lock);
    while (wait && t->finished_count == 0)
        pthread_cond_wait(&t->ready, &t->lock);
    for (; count < max && t->finished_count > 0; count++, t->finished_count--) {
        const finished *f = &t->finished[t->finished_first];
        done[count] = f->done;
        if (f->done.status != SL_OK && err != NULL)
            *err = f->error;
        t->finished_first = (t->finished_first + 1) % t->base.attrs.depth;
    }
    atomic_store(&t->finished_seen, t->finished_count);
    pthread_mutex_unlock(&t->lock);
    t->taken -= (uint32_t)count;
    return count;
}

static void pread_destroy(sl_tier *tier)
{
    pread_tier *t = (pread_tier *)tier;
    pthread_mutex_lock(&t->lock);
    t->stop = true;
    pthread_mutex_unlock(&t->lock);
    pthread_cond_broadcast(&t->work);
    for (uint32_t i = 0; i < t->thread_count; i++) /* each finishes what is queued */
        pthread_join(t->threads[i], NULL);
    pthread_cond_destroy(&t->ready);
    pthread_cond_destroy(&t->work);
    pthread_mutex_destroy(&t->lock);
    sli_files_close(&t->files);
    free(t->threads);
    free(t->finished);
    free(t->queue);
    free(t);
}

static const sl_tier_ops pread_ops = {.submit = pread_submit, .reap = pread_reap, .destroy = pread_destroy};

/* One thread is enough to work; fewer than asked for is a matter of speed, and noted by attrs.depth alone. */
static int start_readers(pread_tier *t, uint32_t want)
{
    pthread_attr_t attr;
    int failure = pthread_attr_init(&attr);
    if (failure != 0)
        return failure;
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    while (failure == 0 && t->thread_count < want) {
        failure = pthread_create(&t->threads[t->thread_count], &attr, reader_main, t);
        t->thread_count += failure == 0;
    }
    pthread_attr_destroy(&attr);
    return t->thread_count > 0 ? 0 : failure;
}

sl_status sli_pread_open(sli_files *files, const sl_files_options *options, sl_tier **out, sl_error *err)
{
    uint32_t depth = options->depth > 0 ? options->depth : SLI_DEPTH_DEFAULT;
    uint32_t readers = depth < THREADS_MAX ? depth : THREADS_MAX;
    pread_tier *t = calloc(1, sizeof *t);
    sl_read *queue = calloc(depth, sizeof *queue);
    finished *results = calloc(depth, sizeof *results);
    pthread_t *threads = calloc(readers, sizeof *threads);
    if (t == NULL || queue == NULL || results == NULL || threads == NULL) {
        free(t), free(queue), free(results), free(threads);
        sli_files_close(files);
        return sl_fail(err, SL_NO_MEMORY, "no memory for %u reads in flight", depth);
    }
    t->base = (sl_tier){.ops = &pread_ops};
    t->base.attrs = (sl_tier_attrs){.engine = "pread",
                                    .direct = files->direct,
                                    .alignment = files->alignment,
                                    .depth = depth,
                                    .capacity_bytes = sli_files_total_bytes(files),
                                    .heap_bytes = sizeof *t + depth * (sizeof *queue + sizeof *results) +
                                                  readers * (sizeof *threads + STACK_BYTES)};
    t->queue = queue;
    t->finished = results;
    t->threads = threads;
    t->files = *files;
    *files = (sli_files){0};
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->work, NULL);
    pthread_cond_init(&t->ready, NULL);

    int failure = start_readers(t, readers);
    if (failure != 0) {
        pread_destroy(&t->base);
        return sl_fail(err, SL_NO_MEMORY, "cannot start a thread that reads: %s", strerror(failure));
    }
    *out = &t->base;
    return SL_OK;
}
