/*
 * Debug registers: code, data and port breakpoints, single step.
 * Specification: Intel SDM vol. 3 ch. 17.2-17.3.
 *
 * Not modelled: branch-trace single step (DEBUGCTL.BTF), last-branch records, RTM debugging.
 */
#include "cpu/debug.h"
#include "cpu/mem.h"
#include "cpu/sys.h" /* cpu_is_intel */

enum { RW_EXECUTE, RW_WRITE, RW_PORT, RW_READ_WRITE };

static bool bp_enabled(const struct vcpu *cpu, unsigned n) { return cpu->dr[7] >> (n * 2) & 3; }
static unsigned bp_kind(const struct vcpu *cpu, unsigned n)
{
    return cpu->dr[7] >> (16 + n * 4) & 3;
}
static unsigned bp_length(const struct vcpu *cpu, unsigned n)
{
    static const u8 length[] = {1, 2, 8, 4};
    return length[cpu->dr[7] >> (18 + n * 4) & 3];
}
static u64 bp_address(const struct vcpu *cpu, unsigned n)
{
    return cpu->dr[n] & ~(u64)(bp_length(cpu, n) - 1);
}
static bool bp_is_data(const struct vcpu *cpu, unsigned n)
{
    unsigned kind = bp_kind(cpu, n);
    return bp_enabled(cpu, n) && (kind == RW_WRITE || kind == RW_READ_WRITE);
}

bool debug_has_code_breakpoints(const struct vcpu *cpu)
{
    for (unsigned n = 0; n < 4; n++)
        if (bp_enabled(cpu, n) && bp_kind(cpu, n) == RW_EXECUTE) return true;
    return false;
}

static void watch_bits(u64 bits[64], u64 address, u64 length)
{
    u64 first = address >> 12, count = ((address + length - 1) >> 12) - first + 1;
    if (count > 4096) count = 4096;
    for (u64 i = first; i < first + count; i++) bits[i >> 6 & 63] |= 1ull << (i & 63);
}

/* Watched pages lose and get their direct tags by being filled anew: rare enough to drop
 * everything. */
void debug_rearm(struct vcpu *cpu)
{
    const struct stop_set *set = cpu->stops;
    u32 watch = 0;
    memset(cpu->watch_linear, 0, sizeof cpu->watch_linear);
    memset(cpu->watch_physical, 0, sizeof cpu->watch_physical);
    for (unsigned n = 0; n < 4; n++) {
        if (!bp_is_data(cpu, n)) continue;
        watch_bits(cpu->watch_linear, bp_address(cpu, n), bp_length(cpu, n));
        watch++;
    }
    for (unsigned i = 0; set && i < set->count; i++) {
        const struct stop_point *p = &set->point[i];
        if (!stop_is_watch(p)) continue;
        watch_bits(p->kind == STOP_TABLE ? cpu->watch_physical : cpu->watch_linear, p->address,
                   p->length);
        watch++;
    }
    if (watch || cpu->watch_pages) tlb_flush_all(cpu);
    cpu->watch_pages = watch;
    cpu_update_mode(cpu);
}

bool debug_page_watched(const struct vcpu *cpu, u64 page, u64 physical)
{
    if (cpu->stops && stops_page_watched(cpu, page, physical)) return true;
    for (unsigned n = 0; n < 4; n++)
        if (bp_is_data(cpu, n) && (bp_address(cpu, n) & PAGE_MASK) == page) return true;
    return false;
}

static bool overlaps(u64 a, unsigned a_size, u64 b, unsigned b_size)
{
    return a < b + b_size && b < a + a_size;
}

void debug_access(struct vcpu *cpu, u64 linear, u64 physical, unsigned size, bool write)
{
    if (cpu->stops) stops_access(cpu, linear, physical, size, write);
    for (unsigned n = 0; n < 4; n++)
        if (bp_is_data(cpu, n) && (write || bp_kind(cpu, n) == RW_READ_WRITE) &&
            overlaps(linear, size, bp_address(cpu, n), bp_length(cpu, n)))
            debug_pend(cpu, DR6_B(n));
}

void debug_port(struct vcpu *cpu, u16 port, unsigned size)
{
    for (unsigned n = 0; n < 4; n++)
        if (bp_enabled(cpu, n) && bp_kind(cpu, n) == RW_PORT &&
            overlaps(port, size, bp_address(cpu, n), bp_length(cpu, n)))
            debug_pend(cpu, DR6_B(n));
}

static u32 code_matches(const struct vcpu *cpu)
{
    u64 linear = cpu_code64(cpu) ? cpu->rip : (u32)(cpu->seg[CS].base + cpu->rip);
    u32 hits = 0;
    for (unsigned n = 0; n < 4; n++)
        if (bp_enabled(cpu, n) && bp_kind(cpu, n) == RW_EXECUTE && cpu->dr[n] == linear)
            hits |= DR6_B(n);
    return hits;
}

bool cpu_step_hooks_before(struct vcpu *cpu)
{
    cpu->step_armed = cpu->eflags & FLAG_TF;
    bool held_off = cpu->eflags & FLAG_RF || (cpu->shadow == 2 && cpu_is_intel(cpu));
    u32 hits = held_off ? 0 : code_matches(cpu);
    if (hits) {
        cpu_fault(cpu, VECTOR_DB);
        cpu->exception.dr6 = hits;
        return false;
    }
    cpu->eflags &= ~(u32)FLAG_RF;
    return true;
}

bool debug_trap_due(struct vcpu *cpu)
{
    if (likely(!cpu->pending_db) || cpu->shadow == 2) return true;
    cpu_fault(cpu, VECTOR_DB);
    cpu->exception.is_trap = true;
    cpu->exception.dr6 = cpu->pending_db;
    cpu->pending_db = 0;
    return false;
}

bool cpu_step_hooks_after(struct vcpu *cpu)
{
    if (cpu->step_armed && cpu->shadow != 2) cpu->pending_db |= DR6_BS;
    cpu->step_armed = false;
    return debug_trap_due(cpu);
}
