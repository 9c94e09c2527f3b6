/* tests/test_doctor.c: what sluice doctor makes of its figures. Machines are made up; measuring real ones is cli_doctor.sh's part. */
#include "offload/tools/doctor.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define GIB ((uint64_t)1 << 30)

static sl_doctor_read read_of(sl_io_engine engine, uint32_t kib, uint32_t depth, double Bps)
{
    return (sl_doctor_read){.engine = engine, .bytes = kib << 10, .depth = depth, .requests = 1, .bandwidth_Bps = Bps};
}

/* A machine without faults: a disk of 2 GB/s, memory that two threads share, 7 GiB of budget for a model of 9. */
static sl_doctor_report healthy(void)
{
    sl_doctor_report r = {.topology = {.known = true, .packages = 1, .cores = 2, .threads = 2, .numa_nodes = 1, .cores_usable = 2},
                          .memory = {.total_bytes = 16 * GIB, .available_bytes = 9 * GIB, .cgroup_limit_bytes = UINT64_MAX},
                          .memlock_limit_bytes = GIB,
                          .ram_budget_bytes = 7 * GIB,
                          .uring = true,
                          .place = {.path = "m.gguf",
                                    .is_file = true,
                                    .bytes = 9 * GIB,
                                    .file_system = "ext4",
                                    .direct_known = true,
                                    .direct = true,
                                    .alignment = 512},
                          .reads = 4,
                          .memories = 2};
    r.read[0] = read_of(SL_IO_URING, 4, 32, 2e8);
    r.read[1] = read_of(SL_IO_URING, 1024, 1, 1.9e9);
    r.read[2] = read_of(SL_IO_URING, 256, 32, 1.85e9);
    r.read[3] = read_of(SL_IO_PREAD, 1024, 32, 2e9);
    r.bandwidth[0] = (sl_doctor_memory){1, 2e10};
    r.bandwidth[1] = (sl_doctor_memory){2, 2.4e10};
    return r;
}

static sl_doctor_verdict judge(sl_doctor_report r)
{
    sl_doctor_verdict v;
    sli_doctor_judge(&r, &v);
    return v;
}

static bool advises(const sl_doctor_verdict *v, const char *word)
{
    for (size_t i = 0; i < v->advice.count; i++)
        if (strstr(v->advice.line[i], word) != NULL)
            return true;
    return false;
}

static void a_streamed_model_is_limited_by_the_disk(void **state)
{
    (void)state;
    sl_doctor_verdict v = judge(healthy());
    assert_int_equal(v.limit, SL_LIMIT_DISK);
    assert_int_equal(v.fitness, SL_FITNESS_GOOD);
    assert_true(advises(&v, "a faster disk"));
    assert_true(advises(&v, "streams 2.00 GiB and more: 1.1 s"));
    assert_int_equal(v.advice.count, 2);
}

static void the_smallest_request_that_is_about_as_fast_is_the_best(void **state)
{
    (void)state;
    sl_doctor_report r = healthy();
    sl_doctor_verdict v = judge(r);
    assert_true(v.best_Bps == 2e9);
    assert_int_equal(v.use.bytes, 256 << 10);
    assert_int_equal(v.use.depth, 32);
    r.read[2].bandwidth_Bps = 1.7e9; /* now too slow; of those of 1 MiB the one of less depth remains */
    v = judge(r);
    assert_int_equal(v.use.bytes, 1024 << 10);
    assert_int_equal(v.use.depth, 1);
    r.read[1] = read_of(SL_IO_URING, 1024, 32, 2.1e9); /* of two engines, the faster */
    v = judge(r);
    assert_int_equal(v.use.engine, SL_IO_URING);
}

static void a_model_that_fits_is_limited_by_memory_or_by_cores(void **state)
{
    (void)state;
    sl_doctor_report r = healthy();
    r.place.bytes = r.ram_budget_bytes;
    sl_doctor_verdict v = judge(r);
    assert_int_equal(v.limit, SL_LIMIT_MEMORY);
    r.bandwidth[1].bandwidth_Bps = 3.9e10;
    v = judge(r);
    assert_int_equal(v.limit, SL_LIMIT_CORES);
    assert_true(advises(&v, "more cores"));
    r.place.bytes++;
    assert_int_equal(judge(r).limit, SL_LIMIT_DISK);
}

static void a_disk_as_fast_as_memory_is_no_limit(void **state)
{
    (void)state;
    sl_doctor_report r = healthy();
    r.read[3].bandwidth_Bps = 3e10;
    assert_int_equal(judge(r).limit, SL_LIMIT_MEMORY);
}

static void a_slow_disk_suits_less(void **state)
{
    (void)state;
    sl_doctor_report r = healthy();
    r.reads = 1;
    assert_int_equal(judge(r).fitness, SL_FITNESS_FAIR);
    r.read[0].bandwidth_Bps = 1e8;
    assert_int_equal(judge(r).fitness, SL_FITNESS_POOR);
}

static void without_reads_the_limit_of_a_folder_is_unknown(void **state)
{
    (void)state;
    sl_doctor_report r = healthy();
    r.reads = 0;
    r.place = (sl_doctor_place){.path = "."};
    sl_doctor_verdict v = judge(r);
    assert_int_equal(v.limit, SL_LIMIT_UNKNOWN);
    assert_int_equal(v.fitness, SL_FITNESS_UNKNOWN);
    assert_int_equal(v.use.bytes, 0);
    assert_int_equal(v.advice.count, 0);
}

static void what_the_system_refuses_is_advised_on(void **state)
{
    (void)state;
    sl_doctor_report r = healthy();
    r.uring = false;
    strcpy(r.uring_refusal, "io_uring is refused here (EPERM)");
    r.memory.cgroup_limit_bytes = 2 * GIB;
    sl_doctor_verdict v = judge(r);
    assert_true(advises(&v, "io_uring is refused here (EPERM)"));
    assert_true(advises(&v, "the cgroup allows 2.00 GiB of the machine's 16.00 GiB"));
    r = healthy();
    r.place.direct = false;
    r.reads = 0;
    v = judge(r);
    assert_true(advises(&v, "O_DIRECT is refused on ext4"));
    assert_int_equal(v.fitness, SL_FITNESS_POOR);
}

static void a_small_limit_on_locked_memory_is_advised_on_where_it_bit(void **state)
{
    (void)state;
    sl_doctor_report r = healthy();
    r.memlock_limit_bytes = 64 << 10;
    sl_doctor_verdict v = judge(r); /* all was registered in spite of it: the limit does not hold for this user */
    assert_false(advises(&v, "locked memory"));
    r.unregistered = true;
    v = judge(r);
    assert_true(advises(&v, "locked memory, 64.00 KiB"));
    r.unregistered = false;
    r.reads = 0;
    v = judge(r);
    assert_true(advises(&v, "locked memory"));
}

static void memory_is_left_by_the_machine_and_by_the_cgroup(void **state)
{
    (void)state;
    sl_memory_info m = {.available_bytes = 9 * GIB, .cgroup_limit_bytes = UINT64_MAX, .cgroup_used_bytes = GIB};
    assert_int_equal(sli_doctor_memory_left(&m), 9 * GIB);
    m.cgroup_limit_bytes = 3 * GIB;
    assert_int_equal(sli_doctor_memory_left(&m), 2 * GIB);
    m.cgroup_cache_bytes = GIB / 2;
    assert_int_equal(sli_doctor_memory_left(&m), 5 * GIB / 2);
    m.cgroup_cache_bytes = 0;
    m.cgroup_used_bytes = 4 * GIB;
    assert_int_equal(sli_doctor_memory_left(&m), 0);
    m.available_bytes = GIB;
    m.cgroup_used_bytes = 0;
    assert_int_equal(sli_doctor_memory_left(&m), GIB);
}

static void lines_beyond_the_last_are_lost(void **state)
{
    (void)state;
    sl_doctor_lines lines = {0};
    for (int i = 0; i < SL_DOCTOR_LINES_MAX + 3; i++)
        sli_doctor_say(&lines, "line %d", i);
    assert_int_equal(lines.count, SL_DOCTOR_LINES_MAX);
    assert_string_equal(lines.line[SL_DOCTOR_LINES_MAX - 1], "line 9");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_streamed_model_is_limited_by_the_disk),
        cmocka_unit_test(the_smallest_request_that_is_about_as_fast_is_the_best),
        cmocka_unit_test(a_model_that_fits_is_limited_by_memory_or_by_cores),
        cmocka_unit_test(a_disk_as_fast_as_memory_is_no_limit),
        cmocka_unit_test(a_slow_disk_suits_less),
        cmocka_unit_test(without_reads_the_limit_of_a_folder_is_unknown),
        cmocka_unit_test(what_the_system_refuses_is_advised_on),
        cmocka_unit_test(a_small_limit_on_locked_memory_is_advised_on_where_it_bit),
        cmocka_unit_test(memory_is_left_by_the_machine_and_by_the_cgroup),
        cmocka_unit_test(lines_beyond_the_last_are_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
