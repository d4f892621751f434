/*
 * PS/2 keyboard of 102 keys with scan code sets 1, 2 and 3.
 * Specification: IBM PS/2 Hardware Interface Technical Reference, keyboards.
 *
 * Keys come as set-1 codes and are sent in whichever set the host chose; the 8042 translates set 2.
 * Deviations: the host's key repeat is passed on, so the typematic rate is only remembered; no
 * self-test result is sent after power-on, only after a reset command. Not modelled: the shifts
 * that real keyboards put around the grey cursor keys while Num Lock is on.
 */
#include "devices/ps2_keyboard.h"

enum {
    REPLY_ACK = 0xfa,
    REPLY_RESEND = 0xfe,
    REPLY_ECHO = 0xee,
    REPLY_TEST_PASSED = 0xaa,
    BREAK_PREFIX = 0xf0,
    SCANCODE_PAUSE = 0xe11d45,
    SCANCODE_PRINT_SCREEN = 0xe037,
};

#define QUEUE 16
#define REPLIES 8

#define PS2_KEYBOARD_STATE(SCALAR, ARRAY, GROUP, BLOB)                                             \
    ARRAY(u8, keys, QUEUE + 1) /* one more for the overrun code */                                 \
    SCALAR(u8, key_count)                                                                          \
    ARRAY(u8, replies, REPLIES)                                                                    \
    SCALAR(u8, reply_count)                                                                        \
    SCALAR(u8, last_sent)                                                                          \
    SCALAR(u8, command) /* waits for its parameter; 0: none */                                     \
    SCALAR(u8, scanning)                                                                           \
    SCALAR(u8, set)                                                                                \
    SCALAR(u8, leds)                                                                               \
    SCALAR(u8, typematic)                                                                          \
    ARRAY(u8, breaks, 32) /* one bit a set-3 code: the key sends its release */

struct ps2_keyboard {
    struct device dev;
    STATE_MEMBERS(PS2_KEYBOARD_STATE)
    struct wire data; /* set by the board */
};

#define STATE_OWNER struct ps2_keyboard
STATE_TABLE(ps2_keyboard, PS2_KEYBOARD_STATE)
#undef STATE_OWNER

/* By set-1 code; E0h keys have the same codes behind E0h. */
// clang-format off
static const u8 set2_codes[128] = {
    0x00, 0x76, 0x16, 0x1e, 0x26, 0x25, 0x2e, 0x36, 0x3d, 0x3e, 0x46, 0x45, 0x4e, 0x55, 0x66, 0x0d,
    0x15, 0x1d, 0x24, 0x2d, 0x2c, 0x35, 0x3c, 0x43, 0x44, 0x4d, 0x54, 0x5b, 0x5a, 0x14, 0x1c, 0x1b,
    0x23, 0x2b, 0x34, 0x33, 0x3b, 0x42, 0x4b, 0x4c, 0x52, 0x0e, 0x12, 0x5d, 0x1a, 0x22, 0x21, 0x2a,
    0x32, 0x31, 0x3a, 0x41, 0x49, 0x4a, 0x59, 0x7c, 0x11, 0x29, 0x58, 0x05, 0x06, 0x04, 0x0c, 0x03,
    0x0b, 0x83, 0x0a, 0x01, 0x09, 0x77, 0x7e, 0x6c, 0x75, 0x7d, 0x7b, 0x6b, 0x73, 0x74, 0x79, 0x69,
    0x72, 0x7a, 0x70, 0x71, 0x84, 0x60, 0x61, 0x78, 0x07, 0x0f, 0x17, 0x1f, 0x27, 0x2f, 0x37, 0x3f,
    0x47, 0x4f, 0x56, 0x5e, 0x08, 0x10, 0x18, 0x20, 0x28, 0x30, 0x38, 0x40, 0x48, 0x50, 0x57, 0x6f,
    0x13, 0x19, 0x39, 0x51, 0x53, 0x5c, 0x5f, 0x62, 0x63, 0x64, 0x65, 0x67, 0x68, 0x6a, 0x6d, 0x6e,
};

static const u8 set3_codes[0x60] = {
    0x00, 0x08, 0x16, 0x1e, 0x26, 0x25, 0x2e, 0x36, 0x3d, 0x3e, 0x46, 0x45, 0x4e, 0x55, 0x66, 0x0d,
    0x15, 0x1d, 0x24, 0x2d, 0x2c, 0x35, 0x3c, 0x43, 0x44, 0x4d, 0x54, 0x5b, 0x5a, 0x11, 0x1c, 0x1b,
    0x23, 0x2b, 0x34, 0x33, 0x3b, 0x42, 0x4b, 0x4c, 0x52, 0x0e, 0x12, 0x5c, 0x1a, 0x22, 0x21, 0x2a,
    0x32, 0x31, 0x3a, 0x41, 0x49, 0x4a, 0x59, 0x7e, 0x19, 0x29, 0x14, 0x07, 0x0f, 0x17, 0x1f, 0x27,
    0x2f, 0x37, 0x3f, 0x47, 0x4f, 0x76, 0x5f, 0x6c, 0x75, 0x7d, 0x84, 0x6b, 0x73, 0x74, 0x7c, 0x69,
    0x72, 0x7a, 0x70, 0x71, 0x57, 0x00, 0x13, 0x56, 0x5e, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
};

static const struct { u8 set1, set3; } set3_extended[] = {
    {0x1c, 0x79}, {0x1d, 0x58}, {0x35, 0x77}, {0x37, 0x57}, {0x38, 0x39}, {0x47, 0x6e},
    {0x48, 0x63}, {0x49, 0x6f}, {0x4b, 0x61}, {0x4d, 0x6a}, {0x4f, 0x65}, {0x50, 0x60},
    {0x51, 0x6d}, {0x52, 0x67}, {0x53, 0x64}, {0x5b, 0x8b}, {0x5c, 0x8c}, {0x5d, 0x8d},
};

/* Shift, control, alternate and caps lock report their release in set 3 by default. */
static const u8 set3_default_breaks[] = {0x11, 0x12, 0x14, 0x19, 0x39, 0x58, 0x59};
// clang-format on

static void ps2_keyboard_drive(struct ps2_keyboard *s)
{
    wire_set(&s->data, s->key_count || s->reply_count);
}

/* All of a key's bytes or none: half a sequence would be another key. */
static void ps2_keyboard_queue(struct ps2_keyboard *s, const u8 *bytes, unsigned count)
{
    if (s->key_count + count <= QUEUE) {
        memcpy(s->keys + s->key_count, bytes, count);
        s->key_count += count;
    } else {
        u8 overrun = s->set == 1 ? 0xff : 0x00;
        if (s->key_count <= QUEUE && (!s->key_count || s->keys[s->key_count - 1] != overrun)) {
            s->keys[s->key_count++] = overrun;
        }
        log_to(s->dev.log, LOG_DEVICE, "%s: queue full, key lost", s->dev.id);
    }
    ps2_keyboard_drive(s);
}

static void ps2_keyboard_reply(struct ps2_keyboard *s, u8 byte)
{
    if (s->reply_count < REPLIES) s->replies[s->reply_count++] = byte;
}

#define SEND(s, ...)                                                                               \
    do {                                                                                           \
        static const u8 bytes[] = {__VA_ARGS__};                                                   \
        ps2_keyboard_queue(s, bytes, sizeof bytes);                                                \
    } while (0)

static void ps2_keyboard_key_set1(struct ps2_keyboard *s, u32 scancode, bool down)
{
    u8 bytes[2];
    unsigned count = 0;
    if (scancode == SCANCODE_PAUSE) {
        if (down) SEND(s, 0xe1, 0x1d, 0x45, 0xe1, 0x9d, 0xc5);
        return;
    }
    if (scancode == SCANCODE_PRINT_SCREEN) {
        if (down) SEND(s, 0xe0, 0x2a, 0xe0, 0x37);
        else SEND(s, 0xe0, 0xb7, 0xe0, 0xaa);
        return;
    }
    if (scancode >> 8 == 0xe0) bytes[count++] = 0xe0;
    bytes[count++] = (scancode & 0x7f) | (down ? 0 : 0x80);
    ps2_keyboard_queue(s, bytes, count);
}

static void ps2_keyboard_key_set2(struct ps2_keyboard *s, u32 scancode, bool down)
{
    u8 bytes[3], code = set2_codes[scancode & 0x7f];
    unsigned count = 0;
    if (scancode == SCANCODE_PAUSE) {
        if (down) SEND(s, 0xe1, 0x14, 0x77, 0xe1, 0xf0, 0x14, 0xf0, 0x77);
        return;
    }
    if (scancode == SCANCODE_PRINT_SCREEN) {
        if (down) SEND(s, 0xe0, 0x12, 0xe0, 0x7c);
        else SEND(s, 0xe0, 0xf0, 0x7c, 0xe0, 0xf0, 0x12);
        return;
    }
    if (!code) return;
    if (scancode >> 8 == 0xe0) bytes[count++] = 0xe0;
    if (!down) bytes[count++] = BREAK_PREFIX;
    bytes[count++] = code;
    ps2_keyboard_queue(s, bytes, count);
}

static u8 set3_code(u32 scancode)
{
    if (scancode == SCANCODE_PAUSE) return 0x62;
    if (scancode < ARRAY_SIZE(set3_codes)) return set3_codes[scancode];
    if (scancode >> 8 != 0xe0) return 0;
    for (unsigned i = 0; i < ARRAY_SIZE(set3_extended); i++) {
        if (set3_extended[i].set1 == (scancode & 0xff)) return set3_extended[i].set3;
    }
    return 0;
}

static void ps2_keyboard_key_set3(struct ps2_keyboard *s, u32 scancode, bool down)
{
    u8 code = set3_code(scancode), bytes[2] = {BREAK_PREFIX, code};
    if (!code) return;
    if (down) {
        ps2_keyboard_queue(s, bytes + 1, 1);
    } else if (s->breaks[code >> 3] >> (code & 7) & 1) {
        ps2_keyboard_queue(s, bytes, 2);
    }
}

static void ps2_keyboard_key(void *opaque, u32 scancode, bool down)
{
    struct ps2_keyboard *s = opaque;
    bool known = scancode == SCANCODE_PAUSE || scancode >> 8 == 0 || scancode >> 8 == 0xe0;
    if (down) device_wake(&s->dev, WAKE_INPUT);
    if (!s->scanning || !known || !(scancode & 0x7f)) return;
    switch (s->set) {
    case 1: ps2_keyboard_key_set1(s, scancode, down); break;
    case 3: ps2_keyboard_key_set3(s, scancode, down); break;
    default: ps2_keyboard_key_set2(s, scancode, down); break;
    }
}

static void ps2_keyboard_set_break(struct ps2_keyboard *s, u8 code, bool on)
{
    s->breaks[code >> 3] &= ~(1u << (code & 7));
    if (on) s->breaks[code >> 3] |= 1u << (code & 7);
}

static void ps2_keyboard_defaults(struct ps2_keyboard *s)
{
    s->set = 2;
    s->typematic = 0x2b;
    s->key_count = 0;
    s->command = 0;
    memset(s->breaks, 0, sizeof s->breaks);
    for (unsigned i = 0; i < ARRAY_SIZE(set3_default_breaks); i++) {
        ps2_keyboard_set_break(s, set3_default_breaks[i], true);
    }
}

static void ps2_keyboard_command(struct ps2_keyboard *s, u8 value)
{
    s->command = 0;
    if (value == 0xfe) {
        ps2_keyboard_reply(s, s->last_sent);
        return;
    }
    if (value == 0xee) {
        ps2_keyboard_reply(s, REPLY_ECHO);
        return;
    }
    ps2_keyboard_reply(s, value < 0xed || value == 0xef || value == 0xf1 ? REPLY_RESEND
                                                                         : REPLY_ACK);
    switch (value) {
    case 0xed: /* LEDs */
    case 0xf0: /* scan code set */
    case 0xf3: /* typematic rate and delay */
    case 0xfb: /* these keys: no release */
    case 0xfc: /* these keys: release */
    case 0xfd: /* these keys: no release, no repeat */ s->command = value; break;
    case 0xf2:
        ps2_keyboard_reply(s, 0xab);
        ps2_keyboard_reply(s, 0x83);
        break;
    case 0xf4:
        s->key_count = 0;
        s->scanning = 1;
        break;
    case 0xf5:
        ps2_keyboard_defaults(s);
        s->scanning = 0;
        break;
    case 0xf6: ps2_keyboard_defaults(s); break;
    case 0xf7: /* all keys: no release */
    case 0xf9: memset(s->breaks, 0, sizeof s->breaks); break;
    case 0xf8: /* all keys: release */
    case 0xfa: memset(s->breaks, 0xff, sizeof s->breaks); break;
    case 0xff:
        ps2_keyboard_defaults(s);
        s->scanning = 1;
        s->leds = 0;
        ps2_keyboard_reply(s, REPLY_TEST_PASSED);
        break;
    }
}

/* The byte after a command that takes one; a command byte instead of it is a new command. */
static void ps2_keyboard_parameter(struct ps2_keyboard *s, u8 value)
{
    u8 command = s->command;
    if (command >= 0xfb ? value >= 0xed : value >= 0x80) {
        ps2_keyboard_command(s, value);
        return;
    }
    ps2_keyboard_reply(s, REPLY_ACK);
    if (command < 0xfb) s->command = 0; /* FBh-FDh take keys until the next command */
    switch (command) {
    case 0xed: s->leds = value & 7; break;
    case 0xf0:
        if (value == 0) {
            ps2_keyboard_reply(s, s->set);
        } else if (value <= 3) {
            s->set = value;
            s->key_count = 0;
        }
        break;
    case 0xf3: s->typematic = value; break;
    case 0xfb:
    case 0xfd: ps2_keyboard_set_break(s, value, false); break;
    case 0xfc: ps2_keyboard_set_break(s, value, true); break;
    }
}

static void ps2_keyboard_write(void *opaque, u8 value)
{
    struct ps2_keyboard *s = opaque;
    if (value != 0xfe) s->reply_count = 0; /* a new command overrides what hasn't been fetched */
    if (s->command) {
        ps2_keyboard_parameter(s, value);
    } else {
        ps2_keyboard_command(s, value);
    }
    ps2_keyboard_drive(s);
}

static u8 take_first(u8 *bytes, u8 *count)
{
    u8 byte = bytes[0];
    memmove(bytes, bytes + 1, --*count);
    return byte;
}

static int ps2_keyboard_read(void *opaque)
{
    struct ps2_keyboard *s = opaque;
    if (!s->reply_count && !s->key_count) return -1;
    s->last_sent = s->reply_count ? take_first(s->replies, &s->reply_count)
                                  : take_first(s->keys, &s->key_count);
    /* Only ever falls here: the reader is in the middle of taking this byte. */
    if (!s->reply_count && !s->key_count) wire_set(&s->data, false);
    return s->last_sent;
}

static void ps2_keyboard_no_mouse(void *opaque, int dx, int dy, int dz, unsigned buttons)
{
    (void)opaque, (void)dx, (void)dy, (void)dz, (void)buttons;
}

struct ps2_port ps2_keyboard_port(struct device *keyboard)
{
    return (struct ps2_port){container_of(keyboard, struct ps2_keyboard, dev), ps2_keyboard_write,
                             ps2_keyboard_read};
}

void ps2_keyboard_connect_data(struct device *keyboard, struct wire data)
{
    container_of(keyboard, struct ps2_keyboard, dev)->data = data;
}

struct input_listener ps2_keyboard_listener(struct device *keyboard)
{
    return (struct input_listener){container_of(keyboard, struct ps2_keyboard, dev),
                                   ps2_keyboard_key, ps2_keyboard_no_mouse};
}

u8 ps2_keyboard_leds(struct device *keyboard)
{
    return container_of(keyboard, struct ps2_keyboard, dev)->leds;
}

static bool ps2_keyboard_init(struct device *device, struct error *error)
{
    (void)device, (void)error;
    return true;
}

static void ps2_keyboard_reset(struct device *device)
{
    struct ps2_keyboard *s = container_of(device, struct ps2_keyboard, dev);
    ps2_keyboard_defaults(s);
    s->scanning = 1;
    s->reply_count = 0;
    s->last_sent = 0;
    s->leds = 0;
    ps2_keyboard_drive(s);
}

static void ps2_keyboard_restored(struct device *device)
{
    struct ps2_keyboard *s = container_of(device, struct ps2_keyboard, dev);
    if (s->key_count > QUEUE + 1) s->key_count = 0;
    if (s->reply_count > REPLIES) s->reply_count = 0;
    if (s->set < 1 || s->set > 3) s->set = 2;
    /* The 8042 saved the wire's level. */
}

const struct device_class ps2_keyboard_class = {
    .name = "ps2-kbd",
    .title = "PS/2 keyboard",
    .version = 1,
    .size = sizeof(struct ps2_keyboard),
    .fields = ps2_keyboard_fields,
    .init = ps2_keyboard_init,
    .reset = ps2_keyboard_reset,
    .restored = ps2_keyboard_restored,
};
