/*
 * What the processors of a machine share: the split lock, and the handshake that makes a page's
 * code safe to keep decoded (smp.h tells why).
 *
 * A processor outside the guest has no store under way, and looks at the granules when it next
 * makes a write tag valid; inside, one without a write tag for the page has none under way that
 * would go there.
 * Only those that had one are waited for. A page that already is one with code needs nothing:
 * stores to it look at the granules behind themselves.
 */
#include "cpu/smp.h"

#include "cpu/mem.h"

#include <stdlib.h>

struct smp_group *smp_group_new(void)
{
    struct smp_group *group = calloc(1, sizeof(*group));
    if (!group) return NULL;
    pthread_mutex_init(&group->split_lock, NULL);
    pthread_mutex_init(&group->protect_lock, NULL);
    return group;
}

void smp_group_free(struct smp_group *group)
{
    if (!group) return;
    pthread_mutex_destroy(&group->split_lock);
    pthread_mutex_destroy(&group->protect_lock);
    free(group);
}

/* Who loops in what was written comes by a look at the page's generation. */
static void stop_loops(void *opaque)
{
    struct smp_group *group = opaque;
    u32 count = atomic_load_explicit(&group->count, memory_order_acquire);
    for (u32 i = 0; i < count; i++)
        atomic_store(&atomic_load_explicit(&group->cpus[i], memory_order_acquire)->run_until, 0);
}

void smp_group_add(struct smp_group *group, struct vcpu *cpu)
{
    pthread_mutex_lock(&group->protect_lock);
    u32 count = atomic_load(&group->count);
    if (count < ARRAY_SIZE(group->cpus)) {
        atomic_store(&group->cpus[count], cpu);
        atomic_store(&group->count, count + 1);
        cpu->group = group;
        cpu->memory->code_changed_opaque = group;
        cpu->memory->code_changed = stop_loops;
    }
    pthread_mutex_unlock(&group->protect_lock);
}

static u64 granule_mask(u64 first, u64 last)
{
    return ~0ull >> (63 - (last >> 6) + (first >> 6)) << (first >> 6);
}

/* PAGE has become one with code. Who had a write tag for it must acknowledge; under
 * protect_lock. */
static void stop_writers(struct vcpu *cpu, u64 page)
{
    struct smp_group *group = cpu->group;
    u32 count = atomic_load(&group->count);
    for (u32 i = 0; i < count; i++) {
        struct vcpu *other = atomic_load(&group->cpus[i]);
        bool had = tlb_protect_code(other, page);
        if (other == cpu) tlb_forget_stack(&cpu->tlb);
        if (!had || other == cpu) continue;
        u64 epoch = atomic_load(&group->protect_epoch) + 1;
        atomic_store(&other->protect_need, epoch);
        atomic_store(&group->protect_epoch, epoch);
        if (!atomic_load(&other->in_guest)) continue;
        atomic_fetch_or(&other->requests, REQUEST_QUIESCE);
        atomic_store(&other->run_until, 0);
    }
}

u64 smp_protect(struct vcpu *cpu, const u8 *host, u32 length)
{
    struct smp_group *group = cpu->group;
    u64 number = arena_page(cpu->memory, host);
    u64 pos = (u64)(host - cpu->memory->arena) & (PAGE_SIZE - 1);
    u64 last = pos + length - 1 < PAGE_SIZE ? pos + length - 1 : PAGE_SIZE - 1;
    struct code_page *page = &cpu->memory->code_pages[number];

    pthread_mutex_lock(&group->protect_lock);
    if (!atomic_fetch_or(&page->granules, granule_mask(pos, last))) stop_writers(cpu, number);
    u64 epoch = atomic_load(&group->protect_epoch);
    pthread_mutex_unlock(&group->protect_lock);
    return epoch;
}

bool smp_protected(struct vcpu *cpu, u64 epoch)
{
    struct smp_group *group = cpu->group;
    u32 count = atomic_load_explicit(&group->count, memory_order_acquire);
    for (u32 i = 0; i < count; i++) {
        struct vcpu *other = atomic_load_explicit(&group->cpus[i], memory_order_acquire);
        if (other == cpu || !atomic_load(&other->in_guest)) continue;
        u64 need = atomic_load(&other->protect_need);
        if (atomic_load(&other->protect_ack) < (need < epoch ? need : epoch)) return false;
    }
    return true;
}

void smp_acknowledge(struct vcpu *cpu)
{
    atomic_fetch_and(&cpu->requests, ~(u32)REQUEST_QUIESCE);
    tlb_forget_stack(&cpu->tlb); /* who took write tags away while it was outside did not wait */
    if (cpu->group) atomic_store(&cpu->protect_ack, atomic_load(&cpu->group->protect_epoch));
}
