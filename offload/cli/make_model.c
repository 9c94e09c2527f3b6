/* offload/cli/make_model.c: `sluice synth` and `sluice widen`: what the two commands that write a model share, and their flags. */
#include "core/os.h"
#include "offload/cli/cli.h"
#include "offload/tools/synth.h"
#include "offload/tools/widen.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct made {
    const cli_args *args;
    json_t *warnings;
} made;

static bool on_progress(void *ctx, uint64_t done, uint64_t total)
{
    (void)ctx;
    return cli_progress_bytes("writing", done, total);
}

static void on_note(void *ctx, const char *line)
{
    made *m = ctx;
    json_array_append_new(m->warnings, cli_json_text(line, strlen(line)));
    cli_progress_end();
    fprintf(stderr, "%s\n", line);
}

static sl_status check_output(const cli_args *args, sl_error *err)
{
    if (args->output == NULL)
        return sl_fail(err, SL_INVALID, "no output; -o FILE names one");
    if (!args->force && access(args->output, F_OK) == 0)
        return sl_fail(err, SL_INVALID, "%s exists; --force replaces it", args->output);
    return SL_OK;
}

static sl_status type_of(const char *name, uint32_t *type, sl_error *err)
{
    const sl_format *format = sl_format_by_name(name, type);
    if (format == NULL || !format->supported)
        return sl_fail(err, SL_INVALID, "--type %s: known are " SL_SUPPORTED_FORMATS, name);
    return SL_OK;
}

static int finish(made *m, sl_status status, const sl_error *err, uint64_t started_ns)
{
    const cli_args *args = m->args;
    struct stat written = {0};
    char size[24];
    int result;
    cli_progress_end();
    double seconds = (double)(sl_now_ns() - started_ns) * 1e-9;
    if (status != SL_OK) {
        result = cli_fail(args, err);
    } else {
        stat(args->output, &written);
        sl_format_size((uint64_t)written.st_size, size);
        result = CLI_DONE;
        if (args->json)
            result = cli_print_json(json_pack("{s:s, s:I, s:f, s:O}", "file", args->output, "bytes", (json_int_t)written.st_size, "seconds",
                                              seconds, "warnings", m->warnings));
        else
            fprintf(stderr, "%s: %s in %.1f s\n", args->output, size, seconds);
    }
    json_decref(m->warnings);
    return result;
}

int cli_synth(const cli_args *args)
{
    made m = {args, json_array()};
    sl_error err = {0};
    uint64_t start = sl_now_ns();
    sl_synth_options options = {.shape = args->shape, .path = args->output, .seed = args->seed, .watch = {on_progress, on_note, &m}};
    sl_status status = check_output(args, &err);
    if (status == SL_OK && args->shape == NULL)
        status = sl_fail(&err, SL_INVALID, "no shape; --shape tiny, smollm2-135m, llama-7b, ... names one");
    if (status == SL_OK)
        status = type_of(args->type != NULL ? args->type : "Q4_0", &options.type, &err);
    cli_catch_interrupt(NULL);
    if (status == SL_OK)
        status = sl_synth(&options, &err);
    return finish(&m, status, &err, start);
}

int cli_widen(const cli_args *args)
{
    made m = {args, json_array()};
    sl_error err = {0};
    uint64_t start = sl_now_ns();
    sl_widen_options options = {.in_path = args->model,
                                .out_path = args->output,
                                .factor = (uint32_t)args->factor,
                                .change_type = args->type != NULL,
                                .seed = args->seed,
                                .watch = {on_progress, on_note, &m}};
    sl_status status = check_output(args, &err);
    if (status == SL_OK && (args->model == NULL || args->factor == 0))
        status = sl_fail(&err, SL_INVALID, "widen needs -m FILE and --factor M");
    if (status == SL_OK && args->type != NULL)
        status = type_of(args->type, &options.type, &err);
    cli_catch_interrupt(NULL);
    if (status == SL_OK)
        status = sl_widen(&options, &err);
    return finish(&m, status, &err, start);
}
