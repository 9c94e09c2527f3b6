/* tests/device_material.h: the device that a test runs on. SLUICE_TEST_DEVICE names a real one ("cuda"); without it the emulated one is meant. */
#ifndef SL_TESTS_DEVICE_MATERIAL_H
#define SL_TESTS_DEVICE_MATERIAL_H

#include "core/device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static inline const char *device_wanted(void)
{
    const char *wanted = getenv("SLUICE_TEST_DEVICE");
    return wanted != NULL && wanted[0] != '\0' ? wanted : "emulated";
}

static inline bool device_is_emulated(void)
{
    return strncmp(device_wanted(), "emulated", strlen("emulated")) == 0;
}

/* The device, with these options where it is the emulated one. A test that cannot have it fails: who names one, means it. */
static inline sl_device *device_with(const char *options)
{
    char wanted[256], why[256];
    sl_error err = {0};
    sl_device *device = NULL;
    bool plain = !device_is_emulated() || strchr(device_wanted(), ':') != NULL || options[0] == '\0';
    snprintf(wanted, sizeof wanted, "%s%s%s", device_wanted(), plain ? "" : ":", plain ? "" : options);
    if (sl_device_open(wanted, &device, why, sizeof why, &err) != SL_OK)
        fail_msg("%s: %s", wanted, err.message);
    return device;
}

/* For tests that ask of a device what only the emulated one does; whoever has one says so and skips. */
static inline bool device_must_be_emulated(const char *what)
{
    if (!device_is_emulated())
        printf("%s is of the emulated device alone\n", what);
    return !device_is_emulated();
}

/* A call that must work; where it takes its sl_error, E is to be written. */
#define device_ok(call)                                                                                                                    \
    do {                                                                                                                                   \
        sl_error device_error_ = {0}, *E = &device_error_;                                                                                 \
        if ((call) != SL_OK)                                                                                                               \
            fail_msg("%s: %s", #call, device_error_.message);                                                                              \
    } while (0)

#endif
