/* Units of tier 2 made by another thread for a loop that meanwhile runs on, is written, evicted, forgotten, or
 * whose translator goes. */
#include "tests/insn/flat.h"

#include "jit/jit_int.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <unistd.h>

#define PATIENCE_SECONDS 120u /* until something that must happen counts as lost */
#define SLICE 20000

struct bench {
    struct flat *f;
    struct jit *jit;
    struct jit_cpu *j;
    bool holds;              /* the background waits in front of each unit */
    sem_t begun, go;
};

/* inc rcx; add [rdi], rcx; add qword [rdi+8], 1; cmp qword [rdi+16], 0; je; hlt */
static const u8 loop[] = {0x48, 0xff, 0xc1, 0x48, 0x01, 0x0f, 0x48, 0x83, 0x47, 0x08, 0x01,
                          0x48, 0x83, 0x7f, 0x10, 0x00, 0x74, 0xee, 0xf4};
#define LOOP_STEP_AT 10
#define AT(n) (b->f->ram + FLAT_DATA + (n) * 8)

static void begins(void *opaque)
{
    struct bench *b = opaque;
    if (!b->holds) return;
    sem_post(&b->begun);
    sem_wait(&b->go);
}

static bool bench_open(struct bench *b, u64 tb_size, bool holds)
{
    struct error error = {0};
    struct jit_options options = {.threshold = 1, .hot = 50, .tb_size = tb_size, .background_begins = begins,
                                  .opaque = b};
    *b = (struct bench){.f = flat_new(), .holds = holds};
    sem_init(&b->begun, 0, 0);
    sem_init(&b->go, 0, 0);
    b->jit = jit_new(&options, NULL, &error);
    alarm(PATIENCE_SECONDS);
    if (!b->jit || !jit_attach(b->f->cpu, b->jit, &error)) {
        fprintf(stderr, "# no translator: %s\n", error.text);
        return false;
    }
    b->j = b->f->cpu->jit;
    flat_code(b->f, loop, sizeof loop);
    b->f->cpu->regs[RDI] = FLAT_DATA;
    return true;
}

static void bench_close(struct bench *b)
{
    jit_detach(b->f->cpu);
    jit_free(b->jit);
    flat_free(b->f);
    sem_destroy(&b->begun);
    sem_destroy(&b->go);
    alarm(0);
}

static void slice(struct bench *b)
{
    b->f->cpu->budget = SLICE;
    assert_int_equal(cpu_run(b->f->cpu), CPU_EXIT_BUDGET);
}

/* Is asked for a unit, and has not begun. */
static void run_until_begun(struct bench *b)
{
    while (sem_trywait(&b->begun)) slice(b);
}

static u64 stat_of(const struct bench *b, size_t offset)
{
    struct jit_stats s;
    jit_statistics(b->jit, &s);
    return *(const u64 *)((const u8 *)&s + offset);
}
#define STAT(name) stat_of(b, offsetof(struct jit_stats, name))
#define RUN_UNTIL(cond) do slice(b); while (!(cond))

/* The loop has made as many turns as instructions say, and each has done its part. */
static void check(struct bench *b, u64 icount)
{
    u64 turns = (icount + 4) / 5, adds = (icount + 3) / 5, passes = (icount + 2) / 5;
    assert_int_equal(b->f->cpu->regs[RCX], turns);
    assert_int_equal(ld64(AT(0)), adds * (adds + 1) / 2);
    assert_int_equal(ld64(AT(1)), passes);
}

static bool runs_in_tier_2(const struct bench *b)
{
    const struct jit_cpu *j = b->j;
    for (unsigned k = 0; k < j->block_limit; k++)
        if (j->blocks[k].redirected && j->blocks[j->blocks[k].redirected].loops) return true;
    return false;
}

/* Says that the loop may end when its unit is there. */
static void *ends_it(void *opaque)
{
    struct bench *b = opaque;
    while (!STAT(background_units)) usleep(200);
    guest_st64(AT(2), 1);
    return NULL;
}

/* The processor never leaves translated code but for the kick. */
static void test_replaced_while_it_runs(void **state)
{
    struct bench bench, *b = &bench;
    pthread_t thread;
    (void)state;
    if (!bench_open(b, 0, false)) {
        skip();
        return;
    }
    assert_int_equal(pthread_create(&thread, NULL, ends_it, b), 0);
    assert_int_equal(cpu_run(b->f->cpu), CPU_EXIT_IDLE);
    pthread_join(thread, NULL);
    assert_int_equal(STAT(loop_units), 1);
    assert_int_equal(STAT(background_units), 1);
    assert_true(runs_in_tier_2(b));
    u64 turns = b->f->cpu->regs[RCX];
    assert_int_equal(b->f->cpu->icount, turns * 5 + 1);
    assert_int_equal(ld64(AT(0)), turns * (turns + 1) / 2);
    assert_int_equal(ld64(AT(1)), turns);
    bench_close(b);
}

static void test_written_meanwhile(void **state)
{
    struct bench bench, *b = &bench;
    (void)state;
    if (!bench_open(b, 0, true)) {
        skip();
        return;
    }
    run_until_begun(b);
    check(b, b->f->cpu->icount);
    u64 before = ld64(AT(1)), turns = b->f->cpu->regs[RCX];
    b->f->ram[FLAT_CODE + LOOP_STEP_AT] = 3;
    memory_code_written(bus_memory(b->f->bus), b->f->ram + FLAT_CODE + LOOP_STEP_AT, 1);
    b->holds = false;
    sem_post(&b->go);
    RUN_UNTIL(STAT(background_stale));
    RUN_UNTIL(STAT(background_units));
    slice(b);
    u64 more = ld64(AT(1)) - before, turned = b->f->cpu->regs[RCX] - turns;
    assert_true(more >= (turned - 1) * 3 && more <= (turned + 1) * 3 && more % 3 == 0);
    assert_int_equal(STAT(loop_units), 1);
    assert_true(runs_in_tier_2(b));
    bench_close(b);
}

static void test_evicted_meanwhile(void **state)
{
    struct bench bench, *b = &bench;
    (void)state;
    if (!bench_open(b, MIB(1), true)) {
        skip();
        return;
    }
    run_until_begun(b);
    unsigned area = b->j->cursors[CURSOR_BACKGROUND].area;
    assert_true(area < b->j->area_count);
    for (unsigned n = 0; n < 3 * b->j->area_count; n++) {
        area_next(b->j, CURSOR_OWN);
        assert_true(b->j->cursors[CURSOR_OWN].area != area);
        assert_int_equal(b->j->cursors[CURSOR_BACKGROUND].area, area);
        slice(b);
    }
    assert_true(STAT(evictions) >= 2);
    b->holds = false;
    sem_post(&b->go);
    RUN_UNTIL(STAT(background_units));
    slice(b);
    check(b, b->f->cpu->icount);
    assert_true(runs_in_tier_2(b));
    bench_close(b);
}

static void *lets_go(void *opaque)
{
    struct bench *b = opaque;
    usleep(20000);
    b->holds = false;
    sem_post(&b->go);
    return NULL;
}

static void test_detached_meanwhile(void **state)
{
    struct bench bench, *b = &bench;
    pthread_t thread;
    (void)state;
    if (!bench_open(b, 0, true)) {
        skip();
        return;
    }
    run_until_begun(b);
    assert_int_equal(pthread_create(&thread, NULL, lets_go, b), 0);
    jit_detach(b->f->cpu);
    pthread_join(thread, NULL);
    slice(b); /* interpreted */
    check(b, b->f->cpu->icount);
    bench_close(b);
}

static void test_forgotten_meanwhile(void **state)
{
    struct bench bench, *b = &bench;
    pthread_t thread;
    (void)state;
    if (!bench_open(b, 0, true)) {
        skip();
        return;
    }
    run_until_begun(b);
    assert_int_equal(pthread_create(&thread, NULL, lets_go, b), 0);
    b->f->cpu->engine_forget(b->f->cpu);
    pthread_join(thread, NULL);
    assert_int_equal(b->j->cursors[CURSOR_BACKGROUND].area, NO_AREA);
    assert_int_equal(STAT(background_units), 0);
    RUN_UNTIL(STAT(background_units));
    slice(b);
    check(b, b->f->cpu->icount);
    assert_int_equal(STAT(loop_units), 1);
    bench_close(b);
}

/* Too few areas for two to be filled. */
static void test_little_memory(void **state)
{
    struct bench bench, *b = &bench;
    (void)state;
    if (!bench_open(b, KIB(64), false)) {
        skip();
        return;
    }
    RUN_UNTIL(STAT(loop_units));
    slice(b);
    check(b, b->f->cpu->icount);
    assert_int_equal(STAT(background_units), 0);
    bench_close(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_replaced_while_it_runs), cmocka_unit_test(test_written_meanwhile),
        cmocka_unit_test(test_evicted_meanwhile), cmocka_unit_test(test_detached_meanwhile),
        cmocka_unit_test(test_forgotten_meanwhile), cmocka_unit_test(test_little_memory),
    };
    return cmocka_run_group_tests_name("background", tests, NULL, NULL);
}
