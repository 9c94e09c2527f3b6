/* tests/exit_files.h: a tiny model, files of it with classifiers whose thresholds a test chooses, and runs of those. Needs cmocka's names. */
#ifndef SL_TESTS_EXIT_FILES_H
#define SL_TESTS_EXIT_FILES_H

#include "offload/early_exit.h"
#include "offload/tools/pack.h"
#include "tests/stage.h"
#include "tests/tiny_model.h"

#define MIB ((uint64_t)1 << 20)

enum { LAYERS = 6, VOCAB = 387, D = 256, CONTEXT = 128, PROBES = 3, LISTED = 40, LENGTH = 60 };

static const int32_t exit_probes[PROBES] = {1, 2, 4};
#define ALWAYS    (-1.0f)
#define SOMETIMES 0.25f /* a lead that tokens of this model have or not */

/* In a file that the caller forgets. */
static inline char *exit_write_model(uint32_t ff)
{
    tiny_model model = TINY_MODEL;
    sl_error err = {0};
    char *path = tiny_path("early.gguf");
    model.layers = LAYERS;
    model.d = D;
    model.ff = ff;
    model.head_dim = 64;
    model.types[0] = SL_TYPE_Q8_0;
    model.types[1] = SL_TYPE_Q4_0;
    check(tiny_write(&model, path, &err), &err);
    return path;
}

/* ---- files with classifiers: the lead alone, at this threshold for an agreement of 0.99, and always for 0.5 ---- */

static inline uint8_t *make_blob(float threshold, uint32_t shortlist, size_t *bytes)
{
    const uint32_t words[SLI_EXIT_WORDS] = {SLI_EXIT_VERSION_NUMBER, LAYERS, D, VOCAB, PROBES, shortlist, 2};
    const float asked[] = {0.5f, 0.99f};
    sli_exit_layout at = sli_exit_layout_of(words);
    uint8_t *blob = calloc(1, at.offset[SLI_EXIT_PART_COUNT]);
    assert_non_null(blob);
    memcpy(blob, words, sizeof words);
    memcpy(blob + at.offset[SLI_EXIT_PART_PROBES], exit_probes, sizeof exit_probes);
    memcpy(blob + at.offset[SLI_EXIT_PART_ASKED], asked, sizeof asked);
    for (uint32_t i = 0; i < shortlist; i++) {
        int32_t token = (int32_t)(i * 9 + 3);
        memcpy(blob + at.offset[SLI_EXIT_PART_SHORTLIST] + i * 4, &token, 4);
    }
    sli_exit_point points[SLI_EXIT_KINDS][2];
    for (int kind = 0; kind < SLI_EXIT_KINDS; kind++) {
        points[kind][0] = (sli_exit_point){ALWAYS, 0.5f, 2};
        points[kind][1] = (sli_exit_point){threshold, 1, 3};
    }
    memcpy(blob + at.offset[SLI_EXIT_PART_POINTS], points, sizeof points);
    *bytes = at.offset[SLI_EXIT_PART_COUNT];
    return blob;
}

static inline char *pack_with(const char *stock_path, const void *blob, size_t bytes)
{
    sl_error err = {0};
    char *path = tiny_path("early.packed.gguf");
    sli_pack_tensor tensor = {.name = SLI_EXIT_TENSOR, .type = SL_TYPE_I8, .dims = 1, .shape = {bytes, 1, 1, 1}, .data = blob};
    sli_pack_options options = {.in_path = stock_path,
                                .out_path = path,
                                .order = SLI_PACK_RANDOM_ORDER,
                                .seed = 3,
                                .tensors = &tensor,
                                .tensor_count = blob != NULL};
    check(sli_pack(&options, NULL, &err), &err);
    return path;
}

static inline char *pack_threshold(const char *stock_path, float threshold, uint32_t shortlist)
{
    size_t bytes;
    uint8_t *blob = make_blob(threshold, shortlist, &bytes);
    char *path = pack_with(stock_path, blob, bytes);
    free(blob);
    return path;
}

static inline void forget(char *path)
{
    unlink(path);
    free(path);
}

/* ---- logits of a given text, token by token ---- */

static inline sl_token_id token_at(uint32_t i)
{
    return (sl_token_id)((i * 37 + 11) % VOCAB);
}

#define PROMPT 5

/* [length - PROMPT][VOCAB]; left[i]: token i left early. stats NULL: nobody asks. */
static inline float *walk_through(const sl_engine_options *options, uint32_t length, unsigned flags, bool *left, sl_early_exit_stats *stats)
{
    stage s = open_stage(options);
    sl_error err = {0};
    float *all = malloc((length - PROMPT) * VOCAB * sizeof *all);
    const float *logits;
    sl_token_id tokens[LENGTH];
    sl_engine_stats before, after;
    assert_true(all != NULL && length <= LENGTH);
    for (uint32_t i = 0; i < length; i++)
        tokens[i] = token_at(i);
    check(sl_session_eval(s.session, tokens, PROMPT, SL_EVAL_LOGITS | SL_EVAL_MORE, NULL, &err), &err);
    for (uint32_t i = PROMPT; i < length; i++) {
        sl_engine_measure(s.engine, &before);
        check(sl_session_eval(s.session, tokens + i, 1, SL_EVAL_LOGITS | SL_EVAL_MORE | flags, &logits, &err), &err);
        sl_engine_measure(s.engine, &after);
        memcpy(all + (i - PROMPT) * VOCAB, logits, VOCAB * sizeof *all);
        left[i - PROMPT] = after.early_exit.exits > before.early_exit.exits;
    }
    if (stats != NULL)
        *stats = after.early_exit;
    close_stage(&s);
    return all;
}

/* ---- generating ---- */

static const sl_token_id prompt[] = {5, 99, 200, 7, 5, 99, 200, 8, 31, 5, 99};

/* Some tokens leave; then the session goes back, up to five positions, to where some of them wait, and on through all layers: `dense` has the logits behind
 * each position from PROMPT on. Ends of the way there are `step` apart. */
static inline void go_back_and_on_densely(sl_session *session, const float *dense, uint32_t length, uint32_t step)
{
    sl_error err = {0};
    sl_token_id tokens[LENGTH];
    for (uint32_t i = 0; i < LENGTH; i++)
        tokens[i] = token_at(i);
    for (uint32_t end = PROMPT + 2; end < length; end += step)
        for (uint32_t back = 0; back < 6 && PROMPT + back < end; back += 1 + back / 2) {
            const float *logits;
            check(sl_session_truncate(session, 0, &err), &err);
            check(sl_session_eval(session, tokens, PROMPT, 0, NULL, &err), &err);
            check(sl_session_eval(session, tokens + PROMPT, end - PROMPT, SL_EVAL_EARLY | SL_EVAL_MORE, NULL, &err), &err);
            check(sl_session_truncate(session, end - back, &err), &err);
            check(sl_session_eval(session, tokens + end - back, back + 1, SL_EVAL_LOGITS, &logits, &err), &err);
            assert_memory_equal(logits, dense + (end - PROMPT) * VOCAB, VOCAB * sizeof *dense);
        }
}

static inline sl_result generate(const sl_engine_options *options, int32_t drafts, sl_drafter who, float temperature, bool all_layers)
{
    stage s = open_stage(options);
    sl_error err = {0};
    sl_result result;
    sl_request request = {.prompt = prompt,
                          .prompt_count = sizeof prompt / sizeof *prompt,
                          .max_tokens = 24,
                          .ignore_eos = true,
                          .seed = 4,
                          .temperature = temperature,
                          .top_p = 1,
                          .repeat_penalty = 1,
                          .drafting = {.tokens = drafts, .drafter = who},
                          .all_layers = all_layers};
    check(sl_generate(s.session, &request, &result, &err), &err);
    close_stage(&s);
    return result;
}

static inline bool same(const sl_result *a, const sl_result *b)
{
    return a->count == b->count && memcmp(a->tokens, b->tokens, a->count * sizeof *a->tokens) == 0;
}

#endif
