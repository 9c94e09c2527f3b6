/* core/regex.h: whether a text has what a pattern describes (PCRE2's syntax, UTF-8).
 *
 * Patterns and texts may come from anywhere: both are bounded in what they may cost, and a search that would cost more is a failure, not
 * an answer.
 *
 * Threads: one owner. */
#ifndef SL_CORE_REGEX_H
#define SL_CORE_REGEX_H

#include "core/status.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct sl_regex sl_regex;

/* SL_INVALID says at which byte the pattern is wrong. */
SL_MUST_USE sl_status sl_regex_create(const char *pattern, sl_regex **out, sl_error *err);
void sl_regex_free(sl_regex *regex); /* NULL is fine */
/* Whether it matches anywhere. Bytes that are no UTF-8 match nothing but what is around them. */
SL_MUST_USE sl_status sl_regex_search(const sl_regex *regex, const char *text, size_t length, bool *found, sl_error *err);

#endif
