/* offload/cli/logprobs.c: `run --logprobs N`: how likely each token was, and what else was likely there. */
#include "offload/cli/run_state.h"

#include <stdio.h>
#include <stdlib.h>

#define ENTRY_BYTES 1024 /* of one token's in JSON, before it is printed, at most */

sl_status cli_logprobs_options(cli_run_state *s, sl_engine_options *options, sl_error *err)
{
    const cli_args *a = s->args;
    if (a->logprobs == 0)
        return SL_OK;
    if (a->draft != NULL && s->drafting.tokens != 0)
        return sl_fail(err, SL_INVALID, "--logprobs goes with --draft 0 alone: it tells of tokens that are decoded one by one");
    s->drafting.tokens = 0; /* which changes nothing but the speed */
    options->draft_max = 0;
    uint64_t token_bytes = ((uint64_t)a->logprobs + 1) * (sizeof(sl_logprob) + (a->json ? ENTRY_BYTES : 0));
    if (a->predict > 0 && (a->context == 0 || a->predict < a->context))
        options->reserve_bytes = (uint64_t)a->predict * token_bytes;
    else
        options->reserve_position_bytes = token_bytes;
    return SL_OK;
}

static const sl_logprob *of_token(const cli_run_state *s, size_t index)
{
    return s->result.logprobs + index * ((size_t)s->args->logprobs + 1);
}

static json_t *entry_json(const cli_run_state *s, const sl_logprob *l)
{
    size_t length;
    const char *piece = sl_engine_piece(s->engine, l->token, true, &length);
    return json_pack("{s:i, s:o, s:f}", "id", (int)l->token, "text", cli_json_text(piece, length), "logprob", l->logprob);
}

json_t *cli_json_logprobs(const cli_run_state *s)
{
    json_t *all = json_array();
    for (size_t i = 0; i < s->result.count; i++) {
        const sl_logprob *l = of_token(s, i);
        json_t *own = entry_json(s, l), *top = json_array();
        for (int64_t n = 1; n <= s->args->logprobs && l[n].token >= 0; n++)
            json_array_append_new(top, entry_json(s, &l[n]));
        json_object_set_new(own, "top", top);
        json_array_append_new(all, own);
    }
    return all;
}

/* A token's text on one line, escaped as in JSON. */
static void print_piece(const cli_run_state *s, sl_token_id token)
{
    size_t length;
    const char *piece = sl_engine_piece(s->engine, token, true, &length);
    json_t *value = cli_json_text(piece, length);
    char *text = json_dumps(value, JSON_ENCODE_ANY);
    fputs(text != NULL ? text : "?", stderr);
    free(text);
    json_decref(value);
}

void cli_print_logprobs(const cli_run_state *s)
{
    if (s->result.logprobs == NULL)
        return;
    fputs("\nlog probabilities, of each token and of the likeliest in its place\n", stderr);
    for (size_t i = 0; i < s->result.count; i++) {
        const sl_logprob *l = of_token(s, i);
        fprintf(stderr, "%8.4f ", l[0].logprob);
        print_piece(s, l[0].token);
        fputs("  of", stderr);
        for (int64_t n = 1; n <= s->args->logprobs && l[n].token >= 0; n++) {
            fprintf(stderr, " %.4f ", l[n].logprob);
            print_piece(s, l[n].token);
        }
        fputc('\n', stderr);
    }
}
