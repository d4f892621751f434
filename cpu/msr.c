/*
 * Model-specific registers.
 * Specification: Intel SDM vol. 4; AMD APM vol. 2 appendix A, BKDG for families 0Fh and 10h.
 *
 * Not modelled: performance counters (zero), machine-check errors other than what is written,
 * memory types (MTRRs and PAT are kept, not used), power management. What a system sets and never
 * looks at again reads as its constant. A number that is not here is #GP(0) and logged.
 */
#include "cpu/kvm.h"
#include "cpu/mem.h" /* tlb_flush_all */
#include "cpu/sys.h"
#include "cpu/xsave.h"

enum msr_kind {
    MSR_FIELD,    /* a u64 of struct vcpu at `offset`; value: writable bits, others #GP */
    MSR_CONSTANT, /* reads VALUE, writes #GP */
    MSR_IGNORED,  /* reads VALUE, writes dropped */
    MSR_FUNCTION, /* special_read, special_write */
    MSR_APIC,     /* the local APIC's */
};
enum { ANY_VENDOR, AMD_ONLY, INTEL_ONLY };

struct msr {
    u32 first, last;
    u8 kind, feature, vendor;
    bool canonical; /* value must be a canonical address */
    u32 offset;
    u64 value;
};

#define FIELD(name) offsetof(struct vcpu, name)
#define ALL (~(u64)0)
#define MTRR_VARIABLE 8
#define MTRR_CAP (MTRR_VARIABLE | 1 << 8 | 1 << 10) /* fixed ranges, write-combining */
#define MCG_CAP (10 | 1 << 8 | 1 << 24)             /* ten banks, MCG_CTL, software recovery */

// clang-format off
static const struct msr msrs[] = {
    {0x00000000, 0x00000001, MSR_IGNORED,  FEATURE_MCE,        ANY_VENDOR, false, 0, 0},  /* P5 machine check */
    {0x00000010, 0x00000010, MSR_FUNCTION, FEATURE_TSC,        ANY_VENDOR, false, 0, 0},
    {0x00000011, 0x00000011, MSR_FUNCTION, FEATURE_KVMCLOCK,   ANY_VENDOR, false, FIELD(kvm_wall_clock), 0},
    {0x00000012, 0x00000012, MSR_FUNCTION, FEATURE_KVMCLOCK,   ANY_VENDOR, false, FIELD(kvm_system_time), 0},
    {0x00000017, 0x00000017, MSR_CONSTANT, FEATURE_NONE,       INTEL_ONLY, false, 0, 0},  /* PLATFORM_ID */
    {0x0000001b, 0x0000001b, MSR_APIC,     FEATURE_APIC,       ANY_VENDOR, false, 0, 0},
    {0x0000002a, 0x0000002a, MSR_IGNORED,  FEATURE_NONE,       INTEL_ONLY, false, 0, 0},  /* EBL_CR_POWERON */
    {0x0000003a, 0x0000003a, MSR_CONSTANT, FEATURE_NONE,       INTEL_ONLY, false, 0, 1},  /* FEATURE_CONTROL: locked */
    {0x0000003b, 0x0000003b, MSR_FUNCTION, FEATURE_TSC_ADJUST, ANY_VENDOR, false, FIELD(tsc_adjust), 0},
    {0x00000079, 0x00000079, MSR_IGNORED,  FEATURE_NONE,       ANY_VENDOR, false, 0, 0},  /* microcode update */
    {0x0000008b, 0x0000008b, MSR_IGNORED,  FEATURE_NONE,       AMD_ONLY,   false, 0, 0x01000065}, /* PATCH_LEVEL */
    {0x0000008b, 0x0000008b, MSR_IGNORED,  FEATURE_NONE,       INTEL_ONLY, false, 0, 1ull << 32},
    {0x0000009e, 0x0000009e, MSR_FUNCTION, FEATURE_NONE,       INTEL_ONLY, false, 0, 0},  /* SMBASE */
    {0x000000c1, 0x000000c2, MSR_IGNORED,  FEATURE_NONE,       INTEL_ONLY, false, 0, 0},  /* PERFCTR */
    {0x000000fe, 0x000000fe, MSR_CONSTANT, FEATURE_MTRR,       ANY_VENDOR, false, 0, MTRR_CAP},
    {0x00000174, 0x00000174, MSR_FIELD,    FEATURE_SEP,        ANY_VENDOR, false, FIELD(sysenter_cs), 0xffffffff},
    {0x00000175, 0x00000175, MSR_FIELD,    FEATURE_SEP,        ANY_VENDOR, true,  FIELD(sysenter_esp), ALL},
    {0x00000176, 0x00000176, MSR_FIELD,    FEATURE_SEP,        ANY_VENDOR, true,  FIELD(sysenter_eip), ALL},
    {0x00000179, 0x00000179, MSR_CONSTANT, FEATURE_MCA,        ANY_VENDOR, false, 0, MCG_CAP},
    {0x0000017a, 0x0000017a, MSR_FIELD,    FEATURE_MCA,        ANY_VENDOR, false, FIELD(mcg_status), ALL},
    {0x0000017b, 0x0000017b, MSR_FIELD,    FEATURE_MCA,        ANY_VENDOR, false, FIELD(mcg_ctl), ALL},
    {0x00000186, 0x00000187, MSR_IGNORED,  FEATURE_NONE,       INTEL_ONLY, false, 0, 0},  /* PERFEVTSEL */
    {0x00000198, 0x00000198, MSR_CONSTANT, FEATURE_NONE,       INTEL_ONLY, false, 0, 0},  /* PERF_STATUS */
    {0x00000199, 0x0000019b, MSR_IGNORED,  FEATURE_NONE,       INTEL_ONLY, false, 0, 0},  /* PERF_CTL, clock, thermal */
    {0x0000019c, 0x0000019c, MSR_CONSTANT, FEATURE_NONE,       INTEL_ONLY, false, 0, 0},
    {0x000001a0, 0x000001a0, MSR_FIELD,    FEATURE_NONE,       INTEL_ONLY, false, FIELD(misc_enable), ALL},
    {0x000001d9, 0x000001d9, MSR_FIELD,    FEATURE_NONE,       ANY_VENDOR, false, FIELD(debugctl), 0x3f},
    {0x000001db, 0x000001de, MSR_CONSTANT, FEATURE_NONE,       ANY_VENDOR, false, 0, 0},  /* last branch and exception */
    {0x00000200, 0x0000020f, MSR_FUNCTION, FEATURE_MTRR,       ANY_VENDOR, false, FIELD(mtrr_var), 0},
    {0x00000250, 0x00000250, MSR_FUNCTION, FEATURE_MTRR,       ANY_VENDOR, false, FIELD(mtrr_fixed[0]), 0},
    {0x00000258, 0x00000259, MSR_FUNCTION, FEATURE_MTRR,       ANY_VENDOR, false, FIELD(mtrr_fixed[1]), 0},
    {0x00000268, 0x0000026f, MSR_FUNCTION, FEATURE_MTRR,       ANY_VENDOR, false, FIELD(mtrr_fixed[3]), 0},
    {0x00000277, 0x00000277, MSR_FUNCTION, FEATURE_PAT,        ANY_VENDOR, false, FIELD(pat), 0},
    {0x000002ff, 0x000002ff, MSR_FUNCTION, FEATURE_MTRR,       ANY_VENDOR, false, FIELD(mtrr_def_type), 0},
    {0x00000400, 0x00000427, MSR_FUNCTION, FEATURE_MCA,        ANY_VENDOR, false, FIELD(mc_banks), ALL},
    {0x000006e0, 0x000006e0, MSR_APIC,     FEATURE_TSC_DEADLINE, ANY_VENDOR, false, 0, 0},
    {0x00000800, 0x000008ff, MSR_APIC,     FEATURE_X2APIC,     ANY_VENDOR, false, 0, 0},
    {0x00000da0, 0x00000da0, MSR_FUNCTION, FEATURE_XSAVES,     ANY_VENDOR, false, FIELD(xss), 0},
    {0x4b564d00, 0x4b564d00, MSR_FUNCTION, FEATURE_KVMCLOCK,   ANY_VENDOR, false, FIELD(kvm_wall_clock), 0},
    {0x4b564d01, 0x4b564d01, MSR_FUNCTION, FEATURE_KVMCLOCK,   ANY_VENDOR, false, FIELD(kvm_system_time), 0},
    {0xc0000080, 0xc0000080, MSR_FUNCTION, FEATURE_NONE,       ANY_VENDOR, false, FIELD(efer), 0},
    {0xc0000081, 0xc0000081, MSR_FIELD,    FEATURE_SYSCALL,    ANY_VENDOR, false, FIELD(star), ALL},
    {0xc0000082, 0xc0000082, MSR_FIELD,    FEATURE_LM,         ANY_VENDOR, true,  FIELD(lstar), ALL},
    {0xc0000083, 0xc0000083, MSR_FIELD,    FEATURE_LM,         ANY_VENDOR, true,  FIELD(cstar), ALL},
    {0xc0000084, 0xc0000084, MSR_FIELD,    FEATURE_LM,         ANY_VENDOR, false, FIELD(sfmask), 0xffffffff},
    {0xc0000100, 0xc0000100, MSR_FIELD,    FEATURE_LM,         ANY_VENDOR, true,  FIELD(seg[FS].base), ALL},
    {0xc0000101, 0xc0000101, MSR_FIELD,    FEATURE_LM,         ANY_VENDOR, true,  FIELD(seg[GS].base), ALL},
    {0xc0000102, 0xc0000102, MSR_FIELD,    FEATURE_LM,         ANY_VENDOR, true,  FIELD(kernel_gs_base), ALL},
    {0xc0000103, 0xc0000103, MSR_FIELD,    FEATURE_RDTSCP,     ANY_VENDOR, false, FIELD(tsc_aux), 0xffffffff},
    {0xc0010000, 0xc0010007, MSR_IGNORED,  FEATURE_NONE,       AMD_ONLY,   false, 0, 0},  /* PERFEVTSEL, PERFCTR */
    {0xc0010010, 0xc0010010, MSR_IGNORED,  FEATURE_NONE,       AMD_ONLY,   false, 0, 0},  /* SYSCFG */
    {0xc0010015, 0xc0010015, MSR_IGNORED,  FEATURE_NONE,       AMD_ONLY,   false, 0, 1 << 24}, /* HWCR: TSC runs at P0 */
    {0xc0010016, 0xc0010019, MSR_IGNORED,  FEATURE_NONE,       AMD_ONLY,   false, 0, 0},  /* IORR */
    {0xc001001a, 0xc001001a, MSR_IGNORED,  FEATURE_NONE,       AMD_ONLY,   false, 0, 0},  /* TOP_MEM */
    {0xc001001d, 0xc001001d, MSR_IGNORED,  FEATURE_NONE,       AMD_ONLY,   false, 0, 0},  /* TOP_MEM2 */
    {0xc001001f, 0xc001001f, MSR_IGNORED,  FEATURE_NONE,       AMD_ONLY,   false, 0, 0},  /* NB_CFG */
    {0xc0010055, 0xc0010055, MSR_IGNORED,  FEATURE_NONE,       AMD_ONLY,   false, 0, 0},  /* interrupt pending */
    {0xc0010058, 0xc0010058, MSR_IGNORED,  FEATURE_NONE,       AMD_ONLY,   false, 0, 0},  /* MMIO configuration base */
    {0xc0010111, 0xc0010111, MSR_FUNCTION, FEATURE_NONE,       AMD_ONLY,   false, 0, 0},  /* SMM_BASE */
    {0xc0010112, 0xc0010113, MSR_IGNORED,  FEATURE_NONE,       AMD_ONLY,   false, 0, 0},  /* SMM_ADDR, SMM_MASK */
    {0xc0010114, 0xc0010114, MSR_CONSTANT, FEATURE_NONE,       AMD_ONLY,   false, 0, 1 << 4}, /* VM_CR: SVM disabled */
    {0xc0010140, 0xc0010141, MSR_IGNORED,  FEATURE_NONE,       AMD_ONLY,   false, 0, 0},  /* OSVW */
    {0xc0011022, 0xc0011023, MSR_IGNORED,  FEATURE_NONE,       AMD_ONLY,   false, 0, 0},  /* DC_CFG, BU_CFG */
    {0xc0011029, 0xc001102a, MSR_IGNORED,  FEATURE_NONE,       AMD_ONLY,   false, 0, 2},  /* DE_CFG: LFENCE serialises */
};
// clang-format on

static const struct msr *msr_find(const struct vcpu *cpu, u32 number)
{
    for (unsigned i = 0; i < ARRAY_SIZE(msrs); i++) {
        const struct msr *m = &msrs[i];
        if (number < m->first || number > m->last) continue;
        if (!feature_on(&cpu->features, m->feature)) continue;
        if (m->vendor != ANY_VENDOR && (m->vendor == INTEL_ONLY) != cpu_is_intel(cpu)) continue;
        return m;
    }
    return NULL;
}

static u64 *msr_field(struct vcpu *cpu, const struct msr *m, u32 number)
{
    return (u64 *)(void *)((char *)cpu + m->offset) + (number - m->first);
}

static bool unknown(struct vcpu *cpu, const char *what, u32 number, u64 value)
{
    log_to(cpu->log, LOG_UNIMPLEMENTED, "cpu%u: %s MSR %08x (%016llx) at %016llx: #GP", cpu->index,
           what, number, (unsigned long long)value, (unsigned long long)cpu->rip);
    return cpu_gp0(cpu);
}

static void lock_machine(struct vcpu *cpu)
{
    if (cpu->lock) cpu->lock(cpu->lock_opaque);
}
static void unlock_machine(struct vcpu *cpu)
{
    if (cpu->unlock) cpu->unlock(cpu->lock_opaque);
}

static bool apic_read(struct vcpu *cpu, u32 number, u64 *value)
{
    bool ok;
    if (!cpu->apic.apic) {
        *value = cpu->apic_base;
        return number == 0x1b;
    }
    lock_machine(cpu);
    ok = cpu->apic.msr_read(cpu->apic.apic, number, value);
    unlock_machine(cpu);
    return ok;
}

static bool apic_write(struct vcpu *cpu, u32 number, u64 value)
{
    const u64 x2apic = 1 << 10; /* IA32_APIC_BASE.EXTD: reserved where CPUID does not have it */
    bool ok;
    if (!cpu->apic.apic || (number == 0x1b && value & ~cpu->physical_mask)) return false;
    if (number == 0x1b && (value & x2apic) && !feature_on(&cpu->features, FEATURE_X2APIC))
        return false;
    lock_machine(cpu);
    ok = cpu->apic.msr_write(cpu->apic.apic, number, value);
    unlock_machine(cpu);
    if (number == 0x1b) tlb_flush_all(cpu); /* its page may have moved */
    return ok;
}

/* --- the ones with a will of their own --- */

static bool special_read(struct vcpu *cpu, const struct msr *m, u32 number, u64 *value)
{
    switch (number) {
    case 0x10: *value = cpu_tsc(cpu); return true;
    case 0x9e: *value = cpu->smbase; return cpu->in_smm;
    case 0xc0010111: *value = cpu->smbase; return true;
    default: *value = *msr_field(cpu, m, number); return true;
    }
}

/* Each byte one of the memory types whose bits are set in TYPES. */
static bool types_valid(u64 value, unsigned bytes, u8 types)
{
    for (unsigned i = 0; i < bytes; i++, value >>= 8)
        if ((value & 0xff) > 7 || !(types >> (value & 7) & 1)) return false;
    return true;
}
#define TYPES_MTRR 0x73 /* UC WC WT WP WB */
#define TYPES_PAT 0xf3  /* and UC- */

static bool efer_write(struct vcpu *cpu, u64 value)
{
    u64 allowed = EFER_LMA;
    if (feature_on(&cpu->features, FEATURE_SYSCALL)) allowed |= EFER_SCE;
    if (feature_on(&cpu->features, FEATURE_LM)) allowed |= EFER_LME;
    if (feature_on(&cpu->features, FEATURE_NX)) allowed |= EFER_NXE;
    if (feature_on(&cpu->features, FEATURE_FXSR_OPT)) allowed |= 1 << 14;
    if (value & ~allowed) return false;
    u64 changed = value ^ cpu->efer;
    if ((changed & EFER_LME) && (cpu->cr0 & CR0_PG)) return false;
    cpu->efer = (value & ~(u64)EFER_LMA) | (cpu->efer & EFER_LMA);
    if (changed & EFER_NXE) tlb_flush_all(cpu);
    cpu_update_mode(cpu);
    return true;
}

/* Other processors look at it. */
static bool tsc_adjust_write(struct vcpu *cpu, u64 value)
{
    if (value == cpu->tsc_adjust) return true;
    __atomic_store_n(&cpu->tsc_adjust, value, __ATOMIC_RELAXED);
    kvm_tsc_moved(cpu);
    return true;
}

static bool special_write(struct vcpu *cpu, const struct msr *m, u32 number, u64 value)
{
    u64 *field = msr_field(cpu, m, number);
    if (m->first == 0x200) {
        u64 low = number & 1 ? 0x800 : 0xff;
        if (value & ~((cpu->physical_mask & PAGE_MASK) | low)) return false;
        if (!(number & 1) && !types_valid(value, 1, TYPES_MTRR)) return false;
        *field = value;
        return true;
    }
    /* CTL: all or nothing, but for bits systems clear (0: P6, 10: K8); STATUS: 0 */
    if (m->first == 0x400) {
        if ((number & 3) == 0 && value && (value | 1 << 10 | 1) != ALL) return false;
        if ((number & 3) == 1 && value) return false;
        *field = value;
        return true;
    }
    switch (number) {
    case 0x10: return tsc_adjust_write(cpu, cpu->tsc_adjust + value - cpu_tsc(cpu));
    case 0x11:
    case 0x4b564d00: kvm_wall_clock_write(cpu, value); return true;
    case 0x12:
    case 0x4b564d01: kvm_system_time_write(cpu, value); return true;
    case 0x3b: return tsc_adjust_write(cpu, value);
    case 0x9e: return false;
    case 0x277:
        if (!types_valid(value, 8, TYPES_PAT)) return false;
        *field = value;
        return true;
    case 0x2ff:
        if ((value & ~0xcffull) || !types_valid(value, 1, TYPES_MTRR)) return false;
        *field = value;
        return true;
    case 0xda0:
        if (value & ~xsave_supervisor_components(&cpu->features)) return false;
        *field = value;
        return true;
    case 0xc0000080: return efer_write(cpu, value);
    case 0xc0010111:
        cpu->smbase = (u32)value;
        return true;
    default: /* fixed MTRRs */
        if (!types_valid(value, 8, TYPES_MTRR)) return false;
        *field = value;
        return true;
    }
}

/* --- RDMSR, WRMSR --- */

bool msr_read(struct vcpu *cpu, u32 number, u64 *value)
{
    const struct msr *m = msr_find(cpu, number);
    *value = 0;
    if (!m) return unknown(cpu, "read of", number, 0);
    switch (m->kind) {
    case MSR_FIELD: *value = *msr_field(cpu, m, number); return true;
    case MSR_CONSTANT:
    case MSR_IGNORED: *value = m->value; return true;
    case MSR_APIC: return apic_read(cpu, number, value) || cpu_gp0(cpu);
    default: return special_read(cpu, m, number, value) || cpu_gp0(cpu);
    }
}

bool msr_write(struct vcpu *cpu, u32 number, u64 value)
{
    const struct msr *m = msr_find(cpu, number);
    if (!m) return unknown(cpu, "write of", number, value);
    switch (m->kind) {
    case MSR_FIELD:
        if ((value & ~m->value) || (m->canonical && !cpu_is_canonical(value))) return cpu_gp0(cpu);
        *msr_field(cpu, m, number) = value;
        return true;
    case MSR_IGNORED: return true;
    case MSR_CONSTANT: return unknown(cpu, "write of read-only", number, value);
    case MSR_APIC: return apic_write(cpu, number, value) || cpu_gp0(cpu);
    default: return special_write(cpu, m, number, value) || cpu_gp0(cpu);
    }
}
