/* offload/cli/pack.c: `sluice pack`, `sluice pack --verify` and `sluice unpack`.
 *
 * IN and OUT may be the same file, with --force as for any that exists: it is replaced by a rename when all of the new one is on disk. */
#include "offload/tools/pack.h"
#include "core/os.h"
#include "offload/cli/cli.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

typedef struct packing {
    const cli_args *args;
    const char *doing;
    json_t *warnings;
    uint64_t started_ns;
} packing;

static bool on_progress(void *ctx, uint64_t done, uint64_t total)
{
    const packing *p = ctx;
    return cli_progress_bytes((void *)p->doing, done, total);
}

static void on_note(void *ctx, const char *line)
{
    packing *p = ctx;
    json_array_append_new(p->warnings, cli_json_text(line, strlen(line)));
    cli_progress_end();
    fprintf(stderr, "%s\n", line);
}

static packing start(const cli_args *args, const char *doing)
{
    cli_catch_interrupt(NULL);
    return (packing){args, doing, json_array(), sl_now_ns()};
}

static sl_status check_operands(const cli_args *args, sl_error *err)
{
    if (args->operands != 2)
        return sl_fail(err, SL_INVALID, "%s needs two files; usage: sluice %s IN OUT", args->command, args->command);
    if (!args->force && access(args->operand[1], F_OK) == 0)
        return sl_fail(err, SL_INVALID, "%s exists; --force replaces it", args->operand[1]);
    return SL_OK;
}

/* The closing line, or the one JSON value. `bytes`: what was written, or looked through. */
static int finish(packing *p, sl_status status, const sl_error *err, const sli_pack_result *r, const char *file, uint64_t bytes)
{
    double seconds = (double)(sl_now_ns() - p->started_ns) * 1e-9, rate = seconds > 0 ? (double)bytes / seconds : 0;
    char size[24], original[24];
    int result = CLI_DONE;
    cli_progress_end();
    sl_format_size(bytes, size);
    sl_format_size(r->original_bytes, original);
    if (status != SL_OK)
        result = cli_fail(p->args, err);
    else if (p->args->json)
        result = cli_print_json(
            json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:O}", "file", file, "bytes", (json_int_t)bytes,
                      "original_bytes", (json_int_t)r->original_bytes, "packed_bytes", (json_int_t)r->packed_bytes, "kept_bytes",
                      (json_int_t)r->kept_bytes, "sections", (json_int_t)r->sections, "layers", (json_int_t)r->layers, "bundled_layers",
                      (json_int_t)r->bundled_layers, "neurons", (json_int_t)r->neurons, "silent_neurons", (json_int_t)r->silent_neurons,
                      "compact_layers", (json_int_t)r->compact_layers, "seconds", seconds, "bytes_per_s", rate, "warnings", p->warnings));
    else if (r->silent_neurons > 0 || r->compact_layers > 0)
        fprintf(stderr,
                "%s: %s, %zu sections, %u of %u layers in bundles, %u of them without zeros, %u of %u neurons left out, original %s; %.1f "
                "s, %.0f MB/s\n",
                file, size, r->sections, r->bundled_layers, r->layers, r->compact_layers, r->silent_neurons, r->neurons, original, seconds,
                rate * 1e-6);
    else
        fprintf(stderr, "%s: %s, %zu sections, %u of %u layers in bundles, original %s; %.1f s, %.0f MB/s\n", file, size, r->sections,
                r->bundled_layers, r->layers, original, seconds, rate * 1e-6);
    json_decref(p->warnings);
    return result;
}

static int verify(const cli_args *args)
{
    packing p = start(args, "checking");
    sl_error err = {0};
    sli_pack_result result = {0};
    sl_tool_watch watch = {on_progress, on_note, &p};
    sl_status status = args->operands == 1 ? sli_pack_verify(args->operand[0], &watch, &result, &err)
                                           : sl_fail(&err, SL_INVALID, "--verify needs one file; usage: sluice pack --verify FILE");
    return finish(&p, status, &err, &result, args->operand[0], result.packed_bytes);
}

static sl_status take_rules(const cli_args *args, sli_pack_options *out, sl_error *err)
{
    int order, zeros;
    SL_TRY(cli_one_of("--order", args->order, cli_order_word, &order, err));
    SL_TRY(cli_one_of("--zeros", args->zeros, cli_zeros_word, &zeros, err));
    out->order = (sli_pack_order)order;
    out->zeros = (sli_pack_zero_rule)zeros;
    return SL_OK;
}

int cli_pack(const cli_args *args)
{
    if (args->verify)
        return verify(args);
    packing p = start(args, "packing");
    sl_error err = {0};
    sli_pack_result result = {0};
    sli_pack_options options = {
        .in_path = args->operand[0], .out_path = args->operand[1], .seed = args->seed, .watch = {on_progress, on_note, &p}};
    sl_status status = check_operands(args, &err);
    if (status == SL_OK)
        status = take_rules(args, &options, &err);
    if (status == SL_OK)
        status = sli_pack(&options, &result, &err);
    return finish(&p, status, &err, &result, args->operand[1], result.packed_bytes);
}

int cli_unpack(const cli_args *args)
{
    packing p = start(args, "unpacking");
    sl_error err = {0};
    sli_pack_result result = {0};
    sl_tool_watch watch = {on_progress, on_note, &p};
    sl_status status = check_operands(args, &err);
    if (status == SL_OK)
        status = sli_unpack(args->operand[0], args->operand[1], &watch, &result, &err);
    return finish(&p, status, &err, &result, args->operand[1], result.original_bytes);
}
