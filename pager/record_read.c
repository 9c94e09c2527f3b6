/* pager/record_read.c: reads the file of a record, and checks all of it once, so that walking it needs no further looks. */
#include "pager/pager_private.h"
#include "pager/record_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#define UNITS_MAX   ((uint64_t)1 << 22)
#define LAYERS_MAX  ((uint64_t)1 << 16)
#define UNIT_BYTES  16
#define LAYER_BYTES 24
#define HEAD_BYTES  (8 + 8 * SLI_RECORD_NUMBERS)
#define FILE_MAX    ((uint64_t)8 << 30)

static uint64_t load(const uint8_t *at, unsigned bytes)
{
    uint64_t number = 0;
    for (unsigned i = 0; i < bytes; i++)
        number |= (uint64_t)at[i] << 8 * i;
    return number;
}

/* ---- events ---- */

typedef struct scanner {
    const sl_record_file *file;
    uint64_t at;
    bool good;
} scanner;

static uint64_t number(scanner *s)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        if (s->at >= s->file->head.event_bytes)
            break;
        uint8_t byte = s->file->events[s->at++];
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return value;
    }
    s->good = false;
    return 0;
}

static uint32_t number_below(scanner *s, uint64_t limit)
{
    uint64_t value = number(s);
    s->good &= value < limit;
    return s->good ? (uint32_t)value : 0;
}

/* A list of `count` numbers, each at least a byte long. */
static uint32_t length_of(scanner *s)
{
    return number_below(s, s->file->head.event_bytes - s->at + 1);
}

static uint64_t layer_count_of(const scanner *s, uint32_t layer)
{
    return layer < s->file->head.layer_count ? s->file->layers[layer].count : 0;
}

static void scan_places(scanner *s, sl_record_event *e, uint32_t *list)
{
    uint64_t place = 0, limit = layer_count_of(s, (uint32_t)e->number);
    e->count = length_of(s);
    for (uint32_t i = 0; i < e->count && s->good; i++) {
        place = i == 0 ? number(s) : place + 1 + number_below(s, UINT32_MAX);
        s->good &= place < limit;
        if (list != NULL)
            list[i] = (uint32_t)place;
    }
}

static void scan_plan(scanner *s, sl_record_event *e, uint32_t *list)
{
    int64_t unit = 0;
    e->count = length_of(s);
    for (uint32_t i = 0; i < e->count && s->good; i++) {
        uint64_t step = number_below(s, UINT32_MAX);
        unit += (step & 1) != 0 ? -(int64_t)((step + 1) / 2) : (int64_t)(step / 2);
        s->good &= unit >= 0 && (uint64_t)unit < s->file->head.unit_count;
        if (list != NULL)
            list[i] = (uint32_t)unit;
    }
}

static void scan_wide(scanner *s, sl_record_event *e, uint64_t *wide)
{
    e->count = length_of(s);
    for (uint32_t i = 0; i < e->count && s->good; i++) {
        uint64_t value = number(s);
        s->good &= value < (uint64_t)INT64_MAX / 2;
        if (wide != NULL)
            wide[i] = value;
    }
}

/* The event at s->at; lists are left out where there is no room for them. */
static void scan(scanner *s, sl_record_event *e, uint32_t *list, uint64_t *wide)
{
    const sl_record_head *h = &s->file->head;
    *e = (sl_record_event){.op = (sl_record_op)s->file->events[s->at++], .list = list, .wide = wide};
    switch (e->op) {
    case SL_RECORD_CANCEL:
    case SL_RECORD_POLL:
    case SL_RECORD_RETRY:
    case SL_RECORD_BUNDLES_POLL: break;
    case SL_RECORD_PASS: e->number = number_below(s, UINT32_MAX); break;
    case SL_RECORD_PLAN: scan_plan(s, e, list); break;
    case SL_RECORD_ACQUIRE:
    case SL_RECORD_USE:
        e->number = number_below(s, h->unit_count);
        e->compute_ns = number(s);
        break;
    case SL_RECORD_SETTLE:
    case SL_RECORD_RELEASE:
    case SL_RECORD_READY: e->number = number_below(s, h->unit_count); break;
    case SL_RECORD_SMALL:
        e->file = number_below(s, UINT16_MAX);
        e->bytes = number_below(s, UINT32_MAX);
        s->good &= e->bytes > 0;
        e->compute_ns = number(s);
        scan_wide(s, e, wide);
        break;
    case SL_RECORD_PREFETCH:
    case SL_RECORD_FETCH:
        e->number = number_below(s, h->layer_count);
        e->compute_ns = number(s);
        scan_places(s, e, list);
        s->good &= e->op == SL_RECORD_PREFETCH || e->count <= h->wanted_max;
        break;
    case SL_RECORD_BUNDLES_READY:
        e->number = number_below(s, h->layer_count);
        scan_places(s, e, list);
        break;
    case SL_RECORD_DONE: e->number = number_below(s, h->layer_count); break;
    case SL_RECORD_OFFER:
        e->number = number_below(s, h->layer_count);
        e->first = number_below(s, layer_count_of(s, (uint32_t)e->number));
        e->count = number_below(s, layer_count_of(s, (uint32_t)e->number) - e->first + 1);
        break;
    case SL_RECORD_REAP:
        e->number = number_below(s, 2);
        e->empty = number(s);
        scan_wide(s, e, wide);
        break;
    case SL_RECORD_OPS:
    default: s->good = false; break;
    }
    s->good &= e->compute_ns < (uint64_t)1 << 53;
}

/* ---- the file ---- */

static sl_status wrong(const char *path, const char *what, sl_error *err)
{
    return sl_fail(err, SL_FORMAT, "%s: %s", path, what);
}

static sl_status check_head(const char *path, const sl_record_head *h, uint64_t length, sl_error *err)
{
    if (h->version != SLI_RECORD_VERSION)
        return sl_fail(err, SL_UNSUPPORTED, "%s: a record of version %llu; this program reads version %u", path,
                       (unsigned long long)h->version, SLI_RECORD_VERSION);
    if (h->unit_count == 0 || h->unit_count > UNITS_MAX || h->layer_count > LAYERS_MAX || h->name_bytes > 65536 ||
        h->event_bytes > length ||
        HEAD_BYTES + h->unit_count * UNIT_BYTES + h->layer_count * LAYER_BYTES + h->name_bytes + h->event_bytes + 8 != length)
        return wrong(path, "its tables do not fill the file; it was cut or is no record", err);
    bool power = h->alignment > 0 && h->alignment <= 65536 && (h->alignment & (h->alignment - 1)) == 0;
    if (!power || h->ring_bytes > (uint64_t)1 << 32 || h->plan_max == 0 || h->plan_max > 4 * UNITS_MAX || h->depth == 0 || h->depth > 65536)
        return wrong(path, "the pager that it describes cannot be", err);
    power = h->bundle_alignment > 0 && h->bundle_alignment <= 65536 && (h->bundle_alignment & (h->bundle_alignment - 1)) == 0;
    if (h->layer_count > 0 && (!power || h->wanted_max == 0 || h->wanted_max > (uint32_t)1 << 24 || h->stage_bytes > (uint64_t)1 << 31 ||
                               h->gap_bytes > UINT32_MAX || h->request_bytes == 0 || h->request_bytes > (uint64_t)1 << 26 ||
                               h->policy > SL_BUNDLES_FREQUENT || h->bundle_depth == 0 || h->bundle_depth > 65536 || h->file > UINT16_MAX))
        return wrong(path, "the cache of neurons that it describes cannot be", err);
    return SL_OK;
}

static sl_status read_tables(const char *path, const uint8_t *at, sl_record_file *out, sl_error *err)
{
    const sl_record_head *h = &out->head;
    for (uint64_t i = 0; i < h->unit_count; i++, at += UNIT_BYTES) {
        out->unit_flags[i] = (uint16_t)load(at + 14, 2);
        out->units[i] = (sl_unit){.offset = load(at, 8),
                                  .bytes = (uint32_t)load(at + 8, 4),
                                  .file = (uint32_t)load(at + 12, 2),
                                  .home = (out->unit_flags[i] & SL_RECORD_HOME) != 0};
        if (out->units[i].bytes == 0 || out->units[i].bytes > (uint32_t)1 << 30 || out->units[i].offset > INT64_MAX / 2)
            return wrong(path, "a unit of it cannot be", err);
    }
    for (uint64_t i = 0; i < h->layer_count; i++, at += LAYER_BYTES) {
        sl_bundle_layer *l = &out->layers[i];
        *l = (sl_bundle_layer){load(at, 8), (uint32_t)load(at + 8, 4), (uint32_t)load(at + 12, 4), (uint32_t)load(at + 16, 4),
                               (uint32_t)load(at + 20, 4)};
        if (l->count == 0 && l->capacity == 0)
            continue;
        if (l->stride == 0 || l->stride > (uint32_t)1 << 26 || l->stride % SL_BUNDLE_ALIGNMENT != 0 ||
            l->offset % SL_BUNDLE_ALIGNMENT != 0 || l->offset > INT64_MAX / 2 || l->bytes == 0 || l->bytes > l->stride ||
            l->capacity > l->count || l->count > (uint32_t)1 << 24)
            return wrong(path, "a layer of it cannot be", err);
    }
    memcpy(out->name, at, h->name_bytes);
    out->events = at + h->name_bytes;
    return SL_OK;
}

/* All events, once; what the longest list has. */
static sl_status check_events(const char *path, sl_record_file *f, sl_error *err)
{
    scanner s = {.file = f, .good = true};
    sl_record_event e;
    uint64_t events = 0;
    while (s.good && s.at < f->head.event_bytes) {
        uint64_t at = s.at;
        scan(&s, &e, NULL, NULL);
        if (!s.good)
            return sl_fail(err, SL_FORMAT, "%s: the event at byte %llu of them is none", path, (unsigned long long)at);
        f->list_max = e.count > f->list_max ? e.count : f->list_max;
        events++;
    }
    return events == f->head.event_count ? SL_OK : wrong(path, "it has another number of events than it says", err);
}

static sl_status parse(const char *path, const uint8_t *bytes, uint64_t length, sl_record_file *out, sl_error *err)
{
    uint64_t numbers[SLI_RECORD_NUMBERS];
    if (length < HEAD_BYTES + 8 || memcmp(bytes, SLI_RECORD_MAGIC, 8) != 0)
        return wrong(path, "it is no record of accesses (run --record writes one)", err);
    for (size_t i = 0; i < SLI_RECORD_NUMBERS; i++)
        numbers[i] = load(bytes + 8 + 8 * i, 8);
    memcpy(&out->head, numbers, sizeof numbers);
    SL_TRY(check_head(path, &out->head, length, err));
    if (XXH64(bytes, length - 8, 0) != load(bytes + length - 8, 8))
        return wrong(path, "its checksum does not hold; it was damaged", err);
    out->units = calloc(out->head.unit_count, sizeof *out->units);
    out->unit_flags = calloc(out->head.unit_count, sizeof *out->unit_flags);
    out->layers = calloc(out->head.layer_count + 1, sizeof *out->layers);
    out->name = calloc(out->head.name_bytes + 1, 1);
    if (out->units == NULL || out->unit_flags == NULL || out->layers == NULL || out->name == NULL)
        return sl_fail(err, SL_NO_MEMORY, "%s: out of memory for its tables", path);
    SL_TRY(read_tables(path, bytes + HEAD_BYTES, out, err));
    return check_events(path, out, err);
}

sl_status sl_record_parse(const char *path, uint8_t *bytes, uint64_t length, sl_record_file *out, sl_error *err)
{
    *out = (sl_record_file){.memory = bytes};
    sl_status status = parse(path, bytes, length, out, err);
    if (status != SL_OK)
        sl_record_close(out);
    return status;
}

static sl_status read_whole(const char *path, int fd, uint8_t *to, uint64_t bytes, sl_error *err)
{
    for (uint64_t done = 0; done < bytes;) {
        ssize_t got = read(fd, to + done, bytes - done);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return sl_fail(err, SL_IO, "%s: cannot be read: %s", path, got < 0 ? strerror(errno) : "it shrank");
        done += (uint64_t)got;
    }
    return SL_OK;
}

sl_status sl_record_open(const char *path, sl_record_file *out, sl_error *err)
{
    struct stat st;
    *out = (sl_record_file){0};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return sl_fail(err, SL_IO, "%s: cannot be opened: %s", path, strerror(errno));
    uint8_t *bytes = NULL;
    sl_status status = SL_OK;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || (uint64_t)st.st_size > FILE_MAX)
        status = wrong(path, "it is no file of a record's size", err);
    else if ((bytes = malloc((size_t)st.st_size + 1)) == NULL)
        status = sl_fail(err, SL_NO_MEMORY, "%s: out of memory for its %lld bytes", path, (long long)st.st_size);
    else
        status = read_whole(path, fd, bytes, (uint64_t)st.st_size, err);
    (void)close(fd); /* it was only read */
    if (status == SL_OK)
        return sl_record_parse(path, bytes, (uint64_t)st.st_size, out, err);
    free(bytes);
    return status;
}

void sl_record_close(sl_record_file *f)
{
    free(f->units);
    free(f->unit_flags);
    free(f->layers);
    free(f->name);
    free(f->memory);
    *f = (sl_record_file){0};
}

/* ---- walking ---- */

sl_status sl_record_begin(const sl_record_file *file, sl_record_cursor *out, sl_error *err)
{
    *out = (sl_record_cursor){.file = file};
    out->list = malloc((file->list_max + (size_t)1) * sizeof *out->list);
    out->wide = malloc((file->list_max + (size_t)1) * sizeof *out->wide);
    if (out->list != NULL && out->wide != NULL)
        return SL_OK;
    sl_record_end(out);
    return sl_fail(err, SL_NO_MEMORY, "out of memory for lists of %u places", file->list_max);
}

bool sl_record_next(sl_record_cursor *c, sl_record_event *out)
{
    scanner s = {.file = c->file, .at = c->at, .good = true};
    if (c->at >= c->file->head.event_bytes)
        return false;
    scan(&s, out, c->list, c->wide);
    c->at = s.at;
    return true;
}

void sl_record_end(sl_record_cursor *c)
{
    free(c->list);
    free(c->wide);
    *c = (sl_record_cursor){0};
}
