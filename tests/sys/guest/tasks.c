/* guest: bits=32 smp=1 */
/* Hardware task switching: JMP, CALL, IRET, task gates, as handlers, and what goes wrong. SDM 3 ch.
 * 7. */
#include "guest.h"

#define FREE FREE_SELECTOR      /* TSS of the second task */
#define GATE (FREE_SELECTOR + 8) /* a task gate in the GDT */
#define SPARE (FREE_SELECTOR + 16)
static struct tss second;
static u8 second_stack[8192] ALIGNED(16), zero_stack[4096] ALIGNED(16);
volatile u32 seen[16];

static void set_second(const void *entry)
{
    memset(&second, 0, 104);
    second.ip = (u32)(word)entry;
    second.sp = (u32)(word)second_stack + sizeof second_stack;
    second.sp0 = (u32)(word)zero_stack + sizeof zero_stack, second.ss0 = KERNEL_DS;
    second.flags = 2;
    second.cs = KERNEL_CS;
    second.ss = second.ds = second.es = second.fs = second.gs = KERNEL_DS;
    second.ax = 0x11111111, second.bx = 0x22222222, second.cx = 0x33333333, second.dx = 0x44444444;
    second.si = 0x55555555, second.di = 0x66666666, second.bp = 0x77777777;
    second.cr3 = (u32)read_cr3();
    second.io_map = 104;
    gdt[FREE / 8] = descriptor((u32)(word)&second, 103, 0x89);
    gdt[GATE / 8] = (u64)0x8500 << 32 | (u32)FREE << 16;
    asm volatile("clts");
}
static bool busy(u16 selector) { return gdt[selector / 8] >> 41 & 1; }

/* Back in the first task with everything in order, whatever happened. */
static void recover(void)
{
    asm volatile("pushf; andl $~0x4000, (%esp); popf; clts");
    load_tss();
}

SNIPPET(call_task, "mov $0x1234, %ecx\n lcall *(%eax)\n mov %ecx, %eax");
SNIPPET(jump_task, "push %ebp\n mov $0x1234, %ecx\n ljmp *(%eax)\n pop %ebp\n mov %ecx, %eax");
SNIPPET(int_task, "mov $0x4321, %ecx\n int $0x40\n mov %ecx, %eax");
SNIPPET(task_body, "mov %eax, seen\n mov %ebx, seen+4\n mov %ebp, seen+8\n mov %esi, seen+12\n mov %edi, seen+16\n"
                   "str %ax\n mov %ax, seen+20\n pushf\n pop seen+24\n mov %cr0, %eax\n mov %eax, seen+28\n mov $0xdead, %ecx\n iret\n"
                   "task_again: incl seen+32\n iret\n jmp task_again");
SNIPPET(task_jumps_back, "mov %ss, %eax\n mov %eax, seen\n pushf\n pop seen+24\n ljmp $0x58, $0\n 1: jmp 1b");
SNIPPET(task_error, "pop seen\n mov %esp, seen+4\n mov %cr2, %eax\n mov %eax, seen+8\n mov back_to, %eax\n mov %eax, tss+32\n iret\n jmp task_error");
u32 back_to; /* where task_error lets the first task go on */
static struct { u32 offset; u16 selector; } __attribute__((packed)) far;

static void switches(void)
{
    far.selector = FREE;
    set_second(task_body);
    traps("CALL of a TSS", NONE, 0, call_task, (word)&far, 0);
    is(trap.result, 0x1234, "registers of the first task are back");
    is(seen[0], 0x11111111, "EAX of the second");
    is(seen[1], 0x22222222, "EBX");
    is(seen[2], 0x77777777, "EBP");
    is(seen[3], 0x55555555, "ESI");
    is(seen[4], 0x66666666, "EDI");
    is(seen[5] & 0xffff, FREE, "TR in the second task");
    is(seen[6] & 0x4000, 0x4000, "NT is set by CALL");
    is(seen[7] & 8, 8, "CR0.TS is set");
    is(second.link, TSS_SELECTOR, "back link");
    ok(!busy(FREE), "the second task is not busy after IRET");
    ok(busy(TSS_SELECTOR), "the first one is");
    is(second.cx, 0xdead, "ECX saved in its TSS");
    is(second.flags & 0x4000, 0, "NT is cleared in the image IRET saves");
    is(read_flags() & 0x4000, 0, "and not set in the first task");
    recover();
    set_second(task_body);
    far.selector = GATE;
    traps("CALL of a task gate", NONE, 0, call_task, (word)&far, 0);
    is(second.cx, 0xdead, "it ran");
    seen[8] = 0;
    traps("CALL again goes on behind IRET", NONE, 0, call_task, (word)&far, 0);
    is(trap.result, 0x1234, "and comes back");
    recover();
    far.selector = FREE;
    set_second(task_jumps_back);
    traps("JMP to a TSS and JMP back", NONE, 0, jump_task, (word)&far, 0);
    is(trap.result, 0x1234, "comes back");
    is(seen[6] & 0x4000, 0, "NT is not set by JMP");
    ok(!busy(FREE), "the task left by JMP is not busy");
    recover();
    set_second(task_body);
    set_gate(0x40, 0, FREE, 0x85, 0);
    traps("INT through a task gate", NONE, 0, int_task, 0, 0);
    is(trap.result, 0x4321, "comes back");
    is(second.link, TSS_SELECTOR, "back link");
    recover();
    set_second(task_body);
    set_gate(0x40, 0, FREE, 0xe5, 0);
    traps_user("INT through a task gate at CPL 3", NONE, 0, int_task, 0, 0);
    is(trap.result, 0x4321, "comes back to CPL 3");
    recover();
    restore_gate(0x40);
}

SNIPPET(ud_insn, "ud2\n mov $0x77, %eax");
SNIPPET(np_insn, "mov $0x78, %eax\n mov %eax, %ds\n mov $0x79, %eax");
SNIPPET(task_ud, "incl seen+4\n mov tss+32, %eax\n addl $2, tss+32\n iret\n jmp task_ud");
static void as_handlers(void)
{
    set_second(task_ud);
    set_gate(UD, 0, FREE, 0x85, 0);
    seen[1] = 0;
    traps("#UD by a task gate", NONE, 0, ud_insn, 0, 0);
    is(seen[1], 1, "the handler task ran");
    is(trap.result, 0x77, "and went on behind UD2");
    traps("and again", NONE, 0, ud_insn, 0, 0);
    is(seen[1], 2, "the same task");
    restore_gate(UD);
    recover();
    /* An error code is pushed on the new task's stack. */
    set_second(task_error);
    set_gate(NP, 0, FREE, 0x85, 0);
    gdt[SPARE / 8] = descriptor(0, 0xfffff, (D_DATA | D_DB | D_G) & ~0x80u);
    back_to = (u32)(word)np_insn + 7;
    traps("#NP by a task gate", NONE, 0, np_insn, 0, 0);
    is(seen[0], SPARE, "error code on the task's stack");
    is(seen[1], (u32)(word)second_stack + sizeof second_stack, "and nothing else");
    restore_gate(NP);
    recover();
}

/* The new task may have no stack to rely on, so its faults are handled by a third task. */
#define THIRD (FREE_SELECTOR + 24)
static struct tss third;
SNIPPET(fail_ts, "pop seen\n movl $10, seen+4\n jmp run_recover");
SNIPPET(fail_np, "pop seen\n movl $11, seen+4\n jmp run_recover");
static void set_third(const void *entry)
{
    memcpy(&third, &second, 104);
    third.ip = (u32)(word)entry, third.sp = (u32)(word)zero_stack + sizeof zero_stack;
    third.cs = KERNEL_CS, third.ss = third.ds = KERNEL_DS, third.ldt = 0;
    gdt[THIRD / 8] = descriptor((u32)(word)&third, 103, 0x89);
}

SNIPPET(nt_iret, "pushf\n orl $0x4000, (%esp)\n popf\n iret");
static void failures(void)
{
    far.selector = FREE;
    set_second(task_body);
    gdt[FREE / 8] = descriptor((u32)(word)&second, 102, 0x89);
    traps("TSS limit below 103: #TS(TSS)", TS, FREE, call_task, (word)&far, 0);
    recover();
    gdt[FREE / 8] = descriptor((u32)(word)&second, 103, 0x09);
    traps("absent TSS: #NP(TSS)", NP, FREE, call_task, (word)&far, 0);
    recover();
    gdt[FREE / 8] = descriptor((u32)(word)&second, 103, 0x8b);
    traps("CALL of a busy TSS: #GP(TSS)", GP, FREE, call_task, (word)&far, 0);
    recover();
    set_second(task_body);
    traps_user("TSS of DPL 0 at CPL 3: #GP(TSS)", GP, FREE, call_task, (word)&far, 0);
    recover();
    far.selector = GATE;
    traps_user("task gate of DPL 0 at CPL 3: #GP(gate)", GP, GATE, call_task, (word)&far, 0);
    recover();
    gdt[GATE / 8] = (u64)0x0500 << 32 | (u32)FREE << 16;
    traps("absent task gate: #NP(gate)", NP, GATE, call_task, (word)&far, 0);
    recover();
    gdt[GATE / 8] = (u64)0x8500 << 32 | (u32)KERNEL_DS << 16;
    traps("task gate to a data segment: #GP(selector)", GP, KERNEL_DS, call_task, (word)&far, 0);
    recover();
    /* Faults in the new task's context: CS of the frame and TR are the new task's. */
    far.selector = FREE;
    static const struct { const char *name; u16 offset, selector; u8 vector; u16 error; } list[] = {
        {"null CS in the new TSS: #TS(0)", offsetof(struct tss, cs), 0, TS, 0},
        {"data segment as CS: #TS(CS)", offsetof(struct tss, cs), KERNEL_DS, TS, KERNEL_DS},
        {"null SS: #TS(0)", offsetof(struct tss, ss), 0, TS, 0},
        {"code as SS: #TS(SS)", offsetof(struct tss, ss), KERNEL_CS, TS, KERNEL_CS},
        {"absent DS: #NP(DS)", offsetof(struct tss, ds), SPARE, NP, SPARE},
        {"DS beyond the GDT: #TS(DS)", offsetof(struct tss, ds), GDT_ENTRIES * 8, TS,
         GDT_ENTRIES * 8},
        {"LDT that is none: #TS(LDT)", offsetof(struct tss, ldt), KERNEL_DS, TS, KERNEL_DS}};
    gdt[SPARE / 8] = descriptor(0, 0xfffff, (D_DATA | D_DB | D_G) & ~0x80u);
    for (unsigned i = 0; i < ARRAY_SIZE(list); i++) {
        set_second(task_body);
        *(u16 *)((u8 *)&second + list[i].offset) = list[i].selector;
        set_third(list[i].vector == TS ? fail_ts : fail_np);
        set_gate(list[i].vector, 0, THIRD, 0x85, 0);
        seen[0] = seen[1] = 0xffffffff;
        run(call_task, (word)&far, 0);
        if (!ok(seen[1] == list[i].vector && seen[0] == list[i].error, "%s", list[i].name))
            note("got vector %d error %x", (int)seen[1], seen[0]);
        is(third.link, FREE, "its handler was called by the new task");
        restore_gate(list[i].vector);
        recover();
    }
    /* IRET with NT and a bad link. */
    tss.link = KERNEL_DS;
    traps("IRET with NT and a link that is no TSS: #TS(link)", TS, KERNEL_DS, nt_iret, 0, 0);
    recover();
    set_second(task_body);
    tss.link = FREE;
    traps("IRET with NT to a task that is not busy: #TS(link)", TS, FREE, nt_iret, 0, 0);
    recover();
}
/* T bit: #DB on the switch, DR6.BT. */
static void debug_trap(void)
{
    far.selector = FREE;
    set_second(task_body);
    second.t = 1;
    write_dr6(0);
    run(call_task, (word)&far, 0);
    is((u64)trap.vector, DB, "T bit: #DB");
    is(trap.dr6 & 0xe00f, 0x8000, "DR6.BT");
    is(trap.ip, (word)task_body, "before the first instruction");
    recover();
}

/* A task at CPL 3, and one in virtual-8086 mode. */
SNIPPET(user_body, "mov %cs, %eax\n mov %eax, seen\n int $0x81\n jmp user_body");
static void other_modes(void)
{
    far.selector = FREE;
    set_second(user_body);
    second.cs = USER_CS, second.ss = second.ds = second.es = USER_DS, second.fs = second.gs = 0;
    second.sp0 = tss.sp0 - 4096;
    run(call_task, (word)&far, 0);
    is((u64)trap.vector, GP, "a task at CPL 3 (its INT 81h is refused)");
    is(seen[0], USER_CS, "ran there");
    recover();
    u8 *low = (u8 *)0x20000;
    memcpy(low, "\xb8\x34\x12\xf4", 4); /* mov $0x1234, %ax; hlt */
    set_second(NULL);
    second.ip = 0, second.cs = 0x2000, second.flags = 0x20002, second.ss = 0x3000,
    second.sp = 0x1000;
    second.ds = second.es = 0x4000;
    second.sp0 = tss.sp0 - 4096;
    run(call_task, (word)&far, 0);
    is((u64)trap.vector, GP, "a task in virtual-8086 mode (HLT there)");
    is(trap.ax & 0xffff, 0x1234, "ran there");
    is(trap.flags & 0x20000, 0x20000, "VM in the frame");
    is(trap.cs, 0x2000, "CS");
    recover();
}

/* CR3 is loaded with the task. */
SNIPPET(paged_body, "mov (%ebx), %eax\n iret");
static void address_space(void)
{
    u32 *a = alloc_pages(1), *b = alloc_pages(1), *table = alloc_pages(1);
    for (u32 i = 0; i < 1024; i++) a[i] = b[i] = i << 22 | 0xe7;
    u32 at = 0x40000000;
    b[at >> 22] = (u32)(word)table | 0x27;
    table[0] = (u32)(word)&seen[15] & ~0xfffu;
    table[0] |= 0x67;
    write_cr4(read_cr4() | 0x10);
    write_cr3((word)a);
    write_cr0(read_cr0() | 1u << 31);
    far.selector = FREE;
    set_second(task_jumps_back);
    second.cr3 = (u32)(word)b;
    second.ip = (u32)(word)paged_body;
    seen[15] = 0xbeef;
    second.bx = at + ((u32)(word)&seen[15] & 0xfff);
    tss.cr3 = (u32)(word)a;
    traps("a task with its own CR3", NONE, 0, call_task, (word)&far, 0);
    is(second.ax, 0xbeef, "reads by its page tables");
    is(read_cr3(), (word)a, "CR3 of the first task is back");
    write_cr0(read_cr0() & 0x7fffffff);
    recover();
}

void guest_main(void)
{
    switches();
    as_handlers();
    failures();
    debug_trap();
    other_modes();
    address_space();
}
