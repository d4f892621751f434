/* The monitor's breakpoints and stops for events; debug/stops.c does the work. */
#include "machine/debug/monitor_int.h"
#include "machine/debug/stops.h"

static void say(void *opaque, const char *text) { monitor_say(opaque, "%s", text); }

static void run(struct monitor *m, const char *name, const struct argument *a)
{
    struct stops_listener to = {m, m->cpu, say};
    stops_command(m->machine, name, a[0].given ? a[0].text : "", &to);
}

void monitor_break(struct monitor *m, const struct argument *a) { run(m, "break", a); }
void monitor_watch(struct monitor *m, const struct argument *a) { run(m, "watch", a); }
void monitor_stop_on(struct monitor *m, const struct argument *a) { run(m, "stop-on", a); }
void monitor_stops(struct monitor *m, const struct argument *a) { run(m, "stops", a); }
void monitor_delete(struct monitor *m, const struct argument *a) { run(m, "delete", a); }
