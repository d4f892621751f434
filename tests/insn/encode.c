/* See encode.h. */
#include "tests/insn/encode.h"

#include <stdio.h>
#include <stdlib.h>

const struct encoding encodings[] = {
#define INSN(map, opcode, prefix, reg, mod, W, ...) \
    {__LINE__, ENCODING_INSN, #map, #opcode, #prefix, #reg, #mod, #W},
#define X87(opcode, modrm, ...) {__LINE__, ENCODING_X87, "ONE", #opcode, "ANY", #modrm, "R", "0"},
#define GROUP7(reg, rm, ...) {__LINE__, ENCODING_GROUP7, "0F", #rm, "NP", #reg, "R", "0"},
#define SPECIAL(...)
#include "cpu/insns.def"
};
const unsigned encodings_count = ARRAY_SIZE(encodings);

/* "0x40 ... 0x47", "3" or "ANY" (0 to LIMIT): one of them. */
static unsigned pick(struct rng *rng, const char *range, unsigned limit)
{
    unsigned low = 0, high = limit;
    if (range[0] != 'A') {
        char *end;
        low = high = (unsigned)strtoul(range, &end, 0);
        if (strstr(end, "...")) high = (unsigned)strtoul(strstr(end, "...") + 3, NULL, 0);
    }
    return low + rng_below(rng, high - low + 1);
}

static u8 pick_prefix(struct rng *rng, const char *prefix, bool rep)
{
    if (!strcmp(prefix, "66")) return 0x66;
    if (!strcmp(prefix, "F3")) return 0xf3;
    if (!strcmp(prefix, "F2")) return 0xf2;
    if (!strcmp(prefix, "NP")) return 0;
    if (rep && rng_below(rng, 2)) return rng_below(rng, 2) ? 0xf3 : 0xf2;
    return rng_below(rng, 4) ? 0 : 0x66;
}

static void byte(struct encoded *to, unsigned b) { to->bytes[to->length++] = (u8)b; }

static void put_displacement(struct rng *rng, struct encoded *to, unsigned size)
{
    i32 disp = (i32)rng_below(rng, 256) - 128;
    if (size == 1) {
        byte(to, (u8)disp);
    } else {
        to->disp_at = (int)to->length;
        st32(to->bytes + to->length, (u32)disp);
        to->length += 4;
    }
}

static void put_modrm(struct rng *rng, struct encoded *to, unsigned reg, bool memory, bool sib)
{
    unsigned mod = memory ? rng_below(rng, 3) : 3, rm = sib ? 4 : rng_below(rng, 8);
    unsigned base = 0;
    byte(to, mod << 6 | reg << 3 | rm);
    if (mod == 3) return;
    if (rm == 4) {
        base = rng_below(rng, 8);
        byte(to, rng_below(rng, 4) << 6 | rng_below(rng, 8) << 3 | base);
    }
    if (mod == 1)
        put_displacement(rng, to, 1);
    else if (mod == 2 || (mod == 0 && (rm == 5 || (rm == 4 && base == 5))))
        put_displacement(rng, to, 4);
}

static void put_vex(struct rng *rng, struct encoded *to, const struct encoding *e, unsigned w,
                    unsigned opcode)
{
    static const struct {
        const char *name;
        u8 pp;
    } prefixes[] = {{"NP", 0}, {"66", 1}, {"F3", 2}, {"F2", 3}};
    const struct insn_row *row = insn_row(e->row);
    unsigned map = (unsigned)e->map[3] - '0', pp = 0, l = rng_below(rng, 2), vvvv = 15;
    for (unsigned i = 0; i < ARRAY_SIZE(prefixes); i++)
        if (!strcmp(e->prefix, prefixes[i].name)) pp = prefixes[i].pp;
    if (strstr(e->map, "_128")) l = 0;
    if (strstr(e->map, "_256")) l = 1;
    if (row->operand[0]) vvvv = rng_below(rng, 2) ? 15 : rng_below(rng, 16);
    unsigned b2 = w << 7 | vvvv << 3 | l << 2 | pp, rxb = rng_below(rng, 8);
    if (map == 1 && !w && rng_below(rng, 2)) {
        byte(to, 0xc5);
        byte(to, (rxb & 4) << 5 | b2);
    } else {
        byte(to, 0xc4);
        byte(to, rxb << 5 | map);
        byte(to, b2);
    }
    byte(to, opcode);
}

static void put_legacy(struct rng *rng, struct encoded *to, const struct encoding *e, unsigned w,
                       unsigned opcode)
{
    const struct insn_row *row = insn_row(e->row);
    u8 prefix = pick_prefix(rng, e->prefix, row->attributes & ATTR_REP);
    if (!rng_below(rng, 24)) byte(to, 0x67);
    if ((row->attributes & ATTR_LOCKABLE) && !rng_below(rng, 8)) byte(to, 0xf0);
    if (prefix != 0x66 && prefix && !strncmp(e->prefix, "F", 1) && !rng_below(rng, 8))
        byte(to, 0x66);
    if (prefix) byte(to, prefix);
    unsigned rex = w << 3 | rng_below(rng, 8);
    if (rex || !rng_below(rng, 4)) byte(to, 0x40 | rex);
    if (strcmp(e->map, "ONE")) byte(to, 0x0f);
    if (!strcmp(e->map, "0F38")) byte(to, 0x38);
    if (!strcmp(e->map, "0F3A")) byte(to, 0x3a);
    byte(to, opcode);
}

static bool is_gather(unsigned row)
{
    return insn_row(row)->op >= OP_VGATHERDPS && insn_row(row)->op <= OP_VPGATHERQQ;
}

/* The decoder is asked: the length depends on what follows, or not everything may follow. */
static bool modrm_follows(const struct encoded *to, unsigned reg)
{
    static const struct feature_set all = {{~0ull, ~0ull}};
    struct insn insn[2];
    u8 bytes[2][15] = {{0}};
    for (unsigned i = 0; i < 2; i++) {
        memcpy(bytes[i], to->bytes, to->length);
        bytes[i][to->length] = (u8)(reg << 3 | (i ? 0xc0 : 0x84));
        if (decode_insn(&insn[i], bytes[i], 15, CODE64, 0, &all) != DECODE_OK) return true;
    }
    return insn[0].length != insn[1].length;
}

void encode_random(struct rng *rng, const struct encoding *e, struct encoded *to)
{
    unsigned w = e->w[0] == 'A' ? rng_below(rng, 2) : (unsigned)e->w[0] - '0';
    bool memory = e->mod[0] == 'M' || (e->mod[0] == 'A' && rng_below(rng, 2));
    bool vex = e->map[0] == 'V';
    *to = (struct encoded){.disp_at = -1};
    if (e->kind == ENCODING_X87) {
        byte(to, 0xd8 | pick(rng, e->opcode, 7));
        byte(to, 0xc0 | pick(rng, e->reg, 63));
    } else if (e->kind == ENCODING_GROUP7) {
        byte(to, 0x0f);
        byte(to, 0x01);
        byte(to, 0xc0 | pick(rng, e->reg, 7) << 3 | pick(rng, e->opcode, 7));
    } else {
        unsigned opcode = pick(rng, e->opcode, 255), reg = pick(rng, e->reg, 7);
        if (vex)
            put_vex(rng, to, e, w, opcode);
        else
            put_legacy(rng, to, e, w, opcode);
        if (modrm_follows(to, reg)) put_modrm(rng, to, reg, memory, is_gather(e->row));
    }
    unsigned start = to->length;
    while (to->length < start + 8) byte(to, (unsigned)rng_next(rng)); /* immediates */
}
