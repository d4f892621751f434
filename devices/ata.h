/*
 * An ATA channel: two drives, hard disk or CD-ROM, behind one task file. A host adapter
 * (piix3_ide.c) owns the ports, the bus master and the interrupt wire. Thread: machine lock held.
 */
#ifndef DEVICES_ATA_H
#define DEVICES_ATA_H

#include "machine/device.h"
#include "machine/drive.h"

#define ATA_BUFFER_SIZE 32768
#define ATA_SEGMENTS 64
#define ATA_SECTOR 512
#define ATAPI_SECTOR 2048

#define ATA_UNIT_STATE(SCALAR, ARRAY, GROUP, BLOB)                                                 \
    ARRAY(u8, feature, 2) /* [1] is what was written before: LBA48's high-order byte */            \
    ARRAY(u8, count, 2)                                                                            \
    ARRAY(u8, lba_low, 2)                                                                          \
    ARRAY(u8, lba_mid, 2)                                                                          \
    ARRAY(u8, lba_high, 2)                                                                         \
    SCALAR(u8, device)                                                                             \
    SCALAR(u8, status)                                                                             \
    SCALAR(u8, error)                                                                              \
    SCALAR(u8, command)                                                                            \
    SCALAR(u8, irq)                                                                                \
    SCALAR(u8, phase)                                                                              \
    SCALAR(u8, multiple)                                                                           \
    SCALAR(u8, heads)                                                                              \
    SCALAR(u8, sectors)                                                                            \
    SCALAR(u8, mode) /* SET FEATURES transfer mode */                                              \
    SCALAR(u8, write_cache)                                                                        \
    SCALAR(u8, look_ahead)                                                                         \
    SCALAR(u8, smart)                                                                              \
    SCALAR(u64, lba)       /* next sector of the command */                                        \
    SCALAR(u32, remaining) /* sectors of it not yet moved from or to the drive */                  \
    SCALAR(u32, chunk)     /* sectors under way */                                                 \
    SCALAR(u32, position)  /* in the channel's buffer */                                           \
    SCALAR(u32, block_end)                                                                         \
    SCALAR(u32, filled)                                                                            \
    ARRAY(u8, packet, 12)                                                                          \
    SCALAR(u8, packet_dma)                                                                         \
    SCALAR(u32, byte_limit)                                                                        \
    SCALAR(u16, raw_size) /* bytes a CD sector is sent as */                                       \
    ARRAY(u8, sense, 3)                                                                            \
    SCALAR(u8, attention) /* medium changed, not yet told */                                       \
    SCALAR(u8, media_event)                                                                        \
    SCALAR(u8, locked)

struct ata_channel;

struct ata_unit {
    STATE_MEMBERS(ATA_UNIT_STATE)
    /* not saved: attached by the board */
    struct ata_channel *channel;
    struct drive *drive;
    bool cdrom;
    u8 number; /* for a default serial number */
    struct drive_request request;
    struct drive_segment segment[ATA_SEGMENTS];
    bool in_flight, cancelled;
};

/* What the channel wants of its bus master. BYTES is cut to whole SECTORs. */
struct ata_dma {
    void *opaque;
    bool (*started)(void *opaque, unsigned channel);
    /* Next piece of the PRD table as host memory; *BYTES in: wanted, out: found (0: table ended).
     * Returns the number of segments, or -1 where the table points at what is not memory. */
    int (*gather)(void *opaque, unsigned channel, struct drive_segment *to, unsigned most,
                  u64 *bytes, u32 sector, bool to_memory);
    void (*gathered_done)(void *opaque, unsigned channel, bool to_memory);
    /* Moves bytes of ours through the PRD table; false where it ends or is not memory. */
    bool (*copy)(void *opaque, unsigned channel, u8 *bytes, u32 length, bool to_memory);
    void (*finish)(void *opaque, unsigned channel, bool failed);
    void (*interrupt)(void *opaque, unsigned channel, bool level);
};

#define ATA_CHANNEL_STATE(SCALAR, ARRAY, GROUP, BLOB)                                              \
    GROUP(ata_unit, unit, 2)                                                                       \
    SCALAR(u8, control)                                                                            \
    SCALAR(u8, selected)                                                                           \
    ARRAY(u8, buffer, ATA_BUFFER_SIZE)

struct ata_channel {
    STATE_MEMBERS(ATA_CHANNEL_STATE)
    struct device *owner;
    unsigned index;
    const struct ata_dma *dma;
    bool irq_level; /* not saved: ata_channel_restored */
};

extern const struct state_field ata_channel_fields[];

void ata_channel_init(struct ata_channel *channel, struct device *owner, unsigned index,
                      const struct ata_dma *dma);
void ata_attach(struct ata_channel *channel, unsigned unit, struct drive *drive, bool cdrom);
void ata_channel_reset(struct ata_channel *channel);
void ata_channel_restored(struct ata_channel *channel);
void ata_channel_release(struct ata_channel *channel);

/* Command block (OFFSET 0-7) and control block. */
u64 ata_read(struct ata_channel *channel, unsigned offset, unsigned size);
void ata_write(struct ata_channel *channel, unsigned offset, u64 value, unsigned size);
u8 ata_alternate_status(struct ata_channel *channel);
void ata_control(struct ata_channel *channel, u8 value);

/* The bus master's start bit went up; or down, which abandons the transfer. */
void ata_dma_started(struct ata_channel *channel);
void ata_dma_stopped(struct ata_channel *channel);

/* --- between ata.c and atapi.c -------------------------------------------------------------- */

enum ata_phase { ATA_IDLE, ATA_PIO_IN, ATA_PIO_OUT, ATA_PACKET, ATA_DMA_IN, ATA_DMA_OUT, ATA_WAIT };
enum { ATA_BSY = 0x80, ATA_DRDY = 0x40, ATA_DF = 0x20, ATA_DSC = 0x10, ATA_DRQ = 0x08,
       ATA_ERR = 0x01 };
enum { ATA_ABRT = 0x04, ATA_IDNF = 0x10, ATA_UNC = 0x40 };

void ata_interrupt(struct ata_unit *unit);
void ata_complete(struct ata_unit *unit);                 /* good end, with interrupt */
void ata_fail(struct ata_unit *unit, u8 error, u8 extra_status);
void ata_submit(struct ata_unit *unit, enum drive_op op, u64 offset, u64 length,
                unsigned segments, void (*done)(struct drive_request *, int error));
/* Every completion starts with this; false: the command was abandoned meanwhile. */
bool ata_request_done(struct ata_unit *unit);
void ata_identify_string(u8 *to, const char *text, unsigned length);

void atapi_signature(struct ata_unit *unit);
void atapi_identify(struct ata_unit *unit, u8 *data);
void atapi_packet_start(struct ata_unit *unit);  /* command A0h */
void atapi_packet_run(struct ata_unit *unit);    /* twelve bytes have come */
void atapi_block_done(struct ata_unit *unit);    /* the host has read a DRQ block */
void atapi_dma_run(struct ata_unit *unit);
void atapi_media_changed(struct ata_unit *unit);

#endif
