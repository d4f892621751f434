/* Key names to scancodes. */
#include "machine/display_host.h"

static const struct { const char *name; u32 code; } keys[] = {
#define KEY(name, code) {name, code},
#include "machine/keys.def"
#undef KEY
};

unsigned display_key_codes(const char *names, u32 *codes, unsigned most)
{
    unsigned count = 0;
    for (const char *p = names; *p;) {
        size_t n = strcspn(p, "-");
        unsigned i = 0;
        while (i < ARRAY_SIZE(keys) && (strlen(keys[i].name) != n || memcmp(keys[i].name, p, n)))
            i++;
        if (i == ARRAY_SIZE(keys) || count == most) return 0;
        codes[count++] = keys[i].code;
        p += n + (p[n] == '-');
    }
    return count;
}

const char *display_key_name(unsigned index)
{
    return index < ARRAY_SIZE(keys) ? keys[index].name : NULL;
}
u32 display_key_code(unsigned index) { return index < ARRAY_SIZE(keys) ? keys[index].code : 0; }
