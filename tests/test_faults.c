/* tests/test_faults.c: every allocation and every read of opening and generating fails once, each in a run of its own.
 *
 * The linker puts the functions below in front of the system's. Whatever fails, the call must say so, give everything back, and leave a
 * session that can go on. What is not given back is counted here in every build, and named by the address sanitizer in its own. */
/* link: -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=aligned_alloc,--wrap=strdup,--wrap=free,--wrap=mmap,--wrap=munmap */
/* link: -Wl,--wrap=pthread_create,--wrap=pcre2_compile_8,--wrap=pcre2_match_data_create_8,--wrap=pread,--wrap=pread64 */
#include "tests/tiny_model.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- between us and the system ---- */

typedef enum fault { NO_FAULT, NO_ALLOCATION, READ_FAILS, READ_IS_SHORT, READ_IS_INTERRUPTED } fault;

static struct {
    atomic_int kind;         /* a fault; while NO_FAULT nothing is counted towards it */
    atomic_int countdown;    /* the call that takes it to 0 has the fault */
    atomic_int calls;        /* that could have had it */
    atomic_long live, pages; /* allocations, bytes of maps */
} system_now;

static bool strikes(bool is_read)
{
    int kind = atomic_load(&system_now.kind);
    if (kind == NO_FAULT || (kind != NO_ALLOCATION) != is_read)
        return false;
    atomic_fetch_add(&system_now.calls, 1);
    return atomic_fetch_sub(&system_now.countdown, 1) == 1;
}

static void *counted(void *memory)
{
    if (memory != NULL)
        atomic_fetch_add(&system_now.live, 1);
    return memory;
}

static void *refused(void)
{
    errno = ENOMEM;
    return NULL;
}

/* Names that begin with __wrap_ and __real_ are the linker's. */
#define FRONT(result, name, ...)                                                                                                           \
    result __real_##name(__VA_ARGS__);                                                                                                     \
    result __wrap_##name(__VA_ARGS__);                                                                                                     \
    result __wrap_##name(__VA_ARGS__)

FRONT(void *, malloc, size_t bytes)
{
    return strikes(false) ? refused() : counted(__real_malloc(bytes));
}
FRONT(void *, calloc, size_t count, size_t bytes)
{
    return strikes(false) ? refused() : counted(__real_calloc(count, bytes));
}
FRONT(void *, aligned_alloc, size_t alignment, size_t bytes)
{
    return strikes(false) ? refused() : counted(__real_aligned_alloc(alignment, bytes));
}
FRONT(char *, strdup, const char *text)
{
    return strikes(false) ? refused() : counted(__real_strdup(text));
}
FRONT(void *, realloc, void *memory, size_t bytes)
{
    if (strikes(false))
        return refused();
    void *grown = __real_realloc(memory, bytes);
    return memory == NULL ? counted(grown) : grown;
}
FRONT(void, free, void *memory)
{
    if (memory != NULL)
        atomic_fetch_sub(&system_now.live, 1);
    __real_free(memory);
}
FRONT(void *, mmap, void *at, size_t bytes, int protection, int flags, int fd, off_t offset)
{
    if (strikes(false)) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    void *pages = __real_mmap(at, bytes, protection, flags, fd, offset);
    if (pages != MAP_FAILED)
        atomic_fetch_add(&system_now.pages, (long)bytes);
    return pages;
}
FRONT(int, munmap, void *pages, size_t bytes)
{
    atomic_fetch_sub(&system_now.pages, (long)bytes);
    return __real_munmap(pages, bytes);
}
FRONT(int, pthread_create, pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *arg)
{
    return strikes(false) ? EAGAIN : __real_pthread_create(thread, attributes, run, arg);
}
FRONT(void *, pcre2_compile_8, const uint8_t *pattern, size_t length, uint32_t options, int *code, size_t *at, void *context)
{
    if (!strikes(false))
        return __real_pcre2_compile_8(pattern, length, options, code, at, context);
    *code = 121; /* PCRE2_ERROR_HEAP_FAILED */
    *at = 0;
    return NULL;
}
FRONT(void *, pcre2_match_data_create_8, uint32_t pairs, void *context)
{
    return strikes(false) ? NULL : __real_pcre2_match_data_create_8(pairs, context);
}

ssize_t __real_pread(int fd, void *to, size_t bytes, off_t offset);
ssize_t __wrap_pread(int fd, void *to, size_t bytes, off_t offset);
ssize_t __wrap_pread64(int fd, void *to, size_t bytes, off_t offset);

ssize_t __wrap_pread(int fd, void *to, size_t bytes, off_t offset)
{
    if (!strikes(true))
        return __real_pread(fd, to, bytes, offset);
    switch (atomic_load(&system_now.kind)) {
    case READ_IS_SHORT: return __real_pread(fd, to, bytes > 4096 ? 4096 : bytes, offset);
    case READ_IS_INTERRUPTED: errno = EINTR; return -1;
    default: errno = EIO; return -1;
    }
}
ssize_t __wrap_pread64(int fd, void *to, size_t bytes, off_t offset)
{
    return __wrap_pread(fd, to, bytes, offset);
}

static void arm(fault kind, int call)
{
    atomic_store(&system_now.calls, 0);
    atomic_store(&system_now.countdown, call);
    atomic_store(&system_now.kind, kind);
}

static int disarm(void)
{
    atomic_store(&system_now.kind, NO_FAULT);
    return atomic_load(&system_now.calls);
}

typedef struct holdings {
    long live, pages, files;
} holdings;

static holdings held(void)
{
    holdings h = {.live = atomic_load(&system_now.live), .pages = atomic_load(&system_now.pages)};
    DIR *folder = opendir("/proc/self/fd");
    while (folder != NULL && readdir(folder) != NULL)
        h.files++;
    if (folder != NULL)
        closedir(folder);
    return h;
}

static void check_nothing_kept(holdings before, int call)
{
    holdings now = held();
    if (now.live != before.live || now.pages != before.pages || now.files != before.files)
        fail_msg("fault %d: %ld allocations, %ld bytes of pages and %ld files are left", call, now.live - before.live,
                 now.pages - before.pages, now.files - before.files);
}

/* ---- what is done ---- */

enum { GENERATED = 6 };

typedef struct outcome {
    sl_status status;
    bool opened;      /* the session */
    size_t broken_at; /* tokens that a generation had when it failed */
    sl_token_id tokens[GENERATED];
    size_t count;
    char message[SL_ERROR_MESSAGE_MAX];
} outcome;

static const sl_token_id prompt[] = {5, 99, 200, 7, 386};

enum { DRAFTS = 3 }; /* of an engine that has sets of neurons to draft with */

static sl_request request_of(const sl_token_id *tokens, size_t count, uint32_t most, bool drafts)
{
    static const char *const stop[] = {"never said"};
    return (sl_request){.prompt = tokens,
                        .prompt_count = count,
                        .max_tokens = most,
                        .ignore_eos = true,
                        .stop = stop,
                        .stop_count = 1,
                        .top_p = 0.9f,
                        .repeat_penalty = 1.1f,
                        .repeat_last_n = 8,
                        .temperature = 1.0f,
                        .seed = 4,
                        .drafting = {.tokens = drafts ? DRAFTS : 0}};
}

static void keep(outcome *o, const sl_result *result)
{
    if (result->count > 0)
        memcpy(o->tokens + o->count, result->tokens, result->count * sizeof *result->tokens);
    o->count += result->count;
}

/* Where a generation broke off: with the last token that it has, or, where the prompt had not been run, from the start. */
static void go_on(sl_session *session, outcome *o, bool drafts)
{
    sl_result result;
    sl_error err = {0};
    sl_request request = o->count > 0 ? request_of(&o->tokens[o->count - 1], 1, (uint32_t)(GENERATED - o->count), drafts)
                                      : request_of(prompt, sizeof prompt / sizeof *prompt, GENERATED, drafts);
    assert_int_equal(sl_session_position(session), o->count > 0 ? sizeof prompt / sizeof *prompt + o->count - 1 : 0);
    if (sl_generate(session, &request, &result, &err) != SL_OK)
        fail_msg("after \"%s\": %s", o->message, err.message);
    keep(o, &result);
    sl_result_free(&result);
}

/* Opens, generates and closes; a generation that failed is gone on with when `resume`. */
static outcome run(const sl_engine_options *options, bool resume)
{
    outcome o = {0};
    sl_engine *engine = NULL;
    sl_session *session = NULL;
    sl_error err = {0};
    sl_token_id *ids = NULL;
    size_t count;
    sl_result result = {0};
    sl_request request = request_of(prompt, sizeof prompt / sizeof *prompt, GENERATED, options->draft_max > 0);
    o.status = sl_engine_open(options, &engine, &err);
    if (o.status == SL_OK)
        o.status = sl_engine_tokenize(engine, "the other day, she was", 22, true, true, &ids, &count, &err);
    if (o.status == SL_OK)
        o.status = sl_session_open(engine, &session, &err);
    o.opened = session != NULL;
    if (o.status == SL_OK)
        o.status = sl_generate(session, &request, &result, &err);
    keep(&o, &result);
    o.broken_at = o.status != SL_OK ? o.count : 0;
    memcpy(o.message, err.message, sizeof o.message);
    disarm();
    if (o.opened && o.status != SL_OK && resume)
        go_on(session, &o, options->draft_max > 0);
    sl_result_free(&result);
    sl_session_close(session);
    sl_engine_close(engine);
    free(ids);
    return o;
}

/* A model of which little stays, so that reads go on in each pass. */
static sl_engine_options tight(char **path)
{
    tiny_model model = {.layers = 2, .d = 256, .ff = 1024, .heads = 4, .kv_heads = 2, .head_dim = 64, .vocab = 387, .context = 64};
    sl_error err = {0};
    *path = tiny_path("faults.gguf");
    model.types[0] = SL_TYPE_Q8_0;
    model.types[1] = SL_TYPE_Q4_0;
    if (tiny_write(&model, *path, &err) != SL_OK)
        fail_msg("%s", err.message);
    sl_engine_options options = {.model_path = *path, .ram_budget_bytes = 1, .io_engine = "pread", .io_depth = 2, .threads = 2};
    sl_engine *engine;
    assert_int_equal(sl_engine_open(&options, &engine, &err), SL_NO_BUDGET);
    options.ram_budget_bytes = err.ram_budget_min_bytes + 2 * GROWTH;
    return options;
}

static void forget(char *path)
{
    unlink(path);
    free(path);
}

static void check_complete(const outcome *o, const outcome *undisturbed, int call)
{
    if (o->count != GENERATED || memcmp(o->tokens, undisturbed->tokens, sizeof o->tokens) != 0)
        fail_msg("fault %d (%s): other tokens than without it", call, o->message);
}

/* ---- tests ---- */

/* The same with drafts, which must give the same tokens. */
static sl_engine_options with_drafts(const sl_engine_options *options)
{
    sl_engine_options drafting = *options;
    drafting.draft_max = DRAFTS;
    drafting.sparsity = SL_SPARSITY_COARSE;
    drafting.ram_budget_bytes += GROWTH;
    return drafting;
}

static void each_allocation_fails(sl_engine_options options, bool drafts)
{
    outcome undisturbed = run(&options, false);
    assert_int_equal(undisturbed.status, SL_OK);
    options = drafts ? with_drafts(&options) : options;
    int faults = 0, survived = 0;
    for (bool reached = true; reached; faults++) {
        holdings before = held();
        arm(NO_ALLOCATION, faults + 1);
        outcome o = run(&options, false);
        reached = atomic_load(&system_now.calls) > faults;
        if (o.status == SL_OK)
            check_complete(&o, &undisturbed, faults + 1);
        else if (o.status != SL_NO_MEMORY || o.message[0] == '\0')
            fail_msg("fault %d: status %s (%s)", faults + 1, sl_status_name(o.status), o.message);
        survived += reached && o.status == SL_OK;
        check_nothing_kept(before, faults + 1);
    }
    assert_true(faults > 50);
    /* A table that is only made smaller, two looks for a control group, and a reader thread of several. */
    assert_in_range(survived, 0, 4);
}

static void every_allocation_that_fails_is_reported_and_leaves_nothing_behind(void **state)
{
    (void)state;
    char *path;
    sl_engine_options options = tight(&path);
    each_allocation_fails(options, false);
    each_allocation_fails(options, true);
    forget(path);
}

/* Every `step`th: a draft reads much again, and there is little new in that. */
static void each_read_fails(sl_engine_options options, const char *path, bool drafts, int step)
{
    outcome undisturbed = run(&options, false);
    assert_int_equal(undisturbed.status, SL_OK);
    options = drafts ? with_drafts(&options) : options;
    int faults = 0, tried = 0, of_opening = 0, of_prompt = 0, of_decoding = 0;
    for (bool reached = true; reached; faults += step, tried++) {
        holdings before = held();
        arm(READ_FAILS, faults + 1);
        outcome o = run(&options, true);
        reached = atomic_load(&system_now.calls) > faults;
        if (o.status != SL_OK && (o.status != SL_IO || strstr(o.message, path) == NULL))
            fail_msg("fault %d: status %s (%s)", faults + 1, sl_status_name(o.status), o.message);
        if (o.opened)
            check_complete(&o, &undisturbed, faults + 1);
        of_opening += !o.opened;
        of_prompt += o.opened && o.status != SL_OK && o.broken_at == 0;
        of_decoding += o.broken_at > 0;
        check_nothing_kept(before, faults + 1);
    }
    assert_true(of_opening * step >= 3 && of_prompt * step >= 10);
    assert_true(of_decoding * step >= 50 || GROWTH > (uint64_t)1 << 20); /* with room for everything nothing streams */
    assert_true(of_opening + of_prompt + of_decoding >= tried - 5);      /* all but reads ahead that were not needed any more */
}

static void every_read_that_fails_is_reported_and_the_session_can_go_on(void **state)
{
    (void)state;
    char *path;
    sl_engine_options options = tight(&path);
    each_read_fails(options, path, false, 1);
    each_read_fails(options, path, true, 5);
    forget(path);
}

static void reads_that_are_short_or_interrupted_do_not_show(void **state)
{
    (void)state;
    char *path;
    sl_engine_options options = tight(&path);
    outcome undisturbed = run(&options, false);
    for (fault kind = READ_IS_SHORT; kind <= READ_IS_INTERRUPTED; kind++)
        for (int call = 1; call < 60; call++) {
            arm(kind, call);
            outcome o = run(&options, false);
            if (o.status != SL_OK)
                fail_msg("fault %d: %s", call, o.message);
            check_complete(&o, &undisturbed, call);
        }
    forget(path);
}

/* Five batches of one row; each time one more read succeeds before one fails. Nothing piles up, and in the end all is as if nothing had been. */
static void an_evaluation_that_fails_in_a_later_batch_undoes_the_earlier_ones(void **state)
{
    (void)state;
    char *path;
    enum { ROWS = sizeof prompt / sizeof *prompt, VOCAB = 387 };
    sl_engine_options options = tight(&path);
    options.batch = 1;
    sl_engine *engine;
    sl_session *session;
    sl_error err = {0};
    const float *logits;
    float undisturbed[VOCAB];
    assert_int_equal(sl_engine_open(&options, &engine, &err), SL_OK);
    assert_int_equal(sl_session_open(engine, &session, &err), SL_OK);
    assert_int_equal(sl_session_eval(session, prompt, ROWS, SL_EVAL_LOGITS, &logits, &err), SL_OK);
    memcpy(undisturbed, logits, sizeof undisturbed);
    int failed = 0;
    for (sl_status status = SL_IO; status != SL_OK; failed += status != SL_OK) {
        assert_int_equal(sl_session_truncate(session, 0, &err), SL_OK);
        arm(READ_FAILS, failed + 1);
        status = sl_session_eval(session, prompt, ROWS, SL_EVAL_LOGITS | SL_EVAL_MORE, &logits, &err);
        disarm();
        if (status != SL_OK && status != SL_IO)
            fail_msg("after %d failures: %s", failed, err.message);
        assert_int_equal(sl_session_position(session), status == SL_OK ? ROWS : 0);
    }
    assert_true(failed > 20 || GROWTH > (uint64_t)1 << 20);
    assert_memory_equal(logits, undisturbed, sizeof undisturbed);
    sl_session_close(session);
    sl_engine_close(engine);
    forget(path);
}

/* The file is cut after opening: each pass that needs what is gone fails, and the one after it. */
static void a_file_that_is_cut_while_it_is_used_fails_and_says_so(void **state)
{
    (void)state;
    char *path;
    sl_engine_options options = tight(&path);
    sl_engine *engine;
    sl_session *session;
    sl_error err = {0};
    assert_int_equal(sl_engine_open(&options, &engine, &err), SL_OK);
    assert_int_equal(sl_session_open(engine, &session, &err), SL_OK);
    assert_int_equal(truncate(path, 8192), 0);
    for (int i = 0; i < 2; i++) {
        err = (sl_error){0};
        assert_int_equal(sl_session_eval(session, prompt, 3, SL_EVAL_LOGITS, NULL, &err), SL_IO);
        assert_non_null(strstr(err.message, path));
        assert_int_equal(sl_session_position(session), 0);
    }
    sl_session_close(session);
    sl_engine_close(engine);
    forget(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_allocation_that_fails_is_reported_and_leaves_nothing_behind),
        cmocka_unit_test(every_read_that_fails_is_reported_and_the_session_can_go_on),
        cmocka_unit_test(reads_that_are_short_or_interrupted_do_not_show),
        cmocka_unit_test(an_evaluation_that_fails_in_a_later_batch_undoes_the_earlier_ones),
        cmocka_unit_test(a_file_that_is_cut_while_it_is_used_fails_and_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
