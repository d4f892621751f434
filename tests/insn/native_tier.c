/*
 * See native_tier.h. A jump to itself stands behind the instruction, for the translation to end at, and where a
 * branch leads that translations follow.
 */
#include "tests/insn/native_tier.h"

#include "cpu/flags.h"
#include "machine/error.h"

#include <stdlib.h>

#define IDT 0u
#define GDT 0x800u
#define TSS 0x900u
#define STACK_TOP 0x3000u
#define HANDLERS 0x7fff00000000ull /* where nothing is: translation stops there */
#define ATTEMPTS 1000u             /* at one instruction that rests (REP) */

static void kernel_write(u8 *kernel)
{
    memset(kernel, 0, 0x1000);
    for (u64 i = 0; i < 32; i++) {
        u64 to = HANDLERS + 16 * i;
        st64(kernel + IDT + i * 16,
             (to & 0xffff) | 8ull << 16 | 0x8e00ull << 32 | (to >> 16 & 0xffff) << 48);
        st64(kernel + IDT + i * 16 + 8, to >> 32);
    }
    st64(kernel + GDT + 8, 0x00af9b000000ffffull);
    st64(kernel + TSS + 4, TIER_KERNEL + STACK_TOP); /* RSP0 */
    st16(kernel + TSS + 0x66, 0xffff); /* no I/O bitmap */
}

bool tier_open(struct tier *tier, const struct vcpu *like, const struct jit_options *options,
               u8 *code, u8 *kernel)
{
    struct error error;
    struct vcpu *cpu = cpu_new(0, like->bus, like->log);
    *tier = (struct tier){.cpu = cpu, .code = code, .kernel = kernel};
    if (!cpu) return false;
    memcpy(cpu, like, offsetof(struct vcpu, run_until));
    cpu->features = like->features;
    cpu->physical_mask = like->physical_mask;
    cpu->idt_base = TIER_KERNEL + IDT, cpu->idt_limit = 0x1ff;
    cpu->gdt_base = TIER_KERNEL + GDT, cpu->gdt_limit = 0xf;
    cpu->seg[TR] = (struct segment){
        .base = TIER_KERNEL + TSS, .limit = 0x67, .attr = SEG_P | 11, .selector = 0x10};
    kernel_write(kernel);
    cpu_restored(cpu);
    tier->jit = jit_new(options, NULL, &error);
    return tier->jit && jit_attach(cpu, tier->jit, &error);
}

static const u8 jump_to_itself[] = {0xeb, 0xfe};

/* What goes on at its target: written behind the jump at AT + LENGTH, which is not reached. */
static void end_at_target(const struct tier *tier, u8 *at, unsigned length, unsigned pos)
{
    struct insn insn;
    if (decode_insn(&insn, at, length, CODE64, pos, &tier->cpu->features) != DECODE_OK) return;
    i64 target = (i64)pos + length + (i64)insn.imm;
    bool follows = insn.op == OP_JMP || insn.op == OP_CALL;
    if (follows && target >= (i64)pos + length && target + 2 <= PAGE_SIZE)
        memcpy(at + (target - pos), jump_to_itself, sizeof jump_to_itself);
}

static void place(struct tier *tier, const u8 *bytes, unsigned length, unsigned pos)
{
    struct memory *memory = tier->cpu->memory;
    u8 *at = tier->code + pos;
    if (!memcmp(at, bytes, length) && !memcmp(at + length, jump_to_itself, sizeof jump_to_itself)) return;
    memcpy(at, bytes, length);
    memcpy(at + length, jump_to_itself, sizeof jump_to_itself);
    end_at_target(tier, at, length, pos);
    memory_code_written(memory, at, length + 2);
    atomic_store(&memory->code_pages[arena_page(memory, at)].writes, 0); /* not held against it */
}

static void user_mode(struct vcpu *cpu)
{
    cpu->cpl = 3;
    cpu->seg[CS] = (struct segment){.limit = ~0u, .selector = 0x33,
                                    .attr = SEG_P | SEG_S | SEG_DPL | SEG_CODE | 3 | SEG_G | SEG_L};
    cpu->seg[SS] = (struct segment){
        .limit = ~0u, .selector = 0x2b, .attr = SEG_P | SEG_S | SEG_DPL | 3 | SEG_G | SEG_DB};
    cpu->activity = CPU_RUNNING;
    cpu->shadow = 0;
    cpu_update_mode(cpu);
}

/* In a handler: back to where it came from, and what it was. */
static struct native_fault unwind(struct tier *tier)
{
    struct vcpu *cpu = tier->cpu;
    unsigned vector = (unsigned)(cpu->rip - HANDLERS) / 16;
    bool has_error = (vector >= 10 && vector <= 14) || vector == 8 || vector == 17;
    const u8 *frame = tier->kernel + (cpu->regs[RSP] - TIER_KERNEL);
    struct native_fault fault = {
        .vector = (int)vector, .error = has_error ? ld32(frame) : 0, .address = cpu->cr2};
    if (has_error) frame += 8;
    cpu->rip = ld64(frame);
    flags_put(cpu, (u32)ld64(frame + 16));
    cpu->regs[RSP] = ld64(frame + 24);
    return fault;
}

bool tier_run(struct tier *tier, const u8 *bytes, unsigned length, unsigned pos,
              struct native_fault *fault)
{
    struct vcpu *cpu = tier->cpu;
    u64 start = cpu->rip;
    *fault = (struct native_fault){.vector = -1};
    place(tier, bytes, length, pos);
    user_mode(cpu);
    cpu->icount = 0;
    for (unsigned i = 0; i < ATTEMPTS; i++) {
        atomic_store(&cpu->run_until, cpu->icount + 1);
        enum engine_result result = cpu->engine(cpu);
        if (result == ENGINE_ONE_BLOCK || result == ENGINE_DECLINED) {
            tier->declined++;
            return false;
        }
        if (result == ENGINE_SHUTDOWN) fault->vector = 1000;
        if (result == ENGINE_FAULT && cpu->exception.vector < 0) {
            cpu->rip = start;
            continue;
        }
        if (result == ENGINE_FAULT) fault->vector = cpu->exception.vector; /* a trap */
        /* void, or being refused */
        if (result == ENGINE_RAN && cpu->rip == start && !cpu->icount) continue;
        if (cpu->rip - HANDLERS < 32 * 16) *fault = unwind(tier);
        return true;
    }
    fault->vector = 1001;
    return true;
}
