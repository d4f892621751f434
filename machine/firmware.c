/* Finds and loads firmware and other whole files. */
#include "machine/firmware.h"

#include "config.h" /* CONFIG_ROM_DIRS */
#include "machine/options.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static bool in_folders(const char *folders, const char *name, char *path, size_t size)
{
    for (const char *p = folders; p && *p;) {
        size_t n = strcspn(p, ":");
        int length = snprintf(path, size, "%.*s/%s", (int)n, p, name);
        if (length > 0 && (size_t)length < size && !access(path, R_OK)) return true;
        p += n + (p[n] == ':');
    }
    return false;
}

bool firmware_find(const struct options *options, const char *name, char *path, size_t size,
                   struct error *error)
{
    if (!access(name, R_OK) && (size_t)snprintf(path, size, "%s", name) < size) return true;
    if (in_folders(options->rom_path, name, path, size) ||
        in_folders(CONFIG_ROM_DIRS, name, path, size) ||
        in_folders(CONFIG_ROM_SOURCE, name, path, size))
        return true;
    return error_set(error, "firmware %s: not found in %s%s%s (-L DIR names another folder)", name,
                     options->rom_path ? options->rom_path : "", options->rom_path ? ":" : "",
                     CONFIG_ROM_DIRS);
}

u8 *file_load(const char *path, u64 most, u64 *size, const char *what, struct error *error)
{
    struct stat st;
    FILE *file = fopen(path, "rb");
    if (!file)
        return error_set(error, "could not open %s %s: %s", what, path, strerror(errno)), NULL;
    u8 *bytes = NULL;
    if (fstat(fileno(file), &st) || S_ISDIR(st.st_mode)) {
        error_set(error, "%s %s: not a file", what, path);
    } else if (!st.st_size) {
        error_set(error, "%s %s: file is empty", what, path);
    } else if ((u64)st.st_size > most) {
        error_set(error, "%s %s: %" PRIu64 " bytes, at most %" PRIu64 " fit", what, path,
                  (u64)st.st_size, most);
    } else if (!(bytes = malloc((size_t)st.st_size))) {
        error_set(error, "%s %s: out of memory", what, path);
    } else if (fread(bytes, 1, (size_t)st.st_size, file) != (size_t)st.st_size) {
        error_set(error, "%s %s: could not be read whole", what, path);
        free(bytes);
        bytes = NULL;
    } else {
        *size = (u64)st.st_size;
    }
    fclose(file);
    return bytes;
}
