/*
 * A bare processor in flat 64-bit mode, CPL 0, on identity-mapped RAM, for tests that run guest
 * code.
 * Every exception halts at FLAT_HANDLER + 16 * vector.
 */
#ifndef TESTS_INSN_FLAT_H
#define TESTS_INSN_FLAT_H

#include "cpu/cpu.h"
#include "cpu/flags.h"
#include "cpu/mem.h"
#include "machine/bus_host.h"
#include "machine/error.h"

#include <stdlib.h>

#define FLAT_RAM MIB(16)
#define FLAT_CODE 0x100000u
#define FLAT_STACK 0x200000u
#define FLAT_DATA 0x300000u
#define FLAT_IDT 0x8000u
#define FLAT_GDT 0x7000u
#define FLAT_TSS 0x6000u
#define FLAT_STACK0 0x400000u
#define FLAT_HANDLER 0x9000u

struct flat {
    struct bus *bus;
    struct vcpu *cpu;
    u8 *ram;
    struct region region;
};

static inline void flat_tables(u8 *ram)
{
    st64(ram + 0x1000, 0x2000 | 7);
    st64(ram + 0x2000, 0x3000 | 7);
    for (u64 i = 0; i < 512; i++) st64(ram + 0x3000 + i * 8, i << 21 | 0x87);
    st64(ram + FLAT_GDT + 8, 0x00af9b000000ffffull);
    st64(ram + FLAT_GDT + 16, 0x00cf93000000ffffull);
    st64(ram + FLAT_GDT + 24, 0x00affb000000ffffull);
    st64(ram + FLAT_GDT + 32, 0x00cff3000000ffffull);
    for (u64 i = 0; i < 32; i++) {
        u64 to = FLAT_HANDLER + 16 * i;
        st64(ram + FLAT_IDT + i * 16, (to & 0xffff) | 8ull << 16 | 0x8e00ull << 32);
        ram[to] = 0xf4;
    }
}

static inline void flat_segment(struct vcpu *cpu, unsigned seg, u16 selector, u32 attr)
{
    cpu->seg[seg] = (struct segment){.limit = 0xffffffff, .attr = attr, .selector = selector};
}

/* Ready to run at FLAT_CODE; interrupts off. */
static inline void flat_reset(struct flat *f)
{
    struct vcpu *cpu = f->cpu;
    cpu_reset(cpu);
    flat_tables(f->ram);
    cpu->cr3 = 0x1000;
    cpu->cr0 = CR0_PE | CR0_PG | CR0_WP | CR0_ET | CR0_NE;
    cpu->cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT;
    cpu->efer = EFER_LME | EFER_LMA | EFER_NXE | EFER_SCE;
    cpu->gdt_base = FLAT_GDT, cpu->gdt_limit = 0xff;
    cpu->idt_base = FLAT_IDT, cpu->idt_limit = 0x1ff;
    for (unsigned seg = ES; seg <= GS; seg++)
        flat_segment(cpu, seg, 16, SEG_P | SEG_S | SEG_WRITABLE | SEG_ACCESSED | SEG_DB | SEG_G);
    flat_segment(cpu, CS, 8,
                 SEG_P | SEG_S | SEG_CODE | SEG_READABLE | SEG_ACCESSED | SEG_L | SEG_G);
    cpu->cpl = 0;
    memset(cpu->regs, 0, sizeof(cpu->regs));
    cpu->regs[RSP] = FLAT_STACK;
    cpu->rip = FLAT_CODE;
    cpu->activity = CPU_RUNNING;
    cpu->budget = INT64_MAX;
    cpu_restored(cpu);
}

/* From flat_reset's state to CPL 3. Exceptions go to CPL 0 and the stack at FLAT_STACK0. */
static inline void flat_user(struct flat *f)
{
    struct vcpu *cpu = f->cpu;
    const u32 user = 3u << SEG_DPL_SHIFT;
    memset(f->ram + FLAT_TSS, 0, 0x68);
    st64(f->ram + FLAT_TSS + 4, FLAT_STACK0);
    cpu->seg[TR] = (struct segment){.base = FLAT_TSS, .limit = 0x67, .attr = SEG_P | 11};
    for (unsigned seg = ES; seg <= GS; seg++) {
        cpu->seg[seg].attr |= user;
        cpu->seg[seg].selector = 35;
    }
    cpu->seg[CS].selector = 27;
    cpu->cpl = 3;
    cpu_restored(cpu);
}

static inline struct flat *flat_new(void)
{
    struct flat *f = calloc(1, sizeof(*f));
    struct error error = {0};
    f->bus = bus_new(FLAT_RAM, 0, NULL, &error);
    if (!f->bus) abort();
    f->ram = bus_alloc_memory(f->bus, FLAT_RAM, "ram");
    region_init_memory(&f->region, f->ram, FLAT_RAM, false, "ram");
    bus_map(f->bus, BUS_MEMORY, &f->region, 0, LAYER_RAM);
    f->cpu = cpu_new(0, f->bus, NULL);
    if (!f->cpu || !cpu_set_model(f->cpu, "max", &error)) abort();
    flat_reset(f);
    return f;
}

static inline void flat_free(struct flat *f)
{
    cpu_free(f->cpu);
    bus_free(f->bus);
    free(f);
}

static inline void flat_code(struct flat *f, const void *bytes, size_t length)
{
    memory_code_written(bus_memory(f->bus), f->ram + FLAT_CODE, length + 1);
    memcpy(f->ram + FLAT_CODE, bytes, length);
    f->ram[FLAT_CODE + length] = 0xf4;
    f->cpu->rip = FLAT_CODE;
    f->cpu->activity = CPU_RUNNING;
}

/* Runs BYTES to the HLT behind them. -1, or the vector of the exception that ended it. */
static inline int flat_run(struct flat *f, const void *bytes, size_t length)
{
    flat_code(f, bytes, length);
    enum cpu_exit exit = cpu_run(f->cpu);
    if (exit != CPU_EXIT_IDLE) return 1000 + (int)exit;
    u64 rip = f->cpu->rip;
    if (rip == FLAT_CODE + length + 1) return -1;
    return rip > FLAT_HANDLER && rip < FLAT_HANDLER + 512 ? (int)((rip - FLAT_HANDLER) / 16) : 2000;
}

#endif
