/*
 * Virtio, whatever carries it: split virtqueues, feature and status negotiation.
 * Specification: Virtual I/O Device 1.1, chapters 2 and 3, and 2.4.5's legacy layout.
 *
 * A function (disk, network card, ...) fills in struct virtio_function, takes chains off a queue
 * with virtqueue_pop, moves bytes with virtio_gather and virtio_scatter, and gives them back with
 * virtqueue_push and virtqueue_notify. A ring that makes no sense breaks the function
 * (DEVICE_NEEDS_RESET): from then on its queues are empty until the driver resets it.
 */
#ifndef DEVICES_VIRTIO_VIRTIO_H
#define DEVICES_VIRTIO_VIRTIO_H

#include "machine/device.h"

#define VIRTIO_QUEUES 4           /* most a function has here */
#define VIRTIO_QUEUE_MAX 1024     /* entries of a queue */
#define VIRTIO_SEGMENTS 1024      /* of a chain */
#define VIRTIO_NO_VECTOR 0xffff

enum {
    VIRTIO_ID_NET = 1, VIRTIO_ID_BLOCK = 2, VIRTIO_ID_CONSOLE = 3, VIRTIO_ID_RNG = 4,
    VIRTIO_ID_BALLOON = 5,
};

enum {
    VIRTIO_STATUS_ACKNOWLEDGE = 1, VIRTIO_STATUS_DRIVER = 2, VIRTIO_STATUS_DRIVER_OK = 4,
    VIRTIO_STATUS_FEATURES_OK = 8, VIRTIO_STATUS_NEEDS_RESET = 64, VIRTIO_STATUS_FAILED = 128,
};

#define VIRTIO_BIT(n) ((u64)1 << (n))
#define VIRTIO_F_ANY_LAYOUT VIRTIO_BIT(27)   /* legacy */
#define VIRTIO_F_INDIRECT_DESC VIRTIO_BIT(28)
#define VIRTIO_F_EVENT_IDX VIRTIO_BIT(29)
#define VIRTIO_F_VERSION_1 VIRTIO_BIT(32)

#define VIRTIO_QUEUE_STATE(SCALAR, ARRAY, GROUP, BLOB)                                             \
    SCALAR(u16, size)                                                                              \
    SCALAR(u16, vector)                                                                            \
    SCALAR(u8, enabled)                                                                            \
    SCALAR(u64, descriptors)                                                                       \
    SCALAR(u64, available)                                                                         \
    SCALAR(u64, used)                                                                              \
    SCALAR(u16, next_available)                                                                    \
    SCALAR(u16, next_used)     /* filled so far */                                                 \
    SCALAR(u16, told_used)     /* next_used when the driver was last interrupted for it */         \
    SCALAR(u8, told_valid)

struct virtio_segment {
    u64 address;
    u32 length;
};

/* A chain: OUT_COUNT segments the device reads, then IN_COUNT that it writes. */
struct virtio_chain {
    u16 head;
    u16 out_count, in_count;
    u64 out_length, in_length;
    struct virtio_segment segments[VIRTIO_SEGMENTS];
};

struct virtio_queue {
    STATE_MEMBERS(VIRTIO_QUEUE_STATE)
    u16 maximum;                /* entries; 0: no such queue. Set by virtio_add_queue */
    struct virtio_chain *chain; /* the one virtqueue_pop filled last */
};

#define VIRTIO_STATE(SCALAR, ARRAY, GROUP, BLOB)                                                   \
    SCALAR(u64, driver_features)                                                                   \
    SCALAR(u8, status)                                                                             \
    SCALAR(u8, broken)                                                                             \
    SCALAR(u8, generation)     /* of the configuration space */                                    \
    SCALAR(u16, config_vector)                                                                     \
    SCALAR(u8, pending)        /* queues to be served by virtio_serve_later's timer */             \
    GROUP(virtio_queue, queues, VIRTIO_QUEUES)

struct virtio;

struct virtio_function {
    const char *name;
    u16 id;            /* VIRTIO_ID_ */
    u32 pci_class;
    u16 config_size;
    u64 (*features)(struct virtio *virtio); /* offered, without the core's own */
    void (*read_config)(struct virtio *virtio, u8 *config); /* fills config_size bytes */
    /* Bytes [offset, offset+size) of CONFIG, the current contents, are new. May be NULL. */
    void (*write_config)(struct virtio *virtio, const u8 *config, unsigned offset, unsigned size);
    void (*notify)(struct virtio *virtio, unsigned queue); /* there may be chains; DRIVER_OK is
                                                              set */
    void (*driver_ok)(struct virtio *virtio); /* the driver is up; may be NULL */
    void (*reset)(struct virtio *virtio);     /* queues are about to go: drop all under way */
};

struct virtio_transport {
    void (*queue_interrupt)(struct virtio *virtio, struct virtio_queue *queue);
    void (*config_interrupt)(struct virtio *virtio);
    bool (*can_dma)(struct virtio *virtio);
};

struct virtio {
    STATE_MEMBERS(VIRTIO_STATE)
    struct device *device;
    const struct virtio_function *function;
    const struct virtio_transport *transport;
    bool offer_modern;
    struct timer later; /* not saved: virtio_restored */
};

extern const struct state_field virtio_fields[];

/* --- for functions --- */

bool virtio_init(struct virtio *virtio, struct device *device,
                 const struct virtio_function *function, const struct virtio_transport *transport,
                 struct error *error);
bool virtio_add_queue(struct virtio *virtio, unsigned index, u16 maximum, struct error *error);
void virtio_release(struct virtio *virtio);

static inline bool virtio_has(const struct virtio *virtio, u64 feature)
{
    return (virtio->driver_features & feature) != 0;
}
static inline bool virtio_running(const struct virtio *virtio)
{
    return (virtio->status & VIRTIO_STATUS_DRIVER_OK) && !virtio->broken;
}

/* The next chain, in queue->chain until the next pop; NULL when there is none (the driver will
 * notify when there is). */
struct virtio_chain *virtqueue_pop(struct virtio *virtio, struct virtio_queue *queue);
/* Gives the last COUNT chains popped back, unused. */
void virtqueue_unpop(struct virtio_queue *queue, unsigned count);
bool virtqueue_is_empty(struct virtio *virtio, struct virtio_queue *queue);

/* Returns chain HEAD with WRITTEN bytes in it. The driver sees it at virtqueue_publish. */
void virtqueue_fill(struct virtio *virtio, struct virtio_queue *queue, u16 head, u32 written);
void virtqueue_unfill(struct virtio_queue *queue, unsigned count);
/* Shows what was filled; interrupts if the driver wants it. */
void virtqueue_publish(struct virtio *virtio, struct virtio_queue *queue);
void virtqueue_push(struct virtio *virtio, struct virtio_queue *queue, u16 head, u32 written);

/* Copies between a chain's bytes from OFFSET on and host memory; returns how many there were. */
u64 virtio_gather(struct virtio *virtio, const struct virtio_chain *chain, u64 offset, void *to,
                  u64 length);
u64 virtio_scatter(struct virtio *virtio, const struct virtio_chain *chain, u64 offset,
                   const void *from, u64 length);

/* The driver did what no driver may. */
void virtio_break(struct virtio *virtio, const char *format, ...) PRINTF(2, 3);
/* Calls notify for QUEUE soon, on the I/O thread: so no guest keeps a processor's thread for
 * long. */
void virtio_serve_later(struct virtio *virtio, unsigned queue);
void virtio_config_changed(struct virtio *virtio);

/* --- for transports --- */

u64 virtio_offered(struct virtio *virtio);
void virtio_set_status(struct virtio *virtio, u8 status, bool modern);
void virtio_kick(struct virtio *virtio, unsigned queue);
/* The legacy layout of a queue at ADDRESS; 0 disables it. */
void virtqueue_place_legacy(struct virtio_queue *queue, u64 address);
bool virtqueue_enable(struct virtio *virtio, struct virtio_queue *queue);
void virtio_reset(struct virtio *virtio);
void virtio_restored(struct virtio *virtio);
void virtio_config_read(struct virtio *virtio, u32 offset, void *to, unsigned size);
void virtio_config_write(struct virtio *virtio, u32 offset, const void *from, unsigned size);

#endif
