/*
 * Integer arithmetic, logic, moves and the stack: the generic semantics, any operand form and size.
 * Specification: Intel SDM vol. 2. Undefined flags as alu.h says.
 */
#include "cpu/alu.h"
#include "cpu/atomic.h"

static bool is_locked(const struct insn *insn)
{
    return unlikely(insn->flags & INSN_LOCK);
}

/* --- ADD OR ADC SBB AND SUB XOR CMP TEST --- */

static u64 locked_add(u64 a, u64 b) { return a + b; }
static u64 locked_sub(u64 a, u64 b) { return a - b; }
static u64 locked_or(u64 a, u64 b) { return a | b; }
static u64 locked_and(u64 a, u64 b) { return a & b; }
static u64 locked_xor(u64 a, u64 b) { return a ^ b; }

static bool alu_locked(struct vcpu *cpu, const struct insn *insn, unsigned op, u64 b, u64 *a)
{
    static const atomic_fn fn[] = {
        [OP_ADD] = locked_add, [OP_ADC] = locked_add, [OP_SBB] = locked_sub, [OP_SUB] = locked_sub,
        [OP_OR] = locked_or,   [OP_AND] = locked_and, [OP_XOR] = locked_xor};
    bool carry = (op == OP_ADC || op == OP_SBB) && flag_cf(cpu);
    return atomic_operand(cpu, insn, insn->operand[0].size, fn[op], b + carry, a);
}

static ALWAYS_INLINE bool alu_generic(struct vcpu *cpu, const struct insn *insn, unsigned op)
{
    unsigned size = insn->size;
    u64 a, b;
    TRY(operand_read(cpu, insn, 1, &b));
    if (op != OP_CMP && op != OP_TEST && is_locked(insn)) {
        TRY(alu_locked(cpu, insn, op, b, &a));
        alu_flags(cpu, op, a, b, alu_result(cpu, op, a, b), size);
        return true;
    }
    if (op == OP_CMP || op == OP_TEST) TRY(operand_read(cpu, insn, 0, &a));
    else TRY(operand_read_rmw(cpu, insn, 0, &a));
    u64 r = alu_result(cpu, op, a, b);
    if (op != OP_CMP && op != OP_TEST) TRY(operand_write(cpu, insn, 0, r));
    alu_flags(cpu, op, a, b, r, size);
    return true;
}

#define ALU(op) \
    bool sem_##op(struct vcpu *cpu, const struct insn *insn) \
    { \
        return alu_generic(cpu, insn, OP_##op); \
    }
ALU(ADD)
ALU(OR)
ALU(ADC)
ALU(SBB)
ALU(AND)
ALU(SUB)
ALU(XOR)
ALU(CMP)
ALU(TEST)

/* --- one operand --- */

static u64 locked_not(u64 a, u64 b) { return (void)b, ~a; }
static u64 locked_neg(u64 a, u64 b) { return (void)b, -a; }

static bool read_for_update(struct vcpu *cpu, const struct insn *insn, atomic_fn fn, u64 b, u64 *a)
{
    if (is_locked(insn)) return atomic_operand(cpu, insn, insn->size, fn, b, a);
    return operand_read_rmw(cpu, insn, 0, a);
}

static bool write_back(struct vcpu *cpu, const struct insn *insn, u64 r)
{
    return is_locked(insn) || operand_write(cpu, insn, 0, r);
}

bool sem_NOT(struct vcpu *cpu, const struct insn *insn)
{
    u64 a;
    TRY(read_for_update(cpu, insn, locked_not, 0, &a));
    return write_back(cpu, insn, ~a);
}

bool sem_NEG(struct vcpu *cpu, const struct insn *insn)
{
    u64 a;
    TRY(read_for_update(cpu, insn, locked_neg, 0, &a));
    TRY(write_back(cpu, insn, -a));
    flags_sub(cpu, 0, a, -a, insn->size);
    return true;
}

bool sem_INC(struct vcpu *cpu, const struct insn *insn)
{
    u64 a;
    TRY(read_for_update(cpu, insn, locked_add, 1, &a));
    TRY(write_back(cpu, insn, a + 1));
    alu_step_flags(cpu, a + 1, true, insn->size);
    return true;
}

bool sem_DEC(struct vcpu *cpu, const struct insn *insn)
{
    u64 a;
    TRY(read_for_update(cpu, insn, locked_sub, 1, &a));
    TRY(write_back(cpu, insn, a - 1));
    alu_step_flags(cpu, a - 1, false, insn->size);
    return true;
}

/* --- moves --- */

bool sem_MOV(struct vcpu *cpu, const struct insn *insn)
{
    u64 value;
    TRY(operand_read(cpu, insn, 1, &value));
    return operand_write(cpu, insn, 0, value);
}

bool sem_MOVNTI(struct vcpu *cpu, const struct insn *insn)
{
    return sem_MOV(cpu, insn);
}

bool sem_MOVZX(struct vcpu *cpu, const struct insn *insn)
{
    return sem_MOV(cpu, insn);
}

bool sem_MOVSX(struct vcpu *cpu, const struct insn *insn)
{
    u64 value;
    TRY(operand_read(cpu, insn, 1, &value));
    return operand_write(cpu, insn, 0, (u64)sign_extend(value, insn->operand[1].size));
}

bool sem_MOVSXD(struct vcpu *cpu, const struct insn *insn)
{
    return sem_MOVSX(cpu, insn);
}

static u64 byte_swap(u64 v, unsigned size)
{
    return size == 8 ? __builtin_bswap64(v)
                     : size == 4 ? __builtin_bswap32((u32)v) : __builtin_bswap16((u16)v);
}

bool sem_MOVBE(struct vcpu *cpu, const struct insn *insn)
{
    u64 value;
    TRY(operand_read(cpu, insn, 1, &value));
    return operand_write(cpu, insn, 0, byte_swap(value, insn->size));
}

/* Of 16 bits it is undefined; processors give zero. */
bool sem_BSWAP(struct vcpu *cpu, const struct insn *insn)
{
    u64 value;
    operand_read(cpu, insn, 0, &value);
    return operand_write(cpu, insn, 0, insn->size == 2 ? 0 : byte_swap(value, insn->size));
}

bool sem_LEA(struct vcpu *cpu, const struct insn *insn)
{
    gpr_write(cpu, insn->operand[0].reg, insn->size, insn_ea(cpu, insn));
    return true;
}

bool sem_CBW(struct vcpu *cpu, const struct insn *insn)
{
    gpr_write(cpu, RAX, insn->size, (u64)sign_extend(cpu->regs[RAX], insn->size / 2));
    return true;
}

bool sem_CWD(struct vcpu *cpu, const struct insn *insn)
{
    gpr_write(cpu, RDX, insn->size, (u64)(sign_extend(cpu->regs[RAX], insn->size) >> 63));
    return true;
}

bool sem_XLAT(struct vcpu *cpu, const struct insn *insn)
{
    u64 ea = (cpu->regs[RBX] + (u8)cpu->regs[RAX]) & size_mask(insn->address_size), linear, value;
    TRY(seg_linear(cpu, insn->seg, ea, 1, false, &linear));
    TRY(lin_read(cpu, linear, 1, &value));
    gpr_write(cpu, RAX, 1, value);
    return true;
}

/* The source is read, and a 32-bit destination widened, whatever the condition says. */
bool sem_CMOVcc(struct vcpu *cpu, const struct insn *insn)
{
    u64 value;
    TRY(operand_read(cpu, insn, 1, &value));
    if (!flags_condition(cpu, insn->cc)) operand_read(cpu, insn, 0, &value);
    return operand_write(cpu, insn, 0, value);
}

bool sem_SETcc(struct vcpu *cpu, const struct insn *insn)
{
    return operand_write(cpu, insn, 0, flags_condition(cpu, insn->cc));
}

bool sem_NOP(struct vcpu *cpu, const struct insn *insn)
{
    (void)cpu, (void)insn;
    return true;
}

bool sem_PAUSE(struct vcpu *cpu, const struct insn *insn)
{
    (void)cpu, (void)insn;
    return true;
}

/* --- stack --- */

bool sem_PUSH(struct vcpu *cpu, const struct insn *insn)
{
    u64 value;
    TRY(operand_read(cpu, insn, 0, &value));
    return stack_push(cpu, insn->size, value);
}

/* A memory destination's address is computed with the stack pointer already moved. */
bool sem_POP(struct vcpu *cpu, const struct insn *insn)
{
    u64 value, sp = cpu->regs[RSP];
    TRY(stack_pop(cpu, insn->size, &value));
    if (operand_write(cpu, insn, 0, value)) return true;
    cpu->regs[RSP] = sp;
    return false;
}

/* Highest first: AX CX DX BX SP BP SI DI. What lies below the stack pointer may be written
 * twice. */
bool sem_PUSHA(struct vcpu *cpu, const struct insn *insn)
{
    unsigned size = insn->size;
    for (unsigned i = 8; i--;)
        TRY(stack_write_at(cpu, -(i64)(size * (i + 1)), size, gpr_read(cpu, i, size)));
    stack_move(cpu, -(i64)(size * 8));
    return true;
}

bool sem_POPA(struct vcpu *cpu, const struct insn *insn)
{
    unsigned size = insn->size;
    u64 value[8];
    for (unsigned i = 0; i < 8; i++) TRY(stack_read_at(cpu, size * i, size, &value[7 - i]));
    for (unsigned i = 0; i < 8; i++)
        if (i != RSP) gpr_write(cpu, i, size, value[i]);
    stack_move(cpu, size * 8);
    return true;
}

static bool stack_read_bp(struct vcpu *cpu, u64 bp, unsigned size, u64 *value)
{
    u64 linear;
    TRY(seg_linear(cpu, SS, bp & size_mask(cpu->stack_size), size, false, &linear));
    return lin_read(cpu, linear, size, value);
}

static bool enter_pushes(struct vcpu *cpu, unsigned size, unsigned level, u64 *frame)
{
    u64 bp = cpu->regs[RBP], value;
    TRY(stack_push(cpu, size, gpr_read(cpu, RBP, size)));
    *frame = cpu->regs[RSP];
    for (unsigned i = 1; i < level; i++) {
        bp -= size;
        TRY(stack_read_bp(cpu, bp, size, &value));
        TRY(stack_push(cpu, size, value));
    }
    return !level || stack_push(cpu, size, *frame & size_mask(size));
}

/* imm: bytes of locals, imm2: nesting level. The last step probes the new top of stack. */
bool sem_ENTER(struct vcpu *cpu, const struct insn *insn)
{
    u64 sp = cpu->regs[RSP], frame;
    u16 locals = (u16)insn->imm;
    if (!enter_pushes(cpu, insn->size, insn->imm2 & 31, &frame)) {
        cpu->regs[RSP] = sp;
        return false;
    }
    if (!stack_probe_write(cpu, -(i64)locals, insn->size)) {
        cpu->regs[RSP] = sp;
        return false;
    }
    stack_move(cpu, -(i64)locals);
    gpr_write(cpu, RBP, insn->size, frame);
    return true;
}

bool sem_LEAVE(struct vcpu *cpu, const struct insn *insn)
{
    u64 value;
    TRY(stack_read_bp(cpu, cpu->regs[RBP], insn->size, &value));
    gpr_write(cpu, RSP, cpu->stack_size, cpu->regs[RBP]);
    stack_move(cpu, insn->size);
    gpr_write(cpu, RBP, insn->size, value);
    return true;
}

/* --- flags --- */

bool sem_LAHF(struct vcpu *cpu, const struct insn *insn)
{
    (void)insn;
    cpu->regs[RAX] = (cpu->regs[RAX] & ~0xff00ull) | (u64)((flags_get(cpu) & 0xff) | 2) << 8;
    return true;
}

bool sem_SAHF(struct vcpu *cpu, const struct insn *insn)
{
    (void)insn;
    u32 ah = cpu->regs[RAX] >> 8 & (FLAG_SF | FLAG_ZF | FLAG_AF | FLAG_PF | FLAG_CF);
    flags_put(cpu, (flags_get(cpu) & FLAG_OF) | ah);
    return true;
}

bool sem_CLC(struct vcpu *cpu, const struct insn *insn)
{
    (void)insn;
    flags_set_cf(cpu, false);
    return true;
}

bool sem_STC(struct vcpu *cpu, const struct insn *insn)
{
    (void)insn;
    flags_set_cf(cpu, true);
    return true;
}

bool sem_CMC(struct vcpu *cpu, const struct insn *insn)
{
    (void)insn;
    flags_set_cf(cpu, !flag_cf(cpu));
    return true;
}

bool sem_CLD(struct vcpu *cpu, const struct insn *insn)
{
    (void)insn;
    cpu->eflags &= ~(u32)FLAG_DF;
    return true;
}

bool sem_STD(struct vcpu *cpu, const struct insn *insn)
{
    (void)insn;
    cpu->eflags |= FLAG_DF;
    return true;
}

/* ADCX carries through CF, ADOX through OF; neither touches another flag. */
static bool add_one_flag(struct vcpu *cpu, const struct insn *insn, bool overflow)
{
    bool cf = flag_cf(cpu), of = flag_of(cpu), carry = overflow ? of : cf;
    u64 a, b, r;
    TRY(operand_read(cpu, insn, insn->operand[2].kind ? 2 : 1, &b));
    TRY(operand_read(cpu, insn, 0, &a));
    if (insn->size == 8) {
        bool first = __builtin_add_overflow(a, b, &r);
        carry = __builtin_add_overflow(r, (u64)carry, &r) | first;
    } else {
        r = a + b + carry;
        carry = r >> 32;
    }
    operand_write(cpu, insn, 0, r);
    if (overflow) flags_set_cf_of(cpu, cf, carry);
    else flags_set_cf_of(cpu, carry, of);
    return true;
}

bool sem_ADCX(struct vcpu *cpu, const struct insn *insn)
{
    return add_one_flag(cpu, insn, false);
}

bool sem_ADOX(struct vcpu *cpu, const struct insn *insn)
{
    return add_one_flag(cpu, insn, true);
}
