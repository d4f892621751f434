/*
 * What Capstone 4.0.2 is known to get wrong, or does not want to decide: a reason and the test for
 * it. Included by test_decode.c only.
 */

/* Extensions that this processor does not have and that Capstone decodes whatever CPUID says. */
// clang-format off
static const char *const foreign[] = {
    "vfmaddps vfmaddpd vfmaddss vfmaddsd vfmsubps vfmsubpd vfmsubss vfmsubsd vfnmaddps vfnmaddpd "
    "vfnmaddss vfnmaddsd vfnmsubps vfnmsubpd vfnmsubss vfnmsubsd vfmaddsubps vfmaddsubpd vfmsubaddps "
    "vfmsubaddpd vpermil2ps vpermil2pd",                                            /* FMA4, XOP */
    "kand* kor* kxor* kxnor* knot* kmov* kshift* kunpck* kadd* ktest*",             /* AVX-512 */
    "vmread vmwrite vmcall vmlaunch vmresume vmxoff vmptrst vmptrld vmclear vmxon vmfunc invept invvpid",
    "vmrun vmmcall vmload vmsave stgi clgi skinit invlpga",                         /* SVM */
    "getsec encls enclu enclv xbegin xabort xend xtest bnd* monitorx mwaitx clzero rdpkru wrpkru",
    "extrq insertq movntss movntsd femms pf* pi2fd pi2fw pavgusb pmulhrw pswapd",   /* AMD */
    "xcrypt* xsha1 xsha256 xstore xstorerng montmul",                               /* VIA */
};
// clang-format on

struct layout { /* of the bytes, as far as the rules need it */
    unsigned opcode_at, prefixes_66, prefixes_f2f3, locks;
    bool vex, legacy_0f;
    u8 rex;
};
static struct layout layout_of(const struct sample *s)
{
    struct layout l = {0};
    for (; l.opcode_at < 14; l.opcode_at++) {
        u8 b = s->bytes[l.opcode_at];
        if (b == 0x66)
            l.prefixes_66++;
        else if (b == 0xf2 || b == 0xf3)
            l.prefixes_f2f3++;
        else if (b == 0xf0)
            l.locks++;
        else if (s->mode == CODE64 && (b & 0xf0) == 0x40) {
            l.rex = b;
            continue;
        } else if (b != 0x67 && (b & 0xe7) != 0x26 && b != 0x64 && b != 0x65)
            break;
        l.rex = 0;
    }
    const u8 *o = s->bytes + l.opcode_at;
    l.vex = (o[0] & 0xfe) == 0xc4 && (s->mode == CODE64 || o[1] >= 0xc0);
    l.legacy_0f = o[0] == 0x0f;
    return l;
}

static bool decodes_alike(const struct sample *s, const u8 *bytes)
{
    struct sample other = *s;
    return decode_insn(&other.insn, bytes, 15, s->mode, 0, &all_features) == DECODE_OK &&
           same_operation(&other);
}
/* The same bytes without any LOCK, F2 and F3, or 66 prefixes. */
static bool without_prefixes(const struct sample *s, const struct layout *l, bool lock, bool rep,
                             bool osize)
{
    u8 bytes[32] = {0};
    unsigned n = 0;
    for (unsigned i = 0; i < 16; i++) {
        u8 b = s->bytes[i];
        if (i < l->opcode_at &&
            ((lock && b == 0xf0) || (rep && (b & 0xfe) == 0xf2) || (osize && b == 0x66)))
            continue;
        bytes[n++] = b;
    }
    return decodes_alike(s, bytes);
}
static bool with_other_w(const struct sample *s, const struct layout *l)
{
    u8 bytes[16];
    memcpy(bytes, s->bytes, 16);
    if (!l->vex || bytes[l->opcode_at] != 0xc4) return false;
    bytes[l->opcode_at + 2] ^= 0x80;
    return decodes_alike(s, bytes);
}

static const char *reason_undefined_here(const struct sample *s, const struct layout *l)
{
    const char *is = s->cs_mnemonic;
    const u8 *o = s->bytes + l->opcode_at;
    const char *bare = strrchr(is, ' ') ? strrchr(is, ' ') + 1 : is;

    for (unsigned i = 0; i < ARRAY_SIZE(foreign); i++)
        if (name_matches(foreign[i], bare)) return "an extension this processor does not have";
    if (!strncmp(is, "bnd", 3)) is = bare;
    if (o[0] == 0x62) return "EVEX";
    if (o[0] == 0x8f) return "XOP";
    if (l->locks && without_prefixes(s, l, true, false, false))
        return "LOCK is not looked at closely";
    if (!strcmp(is, "swapgs")) return "64-bit mode only";
    if (l->legacy_0f &&
        (without_prefixes(s, l, true, true, false) || without_prefixes(s, l, true, true, true) ||
         without_prefixes(s, l, true, false, true)))
        return "mandatory prefixes of no row are ignored";
    if (with_other_w(s, l)) return "VEX.W is ignored where it must be 0";
    if (!strncmp(is, "vgather", 7) || !strncmp(is, "vpgather", 8))
        return "gathers: equal registers, no SIB, 16-bit addresses";
    if (o[0] == 0x8e && (o[1] >> 3 & 7) % 6 <= 1) return "MOV to CS and to no segment register";
    if (l->legacy_0f && (o[1] & 0xfc) == 0x20)
        return "control and debug registers that are not there";
    if (l->vex && (l->locks || l->prefixes_66 || l->prefixes_f2f3 || l->rex))
        return "prefixes before VEX";
    return NULL;
}

static const char *reason_undefined_there(const struct sample *s, const struct layout *l)
{
    switch (s->insn.op) {
    case OP_GF2P8MULB:
    case OP_GF2P8AFFINEQB:
    case OP_GF2P8AFFINEINVQB: return "GFNI is younger";
    case OP_AESENC:
    case OP_AESENCLAST:
    case OP_AESDEC:
    case OP_AESDECLAST:
    case OP_PCLMULQDQ: return s->insn.vl == 32 ? "VAES, VPCLMULQDQ are younger" : NULL;
    case OP_NOP: return l->legacy_0f ? "reserved hints" : NULL;
    case OP_MOV_SEG: return l->rex & 4 ? "REX.R means nothing for a segment register" : NULL;
    case OP_LFENCE:
    case OP_MFENCE:
    case OP_SFENCE: return "modrm.rm means nothing";
    case OP_VBROADCASTI128: return "missing outside of 64-bit mode";
    }
    return NULL;
}

/* NULL: Capstone is believed. */
static const char *known_reason(const struct sample *s)
{
    struct layout l = layout_of(s);
    if (s->mode == CODE16 && l.legacy_0f && (l.prefixes_66 || l.prefixes_f2f3))
        return "mandatory prefixes are not known in 16-bit mode";
    if (s->status != DECODE_OK) return reason_undefined_here(s, &l);
    if (s->cs_length == 0) return reason_undefined_there(s, &l);
    switch (s->insn.op) {
    case OP_UD: return "UD0 and UD1 have a modrm byte";
    case OP_RDPID: return "younger";
    case OP_MOVQ: return l.rex & 8 ? "REX.W hides the mandatory F3" : NULL;
    case OP_JMP:
    case OP_CALL:
    case OP_Jcc:
    case OP_RET:
    case OP_PUSH:
    case OP_MOV:
        if (l.prefixes_66 || l.rex & 8)
            return "length of immediates with REX.W, and 66 with other prefixes";
        break;
    }
    if (l.legacy_0f && l.prefixes_66 && l.opcode_at > 1 && s->bytes[l.opcode_at - 1] != 0x66 &&
        s->cs_length == s->insn.length)
        return "a prefix behind 66 hides it";
    return NULL;
}
