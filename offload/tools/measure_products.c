/* offload/tools/measure_products.c: see measure_products.h. Weights and activations are zeros: products take no longer with others, and no less. */
#include "offload/tools/measure_products.h"
#include "core/layout.h"
#include "core/os.h"
#include "offload/share.h"

#include <string.h>

#define COLS      2304u /* of a matrix: whole blocks of any format */
#define ROWS_MANY 16
#define PASSES    3 /* at least, and more until they took */
#define PASSES_NS ((uint64_t)25000000)

typedef struct material {
    const sl_kernels *kernels;
    sl_acts acts;
    size_t weights_bytes, out_rows;
    uint8_t *weights;
    float *out; /* [row of activations][out_rows] */
    /* of the type in hand */
    uint32_t type, panels;
    size_t panel_bytes;
} material;

static void lay_out(sl_layout *l, material *m)
{
    m->weights = sl_layout_place(l, m->weights_bytes);
    m->out = sl_layout_place(l, ROWS_MANY * m->out_rows * sizeof *m->out);
    m->acts.f32 = sl_layout_place(l, (size_t)ROWS_MANY * COLS * sizeof(float));
    m->acts.q = sl_layout_place(l, (size_t)ROWS_MANY * COLS);
    m->acts.d = sl_layout_place(l, (size_t)ROWS_MANY * COLS / SL_ACT_BLOCK * sizeof(float));
    m->acts.sum = sl_layout_place(l, (size_t)ROWS_MANY * COLS / SL_ACT_BLOCK * sizeof(int32_t));
}

/* Each thread touches what it will read, more or less: types divide the memory alike. */
static void touch(void *arg, unsigned index, unsigned count)
{
    material *m = arg;
    size_t first = m->weights_bytes * index / count, end = m->weights_bytes * (index + 1) / count;
    memset(m->weights + first, 0, end - first);
}

static void multiply(void *arg, unsigned index, unsigned count)
{
    material *m = arg;
    uint32_t first, end;
    sli_share(m->panels, 1, index, count, &first, &end);
    if (first < end)
        m->kernels->matmul(m->type, m->weights + first * m->panel_bytes, (end - first) * SL_PANEL_ROWS, &m->acts,
                           m->out + (size_t)first * SL_PANEL_ROWS, m->out_rows);
}

/* The fastest of some: whatever disturbs makes it slower, and a cache is filled by the first. */
static double seconds_of(material *m, sl_threads *crew, uint32_t rows)
{
    uint64_t best = UINT64_MAX, all = 0;
    m->acts.rows = rows;
    for (int i = 0; i < PASSES || all < PASSES_NS; i++) {
        uint64_t begin = sl_now_ns();
        sl_threads_run(crew, multiply, m);
        uint64_t spent = sl_now_ns() - begin;
        best = spent < best ? spent : best;
        all += spent;
    }
    return (double)best * 1e-9;
}

static sli_machine_rate measure(material *m, sl_threads *crew, uint32_t type)
{
    m->type = type;
    m->panel_bytes = sl_panel_bytes(type, COLS);
    m->panels = (uint32_t)(m->weights_bytes / m->panel_bytes);
    double all = (double)m->panels * (double)m->panel_bytes, one = seconds_of(m, crew, 1), many = seconds_of(m, crew, ROWS_MANY);
    return (sli_machine_rate){type, m->weights_bytes, all / one, 2.0 * ROWS_MANY * m->panels * SL_PANEL_ROWS * COLS / many};
}

sl_status sli_measure_products(const sl_kernels *kernels, sl_threads *crew, const uint32_t *types, size_t count, size_t bytes,
                               sli_machine_rate *out, sl_error *err)
{
    material m = {.kernels = kernels, .acts = {.rows = ROWS_MANY, .cols = COLS}};
    sl_layout l = {0};
    size_t smallest = SIZE_MAX; /* of a panel: it has the most rows */
    for (size_t i = 0; i < count; i++)
        smallest = sl_panel_bytes(types[i], COLS) < smallest ? sl_panel_bytes(types[i], COLS) : smallest;
    m.weights_bytes = bytes > SLI_PRODUCTS_BYTES_MIN ? bytes : SLI_PRODUCTS_BYTES_MIN;
    m.out_rows = (m.weights_bytes / smallest + 1) * SL_PANEL_ROWS;
    lay_out(&l, &m);
    size_t arena_bytes = l.used;
    uint8_t *arena = sl_pages_alloc(arena_bytes);
    if (arena == NULL)
        return sl_fail(err, SL_NO_MEMORY, "no memory to measure products in (%zu bytes)", arena_bytes);
    l = (sl_layout){.base = arena};
    lay_out(&l, &m);
    sl_threads_run(crew, touch, &m);
    kernels->quantize(&m.acts, 0, ROWS_MANY);
    for (size_t i = 0; i < count; i++)
        out[i] = measure(&m, crew, types[i]);
    sl_pages_free(arena, arena_bytes);
    return SL_OK;
}
