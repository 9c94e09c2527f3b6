/* tests/test_gguf.c: what the GGUF reader takes and what it refuses.
 *
 * Files are put together byte by byte here, so that each can break exactly one rule; the message must then name what was broken. */
#include "core/gguf.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- building files ---- */

typedef struct bytes {
    uint8_t data[8192];
    size_t count;
} bytes;

static void add(bytes *b, const void *data, size_t count)
{
    assert_true(b->count + count <= sizeof(b->data));
    memcpy(b->data + b->count, data, count);
    b->count += count;
}
static void add_u32(bytes *b, uint32_t v)
{
    add(b, &v, 4);
}
static void add_u64(bytes *b, uint64_t v)
{
    add(b, &v, 8);
}
static void add_str(bytes *b, const char *s)
{
    add_u64(b, strlen(s));
    add(b, s, strlen(s));
}
static void add_start(bytes *b, uint64_t tensors, uint64_t values)
{
    b->count = 0;
    add(b, "GGUF", 4);
    add_u32(b, 3);
    add_u64(b, tensors);
    add_u64(b, values);
}
static void add_u32_value(bytes *b, const char *key, uint32_t value)
{
    add_str(b, key);
    add_u32(b, SL_GGUF_U32);
    add_u32(b, value);
}
static void add_tensor(bytes *b, const char *name, uint64_t ne0, uint64_t ne1, uint32_t type, uint64_t offset)
{
    add_str(b, name);
    add_u32(b, 2);
    add_u64(b, ne0);
    add_u64(b, ne1);
    add_u32(b, type);
    add_u64(b, offset);
}
static void add_data(bytes *b, size_t alignment, size_t count)
{
    while (b->count % alignment)
        add(b, "", 1);
    while (count--)
        add(b, "", 1);
}

/* Two values of every shape that matters and two tensors. */
static void add_small_file(bytes *b)
{
    add_start(b, 2, 5);
    add_str(b, "general.architecture");
    add_u32(b, SL_GGUF_STRING);
    add_str(b, "llama");
    add_u32_value(b, "llama.block_count", 30);
    add_str(b, "a.float");
    add_u32(b, SL_GGUF_F32);
    float half = 0.5f;
    add(b, &half, 4);
    add_str(b, "tokens");
    add_u32(b, SL_GGUF_ARRAY);
    add_u32(b, SL_GGUF_STRING);
    add_u64(b, 3);
    add_str(b, "x");
    add_str(b, "");
    add_str(b, "yz");
    add_str(b, "flag");
    add_u32(b, SL_GGUF_BOOL);
    add(b, "\1", 1);
    add_tensor(b, "one", 32, 2, SL_TYPE_Q8_0, 0);
    add_tensor(b, "two", 8, 1, SL_TYPE_F32, 96);
    add_data(b, 32, 128);
}

static sl_status parse(const bytes *b, sl_gguf **g, sl_error *err)
{
    return sl_gguf_parse("f.gguf", b->data, b->count, b->count, g, err);
}

/* The file is refused as SL_FORMAT with one line that names the file and contains `part`. */
static void expect_refused(const bytes *b, const char *part)
{
    sl_gguf *g = (sl_gguf *)1;
    sl_error err = {0};
    sl_status status = parse(b, &g, &err);
    if (status != SL_FORMAT || !strstr(err.message, part))
        fail_msg("want a refusal with \"%s\", got status %d \"%s\"", part, status, err.message);
    assert_null(g);
    assert_int_equal(err.status, SL_FORMAT);
    assert_ptr_equal(strstr(err.message, "f.gguf"), err.message);
    assert_null(strchr(err.message, '\n'));
}

/* ---- what is taken ---- */

static void a_small_file_reads_back(void **state)
{
    (void)state;
    bytes b;
    add_small_file(&b);
    sl_gguf *g;
    sl_error err;
    assert_int_equal(parse(&b, &g, &err), SL_OK);
    assert_string_equal(sl_gguf_path(g), "f.gguf");
    assert_int_equal(sl_gguf_version(g), 3);
    assert_int_equal(sl_gguf_file_bytes(g), b.count);
    assert_int_equal(sl_gguf_data_offset(g), b.count - 128);
    assert_int_equal(sl_gguf_alignment(g), 32);
    assert_int_equal(sl_gguf_value_count(g), 5);
    assert_int_equal(sl_gguf_tensor_count(g), 2);
    assert_true(sl_gguf_heap_bytes(g) >= b.count - 128);
    assert_true(sl_str_equal(sl_gguf_value_at(g, 3)->key, "tokens"));
    assert_null(sl_gguf_value_at(g, 5));
    assert_null(sl_gguf_tensor_at(g, 2));

    const sl_gguf_tensor *two = sl_gguf_find_tensor(g, "two");
    assert_non_null(two);
    assert_int_equal(two->bytes, 32);
    assert_int_equal(two->offset, b.count - 32);
    assert_int_equal(two->shape[0], 8);
    assert_int_equal(two->shape[3], 1);
    assert_int_equal(sl_gguf_find_tensor(g, "one")->bytes, 68);
    assert_null(sl_gguf_find_tensor(g, "on"));
    assert_null(sl_gguf_find_tensor(g, "onee"));
    sl_gguf_close(g);
    sl_gguf_close(NULL);
}

static void a_string_array_is_walked_to_its_end(void **state)
{
    (void)state;
    bytes b;
    add_small_file(&b);
    sl_gguf *g;
    sl_error err;
    assert_int_equal(parse(&b, &g, &err), SL_OK);
    const sl_gguf_value *tokens = sl_gguf_find(g, "tokens");
    assert_int_equal(tokens->kind, SL_GGUF_ARRAY);
    assert_int_equal(tokens->count, 3);
    static const char *const expected[] = {"x", "", "yz"};
    size_t cursor = 0;
    sl_str s;
    for (int i = 0; i < 3; i++) {
        assert_true(sl_gguf_next_string(tokens, &cursor, &s));
        assert_true(sl_str_equal(s, expected[i]));
    }
    assert_false(sl_gguf_next_string(tokens, &cursor, &s));
    assert_false(sl_gguf_next_string(tokens, &cursor, &s));
    cursor = 0;
    assert_false(sl_gguf_next_string(sl_gguf_find(g, "llama.block_count"), &cursor, &s));
    sl_gguf_close(g);
}

static void typed_reads_convert_or_say_what_they_want(void **state)
{
    (void)state;
    bytes b;
    add_start(&b, 0, 7);
    static const struct {
        const char *key;
        sl_gguf_kind kind;
        int64_t value;
        size_t size;
    } integers[] = {{"u8", SL_GGUF_U8, 200, 1},
                    {"i8", SL_GGUF_I8, -3, 1},
                    {"i16", SL_GGUF_I16, 1000, 2},
                    {"u64", SL_GGUF_U64, 1ll << 32, 8},
                    {"i64", SL_GGUF_I64, 4294967295ll, 8}};
    for (size_t i = 0; i < 5; i++) {
        add_str(&b, integers[i].key);
        add_u32(&b, integers[i].kind);
        add(&b, &integers[i].value, integers[i].size);
    }
    double quarter = 0.25;
    add_str(&b, "f64");
    add_u32(&b, SL_GGUF_F64);
    add(&b, &quarter, 8);
    add_str(&b, "list");
    add_u32(&b, SL_GGUF_ARRAY);
    add_u32(&b, SL_GGUF_I16);
    add_u64(&b, 2);
    add(&b, "\1\0\376\377", 4);

    sl_gguf *g;
    sl_error err;
    uint32_t u = 0;
    float f = 0;
    bool flag;
    sl_str s;
    assert_int_equal(parse(&b, &g, &err), SL_OK);
    assert_int_equal(sl_gguf_u32(g, "u8", &u, &err), SL_OK);
    assert_int_equal(u, 200);
    assert_int_equal(sl_gguf_u32(g, "i16", &u, &err), SL_OK);
    assert_int_equal(u, 1000);
    assert_int_equal(sl_gguf_u32(g, "i64", &u, &err), SL_OK);
    assert_int_equal(u, 4294967295u);
    assert_int_equal(sl_gguf_u32(g, "i8", &u, &err), SL_FORMAT);
    assert_non_null(strstr(err.message, "\"i8\" is -3"));
    assert_int_equal(sl_gguf_u32(g, "u64", &u, &err), SL_FORMAT);
    assert_non_null(strstr(err.message, "4294967296"));
    assert_int_equal(sl_gguf_u32(g, "f64", &u, &err), SL_FORMAT);
    assert_non_null(strstr(err.message, "of kind f64"));
    assert_int_equal(sl_gguf_u32(g, "list", &u, &err), SL_FORMAT);
    assert_int_equal(sl_gguf_u32(g, "none", &u, &err), SL_FORMAT);
    assert_string_equal(err.message, "f.gguf: key \"none\" is missing, want a number of 0..4294967295");
    assert_int_equal(sl_gguf_f32(g, "f64", &f, &err), SL_OK);
    assert_true(f == 0.25f);
    assert_int_equal(sl_gguf_f32(g, "u8", &f, &err), SL_FORMAT);
    assert_int_equal(sl_gguf_bool(g, "u8", &flag, &err), SL_FORMAT);
    assert_int_equal(sl_gguf_str(g, "u8", &s, &err), SL_FORMAT);
    assert_true(sl_gguf_number_at(sl_gguf_find(g, "list"), 0) == 1.0);
    assert_true(sl_gguf_number_at(sl_gguf_find(g, "list"), 1) == -2.0);
    sl_gguf_close(g);
}

static void version_2_and_files_of_metadata_alone_are_taken(void **state)
{
    (void)state;
    bytes b;
    add_start(&b, 0, 1);
    b.data[4] = 2;
    add_u32_value(&b, "key", 7);
    sl_gguf *g;
    sl_error err;
    assert_int_equal(parse(&b, &g, &err), SL_OK);
    assert_int_equal(sl_gguf_version(g), 2);
    assert_int_equal(sl_gguf_data_offset(g), b.count);
    sl_gguf_close(g);
    add_start(&b, 0, 0);
    assert_int_equal(parse(&b, &g, &err), SL_OK);
    assert_null(sl_gguf_find(g, "key"));
    sl_gguf_close(g);
}

/* ---- what is refused, rule by rule ---- */

static void what_is_no_gguf_file_is_refused_by_its_first_bytes(void **state)
{
    (void)state;
    bytes b = {.count = 0};
    expect_refused(&b, "empty");
    add(&b, "PK\3\4 and so on and so forth", 24);
    expect_refused(&b, "not a GGUF file");
    add_start(&b, 0, 0);
    b.data[4] = 1;
    expect_refused(&b, "version 1, want 2 or 3");
    b.data[4] = 4;
    expect_refused(&b, "version 4, want 2 or 3");
    b.data[4] = 0;
    expect_refused(&b, "version 0");
    b.data[7] = 3;
    expect_refused(&b, "big-endian");
}

static void g1_counts_and_lengths_larger_than_the_file_are_refused(void **state)
{
    (void)state;
    bytes b;
    static const uint64_t giants[] = {100, UINT32_MAX, (uint64_t)1 << 40, INT64_MAX, UINT64_MAX};
    for (size_t i = 0; i < 5; i++) {
        add_start(&b, giants[i], 0);
        expect_refused(&b, "tensors");
        add_start(&b, 0, giants[i]);
        expect_refused(&b, "metadata values");

        add_start(&b, 0, 1); /* a string value */
        add_str(&b, "k");
        add_u32(&b, SL_GGUF_STRING);
        add_u64(&b, giants[i]);
        expect_refused(&b, "a string value");

        add_start(&b, 0, 1); /* an array; 2^61 and more elements of 8 bytes overflow */
        add_str(&b, "k");
        add_u32(&b, SL_GGUF_ARRAY);
        add_u32(&b, SL_GGUF_U64);
        add_u64(&b, giants[i]);
        expect_refused(&b, giants[i] >= INT64_MAX ? "key \"k\" counts" : "a value");

        add_start(&b, 0, 1);
        add_str(&b, "k");
        add_u32(&b, SL_GGUF_ARRAY);
        add_u32(&b, SL_GGUF_STRING);
        add_u64(&b, giants[i]);
        expect_refused(&b, "a string value");
    }
}

static void g2_bad_keys_and_kinds_are_refused(void **state)
{
    (void)state;
    bytes b;
    add_start(&b, 0, 2);
    add_u32_value(&b, "twice", 1);
    add_u32_value(&b, "twice", 2);
    expect_refused(&b, "key \"twice\" appears twice");

    add_start(&b, 0, 1);
    add_u32_value(&b, "", 1);
    expect_refused(&b, "a key at byte 24 has length 0, must be 1..65535");

    add_start(&b, 0, 1);
    add_u64(&b, 65536);
    add_u64(&b, 0);
    expect_refused(&b, "length 65536");

    add_start(&b, 0, 1);
    add_str(&b, "k\ney");
    add_u32(&b, 13);
    add_u64(&b, 0);
    expect_refused(&b, "key \"k?ey\" has value kind 13");

    for (uint32_t kind = 9; kind < 20; kind += 4) { /* 9 is an array in an array; 13 and 17 are unknown */
        add_start(&b, 0, 1);
        add_str(&b, "k");
        add_u32(&b, SL_GGUF_ARRAY);
        add_u32(&b, kind);
        add_u64(&b, 0);
        expect_refused(&b, "arrays do not nest");
    }
    add_start(&b, 0, 1);
    add_str(&b, "k");
    add_u32(&b, SL_GGUF_BOOL);
    add(&b, "\2", 1);
    expect_refused(&b, "bool 2, must be 0 or 1");
}

static void g3_bad_tensors_are_refused(void **state)
{
    (void)state;
    bytes b;
    static const struct {
        uint64_t ne0, ne1;
        uint32_t type;
        const char *part;
    } bad[] = {
        {0, 1, SL_TYPE_F32, "0 elements in dimension 0"},
        {8, 0, SL_TYPE_F32, "0 elements in dimension 1"},
        {33, 1, SL_TYPE_Q4_0, "rows of 33 elements, must be a multiple of 32 for Q4_0"},
        {8, 1, 4, "type 4, which GGUF does not define"},
        {8, 1, 4000000000u, "type 4000000000"},
        {(uint64_t)1 << 33, (uint64_t)1 << 33, SL_TYPE_F32, "larger than any file"},
        {(uint64_t)1 << 31, (uint64_t)1 << 31, SL_TYPE_F32, "larger than any file"},
        {(uint64_t)1 << 30, (uint64_t)1 << 30, SL_TYPE_F32, "behind the file's end"},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        add_start(&b, 1, 0);
        add_tensor(&b, "t", bad[i].ne0, bad[i].ne1, bad[i].type, 0);
        add_data(&b, 32, 64);
        expect_refused(&b, bad[i].part);
    }
    for (uint32_t dims = 0; dims <= 5; dims += 5) {
        add_start(&b, 1, 0);
        add_str(&b, "t");
        add_u32(&b, dims);
        add_data(&b, 32, 64);
        expect_refused(&b, "dimensions, must be 1..4");
    }
    add_start(&b, 2, 0);
    add_tensor(&b, "t", 8, 1, SL_TYPE_F32, 0);
    add_tensor(&b, "t", 8, 1, SL_TYPE_F32, 32);
    add_data(&b, 32, 64);
    expect_refused(&b, "tensor \"t\" appears twice");
}

static void g4_bad_places_are_refused(void **state)
{
    (void)state;
    bytes b;
    static const uint32_t alignments[] = {0, 4, 24, 33, 131072, 0x80000000u};
    for (size_t i = 0; i < 6; i++) {
        add_start(&b, 0, 1);
        add_u32_value(&b, "general.alignment", alignments[i]);
        expect_refused(&b, "power of two in 8..65536");
    }
    add_start(&b, 1, 0);
    add_tensor(&b, "t", 8, 1, SL_TYPE_F32, 16);
    add_data(&b, 32, 64);
    expect_refused(&b, "data offset 16, must be a multiple of the alignment 32");

    static const uint64_t offsets[] = {64, 1024, (uint64_t)1 << 62, UINT64_MAX - 31};
    for (size_t i = 0; i < 4; i++) {
        add_start(&b, 1, 0);
        add_tensor(&b, "t", 8, 1, SL_TYPE_F32, offsets[i]);
        add_data(&b, 32, 64);
        expect_refused(&b, "behind the file's end");
    }
    add_start(&b, 2, 0);
    add_tensor(&b, "later", 8, 2, SL_TYPE_F32, 32);
    add_tensor(&b, "early", 9, 1, SL_TYPE_F32, 0);
    add_data(&b, 32, 96);
    expect_refused(&b, "tensor \"later\" at byte");
    expect_refused(&b, "overlaps tensor \"early\"");
}

/* An alignment of its own moves the data and is obeyed by the offsets. */
static void general_alignment_is_obeyed(void **state)
{
    (void)state;
    bytes b;
    add_start(&b, 2, 1);
    add_u32_value(&b, "general.alignment", 4096);
    add_tensor(&b, "a", 8, 1, SL_TYPE_F32, 0);
    add_tensor(&b, "b", 1, 1, SL_TYPE_F32, 32);
    add_data(&b, 4096, 36);
    expect_refused(&b, "tensor \"b\" has data offset 32");
    add_start(&b, 1, 1);
    add_u32_value(&b, "general.alignment", 4096);
    add_tensor(&b, "a", 8, 1, SL_TYPE_F32, 0);
    add_data(&b, 4096, 32);
    sl_gguf *g;
    sl_error err;
    assert_int_equal(parse(&b, &g, &err), SL_OK);
    assert_int_equal(sl_gguf_data_offset(g), 4096);
    sl_gguf_close(g);
}

/* ---- damage ---- */

static void a_file_cut_at_any_byte_is_refused(void **state)
{
    (void)state;
    bytes b;
    add_small_file(&b);
    size_t whole = b.count;
    for (size_t cut = 1; cut < whole; cut++) {
        b.count = cut;
        expect_refused(&b, cut < 24 || cut < whole - 128 ? "" : "truncated");
    }
}

/* Any one flipped bit: refused with a line of text, or taken and then walkable. Run under sanitizers, this is the walk's bounds check. */
static void any_flipped_bit_is_refused_or_harmless(void **state)
{
    (void)state;
    bytes b;
    add_small_file(&b);
    size_t taken = 0, refused = 0;
    for (size_t bit = 0; bit < (b.count - 128) * 8; bit++) {
        /* A heap copy of exactly the file's size, so that a read behind its end is caught. */
        uint8_t *copy = malloc(b.count);
        assert_non_null(copy);
        memcpy(copy, b.data, b.count);
        copy[bit / 8] ^= (uint8_t)(1u << bit % 8);
        sl_gguf *g;
        sl_error err = {0};
        if (sl_gguf_parse("f.gguf", copy, b.count, b.count, &g, &err) != SL_OK) {
            assert_null(g);
            assert_true(err.message[0] != '\0');
            refused++;
        } else {
            for (size_t i = 0; i < sl_gguf_tensor_count(g); i++) {
                const sl_gguf_tensor *t = sl_gguf_tensor_at(g, i);
                assert_true(t->offset + t->bytes <= b.count);
            }
            taken++;
        }
        sl_gguf_close(g);
        free(copy);
    }
    assert_true(taken > 0 && refused > taken);
}

/* ---- files ---- */

typedef struct folder {
    char path[64], file[96];
} folder;

static folder make_folder(void)
{
    folder f = {.path = "/tmp/sluice-gguf-XXXXXX"};
    assert_non_null(mkdtemp(f.path));
    snprintf(f.file, sizeof(f.file), "%s/f.gguf", f.path);
    return f;
}

static void write_file(const char *path, const void *data, size_t bytes_count)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, bytes_count), bytes_count);
    close(fd);
}

/* A header of 3 MiB takes three chunks; the file behind it is sparse and never read. */
static void a_header_longer_than_one_chunk_is_read_whole(void **state)
{
    (void)state;
    folder f = make_folder();
    size_t filler = (size_t)3 << 20;
    bytes b;
    add_start(&b, 1, 1);
    add_str(&b, "filler");
    add_u32(&b, SL_GGUF_ARRAY);
    add_u32(&b, SL_GGUF_U8);
    add_u64(&b, filler);
    int fd = open(f.file, O_WRONLY | O_CREAT, 0600);
    assert_int_equal(write(fd, b.data, b.count), b.count);
    size_t start = b.count;
    b.count = 0;
    add_tensor(&b, "t", 8, 1, SL_TYPE_F32, 0);
    assert_int_equal(pwrite(fd, b.data, b.count, (off_t)(start + filler)), b.count);
    assert_int_equal(ftruncate(fd, (off_t)filler + 4096), 0);
    close(fd);

    sl_gguf *g;
    sl_error err;
    assert_int_equal(sl_gguf_open(f.file, &g, &err), SL_OK);
    assert_int_equal(sl_gguf_find(g, "filler")->count, filler);
    assert_int_equal(sl_gguf_find_tensor(g, "t")->bytes, 32);
    assert_true(sl_gguf_heap_bytes(g) < filler + 65536);
    sl_gguf_close(g);

    assert_int_equal(truncate(f.file, (off_t)filler), 0); /* the same, cut in the header's third chunk */
    assert_int_equal(sl_gguf_open(f.file, &g, &err), SL_FORMAT);
    assert_non_null(strstr(err.message, "truncated"));
    unlink(f.file);
    rmdir(f.path);
}

/* A damaged length of 300 MiB fits the (sparse) file; the reader must stop at its own limit and not take it all into memory. */
static void a_header_without_end_is_refused_before_it_fills_the_memory(void **state)
{
    (void)state;
    folder f = make_folder();
    bytes b;
    add_start(&b, 0, 1);
    add_str(&b, "k");
    add_u32(&b, SL_GGUF_STRING);
    add_u64(&b, (uint64_t)300 << 20);
    write_file(f.file, b.data, b.count);
    assert_int_equal(truncate(f.file, (off_t)400 << 20), 0);
    sl_gguf *g;
    sl_error err;
    assert_int_equal(sl_gguf_open(f.file, &g, &err), SL_FORMAT);
    assert_non_null(strstr(err.message, "longer than"));
    unlink(f.file);
    rmdir(f.path);
}

static void what_cannot_be_opened_is_named(void **state)
{
    (void)state;
    folder f = make_folder();
    sl_gguf *g;
    sl_error err;
    assert_int_equal(sl_gguf_open(f.path, &g, &err), SL_FORMAT);
    assert_non_null(strstr(err.message, "is a directory"));
    assert_null(g);
    assert_int_equal(sl_gguf_open(f.file, &g, &err), SL_IO);
    assert_non_null(strstr(err.message, "No such file"));
    assert_int_equal(mkfifo(f.file, 0600), 0);
    assert_int_equal(sl_gguf_open(f.file, &g, &err), SL_FORMAT);
    assert_non_null(strstr(err.message, "not a regular file"));
    unlink(f.file);
    write_file(f.file, "", 0);
    assert_int_equal(sl_gguf_open(f.file, &g, &err), SL_FORMAT);
    assert_non_null(strstr(err.message, "empty"));
    if (geteuid() != 0) {
        chmod(f.file, 0);
        assert_int_equal(sl_gguf_open(f.file, &g, &err), SL_IO);
        assert_non_null(strstr(err.message, "Permission denied"));
    }
    unlink(f.file);
    rmdir(f.path);
}

static void the_real_model_reads(void **state)
{
    (void)state;
    const char *path = getenv("SLUICE_TEST_MODEL");
    if (!path) {
        print_message("skipped: SLUICE_TEST_MODEL is not set\n");
        skip();
        return;
    }
    sl_gguf *g;
    sl_error err;
    uint32_t layers;
    sl_str architecture;
    assert_int_equal(sl_gguf_open(path, &g, &err), SL_OK);
    assert_int_equal(sl_gguf_str(g, "general.architecture", &architecture, &err), SL_OK);
    assert_true(sl_str_equal(architecture, "llama"));
    assert_int_equal(sl_gguf_u32(g, "llama.block_count", &layers, &err), SL_OK);
    assert_true(layers > 0);
    assert_non_null(sl_gguf_find_tensor(g, "token_embd.weight"));
    sl_gguf_close(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_small_file_reads_back),
        cmocka_unit_test(a_string_array_is_walked_to_its_end),
        cmocka_unit_test(typed_reads_convert_or_say_what_they_want),
        cmocka_unit_test(version_2_and_files_of_metadata_alone_are_taken),
        cmocka_unit_test(what_is_no_gguf_file_is_refused_by_its_first_bytes),
        cmocka_unit_test(g1_counts_and_lengths_larger_than_the_file_are_refused),
        cmocka_unit_test(g2_bad_keys_and_kinds_are_refused),
        cmocka_unit_test(g3_bad_tensors_are_refused),
        cmocka_unit_test(g4_bad_places_are_refused),
        cmocka_unit_test(general_alignment_is_obeyed),
        cmocka_unit_test(a_file_cut_at_any_byte_is_refused),
        cmocka_unit_test(any_flipped_bit_is_refused_or_harmless),
        cmocka_unit_test(a_header_longer_than_one_chunk_is_read_whole),
        cmocka_unit_test(a_header_without_end_is_refused_before_it_fills_the_memory),
        cmocka_unit_test(what_cannot_be_opened_is_named),
        cmocka_unit_test(the_real_model_reads),
    };
    return cmocka_run_group_tests_name("gguf", tests, NULL, NULL);
}
