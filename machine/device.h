/*
 * What every chip is: a class in a table, properties, declared state, regions, and verbs.
 *
 * A chip is one file ending in one const `struct device_class`, listed in devices/devices.def.
 * It never calls the operating system, never includes cpu/ and never another chip's struct: it has
 * wires, regions, timers, DMA, and back ends (machine/drive.h, machine/chardev.h, net/net.h,
 * machine/display.h) handed to it as properties.
 *
 * Thread: every verb and callback runs with the machine lock held.
 */
#ifndef MACHINE_DEVICE_H
#define MACHINE_DEVICE_H

#include "machine/bus.h"
#include "machine/clock.h"
#include "machine/error.h"
#include "machine/log.h"
#include "machine/state.h"
#include "machine/types.h"
#include "machine/wire.h"

enum property_kind {
    PROPERTY_BOOL,   /* bool: on|off */
    PROPERTY_U32,    /* u32, decimal or 0x */
    PROPERTY_U64,    /* u64, with K M G T suffixes */
    PROPERTY_STRING, /* const char *, owned by the machine */
    PROPERTY_DRIVE,  /* struct drive *, by id */
    PROPERTY_CHARDEV,/* struct chardev *, by id */
    PROPERTY_NETDEV, /* struct net_port *, by id */
    PROPERTY_MAC,    /* u8[6] */
};

struct property {
    const char *name;
    u8 kind;
    u32 offset;            /* in the chip's struct */
    const char *initial;   /* text, as a user would write it; NULL: zero */
    const char *help;
};

struct device_class {
    const char *name;      /* as in -device; the part number for board chips */
    const char *title;     /* one line for `-device help` */
    u32 version;           /* of the declared state */
    size_t size;           /* of the chip's struct, whose first member is struct device */
    const struct state_field *fields;
    const struct property *properties; /* ends with name NULL; may be NULL */
    bool is_pci;           /* first member is struct pci_device; see devices/pci.h */
    bool user_creatable;   /* may be asked for with -device */
    /* Before init, when asked for with -device: IRQ(board, n) is a wire to input n of the I/O APIC.
     * May be NULL. */
    void (*connect)(struct device *device, struct wire (*irq)(void *board, unsigned n),
                    void *board);
    bool (*init)(struct device *device, struct error *error); /* properties are set; regions here */
    void (*reset)(struct device *device);     /* power-on values; drives its wires */
    void (*restored)(struct device *device);  /* after state_load: rebuild what is not saved */
    void (*release)(struct device *device);   /* may be NULL */
};

struct device {
    const struct device_class *class;
    char id[32];
    struct bus *bus;
    struct clock *clock;
    struct log *log;
    struct machine_services *services;
};

/* What a chip may ask of the machine as a whole. */
enum shutdown_cause { SHUTDOWN_GUEST_OFF, SHUTDOWN_GUEST_RESET, SHUTDOWN_PANIC,
                      SHUTDOWN_EXIT_DEVICE,
                      SHUTDOWN_HOST, SHUTDOWN_TRIPLE_FAULT, SHUTDOWN_SUSPEND };

/* What can end a suspend. */
enum wake_cause { WAKE_USER, WAKE_BUTTON, WAKE_RTC, WAKE_INPUT };

struct machine_services {
    void (*shutdown)(struct machine_services *, enum shutdown_cause cause, int code);
    /* nothing while not suspended */
    void (*wake)(struct machine_services *, enum wake_cause cause);
    void (*set_a20)(struct machine_services *, bool enabled);
    void (*random)(struct machine_services *, void *to, size_t length); /* through the one door */
    u64 ram_below_4g, ram_above_4g; /* bytes */
    unsigned vcpus;
};

static inline void device_wake(struct device *device, enum wake_cause cause)
{
    if (device->services && device->services->wake) device->services->wake(device->services, cause);
}

#define guest_error(device, ...) log_to((device)->log, LOG_GUEST_ERROR, __VA_ARGS__)
#define device_unimplemented(device, ...) log_to((device)->log, LOG_UNIMPLEMENTED, __VA_ARGS__)

/* All classes, from devices/devices.def; ends with NULL. */
extern const struct device_class *const device_classes[];
const struct device_class *device_class_find(const char *name);

/* Makes a chip without initialising it; set properties, then device_init. */
struct device *device_new(const struct device_class *class, struct bus *bus, struct clock *clock,
                          struct log *log, struct machine_services *services);
bool device_set_property(struct device *device, const char *name, const char *value,
                         struct error *error);       /* textual kinds only */
void device_set_pointer(struct device *device, const char *name, void *value); /* drive, chardev… */
bool device_init(struct device *device, struct error *error);
void device_reset(struct device *device);
void device_free(struct device *device);

#endif
