/* kernels/cuda/pack.cu: rows as in the file, or in bundles, to panels (kernels.h, "The panel").
 *
 * A block takes some bytes of the sixteen rows of a panel through shared memory: read along the rows, byte by byte because rows may begin anywhere, and
 * written along the panel. Bytes are slow only for the scheduler: a multiprocessor moves 32 a cycle, which is above what its share of memory gives. */
#include "kernels/cuda/products.h"

#include <assert.h>

#define THREADS   256
#define ROW_BYTES 704 /* of a row, in shared memory; a multiple of no block, so what fits is taken */

/* As pack sees it a float is a block without a scale: F32 one word, the others one 16-bit number. */
static sli_form form_of(uint32_t type)
{
    sli_form form = sli_form_of(type);
    if (form.elements == 1 && form.bytes == 4)
        form.words = 1;
    else if (form.elements == 1)
        form.halves = 1;
    return form;
}

SLI_DEVICE uint16_t half_at(const uint8_t *bytes)
{
    return (uint16_t)(bytes[0] | bytes[1] << 8);
}

/* Row r: a stride behind the row before it, or where a table says. */
struct pack_source {
    const uint8_t *from;
    const uint8_t *const *at; /* NULL, or [rows], and the row lies `offset` bytes behind at[r] */
    uint64_t stride, offset;
};

/* Grid: panels x groups of `at_once` blocks. */
static __global__ void __launch_bounds__(THREADS)
    pack_kernel(sli_form form, pack_source source, uint32_t rows, uint32_t blocks, uint32_t at_once, uint8_t *panels)
{
    __shared__ uint8_t bytes[SL_PANEL_ROWS][ROW_BYTES];
    uint32_t first = blockIdx.y * at_once, count = min(blocks - first, at_once), row_bytes = count * form.bytes;
    uint8_t *panel = panels + (size_t)blockIdx.x * blocks * form.bytes * SL_PANEL_ROWS;
    for (uint32_t i = threadIdx.x; i < SL_PANEL_ROWS * row_bytes; i += THREADS) {
        uint32_t r = i / row_bytes, at = i % row_bytes, row = blockIdx.x * SL_PANEL_ROWS + r;
        uint8_t byte = 0;
        if (row < rows) {
            const uint8_t *begin = source.at != NULL ? source.at[row] + source.offset : source.from + row * source.stride;
            byte = begin[(size_t)first * form.bytes + at];
        }
        bytes[r][at] = byte;
    }
    __syncthreads();

    uint32_t *words = (uint32_t *)panel + (size_t)first * form.words * SL_PANEL_ROWS;
    uint16_t *halves = (uint16_t *)(panel + (size_t)blocks * form.words * 4 * SL_PANEL_ROWS);
    for (uint32_t i = threadIdx.x; i < count * form.words * SL_PANEL_ROWS; i += THREADS) {
        uint32_t r = i % SL_PANEL_ROWS, w = i / SL_PANEL_ROWS % form.words, b = i / SL_PANEL_ROWS / form.words;
        const uint8_t *at = bytes[r] + b * form.bytes + form.words_offset + 4 * w;
        words[i] = half_at(at) | (uint32_t)half_at(at + 2) << 16;
    }
    for (uint32_t i = threadIdx.x; i < count * form.halves * SL_PANEL_ROWS; i += THREADS) {
        uint32_t r = i % SL_PANEL_ROWS, b = i / SL_PANEL_ROWS % count, h = i / SL_PANEL_ROWS / count;
        halves[((size_t)h * blocks + first + b) * SL_PANEL_ROWS + r] = half_at(bytes[r] + b * form.bytes +
                                                                               (h == 0 ? form.half_offset[0] : form.half_offset[1]));
    }
}

static sl_status pack(sl_device *dev, uint32_t type, pack_source source, uint32_t rows, uint32_t cols, sl_device_ptr panels, sl_error *err)
{
    sli_form form = form_of(type);
    assert(form.elements != 0 && cols % form.elements == 0);
    uint32_t blocks = cols / form.elements, at_once = ROW_BYTES / form.bytes, count = (rows + SL_PANEL_ROWS - 1) / SL_PANEL_ROWS;
    if (rows == 0 || cols == 0)
        return SL_OK;
    return sli_launch(dev, err, 2 * (uint64_t)count * SL_PANEL_ROWS * blocks * form.bytes, pack_kernel,
                      dim3(count, (blocks + at_once - 1) / at_once), dim3(THREADS), 0, form, source, rows, blocks, at_once,
                      sli_at<uint8_t>(panels));
}

sl_status sli_device_pack(sl_device *dev, uint32_t type, sl_device_ptr from, uint64_t stride, uint32_t rows, uint32_t cols,
                          sl_device_ptr panels, sl_error *err)
{
    return pack(dev, type, {sli_at<const uint8_t>(from), NULL, stride, 0}, rows, cols, panels, err);
}

sl_status sli_device_bundle_pack(sl_device *dev, uint32_t type, sl_device_ptr at, uint32_t offset, uint32_t rows, uint32_t cols,
                                 sl_device_ptr panels, sl_error *err)
{
    return pack(dev, type, {NULL, sli_at<const uint8_t *const>(at), 0, offset}, rows, cols, panels, err);
}
