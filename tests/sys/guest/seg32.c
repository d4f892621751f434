/* guest: bits=32 smp=1 */
/* Protection in 32-bit mode: limits, rights, gates with parameters, far transfers, exceptions. SDM
 * 3 ch. 5. */
#include "guest.h"

#define FREE FREE_SELECTOR
static u64 *slot = &gdt[FREE / 8];
static u8 buffer[8192] ALIGNED(4096);

/* EAX: offset in ES = FREE. */
#define WITH_ES "push %es\n pushl $0x68\n pop %es\n"
#define DONE_ES "\n pop %es"
SNIPPET(es_read1, WITH_ES "mov %es:(%eax), %cl" DONE_ES);
SNIPPET(es_read4, WITH_ES "mov %es:(%eax), %ecx" DONE_ES);
SNIPPET(es_write1, WITH_ES "mov %cl, %es:(%eax)" DONE_ES);
SNIPPET(es_write4, WITH_ES "movl $0x12345678, %es:(%eax)" DONE_ES);
SNIPPET(es_read8, WITH_ES "fninit\n fldl %es:(%eax)" DONE_ES "\n fninit");
SNIPPET(es_null, "push %es\n xor %ecx, %ecx\n mov %ecx, %es\n mov %es:(%eax), %ecx\n pop %es");
SNIPPET(cs_write, "mov %ecx, %cs:(%eax)");
SNIPPET(ss_push, "mov %esp, %ecx\n mov $0x68, %edx\n mov %edx, %ss\n mov %eax, %esp\n" AT(ss_push) "push %ebx\n mov $0x10, %edx\n mov %edx, %ss\n mov %ecx, %esp");
SNIPPET(ss_pusha, "mov %esp, %ecx\n mov $0x68, %edx\n mov %edx, %ss\n mov %eax, %esp\n pusha\n mov %esp, %ebx\n mov $0x10, %edx\n mov %edx, %ss\n mov %ecx, %esp\n mov %ebx, %eax");
SNIPPET(load_ds, "mov %eax, %ds");
SNIPPET(load_ss, "mov %eax, %ss");
SNIPPET(rep_es, WITH_ES "mov %eax, %edi\n mov $16, %ecx\n xor %eax, %eax\n rep stosb" DONE_ES);

static void limits(void)
{
    u32 base = (u32)(word)buffer;
    buffer[0x7ff] = 0x5a;
    *slot = descriptor(base, 0x7ff, D_DATA | D_DB);
    traps("last byte of a segment", NONE, 0, es_read1, 0x7ff, 0);
    traps("first byte behind it: #GP(0)", GP, 0, es_read1, 0x800, 0);
    traps("last doubleword", NONE, 0, es_read4, 0x7fc, 0);
    traps("a doubleword half inside: #GP(0)", GP, 0, es_read4, 0x7fd, 0);
    traps("at the end of 4 GiB: #GP(0)", GP, 0, es_read4, 0xfffffffe, 0);
    traps("last quadword", NONE, 0, es_read8, 0x7f8, 0);
    traps("a quadword with 1 byte outside: #GP(0)", GP, 0, es_read8, 0x7f9, 0);
    buffer[0x7fd] = 1;
    traps("a write half inside: #GP(0)", GP, 0, es_write4, 0x7fd, 0);
    is(buffer[0x7fd], 1, "has written nothing");
    traps("REP STOSB over the limit: #GP(0)", GP, 0, rep_es, 0x7f8, 0);
    is(trap.cx, 8, "stops at the limit");
    is(trap.di, 0x800, "EDI");
    *slot = descriptor(base, 1, D_DATA | D_DB | D_G);
    traps("limit in pages: last byte", NONE, 0, es_read1, 0x1fff, 0);
    traps("limit in pages: behind it", GP, 0, es_read1, 0x2000, 0);
    *slot = descriptor(base, 0x7ff, D_DOWN | D_DB);
    traps("expand-down: at the limit: #GP(0)", GP, 0, es_read1, 0x7ff, 0);
    traps("expand-down: above it", NONE, 0, es_read1, 0x800, 0);
    traps("expand-down: a doubleword from the limit: #GP(0)", GP, 0, es_read4, 0x7ff, 0);
    traps("expand-down: a doubleword below 4 GiB, over the end: #GP(0)", GP, 0, es_read4,
          0xfffffffd, 0);
    *slot = descriptor(base, 0x7ff, D_DOWN);
    traps("expand-down with B clear: up to FFFFh", NONE, 0, es_read1, 0x1000, 0);
    traps("expand-down with B clear: not 10000h", GP, 0, es_read1, 0x10000, 0);
    traps("expand-down with B clear: over FFFFh", GP, 0, es_read4, 0xfffe, 0);
    *slot = descriptor(base, 0xfffff, D_DATA_RO | D_DB | D_G);
    traps("read-only data", NONE, 0, es_read4, 0, 0);
    traps("write to read-only data: #GP(0)", GP, 0, es_write4, 0, 0);
    traps("write to a code segment: #GP(0)", GP, 0, cs_write, base, 0);
    *slot = descriptor(base, 0xfffff, D_CODE | D_DB | D_G);
    traps("read from readable code", NONE, 0, es_read4, 0, 0);
    traps("write to readable code: #GP(0)", GP, 0, es_write1, 0, 0);
    traps("through a null selector: #GP(0)", GP, 0, es_null, base, 0);
    *slot = descriptor(0xfffff000, 0xfffff, D_DATA | D_DB | D_G);
    traps("linear addresses wrap at 4 GiB", NONE, 0, es_read4, base + 0x1000, 0);
}

static void stacks(void)
{
    u32 base = (u32)(word)buffer;
    *slot = descriptor(base, 0xfff, D_DATA | D_DB);
    traps("push inside a stack segment", NONE, 0, ss_push, 0x1000, 0);
    traps("null SS: #GP(0)", GP, 0, load_ss, 0, 0);
    traps("SS with RPL not CPL: #GP", GP, FREE, load_ss, FREE | 1, 0);
    traps("code as SS: #GP", GP, KERNEL_CS, load_ss, KERNEL_CS, 0);
    *slot = descriptor(base, 0xfff, (D_DATA | D_DB) & ~0x80u);
    traps("absent SS: #SS(selector)", SS, FREE, load_ss, FREE, 0);
    traps("absent DS: #NP(selector)", NP, FREE, load_ds, FREE, 0);
    /* A 16-bit stack wraps at 64 KiB and leaves the upper half of ESP. */
    u32 top = (u32)(word)alloc_pages(32) & ~0xffffu;
    *slot = descriptor(top + 0x10000, 0xffff, D_DATA);
    run(ss_pusha, 0xabcd0010, 0);
    is(trap.result, 0xabcdfff0, "16-bit stack: PUSHA wraps SP, keeps the rest of ESP");
}

/* At CPL 3 the handler has a good stack. */
SNIPPET(user_ss_push, "mov %esp, %ecx\n mov $0x6b, %edx\n mov %edx, %ss\n mov %eax, %esp\n" AT(user_ss_push) "push %ebx\n nop");
SNIPPET(user_ss_call, "mov $0x6b, %edx\n mov %edx, %ss\n mov %eax, %esp\n call nothing_here\n nothing_here: nop");
SNIPPET(user_enter, "mov $0x6b, %edx\n mov %edx, %ss\n mov %eax, %esp\n" AT(user_enter) "enter $0x100, $0");
SNIPPET(user_ebp, "mov $0x6b, %edx\n mov %edx, %ss\n mov %eax, %ebp\n" AT(user_ebp) "mov (%ebp), %eax");
static void user_stacks(void)
{
    extern const u8 user_ss_push_at[], user_enter_at[], user_ebp_at[];
    *slot = descriptor((u32)(word)buffer, 0xfff, D_DATA | D_DB | D_DPL3);
    traps_user("push beyond the limit: #SS(0)", SS, 0, user_ss_push, 0x1002, 0);
    is(trap.ip, (word)user_ss_push_at, "at the instruction");
    is(trap.sp, 0x1002, "ESP unchanged");
    traps_user("push below 0: #SS(0)", SS, 0, user_ss_push, 2, 0);
    traps_user("CALL with no room: #SS(0)", SS, 0, user_ss_call, 2, 0);
    is(trap.sp, 2, "ESP unchanged");
    traps_user("ENTER with no room: #SS(0)", SS, 0, user_enter, 0x80, 0);
    is(trap.ip, (word)user_enter_at, "at the instruction");
    is(trap.sp, 0x80, "ESP unchanged");
    traps_user("EBP beyond the limit: #SS(0)", SS, 0, user_ebp, 0x1000, 0);
    is(trap.ip, (word)user_ebp_at, "at the instruction");
}

/* --- gates and far transfers --- */
static struct { u32 offset; u16 selector; } __attribute__((packed)) far = {0, FREE};
SNIPPET(far_call, "lcall *(%eax)\n mov %cs, %eax");
SNIPPET(far_call_params, "pushl $0x11\n pushl $0x22\n pushl $0x33\n lcall *(%eax)\n mov %cs, %eax");
SNIPPET(far_jump, "ljmp *(%eax)");
SNIPPET(gate_stop, "mov %cs, %eax\n mov %esp, %ecx\n mov %ss, %edx\n int $0x81");
SNIPPET(gate_return, "lret $12");
SNIPPET(gate_return0, "lret");
SNIPPET(end_here, "mov %cs, %eax\n mov %esp, %ecx\n mov %ds, %edx\n int $0x80");
SNIPPET(lret_frame, "pushl 12(%eax)\n pushl 8(%eax)\n pushl 4(%eax)\n pushl (%eax)\n lret");
SNIPPET(iret_frame, "pushl 16(%eax)\n pushl 12(%eax)\n pushl 8(%eax)\n pushl 4(%eax)\n pushl (%eax)\n iret");

static void gate(const void *to, u16 selector, u8 type, u8 params)
{
    u32 at = (u32)(word)to;
    *slot =
        (at & 0xffff) | (u32)selector << 16 | (u64)(params | type << 8 | (at & 0xffff0000)) << 32;
}

static void gates(void)
{
    word at = (word)&far;
    far.selector = FREE;
    gate(gate_return0, KERNEL_CS, 0x8c, 3);
    traps("call gate at the same level copies nothing", NONE, 0, far_call, at, 0);
    gate(gate_stop, KERNEL_CS, 0xec, 3);
    run_user(far_call_params, at, 0);
    is((u64)trap.vector, 0x81, "call gate to CPL 0");
    u32 *sp = (u32 *)(word)trap.cx;
    is((word)sp, tss.sp0 - 28, "EIP, CS, 3 parameters, ESP and SS on the new stack");
    is(sp[1], USER_CS, "CS");
    is(sp[2], 0x33, "last parameter");
    is(sp[4], 0x11, "first parameter");
    is(sp[6], USER_DS, "SS");
    is(trap.dx & 0xffff, KERNEL_DS, "SS0");
    gate(gate_return, KERNEL_CS, 0xec, 3);
    traps_user("RET n from there", NONE, 0, far_call_params, at, 0);
    is(trap.result, USER_CS, "comes back to CPL 3");
    gate(gate_return0, KERNEL_CS, 0x8c, 0);
    traps_user("gate of DPL 0 at CPL 3: #GP(gate)", GP, FREE, far_call, at, 0);
    gate(gate_return0, KERNEL_CS, 0x6c, 0);
    traps_user("absent gate: #NP(gate)", NP, FREE, far_call, at, 0);
    gate(gate_return0, KERNEL_DS, 0xec, 0);
    traps_user("gate to data: #GP(selector)", GP, KERNEL_DS, far_call, at, 0);
    gate(gate_return0, 0, 0xec, 0);
    traps_user("gate with a null selector: #GP(0)", GP, 0, far_call, at, 0);
    gate(gate_return0, GDT_ENTRIES * 8, 0xec, 0);
    traps_user("gate beyond the GDT", GP, GDT_ENTRIES * 8, far_call, at, 0);
    gate(gate_stop, KERNEL_CS, 0xec, 0);
    traps_user("JMP through a gate to a lower level: #GP", GP, KERNEL_CS, far_jump, at, 0);
    *slot = descriptor(0, 0xfff, D_CODE | D_DB);
    far.offset = 0x2000;
    traps("far JMP beyond the limit of the code segment: #GP(0)", GP, 0, far_jump, at, 0);
    far.offset = (u32)(word)end_here;
    *slot = descriptor(0, 0xfffff, D_CONFORMING | D_DB | D_G);
    traps_user("far JMP to conforming code at CPL 3", NONE, 0, far_jump, at, 0);
    is(trap.ax, FREE | 3, "CPL stays 3");
    *slot = descriptor(0, 0xfffff, D_CODE | D_DB | D_G | D_DPL3);
    traps("far JMP to DPL 3 at CPL 0: #GP(selector)", GP, FREE, far_jump, at, 0);
    *slot = descriptor(0, 0xfffff, D_CODE | D_DB | D_G);
    traps_user("far JMP to DPL 0 at CPL 3: #GP(selector)", GP, FREE, far_jump, at, 0);
    *slot = descriptor(0, 0xfffff, (D_CODE | D_DB | D_G) & ~0x80u);
    traps("far JMP to absent code: #NP(selector)", NP, FREE, far_jump, at, 0);
    far.selector = 0;
    traps("far JMP to a null selector: #GP(0)", GP, 0, far_jump, at, 0);
    far.selector = KERNEL_DS;
    traps("far JMP to data: #GP(selector)", GP, KERNEL_DS, far_jump, at, 0);
}

static void returns(void)
{
    static u32 frame[5];
    u32 sp = (u32)(word)alloc_pages(1) + 4096;
    word at = (word)frame;
    frame[0] = (u32)(word)end_here, frame[1] = USER_CS, frame[2] = sp, frame[3] = USER_DS;
    traps("RETF to CPL 3", NONE, 0, lret_frame, at, 0);
    is(trap.cx, sp, "ESP");
    is(trap.dx & 0xffff, 0, "DS of DPL 0 is nulled");
    frame[3] = KERNEL_DS;
    traps("RETF to CPL 3 with SS of DPL 0: #GP(SS)", GP, KERNEL_DS, lret_frame, at, 0);
    frame[3] = 0;
    traps("RETF to CPL 3 with a null SS: #GP(0)", GP, 0, lret_frame, at, 0);
    frame[2] = 2, frame[3] = sp, frame[4] = USER_DS;
    traps("IRET to CPL 3", NONE, 0, iret_frame, at, 0);
    is(trap.ax, USER_CS, "CS");
    frame[1] = KERNEL_CS | 3;
    traps("IRET to RPL 3 with DPL 0: #GP(CS)", GP, KERNEL_CS, iret_frame, at, 0);
    frame[1] = 0;
    traps("IRET to a null CS: #GP(0)", GP, 0, iret_frame, at, 0);
    frame[1] = USER_CS, frame[4] = 0;
    traps("IRET to CPL 3 with a null SS: #GP(0)", GP, 0, iret_frame, at, 0);
}

SNIPPET(bound_in, "mov $5, %ecx\n bound %ecx, (%eax)");
SNIPPET(bound_low, "mov $-5, %ecx\n" AT(bound_low) "bound %ecx, (%eax)");
SNIPPET(bound_high, "mov $11, %ecx\n bound %ecx, (%eax)");
SNIPPET(into_set, "mov $0x7fffffff, %eax\n inc %eax\n" AT(into_set) "into\n nop");
SNIPPET(into_clear, "xor %eax, %eax\n into\n nop");
SNIPPET(aam0, ".byte 0xd4, 0");
SNIPPET(salc, "stc\n .byte 0xd6\n movzbl %al, %eax");
SNIPPET(arpl_insn, "mov $0x0010, %eax\n mov $3, %ecx\n arpl %cx, %ax\n setz %cl\n movzwl %ax, %eax");
SNIPPET(int3_insn, AT(int3_insn) "int3\n nop");
SNIPPET(ud2_insn, "ud2");
SNIPPET(les_insn, "push %es\n les (%eax), %ecx\n mov %ecx, %eax\n pop %es");
SNIPPET(lds_bad, "lds (%eax), %ecx");
static void exceptions(void)
{
    static i32 bounds[2] = {-4, 10};
    extern const u8 bound_low_at[], into_set_at[], int3_insn_at[];
    word at = (word)bounds;
    traps("BOUND inside", NONE, 0, bound_in, at, 0);
    traps_at("BOUND below: #BR", BR, 0, bound_low_at, bound_low, at, 0);
    traps("BOUND above: #BR", BR, 0, bound_high, at, 0);
    traps_at("INTO with OF: #OF behind it", OF, 0, into_set_at + 1, into_set, 0, 0);
    traps("INTO without OF", NONE, 0, into_clear, 0, 0);
    traps("AAM 0: #DE", DE, 0, aam0, 0, 0);
    run(salc, 0, 0);
    is(trap.result, 0xff, "SALC");
    run(arpl_insn, 0, 0);
    is(trap.result, 0x13, "ARPL");
    traps_at("INT3", BP, 0, int3_insn_at + 1, int3_insn, 0, 0);
    set_gate(UD, stubs + UD * 16, KERNEL_CS, 0x0e, 0);
    traps("absent gate: #NP with EXT", NP, UD * 8 + 3, ud2_insn, 0, 0);
    restore_gate(UD);
    set_gate(BP, stubs + BP * 16, KERNEL_CS, 0x8e, 0);
    traps_user("INT3 with a gate of DPL 0 at CPL 3: #GP", GP, BP * 8 + 2, int3_insn, 0, 0);
    restore_gate(BP);
    static struct { u32 offset; u16 selector; } __attribute__((packed)) pointer = {
        0x1234, KERNEL_DS};
    run(les_insn, (word)&pointer, 0);
    is(trap.result, 0x1234, "LES");
    pointer.selector = GDT_ENTRIES * 8;
    traps("LDS of a bad selector: #GP(selector)", GP, GDT_ENTRIES * 8, lds_bad, (word)&pointer, 0);
}

/* 16-bit code: EIP is cut, the frame of a 16-bit gate. */
SNIPPET(code16, "mov %eax, %ebx\n ljmp $0x68, $1f - code16\n .code16\n 1: mov $0x1234, %ax\n pushl $0x08\n pushl %ebx\n lretl\n .code32");
static void sixteen(void)
{
    *slot = descriptor((u32)(word)code16, 0xffff, D_CODE);
    traps("16-bit code segment", NONE, 0, code16, (word)end_here, 0);
    is(trap.ax & 0xffff, KERNEL_CS, "and back");
}

void guest_main(void)
{
    limits();
    stacks();
    user_stacks();
    gates();
    returns();
    exceptions();
    sixteen();
}
