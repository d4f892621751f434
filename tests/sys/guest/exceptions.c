/* guest: bits=64 smp=1 */
/* Exceptions, interrupts and IRET in long mode. SDM vol. 3 chapters 6 (interrupts) and 17 (#DB). */
#include "guest.h"

SNIPPET(nothing, "nop");
SNIPPET(divide, "xor %eax, %eax\n xor %edx, %edx\n" AT(divide) "div %eax");
SNIPPET(divide_overflow, "mov $1, %edx\n mov $1, %ecx\n div %ecx");
SNIPPET(idiv_least, "mov $0x80000000, %eax\n cltd\n mov $-1, %ecx\n idiv %ecx");
SNIPPET(breakpoint, AT(breakpoint) "int3\n nop");
SNIPPET(breakpoint2, AT(breakpoint2) ".byte 0xcd, 3\n nop");
SNIPPET(icebp, AT(icebp) ".byte 0xf1\n nop");
SNIPPET(undefined, AT(undefined) "ud2");
SNIPPET(undefined1, ".byte 0x0f, 0xb9, 0xc0");
SNIPPET(undefined0, ".byte 0x0f, 0xff, 0xc0");
SNIPPET(lock_nop, ".byte 0xf0, 0x90");
SNIPPET(lock_add_reg, ".byte 0xf0, 0x01, 0xc0");
SNIPPET(lock_cmp, ".byte 0xf0, 0x39, 0x07");
SNIPPET(too_long, ".byte 0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66, 0x90");
SNIPPET(just_fits, ".byte 0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66, 0x90");
SNIPPET(push_es, ".byte 0x06");
SNIPPET(into64, ".byte 0xce");
SNIPPET(daa64, ".byte 0x27");
SNIPPET(pusha64, ".byte 0x60");
SNIPPET(far_direct, ".byte 0x9a, 0, 0, 0, 0, 8, 0");
SNIPPET(salc64, ".byte 0xd6");
SNIPPET(aam0, ".byte 0xd4, 0x00");
SNIPPET(mov_cs, "mov $0x18, %eax\n .byte 0x8e, 0xc8");
SNIPPET(int20, "int $0x20");
SNIPPET(int21, AT(int21) "int $0x21\n nop");
SNIPPET(int90, "int $0x90");
SNIPPET(hlt_insn, "hlt");
SNIPPET(cli_insn, "cli");
SNIPPET(sti_insn, "sti");
SNIPPET(in_insn, "mov $0x80, %edx\n in %dx, %al");
SNIPPET(out_imm, "out %al, $0x80");
SNIPPET(in_edge, "mov $0x87, %edx\n in %dx, %ax");
SNIPPET(clts_insn, "clts");
SNIPPET(mov_cr0, "mov %cr0, %rax");
SNIPPET(mov_dr0, "mov %dr0, %rax");
SNIPPET(rdmsr_insn, "mov $0x1b, %ecx\n rdmsr");
SNIPPET(wbinvd_insn, "wbinvd");
SNIPPET(invlpg_insn, "invlpg (%rdi)");
SNIPPET(lgdt_insn, "lgdt (%rdi)");
SNIPPET(lmsw_insn, "mov $1, %eax\n lmsw %ax");
SNIPPET(ltr_insn, "mov $0x58, %eax\n ltr %ax");
SNIPPET(swapgs_insn, "swapgs");
SNIPPET(sgdt_insn, "sub $32, %rsp\n sgdt (%rsp)\n add $32, %rsp");
SNIPPET(str_insn, "str %eax");
SNIPPET(smsw_insn, "smsw %eax");
SNIPPET(rdtsc_insn, "rdtsc");
SNIPPET(rdpmc_insn, "mov $0, %ecx\n rdpmc");
SNIPPET(sysret_insn, "sysretq");
SNIPPET(popf_all, "push %rdi\n popfq\n pushfq\n pop %rax");
SNIPPET(load_unaligned, "mov (%rdi), %eax");
SNIPPET(load_byte, "mov (%rdi), %al");
SNIPPET(movaps_load, "movaps (%rdi), %xmm0");
SNIPPET(fnop_insn, AT(fnop_insn) "fnop");
SNIPPET(fwait_insn, "fwait");
SNIPPET(sse_insn, "xorps %xmm0, %xmm0");
SNIPPET(mmx_insn, "pxor %mm0, %mm0\n emms");
SNIPPET(ldmxcsr_insn, "push %rdi\n ldmxcsr (%rsp)\n pop %rdi");
SNIPPET(sse_divide, "push %rdi\n ldmxcsr (%rsp)\n pop %rdi\n pxor %xmm0, %xmm0\n mov $1, %eax\n"
                    "cvtsi2ss %eax, %xmm1\n" AT(sse_divide) "divss %xmm0, %xmm1");
SNIPPET(x87_divide, "fninit\n push $0x33b\n fldcw (%rsp)\n pop %rax\n fld1\n fldz\n fdivrp\n nop\n nop\n"
                    AT(x87_divide) "fwait");
SNIPPET(x87_quiet, "fninit\n push $0x33b\n fldcw (%rsp)\n pop %rax\n fld1\n fldz\n fdivrp\n"
                   "fnstsw %ax\n fnclex\n fninit");

static void simple(void)
{
    traps("a snippet that does nothing returns", NONE, 0, nothing, 0, 0);
    traps_user("and at CPL 3", NONE, 0, nothing, 0, 0);
    extern const u8 divide_at[], breakpoint_at[], breakpoint2_at[], icebp_at[], undefined_at[],
        int21_at[];
    traps_at("DIV by zero: #DE at the instruction", DE, 0, divide_at, divide, 0, 0);
    traps("DIV overflow: #DE", DE, 0, divide_overflow, 0, 0);
    traps("IDIV of the least number by -1: #DE", DE, 0, idiv_least, 0, 0);
    traps_at("INT3: #BP behind the instruction", BP, 0, breakpoint_at + 1, breakpoint, 0, 0);
    traps_at("INT 3: #BP behind the instruction", BP, 0, breakpoint2_at + 2, breakpoint2, 0, 0);
    traps_user("INT3 at CPL 3", BP, 0, breakpoint, 0, 0);
    traps_user("ICEBP at CPL 3 needs no DPL", DB, 0, icebp, 0, 0);
    is(trap.ip, (word)icebp_at + 1, "ICEBP: #DB behind the instruction");
    traps_at("UD2: #UD at the instruction", UD, 0, undefined_at, undefined, 0, 0);
    traps("UD1: #UD", UD, 0, undefined1, 0, 0);
    traps("UD0: #UD", UD, 0, undefined0, 0, 0);
    traps("LOCK NOP: #UD", UD, 0, lock_nop, 0, 0);
    traps("LOCK ADD to a register: #UD", UD, 0, lock_add_reg, 0, 0);
    traps("LOCK CMP: #UD", UD, 0, lock_cmp, (word)stubs, 0);
    traps("16 bytes of instruction: #GP", GP, 0, too_long, 0, 0);
    traps("15 bytes of instruction are fine", NONE, 0, just_fits, 0, 0);
    traps("PUSH ES in 64-bit mode: #UD", UD, 0, push_es, 0, 0);
    traps("INTO in 64-bit mode: #UD", UD, 0, into64, 0, 0);
    traps("DAA in 64-bit mode: #UD", UD, 0, daa64, 0, 0);
    traps("PUSHA in 64-bit mode: #UD", UD, 0, pusha64, 0, 0);
    traps("CALL far direct in 64-bit mode: #UD", UD, 0, far_direct, 0, 0);
    traps("SALC in 64-bit mode: #UD", UD, 0, salc64, 0, 0);
    traps("AAM in 64-bit mode: #UD", UD, 0, aam0, 0, 0);
    traps("MOV CS: #UD", UD, 0, mov_cs, 0, 0);
    traps_at("INT n comes behind the instruction", 0x21, 0, int21_at + 2, int21, 0, 0);
    is(trap.cs, KERNEL_CS, "CS of the frame");
    is(trap.ss, KERNEL_DS, "SS is pushed without a level change too");
}

static void gates(void)
{
    traps_user("INT n through a gate of DPL 0: #GP(n*8+2)", GP, 0x20 * 8 + 2, int20, 0, 0);
    set_gate(0x20, stubs + 0x20 * 16, KERNEL_CS, 0xee, 0);
    traps_user("INT n through a gate of DPL 3", 0x20, 0, int20, 0, 0);
    is(trap.cs, USER_CS, "CS of CPL 3 in the frame");
    is(trap.ss, USER_DS, "SS of CPL 3 in the frame");
    set_gate(0x20, stubs + 0x20 * 16, KERNEL_CS, 0x6e, 0);
    traps("absent gate: #NP(n*8+2)", NP, 0x20 * 8 + 2, int20, 0, 0);
    set_gate(0x20, stubs + 0x20 * 16, KERNEL_CS, 0x85, 0);
    traps("task gate in long mode: #GP", GP, 0x20 * 8 + 2, int20, 0, 0);
    set_gate(0x20, stubs + 0x20 * 16, KERNEL_CS, 0x86, 0);
    traps("16-bit gate in long mode: #GP", GP, 0x20 * 8 + 2, int20, 0, 0);
    set_gate(0x20, stubs + 0x20 * 16, KERNEL_CS32, 0x8e, 0);
    traps("gate to a 32-bit code segment: #GP(selector)", GP, KERNEL_CS32, int20, 0, 0);
    set_gate(0x20, stubs + 0x20 * 16, KERNEL_DS, 0x8e, 0);
    traps("gate to a data segment: #GP(selector)", GP, KERNEL_DS, int20, 0, 0);
    set_gate(0x20, stubs + 0x20 * 16, 0, 0x8e, 0);
    traps("gate with a null selector: #GP(0)", GP, 0, int20, 0, 0);
    set_gate(0x20, stubs + 0x20 * 16, GDT_ENTRIES * 8, 0x8e, 0);
    traps("gate with a selector beyond the GDT", GP, GDT_ENTRIES * 8, int20, 0, 0);
    gdt[FREE_SELECTOR / 8] = descriptor(0, 0xfffff, (D_CODE | D_L) & ~0x80u);
    set_gate(0x20, stubs + 0x20 * 16, FREE_SELECTOR, 0x8e, 0);
    traps("gate to an absent segment: #NP(selector)", NP, FREE_SELECTOR, int20, 0, 0);
    gdt[FREE_SELECTOR / 8] = descriptor(0, 0xfffff, D_CODE | D_L | D_DPL3);
    traps("gate to a less privileged segment: #GP", GP, FREE_SELECTOR, int20, 0, 0);
    set_gate(0x20, (const void *)0x800000000000, KERNEL_CS, 0x8e, 0);
    traps("gate to a non-canonical address: #GP(0)", GP, 0, int20, 0, 0);
    set_gate(0x20, stubs + 0x20 * 16, KERNEL_CS, 0x8e, 3);
    tss.ist[2] -= 5;
    run(int20, 0, 0);
    is(trap.vector, 0x20, "gate with an IST stack");
    is(trap.handler_sp, ((tss.ist[2]) & ~15ull) - 48,
       "IST stack is aligned to 16, frame of 5 + error");
    tss.ist[2] += 5;
    restore_gate(0x20);
    set_gate(UD, stubs + UD * 16, KERNEL_CS, 0x0e, 0);
    traps("exception through an absent gate: #NP with EXT", NP, UD * 8 + 3, undefined, 0, 0);
    restore_gate(UD);
    load_idt(0x90 * 16 - 1);
    traps("INT n beyond the IDT: #GP(n*8+2)", GP, 0x90 * 8 + 2, int90, 0, 0);
    load_idt(0x91 * 16 - 2);
    traps("gate partly beyond the IDT: #GP(n*8+2)", GP, 0x90 * 8 + 2, int90, 0, 0);
    load_idt(sizeof idt - 1);
    traps("and inside", 0x90, 0, int90, 0, 0);
}

SNIPPET(bad_stack, "mov %rdi, %rsp\n push %rax");
SNIPPET(read_at, "mov (%rdi), %rax");
SNIPPET(bad_stack_ud, "mov %rdi, %rsp\n ud2");

static void double_faults(void)
{
    set_gate(GP, stubs + GP * 16, KERNEL_CS, 0x0e, 0);
    traps("#GP whose gate is absent: #DF(0)", DF, 0, read_at, 0x800000000000, 0);
    restore_gate(GP);
    set_gate(PF, stubs + PF * 16, KERNEL_CS, 0x0e, 0);
    map(WINDOW, 0, 1);
    traps("#PF whose gate is absent: #DF(0)", DF, 0, read_at, WINDOW, 0);
    restore_gate(PF);
    traps("push on a non-canonical stack: #SS(0), delivered to the same stack: #DF", DF, 0,
          bad_stack, 0x800000000000, 0);
    traps("#UD on an unmapped stack: its #PF is delivered there too: #DF", DF, 0, bad_stack_ud,
          WINDOW + 64, 0);
    is(trap.cr2, WINDOW + 56, "CR2 is the first push");
    set_gate(UD, stubs + UD * 16, KERNEL_CS, 0x8e, 3);
    traps("#UD on an unmapped stack with IST", UD, 0, bad_stack_ud, WINDOW + 64, 0);
    restore_gate(UD);
    set_gate(PF, stubs + PF * 16, KERNEL_CS, 0x8e, 3);
    traps("#UD without IST: #PF with IST (benign, then a page fault)", PF, 2, bad_stack_ud,
          WINDOW + 64, 0);
    restore_gate(PF);
}

static void privileged(void)
{
    static const struct { const char *name; const void *fn; } list[] = {
        {"HLT", hlt_insn}, {"CLI", cli_insn}, {"STI", sti_insn}, {"IN", in_insn}, {"OUT", out_imm},
        {"CLTS", clts_insn}, {"MOV CR0", mov_cr0}, {"MOV DR0", mov_dr0}, {"RDMSR", rdmsr_insn},
        {"WBINVD", wbinvd_insn}, {"INVLPG", invlpg_insn}, {"LGDT", lgdt_insn}, {"LMSW", lmsw_insn},
        {"LTR", ltr_insn}, {"SWAPGS", swapgs_insn}, {"SYSRET", sysret_insn}, {"RDPMC", rdpmc_insn}};
    for (unsigned i = 0; i < ARRAY_SIZE(list); i++) {
        char name[64];
        memcpy(name, "at CPL 3 #GP(0): ", 17);
        memcpy(name + 17, list[i].name, 20);
        traps_user(name, GP, 0, list[i].fn, (word)&idt, 0);
    }
    user_flags = 0x3002;
    traps_user("CLI at CPL 3 with IOPL 3", NONE, 0, cli_insn, 0, 0);
    traps_user("IN at CPL 3 with IOPL 3", NONE, 0, in_insn, 0, 0);
    traps_user("HLT at CPL 3 with IOPL 3", GP, 0, hlt_insn, 0, 0);
    user_flags = 2;
    tss.bitmap[0x80 / 8] = 0xfe;
    traps_user("IN of a port the bitmap allows", NONE, 0, in_insn, 0, 0);
    tss.bitmap[0x80 / 8] = 0x7f;
    traps_user("IN of two ports, the second refused", GP, 0, in_edge, 0, 0);
    tss.bitmap[0x88 / 8] = 0xfe;
    traps_user("IN of two ports, both allowed, over a byte of the bitmap", NONE, 0, in_edge, 0, 0);
    tss.bitmap[0x80 / 8] = tss.bitmap[0x88 / 8] = 0xff;
    traps_user("RDTSC at CPL 3", NONE, 0, rdtsc_insn, 0, 0);
    write_cr4(read_cr4() | 4);
    traps_user("RDTSC at CPL 3 with CR4.TSD", GP, 0, rdtsc_insn, 0, 0);
    traps("RDTSC at CPL 0 with CR4.TSD", NONE, 0, rdtsc_insn, 0, 0);
    write_cr4(read_cr4() & ~4ul);
    traps_user("SGDT at CPL 3", NONE, 0, sgdt_insn, 0, 0);
    if (cpuid(7, 0).c >> 2 & 1) {
        write_cr4(read_cr4() | 0x800);
        traps_user("SGDT at CPL 3 with UMIP", GP, 0, sgdt_insn, 0, 0);
        traps_user("STR at CPL 3 with UMIP", GP, 0, str_insn, 0, 0);
        traps_user("SMSW at CPL 3 with UMIP", GP, 0, smsw_insn, 0, 0);
        traps("SGDT at CPL 0 with UMIP", NONE, 0, sgdt_insn, 0, 0);
        write_cr4(read_cr4() & ~0x800ul);
    } else {
        skip("no UMIP", "UMIP");
    }
}

static void popf_rights(void)
{
    run_user(popf_all, 0x3202, 0);
    is(trap.result & 0x3200, 0x0000, "POPF at CPL 3 changes neither IF nor IOPL");
    user_flags = 0x3002;
    run_user(popf_all, 0x0202, 0);
    is(trap.result & 0x3200, 0x3200, "POPF at CPL 3 with IOPL 3 changes IF, not IOPL");
    user_flags = 2;
    run(popf_all, 0x3002, 0);
    is(trap.result & 0x3200, 0x3000, "POPF at CPL 0 changes IOPL");
    run(popf_all, 0x240ed7 & ~0x100, 0);
    is(trap.result, (0x240ed7 & ~0x100), "POPF sets AC, ID and the arithmetic flags");
    run(popf_all, 0x1a0002, 0);
    is(trap.result & 0x1a0000, 0, "POPF leaves VM clear and clears VIP and VIF");
    run(popf_all, 0x4002, 0);
    is(trap.result & 0x4000, 0x4000, "POPF sets NT");
    run(popf_all, 0x2 | 0x8028, 0);
    is(trap.result & 0x802a, 2, "reserved flags");
}

/* IRETQ with the frame {RIP, CS, flags, RSP, SS} at RDI. */
SNIPPET(iret_from, "push 32(%rdi)\n push 24(%rdi)\n push 16(%rdi)\n push 8(%rdi)\n push (%rdi)\n"
                   AT(iret_from) "iretq");
SNIPPET(iret_target, "mov %ss, %eax\n mov %rsp, %rcx\n int $0x80");
SNIPPET(iret_target32, ".code32\n mov $0x12345678, %eax\n int $0x80\n .code64");
SNIPPET(nt_iret, "pushfq\n orl $0x4000, (%rsp)\n popfq\n iretq");

static int iret_to(word ip, word cs, word flags, word sp, word ss)
{
    static word frame[5];
    frame[0] = ip, frame[1] = cs, frame[2] = flags, frame[3] = sp, frame[4] = ss;
    return run(iret_from, (word)frame, 0);
}

static void iret(void)
{
    word target = (word)iret_target, sp = (word)alloc_pages(1) + 4096;
    extern const u8 iret_from_at[];
    is((u64)iret_to(target, KERNEL_CS, 2, sp, KERNEL_DS), (u64)NONE, "IRETQ to the same level");
    is(trap.cx, sp, "IRETQ to the same level loads RSP");
    is((u64)iret_to(target, KERNEL_CS, 2, sp, 0), (u64)NONE, "IRETQ to CPL 0 with a null SS");
    is(trap.ax, 0, "and SS is null");
    is((u64)iret_to(target, USER_CS, 2, sp, USER_DS), (u64)NONE, "IRETQ to CPL 3");
    is((u64)iret_to(target, USER_CS, 2, sp, 0), GP, "IRETQ to CPL 3 with a null SS: #GP");
    is(trap.error, 0, "its error code");
    is(trap.ip, (word)iret_from_at, "its address");
    is((u64)iret_to(target, USER_CS, 2, sp, 3), GP, "IRETQ to CPL 3 in 64-bit mode with SS 3: #GP");
    is((u64)iret_to(target, USER_CS, 2, sp, KERNEL_DS), GP, "IRETQ: SS.RPL not CPL: #GP");
    is(trap.error, KERNEL_DS, "#GP(SS selector)");
    is((u64)iret_to(target, USER_CS, 2, sp, USER_CS), GP, "IRETQ: SS is a code segment: #GP");
    is(trap.error, USER_CS & ~3, "#GP(SS selector)");
    is((u64)iret_to(target, 0, 2, sp, KERNEL_DS), GP, "IRETQ: null CS: #GP(0)");
    is(trap.error, 0, "its error code");
    is((u64)iret_to(target, KERNEL_DS, 2, sp, KERNEL_DS), GP, "IRETQ: CS is data: #GP");
    is(trap.error, KERNEL_DS, "#GP(CS selector)");
    is((u64)iret_to(target, GDT_ENTRIES * 8 + 8, 2, sp, KERNEL_DS), GP,
       "IRETQ: CS beyond the GDT: #GP");
    is(trap.error, GDT_ENTRIES * 8 + 8, "#GP(CS selector)");
    is((u64)iret_to(target, USER_CS & ~3, 2, sp, USER_DS), GP,
       "IRETQ: non-conforming CS with DPL > RPL: #GP");
    is((u64)iret_to(0x800000000000, KERNEL_CS, 2, sp, KERNEL_DS), GP,
       "IRETQ to a non-canonical RIP: #GP(0)");
    is(trap.error, 0, "its error code");
    is((u64)iret_to((word)iret_target32, USER_CS32, 2, sp, USER_DS), (u64)NONE,
       "IRETQ to a 32-bit segment");
    is(trap.result, 0x12345678, "32-bit code ran");
    gdt[FREE_SELECTOR / 8] = descriptor(0, 0xfffff, D_CODE | D_L | D_DB | D_G);
    is((u64)iret_to(target, FREE_SELECTOR, 2, sp, KERNEL_DS), GP, "IRETQ: CS with L and D: #GP");
    gdt[FREE_SELECTOR / 8] = descriptor(0, 0xfffff, (D_CODE | D_L) & ~0x80u);
    is((u64)iret_to(target, FREE_SELECTOR, 2, sp, KERNEL_DS), NP, "IRETQ: CS absent: #NP");
    gdt[FREE_SELECTOR / 8] = descriptor(0, 0xfffff, (D_DATA | D_DPL3) & ~0x80u);
    is((u64)iret_to(target, USER_CS, 2, sp, FREE_SELECTOR | 3), SS, "IRETQ: SS absent: #SS");
    is(trap.error, FREE_SELECTOR, "#SS(selector)");
    iret_to(target, KERNEL_CS, 0x240ed7 & ~0x700, sp, KERNEL_DS);
    is(trap.flags & 0x240ed7, 0x240ed7 & ~0x700, "IRETQ loads the flags");
    traps("IRETQ with NT in long mode: #GP(0)", GP, 0, nt_iret, 0, 0);
    iret_to(target, KERNEL_CS, 2 | 0x20000, sp, KERNEL_DS);
    is(trap.flags & 0x20000, 0, "IRETQ ignores VM in long mode");
}

/* A data segment loaded with DPL 0 is nulled when IRET leaves CPL 0. */
SNIPPET(outer_data, "mov $0x10, %eax\n mov %eax, %ds\n mov $0x33, %eax\n mov %eax, %es\n jmp iret_from");
SNIPPET(outer_target, "mov %ds, %eax\n mov %es, %ecx\n int $0x80");
static void iret_nulls(void)
{
    static word frame[5];
    frame[0] = (word)outer_target, frame[1] = USER_CS, frame[2] = 2;
    frame[3] = (word)alloc_pages(1) + 4096, frame[4] = USER_DS;
    run(outer_data, (word)frame, 0);
    is(trap.ax & 0xffff, 0, "IRETQ to CPL 3 nulls DS of DPL 0");
    is(trap.cx & 0xffff, USER_DS, "and keeps ES of DPL 3");
}

/* --- single step, shadows --- */

SNIPPET(step_one, "pushfq\n orl $0x100, (%rsp)\n popfq\n" AT(step_one) "nop\n nop");
SNIPPET(step_ss, "mov %ss, %eax\n pushfq\n orl $0x100, (%rsp)\n popfq\n" AT(step_ss) "mov %eax, %ss\n nop\n nop\n nop");
SNIPPET(step_int, "pushfq\n orl $0x100, (%rsp)\n popfq\n int $0x21");
SNIPPET(step_rep, "mov $3, %ecx\n pushfq\n orl $0x100, (%rsp)\n popfq\n" AT(step_rep) "rep lodsb\n nop");
SNIPPET(step_fault, "pushfq\n orl $0x100, (%rsp)\n popfq\n" AT(step_fault) "ud2");
SNIPPET(step_popf_clear, "pushfq\n pop %rax\n push %rax\n or $0x100, %eax\n push %rax\n popfq\n"
                         AT(step_popf_clear) "popfq\n nop");
static void single_step(void)
{
    extern const u8 step_one_at[], step_ss_at[], step_rep_at[], step_fault_at[],
        step_popf_clear_at[];
    write_dr6(0);
    traps_at("TF: #DB behind the instruction after POPF", DB, 0, step_one_at + 1, step_one, 0, 0);
    is(trap.dr6 & 0xe00f, 0x4000, "DR6.BS");
    is(trap.flags & 0x100, 0x100, "TF in the frame");
    write_dr6(0);
    traps_at("MOV SS: no single step behind it", DB, 0, step_ss_at + 3, step_ss, 0, 0);
    write_dr6(0);
    traps("INT n clears TF: the handler is not stepped into", 0x21, 0, step_int, 0, 0);
    is(trap.flags & 0x100, 0x100, "TF in INT n's frame");
    write_dr6(0);
    traps_at("REP is stepped by iteration", DB, 0, step_rep_at, step_rep, 0, (word)stubs);
    is(trap.cx, 2, "one iteration is done");
    traps_at("a fault comes instead of the step", UD, 0, step_fault_at, step_fault, 0, 0);
    write_dr6(0);
    traps_at("POPF that clears TF is still stepped", DB, 0, step_popf_clear_at + 1, step_popf_clear,
             0, 0);
    write_dr6(0);
}

SNIPPET(sti_shadow, "sti\n" AT(sti_shadow) "nop\n nop\n nop\n cli");
SNIPPET(sti_cli, "sti\n cli\n nop");
SNIPPET(sti_sti, "sti\n sti\n" AT(sti_sti) "nop\n nop\n cli");
SNIPPET(sti_ss, "mov %ss, %eax\n sti\n mov %eax, %ss\n" AT(sti_ss) "nop\n nop\n nop\n cli");
SNIPPET(ss_if, "mov %ss, %eax\n sti\n nop\n nop\n mov %eax, %ss\n nop\n cli");
SNIPPET(sti_hlt, "sti\n" AT(sti_hlt) "hlt\n cli");
static void shadows(void)
{
    extern const u8 sti_shadow_at[], sti_sti_at[], sti_ss_at[], sti_hlt_at[];
    apic_enable();
    apic_send(0, 0x40000 | 0x60); /* to self, held back by IF */
    is((u64)run(sti_shadow, 0, 0), 0x60, "pending interrupt comes after STI");
    is(trap.ip, (word)sti_shadow_at + 1, "one instruction behind STI");
    apic_eoi();
    apic_send(0, 0x40000 | 0x60);
    is((u64)run(sti_cli, 0, 0), (u64)NONE, "STI, CLI: no interrupt in between");
    is((u64)run(sti_sti, 0, 0), 0x60, "a second STI makes no new shadow");
    is(trap.ip, (word)sti_sti_at, "the interrupt comes behind the second STI");
    apic_eoi();
    apic_send(0, 0x40000 | 0x60);
    run(sti_ss, 0, 0);
    ok(trap.vector == 0x60 && (trap.ip == (word)sti_ss_at || trap.ip == (word)sti_ss_at + 1),
       "STI, MOV SS: interrupt behind one of the next two");
    apic_eoi();
    apic_send(0, 0x40000 | 0x60);
    is((u64)run(sti_hlt, 0, 0), 0x60, "STI, HLT with an interrupt pending");
    is(trap.ip, (word)sti_hlt_at + 1, "wakes behind HLT");
    apic_eoi();
}

static void fpu_gates(void)
{
    word cr0 = read_cr0(), cr4 = read_cr4();
    write_cr0(cr0 | 8);
    traps("x87 with CR0.TS: #NM", NM, 0, fnop_insn, 0, 0);
    traps("SSE with CR0.TS: #NM", NM, 0, sse_insn, 0, 0);
    traps("MMX with CR0.TS: #NM", NM, 0, mmx_insn, 0, 0);
    traps("WAIT with CR0.TS and MP: #NM", NM, 0, fwait_insn, 0, 0);
    write_cr0((cr0 | 8) & ~2ul);
    traps("WAIT with CR0.TS without MP", NONE, 0, fwait_insn, 0, 0);
    write_cr0(cr0 | 4);
    traps("x87 with CR0.EM: #NM", NM, 0, fnop_insn, 0, 0);
    traps("SSE with CR0.EM: #UD", UD, 0, sse_insn, 0, 0);
    traps("MMX with CR0.EM: #UD", UD, 0, mmx_insn, 0, 0);
    write_cr0(cr0);
    write_cr4(cr4 & ~0x200ul);
    traps("SSE without CR4.OSFXSR: #UD", UD, 0, sse_insn, 0, 0);
    write_cr4(cr4);
    traps("LDMXCSR of a reserved bit: #GP", GP, 0, ldmxcsr_insn, 0x10000, 0);
    traps("LDMXCSR", NONE, 0, ldmxcsr_insn, 0x1f80, 0);
    extern const u8 sse_divide_at[], x87_divide_at[];
    traps_at("SSE zero divide, unmasked: #XM", XM, 0, sse_divide_at, sse_divide, 0x1d80, 0);
    write_cr4(cr4 & ~0x400ul);
    traps_at("the same without CR4.OSXMMEXCPT: #UD", UD, 0, sse_divide_at, sse_divide, 0x1d80, 0);
    write_cr4(cr4);
    traps("SSE zero divide, masked", NONE, 0, sse_divide, 0x1f80, 0);
    traps_at("x87 zero divide, unmasked: #MF at the next waiting instruction", MF, 0, x87_divide_at,
             x87_divide, 0, 0);
    traps("FNSTSW, FNCLEX and FNINIT do not wait", NONE, 0, x87_quiet, 0, 0);
    asm volatile("fninit");
    traps("MOVAPS misaligned: #GP(0)", GP, 0, movaps_load, (word)stubs + 1, 0);
}

static void alignment(void)
{
    static u64 data[2];
    word at = (word)data + 1;
    user_flags = 0x40002;
    traps_user("misaligned at CPL 3, EFLAGS.AC but not CR0.AM", NONE, 0, load_unaligned, at, 0);
    write_cr0(read_cr0() | 1 << 18);
    traps_user("misaligned at CPL 3, AC and AM: #AC(0)", AC, 0, load_unaligned, at, 0);
    traps_user("aligned", NONE, 0, load_unaligned, at + 3, 0);
    traps_user("a byte is aligned", NONE, 0, load_byte, at, 0);
    user_flags = 2;
    traps_user("misaligned, AM but not AC", NONE, 0, load_unaligned, at, 0);
    write_cr0(read_cr0() & ~(1ul << 18));
}

void guest_main(void)
{
    simple();
    gates();
    double_faults();
    privileged();
    popf_rights();
    iret();
    iret_nulls();
    single_step();
    shadows();
    fpu_gates();
    alignment();
}
