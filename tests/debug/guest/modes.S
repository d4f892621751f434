/*
 * A boot sector that goes from real through protected to long mode, to CPL 3 and back by SYSCALL, and then
 * goes round: what a debugger follows in one session.
 */
        .text
        .code16
        .globl  start, real, protected, long_mode, user, kernel_entry, round, counter, repeat, after_repeat
        .globl  shadow, after_shadow, fault, handler, page_loop, sti_at
start:  cli
        xorw    %ax, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %ss
        movw    $0x7c00, %sp
real:   movw    $0x1234, %bx
        movw    $0xb800, %cx
        movw    %cx, %fs
        inb     $0x92, %al              /* A20 */
        orb     $2, %al
        outb    %al, $0x92
        lgdt    gdt_pointer
        movl    %cr0, %eax
        orb     $1, %al
        movl    %eax, %cr0
        ljmpl   $8, $protected
        .code32
protected:
        movw    $16, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %ss
        movl    $0x10000, %edi          /* page tables: 2 MiB pages, everything for everybody */
        movl    %edi, %cr3
        xorl    %eax, %eax
        movl    $0x1000, %ecx
        rep     stosl
        movl    $0x11007, 0x10000
        movl    $0x12007, 0x11000
        movl    $0x87, 0x12000
        movl    $0x200087, 0x12008
        movl    $0x20, %eax
        movl    %eax, %cr4
        movl    $0xc0000080, %ecx
        rdmsr
        orl     $0x101, %eax            /* LME, SCE */
        wrmsr
        movl    %cr0, %eax
        orl     $0x80000000, %eax
        movl    %eax, %cr0
        ljmpl   $24, $long_mode
        .code64
long_mode:
        movl    $16, %eax
        movl    %eax, %ss
        movl    $0x7c00, %esp
        movl    $0xc0000081, %ecx       /* STAR: kernel 24, 16+; user 32+16, 32+8 */
        xorl    %eax, %eax
        movl    $0x00200018, %edx
        wrmsr
        incl    %ecx
        movl    $kernel_entry, %eax
        xorl    %edx, %edx
        wrmsr
        addl    $2, %ecx                /* SFMASK */
        movl    $0x200, %eax
        wrmsr
        lidt    idt_pointer
        movl    $handler, %eax          /* #UD's gate */
        movw    %ax, 0x9000 + 6 * 16
        movl    $0x8e000018, 0x9000 + 6 * 16 + 2
        movb    $0, 0x9000 + 6 * 16 + 4
        movb    $0x8e, 0x9000 + 6 * 16 + 5
        movw    $0, 0x9000 + 6 * 16 + 6
        movl    $user, %ecx
        movl    $0x2, %r11d
        sysretq
user:   incq    counter
        movl    $5, %ecx
        movl    $0x8000, %edi
        movb    $0x41, %al
repeat: rep     stosb
after_repeat:
        syscall
        jmp     user
kernel_entry:
        movq    %rcx, %r15
        movl    $16, %eax
sti_at: sti
        cli
shadow: movl    %eax, %ss
        incq    %rbx
after_shadow:
fault:  ud2
round:  movq    %r15, %rcx
        movl    $2, %r11d
        sysretq
handler:
        addq    $2, (%rsp)
        iretq

        .balign 4
gdt_pointer:
        .word   gdt_end - gdt - 1
        .long   gdt
gdt:    .quad   0, 0x00cf9a000000ffff, 0x00cf92000000ffff, 0x00af9a000000ffff
        .quad   0, 0x00cff2000000ffff, 0x00affa000000ffff
gdt_end:
idt_pointer:
        .word   0xfff
        .quad   0x9000
counter = 0x8800
        .org    510
        .word   0xaa55
