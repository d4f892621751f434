/*
 * A command line's words as a command's row in monitor.def wants them, and expressions.
 *
 * A '/' before a letter is no division but the next argument, a path.
 * Expressions are C's with + - * / % & | ^ ~ and brackets on 64-bit numbers; & | ^ bind least and
 * alike.
 */
#include "machine/debug/monitor_int.h"

#include "cpu/cpu.h"
#include "cpu/flags.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>

#define NESTING_MOST 64

/* --- registers --- */

static bool legacy_register(const struct vcpu *cpu, const char *name, u64 *value)
{
    static const char *const names[] = {"ax", "cx", "dx", "bx", "sp", "bp", "si", "di"};
    static const char *const segments[] = {"es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr"};
    bool wide = *name == 'r', half = *name == 'e';
    for (unsigned i = 0; i < 8; i++) {
        if ((wide || half) && !strcmp(name + 1, names[i]))
            return *value = wide ? cpu->regs[i] : (u32)cpu->regs[i], true;
        if (!strcmp(name, names[i])) return *value = (u16)cpu->regs[i], true;
        if (!strcmp(name, segments[i])) return *value = cpu->seg[i].selector, true;
        size_t n = strlen(segments[i]);
        if (!strncmp(name, segments[i], n) && !strcmp(name + n, ".base"))
            return *value = cpu->seg[i].base, true;
        if (!strncmp(name, segments[i], n) && !strcmp(name + n, ".limit"))
            return *value = cpu->seg[i].limit, true;
    }
    return false;
}

static bool find_register(const struct vcpu *cpu, const char *name, u64 *value)
{
    const struct { const char *name; u64 value; } others[] = {
        {"pc", cpu->code_size == CODE64 ? cpu->rip : (u32)(cpu->seg[CS].base + cpu->rip)},
        {"rip", cpu->rip}, {"eip", (u32)cpu->rip}, {"ip", (u16)cpu->rip},
        {"rflags", cpu_eflags(cpu)}, {"eflags", cpu_eflags(cpu)}, {"cpl", cpu->cpl},
        {"cr0", cpu->cr0}, {"cr2", cpu->cr2}, {"cr3", cpu->cr3}, {"cr4", cpu->cr4},
        {"efer", cpu->efer},
        {"gdt", cpu->gdt_base}, {"idt", cpu->idt_base}, {"icount", cpu->icount},
    };
    char *end;
    if (*name == 'r' && isdigit((unsigned char)name[1])) {
        unsigned long n = strtoul(name + 1, &end, 10);
        if (n < 16 && !*end) return *value = cpu->regs[n], true;
    }
    if (!strncmp(name, "dr", 2) && name[2] >= '0' && name[2] <= '7' && !name[3])
        return *value = cpu->dr[name[2] - '0'], true;
    for (unsigned i = 0; i < ARRAY_SIZE(others); i++)
        if (!strcmp(name, others[i].name)) return *value = others[i].value, true;
    return legacy_register(cpu, name, value);
}

/* --- expressions --- */

struct parser {
    struct monitor *m;
    const char *at;
    unsigned nesting;
    struct error *error;
};

static bool parse_level(struct parser *p, unsigned level, u64 *value);

static void skip(struct parser *p) { while (*p->at == ' ' || *p->at == '\t') p->at++; }

static bool parse_register(struct parser *p, u64 *value)
{
    char name[32];
    size_t n = 0;
    p->at++;
    while (isalnum((unsigned char)p->at[n]) || p->at[n] == '.' || p->at[n] == '_') n++;
    if (n >= sizeof name) return error_set(p->error, "unknown register");
    memcpy(name, p->at, n);
    name[n] = 0;
    p->at += n;
    if (!find_register(monitor_cpu(p->m), name, value))
        return error_set(p->error, "unknown register '$%s'", name);
    return true;
}

static bool parse_unary(struct parser *p, u64 *value);

static bool parse_signed(struct parser *p, u64 *value)
{
    char sign = *p->at++;
    if (++p->nesting == NESTING_MOST) return error_set(p->error, "too many signs");
    if (!parse_unary(p, value)) return false;
    if (sign == '-') *value = -*value;
    if (sign == '~') *value = ~*value;
    return true;
}

static bool parse_unary(struct parser *p, u64 *value)
{
    char *end;
    skip(p);
    switch (*p->at) {
    case '+': case '-': case '~': return parse_signed(p, value);
    case '$': return parse_register(p, value);
    case '(':
        p->at++;
        if (++p->nesting == NESTING_MOST) return error_set(p->error, "brackets too deep");
        if (!parse_level(p, 0, value)) return false;
        skip(p);
        if (*p->at != ')') return error_set(p->error, "')' expected");
        p->at++;
        return true;
    case '\'':
        if (!p->at[1] || p->at[2] != '\'') return error_set(p->error, "character expected");
        *value = (u8)p->at[1];
        p->at += 3;
        return true;
    case 0: return error_set(p->error, "unexpected end of expression");
    default: break;
    }
    errno = 0;
    *value = strtoull(p->at, &end, 0);
    if (!isdigit((unsigned char)*p->at) || end == p->at)
        return error_set(p->error, "invalid char '%c' in expression", *p->at);
    if (errno) return error_set(p->error, "number too large");
    p->at = end;
    return true;
}

/* The loosest first. */
static const char *const operators[] = {"&|^", "+-", "*/%"};

static u64 apply(char op, u64 left, u64 right)
{
    switch (op) {
    case '&': return left & right;
    case '|': return left | right;
    case '^': return left ^ right;
    case '+': return left + right;
    case '-': return left - right;
    case '*': return left * right;
    case '/': return left / right;
    default: return left % right;
    }
}

static bool parse_level(struct parser *p, unsigned level, u64 *value)
{
    if (level == ARRAY_SIZE(operators)) return parse_unary(p, value);
    if (!parse_level(p, level + 1, value)) return false;
    for (;;) {
        u64 right;
        skip(p);
        char op = *p->at;
        if (!op || !strchr(operators[level], op)) return true;
        if (op == '/' && (isalpha((unsigned char)p->at[1]) || p->at[1] == '/')) return true;
        p->at++;
        if (!parse_level(p, level + 1, &right)) return false;
        if (!right && (op == '/' || op == '%')) return error_set(p->error, "division by zero");
        *value = apply(op, *value, right);
    }
}

bool expression_parse(struct monitor *m, const char **text, u64 *value, struct error *error)
{
    struct parser p = {m, *text, 0, error};
    bool good = parse_level(&p, 0, value);
    skip(&p);
    *text = p.at;
    return good;
}

/* --- one argument --- */

static void skip_blanks(char **at) { *at += strspn(*at, " \t"); }

/* A word, perhaps in quotes, cut out of the line. */
static bool take_word(char **at, const char **word, struct error *error)
{
    char *from = *at, *to = *at;
    bool quoted = *from == '"';
    if (quoted) from++;
    *word = to;
    while (*from && (quoted ? *from != '"' : *from != ' ' && *from != '\t')) {
        if (quoted && *from == '\\' && from[1]) from++;
        *to++ = *from++;
    }
    if (quoted && *from != '"') return error_set(error, "unterminated string");
    bool more = *from;
    *to = 0;
    *at = from + more;
    return true;
}

static bool take_format(char **at, struct format *format, struct error *error)
{
    char *p = *at;
    unsigned long count = 1;
    if (*p != '/') return true;
    p++;
    if (isdigit((unsigned char)*p)) {
        errno = 0;
        count = strtoul(p, &p, 10);
        if (errno || count > 1u << 20)
            return error_set(error, "at most %u things at once", 1u << 20);
    }
    bool letter_given = false, size_given = false;
    for (; *p && *p != ' ' && *p != '\t'; p++) {
        static const char sizes[] = "bhwg";
        if (strchr("xduoci", *p)) format->letter = *p, letter_given = true;
        else if (strchr(sizes, *p))
            format->size = (u8)(1u << (strchr(sizes, *p) - sizes)), size_given = true;
        else return error_set(error, "invalid char in format: '%c'", *p);
    }
    if (letter_given && format->letter == 'c' && !size_given) format->size = 1;
    format->count = (u32)count;
    *at = p;
    return true;
}

static bool take_size(char **at, u64 *bytes, struct error *error)
{
    const char *word;
    if (!take_word(at, &word, error)) return false;
    return parse_size(word, MIB(1), bytes) || error_set(error, "invalid size '%s'", word);
}

static bool take_typed(struct monitor *m, char type, char **at, struct argument *a,
                       struct error *error)
{
    const char *text = *at;
    switch (type) {
    case 'l':
    case 'i':
        if (!expression_parse(m, &text, &a->number, error)) return false;
        *at += text - *at;
        if (type == 'i' && a->number > UINT32_MAX && a->number < (u64)INT64_MIN + (u64)INT32_MAX)
            return error_set(error, "integer is for 32-bit values");
        return true;
    case 'M': return take_size(at, &a->number, error);
    case 'b': {
        bool on;
        if (!take_word(at, &a->text, error)) return false;
        if (!parse_on_off(a->text, &on)) return error_set(error, "Expected 'on' or 'off'");
        a->number = on;
        return true;
    }
    case 'S':
        a->text = text;
        *at += strlen(text);
        return true;
    default: return take_word(at, &a->text, error);
    }
}

/* --- a row's arguments --- */

/* NAME:TYPE at *SPEC; moves on to the next. */
static bool next_spec(const char **spec, char *name, size_t size, char type[8])
{
    const char *p = *spec, *colon = strchr(p, ':');
    if (!*p || !colon) return false;
    size_t n = (size_t)(colon - p) < size - 1 ? (size_t)(colon - p) : size - 1;
    memcpy(name, p, n);
    name[n] = 0;
    size_t length = strcspn(colon + 1, ",");
    snprintf(type, 8, "%.*s", (int)length, colon + 1);
    *spec = colon + 1 + length + (colon[1 + length] == ',');
    return true;
}

/* Flags may come in any order, also behind other arguments: "screendump file -f ppm". */
static bool take_flag(const char *spec, char **at, struct argument *a, bool *taken,
                      struct error *error)
{
    char name[32], type[8];
    *taken = false;
    for (unsigned i = 0; next_spec(&spec, name, sizeof name, type); i++) {
        if (type[0] != '-' || (*at)[0] != '-' || (*at)[1] != type[1] ||
            ((*at)[2] && (*at)[2] != ' '))
            continue;
        *at += 2;
        skip_blanks(at);
        a[i].given = *taken = true;
        return type[2] != 's' || take_word(at, &a[i].text, error);
    }
    return true;
}

static bool take_flags(const char *spec, char **at, struct argument *a, struct error *error)
{
    bool taken;
    do {
        skip_blanks(at);
        if (!take_flag(spec, at, a, &taken, error)) return false;
    } while (taken);
    return true;
}

bool arguments_parse(struct monitor *m, const char *spec, char *text, struct argument *a,
                     struct error *error)
{
    const char *rest = spec;
    char name[32], type[8], *at = text;
    for (unsigned i = 0; i < ARGUMENTS; i++) a[i] = (struct argument){.format = m->format};
    for (unsigned i = 0; i < ARGUMENTS && next_spec(&rest, name, sizeof name, type); i++) {
        if (type[0] == '/') {
            if (!take_format(&at, &a[i].format, error)) return false;
            continue;
        }
        if (!take_flags(spec, &at, a, error)) return false;
        if (type[0] == '-') continue;
        if (!*at) {
            if (type[1] == '?') continue;
            return error_set(error, "%s is missing", name);
        }
        a[i].given = true;
        if (!take_typed(m, type[0], &at, &a[i], error)) return false;
    }
    if (!take_flags(spec, &at, a, error)) return false;
    return !*at || error_set(error, "extraneous characters at the end of line");
}

void arguments_describe(const char *spec, char *to, size_t size)
{
    char name[32], type[8];
    size_t n = 0;
    *to = 0;
    while (next_spec(&spec, name, sizeof name, type) && n < size) {
        const char *form = type[0] == '/' ? " /%s" : type[0] == '-' ? " [-%s]"
                           : type[1] == '?' ? " [%s]" : " %s";
        char flag[40];
        snprintf(flag, sizeof flag, "%c%s%s", type[1], type[2] ? " " : "", type[2] ? name : "");
        n += (size_t)snprintf(to + n, size - n, form, type[0] == '-' ? flag : name);
    }
}

char arguments_type(const char *spec, unsigned index)
{
    char name[32], type[8];
    while (next_spec(&spec, name, sizeof name, type))
        if (type[0] != '-' && type[0] != '/' && !index--) return type[0];
    return 0;
}
