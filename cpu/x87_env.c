/*
 * x87: control, status and tag words, environment and state images, stack pointer, exceptions.
 *
 * Specification: Intel SDM vol. 1 section 8.1, 8.6, 8.7 and the instructions' pages. #MF itself,
 * FERR# and CR0.NE are fpu_check's: every waiting instruction goes through it before it comes here.
 */
#include "cpu/x87.h"

#define FCW_INITIAL 0x37f
#define FCW_WRITABLE 0x1f3f

/* --- exceptions --- */

void x87_update_summary(struct vcpu *cpu)
{
    if (cpu->fsw & ~cpu->fcw & FP_ALL) cpu->fsw |= FSW_ES | FSW_B;
    else cpu->fsw &= (u16)~(FSW_ES | FSW_B);
}

/* FOP: low three bits of the escape byte and the ModRM byte, found again in the code. */
static void note_opcode(struct vcpu *cpu, const struct insn *insn)
{
    bool faulted;
    u64 physical, linear = cpu->seg[CS].base + cpu_ip(cpu, insn);
    if (cpu->code_size != CODE64) linear = (u32)linear;
    if ((linear & 0xfff) + insn->length > 0x1000) return;
    const u8 *code = tlb_fetch(cpu, linear, &faulted, &physical);
    if (!code) return;
    for (unsigned i = 0; i + 1 < insn->length; i++) {
        if ((code[i] & 0xf8) != 0xd8) continue; /* a prefix */
        cpu->fop = (u16)((code[i] & 7) << 8 | code[i + 1]);
        return;
    }
}

void x87_exception(struct vcpu *cpu, const struct insn *insn)
{
    cpu->fsw |= FSW_ES | FSW_B;
    note_opcode(cpu, insn);
}

/* --- control and status --- */

static void x87_initialize(struct vcpu *cpu)
{
    cpu->fcw = FCW_INITIAL;
    cpu->fsw = 0;
    cpu->ftw = 0;
    cpu->fop = 0;
    cpu->fip = cpu->fdp = 0;
    cpu->fcs = cpu->fds = 0;
}

static void set_control(struct vcpu *cpu, unsigned value)
{
    cpu->fcw = (u16)((value & FCW_WRITABLE) | 0x40);
    x87_update_summary(cpu);
}

bool sem_FLDCW(struct vcpu *cpu, const struct insn *insn)
{
    u64 value;
    TRY(mem_read(cpu, insn, 2, &value));
    set_control(cpu, (unsigned)value);
    return true;
}
bool sem_FNSTCW(struct vcpu *cpu, const struct insn *insn)
{
    return mem_write(cpu, insn, 2, cpu->fcw);
}
bool sem_FNSTSW(struct vcpu *cpu, const struct insn *insn)
{
    if (insn->operand[0].kind == OPERAND_MEMORY) return mem_write(cpu, insn, 2, cpu->fsw);
    gpr_write(cpu, RAX, 2, cpu->fsw);
    return true;
}
bool sem_FNCLEX(struct vcpu *cpu, const struct insn *insn)
{
    (void)insn;
    cpu->fsw &= (u16)~(FP_ALL | FSW_SF | FSW_ES | FSW_B);
    return true;
}
bool sem_FNINIT(struct vcpu *cpu, const struct insn *insn)
{
    (void)insn;
    x87_initialize(cpu);
    return true;
}
bool sem_FNOP(struct vcpu *cpu, const struct insn *insn)
{
    x87_note(cpu, insn);
    return true;
}
bool sem_FWAIT(struct vcpu *cpu, const struct insn *insn)
{
    (void)cpu;
    (void)insn;
    return true;
}

/* --- stack --- */

bool sem_FFREE(struct vcpu *cpu, const struct insn *insn)
{
    x87_note(cpu, insn);
    cpu->fsw &= (u16)~FSW_C1;
    x87_free(cpu, x87_register(insn));
    return true;
}
bool sem_FFREEP(struct vcpu *cpu, const struct insn *insn)
{
    x87_note(cpu, insn);
    cpu->fsw &= (u16)~FSW_C1;
    x87_free(cpu, x87_register(insn));
    x87_pop(cpu);
    return true;
}
bool sem_FINCSTP(struct vcpu *cpu, const struct insn *insn)
{
    x87_note(cpu, insn);
    cpu->fsw &= (u16)~FSW_C1;
    x87_move_top(cpu, 1);
    return true;
}
bool sem_FDECSTP(struct vcpu *cpu, const struct insn *insn)
{
    x87_note(cpu, insn);
    cpu->fsw &= (u16)~FSW_C1;
    x87_move_top(cpu, -1);
    return true;
}

/* --- images --- */

/* Two bits a physical register: 0 valid, 1 zero, 2 special, 3 empty. */
static u16 full_tags(const struct vcpu *cpu)
{
    u16 tags = 0;
    for (unsigned i = 0; i < 8; i++) {
        struct fp_value v = f80_unpack((struct f80){ cpu->fpu_mantissa[i], cpu->fpu_exponent[i] });
        unsigned tag = !(cpu->ftw >> i & 1) ? 3 : v.kind == FP_ZERO ? 1 :
                       v.kind == FP_FINITE && !v.denormal ? 0 : 2;
        tags |= (u16)(tag << (i * 2));
    }
    return tags;
}

static bool small_image(const struct insn *insn) { return insn->size == 2; }
static unsigned environment_size(const struct insn *insn) { return small_image(insn) ? 14 : 28; }
/* Real mode and virtual-8086 mode keep linear addresses instead of selectors. */
static bool linear_image(const struct vcpu *cpu) { return !cpu_protected(cpu); }

static void put_environment(const struct vcpu *cpu, const struct insn *insn, u8 *image)
{
    unsigned step = small_image(insn) ? 2 : 4;
    u32 ip = (u32)cpu->fip, dp = (u32)cpu->fdp;
    u32 words[7] = { cpu->fcw, cpu->fsw, full_tags(cpu), ip, cpu->fcs, dp, cpu->fds };
    if (linear_image(cpu)) {
        ip += (u32)cpu->fcs << 4;
        dp += (u32)cpu->fds << 4;
        u32 high = small_image(insn) ? 0xf000u : 0x0ffff000u;
        words[3] = ip & 0xffff;
        words[4] = (ip >> 16 << 12 & high) | (cpu->fop & 0x7ff);
        words[5] = dp & 0xffff;
        words[6] = dp >> 16 << 12 & high;
        if (step == 4) {
            words[3] |= 0xffff0000;
            words[5] |= 0xffff0000;
        }
    } else if (step == 4) {
        words[4] |= (u32)(cpu->fop & 0x7ff) << 16;
        words[6] |= 0xffff0000;
    }
    for (unsigned i = 0; i < 7; i++) {
        if (step == 2) st16(image + i * 2, (u16)words[i]);
        else st32(image + i * 4, i < 3 ? words[i] | 0xffff0000 : words[i]);
    }
}

static void get_environment(struct vcpu *cpu, const struct insn *insn, const u8 *image)
{
    unsigned step = small_image(insn) ? 2 : 4;
    u32 words[7];
    for (unsigned i = 0; i < 7; i++)
        words[i] = step == 2 ? ld16(image + i * 2) : ld32(image + i * 4);
    if (linear_image(cpu)) {
        cpu->fop = words[4] & 0x7ff;
        cpu->fip = (words[3] & 0xffff) | (words[4] >> 12 & 0xffff) << 16;
        cpu->fdp = (words[5] & 0xffff) | (words[6] >> 12 & 0xffff) << 16;
        cpu->fcs = cpu->fds = 0;
    } else {
        cpu->fip = words[3];
        cpu->fcs = (u16)words[4];
        if (step == 4) cpu->fop = words[4] >> 16 & 0x7ff;
        cpu->fdp = words[5];
        cpu->fds = (u16)words[6];
    }
    cpu->ftw = 0;
    for (unsigned i = 0; i < 8; i++)
        if ((words[2] >> (i * 2) & 3) != 3) cpu->ftw |= (u8)(1u << i);
    cpu->fsw = (u16)words[1];
    set_control(cpu, words[0]);
}

bool sem_FNSTENV(struct vcpu *cpu, const struct insn *insn)
{
    u8 image[28];
    put_environment(cpu, insn, image);
    TRY(mem_write_bytes(cpu, insn, image, environment_size(insn), 0));
    cpu->fcw |= FP_ALL;
    x87_update_summary(cpu);
    return true;
}

bool sem_FLDENV(struct vcpu *cpu, const struct insn *insn)
{
    u8 image[28];
    TRY(mem_read_bytes(cpu, insn, image, environment_size(insn), 0));
    get_environment(cpu, insn, image);
    return true;
}

bool sem_FNSAVE(struct vcpu *cpu, const struct insn *insn)
{
    u8 image[28 + 80];
    unsigned size = environment_size(insn);
    put_environment(cpu, insn, image);
    for (unsigned i = 0; i < 8; i++) {
        struct f80 value = x87_get(cpu, i);
        st64(image + size + i * 10, value.mantissa);
        st16(image + size + i * 10 + 8, value.exponent);
    }
    TRY(mem_write_bytes(cpu, insn, image, size + 80, 0));
    x87_initialize(cpu);
    return true;
}

bool sem_FRSTOR(struct vcpu *cpu, const struct insn *insn)
{
    u8 image[28 + 80];
    unsigned size = environment_size(insn);
    TRY(mem_read_bytes(cpu, insn, image, size + 80, 0));
    get_environment(cpu, insn, image);
    for (unsigned i = 0; i < 8; i++) {
        unsigned n = x87_physical(cpu, i);
        cpu->fpu_mantissa[n] = ld64(image + size + i * 10);
        cpu->fpu_exponent[n] = ld16(image + size + i * 10 + 8);
    }
    return true;
}
