/* See cases.h. */
#include "tests/insn/cases.h"

#include "cpu/interp.h"
#include "machine/bus_host.h"
#include "machine/error.h"
#include "tests/insn/native_tier.h" /* where its kernel lies */

#define RAM_SIZE MIB(1)

/* --- what is left out, and why --- */
// clang-format off
static const struct { u16 op; const char *why; } excluded[] = {
    {OP_SYSCALL, "leaves"}, {OP_SYSENTER, "leaves"}, {OP_INT, "leaves"}, {OP_INT3, "leaves"},
    {OP_INT1, "leaves"}, {OP_IRET, "leaves"}, {OP_CALL_FAR, "leaves"}, {OP_JMP_FAR, "leaves"},
    {OP_RET_FAR, "leaves"}, {OP_RSM, "leaves"}, {OP_UD, "validity's"},
    {OP_PUSHF, "shows the harness's TF"}, {OP_POPF, "takes the harness's TF"},
    {OP_SGDT, "UMIP"}, {OP_SIDT, "UMIP"}, {OP_SLDT, "UMIP"}, {OP_STR, "UMIP"}, {OP_SMSW, "UMIP"},
    {OP_LAR, "the host's descriptors"}, {OP_LSL, "the host's descriptors"},
    {OP_VERR, "the host's descriptors"}, {OP_VERW, "the host's descriptors"},
    {OP_MOV_SEG, "the host's selectors"}, {OP_PUSH_SEG, "the host's selectors"},
    {OP_POP_SEG, "the host's selectors"}, {OP_LFS, "the host's selectors"},
    {OP_LGS, "the host's selectors"}, {OP_LSS, "the host's selectors"},
    {OP_CPUID, "the host's answers"}, {OP_RDTSC, "the host's answers"},
    {OP_RDTSCP, "the host's answers"}, {OP_RDPMC, "the host's answers"},
    {OP_RDPID, "the host's answers"}, {OP_XGETBV, "the host's answers"},
    {OP_VMCALL, "the host's answers"}, {OP_VMMCALL, "the host's answers"},
    {OP_RDRAND, "random"}, {OP_RDSEED, "random"}, {OP_MONITOR, "CPL 0"}, {OP_MWAIT, "CPL 0"},
    {OP_CLAC, "CPL 0"}, {OP_STAC, "CPL 0"},
    {OP_RDFSBASE, "thread pointer"}, {OP_RDGSBASE, "thread pointer"},
    {OP_WRFSBASE, "thread pointer"}, {OP_WRGSBASE, "thread pointer"},
    {OP_FXSAVE, "saves the harness's x87 pointers"}, {OP_FXRSTOR, "image"},
    {OP_XSAVE, "image"}, {OP_XRSTOR, "image"}, {OP_XSAVEOPT, "image"}, {OP_XSAVEC, "image"},
    {OP_XSAVES, "CPL 0"}, {OP_XRSTORS, "CPL 0"},
    {OP_FNSTENV, "saves the harness's x87 pointers"},
    {OP_FNSAVE, "saves the harness's x87 pointers"},
};
// clang-format on
/* Results are approximations that differ between makers: relative error is what the manual
 * promises. */
bool case_approximate(unsigned op)
{
    return op == OP_RCPPS || op == OP_RCPSS || op == OP_RSQRTPS || op == OP_RSQRTSS;
}

const char *case_excluded(const struct encoding *e)
{
    const struct insn_row *row = insn_row(e->row);
    for (unsigned i = 0; i < ARRAY_SIZE(excluded); i++)
        if (excluded[i].op == row->op) return excluded[i].why;
    if (row->attributes & ATTR_CPL0) return "CPL 0";
    return NULL;
}

/* All that is mapped lies in one page table's 2 MiB. */
enum { PML4 = 0x1000, PDPT = 0x2000, PD = 0x3000, PT = 0x4000 };

static void map_page(struct cases *b, u64 linear, u64 physical, bool writable)
{
    st64(b->ram + PML4, PDPT | 7);
    st64(b->ram + PDPT, PD | 7);
    st64(b->ram + PD + (linear >> 21 & 511) * 8, PT | 7);
    st64(b->ram + PT + (linear >> 12 & 511) * 8, physical | 0x65 | (writable ? 2 : 0));
}

bool cases_open(struct cases *b, const struct feature_set *features)
{
    struct error error;
    memset(b, 0, sizeof(*b));
    b->rng.state = 1;
    b->bus = bus_new(RAM_SIZE, MIB(1), &b->log, &error);
    if (!b->bus) return false;
    b->ram = bus_alloc_memory(b->bus, RAM_SIZE, "ram");
    region_init_memory(&b->region, b->ram, RAM_SIZE, false, "ram");
    bus_map(b->bus, BUS_MEMORY, &b->region, 0, LAYER_RAM);
    b->guest_data = b->ram + GUEST_DATA;
    map_page(b, NATIVE_CODE, GUEST_CODE, false);
    for (unsigned i = 0; i < NATIVE_RW_PAGES; i++)
        map_page(b, NATIVE_DATA + i * 4096, GUEST_DATA + i * 4096, true);
    map_page(b, NATIVE_RO, GUEST_DATA + NATIVE_RW_PAGES * 4096, false);

    for (unsigned i = 0; i < TIER_KERNEL_PAGES; i++)
        map_page(b, TIER_KERNEL + i * 4096, GUEST_KERNEL + i * 4096, true);

    struct vcpu *cpu = b->cpu = cpu_new(0, b->bus, &b->log);
    b->features = *features;
    cpu->features = b->features;
    cpu->physical_mask = (1ull << 40) - 1;
    cpu->cpl = 3;
    cpu->cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_PG;
    cpu->cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE | CR4_FSGSBASE;
    cpu->efer = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE;
    cpu->cr3 = PML4;
    cpu->xcr0 = 7;
    for (unsigned i = 0; i < 6; i++)
        cpu->seg[i] = (struct segment){
            .limit = ~0u, .attr = SEG_P | SEG_S | SEG_DPL | 3 | SEG_G | SEG_DB, .selector = 0x2b};
    cpu->seg[CS].attr = SEG_P | SEG_S | SEG_DPL | SEG_CODE | 3 | SEG_G | SEG_L;
    cpu_restored(cpu);
    cpu->activity = CPU_RUNNING;
    return cpu->code_size == CODE64;
}

void cases_fill(struct cases *b)
{
    for (unsigned i = 0; i < NATIVE_DATA_SIZE; i += 8) {
        u64 r = rng_next(&b->rng);
        switch (r & 7) {
        case 0: r = 0; break;
        case 1: r = ~0ull; break;
        case 2: r = 0x3ff0000000000000ull | (r & 0x8000000000000000ull); break;
        case 3: r = 0x7fc000007f800000ull; break;
        default: break;
        }
        st64(b->guest_data + i, r);
    }
}

/* --- states --- */
static u64 corner(struct rng *rng)
{
    static const u64 corners[] = {0,
                                  1,
                                  2,
                                  ~0ull,
                                  0x7f,
                                  0x80,
                                  0xff,
                                  0x7fff,
                                  0x8000,
                                  0xffff,
                                  0x7fffffff,
                                  0x80000000,
                                  0xffffffff,
                                  0x7fffffffffffffff,
                                  0x8000000000000000,
                                  0x100,
                                  0x10000,
                                  0x100000000,
                                  0x5555555555555555};
    u64 r = rng_next(rng);
    switch (r >> 60) {
    case 0:
    case 1:
    case 2:
    case 3: return corners[(r >> 8) % ARRAY_SIZE(corners)];
    case 4:
    case 5: return r & 63;
    case 6: return (u64)(-(i64)(r & 63));
    case 7: return (u64)(i64)(i32)r;
    case 8: return (u32)r;
    default: return rng_next(rng);
    }
}

static u32 corner_float(struct rng *rng)
{
    static const u32 corners[] = {0,          0x80000000, 0x3f800000, 0xbf800000, 0x7f800000,
                                  0xff800000, 0x7fc00000, 0xffc00000, 0x7f800001, 0xff812345,
                                  0x00000001, 0x807fffff, 0x00800000, 0x7f7fffff, 0x4f000000,
                                  0xcf000000, 0x5f000000, 0x3f000000, 0x40200000, 0x4effffff,
                                  0x33000000, 0x477fe000};
    u64 r = rng_next(rng);
    if (r >> 62 == 0) return (u32)r;
    if (r >> 62 == 1) return corners[(u32)r % ARRAY_SIZE(corners)];
    return ((u32)r & 0x807fffff) | (127 + (r >> 32) % 9 - 4) << 23;
}
static u64 corner_double(struct rng *rng)
{
    static const u64 corners[] = {0,
                                  1ull << 63,
                                  0x3ff0000000000000,
                                  0xbff0000000000000,
                                  0x7ff0000000000000,
                                  0xfff0000000000000,
                                  0x7ff8000000000000,
                                  0x7ff0000000000001,
                                  1,
                                  0x800fffffffffffff,
                                  0x0010000000000000,
                                  0x7fefffffffffffff,
                                  0x41dfffffffc00000,
                                  0xc1e0000000000000,
                                  0x43e0000000000000,
                                  0xc3e0000000000000,
                                  0x3fe0000000000000,
                                  0x47efffffe0000000,
                                  0x3810000000000000,
                                  0x36a0000000000000};
    u64 r = rng_next(rng), r2 = rng_next(rng);
    if (r >> 62 == 0) return r2;
    if (r >> 62 == 1) return corners[(u32)r % ARRAY_SIZE(corners)];
    return (r2 & 0x800fffffffffffffull) | (1023 + (r >> 32) % 9 - 4) << 52;
}

static void random_vector(struct rng *rng, u8 *to)
{
    unsigned kind = rng_below(rng, 4);
    for (unsigned i = 0; i < 16; i += 8) {
        u64 value = kind == 0   ? rng_next(rng)
                    : kind == 1 ? corner(rng)
                    : kind == 2 ? corner_double(rng)
                                : corner_float(rng) | (u64)corner_float(rng) << 32;
        st64(to + i, value);
    }
}

static void random_x87(struct rng *rng, u8 *to)
{
    u64 m = rng_next(rng);
    u16 e = (u16)rng_next(rng);
    memset(to, 0, 16);
    switch (rng_below(rng, 8)) {
    case 0:
        m = corner(rng);
        e = rng_below(rng, 2) ? 0x7fff : 0;
        e |= rng_below(rng, 2) << 15;
        break;
    case 1:
        m = 1ull << 63;
        e = (e & 0x8000) | (rng_below(rng, 2) ? 0x7fff : 0x3fff);
        break;
    case 2:
        m = 0;
        e &= 0x8000;
        break;
    case 3: m |= 1ull << 63; break;
    case 4: break; /* also forms that no operation makes */
    default:
        m |= 1ull << 63;
        e = (e & 0x8000) | (u16)(0x3fff - 40 + rng_below(rng, 110));
        break;
    }
    st64(to, m);
    st16(to + 8, e);
}

static void random_state(struct rng *rng, struct native_state *s, const struct insn_row *row)
{
    memset(s, 0, sizeof(*s));
    for (unsigned i = 0; i < 16; i++) s->gpr[i] = corner(rng);
    s->flags = (u32)rng_next(rng) & NATIVE_FLAGS;
    s->mxcsr = 0x1f80;
    s->fcw = 0x37f;
    if (row->attributes & (ATTR_SSE | ATTR_AVX)) {
        for (unsigned i = 0; i < 16; i++) {
            random_vector(rng, s->xmm[i]);
            random_vector(rng, s->ymm[i]);
        }
        if (rng_below(rng, 2)) s->mxcsr = 0x1f80 | (rng_below(rng, 4) << 13);
        if (!rng_below(rng, 4)) s->mxcsr |= rng_next(rng) & 0x807f;
        if (!rng_below(rng, 12)) s->mxcsr &= ~(u32)rng_next(rng) | 0xe07f;
    }
    if (row->attributes & (ATTR_X87 | ATTR_MMX)) {
        for (unsigned i = 0; i < 8; i++) random_x87(rng, s->st[i]);
        s->ftw = rng_below(rng, 4) ? 0xff : (u8)rng_next(rng);
        s->fsw = (u16)(rng_below(rng, 8) << 11 | (rng_next(rng) & 0x4700));
        if (rng_below(rng, 2))
            s->fcw = (u16)(0x7f | rng_below(rng, 4) << 10 | rng_below(rng, 4) << 8);
        if (!rng_below(rng, 8)) s->fsw |= rng_next(rng) & 0x7f;
        if (!rng_below(rng, 10)) s->fcw &= (u16)rng_next(rng) | 0xff40;
        if (s->fsw & ~s->fcw & 0x3f)
            s->fsw |= 0x8080;
        else
            s->fsw &= 0x7f7f;
    }
}

void case_load(struct vcpu *cpu, const struct native_state *s)
{
    memcpy(cpu->regs, s->gpr, sizeof(s->gpr));
    cpu->regs[REG_ZERO] = 0;
    cpu->regs[REG_IP_BASE] = NATIVE_CODE;
    cpu->rip = s->rip;
    cpu->eflags = FLAG_IF | (s->flags & FLAG_DF);
    flags_put(cpu, s->flags & FLAGS_ARITHMETIC);
    for (unsigned i = 0; i < 16; i++)
        for (unsigned q = 0; q < 2; q++) {
            cpu_vec(cpu, i)->q[q] = ld64(s->xmm[i] + q * 8);
            cpu_vec(cpu, i)->q[q + 2] = ld64(s->ymm[i] + q * 8);
        }
    cpu->mxcsr = s->mxcsr;
    cpu->fcw = s->fcw;
    cpu->fsw = s->fsw;
    cpu->ftw = s->ftw;
    for (unsigned i = 0; i < 8; i++) {
        unsigned r = ((s->fsw >> 11) + i) & 7;
        cpu->fpu_mantissa[r] = ld64(s->st[i]);
        cpu->fpu_exponent[r] = ld16(s->st[i] + 8);
    }
    cpu->exception.vector = -2;
    cpu->leave_block = false;
    cpu->pending_db = 0;
    cpu->icount = 0;
}

void case_save(struct vcpu *cpu, struct native_state *s)
{
    memset(s, 0, sizeof(*s));
    memcpy(s->gpr, cpu->regs, sizeof(s->gpr));
    s->rip = cpu->rip;
    s->flags = cpu_eflags(cpu) & NATIVE_FLAGS;
    for (unsigned i = 0; i < 16; i++)
        for (unsigned q = 0; q < 2; q++) {
            st64(s->xmm[i] + q * 8, cpu_vec(cpu, i)->q[q]);
            st64(s->ymm[i] + q * 8, cpu_vec(cpu, i)->q[q + 2]);
        }
    s->mxcsr = cpu->mxcsr;
    s->fcw = cpu->fcw;
    s->fsw = cpu->fsw;
    s->ftw = cpu->ftw;
    for (unsigned i = 0; i < 8; i++) {
        unsigned r = ((cpu->fsw >> 11) + i) & 7;
        st64(s->st[i], cpu->fpu_mantissa[r]);
        st16(s->st[i] + 8, cpu->fpu_exponent[r]);
    }
}

/* --- running ours --- */
static bool stop(struct vcpu *cpu, const struct insn *insn)
{
    (void)cpu;
    (void)insn;
    return true;
}

struct native_fault case_run(struct cases *b, const struct insn *decoded, bool handler)
{
    struct vcpu *cpu = b->cpu;
    struct insn insns[2] = {*decoded, {.fn = stop, .op = OP_NOP}};
    bool control = decoded->flags & INSN_ENDS_BLOCK, done = false;
    if (!control) cpu->rip = cpu_next_ip(cpu, decoded);
    for (unsigned i = 0; i < 1000 && !done; i++) {
        cpu->exception.vector = -2;
        cpu->current_insn = insns;
        if (handler && !control) {
            insns[0].fn = interp_handler(cpu, insns);
            done = insns[0].fn(cpu, insns);
        } else {
            done = (!(insn_row(decoded->row)->attributes &
                      (ATTR_X87 | ATTR_MMX | ATTR_SSE | ATTR_AVX)) ||
                    fpu_check(cpu, insns)) &&
                   sem_table[decoded->op](cpu, insns);
        }
        if (!done && cpu->exception.vector != -1) break; /* -1: once more */
    }
    if (done) return (struct native_fault){.vector = -1};
    if (!control) cpu->rip = NATIVE_CODE + decoded->pos;
    bool either = cpu->exception.vector == VECTOR_GP && cpu->fault_noncanonical; /* #SS by intr.c */
    return (struct native_fault){.vector = either ? GP_OR_SS : cpu->exception.vector,
                                 .error = cpu->exception.has_error ? cpu->exception.error : 0,
                                 .address = cpu->exception.address};
}

/* --- memory operands --- */

/* An address on the test pages for SIZE bytes; now and then a bad one. */
static u64 pick_address(struct rng *rng, unsigned size, unsigned alignment)
{
    u64 page = NATIVE_DATA + rng_below(rng, NATIVE_RW_PAGES) * 4096;
    u64 inside = page + rng_below(rng, 4096 - 512);
    switch (rng_below(rng, 40)) {
    case 0: return NATIVE_DATA + 4096 - rng_below(rng, size + 1); /* across two pages */
    case 1: return NATIVE_RO - rng_below(rng, size + 1);          /* into the read-only one */
    case 2: return NATIVE_RO + 4096 - rng_below(rng, size + 1);   /* into nothing */
    case 3: return NATIVE_RO + rng_below(rng, 2048);
    case 4: return NATIVE_DATA - rng_below(rng, size + 1);
    case 5: return inside;
    case 6: return inside | 0x8000000000000000ull >> rng_below(rng, 16); /* not canonical */
    case 7:
    case 8: return NATIVE_DATA + 4096 - alignment;
    default: return inside & ~(u64)(alignment - 1);
    }
}

/* Makes the memory operand lead to TARGET: false when this encoding can't. */
static bool aim(struct encoded *code, struct insn *insn, struct native_state *s, u64 target)
{
    bool is32 = insn->address_size == 4;
    u64 index = insn->index == REG_ZERO ? 0 : s->gpr[insn->index] << insn->scale;
    if (insn->base < 16) {
        if (insn->base == insn->index) return false;
        u64 value = target - index - (u64)insn->disp;
        s->gpr[insn->base] = is32 ? (u32)value | (s->gpr[insn->base] & ~0xffffffffull) : value;
        return true;
    }
    if (code->disp_at < 0) return false;
    u64 disp =
        target - index - (insn->base == REG_IP_BASE ? NATIVE_CODE + insn->pos + insn->length : 0);
    if (is32) disp = (u64)(i64)(i32)disp;
    if ((u64)(i64)(i32)disp != disp) return false;
    st32(code->bytes + code->disp_at, (u32)disp);
    return true;
}

static bool is_bit_string(const struct insn *insn)
{
    return (insn->op == OP_BT || insn->op == OP_BTS || insn->op == OP_BTR || insn->op == OP_BTC) &&
           insn->operand[0].kind == OPERAND_MEMORY && insn->operand[1].kind == OPERAND_GPR;
}

static void prepare_implicit(struct rng *rng, const struct insn *insn, struct native_state *s)
{
    u32 attributes = insn_row(insn->row)->attributes;
    if (attributes & ATTR_REP) {
        bool first = rng_below(rng, 2); /* one of them bad: which is looked at first is not said */
        u64 good = NATIVE_DATA + 1024 + rng_below(rng, 4096);
        s->gpr[RSI] = first ? pick_address(rng, insn->size * 4, 1) : good;
        s->gpr[RDI] = first ? good : pick_address(rng, insn->size * 4, 1);
        if (insn->flags & (INSN_REP | INSN_REPNE)) {
            s->gpr[RCX] = rng_below(rng, 24);
            if (insn->address_size == 4) s->gpr[RCX] |= rng_next(rng) << 32;
        }
    }
    /* Whether a zero mask faults is up to the processor. */
    if (insn->op == OP_MASKMOVQ || insn->op == OP_MASKMOVDQU)
        s->gpr[RDI] = NATIVE_DATA + rng_below(rng, 8176);
    if (insn->op == OP_XLAT) s->gpr[RBX] = pick_address(rng, 256, 1);
    if (attributes & ATTR_STACK) {
        s->gpr[RSP] = rng_below(rng, 12) ? NATIVE_DATA + 1024 + rng_below(rng, 2048)
                                         : pick_address(rng, 8, 8);
        if (insn->op == OP_ENTER || insn->op == OP_LEAVE) {
            s->gpr[RBP] = NATIVE_DATA + 4096 + rng_below(rng, 2048);
            if (!rng_below(rng, 8)) s->gpr[RBP] = pick_address(rng, 8, 8);
        }
    }
}

static unsigned memory_size(const struct insn *insn)
{
    unsigned size = 1;
    for (unsigned i = 0; i < 4; i++)
        if (insn->operand[i].kind == OPERAND_MEMORY && insn->operand[i].size > size)
            size = insn->operand[i].size;
    return size;
}

/* Near transfers through registers and memory go to a canonical address. */
static void tame_target(struct cases *b, const struct insn *insn, struct native_state *s, u64 at)
{
    u64 to = NATIVE_CODE + 2048 + rng_below(&b->rng, 2048);
    if (insn->operand[0].kind == OPERAND_GPR) {
        s->gpr[insn->operand[0].reg] = to;
        return;
    }
    if (at < NATIVE_DATA || at + 8 > NATIVE_RO) return;
    st64(b->guest_data + (at - NATIVE_DATA), to);
}

/* Registers and bytes such that every access lies where it can do no harm. */
static bool prepare(struct cases *b, struct encoded *code, struct insn *insn,
                    struct native_state *s)
{
    struct rng *rng = &b->rng;
    bool has_modrm_memory = insn->base != REG_ZERO || code->disp_at >= 0;
    bool gather = insn->op >= OP_VGATHERDPS && insn->op <= OP_VPGATHERQQ;
    u64 target = 0;
    prepare_implicit(rng, insn, s);
    if (insn_row(insn->row)->attributes & ATTR_REP || insn->op == OP_MASKMOVQ ||
        insn->op == OP_MASKMOVDQU || insn->op == OP_XLAT)
        return true;
    if (insn->op == OP_MOV && has_modrm_memory == false && memory_size(insn) &&
        insn->base == REG_ZERO &&
        (insn->operand[0].kind == OPERAND_MEMORY || insn->operand[1].kind == OPERAND_MEMORY)) {
        u64 address = pick_address(rng, 8, 1); /* moffs: the address follows the opcode */
        if (insn->address_size == 8)
            st64(code->bytes + insn->length - 8, address);
        else
            st32(code->bytes + insn->length - 4, (u32)address);
        return true;
    }
    if (is_bit_string(insn))
        s->gpr[insn->operand[1].reg] =
            (u64)((i64)rng_below(rng, 1600) - 800) & size_mask(insn->size);
    if (gather) {
        unsigned n = insn->operand[3].reg;
        bool q = insn->op == OP_VGATHERQPS || insn->op == OP_VGATHERQPD ||
                 insn->op == OP_VPGATHERQD || insn->op == OP_VPGATHERQQ;
        for (unsigned i = 0; i < 4; i++) {
            u64 index = q ? (u64)((i64)rng_below(rng, 64) - 32)
                          : (u32)(rng_below(rng, 64) - 32) | (u64)(rng_below(rng, 64) - 32) << 32;
            st64((i < 2 ? s->xmm[n] : s->ymm[n]) + (i & 1) * 8, index);
        }
    }
    bool memory = false;
    for (unsigned i = 0; i < 4; i++) memory |= insn->operand[i].kind == OPERAND_MEMORY;
    if (memory && insn->op != OP_NOP) {
        if (insn->index < 16 && insn->index != insn->base)
            s->gpr[insn->index] = (u64)((i64)rng_below(rng, 64) - 32);
        unsigned size = memory_size(insn);
        target = pick_address(rng, size, size >= 8 && !(size & (size - 1)) ? size : 1);
        if (insn->address_size == 4) target = (u32)target;
        if (!aim(code, insn, s, target)) return false;
        if (is_bit_string(insn) && insn->base == insn->operand[1].reg) return false;
    }
    if (insn->op == OP_JMP_INDIRECT || insn->op == OP_CALL_INDIRECT)
        tame_target(b, insn, s, target);
    if (insn->op == OP_RET) tame_target(b, insn, s, s->gpr[RSP]);
    if (insn->op == OP_ENTER && insn->imm2 & 31 && insn->imm > 2048) return false;
    if (insn->op == OP_DIV || insn->op == OP_IDIV)
        if (rng_below(rng, 2) && insn->base != RDX && insn->index != RDX)
            s->gpr[RDX] = insn->op == OP_IDIV && (s->gpr[RAX] >> 63) ? ~0ull : 0;
    return true;
}

bool case_make(struct cases *b, const struct encoding *e, struct encoded *code, struct insn *insn,
               struct native_state *in)
{
    encode_random(&b->rng, e, code);
    if (decode_insn(insn, code->bytes, 15, CODE64, POS, &b->features) != DECODE_OK) return false;
    if (insn_row(insn->row)->attributes & ATTR_CPL0) return false;
    if (insn->operand[0].kind == OPERAND_RELATIVE && insn->imm + insn->length == 0)
        return false; /* itself */
    random_state(&b->rng, in, insn_row(insn->row));
    in->rip = NATIVE_CODE + POS;
    if (!prepare(b, code, insn, in)) return false;
    return decode_insn(insn, code->bytes, 15, CODE64, POS, &b->features) == DECODE_OK;
}

/* The flags that INSN leaves undefined for these operands. */
u32 case_undefined(const struct insn *insn, const struct native_state *in)
{
    const struct insn_row *row = insn_row(insn->row);
    u32 undefined = row->flags_undefined & NATIVE_FLAGS;
    unsigned bits = insn->size * 8;
    if (insn->op >= OP_ROL && insn->op <= OP_SHRD) {
        unsigned n = insn->operand[1].kind == OPERAND_IMMEDIATE ? (unsigned)insn->imm
                                                                : (unsigned)in->gpr[RCX];
        bool twice = insn->op == OP_SHLD || insn->op == OP_SHRD;
        if (twice)
            n = insn->operand[2].kind == OPERAND_IMMEDIATE ? (unsigned)insn->imm
                                                           : (unsigned)in->gpr[RCX];
        n &= bits == 64 ? 63 : 31;
        if (n == 0)
            undefined = 0;
        else if (n == 1)
            undefined &= ~(u32)FLAG_OF;
        if ((insn->op == OP_SHL || insn->op == OP_SHR) && n >= bits) undefined |= FLAG_CF;
        if (twice && n > bits) undefined |= FLAGS_ARITHMETIC;
    }
    return undefined;
}

/* SHLD and SHRD of 16 bits by more than 16 leave anything. */
bool case_result_undefined(const struct insn *insn, const struct native_state *in)
{
    if ((insn->op != OP_SHLD && insn->op != OP_SHRD) || insn->size != 2) return false;
    unsigned n =
        insn->operand[2].kind == OPERAND_IMMEDIATE ? (unsigned)insn->imm : (unsigned)in->gpr[RCX];
    return (n & 31) > 16;
}

/* What the manuals leave open: arguments out of range, last places, and C1, which tells their
 * rounding. */
bool case_transcendental(unsigned op)
{
    switch (op) {
    case OP_F2XM1:
    case OP_FYL2X:
    case OP_FYL2XP1:
    case OP_FPTAN:
    case OP_FPATAN:
    case OP_FSIN:
    case OP_FCOS:
    case OP_FSINCOS: return true;
    default: return false;
    }
}
bool case_in_range(const struct insn *insn, const struct native_state *in)
{
    unsigned exponent = ld16(in->st[0] + 8) & 0x7fff;
    if (insn->op == OP_F2XM1) return exponent < 0x3fff;
    if (insn->op == OP_FYL2XP1) return exponent < 0x3ffd;
    return true;
}
