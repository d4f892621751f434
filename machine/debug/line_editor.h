/*
 * A line typed on a terminal that is no more than bytes in and bytes out (a socket, the shared
 * console, a pty):
 * editing, history, completion.
 *
 * Keys are Emacs's, as in shells: Ctrl-A E B F D H K U W T L P N, arrows, Home, End, Delete, Alt-B
 * F D, Tab.
 * Not modelled: lines wider than the terminal, searching in the history.
 */
#ifndef MACHINE_DEBUG_LINE_EDITOR_H
#define MACHINE_DEBUG_LINE_EDITOR_H

#include "machine/types.h"

#define LINE_SIZE 1024u
#define LINE_HISTORY 100u
#define LINE_CHOICES 128u

struct line_choices {
    char text[LINE_CHOICES][64];
    unsigned count;
};

struct line_editor {
    /* set by the owner */
    const char *prompt;
    void *opaque;
    void (*write)(void *opaque, const char *bytes, size_t n);
    /* Words that LINE (up to the cursor) may go on with; the last word is what they begin with. */
    void (*complete)(void *opaque, const char *line, struct line_choices *choices);
    /* the editor's */
    char line[LINE_SIZE];       /* always ends with a zero */
    unsigned length, cursor;
    char kept[LINE_SIZE];       /* what was typed before the history was looked at */
    char *history[LINE_HISTORY];
    unsigned history_count, history_at; /* at == count: the line being typed */
    u8 state, last;
    unsigned parameter;
};

/* Takes a byte. True when a line is complete: it lies in `line`; line_begin then starts the next
 * one. */
bool line_byte(struct line_editor *editor, u8 byte);
void line_begin(struct line_editor *editor);  /* empty line, prompt */
void line_redraw(struct line_editor *editor); /* prompt and what is typed so far */
void line_remember(struct line_editor *editor, const char *line);
void line_choice(struct line_choices *choices, const char *prefix, const char *word);

#endif
