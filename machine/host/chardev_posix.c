/*
 * Character device backends on POSIX descriptors: null, terminal, file, pty, UNIX and TCP sockets.
 *
 * A descriptor that cannot take more now is watched for room; what the listener has no room for
 * waits here. The terminal's former settings are the one thing a process has only one of: they are
 * kept where a signal handler can put them back.
 */
#define _GNU_SOURCE /* ptsname_r, accept4 */
#include "machine/chardev_host.h"
#include "machine/host/loop.h"
#include "machine/options.h" /* parse_on_off */

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

#define HELD 4096

struct fd_chardev {
    struct chardev base;
    struct loop *loop;
    int in, out, listening;
    struct loop_fd *watch_in, *watch_out, *watch_listening;
    u8 held[HELD]; /* arrived, and the listener had no room */
    unsigned held_count;
    char *unlink_path;
    bool is_terminal, is_pty;
    bool delivering, dropped; /* hung up from inside the listener: done behind it */
};

/* --- the terminal --- */

static struct termios terminal_before;
static volatile sig_atomic_t terminal_changed;

void terminal_restore(void)
{
    if (!terminal_changed) return;
    terminal_changed = 0;
    tcsetattr(STDIN_FILENO, TCSANOW, &terminal_before);
}

static void restore_and_die(int signal)
{
    terminal_restore();
    struct sigaction plain = {.sa_handler = SIG_DFL};
    sigaction(signal, &plain, NULL);
    raise(signal);
}

static void terminal_raw(void)
{
    struct termios raw;
    if (!isatty(STDIN_FILENO) || tcgetattr(STDIN_FILENO, &raw)) return;
    terminal_before = raw;
    terminal_changed = 1;
    atexit(terminal_restore);
    static const int deadly[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGQUIT};
    for (unsigned i = 0; i < ARRAY_SIZE(deadly); i++) {
        struct sigaction action = {.sa_handler = restore_and_die, .sa_flags = SA_ONSTACK};
        sigaction(deadly[i], &action, NULL);
    }
    raw.c_iflag &= ~(tcflag_t)(IGNBRK | BRKINT | PARMRK | ISTRIP | INLCR | IGNCR | ICRNL | IXON);
    raw.c_lflag &= ~(tcflag_t)(ECHO | ECHONL | ICANON | IEXTEN | ISIG);
    raw.c_cflag = (raw.c_cflag & ~(tcflag_t)(CSIZE | PARENB)) | CS8;
    raw.c_cc[VMIN] = 1;
    raw.c_cc[VTIME] = 0;
    tcsetattr(STDIN_FILENO, TCSANOW, &raw);
}

/* --- bytes --- */

static struct fd_chardev *of(struct chardev *chardev)
{
    return container_of(chardev, struct fd_chardev, base);
}

static void hang_up(struct fd_chardev *c)
{
    if (c->watch_in) loop_remove(c->watch_in);
    if (c->watch_out) loop_remove(c->watch_out);
    c->watch_in = c->watch_out = NULL;
    c->held_count = 0;
    c->dropped = false;
    if (c->listening >= 0 && c->in >= 0) {
        close(c->in);
        c->in = c->out = -1;
        if (c->watch_listening) loop_change(c->watch_listening, LOOP_IN);
    }
    if (c->base.connected) chardev_connected(&c->base, false);
}

static void deliver(struct fd_chardev *c)
{
    if (c->delivering) return;
    c->delivering = true;
    unsigned taken = chardev_arrived(&c->base, c->held, c->held_count);
    c->delivering = false;
    if (c->dropped) {
        hang_up(c);
        return;
    }
    c->held_count -= taken;
    memmove(c->held, c->held + taken, c->held_count);
    if (c->watch_in) loop_change(c->watch_in, c->held_count < HELD ? LOOP_IN : 0);
}

static void fd_hang_up(struct chardev *base)
{
    struct fd_chardev *c = of(base);
    if (c->is_terminal || c->is_pty) return;
    if (c->delivering) c->dropped = true;
    else hang_up(c);
}

static void can_read(void *opaque, unsigned events)
{
    struct fd_chardev *c = opaque;
    if (c->held_count < HELD) {
        ssize_t n = read(c->in, c->held + c->held_count, HELD - c->held_count);
        if (n > 0) c->held_count += (unsigned)n;
        /* A pty without a reader reports EIO until somebody opens it. */
        else if (c->is_pty) usleep(1000);
        else if (n == 0 || (errno != EAGAIN && errno != EINTR)) { hang_up(c); return; }
    } else if (events & LOOP_ERROR) {
        hang_up(c);
        return;
    }
    deliver(c);
}

static void can_write(void *opaque, unsigned events)
{
    struct fd_chardev *c = opaque;
    loop_change(c->watch_out, 0);
    /* gone for good, whatever was still to be read */
    if ((events & LOOP_ERROR) && c->listening >= 0) hang_up(c);
    else chardev_ready(&c->base);
}

/* All of it, whatever the reader does. */
static unsigned write_steadily(int fd, const u8 *bytes, unsigned n)
{
    for (unsigned done = 0; done < n;) {
        struct pollfd wait = {fd, POLLOUT, 0};
        ssize_t now = write(fd, bytes + done, n - done);
        if (now > 0) done += (unsigned)now;
        else if (now < 0 && errno != EAGAIN && errno != EINTR) break;
        else poll(&wait, 1, -1);
    }
    return n;
}

static unsigned fd_write(struct chardev *base, const u8 *bytes, unsigned n)
{
    struct fd_chardev *c = of(base);
    if (c->out < 0) return n; /* nobody connected: as a cable with no end */
    if (loop_is_steady(c->loop)) return write_steadily(c->out, bytes, n);
    ssize_t done = write(c->out, bytes, n);
    if (done >= 0) return (unsigned)done;
    if (errno != EAGAIN && errno != EINTR) return n;
    if (c->watch_out) {
        loop_change(c->watch_out, LOOP_OUT);
        loop_wake(c->loop);
    }
    return 0;
}

static void fd_resume(struct chardev *base)
{
    struct fd_chardev *c = of(base);
    if (!c->held_count) return;
    deliver(c);
    loop_wake(c->loop);
}

static void fd_release(struct chardev *base)
{
    struct fd_chardev *c = of(base);
    if (c->is_terminal) terminal_restore();
    if (c->unlink_path) unlink(c->unlink_path);
    free(c->unlink_path);
    hang_up(c);
    if (c->watch_listening) loop_remove(c->watch_listening);
    if (c->listening >= 0) close(c->listening);
    if (c->out > STDERR_FILENO) close(c->out);
    free(c);
}

static void not_blocking(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags >= 0) fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

static void watch(struct fd_chardev *c, bool read_too)
{
    if (read_too && c->in >= 0) c->watch_in = loop_add(c->loop, c->in, LOOP_IN, can_read, c);
    if (c->out >= 0) c->watch_out = loop_add(c->loop, c->out, 0, can_write, c);
}

static struct fd_chardev *make(struct loop *loop, int in, int out)
{
    struct fd_chardev *c = calloc(1, sizeof *c);
    if (!c) abort();
    c->base = (struct chardev){.write = fd_write, .resume = fd_resume, .release = fd_release,
                               .hang_up = fd_hang_up,
                               .connected = out >= 0};
    c->loop = loop;
    c->in = in;
    c->out = out;
    c->listening = -1;
    return c;
}

/* --- the kinds --- */

static struct chardev *open_stdio(struct loop *loop)
{
    struct fd_chardev *c = make(loop, STDIN_FILENO, STDOUT_FILENO);
    c->is_terminal = true;
    terminal_raw();
    /* Standard output stays blocking: it may be the user's shell's, and a pipe must lose
     * nothing. */
    watch(c, true);
    return &c->base;
}

static struct chardev *open_file(struct loop *loop, const char *path, struct error *error)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) return error_set(error, "%s: %s", path, strerror(errno)), NULL;
    return &make(loop, -1, fd)->base;
}

static struct chardev *open_pty(struct loop *loop, struct error *error)
{
    int master, slave;
    char name[128];
    if (openpty(&master, &slave, NULL, NULL, NULL))
        return error_set(error, "pty: %s", strerror(errno)), NULL;
    ptsname_r(master, name, sizeof name);
    struct termios raw;
    tcgetattr(slave, &raw);
    cfmakeraw(&raw);
    tcsetattr(slave, TCSANOW, &raw);
    /* The slave stays open here so that the master never sees a hang-up. */
    not_blocking(master);
    fprintf(stderr, "char device redirected to %s\n", name);
    struct fd_chardev *c = make(loop, master, master);
    c->is_pty = true;
    watch(c, true);
    return &c->base;
}

static void connected(struct fd_chardev *c, int fd)
{
    int one = 1;
    not_blocking(fd);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one); /* only TCP has it */
    c->in = c->out = fd;
    watch(c, true);
    chardev_connected(&c->base, true);
}

/* One at a time: the next ones wait. */
static void can_accept(void *opaque, unsigned events)
{
    struct fd_chardev *c = opaque;
    (void)events;
    int fd = accept4(c->listening, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0) return;
    loop_change(c->watch_listening, 0);
    connected(c, fd);
}

/* What follows an address, a comma in front of each word: who listens, and whether he waits for the
 * other. */
static bool parse_words(const char *words, bool *server, bool *wait, struct error *error)
{
    bool waits = true, does_not = false, passed_over;
    const struct { const char *name; bool *value; } known[] = {
        {"server", server}, {"wait", &waits}, {"nowait", &does_not}, {"nodelay", &passed_over},
        {"ipv4", &passed_over}, {"ipv6", &passed_over}};
    *server = false;
    for (const char *p = words; p && *p; p += strcspn(p, ",")) {
        char word[64];
        bool good = false;
        p++; /* the comma */
        snprintf(word, sizeof word, "%.*s", (int)strcspn(p, ","), p);
        char *value = strchr(word, '=');
        if (value) *value++ = 0;
        for (unsigned i = 0; i < ARRAY_SIZE(known) && !good; i++) {
            if (strcmp(word, known[i].name)) continue;
            if (!value) good = *known[i].value = true;
            else good = parse_on_off(value, known[i].value);
        }
        if (!good)
            return error_set(error, "%.*s: server, wait, nowait or nodelay expected, =on or =off",
                             (int)strcspn(p, ","), p);
    }
    *wait = *server && waits && !does_not;
    return true;
}

/*
 * A socket file is for its owner alone. Linux makes the file with the socket's mode; elsewhere it
 * is changed before listen(), that is before anybody can connect. umask would be the whole
 * process's.
 */
static int bind_private(int fd, const struct sockaddr *address, socklen_t length)
{
    bool local = address->sa_family == AF_UNIX;
    if (local && fchmod(fd, 0600) && errno != EINVAL) return -1;
    if (bind(fd, address, length)) return -1;
    return local ? chmod(((const struct sockaddr_un *)address)->sun_path, 0600) : 0;
}

static struct chardev *serve_or_connect(struct loop *loop, int fd, const struct sockaddr *address,
                                        socklen_t length, bool server, bool wait, const char *name,
                                        struct error *error)
{
    int one = 1;
    if (server) setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (server ? bind_private(fd, address, length) || listen(fd, 1) :
                 connect(fd, address, length)) {
        error_set(error, "%s: %s", name, strerror(errno));
        close(fd);
        return NULL;
    }
    struct fd_chardev *c = make(loop, -1, -1);
    if (!server) {
        connected(c, fd);
        return &c->base;
    }
    c->listening = fd;
    if (wait) {
        fprintf(stderr, "waiting for a connection on %s\n", name);
        int peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
        if (peer >= 0) connected(c, peer);
    }
    c->watch_listening = loop_add(loop, fd, c->in < 0 ? LOOP_IN : 0, can_accept, c);
    return &c->base;
}

static struct chardev *open_unix(struct loop *loop, const char *text, struct error *error)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *comma = strchr(text, ',');
    size_t length = comma ? (size_t)(comma - text) : strlen(text);
    if (!length || length >= sizeof address.sun_path)
        return error_set(error, "unix:%s: bad path length", text), NULL;
    memcpy(address.sun_path, text, length);
    struct stat st;
    bool server, wait;
    if (!parse_words(comma, &server, &wait, error))
        return error_prefix(error, "unix:%s", text), NULL;
    if (server && !lstat(address.sun_path, &st) && !S_ISSOCK(st.st_mode))
        return error_set(error, "%s: exists and is not a socket", address.sun_path), NULL;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return error_set(error, "unix socket: %s", strerror(errno)), NULL;
    if (server) unlink(address.sun_path);
    struct chardev *chardev = serve_or_connect(loop, fd, (struct sockaddr *)&address,
                                               sizeof address,
                                               server, wait, address.sun_path, error);
    if (chardev && server) of(chardev)->unlink_path = strdup(address.sun_path);
    return chardev;
}

/* getaddrinfo takes numbers modulo 65536, and some take none for 0. A server's 0 is any that is
 * free. */
static bool is_port(const char *port, bool server)
{
    char *end;
    if (!isdigit((unsigned char)*port)) return isalpha((unsigned char)*port);
    unsigned long n = strtoul(port, &end, 10);
    return !*end && n <= 65535 && (n || server);
}

static struct chardev *open_tcp(struct loop *loop, const char *text, struct error *error)
{
    char host[256] = "", port[32] = "";
    const char *comma = strchr(text, ','), *end = comma ? comma : text + strlen(text);
    const char *colon = memrchr(text, ':', (size_t)(end - text));
    if (!colon || (size_t)(colon - text) >= sizeof host || (size_t)(end - colon) > sizeof port)
        return error_set(error, "tcp:%s: HOST:PORT expected", text), NULL;
    memcpy(host, text, (size_t)(colon - text));
    memcpy(port, colon + 1, (size_t)(end - colon - 1));
    bool server, wait;
    if (!parse_words(comma, &server, &wait, error))
        return error_prefix(error, "tcp:%s", text), NULL;
    if (!is_port(port, server))
        return error_set(error, "tcp:%s: port '%s': %d to 65535 or a service's name expected", text,
                         port, !server), NULL;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = server ? AI_PASSIVE : 0},
                    *found;
    int failed = getaddrinfo(*host ? host : "127.0.0.1", port, &hints, &found);
    if (failed) return error_set(error, "tcp:%s: %s", text, gai_strerror(failed)), NULL;
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct chardev *chardev = NULL;
    if (fd < 0) error_set(error, "tcp:%s: %s", text, strerror(errno));
    else chardev = serve_or_connect(loop, fd, found->ai_addr, found->ai_addrlen, server, wait, text,
                                    error);
    freeaddrinfo(found);
    return chardev;
}

struct chardev *chardev_open(struct loop *loop, const char *text, struct error *error)
{
    if (!strcmp(text, "null") || !strcmp(text, "none") || !strcmp(text, "vc"))
        return &make(loop, -1, -1)->base;
    if (!strcmp(text, "stdio")) return open_stdio(loop);
    if (!strcmp(text, "pty")) return open_pty(loop, error);
    if (!strncmp(text, "file:", 5)) return open_file(loop, text + 5, error);
    if (!strncmp(text, "unix:", 5)) return open_unix(loop, text + 5, error);
    if (!strncmp(text, "tcp:", 4)) return open_tcp(loop, text + 4, error);
    return error_set(error, "unknown character device '%s'", text), NULL;
}
