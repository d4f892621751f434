/* guest: bits=64 smp=1 */
/* Debug registers and RF. SDM vol. 3 chapter 18 (debug, branch profile, TSC). */
#include "guest.h"

static u64 area[1024] ALIGNED(64); /* also a stack for handlers */
#define data (area + 1008)

SNIPPET(code_here, "nop\n" AT(code_here) "nop\n nop\n mov $7, %eax");
SNIPPET(write4, "movl $1, (%rdi)\n" AT(write4) "nop\n nop");
SNIPPET(write1, "movb $1, (%rdi)\n" AT(write1) "nop\n nop");
SNIPPET(write8, "movq $1, (%rdi)\n" AT(write8) "nop\n nop");
SNIPPET(read4, "mov (%rdi), %eax\n" AT(read4) "nop\n nop");
SNIPPET(rep_store, "mov $8, %ecx\n xor %eax, %eax\n" AT(rep_store) "rep stosl\n nop");
SNIPPET(push_it, "mov %rsp, %rax\n mov %rdi, %rsp\n push %rax\n pop %rsp\n nop");
SNIPPET(out80, "mov $0x80, %edx\n out %al, %dx\n" AT(out80) "nop\n nop");
SNIPPET(ss_shadow, "mov %ss, %eax\n" AT(ss_shadow) "mov %eax, %ss\n nop\n nop\n nop");
SNIPPET(ss_data, "mov (%rdi), %ss\n" AT(ss_data) "nop\n nop");
SNIPPET(set_dr7, "mov %rdi, %dr7");
SNIPPET(set_dr6, "mov %rdi, %dr6");
SNIPPET(get_dr4, "mov %dr4, %rax");
SNIPPET(get_dr6, "mov %dr6, %rax");
SNIPPET(rf_skip, "pushfq\n pop %rcx\n or $0x10000, %ecx\n mov %rsp, %rdx\n mov %ss, %eax\n push %rax\n push %rdx\n push %rcx\n mov %cs, %eax\n push %rax\n"
                 "lea rf_skip_at(%rip), %rax\n push %rax\n iretq\n" AT(rf_skip) "nop\n nop\n mov $9, %eax");
SNIPPET(icebp, ".byte 0xf1\n nop");

#define L0 1
#define RW0(type, len) ((type) << 16 | (len) << 18)
enum { EXEC, WRITE, IO, READWRITE };
enum { LEN1, LEN2, LEN8, LEN4 };

static void code(void)
{
    extern const u8 code_here_at[], rf_skip_at[];
    write_dr6(0);
    write_dr0((word)code_here_at);
    write_dr7(0x400 | L0);
    traps_at("code breakpoint: #DB before the instruction", DB, 0, code_here_at, code_here, 0, 0);
    is(trap.dr6 & 0xe00f, 1, "DR6.B0");
    is(trap.flags & 0x10000, 0, "RF is clear in the frame of a code breakpoint");
    write_dr6(0);
    write_dr7(0x400 | 2);
    traps_at("enabled by G0", DB, 0, code_here_at, code_here, 0, 0);
    write_dr7(0x400);
    traps("disabled", NONE, 0, code_here, 0, 0);
    write_dr7(0x400 | L0);
    write_dr0((word)code_here_at + 3);
    traps("in the middle of an instruction: nothing", NONE, 0, code_here, 0, 0);
    write_dr0((word)rf_skip_at);
    traps("IRET with RF set skips the breakpoint", NONE, 0, rf_skip, 0, 0);
    is(trap.result, 9, "and the code runs");
    write_dr6(0);
    write_dr0((word)code_here_at + 1);
    write_dr1((word)code_here_at + 1);
    write_dr7(0x400 | L0 | 4);
    run(code_here, 0, 0);
    is(trap.dr6 & 0xe00f, 3, "two breakpoints on one instruction: B0 and B1");
    write_dr7(0x400 | L0);
    write_dr6(0);
    traps_user("code breakpoint at CPL 3", DB, 0, code_here, 0, 0);
    write_dr7(0x400);
}

static void watch(void)
{
    extern const u8 write4_at[], write1_at[], write8_at[], read4_at[], rep_store_at[], ss_data_at[];
    word at = (word)&data[0];
    write_dr6(0);
    write_dr0(at);
    write_dr7(0x400 | L0 | RW0(WRITE, LEN4));
    traps_at("write breakpoint: #DB behind the instruction", DB, 0, write4_at, write4, at, 0);
    is(trap.dr6 & 0xe00f, 1, "DR6.B0");
    is(data[0], 1, "the write is done");
    is(trap.flags & 0x10000, 0, "RF is clear in a trap's frame");
    traps("a read does not match a write breakpoint", NONE, 0, read4, at, 0);
    traps_at("a byte inside matches", DB, 0, write1_at, write1, at + 3, 0);
    traps("a byte behind does not", NONE, 0, write1, at + 4, 0);
    traps_at("a wider write that begins before it matches", DB, 0, write8_at, write8, at - 6, 0);
    traps("elsewhere in the page", NONE, 0, write8, at + 8, 0);
    traps_user("write breakpoint at CPL 3", DB, 0, write4, at, 0);
    write_dr7(0x400 | L0 | RW0(READWRITE, LEN4));
    traps_at("read-write breakpoint, read", DB, 0, read4_at, read4, at, 0);
    traps_at("read-write breakpoint, write", DB, 0, write4_at, write4, at, 0);
    write_dr7(0x400 | L0 | RW0(WRITE, LEN8));
    traps_at("8 bytes", DB, 0, write1_at, write1, at + 7, 0);
    write_dr7(0x400 | L0 | RW0(WRITE, LEN1));
    traps("1 byte", NONE, 0, write1, at + 1, 0);
    write_dr0(at + 3);
    write_dr7(0x400 | L0 | RW0(WRITE, LEN4));
    traps_at("length 4 ignores the low address bits", DB, 0, write1_at, write1, at, 0);
    write_dr0(at + 8);
    write_dr6(0);
    traps("REP STOSD over a watched address", DB, 0, rep_store, at, 0);
    ok(trap.ip == (word)rep_store_at || trap.ip == (word)rep_store_at + 2,
       "stops at or behind the instruction");
    ok(trap.cx <= 5, "after the iteration that wrote (%llu left)", trap.cx);
    write_dr0(at);
    write_dr6(0);
    write_dr7(0x400 | L0 | RW0(WRITE, LEN4));
    traps("breakpoint hit by a stack push", DB, 0, push_it, at + 8, 0);
    write_dr6(0xffff0ff0);
    write_dr0(at), write_dr1(at + 8);
    write_dr7(0x400 | L0 | RW0(WRITE, LEN4) | 4 | READWRITE << 20 | LEN4 << 22);
    run(write4, at + 8, 0);
    is(trap.dr6 & 15, 2, "only the breakpoint that matched is shown");
    write_dr7(0x400);
    data[0] = KERNEL_DS;
    write_dr7(0x400 | L0 | RW0(READWRITE, LEN4));
    write_dr6(0);
    traps_at("MOV SS from watched memory: #DB after the next instruction", DB, 0, ss_data_at + 1,
             ss_data, at, 0);
    write_dr7(0x400);
}

static void io(void)
{
    extern const u8 out80_at[];
    write_cr4(read_cr4() | 8);
    write_dr0(0x80);
    write_dr6(0);
    write_dr7(0x400 | L0 | RW0(IO, LEN1));
    traps_at("I/O breakpoint with CR4.DE", DB, 0, out80_at, out80, 0, 0);
    is(trap.dr6 & 0xe00f, 1, "DR6.B0");
    write_dr0(0x81);
    traps("another port", NONE, 0, out80, 0, 0);
    write_dr7(0x400);
    traps("MOV from DR4 with CR4.DE: #UD", UD, 0, get_dr4, 0, 0);
    write_cr4(read_cr4() & ~8ul);
    traps("MOV from DR4 without CR4.DE", NONE, 0, get_dr4, 0, 0);
    is(trap.result, read_dr6(), "is DR6");
}

static void registers(void)
{
    extern const u8 ss_shadow_at[];
    traps("upper half of DR7: #GP", GP, 0, set_dr7, 1ull << 32, 0);
    traps("upper half of DR6: #GP", GP, 0, set_dr6, 1ull << 32, 0);
    write_dr6(0xffffffff & ~0x1000ul);
    is(read_dr6() & 0xfffe0ff0, 0xfffe0ff0, "fixed ones of DR6");
    write_dr6(0);
    is(read_dr6() & 0xffff0ff0 & ~0x10800ul, 0xfffe07f0, "read as one when zero is written");
    write_dr7(0);
    is(read_dr7(), 0x400, "bit 10 of DR7 reads 1");
    write_dr7(0xffffffff & ~0x2000ul & ~0xffff0000ul & ~0xff);
    is(read_dr7() & 0xd000, 0, "reserved bits of DR7 read 0");
    write_dr6(0);
    write_dr7(0x2400);
    traps("DR access with GD: #DB", DB, 0, get_dr6, 0, 0);
    is(trap.dr6 & 0x2000, 0x2000, "DR6.BD");
    is(read_dr7() & 0x2000, 0, "the handler runs with GD clear");
    write_dr7(0x400);
    write_dr6(0);
    write_dr0((word)ss_shadow_at + 2);
    write_dr7(0x400 | L0);
    if (is_intel())
        traps("code breakpoint behind MOV SS is suppressed (Intel)", NONE, 0, ss_shadow, 0, 0);
    else traps("code breakpoint behind MOV SS is not suppressed (AMD)", DB, 0, ss_shadow, 0, 0);
    write_dr7(0x400);
    write_dr6(0);
    run(icebp, 0, 0);
    is(trap.dr6 & 0xf, 0, "ICEBP sets no breakpoint bits");
}

void guest_main(void)
{
    code();
    watch();
    io();
    registers();
}
