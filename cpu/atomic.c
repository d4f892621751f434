/*
 * Locked operations: the LOCK prefix, XCHG with memory, XADD, CMPXCHG, and the fences.
 * Specification: Intel SDM vol. 3 ch. 9.1 (locked atomic operations), vol. 2.
 *
 * An operand that lies in one page of RAM is changed by a host atomic. One that does not (page
 * crossing, device, or unaligned on a host that can't) is changed under the group's split lock,
 * which is atomic against other such operations only. Ordinary loads and stores are ordered where
 * they are made (guest_ld64 and its like in machine/types.h); here is what orders a store before a
 * later load: every locked operation, the fences, and what serializes (cpu_serialize).
 */
#include "cpu/atomic.h"

#include "cpu/smp.h"

#if defined(__x86_64__)
#define HOST_X86_64 1
#else
#define HOST_X86_64 0
#endif

static void split_lock(struct vcpu *cpu, bool lock)
{
    if (!cpu->group) return;
    if (!lock) pthread_mutex_unlock(&cpu->group->split_lock);
    atomic_thread_fence(memory_order_seq_cst); /* a mutex lets others pass inwards */
    if (lock) pthread_mutex_lock(&cpu->group->split_lock);
}

/*
 * On both sides of a locked operation. The host's own does it on x86 and its like; AArch64's, an
 * acquire and a release, lets a load that acquires by LDAPR or by a fence pass the store, and is
 * passed by a store behind a fence.
 */
static ALWAYS_INLINE void locked_fence(void)
{
    if (!HOST_X86_ORDER) atomic_thread_fence(memory_order_seq_cst);
}

/* Host memory as a guest number and back. */
static u64 swap_le(u64 v, unsigned size)
{
    if (HOST_LITTLE_ENDIAN) return v;
    return size == 8 ? __builtin_bswap64(v) : size == 4 ? __builtin_bswap32((u32)v)
           : size == 2 ? __builtin_bswap16((u16)v) : v;
}

/* Compare and swap; *seen gets what was there. Operands are guest numbers. */
__attribute__((no_sanitize("alignment")))
GUEST_RACES static bool host_cas(void *at, unsigned size, u64 *seen, u64 wanted)
{
#define CAS(type)                                                                                  \
    {                                                                                              \
        type expected = (type)swap_le(*seen, size);                                                \
        bool done = __atomic_compare_exchange_n((type *)at, &expected, (type)swap_le(wanted, size),\
                                                false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);        \
        *seen = swap_le(expected, size);                                                           \
        return done;                                                                               \
    }
    switch (size) {
    case 1: CAS(u8)
    case 2: CAS(u16)
    case 4: CAS(u32)
    default: CAS(u64)
    }
#undef CAS
}

/* Where a host atomic does; NULL without *faulted: not there. */
static void *atomic_pointer(struct vcpu *cpu, u64 linear, unsigned size, bool *faulted)
{
    void *at = tlb_locked_pointer(cpu, linear, size, faulted);
    if (at && !HOST_X86_64 && ((uintptr_t)at & (size - 1))) return NULL;
    return at;
}

/* The operation is done: what was decoded from there is void. */
static ALWAYS_INLINE void atomic_done(struct vcpu *cpu, const void *at, unsigned size)
{
    if (unlikely(memory_is_code(cpu->memory, at)) && memory_code_written(cpu->memory, at, size))
        cpu->leave_block = true;
}

static bool update_split(struct vcpu *cpu, u64 linear, unsigned size, atomic_fn fn, u64 operand,
                         u64 *old)
{
    TRY(tlb_probe(cpu, linear, size, true, (enum tlb_mode)cpu->tlb_mode));
    split_lock(cpu, true);
    bool done = lin_read(cpu, linear, size, old) &&
                lin_write(cpu, linear, size, fn(*old, operand) & size_mask(size));
    split_lock(cpu, false);
    return done;
}

bool atomic_update(struct vcpu *cpu, u64 linear, unsigned size, atomic_fn fn, u64 operand, u64 *old)
{
    bool faulted;
    void *at = atomic_pointer(cpu, linear, size, &faulted);
    if (faulted) return false;
    if (!at) return update_split(cpu, linear, size, fn, operand, old);
    locked_fence();
    u64 seen = mem_load_host(at, size);
    while (!host_cas(at, size, &seen, fn(seen, operand) & size_mask(size))) {}
    locked_fence();
    atomic_done(cpu, at, size);
    *old = seen;
    return true;
}

bool atomic_compare(struct vcpu *cpu, u64 linear, unsigned size, u64 expected, u64 wanted, u64 *old)
{
    bool faulted;
    void *at = atomic_pointer(cpu, linear, size, &faulted);
    if (faulted) return false;
    if (at) {
        *old = expected;
        locked_fence();
        host_cas(at, size, old, wanted);
        locked_fence();
        atomic_done(cpu, at, size);
        return true;
    }
    TRY(tlb_probe(cpu, linear, size, true, (enum tlb_mode)cpu->tlb_mode));
    split_lock(cpu, true);
    bool done = lin_read(cpu, linear, size, old) &&
                lin_write(cpu, linear, size, *old == expected ? wanted : *old);
    split_lock(cpu, false);
    return done;
}

/* --- XCHG, XADD, CMPXCHG --- */

static u64 take_new(u64 old, u64 operand)
{
    (void)old;
    return operand;
}

static u64 add(u64 old, u64 operand)
{
    return old + operand;
}

bool sem_XCHG(struct vcpu *cpu, const struct insn *insn)
{
    unsigned memory = insn->operand[1].kind == OPERAND_MEMORY, other = !memory;
    u64 value, old;
    TRY(operand_read(cpu, insn, other, &value));
    if (insn->operand[memory].kind == OPERAND_MEMORY) {
        TRY(atomic_operand(cpu, insn, insn->size, take_new, value, &old));
        return operand_write(cpu, insn, other, old);
    }
    operand_read(cpu, insn, memory, &old);
    operand_write(cpu, insn, memory, value);
    return operand_write(cpu, insn, other, old);
}

bool sem_XADD(struct vcpu *cpu, const struct insn *insn)
{
    u64 a, b;
    TRY(operand_read(cpu, insn, 1, &b));
    if (insn->flags & INSN_LOCK) {
        TRY(atomic_operand(cpu, insn, insn->size, add, b, &a));
        operand_write(cpu, insn, 1, a);
    } else {
        TRY(operand_read_rmw(cpu, insn, 0, &a));
        bool memory = insn->operand[0].kind == OPERAND_MEMORY;
        if (memory) TRY(operand_write(cpu, insn, 0, a + b));
        operand_write(cpu, insn, 1, a);
        if (!memory) operand_write(cpu, insn, 0, a + b);
    }
    flags_add(cpu, a, b, a + b, insn->size);
    return true;
}

bool sem_CMPXCHG(struct vcpu *cpu, const struct insn *insn)
{
    unsigned size = insn->size;
    u64 expected = gpr_read(cpu, RAX, size), wanted, old, linear;
    TRY(operand_read(cpu, insn, 1, &wanted));
    if (insn->flags & INSN_LOCK) {
        TRY(mem_linear(cpu, insn, size, true, &linear));
        TRY(atomic_compare(cpu, linear, size, expected, wanted, &old));
    } else {
        TRY(operand_read_rmw(cpu, insn, 0, &old));
        /* The destination is written in any case, but a 32-bit register is not widened by it. */
        if (old == expected || insn->operand[0].kind == OPERAND_MEMORY)
            TRY(operand_write(cpu, insn, 0, old == expected ? wanted : old));
    }
    if (old != expected) gpr_write(cpu, RAX, size, old);
    flags_sub(cpu, expected, old, expected - old, size);
    return true;
}

static void set_zf(struct vcpu *cpu, bool zf)
{
    flags_put(cpu, (flags_get(cpu) & ~(u32)FLAG_ZF) | (zf ? FLAG_ZF : 0));
}

bool sem_CMPXCHG8B(struct vcpu *cpu, const struct insn *insn)
{
    u64 expected = (u32)cpu->regs[RAX] | cpu->regs[RDX] << 32;
    u64 wanted = (u32)cpu->regs[RBX] | cpu->regs[RCX] << 32, old, linear;
    TRY(mem_linear(cpu, insn, 8, true, &linear));
    if (insn->flags & INSN_LOCK) {
        TRY(atomic_compare(cpu, linear, 8, expected, wanted, &old));
    } else {
        TRY(tlb_probe(cpu, linear, 8, true, (enum tlb_mode)cpu->tlb_mode));
        TRY(lin_read(cpu, linear, 8, &old));
        TRY(lin_write(cpu, linear, 8, old == expected ? wanted : old));
    }
    if (old != expected) {
        cpu->regs[RAX] = (u32)old;
        cpu->regs[RDX] = old >> 32;
    }
    set_zf(cpu, old == expected);
    return true;
}

/* The host's 16-byte compare and swap on guest numbers [0] low, [1] high. False: it has none. */
static bool host_cas16(void *at, u64 seen[2], const u64 wanted[2])
{
#if HOST_X86_64
    __asm__ volatile("lock cmpxchg16b %0"
                     : "+m"(*(u128 *)at), "+a"(seen[0]), "+d"(seen[1])
                     : "b"(wanted[0]), "c"(wanted[1])
                     : "memory", "cc");
    return true;
#elif defined(__GCC_HAVE_SYNC_COMPARE_AND_SWAP_16) && !defined(__s390x__) /* gcc calls a library */
    u64 mine[2], to[2];
    for (unsigned i = 0; i < 2; i++) mine[i] = le64(seen[i]), to[i] = le64(wanted[i]);
    u128 expected, value;
    memcpy(&expected, mine, 16);
    memcpy(&value, to, 16);
    expected = __sync_val_compare_and_swap((u128 *)at, expected, value);
    memcpy(mine, &expected, 16);
    for (unsigned i = 0; i < 2; i++) seen[i] = le64(mine[i]);
    return true;
#else
    (void)at, (void)seen, (void)wanted;
    return false;
#endif
}

static bool cas16_split(struct vcpu *cpu, u64 linear, u64 seen[2], const u64 wanted[2])
{
    u64 old[2];
    TRY(tlb_probe(cpu, linear, 16, true, (enum tlb_mode)cpu->tlb_mode));
    split_lock(cpu, true);
    bool done = lin_read(cpu, linear, 8, &old[0]) && lin_read(cpu, linear + 8, 8, &old[1]);
    if (done) {
        bool equal = old[0] == seen[0] && old[1] == seen[1];
        done = lin_write(cpu, linear, 8, equal ? wanted[0] : old[0]) &&
               lin_write(cpu, linear + 8, 8, equal ? wanted[1] : old[1]);
    }
    split_lock(cpu, false);
    TRY(done);
    memcpy(seen, old, sizeof(old));
    return true;
}

bool sem_CMPXCHG16B(struct vcpu *cpu, const struct insn *insn)
{
    u64 expected[2] = {cpu->regs[RAX], cpu->regs[RDX]}, seen[2] = {expected[0], expected[1]};
    u64 wanted[2] = {cpu->regs[RBX], cpu->regs[RCX]}, linear;
    TRY(mem_linear(cpu, insn, 16, true, &linear));
    if (linear & 15) return cpu_gp0(cpu);
    bool faulted;
    void *at = tlb_locked_pointer(cpu, linear, 16, &faulted);
    if (faulted) return false;
    locked_fence();
    if (!at || !host_cas16(at, seen, wanted)) TRY(cas16_split(cpu, linear, seen, wanted));
    else atomic_done(cpu, at, 16);
    locked_fence();
    bool equal = seen[0] == expected[0] && seen[1] == expected[1];
    if (!equal) {
        cpu->regs[RAX] = seen[0];
        cpu->regs[RDX] = seen[1];
    }
    set_zf(cpu, equal);
    return true;
}

/* --- fences --- */

bool sem_MFENCE(struct vcpu *cpu, const struct insn *insn)
{
    (void)cpu, (void)insn;
    atomic_thread_fence(memory_order_seq_cst);
    return true;
}

bool sem_LFENCE(struct vcpu *cpu, const struct insn *insn)
{
    (void)cpu, (void)insn;
    atomic_thread_fence(memory_order_acquire);
    return true;
}

bool sem_SFENCE(struct vcpu *cpu, const struct insn *insn)
{
    (void)cpu, (void)insn;
    atomic_thread_fence(memory_order_release);
    return true;
}
