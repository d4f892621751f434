/* The monitor's commands about memory and ports: x, xp, p, gva2gpa, memsave, i, o. */
#include "machine/debug/monitor_int.h"

#include "cpu/cpu.h"
#include "cpu/mem.h"
#include "machine/bus_host.h"
#include "machine/debug/control.h"
#include "machine/debug/disasm.h"
#include "machine/debug/guest_memory.h"

#include <ctype.h>
#include <inttypes.h>

/* --- values --- */

static void print_character(struct monitor *m, u8 c)
{
    static const struct { char c, letter; } named[] = {{'\n', 'n'}, {'\r', 'r'}, {'\\', '\\'},
                                                       {'\'', '\''}};
    for (unsigned i = 0; i < ARRAY_SIZE(named); i++)
        if (c == (u8)named[i].c) {
            monitor_say(m, "'\\%c'", named[i].letter);
            return;
        }
    if (c >= 32 && c <= 126) monitor_say(m, "'%c'", c);
    else monitor_say(m, "'\\x%02x'", c);
}

/* WIDE: in a column as wide as the widest. */
static void print_value(struct monitor *m, const struct format *f, u64 value, bool wide)
{
    unsigned decimal = wide ? (f->size * 8 * 10 + 32) / 33 : 0;
    value &= size_mask(f->size);
    switch (f->letter) {
    case 'o': monitor_say(m, "%#*" PRIo64, wide ? (f->size * 8 + 2) / 3 : 0, value); break;
    case 'u': monitor_say(m, "%*" PRIu64, decimal, value); break;
    case 'd': monitor_say(m, "%*" PRId64, decimal, sign_extend(value, f->size)); break;
    case 'c': print_character(m, (u8)value); break;
    default:
        if (wide) monitor_say(m, "0x%0*" PRIx64, f->size * 2, value);
        else monitor_say(m, "%#" PRIx64, value);
    }
}

/* --- dumps --- */

/* A processor that reads a chip takes the machine lock itself. Processors parked: nobody else
 * does. */
static bool read_device(struct monitor *m, u64 address, unsigned size, u64 *value)
{
    machine_unlock(m->machine);
    bool there = !(address & (size - 1)) && mem_device_read(monitor_cpu(m), address, size, value);
    machine_lock(m->machine);
    return there;
}

static bool read_value(struct monitor *m, bool physical, u64 address, unsigned size, u64 *value)
{
    u8 bytes[8] = {0};
    struct vcpu *cpu = monitor_cpu(m);
    if ((physical ? guest_read_physical : guest_read)(cpu, address, bytes, size) == size) {
        *value = ld64(bytes);
        return true;
    }
    if (!physical && !guest_translate(cpu, address, &address)) return false;
    if (read_device(m, address, size, value)) return true;
    *value = ~(u64)0; /* nobody drives the bus */
    return physical;
}

static void dump_values(struct monitor *m, const struct format *f, u64 address, bool physical)
{
    unsigned line = f->letter == 'c' ? 8 : 16, a_line = line / f->size;
    for (u32 i = 0; i < f->count && !monitor_is_full(m); i++, address += f->size) {
        u64 value;
        if (i % a_line == 0) monitor_say(m, "%016" PRIx64 ":", address);
        if (!read_value(m, physical, address, f->size, &value)) {
            monitor_say(m, " Cannot access memory\n");
            return;
        }
        monitor_say(m, " ");
        print_value(m, f, value, true);
        if (i % a_line == a_line - 1 || i + 1 == f->count) monitor_say(m, "\n");
    }
}

static void dump_code(struct monitor *m, u32 count, u64 address, bool physical)
{
    struct vcpu *cpu = monitor_cpu(m);
    struct disasm *disasm = disasm_open(cpu->code_size == CODE64 ? 64
                                        : cpu->code_size == CODE32 ? 32 : 16);
    for (u32 i = 0; i < count && !monitor_is_full(m); i++) {
        u8 bytes[15];
        char text[160];
        size_t have = (physical ? guest_read_physical : guest_read)(cpu, address, bytes,
                                                                    sizeof bytes);
        if (!have) {
            monitor_say(m, "0x%08" PRIx64 ": unable to read memory\n", address);
            break;
        }
        unsigned n = disasm_one(disasm, bytes, have, address, text, sizeof text);
        if (!n) n = 1, snprintf(text, sizeof text, "(bad)");
        monitor_say(m, "0x%08" PRIx64 ": ", address);
        for (unsigned k = 0; k < n; k++) monitor_say(m, " %02x", bytes[k]);
        monitor_say(m, "%*s %s\n", n < 8 ? (int)(8 - n) * 3 : 0, "", text);
        address += n;
    }
    disasm_close(disasm);
}

static void dump(struct monitor *m, const struct argument *a, bool physical)
{
    m->format = a[0].format;
    if (m->format.letter == 'i') dump_code(m, m->format.count, a[1].number, physical);
    else dump_values(m, &m->format, a[1].number, physical);
    m->format.count = 1;
}

void monitor_x(struct monitor *m, const struct argument *a) { dump(m, a, false); }
void monitor_xp(struct monitor *m, const struct argument *a) { dump(m, a, true); }

void monitor_print(struct monitor *m, const struct argument *a)
{
    struct error error;
    struct format f = a[0].format;
    const char *text = a[1].text;
    u64 value;
    if (!expression_parse(m, &text, &value, &error) ||
        (*text && !error_set(&error, "invalid char '%c' in expression", *text))) {
        monitor_say(m, "print: %s\nTry \"help print\" for more information\n", error.text);
        return;
    }
    f.size = f.letter == 'c' ? 1 : 8;
    if (f.letter == 'i') f.letter = 'x';
    print_value(m, &f, value, false);
    monitor_say(m, "\n");
}

void monitor_gva2gpa(struct monitor *m, const struct argument *a)
{
    u64 physical;
    if (guest_translate(monitor_cpu(m), a[0].number, &physical))
        monitor_say(m, "gpa: %#" PRIx64 "\n", physical);
    else monitor_say(m, "Unmapped\n");
}

/* --- to files --- */

static void save(struct monitor *m, const struct argument *a, struct vcpu *cpu)
{
    struct error error;
    if (!control_memsave(m->machine, cpu, a[0].number, (u32)a[1].number, a[2].text, &error))
        monitor_error(m, &error);
}

void monitor_memsave(struct monitor *m, const struct argument *a) { save(m, a, monitor_cpu(m)); }
void monitor_pmemsave(struct monitor *m, const struct argument *a) { save(m, a, NULL); }

/* --- ports --- */

static unsigned port_size(const struct format *f) { return f->size > 4 ? 4 : f->size; }

void monitor_in(struct monitor *m, const struct argument *a)
{
    static const char letters[] = {0, 'b', 'w', 0, 'l'};
    u16 port = (u16)a[1].number;
    unsigned size = port_size(&a[0].format);
    machine_unlock(m->machine);
    if (a[2].given) bus_port_write(m->machine->bus, port++, (u8)a[2].number, 1);
    u64 value = bus_port_read(m->machine->bus, port, size);
    machine_lock(m->machine);
    monitor_say(m, "port%c[0x%04x] = 0x%0*" PRIx64 "\n", letters[size], port, size * 2,
                value & size_mask(size));
}

void monitor_out(struct monitor *m, const struct argument *a)
{
    unsigned size = port_size(&a[0].format);
    machine_unlock(m->machine);
    bus_port_write(m->machine->bus, (u16)a[1].number, a[2].number & size_mask(size), size);
    machine_lock(m->machine);
}
