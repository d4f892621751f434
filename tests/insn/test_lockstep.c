/* Lockstep finds what is wrong in translated code, and takes nothing for wrong that is not. */
#include "tests/insn/flat.h"

#include "jit/jit_int.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <stdio.h>
#include <fcntl.h>
#include <unistd.h>

struct bench {
    struct flat *f;
    struct jit *jit;
    unsigned failures;
};

static void failed(void *opaque) { ((struct bench *)opaque)->failures++; }

static bool bench_open(struct bench *b)
{
    struct error error = {0};
    struct jit_options options = {.threshold = 1, .lockstep = 1, .failed = failed, .opaque = b};
    *b = (struct bench){.f = flat_new()};
    b->jit = jit_new(&options, NULL, &error);
    if (b->jit && jit_attach(b->f->cpu, b->jit, &error)) return true;
    fprintf(stderr, "# no translator: %s\n", error.text);
    return false;
}

static void bench_close(struct bench *b)
{
    jit_detach(b->f->cpu);
    jit_free(b->jit);
    flat_free(b->f);
}

static void run(struct bench *b, const u8 *code, size_t length)
{
    b->f->cpu->regs[RBX] = FLAT_DATA;
    b->f->cpu->regs[RCX] = 20;
    flat_run(b->f, code, length);
}

/* mov eax, 0x12345678; add [rbx], rax; add rbx, 8; dec rcx; jnz */
static const u8 loop[] = {0xb8, 0x78, 0x56, 0x34, 0x12, 0x48, 0x01, 0x03, 0x48, 0x83,
                          0xc3, 0x08, 0x48, 0xff, 0xc9, 0x75, 0xef};

/* Changes the first place in translated code that reads FROM. */
static bool spoil(struct bench *b, const u8 *from, size_t length, size_t at, u8 to)
{
    struct jit_cpu *j = b->f->cpu->jit;
    for (u8 *p = j->areas[j->cursors[CURSOR_OWN].area].hot; p + length < j->cursors[CURSOR_OWN].hot; p++)
        if (!memcmp(p, from, length)) {
            p[at] = to;
            return true;
        }
    return false;
}

/* Runs on, without what is said of a difference. */
static void quietly(struct bench *b)
{
    int saved = dup(2), null = open("/dev/null", O_WRONLY);
    fflush(stderr);
    dup2(null, 2);
    cpu_run(b->f->cpu);
    fflush(stderr);
    dup2(saved, 2);
    close(saved);
    close(null);
}

static void test_agrees(void **state)
{
    struct bench b;
    (void)state;
    if (!bench_open(&b)) {
        skip();
        return;
    }
    run(&b, loop, sizeof loop);
    assert_int_equal(b.failures, 0);
    for (unsigned i = 0; i < 20; i++)
        assert_int_equal(ld64(b.f->ram + FLAT_DATA + i * 8), 0x12345678);
    assert_int_equal(ld64(b.f->ram + FLAT_DATA + 160), 0);
    char line[200];
    lockstep_print(b.f->cpu->jit, line, sizeof line);
    unsigned compared = 0;
    assert_int_equal(sscanf(line, "lockstep: %u", &compared), 1);
    assert_true(compared >= 20);
    bench_close(&b);
}

static void test_wrong(const u8 *from, size_t length, size_t at, u8 to)
{
    struct bench b;
    if (!bench_open(&b)) {
        skip();
        return;
    }
    run(&b, loop, sizeof loop);
    assert_int_equal(b.failures, 0);
    assert_true(spoil(&b, from, length, at, to));
    memset(b.f->ram + FLAT_DATA, 0, 4096);
    /* The same code where it lies: writing it anew would void its translation. */
    b.f->cpu->rip = FLAT_CODE;
    b.f->cpu->activity = CPU_RUNNING;
    b.f->cpu->regs[RBX] = FLAT_DATA;
    b.f->cpu->regs[RCX] = 1;
    quietly(&b);
    assert_int_equal(b.failures, 1);
    /* The interpreter's outcome stands. */
    assert_int_equal(ld64(b.f->ram + FLAT_DATA), 0x12345678);
    bench_close(&b);
}

static void test_wrong_register(void **state)
{
    static const u8 immediate[] = {0x78, 0x56, 0x34, 0x12};
    (void)state;
    test_wrong(immediate, sizeof immediate, 0, 0x79);
}

/* add [r10 + rbx], rax becomes sub: seen only if the store itself is translated code's. */
static void test_wrong_store(void **state)
{
    static const u8 add[] = {0x49, 0x01, 0x04, 0x1a}, other[] = {0x4a, 0x01, 0x04, 0x13};
    struct bench b;
    (void)state;
    if (!bench_open(&b)) {
        skip();
        return;
    }
    run(&b, loop, sizeof loop);
    bool first = spoil(&b, add, sizeof add, 1, 0x01);
    bench_close(&b);
    test_wrong(first ? add : other, sizeof add, 1, 0x29);
}

/* Time and ports are the interpreter's, once. */
static void test_outside(void **state)
{
    static const u8 code[] = {0xbf, 0x05, 0x00, 0x00, 0x00, 0x0f, 0x31, 0xe6,
                              0x80, 0x0f, 0xa2, 0xff, 0xcf, 0x75, 0xf6};
    struct bench b;
    (void)state;
    if (!bench_open(&b)) {
        skip();
        return;
    }
    run(&b, code, sizeof code);
    assert_int_equal(b.failures, 0);
    assert_int_equal(b.f->cpu->regs[RDI], 0);
    bench_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_agrees), cmocka_unit_test(test_wrong_register),
        cmocka_unit_test(test_wrong_store), cmocka_unit_test(test_outside),
    };
    return cmocka_run_group_tests_name("lockstep", tests, NULL, NULL);
}
