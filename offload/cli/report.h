/* offload/cli/report.h: `sluice report`: what other commands printed with --json, as plots.
 *
 *   report.c       the command: files in, a page or a picture out
 *   report_data.c  one JSON value: whose it is, and what of it goes into which plot; pure
 *   report_page.c  the page
 *
 * plot.h draws. */
#ifndef SL_OFFLOAD_CLI_REPORT_H
#define SL_OFFLOAD_CLI_REPORT_H

#include "offload/cli/cli.h"
#include "offload/cli/plot.h"

enum { REPORT_SPEED = 0, REPORT_QUALITY, REPORT_REQUESTS, REPORT_ROOFLINE, REPORT_BREAKDOWN, REPORT_LATENCIES, REPORT_TASKS, REPORT_PLOTS };
extern const char *const cli_report_plots[REPORT_PLOTS];

typedef struct cli_report_data {
    plot plots[REPORT_PLOTS];
    json_t *values;        /* all that was read: [{"file", "value"}] */
    json_t *facts, *notes; /* lines: what was measured, where; what is not shown, and why */
    bool several_models;   /* so names have to say which */
    size_t failed;         /* rows of bench that have no figure */
} cli_report_data;

SL_MUST_USE sl_status cli_report_open(cli_report_data *out, sl_error *err);
void cli_report_close(cli_report_data *r);
/* Takes the text of a file in: one JSON value, a list of them, or one after the other. SL_INVALID names the file and what is no result. */
SL_MUST_USE sl_status cli_report_read(cli_report_data *r, const char *file, const char *text, size_t length, sl_error *err);
/* When all is read: fills the plots. */
SL_MUST_USE sl_status cli_report_fill(cli_report_data *r, sl_error *err);
/* The whole page. */
void cli_report_page(FILE *out, cli_report_data *r, const char *title);

#endif
