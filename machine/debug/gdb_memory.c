/*
 * Guest memory for the debugger: through the page tables without touching them, devices by way of
 * the bus, and writes told to those who have decoded code.
 */
#define _GNU_SOURCE /* memmem */
#include "machine/debug/gdb_int.h"

#include "cpu/mem.h"
#include "cpu/smm.h" /* cpu_sees_smram */
#include "machine/debug/guest_memory.h"

#include <stdio.h>

#define SEARCH_MAX MIB(64)

/* N bytes of a page of RAM or, for reading, of ROM. */
static bool ram_piece(struct vcpu *cpu, u64 physical, u8 *bytes, unsigned n, bool write)
{
    struct memory_target target;
    if (!write) return guest_read_physical(cpu, physical, bytes, n) == n;
    memory_resolve(cpu->bus, physical & PAGE_MASK, cpu_sees_smram(cpu), &target);
    if (!target.host || target.read_only) return false;
    u8 *host = target.host + (physical & (PAGE_SIZE - 1));
    guest_copy(host, bytes, n);
    if (memory_is_code(cpu->memory, host)) memory_code_written(cpu->memory, host, n);
    return true;
}

/* Registers in the sizes their alignment has. Nobody there: false. */
static bool device_piece(struct vcpu *cpu, u64 physical, u8 *bytes, unsigned n, bool write)
{
    while (n) {
        unsigned size = !(physical & 3) && n >= 4 ? 4 : !(physical & 1) && n >= 2 ? 2 : 1;
        u64 value = 0;
        for (unsigned i = 0; write && i < size; i++) value |= (u64)bytes[i] << (i * 8);
        if (!(write ? mem_device_write(cpu, physical, size, value)
                    : mem_device_read(cpu, physical, size, &value)))
            return false;
        for (unsigned i = 0; !write && i < size; i++) bytes[i] = (u8)(value >> (i * 8));
        bytes += size, physical += size, n -= size;
    }
    return true;
}

/* Without the lock: tables may lie behind the bus, which takes it. */
static unsigned transfer(struct gdb *g, u64 address, u8 *bytes, unsigned n, bool write)
{
    struct vcpu *cpu = gdb_cpu(g);
    unsigned done = 0;
    machine_unlock(g->machine);
    while (done < n) {
        u64 at = address + done, physical = at;
        unsigned room = PAGE_SIZE - (at & (PAGE_SIZE - 1)),
                 piece = n - done < room ? n - done : room;
        if (!g->physical && !guest_translate(cpu, at, &physical)) break;
        if (!ram_piece(cpu, physical, bytes + done, piece, write) &&
            !device_piece(cpu, physical, bytes + done, piece, write))
            break;
        done += piece;
    }
    machine_lock(g->machine);
    return done;
}

unsigned gdb_read(struct gdb *g, u64 address, u8 *to, unsigned n)
{
    return transfer(g, address, to, n, false);
}

bool gdb_write(struct gdb *g, u64 address, const u8 *from, unsigned n)
{
    return transfer(g, address, (u8 *)(uintptr_t)from, n, true) == n; /* reads them only */
}

/* --- qSearch:memory:ADDRESS;LENGTH;PATTERN --- */

static bool search_piece(struct gdb *g, u64 at, u64 length, const u8 *pattern, unsigned n,
                         u64 *found)
{
    u8 bytes[2 * PAGE_SIZE];
    unsigned want = length < sizeof bytes ? (unsigned)length : (unsigned)sizeof bytes;
    unsigned have = gdb_read(g, at, bytes, want);
    const u8 *hit = have >= n ? memmem(bytes, have, pattern, n) : NULL;
    if (hit) *found = at + (u64)(hit - bytes);
    return hit != NULL;
}

void gdb_search(struct gdb *g, const char *packet, unsigned n)
{
    const char *at = packet;
    u64 address, length, found;
    if (!gdb_number(&at, &address) || !gdb_skip(&at, ';') || !gdb_number(&at, &length) ||
        !gdb_skip(&at, ';')) {
        gdb_reply(g, "E22");
        return;
    }
    unsigned size = n - (unsigned)(at - packet);
    if (!size || size > PAGE_SIZE || length > SEARCH_MAX) {
        gdb_reply(g, "E22");
        return;
    }
    for (u64 i = 0; i + size <= length; i += PAGE_SIZE) {
        if (!search_piece(g, address + i, length - i, (const u8 *)at, size, &found)) continue;
        char text[32];
        snprintf(text, sizeof text, "1,%llx", (unsigned long long)found);
        gdb_reply(g, text);
        return;
    }
    gdb_reply(g, "0");
}

/* --- qCRC:ADDRESS,LENGTH: CRC-32, most significant bit first, from all ones --- */

void gdb_crc(struct gdb *g, const char *packet)
{
    u64 address, length;
    u32 crc = ~0u;
    if (!gdb_number(&packet, &address) || !gdb_skip(&packet, ',') ||
        !gdb_number(&packet, &length) || length > SEARCH_MAX) {
        gdb_reply(g, "E22");
        return;
    }
    while (length) {
        u8 bytes[PAGE_SIZE];
        unsigned n = length < sizeof bytes ? (unsigned)length : (unsigned)sizeof bytes;
        if (gdb_read(g, address, bytes, n) != n) {
            gdb_reply(g, "E14");
            return;
        }
        for (unsigned i = 0; i < n; i++) {
            crc ^= (u32)bytes[i] << 24;
            for (unsigned bit = 0; bit < 8; bit++) crc = crc << 1 ^ (crc >> 31 ? 0x04c11db7u : 0);
        }
        address += n, length -= n;
    }
    char text[16];
    snprintf(text, sizeof text, "C%x", crc);
    gdb_reply(g, text);
}
