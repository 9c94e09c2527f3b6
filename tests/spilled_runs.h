/* tests/spilled_runs.h: a device's engines whose caches spill, for tests of what then comes out of them. Needs cmocka's names. */
#ifndef SL_TESTS_SPILLED_RUNS_H
#define SL_TESTS_SPILLED_RUNS_H

#include "offload/choices.h"
#include "offload/kv_spill.h"
#include "tests/engine_runs.h"

static inline sl_engine_options with_layers(sl_engine_options options, uint32_t in_host)
{
    options.kv_host = SL_KV_HOST_LAYERS;
    options.kv_host_layers = in_host;
    return options;
}

/* Of a context that is long enough, with so many layers in the least memory beside the file, whose folder is the model's. */
static inline sl_engine_options with_file(sl_engine_options options, uint32_t in_host, const char *folder)
{
    sl_error err = {0};
    options = with_layers(options, in_host);
    options.context = 1024;
    options.batch = 16;
    sl_engine *engine = open_engine(&options);
    sli_kv_shape shape = sli_kv_shape_of(engine);
    if (sl_spill_alignment(folder, false, &shape.alignment, &err) != SL_OK)
        fail_msg("%s", err.message);
    shape.host_layers = in_host;
    assert_true(sli_kv_fit(engine->model, &shape, 0) && shape.spill);
    options.kv_memory_bytes = sli_kv_price(engine->model, &shape);
    sl_engine_close(engine);
    options.kv_spill = folder;
    return options;
}

/* Of a file, in a buffer that the caller frees. */
static inline char *folder_of(const char *path)
{
    char *folder = strdup(path);
    assert_non_null(folder);
    *strrchr(folder, '/') = '\0';
    return folder;
}

#endif
