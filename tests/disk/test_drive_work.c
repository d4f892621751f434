/* Who performs a drive's requests and who runs their completions: the thread that asked, the worker,
 * the I/O thread. */
#include "machine/disk/image.h"
#include "machine/drive_host.h"
#include "machine/host/loop.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#define SIZE MIB(4)

/* An image that says who works on it, in which order, and can be slow or broken. */
struct told_image {
    struct image image;
    bool slow;           /* nothing can be done now */
    int error;
    u64 order[64];       /* offsets, as they were moved; a flush: ~0 */
    pthread_t who[64];
    _Atomic unsigned done, refused;
};

struct work_test {
    struct loop *loop;
    struct told_image told;
    struct drive *drive;
    pthread_mutex_t lock; /* the machine's */
    unsigned waiting, stops, completions;
};

struct request {
    struct drive_request drive;
    struct drive_segment part;
    u8 byte;
    struct work_test *test;
    _Atomic bool done;
    int error;
    pthread_t who;
};

static struct told_image *told(struct image *image)
{
    return container_of(image, struct told_image, image);
}

static int note(struct told_image *t, u64 offset)
{
    t->order[t->done] = offset;
    t->who[t->done] = pthread_self();
    t->done++;
    return t->error;
}

static int told_move(struct image *image, u64 offset, const struct drive_segment *parts,
                     unsigned count, u64 length, unsigned how)
{
    (void)parts, (void)length;
    assert_int_equal(count, 1);
    if ((how & IMAGE_NOW) && told(image)->slow) {
        told(image)->refused++;
        return EAGAIN;
    }
    return note(told(image), offset);
}

static int told_flush(struct image *image) { return note(told(image), ~(u64)0); }
static void told_close(struct image *image) { (void)image; }

static void no_lock(void *opaque) { (void)opaque; }

static void waiting(void *opaque) { ((struct work_test *)opaque)->waiting++; }

static bool enter(void *opaque)
{
    return !pthread_mutex_trylock(&((struct work_test *)opaque)->lock);
}

static void leave(void *opaque) { pthread_mutex_unlock(&((struct work_test *)opaque)->lock); }

static void stop(void *opaque, struct drive *drive, int error, bool is_write)
{
    (void)drive, (void)error, (void)is_write;
    ((struct work_test *)opaque)->stops++;
}

static int begin(void **state)
{
    struct work_test *t = calloc(1, sizeof *t);
    assert_non_null(t);
    t->loop = loop_new();
    loop_set_lock(t->loop, no_lock, no_lock, NULL);
    pthread_mutex_init(&t->lock, NULL);
    t->told.image = (struct image){.size = SIZE, .flush = told_flush, .close = told_close,
                                   .move = told_move};
    struct drive_settings settings = {.id = "disk0", .on_write_error = TROUBLE_STOP, .stop = stop,
                                      .waiting = waiting, .enter = enter, .leave = leave,
                                      .opaque = t};
    t->drive = drive_new(&t->told.image, &settings, t->loop);
    pthread_mutex_lock(&t->lock); /* held but where a test drops it */
    *state = t;
    return 0;
}

static int end(void **state)
{
    struct work_test *t = *state;
    drive_free(t->drive);
    pthread_mutex_unlock(&t->lock);
    loop_free(t->loop);
    free(t);
    return 0;
}

static void finished(struct drive_request *drive, int error)
{
    struct request *r = container_of(drive, struct request, drive);
    assert_int_equal(pthread_mutex_trylock(&r->test->lock), EBUSY);
    assert_false(r->done);
    r->error = error;
    r->who = pthread_self();
    r->test->completions++;
    r->done = true;
}

static void submit(struct work_test *t, struct request *r, enum drive_op op, u64 offset, u64 length)
{
    memset(r, 0, sizeof *r);
    r->test = t;
    r->part = (struct drive_segment){&r->byte, length};
    r->drive = (struct drive_request){.op = op, .offset = offset, .length = length,
                                      .segments = &r->part, .segment_count = 1, .done = finished};
    drive_submit(t->drive, &r->drive);
    assert_false(r->done);
}

static void wait_until(struct work_test *t, unsigned done)
{
    while (t->told.done < done) loop_turn(t->loop, 1000000);
}

/* Lets the worker have the lock until R is done. */
static void wait_for(struct work_test *t, struct request *r)
{
    pthread_mutex_unlock(&t->lock);
    while (!r->done) {
        loop_turn(t->loop, 1000000);
        pthread_mutex_lock(&t->lock);
        drive_complete(t->drive);
        pthread_mutex_unlock(&t->lock);
    }
    pthread_mutex_lock(&t->lock);
}

/* --- tests --- */

static void quick_ones_by_who_asked(void **state)
{
    struct work_test *t = *state;
    struct request r[8];
    for (unsigned i = 0; i < 8; i++)
        submit(t, &r[i], i & 1 ? DRIVE_WRITE : DRIVE_READ, i * 4096, 4096);
    assert_int_equal(t->waiting, 8);
    assert_int_equal(t->told.done, 0); /* not under the lock */
    pthread_mutex_unlock(&t->lock);
    assert_true(drive_work(t->drive));
    assert_int_equal(t->told.done, 8);
    assert_int_equal(t->completions, 0);
    pthread_mutex_lock(&t->lock);
    drive_finish(t->drive);
    for (unsigned i = 0; i < 8; i++) {
        assert_true(r[i].done && !r[i].error && pthread_equal(r[i].who, pthread_self()));
        assert_true(t->told.order[i] == i * 4096 && pthread_equal(t->told.who[i], pthread_self()));
    }
    assert_false(drive_work(t->drive));
    assert_int_equal(drive_counts(t->drive)->operations[DRIVE_READ], 4);
}

static void slow_ones_by_the_worker(void **state)
{
    struct work_test *t = *state;
    struct request r[2];
    t->told.slow = true;
    submit(t, &r[0], DRIVE_READ, 0, 4096);
    submit(t, &r[1], DRIVE_READ, 4096, 4096);
    drive_work(t->drive);
    assert_int_equal(t->told.refused, 1); /* nor is the second tried before the first is done */
    wait_for(t, &r[1]);
    assert_true(r[0].done && !r[0].error && !r[1].error);
    assert_int_equal(t->told.done, 2);
    assert_false(pthread_equal(t->told.who[0], pthread_self()));
    assert_false(pthread_equal(t->told.who[1], pthread_self()));
}

static void large_ones_by_the_worker(void **state)
{
    struct work_test *t = *state;
    struct request r;
    submit(t, &r, DRIVE_READ, 0, MIB(2));
    assert_int_equal(t->waiting, 0);
    wait_for(t, &r);
    assert_false(pthread_equal(t->told.who[0], pthread_self()));
}

/* However many small ones there are, no more than so much is done in one go. */
static void many_small_ones_are_shared(void **state)
{
    struct work_test *t = *state;
    struct request r[16];
    unsigned mine = 0;
    for (unsigned i = 0; i < 16; i++) submit(t, &r[i], DRIVE_READ, i * KIB(128), KIB(128));
    drive_work(t->drive);
    wait_for(t, &r[15]);
    for (unsigned i = 0; i < 16; i++) {
        assert_true(t->told.order[i] == i * KIB(128));
        mine += pthread_equal(t->told.who[i], pthread_self());
    }
    assert_int_equal(mine, 4);
}

static void flushes_stay_in_order(void **state)
{
    struct work_test *t = *state;
    struct request r[3];
    submit(t, &r[0], DRIVE_WRITE, 4096, 4096);
    submit(t, &r[1], DRIVE_FLUSH, 0, 0);
    submit(t, &r[2], DRIVE_WRITE, 8192, 4096);
    drive_work(t->drive);
    wait_for(t, &r[2]);
    assert_true(r[0].done && r[1].done);
    assert_true(t->told.order[0] == 4096 && t->told.order[1] == ~(u64)0 &&
                t->told.order[2] == 8192);
    assert_false(pthread_equal(t->told.who[1], pthread_self()));
}

/* The worker must not wait for who may wait for it. */
static void the_lock_is_not_waited_for(void **state)
{
    struct work_test *t = *state;
    struct request r[2];
    submit(t, &r[0], DRIVE_READ, 0, MIB(2));
    wait_until(t, 1);
    assert_false(r[0].done);
    drive_drain(t->drive);
    assert_true(r[0].done && pthread_equal(r[0].who, pthread_self()));
    /* What nobody has come to yet is not forgotten either. */
    submit(t, &r[0], DRIVE_READ, 0, 4096);
    submit(t, &r[1], DRIVE_WRITE, 0, 4096);
    drive_drain(t->drive);
    assert_true(r[0].done && r[1].done);
}

static void failures_are_the_io_threads(void **state)
{
    struct work_test *t = *state;
    struct request r[2];
    t->told.error = EIO;
    submit(t, &r[0], DRIVE_WRITE, 0, 4096);
    assert_true(drive_work(t->drive));
    drive_finish(t->drive);
    assert_int_equal(t->stops, 0);
    assert_int_equal(t->told.done, 1);
    loop_turn(t->loop, ~(u64)0); /* it has been woken */
    drive_complete(t->drive);
    assert_int_equal(t->stops, 1);
    assert_false(r[0].done);
    t->told.error = 0;
    drive_retry(t->drive);
    submit(t, &r[1], DRIVE_READ, 0, 4096);
    assert_true(drive_work(t->drive));
    drive_finish(t->drive);
    assert_true(r[0].done && !r[0].error && r[1].done);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
        TEST(quick_ones_by_who_asked), TEST(slow_ones_by_the_worker),
        TEST(large_ones_by_the_worker), TEST(many_small_ones_are_shared),
        TEST(flushes_stay_in_order), TEST(the_lock_is_not_waited_for),
        TEST(failures_are_the_io_threads),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
