/* offload/density.h: how a density is divided among layers. Pure.
 *
 * For each layer a curve says what is lost when only a part of its neurons takes part: SLI_DENSITY_POINTS + 1 values at densities 0, 1/32, 2/32 ... 1, in one
 * unit for all layers. Neurons go where they save most; as curves are taken as convex, that is a matter of sorting their pieces by steepness.
 *
 * Threads: pure. */
#ifndef SL_OFFLOAD_DENSITY_H
#define SL_OFFLOAD_DENSITY_H

#include "core/gguf.h"

#define SLI_DENSITY_POINTS 32
#define SLI_DENSITY_KEY    "sluice.calibration.curves" /* f32 [layers * (SLI_DENSITY_POINTS + 1)] */

/* Reads the curves of a calibrated file, [layers][SLI_DENSITY_POINTS + 1]; false when it has none for so many layers, or what it has is no curve. */
bool sli_density_read(const sl_gguf *file, uint32_t layers, float *curves);

/* Neurons of each layer, at least one, so that their sum is the whole part of density * ff * layers (but at least one for each layer). density is
 * above 0 and at most 1. curves NULL: the same for all. SL_NO_MEMORY. */
SL_MUST_USE sl_status sli_density_distribute(const float *curves, uint32_t layers, uint32_t ff, double density, uint32_t *keep,
                                             sl_error *err);

#endif
