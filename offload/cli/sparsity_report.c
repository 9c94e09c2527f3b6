/* offload/cli/sparsity_report.c: what `run` and `perplexity` say of the sets of neurons that they computed. */
#include "offload/cli/cli.h"

#include <stdio.h>
#include <string.h>

/* Set and exact set have the same size, so that recall and precision are one number. */
static double recall_of(const sl_engine_stats *stats)
{
    return stats->neurons_compared > 0 ? (double)stats->neurons_compared_right / (double)stats->neurons_compared : 0;
}

static double density_of(const sl_engine_info *info, const sl_engine_stats *stats)
{
    return stats->sparse_sets > 0 ? (double)stats->neurons_needed / ((double)stats->sparse_sets * info->ff) : 0;
}

json_t *cli_json_sparsity(const sl_engine *engine)
{
    sl_engine_info info;
    sl_engine_stats stats;
    sl_engine_describe(engine, &info);
    sl_engine_measure(engine, &stats);
    json_t *recall = stats.neurons_compared > 0 ? json_real(recall_of(&stats)) : json_null();
    return json_pack("{s:s, s:s, s:f, s:f, s:O, s:o, s:I, s:I, s:I, s:I, s:I, s:I}", "mode", info.sparsity, "predictor", info.predictor,
                     "density_asked", info.density, "density_reached", density_of(&info, &stats), "recall", recall, "precision", recall,
                     "predictor_bytes", (json_int_t)info.predictor_bytes, "rows_needed", (json_int_t)stats.neurons_needed, "rows_resident",
                     (json_int_t)stats.neurons_resident, "rows_read", (json_int_t)stats.neurons_read, "rows_late",
                     (json_int_t)stats.neurons_late, "rows_dropped", (json_int_t)stats.neurons_dropped);
}

void cli_print_sparsity(const sl_engine *engine)
{
    sl_engine_info info;
    sl_engine_stats stats;
    sl_engine_describe(engine, &info);
    sl_engine_measure(engine, &stats);
    if (strcmp(info.sparsity, "off") == 0)
        return;
    fprintf(stderr, "sparse  %s, %s; density %.3f of %.3f asked", info.sparsity, info.predictor, density_of(&info, &stats), info.density);
    if (stats.neurons_compared > 0)
        fprintf(stderr, "; %.1f %% of the neurons are those that exact scores choose", 100 * recall_of(&stats));
    if (stats.neurons_resident + stats.neurons_read > 0)
        fprintf(stderr, "; %.1f %% of them were in memory, the others read",
                100.0 * (double)stats.neurons_resident / (double)(stats.neurons_resident + stats.neurons_read));
    if (stats.neurons_dropped > 0)
        fprintf(stderr, "; %llu were late and left out%s", (unsigned long long)stats.neurons_dropped,
                info.draft_max > 0       ? " of drafts"
                : info.device[0] == '\0' ? ": this text cannot be reproduced"
                                         : ": this text depends on the budgets");
    fputc('\n', stderr);
}
