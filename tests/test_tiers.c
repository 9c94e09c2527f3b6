/* tests/test_tiers.c: pager/tier.h: real files through both engines, memory, the synthetic device, the throttle. */
#include "core/os.h"
#include "pager/tier.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define FILE_SIZE (3 * 1024 * 1024 + 1234)
#define BLOCK     4096

typedef struct fixture {
    char path[256];
    uint8_t *data; /* what is in the file */
} fixture;

static uint32_t rnd(uint64_t *state, uint32_t limit)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return (uint32_t)(*state >> 33) % limit;
}

static int file_begin(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    const char *folder = getenv("TMPDIR");
    snprintf(f->path, sizeof f->path, "%s/sl_test_tiers.XXXXXX", folder != NULL ? folder : "/var/tmp");
    int fd = mkstemp(f->path);
    f->data = malloc(FILE_SIZE);
    for (size_t i = 0; i < FILE_SIZE; i++)
        f->data[i] = sl_synthetic_byte(3, i);
    int failed = fd < 0 || write(fd, f->data, FILE_SIZE) != FILE_SIZE || fsync(fd) != 0;
    close(fd);
    *state = f;
    return failed;
}

static int file_end(void **state)
{
    fixture *f = *state;
    unlink(f->path);
    free(f->data);
    free(f);
    return 0;
}

/* The tier over the fixture's file; skips the test where this machine lacks what it is about. */
static sl_tier *open_file(const fixture *f, sl_io_engine engine, uint32_t depth, void *memory, size_t bytes)
{
    const char *path = f->path;
    sl_tier *tier = NULL;
    sl_error err = {0};
    sl_files_options options = {.engine = engine, .depth = depth, .register_memory = memory, .register_bytes = bytes};
    sl_status status = sl_tier_open_files(&path, 1, &options, &tier, &err);
    if (status == SL_UNSUPPORTED || (status == SL_IO && strstr(err.message, "O_DIRECT") != NULL)) {
        print_message("skipped: %s\n", err.message);
        skip();
    }
    if (status != SL_OK)
        fail_msg("%s", err.message);
    assert_true(BLOCK % tier->attrs.alignment == 0);
    return tier;
}

/* Random reads over the whole file with as many in flight as there may be; each is checked, and reported once. */
static void read_at_random(const fixture *f, sl_tier *tier, uint8_t *memory, uint32_t slots, uint32_t slot_bytes)
{
    uint64_t seed = 12345, offsets[64];
    size_t lengths[64];
    bool busy[64] = {false};
    sl_error err = {0};
    uint32_t sent = 0, received = 0;
    assert_true(slots <= 64);
    while (received < 400) {
        for (uint32_t i = 0; i < slots && sent < 400; i++) {
            if (busy[i])
                continue;
            offsets[i] = (uint64_t)rnd(&seed, FILE_SIZE / BLOCK + 1) * BLOCK;
            lengths[i] = (1 + rnd(&seed, slot_bytes / BLOCK)) * (size_t)BLOCK;
            memset(memory + (size_t)i * slot_bytes, 0xaa, slot_bytes);
            sl_read read = {.offset = offsets[i], .bytes = lengths[i], .memory = memory + (size_t)i * slot_bytes, .tag = i};
            assert_int_equal(tier->ops->submit(tier, &read, &err), SL_OK);
            busy[i] = true;
            sent++;
        }
        sl_read_done done[8];
        size_t count = tier->ops->reap(tier, true, done, 8, &err);
        assert_true(count > 0);
        for (size_t k = 0; k < count; k++, received++) {
            uint64_t i = done[k].tag;
            assert_int_equal(done[k].status, SL_OK);
            assert_true(i < slots && busy[i]);
            busy[i] = false;
            size_t inside = offsets[i] + lengths[i] > FILE_SIZE ? FILE_SIZE - offsets[i] : lengths[i];
            const uint8_t *got = memory + i * slot_bytes;
            assert_memory_equal(got, f->data + offsets[i], inside);
            for (size_t at = inside; at < lengths[i]; at++)
                assert_int_equal(got[at], 0); /* past the end of the file */
        }
    }
    sl_read_done done;
    assert_int_equal(tier->ops->reap(tier, true, &done, 1, &err), 0); /* nothing is in flight: no wait */
}

static void an_engine_reads_what_is_in_the_file(const fixture *f, sl_io_engine engine, const char *name)
{
    enum { SLOTS = 16, SLOT = 128 * 1024 };
    uint8_t *memory = sl_pages_alloc(SLOTS * SLOT);
    assert_non_null(memory);
    for (int registered = 0; registered < 2; registered++) {
        sl_tier *tier = open_file(f, engine, SLOTS, registered ? memory : NULL, registered ? (size_t)SLOTS * SLOT : 0);
        assert_string_equal(tier->attrs.engine, name);
        assert_true(tier->attrs.direct);
        assert_int_equal(tier->attrs.depth, SLOTS);
        assert_int_equal(tier->attrs.capacity_bytes, FILE_SIZE);
        assert_true(tier->attrs.heap_bytes > 0);
        read_at_random(f, tier, memory, SLOTS, SLOT);
        sl_tier_destroy(tier);
    }
    sl_pages_free(memory, SLOTS * SLOT);
}

static void uring_reads_what_is_in_the_file(void **state)
{
    an_engine_reads_what_is_in_the_file(*state, SL_IO_URING, "uring");
}

static void pread_reads_what_is_in_the_file(void **state)
{
    an_engine_reads_what_is_in_the_file(*state, SL_IO_PREAD, "pread");
}

static void no_more_reads_than_the_depth_are_taken(void **state)
{
    uint8_t *memory = sl_pages_alloc(8 * BLOCK);
    for (int engine = SL_IO_URING; engine <= SL_IO_PREAD; engine++) {
        sl_tier *tier = open_file(*state, (sl_io_engine)engine, 3, NULL, 0);
        sl_error err = {0};
        for (uint64_t i = 0; i < 8; i++) {
            sl_read read = {.offset = i * BLOCK, .bytes = BLOCK, .memory = memory + i * BLOCK, .tag = i};
            assert_int_equal(tier->ops->submit(tier, &read, &err), i < 3 ? SL_OK : SL_PENDING);
        }
        sl_read_done done[8];
        size_t count = 0;
        while (count < 3)
            count += tier->ops->reap(tier, true, done, 8, &err);
        assert_int_equal(count, 3);
        sl_read read = {.bytes = BLOCK, .memory = memory};
        assert_int_equal(tier->ops->submit(tier, &read, &err), SL_OK);
        sl_tier_destroy(tier); /* with a read in flight */
    }
    sl_pages_free(memory, 8 * BLOCK);
}

static void a_file_that_shrinks_is_an_error_that_says_so(void **state)
{
    const fixture *f = *state;
    uint8_t *memory = sl_pages_alloc(8 * BLOCK);
    for (int engine = SL_IO_URING; engine <= SL_IO_PREAD; engine++) {
        assert_int_equal(truncate(f->path, FILE_SIZE), 0);
        sl_tier *tier = open_file(f, (sl_io_engine)engine, 4, NULL, 0);
        sl_error err = {0};
        assert_int_equal(truncate(f->path, 2 * BLOCK + 100), 0);
        for (uint64_t offset = 0; offset <= 8 * BLOCK; offset += 4 * BLOCK) { /* across the new end, and past it */
            sl_read read = {.offset = offset, .bytes = 4 * BLOCK, .memory = memory};
            sl_read_done done;
            assert_int_equal(tier->ops->submit(tier, &read, &err), SL_OK);
            assert_int_equal(tier->ops->reap(tier, true, &done, 1, &err), 1);
            assert_int_equal(done.status, SL_IO);
            assert_non_null(strstr(err.message, "shrank"));
            assert_non_null(strstr(err.message, f->path));
            assert_non_null(strstr(err.message, "8292"));
        }
        sl_tier_destroy(tier);
    }
    sl_pages_free(memory, 8 * BLOCK);
}

static void reads_that_are_not_aligned_or_not_there_are_refused(void **state)
{
    uint8_t *memory = sl_pages_alloc(8 * BLOCK);
    for (int engine = SL_IO_URING; engine <= SL_IO_PREAD; engine++) {
        sl_tier *tier = open_file(*state, (sl_io_engine)engine, 4, NULL, 0);
        sl_error err = {0};
        sl_read odd[] = {{.offset = 100, .bytes = BLOCK, .memory = memory},
                         {.offset = 0, .bytes = 100, .memory = memory},
                         {.offset = 0, .bytes = BLOCK, .memory = memory + 8},
                         {.offset = 0, .bytes = 0, .memory = memory},
                         {.file = 1, .bytes = BLOCK, .memory = memory}};
        for (size_t i = 0; i < sizeof odd / sizeof *odd; i++)
            assert_int_equal(tier->ops->submit(tier, &odd[i], &err), SL_INVALID);
        sl_read past = {.offset = (uint64_t)BLOCK << 20, .bytes = BLOCK, .memory = memory};
        assert_int_equal(tier->ops->submit(tier, &past, &err), SL_IO);
        sl_tier_destroy(tier);
    }
    sl_pages_free(memory, 8 * BLOCK);
}

static void a_file_system_without_direct_reads_is_named_with_the_way_out(void **state)
{
    (void)state;
    const char *path = "/proc/version"; /* procfs knows no O_DIRECT on any kernel; newer ones know it for tmpfs */
    sl_files_options options = {0};
    sl_tier *tier = NULL;
    sl_error err = {0};
    assert_int_equal(sl_tier_open_files(&path, 1, &options, &tier, &err), SL_IO);
    assert_null(tier);
    assert_non_null(strstr(err.message, "folder /proc refuses O_DIRECT"));
    assert_non_null(strstr(err.message, "--buffered"));
}

static void a_file_in_shared_memory_can_be_read_buffered(void **state)
{
    (void)state;
    char path_text[] = "/dev/shm/sl_test_tiers.XXXXXX";
    int fd = mkstemp(path_text);
    if (fd < 0) {
        print_message("skipped: no /dev/shm\n");
        skip();
    }
    char text[3000], got[4096];
    memset(text, 'x', sizeof text);
    memset(got, 'y', sizeof got);
    assert_int_equal(write(fd, text, sizeof text), sizeof text);
    close(fd);
    const char *path = path_text;
    for (int engine = SL_IO_AUTO; engine <= SL_IO_PREAD; engine += SL_IO_PREAD) {
        sl_files_options options = {.engine = (sl_io_engine)engine, .buffered = true};
        sl_tier *tier = NULL;
        sl_error err = {0};
        sl_read_done done;
        assert_int_equal(sl_tier_open_files(&path, 1, &options, &tier, &err), SL_OK);
        assert_false(tier->attrs.direct);
        sl_read read = {.offset = 0, .bytes = sizeof got, .memory = got};
        assert_int_equal(tier->ops->submit(tier, &read, &err), SL_OK);
        assert_int_equal(tier->ops->reap(tier, true, &done, 1, &err), 1);
        assert_int_equal(done.status, SL_OK);
        assert_memory_equal(got, text, sizeof text);
        assert_int_equal(got[3000], 0);
        assert_int_equal(got[4095], 0);
        memset(got, 'y', sizeof got);
        sl_tier_destroy(tier);
    }
    unlink(path);
}

static void what_cannot_be_opened_is_named(void **state)
{
    (void)state;
    static const struct {
        const char *path, *says;
    } cases[] = {{"/nonexistent/model.gguf", "/nonexistent/model.gguf"}, {"/", "folder"}, {"/dev/null", "special file"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sl_files_options options = {.buffered = true};
        sl_tier *tier = NULL;
        sl_error err = {0};
        assert_int_equal(sl_tier_open_files(&cases[i].path, 1, &options, &tier, &err), SL_IO);
        assert_non_null(strstr(err.message, cases[i].says));
    }
    sl_files_options deep = {.depth = 5000};
    sl_tier *tier = NULL;
    sl_error err = {0};
    assert_int_equal(sl_tier_open_files(&cases[0].path, 1, &deep, &tier, &err), SL_INVALID);
    assert_int_equal(sl_tier_open_files(&cases[0].path, 0, &(sl_files_options){0}, &tier, &err), SL_INVALID);
    sl_tier_destroy(NULL);
}

static void memory_is_a_tier_too(void **state)
{
    (void)state;
    uint8_t data[1000], got[128];
    sl_tier *tier = NULL;
    sl_error err = {0};
    sl_read_done done;
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 31);
    assert_int_equal(sl_tier_open_host(data, sizeof data, &tier, &err), SL_OK);
    sl_read read = {.offset = 950, .bytes = 128, .memory = got, .tag = 42};
    assert_int_equal(tier->ops->submit(tier, &read, &err), SL_OK);
    assert_int_equal(tier->ops->reap(tier, false, &done, 1, &err), 1);
    assert_int_equal(done.tag, 42);
    assert_memory_equal(got, data + 950, 50);
    for (int i = 50; i < 128; i++)
        assert_int_equal(got[i], 0);
    read.offset = 1000;
    assert_int_equal(tier->ops->submit(tier, &read, &err), SL_IO);
    sl_tier_destroy(tier);
}

static void simulated_time_is_that_of_the_bytes_and_the_latency(void **state)
{
    (void)state;
    sl_synthetic_options options = {.seed = 9, .capacity_bytes = 1 << 20, .bandwidth_Bps = 1e9, .latency_ns = 50000, .depth = 4};
    sl_tier *tier = NULL;
    sl_error err = {0};
    sl_read_done done[4];
    assert_int_equal(sl_tier_open_synthetic(&options, &tier, &err), SL_OK);
    uint8_t *memory = sl_pages_alloc(4 * 65536);
    for (uint64_t i = 0; i < 4; i++) {
        sl_read read = {.file = (uint32_t)i % 2, .offset = i * 65536, .bytes = 65536, .memory = memory + i * 65536, .tag = i};
        assert_int_equal(tier->ops->submit(tier, &read, &err), SL_OK);
    }
    sl_read more = {.bytes = 512, .memory = memory};
    assert_int_equal(tier->ops->submit(tier, &more, &err), SL_PENDING);
    assert_int_equal(tier->ops->reap(tier, false, done, 4, &err), 0); /* too early */
    for (uint64_t i = 0; i < 4; i++) {
        assert_int_equal(tier->ops->reap(tier, true, done, 4, &err), 1);
        assert_int_equal(done[0].tag, i);
        assert_int_equal(sl_synthetic_now_ns(tier), (i + 1) * 65536 + 50000);
        assert_int_equal(memory[i * 65536 + 777], sl_synthetic_byte(9 + i % 2, i * 65536 + 777));
    }
    sl_tier_destroy(tier);
    sl_pages_free(memory, 4 * 65536);
}

/* Reads `total` bytes in pieces through the throttle; the seconds it took. */
static double time_throttled(double rate, uint64_t latency_ns, uint32_t piece, uint64_t total, uint32_t in_flight)
{
    static uint8_t data[1 << 20];
    uint8_t *memory = sl_pages_alloc(sizeof data);
    sl_tier *inner = NULL, *tier = NULL;
    sl_error err = {0};
    sl_read_done done[32];
    assert_int_equal(sl_tier_open_host(data, sizeof data, &inner, &err), SL_OK);
    assert_int_equal(sl_tier_throttle(inner, rate, latency_ns, &tier, &err), SL_OK);
    assert_non_null(strstr(tier->attrs.note, "throttled"));
    uint64_t begin = sl_now_ns(), sent = 0, received = 0;
    while (received < total) {
        for (; sent < total && (sent - received) / piece < in_flight; sent += piece) {
            sl_read read = {.offset = sent % sizeof data, .bytes = piece, .memory = memory + sent % sizeof data};
            assert_int_equal(tier->ops->submit(tier, &read, &err), SL_OK);
        }
        received += tier->ops->reap(tier, true, done, 32, &err) * piece;
    }
    double seconds = (double)(sl_now_ns() - begin) * 1e-9;
    sl_tier_destroy(tier);
    sl_pages_free(memory, sizeof data);
    return seconds;
}

static void a_throttle_holds_its_rate(void **state)
{
    (void)state;
    double best = 1e9; /* a busy machine can only make it slower: the best of three is the throttle's own */
    for (int i = 0; i < 3; i++) {
        double seconds = time_throttled(200e6, 0, 1 << 18, 50 << 20, 16), ratio = seconds / ((50 << 20) / 200e6);
        assert_true(ratio >= 0.999); /* never faster */
        best = ratio < best ? ratio : best;
    }
    assert_true(best < 1.05);
}

static void a_throttle_holds_its_latency(void **state)
{
    (void)state;
    double seconds = time_throttled(10e9, 5000000, 4096, 10 * 4096, 1); /* one at a time: ten latencies */
    assert_true(seconds >= 0.05 && seconds < 0.5);
}

static void a_throttle_passes_failures_on(void **state)
{
    (void)state;
    sl_synthetic_options options = {.capacity_bytes = 1 << 20, .bandwidth_Bps = 1e9, .depth = 4, .fail_read = 2};
    sl_tier *inner = NULL, *tier = NULL;
    sl_error err = {0};
    uint8_t *memory = sl_pages_alloc(BLOCK);
    sl_read_done done;
    assert_int_equal(sl_tier_open_synthetic(&options, &inner, &err), SL_OK);
    assert_int_equal(sl_tier_throttle(inner, 1e9, 0, &tier, &err), SL_OK);
    for (uint64_t i = 1; i <= 3; i++) {
        sl_read read = {.bytes = BLOCK, .memory = memory, .tag = 10 + i};
        err.message[0] = '\0';
        assert_int_equal(tier->ops->submit(tier, &read, &err), SL_OK);
        assert_int_equal(tier->ops->reap(tier, true, &done, 1, &err), 1);
        assert_int_equal(done.tag, 10 + i);
        assert_int_equal(done.status, i == 2 ? SL_IO : SL_OK);
        assert_int_equal(strstr(err.message, "read 2 of the synthetic device") != NULL, i == 2);
    }
    sl_tier_destroy(tier);
    assert_int_equal(sl_tier_open_synthetic(&options, &inner, &err), SL_OK);
    assert_int_equal(sl_tier_throttle(inner, 0, 0, &tier, &err), SL_INVALID);
    sl_pages_free(memory, BLOCK);
}

#define WITH_FILE(test) cmocka_unit_test_setup_teardown(test, file_begin, file_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FILE(uring_reads_what_is_in_the_file),
        WITH_FILE(pread_reads_what_is_in_the_file),
        WITH_FILE(no_more_reads_than_the_depth_are_taken),
        WITH_FILE(a_file_that_shrinks_is_an_error_that_says_so),
        WITH_FILE(reads_that_are_not_aligned_or_not_there_are_refused),
        cmocka_unit_test(a_file_system_without_direct_reads_is_named_with_the_way_out),
        cmocka_unit_test(a_file_in_shared_memory_can_be_read_buffered),
        cmocka_unit_test(what_cannot_be_opened_is_named),
        cmocka_unit_test(memory_is_a_tier_too),
        cmocka_unit_test(simulated_time_is_that_of_the_bytes_and_the_latency),
        cmocka_unit_test(a_throttle_holds_its_rate),
        cmocka_unit_test(a_throttle_holds_its_latency),
        cmocka_unit_test(a_throttle_passes_failures_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
