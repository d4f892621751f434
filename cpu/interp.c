/*
 * Tier 0: decodes guest code into blocks, keeps them, and runs them by threaded calls.
 *
 * A block is straight-line code of one page: it ends behind the first instruction that may change
 * rip, mode or mapping, except that it goes on behind a few conditional branches not taken. Blocks
 * are found by arena page, offset and mode, so every mapping of a page shares them; a direct-mapped
 * cache by linear address comes first, checked against the TLB, which is what notices remapping. A
 * write to a page's decoded granules moves the page's generation on and so voids its blocks.
 * Memory is bounded: when the slots are used up all blocks are forgotten.
 *
 * An instruction that straddles two pages is a block of its own, behind a guard that checks the
 * second page. Not kept: code in devices, code another processor may be writing while its page is
 * being protected (smp.h). That is decoded each time it runs.
 */
#if defined(__GNUC__) && !defined(__clang__) && defined(__OPTIMIZE__)
#pragma GCC optimize("optimize-sibling-calls", "no-partial-inlining", "no-ipa-icf")
#endif

#include "cpu/interp.h"
#include "cpu/smm.h"
#include "cpu/smp.h"

#include <stdlib.h>

#define BLOCK_JCCS 4u        /* conditional branches a block may run through */
#define BLOCK_AFTER_JCC 24u  /* instructions beyond which it ends at the next one */
#define PHYSICAL_PAGE 0x000ffffffffff000ull

/* --- the cache --- */

struct block_cache *block_cache_new(void)
{
    void *memory;
    if (posix_memalign(&memory, 4096, sizeof(struct block_cache))) return NULL;
    /* The slots stay as they are: untouched, they take no memory. */
    struct block_cache *cache = memory;
    memset(cache->scratch, 0, sizeof(*cache) - offsetof(struct block_cache, scratch));
    cache->limit = BLOCK_SLOTS_AT_START;
    block_cache_flush(cache);
    return cache;
}

void block_cache_unmapped(struct block_cache *cache)
{
    for (unsigned i = 0; i < BLOCK_JUMPS; i++) cache->jumps[i] = (struct jump_entry){.key = ~0ull};
    cache->link_from = NULL;
}

void block_cache_flush(struct block_cache *cache)
{
    memset(cache->hash, 0, sizeof(cache->hash));
    block_cache_unmapped(cache);
    cache->used = 1;
}

static u64 block_key(u64 page, unsigned pos, unsigned mode_key)
{
    return page << 28 | (u64)pos << 16 | mode_key;
}

static u32 *block_bucket(struct block_cache *cache, u64 key)
{
    u64 hash = key * 0x9e3779b97f4a7c15ull;
    return &cache->hash[hash >> (64 - BLOCK_BUCKET_BITS)];
}

static struct block *slot_block(struct block_cache *cache, u32 slot)
{
    return (struct block *)&cache->slots[slot];
}

/* Void blocks met on the way are taken out of their chain. */
static struct block *block_find(struct block_cache *cache, u64 key)
{
    for (u32 *link = block_bucket(cache, key); *link;) {
        struct block *block = slot_block(cache, *link);
        if (!block_fresh(block)) {
            *link = block->next;
            continue;
        }
        if (block->key == key) return block;
        link = &block->next;
    }
    return NULL;
}

static ALWAYS_INLINE struct jump_entry *jump_slot(struct block_cache *cache, u64 linear)
{
    return &cache->jumps[(linear ^ linear >> 11) & (BLOCK_JUMPS - 1)];
}

static ALWAYS_INLINE u64 jump_key(const struct vcpu *cpu, u64 linear)
{
    return linear ^ (u64)cpu->mode_key << 48;
}

/* The TLB still leads LINEAR to the page of SLOW, executable. */
static ALWAYS_INLINE bool jump_mapped(const struct vcpu *cpu, u64 linear, u64 slow)
{
    enum tlb_mode mode = tlb_fetch_mode(cpu);
    unsigned slot = linear >> 12 & (TLB_ENTRIES - 1);
    const struct tlb *tlb = &cpu->tlb;
    return tlb->slow_tag[mode][slot] == (linear & PAGE_MASK) &&
           (tlb->entry[mode][slot].slow & (PHYSICAL_PAGE | TLB_EXECUTABLE)) == slow;
}

/* The block at LINEAR if it has been there lately. */
static ALWAYS_INLINE struct block *jump_probe(struct vcpu *cpu, u64 linear)
{
    const struct jump_entry *jump = jump_slot(cpu->blocks, linear);
    if (unlikely(jump->key != jump_key(cpu, linear)) || unlikely(!block_fresh(jump->block)) ||
        unlikely(!jump_mapped(cpu, linear, jump->slow)))
        return NULL;
    return jump->block;
}

/* --- decoding --- */

static u64 granules_of(unsigned first, unsigned last)
{
    return ~0ull >> (63 - (last >> 6) + (first >> 6)) << (first >> 6);
}

/* Makes writes to BYTES of the page at HOST be noticed; false: not yet by everybody. */
static bool code_protect(struct vcpu *cpu, const u8 *host, unsigned length)
{
    if (!cpu->group) {
        struct code_page *page = &cpu->memory->code_pages[arena_page(cpu->memory, host)];
        unsigned pos = (unsigned)((u64)(host - cpu->memory->arena) & (PAGE_SIZE - 1));
        if (atomic_fetch_or(&page->granules, granules_of(pos, pos + length - 1))) return true;
        tlb_protect_code(cpu, arena_page(cpu->memory, host));
        tlb_forget_stack(&cpu->tlb);
        return true;
    }
    return smp_protected(cpu, smp_protect(cpu, host, length));
}

bool code_decode(struct vcpu *cpu, struct insn *insn, const u8 *host, unsigned pos)
{
    struct code_page *page = &cpu->memory->code_pages[arena_page(cpu->memory, host)];
    for (;;) {
        unsigned room = PAGE_SIZE - pos;
        enum decode_status status = decode_insn(insn, host + pos, room < 15 ? room : 15,
                                                (enum code_size)cpu->code_size, (u16)pos,
                                                &cpu->features);
        if (status == DECODE_MORE || !insn->length || insn->length > room) return false;
        u64 need = granules_of(pos, pos + insn->length - 1);
        if ((atomic_load(&page->granules) & need) == need) return true;
        if (!code_protect(cpu, host + pos, insn->length)) return false;
    }
}

static bool insn_ends_block(const struct vcpu *cpu, const struct insn *insn)
{
    if (insn->op == OP_Jcc) return !(cpu->mode_key & MODE_FLAT);
    return insn->flags & INSN_ENDS_BLOCK;
}

static bool insn_is_direct_branch(const struct insn *insn)
{
    return insn->op == OP_Jcc || insn->op == OP_JMP || insn->op == OP_CALL;
}

static void insn_terminate(struct insn *insn, unsigned pos, unsigned count)
{
    *insn = (struct insn){.fn = interp_fall, .op = OP_NOP, .pos = (u16)pos, .size = 8,
                          .base = REG_ZERO, .index = REG_ZERO};
    INSN_INDEX(insn) = (u8)(count - 1);
}

static void insn_prepare(struct vcpu *cpu, struct insn *insn, unsigned index)
{
    INSN_INDEX(insn) = (u8)index;
    if (insn_is_direct_branch(insn)) insn->disp = 0;
    insn->fn = interp_handler(cpu, insn);
}

/* Fills BLOCK's instructions from POS on; returns how many slots they took. */
static unsigned block_fill(struct vcpu *cpu, struct block *block, const u8 *host, unsigned pos)
{
    unsigned n = 0, start = pos, jccs = 0;
    bool ended = false;
    const u16 mode = (u16)block->key;
    const struct stop_set *stops = mode & STOPS_KEY ? cpu->stops : NULL;
    while (n < BLOCK_INSNS && pos < PAGE_SIZE && !ended) {
        struct insn *insn = &block->insns[n];
        if (unlikely(stops_at(stops, pos)) || !code_decode(cpu, insn, host, pos)) break;
        insn_prepare(cpu, insn, n++);
        pos += insn->length;
        ended = insn_ends_block(cpu, insn);
        if (insn->op != OP_Jcc || ended) continue;
        if (n > 1) {
            insn_fn fused = interp_fused(cpu, insn - 1);
            if (fused) insn[-1].fn = fused;
        }
        if (++jccs == BLOCK_JCCS || n > BLOCK_AFTER_JCC) break;
        if (block_find(cpu->blocks, block_key(block->arena_page, pos, mode))) break;
    }
    if (!n) return 0;
    block->count = (u8)n;
    block->bytes = (u16)(pos - start);
    if (ended) return n;
    insn_terminate(&block->insns[n], pos, n);
    return n + 1;
}

/* The first slot of a block that lies in two pages. */
struct straddle_guard {
    insn_fn fn;
    u64 slow;                /* where the second page must lead, as in struct jump_entry */
    struct code_page *page;  /* the second */
    u32 generation;
    u16 pos;
};
_Static_assert(sizeof(struct straddle_guard) <= sizeof(struct insn), "a guard takes one slot");

/* Linear address of the page behind the running code's. */
static u64 next_page(const struct vcpu *cpu)
{
    u64 next = cpu->regs[REG_IP_BASE] + PAGE_SIZE;
    return cpu->code_size == CODE64 ? next : (u32)next;
}

static bool interp_straddle(struct vcpu *cpu, const struct insn *insn)
{
    const struct straddle_guard *guard = (const struct straddle_guard *)insn;
    if (unlikely(atomic_load_explicit(&guard->page->generation, memory_order_acquire) !=
                 guard->generation) ||
        unlikely(!jump_mapped(cpu, next_page(cpu), guard->slow))) {
        ((struct block *)(insn - 1))->generation--; /* void: decode it anew */
        cpu->rip = cpu->regs[REG_IP_BASE] + guard->pos;
        return true;
    }
    INTERP_NEXT;
}

bool code_decode_straddle(struct vcpu *cpu, struct insn *insn, const u8 *host, unsigned pos, u64 next,
                          struct code_straddle *s)
{
    unsigned room = PAGE_SIZE - pos;
    bool faulted;
    u64 physical;
    if (room >= 15) return false;
    const u8 *second = tlb_fetch(cpu, next, &faulted, &physical);
    if (!second) return false;
    s->page = &cpu->memory->code_pages[arena_page(cpu->memory, second)];
    s->slow = (physical & PHYSICAL_PAGE) | TLB_EXECUTABLE;
    s->generation = atomic_load(&s->page->generation);
    if (!code_protect(cpu, host + pos, room) || !code_protect(cpu, second, 15 - room)) return false;
    guest_copy(s->bytes, host + pos, room);
    guest_copy(s->bytes + room, second, 15 - room);
    decode_insn(insn, s->bytes, 15, (enum code_size)cpu->code_size, (u16)pos, &cpu->features);
    return true;
}

/* Fills BLOCK with a guard and the instruction at POS that goes on in the next page. */
static unsigned block_fill_straddle(struct vcpu *cpu, struct block *block, const u8 *host,
                                    unsigned pos)
{
    struct insn *insn = &block->insns[1];
    struct code_straddle s;
    if (!(cpu->mode_key & MODE_FLAT) || !code_decode_straddle(cpu, insn, host, pos, next_page(cpu), &s))
        return 0;
    insn_prepare(cpu, insn, 0);
    insn_terminate(insn + 1, pos + insn->length, 1);
    *(struct straddle_guard *)&block->insns[0] = (struct straddle_guard){
        .fn = interp_straddle, .slow = s.slow, .page = s.page, .generation = s.generation, .pos = (u16)pos};
    block->count = 1;
    block->bytes = insn->length;
    return 3;
}

const struct insn *code_decoded(struct vcpu *cpu, const u8 *host, unsigned pos, unsigned mode, unsigned *count)
{
    const struct block *block = block_find(cpu->blocks, block_key(arena_page(cpu->memory, host), pos, mode));
    if (!block || block->insns->fn == interp_straddle) return NULL;
    *count = block->count;
    return block->insns;
}

void code_decoded_copy(struct insn *insn, const struct insn *from)
{
    *insn = *from;
    INSN_INDEX(insn) = 0;
    if (insn_is_direct_branch(insn)) insn->disp = 0;
}

static struct block *block_build(struct vcpu *cpu, u64 key, const u8 *host, unsigned pos)
{
    struct block_cache *cache = cpu->blocks;
    /* Whoever set the granules: some processor may still be storing under an old write tag. */
    if (cpu->group && !smp_protected(cpu, atomic_load(&cpu->group->protect_epoch))) return NULL;
    if (cache->used + BLOCK_INSNS + 2 > cache->limit) block_cache_flush(cache);

    u64 number = arena_page(cpu->memory, host);
    struct code_page *page = &cpu->memory->code_pages[number];
    struct block *block = slot_block(cache, cache->used);
    /* Before the granules are set: a write that clears them moves the generation afterwards. */
    *block = (struct block){.page = page, .key = key, .arena_page = number,
                            .generation = atomic_load(&page->generation)};
    unsigned slots = block_fill(cpu, block, host, pos);
    if (!slots) slots = block_fill_straddle(cpu, block, host, pos);
    if (!slots) return NULL;

    u32 *bucket = block_bucket(cache, key);
    block->next = *bucket;
    *bucket = cache->used;
    cache->used += 1 + slots;
    return block;
}

/* Up to COUNT bytes of code at LINEAR, not beyond its page; 0: exception recorded. */
static unsigned fetch_bytes(struct vcpu *cpu, u64 linear, u8 *to, unsigned count)
{
    bool faulted;
    u64 physical;
    const u8 *host = tlb_fetch(cpu, linear, &faulted, &physical);
    if (faulted) return 0;
    unsigned room = PAGE_SIZE - (linear & (PAGE_SIZE - 1));
    if (count > room) count = room;
    if (host) {
        guest_copy(to, host, count);
        return count;
    }
    for (unsigned i = 0; i < count; i++)
        to[i] = (u8)bus_memory_read_as(cpu->bus, physical + i, 1, cpu_sees_smram(cpu));
    return count;
}

/* The one instruction at LINEAR, decoded for this once. */
static const struct insn *decode_single(struct vcpu *cpu, u64 linear)
{
    struct insn *insn = cpu->blocks->scratch;
    u16 pos = linear & (PAGE_SIZE - 1);
    u8 bytes[15];
    unsigned have = fetch_bytes(cpu, linear, bytes, 15);
    if (!have) return NULL;
    enum decode_status status = decode_insn(insn, bytes, have, (enum code_size)cpu->code_size, pos,
                                            &cpu->features);
    if (status == DECODE_MORE && have < 15) {
        u64 next = linear + have;
        if (cpu->code_size != CODE64) next = (u32)next;
        unsigned more = fetch_bytes(cpu, next, bytes + have, 15 - have);
        if (!more) return NULL;
        decode_insn(insn, bytes, have + more, (enum code_size)cpu->code_size, pos, &cpu->features);
    }
    if (!(cpu->mode_key & MODE_FLAT) && cpu->rip + insn->length - 1 > cpu->seg[CS].limit) {
        cpu_gp0(cpu);
        return NULL;
    }
    insn_prepare(cpu, insn, 0);
    insn_terminate(insn + 1, pos + insn->length, 1);
    return insn;
}

static void link_branch(struct block_cache *cache, const struct block *block)
{
    struct insn *from = cache->link_from;
    cache->link_from = NULL;
    if (from) from->disp = (i32)((const struct insn *)block - from);
}

/* The block or single instruction at LINEAR, by way of the TLB and the page. */
static const struct insn *enter_slow(struct vcpu *cpu, u64 linear, bool one)
{
    struct block_cache *cache = cpu->blocks;
    bool faulted;
    u64 physical;
    cpu->current_insn = NULL;
    if (!(cpu->mode_key & MODE_FLAT) && cpu->rip > cpu->seg[CS].limit) {
        cpu_gp0(cpu);
        return NULL;
    }
    const u8 *host = tlb_fetch(cpu, linear, &faulted, &physical);
    if (faulted) return NULL;
    unsigned pos = linear & (PAGE_SIZE - 1);
    const struct stop_set *stops = stops_in_page(cpu->stops, linear);
    if (one || !host || unlikely(stops_at(stops, pos))) return decode_single(cpu, linear);

    u64 key = block_key(arena_page(cpu->memory, host), pos, cpu->mode_key | (stops ? stops->key : 0));
    struct block *block = block_find(cache, key);
    if (!block) block = block_build(cpu, key, host - pos, pos);
    if (!block) return decode_single(cpu, linear);
    if (!(cpu->mode_key & MODE_FLAT)) {
        if (cpu->rip + block->bytes - 1 > cpu->seg[CS].limit) return decode_single(cpu, linear);
        cache->link_from = NULL;
    }
    link_branch(cache, block);
    *jump_slot(cache, linear) = (struct jump_entry){
        .key = jump_key(cpu, linear), .block = block,
        .slow = (physical & PHYSICAL_PAGE) | TLB_EXECUTABLE};
    return block->insns;
}

const struct insn *interp_enter(struct vcpu *cpu, bool one)
{
    bool flat = cpu->mode_key & MODE_FLAT;
    u64 linear = flat ? cpu->rip : (u32)(cpu->seg[CS].base + cpu->rip);
    cpu->regs[REG_IP_BASE] = cpu->rip - (linear & (PAGE_SIZE - 1));
    if (flat && !one) {
        struct block *block = jump_probe(cpu, linear);
        if (block) {
            link_branch(cpu->blocks, block);
            return block->insns;
        }
    }
    const struct insn *insn = enter_slow(cpu, linear, one);
    cpu->blocks->link_from = NULL;
    return insn;
}

/* --- handlers common to all instructions --- */

static __attribute__((noinline, cold)) bool interp_stop(struct vcpu *cpu, const struct insn *insn)
{
    cpu->current_insn = insn;
    cpu->icount += INSN_INDEX(insn);
    return false;
}

/* Behind INSN, which is done, back to cpu_run. */
static __attribute__((noinline, cold)) bool interp_leave(struct vcpu *cpu, const struct insn *insn)
{
    cpu->icount += INSN_INDEX(insn) + 1;
    cpu->rip = cpu_next_ip(cpu, insn);
    return true;
}

static bool interp_must_leave(const struct vcpu *cpu)
{
    return cpu->leave_block ||
           atomic_load_explicit(&cpu->memory->map_generation, memory_order_relaxed) !=
               cpu->map_generation;
}

bool interp_slow(struct vcpu *cpu, const struct insn *insn)
{
    cpu->current_insn = insn;
    if (unlikely(!sem_table[insn->op](cpu, insn))) INTERP_MUSTTAIL return interp_stop(cpu, insn);
    if (unlikely(interp_must_leave(cpu))) INTERP_MUSTTAIL return interp_leave(cpu, insn);
    INTERP_NEXT;
}

bool insn_allowed(struct vcpu *cpu, const struct insn *insn)
{
    u32 attributes = insn_row(insn->row)->attributes;
    if (attributes & (ATTR_X87 | ATTR_MMX | ATTR_SSE | ATTR_AVX)) TRY(fpu_check(cpu, insn));
    if ((attributes & ATTR_PROTECTED) && !cpu_protected(cpu)) return cpu_ud(cpu);
    if ((attributes & ATTR_CPL0) && cpu->cpl) return cpu_gp0(cpu);
    return true;
}

bool interp_checked(struct vcpu *cpu, const struct insn *insn)
{
    cpu->current_insn = insn;
    if (unlikely(!insn_allowed(cpu, insn))) INTERP_MUSTTAIL return interp_stop(cpu, insn);
    INTERP_MUSTTAIL return interp_slow(cpu, insn);
}

/* Ends the block: what semantics leave alone of rip is the next instruction. */
static ALWAYS_INLINE bool interp_run_last(struct vcpu *cpu, const struct insn *insn, bool check)
{
    cpu->current_insn = insn;
    cpu->rip = cpu_next_ip(cpu, insn);
    if (unlikely(check && !insn_allowed(cpu, insn))) return false;
    return sem_table[insn->op](cpu, insn);
}

bool interp_end(struct vcpu *cpu, const struct insn *insn)
{
    if (unlikely(!interp_run_last(cpu, insn, true))) INTERP_MUSTTAIL return interp_stop(cpu, insn);
    cpu->icount += INSN_INDEX(insn) + 1;
    return true;
}

bool interp_end_near(struct vcpu *cpu, const struct insn *insn)
{
    if (unlikely(!interp_run_last(cpu, insn, false))) INTERP_MUSTTAIL return interp_stop(cpu, insn);
    cpu->icount += INSN_INDEX(insn) + 1;
    if (unlikely(interp_must_leave(cpu))) return true;
    INTERP_MUSTTAIL return interp_next(cpu, insn);
}

/* --- from block to block --- */

bool interp_next(struct vcpu *cpu, const struct insn *insn)
{
    (void)insn, (void)cpu;
#if INTERP_CHAIN
    u64 linear = cpu->rip;
    if (unlikely(interp_hurried(cpu)) || unlikely(!(cpu->mode_key & MODE_FLAT))) return true;
    const struct block *block = jump_probe(cpu, linear);
    if (unlikely(!block)) return true;
    cpu->regs[REG_IP_BASE] = linear & PAGE_MASK;
    INTERP_MUSTTAIL return block->insns->fn(cpu, block->insns);
#else
    return true;
#endif
}

bool interp_link(struct vcpu *cpu, const struct insn *insn)
{
    bool falls = insn->fn == interp_fall;
    cpu->rip = falls ? cpu_next_ip(cpu, insn) : interp_target(cpu, insn);
    if (unlikely(!cpu_is_canonical(cpu->rip)) && !falls) { /* #GP at the branch: it is taken back */
        cpu->icount -= INSN_INDEX(insn) + 1;
        if (insn->op == OP_CALL) cpu->regs[RSP] += 8;
        INTERP_MUSTTAIL return interp_end_near(cpu, insn);
    }
    if (unlikely(interp_hurried(cpu)) || insn == cpu->blocks->scratch ||
        insn == cpu->blocks->scratch + 1)
        return true;
    if ((cpu->mode_key & MODE_FLAT) && !((cpu->rip ^ cpu->regs[REG_IP_BASE]) & PAGE_MASK)) {
        cpu->blocks->link_from = (struct insn *)insn;
        return true;
    }
    INTERP_MUSTTAIL return interp_next(cpu, insn);
}

bool interp_fall(struct vcpu *cpu, const struct insn *insn)
{
    INTERP_BRANCH;
}
