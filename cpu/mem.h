/*
 * Guest memory as instructions use it: segment → linear → soft TLB → host memory, or the slow path.
 *
 * Everything returns false with an exception recorded (cpu->exception) when the access faults, and
 * has then changed nothing. Values are native numbers; guest memory is little-endian.
 * An instruction makes all accesses that can fault before its first architectural write: use
 * mem_probe_write for later stores.
 */
#ifndef CPU_MEM_H
#define CPU_MEM_H

#include "cpu/cpu.h"

/* --- slow paths (tlb.c); any size 1..64, page crossings, devices, code pages --- */
bool tlb_read_slow(struct vcpu *cpu, u64 linear, void *to, unsigned size, enum tlb_mode mode);
bool tlb_write_slow(struct vcpu *cpu, u64 linear, const void *from, unsigned size, enum tlb_mode mode);
/* True when a write of SIZE bytes would not fault. Makes the page present and dirty. */
bool tlb_probe(struct vcpu *cpu, u64 linear, unsigned size, bool write, enum tlb_mode mode);
/* Instruction fetch: host address of LINEAR's byte, *length bytes to the end of the page, or NULL with
 * *faulted telling an exception from "not memory" (then fetch byte by byte over the bus). */
const u8 *tlb_fetch(struct vcpu *cpu, u64 linear, bool *faulted, u64 *physical);

/* The array that fetches use. With SMAP but no SMEP, user pages may be run but not read: only the AC
 * array may hold them. */
static inline enum tlb_mode tlb_fetch_mode(const struct vcpu *cpu)
{
    if (cpu->cpl == 3) return TLB_USER;
    return (cpu->cr4 & (CR4_SMAP | CR4_SMEP)) == CR4_SMAP ? TLB_KERNEL_AC : TLB_KERNEL;
}

/* Host address for a locked read-modify-write of an aligned or in-page operand of SIZE bytes that is
 * plain RAM; NULL otherwise (*faulted tells). Then take the slow way under group lock.
 * Behind the operation the caller tells memory_code_written when memory_is_code. */
void *tlb_locked_pointer(struct vcpu *cpu, u64 linear, unsigned size, bool *faulted);

void tlb_reset(struct vcpu *cpu);                  /* before first use and after a load */
void tlb_flush_all(struct vcpu *cpu);              /* globals too */
void tlb_flush_non_global(struct vcpu *cpu);       /* CR3 write: the current context's */
void tlb_switch_context(struct vcpu *cpu);         /* CR3 write that keeps the new context's */
void tlb_flush_context(struct vcpu *cpu, unsigned pcid); /* another one's, not globals */
void tlb_flush_contexts(struct vcpu *cpu);         /* all contexts', not globals */
void tlb_flush_page(struct vcpu *cpu, u64 linear); /* INVLPG */
void tlb_drop_write_tags(struct vcpu *cpu);        /* every store takes the slow path once; undo.h */
void tlb_publish_noted(struct vcpu *cpu, bool on); /* write tags of the entries in cpu->undo */
/* Drops write tags of everything that maps arena page; any thread. True: the processor may be about to
 * store there by such a tag, until its next block boundary. */
bool tlb_protect_code(struct vcpu *cpu, u64 arena_page);
/* Behind that for a thread's own processor; another's forgets when it acknowledges. Own thread. */
void tlb_forget_stack(struct tlb *tlb);
/* No store is under way that an evicted tag allowed. */
void tlb_boundary_slow(struct tlb *tlb);
static inline void tlb_boundary(struct vcpu *cpu)
{
    if (unlikely(cpu->tlb.has_evicted)) tlb_boundary_slow(&cpu->tlb);
}

/* --- page walk (mmu.c) --- */
struct walk {
    u64 physical;        /* of the page's first byte (4 KiB granularity) */
    u32 flags;           /* TLB_WRITABLE, TLB_EXECUTABLE, TLB_GLOBAL, TLB_LARGE */
    u8 large_shift;      /* of a large page: 21, 22 or 30 */
    bool user;           /* U/S allows user */
    u32 error;           /* #PF error code when it returned false */
};
enum access { ACCESS_READ, ACCESS_WRITE, ACCESS_EXECUTE };
enum walk_kind {
    WALK_ACCESS, /* sets A, and D for a write */
    WALK_PROBE,  /* pure look-up for monitor and debugger: sets nothing */
    WALK_LIGHT,  /* as ACCESS, but false too where it would have to ask outside this room; tells no
                    reason and touches no vector register */
};
bool mmu_walk(struct vcpu *cpu, u64 linear, enum access access, enum tlb_mode mode,
              enum walk_kind kind, struct walk *walk);
/* Host address of PHYSICAL where it is known to be plain memory, else NULL. Forgotten by tlb_flush_all. */
static ALWAYS_INLINE u8 *tlb_memory(const struct tlb *tlb, u64 physical)
{
    for (unsigned i = 0; i < ARRAY_SIZE(tlb->window); i++)
        if (likely(physical - tlb->window[i].first < tlb->window[i].length))
            return tlb->window[i].host + (physical - tlb->window[i].first);
    return NULL;
}
void tlb_learn(struct vcpu *cpu, u64 physical); /* notes the memory around it, if it is plain */

/*
 * The miss of translated code, which calls it on its own stack: an access by a tag check that failed for
 * TAG in the slot AT bytes into its array; HOW is enum tlb_mode * 2, + 1 for a write. True: the tag
 * is valid now. False: for the instruction's own function, which finds out why. Touches no vector
 * register (where the host is x86-64) and calls nobody outside this room.
 */
bool tlb_refill(struct vcpu *cpu, u64 tag, u64 at, unsigned how);

/* The same where the address is known. True, too, for a write of SIZE bytes beside the decoded code of a page,
 * by the only processor there is: the tag stays void, this access may go on. */
bool tlb_refill_at(struct vcpu *cpu, u64 linear, u64 at, unsigned how, unsigned size);

/*
 * A debugger's access of up to 8 bytes, aligned, to what is no memory: as this processor would see it, its local
 * APIC included; tells no stops. False: nobody is there. The processor parked, the machine lock not held.
 */
bool mem_device_read(struct vcpu *cpu, u64 physical, unsigned size, u64 *value);
bool mem_device_write(struct vcpu *cpu, u64 physical, unsigned size, u64 value);

/* The entries a walk for LINEAR reads, highest first, as far as there are any: physical addresses and, in
 * *SIZE, the bytes of each. Looks only. */
unsigned mmu_entries(struct vcpu *cpu, u64 linear, u64 place[4], unsigned *size);

static ALWAYS_INLINE struct tlb_entry *tlb_slot(struct tlb_entry *array, u64 linear)
{
    return &array[linear >> 12 & (TLB_ENTRIES - 1)];
}

/* Guest memory at its host address, SIZE 1, 2, 4 or 8. */
static ALWAYS_INLINE u64 mem_load_host(const void *p, unsigned size)
{
    switch (size) {
    case 1: return guest_ld8(p);
    case 2: return guest_ld16(p);
    case 4: return guest_ld32(p);
    default: return guest_ld64(p);
    }
}
static ALWAYS_INLINE void mem_store_host(void *p, u64 value, unsigned size)
{
    switch (size) {
    case 1: guest_st8(p, (u8)value); break;
    case 2: guest_st16(p, (u16)value); break;
    case 4: guest_st32(p, (u32)value); break;
    default: guest_st64(p, value); break;
    }
}
/* Bytes of our own, on their way there. */
static ALWAYS_INLINE u64 bytes_value(const u8 *p, unsigned size)
{
    switch (size) {
    case 1: return *p;
    case 2: return ld16(p);
    case 4: return ld32(p);
    default: return ld64(p);
    }
}

/* --- linear addresses, rights of MODE; size 1, 2, 4, 8 --- */
static ALWAYS_INLINE bool lin_read_as(struct vcpu *cpu, struct tlb_entry *array, enum tlb_mode mode,
                                      u64 linear, unsigned size, u64 *value)
{
    struct tlb_entry *e = tlb_slot(array, linear);
    if (likely(((linear + size - 1) & PAGE_MASK) ==
               atomic_load_explicit(&e->tag_read, memory_order_relaxed))) {
        *value = mem_load_host((const void *)(uintptr_t)(linear + e->addend), size);
        return true;
    }
    u8 bytes[8];
    TRY(tlb_read_slow(cpu, linear, bytes, size, mode));
    *value = bytes_value(bytes, size);
    return true;
}
static ALWAYS_INLINE bool lin_write_as(struct vcpu *cpu, struct tlb_entry *array, enum tlb_mode mode,
                                       u64 linear, unsigned size, u64 value)
{
    struct tlb_entry *e = tlb_slot(array, linear);
    if (likely(((linear + size - 1) & PAGE_MASK) ==
               atomic_load_explicit(&e->tag_write, memory_order_relaxed))) {
        mem_store_host((void *)(uintptr_t)(linear + e->addend), value, size);
        return true;
    }
    u8 bytes[8];
    st64(bytes, value);
    return tlb_write_slow(cpu, linear, bytes, size, mode);
}
/* With the rights of the running code. */
static ALWAYS_INLINE bool lin_read(struct vcpu *cpu, u64 linear, unsigned size, u64 *value)
{
    return lin_read_as(cpu, cpu->tlb_now, cpu->tlb_mode, linear, size, value);
}
static ALWAYS_INLINE bool lin_write(struct vcpu *cpu, u64 linear, unsigned size, u64 value)
{
    return lin_write_as(cpu, cpu->tlb_now, cpu->tlb_mode, linear, size, value);
}
/* Implicit supervisor accesses: descriptor tables, TSS, interrupt stacks of inner levels. */
static inline bool sys_read(struct vcpu *cpu, u64 linear, unsigned size, u64 *value)
{
    return lin_read_as(cpu, cpu->tlb.entry[TLB_KERNEL], TLB_KERNEL, linear, size, value);
}
static inline bool sys_write(struct vcpu *cpu, u64 linear, unsigned size, u64 value)
{
    return lin_write_as(cpu, cpu->tlb.entry[TLB_KERNEL], TLB_KERNEL, linear, size, value);
}

/* --- segments (seg.c has the slow half) --- */
/* Checks present, rights, limit or canonical form; #SS for SS (and RSP/RBP based in 64-bit), else #GP.
 * #AC is checked here too when it applies (CPL 3, CR0.AM, EFLAGS.AC). */
bool seg_linear_slow(struct vcpu *cpu, unsigned seg, u64 ea, unsigned size, bool write, u64 *linear);

static ALWAYS_INLINE bool seg_linear(struct vcpu *cpu, unsigned seg, u64 ea, unsigned size, bool write,
                                     u64 *linear)
{
    /* In 64-bit mode a non-canonical address never matches a tag: tlb_*_slow turns it into #GP/#SS. */
    if (likely(cpu->mode_key & MODE_FLAT) && likely(seg < FS) &&
        !(write && seg == CS && cpu->code_size != CODE64)) { /* code segments are never writable */
        *linear = ea;
        return true;
    }
    if (cpu->code_size == CODE64) {
        *linear = ea + cpu->seg[seg].base;
        return true;
    }
    return seg_linear_slow(cpu, seg, ea, size, write, linear);
}

/* Effective address of the memory operand, already cut to the address size. */
static ALWAYS_INLINE u64 insn_ea(const struct vcpu *cpu, const struct insn *insn)
{
    u64 ea = cpu->regs[insn->base] + (cpu->regs[insn->index] << insn->scale) + (i64)insn->disp;
    if (likely(insn->address_size == 8)) return ea;
    return insn->address_size == 4 ? (u32)ea : (u16)ea;
}

static ALWAYS_INLINE bool mem_linear(struct vcpu *cpu, const struct insn *insn, unsigned size,
                                     bool write, u64 *linear)
{
    return seg_linear(cpu, insn->seg, insn_ea(cpu, insn), size, write, linear);
}

/* The memory operand of INSN. */
static ALWAYS_INLINE bool mem_read(struct vcpu *cpu, const struct insn *insn, unsigned size, u64 *value)
{
    u64 linear;
    TRY(mem_linear(cpu, insn, size, false, &linear));
    return lin_read(cpu, linear, size, value);
}
static ALWAYS_INLINE bool mem_write(struct vcpu *cpu, const struct insn *insn, unsigned size, u64 value)
{
    u64 linear;
    TRY(mem_linear(cpu, insn, size, true, &linear));
    return lin_write(cpu, linear, size, value);
}

/* Faults as a write of SIZE bytes to the memory operand would. */
static ALWAYS_INLINE bool mem_probe_write(struct vcpu *cpu, const struct insn *insn, unsigned size)
{
    u64 linear;
    TRY(mem_linear(cpu, insn, size, true, &linear));
    return tlb_probe(cpu, linear, size, true, (enum tlb_mode)cpu->tlb_mode);
}

/* --- blocks of bytes, 1..64 and beyond (XSAVE): linear, rights of the running code (mem.c) ---
 * Precise: a write that would fault in its second page has written nothing. */
bool lin_read_bytes(struct vcpu *cpu, u64 linear, void *to, unsigned size);
bool lin_write_bytes(struct vcpu *cpu, u64 linear, const void *from, unsigned size);
/* The memory operand as SIZE bytes in guest order; ALIGN 0 or what it must be aligned to (#GP(0)). */
bool mem_read_bytes(struct vcpu *cpu, const struct insn *insn, void *to, unsigned size, unsigned align);
bool mem_write_bytes(struct vcpu *cpu, const struct insn *insn, const void *from, unsigned size,
                     unsigned align);
/* The same into vector lanes (handles host byte order). Size 4, 8, 16, 32, 64; lanes beyond are zeroed. */
bool mem_read_vec(struct vcpu *cpu, const struct insn *insn, union vec *to, unsigned size, unsigned align);
bool mem_write_vec(struct vcpu *cpu, const struct insn *insn, const union vec *from, unsigned size,
                   unsigned align);

/* --- stack: SS:rSP, width cpu->stack_size; rSP changes only on success --- */
bool stack_push(struct vcpu *cpu, unsigned size, u64 value);
bool stack_pop(struct vcpu *cpu, unsigned size, u64 *value);
/* Reads/writes at SS:(rSP + offset) without moving it. */
bool stack_read_at(struct vcpu *cpu, i64 offset, unsigned size, u64 *value);
bool stack_write_at(struct vcpu *cpu, i64 offset, unsigned size, u64 value);
bool stack_probe_write(struct vcpu *cpu, i64 offset, unsigned size); /* faults as a write would */
/* rSP += DELTA with the stack's width. */
static inline void stack_move(struct vcpu *cpu, i64 delta)
{
    u64 sp = cpu->regs[RSP] + delta;
    if (cpu->stack_size == 8) cpu->regs[RSP] = sp;
    else if (cpu->stack_size == 4) cpu->regs[RSP] = (u32)sp;
    else cpu->regs[RSP] = (cpu->regs[RSP] & ~0xffffull) | (sp & 0xffff);
}

#endif
