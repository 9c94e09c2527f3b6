/* tests/test_threads.c: core/threads.h. */
#include "core/os.h"
#include "core/threads.h"

#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

typedef struct tally {
    unsigned seen[64]; /* each index writes its own entry: a data race here is a fault of the crew's */
    _Atomic unsigned calls;
    unsigned count;
    bool wrong;
} tally;

static void count_index(void *arg, unsigned index, unsigned count)
{
    tally *t = arg;
    t->seen[index]++;
    atomic_fetch_add(&t->calls, 1);
    if (count != t->count)
        t->wrong = true;
}

static void every_index_runs_once_per_job(void **state)
{
    (void)state;
    for (unsigned count = 1; count <= 8; count++) {
        sl_threads *crew = NULL;
        sl_error err;
        assert_int_equal(sl_threads_create(count, &crew, &err), SL_OK);
        assert_int_equal(sl_threads_count(crew), count);
        tally t = {.count = count};
        const unsigned jobs = 1500;
        for (unsigned job = 1; job <= jobs; job++) {
            sl_threads_run(crew, count_index, &t);
            for (unsigned i = 0; i < count; i++)
                assert_int_equal(t.seen[i], job); /* all are done when run returns */
        }
        assert_int_equal(t.calls, jobs * count);
        assert_false(t.wrong);
        sl_threads_destroy(crew);
    }
}

static void members_that_fell_asleep_wake_up_for_the_next_job(void **state)
{
    (void)state;
    sl_threads *crew = NULL;
    sl_error err;
    assert_int_equal(sl_threads_create(3, &crew, &err), SL_OK);
    tally t = {.count = 3};
    for (unsigned job = 1; job <= 20; job++) {
        struct timespec pause = {0, 2000000}; /* far longer than they spin */
        nanosleep(&pause, NULL);
        sl_threads_run(crew, count_index, &t);
        assert_int_equal(t.calls, 3 * job);
    }
    sl_threads_destroy(crew);
}

static void sleep_unless_first(void *arg, unsigned index, unsigned count)
{
    (void)count;
    if (index > 0) {
        struct timespec pause = {0, 3000000};
        nanosleep(&pause, NULL);
    }
    count_index(arg, index, count);
}

static void the_owner_waits_for_the_slowest(void **state)
{
    (void)state;
    sl_threads *crew = NULL;
    sl_error err;
    assert_int_equal(sl_threads_create(2, &crew, &err), SL_OK);
    tally t = {.count = 2};
    for (unsigned job = 1; job <= 20; job++) {
        sl_threads_run(crew, sleep_unless_first, &t);
        assert_int_equal(t.seen[1], job);
    }
    sl_threads_destroy(crew);
}

static void idle_members_use_no_processor(void **state)
{
    (void)state;
    sl_threads *crew = NULL;
    sl_error err;
    assert_int_equal(sl_threads_create(0, &crew, &err), SL_OK);
    tally t = {.count = sl_threads_count(crew)};
    sl_threads_run(crew, count_index, &t);
    struct timespec pause = {0, 200000000}, before, after;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
    nanosleep(&pause, NULL);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
    double used = (double)(after.tv_sec - before.tv_sec) + (double)(after.tv_nsec - before.tv_nsec) * 1e-9;
    assert_true(used < 0.02);
    sl_threads_destroy(crew);
}

static void where_am_i(void *arg, unsigned index, unsigned count)
{
    (void)count;
    cpu_set_t *masks = arg;
    sched_getaffinity(0, sizeof masks[index], &masks[index]);
}

static void each_thread_has_its_own_core_and_the_owner_gets_its_mask_back(void **state)
{
    (void)state;
    cpu_set_t before, after, masks[64];
    sched_getaffinity(0, sizeof before, &before);
    sl_threads *crew = NULL;
    sl_error err;
    assert_int_equal(sl_threads_create(0, &crew, &err), SL_OK);
    unsigned count = sl_threads_count(crew);
    assert_true(count >= 1 && count <= (unsigned)CPU_COUNT(&before));
    if (count > 64 || strncmp(sl_threads_binding(crew), "bound", 5) != 0) {
        print_message("skipped: %u threads, %s\n", count, sl_threads_binding(crew));
        sl_threads_destroy(crew);
        skip();
    }
    memset(masks, 0, sizeof masks);
    sl_threads_run(crew, where_am_i, masks);
    cpu_set_t all;
    CPU_ZERO(&all);
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(CPU_COUNT(&masks[i]), 1);
        CPU_OR(&all, &all, &masks[i]);
    }
    assert_int_equal(CPU_COUNT(&all), count);
    CPU_AND(&after, &all, &before);
    assert_true(CPU_EQUAL(&after, &all));
    sl_threads_destroy(crew);
    sched_getaffinity(0, sizeof after, &after);
    assert_true(CPU_EQUAL(&before, &after));
}

static void the_affinity_mask_limits_the_default_count(void **state)
{
    (void)state;
    cpu_set_t before, one;
    sched_getaffinity(0, sizeof before, &before);
    int last = -1;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &before))
            last = cpu;
    CPU_ZERO(&one);
    CPU_SET(last, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    sl_threads *crew = NULL;
    sl_error err;
    assert_int_equal(sl_threads_create(0, &crew, &err), SL_OK);
    assert_int_equal(sl_threads_count(crew), 1);
    char expected[64];
    snprintf(expected, sizeof expected, "bound to cores %d", last);
    assert_string_equal(sl_threads_binding(crew), expected);
    sl_threads_destroy(crew);
    assert_int_equal(sl_threads_create(2, &crew, &err), SL_OK); /* more threads than cores: they still work, unbound */
    assert_non_null(strstr(sl_threads_binding(crew), "not bound"));
    tally t = {.count = 2};
    for (int job = 0; job < 100; job++)
        sl_threads_run(crew, count_index, &t);
    assert_int_equal(t.calls, 200);
    sl_threads_destroy(crew);
    sched_setaffinity(0, sizeof before, &before);
}

static void too_many_threads_are_refused(void **state)
{
    (void)state;
    sl_threads *crew = NULL;
    sl_error err;
    assert_int_equal(sl_threads_create(100000, &crew, &err), SL_INVALID);
    assert_null(crew);
    assert_non_null(strstr(err.message, "100000"));
    sl_threads_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_index_runs_once_per_job),
        cmocka_unit_test(members_that_fell_asleep_wake_up_for_the_next_job),
        cmocka_unit_test(the_owner_waits_for_the_slowest),
        cmocka_unit_test(idle_members_use_no_processor),
        cmocka_unit_test(each_thread_has_its_own_core_and_the_owner_gets_its_mask_back),
        cmocka_unit_test(the_affinity_mask_limits_the_default_count),
        cmocka_unit_test(too_many_threads_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
