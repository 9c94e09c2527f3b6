/* tests/test_os.c: core/os.h. Control groups are tested on machines laid out in a folder, as well as on the real one. */
#include "core/os.h"
#include "core/os_private.h"

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

/* Sanitizers keep notes about memory, which count as resident. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SHADOWED 1
#elif defined(__has_feature)
#define SHADOWED (__has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer))
#else
#define SHADOWED 0
#endif

#define MIB ((uint64_t)1 << 20)

typedef struct machine {
    char root[64];
} machine;

static int machine_begin(void **state)
{
    machine *m = calloc(1, sizeof *m);
    strcpy(m->root, "/tmp/sl_test_os.XXXXXX");
    *state = m;
    return mkdtemp(m->root) == NULL;
}

static int machine_end(void **state)
{
    machine *m = *state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", m->root);
    int failed = system(command);
    free(m);
    return failed;
}

/* Writes root/path, making the folders on the way. */
static void put(const machine *m, const char *path, const char *text)
{
    char full[1024];
    snprintf(full, sizeof full, "%s%s", m->root, path);
    for (char *slash = strchr(full + strlen(m->root) + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(full, 0755);
        *slash = '/';
    }
    FILE *f = fopen(full, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void sizes_read_as_people_write_them(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t bytes;
    } good[] = {{"0", 0},
                {"1048576", 1048576},
                {"1B", 1},
                {"512M", 512 * MIB},
                {"512m", 512 * MIB},
                {"4G", 4096 * MIB},
                {"1.5GiB", 1536 * MIB},
                {"1.5gb", 1536 * MIB},
                {"0.5K", 512},
                {"2T", 2 * MIB * MIB},
                {"16777215T", 16777215 * (MIB * MIB)},
                {"18446744073709551615", UINT64_MAX}};
    static const char *const bad[] = {"",
                                      "G",
                                      "-1",
                                      "+1",
                                      " 1",
                                      "1 G",
                                      "1.G",
                                      ".5G",
                                      "1.5",
                                      "1X",
                                      "1Gi",
                                      "1GG",
                                      "1e3",
                                      "16777216T",
                                      "18446744073709551616",
                                      "99999999999999999999G"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        uint64_t bytes = 12345;
        if (!sl_parse_size(good[i].text, &bytes) || bytes != good[i].bytes)
            fail_msg("%s reads as %llu", good[i].text, (unsigned long long)bytes);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        uint64_t bytes;
        if (sl_parse_size(bad[i], &bytes))
            fail_msg("\"%s\" passes for a size", bad[i]);
    }
}

static void sizes_print_with_their_unit(void **state)
{
    (void)state;
    char text[24];
    sl_format_size(3221225472u, text);
    assert_string_equal(text, "3.00 GiB");
    sl_format_size(0, text);
    assert_string_equal(text, "0 B");
    sl_format_size(1023, text);
    assert_string_equal(text, "1023 B");
    sl_format_size(1536, text);
    assert_string_equal(text, "1.50 KiB");
    sl_format_size(UINT64_MAX, text);
    assert_string_equal(text, "16.00 EiB");
}

static void pages_are_zeroed_aligned_and_rounded_as_priced(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 4096, 4097, 2 * MIB - 1, 2 * MIB, 2 * MIB + 1, 5 * MIB};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t unit = sizes[i] >= 2 * MIB ? 2 * MIB : (size_t)sysconf(_SC_PAGESIZE);
        size_t rounded = sl_pages_round(sizes[i]);
        assert_true(rounded >= sizes[i] && rounded - sizes[i] < unit && rounded % unit == 0);
        unsigned char *pages = sl_pages_alloc(sizes[i]);
        assert_non_null(pages);
        assert_int_equal((uintptr_t)pages % unit, 0);
        for (size_t at = 0; at < rounded; at += 4096)
            assert_int_equal(pages[at], 0);
        memset(pages, 1, rounded);
        sl_pages_free(pages, sizes[i]);
    }
    sl_pages_free(NULL, 0);
    assert_null(sl_pages_alloc(SIZE_MAX));
    assert_null(sl_pages_alloc(SIZE_MAX / 4));
}

static void resident_memory_follows_what_is_touched(void **state)
{
    (void)state;
    uint64_t before = sl_rss_bytes();
    unsigned char *pages = sl_pages_alloc(64 * MIB);
    assert_non_null(pages);
    memset(pages, 1, 64 * MIB);
    uint64_t with = sl_rss_bytes();
    sl_pages_free(pages, 64 * MIB);
    assert_true(with >= before + 62 * MIB && (SHADOWED || with <= before + 70 * MIB));
    assert_true(SHADOWED || sl_rss_bytes() < with - 60 * MIB);
    assert_true(sl_peak_rss_bytes() + MIB >= with); /* the kernel batches its counters a little */
}

static void the_clock_does_not_run_backwards(void **state)
{
    (void)state;
    uint64_t first = sl_now_ns();
    struct timespec pause = {0, 2000000};
    nanosleep(&pause, NULL);
    uint64_t second = sl_now_ns();
    assert_true(second - first >= 2000000 && second - first < 2000000000);
}

static void this_machine_has_memory(void **state)
{
    (void)state;
    sl_memory_info info;
    sl_memory_info_get(&info);
    assert_true(info.available_bytes > 16 * MIB);
    assert_true(info.cgroup_limit_bytes > 16 * MIB);
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_MEMLOCK, &limit), 0);
    assert_int_equal(sl_memlock_limit_bytes(), limit.rlim_cur == RLIM_INFINITY ? UINT64_MAX : limit.rlim_cur);
}

static void v1_limits_count_all_the_way_up(void **state)
{
    const machine *m = *state;
    sl_memory_info info;
    put(m, "/proc/meminfo", "MemTotal:  100 kB\nMemAvailable:   2048 kB\nX: 1 kB\n");
    put(m, "/proc/self/cgroup", "9:name=systemd:/\n5:cpu,cpuacct:/q\n4:memory:/a/b\n0::/\n");
    put(m, "/proc/self/mountinfo",
        "30 1 0:3 / /sys/other rw - cgroup cgroup rw,cpuset\n31 1 0:4 / /sys/mem\\040ory rw shared:9 - cgroup cgroup rw,memory\n"
        "32 1 0:5 / /sys/cpu rw - cgroup cgroup rw,cpu,cpuacct\n");
    put(m, "/sys/mem ory/memory.limit_in_bytes", "9223372036854771712\n");
    put(m, "/sys/mem ory/a/memory.limit_in_bytes", "3000000\n");
    put(m, "/sys/mem ory/a/memory.usage_in_bytes", "1234\n");
    put(m, "/sys/mem ory/a/memory.stat", "inactive_file 1\nactive_file 2\ntotal_inactive_file 300\ntotal_active_file 40\n");
    put(m, "/sys/mem ory/a/b/memory.limit_in_bytes", "5000000\n");
    put(m, "/sys/mem ory/a/b/memory.usage_in_bytes", "99\n");
    put(m, "/sys/mem ory/a/b/memory.max_usage_in_bytes", "777\n");
    sli_memory_info_from(m->root, &info);
    assert_int_equal(info.available_bytes, 2 * MIB);
    assert_int_equal(info.total_bytes, 100 * 1024);
    assert_int_equal(info.cgroup_version, 1);
    assert_int_equal(info.cgroup_limit_bytes, 3000000);
    assert_int_equal(info.cgroup_used_bytes, 1234);
    assert_int_equal(info.cgroup_cache_bytes, 340);
    assert_int_equal(sli_cgroup_peak_from(m->root), 777);

    put(m, "/sys/cpu/q/cpu.cfs_quota_us", "-1\n");
    put(m, "/sys/cpu/q/cpu.cfs_period_us", "100000\n");
    assert_int_equal(sli_cpu_quota_from(m->root), UINT_MAX);
    put(m, "/sys/cpu/q/cpu.cfs_quota_us", "150000\n");
    assert_int_equal(sli_cpu_quota_from(m->root), 2);
}

static void v2_limits_count_all_the_way_up(void **state)
{
    const machine *m = *state;
    sl_memory_info info;
    put(m, "/proc/self/cgroup", "0::/a/b\n");
    put(m, "/proc/self/mountinfo", "31 1 0:4 / /cg rw,nosuid - cgroup2 cgroup2 rw\n");
    put(m, "/cg/a/b/memory.max", "max\n");
    put(m, "/cg/a/memory.max", "8000000\n");
    put(m, "/cg/a/memory.current", "4321\n");
    put(m, "/cg/a/memory.stat", "anon 9\ninactive_file 500\nactive_file 60\n");
    put(m, "/cg/a/b/memory.peak", "888\n");
    put(m, "/cg/a/b/cpu.max", "max 100000\n");
    put(m, "/cg/a/cpu.max", "300000 100000\n");
    sli_memory_info_from(m->root, &info);
    assert_int_equal(info.cgroup_limit_bytes, 8000000);
    assert_int_equal(info.cgroup_version, 2);
    assert_int_equal(info.cgroup_used_bytes, 4321);
    assert_int_equal(info.cgroup_cache_bytes, 560);
    assert_int_equal(sli_cgroup_peak_from(m->root), 888);
    assert_int_equal(sli_cpu_quota_from(m->root), 3);

    put(m, "/cg/a/b/memory.high", "5000000\n");
    sli_memory_info_from(m->root, &info);
    assert_int_equal(info.cgroup_limit_bytes, 5000000);
}

static void a_container_sees_its_own_group_at_the_mount(void **state)
{
    const machine *m = *state;
    sl_memory_info info;
    put(m, "/proc/self/cgroup", "0::/docker/abc/inner\n");
    put(m, "/proc/self/mountinfo", "31 1 0:4 /docker/abc /cg rw - cgroup2 cgroup2 rw\n");
    put(m, "/cg/memory.max", "7000000\n");
    put(m, "/cg/inner/memory.max", "6000000\n");
    sli_memory_info_from(m->root, &info);
    assert_int_equal(info.cgroup_limit_bytes, 6000000);

    /* A path that leads out of what is shown says nothing of where we are: the mount itself is the best guess. */
    put(m, "/proc/self/cgroup", "0::/../elsewhere\n");
    sli_memory_info_from(m->root, &info);
    assert_int_equal(info.cgroup_limit_bytes, 7000000);
}

static void a_machine_without_control_groups_has_no_limit(void **state)
{
    const machine *m = *state;
    sl_memory_info info;
    sli_memory_info_from(m->root, &info);
    assert_int_equal(info.cgroup_limit_bytes, UINT64_MAX);
    assert_int_equal(info.available_bytes, 0);
    assert_int_equal(sli_cgroup_peak_from(m->root), 0);
    assert_int_equal(sli_cpu_quota_from(m->root), UINT_MAX);
}

#define ON_MACHINE(test) cmocka_unit_test_setup_teardown(test, machine_begin, machine_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_read_as_people_write_them),
        cmocka_unit_test(sizes_print_with_their_unit),
        cmocka_unit_test(pages_are_zeroed_aligned_and_rounded_as_priced),
        cmocka_unit_test(resident_memory_follows_what_is_touched),
        cmocka_unit_test(the_clock_does_not_run_backwards),
        cmocka_unit_test(this_machine_has_memory),
        ON_MACHINE(v1_limits_count_all_the_way_up),
        ON_MACHINE(v2_limits_count_all_the_way_up),
        ON_MACHINE(a_container_sees_its_own_group_at_the_mount),
        ON_MACHINE(a_machine_without_control_groups_has_no_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
