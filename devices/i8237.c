/*
 * The PC's two 8237A DMA controllers (channels 0-3 of bytes, 4-7 of words, 4 the cascade) and their
 * page registers at 80h-8Fh, the spare ones included. Port 80h doubles as the POST code display.
 * Specification: Intel 231466 (8237A); 290562 (PIIX3) for the page registers.
 *
 * Not modelled: memory-to-memory transfers, software requests (the request register is remembered
 * only), compressed timing, the 8-bit high page registers of EISA chipsets.
 */
#include "devices/i8237.h"

enum {
    COMMAND_MEMORY_TO_MEMORY = 0x01,
    COMMAND_DISABLE = 0x04,
    MODE_TO_MEMORY = 0x04,
    MODE_FROM_MEMORY = 0x08,
    MODE_DIRECTION = 0x0c,
    MODE_AUTO_INIT = 0x10,
    MODE_DECREMENT = 0x20,
    MODE_CASCADE = 0xc0,
};

#define CONTROLLERS 2
#define CHANNELS 4
#define CASCADE_CHANNEL 4

#define I8237_CHANNEL_STATE(SCALAR, ARRAY, GROUP, BLOB)                                            \
    SCALAR(u16, base_address)                                                                      \
    SCALAR(u16, base_count)                                                                        \
    SCALAR(u16, address)                                                                           \
    SCALAR(u16, count)                                                                             \
    SCALAR(u8, mode)

struct i8237_channel {
    STATE_MEMBERS(I8237_CHANNEL_STATE)
};

#define STATE_OWNER struct i8237_channel
STATE_TABLE(i8237_channel, I8237_CHANNEL_STATE)
#undef STATE_OWNER

#define I8237_CONTROLLER_STATE(SCALAR, ARRAY, GROUP, BLOB)                                         \
    SCALAR(u8, command)                                                                            \
    SCALAR(u8, mask)                                                                               \
    SCALAR(u8, reached)   /* status: terminal counts since it was read */                          \
    SCALAR(u8, requests)  /* software requests */                                                  \
    SCALAR(u8, high_byte) /* the byte pointer flip-flop */                                         \
    SCALAR(u8, temporary)                                                                          \
    GROUP(i8237_channel, channel, CHANNELS)

struct i8237_controller {
    STATE_MEMBERS(I8237_CONTROLLER_STATE)
};

#define STATE_OWNER struct i8237_controller
STATE_TABLE(i8237_controller, I8237_CONTROLLER_STATE)
#undef STATE_OWNER

#define I8237_STATE(SCALAR, ARRAY, GROUP, BLOB)                                                    \
    GROUP(i8237_controller, controller, CONTROLLERS)                                               \
    ARRAY(u8, page, 16)

struct i8237 {
    struct device dev;
    STATE_MEMBERS(I8237_STATE)
    struct region low, high, pages;
};

#define STATE_OWNER struct i8237
STATE_TABLE(i8237, I8237_STATE)
#undef STATE_OWNER

/* Where each channel's page register is among 80h-8Fh. */
static const u8 page_of[CONTROLLERS * CHANNELS] = {0x7, 0x3, 0x1, 0x2, 0xf, 0xb, 0x9, 0xa};

/* --- registers --- */

static void i8237_master_clear(struct i8237_controller *c)
{
    c->command = 0;
    c->reached = 0;
    c->requests = 0;
    c->temporary = 0;
    c->high_byte = 0;
    c->mask = 0x0f;
}

static void put_half(u16 *base, u16 *current, bool high, u8 value)
{
    *base = high ? (*base & 0xff) | value << 8 : (*base & 0xff00) | value;
    *current = *base;
}

static void i8237_write_register(struct i8237 *s, struct i8237_controller *c, unsigned reg,
                                 u8 value)
{
    struct i8237_channel *channel = &c->channel[reg >> 1 & 3];
    u8 bit = 1u << (value & 3);
    switch (reg) {
    case 0 ... 7:
        if (reg & 1) put_half(&channel->base_count, &channel->count, c->high_byte, value);
        else put_half(&channel->base_address, &channel->address, c->high_byte, value);
        c->high_byte ^= 1;
        break;
    case 8:
        c->command = value;
        if (value & COMMAND_MEMORY_TO_MEMORY) {
            device_unimplemented(&s->dev, "i8237: memory-to-memory transfers");
        }
        break;
    case 9: c->requests = value & 4 ? c->requests | bit : c->requests & ~bit; break;
    case 10: c->mask = value & 4 ? c->mask | bit : c->mask & ~bit; break;
    case 11: c->channel[value & 3].mode = value; break;
    case 12: c->high_byte = 0; break;
    case 13: i8237_master_clear(c); break;
    case 14: c->mask = 0; break;
    case 15: c->mask = value & 0x0f; break;
    }
}

static u8 i8237_read_register(struct i8237_controller *c, unsigned reg)
{
    const struct i8237_channel *channel = &c->channel[reg >> 1 & 3];
    u8 value;
    u16 word;
    switch (reg) {
    case 0 ... 7:
        word = reg & 1 ? channel->count : channel->address;
        value = c->high_byte ? word >> 8 : word;
        c->high_byte ^= 1;
        return value;
    case 8:
        value = c->reached | c->requests << 4;
        c->reached = 0;
        return value;
    case 13: return c->temporary;
    case 15: return c->mask | 0xf0;
    default: return 0xff;
    }
}

static u64 i8237_low_read(struct device *device, u64 offset, unsigned size)
{
    (void)size;
    return i8237_read_register(&container_of(device, struct i8237, dev)->controller[0], offset);
}

static void i8237_low_write(struct device *device, u64 offset, u64 value, unsigned size)
{
    struct i8237 *s = container_of(device, struct i8237, dev);
    (void)size;
    i8237_write_register(s, &s->controller[0], offset, value);
}

/* The second controller's registers are two ports apart. */
static u64 i8237_high_read(struct device *device, u64 offset, unsigned size)
{
    (void)size;
    return i8237_read_register(&container_of(device, struct i8237, dev)->controller[1],
                               offset >> 1);
}

static void i8237_high_write(struct device *device, u64 offset, u64 value, unsigned size)
{
    struct i8237 *s = container_of(device, struct i8237, dev);
    (void)size;
    i8237_write_register(s, &s->controller[1], offset >> 1, value);
}

static u64 i8237_page_read(struct device *device, u64 offset, unsigned size)
{
    (void)size;
    return container_of(device, struct i8237, dev)->page[offset];
}

static void i8237_page_write(struct device *device, u64 offset, u64 value, unsigned size)
{
    (void)size;
    container_of(device, struct i8237, dev)->page[offset] = value;
    if (!offset) log_to(device->log, LOG_DEVICE, "POST code %02x", (unsigned)value);
}

/* --- transfers --- */

/* Bytes that can move before the address wraps or the count ends, at most LENGTH. */
static u32 i8237_run(const struct i8237_channel *channel, unsigned shift, u32 length)
{
    u32 units = channel->count + 1u, to_wrap = 0x10000u - channel->address;
    if (units > to_wrap) units = to_wrap;
    u32 run = units << shift;
    return run < length ? run : length & ~((1u << shift) - 1);
}

/* Goes on by UNITS; true at the terminal count. */
static bool i8237_advance(struct i8237_controller *c, unsigned index, u32 units)
{
    struct i8237_channel *channel = &c->channel[index];
    bool ends = units > channel->count;
    channel->count -= units; /* from FFFFh after the last one, as on the part */
    channel->address += channel->mode & MODE_DECREMENT ? -units : units;
    if (!ends) return false;
    c->reached |= 1u << index;
    c->requests &= ~(1u << index);
    if (channel->mode & MODE_AUTO_INIT) {
        channel->address = channel->base_address;
        channel->count = channel->base_count;
    } else {
        c->mask |= 1u << index;
    }
    return true;
}

static void i8237_move(struct i8237 *s, u64 address, u8 *buffer, u32 length, bool to_memory)
{
    bool good = to_memory ? dma_write(s->dev.bus, address, buffer, length)
                          : dma_read(s->dev.bus, address, buffer, length);
    if (!good) {
        guest_error(&s->dev, "i8237: %u bytes at %llxh aren't in RAM", length,
                    (unsigned long long)address);
    }
}

u32 i8237_transfer(struct device *dma, unsigned channel, u8 *buffer, u32 length, bool to_memory,
                   bool *terminal_count)
{
    struct i8237 *s = container_of(dma, struct i8237, dev);
    *terminal_count = false;
    if (channel >= CONTROLLERS * CHANNELS || channel == CASCADE_CHANNEL) return 0;
    struct i8237_controller *c = &s->controller[channel / CHANNELS];
    unsigned index = channel % CHANNELS, shift = channel / CHANNELS;
    struct i8237_channel *ch = &c->channel[index];
    u8 direction = ch->mode & MODE_DIRECTION;
    bool verify = direction == 0;
    if ((c->command & COMMAND_DISABLE) || (c->mask >> index & 1) ||
        (ch->mode & MODE_CASCADE) == MODE_CASCADE) {
        return 0;
    }
    if (!verify && direction != (to_memory ? MODE_TO_MEMORY : MODE_FROM_MEMORY)) {
        guest_error(dma, "i8237: channel %u is set to the other direction", channel);
        return 0;
    }
    u8 page = s->page[page_of[channel]];
    u32 done = 0;
    while (!*terminal_count && length - done >= 1u << shift) {
        /* 16-bit channels: A0 is 0, the page's lowest bit isn't wired; 128 KiB wrap. */
        u64 at = ((u64)(page & ~shift) << 16) + ((u32)ch->address << shift);
        u32 run = ch->mode & MODE_DECREMENT ? 1u << shift
                                            : i8237_run(ch, shift, length - done);
        if (!verify) i8237_move(s, at, buffer + done, run, to_memory);
        done += run;
        *terminal_count = i8237_advance(c, index, run >> shift);
    }
    return done;
}

/* --- device --- */

static const struct region_ops i8237_low_ops = {"i8237", i8237_low_read, i8237_low_write, 1, 1};
static const struct region_ops i8237_high_ops = {"i8237-16", i8237_high_read, i8237_high_write,
                                                 1, 1};
static const struct region_ops i8237_page_ops = {"i8237-page", i8237_page_read, i8237_page_write,
                                                 1, 1};

static bool i8237_init(struct device *device, struct error *error)
{
    struct i8237 *s = container_of(device, struct i8237, dev);
    (void)error;
    region_init(&s->low, device, &i8237_low_ops, 0x10);
    region_init(&s->high, device, &i8237_high_ops, 0x20);
    region_init(&s->pages, device, &i8237_page_ops, 0x10);
    bus_map(device->bus, BUS_PORT, &s->low, 0x00, LAYER_DEVICE);
    bus_map(device->bus, BUS_PORT, &s->high, 0xc0, LAYER_DEVICE);
    bus_map(device->bus, BUS_PORT, &s->pages, 0x80, LAYER_DEVICE);
    return true;
}

static void i8237_reset(struct device *device)
{
    struct i8237 *s = container_of(device, struct i8237, dev);
    memset(s->controller, 0, sizeof s->controller);
    memset(s->page, 0, sizeof s->page);
    for (unsigned i = 0; i < CONTROLLERS; i++) i8237_master_clear(&s->controller[i]);
}

static void i8237_restored(struct device *device)
{
    struct i8237 *s = container_of(device, struct i8237, dev);
    for (unsigned i = 0; i < CONTROLLERS; i++) s->controller[i].high_byte &= 1;
}

const struct device_class i8237_class = {
    .name = "i8237",
    .title = "8237A DMA controllers and page registers",
    .version = 1,
    .size = sizeof(struct i8237),
    .fields = i8237_fields,
    .init = i8237_init,
    .reset = i8237_reset,
    .restored = i8237_restored,
};
