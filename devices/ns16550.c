/*
 * 16550A UART behind a character device.
 * Specification: National Semiconductor PC16550D.
 *
 * Deviations: bytes are sent as soon as the host takes them, whatever the divisor says; the
 * interrupt isn't gated by OUT2, since many small systems never set it. The modem lines say that
 * somebody is connected (CTS, DSR, DCD). Not modelled: parity and framing errors, the DMA modes, a
 * break sent to the host (LCR bit 6 works in loopback only), baud rate and word length as such.
 */
#include "devices/ns16550.h"

#include "machine/chardev.h"

enum { REG_DATA, REG_IER, REG_IIR, REG_LCR, REG_MCR, REG_LSR, REG_MSR, REG_SCRATCH };

enum {
    IER_RECEIVE = 0x01,
    IER_TRANSMIT = 0x02,
    IER_LINE = 0x04,
    IER_MODEM = 0x08,
    IIR_NONE = 0x01,
    IIR_MODEM = 0x00,
    IIR_TRANSMIT = 0x02,
    IIR_RECEIVE = 0x04,
    IIR_LINE = 0x06,
    IIR_TIMEOUT = 0x0c,
    IIR_FIFOS = 0xc0,
    FCR_ENABLE = 0x01,
    FCR_CLEAR_RECEIVE = 0x02,
    FCR_CLEAR_TRANSMIT = 0x04,
    LCR_BREAK = 0x40,
    LCR_DLAB = 0x80,
    MCR_LOOP = 0x10,
    LSR_READY = 0x01,
    LSR_OVERRUN = 0x02,
    LSR_BREAK = 0x10,
    LSR_ERRORS = 0x1e,
    LSR_THR_EMPTY = 0x20,
    LSR_IDLE = 0x40,
    LSR_FIFO_ERROR = 0x80,
    MSR_CTS = 0x10,
    MSR_DSR = 0x20,
    MSR_RI = 0x40,
    MSR_DCD = 0x80,
    MSR_DELTAS = 0x0f,
    MSR_RI_FELL = 0x04,
};

#define FIFO 16
#define RETRY_NS 1000000
#define BASE_BAUD 115200

#define NS16550_STATE(SCALAR, ARRAY, GROUP, BLOB)                                                  \
    SCALAR(u8, ier)                                                                                \
    SCALAR(u8, fcr)                                                                                \
    SCALAR(u8, lcr)                                                                                \
    SCALAR(u8, mcr)                                                                                \
    SCALAR(u8, msr)                                                                                \
    SCALAR(u8, line_errors)        /* LSR's error bits that haven't been read */                   \
    SCALAR(u8, scratch)                                                                            \
    SCALAR(u16, divisor)                                                                           \
    SCALAR(u8, transmit_interrupt) /* THR became empty and IIR hasn't told */                      \
    SCALAR(u8, timed_out)          /* bytes have waited for four characters' time */               \
    ARRAY(u8, received, FIFO)                                                                      \
    ARRAY(u8, received_errors, FIFO)                                                               \
    SCALAR(u8, receive_count)                                                                      \
    ARRAY(u8, sending, FIFO)                                                                       \
    SCALAR(u8, send_count)

struct ns16550 {
    struct device dev;
    STATE_MEMBERS(NS16550_STATE)
    u32 iobase;              /* property */
    struct chardev *chardev; /* property */
    struct region region;
    struct wire irq;      /* set by the board */
    struct timer retry;   /* not saved: ns16550_restored */
    struct timer timeout; /* not saved: ns16550_restored */
};

#define STATE_OWNER struct ns16550
STATE_TABLE(ns16550, NS16550_STATE)
#undef STATE_OWNER

static bool ns16550_has_fifo(const struct ns16550 *s)
{
    return s->fcr & FCR_ENABLE;
}

static unsigned ns16550_capacity(const struct ns16550 *s)
{
    return ns16550_has_fifo(s) ? FIFO : 1;
}

static unsigned ns16550_trigger(const struct ns16550 *s)
{
    static const u8 levels[4] = {1, 4, 8, 14};
    return ns16550_has_fifo(s) ? levels[s->fcr >> 6] : 1;
}

/* What IIR says: the pending interrupt of the highest priority. */
static u8 ns16550_pending(const struct ns16550 *s)
{
    if ((s->ier & IER_LINE) && s->line_errors) return IIR_LINE;
    if (s->ier & IER_RECEIVE) {
        if (s->receive_count >= ns16550_trigger(s)) return IIR_RECEIVE;
        if (s->timed_out && s->receive_count) return IIR_TIMEOUT;
    }
    if ((s->ier & IER_TRANSMIT) && s->transmit_interrupt) return IIR_TRANSMIT;
    if ((s->ier & IER_MODEM) && (s->msr & MSR_DELTAS)) return IIR_MODEM;
    return IIR_NONE;
}

static void ns16550_update(struct ns16550 *s)
{
    wire_set(&s->irq, ns16550_pending(s) != IIR_NONE);
}

/* Four characters' time after the last movement in the FIFO. */
static void ns16550_arm_timeout(struct ns16550 *s)
{
    s->timed_out = 0;
    if (!ns16550_has_fifo(s) || !s->receive_count) {
        timer_cancel(&s->timeout);
        return;
    }
    u64 bits = 4 * 10, divisor = s->divisor ? s->divisor : 1;
    timer_set(&s->timeout, clock_now(s->dev.clock) + ticks_to_ns(bits * divisor, BASE_BAUD));
}

static void ns16550_timed_out(void *opaque)
{
    struct ns16550 *s = opaque;
    s->timed_out = 1;
    ns16550_update(s);
}

/* The error bits of the character at the head of the FIFO show in LSR. */
static void ns16550_show_errors(struct ns16550 *s)
{
    if (!s->receive_count) return;
    s->line_errors |= s->received_errors[0];
    s->received_errors[0] = 0;
}

static void ns16550_accept(struct ns16550 *s, u8 byte, u8 errors)
{
    if (s->receive_count >= ns16550_capacity(s)) {
        s->line_errors |= LSR_OVERRUN;
        if (!ns16550_has_fifo(s)) s->received[0] = byte; /* the holding register is overwritten */
    } else {
        s->received[s->receive_count] = byte;
        s->received_errors[s->receive_count] = errors;
        s->receive_count++;
    }
    ns16550_show_errors(s);
    ns16550_arm_timeout(s);
}

static unsigned ns16550_room(void *opaque)
{
    struct ns16550 *s = opaque;
    unsigned capacity = ns16550_capacity(s);
    if ((s->mcr & MCR_LOOP) || s->receive_count >= capacity) return 0;
    return capacity - s->receive_count;
}

static void ns16550_receive(void *opaque, const u8 *bytes, unsigned n)
{
    struct ns16550 *s = opaque;
    for (unsigned i = 0; i < n; i++) ns16550_accept(s, bytes[i], 0);
    ns16550_update(s);
}

static void ns16550_broke(void *opaque)
{
    struct ns16550 *s = opaque;
    if (s->mcr & MCR_LOOP) return;
    ns16550_accept(s, 0, LSR_BREAK);
    ns16550_update(s);
}

/* Sends what is waiting; what the host doesn't take now is tried again later. */
static void ns16550_send(struct ns16550 *s)
{
    if (s->mcr & MCR_LOOP) {
        for (unsigned i = 0; i < s->send_count; i++) ns16550_accept(s, s->sending[i], 0);
        s->send_count = 0;
    } else if (s->send_count) {
        unsigned taken = chardev_write(s->chardev, s->sending, s->send_count);
        if (taken > s->send_count) taken = s->send_count;
        s->send_count -= taken;
        memmove(s->sending, s->sending + taken, s->send_count);
    }
    if (s->send_count) {
        timer_set(&s->retry, clock_now(s->dev.clock) + RETRY_NS);
    } else {
        timer_cancel(&s->retry);
        s->transmit_interrupt = 1;
    }
    ns16550_update(s);
}

static void ns16550_retry(void *opaque)
{
    ns16550_send(opaque);
}

static void ns16550_write_thr(struct ns16550 *s, u8 byte)
{
    s->transmit_interrupt = 0;
    ns16550_update(s); /* the line falls before it may rise again: an edge for the next interrupt */
    if (s->send_count < ns16550_capacity(s)) {
        s->sending[s->send_count++] = byte;
    } else {
        s->sending[s->send_count - 1] = byte; /* written over, as on the part */
    }
    ns16550_send(s);
}

static u8 ns16550_modem_lines(const struct ns16550 *s)
{
    if (!(s->mcr & MCR_LOOP)) return MSR_CTS | MSR_DSR | MSR_DCD;
    u8 lines = 0;
    if (s->mcr & 1) lines |= MSR_DSR; /* DTR */
    if (s->mcr & 2) lines |= MSR_CTS; /* RTS */
    if (s->mcr & 4) lines |= MSR_RI;  /* OUT1 */
    if (s->mcr & 8) lines |= MSR_DCD; /* OUT2 */
    return lines;
}

static void ns16550_set_modem_lines(struct ns16550 *s)
{
    u8 old = s->msr & ~MSR_DELTAS, lines = ns16550_modem_lines(s);
    u8 deltas = (old ^ lines) >> 4;
    if (lines & MSR_RI) deltas &= ~MSR_RI_FELL; /* RI's delta is of its trailing edge only */
    s->msr = lines | (s->msr & MSR_DELTAS) | deltas;
}

static void ns16550_clear_receiver(struct ns16550 *s)
{
    s->receive_count = 0;
    s->timed_out = 0;
    memset(s->received_errors, 0, sizeof s->received_errors);
    timer_cancel(&s->timeout);
}

static void ns16550_write_fcr(struct ns16550 *s, u8 value)
{
    if ((value ^ s->fcr) & FCR_ENABLE) value |= FCR_CLEAR_RECEIVE | FCR_CLEAR_TRANSMIT;
    s->fcr = value & (0xc8 | FCR_ENABLE);
    if (value & FCR_CLEAR_RECEIVE) ns16550_clear_receiver(s);
    if (value & FCR_CLEAR_TRANSMIT) {
        s->send_count = 0;
        s->transmit_interrupt = 1;
        timer_cancel(&s->retry);
    }
    ns16550_update(s);
    chardev_room(s->chardev);
}

static void ns16550_write_ier(struct ns16550 *s, u8 value)
{
    u8 rose = value & ~s->ier;
    s->ier = value & 0x0f;
    /* Enabling the interrupt while THR is empty raises it at once. */
    if ((rose & IER_TRANSMIT) && !s->send_count) s->transmit_interrupt = 1;
    ns16550_update(s);
}

static void ns16550_write_mcr(struct ns16550 *s, u8 value)
{
    bool was_loop = s->mcr & MCR_LOOP;
    s->mcr = value & 0x1f;
    ns16550_set_modem_lines(s);
    ns16550_update(s);
    if (was_loop && !(value & MCR_LOOP)) chardev_room(s->chardev);
}

static void ns16550_write_lcr(struct ns16550 *s, u8 value)
{
    bool breaks = (value & ~s->lcr & LCR_BREAK) && (s->mcr & MCR_LOOP);
    s->lcr = value;
    if (breaks) ns16550_accept(s, 0, LSR_BREAK);
    ns16550_update(s);
}

static void ns16550_write(struct device *device, u64 offset, u64 value, unsigned size)
{
    struct ns16550 *s = container_of(device, struct ns16550, dev);
    bool dlab = s->lcr & LCR_DLAB;
    (void)size;
    switch (offset) {
    case REG_DATA:
        if (dlab) s->divisor = (s->divisor & 0xff00) | (u8)value;
        else ns16550_write_thr(s, value);
        break;
    case REG_IER:
        if (dlab) s->divisor = (s->divisor & 0xff) | (u16)((u8)value << 8);
        else ns16550_write_ier(s, value);
        break;
    case REG_IIR: ns16550_write_fcr(s, value); break;
    case REG_LCR: ns16550_write_lcr(s, value); break;
    case REG_MCR: ns16550_write_mcr(s, value); break;
    case REG_SCRATCH: s->scratch = value; break;
    default: break; /* LSR and MSR: factory test only */
    }
}

static u8 ns16550_read_rbr(struct ns16550 *s)
{
    u8 byte = s->received[0];
    if (!s->receive_count) return byte;
    s->receive_count--;
    memmove(s->received, s->received + 1, s->receive_count);
    memmove(s->received_errors, s->received_errors + 1, s->receive_count);
    s->received_errors[s->receive_count] = 0;
    if (!s->receive_count) s->received[0] = byte;
    ns16550_show_errors(s);
    ns16550_arm_timeout(s);
    ns16550_update(s);
    chardev_room(s->chardev);
    return byte;
}

static u8 ns16550_read_iir(struct ns16550 *s)
{
    u8 value = ns16550_pending(s);
    if (value == IIR_TRANSMIT) {
        s->transmit_interrupt = 0;
        ns16550_update(s);
    }
    return value | (ns16550_has_fifo(s) ? IIR_FIFOS : 0);
}

static u8 ns16550_read_lsr(struct ns16550 *s)
{
    u8 value = s->line_errors;
    if (s->receive_count) value |= LSR_READY;
    if (!s->send_count) value |= LSR_THR_EMPTY | LSR_IDLE;
    if (ns16550_has_fifo(s)) {
        u8 waiting = s->line_errors & ~LSR_OVERRUN;
        for (unsigned i = 0; i < s->receive_count; i++) waiting |= s->received_errors[i];
        if (waiting) value |= LSR_FIFO_ERROR;
    }
    if (s->line_errors) {
        s->line_errors = 0;
        ns16550_update(s);
    }
    return value;
}

static u8 ns16550_read_msr(struct ns16550 *s)
{
    u8 value = s->msr;
    s->msr &= ~MSR_DELTAS;
    ns16550_update(s);
    return value;
}

static u64 ns16550_read(struct device *device, u64 offset, unsigned size)
{
    struct ns16550 *s = container_of(device, struct ns16550, dev);
    bool dlab = s->lcr & LCR_DLAB;
    (void)size;
    switch (offset) {
    case REG_DATA: return dlab ? (u8)s->divisor : ns16550_read_rbr(s);
    case REG_IER: return dlab ? s->divisor >> 8 : s->ier;
    case REG_IIR: return ns16550_read_iir(s);
    case REG_LCR: return s->lcr;
    case REG_MCR: return s->mcr;
    case REG_LSR: return ns16550_read_lsr(s);
    case REG_MSR: return ns16550_read_msr(s);
    default: return s->scratch;
    }
}

void ns16550_connect_irq(struct device *uart, struct wire irq)
{
    container_of(uart, struct ns16550, dev)->irq = irq;
}

static const struct region_ops ns16550_ops = {"ns16550", ns16550_read, ns16550_write, 1, 1};

static bool ns16550_init(struct device *device, struct error *error)
{
    struct ns16550 *s = container_of(device, struct ns16550, dev);
    struct chardev_listener listener = {
        .opaque = s, .room = ns16550_room, .receive = ns16550_receive, .broke = ns16550_broke};
    (void)error;
    timer_init(&s->retry, device->clock, ns16550_retry, s);
    timer_init(&s->timeout, device->clock, ns16550_timed_out, s);
    if (s->chardev) chardev_listen(s->chardev, &listener);
    region_init(&s->region, device, &ns16550_ops, 8);
    bus_map(device->bus, BUS_PORT, &s->region, s->iobase, LAYER_DEVICE);
    return true;
}

static void ns16550_reset(struct device *device)
{
    struct ns16550 *s = container_of(device, struct ns16550, dev);
    s->ier = s->fcr = s->lcr = s->mcr = 0;
    s->line_errors = 0;
    s->divisor = 12; /* 9600 baud, for the first timeout */
    s->send_count = 0;
    s->transmit_interrupt = 0;
    ns16550_clear_receiver(s);
    s->msr = ns16550_modem_lines(s);
    timer_cancel(&s->retry);
    ns16550_update(s);
    chardev_room(s->chardev);
}

static void ns16550_restored(struct device *device)
{
    struct ns16550 *s = container_of(device, struct ns16550, dev);
    u64 now = clock_now(device->clock);
    if (s->receive_count > ns16550_capacity(s)) s->receive_count = ns16550_capacity(s);
    if (s->send_count > ns16550_capacity(s)) s->send_count = ns16550_capacity(s);
    s->line_errors &= LSR_ERRORS;
    timer_cancel(&s->retry);
    timer_cancel(&s->timeout);
    if (s->send_count) timer_set(&s->retry, now + RETRY_NS);
    if (s->receive_count && !s->timed_out) ns16550_arm_timeout(s);
    ns16550_update(s);
}

static void ns16550_release(struct device *device)
{
    struct ns16550 *s = container_of(device, struct ns16550, dev);
    timer_cancel(&s->retry);
    timer_cancel(&s->timeout);
}

static const struct property ns16550_properties[] = {
    {"iobase", PROPERTY_U32, offsetof(struct ns16550, iobase), "0x3f8", "first of eight ports"},
    {"chardev", PROPERTY_CHARDEV, offsetof(struct ns16550, chardev), NULL, "what is connected"},
    {NULL, 0, 0, NULL, NULL},
};

const struct device_class ns16550_class = {
    .name = "isa-serial",
    .title = "16550A serial port",
    .version = 1,
    .size = sizeof(struct ns16550),
    .fields = ns16550_fields,
    .properties = ns16550_properties,
    .init = ns16550_init,
    .reset = ns16550_reset,
    .restored = ns16550_restored,
    .release = ns16550_release,
};
