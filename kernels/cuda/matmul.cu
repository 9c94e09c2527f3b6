/* kernels/cuda/matmul.cu: which kernel multiplies. All of them give the same bits; the number of rows decides which is fastest. */
#include "kernels/cuda/products.h"

#include <assert.h>

#define ROWS_OF_THREADS 8   /* up to here a thread keeps a row of weights and all rows of activations */
#define ROWS_OF_TILES   128 /* up to here there are too few blocks for each to have all segments */

static uint64_t panel_bytes(uint32_t type, uint32_t cols)
{
    sli_form form = sli_form_of(type);
    return (uint64_t)(cols / form.elements) * form.bytes * SL_PANEL_ROWS;
}

/* The products of a type, without empty ones. */
static sli_products select(const sl_device_product *products, uint32_t count, uint32_t type)
{
    sli_products out = {};
    for (uint32_t i = 0; i < count; i++) {
        const sl_device_product *p = &products[i];
        if (p->type != type || p->rows == 0)
            continue;
        out.panels += (p->rows + SL_PANEL_ROWS - 1) / SL_PANEL_ROWS;
        out.of[out.count++] = {sli_at<const uint8_t>(p->panels),
                               sli_at<float>(p->out),
                               sli_at<const float>(p->bias),
                               sli_at<const float>(p->add),
                               p->rows,
                               p->out_stride,
                               out.panels};
    }
    return out;
}

static sl_status multiply(sl_device *dev, uint32_t type, const sli_products *products, const sl_device_acts *x, sl_error *err)
{
    sli_acts_view view = sli_view_of(x);
    uint64_t results = (uint64_t)products->panels * SL_PANEL_ROWS * x->rows * sizeof(float);
    uint64_t bytes = products->panels * panel_bytes(type, x->cols) + (uint64_t)x->rows * x->cols + results;
    if (sli_form_of(type).words == 0 || x->rows <= ROWS_OF_THREADS)
        return sli_matmul_rows(dev, type, products, &view, bytes, err);
    if (x->rows <= ROWS_OF_TILES)
        return sli_matmul_tiles(dev, type, products, &view, bytes, err);
    return sli_matmul_batch(dev, type, products, &view, bytes, err);
}

/* A launch per type, in the order in which types first appear. */
sl_status sli_device_matmul(sl_device *dev, const sl_device_product *products, uint32_t count, const sl_device_acts *x, sl_error *err)
{
    assert(count <= SL_DEVICE_PRODUCTS && x->rows > 0);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t type = products[i].type, before = 0;
        assert(sli_form_of(type).elements != 0 && x->cols % sli_form_of(type).elements == 0);
        while (products[before].type != type)
            before++;
        if (before < i)
            continue;
        sli_products chosen = select(products, count, type);
        if (chosen.count > 0)
            SL_TRY(multiply(dev, type, &chosen, x, err));
    }
    return SL_OK;
}
