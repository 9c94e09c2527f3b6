/* offload/tools/doctor_device.h: what a machine's GPU is, and what its link carries; or why none is used. */
#ifndef SL_OFFLOAD_TOOLS_DOCTOR_DEVICE_H
#define SL_OFFLOAD_TOOLS_DOCTOR_DEVICE_H

#include "core/device.h"

typedef struct sl_doctor_device {
    bool used;
    char reason[SL_ERROR_MESSAGE_MAX]; /* why not, else "" */
    sl_device_attrs attrs;
    uint64_t pinned_bytes;                    /* the largest piece of memory that was page-locked, as a trial; 0: none could be */
    double in_Bps, out_Bps;                   /* to the device and back, page-locked; 0: not measured */
    double pageable_in_Bps, pageable_out_Bps; /* through a page-locked buffer: what memory costs that is not */
    char skipped[SL_ERROR_MESSAGE_MAX];       /* why something was not measured, else "" */
} sl_doctor_device;

/* `wanted` as sl_device_open's. Fails only where a device was named that is not there, or where the name is none; what a device then refuses is
 * said in `skipped`. Page-locks at most an eighth of `memory_left_bytes`. */
SL_MUST_USE sl_status sl_doctor_device_examine(const char *wanted, uint64_t memory_left_bytes, sl_doctor_device *out, sl_error *err);

#endif
