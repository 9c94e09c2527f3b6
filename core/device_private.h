/* core/device_private.h: what is behind sl_device_open, for tests. */
#ifndef SL_CORE_DEVICE_PRIVATE_H
#define SL_CORE_DEVICE_PRIVATE_H

#include "core/device.h"

typedef struct sli_device_wanted {
    char name[1024];     /* "auto", "none", a backend, or a plug-in's path */
    bool by_path;        /* which it is if there is a slash in it */
    uint32_t index;      /* what comes after the colon, if it begins with a digit */
    const char *options; /* what comes then, or else: for the plug-in. In the text that was parsed; "": nothing */
} sli_device_wanted;
SL_MUST_USE sl_status sli_device_parse(const char *wanted, sli_device_wanted *out, sl_error *err);

/* Whether this plug-in is one that the program can use. */
SL_MUST_USE sl_status sli_device_check(const sl_device_plugin *plugin, const char *path, sl_error *err);

#endif
