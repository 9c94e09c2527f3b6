/* offload/cli/bench.h: `sluice bench`, shared by its files.
 *
 *   bench.c        lists of options into rows, one after the other        bench_test.c   one test, measured in a process of its own
 *   bench_row.c    what a row holds, from samples to figures              bench_table.c  rows as md, csv, json, jsonl, sql
 *   bench_child.c  a process, its cgroup, its answer                      bench_peer.c   llama.cpp beside it
 *   bench_io.c     reads alone
 *
 * Each test runs in a child, so that its peak of memory is its own, and what it leaves behind does not meet the next one. */
#ifndef SL_OFFLOAD_CLI_BENCH_H
#define SL_OFFLOAD_CLI_BENCH_H

#include "offload/cli/cli.h"
#include "offload/tools/sweep.h"

#include <stdio.h>

typedef struct cli_bench_case { /* a row to be */
    cli_args args;              /* one value for each option */
    uint32_t prompt, decode, depth;
} cli_bench_case;

typedef struct cli_bench_axis {
    const struct cli_flag *flag;
    sl_sweep_values values;
    bool used; /* it has a meaning in some combination */
} cli_bench_axis;

typedef struct cli_bench {
    const cli_args *args;
    cli_bench_axis axis[CLI_LISTS_MAX];
    size_t axes;
    cli_bench_case *cases;
    size_t count, capacity;
    FILE *out;
    json_t *rows; /* those that are done */
} cli_bench;

/* ---- lists ---- */

SL_MUST_USE sl_status cli_bench_axes(cli_bench *b, sl_error *err);
const sl_sweep_values *cli_bench_values(const cli_bench *b, const char *flag); /* NULL where it was not given */
void cli_bench_free_axes(cli_bench *b);
bool cli_bench_on_device(const cli_args *a);

/* ---- a child ---- */

/* The first line of a file of the system's that begins with `prefix`; false where there is none. */
bool cli_system_line(const char *path, const char *prefix, char out[256]);

typedef struct cli_child {
    json_t *answer;      /* what it wrote, NULL where it is no JSON; the caller's */
    int status;          /* as waitpid has it */
    double others_share; /* of all processors' time, what others than the child took meanwhile; -1: too short to tell */
    uint64_t peak_rss_bytes;
} cli_child;

json_t *cli_others_share(const cli_child *child); /* null where it is not known */
/* Runs `work` in a child, which joins the memory cgroup first (NULL: none) and writes JSON to `fd`; its end is waited for. Ctrl-C is passed on. */
SL_MUST_USE sl_status cli_in_child(int (*work)(void *ctx, int fd), void *ctx, const char *cgroup, cli_child *out, sl_error *err);

/* ---- a test ---- */

/* What a row has of llama-bench's keys before anything is measured. */
json_t *cli_bench_row(const cli_bench_case *c);
/* Measures, in this process, into `row`; a failure is part of the row. */
void cli_bench_measure(const cli_bench_case *c, json_t *row);
/* Adds a round's samples to those of the `round` rounds before it (*all NULL: none), and its measurements to their means; takes round_row over. */
void cli_bench_merge_round(json_t **all, json_t *round_row, double round);
/* From samples_ns to averages. */
void cli_bench_finish_row(json_t *row);
/* In a child, in that cgroup; never NULL. */
json_t *cli_bench_run_case(const cli_bench_case *c, const char *cgroup);
json_t *cli_bench_breakdown(const sl_breakdown *breakdown);
void cli_bench_print_breakdown(const json_t *row); /* for people, on stderr */

/* ---- llama.cpp ---- */

/* Rounds of ours and theirs, alternating: gives our row and appends theirs to *peer. */
json_t *cli_bench_beside_peer(const cli_bench_case *c, json_t **peer);
SL_MUST_USE sl_status cli_bench_find_peer(const char *dir, char out[4096], sl_error *err);

/* ---- rows as text ---- */

SL_MUST_USE sl_status cli_bench_check_format(const cli_args *args, sl_error *err);
void cli_bench_print_head(const cli_bench *b);
void cli_bench_print_row(const cli_bench *b, const json_t *row, bool first);
void cli_bench_print_foot(const cli_bench *b);

int cli_bench_io(cli_bench *b);

#endif
