/* tests/test_refusals.c: what the pager, the tiers and the threads do when the system refuses: memory, threads, io_uring, locked memory,
 * and reads that come back short, late or not at all.
 *
 * The sources are included here with the calls that can be refused replaced by ours, so that every n-th of them can be made to fail. The
 * library's own objects of the same names are then not linked. */
#include <errno.h>
#include <liburing.h>
#include <linux/futex.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/os.h"

/* The refusals in force; the tests set them. */
static struct refusals {
    int calls_until_failure; /* of memory, threads and the like: 0 never fails */
    int ring_errno;          /* io_uring_queue_init_params */
    unsigned ring_flags_bad; /* flags that this kernel "does not know" */
    size_t lockable_bytes;   /* io_uring_register_buffers; 0: all */
    int files_errno;         /* io_uring_register_files */
    bool opcode_missing;
    int submit_errno, submits_until; /* io_uring_submit fails so, from the n-th call on when positive errno, once when negative */
    const int *results; /* what reads give, one after the other: bytes or -errno; NO_RESULT ends the list and leaves the rest alone */
} refuse;

#define NO_RESULT INT32_MIN

static bool fails(void)
{
    return refuse.calls_until_failure > 0 && --refuse.calls_until_failure == 0;
}

static void *may_calloc(size_t count, size_t bytes)
{
    return fails() ? NULL : calloc(count, bytes);
}

static void *may_aligned_alloc(size_t alignment, size_t bytes)
{
    return fails() ? NULL : aligned_alloc(alignment, bytes);
}

static char *may_strdup(const char *text)
{
    return fails() ? NULL : strdup(text);
}

static void *may_pages_alloc(size_t bytes)
{
    return fails() ? NULL : sl_pages_alloc(bytes);
}

static int may_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*main_fn)(void *), void *arg)
{
    return fails() ? EAGAIN : pthread_create(thread, attr, main_fn, arg);
}

static int may_fstat(int fd, struct stat *info)
{
    if (!fails())
        return fstat(fd, info);
    errno = EIO;
    return -1;
}

static int may_ring_init(unsigned entries, struct io_uring *ring, struct io_uring_params *params)
{
    if (refuse.ring_errno != 0)
        return -refuse.ring_errno;
    return (params->flags & refuse.ring_flags_bad) != 0 ? -EINVAL : io_uring_queue_init_params(entries, ring, params);
}

static int may_register_buffers(struct io_uring *ring, const struct iovec *parts, unsigned count)
{
    size_t bytes = 0;
    for (unsigned i = 0; i < count; i++)
        bytes += parts[i].iov_len;
    return refuse.lockable_bytes > 0 && bytes > refuse.lockable_bytes ? -ENOMEM : io_uring_register_buffers(ring, parts, count);
}

static int may_register_files(struct io_uring *ring, const int *fds, unsigned count)
{
    return refuse.files_errno != 0 ? -refuse.files_errno : io_uring_register_files(ring, fds, count);
}

static int may_opcode_supported(const struct io_uring_probe *probe, int opcode)
{
    return !refuse.opcode_missing && io_uring_opcode_supported(probe, opcode);
}

static bool submit_fails(void)
{
    return refuse.submit_errno != 0 && refuse.submits_until > 0 && --refuse.submits_until == 0;
}

static int may_submit(struct io_uring *ring)
{
    return submit_fails() ? -refuse.submit_errno : io_uring_submit(ring);
}

static int may_submit_and_wait(struct io_uring *ring, unsigned count)
{
    return submit_fails() ? -refuse.submit_errno : io_uring_submit_and_wait(ring, count);
}

/* The kernel's result, or the next of the list. A short one leaves the bytes that really came beyond it as they are: the tier must read
 * them again. */
static int result_of(int real)
{
    if (refuse.results == NULL || *refuse.results == NO_RESULT)
        return real;
    return *refuse.results++;
}

static ssize_t may_pread(int fd, void *memory, size_t bytes, off_t offset)
{
    ssize_t real = pread(fd, memory, bytes, offset);
    int result = result_of((int)real);
    if (result >= 0)
        return result;
    errno = -result;
    return -1;
}

// NOLINTBEGIN(bugprone-suspicious-include): see above
#define calloc                     may_calloc
#define aligned_alloc              may_aligned_alloc
#define strdup                     may_strdup
#define sl_pages_alloc             may_pages_alloc
#define pthread_create             may_pthread_create
#define fstat                      may_fstat
#define pread                      may_pread
#define io_uring_queue_init_params may_ring_init
#define io_uring_register_buffers  may_register_buffers
#define io_uring_register_files    may_register_files
#define io_uring_opcode_supported  may_opcode_supported
#define io_uring_submit            may_submit
#define io_uring_submit_and_wait   may_submit_and_wait
#define sli_files_advance          files_advance_of_files_c
#include "pager/files.c"
#undef sli_files_advance
sl_status sli_files_advance(const sli_files *files, const sl_read *read, sli_progress *progress, ssize_t result, sl_error *err);
#include "pager/uring.c"
#undef NONE
#include "pager/pread.c"
#undef STACK_BYTES
#undef THREADS_MAX
#include "pager/host.c"
#undef DEPTH
#include "pager/synthetic.c"
#include "pager/throttle.c"
#undef ALIGNMENT_MAX
#include "core/threads.c"
#include "pager/pager.c"
#undef calloc
#undef aligned_alloc
#undef strdup
// NOLINTEND(bugprone-suspicious-include)

/* uring has no call of ours between the kernel and sli_files_advance, so its results are replaced here; pread's came through above. */
static bool results_of_uring;

sl_status sli_files_advance(const sli_files *files, const sl_read *read, sli_progress *progress, ssize_t result, sl_error *err)
{
    return files_advance_of_files_c(files, read, progress, results_of_uring ? result_of((int)result) : result, err);
}

#define FILE_SIZE (40 * 4096 + 100)

typedef struct fixture {
    char path[256];
    uint8_t *memory;
} fixture;

static int file_begin(void **state)
{
    static uint8_t data[FILE_SIZE];
    fixture *f = calloc(1, sizeof *f);
    const char *folder = getenv("TMPDIR");
    snprintf(f->path, sizeof f->path, "%s/sl_test_refusals.XXXXXX", folder != NULL ? folder : "/var/tmp");
    for (size_t i = 0; i < FILE_SIZE; i++)
        data[i] = sl_synthetic_byte(1, i);
    int fd = mkstemp(f->path);
    int failed = fd < 0 || write(fd, data, FILE_SIZE) != FILE_SIZE || fsync(fd) != 0;
    close(fd);
    f->memory = aligned_alloc(4096, 64 * 4096);
    memset(f->memory, 0, (size_t)64 * 4096);
    refuse = (struct refusals){0};
    results_of_uring = false;
    *state = f;
    return failed;
}

static int file_end(void **state)
{
    fixture *f = *state;
    unlink(f->path);
    free(f->memory);
    free(f);
    return 0;
}

static sl_status open_file(const fixture *f, sl_io_engine engine, sl_tier **tier, sl_error *err)
{
    const char *path = f->path;
    sl_files_options options = {.engine = engine, .depth = 4, .register_memory = f->memory, .register_bytes = (size_t)64 * 4096};
    *err = (sl_error){0};
    sl_status status = sl_tier_open_files(&path, 1, &options, tier, err);
    if (status == SL_IO && strstr(err->message, "O_DIRECT") != NULL) {
        print_message("skipped: %s\n", err->message);
        skip();
    }
    return status;
}

static sl_status read_blocks(sl_tier *tier, uint8_t *memory, uint64_t offset, size_t blocks, sl_error *err)
{
    sl_read read = {.offset = offset, .bytes = blocks * 4096, .memory = memory, .tag = 5};
    sl_read_done done = {0};
    assert_int_equal(tier->ops->submit(tier, &read, err), SL_OK);
    assert_int_equal(tier->ops->reap(tier, true, &done, 1, err), 1);
    assert_int_equal(done.tag, 5);
    return done.status;
}

static void check_blocks(const uint8_t *memory, uint64_t offset, size_t blocks)
{
    for (size_t i = 0; i < blocks * 4096; i++) {
        uint8_t want = offset + i < FILE_SIZE ? sl_synthetic_byte(1, offset + i) : 0;
        if (memory[i] != want)
            fail_msg("byte %zu is wrong", i);
    }
}

static void a_refused_io_uring_is_replaced_by_pread_and_said(void **state)
{
    fixture *f = *state;
    sl_tier *tier = NULL;
    sl_error err;
    static const int refused[] = {ENOSYS, EPERM, ENOMEM, EMFILE};
    for (size_t i = 0; i < 4; i++) {
        refuse.ring_errno = refused[i];
        assert_int_equal(open_file(f, SL_IO_AUTO, &tier, &err), SL_OK);
        assert_string_equal(tier->attrs.engine, "pread");
        assert_non_null(strstr(tier->attrs.note, "io_uring is refused here"));
        assert_non_null(strstr(tier->attrs.note, "using pread"));
        assert_int_equal(read_blocks(tier, f->memory, 4096, 4, &err), SL_OK);
        check_blocks(f->memory, 4096, 4);
        sl_tier_destroy(tier);
        tier = NULL;
        assert_int_equal(open_file(f, SL_IO_URING, &tier, &err), SL_UNSUPPORTED); /* who asks for it gets no other */
        assert_null(tier);
        assert_non_null(strstr(err.message, "io_uring is refused here"));
    }
    refuse = (struct refusals){.opcode_missing = true};
    assert_int_equal(open_file(f, SL_IO_AUTO, &tier, &err), SL_OK);
    assert_string_equal(tier->attrs.engine, "pread");
    sl_tier_destroy(tier);
}

/* Opens with io_uring or skips. */
static sl_tier *open_uring(const fixture *f)
{
    sl_tier *tier = NULL;
    sl_error err;
    if (open_file(f, SL_IO_URING, &tier, &err) != SL_OK) {
        print_message("skipped: %s\n", err.message);
        skip();
    }
    return tier;
}

static void a_kernel_without_the_newer_flags_still_serves(void **state)
{
    fixture *f = *state;
    sl_error err;
    static const unsigned unknown[] = {IORING_SETUP_COOP_TASKRUN, IORING_SETUP_COOP_TASKRUN | IORING_SETUP_CLAMP};
    for (size_t i = 0; i < 2; i++) {
        refuse.ring_flags_bad = unknown[i];
        refuse.files_errno = EINVAL;
        sl_tier *tier = open_uring(f);
        assert_int_equal(read_blocks(tier, f->memory, 0, 8, &err), SL_OK);
        check_blocks(f->memory, 0, 8);
        sl_tier_destroy(tier);
    }
}

static void a_small_limit_on_locked_memory_is_noted_and_works(void **state)
{
    fixture *f = *state;
    sl_error err;
    static const size_t limits[] = {1, 65536, 100000};
    for (size_t i = 0; i < 3; i++) {
        refuse.lockable_bytes = limits[i];
        sl_tier *tier = open_uring(f);
        assert_non_null(strstr(tier->attrs.note, i == 0 ? "0 of 256 KiB" : "64 of 256 KiB"));
        assert_non_null(strstr(tier->attrs.note, "ulimit -l"));
        for (uint64_t block = 0; block < 32; block += 8) { /* inside, across and outside of what is registered */
            assert_int_equal(read_blocks(tier, f->memory + (block + 4) * 4096, block * 4096, 8, &err), SL_OK);
            check_blocks(f->memory + (block + 4) * 4096, block * 4096, 8);
        }
        sl_tier_destroy(tier);
    }
    refuse.lockable_bytes = 0;
    sl_tier *tier = open_uring(f);
    assert_string_equal(tier->attrs.note, "");
    sl_tier_destroy(tier);
}

static void short_and_interrupted_reads_are_finished(void **state)
{
    fixture *f = *state;
    sl_error err;
    static const int results[] = {-EINTR, 4096, -EAGAIN, -EAGAIN, 8192 + 100, 4096, NO_RESULT};
    for (int engine = SL_IO_URING; engine <= SL_IO_PREAD; engine++) {
        sl_tier *tier = NULL;
        if (engine == SL_IO_URING)
            tier = open_uring(f);
        else
            assert_int_equal(open_file(f, SL_IO_PREAD, &tier, &err), SL_OK);
        results_of_uring = engine == SL_IO_URING;
        memset(f->memory, 0xaa, (size_t)64 * 4096);
        refuse.results = results;
        assert_int_equal(read_blocks(tier, f->memory, 33 * 4096, 8, &err), SL_OK); /* up to the end of the file */
        assert_int_equal(*refuse.results, NO_RESULT);
        check_blocks(f->memory, 33 * 4096, 8);
        sl_tier_destroy(tier);
    }
}

static void a_failed_read_names_file_place_and_reason(void **state)
{
    fixture *f = *state;
    sl_error err;
    static const int results[] = {4096, -EIO, NO_RESULT};
    for (int engine = SL_IO_URING; engine <= SL_IO_PREAD; engine++) {
        sl_tier *tier = NULL;
        if (engine == SL_IO_URING)
            tier = open_uring(f);
        else
            assert_int_equal(open_file(f, SL_IO_PREAD, &tier, &err), SL_OK);
        results_of_uring = engine == SL_IO_URING;
        refuse.results = results;
        assert_int_equal(read_blocks(tier, f->memory, 8192, 4, &err), SL_IO);
        assert_non_null(strstr(err.message, f->path));
        assert_non_null(strstr(err.message, "12288")); /* the place of the second part */
        assert_non_null(strstr(err.message, strerror(EIO)));
        refuse.results = NULL;
        assert_int_equal(read_blocks(tier, f->memory, 8192, 4, &err), SL_OK); /* the tier lives on */
        check_blocks(f->memory, 8192, 4);
        sl_tier_destroy(tier);
    }
}

static void a_kernel_that_is_busy_is_asked_again(void **state)
{
    fixture *f = *state;
    sl_error err;
    static const int busy[] = {EAGAIN, EBUSY, EINTR};
    for (size_t i = 0; i < 3; i++) {
        sl_tier *tier = open_uring(f);
        refuse.submit_errno = busy[i];
        refuse.submits_until = 1;
        assert_int_equal(read_blocks(tier, f->memory, 0, 8, &err), SL_OK);
        assert_int_equal(refuse.submits_until, 0);
        check_blocks(f->memory, 0, 8);
        refuse.submit_errno = 0;
        sl_tier_destroy(tier);
    }
}

static void a_ring_that_breaks_fails_its_reads_and_does_not_hang(void **state)
{
    fixture *f = *state;
    sl_error err;
    sl_tier *tier = open_uring(f);
    refuse.submit_errno = EBADF;
    refuse.submits_until = 1;
    assert_int_equal(read_blocks(tier, f->memory, 0, 8, &err), SL_IO);
    assert_non_null(strstr(err.message, "io_uring does not take reads"));
    assert_int_equal(read_blocks(tier, f->memory, 0, 8, &err), SL_IO);
    sl_tier_destroy(tier);
}

typedef sl_status (*attempt)(const fixture *f, sl_error *err); /* builds something, uses it, takes it down */

static sl_status attempt_uring(const fixture *f, sl_error *err)
{
    sl_tier *tier = NULL;
    SL_TRY(open_file(f, SL_IO_AUTO, &tier, err));
    sl_tier_destroy(tier);
    return SL_OK;
}

static sl_status attempt_pread(const fixture *f, sl_error *err)
{
    sl_tier *tier = NULL;
    SL_TRY(open_file(f, SL_IO_PREAD, &tier, err));
    int left = refuse.calls_until_failure;
    refuse.calls_until_failure = 0;
    assert_int_equal(read_blocks(tier, f->memory, 4096, 4, err), SL_OK); /* also when only some of its threads came */
    refuse.calls_until_failure = left;
    sl_tier_destroy(tier);
    return SL_OK;
}

static sl_status attempt_pager(const fixture *f, sl_error *err)
{
    (void)f;
    static sl_unit units[4] = {{.bytes = 5000, .home = true}, {.bytes = 5000, .offset = 9000}, {.bytes = 1}, {.bytes = 3}};
    sl_pager_config config = {.units = units, .unit_count = 4, .plan_max = 4};
    sl_synthetic_options options = {.capacity_bytes = 1 << 20, .bandwidth_Bps = 1e9, .depth = 2};
    sl_pager *pager = NULL;
    sl_tier *tier = NULL, *slow = NULL;
    sl_status status = sl_pager_create(&config, 4096, &pager, err);
    if (status == SL_OK)
        status = sl_tier_open_synthetic(&options, &tier, err);
    if (status == SL_OK)
        status = sl_tier_throttle(tier, 1e9, 0, &slow, err);
    if (status == SL_OK)
        status = sl_pager_attach(pager, slow, err);
    sl_pager_destroy(pager);
    return status;
}

static sl_status attempt_host(const fixture *f, sl_error *err)
{
    sl_tier *tier = NULL;
    SL_TRY(sl_tier_open_host(f->memory, 4096, &tier, err));
    sl_tier_destroy(tier);
    return SL_OK;
}

static sl_status attempt_threads(const fixture *f, sl_error *err)
{
    (void)f;
    sl_threads *crew = NULL;
    SL_TRY(sl_threads_create(4, &crew, err));
    sl_threads_destroy(crew);
    return SL_OK;
}

static void every_refusal_in_turn_is_an_error_and_leaks_nothing(void **state)
{
    static const attempt attempts[] = {attempt_uring, attempt_pread, attempt_pager, attempt_host, attempt_threads};
    for (size_t i = 0; i < sizeof attempts / sizeof *attempts; i++) {
        int refused = 0;
        for (int n = 1;; n++) {
            sl_error err = {0};
            refuse.calls_until_failure = n;
            sl_status status = attempts[i](*state, &err);
            bool reached = refuse.calls_until_failure == 0;
            refuse.calls_until_failure = 0;
            if (!reached) {
                assert_int_equal(status, SL_OK);
                break;
            }
            refused += status != SL_OK;
            if (status != SL_OK)
                assert_true(strlen(err.message) > 10 && strchr(err.message, '\n') == NULL);
            assert_true(n < 200);
        }
        assert_true(refused > 0);
    }
}

#define WITH_FILE(test) cmocka_unit_test_setup_teardown(test, file_begin, file_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FILE(a_refused_io_uring_is_replaced_by_pread_and_said),
        WITH_FILE(a_kernel_without_the_newer_flags_still_serves),
        WITH_FILE(a_small_limit_on_locked_memory_is_noted_and_works),
        WITH_FILE(short_and_interrupted_reads_are_finished),
        WITH_FILE(a_failed_read_names_file_place_and_reason),
        WITH_FILE(a_kernel_that_is_busy_is_asked_again),
        WITH_FILE(a_ring_that_breaks_fails_its_reads_and_does_not_hang),
        WITH_FILE(every_refusal_in_turn_is_an_error_and_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
