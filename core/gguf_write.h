/* core/gguf_write.h: writing a GGUF v3 file so that a crash, a full disk or Ctrl-C never leaves half a file.
 *
 * Order of calls: create; any number of values; any number of tensors (name, type, shape only); begin_data; then the data of each
 * tensor in the order declared, in pieces of any size; finish. The file is `PATH.partial` in the same folder until finish has
 * synced it and renamed it; discard removes it. The page cache of what was written is dropped as it goes.
 *
 * Threads: one owner. */
#ifndef SL_CORE_GGUF_WRITE_H
#define SL_CORE_GGUF_WRITE_H

#include "core/gguf.h"

typedef struct sl_gguf_writer sl_gguf_writer;

SL_MUST_USE sl_status sl_gguf_writer_create(const char *path, uint32_t alignment, sl_gguf_writer **out, sl_error *err);

SL_MUST_USE sl_status sl_gguf_write_u32(sl_gguf_writer *w, const char *key, uint32_t value, sl_error *err);
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
SL_MUST_USE sl_status sl_gguf_writer_data(sl_gguf_writer *w, const void *data, size_t bytes, sl_error *err);
SL_MUST_USE sl_status sl_gguf_writer_finish(sl_gguf_writer *w, sl_error *err); /* frees w in any case */
void sl_gguf_writer_discard(sl_gguf_writer *w);                                /* frees w, removes the partial file; NULL is fine */

#endif
