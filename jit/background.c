/*
 * Tier 2 units made by another thread while the processor runs on in tier 1.
 *
 * The processor's thread decodes a unit that is asked for into a request (make.c), and goes on. Its
 * background thread lowers what was decoded to code in an area of its own, says so, and kicks the
 * processor. That brings the processor to jit_engine, where it finds what was made and keeps it; or drops
 * it, because the page has been written since or the unit could not be made: then its part of the area
 * is as free as it was. Neither waits for the other. All that makes code reachable (the index of blocks,
 * redirected entries, links) and all that evicts it is done by the processor's thread.
 *
 * What is whose, by `state`: the request, and what of the background's area is not used yet, are the
 * background thread's while it is REQUEST_ASKED, else the processor's. What orders it:
 *   asked: the mutex, under which state is set and seen; so the background sees the request.
 *   made: state is stored behind the code and loaded in front of what makes that reachable, release and
 *     acquire at least. Another of the host's processors wrote the code: who is to run it serializes
 *     first, as the manual wants for cross-modifying code (SDM vol. 3 8.1.3).
 *   the kick: the background stores state, then run_until; the processor stores run_until (allow_chaining),
 *     then loads state. All are sequentially consistent: either the processor sees the state, or the
 *     run_until it runs by is the kick's, and it comes back.
 *
 * One request at a time: who is turned away asks again. Not used where runs must repeat, as it depends on
 * the host when a unit is there; and not with little code memory.
 */
#include "jit/jit_int.h"

#include <pthread.h>
#include <stdlib.h>

#define AREAS_ENOUGH 4u /* three of which are left to the processor's own code */
#define PATIENCE 16u    /* times as many ways back until somebody asks again for what is being made */

enum request_state { REQUEST_NONE, REQUEST_ASKED, REQUEST_MADE, REQUEST_FAILED };

struct background {
    const struct jit_cpu *j; /* what never changes of it, as for lowering */
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t asked, done;
    _Atomic u32 state;   /* enum request_state */
    bool quit;           /* under the mutex */
    u32 site, evictions; /* who asked, and when */
    struct making m;
};

/* --- the thread --- */

static void answer(struct background *b, enum request_state state)
{
    pthread_mutex_lock(&b->mutex);
    atomic_store(&b->state, state);
    pthread_cond_broadcast(&b->done);
    pthread_mutex_unlock(&b->mutex);
    atomic_store(&b->j->cpu->run_until, 0);
}

/* False: it is to end. */
static bool wait_for_request(struct background *b)
{
    pthread_mutex_lock(&b->mutex);
    while (!b->quit && atomic_load(&b->state) != REQUEST_ASKED) pthread_cond_wait(&b->asked, &b->mutex);
    bool on = !b->quit;
    pthread_mutex_unlock(&b->mutex);
    return on;
}

static void *background_main(void *opaque)
{
    struct background *b = opaque;
    const struct jit_options *options = &b->j->jit->options;
    while (wait_for_request(b)) {
        if (options->background_begins) options->background_begins(options->opaque);
        answer(b, making_lower(b->j, &b->m) ? REQUEST_MADE : REQUEST_FAILED);
    }
    return NULL;
}

static void background_free(struct background *b)
{
    pthread_cond_destroy(&b->asked);
    pthread_cond_destroy(&b->done);
    pthread_mutex_destroy(&b->mutex);
    free(b->m.lower);
    free(b);
}

static bool background_start(struct jit_cpu *j)
{
    struct background *b = calloc(1, sizeof(*b));
    if (!b) return false;
    b->j = j;
    pthread_mutex_init(&b->mutex, NULL);
    pthread_cond_init(&b->asked, NULL);
    pthread_cond_init(&b->done, NULL);
    b->m.lower = x64_lower_new();
    if (!b->m.lower || pthread_create(&b->thread, NULL, background_main, b)) {
        background_free(b);
        return false;
    }
    j->background = b;
    return true;
}

void background_stop(struct jit_cpu *j)
{
    struct background *b = j->background;
    if (!b) return;
    pthread_mutex_lock(&b->mutex);
    b->quit = true;
    pthread_cond_signal(&b->asked);
    pthread_mutex_unlock(&b->mutex);
    pthread_join(b->thread, NULL);
    background_free(b);
    j->background = NULL;
}

/* --- the processor's side --- */

static void wait_until_done(struct background *b)
{
    pthread_mutex_lock(&b->mutex);
    while (atomic_load(&b->state) == REQUEST_ASKED) pthread_cond_wait(&b->done, &b->mutex);
    pthread_mutex_unlock(&b->mutex);
}

void background_drop(struct jit_cpu *j)
{
    struct background *b = j->background;
    if (!b) return;
    wait_until_done(b);
    atomic_store(&b->state, REQUEST_NONE);
}

bool background_wanted(struct jit_cpu *j)
{
    const struct jit_options *options = &j->jit->options;
    if (j->background) return true;
    if (j->background_off || options->no_background || options->lockstep) return false;
    if (j->area_count < AREAS_ENOUGH) return false;
    j->background_off = !background_start(j); /* once is enough */
    return !j->background_off;
}

/* The area's rest did not do. */
static bool wants_area(const struct code_cursor *c)
{
    return c->area == NO_AREA || c->crowded || cursor_used_up(c);
}

enum loops_answer background_ask(struct jit_cpu *j, u64 key, struct code_place place, const u8 *page,
                                 const struct jsite *site)
{
    struct background *b = j->background;
    struct code_cursor *cursor = &j->cursors[CURSOR_BACKGROUND];
    if (atomic_load(&b->state) != REQUEST_NONE) {
        j->stats.background_busy++;
        return LOOPS_LATER;
    }
    b->site = (u32)(site - j->sites);
    b->evictions = j->evictions;
    j->state->heat[site->block % HEAT_SLOTS] = (i32)(j->jit->options.hot * PATIENCE);
    if (wants_area(cursor)) area_next(j, CURSOR_BACKGROUND);
    u64 began = jit_time();
    bool good = making_begin(j, &b->m, CURSOR_BACKGROUND, key, place, page, UNIT_MAX);
    j->stats.translate_ns += jit_time() - began;
    if (!good) return LOOPS_NEVER;
    pthread_mutex_lock(&b->mutex);
    atomic_store(&b->state, REQUEST_ASKED);
    pthread_cond_signal(&b->asked);
    pthread_mutex_unlock(&b->mutex);
    if (unlikely(j->jit->options.await_background)) wait_until_done(b);
    return LOOPS_MADE;
}

/* For want of room, or because tier 2 can't take it. */
static void give_up(struct jit_cpu *j, const struct background *b)
{
    struct code_cursor *cursor = &j->cursors[CURSOR_BACKGROUND];
    if (b->m.at.crowded && area_is_half_full(j, cursor)) {
        cursor->crowded = true;
        return;
    }
    j->stats.loop_failed++;
    if (b->evictions == j->evictions) x64_cool(j, &j->sites[b->site]);
}

void background_look(struct jit_cpu *j)
{
    struct background *b = j->background;
    u32 state = atomic_load(&b->state);
    if (state != REQUEST_MADE && state != REQUEST_FAILED) return;
    j->stats.background_ns += b->m.ns;
    if (state == REQUEST_FAILED) {
        give_up(j, b);
    } else if (atomic_load_explicit(b->m.page_generation, memory_order_acquire) != b->m.generation) {
        j->stats.background_stale++;
    } else {
        loops_install(j, &b->m);
        x64_serialize();
        j->stats.background_units++;
    }
    atomic_store(&b->state, REQUEST_NONE);
}
