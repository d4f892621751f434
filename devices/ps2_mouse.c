/*
 * PS/2 mouse, with the IntelliMouse (wheel) and IntelliMouse Explorer (five buttons) extensions.
 * Specification: IBM PS/2 Hardware Interface Technical Reference, mouse; Microsoft's wheel mouse
 * protocol for the sampling-rate knocks 200,100,80 and 200,200,80.
 *
 * Deviation: the sampling rate and resolution are remembered and reported but don't scale or pace
 * movement; packets go as fast as the host fetches them.
 */
#include "devices/ps2_mouse.h"

enum {
    REPLY_ACK = 0xfa,
    REPLY_ERROR = 0xfc,
    REPLY_RESEND = 0xfe,
    REPLY_TEST_PASSED = 0xaa,
    STATUS_SCALING = 0x10,
    STATUS_ENABLED = 0x20,
    STATUS_REMOTE = 0x40,
    ID_PLAIN = 0,
    ID_WHEEL = 3,
    ID_EXPLORER = 4,
};

#define QUEUE 16
#define REPLIES 8
#define FAR_AWAY 0x4000 /* movement that hasn't been fetched is kept up to here */

#define PS2_MOUSE_STATE(SCALAR, ARRAY, GROUP, BLOB)                                                \
    ARRAY(u8, packets, QUEUE)                                                                      \
    SCALAR(u8, packet_count)                                                                       \
    ARRAY(u8, replies, REPLIES)                                                                    \
    SCALAR(u8, reply_count)                                                                        \
    SCALAR(u8, last_sent)                                                                          \
    SCALAR(u8, command) /* waits for its parameter; 0: none */                                     \
    SCALAR(u8, wrap)                                                                               \
    SCALAR(u8, remote)                                                                             \
    SCALAR(u8, enabled)                                                                            \
    SCALAR(u8, scaling)                                                                            \
    SCALAR(u8, resolution)                                                                         \
    SCALAR(u8, rate)                                                                               \
    ARRAY(u8, knock, 2) /* the sampling rates before this one */                                   \
    SCALAR(u8, id)                                                                                 \
    SCALAR(u8, buttons)                                                                            \
    SCALAR(u8, buttons_sent)                                                                       \
    SCALAR(i32, dx)                                                                                \
    SCALAR(i32, dy)                                                                                \
    SCALAR(i32, dz)

struct ps2_mouse {
    struct device dev;
    STATE_MEMBERS(PS2_MOUSE_STATE)
    struct wire data; /* set by the board */
};

#define STATE_OWNER struct ps2_mouse
STATE_TABLE(ps2_mouse, PS2_MOUSE_STATE)
#undef STATE_OWNER

static void ps2_mouse_drive(struct ps2_mouse *s)
{
    wire_set(&s->data, s->packet_count || s->reply_count);
}

static int clamp(int value, int low, int high)
{
    return value < low ? low : value > high ? high : value;
}

/* 2:1 scaling of what one packet reports. */
static int scaled(const struct ps2_mouse *s, int value)
{
    static const u8 small[6] = {0, 1, 1, 3, 6, 9};
    if (!s->scaling) return value;
    unsigned size = value < 0 ? -value : value;
    int result = size < ARRAY_SIZE(small) ? small[size] : 2 * (int)size;
    return clamp(value < 0 ? -result : result, -256, 255);
}

/* Builds the next packet from what has accumulated; returns its length. */
static unsigned ps2_mouse_packet(struct ps2_mouse *s, u8 packet[4], bool scale)
{
    int dx = clamp(s->dx, -255, 255), dy = clamp(s->dy, -255, 255), dz = clamp(s->dz, -7, 7);
    s->dx -= dx;
    s->dy -= dy;
    s->dz -= dz;
    s->buttons_sent = s->buttons;
    if (scale) dx = scaled(s, dx), dy = scaled(s, dy);
    packet[0] = 0x08 | (dx < 0 ? 0x10 : 0) | (dy < 0 ? 0x20 : 0) | (s->buttons & 7);
    packet[1] = dx;
    packet[2] = dy;
    if (s->id == ID_PLAIN) return 3;
    packet[3] = dz;
    if (s->id == ID_EXPLORER) packet[3] = (dz & 15) | (s->buttons << 1 & 0x30);
    return 4;
}

/* Queues packets for what has accumulated, as far as there is room. */
static void ps2_mouse_report(struct ps2_mouse *s)
{
    if (!s->enabled || s->remote || s->wrap) return;
    for (;;) {
        unsigned length = s->id == ID_PLAIN ? 3 : 4;
        if (s->id == ID_PLAIN) s->dz = 0;
        if (!s->dx && !s->dy && !s->dz && s->buttons == s->buttons_sent) break;
        if (s->packet_count + length > QUEUE) break;
        s->packet_count += ps2_mouse_packet(s, s->packets + s->packet_count, true);
    }
}

static void ps2_mouse_event(void *opaque, int dx, int dy, int dz, unsigned buttons)
{
    struct ps2_mouse *s = opaque;
    /* The packet's Y grows upwards and its Z towards the user. */
    s->dx = clamp(s->dx + clamp(dx, -FAR_AWAY, FAR_AWAY), -FAR_AWAY, FAR_AWAY);
    s->dy = clamp(s->dy - clamp(dy, -FAR_AWAY, FAR_AWAY), -FAR_AWAY, FAR_AWAY);
    s->dz = clamp(s->dz - clamp(dz, -127, 127), -127, 127);
    if (buttons & 0x1f & ~s->buttons) device_wake(&s->dev, WAKE_INPUT);
    s->buttons = buttons & 0x1f;
    if (!s->enabled && !s->remote) {
        s->dx = s->dy = s->dz = 0;
        return;
    }
    ps2_mouse_report(s);
    ps2_mouse_drive(s);
}

static void ps2_mouse_reply(struct ps2_mouse *s, u8 byte)
{
    if (s->reply_count < REPLIES) s->replies[s->reply_count++] = byte;
}

static void ps2_mouse_defaults(struct ps2_mouse *s)
{
    s->packet_count = 0;
    s->command = 0;
    s->wrap = s->remote = s->enabled = s->scaling = 0;
    s->resolution = 2;
    s->rate = 100;
    s->dx = s->dy = s->dz = 0;
    s->buttons_sent = s->buttons;
}

static void ps2_mouse_status(struct ps2_mouse *s)
{
    u8 status = (s->buttons & 1) << 2 | (s->buttons & 2) >> 1 | (s->buttons & 4) >> 1;
    if (s->scaling) status |= STATUS_SCALING;
    if (s->enabled) status |= STATUS_ENABLED;
    if (s->remote) status |= STATUS_REMOTE;
    ps2_mouse_reply(s, status);
    ps2_mouse_reply(s, s->resolution);
    ps2_mouse_reply(s, s->rate);
}

static void ps2_mouse_read_data(struct ps2_mouse *s)
{
    u8 packet[4];
    unsigned length = ps2_mouse_packet(s, packet, false);
    for (unsigned i = 0; i < length; i++) ps2_mouse_reply(s, packet[i]);
}

static void ps2_mouse_set_rate(struct ps2_mouse *s, u8 rate)
{
    if (s->knock[0] == 200 && s->knock[1] == 100 && rate == 80) s->id = ID_WHEEL;
    if (s->knock[0] == 200 && s->knock[1] == 200 && rate == 80) s->id = ID_EXPLORER;
    s->knock[0] = s->knock[1];
    s->knock[1] = rate;
    s->rate = rate;
}

static void ps2_mouse_command(struct ps2_mouse *s, u8 value)
{
    if (value == 0xfe) {
        ps2_mouse_reply(s, s->last_sent);
        return;
    }
    bool known = value >= 0xe6 && value != 0xed && value != 0xef && value != 0xf1 &&
                 !(value >= 0xf7 && value <= 0xfe);
    ps2_mouse_reply(s, known ? REPLY_ACK : REPLY_ERROR);
    switch (value) {
    case 0xe6:
    case 0xe7: s->scaling = value & 1; break;
    case 0xe8: /* resolution */
    case 0xf3: /* sampling rate */ s->command = value; break;
    case 0xe9: ps2_mouse_status(s); break;
    case 0xea: s->remote = 0; break;
    case 0xeb: ps2_mouse_read_data(s); break;
    case 0xec: s->wrap = 0; break;
    case 0xee: s->wrap = 1; break;
    case 0xf0: s->remote = 1; break;
    case 0xf2: ps2_mouse_reply(s, s->id); break;
    case 0xf4:
        s->enabled = 1;
        s->buttons_sent = s->buttons;
        s->dx = s->dy = s->dz = 0;
        break;
    case 0xf5: s->enabled = 0; break;
    case 0xf6: ps2_mouse_defaults(s); break;
    case 0xff:
        ps2_mouse_defaults(s);
        s->id = ID_PLAIN;
        s->knock[0] = s->knock[1] = 0;
        ps2_mouse_reply(s, REPLY_TEST_PASSED);
        ps2_mouse_reply(s, ID_PLAIN);
        break;
    }
}

static void ps2_mouse_parameter(struct ps2_mouse *s, u8 value)
{
    u8 command = s->command;
    s->command = 0;
    if (command == 0xe8 && value <= 3) {
        s->resolution = value;
    } else if (command == 0xf3 && value >= 10 && value <= 200) {
        ps2_mouse_set_rate(s, value);
    } else if (value >= 0xe6) { /* a command where a parameter should be */
        ps2_mouse_command(s, value);
        return;
    } else {
        ps2_mouse_reply(s, REPLY_RESEND);
        s->command = command;
        return;
    }
    ps2_mouse_reply(s, REPLY_ACK);
}

static void ps2_mouse_write(void *opaque, u8 value)
{
    struct ps2_mouse *s = opaque;
    if (value != 0xfe) s->reply_count = 0;
    s->packet_count = 0; /* the part drops what it hasn't sent when it hears a command */
    if (s->wrap && value != 0xec && value != 0xff) {
        ps2_mouse_reply(s, value);
    } else if (s->command) {
        ps2_mouse_parameter(s, value);
    } else {
        ps2_mouse_command(s, value);
    }
    ps2_mouse_drive(s);
}

static u8 take_first(u8 *bytes, u8 *count)
{
    u8 byte = bytes[0];
    memmove(bytes, bytes + 1, --*count);
    return byte;
}

static int ps2_mouse_read(void *opaque)
{
    struct ps2_mouse *s = opaque;
    if (!s->reply_count && !s->packet_count) return -1;
    s->last_sent = s->reply_count ? take_first(s->replies, &s->reply_count)
                                  : take_first(s->packets, &s->packet_count);
    if (!s->packet_count) ps2_mouse_report(s);
    /* Only ever falls here: the reader is in the middle of taking this byte. */
    if (!s->reply_count && !s->packet_count) wire_set(&s->data, false);
    return s->last_sent;
}

static void ps2_mouse_no_key(void *opaque, u32 scancode, bool down)
{
    (void)opaque, (void)scancode, (void)down;
}

struct ps2_port ps2_mouse_port(struct device *mouse)
{
    return (struct ps2_port){container_of(mouse, struct ps2_mouse, dev), ps2_mouse_write,
                             ps2_mouse_read};
}

void ps2_mouse_connect_data(struct device *mouse, struct wire data)
{
    container_of(mouse, struct ps2_mouse, dev)->data = data;
}

struct input_listener ps2_mouse_listener(struct device *mouse)
{
    return (struct input_listener){container_of(mouse, struct ps2_mouse, dev), ps2_mouse_no_key,
                                   ps2_mouse_event};
}

static bool ps2_mouse_init(struct device *device, struct error *error)
{
    (void)device, (void)error;
    return true;
}

static void ps2_mouse_reset(struct device *device)
{
    struct ps2_mouse *s = container_of(device, struct ps2_mouse, dev);
    ps2_mouse_defaults(s);
    s->id = ID_PLAIN;
    s->knock[0] = s->knock[1] = 0;
    s->buttons = s->buttons_sent = 0;
    s->reply_count = 0;
    s->last_sent = 0;
    ps2_mouse_drive(s);
}

static void ps2_mouse_restored(struct device *device)
{
    struct ps2_mouse *s = container_of(device, struct ps2_mouse, dev);
    if (s->packet_count > QUEUE) s->packet_count = 0;
    if (s->reply_count > REPLIES) s->reply_count = 0;
    if (s->id != ID_WHEEL && s->id != ID_EXPLORER) s->id = ID_PLAIN;
    s->scaling &= 1;
    s->dx = clamp(s->dx, -FAR_AWAY, FAR_AWAY);
    s->dy = clamp(s->dy, -FAR_AWAY, FAR_AWAY);
    s->dz = clamp(s->dz, -127, 127);
    /* The 8042 saved the wire's level. */
}

const struct device_class ps2_mouse_class = {
    .name = "ps2-mouse",
    .title = "PS/2 mouse with wheel",
    .version = 1,
    .size = sizeof(struct ps2_mouse),
    .fields = ps2_mouse_fields,
    .init = ps2_mouse_init,
    .reset = ps2_mouse_reset,
    .restored = ps2_mouse_restored,
};
