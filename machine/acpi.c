/*
 * ACPI tables of the 440FX/PIIX board and the script by which firmware installs them.
 * Specification: ACPI 2.0 (FADT revision 3) with MADT and HPET; the loader's commands are those the
 * firmware interface fw_cfg defines ("etc/table-loader").
 * The namespace names (PCI0, LNKA, GSI numbers) are those guests of this board know.
 * Not described: hot plug of anything, NUMA, x2APIC IDs above 254.
 */
#include "machine/acpi.h"

#include <stdio.h>
#include <stdlib.h>

#include "devices/fw_cfg.h"
#include "machine/aml.h"

#define TABLES_FILE "etc/acpi/tables"
#define RSDP_FILE "etc/acpi/rsdp"
#define LOADER_FILE "etc/table-loader"
#define TABLES_ALIGN 64
#define HEADER_SIZE 36

enum { SCI_IRQ = 9, SMI_PORT = 0xb2, ACPI_ENABLE = 0xf1, ACPI_DISABLE = 0xf0, GPE0_PORT = 0xafe0,
       GPE0_LENGTH = 4, RESET_PORT = 0xcf9, RESET_VALUE = 0x0f, CENTURY_CMOS = 0x32 };
enum { LOADER_ALLOCATE = 1, LOADER_POINTER = 2, LOADER_CHECKSUM = 3, ZONE_HIGH = 1, ZONE_FSEG = 2 };

/* --- the loader's script ---------------------------------------------------------------------- */

struct build {
    const struct acpi_config *config;
    struct aml tables, loader;
    u32 table[8]; /* offsets of what RSDT and XSDT list */
    unsigned count;
    u32 facs, dsdt;
};

static void loader_name(struct aml *loader, const char *file)
{
    char name[56] = {0};
    snprintf(name, sizeof name, "%s", file);
    aml_bytes(loader, name, sizeof name);
}

/* Every command is 128 bytes. */
static void loader_pad(struct aml *loader)
{
    while (loader->length % 128) aml_byte(loader, 0);
}

static void loader_allocate(struct aml *loader, const char *file, u32 align, u8 zone)
{
    aml_dword(loader, LOADER_ALLOCATE);
    loader_name(loader, file);
    aml_dword(loader, align);
    aml_byte(loader, zone);
    loader_pad(loader);
}

/* The SIZE-byte field at OFFSET of FILE holds an offset into the tables and becomes an address. */
static void loader_pointer(struct aml *loader, const char *file, u32 offset, u8 size)
{
    aml_dword(loader, LOADER_POINTER);
    loader_name(loader, file);
    loader_name(loader, TABLES_FILE);
    aml_dword(loader, offset);
    aml_byte(loader, size);
    loader_pad(loader);
}

static void loader_checksum(struct aml *loader, const char *file, u32 offset, u32 start, u32 length)
{
    aml_dword(loader, LOADER_CHECKSUM);
    loader_name(loader, file);
    aml_dword(loader, offset);
    aml_dword(loader, start);
    aml_dword(loader, length);
    loader_pad(loader);
}

/* --- tables ----------------------------------------------------------------------------------- */

static void align_to(struct aml *t, size_t alignment)
{
    while (t->length % alignment) aml_byte(t, 0);
}

static u32 table_begin(struct build *b, const char *signature, u8 revision)
{
    struct aml *t = &b->tables;
    align_to(t, 8);
    u32 start = (u32)t->length;
    aml_bytes(t, signature, 4);
    aml_dword(t, 0);
    aml_byte(t, revision);
    aml_byte(t, 0);
    aml_bytes(t, "LYREBDLYREBIRD", 14);
    aml_dword(t, 1);
    aml_bytes(t, "LYRE", 4);
    aml_dword(t, 1);
    return start;
}

static void table_end(struct build *b, u32 start)
{
    u32 length = (u32)b->tables.length - start;
    st32(b->tables.bytes + start + 4, length);
    loader_checksum(&b->loader, TABLES_FILE, start + 9, start, length);
}

static void table_list(struct build *b, u32 start) { b->table[b->count++] = start; }

/* A pointer field within the tables: what it points at, as an offset. */
static void put_pointer(struct build *b, u32 at, u32 to, u8 size)
{
    if (size == 8)
        st64(b->tables.bytes + at, to);
    else
        st32(b->tables.bytes + at, to);
    loader_pointer(&b->loader, TABLES_FILE, at, size);
}

static void build_facs(struct build *b)
{
    align_to(&b->tables, TABLES_ALIGN);
    b->facs = (u32)b->tables.length;
    aml_bytes(&b->tables, "FACS", 4);
    aml_dword(&b->tables, 64);
    for (unsigned i = 0; i < 7; i++) aml_qword(&b->tables, 0);
}

static void put_gas(u8 *to, u8 bits, u64 port)
{
    to[0] = 1; /* system I/O */
    to[1] = bits;
    to[3] = bits == 8 ? 1 : bits == 16 ? 2 : 3;
    st64(to + 4, port);
}

static void fadt_fixed(u8 *f, const struct acpi_config *c, u32 pm)
{
    f[44] = c->acpi1; /* INT_MODEL: dual 8259 and APIC */
    st16(f + 46, SCI_IRQ);
    st32(f + 48, SMI_PORT);
    f[52] = ACPI_ENABLE;
    f[53] = ACPI_DISABLE;
    st32(f + 56, pm);
    st32(f + 64, pm + 4);
    st32(f + 76, pm + 8);
    st32(f + 80, GPE0_PORT);
    f[88] = 4;
    f[89] = 2;
    f[91] = 4;
    f[92] = GPE0_LENGTH;
    st16(f + 96, 0xfff); /* latencies that say: no C2, no C3 */
    st16(f + 98, 0xfff);
    f[108] = CENTURY_CMOS;
    /* WBINVD, C1 on all processors, no sleep button, RTC wakes from S4, platform clock */
    u32 flags = 1 << 0 | 1 << 2 | 1 << 5 | 1 << 7 | 1 << 15;
    if (!c->acpi1) flags |= 1 << 10; /* reset register */
    if (c->vcpus > 8) flags |= 1 << 18;
    st32(f + 112, flags);
}

static void build_fadt(struct build *b)
{
    const struct acpi_config *c = b->config;
    u32 pm = c->pm_base ? c->pm_base : 0x600, size = c->acpi1 ? 116 : 244;
    u32 start = table_begin(b, "FACP", c->acpi1 ? 1 : 3);
    for (u32 i = HEADER_SIZE; i < size; i++) aml_byte(&b->tables, 0);
    u8 *f = b->tables.bytes + start;
    fadt_fixed(f, c, pm);
    if (!c->acpi1) {
        st16(f + 109, 1 | (c->keyboard ? 2 : 0)); /* legacy devices, 8042 */
        put_gas(f + 116, 8, RESET_PORT);
        f[128] = RESET_VALUE;
        put_gas(f + 148, 32, pm);
        put_gas(f + 172, 16, pm + 4);
        put_gas(f + 208, 32, pm + 8);
        put_gas(f + 220, GPE0_LENGTH * 8, GPE0_PORT);
        put_pointer(b, start + 140, b->dsdt, 8);
    }
    put_pointer(b, start + 36, b->facs, 4);
    put_pointer(b, start + 40, b->dsdt, 4);
    table_end(b, start);
    table_list(b, start);
}

static void madt_override(struct aml *t, u8 source, u32 gsi, u16 flags)
{
    aml_byte(t, 2);
    aml_byte(t, 10);
    aml_byte(t, 0);
    aml_byte(t, source);
    aml_dword(t, gsi);
    aml_word(t, flags);
}

static void build_madt(struct build *b)
{
    static const u8 pci_irqs[] = {5, 9, 10, 11};
    const struct acpi_config *c = b->config;
    struct aml *t = &b->tables;
    u32 start = table_begin(b, "APIC", c->acpi1 ? 1 : 3);
    aml_dword(t, 0xfee00000);
    aml_dword(t, 1); /* there are 8259s too */
    for (unsigned i = 0; i < c->vcpus; i++) {
        aml_byte(t, 0);
        aml_byte(t, 8);
        aml_byte(t, (u8)i);
        aml_byte(t, (u8)(c->apic_ids ? c->apic_ids[i] : i));
        aml_dword(t, 1);
    }
    aml_byte(t, 1);
    aml_byte(t, 12);
    aml_word(t, 0); /* I/O APIC 0 */
    aml_dword(t, 0xfec00000);
    aml_dword(t, 0);
    madt_override(t, 0, 2, 0);
    for (unsigned i = 0; i < sizeof pci_irqs; i++)
        madt_override(t, pci_irqs[i], pci_irqs[i], 0x000d); /* active high, level */
    aml_byte(t, 4); /* NMI on every processor's LINT1 */
    aml_byte(t, 6);
    aml_byte(t, 0xff);
    aml_word(t, 0);
    aml_byte(t, 1);
    table_end(b, start);
    table_list(b, start);
}

static void build_hpet(struct build *b)
{
    struct aml *t = &b->tables;
    if (!b->config->hpet) return;
    u32 start = table_begin(b, "HPET", 1);
    aml_dword(t, 0x8086a201);
    aml_dword(t, 0); /* system memory */
    aml_qword(t, 0xfed00000);
    aml_dword(t, 0); /* number, minimum tick (low), */
    table_end(b, start);
    table_list(b, start);
}

/* Tells Windows that the PM timer needs no reading twice. */
static void build_waet(struct build *b)
{
    u32 start = table_begin(b, "WAET", 1);
    aml_dword(&b->tables, 2);
    table_end(b, start);
    table_list(b, start);
}

/* --- DSDT: links ------------------------------------------------------------------------------ */

static void op(struct aml *t, u8 opcode) { aml_byte(t, opcode); }

static void add_link(struct aml *t, unsigned index)
{
    static const u32 choices[] = {5, 10, 11};
    struct aml r = {0};
    char link[5] = "LNKA", reg[5] = "PRQ0";
    link[3] = (char)('A' + index);
    reg[3] = (char)('0' + index);
    size_t device = aml_device(t, link), method;
    aml_declare_eisa_id(t, "_HID", "PNP0C0F");
    aml_declare_integer(t, "_UID", index);
    aml_declare(t, "_PRS");
    aml_interrupts(&r, true, true, choices, ARRAY_SIZE(choices));
    aml_resources(t, &r);

    method = aml_method(t, "_STA", 0, false);
    op(t, AML_RETURN), aml_name(t, "IQST"), aml_name(t, reg);
    aml_end(t, method);

    method = aml_method(t, "_DIS", 0, false);
    op(t, AML_OR), aml_name(t, reg), aml_integer(t, 0x80), aml_name(t, reg);
    aml_end(t, method);

    method = aml_method(t, "_CRS", 0, false);
    op(t, AML_RETURN), aml_name(t, "IQCR"), aml_name(t, reg);
    aml_end(t, method);

    method = aml_method(t, "_SRS", 1, false);
    op(t, AML_CREATE_DWORD), op(t, AML_ARG0), aml_integer(t, 5), aml_name(t, "PRRI");
    op(t, AML_STORE), aml_name(t, "PRRI"), aml_name(t, reg);
    aml_end(t, method);
    aml_end(t, device);
}

/* The power management function's own line: interrupt 9 and no other. */
static void add_sci_link(struct aml *t)
{
    static const u32 sci[] = {SCI_IRQ};
    struct aml r = {0};
    size_t device = aml_device(t, "LNKS"), method;
    aml_declare_eisa_id(t, "_HID", "PNP0C0F");
    aml_declare_integer(t, "_UID", 4);
    aml_declare(t, "_PRS");
    aml_interrupts(&r, true, true, sci, 1);
    aml_resources(t, &r);
    method = aml_method(t, "_STA", 0, false);
    op(t, AML_RETURN), aml_integer(t, 0x0b);
    aml_end(t, method);
    method = aml_method(t, "_DIS", 0, false);
    aml_end(t, method);
    method = aml_method(t, "_CRS", 0, false);
    op(t, AML_RETURN), aml_name(t, "_PRS");
    aml_end(t, method);
    method = aml_method(t, "_SRS", 1, false);
    aml_end(t, method);
    aml_end(t, device);
}

static void add_links(struct aml *t)
{
    static const u32 none[] = {0};
    struct aml r = {0};
    size_t field = aml_field(t, "PCI0.ISA.P40C", 1), method, when; /* bytes, no lock, preserve */
    aml_field_unit(t, "PRQ0", 8);
    aml_field_unit(t, "PRQ1", 8);
    aml_field_unit(t, "PRQ2", 8);
    aml_field_unit(t, "PRQ3", 8);
    aml_end(t, field);

    method = aml_method(t, "IQST", 1, false);
    when = aml_if(t);
    op(t, AML_AND), aml_integer(t, 0x80), op(t, AML_ARG0), aml_integer(t, 0);
    op(t, AML_RETURN), aml_integer(t, 0x09);
    aml_end(t, when);
    op(t, AML_RETURN), aml_integer(t, 0x0b);
    aml_end(t, method);

    method = aml_method(t, "IQCR", 1, true);
    aml_declare(t, "PRR0");
    aml_interrupts(&r, true, true, none, 1);
    aml_resources(t, &r);
    op(t, AML_CREATE_DWORD), aml_name(t, "PRR0"), aml_integer(t, 5), aml_name(t, "PRRI");
    when = aml_if(t);
    op(t, AML_LESS), op(t, AML_ARG0), aml_integer(t, 0x80);
    op(t, AML_STORE), op(t, AML_ARG0), aml_name(t, "PRRI");
    aml_end(t, when);
    op(t, AML_RETURN), aml_name(t, "PRR0");
    aml_end(t, method);

    for (unsigned i = 0; i < 4; i++) add_link(t, i);
    add_sci_link(t);
}

/* --- DSDT: buses and devices ------------------------------------------------------------------ */

static void add_routing(struct aml *t)
{
    char link[5] = "LNKA";
    aml_declare(t, "_PRT");
    size_t all = aml_package(t, 128);
    for (unsigned slot = 0; slot < 32; slot++)
        for (unsigned pin = 0; pin < 4; pin++) {
            size_t entry = aml_package(t, 4);
            link[3] = slot == 1 && pin == 0 ? 'S' : (char)('A' + ((slot + pin + 3) & 3));
            aml_integer(t, (u64)slot << 16 | 0xffff);
            aml_integer(t, pin);
            aml_name(t, link);
            aml_integer(t, 0);
            aml_end(t, entry);
        }
    aml_end(t, all);
}

static size_t isa_device(struct aml *t, const char *name, const char *id)
{
    size_t device = aml_device(t, name);
    aml_declare_eisa_id(t, "_HID", id);
    aml_declare_integer(t, "_STA", 0x0f);
    aml_declare(t, "_CRS"); /* the resources follow */
    return device;
}

static void add_serial(struct aml *t, unsigned index)
{
    static const u16 port[] = {0x3f8, 0x2f8, 0x3e8, 0x2e8};
    static const u8 irq[] = {4, 3, 4, 3};
    char name[5] = "COM1";
    struct aml r = {0};
    name[3] = (char)('1' + index);
    size_t device = isa_device(t, name, "PNP0501");
    aml_io(&r, port[index], 1, 8);
    aml_irq(&r, irq[index]);
    aml_resources(t, &r);
    aml_declare_integer(t, "_UID", index + 1);
    aml_end(t, device);
}

static void add_keyboard(struct aml *t)
{
    struct aml r = {0};
    size_t device = isa_device(t, "KBD", "PNP0303");
    aml_io(&r, 0x60, 1, 1);
    aml_io(&r, 0x64, 1, 1);
    aml_irq(&r, 1);
    aml_resources(t, &r);
    aml_end(t, device);
    device = isa_device(t, "MOU", "PNP0F13");
    aml_irq(&r, 12);
    aml_resources(t, &r);
    aml_end(t, device);
}

static void add_floppy(struct aml *t)
{
    struct aml r = {0};
    size_t device = isa_device(t, "FDC0", "PNP0700");
    aml_io(&r, 0x3f2, 0, 4);
    aml_io(&r, 0x3f7, 0, 1);
    aml_irq(&r, 6);
    aml_dma(&r, 2);
    aml_resources(t, &r);
    aml_end(t, device);
}

static void add_isa_devices(struct aml *t, const struct acpi_config *c)
{
    struct aml r = {0};
    size_t device = isa_device(t, "RTC", "PNP0B00");
    aml_io(&r, 0x70, 1, 8);
    aml_irq(&r, 8);
    aml_resources(t, &r);
    aml_end(t, device);
    if (c->keyboard) add_keyboard(t);
    if (c->floppy) add_floppy(t);
    if (c->parallel_ports) {
        device = isa_device(t, "LPT1", "PNP0400");
        aml_io(&r, 0x378, 8, 8);
        aml_irq(&r, 7);
        aml_resources(t, &r);
        aml_end(t, device);
    }
    for (unsigned i = 0; i < c->serial_ports && i < 4; i++) add_serial(t, i);
    device = isa_device(t, "MBRD", "PNP0C02"); /* ports nobody else claims */
    aml_io(&r, SMI_PORT, 1, 2);
    aml_io(&r, 0x4d0, 1, 2);
    aml_io(&r, GPE0_PORT, 1, GPE0_LENGTH);
    aml_resources(t, &r);
    aml_end(t, device);
}

static void add_host_windows(struct aml *t, const struct acpi_config *c)
{
    struct aml r = {0};
    aml_declare(t, "_CRS");
    aml_bus_numbers(&r, 0, 0xff);
    aml_io(&r, 0xcf8, 1, 8);
    aml_port_window(&r, 0x0000, 0x0cf7);
    aml_port_window(&r, 0x0d00, 0xffff);
    aml_memory32_window(&r, true, 0x000a0000, 0x000bffff);
    aml_memory32_window(&r, false, c->pci_hole ? c->pci_hole : 0x80000000, 0xfebfffff);
    if (c->pci_hole64_start && c->pci_hole64_end > c->pci_hole64_start)
        aml_memory64_window(&r, true, c->pci_hole64_start, c->pci_hole64_end);
    aml_resources(t, &r);
}

static void add_pci(struct aml *t, const struct acpi_config *c)
{
    size_t pci = aml_device(t, "PCI0"), isa;
    aml_declare_eisa_id(t, "_HID", "PNP0A03");
    aml_declare_integer(t, "_ADR", 0);
    aml_declare_integer(t, "_UID", 0);
    add_host_windows(t, c);
    add_routing(t);
    isa = aml_device(t, "ISA");
    aml_declare_integer(t, "_ADR", 0x00010000);
    aml_operation_region(t, "P40C", 2, 0x60, 4); /* PCI configuration */
    add_isa_devices(t, c);
    aml_end(t, isa);
    aml_end(t, pci);
}

static void add_hpet(struct aml *t)
{
    struct aml r = {0};
    size_t device = aml_device(t, "HPET");
    aml_declare_eisa_id(t, "_HID", "PNP0103");
    aml_declare_integer(t, "_UID", 0);
    aml_declare_integer(t, "_STA", 0x0f);
    aml_declare(t, "_CRS");
    aml_memory32_fixed(&r, false, 0xfed00000, 0x400);
    aml_resources(t, &r);
    aml_end(t, device);
}

/* What PM1_CNT's SLP_TYP is for a state; see piix4pm.c. */
static void add_sleep_state(struct aml *t, const char *name, u8 type)
{
    aml_declare(t, name);
    size_t package = aml_package(t, 4);
    aml_integer(t, type);
    aml_integer(t, type);
    aml_integer(t, 0);
    aml_integer(t, 0);
    aml_end(t, package);
}

static void build_dsdt(struct build *b)
{
    const struct acpi_config *c = b->config;
    struct aml *t = &b->tables;
    b->dsdt = table_begin(b, "DSDT", 1);
    size_t scope = aml_scope(t, "\\_SB");
    add_pci(t, c);
    add_links(t);
    if (c->hpet) add_hpet(t);
    for (unsigned i = 0; i < c->vcpus; i++) {
        char name[8];
        snprintf(name, sizeof name, "C%03X", i & 0xfff);
        aml_processor(t, name, (u8)i);
    }
    aml_end(t, scope);
    scope = aml_scope(t, "\\_GPE");
    aml_declare(t, "_HID");
    aml_string(t, "ACPI0006");
    aml_end(t, scope);
    if (c->sleep_s3) add_sleep_state(t, "_S3", 1);
    if (c->sleep_s4) add_sleep_state(t, "_S4", 2);
    add_sleep_state(t, "_S5", 0);
    table_end(b, b->dsdt);
}

/* --- roots ------------------------------------------------------------------------------------ */

static u32 build_root(struct build *b, const char *signature, u8 entry_size)
{
    u32 start = table_begin(b, signature, 1);
    for (unsigned i = 0; i < b->count; i++) {
        u32 at = (u32)b->tables.length;
        aml_dword(&b->tables, 0);
        if (entry_size == 8) aml_dword(&b->tables, 0);
        put_pointer(b, at, b->table[i], entry_size);
    }
    table_end(b, start);
    return start;
}

static u32 build_rsdp(struct build *b, u8 rsdp[36])
{
    u32 rsdt = build_root(b, "RSDT", 4), length = b->config->acpi1 ? 20 : 36;
    memset(rsdp, 0, 36);
    memcpy(rsdp, "RSD PTR ", 8);
    memcpy(rsdp + 9, "LYREBD", 6);
    st32(rsdp + 16, rsdt);
    loader_pointer(&b->loader, RSDP_FILE, 16, 4);
    if (!b->config->acpi1) {
        rsdp[15] = 2;
        st32(rsdp + 20, length);
        st64(rsdp + 24, build_root(b, "XSDT", 8));
        loader_pointer(&b->loader, RSDP_FILE, 24, 8);
    }
    loader_checksum(&b->loader, RSDP_FILE, 8, 0, 20);
    if (!b->config->acpi1) loader_checksum(&b->loader, RSDP_FILE, 32, 0, length);
    return length;
}

void acpi_build(struct device *fw_cfg, const struct acpi_config *config)
{
    struct build b = {.config = config};
    u8 rsdp[36];
    loader_allocate(&b.loader, RSDP_FILE, 16, ZONE_FSEG);
    loader_allocate(&b.loader, TABLES_FILE, TABLES_ALIGN, ZONE_HIGH);
    build_facs(&b);
    build_dsdt(&b);
    build_fadt(&b);
    build_madt(&b);
    build_hpet(&b);
    build_waet(&b);
    u32 rsdp_length = build_rsdp(&b, rsdp);
    fw_cfg_add_file(fw_cfg, TABLES_FILE, b.tables.bytes, (u32)b.tables.length);
    fw_cfg_add_file(fw_cfg, RSDP_FILE, rsdp, rsdp_length);
    fw_cfg_add_file(fw_cfg, LOADER_FILE, b.loader.bytes, (u32)b.loader.length);
    aml_free(&b.tables);
    aml_free(&b.loader);
}
