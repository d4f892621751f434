/*
 * Random sequences of every instruction a program may run, 64-bit, 32-bit (flat and not) and 16-bit
 * code, on every engine: see campaign.h. And the shrinker itself.
 *
 * Arguments: a seed (only that program: all engines), a number of programs. LENGTH=long runs many
 * more.
 */
#include "tests/insn/campaign.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static struct { u64 seed; unsigned programs; } wanted = {1, 1000};

static void test_64(void **state)
{
    (void)state;
    struct field *f = field_new(flat_new, NULL);
    assert_int_equal(campaign(f, wanted.seed, wanted.programs, true), 0);
    field_free(f);
}

static void test_32(void **state)
{
    (void)state;
    struct field *f = field_new(flat_new, NULL);
    assert_int_equal(campaign(f, wanted.seed, wanted.programs, false), 0);
    field_free(f);
}

static unsigned seed_bits(u64 seed, unsigned from, unsigned below)
{
    return (unsigned)(seed * 0x9e3779b97f4a7c15ull >> from) % below;
}

/* --- segments with bases and limits --- */

#define BASE 0x10340u

static void segment(struct vcpu *cpu, unsigned seg, u64 base, u32 limit, u32 more)
{
    u32 kind = seg == CS ? SEG_CODE | SEG_READABLE : SEG_WRITABLE;
    cpu->seg[seg] = (struct segment){.base = base, .limit = limit,
                                     .selector = seg == CS ? 0x18 : 16,
                                     .attr = (SEG_P | SEG_S | SEG_ACCESSED | kind) ^ more};
}

/* All begin at BASE; now and then one ends within the data, or can't be written, or grows
 * downwards. */
static void based32(struct flat *flat, u64 seed, bool code64)
{
    struct vcpu *cpu = flat->cpu;
    (void)code64;
    for (unsigned seg = ES; seg <= GS; seg++) segment(cpu, seg, BASE, 0x3fffff, SEG_DB | SEG_G);
    unsigned odd = seed_bits(seed, 20, 3) == 0 ? ES : seed_bits(seed, 20, 3) == 1 ? SS : DS;
    u32 data = FLAT_DATA - BASE;
    switch (seed_bits(seed, 30, 8)) {
    case 0: segment(cpu, odd, BASE, data + seed_bits(seed, 33, 0x4000), SEG_DB); break;
    case 1: if (odd != SS) segment(cpu, odd, BASE, 0x3fffff, SEG_DB | SEG_WRITABLE); break;
    case 2: segment(cpu, odd, BASE, seed_bits(seed, 33, 2) ? data + 0x800 : 0x1000,
                    SEG_DB | SEG_EXPAND_DOWN); break;
    case 3: segment(cpu, CS, BASE, FLAT_CODE - BASE + 0xfff + seed_bits(seed, 33, 0x800),
                    SEG_DB); break;
    default: break;
    }
    cpu->rip -= BASE;
    cpu->regs[RSP] -= BASE;
}

static void test_based32(void **state)
{
    (void)state;
    struct field *f = field_new(flat_new, based32);
    struct sequence_place *place = field_place(f);
    place->code -= BASE, place->data -= BASE, place->counters -= BASE;
    assert_int_equal(campaign(f, wanted.seed, wanted.programs, false), 0);
    field_free(f);
}

/* --- 16-bit code: everything in 64 KiB, by a page table --- */

#define TABLE16 0xa000u
#define COUNTERS16 0x4000u
#define STACK16 0x7000u
#define DATA16 0x8000u

/* From linear address BASE on. */
static void map16(u8 *ram, u64 base)
{
    for (u64 i = 0; i < 512; i++) st64(ram + TABLE16 + i * 8, i << 12 | 7);
    st64(ram + 0x3000, TABLE16 | 7);
    u8 *entry = ram + TABLE16 + (base >> 12) * 8;
    for (unsigned n = 0; n < 4; n++) st64(entry + n * 8, (FLAT_CODE + n * 0x1000) | 7);
    st64(entry + (COUNTERS16 >> 12) * 8, 0x2f0000 | 7);
    for (unsigned n = 0; n < 3; n++)
        st64(entry + ((STACK16 >> 12) - 2 + n) * 8, (FLAT_STACK - 0x2000 + n * 0x1000) | 7);
    for (unsigned n = 0; n < FIELD_DATA_PAGES; n++)
        st64(entry + ((DATA16 >> 12) + n) * 8,
             (FLAT_DATA + n * 0x1000) | (n == 4 ? 0 : n == 5 ? 5 : 7));
}

static void code16(struct flat *flat, u64 seed, bool code64)
{
    struct vcpu *cpu = flat->cpu;
    (void)code64;
    map16(flat->ram, FLAT_CODE);
    for (unsigned seg = ES; seg <= GS; seg++) segment(cpu, seg, FLAT_CODE, 0xffff, 0);
    switch (seed_bits(seed, 30, 8)) {
    case 0: segment(cpu, DS, FLAT_CODE, 0xc000 + seed_bits(seed, 33, 0x3000), 0); break;
    case 1: segment(cpu, ES, FLAT_CODE, 0x8fff, SEG_EXPAND_DOWN); break;
    case 2: segment(cpu, SS, FLAT_CODE, 0xffff, SEG_DB); break;
    case 3: segment(cpu, DS, FLAT_CODE, 0xffffffff, SEG_DB | SEG_G); break;
    case 4: segment(cpu, CS, FLAT_CODE, 0xfff + seed_bits(seed, 33, 0x800), 0); break;
    default: break;
    }
    cpu->rip -= FLAT_CODE;
    cpu->regs[RSP] = STACK16 | (seed_bits(seed, 40, 2) ? 0x1230000 : 0);
    if (cpu->seg[SS].attr & SEG_DB) cpu->regs[RSP] = STACK16;
    if (seed_bits(seed, 44, 2)) cpu->regs[RSP] = 0x1f00; /* in a page with code */
}

/* Loops by CX, jumps by its being zero, segment registers read. */
static void piece16(struct rng *rng, bool code64, struct piece *p)
{
    // clang-format off
    static const struct { u8 length, bytes[16]; } pieces[] = {
        /* mov cx, 5; l: inc ax; nop; loop l */
        {7, {0xb9, 0x05, 0x00, 0x40, 0x90, 0xe2, 0xfc}},
        /* mov cl, 0; jcxz +1; inc ax; inc dx */
        {6, {0xb1, 0x00, 0xe3, 0x01, 0x40, 0x42}},
        {4, {0x31, 0xc9, 0xe3, 0x00}},                               /* xor cx, cx; jcxz +0 */
        /* mov ecx, 3; inc cx; l: loop l by ecx */
        {10, {0x66, 0xb9, 0x03, 0x00, 0x00, 0x00, 0x41, 0x67, 0xe2, 0xfd}},
        {4, {0x8c, 0xd8, 0x8c, 0xc3}},                               /* mov ax, ds; mov bx, es */
        /* push ds; pop ax; push cs; pop dx */
        {2, {0x1e, 0x58}}, {2, {0x0e, 0x5a}},
        {4, {0xc8, 0x08, 0x00, 0x00}}, {1, {0xc9}},                  /* enter 8, 0; leave */
        /* lea ax, [bp + si + 11h]; lea eax, [bx + si + 22h] */
        {3, {0x8d, 0x42, 0x11}}, {4, {0x66, 0x8d, 0x40, 0x22}},
    };
    // clang-format on
    unsigned n = rng_below(rng, ARRAY_SIZE(pieces));
    (void)code64;
    *p = (struct piece){.kind = PIECE_PLAIN, .length = pieces[n].length};
    memcpy(p->bytes, pieces[n].bytes, p->length);
    if (pieces[n].bytes[0] == 0xc9) p->length = 0;
    if (pieces[n].bytes[0] == 0xc8) p->bytes[p->length++] = 0xc9;
}

static void campaign16(void (*lay_out)(struct flat *, u64, bool),
                       void (*piece)(struct rng *, bool, struct piece *))
{
    struct field *f = field_new(flat_new, lay_out);
    struct sequence_place *place = field_place(f);
    place->code16 = true;
    place->code = 0, place->data = DATA16, place->counters = COUNTERS16;
    place->piece = piece;
    assert_int_equal(campaign(f, wanted.seed, wanted.programs, false), 0);
    field_free(f);
}

static void test_16(void **state)
{
    (void)state;
    campaign16(code16, piece16);
}

/* --- virtual-8086 mode: segment registers are loaded, too --- */

#define BASE86 0x20000u
#define TSS 0xb000u

static void vm86(struct flat *flat, u64 seed, bool code64)
{
    struct vcpu *cpu = flat->cpu;
    (void)code64;
    (void)seed;
    map16(flat->ram, BASE86);
    memset(flat->ram + BASE86 - 0x1000, 0, 0x1000); /* what other selectors reach besides */
    memset(flat->ram + BASE86 + 0x10000, 0, 0x1000);
    for (unsigned seg = ES; seg <= GS; seg++)
        cpu->seg[seg] =
            (struct segment){.base = BASE86,
                             .limit = 0xffff,
                             .selector = BASE86 >> 4,
                             .attr = SEG_P | SEG_DPL | SEG_S | SEG_WRITABLE | SEG_ACCESSED};
    cpu->seg[TR] = (struct segment){.base = TSS, .limit = 0x67, .attr = SEG_P | 11};
    st32(flat->ram + TSS + 4, 0xd000);
    st32(flat->ram + TSS + 8, 16);
    cpu->eflags |= FLAG_VM | FLAG_IOPL;
    cpu->cpl = 3;
    cpu->rip -= FLAT_CODE;
    cpu->regs[RSP] = STACK16;
}

static void piece86(struct rng *rng, bool code64, struct piece *p)
{
    static const u16 selectors[] = {0x2000, 0x2000, 0x2001, 0x1ff7, 0x2100};
    static const u8 ways[][4] = {
        {0x8e, 0xd8}, {0x8e, 0xc0}, {0x50, 0x1f}, {0x50, 0x07}, {0x50, 0x0f, 0xa1}};
    const u8 *way = ways[rng_below(rng, ARRAY_SIZE(ways))];
    bool ds = way[1] == 0xd8 || way[1] == 0x1f; /* by DS code is changed, which must be that which
                                                   is meant */
    u16 selector = ds ? 0x2000 : selectors[rng_below(rng, ARRAY_SIZE(selectors))];
    if (!rng_below(rng, 3)) {
        piece16(rng, code64, p);
        return;
    }
    /* mov ax, selector */
    *p = (struct piece){.kind = PIECE_PLAIN, .bytes = {0xb8, (u8)selector, (u8)(selector >> 8)}};
    p->length = 3;
    while (*way) p->bytes[p->length++] = *way++; /* mov ds or es, ax; push ax; pop ds, es or fs */
}

static void test_vm86(void **state)
{
    (void)state;
    campaign16(vm86, piece86);
}

/* A made-up failure: any program with a BSWAP in it. */
static bool has_bswap(void *opaque, const struct sequence *s)
{
    unsigned *asked = opaque;
    ++*asked;
    for (unsigned n = 0; n < s->count; n++)
        for (unsigned k = 0; k + 1 < s->piece[n].length; k++)
            if (s->piece[n].bytes[k] == 0x0f && (s->piece[n].bytes[k + 1] & 0xf8) == 0xc8)
                return true;
    return false;
}

static void test_shrinker(void **state)
{
    struct sequence s;
    struct field *f = field_new(flat_new, NULL);
    unsigned asked = 0, found = 0;
    (void)state;
    for (u64 seed = 1; seed < 200; seed++) {
        struct rng rng = {seed};
        sequence_random(&s, &rng, field_place(f), true, 100);
        if (!has_bswap(&asked, &s)) continue;
        sequence_shrink(&s, has_bswap, &asked);
        assert_int_equal(s.count, 1);
        assert_true(has_bswap(&asked, &s));
        found++;
    }
    assert_true(found > 3);
    field_free(f);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shrinker), cmocka_unit_test(test_64), cmocka_unit_test(test_32),
        cmocka_unit_test(test_based32), cmocka_unit_test(test_16), cmocka_unit_test(test_vm86),
    };
    const char *length = getenv("LENGTH");
    if (length && strcmp(length, "quick")) wanted.programs = 20000;
    if (argc > 1) wanted.seed = strtoull(argv[1], NULL, 0), wanted.programs = 1;
    if (argc > 2) wanted.programs = (unsigned)strtoul(argv[2], NULL, 0);
    return cmocka_run_group_tests_name("sequences", tests, NULL, NULL);
}
