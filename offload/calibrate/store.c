/* offload/calibrate/store.c: see store.h. */
#include "offload/calibrate/store.h"
#include "offload/predictor.h"

#include <stdio.h>
#include <stdlib.h>

#define NAME_MAX_BYTES 64

sl_status sli_calibration_store(const sli_calibration *c, const char *in_path, const char *out_path, const sl_tool_watch *watch,
                                sli_pack_result *result, sl_error *err)
{
    char(*names)[NAME_MAX_BYTES] = calloc(c->layers, sizeof *names), kind[64];
    sli_pack_tensor *tensors = calloc((size_t)c->layers + 1, sizeof *tensors);
    if (names == NULL || tensors == NULL) {
        free(names);
        free(tensors);
        return sl_fail(err, SL_NO_MEMORY, "out of memory for the names of predictors");
    }
    for (uint32_t i = 0; i < c->layers; i++) {
        snprintf(names[i], sizeof names[i], SLI_PREDICTOR_TENSOR, i);
        tensors[i] = (sli_pack_tensor){
            .name = names[i], .type = SL_TYPE_I8, .dims = 1, .shape = {c->blob_bytes[i], 1, 1, 1}, .data = c->blobs[i]};
    }
    tensors[c->layers] = (sli_pack_tensor){
        .name = SLI_EXIT_TENSOR, .type = SL_TYPE_I8, .dims = 1, .shape = {c->exits.blob_bytes, 1, 1, 1}, .data = c->exits.blob};
    snprintf(kind, sizeof kind, "%s, %.2f signs per weight", c->table[c->chosen].name, c->table[c->chosen].bits);
    sli_pack_key keys[] = {
        {SLI_DENSITY_KEY, SL_GGUF_F32, true, (uint64_t)c->layers * (SLI_DENSITY_POINTS + 1), c->curves},
        {"sluice.calibration.tokens", SL_GGUF_U32, false, 1, &c->tokens},
        {"sluice.calibration.predictor", SL_GGUF_STRING, false, 1, kind},
    };
    sli_pack_options options = {.in_path = in_path,
                                .out_path = out_path,
                                .order = SLI_PACK_GIVEN_ORDER,
                                .orders = (const uint32_t *const *)c->orders,
                                .layer_count = c->layers,
                                .tensors = tensors,
                                .tensor_count = c->layers + (size_t)(c->exits.blob != NULL),
                                .keys = keys,
                                .key_count = sizeof keys / sizeof *keys,
                                .drop_calibration = true,
                                .watch = *watch};
    sl_status status = sli_pack(&options, result, err);
    free(names);
    free(tensors);
    return status;
}
