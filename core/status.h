/* core/status.h: what every call returns, and how a failure explains itself.
 *
 * A function that can fail returns an sl_status and fills an sl_error that its caller owns. The message is one line that names
 * the file, the value and what would be right; it is written where the failure is known best and passed up untouched.
 *
 * Threads: an sl_error belongs to one call; nothing here is shared. */
#ifndef SL_CORE_STATUS_H
#define SL_CORE_STATUS_H

#include <stdint.h>

#if defined(__GNUC__)
#define SL_MUST_USE           __attribute__((warn_unused_result))
#define SL_PRINTF(fmt, first) __attribute__((format(printf, fmt, first)))
#else
#define SL_MUST_USE
#define SL_PRINTF(fmt, first)
#endif

typedef enum sl_status {
    SL_OK = 0,
    SL_PENDING,          /* not an error: the unit is on its way, ask again */
    SL_INVALID,          /* an argument or an option is wrong */
    SL_FORMAT,           /* a file is not what it should be */
    SL_UNSUPPORTED,      /* a file is valid, but we do not know how to run it; or a device that was asked for is not there */
    SL_IO,               /* the operating system failed a read, a write or an open */
    SL_NO_MEMORY,        /* an allocation failed */
    SL_NO_BUDGET,        /* it cannot fit a budget; ram_budget_min_bytes or vram_budget_min_bytes says what would */
    SL_FULL,             /* the context is full */
    SL_INTERRUPTED,      /* the caller asked to stop */
    SL_NO_DEVICE_MEMORY, /* an allocation on a device failed; it stays usable */
    SL_DEVICE_LOST,      /* a device failed, or is not there any more */
    SL_INTERNAL          /* a bug of ours */
} sl_status;

#define SL_ERROR_MESSAGE_MAX 512

typedef struct sl_error {
    sl_status status;
    uint64_t
        ram_budget_min_bytes; /* with SL_NO_BUDGET: a budget of RAM that works, little above the least; else, and where VRAM is short, 0 */
    uint64_t vram_budget_min_bytes; /* the same of VRAM */
    char message[SL_ERROR_MESSAGE_MAX];
} sl_error;

/* Fills `err` (may be NULL) and returns `status`, so that a failure is one statement: return sl_fail(err, SL_IO, "...", ...).
 * An over-long message is cut; control characters in it become "?". Keeps the budgets at 0. */
sl_status sl_fail(sl_error *err, sl_status status, const char *format, ...) SL_PRINTF(3, 4);

/* The machine-readable name of a status ("no_budget"), for --json; never NULL. */
const char *sl_status_name(sl_status status);

/* Passes a failure up at once. For functions that hold nothing which has to be undone. */
#define SL_TRY(call)                                                                                                                       \
    do {                                                                                                                                   \
        sl_status sl_try_status_ = (call);                                                                                                 \
        if (sl_try_status_ != SL_OK)                                                                                                       \
            return sl_try_status_;                                                                                                         \
    } while (0)

#endif
