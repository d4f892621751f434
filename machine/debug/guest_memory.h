/*
 * Guest memory as a person looks at it: rights do not count, nothing is marked accessed, devices
 * are left alone.
 * Thread: the processor parked.
 */
#ifndef MACHINE_DEBUG_GUEST_MEMORY_H
#define MACHINE_DEBUG_GUEST_MEMORY_H

#include "machine/types.h"

struct vcpu;

/* Where CPU's linear address leads; false when nowhere. */
bool guest_translate(struct vcpu *cpu, u64 linear, u64 *physical);
/* Bytes read, fewer than LENGTH when the rest is not mapped or no memory. */
size_t guest_read(struct vcpu *cpu, u64 linear, void *to, size_t length);
size_t guest_read_physical(struct vcpu *cpu, u64 physical, void *to, size_t length);

/* A leaf of the page tables, as the walk meets them: upwards. */
struct guest_mapping {
    u64 linear, physical, size;
    u64 entry;          /* the leaf itself */
    bool write, user, no_execute; /* of all levels together */
};
/* Calls EACH for every mapping until it returns false. False when the tables were too many to
 * visit. */
bool guest_mappings(struct vcpu *cpu, bool (*each)(void *opaque, const struct guest_mapping *),
                    void *opaque);

#endif
