/* guest: bits=64 smp=1 */
/* What instructions that fault half-way have done: registers, memory, restart. SDM vol. 1, 2, 3 ch.
 * 6. */
#include "guest.h"

SNIPPET(rep_movsb, "mov $64, %ecx\n" AT(rep_movsb) "rep movsb");
SNIPPET(rep_movsq, "mov $8, %ecx\n rep movsq");
SNIPPET(rep_movsb_down, "mov $64, %ecx\n std\n rep movsb");
SNIPPET(rep_stosd, "mov $16, %ecx\n mov $0x55555555, %eax\n rep stosl");
SNIPPET(rep_lodsb, "mov $64, %ecx\n rep lodsb");
SNIPPET(rep_cmpsb, "mov $64, %ecx\n repe cmpsb");
SNIPPET(rep_scasb, "mov $64, %ecx\n xor %eax, %eax\n repe scasb");
SNIPPET(rep_none, "xor %ecx, %ecx\n rep movsb");
SNIPPET(rep_outsb, "mov $8, %ecx\n mov $0x80, %edx\n rep outsb");
SNIPPET(rep_insb, "mov $8, %ecx\n mov $0x3fd, %edx\n rep insb");
SNIPPET(cx16, "mov %rsi, %rax\n xor %edx, %edx\n mov $1, %ebx\n mov $2, %ecx\n lock cmpxchg16b (%rdi)\n setz %al\n movzbl %al, %eax");
SNIPPET(cx8, "mov %esi, %eax\n xor %edx, %edx\n mov $1, %ebx\n mov $2, %ecx\n lock cmpxchg8b (%rdi)");
SNIPPET(xadd_at, "mov $5, %eax\n lock xaddl %eax, (%rdi)");
SNIPPET(xchg_at, "mov $5, %eax\n xchg %eax, (%rdi)");
SNIPPET(add64_at, "lock addq $1, (%rdi)");
SNIPPET(push_mem, "mov %rsp, %rbp\n mov %rdi, %rsp\n push (%rsi)\n mov %rsp, %rax\n mov %rbp, %rsp");
SNIPPET(pop_mem, "mov %rsp, %rbp\n mov %rsi, %rsp\n pop (%rdi)\n mov %rsp, %rax\n mov %rbp, %rsp");
SNIPPET(pop_rsp_based, "mov %rsp, %rbp\n mov %rdi, %rsp\n pop 8(%rsp)\n mov %rsp, %rax\n mov %rbp, %rsp");
SNIPPET(pop_rsp, "mov %rsp, %rbp\n mov %rdi, %rsp\n pop %rsp\n mov %rsp, %rax\n mov %rbp, %rsp");
SNIPPET(push_rsp, "mov %rsp, %rbp\n mov %rdi, %rsp\n push %rsp\n pop %rax\n mov %rbp, %rsp");
SNIPPET(call_mem, "mov %rsp, %rbp\n mov %rdi, %rsp\n call *(%rsi)");
SNIPPET(enter_at, "mov %rsp, %rax\n mov %rdi, %rsp\n mov %rsi, %rbp\n" AT(enter_at) "enter $4096, $0\n mov %rax, %rsp");
SNIPPET(enter_levels, "mov %rsp, %r8\n mov %rdi, %rsp\n mov %rsi, %rbp\n enter $32, $3\n mov %rbp, %rax\n mov %rsp, %rcx\n mov %r8, %rsp");
SNIPPET(leave_at, "mov %rsp, %r8\n mov %rdi, %rbp\n leave\n mov %r8, %rsp");
SNIPPET(movups_store, "movups %xmm0, (%rdi)");
SNIPPET(fstp80, "fninit\n fld1\n fstpt (%rdi)");
SNIPPET(fstp80_twice, "fninit\n fld1\n fstpt (%rdi)\n fninit");
SNIPPET(fxsave_at, "fxsave (%rdi)");
SNIPPET(sidt_at, "sidt (%rdi)");
SNIPPET(bts_at, "bts %rsi, (%rdi)");
SNIPPET(xlat_at, "mov %rdi, %rbx\n mov %esi, %eax\n xlat");
SNIPPET(maskmov, "pcmpeqd %xmm1, %xmm1\n psrldq $12, %xmm1\n pcmpeqd %xmm0, %xmm0\n maskmovdqu %xmm1, %xmm0");
SNIPPET(div_mem, "mov %rsi, %rax\n cqo\n idivl (%rdi)");
SNIPPET(cmov_mem, "xor %eax, %eax\n cmovne (%rdi), %eax");
SNIPPET(prefetch, "prefetcht0 (%rdi)");
SNIPPET(nop_mem, ".byte 0x0f, 0x1f, 0x07");
SNIPPET(clflush_at, "clflush (%rdi)");
SNIPPET(shl_mem_0, "xor %ecx, %ecx\n shll %cl, (%rdi)");
SNIPPET(moffs, ".byte 0xa0\n .quad 0x8000200008");

#define V (WINDOW + 0x200000)
static u8 *first, *second;

/* V present, V + 4096 absent. */
static void prepare(void)
{
    map(V, (word)first | PTE_P | PTE_W | PTE_U, 1);
    map(V + 4096, 0, 1);
    for (unsigned i = 0; i < 4096; i++) first[i] = (u8)i;
    memset(second, 0xee, 4096);
}

static void second_in(void) { map(V + 4096, (word)second | PTE_P | PTE_W | PTE_U, 1); }

/* Makes the page present and goes on: the instruction must finish as if nothing had happened. */
static unsigned faults;
static void fix(struct frame *f)
{
    (void)f;
    faults++;
    second_in();
}

static void strings(void)
{
    static u8 buffer[128];
    extern const u8 rep_movsb_at[];
    prepare();
    traps_at("REP MOVSB into an absent page", PF, 2, rep_movsb_at, rep_movsb, V + 4096 - 40,
             (word)buffer);
    is(trap.cr2, V + 4096, "CR2");
    is(trap.cx, 24, "RCX is what is left");
    is(trap.di, V + 4096, "RDI");
    is(trap.si, (word)buffer + 40, "RSI");
    ok(!memcmp(first + 4096 - 40, buffer, 40), "what came before is written");
    is(trap.flags & 0x10000, 0x10000, "RF is set in the frame of an interrupted repeat");
    prepare();
    traps("REP MOVSB from an absent page", PF, 0, rep_movsb, (word)buffer, V + 4096 - 40);
    is(trap.cx, 24, "RCX is what is left");
    is(trap.si, V + 4096, "RSI");
    traps("REP MOVSQ into an absent page, an element over the border", PF, 2, rep_movsq,
          V + 4096 - 20, (word)buffer);
    is(trap.cr2, V + 4096, "CR2");
    is(trap.cx, 6, "RCX");
    is(trap.di, V + 4096 - 4, "RDI is the element's start");
    is(first[4092], 0xfc, "the divided element has written nothing");
    prepare();
    map(V + 4096, (word)second | PTE_P | PTE_W | PTE_U, 1);
    map(V, 0, 1);
    traps("REP MOVSB downwards", PF, 2, rep_movsb_down, V + 4096 + 39, (word)buffer + 63);
    is(trap.cr2, V + 4095, "CR2");
    is(trap.cx, 24, "RCX");
    is(trap.di, V + 4095, "RDI");
    prepare();
    traps("REP STOSD", PF, 2, rep_stosd, V + 4096 - 12, 0);
    is(trap.cx, 13, "RCX");
    prepare();
    traps("REP LODSB", PF, 0, rep_lodsb, 0, V + 4096 - 5);
    is(trap.cx, 59, "RCX");
    is(trap.ax & 0xff, 0xff, "AL is the last byte");
    memset(first, 0, 4096), memset(buffer, 0, sizeof buffer);
    traps("REPE CMPSB", PF, 0, rep_cmpsb, V + 4096 - 5, (word)buffer);
    is(trap.cx, 59, "RCX");
    traps("REPE SCASB", PF, 0, rep_scasb, V + 4096 - 6, 0);
    is(trap.cx, 58, "RCX");
    traps("REP OUTSB", PF, 0, rep_outsb, 0, V + 4096 - 6);
    is(trap.cx, 2, "RCX");
    traps("REP INSB", PF, 2, rep_insb, V + 4096 - 6, 0);
    is(trap.cx, 2, "RCX");
    traps("REP with RCX 0 does not touch memory", NONE, 0, rep_none, V + 4096, V + 4096);

    handlers[PF] = fix;
    prepare(), faults = 0;
    for (unsigned i = 0; i < 64; i++) buffer[i] = (u8)(i * 3);
    traps("REP MOVSB is taken up again", NONE, 0, rep_movsb, V + 4096 - 40, (word)buffer);
    is(faults, 1, "after one fault");
    ok(!memcmp(first + 4096 - 40, buffer, 40) && !memcmp(second, buffer + 40, 24),
       "and copies all");
    is(second[24], 0xee, "and no more");
    prepare(), faults = 0;
    traps("REP MOVSQ over the border is taken up again", NONE, 0, rep_movsq, V + 4096 - 20,
          (word)buffer);
    ok(!memcmp(first + 4096 - 20, buffer, 20) && !memcmp(second, buffer + 20, 44),
       "and copies all");
    prepare(), faults = 0;
    run(push_mem, V + 4096 + 8, (word)buffer);
    is(faults, 1, "PUSH is taken up again");
    is(*(u64 *)second, *(u64 *)buffer, "and stores");
    handlers[PF] = NULL;
    /* Overlap: a pattern is repeated. */
    prepare();
    run(rep_movsb, V + 101, V + 100);
    bool all = true;
    for (unsigned i = 100; i < 165; i++) all &= first[i] == 100;
    ok(all, "REP MOVSB over itself repeats the byte");
}

static void locked(void)
{
    prepare();
    memset(first, 0, 64);
    traps("CMPXCHG16B misaligned: #GP(0)", GP, 0, cx16, V + 8, 0);
    traps("CMPXCHG16B that matches", NONE, 0, cx16, V + 16, 0);
    is(trap.result, 1, "sets ZF");
    is(*(u64 *)(first + 16), 1, "stores RBX");
    is(*(u64 *)(first + 24), 2, "stores RCX");
    traps("CMPXCHG16B that does not", NONE, 0, cx16, V + 16, 7);
    is(trap.result, 0, "clears ZF");
    is(*(u64 *)(first + 16), 1, "stores nothing new");
    map(V, (word)first | PTE_P | PTE_U, 1);
    write_cr0(read_cr0() | 0x10000);
    traps("CMPXCHG16B that does not match on a read-only page: #PF(3)", PF, 3, cx16, V + 16, 7);
    traps("CMPXCHG8B that does not match on a read-only page: #PF(3)", PF, 3, cx8, V + 16, 7);
    traps("SHL by 0 of a read-only operand", PF, 3, shl_mem_0, V, 0);
    write_cr0(read_cr0() & ~0x10000ul);
    prepare();
    *(u32 *)(first + 4092) = 0x01020304;
    traps("LOCK XADD over a border, second page absent", PF, 2, xadd_at, V + 4094, 0);
    is(trap.cr2, V + 4096, "CR2");
    is(*(u32 *)(first + 4092), 0x01020304, "nothing written");
    is(trap.ax, 5, "register unchanged");
    traps("XCHG over a border, second page absent", PF, 2, xchg_at, V + 4094, 0);
    is(trap.ax, 5, "register unchanged");
    second_in();
    second[0] = second[1] = 0;
    traps("LOCK XADD over two pages", NONE, 0, xadd_at, V + 4094, 0);
    is(trap.result, 0x0102, "reads both");
    is(first[4094] | first[4095] << 8 | second[0] << 16, 0x0107, "writes both");
    first[4092] = 0xff, first[4093] = 0xff, first[4094] = 0xff, first[4095] = 0xff;
    memset(second, 0, 8);
    traps("LOCK ADD over two pages", NONE, 0, add64_at, V + 4092, 0);
    is(*(u32 *)second, 1, "carries into the second");
    is(*(u32 *)(first + 4092), 0, "from the first");
}

static void stack(void)
{
    static u64 value = 0x1122334455667788, slots[4];
    prepare();
    set_gate(PF, stubs + PF * 16, KERNEL_CS, 0x8e, 3);
    traps("PUSH m into an absent page", PF, 2, push_mem, V + 4096 + 8, (word)&value);
    is(trap.sp, V + 4096 + 8, "RSP unchanged");
    traps("PUSH m over a border", PF, 2, push_mem, V + 4096 + 4, (word)&value);
    is(first[4095], 0xff, "nothing written");
    traps("POP m into an absent page", PF, 2, pop_mem, V + 4096, (word)slots);
    is(trap.sp, (word)slots, "RSP unchanged");
    traps("CALL m with no room for the return address", PF, 2, call_mem, V + 4096 + 8, (word)slots);
    is(trap.sp, V + 4096 + 8, "RSP unchanged");
    extern const u8 enter_at_at[];
    map(V - 4096, 0, 1);
    traps_at("ENTER checks the new stack top", PF, 2, enter_at_at, enter_at, V + 512, 42);
    is(trap.bp, 42, "RBP unchanged");
    is(trap.sp, V + 512, "RSP unchanged");
    restore_gate(PF);
    slots[1] = 0xabc;
    run(pop_rsp_based, (word)slots, 0);
    is(trap.result, (word)slots + 8, "POP 8(RSP)");
    is(slots[2], slots[0], "computes its address after the increment");
    slots[0] = 0x12340;
    run(pop_rsp, (word)slots, 0);
    is(trap.result, 0x12340, "POP RSP takes the value popped");
    run(push_rsp, (word)(slots + 3), 0);
    is(trap.result, (word)(slots + 3), "PUSH RSP stores the old value");
    static u64 frames[32];
    frames[20] = 1, frames[19] = 2, frames[18] = 3;
    run(enter_levels, (word)&frames[12], (word)&frames[20]);
    is(trap.result, (word)&frames[11], "ENTER 32, 3: RBP");
    is(frames[11], (word)&frames[20], "saved RBP");
    is(frames[10], 2, "display 1");
    is(frames[9], 3, "display 2");
    is(frames[8], (word)&frames[11], "new frame pointer");
    traps("LEAVE from an absent page", PF, 0, leave_at, V + 4096, 0);
    is(trap.bp, V + 4096, "RBP unchanged");
}

static void others(void)
{
    prepare();
    traps("MOVUPS store over a border", PF, 2, movups_store, V + 4096 - 3, 0);
    is(first[4093], 0xfd, "nothing written");
    traps("FSTP m80 over a border", PF, 2, fstp80, V + 4096 - 9, 0);
    is(first[4090], 0xfa, "nothing written");
    u16 status;
    asm volatile("fnstsw %0" : "=a"(status));
    is(status >> 11 & 7, 7, "FSTP that faults has not popped");
    asm volatile("fninit");
    second_in();
    traps("FSTP m80 over two pages", NONE, 0, fstp80_twice, V + 4096 - 9, 0);
    is(first[4095] | second[0] << 8, 0x3fff, "its exponent over the border");
    prepare();
    traps("FXSAVE over a border", PF, 2, fxsave_at, V + 4096 - 16, 0);
    is(first[4092], 0xfc, "nothing written");
    prepare();
    traps("SIDT over a border", PF, 2, sidt_at, V + 4096 - 5, 0);
    is(first[4092], 0xfc, "nothing written");
    traps("BTS with a bit offset into the absent page", PF, 2, bts_at, V, 4096 * 8);
    is(trap.cr2, V + 4096, "CR2");
    traps("BTS with a negative bit offset", NONE, 0, bts_at, V + 64, (word)-512);
    is(first[0], 1, "sets the bit");
    traps("XLAT", PF, 0, xlat_at, V + 4000, 255);
    is(trap.cr2, V + 4255, "CR2");
    traps("MASKMOVDQU writes only what the mask says", NONE, 0, maskmov, V + 4092, 0);
    is(*(u32 *)(first + 4092), 0xffffffff, "four bytes");
    traps("CMOV that does not move still reads", PF, 0, cmov_mem, V + 4096, 0);
    traps("PREFETCH does not fault", NONE, 0, prefetch, V + 4096, 0);
    traps("NOP m does not access", NONE, 0, nop_mem, V + 4096, 0);
    traps("NOP m non-canonical", NONE, 0, nop_mem, 1ull << 47, 0);
    traps("CLFLUSH of an absent page: #PF", PF, 0, clflush_at, V + 4096, 0);
    *(u32 *)first = 0;
    traps("IDIV m by zero", DE, 0, div_mem, V, 7);
    traps("MOV AL, moffs64", NONE, 0, moffs, 0, 0);
    is(trap.result & 0xff, first[8], "reads a 64-bit address");
    traps("read non-canonical: #GP(0)", GP, 0, cmov_mem, 0x7fffffffffff, 0);
    traps("read at the last canonical bytes of the low half: #PF", PF, 0, cmov_mem, 0x7ffffffffffc,
          0);
    traps("read over the end of the address space wraps to 0", PF, 0, cmov_mem, (word)-2, 0);
    is(trap.cr2, (word)-2, "CR2 is the first part");
}

void guest_main(void)
{
    first = alloc_pages(1);
    alloc_pages(1);
    second = alloc_pages(1);
    strings();
    locked();
    stack();
    others();
}
