/*
 * NOR flash with the Intel command set (CFI primary command set 1), one byte wide, 4 KiB blocks.
 * Specifications: Intel 28F-J3 data sheet; JEDEC JESD68 (CFI).
 *
 * The array is guest memory, read and executed directly; writes reach the chip as commands, and
 * while it shows anything but the array an I/O region lies over the memory. What changes goes to
 * the drive behind the guest's back, whole blocks at a time. A read-only drive makes a ROM.
 *
 * Deviations: operations complete at once; clearing the status clears the ready bit too, as
 * firmware written for virtual machines looks for a status of zero to tell flash from ROM. Locking
 * and configuration commands do nothing. Not modelled: suspend, protection registers.
 */
#include "machine/device.h"
#include "machine/drive.h"
#include "machine/memory.h"

#include <inttypes.h>
#include <stdlib.h>

#define BLOCK_SIZE 4096u
#define BUFFER_SIZE 256u
#define FLASH_MOST MIB(64)
#define LOW_SIZE KIB(128)
#define QUERY_SIZE 0x40

enum {
    COMMAND_PROGRAM = 0x10, COMMAND_ERASE = 0x20, COMMAND_PROGRAM_OLD = 0x40,
    COMMAND_CLEAR_STATUS = 0x50, COMMAND_LOCK = 0x60, COMMAND_READ_STATUS = 0x70,
    COMMAND_READ_ID = 0x90, COMMAND_QUERY = 0x98, COMMAND_CONFIRM = 0xd0, COMMAND_BUFFER = 0xe8,
    COMMAND_READ_ARRAY = 0xff,
};
enum { STATUS_READY = 0x80, STATUS_ERASE_ERROR = 0x20, STATUS_PROGRAM_ERROR = 0x10 };
enum { SHOW_ARRAY, SHOW_STATUS, SHOW_ID, SHOW_QUERY, SHOW_KINDS };
/* What the next write is. */
enum { EXPECT_COMMAND, EXPECT_DATA, EXPECT_ERASE, EXPECT_LOCK, EXPECT_COUNT, EXPECT_BUFFER,
       EXPECT_BUFFER_CONFIRM, EXPECT_KINDS };

#define PFLASH_STATE(SCALAR, ARRAY, GROUP, BLOB)                                                   \
    SCALAR(u8, show)                                                                               \
    SCALAR(u8, expect)                                                                             \
    SCALAR(u8, status)                                                                             \
    SCALAR(u16, buffer_left) /* bytes still to come */                                             \
    SCALAR(u8, buffer_begun)                                                                       \
    SCALAR(u32, buffer_base)                                                                       \
    ARRAY(u8, buffer, BUFFER_SIZE)                                                                 \
    BLOB(data, size)

struct pflash {
    struct device dev;
    STATE_MEMBERS(PFLASH_STATE)
    struct drive *drive; /* properties */
    u64 base;
    struct region array, low, chip;
    bool rom;
    /* not saved: what the drive has not got yet is all of it after a load */
    struct drive_request request;
    struct drive_segment segment;
    bool busy;
    int error;
    u32 dirty_start, dirty_end; /* bytes; equal: nothing */
};

#define STATE_OWNER struct pflash
STATE_TABLE(pflash, PFLASH_STATE)
#undef STATE_OWNER

/* --- the drive --- */

static void pflash_submit(struct pflash *s, enum drive_op op, u32 start, u32 end)
{
    s->busy = true;
    s->segment = (struct drive_segment){s->data + start, end - start};
    s->request.op = op;
    s->request.offset = start;
    s->request.length = end - start;
    s->request.segments = &s->segment;
    s->request.segment_count = 1;
    drive_submit(s->drive, &s->request);
}

/*
 * The drive reads the array itself, perhaps while the guest programs more of it: then that part is
 * dirty again and goes out next.
 */
static void pflash_write_back(struct pflash *s)
{
    u32 start = s->dirty_start, end = s->dirty_end;
    if (s->busy || start == end || s->rom) return;
    s->dirty_start = s->dirty_end = 0;
    pflash_submit(s, DRIVE_WRITE, start, end);
}

static void pflash_done(struct drive_request *request, int error)
{
    struct pflash *s = request->opaque;
    s->busy = false;
    s->error = error;
    if (error && request->op == DRIVE_WRITE)
        log_to(s->dev.log, LOG_DISK, "%s: write of %" PRIu64 " bytes at %" PRIx64 ": %s", s->dev.id,
               request->length, request->offset, strerror(error));
    pflash_write_back(s);
}

static void pflash_mark(struct pflash *s, u32 offset, u32 length)
{
    u32 start = offset & ~(BLOCK_SIZE - 1);
    u32 end = (offset + length + BLOCK_SIZE - 1) & ~(BLOCK_SIZE - 1);
    if (s->dirty_start == s->dirty_end) {
        s->dirty_start = start;
        s->dirty_end = end;
    } else {
        if (start < s->dirty_start) s->dirty_start = start;
        if (end > s->dirty_end) s->dirty_end = end;
    }
    pflash_write_back(s);
}

/* --- the array --- */

static void pflash_touch(struct pflash *s, u32 offset, u32 length)
{
    memory_code_written(bus_memory(s->dev.bus), s->data + offset, length);
}

/* Programming only clears bits. */
static void pflash_program(struct pflash *s, u32 offset, u8 value)
{
    pflash_touch(s, offset, 1);
    s->data[offset] &= value;
    pflash_mark(s, offset, 1);
    s->status |= STATUS_READY;
}

static void pflash_erase(struct pflash *s, u32 offset)
{
    offset &= ~(BLOCK_SIZE - 1);
    pflash_touch(s, offset, BLOCK_SIZE);
    memset(s->data + offset, 0xff, BLOCK_SIZE);
    pflash_mark(s, offset, BLOCK_SIZE);
    s->status |= STATUS_READY;
}

static void pflash_show(struct pflash *s, u8 what)
{
    bool over = what != SHOW_ARRAY;
    s->show = what;
    if (over == s->chip.mapped) return;
    if (over) bus_map(s->dev.bus, BUS_MEMORY, &s->chip, s->base, LAYER_ROM);
    else bus_unmap(s->dev.bus, &s->chip);
}

/* --- reads while something else is shown --- */

static u8 log2_of(u64 value)
{
    u8 n = 0;
    while (value >>= 1) n++;
    return n;
}

static u8 pflash_query(const struct pflash *s, u32 at)
{
    static const u8 table[QUERY_SIZE] = {
        [0x10] = 'Q', 'R', 'Y', 0x01, 0x00, /* the command set */
        0x31, 0x00,                         /* where its table is */
        [0x1b] = 0x45, 0x55,                /* volts */
        [0x1f] = 7, 7, 10,                  /* log2 of typical microseconds, milliseconds */
        [0x23] = 4, 4, 4,                   /* and how many times that at most */
        [0x2c] = 1,                         /* erase regions */
        [0x31] = 'P', 'R', 'I', '1', '0',
    };
    u32 blocks = s->size / BLOCK_SIZE - 1;
    switch (at) {
    case 0x27: return log2_of(s->size);
    case 0x2a: return log2_of(BUFFER_SIZE);
    case 0x2d: return (u8)blocks;
    case 0x2e: return (u8)(blocks >> 8);
    case 0x2f: return (u8)(BLOCK_SIZE >> 8);
    case 0x30: return (u8)(BLOCK_SIZE >> 16);
    default: return at < QUERY_SIZE ? table[at] : 0;
    }
}

static u64 pflash_read(struct device *device, u64 offset, unsigned size)
{
    static const u8 ids[2] = {0x89, 0x18}; /* Intel; 28F128 */
    struct pflash *s = container_of(device, struct pflash, dev);
    u32 at = offset & 0xff;
    (void)size;
    switch (s->show) {
    case SHOW_STATUS: return s->status;
    case SHOW_ID: return at < 2 ? ids[at] : 0; /* from 2 on: not locked */
    case SHOW_QUERY: return pflash_query(s, at);
    default: return s->data[offset];
    }
}

/* --- writes --- */

static void pflash_command(struct pflash *s, u8 command)
{
    s->expect = EXPECT_COMMAND;
    switch (command) {
    case 0x00: /* what some drivers reset with */
    case 0xf0:
    case COMMAND_READ_ARRAY: pflash_show(s, SHOW_ARRAY); break;
    case COMMAND_READ_STATUS: pflash_show(s, SHOW_STATUS); break;
    case COMMAND_READ_ID: pflash_show(s, SHOW_ID); break;
    case COMMAND_QUERY: pflash_show(s, SHOW_QUERY); break;
    case COMMAND_CLEAR_STATUS: s->status = 0; break;
    case COMMAND_PROGRAM:
    case COMMAND_PROGRAM_OLD:
        s->expect = EXPECT_DATA;
        pflash_show(s, SHOW_STATUS);
        break;
    case COMMAND_ERASE:
        s->expect = EXPECT_ERASE;
        pflash_show(s, SHOW_STATUS);
        break;
    case COMMAND_LOCK:
        s->expect = EXPECT_LOCK;
        pflash_show(s, SHOW_STATUS);
        break;
    case COMMAND_BUFFER:
        s->expect = EXPECT_COUNT;
        s->status |= STATUS_READY; /* a buffer is available */
        pflash_show(s, SHOW_STATUS);
        break;
    default: guest_error(&s->dev, "%s: command %02x", s->dev.id, command);
    }
}

static void pflash_buffer(struct pflash *s, u32 offset, u8 value)
{
    if (!s->buffer_begun) {
        s->buffer_begun = 1;
        s->buffer_base = offset & ~(BUFFER_SIZE - 1);
        memset(s->buffer, 0xff, sizeof s->buffer);
    }
    if ((offset & ~(BUFFER_SIZE - 1)) == s->buffer_base) s->buffer[offset % BUFFER_SIZE] = value;
    else s->status |= STATUS_PROGRAM_ERROR;
    if (s->buffer_left) s->buffer_left--;
    if (!s->buffer_left) s->expect = EXPECT_BUFFER_CONFIRM;
}

static void pflash_buffer_commit(struct pflash *s, u8 value)
{
    s->expect = EXPECT_COMMAND;
    s->status |= STATUS_READY;
    if (value != COMMAND_CONFIRM) s->status |= STATUS_PROGRAM_ERROR | STATUS_ERASE_ERROR;
    if (s->status & STATUS_PROGRAM_ERROR) return;
    for (u32 i = 0; i < BUFFER_SIZE; i++)
        if (s->buffer[i] != 0xff) pflash_program(s, s->buffer_base + i, s->buffer[i]);
}

static void pflash_write(struct device *device, u64 offset, u64 value, unsigned size)
{
    struct pflash *s = container_of(device, struct pflash, dev);
    u8 byte = (u8)value;
    (void)size;
    switch (s->expect) {
    case EXPECT_DATA:
        pflash_program(s, (u32)offset, byte);
        s->expect = EXPECT_COMMAND;
        break;
    case EXPECT_ERASE:
        if (byte == COMMAND_CONFIRM) pflash_erase(s, (u32)offset);
        else s->status |= STATUS_READY | STATUS_ERASE_ERROR | STATUS_PROGRAM_ERROR;
        s->expect = EXPECT_COMMAND;
        break;
    case EXPECT_LOCK:
        s->status |= STATUS_READY;
        s->expect = EXPECT_COMMAND;
        break;
    case EXPECT_COUNT: /* bytes less one: 255 fills the buffer */
        s->buffer_left = (u16)(byte + 1);
        s->buffer_begun = 0;
        s->expect = EXPECT_BUFFER;
        break;
    case EXPECT_BUFFER: pflash_buffer(s, (u32)offset, byte); break;
    case EXPECT_BUFFER_CONFIRM: pflash_buffer_commit(s, byte); break;
    default: pflash_command(s, byte);
    }
}

static const struct region_ops pflash_ops = {"pflash", pflash_read, pflash_write, 1, 1};

/* --- life --- */

static void pflash_map(struct pflash *s)
{
    struct bus *bus = s->dev.bus;
    u32 low = s->size < LOW_SIZE ? s->size : (u32)LOW_SIZE;
    region_init(&s->chip, &s->dev, &pflash_ops, s->size);
    region_init(&s->array, &s->dev, &pflash_ops, s->size);
    s->array.memory = s->data;
    s->array.read_only = true;
    if (s->rom) s->array.ops = NULL; /* writes are lost */
    bus_map(bus, BUS_MEMORY, &s->array, s->base, LAYER_ROM);
    if (s->base + s->size != GIB(4)) return;
    region_init_memory(&s->low, s->data + s->size - low, low, true, "pflash-low");
    bus_map(bus, BUS_MEMORY, &s->low, MIB(1) - low, LAYER_ROM);
}

static bool pflash_init(struct device *device, struct error *error)
{
    struct pflash *s = container_of(device, struct pflash, dev);
    if (!s->drive || !drive_has_medium(s->drive))
        return error_set(error, "%s: needs a drive", device->id);
    u64 size = drive_size(s->drive);
    if (!size || size % BLOCK_SIZE || size > FLASH_MOST)
        return error_set(error, "%s: drive %s of %" PRIu64 " bytes; a multiple of 4 KiB up to "
                         "64 MiB fits", device->id, drive_id(s->drive), size);
    if (s->base % BLOCK_SIZE || s->base > ~(u64)0 - size)
        return error_set(error, "%s: base %" PRIx64 " is no multiple of 4 KiB", device->id,
                         s->base);
    s->size = (u32)size;
    s->data = bus_alloc_memory(device->bus, size, "pflash");
    if (!s->data) return error_set(error, "%s: no room for %" PRIu64 " bytes", device->id, size);
    s->rom = drive_read_only(s->drive);
    s->request.opaque = s;
    s->request.done = pflash_done;
    pflash_submit(s, DRIVE_READ, 0, s->size);
    drive_drain(s->drive);
    if (s->error || s->busy)
        return error_set(error, "%s: drive %s: %s", device->id, drive_id(s->drive),
                         s->error ? strerror(s->error) : "could not be read");
    pflash_map(s);
    return true;
}

static void pflash_reset(struct device *device)
{
    struct pflash *s = container_of(device, struct pflash, dev);
    s->expect = EXPECT_COMMAND;
    s->status = STATUS_READY;
    s->buffer_left = s->buffer_begun = 0;
    s->buffer_base = 0;
    memset(s->buffer, 0xff, sizeof s->buffer);
    pflash_show(s, SHOW_ARRAY);
}

static void pflash_restored(struct device *device)
{
    struct pflash *s = container_of(device, struct pflash, dev);
    s->expect %= EXPECT_KINDS;
    s->buffer_base &= ~(BUFFER_SIZE - 1);
    if (s->buffer_base >= s->size) s->buffer_base = 0;
    if (s->buffer_left > BUFFER_SIZE) s->buffer_left = BUFFER_SIZE;
    pflash_touch(s, 0, s->size);
    pflash_show(s, s->rom ? SHOW_ARRAY : s->show % SHOW_KINDS);
    pflash_mark(s, 0, s->size);
}

static void pflash_release(struct device *device)
{
    struct pflash *s = container_of(device, struct pflash, dev);
    while (s->busy) drive_drain(s->drive);
}

static const struct property pflash_properties[] = {
    {"drive", PROPERTY_DRIVE, offsetof(struct pflash, drive), NULL, "what it keeps"},
    {"base", PROPERTY_U64, offsetof(struct pflash, base), NULL, "its first address"},
    {NULL, 0, 0, NULL, NULL},
};

const struct device_class pflash_cfi01_class = {
    .name = "pflash-cfi01",
    .title = "NOR flash, Intel command set",
    .version = 1,
    .size = sizeof(struct pflash),
    .fields = pflash_fields,
    .properties = pflash_properties,
    .init = pflash_init,
    .reset = pflash_reset,
    .restored = pflash_restored,
    .release = pflash_release,
};
