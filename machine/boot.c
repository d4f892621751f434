/*
 * -kernel: reads a kernel, decides where everything goes and leaves a plan for roms/kernelboot.S.
 *
 * Specifications: Linux Documentation/x86/boot.rst (16-bit entry of every bzImage, 32- or 64-bit
 * kernel), Multiboot 0.6.96, Xen's PVH start_info. Entry without firmware is not offered: the
 * firmware always runs first, so that ACPI tables, PCI and the memory map are as a kernel expects
 * them.
 * The classic fw_cfg items are filled in as well: OVMF boots a kernel from those.
 */
#include "machine/pc.h"

#include "devices/fw_cfg.h"
#include "machine/firmware.h"

#include <elf.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define PLAN_ITEM 0x8010
#define PLAN_SIZE 2048     /* kernelboot.S reads that much */
#define DATA_ITEM 0x8020 /* and up: what to copy */
#define PLAN_MAGIC 0x4552594cu
#define MAX_LOADS 128
#define MOST_KERNEL MIB(1024)

#define SETUP_SEGMENT 0x1000u /* linear 10000h */
#define SETUP_SP 0xfff0u
#define CMDLINE_ADDRESS 0x20000u
#define TABLES_RESERVE MIB(1) /* what the firmware may put at the top of low RAM */

struct plan {
    u32 kind, entry, eax, ebx, sp, map, count, stride;
    struct { u32 item, length, destination; } load[MAX_LOADS];
    u32 loads;
};

/* A place in the plan, whose item the caller fills. */
static bool plan_load(struct pc *pc, struct plan *plan, u64 length, u64 destination,
                      struct error *error)
{
    if (plan->loads == MAX_LOADS) return error_set(error, "kernel has too many segments");
    u64 end = destination + length, limit = pc->ram_below_4g;
    if (end < destination || end > limit || length > UINT32_MAX)
        return error_set(error,
                         "%" PRIu64 " KiB at %" PRIx64 "h do not fit into %" PRIu64 " MiB of RAM",
                         length >> 10, destination, limit >> 20);
    plan->load[plan->loads].item = DATA_ITEM + plan->loads;
    plan->load[plan->loads].length = (u32)length;
    plan->load[plan->loads++].destination = (u32)destination;
    return true;
}

static bool add_load(struct pc *pc, struct plan *plan, const void *bytes, u64 length,
                     u64 destination, struct error *error)
{
    if (!length) return true;
    if (!plan_load(pc, plan, length, destination, error)) return false;
    fw_cfg_add_bytes(pc->fw_cfg, (u16)(DATA_ITEM + plan->loads - 1), bytes, (u32)length);
    return true;
}

/* The bytes of item KEY, which are not stored twice. */
static bool add_load_of(struct pc *pc, struct plan *plan, u16 key, u64 length, u64 destination,
                        struct error *error)
{
    if (!length) return true;
    if (!plan_load(pc, plan, length, destination, error)) return false;
    fw_cfg_add_alias(pc->fw_cfg, (u16)(DATA_ITEM + plan->loads - 1), key);
    return true;
}

static void give_plan(struct pc *pc, const struct plan *plan)
{
    u8 bytes[PLAN_SIZE] = {0};
    _Static_assert(PLAN_SIZE >= 40 + 12 * MAX_LOADS, "a plan's table");
    const u32 head[] = {PLAN_MAGIC, plan->kind, plan->entry, plan->eax, plan->ebx, plan->sp,
                        plan->map, plan->count, plan->stride, plan->loads};
    for (unsigned i = 0; i < ARRAY_SIZE(head); i++) st32(bytes + i * 4, head[i]);
    for (u32 i = 0; i < plan->loads; i++) {
        st32(bytes + 40 + i * 12, plan->load[i].item);
        st32(bytes + 44 + i * 12, plan->load[i].length);
        st32(bytes + 48 + i * 12, plan->load[i].destination);
    }
    fw_cfg_add_bytes(pc->fw_cfg, PLAN_ITEM, bytes, sizeof bytes);
}

/* --- Linux --- */

static u64 initrd_place(struct pc *pc, u64 most, u64 size)
{
    u64 top = pc->ram_below_4g > TABLES_RESERVE ? pc->ram_below_4g - TABLES_RESERVE : 0;
    if (top > most + 1) top = most + 1;
    return size < top ? (top - size) & ~(u64)0xfff : 0;
}

/* These are large: from here on they are the firmware configuration's. */
static void tell_ovmf(struct pc *pc, u8 *setup, u32 setup_size, u8 *kernel, u32 kernel_size,
                      u8 *initrd, u32 initrd_size, u64 initrd_at)
{
    const char *cmdline = pc->machine->options->append ? pc->machine->options->append : "";
    struct device *f = pc->fw_cfg;
    fw_cfg_add_u32(f, FW_CFG_SETUP_SIZE, setup_size);
    fw_cfg_lend_bytes(f, FW_CFG_SETUP_DATA, setup, setup_size);
    fw_cfg_add_u32(f, FW_CFG_SETUP_ADDR, SETUP_SEGMENT << 4);
    fw_cfg_add_u32(f, FW_CFG_KERNEL_SIZE, kernel_size);
    fw_cfg_lend_bytes(f, FW_CFG_KERNEL_DATA, kernel, kernel_size);
    fw_cfg_add_u32(f, FW_CFG_KERNEL_ADDR, 0x100000);
    fw_cfg_add_u32(f, FW_CFG_CMDLINE_SIZE, (u32)strlen(cmdline) + 1);
    fw_cfg_add_string(f, FW_CFG_CMDLINE_DATA, cmdline);
    fw_cfg_add_u32(f, FW_CFG_CMDLINE_ADDR, CMDLINE_ADDRESS);
    fw_cfg_add_u32(f, FW_CFG_INITRD_SIZE, initrd_size);
    fw_cfg_add_u32(f, FW_CFG_INITRD_ADDR, (u32)initrd_at);
    if (initrd_size) fw_cfg_lend_bytes(f, FW_CFG_INITRD_DATA, initrd, initrd_size);
}

/* The protocol leaves vga= to the loader: a number as C writes it, or a name. The last one
 * counts. */
static u16 video_mode(const char *cmdline, u16 mode)
{
    for (const char *p = cmdline; (p = strstr(p, "vga=")); p += 4) {
        if (p != cmdline && p[-1] != ' ') continue;
        char *end;
        unsigned long number = strtoul(p + 4, &end, 0);
        if (!strncmp(p + 4, "normal", 6)) mode = 0xffff;
        else if (!strncmp(p + 4, "ext", 3)) mode = 0xfffe;
        else if (!strncmp(p + 4, "ask", 3)) mode = 0xfffd;
        else if (end != p + 4 && number <= 0xffff) mode = (u16)number;
    }
    return mode;
}

/* IMAGE is the machine's from here on. */
static bool boot_linux(struct pc *pc, u8 *image, u64 size, struct error *error)
{
    struct options *o = pc->machine->options;
    const char *cmdline = o->append ? o->append : "";
    struct plan plan = {.kind = 0, .entry = SETUP_SEGMENT, .sp = SETUP_SP};
    u32 protocol = ld16(image + 0x206), setup_size = (image[0x1f1] ? image[0x1f1] : 4) * 512u + 512;
    if (protocol < 0x202 || !(image[0x211] & 1))
        return error_set(error, "kernel %s: boot protocol %x.%02x is too old "
                         "(2.02 with a high kernel is needed)",
                         o->kernel, protocol >> 8, protocol & 0xff);
    if (setup_size >= size)
        return error_set(error, "kernel %s: file is truncated (%" PRIu64 " bytes)", o->kernel,
                         size);
    u64 declared = (u64)ld32(image + 0x1f4) * 16;
    if (declared > size - setup_size + 16)
        return error_set(error, "kernel %s: file is truncated (%" PRIu64 " of %" PRIu64 " bytes)",
                         o->kernel, size, declared + setup_size);
    u32 most_cmdline = protocol >= 0x206 ? ld32(image + 0x238) : 255;
    if (strlen(cmdline) > most_cmdline)
        return error_set(error, "-append: %zu bytes, this kernel takes %u", strlen(cmdline),
                         most_cmdline);

    u8 *initrd = NULL;
    u64 initrd_size = 0, initrd_at = 0;
    if (o->initrd) {
        initrd = file_load(o->initrd, pc->ram_below_4g, &initrd_size, "initrd", error);
        if (!initrd) return false;
        initrd_at = initrd_place(pc, protocol >= 0x203 ? ld32(image + 0x22c) : 0x37ffffff,
                                 initrd_size);
        if (!initrd_at || initrd_at < 0x100000 + size)
            return error_set(error,
                             "initrd %s: %" PRIu64 " MiB and the kernel do not fit into %" PRIu64
                             " MiB of RAM",
                             o->initrd, initrd_size >> 20, pc->ram_below_4g >> 20);
    }
    st16(image + 0x1fa, video_mode(cmdline, ld16(image + 0x1fa)));
    image[0x210] = 0xff;                 /* loader: none of the assigned ones */
    image[0x211] |= 0x80;                /* the heap may be used */
    st16(image + 0x224, 0xe000 - 0x200); /* its end */
    st32(image + 0x228, CMDLINE_ADDRESS);
    st32(image + 0x218, (u32)initrd_at);
    st32(image + 0x21c, (u32)initrd_size);
    tell_ovmf(pc, image, setup_size, image + setup_size, (u32)(size - setup_size), initrd,
              (u32)initrd_size, initrd_at);
    bool ok = add_load_of(pc, &plan, FW_CFG_SETUP_DATA, setup_size, SETUP_SEGMENT << 4, error) &&
              add_load_of(pc, &plan, FW_CFG_KERNEL_DATA, size - setup_size, 0x100000, error) &&
              add_load(pc, &plan, cmdline, strlen(cmdline) + 1, CMDLINE_ADDRESS, error) &&
              add_load_of(pc, &plan, FW_CFG_INITRD_DATA, initrd_size, initrd_at, error);
    if (ok) give_plan(pc, &plan);
    return ok || error_prefix(error, "kernel %s", o->kernel);
}

/* --- ELF: multiboot 1 and PVH --- */

struct elf_info {
    u64 entry, end; /* end of what is loaded */
    u32 pvh_entry;  /* 0: none */
};

static bool in_file(u64 offset, u64 length, u64 size)
{
    return offset <= size && length <= size - offset;
}

static void find_pvh_note(const u8 *notes, u64 length, struct elf_info *info)
{
    for (u64 at = 0; at + 12 <= length;) {
        u64 name = ld32(notes + at), data = ld32(notes + at + 4), type = ld32(notes + at + 8);
        u64 data_at = at + 12 + ((name + 3) & ~3ull), next = data_at + ((data + 3) & ~3ull);
        if (next > length) return;
        if (type == 18 && name == 4 && !memcmp(notes + at + 12, "Xen", 4) && data >= 4)
            info->pvh_entry = ld32(notes + data_at);
        at = next;
    }
}

static bool load_segment(struct pc *pc, struct plan *plan, const u8 *image, u64 size, u64 offset,
                         u64 file_size,
                         u64 memory_size, u64 physical, struct elf_info *info, struct error *error)
{
    if (!in_file(offset, file_size, size) || file_size > memory_size)
        return error_set(error, "file is truncated: a segment lies beyond its end");
    if (physical + memory_size > info->end) info->end = physical + memory_size;
    if (info->end > pc->ram_below_4g)
        return error_set(error, "needs RAM up to %" PRIx64 "h", info->end);
    return add_load(pc, plan, image + offset, file_size, physical, error);
}

static bool load_elf(struct pc *pc, struct plan *plan, const u8 *image, u64 size,
                     struct elf_info *info, struct error *error)
{
    bool is64 = image[EI_CLASS] == ELFCLASS64;
    if (size < 64 || image[EI_DATA] != ELFDATA2LSB)
        return error_set(error, "not a little-endian ELF file");
    u64 table = is64 ? ld64(image + 32) : ld32(image + 28);
    u32 entry_size = ld16(image + (is64 ? 54 : 42)), count = ld16(image + (is64 ? 56 : 44));
    info->entry = is64 ? ld64(image + 24) : ld32(image + 24);
    if (entry_size < (is64 ? 56u : 32u) || !in_file(table, (u64)entry_size * count, size))
        return error_set(error, "file is truncated: program headers lie beyond its end");
    for (u32 i = 0; i < count; i++) {
        const u8 *p = image + table + (u64)i * entry_size;
        u64 offset = is64 ? ld64(p + 8) : ld32(p + 4), virtual = is64 ? ld64(p + 16) : ld32(p + 8);
        u64 physical = is64 ? ld64(p + 24) : ld32(p + 12),
            file_size = is64 ? ld64(p + 32) : ld32(p + 16);
        u64 memory_size = is64 ? ld64(p + 40) : ld32(p + 20);
        if (ld32(p) == PT_NOTE && in_file(offset, file_size, size))
            find_pvh_note(image + offset, file_size, info);
        if (ld32(p) != PT_LOAD) continue;
        if (!load_segment(pc, plan, image, size, offset, file_size, memory_size, physical, info,
                          error))
            return false;
        /* The entry is a virtual address; multiboot enters at the physical one. */
        if (info->entry >= virtual && info->entry < virtual + memory_size && virtual != physical &&
            !info->pvh_entry)
            info->entry += physical - virtual;
    }
    return true;
}

static u8 *multiboot_header(u8 *image, u64 size)
{
    for (u64 at = 0; at + 48 <= size && at < 8192; at += 4)
        if (ld32(image + at) == 0x1badb002 &&
            (u32)(ld32(image + at) + ld32(image + at + 4) + ld32(image + at + 8)) == 0)
            return image + at;
    return NULL;
}

#define TABLES 0x90000u /* command line, module list, information, memory map: below the EBDA */
#define MAP_ENTRIES 64

/* Fills in the multiboot information; MODULES ("file args,file args") go behind the kernel. */
static bool multiboot_tables(struct pc *pc, struct plan *plan, u64 end, struct error *error)
{
    struct options *o = pc->machine->options;
    u32 modules = 0, strings = 0x400, at_modules = 0x100, map = 0x4000;
    char text[8192];
    if (strlen(o->kernel) + (o->append ? strlen(o->append) : 0) + 2 > sizeof text)
        return error_set(error, "-append: with the kernel's name at most %zu bytes fit",
                         sizeof text - 2);
    u8 *t = calloc(1, 0x8000);
    if (!t) abort();
    snprintf(text, sizeof text, "%s%s%s", o->kernel, o->append ? " " : "",
             o->append ? o->append : "");
    memcpy(t + strings, text, strlen(text) + 1);
    st32(t + 16, TABLES + strings);
    strings += (u32)strlen(text) + 1;
    char *list = o->initrd ? strdup(o->initrd) : NULL, *save = NULL;
    bool ok = true;
    for (char *one = list ? strtok_r(list, ",", &save) : NULL; ok && one;
         one = strtok_r(NULL, ",", &save)) {
        char *args = strchr(one, ' ');
        u64 length;
        if (args) *args = 0;
        u8 *bytes = file_load(one, pc->ram_below_4g, &length, "module", error);
        if (args) *args = ' ';
        end = (end + 0xfff) & ~(u64)0xfff;
        ok = bytes != NULL;
        if (ok && (modules == 32 || strings + strlen(one) >= map))
            ok = error_set(error, "-initrd: more modules than 32, or names too long");
        ok = ok && add_load(pc, plan, bytes, length, end, error);
        free(bytes);
        if (!ok) break;
        u8 *m = t + at_modules + modules++ * 16;
        st32(m, (u32)end);
        st32(m + 4, (u32)(end + length));
        st32(m + 8, TABLES + strings);
        memcpy(t + strings, one, strlen(one) + 1);
        strings += (u32)strlen(one) + 1;
        end += length;
    }
    free(list);
    for (u32 i = 0; i < MAP_ENTRIES; i++) st32(t + map + i * 24, 20);
    /* memory, command line, modules, map, loader name */
    st32(t, 1 | 4 | (modules ? 8 : 0) | 64 | 512);
    st32(t + 4, 639);
    st32(t + 8, (u32)((pc->ram_below_4g - MIB(1)) >> 10));
    st32(t + 20, modules);
    st32(t + 24, TABLES + at_modules);
    st32(t + 48, TABLES + map);
    memcpy(t + 0x80, "lyrebird", 9);
    st32(t + 64, TABLES + 0x80);
    plan->map = TABLES + map + 4;
    plan->count = TABLES + 44;
    plan->stride = 24;
    plan->eax = 0x2badb002;
    plan->ebx = TABLES;
    ok = ok && add_load(pc, plan, t, 0x8000, TABLES, error);
    free(t);
    return ok;
}

static bool boot_multiboot(struct pc *pc, u8 *image, u64 size, u8 *header, struct error *error)
{
    struct plan plan = {.kind = 1};
    struct elf_info info = {0};
    u32 flags = ld32(header + 4);
    if (flags & 4)
        return error_set(error, "multiboot kernels that ask for a video mode are not supported");
    if (flags & 0x10000) {
        u64 offset = (u64)(header - image);
        u32 header_at = ld32(header + 12), load = ld32(header + 16), load_end = ld32(header + 20),
            bss_end = ld32(header + 24);
        u64 from = offset - (header_at - load), length = load_end ? load_end - load : size - from;
        if (header_at < load || offset < header_at - load || !in_file(from, length, size))
            return error_set(error, "multiboot header's addresses lie outside the file");
        info.entry = ld32(header + 28);
        info.end = bss_end ? bss_end : (u64)load + length;
        if (!add_load(pc, &plan, image + from, length, load, error)) return false;
    } else if (size < 64 || memcmp(image, ELFMAG, 4)) {
        return error_set(error, "multiboot kernel is neither ELF nor has load addresses");
    } else if (!load_elf(pc, &plan, image, size, &info, error)) {
        return false;
    }
    plan.entry = (u32)info.entry;
    if (!multiboot_tables(pc, &plan, info.end, error)) return false;
    give_plan(pc, &plan);
    return true;
}

static bool boot_pvh(struct pc *pc, u8 *image, u64 size, struct error *error)
{
    struct options *o = pc->machine->options;
    struct plan plan = {.kind = 1};
    struct elf_info info = {0};
    if (!load_elf(pc, &plan, image, size, &info, error)) return false;
    if (!info.pvh_entry)
        return error_set(error, "ELF file has neither a multiboot header nor a PVH entry note");
    const char *cmdline = o->append ? o->append : "";
    u8 t[0x2000] = {0};
    if (strlen(cmdline) >= 0x1000) return error_set(error, "-append: too long");
    memcpy(t + 0x800, cmdline, strlen(cmdline) + 1);
    st32(t, 0x336ec578);       /* start_info magic, version 1 */
    st32(t + 4, 1);
    st64(t + 24, TABLES + 0x800);
    st64(t + 40, TABLES + 0x1800); /* memory map */
    if (o->initrd) {
        u64 length, at;
        u8 *bytes = file_load(o->initrd, pc->ram_below_4g, &length, "initrd", error);
        if (!bytes) return false;
        at = initrd_place(pc, UINT32_MAX, length);
        bool ok = at >= info.end && add_load(pc, &plan, bytes, length, at, error);
        free(bytes);
        if (!ok) return error_set(error, "initrd %s: does not fit into RAM", o->initrd);
        st32(t + 12, 1);
        st64(t + 16, TABLES + 0x400);
        st64(t + 0x400, at);
        st64(t + 0x408, length);
    }
    plan.map = TABLES + 0x1800;
    plan.count = TABLES + 48;
    plan.stride = 1;
    plan.ebx = TABLES;
    plan.entry = info.pvh_entry;
    if (!add_load(pc, &plan, t, sizeof t, TABLES, error)) return false;
    give_plan(pc, &plan);
    return true;
}

bool boot_kernel(struct pc *pc, struct error *error)
{
    const char *path = pc->machine->options->kernel;
    u64 size;
    u8 *image = file_load(path, MOST_KERNEL, &size, "kernel", error);
    if (!image) return false;
    u8 *header = multiboot_header(image, size);
    bool ok;
    if (size > 0x250 && !memcmp(image + 0x202, "HdrS", 4) && ld16(image + 0x1fe) == 0xaa55)
        return boot_linux(pc, image, size, error) && boot_option_rom(pc, "kernelboot.bin", error);
    if (header)
        ok = boot_multiboot(pc, image, size, header, error) ||
             error_prefix(error, "kernel %s", path);
    else if (size >= 64 && !memcmp(image, ELFMAG, 4))
        ok = boot_pvh(pc, image, size, error) || error_prefix(error, "kernel %s", path);
    else
        ok = error_set(error, "kernel %s: neither a Linux bzImage nor a multiboot or PVH kernel",
                       path);
    free(image);
    return ok && boot_option_rom(pc, "kernelboot.bin", error);
}

bool boot_option_rom(struct pc *pc, const char *name, struct error *error)
{
    char path[4096], file[FW_CFG_NAME_SIZE];
    u64 size;
    if (!firmware_find(pc->machine->options, name, path, sizeof path, error)) return false;
    u8 *bytes = file_load(path, KIB(128), &size, "option ROM", error);
    if (!bytes) return false;
    const char *base = strrchr(name, '/') ? strrchr(name, '/') + 1 : name;
    snprintf(file, sizeof file, "genroms/%s", base);
    bool ok = fw_cfg_add_file(pc->fw_cfg, file, bytes, (u32)size);
    free(bytes);
    return ok || error_set(error, "option ROM %s: too many firmware files", path);
}
