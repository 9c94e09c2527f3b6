/* kernels/cpu/vector_lanes_neon.h: what the vector kernels need from NEON beyond arithmetic on GCC's vector types. */
#ifndef SL_KERNELS_CPU_VECTOR_LANES_NEON_H
#define SL_KERNELS_CPU_VECTOR_LANES_NEON_H

#include <arm_neon.h>
#include <stdint.h>
#include <string.h>

#define SLI_NAME(entry)  sli_##entry##_neon
#define LANES            4            /* floats of a register */
#define SUM_VECS         (16 / LANES) /* registers that hold the 16 lanes of a sum (D4) */
#define BLOCK_TILE_ROWS  6            /* 6 x 4 accumulators of 32 registers */
#define BLOCK_TILE_VECS  4
#define STREAM_TILE_VECS 4

typedef float vf __attribute__((vector_size(16)));
typedef float vf_at __attribute__((vector_size(16), aligned(4), may_alias));
typedef uint32_t vu __attribute__((vector_size(16)));

static inline vf vf_splat(float x)
{
    return vdupq_n_f32(x);
}
static inline vf vf_fma(vf a, vf b, vf c)
{
    return vfmaq_f32(c, a, b);
}
static inline vf vf_fma_alternate(vf a, vf b, vf c)
{
    const vu even_signs = {0x80000000, 0, 0x80000000, 0};
    return vfmaq_f32((vf)((vu)c ^ even_signs), a, b);
} /* even lanes a * b - c, odd a * b + c */
static inline vf vf_max(vf a, vf b)
{
    return vmaxq_f32(a, b);
}
static inline vf vf_select_less(vf a, vf b, vf yes, vf no)
{
    return vbslq_f32(vcltq_f32(a, b), yes, no);
}

static inline vf vf_load_f16(const void *from)
{
    return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(from)));
}
static inline void vf_store_f16(void *to, vf x)
{
    vst1_u8(to, vreinterpret_u8_f16(vcvt_f16_f32(x)));
}
static inline vf vf_load_bf16(const void *from)
{
    return vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(vld1_u8(from)), 16));
}
static inline vf vf_load_nibbles(const void *from, int shift) /* 0: the low ones, 4: the high ones; less 8 */
{
    uint32_t four;
    memcpy(&four, from, sizeof four);
    uint8x8_t nibbles = vreinterpret_u8_u32(vdup_n_u32(four >> shift & 0x0f0f0f0f));
    return vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(vsub_s8(vreinterpret_s8_u8(nibbles), vdup_n_s8(8))))));
}
static inline vf vf_load_i8(const void *from)
{
    int32_t four;
    memcpy(&four, from, sizeof four);
    return vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_s32(vdup_n_s32(four))))));
}
static inline vf vf_splat_f16(uint16_t half)
{
    return vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(half)));
}

static inline vf vf_even_twice(vf x)
{
    return vtrn1q_f32(x, x);
} /* x0 x0 x2 x2 */
static inline vf vf_odd_twice(vf x)
{
    return vtrn2q_f32(x, x);
} /* x1 x1 x3 x3 */
static inline vf vf_load_zipped(const float *a, const float *b) /* a0 b0 a1 b1 */
{
    float32x2_t low = vld1_f32(a), high = vld1_f32(b);
    return vcombine_f32(vzip1_f32(low, high), vzip2_f32(low, high));
}

/* The 16 lanes of a sum, folded as D4 says; and their maximum. */
static inline float fold_sum(const vf lanes[4])
{
    vf four = (lanes[0] + lanes[2]) + (lanes[1] + lanes[3]);
    float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
    return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}
static inline float fold_max(const vf lanes[4])
{
    return vmaxvq_f32(vmaxq_f32(vmaxq_f32(lanes[0], lanes[2]), vmaxq_f32(lanes[1], lanes[3])));
}

#endif
