/*
 * See hash.h. SHA-256 is GLib's, which comes with libslirp.
 *
 * The arithmetic flags are hashed as EFLAGS has them, not as the interpreter keeps them, and
 * general registers without the two slots behind them: the same state must give the same hash
 * whichever engine led to it. Pages of zeros count as nothing, so memory that was never touched
 * costs a look.
 */
#include "machine/debug/hash.h"

#include "cpu/cpu.h"
#include "cpu/flags.h"
#include "devices/pci.h"
#include "machine/machine.h"

#include <glib.h>
#include <stdio.h>
#include <stdlib.h>

static void add(GChecksum *sum, const void *bytes, size_t length)
{
    g_checksum_update(sum, bytes, (gssize)length);
}

static void add_number(GChecksum *sum, u64 value)
{
    u8 bytes[8];
    st64(bytes, value);
    add(sum, bytes, sizeof bytes);
}

static void add_fields(GChecksum *sum, const void *object, const struct state_field *fields)
{
    struct state_buffer buffer = {0};
    state_save(&buffer, object, fields);
    add(sum, buffer.bytes, buffer.length);
    state_buffer_free(&buffer);
}

static void add_processor(GChecksum *sum, const struct vcpu *cpu)
{
    struct vcpu *copy = malloc(sizeof *copy); /* only its declared part is looked at */
    if (!copy) abort();
    memcpy(copy, cpu, sizeof *copy);
    copy->eflags = cpu_eflags(cpu);
    copy->lf_result = copy->lf_aux = 0;
    copy->regs[REG_ZERO] = copy->regs[REG_IP_BASE] = 0;
    add_fields(sum, copy, cpu_state_fields());
    free(copy);
}

static void add_memory(GChecksum *sum, const struct memory *memory)
{
    static const u8 zeros[PAGE_SIZE];
    for (u64 at = 0; at < memory->arena_size; at += PAGE_SIZE) {
        if (!memcmp(memory->arena + at, zeros, PAGE_SIZE)) continue;
        add_number(sum, at);
        add(sum, memory->arena + at, PAGE_SIZE);
    }
}

void machine_hash(struct machine *m, char text[MACHINE_HASH_TEXT], char parts[3][MACHINE_HASH_TEXT])
{
    GChecksum *all = g_checksum_new(G_CHECKSUM_SHA256);
    for (unsigned part = 0; part < 3; part++) {
        GChecksum *sum = g_checksum_new(G_CHECKSUM_SHA256);
        for (unsigned i = 0; part == 0 && i < m->vcpu_count; i++)
            add_processor(sum, m->vcpu[i].cpu);
        for (unsigned i = 0; part == 1 && i < m->device_count; i++) {
            const struct device *device = m->devices[i];
            add(sum, device->class->name, strlen(device->class->name));
            if (device->class->is_pci) add_fields(sum, device, pci_device_fields);
            if (device->class->fields) add_fields(sum, device, device->class->fields);
        }
        if (part == 2) add_memory(sum, bus_memory(m->bus));
        const char *digits = g_checksum_get_string(sum);
        add(all, digits, strlen(digits));
        if (parts) snprintf(parts[part], MACHINE_HASH_TEXT, "%s", digits);
        g_checksum_free(sum);
    }
    snprintf(text, MACHINE_HASH_TEXT, "%s", g_checksum_get_string(all));
    g_checksum_free(all);
}
