/* The monitor's commands that do something to the machine. */
#include "machine/debug/monitor_int.h"

#include "machine/chardev_host.h"
#include "machine/debug/control.h"
#include "machine/debug/trace.h"
#include "machine/display_host.h"
#include "net/options.h"

#include <stdlib.h>

/* --- running --- */

#define ACTION(name, protocols, what) \
    void name(struct monitor *m, const struct argument *a) \
    { \
        struct machine *machine = m->machine; \
        (void)a; \
        what; \
    }
#define ATTEMPT(name, protocols, what) \
    void name(struct monitor *m, const struct argument *a) \
    { \
        struct machine *machine = m->machine; \
        struct error problem, *error = &problem; \
        (void)a; \
        if (!what) monitor_error(m, error); \
    }
#include "machine/debug/control.def"
#undef ACTION
#undef ATTEMPT

void monitor_set_cpu(struct monitor *m, const struct argument *a)
{
    if (a[0].number >= m->machine->vcpu_count) monitor_say(m, "invalid CPU index\n");
    else m->cpu = (unsigned)a[0].number;
}

/* --- keys, mouse, screen --- */

void monitor_sendkey(struct monitor *m, const struct argument *a)
{
    struct error error;
    u32 codes[16];
    unsigned n = display_key_codes(a[0].text, codes, ARRAY_SIZE(codes));
    u32 hold = a[1].given ? (u32)a[1].number : KEY_HOLD_MS;
    if (!n) monitor_say(m, "invalid parameter: %s\n", a[0].text);
    else if (hold > 60000) monitor_say(m, "sendkey: at most 60,000 ms\n");
    else if (!control_send_keys(m->machine, codes, n, hold, &error)) monitor_error(m, &error);
}

static int distance(const char *text)
{
    long n = text ? strtol(text, NULL, 0) : 0;
    return n < -32768 ? -32768 : n > 32767 ? 32767 : (int)n;
}

void monitor_mouse_move(struct monitor *m, const struct argument *a)
{
    display_mouse(m->machine->display, distance(a[0].text), distance(a[1].text),
                  distance(a[2].text), m->machine->monitors->mouse_buttons);
}

void monitor_mouse_button(struct monitor *m, const struct argument *a)
{
    m->machine->monitors->mouse_buttons = a[0].number & 7;
    display_mouse(m->machine->display, 0, 0, 0, m->machine->monitors->mouse_buttons);
}

void monitor_screendump(struct monitor *m, const struct argument *a)
{
    struct error error;
    if (!display_screenshot(m->machine->display, a[0].text, a[1].text, &error))
        monitor_error(m, &error);
}

void monitor_screentext(struct monitor *m, const struct argument *a)
{
    static const size_t size = 65536;
    (void)a;
    char *text = malloc(size);
    if (text && display_text(m->machine->display, text, size)) monitor_say(m, "%s", text);
    else monitor_say(m, "screentext: the screen shows graphics\n");
    free(text);
}

/* --- drives --- */

void monitor_eject(struct monitor *m, const struct argument *a)
{
    struct error error;
    if (!control_eject(m->machine, a[1].text, a[0].given, &error)) monitor_error(m, &error);
}

void monitor_change(struct monitor *m, const struct argument *a)
{
    struct error error;
    if (!control_change(m->machine, a[1].text, a[2].text, a[3].text, a[4].text, a[0].given, &error))
        monitor_error(m, &error);
}

/* --- network --- */

void monitor_set_link(struct monitor *m, const struct argument *a)
{
    struct error error;
    if (!control_set_link(m->machine, a[0].text, a[1].number, &error)) monitor_error(m, &error);
}

/* The network that "hostfwd_add [NETDEV] RULE" means, and the rule. */
static struct net_port *forward_port(struct monitor *m, const struct argument *a, const char **rule)
{
    struct net_set *net = m->machine->net;
    struct net_port *port = NULL;
    *rule = a[1].given ? a[1].text : a[0].text;
    if (a[1].given) {
        port = control_port(m->machine, a[0].text);
        if (!port || !net_port_is_nat(port))
            return monitor_say(m, "'%s' is no user-mode network\n", a[0].text), NULL;
        return port;
    }
    for (unsigned i = 0; net && i < net->port_count; i++)
        if (net_port_is_nat(net->ports[i])) return net->ports[i];
    monitor_say(m, "there is no user-mode network\n");
    return NULL;
}

void monitor_hostfwd_add(struct monitor *m, const struct argument *a)
{
    struct error error;
    const char *rule;
    struct net_port *port = forward_port(m, a, &rule);
    if (port && !nat_add_forward(port, rule, &error)) monitor_error(m, &error);
}

void monitor_hostfwd_remove(struct monitor *m, const struct argument *a)
{
    struct error error;
    const char *rule;
    struct net_port *port = forward_port(m, a, &rule);
    if (!port) return;
    if (!nat_remove_forward(port, rule, &error))
        monitor_say(m, "host forwarding rule for %s not found\n", rule);
    else monitor_say(m, "host forwarding rule for %s removed\n", rule);
}

/* --- others --- */

void monitor_balloon(struct monitor *m, const struct argument *a)
{
    struct error error;
    if (!control_balloon(m->machine, a[0].number, &error)) monitor_error(m, &error);
}

void monitor_log(struct monitor *m, const struct argument *a)
{
    struct error error;
    struct log_items items = {0};
    if (!log_parse(a[0].text, &items, &error)) {
        monitor_error(m, &error);
        return;
    }
    machine_set_log(m->machine, &items);
    trace_update(m->machine);
}
