/*
 * CPUID and the processor models of -cpu.
 * Specification: Intel SDM vol. 2 CPUID; AMD APM vol. 3 appendix E; for 40000000h and up Linux,
 * Documentation/virt/kvm/x86/cpuid.rst.
 *
 * Features come from features.def. Not given by any model: anything that is not there (AVX-512,
 * SVM, VMX, protection keys, five-level paging, …); asking for it is an error naming it.
 */
#include "cpu/cpuid.h"
#include "cpu/sys.h" /* cpu_is_intel */
#include "cpu/xsave.h"
#include "machine/error.h"

#include <stdlib.h>

enum reg { EAX, EBX, ECX, EDX };

struct feature_row {
    const char *name;
    u32 leaf, subleaf;
    u8 reg, bit;
};
static const struct feature_row feature_rows[FEATURE_COUNT] = {
#define FEATURE(id, name, leaf, subleaf, reg, bit) [FEATURE_##id] = {name, leaf, subleaf, reg, bit},
#include "cpu/features.def"
#undef FEATURE
};

/* --- models --- */

#define F(id) FEATURE_##id
static const u8 features_486[] = {F(FPU), F(VME), F(PSE), F(NONE)};
static const u8 features_pentium[] = {F(DE),  F(TSC), F(MSR),  F(MCE),
                                      F(CX8), F(MMX), F(APIC), F(NONE)};
static const u8 features_pentium2[] = {F(PAE), F(SEP), F(MTRR), F(PGE), F(MCA), F(CMOV),
                                       F(PAT), F(PSE36), F(FXSR), F(NONE)};
static const u8 features_pentium3[] = {F(SSE), F(NONE)};
static const u8 features_qemu64[] = {F(SSE), F(SSE2), F(CLFLUSH), F(SSE3), F(CX16), F(HYPERVISOR),
                                     F(KVM), F(KVM_NOPIODELAY), F(KVMCLOCK), F(KVMCLOCK_STABLE),
                                     F(X2APIC), F(LM), F(SYSCALL), F(NX), F(LAHF_LM), F(NONE)};
static const u8 features_v2[] = {F(SSSE3), F(SSE41), F(SSE42), F(POPCNT), F(NONE)};
static const u8 features_v3[] = {F(AVX), F(AVX2), F(BMI1), F(BMI2), F(F16C), F(FMA), F(ABM),
                                 F(MOVBE), F(XSAVE), F(XSAVEOPT), F(PCID), F(NONE)};

static const struct cpu_model models[] = {
    {"max", "everything this program gives", VENDOR_AMD, 0x0d, 8, 1, 15, 107, 40,
     "Lyrebird Virtual CPU max", NULL, NULL},
    {"qemu64", "plain 64-bit processor", VENDOR_AMD, 0x0d, 8, 1, 15, 107, 40,
     "Lyrebird Virtual CPU", features_qemu64, &models[6]},
    {"x86-64-v2", "feature level x86-64-v2", VENDOR_AMD, 0x0d, 8, 1, 15, 107, 40,
     "Lyrebird Virtual CPU x86-64-v2", features_v2, &models[1]},
    {"x86-64-v3", "feature level x86-64-v3", VENDOR_AMD, 0x0d, 8, 1, 15, 107, 40,
     "Lyrebird Virtual CPU x86-64-v3", features_v3, &models[2]},
    {"486", "Intel 486DX4", VENDOR_INTEL, 1, 0, 0, 4, 8, 32, "", features_486, NULL},
    {"pentium", "Intel Pentium MMX", VENDOR_INTEL, 1, 0, 3, 5, 4, 32, "", features_pentium,
     &models[4]},
    {"pentium2", "Intel Pentium II", VENDOR_INTEL, 2, 0, 2, 6, 5, 36, "", features_pentium2,
     &models[5]},
    {"pentium3", "Intel Pentium III", VENDOR_INTEL, 3, 0, 3, 6, 8, 36, "", features_pentium3,
     &models[6]},
};

const struct cpu_model *cpu_model_by_index(unsigned n)
{
    return n < ARRAY_SIZE(models) ? &models[n] : NULL;
}

static void feature_set_bit(struct feature_set *set, unsigned feature, bool on)
{
    u64 bit = 1ull << (feature & 63);
    if (on) set->bits[feature >> 6] |= bit;
    else set->bits[feature >> 6] &= ~bit;
}

static void model_features(const struct cpu_model *model, struct feature_set *set)
{
    if (!model->features) {
        static const u8 not_by_default[] = {F(MONITOR), F(HT), F(CMP_LEGACY)};
        for (unsigned f = 1; f < FEATURE_COUNT; f++) feature_set_bit(set, f, true);
        for (unsigned i = 0; i < ARRAY_SIZE(not_by_default); i++)
            feature_set_bit(set, not_by_default[i], false);
        return;
    }
    for (; model; model = model->base)
        for (const u8 *f = model->features; *f; f++) feature_set_bit(set, *f, true);
}

/* What can't be without what. In an order that needs one pass. */
static const struct { u8 feature, needs; } needs[] = {
    {F(MMXEXT), F(MMX)}, {F(SSE), F(FXSR)}, {F(SSE2), F(SSE)}, {F(SSE3), F(SSE2)},
    {F(SSSE3), F(SSE3)}, {F(SSE41), F(SSSE3)}, {F(SSE42), F(SSE41)}, {F(AES), F(SSE2)},
    {F(PCLMULQDQ), F(SSE2)}, {F(SHA), F(SSE2)}, {F(GFNI), F(SSE2)}, {F(LM), F(PAE)},
    {F(LM), F(SSE2)}, {F(NX), F(PAE)}, {F(CX16), F(CX8)}, {F(XSAVE), F(FXSR)},
    {F(XSAVEOPT), F(XSAVE)}, {F(XSAVEC), F(XSAVE)}, {F(XGETBV1), F(XSAVE)}, {F(XSAVES), F(XSAVEC)},
    {F(AVX), F(XSAVE)}, {F(AVX), F(SSE42)}, {F(AVX2), F(AVX)}, {F(FMA), F(AVX)}, {F(F16C), F(AVX)},
    {F(VAES), F(AVX)}, {F(VPCLMULQDQ), F(AVX)}, {F(PDPE1GB), F(LM)},
    {F(LAHF_LM), F(LM)}, {F(FSGSBASE), F(LM)}, {F(PCID), F(LM)}, {F(CMOV), F(FPU)},
    {F(X2APIC), F(APIC)}, {F(TSC_DEADLINE), F(APIC)}, {F(RDTSCP), F(TSC)}, {F(INVTSC), F(TSC)},
    {F(FXSR_OPT), F(FXSR)}, {F(PSE36), F(PSE)}, {F(KVM), F(HYPERVISOR)},
    {F(KVM_NOPIODELAY), F(KVM)}, {F(KVMCLOCK), F(KVM)}, {F(KVMCLOCK), F(TSC)},
    {F(KVMCLOCK), F(MSR)}, {F(KVMCLOCK_STABLE), F(KVMCLOCK)}, {F(VMWARE_FREQ), F(KVM)},
    {F(VMWARE_FREQ), F(INVTSC)}};

static void drop_dependents(struct feature_set *set)
{
    for (unsigned i = 0; i < ARRAY_SIZE(needs); i++)
        if (!feature_on(set, needs[i].needs)) feature_set_bit(set, needs[i].feature, false);
}

/* What FEATURE needs, and what that needs, too. */
static void add_with_needs(struct feature_set *set, unsigned feature)
{
    feature_set_bit(set, feature, true);
    for (unsigned i = ARRAY_SIZE(needs); i-- > 0;)
        if (feature_on(set, needs[i].feature) && needs[i].feature == feature)
            add_with_needs(set, needs[i].needs);
}

/* --- -cpu's text --- */

static char plain(char c) { return c == '_' || c == '.' ? '-' : c; }

static bool same_name(const char *a, const char *b, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (!b[i] || plain(a[i]) != plain(b[i])) return false;
    return !b[length];
}

static unsigned feature_by_name(const char *name, size_t length)
{
    static const struct { const char *name; u8 feature; } also[] = {
        {"sse4-1", F(SSE41)}, {"sse4-2", F(SSE42)}, {"lzcnt", F(ABM)}, {"pclmuldq", F(PCLMULQDQ)},
        {"sha", F(SHA)}, {"xd", F(NX)}, {"i64", F(LM)}, {"cmpxchg8b", F(CX8)},
        {"cmpxchg16b", F(CX16)}, {"ffxsr", F(FXSR_OPT)}, {"pni", F(SSE3)}, {"clfsh", F(CLFLUSH)}};
    for (unsigned f = 1; f < FEATURE_COUNT; f++)
        if (same_name(name, feature_rows[f].name, length)) return f;
    for (unsigned i = 0; i < ARRAY_SIZE(also); i++)
        if (same_name(name, also[i].name, length)) return also[i].feature;
    return FEATURE_NONE;
}

/* One of "+feat", "-feat", "feat", "feat=on|off", LENGTH characters. */
static bool apply_term(struct feature_set *add, struct feature_set *drop, const char *term,
                       size_t length, struct error *error)
{
    bool on = true;
    const char *whole = term;
    size_t whole_length = length;
    if (length && (*term == '+' || *term == '-')) {
        on = *term == '+';
        term++, length--;
    } else {
        const char *equals = memchr(term, '=', length);
        if (equals) {
            size_t value = length - (size_t)(equals + 1 - term);
            bool yes = same_name(equals + 1, "on", value) || same_name(equals + 1, "yes", value) ||
                       same_name(equals + 1, "true", value);
            on = yes;
            if (!yes && !same_name(equals + 1, "off", value) &&
                !same_name(equals + 1, "no", value) && !same_name(equals + 1, "false", value))
                return error_set(error, "-cpu: '%.*s' is neither on nor off", (int)whole_length,
                                 whole);
            length = (size_t)(equals - term);
        }
    }
    unsigned feature = feature_by_name(term, length);
    if (!feature && !on) return true; /* what is not there can be left out */
    if (!feature)
        return error_set(error, "-cpu: feature '%.*s' can't be given", (int)length, term);
    feature_set_bit(on ? add : drop, feature, true);
    feature_set_bit(on ? drop : add, feature, false);
    return true;
}

static void physical_width(struct vcpu *cpu)
{
    unsigned bits = cpu->model->physical_bits;
    if (!feature_on(&cpu->features, FEATURE_LM) && bits > 36) bits = 36;
    if (!feature_on(&cpu->features, FEATURE_PAE) && !feature_on(&cpu->features, FEATURE_PSE36))
        bits = 32;
    cpu->physical_mask = (1ull << bits) - 1;
}

bool cpu_set_model(struct vcpu *cpu, const char *text, struct error *error)
{
    const struct cpu_model *model = NULL;
    struct feature_set set = {{0}}, add = {{0}}, drop = {{0}};
    size_t length = strcspn(text, ",");
    for (unsigned i = 0; i < ARRAY_SIZE(models) && !model; i++)
        if (strlen(models[i].name) == length && !memcmp(text, models[i].name, length))
            model = &models[i];
    if (!model) return error_set(error, "-cpu: there is no model '%.*s'", (int)length, text);
    model_features(model, &set);
    for (const char *term = text + length; *term;) {
        term++;
        length = strcspn(term, ",");
        if (length) TRY(apply_term(&add, &drop, term, length, error));
        term += length;
    }
    for (unsigned f = 1; f < FEATURE_COUNT; f++) {
        if (feature_on(&add, f)) add_with_needs(&set, f);
        if (feature_on(&drop, f)) feature_set_bit(&set, f, false);
    }
    drop_dependents(&set);
    for (unsigned f = 1; f < FEATURE_COUNT; f++)
        if (feature_on(&add, f) && !feature_on(&set, f))
            return error_set(error, "-cpu: '%s' needs a feature that was taken away",
                             feature_rows[f].name);
    cpu->features = set;
    cpu->model = model;
    physical_width(cpu);
    return true;
}

/* --- answers --- */

u32 cpuid_signature(const struct vcpu *cpu)
{
    const struct cpu_model *m = cpu->model;
    u32 family = m->family > 15 ? 15 : m->family, extended = m->family > 15 ? m->family - 15u : 0;
    return m->stepping | (m->model & 15u) << 4 | family << 8 | (m->model >> 4 & 15u) << 16 |
           extended << 20;
}

/* The feature bits of a leaf. */
static void feature_bits(const struct vcpu *cpu, u32 leaf, u32 subleaf, u32 r[4])
{
    for (unsigned f = 1; f < FEATURE_COUNT; f++) {
        const struct feature_row *row = &feature_rows[f];
        if (row->leaf == leaf && row->subleaf == subleaf && feature_on(&cpu->features, f))
            r[row->reg] |= 1u << row->bit;
    }
}

static void put_text(u32 r[4], unsigned first, const char *text, unsigned length)
{
    char bytes[16] = {0};
    memcpy(bytes, text, length);
    for (unsigned i = 0; i < length / 4; i++) r[first + i] = ld32(bytes + i * 4);
}

static void vendor_text(const struct vcpu *cpu, u32 r[4])
{
    const char *name = cpu_is_intel(cpu) ? "GenuineIntel" : "AuthenticAMD";
    r[EBX] = ld32(name);
    r[EDX] = ld32(name + 4);
    r[ECX] = ld32(name + 8);
}

static u32 max_basic(const struct vcpu *cpu)
{
    return cpu->model->level;
}

static void leaf_1(const struct vcpu *cpu, u32 r[4])
{
    r[EAX] = cpuid_signature(cpu);
    r[EBX] = cpu->index << 24;
    if (feature_on(&cpu->features, FEATURE_CLFLUSH)) r[EBX] |= 8 << 8;
    feature_bits(cpu, 1, 0, r);
    if (cpu->count > 1) {
        r[EBX] |= (cpu->count < 255 ? cpu->count : 255u) << 16;
        r[EDX] |= 1u << 28; /* HT: EBX counts logical processors */
    }
    if (!(cpu->apic_base & 1 << 11)) r[EDX] &= ~(1u << 9);
    if (cpu->cr4 & CR4_OSXSAVE) r[ECX] |= 1u << 27;
}

static unsigned topology_bits(const struct vcpu *cpu)
{
    unsigned bits = 0;
    while (1u << bits < cpu->count) bits++;
    return bits;
}

/* One thread a core, all cores in one package. */
static void leaf_topology(const struct vcpu *cpu, u32 subleaf, u32 r[4])
{
    r[ECX] = subleaf & 0xff;
    r[EDX] = cpu->index;
    if (subleaf == 0) {
        r[EBX] = 1;
        r[ECX] |= 1 << 8;
    } else if (subleaf == 1) {
        r[EAX] = topology_bits(cpu);
        r[EBX] = cpu->count;
        r[ECX] |= 2 << 8;
    }
}

static void leaf_xsave(const struct vcpu *cpu, u32 subleaf, u32 r[4])
{
    if (!feature_on(&cpu->features, FEATURE_XSAVE)) return;
    u64 user = xsave_user_components(&cpu->features);
    u64 supervisor = xsave_supervisor_components(&cpu->features);
    if (subleaf == 0) {
        r[EAX] = (u32)user;
        r[EBX] = xsave_area_size(cpu->xcr0, false);
        r[ECX] = xsave_area_size(user, false);
        r[EDX] = (u32)(user >> 32);
    } else if (subleaf == 1) {
        feature_bits(cpu, 0xd, 1, r);
        if (feature_on(&cpu->features, FEATURE_XSAVEC))
            r[EBX] = xsave_area_size(cpu->xcr0 | cpu->xss, true);
        r[ECX] = (u32)supervisor;
        r[EDX] = (u32)(supervisor >> 32);
    } else if (subleaf < XSAVE_COMPONENTS && ((user | supervisor) >> subleaf & 1)) {
        const struct xsave_component *c = &xsave_component[subleaf];
        r[EAX] = c->size;
        r[EBX] = c->supervisor ? 0 : c->offset;
        r[ECX] = c->supervisor | c->aligned << 1;
    }
}

static void basic_leaf(const struct vcpu *cpu, u32 leaf, u32 subleaf, u32 r[4])
{
    switch (leaf) {
    case 0:
        r[EAX] = max_basic(cpu);
        vendor_text(cpu, r);
        break;
    case 1: leaf_1(cpu, r); break;
    case 2: /* Intel's cache descriptors: 32 KiB L1s, 2 MiB L2, 64-byte lines */
        if (cpu_is_intel(cpu)) r[EAX] = 0x1, r[EDX] = 0x2c307d;
        break;
    case 5: /* MONITOR lines of 64 bytes; interrupts break MWAIT; C1 with one sub-state */
        if (feature_on(&cpu->features, FEATURE_MONITOR))
            r[EAX] = r[EBX] = 64, r[ECX] = 3, r[EDX] = 0x10;
        break;
    case 6: feature_bits(cpu, 6, 0, r); break;
    case 7:
        if (subleaf == 0) feature_bits(cpu, 7, 0, r);
        break;
    case 0xb:
        if (feature_on(&cpu->features, FEATURE_X2APIC)) leaf_topology(cpu, subleaf, r);
        break;
    case 0xd: leaf_xsave(cpu, subleaf, r); break;
    default: break;
    }
}

static void hypervisor_leaf(const struct vcpu *cpu, u32 leaf, u32 r[4])
{
    bool timing = feature_on(&cpu->features, FEATURE_VMWARE_FREQ);
    if (leaf == 0x40000000) {
        r[EAX] = timing ? 0x40000010 : 0x40000001;
        put_text(r, EBX, feature_on(&cpu->features, FEATURE_KVM) ? "KVMKVMKVM\0\0" : "LyrebirdLyre",
                 12);
    } else if (leaf == 0x40000001) {
        feature_bits(cpu, leaf, 0, r);
        /* the same MSRs by older numbers */
        if (feature_on(&cpu->features, FEATURE_KVMCLOCK)) r[EAX] |= 1;
    } else if (leaf == 0x40000010 && timing) {
        r[EAX] = (u32)(cpu->tsc_frequency / 1000);
        r[EBX] = (u32)(cpu->apic.frequency / 1000);
    }
}

/* AMD repeats leaf 1's EDX here, but for what it means itself. */
static void leaf_extended_features(const struct vcpu *cpu, u32 r[4])
{
    r[EAX] = cpuid_signature(cpu);
    if (!cpu_is_intel(cpu)) {
        leaf_1(cpu, r);
        r[EBX] = r[ECX] = 0;
        r[EDX] &= 0x0183f3ff;
    }
    feature_bits(cpu, 0x80000001, 0, r);
    if (cpu->count > 1 && !cpu_is_intel(cpu)) r[ECX] |= 1u << 1; /* legacy multi-core */
}

static void extended_leaf(const struct vcpu *cpu, u32 leaf, u32 r[4])
{
    switch (leaf) {
    case 0x80000000:
        r[EAX] = 0x80000000u + cpu->model->extended;
        if (!cpu_is_intel(cpu)) vendor_text(cpu, r);
        break;
    case 0x80000001: leaf_extended_features(cpu, r); break;
    case 0x80000002:
    case 0x80000003:
    case 0x80000004: {
        char brand[48] = {0};
        size_t length = strlen(cpu->model->brand);
        memcpy(brand, cpu->model->brand, length < 47 ? length : 47);
        put_text(r, EAX, brand + (leaf - 0x80000002) * 16, 16);
        break;
    }
    case 0x80000005: /* 64 KiB 2-way L1s */
        r[EAX] = r[EBX] = 0x01ff01ff;
        r[ECX] = r[EDX] = 0x40020140;
        break;
    case 0x80000006: /* 512 KiB 16-way L2, 16 MiB 16-way L3 */
        r[EBX] = 0x42004200;
        r[ECX] = 0x02008140;
        r[EDX] = 0x00808140;
        break;
    case 0x80000007: feature_bits(cpu, 0x80000007, 0, r); break;
    case 0x80000008:
        feature_bits(cpu, 0x80000008, 0, r);
        r[EAX] = (u32)(64 - __builtin_clzll(cpu->physical_mask));
        r[EAX] |= (feature_on(&cpu->features, FEATURE_LM) ? 48u : 32u) << 8;
        if (!cpu_is_intel(cpu)) r[ECX] = (cpu->count - 1) | topology_bits(cpu) << 12;
        break;
    default: break;
    }
}

void cpuid_answer(const struct vcpu *cpu, u32 leaf, u32 subleaf, u32 r[4])
{
    memset(r, 0, 4 * sizeof(r[0]));
    if (leaf >= 0x80000000u) {
        if (leaf <= 0x80000000u + cpu->model->extended && cpu->model->extended) {
            extended_leaf(cpu, leaf, r);
            return;
        }
    } else if (leaf >= 0x40000000u && feature_on(&cpu->features, FEATURE_HYPERVISOR)) {
        if (leaf <= 0x400000ffu) hypervisor_leaf(cpu, leaf, r);
        return;
    } else if (leaf <= max_basic(cpu)) {
        basic_leaf(cpu, leaf, subleaf, r);
        return;
    }
    /* Out of range: Intel's processors answer for the highest basic leaf, AMD's with zeroes. */
    if (cpu_is_intel(cpu)) basic_leaf(cpu, max_basic(cpu), subleaf, r);
}
