/* guest: bits=64 smp=1 */
/*
 * Code and data in several address spaces: what a processor may keep of them across CR3 writes, and
 * what INVLPG, INVPCID and flushing CR3 writes must make it forget, paging-structure caches
 * included.
 * Code is run often enough to be translated. SDM vol. 3 ch. 4.10.
 */
#include "guest.h"

SNIPPET(read_at, "mov (%rdi), %eax");
SNIPPET(write_at, "mov %esi, (%rdi)");
SNIPPET(invpcid_insn, "invpcid (%rsi), %rdi");

#define V (WINDOW + 0x40000000ull * 2 + 0x200000ull * 3 + 0x1000ull * 4)
#define KEEP (1ull << 63)
#define OFTEN 40
#define RIGHTS (PTE_P | PTE_W | PTE_U)

static u8 *code[5]; /* code[n] returns n; its second byte on is the number, so data tells, too */
static word tables[3];
static u64 *pte[3]; /* V's in each context */

/* What V does, as data, at CPL 0 and at CPL 3; 0 when that is not always the same. */
static unsigned seen(void)
{
    unsigned value = 0;
    for (unsigned i = 0; i < OFTEN; i++) {
        run(read_at, V + 1, 0);
        unsigned data = (unsigned)trap.result;
        run((const void *)V, 0, 0);
        unsigned supervisor = (unsigned)trap.result;
        run_user((const void *)V, 0, 0);
        unsigned user = (unsigned)trap.result;
        if (trap.vector != NONE || data != supervisor || data != user || (i && data != value))
            return 0;
        value = data;
    }
    return value;
}

static void context(unsigned n, u64 keep)
{
    asm volatile("mov %0, %%cr3" ::"r"(tables[n] | n | keep) : "memory");
}

static void invpcid(unsigned type, unsigned pcid)
{
    static struct { u64 pcid, address; } d ALIGNED(16);
    d.pcid = pcid;
    d.address = V;
    run(invpcid_insn, type, (word)&d);
}

static void prepare(void)
{
    u8 *room = alloc_pages(16);
    /* not side by side: neighbours could be one page */
    for (unsigned n = 1; n < ARRAY_SIZE(code); n++) {
        code[n] = room + n * 3 * 4096;
        code[n][0] = 0xb8; /* mov $n, %eax; ret */
        *(u32 *)(code[n] + 1) = n;
        code[n][5] = 0xc3;
    }
    word boot = read_cr3();
    for (unsigned n = 1; n < ARRAY_SIZE(tables); n++) {
        u64 *top = alloc_pages(1);
        memcpy(top, boot_pml4, 4096);
        top[V >> 39 & 511] = 0;
        tables[n] = (word)top;
        write_cr3(tables[n]);
        pte[n] = map(V, (word)code[n] | RIGHTS, 1);
    }
    write_cr3(boot);
    tables[0] = boot;
}

static void alternating(void)
{
    bool good = true;
    for (unsigned i = 0; i < 20; i++) {
        context(1 + i % 2, KEEP);
        good &= seen() == 1 + i % 2;
    }
    ok(good, "each context runs and reads its own page, kept or not");
    good = true;
    for (unsigned i = 0; i < 20; i++) {
        context(1 + i % 2, 0);
        good &= seen() == 1 + i % 2;
    }
    ok(good, "and with flushes between them");
}

static void set(unsigned n, unsigned to) { *pte[n] = (word)code[to] | RIGHTS; }

static void forgetting(void)
{
    context(2, KEEP);
    seen();
    context(1, KEEP);
    set(2, 3);
    if (has_7b(10)) {
        invpcid(0, 2);
        context(2, KEEP);
        is(seen(), 3, "INVPCID type 0 of another context");
        context(1, KEEP);
        set(2, 4);
        invpcid(1, 2);
        is(seen(), 1, "INVPCID leaves the current one alone");
        context(2, KEEP);
        is(seen(), 4, "INVPCID type 1 of another context");
        context(1, KEEP);
        set(2, 3), set(1, 2);
        invpcid(3, 0);
        is(seen(), 2, "INVPCID type 3: the current context");
        context(2, KEEP);
        is(seen(), 3, "and the others");
        context(1, KEEP);
        set(2, 4), set(1, 1);
        invpcid(2, 0);
        is(seen(), 1, "INVPCID type 2: the current context");
        context(2, KEEP);
        is(seen(), 4, "and the others");
        context(1, KEEP);
    } else {
        skip("no INVPCID", "INVPCID");
    }
    set(2, 2);
    context(2, 0);
    is(seen(), 2, "a CR3 write without bit 63");
    set(2, 3);
    invlpg(V);
    is(seen(), 3, "INVLPG of a page that is run");
    context(1, KEEP);
    is(seen(), 1, "the other context's stays");
    set(2, 2);
    context(2, 0);
}

/* Another page table for V's 2 MiB, then a large page there, then the table again. */
static void directories(void)
{
    u64 *pde = entry(V, 2), old = *pde;
    u64 *table = alloc_pages(1);
    for (unsigned i = 0; i < 512; i++) table[i] = (word)code[4] | RIGHTS;
    is(seen(), 2, "by one page table");
    *pde = (word)table | RIGHTS | PTE_A;
    invlpg(V);
    is(seen(), 4, "by another, behind INVLPG");
    *pde = old;
    invlpg(V - 0x1000); /* of the same table: structure caches go whatever the address */
    run(read_at, V + 1, 0);
    ok(trap.result == 2 || trap.result == 4, "a change of table and INVLPG of a neighbour: either");
    invlpg(V);
    is(seen(), 2, "the first table again");

    u64 large = ((word)code[3] & ~0x1fffffull) | RIGHTS | PTE_PS;
    word moved = (V & ~0x1fffffull) + ((word)code[3] & 0x1fffff);
    *pde = large;
    invlpg(V);
    bool good = true;
    for (unsigned i = 0; i < OFTEN; i++) {
        run((const void *)moved, 0, 0);
        good &= trap.result == 3;
        run(read_at, moved + 1, 0);
        good &= trap.result == 3;
    }
    ok(good, "a large page in the table's place");
    *pde = old;
    invlpg(moved);
    is(seen(), 2, "and the table again: INVLPG drops all of a large page");
    *pde = old & ~PTE_W;
    write_cr0(read_cr0() | 0x10000);
    invlpg(V);
    run(read_at, V + 1, 0);
    is(trap.result, 2, "a read-only table can be read by");
    traps("but not written by: error 3", PF, 3, write_at, V + 0x100, 1);
    *pde = old;
    invlpg(V);
    traps("until it can", NONE, 0, write_at, V + 0x100, 1);
    write_cr0(read_cr0() & ~0x10000ul);
}

static void globals(void)
{
    word cr4 = read_cr4();
    write_cr4(cr4 | 0x80);
    *pte[2] = (word)code[2] | RIGHTS | PTE_G;
    invlpg(V);
    is(seen(), 2, "a global page");
    *pte[2] = (word)code[3] | RIGHTS | PTE_G;
    context(2, 0);
    run(read_at, V + 1, 0);
    ok(trap.result == 2 || trap.result == 3, "may stay for a CR3 write");
    invlpg(V);
    is(seen(), 3, "INVLPG drops it");
    *pte[2] = (word)code[2] | RIGHTS;
    write_cr4(cr4 & ~0x80ul);
    is(seen(), 2, "so does a change of CR4.PGE");
    write_cr4(cr4);
}

void guest_main(void)
{
    prepare();
    write_cr3(tables[1]);
    is(seen(), 1, "one address space");
    write_cr3(tables[2]);
    is(seen(), 2, "another");
    write_cr3(tables[0]);
    if (!has_ecx(17)) {
        skip("no PCID", "contexts");
        finish();
    }
    word cr4 = read_cr4();
    write_cr4(cr4 | 1 << 17);
    alternating();
    forgetting();
    directories();
    globals();
    write_cr3(tables[0]);
    write_cr4(cr4);
}
