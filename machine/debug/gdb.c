/*
 * The gdb stub: packets in, packets out.
 * Specification: "Debugging with GDB", appendix "The GDB Remote Serial Protocol"; QEMU's own
 * packets (qqemu.sstep, qqemu.PhyMemMode) as its manual has them.
 *
 * The stub runs on the I/O thread and never waits there: packets are gathered in a bounded buffer,
 * a client that does not read is not listened to, one that is sent more than there is room for is
 * let go.
 * A client that goes without a word leaves the machine as it would run without him.
 *
 * Not there: several processes, non-stop mode, tracepoints, file transfer, reverse execution.
 */
#include "machine/debug/gdb_int.h"

#include "machine/monitor.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#define CONSOLE_MOST MIB(4)

/* --- out --- */

void gdb_reply_bytes(struct gdb *g, const void *bytes, unsigned n)
{
    static const char digits[] = "0123456789abcdef";
    const u8 *in = bytes;
    u8 sum = 0;
    if (n > PACKET_MAX) n = PACKET_MAX; /* our own: nobody asks for more */
    for (unsigned i = 0; i < n; i++) sum = (u8)(sum + in[i]);
    g->last[0] = '$';
    memcpy(g->last + 1, bytes, n);
    g->last[n + 1] = '#';
    g->last[n + 2] = (u8)digits[sum >> 4];
    g->last[n + 3] = (u8)digits[sum & 15];
    g->last_length = n + 4;
    stream_write(&g->out, g->last, g->last_length);
}

void gdb_reply(struct gdb *g, const char *text)
{
    gdb_reply_bytes(g, text, (unsigned)strlen(text));
}

static unsigned to_hex(char *to, const void *bytes, unsigned n)
{
    static const char digits[] = "0123456789abcdef";
    const u8 *in = bytes;
    for (unsigned i = 0; i < n; i++) {
        to[2 * i] = digits[in[i] >> 4];
        to[2 * i + 1] = digits[in[i] & 15];
    }
    return 2 * n;
}

void gdb_reply_hex(struct gdb *g, const void *bytes, unsigned n)
{
    char text[PACKET_MAX];
    if (n > PACKET_MAX / 2) n = PACKET_MAX / 2;
    gdb_reply_bytes(g, text, to_hex(text, bytes, n));
}

void gdb_console(struct gdb *g, const char *text)
{
    char packet[2001] = "O";
    for (size_t n = strlen(text), piece; n; text += piece, n -= piece) {
        piece = n < 1000 ? n : 1000;
        if (g->out.length > CONSOLE_MOST) return; /* nobody reads it */
        gdb_reply_bytes(g, packet, 1 + to_hex(packet + 1, text, (unsigned)piece));
    }
}

/* --- words of packets --- */

static int hex_digit(int c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

bool gdb_number(const char **at, u64 *value)
{
    unsigned digits = 0;
    *value = 0;
    for (int d; (d = hex_digit(**at)) >= 0; (*at)++) {
        if (++digits > 16) return false;
        *value = *value << 4 | (unsigned)d;
    }
    return digits != 0;
}

bool gdb_skip(const char **at, char c)
{
    if (**at != c) return false;
    (*at)++;
    return true;
}

int gdb_unhex(const char *at, u8 *to, unsigned most)
{
    unsigned n = 0;
    for (; n < most && at[2 * n]; n++) {
        int high = hex_digit(at[2 * n]), low = high < 0 ? -1 : hex_digit(at[2 * n + 1]);
        if (low < 0) return high < 0 ? (int)n : -1;
        to[n] = (u8)(high << 4 | low);
    }
    return (int)n;
}

struct vcpu *gdb_cpu(const struct gdb *g) { return g->machine->vcpu[g->thread].cpu; }

bool gdb_thread(const struct gdb *g, const char **at, unsigned *index)
{
    u64 n;
    if (!strncmp(*at, "-1", 2)) {
        *at += 2;
        *index = GDB_ALL;
        return true;
    }
    if (!gdb_number(at, &n) || n > g->machine->vcpu_count) return false;
    *index = n ? (unsigned)n - 1 : g->thread;
    return true;
}

static void error_reply(struct gdb *g, bool good) { gdb_reply(g, good ? "OK" : "E22"); }

/* --- registers --- */

/* The lock is let go: control registers may have to read tables, and CR8 takes it. */
static bool set_register(struct gdb *g, unsigned n, const u8 *bytes)
{
    machine_unlock(g->machine);
    bool done = gdb_reg_set(gdb_cpu(g), n, bytes);
    machine_lock(g->machine);
    return done;
}

static void packet_g(struct gdb *g, const char *at, unsigned n)
{
    u8 all[PACKET_MAX / 2];
    unsigned size = 0;
    (void)at, (void)n;
    for (unsigned i = 0; i < gdb_reg_count(); i++) size += gdb_reg_get(gdb_cpu(g), i, all + size);
    gdb_reply_hex(g, all, size);
}

static void packet_G(struct gdb *g, const char *at, unsigned n)
{
    bool good = true;
    (void)n;
    at++;
    for (unsigned i = 0; i < gdb_reg_count() && *at; i++) {
        u8 bytes[GDB_REG_BYTES];
        unsigned size = gdb_reg_get(gdb_cpu(g), i, bytes);
        if (gdb_unhex(at, bytes, size) != (int)size) {
            good = false;
            break;
        }
        good &= set_register(g, i, bytes);
        at += 2 * size;
    }
    error_reply(g, good);
}

static void packet_p(struct gdb *g, const char *at, unsigned n)
{
    u8 bytes[GDB_REG_BYTES];
    u64 number;
    (void)n;
    at++;
    unsigned size = gdb_number(&at, &number) && number < gdb_reg_count() ?
                    gdb_reg_get(gdb_cpu(g), (unsigned)number, bytes) : 0;
    if (size) gdb_reply_hex(g, bytes, size);
    else gdb_reply(g, "E22");
}

static void packet_P(struct gdb *g, const char *at, unsigned n)
{
    u8 bytes[GDB_REG_BYTES];
    u64 number;
    (void)n;
    at++;
    bool good = gdb_number(&at, &number) && gdb_skip(&at, '=') && number < gdb_reg_count();
    unsigned size = good ? gdb_reg_get(gdb_cpu(g), (unsigned)number, bytes) : 0;
    error_reply(g, good && gdb_unhex(at, bytes, size) == (int)size &&
                       set_register(g, (unsigned)number, bytes));
}

/* --- memory --- */

static void packet_m(struct gdb *g, const char *at, unsigned n)
{
    u8 bytes[PACKET_MAX / 2];
    u64 address, length;
    (void)n;
    at++;
    if (!gdb_number(&at, &address) || !gdb_skip(&at, ',') || !gdb_number(&at, &length)) {
        gdb_reply(g, "E22");
        return;
    }
    unsigned want = length < sizeof bytes ? (unsigned)length : (unsigned)sizeof bytes;
    unsigned have = gdb_read(g, address, bytes, want);
    if (have || !want) gdb_reply_hex(g, bytes, have);
    else gdb_reply(g, "E14");
}

static bool memory_words(const char **at, u64 *address, u64 *length)
{
    ++*at;
    return gdb_number(at, address) && gdb_skip(at, ',') && gdb_number(at, length) &&
           gdb_skip(at, ':');
}

static void packet_M(struct gdb *g, const char *at, unsigned n)
{
    u8 bytes[PACKET_MAX / 2];
    u64 address, length;
    (void)n;
    if (!memory_words(&at, &address, &length) || length > sizeof bytes ||
        gdb_unhex(at, bytes, (unsigned)length) != (int)length)
        gdb_reply(g, "E22");
    else
        gdb_reply(g, gdb_write(g, address, bytes, (unsigned)length) ? "OK" : "E14");
}

/* Bytes behind } are ^ 0x20; in place. */
static unsigned unescape(u8 *bytes, unsigned n)
{
    unsigned out = 0;
    for (unsigned i = 0; i < n; i++) {
        if (bytes[i] == '}' && i + 1 < n) bytes[out++] = bytes[++i] ^ 0x20;
        else bytes[out++] = bytes[i];
    }
    return out;
}

static void packet_X(struct gdb *g, const char *at, unsigned n)
{
    const char *begin = at;
    u64 address, length;
    if (!memory_words(&at, &address, &length)) {
        gdb_reply(g, "E22");
        return;
    }
    u8 *bytes = g->in + (at - begin);
    unsigned have = unescape(bytes, n - (unsigned)(at - begin));
    if (have != length) gdb_reply(g, "E22");
    else gdb_reply(g, gdb_write(g, address, bytes, have) ? "OK" : "E14");
}

/* --- running --- */

/* An address to go on at, or none. */
static bool set_pc(struct gdb *g, const char *at)
{
    u64 pc;
    u8 bytes[8];
    if (!*at) return true;
    if (!gdb_number(&at, &pc)) return false;
    st64(bytes, pc);
    return set_register(g, 16, bytes);
}

/* c [ADDRESS], s [ADDRESS], C SIGNAL[;ADDRESS], S SIGNAL[;ADDRESS] */
static void packet_resume(struct gdb *g, const char *at, unsigned n)
{
    char c = *at++;
    u64 signal;
    (void)n;
    if (isupper((unsigned char)c) && (!gdb_number(&at, &signal) || (*at && !gdb_skip(&at, ';')))) {
        gdb_reply(g, "E22");
        return;
    }
    if (!set_pc(g, at)) gdb_reply(g, "E22");
    else gdb_resume(g, c == 's' || c == 'S');
}

static void packet_H(struct gdb *g, const char *at, unsigned n)
{
    char what = at[1];
    unsigned index;
    (void)n;
    if (!what) {
        gdb_reply(g, "E22");
        return;
    }
    at += 2;
    bool good = gdb_thread(g, &at, &index);
    if (good && index != GDB_ALL) *(what == 'c' ? &g->run_thread : &g->thread) = index;
    error_reply(g, good);
}

static void packet_T(struct gdb *g, const char *at, unsigned n)
{
    unsigned index;
    (void)n;
    at++;
    error_reply(g, gdb_thread(g, &at, &index));
}

static void packet_detach(struct gdb *g, const char *at, unsigned n)
{
    (void)at, (void)n;
    gdb_reply(g, "OK");
    g->goes = true;
    gdb_detach(g, false);
}

static void packet_kill(struct gdb *g, const char *at, unsigned n)
{
    (void)at, (void)n;
    machine_quit(g->machine, 0, "host-qmp-quit");
}

static void packet_why(struct gdb *g, const char *at, unsigned n)
{
    (void)at, (void)n;
    gdb_reply(g, g->stop_reply);
}

static void packet_extended(struct gdb *g, const char *at, unsigned n)
{
    (void)at, (void)n;
    gdb_reply(g, "OK");
}

/* R: the machine is reset and stands at its first instruction. No reply. */
static void packet_restart(struct gdb *g, const char *at, unsigned n)
{
    (void)at, (void)n;
    machine_reset(g->machine);
}

/* --- q, Q --- */

static void query_supported(struct gdb *g, const char *at, unsigned n)
{
    char text[512];
    (void)n;
    g->swbreak = strstr(at, "swbreak+") != NULL;
    g->hwbreak = strstr(at, "hwbreak+") != NULL;
    snprintf(text, sizeof text,
             "PacketSize=%x;qXfer:features:read+;vContSupported+;QStartNoAckMode+;swbreak+;"
             "hwbreak+;ConditionalBreakpoints+", PACKET_MAX);
    gdb_reply(g, text);
}

static void query_threads(struct gdb *g, const char *at, unsigned n)
{
    char text[MAX_VCPUS * 4 + 2] = "m";
    (void)at, (void)n;
    for (unsigned i = 0; i < g->machine->vcpu_count; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%x", i ? "," : "", i + 1);
    gdb_reply(g, text);
}

static void query_no_more(struct gdb *g, const char *at, unsigned n)
{
    (void)at, (void)n;
    gdb_reply(g, "l");
}

static void query_thread_info(struct gdb *g, const char *at, unsigned n)
{
    static const char *const states[] = {"running", "halted", "waiting for SIPI", "shut down",
                                         "in MWAIT"};
    char text[64];
    unsigned index;
    (void)n;
    if (!gdb_thread(g, &at, &index) || index == GDB_ALL) {
        gdb_reply(g, "E22");
        return;
    }
    const struct vcpu *cpu = g->machine->vcpu[index].cpu;
    snprintf(text, sizeof text, "CPU#%u [%s], %s", index,
             cpu->activity < ARRAY_SIZE(states) ? states[cpu->activity] : "?",
             stops_mode_name(stops_mode(cpu)));
    gdb_reply_hex(g, text, (unsigned)strlen(text));
}

static void query_thread(struct gdb *g, const char *at, unsigned n)
{
    char text[16];
    (void)at, (void)n;
    snprintf(text, sizeof text, "QC%x", g->thread + 1);
    gdb_reply(g, text);
}

static void query_attached(struct gdb *g, const char *at, unsigned n)
{
    (void)at, (void)n;
    gdb_reply(g, "1");
}

/* ANNEX:OFFSET,LENGTH */
static void query_features(struct gdb *g, const char *at, unsigned n)
{
    char text[PACKET_MAX];
    u64 offset, length, size = strlen(g->target);
    (void)n;
    if (strncmp(at, "target.xml:", 11)) {
        gdb_reply(g, "E00");
        return;
    }
    at += 11;
    if (!gdb_number(&at, &offset) || !gdb_skip(&at, ',') || !gdb_number(&at, &length) ||
        offset > size) {
        gdb_reply(g, "E22");
        return;
    }
    if (length > PACKET_MAX - 1) length = PACKET_MAX - 1;
    if (length > size - offset) length = size - offset;
    text[0] = offset + length == size ? 'l' : 'm';
    memcpy(text + 1, g->target + offset, length); /* has nothing that must be escaped */
    gdb_reply_bytes(g, text, (unsigned)length + 1);
}

static void query_command(struct gdb *g, const char *at, unsigned n)
{
    char line[512];
    (void)n;
    int length = gdb_unhex(at, (u8 *)line, sizeof line - 1);
    if (length < 0 || at[2 * length]) {
        gdb_reply(g, "E22");
        return;
    }
    line[length] = 0;
    char *text = monitor_execute(g->machine, line, g->thread);
    if (text) gdb_console(g, text);
    free(text);
    gdb_reply(g, "OK");
}

static void query_qemu(struct gdb *g, const char *at, unsigned n)
{
    char text[64];
    (void)n;
    if (!strcmp(at, "Supported")) snprintf(text, sizeof text, "sstepbits;sstep;PhyMemMode");
    else if (!strcmp(at, "sstepbits"))
        snprintf(text, sizeof text, "ENABLE=%x,NOIRQ=%x,NOTIMER=%x", SSTEP_ENABLE, SSTEP_NOIRQ,
                 SSTEP_NOTIMER);
    else if (!strcmp(at, "sstep")) snprintf(text, sizeof text, "0x%x", g->sstep);
    else if (!strcmp(at, "PhyMemMode")) snprintf(text, sizeof text, "%d", g->physical);
    else *text = 0;
    gdb_reply(g, text);
}

static void set_step_flags(struct gdb *g, const char *at, unsigned n)
{
    u64 value;
    (void)n;
    if (!strncmp(at, "0x", 2)) at += 2;
    bool good = gdb_number(&at, &value) && !(value & ~(u64)7);
    if (good) g->sstep = (u8)value;
    error_reply(g, good);
}

static void set_physical(struct gdb *g, const char *at, unsigned n)
{
    (void)n;
    bool good = (*at == '0' || *at == '1') && !at[1];
    if (good) g->physical = *at == '1';
    error_reply(g, good);
}

static void set_no_ack(struct gdb *g, const char *at, unsigned n)
{
    (void)at, (void)n;
    gdb_reply(g, "OK");
    g->no_ack = true;
}

static void query_search(struct gdb *g, const char *at, unsigned n)
{
    n = unescape((u8 *)(uintptr_t)at, n); /* it is our own buffer */
    gdb_search(g, at, n);
}

static void query_crc(struct gdb *g, const char *at, unsigned n)
{
    (void)n;
    gdb_crc(g, at);
}

/* --- v --- */

static void v_cont(struct gdb *g, const char *at, unsigned n)
{
    (void)n;
    gdb_vcont(g, at);
}

static void v_cont_what(struct gdb *g, const char *at, unsigned n)
{
    (void)at, (void)n;
    gdb_reply(g, "vCont;c;C;s;S;r");
}

static void v_kill(struct gdb *g, const char *at, unsigned n)
{
    gdb_reply(g, "OK");
    packet_kill(g, at, n);
}

static void v_attach(struct gdb *g, const char *at, unsigned n) { packet_why(g, at, n); }

/* --- which packet it is --- */

/* The first row whose beginning fits. ARGUMENTS: the handler sees what follows. */

static const struct row {
    const char *begins;
    void (*run)(struct gdb *, const char *at, unsigned n);
    bool whole, arguments;
} rows[] = {
    {"g", packet_g, true, false}, {"G", packet_G, false, false}, {"p", packet_p, false, false},
    {"P", packet_P, false, false}, {"m", packet_m, false, false}, {"M", packet_M, false, false},
    {"X", packet_X, false, false}, {"c", packet_resume, false, false},
    {"C", packet_resume, false, false},
    {"s", packet_resume, false, false}, {"S", packet_resume, false, false},
    {"?", packet_why, true, false},
    {"H", packet_H, false, false}, {"T", packet_T, false, false},
    {"D", packet_detach, false, false},
    {"k", packet_kill, false, false}, {"Z", gdb_break, false, false},
    {"z", gdb_break, false, false},
    {"!", packet_extended, true, false}, {"R", packet_restart, false, false},
    {"vCont?", v_cont_what, true, false}, {"vCont", v_cont, false, true},
    {"vKill", v_kill, false, true},
    {"vAttach;", v_attach, false, true},
    {"qSupported", query_supported, false, true}, {"qfThreadInfo", query_threads, true, false},
    {"qsThreadInfo", query_no_more, true, false},
    {"qThreadExtraInfo,", query_thread_info, false, true},
    {"qC", query_thread, true, false}, {"qAttached", query_attached, false, false},
    {"qXfer:features:read:", query_features, false, true}, {"qRcmd,", query_command, false, true},
    {"qqemu.", query_qemu, false, true}, {"qemu.", query_qemu, false, true},
    {"Qqemu.sstep=", set_step_flags, false, true}, {"Qqemu.PhyMemMode:", set_physical, false, true},
    {"qSearch:memory:", query_search, false, true}, {"qCRC:", query_crc, false, true},
    {"QStartNoAckMode", set_no_ack, true, false},
};

/* A suspended machine does not run, and still goes on. */
static void break_in(struct gdb *g)
{
    if (g->waiting || g->machine->run_state == RUN_RUNNING) machine_pause(g->machine);
}

static void packet(struct gdb *g)
{
    char *text = (char *)g->in;
    unsigned n = g->in_length;
    text[n] = 0;
    break_in(g); /* as Ctrl-C, or somebody let it go */
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        const struct row *row = &rows[i];
        unsigned length = (unsigned)strlen(row->begins);
        if (n < length || memcmp(text, row->begins, length) || (row->whole && n != length))
            continue;
        row->run(g, row->arguments ? text + length : text, row->arguments ? n - length : n);
        return;
    }
    gdb_reply(g, ""); /* not known: says so */
}

/* --- in --- */

static void packet_ends(struct gdb *g)
{
    bool good = g->in_sum == g->in_claimed && !g->in_overflow;
    g->in_state = IN_IDLE;
    if (!g->no_ack) stream_write(&g->out, good ? "+" : "-", 1);
    if (good) packet(g);
    else if (g->in_overflow) gdb_reply(g, "E22");
}

static void idle_byte(struct gdb *g, u8 c)
{
    switch (c) {
    case '$':
        g->in_state = IN_BODY;
        g->in_length = g->in_sum = 0;
        g->in_overflow = false;
        break;
    case '-': stream_write(&g->out, g->last, g->last_length); break;
    case 3: break_in(g); break;
    default: break;
    }
}

static void body_byte(struct gdb *g, u8 c)
{
    if (c == '#') {
        g->in_state = IN_SUM_HIGH;
    } else if (c == '$') { /* the end of the last one was lost; in a packet it is escaped */
        idle_byte(g, c);
    } else {
        g->in_sum = (u8)(g->in_sum + c);
        if (g->in_length < PACKET_MAX) g->in[g->in_length++] = c;
        else g->in_overflow = true;
    }
}

static void sum_byte(struct gdb *g, u8 c)
{
    int digit = hex_digit(c);
    g->in_claimed = (u8)(g->in_claimed << 4 | (digit & 15));
    if (digit < 0) g->in_overflow = true; /* no sum is this one */
    if (g->in_state == IN_SUM_LOW) packet_ends(g);
    else g->in_state = IN_SUM_LOW;
}

static void look(struct gdb *g)
{
    while (g->connected && g->held_from < g->held_until && stream_is_calm(&g->out)) {
        u8 c = g->held[g->held_from++];
        switch (g->in_state) {
        case IN_IDLE: idle_byte(g, c); break;
        case IN_BODY: body_byte(g, c); break;
        default: sum_byte(g, c);
        }
    }
    if (g->held_from == g->held_until || !g->connected) g->held_from = g->held_until = 0;
}

static unsigned gdb_room(void *opaque)
{
    const struct gdb *g = opaque;
    return HELD_MAX - g->held_until;
}

static void gdb_receive(void *opaque, const u8 *bytes, unsigned n)
{
    struct gdb *g = opaque;
    memcpy(g->held + g->held_until, bytes, n);
    g->held_until += n;
    look(g);
}

static void gdb_ready(void *opaque)
{
    struct gdb *g = opaque;
    stream_flush(&g->out);
    look(g);
    if (!g->held_until) chardev_room(g->chardev);
}

static void gdb_connected(void *opaque, bool there)
{
    struct gdb *g = opaque;
    if (g->leaving) return;
    if (there) gdb_attach(g);
    else if (g->connected) gdb_detach(g, true);
}

/* --- start and end --- */

bool gdb_attached(const struct machine *m)
{
    return m->gdb && m->gdb->connected && !m->gdb->leaving;
}

/* As QEMU: a socket is listened on, and the machine does not wait for anybody. */
static struct chardev *open_server(struct machine *m, const char *text, struct error *error)
{
    char full[512];
    bool socket = !strncmp(text, "tcp:", 4) || !strncmp(text, "unix:", 5);
    if (!socket && strcmp(text, "stdio") && strcmp(text, "pty"))
        return error_set(error, "not supported (tcp:HOST:PORT, unix:PATH, stdio, pty)"), NULL;
    if ((size_t)snprintf(full, sizeof full, "%s%s", text,
                         socket && !strchr(text, ',') ? ",server,nowait" : "") >= sizeof full)
        return error_set(error, "too long"), NULL;
    return chardev_open(m->loop, full, error);
}

bool gdb_start(struct machine *m, struct error *error)
{
    const char *text = m->options->gdb;
    stops_new(m);
    if (!text || !strcmp(text, "none")) return true;
    struct chardev *chardev = open_server(m, text, error);
    if (!chardev) return error_prefix(error, "-gdb %s", text);
    struct gdb *g = calloc(1, sizeof *g);
    if (!g) abort();
    g->machine = m;
    g->chardev = g->out.chardev = chardev;
    g->target = gdb_target_new();
    m->gdb = g;
    m->chardevs[m->chardev_count++] = chardev;
    struct chardev_listener listener = {.opaque = g, .room = gdb_room, .receive = gdb_receive,
                                        .ready = gdb_ready,
                                        .connected = gdb_connected};
    chardev_listen(chardev, &listener);
    return true;
}

void gdb_leaving(struct machine *m, int code)
{
    struct gdb *g = m->gdb;
    char text[8];
    if (!gdb_attached(m)) return;
    snprintf(text, sizeof text, "W%02x", (unsigned)code & 0xff);
    if (g->waiting) gdb_reply(g, text);
    g->leaving = true;
}
