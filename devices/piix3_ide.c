/*
 * Intel 82371SB (PIIX3), function 1: two ATA channels at the legacy ports, and their bus master.
 * Datasheet: Intel 290550; Programming Interface for Bus Master IDE Controller 1.0.
 * Not modelled: transfer timing, and the IDETIM decode-enable bits: the legacy ports always
 * answer, as some firmware for this board leaves those bits alone.
 */
#include "devices/piix3_ide.h"

#include "devices/ata.h"

enum { BM_COMMAND = 0, BM_STATUS = 2, BM_TABLE = 4 };
enum { BM_START = 0x01, BM_TO_MEMORY = 0x08 };
enum { BM_ACTIVE = 0x01, BM_ERROR = 0x02, BM_INTERRUPT = 0x04, BM_CAPABLE = 0x60 };

/* Where in the PRD table the transfer is. */
#define IDE_CURSOR_STATE(SCALAR, ARRAY, GROUP, BLOB)                                               \
    SCALAR(u32, entry)   /* next one to fetch */                                                   \
    SCALAR(u32, address) /* within the one being used up */                                        \
    SCALAR(u32, left)                                                                              \
    SCALAR(u8, last)

struct ide_cursor {
    STATE_MEMBERS(IDE_CURSOR_STATE)
};

#define STATE_OWNER struct ide_cursor
STATE_TABLE(ide_cursor, IDE_CURSOR_STATE)
#undef STATE_OWNER

#define IDE_MASTER_STATE(SCALAR, ARRAY, GROUP, BLOB)                                               \
    SCALAR(u8, command)                                                                            \
    SCALAR(u8, status)                                                                             \
    SCALAR(u32, table)                                                                             \
    GROUP(ide_cursor, cursor, 1)

struct ide_master {
    STATE_MEMBERS(IDE_MASTER_STATE)
    /* not saved: only while a request is with the drive */
    u32 address[ATA_SEGMENTS];
    u32 length[ATA_SEGMENTS];
    unsigned gathered;
};

#define STATE_OWNER struct ide_master
STATE_TABLE(ide_master, IDE_MASTER_STATE)
#undef STATE_OWNER

#define PIIX3_IDE_STATE(SCALAR, ARRAY, GROUP, BLOB)                                                \
    GROUP(ide_master, master, 2)                                                                   \
    GROUP(ata_channel, channel, 2)

struct piix3_ide {
    struct pci_device pci;
    STATE_MEMBERS(PIIX3_IDE_STATE)
    struct region bus_master, command[2], control[2];
    struct wire irq[2];
    struct ata_dma dma;
};

#define STATE_OWNER struct piix3_ide
STATE_TABLE(piix3_ide, PIIX3_IDE_STATE)
#undef STATE_OWNER

/* --- the bus master's side of struct ata_dma ------------------------------------------------- */

static bool master_started(void *opaque, unsigned channel)
{
    struct piix3_ide *s = opaque;
    return s->master[channel].command & BM_START;
}

enum next_prd { PRD_OK, PRD_END, PRD_BAD };

/* Makes sure that the cursor stands on an entry with bytes left. */
static enum next_prd master_next(struct piix3_ide *s, struct ide_cursor *cursor)
{
    u8 entry[8];
    if (cursor->left) return PRD_OK;
    if (cursor->last) return PRD_END;
    if (!pci_is_master(&s->pci) || !dma_read(s->pci.dev.bus, cursor->entry, entry, sizeof entry)) {
        guest_error(&s->pci.dev, "ide: PRD at %08x is not memory", cursor->entry);
        return PRD_BAD;
    }
    u32 word = ld32(entry + 4);
    cursor->entry += 8;
    cursor->address = ld32(entry) & ~1u;
    cursor->left = word & 0xfffe ? word & 0xfffe : 0x10000;
    cursor->last = word >> 31;
    return PRD_OK;
}

struct gather {
    struct drive_segment *to;
    unsigned count;
    u64 bytes;
};

static void gather_add(struct ide_master *m, struct gather *g, u8 *host, u32 length)
{
    if (!length) return;
    m->address[g->count] = m->cursor[0].address;
    m->length[g->count] = length;
    g->to[g->count++] = (struct drive_segment){host, length};
    g->bytes += length;
    m->cursor[0].address += length;
    m->cursor[0].left -= length;
}

static int master_gather(void *opaque, unsigned channel, struct drive_segment *to, unsigned most,
                         u64 *bytes, u32 sector, bool to_memory)
{
    struct piix3_ide *s = opaque;
    struct ide_master *m = &s->master[channel];
    struct gather g = {to, 0, 0}, whole = g;
    struct ide_cursor at = m->cursor[0];
    while (g.bytes < *bytes && g.count + 2 <= most) {
        enum next_prd next = master_next(s, &m->cursor[0]);
        if (next == PRD_BAD) return -1;
        if (next == PRD_END) break;
        u64 length = m->cursor[0].left;
        if (length > *bytes - g.bytes) length = *bytes - g.bytes;
        u8 *host = dma_map(s->pci.dev.bus, m->cursor[0].address, &length, to_memory);
        if (!host || !length) {
            guest_error(&s->pci.dev, "ide: DMA at %08x is not memory", m->cursor[0].address);
            return -1;
        }
        /* The last place in this piece where a sector ends: a round stops there. */
        u64 edge = (g.bytes + length) / sector * sector;
        if (edge > g.bytes) {
            u32 before = (u32)(edge - g.bytes);
            gather_add(m, &g, host, before);
            whole = g;
            at = m->cursor[0];
            gather_add(m, &g, host + before, (u32)length - before);
        } else {
            gather_add(m, &g, host, (u32)length);
        }
    }
    m->cursor[0] = at;
    m->gathered = whole.count;
    *bytes = whole.bytes;
    return (int)whole.count;
}

static void master_gathered_done(void *opaque, unsigned channel, bool to_memory)
{
    struct piix3_ide *s = opaque;
    struct ide_master *m = &s->master[channel];
    for (unsigned i = 0; i < m->gathered && to_memory; i++)
        dma_wrote(s->pci.dev.bus, m->address[i], m->length[i]);
    m->gathered = 0;
}

static bool master_copy(void *opaque, unsigned channel, u8 *bytes, u32 length, bool to_memory)
{
    struct piix3_ide *s = opaque;
    struct ide_cursor *cursor = &s->master[channel].cursor[0];
    struct bus *bus = s->pci.dev.bus;
    while (length) {
        if (master_next(s, cursor) != PRD_OK) return false;
        u32 piece = cursor->left < length ? cursor->left : length;
        bool ok = to_memory ? dma_write(bus, cursor->address, bytes, piece)
                            : dma_read(bus, cursor->address, bytes, piece);
        if (!ok) return false;
        cursor->address += piece;
        cursor->left -= piece;
        bytes += piece;
        length -= piece;
    }
    return true;
}

static void master_finish(void *opaque, unsigned channel, bool failed)
{
    struct piix3_ide *s = opaque;
    struct ide_master *m = &s->master[channel];
    if (failed) m->status |= BM_ERROR;
    /* A table longer than the transfer leaves it active, as the specification has it. */
    if (failed || (m->cursor[0].last && !m->cursor[0].left)) m->status &= (u8)~BM_ACTIVE;
}

static void master_interrupt(void *opaque, unsigned channel, bool level)
{
    struct piix3_ide *s = opaque;
    if (level) s->master[channel].status |= BM_INTERRUPT;
    wire_set(&s->irq[channel], level);
}

/* --- bus master registers -------------------------------------------------------------------- */

static u64 bus_master_read(struct device *device, u64 offset, unsigned size)
{
    struct piix3_ide *s = (struct piix3_ide *)device;
    u8 image[16];
    u64 value = 0;
    memset(image, 0, sizeof image);
    for (unsigned i = 0; i < 2; i++) {
        image[8 * i + BM_COMMAND] = s->master[i].command;
        image[8 * i + BM_STATUS] = s->master[i].status;
        st32(image + 8 * i + BM_TABLE, s->master[i].table);
    }
    for (unsigned i = 0; i < size && offset + i < sizeof image; i++)
        value |= (u64)image[offset + i] << 8 * i;
    return value;
}

static void bus_master_command(struct piix3_ide *s, unsigned channel, u8 value)
{
    struct ide_master *m = &s->master[channel];
    u8 was = m->command;
    m->command = value & (BM_START | BM_TO_MEMORY);
    if ((was ^ value) & BM_START) {
        if (value & BM_START) {
            m->status |= BM_ACTIVE;
            m->cursor[0] = (struct ide_cursor){.entry = m->table};
            ata_dma_started(&s->channel[channel]);
        } else {
            ata_dma_stopped(&s->channel[channel]);
            m->status &= (u8)~BM_ACTIVE;
        }
    }
}

static void bus_master_write_byte(struct piix3_ide *s, unsigned offset, u8 value)
{
    unsigned channel = offset >> 3 & 1, reg = offset & 7;
    struct ide_master *m = &s->master[channel];
    switch (reg) {
    case BM_COMMAND: bus_master_command(s, channel, value); break;
    case BM_STATUS:
        m->status = (u8)((m->status & BM_ACTIVE) | (value & BM_CAPABLE) |
                         (m->status & ~value & (BM_ERROR | BM_INTERRUPT)));
        break;
    case 4: case 5: case 6: case 7:
        m->table = (m->table & ~(0xffu << 8 * (reg - 4))) | (u32)value << 8 * (reg - 4);
        m->table &= ~3u;
        break;
    }
}

static void bus_master_write(struct device *device, u64 offset, u64 value, unsigned size)
{
    for (unsigned i = 0; i < size && offset + i < 16; i++)
        bus_master_write_byte((struct piix3_ide *)device, (unsigned)offset + i,
                              (u8)(value >> 8 * i));
}

static const struct region_ops bus_master_ops = {
    .name = "ide-bus-master", .read = bus_master_read, .write = bus_master_write, .min_size = 1,
    .max_size = 4};

/* --- legacy ports: the two channels differ only in which one they reach ----------------------- */

static struct ata_channel *channel_of(struct device *device, unsigned channel)
{
    return &((struct piix3_ide *)device)->channel[channel];
}

static u64 primary_read(struct device *device, u64 offset, unsigned size)
{
    return ata_read(channel_of(device, 0), (unsigned)offset, size);
}

static u64 secondary_read(struct device *device, u64 offset, unsigned size)
{
    return ata_read(channel_of(device, 1), (unsigned)offset, size);
}

static void primary_write(struct device *device, u64 offset, u64 value, unsigned size)
{
    ata_write(channel_of(device, 0), (unsigned)offset, value, size);
}

static void secondary_write(struct device *device, u64 offset, u64 value, unsigned size)
{
    ata_write(channel_of(device, 1), (unsigned)offset, value, size);
}

static u64 primary_control_read(struct device *device, u64 offset, unsigned size)
{
    (void)offset, (void)size;
    return ata_alternate_status(channel_of(device, 0));
}

static u64 secondary_control_read(struct device *device, u64 offset, unsigned size)
{
    (void)offset, (void)size;
    return ata_alternate_status(channel_of(device, 1));
}

static void primary_control_write(struct device *device, u64 offset, u64 value, unsigned size)
{
    (void)offset, (void)size;
    ata_control(channel_of(device, 0), (u8)value);
}

static void secondary_control_write(struct device *device, u64 offset, u64 value, unsigned size)
{
    (void)offset, (void)size;
    ata_control(channel_of(device, 1), (u8)value);
}

static const struct region_ops command_ops[2] = {
    {"ide0", primary_read, primary_write, 1, 4}, {"ide1", secondary_read, secondary_write, 1, 4}};
static const struct region_ops control_ops[2] = {
    {"ide0-control", primary_control_read, primary_control_write, 1, 1},
    {"ide1-control", secondary_control_read, secondary_control_write, 1, 1}};

/* --- verbs ------------------------------------------------------------------------------------ */

void piix3_ide_set_wires(struct device *device, const struct wire irq[2])
{
    memcpy(((struct piix3_ide *)device)->irq, irq, 2 * sizeof *irq);
}

bool piix3_ide_attach(struct device *device, unsigned channel, unsigned unit, struct drive *drive,
                      bool cdrom)
{
    struct piix3_ide *s = (struct piix3_ide *)device;
    if (channel > 1 || unit > 1 || s->channel[channel].unit[unit].drive) return false;
    ata_attach(&s->channel[channel], unit, drive, cdrom);
    return true;
}

static bool piix3_ide_init(struct device *device, struct error *error)
{
    static const u16 port[2] = {0x1f0, 0x170};
    struct piix3_ide *s = (struct piix3_ide *)device;
    (void)error;
    pci_set_ids(&s->pci, 0x8086, 0x7010, 0, 0x010180, 0x1af4, 0x1100);
    memset(s->pci.writable + 0x40, 0xff, 8);
    region_init(&s->bus_master, device, &bus_master_ops, 16);
    pci_add_bar(&s->pci, 4, &s->bus_master, true, false, false);
    s->dma = (struct ata_dma){s, master_started, master_gather, master_gathered_done,
                              master_copy, master_finish, master_interrupt};
    for (unsigned i = 0; i < 2; i++) {
        ata_channel_init(&s->channel[i], device, i, &s->dma);
        region_init(&s->command[i], device, &command_ops[i], 8);
        region_init(&s->control[i], device, &control_ops[i], 1);
        bus_map(device->bus, BUS_PORT, &s->command[i], port[i], LAYER_DEVICE);
        bus_map(device->bus, BUS_PORT, &s->control[i], port[i] + 0x206u, LAYER_DEVICE);
    }
    return true;
}

static void piix3_ide_reset(struct device *device)
{
    struct piix3_ide *s = (struct piix3_ide *)device;
    for (unsigned i = 0; i < 2; i++) {
        s->master[i].command = 0; /* first: a completion must not go on */
        ata_channel_reset(&s->channel[i]);
        s->master[i].status = s->channel[i].unit[0].drive || s->channel[i].unit[1].drive ? 0x20 : 0;
        s->master[i].table = 0;
        s->master[i].cursor[0] = (struct ide_cursor){0};
    }
    pci_device_reset(&s->pci);
    st16(s->pci.config + 6, 0x0280);
    memset(s->pci.config + 0x40, 0, 8);
}

static void piix3_ide_restored(struct device *device)
{
    struct piix3_ide *s = (struct piix3_ide *)device;
    pci_device_restored(&s->pci);
    for (unsigned i = 0; i < 2; i++) {
        u8 status = s->master[i].status;
        ata_channel_restored(&s->channel[i]);
        /* Driving the wire again is no new interrupt. */
        if (s->channel[i].irq_level) s->master[i].status = status;
        else wire_set(&s->irq[i], false);
    }
}

static void piix3_ide_release(struct device *device)
{
    struct piix3_ide *s = (struct piix3_ide *)device;
    for (unsigned i = 0; i < 2; i++) {
        s->master[i].command = 0;
        ata_channel_release(&s->channel[i]);
    }
}

const struct device_class piix3_ide_class = {
    .name = "piix3-ide",
    .title = "Intel PIIX3 IDE controller",
    .version = 1,
    .size = sizeof(struct piix3_ide),
    .fields = piix3_ide_fields,
    .is_pci = true,
    .init = piix3_ide_init,
    .reset = piix3_ide_reset,
    .restored = piix3_ide_restored,
    .release = piix3_ide_release,
};
