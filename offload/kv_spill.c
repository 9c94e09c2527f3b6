/* offload/kv_spill.c: see kv_spill.h. */
#include "offload/kv_spill.h"
#include "core/os.h"
#include "offload/kv_place.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define TAIL_PAGES  3 /* that the rows of a tree can touch */
#define WINDOWS     SL_SPILL_GROUPS
#define WINDOW_PART 4 /* the windows of several heads together are worth at most one part in so many of the memory */
#define NOT_HERE    UINT32_MAX

_Static_assert((SL_TREE_ROWS + SL_KV_PAGE - 2) / SL_KV_PAGE + 1 == TAIL_PAGES, "sli_kv_copy finds all rows of a tree in the tail");

typedef struct geometry {
    uint32_t pages, spans, window_pages;
    size_t slot_bytes;                               /* of all kinds of a page */
    size_t resident_bytes, tail_bytes, window_bytes; /* one window */
} geometry;

struct sli_kv_spilled {
    sl_spill *file;
    const sl_model *model;
    geometry g;
    uint32_t resident_pages, group_heads, groups;
    uint32_t layers;          /* that are here: all, or those that a device leaves to host memory */
    uint32_t *layer_of;       /* [layers] which they are */
    uint32_t *index_of;       /* [layer] its place among them, or NOT_HERE */
    uint8_t *resident;        /* [span][resident_pages] slots; a span is a head of one of the layers */
    uint8_t *tail;            /* [span][TAIL_PAGES], page p in place p % TAIL_PAGES */
    uint8_t *window[WINDOWS]; /* [head of the group][window_pages] */
    uint32_t *on_file;        /* [span] pages before this one, the resident ones aside, are in the file */
    uint32_t *tail_page;      /* [span][TAIL_PAGES] page + 1; 0: none */
    /* the pass */
    uint32_t first_slot, end_slot;
    bool selective;
    uint32_t loading; /* the group, counted over all layers, whose reads were started last */
};

/* ---- the shape ---- */

static geometry geometry_of(const sl_model *m, const sli_kv_shape *shape)
{
    geometry g = {.pages = (shape->context + SL_KV_PAGE - 1) / SL_KV_PAGE, .spans = sli_kv_layers(m, shape) * m->kv_heads};
    for (int kind = 0; kind < SLI_KV_KINDS; kind++)
        g.slot_bytes += sli_kv_page_bytes(m, shape, kind);
    g.slot_bytes = (g.slot_bytes + shape->alignment - 1) / shape->alignment * shape->alignment;
    g.window_pages = g.pages - shape->resident_pages;
    g.resident_bytes = (size_t)g.spans * shape->resident_pages * g.slot_bytes;
    g.tail_bytes = (size_t)g.spans * TAIL_PAGES * g.slot_bytes;
    g.window_bytes = (size_t)shape->group_heads * g.window_pages * g.slot_bytes;
    return g;
}

static size_t arena_bytes(const geometry *g)
{
    return g->resident_bytes + g->tail_bytes + WINDOWS * g->window_bytes;
}

uint64_t sli_kv_spill_bytes(const sl_model *model, const sli_kv_shape *shape)
{
    geometry g = geometry_of(model, shape);
    size_t queue = (size_t)WINDOWS * (2 + shape->chosen_pages) * shape->group_heads * 4 * sizeof(uint64_t);
    size_t tables = ((size_t)g.spans * (1 + TAIL_PAGES) + sli_kv_layers(model, shape) + model->layers) * sizeof(uint32_t);
    return sl_pages_round(arena_bytes(&g)) + tables + sizeof(struct sli_kv_spilled) + queue + sli_kv_places_bytes(model, shape);
}

uint64_t sli_kv_places_bytes(const sl_model *model, const sli_kv_shape *shape)
{
    uint64_t tables = (uint64_t)WINDOWS * geometry_of(model, shape).pages * sizeof(sl_device_ptr);
    return shape->host_layers > 0 ? model->kv_heads * (tables + shape->chosen_pages * sizeof(uint32_t)) : 0;
}

uint64_t sli_kv_file_bytes(const sl_model *model, const sli_kv_shape *shape)
{
    geometry g = geometry_of(model, shape);
    return (uint64_t)g.spans * g.pages * g.slot_bytes;
}

bool sli_kv_fit(const sl_model *model, sli_kv_shape *shape, uint64_t memory_bytes)
{
    sli_kv_shape whole = *shape;
    whole.spill = false;
    shape->spill = true;
    shape->resident_pages = 0;
    shape->group_heads = shape->host_layers > 0 ? model->kv_heads : 1; /* a device attends to a layer at once */
    uint64_t least = sli_kv_price(model, shape), most = sli_kv_price(model, &whole);
    if (least >= most || memory_bytes >= most) { /* a short context: windows and tails would be more than all of it */
        *shape = whole;
        return memory_bytes == 0 || memory_bytes >= most;
    }
    if (memory_bytes == 0)
        return true;
    if (least > memory_bytes)
        return false;
    for (uint32_t heads = shape->group_heads + 1; heads <= model->kv_heads; heads++) {
        sli_kv_shape wider = *shape;
        wider.group_heads = heads;
        geometry g = geometry_of(model, &wider);
        if (model->kv_heads % heads == 0 && WINDOWS * g.window_bytes <= memory_bytes / WINDOW_PART &&
            sli_kv_price(model, &wider) <= memory_bytes)
            *shape = wider;
    }
    uint32_t fits = 0, too_many = (shape->context + SL_KV_PAGE - 1) / SL_KV_PAGE;
    while (too_many - fits > 1) {
        shape->resident_pages = (fits + too_many) / 2;
        *(sli_kv_price(model, shape) <= memory_bytes ? &fits : &too_many) = shape->resident_pages;
    }
    shape->resident_pages = fits;
    return true;
}

/* ---- places ---- */

static uint32_t span_of(const sli_kv *kv, uint32_t layer, uint32_t head)
{
    return kv->spilled->index_of[layer] * kv->kv_heads + head;
}

/* Of the table of pages, what is a span's. */
static const uint8_t **row_of(const sli_kv *kv, uint32_t span)
{
    size_t head = (size_t)kv->spilled->layer_of[span / kv->kv_heads] * kv->kv_heads + span % kv->kv_heads;
    return kv->pages + head * SLI_KV_KINDS * kv->page_count;
}

static uint8_t *tail_slot(const struct sli_kv_spilled *s, uint32_t span, uint32_t page)
{
    return s->tail + ((size_t)span * TAIL_PAGES + page % TAIL_PAGES) * s->g.slot_bytes;
}

static uint32_t *tail_claim(const struct sli_kv_spilled *s, uint32_t span, uint32_t page)
{
    return &s->tail_page[(size_t)span * TAIL_PAGES + page % TAIL_PAGES];
}

static bool in_tail(const struct sli_kv_spilled *s, uint32_t span, uint32_t page)
{
    return *tail_claim(s, span, page) == page + 1;
}

static uint8_t *window_slot(const struct sli_kv_spilled *s, uint32_t sequence, uint32_t head_in_group, uint32_t page)
{
    return s->window[sequence % WINDOWS] + ((size_t)head_in_group * s->g.window_pages + page - s->resident_pages) * s->g.slot_bytes;
}

static uint64_t file_offset(const struct sli_kv_spilled *s, uint32_t span, uint32_t page)
{
    return ((uint64_t)span * s->g.pages + page) * s->g.slot_bytes;
}

/* The table of pages says where attention finds this one. */
static void point(const sli_kv *kv, uint32_t span, uint32_t page, const uint8_t *slot)
{
    const uint8_t **row = row_of(kv, span) + page;
    for (int kind = 0; kind < SLI_KV_KINDS; kind++, row += kv->page_count) {
        *row = kv->page_bytes[kind] > 0 ? slot : NULL;
        slot += kv->page_bytes[kind];
    }
}

/* ---- a pass ---- */

static uint32_t first_page(const struct sli_kv_spilled *s)
{
    return s->first_slot / SL_KV_PAGE;
}
static uint32_t last_page(const struct sli_kv_spilled *s)
{
    return (s->end_slot - 1) / SL_KV_PAGE;
}
static uint32_t larger(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}
/* The first page that the pass writes and that does not stay. */
static uint32_t first_written(const struct sli_kv_spilled *s)
{
    return larger(first_page(s), s->resident_pages);
}
static bool writes_tail(const struct sli_kv_spilled *s)
{
    return last_page(s) - first_page(s) < TAIL_PAGES;
}
/* Rows from before the pass lie in its first page. */
static bool first_is_begun(const struct sli_kv_spilled *s)
{
    return first_page(s) >= s->resident_pages && s->first_slot % SL_KV_PAGE != 0;
}

static uint8_t *written_slot(const struct sli_kv_spilled *s, uint32_t sequence, uint32_t head_in_group, uint32_t span, uint32_t page)
{
    return writes_tail(s) ? tail_slot(s, span, page) : window_slot(s, sequence, head_in_group, page);
}

/* The first page that a layer's rows may see: not what lies before its window. A tree's rows begin at most so many slots before the pass's. */
static uint32_t first_in_sight(const struct sli_kv_spilled *s, uint32_t layer)
{
    uint64_t reach = (uint64_t)sl_model_window(s->model, layer) + SL_TREE_ROWS;
    bool windowed = reach > SL_TREE_ROWS && s->first_slot > reach;
    return windowed ? (uint32_t)(s->first_slot - reach) / SL_KV_PAGE : 0;
}
/* And does not stay. */
static uint32_t first_seen(const struct sli_kv_spilled *s, uint32_t layer)
{
    return larger(s->resident_pages, first_in_sight(s, layer));
}

/* Starts the reads of a group, counted over all layers: all pages in sight before the first written one, and that one where only the file has its beginning. */
static sl_status load_group(const sli_kv *kv, uint32_t sequence, sl_error *err)
{
    struct sli_kv_spilled *s = kv->spilled;
    uint32_t layer = s->layer_of[sequence / s->groups];
    uint32_t first_span = sequence * s->group_heads, from = first_seen(s, layer), to = first_page(s);
    s->loading = sequence;
    bool all = !sli_kv_fetches(kv, layer);
    for (uint32_t h = 0; h < s->group_heads; h++) {
        uint32_t span = first_span + h;
        if (to > from && all) {
            assert(s->on_file[span] >= to);
            SL_TRY(sl_spill_read(s->file, sequence % WINDOWS, file_offset(s, span, from), (to - from) * s->g.slot_bytes,
                                 window_slot(s, sequence, h, from), err));
        }
        if (first_is_begun(s) && !in_tail(s, span, to)) {
            if (writes_tail(s))
                *tail_claim(s, span, to) = 0; /* what lies in its place is older, and in the file, or was rolled back */
            SL_TRY(sl_spill_read(s->file, sequence % WINDOWS, file_offset(s, span, to), s->g.slot_bytes,
                                 written_slot(s, sequence, h, span, to), err));
        }
    }
    return SL_OK;
}

sl_status sli_kv_begin_pass(sli_kv *kv, uint32_t slot, uint32_t rows, bool selective, sl_error *err)
{
    struct sli_kv_spilled *s = kv->spilled;
    if (s == NULL)
        return SL_OK;
    sl_spill_forget(s->file); /* what a pass that failed had started */
    s->first_slot = slot;
    s->end_slot = slot + rows;
    s->selective = selective;
    return load_group(kv, 0, err);
}

uint32_t sli_kv_groups(const sli_kv *kv)
{
    return kv->spilled != NULL ? kv->spilled->groups : 1;
}

/* Of a page from before the pass: a tree that grows has rows there, which may be moved. What the pass writes does not take the page's place. */
static bool stays_in_tail(const struct sli_kv_spilled *s, uint32_t span, uint32_t page)
{
    return in_tail(s, span, page) && (!writes_tail(s) || page + TAIL_PAGES > last_page(s));
}

/* The pages of a head that its reads have brought, or that it writes to. */
static void show_head(const sli_kv *kv, uint32_t sequence, uint32_t head_in_group, uint32_t span)
{
    struct sli_kv_spilled *s = kv->spilled;
    uint32_t begun = first_page(s);
    for (uint32_t page = s->resident_pages; page < begun; page++)
        point(kv, span, page, stays_in_tail(s, span, page) ? tail_slot(s, span, page) : window_slot(s, sequence, head_in_group, page));
    if (first_is_begun(s) && !writes_tail(s) && in_tail(s, span, begun))
        memcpy(window_slot(s, sequence, head_in_group, begun), tail_slot(s, span, begun), s->g.slot_bytes);
    for (uint32_t page = first_written(s); page <= last_page(s); page++) {
        point(kv, span, page, written_slot(s, sequence, head_in_group, span, page));
        if (writes_tail(s))
            *tail_claim(s, span, page) = page + 1;
    }
}

sl_status sli_kv_begin_group(sli_kv *kv, uint32_t layer, uint32_t group, uint32_t *first, uint32_t *count, sl_error *err)
{
    struct sli_kv_spilled *s = kv->spilled;
    *first = 0;
    *count = kv->kv_heads;
    if (s == NULL)
        return SL_OK;
    uint32_t sequence = s->index_of[layer] * s->groups + group;
    *first = group * s->group_heads;
    *count = s->group_heads;
    if (s->loading != sequence) { /* layers were left out */
        sl_spill_forget(s->file);
        SL_TRY(load_group(kv, sequence, err));
    }
    SL_TRY(sl_spill_wait(s->file, sequence % WINDOWS, err));
    if (sequence + 1 < s->layers * s->groups)
        SL_TRY(load_group(kv, sequence + 1, err));
    for (uint32_t h = 0; h < *count; h++)
        show_head(kv, sequence, h, span_of(kv, layer, *first + h));
    return SL_OK;
}

bool sli_kv_fetches(const sli_kv *kv, uint32_t layer)
{
    const struct sli_kv_spilled *s = kv->spilled;
    return s != NULL && s->selective && sl_model_window(s->model, layer) == 0;
}

sl_status sli_kv_fetch(sli_kv *kv, uint32_t layer, uint32_t head, const uint32_t *pages, uint32_t count, sl_error *err)
{
    struct sli_kv_spilled *s = kv->spilled;
    uint32_t sequence = s->index_of[layer] * s->groups + head / s->group_heads, in_group = head % s->group_heads,
             span = span_of(kv, layer, head);
    for (uint32_t n = 0, end; n < count; n = end) {
        end = n + 1;
        if (pages[n] < s->resident_pages || pages[n] >= first_page(s))
            continue;
        while (end < count && pages[end] == pages[end - 1] + 1 && pages[end] < first_page(s))
            end++;
        SL_TRY(sl_spill_read(s->file, sequence % WINDOWS, file_offset(s, span, pages[n]), (end - n) * s->g.slot_bytes,
                             window_slot(s, sequence, in_group, pages[n]), err));
    }
    return SL_OK;
}

sl_status sli_kv_fetched(sli_kv *kv, uint32_t layer, uint32_t head, sl_error *err)
{
    struct sli_kv_spilled *s = kv->spilled;
    return sl_spill_wait(s->file, (s->index_of[layer] * s->groups + head / s->group_heads) % WINDOWS, err);
}

/* Complete pages [from, to) of a head, wherever they lie, in as few writes as there are pieces. */
static sl_status write_pages(const sli_kv *kv, uint32_t span, uint32_t from, uint32_t to, sl_error *err)
{
    struct sli_kv_spilled *s = kv->spilled;
    const uint8_t **row = row_of(kv, span);
    while (from < to) {
        uint32_t end = from + 1;
        while (end < to && row[end] == row[end - 1] + s->g.slot_bytes)
            end++;
        SL_TRY(sl_spill_write(s->file, file_offset(s, span, from), (end - from) * s->g.slot_bytes, row[from], err));
        from = end;
    }
    return SL_OK;
}

sl_status sli_kv_end_group(sli_kv *kv, uint32_t layer, uint32_t group, sl_error *err)
{
    struct sli_kv_spilled *s = kv->spilled;
    if (s == NULL)
        return SL_OK;
    uint32_t from = first_written(s), complete = s->end_slot / SL_KV_PAGE, last = last_page(s);
    for (uint32_t h = 0; h < s->group_heads; h++) {
        uint32_t sequence = s->index_of[layer] * s->groups + group, span = span_of(kv, layer, group * s->group_heads + h);
        if (writes_tail(s) && s->on_file[span] > from) /* the tail's copies are newer */
            s->on_file[span] = from;
        if (complete > from) {
            SL_TRY(write_pages(kv, span, from, complete, err));
            s->on_file[span] = complete;
        }
        if (writes_tail(s) || last < s->resident_pages)
            continue;
        for (uint32_t i = 0; i < TAIL_PAGES; i++) /* older than what the window has just seen written */
            if (s->tail_page[(size_t)span * TAIL_PAGES + i] > from)
                s->tail_page[(size_t)span * TAIL_PAGES + i] = 0;
        if (last >= complete) {
            memcpy(tail_slot(s, span, last), window_slot(s, sequence, h, last), s->g.slot_bytes);
            *tail_claim(s, span, last) = last + 1;
        }
    }
    return SL_OK;
}

bool sli_kv_holds(const sli_kv *kv, uint32_t layer)
{
    return kv->pages != NULL && (kv->spilled == NULL || kv->spilled->index_of[layer] != NOT_HERE);
}

sli_kv_sight sli_kv_sight_of(const sli_kv *kv, uint32_t layer)
{
    const struct sli_kv_spilled *s = kv->spilled;
    return (sli_kv_sight){first_in_sight(s, layer), (s->first_slot + SL_KV_PAGE - 1) / SL_KV_PAGE, first_page(s), last_page(s) + 1};
}

sl_status sli_kv_settle(sli_kv *kv, uint32_t from, uint32_t position, sl_error *err)
{
    struct sli_kv_spilled *s = kv->spilled;
    if (s == NULL)
        return SL_OK;
    uint32_t first = larger(from / SL_KV_PAGE, s->resident_pages), complete = position / SL_KV_PAGE;
    for (uint32_t span = 0; span < s->g.spans; span++) {
        if (s->on_file[span] > first)
            s->on_file[span] = first;
        if (s->on_file[span] < complete) { /* all these are in the tail */
            SL_TRY(write_pages(kv, span, s->on_file[span], complete, err));
            s->on_file[span] = complete;
        }
    }
    return SL_OK;
}

/* ---- whole heads ---- */

/* In the first window, of which no pass has anything now. */
static uint8_t *shown_slot(const struct sli_kv_spilled *s, uint32_t page)
{
    return window_slot(s, 0, 0, page);
}

sl_status sli_kv_show_head(sli_kv *kv, uint32_t layer, uint32_t head, uint32_t pages, sl_error *err)
{
    struct sli_kv_spilled *s = kv->spilled;
    if (s == NULL)
        return SL_OK;
    uint32_t span = span_of(kv, layer, head), from = s->resident_pages, on_file = s->on_file[span] < pages ? s->on_file[span] : pages;
    sl_spill_forget(s->file);
    if (on_file > from)
        SL_TRY(sl_spill_read(s->file, 0, file_offset(s, span, from), (on_file - from) * s->g.slot_bytes, shown_slot(s, from), err));
    SL_TRY(sl_spill_wait(s->file, 0, err));
    for (uint32_t page = from; page < pages; page++)
        point(kv, span, page, page < on_file ? shown_slot(s, page) : tail_slot(s, span, page));
    return SL_OK;
}

void sli_kv_begin_fill(sli_kv *kv, uint32_t layer, uint32_t head, uint32_t pages)
{
    struct sli_kv_spilled *s = kv->spilled;
    if (s == NULL)
        return;
    sl_spill_forget(s->file);
    for (uint32_t page = s->resident_pages; page < pages; page++)
        point(kv, span_of(kv, layer, head), page, shown_slot(s, page));
}

sl_status sli_kv_end_fill(sli_kv *kv, uint32_t layer, uint32_t head, uint32_t positions, sl_error *err)
{
    struct sli_kv_spilled *s = kv->spilled;
    if (s == NULL)
        return SL_OK;
    uint32_t span = span_of(kv, layer, head), complete = positions / SL_KV_PAGE;
    s->on_file[span] = s->resident_pages;
    for (uint32_t i = 0; i < TAIL_PAGES; i++)
        s->tail_page[(size_t)span * TAIL_PAGES + i] = 0;
    if (complete > s->resident_pages) {
        SL_TRY(write_pages(kv, span, s->resident_pages, complete, err));
        s->on_file[span] = complete;
    }
    if (positions % SL_KV_PAGE != 0 && complete >= s->resident_pages) {
        memcpy(tail_slot(s, span, complete), shown_slot(s, complete), s->g.slot_bytes);
        *tail_claim(s, span, complete) = complete + 1;
    }
    return SL_OK;
}

/* ---- open and close ---- */

static sl_io_engine engine_of(const sl_engine *e)
{
    const char *name = e->options.io_engine;
    if (name == NULL || strcmp(name, "auto") == 0)
        return SL_IO_AUTO;
    return strcmp(name, "uring") == 0 ? SL_IO_URING : SL_IO_PREAD;
}

static sl_status open_spill(sl_engine *e, const sli_kv_shape *shape, struct sli_kv_spilled *s, sl_error *err)
{
    uint64_t priced = e->price.total_bytes, budget = e->options.ram_budget_bytes;
    sl_spill_options options = {.bytes = sli_kv_file_bytes(e->model, shape),
                                .ranges = WINDOWS * (2 + shape->chosen_pages) * shape->group_heads,
                                .engine = engine_of(e),
                                .buffered = e->options.buffered,
                                .throttle_Bps = (double)e->options.throttle_Bps,
                                .memory = s->window[0],
                                .memory_bytes = WINDOWS * s->g.window_bytes,
                                .cell_bytes = s->g.slot_bytes,
                                .kept_bytes_max = priced < budget ? budget - priced : 0};
    return sl_spill_open(e->options.kv_spill, &options, &s->file, err);
}

/* Which layers are here, and where among them each is. */
static sl_status choose_layers(const sl_model *m, const sli_kv_shape *shape, struct sli_kv_spilled *s, sl_error *err)
{
    bool *in_host = malloc(m->layers * sizeof *in_host);
    if (in_host == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for a table of %u layers", m->layers);
    s->layers = sli_kv_layers(m, shape);
    sli_kv_place_choose(m, s->layers, in_host);
    for (uint32_t layer = 0, index = 0; layer < m->layers; layer++) {
        s->index_of[layer] = in_host[layer] ? index : NOT_HERE;
        if (in_host[layer])
            s->layer_of[index++] = layer;
    }
    free(in_host);
    return SL_OK;
}

sl_status sli_kv_spill_create(sl_engine *e, const sli_kv_shape *shape, sli_kv *kv, sl_error *err)
{
    geometry g = geometry_of(e->model, shape);
    struct sli_kv_spilled *s = calloc(1, sizeof *s);
    kv->spilled = s;
    kv->arena_bytes = arena_bytes(&g);
    kv->arena = sl_pages_alloc(kv->arena_bytes);
    if (s != NULL) {
        s->on_file = calloc(g.spans, sizeof *s->on_file);
        s->tail_page = calloc((size_t)g.spans * TAIL_PAGES, sizeof *s->tail_page);
        s->layer_of = calloc(sli_kv_layers(e->model, shape), sizeof *s->layer_of);
        s->index_of = calloc(e->model->layers, sizeof *s->index_of);
    }
    if (s == NULL || kv->arena == NULL || s->on_file == NULL || s->tail_page == NULL || s->layer_of == NULL || s->index_of == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for a KV cache of %zu bytes", kv->arena_bytes);
    SL_TRY(choose_layers(e->model, shape, s, err));
    s->g = g;
    s->resident_pages = shape->resident_pages;
    s->group_heads = shape->group_heads;
    s->groups = kv->kv_heads / shape->group_heads;
    s->model = e->model;
    s->resident = kv->arena;
    s->tail = s->resident + g.resident_bytes;
    s->window[0] = s->tail + g.tail_bytes;
    s->window[1] = s->window[0] + g.window_bytes;
    for (uint32_t span = 0; span < g.spans; span++) {
        s->on_file[span] = s->resident_pages;
        for (uint32_t page = 0; page < kv->page_count; page++)
            point(kv, span, page,
                  page < s->resident_pages ? s->resident + ((size_t)span * s->resident_pages + page) * g.slot_bytes
                                           : tail_slot(s, span, page));
    }
    return open_spill(e, shape, s, err);
}

sl_spill_stats sli_kv_spill_measure(const sli_kv *kv)
{
    return kv->spilled->file != NULL ? sl_spill_measure(kv->spilled->file) : (sl_spill_stats){0};
}

void sli_kv_spill_free(sli_kv *kv)
{
    struct sli_kv_spilled *s = kv->spilled;
    if (s == NULL)
        return;
    sl_spill_close(s->file);
    free(s->on_file);
    free(s->tail_page);
    free(s->layer_of);
    free(s->index_of);
    free(s);
    kv->spilled = NULL;
}
