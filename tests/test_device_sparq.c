/* tests/test_device_sparq.c: attention to a part of the cache on a device against the processor's (offload/sparq_attention.c, with the reference's kernels), bit
 * for bit: what a row attends to, what stands for the rest, and what is counted.
 *
 * On the emulated device each case runs with threads in ascending order and in another. Memory that nobody has written holds ones: NaNs. */
#include "offload/sparq.h"
#include "offload/sparq_attention.h"
#include "tests/device_memory.h"

typedef struct sparq_case {
    uint32_t rows, heads, kv_heads, head_dim, window, k_type, v_type;
    uint32_t k, r, local;
    bool reallocate;
    uint32_t pos0, positions, tree_rows, first; /* positions: as a graph's, 0: those that there are */
} sparq_case;

/* The processor's side: an engine of one layer, and no more of it than attention looks at. */
typedef struct processor {
    sl_model model;
    sl_engine engine;
    sl_session session;
    sl_device_pass *pass;
    sl_attention row; /* but for pages, query and result */
    uint32_t slots;
    float *q, *out;
} processor;

static sl_kv_type kv_type_of(uint32_t type)
{
    return type == SL_TYPE_F32    ? SL_KV_F32
           : type == SL_TYPE_F16  ? SL_KV_F16
           : type == SL_TYPE_BF16 ? SL_KV_BF16
           : type == SL_TYPE_Q8_0 ? SL_KV_Q8_0
                                  : SL_KV_Q4_0;
}

static uint8_t *page_of(const processor *p, uint32_t head, sli_kv_kind kind, uint32_t slot)
{
    return (uint8_t *)(uintptr_t)sli_kv_pages(&p->session.kv, 0, head, kind)[slot / SL_KV_PAGE];
}

/* Keys in a few directions, so that some scores are equal and most are not. */
static void fill_cache(const processor *p, uint64_t seed)
{
    const sl_kernels *kernels = reference();
    const sli_kv *kv = &p->session.kv;
    float k[512], v[512];
    for (uint32_t head = 0; head < p->model.kv_heads; head++)
        for (uint32_t slot = 0; slot < p->slots; slot++) {
            fill(k, p->model.head_dim, seed + head * 1000 + (slot % 5 == 0 ? 7 : slot));
            fill(v, p->model.head_dim, seed++ << 20);
            kernels->kv_store_k(kv->k_type, page_of(p, head, SLI_KV_KEYS, slot), slot % SL_KV_PAGE, k, p->model.head_dim);
            kernels->kv_store_v(kv->v_type, page_of(p, head, SLI_KV_VALUES, slot), slot % SL_KV_PAGE, v, p->model.head_dim);
            kernels->kv_store_v(kv->k_type, page_of(p, head, SLI_KV_KEY_ROWS, slot), slot % SL_KV_PAGE, k, p->model.head_dim);
        }
}

/* A tree in which a row hangs on any earlier one, mostly a late one. */
static void grow(sl_device_pass *pass, uint32_t rows, uint64_t seed)
{
    pass->tree = 1;
    for (uint32_t r = 1; r < rows; r++) {
        uint32_t reach = r < 4 ? r : next_random(&seed) % 5 == 0 ? r : 3, parent = r - 1 - (uint32_t)(next_random(&seed) % reach);
        pass->depth[r] = (uint8_t)(pass->depth[parent] + 1);
        memcpy(pass->path[r], pass->path[parent], pass->depth[r]);
        pass->path[r][pass->depth[r]] = (uint8_t)r;
    }
}

static void processor_open(processor *p, const sparq_case *c, uint64_t seed)
{
    sl_error err = {0};
    size_t floats = (size_t)c->rows * c->heads * c->head_dim;
    *p = (processor){.model = {.layers = 1, .heads = c->heads, .kv_heads = c->kv_heads, .head_dim = c->head_dim}};
    p->slots = c->pos0 + (c->tree_rows > 0 ? c->tree_rows : c->rows);
    p->engine.kernels = reference();
    p->engine.model = &p->model;
    p->engine.context = p->slots;
    p->engine.options = (sl_engine_options){.sparq_k = c->k,
                                            .sparq_r = c->r,
                                            .sparq_local = c->local,
                                            .sparq_select = SL_SPARQ_KEYS,
                                            .sparq_reallocate = c->reallocate ? SL_SPARQ_REALLOCATE_ON : SL_SPARQ_REALLOCATE_OFF,
                                            .k_type = kv_type_of(c->k_type),
                                            .v_type = kv_type_of(c->v_type)};
    p->session.engine = &p->engine;
    sli_kv_shape shape = sli_kv_shape_of(&p->engine);
    assert_int_equal(sli_kv_create(&p->engine, &shape, &p->session.kv, &err), SL_OK);
    p->pass = allocate(sizeof *p->pass);
    p->pass->pos0 = c->pos0;
    p->pass->first = c->first;
    if (c->tree_rows > 0)
        grow(p->pass, c->tree_rows, seed);
    p->q = allocate(floats * sizeof *p->q);
    p->out = allocate(floats * sizeof *p->out);
    fill(p->q, floats, seed + 1);
    for (size_t i = 0; i < floats; i++)
        p->q[i] = seed % 200 == 0 ? roundf(p->q[i] * 3) : p->q[i] * 5; /* in every other case many components are alike */
    memset(p->q, 0, c->head_dim * sizeof *p->q);                       /* a head whose components all weigh nothing */
    fill_cache(p, seed + 2);
}

static void processor_close(processor *p)
{
    sli_kv_free(&p->session.kv);
    free(p->pass);
    free(p->q);
    free(p->out);
}

static void attend(processor *p, const sparq_case *c)
{
    uint32_t group = c->heads / c->kv_heads, last_plain = c->pos0 + (c->tree_rows > 0 ? 0 : c->rows - 1);
    size_t stride = (size_t)c->heads * c->head_dim;
    float *scratch = allocate(sl_attention_scratch_bytes(c->head_dim, group) + sli_sparq_thread_bytes(&p->engine) + 64);
    for (uint32_t head = 0; sli_sparq_wants_sums(&p->session, 0, last_plain) && head < c->kv_heads; head++)
        sli_sparq_sum_values(&p->session, 0, head, last_plain);
    if (p->session.kv.value_sums != NULL)
        sli_sparq_summed(&p->session, 0, last_plain);
    for (uint32_t row = 0; row < c->rows; row++)
        for (uint32_t head = 0; head < c->kv_heads; head++) {
            sl_attention_tree tree = {.depth = p->pass->depth + c->first + row,
                                      .path = (const uint8_t(*)[SL_TREE_ROWS])p->pass->path + c->first + row};
            sl_attention job = {.head_dim = c->head_dim,
                                .group = group,
                                .rows = 1,
                                .pos0 = c->pos0 + (c->tree_rows > 0 ? 0 : row),
                                .tree = c->tree_rows > 0 ? &tree : NULL,
                                .window = c->window,
                                .scale = 0.125f,
                                .k_type = c->k_type,
                                .v_type = c->v_type,
                                .k_pages = sli_kv_pages(&p->session.kv, 0, head, SLI_KV_KEYS),
                                .v_pages = sli_kv_pages(&p->session.kv, 0, head, SLI_KV_VALUES),
                                .q = p->q + row * stride + (size_t)head * group * c->head_dim,
                                .q_stride = stride,
                                .out = p->out + row * stride + (size_t)head * group * c->head_dim,
                                .out_stride = stride,
                                .scratch = (float *)(((uintptr_t)scratch + 63) & ~(uintptr_t)63)};
            sli_sparq_attend(&p->session, 0, head, &job);
        }
    free(scratch);
}

/* ---- the device's side ---- */

/* Of a kind, what was written, and ones; pages follow each other. */
static void copy_pages(uint8_t *to, const processor *p, uint32_t head, sli_kv_kind kind, size_t page_bytes)
{
    uint32_t type = kind == SLI_KV_VALUES ? p->session.kv.v_type : p->session.kv.k_type;
    for (uint32_t slot = 0; slot < p->slots; slot++) {
        uint8_t *page = to + slot / SL_KV_PAGE * page_bytes;
        (kind == SLI_KV_KEYS ? reference()->kv_copy_k : reference()->kv_copy_v)(type, page_of(p, head, kind, slot), slot % SL_KV_PAGE, page,
                                                                                slot % SL_KV_PAGE, p->model.head_dim);
    }
}

static uint8_t *ones(size_t bytes)
{
    uint8_t *all = allocate(bytes);
    memset(all, 0xff, bytes);
    return all;
}

static sl_device_ptr put_ones(device_bed *b, size_t bytes)
{
    uint8_t *all = ones(bytes);
    sl_device_ptr at = device_put(b, all, bytes);
    free(all);
    return at;
}

static void put_cache(device_bed *b, const processor *p, sl_device_sparq *job)
{
    const sli_kv *kv = &p->session.kv;
    uint32_t pages = kv->page_count, heads = p->model.kv_heads;
    size_t k_page = kv->page_bytes[SLI_KV_KEYS], v_page = kv->page_bytes[SLI_KV_VALUES], row_page = kv->page_bytes[SLI_KV_KEY_ROWS];
    uint8_t *cache = ones(heads * pages * (k_page + v_page)), *rows = ones(heads * pages * row_page);
    for (uint32_t head = 0; head < heads; head++) {
        copy_pages(cache + head * pages * (k_page + v_page), p, head, SLI_KV_KEYS, k_page);
        copy_pages(cache + head * pages * (k_page + v_page) + pages * k_page, p, head, SLI_KV_VALUES, v_page);
        copy_pages(rows + head * pages * row_page, p, head, SLI_KV_KEY_ROWS, row_page);
    }
    job->all.kv = (sl_device_kv){.base = device_put(b, cache, heads * pages * (k_page + v_page)),
                                 .k_type = kv->k_type,
                                 .v_type = kv->v_type,
                                 .head_stride = pages * (k_page + v_page),
                                 .v_offset = pages * k_page,
                                 .k_page_bytes = k_page,
                                 .v_page_bytes = v_page};
    job->key_rows = (sl_device_key_rows){device_put(b, rows, heads * pages * row_page), pages * row_page, row_page};
    free(cache);
    free(rows);
}

static void assert_on_device(device_bed *b, sl_device_ptr at, const void *want, size_t bytes, const char *what, const sparq_case *c)
{
    uint8_t *got = allocate(bytes);
    device_read(b, got, at, bytes);
    for (size_t i = 0; i < bytes; i++)
        if (got[i] != ((const uint8_t *)want)[i])
            fail_msg("%s of %u rows at %u, k %u, r %u: byte %zu of %zu differs", what, c->rows, c->pos0, c->k, c->r, i, bytes);
    free(got);
}

static uint32_t seen_by(const sparq_case *c, const processor *p, uint32_t row, sli_sparq_row *seen)
{
    *seen = (sli_sparq_row){.k = c->k,
                            .r = c->r,
                            .local = c->local,
                            .k_type = c->k_type,
                            .v_type = c->v_type,
                            .head_dim = c->head_dim,
                            .reallocates = c->reallocate};
    bool tree = c->tree_rows > 0;
    sli_sparq_see(seen, c->pos0 + (tree ? 0 : row), tree ? p->pass->depth[c->first + row] : 0, c->window);
    return seen->end - seen->begin;
}

/* The processor's account is that of sparq.c with what the device counted. */
static void check_account(device_bed *b, const sl_device_sparq *job, const sparq_case *c, const processor *p)
{
    uint64_t counted, expected = 0;
    bool scales = c->k_type == SL_TYPE_Q8_0 || c->k_type == SL_TYPE_Q4_0;
    device_read(b, &counted, job->blocks_read, sizeof counted);
    for (uint32_t row = 0; row < c->rows; row++) {
        sli_sparq_row seen;
        (void)seen_by(c, p, row, &seen);
        expected += c->kv_heads * (sli_sparq_chooses(&seen) ? sli_sparq_moved_bytes(&seen, 0) : sli_sparq_dense_bytes(&seen));
    }
    assert_int_equal(expected + (scales ? 2 * counted : 0), atomic_load(&p->engine.sparq.bytes_moved));
}

static void check_case(device_bed *b, const sparq_case *c, uint64_t seed)
{
    processor p;
    processor_open(&p, c, seed);
    attend(&p, c);
    size_t floats = (size_t)c->rows * c->heads * c->head_dim;
    sl_acts want = {.rows = c->rows,
                    .cols = c->heads * c->head_dim,
                    .f32 = p.out,
                    .q = allocate(floats),
                    .d = allocate(floats / 32 * sizeof(float)),
                    .sum = allocate(floats / 32 * sizeof(int32_t))};
    reference()->quantize(&want, 0, want.rows);

    const uint64_t none[2] = {0};
    sl_device_sparq job = {.all = {.rows = c->rows,
                                   .heads = c->heads,
                                   .kv_heads = c->kv_heads,
                                   .head_dim = c->head_dim,
                                   .window = c->window,
                                   .positions = c->positions > 0 ? c->positions : p.slots,
                                   .scale = 0.125f,
                                   .q = device_put(b, p.q, floats * sizeof(float)),
                                   .out = put_ones(b, floats * sizeof(float)),
                                   .pass = device_put(b, p.pass, sizeof *p.pass)},
                           .k = c->k,
                           .r = c->r,
                           .local = c->local,
                           .alike = true,
                           .sums_pages = p.session.kv.page_count,
                           .blocks_read = device_put(b, none, sizeof none)};
    put_cache(b, &p, &job);
    for (uint32_t row = 0; row < c->rows && c->rows > 1; row++) {
        sli_sparq_row seen;
        job.alike &= seen_by(c, &p, row, &seen) > c->k;
    }
    if (c->reallocate) { /* as a text grows: some pages, then the others */
        uint32_t pages = (c->pos0 + (c->tree_rows > 0 ? 0 : c->rows - 1)) / SL_KV_PAGE + 1;
        size_t bytes = (size_t)job.sums_pages * c->head_dim * sizeof(float);
        job.value_sums = put_ones(b, c->kv_heads * bytes);
        device_ok(b->kernels->value_sums(b->device, &job.all.kv, c->kv_heads, c->head_dim, job.value_sums, job.sums_pages, 0, 1, E));
        device_ok(b->kernels->value_sums(b->device, &job.all.kv, c->kv_heads, c->head_dim, job.value_sums, job.sums_pages, 1, pages, E));
        for (uint32_t head = 0; head < c->kv_heads; head++)
            assert_on_device(b, job.value_sums + head * bytes, sli_kv_value_sum(&p.session.kv, 0, head, 0),
                             (size_t)pages * c->head_dim * sizeof(float), "sums of values", c);
    }
    sl_device_acts acts = {.rows = want.rows,
                           .cols = want.cols,
                           .f32 = job.all.out,
                           .q = put_ones(b, floats),
                           .d = put_ones(b, floats / 32 * sizeof(float)),
                           .sum = put_ones(b, floats / 32 * sizeof(int32_t))};
    job.all.acts = want.cols % 32 == 0 ? &acts : NULL;
    job.all.scratch = put_ones(b, b->kernels->sparq_scratch(&job));
    device_ok(b->kernels->sparq(b->device, &job, E));
    assert_on_device(b, job.all.out, p.out, floats * sizeof(float), "attention", c);
    if (job.all.acts != NULL) {
        assert_on_device(b, acts.q, want.q, floats, "quantised attention", c);
        assert_on_device(b, acts.d, want.d, floats / 32 * sizeof(float), "its scales", c);
        assert_on_device(b, acts.sum, want.sum, floats / 32 * sizeof(int32_t), "its sums", c);
    }
    check_account(b, &job, c, &p);
    device_clear(b);
    free(want.q);
    free(want.d);
    free(want.sum);
    processor_close(&p);
}

static void attention_to_a_part_of_the_cache_is_the_processors(void **state)
{
    static const sparq_case cases[] = {
        /* rows, heads, KV heads, head_dim, window, keys, values, k, r, local, reallocate, pos0, positions, tree rows, first */
        {1, 1, 1, 16, 0, SL_TYPE_F32, SL_TYPE_F32, 1, 1, 0, true, 2, 0, 0, 0},
        {1, 9, 3, 64, 0, SL_TYPE_F16, SL_TYPE_F16, 24, 8, 6, false, 200, 0, 0, 0},
        {1, 9, 3, 64, 0, SL_TYPE_F16, SL_TYPE_F16, 24, 8, 6, true, 191, 0, 0, 0},
        {1, 4, 4, 48, 0, SL_TYPE_BF16, SL_TYPE_F32, 64, 17, 64, true, 192, 0, 0, 0}, /* the last ones alone */
        {1, 4, 1, 64, 0, SL_TYPE_Q8_0, SL_TYPE_Q8_0, 65, 40, 16, true, 130, 0, 0, 0},
        {1, 11, 1, 32, 0, SL_TYPE_Q4_0, SL_TYPE_Q4_0, 130, 32, 1, true, 140, 0, 0, 0}, /* many queries, all components */
        {1, 2, 1, 512, 0, SL_TYPE_Q4_0, SL_TYPE_F16, 20, 100, 5, false, 66, 0, 0, 0},
        {1, 2, 1, 16, 0, SL_TYPE_F16, SL_TYPE_BF16, 150, 4, 30, true, 2500, 0, 0, 0}, /* more than a tile of a softmax */
        {1, 3, 1, 64, 100, SL_TYPE_F16, SL_TYPE_F16, 40, 16, 10, true, 300, 0, 0, 0}, /* windows, that begin within pages and with one */
        {3, 2, 2, 32, 130, SL_TYPE_Q8_0, SL_TYPE_F32, 70, 9, 0, true, 256, 0, 0, 0},
        {2, 2, 1, 32, 64, SL_TYPE_F32, SL_TYPE_Q4_0, 33, 9, 7, true, 190, 0, 0, 0},
        {1, 4, 2, 32, 0, SL_TYPE_F16, SL_TYPE_F16, 64, 8, 16, true, 40, 256, 0, 0}, /* sees less than it may choose; in a graph */
        {1, 4, 2, 32, 0, SL_TYPE_F16, SL_TYPE_F16, 64, 8, 16, true, 63, 512, 0, 0},
        {1, 4, 2, 32, 0, SL_TYPE_F16, SL_TYPE_F16, 64, 8, 16, true, 64, 512, 0, 0},
        {9, 4, 2, 32, 0, SL_TYPE_F16, SL_TYPE_Q8_0, 64, 8, 16, true, 60, 0, 0, 0}, /* some do, some don't */
        {37, 6, 2, 48, 0, SL_TYPE_F16, SL_TYPE_BF16, 20, 8, 5, false, 61, 0, 0, 0},
        {5, 2, 1, 32, 0, SL_TYPE_F16, SL_TYPE_F16, 20, 8, 5, true, 100, 300000, 0, 0},  /* more scratch than is used at once */
        {7, 3, 1, 64, 0, SL_TYPE_F16, SL_TYPE_F16, 30, 8, 9, true, 60, 0, 7, 0},        /* trees */
        {30, 4, 2, 32, 0, SL_TYPE_Q8_0, SL_TYPE_Q4_0, 70, 12, 9, true, 62, 0, 100, 70}, /* the last rows of one, over pages of their own */
        {20, 2, 1, 32, 80, SL_TYPE_BF16, SL_TYPE_F16, 70, 12, 9, true, 66, 0, 40, 20},  /* of which some choose */
        {40, 2, 1, 32, 70, SL_TYPE_F32, SL_TYPE_Q8_0, 16, 3, 4, true, 127, 0, 90, 50},
    };
    device_bed *b = device_bed_open();
    (void)state;
    for (unsigned order = 0; order < (device_is_emulated() ? 2 : 1); order++) {
        device_reopen(b, order * 1234567);
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
            check_case(b, &cases[i], 100 * (i + 1));
    }
    device_bed_close(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attention_to_a_part_of_the_cache_is_the_processors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
