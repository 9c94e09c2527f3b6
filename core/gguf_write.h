/* core/gguf_write.h: writing a GGUF v3 file so that a crash, a full disk or Ctrl-C never leaves half a file.
 *
 * Order of calls: create; any number of values; any number of tensors (name, type, shape only); begin_data; then the data of each
 * tensor in the order declared, in pieces of any size; finish. The file is `PATH.partial` in the same folder until finish has
 * synced it and renamed it (file_write.h); discard removes it. The page cache of what was written is dropped as it goes.
 *
 * Work that takes long can be taken up again where it was cut off: keep ends a writer without removing the partial file, and resume_data
 * instead of begin_data leaves the data in a partial file of exactly this header as it is. What of it is good is for the caller to know: it
 * looks with read, and then either writes a tensor's data or skips it.
 *
 * Threads: one owner. */
#ifndef SL_CORE_GGUF_WRITE_H
#define SL_CORE_GGUF_WRITE_H

#include "core/gguf.h"

typedef struct sl_gguf_writer sl_gguf_writer;

SL_MUST_USE sl_status sl_gguf_writer_create(const char *path, uint32_t alignment, sl_gguf_writer **out, sl_error *err);

SL_MUST_USE sl_status sl_gguf_write_u32(sl_gguf_writer *w, const char *key, uint32_t value, sl_error *err);
SL_MUST_USE sl_status sl_gguf_write_u64(sl_gguf_writer *w, const char *key, uint64_t value, sl_error *err);
SL_MUST_USE sl_status sl_gguf_write_f32(sl_gguf_writer *w, const char *key, float value, sl_error *err);
SL_MUST_USE sl_status sl_gguf_write_bool(sl_gguf_writer *w, const char *key, bool value, sl_error *err);
SL_MUST_USE sl_status sl_gguf_write_str(sl_gguf_writer *w, const char *key, const char *value, sl_error *err);
SL_MUST_USE sl_status sl_gguf_write_strings(sl_gguf_writer *w, const char *key, const sl_str *values, uint64_t count, sl_error *err);
SL_MUST_USE sl_status sl_gguf_write_i32s(sl_gguf_writer *w, const char *key, const int32_t *values, uint64_t count, sl_error *err);
SL_MUST_USE sl_status sl_gguf_write_f32s(sl_gguf_writer *w, const char *key, const float *values, uint64_t count, sl_error *err);
/* Copies a value of another file as it is. */
SL_MUST_USE sl_status sl_gguf_write_value(sl_gguf_writer *w, const sl_gguf_value *value, sl_error *err);

SL_MUST_USE sl_status sl_gguf_write_tensor(sl_gguf_writer *w, const char *name, uint32_t type, const uint64_t *shape, uint32_t dims,
                                           sl_error *err);
/* Writes the header and reserves the file's whole size (posix_fallocate), so that a full disk is found at once. */
SL_MUST_USE sl_status sl_gguf_writer_begin_data(sl_gguf_writer *w, sl_error *err);
/* The same; *resumed says whether the partial file was one of this header, whose data is still there. */
SL_MUST_USE sl_status sl_gguf_writer_resume_data(sl_gguf_writer *w, bool *resumed, sl_error *err);
/* What was declared, as a reader will see it, offsets included; NULL before the data begins. */
const sl_gguf *sl_gguf_writer_header(const sl_gguf_writer *w);
SL_MUST_USE sl_status sl_gguf_writer_data(sl_gguf_writer *w, const void *data, size_t bytes, sl_error *err);
/* Leaves the next tensor's data as it is in the partial file. */
SL_MUST_USE sl_status sl_gguf_writer_skip(sl_gguf_writer *w, sl_error *err);
/* Reads, and overwrites, what is in the partial file at an offset from its start; patch only what was written before. */
SL_MUST_USE sl_status sl_gguf_writer_read(sl_gguf_writer *w, uint64_t offset, void *to, size_t bytes, sl_error *err);
SL_MUST_USE sl_status sl_gguf_writer_patch(sl_gguf_writer *w, uint64_t offset, const void *data, size_t bytes, sl_error *err);
SL_MUST_USE sl_status sl_gguf_writer_finish(sl_gguf_writer *w, sl_error *err); /* frees w in any case */
void sl_gguf_writer_discard(sl_gguf_writer *w);                                /* frees w, removes the partial file; NULL is fine */
void sl_gguf_writer_keep(sl_gguf_writer *w); /* frees w, leaves the partial file for a later resume_data; NULL is fine */

#endif
