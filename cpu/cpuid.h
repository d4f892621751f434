/* Processor models and what CPUID answers. */
#ifndef CPU_CPUID_H
#define CPU_CPUID_H

#include "cpu/cpu.h"

enum cpu_vendor { VENDOR_AMD, VENDOR_INTEL };

struct cpu_model {
    const char *name;
    const char *title;
    u8 vendor;              /* enum cpu_vendor */
    u8 level;               /* highest basic leaf */
    u8 extended;            /* highest extended leaf, from 80000000h; 0: none */
    u8 stepping;
    u16 family, model;
    u8 physical_bits;
    const char *brand;
    const u8 *features;     /* enum feature, ends with FEATURE_NONE; NULL: all */
    const struct cpu_model *base; /* whose features it has too */
};

/* EAX EBX ECX EDX of LEAF. */
void cpuid_answer(const struct vcpu *cpu, u32 leaf, u32 subleaf, u32 r[4]);
/* Leaf 1's EAX: family, model, stepping. */
u32 cpuid_signature(const struct vcpu *cpu);
/* For `-cpu help`: model N or NULL. */
const struct cpu_model *cpu_model_by_index(unsigned n);

#endif
