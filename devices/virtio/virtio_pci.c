/*
 * Virtio over PCI, transitional: the 0.9 port interface in BAR 0 and the 1.0 one in BAR 4, MSI-X in
 * BAR 1, else INTA#.
 * Specification: Virtual I/O Device 1.1, 4.1, and 4.1.4.8 for the legacy interface.
 *
 * Not modelled: the shared-memory and vendor-data capabilities.
 */
#include "devices/virtio/virtio_pci.h"

#define VENDOR_VIRTIO 0x1af4
#define MODERN_BAR 4
#define WINDOW_SIZE 0x1000u
#define NOTIFY_MULTIPLIER 4u

/* Where in BAR 4 */
enum { MODERN_COMMON = 0x0000, MODERN_ISR = 0x1000, MODERN_DEVICE = 0x2000, MODERN_NOTIFY = 0x3000,
       MODERN_SIZE = 0x4000 };

enum { CAP_COMMON = 1, CAP_NOTIFY = 2, CAP_ISR = 3, CAP_DEVICE = 4, CAP_PCI = 5 };

/* Legacy registers */
enum { LEGACY_HOST_FEATURES = 0, LEGACY_GUEST_FEATURES = 4, LEGACY_QUEUE_PFN = 8,
       LEGACY_QUEUE_SIZE = 12, LEGACY_QUEUE_SELECT = 14, LEGACY_QUEUE_NOTIFY = 16,
       LEGACY_STATUS = 18, LEGACY_ISR = 19, LEGACY_CONFIG_VECTOR = 20, LEGACY_QUEUE_VECTOR = 22,
       LEGACY_CONFIG = 20, LEGACY_CONFIG_MSIX = 24 };

/* Common configuration structure */
enum { COMMON_FEATURE_SELECT = 0x00, COMMON_FEATURE = 0x04, COMMON_DRIVER_SELECT = 0x08,
       COMMON_DRIVER_FEATURE = 0x0c, COMMON_CONFIG_VECTOR = 0x10, COMMON_QUEUES = 0x12,
       COMMON_STATUS = 0x14, COMMON_GENERATION = 0x15, COMMON_QUEUE_SELECT = 0x16,
       COMMON_QUEUE_SIZE = 0x18, COMMON_QUEUE_VECTOR = 0x1a, COMMON_QUEUE_ENABLE = 0x1c,
       COMMON_NOTIFY_OFF = 0x1e, COMMON_DESC = 0x20, COMMON_DRIVER = 0x28, COMMON_DEVICE = 0x30,
       COMMON_SIZE = 0x38 };

enum { ISR_QUEUE = 1, ISR_CONFIG = 2 };

#define STATE_OWNER struct virtio_pci
const struct state_field virtio_pci_fields[] = {
    VIRTIO_PCI_STATE(STATE_F_SCALAR, STATE_F_ARRAY, STATE_F_GROUP,
                     STATE_F_BLOB){NULL, 0, 0, 0, 0, NULL}};
#undef STATE_OWNER

/* --- interrupts --- */

static void proxy_interrupt(struct virtio_pci *proxy, u16 vector, u8 isr)
{
    if (pci_msix_enabled(&proxy->pci)) {
        if (vector != VIRTIO_NO_VECTOR) pci_msix_send(&proxy->pci, vector);
        return;
    }
    proxy->isr |= isr;
    pci_set_interrupt(&proxy->pci, true);
}

static void proxy_queue_interrupt(struct virtio *virtio, struct virtio_queue *queue)
{
    proxy_interrupt(virtio_pci_of(virtio), queue->vector, ISR_QUEUE);
}

static void proxy_config_interrupt(struct virtio *virtio)
{
    proxy_interrupt(virtio_pci_of(virtio), virtio->config_vector, ISR_CONFIG);
}

static bool proxy_can_dma(struct virtio *virtio)
{
    return pci_is_master(&virtio_pci_of(virtio)->pci);
}

static const struct virtio_transport virtio_pci_transport = {
    .queue_interrupt = proxy_queue_interrupt,
    .config_interrupt = proxy_config_interrupt,
    .can_dma = proxy_can_dma,
};

static u8 isr_read(struct virtio_pci *proxy)
{
    u8 isr = proxy->isr;

    proxy->isr = 0;
    pci_set_interrupt(&proxy->pci, false);
    return isr;
}

static struct virtio_queue *selected(struct virtio_pci *proxy)
{
    unsigned index = proxy->queue_select;

    if (index >= VIRTIO_QUEUES || !proxy->core->queues[index].maximum) return NULL;
    return &proxy->core->queues[index];
}

/* A vector the table lacks reads back as none: so the driver learns. */
static u16 check_vector(struct virtio_pci *proxy, u32 vector)
{
    return vector < proxy->pci.msix_vectors ? (u16)vector : VIRTIO_NO_VECTOR;
}

/* A driver's reset takes the function's interrupts with it. */
static void proxy_set_status(struct virtio_pci *proxy, u8 status, bool modern)
{
    virtio_set_status(proxy->core, status, modern);
    if (status == 0) {
        proxy->feature_select = proxy->driver_feature_select = proxy->queue_select = 0;
        isr_read(proxy);
    }
}

/* --- the legacy interface --- */

static u32 legacy_config_offset(struct virtio_pci *proxy)
{
    return pci_msix_enabled(&proxy->pci) ? LEGACY_CONFIG_MSIX : LEGACY_CONFIG;
}

static u32 legacy_register(struct virtio_pci *proxy, u32 offset)
{
    struct virtio *virtio = proxy->core;
    struct virtio_queue *queue = selected(proxy);

    switch (offset) {
    case LEGACY_HOST_FEATURES: return (u32)virtio_offered(virtio);
    case LEGACY_GUEST_FEATURES: return (u32)virtio->driver_features;
    case LEGACY_QUEUE_PFN: return queue && queue->enabled ? (u32)(queue->descriptors >> 12) : 0;
    case LEGACY_QUEUE_SIZE: return queue ? queue->maximum : 0;
    case LEGACY_QUEUE_SELECT: return proxy->queue_select;
    case LEGACY_STATUS: return virtio->status;
    case LEGACY_ISR: return isr_read(proxy);
    case LEGACY_CONFIG_VECTOR: return virtio->config_vector;
    case LEGACY_QUEUE_VECTOR: return queue ? queue->vector : VIRTIO_NO_VECTOR;
    }
    return 0;
}

static u64 legacy_read(struct device *device, u64 offset, unsigned size)
{
    struct virtio_pci *proxy = (struct virtio_pci *)device;
    u32 config = legacy_config_offset(proxy), base = (u32)offset;
    u8 bytes[8] = {0};

    if (offset >= config) {
        virtio_config_read(proxy->core, base - config, bytes, size);
        return ld64(bytes);
    }
    /* Drivers read the features byte by byte, too. */
    if (base < LEGACY_QUEUE_SIZE) base &= ~3u;
    else if (base < LEGACY_STATUS || base >= LEGACY_CONFIG_VECTOR) base &= ~1u;
    return (legacy_register(proxy, base) >> 8 * (offset - base)) & size_mask(size);
}

static void legacy_write_pfn(struct virtio_pci *proxy, u32 value)
{
    struct virtio_queue *queue = selected(proxy);

    if (queue && value) virtqueue_place_legacy(queue, (u64)value << 12);
    else if (value == 0) proxy_set_status(proxy, 0, false); /* 0.9's other way to reset */
}

static void legacy_write(struct device *device, u64 offset, u64 value, unsigned size)
{
    struct virtio_pci *proxy = (struct virtio_pci *)device;
    struct virtio *virtio = proxy->core;
    struct virtio_queue *queue = selected(proxy);
    u32 config = legacy_config_offset(proxy);
    u8 bytes[8];

    if (offset >= config) {
        st64(bytes, value);
        virtio_config_write(virtio, (u32)offset - config, bytes, size);
        return;
    }
    switch (offset) {
    case LEGACY_GUEST_FEATURES:
        virtio->driver_features = value & virtio_offered(virtio) & 0xffffffff;
        break;
    case LEGACY_QUEUE_PFN: legacy_write_pfn(proxy, (u32)value); break;
    case LEGACY_QUEUE_SELECT: proxy->queue_select = (u16)value; break;
    case LEGACY_QUEUE_NOTIFY: virtio_kick(virtio, (u16)value); break;
    case LEGACY_STATUS: proxy_set_status(proxy, (u8)value, false); break;
    case LEGACY_CONFIG_VECTOR: virtio->config_vector = check_vector(proxy, (u16)value); break;
    case LEGACY_QUEUE_VECTOR:
        if (queue) queue->vector = check_vector(proxy, (u16)value);
        break;
    default:
        guest_error(device, "%s: write of %u bytes to register %u", virtio->function->name, size,
                    (unsigned)offset);
    }
}

static const struct region_ops legacy_ops = {
    .name = "virtio legacy", .read = legacy_read, .write = legacy_write, .min_size = 1,
    .max_size = 4};

/* --- the modern interface --- */

static u64 common_read(struct virtio_pci *proxy, u32 offset, unsigned size)
{
    struct virtio *virtio = proxy->core;
    struct virtio_queue *queue = selected(proxy);
    u8 c[COMMON_SIZE + 8] = {0};
    unsigned count = 0;

    if (offset >= COMMON_SIZE) return 0;
    while (count < VIRTIO_QUEUES && virtio->queues[count].maximum) count++;
    st32(c + COMMON_FEATURE_SELECT, proxy->feature_select);
    if (proxy->feature_select < 2)
        st32(c + COMMON_FEATURE, (u32)(virtio_offered(virtio) >> 32 * proxy->feature_select));
    st32(c + COMMON_DRIVER_SELECT, proxy->driver_feature_select);
    if (proxy->driver_feature_select < 2)
        st32(c + COMMON_DRIVER_FEATURE,
             (u32)(virtio->driver_features >> 32 * proxy->driver_feature_select));
    st16(c + COMMON_CONFIG_VECTOR, virtio->config_vector);
    st16(c + COMMON_QUEUES, (u16)count);
    c[COMMON_STATUS] = virtio->status;
    c[COMMON_GENERATION] = virtio->generation;
    st16(c + COMMON_QUEUE_SELECT, proxy->queue_select);
    st16(c + COMMON_QUEUE_VECTOR, VIRTIO_NO_VECTOR);
    if (queue) {
        st16(c + COMMON_QUEUE_SIZE, queue->size);
        st16(c + COMMON_QUEUE_VECTOR, queue->vector);
        st16(c + COMMON_QUEUE_ENABLE, queue->enabled);
        st16(c + COMMON_NOTIFY_OFF, proxy->queue_select);
        st64(c + COMMON_DESC, queue->descriptors);
        st64(c + COMMON_DRIVER, queue->available);
        st64(c + COMMON_DEVICE, queue->used);
    }
    return ld64(c + offset) & size_mask(size);
}

static void set_driver_features(struct virtio_pci *proxy, u32 value)
{
    struct virtio *virtio = proxy->core;
    unsigned shift = 32 * proxy->driver_feature_select;

    if (proxy->driver_feature_select > 1) return;
    if (virtio->status & VIRTIO_STATUS_FEATURES_OK) {
        guest_error(virtio->device, "%s: features after FEATURES_OK", virtio->function->name);
        return;
    }
    virtio->driver_features &= ~(0xffffffffull << shift);
    virtio->driver_features |= (u64)value << shift;
}

static void set_half(u64 *address, bool high, u32 value)
{
    *address = high ? (*address & 0xffffffff) | (u64)value << 32
                    : (*address & ~0xffffffffull) | value;
}

static void common_write_queue(struct virtio_pci *proxy, u32 offset, u32 value)
{
    struct virtio_queue *queue = selected(proxy);

    if (!queue) return;
    if (queue->enabled && offset != COMMON_QUEUE_VECTOR) {
        guest_error(&proxy->pci.dev, "%s: queue %u changed while enabled",
                    proxy->core->function->name, proxy->queue_select);
        return;
    }
    switch (offset) {
    case COMMON_QUEUE_SIZE: queue->size = (u16)value; break;
    case COMMON_QUEUE_VECTOR: queue->vector = check_vector(proxy, (u16)value); break;
    case COMMON_QUEUE_ENABLE:
        if ((u16)value == 1) virtqueue_enable(proxy->core, queue);
        break;
    case COMMON_DESC: set_half(&queue->descriptors, false, value); break;
    case COMMON_DESC + 4: set_half(&queue->descriptors, true, value); break;
    case COMMON_DRIVER: set_half(&queue->available, false, value); break;
    case COMMON_DRIVER + 4: set_half(&queue->available, true, value); break;
    case COMMON_DEVICE: set_half(&queue->used, false, value); break;
    case COMMON_DEVICE + 4: set_half(&queue->used, true, value); break;
    }
}

static void common_write(struct virtio_pci *proxy, u32 offset, u32 value)
{
    switch (offset) {
    case COMMON_FEATURE_SELECT: proxy->feature_select = value; break;
    case COMMON_DRIVER_SELECT: proxy->driver_feature_select = value; break;
    case COMMON_DRIVER_FEATURE: set_driver_features(proxy, value); break;
    case COMMON_CONFIG_VECTOR:
        proxy->core->config_vector = check_vector(proxy, (u16)value);
        break;
    case COMMON_STATUS: proxy_set_status(proxy, (u8)value, true); break;
    case COMMON_QUEUE_SELECT: proxy->queue_select = (u16)value; break;
    default: common_write_queue(proxy, offset, value);
    }
}

static u64 modern_read(struct device *device, u64 offset, unsigned size)
{
    struct virtio_pci *proxy = (struct virtio_pci *)device;
    u8 bytes[8] = {0};

    switch (offset & ~(u64)(WINDOW_SIZE - 1)) {
    case MODERN_COMMON: return common_read(proxy, (u32)offset, size);
    case MODERN_ISR: return offset == MODERN_ISR ? isr_read(proxy) : 0;
    case MODERN_DEVICE:
        virtio_config_read(proxy->core, (u32)offset - MODERN_DEVICE, bytes, size);
        return ld64(bytes) & size_mask(size);
    }
    return 0;
}

static void modern_write(struct device *device, u64 offset, u64 value, unsigned size)
{
    struct virtio_pci *proxy = (struct virtio_pci *)device;
    u8 bytes[8];

    switch (offset & ~(u64)(WINDOW_SIZE - 1)) {
    case MODERN_COMMON: common_write(proxy, (u32)offset, (u32)value); break;
    case MODERN_DEVICE:
        st64(bytes, value);
        virtio_config_write(proxy->core, (u32)offset - MODERN_DEVICE, bytes, size);
        break;
    case MODERN_NOTIFY:
        virtio_kick(proxy->core, (unsigned)(offset - MODERN_NOTIFY) / NOTIFY_MULTIPLIER);
        break;
    }
}

static const struct region_ops modern_ops = {
    .name = "virtio modern", .read = modern_read, .write = modern_write, .min_size = 1,
    .max_size = 4};

/* --- the window in configuration space, for firmware that cannot reach BAR 4 --- */

enum { ACCESS_BAR = 4, ACCESS_OFFSET = 8, ACCESS_LENGTH = 12, ACCESS_DATA = 16, ACCESS_SIZE = 20 };

static bool access_window(struct virtio_pci *proxy, u16 at, unsigned size, u64 *offset,
                          unsigned *length)
{
    const u8 *cap = proxy->pci.config + proxy->access_capability;
    u32 data = proxy->access_capability + ACCESS_DATA;

    if (!proxy->access_capability || at + size <= data || at >= data + 4) return false;
    *offset = ld32(cap + ACCESS_OFFSET);
    *length = ld32(cap + ACCESS_LENGTH);
    return cap[ACCESS_BAR] == MODERN_BAR && (*length == 1 || *length == 2 || *length == 4) &&
           *offset % *length == 0 && *offset + *length <= MODERN_SIZE;
}

static void access_reading(struct pci_device *pci, u16 at, unsigned size)
{
    struct virtio_pci *proxy = (struct virtio_pci *)pci;
    unsigned length;
    u64 offset;

    if (!access_window(proxy, at, size, &offset, &length)) return;
    st32(pci->config + proxy->access_capability + ACCESS_DATA,
         (u32)(modern_read(&pci->dev, offset, length) & size_mask(length)));
}

static void access_written(struct pci_device *pci, u16 at, u32 value, unsigned size)
{
    struct virtio_pci *proxy = (struct virtio_pci *)pci;
    unsigned length;
    u64 offset;

    (void)value;
    if (!access_window(proxy, at, size, &offset, &length)) return;
    modern_write(&pci->dev, offset,
                 ld32(pci->config + proxy->access_capability + ACCESS_DATA) & size_mask(length),
                 length);
}

static u16 add_window(struct virtio_pci *proxy, u8 type, u8 bar, u32 offset, u32 length,
                      unsigned size)
{
    u16 at = pci_add_capability(&proxy->pci, 0x09, size);
    u8 *cap = proxy->pci.config + at;

    cap[2] = (u8)size;
    cap[3] = type;
    cap[ACCESS_BAR] = bar;
    st32(cap + ACCESS_OFFSET, offset);
    st32(cap + ACCESS_LENGTH, length);
    return at;
}

static void add_modern(struct virtio_pci *proxy)
{
    struct pci_device *pci = &proxy->pci;
    u16 at;

    region_init(&proxy->modern, &pci->dev, &modern_ops, MODERN_SIZE);
    pci_add_bar(pci, MODERN_BAR, &proxy->modern, false, true, true);
    add_window(proxy, CAP_COMMON, MODERN_BAR, MODERN_COMMON, WINDOW_SIZE, 16);
    add_window(proxy, CAP_ISR, MODERN_BAR, MODERN_ISR, WINDOW_SIZE, 16);
    add_window(proxy, CAP_DEVICE, MODERN_BAR, MODERN_DEVICE, WINDOW_SIZE, 16);
    at = add_window(proxy, CAP_NOTIFY, MODERN_BAR, MODERN_NOTIFY, WINDOW_SIZE, 20);
    st32(pci->config + at + 16, NOTIFY_MULTIPLIER);
    at = add_window(proxy, CAP_PCI, 0, 0, 0, ACCESS_SIZE);
    pci->writable[at + ACCESS_BAR] = 0xff;
    memset(pci->writable + at + ACCESS_OFFSET, 0xff, 12);
    proxy->access_capability = at;
    pci->config_reading = access_reading;
    pci->config_written = access_written;
}

/* --- life --- */

static u16 transitional_id(u16 function)
{
    switch (function) {
    case VIRTIO_ID_NET: return 0x1000;
    case VIRTIO_ID_BLOCK: return 0x1001;
    case VIRTIO_ID_BALLOON: return 0x1002;
    case VIRTIO_ID_CONSOLE: return 0x1003;
    case VIRTIO_ID_RNG: return 0x1005;
    }
    return (u16)(0x1040 + function);
}

bool virtio_pci_init(struct virtio_pci *proxy, const struct virtio_function *function,
                     struct error *error)
{
    struct pci_device *pci = &proxy->pci;

    if (proxy->disable_legacy && proxy->disable_modern)
        return error_set(error, "%s: disable-legacy and disable-modern leave nothing",
                         function->name);
    proxy->core->offer_modern = !proxy->disable_modern;
    if (!virtio_init(proxy->core, &pci->dev, function, &virtio_pci_transport, error)) return false;
    if (proxy->disable_legacy)
        pci_set_ids(pci, VENDOR_VIRTIO, (u16)(0x1040 + function->id), 1, function->pci_class,
                    VENDOR_VIRTIO, 0x1100);
    else
        pci_set_ids(pci, VENDOR_VIRTIO, transitional_id(function->id), 0, function->pci_class,
                    VENDOR_VIRTIO, function->id);
    pci_set_interrupt_pin(pci, 1);
    if (!proxy->disable_legacy) {
        u64 size = 32;
        while (size < LEGACY_CONFIG_MSIX + (u64)function->config_size) size *= 2;
        region_init(&proxy->legacy, &pci->dev, &legacy_ops, size);
        pci_add_bar(pci, 0, &proxy->legacy, true, false, false);
    }
    if (!proxy->disable_modern) add_modern(proxy);
    return true;
}

bool virtio_pci_start(struct virtio_pci *proxy, struct error *error)
{
    unsigned queues = 0;

    while (queues < VIRTIO_QUEUES && proxy->core->queues[queues].maximum) queues++;
    pci_add_msix(&proxy->pci, 1, queues + 1);
    if (proxy->pci.romfile && proxy->pci.romfile[0])
        return pci_load_rom(&proxy->pci, proxy->pci.romfile, error);
    return true;
}

void virtio_pci_reset(struct device *device)
{
    struct virtio_pci *proxy = (struct virtio_pci *)device;
    u16 at = proxy->access_capability;

    pci_device_reset(&proxy->pci);
    virtio_reset(proxy->core);
    proxy->isr = 0;
    proxy->feature_select = proxy->driver_feature_select = proxy->queue_select = 0;
    if (!at) return;
    proxy->pci.config[at + ACCESS_BAR] = 0;
    memset(proxy->pci.config + at + ACCESS_OFFSET, 0, 12);
}

void virtio_pci_restored(struct device *device)
{
    struct virtio_pci *proxy = (struct virtio_pci *)device;

    pci_device_restored(&proxy->pci);
    virtio_restored(proxy->core);
}

void virtio_pci_release(struct virtio_pci *proxy)
{
    virtio_release(proxy->core);
}
