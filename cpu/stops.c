/*
 * Breakpoints, watchpoints and events for a debugger outside the guest (stops.h).
 *
 * Not seen: what bus masters read and write, and the accessed and dirty bits that page walks set.
 */
#include "cpu/stops.h"

#include "cpu/debug.h"
#include "cpu/interp.h"

_Static_assert((STOPS_KEY & (MODE_RING12 * 2 - 1)) == 0, "block keys have both in 16 bits");

#define TABLE_IGNORED 0x60u /* A and D: the processor's own doing */

void stops_install(struct vcpu *cpu, struct stop_set *set, bool forget)
{
    cpu->stops = set && set->count ? set : NULL;
    cpu->stop_mode = stops_mode(cpu);
    if (forget) block_cache_flush(cpu->blocks);
    else block_cache_unmapped(cpu->blocks);
    if (forget && cpu->engine_forget) cpu->engine_forget(cpu);
    if (cpu->engine_unmapped) cpu->engine_unmapped(cpu, UNMAPPED_ALL, 0);
    debug_rearm(cpu);
}

/* --- recording --- */

static bool bound_elsewhere(const struct vcpu *cpu, const struct stop_point *point)
{
    return point->bound && ((cpu->cr3 ^ point->cr3) & cpu->physical_mask & PAGE_MASK);
}

static void record(struct vcpu *cpu, const struct stop_point *point, u64 address, bool write,
                   u64 value)
{
    if (cpu->stop.kind) return; /* the first is told */
    cpu->stop = (struct stop){
        .kind = point->kind, .write = write, .hardware = point->hardware, .id = point->id,
        .point = (u32)(point - cpu->stops->point), .value = value,
        .address = address > point->address ? address : point->address};
    cpu->leave_block = true;
}

void stops_event(struct vcpu *cpu, enum stop_kind kind, u64 address, unsigned size, bool write,
                 u64 value)
{
    const struct stop_set *set = cpu->stops;
    if (!stops_want(set, kind)) return;
    for (unsigned i = 0; i < set->count; i++) {
        const struct stop_point *p = &set->point[i];
        if (p->kind != kind || bound_elsewhere(cpu, p)) continue;
        if (address - p->address < p->length || p->address - address < size)
            record(cpu, p, address, write, value);
    }
}

void stops_access(struct vcpu *cpu, u64 linear, u64 physical, unsigned size, bool write)
{
    stops_event(cpu, STOP_ACCESS, linear, size, write, 0);
    stops_event(cpu, write ? STOP_WRITE : STOP_READ, linear, size, write, 0);
    /* looked at behind the instruction */
    if (write) stops_event(cpu, STOP_TABLE, physical, size, true, 0);
}

void stops_mmio(struct vcpu *cpu, u64 physical, bool apic, unsigned size, bool write, u64 value)
{
    const struct stop_set *set = cpu->stops;
    u64 offset = physical & (PAGE_SIZE - 1);
    if (!stops_want(set, STOP_MMIO)) return;
    const char *name = apic ? "lapic" : bus_region_name(cpu->bus, physical, &offset);
    if (!name) return;
    for (unsigned i = 0; i < set->count; i++) {
        const struct stop_point *p = &set->point[i];
        if (p->kind != STOP_MMIO || strcmp(p->chip, name) || bound_elsewhere(cpu, p)) continue;
        if (offset - p->address < p->length || p->address - offset < size)
            record(cpu, p, offset, write, value);
    }
}

bool stops_page_watched(const struct vcpu *cpu, u64 page, u64 physical)
{
    const struct stop_set *set = cpu->stops;
    for (unsigned i = 0; set && i < set->count; i++) {
        const struct stop_point *p = &set->point[i];
        u64 where = p->kind == STOP_TABLE ? physical : page;
        if (stop_is_watch(p) && p->length && (p->address & PAGE_MASK) <= where &&
            ((p->address + p->length - 1) & PAGE_MASK) >= where)
            return true;
    }
    return false;
}

void stops_cancel(struct vcpu *cpu)
{
    if (cpu->stop.kind >= STOP_WRITE && cpu->stop.kind <= STOP_TABLE) cpu->stop.kind = STOP_NONE;
}

/* --- at a boundary --- */

enum { MODE_NAME_REAL, MODE_NAME_VM86, MODE_NAME_16, MODE_NAME_32, MODE_NAME_COMPAT16,
       MODE_NAME_COMPAT32, MODE_NAME_64, MODE_NAME_PAGING = 8 };

unsigned stops_mode(const struct vcpu *cpu)
{
    unsigned paging = cpu->cr0 & CR0_PG ? MODE_NAME_PAGING : 0;
    if (cpu_real_mode(cpu)) return MODE_NAME_REAL;
    if (cpu_vm86(cpu)) return MODE_NAME_VM86 | paging;
    if (cpu_long_mode(cpu))
        return paging | (cpu->code_size == CODE64   ? MODE_NAME_64
                         : cpu->code_size == CODE32 ? MODE_NAME_COMPAT32
                                                    : MODE_NAME_COMPAT16);
    return paging | (cpu->code_size == CODE32 ? MODE_NAME_32 : MODE_NAME_16);
}

const char *stops_mode_name(unsigned mode)
{
    static const char *const names[] = {
        "real", "virtual-8086", "protected 16-bit", "protected 32-bit", "compatibility 16-bit",
        "compatibility 32-bit", "64-bit", "?", "real", "paged virtual-8086", "paged 16-bit",
        "paged 32-bit", "compatibility 16-bit", "compatibility 32-bit", "64-bit", "?"};
    return names[mode & 15];
}

static void mode_due(struct vcpu *cpu)
{
    unsigned before = cpu->stop_mode, now = stops_mode(cpu);
    if (before == now) return;
    cpu->stop_mode = (u8)now;
    stops_event(cpu, STOP_MODE, 0, 1, false, now);
    if (cpu->stop.kind == STOP_MODE) cpu->stop.before = before;
}

/* Has the entry that was written to really changed? */
static void table_due(struct vcpu *cpu)
{
    struct stop_point *p = &cpu->stops->point[cpu->stop.point];
    u64 now = bus_memory_read(cpu->bus, p->address, (unsigned)p->length);
    cpu->stop.address = p->address;
    cpu->stop.before = p->value;
    cpu->stop.value = now;
    if (!((now ^ p->value) & ~(u64)TABLE_IGNORED)) cpu->stop.kind = STOP_NONE;
    p->value = now;
}

bool stops_due(struct vcpu *cpu)
{
    if (stops_want(cpu->stops, STOP_MODE)) mode_due(cpu);
    if (cpu->stop.kind == STOP_TABLE) table_due(cpu);
    return cpu->stop.kind != STOP_NONE;
}

bool stops_pending(const struct vcpu *cpu)
{
    return cpu->stop.kind ||
           (stops_want(cpu->stops, STOP_MODE) && stops_mode(cpu) != cpu->stop_mode);
}

bool stops_break_due(struct vcpu *cpu)
{
    const struct stop_set *set = cpu->stops;
    u64 linear = cpu_code64(cpu) ? cpu->rip : (u32)(cpu->seg[CS].base + cpu->rip);
    if (likely(!stops_at(stops_in_page(set, linear), linear & (PAGE_SIZE - 1)))) return false;
    if (cpu->stop_passed && cpu->stop_passed_rip == cpu->rip &&
        cpu->stop_passed_icount == cpu->icount)
        return false;
    cpu->stop_passed = false;
    for (unsigned i = 0; i < set->count; i++) {
        const struct stop_point *p = &set->point[i];
        if (p->kind != STOP_BREAK || p->address != linear || bound_elsewhere(cpu, p)) continue;
        if (p->condition && !p->condition(p->opaque, cpu)) continue;
        record(cpu, p, linear, false, 0);
        cpu->leave_block = false;
        return true;
    }
    return false;
}
