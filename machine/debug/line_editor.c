/* The line editor; see line_editor.h. Terminal sequences are ECMA-48's, which every terminal
 * has. */
#include "machine/debug/line_editor.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

enum { STATE_PLAIN, STATE_ESCAPE, STATE_CSI, STATE_SS3 };
#define CTRL(c) ((c) & 0x1f)

static void put(struct line_editor *e, const char *text)
{
    e->write(e->opaque, text, strlen(text));
}

/* A further byte of a UTF-8 character. */
static bool continues(char c) { return ((u8)c & 0xc0) == 0x80; }

static unsigned columns(const char *text, unsigned n)
{
    unsigned count = 0;
    for (unsigned i = 0; i < n; i++) count += !continues(text[i]);
    return count;
}

/* Moves the terminal's cursor COUNT columns to the left. */
static void back(struct line_editor *e, unsigned count)
{
    char text[16];
    if (!count) return;
    snprintf(text, sizeof text, "\x1b[%uD", count);
    put(e, text);
}

/* Shows the line from the cursor on, and puts the terminal's cursor back. */
static void show_rest(struct line_editor *e)
{
    e->write(e->opaque, e->line + e->cursor, e->length - e->cursor);
    put(e, "\x1b[K");
    back(e, columns(e->line + e->cursor, e->length - e->cursor));
}

static void to_cursor(struct line_editor *e, unsigned cursor)
{
    if (cursor < e->cursor) back(e, columns(e->line + cursor, e->cursor - cursor));
    else e->write(e->opaque, e->line + e->cursor, cursor - e->cursor);
    e->cursor = cursor;
}

static unsigned left_of(const struct line_editor *e, unsigned at)
{
    while (at && continues(e->line[--at])) {}
    return at;
}

static unsigned right_of(const struct line_editor *e, unsigned at)
{
    if (at < e->length) at++;
    while (at < e->length && continues(e->line[at])) at++;
    return at;
}

static unsigned word_left(const struct line_editor *e)
{
    unsigned at = e->cursor;
    while (at && e->line[at - 1] == ' ') at--;
    while (at && e->line[at - 1] != ' ') at--;
    return at;
}

static unsigned word_right(const struct line_editor *e)
{
    unsigned at = e->cursor;
    while (at < e->length && e->line[at] == ' ') at++;
    while (at < e->length && e->line[at] != ' ') at++;
    return at;
}

/* Takes [from, to) out; the cursor ends up at FROM. */
static void cut(struct line_editor *e, unsigned from, unsigned to)
{
    if (from == to) return;
    to_cursor(e, from);
    memmove(e->line + from, e->line + to, e->length - to + 1);
    e->length -= to - from;
    if (from == e->length) put(e, "\x1b[K");
    else show_rest(e);
}

static void insert(struct line_editor *e, const char *text, unsigned n)
{
    if (e->length + n >= LINE_SIZE) return;
    memmove(e->line + e->cursor + n, e->line + e->cursor, e->length - e->cursor + 1);
    memcpy(e->line + e->cursor, text, n);
    e->length += n;
    e->cursor += n;
    e->write(e->opaque, text, n);
    if (e->cursor < e->length) show_rest(e);
}

static void replace(struct line_editor *e, const char *text)
{
    to_cursor(e, 0);
    snprintf(e->line, LINE_SIZE, "%s", text);
    e->length = (unsigned)strlen(e->line);
    put(e, e->line);
    put(e, "\x1b[K");
    e->cursor = e->length;
}

static void swap_letters(struct line_editor *e)
{
    unsigned at = e->cursor < e->length ? e->cursor : left_of(e, e->cursor);
    if (!at || e->length < 2) return;
    unsigned from = left_of(e, at), to = right_of(e, at);
    char first[8], second[8];
    if (at - from >= sizeof first || to - at >= sizeof second) return;
    memcpy(first, e->line + from, at - from);
    memcpy(second, e->line + at, to - at);
    to_cursor(e, from);
    memcpy(e->line + from, second, to - at);
    memcpy(e->line + from + (to - at), first, at - from);
    show_rest(e);
    to_cursor(e, to);
}

/* --- history --- */

void line_remember(struct line_editor *e, const char *line)
{
    if (!*line || (e->history_count && !strcmp(e->history[e->history_count - 1], line))) return;
    char *copy = strdup(line);
    if (!copy) return;
    if (e->history_count == LINE_HISTORY) {
        free(e->history[0]);
        memmove(e->history, e->history + 1, --e->history_count * sizeof e->history[0]);
    }
    e->history[e->history_count++] = copy;
}

static void look_back(struct line_editor *e)
{
    if (!e->history_at) return;
    if (e->history_at == e->history_count) memcpy(e->kept, e->line, LINE_SIZE);
    replace(e, e->history[--e->history_at]);
}

static void look_ahead(struct line_editor *e)
{
    if (e->history_at >= e->history_count) return;
    e->history_at++;
    replace(e, e->history_at == e->history_count ? e->kept : e->history[e->history_at]);
}

/* --- completion --- */

void line_choice(struct line_choices *choices, const char *prefix, const char *word)
{
    if (strncmp(prefix, word, strlen(prefix)) || choices->count == LINE_CHOICES) return;
    for (unsigned i = 0; i < choices->count; i++)
        if (!strcmp(choices->text[i], word)) return;
    snprintf(choices->text[choices->count++], sizeof choices->text[0], "%s", word);
}

static unsigned common_length(const struct line_choices *choices)
{
    unsigned n = (unsigned)strlen(choices->text[0]);
    for (unsigned i = 1; i < choices->count; i++) {
        unsigned k = 0;
        while (k < n && choices->text[i][k] == choices->text[0][k]) k++;
        n = k;
    }
    return n;
}

static int by_name(const void *a, const void *b) { return strcmp(a, b); }

static void list_choices(struct line_editor *e, struct line_choices *choices)
{
    char cell[32];
    qsort(choices->text, choices->count, sizeof choices->text[0], by_name);
    put(e, "\r\n");
    for (unsigned i = 0; i < choices->count; i++) {
        snprintf(cell, sizeof cell, "%-18.30s ", choices->text[i]);
        put(e, cell);
        if (i % 4 == 3 || i + 1 == choices->count) put(e, "\r\n");
    }
    line_redraw(e);
}

static void complete(struct line_editor *e)
{
    char head[LINE_SIZE];
    if (!e->complete) return;
    struct line_choices *choices = calloc(1, sizeof *choices);
    if (!choices) return;
    memcpy(head, e->line, e->cursor);
    head[e->cursor] = 0;
    e->complete(e->opaque, head, choices);
    const char *space = strrchr(head, ' ');
    unsigned typed = (unsigned)strlen(space ? space + 1 : head);
    if (choices->count) {
        unsigned common = common_length(choices);
        if (common > typed) insert(e, choices->text[0] + typed, common - typed);
        if (choices->count == 1) insert(e, " ", 1);
        else if (common <= typed) list_choices(e, choices);
    }
    free(choices);
}

/* --- keys --- */

static void escape_key(struct line_editor *e, u8 c)
{
    e->state = STATE_PLAIN;
    switch (c) {
    case '[': e->state = STATE_CSI, e->parameter = 0; break;
    case 'O': e->state = STATE_SS3; break;
    case 'b': to_cursor(e, word_left(e)); break;
    case 'f': to_cursor(e, word_right(e)); break;
    case 'd': cut(e, e->cursor, word_right(e)); break;
    default: break;
    }
}

static void sequence_key(struct line_editor *e, u8 c)
{
    if (isdigit(c) && e->state == STATE_CSI) {
        e->parameter = e->parameter < 1000 ? e->parameter * 10 + c - '0' : e->parameter;
        return;
    }
    if (c == ';') { e->parameter = 0; return; }
    e->state = STATE_PLAIN;
    if (c == '~')
        c = e->parameter == 1 || e->parameter == 7 ? 'H' :
            e->parameter == 4 || e->parameter == 8 ? 'F' : e->parameter == 3 ? 'X' : 0;
    switch (c) {
    case 'A': look_back(e); break;
    case 'B': look_ahead(e); break;
    case 'C': to_cursor(e, right_of(e, e->cursor)); break;
    case 'D': to_cursor(e, left_of(e, e->cursor)); break;
    case 'H': to_cursor(e, 0); break;
    case 'F': to_cursor(e, e->length); break;
    case 'X': cut(e, e->cursor, right_of(e, e->cursor)); break;
    default: break;
    }
}

static void control_key(struct line_editor *e, u8 c)
{
    switch (c) {
    case CTRL('A'): to_cursor(e, 0); break;
    case CTRL('E'): to_cursor(e, e->length); break;
    case CTRL('B'): to_cursor(e, left_of(e, e->cursor)); break;
    case CTRL('F'): to_cursor(e, right_of(e, e->cursor)); break;
    case CTRL('D'): cut(e, e->cursor, right_of(e, e->cursor)); break;
    case CTRL('H'):
    case 127: cut(e, left_of(e, e->cursor), e->cursor); break;
    case CTRL('I'): complete(e); break;
    case CTRL('K'): cut(e, e->cursor, e->length); break;
    case CTRL('U'): cut(e, 0, e->cursor); break;
    case CTRL('W'): cut(e, word_left(e), e->cursor); break;
    case CTRL('T'): swap_letters(e); break;
    case CTRL('P'): look_back(e); break;
    case CTRL('N'): look_ahead(e); break;
    case CTRL('L'): put(e, "\x1b[H\x1b[2J"), line_redraw(e); break;
    case CTRL('C'): put(e, "^C\r\n"), line_begin(e); break;
    case CTRL('['): e->state = STATE_ESCAPE; break;
    default: break;
    }
}

bool line_byte(struct line_editor *e, u8 c)
{
    u8 last = e->last;
    e->last = c;
    if (e->state == STATE_ESCAPE) {
        escape_key(e, c);
    } else if (e->state != STATE_PLAIN) {
        sequence_key(e, c);
    } else if (c == '\r' || c == '\n') {
        if (c == '\n' && last == '\r') return false;
        put(e, "\r\n");
        return true;
    } else if (c < 32 || c == 127) {
        control_key(e, c);
    } else {
        insert(e, (const char *)&c, 1);
    }
    return false;
}

void line_redraw(struct line_editor *e)
{
    put(e, "\r");
    put(e, e->prompt);
    put(e, e->line);
    if (e->cursor < e->length)
        put(e, "\x1b[K"), back(e, columns(e->line + e->cursor, e->length - e->cursor));
}

void line_begin(struct line_editor *e)
{
    e->line[0] = 0;
    e->length = e->cursor = 0;
    e->history_at = e->history_count;
    e->state = STATE_PLAIN;
    put(e, e->prompt);
}
