/*
 * Making units, in three steps: decoding and copying what is to be translated, by the processor's thread under
 * the rules for code pages (cpu/smp.h); lowering that, by any; keeping what came of it and making it
 * reachable, by the processor's thread again.
 */
#include "jit/jit_int.h"

#include "cpu/smp.h"

#define UNIT_LESS (UNIT_MAX / 4) /* of tier 2, where the whole is too much */

/* May code of its page be kept? */
static bool may_translate(struct jit_cpu *j)
{
    struct vcpu *cpu = j->cpu;
    return !cpu->group || smp_protected(cpu, atomic_load(&cpu->group->protect_epoch));
}

bool cursor_used_up(const struct code_cursor *c)
{
    return c->block_count + ROOT_MAX > c->block_end || c->site_count + 2 * BLOCK_MAX + 8 > c->site_end ||
           c->straddle_count == c->straddle_end;
}

bool making_begin(struct jit_cpu *j, struct making *m, unsigned cursor, u64 key, struct code_place place,
                  const u8 *page, unsigned loops)
{
    struct memory *memory = j->cpu->memory;
    struct code_page *code_page = &memory->code_pages[arena_page(memory, page)];
    const struct log *log = j->jit->log;
    m->which = cursor;
    m->at = j->cursors[cursor];
    m->at.crowded = false;
    m->key = key;
    m->place = place;
    m->page_generation = &code_page->generation;
    m->generation = atomic_load(&code_page->generation); /* first: who writes what is decoded moves it on */
    m->rip_base = j->cpu->rip & PAGE_MASK;
    m->marks.wanted = log && (log->mask & LISTING_CHANNELS);
    return unit_decode(j, m, page, loops);
}

/* The first COUNT instructions that were decoded. */
static bool lower_first(const struct jit_cpu *j, struct making *m, unsigned count)
{
    const struct translation *t = &m->t;
    struct jblock *blocks = &j->blocks[m->at.block_count];
    if (!unit_build(j, &m->t, count)) return false;
    for (unsigned n = 0; n < t->root_count; n++)
        blocks[n] = (struct jblock){
            .place = m->place, .key = (m->key & ~(u64)0xfff0000) | (u64)t->nodes[t->roots[n]].pos << 16,
            .page_generation = m->page_generation, .generation = m->generation};
    blocks->straddle = t->straddle;
    return x64_lower(j, m, blocks);
}

bool making_lower(const struct jit_cpu *j, struct making *m)
{
    u64 began = jit_time();
    unsigned decoded = m->t.decoded;
    bool good = lower_first(j, m, decoded) ||
                (m->t.loops && decoded > UNIT_LESS && lower_first(j, m, UNIT_LESS));
    m->ns = jit_time() - began;
    return good;
}

/* What M took of its cursor is taken. Returns its blocks, which are in no index yet. */
static struct jblock *making_keep(struct jit_cpu *j, struct making *m)
{
    const struct translation *t = &m->t;
    struct jit_stats *stats = &j->stats;
    struct jblock *blocks = &j->blocks[m->at.block_count];
    m->at.block_count += t->root_count;
    m->at.straddle_count += t->straddle != NULL;
    j->cursors[m->which] = m->at;
    *(t->loops ? &stats->loop_units : &stats->blocks) += 1;
    *(t->loops ? &stats->loop_insns : &stats->insns) += t->count;
    *(t->loops ? &stats->loop_bytes : &stats->host_bytes) += blocks->code_bytes + blocks->cold_bytes;
    stats->cold_bytes += blocks->cold_bytes;
    for (unsigned n = 0; n < t->count; n++) stats->guest_bytes += t->insns[n].length;
    jit_dump(j, blocks, m);
    if (unlikely(j->jit->perf)) perf_block(j, blocks, m);
    return blocks;
}

/* With the processor's own cursor; in the next area where this one's rest is too small. */
static bool make_here(struct jit_cpu *j, u64 key, struct code_place place, const u8 *page, unsigned loops)
{
    struct making *m = &j->own;
    struct code_cursor *own = &j->cursors[CURSOR_OWN];
    u64 began = jit_time();
    if (cursor_used_up(own)) area_next(j, CURSOR_OWN);
    bool made = making_begin(j, m, CURSOR_OWN, key, place, page, loops) && making_lower(j, m);
    if (!made && m->at.crowded && (!loops || area_is_half_full(j, own))) {
        area_next(j, CURSOR_OWN);
        made = making_begin(j, m, CURSOR_OWN, key, place, page, loops) && making_lower(j, m);
    }
    j->stats.translate_ns += jit_time() - began;
    return made;
}

struct jblock *block_make(struct jit_cpu *j, u64 key, struct code_place place, const u8 *page)
{
    if (!may_translate(j) || !make_here(j, key, place, page, 0)) return NULL;
    struct jblock *block = making_keep(j, &j->own);
    cache_add(j, (u32)(block - j->blocks));
    return block;
}

/* M's unit is entered from now on, instead of the block that was asked for and of those it leads through. */
void loops_install(struct jit_cpu *j, struct making *m)
{
    struct jblock *blocks = making_keep(j, m);
    for (unsigned n = 0; n < m->t.root_count; n++) {
        struct jblock *old = cache_find(j, blocks[n].key, m->place);
        if (old && old->loops && n) continue; /* has one of its own */
        if (old && !old->loops) x64_redirect(j, old, &blocks[n]);
        cache_add(j, (u32)(&blocks[n] - j->blocks));
    }
}

enum loops_answer loops_make(struct jit_cpu *j, u64 key, struct code_place place, const u8 *page,
                             const struct jsite *site)
{
    if (!may_translate(j)) return LOOPS_LATER;
    if (background_wanted(j)) return background_ask(j, key, place, page, site);
    if (!make_here(j, key, place, page, UNIT_MAX)) return LOOPS_NEVER;
    loops_install(j, &j->own);
    return LOOPS_MADE;
}
