/* tests/kernels_material.h: numbers, memory and comparisons for the tests of kernels. Static, because each test is one program. */
#ifndef SL_TESTS_KERNELS_MATERIAL_H
#define SL_TESTS_KERNELS_MATERIAL_H

#include "kernels/exp.h"
#include "kernels/kernels.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static inline uint64_t next_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

/* Between -1 and 1, with many short fractions and some zeros among them, so that ties and cancellations happen. */
static inline float random_float(uint64_t *state)
{
    uint64_t bits = next_random(state);
    if (bits % 16 == 0)
        return 0.0f;
    if (bits % 4 == 0)
        return (float)((int)(bits >> 40 & 255) - 128) / 128.0f;
    return (float)((double)(bits >> 11) * 0x1p-52 - 1.0);
}

static inline void fill(float *x, size_t n, uint64_t seed)
{
    for (size_t i = 0; i < n; i++)
        x[i] = random_float(&seed);
}

static inline void *allocate(size_t bytes)
{
    void *memory = aligned_alloc(64, (bytes + 63) / 64 * 64);
    assert_non_null(memory);
    memset(memory, 0, (bytes + 63) / 64 * 64);
    return memory;
}

static inline float from_bits(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline void assert_same_bits(const float *got, const float *want, size_t n, const char *what)
{
    for (size_t i = 0; i < n; i++)
        if (memcmp(&got[i], &want[i], sizeof *got) != 0)
            fail_msg("%s: element %zu of %zu is %a, the reference says %a", what, i, n, (double)got[i], (double)want[i]);
}

static inline const sl_kernels *reference(void)
{
    return sl_kernels_for(SL_ISA_SCALAR);
}

/* Whether a lesser set has the same function for the entry at this offset in sl_kernels: then that one's check is this one's. */
static inline bool borrows_entry(int isa, size_t entry)
{
    const char *own = (const char *)sl_kernels_for((sl_isa)isa) + entry;
    for (int lesser = SL_ISA_SCALAR; lesser < isa; lesser++) {
        const char *table = (const char *)sl_kernels_for((sl_isa)lesser);
        if (table != NULL && memcmp(table + entry, own, sizeof(void (*)(void))) == 0)
            return true;
    }
    return false;
}

#define ANY_ENTRY ((size_t)-1)

/* Calls check(kernels) for each instruction set that can run here and has a function of its own for the entry; skips, and says so, when there is none. */
static inline void for_each_isa_with_own(size_t entry, void (*check)(const sl_kernels *kernels))
{
    int checked = 0;
    for (int isa = SL_ISA_SCALAR + 1; isa < SL_ISA_COUNT; isa++) {
        const sl_kernels *kernels = sl_kernels_for((sl_isa)isa);
        if (kernels == NULL || !sl_cpu_supports((sl_isa)isa) || (entry != ANY_ENTRY && borrows_entry(isa, entry)))
            continue;
        check(kernels);
        checked++;
    }
    if (checked == 0) {
        print_message("skipped: this processor runs none of the vector instruction sets\n");
        skip();
    }
}

/* For each set that can run here. */
static inline void for_each_isa(void (*check)(const sl_kernels *kernels))
{
    for_each_isa_with_own(ANY_ENTRY, check);
}

static const uint32_t kv_types[] = {SL_TYPE_F32, SL_TYPE_F16, SL_TYPE_BF16, SL_TYPE_Q8_0, SL_TYPE_Q4_0};
#define KV_TYPES       (sizeof kv_types / sizeof *kv_types)
#define KV_FLOAT_TYPES 3 /* the first ones, for any head size */
static const uint32_t head_dims[] = {16, 32, 48, 64, 80, 96, 128, 160, 256, 512};
#define HEAD_DIMS (sizeof head_dims / sizeof *head_dims)

static inline bool storable(uint32_t type, uint32_t head_dim)
{
    return (type != SL_TYPE_Q8_0 && type != SL_TYPE_Q4_0) || head_dim % 32 == 0;
}

#endif
