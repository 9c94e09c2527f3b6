/* offload/tools/widen.c: the small file in, the wide file out, some rows at a time.
 *
 * A wide matrix is its small one's rows, each made wider, all of that `factor` times over; so the small matrix is read `factor` times. The
 * page cache answers all but the first, and is dropped after each tensor. */
#include "offload/tools/widen.h"
#include "kernels/kernels.h"
#include "offload/tools/quantize.h"
#include "offload/tools/widen_tensor.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define READ_BYTES ((size_t)1 << 20) /* source rows read at once */

typedef struct widening {
    const sl_widen_options *options;
    const sl_kernels *reference;
    sl_gguf *in;
    int fd;
    bool tied;
    sli_tool_output output;
    size_t longest; /* elements of the longest source row */
    uint8_t *raw;   /* READ_BYTES or one source row */
    size_t raw_bytes;
    float *floats;  /* one source row */
    uint8_t *small; /* the same in the target type */
    uint8_t *wide;  /* `factor` times that */
} widening;

/* ---- which type, which shape ---- */

static bool has_four_bits(uint32_t type)
{
    return type == SL_TYPE_Q4_0 || type == SL_TYPE_Q4_1;
}

static uint32_t target_type(const widening *w, const sl_gguf_tensor *t, const sli_widen_role *role)
{
    if (!w->options->change_type || !role->matrix)
        return t->type;
    if (role->vocabulary && has_four_bits(w->options->type) && !has_four_bits(t->type))
        return SL_TYPE_Q8_0;
    return w->options->type;
}

/* Everything about one tensor that could stop us, before anything is written. */
static sl_status check_tensor(const widening *w, const sl_gguf_tensor *t, sl_error *err)
{
    const char *path = sl_gguf_path(w->in);
    int length = t->name.length < 64 ? (int)t->name.length : 64;
    const sli_widen_role *role = sli_widen_role_of(t->name);
    if (!role)
        return sl_fail(err, SL_UNSUPPORTED, "%s: tensor \"%.*s\" is not one that widening knows", path, length, t->name.data);
    if (t->dims > 2 || (role->matrix && t->dims != 2) || (!role->matrix && t->dims != 1))
        return sl_fail(err, SL_FORMAT, "%s: tensor \"%.*s\" has %u dimensions, want %d", path, length, t->name.data, t->dims,
                       role->matrix ? 2 : 1);
    if (!sl_quantize_knows(t->type))
        return sl_fail(err, SL_UNSUPPORTED, "%s: tensor \"%.*s\" is %s; widening knows F32, F16, BF16, Q4_0, Q4_1, Q5_0 and Q8_0", path,
                       length, t->name.data, sl_format_of(t->type)->name);
    const sl_format *target = sl_format_of(target_type(w, t, role));
    if (t->shape[0] % target->block_elements != 0)
        return sl_fail(err, SL_UNSUPPORTED, "%s: tensor \"%.*s\" has rows of %llu elements, %s wants a multiple of %u", path, length,
                       t->name.data, (unsigned long long)t->shape[0], target->name, target->block_elements);
    if (t->shape[0] > UINT32_MAX / w->options->factor || t->shape[1] > UINT32_MAX / w->options->factor)
        return sl_fail(err, SL_INVALID, "%s: tensor \"%.*s\" widened %u times has more than 2^32 rows or columns", path, length,
                       t->name.data, w->options->factor);
    return SL_OK;
}

static sl_status check_model(widening *w, sl_error *err)
{
    sl_str architecture;
    SL_TRY(sl_gguf_str(w->in, "general.architecture", &architecture, err));
    int length = architecture.length < 64 ? (int)architecture.length : 64;
    if (!sli_widen_knows_architecture(architecture))
        return sl_fail(err, SL_UNSUPPORTED, "%s: architecture \"%.*s\" cannot be widened; llama, qwen2 and qwen3 can", sl_gguf_path(w->in),
                       length, architecture.data);
    const sl_gguf_tensor *embedding = sl_gguf_find_tensor(w->in, "token_embd.weight");
    if (!embedding)
        return sl_fail(err, SL_FORMAT, "%s: tensor \"token_embd.weight\" is missing", sl_gguf_path(w->in));
    w->tied = sl_gguf_find_tensor(w->in, "output.weight") == NULL;
    for (size_t i = 0; i < sl_gguf_tensor_count(w->in); i++) {
        const sl_gguf_tensor *t = sl_gguf_tensor_at(w->in, i);
        SL_TRY(check_tensor(w, t, err));
        if (t->shape[0] > w->longest)
            w->longest = (size_t)t->shape[0];
    }
    return SL_OK;
}

/* ---- the header ---- */

/* "llama.embedding_length" and its like: numbers that grow with the width. */
static bool grows(sl_str key, sl_str architecture)
{
    static const char *const names[] = {".embedding_length", ".feed_forward_length", ".attention.head_count", ".attention.head_count_kv"};
    if (key.length <= architecture.length || memcmp(key.data, architecture.data, architecture.length) != 0)
        return false;
    sl_str rest = {key.data + architecture.length, key.length - architecture.length};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (sl_str_equal(rest, names[i]))
            return true;
    }
    return false;
}

/* Values that would no longer be true, or that we write ourselves. */
static bool dropped(const widening *w, sl_str key)
{
    uint32_t ignored;
    bool new_file_type = w->options->change_type && sli_file_type_of(w->options->type, &ignored);
    return sl_str_equal(key, "general.alignment") || sl_str_equal(key, "general.size_label") || sl_str_equal(key, "sluice.widen.factor") ||
           sl_str_equal(key, "sluice.widen.seed") || (new_file_type && sl_str_equal(key, "general.file_type"));
}

static sl_status write_grown(widening *w, sl_str key_str, sl_error *err)
{
    char key[128];
    uint32_t value, grown;
    snprintf(key, sizeof(key), "%.*s", (int)key_str.length, key_str.data); /* one of ours: short */
    SL_TRY(sl_gguf_u32(w->in, key, &value, err));
    if (__builtin_mul_overflow(value, w->options->factor, &grown))
        return sl_fail(err, SL_INVALID, "%s: key \"%s\" is %u, too much to be widened %u times", sl_gguf_path(w->in), key, value,
                       w->options->factor);
    return sl_gguf_write_u32(w->output.writer, key, grown, err);
}

static sl_status write_values(widening *w, sl_error *err)
{
    sl_gguf_writer *out = w->output.writer;
    sl_str architecture;
    uint32_t before = 1, factor, file_type;
    SL_TRY(sl_gguf_str(w->in, "general.architecture", &architecture, err));
    for (size_t i = 0; i < sl_gguf_value_count(w->in); i++) {
        const sl_gguf_value *value = sl_gguf_value_at(w->in, i);
        if (grows(value->key, architecture))
            SL_TRY(write_grown(w, value->key, err));
        else if (!dropped(w, value->key))
            SL_TRY(sl_gguf_write_value(out, value, err));
    }
    if (w->options->change_type && sli_file_type_of(w->options->type, &file_type))
        SL_TRY(sl_gguf_write_u32(out, "general.file_type", file_type, err));
    if (!sl_gguf_find(w->in, "general.quantization_version"))
        SL_TRY(sl_gguf_write_u32(out, "general.quantization_version", 2, err));

    /* Where the file came from, also when it was widened before. */
    if (sl_gguf_find(w->in, "sluice.widen.factor"))
        SL_TRY(sl_gguf_u32(w->in, "sluice.widen.factor", &before, err));
    if (__builtin_mul_overflow(before, w->options->factor, &factor))
        factor = 0;
    SL_TRY(sl_gguf_write_u32(out, "sluice.widen.factor", factor, err));
    char seed[24];
    snprintf(seed, sizeof(seed), "%llu", (unsigned long long)w->options->seed);
    return sl_gguf_write_str(out, "sluice.widen.seed", seed, err);
}

static sl_status declare_tensors(widening *w, sl_error *err)
{
    uint32_t factor = w->options->factor;
    for (size_t i = 0; i < sl_gguf_tensor_count(w->in); i++) {
        const sl_gguf_tensor *t = sl_gguf_tensor_at(w->in, i);
        const sli_widen_role *role = sli_widen_role_of(t->name);
        uint32_t type = target_type(w, t, role);
        uint64_t shape[2] = {t->shape[0] * (role->columns == SLI_WIDEN_KEEP ? 1 : factor), t->shape[1] * (role->copy_rows ? factor : 1)};
        char name[64]; /* a known role: "blk.", up to ten digits, "." and a name from the table */
        snprintf(name, sizeof(name), "%.*s", (int)t->name.length, t->name.data);
        SL_TRY(sl_gguf_write_tensor(w->output.writer, name, type, shape, t->dims, err));
        w->output.total_bytes += sl_row_bytes(type, shape[0]) * shape[1];
    }
    return SL_OK;
}

/* ---- the data ---- */

static sl_status read_exactly(const widening *w, uint8_t *to, size_t bytes, uint64_t offset, sl_error *err)
{
    for (size_t done = 0; done < bytes;) {
        ssize_t got = pread(w->fd, to + done, bytes - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return sl_fail(err, SL_IO, "%s: cannot read at byte %llu: %s", sl_gguf_path(w->in), (unsigned long long)(offset + done),
                           strerror(errno));
        if (got == 0)
            return sl_fail(err, SL_IO, "%s: ended at byte %llu while it was being read", sl_gguf_path(w->in),
                           (unsigned long long)(offset + done));
        done += (size_t)got;
    }
    return SL_OK;
}

/* One source row in the target type, its values times `gain`; `row` itself where nothing changes. */
static const uint8_t *convert_row(const widening *w, uint32_t from, uint32_t to, uint64_t elements, float gain, const uint8_t *row)
{
    if (from == to && gain == 1.0f)
        return row;
    w->reference->dequantize_row(from, row, (uint32_t)elements, w->floats);
    for (uint64_t i = 0; i < elements; i++)
        w->floats[i] *= gain;
    sl_quantize_row(to, w->floats, elements, w->small);
    return w->small;
}

static sl_status put_row(widening *w, size_t tensor, uint64_t wide_row, const sli_widen_role *role, uint32_t type, uint64_t elements,
                         const uint8_t *row, sl_error *err)
{
    size_t bytes = sl_row_bytes(type, elements);
    if (role->columns == SLI_WIDEN_KEEP)
        return sli_tool_put(&w->output, row, bytes, err);
    uint64_t random = sli_random_row(w->options->seed, tensor, wide_row);
    sli_widen_row(type, role->columns, elements, w->options->factor, row, random, w->wide);
    return sli_tool_put(&w->output, w->wide, bytes * w->options->factor, err);
}

static sl_status widen_tensor(widening *w, size_t index, sl_error *err)
{
    const sl_gguf_tensor *t = sl_gguf_tensor_at(w->in, index);
    const sli_widen_role *role = sli_widen_role_of(t->name);
    uint32_t type = target_type(w, t, role), copies = role->copy_rows ? w->options->factor : 1;
    size_t row_bytes = sl_row_bytes(t->type, t->shape[0]);
    uint64_t rows = t->shape[1], rows_at_once = w->raw_bytes / row_bytes;

    /* With tied embeddings each logit sums over `factor` copies of the embedding, which cannot be shared out: the norm before is. */
    bool before_tied_head = w->tied && sl_str_equal(t->name, "output_norm.weight");
    float gain = before_tied_head ? 1.0f / (float)w->options->factor : 1.0f;

    for (uint32_t copy = 0; copy < copies; copy++) {
        for (uint64_t first = 0; first < rows; first += rows_at_once) {
            uint64_t count = rows - first < rows_at_once ? rows - first : rows_at_once;
            SL_TRY(read_exactly(w, w->raw, (size_t)count * row_bytes, t->offset + first * row_bytes, err));
            for (uint64_t r = 0; r < count; r++) {
                const uint8_t *row = convert_row(w, t->type, type, t->shape[0], gain, w->raw + r * row_bytes);
                /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): a converted row is w->small, which is freed with w */
                SL_TRY(put_row(w, index, copy * rows + first + r, role, type, t->shape[0], row, err));
            }
        }
    }
    (void)posix_fadvise(w->fd, (off_t)t->offset, (off_t)t->bytes, POSIX_FADV_DONTNEED);
    return SL_OK;
}

/* Says what --type did, once, where it did something. */
static void tell_requantised(const widening *w)
{
    size_t changed = 0;
    for (size_t i = 0; i < sl_gguf_tensor_count(w->in); i++) {
        const sl_gguf_tensor *t = sl_gguf_tensor_at(w->in, i);
        changed += target_type(w, t, sli_widen_role_of(t->name)) != t->type;
    }
    if (!changed || !w->options->watch.note)
        return;
    char line[192];
    snprintf(line, sizeof(line),
             "requantised %zu matrices of the small model to %s before widening: they lose precision once, as any requantising does",
             changed, sl_format_of(w->options->type)->name);
    w->options->watch.note(w->options->watch.ctx, line);
}

static sl_status allocate_rows(widening *w, sl_error *err)
{
    size_t row_bytes = w->longest * sizeof(float); /* no format is wider than F32 */
    w->raw_bytes = row_bytes > READ_BYTES ? row_bytes : READ_BYTES;
    w->raw = malloc(w->raw_bytes);
    w->floats = malloc(row_bytes);
    w->small = malloc(row_bytes);
    w->wide = malloc(row_bytes * w->options->factor);
    if (!w->raw || !w->floats || !w->small || !w->wide)
        return sl_fail(err, SL_NO_MEMORY, "%s: no memory for rows of %zu elements", w->options->out_path, w->longest);
    return SL_OK;
}

static sl_status write_model(widening *w, sl_error *err)
{
    SL_TRY(allocate_rows(w, err));
    SL_TRY(write_values(w, err));
    SL_TRY(declare_tensors(w, err));
    SL_TRY(sl_gguf_writer_begin_data(w->output.writer, err));
    tell_requantised(w);
    for (size_t i = 0; i < sl_gguf_tensor_count(w->in); i++)
        SL_TRY(widen_tensor(w, i, err));
    return SL_OK;
}

static sl_status check_options(const sl_widen_options *o, sl_error *err)
{
    if (o->factor < 1 || o->factor > SL_WIDEN_FACTOR_MAX)
        return sl_fail(err, SL_INVALID, "factor %u, must be in 1..%u", o->factor, SL_WIDEN_FACTOR_MAX);
    if (o->change_type && !sl_quantize_knows(o->type))
        return sl_fail(err, SL_INVALID, "cannot requantise to type %u (%s); F32, F16, BF16, Q4_0, Q4_1, Q5_0 and Q8_0 are known", o->type,
                       sl_format_of(o->type) ? sl_format_of(o->type)->name : "undefined");
    struct stat in, out;
    if (stat(o->in_path, &in) == 0 && stat(o->out_path, &out) == 0 && in.st_dev == out.st_dev && in.st_ino == out.st_ino)
        return sl_fail(err, SL_INVALID, "%s: is the model to widen; name another file to write", o->out_path);
    return SL_OK;
}

sl_status sl_widen(const sl_widen_options *options, sl_error *err)
{
    SL_TRY(check_options(options, err));
    widening w = {.options = options, .fd = -1, .reference = sl_kernels_for(SL_ISA_SCALAR), .output = {.watch = &options->watch}};
    SL_TRY(sl_gguf_open(options->in_path, &w.in, err));
    sl_status status = sl_gguf_check_single(w.in, "widen", err);
    if (status == SL_OK)
        status = check_model(&w, err);
    if (status == SL_OK && (w.fd = open(options->in_path, O_RDONLY | O_CLOEXEC)) < 0)
        status = sl_fail(err, SL_IO, "%s: cannot open it: %s", options->in_path, strerror(errno));
    if (status == SL_OK)
        status = sl_gguf_writer_create(options->out_path, sl_gguf_alignment(w.in), &w.output.writer, err);
    if (status == SL_OK) {
        status = write_model(&w, err);
        if (status == SL_OK)
            status = sl_gguf_writer_finish(w.output.writer, err);
        else
            sl_gguf_writer_discard(w.output.writer);
    }
    free(w.wide);
    free(w.small);
    free(w.floats);
    free(w.raw);
    if (w.fd >= 0)
        close(w.fd);
    sl_gguf_close(w.in);
    return status;
}
