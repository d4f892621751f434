/* What the board and DMA-capable chips need of the ISA DMA controllers. Thread: machine lock
 * held. */
#ifndef DEVICES_I8237_H
#define DEVICES_I8237_H

#include "machine/device.h"

extern const struct device_class i8237_class;

/*
 * A device on CHANNEL (0-3: bytes, 5-7: words) asks for a transfer of LENGTH bytes between BUFFER
 * and memory, as the channel is programmed. Returns the bytes moved: fewer than LENGTH when the
 * channel is masked, disabled, programmed for the other direction, or reaches its terminal count,
 * which *TERMINAL_COUNT tells. A verify transfer counts without touching BUFFER or memory.
 */
u32 i8237_transfer(struct device *dma, unsigned channel, u8 *buffer, u32 length, bool to_memory,
                   bool *terminal_count);

#endif
