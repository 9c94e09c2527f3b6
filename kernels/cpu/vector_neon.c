/* kernels/cpu/vector_neon.c: attention and its scores, norms, gated units, rotary positions and KV storage for NEON; one source for all sets. */
#if defined(__aarch64__)
#include "kernels/cpu/vector_lanes_neon.h"

#include "kernels/cpu/vector_attention.h"
#include "kernels/cpu/vector_elementwise.h"
#include "kernels/cpu/vector_kv.h"
#include "kernels/cpu/vector_scores.h"
#endif
