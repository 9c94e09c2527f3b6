/* core/regex.c: PCRE2 with bounds. */
#include "core/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <stdlib.h>

#define PATTERN_BYTES_MAX 4096
#define PARENTHESES_MAX   50
#define STEPS_MAX         1000000 /* of backtracking: a tenth of a second or so */
#define HEAP_KIB_MAX      4096

struct sl_regex {
    pcre2_code *code;
    pcre2_match_data *match;
    pcre2_match_context *bounds;
};

static void message_of(int code, char out[120])
{
    if (pcre2_get_error_message(code, (PCRE2_UCHAR *)out, 120) < 0)
        out[0] = '\0';
}

static sl_status compile(sl_regex *r, const char *pattern, sl_error *err)
{
    int code;
    PCRE2_SIZE at;
    char why[120];
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    if (context == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for a pattern");
    pcre2_set_max_pattern_length(context, PATTERN_BYTES_MAX);
    pcre2_set_parens_nest_limit(context, PARENTHESES_MAX);
    uint32_t options = PCRE2_UTF | PCRE2_MATCH_INVALID_UTF | PCRE2_NEVER_BACKSLASH_C;
    r->code = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, options, &code, &at, context);
    pcre2_compile_context_free(context);
    if (r->code != NULL)
        return SL_OK;
    message_of(code, why);
    return sl_fail(err, SL_INVALID, "the pattern %.60s is wrong at byte %zu: %s", pattern, (size_t)at, why);
}

sl_status sl_regex_create(const char *pattern, sl_regex **out, sl_error *err)
{
    *out = NULL;
    sl_regex *r = calloc(1, sizeof *r);
    if (r == NULL)
        return sl_fail(err, SL_NO_MEMORY, "out of memory for a pattern");
    sl_status status = compile(r, pattern, err);
    if (status == SL_OK) {
        r->match = pcre2_match_data_create(1, NULL);
        r->bounds = pcre2_match_context_create(NULL);
        if (r->match == NULL || r->bounds == NULL)
            status = sl_fail(err, SL_NO_MEMORY, "out of memory for a pattern");
    }
    if (status != SL_OK) {
        sl_regex_free(r);
        return status;
    }
    pcre2_set_match_limit(r->bounds, STEPS_MAX);
    pcre2_set_heap_limit(r->bounds, HEAP_KIB_MAX);
    *out = r;
    return SL_OK;
}

void sl_regex_free(sl_regex *r)
{
    if (r == NULL)
        return;
    pcre2_match_context_free(r->bounds);
    pcre2_match_data_free(r->match);
    pcre2_code_free(r->code);
    free(r);
}

sl_status sl_regex_search(const sl_regex *r, const char *text, size_t length, bool *found, sl_error *err)
{
    char why[120];
    int got = pcre2_match(r->code, (PCRE2_SPTR)text, length, 0, 0, r->match, r->bounds);
    *found = got >= 0;
    if (got >= 0 || got == PCRE2_ERROR_NOMATCH)
        return SL_OK;
    message_of(got, why);
    return sl_fail(err, SL_INVALID, "searching %zu bytes for a pattern failed: %s", length, why);
}
