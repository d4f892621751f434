/* guest: bits=32 smp=1 */
/* Virtual-8086 mode: IOPL, I/O bitmap, interrupts through the IDT, VME. SDM vol. 3 chapter 20. */
#include "guest.h"

#define SEGMENT 0x2000
static u8 *const code = (u8 *)(SEGMENT << 4), *const stack = (u8 *)0x30000;

/* Runs N bytes at 2000:0100 with FLAGS; the vector it ended with (HLT: #GP at its address). */
static int vm(const char *bytes, unsigned n, u32 flags, u32 ax, u32 bx)
{
    static struct frame f;
    memcpy(code + 0x100, bytes, n);
    memset(&f, 0, sizeof f);
    f.ip = 0x100, f.cs = SEGMENT, f.flags = flags | 0x20002, f.sp = 0x1000, f.ss = 0x3000;
    f.vm_es = f.vm_ds = 0x2000, f.vm_fs = 0x4000, f.vm_gs = 0x5000;
    f.ax = ax, f.bx = bx, f.si = 0x200, f.di = 0x300, f.bp = 0x800;
    return run(frame_enter, (word)&f, 0);
}
#define VM(bytes, flags, ax, bx) vm(bytes "\xf4", sizeof bytes, flags, ax, bx)
static bool at_hlt(unsigned offset)
{
    return trap.vector == GP && trap.error == 0 && trap.ip == 0x100 + offset;
}
#define IOPL3 0x3000
#define IOPL0 0x0000

static void basics(void)
{
    VM("\x90", IOPL3, 0x1234, 0);
    ok(at_hlt(1), "HLT: #GP(0) at the instruction");
    is(trap.cs, SEGMENT, "CS of the frame");
    is(trap.ss, 0x3000, "SS of the frame");
    is(trap.sp, 0x1000, "ESP of the frame");
    is(trap.flags & 0x23000, 0x23000, "VM and IOPL of the frame");
    const struct frame *top = (const struct frame *)(word)(tss.sp0 - 36 - 4 - 4 - 32 - 16);
    is(top->vm_ds, 0x2000, "DS behind SS");
    is(top->vm_fs, 0x4000, "FS");
    is(top->vm_gs, 0x5000, "GS");
    is(trap.frame_ds, 0, "DS is null in the handler");
    is(trap.frame_gs, 0, "GS is null in the handler");
    code[0x200] = 0x5a;
    VM("\xa0\x00\x02", IOPL3, 0, 0); /* mov 0x200, %al */
    is(trap.ax & 0xff, 0x5a, "DS base is selector * 16");
    VM("\x8c\xc8\x8e\xd8", IOPL3, 0, 0); /* mov %cs, %ax; mov %ax, %ds */
    ok(at_hlt(4), "MOV DS");
    VM("\xea\x08\x01\x00\x20\xf4\xf4\xf4\xb0\x07", IOPL3, 0, 0); /* ljmp $0x2000, $0x108; …; mov $7, %al */
    is(trap.ax & 0xff, 7, "far JMP");
    VM("\x66\xb8\xff\xff\x00\x00\x67\x8b\x00", IOPL3, 0, 0); /* mov $0xffff, %eax; mov (%eax), %ax */
    ok(trap.vector == GP && trap.ip == 0x106, "a word at FFFFh: #GP(0)");
    VM("\x66\xb8\x00\x00\x01\x00\x67\x8a\x00", IOPL3, 0, 0); /* mov $0x10000, %eax; mov (%eax), %al */
    ok(trap.vector == GP && trap.ip == 0x106, "an offset of 10000h: #GP(0)");
    VM("\xbd\xff\xff\x8b\x46\x00", IOPL3, 0, 0); /* mov $0xffff, %bp; mov (%bp), %ax */
    is((u64)trap.vector, SS, "a word at SS:FFFFh: #SS(0)");
    VM("\x0f\x0b", IOPL3, 0, 0);
    ok(trap.vector == UD && trap.ip == 0x100, "UD2: #UD");
    VM("\x0f\x00\xd8", IOPL3, 0, 0);
    is((u64)trap.vector, UD, "LTR: #UD");
    VM("\x0f\x02\xc0", IOPL3, 0, 0);
    is((u64)trap.vector, UD, "LAR: #UD");
    VM("\x63\xc0", IOPL3, 0, 0);
    is((u64)trap.vector, UD, "ARPL: #UD");
    VM("\x0f\x20\xc0", IOPL3, 0, 0);
    ok(trap.vector == GP && trap.ip == 0x100, "MOV EAX, CR0: #GP(0)");
    VM("\x0f\x01\x10", IOPL3, 0, 0);
    ok(trap.vector == GP && trap.ip == 0x100, "LGDT: #GP(0)");
    VM("\x0f\x01\xe0", IOPL3, 0, 0);
    ok(at_hlt(3), "SMSW is allowed");
    is(trap.ax & 1, 1, "and shows PE");
}

static void iopl(void)
{
    static const struct { const char *name, *bytes; u8 n; } list[] = {
        {"CLI", "\xfa", 1}, {"STI", "\xfb", 1}, {"PUSHF", "\x9c", 1}, {"POPF", "\x9d", 1},
        {"INT n", "\xcd\x21", 2}, {"IRET", "\xcf", 1}, {"PUSHFD", "\x66\x9c", 2}};
    for (unsigned i = 0; i < ARRAY_SIZE(list); i++) {
        char bytes[8];
        memcpy(bytes, list[i].bytes, list[i].n);
        bytes[list[i].n] = (char)0xf4;
        vm(bytes, list[i].n + 1u, IOPL0, 0, 0);
        ok(trap.vector == GP && trap.error == 0 && trap.ip == 0x100, "%s with IOPL 0: #GP(0)",
           list[i].name);
    }
    VM("\xfa", IOPL3 | 0x200, 0, 0);
    ok(at_hlt(1), "CLI with IOPL 3");
    is(trap.flags & 0x200, 0, "clears IF");
    VM("\x9c\x58", IOPL3, 0, 0); /* pushf; pop %ax */
    is(trap.ax & 0xf002, 0x3002, "PUSHF with IOPL 3");
    *(u16 *)(stack + 0x1000) = 0x0ad7;
    VM("\x9d", IOPL3, 0, 0);
    is(trap.flags & 0x23ad7, 0x23ad7 & ~0x100 & 0x23ed7 & 0x23ad7,
       "POPF sets flags, not IOPL or VM");
    set_gate(0x21, stubs + 0x21 * 16, KERNEL_CS, 0xee, 0);
    VM("\xcd\x21", IOPL3, 0, 0);
    ok(trap.vector == 0x21 && trap.ip == 0x102, "INT n with IOPL 3 goes through the IDT");
    set_gate(0x21, stubs + 0x21 * 16, KERNEL_CS, 0x8e, 0);
    VM("\xcd\x21", IOPL3, 0, 0);
    ok(trap.vector == GP && trap.error == 0x21 * 8 + 2, "its gate of DPL 0: #GP(n*8+2)");
    VM("\xcc", IOPL0, 0, 0);
    ok(trap.vector == BP && trap.ip == 0x101, "INT3 does not mind IOPL");
    *(u16 *)(stack + 0x1000) = 0x110, *(u16 *)(stack + 0x1002) = SEGMENT,
    *(u16 *)(stack + 0x1004) = 0x3002;
    code[0x110] = 0xf4;
    VM("\xcf", IOPL3, 0, 0);
    ok(trap.vector == GP && trap.ip == 0x110, "IRET with IOPL 3");
    is(trap.flags & 0x20000, 0x20000, "stays in virtual-8086 mode");
    gdt[FREE_SELECTOR / 8] = descriptor(0, 0xfffff, D_CONFORMING | D_DB | D_G);
    set_gate(0x21, stubs + 0x21 * 16, FREE_SELECTOR, 0xee, 0);
    VM("\xcd\x21", IOPL3, 0, 0);
    ok(trap.vector == GP && trap.error == FREE_SELECTOR, "a gate to conforming code: #GP(CS)");
    restore_gate(0x21);
}

static void ports(void)
{
    memset(tss.bitmap, 0xff, 8192);
    VM("\xe4\x80", IOPL3, 0, 0); /* in $0x80, %al */
    ok(trap.vector == GP && trap.ip == 0x100, "IN looks at the bitmap even with IOPL 3");
    tss.bitmap[0x80 / 8] = 0xfe;
    VM("\xe4\x80", IOPL0, 0, 0);
    ok(at_hlt(2), "IN of an allowed port with IOPL 0");
    VM("\xe5\x80", IOPL0, 0, 0); /* in $0x80, %ax */
    ok(trap.vector == GP && trap.ip == 0x100, "IN of a word, the second port refused");
    VM("\xba\x80\x00\xb9\x02\x00\xbe\x00\x02\xf3\x6e", IOPL0, 0, 0); /* rep outsb */
    ok(at_hlt(11), "REP OUTSB");
    u16 old = tss.io_map;
    tss.io_map = sizeof tss;
    VM("\xe4\x80", IOPL0, 0, 0);
    ok(trap.vector == GP && trap.ip == 0x100, "a bitmap beyond the TSS's limit allows nothing");
    tss.io_map = old;
    memset(tss.bitmap, 0xff, 8192);
}

/* VME: INT n by the guest's own table when the redirection bit is clear; VIF for IF. */
static void vme(void)
{
    if (!has_edx(1)) {
        skip("no VME", "VME");
        return;
    }
    static struct tss saved;
    memcpy(&saved, &tss, 104);
    write_cr4(read_cr4() | 1);
    /* 32 bytes of redirection bits before the I/O bitmap. */
    memset(tss.bitmap, 0xff, sizeof tss.bitmap);
    tss.io_map = offsetof(struct tss, bitmap) + 32;
    tss.bitmap[0x21 / 8] &= (u8)~(1 << (0x21 & 7));
    u32 *vector;
    asm("" : "=r"(vector) : "0"(0x21 * 4)); /* low memory, which the compiler takes for a null
                                               object */
    u32 old = *vector;
    *vector = (u32)SEGMENT << 16 | 0x180;
    code[0x180] = 0xf4;
    VM("\xcd\x21", IOPL3, 0, 0);
    ok(trap.vector == GP && trap.ip == 0x180, "INT n redirected to the 8086 table");
    is(*(u16 *)(stack + 0xffa), 0x102, "IP on its stack");
    VM("\xcd\x21", IOPL0, 0, 0);
    ok(trap.vector == GP && trap.ip == 0x180, "with IOPL 0 too");
    is(*(u16 *)(stack + 0xffe) & 0x3000, 0x3000, "FLAGS pushed show IOPL 3");
    VM("\xcd\x22", IOPL0, 0, 0);
    ok(trap.vector == GP && trap.ip == 0x100, "not redirected with IOPL 0: #GP(0)");
    VM("\xfb", IOPL0, 0, 0);
    ok(at_hlt(1), "STI with IOPL 0");
    is(trap.flags & 0x80200, 0x80000, "sets VIF, not IF");
    VM("\xfa", IOPL0 | 0x80000, 0, 0);
    is(trap.flags & 0x80000, 0, "CLI clears VIF");
    VM("\xfb", IOPL0 | 0x100000, 0, 0);
    ok(trap.vector == GP && trap.ip == 0x100, "STI with VIP: #GP(0)");
    VM("\x9c\x58", IOPL0 | 0x80000, 0, 0);
    is(trap.ax & 0x3200, 0x3200, "PUSHF shows VIF as IF and IOPL 3");
    *(u16 *)(stack + 0x1000) = 0x0202;
    VM("\x9d", IOPL0, 0, 0);
    is(trap.flags & 0x80000, 0x80000, "POPF sets VIF");
    *(u16 *)(stack + 0x1000) = 0x0102;
    VM("\x9d", IOPL0, 0, 0);
    ok(trap.vector == GP && trap.ip == 0x100, "POPF of TF: #GP(0)");
    *vector = old;
    write_cr4(read_cr4() & ~1ul);
    memcpy(&tss, &saved, 104);
    memset(tss.bitmap, 0xff, sizeof tss.bitmap);
}

void guest_main(void)
{
    basics();
    iopl();
    ports();
    vme();
}
