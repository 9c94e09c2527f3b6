/* offload/tools/doctor.h: whether a machine suits offloading: what it is, what it reads per second, and what that means.
 *
 *   doctor.c          facts, and the order of things     doctor_io.c       reads of a file, by engine, depth and size
 *   doctor_memory.c   memory bandwidth                   doctor_verdict.c  what it all means: pure
 *   doctor_device.c   the GPU and its link (of the time of measuring it takes little, and its opening none)
 *
 * What cannot be looked at is skipped, and a line in `skipped` says why. */
#ifndef SL_OFFLOAD_TOOLS_DOCTOR_H
#define SL_OFFLOAD_TOOLS_DOCTOR_H

#include "core/os.h"
#include "core/topology.h"
#include "offload/tools/doctor_device.h"
#include "offload/tools/tool.h"
#include "pager/tier.h"

enum {
    SL_DOCTOR_READS_MAX = 20,   /* 2 engines, 2 depths, 5 sizes */
    SL_DOCTOR_MEMORIES_MAX = 2, /* one thread, and all */
    SL_DOCTOR_LINES_MAX = 10,   /* of what was skipped, or of advice */
    SL_DOCTOR_LINE_BYTES = 240,
    SL_DOCTOR_DEPTH_MAX = 32,
    SL_DOCTOR_REQUEST_MAX = 1 << 20,
};

typedef struct sl_doctor_options {
    const char *path;          /* a folder or a file that is read; NULL: the current folder */
    uint64_t ram_budget_bytes; /* 0: 0.8 of the memory that there is */
    const char *device;        /* as sl_device_open's `wanted`; NULL: "auto" */
    bool quick;                /* about 3 s, not 10 */
    bool brief;                /* half a second, for a plan: the engine that a run would take, 32 reads in flight; with quick */
    bool no_reads;             /* the disk is left alone */
    sl_tool_watch watch;       /* its progress has no bytes but a part of the time */
} sl_doctor_options;

typedef struct sl_doctor_lines {
    size_t count;
    char line[SL_DOCTOR_LINES_MAX][SL_DOCTOR_LINE_BYTES];
} sl_doctor_lines;

typedef struct sl_doctor_place {
    const char *path;     /* as given; "." for the current folder */
    bool is_file;         /* else a folder, in which a temporary file is read */
    int numa_node;        /* that the disk hangs on; -1: nobody says */
    uint64_t bytes;       /* of the file that was given */
    char file_system[32]; /* "ext4" */
    bool direct_known;    /* else nothing below is, because no file could be made or opened; `skipped` says why */
    bool direct;          /* O_DIRECT reads work */
    uint32_t alignment;   /* of them, in bytes */
    char refusal[160];    /* why they do not, else "" */
} sl_doctor_place;

typedef struct sl_doctor_read {
    sl_io_engine engine; /* SL_IO_URING or SL_IO_PREAD */
    uint32_t bytes, depth;
    uint64_t requests; /* that finished */
    double bandwidth_Bps, requests_per_s, median_s, p99_s;
} sl_doctor_read;

typedef struct sl_doctor_memory {
    unsigned threads;
    double bandwidth_Bps; /* reads */
} sl_doctor_memory;

typedef enum sl_doctor_limit { SL_LIMIT_UNKNOWN, SL_LIMIT_DISK, SL_LIMIT_MEMORY, SL_LIMIT_CORES } sl_doctor_limit;
typedef enum sl_doctor_fitness { SL_FITNESS_UNKNOWN, SL_FITNESS_POOR, SL_FITNESS_FAIR, SL_FITNESS_GOOD } sl_doctor_fitness;

typedef struct sl_doctor_verdict {
    sl_doctor_limit limit;
    sl_doctor_fitness fitness;
    double best_Bps;    /* the fastest of all reads; 0: none was measured */
    sl_doctor_read use; /* the smallest request, then the smallest depth, that is about as fast; zero where best_Bps is */
    sl_doctor_lines advice;
} sl_doctor_verdict;

typedef struct sl_doctor_report {
    sl_topology topology;
    sl_memory_info memory;
    uint64_t memlock_limit_bytes, open_files_limit; /* UINT64_MAX: none */
    uint64_t ram_budget_bytes;                      /* given, or what `run` would take */
    bool uring;                                     /* io_uring works */
    char uring_refusal[160];                        /* why not, else "" */
    bool unregistered;                              /* the limit on locked memory left part of the read buffers unregistered */
    sl_doctor_place place;
    sl_doctor_device device;
    size_t reads, memories;
    sl_doctor_read read[SL_DOCTOR_READS_MAX];
    sl_doctor_memory bandwidth[SL_DOCTOR_MEMORIES_MAX];
    sl_doctor_lines skipped;
    sl_doctor_verdict verdict;
} sl_doctor_report;

/* Looks, measures and judges. SL_INVALID where the path is neither folder nor file, SL_INTERRUPTED when the watch says so. `out` holds
 * on to options->path. */
SL_MUST_USE sl_status sl_doctor_examine(const sl_doctor_options *options, sl_doctor_report *out, sl_error *err);

/* ---- its parts ---- */

void sli_doctor_say(sl_doctor_lines *lines, const char *format, ...) SL_PRINTF(2, 3); /* one more line; beyond the last it is lost */

/* Since when, and for how long, it may measure: progress speaks of parts of `total_ns`. And who is told. */
typedef struct sli_doctor_clock {
    const sl_tool_watch *watch;
    uint64_t begin_ns, total_ns;
    bool quick, brief;
} sli_doctor_clock;
SL_MUST_USE sl_status sli_doctor_tick(const sli_doctor_clock *clock, sl_error *err); /* SL_INTERRUPTED when the watch says so */
bool sli_doctor_late(const sli_doctor_clock *clock);                                 /* all the time is used up */

/* Bytes that can be taken without being killed for it. Pure. */
uint64_t sli_doctor_memory_left(const sl_memory_info *memory);

/* Fill `bandwidth`, and `place` and `read`. */
SL_MUST_USE sl_status sli_doctor_measure_memory(const sli_doctor_clock *clock, sl_doctor_report *report, sl_error *err);
SL_MUST_USE sl_status sli_doctor_measure_reads(const sli_doctor_clock *clock, sl_doctor_report *report, sl_error *err);

/* Judges all the rest of the report. Pure. */
void sli_doctor_judge(const sl_doctor_report *report, sl_doctor_verdict *out);

#endif
