/*
 * Decoded instructions to uops. An instruction that finds no uop becomes a HELPER: coverage is the
 * interpreter's by construction.
 *
 * In flat 32-bit and in 64-bit code the stack must have the code's width; other combinations, and what is
 * rare in 16-bit code, are helpers.
 */
#include "jit/jit_int.h"
#include "jit/x64_emit.h"

#define NO 0xff
#define ATTR_VECTORS (ATTR_SSE | ATTR_AVX | ATTR_MMX)

static bool is_gpr(const struct operand *o) { return o->kind == OPERAND_GPR; }
static bool is_high(const struct operand *o) { return o->kind == OPERAND_GPR8H; }
static bool is_mem(const struct operand *o) { return o->kind == OPERAND_MEMORY; }
static bool is_imm(const struct operand *o) { return o->kind == OPERAND_IMMEDIATE; }
/* R9..R11 have no host register of their own. */
static bool in_memory(const struct operand *o) { return is_gpr(o) && o->reg >= R9 && o->reg <= R11; }

/* Addresses the back end can make. */
static bool address_ok(const struct translation *t, const struct insn *i, bool write)
{
    if (i->disp != (i32)i->disp && (t->code_size == CODE64 || i->disp != (u32)i->disp)) return false;
    if (access_checked(t, i->seg, i->address_size)) return true;
    if (t->code_size == CODE64)
        return i->address_size == 8 || (i->seg < FS && i->base != REG_IP_BASE && i->base < R8 &&
                                        (i->index < R8 || i->index == REG_ZERO));
    return i->seg < FS && !(write && i->seg == CS);
}

static bool stack_ok(const struct translation *t, const struct insn *i)
{
    if (t->segmented) return i->size == 2 || i->size == 4;
    return i->size == (t->code_size == CODE64 ? 8 : 4) && t->stack_size == i->size;
}

/* --- the pieces of an encoding --- */
static bool rm_form(struct uop *u, unsigned map, unsigned opcode, unsigned size)
{
    u->op = UOP_RM;
    u->map = (u8)map;
    u->opcode = (u8)opcode;
    u->size = (u8)size;
    u->pp = size == 2 ? 1 : 0;
    u->w = size == 8;
    u->digit = u->reg = u->rm = u->vvvv = NO;
    return true;
}

static bool with_imm(struct uop *u, u64 imm, unsigned size)
{
    u->imm = imm;
    u->imm_size = (u8)size;
    return true;
}

static bool fields(struct uop *u, unsigned reg, unsigned rm, unsigned reads, unsigned writes)
{
    u->reg = (u8)reg;
    u->rm = (u8)rm;
    u->reads = (u8)reads;
    u->writes = (u8)writes;
    return true;
}

static bool digit(struct uop *u, unsigned n, unsigned rm, unsigned reads, unsigned writes)
{
    u->digit = (u8)n;
    return fields(u, NO, rm, reads, writes);
}

static bool fits8(u64 v) { return (i64)v == (i8)v; }

/* --- families --- */
static bool pick_alu(struct uop *u, const struct insn *i)
{
    unsigned wide = i->size != 1, writes = i->op != OP_CMP && i->op != OP_TEST;
    if (i->op == OP_TEST) {
        if (is_imm(&i->operand[1])) {
            rm_form(u, X64_ONE, 0xf6 + wide, i->size);
            digit(u, 0, 0, 1, 0);
            return with_imm(u, i->imm, i->size > 4 ? 4 : i->size);
        }
        rm_form(u, X64_ONE, 0x84 + wide, i->size);
        return is_mem(&i->operand[1]) ? fields(u, 0, 1, 3, 0) : fields(u, 1, 0, 3, 0);
    }
    unsigned k = i->op - OP_ADD;
    if (is_imm(&i->operand[1])) {
        bool small = wide && fits8((u64)sign_extend(i->imm, i->size));
        rm_form(u, X64_ONE, !wide ? 0x80 : small ? 0x83 : 0x81, i->size);
        digit(u, k, 0, 1, writes);
        return with_imm(u, i->imm, small || !wide ? 1 : i->size > 4 ? 4 : i->size);
    }
    if (is_mem(&i->operand[1])) {
        rm_form(u, X64_ONE, k * 8 + 2 + wide, i->size);
        return fields(u, 0, 1, 3, writes);
    }
    rm_form(u, X64_ONE, k * 8 + wide, i->size);
    return fields(u, 1, 0, 3, writes);
}

static bool pick_unary(struct uop *u, const struct insn *i)
{
    static const struct { u16 op; u8 opcode, digit; } table[] = {
        {OP_NOT, 0xf6, 2}, {OP_NEG, 0xf6, 3}, {OP_INC, 0xfe, 0}, {OP_DEC, 0xfe, 1},
        {OP_MUL, 0xf6, 4}, {OP_IMUL1, 0xf6, 5}};
    for (unsigned n = 0; n < ARRAY_SIZE(table); n++)
        if (table[n].op == i->op) {
            rm_form(u, X64_ONE, table[n].opcode + (i->size != 1), i->size);
            return digit(u, table[n].digit, 0, 1, n < 4);
        }
    return false;
}

static bool pick_mov(struct uop *u, const struct insn *i)
{
    unsigned wide = i->size != 1;
    if (is_imm(&i->operand[1])) {
        if (is_gpr(&i->operand[0]) && i->size == 8 && (i64)i->imm != (i32)i->imm) {
            u->op = UOP_MOVI64;
            return true;
        }
        rm_form(u, X64_ONE, 0xc6 + wide, i->size);
        digit(u, 0, 0, 0, 1);
        return with_imm(u, i->imm, i->size > 4 ? 4 : i->size);
    }
    if (is_mem(&i->operand[1])) {
        rm_form(u, X64_ONE, 0x8a + wide, i->size);
        return fields(u, 0, 1, 2, 1);
    }
    rm_form(u, X64_ONE, 0x88 + wide, i->size);
    return fields(u, 1, 0, 2, 1);
}

static bool pick_extend(struct uop *u, const struct insn *i)
{
    unsigned from = i->operand[1].size;
    if (i->op == OP_MOVSXD) {
        if (i->size != 8 || from != 4) return false;
        rm_form(u, X64_ONE, 0x63, 8);
    } else {
        if (from != 1 && from != 2) return false;
        rm_form(u, X64_0F, (i->op == OP_MOVZX ? 0xb6 : 0xbe) + (from == 2), i->size);
    }
    return fields(u, 0, 1, 2, 1);
}

static bool pick_shift(struct uop *u, const struct insn *i)
{
    static const u8 digits[] = {0, 1, 2, 3, 4, 5, 7}; /* ROL ROR RCL RCR SHL SHR SAR */
    unsigned k = digits[i->op - OP_ROL], wide = i->size != 1;
    bool rotate = i->op <= OP_RCR;
    if (is_imm(&i->operand[1])) {
        unsigned count = (unsigned)i->imm & (i->size == 8 ? 63 : 31);
        rm_form(u, X64_ONE, 0xc0 + wide, i->size);
        digit(u, k, 0, 1, 1);
        if (!count) u->fdef = 0;
        if (rotate) u->fdef &= FLAG_CF | FLAG_OF;
        return with_imm(u, count, 1);
    }
    rm_form(u, X64_ONE, 0xd2 + wide, i->size);
    u->fpartial = true;
    return digit(u, k, 0, 1, 1);
}

static bool pick_double_shift(struct uop *u, const struct insn *i)
{
    if (i->size == 2) return false;
    unsigned opcode = i->op == OP_SHLD ? 0xa4 : 0xac;
    bool imm = is_imm(&i->operand[2]);
    rm_form(u, X64_0F, opcode + !imm, i->size);
    fields(u, 1, 0, 3, 1);
    if (!imm) return u->fpartial = true;
    unsigned count = (unsigned)i->imm & (i->size == 8 ? 63 : 31);
    if (!count) u->fdef = 0;
    return with_imm(u, count, 1);
}

static bool pick_bt(struct uop *u, const struct insn *i)
{
    unsigned n = i->op - OP_BT, writes = n != 0;
    u->fdef = FLAG_CF; /* processors leave the others alone */
    if (is_imm(&i->operand[1])) {
        rm_form(u, X64_0F, 0xba, i->size);
        digit(u, 4 + n, 0, 1, writes);
        return with_imm(u, i->imm & (i->size * 8 - 1u), 1);
    }
    if (is_mem(&i->operand[0])) return false;
    rm_form(u, X64_0F, 0xa3 + n * 8, i->size);
    return fields(u, 1, 0, 3, writes);
}

static bool pick_scan(struct uop *u, const struct insn *i)
{
    static const u8 opcodes[] = {0xbc, 0xbd, 0xb8, 0xbd, 0xbc}; /* BSF BSR POPCNT LZCNT TZCNT */
    unsigned n = i->op - OP_BSF;
    rm_form(u, X64_0F, opcodes[n], i->size);
    if (n < 2) return u->fpartial = true, u->fuse = 0, fields(u, 0, 1, 3, 1);
    u->pp = X64_F3;
    if (i->size == 2) return false;
    return fields(u, 0, 1, 2, 1);
}

static bool pick_crc32(struct uop *u, const struct insn *i)
{
    unsigned from = i->operand[1].size;
    if (from == 2) return false;
    rm_form(u, X64_0F38, 0xf0 + (from != 1), from == 8 ? 8 : 4);
    u->pp = X64_F2;
    return fields(u, 0, 1, 3, 1);
}

static bool pick_bmi(struct uop *u, const struct insn *i)
{
    static const struct { u16 op; u8 map, opcode, pp, reg, vvvv, rm, digit, reads, writes; } table[] = {
        {OP_ANDN, X64_0F38, 0xf2, X64_NP, 0, 1, 2, NO, 6, 1},
        {OP_BEXTR, X64_0F38, 0xf7, X64_NP, 0, 2, 1, NO, 6, 1},
        {OP_BLSR, X64_0F38, 0xf3, X64_NP, NO, 0, 1, 1, 2, 1},
        {OP_BLSMSK, X64_0F38, 0xf3, X64_NP, NO, 0, 1, 2, 2, 1},
        {OP_BLSI, X64_0F38, 0xf3, X64_NP, NO, 0, 1, 3, 2, 1},
        {OP_BZHI, X64_0F38, 0xf5, X64_NP, 0, 2, 1, NO, 6, 1},
        {OP_PDEP, X64_0F38, 0xf5, X64_F2, 0, 1, 2, NO, 6, 1},
        {OP_PEXT, X64_0F38, 0xf5, X64_F3, 0, 1, 2, NO, 6, 1},
        {OP_MULX, X64_0F38, 0xf6, X64_F2, 0, 1, 2, NO, 4, 3},
        {OP_RORX, X64_0F3A, 0xf0, X64_F2, 0, NO, 1, NO, 2, 1},
        {OP_SARX, X64_0F38, 0xf7, X64_F3, 0, 2, 1, NO, 6, 1},
        {OP_SHLX, X64_0F38, 0xf7, X64_66, 0, 2, 1, NO, 6, 1},
        {OP_SHRX, X64_0F38, 0xf7, X64_F2, 0, 2, 1, NO, 6, 1}};
    for (unsigned n = 0; n < ARRAY_SIZE(table); n++) {
        if (table[n].op != i->op) continue;
        if (i->size < 4) return false;
        rm_form(u, table[n].map, table[n].opcode, i->size);
        u->vex = true;
        u->pp = table[n].pp;
        u->digit = table[n].digit;
        u->vvvv = table[n].vvvv;
        fields(u, table[n].reg, table[n].rm, table[n].reads, table[n].writes);
        return i->op != OP_RORX || with_imm(u, i->imm, 1);
    }
    return false;
}

static bool pick_atomic(struct uop *u, const struct insn *i)
{
    unsigned wide = i->size != 1;
    switch (i->op) {
    case OP_XCHG:
        rm_form(u, X64_ONE, 0x86 + wide, i->size);
        return is_mem(&i->operand[1]) ? fields(u, 0, 1, 3, 3) : fields(u, 1, 0, 3, 3);
    case OP_XADD:
        rm_form(u, X64_0F, 0xc0 + wide, i->size);
        return fields(u, 1, 0, 3, 3);
    case OP_CMPXCHG:
        rm_form(u, X64_0F, 0xb0 + wide, i->size);
        return fields(u, 1, 0, 3, 1);
    case OP_CMPXCHG8B:
    case OP_CMPXCHG16B:
        rm_form(u, X64_0F, 0xc7, 4);
        u->w = i->op == OP_CMPXCHG16B;
        u->msize = u->w ? 16 : 8;
        u->align = u->w ? 16 : 1;
        u->fdef = FLAG_ZF;
        u->access = UOP_READ | UOP_WRITE;
        return digit(u, 1, 0, 1, 1);
    default: return false;
    }
}

static bool bare(struct uop *u, unsigned pp, bool w, unsigned map, unsigned opcode, unsigned third)
{
    u->op = UOP_BARE;
    u->pp = (u8)pp;
    u->w = w;
    u->map = (u8)map;
    u->opcode = (u8)opcode;
    u->imm = third;
    u->imm_size = third != 0;
    return true;
}

static bool pick_stack(const struct translation *t, struct uop *u, const struct insn *i)
{
    if (!stack_ok(t, i)) return false;
    if (i->op == OP_LEAVE) {
        u->op = UOP_LEAVE;
        return i->size == t->stack_size;
    }
    if (i->op == OP_POP) {
        if (!is_gpr(&i->operand[0])) return false;
        u->op = UOP_POP;
        return i->operand[0].reg != RSP || i->size >= t->stack_size;
    } else if (is_mem(&i->operand[0])) {
        u->op = UOP_PUSHM;
        u->access = UOP_READ;
        u->msize = i->size;
    } else {
        if (is_imm(&i->operand[0]) && (i64)i->imm != (i32)i->imm && t->code_size == CODE64) return false;
        u->op = UOP_PUSH;
    }
    return true;
}

static bool pick_branch(const struct translation *t, struct uop *u, const struct insn *i)
{
    unsigned natural = ip_size(t);
    if (i->size != natural) return false;
    switch (i->op) {
    case OP_JMP: u->op = UOP_JMP; break;
    case OP_Jcc: u->op = UOP_JCC; break;
    case OP_LOOP:
    case OP_JCXZ: u->op = UOP_LOOP; break;
    case OP_CALL: u->op = UOP_CALL; break;
    case OP_RET: u->op = UOP_RET; break;
    case OP_JMP_INDIRECT: u->op = UOP_JMPI; break;
    case OP_CALL_INDIRECT: u->op = UOP_CALLI; break;
    default: return false;
    }
    bool stack = u->op == UOP_CALL || u->op == UOP_RET || u->op == UOP_CALLI;
    if (stack && t->stack_size != natural && !t->segmented) return false;
    if (u->op == UOP_RET) return !is_imm(&i->operand[0]) || (u16)i->imm == i->imm;
    if (u->op == UOP_JMPI || u->op == UOP_CALLI) {
        if (!is_mem(&i->operand[0])) return is_gpr(&i->operand[0]);
        u->access = UOP_READ;
        u->msize = (u8)natural;
        return true;
    }
    i64 off = (i64)(i->imm + i->pos + i->length);
    if (t->segmented) return unit_ip(t, off) <= t->last; /* else it faults */
    return off == (i32)off;
}

static bool pick_integer(const struct translation *t, struct uop *u, const struct insn *i)
{
    switch (i->op) {
    case OP_ADD ... OP_TEST: return pick_alu(u, i);
    case OP_NOT: case OP_NEG: case OP_INC: case OP_DEC: case OP_MUL: case OP_IMUL1:
        return pick_unary(u, i);
    case OP_IMUL:
        if (is_imm(&i->operand[2])) {
            rm_form(u, X64_ONE, 0x69, i->size);
            fields(u, 0, 1, 2, 1);
            return with_imm(u, i->imm, i->size > 4 ? 4 : i->size);
        }
        rm_form(u, X64_0F, 0xaf, i->size);
        return fields(u, 0, 2, 5, 1);
    case OP_DIV: case OP_IDIV:
        u->op = UOP_DIV;
        u->fdef = 0; /* left alone, as by the interpreter */
        return i->size >= 4 || (i->op == OP_DIV && !is_high(&i->operand[0]));
    case OP_MOV: return pick_mov(u, i);
    case OP_MOVZX: case OP_MOVSX: case OP_MOVSXD: return pick_extend(u, i);
    case OP_MOVBE:
        if (is_mem(&i->operand[1])) return rm_form(u, X64_0F38, 0xf0, i->size), fields(u, 0, 1, 2, 1);
        return rm_form(u, X64_0F38, 0xf1, i->size), fields(u, 1, 0, 2, 1);
    case OP_MOVNTI: return rm_form(u, X64_0F, 0xc3, i->size), fields(u, 1, 0, 2, 1);
    case OP_LEA: u->op = UOP_LEA; return i->size >= 4 || t->code_size != CODE64;
    case OP_BSWAP: u->op = UOP_BSWAP; return i->size >= 4;
    case OP_CBW: return bare(u, i->size == 2, i->size == 8, X64_ONE, 0x98, 0);
    case OP_CWD: return bare(u, i->size == 2, i->size == 8, X64_ONE, 0x99, 0);
    case OP_CMOVcc: return rm_form(u, X64_0F, 0x40 | i->cc, i->size), fields(u, 0, 1, 3, 1);
    case OP_SETcc: return rm_form(u, X64_0F, 0x90 | i->cc, 1), digit(u, 0, 0, 0, 1);
    case OP_PUSH: case OP_POP: case OP_LEAVE: return pick_stack(t, u, i);
    case OP_PUSH_SEG: u->op = UOP_PUSH; return stack_ok(t, i) && t->segmented;
    case OP_POP_SEG: u->op = UOP_LOAD_SEG; return loads_segment(t, i);
    case OP_MOV_SEG:
        if (i->operand[0].kind == OPERAND_SEGMENT) return u->op = UOP_LOAD_SEG, loads_segment(t, i);
        u->op = UOP_READ_SEG;
        return t->code_size != CODE64 && is_gpr(&i->operand[0]) && i->operand[1].reg <= GS;
    case OP_PUSHF: u->op = UOP_PUSHF; return stack_ok(t, i) && t->code_size == CODE64;
    case OP_CLI: u->op = UOP_CLI; return t->code_size == CODE64;
    case OP_STI: u->op = UOP_STI; return t->code_size == CODE64; /* never a node's last */
    case OP_LAHF: return bare(u, 0, false, X64_ONE, 0x9f, 0);
    case OP_SAHF: return bare(u, 0, false, X64_ONE, 0x9e, 0);
    case OP_CLC: return bare(u, 0, false, X64_ONE, 0xf8, 0);
    case OP_STC: return bare(u, 0, false, X64_ONE, 0xf9, 0);
    case OP_CMC: return bare(u, 0, false, X64_ONE, 0xf5, 0);
    case OP_MFENCE: return bare(u, 0, false, X64_0F, 0xae, 0xf0);
    case OP_LFENCE: return bare(u, 0, false, X64_0F, 0xae, 0xe8);
    case OP_SFENCE: return bare(u, 0, false, X64_0F, 0xae, 0xf8);
    case OP_NOP: u->op = UOP_NOP; u->access = 0; return true;
    case OP_ROL: case OP_ROR: case OP_RCL: case OP_RCR: case OP_SHL: case OP_SHR: case OP_SAR:
        return pick_shift(u, i);
    case OP_SHLD: case OP_SHRD: return pick_double_shift(u, i);
    case OP_BT: case OP_BTS: case OP_BTR: case OP_BTC: return pick_bt(u, i);
    case OP_BSF: case OP_BSR: case OP_POPCNT: case OP_LZCNT: case OP_TZCNT: return pick_scan(u, i);
    case OP_CRC32: return pick_crc32(u, i);
    case OP_ANDN ... OP_BZHI: case OP_PDEP ... OP_SHRX: return pick_bmi(u, i);
    case OP_XCHG: case OP_XADD: case OP_CMPXCHG: case OP_CMPXCHG8B: case OP_CMPXCHG16B:
        return pick_atomic(u, i);
    default: return pick_branch(t, u, i);
    }
}

/* --- vectors: the encoding is taken from the guest's bytes --- */

static bool vector_excluded(const struct insn *i)
{
    switch (i->op) {
    case OP_MASKMOVDQU: case OP_MASKMOVQ: case OP_LDMXCSR: case OP_FXSAVE:
    case OP_FXRSTOR: case OP_XSAVE: case OP_XRSTOR: case OP_XSAVEOPT: case OP_XSAVEC:
    case OP_XSAVES: case OP_XRSTORS: case OP_VMASKMOVPS: case OP_VMASKMOVPD: case OP_VPMASKMOVD:
    case OP_VPMASKMOVQ: case OP_VGATHERDPS ... OP_VPGATHERQQ: return true;
    default: break;
    }
    for (unsigned n = 0; n < 4; n++)
        if (is_high(&i->operand[n])) return true;
    return false;
}

static unsigned skip_prefixes(const u8 *b, bool code64, u8 *pp, u8 *rex)
{
    *rex = *pp = 0;
    for (unsigned n = 0; n < 15; n++) { /* more only when they were being written */
        switch (b[n]) {
        case 0x66:
            if (!*pp) *pp = X64_66;
            break;
        case 0xf2: *pp = X64_F2; break;
        case 0xf3: *pp = X64_F3; break;
        case 0x26: case 0x2e: case 0x36: case 0x3e: case 0x64: case 0x65: case 0x67: break;
        default:
            if (!code64 || (b[n] & 0xf0) != 0x40) return n;
            *rex = b[n];
            continue;
        }
        *rex = 0; /* it counts only right in front of the opcode */
    }
    return 15;
}

static unsigned modrm_length(const u8 *b)
{
    unsigned mod = b[0] >> 6, rm = b[0] & 7, n = 1;
    if (mod == 3) return n;
    if (rm == 4) {
        if ((b[1] & 7) == 5 && mod == 0) n += 4;
        n++;
    } else if (rm == 5 && mod == 0) n += 4;
    return n + (mod == 1 ? 1 : mod == 2 ? 4 : 0);
}

/* Fields that name general registers. */
static void vector_gprs(struct uop *u, const struct insn *i)
{
    bool any = false;
    for (unsigned n = 0; n < 4; n++) any |= is_gpr(&i->operand[n]);
    if (!any) return;
    bool in_reg = u->map == X64_0F && (u->opcode == 0x50 || u->opcode == 0xd7 || u->opcode == 0xc5 ||
                                       u->opcode == 0x2c || u->opcode == 0x2d);
    u->reg_gpr = in_reg;
    u->rm_gpr = !in_reg && !u->access;
}

static bool pick_vector(const struct translation *t, struct uop *u, const struct insn *i,
                        u32 attributes)
{
    const u8 *b = t->bytes + i->pos;
    u8 pp, rex;
    unsigned n = skip_prefixes(b, t->code_size == CODE64, &pp, &rex);
    unsigned r = rex << 1 & 8, rmx = rex << 3 & 8;
    u->w = rex >> 3 & 1;
    if (i->flags & INSN_VEX) {
        u->vex = true;
        unsigned b1 = b[n + 1], b2 = b1;
        u->map = 1;
        r = ~b1 >> 4 & 8;
        if (b[n] == 0xc4) {
            b2 = b[n + 2];
            u->map = b1 & 3;
            rmx = ~b1 >> 2 & 8;
            u->w = b2 >> 7;
            n++;
        }
        pp = b2 & 3;
        u->l = b2 >> 2 & 1;
        u->raw_vvvv = ~b2 >> 3 & 15;
        if (t->code_size != CODE64) u->raw_vvvv &= 7, r = rmx = 0;
        n += 2;
    } else {
        if (b[n++] != 0x0f) return false;
        u->map = X64_0F;
        if (b[n] == 0x38 || b[n] == 0x3a) u->map = b[n++] == 0x38 ? X64_0F38 : X64_0F3A;
    }
    u->op = UOP_VECTOR;
    u->wants_vectors = attributes & (ATTR_SSE | ATTR_AVX);
    u->wants_x87 = attributes & ATTR_MMX;
    u->pp = pp;
    u->opcode = b[n++];
    if (i->op == OP_VZEROUPPER || i->op == OP_VZEROALL) {
        u->digit = NO;
        u->imm_size = 0xff; /* no modrm */
        return t->code_size == CODE64; /* elsewhere the upper eight registers are not theirs */
    }
    u->raw_reg = (u8)(r | (b[n] >> 3 & 7));
    u->raw_rm = (u8)(rmx | (b[n] & 7));
    bool memory = b[n] < 0xc0;
    if (memory && i->address_size == 2) return false;
    n += modrm_length(b + n);
    if (n > i->length || i->length - n > 1 || memory != (u->access != 0)) return false;
    u->imm_size = (u8)(i->length - n);
    u->imm = u->imm_size ? b[n] : 0;
    bool named = i->operand[3].kind == OPERAND_VECTOR; /* a register in the immediate's high bits */
    if (named && t->code_size != CODE64) u->imm &= 0x7f;
    if (memory && u->msize != 1 && u->msize != 2 && u->msize != 4 && u->msize != 8 &&
        u->msize != 16 && u->msize != 32)
        return false;
    if (attributes & ATTR_ALIGNED) u->align = u->msize;
    if (!(i->flags & INSN_VEX) && u->msize == 16 && !(attributes & ATTR_UNALIGNED)) u->align = 16;
    vector_gprs(u, i);
    /* W means nothing to 32-bit code's general registers. */
    return !(u->w && t->code_size != CODE64 && (u->reg_gpr || u->rm_gpr || i->op == OP_MOVD_MOVQ ||
             i->op == OP_CVTSI2SS || i->op == OP_CVTSI2SD || (i->op >= OP_PINSRB && i->op <= OP_PEXTRQ)));
}

/* --- one instruction --- */

static void memory_access(struct uop *u, const struct insn *i)
{
    for (unsigned n = 0; n < 4 && i->operand[n].kind; n++) {
        if (!is_mem(&i->operand[n])) continue;
        u->msize = i->operand[n].size;
        u->access = UOP_READ;
        if (n) continue;
        switch (i->op) {
        case OP_CMP: case OP_TEST: case OP_BT: case OP_MUL: case OP_IMUL1: case OP_DIV: case OP_IDIV:
            break;
        default: u->access = insn_row(i->row)->attributes & ATTR_VECTORS
                                 ? UOP_WRITE : UOP_READ | UOP_WRITE;
        }
    }
    if (i->op == OP_XCHG && u->access) u->access = UOP_READ | UOP_WRITE;
    if (i->op == OP_LEA || i->op == OP_NOP) u->access = 0; /* prefetches, too */
}

/* High bytes need an encoding without REX; registers in memory need one of two scratch registers. */
static bool registers_ok(const struct translation *t, const struct uop *u, const struct insn *i)
{
    unsigned scratch = 0, high = 0, rex = 0;
    for (unsigned n = 0; n < 4 && i->operand[n].kind; n++) {
        const struct operand *o = &i->operand[n];
        high += is_high(o);
        rex |= is_gpr(o) && (o->reg >= 8 || o->reg == RSP);
        scratch |= (unsigned)in_memory(o) << (o->reg & 15);
    }
    unsigned slots = (scratch >> R9 & 1) + (scratch >> R10 & 1) + (scratch >> R11 & 1);
    /* Memory is reached through R10. In other code rm_lower has a way, unless AL is named by the operation. */
    bool at_memory = u->access && (t->code_size == CODE64 || i->op == OP_CMPXCHG);
    if (high && (rex || at_memory || (u->op != UOP_RM && u->op != UOP_NOP))) return false;
    return slots <= (u->access ? 1u : 2u);
}

static bool pick_repeat(const struct translation *t, struct uop *u, const struct insn *i)
{
    if ((i->op != OP_MOVS && i->op != OP_STOS && i->op != OP_LODS) || (i->flags & INSN_REPNE)) return false;
    u->op = i->flags & INSN_REP ? UOP_REPEAT : UOP_STRING;
    u->access = 0; /* two, through registers that it moves: no uop_address */
    if (i->op == OP_LODS && u->op == UOP_REPEAT) return false;
    if (t->code_size != CODE64) return u->op == UOP_STRING;
    return i->address_size == 8 && i->seg < FS;
}

static bool pick(const struct translation *t, struct uop *u, const struct insn *i,
                 const struct host_features *host)
{
    const struct insn_row *row = insn_row(i->row);
    bool locked = i->flags & INSN_LOCK;
    if (i->evex_mask || i->evex_flags || (i->flags & INSN_EVEX)) return false;
    if (pick_system(t, u, i)) return true;
    if (row->feature && !feature_on(&host->set, row->feature) && row->feature != FEATURE_LM) return false;
    memory_access(u, i);
    u->fdef = (u16)(row->flags_written | row->flags_undefined) & FLAGS_ARITHMETIC;
    u->fuse = row->flags_read & FLAGS_ARITHMETIC;
    u->lock = locked;
    if (row->attributes & ATTR_CPL0) return false;
    if ((row->attributes & ATTR_PROTECTED) && !(t->mode_key & MODE_PROTECTED)) return false;
    if (row->attributes & ATTR_REP) return pick_repeat(t, u, i);
    if ((row->attributes & ATTR_X87) || i->op == OP_EMMS) {
        u8 pp, rex;
        const u8 *b = t->bytes + i->pos;
        if (!pick_x87(u, i, b + skip_prefixes(b, t->code_size == CODE64, &pp, &rex))) return false;
    } else if (row->attributes & ATTR_VECTORS) {
        if ((row->attributes & ATTR_AVX) && !host->avx) return false;
        if (vector_excluded(i) || !pick_vector(t, u, i, row->attributes)) return false;
    } else if (!pick_integer(t, u, i)) {
        return false;
    }
    if (u->access && !address_ok(t, i, u->access & UOP_WRITE)) return false;
    if (u->op == UOP_LEA && (i->disp != (i32)i->disp || (i->address_size == 4 && t->code_size == CODE64)))
        return false;
    if (u->op == UOP_RM && u->access && !u->msize) return false;
    if (u->op == UOP_RM && u->rm != NO && !u->vex && is_mem(&i->operand[u->rm]) != (u->access != 0))
        return false;
    return registers_ok(t, u, i);
}

/* Not of SS, behind which interrupts wait; nor where segments might become flat. */
bool loads_segment(const struct translation *t, const struct insn *i)
{
    const struct operand *to = &i->operand[0];
    if (!t->segmented || (t->mode_key & MODE_PROTECTED) || t->last == 0xffffffff) return false;
    if (to->kind != OPERAND_SEGMENT || to->reg == CS || to->reg == SS || to->reg > GS) return false;
    return i->op == OP_POP_SEG ? i->size == 2 || i->size == 4 : i->op == OP_MOV_SEG && is_gpr(&i->operand[1]);
}

/* --- registers written --- */

static u16 general(const struct operand *o)
{
    if (o->kind == OPERAND_GPR) return (u16)(1u << o->reg);
    return o->kind == OPERAND_GPR8H ? (u16)(1u << (o->reg & 3)) : 0;
}

#define BIT(reg) (1u << (reg))

static u16 kills(const struct uop *u)
{
    const struct insn *i = u->insn;
    u16 regs = 0;
    switch (u->op) {
    case UOP_RM:
        for (unsigned n = 0; n < 4; n++)
            if (u->writes >> n & 1) regs |= general(&i->operand[n]);
        if (i->op == OP_MUL || i->op == OP_IMUL1 || i->op == OP_CMPXCHG8B || i->op == OP_CMPXCHG16B)
            regs |= BIT(RAX) | BIT(RDX);
        if (i->op == OP_CMPXCHG) regs |= BIT(RAX);
        return regs;
    case UOP_VECTOR:
    case UOP_LEA:
    case UOP_BSWAP:
    case UOP_READ_CR:
    case UOP_READ_SEG:
    case UOP_MOVI64: return general(&i->operand[0]);
    case UOP_X87: return i->op == OP_FNSTSW ? BIT(RAX) : 0;
    case UOP_BARE:
    case UOP_DIV: return BIT(RAX) | BIT(RDX);
    case UOP_POP: return (u16)(general(&i->operand[0]) | BIT(RSP));
    case UOP_LEAVE: return BIT(RBP) | BIT(RSP);
    case UOP_PUSH:
    case UOP_PUSHM:
    case UOP_PUSHF:
    case UOP_CALL:
    case UOP_CALLI:
    case UOP_RET: return BIT(RSP);
    case UOP_LOAD_SEG: return i->op == OP_POP_SEG ? BIT(RSP) : 0;
    case UOP_LOOP: return BIT(RCX);
    case UOP_STRING: return BIT(RSI) | BIT(RDI) | (i->op == OP_LODS ? BIT(RAX) : 0);
    case UOP_REPEAT: return BIT(RCX) | BIT(RSI) | BIT(RDI);
    case UOP_TRANSFER:
    case UOP_HELPER:
    case UOP_HELPER_END: return 0xffff;
    default: return 0;
    }
}

void uop_select(const struct translation *t, struct uop *u, const struct host_features *host, bool no_vectors,
                bool last)
{
    const struct insn *i = u->insn;
    u8 index = u->index;
    bool plain = !(insn_row(i->row)->attributes & (ATTR_VECTORS | ATTR_X87));
    bool may = (plain || !no_vectors) && !(last && i->op == OP_STI);
    if (!may || !pick(t, u, i, host))
        *u = (struct uop){.insn = i, .index = index,
                          .op = i->flags & INSN_ENDS_BLOCK ? UOP_HELPER_END : UOP_HELPER};
    u->avx = u->wants_vectors && (insn_row(i->row)->attributes & ATTR_AVX);
    u->kills = kills(u);
}

const char *uop_name(unsigned op)
{
    static const char *const names[] = {
#define UOP(name, what) #name,
#include "jit/uop.def"
#undef UOP
    };
    return op < ARRAY_SIZE(names) ? names[op] : "?";
}
