/*
 * Random sequences of every instruction a program may run, 64-bit and flat 32-bit code, on every engine: see
 * campaign.h. And the shrinker itself.
 *
 * Arguments: a seed (only that program: all engines), a number of programs. LENGTH=long runs many more.
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

/* A made-up failure: any program with a BSWAP in it. */
static bool has_bswap(void *opaque, const struct sequence *s)
{
    unsigned *asked = opaque;
    ++*asked;
    for (unsigned n = 0; n < s->count; n++)
        for (unsigned k = 0; k + 1 < s->piece[n].length; k++)
            if (s->piece[n].bytes[k] == 0x0f && (s->piece[n].bytes[k + 1] & 0xf8) == 0xc8) return true;
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
    };
    const char *length = getenv("LENGTH");
    if (length && strcmp(length, "quick")) wanted.programs = 20000;
    if (argc > 1) wanted.seed = strtoull(argv[1], NULL, 0), wanted.programs = 1;
    if (argc > 2) wanted.programs = (unsigned)strtoul(argv[2], NULL, 0);
    return cmocka_run_group_tests_name("sequences", tests, NULL, NULL);
}
