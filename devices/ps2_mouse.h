/* What the board needs of the PS/2 mouse. Thread: machine lock held. */
#ifndef DEVICES_PS2_MOUSE_H
#define DEVICES_PS2_MOUSE_H

#include "devices/ps2.h"
#include "machine/device.h"
#include "machine/display.h"

extern const struct device_class ps2_mouse_class;

struct ps2_port ps2_mouse_port(struct device *mouse);                /* for the 8042 */
void ps2_mouse_connect_data(struct device *mouse, struct wire data); /* to the 8042 */

/* For the display: dx to the right, dy downwards, dz away from the user; buttons 8 and 16 are the
 * Explorer mouse's fourth and fifth. */
struct input_listener ps2_mouse_listener(struct device *mouse);

#endif
