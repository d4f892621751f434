/*
 * IN, OUT, INS, OUTS.
 * Specification: Intel SDM vol. 1 ch. 18, vol. 2 (INS, OUTS; REP is restarted between elements).
 */
#include "cpu/debug.h" /* debug_port */
#include "cpu/seg.h"   /* io_bitmap_allows */
#include "cpu/sem.h"

#define ELEMENTS_A_PIECE 1024u

static bool port_allowed(struct vcpu *cpu, u16 port, unsigned size)
{
    if (cpu_real_mode(cpu)) return true;
    if (!cpu_vm86(cpu) && cpu->cpl <= cpu_iopl(cpu)) return true;
    return io_bitmap_allows(cpu, port, size);
}

static u16 port_operand(const struct vcpu *cpu, const struct insn *insn, unsigned n)
{
    return insn->operand[n].kind == OPERAND_IMMEDIATE ? (u8)insn->imm : (u16)cpu->regs[RDX];
}

static u64 port_read(struct vcpu *cpu, u16 port, unsigned size)
{
    u64 value = bus_port_read(cpu->bus, port, size);
    log_to(cpu->log, LOG_PORT, "cpu%u: in%u %04x -> %llx", cpu->index, size * 8, port,
           (unsigned long long)value);
    if (unlikely(cpu->cr4 & CR4_DE)) debug_port(cpu, port, size);
    if (unlikely(cpu->stops != NULL)) stops_event(cpu, STOP_PORT, port, size, false, value);
    return value;
}

static void port_write(struct vcpu *cpu, u16 port, u64 value, unsigned size)
{
    log_to(cpu->log, LOG_PORT, "cpu%u: out%u %04x <- %llx", cpu->index, size * 8, port,
           (unsigned long long)value);
    bus_port_write(cpu->bus, port, value, size);
    if (unlikely(cpu->cr4 & CR4_DE)) debug_port(cpu, port, size);
    if (unlikely(cpu->stops != NULL)) stops_event(cpu, STOP_PORT, port, size, true, value);
}

bool sem_IN(struct vcpu *cpu, const struct insn *insn)
{
    unsigned size = insn->operand[0].size;
    u16 port = port_operand(cpu, insn, 1);
    TRY(port_allowed(cpu, port, size));
    gpr_write(cpu, RAX, size, port_read(cpu, port, size));
    return true;
}

bool sem_OUT(struct vcpu *cpu, const struct insn *insn)
{
    unsigned size = insn->operand[1].size;
    u16 port = port_operand(cpu, insn, 0);
    TRY(port_allowed(cpu, port, size));
    port_write(cpu, port, gpr_read(cpu, RAX, size), size);
    return true;
}

/* --- strings --- */

static void add_register(struct vcpu *cpu, const struct insn *insn, unsigned reg, i64 delta)
{
    gpr_write(cpu, reg, insn->address_size, cpu->regs[reg] + (u64)delta);
}

static i64 string_step(const struct vcpu *cpu, const struct insn *insn)
{
    return cpu->eflags & FLAG_DF ? -(i64)insn->size : insn->size;
}

/* The destination is made writable before the port is read: reading has effects. */
static bool ins_element(struct vcpu *cpu, const struct insn *insn, u16 port)
{
    u64 ea = cpu->regs[RDI] & size_mask(insn->address_size), linear;
    TRY(seg_linear(cpu, ES, ea, insn->size, true, &linear));
    TRY(tlb_probe(cpu, linear, insn->size, true, (enum tlb_mode)cpu->tlb_mode));
    u64 value = port_read(cpu, port, insn->size);
    TRY(lin_write(cpu, linear, insn->size, value));
    add_register(cpu, insn, RDI, string_step(cpu, insn));
    return true;
}

static bool outs_element(struct vcpu *cpu, const struct insn *insn, u16 port)
{
    u64 ea = cpu->regs[RSI] & size_mask(insn->address_size), linear, value;
    TRY(seg_linear(cpu, insn->seg, ea, insn->size, false, &linear));
    TRY(lin_read(cpu, linear, insn->size, &value));
    port_write(cpu, port, value, insn->size);
    add_register(cpu, insn, RSI, string_step(cpu, insn));
    return true;
}

static bool string_io(struct vcpu *cpu, const struct insn *insn,
                      bool (*element)(struct vcpu *, const struct insn *, u16))
{
    const u64 mask = size_mask(insn->address_size);
    const bool repeat = insn->flags & (INSN_REP | INSN_REPNE);
    u16 port = (u16)cpu->regs[RDX];
    TRY(port_allowed(cpu, port, insn->size)); /* AMD checks for no repetition, too */
    if (repeat && !(cpu->regs[RCX] & mask)) return true;
    if (!repeat) return element(cpu, insn, port);
    for (unsigned i = 0;;) {
        TRY(element(cpu, insn, port));
        add_register(cpu, insn, RCX, -1);
        if (!(cpu->regs[RCX] & mask)) return true;
        bool remapped = atomic_load_explicit(&cpu->memory->map_generation, memory_order_relaxed) !=
                        cpu->map_generation;
        if (++i == ELEMENTS_A_PIECE || cpu->leave_block || remapped ||
            (cpu->mode_key & MODE_STEP) ||
            atomic_load_explicit(&cpu->run_until, memory_order_relaxed) == 0)
            return cpu_restart(cpu);
    }
}

bool sem_INS(struct vcpu *cpu, const struct insn *insn)
{
    return string_io(cpu, insn, ins_element);
}
bool sem_OUTS(struct vcpu *cpu, const struct insn *insn)
{
    return string_io(cpu, insn, outs_element);
}
