/*
 * -netdev, -nic and -object filter-dump. "a=b,c=d" lists; ",," is a comma inside a value.
 *
 * Not modelled: backends that need privileges or a second program (tap, bridge, vde, l2tpv3,
 * socket, stream, dgram, vhost-*): each is refused by name.
 */
#include "net/options.h"

#include <stdio.h>
#include <stdlib.h>

#include "machine/error.h"
#include "net/capture.h"
#include "net/switch.h"

#define PAIRS 160

struct pair {
    char *name, *value; /* VALUE NULL: a bare word */
};

/* A list split in place; TEXT is its copy. */
struct list {
    char *text;
    struct pair pairs[PAIRS];
    unsigned count;
};

static void list_free(struct list *list)
{
    free(list->text);
}

static bool list_split(struct list *list, const char *what, const char *text, struct error *error)
{
    char *to, *equals = NULL;

    list->count = 0;
    list->text = to = malloc(strlen(text) + 1);
    if (!to) return error_set(error, "%s: out of memory", what);
    while (*text) {
        struct pair *pair = &list->pairs[list->count];
        if (list->count == PAIRS) return error_set(error, "%s: too many options", what);
        pair->name = to;
        equals = NULL;
        for (; *text; text++) {
            if (*text == ',') {
                if (text[1] != ',') break;
                text++;
            } else if (*text == '=' && !equals) {
                equals = to;
            }
            *to++ = *text;
        }
        *to++ = 0;
        if (equals) *equals = 0;
        pair->value = equals ? equals + 1 : NULL;
        list->count++;
        if (*text == ',') text++;
    }
    return true;
}

/* --- the table of option names --- */

enum kind { TEXT, SWITCH, REPEATED };

struct name {
    const char *name;
    u8 kind;
    u32 offset;       /* in struct request */
    u32 count_offset; /* REPEATED: of the unsigned count */
    u32 limit;
};

struct request {
    struct nat_options nat;
    const char *id, *hubid, *netdev;             /* hubport */
    const char *model, *mac;                     /* -nic */
    const char *file, *maxlen, *queue, *status;  /* filter-dump */
};

#define AT(member) offsetof(struct request, member)

// clang-format off
static const struct name user_names[] = {
    {"id",               TEXT,     AT(id), 0, 0},
    {"net",              TEXT,     AT(nat.net), 0, 0},
    {"host",             TEXT,     AT(nat.host), 0, 0},
    {"dns",              TEXT,     AT(nat.dns), 0, 0},
    {"dhcpstart",        TEXT,     AT(nat.dhcpstart), 0, 0},
    {"hostname",         TEXT,     AT(nat.hostname), 0, 0},
    {"domainname",       TEXT,     AT(nat.domainname), 0, 0},
    {"dnssearch",        REPEATED, AT(nat.dnssearch), AT(nat.dnssearch_count), 8},
    {"tftp",             TEXT,     AT(nat.tftp), 0, 0},
    {"tftp-server-name", TEXT,     AT(nat.tftp_server_name), 0, 0},
    {"bootfile",         TEXT,     AT(nat.bootfile), 0, 0},
    {"hostfwd",          REPEATED, AT(nat.hostfwd), AT(nat.hostfwd_count), NAT_FORWARDS},
    {"guestfwd",         REPEATED, AT(nat.guestfwd), AT(nat.guestfwd_count), NAT_FORWARDS},
    {"restrict",         SWITCH,   AT(nat.restricted), 0, 0},
    {"ipv4",             SWITCH,   AT(nat.ipv4), 0, 0},
    {"ipv6",             SWITCH,   AT(nat.ipv6), 0, 0},
    {NULL, 0, 0, 0, 0},
};

static const struct name hubport_names[] = {
    {"id",     TEXT, AT(id), 0, 0},
    {"hubid",  TEXT, AT(hubid), 0, 0},
    {"netdev", TEXT, AT(netdev), 0, 0},
    {NULL, 0, 0, 0, 0},
};

static const struct name nic_names[] = {
    {"model", TEXT, AT(model), 0, 0},
    {"mac",   TEXT, AT(mac), 0, 0},
    {NULL, 0, 0, 0, 0},
};

static const struct name dump_names[] = {
    {"id",     TEXT, AT(id), 0, 0},
    {"netdev", TEXT, AT(netdev), 0, 0},
    {"file",   TEXT, AT(file), 0, 0},
    {"maxlen", TEXT, AT(maxlen), 0, 0},
    {"queue",  TEXT, AT(queue), 0, 0},   /* both directions are written whatever it says: all */
    {"status", TEXT, AT(status), 0, 0},
    {NULL, 0, 0, 0, 0},
};
// clang-format on

static const struct name *name_find(const struct name *names, const char *name)
{
    for (; names && names->name; names++)
        if (!strcmp(names->name, name)) return names;
    return NULL;
}

static bool parse_switch(const char *what, const struct pair *pair, bool *to, struct error *error)
{
    const char *v = pair->value;

    if (!v || !strcmp(v, "on") || !strcmp(v, "yes") || !strcmp(v, "y") || !strcmp(v, "true"))
        *to = true;
    else if (!strcmp(v, "off") || !strcmp(v, "no") || !strcmp(v, "n") || !strcmp(v, "false"))
        *to = false;
    else
        return error_set(error, "%s: %s=%s is neither on nor off", what, pair->name, v);
    return true;
}

static bool take_pair(const char *what, const struct pair *pair, const struct name *name,
                      struct request *request, struct error *error)
{
    char *base = (char *)request;

    if (name->kind == SWITCH)
        return parse_switch(what, pair, (bool *)(base + name->offset), error);
    if (!pair->value) return error_set(error, "%s: %s needs a value", what, pair->name);
    if (name->kind == REPEATED) {
        unsigned *count = (unsigned *)(base + name->count_offset);
        if (*count == name->limit)
            return error_set(error, "%s: more than %u times %s", what, name->limit, name->name);
        ((const char **)(base + name->offset))[(*count)++] = pair->value;
    } else {
        *(const char **)(base + name->offset) = pair->value;
    }
    return true;
}

/* Everything after the leading word, against one or two tables. */
static bool take_list(const char *what, const struct list *list, const struct name *names,
                      const struct name *more, struct request *request, struct error *error)
{
    unsigned i;

    for (i = 1; i < list->count; i++) {
        const struct pair *pair = &list->pairs[i];
        const struct name *name = name_find(names, pair->name);
        if (!name) name = name_find(more, pair->name);
        if (!name) return error_set(error, "%s: unknown option '%s'", what, pair->name);
        if (!take_pair(what, pair, name, request, error)) return false;
    }
    return true;
}

/* The leading word, also as type=word. */
static const char *list_type(const struct list *list)
{
    const struct pair *first = &list->pairs[0];

    if (!list->count) return "";
    if (!first->value) return first->name;
    return strcmp(first->name, "type") ? "" : first->value;
}

static bool unsupported_backend(const char *what, const char *type, struct error *error)
{
    static const char *const known[] = {"tap",   "bridge", "vde",       "l2tpv3",     "socket",
                                        "stream", "dgram", "vhost-user", "vhost-vdpa", "netmap"};
    unsigned i;

    for (i = 0; i < ARRAY_SIZE(known); i++)
        if (!strcmp(type, known[i]))
            return error_set(error, "%s: backend '%s' is not supported; user and hubport are", what,
                             type);
    return error_set(error, "%s: '%s' is not a network backend; user and hubport are", what, type);
}

/* --- the set --- */

struct net_port *net_set_find(struct net_set *set, const char *id)
{
    unsigned i;

    for (i = 0; i < set->port_count; i++)
        if (!strcmp(set->ports[i]->id, id)) return set->ports[i];
    return NULL;
}

static bool set_id_free(struct net_set *set, const char *what, const char *id, struct error *error)
{
    if (!id || !*id) return error_set(error, "%s: id= is missing", what);
    if (strlen(id) >= sizeof set->ports[0]->id)
        return error_set(error, "%s: id=%s is too long", what, id);
    if (net_set_find(set, id)) return error_set(error, "%s: id=%s is taken", what, id);
    if (set->port_count == NET_PORTS)
        return error_set(error, "%s: more than %u networks", what, NET_PORTS);
    return true;
}

static struct net_switch *set_hub(struct net_set *set, const struct request *r, struct error *error)
{
    char *end;
    unsigned long id;
    unsigned i;

    if (!r->hubid) {
        error_set(error, "-netdev hubport: hubid= is missing");
        return NULL;
    }
    id = strtoul(r->hubid, &end, 10);
    if (end == r->hubid || *end || id > 0xffffffff) {
        error_set(error, "-netdev hubport: hubid=%s is not a number", r->hubid);
        return NULL;
    }
    for (i = 0; i < set->hub_count; i++)
        if (set->hubs[i].id == id) return set->hubs[i].hub;
    if (set->hub_count == NET_HUBS) {
        error_set(error, "-netdev hubport: more than %u hubs", NET_HUBS);
        return NULL;
    }
    set->hubs[i].id = (u32)id;
    set->hubs[i].hub = switch_new();
    if (set->hubs[i].hub) set->hub_count++;
    else error_set(error, "-netdev hubport: out of memory");
    return set->hubs[i].hub;
}

static struct net_port *set_hubport(struct net_set *set, const struct request *r,
                                    struct error *error)
{
    struct net_switch *hub = set_hub(set, r, error);
    struct net_port *other = NULL;

    if (!hub) return NULL;
    if (!r->netdev) return switch_new_port(hub, r->id, error);
    other = net_set_find(set, r->netdev);
    if (!other) {
        error_set(error, "-netdev hubport,id=%s: no netdev '%s'", r->id, r->netdev);
        return NULL;
    }
    return switch_attach(hub, other, error) ? other : NULL;
}

static struct net_port *set_make(struct net_set *set, const char *what, const struct list *list,
                                 const struct name *more, struct request *request,
                                 const char *default_id, struct error *error)
{
    const char *type = list_type(list);
    bool hubport = !strcmp(type, "hubport");
    struct net_port *port;

    if (!hubport && strcmp(type, "user")) {
        unsupported_backend(what, type, error);
        return NULL;
    }
    nat_options_init(&request->nat);
    if (!take_list(what, list, hubport ? hubport_names : user_names, more, request, error))
        return NULL;
    if (!request->id) request->id = default_id;
    if (!set_id_free(set, what, request->id, error)) return NULL;
    request->nat.id = request->id;
    if (hubport) port = set_hubport(set, request, error);
    else port = nat_new(&request->nat, set->clock, set->log, error);
    /* hubport,netdev= gives back a port that is in the set */
    if (port && !net_set_find(set, port->id)) set->ports[set->port_count++] = port;
    return port;
}

struct net_port *net_set_netdev(struct net_set *set, const char *text, struct error *error)
{
    struct request request = {0};
    struct list list;
    struct net_port *port = NULL;

    if (list_split(&list, "-netdev", text, error))
        port = set_make(set, "-netdev", &list, NULL, &request, NULL, error);
    list_free(&list);
    return port;
}

void net_default_mac(u8 mac[6], unsigned number)
{
    static const u8 base[5] = {0x52, 0x54, 0x00, 0x12, 0x34};

    memcpy(mac, base, sizeof base);
    mac[5] = (u8)(0x56 + number);
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

bool net_parse_mac(const char *text, u8 mac[6])
{
    unsigned i;

    for (i = 0; i < 6; i++) {
        int high = hex_digit(text[0]), low = high < 0 ? -1 : hex_digit(text[1]);
        if (low < 0) return false;
        mac[i] = (u8)(high << 4 | low);
        text += 2;
        if (i < 5 && *text != ':' && *text != '-') return false;
        if (i < 5) text++;
    }
    return !*text;
}

static bool set_nic(struct net_set *set, const struct list *list, struct net_nic *nic,
                    struct error *error)
{
    struct request request = {0};
    char id[16];

    if (!strcmp(list_type(list), "none") && list->count == 1) {
        nic->none = true;
        return true;
    }
    snprintf(id, sizeof id, "__nic%u", set->nic_count);
    nic->port = set_make(set, "-nic", list, nic_names, &request, id, error);
    if (!nic->port) return false;
    net_default_mac(nic->mac, set->nic_count++);
    if (request.mac) {
        nic->mac_given = true;
        if (!net_parse_mac(request.mac, nic->mac) || nic->mac[0] & 1)
            return error_set(error, "-nic: mac=%s is not a unicast Ethernet address", request.mac);
    }
    if (request.model && strlen(request.model) >= sizeof nic->model)
        return error_set(error, "-nic: no network card '%s'", request.model);
    if (request.model) memcpy(nic->model, request.model, strlen(request.model) + 1);
    return true;
}

bool net_set_nic(struct net_set *set, const char *text, struct net_nic *nic, struct error *error)
{
    struct list list;
    bool ok;

    memset(nic, 0, sizeof *nic);
    ok = list_split(&list, "-nic", text, error) && set_nic(set, &list, nic, error);
    list_free(&list);
    return ok;
}

static bool set_filter_dump(struct net_set *set, const struct list *list, struct error *error)
{
    const char *what = "-object filter-dump";
    struct request r = {0};
    struct net_port *port;
    struct capture *capture;
    unsigned long maxlen = 0;
    char *end;

    if (!take_list(what, list, dump_names, NULL, &r, error)) return false;
    if (!r.netdev) return error_set(error, "%s: netdev= is missing", what);
    if (!r.file) return error_set(error, "%s: file= is missing", what);
    if (r.queue && strcmp(r.queue, "all"))
        return error_set(error, "%s: queue=%s is not supported; all is", what, r.queue);
    if (r.status && !strcmp(r.status, "off")) return true;
    if (r.maxlen) {
        maxlen = strtoul(r.maxlen, &end, 0);
        if (end == r.maxlen || *end || maxlen > 0x7fffffff)
            return error_set(error, "%s: maxlen=%s is not a length", what, r.maxlen);
    }
    port = net_set_find(set, r.netdev);
    if (!port) return error_set(error, "%s: no netdev '%s'", what, r.netdev);
    if (set->capture_count == NET_PORTS) return error_set(error, "%s: too many", what);
    capture = capture_open(port, r.file, (u32)maxlen, set->clock, error);
    if (!capture) return error_prefix(error, "%s", what);
    set->captures[set->capture_count++] = capture;
    return true;
}

bool net_set_filter_dump(struct net_set *set, const char *text, struct error *error)
{
    struct list list;
    bool ok = list_split(&list, "-object filter-dump", text, error) &&
              set_filter_dump(set, &list, error);

    list_free(&list);
    return ok;
}

/* --- for the I/O thread --- */

void net_set_poll(struct net_set *set, const struct nat_poll *poll)
{
    unsigned i;

    for (i = 0; i < set->port_count; i++)
        if (net_port_is_nat(set->ports[i])) nat_set_poll(set->ports[i], poll);
}

void net_set_poll_fill(struct net_set *set, u32 *timeout_ms)
{
    unsigned i;

    for (i = 0; i < set->port_count; i++)
        if (net_port_is_nat(set->ports[i])) nat_poll_fill(set->ports[i], timeout_ms);
}

void net_set_poll_process(struct net_set *set, bool poll_failed)
{
    unsigned i;

    for (i = 0; i < set->port_count; i++)
        if (net_port_is_nat(set->ports[i])) nat_poll_process(set->ports[i], poll_failed);
}

bool net_set_free(struct net_set *set)
{
    bool ok = true;
    unsigned i;

    for (i = 0; i < set->capture_count; i++) ok &= capture_close(set->captures[i]);
    /* hubs first: they let go of the NATs' ends, and ports of their own know they are gone */
    for (i = 0; i < set->hub_count; i++) switch_free(set->hubs[i].hub);
    for (i = 0; i < set->port_count; i++)
        if (set->ports[i]->release) set->ports[i]->release(set->ports[i]);
    memset(set, 0, sizeof *set);
    return ok;
}
