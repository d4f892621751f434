/* What the capture writes, byte by byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include <unistd.h>

#include "machine/clock_host.h"
#include "machine/error.h"
#include "net/capture.h"

static void make_path(char *path, size_t size)
{
    const char *directory = getenv("TMPDIR");
    int fd;

    snprintf(path, size, "%s/captureXXXXXX", directory ? directory : "/tmp");
    fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
}

static void test_file(void **state)
{
    struct net_port port = {.id = "n0"};
    struct clock *clock = clock_new_manual();
    struct capture *capture;
    struct error error;
    u8 frame[300], file[1000];
    char path[300];
    size_t size;
    FILE *f;

    (void)state;
    make_path(path, sizeof path);
    memset(frame, 0x77, sizeof frame);
    capture = capture_open(&port, path, 100, clock, &error);
    assert_non_null(capture);
    assert_null(capture_open(&port, path, 0, clock, &error));
    assert_non_null(strstr(error.text, "captured already"));
    clock_set_wall(clock, 5000001000ull);
    net_send_from_card(&port, frame, 60);
    net_send_to_card(&port, frame, 300);
    assert_true(capture_close(capture));
    net_send_to_card(&port, frame, 300);

    f = fopen(path, "rb");
    size = fread(file, 1, sizeof file, f);
    fclose(f);
    remove(path);
    assert_int_equal(size, 24 + 16 + 60 + 16 + 100);
    assert_int_equal(ld32(file), 0xa1b2c3d4);
    assert_int_equal(ld16(file + 4), 2);
    assert_int_equal(ld16(file + 6), 4);
    assert_int_equal(ld32(file + 16), 100);
    assert_int_equal(ld32(file + 20), 1);
    assert_int_equal(ld32(file + 24), 5);
    assert_int_equal(ld32(file + 28), 1);
    assert_int_equal(ld32(file + 32), 60);
    assert_int_equal(ld32(file + 36), 60);
    assert_int_equal(ld32(file + 24 + 76 + 8), 100);
    assert_int_equal(ld32(file + 24 + 76 + 12), 300);
    assert_int_equal(file[size - 1], 0x77);
    clock_free(clock);
}

static void test_no_file(void **state)
{
    struct net_port port = {.id = "n0"};
    struct error error;

    (void)state;
    assert_null(capture_open(&port, "/nonexistent/directory/x.pcap", 0, NULL, &error));
    assert_string_equal(error.text, "/nonexistent/directory/x.pcap: No such file or directory");
    assert_null(port.tap);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_file),
        cmocka_unit_test(test_no_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
