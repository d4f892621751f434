/* guest: bits=64 smp=1 */
/* Four-level paging: rights, reserved bits, accessed and dirty, stale translations. SDM vol. 3 ch.
 * 4. */
#include "guest.h"

SNIPPET(read_at, "mov (%rdi), %eax");
SNIPPET(write_at, "mov %esi, (%rdi)");
SNIPPET(rmw_at, "add %esi, (%rdi)");
SNIPPET(cmp_at, "cmp %esi, (%rdi)");
SNIPPET(jump_at, "call *%rdi");
SNIPPET(push_at, "mov %rsp, %rax\n mov %rdi, %rsp\n push %rsi\n mov %rax, %rsp");
SNIPPET(stac_read, "stac\n mov (%rdi), %eax\n clac");
SNIPPET(clac_read, "clac\n mov (%rdi), %eax");
SNIPPET(stac_write, "stac\n mov %esi, (%rdi)\n clac");
SNIPPET(stac_insn, "stac");
SNIPPET(lock_cmpxchg_at, "xor %eax, %eax\n lock cmpxchg %esi, (%rdi)");
SNIPPET(set_cr3, "mov %rdi, %cr3");
SNIPPET(set_cr4, "mov %rdi, %cr4");
SNIPPET(set_cr0, "mov %rdi, %cr0");
SNIPPET(set_cr8, "mov %rdi, %cr8");
SNIPPET(get_cr1, "mov %cr1, %rax");
SNIPPET(set_efer, "mov $0xc0000080, %ecx\n mov %edi, %eax\n mov %rdi, %rdx\n shr $32, %rdx\n wrmsr");
SNIPPET(invpcid_insn, "invpcid (%rsi), %rdi");

#define V (WINDOW + 0x40000000ull * 3 + 0x200000ull * 5 + 0x1000ull * 7) /* all indices differ */
static u32 *page, *other;
static u64 at; /* physical address of page */

static void code_into(void *to) { *(u8 *)to = 0xc3; }

/* Often enough to be translated. */
static void canonical_end(void)
{
    static const u8 inc_edi[] = {0xff, 0xc7}, call_ahead[] = {0xe8, 0, 0, 0, 0}, jump_ahead[] = {0xeb, 0};
    const u64 end = 1ull << 47;
    u8 *last = (u8 *)page + 0x1000;
    map(end - 0x1000, at | PTE_P | PTE_W, 1);
    memcpy(last - 2, inc_edi, 2);
    for (unsigned i = 0; i < 8; i++) run((void *)(end - 2), 41, 0);
    ok(trap.vector == GP && !trap.error, "running off the low half: #GP(0)");
    is(trap.di, 42, "what ran is done once");
    is(trap.ip, end, "RIP is behind it");
    memcpy(last - 5, call_ahead, 5);
    for (unsigned i = 0; i < 8; i++) run((void *)(end - 5), 0, 0);
    ok(trap.vector == GP && trap.ip == end - 5, "CALL off the low half: #GP at the CALL");
    u64 sp = trap.sp;
    memcpy(last - 2, jump_ahead, 2);
    for (unsigned i = 0; i < 8; i++) run((void *)(end - 2), 0, 0);
    ok(trap.vector == GP && trap.ip == end - 2, "JMP off the low half: #GP at the JMP");
    is(trap.sp, sp, "CALL left the stack alone");
    map(end - 0x1000, 0, 1);
}

static void basic(void)
{
    map(V, 0, 1);
    traps("read of an absent page: error 0", PF, 0, read_at, V + 8, 0);
    is(trap.cr2, V + 8, "CR2");
    traps("write to an absent page: error 2", PF, 2, write_at, V + 8, 0);
    traps("read-modify-write of an absent page: error 2", PF, 2, rmw_at, V, 0);
    traps("compare with an absent page: error 0", PF, 0, cmp_at, V, 0);
    traps("LOCK CMPXCHG on an absent page: error 2", PF, 2, lock_cmpxchg_at, V, 0);
    traps("fetch from an absent page with NXE: error 10h", PF, 0x10, jump_at, V, 0);
    is(trap.cr2, V, "CR2 of a fetch");
    is(trap.ip, V, "RIP of a fetch fault is the target");
    set_gate(PF, stubs + PF * 16, KERNEL_CS, 0x8e, 3);
    traps("push to an absent page: error 2", PF, 2, push_at, V + 8, 0);
    restore_gate(PF);
    is(trap.cr2, V, "CR2 of a push");
    traps_user("read at CPL 3: error 4", PF, 4, read_at, V, 0);
    traps_user("write at CPL 3: error 6", PF, 6, write_at, V, 0);
    traps_user("fetch at CPL 3: error 14h", PF, 0x14, jump_at, V, 0);
    for (unsigned level = 2; level <= 4; level++) {
        u64 *e = entry(V, level), old = *e;
        map(V, at | PTE_P | PTE_W | PTE_U, 1);
        *e = old & ~PTE_P;
        invlpg(V);
        traps("absent entry of a higher level: error 0", PF, 0, read_at, V, 0);
        *e = old;
        invlpg(V);
    }
    map(V, at | PTE_P | PTE_W | PTE_U, 1);
    *page = 0x1234;
    traps("a present page", NONE, 0, read_at, V, 0);
    is(trap.result, 0x1234, "what is read");
    traps_user("a present page at CPL 3", NONE, 0, write_at, V, 0x5678);
    is(*page, 0x5678, "what was written");
}

static void rights(void)
{
    word cr0 = read_cr0();
    map(V, at | PTE_P | PTE_U, 1);
    write_cr0(cr0 & ~0x10000ul);
    traps("write to a read-only page at CPL 0 without WP", NONE, 0, write_at, V, 77);
    is(*page, 77, "is done");
    traps_user("the same at CPL 3: error 7", PF, 7, write_at, V, 1);
    write_cr0(cr0 | 0x10000);
    traps("write to a read-only page with WP: error 3", PF, 3, write_at, V, 1);
    is(*page, 77, "is not done");
    traps("read of a read-only page", NONE, 0, read_at, V, 0);
    write_cr0(cr0);
    map(V, at | PTE_P | PTE_W, 1);
    traps_user("supervisor page at CPL 3, read: error 5", PF, 5, read_at, V, 0);
    traps_user("supervisor page at CPL 3, write: error 7", PF, 7, write_at, V, 0);
    traps_user("supervisor page at CPL 3, fetch: error 15h", PF, 0x15, jump_at, V, 0);
    traps("supervisor page at CPL 0", NONE, 0, read_at, V, 0);
    map(V, at | PTE_P | PTE_W | PTE_U | PTE_NX, 1);
    code_into(page);
    traps("fetch from an NX page: error 11h", PF, 0x11, jump_at, V, 0);
    traps_user("fetch from an NX page at CPL 3: error 15h", PF, 0x15, jump_at, V, 0);
    traps("read of an NX page", NONE, 0, read_at, V, 0);
    map(V, at | PTE_P | PTE_W | PTE_U, 1);
    traps("fetch without NX", NONE, 0, jump_at, V, 0);
    write_cr0(cr0 | 0x10000);
    for (unsigned level = 2; level <= 4; level++) {
        u64 *e = entry(V, level), old = *e;
        *e = old & ~PTE_W, invlpg(V);
        traps("R/W of a higher level counts", PF, 3, write_at, V, 0);
        *e = old & ~PTE_U, invlpg(V);
        traps_user("U/S of a higher level counts", PF, 5, read_at, V, 0);
        *e = old | PTE_NX, invlpg(V);
        traps("XD of a higher level counts", PF, 0x11, jump_at, V, 0);
        *e = old, invlpg(V);
    }
    write_cr0(cr0);
    traps("and all is well again", NONE, 0, jump_at, V, 0);
    wrmsr(0xc0000080, rdmsr(0xc0000080) & ~0x800ull);
    map(V, at | PTE_P | PTE_W | PTE_U | PTE_NX, 1);
    traps("XD without NXE is reserved: error 9", PF, 9, read_at, V, 0);
    map(V, 0, 1);
    traps("fetch without NXE has no I/D bit: error 0", PF, 0, jump_at, V, 0);
    wrmsr(0xc0000080, rdmsr(0xc0000080) | 0x800);
}

static void reserved(void)
{
    unsigned bits = physical_bits();
    for (unsigned level = 1; level <= 4 && bits < 52; level++) {
        map(V, at | PTE_P | PTE_W | PTE_U, 1);
        u64 *e = entry(V, level), old = *e;
        *e = old | 1ull << bits, invlpg(V);
        traps("address bit beyond MAXPHYADDR: error 9", PF, 9, read_at, V, 0);
        *e = old | 1ull << 51, invlpg(V);
        traps("bit 51, write: error 0Bh", PF, 0xb, write_at, V, 0);
        traps_user("bit 51, fetch at CPL 3: error 1Dh", PF, 0x1d, jump_at, V, 0);
        *e = (old | 1ull << 51) & ~PTE_P, invlpg(V);
        traps("reserved bits of an absent entry don't matter", PF, 0, read_at, V, 0);
        *e = old | 0x0070000000000e00, invlpg(V);
        traps("available bits 9-11 and 52-58 are", NONE, 0, read_at, V, 0);
        *e = old, invlpg(V);
    }
    u64 *e = entry(V, 4), old = *e;
    *e = old | PTE_PS, invlpg(V);
    traps("PS in a PML4E: error 9", PF, 9, read_at, V, 0);
    *e = old, invlpg(V);
    u64 big = V + 0x10000000;
    map(big, PTE_P | PTE_W | PTE_PS | 0x2000, 2);
    traps("bit 13 of a 2 MiB page: error 9", PF, 9, read_at, big, 0);
    map(big, PTE_P | PTE_W | PTE_PS | 0x100000, 2);
    traps("bit 20 of a 2 MiB page: error 9", PF, 9, read_at, big, 0);
    map(big, PTE_P | PTE_W | PTE_PS | 0x1000, 2);
    traps("bit 12 of a 2 MiB page is PAT", NONE, 0, read_at, big, 0);
    map(big, 0, 2);
    if (has_amd_edx(26)) {
        u64 huge = V + 0x80000000;
        map(huge, PTE_P | PTE_W | PTE_PS | 0x200000, 3);
        traps("bit 21 of a 1 GiB page: error 9", PF, 9, read_at, huge, 0);
        map(huge, PTE_P | PTE_W | PTE_PS | 0x1000, 3);
        traps("bit 12 of a 1 GiB page is PAT", NONE, 0, read_at, huge, 0);
        map(huge, 0, 3);
    } else {
        skip("no 1 GiB pages", "bit 21 of a 1 GiB page");
    }
}

static void large(void)
{
    u64 big = (V & ~0x1fffffull) + 0x20000000, inner = (at & 0x1fffff) + 0x24;
    page[9] = 0xabcdef;
    map(big, (at & ~0x1fffffull) | PTE_P | PTE_W | PTE_U | PTE_PS, 2);
    run(read_at, big + inner, 0);
    is(trap.result, 0xabcdef, "2 MiB page");
    traps_user("2 MiB page written at CPL 3", NONE, 0, write_at, big + inner, 5);
    is(page[9], 5, "to the right place");
    is(*entry(big, 2) & (PTE_A | PTE_D), PTE_A | PTE_D, "A and D of the PDE");
    page[1023] = 0x11223344, other[0] = 0x55667788;
    run(read_at, big + (at & 0x1fffff) + 4094, 0);
    is(trap.result, 0x77881122, "read over 4 KiB inside a 2 MiB page");
    map(big, 0, 2);
    traps("gone after INVLPG", PF, 0, read_at, big + inner, 0);
    if (!has_amd_edx(26)) {
        skip("no 1 GiB pages", "1 GiB page");
        return;
    }
    u64 huge = (V & ~0x3fffffffull) + 0x100000000;
    map(huge, PTE_P | PTE_W | PTE_PS, 3);
    run(read_at, huge + at + 0x24, 0);
    is(trap.result, 5, "1 GiB page");
    is(*entry(huge, 3) & (PTE_A | PTE_D), PTE_A, "A of the PDPTE");
    run(write_at, huge + at + 0x24, 6);
    is(*entry(huge, 3) & (PTE_A | PTE_D), PTE_A | PTE_D, "D of the PDPTE");
    map(huge, 0, 3);
    traps("gone after INVLPG", PF, 0, read_at, huge + at + 0x24, 0);
}

static void accessed_dirty(void)
{
    u64 *e = map(V, at | PTE_P | PTE_W | PTE_U, 1);
    for (unsigned level = 2; level <= 4; level++) *entry(V, level) &= ~PTE_A;
    write_cr3(read_cr3());
    run(read_at, V, 0);
    is(*e & (PTE_A | PTE_D), PTE_A, "a read sets A, not D");
    bool all = true;
    for (unsigned level = 2; level <= 4; level++) all &= !!(*entry(V, level) & PTE_A);
    ok(all, "A is set at every level");
    is(*entry(V, 2) & PTE_D, 0, "D is the last level's");
    run(write_at, V, 1);
    is(*e & (PTE_A | PTE_D), PTE_A | PTE_D, "a write sets D, also when the page was read before");
    *e &= ~PTE_D, invlpg(V);
    run(write_at, V, 1);
    is(*e & PTE_D, PTE_D, "D is set again after it was cleared and INVLPG");
    map(V, at | PTE_P | PTE_W | PTE_U, 1);
    run(jump_at, V, (code_into(page), 0));
    is(*e & (PTE_A | PTE_D), PTE_A, "a fetch sets A");
    map(V, at | PTE_P | PTE_U, 1);
    write_cr0(read_cr0() | 0x10000);
    run(write_at, V, 1);
    is(*e & PTE_D, 0, "a refused write does not set D");
    write_cr0(read_cr0() & ~0x10000ul);
    map(V, at | PTE_P | PTE_W | PTE_U, 1);
    run(cmp_at, V, 1);
    is(*e & PTE_D, 0, "CMP does not set D");
    run(rmw_at, V, 0);
    is(*e & PTE_D, PTE_D, "ADD does");
    map(V, at | PTE_P | PTE_W | PTE_U, 1);
    *page = 1;
    run(lock_cmpxchg_at, V, 9);
    is(*e & PTE_D, PTE_D, "LOCK CMPXCHG that does not exchange sets D too");
}

static void stale(void)
{
    u64 *e = map(V, at | PTE_P | PTE_W | PTE_U, 1);
    *page = 1, *other = 2;
    run(read_at, V, 0);
    is(trap.result, 1, "first mapping");
    *e = (u64)(word)other | PTE_P | PTE_W | PTE_U;
    invlpg(V + 0x123);
    run(read_at, V, 0);
    is(trap.result, 2, "INVLPG with an address inside the page");
    *e = at | PTE_P | PTE_W | PTE_U;
    write_cr3(read_cr3());
    run(read_at, V, 0);
    is(trap.result, 1, "CR3 reload drops a translation");
    *e = 0, invlpg(V);
    run(read_at, V, 0);
    *e = at | PTE_P | PTE_W | PTE_U;
    traps("absent to present needs no invalidation", NONE, 0, read_at, V, 0);
    map(V, at | PTE_P | PTE_U, 1);
    write_cr0(read_cr0() | 0x10000);
    run(write_at, V, 0);
    *e |= PTE_W;
    run(write_at, V, 0);
    if (trap.vector == PF) run(write_at, V, 0);
    is((u64)trap.vector, (u64)NONE, "read-only to writable needs at most one fault");
    write_cr0(read_cr0() & ~0x10000ul);
    *e |= PTE_U, *entry(V, 2) &= ~PTE_U, invlpg(V);
    run_user(read_at, V, 0);
    *entry(V, 2) |= PTE_U;
    invlpg(V);
    traps_user("supervisor to user after INVLPG", NONE, 0, read_at, V, 0);

    word cr4 = read_cr4();
    write_cr4(cr4 | 0x80);
    map(V, at | PTE_P | PTE_W | PTE_G, 1);
    *page = 1, *other = 2;
    run(read_at, V, 0);
    *e = (u64)(word)other | PTE_P | PTE_W | PTE_G;
    write_cr3(read_cr3());
    run(read_at, V, 0);
    note("a global translation %s a CR3 reload (either is right)",
         trap.result == 1 ? "survives" : "goes with");
    write_cr4(cr4);
    run(read_at, V, 0);
    is(trap.result, 2, "clearing CR4.PGE drops global translations");
    write_cr4(cr4 | 0x80);
    run(read_at, V, 0);
    *e = at | PTE_P | PTE_W | PTE_G;
    invlpg(V);
    run(read_at, V, 0);
    is(trap.result, 1, "INVLPG drops a global translation");
    run(read_at, V, 0);
    *e = (u64)(word)other | PTE_P | PTE_W;
    write_cr4(cr4 & ~0x80ul);
    run(read_at, V, 0);
    is(trap.result, 2, "and once more by CR4.PGE");
    write_cr4(cr4);
    run(read_at, V, 0);
    *e = at | PTE_P | PTE_W;
    write_cr0(read_cr0() ^ 0x10000);
    write_cr0(read_cr0() ^ 0x10000);
    invlpg(V);

    u64 *pde = entry(V, 2), old = *pde; /* the table itself is replaced by a large page */
    *pde = (at & ~0x1fffffull) | PTE_P | PTE_W | PTE_U | PTE_PS, invlpg(V);
    run(read_at, (V & ~0x1fffffull) + (at & 0x1fffff), 0);
    is(trap.result, 1, "a table replaced by a 2 MiB page");
    *pde = old, invlpg(V);
    run(read_at, V, 0);
    is(trap.result, 1, "and back");
}

static void crossing(void)
{
    map(V, at | PTE_P | PTE_W | PTE_U, 1);
    map(V + 4096, 0, 1);
    page[1023] = 0xaabbccdd;
    traps("read into an absent second page", PF, 0, read_at, V + 4094, 0);
    is(trap.cr2, V + 4096, "CR2 is the second page's first byte");
    traps("write into an absent second page", PF, 2, write_at, V + 4093, 0x12345678);
    is(trap.cr2, V + 4096, "CR2 is the second page's first byte");
    is(page[1023], 0xaabbccdd, "nothing was written");
    map(V + 4096, (u64)(word)other | PTE_P | PTE_U, 1);
    write_cr0(read_cr0() | 0x10000);
    traps("write into a read-only second page", PF, 3, write_at, V + 4093, 0x12345678);
    is(page[1023], 0xaabbccdd, "nothing was written");
    traps("read-modify-write into a read-only second page", PF, 3, rmw_at, V + 4093, 1);
    is(page[1023], 0xaabbccdd, "nothing was written");
    write_cr0(read_cr0() & ~0x10000ul);
    map(V + 4096, (u64)(word)other | PTE_P | PTE_W, 1);
    traps_user("write into a supervisor second page", PF, 7, write_at, V + 4095, 0);
    is(page[1023], 0xaabbccdd, "nothing was written");
    other[0] = 0;
    traps("write over two pages", NONE, 0, write_at, V + 4094, 0x11223344);
    is(page[1023] >> 16, 0x3344, "first half");
    is(other[0], 0x1122, "second half, in a page that is not the next in memory");
    map(V, 0, 1);
    traps("write with the first page absent", PF, 2, write_at, V + 4094, 0);
    is(trap.cr2, V + 4094, "CR2 is the operand's address");
    is(other[0], 0x1122, "nothing was written");
    /* An instruction over two pages. */
    map(V, at | PTE_P | PTE_W | PTE_U, 1);
    map(V + 4096, 0, 1);
    u8 *end = (u8 *)page + 4096;
    end[-2] = 0xb8, end[-1] = 0x11; /* mov $imm32, %eax */
    traps("instruction into an absent page", PF, 0x10, jump_at, V + 4094, 0);
    is(trap.cr2, V + 4096, "CR2 is the second page's first byte");
    is(trap.ip, V + 4094, "RIP is the instruction's start");
    map(V + 4096, (u64)(word)other | PTE_P | PTE_W | PTE_U, 1);
    memcpy(other, "\x22\x33\x44\xc3", 4);
    traps("instruction over two pages", NONE, 0, jump_at, V + 4094, 0);
    is(trap.result, 0x44332211, "is put together right");
    memcpy(other, "\x55\x66\x77\xc3", 4);
    run(jump_at, V + 4094, 0);
    is(trap.result, 0x77665511, "a change of its second half is seen");
    map(V + 4096, 0, 1);
    end[-1] = 0xc3;
    traps("RET as the last byte before an absent page", NONE, 0, jump_at, V + 4095, 0);
}

static void smep_smap(void)
{
    word cr4 = read_cr4();
    if (has_7b(7)) {
        boot_pml4[0] &= ~PTE_U; /* the image must be supervisor */
        code_into(page);
        map(V, at | PTE_P | PTE_W | PTE_U, 1);
        write_cr3(read_cr3());
        write_cr4(cr4 | 1 << 20);
        traps("SMEP: fetch from a user page at CPL 0: error 11h", PF, 0x11, jump_at, V, 0);
        traps("SMEP: data of a user page", NONE, 0, read_at, V, 0);
        map(V, at | PTE_P | PTE_W, 1);
        traps("SMEP: fetch from a supervisor page", NONE, 0, jump_at, V, 0);
        wrmsr(0xc0000080, rdmsr(0xc0000080) & ~0x800ull);
        map(V, 0, 1);
        traps("SMEP without NXE: fetch errors have I/D", PF, 0x10, jump_at, V, 0);
        wrmsr(0xc0000080, rdmsr(0xc0000080) | 0x800);
        write_cr4(cr4);
        map(V, at | PTE_P | PTE_W | PTE_U, 1);
        traps("without SMEP", NONE, 0, jump_at, V, 0);
        boot_pml4[0] |= PTE_U;
    } else {
        skip("no SMEP", "SMEP");
    }
    if (!has_7b(20)) {
        skip("no SMAP", "SMAP");
        return;
    }
    boot_pml4[0] &= ~PTE_U;
    write_cr3(read_cr3());
    write_cr4(cr4 | 1 << 21);
    map(V, at | PTE_P | PTE_W | PTE_U, 1);
    traps("SMAP: read of a user page with AC clear: error 1", PF, 1, clac_read, V, 0);
    traps("SMAP: write: error 3", PF, 3, write_at, V, 0);
    traps("SMAP: read with AC set", NONE, 0, stac_read, V, 0);
    traps("SMAP: write with AC set", NONE, 0, stac_write, V, 5);
    traps("SMAP: AC is cleared again", PF, 1, read_at, V, 0);
    traps("SMAP: fetch is not concerned", NONE, 0, jump_at, V, (code_into(page), 0));
    map(V, at | PTE_P | PTE_W, 1);
    traps("SMAP: supervisor page", NONE, 0, read_at, V, 0);
    write_cr0(read_cr0() & ~0x10000ul);
    map(V, at | PTE_P | PTE_U, 1);
    traps("SMAP counts without WP too", PF, 3, write_at, V, 0);
    write_cr4(cr4);
    boot_pml4[0] |= PTE_U;
    write_cr3(read_cr3());
    map(V, at | PTE_P | PTE_W | PTE_U, 1);
    traps_user("STAC at CPL 3: #UD", UD, 0, stac_insn, 0, 0);
}

/*
 * An implicit supervisor access (here: of the GDT, for a segment register) faults on a user page
 * even with AC set. The handler's own CS comes from the GDT too, so the descriptor sits in a page
 * behind the first.
 */
SNIPPET(load_es, "mov %edi, %eax\n mov %eax, %es\n xor %eax, %eax");
SNIPPET(stac_load_es, "stac\n mov %edi, %eax\n mov %eax, %es\n clac\n xor %eax, %eax");
static void smap_implicit(void)
{
    if (!has_7b(20)) return;
    word cr4 = read_cr4();
    memcpy(page, gdt, sizeof gdt);
    map(V, at | PTE_P | PTE_W, 1);
    map(V + 4096, (u64)(word)other | PTE_P | PTE_W | PTE_U, 1);
    *(u64 *)other = descriptor(0, 0xfffff, D_DATA | D_DPL3 | D_G | D_DB);
    struct table_pointer p = {8191, V};
    asm volatile("lgdt %0" ::"m"(p));
    traps("GDT in a user page", NONE, 0, load_es, 4096, 0);
    traps_user("GDT in a user page, at CPL 3", NONE, 0, load_es, 4096 | 3, 0);
    boot_pml4[0] &= ~PTE_U;
    write_cr3(read_cr3());
    write_cr4(cr4 | 1 << 21);
    traps("SMAP: GDT in a user page: error 1", PF, 1, load_es, 4096, 0);
    traps("SMAP: GDT in a user page, AC set: error 1", PF, 1, stac_load_es, 4096, 0);
    write_cr4(cr4);
    boot_pml4[0] |= PTE_U;
    write_cr3(read_cr3());
    load_gdt(sizeof gdt - 1);
}

static void control_registers(void)
{
    word cr0 = read_cr0(), cr4 = read_cr4();
    traps("CR4.PAE cannot be cleared in long mode: #GP", GP, 0, set_cr4, cr4 & ~0x20ul, 0);
    traps("reserved bit of CR4: #GP", GP, 0, set_cr4, cr4 | 1ul << 31, 0);
    traps("upper half of CR4: #GP", GP, 0, set_cr4, cr4 | 1ul << 32, 0);
    traps("upper half of CR0: #GP", GP, 0, set_cr0, cr0 | 1ul << 32, 0);
    traps("CR0.NW without CD: #GP", GP, 0, set_cr0, (cr0 | 1 << 29) & ~(1ul << 30), 0);
    traps("CR0.PG without PE: #GP", GP, 0, set_cr0, cr0 & ~1ul, 0);
    traps("CR0.PG cannot be cleared in 64-bit mode: #GP", GP, 0, set_cr0, cr0 & 0x7fffffff, 0);
    traps("CR0.ET cannot be cleared", NONE, 0, set_cr0, cr0 & ~0x10ul, 0);
    is(read_cr0() & 0x10, 0x10, "and reads 1");
    traps("CR8 above 15: #GP", GP, 0, set_cr8, 16, 0);
    traps("CR8 = 15", NONE, 0, set_cr8, 15, 0);
    traps("CR8 = 0", NONE, 0, set_cr8, 0, 0);
    traps("CR1: #UD", UD, 0, get_cr1, 0, 0);
    u64 efer = rdmsr(0xc0000080);
    traps("EFER.LME cannot be cleared with paging on: #GP", GP, 0, set_efer, efer & ~0x100ull, 0);
    traps("reserved bit of EFER: #GP", GP, 0, set_efer, efer | 2, 0);
    traps("reserved bit 63 of EFER: #GP", GP, 0, set_efer, efer | 1ull << 63, 0);
    traps("EFER.LMA is not written", NONE, 0, set_efer, efer & ~0x400ull, 0);
    is(rdmsr(0xc0000080), efer, "EFER is as before");
    if (physical_bits() < 52)
        traps("CR3 beyond MAXPHYADDR: #GP", GP, 0, set_cr3, read_cr3() | 1ull << 51, 0);
    traps("CR3 bit 63 without PCIDE: #GP", GP, 0, set_cr3, read_cr3() | 1ull << 63, 0);
}

static void pcid(void)
{
    static struct { u64 pcid, address; } d ALIGNED(16);
    word cr3 = read_cr3(), cr4 = read_cr4();
    if (!has_ecx(17)) {
        skip("no PCID", "PCID");
        traps("CR4.PCIDE without the feature: #GP", GP, 0, set_cr4, cr4 | 1 << 17, 0);
    } else {
        write_cr3(cr3 | 8);
        traps("CR4.PCIDE with CR3[11:0] not 0: #GP", GP, 0, set_cr4, cr4 | 1 << 17, 0);
        write_cr3(cr3);
        write_cr4(cr4 | 1 << 17);
        u64 *e = map(V, at | PTE_P | PTE_W | PTE_U, 1);
        *page = 1, *other = 2;
        write_cr3(cr3 | 1);
        run(read_at, V, 0);
        write_cr3(cr3 | 2);
        run(read_at, V, 0);
        *e = (u64)(word)other | PTE_P | PTE_W | PTE_U;
        write_cr3(cr3 | 1 | 1ull << 63);
        is(read_cr3(), cr3 | 1, "CR3 bit 63 is not kept");
        run(read_at, V, 0);
        ok(trap.result == 1 || trap.result == 2, "CR3 with bit 63 may keep translations");
        write_cr3(cr3 | 1);
        run(read_at, V, 0);
        is(trap.result, 2, "CR3 without bit 63 drops those of its PCID");
        *e = at | PTE_P | PTE_W | PTE_U;
        invlpg(V);
        run(read_at, V, 0);
        is(trap.result, 1, "INVLPG drops the current PCID's");
        if (has_7b(10)) {
            *e = (u64)(word)other | PTE_P | PTE_W | PTE_U;
            d.pcid = 1, d.address = V;
            traps("INVPCID type 0", NONE, 0, invpcid_insn, 0, (word)&d);
            run(read_at, V, 0);
            is(trap.result, 2, "drops one address of a PCID");
            *e = at | PTE_P | PTE_W | PTE_U;
            traps("INVPCID type 1", NONE, 0, invpcid_insn, 1, (word)&d);
            run(read_at, V, 0);
            is(trap.result, 1, "drops a PCID");
            *e = (u64)(word)other | PTE_P | PTE_W | PTE_U;
            traps("INVPCID type 3", NONE, 0, invpcid_insn, 3, (word)&d);
            run(read_at, V, 0);
            is(trap.result, 2, "drops all but globals");
        }
        write_cr3(cr3);
        traps("clearing CR4.PCIDE", NONE, 0, set_cr4, cr4, 0);
    }
    d.pcid = 0, d.address = V;
    if (!has_7b(10)) {
        skip("no INVPCID", "INVPCID");
        return;
    }
    u64 *e = map(V, at | PTE_P | PTE_W | PTE_U, 1);
    write_cr4(cr4 | 0x80);
    *page = 1, *other = 2;
    *e |= PTE_G, invlpg(V);
    run(read_at, V, 0);
    *e = (u64)(word)other | PTE_P | PTE_W | PTE_U;
    traps("INVPCID type 2", NONE, 0, invpcid_insn, 2, (word)&d);
    run(read_at, V, 0);
    is(trap.result, 2, "drops globals too");
    traps("INVPCID type 4: #GP", GP, 0, invpcid_insn, 4, (word)&d);
    d.pcid = 0x1000;
    traps("INVPCID with a reserved bit: #GP", GP, 0, invpcid_insn, 0, (word)&d);
    d.pcid = 0, d.address = 1ull << 47;
    traps("INVPCID type 0 with a non-canonical address: #GP", GP, 0, invpcid_insn, 0, (word)&d);
    d.pcid = 1, d.address = V;
    traps("INVPCID with a PCID without PCIDE: #GP", GP, 0, invpcid_insn, 1, (word)&d);
    traps_user("INVPCID at CPL 3: #GP", GP, 0, invpcid_insn, 2, (word)&d);
    write_cr4(cr4);
}

void guest_main(void)
{
    alloc_pages(3); /* so that the page is not aligned to anything larger */
    page = alloc_pages(1), alloc_pages(2), other = alloc_pages(1);
    at = (word)page;
    other = (u32 *)(at + 4096);
    basic();
    canonical_end();
    rights();
    reserved();
    large();
    accessed_dirty();
    stale();
    other = alloc_pages(1);
    crossing();
    smep_smap();
    smap_implicit();
    control_registers();
    pcid();
}
