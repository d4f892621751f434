/*
 * System-management mode: SMI entry, the save area, RSM.
 * Specification: AMD APM vol. 2 ch. 10 (the 64-bit save area), Intel SDM vol. 3 ch. 31 (the 32-bit
 * one).
 *
 * The revision says SMBASE relocation is there (bit 17), I/O instruction restart is not (bit 16):
 * 20064h with long mode, 20000h without.
 */
#include "cpu/smm.h"
#include "cpu/debug.h"
#include "cpu/flags.h"
#include "cpu/intr.h" /* eflags_write */
#include "cpu/mem.h"
#include "cpu/sem.h"
#include "cpu/sys.h" /* pae_load */

#define SMM_REVISION_64 0x20064
#define SMM_REVISION_32 0x20000

/* Offsets are from SMBASE + 8000h. */
static u64 area(const struct vcpu *cpu, unsigned offset)
{
    return (cpu->smbase + 0x8000 + offset) & cpu->a20_mask;
}
static void save(struct vcpu *cpu, unsigned offset, unsigned size, u64 value)
{
    bus_memory_write_as(cpu->bus, area(cpu, offset), value, size, true);
}
static u64 load(struct vcpu *cpu, unsigned offset, unsigned size)
{
    return bus_memory_read_as(cpu->bus, area(cpu, offset), size, true);
}

/* --- the 64-bit area --- */

static const struct { u8 seg; u16 at; } segments64[] = {
    {ES, 0x7e00}, {CS, 0x7e10}, {SS, 0x7e20}, {DS, 0x7e30}, {FS, 0x7e40}, {GS, 0x7e50},
    {LDTR, 0x7e70}, {TR, 0x7e90}};

static void save64(struct vcpu *cpu, bool halted)
{
    for (unsigned i = 0; i < ARRAY_SIZE(segments64); i++) {
        const struct segment *s = &cpu->seg[segments64[i].seg];
        save(cpu, segments64[i].at, 2, s->selector);
        save(cpu, segments64[i].at + 2, 2, s->attr & 0xf0ff);
        save(cpu, segments64[i].at + 4, 4, s->limit);
        save(cpu, segments64[i].at + 8, 8, s->base);
    }
    save(cpu, 0x7e64, 4, cpu->gdt_limit), save(cpu, 0x7e68, 8, cpu->gdt_base);
    save(cpu, 0x7e84, 4, cpu->idt_limit), save(cpu, 0x7e88, 8, cpu->idt_base);
    save(cpu, 0x7ec9, 1, halted);
    save(cpu, 0x7eca, 1, cpu->nmi_blocked);
    save(cpu, 0x7ed0, 8, cpu->efer);
    save(cpu, 0x7efc, 4, SMM_REVISION_64);
    save(cpu, 0x7f00, 4, cpu->smbase);
    save(cpu, 0x7f48, 8, cpu->cr4);
    save(cpu, 0x7f50, 8, cpu->cr3);
    save(cpu, 0x7f58, 8, cpu->cr0);
    save(cpu, 0x7f60, 8, cpu->dr[7]);
    save(cpu, 0x7f68, 8, cpu->dr[6]);
    save(cpu, 0x7f70, 8, cpu_eflags(cpu));
    save(cpu, 0x7f78, 8, cpu->rip);
    static const u8 order[] = {R15, R14, R13, R12, R11, R10, R9,  R8,
                               RDI, RSI, RBP, RSP, RBX, RDX, RCX, RAX};
    for (unsigned i = 0; i < 16; i++) save(cpu, 0x7f80 + i * 8, 8, cpu->regs[order[i]]);
}

static void put_segment(struct segment *s, u64 selector, u64 attr, u64 limit, u64 base)
{
    s->selector = (u16)selector;
    s->attr = attr & 0xf0ff;
    if (!(attr & SEG_P)) s->attr |= SEG_UNUSABLE;
    s->limit = (u32)limit;
    s->base = base;
}

/* What RSM puts back beyond what both areas call the same. */
struct smm_image {
    u64 cr0, cr3, cr4, efer, dr6, dr7;
    u32 flags;
    bool halted;
};

static void load64(struct vcpu *cpu, struct smm_image *m)
{
    static const u8 order[] = {R15, R14, R13, R12, R11, R10, R9,  R8,
                               RDI, RSI, RBP, RSP, RBX, RDX, RCX, RAX};
    for (unsigned i = 0; i < ARRAY_SIZE(segments64); i++) {
        unsigned at = segments64[i].at;
        put_segment(&cpu->seg[segments64[i].seg], load(cpu, at, 2), load(cpu, at + 2, 2),
                    load(cpu, at + 4, 4), load(cpu, at + 8, 8));
    }
    cpu->gdt_limit = (u16)load(cpu, 0x7e64, 4), cpu->gdt_base = load(cpu, 0x7e68, 8);
    cpu->idt_limit = (u16)load(cpu, 0x7e84, 4), cpu->idt_base = load(cpu, 0x7e88, 8);
    m->halted = load(cpu, 0x7ec9, 1) & 1;
    if (!(load(cpu, 0x7eca, 1) & 1)) cpu_unblock_nmi(cpu);
    m->efer = load(cpu, 0x7ed0, 8);
    m->cr4 = load(cpu, 0x7f48, 8);
    m->cr3 = load(cpu, 0x7f50, 8);
    m->cr0 = load(cpu, 0x7f58, 8);
    m->dr7 = load(cpu, 0x7f60, 8);
    m->dr6 = load(cpu, 0x7f68, 8);
    m->flags = (u32)load(cpu, 0x7f70, 8);
    cpu->rip = load(cpu, 0x7f78, 8);
    for (unsigned i = 0; i < 16; i++) cpu->regs[order[i]] = load(cpu, 0x7f80 + i * 8, 8);
    cpu->smbase = load(cpu, 0x7f00, 4); /* last: the area moves */
}

/* --- the 32-bit area --- */

static unsigned descriptor32(unsigned seg)
{
    return seg < 3 ? 0x7f84 + seg * 12 : 0x7f2c + (seg - 3) * 12;
}

static void save32(struct vcpu *cpu, bool halted)
{
    save(cpu, 0x7ffc, 4, cpu->cr0), save(cpu, 0x7ff8, 4, cpu->cr3);
    save(cpu, 0x7ff4, 4, cpu_eflags(cpu)), save(cpu, 0x7ff0, 4, cpu->rip);
    for (unsigned i = 0; i < 8; i++) save(cpu, 0x7fd0 + i * 4, 4, cpu->regs[i]);
    save(cpu, 0x7fcc, 4, cpu->dr[6]), save(cpu, 0x7fc8, 4, cpu->dr[7]);
    static const struct { u8 seg; u16 selector, at; } system[] = {{TR, 0x7fc4, 0x7f5c},
                                                                  {LDTR, 0x7fc0, 0x7f78}};
    for (unsigned i = 0; i < 2; i++) {
        const struct segment *s = &cpu->seg[system[i].seg];
        save(cpu, system[i].selector, 4, s->selector);
        save(cpu, system[i].at, 4, (s->attr & 0xf0ff) << 8);
        save(cpu, system[i].at + 4, 4, s->limit);
        save(cpu, system[i].at + 8, 4, s->base);
    }
    save(cpu, 0x7f74, 4, cpu->gdt_base), save(cpu, 0x7f70, 4, cpu->gdt_limit);
    save(cpu, 0x7f58, 4, cpu->idt_base), save(cpu, 0x7f54, 4, cpu->idt_limit);
    for (unsigned i = ES; i <= GS; i++) {
        const struct segment *s = &cpu->seg[i];
        save(cpu, 0x7fa8 + i * 4, 4, s->selector);
        save(cpu, descriptor32(i), 4, (s->attr & 0xf0ff) << 8);
        save(cpu, descriptor32(i) + 4, 4, s->limit);
        save(cpu, descriptor32(i) + 8, 4, s->base);
    }
    save(cpu, 0x7f14, 4, cpu->cr4);
    save(cpu, 0x7f02, 2, halted);
    save(cpu, 0x7f04, 1, cpu->nmi_blocked);
    save(cpu, 0x7efc, 4, SMM_REVISION_32);
    save(cpu, 0x7ef8, 4, cpu->smbase);
}

static void load_descriptor32(struct vcpu *cpu, struct segment *s, unsigned selector, unsigned at)
{
    put_segment(s, load(cpu, selector, 4), load(cpu, at, 4) >> 8, load(cpu, at + 4, 4),
                load(cpu, at + 8, 4));
}

static void load32(struct vcpu *cpu, struct smm_image *m)
{
    m->cr0 = load(cpu, 0x7ffc, 4), m->cr3 = load(cpu, 0x7ff8, 4);
    m->flags = (u32)load(cpu, 0x7ff4, 4), cpu->rip = load(cpu, 0x7ff0, 4);
    for (unsigned i = 0; i < 8; i++) cpu->regs[i] = load(cpu, 0x7fd0 + i * 4, 4);
    m->dr6 = load(cpu, 0x7fcc, 4), m->dr7 = load(cpu, 0x7fc8, 4);
    load_descriptor32(cpu, &cpu->seg[TR], 0x7fc4, 0x7f5c);
    load_descriptor32(cpu, &cpu->seg[LDTR], 0x7fc0, 0x7f78);
    cpu->gdt_base = load(cpu, 0x7f74, 4), cpu->gdt_limit = (u16)load(cpu, 0x7f70, 4);
    cpu->idt_base = load(cpu, 0x7f58, 4), cpu->idt_limit = (u16)load(cpu, 0x7f54, 4);
    for (unsigned i = ES; i <= GS; i++)
        load_descriptor32(cpu, &cpu->seg[i], 0x7fa8 + i * 4, descriptor32(i));
    m->cr4 = load(cpu, 0x7f14, 4);
    m->efer = 0;
    m->halted = load(cpu, 0x7f02, 2) & 1;
    if (!(load(cpu, 0x7f04, 1) & 1)) cpu_unblock_nmi(cpu);
    cpu->smbase = load(cpu, 0x7ef8, 4);
}

/* --- in and out --- */

void cpu_enter_smm(struct vcpu *cpu)
{
    bool halted = cpu->activity == CPU_HALTED;
    log_to(cpu->log, LOG_INTERRUPT, "cpu%u: SMI at %04x:%016llx, SMBASE %llx", cpu->index,
           cpu->seg[CS].selector, (unsigned long long)cpu->rip, (unsigned long long)cpu->smbase);
    if (feature_on(&cpu->features, FEATURE_LM)) save64(cpu, halted);
    else save32(cpu, halted);

    cpu->in_smm = 1;
    cpu->nmi_blocked = 1;
    cpu->shadow = 0;
    cpu->activity = CPU_RUNNING;
    flags_put(cpu, 0);
    cpu->eflags = 0;
    cpu->cr0 &= ~(u64)(CR0_PE | CR0_EM | CR0_TS | CR0_PG);
    cpu->cr4 = 0;
    cpu->efer = 0;
    cpu->dr[7] = DR7_FIXED;
    cpu->cpl = 0;
    cpu->rip = 0x8000;
    for (unsigned i = ES; i <= GS; i++)
        put_segment(&cpu->seg[i], 0, SEG_P | SEG_S | SEG_WRITABLE | SEG_ACCESSED | SEG_G,
                    0xffffffff, 0);
    cpu->seg[CS].selector = (u16)(cpu->smbase >> 4);
    cpu->seg[CS].base = cpu->smbase;
    tlb_flush_all(cpu);
    debug_rearm(cpu);
}

/* Control registers that can't be are a shutdown, not a fault. */
static bool image_is_valid(const struct vcpu *cpu, const struct smm_image *m)
{
    if ((m->cr0 & CR0_PG) && !(m->cr0 & CR0_PE)) return false;
    if ((m->cr0 >> 32) || ((m->cr0 & CR0_NW) && !(m->cr0 & CR0_CD))) return false;
    if (m->cr4 & ~cr4_allowed(cpu)) return false;
    if (m->efer & EFER_LMA)
        return (m->efer & EFER_LME) && (m->cr0 & CR0_PG) && (m->cr4 & CR4_PAE) &&
               feature_on(&cpu->features, FEATURE_LM) && !(m->cr3 & ~cpu->physical_mask);
    return true;
}

static bool rsm_shutdown(struct vcpu *cpu)
{
    log_to(cpu->log, LOG_GUEST_ERROR, "cpu%u: RSM with an invalid save area: shutdown", cpu->index);
    cpu->activity = CPU_SHUTDOWN;
    cpu->leave_block = true;
    return true;
}

bool sem_RSM(struct vcpu *cpu, const struct insn *insn)
{
    const u32 flags = FLAGS_ARITHMETIC | FLAG_TF | FLAG_IF | FLAG_DF | FLAG_IOPL | FLAG_NT |
                      FLAG_RF | FLAG_VM | FLAG_AC | FLAG_VIF | FLAG_VIP | FLAG_ID;
    struct smm_image m;
    (void)insn;
    if (!cpu->in_smm) return cpu_ud(cpu);
    if (feature_on(&cpu->features, FEATURE_LM)) load64(cpu, &m);
    else load32(cpu, &m);
    if (!image_is_valid(cpu, &m)) return rsm_shutdown(cpu);

    cpu->in_smm = 0;
    cpu->efer = m.efer;
    cpu->cr4 = m.cr4;
    cpu->cr3 = m.cr3;
    cpu->cr0 = m.cr0 | CR0_ET;
    cpu->dr[6] = (m.dr6 & 0xe00f) | DR6_FIXED;
    cpu->dr[7] = (m.dr7 & 0xffff23ffu) | DR7_FIXED;
    cpu->cpl = !(cpu->cr0 & CR0_PE) ? 0
               : m.flags & FLAG_VM ? 3 : cpu->seg[SS].attr >> SEG_DPL_SHIFT & 3;
    tlb_flush_all(cpu);
    if ((cpu->cr0 & CR0_PG) && (cpu->cr4 & CR4_PAE) && !(cpu->efer & EFER_LMA) &&
        !pae_load(cpu, cpu->cr3))
        return rsm_shutdown(cpu);
    eflags_write(cpu, m.flags, flags);
    if (m.halted) cpu->activity = CPU_HALTED;
    debug_rearm(cpu);
    cpu_serialize(cpu);
    cpu->leave_block = true;
    return true;
}
