/* offload/cli/sparq_report.c: what `run` and `perplexity` say of attention to a part of the cache. */
#include "core/os.h"
#include "offload/cli/cli.h"

#include <stdio.h>

json_t *cli_json_sparq(const sl_engine *engine)
{
    sl_engine_info info;
    sl_engine_stats stats;
    sl_engine_describe(engine, &info);
    sl_engine_measure(engine, &stats);
    return json_pack("{s:i, s:i, s:i, s:s, s:b, s:I, s:I}", "k", (int)info.sparq_k, "r", (int)info.sparq_r, "local", (int)info.sparq_local,
                     "select", info.sparq_pages ? "pages" : "keys", "reallocate", info.sparq_reallocate, "bytes_moved",
                     (json_int_t)stats.sparq_bytes_moved, "dense_bytes", (json_int_t)stats.sparq_dense_bytes);
}

void cli_print_sparq(const sl_engine *engine)
{
    sl_engine_info info;
    sl_engine_stats stats;
    char moved[24], dense[24];
    sl_engine_describe(engine, &info);
    sl_engine_measure(engine, &stats);
    if (info.sparq_k == 0)
        return;
    sl_format_size(stats.sparq_bytes_moved, moved);
    sl_format_size(stats.sparq_dense_bytes, dense);
    fprintf(stderr,
            "sparq   %u %s by %u components, the last %u among them, reallocation %s; read %s of keys and values where dense "
            "attention reads %s (%.1f %%)\n",
            info.sparq_k, info.sparq_pages ? "positions in whole pages" : "single positions", info.sparq_r, info.sparq_local,
            info.sparq_reallocate ? "on" : "off", moved, dense,
            stats.sparq_dense_bytes > 0 ? 100.0 * (double)stats.sparq_bytes_moved / (double)stats.sparq_dense_bytes : 100.0);
}
