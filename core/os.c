/* core/os.c: clock, page-wise memory, and the memory figures of /proc and of control groups. See os.h. */
#include "core/os_private.h"
#include "core/procfs.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define HUGE_PAGE ((size_t)2 << 20)

/* v1 shows "no limit" as the largest page count times the page size, a little under 2^63; no machine has half of that. */
#define NO_LIMIT_FROM ((uint64_t)1 << 62)

uint64_t sl_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

size_t sl_pages_round(size_t bytes)
{
    size_t unit = bytes >= HUGE_PAGE ? HUGE_PAGE : (size_t)sysconf(_SC_PAGESIZE);
    if (bytes == 0)
        return unit;
    return bytes > SIZE_MAX - (unit - 1) ? SIZE_MAX : (bytes + unit - 1) / unit * unit;
}

void *sl_pages_alloc(size_t bytes)
{
    size_t rounded = sl_pages_round(bytes);
    if (rounded > SIZE_MAX / 2)
        return NULL;

    /* mmap aligns to the page only: a huge page more is asked for, and what hangs over on both sides given back. */
    size_t slack = rounded >= HUGE_PAGE ? HUGE_PAGE : 0;
    char *base = mmap(NULL, rounded + slack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED)
        return NULL;
    if (slack == 0)
        return base;

    size_t head = (HUGE_PAGE - (uintptr_t)base % HUGE_PAGE) % HUGE_PAGE;
    if (head > 0)
        munmap(base, head);
    if (slack - head > 0)
        munmap(base + head + rounded, slack - head);
    madvise(base + head, rounded, MADV_HUGEPAGE); /* advice: where it is refused, small pages serve */
    return base + head;
}

void sl_pages_free(void *pages, size_t bytes)
{
    if (pages != NULL)
        munmap(pages, sl_pages_round(bytes));
}

static uint64_t status_kib(const char *key)
{
    char text[8192];
    uint64_t kib = 0;
    if (!sli_proc_read("", "/proc/self/status", text, sizeof text) || !sli_proc_number(text, key, &kib))
        return 0;
    return kib * 1024;
}

uint64_t sl_rss_bytes(void)
{
    return status_kib("VmRSS:");
}

uint64_t sl_peak_rss_bytes(void)
{
    return status_kib("VmHWM:");
}

static uint64_t limit_of(int resource)
{
    struct rlimit limit;
    if (getrlimit(resource, &limit) != 0)
        return 0;
    return limit.rlim_cur == RLIM_INFINITY ? UINT64_MAX : (uint64_t)limit.rlim_cur;
}

uint64_t sl_memlock_limit_bytes(void)
{
    return limit_of(RLIMIT_MEMLOCK);
}

uint64_t sl_open_files_limit(void)
{
    return limit_of(RLIMIT_NOFILE);
}

/* The limit of one group. In v2 `high` counts as one too: a group above it is throttled until it is of no use. */
static uint64_t group_limit(const sli_cgroup *group)
{
    uint64_t limit = UINT64_MAX, high;
    if (!sli_cgroup_number(group, group->v2 ? "memory.max" : "memory.limit_in_bytes", &limit))
        limit = UINT64_MAX;
    if (group->v2 && sli_cgroup_number(group, "memory.high", &high) && high < limit)
        limit = high;
    return limit >= NO_LIMIT_FROM ? UINT64_MAX : limit;
}

static uint64_t group_cache(const sli_cgroup *group)
{
    char text[8192];
    uint64_t inactive = 0, active = 0;
    if (!sli_cgroup_read(group, "memory.stat", text, sizeof text))
        return 0;
    (void)sli_proc_number(text, group->v2 ? "inactive_file " : "total_inactive_file ", &inactive);
    (void)sli_proc_number(text, group->v2 ? "active_file " : "total_active_file ", &active);
    return inactive + active;
}

void sli_memory_info_from(const char *root, sl_memory_info *out)
{
    char text[8192];
    uint64_t kib = 0;
    *out = (sl_memory_info){.cgroup_limit_bytes = UINT64_MAX};
    if (sli_proc_read(root, "/proc/meminfo", text, sizeof text)) {
        out->available_bytes = sli_proc_number(text, "MemAvailable:", &kib) ? kib * 1024 : 0;
        out->total_bytes = sli_proc_number(text, "MemTotal:", &kib) ? kib * 1024 : 0;
    }

    sli_cgroup group;
    if (!sli_cgroup_find(root, "memory", &group))
        return;
    out->cgroup_version = group.v2 ? 2 : 1;
    do {
        uint64_t limit = group_limit(&group);
        if (limit >= out->cgroup_limit_bytes)
            continue;
        out->cgroup_limit_bytes = limit;
        if (!sli_cgroup_number(&group, group.v2 ? "memory.current" : "memory.usage_in_bytes", &out->cgroup_used_bytes))
            out->cgroup_used_bytes = 0;
        out->cgroup_cache_bytes = group_cache(&group);
    } while (sli_cgroup_up(&group));
}

void sl_memory_info_get(sl_memory_info *out)
{
    sli_memory_info_from("", out);
}

uint64_t sl_memory_within(const sl_memory_info *info)
{
    return info->available_bytes < info->cgroup_limit_bytes ? info->available_bytes : info->cgroup_limit_bytes;
}

uint64_t sl_default_budget(const sl_memory_info *info)
{
    return sl_memory_within(info) / 10 * 8;
}

uint64_t sli_cgroup_peak_from(const char *root)
{
    sli_cgroup group;
    uint64_t peak = 0;
    if (!sli_cgroup_find(root, "memory", &group))
        return 0;
    return sli_cgroup_number(&group, group.v2 ? "memory.peak" : "memory.max_usage_in_bytes", &peak) ? peak : 0;
}

uint64_t sl_cgroup_peak_bytes(void)
{
    return sli_cgroup_peak_from("");
}

/* "quota period" in v2's cpu.max, two files in v1; false when the group has no quota. */
static bool group_quota(const sli_cgroup *group, uint64_t *quota, uint64_t *period)
{
    if (!group->v2)
        return sli_cgroup_number(group, "cpu.cfs_quota_us", quota) && sli_cgroup_number(group, "cpu.cfs_period_us", period) &&
               *quota <= INT64_MAX; /* -1: none */
    char text[64];
    if (!sli_cgroup_read(group, "cpu.max", text, sizeof text) || !sli_proc_number(text, "", quota))
        return false;
    const char *blank = strchr(text, ' ');
    return blank != NULL && sli_proc_number(blank + 1, "", period);
}

unsigned sli_cpu_quota_from(const char *root)
{
    sli_cgroup group;
    unsigned least = UINT_MAX;
    if (!sli_cgroup_find(root, "cpu", &group))
        return least;
    do {
        uint64_t quota, period;
        if (!group_quota(&group, &quota, &period) || period == 0)
            continue;
        uint64_t cpus = quota / period + (quota % period != 0);
        if (cpus < least)
            least = cpus > 0 ? (unsigned)cpus : 1;
    } while (sli_cgroup_up(&group));
    return least;
}

int sl_nameless_file(const char *folder, int flags)
{
    int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC | flags, 0600);
    /* With O_DIRECT EINVAL means that this is refused, and a second try would leave an empty file. */
    if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && (errno != EINVAL || (flags & O_DIRECT) != 0)))
        return fd;
    char name[PATH_MAX];
    if (snprintf(name, sizeof name, "%s/.sluice-XXXXXX", folder) >= (int)sizeof name) {
        errno = ENAMETOOLONG;
        return -1;
    }
    fd = mkostemp(name, O_CLOEXEC | flags);
    if (fd >= 0)
        unlink(name);
    return fd;
}

int sl_nameless_file_beside(const char *path, int flags)
{
    char folder[PATH_MAX];
    const char *slash = strrchr(path, '/');
    size_t length = slash == NULL ? 1 : slash == path ? 1 : (size_t)(slash - path);
    if (length >= sizeof folder) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(folder, slash == NULL ? "." : path, length);
    folder[length] = '\0';
    return sl_nameless_file(folder, flags);
}
