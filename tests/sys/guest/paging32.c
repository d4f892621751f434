/* guest: bits=32 smp=1 */
/* 32-bit paging (4 KiB, 4 MiB, PSE-36) and PAE paging outside long mode. SDM vol. 3 sections 4.3,
 * 4.4. */
#include "guest.h"

SNIPPET(read_at, "mov (%eax), %eax");
SNIPPET(write_at, "mov %edx, (%eax)");
SNIPPET(jump_at, "call *%eax");
SNIPPET(set_cr3, "mov %eax, %cr3");
SNIPPET(set_cr0, "mov %eax, %cr0");

#define V 0x40c05000ul
enum { P = 1, W = 2, U = 4, A = 0x20, D = 0x40, PS = 0x80, G = 0x100 };
static u32 *page;

static void plain(void)
{
    u32 *directory = alloc_pages(1), *table = alloc_pages(1);
    write_cr4(read_cr4() | 0x10);
    for (u32 i = 0; i < 1024; i++) directory[i] = i << 22 | P | W | U | PS;
    directory[V >> 22] = (u32)(word)table | P | W | U;
    u32 *pte = &table[V >> 12 & 1023], *pde = &directory[V >> 22];
    *pte = (u32)(word)page | P | W | U;
    *page = 0x1234;
    write_cr3((word)directory);
    write_cr0(read_cr0() | 1u << 31);
    run(read_at, V, 0);
    is(trap.result, 0x1234, "4 KiB page");
    is(*pte & (A | D), A, "A");
    is(*pde & A, A, "A of the PDE");
    run(write_at, V, 0x5678);
    is(*pte & (A | D), A | D, "D");
    is(directory[0] & D, D, "D of a 4 MiB page");
    *pte = 0, invlpg(V);
    traps("absent: error 0", PF, 0, read_at, V, 0);
    is(trap.cr2, V, "CR2");
    traps_user("write at CPL 3: error 6", PF, 6, write_at, V, 0);
    traps("fetch: error 0, no NX here", PF, 0, jump_at, V, 0);
    *pte = (u32)(word)page | P | U, invlpg(V);
    traps("write to a read-only page without WP", NONE, 0, write_at, V, 1);
    traps_user("at CPL 3: error 7", PF, 7, write_at, V, 1);
    write_cr0(read_cr0() | 0x10000);
    traps("with WP: error 3", PF, 3, write_at, V, 1);
    write_cr0(read_cr0() & ~0x10000ul);
    *pte |= W, *pde &= ~(u32)U, invlpg(V);
    traps_user("U/S of the PDE: error 5", PF, 5, read_at, V, 1);
    *pde |= U;
    u32 big = 0x80000000;
    directory[big >> 22] = ((u32)(word)page & 0xffc00000) | P | W | PS;
    invlpg(big);
    *page = 77;
    run(read_at, big + ((u32)(word)page & 0x3fffff), 0);
    is(trap.result, 77, "4 MiB page");
    directory[big >> 22] = P | W | PS | 1u << 21;
    invlpg(big);
    traps("reserved bit 21 of a 4 MiB page: error 9", PF, 9, read_at, big, 0);
    if (has_edx(17)) {
        directory[big >> 22] = P | W | PS | 1u << 12;
        invlpg(big);
        traps("bit 12 of a 4 MiB page is PAT", NONE, 0, read_at, big, 0);
    }
    write_cr0(read_cr0() & 0x7fffffff);
}

static void pae(void)
{
    u64 *pdpt = alloc_pages(1), *directories = alloc_pages(4), *table = alloc_pages(1);
    for (u32 i = 0; i < 2048; i++) directories[i] = (u64)i << 21 | P | W | U | PS;
    for (u32 i = 0; i < 4; i++) pdpt[i] = (u32)(word)(directories + 512 * i) | P;
    u64 *pde = &directories[V >> 21], *pte = &table[V >> 12 & 511];
    *pde = (u32)(word)table | P | W | U;
    *pte = (u32)(word)page | P | W | U;
    write_cr4(read_cr4() | 0x20);
    write_cr3((word)pdpt);
    write_cr0(read_cr0() | 1u << 31);
    *page = 0x4321;
    run(read_at, V, 0);
    is(trap.result, 0x4321, "PAE: 4 KiB page");
    is(*pte & (A | D), A, "PAE: A");
    is(pdpt[1] & A, 0, "PAE: no A in a PDPTE");
    u32 big = 0x80000000;
    directories[big >> 21] = ((u32)(word)page & 0xffe00000) | P | W | PS;
    invlpg(big);
    run(read_at, big + ((u32)(word)page & 0x1fffff), 0);
    is(trap.result, 0x4321, "PAE: 2 MiB page");
    if (physical_bits() < 52) {
        *pte |= 1ull << 51, invlpg(V);
        traps("PAE: bit 51: error 9", PF, 9, read_at, V, 0);
        *pte &= ~(1ull << 51);
    }
    *pte |= 1ull << 52, invlpg(V);
    traps("PAE: bit 52 is reserved outside long mode: error 9", PF, 9, read_at, V, 0);
    *pte &= ~(1ull << 52);
    *pte |= 1ull << 63, invlpg(V);
    traps("PAE: bit 63 without NXE: error 9", PF, 9, read_at, V, 0);
    if (has_amd_edx(20)) {
        wrmsr(0xc0000080, rdmsr(0xc0000080) | 0x800);
        write_cr3((word)pdpt);
        *(u8 *)page = 0xc3;
        traps("PAE: NX: fetch: error 11h", PF, 0x11, jump_at, V, 0);
        traps("PAE: NX: read", NONE, 0, read_at, V, 0);
        *pte &= ~(1ull << 63), invlpg(V);
        traps("PAE: fetch", NONE, 0, jump_at, V, 0);
        wrmsr(0xc0000080, rdmsr(0xc0000080) & ~0x800ull);
    }
    *pte &= ~(1ull << 63), invlpg(V);
    traps("PAE: all is well", NONE, 0, read_at, V, 0);
    /* PDPTEs are loaded with CR3: changes have no effect until then, and reserved bits are #GP. */
    u64 old = pdpt[1];
    pdpt[1] = 0;
    invlpg(V);
    traps("PAE: a changed PDPTE is not looked at", NONE, 0, read_at, V, 0);
    write_cr3((word)pdpt);
    traps("PAE: until CR3 is loaded", PF, 0, read_at, V, 0);
    pdpt[1] = old | 2;
    traps("PAE: reserved bit 1 of a PDPTE: MOV CR3 is #GP(0)", GP, 0, set_cr3, (word)pdpt, 0);
    pdpt[1] = old | 1ull << 63;
    traps("PAE: bit 63 of a PDPTE: MOV CR3 is #GP(0)", GP, 0, set_cr3, (word)pdpt, 0);
    pdpt[1] = (old | 2) & ~1ull;
    traps("PAE: reserved bits of an absent PDPTE don't matter", NONE, 0, set_cr3, (word)pdpt, 0);
    pdpt[1] = old;
    write_cr3((word)pdpt);
    traps("PAE: back", NONE, 0, read_at, V, 0);
    /* The table of PDPTEs is aligned to 32 bytes, not 4 KiB. */
    for (u32 i = 0; i < 4; i++) pdpt[4 + i] = pdpt[i];
    traps("PAE: CR3 aligned to 32 bytes", NONE, 0, set_cr3, (word)(pdpt + 4), 0);
    traps("PAE: reads by it", NONE, 0, read_at, V, 0);
    write_cr0(read_cr0() & 0x7fffffff);
    pdpt[2] |= 1ull << 5;
    write_cr3((word)pdpt);
    traps("PAE: enabling paging with a reserved bit in a PDPTE: #GP(0)", GP, 0, set_cr0,
          read_cr0() | 1u << 31, 0);
    write_cr4(read_cr4() & ~0x20ul);
}

void guest_main(void)
{
    alloc_pages(3);
    page = alloc_pages(1);
    plain();
    pae();
}
