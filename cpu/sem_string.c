/*
 * MOVS, CMPS, SCAS, LODS, STOS and their repetition.
 * Specification: Intel SDM vol. 2, vol. 1 ch. 7.3.9.
 *
 * rCX, rSI and rDI are moved on after each piece, so a fault or a pause leaves the registers as the
 * manual says. A repetition works in pieces of at most a page of plain RAM, found by the TLB's
 * tags; whatever does not fit (page crossings, devices, code pages, a downward direction, a source
 * that the destination runs into) goes element by element. Between pieces it looks whether the
 * processor is wanted elsewhere and then starts the instruction again.
 */
#include "cpu/sem.h"

#define ELEMENTS_A_PIECE 256u /* without the tags: between two looks */

struct string {
    struct vcpu *cpu;
    const struct insn *insn;
    unsigned size, seg;
    u64 mask;      /* of addresses and the count */
    i64 step;      /* to the next element */
    bool uses_si, uses_di;
};

static struct string string_begin(struct vcpu *cpu, const struct insn *insn, bool si, bool di)
{
    i64 size = insn->size;
    return (struct string){
        .cpu = cpu, .insn = insn, .size = insn->size, .seg = insn->seg,
        .mask = size_mask(insn->address_size), .step = cpu->eflags & FLAG_DF ? -size : size,
        .uses_si = si, .uses_di = di};
}

static bool si_linear(const struct string *s, bool write, u64 *linear)
{
    return seg_linear(s->cpu, s->seg, s->cpu->regs[RSI] & s->mask, s->size, write, linear);
}

static bool di_linear(const struct string *s, bool write, u64 *linear)
{
    return seg_linear(s->cpu, ES, s->cpu->regs[RDI] & s->mask, s->size, write, linear);
}

static void add_register(const struct string *s, unsigned reg, i64 delta)
{
    gpr_write(s->cpu, reg, s->insn->address_size, s->cpu->regs[reg] + (u64)delta);
}

/* N elements are done. */
static void advance(const struct string *s, u64 n)
{
    if (s->uses_si) add_register(s, RSI, s->step * (i64)n);
    if (s->uses_di) add_register(s, RDI, s->step * (i64)n);
}

static u64 string_count(const struct string *s)
{
    return s->cpu->regs[RCX] & s->mask;
}

/* --- pieces of plain RAM --- */

/*
 * Host address of the elements at REG upward if they may be accessed directly; *n is cut to what
 * lies in the page, before the address wraps and within the segment. NULL: element by element.
 */
static u8 *string_direct(const struct string *s, unsigned seg, unsigned reg, bool write, u64 *n)
{
    struct vcpu *cpu = s->cpu;
    u64 ea = cpu->regs[reg] & s->mask, linear, last;
    if (s->step < 0) return NULL;
    bool flat = (cpu->mode_key & MODE_FLAT) && seg < FS;
    if (!flat) {
        u64 room = (s->mask - ea) / s->size;
        if (*n > room) *n = room;
        if (*n > PAGE_SIZE) *n = PAGE_SIZE;
        if (!*n || !seg_linear(cpu, seg, ea + (*n - 1) * s->size, s->size, write, &last))
            return NULL;
    }
    if (!seg_linear(cpu, seg, ea, s->size, write, &linear)) return NULL;
    const struct tlb_entry *e = tlb_slot(cpu->tlb_now, linear);
    const _Atomic u64 *tag = write ? &e->tag_write : &e->tag_read;
    if (atomic_load_explicit(tag, memory_order_relaxed) != (linear & PAGE_MASK)) return NULL;
    u64 room = (PAGE_SIZE - (linear & (PAGE_SIZE - 1))) / s->size;
    if (*n > room) *n = room;
    return *n ? (u8 *)(uintptr_t)(linear + e->addend) : NULL;
}

/* The processor has something else to do, or must see what was just written. */
static bool string_pause(const struct string *s)
{
    return s->cpu->leave_block ||
           atomic_load_explicit(&s->cpu->run_until, memory_order_relaxed) == 0;
}

/*
 * Runs PIECE until the count is used up. It does at most N elements, moves the registers on and
 * says how many; zero is a fault. It clears *more to end the repetition early.
 */
typedef u64 (*piece_fn)(const struct string *s, u64 n, bool *more);

static bool string_repeat(const struct string *s, piece_fn piece)
{
    struct vcpu *cpu = s->cpu;
    bool more = true;
    if (!(s->insn->flags & (INSN_REP | INSN_REPNE))) return piece(s, 1, &more) != 0;
    bool step = cpu->mode_key & MODE_STEP;
    for (unsigned elements = 0; string_count(s);) {
        u64 done = piece(s, step ? 1 : string_count(s), &more);
        if (!done) return false;
        add_register(s, RCX, -(i64)done);
        if (!more || !string_count(s)) return true;
        if (done == 1 && !step && ++elements < ELEMENTS_A_PIECE && !cpu->leave_block) continue;
        elements = 0;
        if (step || string_pause(s)) return cpu_restart(cpu);
    }
    return true;
}

/* --- MOVS --- */

static u64 movs_piece(const struct string *s, u64 n, bool *more)
{
    u64 from, to, value;
    (void)more;
    if (n > 1) {
        u8 *target = string_direct(s, ES, RDI, true, &n);
        u8 *source = target ? string_direct(s, s->seg, RSI, false, &n) : NULL;
        u64 bytes = n * s->size;
        if (source && (target <= source || target >= source + bytes)) {
            guest_copy(target, source, bytes);
            advance(s, n);
            return n;
        }
    }
    if (!si_linear(s, false, &from) || !lin_read(s->cpu, from, s->size, &value)) return 0;
    if (!di_linear(s, true, &to) || !lin_write(s->cpu, to, s->size, value)) return 0;
    advance(s, 1);
    return 1;
}

bool sem_MOVS(struct vcpu *cpu, const struct insn *insn)
{
    struct string s = string_begin(cpu, insn, true, true);
    return string_repeat(&s, movs_piece);
}

/* --- STOS --- */

static void fill(u8 *to, u64 value, unsigned size, u64 n)
{
    if (size == 1 || value == (value & 0xff) * (size_mask(size) / 0xff)) {
        guest_fill(to, (u8)value, n * size);
        return;
    }
    for (u64 i = 0; i < n; i++, to += size) mem_store_host(to, value, size);
}

static u64 stos_piece(const struct string *s, u64 n, bool *more)
{
    u64 to, value = gpr_read(s->cpu, RAX, s->size);
    u8 *host = n > 1 ? string_direct(s, ES, RDI, true, &n) : NULL;
    (void)more;
    if (host) {
        fill(host, value, s->size, n);
        advance(s, n);
        return n;
    }
    if (!di_linear(s, true, &to) || !lin_write(s->cpu, to, s->size, value)) return 0;
    advance(s, 1);
    return 1;
}

bool sem_STOS(struct vcpu *cpu, const struct insn *insn)
{
    struct string s = string_begin(cpu, insn, false, true);
    return string_repeat(&s, stos_piece);
}

/* --- LODS --- */

static u64 lods_piece(const struct string *s, u64 n, bool *more)
{
    u64 from, value;
    (void)n, (void)more;
    if (!si_linear(s, false, &from) || !lin_read(s->cpu, from, s->size, &value)) return 0;
    gpr_write(s->cpu, RAX, s->size, value);
    advance(s, 1);
    return 1;
}

bool sem_LODS(struct vcpu *cpu, const struct insn *insn)
{
    struct string s = string_begin(cpu, insn, true, false);
    return string_repeat(&s, lods_piece);
}

/* --- SCAS, CMPS: REPE goes on while equal, REPNE while different --- */

static bool goes_on(const struct string *s, bool equal)
{
    return s->insn->flags & INSN_REPNE ? !equal : equal;
}

static void compare_done(const struct string *s, u64 a, u64 b, u64 n, bool *more)
{
    flags_sub(s->cpu, a, b, a - b, s->size);
    advance(s, n);
    *more = goes_on(s, a == b);
}

static u64 scas_piece(const struct string *s, u64 n, bool *more)
{
    u64 at, value, a = gpr_read(s->cpu, RAX, s->size);
    const u8 *host = n > 1 ? string_direct(s, ES, RDI, false, &n) : NULL;
    if (host) {
        u64 i = 0;
        do value = mem_load_host(host + i * s->size, s->size);
        while (++i < n && goes_on(s, a == value));
        compare_done(s, a, value, i, more);
        return i;
    }
    if (!di_linear(s, false, &at) || !lin_read(s->cpu, at, s->size, &value)) return 0;
    compare_done(s, a, value, 1, more);
    return 1;
}

bool sem_SCAS(struct vcpu *cpu, const struct insn *insn)
{
    struct string s = string_begin(cpu, insn, false, true);
    return string_repeat(&s, scas_piece);
}

static u64 cmps_piece(const struct string *s, u64 n, bool *more)
{
    u64 at, a, b;
    if (n > 1) {
        const u8 *first = string_direct(s, s->seg, RSI, false, &n);
        const u8 *second = first ? string_direct(s, ES, RDI, false, &n) : NULL;
        if (second) {
            u64 i = 0;
            do {
                a = mem_load_host(first + i * s->size, s->size);
                b = mem_load_host(second + i * s->size, s->size);
            } while (++i < n && goes_on(s, a == b));
            compare_done(s, a, b, i, more);
            return i;
        }
    }
    if (!si_linear(s, false, &at) || !lin_read(s->cpu, at, s->size, &a)) return 0;
    if (!di_linear(s, false, &at) || !lin_read(s->cpu, at, s->size, &b)) return 0;
    compare_done(s, a, b, 1, more);
    return 1;
}

bool sem_CMPS(struct vcpu *cpu, const struct insn *insn)
{
    struct string s = string_begin(cpu, insn, true, true);
    return string_repeat(&s, cmps_piece);
}
