/*
 * 8259A programmable interrupt controller with the edge/level control register of PCI chipsets.
 * Specification: Intel 231468 (8259A), 290562 (PIIX3, ELCR at 4D0h and 4D1h).
 *
 * One chip a device; the board makes two and joins them with i8259_cascade.
 *
 * Deviation: a request latched by an edge stays latched when its line falls before the acknowledge
 * cycle (the real part then answers with IR7's vector). Devices here may pulse their wires.
 * Not modelled: MCS-80/85 mode, buffered mode, a slave on anything but IR2.
 */
#include "devices/i8259.h"

enum {
    ICW1_ICW4 = 0x01,
    ICW1_SINGLE = 0x02,
    ICW1_LEVEL = 0x08,
    ICW1_SELECT = 0x10,
    ICW4_X86 = 0x01,
    ICW4_AUTO_EOI = 0x02,
    ICW4_NESTED = 0x10,
    OCW3_SELECT = 0x08,
    OCW3_READ_ISR = 0x01,
    OCW3_READ = 0x02,
    OCW3_POLL = 0x04,
    OCW3_MASK = 0x20,
    OCW3_SET_MASK = 0x40,
};

/* Which initialisation word the data port expects. */
enum { INIT_DONE, INIT_ICW2, INIT_ICW3, INIT_ICW4 };

#define CASCADE_LINE 2
#define NO_IRQ 8

#define I8259_STATE(SCALAR, ARRAY, GROUP, BLOB)                                                    \
    SCALAR(u8, lines)          /* IR inputs as they are driven */                                  \
    SCALAR(u8, edges)          /* requests latched by a rising edge */                             \
    SCALAR(u8, mask)                                                                               \
    SCALAR(u8, in_service)                                                                         \
    SCALAR(u8, elcr)                                                                               \
    SCALAR(u8, level_mode)     /* ICW1.LTIM */                                                     \
    SCALAR(u8, init_step)                                                                          \
    SCALAR(u8, expects_icw4)                                                                       \
    SCALAR(u8, single)                                                                             \
    SCALAR(u8, vector_base)                                                                        \
    SCALAR(u8, icw3)                                                                               \
    SCALAR(u8, auto_eoi)                                                                           \
    SCALAR(u8, rotate_on_auto_eoi)                                                                 \
    SCALAR(u8, fully_nested)   /* special fully nested mode */                                     \
    SCALAR(u8, special_mask)                                                                       \
    SCALAR(u8, first_priority) /* the line that has the highest priority */                        \
    SCALAR(u8, read_isr)                                                                           \
    SCALAR(u8, poll)

struct i8259 {
    struct device dev;
    STATE_MEMBERS(I8259_STATE)
    u32 iobase, elcr_port, elcr_mask; /* properties */
    struct region command, elcr_region;
    struct wire intr;                 /* set by the board */
    struct i8259 *slave;              /* set by the board */
    bool output;                      /* not saved: i8259_restored */
};

#define STATE_OWNER struct i8259
STATE_TABLE(i8259, I8259_STATE)
#undef STATE_OWNER

static u8 i8259_levels(const struct i8259 *s)
{
    return s->level_mode ? 0xff : s->elcr;
}

static u8 i8259_requests(const struct i8259 *s)
{
    u8 levels = i8259_levels(s);
    return (s->lines & levels) | (s->edges & ~levels);
}

/* How far the most urgent line of SET is from the highest priority; NO_IRQ when there is none. */
static unsigned i8259_rank(const struct i8259 *s, u8 set)
{
    if (!set) return NO_IRQ;
    unsigned rank = 0;
    while (!(set >> ((rank + s->first_priority) & 7) & 1)) rank++;
    return rank;
}

/* The line to interrupt with, or NO_IRQ. */
static unsigned i8259_pending(const struct i8259 *s)
{
    unsigned wanted = i8259_rank(s, i8259_requests(s) & ~s->mask);
    if (wanted == NO_IRQ) return NO_IRQ;
    u8 blocking = s->in_service;
    if (s->special_mask) blocking &= ~s->mask;
    if (s->fully_nested && s->slave) blocking &= ~(1u << CASCADE_LINE);
    if (wanted >= i8259_rank(s, blocking)) return NO_IRQ;
    return (wanted + s->first_priority) & 7;
}

static void i8259_update(struct i8259 *s)
{
    bool level = i8259_pending(s) != NO_IRQ;
    if (level == s->output) return;
    s->output = level;
    wire_set(&s->intr, level);
}

void i8259_set_irq(void *chip, unsigned line, bool level)
{
    struct i8259 *s = chip;
    u8 bit = 1u << (line & 7);
    if (level) {
        s->edges |= bit & ~s->lines;
        s->lines |= bit;
    } else {
        s->lines &= ~bit;
    }
    i8259_update(s);
}

/* The first half of the acknowledge cycle: LINE goes into service. */
static void i8259_accept(struct i8259 *s, unsigned line)
{
    u8 bit = 1u << line;
    s->edges &= ~bit;
    if (!s->auto_eoi) {
        s->in_service |= bit;
    } else if (s->rotate_on_auto_eoi) {
        s->first_priority = (line + 1) & 7;
    }
}

/* The part drops INT during the cycle; the master sees a new edge if something else is pending. */
static void i8259_end_cycle(struct i8259 *s)
{
    if (s->output) {
        s->output = false;
        wire_set(&s->intr, false);
    }
    i8259_update(s);
}

int i8259_inta(struct device *master)
{
    struct i8259 *s = container_of(master, struct i8259, dev);
    unsigned line = i8259_pending(s);
    int vector = s->vector_base + 7;
    if (line != NO_IRQ) {
        vector = s->vector_base + line;
        i8259_accept(s, line);
        if (s->slave && !s->single && line == CASCADE_LINE) vector = i8259_inta(&s->slave->dev);
    } else {
        log_to(s->dev.log, LOG_INTERRUPT, "%s: spurious interrupt", s->dev.id);
    }
    i8259_end_cycle(s);
    return vector;
}

bool i8259_waits(struct device *chip, unsigned line)
{
    struct i8259 *s = container_of(chip, struct i8259, dev);
    return i8259_requests(s) & ~s->mask & 1u << (line & 7);
}

bool i8259_output(struct device *chip)
{
    return container_of(chip, struct i8259, dev)->output;
}

void i8259_connect_intr(struct device *chip, struct wire intr)
{
    container_of(chip, struct i8259, dev)->intr = intr;
}

void i8259_cascade(struct device *master, struct device *slave)
{
    struct i8259 *m = container_of(master, struct i8259, dev);
    m->slave = container_of(slave, struct i8259, dev);
    m->slave->intr = (struct wire){i8259_set_irq, m, CASCADE_LINE};
}

static void i8259_icw1(struct i8259 *s, u8 value)
{
    s->edges = 0; /* an input must fall and rise again to be heard */
    s->mask = 0;
    s->in_service = 0;
    s->first_priority = 0;
    s->special_mask = 0;
    s->read_isr = 0;
    s->poll = 0;
    s->auto_eoi = 0;
    s->rotate_on_auto_eoi = 0;
    s->fully_nested = 0;
    s->level_mode = !!(value & ICW1_LEVEL);
    s->single = !!(value & ICW1_SINGLE);
    s->expects_icw4 = value & ICW1_ICW4;
    s->init_step = INIT_ICW2;
}

static void i8259_eoi(struct i8259 *s, bool specific, unsigned line, bool rotate)
{
    if (!specific) {
        u8 candidates = s->in_service;
        /* Datasheet: with special mask mode, a masked level isn't cleared by a non-specific EOI. */
        if (s->special_mask) candidates &= ~s->mask;
        unsigned rank = i8259_rank(s, candidates);
        if (rank == NO_IRQ) return;
        line = (rank + s->first_priority) & 7;
    }
    s->in_service &= ~(1u << line);
    if (rotate) s->first_priority = (line + 1) & 7;
}

static void i8259_ocw2(struct i8259 *s, u8 value)
{
    unsigned line = value & 7;
    switch (value >> 5) {
    case 0: s->rotate_on_auto_eoi = 0; break;
    case 1: i8259_eoi(s, false, 0, false); break;
    case 2: break;
    case 3: i8259_eoi(s, true, line, false); break;
    case 4: s->rotate_on_auto_eoi = 1; break;
    case 5: i8259_eoi(s, false, 0, true); break;
    case 6: s->first_priority = (line + 1) & 7; break;
    case 7: i8259_eoi(s, true, line, true); break;
    }
}

static void i8259_ocw3(struct i8259 *s, u8 value)
{
    if (value & OCW3_POLL) s->poll = 1;
    if (value & OCW3_READ) s->read_isr = value & OCW3_READ_ISR;
    if (value & OCW3_SET_MASK) s->special_mask = !!(value & OCW3_MASK);
}

static void i8259_write_data(struct i8259 *s, u8 value)
{
    switch (s->init_step) {
    case INIT_DONE:
        s->mask = value;
        break;
    case INIT_ICW2:
        s->vector_base = value & 0xf8;
        s->init_step = !s->single ? INIT_ICW3 : s->expects_icw4 ? INIT_ICW4 : INIT_DONE;
        break;
    case INIT_ICW3:
        s->icw3 = value;
        s->init_step = s->expects_icw4 ? INIT_ICW4 : INIT_DONE;
        break;
    case INIT_ICW4:
        if (!(value & ICW4_X86)) device_unimplemented(&s->dev, "i8259: MCS-80/85 mode");
        s->auto_eoi = !!(value & ICW4_AUTO_EOI);
        s->fully_nested = !!(value & ICW4_NESTED);
        s->init_step = INIT_DONE;
        break;
    }
}

static void i8259_write(struct device *device, u64 offset, u64 value, unsigned size)
{
    struct i8259 *s = container_of(device, struct i8259, dev);
    (void)size;
    if (offset & 1) {
        i8259_write_data(s, value);
    } else if (value & ICW1_SELECT) {
        i8259_icw1(s, value);
    } else if (value & OCW3_SELECT) {
        i8259_ocw3(s, value);
    } else {
        i8259_ocw2(s, value);
    }
    i8259_update(s);
}

/* The poll command makes the next read an acknowledge cycle of this chip alone. */
static u8 i8259_poll(struct i8259 *s)
{
    unsigned line = i8259_pending(s);
    s->poll = 0;
    if (line == NO_IRQ) return 0;
    i8259_accept(s, line);
    i8259_end_cycle(s);
    return 0x80 | line;
}

static u64 i8259_read(struct device *device, u64 offset, unsigned size)
{
    struct i8259 *s = container_of(device, struct i8259, dev);
    (void)size;
    if (s->poll) return i8259_poll(s);
    if (offset & 1) return s->mask;
    return s->read_isr ? s->in_service : i8259_requests(s);
}

static u64 i8259_elcr_read(struct device *device, u64 offset, unsigned size)
{
    (void)offset, (void)size;
    return container_of(device, struct i8259, dev)->elcr;
}

static void i8259_elcr_write(struct device *device, u64 offset, u64 value, unsigned size)
{
    struct i8259 *s = container_of(device, struct i8259, dev);
    (void)offset, (void)size;
    s->elcr = value & s->elcr_mask;
    i8259_update(s);
}

static const struct region_ops i8259_ops = {"i8259", i8259_read, i8259_write, 1, 1};
static const struct region_ops i8259_elcr_ops = {"i8259-elcr", i8259_elcr_read, i8259_elcr_write,
                                                 1, 1};

static bool i8259_init(struct device *device, struct error *error)
{
    struct i8259 *s = container_of(device, struct i8259, dev);
    (void)error;
    region_init(&s->command, device, &i8259_ops, 2);
    bus_map(device->bus, BUS_PORT, &s->command, s->iobase, LAYER_DEVICE);
    if (s->elcr_port) {
        region_init(&s->elcr_region, device, &i8259_elcr_ops, 1);
        bus_map(device->bus, BUS_PORT, &s->elcr_region, s->elcr_port, LAYER_DEVICE);
    }
    return true;
}

static void i8259_reset(struct device *device)
{
    struct i8259 *s = container_of(device, struct i8259, dev);
    i8259_icw1(s, ICW1_ICW4);
    s->init_step = INIT_DONE;
    s->vector_base = 0;
    s->icw3 = 0;
    s->elcr = 0;
    s->output = false;
    wire_set(&s->intr, false);
}

static void i8259_restored(struct device *device)
{
    struct i8259 *s = container_of(device, struct i8259, dev);
    s->first_priority &= 7;
    s->vector_base &= 0xf8;
    s->init_step &= 3;
    /* The receiver saved its own view of INT: drive it without making an edge twice. */
    s->output = i8259_pending(s) != NO_IRQ;
    if (s->intr.set != i8259_set_irq) wire_set(&s->intr, s->output);
}

static const struct property i8259_properties[] = {
    {"iobase", PROPERTY_U32, offsetof(struct i8259, iobase), "0x20", "command port"},
    {"elcr", PROPERTY_U32, offsetof(struct i8259, elcr_port), "0x4d0",
     "edge/level register's port, 0 for none"},
    {"elcr-mask", PROPERTY_U32, offsetof(struct i8259, elcr_mask), "0xf8",
     "lines that may be made level-triggered"},
    {NULL, 0, 0, NULL, NULL},
};

const struct device_class i8259_class = {
    .name = "i8259",
    .title = "8259A interrupt controller",
    .version = 1,
    .size = sizeof(struct i8259),
    .fields = i8259_fields,
    .properties = i8259_properties,
    .init = i8259_init,
    .reset = i8259_reset,
    .restored = i8259_restored,
};
