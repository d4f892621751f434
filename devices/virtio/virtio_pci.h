/*
 * Virtio over PCI: what a virtio function's struct begins with.
 *
 *     #define VIRTIO_RNG_STATE(SCALAR, ARRAY, GROUP, BLOB) ...
 *     struct virtio_rng { struct virtio_pci proxy; STATE_MEMBERS(VIRTIO_RNG_STATE) ... };
 *     #define STATE_OWNER struct virtio_rng
 *     VIRTIO_PCI_TABLE(virtio_rng, VIRTIO_RNG_STATE)
 */
#ifndef DEVICES_VIRTIO_VIRTIO_PCI_H
#define DEVICES_VIRTIO_VIRTIO_PCI_H

#include "devices/pci.h"
#include "devices/virtio/virtio.h"

#define VIRTIO_PCI_STATE(SCALAR, ARRAY, GROUP, BLOB)                                               \
    SCALAR(u32, feature_select)                                                                    \
    SCALAR(u32, driver_feature_select)                                                             \
    SCALAR(u16, queue_select)                                                                      \
    SCALAR(u8, isr)                                                                                \
    GROUP(virtio, core, 1)

struct virtio_pci {
    struct pci_device pci;
    STATE_MEMBERS(VIRTIO_PCI_STATE)
    struct region legacy, modern;
    u16 access_capability; /* config offset of the window onto the BARs; 0: none */
    bool disable_legacy, disable_modern;
};

extern const struct state_field virtio_pci_fields[];

#define VIRTIO_PCI_TABLE(owner, LIST)                                                              \
    static const struct state_field owner##_fields[] = {                                           \
        {"virtio", 0, 1, sizeof(struct virtio_pci), STATE_GROUP, virtio_pci_fields},               \
        LIST(STATE_F_SCALAR, STATE_F_ARRAY, STATE_F_GROUP, STATE_F_BLOB){NULL, 0, 0, 0, 0, NULL}};

#define VIRTIO_PCI_PROPERTIES                                                                      \
    PCI_PROPERTIES,                                                                                \
        {"disable-legacy", PROPERTY_BOOL, offsetof(struct virtio_pci, disable_legacy), "off",      \
         "no virtio 0.9 interface"},                                                               \
    {                                                                                              \
        "disable-modern", PROPERTY_BOOL, offsetof(struct virtio_pci, disable_modern), "off",       \
            "no virtio 1.0 interface"                                                              \
    }

static inline struct virtio_pci *virtio_pci_of(struct virtio *virtio)
{
    return container_of(virtio, struct virtio_pci, core[0]);
}

/* The class's verbs: init calls the first, adds its queues, and calls virtio_pci_start. */
bool virtio_pci_init(struct virtio_pci *proxy, const struct virtio_function *function,
                     struct error *error);
bool virtio_pci_start(struct virtio_pci *proxy, struct error *error);
void virtio_pci_reset(struct device *device);
void virtio_pci_restored(struct device *device);
void virtio_pci_release(struct virtio_pci *proxy);

#endif
