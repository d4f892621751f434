/* See fixture.h. */
#include "tests/dev/fixture.h"

#include "machine/bus_host.h"

#define FIXTURE_RAM MIB(16)

static struct fixture *of(struct machine_services *services)
{
    return container_of(services, struct fixture, services);
}

static void note_shutdown(struct machine_services *services, enum shutdown_cause cause, int code)
{
    of(services)->last_shutdown = cause;
    of(services)->last_code = code;
}

static void ignore_a20(struct machine_services *services, bool enabled)
{
    (void)services;
    (void)enabled;
}

static void count_up(struct machine_services *services, void *to, size_t length)
{
    (void)services;
    for (size_t i = 0; i < length; i++) ((u8 *)to)[i] = (u8)i;
}

static void line_set(void *listener, unsigned line, bool level)
{
    struct fixture *f = listener;
    if (level && !f->line[line]) f->rises[line]++;
    f->line[line] = level;
}

void fixture_init(struct fixture *f)
{
    struct error error;
    memset(f, 0, sizeof *f);
    f->bus = bus_new(FIXTURE_RAM, MIB(64), &f->log, &error);
    assert_non_null(f->bus);
    f->clock = clock_new_manual();
    f->services = (struct machine_services){.shutdown = note_shutdown, .set_a20 = ignore_a20,
                                            .random = count_up, .ram_below_4g = FIXTURE_RAM,
                                            .vcpus = 1};
    f->last_shutdown = f->last_code = -1;
    f->ram = bus_alloc_memory(f->bus, FIXTURE_RAM, "ram");
    region_init_memory(&f->ram_region, f->ram, FIXTURE_RAM, false, "ram");
    bus_map(f->bus, BUS_MEMORY, &f->ram_region, 0, LAYER_RAM);
}

void fixture_free(struct fixture *f)
{
    bus_free(f->bus);
    clock_free(f->clock);
}

struct device *fixture_device(struct fixture *f, const struct device_class *class)
{
    return device_new(class, f->bus, f->clock, &f->log, &f->services);
}

struct wire fixture_wire(struct fixture *f, unsigned line)
{
    return (struct wire){line_set, f, line};
}
