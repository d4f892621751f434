/* Registers as text; see registers.h. */
#include "machine/debug/registers.h"

#include "cpu/cpu.h"
#include "cpu/flags.h"

#include <inttypes.h>

static void dump_general(FILE *out, const struct vcpu *cpu)
{
    static const u8 order[] = {RAX, RBX, RCX, RDX, RSI, RDI, RBP, RSP};
    static const char names[][4] = {"AX", "BX", "CX", "DX", "SI", "DI", "BP", "SP"};
    bool wide = cpu->code_size == CODE64;
    for (unsigned i = 0; i < 8; i++) {
        char end = i % 4 == 3 ? '\n' : ' ';
        if (wide) fprintf(out, "R%s=%016" PRIx64 "%c", names[i], cpu->regs[order[i]], end);
        else fprintf(out, "E%s=%08x%c", names[i], (u32)cpu->regs[order[i]], end);
    }
    for (unsigned i = 8; wide && i < 16; i++)
        fprintf(out, "R%-2u=%016" PRIx64 "%c", i, cpu->regs[i], i % 4 == 3 ? '\n' : ' ');
}

static void dump_flags(FILE *out, const struct vcpu *cpu)
{
    static const struct { u32 bit; char letter; } letters[] = {{FLAG_DF, 'D'}, {FLAG_OF, 'O'},
                                                               {FLAG_SF, 'S'}, {FLAG_ZF, 'Z'},
                                                               {FLAG_AF, 'A'}, {FLAG_PF, 'P'},
                                                               {FLAG_CF, 'C'}};
    u32 flags = cpu_eflags(cpu);
    if (cpu->code_size == CODE64) fprintf(out, "RIP=%016" PRIx64 " RFL=%08x [", cpu->rip, flags);
    else fprintf(out, "EIP=%08x EFL=%08x [", (u32)cpu->rip, flags);
    for (unsigned i = 0; i < ARRAY_SIZE(letters); i++)
        fputc(flags & letters[i].bit ? letters[i].letter : '-', out);
    fprintf(out, "] CPL=%u II=%u A20=%u SMM=%u HLT=%u\n", cpu->cpl, cpu->shadow != 0,
            cpu->a20_mask >> 20 & 1 ? 1 : 0, cpu->in_smm, cpu->activity == CPU_HALTED);
}

static void dump_segment(FILE *out, const struct vcpu *cpu, unsigned n)
{
    static const char *const names[] = {"ES", "CS", "SS", "DS", "FS", "GS", "LDT", "TR"};
    static const char *const system[2][16] = {
        {"Reserved", "TSS16-avl", "LDT", "TSS16-busy", "CallGate16", "TaskGate", "IntGate16",
         "TrapGate16", "Reserved",
         "TSS32-avl", "Reserved", "TSS32-busy", "CallGate32", "Reserved", "IntGate32",
         "TrapGate32"},
        {"<hiword>", "Reserved", "LDT", "Reserved", "Reserved", "Reserved", "Reserved", "Reserved",
         "Reserved",
         "TSS64-avl", "Reserved", "TSS64-busy", "CallGate64", "Reserved", "IntGate64",
             "TrapGate64"}};
    const struct segment *s = &cpu->seg[n];
    fprintf(out, "%-3s=%04x %0*" PRIx64 " %08x %08x", names[n], s->selector,
            cpu->code_size == CODE64 ? 16 : 8, s->base, s->limit, (s->attr & 0xf0ff) << 8);
    if ((cpu->cr0 & CR0_PE) && (s->attr & SEG_P) && !(s->attr & SEG_UNUSABLE)) {
        unsigned dpl = (s->attr & SEG_DPL) >> SEG_DPL_SHIFT, type = s->attr & SEG_TYPE;
        fprintf(out, " DPL=%u ", dpl);
        if (!(s->attr & SEG_S)) fprintf(out, "%s", system[cpu_long_mode(cpu)][type]);
        else if (type & SEG_CODE)
            fprintf(out, "%s [%c%c%c]",
                    s->attr & SEG_L ? "CS64" : s->attr & SEG_DB ? "CS32" : "CS16",
                    type & SEG_CONFORMING ? 'C' : '-', type & SEG_READABLE ? 'R' : '-',
                    type & SEG_ACCESSED ? 'A' : '-');
        else
            fprintf(out, "%s [%c%c%c]", s->attr & SEG_DB || cpu_long_mode(cpu) ? "DS" : "DS16",
                    type & SEG_EXPAND_DOWN ? 'E' : '-', type & SEG_WRITABLE ? 'W' : '-',
                    type & SEG_ACCESSED ? 'A' : '-');
    }
    fputc('\n', out);
}

static void dump_system(FILE *out, const struct vcpu *cpu)
{
    int digits = cpu->code_size == CODE64 ? 16 : 8;
    fprintf(out, "GDT=     %0*" PRIx64 " %08x\n", digits, cpu->gdt_base, cpu->gdt_limit);
    fprintf(out, "IDT=     %0*" PRIx64 " %08x\n", digits, cpu->idt_base, cpu->idt_limit);
    fprintf(out, "CR0=%08" PRIx64 " CR2=%0*" PRIx64 " CR3=%0*" PRIx64 " CR4=%08" PRIx64 "\n",
            cpu->cr0, digits, cpu->cr2, digits, cpu->cr3, cpu->cr4);
    for (unsigned i = 0; i < 4; i++)
        fprintf(out, "DR%u=%016" PRIx64 "%c", i, cpu->dr[i], i == 3 ? '\n' : ' ');
    fprintf(out, "DR6=%016" PRIx64 " DR7=%016" PRIx64 "\nEFER=%016" PRIx64 "\n", cpu->dr[6],
            cpu->dr[7], cpu->efer);
}

static void dump_fpu(FILE *out, struct vcpu *cpu)
{
    fprintf(out, "FCW=%04x FSW=%04x [ST=%u] FTW=%02x MXCSR=%08x\n", cpu->fcw, cpu->fsw,
            cpu->fsw >> 11 & 7, cpu->ftw, cpu->mxcsr);
    for (unsigned i = 0; i < 8; i++)
        fprintf(out, "FPR%u=%016" PRIx64 " %04x%c", i, cpu->fpu_mantissa[i], cpu->fpu_exponent[i],
                i & 1 ? '\n' : ' ');
    bool wide = (cpu->cr4 & CR4_OSXSAVE) && (cpu->xcr0 & 6) == 6;
    for (unsigned i = 0; i < (cpu->code_size == CODE64 ? 16u : 8u); i++) {
        const union vec *v = cpu_vec(cpu, i);
        if (wide)
            fprintf(out, "YMM%02u=%016" PRIx64 " %016" PRIx64 " %016" PRIx64 " %016" PRIx64 "\n", i,
                    v->q[3], v->q[2], v->q[1], v->q[0]);
        else fprintf(out, "XMM%02u=%016" PRIx64 " %016" PRIx64 "%c", i, v->q[1], v->q[0],
                     i & 1 ? '\n' : ' ');
    }
}

void registers_dump(FILE *out, struct vcpu *cpu, bool with_fpu)
{
    dump_general(out, cpu);
    dump_flags(out, cpu);
    for (unsigned i = 0; i < SEGMENTS; i++) dump_segment(out, cpu, i);
    dump_system(out, cpu);
    if (with_fpu) dump_fpu(out, cpu);
}

/* --- as declared --- */

#define STATE_OWNER struct segment
STATE_TABLE(segment, SEGMENT_STATE)
#undef STATE_OWNER
#define STATE_OWNER struct vcpu
STATE_TABLE(processor, VCPU_STATE)
#undef STATE_OWNER

const struct state_field *vcpu_fields(void) { return processor_fields; }
