/*
 * The system half of the processor on a bare bus: walks, TLB, delivery, far transfers, tasks, SMM,
 * debug registers, CPUID and MSRs. Guests are a few hand-assembled bytes.
 */
#include "cpu/cpuid.h"
#include "cpu/debug.h"
#include "cpu/flags.h"
#include "cpu/intr.h"
#include "cpu/mem.h"
#include "cpu/smm.h"
#include "cpu/sys.h"
#include "machine/bus_host.h"
#include "machine/error.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define RAM MIB(8)
#define CODE 0x10000u
#define STACK 0x20000u
#define DATA 0x30000u
#define GDT 0x1000u
#define IDT 0x2000u
#define TSS 0x3000u
#define TSS2 0x3800u
#define PML4 0x4000u
#define HANDLER 0x9000u /* + 16 * vector: HLT */
#define USER_STACK 0x28000u

enum { CS0 = 0x08, DS0 = 0x10, CS3 = 0x1b, DS3 = 0x23, TSS_SEL = 0x28, GATE_SEL = 0x38,
       TSS2_SEL = 0x40,
       CS32 = 0x48, DS_RO = 0x50, CS16 = 0x58, DS_DOWN = 0x60 };

struct guest {
    struct bus *bus;
    struct vcpu *cpu;
    struct region region;
    u8 *ram;
};

static int setup(void **state)
{
    struct guest *g = calloc(1, sizeof(*g));
    struct error error;
    g->bus = bus_new(RAM, MIB(1), NULL, &error);
    if (!g->bus) return -1;
    g->ram = bus_alloc_memory(g->bus, RAM, "ram");
    region_init_memory(&g->region, g->ram, RAM, false, "ram");
    bus_map(g->bus, BUS_MEMORY, &g->region, 0, LAYER_RAM);
    g->cpu = cpu_new(0, g->bus, NULL);
    if (!cpu_set_model(g->cpu, "max", &error)) return -1;
    cpu_reset(g->cpu);
    *state = g;
    return 0;
}

static int teardown(void **state)
{
    struct guest *g = *state;
    cpu_free(g->cpu);
    bus_free(g->bus);
    free(g);
    return 0;
}

static u64 descriptor(u32 base, u32 limit, u32 type, u32 flags)
{
    return (limit & 0xffff) | (u64)(base & 0xffffff) << 16 | (u64)type << 40 |
           (u64)(limit >> 16 & 15) << 48 | (u64)flags << 52 | (u64)(base >> 24) << 56;
}

static void tables(struct guest *g, bool wide)
{
    u8 *gdt = g->ram + GDT;
    st64(gdt + CS0, descriptor(0, 0xfffff, 0x9b, wide ? 0xa : 0xc));
    st64(gdt + DS0, descriptor(0, 0xfffff, 0x93, 0xc));
    st64(gdt + (CS3 & ~3), descriptor(0, 0xfffff, 0xfb, wide ? 0xa : 0xc));
    st64(gdt + (DS3 & ~3), descriptor(0, 0xfffff, 0xf3, 0xc));
    st64(gdt + TSS_SEL, descriptor(TSS, 0x7ff, 0x89, 0));
    st64(gdt + TSS_SEL + 8, 0);
    st64(gdt + TSS2_SEL, wide ? 0 : descriptor(TSS2, 0x67, 0x89, 0));
    st64(gdt + CS32, descriptor(0, 0xfffff, 0x9b, 0xc));
    st64(gdt + DS_RO, descriptor(0, 0xfff, 0x91, 0x4));
    st64(gdt + CS16, descriptor(0, 0xffff, 0x9b, 0));
    st64(gdt + DS_DOWN, descriptor(0, 0xfff, 0x97, 0x4));
    for (unsigned i = 0; i < 256; i++) {
        u32 to = HANDLER + 16 * (i & 63);
        u64 gate = (to & 0xffff) | (u64)CS0 << 16 | 0x8e00ull << 32;
        if (i == 3 || i == 0x30) gate |= 0x6000ull << 32;
        st64(g->ram + IDT + i * (wide ? 16 : 8), gate);
        if (wide) st64(g->ram + IDT + i * 16 + 8, 0);
        g->ram[to] = 0xf4;
    }
}

static void load_segment(struct vcpu *cpu, unsigned seg, u16 selector, u32 attr)
{
    cpu->seg[seg] = (struct segment){.limit = 0xffffffff, .attr = attr, .selector = selector};
}

static void common(struct guest *g, u32 cs_attr, unsigned cpl)
{
    struct vcpu *cpu = g->cpu;
    u32 dpl = cpl << SEG_DPL_SHIFT;
    load_segment(cpu, CS, cpl ? CS3 : CS0, cs_attr | dpl);
    static const u8 data[] = {SS, DS, ES, FS, GS};
    for (unsigned i = 0; i < 5; i++) load_segment(cpu, data[i], cpl ? DS3 : DS0, 0xc093 | dpl);
    cpu->seg[TR] = (struct segment){.base = TSS, .limit = 0x7ff, .attr = 0x8b, .selector = TSS_SEL};
    cpu->gdt_base = GDT, cpu->gdt_limit = 0xff;
    cpu->idt_base = IDT, cpu->idt_limit = 0xfff;
    cpu->cpl = (u8)cpl;
    cpu->regs[RSP] = cpl ? USER_STACK : STACK;
    cpu->rip = CODE;
    cpu->activity = CPU_RUNNING;
    tlb_reset(cpu);
    cpu_update_mode(cpu);
}

static void start32(struct guest *g, unsigned cpl)
{
    cpu_reset(g->cpu);
    tables(g, false);
    g->cpu->cr0 = CR0_PE | CR0_ET;
    st32(g->ram + TSS + 4, STACK), st32(g->ram + TSS + 8, DS0);
    st16(g->ram + TSS + 0x66, 0x68);
    memset(g->ram + TSS + 0x68, 0xff, 0x100);
    common(g, 0xc09b, cpl);
}

/* Identity map of 2 MiB pages, user, present, writable. */
static void start64(struct guest *g, unsigned cpl)
{
    cpu_reset(g->cpu);
    tables(g, true);
    memset(g->ram + PML4, 0, 0x4000);
    st64(g->ram + PML4, (PML4 + 0x1000) | 7);
    st64(g->ram + PML4 + 0x1000, (PML4 + 0x2000) | 7);
    for (u64 i = 0; i < 4; i++) st64(g->ram + PML4 + 0x2000 + i * 8, i << 21 | 0x87);
    st64(g->ram + TSS + 4, STACK), st64(g->ram + TSS + 0x24, STACK - 0x1000);
    g->cpu->cr3 = PML4;
    g->cpu->cr4 = CR4_PAE;
    g->cpu->cr0 = CR0_PE | CR0_PG | CR0_WP | CR0_ET;
    g->cpu->efer = EFER_LME | EFER_LMA | EFER_NXE | EFER_SCE;
    common(g, 0xa09b, cpl);
}

/* The 2 MiB region 0 as 4 KiB pages, by a table at PML4 + 3000h. */
static u8 *split_pages(struct guest *g)
{
    u8 *pt = g->ram + PML4 + 0x3000;
    for (u64 i = 0; i < 512; i++) st64(pt + i * 8, i << 12 | 7);
    st64(g->ram + PML4 + 0x2000, (PML4 + 0x3000) | 7);
    tlb_flush_all(g->cpu);
    return pt;
}

static void run(struct guest *g, const void *code, size_t size, unsigned count)
{
    memcpy(g->ram + CODE, code, size);
    tlb_reset(g->cpu);
    if (memory_is_code(g->cpu->memory, g->ram + CODE))
        memory_code_written(g->cpu->memory, g->ram + CODE, 4096);
    g->cpu->rip = CODE;
    g->cpu->budget = count;
    cpu_run(g->cpu);
}
#define RUN(g, count, ...)                                                                         \
    do {                                                                                           \
        static const u8 code_[] = {__VA_ARGS__};                                                   \
        run(g, code_, sizeof(code_), count);                                                       \
    } while (0)

static void assert_vector(struct guest *g, unsigned vector)
{
    assert_int_equal(g->cpu->activity, CPU_HALTED);
    assert_int_equal(g->cpu->rip, HANDLER + 16 * vector + 1);
}
static u64 stack64(struct guest *g, unsigned n) { return ld64(g->ram + g->cpu->regs[RSP] + n * 8); }
static u32 stack32(struct guest *g, unsigned n) { return ld32(g->ram + g->cpu->regs[RSP] + n * 4); }

/* --- walks and the TLB --- */

static void walk_rights(void **state)
{
    struct guest *g = *state;
    struct walk w;
    start64(g, 0);
    u8 *pt = split_pages(g);
    st64(pt + 0x30 * 8, 0x30000 | 1);                /* supervisor, read-only */
    st64(pt + 0x31 * 8, 0x31000 | 5 | 1ull << 63);   /* user, read-only, NX */
    st64(pt + 0x32 * 8, 0);
    st64(pt + 0x33 * 8, 0x33000 | 7 | 1ull << 45);   /* reserved */
    struct vcpu *cpu = g->cpu;
    assert_true(mmu_walk(cpu, 0x30123, ACCESS_READ, TLB_KERNEL, false, &w));
    assert_int_equal(w.physical, 0x30000);
    assert_int_equal(ld64(pt + 0x30 * 8), 0x30021);
    assert_false(mmu_walk(cpu, 0x30123, ACCESS_WRITE, TLB_KERNEL, false, &w));
    assert_int_equal(w.error, 3);
    assert_false(mmu_walk(cpu, 0x30123, ACCESS_READ, TLB_USER, false, &w));
    assert_int_equal(w.error, 5);
    assert_false(mmu_walk(cpu, 0x31000, ACCESS_EXECUTE, TLB_USER, false, &w));
    assert_int_equal(w.error, 0x15);
    assert_false(mmu_walk(cpu, 0x31000, ACCESS_WRITE, TLB_USER, false, &w));
    assert_int_equal(w.error, 7);
    assert_false(mmu_walk(cpu, 0x32000, ACCESS_WRITE, TLB_KERNEL, false, &w));
    assert_int_equal(w.error, 2);
    assert_false(mmu_walk(cpu, 0x33000, ACCESS_READ, TLB_KERNEL, false, &w));
    assert_int_equal(w.error, 9);
    assert_true(mmu_walk(cpu, 0x34000, ACCESS_READ, TLB_USER, false, &w));
    assert_int_equal(w.flags & TLB_WRITABLE, 0);
    assert_true(mmu_walk(cpu, 0x34000, ACCESS_WRITE, TLB_USER, false, &w));
    assert_int_equal(w.flags & TLB_WRITABLE, TLB_WRITABLE);
    assert_int_equal(ld64(pt + 0x34 * 8), 0x34067);
    cpu->cr0 &= ~CR0_WP;
    assert_true(mmu_walk(cpu, 0x30123, ACCESS_WRITE, TLB_KERNEL, false, &w));
    cpu->cr4 |= CR4_SMAP | CR4_SMEP;
    assert_false(mmu_walk(cpu, 0x34000, ACCESS_READ, TLB_KERNEL, false, &w));
    assert_true(mmu_walk(cpu, 0x34000, ACCESS_READ, TLB_KERNEL_AC, false, &w));
    assert_false(mmu_walk(cpu, 0x34000, ACCESS_EXECUTE, TLB_KERNEL_AC, false, &w));
    assert_int_equal(w.error, 0x11);
}

static void walk_legacy(void **state)
{
    struct guest *g = *state;
    struct walk w;
    start32(g, 0);
    struct vcpu *cpu = g->cpu;
    cpu->cr0 |= CR0_PG;
    cpu->cr3 = 0x100000;
    st32(g->ram + 0x100000 + 4, 0x101000 | 3);
    st32(g->ram + 0x101000 + 8, 0x55000 | 1);
    assert_true(mmu_walk(cpu, 0x402123, ACCESS_READ, TLB_KERNEL, false, &w));
    assert_int_equal(w.physical, 0x55000);
    cpu->cr4 = CR4_PSE;
    st32(g->ram + 0x100000 + 8, 0x400000 | 0x83 | 5 << 13); /* PSE-36 */
    assert_true(mmu_walk(cpu, 0x800000 + 0x5678, ACCESS_WRITE, TLB_KERNEL, false, &w));
    assert_int_equal(w.physical, 0x500405000ull);
    cpu->cr4 = CR4_PAE;
    st64(g->ram + 0x102000, 0x103000 | 1);
    st64(g->ram + 0x103000, 0x104000 | 3);
    st64(g->ram + 0x104000 + 8, 0x200055000ull | 3);
    assert_true(cr3_load(cpu, 0x102000));
    assert_true(mmu_walk(cpu, 0x1fff, ACCESS_WRITE, TLB_KERNEL, false, &w));
    assert_int_equal(w.physical, 0x200055000ull);
    st64(g->ram + 0x102000, 0x103000 | 3);
    assert_false(cr3_load(cpu, 0x102000));
    assert_int_equal(cpu->exception.vector, VECTOR_GP);
}

static void crossing_write_is_precise(void **state)
{
    struct guest *g = *state;
    start64(g, 0);
    u8 *pt = split_pages(g);
    st64(pt + 0x31 * 8, 0x31000 | 1);
    memset(g->ram + 0x30ff0, 0xaa, 0x20);
    assert_false(lin_write(g->cpu, 0x30ffc, 8, 0));
    assert_int_equal(g->cpu->exception.address, 0x31000);
    assert_int_equal(g->cpu->exception.error, 3);
    assert_int_equal(ld64(g->ram + 0x30ffc), 0xaaaaaaaaaaaaaaaaull);
    st64(pt + 0x31 * 8, 0x40000 | 3);
    assert_true(lin_write(g->cpu, 0x30ffc, 8, 0x1122334455667788ull));
    assert_int_equal(ld32(g->ram + 0x30ffc), 0x55667788);
    assert_int_equal(ld32(g->ram + 0x40000), 0x11223344);
    u64 value;
    assert_true(lin_read(g->cpu, 0x30ffc, 8, &value));
    assert_int_equal(value, 0x1122334455667788ull);
}

static void flushes(void **state)
{
    struct guest *g = *state;
    u64 value;
    start64(g, 0);
    g->cpu->cr4 |= CR4_PGE;
    u8 *pt = split_pages(g);
    st64(pt + 0x30 * 8, 0x30000 | 0x103), st64(pt + 0x31 * 8, 0x31000 | 3);
    st32(g->ram + 0x40000, 4), st32(g->ram + 0x30000, 1), st32(g->ram + 0x31000, 2);
    assert_true(lin_read(g->cpu, 0x30000, 4, &value) && lin_read(g->cpu, 0x31000, 4, &value));
    st64(pt + 0x30 * 8, 0x40000 | 0x103), st64(pt + 0x31 * 8, 0x40000 | 3);
    tlb_flush_non_global(g->cpu);
    assert_true(lin_read(g->cpu, 0x30000, 4, &value));
    assert_int_equal(value, 1);
    assert_true(lin_read(g->cpu, 0x31000, 4, &value));
    assert_int_equal(value, 4);
    tlb_flush_page(g->cpu, 0x30008);
    assert_true(lin_read(g->cpu, 0x30000, 4, &value));
    assert_int_equal(value, 4);
    /* any address of a large page drops all of it */
    assert_true(lin_read(g->cpu, 0x200000, 4, &value));
    st32(g->ram + 0x400000, 9);
    st64(g->ram + PML4 + 0x2000 + 8, 0x400000 | 0x83);
    tlb_flush_page(g->cpu, 0x3ff000);
    assert_true(lin_read(g->cpu, 0x200000, 4, &value));
    assert_int_equal(value, 9);
}

static void code_pages_take_the_slow_path(void **state)
{
    struct guest *g = *state;
    start64(g, 0);
    /* mov byte [rip+0], 0x90 ; the byte behind is an int3 turned into a nop ; hlt */
    RUN(g, 10, 0xc6, 0x05, 0, 0, 0, 0, 0x90, 0xcc, 0xf4);
    assert_int_equal(g->cpu->activity, CPU_HALTED);
    /* the displacement counts from the next instruction */
    assert_int_equal(g->ram[CODE + 7], 0x90);
    assert_int_equal(g->cpu->rip, CODE + 9);
}

/* --- delivery --- */

static void page_fault_64(void **state)
{
    struct guest *g = *state;
    start64(g, 3);
    u8 *pt = split_pages(g);
    st64(pt + 0x32 * 8, 0);
    g->cpu->regs[RBX] = 0x32008;
    g->cpu->eflags = FLAG_IF;
    RUN(g, 10, 0x90, 0x48, 0x89, 0x03); /* nop; mov [rbx], rax */
    assert_vector(g, 14);
    assert_int_equal(g->cpu->cr2, 0x32008);
    assert_int_equal(stack64(g, 0), 6);
    assert_int_equal(stack64(g, 1), CODE + 1);
    assert_int_equal(stack64(g, 2), CS3);
    assert_int_equal(stack64(g, 3), 0x10202);
    assert_int_equal(stack64(g, 4), USER_STACK);
    assert_int_equal(stack64(g, 5), DS3);
    assert_int_equal(g->cpu->regs[RSP], STACK - 48);
    assert_int_equal(g->cpu->cpl, 0);
    assert_int_equal(g->cpu->seg[SS].selector, 0);
}

static void non_canonical(void **state)
{
    struct guest *g = *state;
    start64(g, 0);
    g->cpu->regs[RBX] = 1ull << 63;
    RUN(g, 10, 0x48, 0x8b, 0x03); /* mov rax, [rbx] */
    assert_vector(g, 13);
    start64(g, 3);
    g->cpu->regs[RBP] = 1ull << 63;
    RUN(g, 10, 0x48, 0x8b, 0x45, 0x00); /* mov rax, [rbp] */
    assert_vector(g, 12);
    start64(g, 3);
    g->cpu->regs[RSP] = 1ull << 63;
    RUN(g, 10, 0x50); /* push rax */
    assert_vector(g, 12);
    start64(g, 3);
    g->cpu->regs[RBX] = 1ull << 63;
    RUN(g, 10, 0xff, 0xe3); /* jmp rbx */
    assert_vector(g, 13);
}

static void double_and_triple_fault(void **state)
{
    struct guest *g = *state;
    start64(g, 0);
    st64(g->ram + IDT + 14 * 16, 0); /* #PF → #NP → #DF */
    split_pages(g);
    st64(g->ram + PML4 + 0x3000 + 0x32 * 8, 0);
    g->cpu->regs[RBX] = 0x32000;
    RUN(g, 10, 0x8a, 0x03);
    assert_vector(g, 8);
    assert_int_equal(stack64(g, 0), 0);
    start64(g, 0);
    g->cpu->idt_limit = 0;
    memcpy(g->ram + CODE, "\x0f\x0b", 2);
    tlb_reset(g->cpu);
    g->cpu->budget = 10;
    assert_int_equal(cpu_run(g->cpu), CPU_EXIT_TRIPLE_FAULT);
}

static void ist_and_iret(void **state)
{
    struct guest *g = *state;
    start64(g, 3);
    st64(g->ram + IDT + 0x30 * 16, ld64(g->ram + IDT + 0x30 * 16) | 1ull << 32); /* IST 1 */
    g->ram[HANDLER + 16 * 0x30] = 0x48, g->ram[HANDLER + 16 * 0x30 + 1] = 0xcf;       /* iretq */
    g->cpu->regs[RSP] = USER_STACK - 3;
    RUN(g, 2, 0xcd, 0x30, 0x90);
    assert_int_equal(g->cpu->rip, CODE + 2);
    assert_int_equal(g->cpu->cpl, 3);
    assert_int_equal(g->cpu->regs[RSP], USER_STACK - 3);
    assert_int_equal(g->cpu->seg[SS].selector, DS3);
    assert_int_equal(ld64(g->ram + STACK - 0x1000 - 8), DS3);
    RUN(g, 10, 0xcd, 0x31); /* DPL 0 */
    assert_vector(g, 13);
    assert_int_equal(stack64(g, 0), 0x31 * 8 + 2);
}

static void system_calls(void **state)
{
    struct guest *g = *state;
    start64(g, 3);
    g->cpu->star = (u64)0x13 << 48 | (u64)CS0 << 32;
    g->cpu->lstar = CODE + 16;
    g->cpu->sfmask = FLAG_IF;
    g->cpu->eflags = FLAG_IF;
    static const u8 code[] = {0x0f, 0x05, 0x90, [16] = 0x48, 0x0f, 0x07};
    run(g, code, sizeof(code), 1);
    assert_int_equal(g->cpu->rip, CODE + 16);
    assert_int_equal(g->cpu->cpl, 0);
    assert_int_equal(g->cpu->regs[RCX], CODE + 2);
    assert_int_equal(g->cpu->regs[R11], FLAG_IF | 2);
    assert_int_equal(g->cpu->eflags & FLAG_IF, 0);
    g->cpu->budget = 1;
    cpu_run(g->cpu);
    assert_int_equal(g->cpu->rip, CODE + 2);
    assert_int_equal(g->cpu->cpl, 3);
    assert_int_equal(g->cpu->seg[CS].selector, 0x23);
    assert_int_equal(g->cpu->seg[SS].selector, 0x1b);
    assert_int_equal(g->cpu->code_size, CODE64);
}

static void privilege_32(void **state)
{
    struct guest *g = *state;
    start32(g, 3);
    RUN(g, 10, 0xfa); /* cli, IOPL 0 */
    assert_vector(g, 13);
    assert_int_equal(stack32(g, 0), 0);
    assert_int_equal(stack32(g, 1), CODE);
    assert_int_equal(stack32(g, 4), USER_STACK);
    start32(g, 3);
    RUN(g, 10, 0xcd, 0x30);
    assert_vector(g, 0x30);
    assert_int_equal(stack32(g, 0), CODE + 2);
    start32(g, 3);
    RUN(g, 10, 0xe4, 0x80); /* in al, 80h: bitmap all ones */
    assert_vector(g, 13);
    start32(g, 3);
    g->ram[TSS + 0x68 + 0x10] = 0xfe;
    RUN(g, 1, 0xe4, 0x80);
    assert_int_equal(g->cpu->rip, CODE + 2);
    assert_int_equal(g->cpu->regs[RAX] & 0xff, 0xff);
}

static void segment_limits(void **state)
{
    struct guest *g = *state;
    start32(g, 0);
    RUN(g, 3, 0x66, 0xb8, DS_RO, 0, 0x8e, 0xd8, 0xa1, 0xfc, 0x0f, 0, 0); /* mov eax,[0ffch] */
    assert_int_equal(g->cpu->rip, CODE + 11);
    RUN(g, 10, 0xa1, 0xfd, 0x0f, 0, 0);
    assert_vector(g, 13);
    start32(g, 0);
    RUN(g, 10, 0x66, 0xb8, DS_RO, 0, 0x8e, 0xd8, 0xa3, 0, 0, 0, 0); /* read-only */
    assert_vector(g, 13);
    start32(g, 0);
    RUN(g, 10, 0x66, 0xb8, DS_RO, 0, 0x8e, 0xd0); /* mov ss */
    assert_vector(g, 13);
    assert_int_equal(stack32(g, 0), DS_RO);
    start32(g, 0);
    RUN(g, 3, 0x66, 0xb8, DS_DOWN, 0, 0x8e, 0xd8, 0xa1, 0, 0x10, 0, 0);
    assert_int_equal(g->cpu->rip, CODE + 11);
    RUN(g, 10, 0xa1, 0xff, 0x0f, 0, 0);
    assert_vector(g, 13);
    start32(g, 0);
    RUN(g, 10, 0x2e, 0xa3, 0, 0, 3, 0); /* mov cs:[30000h], eax */
    assert_vector(g, 13);
}

/* --- far transfers, tasks, vm86 --- */

static void call_gate_to_inner(void **state)
{
    struct guest *g = *state;
    start32(g, 3);
    /* 32-bit gate, DPL 3, one parameter, to CS0:CODE+32 */
    st64(g->ram + GDT + GATE_SEL, ((CODE + 32) & 0xffff) | (u64)CS0 << 16 | 1ull << 32 |
                                      0xecull << 40 | (u64)((CODE + 32) >> 16) << 48);
    static const u8 code[] = {0x68, 0x78, 0x56, 0x34, 0x12, 0x9a, 0, 0, 0, 0, GATE_SEL | 3, 0, 0x90,
                              [32] = 0xca, 4, 0}; /* push; lcall; … retf 4 */
    run(g, code, sizeof(code), 2);
    assert_int_equal(g->cpu->rip, CODE + 32);
    assert_int_equal(g->cpu->cpl, 0);
    assert_int_equal(stack32(g, 0), CODE + 12);
    assert_int_equal(stack32(g, 1), CS3);
    assert_int_equal(stack32(g, 2), 0x12345678);
    assert_int_equal(stack32(g, 3), USER_STACK - 4);
    assert_int_equal(stack32(g, 4), DS3);
    g->cpu->budget = 1;
    cpu_run(g->cpu);
    assert_int_equal(g->cpu->rip, CODE + 12);
    assert_int_equal(g->cpu->cpl, 3);
    assert_int_equal(g->cpu->regs[RSP], USER_STACK);
    assert_int_equal(g->cpu->seg[DS].selector, DS3);
}

static void task_call_and_return(void **state)
{
    struct guest *g = *state;
    start32(g, 0);
    u8 *t = g->ram + TSS2;
    memset(t, 0, 0x68);
    st32(t + 0x20, CODE + 32), st32(t + 0x24, 2), st32(t + 0x28, 77), st32(t + 0x38, 0x50000);
    st16(t + 0x48, DS0), st16(t + 0x4c, CS0), st16(t + 0x50, DS0), st16(t + 0x54, DS0);
    static const u8 code[] = {0x9a, 0, 0, 0, 0, TSS2_SEL, 0, 0x90, [32] = 0xcf};
    g->ram[GDT + TSS_SEL + 5] = 0x8b;
    g->cpu->regs[RAX] = 5;
    run(g, code, sizeof(code), 1);
    assert_int_equal(g->cpu->rip, CODE + 32);
    assert_int_equal(g->cpu->regs[RAX], 77);
    assert_int_equal(g->cpu->regs[RSP], 0x50000);
    assert_true(g->cpu->eflags & FLAG_NT);
    assert_true(g->cpu->cr0 & CR0_TS);
    assert_int_equal(ld16(t), TSS_SEL);
    assert_int_equal(g->ram[GDT + TSS2_SEL + 5] & 0x1f, 0x0b);
    assert_int_equal(ld32(g->ram + TSS + 0x20), CODE + 7);
    assert_int_equal(ld32(g->ram + TSS + 0x28), 5);
    g->cpu->budget = 1;
    cpu_run(g->cpu);
    assert_int_equal(g->cpu->rip, CODE + 7);
    assert_int_equal(g->cpu->regs[RAX], 5);
    assert_int_equal(g->cpu->seg[TR].selector, TSS_SEL);
    assert_int_equal(g->ram[GDT + TSS2_SEL + 5] & 0x1f, 0x09);
    assert_int_equal(g->ram[GDT + TSS_SEL + 5] & 0x1f, 0x0b);
    assert_false(g->cpu->eflags & FLAG_NT);
}

static void virtual_8086(void **state)
{
    struct guest *g = *state;
    start32(g, 0);
    u8 *s = g->ram + STACK - 36;
    const u32 frame[] = {0x10, 0x1000, FLAG_VM | 2, 0x800, 0x2000, 1, 2, 3, 4};
    for (unsigned i = 0; i < 9; i++) st32(s + i * 4, frame[i]);
    g->cpu->regs[RSP] = STACK - 36;
    memcpy(g->ram + 0x10010, "\xcd\x30", 2);
    g->ram[CODE] = 0xcf;
    tlb_reset(g->cpu);
    g->cpu->budget = 1;
    cpu_run(g->cpu);
    assert_true(g->cpu->eflags & FLAG_VM);
    assert_int_equal(g->cpu->cpl, 3);
    assert_int_equal(g->cpu->seg[CS].base, 0x10000);
    assert_int_equal(g->cpu->seg[DS].selector, 2);
    g->cpu->budget = 10;
    cpu_run(g->cpu); /* INT with IOPL 0 */
    assert_vector(g, 13);
    assert_int_equal(stack32(g, 0), 0);
    assert_int_equal(stack32(g, 1), 0x10);
    assert_int_equal(stack32(g, 3) & FLAG_VM, FLAG_VM);
    assert_int_equal(stack32(g, 6), 1);
    assert_int_equal(stack32(g, 9), 4);
    assert_true(g->cpu->seg[DS].attr & SEG_UNUSABLE);
}

static void real_mode_interrupt(void **state)
{
    struct guest *g = *state;
    cpu_reset(g->cpu);
    g->cpu->seg[CS].base = 0x10000, g->cpu->seg[CS].selector = 0x1000;
    g->cpu->rip = 0;
    g->cpu->regs[RSP] = 0x8000;
    g->cpu->eflags = FLAG_IF;
    memcpy(g->ram + 0x10000, "\xcd\x21", 2);
    st32(g->ram + 0x21 * 4, 0x30001234);
    g->ram[0x31234] = 0xcf;
    tlb_reset(g->cpu);
    cpu_update_mode(g->cpu);
    g->cpu->budget = 1;
    cpu_run(g->cpu);
    assert_int_equal(g->cpu->seg[CS].base, 0x30000);
    assert_int_equal(g->cpu->rip, 0x1234);
    assert_int_equal(g->cpu->eflags & FLAG_IF, 0);
    assert_int_equal(ld16(g->ram + 0x7ffa), 2);
    assert_int_equal(ld16(g->ram + 0x7ffc), 0x1000);
    assert_int_equal(ld16(g->ram + 0x7ffe), 0x202);
    g->cpu->budget = 1;
    cpu_run(g->cpu);
    assert_int_equal(g->cpu->rip, 2);
    assert_int_equal(g->cpu->seg[CS].selector, 0x1000);
    assert_true(g->cpu->eflags & FLAG_IF);
}

/* One NMI in service and one behind it; more are lost. */
static void nmis(void **state)
{
    struct guest *g = *state;
    start64(g, 0);
    memcpy(g->ram + HANDLER + 16 * VECTOR_NMI, "\xff\xc1\x48\xcf", 4); /* inc ecx; iretq */
    for (unsigned i = 0; i < 3; i++) cpu_nmi(g->cpu);
    g->cpu->regs[RCX] = 0;
    RUN(g, 6, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90);
    assert_int_equal(g->cpu->regs[RCX], 2);
    assert_int_equal(g->cpu->rip, CODE + 2);
    cpu_nmi(g->cpu);
    g->cpu->budget = 1;
    cpu_run(g->cpu);
    assert_int_equal(g->cpu->regs[RCX], 3);
    for (unsigned i = 0; i < 3; i++) cpu_nmi(g->cpu);
    g->cpu->budget = 5; /* iretq, inc, iretq, two nops */
    cpu_run(g->cpu);
    assert_int_equal(g->cpu->regs[RCX], 4);
    assert_int_equal(g->cpu->rip, CODE + 4);
    cpu_nmi(g->cpu);
    cpu_reset(g->cpu);
    assert_false(g->cpu->requests & REQUEST_NMI);
}

/* --- debug --- */

static void breakpoints(void **state)
{
    struct guest *g = *state;
    start64(g, 0);
    g->cpu->dr[0] = DATA + 4;
    g->cpu->dr[7] = 0x400 | 2 | 0xd << 16; /* write, four bytes */
    debug_rearm(g->cpu);
    g->cpu->regs[RBX] = DATA;
    RUN(g, 10, 0x8b, 0x43, 0x04, 0x88, 0x43, 0x07, 0x90); /* read; write of byte 7; nop */
    assert_vector(g, 1);
    assert_int_equal(g->cpu->dr[6], 0xffff0ff1);
    assert_int_equal(stack64(g, 0), CODE + 6);
    start64(g, 0);
    g->cpu->dr[1] = CODE + 1;
    g->cpu->dr[7] = 0x400 | 8;
    debug_rearm(g->cpu);
    RUN(g, 10, 0x90, 0x90);
    assert_vector(g, 1);
    assert_int_equal(g->cpu->dr[6], 0xffff0ff2);
    assert_int_equal(stack64(g, 0), CODE + 1);
    start64(g, 0);
    g->cpu->eflags |= FLAG_TF;
    cpu_update_mode(g->cpu);
    RUN(g, 10, 0x90, 0x90);
    assert_vector(g, 1);
    assert_int_equal(g->cpu->dr[6], 0xffff4ff0);
    assert_int_equal(stack64(g, 0), CODE + 1);
    assert_int_equal(stack64(g, 2) & FLAG_TF, FLAG_TF);
}

static void alignment_check(void **state)
{
    struct guest *g = *state;
    start64(g, 3);
    g->cpu->cr0 |= CR0_AM;
    g->cpu->eflags |= FLAG_AC;
    cpu_update_mode(g->cpu);
    g->cpu->regs[RBX] = DATA;
    RUN(g, 10, 0x8b, 0x43, 0x04, 0x8b, 0x43, 0x01);
    assert_vector(g, 17);
    assert_int_equal(stack64(g, 1), CODE + 3);
}

/* --- SMM, identity, MSRs --- */

static void smm_round_trip(void **state)
{
    struct guest *g = *state;
    start64(g, 3);
    g->cpu->regs[R13] = 0x1122334455667788ull;
    g->cpu->eflags = FLAG_IF;
    g->ram[0x38000] = 0x0f, g->ram[0x38001] = 0xaa;
    cpu_enter_smm(g->cpu);
    assert_int_equal(g->cpu->code_size, CODE16);
    assert_int_equal(ld32(g->ram + 0x3fefc), 0x20064);
    assert_int_equal(ld32(g->ram + 0x3ff00), 0x30000);
    st32(g->ram + 0x3ff00, 0x50000);
    g->cpu->regs[R13] = 0;
    g->cpu->budget = 1;
    cpu_run(g->cpu);
    assert_int_equal(g->cpu->in_smm, 0);
    assert_int_equal(g->cpu->smbase, 0x50000);
    assert_int_equal(g->cpu->regs[R13], 0x1122334455667788ull);
    assert_int_equal(g->cpu->code_size, CODE64);
    assert_int_equal(g->cpu->cpl, 3);
    assert_int_equal(g->cpu->rip, CODE);
    assert_true(g->cpu->eflags & FLAG_IF);
}

static void models(void **state)
{
    struct guest *g = *state;
    struct error error;
    u32 r[4];
    assert_true(cpu_set_model(g->cpu, "max", &error));
    cpuid_answer(g->cpu, 0, 0, r);
    assert_int_equal(r[0], 0xd);
    assert_memory_equal("Auth", &r[1], HOST_LITTLE_ENDIAN ? 4 : 0);
    cpuid_answer(g->cpu, 7, 0, r);
    assert_true(r[1] & 1 << 5);
    cpuid_answer(g->cpu, 0xd, 0, r);
    assert_int_equal(r[0], 7);
    assert_int_equal(r[2], 832);
    cpuid_answer(g->cpu, 0x80000008, 0, r);
    assert_int_equal(r[0], 0x3028);
    cpuid_answer(g->cpu, 0x40000000, 0, r);
    assert_int_equal(r[0], 0x40000010);
    assert_true(cpu_set_model(g->cpu, "qemu64,+avx2", &error));
    assert_true(feature_on(&g->cpu->features, FEATURE_XSAVE));
    assert_false(cpu_set_model(g->cpu, "max,+avx512f", &error));
    assert_non_null(strstr(error.text, "avx512f"));
    assert_false(cpu_set_model(g->cpu, "z80", &error));
    assert_true(cpu_set_model(g->cpu, "max,-avx", &error));
    assert_false(feature_on(&g->cpu->features, FEATURE_FMA));
    assert_true(cpu_set_model(g->cpu, "pentium3,sse=off", &error));
    assert_true(cpu_is_intel(g->cpu));
    cpuid_answer(g->cpu, 1, 0, r);
    assert_int_equal(r[0], 0x683);
    assert_true(cpu_set_model(g->cpu, "486", &error));
    assert_int_equal(g->cpu->physical_mask, 0xffffffff);
    assert_true(cpu_set_model(g->cpu, "max", &error));
}

/* What of KVM a model shows: leaf 40000001h, whether there is a signature, and the highest leaf. */
static void check_kvm(struct guest *g, const char *model, u32 features, bool shown, u32 highest)
{
    struct error error;
    u32 r[4], kvm[4] = {0};
    u64 value;
    assert_true(cpu_set_model(g->cpu, model, &error));
    cpuid_answer(g->cpu, 0x40000000, 0, r);
    assert_int_equal(r[0], highest);
    kvm[1] = ld32("KVMK"), kvm[2] = ld32("VMKV"), kvm[3] = ld32("M\0\0");
    assert_int_equal(!memcmp(r + 1, kvm + 1, 12), shown);
    cpuid_answer(g->cpu, 0x40000001, 0, r);
    assert_int_equal(r[0], features);
    assert_int_equal(r[1] | r[2] | r[3], 0);
    assert_int_equal(msr_read(g->cpu, 0x12, &value), features >> 3 & 1);
    assert_int_equal(msr_read(g->cpu, 0x4b564d01, &value), features >> 3 & 1);
}

static void kvm_by_model(void **state)
{
    struct guest *g = *state;
    struct error error;
    start64(g, 0);
    check_kvm(g, "max", 0x100000b, true, 0x40000010);
    check_kvm(g, "max,kvm=off", 0, false, 0x40000001);
    check_kvm(g, "max,-hypervisor", 0, false, 0);
    check_kvm(g, "max,-kvmclock", 2, true, 0x40000010);
    check_kvm(g, "max,-kvmclock_stable_bit,kvm_nopiodelay=off", 9, true, 0x40000010);
    check_kvm(g, "max,vmware-cpuid-freq=off", 0x100000b, true, 0x40000001);
    check_kvm(g, "qemu64", 0x100000b, true, 0x40000001);
    check_kvm(g, "x86-64-v3", 0x100000b, true, 0x40000001);
    check_kvm(g, "pentium3,+kvmclock", 9, true, 0x40000001);
    assert_true(feature_on(&g->cpu->features, FEATURE_HYPERVISOR));
    assert_true(cpu_set_model(g->cpu, "pentium3", &error));
    assert_false(feature_on(&g->cpu->features, FEATURE_KVM));
    assert_false(cpu_set_model(g->cpu, "max,+kvm-steal-time", &error));
    assert_true(cpu_set_model(g->cpu, "max", &error));
}

/* The clock for counters that are no round number of ns; turned off by INIT and reset, as its
 * address is. */
static void kvm_clock(void **state)
{
    static const struct { u64 frequency; u32 mul; u8 shift; } rate[] = {
        {1000000000, 0x80000000, 1}, {2000000000, 0x80000000, 0}, {4000000000, 0x80000000, 0xff},
        {3000000000, 0xaaaaaaaa, 0xff}, {25000000, 0xa0000000, 6}, {1000, 0xf4240000, 20}};
    struct guest *g = *state;
    u8 *time = g->ram + DATA;
    u64 value;
    start64(g, 0);
    for (unsigned i = 0; i < ARRAY_SIZE(rate); i++) {
        g->cpu->tsc_frequency = rate[i].frequency;
        memset(time, 0xee, 64);
        assert_true(msr_write(g->cpu, 0x4b564d01, DATA | 1));
        assert_int_equal(ld32(time), 0xeeeeeef0);
        assert_int_equal(ld32(time + 24), rate[i].mul);
        assert_int_equal(time[28], rate[i].shift);
        assert_int_equal(ld64(time + 32), 0xeeeeeeeeeeeeeeeeull);
    }
    g->cpu->tsc_frequency = 0;
    st32(time, 0xffffffff);
    assert_true(msr_write(g->cpu, 0x3b, 0x1122334455ull));
    assert_int_equal(ld32(time), 2);
    assert_int_equal(ld64(time + 8), 0x1122334455ull);
    cpu_take_init(g->cpu);
    start64(g, 0);
    assert_true(msr_read(g->cpu, 0x12, &value));
    assert_int_equal(value, 0);
    assert_true(msr_write(g->cpu, 0x3b, 0x99));
    assert_int_equal(ld32(time), 2);
    assert_true(msr_write(g->cpu, 0x11, RAM - 8));
    assert_int_equal(ld64(g->ram + RAM - 8), 0);
    cpu_reset(g->cpu);
    assert_true(msr_read(g->cpu, 0x11, &value));
    assert_int_equal(value, 0);
}

static void msrs(void **state)
{
    struct guest *g = *state;
    u64 value;
    start64(g, 0);
    assert_true(msr_write(g->cpu, 0xc0000082, 0xffffffff81000000ull));
    assert_int_equal(g->cpu->lstar, 0xffffffff81000000ull);
    assert_false(msr_write(g->cpu, 0xc0000082, 1ull << 60));
    assert_true(msr_write(g->cpu, 0xc0000100, 0x1234));
    assert_int_equal(g->cpu->seg[FS].base, 0x1234);
    assert_false(msr_read(g->cpu, 0xdeadbeef, &value));
    assert_int_equal(g->cpu->exception.vector, VECTOR_GP);
    assert_false(msr_write(g->cpu, 0x277, 2));
    assert_true(msr_write(g->cpu, 0x269, 0x0606060606060606ull));
    assert_int_equal(g->cpu->mtrr_fixed[4], 0x0606060606060606ull);
    assert_false(msr_write(g->cpu, 0xc0000080, EFER_SCE)); /* LME with paging on */
    assert_true(msr_write(g->cpu, 0x10, 1000));
    assert_in_range(cpu_tsc(g->cpu), 1000, 1000000);
}

static bool apic_msr(void *apic, u32 msr, u64 value)
{
    *(u64 *)apic = value;
    return msr == 0x1b;
}

/* A model without x2APIC has no bit to ask for it. */
static void x2apic_by_feature(void **state)
{
    struct guest *g = *state;
    struct error error;
    u64 base = 0;
    start64(g, 0);
    struct local_apic_port port = g->cpu->apic;
    g->cpu->apic = (struct local_apic_port){.apic = &base, .msr_write = apic_msr};
    assert_true(cpu_set_model(g->cpu, "max,-x2apic", &error));
    assert_true(msr_write(g->cpu, 0x1b, 0xfee00900));
    assert_false(msr_write(g->cpu, 0x1b, 0xfee00d00));
    assert_int_equal(base, 0xfee00900);
    assert_true(cpu_set_model(g->cpu, "max", &error));
    assert_true(msr_write(g->cpu, 0x1b, 0xfee00d00));
    g->cpu->apic = port;
}

static void mode_switch_to_long(void **state)
{
    struct guest *g = *state;
    start64(g, 0); /* for its tables */
    start32(g, 0);
    tables(g, true);
    g->cpu->idt_limit = 0xfff;
    g->cpu->cr3 = PML4;
    /* mov eax,cr4; or al,20h; mov cr4,eax; mov ecx,c0000080; mov eax,101h; xor edx,edx; wrmsr;
     * mov eax,cr0; or eax,80000000h; mov cr0,eax; jmp far 8:next; nop */
    static const u8 code[] = {0x0f, 0x20, 0xe0, 0x0c, 0x20, 0x0f, 0x22, 0xe0, 0xb9, 0x80, 0, 0,
                              0xc0, 0xb8, 1, 1, 0, 0, 0x31, 0xd2, 0x0f, 0x30, 0x0f, 0x20, 0xc0,
                              0x0d, 0, 0, 0, 0x80, 0x0f, 0x22, 0xc0, 0xea, 0x28, 0, 1, 0, 8, 0,
                              0x48, 0xff, 0xc0};
    run(g, code, sizeof(code), 12);
    assert_int_equal(g->cpu->code_size, CODE64);
    assert_true(g->cpu->efer & EFER_LMA);
    assert_int_equal(g->cpu->rip, CODE + sizeof(code));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(walk_rights), cmocka_unit_test(walk_legacy),
        cmocka_unit_test(crossing_write_is_precise), cmocka_unit_test(flushes),
        cmocka_unit_test(code_pages_take_the_slow_path), cmocka_unit_test(page_fault_64),
        cmocka_unit_test(non_canonical), cmocka_unit_test(double_and_triple_fault),
        cmocka_unit_test(ist_and_iret), cmocka_unit_test(system_calls),
        cmocka_unit_test(privilege_32), cmocka_unit_test(segment_limits),
        cmocka_unit_test(call_gate_to_inner), cmocka_unit_test(task_call_and_return),
        cmocka_unit_test(virtual_8086), cmocka_unit_test(real_mode_interrupt),
        cmocka_unit_test(nmis), cmocka_unit_test(breakpoints), cmocka_unit_test(alignment_check),
        cmocka_unit_test(smm_round_trip), cmocka_unit_test(models), cmocka_unit_test(kvm_by_model),
        cmocka_unit_test(kvm_clock), cmocka_unit_test(msrs), cmocka_unit_test(x2apic_by_feature),
        cmocka_unit_test(mode_switch_to_long),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
