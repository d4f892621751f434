/*
 * A decoded instruction: what decode.c makes from bytes, and what the interpreter and the
 * translator read. One cache line. Position independent: the same decode serves every virtual
 * address that maps the same physical page (ip_base in the processor gives the missing part).
 */
#ifndef CPU_INSN_H
#define CPU_INSN_H

#include "machine/types.h"

struct vcpu;
struct insn;

/*
 * Runs INSN and, for an interpreter's handler, the ones behind it in its block. False: the
 * instruction did not complete (an exception is recorded, or it must be started again); nothing
 * architectural has changed but what the manual says has.
 */
typedef bool (*insn_fn)(struct vcpu *cpu, const struct insn *insn);

/* Operations, named by the SDM's mnemonic; one semantics function each: sem_<NAME>. */
enum op {
#define OP(name) OP_##name,
#include "cpu/ops.def"
#undef OP
    OP_COUNT
};

enum code_size { CODE16, CODE32, CODE64 };

/* General registers by number; two more slots make every address a sum without a branch. */
enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15,
       REG_ZERO = 16, REG_IP_BASE = 17, REG_SLOTS = 18 };

enum { ES, CS, SS, DS, FS, GS, LDTR, TR, SEGMENTS };

enum operand_kind {
    OPERAND_NONE,
    OPERAND_GPR,       /* reg 0..15, low `size` bytes */
    OPERAND_GPR8H,     /* AH CH DH BH: reg 0..3 */
    OPERAND_MEMORY,    /* seg, base, index, scale, disp; `size` bytes (0: address only, or by op) */
    OPERAND_IMMEDIATE, /* imm, sign- or zero-extended to 64 bits as the instruction wants it */
    OPERAND_RELATIVE,  /* imm: displacement from the next instruction */
    OPERAND_FAR,       /* imm: offset, imm2: selector */
    OPERAND_SEGMENT, OPERAND_CR, OPERAND_DR,
    OPERAND_X87,       /* ST(reg) */
    OPERAND_MMX,       /* MM reg */
    OPERAND_VECTOR,    /* XMM/YMM/ZMM reg, low `size` bytes */
    OPERAND_MASK,      /* k0..k7 */
};

struct operand {
    u8 kind, reg, size, unused;
};

enum insn_flags {
    INSN_LOCK = 1,
    INSN_REP = 2,        /* F3, where it means repeat (or REPE) */
    INSN_REPNE = 4,
    INSN_VEX = 8,        /* VEX (or EVEX): three-operand, zero the register above vl */
    INSN_W = 16,         /* REX.W / VEX.W */
    INSN_SEG_OVERRIDE = 32,
    INSN_EVEX = 64,
    INSN_ENDS_BLOCK = 128, /* may change rip, mode, mapping or interruptibility */
};

struct insn {
    insn_fn fn;     /* the interpreter's handler */
    u64 imm;
    i64 disp;       /* of the memory operand; a whole address for moffs (MOV A0..A3) */
    u16 op;         /* enum op */
    u16 row;        /* line in insns.def: attributes by insn_row(row) */
    struct operand operand[4];
    u8 length;      /* bytes, 1..15 */
    u8 size;        /* operand size: 1, 2, 4, 8 (after 66, REX.W, default-64) */
    u8 address_size;/* 2, 4, 8 */
    u8 seg;         /* of the memory operand, default or override */
    u8 base, index; /* REG_ZERO when absent; base REG_IP_BASE for RIP-relative (then disp already
                       counts from the page: pos + length + disp32) */
    u8 scale;       /* 0..3, shift */
    u8 flags;       /* enum insn_flags; see also flags2 */
    u8 vl;          /* vector length in bytes: 8 (MMX), 16, 32, 64 */
    u8 cc;          /* condition of Jcc, SETcc, CMOVcc: low nibble of the opcode */
    u16 imm2;       /* selector of a far pointer; second immediate of ENTER, EXTRQ */
    u16 pos;        /* offset of its first byte in its page */
    u8 evex_mask, evex_flags; /* AVX-512: aaa; z, b, rounding. Zero until then */
    u32 spare;      /* the decoder writes 0; in a translator's copy: instructions that icount
                       lacks */
};
_Static_assert(sizeof(struct insn) == 64, "one cache line an instruction");

/* What a row of insns.def says beyond operands. */
enum insn_attribute {
    ATTR_LOCKABLE = 1 << 0,   /* LOCK allowed with a memory destination */
    ATTR_NO64 = 1 << 1,       /* #UD in 64-bit mode */
    ATTR_ONLY64 = 1 << 2,
    ATTR_DEFAULT64 = 1 << 3,  /* operand size 64 in 64-bit mode without REX.W (66 gives 16) */
    ATTR_FORCE64 = 1 << 4,    /* the same, of near branches */
    ATTR_CPL0 = 1 << 5,       /* #GP(0) above CPL 0 */
    ATTR_PROTECTED = 1 << 6,  /* #UD in real and virtual-8086 mode */
    ATTR_ENDS_BLOCK = 1 << 7,
    ATTR_HOT = 1 << 8,        /* earns a specialised handler and a uop */
    ATTR_X87 = 1 << 9,        /* #NM by CR0.EM|TS, pending #MF */
    ATTR_MMX = 1 << 10,       /* #UD by EM, #NM by TS, pending #MF */
    ATTR_SSE = 1 << 11,       /* #UD by EM or !OSFXSR, #NM by TS */
    ATTR_AVX = 1 << 12,       /* #UD by !OSXSAVE or XCR0, #NM by TS */
    ATTR_ALIGNED = 1 << 13,   /* memory operand must be aligned to its size: #GP(0) */
    ATTR_UNALIGNED = 1 << 14, /* legacy SSE 16-byte operand that need not be aligned (MOVUPS) */
    ATTR_STACK = 1 << 15,     /* implicit stack access */
    ATTR_REP = 1 << 16,       /* F2/F3 mean repeat */
};

struct insn_row {
    u16 op;
    u8 operand[4];            /* enum operand_code, decode.c's own */
    u8 feature;               /* enum feature that gates it */
    u32 attributes;
    u16 flags_written, flags_undefined, flags_read; /* EFLAGS bits */
    const char *mnemonic;
};
const struct insn_row *insn_row(unsigned row);
const char *op_name(unsigned op);

enum feature {
    FEATURE_NONE,             /* always there */
#define FEATURE(id, name, leaf, subleaf, reg, bit) FEATURE_##id,
#include "cpu/features.def"
#undef FEATURE
    FEATURE_COUNT
};

struct feature_set {
    u64 bits[2];              /* by enum feature */
};
_Static_assert(FEATURE_COUNT <= 128, "feature_set");
static inline bool feature_on(const struct feature_set *set, unsigned feature)
{
    return !feature || (set->bits[feature >> 6] >> (feature & 63) & 1);
}

enum decode_status {
    DECODE_OK,
    DECODE_MORE,       /* AVAILABLE bytes were not enough (and fewer than 15) */
    DECODE_UNDEFINED,  /* #UD; length says how far it read */
    DECODE_TOO_LONG,   /* over 15 bytes: #GP(0) */
};

/*
 * Decodes one instruction that starts at page offset POS. BYTES may hold up to 15 bytes, AVAILABLE
 * are there. Pure: no processor state but what is passed. insn->fn is left alone. Thread-safe.
 * On DECODE_UNDEFINED and DECODE_TOO_LONG `insn` holds OP_UD or OP_GP0 so that it can be executed.
 */
enum decode_status decode_insn(struct insn *insn, const u8 *bytes, unsigned available,
                               enum code_size code_size, u16 pos,
                               const struct feature_set *features);

#endif
