/*
 * The per-page notes of decoded code, seen from those who write guest memory (memory.h).
 *
 * Hit granules are forgotten before the generation moves: who decodes reads the generation first
 * and sets granules afterwards, so either its decode is void or its granules stand. A page that is
 * hit again and again keeps its granules most of the time, which saves dropping every TLB's write
 * tags anew each time it is run.
 */
#include "machine/memory.h"

#define HOT_WRITES 8u    /* hits after which a page counts as self-modifying */
#define FORGET_EVERY 64u /* hits between two forgettings of a hot page's granules */

static bool page_written(struct code_page *page, u64 first, u64 last)
{
    u64 hit = ~0ull >> (63 - (last >> 6) + (first >> 6)) << (first >> 6);
    if (!(atomic_load(&page->granules) & hit)) return false;
    u32 writes = atomic_fetch_add_explicit(&page->writes, 1, memory_order_relaxed);
    if (writes < HOT_WRITES || writes % FORGET_EVERY == 0) atomic_fetch_and(&page->granules, ~hit);
    atomic_fetch_add(&page->generation, 1);
    return true;
}

bool memory_code_written(struct memory *memory, const void *host, u64 length)
{
    u64 at = (u64)((const u8 *)host - memory->arena);
    if (at >= memory->arena_size || !length) return false;
    if (length > memory->arena_size - at) length = memory->arena_size - at;
    /* The change before the granules, as who decodes sets granules before it looks at the bytes. */
    atomic_thread_fence(memory_order_seq_cst);
    bool any = false;
    while (length) {
        u64 first = at & (PAGE_SIZE - 1), room = PAGE_SIZE - first;
        u64 n = length < room ? length : room;
        any |= page_written(&memory->code_pages[at / PAGE_SIZE], first, first + n - 1);
        at += n;
        length -= n;
    }
    if (any && memory->code_changed) memory->code_changed(memory->code_changed_opaque);
    return any;
}
