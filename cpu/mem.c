/*
 * Guest memory by segment and by the byte, and the stack.
 * Specification: Intel SDM vol. 3 ch. 5.3 (limits), 5.5-5.7 (rights), 3.3.7.1 (canonical addresses).
 */
#include "cpu/mem.h"

/* --- segments --- */

static bool segment_fault(struct vcpu *cpu, unsigned seg)
{
    return cpu_fault_error(cpu, seg == SS ? VECTOR_SS : VECTOR_GP, 0);
}

static bool segment_allows(const struct segment *s, bool write)
{
    if ((s->attr & (SEG_UNUSABLE | SEG_P)) != SEG_P) return false;
    if (s->attr & SEG_CODE) return !write && (s->attr & SEG_READABLE);
    return !write || (s->attr & SEG_WRITABLE);
}

static bool segment_contains(const struct segment *s, u64 ea, unsigned size)
{
    u64 last = ea + size - 1;
    if (!(s->attr & SEG_CODE) && (s->attr & SEG_EXPAND_DOWN))
        return ea > s->limit && last <= (s->attr & SEG_DB ? 0xffffffffu : 0xffffu);
    return last <= s->limit;
}

bool seg_linear_slow(struct vcpu *cpu, unsigned seg, u64 ea, unsigned size, bool write, u64 *linear)
{
    const struct segment *s = &cpu->seg[seg];
    if (cpu->code_size == CODE64) {
        *linear = ea + (seg >= FS ? s->base : 0);
        return true;
    }
    if (unlikely(!segment_allows(s, write) || !segment_contains(s, ea, size ? size : 1)))
        return segment_fault(cpu, seg);
    *linear = (u32)(s->base + ea);
    return true;
}

/* --- blocks --- */

static bool in_one_page(u64 linear, unsigned size)
{
    return (linear & (PAGE_SIZE - 1)) + size <= PAGE_SIZE;
}

bool lin_read_bytes(struct vcpu *cpu, u64 linear, void *to, unsigned size)
{
    struct tlb_entry *e = tlb_slot(cpu->tlb_now, linear);
    if (likely(((linear + size - 1) & PAGE_MASK) ==
                   atomic_load_explicit(&e->tag_read, memory_order_relaxed) &&
               size <= PAGE_SIZE)) {
        guest_copy(to, (const void *)(uintptr_t)(linear + e->addend), size);
        return true;
    }
    if (size <= 64) return tlb_read_slow(cpu, linear, to, size, cpu->tlb_mode);
    for (unsigned i = 0; i < size; i += 64)
        TRY(tlb_read_slow(cpu, linear + i, (u8 *)to + i, size - i < 64 ? size - i : 64,
                          cpu->tlb_mode));
    return true;
}

bool lin_write_bytes(struct vcpu *cpu, u64 linear, const void *from, unsigned size)
{
    struct tlb_entry *e = tlb_slot(cpu->tlb_now, linear);
    if (likely(((linear + size - 1) & PAGE_MASK) ==
                   atomic_load_explicit(&e->tag_write, memory_order_relaxed) &&
               size <= PAGE_SIZE)) {
        guest_copy((void *)(uintptr_t)(linear + e->addend), from, size);
        return true;
    }
    if (size <= 64) return tlb_write_slow(cpu, linear, from, size, cpu->tlb_mode);
    if (!in_one_page(linear, size)) { /* else the first piece tells */
        for (u64 i = 0; i < size; i += PAGE_SIZE) TRY(tlb_probe(cpu, linear + i, 1, true, cpu->tlb_mode));
        TRY(tlb_probe(cpu, linear + size - 1, 1, true, cpu->tlb_mode));
    }
    for (unsigned i = 0; i < size; i += 64)
        TRY(tlb_write_slow(cpu, linear + i, (const u8 *)from + i, size - i < 64 ? size - i : 64,
                           cpu->tlb_mode));
    return true;
}

static bool aligned_linear(struct vcpu *cpu, const struct insn *insn, unsigned size, unsigned align,
                           bool write, u64 *linear)
{
    TRY(mem_linear(cpu, insn, size, write, linear));
    if (align && unlikely(*linear & (align - 1))) return cpu_gp0(cpu);
    return true;
}

bool mem_read_bytes(struct vcpu *cpu, const struct insn *insn, void *to, unsigned size, unsigned align)
{
    u64 linear;
    TRY(aligned_linear(cpu, insn, size, align, false, &linear));
    return lin_read_bytes(cpu, linear, to, size);
}

bool mem_write_bytes(struct vcpu *cpu, const struct insn *insn, const void *from, unsigned size,
                     unsigned align)
{
    u64 linear;
    TRY(aligned_linear(cpu, insn, size, align, true, &linear));
    return lin_write_bytes(cpu, linear, from, size);
}

bool mem_read_vec(struct vcpu *cpu, const struct insn *insn, union vec *to, unsigned size,
                  unsigned align)
{
    u8 bytes[64] = {0};
    if (size > sizeof(bytes)) size = sizeof(bytes);
    TRY(mem_read_bytes(cpu, insn, bytes, size, align));
    for (unsigned i = 0; i < 8; i++) to->q[i] = ld64(bytes + i * 8);
    return true;
}

bool mem_write_vec(struct vcpu *cpu, const struct insn *insn, const union vec *from, unsigned size,
                   unsigned align)
{
    u8 bytes[64];
    if (size > sizeof(bytes)) size = sizeof(bytes);
    for (unsigned i = 0; i < (size + 7) / 8; i++) st64(bytes + i * 8, from->q[i]);
    return mem_write_bytes(cpu, insn, bytes, size, align);
}

/* --- stack --- */

static bool stack_linear(struct vcpu *cpu, i64 offset, unsigned size, bool write, u64 *linear)
{
    u64 sp = cpu->regs[RSP] + (u64)offset;
    if (likely(cpu->stack_size == 8)) {
        *linear = sp;
        if (unlikely(!cpu_is_canonical(sp) || !cpu_is_canonical(sp + size - 1)))
            return cpu_fault_error(cpu, VECTOR_SS, 0);
        return true;
    }
    return seg_linear(cpu, SS, cpu->stack_size == 4 ? (u32)sp : (u16)sp, size, write, linear);
}

bool stack_read_at(struct vcpu *cpu, i64 offset, unsigned size, u64 *value)
{
    u64 linear;
    TRY(stack_linear(cpu, offset, size, false, &linear));
    return lin_read(cpu, linear, size, value);
}

bool stack_write_at(struct vcpu *cpu, i64 offset, unsigned size, u64 value)
{
    u64 linear;
    TRY(stack_linear(cpu, offset, size, true, &linear));
    return lin_write(cpu, linear, size, value);
}

bool stack_probe_write(struct vcpu *cpu, i64 offset, unsigned size)
{
    u64 linear;
    TRY(stack_linear(cpu, offset, size, true, &linear));
    return tlb_probe(cpu, linear, size, true, cpu->tlb_mode);
}

bool stack_push(struct vcpu *cpu, unsigned size, u64 value)
{
    TRY(stack_write_at(cpu, -(i64)size, size, value));
    stack_move(cpu, -(i64)size);
    return true;
}

bool stack_pop(struct vcpu *cpu, unsigned size, u64 *value)
{
    TRY(stack_read_at(cpu, 0, size, value));
    stack_move(cpu, size);
    return true;
}
