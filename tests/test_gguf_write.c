/* tests/test_gguf_write.c: what is written reads back, and nothing half-written stays behind. */
#include "core/gguf_write.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

typedef struct folder {
    char path[64], file[96], partial[112];
} folder;

static folder make_folder(void)
{
    folder f = {.path = "/tmp/sluice-write-XXXXXX"};
    assert_non_null(mkdtemp(f.path));
    snprintf(f.file, sizeof(f.file), "%s/f.gguf", f.path);
    snprintf(f.partial, sizeof(f.partial), "%s/f.gguf.partial", f.path);
    return f;
}

/* Also proves that nothing else is in the folder. */
static void remove_folder(folder *f)
{
    unlink(f->file);
    assert_int_equal(rmdir(f->path), 0);
}

static void declare_sample(sl_gguf_writer *w)
{
    sl_error err;
    static const sl_str words[] = {{"alpha", 5}, {"", 0}, {"\xc4\xa0z", 3}};
    static const int32_t numbers[] = {1, -2, 3};
    static const float floats[] = {0.5f, -1.0f};
    assert_int_equal(sl_gguf_write_str(w, "general.architecture", "llama", &err), SL_OK);
    assert_int_equal(sl_gguf_write_u32(w, "count", 7, &err), SL_OK);
    assert_int_equal(sl_gguf_write_f32(w, "epsilon", 1e-5f, &err), SL_OK);
    assert_int_equal(sl_gguf_write_bool(w, "flag", true, &err), SL_OK);
    assert_int_equal(sl_gguf_write_strings(w, "words", words, 3, &err), SL_OK);
    assert_int_equal(sl_gguf_write_i32s(w, "numbers", numbers, 3, &err), SL_OK);
    assert_int_equal(sl_gguf_write_f32s(w, "floats", floats, 2, &err), SL_OK);
    assert_int_equal(sl_gguf_write_tensor(w, "a", SL_TYPE_F32, (uint64_t[]){3}, 1, &err), SL_OK);
    assert_int_equal(sl_gguf_write_tensor(w, "b", SL_TYPE_Q8_0, (uint64_t[]){32, 5}, 2, &err), SL_OK);
}

static void write_sample(const char *path, uint32_t alignment)
{
    sl_gguf_writer *w;
    sl_error err;
    uint8_t data[170];
    memset(data, 0xab, sizeof(data));
    assert_int_equal(sl_gguf_writer_create(path, alignment, &w, &err), SL_OK);
    declare_sample(w);
    assert_int_equal(sl_gguf_writer_begin_data(w, &err), SL_OK);
    assert_int_equal(sl_gguf_writer_data(w, data, 5, &err), SL_OK);
    assert_int_equal(sl_gguf_writer_data(w, data, 7, &err), SL_OK);
    assert_int_equal(sl_gguf_writer_data(w, data, 170, &err), SL_OK);
    assert_int_equal(sl_gguf_writer_finish(w, &err), SL_OK);
}

static void what_is_written_reads_back(void **state)
{
    (void)state;
    folder f = make_folder();
    for (uint32_t alignment = 8; alignment <= 65536; alignment *= 2) {
        write_sample(f.file, alignment);
        assert_int_equal(access(f.partial, F_OK), -1);
        sl_gguf *g;
        sl_error err;
        uint32_t count;
        float epsilon;
        bool flag;
        sl_str s;
        assert_int_equal(sl_gguf_open(f.file, &g, &err), SL_OK);
        assert_int_equal(sl_gguf_alignment(g), alignment);
        assert_int_equal(sl_gguf_file_bytes(g) % alignment, 0);
        assert_int_equal(sl_gguf_u32(g, "count", &count, &err), SL_OK);
        assert_int_equal(count, 7);
        assert_int_equal(sl_gguf_f32(g, "epsilon", &epsilon, &err), SL_OK);
        assert_true(epsilon == 1e-5f);
        assert_int_equal(sl_gguf_bool(g, "flag", &flag, &err), SL_OK);
        assert_true(flag);
        size_t cursor = 0;
        const sl_gguf_value *words = sl_gguf_find(g, "words");
        assert_true(sl_gguf_next_string(words, &cursor, &s) && sl_str_equal(s, "alpha"));
        assert_true(sl_gguf_next_string(words, &cursor, &s) && sl_str_equal(s, ""));
        assert_true(sl_gguf_next_string(words, &cursor, &s) && sl_str_equal(s, "\xc4\xa0z"));
        assert_true(sl_gguf_number_at(sl_gguf_find(g, "numbers"), 1) == -2.0);
        assert_true(sl_gguf_number_at(sl_gguf_find(g, "floats"), 1) == -1.0);

        const sl_gguf_tensor *b = sl_gguf_find_tensor(g, "b");
        assert_int_equal(b->bytes, 170);
        uint8_t data[170];
        int fd = open(f.file, O_RDONLY);
        assert_int_equal(pread(fd, data, 170, (off_t)b->offset), 170);
        close(fd);
        assert_int_equal(data[0], 0xab);
        assert_int_equal(data[169], 0xab);
        sl_gguf_close(g);
    }
    remove_folder(&f);
}

/* Every value copied with sl_gguf_write_value comes out with the same bytes. */
static void values_of_another_file_are_copied_as_they_are(void **state)
{
    (void)state;
    folder f = make_folder();
    sl_error err;
    sl_gguf *a, *b;
    sl_gguf_writer *w;
    write_sample(f.file, 32);
    assert_int_equal(sl_gguf_open(f.file, &a, &err), SL_OK);
    assert_int_equal(sl_gguf_writer_create(f.file, 32, &w, &err), SL_OK);
    for (size_t i = 0; i < sl_gguf_value_count(a); i++)
        assert_int_equal(sl_gguf_write_value(w, sl_gguf_value_at(a, i), &err), SL_OK);
    assert_int_equal(sl_gguf_writer_begin_data(w, &err), SL_OK);
    assert_int_equal(sl_gguf_writer_finish(w, &err), SL_OK);
    assert_int_equal(sl_gguf_open(f.file, &b, &err), SL_OK);
    assert_int_equal(sl_gguf_value_count(a), sl_gguf_value_count(b));
    for (size_t i = 0; i < sl_gguf_value_count(a); i++) {
        const sl_gguf_value *x = sl_gguf_value_at(a, i), *y = sl_gguf_value_at(b, i);
        assert_int_equal(x->kind, y->kind);
        assert_int_equal(x->element_kind, y->element_kind);
        assert_int_equal(x->bytes, y->bytes);
        assert_memory_equal(x->data, y->data, x->bytes);
    }
    sl_gguf_close(a);
    sl_gguf_close(b);
    remove_folder(&f);
}

static void a_discarded_writer_leaves_nothing_and_the_old_file_alone(void **state)
{
    (void)state;
    folder f = make_folder();
    sl_error err;
    sl_gguf_writer *w;
    struct stat before, after;
    write_sample(f.file, 32);
    stat(f.file, &before);
    assert_int_equal(sl_gguf_writer_create(f.file, 32, &w, &err), SL_OK);
    declare_sample(w);
    assert_int_equal(sl_gguf_writer_begin_data(w, &err), SL_OK);
    assert_int_equal(access(f.partial, F_OK), 0);
    sl_gguf_writer_discard(w);
    sl_gguf_writer_discard(NULL);
    assert_int_equal(access(f.partial, F_OK), -1);
    stat(f.file, &after);
    assert_int_equal(before.st_ino, after.st_ino);
    remove_folder(&f);
}

/* A limit on file sizes stands for a full disk: both are found by posix_fallocate before any data is made. */
static void a_file_that_finds_no_room_is_refused_at_once(void **state)
{
    (void)state;
    folder f = make_folder();
    sl_error err;
    sl_gguf_writer *w;
    struct rlimit old, small = {.rlim_cur = 65536, .rlim_max = RLIM_INFINITY};
    getrlimit(RLIMIT_FSIZE, &old);
    small.rlim_max = old.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small);
    assert_int_equal(sl_gguf_writer_create(f.file, 32, &w, &err), SL_OK);
    assert_int_equal(sl_gguf_write_tensor(w, "big", SL_TYPE_F32, (uint64_t[]){1 << 20}, 1, &err), SL_OK);
    sl_status status = sl_gguf_writer_begin_data(w, &err);
    setrlimit(RLIMIT_FSIZE, &old);
    assert_int_equal(status, SL_IO);
    assert_non_null(strstr(err.message, "cannot reserve its 41943"));
    sl_gguf_writer_discard(w);
    remove_folder(&f);
}

/* The limit comes down after the room was reserved: the write itself fails, at whichever byte. */
static void a_write_that_fails_leaves_no_partial_file(void **state)
{
    (void)state;
    folder f = make_folder();
    static uint8_t data[1 << 20];
    struct rlimit old, small;
    getrlimit(RLIMIT_FSIZE, &old);
    signal(SIGXFSZ, SIG_IGN);
    for (rlim_t limit = 0; limit < (rlim_t)5 << 20; limit += 700001) {
        sl_error err;
        sl_gguf_writer *w;
        assert_int_equal(sl_gguf_writer_create(f.file, 32, &w, &err), SL_OK);
        assert_int_equal(sl_gguf_write_tensor(w, "big", SL_TYPE_F32, (uint64_t[]){1 << 20}, 1, &err), SL_OK);
        assert_int_equal(sl_gguf_writer_begin_data(w, &err), SL_OK);
        small = (struct rlimit){.rlim_cur = limit, .rlim_max = old.rlim_max};
        setrlimit(RLIMIT_FSIZE, &small);
        sl_status status = SL_OK;
        for (int i = 0; i < 4 && status == SL_OK; i++)
            status = sl_gguf_writer_data(w, data, sizeof(data), &err);
        if (status == SL_OK)
            status = sl_gguf_writer_finish(w, &err);
        else
            sl_gguf_writer_discard(w);
        setrlimit(RLIMIT_FSIZE, &old);
        if (limit < (rlim_t)4 << 20) {
            assert_int_equal(status, SL_IO);
            assert_non_null(strstr(err.message, "cannot write at byte"));
            assert_int_equal(access(f.file, F_OK), -1);
        } else {
            assert_int_equal(status, SL_OK);
        }
        assert_int_equal(access(f.partial, F_OK), -1);
    }
    remove_folder(&f);
}

static void a_folder_or_a_missing_folder_is_refused(void **state)
{
    (void)state;
    folder f = make_folder();
    sl_error err;
    sl_gguf_writer *w;
    assert_int_equal(sl_gguf_writer_create(f.path, 32, &w, &err), SL_IO);
    assert_non_null(strstr(err.message, "is a directory"));
    assert_null(w);
    assert_int_equal(sl_gguf_writer_create("/dev/null", 32, &w, &err), SL_IO);
    assert_int_equal(sl_gguf_writer_create("/nowhere/f.gguf", 32, &w, &err), SL_IO);
    assert_non_null(strstr(err.message, "No such file"));
    assert_int_equal(sl_gguf_writer_create(f.file, 24, &w, &err), SL_INVALID);
    remove_folder(&f);
}

static void two_writers_of_one_path_do_not_meet(void **state)
{
    (void)state;
    folder f = make_folder();
    sl_error err;
    sl_gguf_writer *first, *second;
    assert_int_equal(sl_gguf_writer_create(f.file, 32, &first, &err), SL_OK);
    assert_int_equal(sl_gguf_writer_create(f.file, 32, &second, &err), SL_IO);
    assert_non_null(strstr(err.message, "another process is writing it"));
    assert_int_equal(access(f.partial, F_OK), 0); /* the first one's is still there */
    sl_gguf_writer_discard(first);
    remove_folder(&f);
}

/* A wrong order or amount of calls is an error of the caller's, and never a bad file. */
static void wrong_calls_are_refused(void **state)
{
    (void)state;
    folder f = make_folder();
    sl_error err;
    sl_gguf_writer *w;
    uint8_t data[200] = {0};

    assert_int_equal(sl_gguf_writer_create(f.file, 32, &w, &err), SL_OK);
    declare_sample(w);
    assert_int_equal(sl_gguf_writer_data(w, data, 1, &err), SL_INVALID);
    assert_int_equal(sl_gguf_write_tensor(w, "bad", SL_TYPE_Q8_0, (uint64_t[]){33}, 1, &err), SL_INVALID);
    assert_int_equal(sl_gguf_write_tensor(w, "bad", 4, (uint64_t[]){32}, 1, &err), SL_INVALID);
    assert_int_equal(sl_gguf_write_tensor(w, "bad", SL_TYPE_F32, (uint64_t[]){1ull << 62, 4}, 2, &err), SL_INVALID);
    assert_int_equal(sl_gguf_writer_begin_data(w, &err), SL_OK);
    assert_int_equal(sl_gguf_writer_begin_data(w, &err), SL_INVALID);
    assert_int_equal(sl_gguf_write_u32(w, "late", 1, &err), SL_INVALID);
    assert_int_equal(sl_gguf_writer_data(w, data, 13, &err), SL_INVALID); /* "a" has 12 */
    assert_int_equal(sl_gguf_writer_data(w, data, 12, &err), SL_OK);
    assert_int_equal(sl_gguf_writer_data(w, data, 169, &err), SL_OK);
    assert_int_equal(sl_gguf_writer_finish(w, &err), SL_INVALID);
    assert_non_null(strstr(err.message, "tensor \"b\" has 169 of its 170 bytes"));

    assert_int_equal(sl_gguf_writer_create(f.file, 32, &w, &err), SL_OK);
    declare_sample(w);
    assert_int_equal(sl_gguf_write_u32(w, "count", 8, &err), SL_OK);
    assert_int_equal(sl_gguf_writer_begin_data(w, &err), SL_FORMAT);
    assert_non_null(strstr(err.message, "key \"count\" appears twice"));
    sl_gguf_writer_discard(w);
    remove_folder(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_reads_back),
        cmocka_unit_test(values_of_another_file_are_copied_as_they_are),
        cmocka_unit_test(a_discarded_writer_leaves_nothing_and_the_old_file_alone),
        cmocka_unit_test(a_file_that_finds_no_room_is_refused_at_once),
        cmocka_unit_test(a_write_that_fails_leaves_no_partial_file),
        cmocka_unit_test(a_folder_or_a_missing_folder_is_refused),
        cmocka_unit_test(two_writers_of_one_path_do_not_meet),
        cmocka_unit_test(wrong_calls_are_refused),
    };
    return cmocka_run_group_tests_name("gguf_write", tests, NULL, NULL);
}
