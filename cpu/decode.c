/*
 * Bytes to struct insn, by the table that insns.def makes.
 * Specification: Intel SDM vol. 2 chapter 2 and appendix A, AMD APM vol. 3. In 64-bit mode 66 makes
 * a near branch 16 bits wide, as AMD does it: every model with a 64-bit mode is an AMD.
 *
 * Not here but at run time: what depends on CPL, on real or virtual-8086 mode (ATTR_CPL0,
 * ATTR_PROTECTED: all VEX rows have it), on CR0, CR4 and XCR0 (fpu_check) and on segments.
 */
#include "cpu/cpu.h"

/* --- attributes as insns.def writes them; above bit 23 they are nobody else's business --- */
enum {
    LOCK = ATTR_LOCKABLE, N64 = ATTR_NO64, O64 = ATTR_ONLY64, D64 = ATTR_DEFAULT64,
    F64 = ATTR_FORCE64, CPL0 = ATTR_CPL0, PROT = ATTR_PROTECTED, END = ATTR_ENDS_BLOCK,
    HOT = ATTR_HOT, X87 = ATTR_X87, MMX = ATTR_MMX, SSE = ATTR_SSE, AVX = ATTR_AVX,
    AL = ATTR_ALIGNED, UA = ATTR_UNALIGNED, STACK = ATTR_STACK, REP = ATTR_REP,
    S8 = 1 << 24,     /* byte operation */
    SZ = 1 << 25,     /* REX.W does not make it 8 bytes */
    SY = 1 << 26,     /* size by W alone: 66 is a mandatory prefix or means nothing */
    GATE64 = 1 << 27, /* the feature counts in 64-bit mode only */
    NP = 1 << 28,     /* #UD with 66, F2 or F3 */
    RARE = N64 | O64 | GATE64 | NP,
};

/* --- EFLAGS combinations of insns.def --- */
enum {
    FO = FLAG_OF, FS_ = FLAG_SF, FZ = FLAG_ZF, FA = FLAG_AF, FP = FLAG_PF, FC = FLAG_CF,
    FLAGS_0 = 0, FLAGS_A = FA, FLAGS_C = FC, FLAGS_D = FLAG_DF, FLAGS_I = FLAG_IF, FLAGS_O = FO,
    FLAGS_P = FP, FLAGS_S = FS_, FLAGS_Z = FZ, FLAGS_AC = FA | FC, FLAGS_AP = FA | FP,
    FLAGS_OA = FO | FA, FLAGS_OC = FO | FC, FLAGS_OS = FO | FS_, FLAGS_ZC = FZ | FC,
    FLAGS_OAC = FO | FA | FC, FLAGS_OSZ = FO | FS_ | FZ, FLAGS_OZC = FO | FZ | FC,
    FLAGS_SAP = FS_ | FA | FP, FLAGS_SZP = FS_ | FZ | FP, FLAGS_OSAP = FO | FS_ | FA | FP,
    FLAGS_OSZC = FO | FS_ | FZ | FC, FLAGS_OSZP = FO | FS_ | FZ | FP,
    FLAGS_SZAP = FS_ | FZ | FA | FP, FLAGS_SZPC = FS_ | FZ | FP | FC,
    FLAGS_OSAPC = FO | FS_ | FA | FP | FC, FLAGS_OSZAP = FO | FS_ | FZ | FA | FP,
    FLAGS_OSZPC = FO | FS_ | FZ | FP | FC, FLAGS_SZAPC = FS_ | FZ | FA | FP | FC,
    FLAGS_OSZAPC = FLAGS_ARITHMETIC, FLAGS_ALL = 0x7fd5,
};

/* --- operand codes: place, size of a register, size in memory --- */
enum place {
    PLACE_NONE, PLACE_E, PLACE_G, PLACE_Z, PLACE_B, PLACE_GPR, PLACE_IMM, PLACE_IMM_SIGNED,
    PLACE_IMM2, PLACE_ONE, PLACE_J, PLACE_A, PLACE_O, PLACE_X, PLACE_Y, PLACE_BX, PLACE_DI,
    PLACE_S, PLACE_SEG, PLACE_C, PLACE_D, PLACE_P, PLACE_Q, PLACE_V, PLACE_W, PLACE_H, PLACE_L,
    PLACE_XMM, PLACE_VM, PLACE_SX, PLACE_ST,
};
/* Sizes that depend on the instruction are indices into decoder.sizes. */
enum { DYN = 0x80, v = DYN, z, y, n, x, h, f, e, dd, p, s, a, DYN_END };

// clang-format off
#define OPERAND_CODES(C)                                                                           \
    C(__, NONE, 0, 0)                                                                              \
    C(Eb, E, 1, 1) C(Ed, E, 4, 4) C(Eq, E, 8, 8) C(Ev, E, v, v) C(Ew, E, 2, 2) C(Ey, E, y, y)      \
    C(Rn, E, n, n) C(Rv, E, v, v) C(Ry, E, y, y) C(RdMb, E, 4, 1) C(RdMw, E, 4, 2)                 \
    C(RvMw, E, v, 2) C(M, E, 0, 0) C(Ma, E, 0, a) C(Mb, E, 0, 1) C(Md, E, 0, 4) C(Mdq, E, 0, 16)   \
    C(Mp, E, 0, p) C(Mq, E, 0, 8) C(Ms, E, 0, s) C(Mt, E, 0, 10) C(Mv, E, 0, v) C(Mw, E, 0, 2)     \
    C(Mx, E, 0, x) C(My, E, 0, y)                                                                  \
    C(Gb, G, 1, 0) C(Gd, G, 4, 0) C(Gn, G, n, 0) C(Gv, G, v, 0) C(Gw, G, 2, 0) C(Gy, G, y, 0)      \
    C(Gz, G, z, 0) C(Zb, Z, 1, 0) C(Zv, Z, v, 0) C(By, B, y, 0)                                    \
    C(AL, GPR, 1, RAX) C(CL, GPR, 1, RCX) C(AX, GPR, 2, RAX) C(DX, GPR, 2, RDX)                    \
    C(eAX, GPR, z, RAX) C(rAX, GPR, v, RAX)                                                        \
    C(Ib, IMM, 1, 0) C(Iw, IMM, 2, 0) C(Iv, IMM, v, 0) C(Iz, IMM_SIGNED, z, 0)                     \
    C(Ibs, IMM_SIGNED, 1, 0) C(Ib2, IMM2, 1, 0) C(one, ONE, 1, 0)                                  \
    C(Jb, J, 1, 0) C(Jz, J, z, 0) C(Ap, A, p, 0) C(Ob, O, 1, 1) C(Ov, O, v, v)                     \
    C(Xb, X, 0, 1) C(Xv, X, 0, v) C(Xz, X, 0, z) C(Yb, Y, 0, 1) C(Yv, Y, 0, v) C(Yz, Y, 0, z)      \
    C(BXb, BX, 0, 1) C(DIq, DI, 0, 8) C(DIdq, DI, 0, 16)                                           \
    C(Sw, S, 2, 0) C(ES, SEG, 2, ES) C(CS, SEG, 2, CS) C(SS, SEG, 2, SS) C(DS, SEG, 2, DS)         \
    C(FS, SEG, 2, FS) C(GS, SEG, 2, GS) C(Cn, C, n, 0) C(Dn, D, n, 0)                              \
    C(Pq, P, 8, 0) C(Qq, Q, 8, 8) C(Qd, Q, 8, 4) C(Nq, Q, 8, 8)                                    \
    C(Vd, V, 4, 0) C(Vq, V, 8, 0) C(Vdq, V, 16, 0) C(Vx, V, x, 0)                                  \
    C(Hq, H, 8, 0) C(Hdq, H, 16, 0) C(Hx, H, x, 0) C(Lx, L, x, 0) C(XMM0, XMM, 16, 0)              \
    C(Wb, W, 1, 1) C(Ww, W, 2, 2) C(Wd, W, 4, 4) C(Wq, W, 8, 8) C(Wdq, W, 16, 16) C(Wx, W, x, x)   \
    C(Wh, W, h, h) C(Wf, W, f, f) C(We, W, e, e) C(Wdd, W, dd, dd) C(WdqMd, W, 16, 4)              \
    C(Uq, W, 8, 0) C(Udq, W, 16, 0) C(Ux, W, x, 0)                                                 \
    C(VMd, VM, 0, 4) C(VMq, VM, 0, 8) C(Sx, SX, x, 0) C(ST0, ST, 10, 0) C(STi, ST, 10, 1)
// clang-format on

enum operand_code {
#define C(code, place, reg_size, memory_size) CODE_##code,
    OPERAND_CODES(C)
#undef C
};
/* For fixed registers `memory_size` is the register's number. */
struct operand_info { u8 place, reg_size, memory_size; };
static const struct operand_info operand_info[] = {
#define C(code, place, reg_size, memory_size) {PLACE_##place, reg_size, memory_size},
    OPERAND_CODES(C)
#undef C
};

/* --- the rows, by their line in insns.def --- */
#define ROW(OP, o0, o1, o2, o3, FEATURE, written, undefined, read, attributes)                     \
    [__LINE__] = {OP_##OP, {CODE_##o0, CODE_##o1, CODE_##o2, CODE_##o3}, FEATURE_##FEATURE,        \
                  attributes, FLAGS_##written, FLAGS_##undefined, FLAGS_##read, #OP},
#define INSN(map, opcode, prefix, reg, mod, W, ...) ROW(__VA_ARGS__)
#define X87(opcode, modrm, ...) ROW(__VA_ARGS__)
#define GROUP7(reg, rm, ...) ROW(__VA_ARGS__)
#define SPECIAL(name, ...) ROW(__VA_ARGS__)
static const struct insn_row rows[] = {
#include "cpu/insns.def"
};
#undef INSN
#undef X87
#undef GROUP7
#undef SPECIAL

enum special_row {
#define INSN(...)
#define X87(...)
#define GROUP7(...)
#define SPECIAL(name, ...) ROW_##name = __LINE__,
#include "cpu/insns.def"
#undef INSN
#undef X87
#undef GROUP7
#undef SPECIAL
};

/*
 * --- the tables: an encoding to its row; 0: undefined. An overlap of two lines stops the build.
 * Each (map, opcode, prefix) is one cache line of [reg][mod == 3][W].
 */
enum map { MAP_ONE, MAP_0F, MAP_0F38, MAP_0F3A, MAP_VEX, MAPS = MAP_VEX + 6 };

#define INDEX_MAP_ONE MAP_ONE
#define INDEX_MAP_0F MAP_0F
#define INDEX_MAP_0F38 MAP_0F38
#define INDEX_MAP_0F3A MAP_0F3A
#define INDEX_MAP_VEX1_128 MAP_VEX
#define INDEX_MAP_VEX1_256 MAP_VEX + 1
#define INDEX_MAP_VEX1 MAP_VEX ... MAP_VEX + 1
#define INDEX_MAP_VEX2_128 MAP_VEX + 2
#define INDEX_MAP_VEX2_256 MAP_VEX + 3
#define INDEX_MAP_VEX2 MAP_VEX + 2 ... MAP_VEX + 3
#define INDEX_MAP_VEX3_128 MAP_VEX + 4
#define INDEX_MAP_VEX3_256 MAP_VEX + 5
#define INDEX_MAP_VEX3 MAP_VEX + 4 ... MAP_VEX + 5
enum { PREFIX_NP, PREFIX_66, PREFIX_F3, PREFIX_F2 }; /* as VEX.pp */
#define INDEX_PREFIX_NP PREFIX_NP
#define INDEX_PREFIX_66 PREFIX_66
#define INDEX_PREFIX_F3 PREFIX_F3
#define INDEX_PREFIX_F2 PREFIX_F2
#define INDEX_PREFIX_NP_66 PREFIX_NP ... PREFIX_66
#define INDEX_PREFIX_ANY 0 ... 3
#define INDEX_REG_ANY 0 ... 7
#define INDEX_REG_0 0
#define INDEX_REG_1 1
#define INDEX_REG_2 2
#define INDEX_REG_3 3
#define INDEX_REG_4 4
#define INDEX_REG_5 5
#define INDEX_REG_6 6
#define INDEX_REG_7 7
#define INDEX_MOD_M 0
#define INDEX_MOD_R 1
#define INDEX_MOD_ANY 0 ... 1
#define INDEX_W_0 0
#define INDEX_W_1 1
#define INDEX_W_ANY 0 ... 1

#pragma GCC diagnostic push
#pragma GCC diagnostic error "-Woverride-init"

static const u16 table[MAPS][256][4][8][2][2] = {
#define INSN(map, opcode, prefix, reg, mod, W, ...)                                                \
    [INDEX_MAP_##map][opcode][INDEX_PREFIX_##prefix][INDEX_REG_##reg][INDEX_MOD_##mod]             \
    [INDEX_W_##W] = __LINE__,
#define X87(...)
#define GROUP7(...)
#define SPECIAL(...)
#include "cpu/insns.def"
#undef INSN
#undef X87
};
static const u16 x87_table[8][64] = {
#define INSN(...)
#define X87(opcode, modrm, ...) [opcode][modrm] = __LINE__,
#include "cpu/insns.def"
#undef X87
#undef GROUP7
};
static const u16 group7_table[8][8] = {
#define X87(...)
#define GROUP7(reg, rm, ...) [reg][rm] = __LINE__,
#include "cpu/insns.def"
#undef INSN
#undef X87
#undef GROUP7
#undef SPECIAL
};

#pragma GCC diagnostic pop

/* Opcodes followed by a modrm byte, a bit each: bit (opcode & 31) of word (opcode >> 5). */
static const u32 has_modrm[2][8] = {
    [MAP_ONE] = {0x0f0f0f0f, 0x0f0f0f0f, 0, 0x00000a0c, 0x0000ffff, 0, 0xff0f00f3, 0xc0c00000},
    [MAP_0F] = {0xffff200f, 0x0000ff0f, 0xffffffff, 0xff7fffff, 0xffff0000, 0xfffff838,
                0xffff00ff, 0xffffffff},
};

/* --- prefixes --- */
enum prefix_class { CLASS_NONE, CLASS_SEG, CLASS_66, CLASS_67, CLASS_LOCK, CLASS_F2, CLASS_F3,
                    CLASS_REX };
static const u8 prefix_class[256] = {
    [0x26] = CLASS_SEG, [0x2e] = CLASS_SEG, [0x36] = CLASS_SEG, [0x3e] = CLASS_SEG,
    [0x64] = CLASS_SEG, [0x65] = CLASS_SEG, [0x66] = CLASS_66, [0x67] = CLASS_67,
    [0xf0] = CLASS_LOCK, [0xf2] = CLASS_F2, [0xf3] = CLASS_F3, [0x40 ... 0x4f] = CLASS_REX,
};

#define MAX_LENGTH 15
#define NO_SEGMENT 0xff

struct decoder {
    const u8 *bytes;  /* zeros behind what is there */
    unsigned at;      /* next byte */
    u8 code_size, address_size;
    u8 prefix66, rep; /* rep: 0, PREFIX_F3 or PREFIX_F2 */
    u8 lock, override, rex;
    u8 map, opcode, modrm, modrm_there;
    u8 vex, vl, w;    /* w: REX.W or VEX.W as encoded */
    u8 r, x, b, vvvv; /* r, x, b: 0 or 8 */
    u8 vvvv_used, ip_relative;
    u8 sizes[DYN_END - DYN];
};

/* False: a 15th prefix. */
static ALWAYS_INLINE bool read_prefixes(struct decoder *d)
{
    for (;;) {
        u8 byte = d->bytes[d->at];
        unsigned class = prefix_class[byte];
        if (likely(class == CLASS_NONE)) return true;
        if (class == CLASS_REX) {
            if (d->code_size != CODE64) return true;
            d->rex = byte;
            if (++d->at == MAX_LENGTH) return false;
            continue;
        }
        d->rex = 0; /* it was not directly before the opcode */
        switch (class) {
        case CLASS_SEG:
            /* 64-bit mode takes no notice of ES, CS, SS and DS: an earlier FS or GS stays. */
            if (byte >= 0x64) d->override = byte - 0x64 + FS;
            else if (d->code_size != CODE64) d->override = byte >> 3 & 3;
            break;
        case CLASS_66: d->prefix66 = 1; break;
        case CLASS_67: d->address_size = d->code_size == CODE32 ? 2 : 4; break;
        case CLASS_LOCK: d->lock = 1; break;
        case CLASS_F2: d->rep = PREFIX_F2; break;
        default: d->rep = PREFIX_F3; break;
        }
        if (++d->at == MAX_LENGTH) return false;
    }
}

/* Behind C4 or C5; the prefix goes where a legacy one would be. */
static bool read_vex(struct decoder *d, u8 first)
{
    u8 b1 = d->bytes[d->at++], b2 = b1;
    if (d->lock || d->rep || d->prefix66 || d->rex) return false;
    unsigned map = 1;
    d->r = ~b1 >> 4 & 8;
    if (first == 0xc4) {
        b2 = d->bytes[d->at++];
        d->x = ~b1 >> 3 & 8;
        d->b = ~b1 >> 2 & 8;
        d->w = b2 >> 7;
        map = b1 & 31;
        if (map < 1 || map > 3) return false;
    }
    d->vvvv = ~b2 >> 3 & 15;
    if (d->code_size != CODE64) {
        d->r = d->x = d->b = 0;
        d->vvvv &= 7;
    }
    unsigned l = b2 >> 2 & 1;
    d->vex = 1;
    d->vl = l ? 32 : 16;
    d->map = MAP_VEX + (map - 1) * 2 + l;
    d->rep = b2 & 3; /* as an index of the table; no VEX row asks for REP or 66 as such */
    d->opcode = d->bytes[d->at++];
    return true;
}

static ALWAYS_INLINE bool read_opcode(struct decoder *d)
{
    u8 byte = d->bytes[d->at++];
    if ((byte & 0xfe) == 0xc4 && (d->code_size == CODE64 || d->bytes[d->at] >= 0xc0)) {
        if (!read_vex(d, byte)) return false;
        d->modrm_there = d->map > MAP_VEX + 1 || d->opcode != 0x77;
    } else {
        d->r = d->rex << 1 & 8;
        d->x = d->rex << 2 & 8;
        d->b = d->rex << 3 & 8;
        d->w = d->rex >> 3 & 1;
        d->map = MAP_ONE;
        if (byte == 0x0f) {
            byte = d->bytes[d->at++];
            d->map = MAP_0F;
            if ((byte & 0xfd) == 0x38) {
                d->map = byte == 0x38 ? MAP_0F38 : MAP_0F3A;
                byte = d->bytes[d->at++];
            }
        }
        d->opcode = byte;
        d->modrm_there = d->map > MAP_0F || has_modrm[d->map][byte >> 5] >> (byte & 31) & 1;
    }
    d->modrm = 0;
    if (d->modrm_there) {
        d->modrm = d->bytes[d->at++];
        /* MOV to and from CR and DR take no notice of mod. */
        if (d->map == MAP_0F && (d->opcode & 0xfc) == 0x20) d->modrm |= 0xc0;
    }
    return true;
}

static ALWAYS_INLINE unsigned table_row(const struct decoder *d, unsigned prefix, unsigned w)
{
    bool registers = d->modrm >= 0xc0;
    if (registers && d->map == MAP_ONE && (d->opcode & 0xf8) == 0xd8)
        return x87_table[d->opcode & 7][d->modrm & 63];
    if (registers && d->map == MAP_0F && d->opcode == 1) {
        unsigned row = group7_table[d->modrm >> 3 & 7][d->modrm & 7];
        if (row) return row;
    }
    return table[d->map][d->opcode][prefix][d->modrm >> 3 & 7][registers][w];
}

/* What the table can't say: 0 or the row that is meant in place of ROW. */
static unsigned check_row(const struct decoder *d, unsigned row, unsigned prefix,
                          const struct feature_set *features)
{
    const struct insn_row *r = &rows[row];
    bool code64 = d->code_size == CODE64;
    if ((r->attributes & O64) && !code64) {
        /* PINSRQ and PEXTRQ with VEX.W set: W counts in 64-bit mode only. */
        if (!d->vex || !d->w) return 0;
        row = table_row(d, prefix, 0);
        r = &rows[row];
        if (!row || (r->attributes & O64)) return 0;
    }
    if ((r->attributes & N64) && code64) return 0;
    if ((r->attributes & NP) && (d->prefix66 || d->rep)) return 0;
    if (unlikely(!feature_on(features, r->feature)) && !((r->attributes & GATE64) && !code64)) {
        if (r->op != OP_TZCNT && r->op != OP_LZCNT) return 0;
        row = table_row(d, PREFIX_NP, d->w); /* F3 BSF: the prefix means nothing */
    }
    return row;
}

static ALWAYS_INLINE unsigned find_row(const struct decoder *d, const struct feature_set *features)
{
    unsigned prefix = d->rep ? d->rep : d->prefix66;
    unsigned row = table_row(d, prefix, d->w);
    if (unlikely(d->map == MAP_ONE && (d->opcode == 0x63 || d->opcode == 0x90))) {
        if (d->opcode == 0x63 && d->code_size == CODE64) return ROW_MOVSXD;
        if (d->opcode == 0x90) {
            if (d->b) return table[MAP_ONE][0x91][prefix][0][0][0]; /* XCHG with R8 */
            if (prefix != PREFIX_F3) return ROW_NOP;
        }
    }
    if (!row) return 0;
    const struct insn_row *r = &rows[row];
    if (unlikely((r->attributes & RARE) || !feature_on(features, r->feature)))
        return check_row(d, row, prefix, features);
    return row;
}

static ALWAYS_INLINE void set_sizes(struct decoder *d, struct insn *insn, u32 attributes)
{
    bool code64 = d->code_size == CODE64;
    unsigned w8 = d->w && code64 ? 8 : 4;
    unsigned size = d->w && code64 ? 8 : (d->code_size != CODE16) ^ d->prefix66 ? 4 : 2;
    if (attributes & (D64 | F64 | S8 | SZ | SY)) {
        if (code64 && size == 4 && (attributes & (D64 | F64))) size = 8;
        if (attributes & SY) size = w8;
        if ((attributes & SZ) && size == 8) size = 4;
        if (attributes & S8) size = 1;
    }
    insn->size = size;
    insn->vl = d->vl ? d->vl : (attributes & (MMX | SSE)) == MMX ? 8 : 16;
    if (!(attributes & (SSE | MMX | AVX))) insn->vl = 0;
    u8 *sizes = d->sizes;
    sizes[v - DYN] = size;
    sizes[z - DYN] = size == 8 ? 4 : size;
    sizes[y - DYN] = w8;
    sizes[n - DYN] = code64 ? 8 : 4;
    sizes[x - DYN] = insn->vl;
    sizes[h - DYN] = insn->vl >> 1;
    sizes[f - DYN] = insn->vl >> 2;
    sizes[e - DYN] = insn->vl >> 3;
    sizes[dd - DYN] = insn->vl == 32 ? 32 : 8;
    sizes[p - DYN] = size + 2;
    sizes[s - DYN] = code64 ? 10 : 6;
    sizes[a - DYN] = size * 2;
}

static ALWAYS_INLINE unsigned size_of(const struct decoder *d, u8 size)
{
    return size < DYN ? size : d->sizes[size - DYN];
}

/* --- memory operands --- */
static void set_segment(const struct decoder *d, struct insn *insn, unsigned default_segment)
{
    if (d->override == NO_SEGMENT) {
        insn->seg = default_segment;
    } else {
        insn->seg = d->override;
        insn->flags |= INSN_SEG_OVERRIDE;
    }
}

static void read_address16(struct decoder *d, struct insn *insn)
{
    static const u8 base[8] = {RBX, RBX, RBP, RBP, RSI, RDI, RBP, RBX};
    static const u8 index[8] = {RSI, RDI, RSI, RDI, REG_ZERO, REG_ZERO, REG_ZERO, REG_ZERO};
    unsigned mod = d->modrm >> 6, rm = d->modrm & 7;
    insn->base = base[rm];
    insn->index = index[rm];
    if (mod == 0 && rm == 6) {
        insn->base = REG_ZERO;
        insn->disp = (i16)ld16(d->bytes + d->at);
        d->at += 2;
    } else if (mod == 1) {
        insn->disp = (i8)d->bytes[d->at++];
    } else if (mod == 2) {
        insn->disp = (i16)ld16(d->bytes + d->at);
        d->at += 2;
    }
    set_segment(d, insn, insn->base == RBP ? SS : DS);
}

static ALWAYS_INLINE void read_address32(struct decoder *d, struct insn *insn, bool vsib)
{
    unsigned mod = d->modrm >> 6, rm = d->modrm & 7;
    unsigned base = rm, disp_size = mod == 1 ? 1 : mod == 2 ? 4 : 0;
    insn->index = REG_ZERO;
    if (rm == 4) {
        u8 sib = d->bytes[d->at++];
        base = sib & 7;
        unsigned index = (sib >> 3 & 7) | d->x;
        if (vsib) {
            insn->operand[3].reg = index;
            insn->scale = sib >> 6;
        } else if (index != 4) {
            insn->index = index;
            insn->scale = sib >> 6;
        }
    } else if (rm == 5 && mod == 0 && d->code_size == CODE64) {
        d->ip_relative = 1;
    }
    if (base == 5 && mod == 0) {
        disp_size = 4;
        insn->base = d->ip_relative ? REG_IP_BASE : REG_ZERO;
    } else {
        insn->base = base | d->b;
    }
    if (disp_size == 1) insn->disp = (i8)d->bytes[d->at];
    else if (disp_size == 4) insn->disp = (i32)ld32(d->bytes + d->at);
    d->at += disp_size;
    set_segment(d, insn, insn->base == RSP || insn->base == RBP ? SS : DS);
}

/* False: no such form. */
static ALWAYS_INLINE bool read_address(struct decoder *d, struct insn *insn, bool vsib)
{
    if (unlikely(vsib) && (d->address_size == 2 || (d->modrm & 7) != 4)) return false;
    if (unlikely(d->address_size == 2)) read_address16(d, insn);
    else read_address32(d, insn, vsib);
    return true;
}

/* --- operands --- */
static ALWAYS_INLINE void set_gpr(const struct decoder *d, struct operand *o, unsigned reg,
                                  unsigned size)
{
    o->size = size;
    o->kind = OPERAND_GPR;
    o->reg = reg;
    if (size == 1 && reg >= 4 && reg < 8 && !d->rex && !d->vex) {
        o->kind = OPERAND_GPR8H;
        o->reg = reg - 4;
    }
}

static u64 read_immediate(struct decoder *d, unsigned size)
{
    const u8 *from = d->bytes + d->at;
    d->at += size;
    switch (size) {
    case 1: return *from;
    case 2: return ld16(from);
    case 4: return ld32(from);
    default: return ld64(from);
    }
}

static void set_implicit_memory(const struct decoder *d, struct insn *insn, unsigned base)
{
    insn->base = base;
    set_segment(d, insn, DS);
}

/* Operand I of INSN, which the row describes with INFO. False: no such encoding. */
static ALWAYS_INLINE bool set_operand(struct decoder *d, struct insn *insn, unsigned i,
                                      const struct operand_info *info)
{
    struct operand *o = &insn->operand[i];
    unsigned size = size_of(d, info->reg_size), rm = (d->modrm & 7) | d->b;
    unsigned reg = (d->modrm >> 3 & 7) | d->r;
    bool memory = d->modrm < 0xc0;

#define SET(kind_, reg_) (o->kind = (kind_), o->reg = (reg_), o->size = size)
    switch (info->place) {
    case PLACE_E:
        if (memory) goto memory;
        set_gpr(d, o, rm, size);
        break;
    case PLACE_G: set_gpr(d, o, reg, size); break;
    case PLACE_W:
        if (memory) goto memory;
        if (info->reg_size == dd && size == 8) size = 16;
        SET(OPERAND_VECTOR, rm);
        break;
    case PLACE_V: SET(OPERAND_VECTOR, reg); break;
    case PLACE_H:
        d->vvvv_used = 1;
        if (d->vex) SET(OPERAND_VECTOR, d->vvvv);
        else SET(insn->operand[0].kind, insn->operand[0].reg);
        break;
    case PLACE_IMM:
        SET(OPERAND_IMMEDIATE, 0);
        insn->imm = read_immediate(d, size);
        break;
    case PLACE_IMM_SIGNED:
        SET(OPERAND_IMMEDIATE, 0);
        insn->imm = (u64)sign_extend(read_immediate(d, size), size);
        break;
    case PLACE_J:
        SET(OPERAND_RELATIVE, 0);
        insn->imm = (u64)sign_extend(read_immediate(d, size), size);
        break;
    case PLACE_Z: set_gpr(d, o, (d->opcode & 7) | d->b, size); break;
    case PLACE_GPR: SET(OPERAND_GPR, info->memory_size); break;
    case PLACE_B:
        d->vvvv_used = 1;
        SET(OPERAND_GPR, d->vvvv);
        break;
    case PLACE_ONE:
        SET(OPERAND_IMMEDIATE, 0);
        insn->imm = 1;
        break;
    case PLACE_P: SET(OPERAND_MMX, reg & 7); break;
    case PLACE_Q:
        if (memory) goto memory;
        SET(OPERAND_MMX, rm & 7);
        break;
    case PLACE_ST: SET(OPERAND_X87, info->memory_size ? rm & 7 : 0); break;
    case PLACE_XMM: SET(OPERAND_VECTOR, 0); break;
    case PLACE_L:
        insn->imm = read_immediate(d, 1);
        SET(OPERAND_VECTOR, insn->imm >> 4 & (d->code_size == CODE64 ? 15 : 7));
        break;
    case PLACE_VM: goto memory;
    case PLACE_SX: SET(OPERAND_VECTOR, o->reg); break;
    case PLACE_IMM2:
        SET(OPERAND_IMMEDIATE, 0);
        insn->imm2 = read_immediate(d, 1);
        break;
    case PLACE_A:
        SET(OPERAND_FAR, 0);
        insn->imm = read_immediate(d, size - 2);
        insn->imm2 = read_immediate(d, 2);
        break;
    case PLACE_O:
        insn->disp = (i64)read_immediate(d, d->address_size);
        set_implicit_memory(d, insn, REG_ZERO);
        goto memory;
    case PLACE_X:
        set_implicit_memory(d, insn, RSI);
        o->reg = RSI;
        goto memory;
    case PLACE_Y: /* insn->seg is the source's when there are two */
        o->reg = RDI;
        if (insn->base == REG_ZERO) {
            insn->base = RDI;
            insn->seg = ES;
        }
        goto memory;
    case PLACE_BX: set_implicit_memory(d, insn, RBX); goto memory;
    case PLACE_DI: set_implicit_memory(d, insn, RDI); goto memory;
    case PLACE_S: SET(OPERAND_SEGMENT, reg & 7); break;
    case PLACE_SEG: SET(OPERAND_SEGMENT, info->memory_size); break;
    case PLACE_C:
        SET(OPERAND_CR, reg);
        return reg < 16 && (0x11d >> reg & 1); /* 0, 2, 3, 4, 8 */
    case PLACE_D: SET(OPERAND_DR, reg); return reg < 8;
    default: break;
    memory:
        o->kind = OPERAND_MEMORY;
        o->size = size_of(d, info->memory_size);
    }
#undef SET
    return true;
}

/* The manuals want the destination, the mask and the index of a gather to be different. */
static bool gather_ok(const struct insn *insn)
{
    const struct operand *o = insn->operand;
    return o[0].reg != o[2].reg && o[0].reg != o[3].reg && o[2].reg != o[3].reg;
}

static ALWAYS_INLINE bool set_operands(struct decoder *d, struct insn *insn,
                                       const struct insn_row *r)
{
    bool vsib = operand_info[r->operand[1]].place == PLACE_VM;
    insn->base = insn->index = REG_ZERO;
    if (d->modrm_there && d->modrm < 0xc0)
        if (!read_address(d, insn, vsib)) return false;
    for (unsigned i = 0; i < 4 && r->operand[i]; i++)
        if (unlikely(!set_operand(d, insn, i, &operand_info[r->operand[i]]))) return false;
    if (d->lock) {
        if (!(r->attributes & LOCK) || insn->operand[0].kind != OPERAND_MEMORY) return false;
        insn->flags |= INSN_LOCK;
    }
    if (d->vex) {
        if (d->vvvv && !d->vvvv_used) return false;
        if (vsib && !gather_ok(insn)) return false;
    }
    return true;
}

static void set_flags(const struct decoder *d, struct insn *insn, u32 attributes)
{
    unsigned flags = d->vex ? INSN_VEX : 0;
    if (d->w && (d->vex || d->code_size == CODE64)) flags |= INSN_W;
    if (attributes & END) flags |= INSN_ENDS_BLOCK;
    if ((attributes & REP) && d->rep) flags |= d->rep == PREFIX_F3 ? INSN_REP : INSN_REPNE;
    insn->flags |= flags;
}

static enum decode_status decode_failed(struct insn *insn, const struct decoder *d,
                                        unsigned available, bool too_long)
{
    unsigned length = d->at < MAX_LENGTH ? d->at : MAX_LENGTH;
    if (d->at > available && available < MAX_LENGTH) return DECODE_MORE;
    u16 pos = insn->pos;
    insn_fn fn = insn->fn;
    *insn = (struct insn){.fn = fn, .op = too_long ? OP_GP0 : OP_UD,
                          .row = too_long ? ROW_GP0 : ROW_UD, .length = length, .size = 4,
                          .address_size = d->address_size,
                          .base = REG_ZERO, .index = REG_ZERO, .seg = DS,
                          .flags = INSN_ENDS_BLOCK, .pos = pos};
    return too_long ? DECODE_TOO_LONG : DECODE_UNDEFINED;
}

enum decode_status decode_insn(struct insn *insn, const u8 *bytes, unsigned available,
                               enum code_size code_size, u16 pos,
                               const struct feature_set *features)
{
    u8 copy[48] = {0}; /* so that nothing below looks for the end: 14 prefixes and 33 bytes */
    if (likely(available >= MAX_LENGTH)) guest_copy(copy, bytes, MAX_LENGTH);
    else guest_copy(copy, bytes, available);

    memset((u8 *)insn + sizeof(insn->fn), 0, sizeof(*insn) - sizeof(insn->fn));
    insn->pos = pos;
    struct decoder d = {.bytes = copy, .code_size = code_size, .override = NO_SEGMENT,
                        .address_size = code_size == CODE64 ? 8 : code_size == CODE32 ? 4 : 2};
    if (unlikely(!read_prefixes(&d))) {
        d.at++; /* an opcode would come, and be the sixteenth byte */
        return decode_failed(insn, &d, available, true);
    }
    unsigned row = read_opcode(&d) ? find_row(&d, features) : 0;
    const struct insn_row *r = &rows[row];
    bool good = row != 0;
    if (likely(good)) {
        set_sizes(&d, insn, r->attributes);
        set_flags(&d, insn, r->attributes);
        good = set_operands(&d, insn, r);
    }
    if (unlikely(d.at > MAX_LENGTH || d.at > available || !good))
        return decode_failed(insn, &d, available, d.at > MAX_LENGTH);

    insn->op = r->op;
    insn->row = row;
    insn->length = d.at;
    insn->address_size = d.address_size;
    insn->cc = d.opcode & 15;
    if (unlikely(r->op == OP_FCMOVcc)) /* DA: B E BE U; DB: their opposites */
        insn->cc = ((0xa642u >> (d.modrm >> 1 & 12)) & 15) | (d.opcode & 1);
    if (d.ip_relative) insn->disp += pos + d.at;
    return DECODE_OK;
}

const struct insn_row *insn_row(unsigned row)
{
    return &rows[row < ARRAY_SIZE(rows) ? row : 0];
}

const char *op_name(unsigned op)
{
    static const char *const names[OP_COUNT] = {
#define OP(name) [OP_##name] = #name,
#include "cpu/ops.def"
#undef OP
    };
    return op < OP_COUNT ? names[op] : "?";
}
