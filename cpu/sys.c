/*
 * System instructions: control and debug registers, TLB, fast calls, halting, time, flags.
 * Specification: Intel SDM vol. 2, vol. 3 ch. 2.5, 4.10, 20.3 (VME, PVI); AMD APM vol. 2 ch. 6.1
 * (SYSCALL and SYSENTER where the vendors differ).
 *
 * Not modelled: performance counters (they read zero), caches (WBINVD, INVD do nothing), MONITOR's
 * watch on memory.
 */
#include "cpu/sys.h"
#include "cpu/cpuid.h"
#include "cpu/debug.h"
#include "cpu/intr.h" /* eflags_write */
#include "cpu/seg.h"
#include "cpu/sem.h"
#include "cpu/xsave.h"

/* --- what hangs on the registers --- */

static bool segment_is_flat(const struct segment *s, bool code)
{
    if (s->base || s->limit != 0xffffffffu || (s->attr & (SEG_P | SEG_UNUSABLE)) != SEG_P)
        return false;
    if (s->attr & SEG_CODE) return code && (s->attr & SEG_READABLE);
    return (s->attr & SEG_WRITABLE) && !(s->attr & SEG_EXPAND_DOWN);
}

static bool mode_is_flat(const struct vcpu *cpu)
{
    if (cpu->code_size == CODE64) return true;
    return segment_is_flat(&cpu->seg[CS], true) && segment_is_flat(&cpu->seg[SS], false) &&
           segment_is_flat(&cpu->seg[DS], false) && segment_is_flat(&cpu->seg[ES], false);
}

static void update_align_check(struct vcpu *cpu)
{
    bool check = cpu->cpl == 3 && (cpu->eflags & FLAG_AC) && (cpu->cr0 & CR0_AM);
    if (likely(check == cpu->align_check)) return;
    cpu->align_check = check;
    tlb_flush_all(cpu); /* USER entries get or lose their tags */
}

void cpu_update_mode(struct vcpu *cpu)
{
    u32 cs = cpu->seg[CS].attr;
    cpu->code_size = (cpu->efer & EFER_LMA) && (cs & SEG_L) ? CODE64
                     : cs & SEG_DB ? CODE32 : CODE16;
    cpu->stack_size = cpu->code_size == CODE64 ? 8 : cpu->seg[SS].attr & SEG_DB ? 4 : 2;
    bool ac = (cpu->cr4 & CR4_SMAP) && (cpu->eflags & FLAG_AC);
    cpu->tlb_mode = cpu->cpl == 3 ? TLB_USER : ac ? TLB_KERNEL_AC : TLB_KERNEL;
    cpu->tlb_now = cpu->tlb.entry[cpu->tlb_mode];
    update_align_check(cpu);

    unsigned key = cpu->code_size;
    if (mode_is_flat(cpu)) key |= MODE_FLAT;
    if (cpu->cpl == 3) key |= MODE_USER;
    else if (cpu->cpl) key |= MODE_RING12;
    if (cpu->stack_size >= 4) key |= MODE_STACK32;
    if ((cpu->eflags & FLAG_TF) || cpu->debug_step || (cpu->dr[7] & 0xff)) {
        if ((cpu->eflags & FLAG_TF) || cpu->debug_step || debug_has_code_breakpoints(cpu))
            key |= MODE_STEP;
    }
    if (cpu->tlb_mode == TLB_KERNEL_AC) key |= MODE_AC;
    if (cpu_protected(cpu)) key |= MODE_PROTECTED;
    if (cpu->cr0 & (CR0_EM | CR0_TS)) key |= MODE_NO_FPU;
    cpu->mode_key = (u16)key;
    if (stops_want(cpu->stops, STOP_MODE) && stops_mode(cpu) != cpu->stop_mode)
        cpu->leave_block = true;
}

bool cpu_is_intel(const struct vcpu *cpu)
{
    return cpu->model && cpu->model->vendor == VENDOR_INTEL;
}

u64 cpu_tsc(const struct vcpu *cpu)
{
    return (cpu->tsc_now ? cpu->tsc_now(cpu->tsc_opaque) : cpu->icount) + cpu->tsc_adjust;
}

static void lock_machine(struct vcpu *cpu)
{
    if (cpu->lock) cpu->lock(cpu->lock_opaque);
}
static void unlock_machine(struct vcpu *cpu)
{
    if (cpu->unlock) cpu->unlock(cpu->lock_opaque);
}

/* --- CR3 and PAE --- */

bool pae_load(struct vcpu *cpu, u64 cr3)
{
    const u64 reserved = (~cpu->physical_mask & 0x000fffffffffffffull) | 0xfff00000000001e6ull;
    u64 pdpte[4];
    for (unsigned i = 0; i < 4; i++) {
        u64 physical = ((cr3 & 0xffffffe0u) + i * 8) & cpu->a20_mask;
        pdpte[i] = bus_memory_read_as(cpu->bus, physical, 8, cpu->in_smm);
        if ((pdpte[i] & 1) && (pdpte[i] & reserved)) return cpu_gp0(cpu);
    }
    memcpy(cpu->pae_pdpte, pdpte, sizeof(pdpte));
    return true;
}

static bool pae_paging(u64 cr0, u64 cr4, u64 efer)
{
    return (cr0 & CR0_PG) && (cr4 & CR4_PAE) && !(efer & EFER_LMA);
}

bool cr3_load(struct vcpu *cpu, u64 value)
{
    if (pae_paging(cpu->cr0, cpu->cr4, cpu->efer)) TRY(pae_load(cpu, value));
    cpu->cr3 = value;
    tlb_flush_non_global(cpu);
    return true;
}

static bool write_cr3(struct vcpu *cpu, u64 value)
{
    bool keep = false;
    if (cpu_long_mode(cpu)) {
        if (cpu->cr4 & CR4_PCIDE) {
            keep = value >> 63;
            value &= ~(1ull << 63);
        }
        if (value & ~cpu->physical_mask) return cpu_gp0(cpu);
    } else {
        value = (u32)value;
    }
    if (!keep) return cr3_load(cpu, value);
    if (value == cpu->cr3) return true;
    cpu->cr3 = value;
    tlb_switch_context(cpu);
    return true;
}

/* --- CR0, CR4, CR8 --- */

/* Entering or leaving long mode as CR0.PG moves. */
static bool cr0_paging(struct vcpu *cpu, u64 value, u64 *efer)
{
    if (value & ~cpu->cr0 & CR0_PG) {
        if (*efer & EFER_LME) {
            if (!(cpu->cr4 & CR4_PAE) || (cpu->seg[CS].attr & SEG_L)) return cpu_gp0(cpu);
            if ((cpu->seg[TR].attr & 13) == 1) return cpu_gp0(cpu); /* a 16-bit TSS */
            *efer |= EFER_LMA;
        }
    } else if (cpu->cr0 & ~value & CR0_PG) {
        if (cpu_code64(cpu) || (cpu->cr4 & CR4_PCIDE)) return cpu_gp0(cpu);
        *efer &= ~(u64)EFER_LMA;
    }
    return true;
}

static bool write_cr0(struct vcpu *cpu, u64 value)
{
    const u64 known = CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM |
                      CR0_NW | CR0_CD | CR0_PG;
    u64 efer = cpu->efer;
    if (value >> 32) return cpu_gp0(cpu);
    value = (value & known) | CR0_ET;
    if ((value & CR0_PG) && !(value & CR0_PE)) return cpu_gp0(cpu);
    if ((value & CR0_NW) && !(value & CR0_CD)) return cpu_gp0(cpu);
    TRY(cr0_paging(cpu, value, &efer));
    u64 changed = value ^ cpu->cr0;
    if (pae_paging(value, cpu->cr4, efer) && (changed & (CR0_PG | CR0_CD | CR0_NW)))
        TRY(pae_load(cpu, cpu->cr3));
    cpu->cr0 = value;
    cpu->efer = efer;
    if ((changed & CR0_PE) && !(value & CR0_PE)) cpu->cpl = 0;
    if (changed & (CR0_PG | CR0_WP | CR0_PE)) tlb_flush_all(cpu);
    cpu_update_mode(cpu);
    return true;
}

u64 cr4_allowed(const struct vcpu *cpu)
{
    static const struct { u8 feature; u32 bits; } given[] = {
        {FEATURE_VME, CR4_VME | CR4_PVI}, {FEATURE_TSC, CR4_TSD}, {FEATURE_DE, CR4_DE},
        {FEATURE_PSE, CR4_PSE}, {FEATURE_PAE, CR4_PAE}, {FEATURE_MCE, CR4_MCE},
        {FEATURE_PGE, CR4_PGE}, {FEATURE_FXSR, CR4_OSFXSR}, {FEATURE_SSE, CR4_OSXMMEXCPT},
        {FEATURE_UMIP, CR4_UMIP}, {FEATURE_FSGSBASE, CR4_FSGSBASE}, {FEATURE_PCID, CR4_PCIDE},
        {FEATURE_XSAVE, CR4_OSXSAVE}, {FEATURE_SMEP, CR4_SMEP}, {FEATURE_SMAP, CR4_SMAP}};
    u64 bits = feature_on(&cpu->features, FEATURE_MSR) ? CR4_PCE : 0;
    for (unsigned i = 0; i < ARRAY_SIZE(given); i++)
        if (feature_on(&cpu->features, given[i].feature)) bits |= given[i].bits;
    return bits;
}

static bool write_cr4(struct vcpu *cpu, u64 value)
{
    u64 changed = value ^ cpu->cr4;
    if (value & ~cr4_allowed(cpu)) return cpu_gp0(cpu);
    if (cpu_long_mode(cpu) && !(value & CR4_PAE)) return cpu_gp0(cpu);
    if ((value & changed & CR4_PCIDE) && (!cpu_long_mode(cpu) || (cpu->cr3 & 0xfff)))
        return cpu_gp0(cpu);
    if (pae_paging(cpu->cr0, value, cpu->efer) &&
        (changed & (CR4_PAE | CR4_PGE | CR4_PSE | CR4_SMEP)))
        TRY(pae_load(cpu, cpu->cr3));
    cpu->cr4 = value;
    if (changed & (CR4_PSE | CR4_PAE | CR4_PGE | CR4_PCIDE | CR4_SMEP | CR4_SMAP))
        tlb_flush_all(cpu);
    cpu_update_mode(cpu);
    return true;
}

static u64 read_cr8(struct vcpu *cpu)
{
    u64 value = 0;
    lock_machine(cpu);
    if (cpu->apic.apic) value = cpu->apic.get_cr8(cpu->apic.apic);
    unlock_machine(cpu);
    return value;
}

static bool write_cr8(struct vcpu *cpu, u64 value)
{
    if (value & ~15ull) return cpu_gp0(cpu);
    lock_machine(cpu);
    if (cpu->apic.apic) cpu->apic.set_cr8(cpu->apic.apic, (u8)value);
    unlock_machine(cpu);
    return true;
}

bool cr_write(struct vcpu *cpu, unsigned number, u64 value)
{
    switch (number) {
    case 0: return write_cr0(cpu, value);
    case 2: cpu->cr2 = value; return true;
    case 3: return write_cr3(cpu, value);
    case 4: return write_cr4(cpu, value);
    case 8: return write_cr8(cpu, value);
    default: return cpu_ud(cpu);
    }
}

bool sem_MOV_CR(struct vcpu *cpu, const struct insn *insn)
{
    const bool write = insn->operand[0].kind == OPERAND_CR;
    const unsigned number = insn->operand[write ? 0 : 1].reg;
    const unsigned reg = insn->operand[write ? 1 : 0].reg;
    const unsigned size = cpu_code64(cpu) ? 8 : 4;
    if (number != 0 && number != 2 && number != 3 && number != 4 && number != 8) return cpu_ud(cpu);
    if (cpu->cpl) return cpu_gp0(cpu);
    if (write) {
        if (number != 8) cpu_serialize(cpu);
        return cr_write(cpu, number, gpr_read(cpu, reg, size));
    }
    u64 value = number == 0   ? cpu->cr0
                : number == 2 ? cpu->cr2
                : number == 3 ? cpu->cr3
                : number == 4 ? cpu->cr4
                              : read_cr8(cpu);
    gpr_write(cpu, reg, size, value);
    return true;
}

bool sem_CLTS(struct vcpu *cpu, const struct insn *insn)
{
    (void)insn;
    if (cpu->cpl) return cpu_gp0(cpu);
    cpu->cr0 &= ~(u64)CR0_TS;
    cpu_update_mode(cpu);
    return true;
}

bool sem_LMSW(struct vcpu *cpu, const struct insn *insn)
{
    u64 value;
    if (cpu->cpl) return cpu_gp0(cpu);
    if (insn->operand[0].kind == OPERAND_MEMORY) TRY(mem_read(cpu, insn, 2, &value));
    else value = cpu->regs[insn->operand[0].reg];
    value &= CR0_PE | CR0_MP | CR0_EM | CR0_TS;
    u64 keep = ~(u64)(CR0_MP | CR0_EM | CR0_TS); /* PE can be set, not cleared */
    return write_cr0(cpu, (cpu->cr0 & keep) | value);
}

/* --- debug registers --- */

bool dr_write(struct vcpu *cpu, unsigned number, u64 value)
{
    if (number == 6 || number == 7) {
        if (value >> 32) return cpu_gp0(cpu);
        if (number == 6) cpu->dr[6] = (value & 0xe00f) | DR6_FIXED;
        else cpu->dr[7] = (value & 0xffff23ffu) | DR7_FIXED;
    } else {
        cpu->dr[number] = value;
    }
    if (number != 6) debug_rearm(cpu);
    return true;
}

bool sem_MOV_DR(struct vcpu *cpu, const struct insn *insn)
{
    const bool write = insn->operand[0].kind == OPERAND_DR;
    unsigned number = insn->operand[write ? 0 : 1].reg;
    const unsigned reg = insn->operand[write ? 1 : 0].reg;
    const unsigned size = cpu_code64(cpu) ? 8 : 4;
    if (number > 7) return cpu_ud(cpu);
    if (cpu->cpl) return cpu_gp0(cpu);
    if (number == 4 || number == 5) {
        if (cpu->cr4 & CR4_DE) return cpu_ud(cpu);
        number += 2;
    }
    if (cpu->dr[7] & DR7_GD) {
        cpu_fault(cpu, VECTOR_DB);
        cpu->exception.dr6 = DR6_BD;
        return false;
    }
    if (write) {
        cpu_serialize(cpu);
        return dr_write(cpu, number, gpr_read(cpu, reg, size));
    }
    gpr_write(cpu, reg, size, cpu->dr[number]);
    return true;
}

/* --- TLB and caches --- */

bool sem_INVLPG(struct vcpu *cpu, const struct insn *insn)
{
    if (cpu->cpl) return cpu_gp0(cpu);
    u64 linear = insn_ea(cpu, insn);
    if (!cpu_code64(cpu)) linear = (u32)(linear + cpu->seg[insn->seg].base);
    else if (insn->seg >= FS) linear += cpu->seg[insn->seg].base;
    if (cpu_is_canonical(linear)) tlb_flush_page(cpu, linear);
    cpu_serialize(cpu);
    return true;
}

bool sem_INVPCID(struct vcpu *cpu, const struct insn *insn)
{
    u8 image[16];
    if (cpu->cpl) return cpu_gp0(cpu);
    u64 type = gpr_read(cpu, insn->operand[0].reg, cpu_code64(cpu) ? 8 : 4);
    if (type > 3) return cpu_gp0(cpu);
    TRY(mem_read_bytes(cpu, insn, image, 16, 0));
    u64 pcid = ld64(image), linear = ld64(image + 8);
    if (pcid >> 12) return cpu_gp0(cpu);
    if (type < 2 && pcid && !(cpu->cr4 & CR4_PCIDE)) return cpu_gp0(cpu);
    if (type == 0 && !cpu_is_canonical(linear)) return cpu_gp0(cpu);
    bool current = pcid == cpu_pcid(cpu);
    if (type == 2) tlb_flush_all(cpu);
    else if (type == 3) tlb_flush_contexts(cpu);
    else if (!current) tlb_flush_context(cpu, (unsigned)pcid);
    else if (type == 1) tlb_flush_non_global(cpu);
    else tlb_flush_page(cpu, linear);
    cpu_serialize(cpu);
    return true;
}

/* There are no caches to write back. */
static bool flush_caches(struct vcpu *cpu)
{
    if (cpu->cpl) return cpu_gp0(cpu);
    cpu_serialize(cpu);
    return true;
}
bool sem_WBINVD(struct vcpu *cpu, const struct insn *insn)
{
    (void)insn;
    return flush_caches(cpu);
}
bool sem_INVD(struct vcpu *cpu, const struct insn *insn)
{
    (void)insn;
    return flush_caches(cpu);
}

/* A cache line operation faults as a byte's load does. */
static bool touch_line(struct vcpu *cpu, const struct insn *insn)
{
    u64 linear;
    TRY(mem_linear(cpu, insn, 1, false, &linear));
    return tlb_probe(cpu, linear, 1, false, (enum tlb_mode)cpu->tlb_mode);
}
bool sem_CLFLUSH(struct vcpu *cpu, const struct insn *insn) { return touch_line(cpu, insn); }
bool sem_CLFLUSHOPT(struct vcpu *cpu, const struct insn *insn) { return touch_line(cpu, insn); }
bool sem_CLWB(struct vcpu *cpu, const struct insn *insn) { return touch_line(cpu, insn); }

/* --- halting --- */

bool sem_HLT(struct vcpu *cpu, const struct insn *insn)
{
    (void)insn;
    if (cpu->cpl) return cpu_gp0(cpu);
    cpu->activity = CPU_HALTED;
    cpu->leave_block = true;
    return true;
}

bool sem_MONITOR(struct vcpu *cpu, const struct insn *insn)
{
    u64 linear, value;
    if (cpu->cpl) return cpu_ud(cpu);
    if ((u32)cpu->regs[RCX]) return cpu_gp0(cpu);
    unsigned seg = insn->flags & INSN_SEG_OVERRIDE ? insn->seg : DS;
    u64 ea = gpr_read(cpu, RAX, insn->address_size);
    TRY(seg_linear(cpu, seg, ea, 1, false, &linear));
    TRY(lin_read(cpu, linear, 1, &value));
    cpu->monitor_address = linear;
    return true;
}

bool sem_MWAIT(struct vcpu *cpu, const struct insn *insn)
{
    (void)insn;
    if (cpu->cpl) return cpu_ud(cpu);
    if ((u32)cpu->regs[RCX] & ~1u) return cpu_gp0(cpu);
    cpu->activity = CPU_MWAIT;
    cpu->leave_block = true;
    return true;
}

/* --- time, random numbers, identity --- */

static void put_edx_eax(struct vcpu *cpu, u64 value)
{
    cpu->regs[RAX] = (u32)value;
    cpu->regs[RDX] = value >> 32;
}

static bool tsc_allowed(struct vcpu *cpu)
{
    return !((cpu->cr4 & CR4_TSD) && cpu->cpl) || cpu_gp0(cpu);
}

bool sem_RDTSC(struct vcpu *cpu, const struct insn *insn)
{
    (void)insn;
    TRY(tsc_allowed(cpu));
    put_edx_eax(cpu, cpu_tsc(cpu));
    return true;
}

bool sem_RDTSCP(struct vcpu *cpu, const struct insn *insn)
{
    (void)insn;
    TRY(tsc_allowed(cpu));
    put_edx_eax(cpu, cpu_tsc(cpu));
    cpu->regs[RCX] = (u32)cpu->tsc_aux;
    return true;
}

bool sem_RDPID(struct vcpu *cpu, const struct insn *insn)
{
    gpr_write(cpu, insn->operand[0].reg, cpu_code64(cpu) ? 8 : 4, cpu->tsc_aux);
    return true;
}

bool sem_RDPMC(struct vcpu *cpu, const struct insn *insn)
{
    (void)insn;
    if (cpu->cpl && !(cpu->cr4 & CR4_PCE)) return cpu_gp0(cpu);
    if ((u32)cpu->regs[RCX] > 3) return cpu_gp0(cpu);
    put_edx_eax(cpu, 0);
    return true;
}

static bool random_register(struct vcpu *cpu, const struct insn *insn)
{
    u64 value = 0;
    if (cpu->random) cpu->random(cpu->random_opaque, &value, sizeof(value));
    bool ok = cpu->random != NULL;
    gpr_write(cpu, insn->operand[0].reg, insn->size, value);
    flags_put(cpu, ok ? FLAG_CF : 0);
    return true;
}
bool sem_RDRAND(struct vcpu *cpu, const struct insn *insn) { return random_register(cpu, insn); }
bool sem_RDSEED(struct vcpu *cpu, const struct insn *insn) { return random_register(cpu, insn); }

bool sem_CPUID(struct vcpu *cpu, const struct insn *insn)
{
    u32 r[4];
    (void)insn;
    cpuid_answer(cpu, (u32)cpu->regs[RAX], (u32)cpu->regs[RCX], r);
    cpu->regs[RAX] = r[0];
    cpu->regs[RBX] = r[1];
    cpu->regs[RCX] = r[2];
    cpu->regs[RDX] = r[3];
    cpu_serialize(cpu);
    return true;
}

bool sem_RDMSR(struct vcpu *cpu, const struct insn *insn)
{
    u64 value;
    (void)insn;
    if (cpu->cpl) return cpu_gp0(cpu);
    TRY(msr_read(cpu, (u32)cpu->regs[RCX], &value));
    put_edx_eax(cpu, value);
    return true;
}

bool sem_WRMSR(struct vcpu *cpu, const struct insn *insn)
{
    (void)insn;
    if (cpu->cpl) return cpu_gp0(cpu);
    u64 value = (u32)cpu->regs[RAX] | cpu->regs[RDX] << 32;
    cpu_serialize(cpu);
    TRY(msr_write(cpu, (u32)cpu->regs[RCX], value));
    if (unlikely(cpu->stops != NULL))
        stops_event(cpu, STOP_MSR, (u32)cpu->regs[RCX], 1, true, value);
    return true;
}

/* --- XCR0 --- */

u64 xcr0_allowed(const struct vcpu *cpu) { return xsave_user_components(&cpu->features); }

bool sem_XGETBV(struct vcpu *cpu, const struct insn *insn)
{
    (void)insn;
    if (!(cpu->cr4 & CR4_OSXSAVE)) return cpu_ud(cpu);
    u32 number = (u32)cpu->regs[RCX];
    if (number > 1 || (number == 1 && !feature_on(&cpu->features, FEATURE_XGETBV1)))
        return cpu_gp0(cpu);
    put_edx_eax(cpu, number ? cpu->xcr0 & xsave_components_in_use(cpu) : cpu->xcr0);
    return true;
}

bool sem_XSETBV(struct vcpu *cpu, const struct insn *insn)
{
    (void)insn;
    if (!(cpu->cr4 & CR4_OSXSAVE)) return cpu_ud(cpu);
    if (cpu->cpl) return cpu_gp0(cpu);
    u64 value = (u32)cpu->regs[RAX] | cpu->regs[RDX] << 32;
    const u64 avx512 =
        XSAVE_BIT(XSAVE_OPMASK) | XSAVE_BIT(XSAVE_ZMM_HIGH) | XSAVE_BIT(XSAVE_HIGH_ZMM);
    if ((u32)cpu->regs[RCX] || !(value & 1) || (value & ~xcr0_allowed(cpu))) return cpu_gp0(cpu);
    if ((value & XSAVE_BIT(XSAVE_AVX)) && !(value & XSAVE_BIT(XSAVE_SSE))) return cpu_gp0(cpu);
    if ((value & avx512) && ((value & avx512) != avx512 || !(value & XSAVE_BIT(XSAVE_AVX))))
        return cpu_gp0(cpu);
    cpu->xcr0 = value;
    cpu_update_mode(cpu);
    return true;
}

/* --- flags --- */

static bool set_ac(struct vcpu *cpu, u32 ac)
{
    if (cpu->cpl) return cpu_ud(cpu);
    eflags_write(cpu, ac, FLAG_AC);
    return true;
}
bool sem_CLAC(struct vcpu *cpu, const struct insn *insn)
{
    (void)insn;
    return set_ac(cpu, 0);
}
bool sem_STAC(struct vcpu *cpu, const struct insn *insn)
{
    (void)insn;
    return set_ac(cpu, FLAG_AC);
}

/* Which flag CLI and STI are about: IF, VIF, or neither (#GP). */
static u32 interrupt_flag(const struct vcpu *cpu)
{
    if (cpu_real_mode(cpu) || cpu_iopl(cpu) >= cpu->cpl) return FLAG_IF;
    if (cpu_vm86(cpu)) return cpu->cr4 & CR4_VME ? FLAG_VIF : 0;
    return cpu->cpl == 3 && (cpu->cr4 & CR4_PVI) ? FLAG_VIF : 0;
}

bool sem_CLI(struct vcpu *cpu, const struct insn *insn)
{
    u32 flag = interrupt_flag(cpu);
    (void)insn;
    if (!flag) return cpu_gp0(cpu);
    cpu->eflags &= ~flag;
    return true;
}

bool sem_STI(struct vcpu *cpu, const struct insn *insn)
{
    u32 flag = interrupt_flag(cpu);
    (void)insn;
    if (!flag || (flag == FLAG_VIF && (cpu->eflags & FLAG_VIP))) return cpu_gp0(cpu);
    if (flag == FLAG_IF && !(cpu->eflags & FLAG_IF)) cpu->shadow = 1;
    eflags_write(cpu, flag, flag);
    return true;
}

bool sem_PUSHF(struct vcpu *cpu, const struct insn *insn)
{
    u32 image = cpu_eflags(cpu) & ~(u32)(FLAG_VM | FLAG_RF);
    if (cpu_vm86(cpu) && cpu_iopl(cpu) < 3) {
        if (!(cpu->cr4 & CR4_VME) || insn->size != 2) return cpu_gp0(cpu);
        image = (image & ~(u32)FLAG_IF) | FLAG_IOPL | (cpu->eflags & FLAG_VIF ? FLAG_IF : 0);
    }
    return stack_push(cpu, insn->size, image & size_mask(insn->size));
}

static bool popf_vme(struct vcpu *cpu, u64 image)
{
    if ((image & FLAG_TF) || ((image & FLAG_IF) && (cpu->eflags & FLAG_VIP))) return cpu_gp0(cpu);
    stack_move(cpu, 2);
    u32 mask = FLAGS_ARITHMETIC | FLAG_TF | FLAG_DF | FLAG_NT | FLAG_VIF;
    eflags_write(cpu, (u32)(image & 0xffff) | (image & FLAG_IF ? FLAG_VIF : 0), mask);
    return true;
}

bool sem_POPF(struct vcpu *cpu, const struct insn *insn)
{
    const bool vm86 = cpu_vm86(cpu);
    u64 image;
    if (vm86 && cpu_iopl(cpu) < 3 && (!(cpu->cr4 & CR4_VME) || insn->size != 2))
        return cpu_gp0(cpu);
    TRY(stack_read_at(cpu, 0, insn->size, &image));
    if (vm86 && cpu_iopl(cpu) < 3) return popf_vme(cpu, image);

    u32 mask = FLAGS_ARITHMETIC | FLAG_TF | FLAG_DF | FLAG_NT | FLAG_AC | FLAG_ID | FLAG_RF;
    image &= ~(u64)(FLAG_RF | FLAG_VIF | FLAG_VIP);
    if (cpu_iopl(cpu) >= cpu->cpl) mask |= FLAG_IF;
    if (cpu->cpl == 0) mask |= FLAG_IOPL | FLAG_VIF | FLAG_VIP;
    if (insn->size == 2) mask &= 0xffff;
    stack_move(cpu, insn->size);
    eflags_write(cpu, (u32)image, mask);
    return true;
}

/* --- undefined opcodes --- */

bool sem_UD(struct vcpu *cpu, const struct insn *insn)
{
    (void)insn;
    return cpu_ud(cpu);
}
bool sem_GP0(struct vcpu *cpu, const struct insn *insn)
{
    (void)insn;
    return cpu_gp0(cpu);
}
