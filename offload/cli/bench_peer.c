/* offload/cli/bench_peer.c: llama.cpp's llama-bench beside us: in the same memory, in the same minute. See bench.h.
 *
 * Each round drops the model's pages, runs theirs, drops them again and runs ours, once each, because a disk's speed drifts: a ratio is formed
 * within a round. Where a memory cgroup can be made, both run in one with the budget as its limit, which for the peer holds the page cache of
 * its mmap; where not, that is said. */
#include "offload/cli/bench.h"
#include "offload/tools/bench_figures.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH_BYTES 4096

sl_status cli_bench_find_peer(const char *dir, char out[4096], sl_error *err)
{
    static const char *const places[] = {"", "bin/"};
    for (size_t i = 0; i < 2; i++)
        if (snprintf(out, PATH_BYTES, "%s/%sllama-bench", dir, places[i]) < PATH_BYTES && access(out, X_OK) == 0)
            return SL_OK;
    return sl_fail(err, SL_INVALID, "--peer-dir %s: no llama-bench there or in its bin/; it names the folder of a llama.cpp build", dir);
}

/* ---- the page cache ---- */

/* Pages of the file that are in memory, of `size` bytes of it; -1: nobody says. */
static int64_t pages_in_memory(int fd, size_t size)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), count = (size + page - 1) / page;
    unsigned char *in = malloc(count + 1);
    void *map = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
    int64_t resident = -1;
    if (map != MAP_FAILED && in != NULL && mincore(map, size, in) == 0) {
        resident = 0;
        for (size_t i = 0; i < count; i++)
            resident += in[i] & 1;
    }
    if (map != MAP_FAILED)
        munmap(map, size);
    free(in);
    return resident;
}

static sl_status drop_pages(const char *path, sl_error *err)
{
    struct stat info;
    int64_t left = -1;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &info) != 0) {
        if (fd >= 0)
            close(fd);
        return sl_fail(err, SL_IO, "%s: %s", path, strerror(errno));
    }
    fdatasync(fd); /* dirty pages cannot be dropped */
    for (int attempt = 0; attempt < 5 && left != 0; attempt++) {
        usleep(attempt > 0 ? 200000 : 0);
        posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
        left = pages_in_memory(fd, (size_t)info.st_size);
    }
    close(fd);
    return left == 0 ? SL_OK
                     : sl_fail(err, SL_IO, "%s: %lld of its pages stay in memory: does another program use it?", path, (long long)left);
}

/* ---- a cgroup ---- */

static bool write_text(const char *folder, const char *name, const char *text)
{
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%.3800s/%s", folder, name);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool done = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    int why = errno;
    if (fd >= 0)
        close(fd);
    errno = why;
    return done;
}

/* "" where none can be made; `why` says so. */
static void make_cgroup(uint64_t limit_bytes, unsigned serial, char out[PATH_BYTES], char why[160])
{
    char limit[32];
    bool first = access("/sys/fs/cgroup/memory", F_OK) == 0;
    if (!first)
        (void)!write_text("/sys/fs/cgroup", "cgroup.subtree_control", "+memory");
    snprintf(out, PATH_BYTES, "%s/sluice-bench-%d-%u", first ? "/sys/fs/cgroup/memory" : "/sys/fs/cgroup", (int)getpid(), serial);
    snprintf(limit, sizeof limit, "%llu", (unsigned long long)limit_bytes);
    bool made = mkdir(out, 0755) == 0, set = made && write_text(out, first ? "memory.limit_in_bytes" : "memory.max", limit);
    if (set && !first)
        (void)!write_text(out, "memory.swap.max", "0");
    if (set)
        return;
    snprintf(why, 160,
             "no memory cgroup can be made here (%s): llama.cpp has all of the memory, so its figures are not those of the budget",
             strerror(errno));
    if (made)
        rmdir(out);
    out[0] = '\0';
}

static void remove_cgroup(const char *path)
{
    for (int attempt = 0; path[0] != '\0' && attempt < 50 && rmdir(path) != 0 && errno == EBUSY; attempt++)
        usleep(100000); /* the last member is not reaped yet */
}

/* ---- the peer ---- */

typedef struct peer_run {
    const cli_bench_case *c;
    const char *program;
    bool limited; /* to less memory than the model has: anything but mmap would be killed */
} peer_run;

static int exec_peer(void *ctx, int fd)
{
    const peer_run *p = ctx;
    const cli_args *a = &p->c->args;
    char prompt[16], decode[16], both[32], depth[16], threads[16], batch[16], layers[16];
    const char *argv[40] = {p->program, "-m", a->model, "-r", "1", "-o", "json"};
    size_t n = 7;
    snprintf(prompt, sizeof prompt, "%u", p->c->decode > 0 ? 0 : p->c->prompt);
    snprintf(decode, sizeof decode, "%u", p->c->prompt > 0 ? 0 : p->c->decode);
    snprintf(both, sizeof both, "%u,%u", p->c->prompt, p->c->decode);
    snprintf(depth, sizeof depth, "%u", p->c->depth);
    snprintf(threads, sizeof threads, "%lld", (long long)a->threads);
    snprintf(batch, sizeof batch, "%lld", (long long)a->batch);
    snprintf(layers, sizeof layers, "%lld", (long long)a->gpu_layers);
    argv[n++] = "-p", argv[n++] = prompt, argv[n++] = "-n", argv[n++] = decode, argv[n++] = "-d", argv[n++] = depth;
    if (p->c->prompt > 0 && p->c->decode > 0)
        argv[n++] = "-pg", argv[n++] = both;
    if (a->threads > 0)
        argv[n++] = "-t", argv[n++] = threads;
    if (a->batch > 0)
        argv[n++] = "-b", argv[n++] = batch;
    if (a->cache_type_k != NULL)
        argv[n++] = "-ctk", argv[n++] = a->cache_type_k;
    if (a->cache_type_v != NULL)
        argv[n++] = "-ctv", argv[n++] = a->cache_type_v;
    if (cli_bench_on_device(a) && a->gpu_layers >= 0)
        argv[n++] = "-ngl", argv[n++] = layers;
    if (a->no_kv_offload)
        argv[n++] = "-nkvo", argv[n++] = "1";
    if (p->limited)
        argv[n++] = "-lm", argv[n++] = "mmap", argv[n++] = "--repack", argv[n++] = "0";
    argv[n] = NULL;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (dup2(fd, STDOUT_FILENO) < 0 || dup2(null, STDERR_FILENO) < 0 || dup2(null, STDIN_FILENO) < 0)
        return CLI_FAILED;
    execv(p->program, (char *const *)(uintptr_t)argv);
    return 127;
}

static sl_status run_peer(const peer_run *p, const char *cgroup, json_t **row, sl_error *err)
{
    cli_child child;
    SL_TRY(cli_in_child(exec_peer, (void *)(uintptr_t)p, cgroup, &child, err));
    *row = json_is_array(child.answer) ? json_incref(json_array_get(child.answer, 0)) : NULL;
    json_decref(child.answer);
    if (*row == NULL || !json_is_array(json_object_get(*row, "samples_ns"))) {
        json_decref(*row);
        *row = NULL;
        return sl_fail(err, SL_IO, "%s gave no result (%s %d); run it by hand to see why", p->program,
                       (child.status & 0x7f) != 0 ? "signal" : "exit status",
                       (child.status & 0x7f) != 0 ? child.status & 0x7f : child.status >> 8);
    }
    json_object_set_new(*row, "others_share", cli_others_share(&child));
    json_object_set_new(*row, "peak_rss_bytes", json_integer((json_int_t)child.peak_rss_bytes));
    return SL_OK;
}

/* ---- rounds ---- */

static double speed_of(const json_t *row)
{
    return json_number_value(json_array_get(json_object_get(row, "samples_ts"), 0));
}

typedef struct rounds {
    const cli_bench_case *c;
    peer_run peer;
    char cgroup[PATH_BYTES], why[160];
    json_t *ours, *theirs;
    double *ratio;
    size_t count;
} rounds;

static sl_status run_round(rounds *r, unsigned serial, sl_error *err)
{
    cli_bench_case once = *r->c;
    json_t *theirs = NULL;
    once.args.repetitions = 1;
    r->cgroup[0] = '\0';
    SL_TRY(drop_pages(r->c->args.model, err));
    if (r->c->args.ram_budget_bytes > 0)
        make_cgroup(r->c->args.ram_budget_bytes, serial, r->cgroup, r->why);
    const char *cgroup = r->cgroup[0] != '\0' ? r->cgroup : NULL;
    r->peer.limited = cgroup != NULL;
    sl_status status = run_peer(&r->peer, cgroup, &theirs, err);
    if (status == SL_OK)
        status = drop_pages(r->c->args.model, err);
    json_t *ours = status == SL_OK ? cli_bench_run_case(&once, cgroup) : NULL;
    remove_cgroup(r->cgroup);
    if (status == SL_OK) {
        r->ratio[r->count] = speed_of(theirs) > 0 ? speed_of(ours) / speed_of(theirs) : 0;
        bool ok = strcmp(json_string_value(json_object_get(ours, "status")), "ok") == 0;
        cli_bench_merge_round(&r->theirs, theirs, (double)r->count);
        cli_bench_merge_round(&r->ours, ours, (double)r->count++);
        if (!ok)
            return sl_fail(err, SL_IO, "%s", json_string_value(json_object_get(ours, "reason")));
    } else {
        json_decref(theirs);
    }
    return status;
}

static void put_ratios(rounds *r)
{
    double median = sl_median(r->ratio, r->count);
    if (r->count == 0)
        return;
    json_object_set_new(r->ours, "peer_ratio_median", json_real(median));
    json_object_set_new(r->ours, "peer_ratio_min", json_real(r->ratio[0]));
    json_object_set_new(r->ours, "peer_ratio_max", json_real(r->ratio[r->count - 1]));
}

/* Theirs gets all keys of a row, those that it has no value for as null. */
static void complete(const cli_bench_case *c, json_t *theirs)
{
    json_t *blank = cli_bench_row(c);
    const char *key;
    json_t *value;
    cli_bench_finish_row(theirs);
    json_object_foreach(blank, key, value)
    {
        if (json_object_get(theirs, key) == NULL)
            json_object_set_new(theirs, key, json_null());
    }
    json_object_set_new(theirs, "program", json_string("llama.cpp"));
    json_object_set_new(theirs, "status", json_string("ok"));
    json_object_set(theirs, "ram_budget_bytes", json_object_get(blank, "ram_budget_bytes"));
    json_object_set_new(theirs, "warnings", json_array());
    json_decref(blank);
}

json_t *cli_bench_beside_peer(const cli_bench_case *c, json_t **peer)
{
    char program[PATH_BYTES];
    sl_error err = {0};
    rounds r = {.c = c, .ratio = calloc((size_t)c->args.repetitions, sizeof *r.ratio)};
    sl_status status = r.ratio != NULL ? cli_bench_find_peer(c->args.peer_dir, program, &err)
                                       : sl_fail(&err, SL_NO_MEMORY, "out of memory");
    r.peer = (peer_run){.c = c, .program = program};
    for (int64_t i = 0; i < c->args.repetitions && status == SL_OK && !cli_interrupted(); i++)
        status = run_round(&r, (unsigned)i, &err);
    if (r.ours == NULL)
        r.ours = cli_bench_row(c);
    cli_bench_finish_row(r.ours);
    if (status != SL_OK) {
        json_object_set_new(r.ours, "status", json_string("failed"));
        json_object_set_new(r.ours, "reason", cli_json_text(err.message, strlen(err.message)));
    } else {
        put_ratios(&r);
    }
    if (r.why[0] != '\0')
        cli_note(json_object_get(r.ours, "warnings"), r.why);
    if (r.theirs != NULL)
        complete(c, r.theirs);
    *peer = r.theirs;
    free(r.ratio);
    return r.ours;
}
