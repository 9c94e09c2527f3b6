/* offload/cli/plan_state.h: one `sluice plan`, shared by what makes it (plan.c) and what reports it (plan_report.c). */
#ifndef SL_OFFLOAD_CLI_PLAN_STATE_H
#define SL_OFFLOAD_CLI_PLAN_STATE_H

#include "offload/cli/cli.h"
#include "offload/plan_device.h"

#define CLI_PLAN_BUDGETS_MAX 32

/* What would be faster: the same with one thing changed. 0: cannot be, or does not apply. */
typedef struct cli_plan_changes {
    double more_memory;   /* with a GiB more */
    double faster_disk;   /* twice as fast */
    double other_density; /* with `density` */
    double density;
    double sparse; /* of a calibrated file that is decoded densely: with --sparsity fine --density 0.5 */
} cli_plan_changes;

typedef struct cli_plan_row {
    uint64_t budget_bytes;
    bool fits;
    sli_division at; /* where it fits */
    sli_bundle_trial trial;
    sli_plan plan;
    sli_plan_drafter drafter;
    uint32_t drafted;
    bool left_off; /* early exit, as run leaves it off */
    cli_plan_changes changes;
    sli_device_plan device; /* where the machine has a GPU */
} cli_plan_row;

typedef struct cli_plan_state {
    const cli_args *args;
    sl_engine_options options;
    sl_drafting drafting;
    sl_engine *engine;
    sl_engine_info info;
    json_t *warnings;
    sli_machine machine;
    bool here; /* it is this machine */
    char said[360];
    uint64_t budget_min_bytes;
    size_t rows;
    cli_plan_row row[CLI_PLAN_BUDGETS_MAX];
} cli_plan_state;

int cli_plan_print(const cli_plan_state *state);
int cli_plan_print_json(const cli_plan_state *state);

#endif
