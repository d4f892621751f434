/* Drives on raw images: requests, -snapshot, limits, locks, policies for trouble. */
#define _GNU_SOURCE /* mkdtemp, truncate */
#include "machine/disk/image.h"
#include "machine/drive_host.h"
#include "machine/error.h"
#include "machine/host/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define SECTORS 2048u
#define SIZE (SECTORS * 512u)

struct disk_test {
    char folder[64], path[96];
    struct loop *loop;
    struct image *image;
    struct drive *drive;
    struct error error;
    unsigned stops;
    int stop_error;
    bool stop_is_write;
};

static u8 pattern(u64 at) { return (u8)(at >> 9 ^ at ^ 0x5a); }

static void no_lock(void *opaque) { (void)opaque; }

static int begin(void **state)
{
    struct disk_test *t = calloc(1, sizeof *t);
    assert_non_null(t);
    strcpy(t->folder, "/tmp/lyrebird-disk-XXXXXX");
    assert_non_null(mkdtemp(t->folder));
    snprintf(t->path, sizeof t->path, "%s/disk.img", t->folder);
    int fd = open(t->path, O_RDWR | O_CREAT | O_EXCL, 0600);
    u8 *bytes = malloc(SIZE);
    assert_non_null(bytes);
    for (u64 i = 0; i < SIZE; i++) bytes[i] = pattern(i);
    assert_true(fd >= 0 && write(fd, bytes, SIZE) == (ssize_t)SIZE);
    free(bytes);
    close(fd);
    t->loop = loop_new();
    loop_set_lock(t->loop, no_lock, no_lock, NULL);
    *state = t;
    return 0;
}

static int end(void **state)
{
    struct disk_test *t = *state;
    if (t->drive) drive_free(t->drive);
    loop_free(t->loop);
    unlink(t->path);
    assert_int_equal(rmdir(t->folder), 0); /* nothing else was left there */
    free(t);
    return 0;
}

static void stop(void *opaque, struct drive *drive, int error, bool is_write)
{
    struct disk_test *t = opaque;
    assert_ptr_equal(drive, t->drive);
    t->stops++;
    t->stop_error = error;
    t->stop_is_write = is_write;
}

static void open_drive(struct disk_test *t, bool read_only, bool snapshot, enum drive_cache cache,
                       enum drive_trouble write_trouble)
{
    struct drive_settings settings = {.id = "disk0", .serial = "SERIAL", .cache = cache,
                                      .on_write_error = write_trouble, .stop = stop, .opaque = t};
    t->image = image_open(t->path, "raw", read_only, snapshot, &t->error);
    if (!t->image) fail_msg("%s", t->error.text);
    t->drive = drive_new(t->image, &settings, t->loop);
}

static void close_drive(struct disk_test *t)
{
    drive_free(t->drive);
    t->drive = NULL;
}

struct waiting {
    struct drive_request request;
    struct drive_segment segment[3];
    bool done;
    int error;
};

static void finished(struct drive_request *request, int error)
{
    struct waiting *w = request->opaque;
    assert_false(w->done);
    w->done = true;
    w->error = error;
}

static void submit(struct disk_test *t, struct waiting *w, enum drive_op op, u64 offset,
                   void *bytes, u64 length)
{
    *w = (struct waiting){.segment = {{bytes, length}}};
    w->request = (struct drive_request){.op = op, .offset = offset, .length = length,
                                        .segments = w->segment,
                                        .segment_count = 1, .done = finished, .opaque = w};
    drive_submit(t->drive, &w->request);
    assert_false(w->done); /* never from inside drive_submit */
}

static int finish(struct disk_test *t, struct waiting *w)
{
    while (!w->done) {
        loop_turn(t->loop, 10000000);
        drive_complete(t->drive);
    }
    return w->error;
}

static int transfer(struct disk_test *t, enum drive_op op, u64 offset, void *bytes, u64 length)
{
    struct waiting w;
    submit(t, &w, op, offset, bytes, length);
    return finish(t, &w);
}

static void check_file(struct disk_test *t, u64 changed, u64 length, u8 value)
{
    u8 *bytes = malloc(SIZE);
    int fd = open(t->path, O_RDONLY);
    struct stat st;
    assert_non_null(bytes);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_size, SIZE);
    assert_int_equal(read(fd, bytes, SIZE), SIZE);
    for (u64 i = 0; i < SIZE; i++)
        assert_int_equal(bytes[i], i >= changed && i - changed < length ? value : pattern(i));
    close(fd);
    free(bytes);
}

/* --- tests --- */

static void reads_and_writes(void **state)
{
    struct disk_test *t = *state;
    u8 buffer[8192];
    open_drive(t, false, false, CACHE_WRITEBACK, TROUBLE_ENOSPC);
    assert_int_equal(drive_size(t->drive), SIZE);
    assert_false(drive_read_only(t->drive));
    assert_true(drive_has_medium(t->drive));
    assert_string_equal(drive_id(t->drive), "disk0");
    assert_string_equal(drive_serial(t->drive), "SERIAL");
    assert_int_equal(transfer(t, DRIVE_READ, 512 * 3, buffer, sizeof buffer), 0);
    for (u64 i = 0; i < sizeof buffer; i++) assert_int_equal(buffer[i], pattern(512 * 3 + i));
    memset(buffer, 0xc3, sizeof buffer);
    assert_int_equal(transfer(t, DRIVE_WRITE, SIZE - 4096, buffer, 4096), 0);
    assert_int_equal(transfer(t, DRIVE_FLUSH, 0, NULL, 0), 0);
    memset(buffer, 0, sizeof buffer);
    assert_int_equal(transfer(t, DRIVE_READ, SIZE - 4096, buffer, 4096), 0);
    assert_int_equal(buffer[0], 0xc3);
    assert_int_equal(buffer[4095], 0xc3);
    close_drive(t);
    check_file(t, SIZE - 4096, 4096, 0xc3);
}

static void scatters_and_gathers(void **state)
{
    struct disk_test *t = *state;
    u8 a[512], b[1024], c[512 + 16];
    struct waiting w = {.segment = {{a, sizeof a}, {b, sizeof b}, {c, sizeof c}}};
    open_drive(t, false, false, CACHE_WRITETHROUGH, TROUBLE_ENOSPC);
    memset(c, 0xee, sizeof c);
    /* The request ends inside the last segment: what is behind stays. */
    w.request = (struct drive_request){.op = DRIVE_READ, .offset = 4096, .length = 2048,
                                       .segments = w.segment,
                                       .segment_count = 3, .done = finished, .opaque = &w};
    drive_submit(t->drive, &w.request);
    assert_int_equal(finish(t, &w), 0);
    assert_int_equal(a[511], pattern(4096 + 511));
    assert_int_equal(b[0], pattern(4096 + 512));
    assert_int_equal(c[511], pattern(4096 + 2047));
    for (unsigned i = 512; i < sizeof c; i++) assert_int_equal(c[i], 0xee);
    w.done = false;
    w.request.op = DRIVE_WRITE;
    w.request.offset = 8192;
    drive_submit(t->drive, &w.request);
    assert_int_equal(finish(t, &w), 0);
    assert_int_equal(transfer(t, DRIVE_READ, 8192 + 512, b, sizeof b), 0);
    assert_int_equal(b[1023], pattern(4096 + 512 + 1023));
}

static void keeps_order(void **state)
{
    struct disk_test *t = *state;
    enum { MANY = 64 };
    static struct waiting w[MANY];
    static u8 bytes[MANY][512], back[512];
    open_drive(t, false, false, CACHE_WRITEBACK, TROUBLE_ENOSPC);
    for (unsigned i = 0; i < MANY; i++) {
        memset(bytes[i], (int)i, 512);
        submit(t, &w[i], DRIVE_WRITE, 0, bytes[i], 512); /* all to one place: the last one counts */
    }
    struct waiting flush;
    submit(t, &flush, DRIVE_FLUSH, 0, NULL, 0);
    assert_int_equal(finish(t, &flush), 0);
    for (unsigned i = 0; i < MANY; i++) assert_true(w[i].done && !w[i].error);
    assert_int_equal(transfer(t, DRIVE_READ, 0, back, 512), 0);
    assert_int_equal(back[7], MANY - 1);
}

static void drains(void **state)
{
    struct disk_test *t = *state;
    static struct waiting w[16];
    static u8 bytes[16][4096];
    open_drive(t, false, false, CACHE_UNSAFE, TROUBLE_ENOSPC);
    for (unsigned i = 0; i < 16; i++)
        submit(t, &w[i], i & 1 ? DRIVE_READ : DRIVE_WRITE, i * 4096, bytes[i], 4096);
    drive_drain(t->drive);
    for (unsigned i = 0; i < 16; i++) assert_true(w[i].done && !w[i].error);
}

static void refuses_what_is_outside(void **state)
{
    struct disk_test *t = *state;
    u8 buffer[1024] = {1};
    static const struct { u64 offset, length; } outside[] = {
        {SIZE, 512}, {SIZE - 512, 1024}, {SIZE + 512, 512}, {~(u64)0 - 511, 512}, {~(u64)0, 1024},
        {1ull << 62, 512}};
    open_drive(t, false, false, CACHE_WRITEBACK, TROUBLE_STOP);
    for (unsigned i = 0; i < ARRAY_SIZE(outside); i++) {
        struct waiting w;
        assert_int_equal(transfer(t, DRIVE_READ, outside[i].offset, buffer, outside[i].length),
                         EINVAL);
        submit(t, &w, DRIVE_WRITE, outside[i].offset, buffer, outside[i].length);
        while (t->stops == i * 2) loop_turn(t->loop, 10000000), drive_complete(t->drive);
        drive_drain(t->drive); /* a request that stopped the machine fails at reset */
        assert_int_equal(finish(t, &w), EIO);
        submit(t, &w, DRIVE_DISCARD, outside[i].offset, NULL, outside[i].length);
        while (t->stops == i * 2 + 1) loop_turn(t->loop, 10000000), drive_complete(t->drive);
        drive_drain(t->drive);
        assert_int_equal(t->stop_error, EINVAL);
    }
    assert_int_equal(transfer(t, DRIVE_READ, SIZE, buffer, 0), 0); /* nothing, at the very end */
    close_drive(t);
    check_file(t, 0, 0, 0);
}

static void discards(void **state)
{
    struct disk_test *t = *state;
    u8 buffer[512];
    open_drive(t, false, false, CACHE_WRITEBACK, TROUBLE_ENOSPC);
    assert_int_equal(transfer(t, DRIVE_DISCARD, 65536, NULL, 131072), 0);
    assert_int_equal(transfer(t, DRIVE_READ, 65536 - 512, buffer, 512), 0);
    assert_int_equal(buffer[5], pattern(65536 - 512 + 5));
    /* zeros, or as it was where holes can't be */
    assert_int_equal(transfer(t, DRIVE_READ, 65536, buffer, 512), 0);
    assert_true(buffer[5] == 0 || buffer[5] == pattern(65536 + 5));
    assert_int_equal(transfer(t, DRIVE_READ, 65536 + 131072, buffer, 512), 0);
    assert_int_equal(buffer[5], pattern(65536 + 131072 + 5));
    close_drive(t);
    struct stat st;
    assert_int_equal(stat(t->path, &st), 0);
    assert_int_equal(st.st_size, SIZE);
}

static void snapshot_leaves_the_file_alone(void **state)
{
    struct disk_test *t = *state;
    static u8 buffer[200000], back[200000];
    open_drive(t, false, true, CACHE_WRITEBACK, TROUBLE_ENOSPC);
    assert_false(drive_read_only(t->drive));
    memset(buffer, 0x77, sizeof buffer);
    /* Over several clusters, neither end on a border; then inside one that has been written. */
    assert_int_equal(transfer(t, DRIVE_WRITE, 65536 - 1024, buffer, 199680), 0);
    memset(buffer, 0x11, 512);
    assert_int_equal(transfer(t, DRIVE_WRITE, 131072, buffer, 512), 0);
    assert_int_equal(transfer(t, DRIVE_WRITE, SIZE - 512, buffer, 512), 0);
    assert_int_equal(transfer(t, DRIVE_FLUSH, 0, NULL, 0), 0);
    assert_int_equal(transfer(t, DRIVE_DISCARD, 0, NULL, 4096), 0);
    assert_int_equal(transfer(t, DRIVE_READ, 65536 - 2048, back, sizeof back), 0);
    for (u64 i = 0; i < sizeof back; i++) {
        u64 at = 65536 - 2048 + i;
        u8 want = at >= 131072 && at < 131072 + 512 ? 0x11 : i >= 1024 && i < 1024 + 199680 ? 0x77
                  : pattern(at);
        assert_int_equal(back[i], want);
    }
    assert_int_equal(transfer(t, DRIVE_READ, SIZE - 1024, back, 1024), 0);
    assert_int_equal(back[0], pattern(SIZE - 1024));
    assert_int_equal(back[512], 0x11);
    close_drive(t);
    check_file(t, 0, 0, 0);
}

static void snapshot_of_a_file_that_cannot_be_written(void **state)
{
    struct disk_test *t = *state;
    u8 buffer[512] = {9}, back[512];
    struct image *other;
    assert_int_equal(chmod(t->path, 0400), 0);
    open_drive(t, false, true, CACHE_WRITEBACK, TROUBLE_ENOSPC);
    assert_int_equal(transfer(t, DRIVE_WRITE, 0, buffer, 512), 0);
    assert_int_equal(transfer(t, DRIVE_READ, 0, back, 512), 0);
    assert_memory_equal(buffer, back, 512);
    /* Readers don't disturb each other. */
    other = image_open(t->path, "raw", true, false, &t->error);
    assert_non_null(other);
    other->close(other);
    close_drive(t);
    check_file(t, 0, 0, 0);
}

static void read_only_is_read_only(void **state)
{
    struct disk_test *t = *state;
    u8 buffer[512] = {0};
    open_drive(t, true, false, CACHE_WRITETHROUGH, TROUBLE_REPORT);
    assert_true(drive_read_only(t->drive));
    assert_int_equal(transfer(t, DRIVE_READ, 0, buffer, 512), 0);
    assert_int_equal(transfer(t, DRIVE_WRITE, 0, buffer, 512), EROFS);
    assert_int_equal(transfer(t, DRIVE_DISCARD, 0, NULL, 512), EROFS);
    assert_int_equal(transfer(t, DRIVE_FLUSH, 0, NULL, 0), 0);
    close_drive(t);
    check_file(t, 0, 0, 0);
}

static void one_writer(void **state)
{
    struct disk_test *t = *state;
    struct image *reader;
    open_drive(t, false, false, CACHE_WRITEBACK, TROUBLE_ENOSPC);
    assert_null(image_open(t->path, "raw", false, false, &t->error));
    assert_non_null(strstr(t->error.text, t->path));
    assert_non_null(strstr(t->error.text, "in use"));
    /* it would see half of what is written */
    assert_null(image_open(t->path, "raw", true, false, &t->error));
    assert_null(image_open(t->path, "raw", false, true, &t->error));
    close_drive(t);
    reader = image_open(t->path, "raw", true, false, &t->error);
    assert_non_null(reader);
    assert_null(image_open(t->path, "raw", false, false, &t->error));
    reader->close(reader);
    open_drive(t, false, false, CACHE_WRITEBACK, TROUBLE_ENOSPC);
}

static void sizes(void **state)
{
    struct disk_test *t = *state;
    static const u64 odd[] = {1, 511, 513, 65536 * 3 + 7};
    u8 buffer[512];
    for (unsigned i = 0; i < ARRAY_SIZE(odd); i++) {
        assert_int_equal(truncate(t->path, (off_t)odd[i]), 0);
        open_drive(t, false, i & 1, CACHE_WRITEBACK, TROUBLE_ENOSPC);
        assert_int_equal(drive_size(t->drive), (odd[i] + 511) & ~511ull);
        u64 last = drive_size(t->drive) - 512;
        memset(buffer, 0xee, sizeof buffer);
        assert_int_equal(transfer(t, DRIVE_READ, last, buffer, 512), 0);
        /* what isn't in the file */
        for (u64 at = odd[i] - last; at < 512; at++) assert_int_equal(buffer[at], 0);
        assert_int_equal(transfer(t, DRIVE_WRITE, last, buffer, 512), 0);
        assert_int_equal(transfer(t, DRIVE_READ, last, buffer, 512), 0);
        close_drive(t);
    }
    assert_int_equal(truncate(t->path, 0), 0);
    assert_null(image_open(t->path, "raw", false, false, &t->error));
    assert_non_null(strstr(t->error.text, "empty"));
    assert_null(image_open(t->folder, "raw", true, false, &t->error));
    assert_non_null(strstr(t->error.text, "directory"));
}

static void beyond_two_tebibytes(void **state)
{
    struct disk_test *t = *state;
    const u64 far = (3ull << 40) + 512, size = 4ull << 40;
    u8 buffer[1024], back[1024];
    if (truncate(t->path, (off_t)size)) {
        print_message("# files of 4 TiB can't be here\n");
        skip();
    }
    for (unsigned snapshot = 0; snapshot < 2; snapshot++) {
        open_drive(t, false, snapshot, CACHE_WRITEBACK, TROUBLE_ENOSPC);
        assert_true(drive_size(t->drive) == size);
        memset(buffer, 0xa0 + (int)snapshot, sizeof buffer);
        assert_int_equal(transfer(t, DRIVE_WRITE, far, buffer, sizeof buffer), 0);
        assert_int_equal(transfer(t, DRIVE_WRITE, size - 1024, buffer, sizeof buffer), 0);
        assert_int_equal(transfer(t, DRIVE_READ, far, back, sizeof back), 0);
        assert_memory_equal(back, buffer, sizeof back);
        assert_int_equal(transfer(t, DRIVE_READ, size - 1024, back, sizeof back), 0);
        assert_memory_equal(back, buffer, sizeof back);
        /* Not in the low 2 TiB, where a 32-bit sector number would have put it. */
        assert_int_equal(transfer(t, DRIVE_READ, far - (2ull << 40), back, sizeof back), 0);
        assert_int_equal(back[0], 0);
        assert_int_equal(transfer(t, DRIVE_READ, size - 512, back, 1024), EINVAL);
        close_drive(t);
    }
}

/* A file that may not grow: what a full host disk looks like, but with EFBIG. */
static void file_size_limit(void **state)
{
    struct disk_test *t = *state;
    struct rlimit before, limit;
    u8 buffer[4096] = {1};
    assert_int_equal(truncate(t->path, 1 << 22), 0);
    signal(SIGXFSZ, SIG_IGN); /* as the emulator does */
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    limit = before;
    limit.rlim_cur = 1 << 20;
    open_drive(t, false, false, CACHE_WRITEBACK, TROUBLE_ENOSPC);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    int inside = transfer(t, DRIVE_WRITE, (1 << 20) - 4096, buffer, 4096);
    int across = transfer(t, DRIVE_WRITE, (1 << 20) - 512, buffer, 4096);
    int outside = transfer(t, DRIVE_WRITE, 1 << 21, buffer, 4096);
    int read = transfer(t, DRIVE_READ, 1 << 21, buffer, 4096);
    setrlimit(RLIMIT_FSIZE, &before);
    assert_int_equal(inside, 0);
    assert_int_equal(across, EFBIG);
    assert_int_equal(outside, EFBIG); /* not ENOSPC: reported, the machine goes on */
    assert_int_equal(read, 0);
    assert_int_equal(t->stops, 0);
    assert_int_equal(transfer(t, DRIVE_WRITE, 1 << 21, buffer, 4096), 0);
}

/* An image whose writes fail as we like. */
struct failing {
    struct image image;
    int error;
    unsigned writes, flushes;
};

static int failing_read(struct image *image, u64 offset, void *to, u64 length)
{
    (void)offset, memset(to, 0, length);
    return container_of(image, struct failing, image)->error;
}
static int failing_write(struct image *image, u64 offset, const void *from, u64 length)
{
    struct failing *f = container_of(image, struct failing, image);
    (void)offset, (void)from, (void)length;
    f->writes++;
    return f->error;
}
static int failing_flush(struct image *image)
{
    struct failing *f = container_of(image, struct failing, image);
    f->flushes++;
    return f->error;
}
static void failing_close(struct image *image) { (void)image; }

static struct failing failing_new(int error)
{
    return (struct failing){.image = {.size = SIZE, .read = failing_read, .write = failing_write,
                                      .flush = failing_flush, .close = failing_close},
                            .error = error};
}

static void open_failing(struct disk_test *t, struct failing *f, enum drive_cache cache,
                         enum drive_trouble read_trouble, enum drive_trouble write_trouble)
{
    struct drive_settings settings = {.id = "disk0", .cache = cache, .on_read_error = read_trouble,
                                      .on_write_error = write_trouble, .stop = stop, .opaque = t};
    t->stops = 0;
    t->drive = drive_new(&f->image, &settings, t->loop);
}

static void trouble(void **state)
{
    struct disk_test *t = *state;
    u8 buffer[512] = {0};
    static const struct { enum drive_trouble policy; int error, reported; bool stops; } cases[] = {
        {TROUBLE_REPORT, EIO, EIO, false}, {TROUBLE_REPORT, ENOSPC, ENOSPC, false},
        {TROUBLE_IGNORE, EIO, 0, false}, {TROUBLE_ENOSPC, EIO, EIO, false},
        {TROUBLE_ENOSPC, EFBIG, EFBIG, false}, {TROUBLE_ENOSPC, ENOSPC, 0, true},
        {TROUBLE_STOP, EIO, 0, true},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        struct failing f = failing_new(cases[i].error);
        struct waiting w;
        open_failing(t, &f, CACHE_WRITEBACK, TROUBLE_REPORT, cases[i].policy);
        submit(t, &w, DRIVE_WRITE, 0, buffer, 512);
        if (cases[i].stops) {
            while (!t->stops) loop_turn(t->loop, 10000000), drive_complete(t->drive);
            assert_false(w.done);
            assert_int_equal(t->stop_error, cases[i].error);
            assert_true(t->stop_is_write);
            f.error = 0; /* somebody made room; the monitor's cont */
            drive_retry(t->drive);
        }
        assert_int_equal(finish(t, &w), cases[i].reported);
        assert_int_equal(f.writes, cases[i].stops ? 2 : 1);
        assert_int_equal(t->stops, cases[i].stops);
        f.error = 0;
        close_drive(t);
    }
}

static void read_trouble(void **state)
{
    struct disk_test *t = *state;
    struct failing f = failing_new(EIO);
    struct waiting w;
    u8 buffer[512];
    open_failing(t, &f, CACHE_WRITEBACK, TROUBLE_STOP, TROUBLE_REPORT);
    submit(t, &w, DRIVE_READ, 0, buffer, 512);
    while (!t->stops) loop_turn(t->loop, 10000000), drive_complete(t->drive);
    assert_false(t->stop_is_write);
    drive_drain(t->drive); /* reset while stopped */
    assert_int_equal(finish(t, &w), EIO);
    close_drive(t);
    open_failing(t, &f, CACHE_WRITEBACK, TROUBLE_IGNORE, TROUBLE_REPORT);
    assert_int_equal(transfer(t, DRIVE_READ, 0, buffer, 512), 0);
    close_drive(t);
}

static void caches(void **state)
{
    struct disk_test *t = *state;
    u8 buffer[512] = {0};
    static const struct {
        enum drive_cache cache;
        unsigned after_write, after_flush, at_end;
    } cases[] = {
        {CACHE_WRITEBACK, 0, 1, 2}, {CACHE_WRITETHROUGH, 1, 2, 3}, {CACHE_UNSAFE, 0, 0, 0}};
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        struct failing f = failing_new(0);
        open_failing(t, &f, cases[i].cache, TROUBLE_REPORT, TROUBLE_REPORT);
        assert_int_equal(transfer(t, DRIVE_WRITE, 0, buffer, 512), 0);
        assert_int_equal(f.flushes, cases[i].after_write);
        assert_int_equal(transfer(t, DRIVE_FLUSH, 0, NULL, 0), 0);
        assert_int_equal(f.flushes, cases[i].after_flush);
        close_drive(t);
        assert_int_equal(f.flushes, cases[i].at_end);
    }
}

static void count_change(void *opaque) { ++*(unsigned *)opaque; }

static void media(void **state)
{
    struct disk_test *t = *state;
    struct failing f = failing_new(0);
    struct drive_settings settings = {.id = "cd"};
    unsigned changes = 0;
    u8 buffer[512];
    t->drive = drive_new(NULL, &settings, t->loop);
    drive_on_media_change(t->drive, count_change, &changes);
    assert_false(drive_has_medium(t->drive));
    assert_int_equal(drive_size(t->drive), 0);
    assert_true(drive_read_only(t->drive));
    assert_int_equal(transfer(t, DRIVE_READ, 0, buffer, 512), ENOMEDIUM);
    assert_int_equal(transfer(t, DRIVE_FLUSH, 0, NULL, 0), ENOMEDIUM);
    drive_set_medium(t->drive, &f.image);
    assert_true(drive_has_medium(t->drive));
    assert_int_equal(transfer(t, DRIVE_READ, 0, buffer, 512), 0);
    drive_lock_tray(t->drive, true);
    assert_true(drive_tray_locked(t->drive));
    drive_lock_tray(t->drive, false);
    drive_eject(t->drive);
    assert_false(drive_has_medium(t->drive));
    assert_int_equal(changes, 2);
}

static void formats(void **state)
{
    struct disk_test *t = *state;
    struct image *image;
    int fd = open(t->path, O_WRONLY);
    assert_int_equal(pwrite(fd, "QFI\xfb\0\0\0\3", 8, 0), 8);
    close(fd);
    assert_null(image_open(t->path, "clay", true, false, &t->error));
    assert_non_null(strstr(t->error.text, "'clay'"));
    /* its header is no disk's contents */
    assert_null(image_open(t->path, NULL, true, false, &t->error));
    assert_non_null(strstr(t->error.text, t->path));
    image = image_open(t->path, "raw", true, false, &t->error);
    assert_non_null(image);
    image->close(image);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(reads_and_writes), TEST(scatters_and_gathers), TEST(keeps_order), TEST(drains),
        TEST(refuses_what_is_outside), TEST(discards), TEST(snapshot_leaves_the_file_alone),
        TEST(snapshot_of_a_file_that_cannot_be_written), TEST(read_only_is_read_only),
        TEST(one_writer), TEST(sizes), TEST(beyond_two_tebibytes), TEST(file_size_limit),
        TEST(trouble), TEST(read_trouble), TEST(caches), TEST(media), TEST(formats),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
