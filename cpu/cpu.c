/*
 * Making a processor, asking things of it, and its main loop.
 * Specification: Intel SDM vol. 3 ch. 6.9 (priorities among events), 8.10 (MONITOR, MWAIT).
 *
 * Requests are looked at between blocks: whoever posts one zeroes run_until, which makes the
 * interpreter come back here. Instructions are counted exactly: within a block's length of the
 * budget they run one at a time.
 *
 * MWAIT with several processors gives up its thread for a moment and returns (the architecture
 * allows false wake-ups; a store to the monitored line is not noticed by itself).
 */
#include "cpu/cpu.h"

#include "cpu/debug.h"
#include "cpu/interp.h"
#include "cpu/intr.h"
#include "cpu/kvm.h"
#include "cpu/smm.h"
#include "cpu/smp.h"

#include <stdlib.h>

#define EXIT_NONE (-1)
#define REQUESTS_INTERRUPT (REQUEST_INTR | REQUEST_NMI | REQUEST_SMI | REQUEST_MCE)

/* --- making --- */

static void tlb_init(struct tlb *tlb)
{
    for (unsigned mode = 0; mode < TLB_MODES; mode++)
        for (unsigned slot = 0; slot < TLB_ENTRIES; slot++) {
            atomic_store_explicit(&tlb->entry[mode][slot].tag_read, TLB_INVALID_TAG,
                                  memory_order_relaxed);
            atomic_store_explicit(&tlb->entry[mode][slot].tag_write, TLB_INVALID_TAG,
                                  memory_order_relaxed);
            tlb->slow_tag[mode][slot] = TLB_INVALID_TAG;
        }
    tlb_forget_stack(tlb);
}

static void *new_zeroed(size_t alignment, size_t size)
{
    void *memory;
    if (posix_memalign(&memory, alignment, size)) return NULL;
    return memset(memory, 0, size);
}

struct vcpu *cpu_new(unsigned index, struct bus *bus, struct log *log)
{
    u8 *room = new_zeroed(4096, CPU_ROOM_BELOW + CPU_SHIFT + sizeof(struct vcpu) + CPU_ROOM_BEHIND);
    if (!room) return NULL;
    struct vcpu *cpu = (struct vcpu *)(room + CPU_ROOM_BELOW + CPU_SHIFT);
    cpu->blocks = block_cache_new();
    if (!cpu->blocks) {
        cpu_free(cpu);
        return NULL;
    }
    tlb_init(&cpu->tlb);
    cpu->tlb_now = cpu->tlb.entry[0];
    cpu->index = index;
    cpu->count = 1;
    cpu->bus = bus;
    cpu->memory = bus ? bus_memory(bus) : NULL;
    cpu->log = log;
    cpu->budget = INT64_MAX;
    cpu->a20_mask = ~0ull;
    return cpu;
}

void cpu_keep_code(struct vcpu *cpu, u64 bytes)
{
    u64 slots = bytes / sizeof(cpu->blocks->slots[0]);
    cpu->blocks->limit = slots < BLOCK_SLOTS_LEAST ? BLOCK_SLOTS_LEAST
                         : slots > BLOCK_SLOTS     ? BLOCK_SLOTS : (u32)slots;
}

void cpu_free(struct vcpu *cpu)
{
    if (!cpu) return;
    free(cpu->blocks);
    free((u8 *)cpu - CPU_ROOM_BELOW - CPU_SHIFT);
}

/* --- from outside --- */

static bool wanted(const struct vcpu *cpu);

/* The bits first: cpu_run sets run_until, then looks at them. */
void cpu_request(struct vcpu *cpu, u32 bits)
{
    atomic_fetch_or(&cpu->requests, bits);
    atomic_store(&cpu->run_until, 0);
    if (unlikely(cpu->exact)) __atomic_store_n(&cpu->leave_block, true, __ATOMIC_RELAXED);
    if (cpu->wake) cpu->wake(cpu->wake_opaque);
}

void cpu_clear_request(struct vcpu *cpu, u32 bits)
{
    atomic_fetch_and(&cpu->requests, ~bits);
}

/* One in service and one that waits for its IRET are kept apart; a third is lost. */
void cpu_nmi(struct vcpu *cpu)
{
    u32 waiting = atomic_load(&cpu->nmis);
    while (waiting < 2 && !atomic_compare_exchange_weak(&cpu->nmis, &waiting, waiting + 1)) {}
    cpu_request(cpu, REQUEST_NMI);
}

/* Of those that came while one was in service, one was kept. */
void cpu_unblock_nmi(struct vcpu *cpu)
{
    u32 waiting = atomic_load(&cpu->nmis);
    while (cpu->nmi_blocked && waiting > 1 &&
           !atomic_compare_exchange_weak(&cpu->nmis, &waiting, 1)) {}
    cpu->nmi_blocked = 0;
}

/* False: the request was an earlier NMI's. */
static bool take_nmi(struct vcpu *cpu)
{
    cpu_clear_request(cpu, REQUEST_NMI);
    if (!atomic_load(&cpu->nmis)) return false;
    if (atomic_fetch_sub(&cpu->nmis, 1) > 1) atomic_fetch_or(&cpu->requests, REQUEST_NMI);
    return true;
}

u64 cpu_icount_now(const struct vcpu *cpu)
{
    const struct insn *insn = cpu->current_insn;
    return cpu->icount + (insn ? INSN_INDEX(insn) + insn->spare : 0);
}

void cpu_limit(struct vcpu *cpu, u64 icount)
{
    u64 least = cpu_icount_now(cpu) + 1;
    if (icount < least) icount = least;
    if (icount >= cpu->limit) return;
    cpu->limit = icount;
    if (icount - least < 2 * CPU_RUN_AHEAD) { /* before an engine would look at run_until */
        cpu->leave_block = true;
        atomic_store(&cpu->run_until, 0);
    } else if (atomic_load(&cpu->run_until) > icount - CPU_RUN_AHEAD) {
        atomic_store(&cpu->run_until, icount - CPU_RUN_AHEAD + 1);
    }
}

bool cpu_may_run(const struct vcpu *cpu)
{
    return cpu->activity == CPU_RUNNING || (cpu->activity == CPU_MWAIT && cpu->count > 1) ||
           wanted(cpu);
}

static void pin_intr(void *opaque, bool level)
{
    struct vcpu *cpu = opaque;
    if (!level) cpu_clear_request(cpu, REQUEST_INTR);
    else if (!(atomic_load(&cpu->requests) & REQUEST_INTR)) cpu_request(cpu, REQUEST_INTR);
}

static void pin_nmi(void *opaque) { cpu_nmi(opaque); }
static void pin_smi(void *opaque) { cpu_request(opaque, REQUEST_SMI); }
static void pin_init(void *opaque) { cpu_request(opaque, REQUEST_INIT); }

static void pin_sipi(void *opaque, u8 vector)
{
    struct vcpu *cpu = opaque;
    __atomic_store_n(&cpu->sipi_vector, vector, __ATOMIC_RELAXED);
    cpu_request(cpu, REQUEST_SIPI);
}

/* The page the local APIC answers at may have moved. */
static void pin_apic_base(void *opaque, u64 msr)
{
    struct vcpu *cpu = opaque;
    cpu->apic_base = msr;
    cpu_request(cpu, REQUEST_TLB_FLUSH);
}

static u64 pin_tsc(void *opaque)
{
    struct vcpu *cpu = opaque;
    return cpu->tsc_now ? cpu->tsc_now(cpu->tsc_opaque) + cpu->tsc_adjust : cpu->icount;
}

struct cpu_pins cpu_pins(struct vcpu *cpu)
{
    return (struct cpu_pins){.cpu = cpu, .intr = pin_intr, .nmi = pin_nmi, .smi = pin_smi,
                             .init = pin_init, .sipi = pin_sipi, .apic_base = pin_apic_base,
                             .tsc = pin_tsc, .tsc_frequency = cpu->tsc_frequency};
}

/* --- between blocks --- */

static bool map_moved(const struct vcpu *cpu)
{
    return atomic_load_explicit(&cpu->memory->map_generation, memory_order_acquire) !=
           cpu->map_generation;
}

static void flush_tlb(struct vcpu *cpu)
{
    cpu_clear_request(cpu, REQUEST_TLB_FLUSH | REQUEST_A20);
    cpu->map_generation = atomic_load(&cpu->memory->map_generation);
    tlb_flush_all(cpu);
}

/* INTA: the vector, or -1 when the controller thinks better of it. */
static int acknowledge(struct vcpu *cpu)
{
    int vector = -1;
    if (cpu->lock) cpu->lock(cpu->lock_opaque);
    if (cpu->apic.apic) vector = cpu->apic.acknowledge(cpu->apic.apic);
    else if (cpu->inta) vector = cpu->inta(cpu->inta_opaque);
    if (cpu->unlock) cpu->unlock(cpu->lock_opaque);
    return vector;
}

static enum cpu_exit shut_down(struct vcpu *cpu)
{
    cpu->activity = CPU_SHUTDOWN;
    if (unlikely(cpu->stops != NULL)) {
        cpu->stop.kind = STOP_NONE; /* nothing on the way here comes first */
        stops_event(cpu, STOP_TRIPLE_FAULT, 0, 1, false, 0);
        if (cpu->stop.kind == STOP_TRIPLE_FAULT) return CPU_EXIT_DEBUG;
    }
    return CPU_EXIT_TRIPLE_FAULT;
}

static bool can_wake(const struct vcpu *cpu)
{
    return cpu->activity == CPU_RUNNING || cpu->activity == CPU_HALTED ||
           cpu->activity == CPU_MWAIT;
}

static int take_intr(struct vcpu *cpu)
{
    if (cpu->shadow || !can_wake(cpu)) return EXIT_NONE;
    if (!(cpu->eflags & FLAG_IF)) {
        if (cpu->activity == CPU_MWAIT) cpu->activity = CPU_RUNNING;
        return EXIT_NONE;
    }
    int vector = acknowledge(cpu);
    if (vector < 0) return EXIT_NONE;
    cpu->activity = CPU_RUNNING;
    return cpu_deliver_interrupt(cpu, (u8)vector) ? EXIT_NONE : (int)shut_down(cpu);
}

/* Takes the pending interrupt of highest priority, if one may be taken here. */
static int take_interrupt(struct vcpu *cpu, u32 requests)
{
    if ((requests & REQUEST_MCE) && can_wake(cpu)) {
        cpu_clear_request(cpu, REQUEST_MCE);
        cpu->activity = CPU_RUNNING;
        return cpu_deliver_machine_check(cpu) ? EXIT_NONE : (int)shut_down(cpu);
    }
    if ((requests & REQUEST_SMI) && !cpu->in_smm && cpu->shadow != 2 && can_wake(cpu)) {
        cpu_clear_request(cpu, REQUEST_SMI);
        cpu->activity = CPU_RUNNING;
        cpu_enter_smm(cpu);
        return EXIT_NONE;
    }
    if ((requests & REQUEST_NMI) && !cpu->nmi_blocked && !cpu->shadow && can_wake(cpu)) {
        if (!take_nmi(cpu)) return EXIT_NONE;
        cpu->activity = CPU_RUNNING;
        return cpu_deliver_nmi(cpu) ? EXIT_NONE : (int)shut_down(cpu);
    }
    return requests & REQUEST_INTR ? take_intr(cpu) : EXIT_NONE;
}

/* For a step with interrupts masked: what would wake the processor does, and is left pending. */
static int mask_interrupt(struct vcpu *cpu, u32 requests)
{
    if (!(cpu->eflags & FLAG_IF)) requests &= ~(u32)REQUEST_INTR;
    if ((requests & REQUESTS_INTERRUPT) && can_wake(cpu)) cpu->activity = CPU_RUNNING;
    return EXIT_NONE;
}

/* All that others ask. Returns an exit or EXIT_NONE. */
static int attend(struct vcpu *cpu)
{
    u32 requests = atomic_load(&cpu->requests);
    cpu->blocks->link_from = NULL; /* what runs next may not be where the branch led */
    if (requests & REQUEST_QUIESCE) smp_acknowledge(cpu);
    if ((requests & (REQUEST_TLB_FLUSH | REQUEST_A20)) || map_moved(cpu)) flush_tlb(cpu);
    if (requests & REQUEST_CLOCK) {
        cpu_clear_request(cpu, REQUEST_CLOCK);
        kvm_clock_update(cpu);
    }
    if (requests & REQUEST_SAMPLE) {
        cpu_clear_request(cpu, REQUEST_SAMPLE);
        if (cpu->sample) cpu->sample(cpu->sample_opaque, cpu);
    }
    if (requests & REQUEST_INIT) {
        cpu_clear_request(cpu, REQUEST_INIT);
        cpu_take_init(cpu);
    }
    if (requests & REQUEST_SIPI) {
        cpu_clear_request(cpu, REQUEST_SIPI);
        if (cpu->activity == CPU_WAIT_SIPI) cpu_start_sipi(cpu);
    }
    if (requests & REQUEST_STOP) {
        cpu_clear_request(cpu, REQUEST_STOP);
        return CPU_EXIT_STOP;
    }
    return unlikely(cpu->debug_masked) ? mask_interrupt(cpu, requests)
                                       : take_interrupt(cpu, requests);
}

/* Requests that must be attended to here and now; an INTR that is masked may wait. */
static bool wanted(const struct vcpu *cpu)
{
    u32 requests = atomic_load(&cpu->requests);
    if (likely(!requests)) return map_moved(cpu);
    if (!(cpu->eflags & FLAG_IF) && cpu->activity == CPU_RUNNING) requests &= ~(u32)REQUEST_INTR;
    if (cpu->nmi_blocked) requests &= ~(u32)REQUEST_NMI;
    if (cpu->in_smm) requests &= ~(u32)REQUEST_SMI;
    return requests || map_moved(cpu);
}

/* --- running --- */

/* What stopped is delivered at the instruction, or behind it when it is a trap. */
bool cpu_deliver_stopped(struct vcpu *cpu)
{
    const struct insn *insn = cpu->current_insn;
    if (insn && cpu->exception.is_trap) {
        cpu->rip = cpu_next_ip(cpu, insn);
        cpu->icount++;
    } else if (insn) {
        cpu->rip = cpu_ip(cpu, insn);
    }
    return cpu->exception.vector < 0 || cpu_deliver_exception(cpu);
}

/* A trap that is due at this boundary. */
static bool deliver_trap(struct vcpu *cpu)
{
    cpu->current_insn = NULL;
    cpu->blocks->link_from = NULL;
    return cpu_deliver_stopped(cpu);
}

static u64 linear_ip(const struct vcpu *cpu)
{
    return cpu->code_size == CODE64 ? cpu->rip : (u32)(cpu->seg[CS].base + cpu->rip);
}

static void look(struct vcpu *cpu, const struct insn *insn)
{
    u64 linear = linear_ip(cpu);
    if (trace_covers(cpu->trace, linear)) cpu->trace->before(cpu->trace, cpu, linear, insn);
}

/* One instruction with the hooks around it. False: triple fault. */
static bool run_step(struct vcpu *cpu)
{
    bool before = cpu_step_hooks_before(cpu);
    cpu->shadow = 0;
    if (!before) return deliver_trap(cpu);
    const struct insn *insn = interp_enter(cpu, true);
    if (unlikely(cpu->trace != NULL) && insn) look(cpu, insn);
    if (!insn || !insn->fn(cpu, insn)) {
        bool again = cpu->exception.vector < 0;
        if (!cpu_deliver_stopped(cpu)) return false;
        if (!again) return true;
    }
    return cpu_step_hooks_after(cpu) || deliver_trap(cpu);
}

/* A block or an instruction that somebody looks at. */
static bool run_traced(struct vcpu *cpu, bool one)
{
    one |= cpu->trace->each_insn;
    atomic_store(&cpu->run_until, 0); /* no further: not behind a CALL or RET either */
    const struct insn *insn = interp_enter(cpu, one);
    if (insn) look(cpu, one ? insn : NULL);
    return (insn && insn->fn(cpu, insn)) || cpu_deliver_stopped(cpu);
}

/* Lets the translator run, else the interpreter. False: triple fault. */
static bool run_guest(struct vcpu *cpu, bool one)
{
    if (unlikely(cpu->trace != NULL) && trace_covers(cpu->trace, linear_ip(cpu)))
        return run_traced(cpu, one);
    if (cpu->engine && !one) {
        enum engine_result result = cpu->engine(cpu);
        if (result == ENGINE_RAN) return true;
        if (result == ENGINE_FAULT) return cpu_deliver_stopped(cpu);
        if (result == ENGINE_SHUTDOWN) return false;
        if (result == ENGINE_ONE_BLOCK) atomic_store(&cpu->run_until, 0);
    }
    const struct insn *insn = interp_enter(cpu, one);
    return (insn && insn->fn(cpu, insn)) || cpu_deliver_stopped(cpu);
}

/* Blocks until something is to be done here, or ONE instruction. False: triple fault. */
static bool run_blocks(struct vcpu *cpu, bool one)
{
    cpu->shadow = 0;
    cpu->leave_block = false;
    if (!run_guest(cpu, one)) return false;
    if (unlikely(cpu->leave_block || one)) {
        cpu->leave_block = false;
        if (cpu->pending_db && !debug_trap_due(cpu)) return deliver_trap(cpu);
    }
    return true;
}

/* How far blocks may follow one another: always short of the limit by what may run without a look
 * at it. */
static void allow_chaining(struct vcpu *cpu, u64 limit, bool step)
{
    u64 until = limit == UINT64_MAX ? limit : limit > CPU_RUN_AHEAD ? limit - CPU_RUN_AHEAD + 1 : 0;
    if (unlikely(cpu->stress.exits)) {
        cpu->stress.random = cpu->stress.random * 6364136223846793005ull + 1442695040888963407ull;
        u64 soon = cpu->icount + 1 + (cpu->stress.random >> 33) % cpu->stress.exits;
        if (soon < until) until = soon;
    }
    /* an interpreted block may lead to where somebody looks */
    if (step || (cpu->trace && !cpu->engine)) until = 0;
    if (atomic_load(&cpu->run_until) != until) atomic_store(&cpu->run_until, until);
}

/* An instruction of a step is done, or an interrupt has been taken instead. */
static int step_done(struct vcpu *cpu)
{
    if (cpu->rip - cpu->step_from < cpu->step_until - cpu->step_from) return EXIT_NONE;
    cpu->stop = (struct stop){.kind = STOP_STEP};
    return CPU_EXIT_DEBUG;
}

/* A debugger wants to know what happened here, or what is about to happen. */
static bool stop_due(struct vcpu *cpu)
{
    return cpu->stops && (stops_due(cpu) || (cpu->activity == CPU_RUNNING && stops_break_due(cpu)));
}

static int run_round(struct vcpu *cpu, u64 limit)
{
    tlb_boundary(cpu);
    bool step = (cpu->mode_key & MODE_STEP) || cpu->debug_step;
    const u64 ip = cpu->rip;
    allow_chaining(cpu, limit, step);
    bool one = limit - cpu->icount < CPU_RUN_AHEAD || cpu->pending_db; /* held off by MOV SS */
    if (unlikely(wanted(cpu))) {
        int exit = attend(cpu);
        if (exit != EXIT_NONE) return exit;
        if (wanted(cpu)) {
            /* Held off by the shadow of STI or MOV SS, or more than one: look again soon. */
            atomic_store(&cpu->run_until, 0);
            one = true;
        }
        step = (cpu->mode_key & MODE_STEP) || cpu->debug_step;
        if (unlikely(cpu->debug_step) && cpu->rip != ip && step_done(cpu) != EXIT_NONE)
            return CPU_EXIT_DEBUG;
    }
    if (unlikely(cpu->stops != NULL) && stop_due(cpu)) return CPU_EXIT_DEBUG;
    if (unlikely(cpu->activity != CPU_RUNNING)) {
        if (cpu->activity != CPU_MWAIT || cpu->count == 1) return CPU_EXIT_IDLE;
        cpu->activity = CPU_RUNNING;
        return CPU_EXIT_NAP;
    }
    if (unlikely(cpu->icount >= limit)) return CPU_EXIT_BUDGET;
    if (unlikely(one)) atomic_store(&cpu->run_until, 0);
    if (!(step ? run_step(cpu) : run_blocks(cpu, one))) return (int)shut_down(cpu);
    if (unlikely(cpu->stops != NULL) && stops_due(cpu)) return CPU_EXIT_DEBUG;
    return unlikely(cpu->debug_step) ? step_done(cpu) : EXIT_NONE;
}

enum cpu_exit cpu_run(struct vcpu *cpu)
{
    bool limited = cpu->budget != INT64_MAX;
    int exit;
    cpu->limit = limited ? cpu->icount + (u64)(cpu->budget > 0 ? cpu->budget : 0) : UINT64_MAX;
    cpu->current_insn = NULL;

    atomic_store(&cpu->in_guest, 1);
    if (cpu->group) smp_acknowledge(cpu);
    do exit = run_round(cpu, cpu->limit);
    while (exit == EXIT_NONE);
    atomic_store(&cpu->in_guest, 0);
    if (limited) cpu->budget = (i64)(cpu->limit - cpu->icount);
    return (enum cpu_exit)exit;
}
