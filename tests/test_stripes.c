/* SPDX-License-Identifier: Apache-2.0
 * Lustre's stripes, by a Lustre that is played: the bytes of its answers are laid down here by
 * hand, by their offsets.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/vfs.h>

#include <cmocka.h>

#include "base/sys.h"
#include "io/stripes.h"

static as_sys good;
static unsigned char answer[600];
static unsigned char question[32];
static unsigned long asked;
static int error;
static uint32_t magic;

static int play_fstatfs(int fd, struct statfs *out)
{
    (void)fd;
    *out = (struct statfs){.f_type = (long)magic};
    return 0;
}

static int play_ioctl(int fd, unsigned long request, void *argument)
{
    (void)fd;
    asked = request;
    memcpy(question, argument, sizeof question);
    if (error != 0) {
        errno = error;
        return -1;
    }
    if (request == _IOW('f', 155, long)) {
        memcpy(argument, answer, sizeof answer);
    }
    return 0;
}

static void put32(unsigned char *at, uint32_t value)
{
    memcpy(at, &value, sizeof value);
}

static void put16(unsigned char *at, uint16_t value)
{
    memcpy(at, &value, sizeof value);
}

static void put_layout(size_t at, uint32_t form, uint32_t bytes, uint16_t count)
{
    put32(answer + at, form);
    put32(answer + at + 4, 1);
    put32(answer + at + 24, bytes);
    put16(answer + at + 28, count);
}

static int setup(void **state)
{
    (void)state;
    good = as_sys_table;
    as_sys_table.fstatfs = play_fstatfs;
    as_sys_table.ioctl = play_ioctl;
    memset(answer, 0, sizeof answer);
    memset(question, 0, sizeof question);
    magic = 0x0BD00BD0;
    error = 0;
    asked = 0;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    as_sys_table = good;
    return 0;
}

static as_stripes read_good(bool is_lustre)
{
    as_error e = AS_ERROR_INIT;
    as_stripes s;
    bool found = !is_lustre;
    assert_int_equal(as_stripes_read(3, "x", &found, &s, &e), AS_OK);
    assert_int_equal(found, is_lustre);
    return s;
}

static void test_read(void **state)
{
    (void)state;
    put_layout(0, 0x0BD10BD0, 4 << 20, 8);
    as_stripes s = read_good(true);
    assert_int_equal(s.count, 8);
    assert_int_equal(s.bytes, 4 << 20);
    put_layout(0, 0x0BD30BD0, 1 << 20, 0xFFFF);
    s = read_good(true);
    assert_int_equal(s.count, -1);
    assert_int_equal(s.bytes, 1 << 20);
}

/* A progressive layout: 1 stripe at first, then 4, then 16; the last is what large files get. */
static void test_parts(void **state)
{
    (void)state;
    put32(answer, 0x0BD60BD0);
    put32(answer + 4, 400);
    put16(answer + 14, 3);
    for (unsigned i = 0; i < 3; i++) {
        put32(answer + 32 + 48 * i + 24, 200 + 40 * i);
        put32(answer + 32 + 48 * i + 28, 32);
        put_layout(200 + 40 * i, 0x0BD10BD0, 1U << (20 + i), (uint16_t)(1U << (2 * i)));
    }
    as_stripes s = read_good(true);
    assert_int_equal(s.count, 16);
    assert_int_equal(s.bytes, 4 << 20);
}

static void test_nonsense(void **state)
{
    (void)state;
    (void)read_good(false); /* all zero */
    put32(answer, 0x0BD60BD0);
    (void)read_good(false); /* no part */
    put16(answer + 14, 0xFFFF);
    (void)read_good(false); /* more than there is room for */
    put16(answer + 14, 1);
    put32(answer + 32 + 24, 0xFFFFFFF0);
    (void)read_good(false); /* far away */
}

static void test_elsewhere(void **state)
{
    (void)state;
    as_error e = AS_ERROR_INIT;
    magic = 0xEF53;
    (void)read_good(false);
    bool found = true;
    assert_int_equal(as_stripes_set(3, "x", (as_stripes){4, 1 << 20}, &found, &e), AS_OK);
    assert_false(found);
    assert_int_equal(asked, 0); /* the same number may mean something else there */
    magic = 0x0BD00BD0;
    error = ENODATA;
    (void)read_good(false);
    /* The true calls, on whatever this folder lies. */
    as_sys_table = good;
    int fd = as_open(AT_FDCWD, "/", O_RDONLY | O_DIRECTORY, 0);
    assert_true(fd >= 0);
    as_stripes s;
    assert_int_equal(as_stripes_read(fd, "/", &found, &s, &e), AS_OK);
    (void)as_sys_table.close(fd);
}

static void test_set(void **state)
{
    (void)state;
    as_error e = AS_ERROR_INIT;
    bool found = false;
    uint32_t bytes;
    uint16_t count;
    assert_int_equal(as_stripes_set(3, "x", (as_stripes){4, 2 << 20}, &found, &e), AS_OK);
    assert_true(found);
    assert_true(asked == _IOW('f', 154, long));
    memcpy(&bytes, question, 4);
    assert_int_equal(bytes, 0x0BD10BD0);
    memcpy(&bytes, question + 24, 4);
    assert_int_equal(bytes, 2 << 20);
    memcpy(&count, question + 28, 2);
    assert_int_equal(count, 4);
    memcpy(&count, question + 30, 2);
    assert_int_equal(count, 0xFFFF);
    assert_int_equal(as_stripes_set(3, "x", (as_stripes){-1, 0}, &found, &e), AS_OK);
    memcpy(&count, question + 28, 2);
    assert_int_equal(count, 0xFFFF);
    assert_int_equal(as_stripes_set(3, "x", (as_stripes){0, 1 << 20}, &found, &e), AS_OK);
    memcpy(&count, question + 28, 2);
    assert_int_equal(count, 0); /* the default */
}

static void test_errors(void **state)
{
    (void)state;
    static const as_stripes wrong[] = {
        {-2, 1 << 20}, {2001, 1 << 20}, {1, 1000}, {1, -65536}, {1, 1LL << 32}};
    as_error e = AS_ERROR_INIT;
    bool found;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(as_stripes_set(3, "x", wrong[i], &found, &e), AS_INVALID);
        as_error_clear(&e);
    }
    error = EPERM;
    assert_int_equal(as_stripes_set(3, "a folder", (as_stripes){1, 1 << 20}, &found, &e),
                     AS_SYSTEM);
    assert_non_null(strstr(as_error_text(&e), "a folder: cannot set Lustre stripes"));
    as_error_clear(&e);
    as_stripes s;
    error = EIO;
    assert_int_equal(as_stripes_read(3, "a folder", &found, &s, &e), AS_SYSTEM);
    assert_non_null(strstr(as_error_text(&e), "a folder: cannot read its Lustre stripes"));
    as_error_clear(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_read, setup, teardown),
        cmocka_unit_test_setup_teardown(test_parts, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nonsense, setup, teardown),
        cmocka_unit_test_setup_teardown(test_elsewhere, setup, teardown),
        cmocka_unit_test_setup_teardown(test_set, setup, teardown),
        cmocka_unit_test_setup_teardown(test_errors, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
