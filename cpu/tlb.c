/*
 * The soft TLB's slow half: filling entries, accesses that may not go straight to memory (devices,
 * the local APIC's page, ROM, code pages, data breakpoints, page crossings), and flushing.
 * Specification: Intel SDM vol. 3 ch. 4.10 (what may be cached), 17.2 (data breakpoints).
 *
 * Entries have no process-context tags: a change of context drops all that are not global. What the
 * translator and the paging-structure cache (mmu.c) know of a context stays while its CR3 writes say so.
 *
 * Every filled slot is in a list: one for entries that CR3 writes drop, one for globals. A slot is in
 * each list at most once (TLB_LISTED, TLB_LISTED_GLOBAL in `slow` survive the entry's invalidation).
 */
#include "cpu/debug.h" /* debug_page_watched, debug_access */
#include "cpu/mem.h"
#include "cpu/smm.h" /* cpu_sees_smram */
#include "cpu/undo.h"

#define TLB_LISTS (TLB_LISTED | TLB_LISTED_GLOBAL)

#define COUNT(cpu, name) ((cpu)->tlb.stats[TLB_STAT_##name]++)

static void tag_set(_Atomic u64 *tag, u64 value)
{
    atomic_store_explicit(tag, value, memory_order_release);
}

void tlb_forget_stack(struct tlb *tlb)
{
    tlb->stack.tag = TLB_STACK_NONE;
    tlb->stack.addend = (u64)(uintptr_t)tlb->nowhere - TLB_STACK_NONE;
}

/* The entry SLOT of any mode is about to change. */
static ALWAYS_INLINE void forget_stack_at(struct tlb *tlb, unsigned slot)
{
    if (unlikely((tlb->stack.tag >> 12 & (TLB_ENTRIES - 1)) == slot)) tlb_forget_stack(tlb);
}

static void entry_drop(struct tlb *tlb, unsigned mode, unsigned slot)
{
    struct tlb_entry *e = &tlb->entry[mode][slot];
    forget_stack_at(tlb, slot);
    tag_set(&e->tag_read, TLB_INVALID_TAG);
    tag_set(&e->tag_write, TLB_INVALID_TAG);
    e->slow &= TLB_LISTS;
    tlb->slow_tag[mode][slot] = TLB_INVALID_TAG;
}

static u8 *entry_host(const struct tlb_entry *e, u64 linear)
{
    return (u8 *)(uintptr_t)(linear + e->addend);
}

/* Other processors read the lists (tlb_protect_code): the element is there before the count says so. */
static ALWAYS_INLINE void list_add(u16 *list, u16 *count, unsigned slot)
{
    u16 n = *count;
    __atomic_store_n(&list[n], (u16)slot, __ATOMIC_RELEASE);
    __atomic_store_n(count, n + 1, __ATOMIC_RELEASE);
}

static ALWAYS_INLINE void list_slot(struct tlb *tlb, unsigned mode, unsigned slot, struct tlb_entry *e)
{
    if (e->slow & TLB_GLOBAL) {
        if (e->slow & TLB_LISTED_GLOBAL) return;
        e->slow |= TLB_LISTED_GLOBAL;
        list_add(tlb->touched_global[mode], &tlb->touched_global_count[mode], slot);
    } else {
        if (e->slow & TLB_LISTED) return;
        e->slow |= TLB_LISTED;
        list_add(tlb->touched[mode], &tlb->touched_count[mode], slot);
    }
}

/* --- contexts: the current one's paging-structure cache has an epoch of its own --- */

static __typeof__(&((struct tlb *)0)->context[0]) context_of(struct tlb *tlb, unsigned pcid)
{
    return &tlb->context[pcid & (ARRAY_SIZE(tlb->context) - 1)];
}

static void forget_contexts(struct tlb *tlb)
{
    for (unsigned i = 0; i < ARRAY_SIZE(tlb->context); i++) tlb->context[i].epoch = 0;
}

/* Nothing is known of the current context's tables from now on. */
static void forget_directories(struct vcpu *cpu)
{
    struct tlb *tlb = &cpu->tlb;
    unsigned pcid = cpu_pcid(cpu);
    if (unlikely(!++tlb->directory_last)) {
        for (unsigned i = 0; i < TLB_DIRECTORIES; i++) tlb->directory[i].key = 0;
        forget_contexts(tlb);
        tlb->directory_last = 1;
    }
    tlb->directory_epoch = context_of(tlb, pcid)->epoch = tlb->directory_last;
    context_of(tlb, pcid)->pcid = (u16)pcid;
}

static void unmapped(struct vcpu *cpu, enum unmapped what, u64 which)
{
    if (cpu->engine_unmapped) cpu->engine_unmapped(cpu, what, which);
}

void tlb_learn(struct vcpu *cpu, u64 physical)
{
    struct tlb *tlb = &cpu->tlb;
    struct memory_window window;
    if (memory_window(cpu->bus, physical & PAGE_MASK, cpu_sees_smram(cpu), &window))
        tlb->window[tlb->window_next++ % ARRAY_SIZE(tlb->window)] = window;
}

static void drop_non_global(struct tlb *tlb)
{
    for (unsigned mode = 0; mode < TLB_MODES; mode++) {
        for (unsigned i = 0; i < tlb->touched_count[mode]; i++) {
            unsigned slot = tlb->touched[mode][i];
            struct tlb_entry *e = &tlb->entry[mode][slot];
            e->slow &= ~(u64)TLB_LISTED;
            if (e->slow & TLB_GLOBAL) list_slot(tlb, mode, slot, e);
            else entry_drop(tlb, mode, slot);
        }
        __atomic_store_n(&tlb->touched_count[mode], 0, __ATOMIC_RELEASE);
    }
}

static void log_flush(struct vcpu *cpu, const char *what)
{
    log_to(cpu->log, LOG_MMU, "cpu%u: TLB flush, %s, CR3=%016llx", cpu->index, what, (unsigned long long)cpu->cr3);
}

void tlb_flush_non_global(struct vcpu *cpu)
{
    COUNT(cpu, FLUSH_LOCAL);
    log_flush(cpu, "not global");
    forget_directories(cpu);
    drop_non_global(&cpu->tlb);
    unmapped(cpu, UNMAPPED_CONTEXT, cpu_pcid(cpu));
}

void tlb_switch_context(struct vcpu *cpu)
{
    struct tlb *tlb = &cpu->tlb;
    unsigned pcid = cpu_pcid(cpu);
    log_flush(cpu, "another context");
    if (context_of(tlb, pcid)->pcid == pcid && context_of(tlb, pcid)->epoch)
        tlb->directory_epoch = context_of(tlb, pcid)->epoch;
    else forget_directories(cpu);
    drop_non_global(tlb);
    unmapped(cpu, UNMAPPED_SWITCH, 0);
}

void tlb_flush_context(struct vcpu *cpu, unsigned pcid)
{
    context_of(&cpu->tlb, pcid)->epoch = 0; /* a neighbour's loss does no harm */
    unmapped(cpu, UNMAPPED_CONTEXT, pcid);
}

void tlb_flush_contexts(struct vcpu *cpu)
{
    log_flush(cpu, "all contexts");
    forget_contexts(&cpu->tlb);
    forget_directories(cpu);
    drop_non_global(&cpu->tlb);
    unmapped(cpu, UNMAPPED_CONTEXTS, 0);
}

void tlb_flush_all(struct vcpu *cpu)
{
    struct tlb *tlb = &cpu->tlb;
    COUNT(cpu, FLUSH_ALL);
    log_flush(cpu, "everything");
    forget_contexts(tlb);
    forget_directories(cpu);
    drop_non_global(tlb);
    for (unsigned mode = 0; mode < TLB_MODES; mode++) {
        for (unsigned i = 0; i < tlb->touched_global_count[mode]; i++) {
            unsigned slot = tlb->touched_global[mode][i];
            entry_drop(tlb, mode, slot);
            tlb->entry[mode][slot].slow = 0;
        }
        __atomic_store_n(&tlb->touched_global_count[mode], 0, __ATOMIC_RELEASE);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(tlb->window); i++) tlb->window[i].length = 0;
    memset(tlb->large_2m, 0, sizeof(tlb->large_2m));
    tlb->large_1g = 0;
    unmapped(cpu, UNMAPPED_ALL, 0);
}

/* Number of the bit of LINEAR's 2 MiB. */
static ALWAYS_INLINE unsigned large_bit(u64 linear)
{
    return (unsigned)((linear >> 21) * 0x9e3779b97f4a7c15ull >> 48);
}

static void large_set(struct tlb *tlb, unsigned bit) { tlb->large_2m[bit >> 6] |= 1ull << (bit & 63); }

static void tlb_note_large(struct tlb *tlb, u64 linear, unsigned shift)
{
    if (shift == 30) {
        tlb->large_1g |= 1ull << (linear >> 30 & 63);
        return;
    }
    large_set(tlb, large_bit(linear));
    if (shift == 22) large_set(tlb, large_bit(linear ^ MIB(2)));
}

static void drop_large(struct tlb *tlb, u64 linear, unsigned shift, unsigned first, unsigned count)
{
    for (unsigned mode = 0; mode < TLB_MODES; mode++)
        for (unsigned slot = first; slot < first + count; slot++)
            if ((tlb->entry[mode][slot].slow & TLB_LARGE) &&
                !((tlb->slow_tag[mode][slot] ^ linear) >> shift))
                entry_drop(tlb, mode, slot);
}

/* INVLPG names any address of a large page and means all its 4 KiB slices. */
void tlb_flush_page(struct vcpu *cpu, u64 linear)
{
    struct tlb *tlb = &cpu->tlb;
    u64 page = linear & PAGE_MASK;
    unsigned slot = page >> 12 & (TLB_ENTRIES - 1);
    COUNT(cpu, FLUSH_PAGE);
    log_to(cpu->log, LOG_MMU, "cpu%u: TLB flush of %016llx", cpu->index, (unsigned long long)linear);
    forget_directories(cpu); /* INVLPG drops the context's paging-structure cache whatever the address */
    unmapped(cpu, UNMAPPED_PAGE, page);
    for (unsigned mode = 0; mode < TLB_MODES; mode++)
        if (tlb->slow_tag[mode][slot] == page) entry_drop(tlb, mode, slot);
    unsigned bit = large_bit(linear);
    bool large = tlb->large_2m[bit >> 6] >> (bit & 63) & 1;
    bool huge = tlb->large_1g >> (linear >> 30 & 63) & 1;
    if (likely(!large && !huge)) return;
    if (large) drop_large(tlb, linear, 22, slot & ~1023u, 1024);
    if (huge) drop_large(tlb, linear, 30, 0, TLB_ENTRIES);
    unmapped(cpu, UNMAPPED_ALL, 0);
}

/* Everything anew, whatever the memory held. */
void tlb_reset(struct vcpu *cpu)
{
    struct tlb *tlb = &cpu->tlb;
    memset(tlb->touched_count, 0, sizeof(tlb->touched_count));
    memset(tlb->touched_global_count, 0, sizeof(tlb->touched_global_count));
    for (unsigned mode = 0; mode < TLB_MODES; mode++)
        for (unsigned slot = 0; slot < TLB_ENTRIES; slot++) {
            entry_drop(tlb, mode, slot);
            tlb->entry[mode][slot].slow = 0;
        }
    tlb_flush_all(cpu);
    cpu->map_generation =
        atomic_load_explicit(&cpu->memory->map_generation, memory_order_acquire);
}

/* Called by any thread. The owner may be filling: it looks at the page's granules after it has
 * published a write tag, we look at the tags after the granules were set, so one of us sees the other. */
static bool protect_list(struct tlb *tlb, unsigned mode, const u16 *list, const u16 *count,
                         const struct vcpu *cpu, u64 arena_page_wanted)
{
    bool any = false;
    unsigned n = __atomic_load_n(count, __ATOMIC_ACQUIRE);
    for (unsigned i = 0; i < n; i++) {
        unsigned slot = __atomic_load_n(&list[i], __ATOMIC_ACQUIRE) & (TLB_ENTRIES - 1);
        struct tlb_entry *e = &tlb->entry[mode][slot];
        u64 tag = atomic_load_explicit(&e->tag_write, memory_order_acquire);
        if (tag & TLB_INVALID_TAG) continue;
        u64 addend = __atomic_load_n(&e->addend, __ATOMIC_ACQUIRE);
        if ((tag + addend - (u64)(uintptr_t)cpu->memory->arena) >> 12 != arena_page_wanted) continue;
        tag_set(&e->tag_write, TLB_INVALID_TAG);
        any = true;
    }
    return any;
}

static unsigned evicted_bit(u64 arena_page)
{
    return (unsigned)(arena_page * 0x9e3779b97f4a7c15ull >> 55) & (TLB_EVICTED - 1);
}

/* E, which may have allowed stores, goes for want of room. Translated code may have looked at it
 * for stores to come, so who looks for the tag must find this instead. */
static ALWAYS_INLINE void note_evicted(struct vcpu *cpu, const struct tlb_entry *e)
{
    u64 tag = atomic_load_explicit(&e->tag_write, memory_order_relaxed);
    if (cpu->count == 1 || (tag & TLB_INVALID_TAG)) return;
    const u8 *host = entry_host(e, tag);
    unsigned bit = evicted_bit(arena_page(cpu->memory, host));
    _Atomic u64 *word = &cpu->tlb.evicted[bit / 64];
    atomic_store_explicit(word, atomic_load_explicit(word, memory_order_relaxed) | 1ull << bit % 64,
                          memory_order_release);
    cpu->tlb.has_evicted = true;
}

void tlb_boundary_slow(struct tlb *tlb)
{
    for (unsigned i = 0; i < ARRAY_SIZE(tlb->evicted); i++)
        atomic_store_explicit(&tlb->evicted[i], 0, memory_order_release);
    tlb->has_evicted = false;
}

bool tlb_protect_code(struct vcpu *cpu, u64 arena_page)
{
    struct tlb *tlb = &cpu->tlb;
    bool any = false;
    atomic_thread_fence(memory_order_seq_cst);
    /* Non-globals first: a slot moves from that list to the other, never back without a refill. */
    for (unsigned mode = 0; mode < TLB_MODES; mode++) {
        any |= protect_list(tlb, mode, tlb->touched[mode], &tlb->touched_count[mode], cpu, arena_page);
        any |= protect_list(tlb, mode, tlb->touched_global[mode], &tlb->touched_global_count[mode], cpu,
                            arena_page);
    }
    unsigned bit = evicted_bit(arena_page);
    return any | (atomic_load_explicit(&tlb->evicted[bit / 64], memory_order_acquire) >> bit % 64 & 1);
}

/* --- filling --- */

/* Before an access is looked up, not when another entry is filled: the access may have two of them. */
static void stress_evict(struct vcpu *cpu)
{
    struct cpu_stress *s = &cpu->stress;
    for (; s->count > s->tlb_entries; s->count--) {
        note_evicted(cpu, &cpu->tlb.entry[s->filled[s->first].mode][s->filled[s->first].slot]);
        entry_drop(&cpu->tlb, s->filled[s->first].mode, s->filled[s->first].slot);
        s->first = (s->first + 1) % STRESS_TLB_MOST;
    }
}

static void stress_filled(struct vcpu *cpu, unsigned mode, unsigned slot)
{
    struct cpu_stress *s = &cpu->stress;
    if (s->count == STRESS_TLB_MOST) return;
    unsigned last = (s->first + s->count++) % STRESS_TLB_MOST;
    s->filled[last].mode = (u16)mode;
    s->filled[last].slot = (u16)slot;
}

/* Makes the write tag valid when a store may go straight to memory. */
static void publish_write(struct vcpu *cpu, struct tlb_entry *e, u64 page)
{
    u8 *host = entry_host(e, page);
    if (unlikely(cpu->undo) && !undo_may_publish(cpu, host)) return;
    cpu->tlb.published++;
    if (memory_is_code(cpu->memory, host)) {
        e->slow |= TLB_CODE;
        return;
    }
    e->slow &= ~(u64)TLB_CODE;
    tag_set(&e->tag_write, page);
    if (cpu->count > 1) {
        atomic_thread_fence(memory_order_seq_cst);
        if (memory_is_code(cpu->memory, host)) {
            tag_set(&e->tag_write, TLB_INVALID_TAG);
            e->slow |= TLB_CODE;
        }
    }
}

static void drop_listed(struct tlb *tlb, unsigned mode, const u16 *list, unsigned count)
{
    for (unsigned i = 0; i < count; i++) tag_set(&tlb->entry[mode][list[i]].tag_write, TLB_INVALID_TAG);
}

void tlb_drop_write_tags(struct vcpu *cpu)
{
    struct tlb *tlb = &cpu->tlb;
    if (!tlb->published) return;
    tlb->published = 0;
    tlb_forget_stack(tlb);
    for (unsigned mode = 0; mode < TLB_MODES; mode++) {
        drop_listed(tlb, mode, tlb->touched[mode], tlb->touched_count[mode]);
        drop_listed(tlb, mode, tlb->touched_global[mode], tlb->touched_global_count[mode]);
    }
}

static bool is_apic_page(const struct vcpu *cpu, u64 physical)
{
    if (!cpu->apic.apic || (cpu->apic_base & (3 << 10)) != 1 << 11) return false;
    return physical == (cpu->apic_base & cpu->physical_mask & PAGE_MASK);
}

static bool tlb_direct(const struct vcpu *cpu, u64 slow, enum tlb_mode mode)
{
    return !(slow & (TLB_IO | TLB_WATCH)) && !(mode == TLB_USER && cpu->align_check);
}

void tlb_publish_noted(struct vcpu *cpu, bool on)
{
    struct tlb *tlb = &cpu->tlb;
    tlb_forget_stack(tlb);
    for (unsigned i = 0; i < cpu->undo->entries; i++) {
        struct tlb_entry *e = cpu->undo->entry[i].entry;
        unsigned at = (unsigned)(e - &tlb->entry[0][0]), mode = at / TLB_ENTRIES;
        u64 page = cpu->undo->entry[i].page;
        if (!on) tag_set(&e->tag_write, TLB_INVALID_TAG);
        else if (tlb->slow_tag[mode][at % TLB_ENTRIES] == page && tlb_direct(cpu, e->slow, (enum tlb_mode)mode) &&
                 (e->slow & (TLB_WRITABLE | TLB_ROM)) == TLB_WRITABLE)
            publish_write(cpu, e, page);
    }
}

/* PAGE's entry: HOST is NULL for what is not memory; SLOW has the walk's flags and more. */
static ALWAYS_INLINE struct tlb_entry *entry_set(struct vcpu *cpu, u64 page, enum tlb_mode mode, u64 slow,
                                                 const u8 *host)
{
    struct tlb *tlb = &cpu->tlb;
    unsigned slot = page >> 12 & (TLB_ENTRIES - 1);
    struct tlb_entry *e = &tlb->entry[mode][slot];
    note_evicted(cpu, e);
    forget_stack_at(tlb, slot);
    tag_set(&e->tag_read, TLB_INVALID_TAG);
    tag_set(&e->tag_write, TLB_INVALID_TAG);
    tlb->slow_tag[mode][slot] = page;
    __atomic_store_n(&e->addend, host ? (u64)(uintptr_t)host - page : 0, __ATOMIC_RELEASE);
    e->slow = slow | TLB_PRESENT | (e->slow & TLB_LISTS);
    list_slot(tlb, mode, slot, e);
    if (unlikely(cpu->stress.tlb_entries)) stress_filled(cpu, mode, slot);
    if (tlb_direct(cpu, slow, mode)) {
        tag_set(&e->tag_read, page);
        if ((slow & (TLB_WRITABLE | TLB_ROM)) == TLB_WRITABLE) publish_write(cpu, e, page);
    }
    return e;
}

static void fill_count(struct vcpu *cpu, u64 page, enum access access, enum tlb_mode mode)
{
    u64 old = cpu->tlb.slow_tag[mode][page >> 12 & (TLB_ENTRIES - 1)];
    cpu->tlb.stats[TLB_STAT_FILL_READ + access]++;
    if (old == page) COUNT(cpu, WRITABLE);
    else if (old != TLB_INVALID_TAG) COUNT(cpu, EVICTED);
}

static struct tlb_entry *tlb_fill(struct vcpu *cpu, u64 linear, enum access access,
                                  enum tlb_mode mode)
{
    struct walk walk;
    if (unlikely(!mmu_walk(cpu, linear, access, mode, WALK_ACCESS, &walk))) {
        COUNT(cpu, FAULT);
        cpu_page_fault(cpu, linear, walk.error);
        return NULL;
    }
    u64 page = linear & PAGE_MASK;
    u64 physical = walk.physical & cpu->a20_mask & PAGE_MASK;
    u64 slow = physical | walk.flags;
    u8 *host = NULL;

    fill_count(cpu, page, access, mode);
    if (walk.flags & TLB_LARGE) tlb_note_large(&cpu->tlb, page, walk.large_shift);
    if (unlikely(is_apic_page(cpu, physical))) {
        slow |= TLB_APIC;
    } else if (!(host = tlb_memory(&cpu->tlb, physical))) {
        struct memory_target target = {0};
        tlb_learn(cpu, physical);
        memory_resolve(cpu->bus, physical, cpu_sees_smram(cpu), &target);
        host = target.host;
        if (host && target.read_only) slow |= TLB_ROM;
    }
    if (!host) slow |= TLB_IO;
    if (unlikely(cpu->watch_pages) && debug_page_watched(cpu, page, physical)) slow |= TLB_WATCH;
    return entry_set(cpu, page, mode, slow, host);
}

/* PAGE, linear or physical, may have a watchpoint. */
static bool maybe_watched(const u64 bits[64], u64 page) { return bits[page >> 18 & 63] >> (page >> 12 & 63) & 1; }

/* The rarer a case the sooner it is left to the slow path. */
bool tlb_refill(struct vcpu *cpu, u64 tag, u64 at, unsigned how)
{
    enum tlb_mode mode = (enum tlb_mode)(how >> 1);
    bool write = how & 1;
    unsigned slot = (unsigned)(at / sizeof(struct tlb_entry));
    struct tlb_entry *e = &cpu->tlb.entry[mode][slot];
    if (unlikely(tag & (PAGE_SIZE - 1)) ||                        /* misaligned */
        unlikely((tag >> 12 & (TLB_ENTRIES - 1)) != slot) ||      /* in two pages */
        unlikely(!cpu_is_canonical(tag)) || (unlikely(cpu->watch_pages) && maybe_watched(cpu->watch_linear, tag)) ||
        unlikely(cpu->undo != NULL) || unlikely(cpu->stress.tlb_entries) ||
        unlikely(mode == TLB_USER && cpu->align_check) ||
        unlikely(atomic_load_explicit(&cpu->memory->map_generation, memory_order_relaxed) !=
                 cpu->map_generation))
        return false;
    /* What is there but not for this access is a device's, or code, or wants its dirty bit. */
    if (cpu->tlb.slow_tag[mode][slot] == tag && (!write || (e->slow & TLB_WRITABLE))) return false;
    struct walk walk;
    if (!mmu_walk(cpu, tag, write ? ACCESS_WRITE : ACCESS_READ, mode, WALK_LIGHT, &walk)) return false;
    fill_count(cpu, tag, write ? ACCESS_WRITE : ACCESS_READ, mode);
    u64 physical = walk.physical & cpu->a20_mask & PAGE_MASK;
    u8 *host = tlb_memory(&cpu->tlb, physical);
    if (unlikely(!host) || unlikely(is_apic_page(cpu, physical)) ||
        (unlikely(cpu->watch_pages) && maybe_watched(cpu->watch_physical, physical)))
        return false;
    if (walk.flags & TLB_LARGE) tlb_note_large(&cpu->tlb, tag, walk.large_shift);
    entry_set(cpu, tag, mode, physical | walk.flags, host);
    return tag == (write ? atomic_load_explicit(&e->tag_write, memory_order_relaxed)
                         : atomic_load_explicit(&e->tag_read, memory_order_relaxed));
}

static bool beside_code(struct vcpu *cpu, const struct tlb_entry *e, u64 linear, unsigned size)
{
    const u32 other = TLB_IO | TLB_ROM | TLB_WATCH | TLB_APIC, want = TLB_PRESENT | TLB_WRITABLE;
    if ((e->slow & (other | want)) != want) return false;
    unsigned first = linear & (PAGE_SIZE - 1);
    struct code_page *page = &cpu->memory->code_pages[arena_page(cpu->memory, entry_host(e, linear))];
    u64 hit = ~0ull >> (63 - ((first + size - 1) >> 6) + (first >> 6)) << (first >> 6);
    u64 granules = atomic_load_explicit(&page->granules, memory_order_relaxed);
    return granules && !(granules & hit);
}

bool tlb_refill_at(struct vcpu *cpu, u64 linear, u64 at, unsigned how, unsigned size)
{
    u64 tag = (linear + size - 1) & PAGE_MASK;
    enum tlb_mode mode = (enum tlb_mode)(how >> 1);
    unsigned slot = (unsigned)(at / sizeof(struct tlb_entry));
    if ((how & 1) && cpu->count == 1 && cpu->tlb.slow_tag[mode][slot] == tag && (linear & PAGE_MASK) == tag &&
        likely(!cpu->undo && !cpu->stress.tlb_entries && !(mode == TLB_USER && cpu->align_check)) &&
        beside_code(cpu, &cpu->tlb.entry[mode][slot], linear, size)) {
        COUNT(cpu, BESIDE);
        return true;
    }
    return tlb_refill(cpu, tag, at, how);
}

static struct tlb_entry *tlb_find(struct vcpu *cpu, u64 linear, enum access access,
                                  enum tlb_mode mode)
{
    static const u16 needed[] = {
        [ACCESS_READ] = 0, [ACCESS_WRITE] = TLB_WRITABLE, [ACCESS_EXECUTE] = TLB_EXECUTABLE};
    u64 page = linear & PAGE_MASK;
    unsigned slot = page >> 12 & (TLB_ENTRIES - 1);
    struct tlb_entry *e = &cpu->tlb.entry[mode][slot];
    if (cpu->tlb.slow_tag[mode][slot] == page && (e->slow & needed[access]) == needed[access])
        return e;
    return tlb_fill(cpu, linear, access, mode);
}

/* Physical addresses mean something else since the TLB was filled? */
static void tlb_sync(struct vcpu *cpu)
{
    u32 now = atomic_load_explicit(&cpu->memory->map_generation, memory_order_acquire);
    if (unlikely(now != cpu->map_generation)) {
        tlb_flush_all(cpu);
        cpu->map_generation = now;
    }
}

/*
 * What an access [linear, linear+size) is made of: the run in its first page and that in its second.
 * Outside 64-bit code linear addresses are 32 bits wide and wrap.
 */
struct span {
    u64 linear[2];
    unsigned length[2]; /* length[1] is 0 when it stays in a page */
    struct tlb_entry *entry[2];
};

static bool span_make(struct vcpu *cpu, u64 linear, unsigned size, struct span *span)
{
    if (!cpu_long_mode(cpu)) linear = (u32)linear;
    unsigned room = PAGE_SIZE - (linear & (PAGE_SIZE - 1));
    u64 next = (linear | (PAGE_SIZE - 1)) + 1;
    if (cpu->code_size != CODE64 && next == GIB(4)) next = 0;
    span->linear[0] = linear;
    span->linear[1] = next;
    span->length[0] = size < room ? size : room;
    span->length[1] = size - span->length[0];
    if (unlikely(!cpu_is_canonical(linear) || (span->length[1] && !cpu_is_canonical(next)))) {
        cpu_gp0(cpu);
        cpu->exception.address = linear;
        cpu->fault_noncanonical = true; /* intr.c tells #SS from #GP */
        return false;
    }
    return true;
}

static bool span_translate(struct vcpu *cpu, u64 linear, unsigned size, enum access access,
                           enum tlb_mode mode, struct span *span)
{
    tlb_sync(cpu);
    if (unlikely(cpu->stress.tlb_entries)) stress_evict(cpu);
    TRY(span_make(cpu, linear, size, span));
    span->entry[0] = tlb_find(cpu, span->linear[0], access, mode);
    TRY(span->entry[0]);
    if (unlikely(span->length[1])) {
        COUNT(cpu, CROSSING);
        span->entry[1] = tlb_find(cpu, span->linear[1], access, mode);
        TRY(span->entry[1]);
    }
    if (unlikely(cpu->undo) && access != ACCESS_EXECUTE)
        for (unsigned i = 0; i < 2 && span->length[i]; i++)
            TRY(undo_access(cpu, span->entry[i], span->linear[i], access == ACCESS_WRITE));
    if (unlikely(cpu->align_check) && mode == TLB_USER && access != ACCESS_EXECUTE && size <= 8 &&
        !(size & (size - 1)) && (linear & (size - 1)))
        return cpu_fault_error(cpu, VECTOR_AC, 0);
    return true;
}

/* --- one page's run --- */

static unsigned piece_size(unsigned left)
{
    return left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
}

/* Registers are 32 bits wide, 16 bytes apart; narrower and wider accesses are undefined there. */
static u64 apic_page_read(struct vcpu *cpu, unsigned offset, unsigned size)
{
    u64 value = 0;
    if (cpu->lock) cpu->lock(cpu->lock_opaque);
    for (unsigned i = 0; i < size;) {
        unsigned at = offset + i, shift = (at & 3) * 8;
        value |= (u64)(cpu->apic.mmio_read(cpu->apic.apic, at & ~3u) >> shift) << (i * 8);
        i += 4 - (at & 3);
    }
    if (cpu->unlock) cpu->unlock(cpu->lock_opaque);
    return value & size_mask(size);
}

static void apic_page_write(struct vcpu *cpu, unsigned offset, u64 value, unsigned size)
{
    if (size < 4 || (offset & 3)) {
        log_to(cpu->log, LOG_GUEST_ERROR, "cpu%u: %u-byte write to local APIC register %03x ignored",
               cpu->index, size, offset);
        return;
    }
    if (cpu->lock) cpu->lock(cpu->lock_opaque);
    cpu->apic.mmio_write(cpu->apic.apic, offset, (u32)value);
    if (cpu->unlock) cpu->unlock(cpu->lock_opaque);
}

static void io_read(struct vcpu *cpu, u64 slow, u64 physical, u8 *to, unsigned size)
{
    u8 bytes[8];
    while (size) {
        unsigned n = piece_size(size);
        u64 value = slow & TLB_APIC
                        ? apic_page_read(cpu, physical & (PAGE_SIZE - 1), n)
                        : bus_memory_read_as(cpu->bus, physical, n, cpu_sees_smram(cpu));
        st64(bytes, value);
        memcpy(to, bytes, n);
        if (unlikely(cpu->stops != NULL)) stops_mmio(cpu, physical, slow & TLB_APIC, n, false, value);
        to += n, physical += n, size -= n;
    }
}

static void io_write(struct vcpu *cpu, u64 slow, u64 physical, const u8 *from, unsigned size)
{
    while (size) {
        unsigned n = piece_size(size);
        u64 value = bytes_value(from, n);
        if (slow & TLB_APIC) apic_page_write(cpu, physical & (PAGE_SIZE - 1), value, n);
        else bus_memory_write_as(cpu->bus, physical, value, n, cpu_sees_smram(cpu));
        if (unlikely(cpu->stops != NULL)) stops_mmio(cpu, physical, slow & TLB_APIC, n, true, value);
        from += n, physical += n, size -= n;
    }
}

static bool has_device(const struct vcpu *cpu, u64 physical, bool *apic)
{
    u64 offset;
    *apic = is_apic_page(cpu, physical & PAGE_MASK);
    return *apic || bus_region_name(cpu->bus, physical, &offset);
}

bool mem_device_read(struct vcpu *cpu, u64 physical, unsigned size, u64 *value)
{
    bool apic;
    if (!has_device(cpu, physical, &apic)) return false;
    *value = apic ? apic_page_read(cpu, physical & (PAGE_SIZE - 1), size)
                  : bus_memory_read_as(cpu->bus, physical, size, cpu_sees_smram(cpu));
    return true;
}

bool mem_device_write(struct vcpu *cpu, u64 physical, unsigned size, u64 value)
{
    bool apic;
    if (!has_device(cpu, physical, &apic)) return false;
    if (apic) apic_page_write(cpu, physical & (PAGE_SIZE - 1), value, size);
    else bus_memory_write_as(cpu->bus, physical, value, size, cpu_sees_smram(cpu));
    return true;
}

static u64 entry_physical(const struct tlb_entry *e, u64 linear)
{
    return (e->slow & ~(u64)0xfff & 0x000fffffffffffffull) | (linear & (PAGE_SIZE - 1));
}

static void run_read(struct vcpu *cpu, const struct tlb_entry *e, u64 linear, void *to, unsigned size)
{
    if (likely(!(e->slow & TLB_IO))) {
        guest_copy(to, entry_host(e, linear), size);
    } else {
        COUNT(cpu, DEVICE);
        io_read(cpu, e->slow, entry_physical(e, linear), to, size);
    }
}

static void run_write(struct vcpu *cpu, struct tlb_entry *e, u64 linear, const void *from,
                      unsigned size)
{
    if (unlikely(e->slow & (TLB_IO | TLB_ROM))) {
        if (e->slow & TLB_IO) COUNT(cpu, DEVICE);
        else COUNT(cpu, ROM);
        io_write(cpu, e->slow, entry_physical(e, linear), from, size);
        return;
    }
    u8 *host = entry_host(e, linear);
    bool code = memory_is_code(cpu->memory, host);
    if (!code && tlb_direct(cpu, e->slow, (enum tlb_mode)((e - &cpu->tlb.entry[0][0]) / TLB_ENTRIES)))
        publish_write(cpu, e, linear & PAGE_MASK);
    guest_copy(host, from, size);
    /* Behind the store: what another processor decodes in between is void. */
    if (likely(!code)) return;
    COUNT(cpu, CODE);
    if (!memory_code_written(cpu->memory, host, size)) return;
    COUNT(cpu, CODE_HIT);
    cpu->leave_block = true;
}

static void span_watch(struct vcpu *cpu, const struct span *span, bool write)
{
    COUNT(cpu, WATCHED);
    for (unsigned i = 0; i < 2 && span->length[i]; i++)
        if (span->entry[i]->slow & TLB_WATCH)
            debug_access(cpu, span->linear[i], entry_physical(span->entry[i], span->linear[i]),
                         span->length[i], write);
}

/* --- the slow paths of mem.h --- */

bool tlb_read_slow(struct vcpu *cpu, u64 linear, void *to, unsigned size, enum tlb_mode mode)
{
    struct span span;
    COUNT(cpu, READ_SLOW);
    TRY(span_translate(cpu, linear, size, ACCESS_READ, mode, &span));
    run_read(cpu, span.entry[0], span.linear[0], to, span.length[0]);
    if (unlikely(span.length[1]))
        run_read(cpu, span.entry[1], span.linear[1], (u8 *)to + span.length[0], span.length[1]);
    if (unlikely(cpu->watch_pages)) span_watch(cpu, &span, false);
    return true;
}

bool tlb_write_slow(struct vcpu *cpu, u64 linear, const void *from, unsigned size,
                    enum tlb_mode mode)
{
    struct span span;
    COUNT(cpu, WRITE_SLOW);
    TRY(span_translate(cpu, linear, size, ACCESS_WRITE, mode, &span));
    run_write(cpu, span.entry[0], span.linear[0], from, span.length[0]);
    if (unlikely(span.length[1]))
        run_write(cpu, span.entry[1], span.linear[1], (const u8 *)from + span.length[0],
                  span.length[1]);
    if (unlikely(cpu->watch_pages)) span_watch(cpu, &span, true);
    return true;
}

bool tlb_probe(struct vcpu *cpu, u64 linear, unsigned size, bool write, enum tlb_mode mode)
{
    struct span span;
    return span_translate(cpu, linear, size, write ? ACCESS_WRITE : ACCESS_READ, mode, &span);
}

const u8 *tlb_fetch(struct vcpu *cpu, u64 linear, bool *faulted, u64 *physical)
{
    struct span span;
    *faulted = !span_translate(cpu, linear, 1, ACCESS_EXECUTE, tlb_fetch_mode(cpu), &span);
    if (*faulted) return NULL;
    const struct tlb_entry *e = span.entry[0];
    *physical = entry_physical(e, span.linear[0]);
    return e->slow & TLB_IO ? NULL : entry_host(e, span.linear[0]);
}

void *tlb_locked_pointer(struct vcpu *cpu, u64 linear, unsigned size, bool *faulted)
{
    struct span span;
    *faulted = !span_translate(cpu, linear, size, ACCESS_WRITE, cpu->tlb_mode, &span);
    if (*faulted || span.length[1] || (span.entry[0]->slow & (TLB_IO | TLB_ROM))) return NULL;
    u8 *host = entry_host(span.entry[0], span.linear[0]);
    if (unlikely(cpu->watch_pages)) span_watch(cpu, &span, true);
    return host;
}
