/* tests/test_generate.c: from a prompt to text: what is shown, when it ends, and that a seed means something.
 *
 * Most tests use a model whose every token has one successor, so that it says exactly what the test wrote down. */
#include "offload/engine.h"
#include "tests/tiny_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { VOCAB = 387, START = 385, TEXTLESS = 386, SCRIPT_MAX = 64 }; /* ids from 384 on have no text */

/* ---- a model that says what it is told to ---- */

typedef struct stage {
    char *path;
    sl_engine *engine;
    sl_session *session;
    sl_token_id script[SCRIPT_MAX]; /* what follows START */
    size_t length;
} stage;

enum { DRAFTS = 3 };

static sl_engine *open_engine(const char *path, uint32_t context, bool vocabulary_only, bool drafts)
{
    sl_engine *engine;
    sl_error err = {0};
    sl_engine_options options = {.model_path = path,
                                 .ram_budget_bytes = (uint64_t)1 << 30,
                                 .context = context,
                                 .batch = 4,
                                 .threads = 1,
                                 .draft_max = drafts ? DRAFTS : 0,
                                 .sparsity = drafts ? SL_SPARSITY_COARSE : SL_SPARSITY_OFF,
                                 .vocabulary_only = vocabulary_only};
    if (sl_engine_open(&options, &engine, &err) != SL_OK)
        fail_msg("%s", err.message);
    return engine;
}

/* The token that is exactly `text`; texts of one byte always have one. */
static sl_token_id token_of(const sl_engine *engine, const char *text, size_t length)
{
    for (sl_token_id id = 0; id < SLI_SYNTH_VOCABULARY_MIN; id++) {
        size_t n;
        const char *piece = sl_engine_piece(engine, id, true, &n);
        if (n == length && memcmp(piece, text, n) == 0)
            return id;
    }
    fail_msg("no token \"%.*s\"", (int)length, text);
    return -1;
}

/* Pieces are separated by '|', each a token; '#' is the one without text, '$' the end token. No token may come twice. */
static void read_script(stage *s, const sl_engine *engine, const char *pieces)
{
    for (const char *at = pieces; *at != '\0';) {
        size_t n = strcspn(at, "|");
        sl_token_id id = *at == '#' ? TEXTLESS : *at == '$' ? token_of(engine, "<|im_end|>", 10) : token_of(engine, at, n);
        for (size_t i = 0; i < s->length; i++)
            assert_int_not_equal(s->script[i], id);
        s->script[s->length++] = id;
        at += n + (at[n] == '|');
    }
}

static void write_model(const tiny_model *model, const char *path)
{
    sl_error err = {0};
    if (tiny_write(model, path, &err) != SL_OK)
        fail_msg("%s", err.message);
}

/* After its last token a script begins again. The layers add nothing, so that sets of neurons say the same, and every draft is right. */
static stage open_stage(const char *pieces, uint32_t context)
{
    stage s = {.path = tiny_path("stage.gguf")};
    sl_token_id successors[VOCAB];
    tiny_model model = TINY_MODEL;
    model.layers = 1;
    write_model(&model, s.path);
    sl_engine *words = open_engine(s.path, 0, true, false);
    read_script(&s, words, pieces);
    sl_engine_close(words);
    for (int i = 0; i < VOCAB; i++)
        successors[i] = s.script[0];
    for (size_t i = 0; i + 1 < s.length; i++)
        successors[s.script[i]] = s.script[i + 1];
    model.d = 416;
    model.tied = false;
    model.successors = successors;
    write_model(&model, s.path);
    s.engine = open_engine(s.path, context, false, true);
    assert_int_equal(sl_session_open(s.engine, &s.session, NULL), SL_OK);
    return s;
}

static void close_stage(stage *s)
{
    sl_session_close(s->session);
    sl_engine_close(s->engine);
    unlink(s->path);
    free(s->path);
}

/* ---- what was shown ---- */

typedef struct shown {
    char text[4096];
    size_t length, calls;
    size_t decline_at; /* at this call; 0: never */
    bool declined, called_after;
    bool broken_character;
    size_t prompt_done, prompt_calls;
    sl_engine *interrupt_at_first; /* this engine */
} shown;

/* Whether text is UTF-8 from a whole character to a whole character. */
static bool whole(const char *text, size_t length)
{
    for (size_t i = 0; i < length;) {
        unsigned char lead = (unsigned char)text[i++];
        size_t more = lead < 0x80 ? 0 : lead < 0xC0 ? SIZE_MAX : lead < 0xE0 ? 1 : lead < 0xF0 ? 2 : 3;
        if (more > length - i)
            return false;
        for (; more > 0; more--)
            if (((unsigned char)text[i++] & 0xC0) != 0x80)
                return false;
    }
    return true;
}

static bool show(void *ctx, const char *text, size_t length)
{
    shown *s = ctx;
    s->called_after |= s->declined;
    assert_true(length > 0 && s->length + length < sizeof s->text);
    s->broken_character |= !whole(text, length);
    memcpy(s->text + s->length, text, length);
    s->length += length;
    s->calls++;
    if (s->interrupt_at_first != NULL && s->calls == 1)
        sl_engine_interrupt(s->interrupt_at_first);
    s->declined |= s->calls == s->decline_at;
    return !s->declined;
}

static void show_prompt(void *ctx, size_t done, size_t total)
{
    shown *s = ctx;
    assert_true(done > s->prompt_done && done <= total);
    s->prompt_done = done;
    s->prompt_calls++;
}

static sl_request request_of(shown *to)
{
    static const sl_token_id start[] = {START};
    return (sl_request){.prompt = start,
                        .prompt_count = 1,
                        .max_tokens = 30,
                        .top_p = 1.0f,
                        .repeat_penalty = 1.0f,
                        .on_text = show,
                        .on_prompt = show_prompt,
                        .ctx = to};
}

/* From an empty session; whatever was shown must be the result's text. */
static sl_result generate_once(sl_session *session, const sl_request *request)
{
    sl_result result;
    sl_error err = {0};
    shown *to = request->ctx;
    assert_int_equal(sl_session_truncate(session, 0, &err), SL_OK);
    if (sl_generate(session, request, &result, &err) != SL_OK)
        fail_msg("%s", err.message);
    assert_int_equal(strlen(result.text), result.text_length);
    if (!to->declined) {
        assert_int_equal(to->length, result.text_length);
        assert_memory_equal(to->text, result.text, result.text_length);
    }
    return result;
}

/* Without drafts, and where the engine has them, with: nothing may differ, not even what was shown when. */
static sl_result generate(sl_session *session, const sl_request *request)
{
    static const int32_t drafts[] = {DRAFTS, SL_DRAFT_AUTO};
    const shown before = *(const shown *)request->ctx;
    sl_result result = generate_once(session, request);
    for (size_t i = 0; session->engine->price.draft_max > 0 && i < sizeof drafts / sizeof *drafts; i++) {
        shown again = before, *first = request->ctx;
        sl_request drafted = *request;
        uint32_t position = session->position;
        drafted.ctx = &again;
        drafted.drafting.tokens = drafts[i];
        sl_result other = generate_once(session, &drafted);
        assert_int_equal(other.reason, result.reason);
        assert_int_equal(other.count, result.count);
        assert_memory_equal(other.tokens, result.tokens, result.count * sizeof *result.tokens);
        assert_string_equal(other.text, result.text);
        assert_int_equal(session->position, position);
        assert_true(again.calls == first->calls && again.length == first->length && again.declined == first->declined);
        assert_memory_equal(again.text, first->text, again.length);
        assert_true(drafts[i] != DRAFTS || other.drafts.checks <= (result.count + DRAFTS) / (DRAFTS + 1));
        sl_result_free(&other);
    }
    return result;
}

/* ---- the end ---- */

static void the_end_token_ends_and_is_not_part_of_the_text(void **state)
{
    (void)state;
    stage s = open_stage("H|e|l| the|o|$", 64);
    shown to = {0};
    sl_request request = request_of(&to);
    sl_result result = generate(s.session, &request);
    assert_int_equal(result.reason, SL_STOP_EOS);
    assert_string_equal(result.text, "Hel theo");
    assert_int_equal(result.count, 5);
    assert_memory_equal(result.tokens, s.script, 5 * sizeof *s.script);
    assert_int_equal(result.decode_tokens, 4);
    assert_int_equal(sl_session_position(s.session), 6); /* all but the end token is in the cache */
    sl_result_free(&result);
    sl_result_free(&result); /* of an empty result, harmless */
    close_stage(&s);
}

static void ignoring_the_end_goes_on_without_it(void **state)
{
    (void)state;
    stage s = open_stage("H|e|$", 64);
    shown to = {0};
    sl_request request = request_of(&to);
    request.ignore_eos = true;
    sl_result result = generate(s.session, &request);
    assert_int_equal(result.reason, SL_STOP_LENGTH);
    assert_int_equal(result.count, 30);
    for (size_t i = 0; i < result.count; i++)
        assert_false(sl_engine_ends_generation(s.engine, result.tokens[i]));
    sl_result_free(&result);
    close_stage(&s);
}

static void no_more_tokens_than_asked_for(void **state)
{
    (void)state;
    stage s = open_stage("a|b|c|d|e", 64);
    for (uint32_t most = 1; most <= 6; most++) {
        shown to = {0};
        sl_request request = request_of(&to);
        request.max_tokens = most;
        sl_result result = generate(s.session, &request);
        assert_int_equal(result.reason, SL_STOP_LENGTH);
        assert_int_equal(result.count, most);
        assert_int_equal(result.text_length, most);
        assert_memory_equal(result.text, "abcdea", most);
        sl_result_free(&result);
    }
    close_stage(&s);
}

static void a_full_context_ends_and_says_so(void **state)
{
    (void)state;
    stage s = open_stage("a|b|c|d|e", 8);
    shown to = {0};
    sl_request request = request_of(&to);
    request.max_tokens = 0;
    sl_result result = generate(s.session, &request);
    assert_int_equal(result.reason, SL_STOP_CONTEXT);
    assert_string_equal(result.text, "abcdeabc"); /* seven fit behind the prompt, the last one need not fit */
    assert_int_equal(sl_session_position(s.session), 8);
    sl_result_free(&result);

    sl_error err = {0};
    sl_token_id many[8] = {START, START, START, START, START, START, START, START};
    request.prompt = many;
    request.prompt_count = 8;
    assert_int_equal(sl_session_truncate(s.session, 0, NULL), SL_OK);
    assert_int_equal(sl_generate(s.session, &request, &result, &err), SL_FULL);
    assert_non_null(strstr(err.message, "-c sets it"));
    assert_int_equal(sl_session_position(s.session), 0);
    sl_result_free(&result);
    request.prompt_count = 7;
    to = (shown){0};
    result = generate(s.session, &request);
    assert_int_equal(result.count, 2);
    sl_result_free(&result);
    close_stage(&s);
}

static void the_caller_may_stop_and_is_not_called_again(void **state)
{
    (void)state;
    stage s = open_stage("a|b|c|d|e|f|$", 64);
    static const char *const stop[] = {"cdx"};
    for (size_t at = 1; at <= 3; at++) {
        shown to = {.decline_at = at};
        sl_request request = request_of(&to);
        request.stop = stop;
        request.stop_count = 1;
        sl_result result = generate(s.session, &request);
        assert_int_equal(result.reason, SL_STOP_CALLER);
        assert_int_equal(to.calls, at);
        assert_false(to.called_after);
        sl_result_free(&result);
    }
    close_stage(&s);

    /* What is held back when the caller declines is not shown to him at the end, either. */
    s = open_stage("a|he|c|d|$", 64);
    shown to = {.decline_at = 2};
    sl_request request = request_of(&to);
    static const char *const inside[] = {"ex"};
    request.stop = inside;
    request.stop_count = 1;
    sl_result result = generate(s.session, &request); /* "a", then "h", while "e" is held back */
    assert_int_equal(result.reason, SL_STOP_CALLER);
    assert_int_equal(to.calls, 2);
    assert_false(to.called_after);
    sl_result_free(&result);
    close_stage(&s);
}

static void an_interrupt_ends_with_what_was_generated_and_the_next_call_runs(void **state)
{
    (void)state;
    stage s = open_stage("a|b|c|d|$", 64);
    shown to = {.interrupt_at_first = s.engine};
    sl_request request = request_of(&to);
    sl_result result;
    sl_error err = {0};
    assert_int_equal(sl_generate(s.session, &request, &result, &err), SL_INTERRUPTED);
    assert_int_equal(result.reason, SL_STOP_INTERRUPTED);
    assert_string_equal(result.text, "a");
    assert_int_equal(result.count, 1);
    assert_int_equal(sl_session_position(s.session), 1);
    sl_result_free(&result);
    to = (shown){0};
    result = generate(s.session, &request);
    assert_string_equal(result.text, "abcd");
    sl_result_free(&result);
    close_stage(&s);
}

/* ---- stop strings ---- */

/* The text must end before the first stop string, and nothing of a stop string may ever be shown. */
static void check_stops(const stage *s, const char *text, const char *const *stops, size_t count)
{
    const char *end = NULL;
    for (size_t i = 0; i < count; i++) {
        const char *at = strstr(text, stops[i]);
        end = at != NULL && (end == NULL || at < end) ? at : end;
    }
    size_t length = end == NULL ? strlen(text) : (size_t)(end - text);
    shown to = {0};
    sl_request request = request_of(&to);
    request.stop = stops;
    request.stop_count = count;
    sl_result result = generate(s->session, &request);
    if (result.text_length != length || memcmp(result.text, text, length) != 0)
        fail_msg("stop \"%s\": \"%s\", not \"%.*s\"", stops[0], result.text, (int)length, text);
    assert_int_equal(result.reason, end == NULL ? SL_STOP_EOS : SL_STOP_STRING);
    assert_true(to.length == length && memcmp(to.text, text, length) == 0);
    sl_result_free(&result);
}

static void a_stop_string_ends_the_text_wherever_tokens_end(void **state)
{
    (void)state;
    stage s = open_stage("a|n|d| the| a|t|h|at|b|e|s| he|r|o|#|x|an|z|$", 64);
    static const char text[] = "and the athatbes heroxanz";
    for (size_t from = 0; from < sizeof text - 1; from++)
        for (size_t length = 1; length <= 9 && from + length < sizeof text; length++) {
            char stop[16] = {0};
            memcpy(stop, text + from, length);
            check_stops(&s, text, (const char *const[]){stop}, 1);
            stop[length - 1] = '?'; /* begins like the text, and never comes */
            check_stops(&s, text, (const char *const[]){stop}, 1);
        }
    close_stage(&s);
}

static void of_several_stop_strings_the_first_in_the_text_counts(void **state)
{
    (void)state;
    stage s = open_stage("a|n|d| the| a|t|h|at|b|e|s| he|r|o|#|x|an|z|$", 64);
    static const char text[] = "and the athatbes heroxanz";
    static const char *const sets[][3] = {{"athat", "tha", "zz"}, {"tha", "athat", "the"}, {"at", "athat", "that"},
                                          {"??", "nz", "xan"},    {"e", "he", "the"},      {"?", "q", "w"}};
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++)
        check_stops(&s, text, sets[i], 3);
    close_stage(&s);
}

static void text_that_might_have_become_a_stop_string_is_shown_at_the_end(void **state)
{
    (void)state;
    stage s = open_stage("a|b|c|d", 64);
    shown to = {0};
    sl_request request = request_of(&to);
    request.stop = (const char *const[]){"cdx"};
    request.stop_count = 1;
    request.max_tokens = 4;
    sl_result result = generate(s.session, &request);
    assert_string_equal(result.text, "abcd");
    assert_int_equal(to.calls, 3); /* "a", "b", and at the end "cd" */
    sl_result_free(&result);
    close_stage(&s);
}

/* ---- characters ---- */

static void only_whole_characters_are_shown(void **state)
{
    (void)state;
    stage s = open_stage("a|\xC3|\xA9|b|\xE2|\x82|\xAC|\xF0|\x9F|\x98|\x80|c|$", 64);
    shown to = {0};
    sl_request request = request_of(&to);
    sl_result result = generate(s.session, &request);
    assert_string_equal(result.text, "a\xC3\xA9"
                                     "b\xE2\x82\xAC\xF0\x9F\x98\x80"
                                     "c");
    assert_false(to.broken_character);
    assert_int_equal(to.calls, 6);
    sl_result_free(&result);

    /* A stop string that ends inside a character's last token, too. */
    request.stop = (const char *const[]){"\xAC"};
    request.stop_count = 1;
    to = (shown){0};
    result = generate(s.session, &request);
    assert_string_equal(result.text, "a\xC3\xA9"
                                     "b\xE2\x82");
    sl_result_free(&result);
    close_stage(&s);
}

static void bytes_that_are_no_characters_are_shown_as_they_are(void **state)
{
    (void)state;
    stage s = open_stage("\x80|a|\xE2|b|\xBF|\xBE|\xBD|\xBC|\xBB|c|\xC3|$", 64);
    shown to = {0};
    sl_request request = request_of(&to);
    sl_result result = generate(s.session, &request);
    assert_string_equal(result.text, "\x80"
                                     "a\xE2"
                                     "b\xBF\xBE\xBD\xBC\xBB"
                                     "c\xC3");
    sl_result_free(&result);
    close_stage(&s);
}

/* ---- requests ---- */

static void a_request_that_cannot_be_met_is_refused_before_anything_is_done(void **state)
{
    (void)state;
    stage s = open_stage("a|b|$", 64);
    for (int i = 0; i < 6; i++) {
        shown to = {0};
        sl_request request = request_of(&to);
        sl_result result;
        sl_error err = {0};
        static const char *const said[] = {"stop string is empty", "prompt is empty", "temperature", "top", "vocabulary", "min"};
        static const char *const empty[] = {"x", ""};
        static const sl_token_id beyond[] = {VOCAB};
        request.stop = empty;
        request.stop_count = i == 0 ? 2 : 0;
        request.prompt_count = i == 1 ? 0 : 1;
        request.temperature = i == 2 ? -1.0f : 0;
        request.top_p = i == 3 ? 2.0f : 1;
        request.prompt = i == 4 ? beyond : request.prompt;
        request.min_p = i == 5 ? -1.0f : 0;
        assert_int_equal(sl_generate(s.session, &request, &result, &err), SL_INVALID);
        if (strstr(err.message, said[i]) == NULL)
            fail_msg("%s does not say: %s", err.message, said[i]);
        assert_int_equal(to.calls + result.count + sl_session_position(s.session), 0);
        sl_result_free(&result);
    }
    close_stage(&s);
}

static void an_engine_for_all_logits_does_not_generate(void **state)
{
    (void)state;
    char *path = tiny_path("rows.gguf");
    tiny_model model = TINY_MODEL;
    write_model(&model, path);
    sl_engine_options options = {.model_path = path, .ram_budget_bytes = (uint64_t)1 << 30, .threads = 1, .all_logits = true};
    sl_engine *engine;
    sl_session *session;
    sl_error err = {0};
    assert_int_equal(sl_engine_open(&options, &engine, &err), SL_OK);
    assert_int_equal(sl_session_open(engine, &session, &err), SL_OK);
    shown to = {0};
    sl_request request = request_of(&to);
    sl_result result;
    assert_int_equal(sl_generate(session, &request, &result, &err), SL_INVALID);
    assert_non_null(strstr(err.message, "all_logits"));
    assert_int_equal(sl_session_position(session), 0);
    sl_result_free(&result);
    sl_session_close(session);
    sl_engine_close(engine);
    unlink(path);
    free(path);
}

static void a_long_prompt_shows_its_progress(void **state)
{
    (void)state;
    stage s = open_stage("a|b|$", 64);
    sl_token_id prompt[10];
    for (int i = 0; i < 10; i++)
        prompt[i] = START;
    shown to = {0};
    sl_request request = request_of(&to);
    request.prompt = prompt;
    request.prompt_count = 10; /* in batches of 4 */
    sl_result result = generate(s.session, &request);
    assert_int_equal(to.prompt_done, 10);
    assert_int_equal(to.prompt_calls, 3);
    assert_string_equal(result.text, "ab");
    sl_result_free(&result);
    request.on_prompt = NULL;
    request.on_text = NULL;
    assert_int_equal(sl_session_truncate(s.session, 0, NULL), SL_OK);
    assert_int_equal(sl_generate(s.session, &request, &result, NULL), SL_OK);
    assert_string_equal(result.text, "ab");
    sl_result_free(&result);
    close_stage(&s);
}

/* ---- chance ---- */

static sl_result generate_with(sl_session *session, uint64_t seed, float temperature)
{
    shown to = {0};
    sl_request request = request_of(&to);
    request.seed = seed;
    request.temperature = temperature;
    request.ignore_eos = true;
    return generate(session, &request);
}

static bool same_tokens(const sl_result *a, const sl_result *b)
{
    return a->count == b->count && memcmp(a->tokens, b->tokens, a->count * sizeof *a->tokens) == 0;
}

static void a_seed_gives_its_text_again_and_another_seed_another(void **state)
{
    (void)state;
    char *path = tiny_path("seeds.gguf");
    tiny_model model = TINY_MODEL;
    write_model(&model, path);
    sl_engine *engine = open_engine(path, 64, false, false);
    sl_session *session;
    assert_int_equal(sl_session_open(engine, &session, NULL), SL_OK);
    sl_result first = generate_with(session, 0, 1.0f);
    assert_int_equal(first.count, 30);
    for (uint64_t seed = 0; seed < 6; seed++) {
        sl_result again = generate_with(session, seed, 1.0f);
        assert_int_equal(same_tokens(&first, &again), seed == 0);
        sl_result_free(&again);
    }
    /* So hot that chance alone decides: it falls anew for each position. */
    sl_result hot = generate_with(session, 0, 1000.0f);
    size_t distinct = 0;
    for (size_t i = 0; i < hot.count; i++) {
        bool seen = false;
        for (size_t j = 0; j < i; j++)
            seen |= hot.tokens[j] == hot.tokens[i];
        distinct += !seen;
    }
    assert_true(distinct > 20);
    sl_result_free(&hot);
    sl_result cold = generate_with(session, 1, 0), still_cold = generate_with(session, 2, 0);
    assert_true(same_tokens(&cold, &still_cold));
    assert_false(same_tokens(&cold, &first));
    sl_result_free(&first);
    sl_result_free(&cold);
    sl_result_free(&still_cold);
    sl_session_close(session);
    sl_engine_close(engine);
    unlink(path);
    free(path);
}

/* Without chance each token is the likeliest, and going on from where a generation ended is going on with the generation. */
static void at_temperature_0_each_token_is_the_argmax_of_its_logits(void **state)
{
    (void)state;
    char *path = tiny_path("greedy.gguf");
    tiny_model model = TINY_MODEL;
    write_model(&model, path);
    sl_engine *engine = open_engine(path, 64, false, false);
    sl_session *session;
    assert_int_equal(sl_session_open(engine, &session, NULL), SL_OK);
    sl_result result = generate_with(session, 1, 0);
    assert_int_equal(sl_session_position(session), 30); /* the last token has not been evaluated: no one asked what follows it */
    assert_int_equal(sl_session_truncate(session, 0, NULL), SL_OK);
    sl_token_id token = START;
    for (size_t i = 0; i < result.count; i++) {
        const float *logits;
        assert_int_equal(sl_session_eval(session, &token, 1, SL_EVAL_LOGITS, &logits, NULL), SL_OK);
        token = -1;
        for (sl_token_id id = 0; id < VOCAB; id++)
            if (!sl_engine_ends_generation(engine, id) && (token < 0 || logits[id] > logits[token]))
                token = id;
        assert_int_equal(token, result.tokens[i]);
    }

    shown to = {0};
    sl_request request = request_of(&to);
    request.ignore_eos = true;
    request.max_tokens = 12;
    sl_result begun = generate(session, &request), rest;
    request.prompt = &begun.tokens[11];
    request.max_tokens = 18;
    to = (shown){0};
    assert_int_equal(sl_generate(session, &request, &rest, NULL), SL_OK);
    assert_memory_equal(begun.tokens, result.tokens, 12 * sizeof *result.tokens);
    assert_memory_equal(rest.tokens, result.tokens + 12, 18 * sizeof *result.tokens);
    sl_result_free(&begun);
    sl_result_free(&rest);
    sl_result_free(&result);
    sl_session_close(session);
    sl_engine_close(engine);
    unlink(path);
    free(path);
}

static void every_stop_reason_has_its_name(void **state)
{
    (void)state;
    assert_string_equal(sl_stop_reason_name(SL_STOP_EOS), "eos");
    assert_string_equal(sl_stop_reason_name(SL_STOP_STRING), "stop");
    assert_string_equal(sl_stop_reason_name(SL_STOP_LENGTH), "length");
    assert_string_equal(sl_stop_reason_name(SL_STOP_CONTEXT), "context");
    assert_string_equal(sl_stop_reason_name(SL_STOP_CALLER), "caller");
    assert_string_equal(sl_stop_reason_name(SL_STOP_INTERRUPTED), "interrupted");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_end_token_ends_and_is_not_part_of_the_text),
        cmocka_unit_test(ignoring_the_end_goes_on_without_it),
        cmocka_unit_test(no_more_tokens_than_asked_for),
        cmocka_unit_test(a_full_context_ends_and_says_so),
        cmocka_unit_test(the_caller_may_stop_and_is_not_called_again),
        cmocka_unit_test(an_interrupt_ends_with_what_was_generated_and_the_next_call_runs),
        cmocka_unit_test(a_stop_string_ends_the_text_wherever_tokens_end),
        cmocka_unit_test(of_several_stop_strings_the_first_in_the_text_counts),
        cmocka_unit_test(text_that_might_have_become_a_stop_string_is_shown_at_the_end),
        cmocka_unit_test(only_whole_characters_are_shown),
        cmocka_unit_test(bytes_that_are_no_characters_are_shown_as_they_are),
        cmocka_unit_test(a_request_that_cannot_be_met_is_refused_before_anything_is_done),
        cmocka_unit_test(an_engine_for_all_logits_does_not_generate),
        cmocka_unit_test(a_long_prompt_shows_its_progress),
        cmocka_unit_test(a_seed_gives_its_text_again_and_another_seed_another),
        cmocka_unit_test(at_temperature_0_each_token_is_the_argmax_of_its_logits),
        cmocka_unit_test(every_stop_reason_has_its_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
