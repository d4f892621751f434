/* guest: bits=32 smp=1 */
/*
 * Real-address mode: limits, wrap-around, interrupts by the vector table, "unreal" segments, A20.
 * SDM vol. 3 chapter 20. The 16-bit code below is copied to 0800:0000 and called one routine at a
 * time.
 */
#include "guest.h"

#define BASE 0x8000
#define RESULT 0xe000 /* offset of struct result */

asm(".pushsection .text\n"
    ".globl real_blob, real_blob_end, real_enter, real_call\n"
    /* real_call(offset): EAX. */
    "real_call: push %ebx\n push %ebp\n push %esi\n push %edi\n pushf\n cli\n"
    "  mov %esp, real_esp\n mov %eax, %ebx\n"
    "  mov $0x68, %ecx\n ljmp *real_far\n"
    "real_back: mov $0x10, %ecx\n mov %ecx, %ds\n mov %ecx, %es\n mov %ecx, %ss\n mov %ecx, %fs\n mov %ecx, %gs\n"
    "  mov real_esp, %esp\n lgdtl gdt_pointer32\n lidtl real_idt\n"
    "  popf\n pop %edi\n pop %esi\n pop %ebp\n pop %ebx\n ret\n"
    ".balign 16\n"
    "real_blob:\n .code16\n"
    "  mov $0x70, %cx\n mov %cx, %ds\n mov %cx, %es\n mov %cx, %ss\n mov %cx, %fs\n mov %cx, %gs\n"
    "  lidtl %cs:real_ivt - real_blob\n"
    "  mov %cr0, %ecx\n and $~1, %ecx\n mov %ecx, %cr0\n"
    "  ljmp $0x800, $1f - real_blob\n"
    "1: mov %cs, %cx\n mov %cx, %ds\n mov %cx, %es\n mov %cx, %ss\n mov $0xd000, %sp\n"
    "  movw $0xffff, 0xe000\n"
    "  xor %eax, %eax\n xor %ecx, %ecx\n xor %edx, %edx\n xor %esi, %esi\n xor %edi, %edi\n xor %ebp, %ebp\n"
    "  call *%bx\n"
    "real_done: mov %eax, %cs:0xe010\n mov %ebx, %cs:0xe014\n mov %ecx, %cs:0xe018\n mov %edx, %cs:0xe01c\n"
    "  mov %esi, %cs:0xe020\n mov %edi, %cs:0xe024\n mov %esp, %cs:0xe028\n"
    "  cli\n cld\n mov %cr0, %ecx\n or $1, %ecx\n mov %ecx, %cr0\n"
    "  ljmpl $8, $real_back\n"
    /* Every vector's handler, 8 bytes each. */
    ".balign 8\n real_vectors: vector = 0\n .rept 32\n pushw $vector\n jmp real_trap\n .balign 8\n vector = vector + 1\n .endr\n"
    "real_trap: popw %cs:0xe000\n popw %cs:0xe002\n popw %cs:0xe004\n popw %cs:0xe006\n"
    "  push %ax\n pushf\n pop %ax\n mov %ax, %cs:0xe008\n pop %ax\n"
    "  mov %esp, %cs:0xe00c\n"
    "  push %ax\n mov %cs, %ax\n mov %ax, %ds\n mov %ax, %es\n pop %ax\n"
    "  push %cs\n pop %ss\n mov $0xd000, %esp\n jmp real_done\n"
    "real_ivt: .word 0x3ff\n .long 0\n"
    ".globl real_vectors, real_ivt\n"
#define REAL(name, text) ".globl r_" #name "\nr_" #name ": " text "\n ret\n"
#define REAL_AT(name) ".globl r_" #name "_at\nr_" #name "_at: "
    REAL(plain, "mov $0x1234, %ax")
    REAL(word_end, "mov $0xffff, %bx\n" REAL_AT(word_end) "mov (%bx), %ax")
    REAL(word_last, "mov $0xfffe, %bx\n mov (%bx), %ax")
    REAL(stack_end, "mov $0xffff, %bp\n mov (%bp), %ax")
    REAL(wide, "mov $0x10000, %edx\n mov (%edx), %al")
    REAL(wrap, "movb $0x77, 0xf001\n mov $0xf002, %bx\n mov $0xffff, %si\n xor %eax, %eax\n movb (%bx,%si), %al")
    REAL(lods_wrap, "mov $0xffff, %si\n lodsb")
    REAL(lods_down, "xor %si, %si\n std\n lodsb\n cld")
    REAL(push_wrap, "mov %esp, %edx\n mov $0xabcd0000, %esp\n push %ax\n mov %esp, %ecx\n mov %edx, %esp")
    REAL(push32, "mov %sp, %dx\n pushl $0x12345678\n sub %sp, %dx\n pop %ax\n pop %cx")
    REAL(ud, REAL_AT(ud) "ud2")
    REAL(div, "xor %bx, %bx\n" REAL_AT(div) "div %bx")
    REAL(int3, REAL_AT(int3) "int3")
    REAL(int_n, "sti\n" REAL_AT(int_n) "int $0x1f")
    REAL(into, "mov $0x7f, %al\n inc %al\n into")
    REAL(bound, "movw $5, 0xf010\n movw $9, 0xf012\n mov $10, %ax\n bound %ax, 0xf010")
    REAL(beyond_ivt, "lidtl %cs:short_ivt - real_blob\n int $0x40")
    "short_ivt: .word 0x7f\n .long 0\n"
    REAL(str, "str %ax") REAL(lldt, "lldt %ax") REAL(lar, "lar %ax, %cx") REAL(verr, "verr %ax") REAL(arpl, ".byte 0x63, 0xc0")
    REAL(lock, ".byte 0xf0, 0x90")
    REAL(cr0, "mov %cr0, %eax") REAL(smsw, "smsw %ax") REAL(sgdt, "sgdtl 0xf020") REAL(cpuid, "xor %eax, %eax\n cpuid")
    REAL(flags, "pushw $0x7002\n popf\n pushf\n pop %ax\n pushw $2\n popf")
    REAL(flags0, "pushw $0x0002\n popf\n pushf\n pop %ax")
    REAL(step, "pushw $0x0102\n popf\n" REAL_AT(step) "nop\n nop\n nop")
    REAL(lds, "movw $0x10, 0xf030\n movw $0x800, 0xf032\n lds 0xf030, %ax")
    REAL(far_call, "lcall $0x700, $1f - real_blob + 0x1000\n jmp 2f\n 1: mov %cs, %ax\n lret\n 2:")
    REAL(iret, "pushf\n push %cs\n push $1f - real_blob\n iret\n 1: mov $0x55, %ax")
    REAL(loop, "mov $3, %cx\n 1: inc %ax\n loop 1b")
    REAL(jcxz32, "mov $0x10000, %ecx\n mov $1, %ax\n jcxz 1f\n mov $2, %ax\n 1: jecxz 2f\n add $0x10, %ax\n 2:")
    REAL(enter, "mov %sp, %dx\n mov $0x1234, %bp\n enter $8, $0\n mov %bp, %ax\n sub %ax, %dx\n mov %sp, %cx\n sub %cx, %ax\n mov %ax, %cx\n leave")
    REAL(last_byte, "mov $0xffff, %bx\n movb $0x90, (%bx)\n mov $0xfffe, %bx\n movb $0xb8, (%bx)\n jmp *%bx")
    REAL(unreal, "mov $0x120000, %edx\n mov %es:(%edx), %eax")
    REAL(unreal_reload, "mov $0x800, %ax\n mov %ax, %es\n mov $0x118000, %edx\n mov %es:(%edx), %eax")
    REAL(a20_off, "in $0x92, %al\n and $~2, %al\n and $~1, %al\n out %al, $0x92\n mov $0xffff, %ax\n mov %ax, %es\n xor %ax, %ax\n mov %ax, %fs\n"
                  "mov %es:0x510, %eax\n mov %fs:0x500, %ecx\n mov %eax, %edx\n in $0x92, %al\n or $2, %al\n and $~1, %al\n out %al, $0x92\n mov %edx, %eax")
    REAL(a20_on, "mov $0xffff, %ax\n mov %ax, %es\n mov %es:0x510, %eax")
    "real_blob_end:\n .code32\n .popsection\n");

extern const u8 real_blob[], real_blob_end[], real_vectors[];
#define R(name) extern const u8 r_##name[];
R(plain) R(word_end) R(word_end_at) R(word_last) R(stack_end) R(wide) R(wrap) R(lods_wrap) R(lods_down) R(push_wrap) R(push32)
R(ud) R(ud_at) R(div) R(div_at) R(int3) R(int3_at) R(int_n) R(int_n_at) R(into) R(bound) R(beyond_ivt) R(str) R(lldt) R(lar) R(verr) R(arpl)
R(lock) R(cr0) R(smsw) R(sgdt) R(cpuid) R(flags) R(flags0) R(step) R(step_at) R(lds) R(far_call) R(iret) R(loop) R(jcxz32) R(enter)
R(last_byte) R(unreal) R(unreal_reload) R(a20_off) R(a20_on)
void real_call(u32 offset);
u32 real_esp;
struct table_pointer real_idt;
struct { u32 offset; u16 selector; } __attribute__((packed)) real_far = {0, 0x68};

struct result {
    u16 vector, ip, cs, flags, flags_now, unused;
    u32 sp_after, ax, bx, cx, dx, si, di, sp;
};
static volatile struct result *const r = (volatile struct result *)(BASE + RESULT);
#define OFFSET(p) ((u16)((p) - real_blob))

static u8 saved_ivt[1024];

/* LIMIT and attributes of the data segments before PE is cleared. */
static u16 real(const u8 *routine, bool unreal)
{
    u8 *ivt;
    asm("" : "=r"(ivt) : "0"(0));
    memcpy(saved_ivt, ivt, 1024);
    for (u32 i = 0; i < 256; i++)
        ((u32 *)(void *)ivt)[i] = 0x08000000u | (u16)(OFFSET(real_vectors) + (i & 31) * 8);
    memcpy((void *)BASE, real_blob, (size_t)(real_blob_end - real_blob));
    gdt[FREE_SELECTOR / 8] = descriptor(BASE, 0xffff, D_CODE);
    gdt[FREE_SELECTOR / 8 + 1] = unreal ? descriptor(0, 0xfffff, D_DATA | D_G)
                                 : descriptor(0, 0xffff, D_DATA);
    real_idt = (struct table_pointer){sizeof idt - 1, (word)idt};
    real_call(OFFSET(routine));
    memcpy(ivt, saved_ivt, 1024);
    return r->vector;
}
#define NO_VECTOR 0xffff

static void expect(const u8 *routine, unsigned vector, const u8 *at, const char *name)
{
    u16 got = real(routine, false);
    bool good = got == vector && (!at || r->ip == OFFSET(at));
    if (!ok(good, "%s", name)) note("vector %x at %x (%x)", got, r->ip, at ? OFFSET(at) : 0);
}

static void memory(void)
{
    expect(r_plain, NO_VECTOR, NULL, "there and back");
    is(r->ax & 0xffff, 0x1234, "AX");
    expect(r_word_last, NO_VECTOR, NULL, "a word at FFFEh");
    expect(r_word_end, 13, r_word_end_at, "a word at FFFFh: interrupt 13");
    expect(r_stack_end, 12, NULL, "a word at SS:FFFFh: interrupt 12");
    expect(r_wide, 13, NULL, "offset 10000h with a 32-bit address: interrupt 13");
    expect(r_wrap, NO_VECTOR, NULL, "BX + SI beyond 64 KiB");
    is(r->ax & 0xff, 0x77, "wraps");
    expect(r_lods_wrap, NO_VECTOR, NULL, "LODSB at FFFFh");
    is(r->si, 0, "wraps SI");
    expect(r_lods_down, NO_VECTOR, NULL, "LODSB downwards at 0");
    is(r->si, 0xffff, "wraps SI");
    expect(r_push_wrap, NO_VECTOR, NULL, "PUSH with SP 0");
    is(r->cx, 0xabcdfffe, "wraps SP and keeps the rest of ESP");
    expect(r_push32, NO_VECTOR, NULL, "PUSH of 32 bits");
    is(r->dx & 0xffff, 4, "takes 4 bytes");
    is((r->cx & 0xffff) << 16 | (r->ax & 0xffff), 0x12345678, "in order");
    expect(r_last_byte, 13, NULL, "an instruction over the end of CS: interrupt 13");
    is(r->ip, 0xfffe, "IP is its start");
}

static void interrupts(void)
{
    expect(r_ud, 6, r_ud_at, "UD2: interrupt 6 at the instruction");
    is(r->cs, 0x800, "CS in the frame");
    is(r->sp_after & 0xffff, 0xcffe, "three words, no error code");
    expect(r_div, 0, r_div_at, "DIV by zero: interrupt 0 at the instruction");
    expect(r_int3, 3, r_int3_at + 1, "INT3");
    expect(r_int_n, 0x1f, r_int_n_at + 2, "INT n");
    is(r->flags & 0x200, 0x200, "FLAGS in the frame");
    is(r->flags_now & 0x300, 0, "IF and TF are cleared");
    expect(r_into, 4, NULL, "INTO");
    expect(r_bound, 5, NULL, "BOUND");
    expect(r_beyond_ivt, 13, NULL, "INT beyond the table's limit: interrupt 13");
    expect(r_step, 1, r_step_at + 1, "single step");
    expect(r_str, 6, NULL, "STR: interrupt 6");
    expect(r_lldt, 6, NULL, "LLDT: interrupt 6");
    expect(r_lar, 6, NULL, "LAR: interrupt 6");
    expect(r_verr, 6, NULL, "VERR: interrupt 6");
    expect(r_arpl, 6, NULL, "ARPL: interrupt 6");
    expect(r_lock, 6, NULL, "LOCK NOP: interrupt 6");
}

static void rest(void)
{
    expect(r_cr0, NO_VECTOR, NULL, "MOV EAX, CR0");
    is(r->ax & 1, 0, "PE is clear");
    expect(r_smsw, NO_VECTOR, NULL, "SMSW");
    expect(r_sgdt, NO_VECTOR, NULL, "SGDT");
    is(*(u16 *)(BASE + 0xf020), GDT_ENTRIES * 8 - 1, "the GDT's limit");
    expect(r_cpuid, NO_VECTOR, NULL, "CPUID");
    expect(r_flags, NO_VECTOR, NULL, "POPF");
    is(r->ax & 0xf002, 0x7002, "IOPL and NT can be set");
    expect(r_flags0, NO_VECTOR, NULL, "POPF");
    is(r->ax & 0xf002, 2, "and cleared");
    expect(r_lds, NO_VECTOR, NULL, "LDS");
    is(r->ax & 0xffff, 0x10, "its offset");
    expect(r_far_call, NO_VECTOR, NULL, "far CALL and RET");
    is(r->ax & 0xffff, 0x700, "CS in between");
    expect(r_iret, NO_VECTOR, NULL, "IRET");
    is(r->ax & 0xffff, 0x55, "goes there");
    expect(r_loop, NO_VECTOR, NULL, "LOOP");
    is(r->ax & 0xffff, 3, "counts CX");
    expect(r_jcxz32, NO_VECTOR, NULL, "JCXZ and JECXZ");
    is(r->ax & 0xffff, 0x11, "look at CX and ECX");
    expect(r_enter, NO_VECTOR, NULL, "ENTER");
    is(r->dx & 0xffff, 2, "pushes 2 bytes");
    is(r->cx & 0xffff, 8, "and makes room");
}

/* Real mode keeps the limits that protected mode has loaded, through loads of segment registers
 * too. */
static void unreal(void)
{
    volatile u32 *high = (volatile u32 *)0x120000;
    u32 old = *high;
    *high = 0xcafebabe;
    is(real(r_unreal, true), NO_VECTOR, "ES with a limit of 4 GiB");
    is(r->ax, *(volatile u32 *)(0x120000 + BASE), "reads above 1 MiB");
    is(real(r_unreal_reload, true), NO_VECTOR, "ES loaded in real mode keeps it");
    is(r->ax, 0xcafebabe, "with its new base");
    *high = old;
}

static void a20(void)
{
    volatile u32 *low;
    asm("" : "=r"(low) : "0"(0x500));
    u32 old = *low;
    *low = 0x11112222;
    volatile u32 *high = (volatile u32 *)0x100500;
    u32 before = *high;
    real(r_a20_on, false);
    is(r->ax, before, "FFFF:0510 with A20 is 100500h");
    real(r_a20_off, false);
    is(r->ax, 0x11112222, "and 500h without");
    is(r->cx, 0x11112222, "which is itself");
    is(*high, before, "A20 is back");
    *low = old;
}

void guest_main(void)
{
    memory();
    interrupts();
    rest();
    unreal();
    a20();
}
