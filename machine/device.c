/* Making chips from their classes, and setting the properties a class declares. */
#include "machine/device.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define DEVICE(name) extern const struct device_class name##_class;
#include "devices/devices.def"
#undef DEVICE

const struct device_class *const device_classes[] = {
#define DEVICE(name) &name##_class,
#include "devices/devices.def"
#undef DEVICE
    NULL,
};

const struct device_class *device_class_find(const char *name)
{
    for (const struct device_class *const *c = device_classes; *c; c++)
        if (!strcmp((*c)->name, name)) return *c;
    return NULL;
}

static const struct property *property_find(const struct device_class *class, const char *name)
{
    for (const struct property *p = class->properties; p && p->name; p++)
        if (!strcmp(p->name, name)) return p;
    return NULL;
}

static bool parse_number(const char *text, u64 limit, u64 *value)
{
    char *end;
    errno = 0;
    if (!isdigit((unsigned char)*text)) return false;
    u64 number = strtoull(text, &end, 0);
    unsigned shift = 0;
    switch (toupper((unsigned char)*end)) {
    case 'K': shift = 10; break;
    case 'M': shift = 20; break;
    case 'G': shift = 30; break;
    case 'T': shift = 40; break;
    }
    if (shift) end++;
    if (errno || *end || number > (~(u64)0 >> shift)) return false;
    *value = number << shift;
    return *value <= limit;
}

static bool parse_mac(const char *text, u8 mac[6])
{
    unsigned b[6];
    int used = 0;
    if (sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%n", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5],
               &used) != 6 ||
        text[used])
        return false;
    for (unsigned i = 0; i < 6; i++) mac[i] = (u8)b[i];
    return true;
}

static bool parse_bool(const char *text, bool *value)
{
    bool on = !strcmp(text, "on") || !strcmp(text, "yes") || !strcmp(text, "true");
    *value = on;
    return on || !strcmp(text, "off") || !strcmp(text, "no") || !strcmp(text, "false");
}

static bool set_from_text(struct device *device, const struct property *p, const char *value)
{
    void *at = (char *)device + p->offset;
    u64 number;
    switch (p->kind) {
    case PROPERTY_BOOL: return parse_bool(value, at);
    case PROPERTY_U32:
        if (!parse_number(value, UINT32_MAX, &number)) return false;
        *(u32 *)at = (u32)number;
        return true;
    case PROPERTY_U64: return parse_number(value, UINT64_MAX, at);
    case PROPERTY_STRING: *(const char **)at = value; return true;
    case PROPERTY_MAC: return parse_mac(value, at);
    default: return false;
    }
}

struct device *device_new(const struct device_class *class, struct bus *bus, struct clock *clock,
                          struct log *log, struct machine_services *services)
{
    struct device *device = calloc(1, class->size);
    if (!device) abort();
    *device = (struct device){
        .class = class, .bus = bus, .clock = clock, .log = log, .services = services};
    snprintf(device->id, sizeof device->id, "%s", class->name);
    for (const struct property *p = class->properties; p && p->name; p++)
        if (p->initial && !set_from_text(device, p, p->initial)) abort();
    return device;
}

bool device_set_property(struct device *device, const char *name, const char *value,
                         struct error *error)
{
    const struct property *p = property_find(device->class, name);
    if (!p) return error_set(error, "%s has no property '%s'", device->class->name, name);
    if (set_from_text(device, p, value)) return true;
    return error_set(error, "%s: bad value '%s' for property '%s'", device->class->name, value,
                     name);
}

void device_set_pointer(struct device *device, const char *name, void *value)
{
    const struct property *p = property_find(device->class, name);
    if (!p) abort();
    *(void **)((char *)device + p->offset) = value;
}

bool device_init(struct device *device, struct error *error)
{
    return !device->class->init || device->class->init(device, error);
}

void device_reset(struct device *device)
{
    if (device->class->reset) device->class->reset(device);
}

void device_free(struct device *device)
{
    if (device->class->release) device->class->release(device);
    free(device);
}
