/*
 * Integer instructions and the interpreter: flags, precise faults, repetition, self-modifying code,
 * exact counting, the block cache's bounds. Guest code is given as bytes with its assembly beside
 * it.
 */
#include "tests/insn/flat.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static int make(void **state)
{
    *state = flat_new();
    return 0;
}

static int unmake(void **state)
{
    flat_free(*state);
    return 0;
}

#define RUN(f, ...)                                                                                \
    flat_run(f, (const u8[]){__VA_ARGS__}, sizeof((const u8[]){__VA_ARGS__}))
#define O FLAG_OF
#define S FLAG_SF
#define Z FLAG_ZF
#define A FLAG_AF
#define P FLAG_PF
#define C FLAG_CF

struct one { u8 code[8]; u8 length; u32 in; u64 a, c, result; u32 out; };

/* rAX and rCX in, rAX and flags out. */
static void test_flags(void **state)
{
    static const struct one cases[] = {
        {{0x00, 0xc8}, 2, 0, 0x7f, 1, 0x80, O | S | A},                        /* add al, cl */
        {{0x01, 0xc8}, 2, 0, 0xffffffff, 1, 0, Z | A | P | C},                 /* add eax, ecx */
        {{0x48, 0x11, 0xc8}, 3, C, ~0ull, 0, 0, Z | A | P | C},                /* adc rax, rcx */
        {{0x19, 0xc0}, 2, C, 5, 0, 0xffffffff, S | A | P | C},                 /* sbb eax, eax */
        {{0x66, 0x29, 0xc8}, 3, 0, 0x18000, 1, 0x17fff, O | A | P},            /* sub ax, cx */
        {{0x31, 0xc0}, 2, O | C, ~0ull, 0, 0, Z | P},                          /* xor eax, eax */
        {{0xfe, 0xc0}, 2, C, 0xff, 0, 0, Z | A | P | C},                       /* inc al */
        {{0xff, 0xc8}, 2, 0, 0x80000000, 0, 0x7fffffff, O | A | P},            /* dec eax */
        {{0xf6, 0xd8}, 2, 0, 0x80, 0, 0x80, O | S | C},                        /* neg al */
        {{0xd3, 0xe0}, 2, Z, 0xf00000001, 0x20, 1, Z},                         /* shl eax, cl */
        {{0xd1, 0xe0}, 2, 0, 0xc0000000, 0, 0x80000000, S | A | P | C},        /* shl eax, 1 */
        {{0xd0, 0xd0}, 2, C, 0x80, 0, 1, O | C},                               /* rcl al, 1 */
        {{0x66, 0xc1, 0xd8, 17}, 4, C, 0x8001, 0, 0x8001, O | C},              /* rcr ax, 17 */
        {{0x48, 0x0f, 0xaf, 0xc1}, 4, 0, 1ull << 62, 4, 0, O | C},             /* imul rax, rcx */
        {{0x0f, 0xbc, 0xc1}, 3, C, 0x123456789, 0, 0x123456789, Z | P},        /* bsf eax, ecx */
        {{0xf3, 0x0f, 0xbd, 0xc1}, 4, 0, 7, 0, 32, C},                         /* lzcnt eax, ecx */
        {{0x0f, 0xc8}, 2, 0, 0xff11223344, 0, 0x44332211, 0},                  /* bswap eax */
    };
    struct flat *f = *state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        const struct one *c = &cases[i];
        f->cpu->regs[RAX] = c->a;
        f->cpu->regs[RCX] = c->c;
        flags_put(f->cpu, c->in);
        assert_int_equal(flat_run(f, c->code, c->length), -1);
        assert_int_equal(f->cpu->regs[RAX], c->result);
        assert_int_equal(flags_get(f->cpu), c->out);
    }
}

static void test_division(void **state)
{
    struct flat *f = *state;
    f->cpu->regs[RDX] = 1, f->cpu->regs[RAX] = 0, f->cpu->regs[RCX] = 3;
    assert_int_equal(RUN(f, 0x48, 0xf7, 0xf1), -1); /* div rcx */
    assert_int_equal(f->cpu->regs[RAX], 0x5555555555555555ull);
    assert_int_equal(f->cpu->regs[RDX], 1);
    f->cpu->regs[RDX] = 3;
    assert_int_equal(RUN(f, 0x48, 0xf7, 0xf1), VECTOR_DE);
    flat_reset(f);
    f->cpu->regs[RAX] = 1ull << 63, f->cpu->regs[RDX] = ~0ull, f->cpu->regs[RCX] = ~0ull;
    assert_int_equal(RUN(f, 0x48, 0xf7, 0xf9), VECTOR_DE); /* idiv rcx: 2^63 does not fit */
    flat_reset(f);
    f->cpu->regs[RAX] = (u64)-7, f->cpu->regs[RDX] = ~0ull, f->cpu->regs[RCX] = 2;
    assert_int_equal(RUN(f, 0x48, 0xf7, 0xf9), -1);
    assert_int_equal(f->cpu->regs[RAX], (u64)-3);
    assert_int_equal(f->cpu->regs[RDX], (u64)-1);
}

/* A fault in the middle of a block: instructions before it count, the one that faults does not. */
static void test_precise_fault(void **state)
{
    struct flat *f = *state;
    u64 before = f->cpu->icount;
    f->cpu->regs[RBX] = 0x7f00000000;
    /* inc eax; inc eax; push [rbx]; inc eax */
    assert_int_equal(RUN(f, 0xff, 0xc0, 0xff, 0xc0, 0xff, 0x33, 0xff, 0xc0), VECTOR_PF);
    assert_int_equal(f->cpu->regs[RAX], 2);
    assert_int_equal(f->cpu->cr2, 0x7f00000000);
    assert_int_equal(f->cpu->icount - before, 2 + 1); /* and the handler's hlt */
    assert_int_equal(ld64(f->ram + f->cpu->regs[RSP] + 8), FLAT_CODE + 4);
    flat_reset(f);
    assert_int_equal(RUN(f, 0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x50, 0xc3), VECTOR_GP);
    assert_int_equal(f->cpu->regs[RSP] < FLAT_STACK - 8, true); /* ret to 8000000000000000h */
}

/* mov byte [rip+imm of the next], 7; mov eax, 1 */
static void test_self_modifying(void **state)
{
    struct flat *f = *state;
    assert_int_equal(RUN(f, 0xc6, 0x05, 1, 0, 0, 0, 7, 0xb8, 1, 0, 0, 0), -1);
    assert_int_equal(f->cpu->regs[RAX], 7);
    /* mov ecx, 100; L: add eax, 0 (its immediate counts up); inc byte [L+1 .. its imm]; loop */
    assert_int_equal(RUN(f, 0x31, 0xc0, 0xb9, 100, 0, 0, 0, 0x83, 0xc0, 0, 0xfe, 0x05, 0xf9, 0xff,
                         0xff, 0xff, 0xff, 0xc9, 0x75, 0xf3),
                     -1);
    int sum = 0; /* the immediate is signed */
    for (int i = 0; i < 100; i++) sum += i;
    assert_int_equal(f->cpu->regs[RAX], sum);
}

static void test_repeat(void **state)
{
    struct flat *f = *state;
    u8 *data = f->ram + FLAT_DATA;
    for (unsigned i = 0; i < 20000; i++) data[i] = (u8)(i * 7);
    f->cpu->regs[RSI] = FLAT_DATA + 3;
    f->cpu->regs[RDI] = FLAT_DATA + 0x8001;
    f->cpu->regs[RCX] = 9000;
    u64 before = f->cpu->icount;
    assert_int_equal(RUN(f, 0xf3, 0xa4), -1); /* rep movsb */
    assert_memory_equal(data + 3, data + 0x8001, 9000);
    assert_int_equal(f->cpu->regs[RCX], 0);
    assert_int_equal(f->cpu->regs[RDI], FLAT_DATA + 0x8001 + 9000);
    assert_int_equal(f->cpu->icount - before, 2);
    /* The destination runs into the source: the first byte spreads. */
    f->cpu->regs[RSI] = FLAT_DATA, f->cpu->regs[RDI] = FLAT_DATA + 1, f->cpu->regs[RCX] = 5000;
    data[0] = 0x5a;
    assert_int_equal(RUN(f, 0xf3, 0xa4), -1);
    for (unsigned i = 0; i <= 5000; i++) assert_int_equal(data[i], 0x5a);
    /* repne scasb */
    data[4321] = 0;
    f->cpu->regs[RDI] = FLAT_DATA, f->cpu->regs[RCX] = ~0ull, f->cpu->regs[RAX] = 0;
    assert_int_equal(RUN(f, 0xf2, 0xae), -1);
    assert_int_equal(f->cpu->regs[RDI], FLAT_DATA + 4322);
    assert_int_equal(flag_zf(f->cpu), true);
}

/* rep stosd into the end of mapped memory (1 GiB): the registers say how far it came. */
static void test_repeat_fault(void **state)
{
    struct flat *f = *state;
    u64 end = FLAT_DATA + 0x10000;
    st64(f->ram + 0x3000 + (FLAT_DATA >> 21) * 8, 0x4000 | 7); /* 4 KiB pages */
    for (u64 i = 0; i < 512; i++)
        st64(f->ram + 0x4000 + i * 8, ((FLAT_DATA & ~0x1fffffull) + i * 4096) | 7);
    st64(f->ram + 0x4000 + (end >> 12 & 511) * 8, 0);
    tlb_flush_all(f->cpu);
    f->cpu->regs[RDI] = end - 4096 - 8, f->cpu->regs[RCX] = 5000, f->cpu->regs[RAX] = 0x11223344;
    assert_int_equal(RUN(f, 0xf3, 0xab), VECTOR_PF);
    assert_int_equal(f->cpu->regs[RDI], end);
    assert_int_equal(f->cpu->regs[RCX], 5000 - 1026);
    assert_int_equal(f->cpu->cr2, end);
    assert_int_equal(ld32(f->ram + end - 4), 0x11223344);
}

/* One instruction at a time or all at once: the same count and result. */
static void test_budget(void **state)
{
    struct flat *f = *state;
    static const u8 code[] = {0xb9, 50, 0, 0, 0, 0x01, 0xc8, 0xff, 0xc9, 0x75, 0xfa};
    u64 before = f->cpu->icount;
    assert_int_equal(flat_run(f, code, sizeof(code)), -1);
    u64 all = f->cpu->icount - before, sum = f->cpu->regs[RAX];
    assert_int_equal(all, 1 + 3 * 50 + 1);
    for (i64 piece = 1; piece < 90; piece += 8) {
        f->cpu->regs[RAX] = 0;
        flat_code(f, code, sizeof(code));
        before = f->cpu->icount;
        for (enum cpu_exit exit = CPU_EXIT_BUDGET; exit == CPU_EXIT_BUDGET;) {
            u64 start = f->cpu->icount;
            f->cpu->budget = piece;
            exit = cpu_run(f->cpu);
            if (exit == CPU_EXIT_BUDGET) assert_int_equal(f->cpu->icount - start, piece);
        }
        assert_int_equal(f->cpu->icount - before, all);
        assert_int_equal(f->cpu->regs[RAX], sum);
    }
    f->cpu->budget = INT64_MAX;
}

/* More code than the cache holds, twice: 60000 times add eax, 1 and a jump over the page's end. */
static void test_overflow(void **state)
{
    struct flat *f = *state;
    u8 *code = f->ram + FLAT_CODE + 0x400000;
    unsigned n = 0;
    for (unsigned at = 0; at < 200000; at += 3, n++) memcpy(code + at, (u8[]){0x83, 0xc0, 1}, 3);
    memcpy(code + n * 3, (u8[]){0xff, 0xc9, 0x0f, 0x85}, 4); /* dec ecx; jnz */
    st32(code + n * 3 + 4, (u32) - (i32)(n * 3 + 8));
    code[n * 3 + 8] = 0xf4;
    f->cpu->regs[RAX] = 0, f->cpu->regs[RCX] = 3;
    f->cpu->rip = FLAT_CODE + 0x400000;
    f->cpu->activity = CPU_RUNNING;
    assert_int_equal(cpu_run(f->cpu), CPU_EXIT_IDLE);
    assert_int_equal(f->cpu->regs[RAX], n * 3);
}

static void test_locked(void **state)
{
    struct flat *f = *state;
    u8 *data = f->ram + FLAT_DATA;
    st64(data, 10);
    f->cpu->regs[RBX] = FLAT_DATA, f->cpu->regs[RCX] = 5;
    assert_int_equal(RUN(f, 0xf0, 0x48, 0x0f, 0xc1, 0x0b), -1); /* lock xadd [rbx], rcx */
    assert_int_equal(ld64(data), 15);
    assert_int_equal(f->cpu->regs[RCX], 10);
    assert_int_equal(RUN(f, 0xf0, 0xff, 0x8b, 0xfe, 0x0f, 0, 0), -1); /* lock dec [rbx+0ffeh] */
    assert_int_equal(ld32(data + 0xffe), 0xffffffff);
    st64(data, 1), st64(data + 8, 2);
    f->cpu->regs[RAX] = 1, f->cpu->regs[RDX] = 2, f->cpu->regs[RCX] = 4, f->cpu->regs[RBX] = 3;
    f->cpu->regs[RDI] = FLAT_DATA;
    assert_int_equal(RUN(f, 0xf0, 0x48, 0x0f, 0xc7, 0x0f), -1); /* lock cmpxchg16b [rdi] */
    assert_int_equal(ld64(data), 3);
    assert_int_equal(ld64(data + 8), 4);
    assert_int_equal(flag_zf(f->cpu), true);
    assert_int_equal(RUN(f, 0xf0, 0x48, 0x0f, 0xc7, 0x0f), -1);
    assert_int_equal(flag_zf(f->cpu), false);
    assert_int_equal(f->cpu->regs[RDX], 4);
    f->cpu->regs[RDI]++;
    assert_int_equal(RUN(f, 0xf0, 0x48, 0x0f, 0xc7, 0x0f), VECTOR_GP);
}

/* 32-bit code through a code segment that is not long. */
static void test_decimal(void **state)
{
    struct flat *f = *state;
    f->cpu->seg[CS].attr = (f->cpu->seg[CS].attr & ~(u32)SEG_L) | SEG_DB;
    cpu_update_mode(f->cpu);
    f->cpu->regs[RAX] = 0x79 + 0x35; /* packed decimal 79 + 35 */
    flags_put(f->cpu, 0);
    assert_int_equal(RUN(f, 0x27), -1); /* daa */
    assert_int_equal(f->cpu->regs[RAX] & 0xff, 0x14);
    assert_int_equal(flag_cf(f->cpu), true);
    f->cpu->regs[RAX] = 0x0040;
    assert_int_equal(RUN(f, 0xd4, 10), -1); /* aam */
    assert_int_equal(f->cpu->regs[RAX], 0x0604);
    assert_int_equal(RUN(f, 0xd5, 10), -1); /* aad */
    assert_int_equal(f->cpu->regs[RAX], 0x0040);
    /* pusha; popa; a call and a return */
    u64 sp = f->cpu->regs[RSP];
    f->cpu->regs[RDI] = 0x12345678;
    assert_int_equal(RUN(f, 0x60, 0x31, 0xff, 0x61, 0xe8, 1, 0, 0, 0, 0xf4, 0xff, 0xc7, 0xc3),
                     2000);
    assert_int_equal(f->cpu->rip, FLAT_CODE + 10);
    assert_int_equal(f->cpu->regs[RDI], 0x12345679);
    assert_int_equal(f->cpu->regs[RSP], sp);
}

static int inta(void *opaque)
{
    struct vcpu *cpu = opaque;
    cpu_clear_request(cpu, REQUEST_INTR);
    return 20;
}

/* The instruction behind STI runs before the interrupt: sti; inc eax; cli; hlt */
static void test_interrupt_shadow(void **state)
{
    struct flat *f = *state;
    f->cpu->inta = inta;
    f->cpu->inta_opaque = f->cpu;
    cpu_request(f->cpu, REQUEST_INTR);
    assert_int_equal(RUN(f, 0xff, 0xc0, 0xfb, 0xff, 0xc0, 0xfa), 20);
    assert_int_equal(f->cpu->regs[RAX], 2);
    flat_reset(f);
    cpu_request(f->cpu, REQUEST_STOP);
    assert_int_equal(cpu_run(f->cpu), CPU_EXIT_STOP);
}

/* An instruction that lies in two pages, in a loop that does too. */
static void test_straddle(void **state)
{
    struct flat *f = *state;
    u8 *code = f->ram + FLAT_CODE + 0xff9;
    memcpy(code, (u8[]){0xff, 0xc0, 0x48, 0x81, 0xc2, 0x78, 0x56, 0x34, 0x12, 0xff, 0xc9, 0x75,
                        0xf3, 0xf4}, 14);
    f->cpu->regs[RCX] = 1000;
    f->cpu->rip = FLAT_CODE + 0xff9;
    f->cpu->activity = CPU_RUNNING;
    assert_int_equal(cpu_run(f->cpu), CPU_EXIT_IDLE);
    assert_int_equal(f->cpu->regs[RAX], 1000);
    assert_int_equal(f->cpu->regs[RDX], 0x12345678ull * 1000);
    assert_int_equal(f->cpu->icount, 4001);
    /* Its second half is written: mov byte [rip], 0 in the last byte of the immediate. */
    memcpy(f->ram + FLAT_CODE, (u8[]){0xc6, 0x04, 0x25, 0x01, 0x10, 0x10, 0x00, 0x00, 0xf4}, 9);
    f->cpu->rip = FLAT_CODE;
    f->cpu->activity = CPU_RUNNING;
    assert_int_equal(cpu_run(f->cpu), CPU_EXIT_IDLE);
    f->cpu->regs[RCX] = 1, f->cpu->regs[RDX] = 0;
    f->cpu->rip = FLAT_CODE + 0xff9;
    f->cpu->activity = CPU_RUNNING;
    assert_int_equal(cpu_run(f->cpu), CPU_EXIT_IDLE);
    assert_int_equal(f->cpu->regs[RDX], 0x345678);
}

/* TF: #DB behind each instruction. */
static void test_single_step(void **state)
{
    struct flat *f = *state;
    flat_code(f, (u8[]){0xff, 0xc0, 0xff, 0xc0}, 4);
    f->cpu->eflags |= FLAG_TF;
    cpu_update_mode(f->cpu);
    assert_int_equal(cpu_run(f->cpu), CPU_EXIT_IDLE);
    assert_int_equal(f->cpu->rip, FLAT_HANDLER + 16 + 1);
    assert_int_equal(f->cpu->regs[RAX], 1);
    assert_int_equal(ld64(f->ram + f->cpu->regs[RSP]), FLAT_CODE + 2);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make, unmake)
    static const struct CMUnitTest tests[] = {
        TEST(test_flags), TEST(test_division), TEST(test_precise_fault), TEST(test_self_modifying),
        TEST(test_repeat), TEST(test_repeat_fault), TEST(test_budget), TEST(test_overflow),
        TEST(test_locked), TEST(test_decimal), TEST(test_interrupt_shadow), TEST(test_straddle),
        TEST(test_single_step),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
