/*
 * The paravirtual clock of KVM, and its hypercalls, of which there is none.
 * Specification: Linux, Documentation/virt/kvm/x86: cpuid.rst, msr.rst, hypercalls.rst.
 *
 * The counter of a processor is the machine's time at a constant rate and its own tsc_adjust, so
 * the guest's clock is one line for all and for good: 0 where the counter was tsc_adjust. It is
 * written down when the guest asks, and when somebody's tsc_adjust moves; a pause, a suspend and a
 * snapshot change nothing in it.
 *
 * Deviation: the wall clock is -rtc's, as the clock chip shows it at first, and not the host's.
 * Not modelled: all that the feature bits do not claim (steal time, asynchronous page faults, end
 * of interrupt, …); the flag that tells a guest it was stopped, for it does not see its counter
 * move meanwhile.
 */
#include "cpu/kvm.h"

#include "cpu/sem.h"
#include "cpu/smp.h"
#include "machine/clock.h" /* NS_PER_SECOND */

enum { CLOCK_ENABLE = 1, CLOCK_TSC_STABLE = 1 };
enum { KVM_EPERM = 1, KVM_ENOSYS = 1000 };

/* BODY behind the version at guest physical ADDRESS, which is odd meanwhile and another one
 * then. */
static bool publish(struct vcpu *cpu, u64 address, const u8 *body, u64 size)
{
    u64 length = 4 + size;
    u8 *host = address & 3 ? NULL : dma_map(cpu->bus, address, &length, true);
    if (!host || length != 4 + size) return false;
    u32 *version = (u32 *)(void *)host;
    u32 odd = (le32(__atomic_load_n(version, __ATOMIC_RELAXED)) + 1) | 1;
    __atomic_store_n(version, le32(odd), __ATOMIC_RELAXED);
    atomic_thread_fence(memory_order_seq_cst);
    guest_copy(host + 4, body, size);
    atomic_thread_fence(memory_order_seq_cst);
    __atomic_store_n(version, le32(odd + 1), __ATOMIC_RELAXED);
    dma_wrote(cpu->bus, address, length);
    cpu->leave_block = true; /* it may be its own code */
    return true;
}

static void publish_locked(struct vcpu *cpu, const char *what, u64 address, const u8 *body,
                           u64 size)
{
    if (cpu->lock) cpu->lock(cpu->lock_opaque);
    bool ok = publish(cpu, address, body, size);
    if (cpu->unlock) cpu->unlock(cpu->lock_opaque);
    if (!ok)
        log_to(cpu->log, LOG_GUEST_ERROR, "cpu%u: %s at %016llx: no memory, or misaligned",
               cpu->index, what, (unsigned long long)address);
}

/* ns = (ticks << shift) * mul >> 32, a shift below 0 to the right; mul with its highest bit set. */
static u32 ticks_scale(u64 frequency, i8 *shift)
{
    u64 ns = NS_PER_SECOND;
    for (*shift = 0; ns >= frequency; ++*shift) frequency <<= 1;
    for (; ns < frequency - ns; --*shift) ns <<= 1;
    return (u32)(((u128)ns << 32) / frequency);
}

static u64 adjust_of(const struct vcpu *cpu)
{
    return __atomic_load_n(&cpu->tsc_adjust, __ATOMIC_RELAXED);
}

/* Does one structure serve for all? */
static bool counters_agree(const struct vcpu *cpu)
{
    u32 count = cpu->group ? atomic_load(&cpu->group->count) : 0;
    for (u32 i = 0; i < count; i++)
        if (adjust_of(atomic_load(&cpu->group->cpus[i])) != cpu->tsc_adjust) return false;
    return true;
}

/* struct pvclock_vcpu_time_info */
void kvm_clock_update(struct vcpu *cpu)
{
    u8 body[28] = {0};
    i8 shift;
    if (!(cpu->kvm_system_time & CLOCK_ENABLE)) return;
    u32 mul = ticks_scale(cpu->tsc_frequency ? cpu->tsc_frequency : NS_PER_SECOND, &shift);
    st64(body + 4, cpu->tsc_adjust);
    st32(body + 20, mul);
    body[24] = (u8)shift;
    body[25] = counters_agree(cpu) ? CLOCK_TSC_STABLE : 0;
    publish_locked(cpu, "KVM system time", cpu->kvm_system_time & ~(u64)CLOCK_ENABLE, body,
                   sizeof body);
}

void kvm_system_time_write(struct vcpu *cpu, u64 value)
{
    cpu->kvm_system_time = value;
    kvm_clock_update(cpu);
}

/* struct pvclock_wall_clock: when system time was 0. */
void kvm_wall_clock_write(struct vcpu *cpu, u64 value)
{
    u64 start = cpu->wall_start ? cpu->wall_start(cpu->tsc_opaque) : 0;
    u8 body[8];
    cpu->kvm_wall_clock = value;
    if (!value) return;
    st32(body, (u32)(start / NS_PER_SECOND));
    st32(body + 4, (u32)(start % NS_PER_SECOND));
    publish_locked(cpu, "KVM wall clock", value, body, sizeof body);
}

void kvm_tsc_moved(struct vcpu *cpu)
{
    u32 count = cpu->group ? atomic_load(&cpu->group->count) : 0;
    kvm_clock_update(cpu);
    for (u32 i = 0; i < count; i++) {
        struct vcpu *other = atomic_load(&cpu->group->cpus[i]);
        if (other != cpu) cpu_request(other, REQUEST_CLOCK);
    }
}

/* Guests try some that no feature bit announces, to see whether they are there. */
static bool hypercall(struct vcpu *cpu)
{
    i64 answer = cpu->cpl ? -KVM_EPERM : -KVM_ENOSYS;
    gpr_write(cpu, RAX, cpu_code64(cpu) ? 8 : 4, (u64)answer);
    return true;
}

bool sem_VMCALL(struct vcpu *cpu, const struct insn *insn)
{
    (void)insn;
    return hypercall(cpu);
}
bool sem_VMMCALL(struct vcpu *cpu, const struct insn *insn)
{
    (void)insn;
    return hypercall(cpu);
}
