/*
 * Shifts, rotates, bit tests and scans, counts, CRC32.
 * Specification: Intel SDM vol. 2. Undefined flags as on Zen (alu.h); BSF and BSR of zero keep the
 * destination, clear the other flags and set PF by the number found.
 */
#include "cpu/alu.h"
#include "cpu/atomic.h"

/* --- shifts and rotates; operand[1] is 1, an immediate or CL --- */

static unsigned shift_count(u64 count, unsigned size)
{
    return count & (size == 8 ? 63 : 31);
}

/* Operand 0 and the masked count. */
static bool shift_operands(struct vcpu *cpu, const struct insn *insn, unsigned n, u64 *a,
                           unsigned *count)
{
    u64 c = cpu->regs[RCX];
    if (insn->operand[n].kind == OPERAND_IMMEDIATE) c = insn->imm;
    *count = shift_count((u8)c, insn->size);
    return operand_read_rmw(cpu, insn, 0, a);
}

/* Flags are computed before the write that may yet fail only in a device; put them back then. */
static bool write_or_undo(struct vcpu *cpu, const struct insn *insn, u64 r, u64 result, u64 aux)
{
    if (likely(operand_write(cpu, insn, 0, r))) return true;
    cpu->lf_result = result;
    cpu->lf_aux = aux;
    return false;
}

static bool shift(struct vcpu *cpu, const struct insn *insn, unsigned op)
{
    u64 a, result = cpu->lf_result, aux = cpu->lf_aux;
    unsigned count;
    TRY(shift_operands(cpu, insn, 1, &a, &count));
    u64 r = count ? alu_shift(cpu, op, a, count, insn->size) : a;
    return write_or_undo(cpu, insn, r, result, aux);
}

bool sem_SHL(struct vcpu *cpu, const struct insn *insn) { return shift(cpu, insn, OP_SHL); }
bool sem_SHR(struct vcpu *cpu, const struct insn *insn) { return shift(cpu, insn, OP_SHR); }
bool sem_SAR(struct vcpu *cpu, const struct insn *insn) { return shift(cpu, insn, OP_SAR); }

static bool rotate(struct vcpu *cpu, const struct insn *insn, unsigned op)
{
    u64 a, result = cpu->lf_result, aux = cpu->lf_aux;
    unsigned count;
    TRY(shift_operands(cpu, insn, 1, &a, &count));
    u64 r = count ? alu_rotate(cpu, op, a, count, insn->size) : a;
    return write_or_undo(cpu, insn, r, result, aux);
}

bool sem_ROL(struct vcpu *cpu, const struct insn *insn) { return rotate(cpu, insn, OP_ROL); }
bool sem_ROR(struct vcpu *cpu, const struct insn *insn) { return rotate(cpu, insn, OP_ROR); }

/* Through the carry: a rotation of bits + 1, a bit at a time (at most 63 times). */
bool sem_RCL(struct vcpu *cpu, const struct insn *insn)
{
    unsigned count, top = insn->size * 8 - 1;
    u64 a, result = cpu->lf_result, aux = cpu->lf_aux;
    TRY(shift_operands(cpu, insn, 1, &a, &count));
    if (!count) return operand_write(cpu, insn, 0, a);
    bool cf = flag_cf(cpu);
    for (unsigned i = insn->size < 4 ? count % (top + 2) : count; i--;) {
        bool out = a >> top & 1;
        a = (a << 1 | cf) & size_mask(insn->size);
        cf = out;
    }
    flags_set_cf_of(cpu, cf, cf ^ (a >> top & 1));
    return write_or_undo(cpu, insn, a, result, aux);
}

bool sem_RCR(struct vcpu *cpu, const struct insn *insn)
{
    unsigned count, top = insn->size * 8 - 1;
    u64 a, result = cpu->lf_result, aux = cpu->lf_aux;
    TRY(shift_operands(cpu, insn, 1, &a, &count));
    if (!count) return operand_write(cpu, insn, 0, a);
    bool cf = flag_cf(cpu);
    for (unsigned i = insn->size < 4 ? count % (top + 2) : count; i--;) {
        bool out = a & 1;
        a = a >> 1 | (u64)cf << top;
        cf = out;
    }
    flags_set_cf_of(cpu, cf, (a >> top ^ a >> (top - 1)) & 1);
    return write_or_undo(cpu, insn, a, result, aux);
}

/* Counts above 16 with 16-bit operands are undefined: the source repeats, as on Zen. */
static bool double_shift(struct vcpu *cpu, const struct insn *insn, bool left)
{
    unsigned count, size = insn->size, bits = size * 8;
    u64 a, b, r, result = cpu->lf_result, aux = cpu->lf_aux;
    TRY(operand_read(cpu, insn, 1, &b));
    TRY(shift_operands(cpu, insn, 2, &a, &count));
    if (!count) return operand_write(cpu, insn, 0, a);
    bool cf = false;
    if (count > bits) {
        unsigned n = count - bits;
        r = left ? b << n | b >> (bits - n) : b >> n | b << (bits - n);
    } else if (left) {
        cf = a >> (bits - count) & 1;
        r = count == bits ? b : a << count | b >> (bits - count);
    } else {
        cf = a >> (count - 1) & 1;
        r = count == bits ? b : a >> count | b << (bits - count);
    }
    r &= size_mask(size);
    bool of = left ? cf ^ (r >> (bits - 1) & 1) : (r >> (bits - 1) ^ r >> (bits - 2)) & 1;
    flags_logic(cpu, r, size);
    cpu->lf_aux = (cf ? AUX_CF : 0) | (cf != of ? AUX_PO : 0) | AUX_AF;
    return write_or_undo(cpu, insn, r, result, aux);
}

bool sem_SHLD(struct vcpu *cpu, const struct insn *insn) { return double_shift(cpu, insn, true); }
bool sem_SHRD(struct vcpu *cpu, const struct insn *insn) { return double_shift(cpu, insn, false); }

/* --- bit tests --- */

static u64 bit_set(u64 a, u64 mask) { return a | mask; }
static u64 bit_reset(u64 a, u64 mask) { return a & ~mask; }
static u64 bit_change(u64 a, u64 mask) { return a ^ mask; }

/* A register bit number reaches beyond a memory operand: it moves the address by whole operands. */
static bool bit_linear(struct vcpu *cpu, const struct insn *insn, u64 index, bool write,
                       u64 *linear)
{
    unsigned size = insn->size;
    u64 ea = insn_ea(cpu, insn);
    if (insn->operand[1].kind != OPERAND_IMMEDIATE) {
        i64 number = sign_extend(index, size);
        ea += (u64)((number >> (size == 8 ? 6 : size == 4 ? 5 : 4)) * size);
        ea &= size_mask(insn->address_size);
    }
    return seg_linear(cpu, insn->seg, ea, size, write, linear);
}

/* FN: NULL for BT. */
static bool bit_test(struct vcpu *cpu, const struct insn *insn, atomic_fn fn)
{
    unsigned size = insn->size;
    u64 index, a, linear;
    TRY(operand_read(cpu, insn, 1, &index));
    u64 mask = 1ull << (index & (size * 8 - 1));
    if (insn->operand[0].kind != OPERAND_MEMORY) {
        TRY(operand_read(cpu, insn, 0, &a));
        if (fn) operand_write(cpu, insn, 0, fn(a, mask));
    } else {
        TRY(bit_linear(cpu, insn, index, fn != NULL, &linear));
        if (insn->flags & INSN_LOCK) {
            TRY(atomic_update(cpu, linear, size, fn, mask, &a));
        } else {
            if (fn) TRY(tlb_probe(cpu, linear, size, true, (enum tlb_mode)cpu->tlb_mode));
            TRY(lin_read(cpu, linear, size, &a));
            if (fn) TRY(lin_write(cpu, linear, size, fn(a, mask)));
        }
    }
    flags_set_cf(cpu, (a & mask) != 0);
    return true;
}

bool sem_BT(struct vcpu *cpu, const struct insn *insn) { return bit_test(cpu, insn, NULL); }
bool sem_BTS(struct vcpu *cpu, const struct insn *insn) { return bit_test(cpu, insn, bit_set); }
bool sem_BTR(struct vcpu *cpu, const struct insn *insn) { return bit_test(cpu, insn, bit_reset); }
bool sem_BTC(struct vcpu *cpu, const struct insn *insn) { return bit_test(cpu, insn, bit_change); }

/* --- scans and counts --- */

static bool bit_scan(struct vcpu *cpu, const struct insn *insn, bool reverse)
{
    u64 a, found = 0;
    TRY(operand_read(cpu, insn, 1, &a));
    if (a) {
        found = (u64)(reverse ? 63 - __builtin_clzll(a) : __builtin_ctzll(a));
        operand_write(cpu, insn, 0, found);
    }
    flags_put(cpu, (a ? 0 : FLAG_ZF) | (__builtin_parity((unsigned)found) ? 0 : FLAG_PF));
    return true;
}

bool sem_BSF(struct vcpu *cpu, const struct insn *insn) { return bit_scan(cpu, insn, false); }
bool sem_BSR(struct vcpu *cpu, const struct insn *insn) { return bit_scan(cpu, insn, true); }

bool sem_POPCNT(struct vcpu *cpu, const struct insn *insn)
{
    u64 a;
    TRY(operand_read(cpu, insn, 1, &a));
    operand_write(cpu, insn, 0, (u64)__builtin_popcountll(a));
    flags_put(cpu, a ? 0 : FLAG_ZF);
    return true;
}

static bool count_zeros(struct vcpu *cpu, const struct insn *insn, bool leading)
{
    unsigned bits = insn->size * 8;
    u64 a, n = bits;
    TRY(operand_read(cpu, insn, 1, &a));
    if (a) n = (u64)(leading ? __builtin_clzll(a) - (int)(64 - bits) : __builtin_ctzll(a));
    operand_write(cpu, insn, 0, n);
    flags_put(cpu, (flags_get(cpu) & FLAG_OF) | (n ? 0 : FLAG_ZF) | (a ? 0 : FLAG_CF));
    return true;
}

bool sem_LZCNT(struct vcpu *cpu, const struct insn *insn) { return count_zeros(cpu, insn, true); }
bool sem_TZCNT(struct vcpu *cpu, const struct insn *insn) { return count_zeros(cpu, insn, false); }

/* CRC-32C, least significant bit first. */
bool sem_CRC32(struct vcpu *cpu, const struct insn *insn)
{
    u64 a, crc;
    TRY(operand_read(cpu, insn, 1, &a));
    TRY(operand_read(cpu, insn, 0, &crc));
    crc = (u32)crc;
    for (unsigned i = insn->operand[1].size; i--; a >>= 8) {
        crc ^= a & 0xff;
        for (unsigned bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
    }
    return operand_write(cpu, insn, 0, crc);
}
