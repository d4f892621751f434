/*
 * Virtio entropy source. Specification: Virtual I/O Device 1.1, 5.4.
 */
#include "devices/virtio/virtio_pci.h"

#define QUEUE_ENTRIES 8
#define CHUNK 256u
#define CHAIN_LIMIT 65536u /* bytes given to one request; the driver asks again for more */

#define VIRTIO_RNG_STATE(SCALAR, ARRAY, GROUP, BLOB)

struct virtio_rng {
    struct virtio_pci proxy;
};

#define STATE_OWNER struct virtio_rng
VIRTIO_PCI_TABLE(virtio_rng, VIRTIO_RNG_STATE)
#undef STATE_OWNER

static u64 rng_features(struct virtio *virtio)
{
    (void)virtio;
    return 0;
}

static void rng_read_config(struct virtio *virtio, u8 *config)
{
    (void)virtio, (void)config;
}

static void rng_fill(struct virtio *virtio, struct virtio_queue *queue,
                     const struct virtio_chain *chain)
{
    struct machine_services *services = virtio->device->services;
    u64 wanted = chain->in_length < CHAIN_LIMIT ? chain->in_length : CHAIN_LIMIT, done = 0;
    u8 bytes[CHUNK];

    while (done < wanted) {
        u64 part = wanted - done < CHUNK ? wanted - done : CHUNK;
        services->random(services, bytes, part);
        done += virtio_scatter(virtio, chain, done, bytes, part);
    }
    virtqueue_fill(virtio, queue, chain->head, (u32)done);
}

static void rng_notify(struct virtio *virtio, unsigned index)
{
    struct virtio_queue *queue = &virtio->queues[index];
    struct virtio_chain *chain;
    unsigned served = 0;

    while (served < queue->maximum && (chain = virtqueue_pop(virtio, queue))) {
        rng_fill(virtio, queue, chain);
        served++;
    }
    if (served) virtqueue_publish(virtio, queue);
    if (served == queue->maximum) virtio_serve_later(virtio, index);
}

static void rng_reset(struct virtio *virtio)
{
    (void)virtio;
}

static const struct virtio_function rng_function = {
    .name = "virtio-rng",
    .id = VIRTIO_ID_RNG,
    .pci_class = 0x00ff00,
    .features = rng_features,
    .read_config = rng_read_config,
    .notify = rng_notify,
    .reset = rng_reset,
};

static bool virtio_rng_init(struct device *device, struct error *error)
{
    struct virtio_rng *rng = (struct virtio_rng *)device;

    return virtio_pci_init(&rng->proxy, &rng_function, error) &&
           virtio_add_queue(rng->proxy.core, 0, QUEUE_ENTRIES, error) &&
           virtio_pci_start(&rng->proxy, error);
}

static void virtio_rng_release(struct device *device)
{
    virtio_pci_release((struct virtio_pci *)device);
}

static const struct property virtio_rng_properties[] = {
    VIRTIO_PCI_PROPERTIES,
    {NULL, 0, 0, NULL, NULL},
};

const struct device_class virtio_rng_class = {
    .name = "virtio-rng-pci",
    .title = "virtio entropy source",
    .version = 1,
    .size = sizeof(struct virtio_rng),
    .fields = virtio_rng_fields,
    .properties = virtio_rng_properties,
    .is_pci = true,
    .user_creatable = true,
    .init = virtio_rng_init,
    .reset = virtio_pci_reset,
    .restored = virtio_pci_restored,
    .release = virtio_rng_release,
};
