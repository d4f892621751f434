/*
 * Packet capture: the classic pcap format, version 2.4, little-endian, microseconds, Ethernet.
 *
 * The file is flushed after every frame, so that a machine that is killed leaves a readable one.
 */
#include "net/capture.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "machine/clock.h"
#include "machine/error.h"

#define PCAP_MAGIC 0xa1b2c3d4u
#define PCAP_ETHERNET 1u
#define PCAP_SNAPLEN 65535u

struct capture {
    struct net_port *port;
    struct clock *clock;
    FILE *file;
    u32 maxlen;
    bool failed;
};

static void capture_write(struct capture *capture, const void *bytes, size_t length)
{
    if (!capture->failed && fwrite(bytes, 1, length, capture->file) != length)
        capture->failed = true; /* said at the end: a full disk must not stop the guest */
}

static void capture_tap(void *opaque, const u8 *frame, u32 length, bool from_card)
{
    struct capture *capture = opaque;
    u64 now = clock_wall(capture->clock);
    u32 kept = length < capture->maxlen ? length : capture->maxlen;
    u8 header[16];

    (void)from_card;
    st32(header, (u32)(now / NS_PER_SECOND));
    st32(header + 4, (u32)(now % NS_PER_SECOND / 1000));
    st32(header + 8, kept);
    st32(header + 12, length);
    capture_write(capture, header, sizeof header);
    capture_write(capture, frame, kept);
    if (!capture->failed && fflush(capture->file)) capture->failed = true;
}

struct capture *capture_open(struct net_port *port, const char *path, u32 maxlen,
                             struct clock *clock, struct error *error)
{
    struct capture *capture;
    u8 header[24] = {0};

    if (port->tap) {
        error_set(error, "netdev %s is being captured already", port->id);
        return NULL;
    }
    capture = calloc(1, sizeof *capture);
    if (!capture || !(capture->file = fopen(path, "wb"))) {
        error_set(error, "%s: %s", path, strerror(errno));
        free(capture);
        return NULL;
    }
    capture->port = port;
    capture->clock = clock;
    capture->maxlen = maxlen && maxlen < PCAP_SNAPLEN ? maxlen : PCAP_SNAPLEN;
    st32(header, PCAP_MAGIC);
    st16(header + 4, 2);
    st16(header + 6, 4);
    st32(header + 16, capture->maxlen);
    st32(header + 20, PCAP_ETHERNET);
    capture_write(capture, header, sizeof header);
    port->tap = capture_tap;
    port->tap_opaque = capture;
    return capture;
}

bool capture_close(struct capture *capture)
{
    bool ok;

    if (!capture) return true;
    capture->port->tap = NULL;
    capture->port->tap_opaque = NULL;
    ok = fclose(capture->file) == 0 && !capture->failed;
    free(capture);
    return ok;
}
