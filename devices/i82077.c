/*
 * 82077AA floppy disk controller with two drives at 3F0h-3F5h and 3F7h.
 * Specification: Intel 290166 (82077AA).
 *
 * Deviations: every read and write seeks by itself, implied seek enabled or not (firmware written
 * for emulators relies on it); seeks, and the answers that need no data, take a fixed short time; a
 * drive without a medium answers "missing address mark" at once instead of waiting for an index
 * pulse; a track is always formatted as a whole in the medium's own geometry; sectors written with
 * deleted data marks come back as ordinary ones.
 * Not modelled: sectors of other than 512 bytes, SCAN commands, tape, FIFO thresholds (a byte is
 * always ready), PS/2 and Model 30 register differences, power-down.
 */
#include "devices/i82077.h"

#include "devices/i8237.h"
#include "machine/drive.h"

#include <stdlib.h>

enum { REG_SRA, REG_SRB, REG_DOR, REG_TDR, REG_MSR, REG_FIFO, REG_DIR = 7 };

enum {
    SRA_INTERRUPT = 0x80,
    SRA_NO_DRIVE2 = 0x40,
    SRA_NOT_TRACK0 = 0x10,
    SRA_NOT_INDEX = 0x04,
    SRA_NOT_PROTECTED = 0x02,
    DOR_NOT_RESET = 0x04,
    DOR_DMA_GATE = 0x08,
    MSR_READY = 0x80,
    MSR_TO_HOST = 0x40,
    MSR_NON_DMA = 0x20,
    MSR_BUSY = 0x10,
    DSR_RESET = 0x80,
    DIR_CHANGED = 0x80,
    ST0_ABNORMAL = 0x40,
    ST0_INVALID = 0x80,
    ST0_POLLED = 0xc0,
    ST0_SEEK_END = 0x20,
    ST0_EQUIPMENT = 0x10,
    ST1_END_OF_TRACK = 0x80,
    ST1_DATA_ERROR = 0x20,
    ST1_OVERRUN = 0x10,
    ST1_NO_DATA = 0x04,
    ST1_NOT_WRITABLE = 0x02,
    ST1_NO_ADDRESS_MARK = 0x01,
    ST2_DELETED = 0x40,
    ST2_DATA_ERROR = 0x20,
    ST2_WRONG_CYLINDER = 0x10,
    ST3_PROTECTED = 0x40,
    ST3_READY = 0x20,
    ST3_TRACK0 = 0x10,
    ST3_TWO_SIDED = 0x08,
    CONFIG_DEFAULT = 0x20, /* EFIFO: the FIFO is off */
    CONFIG_LOCKED = 0x2f,  /* what LOCK protects: EFIFO and the threshold */
    COMMAND_MULTI_TRACK = 0x80,
    COMMAND_SKIP = 0x20,
};

enum phase { PHASE_COMMAND, PHASE_BUSY, PHASE_RESULT, PHASE_HOST_READS, PHASE_HOST_WRITES };

/* What the timer brings. */
enum { EVENT_RESET_DONE = 1, EVENT_SEEK_DONE = 2, EVENT_RESULT = 4 };

#define DRIVES 2
#define UNITS 4
#define SECTOR 512
#define BUFFER (2 * 36 * SECTOR)
#define DMA_CHANNEL 2
#define RESET_NS 20000
#define SEEK_NS 1000000
#define RESULT_NS 200000

#define I82077_STATE(SCALAR, ARRAY, GROUP, BLOB)                                                   \
    SCALAR(u8, dor)                                                                                \
    SCALAR(u8, tdr)                                                                                \
    SCALAR(u8, rate)                                                                               \
    SCALAR(u8, irq)                                                                                \
    SCALAR(u8, phase)                                                                              \
    ARRAY(u8, fifo, 16)        /* command or result bytes */                                       \
    SCALAR(u8, fifo_position)                                                                      \
    SCALAR(u8, fifo_length)                                                                        \
    SCALAR(u8, events)                                                                             \
    SCALAR(u64, event_at)                                                                          \
    ARRAY(u8, specify, 2)                                                                          \
    SCALAR(u8, config)                                                                             \
    SCALAR(u8, precompensation)                                                                    \
    SCALAR(u8, perpendicular)                                                                      \
    SCALAR(u8, lock)                                                                               \
    SCALAR(u8, last_eot)       /* for DUMPREG */                                                   \
    SCALAR(u8, polls_pending)  /* units whose "ready changed" status after reset isn't sensed */   \
    ARRAY(u8, track, UNITS)                                                                        \
    ARRAY(u8, changed, UNITS)                                                                      \
    ARRAY(u8, seek_status, UNITS) /* ST0 for SENSE INTERRUPT; 0: none */                           \
    SCALAR(u8, seeking)        /* one bit a unit */                                                \
    SCALAR(u8, command)        /* the running data command and its parameters */                   \
    SCALAR(u8, unit)                                                                               \
    SCALAR(u8, cylinder)                                                                           \
    SCALAR(u8, head)                                                                               \
    SCALAR(u8, side)           /* of the last sector, which ST0 tells */                           \
    SCALAR(u8, sector)                                                                             \
    SCALAR(u8, eot)                                                                                \
    SCALAR(u8, end_status)     /* ST1 when all sectors have moved without a terminal count */      \
    SCALAR(u8, write_status)   /* ST1 when the medium has taken the write */                       \
    SCALAR(u32, position)      /* in the buffer, while the host moves bytes */                     \
    SCALAR(u32, length)                                                                            \
    BLOB(buffer, buffer_size)

struct i82077;

struct i82077_link {
    struct i82077 *fdc;
    unsigned unit;
};

struct i82077 {
    struct device dev;
    STATE_MEMBERS(I82077_STATE)
    struct drive *drive[DRIVES]; /* properties */
    struct region registers, dir_region;
    struct wire irq_wire;        /* set by the board */
    struct device *dma;          /* set by the board */
    struct i82077_link link[DRIVES];
    struct timer event;          /* not saved: i82077_restored */
    struct drive_request request; /* not saved: drives are drained first */
    struct drive_segment segment;
    bool in_flight, abandoned;
};

#define STATE_OWNER struct i82077
STATE_TABLE(i82077, I82077_STATE)
#undef STATE_OWNER

struct format {
    u16 sectors;
    u8 cylinders, heads, sectors_a_track, rate, drive_type;
};

/* clang-format off */
static const struct format formats[] = {
    /* 3.5 inch */
    {2880, 80, 2, 18, 0, 4}, {5760, 80, 2, 36, 3, 5}, {1440, 80, 2,  9, 2, 4},
    {3360, 80, 2, 21, 0, 4}, {3444, 82, 2, 21, 0, 4}, {2988, 83, 2, 18, 0, 4},
    /* 5.25 inch, 40 tracks read in a 1.2M drive */
    {2400, 80, 2, 15, 0, 2}, { 720, 40, 2,  9, 1, 2}, { 640, 40, 2,  8, 1, 2},
    { 360, 40, 1,  9, 1, 2}, { 320, 40, 1,  8, 1, 2},
};
/* clang-format on */

/* The drive of UNIT if there is a medium in it. */
static struct drive *i82077_medium(const struct i82077 *s, unsigned unit)
{
    struct drive *drive = unit < DRIVES ? s->drive[unit] : NULL;
    return drive && drive_has_medium(drive) ? drive : NULL;
}

/* The medium's geometry by its size; an odd size counts as the nearest usual disk that holds it. */
static const struct format *i82077_format(const struct i82077 *s, unsigned unit)
{
    struct drive *drive = i82077_medium(s, unit);
    u64 sectors = drive ? drive_size(drive) / SECTOR : 0;
    for (unsigned i = 0; i < ARRAY_SIZE(formats); i++) {
        if (formats[i].sectors == sectors) return &formats[i];
    }
    return &formats[sectors > 2880 ? 1 : 0];
}

u8 i82077_drive_type(struct device *fdc, unsigned unit)
{
    struct i82077 *s = container_of(fdc, struct i82077, dev);
    if (unit >= DRIVES || !s->drive[unit]) return 0;
    return i82077_format(s, unit)->drive_type;
}

/* --- interrupts and phases --- */

static void i82077_drive_irq(struct i82077 *s)
{
    wire_set(&s->irq_wire, s->irq && (s->dor & DOR_DMA_GATE));
}

static void i82077_set_irq(struct i82077 *s, bool level)
{
    s->irq = level;
    i82077_drive_irq(s);
}

static void i82077_schedule(struct i82077 *s, u8 event, u64 delay)
{
    u64 at = clock_now(s->dev.clock) + delay;
    if (!s->events || at < s->event_at) s->event_at = at;
    s->events |= event;
    timer_set(&s->event, s->event_at);
}

static void i82077_expect_command(struct i82077 *s)
{
    s->phase = PHASE_COMMAND;
    s->fifo_position = s->fifo_length = 0;
}

/* COUNT result bytes are in the FIFO. */
static void i82077_result(struct i82077 *s, unsigned count)
{
    s->phase = PHASE_RESULT;
    s->fifo_position = 0;
    s->fifo_length = count;
}

static void i82077_fill_result(struct i82077 *s, u8 st0, u8 st1, u8 st2)
{
    if (st1 || (st2 & ~ST2_DELETED)) st0 |= ST0_ABNORMAL;
    s->fifo[0] = st0 | s->side << 2 | s->unit;
    s->fifo[1] = st1;
    s->fifo[2] = st2;
    s->fifo[3] = s->cylinder;
    s->fifo[4] = s->head;
    s->fifo[5] = s->sector;
    s->fifo[6] = 2;
    i82077_result(s, 7);
}

static void i82077_finish(struct i82077 *s, u8 st1, u8 st2)
{
    i82077_fill_result(s, 0, st1, st2);
    i82077_set_irq(s, true);
}

/* As i82077_finish, after the time the disk would take. */
static void i82077_finish_later(struct i82077 *s, u8 st1, u8 st2)
{
    i82077_fill_result(s, 0, st1, st2);
    s->phase = PHASE_BUSY;
    i82077_schedule(s, EVENT_RESULT, RESULT_NS);
}

static void i82077_fire(void *opaque)
{
    struct i82077 *s = opaque;
    u8 events = s->events;
    s->events = 0;
    if (events & EVENT_RESET_DONE) {
        s->polls_pending = UNITS;
        i82077_expect_command(s);
        i82077_set_irq(s, true);
    }
    if (events & EVENT_SEEK_DONE) {
        s->seeking = 0;
        i82077_set_irq(s, true);
    }
    if (events & EVENT_RESULT) {
        s->phase = PHASE_RESULT;
        i82077_set_irq(s, true);
    }
}

/* --- reset --- */

static void i82077_abandon(struct i82077 *s)
{
    if (!s->in_flight) return;
    s->abandoned = true;
    for (unsigned i = 0; i < DRIVES; i++) {
        if (s->drive[i]) drive_drain(s->drive[i]);
    }
    s->abandoned = s->in_flight = false;
}

/* Entering reset, by DOR, DSR or the reset pin. */
static void i82077_soft_reset(struct i82077 *s)
{
    i82077_abandon(s);
    timer_cancel(&s->event);
    s->events = 0;
    s->seeking = 0;
    s->polls_pending = 0;
    s->perpendicular = 0;
    s->config = s->lock ? s->config & CONFIG_LOCKED : CONFIG_DEFAULT;
    if (!s->lock) s->precompensation = 0;
    memset(s->track, 0, sizeof s->track);
    memset(s->seek_status, 0, sizeof s->seek_status);
    i82077_expect_command(s);
    i82077_set_irq(s, false);
}

static void i82077_leave_reset(struct i82077 *s)
{
    s->phase = PHASE_BUSY;
    i82077_schedule(s, EVENT_RESET_DONE, RESET_NS);
}

static void i82077_write_dor(struct i82077 *s, u8 value)
{
    u8 old = s->dor;
    s->dor = value;
    if ((old & DOR_NOT_RESET) && !(value & DOR_NOT_RESET)) i82077_soft_reset(s);
    if (!(old & DOR_NOT_RESET) && (value & DOR_NOT_RESET)) i82077_leave_reset(s);
    i82077_drive_irq(s);
}

static void i82077_write_dsr(struct i82077 *s, u8 value)
{
    s->rate = value & 3;
    if (!(value & DSR_RESET)) return;
    i82077_soft_reset(s);
    if (s->dor & DOR_NOT_RESET) i82077_leave_reset(s);
}

/* --- moving data --- */

static bool i82077_uses_dma(const struct i82077 *s)
{
    return !(s->specify[1] & 1);
}

static bool i82077_is_write(const struct i82077 *s)
{
    u8 code = s->command & 0x1f;
    return code == 0x05 || code == 0x09 || code == 0x0d;
}

static void i82077_move_head(struct i82077 *s, unsigned unit, u8 track)
{
    if (s->track[unit] != track && i82077_medium(s, unit)) s->changed[unit] = 0;
    s->track[unit] = track;
}

static u64 i82077_offset(const struct i82077 *s)
{
    const struct format *f = i82077_format(s, s->unit);
    return (((u64)s->cylinder * f->heads + s->head) * f->sectors_a_track + s->sector - 1) * SECTOR;
}

/* ST1 for what keeps the command from reaching its track. */
static u8 i82077_track_trouble(const struct i82077 *s)
{
    struct drive *drive = i82077_medium(s, s->unit);
    const struct format *f = i82077_format(s, s->unit);
    if (!drive || f->rate != s->rate) return ST1_NO_ADDRESS_MARK;
    if (i82077_is_write(s) && drive_read_only(drive)) return ST1_NOT_WRITABLE;
    if (s->cylinder >= f->cylinders || s->head >= f->heads) return ST1_NO_DATA;
    return 0;
}

/* How many sectors there are from the current one to where the command must end, which it says in
 * end_status: EOT, or the first sector that doesn't exist. */
static unsigned i82077_sectors_ahead(struct i82077 *s)
{
    const struct format *f = i82077_format(s, s->unit);
    unsigned on_track = f->sectors_a_track, last = s->eot < on_track ? s->eot : on_track, count;
    s->end_status = s->eot > on_track ? ST1_NO_DATA : ST1_END_OF_TRACK;
    if (s->sector == 0 || s->sector > on_track) {
        s->end_status = ST1_NO_DATA;
        return 0;
    }
    /* Sectors past EOT are never met again on the track; the part goes round to its end. */
    count = s->sector <= last ? last - s->sector + 1 : on_track - s->sector + 1;
    if ((s->command & COMMAND_MULTI_TRACK) && s->head == 0 && f->heads == 2 &&
        s->end_status == ST1_END_OF_TRACK && s->sector <= last && last == on_track) {
        count += last;
    }
    u64 size = drive_size(s->drive[s->unit]), offset = i82077_offset(s);
    u64 held = offset < size ? (size - offset) / SECTOR : 0; /* a short image */
    if (held < count) {
        count = held;
        s->end_status = ST1_NO_DATA;
    }
    return count;
}

/* Puts C, H and R behind COUNT more sectors, as the result phase tells them. */
static void i82077_pass(struct i82077 *s, unsigned count)
{
    for (; count; count--) {
        s->side = s->head;
        if (s->sector != s->eot) {
            s->sector++;
            continue;
        }
        s->sector = 1;
        if (!(s->command & COMMAND_MULTI_TRACK)) {
            s->cylinder++;
        } else {
            if (s->head) s->cylinder++;
            s->head ^= 1;
        }
    }
}

static void i82077_read_done(struct i82077 *s);

static void i82077_io_done(struct drive_request *request, int error)
{
    struct i82077 *s = request->opaque;
    s->in_flight = false;
    if (s->abandoned) return;
    if (error) {
        log_to(s->dev.log, LOG_DISK, "%s: drive %u: error %d", s->dev.id, s->unit, error);
        i82077_finish(s, ST1_DATA_ERROR, ST2_DATA_ERROR);
    } else if (i82077_is_write(s)) {
        i82077_finish(s, s->write_status, 0);
    } else {
        i82077_read_done(s);
    }
}

static void i82077_submit(struct i82077 *s, enum drive_op op, u64 offset, u32 length)
{
    struct drive *drive = i82077_medium(s, s->unit);
    u64 size = drive ? drive_size(drive) : 0;
    if (!drive || offset > size || length > size - offset) { /* the medium has gone or changed */
        i82077_finish(s, ST1_NO_ADDRESS_MARK, 0);
        return;
    }
    s->segment = (struct drive_segment){s->buffer, length};
    s->request = (struct drive_request){.op = op,
                                        .offset = offset,
                                        .length = length,
                                        .segments = &s->segment,
                                        .segment_count = 1,
                                        .done = i82077_io_done,
                                        .opaque = s};
    s->phase = PHASE_BUSY;
    s->in_flight = true;
    drive_submit(drive, &s->request);
}

static u32 i82077_dma(struct i82077 *s, bool to_memory, bool *ended)
{
    if (!s->dma) return 0;
    return i8237_transfer(s->dma, DMA_CHANNEL, s->buffer, s->length, to_memory, ended);
}

/* READ DELETED meets ordinary data only: the first sector moves and ends the command. */
static u8 i82077_mark_status(const struct i82077 *s)
{
    return (s->command & 0x1f) == 0x0c ? ST2_DELETED : 0;
}

/* The sectors are in the buffer. */
static void i82077_read_done(struct i82077 *s)
{
    if (!i82077_uses_dma(s)) {
        s->phase = PHASE_HOST_READS;
        s->position = 0;
        i82077_set_irq(s, true);
        return;
    }
    bool ended = false;
    u32 moved = i82077_dma(s, true, &ended);
    u8 st1 = ended ? 0 : moved < s->length ? ST1_OVERRUN : s->end_status;
    i82077_pass(s, (moved + SECTOR - 1) / SECTOR);
    i82077_finish(s, st1, i82077_mark_status(s));
}

/* The host has moved its last byte; without DMA there is no terminal count. */
static void i82077_host_done(struct i82077 *s)
{
    unsigned sectors = s->length / SECTOR;
    if (s->phase == PHASE_HOST_READS) {
        i82077_pass(s, sectors);
        i82077_finish(s, s->end_status, i82077_mark_status(s));
        return;
    }
    i82077_set_irq(s, false);
    u64 offset = i82077_offset(s);
    s->write_status = s->end_status;
    i82077_pass(s, sectors);
    i82077_submit(s, DRIVE_WRITE, offset, s->length);
}

static void i82077_write_by_dma(struct i82077 *s)
{
    bool ended = false;
    u32 moved = i82077_dma(s, false, &ended);
    u32 sectors = (moved + SECTOR - 1) / SECTOR;
    s->write_status = ended ? 0 : moved < s->length ? ST1_OVERRUN : s->end_status;
    if (!sectors) {
        i82077_finish_later(s, s->write_status, 0);
        return;
    }
    /* A terminal count within a sector: the rest of it is written as zeros. */
    memset(s->buffer + moved, 0, sectors * SECTOR - moved);
    u64 offset = i82077_offset(s);
    i82077_pass(s, sectors);
    i82077_submit(s, DRIVE_WRITE, offset, sectors * SECTOR);
}

/* Takes the nine bytes of a data command; false when it has already failed. */
static bool i82077_begin(struct i82077 *s)
{
    s->command = s->fifo[0];
    s->unit = s->fifo[1] & 3;
    s->cylinder = s->fifo[2];
    s->head = s->side = s->fifo[3] & 1;
    s->sector = s->fifo[4];
    s->eot = s->last_eot = s->fifo[6];
    u8 st1 = i82077_track_trouble(s);
    if (!st1 && (s->fifo[5] != 2 || (s->fifo[1] >> 2 & 1) != s->head)) st1 = ST1_NO_DATA;
    if (st1) {
        u8 st2 = st1 == ST1_NO_DATA && s->cylinder != s->track[s->unit] ? ST2_WRONG_CYLINDER : 0;
        i82077_finish_later(s, st1, st2);
        return false;
    }
    i82077_move_head(s, s->unit, s->cylinder);
    return true;
}

static void i82077_cmd_transfer(struct i82077 *s)
{
    if (!i82077_begin(s)) return;
    u8 code = s->command & 0x1f;
    if (code == 0x02) { /* READ TRACK starts behind the index hole */
        s->command &= ~COMMAND_MULTI_TRACK;
        s->sector = 1;
    }
    unsigned sectors = i82077_sectors_ahead(s);
    if (code == 0x0c) {
        if (s->command & COMMAND_SKIP) sectors = 0; /* there's nothing but what's to be skipped */
        if (sectors > 1) sectors = 1, s->end_status = 0;
    }
    s->length = sectors * SECTOR;
    s->position = 0;
    if (!sectors) {
        i82077_finish_later(s, s->end_status, 0);
    } else if (!i82077_is_write(s)) {
        i82077_submit(s, DRIVE_READ, i82077_offset(s), s->length);
    } else if (i82077_uses_dma(s)) {
        i82077_write_by_dma(s);
    } else {
        s->phase = PHASE_HOST_WRITES;
        i82077_set_irq(s, true);
    }
}

/* VERIFY: the sectors have to be there; the last parameter counts them when EC is set. */
static void i82077_cmd_verify(struct i82077 *s)
{
    bool counted = s->fifo[1] & 0x80;
    unsigned wanted = s->fifo[8] ? s->fifo[8] : 256;
    if (!i82077_begin(s)) return;
    unsigned sectors = i82077_sectors_ahead(s);
    bool good = counted ? wanted <= sectors : s->end_status == ST1_END_OF_TRACK;
    i82077_pass(s, counted && wanted < sectors ? wanted : sectors);
    i82077_finish_later(s, good ? 0 : s->end_status, 0);
}

/* The IDs are in the buffer: C, H, R, N each. */
static void i82077_format_track(struct i82077 *s, u8 fill)
{
    const struct format *f = i82077_format(s, s->unit);
    u64 size = drive_size(s->drive[s->unit]);
    for (u32 i = 0; i + 4 <= s->length; i += 4) {
        const u8 *id = s->buffer + i;
        if (id[2] >= 1 && id[2] <= f->sectors_a_track && id[3] == 2) continue;
        device_unimplemented(&s->dev, "i82077: formatting sector %u of size code %u", id[2], id[3]);
        i82077_finish_later(s, ST1_NO_DATA, 0);
        return;
    }
    s->sector = 1;
    u64 offset = i82077_offset(s), length = f->sectors_a_track * SECTOR;
    if (offset + length > size) length = offset < size ? size - offset : 0;
    memset(s->buffer, fill, length);
    s->write_status = 0;
    i82077_submit(s, DRIVE_WRITE, offset, length);
}

static void i82077_cmd_format(struct i82077 *s)
{
    s->command = s->fifo[0];
    s->unit = s->fifo[1] & 3;
    s->head = s->side = s->fifo[1] >> 2 & 1;
    s->cylinder = s->track[s->unit];
    s->sector = s->eot = s->last_eot = s->fifo[3];
    s->end_status = s->fifo[5]; /* kept for the host's last byte */
    s->length = s->fifo[3] * 4;
    s->position = 0;
    u8 st1 = i82077_track_trouble(s);
    bool ended;
    if (st1 || !s->length) {
        i82077_finish_later(s, st1, 0);
    } else if (!i82077_uses_dma(s)) {
        s->phase = PHASE_HOST_WRITES;
        i82077_set_irq(s, true);
    } else if (i82077_dma(s, false, &ended) < s->length) {
        i82077_finish_later(s, ST1_OVERRUN, 0);
    } else {
        i82077_format_track(s, s->end_status);
    }
}

static void i82077_cmd_read_id(struct i82077 *s)
{
    s->command = s->fifo[0];
    s->unit = s->fifo[1] & 3;
    s->head = s->side = s->fifo[1] >> 2 & 1;
    s->cylinder = s->track[s->unit];
    s->sector = 1;
    u8 st1 = i82077_track_trouble(s);
    i82077_finish_later(s, st1 ? ST1_NO_ADDRESS_MARK : 0, 0);
}

/* --- the other commands --- */

static void i82077_seek_to(struct i82077 *s, unsigned unit, u8 track, u8 status)
{
    i82077_move_head(s, unit, track);
    s->seeking |= 1u << unit;
    s->seek_status[unit] = ST0_SEEK_END | status | unit;
    i82077_expect_command(s);
    i82077_schedule(s, EVENT_SEEK_DONE, SEEK_NS);
}

static void i82077_cmd_seek(struct i82077 *s)
{
    i82077_seek_to(s, s->fifo[1] & 3, s->fifo[2], s->fifo[1] & 4);
}

static void i82077_cmd_relative_seek(struct i82077 *s)
{
    unsigned unit = s->fifo[1] & 3;
    int track = s->track[unit] + (s->fifo[0] & 0x40 ? s->fifo[2] : -(int)s->fifo[2]);
    i82077_seek_to(s, unit, track < 0 ? 0 : track > 255 ? 255 : track, s->fifo[1] & 4);
}

static void i82077_cmd_recalibrate(struct i82077 *s)
{
    unsigned unit = s->fifo[1] & 3;
    bool there = unit < DRIVES && s->drive[unit];
    /* With no drive, track 0 is never seen. */
    i82077_seek_to(s, unit, 0, there ? 0 : ST0_ABNORMAL | ST0_EQUIPMENT);
}

/* The first unit whose seek has ended and hasn't been sensed; UNITS when there is none. */
static unsigned i82077_sought(const struct i82077 *s)
{
    unsigned unit = 0;
    while (unit < UNITS && (!s->seek_status[unit] || (s->seeking >> unit & 1))) unit++;
    return unit;
}

static void i82077_cmd_sense_interrupt(struct i82077 *s)
{
    u8 st0 = ST0_INVALID;
    unsigned unit = i82077_sought(s);
    i82077_set_irq(s, false);
    if (s->polls_pending) {
        unit = UNITS - s->polls_pending--;
        st0 = ST0_POLLED | unit;
    } else if (unit < UNITS) {
        st0 = s->seek_status[unit];
        s->seek_status[unit] = 0;
        i82077_set_irq(s, i82077_sought(s) < UNITS); /* the other drive's */
    }
    s->fifo[0] = st0;
    if (st0 == ST0_INVALID) {
        i82077_result(s, 1);
        return;
    }
    s->fifo[1] = s->track[unit];
    i82077_result(s, 2);
}

static void i82077_cmd_sense_drive(struct i82077 *s)
{
    unsigned unit = s->fifo[1] & 3;
    struct drive *drive = i82077_medium(s, unit);
    bool there = unit < DRIVES && s->drive[unit];
    u8 st3 = ST3_READY | (s->fifo[1] & 7);
    if (drive && drive_read_only(drive)) st3 |= ST3_PROTECTED;
    if (there && s->track[unit] == 0) st3 |= ST3_TRACK0;
    if (i82077_format(s, unit)->heads == 2) st3 |= ST3_TWO_SIDED;
    s->fifo[0] = st3;
    i82077_result(s, 1);
}

static void i82077_cmd_specify(struct i82077 *s)
{
    s->specify[0] = s->fifo[1];
    s->specify[1] = s->fifo[2];
    i82077_expect_command(s);
}

static void i82077_cmd_configure(struct i82077 *s)
{
    s->config = s->fifo[2];
    s->precompensation = s->fifo[3];
    i82077_expect_command(s);
}

static void i82077_cmd_perpendicular(struct i82077 *s)
{
    u8 value = s->fifo[1];
    s->perpendicular = value & 0x80 ? value & 0x3f : (s->perpendicular & 0x3c) | (value & 3);
    i82077_expect_command(s);
}

static void i82077_cmd_lock(struct i82077 *s)
{
    s->lock = s->fifo[0] >> 7;
    s->fifo[0] = s->lock << 4;
    i82077_result(s, 1);
}

static void i82077_cmd_dump_registers(struct i82077 *s)
{
    memcpy(s->fifo, s->track, UNITS);
    s->fifo[4] = s->specify[0];
    s->fifo[5] = s->specify[1];
    s->fifo[6] = s->last_eot;
    s->fifo[7] = s->lock << 7 | s->perpendicular;
    s->fifo[8] = s->config;
    s->fifo[9] = s->precompensation;
    i82077_result(s, 10);
}

static void i82077_cmd_version(struct i82077 *s)
{
    s->fifo[0] = 0x90;
    i82077_result(s, 1);
}

static const struct command {
    u8 mask, code, parameters;
    void (*run)(struct i82077 *s);
} commands[] = {
    {0x1f, 0x06, 8, i82077_cmd_transfer}, /* READ DATA */
    {0x3f, 0x05, 8, i82077_cmd_transfer}, /* WRITE DATA */
    {0x1f, 0x0c, 8, i82077_cmd_transfer}, /* READ DELETED DATA */
    {0x3f, 0x09, 8, i82077_cmd_transfer}, /* WRITE DELETED DATA */
    {0x9f, 0x02, 8, i82077_cmd_transfer}, /* READ TRACK */
    {0x1f, 0x16, 8, i82077_cmd_verify},
    {0xbf, 0x0d, 5, i82077_cmd_format},
    {0xbf, 0x0a, 1, i82077_cmd_read_id},
    {0xff, 0x07, 1, i82077_cmd_recalibrate},
    {0xff, 0x0f, 2, i82077_cmd_seek},
    {0xbf, 0x8f, 2, i82077_cmd_relative_seek},
    {0xff, 0x08, 0, i82077_cmd_sense_interrupt},
    {0xff, 0x04, 1, i82077_cmd_sense_drive},
    {0xff, 0x03, 2, i82077_cmd_specify},
    {0xff, 0x13, 3, i82077_cmd_configure},
    {0xff, 0x12, 1, i82077_cmd_perpendicular},
    {0x7f, 0x14, 0, i82077_cmd_lock},
    {0xff, 0x0e, 0, i82077_cmd_dump_registers},
    {0xff, 0x10, 0, i82077_cmd_version},
};

static const struct command *i82077_find(u8 byte)
{
    for (unsigned i = 0; i < ARRAY_SIZE(commands); i++) {
        if ((byte & commands[i].mask) == commands[i].code) return &commands[i];
    }
    return NULL;
}

static void i82077_command_byte(struct i82077 *s, u8 value)
{
    s->fifo[s->fifo_position++] = value;
    const struct command *command = i82077_find(s->fifo[0]);
    if (!command) {
        u8 low = value & 0x1f;
        if (low == 0x11 || low == 0x19 || low == 0x1d) {
            device_unimplemented(&s->dev, "i82077: SCAN (%02xh)", value);
        } else {
            log_to(s->dev.log, LOG_DEVICE, "i82077: invalid command %02xh", value);
        }
        s->fifo[0] = ST0_INVALID;
        i82077_result(s, 1);
    } else if (s->fifo_position > command->parameters) {
        command->run(s);
    }
}

/* --- registers --- */

static void i82077_write_fifo(struct i82077 *s, u8 value)
{
    if (!(s->dor & DOR_NOT_RESET)) return;
    if (s->phase == PHASE_COMMAND) {
        i82077_command_byte(s, value);
    } else if (s->phase == PHASE_HOST_WRITES && s->position < s->length) {
        s->buffer[s->position++] = value;
        if (s->position < s->length) return;
        if ((s->command & 0x1f) == 0x0d) {
            i82077_set_irq(s, false);
            i82077_format_track(s, s->end_status);
        } else {
            i82077_host_done(s);
        }
    } else {
        guest_error(&s->dev, "i82077: byte %02xh when none is expected", value);
    }
}

static u8 i82077_read_fifo(struct i82077 *s)
{
    u8 value = 0;
    if (!(s->dor & DOR_NOT_RESET)) return 0;
    if (s->phase == PHASE_RESULT) {
        value = s->fifo[s->fifo_position++];
        i82077_set_irq(s, false);
        if (s->fifo_position >= s->fifo_length) i82077_expect_command(s);
    } else if (s->phase == PHASE_HOST_READS && s->position < s->length) {
        value = s->buffer[s->position++];
        if (s->position == s->length) i82077_host_done(s);
    } else {
        guest_error(&s->dev, "i82077: byte read when none is ready");
    }
    return value;
}

static u8 i82077_msr(const struct i82077 *s)
{
    if (!(s->dor & DOR_NOT_RESET)) return 0;
    u8 value = s->seeking;
    switch (s->phase) {
    case PHASE_COMMAND: return value | MSR_READY | (s->fifo_position ? MSR_BUSY : 0);
    case PHASE_RESULT: return value | MSR_READY | MSR_TO_HOST | MSR_BUSY;
    case PHASE_HOST_READS: return value | MSR_READY | MSR_TO_HOST | MSR_NON_DMA | MSR_BUSY;
    case PHASE_HOST_WRITES: return value | MSR_READY | MSR_NON_DMA | MSR_BUSY;
    default: return value | (s->events & EVENT_RESET_DONE ? 0 : MSR_BUSY);
    }
}

static u8 i82077_sra(const struct i82077 *s)
{
    unsigned unit = s->dor & 3;
    struct drive *drive = i82077_medium(s, unit);
    u8 value = SRA_NOT_INDEX | (s->irq ? SRA_INTERRUPT : 0);
    if (!s->drive[1]) value |= SRA_NO_DRIVE2;
    if (s->track[unit]) value |= SRA_NOT_TRACK0;
    if (!drive || !drive_read_only(drive)) value |= SRA_NOT_PROTECTED;
    return value;
}

static u8 i82077_dir(const struct i82077 *s)
{
    unsigned unit = s->dor & 3;
    if (unit >= DRIVES || !s->drive[unit]) return 0;
    return s->changed[unit] || !drive_has_medium(s->drive[unit]) ? DIR_CHANGED : 0;
}

static u64 i82077_read(struct device *device, u64 offset, unsigned size)
{
    struct i82077 *s = container_of(device, struct i82077, dev);
    (void)size;
    switch (offset) {
    case REG_SRA: return i82077_sra(s);
    case REG_SRB: return 0xc0 | (s->dor & 1) << 5 | (s->dor >> 4 & 3);
    case REG_DOR: return s->dor;
    case REG_TDR: return s->tdr;
    case REG_MSR: return i82077_msr(s);
    default: return i82077_read_fifo(s);
    }
}

static void i82077_write(struct device *device, u64 offset, u64 value, unsigned size)
{
    struct i82077 *s = container_of(device, struct i82077, dev);
    (void)size;
    switch (offset) {
    case REG_DOR: i82077_write_dor(s, value); break;
    case REG_TDR: s->tdr = value & 3; break;
    case REG_MSR: i82077_write_dsr(s, value); break;
    case REG_FIFO: i82077_write_fifo(s, value); break;
    default: break; /* SRA and SRB are read-only */
    }
}

static u64 i82077_dir_read(struct device *device, u64 offset, unsigned size)
{
    (void)offset, (void)size;
    return i82077_dir(container_of(device, struct i82077, dev));
}

static void i82077_ccr_write(struct device *device, u64 offset, u64 value, unsigned size)
{
    (void)offset, (void)size;
    container_of(device, struct i82077, dev)->rate = value & 3;
}

/* --- device --- */

static void i82077_media_changed(void *opaque)
{
    struct i82077_link *link = opaque;
    link->fdc->changed[link->unit] = 1;
}

void i82077_connect_irq(struct device *fdc, struct wire irq)
{
    container_of(fdc, struct i82077, dev)->irq_wire = irq;
}

void i82077_connect_dma(struct device *fdc, struct device *dma)
{
    container_of(fdc, struct i82077, dev)->dma = dma;
}

static const struct region_ops i82077_ops = {"i82077", i82077_read, i82077_write, 1, 1};
static const struct region_ops i82077_dir_ops = {"i82077-dir", i82077_dir_read, i82077_ccr_write,
                                                 1, 1};

static bool i82077_init(struct device *device, struct error *error)
{
    struct i82077 *s = container_of(device, struct i82077, dev);
    (void)error;
    s->buffer_size = BUFFER;
    s->buffer = calloc(1, BUFFER);
    if (!s->buffer) abort();
    timer_init(&s->event, device->clock, i82077_fire, s);
    for (unsigned i = 0; i < DRIVES; i++) {
        s->link[i] = (struct i82077_link){s, i};
        if (s->drive[i]) drive_on_media_change(s->drive[i], i82077_media_changed, &s->link[i]);
    }
    region_init(&s->registers, device, &i82077_ops, 6);
    region_init(&s->dir_region, device, &i82077_dir_ops, 1);
    bus_map(device->bus, BUS_PORT, &s->registers, 0x3f0, LAYER_DEVICE);
    bus_map(device->bus, BUS_PORT, &s->dir_region, 0x3f0 + REG_DIR, LAYER_DEVICE);
    return true;
}

static void i82077_reset(struct device *device)
{
    struct i82077 *s = container_of(device, struct i82077, dev);
    s->lock = 0;
    i82077_soft_reset(s);
    s->dor = 0;
    s->tdr = 0;
    s->rate = 2; /* 250 kbit/s */
    s->specify[0] = s->specify[1] = 0;
    s->last_eot = 0;
    memset(s->changed, 1, sizeof s->changed);
    i82077_set_irq(s, false);
}

static void i82077_restored(struct device *device)
{
    struct i82077 *s = container_of(device, struct i82077, dev);
    u64 latest = clock_now(device->clock) + SEEK_NS;
    s->unit &= 3, s->head &= 1, s->side &= 1, s->rate &= 3, s->seeking &= 15, s->lock &= 1;
    if (s->polls_pending > UNITS) s->polls_pending = 0;
    if (s->length > BUFFER) s->length = 0;
    bool moving = s->phase >= PHASE_HOST_READS;
    if (s->phase > PHASE_HOST_WRITES || s->fifo_length > 10 || s->fifo_position > 8 ||
        (moving && (s->position >= s->length || !i82077_medium(s, s->unit))) ||
        (s->phase == PHASE_BUSY && !(s->events & (EVENT_RESULT | EVENT_RESET_DONE)))) {
        i82077_expect_command(s); /* nothing sensible, or a request that was never saved */
    }
    if (s->event_at > latest) s->event_at = latest;
    timer_cancel(&s->event);
    if (s->events) timer_set(&s->event, s->event_at);
    i82077_drive_irq(s);
}

static void i82077_release(struct device *device)
{
    struct i82077 *s = container_of(device, struct i82077, dev);
    i82077_abandon(s);
    timer_cancel(&s->event);
    free(s->buffer);
}

static const struct property i82077_properties[] = {
    {"driveA", PROPERTY_DRIVE, offsetof(struct i82077, drive[0]), NULL, "first drive"},
    {"driveB", PROPERTY_DRIVE, offsetof(struct i82077, drive[1]), NULL, "second drive"},
    {NULL, 0, 0, NULL, NULL},
};

const struct device_class i82077_class = {
    .name = "isa-fdc",
    .title = "82077AA floppy controller",
    .version = 1,
    .size = sizeof(struct i82077),
    .fields = i82077_fields,
    .properties = i82077_properties,
    .init = i82077_init,
    .reset = i82077_reset,
    .restored = i82077_restored,
    .release = i82077_release,
};
