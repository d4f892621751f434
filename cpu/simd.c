/*
 * Vector instructions: whether they may run at all, and their operands.
 *
 * Specification: Intel SDM vol. 2 chapter 2 (exception types), vol. 3 sections 2.5 and 13.1; AMD
 * APM vol. 2 section 11. Not modelled: misaligned SSE mode (MXCSR.MM), EVEX.
 */
#include "cpu/simd.h"

#define FSW_ES 0x80u
#define XCR0_SSE_AVX 6u

static bool x87_waits(unsigned op)
{
    switch (op) {
    case OP_FNSTENV: case OP_FNSTCW: case OP_FNSAVE: case OP_FNSTSW: case OP_FNCLEX: case OP_FNINIT:
    case OP_FXSAVE:
    case OP_FXRSTOR:
    case OP_XSAVE:
    case OP_XRSTOR:
    case OP_XSAVEOPT:
    case OP_XSAVEC:
    case OP_XSAVES: case OP_XRSTORS:
        return false;
    default:
        return true;
    }
}

/*
 * An unmasked x87 exception is pending. With CR0.NE clear the report goes out on FERR#, and the
 * processor waits for the interrupt that comes of it; where none can be taken it carries on, as it
 * does with IGNNE# asserted.
 */
static bool x87_pending(struct vcpu *cpu)
{
    if (cpu->cr0 & CR0_NE) return cpu_fault(cpu, VECTOR_MF);
    if (!cpu->ferr) return true;
    cpu->ferr(cpu->ferr_opaque);
    u32 requests = atomic_load_explicit(&cpu->requests, memory_order_acquire);
    if ((requests & REQUEST_INTR) && (cpu->eflags & FLAG_IF) && !cpu->shadow)
        return cpu_restart(cpu);
    return true;
}

bool fpu_check(struct vcpu *cpu, const struct insn *insn)
{
    u32 attributes = insn_row(insn->row)->attributes;
    if (attributes & ATTR_AVX) {
        if (!cpu_protected(cpu) || !(cpu->cr4 & CR4_OSXSAVE) ||
            (cpu->xcr0 & XCR0_SSE_AVX) != XCR0_SSE_AVX)
            return cpu_ud(cpu);
        return cpu->cr0 & CR0_TS ? cpu_fault(cpu, VECTOR_NM) : true;
    }
    if ((attributes & ATTR_SSE) && ((cpu->cr0 & CR0_EM) || !(cpu->cr4 & CR4_OSFXSR)))
        return cpu_ud(cpu);
    if ((attributes & ATTR_MMX) && (cpu->cr0 & CR0_EM)) return cpu_ud(cpu);
    if (insn->op == OP_FWAIT) {
        if ((cpu->cr0 & (CR0_MP | CR0_TS)) == (CR0_MP | CR0_TS)) return cpu_fault(cpu, VECTOR_NM);
    } else if (attributes & ATTR_X87) {
        if (cpu->cr0 & (CR0_EM | CR0_TS)) return cpu_fault(cpu, VECTOR_NM);
    } else if ((attributes & (ATTR_SSE | ATTR_MMX)) && (cpu->cr0 & CR0_TS)) {
        return cpu_fault(cpu, VECTOR_NM);
    }
    if ((attributes & (ATTR_X87 | ATTR_MMX)) && unlikely(cpu->fsw & FSW_ES) && x87_waits(insn->op))
        return x87_pending(cpu);
    return true;
}

/* What a memory operand of SIZE bytes must be aligned to. */
static unsigned vec_alignment(const struct insn *insn, unsigned size)
{
    u32 attributes = insn_row(insn->row)->attributes;
    if (attributes & ATTR_ALIGNED) return size;
    if ((insn->flags & INSN_VEX) || size != 16 || (attributes & ATTR_UNALIGNED)) return 0;
    return 16;
}

const union vec *vec_fetch(struct vcpu *cpu, const struct insn *insn, unsigned n, unsigned size,
                           union vec *tmp)
{
    const struct operand *o = &insn->operand[n];
    switch (o->kind) {
    case OPERAND_VECTOR:
        return cpu_vec(cpu, o->reg);
    case OPERAND_MMX:
        memset(tmp, 0, sizeof(*tmp));
        tmp->q[0] = cpu->fpu_mantissa[o->reg & 7];
        return tmp;
    case OPERAND_MEMORY:
        if (size == 16) return vec_load(cpu, insn, tmp, 16, vec_alignment(insn, 16)) ? tmp : NULL;
        if (size == 32) return vec_load(cpu, insn, tmp, 32, vec_alignment(insn, 32)) ? tmp : NULL;
        return mem_read_vec(cpu, insn, tmp, size, vec_alignment(insn, size)) ? tmp : NULL;
    default: /* a row that is wrong: the instruction is as good as undefined */
        cpu_ud(cpu);
        return NULL;
    }
}

const union vec *vec_fetch_unaligned(struct vcpu *cpu, const struct insn *insn, unsigned n,
                                     unsigned size, union vec *tmp)
{
    if (insn->operand[n].kind != OPERAND_MEMORY) return vec_fetch(cpu, insn, n, size, tmp);
    return mem_read_vec(cpu, insn, tmp, size, 0) ? tmp : NULL;
}

bool vec_read(struct vcpu *cpu, const struct insn *insn, unsigned n, unsigned size, union vec *to)
{
    if (insn->operand[n].kind == OPERAND_MEMORY)
        return mem_read_vec(cpu, insn, to, size, vec_alignment(insn, size));
    const union vec *from = vec_fetch(cpu, insn, n, size, to);
    TRY(from);
    if (from != to) {
        memset(to, 0, sizeof(*to));
        for (unsigned i = 0; i < size / 8; i++) to->q[i] = from->q[i];
        if (size & 4) vec_d(to, size / 4 - 1) = vec_d(from, size / 4 - 1);
        if (size & 2) vec_w(to, 0) = vec_w(from, 0);
        if (size & 1) vec_b(to, 0) = vec_b(from, 0);
    }
    /* An MMX source with a destination elsewhere: the write will not switch to the MMX file.
     * Nothing can fault any more. */
    if (insn->operand[n].kind == OPERAND_MMX && insn->operand[0].kind != OPERAND_MMX &&
        insn->operand[0].kind != OPERAND_MEMORY)
        mmx_enter(cpu);
    return true;
}

bool vec_write(struct vcpu *cpu, const struct insn *insn, unsigned n, unsigned size,
               const union vec *from)
{
    const struct operand *o = &insn->operand[n];
    if (o->kind == OPERAND_MEMORY)
        return mem_write_vec(cpu, insn, from, size, vec_alignment(insn, size));
    if (o->kind == OPERAND_MMX) {
        mmx_write(cpu, o->reg, from->q[0]);
        return true;
    }
    union vec *to = cpu_vec(cpu, o->reg);
    for (unsigned i = 0; i < size / 8; i++) to->q[i] = from->q[i];
    if (size & 4) vec_d(to, size / 4 - 1) = vec_d(from, size / 4 - 1);
    if (insn->flags & INSN_VEX) {
        if (size & 4) vec_d(to, size / 4) = 0;
        for (unsigned i = (size + 7) / 8; i < 8; i++) to->q[i] = 0;
    }
    return true;
}

/* Linear address of the element at DISTANCE from the memory operand's start. */
static bool element_linear(struct vcpu *cpu, const struct insn *insn, unsigned distance,
                           unsigned size, bool write, u64 *linear)
{
    u64 ea = insn_ea(cpu, insn) + distance;
    if (insn->address_size != 8) ea &= size_mask(insn->address_size);
    return seg_linear(cpu, insn->seg, ea, size, write, linear);
}

bool vec_load_selected(struct vcpu *cpu, const struct insn *insn, union vec *to, u32 selected,
                       unsigned size, unsigned count)
{
    memset(to, 0, sizeof(*to));
    for (unsigned i = 0; i < count; i++) {
        u64 linear, value;
        if (!(selected >> i & 1)) continue;
        TRY(element_linear(cpu, insn, i * size, size, false, &linear));
        TRY(lin_read(cpu, linear, size, &value));
        vec_set_element(to, i, size, value);
    }
    return true;
}

bool vec_store_selected(struct vcpu *cpu, const struct insn *insn, const union vec *from,
                        u32 selected, unsigned size, unsigned count)
{
    u64 linear[32];
    for (unsigned i = 0; i < count; i++) {
        if (!(selected >> i & 1)) continue;
        TRY(element_linear(cpu, insn, i * size, size, true, &linear[i]));
        TRY(lin_probe_write(cpu, linear[i], size));
    }
    for (unsigned i = 0; i < count; i++)
        if (selected >> i & 1) TRY(lin_write(cpu, linear[i], size, vec_element(from, i, size)));
    return true;
}
