/*
 * Virtio console with one port, which Linux calls hvc0: what virtio-serial-pci with one virtconsole
 * is.
 * Specification: Virtual I/O Device 1.1, 5.3.
 *
 * Not modelled: several ports and the control queues, the terminal's size.
 */
#include "devices/virtio/virtio_pci.h"
#include "machine/chardev.h"

enum { QUEUE_RX, QUEUE_TX };

#define QUEUE_ENTRIES 64
#define FIFO 4096u
#define CHUNK 1024u
#define RETRY 1000000u /* ns until a full host side is asked again */
#define SERVE_LIMIT 65536u

#define VIRTIO_CONSOLE_STATE(SCALAR, ARRAY, GROUP, BLOB)                                           \
    ARRAY(u8, fifo, FIFO)      /* from the host, before the driver has buffers */                  \
    SCALAR(u32, fifo_used)                                                                         \
    SCALAR(u64, sent)          /* bytes of the first waiting chain that are out */

struct virtio_console {
    struct virtio_pci proxy;
    STATE_MEMBERS(VIRTIO_CONSOLE_STATE)
    struct chardev *chardev;
    struct timer retry; /* not saved: restored serves both queues */
};

#define STATE_OWNER struct virtio_console
VIRTIO_PCI_TABLE(virtio_console, VIRTIO_CONSOLE_STATE)
#undef STATE_OWNER

static struct virtio_console *console_of(struct virtio *virtio)
{
    return (struct virtio_console *)virtio_pci_of(virtio);
}

static bool console_up(struct virtio_console *console)
{
    struct virtio *virtio = console->proxy.core;
    return virtio_running(virtio) && virtio->queues[QUEUE_RX].enabled;
}

/* --- to the guest --- */

static void console_deliver(struct virtio_console *console)
{
    struct virtio *virtio = console->proxy.core;
    struct virtio_queue *queue = &virtio->queues[QUEUE_RX];
    u32 done = 0;
    bool any = false;

    if (!console_up(console)) return;
    while (done < console->fifo_used) {
        struct virtio_chain *chain = virtqueue_pop(virtio, queue);
        u32 part;
        if (!chain) break;
        if (!chain->in_length) {
            virtio_break(virtio, "an empty receive buffer");
            return;
        }
        part = (u32)virtio_scatter(virtio, chain, 0, console->fifo + done,
                                   console->fifo_used - done);
        virtqueue_fill(virtio, queue, chain->head, part);
        done += part;
        any = true;
    }
    if (!any) return;
    console->fifo_used -= done;
    memmove(console->fifo, console->fifo + done, console->fifo_used);
    virtqueue_publish(virtio, queue);
    chardev_room(console->chardev);
}

/* Before the driver is up nothing is taken: the host side keeps it. */
static unsigned console_room(void *opaque)
{
    struct virtio_console *console = opaque;
    return console_up(console) ? FIFO - console->fifo_used : 0;
}

static void console_receive(void *opaque, const u8 *bytes, unsigned n)
{
    struct virtio_console *console = opaque;

    if (n > FIFO - console->fifo_used) n = FIFO - console->fifo_used;
    memcpy(console->fifo + console->fifo_used, bytes, n);
    console->fifo_used += n;
    console_deliver(console);
}

/* --- from the guest --- */

/* False when the host side is full; `sent` remembers how far we came. */
static bool console_send(struct virtio_console *console, const struct virtio_chain *chain,
                         u64 *budget)
{
    struct virtio *virtio = console->proxy.core;
    u8 bytes[CHUNK];

    while (console->sent < chain->out_length && *budget) {
        unsigned part = (unsigned)virtio_gather(virtio, chain, console->sent, bytes, sizeof bytes);
        unsigned taken = chardev_write(console->chardev, bytes, part);
        console->sent += taken;
        *budget -= taken < *budget ? taken : *budget;
        if (taken < part) return false;
    }
    return console->sent >= chain->out_length;
}

static void console_drain(struct virtio_console *console)
{
    struct virtio *virtio = console->proxy.core;
    struct virtio_queue *queue = &virtio->queues[QUEUE_TX];
    struct virtio_chain *chain;
    u64 budget = SERVE_LIMIT;
    unsigned served = 0;

    while (served < queue->maximum && (chain = virtqueue_pop(virtio, queue))) {
        if (!console_send(console, chain, &budget)) {
            virtqueue_unpop(queue, 1);
            if (!timer_pending(&console->retry))
                timer_set(&console->retry, clock_now(virtio->device->clock) + RETRY);
            break;
        }
        console->sent = 0;
        virtqueue_fill(virtio, queue, chain->head, 0);
        served++;
    }
    if (served) virtqueue_publish(virtio, queue);
    if (served == queue->maximum) virtio_serve_later(virtio, QUEUE_TX);
}

static void console_retry(void *opaque)
{
    struct virtio_console *console = opaque;
    virtio_kick(console->proxy.core, QUEUE_TX);
}

/* --- the function --- */

static u64 console_features(struct virtio *virtio)
{
    (void)virtio;
    return 0;
}

static void console_read_config(struct virtio *virtio, u8 *config)
{
    (void)virtio;
    st32(config + 4, 1); /* max_nr_ports; means something with MULTIPORT only */
}

static void console_notify(struct virtio *virtio, unsigned queue)
{
    struct virtio_console *console = console_of(virtio);

    if (queue == QUEUE_TX) {
        console_drain(console);
    } else {
        console_deliver(console);
        chardev_room(console->chardev);
    }
}

static void console_driver_ok(struct virtio *virtio)
{
    chardev_room(console_of(virtio)->chardev);
}

static void console_reset(struct virtio *virtio)
{
    struct virtio_console *console = console_of(virtio);

    timer_cancel(&console->retry);
    console->fifo_used = 0;
    console->sent = 0;
}

static const struct virtio_function console_function = {
    .name = "virtio-serial",
    .id = VIRTIO_ID_CONSOLE,
    .pci_class = 0x078000,
    .config_size = 12,
    .features = console_features,
    .read_config = console_read_config,
    .notify = console_notify,
    .driver_ok = console_driver_ok,
    .reset = console_reset,
};

static bool virtio_console_init(struct device *device, struct error *error)
{
    struct virtio_console *console = (struct virtio_console *)device;
    const struct chardev_listener listener = {
        .opaque = console, .room = console_room, .receive = console_receive};

    timer_init(&console->retry, device->clock, console_retry, console);
    if (!virtio_pci_init(&console->proxy, &console_function, error) ||
        !virtio_add_queue(console->proxy.core, QUEUE_RX, QUEUE_ENTRIES, error) ||
        !virtio_add_queue(console->proxy.core, QUEUE_TX, QUEUE_ENTRIES, error) ||
        !virtio_pci_start(&console->proxy, error))
        return false;
    if (console->chardev) chardev_listen(console->chardev, &listener);
    return true;
}

static void virtio_console_restored(struct device *device)
{
    struct virtio_console *console = (struct virtio_console *)device;

    if (console->fifo_used > FIFO) console->fifo_used = FIFO;
    virtio_pci_restored(device);
}

static void virtio_console_release(struct device *device)
{
    struct virtio_console *console = (struct virtio_console *)device;
    const struct chardev_listener nobody = {.opaque = NULL};

    if (console->chardev) chardev_listen(console->chardev, &nobody);
    if (console->retry.clock) timer_cancel(&console->retry);
    virtio_pci_release(&console->proxy);
}

static const struct property virtio_console_properties[] = {
    VIRTIO_PCI_PROPERTIES,
    {"chardev", PROPERTY_CHARDEV, offsetof(struct virtio_console, chardev), NULL,
     "what the console is connected to"},
    {NULL, 0, 0, NULL, NULL},
};

const struct device_class virtio_console_class = {
    .name = "virtio-serial-pci",
    .title = "virtio console (hvc0)",
    .version = 1,
    .size = sizeof(struct virtio_console),
    .fields = virtio_console_fields,
    .properties = virtio_console_properties,
    .is_pci = true,
    .user_creatable = true,
    .init = virtio_console_init,
    .reset = virtio_pci_reset,
    .restored = virtio_console_restored,
    .release = virtio_console_release,
};
