/* bench/bench_draft.c: what drafts from the neurons in memory give, and what keeping them costs dense decoding.
 *
 *   bench_draft MODEL TEXT RAM_MIB [TOKENS [DRAFTS [PASSAGES]]]        MODEL is packed and calibrated
 *
 * From each of PASSAGES (4) places of the text on, 64 tokens are a prompt, and TOKENS (64) are decoded greedily behind it: one by one with memory
 * spread over all weights; one by one with draft_resident; and with chains of DRAFTS (8) drafts and a dense check of all of them. All three must
 * give the same tokens. A line of the table is one budget. */
#include "core/os.h"
#include "offload/sluice.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PROMPT     64
#define TOKENS_MAX 512
#define DRAFTS_MAX 31
#define MIB        ((uint64_t)1 << 20)

typedef struct bench {
    sl_engine_options options;
    const sl_token_id *text;
    size_t text_count;
    uint32_t vocab, tokens, drafts, passages;
    double density;
} bench;

typedef struct result { /* sums over the passages */
    double decode_s, draft_s, check_s;
    uint64_t given, drafted, checks;
    sl_token_id *out; /* [passages][tokens] */
} result;

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "bench_draft: %s\n", what);
    exit(1);
}

static void check(sl_status status, const sl_error *err)
{
    if (status != SL_OK)
        die(err->message);
}

static double seconds_since(uint64_t start_ns)
{
    return (double)(sl_now_ns() - start_ns) * 1e-9;
}

static sl_token_id likeliest(const bench *b, const float *logits)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < b->vocab; i++)
        best = logits[i] > logits[best] ? i : best;
    return (sl_token_id)best;
}

static const float *eval(sl_session *session, const sl_token_id *tokens, size_t count, unsigned flags)
{
    const float *logits;
    sl_error err = {0};
    check(sl_session_eval(session, tokens, count, flags, &logits, &err), &err);
    return logits;
}

static void truncate_to(sl_session *session, uint32_t position)
{
    sl_error err = {0};
    check(sl_session_truncate(session, position, &err), &err);
}

/* The prompt; returns the first token behind it. */
static sl_token_id begin(const bench *b, sl_session *session, uint32_t passage)
{
    const sl_token_id *prompt = b->text + b->text_count / (b->passages + 1) * passage;
    truncate_to(session, 0);
    eval(session, prompt, PROMPT - 1, 0);
    return likeliest(b, eval(session, prompt + PROMPT - 1, 1, SL_EVAL_LOGITS | SL_EVAL_MORE));
}

static void decode_one_by_one(const bench *b, sl_session *session, uint32_t passage, result *r)
{
    sl_token_id *out = r->out + (size_t)passage * b->tokens;
    out[0] = begin(b, session, passage);
    uint64_t start = sl_now_ns();
    for (uint32_t i = 1; i < b->tokens; i++)
        out[i] = likeliest(b, eval(session, &out[i - 1], 1, SL_EVAL_LOGITS | SL_EVAL_MORE));
    r->decode_s += seconds_since(start);
    r->given += b->tokens - 1;
}

/* One chain and its check; how many tokens it gives, in out[]. chain[0] is the last token that was given. */
static uint32_t advance(const bench *b, sl_session *session, sl_token_id chain[DRAFTS_MAX + 1], sl_token_id *out, result *r)
{
    uint32_t position = sl_session_position(session), given = 0;
    uint64_t start = sl_now_ns();
    for (uint32_t i = 0; i < b->drafts; i++)
        chain[i + 1] = likeliest(b, eval(session, &chain[i], 1, SL_EVAL_DRAFT | SL_EVAL_LOGITS));
    r->draft_s += seconds_since(start);
    truncate_to(session, position);
    start = sl_now_ns();
    const float *logits = eval(session, chain, b->drafts + 1, SL_EVAL_LOGITS | SL_EVAL_MORE);
    r->check_s += seconds_since(start);
    do
        out[given] = likeliest(b, logits + (size_t)given * b->vocab);
    while (given < b->drafts && out[given] == chain[given + 1] && ++given);
    r->drafted += b->drafts;
    r->checks++;
    r->given += given + 1;
    truncate_to(session, position + given + 1);
    return given + 1;
}

static void decode_drafted(const bench *b, sl_session *session, uint32_t passage, result *r)
{
    sl_token_id out[TOKENS_MAX + DRAFTS_MAX + 1], chain[DRAFTS_MAX + 1];
    out[0] = begin(b, session, passage);
    uint64_t start = sl_now_ns();
    for (uint32_t count = 1; count < b->tokens;) {
        chain[0] = out[count - 1];
        count += advance(b, session, chain, out + count, r);
    }
    r->decode_s += seconds_since(start);
    memcpy(r->out + (size_t)passage * b->tokens, out, b->tokens * sizeof *out);
}

static result run(bench *b, bool draft_resident, void (*decode)(const bench *, sl_session *, uint32_t, result *))
{
    result r = {.out = calloc((size_t)b->passages * b->tokens, sizeof *r.out)};
    sl_engine *engine;
    sl_session *session;
    sl_engine_info info;
    sl_error err = {0};
    if (r.out == NULL)
        die("out of memory");
    b->options.draft_resident = draft_resident;
    check(sl_engine_open(&b->options, &engine, &err), &err);
    sl_engine_describe(engine, &info);
    check(sl_session_open(engine, &session, &err), &err);
    b->density = info.draft_density;
    if (draft_resident && b->density == 0)
        die("the budget does not hold what drafts need");
    begin(b, session, 0); /* what stays comes into memory */
    for (uint32_t passage = 0; passage < b->passages; passage++)
        decode(b, session, passage, &r);
    sl_session_close(session);
    sl_engine_close(engine);
    return r;
}

/* The text's tokens; fills b->vocab too. */
static sl_token_id *read_text(bench *b, const char *path)
{
    const size_t most = 256 << 10;
    sl_engine_options options = {.model_path = b->options.model_path, .vocabulary_only = true};
    char *text = malloc(most);
    FILE *file = fopen(path, "rb");
    sl_engine *engine;
    sl_token_id *ids;
    sl_error err = {0};
    if (text == NULL || file == NULL)
        die("the text cannot be read");
    size_t bytes = fread(text, 1, most, file);
    fclose(file);
    check(sl_engine_open(&options, &engine, &err), &err);
    check(sl_engine_tokenize(engine, text, bytes, false, false, &ids, &b->text_count, &err), &err);
    sl_engine_close(engine);
    free(text);
    if (b->text_count < (size_t)PROMPT * (b->passages + 1))
        die("the text is too short");
    b->text = ids;
    return ids;
}

static void find_vocabulary(bench *b)
{
    sl_engine *engine;
    sl_engine_info info;
    sl_error err = {0};
    check(sl_engine_open(&b->options, &engine, &err), &err);
    sl_engine_describe(engine, &info);
    b->vocab = info.vocab;
    sl_engine_close(engine);
}

static void report(const bench *b, const result *spread, const result *kept, const result *drafted)
{
    printf("| RAM | density | one by one, spread: ms | one by one, drafts' memory: ms | drafted: ms | a draft: ms | a check: ms | mean "
           "advance |\n"
           "|---|---|---|---|---|---|---|---|\n");
    printf("| %.0f MiB | %.3f | %.2f | %.2f | %.2f | %.2f | %.2f | %.2f |\n", (double)b->options.ram_budget_bytes / (double)MIB, b->density,
           1e3 * spread->decode_s / (double)spread->given, 1e3 * kept->decode_s / (double)kept->given,
           1e3 * drafted->decode_s / (double)drafted->given, 1e3 * drafted->draft_s / (double)drafted->drafted,
           1e3 * drafted->check_s / (double)drafted->checks, (double)drafted->given / (double)drafted->checks);
}

int main(int argc, char **argv)
{
    if (argc < 4 || argc > 7)
        die("usage: bench_draft MODEL TEXT RAM_MIB [TOKENS [DRAFTS [PASSAGES]]]");
    bench b = {.tokens = argc > 4 ? (uint32_t)strtoul(argv[4], NULL, 10) : 64,
               .drafts = argc > 5 ? (uint32_t)strtoul(argv[5], NULL, 10) : 8,
               .passages = argc > 6 ? (uint32_t)strtoul(argv[6], NULL, 10) : 4};
    if (b.tokens < 2 || b.tokens > TOKENS_MAX || b.drafts < 1 || b.drafts > DRAFTS_MAX || b.passages < 1 || b.passages > 1000)
        die("2 to 512 tokens, 1 to 31 drafts and 1 to 1000 passages work");
    b.options = (sl_engine_options){.model_path = argv[1],
                                    .ram_budget_bytes = strtoull(argv[3], NULL, 10) * MIB,
                                    .context = PROMPT + TOKENS_MAX + DRAFTS_MAX + 1,
                                    .batch = DRAFTS_MAX + 1,
                                    .all_logits = true};
    sl_token_id *text = read_text(&b, argv[2]);
    find_vocabulary(&b);
    result spread = run(&b, false, decode_one_by_one), kept = run(&b, true, decode_one_by_one), drafted = run(&b, true, decode_drafted);
    size_t bytes = (size_t)b.passages * b.tokens * sizeof *text;
    if (memcmp(spread.out, kept.out, bytes) != 0 || memcmp(spread.out, drafted.out, bytes) != 0)
        die("the three ways gave different tokens");
    report(&b, &spread, &kept, &drafted);
    free(spread.out);
    free(kept.out);
    free(drafted.out);
    free(text);
    return 0;
}
