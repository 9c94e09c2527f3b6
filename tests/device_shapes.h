/* tests/device_shapes.h: tiny models that between them have what architectures differ in, for tests that compare a device with the processor; and the least memory
 * of a device that works for one. Needs cmocka's names. */
#ifndef SL_TESTS_DEVICE_SHAPES_H
#define SL_TESTS_DEVICE_SHAPES_H

#include "offload/sluice.h"
#include "tests/tiny_model.h"

#include <string.h>

/* Of a table: each has a vocabulary of 387, so that the last panel is partly filled. */
#define SHAPE(LAYERS, D, FF, HEADS, KV_HEADS, HEAD_DIM, CONTEXT, SEED)                                                                     \
    .layers = LAYERS, .d = D, .ff = FF, .heads = HEADS, .kv_heads = KV_HEADS, .head_dim = HEAD_DIM, .vocab = 387, .context = CONTEXT,      \
    .seed = SEED
#define SHAPE_LLAMA(LAYERS, CONTEXT)                                                                                                       \
    {                                                                                                                                      \
        SHAPE(LAYERS, 64, 96, 4, 2, 32, CONTEXT, 1), .tied = true                                                                          \
    }
#define SHAPE_GEMMA3(LAYERS, CONTEXT, WINDOW) /* every other layer has a window */                                                         \
    {                                                                                                                                      \
        SHAPE(LAYERS, 64, 96, 4, 1, 32, CONTEXT, 2), .arch = "gemma3", .tied = true, .window = WINDOW, .window_period = 2                  \
    }
#define SHAPE_QWEN2(LAYERS, CONTEXT)                                                                                                       \
    {                                                                                                                                      \
        SHAPE(LAYERS, 96, 64, 4, 4, 16, CONTEXT, 3), .arch = "qwen2", .biases = true                                                       \
    }
#define SHAPE_QWEN3(LAYERS, CONTEXT)                                                                                                       \
    {                                                                                                                                      \
        SHAPE(LAYERS, 64, 160, 2, 1, 64, CONTEXT, 4), .arch = "qwen3", .tied = true                                                        \
    }
#define SHAPE_PHI3(LAYERS, CONTEXT)                                                                                                        \
    {                                                                                                                                      \
        SHAPE(LAYERS, 64, 96, 4, 2, 32, CONTEXT, 5), .arch = "phi3"                                                                        \
    }

/* The least VRAM budget, in whole steps, that these options work with; a smaller one is refused with what would help. */
static inline uint64_t least_vram(sl_engine_options options, uint64_t step)
{
    for (options.vram_budget_bytes = step; options.vram_budget_bytes < (uint64_t)64 << 20; options.vram_budget_bytes += step) {
        sl_engine *engine;
        sl_error err = {0};
        sl_status status = sl_engine_open(&options, &engine, &err);
        if (status == SL_OK) {
            sl_engine_close(engine);
            return options.vram_budget_bytes;
        }
        assert_int_equal(status, SL_NO_BUDGET);
        assert_non_null(strstr(err.message, "VRAM budget"));
        assert_true(options.kv_host == SL_KV_HOST_AUTO || strstr(err.message, "--kv-host auto") != NULL);
    }
    fail_msg("no VRAM budget works");
    return 0;
}

#endif
