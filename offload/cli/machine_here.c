/* offload/cli/machine_here.c: see machine_here.h. */
#include "offload/cli/machine_here.h"
#include "core/cpu.h"
#include "core/os.h"
#include "core/threads.h"
#include "kernels/kernels.h"
#include "offload/cli/cli.h"
#include "offload/cli/machine_file.h"
#include "offload/tools/measure_products.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

#define PRODUCT_BYTES ((uint64_t)64 << 20) /* at least, and twice the last cache: beyond it */
#define PRODUCT_MAX   ((uint64_t)256 << 20)

/* ---- where it is kept ---- */

static void processor_name(char *out, size_t bytes)
{
    char line[256];
    FILE *file = fopen("/proc/cpuinfo", "re");
    snprintf(out, bytes, "unknown processor");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || colon == NULL)
            continue;
        line[strcspn(line, "\n")] = '\0';
        snprintf(out, bytes, "%s", colon + 2);
        break;
    }
    if (file != NULL)
        (void)fclose(file); /* it was only read */
}

/* Host, processor, and the device of the path. */
static bool identity(const char *path, char out[24])
{
    struct utsname host;
    struct stat st;
    char processor[160], text[512];
    if (uname(&host) != 0 || stat(path, &st) != 0)
        return false;
    processor_name(processor, sizeof processor);
    int length = snprintf(text, sizeof text, "%s\n%s\n%s\n%u:%u", host.nodename, host.machine, processor, major(st.st_dev),
                          minor(st.st_dev));
    snprintf(out, 24, "%016llx", (unsigned long long)XXH3_64bits(text, (size_t)length < sizeof text ? (size_t)length : sizeof text - 1));
    return true;
}

/* The file for the disk of `path`, in a folder that is made with `make`; NULL where there is no home. The caller frees it. */
static char *kept_path(const char *path, bool make)
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    char id[24], folder[3000], *out = NULL;
    if (!identity(path, id))
        return NULL;
    if (cache != NULL && cache[0] == '/')
        snprintf(folder, sizeof folder, "%.2900s", cache);
    else if (home != NULL && home[0] == '/')
        snprintf(folder, sizeof folder, "%.2900s/.cache", home);
    else
        return NULL;
    if (make)
        (void)mkdir(folder, 0700); /* where this fails, so does what follows */
    strcat(folder, "/sluice");
    if (make)
        (void)mkdir(folder, 0700);
    return asprintf(&out, "%s/doctor-%s.json", folder, id) < 0 ? NULL : out;
}

/* ---- from a report ---- */

static void take_report(const sl_doctor_report *r, sli_machine *out)
{
    char processor[160];
    processor_name(processor, sizeof processor);
    *out = (sli_machine){
        .measured = true, .memory_bytes = r->memory.total_bytes, .cores = r->topology.cores_usable, .isa = sl_cpu_best_isa()};
    snprintf(out->name, sizeof out->name, "%.79s", processor);
    for (size_t i = 0; i < r->memories; i++)
        out->bandwidth[out->bandwidths++] = (sli_machine_bandwidth){r->bandwidth[i].threads, r->bandwidth[i].bandwidth_Bps};
    for (size_t i = 0; i < r->reads; i++) {
        const sl_doctor_read *c = &r->read[i];
        sli_machine_read *to = &out->read[out->reads++];
        *to = (sli_machine_read){.bytes = c->bytes, .depth = c->depth, .Bps = c->bandwidth_Bps};
        snprintf(to->engine, sizeof to->engine, "%s", c->engine == SL_IO_URING ? "uring" : "pread");
    }
}

/* Measured with as much, nearly; what is beyond the caches is as good as any other that is. */
static bool has_rate(const sli_machine *m, uint32_t type, uint64_t bytes)
{
    for (size_t i = 0; i < m->rates; i++) {
        const sli_machine_rate *r = &m->rate[i];
        if (r->type == type && r->bytes >= bytes / 5 * 4 && (r->bytes <= bytes / 4 * 5 || bytes >= PRODUCT_MAX))
            return true;
    }
    return false;
}

/* Beyond the last cache, as far as there is memory. What the processor says of that cache is not asked for more: under a hypervisor it is often
 * the host's, of which a guest has a share. */
static uint64_t uncached_bytes(void)
{
    sl_memory_info memory;
    sl_topology topology;
    sl_memory_info_get(&memory);
    sl_topology_get(&topology);
    const sl_cache_info *last = &topology.cache[SL_CACHE_LEVELS - 1];
    uint64_t left = sli_doctor_memory_left(&memory) / 4, bytes = last->count > 0 ? 2 * last->bytes : PRODUCT_BYTES;
    bytes = bytes > PRODUCT_BYTES ? bytes : PRODUCT_BYTES;
    bytes = bytes < PRODUCT_MAX ? bytes : PRODUCT_MAX;
    return bytes < left ? bytes : left;
}

/* What products are measured with for a model of which a token touches so many bytes: to three bits, so that models of about one size share what
 * is kept. 0 bytes: more than caches hold. */
static uint64_t product_bytes(uint64_t touched_bytes)
{
    uint64_t most = uncached_bytes(), step = 1;
    if (touched_bytes == 0 || touched_bytes >= most)
        return most;
    while (touched_bytes / step >= 4)
        step *= 2;
    uint64_t bytes = (touched_bytes + step / 2) / step * step;
    return bytes > SLI_PRODUCTS_BYTES_MIN ? bytes : SLI_PRODUCTS_BYTES_MIN;
}

/* Products of these formats, those that are not there yet. */
static sl_status add_rates(const uint32_t *types, size_t count, uint64_t touched_bytes, sli_machine *m, sl_error *err)
{
    uint64_t bytes = product_bytes(touched_bytes);
    uint32_t wanted[SLI_MACHINE_RATES_MAX];
    size_t n = 0;
    for (size_t i = 0; i < count && m->rates + n < SLI_MACHINE_RATES_MAX; i++) {
        bool twice = has_rate(m, types[i], bytes);
        for (size_t j = 0; j < n; j++)
            twice |= wanted[j] == types[i];
        if (!twice)
            wanted[n++] = types[i];
    }
    if (n == 0)
        return SL_OK;
    sl_threads *crew = NULL;
    SL_TRY(sl_threads_create(0, &crew, err));
    sl_status status = sli_measure_products(sl_kernels_for(sl_cpu_best_isa()), crew, wanted, n, (size_t)bytes, &m->rate[m->rates], err);
    sl_threads_destroy(crew);
    m->rates += status == SL_OK ? n : 0;
    return status;
}

/* Whether there is something that a plan can use. */
static bool is_kept(const char *path)
{
    sl_error ignored = {0};
    sli_machine machine;
    return path != NULL && access(path, R_OK) == 0 && cli_machine_read(path, &machine, &ignored) == SL_OK;
}

void cli_machine_keep(const sl_doctor_report *report, bool quick, char **path, sl_error *reason)
{
    static const uint32_t usual[] = {SL_TYPE_Q4_0, SL_TYPE_Q8_0, SL_TYPE_Q4_K, SL_TYPE_Q6_K}; /* of another, plan measures it */
    sli_machine m;
    char when[32];
    time_t now = time(NULL);
    struct tm date;
    *path = NULL;
    char *to = kept_path(report->place.path, false);
    bool there = quick && is_kept(to);
    free(to);
    if (there) {
        (void)sl_fail(reason, SL_IO, "what is kept already is no worse than a quick measurement");
        return;
    }
    take_report(report, &m);
    if (m.reads == 0 || m.bandwidths == 0) {
        (void)sl_fail(reason, SL_IO, "not all of it could be measured");
        return;
    }
    if (add_rates(usual, sizeof usual / sizeof *usual, 0, &m, reason) != SL_OK)
        return;
    strftime(when, sizeof when, "%Y-%m-%d %H:%M UTC", gmtime_r(&now, &date));
    snprintf(m.source, sizeof m.source, "sluice doctor %.100s, %s", report->place.path, when);
    to = kept_path(report->place.path, true);
    if (to == NULL)
        (void)sl_fail(reason, SL_IO, "neither XDG_CACHE_HOME nor HOME names a folder");
    else if (cli_machine_write(to, &m, reason) == SL_OK)
        *path = to;
    if (*path == NULL)
        free(to);
}

/* ---- this machine ---- */

static sl_status look_briefly(const cli_machine_wish *wish, sli_machine *out, sl_error *err)
{
    sl_doctor_report *report = malloc(sizeof *report);
    if (report == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for a report");
    sl_doctor_options options = {.path = wish->path, .quick = true, .brief = true, .no_reads = wish->no_reads};
    sl_status status = sl_doctor_examine(&options, report, err);
    if (status == SL_OK)
        take_report(report, out);
    if (status == SL_OK && report->memories == 0)
        status = sl_fail(err, SL_IO, "%s; --machine names another, or a preset",
                         report->skipped.count > 0 ? report->skipped.line[0] : "memory bandwidth cannot be measured");
    if (status == SL_OK && report->reads == 0 && !wish->no_reads)
        status = sl_fail(err, SL_IO, "%s; --throttle gives the disk's speed, --machine another machine's",
                         report->skipped.count > 0 ? report->skipped.line[report->skipped.count - 1] : "the disk cannot be measured");
    free(report);
    return status;
}

/* So that the next plan need not measure them; where that fails it measures them again. */
static void keep_rates(const char *kept, const sli_machine *machine)
{
    sl_error ignored = {0};
    sl_status status = cli_machine_write(kept, machine, &ignored);
    (void)status;
}

sl_status cli_machine_here(const cli_machine_wish *wish, sli_machine *out, char *said, size_t said_bytes, sl_error *err)
{
    char *kept = kept_path(wish->path, false);
    sl_error ignored = {0};
    bool known = kept != NULL && access(kept, R_OK) == 0 && cli_machine_read(kept, out, &ignored) == SL_OK;
    if (known) {
        snprintf(said, said_bytes, "as measured by %s", out->source);
    } else {
        if (ignored.status != SL_OK)
            fprintf(stderr, "what doctor kept cannot be used, and is left alone: %s\n", ignored.message);
        sl_status status = look_briefly(wish, out, err);
        if (status != SL_OK) {
            free(kept);
            return status;
        }
        snprintf(out->source, sizeof out->source, "a short measurement");
        snprintf(said, said_bytes, "measured just now, briefly%s: `sluice doctor %.100s` does it better and keeps it",
                 wish->no_reads ? " and without the disk, for --throttle gives its speed" : "", wish->path);
    }
    size_t rates = out->rates;
    sl_status status = add_rates(wish->types, wish->type_count, wish->touched_bytes, out, err);
    if (known && out->rates > rates)
        keep_rates(kept, out);
    free(kept);
    return status;
}

sl_status cli_machine_named(const char *name, sli_machine *out, sl_error *err)
{
    for (size_t i = 0; sli_machine_preset(i, out); i++)
        if (strcmp(out->name, name) == 0)
            return SL_OK;
    if (strchr(name, '/') == NULL && strchr(name, '.') == NULL && access(name, F_OK) != 0)
        return sl_fail(err, SL_INVALID, "--machine %s: neither a preset nor a file; --machine list shows the presets", name);
    return cli_machine_read(name, out, err);
}
