/*
 * Option ROM that starts a kernel given with -kernel, after the firmware has set the machine up.
 *
 * The emulator leaves a plan in fw_cfg item 8010h: what to copy where (by fw_cfg DMA), whether the
 * guest wants the BIOS memory map written somewhere, and how to enter: a Linux real-mode set-up
 * segment, or 32-bit protected mode with paging off (multiboot 1, PVH). See machine/boot.c for the
 * other end. The ROM is a PnP BEV device so that it takes its place in the firmware's boot order.
 *
 * Plan (little-endian dwords at 6000h, below where kernels are loaded): magic, kind, entry, EAX, EBX,
 * SP, map, count, stride, loads, then {item, length, destination} a load.
 */
#define PLAN            0x6000
#define PLAN_KIND       (PLAN + 4)
#define PLAN_ENTRY      (PLAN + 8)
#define PLAN_EAX        (PLAN + 12)
#define PLAN_EBX        (PLAN + 16)
#define PLAN_SP         (PLAN + 20)
#define PLAN_MAP        (PLAN + 24)
#define PLAN_COUNT      (PLAN + 28)
#define PLAN_STRIDE     (PLAN + 32)
#define PLAN_LOADS      (PLAN + 36)
#define PLAN_LIST       (PLAN + 40)
#define PLAN_SIZE       2048
#define PLAN_ITEM       0x8010
#define DMA             0x5e00  /* control, length, address high, address low: all big-endian */
#define SCRATCH         0x5f00
#define STACK           0x5c00
#define FW_CFG_DMA_LOW  0x518
#define DMA_READ_SELECT 0x0a

        .code16
        .text
        .globl  _start
_start:
        .byte   0x55, 0xaa
        .byte   ROM_SIZE / 512
        lret                            /* nothing to initialise */
        .org    0x1a
        .word   pnp
        .org    0x20
pnp:
        .ascii  "$PnP"
        .byte   1, 2                    /* revision, length in 16 bytes */
        .word   0                       /* no next header */
        .byte   0
        .byte   0                       /* checksum: made by the build */
        .long   0
        .word   maker, product
        .byte   2, 0, 0                 /* a mass storage boot device */
        .byte   0x04                    /* may boot */
        .word   0, 0
        .word   boot                    /* BEV */
        .word   0, 0
maker:  .asciz  "Lyrebird"
product:.asciz  "Kernel"

        /* AX item, EBX length, ECX destination. */
dma_read:
        shll    $16, %eax
        orl     $DMA_READ_SELECT, %eax
        bswapl  %eax
        movl    %eax, DMA
        movl    %ebx, %eax
        bswapl  %eax
        movl    %eax, DMA + 4
        movl    $0, DMA + 8
        movl    %ecx, %eax
        bswapl  %eax
        movl    %eax, DMA + 12
        movl    $DMA, %eax
        bswapl  %eax
        movw    $FW_CFG_DMA_LOW, %dx
        outl    %eax, %dx
1:      movl    DMA, %eax
        bswapl  %eax
        testl   $~1, %eax               /* bit 0: error; then there is nothing better to do */
        jnz     1b
        ret

boot:
        cli
        cld
        xorw    %ax, %ax
        movw    %ax, %ss
        movw    $STACK, %sp
        movw    %ax, %ds
        movw    %ax, %es
        movw    $PLAN_ITEM, %ax
        movl    $PLAN_SIZE, %ebx
        movl    $PLAN, %ecx
        call    dma_read

        movw    $PLAN_LIST, %si
        movl    PLAN_LOADS, %edi
2:      testl   %edi, %edi
        jz      3f
        movw    (%si), %ax
        movl    4(%si), %ebx
        movl    8(%si), %ecx
        call    dma_read
        addw    $12, %si
        decl    %edi
        jmp     2b

3:      cmpl    $0, PLAN_MAP
        je      enter
        /* The BIOS memory map, 24 bytes an entry. */
        movl    PLAN_MAP, %eax
        movw    %ax, %di
        andw    $15, %di
        shrl    $4, %eax
        movw    %ax, %es
        xorl    %ebx, %ebx
        xorl    %ebp, %ebp              /* entries */
4:      movl    $0xe820, %eax
        movl    $20, %ecx
        movl    $0x534d4150, %edx
        int     $0x15
        jc      5f
        incl    %ebp
        addw    $24, %di
        testl   %ebx, %ebx
        jnz     4b
5:      cli
        movl    %ebp, %eax
        mull    PLAN_STRIDE
        movl    PLAN_COUNT, %ebx
        movw    %bx, %di
        andw    $15, %di
        shrl    $4, %ebx
        movw    %bx, %es
        movl    %eax, %es:(%di)

enter:
        cmpl    $0, PLAN_KIND
        jne     flat
        /* Linux: every segment is the set-up segment, entry 20h paragraphs in. */
        movl    PLAN_SP, %ecx
        movl    PLAN_ENTRY, %eax
        movw    %ax, %ss
        movl    %ecx, %esp
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %fs
        movw    %ax, %gs
        addw    $0x20, %ax
        pushw   %ax
        pushw   $0
        xorl    %eax, %eax
        xorl    %ebx, %ebx
        xorl    %edx, %edx
        xorl    %esi, %esi
        xorl    %edi, %edi
        xorl    %ebp, %ebp
        lret

flat:
        xorl    %eax, %eax
        movw    %cs, %ax
        shll    $4, %eax                /* where this ROM is */
        leal    gdt(%eax), %ecx
        movw    $gdt_end - gdt - 1, SCRATCH
        movl    %ecx, SCRATCH + 2
        leal    flat32(%eax), %ecx
        movl    %ecx, SCRATCH + 8
        movw    $8, SCRATCH + 12
        lgdtl   SCRATCH
        movl    %cr0, %eax
        orl     $1, %eax
        movl    %eax, %cr0
        ljmpl   *SCRATCH + 8

        .code32
flat32:
        movl    $16, %eax
        movl    %eax, %ds
        movl    %eax, %es
        movl    %eax, %ss
        movl    %eax, %fs
        movl    %eax, %gs
        movl    $STACK, %esp
        movl    PLAN_ENTRY, %esi
        movl    PLAN_EBX, %ebx
        movl    PLAN_EAX, %eax
        xorl    %ebp, %ebp
        jmp     *%esi

        .balign 8
gdt:    .quad   0
        .quad   0x00cf9b000000ffff      /* code, flat */
        .quad   0x00cf93000000ffff      /* data, flat */
gdt_end:
        .org    ROM_SIZE - 1
        .byte   0                       /* checksum: made by the build */
