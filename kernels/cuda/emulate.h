/* kernels/cuda/emulate.h: CUDA's words for a C++ compiler, so that the kernels run on a processor, unchanged.
 *
 * A block's threads take turns on one thread of the process (emulate.cpp). A thread runs until it has to meet others: at a barrier of its block, or in
 * an exchange of its warp. Blocks run one after the other. So atomics need no lock and happen in a fixed order, and shared memory is static memory.
 *
 * What the emulator finds that a GPU would not say: threads of a block that wait at different barriers, or at one that others never reach; lanes that an
 * exchange names and that do not take part, or take part in another one; a lane that asks for the value of one that gives none. A barrier that is
 * missing shows up as wrong results once the order in which threads run is another (sli_emulated_order): shared memory is then filled with ones, NaNs, before
 * each block (that of templates' functions, which the compiler puts elsewhere, is not).
 *
 * Threads: launches of all threads of the process run one at a time. */
#ifndef SL_KERNELS_CUDA_EMULATE_H
#define SL_KERNELS_CUDA_EMULATE_H

#include "kernels/cuda/stream.h"

#include <algorithm>

/* ---- the language ---- */

#define __global__
#define __device__
#define __host__
#define __constant__
#define __shared__      static __attribute__((section("sli_shared")))
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))

struct uint3 {
    unsigned x, y, z;
};
struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

#define SLI_VECTOR_TYPE(name, element)                                                                                                     \
    struct alignas(2 * sizeof(element)) name##2                                                                                            \
    {                                                                                                                                      \
        element x, y;                                                                                                                      \
    };                                                                                                                                     \
    struct alignas(4 * sizeof(element)) name##4                                                                                            \
    {                                                                                                                                      \
        element x, y, z, w;                                                                                                                \
    };                                                                                                                                     \
    static inline name##2 make_##name##2(element x, element y)                                                                             \
    {                                                                                                                                      \
        return {x, y};                                                                                                                     \
    }                                                                                                                                      \
    static inline name##4 make_##name##4(element x, element y, element z, element w)                                                       \
    {                                                                                                                                      \
        return {x, y, z, w};                                                                                                               \
    }
SLI_VECTOR_TYPE(char, signed char)
SLI_VECTOR_TYPE(uchar, unsigned char)
SLI_VECTOR_TYPE(short, short)
SLI_VECTOR_TYPE(ushort, unsigned short)
SLI_VECTOR_TYPE(int, int)
SLI_VECTOR_TYPE(uint, unsigned)
SLI_VECTOR_TYPE(float, float)
#undef SLI_VECTOR_TYPE
struct alignas(16) ulonglong2 {
    unsigned long long x, y;
};

using std::max;
using std::min;

/* ---- who is running ---- */

struct sli_emulated_now {
    uint3 thread, block;
    dim3 block_dim, grid_dim;
    uint8_t *shared;
};
extern sli_emulated_now sli_now;

#define threadIdx (sli_now.thread)
#define blockIdx  (sli_now.block)
#define blockDim  (sli_now.block_dim)
#define gridDim   (sli_now.grid_dim)
#define warpSize  32

/* Runs `thread` once for every thread of every block. */
sl_status sli_emulate(void (*thread)(const void *closure), const void *closure, dim3 grid, dim3 block, size_t shared_bytes, sl_error *err);

/* ---- meeting others ---- */

/* Returns when all threads of the block are at this barrier; the number of those whose predicate holds. */
int sli_meet_block(int line, bool predicate);

/* Returns when all lanes of the mask are here. The last one calls `complete` with what each of them brought. */
typedef void (*sli_complete)(void *const lane[32], uint32_t mask);
void sli_meet_warp(uint32_t mask, int line, sli_complete complete, void *mine);
[[noreturn]] void sli_emulated_fault(const char *what, int line);

#define __syncthreads()        ((void)sli_meet_block(__LINE__, false))
#define __syncthreads_count(p) sli_meet_block(__LINE__, (p))
#define __syncthreads_or(p)    (sli_meet_block(__LINE__, (p)) != 0)
#define __syncthreads_and(p)   (sli_meet_block(__LINE__, !(p)) == 0)

static inline void sli_no_exchange(void *const[32], uint32_t) {}
static inline void sli_syncwarp(int line, uint32_t mask = 0xffffffffu)
{
    sli_meet_warp(mask, line, sli_no_exchange, NULL);
}
#define __syncwarp(...) sli_syncwarp(__LINE__, ##__VA_ARGS__)

static inline unsigned sli_lane(void)
{
    return (threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) % 32;
}

template <typename T> struct sli_shuffle {
    T value, result;
    unsigned source;
    int line;

    static void complete(void *const lane[32], uint32_t mask)
    {
        for (unsigned i = 0; i < 32; i++) {
            if (!(mask >> i & 1))
                continue;
            sli_shuffle *mine = (sli_shuffle *)lane[i];
            if (!(mask >> mine->source & 1))
                sli_emulated_fault("a lane asks for the value of one that does not take part in the shuffle", mine->line);
            mine->result = ((sli_shuffle *)lane[mine->source])->value;
        }
    }
    static T exchange(int line, uint32_t mask, T value, unsigned source)
    {
        sli_shuffle mine = {value, value, source, line};
        sli_meet_warp(mask, line, complete, &mine);
        return mine.result;
    }
};
template <typename T> static inline T sli_shfl(int line, uint32_t mask, T value, int source, int width = 32)
{
    unsigned base = sli_lane() & ~(unsigned)(width - 1);
    return sli_shuffle<T>::exchange(line, mask, value, base + ((unsigned)source & (unsigned)(width - 1)));
}
template <typename T> static inline T sli_shfl_xor(int line, uint32_t mask, T value, int bits, int width = 32)
{
    unsigned lane = sli_lane(), source = lane ^ (unsigned)bits;
    return sli_shuffle<T>::exchange(line, mask, value, source / (unsigned)width == lane / (unsigned)width ? source : lane);
}
template <typename T> static inline T sli_shfl_down(int line, uint32_t mask, T value, unsigned delta, int width = 32)
{
    unsigned lane = sli_lane(), source = lane + delta;
    return sli_shuffle<T>::exchange(line, mask, value, source / (unsigned)width == lane / (unsigned)width ? source : lane);
}
template <typename T> static inline T sli_shfl_up(int line, uint32_t mask, T value, unsigned delta, int width = 32)
{
    unsigned lane = sli_lane();
    return sli_shuffle<T>::exchange(line, mask, value, lane % (unsigned)width >= delta ? lane - delta : lane);
}
#define __shfl_sync(...)      sli_shfl(__LINE__, __VA_ARGS__)
#define __shfl_xor_sync(...)  sli_shfl_xor(__LINE__, __VA_ARGS__)
#define __shfl_down_sync(...) sli_shfl_down(__LINE__, __VA_ARGS__)
#define __shfl_up_sync(...)   sli_shfl_up(__LINE__, __VA_ARGS__)

struct sli_vote {
    bool predicate;
    uint32_t ballot;

    static void complete(void *const lane[32], uint32_t mask)
    {
        uint32_t ballot = 0;
        for (unsigned i = 0; i < 32; i++)
            if (mask >> i & 1)
                ballot |= (uint32_t)((sli_vote *)lane[i])->predicate << i;
        for (unsigned i = 0; i < 32; i++)
            if (mask >> i & 1)
                ((sli_vote *)lane[i])->ballot = ballot;
    }
};
static inline uint32_t sli_ballot(int line, uint32_t mask, bool predicate)
{
    sli_vote mine = {predicate, 0};
    sli_meet_warp(mask, line, sli_vote::complete, &mine);
    return mine.ballot;
}
#define __ballot_sync(mask, p) sli_ballot(__LINE__, (mask), (p))
#define __any_sync(mask, p)    (sli_ballot(__LINE__, (mask), (p)) != 0)
#define __all_sync(mask, p)    (sli_ballot(__LINE__, (mask), !(p)) == 0)

/* A warp's matrix product, see sli_mma_s8 in device_code.h. */
void sli_emulated_mma_s8(int line, int d[4], const uint32_t a[4], const uint32_t b[2]);

/* ---- memory ---- */

template <typename T> static inline T __ldg(const T *p)
{
    return *p;
}
template <typename T> static inline T __ldcs(const T *p)
{
    return *p;
}
static inline void __threadfence(void) {}
static inline void __threadfence_block(void) {}
template <typename T> static inline T atomicAdd(T *p, T value)
{
    T old = *p;
    *p = old + value;
    return old;
}
template <typename T> static inline T atomicMax(T *p, T value)
{
    T old = *p;
    *p = old > value ? old : value;
    return old;
}
template <typename T> static inline T atomicMin(T *p, T value)
{
    T old = *p;
    *p = old < value ? old : value;
    return old;
}
template <typename T> static inline T atomicOr(T *p, T value)
{
    T old = *p;
    *p = old | value;
    return old;
}
template <typename T> static inline T atomicExch(T *p, T value)
{
    T old = *p;
    *p = value;
    return old;
}
template <typename T> static inline T atomicCAS(T *p, T compare, T value)
{
    T old = *p;
    if (old == compare)
        *p = value;
    return old;
}

/* ---- arithmetic ---- */

template <typename To, typename From> static inline To sli_bits(From from)
{
    static_assert(sizeof(To) == sizeof(From), "bits are looked at as what they are as many as");
    To to;
    memcpy(&to, &from, sizeof to);
    return to;
}
static inline int __float_as_int(float x)
{
    return sli_bits<int>(x);
}
static inline unsigned __float_as_uint(float x)
{
    return sli_bits<unsigned>(x);
}
static inline float __int_as_float(int x)
{
    return sli_bits<float>(x);
}
static inline float __uint_as_float(unsigned x)
{
    return sli_bits<float>(x);
}
static inline float __fmaf_rn(float a, float b, float c)
{
    return fmaf(a, b, c);
}
static inline float __fadd_rn(float a, float b)
{
    return a + b;
}
static inline float __fsub_rn(float a, float b)
{
    return a - b;
}
static inline float __fmul_rn(float a, float b)
{
    return a * b;
}
static inline float __fdiv_rn(float a, float b)
{
    return a / b;
}
static inline float __fsqrt_rn(float a)
{
    return sqrtf(a);
}
static inline int __float2int_rn(float x)
{
    return (int)lrintf(x);
}
static inline float __int2float_rn(int x)
{
    return (float)x;
}
static inline int __popc(unsigned x)
{
    return __builtin_popcount(x);
}
static inline int __ffs(int x)
{
    return __builtin_ffs(x);
}
static inline int __clz(int x)
{
    return x == 0 ? 32 : __builtin_clz((unsigned)x);
}
static inline unsigned __brev(unsigned x)
{
    unsigned out = 0;
    for (int i = 0; i < 32; i++)
        out |= (x >> i & 1u) << (31 - i);
    return out;
}
static inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift)
{
    return (unsigned)(((uint64_t)high << 32 | low) >> (shift & 31));
}
/* An index with its fourth bit set is eight times the sign of that byte; __byte_perm does not look at that bit. */
static inline unsigned sli_emulated_permute(unsigned a, unsigned b, unsigned selector)
{
    uint64_t bytes = (uint64_t)b << 32 | a;
    unsigned out = 0;
    for (int i = 0; i < 4; i++) {
        unsigned s = selector >> 4 * i & 15u, byte = (unsigned)(bytes >> 8 * (s & 7)) & 255u;
        out |= (s & 8 ? (byte & 128u ? 255u : 0u) : byte) << 8 * i;
    }
    return out;
}
static inline unsigned __byte_perm(unsigned a, unsigned b, unsigned selector)
{
    return sli_emulated_permute(a, b, selector & 0x7777u);
}
static inline int __dp4a(int a, int b, int c)
{
    for (int i = 0; i < 4; i++)
        c += (int)(int8_t)((unsigned)a >> 8 * i) * (int)(int8_t)((unsigned)b >> 8 * i);
    return c;
}
static inline unsigned __dp4a(unsigned a, unsigned b, unsigned c)
{
    for (int i = 0; i < 4; i++)
        c += (a >> 8 * i & 255u) * (b >> 8 * i & 255u);
    return c;
}
static inline unsigned __vadd4(unsigned a, unsigned b)
{
    return ((a & 0x7f7f7f7fu) + (b & 0x7f7f7f7fu)) ^ ((a ^ b) & 0x80808080u);
}
static inline unsigned __vsub4(unsigned a, unsigned b)
{
    return ((a | 0x80808080u) - (b & 0x7f7f7f7fu)) ^ ((a ^ ~b) & 0x80808080u);
}

#endif
