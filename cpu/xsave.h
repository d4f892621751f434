/*
 * The state components of the XSAVE area: one table for the instructions (xsave.c) and for CPUID
 * leaf 0Dh (cpuid.c).
 *
 * Specification: Intel SDM vol. 1 chapter 13.
 */
#ifndef CPU_XSAVE_H
#define CPU_XSAVE_H

#include "cpu/cpu.h"

enum xsave_number {
    XSAVE_X87 = 0, XSAVE_SSE = 1, XSAVE_AVX = 2, XSAVE_OPMASK = 5, XSAVE_ZMM_HIGH = 6,
    XSAVE_HIGH_ZMM = 7, XSAVE_COMPONENTS = 8,
};
#define XSAVE_BIT(number) (1ull << (number))

#define XSAVE_LEGACY_SIZE 512u
#define XSAVE_HEADER_SIZE 64u
#define XSAVE_COMPACTED (1ull << 63) /* of XCOMP_BV */
#define MXCSR_INIT 0x1f80u
#define MXCSR_WRITABLE 0xffffu       /* MXCSR_MASK as FXSAVE shows it */

struct xsave_component {
    u32 size,
        offset; /* CPUID.(0DH,i).EAX, EBX: where it lies in the standard format; size 0: none */
    bool aligned;         /* ECX[1]: on a 64-byte boundary in the compacted format */
    bool supervisor;      /* ECX[0]: enabled by IA32_XSS, not XCR0 */
    bool available;       /* false: not implemented yet, whatever the features */
    u8 feature;           /* enum feature that brings it */
};
extern const struct xsave_component xsave_component[XSAVE_COMPONENTS];

/* The XCR0 bits that may be set, CPUID.(0DH,0).EDX:EAX; and those of IA32_XSS, (0DH,1).EDX:ECX. */
u64 xsave_user_components(const struct feature_set *features);
u64 xsave_supervisor_components(const struct feature_set *features);

/* Bytes of an area that holds COMPONENTS: (0DH,0).EBX with XCR0, ECX with all; compacted:
 * (0DH,1).EBX with XCR0 | IA32_XSS. */
u32 xsave_area_size(u64 components, bool compacted);

/* XINUSE: components that are not in their initial configuration. XGETBV with ECX = 1 answers this
 * ANDed with XCR0. */
u64 xsave_components_in_use(const struct vcpu *cpu);

#endif
