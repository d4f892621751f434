/*
 * Virtqueues, features and status: the part of virtio that knows neither bus nor function.
 * Specification: Virtual I/O Device 1.1, 2.6 (split virtqueues), 2.1 to 2.3, 3.
 *
 * Not modelled: packed virtqueues, notification data, in-order use, queue reset.
 */
#include "devices/virtio/virtio.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { DESC_NEXT = 1, DESC_WRITE = 2, DESC_INDIRECT = 4 };
enum { AVAIL_NO_INTERRUPT = 1 };

#define CONFIG_MAX 256
#define SERVE_DELAY 20000 /* ns */

struct descriptor {
    u64 address;
    u32 length;
    u16 flags, next;
};

#define STATE_OWNER struct virtio_queue
STATE_TABLE(virtio_queue, VIRTIO_QUEUE_STATE)
#undef STATE_OWNER
#define STATE_OWNER struct virtio
const struct state_field virtio_fields[] = {
    VIRTIO_STATE(STATE_F_SCALAR, STATE_F_ARRAY, STATE_F_GROUP, STATE_F_BLOB)
    {NULL, 0, 0, 0, 0, NULL}};
#undef STATE_OWNER

static struct bus *virtio_bus(const struct virtio *virtio)
{
    return virtio->device->bus;
}

void virtio_break(struct virtio *virtio, const char *format, ...)
{
    char text[160];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    guest_error(virtio->device, "%s: %s; waiting for a reset", virtio->function->name, text);
    if (virtio->broken) return;
    virtio->broken = 1;
    if (virtio_has(virtio, VIRTIO_F_VERSION_1)) {
        virtio->status |= VIRTIO_STATUS_NEEDS_RESET;
        virtio->transport->config_interrupt(virtio);
    }
}

/* --- rings --- */

static bool queue_usable(struct virtio *virtio, const struct virtio_queue *queue)
{
    return queue->enabled && queue->size && !virtio->broken && virtio->transport->can_dma(virtio);
}

static u64 used_event_address(const struct virtio_queue *queue)
{
    return queue->available + 4 + 2 * (u64)queue->size;
}

static u64 avail_event_address(const struct virtio_queue *queue)
{
    return queue->used + 4 + 8 * (u64)queue->size;
}

/* How many chains wait; breaks the function when that cannot be. */
static u16 queue_waiting(struct virtio *virtio, struct virtio_queue *queue)
{
    u16 index = dma_ld16(virtio_bus(virtio), queue->available + 2);
    u16 waiting = (u16)(index - queue->next_available);

    if (waiting > queue->size) {
        virtio_break(virtio, "available index %u after %u in a queue of %u", index,
                     queue->next_available, queue->size);
        return 0;
    }
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    return waiting;
}

bool virtqueue_is_empty(struct virtio *virtio, struct virtio_queue *queue)
{
    return !queue_usable(virtio, queue) || queue_waiting(virtio, queue) == 0;
}

/* As above, and the driver is asked to notify when the answer changes. */
static u16 queue_waiting_or_armed(struct virtio *virtio, struct virtio_queue *queue)
{
    u16 waiting = queue_waiting(virtio, queue);

    if (waiting || virtio->broken || !virtio_has(virtio, VIRTIO_F_EVENT_IDX)) return waiting;
    dma_st16(virtio_bus(virtio), avail_event_address(queue), queue->next_available);
    __atomic_thread_fence(__ATOMIC_SEQ_CST); /* the driver may have added one before it saw that */
    return queue_waiting(virtio, queue);
}

static bool load_descriptor(struct virtio *virtio, u64 address, struct descriptor *to)
{
    u8 raw[16];

    if (!dma_read(virtio_bus(virtio), address, raw, sizeof raw)) return false;
    to->address = ld64(raw);
    to->length = ld32(raw + 8);
    to->flags = ld16(raw + 12);
    to->next = ld16(raw + 14);
    return true;
}

static bool chain_add(struct virtio *virtio, struct virtio_chain *chain, const struct descriptor *d)
{
    unsigned count = chain->out_count + chain->in_count;

    if (d->address + d->length < d->address) {
        virtio_break(virtio, "a descriptor wraps around the end of memory");
        return false;
    }
    if (count == VIRTIO_SEGMENTS) {
        virtio_break(virtio, "more than %u descriptors in a chain", VIRTIO_SEGMENTS);
        return false;
    }
    if (d->flags & DESC_WRITE) {
        chain->in_count++;
        chain->in_length += d->length;
    } else if (chain->in_count) {
        virtio_break(virtio, "a readable descriptor behind a writable one");
        return false;
    } else {
        chain->out_count++;
        chain->out_length += d->length;
    }
    chain->segments[count].address = d->address;
    chain->segments[count].length = d->length;
    return true;
}

/* Follows a chain in the table of SIZE descriptors at TABLE. A loop is found by its length. */
static bool chain_walk(struct virtio *virtio, struct virtio_chain *chain, u64 table, u32 size,
                       u32 index, bool indirect)
{
    u32 steps = 0;
    struct descriptor d;

    for (;;) {
        if (index >= size) {
            virtio_break(virtio, "descriptor %u of %u", index, size);
            return false;
        }
        if (steps++ == size) {
            virtio_break(virtio, "a loop of descriptors");
            return false;
        }
        if (!load_descriptor(virtio, table + 16 * (u64)index, &d)) {
            virtio_break(virtio, "descriptors outside memory");
            return false;
        }
        if (d.flags & DESC_INDIRECT) {
            if (indirect || !virtio_has(virtio, VIRTIO_F_INDIRECT_DESC) || (d.flags & DESC_NEXT) ||
                d.length < 16 || d.length % 16 || d.length / 16 > 32768) {
                virtio_break(virtio, "an indirect descriptor of %u bytes where none may be",
                             d.length);
                return false;
            }
            return chain_walk(virtio, chain, d.address, d.length / 16, 0, true);
        }
        if (!chain_add(virtio, chain, &d)) return false;
        if (!(d.flags & DESC_NEXT)) return true;
        index = d.next;
    }
}

struct virtio_chain *virtqueue_pop(struct virtio *virtio, struct virtio_queue *queue)
{
    struct virtio_chain *chain = queue->chain;
    u16 slot;

    if (!queue_usable(virtio, queue) || !queue_waiting_or_armed(virtio, queue)) return NULL;
    slot = queue->next_available & (queue->size - 1);
    chain->head = dma_ld16(virtio_bus(virtio), queue->available + 4 + 2 * (u64)slot);
    chain->out_count = chain->in_count = 0;
    chain->out_length = chain->in_length = 0;
    if (!chain_walk(virtio, chain, queue->descriptors, queue->size, chain->head, false))
        return NULL;
    queue->next_available++;
    return chain;
}

void virtqueue_unpop(struct virtio_queue *queue, unsigned count)
{
    queue->next_available -= (u16)count;
}

void virtqueue_fill(struct virtio *virtio, struct virtio_queue *queue, u16 head, u32 written)
{
    u8 entry[8];
    u16 slot;

    if (!queue_usable(virtio, queue)) return;
    slot = queue->next_used & (queue->size - 1);
    st32(entry, head);
    st32(entry + 4, written);
    dma_write(virtio_bus(virtio), queue->used + 4 + 8 * (u64)slot, entry, sizeof entry);
    queue->next_used++;
}

void virtqueue_unfill(struct virtio_queue *queue, unsigned count)
{
    queue->next_used -= (u16)count;
}

static bool wants_interrupt(struct virtio *virtio, struct virtio_queue *queue)
{
    u16 old = queue->told_used, now = queue->next_used, event;
    bool valid = queue->told_valid;

    if (!virtio_has(virtio, VIRTIO_F_EVENT_IDX))
        return !(dma_ld16(virtio_bus(virtio), queue->available) & AVAIL_NO_INTERRUPT);
    queue->told_used = now;
    queue->told_valid = 1;
    event = dma_ld16(virtio_bus(virtio), used_event_address(queue));
    return !valid || (u16)(now - event - 1) < (u16)(now - old);
}

void virtqueue_publish(struct virtio *virtio, struct virtio_queue *queue)
{
    if (!queue_usable(virtio, queue)) return;
    __atomic_thread_fence(__ATOMIC_RELEASE);
    dma_st16(virtio_bus(virtio), queue->used + 2, queue->next_used);
    __atomic_thread_fence(__ATOMIC_SEQ_CST); /* before looking at what the driver wants */
    if (wants_interrupt(virtio, queue)) virtio->transport->queue_interrupt(virtio, queue);
}

void virtqueue_push(struct virtio *virtio, struct virtio_queue *queue, u16 head, u32 written)
{
    virtqueue_fill(virtio, queue, head, written);
    virtqueue_publish(virtio, queue);
}

/* --- bytes of a chain --- */

static u64 chain_copy(struct virtio *virtio, const struct virtio_segment *segment, unsigned count,
                      u64 offset, u8 *bytes, u64 length, bool write)
{
    u64 done = 0;

    for (; count && done < length; count--, segment++) {
        u64 part;
        if (offset >= segment->length) {
            offset -= segment->length;
            continue;
        }
        part = segment->length - offset;
        if (part > length - done) part = length - done;
        if (write) dma_write(virtio_bus(virtio), segment->address + offset, bytes + done, part);
        else dma_read(virtio_bus(virtio), segment->address + offset, bytes + done, part);
        done += part;
        offset = 0;
    }
    return done;
}

u64 virtio_gather(struct virtio *virtio, const struct virtio_chain *chain, u64 offset, void *to,
                  u64 length)
{
    return chain_copy(virtio, chain->segments, chain->out_count, offset, to, length, false);
}

u64 virtio_scatter(struct virtio *virtio, const struct virtio_chain *chain, u64 offset,
                   const void *from, u64 length)
{
    return chain_copy(virtio, chain->segments + chain->out_count, chain->in_count, offset,
                      (u8 *)from, length, true);
}

/* --- life --- */

u64 virtio_offered(struct virtio *virtio)
{
    u64 features = virtio->function->features(virtio) | VIRTIO_F_ANY_LAYOUT |
                   VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX;
    return virtio->offer_modern ? features | VIRTIO_F_VERSION_1 : features;
}

void virtio_kick(struct virtio *virtio, unsigned queue)
{
    if (queue >= VIRTIO_QUEUES || !virtio->queues[queue].maximum) return;
    if (!virtio->queues[queue].enabled || !virtio_running(virtio)) return;
    virtio->function->notify(virtio, queue);
}

static void virtio_serve(void *opaque)
{
    struct virtio *virtio = opaque;
    u8 pending = virtio->pending;
    unsigned i;

    virtio->pending = 0;
    for (i = 0; i < VIRTIO_QUEUES; i++)
        if (pending >> i & 1) virtio_kick(virtio, i);
}

void virtio_serve_later(struct virtio *virtio, unsigned queue)
{
    virtio->pending |= (u8)(1u << queue);
    if (!timer_pending(&virtio->later))
        timer_set(&virtio->later, clock_now(virtio->device->clock) + SERVE_DELAY);
}

/* Legacy drivers do not know FEATURES_OK, and their features are what they wrote last. */
void virtio_set_status(struct virtio *virtio, u8 status, bool modern)
{
    u8 old = virtio->status;

    if (status == 0) {
        virtio_reset(virtio);
        return;
    }
    if (modern && (status & VIRTIO_STATUS_FEATURES_OK) && !(old & VIRTIO_STATUS_FEATURES_OK) &&
        ((virtio->driver_features & ~virtio_offered(virtio)) ||
         !virtio_has(virtio, VIRTIO_F_VERSION_1))) {
        guest_error(virtio->device, "%s: features %016llx are not acceptable",
                    virtio->function->name, (unsigned long long)virtio->driver_features);
        status &= (u8)~VIRTIO_STATUS_FEATURES_OK;
    }
    virtio->status = status | (old & VIRTIO_STATUS_NEEDS_RESET);
    if ((status & ~old & VIRTIO_STATUS_DRIVER_OK) && virtio->function->driver_ok)
        virtio->function->driver_ok(virtio);
}

void virtqueue_place_legacy(struct virtio_queue *queue, u64 address)
{
    queue->size = queue->maximum;
    queue->descriptors = address;
    queue->available = address + 16 * (u64)queue->size;
    queue->used = (used_event_address(queue) + 2 + 4095) & ~4095ull;
    queue->enabled = address != 0;
    queue->next_available = queue->next_used = queue->told_used = 0;
    queue->told_valid = 0;
}

bool virtqueue_enable(struct virtio *virtio, struct virtio_queue *queue)
{
    if (!queue->size || queue->size > queue->maximum || (queue->size & (queue->size - 1))) {
        guest_error(virtio->device, "%s: queue size %u", virtio->function->name, queue->size);
        return false;
    }
    if ((queue->descriptors & 15) || (queue->available & 1) || (queue->used & 3))
        guest_error(virtio->device, "%s: unaligned ring", virtio->function->name);
    queue->enabled = 1;
    return true;
}

void virtio_reset(struct virtio *virtio)
{
    unsigned i;

    virtio->function->reset(virtio);
    timer_cancel(&virtio->later);
    virtio->driver_features = 0;
    virtio->status = 0;
    virtio->broken = 0;
    virtio->pending = 0;
    virtio->config_vector = VIRTIO_NO_VECTOR;
    for (i = 0; i < VIRTIO_QUEUES; i++) {
        struct virtio_queue *queue = &virtio->queues[i];
        queue->size = queue->maximum;
        queue->vector = VIRTIO_NO_VECTOR;
        queue->enabled = 0;
        queue->descriptors = queue->available = queue->used = 0;
        queue->next_available = queue->next_used = queue->told_used = 0;
        queue->told_valid = 0;
    }
}

/* A snapshot is as hostile as a guest: sizes again, and every queue is looked at once. */
void virtio_restored(struct virtio *virtio)
{
    unsigned i;

    for (i = 0; i < VIRTIO_QUEUES; i++) {
        struct virtio_queue *queue = &virtio->queues[i];
        if (queue->size > queue->maximum || (queue->size & (queue->size - 1))) queue->size = 0;
        if (!queue->maximum || !queue->size) queue->enabled = 0;
        if (queue->enabled) virtio_serve_later(virtio, i);
    }
}

bool virtio_init(struct virtio *virtio, struct device *device,
                 const struct virtio_function *function, const struct virtio_transport *transport,
                 struct error *error)
{
    virtio->device = device;
    virtio->function = function;
    virtio->transport = transport;
    if (function->config_size > CONFIG_MAX)
        return error_set(error, "%s: configuration space too large", function->name);
    timer_init(&virtio->later, device->clock, virtio_serve, virtio);
    return true;
}

bool virtio_add_queue(struct virtio *virtio, unsigned index, u16 maximum, struct error *error)
{
    struct virtio_queue *queue = &virtio->queues[index];

    if (maximum < 2 || maximum > VIRTIO_QUEUE_MAX || (maximum & (maximum - 1)))
        return error_set(error, "%s: queue-size=%u is not a power of two from 2 to %u",
                         virtio->function->name, maximum, VIRTIO_QUEUE_MAX);
    queue->chain = calloc(1, sizeof *queue->chain);
    if (!queue->chain) return error_set(error, "%s: out of memory", virtio->function->name);
    queue->maximum = queue->size = maximum;
    return true;
}

void virtio_release(struct virtio *virtio)
{
    unsigned i;

    if (virtio->later.clock) timer_cancel(&virtio->later);
    for (i = 0; i < VIRTIO_QUEUES; i++) {
        free(virtio->queues[i].chain);
        virtio->queues[i].chain = NULL;
    }
}

/* --- configuration space --- */

void virtio_config_read(struct virtio *virtio, u32 offset, void *to, unsigned size)
{
    u8 config[CONFIG_MAX + 8] = {0};

    if (offset > CONFIG_MAX || size > 8) {
        memset(to, 0, size);
        return;
    }
    virtio->function->read_config(virtio, config);
    memcpy(to, config + offset, size);
}

void virtio_config_write(struct virtio *virtio, u32 offset, const void *from, unsigned size)
{
    u8 config[CONFIG_MAX + 8] = {0};
    unsigned limit = virtio->function->config_size;

    if (offset >= limit || size > limit - offset || !virtio->function->write_config) {
        guest_error(virtio->device, "%s: write of %u bytes at %u of the configuration space",
                    virtio->function->name, size, offset);
        return;
    }
    virtio->function->read_config(virtio, config);
    memcpy(config + offset, from, size);
    virtio->function->write_config(virtio, config, offset, size);
}

void virtio_config_changed(struct virtio *virtio)
{
    virtio->generation++;
    if (virtio->status & VIRTIO_STATUS_DRIVER_OK) virtio->transport->config_interrupt(virtio);
}
