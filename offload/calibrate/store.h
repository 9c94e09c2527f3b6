/* offload/calibrate/store.h: puts what a calibration found into a packed file, and lays its neurons in the order that was found. */
#ifndef SL_OFFLOAD_CALIBRATE_STORE_H
#define SL_OFFLOAD_CALIBRATE_STORE_H

#include "offload/calibrate/calibrate.h"
#include "offload/tools/pack.h"

/* in: the model that was calibrated, stock or packed; out may be the same file. An earlier calibration in it is dropped. `watch` is not NULL. As
 * sli_pack. */
SL_MUST_USE sl_status sli_calibration_store(const sli_calibration *calibration, const char *in_path, const char *out_path,
                                            const sl_tool_watch *watch, sli_pack_result *result, sl_error *err);

#endif
