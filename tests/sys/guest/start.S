/*
 * Entry of a test guest (multiboot 1), exception stubs, calls with a net below them, and the other
 * processors' way up. The same file serves 64-bit guests (long mode, low 4 GiB identity mapped with
 * 2 MiB pages, user and writable) and 32-bit ones (protected mode, paging off).
 */
#include "guest.h"

        .section .multiboot, "a"
        .balign 4
header: .long   0x1badb002, 0x00010002, -(0x1badb002 + 0x00010002)
        .long   header, image_start, image_data_end, image_end, start

        .text
        .code32
        .globl  start
start:
        cli
        cld
        lgdt    gdt_pointer32
        ljmp    $KERNEL_CS32, $1f
1:      movl    $KERNEL_DS32, %eax
        movl    %eax, %ds
        movl    %eax, %es
        movl    %eax, %ss
        movl    %eax, %fs
        movl    %eax, %gs
        movl    %ebx, %esi
        movl    $image_data_end, %edi
        movl    $image_end, %ecx
        subl    %edi, %ecx
        xorl    %eax, %eax
        rep     stosb
        movl    %esi, multiboot_info
        movl    $stacks + STACK_SIZE, %esp
#ifdef __x86_64__
        /* Identity map: four page directories behind one another. */
        movl    $boot_directories, %edi
        movl    $0xe7, %eax             /* present, writable, user, accessed, dirty, large */
        xorl    %edx, %edx
2:      movl    %eax, (%edi)
        movl    %edx, 4(%edi)
        addl    $8, %edi
        addl    $0x200000, %eax
        jnc     2b
        movl    $boot_directories + 0x27, %eax
        movl    $boot_pdpt, %edi
        movl    $4, %ecx
3:      movl    %eax, (%edi)
        addl    $4096, %eax
        addl    $8, %edi
        loop    3b
        movl    $boot_pdpt + 0x27, boot_pml4
        movl    $boot_pml4, %eax
        movl    %eax, %cr3
        call    enter_long_mode
        ljmp    $KERNEL_CS, $4f
        .code64
4:      movl    $KERNEL_DS, %eax
        movl    %eax, %ds
        movl    %eax, %es
        movl    %eax, %ss
        xorl    %eax, %eax
        movl    %eax, %fs
        movl    %eax, %gs
        movabsq $stacks + STACK_SIZE, %rsp
        xorl    %edi, %edi
        call    guest_start
        .code32
enter_long_mode:
        movl    %cr4, %eax
        orl     $0x620, %eax            /* PAE, OSFXSR, OSXMMEXCPT */
        movl    %eax, %cr4
        movl    $0xc0000080, %ecx
        rdmsr
        orl     $0x901, %eax            /* SCE, LME, NXE */
        wrmsr
        movl    $0x80000033, %eax       /* PG, NE, ET, MP, PE */
        movl    %eax, %cr0
        ret
#else
        movl    $0x33, %eax
        movl    %eax, %cr0
        xorl    %eax, %eax
        call    guest_start
#endif

/* --- the other processors: copied to TRAMPOLINE, entered in real mode --- */
        .globl  trampoline, trampoline_end
        .code16
trampoline:
        cli
        xorw    %ax, %ax
        movw    %ax, %ds
        lgdtl   TRAMPOLINE + ap_gdt - trampoline
        movl    $0x33, %eax
        movl    %eax, %cr0
        ljmpl   $KERNEL_CS32, $ap32
        .balign 4
ap_gdt: .word   GDT_ENTRIES * 8 - 1
        .long   gdt
trampoline_end:
        .code32
ap32:   movl    $KERNEL_DS32, %eax
        movl    %eax, %ds
        movl    %eax, %es
        movl    %eax, %ss
        movl    $1, %ebx
        lock xaddl %ebx, ap_tickets     /* 1.. */
        cmpl    $MAX_CPUS, %ebx
        jae     ap_extra
        movl    %ebx, %esp
        incl    %esp
        imull   $STACK_SIZE, %esp
        addl    $stacks, %esp
#ifdef __x86_64__
        movl    $boot_pml4, %eax
        movl    %eax, %cr3
        call    enter_long_mode
        ljmp    $KERNEL_CS, $5f
        .code64
5:      movl    $KERNEL_DS, %eax
        movl    %eax, %ds
        movl    %eax, %es
        movl    %eax, %ss
        xorl    %eax, %eax
        movl    %eax, %fs
        movl    %eax, %gs
        movl    %ebx, %edi
#else
        movl    %ebx, %eax
#endif
        call    guest_start
ap_extra:
        cli
        hlt
        jmp     ap_extra

/* --- exception and interrupt stubs, 16 bytes each --- */
        .balign 16
        .globl  stubs
stubs:
        vector = 0
        .rept   256
        .balign 16
        .if     vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21
        nop
        nop
        .else
        push    $0
        .endif
        .if     vector < 128
        push    $vector
        .else
        push    $vector - 256
        .endif
        jmp     stub_common
        vector = vector + 1
        .endr
        .balign 16

#ifdef __x86_64__
stub_common:
        push    %rax
        push    %rbx
        push    %rcx
        push    %rdx
        push    %rsi
        push    %rdi
        push    %rbp
        push    %r8
        push    %r9
        push    %r10
        push    %r11
        push    %r12
        push    %r13
        push    %r14
        push    %r15
        cld
        movq    %rsp, %rdi
        movq    %rsp, %rbp
        andq    $-16, %rsp
        call    trap_entry
        movq    %rbp, %rsp
        .globl  frame_return
frame_return:
        pop     %r15
        pop     %r14
        pop     %r13
        pop     %r12
        pop     %r11
        pop     %r10
        pop     %r9
        pop     %r8
        pop     %rbp
        pop     %rdi
        pop     %rsi
        pop     %rdx
        pop     %rcx
        pop     %rbx
        pop     %rax
        addq    $16, %rsp
        iretq

/* run_call(fn, a, b, c): calls fn, comes back with RAX also when it trapped. */
        .globl  run_call, run_call_user, run_recover, user_entry
run_call:
        push    %rbx
        push    %rbp
        push    %r12
        push    %r13
        push    %r14
        push    %r15
        pushfq
        movq    %rsp, catch_sp
        movq    %rdi, %rax
        movq    %rsi, %rdi
        movq    %rdx, %rsi
        movq    %rcx, %rdx
        call    *%rax
        movq    %rax, run_result
run_recover:
        movq    catch_sp, %rsp
        movl    $KERNEL_DS, %eax
        movl    %eax, %ds
        movl    %eax, %es
        movl    %eax, %ss
        popfq
        pop     %r15
        pop     %r14
        pop     %r13
        pop     %r12
        pop     %rbp
        pop     %rbx
        ret
/* The same at CPL 3 with the flags in user_flags. */
run_call_user:
        push    %rbx
        push    %rbp
        push    %r12
        push    %r13
        push    %r14
        push    %r15
        pushfq
        movq    %rsp, catch_sp
        movq    %rdi, %rax
        movq    %rsi, %rdi
        movq    %rdx, %rsi
        movq    %rcx, %rdx
        pushq   $USER_DS
        pushq   user_sp
        pushq   user_flags
        pushq   $USER_CS
        pushq   $user_entry
        iretq
user_entry:
        call    *%rax
        int     $RETURN_VECTOR
#else
stub_common:
        pusha
        push    %ds
        push    %es
        push    %fs
        push    %gs
        movl    $KERNEL_DS32, %eax
        movl    %eax, %ds
        movl    %eax, %es
        movl    %eax, %fs
        movl    %eax, %gs
        cld
        movl    %esp, %eax
        call    trap_entry
        .globl  frame_return
frame_return:
        pop     %gs
        pop     %fs
        pop     %es
        pop     %ds
        popa
        addl    $8, %esp
        iret

        .globl  run_call, run_call_user, run_recover, user_entry
run_call:
        push    %ebx
        push    %ebp
        push    %esi
        push    %edi
        pushf
        movl    %esp, catch_sp
        movl    %eax, %ebx
        movl    %edx, %eax
        movl    %ecx, %edx
        call    *%ebx
        movl    %eax, run_result
run_recover:
        movl    $KERNEL_DS32, %eax
        movl    %eax, %ss
        movl    %cs:catch_sp, %esp
        movl    %eax, %ds
        movl    %eax, %es
        movl    %eax, %fs
        movl    %eax, %gs
        popf
        pop     %edi
        pop     %esi
        pop     %ebp
        pop     %ebx
        ret
run_call_user:
        push    %ebx
        push    %ebp
        push    %esi
        push    %edi
        pushf
        movl    %esp, catch_sp
        movl    %eax, %ebx
        movl    %edx, %eax
        movl    %ecx, %edx
        movl    $USER_DS, %ecx
        movl    %ecx, %ds
        movl    %ecx, %es
        movl    %ecx, %fs
        movl    %ecx, %gs
        pushl   $USER_DS
        pushl   %ss:user_sp
        pushl   %ss:user_flags
        pushl   $USER_CS
        pushl   $user_entry
        iret
user_entry:
        call    *%ebx
        int     $RETURN_VECTOR

/* Goes to where the struct frame at EAX says, also to virtual-8086 mode: run(frame_enter, frame). */
        .globl  frame_enter
frame_enter:
        movl    %eax, %esp
        jmp     frame_return
#endif

        .data
        .balign 16
        .globl  gdt, gdt_pointer32
gdt:    .quad   0
        .quad   0x00cf9b000000ffff      /* 08 code 32, DPL 0 */
        .quad   0x00cf93000000ffff      /* 10 data, DPL 0 */
        .quad   0x00af9b000000ffff      /* 18 code 64, DPL 0 */
        .quad   0x00cf93000000ffff      /* 20 data, DPL 0 */
        .quad   0x00cffb000000ffff      /* 28 code 32, DPL 3 */
        .quad   0x00cff3000000ffff      /* 30 data, DPL 3 */
        .quad   0x00affb000000ffff      /* 38 code 64, DPL 3 */
        .quad   0x00cff3000000ffff      /* 40 data, DPL 3 */
        .quad   0x00009b000000ffff      /* 48 code 16, DPL 0 */
        .quad   0x000093000000ffff      /* 50 data 16, DPL 0 */
        .quad   0, 0                    /* 58 TSS */
        .fill   GDT_ENTRIES - 13, 8, 0  /* 68.. for the tests */
gdt_pointer32:
        .word   GDT_ENTRIES * 8 - 1
        .long   gdt
        .long   0

        .globl  ap_tickets
        .balign 64
ap_tickets:
        .long   1

        .bss
        .balign 4096
        .globl  stacks, boot_pml4, boot_pdpt, boot_directories, multiboot_info
stacks: .skip   STACK_SIZE * MAX_CPUS
#ifdef __x86_64__
boot_pml4:
        .skip   4096
boot_pdpt:
        .skip   4096
boot_directories:
        .skip   4096 * 4
#endif
multiboot_info:
        .skip   8
        .section .note.GNU-stack, "", @progbits
