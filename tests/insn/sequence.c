/* See sequence.h. */
#include "tests/insn/sequence.h"

#include "cpu/cpu.h"

#include <capstone/capstone.h>
#include <stdio.h>

/* --- what is left out: leaves, waits, tells the harness's own, or is chance --- */
// clang-format off
static const u16 excluded[] = {
    OP_SYSCALL, OP_SYSENTER, OP_SYSEXIT, OP_SYSRET, OP_INT, OP_INT3, OP_INT1, OP_INTO, OP_IRET,
    OP_CALL_FAR, OP_JMP_FAR, OP_RET_FAR, OP_RSM, OP_POPF, OP_SGDT, OP_SIDT, OP_SLDT, OP_STR,
    OP_SMSW, OP_LAR, OP_LSL, OP_VERR, OP_VERW, OP_MOV_SEG, OP_PUSH_SEG, OP_POP_SEG, OP_LDS, OP_LES,
    OP_LFS, OP_LGS, OP_LSS, OP_CPUID, OP_RDTSC, OP_RDTSCP, OP_RDPMC, OP_RDPID, OP_VMCALL,
    OP_VMMCALL, OP_XGETBV, OP_RDRAND, OP_RDSEED, OP_MONITOR, OP_MWAIT, OP_CLAC, OP_STAC,
    OP_RDFSBASE, OP_RDGSBASE, OP_WRFSBASE, OP_WRGSBASE, OP_FXSAVE, OP_FXRSTOR, OP_XSAVE, OP_XRSTOR,
    OP_XSAVEOPT, OP_XSAVEC, OP_XSAVES, OP_XRSTORS, OP_IN, OP_OUT, OP_INS, OP_OUTS, OP_CLI, OP_STI,
    OP_ENTER, OP_LEAVE, OP_BOUND, OP_ARPL, OP_JMP, OP_Jcc, OP_CALL, OP_RET, OP_JMP_INDIRECT,
    OP_CALL_INDIRECT, OP_LOOP, OP_LOOPE, OP_LOOPNE, OP_JCXZ, OP_LDMXCSR, OP_FLDCW, OP_FLDENV,
    OP_FRSTOR, OP_FNINIT, OP_CLTS, OP_HLT, OP_UD};
/* Their flags are undefined and differ between engines: others are set behind them. */
static const u16 vague[] = {OP_MUL, OP_IMUL1, OP_IMUL, OP_DIV, OP_IDIV, OP_SHLD, OP_SHRD, OP_LZCNT,
                            OP_TZCNT, OP_BEXTR,
    OP_BSF, OP_BSR, OP_BZHI, OP_DAA, OP_DAS, OP_AAA, OP_AAS, OP_AAM, OP_AAD, OP_SHL, OP_SHR, OP_SAR,
    OP_ROL, OP_ROR, OP_RCL, OP_RCR};
// clang-format on

static bool among(const u16 *list, unsigned count, unsigned op)
{
    for (unsigned i = 0; i < count; i++)
        if (list[i] == op) return true;
    return false;
}

/* --- one instruction --- */

struct maker {
    struct rng *rng;
    const struct sequence_place *place;
    bool code64, code16;
    u32 known;     /* registers that hold an address of the data pages, a bit each */
    u32 small;     /* that hold a small number */
};

static void put(struct piece *p, const void *bytes, unsigned n)
{
    if (p->length + n > sizeof(p->bytes)) return;
    memcpy(p->bytes + p->length, bytes, n);
    p->length = (u8)(p->length + n);
}

static void put_mov(const struct maker *m, struct piece *p, unsigned reg, u64 value)
{
    u8 bytes[12];
    unsigned n = 0, wide = value >> 32 != 0;
    if (m->code16) bytes[n++] = 0x66;
    if (reg >= 8 || wide) bytes[n++] = (u8)(0x40 | wide << 3 | (reg >= 8));
    bytes[n++] = (u8)(0xb8 | (reg & 7));
    st64(bytes + n, value);
    put(p, bytes, n + (wide ? 8 : 4));
}

/* Mostly good, sometimes across pages, misaligned, or on the pages that fault. */
static u64 some_address(struct maker *m, bool aligned)
{
    if (m->place->address && rng_below(m->rng, 2)) return m->place->address(m->rng, m->code64);
    u32 offset = rng_below(m->rng, m->place->data_size / 2);
    switch (rng_below(m->rng, 16)) {
    case 0: offset = (offset & ~0xfffu) - 8 + rng_below(m->rng, 16); break;
    case 1: offset = rng_below(m->rng, m->place->data_size); break;
    default: offset = 0x200 + offset % 0xc00 + (offset & 0x3000);
    }
    if (aligned && rng_below(m->rng, 16)) offset &= ~31u;
    return m->place->data + offset;
}

/* To 32-bit code: no REX, VEX without registers beyond 7. */
static void narrow(struct encoded *code)
{
    unsigned n = 0;
    while (n < 6 && strchr("\x66\x67\xf2\xf3\xf0", code->bytes[n]) && code->bytes[n]) n++;
    u8 *at = code->bytes + n;
    if ((*at & 0xf0) == 0x40) {
        memmove(at, at + 1, sizeof(code->bytes) - n - 1);
        if (code->disp_at >= 0) code->disp_at--;
    } else if (*at == 0xc5) {
        at[1] |= 0xc0;
    } else if (*at == 0xc4) {
        at[1] |= 0xc0;
        at[2] |= 0x40;
    }
}

/* A prefix in front that means little, or nothing: a segment, a second operand size, a REX that is
 * void. */
static void decorate_with(struct encoded *code, u8 prefix)
{
    memmove(code->bytes + 1, code->bytes, sizeof(code->bytes) - 1);
    code->bytes[0] = prefix;
    if (code->disp_at >= 0) code->disp_at++;
}

static void decorate(struct maker *m, struct encoded *code)
{
    static const u8 wide[] = {0x26, 0x2e, 0x36, 0x3e, 0x66, 0x67, 0x40, 0x48, 0x4f, 0x64, 0x65};
    /* FS and GS have bases to reckon with */
    decorate_with(code, wide[rng_below(m->rng, sizeof wide - (m->code64 ? 0 : 5))]);
}

/* A 16-bit displacement is changed where it is found. */
static bool set_displacement(struct maker *m, const struct insn *i, struct encoded *code, u16 to)
{
    struct insn changed;
    for (unsigned k = 1; k + 2 <= i->length; k++) {
        if (ld16(code->bytes + k) != (u16)i->disp) continue;
        st16(code->bytes + k, to);
        if (decode_insn(&changed, code->bytes, 15, CODE16, 0, m->place->features) == DECODE_OK &&
            (u16)changed.disp == to && changed.length == i->length && changed.op == i->op)
            return true;
        st16(code->bytes + k, (u16)i->disp);
    }
    return false;
}

/* An address of 16 bits: its registers add up to a good one. */
static bool make_address16(struct maker *m, struct piece *p, const struct insn *i,
                           struct encoded *code, bool aligned)
{
    u16 address = (u16)some_address(m, aligned),
        small = (u16)(rng_below(m->rng, 4) ? rng_below(m->rng, 48) : rng_next(m->rng));
    if (i->base == REG_ZERO && i->index == REG_ZERO) return set_displacement(m, i, code, address);
    unsigned first = i->base != REG_ZERO ? i->base : i->index;
    bool both = i->base != REG_ZERO && i->index != REG_ZERO;
    if (first == RSP || i->index == RSP) return false;
    m->known &= ~(1u << first);
    m->small &= ~(1u << first);
    put_mov(m, p, first,
            (u16)(address - (u16)i->disp - (both ? small : 0)) |
                (u64)(rng_below(m->rng, 2) * 0xabc0000));
    if (!both) return true;
    put_mov(m, p, i->index, small);
    m->known &= ~(1u << i->index);
    m->small &= ~(1u << i->index);
    return true;
}

static bool has_memory(const struct insn *i, bool *aligned)
{
    bool memory = false;
    for (unsigned n = 0; n < 4; n++) memory |= i->operand[n].kind == OPERAND_MEMORY;
    *aligned = i->vl >= 16;
    return memory && i->op != OP_LEA && i->op != OP_NOP;
}

static bool writes_stack_pointer(const struct insn *i)
{
    for (unsigned n = 0; n < 2; n++)
        if (i->operand[n].kind == OPERAND_GPR && i->operand[n].reg == RSP) return true;
    return false;
}

/* In front of INSN in P: its registers get addresses, unless they have them. */
static bool make_addresses(struct maker *m, struct piece *p, const struct insn *i,
                           struct encoded *code)
{
    bool aligned, memory = has_memory(i, &aligned);
    u32 attributes = insn_row(i->row)->attributes;
    if ((attributes & ATTR_REP) || i->op == OP_MASKMOVQ || i->op == OP_MASKMOVDQU) {
        if (i->address_size != (m->code64 ? 8 : 4) && !m->code16) return false;
        put_mov(m, p, RSI, some_address(m, false));
        put_mov(m, p, RDI, some_address(m, false));
        put_mov(m, p, RCX, rng_below(m->rng, 40));
        m->known &= ~(1u << RSI | 1u << RDI | 1u << RCX);
        return true;
    }
    if (!memory) return true;
    if ((i->address_size == 2 && !m->code16) || i->seg >= FS ||
        (i->op >= OP_VGATHERDPS && i->op <= OP_VPGATHERQQ))
        return false;
    if (i->op == OP_XLAT) {
        put_mov(m, p, RBX, some_address(m, false));
        m->known |= 1u << RBX;
        return true;
    }
    bool bit_string = i->op >= OP_BT && i->op <= OP_BTC && i->operand[1].kind == OPERAND_GPR;
    if (bit_string) return false;
    if (i->address_size == 2) return make_address16(m, p, i, code, aligned);
    if (i->base == REG_ZERO && i->index == REG_ZERO) {
        if (code->disp_at >= 0) st32(code->bytes + code->disp_at, (u32)some_address(m, aligned));
        return code->disp_at >= 0;
    }
    /* code: PIECE_AHEAD and PIECE_BACK write that in good order */
    if (i->base == REG_IP_BASE) return false;
    if (i->base == i->index || i->index == RSP) return false;
    /* a return address, perhaps */
    if (i->base == RSP && i->operand[0].kind == OPERAND_MEMORY) return false;
    if (i->base != REG_ZERO && i->base != RSP &&
        (!(m->known >> i->base & 1) || !rng_below(m->rng, 6))) {
        put_mov(m, p, i->base, some_address(m, aligned));
        m->known |= 1u << i->base;
        m->small &= ~(1u << i->base);
    }
    if (code->disp_at >= 0) {
        u32 disp = aligned ? rng_below(m->rng, 64) * 16 : rng_below(m->rng, 2048);
        st32(code->bytes + code->disp_at,
             i->base == REG_ZERO ? (u32)some_address(m, aligned) : disp);
    }
    if (i->index != REG_ZERO && !(m->small >> i->index & 1)) {
        put_mov(m, p, i->index, rng_below(m->rng, 48) & (aligned ? ~15u : ~0u));
        m->small |= 1u << i->index;
        m->known &= ~(1u << i->index);
    }
    return true;
}

static void note_writes(struct maker *m, const struct insn *i)
{
    for (unsigned n = 0; n < 2; n++)
        if (i->operand[n].kind == OPERAND_GPR) {
            m->known &= ~(1u << i->operand[n].reg);
            m->small &= ~(1u << i->operand[n].reg);
        }
    u32 always = 1u << RAX | 1u << RDX | 1u << RCX; /* what operations take without naming it */
    m->known &= ~always;
    m->small &= ~always;
    if (i->op == OP_POPA) m->known = m->small = 0;
}

static bool plain(struct maker *m, struct piece *p)
{
    const struct encoding *e = &encodings[rng_below(m->rng, encodings_count)];
    const struct insn_row *row = insn_row(e->row);
    enum code_size size = m->code64 ? CODE64 : m->code16 ? CODE16 : CODE32;
    struct encoded code;
    struct insn i;
    /* Half of them from what programs are made of. */
    if (!(row->attributes & ATTR_HOT) && rng_below(m->rng, 2)) return false;
    if ((row->attributes & ATTR_CPL0) || among(excluded, ARRAY_SIZE(excluded), row->op))
        return false;
    encode_random(m->rng, e, &code);
    if (!m->code64) narrow(&code);
    if (m->code16 && !rng_below(m->rng, 3)) decorate_with(&code, 0x67);
    if (m->code16 && !rng_below(m->rng, 3)) decorate_with(&code, 0x66);
    while (!rng_below(m->rng, 12)) decorate(m, &code);
    if (decode_insn(&i, code.bytes, 15, size, 0, m->place->features) != DECODE_OK) return false;
    row = insn_row(i.row);
    if ((row->attributes & ATTR_CPL0) || among(excluded, ARRAY_SIZE(excluded), i.op)) return false;
    if (writes_stack_pointer(&i) || (i.op == OP_POP && i.operand[0].kind == OPERAND_MEMORY))
        return false;
    *p = (struct piece){.kind = PIECE_PLAIN};
    if (!make_addresses(m, p, &i, &code) || p->length + i.length > sizeof p->bytes) return false;
    if (decode_insn(&i, code.bytes, 15, size, 0, m->place->features) != DECODE_OK) return false;
    put(p, code.bytes, i.length);
    note_writes(m, &i);
    if (among(vague, ARRAY_SIZE(vague), i.op)) put(p, "\x39\xd8", 2); /* cmp eax, ebx */
    return true;
}

/* --- programs --- */

static void bracket(struct sequence *s, struct maker *m, unsigned inside)
{
    static const u8 kinds[] = {PIECE_SKIP, PIECE_SKIP, PIECE_SKIP, PIECE_SKIP, PIECE_CALL,
                               PIECE_CALL, PIECE_INDIRECT,
                               PIECE_LOOP, PIECE_LOOP, PIECE_LOOP, PIECE_AHEAD, PIECE_BACK};
    s->piece[s->count++] = (struct piece){.kind = kinds[rng_below(m->rng, sizeof kinds)],
                                          .cc = (u8)rng_below(m->rng, 16),
                                          .n = (u8)(1 + rng_below(m->rng, 12))};
    m->known &= ~(1u << RSI); /* PIECE_INDIRECT takes it */
    m->small &= ~(1u << RSI);
    /* and PIECE_AHEAD these */
    for (unsigned r = 0; r < 4; r++) m->known &= ~(1u << r), m->small &= ~(1u << r);
    u32 known = m->known, small = m->small;
    while (inside-- && s->count + 2 < SEQUENCE_MAX)
        if (plain(m, &s->piece[s->count])) s->count++;
    m->known &= known & ~(1u << RSI);
    m->small &= small & ~(1u << RSI);
    s->piece[s->count++] = (struct piece){.kind = PIECE_END};
}

/* Flags as if by chance: push imm; popf. */
static void random_flags(struct sequence *s, struct maker *m)
{
    struct piece *p = &s->piece[s->count++];
    u8 bytes[6] = {0x68};
    *p = (struct piece){.kind = PIECE_PLAIN};
    unsigned n = m->code16 ? 3 : 5;
    st32(bytes + 1, (u32)rng_next(m->rng) & FLAGS_ARITHMETIC);
    bytes[n] = 0x9d;
    put(p, bytes, n + 1);
}

void sequence_random(struct sequence *s, struct rng *rng, const struct sequence_place *place,
                     bool code64, unsigned count)
{
    struct maker m = {
        .rng = rng, .place = place, .code64 = code64, .code16 = !code64 && place->code16};
    if (count > SEQUENCE_MAX - 4) count = SEQUENCE_MAX - 4;
    s->code64 = code64;
    s->count = 0;
    s->start = rng_below(rng, 3) ? (u16)rng_below(rng, 64) : (u16)(4096 - rng_below(rng, 300));
    while (s->count < count) {
        unsigned k = rng_below(rng, 12);
        if (k == 0) bracket(s, &m, 1 + rng_below(rng, 8));
        else if (k == 1 && !rng_below(rng, 4)) random_flags(s, &m);
        else if (k == 2 && place->piece) place->piece(rng, code64, &s->piece[s->count++]);
        else if (plain(&m, &s->piece[s->count])) s->count++;
    }
}

/* --- assembling --- */

struct assembler {
    u8 *code;
    unsigned at, counters;
    bool code64, code16;
    const struct sequence_place *place;
    struct { u8 kind, cc; unsigned patch, top, counter; } open[SEQUENCE_MAX];
    unsigned depth;
};

static void emit(struct assembler *a, const void *bytes, unsigned n)
{
    if (a->at + n + 32 > SEQUENCE_CODE) return;
    memcpy(a->code + a->at, bytes, n);
    a->at += n;
}
static void emit_u32(struct assembler *a, u32 v)
{
    u8 bytes[4];
    st32(bytes, v);
    emit(a, bytes, 4);
}
/* Relative and absolute targets have the code's width. */
static void emit_target(struct assembler *a, u32 v)
{
    if (a->code16) emit(a, (const u8[]){(u8)v, (u8)(v >> 8)}, 2);
    else emit_u32(a, v);
}
static void set_target(struct assembler *a, unsigned at, u32 v)
{
    if (a->code16) st16(a->code + at, (u16)v);
    else st32(a->code + at, v);
}
static void patch(struct assembler *a, unsigned at)
{
    set_target(a, at, a->at - (at + (a->code16 ? 2 : 4)));
}
/* Operands and addresses of 32 bits. */
static void emit_wide(struct assembler *a) { emit(a, "\x66\x67", a->code16 ? 2 : 0); }

/* mov dword [counter], n */
static void counter_set(struct assembler *a, unsigned counter, u32 n)
{
    emit_wide(a);
    emit(a, "\xc7\x04\x25", 3);
    emit_u32(a, a->place->counters + counter * 8);
    emit_u32(a, n);
}
/* dec dword [counter]; jnz top */
static void counter_loop(struct assembler *a, unsigned counter, unsigned top)
{
    emit_wide(a);
    emit(a, "\xff\x0c\x25", 3);
    emit_u32(a, a->place->counters + counter * 8);
    emit(a, "\x0f\x85", 2);
    emit_target(a, top - (a->at + (a->code16 ? 2 : 4)));
}

/* mov r, imm32: what is changed. Returns where its immediate is. */
static unsigned changed(struct assembler *a, const u8 *p)
{
    emit(a, (const u8[]){0x66, (u8)(0xb8 | (*p & 3))} + !a->code16, 1u + a->code16);
    emit_u32(a, 0x12345678);
    return a->at - 4;
}
/* inc byte [code + TO] */
static unsigned change(struct assembler *a, unsigned to)
{
    emit_wide(a);
    emit(a, "\xfe\x04\x25", 3);
    emit_u32(a, a->place->code + to);
    return a->at - 4;
}

/* mov [counter], rSP (89), or back (8B): what is inside may push and pop. */
static void stack_pointer(struct assembler *a, u8 opcode, unsigned counter)
{
    emit_wide(a);
    if (a->code64) emit(a, "\x48", 1);
    emit(a, (const u8[]){opcode, 0x24, 0x25}, 3);
    emit_u32(a, a->place->counters + counter * 8);
}

static void open_bracket(struct assembler *a, const struct piece *p)
{
    __typeof__(&a->open[0]) o = &a->open[a->depth++];
    o->kind = p->kind;
    o->cc = p->cc;
    switch (p->kind) {
    case PIECE_SKIP:
        emit(a, (const u8[]){0x0f, (u8)(0x80 | p->cc)}, 2);
        o->patch = a->at;
        emit_target(a, 0);
        break;
    case PIECE_CALL: /* call inside; jmp behind */
        emit(a, "\xe8", 1);
        emit_target(a, a->code16 ? 3 : 5);
        emit(a, "\xe9", 1);
        o->patch = a->at;
        emit_target(a, 0);
        o->counter = a->counters++ & 63;
        stack_pointer(a, 0x89, o->counter);
        break;
    case PIECE_INDIRECT: /* mov esi, behind; jmp rsi */
        emit(a, "\xbe", 1);
        o->patch = a->at;
        emit_target(a, 0);
        emit(a, "\xff\xe6", 2);
        break;
    case PIECE_AHEAD: o->patch = change(a, 0); break;
    case PIECE_BACK: o->top = changed(a, &p->cc); break;
    default:
        o->counter = a->counters++ & 63;
        counter_set(a, o->counter, p->n);
        o->top = a->at;
    }
}

static void close_bracket(struct assembler *a)
{
    if (!a->depth) return;
    __typeof__(&a->open[0]) o = &a->open[--a->depth];
    if (o->kind == PIECE_CALL) stack_pointer(a, 0x8b, o->counter), emit(a, "\xc3", 1);
    if (o->kind == PIECE_LOOP) counter_loop(a, o->counter, o->top);
    else if (o->kind == PIECE_BACK) change(a, o->top);
    else if (o->kind == PIECE_AHEAD) st32(a->code + o->patch, a->place->code + changed(a, &o->cc));
    else if (o->kind == PIECE_INDIRECT) set_target(a, o->patch, a->place->code + a->at);
    else patch(a, o->patch);
}

unsigned sequence_assemble(const struct sequence *s, const struct sequence_place *place,
                           unsigned turns, u8 *code)
{
    struct assembler a = {.code = code, .at = s->start, .code64 = s->code64, .code16 = !s->code64 &&
                          place->code16, .place = place};
    memset(code, 0xf4, SEQUENCE_CODE);
    unsigned counter = a.counters++;
    counter_set(&a, counter, turns);
    unsigned top = a.at;
    for (unsigned n = 0; n < s->count; n++) {
        const struct piece *p = &s->piece[n];
        if (p->kind == PIECE_PLAIN) emit(&a, p->bytes, p->length);
        else if (p->kind == PIECE_END) close_bracket(&a);
        else open_bracket(&a, p);
    }
    while (a.depth) close_bracket(&a);
    counter_loop(&a, counter, top);
    return s->start;
}

void sequence_print(const struct sequence *s, const struct sequence_place *place, unsigned turns)
{
    static u8 code[SEQUENCE_CODE];
    csh handle;
    cs_insn *insn;
    unsigned start = sequence_assemble(s, place, turns, code), end = SEQUENCE_CODE;
    while (end > start && code[end - 1] == 0xf4) end--;
    if (cs_open(CS_ARCH_X86, s->code64 ? CS_MODE_64 : place->code16 ? CS_MODE_16 : CS_MODE_32,
                &handle) != CS_ERR_OK)
        return;
    cs_option(handle, CS_OPT_SKIPDATA, CS_OPT_ON);
    size_t count = cs_disasm(handle, code + start, end - start, place->code + start, 0, &insn);
    for (size_t i = 0; i < count; i++) {
        fprintf(stderr, "#   %08llx ", (unsigned long long)insn[i].address);
        for (unsigned b = 0; b < 11; b++)
            if (b < insn[i].size) fprintf(stderr, " %02x", insn[i].bytes[b]);
            else fprintf(stderr, "   ");
        fprintf(stderr, "  %s %s\n", insn[i].mnemonic, insn[i].op_str);
    }
    if (count) cs_free(insn, count);
    cs_close(&handle);
}

/* --- shrinking --- */

static unsigned matching_end(const struct sequence *s, unsigned n)
{
    unsigned depth = 0;
    for (unsigned k = n; k < s->count; k++) {
        if (s->piece[k].kind == PIECE_END) {
            if (!--depth) return k;
        } else if (s->piece[k].kind != PIECE_PLAIN) {
            depth++;
        }
    }
    return s->count;
}

/* Without pieces [from, to), but for the halves of brackets that would be broken. */
static void without(const struct sequence *s, unsigned from, unsigned to, struct sequence *out)
{
    *out = *s;
    out->count = 0;
    int open = 0;
    for (unsigned n = 0; n < s->count; n++) {
        const struct piece *p = &s->piece[n];
        bool in = n >= from && n < to, keep = !in;
        if (in && p->kind == PIECE_END) keep = open <= 0, open -= !keep;
        if (in && p->kind != PIECE_END && p->kind != PIECE_PLAIN)
            keep = matching_end(s, n) >= to, open += !keep;
        if (keep) out->piece[out->count++] = *p;
    }
}

static void without_bracket(const struct sequence *s, unsigned n, struct sequence *out)
{
    unsigned end = matching_end(s, n);
    *out = *s;
    out->count = 0;
    for (unsigned k = 0; k < s->count; k++)
        if (k != n && k != end) out->piece[out->count++] = s->piece[k];
}

void sequence_shrink(struct sequence *s, bool (*fails)(void *, const struct sequence *),
                     void *opaque)
{
    struct sequence try;
    bool smaller = true;
    while (smaller) {
        smaller = false;
        for (unsigned size = s->count; size >= 1; size /= 2)
            for (unsigned from = 0; from < s->count;) {
                without(s, from, from + size, &try);
                if (try.count < s->count && fails(opaque, &try)) *s = try, smaller = true;
                else from += size;
            }
        for (unsigned n = 0; n < s->count; n++) {
            if (s->piece[n].kind == PIECE_PLAIN || s->piece[n].kind == PIECE_END) continue;
            without_bracket(s, n, &try);
            if (fails(opaque, &try)) *s = try, smaller = true;
        }
        try = *s;
        try.start = 0;
        if (s->start && fails(opaque, &try)) *s = try, smaller = true;
    }
}
