/*
 * Checksums and segmentation for network cards. See RFC 791, 768, 793, 1071, 8200.
 *
 * Not modelled: IPv6 extension headers when checking received frames (left unchecked).
 */
#include "net/offload.h"

#define TCP_FIN 0x01
#define TCP_PSH 0x08
#define TCP_CWR 0x80

static u16 get16(const u8 *p) { return (u16)(p[0] << 8 | p[1]); }

static void put16(u8 *p, u32 v)
{
    p[0] = (u8)(v >> 8);
    p[1] = (u8)v;
}

static u32 get32(const u8 *p) { return (u32)get16(p) << 16 | get16(p + 2); }

static void put32(u8 *p, u32 v)
{
    put16(p, v >> 16);
    put16(p + 2, v);
}

u32 net_sum(const u8 *bytes, u32 length)
{
    u64 sum = 0;
    u32 i = 0;

    for (; i + 4 <= length; i += 4) {
        u32 word;
        memcpy(&word, bytes + i, 4);
        sum += be32(word);
    }
    if (length - i >= 2) {
        sum += get16(bytes + i);
        i += 2;
    }
    if (i < length) sum += (u32)bytes[i] << 8;
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    return (u32)sum;
}

u16 net_sum_fold(u32 sum)
{
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    return (u16)sum;
}

bool net_checksum_put(u8 *frame, u32 length, u32 start, u32 end, u32 at)
{
    if (end > length || start > end || at > length || length - at < 2) return false;
    put16(frame + at, (u16)~net_sum_fold(net_sum(frame + start, end - start)));
    return true;
}

/* The pseudo header's sum for the TCP or UDP part of LENGTH bytes. */
static u32 pseudo_sum(const u8 *ip, bool ipv6, u8 protocol, u32 length)
{
    u32 sum = protocol + (length & 0xffff) + (length >> 16);
    return sum + (ipv6 ? net_sum(ip + 8, 32) : net_sum(ip + 12, 8));
}

static void finish_l4(u8 *l4, const u8 *ip, const struct net_segment_plan *plan, u32 length)
{
    u32 at = plan->udp ? 6 : 16;
    u16 sum;

    put16(l4 + at, 0);
    sum = (u16)~net_sum_fold(net_sum(l4, length) +
                             pseudo_sum(ip, plan->ipv6, plan->udp ? 17 : 6, length));
    put16(l4 + at, plan->udp && sum == 0 ? 0xffff : sum);
}

/* Corrects the headers of segment number INDEX, which carries PAYLOAD bytes from OFFSET on. */
static void finish_segment(u8 *frame, const struct net_segment_plan *plan, u32 index, u32 offset,
                           u32 payload, bool last)
{
    u8 *ip = frame + plan->l3, *l4 = frame + plan->l4;
    u32 total = plan->header + payload;

    if (plan->ipv6) {
        put16(ip + 4, total - plan->l3 - 40);
    } else {
        put16(ip + 2, total - plan->l3);
        put16(ip + 4, get16(ip + 4) + index);
        put16(ip + 10, 0);
        put16(ip + 10, (u16)~net_sum_fold(net_sum(ip, plan->l4 - plan->l3)));
    }
    if (plan->udp) {
        put16(l4 + 4, total - plan->l4);
    } else {
        put32(l4 + 4, get32(l4 + 4) + offset);
        if (!last) l4[13] &= (u8)~(TCP_FIN | TCP_PSH);
        if (index) l4[13] &= (u8)~TCP_CWR;
    }
    finish_l4(l4, ip, plan, total - plan->l4);
}

bool net_segment(const u8 *frame, u32 length, const struct net_segment_plan *plan, u8 *scratch,
                 u32 scratch_size, void (*emit)(void *opaque, const u8 *frame, u32 length),
                 void *opaque)
{
    u32 index = 0, offset = 0, payload;

    if (length > NET_SEGMENT_MAX || plan->header > length || plan->mss == 0) return false;
    if (plan->l3 > 256 || plan->l4 > 512 || plan->l4 < plan->l3 + (plan->ipv6 ? 40 : 20))
        return false;
    if (plan->header < plan->l4 + (plan->udp ? 8 : 20)) return false;
    payload = length - plan->header;
    if (plan->header + (payload < plan->mss ? payload : plan->mss) > scratch_size) return false;
    do {
        u32 part = payload - offset < plan->mss ? payload - offset : plan->mss;
        memcpy(scratch, frame, plan->header);
        memcpy(scratch + plan->header, frame + plan->header + offset, part);
        finish_segment(scratch, plan, index, offset, part, offset + part == payload);
        emit(opaque, scratch, plan->header + part);
        offset += part;
        index++;
    } while (offset < payload);
    return true;
}

static u8 check_l4(const u8 *ip, bool ipv6, u8 protocol, const u8 *l4, u32 length)
{
    if (length < (protocol == 17 ? 8u : 20u)) return NET_UNCHECKED;
    if (protocol == 17 && get16(l4 + 6) == 0) return NET_UNCHECKED;
    return net_sum_fold(net_sum(l4, length) + pseudo_sum(ip, ipv6, protocol, length)) == 0xffff
               ? NET_GOOD
               : NET_BAD;
}

struct net_checked net_check_frame(const u8 *frame, u32 length)
{
    struct net_checked result = {NET_UNCHECKED, NET_UNCHECKED, false};
    u32 l3 = 14, header, total;
    const u8 *ip;
    u16 type;
    u8 protocol;

    if (length < 14 + 20) return result;
    type = get16(frame + 12);
    if (type == 0x8100) {
        type = get16(frame + 16);
        l3 = 18;
    }
    ip = frame + l3;
    length -= l3;
    if (type == 0x0800) {
        header = (ip[0] & 15) * 4u;
        if (length < 20 || ip[0] >> 4 != 4 || header < 20 || header > length) return result;
        total = get16(ip + 2);
        if (total < header || total > length) return result;
        result.ip = net_sum_fold(net_sum(ip, header)) == 0xffff ? NET_GOOD : NET_BAD;
        if (get16(ip + 6) & 0x3fff) return result; /* a fragment */
        protocol = ip[9];
    } else if (type == 0x86dd && length >= 40) {
        header = 40;
        total = 40u + get16(ip + 4);
        if (total > length) return result;
        protocol = ip[6];
    } else {
        return result;
    }
    if (protocol != 6 && protocol != 17) return result;
    result.udp = protocol == 17;
    result.l4 = check_l4(ip, type == 0x86dd, protocol, ip + header, total - header);
    return result;
}
