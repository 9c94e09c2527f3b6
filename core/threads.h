/* core/threads.h: a fixed crew that runs one job at a time, all members together.
 *
 * sl_threads_run calls fn(arg, index, count) once on each of `count` threads, the caller's being index 0, and returns when all are done.
 * Waiting members spin briefly (a decode step has hundreds of jobs, microseconds apart) and then sleep on a futex.
 * Thread i is bound to the i-th physical core that the process may use (hwloc, falling back to no binding, which is reported).
 *
 * Threads: one owner calls run; fn must not call run. */
#ifndef SL_CORE_THREADS_H
#define SL_CORE_THREADS_H

#include "core/trace.h"

typedef struct sl_threads sl_threads;
typedef void (*sl_job)(void *arg, unsigned index, unsigned count);

/* count 0: one per physical core that the process's affinity mask and cgroup quota allow. */
SL_MUST_USE sl_status sl_threads_create(unsigned count, sl_threads **out, sl_error *err);
void sl_threads_destroy(sl_threads *threads); /* NULL is fine */
unsigned sl_threads_count(const sl_threads *threads);
const char *sl_threads_binding(const sl_threads *threads); /* for people: "bound to cores 0,1" or why not */
void sl_threads_run(sl_threads *threads, sl_job fn, void *arg);
/* From now on the shares of members but the owner go to the recorder, which has a lane for each; NULL: to none. Between jobs. */
void sl_threads_trace(sl_threads *threads, sl_trace *trace);

#endif
