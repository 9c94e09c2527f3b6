/* core/pretokenizer.h: cutting text into the pieces inside which byte pairs are merged.
 *
 * A pre-tokenizer is a row of a table: the names that files call it by, the patterns that cut, and two facts about the vocabularies that
 * use it. The first pattern cuts the text into its matches and what lies between them; each of these is cut by the next pattern as if it
 * stood alone (a look-ahead sees no further than its end), and so on. What comes out of the last one are the pieces.
 *
 * Memory: the compiled patterns (sli_pretokenizer_heap_bytes). Threads: one split at a time. */
#ifndef SL_CORE_PRETOKENIZER_H
#define SL_CORE_PRETOKENIZER_H

#include "core/gguf.h"

typedef struct sli_pretokenizer sli_pretokenizer;

/* Called with each piece, in order; anything but SL_OK ends the split and is passed up. */
typedef sl_status (*sli_piece_fn)(void *arg, const char *piece, size_t length, sl_error *err);

/* SL_UNSUPPORTED when no row has that name; `file` is for the message. */
SL_MUST_USE sl_status sli_pretokenizer_open(sl_str name, const char *file, sli_pretokenizer **out, sl_error *err);
void sli_pretokenizer_close(sli_pretokenizer *p); /* NULL is fine */
size_t sli_pretokenizer_heap_bytes(const sli_pretokenizer *p);

bool sli_pretokenizer_whole_first(const sli_pretokenizer *p); /* a piece that is itself a token is not taken apart */
bool sli_pretokenizer_adds_bos(const sli_pretokenizer *p);    /* where the file does not say */

/* `text` must be well-formed UTF-8. */
SL_MUST_USE sl_status sli_pretokenizer_split(sli_pretokenizer *p, const char *text, size_t length, sli_piece_fn fn, void *arg,
                                             sl_error *err);

#endif
