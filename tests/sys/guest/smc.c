/* guest: bits=64 smp=1,2 */
/*
 * Self- and cross-modifying code. SDM vol. 3 section 9.1.3; x86 processors see a store to code at
 * the latest behind the next branch, and all in use see it at the next instruction of the same
 * linear address; a store by another linear address needs a serialising instruction.
 */
#include "guest.h"

typedef u32 function(u32);
#define V (WINDOW + 0x600000)
static u8 *page;

static void put_code(u8 *at, const char *bytes, unsigned n) { memcpy(at, bytes, n); }
static u32 call(const void *at, u32 v)
{
    u32 r;
    asm volatile("call *%1" : "=a"(r) : "r"(at), "D"(v), "a"(0) : "rcx", "rdx", "rsi", "r8", "r9",
                 "memory");
    return r;
}
#define RET_IMM "\xb8\x01\x00\x00\x00\xc3" /* mov $1, %eax; ret */

static void simple(void)
{
    u8 *at = page;
    put_code(at, RET_IMM, 6);
    is(call(at, 0), 1, "fresh code");
    at[1] = 2;
    is(call(at, 0), 2, "an immediate changed");
    bool all = true;
    for (unsigned i = 0; i < 300; i++) {
        at[1] = (u8)i;
        all &= call(at, 0) == (u8)i;
    }
    ok(all, "changed between 300 calls");
    at[0] = 0xb9; /* mov $x, %ecx */
    is(call(at, 0), 0, "an opcode changed");
    put_code(at + 4092, "\xb8\x11\x22\x33", 4);
    put_code(at + 4096, "\x44\xc3", 2);
    is(call(at + 4092, 0), 0x44332211, "an instruction over two pages");
    at[4096] = 0x55;
    is(call(at + 4092, 0), 0x55332211, "its second half changed");
    at[4093] = 0x66;
    is(call(at + 4092, 0), 0x55332266, "its first half changed");
    *(u32 *)(at + 4094) = 0xc3eeddcc;
    put_code(at + 4097, "\xc3", 1);
    is(call(at + 4092, 0), 0xeeddcc66, "a store over the border changes both");
}

/* In the running block: the store changes the very next instruction. */
SNIPPET(next_insn, "movb $0x2a, 1f+1(%rip)\n 1: mov $0x11, %eax");
SNIPPET(next_opcode, "xor %eax, %eax\n movw $0xc0ff, 1f(%rip)\n 1: nop\n nop"); /* becomes inc %eax */
SNIPPET(loop_code, "xor %eax, %eax\n mov $5, %ecx\n 1: add $1, %eax\n incb 1b+2(%rip)\n dec %ecx\n jnz 1b");
SNIPPET(push_code, "mov %rsp, %rdx\n lea 1f+8(%rip), %rsp\n movabs $0xc3909090c3c0ffc3, %rcx\n xor %eax, %eax\n push %rcx\n mov %rdx, %rsp\n jmp 1f+1\n .balign 8\n 1: .skip 8");
SNIPPET(rep_code, "lea 2f(%rip), %rdi\n lea 3f(%rip), %rsi\n mov $6, %ecx\n rep movsb\n 2: mov $0x11, %eax\n ret\n 3: mov $0x77, %eax\n ret");
SNIPPET(rep_self, "lea 1f(%rip), %rdi\n mov $4, %ecx\n mov $0x90, %eax\n 1: rep stosb\n nop\n nop\n mov %ecx, %eax");
SNIPPET(xchg_code, "mov $0x33, %ecx\n xchg %cl, 1f+1(%rip)\n 1: mov $0x11, %eax");
SNIPPET(cmpxchg_code, "mov $0x11, %eax\n mov $0x44, %ecx\n lock cmpxchg %cl, 1f+1(%rip)\n 1: mov $0x11, %eax");
SNIPPET(sse_code, "movups 2f(%rip), %xmm0\n movups %xmm0, 1f(%rip)\n 1: mov $0x11, %eax\n ret\n .skip 10\n 2: mov $0x66, %eax\n ret\n .skip 10");
SNIPPET(fist_code, "fninit\n push $0x55\n fildl (%rsp)\n pop %rax\n fistps 1f+1(%rip)\n 1: mov $0x11, %eax");
SNIPPET(own_code, "movl $0x90909090, own_code(%rip)\n mov $7, %eax"); /* changes what has run */

static void same_block(void)
{
    run(next_insn, 0, 0);
    is(trap.result, 0x2a, "a store to the next instruction's immediate");
    run(next_opcode, 0, 0);
    is(trap.result, 1, "a store to the next instruction's opcode");
    run(loop_code, 0, 0);
    is(trap.result, 1 + 2 + 3 + 4 + 5, "a loop that changes itself");
    run(push_code, 0, 0);
    is(trap.result, 1, "PUSH to code");
    run(rep_code, 0, 0);
    is(trap.result, 0x77, "REP MOVSB over the next instructions");
    run(rep_self, 0, 0);
    ok(trap.vector == NONE && trap.result <= 3, "REP STOSB over itself ends (%llu left)",
       trap.result);
    run(xchg_code, 0, 0);
    is(trap.result, 0x33, "XCHG with the next instruction");
    run(cmpxchg_code, 0, 0);
    is(trap.result, 0x44, "LOCK CMPXCHG of the next instruction");
    run(sse_code, 0, 0);
    is(trap.result, 0x66, "MOVUPS over the next instructions");
    run(fist_code, 0, 0);
    is(trap.result & 0xff, 0x55, "FISTP to the next instruction");
    run(own_code, 0, 0);
    is(trap.result, 7, "a store to what has run");
}

/* The same physical page at another address. */
static void alias(void)
{
    map(V, (word)page | PTE_P | PTE_W | PTE_U, 1);
    map(V + 0x5000, (word)page | PTE_P | PTE_W | PTE_U, 1);
    put_code(page, RET_IMM, 6);
    is(call((void *)V, 0), 1, "code by an alias");
    page[1] = 9;
    cpuid(0, 0);
    is(call((void *)V, 0), 9, "changed by the identity address");
    *(volatile u8 *)(V + 0x5001) = 10;
    cpuid(0, 0);
    is(call((void *)V, 0), 10, "changed by a second alias");
    is(call(page, 0), 10, "seen by the identity address");
    /* Another physical page under the same address. */
    u8 *other = page + 8192;
    put_code(other, RET_IMM, 6);
    other[1] = 77;
    map(V, (word)other | PTE_P | PTE_W | PTE_U, 1);
    is(call((void *)V, 0), 77, "another page mapped there");
    map(V, (word)page | PTE_P | PTE_W | PTE_U, 1);
    is(call((void *)V, 0), 10, "and back");
    /* Code that runs from a page whose mapping it changes. */
    map(V, 0, 1);
    run((void *)V, 0, 0);
    is((u64)trap.vector, PF, "unmapped code faults");
    /* Data and code in one page: stores beside code must not disturb it. */
    bool all = true;
    for (unsigned i = 0; i < 2000; i++) {
        *(volatile u32 *)(page + 64 + i % 64 * 4) = i;
        all &= call(page, 0) == 10;
    }
    ok(all, "stores beside code");
}

/* A store from another processor; the reader serialises after the flag. */
static struct { volatile u32 turn; volatile bool stop; u8 *code; } shared;
static void writer(void *arg)
{
    (void)arg;
    for (u32 i = 1; i <= 1000; i++) {
        while (shared.turn != 2 * i - 1) pause();
        *(volatile u32 *)(shared.code + 1) = i;
        BARRIER();
        shared.turn = 2 * i;
    }
}
static void cross(void)
{
    if (start_cpus(2) < 2) {
        skip("one processor", "cross-modifying code");
        return;
    }
    shared.code = page + 12288;
    put_code(shared.code, RET_IMM, 6);
    call(shared.code, 0);
    on_cpu(1, writer, NULL);
    unsigned wrong = 0;
    for (u32 i = 1; i <= 1000; i++) {
        shared.turn = 2 * i - 1;
        while (shared.turn != 2 * i) pause();
        cpuid(0, 0);
        wrong += call(shared.code, 0) != i;
    }
    wait_cpu(1);
    is(wrong, 0, "code written by another processor, 1000 times");
}

/* nop; inc %eax; jmp back to the nop, until the other processor has written a ret over it: nothing
 * else ends the loop. How often it turns is the host's affair. */
static void opener(void *arg)
{
    (void)arg;
    for (u32 i = 1; i <= 200; i++) {
        while (shared.turn != 2 * i - 1) pause();
        for (unsigned n = 0; n < 20000; n++) BARRIER(); /* let it become a hot loop */
        *(volatile u8 *)shared.code = 0xc3;
    }
}
static void spinning(void)
{
    if (start_cpus(2) < 2) {
        skip("one processor", "a loop that another processor ends");
        return;
    }
    shared.code = page + 3 * 4096 + 512;
    shared.turn = 0;
    on_cpu(1, opener, NULL);
    for (u32 i = 1; i <= 200; i++) {
        put_code(shared.code, "\x90\xff\xc0\xeb\xfb", 5);
        cpuid(0, 0);
        shared.turn = 2 * i - 1;
        call(shared.code, 0);
        shared.turn = 2 * i;
    }
    wait_cpu(1);
    ok(true, "a loop that another processor ends, 200 times");
}

void guest_main(void)
{
    page = alloc_pages(4);
    simple();
    same_block();
    alias();
    cross();
    spinning();
}
