/*
 * ATA hard disks and the task file they share with ATAPI drives (atapi.c).
 * Specification: ATA/ATAPI-7 (T13 1532D), volume 1; CHS and INITIALIZE DEVICE PARAMETERS from
 * ATA-4.
 * Not modelled: overlapped and queued commands, SECURITY, HPA (SET MAX), streaming, power states
 * beyond saying yes, SMART attributes that ever change.
 */
#include <stdio.h>

#include "devices/ata.h"

#define CHUNK_SECTORS (ATA_BUFFER_SIZE / ATA_SECTOR)
#define DMA_ROUND MIB(1)
#define MULTIPLE_MAX 16

enum { DEVICE_LBA = 0x40, DEVICE_SELECT = 0x10, CONTROL_HOB = 0x80, CONTROL_SRST = 0x04,
       CONTROL_NIEN = 0x02 };

#define STATE_OWNER struct ata_unit
STATE_TABLE(ata_unit, ATA_UNIT_STATE)
#undef STATE_OWNER

const struct state_field ata_channel_fields[] = {
#define STATE_OWNER struct ata_channel
    ATA_CHANNEL_STATE(STATE_F_SCALAR, STATE_F_ARRAY, STATE_F_GROUP, STATE_F_BLOB)
#undef STATE_OWNER
    {NULL, 0, 0, 0, 0, NULL}};

/* --- interrupts, ends of commands ----------------------------------------------------------- */

static void ata_update_irq(struct ata_channel *c)
{
    const struct ata_unit *u = &c->unit[c->selected];
    bool level = u->drive && u->irq && !(c->control & CONTROL_NIEN);
    if (level == c->irq_level) return;
    c->irq_level = level;
    c->dma->interrupt(c->dma->opaque, c->index, level);
}

void ata_interrupt(struct ata_unit *u)
{
    u->irq = 1;
    ata_update_irq(u->channel);
}

static void ata_finish(struct ata_unit *u, u8 status)
{
    u->status = status;
    u->phase = ATA_IDLE;
    u->remaining = u->chunk = 0;
    u->position = u->block_end = u->filled = 0;
}

void ata_complete(struct ata_unit *u)
{
    ata_finish(u, ATA_DRDY | ATA_DSC);
    u->error = 0;
    ata_interrupt(u);
}

void ata_fail(struct ata_unit *u, u8 error, u8 extra_status)
{
    ata_finish(u, ATA_DRDY | ATA_DSC | ATA_ERR | extra_status);
    u->error = error;
    ata_interrupt(u);
}

/* --- addresses ------------------------------------------------------------------------------ */

static u64 ata_capacity(const struct ata_unit *u)
{
    return drive_size(u->drive) / ATA_SECTOR;
}

static bool command_is_ext(u8 command)
{
    switch (command) {
    case 0x24: case 0x25: case 0x27: case 0x29: case 0x34: case 0x35: case 0x39: case 0x3d:
    case 0x42: case 0xce: case 0xea:
        return true;
    default:
        return false;
    }
}

static u32 ata_get_count(const struct ata_unit *u)
{
    if (!command_is_ext(u->command)) return u->count[0] ? u->count[0] : 256;
    u32 count = (u32)u->count[1] << 8 | u->count[0];
    return count ? count : 65536;
}

/* False for a CHS address that no geometry has. */
static bool ata_get_lba(const struct ata_unit *u, u64 *lba)
{
    u64 low = (u64)u->lba_high[0] << 16 | (u64)u->lba_mid[0] << 8 | u->lba_low[0];
    if (command_is_ext(u->command)) {
        *lba = low | ((u64)u->lba_high[1] << 16 | (u64)u->lba_mid[1] << 8 | u->lba_low[1]) << 24;
        return true;
    }
    if (u->device & DEVICE_LBA) {
        *lba = low | (u64)(u->device & 15) << 24;
        return true;
    }
    u32 head = u->device & 15, sector = u->lba_low[0];
    if (sector == 0 || sector > u->sectors || head >= u->heads) return false;
    *lba = ((low >> 8) * u->heads + head) * u->sectors + sector - 1;
    return true;
}

static void ata_set_lba(struct ata_unit *u, u64 lba)
{
    if (command_is_ext(u->command)) {
        u->lba_low[1] = (u8)(lba >> 24);
        u->lba_mid[1] = (u8)(lba >> 32);
        u->lba_high[1] = (u8)(lba >> 40);
    } else if (u->device & DEVICE_LBA) {
        u->device = (u8)((u->device & 0xf0) | (lba >> 24 & 15));
    } else if (u->heads && u->sectors) {
        u64 track = lba / u->sectors, cylinder = track / u->heads;
        u->device = (u8)((u->device & 0xf0) | (track % u->heads & 15));
        u->lba_low[0] = (u8)(lba % u->sectors + 1);
        u->lba_mid[0] = (u8)cylinder;
        u->lba_high[0] = (u8)(cylinder >> 8);
        return;
    }
    u->lba_low[0] = (u8)lba;
    u->lba_mid[0] = (u8)(lba >> 8);
    u->lba_high[0] = (u8)(lba >> 16);
}

/* Takes address and count of the command and checks them; on false it has failed the command. */
static bool ata_take_range(struct ata_unit *u, bool write)
{
    u64 capacity = ata_capacity(u);
    u->remaining = ata_get_count(u);
    if (!ata_get_lba(u, &u->lba) || u->lba >= capacity || u->remaining > capacity - u->lba) {
        guest_error(u->channel->owner, "ata%u.%u: command %02x beyond the end of the disk",
                    u->channel->index, u->number & 1, u->command);
        ata_fail(u, ATA_IDNF, 0);
        return false;
    }
    if (write && drive_read_only(u->drive)) {
        ata_fail(u, ATA_ABRT | ATA_UNC, 0);
        return false;
    }
    return true;
}

/* --- requests ------------------------------------------------------------------------------- */

void ata_submit(struct ata_unit *u, enum drive_op op, u64 offset, u64 length, unsigned segments,
                void (*done)(struct drive_request *, int error))
{
    u->request = (struct drive_request){.op = op, .offset = offset, .length = length,
                                        .segments = u->segment, .segment_count = segments,
                                        .done = done, .opaque = u};
    u->in_flight = true;
    u->cancelled = false;
    u->status |= ATA_BSY;
    u->status &= (u8)~ATA_DRQ;
    drive_submit(u->drive, &u->request);
}

bool ata_request_done(struct ata_unit *u)
{
    u->in_flight = false;
    return !u->cancelled;
}

static void ata_cancel(struct ata_unit *u)
{
    if (!u->in_flight) return;
    u->cancelled = true;
    drive_drain(u->drive);
}

static void ata_buffer_io(struct ata_unit *u, enum drive_op op,
                          void (*done)(struct drive_request *, int))
{
    u64 length = (u64)u->chunk * ATA_SECTOR;
    u->segment[0] = (struct drive_segment){u->channel->buffer, length};
    ata_submit(u, op, u->lba * ATA_SECTOR, length, 1, done);
}

static void ata_advance(struct ata_unit *u)
{
    u->lba += u->chunk;
    u->remaining -= u->chunk;
    u->chunk = 0;
    ata_set_lba(u, u->lba);
}

static void ata_drive_error(struct ata_unit *u, bool write)
{
    ata_set_lba(u, u->lba);
    ata_fail(u, write ? ATA_ABRT : ATA_UNC, write ? ATA_DF : 0);
}

/* --- programmed I/O ------------------------------------------------------------------------- */

static u32 ata_block_bytes(const struct ata_unit *u)
{
    switch (u->command) {
    case 0xc4: case 0xc5: case 0x29: case 0x39: case 0xce:
        return (u32)(u->multiple ? u->multiple : 1) * ATA_SECTOR;
    default:
        return ATA_SECTOR;
    }
}

static void ata_offer_block(struct ata_unit *u, enum ata_phase phase, bool interrupt)
{
    u32 block = ata_block_bytes(u), left = u->filled - u->position;
    u->block_end = u->position + (left < block ? left : block);
    u->phase = (u8)phase;
    u->status = ATA_DRDY | ATA_DSC | ATA_DRQ;
    u->error = 0;
    if (interrupt) ata_interrupt(u);
}

static void ata_pio_read_done(struct drive_request *request, int error)
{
    struct ata_unit *u = request->opaque;
    if (!ata_request_done(u)) return;
    if (error) {
        ata_drive_error(u, false);
        return;
    }
    u->position = 0;
    u->filled = u->chunk * ATA_SECTOR;
    ata_advance(u);
    ata_offer_block(u, ATA_PIO_IN, true);
}

static void ata_pio_read(struct ata_unit *u)
{
    u->chunk = u->remaining < CHUNK_SECTORS ? u->remaining : CHUNK_SECTORS;
    u->phase = ATA_WAIT;
    ata_buffer_io(u, DRIVE_READ, ata_pio_read_done);
}

static void ata_pio_write_collect(struct ata_unit *u, bool interrupt)
{
    u->chunk = u->remaining < CHUNK_SECTORS ? u->remaining : CHUNK_SECTORS;
    u->position = 0;
    u->filled = u->chunk * ATA_SECTOR;
    ata_offer_block(u, ATA_PIO_OUT, interrupt);
}

static void ata_pio_write_done(struct drive_request *request, int error)
{
    struct ata_unit *u = request->opaque;
    if (!ata_request_done(u)) return;
    if (error) {
        ata_drive_error(u, true);
        return;
    }
    ata_advance(u);
    if (u->remaining)
        ata_pio_write_collect(u, true);
    else
        ata_complete(u);
}

/* Data of ours for the host to read: IDENTIFY and the like, in the channel's buffer. */
static void ata_pio_reply(struct ata_unit *u)
{
    u->remaining = u->chunk = 0;
    u->position = 0;
    u->filled = ATA_SECTOR;
    ata_offer_block(u, ATA_PIO_IN, true);
}

/* The host has moved the last byte of a DRQ block. */
static void ata_block_done(struct ata_unit *u)
{
    if (u->phase == ATA_PACKET) {
        atapi_packet_run(u);
    } else if (u->phase == ATA_PIO_OUT) {
        if (u->position < u->filled) {
            ata_offer_block(u, ATA_PIO_OUT, true);
        } else {
            u->phase = ATA_WAIT;
            ata_buffer_io(u, DRIVE_WRITE, ata_pio_write_done);
        }
    } else if (u->cdrom && u->command == 0xa0) {
        atapi_block_done(u);
    } else if (u->position < u->filled) {
        ata_offer_block(u, ATA_PIO_IN, true);
    } else if (u->remaining) {
        ata_pio_read(u);
    } else {
        ata_finish(u, ATA_DRDY | ATA_DSC);
    }
}

/* --- direct memory access ------------------------------------------------------------------- */

static void ata_dma_round(struct ata_unit *u);

static void ata_dma_end(struct ata_unit *u, bool failed)
{
    const struct ata_dma *dma = u->channel->dma;
    dma->finish(dma->opaque, u->channel->index, failed);
}

static void ata_dma_round_done(struct drive_request *request, int error)
{
    struct ata_unit *u = request->opaque;
    const struct ata_dma *dma = u->channel->dma;
    dma->gathered_done(dma->opaque, u->channel->index, request->op == DRIVE_READ);
    if (!ata_request_done(u)) return;
    if (error) {
        ata_dma_end(u, false);
        ata_drive_error(u, request->op == DRIVE_WRITE);
        return;
    }
    ata_advance(u);
    ata_dma_round(u);
}

static void ata_dma_round(struct ata_unit *u)
{
    const struct ata_dma *dma = u->channel->dma;
    unsigned channel = u->channel->index;
    bool to_memory = u->phase == ATA_DMA_IN;
    if (!u->remaining) {
        ata_dma_end(u, false);
        ata_complete(u);
        return;
    }
    if (!dma->started(dma->opaque, channel)) return; /* ata_dma_started comes back here */
    u64 bytes = (u64)u->remaining * ATA_SECTOR;
    if (bytes > DMA_ROUND) bytes = DMA_ROUND;
    int segments = dma->gather(dma->opaque, channel, u->segment, ATA_SEGMENTS, &bytes, ATA_SECTOR,
                               to_memory);
    if (segments < 0) {
        ata_dma_end(u, true);
        ata_fail(u, ATA_ABRT, 0);
    } else if (bytes == 0) {
        /* The table is shorter than the command: the bus master just goes idle, without an
         * interrupt, and the guest's driver times out or looks. */
        guest_error(u->channel->owner, "ata%u: PRD table too short", channel);
        ata_dma_end(u, false);
        ata_finish(u, ATA_DRDY | ATA_DSC);
    } else {
        u->chunk = (u32)(bytes / ATA_SECTOR);
        ata_submit(u, to_memory ? DRIVE_READ : DRIVE_WRITE, u->lba * ATA_SECTOR, bytes,
                   (unsigned)segments, ata_dma_round_done);
    }
}

static void ata_dma_command(struct ata_unit *u, bool write)
{
    if (!ata_take_range(u, write)) return;
    u->phase = write ? ATA_DMA_OUT : ATA_DMA_IN;
    u->status = ATA_BSY | ATA_DRDY | ATA_DSC;
    ata_dma_round(u);
}

void ata_dma_started(struct ata_channel *c)
{
    struct ata_unit *u = &c->unit[c->selected];
    if (!u->drive || u->in_flight || (u->phase != ATA_DMA_IN && u->phase != ATA_DMA_OUT)) return;
    if (u->cdrom)
        atapi_dma_run(u);
    else
        ata_dma_round(u);
}

void ata_dma_stopped(struct ata_channel *c)
{
    for (unsigned i = 0; i < 2; i++) {
        struct ata_unit *u = &c->unit[i];
        if (!u->drive || (u->phase != ATA_DMA_IN && u->phase != ATA_DMA_OUT)) continue;
        ata_cancel(u);
        ata_finish(u, ATA_DRDY | ATA_DSC);
    }
}

/* --- IDENTIFY ------------------------------------------------------------------------------- */

/* ATA strings put the first character in a word's high byte; padded with spaces. */
void ata_identify_string(u8 *to, const char *text, unsigned length)
{
    size_t n = strlen(text);
    for (unsigned i = 0; i < length; i++) to[i ^ 1] = i < n ? (u8)text[i] : ' ';
}

static void ata_default_geometry(struct ata_unit *u)
{
    u->heads = 16;
    u->sectors = 63;
}

static void identify_strings(struct ata_unit *u, u8 *data)
{
    char serial[24];
    const char *given = drive_serial(u->drive);
    snprintf(serial, sizeof serial, "LB%05u", u->number + 1u);
    ata_identify_string(data + 20, given && given[0] ? given : serial, 20);
    ata_identify_string(data + 46, "1.0", 8);
    ata_identify_string(data + 54, "LYREBIRD HARDDISK", 40);
}

static void identify_modes(const struct ata_unit *u, u8 *data)
{
    u8 kind = u->mode >> 3, mode = u->mode & 7;
    st16(data + 2 * 62, 0x0007 | (kind == 2 ? 0x100 << mode : 0));
    st16(data + 2 * 63, 0x0007 | (kind == 4 ? 0x100 << mode : 0));
    st16(data + 2 * 64, 0x0003);
    for (unsigned i = 65; i <= 68; i++) st16(data + 2 * i, 120);
    st16(data + 2 * 88, 0x003f | (kind == 8 ? 0x100 << mode : 0));
}

static void ata_identify(struct ata_unit *u)
{
    u8 *data = u->channel->buffer;
    u64 capacity = ata_capacity(u), cylinders = capacity / (16 * 63), track;
    memset(data, 0, ATA_SECTOR);
    if (cylinders > 16383) cylinders = 16383;
    if (!u->heads || !u->sectors) ata_default_geometry(u);
    track = (u64)u->heads * u->sectors;
    u64 current = capacity / track > 65535 ? 65535 : capacity / track;
    st16(data + 0, 0x0040);
    st16(data + 2, (u16)cylinders);
    st16(data + 6, 16);
    st16(data + 8, 512 * 63);
    st16(data + 10, 512);
    st16(data + 12, 63);
    st16(data + 40, 3);
    st16(data + 42, 512);
    st16(data + 44, 4);
    identify_strings(u, data);
    st16(data + 2 * 47, 0x8000 | MULTIPLE_MAX);
    st16(data + 2 * 48, 1);
    st16(data + 2 * 49, 0x0b00);
    st16(data + 2 * 51, 0x0200);
    st16(data + 2 * 52, 0x0200);
    st16(data + 2 * 53, 0x0007);
    st16(data + 2 * 54, (u16)current);
    st16(data + 2 * 55, u->heads);
    st16(data + 2 * 56, u->sectors);
    st32(data + 2 * 57, (u32)(current * track));
    if (u->multiple) st16(data + 2 * 59, 0x0100 | u->multiple);
    st32(data + 2 * 60, capacity > 0x0fffffff ? 0x0fffffff : (u32)capacity);
    identify_modes(u, data);
    st16(data + 2 * 80, 0x00f0);
    st16(data + 2 * 81, 0x0016);
    st16(data + 2 * 82, 0x4069); /* NOP, look-ahead, write cache, power management, SMART */
    st16(data + 2 * 83, 0x7400); /* FLUSH CACHE (EXT), LBA48 */
    st16(data + 2 * 84, 0x4003); /* SMART self-test and error log */
    st16(data + 2 * 85, 0x4008 | (u->look_ahead ? 0x40 : 0) | (u->write_cache ? 0x20 : 0) |
                            (u->smart ? 1 : 0));
    st16(data + 2 * 86, 0x3400);
    st16(data + 2 * 87, 0x4003);
    st16(data + 2 * 93, 0x6001);
    st64(data + 2 * 100, capacity);
    u8 sum = 0xa5;
    for (unsigned i = 0; i < 510; i++) sum += data[i];
    data[510] = 0xa5;
    data[511] = (u8)-sum;
    ata_pio_reply(u);
}

/* --- SMART ---------------------------------------------------------------------------------- */

static void smart_reply(struct ata_unit *u)
{
    u8 *data = u->channel->buffer, sum = 0;
    for (unsigned i = 0; i < 511; i++) sum += data[i];
    data[511] = (u8)-sum;
    ata_pio_reply(u);
}

static void smart_read_data(struct ata_unit *u, bool thresholds)
{
    static const u8 attribute[][4] = { /* id, flags, value, threshold */
        {1, 0x03, 100, 6}, {5, 0x03, 100, 36}, {9, 0x03, 100, 0}, {12, 0x03, 100, 0},
        {190, 0x03, 69, 50}};
    u8 *data = u->channel->buffer;
    memset(data, 0, ATA_SECTOR);
    data[0] = 1;
    for (unsigned i = 0; i < ARRAY_SIZE(attribute); i++) {
        u8 *entry = data + 2 + 12 * i;
        entry[0] = attribute[i][0];
        entry[1] = attribute[i][thresholds ? 3 : 1];
        if (thresholds) continue;
        entry[3] = entry[4] = attribute[i][2];
    }
    if (!thresholds) {
        data[367] = 0x13; /* off-line immediate, short self-test */
        st16(data + 368, 3);
        data[370] = 1;
        data[372] = data[373] = 2;
    }
    smart_reply(u);
}

static void ata_smart(struct ata_unit *u)
{
    u8 feature = u->feature[0], *data = u->channel->buffer;
    if (u->lba_mid[0] != 0x4f || u->lba_high[0] != 0xc2 || (!u->smart && feature != 0xd8)) {
        ata_fail(u, ATA_ABRT, 0);
        return;
    }
    switch (feature) {
    case 0xd8: u->smart = 1; break;
    case 0xd9: u->smart = 0; break;
    case 0xd2: case 0xd4: case 0xda: break; /* 4Fh/C2h stay: no threshold exceeded */
    case 0xd0: smart_read_data(u, false); return;
    case 0xd1: smart_read_data(u, true); return;
    case 0xd5:
        if (u->lba_low[0] != 0 && u->lba_low[0] != 1 && u->lba_low[0] != 6) {
            ata_fail(u, ATA_ABRT, 0);
            return;
        }
        memset(data, 0, ATA_SECTOR);
        data[0] = 1;
        if (u->lba_low[0] == 0) data[2] = data[12] = 1; /* directory: logs 1 and 6, a sector each */
        smart_reply(u);
        return;
    default: ata_fail(u, ATA_ABRT, 0); return;
    }
    ata_complete(u);
}

/* --- commands ------------------------------------------------------------------------------- */

static void ata_signature(struct ata_unit *u)
{
    u->count[0] = u->lba_low[0] = 1;
    u->device &= DEVICE_SELECT;
    if (u->cdrom) {
        atapi_signature(u);
        return;
    }
    u->lba_mid[0] = u->lba_high[0] = 0;
}

/* As after a reset of any kind: diagnostics passed, signature in place. */
static void ata_unit_reset(struct ata_unit *u)
{
    ata_cancel(u);
    ata_finish(u, u->cdrom ? 0 : ATA_DRDY | ATA_DSC);
    ata_signature(u);
    u->error = 1;
    u->irq = 0;
}

static void ata_set_features(struct ata_unit *u)
{
    switch (u->feature[0]) {
    case 0x02: u->write_cache = 1; break;
    case 0x82: u->write_cache = 0; break;
    case 0xaa: u->look_ahead = 1; break;
    case 0x55: u->look_ahead = 0; break;
    case 0x05: case 0x85: case 0x42: case 0xc2: case 0x66: case 0xcc: break;
    case 0x03: {
        u8 kind = u->count[0] >> 3, mode = u->count[0] & 7;
        bool ok = kind == 0 ? mode <= 1 : kind == 1 ? mode <= 4 : kind == 2 || kind == 4 ? mode <= 2
                                                                    : kind == 8 && mode <= 5;
        if (!ok) {
            ata_fail(u, ATA_ABRT, 0);
            return;
        }
        if (kind >= 2) u->mode = u->count[0];
        break;
    }
    default: ata_fail(u, ATA_ABRT, 0); return;
    }
    ata_complete(u);
}

static void ata_flush_done(struct drive_request *request, int error)
{
    struct ata_unit *u = request->opaque;
    if (!ata_request_done(u)) return;
    if (error)
        ata_fail(u, ATA_ABRT, ATA_DF);
    else
        ata_complete(u);
}

static void ata_flush(struct ata_unit *u)
{
    u->phase = ATA_WAIT;
    ata_submit(u, DRIVE_FLUSH, 0, 0, 0, ata_flush_done);
}

static void ata_diagnostic(struct ata_channel *c)
{
    for (unsigned i = 0; i < 2; i++) {
        struct ata_unit *u = &c->unit[i];
        if (!u->drive) continue;
        ata_unit_reset(u);
        u->device = 0;
    }
    c->selected = 0;
    if (c->unit[0].drive)
        ata_interrupt(&c->unit[0]);
    else
        ata_update_irq(c);
}

static void ata_read_native_max(struct ata_unit *u)
{
    u64 last = ata_capacity(u) ? ata_capacity(u) - 1 : 0;
    if (!command_is_ext(u->command) && last > 0x0ffffffe) last = 0x0ffffffe;
    u->device |= DEVICE_LBA;
    ata_set_lba(u, last);
    ata_complete(u);
}

static void ata_initialize_parameters(struct ata_unit *u)
{
    if (!u->count[0]) {
        ata_fail(u, ATA_ABRT, 0);
        return;
    }
    u->sectors = u->count[0];
    u->heads = (u->device & 15) + 1;
    ata_complete(u);
}

static void ata_set_multiple(struct ata_unit *u)
{
    u8 n = u->count[0];
    if (n > MULTIPLE_MAX || (n & (n - 1))) {
        u->multiple = 0;
        ata_fail(u, ATA_ABRT, 0);
        return;
    }
    u->multiple = n;
    ata_complete(u);
}

static void ata_pio_command(struct ata_unit *u, bool write, bool multiple)
{
    if (multiple && !u->multiple)
        ata_fail(u, ATA_ABRT, 0);
    else if (!ata_take_range(u, write))
        return;
    else if (write)
        ata_pio_write_collect(u, false);
    else
        ata_pio_read(u);
}

static void ata_disk_command(struct ata_unit *u)
{
    u8 command = u->command;
    switch (command) {
    case 0x10 ... 0x1f: ata_complete(u); break; /* RECALIBRATE */
    case 0x20: case 0x21: case 0x24: ata_pio_command(u, false, false); break;
    case 0x30: case 0x31: case 0x34: ata_pio_command(u, true, false); break;
    case 0xc4: case 0x29: ata_pio_command(u, false, true); break;
    case 0xc5: case 0x39: case 0xce: ata_pio_command(u, true, true); break;
    case 0xc8: case 0xc9: case 0x25: ata_dma_command(u, false); break;
    case 0xca: case 0xcb: case 0x35: case 0x3d: ata_dma_command(u, true); break;
    case 0x40: case 0x41: case 0x42: case 0x3c: /* VERIFY */
        if (ata_take_range(u, false)) {
            u->chunk = u->remaining;
            ata_advance(u);
            ata_complete(u);
        }
        break;
    case 0x70 ... 0x7f: /* SEEK */
        u->remaining = 0;
        if (!ata_get_lba(u, &u->lba) || u->lba >= ata_capacity(u))
            ata_fail(u, ATA_IDNF, 0);
        else
            ata_complete(u);
        break;
    case 0x27: case 0xf8: ata_read_native_max(u); break;
    case 0x91: ata_initialize_parameters(u); break;
    case 0xb0: ata_smart(u); break;
    case 0xc6: ata_set_multiple(u); break;
    case 0xe7: case 0xea: ata_flush(u); break;
    case 0xec: ata_identify(u); break;
    case 0x00: /* NOP always ends so */
    default:
        if (command && command != 0xa1)
            device_unimplemented(u->channel->owner, "ata: command %02x (feature %02x)", command,
                                 u->feature[0]);
        ata_fail(u, ATA_ABRT, 0);
        break;
    }
}

static void ata_cdrom_command(struct ata_unit *u)
{
    switch (u->command) {
    case 0xa0: atapi_packet_start(u); break;
    case 0xa1:
        memset(u->channel->buffer, 0, ATA_SECTOR);
        atapi_identify(u, u->channel->buffer);
        ata_pio_reply(u);
        break;
    case 0x20: case 0xec: /* how a host finds out that this is no disk */
        ata_signature(u);
        ata_fail(u, ATA_ABRT, 0);
        break;
    default: ata_fail(u, ATA_ABRT, 0); break;
    }
}

static void ata_execute(struct ata_channel *c, u8 command)
{
    struct ata_unit *u = &c->unit[c->selected];
    if (command == 0x90) {
        ata_diagnostic(c);
        return;
    }
    if (!u->drive) return;
    if (command == 0x08 && u->cdrom) { /* DEVICE RESET is heard even when busy; no interrupt */
        u8 device = u->device;
        ata_unit_reset(u);
        u->device = device & DEVICE_SELECT;
        ata_update_irq(c);
        return;
    }
    if (u->status & (ATA_BSY | ATA_DRQ)) {
        guest_error(c->owner, "ata%u: command %02x while busy", c->index, command);
        return;
    }
    u->command = command;
    u->irq = 0;
    ata_update_irq(c);
    u->error = 0;
    u->status = ATA_DRDY | ATA_DSC;
    switch (command) {
    case 0x94 ... 0x97: case 0xe0 ... 0xe3: ata_complete(u); break; /* STANDBY, IDLE */
    case 0x98: case 0xe5:                                           /* CHECK POWER MODE: active */
        u->count[0] = 0xff;
        ata_complete(u);
        break;
    case 0x99: case 0xe6: ata_complete(u); break; /* SLEEP */
    case 0xef: ata_set_features(u); break;
    default:
        if (u->cdrom)
            ata_cdrom_command(u);
        else
            ata_disk_command(u);
        break;
    }
}

/* --- registers ------------------------------------------------------------------------------ */

static u64 ata_data_read(struct ata_unit *u, unsigned size)
{
    u64 value = 0;
    if (!u->drive || u->phase != ATA_PIO_IN || !(u->status & ATA_DRQ)) return 0;
    for (unsigned i = 0; i < size && u->position < u->block_end; i++)
        value |= (u64)u->channel->buffer[u->position++] << 8 * i;
    if (u->position >= u->block_end) ata_block_done(u);
    return value;
}

static void ata_data_write(struct ata_unit *u, u64 value, unsigned size)
{
    if (!u->drive || !(u->status & ATA_DRQ)) return;
    if (u->phase != ATA_PIO_OUT && u->phase != ATA_PACKET) return;
    u8 *to = u->phase == ATA_PACKET ? u->packet : u->channel->buffer;
    for (unsigned i = 0; i < size && u->position < u->block_end; i++)
        to[u->position++] = (u8)(value >> 8 * i);
    if (u->position >= u->block_end) ata_block_done(u);
}

static u8 ata_status(struct ata_channel *c)
{
    return c->unit[c->selected].drive ? c->unit[c->selected].status : 0;
}

u8 ata_alternate_status(struct ata_channel *c)
{
    return ata_status(c);
}

u64 ata_read(struct ata_channel *c, unsigned offset, unsigned size)
{
    struct ata_unit *u = &c->unit[c->selected];
    unsigned high = c->control & CONTROL_HOB ? 1 : 0;
    if (offset == 0) return ata_data_read(u, size);
    if (!c->unit[0].drive && !c->unit[1].drive) return offset == 7 ? 0 : size_mask(size);
    /* On real cables the drive that is there answers for the one that isn't: guests saw ghosts. */
    if (!u->drive && offset != 6) return 0;
    switch (offset) {
    case 1: return u->error;
    case 2: return u->count[high];
    case 3: return u->lba_low[high];
    case 4: return u->lba_mid[high];
    case 5: return u->lba_high[high];
    case 6: return (u->device & ~DEVICE_SELECT) | 0xa0 | (c->selected ? DEVICE_SELECT : 0);
    default: {
        u8 status = ata_status(c);
        u->irq = 0;
        ata_update_irq(c);
        return status;
    }
    }
}

static void shift_in(u8 reg[2], u8 value)
{
    reg[1] = reg[0];
    reg[0] = value;
}

void ata_write(struct ata_channel *c, unsigned offset, u64 value, unsigned size)
{
    u8 byte = (u8)value;
    if (offset == 0) {
        ata_data_write(&c->unit[c->selected], value, size);
        return;
    }
    c->control &= (u8)~CONTROL_HOB;
    if (offset == 7) {
        ata_execute(c, byte);
        return;
    }
    if (c->unit[c->selected].drive && (c->unit[c->selected].status & (ATA_BSY | ATA_DRQ))) return;
    for (unsigned i = 0; i < 2; i++) {
        struct ata_unit *u = &c->unit[i];
        switch (offset) {
        case 1: shift_in(u->feature, byte); break;
        case 2: shift_in(u->count, byte); break;
        case 3: shift_in(u->lba_low, byte); break;
        case 4: shift_in(u->lba_mid, byte); break;
        case 5: shift_in(u->lba_high, byte); break;
        case 6: u->device = byte; break;
        }
    }
    if (offset == 6) {
        c->selected = byte & DEVICE_SELECT ? 1 : 0;
        ata_update_irq(c);
    }
}

void ata_control(struct ata_channel *c, u8 value)
{
    bool was = c->control & CONTROL_SRST, is = value & CONTROL_SRST;
    c->control = value & (CONTROL_HOB | CONTROL_SRST | CONTROL_NIEN);
    for (unsigned i = 0; i < 2 && was != is; i++) {
        struct ata_unit *u = &c->unit[i];
        if (!u->drive) continue;
        ata_unit_reset(u);
        u->device = 0;
        if (is) u->status = ATA_BSY;
    }
    if (is) c->selected = 0;
    ata_update_irq(c);
}

/* --- verbs ---------------------------------------------------------------------------------- */

void ata_channel_init(struct ata_channel *c, struct device *owner, unsigned index,
                      const struct ata_dma *dma)
{
    c->owner = owner;
    c->index = index;
    c->dma = dma;
    for (unsigned i = 0; i < 2; i++) {
        c->unit[i].channel = c;
        c->unit[i].number = (u8)(index * 2 + i);
    }
}

static void media_changed(void *opaque)
{
    atapi_media_changed(opaque);
}

void ata_attach(struct ata_channel *c, unsigned unit, struct drive *drive, bool cdrom)
{
    struct ata_unit *u = &c->unit[unit & 1];
    u->drive = drive;
    u->cdrom = cdrom;
    if (cdrom) drive_on_media_change(drive, media_changed, u);
}

void ata_channel_reset(struct ata_channel *c)
{
    for (unsigned i = 0; i < 2; i++) {
        struct ata_unit *u = &c->unit[i];
        if (u->drive) ata_unit_reset(u);
        u->device = 0;
        u->multiple = 0;
        u->mode = 0x45;
        u->write_cache = u->look_ahead = u->smart = 1;
        u->attention = u->media_event = 0;
        memset(u->sense, 0, sizeof u->sense);
        if (u->drive && u->locked) drive_lock_tray(u->drive, false);
        u->locked = 0;
        ata_default_geometry(u);
    }
    c->control = 0;
    c->selected = 0;
    ata_update_irq(c);
}

void ata_channel_restored(struct ata_channel *c)
{
    c->selected &= 1;
    for (unsigned i = 0; i < 2; i++) {
        struct ata_unit *u = &c->unit[i];
        u32 most = u->phase == ATA_PACKET ? sizeof u->packet : ATA_BUFFER_SIZE;
        if (u->filled > most) u->filled = most;
        if (u->block_end > u->filled) u->block_end = u->filled;
        if (u->position > u->block_end) u->position = u->block_end;
        if (u->multiple > MULTIPLE_MAX) u->multiple = 0;
        if (u->chunk > CHUNK_SECTORS) u->chunk = CHUNK_SECTORS;
        if (u->chunk > u->remaining) u->chunk = u->remaining;
        if (!u->heads || !u->sectors) ata_default_geometry(u);
        if (!u->drive) continue;
        if (u->locked) drive_lock_tray(u->drive, true);
        /* A request that was with the drive is lost: the guest's driver tries again. */
        bool dma = u->phase == ATA_DMA_IN || u->phase == ATA_DMA_OUT;
        u64 end = drive_size(u->drive) / (u->cdrom ? ATAPI_SECTOR : ATA_SECTOR);
        if (u->phase == ATA_WAIT || (dma && c->dma->started(c->dma->opaque, c->index)) ||
            (u->phase != ATA_IDLE && (u->lba > end || u->remaining > end - u->lba)))
            ata_fail(u, ATA_ABRT, 0);
    }
    c->irq_level = false;
    ata_update_irq(c);
}

void ata_channel_release(struct ata_channel *c)
{
    for (unsigned i = 0; i < 2; i++)
        if (c->unit[i].drive) ata_cancel(&c->unit[i]);
}
