/* offload/tools/tool.c: what the tools that write models share. */
#include "offload/tools/tool.h"

bool sli_file_type_of(uint32_t type, uint32_t *out)
{
    switch (type) {
    case SL_TYPE_F32: *out = 0; return true;
    case SL_TYPE_F16: *out = 1; return true;
    case SL_TYPE_Q4_0: *out = 2; return true;
    case SL_TYPE_Q4_1: *out = 3; return true;
    case SL_TYPE_Q8_0: *out = 7; return true;
    case SL_TYPE_Q5_0: *out = 8; return true;
    case SL_TYPE_Q5_1: *out = 9; return true;
    case SL_TYPE_Q2_K: *out = 10; return true;
    case SL_TYPE_Q3_K: *out = 11; return true; /* of the mixtures S, M and L the first, which mixes least */
    case SL_TYPE_Q4_K: *out = 14; return true;
    case SL_TYPE_Q5_K: *out = 16; return true;
    case SL_TYPE_Q6_K: *out = 18; return true;
    case SL_TYPE_IQ4_NL: *out = 25; return true;
    case SL_TYPE_IQ4_XS: *out = 30; return true;
    case SL_TYPE_BF16: *out = 32; return true;
    default: return false;
    }
}

sl_status sli_tool_put(sli_tool_output *output, const void *data, size_t bytes, sl_error *err)
{
    SL_TRY(sl_gguf_writer_data(output->writer, data, bytes, err));
    output->done_bytes += bytes;
    bool last = output->done_bytes == output->total_bytes;
    if (!output->watch->progress || (output->done_bytes - output->told_bytes < SLI_TOOL_STEP_BYTES && !last))
        return SL_OK;
    output->told_bytes = output->done_bytes;
    if (!output->watch->progress(output->watch->ctx, output->done_bytes, output->total_bytes))
        return sl_fail(err, SL_INTERRUPTED, "stopped after %llu of %llu bytes; no file was left", (unsigned long long)output->done_bytes,
                       (unsigned long long)output->total_bytes);
    return SL_OK;
}
