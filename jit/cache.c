/*
 * Code memory, the block index, and the jump cache.
 *
 * Code memory is one anonymous file mapped twice: writable here, executable there, never both. What
 * happens when it is full is in areas.c.
 *
 * The jump cache leads from a linear address to code without asking the TLB. Its entries carry the
 * sign of the space they are of: a mode, and for user code a process context. A flush gives the spaces
 * it concerns new signs, so kernel code in global pages and the code of contexts that are kept
 * survive it. INVLPG takes out the entries of its page. Entries are found by the address xor the sign, a
 * random word that no guest comes to know, in one comparison.
 */
#define _GNU_SOURCE
#include "jit/jit_int.h"

#include <sys/mman.h>
#include <unistd.h>

#define NO_SPACE ~0u
#define SEARCH_PERIOD 100000u /* instructions */
#define CROSSED_MANY 8192u /* pages that links lead to */
#define PAGES_MANY 4096u /* entries' pages noted since the notes were made anew */

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

/* The memory stays; its writable view takes no part in what the process is seen to use. */
void code_memory_written(const struct code_memory *code, u8 *from, u8 *end)
{
    size_t first = ((size_t)(from - code->rw) + 4095) & ~(size_t)4095, last = (size_t)(end - code->rw) & ~(size_t)4095;
    if (first < last) madvise(code->rw + first, last - first, MADV_DONTNEED);
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
    for (unsigned i = 0; i < HEAT_SLOTS; i++) j->state->heat[i] = (i32)j->jit->options.hot;
    areas_reset(j);
    jumps_clear(j);
}

/* A chain has a bit for each kind of key that may be in it: most of what is looked for and not there is found
 * missing without a look at the blocks, which are far apart. */
static struct block_chain *bucket(struct jit_cpu *j, u64 key, u32 *kind)
{
    u64 hash = key * 0x9e3779b97f4a7c15ull;
    *kind = 1u << (hash >> (59 - BLOCK_HASH_BITS) & 31);
    return &j->hash[hash >> (64 - BLOCK_HASH_BITS)];
}

static bool fresh(const struct jblock *block)
{
    return atomic_load_explicit(block->page_generation, memory_order_acquire) == block->generation;
}

/* A void block that was looked for is taken out of its chain; the others' pages are not touched for it. */
struct jblock *cache_find(struct jit_cpu *j, u64 key, struct code_place place)
{
    u32 kind;
    struct block_chain *chain = bucket(j, key, &kind);
    if (!(chain->kinds & kind)) return NULL;
    for (u32 *link = &chain->first; *link;) {
        struct jblock *block = &j->blocks[*link];
        if (block->key != key || block->place.start != place.start || block->place.last != place.last) {
            link = &block->next;
            continue;
        }
        if (fresh(block)) return block;
        j->stats.stale++;
        *link = block->next;
    }
    if (!chain->first) chain->kinds = 0;
    return NULL;
}

unsigned cache_seen(struct jit_cpu *j, u64 key, struct code_place place)
{
    return cache_find(j, key, place) ? 255 : *cache_counter(j, key);
}

void cache_add(struct jit_cpu *j, u32 number)
{
    struct jblock *block = &j->blocks[number];
    u32 kind;
    struct block_chain *chain = bucket(j, block->key, &kind);
    chain->kinds |= kind;
    block->next = chain->first;
    chain->first = number;
}

void cache_remove(struct jit_cpu *j, u32 number)
{
    u32 kind;
    struct block_chain *chain = bucket(j, j->blocks[number].key, &kind);
    for (u32 *link = &chain->first; *link; link = &j->blocks[*link].next)
        if (*link == number) {
            *link = j->blocks[number].next;
            break;
        }
    if (!chain->first) chain->kinds = 0;
}

/* --- the jump cache --- */

/* Nobody's are zero and repeated ones, as the counter goes through all numbers. */
static u64 sign_new(struct jit_cpu *j)
{
    u64 x = j->signs += 0x9e3779b97f4a7c15ull;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ x >> 27) * 0x94d049bb133111ebull;
    x ^= x >> 31;
    return x ? x : sign_new(j);
}

void signs_start(struct jit_cpu *j)
{
    if (getentropy(&j->signs, sizeof(j->signs))) j->signs = (u64)(uintptr_t)j ^ jit_time() << 20;
}

static void space_forget(struct jit_cpu *j, struct jump_space *s)
{
    s->sign = sign_new(j);
    j->stats.jumps_voided++;
    s->local = false;
}

static void forget_spaces(struct jit_cpu *j)
{
    for (unsigned i = 0; i < SPACES; i++) j->state->spaces[i].key = NO_SPACE;
    for (unsigned i = SPACE_SUPERVISOR; i <= SPACE_AC; i++) {
        j->state->spaces[i].segment = 0;
        j->state->spaces[i].key = SPACE_KEY | (i == SPACE_AC ? MODE_AC : 0);
        space_forget(j, &j->state->spaces[i]);
    }
}

static u64 page_bit(u64 page) { return (page >> 12) * 0x9e3779b97f4a7c15ull >> 48 & (JUMP_PAGE_BITS - 1); }

static bool page_noted(const u64 *pages, u64 bit) { return pages[bit >> 6] >> (bit & 63) & 1; }

static void note_page(struct jit_cpu *j, u64 page)
{
    u64 bit = page_bit(page);
    if (page_noted(j->pages, bit)) return;
    j->pages[bit >> 6] |= 1ull << (bit & 63);
    j->page_count++;
}

void jumps_clear(struct jit_cpu *j)
{
    for (unsigned i = 0; i < ARRAY_SIZE(j->state->jumps); i++) jump_void(&j->state->jumps[i]);
    memset(j->pages, 0, sizeof(j->pages));
    memset(j->crossed, 0, sizeof(j->crossed));
    j->page_count = j->crossed_count = 0;
    j->low_supervisor = false;
    forget_spaces(j);
    jumps_mode(j);
    j->stats.jumps_cleared++;
}

static bool space_is_user(const struct jump_space *s) { return s->key & MODE_USER; }

static struct jump_space *space_of(struct jit_cpu *j, u32 key, u64 segment)
{
    if (key == SPACE_KEY) return &j->state->spaces[SPACE_SUPERVISOR];
    if (key == (SPACE_KEY | MODE_AC)) return &j->state->spaces[SPACE_AC];
    return &j->state->spaces[SPACE_OTHERS + ((key + (u32)(segment >> 36)) * JUMP_HASH >> 26)];
}

void jumps_mode(struct jit_cpu *j)
{
    const struct vcpu *cpu = j->cpu;
    u32 key = cpu->mode_key & ~(u32)MODE_NO_FPU;
    if (key & MODE_USER) key |= cpu_pcid(cpu) << 16;
    u64 segment = 0;
    if (unlikely(cpu->code_size != CODE64)) {
        segment = segment_key(cpu);
        segments_look(j);
    }
    struct jump_space *s = space_of(j, key, segment);
    if (unlikely(s->key != key || s->segment != segment)) {
        s->key = key;
        s->segment = segment;
        space_forget(j, s);
    }
    j->space_now = s;
    jit_near(j->cpu)->jump_sign = s->sign;
}

/* Pages are noted from what the cache holds, too much of which is gone. */
static void note_pages_anew(struct jit_cpu *j)
{
    u64 live[SPACES];
    unsigned count = 0;
    for (unsigned i = 0; i < SPACES; i++)
        if (j->state->spaces[i].key != NO_SPACE) live[count++] = j->state->spaces[i].sign;
    memset(j->pages, 0, sizeof(j->pages));
    j->page_count = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(j->state->jumps); i++) {
        const struct jump *jump = &j->state->jumps[i];
        bool good = false;
        for (unsigned n = 0; n < count && !good; n++) good = jump->sign == live[n];
        if (good) note_page(j, jump->page);
    }
    j->page_count /= 2;
}

/* The same address in several contexts has as many of these. */
static ALWAYS_INLINE struct jump *second_slot(struct jit_cpu *j, u64 key)
{
    return &j->state->jumps[JUMP_SLOTS + ((u32)key * JUMP_HASH_SECOND >> 20)];
}

const struct jump *jumps_find(struct jit_cpu *j, u64 linear)
{
    const struct jump *jump = &j->state->jumps[(u32)linear * JUMP_HASH >> 18];
    u64 key = linear ^ jit_near(j->cpu)->jump_sign;
    if (likely(jump->key == key)) return jump;
    jump = second_slot(j, key);
    return jump->key == key ? jump : NULL;
}

bool jumps_add(struct jit_cpu *j, u64 linear, const u8 *code)
{
    const struct vcpu *cpu = j->cpu;
    if (!cpu_is_canonical(linear)) return false;
    unsigned mode = tlb_fetch_mode(cpu), slot = linear >> 12 & (TLB_ENTRIES - 1);
    if (cpu->tlb.slow_tag[mode][slot] != (linear & PAGE_MASK)) return false;
    jumps_mode(j);
    if (!(cpu->tlb.entry[mode][slot].slow & TLB_GLOBAL)) j->space_now->local = true;
    if (unlikely(j->page_count >= PAGES_MANY)) note_pages_anew(j);
    note_page(j, linear);
    if (!(linear >> 63) && !space_is_user(j->space_now)) j->low_supervisor = true;
    struct jump *jump = &j->state->jumps[(u32)linear * JUMP_HASH >> 18];
    u64 key = linear ^ jit_near(j->cpu)->jump_sign;
    if (jump->sign && jump->key != key) *second_slot(j, jump->key) = *jump;
    *jump = (struct jump){.key = key, .sign = jit_near(j->cpu)->jump_sign, .page = linear & PAGE_MASK, .code = code};
    return true;
}

/* Links are not found again by what they lead to: such pages' spaces are forgotten. */
void jumps_crossed(struct jit_cpu *j, u64 page)
{
    u64 bit = page_bit(page);
    if (page_noted(j->crossed, bit)) return;
    j->crossed[bit >> 6] |= 1ull << (bit & 63);
    if (++j->crossed_count > CROSSED_MANY) jumps_clear(j);
}

/* A page of the upper half is looked for, as what else is known of the supervisor's code is wanted
 * everywhere; unless that happens all the time. */
static bool forget_by_search(struct jit_cpu *j, u64 page)
{
    if (!(page >> 63) || j->cpu->icount - j->searched < SEARCH_PERIOD) return false;
    j->searched = j->cpu->icount;
    for (unsigned i = 0; i < ARRAY_SIZE(j->state->jumps); i++)
        if (j->state->jumps[i].page == page) jump_void(&j->state->jumps[i]);
    return true;
}

static void forget_page(struct jit_cpu *j, u64 page)
{
    u64 bit = page_bit(page);
    bool crossed = page_noted(j->crossed, bit);
    if (likely(!page_noted(j->pages, bit) && !crossed) || (!crossed && forget_by_search(j, page))) return;
    for (unsigned i = 0; i < SPACES; i++) {
        struct jump_space *s = &j->state->spaces[i];
        if (s->key == NO_SPACE) continue;
        if (space_is_user(s) ? s->key >> 16 == cpu_pcid(j->cpu) : page >> 63 || j->low_supervisor)
            space_forget(j, s);
    }
    jumps_mode(j);
}

/* vcpu.engine_unmapped. Supervisor code has one space for all contexts: what is not global in it goes
 * with the context. */
void jumps_unmapped(struct vcpu *cpu, enum unmapped what, u64 which)
{
    struct jit_cpu *j = cpu->jit;
    if (what == UNMAPPED_PAGE) {
        forget_page(j, which);
        return;
    }
    for (unsigned i = 0; i < SPACES; i++) {
        struct jump_space *s = &j->state->spaces[i];
        if (s->key == NO_SPACE) continue;
        bool whose = what == UNMAPPED_CONTEXTS || (what == UNMAPPED_CONTEXT && s->key >> 16 == which);
        if (what == UNMAPPED_ALL || (s->local && (whose || !space_is_user(s)))) space_forget(j, s);
    }
    jumps_mode(j);
}
