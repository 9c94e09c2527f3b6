/* offload/lookup.h: drafts that cost nothing: what followed the last time the text went like this.
 *
 * The longest suffix of the text that occurs earlier in it, the latest occurrence where there are several, and what came after it. Good
 * where an answer repeats its question, a list its form, code its names. Pure. */
#ifndef SL_OFFLOAD_LOOKUP_H
#define SL_OFFLOAD_LOOKUP_H

#include "core/tokenizer.h"

#define SLI_LOOKUP_LONGEST 4 /* tokens of a suffix that are told apart: longer ones are right hardly more often */

typedef struct sli_match {
    uint32_t length; /* tokens that agree, at most SLI_LOOKUP_LONGEST; 0: none */
    uint32_t next;   /* where in the text the continuation begins */
} sli_match;

/* O(count). */
sli_match sli_lookup(const sl_token *text, uint32_t count);

/* The `most` tokens that followed the match. Where they run into the text's end they go on as if the text did: a text that repeats itself is
 * drafted as far as is asked for. Returns how many: 0 or `most`. */
uint32_t sli_lookup_continue(const sl_token *text, uint32_t count, sli_match match, uint32_t most, sl_token *out);

#endif
