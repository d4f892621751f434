/* A boot sector for icount.pl: reads the disk, waits for timer ticks, notes the time-stamp counter all along,
 * takes random numbers, says a word on the serial port and switches off. */
        .code16
        .globl _start
_start: cli
        xorw %ax, %ax
        movw %ax, %ds
        movw %ax, %es
        movw %ax, %ss
        movw $0x7c00, %sp
        sti
        movw $0x1000, %di       /* where the notes go */
        movw $12, %bp
again:  movw $packet, %si       /* 16 sectors to 2000:0 */
        movb $0x42, %ah
        movb $0x80, %dl
        int $0x13
        jc bad
        addw $16, packet + 8
        call note
        hlt                     /* the next tick */
        call note
        rdrand %eax
        stosl
        decw %bp
        jnz again
        movw $word, %si
say:    lodsb
        testb %al, %al
        jz off
        movw $0x3f8, %dx
        outb %al, %dx
        jmp say
bad:    movw $wrong, %si
        jmp say
off:    movw $0x604, %dx        /* PIIX4: soft off */
        movw $0x2000, %ax
        outw %ax, %dx
stay:   hlt
        jmp stay
note:   rdtsc
        stosl
        movw %dx, %ax
        stosw
        ret
packet: .byte 16, 0
        .word 16, 0, 0x2000
        .quad 1
word:   .asciz "done\r\n"
wrong:  .asciz "disk error\r\n"
        .org 510
        .word 0xaa55
