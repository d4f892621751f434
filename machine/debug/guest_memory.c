/*
 * Guest memory for the monitor, traces and profiles; see guest_memory.h.
 * Specification: Intel SDM vol. 3 ch. 4 for the tables' form.
 */
#include "machine/debug/guest_memory.h"

#include "cpu/mem.h"
#include "cpu/smm.h"

#define TABLES_MOST 65536u /* a guest may build tables that lead to themselves */
#define ENTRY_P 1u
#define ENTRY_W 2u
#define ENTRY_U 4u
#define ENTRY_PS 0x80u
#define ENTRY_NX (1ull << 63)
#define ENTRY_ADDRESS 0x000ffffffffff000ull

bool guest_translate(struct vcpu *cpu, u64 linear, u64 *physical)
{
    struct walk walk;
    if (!cpu_long_mode(cpu)) linear = (u32)linear;
    if (!cpu_is_canonical(linear) ||
        !mmu_walk(cpu, linear, ACCESS_READ, TLB_KERNEL_AC, WALK_PROBE, &walk))
        return false;
    *physical = (walk.physical | (linear & (PAGE_SIZE - 1))) & cpu->a20_mask;
    return true;
}

/* LENGTH bytes that lie in one page. */
static bool read_page(struct vcpu *cpu, u64 physical, void *to, size_t length)
{
    struct memory_target target;
    memory_resolve(cpu->bus, physical & PAGE_MASK, cpu_sees_smram(cpu), &target);
    if (!target.host) return false;
    guest_copy(to, target.host + (physical & (PAGE_SIZE - 1)), length);
    return true;
}

static size_t in_page(u64 address, size_t length)
{
    size_t room = PAGE_SIZE - (address & (PAGE_SIZE - 1));
    return length < room ? length : room;
}

size_t guest_read(struct vcpu *cpu, u64 linear, void *to, size_t length)
{
    size_t done = 0;
    while (done < length) {
        u64 physical;
        size_t n = in_page(linear + done, length - done);
        if (!guest_translate(cpu, linear + done, &physical) ||
            !read_page(cpu, physical, (u8 *)to + done, n))
            break;
        done += n;
    }
    return done;
}

size_t guest_read_physical(struct vcpu *cpu, u64 physical, void *to, size_t length)
{
    size_t done = 0;
    while (done < length) {
        size_t n = in_page(physical + done, length - done);
        if (!read_page(cpu, physical + done, (u8 *)to + done, n)) break;
        done += n;
    }
    return done;
}

/* --- all mappings --- */

struct tables {
    struct vcpu *cpu;
    bool (*each)(void *opaque, const struct guest_mapping *);
    void *opaque;
    unsigned visited;
    bool wide, stopped; /* entries of eight bytes; EACH has had enough */
};

/* What a level's entry covers: 1 << shift bytes. */
static unsigned level_shift(const struct tables *t, unsigned level)
{
    return t->wide ? 12 + 9 * (level - 1) : 12 + 10 * (level - 1);
}

static bool is_large(const struct tables *t, unsigned level, u64 entry)
{
    if (!(entry & ENTRY_PS)) return false;
    return t->wide ? level == 2 || level == 3 : level == 2 && (t->cpu->cr4 & CR4_PSE);
}

static u64 leaf_address(const struct tables *t, unsigned level, u64 entry)
{
    u64 address = (t->wide ? entry & ENTRY_ADDRESS : (u32)entry & 0xfffff000u) &
                  ~((1ull << level_shift(t, level)) - 1);
    if (!t->wide && level == 2) address |= (u64)(entry >> 13 & 0xff) << 32; /* PSE-36 */
    return address;
}

/* The table at physical address TABLE, whose first entry maps LINEAR, below entries with these
 * RIGHTS. */
static bool visit(struct tables *t, u64 table, unsigned level, u64 linear, u64 rights, u64 nx)
{
    u8 bytes[PAGE_SIZE];
    unsigned size = t->wide ? 8 : 4;
    if (t->visited++ == TABLES_MOST) return false;
    if (guest_read_physical(t->cpu, table, bytes, sizeof bytes) != sizeof bytes) return true;
    for (unsigned i = 0; i < PAGE_SIZE / size && !t->stopped; i++) {
        u64 entry = t->wide ? ld64(bytes + i * 8) : ld32(bytes + i * 4);
        u64 at = linear + ((u64)i << level_shift(t, level));
        if (level == 4 && i >= 256) at |= 0xffff000000000000ull;
        if (!(entry & ENTRY_P)) continue;
        if (level > 1 && !is_large(t, level, entry)) {
            u64 next = t->wide ? entry & ENTRY_ADDRESS : entry & 0xfffff000u;
            if (!visit(t, next, level - 1, at, rights & entry, nx | entry)) return false;
            continue;
        }
        u64 all = rights & entry;
        struct guest_mapping mapping = {at, leaf_address(t, level, entry),
                                        1ull << level_shift(t, level), entry,
                                        all & ENTRY_W, all & ENTRY_U,
                                        t->wide && (nx | entry) & ENTRY_NX};
        t->stopped = !t->each(t->opaque, &mapping);
    }
    return true;
}

bool guest_mappings(struct vcpu *cpu, bool (*each)(void *, const struct guest_mapping *),
                    void *opaque)
{
    struct tables t = {.cpu = cpu, .each = each, .opaque = opaque,
                       .wide = cpu_long_mode(cpu) || (cpu->cr4 & CR4_PAE)};
    const u64 all = ENTRY_W | ENTRY_U;
    if (cpu_long_mode(cpu)) return visit(&t, cpu->cr3 & ENTRY_ADDRESS, 4, 0, all, 0);
    if (!t.wide) return visit(&t, cpu->cr3 & 0xfffff000u, 2, 0, all, 0);
    for (unsigned i = 0; i < 4; i++)
        if ((cpu->pae_pdpte[i] & ENTRY_P) &&
            !visit(&t, cpu->pae_pdpte[i] & ENTRY_ADDRESS, 2, (u64)i << 30, all, 0))
            return false;
    return true;
}
