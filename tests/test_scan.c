/* SPDX-License-Identifier: Apache-2.0
 * Reading ranges in order with every engine: all bytes come, in the order in which they were named,
 * whatever the sizes; what cannot be opened or read ends the scan, or is told and does not.
 */
#include "engine_support.h"

#include "transfer/scan.h"

static const as_engine_type *const engines[] = {&as_engine_posix, &as_engine_direct,
                                                &as_engine_uring};
enum { ENGINES = 3, FILES = 3, MOST = 4096 };

static const int64_t sizes[FILES] = {3 * MIB + 17, 1, 700 * KIB};
static const char *const names[FILES] = {"a", "b", "c"};
static char *images[FILES]; /* what the files hold */

/* What a scan is to see, and what it has seen. */
typedef struct scene {
    as_scan_range ranges[MOST];
    int count;
    int given;
    int taken;
    int unread;
    int code; /* of the last that could not be read */
    int sys_errno;
    int end_at; /* taking that many is an error; -1: none */
    int64_t bytes;
} scene;

static bool next(void *user, as_scan_range *out)
{
    scene *s = user;
    if (s->given == s->count) {
        return false;
    }
    *out = s->ranges[s->given++];
    return true;
}

static int open_file(void *user, int32_t file, int *fd, const char **name, as_error *e)
{
    (void)user;
    char path[300];
    path_of(names[file], path);
    *name = names[file];
    *fd = as_open(AT_FDCWD, path, O_RDONLY, 0);
    return *fd < 0 ? as_fail(e, AS_SYSTEM, errno, "%s: cannot be opened", names[file]) : AS_OK;
}

static int take(void *user, const as_scan_range *range, const char *bytes, const as_error *why,
                as_error *e)
{
    scene *s = user;
    const as_scan_range *want = &s->ranges[s->taken];
    assert_int_equal(range->file, want->file);
    assert_int_equal(range->offset, want->offset);
    assert_int_equal(range->bytes, want->bytes);
    assert_true((bytes == NULL) == (why != NULL));
    if (!why) {
        assert_memory_equal(bytes, images[range->file] + range->offset, (size_t)range->bytes);
        s->bytes += range->bytes;
    } else {
        assert_int_not_equal(why->code, AS_OK);
        s->unread++;
        s->code = why->code;
        s->sys_errno = why->sys_errno ? why->sys_errno : s->sys_errno;
    }
    s->taken++;
    return s->taken == s->end_at ? as_fail(e, AS_CORRUPT, 0, "enough") : AS_OK;
}

/* All files in pieces of that many bytes. */
static void cut(scene *s, int64_t piece)
{
    *s = (scene){.end_at = -1};
    for (int f = 0; f < FILES; f++) {
        for (int64_t at = 0; at < sizes[f]; at += piece) {
            assert_true(s->count < MOST);
            int64_t left = sizes[f] - at;
            s->ranges[s->count++] =
                (as_scan_range){.file = f, .offset = at, .bytes = left < piece ? left : piece};
        }
    }
}

static int scan(scene *s, const as_engine_type *type, int64_t longest, int way, as_error *e)
{
    as_meter meter = {0};
    as_scan scan = {.engine = type,
                    .engine_options = {.direct = way & 1},
                    .memory = way & 2 ? memory : NULL,
                    .memory_bytes = MEMORY,
                    .longest = longest,
                    .slots = way & 4 ? 2 : 0,
                    .fresh = way & 8,
                    .go_on = way & 16,
                    .meter = &meter,
                    .next = next,
                    .open_file = open_file,
                    .take = take,
                    .user = s};
    int code = as_scan_run(&scan, e);
    assert_int_equal(code, e->code);
    if (code == AS_OK && s->unread == 0) {
        assert_int_equal(meter.tally.bytes_read, s->bytes);
        assert_true(meter.engine[0] || s->count == 0);
    }
    return code;
}
enum { WAYS = 32, GO_ON = 16 };

static void make_files(void)
{
    for (int f = 0; f < FILES; f++) {
        make_file(names[f], sizes[f], f);
        images[f] = malloc((size_t)sizes[f]);
        assert_non_null(images[f]);
        fill(images[f], 0, sizes[f], f);
    }
}

static void remove_files(void)
{
    for (int f = 0; f < FILES; f++) {
        remove_file(names[f]);
        free(images[f]);
    }
}

static void test_pieces(void **state)
{
    (void)state;
    static const int64_t pieces[] = {7000, 4096, 64 * KIB, 1 * MIB + 64, 4 * MIB};
    static scene s;
    make_files();
    for (int i = 0; i < ENGINES * WAYS; i++) {
        for (size_t k = 0; k < sizeof pieces / sizeof *pieces; k++) {
            as_error e = AS_ERROR_INIT;
            cut(&s, pieces[k]);
            assert_int_equal(scan(&s, engines[i / WAYS], pieces[k], i % WAYS, &e), AS_OK);
            assert_int_equal(s.taken, s.count);
            assert_int_equal(s.unread, 0);
        }
    }
    remove_files();
}

static void test_nothing(void **state)
{
    (void)state;
    as_error e = AS_ERROR_INIT;
    static scene s;
    s = (scene){.end_at = -1};
    assert_int_equal(scan(&s, engines[0], 4096, 0, &e), AS_OK);
    /* Who comes with an error reads nothing, and leaves with it. */
    make_files();
    cut(&s, 4096);
    (void)as_fail(&e, AS_NOT_FOUND, 0, "before");
    assert_int_equal(scan(&s, engines[0], 4096, 0, &e), AS_NOT_FOUND);
    assert_int_equal(s.given, 0);
    as_error_clear(&e);
    remove_files();
}

static void test_missing(void **state)
{
    (void)state;
    static scene s;
    make_files();
    remove_file(names[1]);
    for (int i = 0; i < ENGINES * WAYS; i++) {
        as_error e = AS_ERROR_INIT;
        int way = i % WAYS;
        cut(&s, 64 * KIB);
        int code = scan(&s, engines[i / WAYS], 64 * KIB, way, &e);
        if (way & GO_ON) {
            assert_int_equal(code, AS_OK);
            assert_int_equal(s.taken, s.count);
            assert_int_equal(s.unread, 1);
            assert_int_equal(s.sys_errno, ENOENT);
        } else {
            assert_int_equal(code, AS_SYSTEM);
            assert_string_equal(as_error_text(&e),
                                "b: cannot be opened: No such file or directory");
            assert_true(s.taken < s.count);
        }
        as_error_clear(&e);
    }
    make_file(names[1], sizes[1], 1);
    remove_files();
}

static void test_short_file(void **state)
{
    (void)state;
    static scene s;
    make_files();
    char path[300];
    path_of(names[0], path);
    assert_int_equal(truncate(path, 1 * MIB), 0);
    for (int i = 0; i < ENGINES * WAYS; i++) {
        as_error e = AS_ERROR_INIT;
        int way = i % WAYS;
        cut(&s, 512 * KIB);
        int code = scan(&s, engines[i / WAYS], 512 * KIB, way, &e);
        if (way & GO_ON) {
            assert_int_equal(code, AS_OK);
            assert_int_equal(s.taken, s.count);
            assert_int_equal(s.unread, 5);
            assert_int_equal(s.code, AS_FORMAT);
        } else {
            assert_int_equal(code, AS_FORMAT);
            assert_non_null(strstr(as_error_text(&e), "a: the file ends at offset 1"));
        }
        as_error_clear(&e);
    }
    remove_files();
}

/* A part of the file that the disk cannot read. */
static ssize_t rotten_pread(int fd, void *bytes, size_t count, off_t offset)
{
    if (offset <= 1 * MIB && 1 * MIB < offset + (off_t)count) {
        errno = EIO;
        return -1;
    }
    return good.pread(fd, bytes, count, offset);
}

static int no_uring(unsigned entries, struct io_uring *ring, unsigned flags)
{
    (void)entries, (void)ring, (void)flags;
    return -ENOSYS;
}

static void test_unreadable(void **state)
{
    (void)state;
    static scene s;
    make_files();
    as_sys_table.pread = rotten_pread;
    as_sys_table.uring_init = no_uring; /* so that pread does the work of that engine too */
    for (int i = 0; i < ENGINES * WAYS; i++) {
        as_error e = AS_ERROR_INIT;
        int way = i % WAYS;
        cut(&s, 64 * KIB);
        int code = scan(&s, engines[i / WAYS], 64 * KIB, way, &e);
        if (way & GO_ON) {
            assert_int_equal(code, AS_OK);
            assert_int_equal(s.taken, s.count);
            assert_int_equal(s.unread, 1);
            assert_int_equal(s.sys_errno, EIO);
        } else {
            assert_int_equal(code, AS_SYSTEM);
            assert_int_equal(e.sys_errno, EIO);
            assert_true(s.taken <= 16);
        }
        as_error_clear(&e);
    }
    remove_files();
}

static void test_enough(void **state)
{
    (void)state;
    static scene s;
    make_files();
    for (int i = 0; i < ENGINES * WAYS; i++) {
        as_error e = AS_ERROR_INIT;
        cut(&s, 64 * KIB);
        s.end_at = 5;
        assert_int_equal(scan(&s, engines[i / WAYS], 64 * KIB, i % WAYS, &e), AS_CORRUPT);
        assert_int_equal(s.taken, 5);
        as_error_clear(&e);
    }
    remove_files();
}

static bool wished; /* the cache was asked to let go */

static int note_advice(int fd, off_t offset, off_t count, int advice)
{
    assert_int_equal(advice, POSIX_FADV_DONTNEED);
    assert_true(count > 0 && offset % SEAM == 0 && count % SEAM == 0);
    wished = true;
    return good.fadvise(fd, offset, count, advice);
}

static void test_fresh(void **state)
{
    (void)state;
    static scene s;
    make_files();
    as_sys_table.fadvise = note_advice;
    for (int fresh = 0; fresh < 2; fresh++) {
        as_error e = AS_ERROR_INIT;
        cut(&s, 1000);
        wished = false;
        assert_int_equal(scan(&s, engines[0], 1000, fresh ? 8 : 0, &e), AS_OK);
        assert_int_equal(wished, fresh);
    }
    remove_files();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_pieces, restore_table),
        cmocka_unit_test_teardown(test_nothing, restore_table),
        cmocka_unit_test_teardown(test_missing, restore_table),
        cmocka_unit_test_teardown(test_short_file, restore_table),
        cmocka_unit_test_teardown(test_unreadable, restore_table),
        cmocka_unit_test_teardown(test_enough, restore_table),
        cmocka_unit_test_teardown(test_fresh, restore_table),
    };
    return cmocka_run_group_tests(tests, open_scratch, close_scratch);
}
