/* core/status.c: filling an sl_error, and the statuses' names. */
#include "core/status.h"

#include <stdarg.h>
#include <stdio.h>

sl_status sl_fail(sl_error *err, sl_status status, const char *format, ...)
{
    if (!err)
        return status;
    err->status = status;
    err->ram_budget_min_bytes = 0;
    err->vram_budget_min_bytes = 0;
    va_list args;
    va_start(args, format);
    int written = vsnprintf(err->message, sizeof(err->message), format, args);
    va_end(args);
    if (written < 0) /* only an invalid wide character does that: keep the message a string */
        err->message[0] = '\0';
    /* What a file or an argument says must not act on a terminal or break the one line. */
    for (char *c = err->message; *c != '\0'; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = '?';
    return status;
}

const char *sl_status_name(sl_status status)
{
    switch (status) {
    case SL_OK: return "ok";
    case SL_PENDING: return "pending";
    case SL_INVALID: return "invalid";
    case SL_FORMAT: return "format";
    case SL_UNSUPPORTED: return "unsupported";
    case SL_IO: return "io";
    case SL_NO_MEMORY: return "no_memory";
    case SL_NO_BUDGET: return "no_budget";
    case SL_FULL: return "full";
    case SL_INTERRUPTED: return "interrupted";
    case SL_NO_DEVICE_MEMORY: return "no_device_memory";
    case SL_DEVICE_LOST: return "device_lost";
    case SL_INTERNAL: return "internal";
    }
    return "unknown";
}
