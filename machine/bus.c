/*
 * Address spaces: who answers which port and which physical address.
 *
 * Ports are a flat table. Memory is flattened, at each change, into two sorted lists of ranges (as
 * seen in and out of system-management mode) which processors read without a lock under a sequence
 * count. Regions never move in host memory, so a range read a moment too late is still harmless:
 * whoever changes the map then has every TLB flushed.
 *
 * Not modelled: bus arbitration, wait states, locked bus cycles (cpu/ has its own lock).
 */
#include "machine/bus_host.h"
#include "machine/device.h"
#include "machine/error.h"
#include "machine/host/os.h" /* os_reserve: the arena */
#include "machine/log.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define MAX_REGIONS 512
#define MAX_RANGES 1024
#define PORTS 65536

struct range {
    _Atomic u64 start, last;
    _Atomic(struct region *) region;
};

struct flat {
    _Atomic u32 sequence; /* odd while it changes */
    _Atomic u32 count;
    struct range range[MAX_RANGES];
};

struct bus {
    struct memory memory;
    u64 allocated;
    struct region *regions[MAX_REGIONS];
    bool smm_only[MAX_REGIONS];
    unsigned region_count;
    u32 next_order;
    struct region *port[PORTS];
    struct flat view[2]; /* [1]: in system-management mode */
    unsigned nesting;
    bool dirty;
    struct log *log;
    void (*lock)(void *), (*unlock)(void *);
    void *lock_opaque;
    void (*changed)(void *);
    void *changed_opaque;
};

struct bus *bus_new(u64 ram_size, u64 extra_size, struct log *log, struct error *error)
{
    struct bus *bus = calloc(1, sizeof *bus);
    if (!bus) abort();
    struct memory *m = &bus->memory;
    m->arena_size = (ram_size + extra_size + PAGE_SIZE - 1) & PAGE_MASK;
    m->arena = os_reserve(m->arena_size);
    if (m->arena) os_large_pages(m->arena, ram_size);
    m->code_pages = os_reserve((m->arena_size >> 12) * sizeof *m->code_pages);
    bus->log = log;
    if (m->arena && m->code_pages) return bus;
    error_set(error, "cannot reserve %" PRIu64 " MiB of memory for the guest", m->arena_size >> 20);
    bus_free(bus);
    return NULL;
}

void bus_free(struct bus *bus)
{
    struct memory *m = &bus->memory;
    if (m->code_pages) os_release(m->code_pages, (m->arena_size >> 12) * sizeof *m->code_pages);
    if (m->arena) os_release(m->arena, m->arena_size);
    free(bus);
}

struct memory *bus_memory(struct bus *bus) { return &bus->memory; }

void bus_set_lock(struct bus *bus, void (*lock)(void *), void (*unlock)(void *), void *opaque)
{
    bus->lock = lock;
    bus->unlock = unlock;
    bus->lock_opaque = opaque;
}

void bus_on_map_change(struct bus *bus, void (*changed)(void *), void *opaque)
{
    bus->changed = changed;
    bus->changed_opaque = opaque;
}

u8 *bus_alloc_memory(struct bus *bus, u64 size, const char *name)
{
    (void)name;
    struct memory *m = &bus->memory;
    size = (size + PAGE_SIZE - 1) & PAGE_MASK;
    if (size > m->arena_size - bus->allocated) return NULL;
    u8 *p = m->arena + bus->allocated;
    bus->allocated += size;
    return p;
}

void bus_clear_memory(struct bus *bus, u8 *memory, u64 size)
{
    assert(memory >= bus->memory.arena &&
           size <= bus->memory.arena_size - (u64)(memory - bus->memory.arena));
    os_clear(memory, size);
}

void region_init(struct region *region, struct device *device, const struct region_ops *ops,
                 u64 size)
{
    *region = (struct region){.ops = ops, .device = device, .name = ops->name, .size = size};
}

void region_init_memory(struct region *region, u8 *memory, u64 size, bool read_only,
                        const char *name)
{
    *region = (struct region){.memory = memory, .size = size, .read_only = read_only, .name = name};
}

/* --- flattening --- */

static bool wins(const struct region *a, const struct region *b)
{
    return a->layer != b->layer ? a->layer > b->layer : a->order > b->order;
}

static int compare_u64(const void *a, const void *b)
{
    u64 x = *(const u64 *)a, y = *(const u64 *)b;
    return x < y ? -1 : x > y;
}

static struct region *winner_at(struct bus *bus, u64 address, bool smm)
{
    struct region *best = NULL;
    for (unsigned i = 0; i < bus->region_count; i++) {
        struct region *r = bus->regions[i];
        if (r->space != BUS_MEMORY || (bus->smm_only[i] && !smm)) continue;
        if (address < r->base || address - r->base >= r->size) continue;
        if (!best || wins(r, best)) best = r;
    }
    return best;
}

static void flatten(struct bus *bus, bool smm)
{
    u64 edge[MAX_REGIONS * 2];
    unsigned edges = 0, count = 0;
    for (unsigned i = 0; i < bus->region_count; i++) {
        struct region *r = bus->regions[i];
        if (r->space != BUS_MEMORY || (bus->smm_only[i] && !smm)) continue;
        edge[edges++] = r->base;
        edge[edges++] = r->base + r->size; /* 0 when it ends with the address space */
    }
    qsort(edge, edges, sizeof *edge, compare_u64);
    struct flat *flat = &bus->view[smm];
    atomic_fetch_add(&flat->sequence, 1);
    atomic_thread_fence(memory_order_seq_cst); /* odd before the first change is seen */
    for (unsigned i = 0; i < edges; i++) {
        if (i && edge[i] == edge[i - 1]) continue;
        struct region *r = winner_at(bus, edge[i], smm);
        if (!r) continue;
        unsigned j = i + 1;
        while (j < edges && edge[j] == edge[i]) j++;
        u64 last = (j < edges ? edge[j] : 0) - 1;
        if (count && flat->range[count - 1].region == r &&
            flat->range[count - 1].last + 1 == edge[i]) {
            flat->range[count - 1].last = last;
            continue;
        }
        assert(count < MAX_RANGES);
        flat->range[count].start = edge[i];
        flat->range[count].last = last;
        flat->range[count++].region = r;
    }
    flat->count = count;
    atomic_fetch_add(&flat->sequence, 1);
}

static void memory_changed(struct bus *bus)
{
    bus->dirty = true;
    if (bus->nesting) return;
    bus->dirty = false;
    flatten(bus, false);
    flatten(bus, true);
    atomic_fetch_add(&bus->memory.map_generation, 1);
    if (bus->changed) bus->changed(bus->changed_opaque);
}

void bus_begin(struct bus *bus) { bus->nesting++; }

void bus_commit(struct bus *bus)
{
    assert(bus->nesting);
    if (--bus->nesting == 0 && bus->dirty) memory_changed(bus);
}

static void ports_changed(struct bus *bus, u64 base, u64 size)
{
    for (u64 port = base; port < base + size && port < PORTS; port++) {
        struct region *best = NULL;
        for (unsigned i = 0; i < bus->region_count; i++) {
            struct region *r = bus->regions[i];
            if (r->space != BUS_PORT || port < r->base || port - r->base >= r->size) continue;
            if (!best || wins(r, best)) best = r;
        }
        bus->port[port] = best;
    }
}

static void map(struct bus *bus, enum bus_space space, struct region *region, u64 base,
                enum bus_layer layer, bool smm_only)
{
    assert(!region->mapped && bus->region_count < MAX_REGIONS);
    region->space = space;
    region->base = base;
    region->layer = layer;
    region->order = bus->next_order++;
    region->mapped = true;
    bus->smm_only[bus->region_count] = smm_only;
    bus->regions[bus->region_count++] = region;
    if (space == BUS_PORT) ports_changed(bus, base, region->size);
    else memory_changed(bus);
}

void bus_map(struct bus *bus, enum bus_space space, struct region *region, u64 base,
             enum bus_layer layer)
{
    map(bus, space, region, base, layer, false);
}

void bus_map_smm(struct bus *bus, struct region *region, u64 base, enum bus_layer layer)
{
    map(bus, BUS_MEMORY, region, base, layer, true);
}

void bus_unmap(struct bus *bus, struct region *region)
{
    if (!region->mapped) return;
    region->mapped = false;
    for (unsigned i = 0; i < bus->region_count; i++)
        if (bus->regions[i] == region) {
            bus->regions[i] = bus->regions[--bus->region_count];
            bus->smm_only[i] = bus->smm_only[bus->region_count];
            break;
        }
    if (region->space == BUS_PORT) ports_changed(bus, region->base, region->size);
    else memory_changed(bus);
}

/* --- look-up --- */

/* The region that answers ADDRESS, the first and the last address around it that it answers. */
static struct region *look_up_run(struct bus *bus, u64 address, bool smm, u64 *base, u64 *first,
                                  u64 *last)
{
    struct flat *flat = &bus->view[smm];
    for (;;) {
        u32 sequence = atomic_load_explicit(&flat->sequence, memory_order_acquire);
        if (sequence & 1) continue;
        u32 low = 0, high = flat->count;
        while (low < high) {
            u32 middle = (low + high) / 2;
            if (flat->range[middle].last < address) low = middle + 1;
            else high = middle;
        }
        struct region *region = NULL;
        u64 end = ~(u64)0, start = 0;
        if (low < flat->count) {
            start = flat->range[low].start;
            if (start <= address) {
                region = flat->range[low].region;
                end = flat->range[low].last;
            } else {
                end = start - 1;
            }
        }
        u64 at = region ? region->base : 0;
        atomic_thread_fence(memory_order_acquire); /* all of that has been read */
        if (atomic_load_explicit(&flat->sequence, memory_order_relaxed) != sequence) continue;
        *base = at;
        *first = start;
        *last = end;
        return region;
    }
}

static struct region *look_up(struct bus *bus, u64 address, bool smm, u64 *base, u64 *last)
{
    u64 first;
    return look_up_run(bus, address, smm, base, &first, last);
}

void memory_resolve(struct bus *bus, u64 address, bool smm, struct memory_target *target)
{
    u64 base, last;
    struct region *r = look_up(bus, address, smm, &base, &last);
    *target = (struct memory_target){0};
    if (!r || !r->memory || last - address < PAGE_SIZE - 1 || ((address - base) & (PAGE_SIZE - 1)))
        return;
    target->host = r->memory + (address - base);
    target->read_only = r->read_only;
}

bool memory_window(struct bus *bus, u64 address, bool smm, struct memory_window *window)
{
    u64 base, first, last;
    struct region *r = look_up_run(bus, address, smm, &base, &first, &last);
    if (!r || !r->memory || r->read_only || (base & (PAGE_SIZE - 1))) return false;
    u64 from = (first + PAGE_SIZE - 1) & PAGE_MASK, to = (last + 1) & PAGE_MASK;
    if (address < from || address - from >= to - from) return false;
    *window = (struct memory_window){from, to - from, r->memory + (from - base)};
    return true;
}

const char *bus_region_name(struct bus *bus, u64 address, u64 *offset)
{
    u64 base, last;
    struct region *r = look_up(bus, address, false, &base, &last);
    *offset = address - base;
    return r && r->ops ? r->name : NULL;
}

/* --- one access to one region, in the sizes the chip implements --- */

static u64 region_read(struct region *r, u64 offset, unsigned size)
{
    unsigned min = r->ops->min_size ? r->ops->min_size : 1;
    unsigned max = r->ops->max_size ? r->ops->max_size : 4;
    u64 value = 0;
    if (!r->ops->read) return size_mask(size);
    if (size < min || (offset & (size - 1) && min > 1)) { /* pieces of wider registers */
        for (unsigned i = 0; i < size; i++) {
            u64 word = r->ops->read(r->device, (offset + i) & ~(u64)(min - 1), min);
            value |= (word >> ((offset + i) & (min - 1)) * 8 & 0xff) << i * 8;
        }
        return value;
    }
    for (unsigned i = 0; i < size; i += max) {
        unsigned n = size - i < max ? size - i : max;
        value |= (r->ops->read(r->device, offset + i, n) & size_mask(n)) << i * 8;
    }
    return value;
}

static void region_write(struct bus *bus, struct region *r, u64 offset, u64 value, unsigned size)
{
    unsigned min = r->ops->min_size ? r->ops->min_size : 1;
    unsigned max = r->ops->max_size ? r->ops->max_size : 4;
    if (!r->ops->write) return;
    if (size < min || (offset & (size - 1) && min > 1)) {
        log_to(bus->log, LOG_GUEST_ERROR, "%s: %u-byte write at offset %" PRIx64 " dropped",
               r->name, size, offset);
        return;
    }
    for (unsigned i = 0; i < size; i += max) {
        unsigned n = size - i < max ? size - i : max;
        r->ops->write(r->device, offset + i, value >> i * 8 & size_mask(n), n);
    }
}

static void take_lock(struct bus *bus)
{
    if (bus->lock) bus->lock(bus->lock_opaque);
}

static void drop_lock(struct bus *bus)
{
    if (bus->unlock) bus->unlock(bus->lock_opaque);
}

/* --- ports --- */

/* A chip may have a log of its own (-d trace:PATTERN). */
static struct log *log_for(const struct bus *bus, const struct region *r)
{
    return r && r->device && r->device->log ? r->device->log : bus->log;
}

static bool whole_in(const struct region *r, u64 address, unsigned size)
{
    return address - r->base + size <= r->size;
}

u64 bus_port_read(struct bus *bus, u16 port, unsigned size)
{
    take_lock(bus);
    struct region *r = bus->port[port];
    u64 value = 0;
    if (r && whole_in(r, port, size)) {
        value = region_read(r, port - r->base, size);
    } else {
        for (unsigned i = 0; i < size; i++) {
            u32 p = (u32)port + i;
            r = p < PORTS ? bus->port[p] : NULL;
            value |= (r ? region_read(r, p - r->base, 1) & 0xff : 0xff) << i * 8;
        }
    }
    drop_lock(bus);
    log_to(log_for(bus, r), LOG_PORT, "in%u %04x = %" PRIx64, size * 8, port, value);
    return value;
}

void bus_port_write(struct bus *bus, u16 port, u64 value, unsigned size)
{
    take_lock(bus);
    struct region *r = bus->port[port];
    log_to(log_for(bus, r), LOG_PORT, "out%u %04x = %" PRIx64, size * 8, port, value);
    if (r && whole_in(r, port, size)) {
        region_write(bus, r, port - r->base, value, size);
    } else {
        for (unsigned i = 0; i < size; i++) {
            u32 p = (u32)port + i;
            r = p < PORTS ? bus->port[p] : NULL;
            if (r) region_write(bus, r, p - r->base, value >> i * 8 & 0xff, 1);
        }
    }
    drop_lock(bus);
}

/* --- memory, as a processor does it --- */

static void write_memory(struct bus *bus, u8 *host, const void *from, u64 length)
{
    guest_copy(host, from, length);
    /* Behind the copy: who decodes in between decodes old bytes, and is told. */
    atomic_thread_fence(memory_order_seq_cst);
    if (unlikely(memory_is_code(&bus->memory, host) ||
                 memory_is_code(&bus->memory, host + length - 1)))
        memory_code_written(&bus->memory, host, length);
}

static u64 read_piece(struct bus *bus, struct region *r, u64 offset, unsigned size)
{
    if (!r) return size_mask(size);
    if (r->memory) {
        u8 bytes[8] = {0};
        guest_copy(bytes, r->memory + offset, size);
        return ld64(bytes);
    }
    take_lock(bus);
    u64 value = region_read(r, offset, size) & size_mask(size);
    drop_lock(bus);
    return value;
}

static void write_piece(struct bus *bus, struct region *r, u64 offset, u64 value, unsigned size)
{
    if (!r) return;
    if (r->memory && !r->read_only) {
        u8 bytes[8];
        st64(bytes, value);
        write_memory(bus, r->memory + offset, bytes, size);
    } else if (r->ops) {
        take_lock(bus);
        region_write(bus, r, offset, value, size);
        drop_lock(bus);
    }
}

u64 bus_memory_read_as(struct bus *bus, u64 address, unsigned size, bool smm)
{
    u64 base, last, value = 0;
    struct region *r = look_up(bus, address, smm, &base, &last);
    if (likely(last - address >= size - 1)) {
        value = read_piece(bus, r, address - base, size);
    } else {
        for (unsigned i = 0; i < size; i++) {
            r = look_up(bus, address + i, smm, &base, &last);
            value |= read_piece(bus, r, address + i - base, 1) << i * 8;
        }
    }
    log_to(log_for(bus, r), LOG_MMIO, "read%u %" PRIx64 " = %" PRIx64, size * 8, address, value);
    return value;
}

void bus_memory_write_as(struct bus *bus, u64 address, u64 value, unsigned size, bool smm)
{
    u64 base, last;
    struct region *r = look_up(bus, address, smm, &base, &last);
    log_to(log_for(bus, r), LOG_MMIO, "write%u %" PRIx64 " = %" PRIx64, size * 8, address, value);
    if (likely(last - address >= size - 1)) {
        write_piece(bus, r, address - base, value, size);
        return;
    }
    for (unsigned i = 0; i < size; i++) {
        r = look_up(bus, address + i, smm, &base, &last);
        write_piece(bus, r, address + i - base, value >> i * 8 & 0xff, 1);
    }
}

u64 bus_memory_read(struct bus *bus, u64 address, unsigned size)
{
    return bus_memory_read_as(bus, address, size, false);
}

void bus_memory_write(struct bus *bus, u64 address, u64 value, unsigned size)
{
    bus_memory_write_as(bus, address, value, size, false);
}

/* --- memory, as a bus master does it --- */

void *dma_map(struct bus *bus, u64 address, u64 *length, bool write)
{
    u64 base, last;
    struct region *r = look_up(bus, address, false, &base, &last);
    if (!r || !r->memory || (write && r->read_only) || !*length) return NULL;
    if (last - address < *length - 1) *length = last - address + 1;
    return r->memory + (address - base);
}

void dma_wrote(struct bus *bus, u64 address, u64 length)
{
    while (length) {
        u64 n = length;
        u8 *host = dma_map(bus, address, &n, true);
        if (!host) return;
        memory_code_written(&bus->memory, host, n);
        address += n;
        length -= n;
    }
}

bool dma_read(struct bus *bus, u64 address, void *to, u64 length)
{
    u8 *out = to;
    bool all = true;
    while (length) {
        u64 base, last, n = length;
        struct region *r = look_up(bus, address, false, &base, &last);
        if (last - address < n - 1) n = last - address + 1;
        if (r && r->memory) guest_copy(out, r->memory + (address - base), n);
        else memset(out, 0xff, n), all = false;
        out += n;
        address += n;
        length -= n;
    }
    return all;
}

bool dma_write(struct bus *bus, u64 address, const void *from, u64 length)
{
    const u8 *in = from;
    bool all = true;
    while (length) {
        u64 base, last, n = length;
        struct region *r = look_up(bus, address, false, &base, &last);
        if (last - address < n - 1) n = last - address + 1;
        if (r && r->memory && !r->read_only) {
            u8 *host = r->memory + (address - base);
            guest_copy(host, in, n);
            memory_code_written(&bus->memory, host, n);
        } else {
            all = false;
        }
        in += n;
        address += n;
        length -= n;
    }
    return all;
}

void bus_dump(struct bus *bus, void *stream)
{
    struct flat *flat = &bus->view[0];
    for (u32 i = 0; i < flat->count; i++) {
        struct region *r = flat->range[i].region;
        fprintf(stream, "  %016" PRIx64 "-%016" PRIx64 " %s%s\n", (u64)flat->range[i].start,
                (u64)flat->range[i].last, r->name,
                r->memory ? r->read_only ? " (rom)" : " (ram)" : "");
    }
    for (u32 port = 0; port < PORTS;) {
        struct region *r = bus->port[port];
        u32 end = port + 1;
        while (end < PORTS && bus->port[end] == r) end++;
        if (r) fprintf(stream, "  port %04x-%04x %s\n", port, end - 1, r->name);
        port = end;
    }
}
