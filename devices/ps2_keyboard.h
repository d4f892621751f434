/* What the board needs of the PS/2 keyboard. Thread: machine lock held. */
#ifndef DEVICES_PS2_KEYBOARD_H
#define DEVICES_PS2_KEYBOARD_H

#include "devices/ps2.h"
#include "machine/device.h"
#include "machine/display.h"

extern const struct device_class ps2_keyboard_class;

struct ps2_port ps2_keyboard_port(struct device *keyboard);            /* for the 8042 */
void ps2_keyboard_connect_data(struct device *keyboard, struct wire data); /* to the 8042 */
struct input_listener ps2_keyboard_listener(struct device *keyboard);  /* for the display */

/* LEDs as the guest set them: 1 scroll lock, 2 num lock, 4 caps lock. */
u8 ps2_keyboard_leds(struct device *keyboard);

#endif
