/* tests/test_device_vector.c: what a device computes on vectors (quantisation, norms, gated units, heads, attention) against the reference, bit for bit.
 *
 * On the emulated device each case runs with threads in ascending order and in two others. Memory that nobody has written holds ones: NaNs. */
#include "tests/device_memory.h"

/* Memory of the device with these bytes; NULL: ones. */
static sl_device_ptr put(device_bed *b, const void *from, size_t bytes)
{
    if (from != NULL)
        return device_put(b, from, bytes);
    uint8_t *ones = allocate(bytes);
    memset(ones, 0xff, bytes);
    sl_device_ptr p = device_put(b, ones, bytes);
    free(ones);
    return p;
}

static void assert_on_device(device_bed *b, sl_device_ptr at, const void *want, size_t bytes, const char *what)
{
    uint8_t *got = allocate(bytes);
    device_read(b, got, at, bytes);
    for (size_t i = 0; i < bytes; i++)
        if (got[i] != ((const uint8_t *)want)[i])
            fail_msg("%s: byte %zu of %zu differs from the reference's", what, i, bytes);
    free(got);
}

/* Runs check(bed) on the device, on an emulated one in three orders of threads. */
static void on_device(void (*check)(device_bed *b))
{
    static const unsigned orders[] = {0, 7, 1234567};
    device_bed *b = device_bed_open();
    for (size_t i = 0; i < (device_is_emulated() ? 3 : 1); i++) {
        device_reopen(b, orders[i]);
        check(b);
    }
    device_bed_close(b);
}

/* ---- activations ---- */

static sl_acts make_acts(const float *f32, uint32_t rows, uint32_t cols)
{
    size_t count = (size_t)rows * cols;
    sl_acts x = {.rows = rows,
                 .cols = cols,
                 .f32 = f32,
                 .q = allocate(count),
                 .d = allocate(count / 32 * sizeof *x.d),
                 .sum = allocate(count / 32 * sizeof *x.sum)};
    reference()->quantize(&x, 0, rows);
    return x;
}

static void free_acts(sl_acts *x)
{
    free(x->q);
    free(x->d);
    free(x->sum);
}

static sl_device_acts put_acts(device_bed *b, sl_device_ptr f32, uint32_t rows, uint32_t cols)
{
    size_t count = (size_t)rows * cols;
    return (sl_device_acts){.rows = rows,
                            .cols = cols,
                            .f32 = f32,
                            .q = put(b, NULL, count),
                            .d = put(b, NULL, count / 32 * 4),
                            .sum = put(b, NULL, count / 32 * 4)};
}

/* What lies on the device is what the reference makes of these floats. */
static void assert_acts(device_bed *b, const sl_device_acts *got, const float *f32)
{
    sl_acts want = make_acts(f32, got->rows, got->cols);
    size_t count = (size_t)got->rows * got->cols;
    assert_on_device(b, got->f32, f32, count * 4, "activations");
    assert_on_device(b, got->q, want.q, count, "quantised activations");
    assert_on_device(b, got->d, want.d, count / 32 * 4, "scales of activations");
    assert_on_device(b, got->sum, want.sum, count / 32 * 4, "sums of activations");
    free_acts(&want);
}

static float *make_floats(size_t count, uint64_t seed, float size)
{
    float *x = allocate(count * sizeof *x);
    fill(x, count, seed);
    for (size_t i = 0; i < count; i++)
        x[i] *= size;
    return x;
}

static void check_quantize(device_bed *b)
{
    static const uint32_t shapes[][2] = {{1, 32}, {1, 576}, {3, 96}, {7, 4128}, {128, 64}};
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
        size_t count = (size_t)shapes[s][0] * shapes[s][1];
        float *x = make_floats(count, 1 + s, 3.0f);
        memset(x, 0, 32 * sizeof *x); /* a block of zeros, and where there are more: a tiny one, one with ties, a large one */
        for (size_t i = 32; i < count && i < 128; i++)
            x[i] = i < 64 ? x[i] * 0x1p-125f : i < 96 ? (float)((int)i % 9 - 4) * 0.5f + 127.0f * (i == 70) : x[i] * 0x1p120f;
        sl_device_acts acts = put_acts(b, put(b, x, count * 4), shapes[s][0], shapes[s][1]);
        device_ok(b->kernels->quantize(b->device, &acts, E));
        assert_acts(b, &acts, x);
        device_clear(b);
        free(x);
    }
}

static void activations_are_quantised_as_the_reference_does(void **state)
{
    (void)state;
    on_device(check_quantize);
}

static void check_norm(device_bed *b)
{
    static const struct {
        uint32_t rows, cols;
        bool acts, in_place;
    } cases[] = {{1, 576, true, false}, {5, 64, true, true}, {2, 4096 + 32, true, false}, {3, 9000, false, false}, {4, 77, false, true}};
    for (size_t s = 0; s < sizeof cases / sizeof cases[0]; s++) {
        size_t count = (size_t)cases[s].rows * cases[s].cols;
        float *x = make_floats(count, 30 + s, 5.0f), *w = make_floats(cases[s].cols, 60 + s, 2.0f), *want = allocate(count * sizeof *want);
        for (uint32_t r = 0; r < cases[s].rows; r++)
            reference()->rms_norm(x + (size_t)r * cases[s].cols, w, cases[s].cols, 1e-5f, want + (size_t)r * cases[s].cols);
        sl_device_norm job = {.rows = cases[s].rows, .cols = cases[s].cols, .eps = 1e-5f, .src = put(b, x, count * 4)};
        job.weight = put(b, w, cases[s].cols * sizeof *w);
        job.dst = cases[s].in_place ? job.src : put(b, NULL, count * 4);
        sl_device_acts acts = {0};
        if (cases[s].acts) {
            acts = put_acts(b, job.dst, job.rows, job.cols);
            job.acts = &acts;
        }
        device_ok(b->kernels->rms_norm(b->device, &job, E));
        if (cases[s].acts)
            assert_acts(b, &acts, want);
        assert_on_device(b, job.dst, want, count * 4, "a norm");
        device_clear(b);
        free(x);
        free(w);
        free(want);
    }
}

static void norms_and_their_quantised_results_are_the_references(void **state)
{
    (void)state;
    on_device(check_norm);
}

static void check_glu(device_bed *b)
{
    for (int s = 0; s < 8; s++) {
        bool quantised = s % 2 == 0, in_place = s % 4 < 2;
        uint32_t rows = s < 4 ? 1 : 3, cols = quantised ? 1536 : 1001;
        size_t count = (size_t)rows * cols;
        float *gate = make_floats(count, 90 + (uint64_t)s, 20.0f), *up = make_floats(count, 91 + (uint64_t)s, 2.0f);
        float *want = allocate(count * sizeof *want);
        gate[3] = 200.0f; /* where exp leaves the normal numbers on both sides */
        gate[4] = -200.0f;
        gate[5] = -87.4f;
        sl_glu act = s % 3 == 0 ? SL_GLU_GELU_TANH : SL_GLU_SILU;
        reference()->glu(act, gate, up, count, want);
        sl_device_glu job = {.act = act, .rows = rows, .cols = cols, .gate = put(b, gate, count * 4), .up = put(b, up, count * 4)};
        job.dst = in_place ? job.gate : put(b, NULL, count * 4);
        sl_device_acts acts = {0};
        if (quantised) {
            acts = put_acts(b, job.dst, rows, cols);
            job.acts = &acts;
        }
        device_ok(b->kernels->glu(b->device, &job, E));
        if (quantised)
            assert_acts(b, &acts, want);
        assert_on_device(b, job.dst, want, count * 4, "gated units");
        device_clear(b);
        free(gate);
        free(up);
        free(want);
    }
}

static void gated_units_are_the_references(void **state)
{
    (void)state;
    on_device(check_glu);
}

static void check_place(device_bed *b)
{
    enum { ROWS = 3, TO = 700, FROM = 400 };
    static const uint32_t cols[] = {1, 255, 257, 400};
    for (size_t s = 0; s < 4; s++) {
        float *from = make_floats(ROWS * FROM, 7 + s, 1.0f), *to = make_floats(ROWS * TO, 8, 1.0f);
        void *locked = NULL;
        device_ok(b->device->ops->host_alloc(b->device, ROWS * FROM * 4, &locked, E));
        memcpy(locked, from, ROWS * FROM * 4);
        ((float *)locked)[0] = from[0] = -0.0f; /* what is moved is moved, not added to a zero */
        sl_device_ptr read = b->device->ops->host_address(b->device, locked), at = put(b, to, ROWS * TO * 4);
        if (read == 0)
            read = put(b, from, ROWS * FROM * 4);
        device_ok(b->kernels->place(b->device, at + 8, TO, read, FROM, cols[s], ROWS, E));
        for (int r = 0; r < ROWS; r++)
            memcpy(to + 2 + r * TO, from + r * FROM, cols[s] * 4);
        assert_on_device(b, at, to, ROWS * TO * 4, "rows that were placed");
        device_clear(b);
        b->device->ops->host_free(b->device, locked);
        free(from);
        free(to);
    }
}
static void rows_in_host_memory_are_placed_among_others(void **state)
{
    (void)state;
    on_device(check_place);
}

static void check_add(device_bed *b)
{
    static const size_t counts[] = {1, 4, 1023, 5000};
    for (size_t s = 0; s < 4; s++) {
        float *acc = make_floats(counts[s], 5 + s, 1.0f), *x = make_floats(counts[s], 6 + s, 1.0f);
        sl_device_ptr at = put(b, acc, counts[s] * 4);
        device_ok(b->kernels->add(b->device, at, put(b, x, counts[s] * 4), counts[s], E));
        reference()->add(acc, x, counts[s]);
        assert_on_device(b, at, acc, counts[s] * 4, "a sum");
        device_clear(b);
        free(acc);
        free(x);
    }
}

static void additions_are_the_references(void **state)
{
    (void)state;
    on_device(check_add);
}

/* ---- a cache ---- */

typedef struct kv_cache {
    uint32_t heads, head_dim, k_type, v_type, pages;
    size_t k_page, v_page, head_stride, bytes;
    uint8_t *host;
} kv_cache;

static kv_cache cache_make(uint32_t heads, uint32_t head_dim, uint32_t k_type, uint32_t v_type, uint32_t slots)
{
    kv_cache c = {.heads = heads, .head_dim = head_dim, .k_type = k_type, .v_type = v_type, .pages = (slots + SL_KV_PAGE - 1) / SL_KV_PAGE};
    c.k_page = sl_kv_page_bytes(k_type, head_dim);
    c.v_page = sl_kv_page_bytes(v_type, head_dim);
    c.head_stride = c.pages * (c.k_page + c.v_page) + 64;
    c.bytes = heads * c.head_stride;
    c.host = allocate(c.bytes);
    memset(c.host, 0xff, c.bytes);
    return c;
}
static uint8_t *k_page_of(const kv_cache *c, uint32_t head, uint32_t slot)
{
    return c->host + head * c->head_stride + slot / SL_KV_PAGE * c->k_page;
}
static uint8_t *v_page_of(const kv_cache *c, uint32_t head, uint32_t slot)
{
    return c->host + head * c->head_stride + c->pages * c->k_page + slot / SL_KV_PAGE * c->v_page;
}
static void cache_store(const kv_cache *c, uint32_t head, uint32_t slot, const float *k, const float *v)
{
    reference()->kv_store_k(c->k_type, k_page_of(c, head, slot), slot % SL_KV_PAGE, k, c->head_dim);
    reference()->kv_store_v(c->v_type, v_page_of(c, head, slot), slot % SL_KV_PAGE, v, c->head_dim);
}
static void cache_fill(const kv_cache *c, uint32_t slots, uint64_t seed)
{
    float k[512], v[512];
    for (uint32_t h = 0; h < c->heads; h++)
        for (uint32_t slot = 0; slot < slots; slot++) {
            fill(k, c->head_dim, seed++);
            fill(v, c->head_dim, seed++ << 20);
            cache_store(c, h, slot, k, v);
        }
}
static sl_device_kv cache_put(device_bed *b, const kv_cache *c)
{
    return (sl_device_kv){.base = put(b, c->host, c->bytes),
                          .k_type = c->k_type,
                          .v_type = c->v_type,
                          .head_stride = c->head_stride,
                          .v_offset = c->pages * c->k_page,
                          .k_page_bytes = c->k_page,
                          .v_page_bytes = c->v_page};
}

/* ---- heads ---- */

typedef struct heads_case {
    uint32_t rows, heads, kv_heads, head_dim, rope_dim, k_type, v_type, pos0, first;
    sl_rope rope;
    bool norms;
} heads_case;

/* What the executor does with one kind of vectors, row after row. */
static void prepare_heads(const heads_case *c, float *x, uint32_t heads, const float *norm, const float *cos, const float *sin)
{
    for (uint32_t r = 0; r < c->rows; r++) {
        float *row = x + (size_t)r * heads * c->head_dim;
        for (uint32_t h = 0; norm != NULL && h < heads; h++)
            reference()->rms_norm(row + h * c->head_dim, norm, c->head_dim, 1e-6f, row + h * c->head_dim);
        reference()->rope(c->rope, row, heads, c->head_dim, c->rope_dim, cos + r * (c->rope_dim / 2), sin + r * (c->rope_dim / 2));
    }
}

static void check_heads_case(device_bed *b, const heads_case *c, uint64_t seed)
{
    size_t q_count = (size_t)c->rows * c->heads * c->head_dim, kv_count = (size_t)c->rows * c->kv_heads * c->head_dim;
    size_t angles = c->rows * (c->rope_dim / 2);
    float *q = make_floats(q_count, seed, 3.0f), *k = make_floats(kv_count, seed + 1, 3.0f), *v = make_floats(kv_count, seed + 2, 3.0f);
    float *cos = make_floats(angles, seed + 3, 1.0f), *sin = make_floats(angles, seed + 4, 1.0f);
    float *q_norm = make_floats(c->head_dim, seed + 5, 2.0f), *k_norm = make_floats(c->head_dim, seed + 6, 2.0f);
    memset(v, 0, c->head_dim * sizeof *v); /* blocks of zeros, and of -0 */
    v[c->head_dim - 1] = -0.0f;
    kv_cache cache = cache_make(c->kv_heads, c->head_dim, c->k_type, c->v_type, c->pos0 + c->first + c->rows);
    cache_fill(&cache, c->pos0 + c->first, seed);
    sl_device_pass *pass = allocate(sizeof *pass);
    pass->pos0 = c->pos0;
    pass->first = c->first;
    pass->tree = c->first > 0;

    sl_device_heads job = {.rows = c->rows,
                           .heads = c->heads,
                           .kv_heads = c->kv_heads,
                           .head_dim = c->head_dim,
                           .rope_dim = c->rope_dim,
                           .rope = c->rope,
                           .eps = 1e-6f,
                           .q = put(b, q, q_count * 4),
                           .k = put(b, k, kv_count * 4),
                           .v = put(b, v, kv_count * 4),
                           .rope_cos = put(b, cos, angles * 4),
                           .rope_sin = put(b, sin, angles * 4),
                           .pass = put(b, pass, sizeof *pass),
                           .kv = cache_put(b, &cache)};
    size_t row_page = sl_kv_page_bytes(c->k_type, c->head_dim), rows_stride = cache.pages * row_page;
    uint8_t *key_rows = allocate(c->kv_heads * rows_stride);
    memset(key_rows, 0xff, c->kv_heads * rows_stride);
    job.key_rows = (sl_device_key_rows){put(b, NULL, c->kv_heads * rows_stride), rows_stride, row_page};
    if (c->norms) {
        job.q_norm = put(b, q_norm, c->head_dim * sizeof *q_norm);
        job.k_norm = put(b, k_norm, c->head_dim * sizeof *k_norm);
    }
    device_ok(b->kernels->heads(b->device, &job, E));

    prepare_heads(c, q, c->heads, c->norms ? q_norm : NULL, cos, sin);
    prepare_heads(c, k, c->kv_heads, c->norms ? k_norm : NULL, cos, sin);
    for (uint32_t r = 0; r < c->rows; r++)
        for (uint32_t h = 0; h < c->kv_heads; h++) {
            size_t at = ((size_t)r * c->kv_heads + h) * c->head_dim;
            cache_store(&cache, h, c->pos0 + c->first + r, k + at, v + at);
            uint32_t slot = c->pos0 + c->first + r;
            reference()->kv_store_v(c->k_type, key_rows + h * rows_stride + slot / SL_KV_PAGE * row_page, slot % SL_KV_PAGE, k + at,
                                    c->head_dim);
        }
    assert_on_device(b, job.q, q, q_count * 4, "queries");
    assert_on_device(b, job.kv.base, cache.host, cache.bytes, "keys and values");
    assert_on_device(b, job.key_rows.base, key_rows, c->kv_heads * rows_stride, "keys in one piece");
    device_clear(b);
    void *all[] = {q, k, v, cos, sin, q_norm, k_norm, pass, cache.host, key_rows};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        free(all[i]);
}

static void check_heads(device_bed *b)
{
    static const heads_case cases[] = {
        {1, 9, 3, 64, 64, SL_TYPE_F16, SL_TYPE_F16, 0, 0, SL_ROPE_PAIRS, false},
        {5, 4, 2, 128, 128, SL_TYPE_Q8_0, SL_TYPE_Q4_0, 61, 0, SL_ROPE_HALVES, true},
        {3, 4, 1, 256, 64, SL_TYPE_Q4_0, SL_TYPE_Q8_0, 127, 0, SL_ROPE_HALVES, true},
        {2, 3, 3, 48, 32, SL_TYPE_F32, SL_TYPE_BF16, 3, 0, SL_ROPE_PAIRS, true},
        {4, 2, 2, 80, 80, SL_TYPE_BF16, SL_TYPE_F32, 60, 9, SL_ROPE_PAIRS, false},
        {1, 1, 1, 512, 512, SL_TYPE_Q8_0, SL_TYPE_Q8_0, 64, 63, SL_ROPE_HALVES, false},
        {70, 2, 1, 32, 32, SL_TYPE_Q4_0, SL_TYPE_Q4_0, 10, 0, SL_ROPE_PAIRS, true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        check_heads_case(b, &cases[i], 1000 * (i + 1));
}

static void heads_are_normed_turned_and_stored_as_the_reference_does(void **state)
{
    (void)state;
    on_device(check_heads);
}

static void check_copies(device_bed *b)
{
    static const uint32_t types[][2] = {
        {SL_TYPE_F32, SL_TYPE_F16}, {SL_TYPE_BF16, SL_TYPE_Q8_0}, {SL_TYPE_Q8_0, SL_TYPE_Q4_0}, {SL_TYPE_Q4_0, SL_TYPE_F32}};
    for (size_t i = 0; i < 4; i++) {
        kv_cache c = cache_make(3, 96, types[i][0], types[i][1], 192);
        cache_fill(&c, 150, 7 + i);
        sl_device_kv kv = cache_put(b, &c);
        /* Values are laid as keys in one piece are, so those of the first type are checked with them. */
        kv_cache once_more = cache_make(3, 96, SL_TYPE_F16, types[i][0], 192);
        cache_fill(&once_more, 150, 77 + i);
        sl_device_kv more = cache_put(b, &once_more);
        sl_device_key_rows rows = {more.base + more.v_offset, more.head_stride, more.v_page_bytes}, none = {0};
        device_ok(b->kernels->kv_copy(b->device, &kv, &rows, c.heads, c.head_dim, 131, 63, E));
        device_ok(b->kernels->kv_copy(b->device, &kv, &none, c.heads, c.head_dim, 5, 4, E));
        for (uint32_t h = 0; h < c.heads; h++) {
            reference()->kv_copy_k(c.k_type, k_page_of(&c, h, 131), 3, k_page_of(&c, h, 63), 63, c.head_dim);
            reference()->kv_copy_v(c.v_type, v_page_of(&c, h, 131), 3, v_page_of(&c, h, 63), 63, c.head_dim);
            reference()->kv_copy_v(c.k_type, v_page_of(&once_more, h, 131), 3, v_page_of(&once_more, h, 63), 63, c.head_dim);
            reference()->kv_copy_k(c.k_type, k_page_of(&c, h, 5), 5, k_page_of(&c, h, 4), 4, c.head_dim);
            reference()->kv_copy_v(c.v_type, v_page_of(&c, h, 5), 5, v_page_of(&c, h, 4), 4, c.head_dim);
        }
        assert_on_device(b, kv.base, c.host, c.bytes, "copied keys and values");
        assert_on_device(b, more.base, once_more.host, once_more.bytes, "copied keys in one piece");
        device_clear(b);
        free(c.host);
        free(once_more.host);
    }
}

static void keys_and_values_are_copied_as_they_are_stored(void **state)
{
    (void)state;
    on_device(check_copies);
}

/* ---- attention ---- */

typedef struct attention_case {
    uint32_t rows, heads, kv_heads, head_dim, window, k_type, v_type, pos0, positions, tree_rows, first;
} attention_case;

/* A tree in which a row hangs on any earlier one, mostly a late one: some of its paths are long. */
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

static void attend_reference(const attention_case *c, const kv_cache *cache, const sl_device_pass *pass, const float *q, float *out)
{
    uint32_t group = c->heads / c->kv_heads;
    const uint8_t **k_pages = allocate(cache->pages * sizeof *k_pages), **v_pages = allocate(cache->pages * sizeof *v_pages);
    sl_attention_tree tree = {.depth = pass->depth + c->first, .path = (const uint8_t(*)[SL_TREE_ROWS])pass->path + c->first};
    for (uint32_t h = 0; h < c->kv_heads; h++) {
        for (uint32_t page = 0; page < cache->pages; page++) {
            k_pages[page] = k_page_of(cache, h, page * SL_KV_PAGE);
            v_pages[page] = v_page_of(cache, h, page * SL_KV_PAGE);
        }
        sl_attention job = {.head_dim = c->head_dim,
                            .group = group,
                            .rows = c->rows,
                            .pos0 = c->pos0,
                            .tree = pass->tree ? &tree : NULL,
                            .window = c->window,
                            .scale = 0.125f,
                            .k_type = c->k_type,
                            .v_type = c->v_type,
                            .k_pages = k_pages,
                            .v_pages = v_pages,
                            .q = q + (size_t)h * group * c->head_dim,
                            .q_stride = (size_t)c->heads * c->head_dim,
                            .out = out + (size_t)h * group * c->head_dim,
                            .out_stride = (size_t)c->heads * c->head_dim};
        reference()->attention(&job);
    }
    free(k_pages);
    free(v_pages);
}

static void check_attention_case(device_bed *b, const attention_case *c, uint64_t seed)
{
    uint32_t slots = c->pos0 + (c->tree_rows > 0 ? c->tree_rows : c->rows), positions = c->positions > 0 ? c->positions : slots;
    size_t count = (size_t)c->rows * c->heads * c->head_dim;
    kv_cache cache = cache_make(c->kv_heads, c->head_dim, c->k_type, c->v_type, slots);
    cache_fill(&cache, slots, seed);
    float *q = make_floats(count, seed + 1, 5.0f), *want = allocate(count * sizeof *want);
    sl_device_pass *pass = allocate(sizeof *pass);
    pass->pos0 = c->pos0;
    pass->first = c->first;
    if (c->tree_rows > 0)
        grow(pass, c->tree_rows, seed + 2);
    attend_reference(c, &cache, pass, q, want);

    uint64_t scratch = b->kernels->attention_scratch(c->rows, c->heads, c->head_dim, positions);
    sl_device_attention job = {.rows = c->rows,
                               .heads = c->heads,
                               .kv_heads = c->kv_heads,
                               .head_dim = c->head_dim,
                               .window = c->window,
                               .positions = positions,
                               .scale = 0.125f,
                               .q = put(b, q, count * 4),
                               .out = put(b, NULL, count * 4),
                               .pass = put(b, pass, sizeof *pass),
                               .kv = cache_put(b, &cache)};
    sl_device_acts acts = put_acts(b, job.out, c->rows, c->heads * c->head_dim);
    job.acts = acts.cols % 32 == 0 ? &acts : NULL;
    job.scratch = scratch < (8u << 20) ? put(b, NULL, scratch) : device_room(b, scratch);
    device_ok(b->kernels->attention(b->device, &job, E));
    if (job.acts != NULL)
        assert_acts(b, job.acts, want);
    assert_on_device(b, job.out, want, count * 4, "attention");
    device_clear(b);
    void *all[] = {q, want, pass, cache.host};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        free(all[i]);
}

static void check_attention(device_bed *b)
{
    static const attention_case cases[] = {
        /* rows, heads, KV heads, head_dim, window, keys, values, pos0, positions, tree rows, first */
        {1, 1, 1, 16, 0, SL_TYPE_F32, SL_TYPE_F32, 0, 0, 0, 0},
        {1, 9, 3, 64, 0, SL_TYPE_F16, SL_TYPE_F16, 200, 0, 0, 0},
        {1, 2, 2, 128, 0, SL_TYPE_BF16, SL_TYPE_F32, 63, 0, 0, 0},
        {1, 4, 1, 64, 0, SL_TYPE_Q8_0, SL_TYPE_Q8_0, 64, 0, 0, 0},
        {1, 8, 1, 32, 0, SL_TYPE_Q4_0, SL_TYPE_Q4_0, 127, 0, 0, 0},
        {5, 6, 2, 48, 0, SL_TYPE_F16, SL_TYPE_BF16, 61, 0, 0, 0},
        {70, 2, 1, 32, 0, SL_TYPE_Q8_0, SL_TYPE_Q4_0, 3, 0, 0, 0},
        {3, 2, 1, 512, 0, SL_TYPE_Q4_0, SL_TYPE_F16, 66, 0, 0, 0},
        {1, 3, 1, 64, 100, SL_TYPE_F16, SL_TYPE_F16, 300, 0, 0, 0},
        {40, 2, 2, 32, 17, SL_TYPE_F32, SL_TYPE_Q8_0, 100, 0, 0, 0},
        {2, 2, 1, 32, 1, SL_TYPE_F32, SL_TYPE_F32, 64, 0, 0, 0},
        {1, 2, 1, 16, 0, SL_TYPE_F16, SL_TYPE_F16, 9000, 0, 0, 0},      /* more pages than a block has threads */
        {20, 4, 2, 32, 0, SL_TYPE_F16, SL_TYPE_F16, 100, 100000, 0, 0}, /* more scratch than is used at once */
        {7, 3, 1, 64, 0, SL_TYPE_F16, SL_TYPE_F16, 60, 0, 7, 0},        /* trees */
        {30, 4, 2, 32, 0, SL_TYPE_Q8_0, SL_TYPE_Q4_0, 100, 0, 100, 70}, /* the last rows of one */
        {128, 2, 1, 16, 0, SL_TYPE_F32, SL_TYPE_F16, 63, 0, 128, 0},
        {40, 2, 1, 32, 70, SL_TYPE_BF16, SL_TYPE_Q8_0, 127, 0, 90, 50}, /* with a window */
        {12, 2, 1, 32, 5, SL_TYPE_Q4_0, SL_TYPE_F16, 64, 0, 64, 52},
        {1, 2, 1, 32, 0, SL_TYPE_F16, SL_TYPE_F16, 0, 0, 1, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        check_attention_case(b, &cases[i], 100 * (i + 1));
}

static void attention_is_the_references_over_types_shapes_windows_and_trees(void **state)
{
    (void)state;
    on_device(check_attention);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(activations_are_quantised_as_the_reference_does),
        cmocka_unit_test(norms_and_their_quantised_results_are_the_references),
        cmocka_unit_test(gated_units_are_the_references),
        cmocka_unit_test(additions_are_the_references),
        cmocka_unit_test(rows_in_host_memory_are_placed_among_others),
        cmocka_unit_test(heads_are_normed_turned_and_stored_as_the_reference_does),
        cmocka_unit_test(keys_and_values_are_copied_as_they_are_stored),
        cmocka_unit_test(attention_is_the_references_over_types_shapes_windows_and_trees),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
