/*
 * No access of translated code may leave guest memory. Random programs whose addresses lie at every
 * edge there is (of pages, of RAM, of the canonical halves, of 4 GiB, of a large page that RAM ends
 * in), over page tables that lead to RAM, to nothing, to a device, to ROM, and change under the
 * program.
 * Pages that may not be touched lie on both sides of RAM in host memory; and every engine must come
 * to what the interpreter comes to.
 *
 * Arguments: a seed (only that program), a number of programs. LENGTH=long runs many more.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "tests/insn/campaign.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#define GUARD MIB(1)
#define RAM_SIZE (MIB(16) - KIB(64)) /* ends within a large page */
#define TARGETS MIB(8)               /* pages that hostile entries lead to */
#define TARGET_PAGES 4u
#define DEVICE 0xd0000000u
#define ROM 0xf0000000u
#define TABLES 0x20000u              /* for the ends of the address space */
#define LARGE MIB(4)                 /* linear: the last 2 MiB that RAM begins in; behind it
                                        nothing */

static struct field *now;

/* --- the machine --- */

static u64 device_read(struct device *device, u64 offset, unsigned size)
{
    (void)device;
    return offset * 0x0101010101010101ull & size_mask(size);
}
static void device_write(struct device *device, u64 offset, u64 value, unsigned size)
{
    (void)device, (void)offset, (void)value, (void)size;
}
static const struct region_ops device_ops = {
    .name = "device", .read = device_read, .write = device_write, .min_size = 1, .max_size = 8};

static void forbid(u8 *at)
{
    if (!at || mprotect(at, GUARD, PROT_NONE)) abort();
}

/* Guest RAM between two pieces of memory that nobody may touch. */
static struct flat *guarded_new(void)
{
    struct flat *f = calloc(1, sizeof(*f));
    struct region *more = calloc(2, sizeof(*more)); /* live as long as the process */
    struct error error = {0};
    if (!f || !more) abort();
    f->bus = bus_new(RAM_SIZE + 2 * GUARD, MIB(1), NULL, &error);
    if (!f->bus) abort();
    forbid(bus_alloc_memory(f->bus, GUARD, "guard"));
    f->ram = bus_alloc_memory(f->bus, RAM_SIZE, "ram");
    forbid(bus_alloc_memory(f->bus, GUARD, "guard"));
    u8 *rom = bus_alloc_memory(f->bus, 4096, "rom");
    region_init_memory(&f->region, f->ram, RAM_SIZE, false, "ram");
    bus_map(f->bus, BUS_MEMORY, &f->region, 0, LAYER_RAM);
    region_init(&more[0], NULL, &device_ops, 8192);
    bus_map(f->bus, BUS_MEMORY, &more[0], DEVICE, LAYER_DEVICE);
    region_init_memory(&more[1], rom, 4096, true, "rom");
    bus_map(f->bus, BUS_MEMORY, &more[1], ROM, LAYER_ROM);
    f->cpu = cpu_new(0, f->bus, NULL);
    if (!f->cpu || !cpu_set_model(f->cpu, "max", &error)) abort();
    flat_reset(f);
    return f;
}

/* --- hostile tables --- */

static u64 hostile_entry(struct rng *rng)
{
    static const u64 physical[] = {RAM_SIZE - 4096, RAM_SIZE, DEVICE, DEVICE + 4096, ROM,
                                   0xfffff000, 1ull << 39, (1ull << 52) - 4096};
    static const u8 rights[] = {7, 7, 7, 7, 5, 3, 1, 0};
    u64 page = rng_below(rng, 3) ? TARGETS + rng_below(rng, TARGET_PAGES) * 4096
                                 : physical[rng_below(rng, ARRAY_SIZE(physical))];
    return page | rights[rng_below(rng, sizeof rights)];
}

/* The last page below LINEAR's end of a branch of the tree whose tables begin at TABLE. */
static u64 last_page(u8 *ram, u32 table, unsigned levels, u64 entry)
{
    for (unsigned n = 0; n + 1 < levels; n++)
        st64(ram + table + n * 4096 + 511 * 8, (table + (n + 1) * 4096) | 7);
    st64(ram + table + (levels - 1) * 4096 + 511 * 8, entry);
    return table | 7;
}

static void lay_out(struct flat *f, u64 seed, bool code64)
{
    struct rng rng = {seed * 3 + 1};
    u8 *ram = f->ram;
    for (unsigned n = 0; n < TARGET_PAGES * 512; n++)
        st64(ram + TARGETS + n * 8, n * 0x9e3779b97f4a7c15ull);
    for (unsigned n = 0; n < 4 * 512; n++)
        st64(ram + RAM_SIZE - 4 * 4096 + n * 8, n * 0x2545f4914f6cdd1dull);
    static const u32 edges[] = {0, 0x3ff000, MIB(14)}; /* what else edge_address leads to */
    for (unsigned n = 0; n < ARRAY_SIZE(edges); n++) memset(ram + edges[n], (int)n, 4096);
    for (unsigned n = 0; n < FIELD_DATA_PAGES; n++)
        if (rng_below(&rng, 2)) st64(ram + FIELD_PAGE_TABLE + (0x100 + n) * 8, hostile_entry(&rng));
    st64(ram + 0x3000 + (LARGE >> 21) * 8, MIB(14) | 0x87);
    st64(ram + 0x3000 + ((LARGE >> 21) + 1) * 8, MIB(64) | 0x87);
    u64 top = last_page(ram, TABLES, code64 ? 3 : 2, TARGETS | 7),
        low = last_page(ram, TABLES + 0x4000, 3, (TARGETS + 4096) | 7);
    if (code64) {
        st64(ram + 0x1000 + 511 * 8, top);
        st64(ram + 0x1000 + 255 * 8, low);
    } else {
        f->cpu->pae_pdpte[3] = TABLES | 1;
        st64(ram + FIELD_POINTERS32 + 3 * 8, TABLES | 1);
    }
}

/* --- hostile programs --- */

static u64 edge_address(struct rng *rng, bool code64)
{
    i64 near = (i64)rng_below(rng, 80) - 72;
    switch (rng_below(rng, code64 ? 9 : 6)) {
    case 0: return (u32)(0 + near);                                            /* 0, and 4 GiB */
    case 1: return (u64)(FLAT_DATA + rng_below(rng, 9) * 4096 + near);
    case 2: return (u64)((i64)LARGE + near);
    /* RAM's end in a large page */
    case 3: return (u64)((i64)(LARGE + (RAM_SIZE - MIB(14))) + near);
    case 4: return (u64)((i64)(LARGE + MIB(2)) + near);
    case 5: return (u32)(0xffffffff - rng_below(rng, 4096 + 64));
    /* the lower half's end */
    case 6: return (u64)((1ll << 47) + near);
    /* the upper half's beginning */
    case 7: return (u64)(-(1ll << 47) + near);
    default: return (u64)near;                                                 /* its end */
    }
}

/* Another entry for a page of the data, told to the processor: mov dword [entry], …; mov dword
 * [entry + 4], …; invlpg. */
static void change_mapping(struct rng *rng, bool code64, struct piece *p)
{
    unsigned page = rng_below(rng, FIELD_DATA_PAGES);
    u32 at = FIELD_PAGE_TABLE + (0x100 + page) * 8;
    u64 entry = hostile_entry(rng);
    *p = (struct piece){.kind = PIECE_PLAIN, .length = 30};
    u8 *b = p->bytes;
    (void)code64; /* the same bytes in both */
    memcpy(b, "\xc7\x04\x25", 3), st32(b + 3, at), st32(b + 7, (u32)entry);
    memcpy(b + 11, "\xc7\x04\x25", 3), st32(b + 14, at + 4), st32(b + 18, (u32)(entry >> 32));
    memcpy(b + 22, "\x0f\x01\x3c\x25", 4), st32(b + 26, FLAT_DATA + page * 4096);
}

/* --- running --- */

static void left_memory(int signal, siginfo_t *info, void *context)
{
    u64 seed;
    const char *engine;
    (void)context;
    field_tell(now, &seed, &engine);
    fprintf(stderr, "# seed %llu, %s: signal %d: an access to %p left guest memory\n",
            (unsigned long long)seed, engine, signal, info->si_addr);
    _exit(1);
}

static void watch(void)
{
    static u8 stack[1 << 16];
    stack_t on = {.ss_sp = stack, .ss_size = sizeof stack};
    struct sigaction action = {.sa_sigaction = left_memory, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigemptyset(&action.sa_mask);
    if (sigaltstack(&on, NULL) || sigaction(SIGSEGV, &action, NULL) ||
        sigaction(SIGBUS, &action, NULL))
        abort();
}

static struct { u64 seed; unsigned programs; } wanted = {1, 1000};

static void attempt(bool code64)
{
    now = field_new(guarded_new, lay_out);
    field_place(now)->address = edge_address;
    field_place(now)->piece = change_mapping;
    watch();
    assert_int_equal(campaign(now, wanted.seed, wanted.programs, code64), 0);
    field_free(now);
}

static void test_64(void **state)
{
    (void)state;
    attempt(true);
}
static void test_32(void **state)
{
    (void)state;
    attempt(false);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_64), cmocka_unit_test(test_32)};
    const char *length = getenv("LENGTH");
    if (length && strcmp(length, "quick")) wanted.programs = 30000;
    if (argc > 1) wanted.seed = strtoull(argv[1], NULL, 0), wanted.programs = 1;
    if (argc > 2) wanted.programs = (unsigned)strtoul(argv[2], NULL, 0);
    return cmocka_run_group_tests_name("isolation", tests, NULL, NULL);
}
