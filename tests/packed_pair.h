/* tests/packed_pair.h: a tiny model, the same packed, and calibrated. Needs cmocka's names. */
#ifndef SL_TESTS_PACKED_PAIR_H
#define SL_TESTS_PACKED_PAIR_H

#include "offload/calibrate/linear.h"
#include "offload/calibrate/store.h"
#include "tests/sparse_rows.h"
#include "tests/tiny_model.h"

#define MIB ((uint64_t)1 << 20)

typedef struct pair {
    char *stock, *packed;
} pair;

/* A tiny model and the same packed in a random order. */
static inline pair write_pair(const tiny_model *model)
{
    pair p = {tiny_path("stock.gguf"), tiny_path("packed.gguf")};
    sl_error err = {0};
    check(tiny_write(model, p.stock, &err), &err);
    sli_pack_options options = {.in_path = p.stock, .out_path = p.packed, .order = SLI_PACK_RANDOM_ORDER, .seed = 3};
    options.zeros = model->pruned ? SLI_PACK_LEAVE_ZEROS_OUT : SLI_PACK_STORE_ZEROS;
    check(sli_pack(&options, NULL, &err), &err);
    return p;
}

static inline void forget_pair(pair p)
{
    unlink(p.stock);
    unlink(p.packed);
    free(p.stock);
    free(p.packed);
}

/* A text of pseudo-random words: what it says does not matter, that it is long enough does. */
static inline char *some_text(size_t bytes)
{
    char *text = malloc(bytes + 1);
    assert_non_null(text);
    for (size_t i = 0; i < bytes; i++)
        text[i] = (char)((i * i * 31 + i / 7 * 17) % 11 == 0 ? ' ' : 'a' + (i * 7 + i / 13 * 5) % 26);
    text[bytes] = '\0';
    return text;
}

/* Calibrates in place, with a text of so many bytes. */
static inline void calibrate_with(const char *path, size_t bytes)
{
    sli_calibration found;
    sl_error err = {0};
    char *text = some_text(bytes);
    sli_calibrate_options options = {
        .model_path = path, .text = text, .text_bytes = bytes, .out_path = path, .ram_budget_bytes = 1024 * MIB, .predictor_bytes = MIB};
    check(sli_calibrate(&options, &found, &err), &err);
    const sl_tool_watch unwatched = {0};
    check(sli_calibration_store(&found, path, path, &unwatched, NULL, &err), &err);
    sli_calibration_free(&found);
    free(text);
}

static inline void calibrate(const char *path)
{
    calibrate_with(path, 6000);
}

#endif
