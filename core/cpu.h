/* core/cpu.h: which instruction sets this machine can really run.
 *
 * On x86 CPUID says what the processor has, XCR0 what the operating system has enabled; both are asked, because some hosts advertise state
 * that faults on first use. On ARM the operating system says both.
 *
 * Threads: pure. */
#ifndef SL_CORE_CPU_H
#define SL_CORE_CPU_H

#include <stdbool.h>

typedef enum sl_isa {
    SL_ISA_SCALAR = 0,   /* the reference: slow, and what all others must equal */
    SL_ISA_AVX2,         /* AVX2, FMA, F16C */
    SL_ISA_AVX512,       /* AVX-512 F, BW, VL, DQ and VNNI */
    SL_ISA_AMX,          /* those, and AMX's tiles of bytes */
    SL_ISA_NEON,         /* what every 64-bit ARM has */
    SL_ISA_NEON_DOTPROD, /* with the dot products of bytes, SDOT */
    SL_ISA_COUNT
} sl_isa;

bool sl_cpu_supports(sl_isa isa);
sl_isa sl_cpu_best_isa(void);
#define SL_ISA_NAMES "scalar, avx2, avx512, amx, neon and neon-dotprod" /* for messages: as the table in cpu.c has them */
const char *sl_isa_name(sl_isa isa);                                    /* "avx512" */
bool sl_isa_by_name(const char *name, sl_isa *out);                     /* false when there is none of that name */

#endif
