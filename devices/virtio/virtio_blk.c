/*
 * Virtio block device: requests go to the drive straight from guest memory, as many at a time as
 * the queue holds. Specification: Virtual I/O Device 1.1, 5.2.
 *
 * A request whose memory is not all plain RAM, or which is cut oddly, goes through a buffer.
 * Not modelled: several queues, topology, lifetime and zoned commands, SCSI pass-through.
 */
#include "devices/virtio/virtio_pci.h"
#include "machine/drive.h"

#include <errno.h>
#include <stdlib.h>

#define SECTOR 512u
#define BOUNCE_LIMIT MIB(1)
#define ZEROES_CHUNK KIB(64)
#define ZEROES_SECTORS 8192u       /* most in one write-zeroes command: 4 MiB */
#define DISCARD_SECTORS 0x3fffffu
#define ID_LENGTH 20u

enum { BLK_SEG_MAX = 2, BLK_GEOMETRY = 4, BLK_RO = 5, BLK_BLK_SIZE = 6, BLK_FLUSH = 9,
       BLK_CONFIG_WCE = 11, BLK_DISCARD = 13, BLK_WRITE_ZEROES = 14 };

enum { TYPE_IN = 0, TYPE_OUT = 1, TYPE_FLUSH = 4, TYPE_GET_ID = 8, TYPE_DISCARD = 11,
       TYPE_WRITE_ZEROES = 13 };

enum { STATUS_OK = 0, STATUS_IOERR = 1, STATUS_UNSUPP = 2 };

/* Configuration space */
enum { CONFIG_CAPACITY = 0, CONFIG_SEG_MAX = 12, CONFIG_CYLINDERS = 16, CONFIG_HEADS = 18,
       CONFIG_SECTORS = 19, CONFIG_BLK_SIZE = 20, CONFIG_WRITEBACK = 32, CONFIG_QUEUES = 34,
       CONFIG_DISCARD_MAX = 36, CONFIG_DISCARD_SEG = 40, CONFIG_DISCARD_ALIGN = 44,
       CONFIG_ZEROES_MAX = 48, CONFIG_ZEROES_SEG = 52, CONFIG_ZEROES_UNMAP = 56, CONFIG_SIZE = 60 };

#define VIRTIO_BLK_STATE(SCALAR, ARRAY, GROUP, BLOB) SCALAR(u8, writeback)

struct virtio_blk {
    struct virtio_pci proxy;
    STATE_MEMBERS(VIRTIO_BLK_STATE)
    struct drive *drive;
    const char *serial;
    u32 queue_size;
    bool discard;
    u32 generation; /* moves on at a reset: what completes later is nobody's */
    u32 in_flight;
    u8 *zeroes;     /* ZEROES_CHUNK of them */
};

#define STATE_OWNER struct virtio_blk
VIRTIO_PCI_TABLE(virtio_blk, VIRTIO_BLK_STATE)
#undef STATE_OWNER

/* One under way: what completion needs, as the chain it came from is overwritten by the next. */
struct blk_request {
    struct drive_request drive;
    struct virtio_blk *blk;
    u32 generation;
    u16 head;
    bool then_flush;         /* write-through: the write is done, the flush is not */
    u8 *bounce;
    u64 status_address;
    u64 data_length;         /* written into the guest, without the status */
    u32 guest_count;         /* of guest[], where read data went */
    struct virtio_segment *guest;
    struct drive_segment segments[];
};

static struct virtio_blk *blk_of(struct virtio *virtio)
{
    return (struct virtio_blk *)virtio_pci_of(virtio);
}

static struct bus *blk_bus(struct virtio_blk *blk)
{
    return blk->proxy.pci.dev.bus;
}

/* --- completion --- */

static void blk_answer(struct virtio_blk *blk, u16 head, u64 status_address, u8 status, u64 written)
{
    struct virtio *virtio = blk->proxy.core;

    dma_write(blk_bus(blk), status_address, &status, 1);
    virtqueue_push(virtio, &virtio->queues[0], head, (u32)(written + 1));
}

static void blk_free(struct blk_request *request)
{
    free(request->bounce);
    free(request->guest);
    free(request);
}

static void blk_hand_over(struct blk_request *request)
{
    struct bus *bus = blk_bus(request->blk);
    u8 *from = request->bounce;
    u32 i;

    for (i = 0; i < request->guest_count; i++) {
        const struct virtio_segment *segment = &request->guest[i];
        if (from) {
            dma_write(bus, segment->address, from, segment->length);
            from += segment->length;
        } else {
            dma_wrote(bus, segment->address, segment->length);
        }
    }
}

static void blk_done(struct drive_request *drive_request, int error)
{
    struct blk_request *request = container_of(drive_request, struct blk_request, drive);
    struct virtio_blk *blk = request->blk;
    u8 status = error == 0 ? STATUS_OK : error == ENOTSUP ? STATUS_UNSUPP : STATUS_IOERR;

    if (request->generation == blk->generation && request->then_flush && !error) {
        request->then_flush = false;
        drive_request->op = DRIVE_FLUSH;
        drive_request->offset = drive_request->length = 0;
        drive_request->segment_count = 0;
        drive_submit(blk->drive, drive_request);
        return;
    }
    blk->in_flight--;
    /* Even what a reset forgot went into guest memory. */
    if (!request->bounce || request->generation == blk->generation) blk_hand_over(request);
    if (request->generation == blk->generation)
        blk_answer(blk, request->head, request->status_address, status,
                   error ? 0 : request->data_length);
    blk_free(request);
}

static void blk_submit(struct blk_request *request, enum drive_op op, u64 offset, u64 length)
{
    struct virtio_blk *blk = request->blk;

    request->drive.op = op;
    request->drive.offset = offset;
    request->drive.length = length;
    request->drive.segments = request->segments;
    request->drive.done = blk_done;
    request->drive.opaque = blk;
    request->then_flush = op == DRIVE_WRITE && !blk->writeback;
    blk->in_flight++;
    drive_submit(blk->drive, &request->drive);
}

/* --- memory --- */

static struct blk_request *blk_new(struct virtio_blk *blk, const struct virtio_chain *chain,
                                   u64 status_address, unsigned segments)
{
    struct blk_request *request =
        calloc(1, sizeof *request + segments * sizeof *request->segments);

    if (!request) return NULL;
    request->blk = blk;
    request->generation = blk->generation;
    request->head = chain->head;
    request->status_address = status_address;
    return request;
}

/* Maps the chain's data bytes, LENGTH of them behind SKIP; false when some are not plain RAM. */
static bool blk_map(struct blk_request *request, const struct virtio_segment *segment,
                    unsigned count, u64 skip, u64 length, bool write)
{
    unsigned used = 0;

    for (; count && length; count--, segment++) {
        u64 part, got;
        u8 *host;
        if (skip >= segment->length) {
            skip -= segment->length;
            continue;
        }
        part = got = segment->length - skip < length ? segment->length - skip : length;
        host = dma_map(blk_bus(request->blk), segment->address + skip, &got, write);
        if (!host || got < part) return false;
        if (write) {
            request->guest[request->guest_count].address = segment->address + skip;
            request->guest[request->guest_count++].length = (u32)part;
        }
        if (used &&
            (u8 *)request->segments[used - 1].base + request->segments[used - 1].length == host) {
            request->segments[used - 1].length += part;
        } else {
            request->segments[used].base = host;
            request->segments[used++].length = part;
        }
        length -= part;
        skip = 0;
    }
    request->drive.segment_count = used;
    return length == 0;
}

/* The same through a buffer. */
static bool blk_bounce(struct blk_request *request, const struct virtio_chain *chain, u64 skip,
                       u64 length, bool write)
{
    struct virtio *virtio = request->blk->proxy.core;
    const struct virtio_segment *segment = chain->segments + chain->out_count;
    u64 left = length;

    if (length > BOUNCE_LIMIT || !(request->bounce = calloc(1, length))) return false;
    request->segments[0].base = request->bounce;
    request->segments[0].length = length;
    request->drive.segment_count = 1;
    request->guest_count = 0;
    if (!write) return virtio_gather(virtio, chain, skip, request->bounce, length) == length;
    for (; left; segment++) {
        u32 part = segment->length < left ? segment->length : (u32)left;
        request->guest[request->guest_count].address = segment->address;
        request->guest[request->guest_count++].length = part;
        left -= part;
    }
    return true;
}

/* --- commands --- */

/* Reading from the drive WRITEs to the guest. False: the status is an I/O error. */
static bool blk_transfer(struct virtio_blk *blk, const struct virtio_chain *chain, u64 sector,
                         u64 status_address, bool write)
{
    u64 length = write ? chain->in_length - 1 : chain->out_length - 16;
    u64 size = drive_size(blk->drive) / SECTOR * SECTOR, skip = write ? 0 : 16;
    unsigned count = write ? chain->in_count : chain->out_count;
    const struct virtio_segment *segments = chain->segments + (write ? chain->out_count : 0);
    struct blk_request *request;

    if (length % SECTOR || sector > size / SECTOR || length > size - sector * SECTOR) {
        guest_error(&blk->proxy.pci.dev, "virtio-blk: %llu bytes at sector %llu of %llu",
                    (unsigned long long)length, (unsigned long long)sector,
                    (unsigned long long)(size / SECTOR));
        return false;
    }
    if (!write && drive_read_only(blk->drive)) return false;
    if (length == 0) {
        blk_answer(blk, chain->head, status_address, STATUS_OK, 0);
        return true;
    }
    request = blk_new(blk, chain, status_address, count + 1);
    if (!request) return false;
    if (write && !(request->guest = calloc(count + 1, sizeof *request->guest))) goto failed;
    if (!blk_map(request, segments, count, skip, length, write) &&
        !blk_bounce(request, chain, skip, length, write))
        goto failed;
    request->data_length = write ? length : 0;
    blk_submit(request, write ? DRIVE_READ : DRIVE_WRITE, sector * SECTOR, length);
    return true;
failed:
    blk_free(request);
    return false;
}

static bool blk_flush(struct virtio_blk *blk, const struct virtio_chain *chain, u64 status_address)
{
    struct blk_request *request = blk_new(blk, chain, status_address, 0);

    if (!request) return false;
    blk_submit(request, DRIVE_FLUSH, 0, 0);
    return true;
}

static bool blk_write_zeroes(struct virtio_blk *blk, struct blk_request *request, u64 offset,
                             u64 length)
{
    u64 left = length;
    unsigned i = 0;

    if (!blk->zeroes && !(blk->zeroes = calloc(1, ZEROES_CHUNK))) return false;
    for (; left; i++) {
        u64 part = left < ZEROES_CHUNK ? left : ZEROES_CHUNK;
        request->segments[i].base = blk->zeroes;
        request->segments[i].length = part;
        left -= part;
    }
    request->drive.segment_count = i;
    blk_submit(request, DRIVE_WRITE, offset, length);
    return true;
}

/* Discard and write-zeroes carry one range: {u64 sector, u32 count, u32 flags}. */
static u8 blk_range(struct virtio_blk *blk, const struct virtio_chain *chain, u64 status_address,
                    bool zeroes)
{
    u64 sectors = drive_size(blk->drive) / SECTOR, sector;
    struct blk_request *request;
    u8 range[16];
    u32 count, flags;

    if (drive_read_only(blk->drive)) return STATUS_IOERR;
    if (chain->out_length != 16 + sizeof range ||
        virtio_gather(blk->proxy.core, chain, 16, range, sizeof range) != sizeof range)
        return STATUS_IOERR;
    sector = ld64(range);
    count = ld32(range + 8);
    flags = ld32(range + 12);
    if (flags & ~(zeroes ? 1u : 0u)) return STATUS_UNSUPP;
    if (sector > sectors || count > sectors - sector) return STATUS_IOERR;
    if (count > (zeroes ? ZEROES_SECTORS : DISCARD_SECTORS)) return STATUS_IOERR;
    request = blk_new(blk, chain, status_address, ZEROES_SECTORS * SECTOR / ZEROES_CHUNK + 1);
    if (!request) return STATUS_IOERR;
    if (!zeroes) {
        blk_submit(request, DRIVE_DISCARD, sector * SECTOR, (u64)count * SECTOR);
    } else if (!blk_write_zeroes(blk, request, sector * SECTOR, (u64)count * SECTOR)) {
        blk_free(request);
        return STATUS_IOERR;
    }
    return STATUS_OK;
}

static const char *blk_serial(struct virtio_blk *blk)
{
    return blk->serial && blk->serial[0] ? blk->serial : drive_serial(blk->drive);
}

static void blk_get_id(struct virtio_blk *blk, const struct virtio_chain *chain, u64 status_address)
{
    char id[ID_LENGTH] = {0};
    u64 room = chain->in_length - 1;
    const char *serial = blk_serial(blk);
    size_t length = strlen(serial);

    memcpy(id, serial, length < ID_LENGTH ? length : ID_LENGTH);
    room = virtio_scatter(blk->proxy.core, chain, 0, id, room < ID_LENGTH ? room : ID_LENGTH);
    blk_answer(blk, chain->head, status_address, STATUS_OK, room);
}

/* Where the chain's last writable byte is. */
static u64 blk_status_address(const struct virtio_chain *chain)
{
    unsigned i = chain->out_count + chain->in_count;

    while (i-- > chain->out_count)
        if (chain->segments[i].length)
            return chain->segments[i].address + chain->segments[i].length - 1;
    return 0;
}

static void blk_request(struct virtio_blk *blk, const struct virtio_chain *chain)
{
    struct virtio *virtio = blk->proxy.core;
    u8 header[16], status = STATUS_OK;
    u64 at, sector;

    if (!chain->in_length ||
        virtio_gather(virtio, chain, 0, header, sizeof header) != sizeof header) {
        virtio_break(virtio, "a request without header or status");
        return;
    }
    at = blk_status_address(chain);
    sector = ld64(header + 8);
    switch (ld32(header)) {
    case TYPE_IN:
        if (!blk_transfer(blk, chain, sector, at, true)) status = STATUS_IOERR;
        break;
    case TYPE_OUT:
        if (!blk_transfer(blk, chain, sector, at, false)) status = STATUS_IOERR;
        break;
    case TYPE_FLUSH:
        if (!blk_flush(blk, chain, at)) status = STATUS_IOERR;
        break;
    case TYPE_GET_ID: blk_get_id(blk, chain, at); break;
    case TYPE_DISCARD:
        status = blk->discard ? blk_range(blk, chain, at, false) : STATUS_UNSUPP;
        break;
    case TYPE_WRITE_ZEROES: status = blk_range(blk, chain, at, true); break;
    default:
        device_unimplemented(virtio->device, "virtio-blk: command %u", ld32(header));
        status = STATUS_UNSUPP;
    }
    if (status != STATUS_OK) blk_answer(blk, chain->head, at, status, 0);
}

/* --- the function --- */

static u64 blk_features(struct virtio *virtio)
{
    struct virtio_blk *blk = blk_of(virtio);
    u64 features = VIRTIO_BIT(BLK_SEG_MAX) | VIRTIO_BIT(BLK_GEOMETRY) | VIRTIO_BIT(BLK_BLK_SIZE) |
                   VIRTIO_BIT(BLK_FLUSH) | VIRTIO_BIT(BLK_CONFIG_WCE);

    if (drive_read_only(blk->drive)) return features | VIRTIO_BIT(BLK_RO);
    features |= VIRTIO_BIT(BLK_WRITE_ZEROES);
    return blk->discard ? features | VIRTIO_BIT(BLK_DISCARD) : features;
}

static void blk_read_config(struct virtio *virtio, u8 *config)
{
    struct virtio_blk *blk = blk_of(virtio);
    u64 sectors = drive_size(blk->drive) / SECTOR, cylinders = sectors / (16 * 63);

    st64(config + CONFIG_CAPACITY, sectors);
    st32(config + CONFIG_SEG_MAX, blk->queue_size - 2);
    st16(config + CONFIG_CYLINDERS, (u16)(cylinders > 16383 ? 16383 : cylinders));
    config[CONFIG_HEADS] = 16;
    config[CONFIG_SECTORS] = 63;
    st32(config + CONFIG_BLK_SIZE, SECTOR);
    config[CONFIG_WRITEBACK] = blk->writeback;
    st16(config + CONFIG_QUEUES, 1);
    st32(config + CONFIG_DISCARD_MAX, DISCARD_SECTORS);
    st32(config + CONFIG_DISCARD_SEG, 1);
    st32(config + CONFIG_DISCARD_ALIGN, 1);
    st32(config + CONFIG_ZEROES_MAX, ZEROES_SECTORS);
    st32(config + CONFIG_ZEROES_SEG, 1);
    config[CONFIG_ZEROES_UNMAP] = 1;
}

static void blk_write_config(struct virtio *virtio, const u8 *config, unsigned offset,
                             unsigned size)
{
    if (offset <= CONFIG_WRITEBACK && offset + size > CONFIG_WRITEBACK &&
        virtio_has(virtio, VIRTIO_BIT(BLK_CONFIG_WCE)))
        blk_of(virtio)->writeback = config[CONFIG_WRITEBACK] & 1;
}

/* A driver that will not flush gets a disk that need not be. */
static void blk_driver_ok(struct virtio *virtio)
{
    if (!virtio_has(virtio, VIRTIO_BIT(BLK_CONFIG_WCE)))
        blk_of(virtio)->writeback = virtio_has(virtio, VIRTIO_BIT(BLK_FLUSH));
}

static void blk_notify(struct virtio *virtio, unsigned index)
{
    struct virtio_queue *queue = &virtio->queues[index];
    struct virtio_chain *chain;
    unsigned served = 0;

    while (served++ < queue->maximum && (chain = virtqueue_pop(virtio, queue)))
        blk_request(blk_of(virtio), chain);
    if (served > queue->maximum) virtio_serve_later(virtio, index);
}

static void blk_reset(struct virtio *virtio)
{
    struct virtio_blk *blk = blk_of(virtio);

    blk->generation++;
    if (blk->in_flight) drive_drain(blk->drive);
    blk->writeback = 1;
}

static const struct virtio_function blk_function = {
    .name = "virtio-blk",
    .id = VIRTIO_ID_BLOCK,
    .pci_class = 0x010000,
    .config_size = CONFIG_SIZE,
    .features = blk_features,
    .read_config = blk_read_config,
    .write_config = blk_write_config,
    .notify = blk_notify,
    .driver_ok = blk_driver_ok,
    .reset = blk_reset,
};

static void blk_medium_changed(void *opaque)
{
    struct virtio_blk *blk = opaque;
    virtio_config_changed(blk->proxy.core);
}

static bool virtio_blk_init(struct device *device, struct error *error)
{
    struct virtio_blk *blk = (struct virtio_blk *)device;

    if (!blk->drive) return error_set(error, "virtio-blk-pci: drive= is missing");
    if (blk->queue_size < 4 || blk->queue_size > VIRTIO_QUEUE_MAX)
        return error_set(error, "virtio-blk-pci: queue-size=%u is not from 4 to %u",
                         blk->queue_size, VIRTIO_QUEUE_MAX);
    blk->writeback = 1;
    if (!virtio_pci_init(&blk->proxy, &blk_function, error) ||
        !virtio_add_queue(blk->proxy.core, 0, (u16)blk->queue_size, error) ||
        !virtio_pci_start(&blk->proxy, error))
        return false;
    drive_on_media_change(blk->drive, blk_medium_changed, blk);
    return true;
}

static void virtio_blk_release(struct device *device)
{
    struct virtio_blk *blk = (struct virtio_blk *)device;

    blk->generation++;
    if (blk->drive && blk->in_flight) drive_drain(blk->drive);
    free(blk->zeroes);
    virtio_pci_release(&blk->proxy);
}

static const struct property virtio_blk_properties[] = {
    VIRTIO_PCI_PROPERTIES,
    {"drive", PROPERTY_DRIVE, offsetof(struct virtio_blk, drive), NULL, "the disk"},
    {"serial", PROPERTY_STRING, offsetof(struct virtio_blk, serial), NULL,
     "what the disk calls itself, 20 characters"},
    {"queue-size", PROPERTY_U32, offsetof(struct virtio_blk, queue_size), "256",
     "entries of the queue"},
    {"discard", PROPERTY_BOOL, offsetof(struct virtio_blk, discard), "on", "offer discard"},
    {NULL, 0, 0, NULL, NULL},
};

const struct device_class virtio_blk_class = {
    .name = "virtio-blk-pci",
    .title = "virtio disk",
    .version = 1,
    .size = sizeof(struct virtio_blk),
    .fields = virtio_blk_fields,
    .properties = virtio_blk_properties,
    .is_pci = true,
    .user_creatable = true,
    .init = virtio_blk_init,
    .reset = virtio_pci_reset,
    .restored = virtio_pci_restored,
    .release = virtio_blk_release,
};
