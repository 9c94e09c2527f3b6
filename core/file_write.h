/* core/file_write.h: writing a file so that it appears whole or not at all.
 *
 * What is written is PATH.partial, in the same folder and locked, until finish has synced it and renamed it over PATH. A crash, a full disk or
 * Ctrl-C never leaves half a file under the final name, and never touches what was there. The page cache of what was written is dropped
 * as it goes.
 *
 * Order of calls: create; begin; any number of put, seek, read and patch; then one of finish, keep and discard, which all free the writer.
 *
 * Threads: one owner. */
#ifndef SL_CORE_FILE_WRITE_H
#define SL_CORE_FILE_WRITE_H

#include "core/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct sl_file_writer sl_file_writer;

/* Opens and locks the partial file; one that is there already is left as it is until begin. SL_IO when another process is writing it. */
SL_MUST_USE sl_status sl_file_writer_create(const char *path, sl_file_writer **out, sl_error *err);
/* Bytes that are in the partial file: more than 0 where an earlier writer was killed or kept it. */
uint64_t sl_file_writer_bytes(const sl_file_writer *w);
const char *sl_file_writer_path(const sl_file_writer *w); /* the final name */

/* Makes it `file_bytes` long and reserves them (posix_fallocate), so that a full disk is found at once. What was there is emptied first
 * unless `keep_data`. The position is 0 afterwards. */
SL_MUST_USE sl_status sl_file_writer_begin(sl_file_writer *w, uint64_t file_bytes, bool keep_data, sl_error *err);
/* Writes at the position and moves it on; `bytes` zeros where data is NULL. */
SL_MUST_USE sl_status sl_file_writer_put(sl_file_writer *w, const void *data, uint64_t bytes, sl_error *err);
/* Moves the position; what lies between stays as it is. */
SL_MUST_USE sl_status sl_file_writer_seek(sl_file_writer *w, uint64_t offset, sl_error *err);
/* Reads back from anywhere; also before begin. */
SL_MUST_USE sl_status sl_file_writer_read(sl_file_writer *w, uint64_t offset, void *to, size_t bytes, sl_error *err);
/* Writes at `offset`, behind all that was put before, without moving the position. */
SL_MUST_USE sl_status sl_file_writer_patch(sl_file_writer *w, uint64_t offset, const void *data, size_t bytes, sl_error *err);

SL_MUST_USE sl_status sl_file_writer_finish(sl_file_writer *w, sl_error *err); /* on failure as discard */
void sl_file_writer_keep(sl_file_writer *w);                                   /* the partial file stays for a later writer; NULL is fine */
void sl_file_writer_discard(sl_file_writer *w);                                /* removes the partial file; NULL is fine */

#endif
