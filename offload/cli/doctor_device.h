/* offload/cli/doctor_device.h: see doctor_device.c. */
#ifndef SL_OFFLOAD_CLI_DOCTOR_DEVICE_H
#define SL_OFFLOAD_CLI_DOCTOR_DEVICE_H

#include "offload/cli/cli.h"
#include "offload/tools/doctor_device.h"

void cli_print_doctor_device(const sl_doctor_device *g); /* on stdout */
json_t *cli_json_doctor_device(const sl_doctor_device *g);

#endif
