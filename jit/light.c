/*
 * What translated code calls with most of the guest's registers still in the host's: transfers between
 * privilege levels in their usual form. Compiled without vector registers where the host has them, as
 * is all it calls.
 */
#include "jit/flag_way.h"
#include "jit/jit_int.h"

#include "cpu/fastcall.h"

static bool run(struct vcpu *cpu, const struct insn *insn, u32 *flags)
{
    switch (insn->op) {
    case OP_SYSCALL: return fast_syscall(cpu, cpu_next_ip(cpu, insn), flags);
    case OP_SYSRET: return insn->size == 8 && fast_sysret(cpu, flags);
    case OP_IRET: return insn->size == 8 && fast_iret(cpu, flags);
    default: return false;
    }
}

const u8 *jit_light(struct vcpu *cpu, u32 number)
{
    struct jit_cpu *j = cpu->jit;
    const struct jsite *site = &j->sites[number];
    struct jit_state *s = j->state;
    struct jit_near *near = jit_near(cpu);
    u32 flags = flags_unpack(near);
    if (near->flag_way) flag_way_take(cpu), flags = flags_get(cpu);
    s->slow_site = number;
    if (unlikely(!run(cpu, &j->insns[site->insn], &flags))) return NULL;
    flags_pack(near, flags);
    cpu->icount += site->index + 1u;
    tlb_boundary(cpu);
    j->stats.lights++;
    jumps_mode(j);
    const struct jump *jump = jumps_find(j, cpu->rip);
    s->slow_site = number + 1; /* LOOKUP */
    if (unlikely(!jump)) return NULL;
    cpu->regs[REG_IP_BASE] = jump->page;
    return jump->code;
}
