/*
 * Code memory, the block index, and the jump cache.
 *
 * Code memory is one anonymous file mapped twice: writable here, executable there, never both. When it
 * is full everything is forgotten and begun anew.
 *
 * The jump cache leads from a linear address to code without asking the TLB: its entries carry a
 * number that is changed when the TLB is flushed, one for each mode in use. Kernel code in global pages
 * survives what drops other pages. INVLPG changes the numbers only when it may concern code.
 */
#define _GNU_SOURCE
#include "jit/jit_int.h"

#include <sys/mman.h>
#include <unistd.h>

#define MODE_IDS 16u

bool code_memory_new(struct code_memory *code, size_t size)
{
    int fd = memfd_create("translated code", MFD_CLOEXEC);
    if (fd < 0) return false;
    code->size = size;
    void *rw = MAP_FAILED, *rx = MAP_FAILED;
    if (!ftruncate(fd, (off_t)size)) {
        rw = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
        rx = mmap(NULL, size, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_NORESERVE, fd, 0);
    }
    close(fd);
    code->rw = rw == MAP_FAILED ? NULL : rw;
    code->rx = rx == MAP_FAILED ? NULL : rx;
    if (code->rw && code->rx) return true;
    code_memory_free(code);
    return false;
}

void code_memory_free(struct code_memory *code)
{
    if (code->rw) munmap(code->rw, code->size);
    if (code->rx) munmap((void *)(uintptr_t)code->rx, code->size);
    *code = (struct code_memory){0};
}

void cache_reset(struct jit_cpu *j)
{
    memset(j->hash, 0, sizeof(j->hash));
    memset(j->counters, 0, sizeof(j->counters));
    j->block_count = 1; /* 0 ends chains */
    j->site_count = j->straddle_count = 0;
    j->hot = j->hot_start;
    j->cold = j->cold_start;
    j->flushes++;
    jumps_clear(j);
}

static u32 *bucket(struct jit_cpu *j, u64 key)
{
    return &j->hash[key * 0x9e3779b97f4a7c15ull >> (64 - BLOCK_HASH_BITS)];
}

static bool fresh(const struct jblock *block)
{
    return atomic_load_explicit(block->page_generation, memory_order_acquire) == block->generation;
}

/* Void blocks met on the way are taken out of their chain. */
struct jblock *cache_find(struct jit_cpu *j, u64 key)
{
    for (u32 *link = bucket(j, key); *link;) {
        struct jblock *block = &j->blocks[*link];
        if (!fresh(block)) {
            j->jit->stats.stale++;
            *link = block->next;
            continue;
        }
        if (block->key == key) return block;
        link = &block->next;
    }
    return NULL;
}

void cache_add(struct jit_cpu *j, u32 number)
{
    struct jblock *block = &j->blocks[number];
    u32 *link = bucket(j, block->key);
    block->next = *link;
    *link = number;
}

/* --- the jump cache --- */

void jumps_clear(struct jit_cpu *j)
{
    for (unsigned i = 0; i < JUMP_SLOTS; i++) j->state->jumps[i].number = 0;
    for (unsigned id = 0; id < MODE_IDS; id++) j->epochs[id]++;
    memset(j->pages, 0, sizeof(j->pages));
    memset(j->local, 0, sizeof(j->local));
    j->large = 0;
    j->mode_count = 0;
    j->mode_key_now = ~0u;
}

/* Zero is nobody's. */
static u64 mode_number(const struct jit_cpu *j, unsigned id)
{
    return (u64)(id + 1) << 32 | j->epochs[id];
}

void jumps_mode(struct jit_cpu *j)
{
    unsigned key = j->cpu->mode_key & ~(unsigned)MODE_NO_FPU;
    if (key != j->mode_key_now) {
        unsigned id;
        for (id = 0; id < j->mode_count && j->modes[id] != key; id++) continue;
        if (id == j->mode_count) {
            if (id == MODE_IDS) jumps_clear(j), id = 0;
            j->modes[id] = (u16)key;
            j->mode_count = (u8)(id + 1);
        }
        j->mode_now = (u8)id;
        j->mode_key_now = key;
    }
    j->state->jump_number = mode_number(j, j->mode_now);
}

static void new_epoch(struct jit_cpu *j, unsigned id)
{
    j->local[id] = false;
    if (!++j->epochs[id]) jumps_clear(j);
}

void jumps_add(struct jit_cpu *j, u64 linear, const u8 *code)
{
    const struct vcpu *cpu = j->cpu;
    if (!cpu_is_canonical(linear)) return;
    unsigned mode = cpu->cpl == 3 ? TLB_USER : (cpu->cr4 & (CR4_SMAP | CR4_SMEP)) == CR4_SMAP
                        ? TLB_KERNEL_AC : TLB_KERNEL;
    unsigned slot = linear >> 12 & (TLB_ENTRIES - 1);
    if (cpu->tlb->slow_tag[mode][slot] != (linear & PAGE_MASK)) return;
    u64 slow = cpu->tlb->entry[mode][slot].slow;
    jumps_mode(j);
    if (!(slow & TLB_GLOBAL)) j->local[j->mode_now] = true;
    if (slow & TLB_LARGE) j->large |= 1ull << (linear >> 30 & 63);
    j->pages[linear >> 18 & 63] |= 1ull << (linear >> 12 & 63);
    j->state->jumps[(u32)linear * JUMP_HASH >> 20] = (struct jump){
        .linear = linear, .number = j->state->jump_number, .page = linear & PAGE_MASK, .code = code};
}

/* vcpu.engine_unmapped. */
void jumps_unmapped(struct vcpu *cpu, u64 page, bool all)
{
    struct jit_cpu *j = cpu->jit;
    bool concerned = all || (j->pages[page >> 18 & 63] >> (page >> 12 & 63) & 1) ||
                     (j->large >> (page >> 30 & 63) & 1);
    if (!concerned) return;
    for (unsigned id = 0; id < j->mode_count; id++)
        if (!all || page || j->local[id]) new_epoch(j, id);
    if (!all || page) {
        memset(j->pages, 0, sizeof(j->pages));
        j->large = 0;
    }
    jumps_mode(j);
}
