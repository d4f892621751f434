/*
 * A window by SDL2: shows the screen, hears keys by position (so that the guest applies its own
 * layout) and the mouse. Ctrl-Alt-G takes or lets go of the pointer, Ctrl-Alt-F fills the screen.
 */
#include "machine/display_host.h"
#include "machine/error.h"
#include "machine/machine.h"

#include <SDL2/SDL.h>
#include <stdio.h>
#include <stdlib.h>

/* Keys taken a frame: more at once, after a stall, would not fit into the keyboard's 16 bytes and
 * be lost. */
#define KEYS_A_FRAME 4

struct sdl_window {
    struct window base;
    struct machine *machine;
    SDL_Window *window;
    SDL_Renderer *renderer;
    SDL_Texture *texture;
    unsigned width, height;
    bool grabbed, full;
    u8 held[SDL_NUM_SCANCODES]; /* pressed in the guest: released when we lose the keyboard */
};

/* SDL's scancodes are USB usages; the guest's are set 1. */
static const u32 set1[SDL_NUM_SCANCODES] = {
#define S(name, code) [SDL_SCANCODE_##name] = code
    S(ESCAPE, 0x01), S(1, 0x02), S(2, 0x03), S(3, 0x04), S(4, 0x05), S(5, 0x06), S(6, 0x07),
    S(7, 0x08), S(8, 0x09), S(9, 0x0a), S(0, 0x0b), S(MINUS, 0x0c), S(EQUALS, 0x0d),
    S(BACKSPACE, 0x0e), S(TAB, 0x0f), S(Q, 0x10), S(W, 0x11), S(E, 0x12), S(R, 0x13), S(T, 0x14),
    S(Y, 0x15), S(U, 0x16), S(I, 0x17), S(O, 0x18), S(P, 0x19), S(LEFTBRACKET, 0x1a),
    S(RIGHTBRACKET, 0x1b), S(RETURN, 0x1c), S(LCTRL, 0x1d), S(A, 0x1e), S(S, 0x1f), S(D, 0x20),
    S(F, 0x21), S(G, 0x22), S(H, 0x23), S(J, 0x24), S(K, 0x25), S(L, 0x26), S(SEMICOLON, 0x27),
    S(APOSTROPHE, 0x28), S(GRAVE, 0x29), S(LSHIFT, 0x2a), S(BACKSLASH, 0x2b), S(Z, 0x2c),
    S(X, 0x2d), S(C, 0x2e), S(V, 0x2f), S(B, 0x30), S(N, 0x31), S(M, 0x32), S(COMMA, 0x33),
    S(PERIOD, 0x34), S(SLASH, 0x35), S(RSHIFT, 0x36), S(KP_MULTIPLY, 0x37), S(LALT, 0x38),
    S(SPACE, 0x39), S(CAPSLOCK, 0x3a), S(F1, 0x3b), S(F2, 0x3c), S(F3, 0x3d), S(F4, 0x3e),
    S(F5, 0x3f), S(F6, 0x40), S(F7, 0x41), S(F8, 0x42), S(F9, 0x43), S(F10, 0x44),
    S(NUMLOCKCLEAR, 0x45), S(SCROLLLOCK, 0x46), S(KP_7, 0x47), S(KP_8, 0x48), S(KP_9, 0x49),
    S(KP_MINUS, 0x4a), S(KP_4, 0x4b), S(KP_5, 0x4c), S(KP_6, 0x4d), S(KP_PLUS, 0x4e), S(KP_1, 0x4f),
    S(KP_2, 0x50), S(KP_3, 0x51), S(KP_0, 0x52), S(KP_PERIOD, 0x53), S(NONUSBACKSLASH, 0x56),
    S(F11, 0x57), S(F12, 0x58), S(INTERNATIONAL1, 0x73), S(INTERNATIONAL2, 0x70),
    S(INTERNATIONAL3, 0x7d), S(INTERNATIONAL4, 0x79), S(INTERNATIONAL5, 0x7b), S(KP_ENTER, 0xe01c),
    S(RCTRL, 0xe01d), S(KP_DIVIDE, 0xe035), S(PRINTSCREEN, 0xe037), S(RALT, 0xe038),
    S(HOME, 0xe047), S(UP, 0xe048), S(PAGEUP, 0xe049), S(LEFT, 0xe04b), S(RIGHT, 0xe04d),
    S(END, 0xe04f), S(DOWN, 0xe050), S(PAGEDOWN, 0xe051), S(INSERT, 0xe052), S(DELETE, 0xe053),
    S(LGUI, 0xe05b), S(RGUI, 0xe05c), S(APPLICATION, 0xe05d), S(PAUSE, 0xe11d45),
#undef S
};

static struct sdl_window *of(struct window *window)
{
    return container_of(window, struct sdl_window, base);
}

static void set_title(struct sdl_window *w)
{
    char title[256]; /* ASCII of ours: SDL hands the X server nothing else in the C locale */
    const char *name = w->machine->options->name;
    snprintf(title, sizeof title, "Lyrebird%s%s%s", name ? " - " : "", name ? name : "",
             w->grabbed ? " - Ctrl-Alt-G lets the pointer go" : "");
    SDL_SetWindowTitle(w->window, title);
}

static void grab(struct sdl_window *w, bool on)
{
    w->grabbed = on;
    SDL_SetRelativeMouseMode(on ? SDL_TRUE : SDL_FALSE);
    SDL_SetWindowGrab(w->window, on ? SDL_TRUE : SDL_FALSE);
    set_title(w);
}

static void release_keys(struct sdl_window *w)
{
    for (unsigned i = 0; i < SDL_NUM_SCANCODES; i++)
        if (w->held[i]) {
            w->held[i] = 0;
            display_key(w->machine->display, set1[i], false);
        }
}

static void full_screen(struct sdl_window *w, bool on)
{
    w->full = on;
    SDL_SetWindowFullscreen(w->window, on ? SDL_WINDOW_FULLSCREEN_DESKTOP : 0);
}

static void key_event(struct sdl_window *w, const SDL_KeyboardEvent *key)
{
    bool down = key->state == SDL_PRESSED,
         hot = (key->keysym.mod & KMOD_CTRL) && (key->keysym.mod & KMOD_ALT);
    SDL_Scancode code = key->keysym.scancode;
    if (down && hot && (code == SDL_SCANCODE_G || code == SDL_SCANCODE_F)) {
        release_keys(w);
        if (code == SDL_SCANCODE_G) grab(w, !w->grabbed);
        else full_screen(w, !w->full);
        return;
    }
    if (code >= SDL_NUM_SCANCODES || !set1[code] || (!down && !w->held[code])) return;
    w->held[code] = down;
    display_key(w->machine->display, set1[code], down);
}

static unsigned buttons(u32 state)
{
    return (state & SDL_BUTTON_LMASK ? 1 : 0) | (state & SDL_BUTTON_RMASK ? 2 : 0) |
           (state & SDL_BUTTON_MMASK ? 4 : 0);
}

static void paint(struct sdl_window *w)
{
    if (!w->texture) return;
    SDL_RenderClear(w->renderer);
    SDL_RenderCopy(w->renderer, w->texture, NULL, NULL);
    SDL_RenderPresent(w->renderer);
}

static void sdl_events(struct window *window)
{
    struct sdl_window *w = of(window);
    SDL_Event e;
    for (unsigned keys = 0; keys < KEYS_A_FRAME && SDL_PollEvent(&e);) {
        switch (e.type) {
        case SDL_QUIT: machine_quit(w->machine, 0, "host-ui"); break;
        case SDL_KEYDOWN:
        case SDL_KEYUP:
            key_event(w, &e.key);
            keys++;
            break;
        case SDL_MOUSEMOTION:
            if (w->grabbed)
                display_mouse(w->machine->display, e.motion.xrel, e.motion.yrel, 0,
                              buttons(e.motion.state));
            break;
        case SDL_MOUSEBUTTONDOWN:
            if (!w->grabbed) {
                grab(w, true);
                break;
            }
            /* fall through */
        case SDL_MOUSEBUTTONUP:
            if (w->grabbed)
                display_mouse(w->machine->display, 0, 0, 0, buttons(SDL_GetMouseState(NULL, NULL)));
            break;
        case SDL_MOUSEWHEEL:
            if (w->grabbed)
                display_mouse(w->machine->display, 0, 0, -e.wheel.y,
                              buttons(SDL_GetMouseState(NULL, NULL)));
            break;
        case SDL_WINDOWEVENT:
            if (e.window.event == SDL_WINDOWEVENT_FOCUS_LOST) {
                release_keys(w);
                if (w->grabbed) grab(w, false);
            } else if (e.window.event == SDL_WINDOWEVENT_EXPOSED ||
                       e.window.event == SDL_WINDOWEVENT_SIZE_CHANGED) {
                paint(w); /* the guest's picture may stand still for long */
            }
            break;
        case SDL_RENDER_TARGETS_RESET:
        case SDL_RENDER_DEVICE_RESET: w->width = 0; break; /* the texture is lost */
        default: break;
        }
    }
}

static void resize(struct sdl_window *w, unsigned width, unsigned height)
{
    if (w->texture) SDL_DestroyTexture(w->texture);
    w->texture = SDL_CreateTexture(w->renderer, SDL_PIXELFORMAT_RGB888, SDL_TEXTUREACCESS_STREAMING,
                                   (int)width, (int)height);
    w->width = width;
    w->height = height;
    SDL_RenderSetLogicalSize(w->renderer, (int)width, (int)height);
    if (!w->full) SDL_SetWindowSize(w->window, (int)width, (int)height);
}

static void sdl_show(struct window *window, const u32 *pixels, unsigned width, unsigned height,
                     unsigned stride)
{
    struct sdl_window *w = of(window);
    if (width != w->width || height != w->height) resize(w, width, height);
    if (!w->texture) return;
    SDL_UpdateTexture(w->texture, NULL, pixels, (int)stride);
    paint(w);
}

static void sdl_close(struct window *window)
{
    struct sdl_window *w = of(window);
    if (w->texture) SDL_DestroyTexture(w->texture);
    if (w->renderer) SDL_DestroyRenderer(w->renderer);
    if (w->window) SDL_DestroyWindow(w->window);
    SDL_Quit();
    free(w);
}

struct window *window_open_sdl2(struct machine *machine, struct error *error)
{
    struct sdl_window *w = calloc(1, sizeof *w);
    if (!w) abort();
    w->base = (struct window){sdl_show, sdl_events, sdl_close};
    w->machine = machine;
    SDL_SetHint(SDL_HINT_NO_SIGNAL_HANDLERS, "1");
    if (SDL_Init(SDL_INIT_VIDEO)) {
        error_set(error, "-display sdl: %s (-display none or -nographic run without a window)",
                  SDL_GetError());
        free(w);
        return NULL;
    }
    /* Without a screen SDL draws where nobody looks: only for who has asked for it. */
    if (!strcmp(SDL_GetCurrentVideoDriver(), "offscreen") && !getenv("SDL_VIDEODRIVER")) {
        error_set(error, "-display sdl: no screen to open a window on "
                  "(-display none or -nographic run without one)");
        SDL_Quit();
        free(w);
        return NULL;
    }
    w->window = SDL_CreateWindow("Lyrebird", SDL_WINDOWPOS_UNDEFINED, SDL_WINDOWPOS_UNDEFINED, 720,
                                 400, SDL_WINDOW_RESIZABLE);
    if (w->window) w->renderer = SDL_CreateRenderer(w->window, -1, 0);
    if (!w->renderer) {
        error_set(error, "-display sdl: %s", SDL_GetError());
        sdl_close(&w->base);
        return NULL;
    }
    if (machine->options->full_screen) full_screen(w, true);
    set_title(w);
    return &w->base;
}
