/* offload/cli/report.c: `sluice report`: files of results in, one page or one picture out. */
#include "offload/cli/report.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static sl_status check_usage(const cli_args *a, int *which, sl_error *err)
{
    *which = -1;
    if (a->operands == 0)
        return sl_fail(err, SL_INVALID, "no results; name files that bench, doctor, perplexity or eval printed with --json");
    if (a->output == NULL)
        return sl_fail(err, SL_INVALID, "no output; -o FILE names one");
    if (a->svg != NULL)
        SL_TRY(cli_one_of("--svg", a->svg, cli_plot_word, which, err));
    if (!a->force && access(a->output, F_OK) == 0)
        return sl_fail(err, SL_INVALID, "%s exists; --force replaces it", a->output);
    return SL_OK;
}

static sl_status read_all(const cli_args *a, cli_report_data *r, sl_error *err)
{
    for (int i = 0; i < a->operands; i++) {
        char *text;
        size_t length;
        SL_TRY(cli_read_file(a->operand[i], &text, &length, err));
        sl_status status = cli_report_read(r, a->operand[i], text, length, err);
        free(text);
        SL_TRY(status);
    }
    return cli_report_fill(r, err);
}

static sl_status check_plots(const cli_report_data *r, int which, sl_error *err)
{
    static const char *const wants[REPORT_PLOTS] = {
        [REPORT_SPEED] = "rows of bench with n_gen and ram_budget_bytes",
        [REPORT_QUALITY] = "results of perplexity",
        [REPORT_REQUESTS] = "results of doctor or of bench --io",
        [REPORT_ROOFLINE] = "rows of bench with bytes_read_per_token above 0",
        [REPORT_BREAKDOWN] = "rows of bench with compute_s and wait_s",
        [REPORT_TASKS] = "results of eval",
    };
    bool any = false;
    for (int i = 0; i < REPORT_PLOTS; i++)
        any = any || !plot_is_empty(&r->plots[i]);
    if (which >= 0 && plot_is_empty(&r->plots[which]))
        return sl_fail(err, SL_INVALID, "--svg %s: nothing to plot; it wants %s", cli_report_plots[which], wants[which]);
    return any ? SL_OK : sl_fail(err, SL_INVALID, "nothing to plot: no result has a figure");
}

static sl_status write_out(const cli_args *a, cli_report_data *r, int which, sl_error *err)
{
    char *text = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&text, &length);
    if (out == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for the page: %s", strerror(errno));
    if (which >= 0 && a->title != NULL)
        snprintf(r->plots[which].title, PLOT_TEXT, "%s", a->title);
    if (which >= 0)
        plot_svg(out, &r->plots[which], true);
    else
        cli_report_page(out, r, a->title != NULL ? a->title : "What Sluice measured");
    bool failed = ferror(out) != 0;
    failed |= fclose(out) != 0;
    sl_status status = failed ? sl_fail(err, SL_NO_MEMORY, "out of memory for the page") : cli_write_file(a->output, text, length, err);
    free(text);
    return status;
}

int cli_report(const cli_args *args)
{
    cli_report_data r;
    sl_error err = {0};
    int which;
    cli_catch_interrupt(NULL);
    sl_status status = check_usage(args, &which, &err);
    if (status != SL_OK)
        return cli_fail(args, &err);
    status = cli_report_open(&r, &err);
    if (status == SL_OK)
        status = read_all(args, &r, &err);
    if (status == SL_OK)
        status = check_plots(&r, which, &err);
    if (status == SL_OK)
        status = write_out(args, &r, which, &err);
    for (size_t i = 0; i < json_array_size(r.notes); i++)
        fprintf(stderr, "%s\n", json_string_value(json_array_get(r.notes, i)));
    int result = status == SL_OK ? CLI_DONE : cli_fail(args, &err);
    cli_report_close(&r);
    return result;
}
