/*
 * Registers as gdb numbers them, and target.xml that says so, both from gdb_regs.def.
 *
 * One description for every mode: 64-bit registers whatever the processor's mode is, so that a mode
 * switch changes nothing gdb has laid out. rip is the offset in CS, as the processor has it;
 * cs_base is there to make an address of it.
 *
 * Writing a selector loads the segment: from the descriptor table in protected mode, as MOV would,
 * by shifting in real mode. CS keeps the privilege level. LDTR, TR and the table registers are
 * read-only.
 */
#include "machine/debug/gdb_int.h"

#include "cpu/flags.h"
#include "cpu/intr.h" /* eflags_write */
#include "cpu/seg.h"
#include "cpu/sys.h"

#include <stdio.h>
#include <stdlib.h>

enum kind { GPR, RIP, EFLAGS, SELECTOR, ST, X87, XMM, MXCSR, BASE, YMMH, KERNEL_GS, CR, EFER, DR,
            TABLE_BASE, TABLE_LIMIT, CPL };

#define FLAGS_WRITABLE (0x3f7fd7u & ~(u32)FLAG_VM)
#define MSR_EFER 0xc0000080u

static const struct { u8 bits, kind, index; } regs[] = {
#define FEATURE(name)
#define REG(name, bits, type, kind, index) {bits, kind, index},
#include "machine/debug/gdb_regs.def"
#undef REG
#undef FEATURE
};

unsigned gdb_reg_count(void) { return ARRAY_SIZE(regs); }

/* --- reading --- */

static u32 x87_tags(const struct vcpu *cpu)
{
    u32 tags = 0;
    for (unsigned i = 0; i < 8; i++) {
        u64 mantissa = cpu->fpu_mantissa[i];
        unsigned exponent = cpu->fpu_exponent[i] & 0x7fff;
        unsigned tag = !exponent && !mantissa ? 1
                       : exponent && exponent != 0x7fff && mantissa >> 63 ? 0 : 2;
        if (!(cpu->ftw >> i & 1)) tag = 3;
        tags |= tag << (i * 2);
    }
    return tags;
}

static u64 x87_get(const struct vcpu *cpu, unsigned index)
{
    switch (index) {
    case 0: return cpu->fcw;
    case 1: return cpu->fsw;
    case 2: return x87_tags(cpu);
    case 3: return cpu->fcs;
    case 4: return (u32)cpu->fip;
    case 5: return cpu->fds;
    case 6: return (u32)cpu->fdp;
    default: return cpu->fop;
    }
}

static u64 cr_get(struct vcpu *cpu, unsigned index)
{
    switch (index) {
    case 0: return cpu->cr0;
    case 2: return cpu->cr2;
    case 3: return cpu->cr3;
    case 4: return cpu->cr4;
    default: return cpu->apic.apic ? cpu->apic.get_cr8(cpu->apic.apic) : 0;
    }
}

static u64 scalar_get(struct vcpu *cpu, unsigned n)
{
    unsigned index = regs[n].index;
    switch ((enum kind)regs[n].kind) {
    case GPR: return cpu->regs[index];
    case RIP: return cpu->rip;
    case EFLAGS: return cpu_eflags(cpu);
    case SELECTOR: return cpu->seg[index].selector;
    case X87: return x87_get(cpu, index);
    case MXCSR: return cpu->mxcsr;
    case BASE: return cpu->seg[index].base;
    case KERNEL_GS: return cpu->kernel_gs_base;
    case CR: return cr_get(cpu, index);
    case EFER: return cpu->efer;
    case DR: return cpu->dr[index];
    case TABLE_BASE: return index ? cpu->idt_base : cpu->gdt_base;
    case TABLE_LIMIT: return index ? cpu->idt_limit : cpu->gdt_limit;
    case CPL: return cpu->cpl;
    default: return 0;
    }
}

unsigned gdb_reg_get(struct vcpu *cpu, unsigned n, u8 out[GDB_REG_BYTES])
{
    if (n >= ARRAY_SIZE(regs)) return 0;
    unsigned index = regs[n].index, physical = ((cpu->fsw >> 11) + index) & 7;
    switch ((enum kind)regs[n].kind) {
    case ST:
        st64(out, cpu->fpu_mantissa[physical]);
        st16(out + 8, cpu->fpu_exponent[physical]);
        break;
    case XMM:
    case YMMH: {
        const union vec *v = cpu_vec(cpu, index);
        unsigned first = regs[n].kind == YMMH ? 2 : 0;
        st64(out, v->q[first]);
        st64(out + 8, v->q[first + 1]);
        break;
    }
    default: st64(out, scalar_get(cpu, n)); /* a 32-bit one is cut by its size */
    }
    return regs[n].bits / 8;
}

/* --- writing --- */

static bool x87_set(struct vcpu *cpu, unsigned index, u64 value)
{
    switch (index) {
    case 0: cpu->fcw = (u16)((value & 0x1f3f) | 0x40); break;
    case 1: cpu->fsw = (u16)value; break;
    case 2:
        cpu->ftw = 0;
        for (unsigned i = 0; i < 8; i++) cpu->ftw |= (u8)(((value >> (i * 2) & 3) != 3) << i);
        break;
    case 3: cpu->fcs = (u16)value; break;
    case 4: cpu->fip = (cpu->fip & ~(u64)0xffffffff) | (u32)value; break;
    case 5: cpu->fds = (u16)value; break;
    case 6: cpu->fdp = (cpu->fdp & ~(u64)0xffffffff) | (u32)value; break;
    default: cpu->fop = value & 0x7ff;
    }
    cpu->xsave_in_use |= 1;
    return true;
}

static bool code_segment_set(struct vcpu *cpu, u16 selector)
{
    struct descriptor d;
    if (cpu_protected(cpu)) {
        if (!desc_read(cpu, selector, &d, VECTOR_GP, 0)) return false;
        if (!desc_is_code(&d) || !desc_present(&d)) return false;
        if (desc_is_conforming(&d) ? desc_dpl(&d) > cpu->cpl : desc_dpl(&d) != cpu->cpl)
            return false;
        cs_put(cpu, selector, &d, cpu->cpl);
    } else {
        seg_put_real(cpu, CS, selector);
    }
    cpu_update_mode(cpu);
    return true;
}

static bool selector_set(struct vcpu *cpu, unsigned seg, u64 value)
{
    if (value >> 16 || seg >= LDTR) return false;
    return seg == CS ? code_segment_set(cpu, (u16)value) : seg_load(cpu, seg, (u16)value);
}

static bool base_set(struct vcpu *cpu, unsigned seg, u64 value)
{
    if (cpu_long_mode(cpu) ? !cpu_is_canonical(value) : value >> 32 != 0) return false;
    cpu->seg[seg].base = value;
    cpu_update_mode(cpu);
    return true;
}

/* Where a halted processor is sent it runs. */
static bool rip_set(struct vcpu *cpu, u64 value)
{
    cpu->rip = value;
    if (cpu->activity == CPU_HALTED || cpu->activity == CPU_MWAIT) cpu->activity = CPU_RUNNING;
    return true;
}

static bool scalar_set(struct vcpu *cpu, unsigned n, u64 value)
{
    unsigned index = regs[n].index;
    switch ((enum kind)regs[n].kind) {
    case GPR: cpu->regs[index] = value; return true;
    case RIP: return rip_set(cpu, value);
    case EFLAGS: eflags_write(cpu, (u32)value, FLAGS_WRITABLE); return true;
    case SELECTOR: return selector_set(cpu, index, value);
    case X87: return x87_set(cpu, index, value);
    case MXCSR:
        if (value & ~(u64)0xffff) return false;
        cpu->mxcsr = (u32)value;
        cpu->xsave_in_use |= 2;
        return true;
    case BASE: return base_set(cpu, index, value);
    case KERNEL_GS: cpu->kernel_gs_base = value; return cpu_is_canonical(value);
    case CR: return cr_write(cpu, index, value);
    case EFER: return msr_write(cpu, MSR_EFER, value);
    case DR: return dr_write(cpu, index, value);
    default: return false;
    }
}

static void vector_set(struct vcpu *cpu, unsigned index, unsigned first, const u8 *bytes)
{
    union vec *v = cpu_vec(cpu, index);
    v->q[first] = ld64(bytes);
    v->q[first + 1] = ld64(bytes + 8);
    cpu->xsave_in_use |= first ? 6 : 2;
}

bool gdb_reg_set(struct vcpu *cpu, unsigned n, const u8 *bytes)
{
    u8 now[GDB_REG_BYTES] = {0}, wide[8] = {0};
    unsigned size = gdb_reg_get(cpu, n, now);
    if (!size) return false;
    if (!memcmp(now, bytes, size)) return true;
    unsigned index = regs[n].index, physical = ((cpu->fsw >> 11) + index) & 7;
    switch ((enum kind)regs[n].kind) {
    case ST:
        cpu->fpu_mantissa[physical] = ld64(bytes);
        cpu->fpu_exponent[physical] = ld16(bytes + 8);
        cpu->xsave_in_use |= 1;
        return true;
    case XMM: vector_set(cpu, index, 0, bytes); return true;
    case YMMH: vector_set(cpu, index, 2, bytes); return true;
    default: break;
    }
    memcpy(wide, bytes, size);
    bool done = scalar_set(cpu, n, ld64(wide));
    cpu->exception.vector = -1; /* what a refused write recorded */
    cpu->leave_block = false;
    return done;
}

/* --- target.xml --- */

static const char types_core[] =
    "<flags id=\"i386_eflags\" size=\"4\"><field name=\"\" start=\"22\" end=\"31\"/>"
    "<field name=\"ID\" start=\"21\" end=\"21\"/><field name=\"VIP\" start=\"20\" end=\"20\"/>"
    "<field name=\"VIF\" start=\"19\" end=\"19\"/><field name=\"AC\" start=\"18\" end=\"18\"/>"
    "<field name=\"VM\" start=\"17\" end=\"17\"/><field name=\"RF\" start=\"16\" end=\"16\"/>"
    "<field name=\"NT\" start=\"14\" end=\"14\"/><field name=\"IOPL\" start=\"12\" end=\"13\"/>"
    "<field name=\"OF\" start=\"11\" end=\"11\"/><field name=\"DF\" start=\"10\" end=\"10\"/>"
    "<field name=\"IF\" start=\"9\" end=\"9\"/><field name=\"TF\" start=\"8\" end=\"8\"/>"
    "<field name=\"SF\" start=\"7\" end=\"7\"/><field name=\"ZF\" start=\"6\" end=\"6\"/>"
    "<field name=\"AF\" start=\"4\" end=\"4\"/><field name=\"PF\" start=\"2\" end=\"2\"/>"
    "<field name=\"\" start=\"1\" end=\"1\"/><field name=\"CF\" start=\"0\" end=\"0\"/></flags>";

static const char types_sse[] =
    "<vector id=\"v4f\" type=\"ieee_single\" count=\"4\"/><vector id=\"v2d\" type=\"ieee_double\" count=\"2\"/>"
    "<vector id=\"v16i8\" type=\"int8\" count=\"16\"/><vector id=\"v8i16\" type=\"int16\" count=\"8\"/>"
    "<vector id=\"v4i32\" type=\"int32\" count=\"4\"/><vector id=\"v2i64\" type=\"int64\" count=\"2\"/>"
    "<union id=\"vec128\"><field name=\"v4_float\" type=\"v4f\"/><field name=\"v2_double\" type=\"v2d\"/>"
    "<field name=\"v16_int8\" type=\"v16i8\"/><field name=\"v8_int16\" type=\"v8i16\"/>"
    "<field name=\"v4_int32\" type=\"v4i32\"/><field name=\"v2_int64\" type=\"v2i64\"/>"
    "<field name=\"uint128\" type=\"uint128\"/></union>"
    "<flags id=\"i386_mxcsr\" size=\"4\"><field name=\"IE\" start=\"0\" end=\"0\"/>"
    "<field name=\"DE\" start=\"1\" end=\"1\"/><field name=\"ZE\" start=\"2\" end=\"2\"/>"
    "<field name=\"OE\" start=\"3\" end=\"3\"/><field name=\"UE\" start=\"4\" end=\"4\"/>"
    "<field name=\"PE\" start=\"5\" end=\"5\"/><field name=\"DAZ\" start=\"6\" end=\"6\"/>"
    "<field name=\"IM\" start=\"7\" end=\"7\"/><field name=\"DM\" start=\"8\" end=\"8\"/>"
    "<field name=\"ZM\" start=\"9\" end=\"9\"/><field name=\"OM\" start=\"10\" end=\"10\"/>"
    "<field name=\"UM\" start=\"11\" end=\"11\"/><field name=\"PM\" start=\"12\" end=\"12\"/>"
    "<field name=\"FZ\" start=\"15\" end=\"15\"/></flags>";

static const char types_system[] =
    /* CR0, CR4 and EFER have no bits above 31; gdb assigns numbers to flags of their own size
     * only. */
    "<flags id=\"i386_cr0\" size=\"4\"><field name=\"PG\" start=\"31\" end=\"31\"/>"
    "<field name=\"CD\" start=\"30\" end=\"30\"/><field name=\"NW\" start=\"29\" end=\"29\"/>"
    "<field name=\"AM\" start=\"18\" end=\"18\"/><field name=\"WP\" start=\"16\" end=\"16\"/>"
    "<field name=\"NE\" start=\"5\" end=\"5\"/><field name=\"ET\" start=\"4\" end=\"4\"/>"
    "<field name=\"TS\" start=\"3\" end=\"3\"/><field name=\"EM\" start=\"2\" end=\"2\"/>"
    "<field name=\"MP\" start=\"1\" end=\"1\"/><field name=\"PE\" start=\"0\" end=\"0\"/></flags>"
    "<flags id=\"i386_cr4\" size=\"4\"><field name=\"SMAP\" start=\"21\" end=\"21\"/>"
    "<field name=\"SMEP\" start=\"20\" end=\"20\"/><field name=\"OSXSAVE\" start=\"18\" end=\"18\"/>"
    "<field name=\"PCIDE\" start=\"17\" end=\"17\"/><field name=\"FSGSBASE\" start=\"16\" end=\"16\"/>"
    "<field name=\"UMIP\" start=\"11\" end=\"11\"/><field name=\"OSXMMEXCPT\" start=\"10\" end=\"10\"/>"
    "<field name=\"OSFXSR\" start=\"9\" end=\"9\"/><field name=\"PCE\" start=\"8\" end=\"8\"/>"
    "<field name=\"PGE\" start=\"7\" end=\"7\"/><field name=\"MCE\" start=\"6\" end=\"6\"/>"
    "<field name=\"PAE\" start=\"5\" end=\"5\"/><field name=\"PSE\" start=\"4\" end=\"4\"/>"
    "<field name=\"DE\" start=\"3\" end=\"3\"/><field name=\"TSD\" start=\"2\" end=\"2\"/>"
    "<field name=\"PVI\" start=\"1\" end=\"1\"/><field name=\"VME\" start=\"0\" end=\"0\"/></flags>"
    "<flags id=\"i386_efer\" size=\"4\"><field name=\"NXE\" start=\"11\" end=\"11\"/>"
    "<field name=\"LMA\" start=\"10\" end=\"10\"/><field name=\"LME\" start=\"8\" end=\"8\"/>"
    "<field name=\"SCE\" start=\"0\" end=\"0\"/></flags>";

static void feature(FILE *f, const char *name, bool *open)
{
    if (*open) fputs("</feature>", f);
    *open = true;
    fprintf(f, "<feature name=\"%s\">", name);
    const char *kind = strrchr(name, '.') + 1;
    fputs(!strcmp(kind, "core") ? types_core : !strcmp(kind, "sse") ? types_sse :
          !strcmp(kind, "system") ? types_system : "", f);
}

char *gdb_target_new(void)
{
    char *text = NULL;
    size_t size;
    bool open = false;
    FILE *f = open_memstream(&text, &size);
    if (!f) abort();
    fputs("<?xml version=\"1.0\"?><!DOCTYPE target SYSTEM \"gdb-target.dtd\">"
          "<target version=\"1.0\"><architecture>i386:x86-64</architecture>", f);
#define FEATURE(name) feature(f, name, &open);
#define REG(name, bits, type, kind, index) \
    fprintf(f, "<reg name=\"%s\" bitsize=\"%d\" type=\"%s\"/>", name, bits, type);
#include "machine/debug/gdb_regs.def"
#undef REG
#undef FEATURE
    fputs("</feature></target>", f);
    if (fclose(f)) abort();
    return text;
}
