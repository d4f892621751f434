/* The memory balloon's ends that are not the guest's: monitor and board. Machine lock held. */
#ifndef DEVICES_VIRTIO_VIRTIO_BALLOON_H
#define DEVICES_VIRTIO_VIRTIO_BALLOON_H

#include "machine/device.h"

/* Asks the guest to have BYTES of memory left (the monitor's `balloon`). */
void virtio_balloon_set_target(struct device *device, u64 bytes);
/* What the guest has left by its own account. */
u64 virtio_balloon_actual(struct device *device);
/* The board's way to give the host back LENGTH bytes of plain RAM at ADDRESS, which the guest no
 * longer wants; what they hold is lost. May stay unset. */
void virtio_balloon_on_discard(struct device *device,
                               void (*discard)(void *opaque, u64 address, u64 length),
                               void *opaque);

#endif
