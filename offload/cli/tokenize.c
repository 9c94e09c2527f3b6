/* offload/cli/tokenize.c: `sluice tokenize`: text to ids, and ids to text. A file with a vocabulary and no weights will do. */
#include "offload/cli/cli.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static sl_status open_vocabulary(const cli_args *args, sl_engine **out, sl_error *err)
{
    sl_engine_options options = {.model_path = args->model, .vocabulary_only = true};
    if (args->prompt == NULL && args->file == NULL)
        return sl_fail(err, SL_INVALID, "no text; -p TEXT gives one, -f FILE reads it (- is standard input)");
    if (args->prompt != NULL && args->file != NULL)
        return sl_fail(err, SL_INVALID, "-p and -f both give a text: one of them is enough");
    return sl_engine_open(&options, out, err);
}

static int print_ids(const cli_args *args, const sl_engine *engine, const sl_token_id *ids, size_t count)
{
    json_t *tokens = json_array();
    for (size_t i = 0; args->json && i < count; i++)
        json_array_append_new(tokens, json_integer(ids[i]));
    if (args->json)
        return cli_print_json(json_pack("{s:o}", "tokens", tokens));
    json_decref(tokens);
    if (args->ids)
        putchar('[');
    for (size_t i = 0; i < count; i++) {
        size_t length;
        const char *piece = sl_engine_piece(engine, ids[i], true, &length);
        if (args->ids)
            printf("%s%d", i > 0 ? ", " : "", ids[i]);
        else
            printf("%6d -> '%.*s'\n", ids[i], (int)length, piece);
    }
    if (args->ids)
        puts("]");
    return cli_finish_text();
}

/* Ids are numbers; blanks, commas and brackets may stand between them. */
static sl_status decode_ids(const sl_engine *engine, const char *text, char **out, size_t *length, sl_error *err)
{
    FILE *to = open_memstream(out, length);
    if (to == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for the text");
    sl_status status = SL_OK;
    for (const char *at = text; *at != '\0' && status == SL_OK;) {
        if (strchr(" \t\r\n,[]", *at) != NULL) {
            at++;
            continue;
        }
        if (*at < '0' || *at > '9') {
            status = sl_fail(err, SL_INVALID, "%.40s: not a token id; --decode takes numbers, such as \"19556 905\"", at);
            break;
        }
        char *end;
        errno = 0;
        long id = strtol(at, &end, 10);
        size_t n = 0;
        const char *piece = errno == 0 && id <= INT32_MAX ? sl_engine_piece(engine, (sl_token_id)id, true, &n) : NULL;
        if (piece == NULL)
            status = sl_fail(err, SL_INVALID, "%.*s is not a token of this vocabulary", (int)(end - at < 40 ? end - at : 40), at);
        else
            (void)fwrite(piece, 1, n, to); /* a failure stays with the stream until fclose */
        at = end;
    }
    if (fclose(to) != 0 && status == SL_OK)
        status = sl_fail(err, SL_NO_MEMORY, "out of memory for the text");
    return status;
}

static int print_bytes(const char *bytes, size_t length)
{
    (void)fwrite(bytes, 1, length, stdout); /* a failure stays with the stream */
    return cli_finish_text();
}

static int print_decoded(const cli_args *args, const sl_engine *engine, const char *text, sl_error *err)
{
    char *decoded = NULL;
    size_t length = 0;
    int result;
    if (decode_ids(engine, text, &decoded, &length, err) != SL_OK)
        result = cli_fail(args, err);
    else if (args->json)
        result = cli_print_json(json_pack("{s:o}", "text", cli_json_text(decoded, length)));
    else
        result = print_bytes(decoded, length);
    free(decoded);
    return result;
}

int cli_tokenize(const cli_args *args)
{
    sl_engine *engine = NULL;
    sl_token_id *ids = NULL;
    sl_error err = {0};
    char *file = NULL;
    size_t length = args->prompt != NULL ? strlen(args->prompt) : 0, count = 0;
    int result;
    sl_status status = open_vocabulary(args, &engine, &err);
    if (status == SL_OK && args->file != NULL)
        status = cli_read_file(args->file, &file, &length, &err);
    const char *text = file != NULL ? file : args->prompt != NULL ? args->prompt : "";
    if (status == SL_OK && !args->decode)
        status = sl_engine_tokenize(engine, text, length, !args->no_bos, !args->no_parse_special, &ids, &count, &err);
    if (status != SL_OK)
        result = cli_fail(args, &err);
    else
        result = args->decode ? print_decoded(args, engine, text, &err) : print_ids(args, engine, ids, count);
    free(ids);
    free(file);
    sl_engine_close(engine);
    return result;
}
