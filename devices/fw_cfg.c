/*
 * QEMU-compatible firmware configuration device at ports 510h-51Bh.
 * Specification: QEMU's docs/specs/fw_cfg: selector, data port, file directory, DMA interface.
 *
 * Writes through the data port are ignored, as they have been since DMA exists; files declared
 * writable take DMA writes. Contents other than the writable files' are not saved: the board adds
 * them again when it is made.
 */
#include "devices/fw_cfg.h"

#include <stdlib.h>

enum {
    DMA_ERROR = 0x01,
    DMA_READ = 0x02,
    DMA_SKIP = 0x04,
    DMA_SELECT = 0x08,
    DMA_WRITE = 0x10,
    ID_TRADITIONAL = 1,
    ID_DMA = 2,
    KEY_WRITE_CHANNEL = 0x4000, /* obsolete, ignored */
    KEY_LOCAL = 0x8000,
};

#define FILES 96
#define LOCAL_ITEMS 256 /* 8010h and up: the kernel loader (machine/boot.c) */
#define SELECT_NOTHING 0xffff
#define WRITABLE_BYTES 65536
#define DIRECTORY_ENTRY 64
#define CHUNK 4096
#define DMA_SIGNATURE 0x51454d5520434647ull /* "QEMU CFG" */

#define FW_CFG_STATE(SCALAR, ARRAY, GROUP, BLOB)                                                   \
    SCALAR(u16, selected)                                                                          \
    SCALAR(u32, position)                                                                          \
    SCALAR(u32, dma_high) /* first half of the DMA address, until the second is written */         \
    BLOB(writable, writable_size)

struct fw_cfg_item {
    u8 *bytes;
    u32 length;
    bool is_writable; /* bytes are in the device's `writable`, not allocated */
    bool is_alias;    /* bytes are another item's, or the board's */
    void (*written)(void *opaque, u32 offset, u32 length);
    void *opaque;
};

struct fw_cfg_file {
    char name[FW_CFG_NAME_SIZE];
    struct fw_cfg_item item;
};

struct fw_cfg {
    struct device dev;
    STATE_MEMBERS(FW_CFG_STATE)
    u32 iobase; /* property */
    struct region control_region, dma_region;
    /* not saved: the board adds the items again */
    struct fw_cfg_item item[FW_CFG_FILE_FIRST];
    struct fw_cfg_item local[LOCAL_ITEMS];
    struct fw_cfg_file file[FILES]; /* sorted by name; file i has key FW_CFG_FILE_FIRST + i */
    unsigned files;
    u32 writable_used;
};

#define STATE_OWNER struct fw_cfg
STATE_TABLE(fw_cfg, FW_CFG_STATE)
#undef STATE_OWNER

static struct fw_cfg *fw_cfg_of(struct device *device)
{
    return container_of(device, struct fw_cfg, dev);
}

static struct fw_cfg_item *fw_cfg_item(struct fw_cfg *s, u16 key)
{
    if (key == SELECT_NOTHING) return NULL;
    unsigned index = key & ~(KEY_WRITE_CHANNEL | KEY_LOCAL);
    if (key & KEY_LOCAL) return index < LOCAL_ITEMS ? &s->local[index] : NULL;
    if (index < FW_CFG_FILE_FIRST) return &s->item[index];
    index -= FW_CFG_FILE_FIRST;
    return index < s->files ? &s->file[index].item : NULL;
}

/* --- what the board adds --- */

static void fw_cfg_release_item(struct fw_cfg_item *item)
{
    if (!item->is_writable && !item->is_alias) free(item->bytes);
}

static void fw_cfg_set(struct fw_cfg_item *item, const void *data, u32 length)
{
    u8 *bytes = malloc(length ? length : 1);
    if (!bytes) abort();
    if (length) memcpy(bytes, data, length);
    fw_cfg_release_item(item);
    *item = (struct fw_cfg_item){.bytes = bytes, .length = length};
}

void fw_cfg_add_bytes(struct device *fw_cfg, u16 key, const void *data, u32 length)
{
    struct fw_cfg_item *item = fw_cfg_item(fw_cfg_of(fw_cfg), key);
    if (!item) abort(); /* the board's mistake */
    fw_cfg_set(item, data, length);
}

void fw_cfg_lend_bytes(struct device *fw_cfg, u16 key, u8 *data, u32 length)
{
    struct fw_cfg_item *item = fw_cfg_item(fw_cfg_of(fw_cfg), key);
    if (!item) abort(); /* the board's mistake */
    fw_cfg_release_item(item);
    *item = (struct fw_cfg_item){.bytes = data, .length = length, .is_alias = true};
}

void fw_cfg_add_alias(struct device *fw_cfg, u16 key, u16 of)
{
    struct fw_cfg_item *item = fw_cfg_item(fw_cfg_of(fw_cfg), key);
    const struct fw_cfg_item *other = fw_cfg_item(fw_cfg_of(fw_cfg), of);
    if (!item || !other || item == other) abort(); /* the board's mistake */
    fw_cfg_release_item(item);
    *item = (struct fw_cfg_item){.bytes = other->bytes, .length = other->length, .is_alias = true};
}

void fw_cfg_add_string(struct device *fw_cfg, u16 key, const char *text)
{
    fw_cfg_add_bytes(fw_cfg, key, text, strlen(text) + 1);
}

void fw_cfg_add_u16(struct device *fw_cfg, u16 key, u16 value)
{
    value = le16(value);
    fw_cfg_add_bytes(fw_cfg, key, &value, sizeof value);
}

void fw_cfg_add_u32(struct device *fw_cfg, u16 key, u32 value)
{
    value = le32(value);
    fw_cfg_add_bytes(fw_cfg, key, &value, sizeof value);
}

void fw_cfg_add_u64(struct device *fw_cfg, u16 key, u64 value)
{
    value = le64(value);
    fw_cfg_add_bytes(fw_cfg, key, &value, sizeof value);
}

/* The directory: a big-endian count, then {u32 size, u16 key, u16 0, char name[56]} a file. */
static void fw_cfg_list_files(struct fw_cfg *s)
{
    u8 directory[4 + FILES * DIRECTORY_ENTRY];
    u32 count = be32(s->files);
    memset(directory, 0, sizeof directory);
    memcpy(directory, &count, 4);
    for (unsigned i = 0; i < s->files; i++) {
        u8 *entry = directory + 4 + i * DIRECTORY_ENTRY;
        u32 length = be32(s->file[i].item.length);
        u16 key = be16(FW_CFG_FILE_FIRST + i);
        memcpy(entry, &length, 4);
        memcpy(entry + 4, &key, 2);
        memcpy(entry + 8, s->file[i].name, FW_CFG_NAME_SIZE);
    }
    fw_cfg_set(&s->item[FW_CFG_FILE_DIR], directory, 4 + s->files * DIRECTORY_ENTRY);
}

/* The file's place, made if there is none of that name; NULL when there can't be. */
static struct fw_cfg_file *fw_cfg_place(struct fw_cfg *s, const char *name)
{
    unsigned at = 0;
    while (at < s->files && strcmp(s->file[at].name, name) < 0) at++;
    if (at < s->files && !strcmp(s->file[at].name, name)) return &s->file[at];
    if (strlen(name) >= FW_CFG_NAME_SIZE || s->files == FILES) return NULL;
    memmove(&s->file[at + 1], &s->file[at], (s->files - at) * sizeof s->file[0]);
    memset(&s->file[at], 0, sizeof s->file[0]);
    strcpy(s->file[at].name, name);
    s->files++;
    return &s->file[at];
}

bool fw_cfg_add_file(struct device *fw_cfg, const char *name, const void *data, u32 length)
{
    struct fw_cfg *s = fw_cfg_of(fw_cfg);
    struct fw_cfg_file *file = fw_cfg_place(s, name);
    if (!file) return false;
    fw_cfg_set(&file->item, data, length);
    fw_cfg_list_files(s);
    return true;
}

bool fw_cfg_add_writable_file(struct device *fw_cfg, const char *name, const void *data, u32 length,
                              void (*written)(void *opaque, u32 offset, u32 length), void *opaque)
{
    struct fw_cfg *s = fw_cfg_of(fw_cfg);
    if (length > WRITABLE_BYTES - s->writable_used) return false;
    struct fw_cfg_file *file = fw_cfg_place(s, name);
    if (!file) return false;
    u8 *bytes = file->item.bytes;
    if (!file->item.is_writable || file->item.length < length) {
        if (!file->item.is_writable) free(bytes);
        bytes = s->writable + s->writable_used;
        s->writable_used += length;
    }
    file->item = (struct fw_cfg_item){.bytes = bytes,
                                      .length = length,
                                      .is_writable = true,
                                      .written = written,
                                      .opaque = opaque};
    if (length) memcpy(file->item.bytes, data, length);
    fw_cfg_list_files(s);
    return true;
}

const void *fw_cfg_file(struct device *fw_cfg, const char *name, u32 *length)
{
    struct fw_cfg *s = fw_cfg_of(fw_cfg);
    for (unsigned i = 0; i < s->files; i++) {
        if (strcmp(s->file[i].name, name)) continue;
        *length = s->file[i].item.length;
        return s->file[i].item.bytes;
    }
    return NULL;
}

/* --- what the guest does --- */

static void fw_cfg_select(struct fw_cfg *s, u16 key)
{
    s->selected = key;
    s->position = 0;
    const struct fw_cfg_item *item = fw_cfg_item(s, key);
    if (!item || !item->bytes) {
        log_to(s->dev.log, LOG_DEVICE, "fw_cfg: no item %04xh", key);
    }
}

/* Bytes left of the selected item, at most WANTED. */
static u32 fw_cfg_left(struct fw_cfg *s, u32 wanted, struct fw_cfg_item **item)
{
    *item = fw_cfg_item(s, s->selected);
    if (!*item || s->position >= (*item)->length) return 0;
    u32 left = (*item)->length - s->position;
    return wanted < left ? wanted : left;
}

static u8 fw_cfg_read_byte(struct fw_cfg *s)
{
    struct fw_cfg_item *item;
    return fw_cfg_left(s, 1, &item) ? item->bytes[s->position++] : 0;
}

/* To memory; past the item's end there are zeros. */
static bool fw_cfg_dma_read(struct fw_cfg *s, u64 address, u32 length)
{
    static const u8 zeros[CHUNK];
    struct fw_cfg_item *item;
    u32 real = fw_cfg_left(s, length, &item);
    if (real && !dma_write(s->dev.bus, address, item->bytes + s->position, real)) return false;
    s->position += real;
    for (u64 done = real; done < length;) {
        u64 chunk = length - done < CHUNK ? length - done : CHUNK;
        if (!dma_write(s->dev.bus, address + done, zeros, chunk)) return false;
        done += chunk;
    }
    return true;
}

static bool fw_cfg_dma_write(struct fw_cfg *s, u64 address, u32 length)
{
    struct fw_cfg_item *item;
    u32 at = s->position, real = fw_cfg_left(s, length, &item);
    if (!item || !item->is_writable || real != length) {
        guest_error(&s->dev, "fw_cfg: write of %u bytes at %u of item %04xh refused", length, at,
                    s->selected);
        return false;
    }
    if (!dma_read(s->dev.bus, address, item->bytes + at, real)) return false;
    s->position += real;
    if (item->written) item->written(item->opaque, at, real);
    return true;
}

static bool fw_cfg_dma_command(struct fw_cfg *s, u32 control, u32 length, u64 address)
{
    if (control & DMA_SELECT) fw_cfg_select(s, control >> 16);
    if (!length) return true;
    if ((control & (DMA_READ | DMA_WRITE)) && address + length < address) return false;
    if (control & DMA_READ) return fw_cfg_dma_read(s, address, length);
    if (control & DMA_WRITE) return fw_cfg_dma_write(s, address, length);
    if (control & DMA_SKIP) {
        struct fw_cfg_item *item;
        s->position += fw_cfg_left(s, length, &item);
    }
    return true;
}

/* At ADDRESS: big-endian {u32 control, u32 length, u64 address}; control becomes the result. */
static void fw_cfg_dma(struct fw_cfg *s, u64 at)
{
    u8 command[16];
    u32 control, length, result;
    u64 address;
    if (!dma_read(s->dev.bus, at, command, sizeof command)) {
        guest_error(&s->dev, "fw_cfg: DMA command at %llxh isn't in RAM", (unsigned long long)at);
        result = be32(DMA_ERROR);
    } else {
        memcpy(&control, command, 4);
        memcpy(&length, command + 4, 4);
        memcpy(&address, command + 8, 8);
        bool good = fw_cfg_dma_command(s, be32(control), be32(length), be64(address));
        result = good ? 0 : be32(DMA_ERROR);
    }
    dma_write(s->dev.bus, at, &result, sizeof result);
}

static u64 fw_cfg_control_read(struct device *device, u64 offset, unsigned size)
{
    struct fw_cfg *s = fw_cfg_of(device);
    if (offset == 1 && size == 1) return fw_cfg_read_byte(s);
    return size_mask(size); /* the selector can't be read */
}

static void fw_cfg_control_write(struct device *device, u64 offset, u64 value, unsigned size)
{
    if (offset == 0 && size == 2) fw_cfg_select(fw_cfg_of(device), value);
}

static u64 fw_cfg_dma_port_read(struct device *device, u64 offset, unsigned size)
{
    (void)device, (void)size;
    /* The register is big-endian, the bus little-endian, on every host. */
    return __builtin_bswap32((u32)(offset ? DMA_SIGNATURE : DMA_SIGNATURE >> 32));
}

static void fw_cfg_dma_port_write(struct device *device, u64 offset, u64 value, unsigned size)
{
    struct fw_cfg *s = fw_cfg_of(device);
    (void)size;
    u32 half = __builtin_bswap32(value);
    if (!offset) {
        s->dma_high = half;
        return;
    }
    u64 at = (u64)s->dma_high << 32 | half;
    s->dma_high = 0;
    fw_cfg_dma(s, at);
}

static const struct region_ops fw_cfg_control_ops = {"fw_cfg", fw_cfg_control_read,
                                                     fw_cfg_control_write, 1, 2};
static const struct region_ops fw_cfg_dma_ops = {"fw_cfg-dma", fw_cfg_dma_port_read,
                                                 fw_cfg_dma_port_write, 4, 4};

static bool fw_cfg_init(struct device *device, struct error *error)
{
    struct fw_cfg *s = fw_cfg_of(device);
    const struct machine_services *services = device->services;
    (void)error;
    s->writable_size = WRITABLE_BYTES;
    s->writable = calloc(1, WRITABLE_BYTES);
    if (!s->writable) abort();
    fw_cfg_add_bytes(device, FW_CFG_SIGNATURE, "QEMU", 4);
    fw_cfg_add_u32(device, FW_CFG_ID, ID_TRADITIONAL | ID_DMA);
    fw_cfg_add_u16(device, FW_CFG_BOOT_MENU, 0);
    fw_cfg_add_u16(device, FW_CFG_NOGRAPHIC, 0);
    if (services) {
        fw_cfg_add_u64(device, FW_CFG_RAM_SIZE, services->ram_below_4g + services->ram_above_4g);
        fw_cfg_add_u16(device, FW_CFG_NB_CPUS, services->vcpus);
        fw_cfg_add_u16(device, FW_CFG_MAX_CPUS, services->vcpus);
    }
    fw_cfg_list_files(s);
    region_init(&s->control_region, device, &fw_cfg_control_ops, 2);
    region_init(&s->dma_region, device, &fw_cfg_dma_ops, 8);
    bus_map(device->bus, BUS_PORT, &s->control_region, s->iobase, LAYER_DEVICE);
    bus_map(device->bus, BUS_PORT, &s->dma_region, s->iobase + 4, LAYER_DEVICE);
    return true;
}

static void fw_cfg_reset(struct device *device)
{
    struct fw_cfg *s = fw_cfg_of(device);
    s->selected = FW_CFG_SIGNATURE;
    s->position = 0;
    s->dma_high = 0;
}

static void fw_cfg_restored(struct device *device)
{
    (void)device; /* selected and position are checked at every use */
}

static void fw_cfg_release(struct device *device)
{
    struct fw_cfg *s = fw_cfg_of(device);
    for (unsigned i = 0; i < ARRAY_SIZE(s->item); i++) fw_cfg_release_item(&s->item[i]);
    for (unsigned i = 0; i < ARRAY_SIZE(s->local); i++) fw_cfg_release_item(&s->local[i]);
    for (unsigned i = 0; i < s->files; i++) fw_cfg_release_item(&s->file[i].item);
    free(s->writable);
}

static const struct property fw_cfg_properties[] = {
    {"iobase", PROPERTY_U32, offsetof(struct fw_cfg, iobase), "0x510", "first port"},
    {NULL, 0, 0, NULL, NULL},
};

const struct device_class fw_cfg_class = {
    .name = "fw_cfg",
    .title = "firmware configuration, QEMU-compatible",
    .version = 1,
    .size = sizeof(struct fw_cfg),
    .fields = fw_cfg_fields,
    .properties = fw_cfg_properties,
    .init = fw_cfg_init,
    .reset = fw_cfg_reset,
    .restored = fw_cfg_restored,
    .release = fw_cfg_release,
};
