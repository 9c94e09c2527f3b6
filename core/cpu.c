/* core/cpu.c: see cpu.h.
 *
 * On x86 a vector instruction needs two permissions: the processor's (CPUID leaf 1 and leaf 7) and the operating system's, which must save the
 * wider registers on a context switch and says so in XCR0. An instruction set counts as supported only when every feature that its
 * kernels are compiled for is there, so the masks below mirror the compiler flags in the Makefile. */
#include "core/cpu.h"

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static const char *const isa_names[SL_ISA_COUNT] = {
    [SL_ISA_SCALAR] = "scalar", [SL_ISA_AVX2] = "avx2", [SL_ISA_AVX512] = "avx512",
    [SL_ISA_AMX] = "amx",       [SL_ISA_NEON] = "neon", [SL_ISA_NEON_DOTPROD] = "neon-dotprod",
};

#if defined(__x86_64__) || defined(__aarch64__)
static bool has_all(uint64_t value, uint64_t mask)
{
    return (value & mask) == mask;
}
#endif

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ARCH_REQ_XCOMP_PERM 0x1023 /* asm/prctl.h of Linux 5.16; older ones refuse it */

enum {
    LEAF1_ECX_AVX2 = bit_FMA | bit_OSXSAVE | bit_AVX | bit_F16C, /* what the AVX2 kernels need of leaf 1 ... */
    LEAF7_EBX_AVX2 = bit_AVX2 | bit_BMI2,                        /* ... and of leaf 7 */
    LEAF7_EBX_AVX512 = bit_AVX512F | bit_AVX512DQ | bit_AVX512BW,
    LEAF7_ECX_AVX512 = bit_AVX512VNNI,
    LEAF7_EDX_AMX = 1 << 24 | 1 << 25, /* AMX-TILE, AMX-INT8 */
    XCR0_AVX = 0x06,                   /* SSE and the upper halves of ymm */
    XCR0_AVX512 = 0xe6,                /* those, the mask registers and both parts of zmm */
    XCR0_AMX = 0x60000,                /* the tiles' configuration and the tiles */
    XFEATURE_TILES = 18,
};
static const uint32_t leaf7_ebx_avx512vl = 1u << 31; /* does not fit an enum's int */

static uint64_t read_xcr0(void)
{
    uint32_t low, high;
    /* The instruction itself rather than its intrinsic: that one needs -mxsave for the whole file. */
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

/* Tiles are 8 KiB of a thread's state, which Linux saves only for processes that have asked for it; asking again changes nothing. */
static bool tiles_permitted(void)
{
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_TILES) == 0;
}

static bool supports_x86(sl_isa isa)
{
    uint32_t a, b, d, leaf1_ecx, leaf7_ebx, leaf7_ecx, leaf7_edx;
    if (!__get_cpuid(1, &a, &b, &leaf1_ecx, &d) || !__get_cpuid_count(7, 0, &a, &leaf7_ebx, &leaf7_ecx, &leaf7_edx))
        return false;
    /* XGETBV itself faults unless OSXSAVE is set, so that bit is asked first. */
    if (!has_all(leaf1_ecx, LEAF1_ECX_AVX2) || !has_all(leaf7_ebx, LEAF7_EBX_AVX2) || !has_all(read_xcr0(), XCR0_AVX))
        return false;
    if (isa == SL_ISA_AVX2)
        return true;
    bool avx512 = has_all(leaf7_ebx, LEAF7_EBX_AVX512) && has_all(leaf7_ebx, leaf7_ebx_avx512vl) && has_all(leaf7_ecx, LEAF7_ECX_AVX512) &&
                  has_all(read_xcr0(), XCR0_AVX512);
    if (isa == SL_ISA_AVX512)
        return avx512;
    return avx512 && has_all(leaf7_edx, LEAF7_EDX_AMX) && has_all(read_xcr0(), XCR0_AMX) && tiles_permitted();
}
#else
static bool supports_x86(sl_isa isa)
{
    (void)isa;
    return false;
}
#endif

#if defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>

static bool supports_arm(sl_isa isa)
{
    unsigned long needed = HWCAP_ASIMD | (isa == SL_ISA_NEON_DOTPROD ? HWCAP_ASIMDDP : 0);
    return has_all(getauxval(AT_HWCAP), needed);
}
#else
static bool supports_arm(sl_isa isa)
{
    (void)isa;
    return false;
}
#endif

bool sl_cpu_supports(sl_isa isa)
{
    switch (isa) {
    case SL_ISA_SCALAR: return true;
    case SL_ISA_AVX2:
    case SL_ISA_AVX512:
    case SL_ISA_AMX: return supports_x86(isa);
    case SL_ISA_NEON:
    case SL_ISA_NEON_DOTPROD: return supports_arm(isa);
    case SL_ISA_COUNT: break;
    }
    return false;
}

sl_isa sl_cpu_best_isa(void)
{
    static const sl_isa best_first[] = {SL_ISA_AMX, SL_ISA_AVX512, SL_ISA_AVX2, SL_ISA_NEON_DOTPROD, SL_ISA_NEON};
    for (size_t i = 0; i < sizeof best_first / sizeof best_first[0]; i++)
        if (sl_cpu_supports(best_first[i]))
            return best_first[i];
    return SL_ISA_SCALAR;
}

const char *sl_isa_name(sl_isa isa)
{
    return (unsigned)isa < SL_ISA_COUNT ? isa_names[isa] : "unknown";
}

bool sl_isa_by_name(const char *name, sl_isa *out)
{
    for (int i = 0; i < SL_ISA_COUNT; i++)
        if (strcmp(name, isa_names[i]) == 0) {
            *out = (sl_isa)i;
            return true;
        }
    return false;
}
