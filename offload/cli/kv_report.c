/* offload/cli/kv_report.c: what a cache that spills (--kv-spill) did, for people and as JSON. */
#include "core/os.h"
#include "offload/cli/cli.h"

#include <stdio.h>

json_t *cli_json_kv(const sl_engine *engine)
{
    sl_engine_info info;
    sl_engine_stats stats;
    sl_engine_describe(engine, &info);
    sl_engine_measure(engine, &stats);
    return json_pack("{s:I, s:i, s:I, s:I, s:I, s:I, s:f}", "memory_bytes", (json_int_t)info.kv_bytes, "resident_positions",
                     (int)info.kv_resident, "file_bytes", (json_int_t)info.kv_file_bytes, "bytes_read", (json_int_t)stats.kv_bytes_read,
                     "bytes_written", (json_int_t)stats.kv_bytes_written, "kept_bytes", (json_int_t)stats.kv_kept_bytes, "wait_s",
                     stats.kv_wait_s);
}

void cli_print_kv(const sl_engine *engine)
{
    char memory[24], read[24], written[24];
    sl_engine_info info;
    sl_engine_stats stats;
    sl_engine_describe(engine, &info);
    if (info.kv_file_bytes == 0)
        return;
    sl_engine_measure(engine, &stats);
    sl_format_size(info.kv_bytes, memory);
    sl_format_size(stats.kv_bytes_read, read);
    sl_format_size(stats.kv_bytes_written, written);
    fprintf(stderr, "spill   KV cache %s in memory, the first %u positions whole; %s written to disk, %s read back, waiting %.2f s\n",
            memory, info.kv_resident, written, read, stats.kv_wait_s);
    if (stats.kv_kept_bytes == 0)
        return;
    sl_format_size(stats.kv_kept_bytes, memory);
    fprintf(stderr, "spill   warning: the folder of --kv-spill is full; %s of that stayed in memory, within the RAM budget\n", memory);
}
