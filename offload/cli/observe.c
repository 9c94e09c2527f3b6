/* offload/cli/observe.c: --trace and --record: asked of the engine, and written when the run is over. */
#include "core/file_write.h"
#include "core/os.h"
#include "offload/cli/cli.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define BUFFER_BYTES ((uint64_t)16 << 20)

/* Better now than after an hour's run. */
static sl_status check_output(const cli_args *args, const char *path, sl_error *err)
{
    sl_file_writer *writer;
    if (path == NULL)
        return SL_OK;
    if (!args->force && access(path, F_OK) == 0)
        return sl_fail(err, SL_INVALID, "%s exists; --force replaces it", path);
    SL_TRY(sl_file_writer_create(path, &writer, err));
    sl_file_writer_discard(writer);
    return SL_OK;
}

sl_status cli_observe_options(const cli_args *args, sl_engine_options *options, sl_error *err)
{
    uint64_t bytes = args->trace_buffer_bytes > 0 ? args->trace_buffer_bytes : BUFFER_BYTES;
    if (args->trace == NULL && args->record == NULL && args->trace_buffer_bytes > 0)
        return sl_fail(err, SL_INVALID, "--trace-buffer has no meaning without --trace or --record");
    if (args->trace != NULL && args->record != NULL && strcmp(args->trace, args->record) == 0)
        return sl_fail(err, SL_INVALID, "%s: --trace and --record cannot be one file", args->trace);
    SL_TRY(check_output(args, args->trace, err));
    SL_TRY(check_output(args, args->record, err));
    options->trace_bytes = args->trace != NULL ? bytes : 0;
    options->record_bytes = args->record != NULL ? bytes : 0;
    return SL_OK;
}

static sl_status write_record(const sl_engine *engine, const char *path, sl_error *err)
{
    bool complete;
    SL_TRY(sl_engine_write_record(engine, path, &complete, err));
    if (!complete)
        fprintf(stderr, "%s: the memory for it was full before the end: it holds the accesses until then (--trace-buffer takes more)\n",
                path);
    return SL_OK;
}

int cli_write_observed(const cli_args *args, const sl_engine *engine, int result)
{
    sl_error err = {0};
    cli_args plain = *args;
    plain.json = false; /* its one value is out already */
    if (engine == NULL || (args->trace == NULL && args->record == NULL))
        return result;
    sl_status status = args->trace != NULL ? cli_write_trace(engine, args->trace, &err) : SL_OK;
    if (status == SL_OK && args->record != NULL)
        status = write_record(engine, args->record, &err);
    if (status == SL_OK)
        return result;
    (void)cli_fail(&plain, &err);
    return result == CLI_DONE ? CLI_FAILED : result;
}
