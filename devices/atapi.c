/*
 * ATAPI CD/DVD-ROM: the PACKET command and the SCSI commands inside it.
 * Specification: ATA/ATAPI-7; MMC-5, SPC-3. An image is data: one session, one mode 1 track.
 * Not modelled: audio, more tracks or sessions, writing, sub-channel data (answered as zeros),
 * real EDC and ECC bytes in raw sectors, closing the tray from the guest (the user inserts media).
 */
#include "devices/ata.h"

enum { RAW_SECTOR = 2352, LEADIN_FRAMES = 150, CD_MAX_SECTORS = 80 * 60 * 75 };
enum { REASON_COD = 1, REASON_IO = 2 };
enum { KEY_NONE = 0, KEY_NOT_READY = 2, KEY_MEDIUM_ERROR = 3, KEY_ILLEGAL = 5, KEY_ATTENTION = 6 };
enum { ASC_INVALID_COMMAND = 0x20, ASC_OUT_OF_RANGE = 0x21, ASC_INVALID_FIELD = 0x24,
       ASC_MEDIUM_CHANGED = 0x28, ASC_INCOMPATIBLE = 0x30, ASC_NO_MEDIUM = 0x3a,
       ASC_SAVING = 0x39, ASC_REMOVAL_PREVENTED = 0x53, ASC_WRONG_MODE = 0x64,
       ASC_READ_ERROR = 0x11 };
enum { EVENT_NEW_MEDIA = 2, EVENT_REMOVAL = 3 };

static void put_be16(u8 *p, u32 v) { p[0] = (u8)(v >> 8); p[1] = (u8)v; }
static void put_be32(u8 *p, u32 v) { put_be16(p, v >> 16); put_be16(p + 2, v & 0xffff); }
static u32 get_be16(const u8 *p) { return (u32)p[0] << 8 | p[1]; }
static u32 get_be32(const u8 *p) { return get_be16(p) << 16 | get_be16(p + 2); }

static void put_msf(u8 *p, u32 lba)
{
    lba += LEADIN_FRAMES;
    p[0] = (u8)(lba / 75 / 60);
    p[1] = (u8)(lba / 75 % 60);
    p[2] = (u8)(lba % 75);
}

static u32 cd_sectors(const struct ata_unit *u)
{
    u64 n = drive_has_medium(u->drive) ? drive_size(u->drive) / ATAPI_SECTOR : 0;
    return n > 0xfffffff0 ? 0xfffffff0 : (u32)n;
}

static bool is_dvd(const struct ata_unit *u)
{
    return cd_sectors(u) > CD_MAX_SECTORS;
}

/* --- ends of a packet command --------------------------------------------------------------- */

static void atapi_fail(struct ata_unit *u, u8 key, u8 asc)
{
    u->sense[0] = key;
    u->sense[1] = asc;
    u->sense[2] = 0;
    u->count[0] = REASON_IO | REASON_COD;
    ata_fail(u, (u8)(key << 4 | (key == KEY_ILLEGAL ? ATA_ABRT : 0)), 0);
}

static void atapi_good(struct ata_unit *u)
{
    memset(u->sense, 0, sizeof u->sense);
    u->count[0] = REASON_IO | REASON_COD;
    ata_complete(u);
}

/* --- moving data to the host ---------------------------------------------------------------- */

static void atapi_offer_block(struct ata_unit *u)
{
    u32 left = u->filled - u->position, block = u->byte_limit;
    if (block >= left)
        block = left;
    else
        block &= ~1u; /* only the last block may be odd */
    u->block_end = u->position + block;
    u->lba_mid[0] = (u8)block;
    u->lba_high[0] = (u8)(block >> 8);
    u->count[0] = REASON_IO;
    u->phase = ATA_PIO_IN;
    u->status = ATA_DRDY | ATA_DSC | ATA_DRQ;
    ata_interrupt(u);
}

static void atapi_fetch(struct ata_unit *u);

/* The channel's buffer holds `filled` bytes for the host. */
static void atapi_send(struct ata_unit *u)
{
    const struct ata_dma *dma = u->channel->dma;
    u->position = 0;
    if (!u->packet_dma) {
        atapi_offer_block(u);
        return;
    }
    u->phase = ATA_DMA_IN;
    u->status = ATA_BSY | ATA_DRDY | ATA_DSC;
    if (dma->started(dma->opaque, u->channel->index)) atapi_dma_run(u);
}

void atapi_dma_run(struct ata_unit *u)
{
    const struct ata_dma *dma = u->channel->dma;
    if (!u->filled) return; /* the drive is still reading */
    bool ok = dma->copy(dma->opaque, u->channel->index, u->channel->buffer, u->filled, true);
    u->filled = 0;
    if (!ok) {
        dma->finish(dma->opaque, u->channel->index, true);
        u->remaining = 0;
        atapi_fail(u, KEY_ILLEGAL, ASC_INVALID_FIELD);
    } else if (u->remaining) {
        atapi_fetch(u);
    } else {
        dma->finish(dma->opaque, u->channel->index, false);
        atapi_good(u);
    }
}

void atapi_block_done(struct ata_unit *u)
{
    if (u->position < u->filled)
        atapi_offer_block(u);
    else if (u->remaining)
        atapi_fetch(u);
    else
        atapi_good(u);
}

/* A reply of LENGTH bytes in the buffer, of which the host wants no more than ALLOCATION. */
static void atapi_reply(struct ata_unit *u, u32 length, u32 allocation)
{
    u->remaining = 0;
    u->filled = length < allocation ? length : allocation;
    if (u->filled)
        atapi_send(u);
    else
        atapi_good(u);
}

/* --- reading sectors ------------------------------------------------------------------------ */

/* Data sectors at the buffer's start become raw ones, last first so that none is overwritten. */
static void widen_to_raw(struct ata_unit *u, u32 first, u32 count)
{
    u8 *buffer = u->channel->buffer;
    for (u32 i = count; i-- > 0;) {
        u8 *raw = buffer + i * RAW_SECTOR;
        memmove(raw + 16, buffer + i * ATAPI_SECTOR, ATAPI_SECTOR);
        memset(raw + 1, 0xff, 10);
        raw[0] = raw[11] = 0;
        put_msf(raw + 12, first + i);
        raw[15] = 1;
        memset(raw + 16 + ATAPI_SECTOR, 0, RAW_SECTOR - 16 - ATAPI_SECTOR);
    }
}

static void atapi_fetched(struct drive_request *request, int error)
{
    struct ata_unit *u = request->opaque;
    if (!ata_request_done(u)) return;
    if (error) {
        atapi_fail(u, KEY_MEDIUM_ERROR, ASC_READ_ERROR);
        return;
    }
    u->filled = u->chunk * u->raw_size;
    if (u->raw_size == RAW_SECTOR) widen_to_raw(u, (u32)u->lba, u->chunk);
    u->lba += u->chunk;
    u->remaining -= u->chunk;
    u->chunk = 0;
    atapi_send(u);
}

static void atapi_fetch(struct ata_unit *u)
{
    u32 most = u->raw_size == RAW_SECTOR ? ATA_BUFFER_SIZE / RAW_SECTOR
                                         : ATA_BUFFER_SIZE / ATAPI_SECTOR;
    u->chunk = u->remaining < most ? u->remaining : most;
    u->filled = 0;
    u->phase = u->packet_dma ? ATA_DMA_IN : ATA_WAIT;
    if (u->lba + u->remaining > cd_sectors(u)) { /* the medium has gone in between */
        atapi_fail(u, KEY_NOT_READY, ASC_NO_MEDIUM);
        return;
    }
    u64 length = (u64)u->chunk * ATAPI_SECTOR;
    u->segment[0] = (struct drive_segment){u->channel->buffer, length};
    ata_submit(u, DRIVE_READ, u->lba * ATAPI_SECTOR, length, 1, atapi_fetched);
}

static void atapi_read(struct ata_unit *u, u32 lba, u32 count, u16 raw_size)
{
    u32 sectors = cd_sectors(u);
    if (lba > sectors || count > sectors - lba) {
        atapi_fail(u, KEY_ILLEGAL, ASC_OUT_OF_RANGE);
        return;
    }
    u->lba = lba;
    u->remaining = count;
    u->raw_size = raw_size;
    if (count)
        atapi_fetch(u);
    else
        atapi_good(u);
}

static void command_read_cd(struct ata_unit *u)
{
    u32 lba = get_be32(u->packet + 2), count = (u32)u->packet[6] << 16 | get_be16(u->packet + 7);
    u8 type = u->packet[1] >> 2 & 7, parts = u->packet[9] & 0xf8;
    if (type > 2)
        atapi_fail(u, KEY_ILLEGAL, ASC_WRONG_MODE);
    else if (type == 1 && parts)
        atapi_fail(u, KEY_ILLEGAL, ASC_WRONG_MODE);
    else if (count == 0 || parts == 0)
        atapi_good(u);
    else if (parts == 0x10)
        atapi_read(u, lba, count, ATAPI_SECTOR);
    else if (parts == 0xf8)
        atapi_read(u, lba, count, RAW_SECTOR);
    else
        atapi_fail(u, KEY_ILLEGAL, ASC_INVALID_FIELD);
}

/* --- what the drive is ---------------------------------------------------------------------- */

void atapi_signature(struct ata_unit *u)
{
    u->lba_mid[0] = 0x14;
    u->lba_high[0] = 0xeb;
}

void atapi_identify(struct ata_unit *u, u8 *data)
{
    char serial[8] = "LB0000x";
    const char *given = drive_serial(u->drive);
    serial[6] = (char)('1' + u->number);
    st16(data + 0, 0x8580); /* ATAPI, CD-ROM, removable, DRQ within 3 ms, 12-byte packets */
    ata_identify_string(data + 20, given && given[0] ? given : serial, 20);
    st16(data + 40, 3);
    st16(data + 42, 512);
    st16(data + 44, 4);
    ata_identify_string(data + 46, "1.0", 8);
    ata_identify_string(data + 54, "LYREBIRD DVD-ROM", 40);
    st16(data + 2 * 48, 1);
    st16(data + 2 * 49, 0x0b00);
    st16(data + 2 * 53, 0x0007);
    u8 kind = u->mode >> 3, mode = u->mode & 7;
    st16(data + 2 * 62, 0x0007 | (kind == 2 ? 0x100 << mode : 0));
    st16(data + 2 * 63, 0x0007 | (kind == 4 ? 0x100 << mode : 0));
    st16(data + 2 * 64, 0x0003);
    for (unsigned i = 65; i <= 68; i++) st16(data + 2 * i, i < 67 ? 120 : 300);
    st16(data + 2 * 71, 30);
    st16(data + 2 * 72, 30);
    st16(data + 2 * 80, 0x00f0);
    st16(data + 2 * 82, 0x4214); /* NOP, DEVICE RESET, PACKET, removable */
    st16(data + 2 * 83, 0x4000);
    st16(data + 2 * 84, 0x4000);
    st16(data + 2 * 85, 0x4214);
    st16(data + 2 * 87, 0x4000);
    st16(data + 2 * 88, 0x003f | (kind == 8 ? 0x100 << mode : 0));
    st16(data + 2 * 93, 0x6001);
}

static void fill_text(u8 *to, const char *text, unsigned length)
{
    size_t n = strlen(text);
    for (unsigned i = 0; i < length; i++) to[i] = i < n ? (u8)text[i] : ' ';
}

static void command_inquiry(struct ata_unit *u, u8 *reply)
{
    if (u->packet[1] & 1) { /* vital product data: only the list of pages and the serial number */
        const char *given = drive_serial(u->drive);
        reply[0] = 5;
        reply[1] = u->packet[2];
        if (u->packet[2] == 0x00) {
            reply[3] = 2;
            reply[5] = 0x80;
            atapi_reply(u, 6, get_be16(u->packet + 3));
        } else if (u->packet[2] == 0x80) {
            reply[3] = 20;
            fill_text(reply + 4, given && given[0] ? given : "LB00001", 20);
            atapi_reply(u, 24, get_be16(u->packet + 3));
        } else {
            atapi_fail(u, KEY_ILLEGAL, ASC_INVALID_FIELD);
        }
        return;
    }
    reply[0] = 5;    /* CD/DVD */
    reply[1] = 0x80; /* removable */
    reply[3] = 0x21; /* ATAPI, response format 1 */
    reply[4] = 31;
    fill_text(reply + 8, "LYREBIRD", 8);
    fill_text(reply + 16, "DVD-ROM", 16);
    fill_text(reply + 32, "1.0", 4);
    atapi_reply(u, 36, get_be16(u->packet + 3));
}

static void command_request_sense(struct ata_unit *u, u8 *reply)
{
    if (u->sense[0] == KEY_NONE && u->attention) {
        u->sense[0] = KEY_ATTENTION;
        u->sense[1] = ASC_MEDIUM_CHANGED;
        u->attention = 0;
    }
    reply[0] = 0x70;
    reply[2] = u->sense[0];
    reply[7] = 10;
    reply[12] = u->sense[1];
    reply[13] = u->sense[2];
    atapi_reply(u, 18, u->packet[4]);
}

/* --- mode pages ----------------------------------------------------------------------------- */

static u32 mode_page_recovery(u8 *to)
{
    memset(to, 0, 8);
    to[0] = 0x01;
    to[1] = 6;
    to[3] = 5;
    return 8;
}

static u32 mode_page_audio(u8 *to)
{
    memset(to, 0, 16);
    to[0] = 0x0e;
    to[1] = 14;
    to[2] = 4;
    to[8] = 1, to[9] = 0xff;
    to[10] = 2, to[11] = 0xff;
    return 16;
}

static u32 mode_page_capabilities(const struct ata_unit *u, u8 *to)
{
    memset(to, 0, 22);
    to[0] = 0x2a;
    to[1] = 20;
    to[2] = 0x3b;                         /* reads CD-R, CD-RW, method 2, DVD-ROM, DVD-R */
    to[4] = 0x70;                         /* mode 2 forms, multisession */
    to[6] = 0x29 | (u->locked ? 2 : 0);   /* tray loader, ejects, locks */
    put_be16(to + 8, 706 * 4);
    put_be16(to + 10, 2);
    put_be16(to + 12, 512);
    put_be16(to + 14, 706 * 4);
    return 22;
}

static void command_mode_sense(struct ata_unit *u, u8 *reply)
{
    bool ten = u->packet[0] == 0x5a;
    u32 allocation = ten ? get_be16(u->packet + 7) : u->packet[4], length = ten ? 8 : 4;
    u8 page = u->packet[2] & 0x3f;
    if (u->packet[2] >> 6 == 3) {
        atapi_fail(u, KEY_ILLEGAL, ASC_SAVING);
        return;
    }
    if (page != 0x01 && page != 0x0e && page != 0x2a && page != 0x3f) {
        atapi_fail(u, KEY_ILLEGAL, ASC_INVALID_FIELD);
        return;
    }
    if (page == 0x01 || page == 0x3f) length += mode_page_recovery(reply + length);
    if (page == 0x0e || page == 0x3f) length += mode_page_audio(reply + length);
    if (page == 0x2a || page == 0x3f) length += mode_page_capabilities(u, reply + length);
    u8 medium = !drive_has_medium(u->drive) ? 0x70 : 0x01;
    if (ten) {
        put_be16(reply, length - 2);
        reply[2] = medium;
    } else {
        reply[0] = (u8)(length - 1);
        reply[1] = medium;
    }
    atapi_reply(u, length, allocation);
}

/* --- features, events ----------------------------------------------------------------------- */

static u32 put_feature(u8 *to, u16 code, u8 version_flags, const u8 *data, u8 length)
{
    put_be16(to, code);
    to[2] = version_flags;
    to[3] = length;
    memcpy(to + 4, data, length);
    return 4u + length;
}

static void command_get_configuration(struct ata_unit *u, u8 *reply)
{
    bool medium = cd_sectors(u) != 0, dvd = medium && is_dvd(u), cd = medium && !dvd;
    const struct { u16 code; u8 flags, length, data[8]; } feature[] = {
        {0x0000, 0x03, 8, {0x00, 0x10, dvd, 0, 0x00, 0x08, cd, 0}},
        {0x0001, 0x0b, 8, {0, 0, 0, 2, 1, 0, 0, 0}},        /* core: ATAPI */
        {0x0002, 0x07, 4, {0, 0, 0, 0}},                    /* morphing */
        {0x0003, 0x03, 4, {0x29, 0, 0, 0}},                 /* removable: tray, eject, lock */
        {0x0010, medium, 8, {0, 0, 8, 0, 0, 1, 0, 0}},      /* random readable, 2 KiB */
        {0x001d, cd, 0, {0}},                               /* multi-read */
        {0x001e, 0x08 | cd, 4, {0, 0, 0, 0}},               /* CD read */
        {0x001f, dvd, 0, {0}},                              /* DVD read */
    };
    u8 kind = u->packet[1] & 3;
    u32 start = get_be16(u->packet + 2), length = 8;
    if (kind == 3) {
        atapi_fail(u, KEY_ILLEGAL, ASC_INVALID_FIELD);
        return;
    }
    for (unsigned i = 0; i < ARRAY_SIZE(feature); i++) {
        if (kind == 2 ? feature[i].code != start : feature[i].code < start) continue;
        if (kind == 1 && !(feature[i].flags & 1)) continue;
        length += put_feature(reply + length, feature[i].code, feature[i].flags, feature[i].data,
                              feature[i].length);
    }
    put_be32(reply, length - 4);
    put_be16(reply + 6, dvd ? 0x10 : cd ? 0x08 : 0);
    atapi_reply(u, length, get_be16(u->packet + 7));
}

static void command_get_event(struct ata_unit *u, u8 *reply)
{
    if (!(u->packet[1] & 1)) { /* asynchronous mode needs queueing */
        atapi_fail(u, KEY_ILLEGAL, ASC_INVALID_FIELD);
        return;
    }
    reply[3] = 0x10; /* classes there are: media */
    if (!(u->packet[4] & 0x10)) {
        put_be16(reply, 2);
        reply[2] = 0x80;
        atapi_reply(u, 4, get_be16(u->packet + 7));
        return;
    }
    put_be16(reply, 6);
    reply[2] = 4;
    reply[4] = u->media_event;
    reply[5] = drive_has_medium(u->drive) ? 2 : 1; /* no medium: the tray is open */
    u->media_event = 0;
    atapi_reply(u, 8, get_be16(u->packet + 7));
}

/* --- what is on the disc -------------------------------------------------------------------- */

static void put_address(u8 *to, u32 lba, bool msf)
{
    to[0] = 0;
    if (msf)
        put_msf(to + 1, lba);
    else
        put_be32(to, lba);
}

static u32 toc_tracks(struct ata_unit *u, u8 *reply, bool msf, u8 start)
{
    u32 length = 4;
    if (start > 1 && start != 0xaa) return 0;
    reply[2] = reply[3] = 1;
    if (start <= 1) {
        reply[length + 1] = 0x14;
        reply[length + 2] = 1;
        put_address(reply + length + 4, 0, msf);
        length += 8;
    }
    reply[length + 1] = 0x14;
    reply[length + 2] = 0xaa;
    put_address(reply + length + 4, cd_sectors(u), msf);
    return length + 8;
}

static u32 toc_raw(struct ata_unit *u, u8 *reply)
{
    u32 length = 4;
    reply[2] = reply[3] = 1;
    static const u8 points[4] = {0xa0, 0xa1, 0xa2, 0x01};
    for (unsigned i = 0; i < sizeof points; i++, length += 11) {
        u8 *entry = reply + length;
        entry[0] = 1;
        entry[1] = 0x14;
        entry[3] = points[i];
        if (points[i] == 0xa2)
            put_msf(entry + 8, cd_sectors(u));
        else if (points[i] == 0x01)
            put_msf(entry + 8, 0);
        else
            entry[8] = 1;
    }
    return length;
}

static void command_read_toc(struct ata_unit *u, u8 *reply)
{
    bool msf = u->packet[1] & 2;
    u8 format = u->packet[2] & 15;
    u32 length = 0;
    if (format == 0) format = u->packet[9] >> 6; /* where it was before MMC */
    switch (format) {
    case 0: length = toc_tracks(u, reply, msf, u->packet[6]); break;
    case 1:
        reply[2] = reply[3] = 1;
        reply[5] = 0x14;
        reply[6] = 1;
        put_address(reply + 8, 0, msf);
        length = 12;
        break;
    case 2: length = toc_raw(u, reply); break;
    }
    if (!length) {
        atapi_fail(u, KEY_ILLEGAL, ASC_INVALID_FIELD);
        return;
    }
    put_be16(reply, length - 2);
    atapi_reply(u, length, get_be16(u->packet + 7));
}

static void command_read_capacity(struct ata_unit *u, u8 *reply)
{
    put_be32(reply, cd_sectors(u) - 1);
    put_be32(reply + 4, ATAPI_SECTOR);
    atapi_reply(u, 8, 8);
}

static void command_disc_information(struct ata_unit *u, u8 *reply)
{
    if (u->packet[1] & 7) {
        atapi_fail(u, KEY_ILLEGAL, ASC_INVALID_FIELD);
        return;
    }
    put_be16(reply, 32);
    reply[2] = 0x0e; /* complete, last session complete */
    reply[3] = reply[4] = reply[5] = reply[6] = 1;
    reply[7] = 0x20; /* unrestricted use */
    atapi_reply(u, 34, get_be16(u->packet + 7));
}

static void command_track_information(struct ata_unit *u, u8 *reply)
{
    u32 address = get_be32(u->packet + 2), sectors = cd_sectors(u);
    u8 type = u->packet[1] & 3;
    bool known = type == 0 ? address < sectors : address == 1 || address == 0xff;
    if (type == 3 || !known) {
        atapi_fail(u, KEY_ILLEGAL, ASC_INVALID_FIELD);
        return;
    }
    put_be16(reply, 34);
    reply[2] = reply[3] = 1;
    reply[5] = 4; /* data track */
    reply[6] = 1; /* mode 1 */
    put_be32(reply + 24, sectors);
    atapi_reply(u, 36, get_be16(u->packet + 7));
}

static void command_read_subchannel(struct ata_unit *u, u8 *reply)
{
    u32 length = 4;
    reply[1] = 0x15; /* no audio status */
    if (u->packet[2] & 0x40) {
        if (u->packet[3] < 1 || u->packet[3] > 3) {
            atapi_fail(u, KEY_ILLEGAL, ASC_INVALID_FIELD);
            return;
        }
        reply[4] = u->packet[3];
        length = u->packet[3] == 1 ? 16 : 24;
        if (u->packet[3] == 1) {
            reply[5] = 0x14;
            reply[6] = reply[7] = 1;
        }
        put_be16(reply + 2, length - 4);
    }
    atapi_reply(u, length, get_be16(u->packet + 7));
}

static void command_dvd_structure(struct ata_unit *u, u8 *reply)
{
    u8 format = u->packet[7];
    u32 length = 0, last = cd_sectors(u) + 0x30000 - 1;
    if (format == 0xff) {
        static const u8 list[12] = {0x00, 0x40, 8, 4, 0x01, 0x40, 0, 8, 0xff, 0x40, 0, 16};
        memcpy(reply + 4, list, sizeof list);
        put_be16(reply + 6, 2052);
        length = 16;
    } else if (!is_dvd(u)) {
        atapi_fail(u, KEY_ILLEGAL, ASC_INCOMPATIBLE);
        return;
    } else if (format == 0) {
        reply[4] = 1;    /* DVD-ROM, version 1 */
        reply[5] = 0x0f; /* 120 mm, rate not given */
        reply[6] = 1;    /* one embossed layer */
        put_be32(reply + 8, 0x30000);
        put_be32(reply + 12, last);
        put_be32(reply + 16, last);
        length = 2052;
    } else if (format == 1) {
        length = 8; /* no copy protection, all regions */
    } else {
        atapi_fail(u, KEY_ILLEGAL, ASC_INVALID_FIELD);
        return;
    }
    put_be16(reply, length - 2);
    atapi_reply(u, length, get_be16(u->packet + 8));
}

/* --- the mechanism -------------------------------------------------------------------------- */

static void command_start_stop(struct ata_unit *u)
{
    bool load_eject = u->packet[4] & 2, start = u->packet[4] & 1;
    if (load_eject && !start) {
        if (u->locked) {
            bool medium = drive_has_medium(u->drive);
            atapi_fail(u, medium ? KEY_ILLEGAL : KEY_NOT_READY, ASC_REMOVAL_PREVENTED);
            return;
        }
        drive_eject(u->drive);
    }
    atapi_good(u);
}

static void command_prevent(struct ata_unit *u)
{
    u->locked = u->packet[4] & 1;
    drive_lock_tray(u->drive, u->locked);
    atapi_good(u);
}

static void command_mechanism(struct ata_unit *u, u8 *reply)
{
    reply[5] = 1;
    atapi_reply(u, 8, get_be16(u->packet + 8));
}

static void command_seek(struct ata_unit *u)
{
    if (get_be32(u->packet + 2) >= cd_sectors(u))
        atapi_fail(u, KEY_ILLEGAL, ASC_OUT_OF_RANGE);
    else
        atapi_good(u);
}

void atapi_media_changed(struct ata_unit *u)
{
    u->attention = drive_has_medium(u->drive); /* a medium gone shows by itself */
    u->media_event = u->attention ? EVENT_NEW_MEDIA : EVENT_REMOVAL;
}

/* --- dispatch ------------------------------------------------------------------------------- */

static bool needs_medium(u8 command)
{
    switch (command) {
    case 0x00: case 0x25: case 0x28: case 0x2b: case 0x42: case 0x43: case 0x51: case 0x52:
    case 0xa8: case 0xad: case 0xb9: case 0xbe:
        return true;
    default:
        return false;
    }
}

static bool tells_attention(u8 command)
{
    switch (command) {
    case 0x03: case 0x12: case 0x46: case 0x4a:
        return false;
    default:
        return true;
    }
}

static void atapi_dispatch(struct ata_unit *u)
{
    u8 *reply = u->channel->buffer;
    const u8 *p = u->packet;
    memset(reply, 0, 4096);
    switch (p[0]) {
    case 0x00: atapi_good(u); break; /* TEST UNIT READY */
    case 0x03: command_request_sense(u, reply); break;
    case 0x12: command_inquiry(u, reply); break;
    case 0x1a: case 0x5a: command_mode_sense(u, reply); break;
    case 0x1b: command_start_stop(u); break;
    case 0x1e: command_prevent(u); break;
    case 0x25: command_read_capacity(u, reply); break;
    case 0x28: atapi_read(u, get_be32(p + 2), get_be16(p + 7), ATAPI_SECTOR); break;
    case 0xa8: atapi_read(u, get_be32(p + 2), get_be32(p + 6), ATAPI_SECTOR); break;
    case 0x2b: command_seek(u); break;
    case 0x42: command_read_subchannel(u, reply); break;
    case 0x43: command_read_toc(u, reply); break;
    case 0x46: command_get_configuration(u, reply); break;
    case 0x4a: command_get_event(u, reply); break;
    case 0x51: command_disc_information(u, reply); break;
    case 0x52: command_track_information(u, reply); break;
    case 0xad: command_dvd_structure(u, reply); break;
    case 0xbb: atapi_good(u); break; /* SET CD SPEED */
    case 0xbd: command_mechanism(u, reply); break;
    case 0xbe: command_read_cd(u); break;
    default:
        device_unimplemented(u->channel->owner, "atapi: command %02x", p[0]);
        atapi_fail(u, KEY_ILLEGAL, ASC_INVALID_COMMAND);
        break;
    }
}

void atapi_packet_run(struct ata_unit *u)
{
    u8 command = u->packet[0];
    u->remaining = u->chunk = u->filled = 0;
    u->status = ATA_BSY | ATA_DRDY | ATA_DSC;
    if (u->attention && tells_attention(command)) {
        u->attention = 0;
        atapi_fail(u, KEY_ATTENTION, ASC_MEDIUM_CHANGED);
    } else if (needs_medium(command) && !cd_sectors(u)) {
        atapi_fail(u, KEY_NOT_READY, ASC_NO_MEDIUM);
    } else {
        if (command != 0x03) memset(u->sense, 0, sizeof u->sense);
        atapi_dispatch(u);
    }
}

void atapi_packet_start(struct ata_unit *u)
{
    u->packet_dma = u->feature[0] & 1;
    u->byte_limit = (u32)u->lba_high[0] << 8 | u->lba_mid[0];
    if (u->byte_limit == 0 || u->byte_limit == 0xffff) u->byte_limit = 0xfffe;
    if (u->byte_limit == 1) u->byte_limit = 2;
    u->count[0] = REASON_COD;
    u->phase = ATA_PACKET;
    u->position = 0;
    u->filled = u->block_end = sizeof u->packet;
    u->status = ATA_DRDY | ATA_DSC | ATA_DRQ;
}
