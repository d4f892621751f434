/*
 * Code memory by areas, filled one after the other, round and round: when the next is wanted, the blocks
 * in it (the oldest there are) are evicted and nothing else is. Two are filled at a time, each by a thread
 * that has it to itself (background.c); which is next the processor's thread says. An area has memory for
 * code and for its cold parts, and its own part of the tables of blocks, sites and straddling instructions,
 * so all of these are bounded and come free together.
 *
 * What leads into an area from outside: hash chains, the jump cache, jumps patched into other areas'
 * code (links), and entries of tier 1 units that were redirected to a tier 2 unit. All of them are
 * taken back, so that evicted code can't be reached. That happens in C only; who called C from code
 * that was evicted sees it by jit_cpu.evictions, and neither returns there nor uses its site any more.
 */
#include "jit/jit_int.h"

#define AREA_SMALL KIB(256) /* they are not made smaller than this for the sake of more of them */
#define AREAS_LEAST 2u
#define LIFE_WANTED 16u   /* guest instructions run between two evictions of an area, for a byte of it */
#define PRESSURE_MOST 6u

static u32 share(u32 first, u32 end, unsigned n, unsigned of)
{
    return first + (u32)((u64)(end - first) * n / of);
}

/* Splits what the thunks left. */
void areas_make(struct jit_cpu *j)
{
    u8 *start = j->hot, *end = j->code.rw + j->code.size;
    u64 fit = j->code.size / AREA_SMALL;
    unsigned n = fit > AREAS_MOST ? AREAS_MOST : fit < AREAS_LEAST ? AREAS_LEAST : (unsigned)fit;
    size_t size = (size_t)(end - start) / n & ~(size_t)63;
    j->area_count = n;
    for (unsigned c = 0; c < CURSORS; c++) j->cursors[c].area = NO_AREA;
    for (unsigned k = 0; k < n; k++) {
        u8 *at = start + k * size;
        j->areas[k] = (struct code_area){
            .hot = at, .hot_end = at + size / 4 * 3, .cold_end = at + size,
            .block = share(1, j->block_limit, k, n), .block_end = share(1, j->block_limit, k + 1, n),
            .site = share(0, j->site_limit, k, n), .site_end = share(0, j->site_limit, k + 1, n),
            .straddle = share(0, STRADDLE_LIMIT, k, n), .straddle_end = share(0, STRADDLE_LIMIT, k + 1, n)};
    }
}

/* How much of its area has been used. */
static void area_note(struct jit_cpu *j, const struct code_cursor *c)
{
    if (c->area == NO_AREA) return;
    struct code_area *a = &j->areas[c->area];
    a->block_used = c->block_count;
    a->site_used = c->site_count;
    a->used = (u64)(c->hot - a->hot) + (u64)(c->cold - a->hot_end);
}

static void area_leave(struct jit_cpu *j, struct code_cursor *c)
{
    if (c->area == NO_AREA) return;
    area_note(j, c);
    code_memory_written(&j->code, j->areas[c->area].hot, j->areas[c->area].cold_end);
    c->area = NO_AREA;
}

static void area_enter(struct jit_cpu *j, struct code_cursor *c, unsigned number)
{
    struct code_area *a = &j->areas[number];
    a->block_used = a->block;
    a->site_used = a->site;
    a->used = 0;
    a->began = j->cpu->icount;
    a->turn = ++j->turns;
    *c = (struct code_cursor){
        .area = number, .hot = a->hot, .hot_end = a->hot_end, .cold = a->hot_end, .cold_end = a->cold_end,
        .block_count = a->block, .block_end = a->block_end,
        .site_count = a->site, .insn_count = a->site, .site_end = a->site_end,
        .straddle_count = a->straddle, .straddle_end = a->straddle_end};
}

/* All are empty; for when nothing leads to any code. */
void areas_reset(struct jit_cpu *j)
{
    for (unsigned n = 0; n < CURSORS; n++) area_leave(j, &j->cursors[n]);
    for (unsigned k = 0; k < j->area_count; k++) {
        struct code_area *a = &j->areas[k];
        for (u32 s = a->site; s < a->site_used; s++) j->links[s].block = 0;
        a->block_used = a->block;
        a->site_used = a->site;
        a->used = a->turn = 0;
    }
    area_enter(j, &j->cursors[CURSOR_OWN], 0);
    j->evictions++;
}

static bool area_held(const struct jit_cpu *j, unsigned number)
{
    for (unsigned n = 0; n < CURSORS; n++)
        if (j->cursors[n].area == number) return true;
    return false;
}

u64 areas_used(const struct jit_cpu *j)
{
    u64 sum = 0;
    for (unsigned k = 0; k < j->area_count; k++)
        if (!area_held(j, k)) sum += j->areas[k].used;
    for (unsigned n = 0; n < CURSORS; n++) {
        const struct code_cursor *c = &j->cursors[n];
        unsigned area = c->area; /* who only asks may be another thread */
        if (area == NO_AREA) continue;
        sum += (u64)(c->hot - j->areas[area].hot) + (u64)(c->cold - j->areas[area].hot_end);
    }
    return sum;
}

bool area_is_half_full(const struct jit_cpu *j, const struct code_cursor *c)
{
    const struct code_area *a = &j->areas[c->area];
    return c->hot - a->hot > a->hot_end - c->hot || c->cold - a->hot_end > a->cold_end - c->cold;
}

/* --- links --- */

bool link_may(const struct jit_cpu *j, const struct jsite *site)
{
    return !j->jit->options.no_link && site->patch && !j->links[site - j->sites].block;
}

void link_make(struct jit_cpu *j, const struct jsite *site, const struct jblock *block, const u8 *to)
{
    struct link *link = &j->links[site - j->sites];
    link->block = (u32)(block - j->blocks);
    link->unlinked = ld32(site->patch);
    st32(site->patch, (u32)(to - (code_rx(j, site->patch) + 4)));
}

void link_unmake(struct jit_cpu *j, const struct jsite *site)
{
    struct link *link = &j->links[site - j->sites];
    if (!link->block) return;
    st32(site->patch, link->unlinked);
    link->block = 0;
}

static void unlink_sites(struct jit_cpu *j, const struct code_area *from, const struct code_area *into)
{
    for (u32 s = from->site; s < from->site_used; s++) {
        struct link *link = &j->links[s];
        if (link->block < into->block || link->block >= into->block_end) continue;
        link_unmake(j, &j->sites[s]);
        j->stats.unlinked++;
    }
}

/* --- eviction --- */

static void evict_blocks(struct jit_cpu *j, const struct code_area *a)
{
    for (u32 b = a->block; b < a->block_used; b++) {
        struct jblock *block = &j->blocks[b], *instead = &j->blocks[block->instead_of];
        cache_remove(j, b);
        block->redirected = 0;
        if (!block->instead_of || instead->redirected != b) continue;
        x64_redirect_undo(j, instead);
        instead->redirected = 0;
    }
    j->stats.evicted_blocks += a->block_used - a->block;
}

static void evict_jumps(struct jit_cpu *j, const struct code_area *a)
{
    const u8 *first = code_rx(j, a->hot), *end = code_rx(j, a->cold_end);
    for (unsigned i = 0; i < ARRAY_SIZE(j->state->jumps); i++) {
        struct jump *jump = &j->state->jumps[i];
        if (jump->sign && jump->code >= first && jump->code < end) jump_void(jump);
    }
}

/* Code that is not used for long before it makes room for other code was not worth its translation. */
static void pressure_look(struct jit_cpu *j, const struct code_area *a)
{
    bool short_lived = j->cpu->icount - a->began < (u64)(a->cold_end - a->hot) * LIFE_WANTED;
    if (short_lived && j->pressure < PRESSURE_MOST) j->pressure++;
    if (!short_lived && j->pressure) j->pressure--;
}

/* Of those that no cursor has. */
static unsigned oldest(const struct jit_cpu *j)
{
    unsigned found = NO_AREA;
    for (unsigned k = 0; k < j->area_count; k++)
        if (!area_held(j, k) && (found == NO_AREA || j->areas[k].turn < j->areas[found].turn)) found = k;
    return found;
}

static void evict(struct jit_cpu *j, unsigned number)
{
    struct code_area *a = &j->areas[number];
    if (a->block_used == a->block) return;
    for (u32 s = a->site; s < a->site_used; s++) j->links[s].block = 0;
    for (unsigned k = 0; k < j->area_count; k++)
        if (k != number) unlink_sites(j, &j->areas[k], a);
    evict_blocks(j, a);
    evict_jumps(j, a);
    memset(j->counters, 0, sizeof(j->counters)); /* entries count that come within a short time */
    pressure_look(j, a);
    j->stats.evictions++;
    j->evictions++;
}

void area_next(struct jit_cpu *j, unsigned cursor)
{
    unsigned number = oldest(j);
    for (unsigned n = 0; n < CURSORS; n++) area_note(j, &j->cursors[n]);
    area_leave(j, &j->cursors[cursor]);
    evict(j, number);
    area_enter(j, &j->cursors[cursor], number);
}
