/* guest: bits=64 smp=1 */
/* Segments in long mode: selectors, gates, far transfers, system calls, bases. SDM vol. 3 ch. 3,
 * 5. */
#include "guest.h"

SNIPPET(load_ds, "mov %edi, %ds");
SNIPPET(load_es, "mov %edi, %es\n mov %es, %eax");
SNIPPET(load_ss, "mov %edi, %ss\n mov %ss, %eax");
SNIPPET(load_fs, "mov %edi, %fs");
SNIPPET(load_gs, "mov %edi, %gs");
SNIPPET(lldt_insn, "lldt %di");
SNIPPET(ltr_insn, "ltr %di");
SNIPPET(lar_insn, "xor %eax, %eax\n lar %edi, %eax\n jz 1f\n mov $-1, %eax\n1:");
SNIPPET(lsl_insn, "mov $-1, %rax\n lsl %edi, %eax\n jz 1f\n mov $-1, %rax\n1:");
SNIPPET(verr_insn, "verr %di\n setz %al\n movzbl %al, %eax");
SNIPPET(verw_insn, "verw %di\n setz %al\n movzbl %al, %eax");
SNIPPET(read_rdi, "mov (%rdi), %rax");
SNIPPET(read_rbp, "push %rbp\n mov %rdi, %rbp\n mov (%rbp), %rax\n pop %rbp");
SNIPPET(read_rsp, "mov %rsp, %rdx\n mov %rdi, %rsp\n mov (%rsp), %rax\n mov %rdx, %rsp");
SNIPPET(read_ds_rbp, "push %rbp\n mov %rdi, %rbp\n mov %ds:(%rbp), %rax\n pop %rbp");
SNIPPET(read_ss_rdi, "mov %ss:(%rdi), %rax");
SNIPPET(jump_rdi, "jmp *%rdi");
SNIPPET(call_rdi, "call *%rdi");
SNIPPET(ret_rdi, "push %rdi\n" AT(ret_rdi) "ret");
SNIPPET(read_fs, "mov %fs:(%rdi), %rax");
SNIPPET(far_call, "lcall *(%rdi)\n mov %cs, %eax");
SNIPPET(far_call64, "rex.w lcall *(%rdi)\n mov %cs, %eax");
SNIPPET(far_jump, "ljmp *(%rdi)");
SNIPPET(wrmsr_insn, "mov %edi, %ecx\n mov %esi, %eax\n mov %rsi, %rdx\n shr $32, %rdx\n wrmsr");
SNIPPET(gate_target, "mov %cs, %eax\n mov %rsp, %rcx\n mov %ss, %edx\n lretq");
SNIPPET(gate_catch, "mov %cs, %eax\n mov %rsp, %rcx\n mov %ss, %edx\n int $0x81");
SNIPPET(target_end, "mov %cs, %eax\n mov %ss, %edx\n mov %rsp, %rcx\n int $0x80");
SNIPPET(lret_frame, "push 24(%rdi)\n push 16(%rdi)\n push 8(%rdi)\n push (%rdi)\n" AT(lret_frame) "lretq");

SNIPPET(rdfsbase, "rdfsbase %rax");
SNIPPET(wrfsbase, "wrfsbase %rdi\n rdfsbase %rax");
SNIPPET(wrfsbase32, "wrfsbase %edi\n rdfsbase %rax");
SNIPPET(sysret32_end, ".code32\n mov %cs, %eax\n mov %ss, %ebx\n int $0x80\n .code64");

#define FREE FREE_SELECTOR
static u64 *slot = &gdt[FREE / 8];

static void loads(void)
{
    traps("null DS", NONE, 0, load_ds, 0, 0);
    traps("null DS with RPL 3", NONE, 0, load_ds, 3, 0);
    traps_user("null ES at CPL 3", NONE, 0, load_es, 3, 0);
    traps("null SS at CPL 0 in 64-bit mode", NONE, 0, load_ss, 0, 0);
    traps("null SS with RPL 3 at CPL 0: #GP(0)", GP, 0, load_ss, 3, 0);
    traps_user("null SS at CPL 3: #GP(0)", GP, 0, load_ss, 3, 0);
    traps("beyond the GDT: #GP(selector)", GP, GDT_ENTRIES * 8, load_ds, GDT_ENTRIES * 8 + 2, 0);
    traps("LLDT null", NONE, 0, lldt_insn, 0, 0);
    traps("no LDT: #GP(selector)", GP, 4, load_ds, 7, 0);
    *slot = descriptor(0, 0xfffff, D_DATA & ~0x80u);
    traps("absent data segment: #NP(selector)", NP, FREE, load_ds, FREE, 0);
    traps("absent stack segment: #SS(selector)", SS, FREE, load_ss, FREE, 0);
    *slot = descriptor(0, 0xfffff, D_CODE_XO | D_L);
    traps("execute-only code segment into DS: #GP", GP, FREE, load_ds, FREE, 0);
    *slot = descriptor(0, 0xfffff, D_CODE | D_L);
    traps("readable code segment into DS", NONE, 0, load_ds, FREE, 0);
    traps("code segment into SS: #GP", GP, FREE, load_ss, FREE, 0);
    *slot = descriptor(0, 0xfffff, D_DATA_RO);
    traps("read-only data segment into SS: #GP", GP, FREE, load_ss, FREE, 0);
    *slot = descriptor(0, 0xfffff, D_DATA);
    traps("RPL 3 with DPL 0 into DS: #GP", GP, FREE, load_ds, FREE | 3, 0);
    traps_user("DPL 0 into DS at CPL 3: #GP", GP, FREE, load_ds, FREE, 0);
    *slot = descriptor(0, 0xfffff, D_CONFORMING | D_L);
    traps_user("conforming code of DPL 0 into DS at CPL 3", NONE, 0, load_ds, FREE, 0);
    *slot = descriptor(0, 0xfffff, D_DATA | D_DPL3);
    traps("SS with DPL not CPL: #GP", GP, FREE, load_ss, FREE | 3, 0);
    *slot = descriptor(0, 0xfffff, 0x89);
    traps("system segment into DS: #GP", GP, FREE, load_ds, FREE, 0);
    *slot = descriptor(0, 0xfffff, D_DATA & ~1u);
    traps("accessed bit: load", NONE, 0, load_ds, FREE, 0);
    is(*slot >> 40 & 1, 1, "is set in the descriptor");
    traps("LLDT of a data segment: #GP", GP, KERNEL_DS, lldt_insn, KERNEL_DS, 0);
    static u64 ldt[4];
    ldt[1] = descriptor(0, 0xfffff, D_DATA);
    *slot = descriptor((u32)(word)ldt, sizeof ldt - 1, 0x82 & ~0x80u), slot[1] = 0;
    traps("LLDT absent: #NP", NP, FREE, lldt_insn, FREE, 0);
    *slot = descriptor((u32)(word)ldt, sizeof ldt - 1, 0x82);
    traps("LLDT", NONE, 0, lldt_insn, FREE, 0);
    traps("selector of the LDT", NONE, 0, load_ds, 8 | 4, 0);
    traps("beyond the LDT's limit: #GP(selector)", GP, 32 | 4, load_ds, 32 | 4, 0);
    slot[1] = 0x8000;
    traps("LDT with a non-canonical base: #GP", GP, FREE, lldt_insn, FREE, 0);
    slot[1] = 0;
    run(lldt_insn, 0, 0);
    traps("LTR of a busy TSS: #GP", GP, TSS_SELECTOR, ltr_insn, TSS_SELECTOR, 0);
    traps("LTR null: #GP(0)", GP, 0, ltr_insn, 0, 0);
}

static void inspect(void)
{
    static const struct { u64 d; i64 lar, lsl; bool verr, verw; const char *name; } list[] = {
        {0, -1, -1, false, false, "zero"},
        {0x00cf93000000ffff, 0xcf9300, 0xffffffff, true, true, "data"},
        {0x00cf91000000ffff, 0xcf9100, 0xffffffff, true, false, "read-only data"},
        {0x000193000000ffff, 0x019300, 0x1ffff, true, true, "byte granular"},
        {0x00af9b000000ffff, 0xaf9b00, 0xffffffff, true, false, "code"},
        {0x00af99000000ffff, 0xaf9900, 0xffffffff, false, false, "execute-only code"},
        {0x00cf13000000ffff, 0xcf1300, 0xffffffff, true, true, "absent data"},
        {0x0000890000000067, 0x008900, 0x67, false, false, "TSS"},
        {0x00008b0000000067, 0x008b00, 0x67, false, false, "busy TSS"},
        {0x0000820000000017, 0x008200, 0x17, false, false, "LDT"},
        {0x00008c0000080000, 0x008c00, -1, false, false, "call gate"},
        {0x00008e0000080000, -1, -1, false, false, "interrupt gate"},
        {0x0000850000080000, -1, -1, false, false, "task gate"},
        {0x0000810000000067, -1, -1, false, false, "16-bit TSS in long mode"},
        {0x0000840000080000, -1, -1, false, false, "16-bit call gate in long mode"}};
    for (unsigned i = 0; i < ARRAY_SIZE(list); i++) {
        *slot = list[i].d, slot[1] = 0;
        run(lar_insn, FREE, 0);
        u64 mask = list[i].lar < 0 ? ~0ull : 0xf0ff00; /* bits 16-19 are undefined */
        is((u64)(i64)(i32)trap.result & mask, (u64)list[i].lar & mask, "LAR: %s", list[i].name);
        run(lsl_insn, FREE, 0);
        is(trap.result, (u64)list[i].lsl, "LSL: %s", list[i].name);
        run(verr_insn, FREE, 0);
        is(trap.result, list[i].verr, "VERR: %s", list[i].name);
        run(verw_insn, FREE, 0);
        is(trap.result, list[i].verw, "VERW: %s", list[i].name);
    }
    *slot = descriptor(0, 0xfffff, D_DATA);
    run_user(lar_insn, FREE | 3, 0);
    is(trap.result, 0xffffffff, "LAR at CPL 3 of DPL 0");
    run_user(verr_insn, FREE | 3, 0);
    is(trap.result, 0, "VERR at CPL 3 of DPL 0");
    *slot = descriptor(0, 0xfffff, D_CONFORMING);
    run_user(verr_insn, FREE | 3, 0);
    is(trap.result, 1, "VERR at CPL 3 of conforming code");
    run(lar_insn, 0, 0);
    is(trap.result, 0xffffffff, "LAR of a null selector");
    run(verr_insn, GDT_ENTRIES * 8, 0);
    is(trap.result, 0, "VERR beyond the GDT");
}

static void canonical(void)
{
    u64 bad = 1ull << 47;
    extern const u8 ret_rdi_at[];
    traps("non-canonical by DS: #GP(0)", GP, 0, read_rdi, bad, 0);
    traps("non-canonical by RBP: #SS(0)", SS, 0, read_rbp, bad, 0);
    set_gate(SS, stubs + SS * 16, KERNEL_CS, 0x8e, 3);
    traps("non-canonical by RSP: #SS(0)", SS, 0, read_rsp, bad, 0);
    restore_gate(SS);
    run(read_ss_rdi, bad, 0);
    ok(trap.vector == GP || trap.vector == SS,
       "SS prefix with RDI: #SS or, the prefix being ignored, #GP");
    run(read_ds_rbp, bad, 0);
    ok(trap.vector == GP || trap.vector == SS,
       "DS prefix is ignored in 64-bit mode (#SS on Intel, #GP seen too)");
    traps("JMP to a non-canonical address: #GP at the JMP", GP, 0, jump_rdi, bad, 0);
    is(trap.ip, (word)jump_rdi, "RIP");
    traps("CALL to a non-canonical address: #GP at the CALL", GP, 0, call_rdi, bad, 0);
    is(trap.ip, (word)call_rdi, "RIP");
    traps("RET to a non-canonical address: #GP", GP, 0, ret_rdi, bad, 0);
    ok(trap.ip == (word)ret_rdi_at || trap.ip == bad, "RIP is RET's (or the target's, on AMD)");
    traps("WRMSR FS.base non-canonical: #GP", GP, 0, wrmsr_insn, 0xc0000100, bad);
    traps("WRMSR LSTAR non-canonical: #GP", GP, 0, wrmsr_insn, 0xc0000082, bad);
    traps("WRMSR KERNEL_GS_BASE non-canonical: #GP", GP, 0, wrmsr_insn, 0xc0000102, bad);
}

static void bases(void)
{
    static u64 words[4] = {11, 22, 33, 44};
    wrmsr(0xc0000100, (word)words);
    run(read_fs, 8, 0);
    is(trap.result, 22, "FS.base by MSR");
    wrmsr(0xc0000100, (word)words - 0x1000);
    run(read_fs, 0x1010, 0);
    is(trap.result, 33, "FS.base and displacement");
    wrmsr(0xc0000100, 0xffff800000000000);
    is(rdmsr(0xc0000100), 0xffff800000000000, "FS.base keeps 64 bits");
    run(read_fs, 0x0000800000000000 + (word)words, 0);
    is(trap.result, 11, "base and offset wrap to a canonical address");
    *slot = descriptor((u32)(word)words, 0xfffff, D_DATA);
    run(load_fs, FREE, 0);
    is(rdmsr(0xc0000100), (word)words, "loading FS sets its 32-bit base");
    run(load_fs, 0, 0);
    ok(rdmsr(0xc0000100) == 0 || rdmsr(0xc0000100) == (word)words,
       "loading a null FS clears the base or leaves it (AMD)");
    *slot = descriptor(0x1000, 0, D_DATA);
    run(load_ds, FREE, 0);
    u64 v;
    asm volatile("mov %1, %%ds\n mov %2, %0\n mov %3, %%ds" : "=&r"(v) : "r"(FREE), "m"(words[3]),
                 "r"(KERNEL_DS));
    is(v, 44, "DS base and limit don't count in 64-bit mode");
    wrmsr(0xc0000101, 0x1111), wrmsr(0xc0000102, 0x2222);
    asm volatile("swapgs");
    is(rdmsr(0xc0000101), 0x2222, "SWAPGS");
    is(rdmsr(0xc0000102), 0x1111, "SWAPGS, the other");
    wrmsr(0xc0000101, 0);
    if (has_7b(0)) {
        traps("RDFSBASE without CR4.FSGSBASE: #UD", UD, 0, rdfsbase, 0, 0);
        write_cr4(read_cr4() | 1 << 16);
        traps_user("WRFSBASE at CPL 3", NONE, 0, wrfsbase, 0x123456789abc, 0);
        is(trap.result, 0x123456789abc, "RDFSBASE");
        run(wrfsbase32, 0x123456789abc, 0);
        is(trap.result, 0x56789abc, "WRFSBASE r32 clears the upper half");
        traps("WRFSBASE non-canonical: #GP", GP, 0, wrfsbase, 1ull << 47, 0);
        write_cr4(read_cr4() & ~(1ul << 16));
    } else {
        skip("no FSGSBASE", "FSGSBASE");
    }
}

static void call_gate(u64 target, u16 selector, u8 type)
{
    slot[0] =
        (target & 0xffff) | (u64)selector << 16 | (u64)type << 40 | (target >> 16 & 0xffff) << 48;
    slot[1] = target >> 32;
}

static struct { u32 offset; u16 selector; } far32 = {0, FREE};

static void gates(void)
{
    word at = (word)&far32;
    far32.selector = FREE;
    call_gate((word)gate_target, KERNEL_CS, 0x8c);
    traps("call gate at the same level", NONE, 0, far_call, at, 0);
    is(trap.result, KERNEL_CS, "comes back");
    traps_user("call gate of DPL 0 at CPL 3: #GP(gate)", GP, FREE, far_call, at, 0);
    call_gate((word)gate_target, KERNEL_CS, 0xec);
    traps_user("call gate to CPL 0", NONE, 0, far_call, at, 0);
    is(trap.result, USER_CS, "comes back to CPL 3");
    call_gate((word)gate_catch, KERNEL_CS, 0xec);
    run_user(far_call, at, 0);
    is((u64)trap.vector, 0x81, "call gate to CPL 0, looked at");
    is(trap.ax, KERNEL_CS, "CS at CPL 0");
    is(trap.dx & 0xffff, 0, "SS is null with RPL 0");
    is(trap.cx, tss.rsp[0] - 32, "RSP from the TSS, four quadwords pushed");
    is(((u64 *)trap.cx)[3], USER_DS, "old SS");
    is(((u64 *)trap.cx)[2], user_sp - 8, "old RSP");
    is(((u64 *)trap.cx)[1], USER_CS, "old CS");
    call_gate((word)gate_target, KERNEL_CS, 0x6c);
    traps_user("absent call gate: #NP(gate)", NP, FREE, far_call, at, 0);
    call_gate((word)gate_target, 0, 0xec);
    traps_user("call gate with a null selector: #GP(0)", GP, 0, far_call, at, 0);
    call_gate((word)gate_target, KERNEL_CS32, 0xec);
    traps_user("call gate to 32-bit code: #GP(CS)", GP, KERNEL_CS32, far_call, at, 0);
    call_gate((word)gate_target, KERNEL_CS, 0xec);
    slot[1] |= 1ull << 40;
    traps_user("call gate with a type in its upper half: #GP(gate)", GP, FREE, far_call, at, 0);
    call_gate(1ull << 47, KERNEL_CS, 0xec);
    traps("call gate to a non-canonical address: #GP(0)", GP, 0, far_call, at, 0);
    call_gate((word)gate_target, KERNEL_CS, 0xec);
    traps_user("JMP through a gate to a lower level: #GP(CS)", GP, KERNEL_CS, far_jump, at, 0);
    far32.selector = KERNEL_DS;
    traps("far CALL to a data segment: #GP", GP, KERNEL_DS, far_call, at, 0);
    far32.selector = 0;
    traps("far CALL to a null selector: #GP(0)", GP, 0, far_call, at, 0);
    far32.selector = TSS_SELECTOR;
    traps("far CALL to a TSS in long mode: #GP", GP, TSS_SELECTOR, far_call, at, 0);
    far32.selector = KERNEL_CS, far32.offset = (u32)(word)target_end;
    traps("far JMP in 64-bit mode", NONE, 0, far_jump, at, 0);
    slot[0] = descriptor(0, 0xfffff, D_CONFORMING | D_L);
    far32.selector = FREE;
    traps_user("far JMP to conforming code of DPL 0 at CPL 3", NONE, 0, far_jump, at, 0);
    is(trap.ax, FREE | 3, "stays at CPL 3");
    slot[0] = descriptor(0, 0xfffff, D_CONFORMING | D_L | D_DPL3);
    traps("far JMP to conforming code of DPL 3 at CPL 0: #GP", GP, FREE, far_jump, at, 0);
    (void)far_call64;
}

static void far_returns(void)
{
    static u64 frame[4];
    word sp = (word)alloc_pages(1) + 4096;
    frame[0] = (word)target_end, frame[1] = USER_CS, frame[2] = sp, frame[3] = USER_DS;
    traps("RETF to CPL 3", NONE, 0, lret_frame, (word)frame, 0);
    is(trap.ax, USER_CS, "CS");
    is(trap.cx, sp, "RSP");
    frame[3] = KERNEL_DS;
    traps("RETF to CPL 3 with SS of DPL 0: #GP", GP, KERNEL_DS, lret_frame, (word)frame, 0);
    frame[3] = 0;
    traps("RETF to CPL 3 with a null SS: #GP(0)", GP, 0, lret_frame, (word)frame, 0);
    frame[1] = KERNEL_CS32;
    frame[0] = 0x100000;
    frame[3] = KERNEL_DS;
    gdt[FREE / 8] = descriptor(0, 0xfffff, (D_CODE | D_L) & ~0x80u);
    frame[1] = FREE;
    traps("RETF to an absent segment: #NP", NP, FREE, lret_frame, (word)frame, 0);
    frame[1] = 0;
    traps("RETF to a null selector: #GP(0)", GP, 0, lret_frame, (word)frame, 0);
    frame[0] = 1ull << 47, frame[1] = KERNEL_CS;
    traps("RETF to a non-canonical address: #GP(0)", GP, 0, lret_frame, (word)frame, 0);
}

/* --- 32-bit code in compatibility mode --- */
SNIPPET(compat_enter, "pushq $0x33\n push %rsi\n pushq $2\n pushq $0x2b\n push %rdi\n iretq");
SNIPPET(compat_limit, ".code32\n mov $0x6b, %eax\n mov %eax, %es\n mov %es:0x0ffc, %ecx\n" AT(compat_limit) "mov %es:0x0ffd, %ecx\n int $0x80\n .code64");
SNIPPET(compat_wrap, ".code32\n mov $0x12345678, %eax\n mov $0xffffffff, %ecx\n inc %ecx\n mov %ecx, %eax\n aaa\n push %es\n pop %es\n int $0x80\n .code64");
SNIPPET(compat_syscall, ".code32\n syscall\n int $0x80\n .code64");
SNIPPET(compat_ss, ".code32\n mov $0x6b, %eax\n mov %eax, %ss\n mov $0x2000, %esp\n" AT(compat_ss) "push %eax\n int $0x80\n .code64");
static void compat(void)
{
    extern const u8 compat_limit_at[], compat_ss_at[];
    word sp = (word)alloc_pages(1) + 4096;
    slot[0] = descriptor(0x100000, 0xfff, D_DATA | D_DPL3 | D_DB);
    traps("compatibility mode: read beyond a limit: #GP(0)", GP, 0, compat_enter,
          (word)compat_limit, sp);
    is(trap.ip, (word)compat_limit_at, "at the instruction");
    traps("compatibility mode: AAA, PUSH ES", NONE, 0, compat_enter, (word)compat_wrap, sp);
    traps("compatibility mode: stack beyond a limit: #SS(0)", SS, 0, compat_enter, (word)compat_ss,
          sp);
    is(trap.ip, (word)compat_ss_at, "at the instruction");
}

/* --- SYSCALL, SYSENTER --- */
SNIPPET(syscall_insn, "mov %rsp, %rdx\n mov $0x5a, %eax\n clc\n" AT(syscall_insn) "syscall\n nop");
SNIPPET(syscall_entry, "mov %cs, %ebx\n mov %ss, %esi\n pushfq\n pop %rbp\n int $0x81");
SNIPPET(sysret_to, "mov %rdi, %rcx\n mov $0x3247, %r11d\n mov %rsp, %rdx\n sysretq");
SNIPPET(sysret32_to, "mov %rdi, %rcx\n mov $0x2, %r11d\n mov %rsp, %rdx\n sysretl");
SNIPPET(sysret_end, "mov %cs, %eax\n mov %ss, %ebx\n pushfq\n pop %rsi\n int $0x80");
SNIPPET(sysenter_insn, "sysenter");
static void system_calls(void)
{
    extern const u8 syscall_insn_at[];
    u64 efer = rdmsr(0xc0000080);
    wrmsr(0xc0000081, (u64)KERNEL_CS << 32 | 0x28ull << 48 | 3ull << 48);
    wrmsr(0xc0000082, (word)syscall_entry);
    wrmsr(0xc0000083, (word)syscall_entry);
    wrmsr(0xc0000084, 0x40001);
    wrmsr(0xc0000080, efer & ~1ull);
    traps_user("SYSCALL without EFER.SCE: #UD", UD, 0, syscall_insn, 0, 0);
    wrmsr(0xc0000080, efer | 1);
    user_flags = 0x40003;
    run_user(syscall_insn, 0, 0);
    is((u64)trap.vector, 0x81, "SYSCALL");
    is(trap.cx, (word)syscall_insn_at + 2, "RCX is the return address");
    is(trap.bx, KERNEL_CS, "CS");
    is(trap.si, KERNEL_CS + 8, "SS");
    is(trap.bp & 0x40001, 0, "SFMASK clears flags");
    user_flags = 2;
    traps("SYSRET", NONE, 0, sysret_to, (word)sysret_end, 0);
    is(trap.ax, USER_CS, "CS is STAR + 16 with RPL 3");
    is(trap.bx, USER_DS, "SS is STAR + 8 with RPL 3");
    is(trap.si & 0x3fff, 0x3247, "flags from R11");
    run(sysret_to, 1ull << 47, 0);
    is((u64)trap.vector, GP, "SYSRET to a non-canonical address: #GP");
    traps("SYSRET to 32-bit code", NONE, 0, sysret32_to, (word)sysret32_end, 0);
    is(trap.ax, USER_CS32, "CS is STAR with RPL 3");
    word sp = (word)alloc_pages(1) + 4096;
    (void)compat_syscall;
    wrmsr(0x174, KERNEL_CS), wrmsr(0x175, sp), wrmsr(0x176, (word)gate_catch);
    if (is_intel()) {
        run_user(sysenter_insn, 0, 0);
        is((u64)trap.vector, 0x81, "SYSENTER in 64-bit mode (Intel)");
        is(trap.ax, KERNEL_CS, "CS");
        is(trap.cx, sp, "RSP");
    } else {
        traps_user("SYSENTER in long mode: #UD (AMD)", UD, 0, sysenter_insn, 0, 0);
    }
    wrmsr(0x174, 0);
}

void guest_main(void)
{
    loads();
    inspect();
    canonical();
    bases();
    gates();
    far_returns();
    compat();
    system_calls();
    (void)load_gs;
}
