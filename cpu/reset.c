/*
 * RESET, INIT, start-up, and what is recomputed after a snapshot is loaded.
 * Specification: Intel SDM vol. 3 table 9-1, ch. 8.4 (multiple processors).
 */
#include "cpu/cpuid.h"
#include "cpu/debug.h"
#include "cpu/flags.h"
#include "cpu/intr.h"
#include "cpu/mem.h" /* tlb_reset */
#include "cpu/xsave.h"

#define APIC_BASE_RESET 0xfee00000ull
#define APIC_BASE_BSP (1ull << 8)
#define APIC_BASE_ENABLE (1ull << 11)

static void segments_reset(struct vcpu *cpu)
{
    for (unsigned i = 0; i < SEGMENTS; i++)
        cpu->seg[i] = (struct segment){.limit = 0xffff,
                                       .attr = SEG_P | SEG_S | SEG_WRITABLE | SEG_ACCESSED};
    cpu->seg[CS].selector = 0xf000;
    cpu->seg[CS].base = 0xffff0000;
    cpu->seg[LDTR].attr = SEG_P | 2;
    cpu->seg[TR].attr = SEG_P | 11;
    cpu->gdt_base = cpu->idt_base = 0;
    cpu->gdt_limit = cpu->idt_limit = 0xffff;
}

/* What RESET and INIT have in common. */
static void common_reset(struct vcpu *cpu)
{
    u64 cache_bits = cpu->cr0 & (CR0_CD | CR0_NW);
    memset(cpu->regs, 0, sizeof(cpu->regs));
    cpu->regs[RDX] = cpu->model ? cpuid_signature(cpu) : 0;
    cpu->rip = 0xfff0;
    flags_put(cpu, 0);
    cpu->eflags = 0;
    cpu->cpl = 0;
    cpu->shadow = cpu->nmi_blocked = cpu->in_smm = 0;
    segments_reset(cpu);
    cpu->cr0 = CR0_ET | cache_bits;
    cpu->cr2 = cpu->cr3 = cpu->cr4 = 0;
    cpu->efer = 0;
    memset(cpu->dr, 0, sizeof(cpu->dr));
    memset(cpu->pae_pdpte, 0, sizeof(cpu->pae_pdpte));
    cpu->dr[6] = DR6_FIXED;
    cpu->dr[7] = DR7_FIXED;
    cpu->kvm_system_time = 0;
    cpu->activity = cpu->index ? CPU_WAIT_SIPI : CPU_RUNNING;
}

static void fpu_reset(struct vcpu *cpu)
{
    memset(cpu->fpu_mantissa, 0, sizeof(cpu->fpu_mantissa));
    memset(cpu->fpu_exponent, 0, sizeof(cpu->fpu_exponent));
    memset(cpu->zmm, 0, sizeof(cpu->zmm));
    memset(cpu->opmask, 0, sizeof(cpu->opmask));
    cpu->fcw = 0x40;
    cpu->fsw = 0;
    cpu->ftw = 0xff; /* zeroes, not empty: tag word 5555h */
    cpu->fop = cpu->fcs = cpu->fds = 0;
    cpu->fip = cpu->fdp = 0;
    cpu->mxcsr = MXCSR_INIT;
    cpu->xcr0 = 1;
    cpu->xss = 0;
}

static void msrs_reset(struct vcpu *cpu)
{
    cpu->star = cpu->lstar = cpu->cstar = cpu->sfmask = 0;
    cpu->kernel_gs_base = cpu->tsc_aux = 0;
    cpu->sysenter_cs = cpu->sysenter_esp = cpu->sysenter_eip = 0;
    cpu->pat = 0x0007040600070406ull;
    cpu->misc_enable = 1; /* fast strings */
    cpu->debugctl = 0;
    cpu->mtrr_def_type = 0;
    memset(cpu->mtrr_var, 0, sizeof(cpu->mtrr_var));
    memset(cpu->mtrr_fixed, 0, sizeof(cpu->mtrr_fixed));
    cpu->mcg_status = 0;
    cpu->mcg_ctl = ~(u64)0;
    for (unsigned i = 0; i < ARRAY_SIZE(cpu->mc_banks); i++)
        cpu->mc_banks[i] = i % 4 ? 0 : ~(u64)0; /* CTL, STATUS, ADDR, MISC */
    cpu->apic_base = APIC_BASE_RESET | APIC_BASE_ENABLE | (cpu->index ? 0 : APIC_BASE_BSP);
    cpu->smbase = 0x30000;
    cpu->spec_ctrl = 0;
    cpu->tsc_adjust = 0;
    cpu->monitor_address = 0;
    cpu->kvm_wall_clock = 0;
}

static void not_saved_reset(struct vcpu *cpu)
{
    cpu->exception.vector = -1;
    cpu->leave_block = true;
    cpu->pending_db = 0;
    cpu->step_armed = false;
    cpu->align_check = false;
    cpu->fault_noncanonical = false;
    if (!cpu->a20_mask) cpu->a20_mask = ~(u64)0;
    if (!cpu->physical_mask) cpu->physical_mask = (1ull << 40) - 1;
    tlb_reset(cpu);
    debug_rearm(cpu); /* and the mode */
}

void cpu_reset(struct vcpu *cpu)
{
    common_reset(cpu);
    cpu->cr0 = CR0_ET | CR0_CD | CR0_NW;
    fpu_reset(cpu);
    msrs_reset(cpu);
    cpu->sipi_vector = 0;
    cpu->xsave_in_use = 0;
    atomic_store(&cpu->nmis, 0);
    cpu_clear_request(cpu, REQUEST_NMI | REQUEST_SMI | REQUEST_INIT | REQUEST_SIPI | REQUEST_MCE);
    not_saved_reset(cpu);
}

void cpu_take_init(struct vcpu *cpu)
{
    common_reset(cpu);
    not_saved_reset(cpu);
    if (!cpu->apic.apic) return;
    if (cpu->lock) cpu->lock(cpu->lock_opaque);
    cpu->apic.cpu_init(cpu->apic.apic);
    if (cpu->unlock) cpu->unlock(cpu->lock_opaque);
}

void cpu_start_sipi(struct vcpu *cpu)
{
    /* another SIPI may be on its way */
    u8 vector = __atomic_load_n(&cpu->sipi_vector, __ATOMIC_RELAXED);
    cpu->seg[CS].selector = (u16)(vector << 8);
    cpu->seg[CS].base = (u64)vector << 12;
    cpu->rip = 0;
    cpu->activity = CPU_RUNNING;
    cpu_update_mode(cpu);
}

/* The file is hostile: what indexes or decides without further checks is cut to what it may be. */
void cpu_restored(struct vcpu *cpu)
{
    cpu->cpl &= 3;
    cpu->regs[REG_ZERO] = 0;
    cpu->eflags &= ~(u32)(FLAGS_ARITHMETIC | 2);
    cpu->xcr0 &= xsave_user_components(&cpu->features);
    cpu->xcr0 |= 1;
    if (cpu->activity > CPU_MWAIT) cpu->activity = CPU_RUNNING;
    cpu->xsave_in_use = ~(u64)0;
    not_saved_reset(cpu);
}
