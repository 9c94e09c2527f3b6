/* kernels/cpu/vector_scratch.c: the price of attention's scratch, the same for every instruction set; the reference uses none of it. */
#include "kernels/cpu/vector_scratch.h"

size_t sl_attention_scratch_bytes(uint32_t head_dim, uint32_t group)
{
    (void)group; /* blocks are counted in queries, so a large group only makes more of them */
    sli_scratch unused;
    return sli_scratch_divide(head_dim, NULL, &unused) * sizeof(float);
}
