/* offload/prune/output.c: see output.h. */
#include "offload/prune/output.h"
#include "offload/tools/quantize.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#define PIECE_BYTES       ((size_t)1 << 20)
#define ELEMENT_BYTES_MAX 4 /* of any format */
#define NO_LAYER          UINT32_MAX
#define HEAD_BYTES        30 /* of the state file: "sluice prune ", sixteen digits, a newline */
#define LINE_BYTES        23 /* sixteen digits, " layer", a newline */

/* ---- types ---- */

bool sli_prune_type_works(uint32_t type)
{
    switch (type) {
    case SL_TYPE_F32:
    case SL_TYPE_F16:
    case SL_TYPE_BF16:
    case SL_TYPE_Q8_0:
    case SL_TYPE_Q5_0:
    case SL_TYPE_Q4_0: return true;
    default: return false;
    }
}

/* The layer of "blk.N.…". */
static uint32_t layer_of(sl_str name)
{
    uint32_t layer = 0;
    size_t i = 4;
    if (name.length < 6 || memcmp(name.data, "blk.", 4) != 0)
        return NO_LAYER;
    for (; i < name.length && name.data[i] >= '0' && name.data[i] <= '9' && layer < SL_LAYERS_MAX; i++)
        layer = layer * 10 + (uint32_t)(name.data[i] - '0');
    return i > 4 && i < name.length && name.data[i] == '.' ? layer : NO_LAYER;
}

/* The role of a tensor that is written anew; SL_ROLE_NONE for what is copied. Where neurons go, gate, up with its biases, and down; else all
 * matrices. */
static sl_tensor_role written_role(const sli_prune_output *o, const sl_gguf_tensor *t)
{
    uint32_t layer = layer_of(t->name);
    if (layer < o->first_layer || layer >= o->end_layer)
        return SL_ROLE_NONE;
    for (int i = o->only_feed_forward ? 4 : 0; i < SLI_PRUNE_MATRICES; i++)
        if (sl_model_tensor(o->model, sli_prune_roles[i], layer) == t)
            return sli_prune_roles[i];
    if (o->keep_ff < o->model->ff && sl_model_tensor(o->model, SL_ROLE_FFN_UP_BIAS, layer) == t)
        return SL_ROLE_FFN_UP_BIAS;
    return SL_ROLE_NONE;
}

static uint32_t type_of(const sli_prune_output *o, const sl_gguf_tensor *t)
{
    return o->type == SLI_PRUNE_SAME_TYPE || t->shape[1] == 1 ? t->type : o->type; /* a vector stays F32 */
}

sl_status sli_prune_check_types(const sli_prune_output *o, bool zeros, sl_error *err)
{
    for (size_t i = 0; i < sl_gguf_tensor_count(o->in); i++) {
        const sl_gguf_tensor *t = sl_gguf_tensor_at(o->in, i);
        sl_tensor_role role = written_role(o, t);
        if (role == SL_ROLE_NONE)
            continue;
        const sl_format *format = sl_format_of(type_of(o, t));
        uint64_t cols = role == SL_ROLE_FFN_DOWN || role == SL_ROLE_FFN_UP_BIAS ? o->keep_ff : t->shape[0];
        if (zeros ? !sli_prune_type_works(type_of(o, t)) : !sl_quantize_knows(type_of(o, t)))
            return sl_fail(err, o->type == SLI_PRUNE_SAME_TYPE ? SL_UNSUPPORTED : SL_INVALID,
                           "%s: tensor \"%.*s\" would be %s, %s; --type " SLI_PRUNE_TYPES " works", sl_gguf_path(o->in),
                           (int)t->name.length, t->name.data, format->name,
                           zeros ? "in which a zero does not stay a zero or which is read but not made" : "which is read but not made");
        if (cols % format->block_elements != 0)
            return sl_fail(
                err, SL_UNSUPPORTED, "%s: tensor \"%.*s\" has rows of %llu elements, %s wants a multiple of %u; --type F16 works",
                sl_gguf_path(o->in), (int)t->name.length, t->name.data, (unsigned long long)cols, format->name, format->block_elements);
    }
    return SL_OK;
}

/* ---- the header ---- */

static bool dropped(const sli_prune_output *o, sl_str key)
{
    uint32_t ignored;
    static const char prefix[] = "sluice.prune.";
    bool new_file_type = o->type != SLI_PRUNE_SAME_TYPE && sli_file_type_of(o->type, &ignored);
    return sl_str_equal(key, "general.alignment") || (new_file_type && sl_str_equal(key, "general.file_type")) ||
           (key.length > strlen(prefix) && memcmp(key.data, prefix, strlen(prefix)) == 0);
}

static bool is_ff_length(const sli_prune_output *o, sl_str key)
{
    char name[96];
    snprintf(name, sizeof name, "%s.feed_forward_length", o->model->arch->name);
    return sl_str_equal(key, name);
}

static sl_status write_record(sl_gguf_writer *w, const sli_prune_record *r, sl_error *err)
{
    SL_TRY(sl_gguf_write_str(w, "sluice.prune.method", r->method, err));
    if (r->neurons > 0) {
        SL_TRY(sl_gguf_write_f32(w, "sluice.prune.neurons", (float)r->neurons, err));
        SL_TRY(sl_gguf_write_bool(w, "sluice.prune.refit", r->refit, err));
        SL_TRY(sl_gguf_write_bool(w, "sluice.prune.zeroed", r->zeroed, err));
    } else {
        SL_TRY(sl_gguf_write_f32(w, "sluice.prune.density", (float)r->density, err));
    }
    if (r->global)
        SL_TRY(sl_gguf_write_str(w, "sluice.prune.rates", "global", err));
    if (r->pattern != NULL)
        SL_TRY(sl_gguf_write_str(w, "sluice.prune.pattern", r->pattern, err));
    SL_TRY(sl_gguf_write_u32(w, "sluice.prune.tokens", r->tokens, err));
    SL_TRY(sl_gguf_write_u32(w, "sluice.prune.first_layer", r->first_layer, err));
    return sl_gguf_write_u32(w, "sluice.prune.end_layer", r->end_layer, err);
}

static sl_status write_values(sli_prune_output *o, const sli_prune_record *record, sl_error *err)
{
    uint32_t file_type;
    for (size_t i = 0; i < sl_gguf_value_count(o->in); i++) {
        const sl_gguf_value *value = sl_gguf_value_at(o->in, i);
        char key[96];
        snprintf(key, sizeof key, "%.*s", (int)value->key.length, value->key.data);
        if (is_ff_length(o, value->key))
            SL_TRY(sl_gguf_write_u32(o->writer, key, o->keep_ff, err));
        else if (!dropped(o, value->key))
            SL_TRY(sl_gguf_write_value(o->writer, value, err));
    }
    if (o->type != SLI_PRUNE_SAME_TYPE && sli_file_type_of(o->type, &file_type))
        SL_TRY(sl_gguf_write_u32(o->writer, "general.file_type", file_type, err));
    return write_record(o->writer, record, err);
}

static sl_status declare(sli_prune_output *o, const sl_gguf_tensor *t, sl_error *err)
{
    sl_tensor_role role = written_role(o, t);
    uint64_t shape[4] = {t->shape[0], t->shape[1], t->shape[2], t->shape[3]};
    char name[128];
    snprintf(name, sizeof name, "%.*s", (int)t->name.length, t->name.data);
    if (role == SL_ROLE_FFN_DOWN || role == SL_ROLE_FFN_UP_BIAS)
        shape[0] = o->keep_ff;
    if (role == SL_ROLE_FFN_GATE || role == SL_ROLE_FFN_UP)
        shape[1] = o->keep_ff;
    return sl_gguf_write_tensor(o->writer, name, role == SL_ROLE_NONE ? t->type : type_of(o, t), shape, t->dims, err);
}

/* Calls for each tensor of a layer, in the input's order. */
static sl_status each_tensor(sli_prune_output *o, uint32_t layer, const sli_layer *from,
                             sl_status (*call)(sli_prune_output *, const sl_gguf_tensor *, const sli_layer *, sl_error *), sl_error *err)
{
    for (size_t i = 0; i < sl_gguf_tensor_count(o->in); i++) {
        const sl_gguf_tensor *t = sl_gguf_tensor_at(o->in, i);
        if (layer_of(t->name) == layer)
            SL_TRY(call(o, t, from, err));
    }
    return SL_OK;
}

static sl_status declare_one(sli_prune_output *o, const sl_gguf_tensor *t, const sli_layer *from, sl_error *err)
{
    (void)from;
    return declare(o, t, err);
}

static sl_status declare_all(sli_prune_output *o, sl_error *err)
{
    SL_TRY(each_tensor(o, NO_LAYER, NULL, declare_one, err));
    for (uint32_t layer = 0; layer < o->model->layers; layer++)
        SL_TRY(each_tensor(o, layer, NULL, declare_one, err));
    return SL_OK;
}

/* ---- reading ---- */

static const char *path_of(const sli_prune_output *o)
{
    return sl_gguf_path(o->in);
}

sl_status sli_prune_input_read(void *ctx, const sl_gguf_tensor *tensor, uint64_t offset, void *to, size_t bytes, sl_error *err)
{
    const sli_prune_output *o = ctx;
    for (size_t done = 0; done < bytes;) {
        ssize_t n = pread(o->fd, (char *)to + done, bytes - done, (off_t)(tensor->offset + offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return sl_fail(err, SL_IO, "%s: cannot be read: %s", path_of(o), n < 0 ? strerror(errno) : "it ends early");
        done += (size_t)n;
    }
    posix_fadvise(o->fd, (off_t)(tensor->offset + offset), (off_t)bytes, POSIX_FADV_DONTNEED); /* the cgroup counts the page cache */
    return SL_OK;
}

const sl_gguf_tensor *sli_prune_input_tensor(void *ctx, sl_tensor_role role, uint32_t layer)
{
    const sli_prune_output *o = ctx;
    return sl_model_tensor(o->model, role, layer);
}

sl_status sli_prune_output_read(void *ctx, const sl_gguf_tensor *tensor, uint64_t offset, void *to, size_t bytes, sl_error *err)
{
    sli_prune_output *o = ctx;
    return sl_gguf_writer_read(o->writer, tensor->offset + offset, to, bytes, err);
}

const sl_gguf_tensor *sli_prune_output_tensor(void *ctx, sl_tensor_role role, uint32_t layer)
{
    sli_prune_output *o = ctx;
    const sl_gguf_tensor *t = sl_model_tensor(o->model, role, layer);
    return t == NULL ? NULL : sl_gguf_find_tensor_named(sl_gguf_writer_header(o->writer), t->name);
}

/* ---- layers that are there already ---- */

static sl_status checksum_layer(sli_prune_output *o, uint32_t layer, uint64_t *out, sl_error *err)
{
    const sl_gguf *header = sl_gguf_writer_header(o->writer);
    uint64_t sum = layer;
    for (size_t i = 0; i < sl_gguf_tensor_count(header); i++) {
        const sl_gguf_tensor *t = sl_gguf_tensor_at(header, i);
        if (layer_of(t->name) != layer)
            continue;
        for (uint64_t at = 0; at < t->bytes; at += PIECE_BYTES) {
            size_t n = t->bytes - at < PIECE_BYTES ? (size_t)(t->bytes - at) : PIECE_BYTES;
            SL_TRY(sl_gguf_writer_read(o->writer, t->offset + at, o->piece, n, err));
            sum = XXH64(o->piece, n, sum);
        }
    }
    *out = sum;
    return SL_OK;
}

/* Sixteen hexadecimal digits, as they were written. */
static bool read_number(const char *text, uint64_t *out)
{
    char digits[17], *end;
    memcpy(digits, text, 16);
    digits[16] = '\0';
    *out = strtoull(digits, &end, 16);
    return end == digits + 16;
}

/* How many layers the state file knows, as far as it is of this fingerprint. */
static uint32_t read_state(sli_prune_output *o)
{
    char head[HEAD_BYTES], line[LINE_BYTES];
    uint64_t asked;
    uint32_t count = 0;
    int fd = open(o->state_path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    if (read(fd, head, HEAD_BYTES) == HEAD_BYTES && memcmp(head, "sluice prune ", 13) == 0 && read_number(head + 13, &asked) &&
        asked == o->fingerprint)
        while (count < o->model->layers && read(fd, line, LINE_BYTES) == LINE_BYTES && read_number(line, &o->checksums[count]))
            count++;
    close(fd);
    return count;
}

/* "sluice prune FINGERPRINT", then a line for each layer. Opened to append, so that a kill in the middle costs a layer at most. */
static sl_status append_state(const sli_prune_output *o, sl_error *err)
{
    char line[64];
    bool first = o->done_layers == 1;
    int fd = open(o->state_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | (first ? O_TRUNC : 0), 0666);
    int head = first ? snprintf(line, sizeof line, "sluice prune %016" PRIx64 "\n", o->fingerprint) : 0;
    int length = head + snprintf(line + head, sizeof line - (size_t)head, "%016" PRIx64 " layer\n", o->checksums[o->done_layers - 1]);
    bool good = fd >= 0 && write(fd, line, (size_t)length) == length;
    int why = errno;
    if (fd >= 0)
        good = close(fd) == 0 && good;
    return good ? SL_OK : sl_fail(err, SL_IO, "%s: cannot be written: %s", o->state_path, strerror(why));
}

static sl_status take_up(sli_prune_output *o, bool resumed, sl_error *err)
{
    uint32_t known = resumed ? read_state(o) : 0;
    for (; o->done_layers < known; o->done_layers++) {
        uint64_t sum;
        SL_TRY(checksum_layer(o, o->done_layers, &sum, err));
        if (sum != o->checksums[o->done_layers])
            break;
    }
    /* Lines of layers that did not hold would come before those that are written now. */
    if (o->done_layers < known && truncate(o->state_path, o->done_layers > 0 ? HEAD_BYTES + o->done_layers * LINE_BYTES : 0) != 0)
        return sl_fail(err, SL_IO, "%s: cannot be cut: %s", o->state_path, strerror(errno));
    return SL_OK;
}

static sl_status skip_one(sli_prune_output *o, const sl_gguf_tensor *t, const sli_layer *from, sl_error *err)
{
    (void)t;
    (void)from;
    return sl_gguf_writer_skip(o->writer, err);
}

/* ---- writing ---- */

static sl_status copy_tensor(sli_prune_output *o, const sl_gguf_tensor *t, sl_error *err)
{
    for (uint64_t at = 0; at < t->bytes; at += PIECE_BYTES) {
        size_t n = t->bytes - at < PIECE_BYTES ? (size_t)(t->bytes - at) : PIECE_BYTES;
        SL_TRY(sli_prune_input_read(o, t, at, o->piece, n, err));
        SL_TRY(sl_gguf_writer_data(o->writer, o->piece, n, err));
    }
    return SL_OK;
}

static sl_status write_tensor(sli_prune_output *o, const sl_gguf_tensor *t, const sli_layer *from, sl_error *err)
{
    sl_tensor_role role = written_role(o, t);
    if (role == SL_ROLE_NONE || from == NULL)
        return copy_tensor(o, t, err);
    if (role == SL_ROLE_FFN_UP_BIAS)
        return sl_gguf_writer_data(o->writer, from->at[role], from->ff * sizeof(float), err);
    uint32_t rows = sli_layer_rows(from, role), cols = sli_layer_cols(from, role), type = type_of(o, t);
    for (uint32_t row = 0; row < rows; row++) {
        sl_quantize_row(type, from->at[role] + (size_t)row * cols, cols, o->row);
        o->kernels->dequantize_row(type, o->row, cols, o->floats);
        for (uint32_t i = 0; i < cols; i++)
            o->zeros += o->floats[i] == 0;
        SL_TRY(sl_gguf_writer_data(o->writer, o->row, sl_row_bytes(type, cols), err));
    }
    o->weights += (uint64_t)rows * cols;
    return SL_OK;
}

void sli_prune_output_round(const sli_prune_output *o, sli_layer *layer, sl_tensor_role role)
{
    const sl_gguf_tensor *t = sl_model_tensor(o->model, role, layer->index);
    if (t == NULL || written_role(o, t) == SL_ROLE_NONE)
        return;
    uint32_t rows = sli_layer_rows(layer, role), cols = sli_layer_cols(layer, role);
    for (uint32_t row = 0; row < rows; row++) {
        float *w = layer->at[role] + (size_t)row * cols;
        sl_quantize_row(type_of(o, t), w, cols, o->row);
        o->kernels->dequantize_row(type_of(o, t), o->row, cols, w);
    }
}

sl_status sli_prune_output_layer(sli_prune_output *o, const sli_layer *layer, sl_error *err)
{
    uint32_t index = o->done_layers;
    SL_TRY(each_tensor(o, index, layer, write_tensor, err));
    SL_TRY(checksum_layer(o, index, &o->checksums[index], err));
    o->done_layers++;
    return append_state(o, err);
}

/* ---- the file ---- */

static sl_status allocate(sli_prune_output *o, sl_error *err)
{
    const sl_model *m = o->model;
    size_t longest = m->ff > m->d ? m->ff : m->d, q = (size_t)m->heads * m->head_dim, length = strlen(o->path);
    longest = longest > q ? longest : q;
    o->checksums = calloc(m->layers, sizeof *o->checksums);
    o->row = calloc(longest, ELEMENT_BYTES_MAX);
    o->floats = malloc(longest * sizeof(float));
    o->piece = malloc(PIECE_BYTES);
    o->state_path = malloc(length + sizeof ".partial.layers");
    if (o->checksums == NULL || o->row == NULL || o->floats == NULL || o->piece == NULL || o->state_path == NULL)
        return sl_fail(err, SL_NO_MEMORY, "%s: out of memory for its rows", o->path);
    memcpy(o->state_path, o->path, length);
    memcpy(o->state_path + length, ".partial.layers", sizeof ".partial.layers");
    return SL_OK;
}

sl_status sli_prune_output_open(sli_prune_output *o, const sli_prune_record *record, sl_error *err)
{
    bool resumed;
    SL_TRY(allocate(o, err));
    SL_TRY(sl_gguf_writer_create(o->path, sl_gguf_alignment(o->in), &o->writer, err));
    SL_TRY(write_values(o, record, err));
    SL_TRY(declare_all(o, err));
    SL_TRY(sl_gguf_writer_resume_data(o->writer, &resumed, err));
    SL_TRY(take_up(o, resumed, err));
    SL_TRY(each_tensor(o, NO_LAYER, NULL, write_tensor, err));
    for (uint32_t layer = 0; layer < o->done_layers; layer++)
        SL_TRY(each_tensor(o, layer, NULL, skip_one, err));
    return SL_OK;
}

sl_status sli_prune_output_finish(sli_prune_output *o, sl_error *err)
{
    sl_gguf_writer *writer = o->writer;
    o->writer = NULL;
    SL_TRY(sl_gguf_writer_finish(writer, err));
    (void)unlink(o->state_path); /* it may be gone */
    return SL_OK;
}

bool sli_prune_output_close(sli_prune_output *o)
{
    bool keep = o->writer != NULL && o->done_layers > 0;
    if (keep)
        sl_gguf_writer_keep(o->writer);
    else
        sl_gguf_writer_discard(o->writer);
    if (o->writer != NULL && !keep && o->state_path != NULL)
        (void)unlink(o->state_path);
    o->writer = NULL;
    free(o->checksums);
    free(o->row);
    free(o->floats);
    free(o->piece);
    free(o->state_path);
    return keep;
}
