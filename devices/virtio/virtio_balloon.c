/*
 * Virtio memory balloon. Specification: Virtual I/O Device 1.1, 5.5.
 *
 * Not modelled: memory statistics, free-page hinting and reporting. Pages that come back need
 * nothing done: they are zeroes until written.
 */
#include "devices/virtio/virtio_balloon.h"
#include "devices/virtio/virtio_pci.h"

enum { QUEUE_INFLATE, QUEUE_DEFLATE };
enum { BALLOON_DEFLATE_ON_OOM = 2 };

#define QUEUE_ENTRIES 128
#define PAGE 4096u
#define PAGES_PER_CHAIN 4096u /* most that is looked at */

#define VIRTIO_BALLOON_STATE(SCALAR, ARRAY, GROUP, BLOB)                                           \
    SCALAR(u32, wanted)        /* pages the guest shall give up */                                 \
    SCALAR(u32, actual)        /* pages it says it gave */

struct virtio_balloon {
    struct virtio_pci proxy;
    STATE_MEMBERS(VIRTIO_BALLOON_STATE)
    bool deflate_on_oom;
    void (*discard)(void *opaque, u64 address, u64 length);
    void *discard_opaque;
};

#define STATE_OWNER struct virtio_balloon
VIRTIO_PCI_TABLE(virtio_balloon, VIRTIO_BALLOON_STATE)
#undef STATE_OWNER

static struct virtio_balloon *balloon_of(struct virtio *virtio)
{
    return (struct virtio_balloon *)virtio_pci_of(virtio);
}

static u64 ram_size(const struct device *device)
{
    return device->services->ram_below_4g + device->services->ram_above_4g;
}

static void discard_page(struct virtio_balloon *balloon, u64 address)
{
    struct device *device = &balloon->proxy.pci.dev;
    u64 length = PAGE;

    /* Below 1 MiB what looks like RAM may be a shadowed ROM. */
    if (address < MIB(1) || !dma_map(device->bus, address, &length, true) || length != PAGE) {
        guest_error(device, "virtio-balloon: page %llx is not RAM", (unsigned long long)address);
        return;
    }
    balloon->discard(balloon->discard_opaque, address, PAGE);
}

static void take_pages(struct virtio_balloon *balloon, const struct virtio_chain *chain)
{
    u64 offset;
    u8 raw[4];

    if (!balloon->discard) return;
    for (offset = 0; offset < 4 * (u64)PAGES_PER_CHAIN; offset += 4) {
        if (virtio_gather(balloon->proxy.core, chain, offset, raw, 4) != 4) return;
        discard_page(balloon, (u64)ld32(raw) * PAGE);
    }
}

static void balloon_notify(struct virtio *virtio, unsigned index)
{
    struct virtio_queue *queue = &virtio->queues[index];
    struct virtio_chain *chain;
    unsigned served = 0;

    while (served < queue->maximum && (chain = virtqueue_pop(virtio, queue))) {
        if (index == QUEUE_INFLATE) take_pages(balloon_of(virtio), chain);
        virtqueue_fill(virtio, queue, chain->head, 0);
        served++;
    }
    if (served) virtqueue_publish(virtio, queue);
    if (served == queue->maximum) virtio_serve_later(virtio, index);
}

static u64 balloon_features(struct virtio *virtio)
{
    return balloon_of(virtio)->deflate_on_oom ? VIRTIO_BIT(BALLOON_DEFLATE_ON_OOM) : 0;
}

static void balloon_read_config(struct virtio *virtio, u8 *config)
{
    struct virtio_balloon *balloon = balloon_of(virtio);

    st32(config, balloon->wanted);
    st32(config + 4, balloon->actual);
}

static void balloon_write_config(struct virtio *virtio, const u8 *config, unsigned offset,
                                 unsigned size)
{
    if (offset + size > 4) balloon_of(virtio)->actual = ld32(config + 4);
}

static void balloon_reset(struct virtio *virtio)
{
    balloon_of(virtio)->actual = 0;
}

static const struct virtio_function balloon_function = {
    .name = "virtio-balloon",
    .id = VIRTIO_ID_BALLOON,
    .pci_class = 0x00ff00,
    .config_size = 8,
    .features = balloon_features,
    .read_config = balloon_read_config,
    .write_config = balloon_write_config,
    .notify = balloon_notify,
    .reset = balloon_reset,
};

void virtio_balloon_set_target(struct device *device, u64 bytes)
{
    struct virtio_balloon *balloon = (struct virtio_balloon *)device;
    u64 ram = ram_size(device);

    balloon->wanted = bytes >= ram ? 0 : (u32)((ram - bytes) / PAGE);
    virtio_config_changed(balloon->proxy.core);
}

u64 virtio_balloon_actual(struct device *device)
{
    struct virtio_balloon *balloon = (struct virtio_balloon *)device;
    u64 gone = (u64)balloon->actual * PAGE, ram = ram_size(device);

    return gone < ram ? ram - gone : 0;
}

void virtio_balloon_on_discard(struct device *device,
                               void (*discard)(void *opaque, u64 address, u64 length), void *opaque)
{
    struct virtio_balloon *balloon = (struct virtio_balloon *)device;

    balloon->discard = discard;
    balloon->discard_opaque = opaque;
}

static bool virtio_balloon_init(struct device *device, struct error *error)
{
    struct virtio_balloon *balloon = (struct virtio_balloon *)device;

    return virtio_pci_init(&balloon->proxy, &balloon_function, error) &&
           virtio_add_queue(balloon->proxy.core, QUEUE_INFLATE, QUEUE_ENTRIES, error) &&
           virtio_add_queue(balloon->proxy.core, QUEUE_DEFLATE, QUEUE_ENTRIES, error) &&
           virtio_pci_start(&balloon->proxy, error);
}

static void virtio_balloon_release(struct device *device)
{
    virtio_pci_release((struct virtio_pci *)device);
}

static const struct property virtio_balloon_properties[] = {
    VIRTIO_PCI_PROPERTIES,
    {"deflate-on-oom", PROPERTY_BOOL, offsetof(struct virtio_balloon, deflate_on_oom), "off",
     "the guest may take memory back when it has none"},
    {NULL, 0, 0, NULL, NULL},
};

const struct device_class virtio_balloon_class = {
    .name = "virtio-balloon-pci",
    .title = "virtio memory balloon",
    .version = 1,
    .size = sizeof(struct virtio_balloon),
    .fields = virtio_balloon_fields,
    .properties = virtio_balloon_properties,
    .is_pci = true,
    .user_creatable = true,
    .init = virtio_balloon_init,
    .reset = virtio_pci_reset,
    .restored = virtio_pci_restored,
    .release = virtio_balloon_release,
};
