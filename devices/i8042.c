/*
 * 8042 keyboard controller with an auxiliary port, at 60h and 64h.
 * Specification: IBM PS/2 Hardware Interface Technical Reference, keyboard and auxiliary device
 * controller; Phoenix MultiKey/42i for the commands clones added.
 *
 * A byte that is read is followed by the device's next one after 200 us, not at once: handlers that
 * read port 60h twice for the same key (DOS resident programs) rely on it staying there.
 * Not modelled: the keyboard lock (always open), the controller's password, serial line errors, the
 * test inputs (E0h), dumping the internal RAM by ACh.
 */
#include "devices/i8042.h"

enum {
    STATUS_OBF = 0x01,
    STATUS_SYSTEM = 0x04,
    STATUS_COMMAND = 0x08,
    STATUS_UNLOCKED = 0x10,
    STATUS_AUX_OBF = 0x20,
    MODE_IRQ1 = 0x01,
    MODE_IRQ12 = 0x02,
    MODE_SYSTEM = 0x04,
    MODE_DISABLE_KEYBOARD = 0x10,
    MODE_DISABLE_MOUSE = 0x20,
    MODE_TRANSLATE = 0x40,
    OUT_NOT_RESET = 0x01,
    OUT_A20 = 0x02,
    OUT_IRQ1 = 0x10,
    OUT_IRQ12 = 0x20,
    BREAK_PREFIX = 0xf0,
};

#define PORTS 2
#define BYTE_NS 200000
#define COMMAND_BYTE 0 /* the mode's place in the internal RAM */

#define I8042_STATE(SCALAR, ARRAY, GROUP, BLOB)                                                    \
    ARRAY(u8, ram, 32)                                                                             \
    SCALAR(u8, status)                                                                             \
    SCALAR(u8, output)         /* what port 60h reads, full or not */                              \
    SCALAR(u8, output_port)                                                                        \
    SCALAR(u8, command)        /* waits for its data byte; 0: none */                              \
    SCALAR(u8, breaking)       /* translation has swallowed F0h */                                 \
    SCALAR(u8, reply_pending)  /* the controller's own byte waits for the buffer to be read */     \
    SCALAR(u8, reply)                                                                              \
    SCALAR(u8, reply_is_aux)                                                                       \
    SCALAR(u64, next_byte_at)  /* virtual time before which devices send nothing */                \
    ARRAY(u8, has_data, PORTS) /* the devices' wires */

struct i8042 {
    struct device dev;
    STATE_MEMBERS(I8042_STATE)
    struct region data_region, command_region;
    struct ps2_port port[PORTS]; /* set by the board */
    struct wire irq[PORTS];      /* set by the board */
    struct timer gap;            /* not saved: i8042_restored */
};

#define STATE_OWNER struct i8042
STATE_TABLE(i8042, I8042_STATE)
#undef STATE_OWNER

/* Scan code set 2 as set 1, for MODE_TRANSLATE; what isn't in here stays as it is. */
// clang-format off
static const u8 translation[0x85] = {
    0xff, 0x43, 0x41, 0x3f, 0x3d, 0x3b, 0x3c, 0x58, 0x64, 0x44, 0x42, 0x40, 0x3e, 0x0f, 0x29, 0x59,
    0x65, 0x38, 0x2a, 0x70, 0x1d, 0x10, 0x02, 0x5a, 0x66, 0x71, 0x2c, 0x1f, 0x1e, 0x11, 0x03, 0x5b,
    0x67, 0x2e, 0x2d, 0x20, 0x12, 0x05, 0x04, 0x5c, 0x68, 0x39, 0x2f, 0x21, 0x14, 0x13, 0x06, 0x5d,
    0x69, 0x31, 0x30, 0x23, 0x22, 0x15, 0x07, 0x5e, 0x6a, 0x72, 0x32, 0x24, 0x16, 0x08, 0x09, 0x5f,
    0x6b, 0x33, 0x25, 0x17, 0x18, 0x0b, 0x0a, 0x60, 0x6c, 0x34, 0x35, 0x26, 0x27, 0x19, 0x0c, 0x61,
    0x6d, 0x73, 0x28, 0x74, 0x1a, 0x0d, 0x62, 0x6e, 0x3a, 0x36, 0x1c, 0x1b, 0x75, 0x2b, 0x63, 0x76,
    0x55, 0x56, 0x77, 0x78, 0x79, 0x7a, 0x0e, 0x7b, 0x7c, 0x4f, 0x7d, 0x4b, 0x47, 0x7e, 0x7f, 0x6f,
    0x52, 0x53, 0x50, 0x4c, 0x4d, 0x48, 0x01, 0x45, 0x57, 0x4e, 0x51, 0x4a, 0x37, 0x49, 0x46, 0x54,
    0x80, 0x81, 0x82, 0x41, 0x54,
};
// clang-format on

static u8 i8042_mode(const struct i8042 *s)
{
    return s->ram[COMMAND_BYTE];
}

static void i8042_drive(struct i8042 *s)
{
    bool full = s->status & STATUS_OBF, aux = s->status & STATUS_AUX_OBF;
    bool irq1 = full && !aux && (i8042_mode(s) & MODE_IRQ1);
    bool irq12 = full && aux && (i8042_mode(s) & MODE_IRQ12);
    s->output_port &= ~(OUT_IRQ1 | OUT_IRQ12);
    if (irq1) s->output_port |= OUT_IRQ1;
    if (irq12) s->output_port |= OUT_IRQ12;
    wire_set(&s->irq[I8042_KEYBOARD], irq1);
    wire_set(&s->irq[I8042_MOUSE], irq12);
}

static void i8042_put(struct i8042 *s, u8 value, bool aux)
{
    s->output = value;
    s->status |= STATUS_OBF;
    s->status &= ~STATUS_AUX_OBF;
    if (aux) s->status |= STATUS_AUX_OBF;
    i8042_drive(s);
}

/* A byte of the keyboard as the host will see it; false when there's nothing to see yet. */
static bool i8042_translate(struct i8042 *s, u8 *value)
{
    if (!(i8042_mode(s) & MODE_TRANSLATE)) {
        s->breaking = 0;
        return true;
    }
    if (*value == BREAK_PREFIX) {
        s->breaking = 0x80;
        return false;
    }
    if (*value < ARRAY_SIZE(translation)) *value = translation[*value] | s->breaking;
    s->breaking = 0;
    return true;
}

/* Moves the next byte into the empty output buffer: the controller's, keyboard's or mouse's. */
static void i8042_fill(struct i8042 *s)
{
    if (s->status & STATUS_OBF) return;
    if (s->reply_pending) {
        s->reply_pending = 0;
        i8042_put(s, s->reply, s->reply_is_aux);
        return;
    }
    if (clock_now(s->dev.clock) < s->next_byte_at) {
        if (s->has_data[0] || s->has_data[1]) timer_set(&s->gap, s->next_byte_at);
        return;
    }
    struct ps2_port *keyboard = &s->port[I8042_KEYBOARD], *mouse = &s->port[I8042_MOUSE];
    if (keyboard->read && !(i8042_mode(s) & MODE_DISABLE_KEYBOARD)) {
        int byte;
        while ((byte = keyboard->read(keyboard->opaque)) >= 0) { /* at most the device's queue */
            u8 value = byte;
            if (i8042_translate(s, &value)) {
                i8042_put(s, value, false);
                return;
            }
        }
    }
    if (mouse->read && !(i8042_mode(s) & MODE_DISABLE_MOUSE)) {
        int byte = mouse->read(mouse->opaque);
        if (byte >= 0) i8042_put(s, byte, true);
    }
}

static void i8042_gap_over(void *opaque)
{
    i8042_fill(opaque);
}

void i8042_set_data(void *controller, unsigned port, bool level)
{
    struct i8042 *s = controller;
    if (port >= PORTS) return;
    s->has_data[port] = level;
    if (level) i8042_fill(s);
}

static void i8042_reply(struct i8042 *s, u8 value, bool aux)
{
    s->reply = value;
    s->reply_is_aux = aux;
    s->reply_pending = 1;
    i8042_fill(s);
}

static void i8042_write_device(struct i8042 *s, unsigned port, u8 value)
{
    s->ram[COMMAND_BYTE] &= port ? ~MODE_DISABLE_MOUSE : ~MODE_DISABLE_KEYBOARD;
    if (s->port[port].write) {
        s->port[port].write(s->port[port].opaque, value);
    } else {
        log_to(s->dev.log, LOG_DEVICE, "i8042: byte %02xh for the empty port %u", value, port);
    }
    i8042_fill(s);
}

static void i8042_set_mode(struct i8042 *s, u8 value)
{
    s->ram[COMMAND_BYTE] = value;
    s->status &= ~STATUS_SYSTEM;
    if (value & MODE_SYSTEM) s->status |= STATUS_SYSTEM;
    i8042_drive(s);
    i8042_fill(s);
}

static void i8042_set_output_port(struct i8042 *s, u8 value)
{
    struct machine_services *services = s->dev.services;
    s->output_port = (s->output_port & (OUT_IRQ1 | OUT_IRQ12)) |
                     (value & ~(OUT_IRQ1 | OUT_IRQ12));
    if (services) services->set_a20(services, value & OUT_A20);
    if (!(value & OUT_NOT_RESET) && services) {
        services->shutdown(services, SHUTDOWN_GUEST_RESET, 0);
    }
}

static void i8042_self_test(struct i8042 *s)
{
    s->ram[COMMAND_BYTE] = MODE_DISABLE_KEYBOARD | MODE_DISABLE_MOUSE |
                           (i8042_mode(s) & (MODE_TRANSLATE | MODE_IRQ1 | MODE_IRQ12)) |
                           MODE_SYSTEM;
    s->status |= STATUS_SYSTEM;
    i8042_reply(s, 0x55, false);
}

static void i8042_write_command(struct i8042 *s, u8 value)
{
    struct machine_services *services = s->dev.services;
    s->status |= STATUS_COMMAND;
    s->command = 0;
    switch (value) {
    case 0x20 ... 0x3f: i8042_reply(s, s->ram[value & 31], false); break;
    case 0x60 ... 0x7f: s->command = value; break;
    case 0xa1: i8042_reply(s, 'L', false); break;  /* version */
    case 0xa4: i8042_reply(s, 0xf1, false); break; /* no password */
    case 0xa7: i8042_set_mode(s, i8042_mode(s) | MODE_DISABLE_MOUSE); break;
    case 0xa8: i8042_set_mode(s, i8042_mode(s) & ~MODE_DISABLE_MOUSE); break;
    case 0xa9: /* test of the auxiliary interface, then the keyboard's: no error */
    case 0xab: i8042_reply(s, 0, false); break;
    case 0xaa: i8042_self_test(s); break;
    case 0xad: i8042_set_mode(s, i8042_mode(s) | MODE_DISABLE_KEYBOARD); break;
    case 0xae: i8042_set_mode(s, i8042_mode(s) & ~MODE_DISABLE_KEYBOARD); break;
    case 0xc0: i8042_reply(s, 0x80, false); break; /* input port: not locked */
    case 0xd0: i8042_reply(s, s->output_port, false); break;
    case 0xd1:
    case 0xd2:
    case 0xd3:
    case 0xd4: s->command = value; break;
    case 0xdd: i8042_set_output_port(s, s->output_port & ~OUT_A20); break;
    case 0xdf: i8042_set_output_port(s, s->output_port | OUT_A20); break;
    case 0xf0 ... 0xff: /* pulses the low bits of the output port that are 0 here */
        if (!(value & OUT_NOT_RESET) && services) {
            services->shutdown(services, SHUTDOWN_GUEST_RESET, 0);
        }
        break;
    default: device_unimplemented(&s->dev, "i8042: command %02xh", value); break;
    }
}

static void i8042_write_data(struct i8042 *s, u8 value)
{
    u8 command = s->command;
    s->status &= ~STATUS_COMMAND;
    s->command = 0;
    switch (command) {
    case 0: i8042_write_device(s, I8042_KEYBOARD, value); break;
    case 0x60: i8042_set_mode(s, value); break;
    case 0x61 ... 0x7f: s->ram[command & 31] = value; break;
    case 0xd1: i8042_set_output_port(s, value); break;
    case 0xd2: i8042_reply(s, value, false); break;
    case 0xd3: i8042_reply(s, value, true); break;
    case 0xd4: i8042_write_device(s, I8042_MOUSE, value); break;
    }
}

static u64 i8042_read_data(struct device *device, u64 offset, unsigned size)
{
    struct i8042 *s = container_of(device, struct i8042, dev);
    (void)offset, (void)size;
    u8 value = s->output;
    if (s->status & STATUS_OBF) {
        s->status &= ~(STATUS_OBF | STATUS_AUX_OBF);
        s->next_byte_at = clock_now(device->clock) + BYTE_NS;
        i8042_drive(s);
        i8042_fill(s);
    }
    return value;
}

static void i8042_data_write(struct device *device, u64 offset, u64 value, unsigned size)
{
    (void)offset, (void)size;
    i8042_write_data(container_of(device, struct i8042, dev), value);
}

static u64 i8042_read_status(struct device *device, u64 offset, unsigned size)
{
    (void)offset, (void)size;
    return container_of(device, struct i8042, dev)->status;
}

static void i8042_command_write(struct device *device, u64 offset, u64 value, unsigned size)
{
    (void)offset, (void)size;
    i8042_write_command(container_of(device, struct i8042, dev), value);
}

void i8042_connect(struct device *controller, unsigned port, struct ps2_port device)
{
    if (port < PORTS) container_of(controller, struct i8042, dev)->port[port] = device;
}

void i8042_connect_irq(struct device *controller, unsigned port, struct wire irq)
{
    if (port < PORTS) container_of(controller, struct i8042, dev)->irq[port] = irq;
}

static const struct region_ops i8042_data_ops = {"i8042-data", i8042_read_data, i8042_data_write,
                                                 1, 1};
static const struct region_ops i8042_command_ops = {"i8042-command", i8042_read_status,
                                                    i8042_command_write, 1, 1};

static bool i8042_init(struct device *device, struct error *error)
{
    struct i8042 *s = container_of(device, struct i8042, dev);
    (void)error;
    timer_init(&s->gap, device->clock, i8042_gap_over, s);
    region_init(&s->data_region, device, &i8042_data_ops, 1);
    region_init(&s->command_region, device, &i8042_command_ops, 1);
    bus_map(device->bus, BUS_PORT, &s->data_region, 0x60, LAYER_DEVICE);
    bus_map(device->bus, BUS_PORT, &s->command_region, 0x64, LAYER_DEVICE);
    return true;
}

static void i8042_reset(struct device *device)
{
    struct i8042 *s = container_of(device, struct i8042, dev);
    memset(s->ram, 0, sizeof s->ram);
    s->ram[COMMAND_BYTE] = MODE_IRQ1 | MODE_IRQ12;
    s->status = STATUS_COMMAND | STATUS_UNLOCKED;
    s->output = 0;
    s->output_port = 0xcc | OUT_NOT_RESET | OUT_A20;
    s->command = s->breaking = s->reply_pending = 0;
    s->next_byte_at = 0;
    memset(s->has_data, 0, sizeof s->has_data);
    timer_cancel(&s->gap);
    if (device->services) device->services->set_a20(device->services, true);
    i8042_drive(s);
}

static void i8042_restored(struct device *device)
{
    struct i8042 *s = container_of(device, struct i8042, dev);
    u64 latest = clock_now(device->clock) + BYTE_NS;
    s->breaking &= 0x80;
    if (s->next_byte_at > latest) s->next_byte_at = latest;
    /* A20 is saved by the machine; bytes that wait come when the gap is over. */
    i8042_drive(s);
    timer_set(&s->gap, latest);
}

static void i8042_release(struct device *device)
{
    timer_cancel(&container_of(device, struct i8042, dev)->gap);
}

const struct device_class i8042_class = {
    .name = "i8042",
    .title = "8042 keyboard controller",
    .version = 1,
    .size = sizeof(struct i8042),
    .fields = i8042_fields,
    .init = i8042_init,
    .reset = i8042_reset,
    .restored = i8042_restored,
    .release = i8042_release,
};
