/*
 * -profile: where the guest's time goes. A timer asks each processor to note where it is; at the
 * end the notes are written as folded stacks, which flame-graph programs read: "user;main;work 12".
 *
 * A processor notes at its next block boundary: what it says is true of blocks, not of
 * instructions. One that is halted is not woken and counts as idle. With stack=on callers are found
 * by frame pointers, as far as code keeps them.
 * Unnamed user code is counted by the page.
 */
#include "machine/debug/trace_int.h"

#include "cpu/cpu.h"
#include "machine/clock_host.h"
#include "machine/debug/guest_memory.h"
#include "machine/debug/symbol_set.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#define FRAMES 64u
#define SLOTS 65536u       /* of different stacks; a power of two */
#define SLOTS_FULL (SLOTS / 4 * 3)
#define FRAME_MOST MIB(1)  /* a caller's frame is at most so much further up */

struct stack {
    u64 *frames;           /* the leaf first; NULL: a free slot */
    u32 count;
    u64 samples;
};

struct profile {
    struct machine *machine;
    FILE *file;
    char *name;
    struct symbol_set *symbols;
    struct timer timer;
    u64 interval;
    bool with_stack;
    pthread_mutex_t mutex; /* of what follows; taken inside the machine lock, never around it */
    struct stack *stacks;
    unsigned used;
    u64 idle, lost, entry; /* ENTRY: where the kernel takes system calls */
};

/* --- noting --- */

static u64 hash_of(const u64 *frames, unsigned count)
{
    u64 hash = count;
    for (unsigned i = 0; i < count; i++)
        hash = (hash ^ frames[i]) * 0x9e3779b97f4a7c15ull, hash ^= hash >> 29;
    return hash;
}

static void note(struct profile *p, const u64 *frames, unsigned count)
{
    for (u64 i = hash_of(frames, count);; i++) {
        struct stack *s = &p->stacks[i & (SLOTS - 1)];
        if (s->frames && s->count == count && !memcmp(s->frames, frames, count * sizeof *frames)) {
            s->samples++;
            return;
        }
        if (s->frames) continue;
        if (p->used < SLOTS_FULL && (s->frames = malloc(count * sizeof *frames))) {
            memcpy(s->frames, frames, count * sizeof *frames);
            s->count = count;
            s->samples = 1;
            p->used++;
        } else {
            p->lost++;
        }
        return;
    }
}

static unsigned walk(struct vcpu *cpu, u64 *frames, unsigned count)
{
    unsigned size = cpu->code_size == CODE64 ? 8 : 4;
    u64 frame = cpu->regs[RBP];
    if (cpu->code_size == CODE16) return count;
    while (count < FRAMES) {
        u8 bytes[16] = {0};
        if ((frame & (size - 1)) || guest_read(cpu, frame, bytes, size * 2) != size * 2) break;
        u64 up = size == 8 ? ld64(bytes) : ld32(bytes),
            caller = size == 8 ? ld64(bytes + 8) : ld32(bytes + 4);
        /* Kernel code has kernel callers, a user's a user's. */
        if (!caller || !cpu_is_canonical(caller) || (caller ^ frames[0]) >> 63) break;
        frames[count++] = caller;
        if (up <= frame || up - frame > FRAME_MOST) break;
        frame = up;
    }
    return count;
}

/* On the processor's own thread. */
static void sample(void *opaque, struct vcpu *cpu)
{
    struct profile *p = opaque;
    u64 frames[FRAMES + 1];
    unsigned count = 1;
    bool user = cpu->cpl == 3;
    frames[0] = cpu->code_size == CODE64 ? cpu->rip : (u32)(cpu->seg[CS].base + cpu->rip);
    if (p->with_stack) count = walk(cpu, frames, count);
    frames[count++] = user; /* the root */
    pthread_mutex_lock(&p->mutex);
    if (cpu->activity == CPU_RUNNING) note(p, frames, count);
    else p->idle++;
    if (cpu->lstar) p->entry = cpu->lstar;
    pthread_mutex_unlock(&p->mutex);
}

static void tick(void *opaque)
{
    struct profile *p = opaque;
    struct machine *m = p->machine;
    for (unsigned i = 0; i < m->vcpu_count; i++) {
        if (atomic_load(&m->vcpu[i].cpu->in_guest)) {
            cpu_request(m->vcpu[i].cpu, REQUEST_SAMPLE);
        } else {
            pthread_mutex_lock(&p->mutex);
            p->idle++;
            pthread_mutex_unlock(&p->mutex);
        }
    }
    timer_set(&p->timer, clock_now(m->clock) + p->interval);
}

/* --- writing --- */

static void put_frame(const struct profile *p, u64 address, bool user)
{
    const char *name = symbol_set_find(p->symbols, address);
    if (name) fprintf(p->file, ";%s", name);
    else fprintf(p->file, ";[%" PRIx64 "]", user ? address & ~(u64)0xfff : address);
}

static void put_stack(const struct profile *p, const struct stack *s)
{
    bool user = s->frames[s->count - 1];
    fputs(user ? "user" : "kernel", p->file);
    /* a caller: the call itself */
    for (unsigned i = s->count - 1; i-- > 0;) put_frame(p, s->frames[i] - (i ? 1 : 0), user);
    fprintf(p->file, " %" PRIu64 "\n", s->samples);
}

bool profile_close(struct profile *p, struct error *error)
{
    timer_cancel(&p->timer);
    if (p->entry) symbol_set_place(p->symbols, "entry_SYSCALL_64", p->entry);
    for (unsigned i = 0; i < SLOTS; i++)
        if (p->stacks[i].frames) put_stack(p, &p->stacks[i]);
    if (p->idle) fprintf(p->file, "idle %" PRIu64 "\n", p->idle);
    if (p->lost) fprintf(p->file, "[more] %" PRIu64 "\n", p->lost);
    bool failed = ferror(p->file);
    if (fclose(p->file)) failed = true;
    return !failed || error_set(error, "%s: could not be written whole", p->name);
}

/* --- making --- */

static bool load_symbols(struct profile *p, const struct keyvals *kv, struct error *error)
{
    for (unsigned i = 0; i < kv->count; i++)
        if (!strcmp(kv->item[i].key, "symbols") &&
            !symbol_set_load(p->symbols, kv->item[i].value, error))
            return false;
    return true;
}

struct profile *profile_open(struct machine *m, const char *spec, struct error *error)
{
    struct keyvals kv;
    u64 hz = 99;
    struct profile *p = calloc(1, sizeof *p);
    if (!p || !(p->stacks = calloc(SLOTS, sizeof *p->stacks))) abort();
    p->machine = m;
    p->symbols = symbol_set_new();
    pthread_mutex_init(&p->mutex, NULL);
    if (!keyvals_parse(&kv, spec, "file", error) ||
        !keyvals_only(&kv, "profile", "file hz stack symbols", error) ||
        !load_symbols(p, &kv, error))
        return NULL;
    const char *name = keyvals_get(&kv, "file"), *rate = keyvals_get(&kv, "hz"),
               *stack = keyvals_get(&kv, "stack");
    if (rate && (!parse_size(rate, 1, &hz) || !hz || hz > 10000))
        return error_set(error, "hz=%s: 1 to 10000", rate), NULL;
    if (stack && !parse_on_off(stack, &p->with_stack))
        return error_set(error, "stack=%s: on or off expected", stack), NULL;
    if (!name) return error_set(error, "file= is missing"), NULL;
    p->file = fopen(name, "w");
    if (!p->file) return error_set(error, "%s: %s", name, strerror(errno)), NULL;
    p->name = strdup(name);
    p->interval = NS_PER_SECOND / hz;
    for (unsigned i = 0; i < m->vcpu_count; i++)
        m->vcpu[i].cpu->sample = sample, m->vcpu[i].cpu->sample_opaque = p;
    timer_init(&p->timer, m->clock, tick, p);
    timer_set(&p->timer, p->interval);
    return p;
}
