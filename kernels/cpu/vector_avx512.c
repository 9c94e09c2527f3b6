/* kernels/cpu/vector_avx512.c: attention and its scores, norms, gated units, rotary positions and KV storage for AVX-512; one source for all sets. */
#if defined(__x86_64__)
#include "kernels/cpu/vector_lanes_avx512.h"

#include "kernels/cpu/vector_attention.h"
#include "kernels/cpu/vector_elementwise.h"
#include "kernels/cpu/vector_kv.h"
#include "kernels/cpu/vector_scores.h"
#endif
