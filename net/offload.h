/*
 * What a network card does to a frame on the driver's behalf: Internet checksums (RFC 1071) and TCP
 * segmentation. Frames come from a guest: every offset is checked here.
 */
#ifndef NET_OFFLOAD_H
#define NET_OFFLOAD_H

#include "machine/types.h"

#define NET_FRAME_MAX 65550u /* 64 KiB of IP datagram and its Ethernet header */

#define NET_SEGMENT_MAX 0x20000u /* what a driver may hand over to be cut */

/* The ones' complement sum of big-endian 16-bit words, not inverted. An odd last byte is padded. */
u32 net_sum(const u8 *bytes, u32 length);
u16 net_sum_fold(u32 sum);

/* Sums [START, END) and stores the inverse at AT. False when that does not fit in LENGTH. */
bool net_checksum_put(u8 *frame, u32 length, u32 start, u32 end, u32 at);

struct net_segment_plan {
    u32 l3, l4;       /* offsets of the IP and TCP or UDP headers */
    u32 header;       /* bytes before the payload */
    u32 mss;          /* payload bytes a segment */
    bool ipv6, udp;
};

/* Cuts FRAME into segments with complete headers and checksums, in order, built in SCRATCH (at
 * least header + mss bytes). False when the plan does not fit the frame; nothing was emitted
 * then. */
bool net_segment(const u8 *frame, u32 length, const struct net_segment_plan *plan, u8 *scratch,
                 u32 scratch_size, void (*emit)(void *opaque, const u8 *frame, u32 length),
                 void *opaque);

/* What a receiving card can say about a frame's checksums. */
enum net_verdict { NET_UNCHECKED, NET_GOOD, NET_BAD };
struct net_checked {
    u8 ip, l4; /* enum net_verdict */
    bool udp;
};
struct net_checked net_check_frame(const u8 *frame, u32 length);

#endif
