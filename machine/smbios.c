/*
 * SMBIOS 2.8 structures: system, chassis, a processor per vCPU, memory, boot status.
 * Specification: DMTF DSP0134 2.8. Type 0 (BIOS) is the firmware's own to add.
 */
#include "machine/smbios.h"

#include <stdio.h>

#include "devices/fw_cfg.h"
#include "machine/aml.h" /* its byte buffer */

#define DIMM_SIZE GIB(16)
#define DIMMS_MAX 255
#define UNKNOWN_HANDLE 0xfffe

enum { HANDLE_SYSTEM = 0x100, HANDLE_CHASSIS = 0x300, HANDLE_CPU = 0x400, HANDLE_ARRAY = 0x1000,
       HANDLE_DIMM = 0x1100, HANDLE_MAPPED = 0x1300, HANDLE_BOOT = 0x2000, HANDLE_END = 0x7f00 };

struct smbios {
    struct aml out;
    u32 count, longest;
};

/* One structure: its formatted part (type, length and handle filled in here) and its strings. */
static void add(struct smbios *s, u8 type, u16 handle, u8 *formatted, u8 length,
                const char *const *strings, unsigned string_count)
{
    size_t start = s->out.length;
    formatted[0] = type;
    formatted[1] = length;
    st16(formatted + 2, handle);
    aml_bytes(&s->out, formatted, length);
    for (unsigned i = 0; i < string_count; i++)
        aml_bytes(&s->out, strings[i], strlen(strings[i]) + 1);
    aml_byte(&s->out, 0);
    if (!string_count) aml_byte(&s->out, 0);
    s->count++;
    if (s->out.length - start > s->longest) s->longest = (u32)(s->out.length - start);
}

/* An empty string would end the list: it becomes a space. */
static const char *text(const char *given, const char *otherwise)
{
    return !given ? otherwise : given[0] ? given : " ";
}

static void add_system(struct smbios *s, const struct smbios_config *c)
{
    u8 f[27] = {[4] = 1, [5] = 2, [6] = 3, [7] = 4, [24] = 6 /* power switch */};
    const char *strings[] = {text(c->manufacturer, "Lyrebird"),
                             text(c->product, "Standard PC (i440FX)"),
                             text(c->version, "1.0"), text(c->serial, "0")};
    /* The first three fields of a UUID are little-endian in the table. */
    static const u8 order[16] = {3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15};
    for (unsigned i = 0; i < 16; i++) f[8 + i] = c->uuid[order[i]];
    add(s, 1, HANDLE_SYSTEM, f, sizeof f, strings, c->serial ? 4 : (f[7] = 0, 3));
}

static void add_chassis(struct smbios *s)
{
    u8 f[22] = {[4] = 1, [5] = 1, [6] = 2, [9] = 3, [10] = 3, [11] = 3, [12] = 2};
    static const char *const strings[] = {"Lyrebird", "1.0"};
    add(s, 3, HANDLE_CHASSIS, f, sizeof f, strings, 2);
}

static void add_processor(struct smbios *s, const struct smbios_config *c, unsigned index)
{
    char socket[16];
    const char *strings[] = {socket, "Lyrebird", "1.0"};
    u8 f[42] = {[4] = 1, [5] = 3, [6] = 1, [7] = 2, [16] = 3, [24] = 0x41, [25] = 1};
    snprintf(socket, sizeof socket, "CPU %u", index);
    st32(f + 8, c->cpu_signature);
    st32(f + 12, c->cpu_features);
    st16(f + 20, (u16)(c->cpu_mhz ? c->cpu_mhz : 2000));
    st16(f + 22, (u16)(c->cpu_mhz ? c->cpu_mhz : 2000));
    for (unsigned i = 26; i < 32; i += 2) st16(f + i, 0xffff); /* caches not described */
    f[35] = f[36] = f[37] = 1;
    st16(f + 38, 0x0004); /* 64-bit capable */
    st16(f + 40, 1);
    add(s, 4, (u16)(HANDLE_CPU + index), f, sizeof f, strings, 3);
}

static unsigned dimm_count(u64 total)
{
    u64 n = (total + DIMM_SIZE - 1) / DIMM_SIZE;
    return n > DIMMS_MAX ? DIMMS_MAX : (unsigned)n;
}

static void add_memory_array(struct smbios *s, u64 total)
{
    u8 f[23] = {[4] = 1, [5] = 3, [6] = 3};
    st32(f + 7, total >> 10 < 0x80000000u ? (u32)(total >> 10) : 0x80000000u);
    st16(f + 11, UNKNOWN_HANDLE);
    st16(f + 13, (u16)dimm_count(total));
    if (total >> 10 >= 0x80000000u) st64(f + 15, total);
    add(s, 16, HANDLE_ARRAY, f, sizeof f, NULL, 0);
}

static void add_dimm(struct smbios *s, unsigned index, u64 size)
{
    char locator[16];
    const char *strings[] = {locator, "Lyrebird"};
    u64 mib = size >> 20;
    u8 f[40] = {[14] = 9 /* DIMM */, [16] = 1, [18] = 7 /* RAM */, [23] = 2};
    snprintf(locator, sizeof locator, "DIMM %u", index);
    st16(f + 4, HANDLE_ARRAY);
    st16(f + 6, UNKNOWN_HANDLE);
    st16(f + 8, 0xffff);
    st16(f + 10, 0xffff);
    st16(f + 12, mib < 0x7fff ? (u16)mib : 0x7fff);
    if (mib >= 0x7fff) st32(f + 28, (u32)mib);
    st16(f + 19, 2);
    add(s, 17, (u16)(HANDLE_DIMM + index), f, sizeof f, strings, 2);
}

static void add_mapped(struct smbios *s, unsigned index, u64 start, u64 size)
{
    u8 f[31] = {[14] = 1};
    u64 last = start + size - 1;
    if (!size) return;
    if (last >> 10 < 0xffffffff) {
        st32(f + 4, (u32)(start >> 10));
        st32(f + 8, (u32)(last >> 10));
    } else {
        st32(f + 4, 0xffffffff);
        st32(f + 8, 0xffffffff);
        st64(f + 15, start);
        st64(f + 23, last);
    }
    st16(f + 12, HANDLE_ARRAY);
    add(s, 19, (u16)(HANDLE_MAPPED + index), f, sizeof f, NULL, 0);
}

static u8 checksum(const u8 *bytes, unsigned length)
{
    u8 sum = 0;
    for (unsigned i = 0; i < length; i++) sum += bytes[i];
    return (u8)-sum;
}

static void fill_anchor(u8 anchor[31], const struct smbios *s)
{
    memcpy(anchor, "_SM_", 4);
    anchor[5] = 31;
    anchor[6] = 2;
    anchor[7] = 8;
    st16(anchor + 8, s->longest > 0xffff ? 0xffff : (u16)s->longest);
    memcpy(anchor + 16, "_DMI_", 5);
    st16(anchor + 22, (u16)s->out.length);
    /* The address (24-27) is the firmware's to fill in; it then makes the checksums anew. */
    st16(anchor + 28, (u16)s->count);
    anchor[30] = 0x28;
    anchor[21] = checksum(anchor + 16, 15);
    anchor[4] = checksum(anchor, 31);
}

void smbios_build(struct device *fw_cfg, const struct smbios_config *c)
{
    struct smbios s = {0};
    u64 total = c->ram_below_4g + c->ram_above_4g, left = total;
    u8 anchor[31] = {0}, boot[11] = {0}, end[4] = {0};
    add_system(&s, c);
    add_chassis(&s);
    for (unsigned i = 0; i < c->vcpus; i++) add_processor(&s, c, i);
    add_memory_array(&s, total);
    for (unsigned i = 0; i < dimm_count(total); i++) {
        u64 size = left < DIMM_SIZE ? left : DIMM_SIZE;
        add_dimm(&s, i, size);
        left -= size;
    }
    add_mapped(&s, 0, 0, c->ram_below_4g);
    add_mapped(&s, 1, GIB(4), c->ram_above_4g);
    add(&s, 32, HANDLE_BOOT, boot, sizeof boot, NULL, 0);
    add(&s, 127, HANDLE_END, end, sizeof end, NULL, 0);
    fill_anchor(anchor, &s);
    fw_cfg_add_file(fw_cfg, "etc/smbios/smbios-anchor", anchor, sizeof anchor);
    fw_cfg_add_file(fw_cfg, "etc/smbios/smbios-tables", s.out.bytes, (u32)s.out.length);
    aml_free(&s.out);
}
