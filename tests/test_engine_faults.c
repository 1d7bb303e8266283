/* SPDX-License-Identifier: Apache-2.0
 * Engines when the kernel or the disk refuses: what can be done another way is, with the same
 * bytes and the reason remembered; what cannot is an error that names the file.
 */
#include "engine_support.h"

#ifdef ALLSHARD_HAVE_URING
#include <liburing.h>
#endif

enum { BLOCK = MIB, BLOCKS = 12 };

/* ---- calls that go wrong ---- */

static struct {
    int at;      /* 1 is the first call of the kind */
    int last;    /* up to this one */
    int error;   /* errno */
    int64_t cut; /* instead of an error: this many bytes only */
    int calls;
    pthread_mutex_t lock;
} fault = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void set_fault(int at, int last, int error, int64_t cut)
{
    fault.at = at;
    fault.last = last;
    fault.error = error;
    fault.cut = cut;
    fault.calls = 0;
}

static bool hits(void)
{
    (void)pthread_mutex_lock(&fault.lock);
    fault.calls++;
    bool hit = fault.calls >= fault.at && fault.calls <= fault.last;
    (void)pthread_mutex_unlock(&fault.lock);
    errno = fault.error;
    return hit;
}

static int refuse_direct_open(int folder, const char *path, int flags, mode_t mode)
{
    return (flags & O_DIRECT) && hits() ? -1 : good.openat(folder, path, flags, mode);
}

static bool is_direct(int fd)
{
    return (fcntl(fd, F_GETFL) & O_DIRECT) != 0;
}

/* A kernel may stop anywhere; but no O_DIRECT call can be made that short, so the part that is done
 * goes through the page cache. */
static int open_plain(int fd, int flags)
{
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return open(path, flags | O_CLOEXEC);
}

static ssize_t bad_direct_write(int fd, const void *bytes, size_t count, off_t offset)
{
    if (is_direct(fd) && hits()) {
        if (fault.cut == 0) {
            return -1;
        }
        int plain = open_plain(fd, O_WRONLY);
        ssize_t n = pwrite(plain, bytes, (size_t)fault.cut, offset);
        assert_int_equal(fsync(plain), 0);
        assert_int_equal(close(plain), 0);
        return n;
    }
    return good.pwrite(fd, bytes, count, offset);
}

static ssize_t bad_write(int fd, const void *bytes, size_t count, off_t offset)
{
    return hits() ? -1 : good.pwrite(fd, bytes, count, offset);
}

static ssize_t bad_direct_read(int fd, void *bytes, size_t count, off_t offset)
{
    if (is_direct(fd) && hits()) {
        if (fault.cut == 0) {
            return -1;
        }
        int plain = open_plain(fd, O_RDONLY);
        ssize_t n = pread(plain, bytes, (size_t)fault.cut, offset);
        assert_int_equal(close(plain), 0);
        return n;
    }
    return good.pread(fd, bytes, count, offset);
}

static int bad_fsync(int fd)
{
    return hits() ? -1 : good.fsync(fd);
}

static int bad_range(int fd, off_t offset, off_t count, unsigned flags)
{
    return hits() ? -1 : good.sync_file_range(fd, offset, count, flags);
}

static int no_thread(pthread_t *out, const pthread_attr_t *how, void *(*run)(void *), void *user)
{
    return hits() ? EAGAIN : good.pthread_create(out, how, run, user);
}

static int no_ring(unsigned entries, struct io_uring *ring, unsigned flags)
{
    return hits() ? -fault.error : good.uring_init(entries, ring, flags);
}

static int no_registering(struct io_uring *ring, const struct iovec *buffers, unsigned count)
{
    return hits() ? -fault.error : good.uring_register(ring, buffers, count);
}

static int bad_submit(struct io_uring *ring)
{
    return hits() ? -fault.error : good.uring_submit(ring);
}

#ifdef ALLSHARD_HAVE_URING
static int bad_completion(struct io_uring *ring, struct io_uring_cqe **out)
{
    int result = good.uring_peek(ring, out);
    if (result == 0 && hits()) {
        (*out)->res = fault.cut > 0 ? (int)fault.cut : -fault.error;
    }
    return result;
}
#endif

/* ---- what engines do then ---- */

static as_engine_options options(void)
{
    return (as_engine_options){.direct = true, .depth = 4, .arena = memory, .arena_bytes = MEMORY};
}

/* Writes all blocks at once, and a ragged one. The codes' worst. */
static int write_blocks(bench *b)
{
    as_io ops[BLOCKS];
    int worst = AS_OK;
    fill(memory, 0, (int64_t)BLOCKS * BLOCK, 1);
    for (int i = 0; i < BLOCKS; i++) {
        ops[i] = (as_io){.kind = AS_IO_WRITE,
                         .file = &b->file,
                         .bytes = memory + (ptrdiff_t)i * BLOCK,
                         .count = i + 1 < BLOCKS ? BLOCK : BLOCK - 77,
                         .offset = (int64_t)i * BLOCK};
        b->type->submit(b->engine, &ops[i]);
    }
    finish(b, BLOCKS);
    for (int i = 0; i < BLOCKS; i++) {
        worst = ops[i].code < worst ? ops[i].code : worst;
    }
    return worst == AS_OK ? sync_file(b) : worst;
}

/* Does O_DIRECT, or the ring, work here at all? Otherwise there is nothing to refuse. */
static bool works_here(const as_engine_type *type)
{
    as_engine_options o = options();
    bench b = start(type, &o, "a", true);
    assert_int_equal(write_blocks(&b), AS_OK);
    const char *reason;
    bool works = strcmp(used(&b, &reason), type->name) == 0 && !reason;
    stop(&b);
    remove_file("a");
    if (!works) {
        print_message("%s: not here (%s)\n", type->name, reason ? reason : "");
    }
    return works;
}

/* Saves with a fault set: same bytes, done by `name`, and a reason that holds `why`. */
static void expect_mended(const as_engine_type *type, const char *name, const char *why)
{
    as_engine_options o = options();
    bench b = start(type, &o, "a", true);
    int code = write_blocks(&b);
    if (code != AS_OK) {
        fail_msg("%s", as_error_text(&b.error));
    }
    assert_true(fault.calls >= fault.at);
    const char *reason;
    assert_string_equal(used(&b, &reason), name);
    if (why) {
        assert_non_null(reason);
        if (!strstr(reason, why)) {
            fail_msg("%s", reason);
        }
    } else {
        assert_null(reason);
    }
    stop(&b);
    check_file(b.path, 0, (int64_t)BLOCKS * BLOCK - 77, 1);
    remove_file("a");
}

static void expect_failure(const as_engine_type *type, const char *text, const char *cause)
{
    as_engine_options o = options();
    bench b = start(type, &o, "a", true);
    assert_int_equal(write_blocks(&b), AS_SYSTEM);
    assert_int_equal(b.error.code, AS_SYSTEM);
    if (!strstr(as_error_text(&b.error), text) || !strstr(as_error_text(&b.error), cause)) {
        fail_msg("%s", as_error_text(&b.error));
    }
    stop(&b);
    remove_file("a");
}

static void test_direct_refused(void **state)
{
    (void)state;
    as_sys_table.openat = refuse_direct_open;
    set_fault(1, 1, EINVAL, 0);
    expect_mended(&as_engine_direct, "posix", "O_DIRECT: open of the file: Invalid argument");
    set_fault(1, 1, ENOENT, 0);
    expect_mended(&as_engine_direct, "posix", "No such file");
    as_sys_table = good;
    if (!works_here(&as_engine_direct)) {
        return;
    }
    as_sys_table.pwrite = bad_direct_write;
    const int at[] = {1, 3};
    for (int i = 0; i < 2; i++) {
        set_fault(at[i], at[i], EINVAL, 0);
        expect_mended(&as_engine_direct, "posix", "O_DIRECT: write of the file: Invalid argument");
    }
    set_fault(2, 4, EINTR, 0);
    expect_mended(&as_engine_direct, "direct", NULL);
    /* Short counts: of whole sectors, of whole pages, and of neither. */
    const int64_t cuts[] = {512, 8192, 1000};
    for (int i = 0; i < 3; i++) {
        set_fault(2, 5, 0, cuts[i]);
        expect_mended(&as_engine_direct, "direct", NULL);
    }
}

static void test_direct_reads(void **state)
{
    (void)state;
    if (!works_here(&as_engine_direct)) {
        return;
    }
    make_file("a", 4 * MIB, 6);
    as_sys_table.pread = bad_direct_read;
    const int64_t cuts[] = {0, 4096, 512};
    for (int i = 0; i < 3; i++) {
        as_engine_options o = options();
        bench b = start(&as_engine_direct, &o, "a", false);
        memset(memory, 0, 4 * MIB);
        set_fault(1, 1, EINVAL, cuts[i]);
        assert_int_equal(one(&b, 0, 4 * MIB, 0), AS_OK);
        check_bytes(memory, 0, 4 * MIB, 6);
        const char *reason;
        assert_string_equal(used(&b, &reason), cuts[i] > 0 ? "direct" : "posix");
        stop(&b);
    }
    remove_file("a");
}

static void test_errors(void **state)
{
    (void)state;
    as_sys_table.pwrite = bad_write;
    set_fault(2, 2, ENOSPC, 0);
    expect_failure(&as_engine_posix, "the file: cannot write 1048576 bytes", "No space left");
    set_fault(3, 99, EIO, 0);
    expect_failure(&as_engine_direct, "the file: cannot write", "Input/output error");
    as_sys_table = good;
    as_sys_table.fsync = bad_fsync;
    set_fault(1, 1, EIO, 0);
    expect_failure(&as_engine_posix, "the file: cannot fsync", "Input/output error");
}

static void test_write_back(void **state)
{
    (void)state;
    as_sys_table.sync_file_range = bad_range;
    set_fault(1, 99, ENOSYS, 0);
    expect_mended(&as_engine_posix, "posix", NULL);
    assert_int_equal(fault.calls, 1);
    /* What the wait tells, the fsync would not tell again. */
    set_fault(2, 2, EIO, 0);
    expect_failure(&as_engine_posix, "the file: cannot write back", "Input/output error");
}

/* A writer that is ahead of the disk waits for its earlier ranges. */
static int waits;

static int count_waits(int fd, off_t offset, off_t count, unsigned flags)
{
    waits += (flags & SYNC_FILE_RANGE_WAIT_AFTER) != 0;
    return good.sync_file_range(fd, offset, count, flags);
}

static void test_dirty_bound(void **state)
{
    (void)state;
    as_sys_table.sync_file_range = count_waits;
    as_engine_options o = options();
    bench b = start(&as_engine_posix, &o, "a", true);
    waits = 0;
    for (int i = 0; i < 10; i++) {
        fill(memory, 8LL * MIB * i, 4096, 1);
        assert_int_equal(one(&b, 8LL * MIB * i, 8 * MIB, 0), AS_OK);
    }
    assert_true(waits >= 4 && waits <= 6);
    stop(&b);
    remove_file("a");
}

static void test_no_thread(void **state)
{
    (void)state;
    bool direct = works_here(&as_engine_direct);
    as_sys_table.pthread_create = no_thread;
    set_fault(1, 99, 0, 0);
    expect_mended(&as_engine_posix, "posix", "no thread could be made");
    if (direct) {
        /* One of two is enough. */
        set_fault(2, 99, 0, 0);
        expect_mended(&as_engine_direct, "direct", NULL);
    }
}

static void test_ring_refused(void **state)
{
    (void)state;
    const int errors[] = {ENOSYS, EPERM, ENOMEM};
    as_sys_table.uring_init = no_ring;
    for (int i = 0; i < 3; i++) {
        as_engine_options o = options();
        set_fault(1, 1, errors[i], 0);
        bench b = start(&as_engine_uring, &o, "a", true);
        assert_int_equal(write_blocks(&b), AS_OK);
        const char *reason;
        const char *name = used(&b, &reason);
        assert_true(strcmp(name, "direct") == 0 || strcmp(name, "posix") == 0);
#ifdef ALLSHARD_HAVE_URING
        char why[100];
        (void)snprintf(why, sizeof why, "io_uring: %s", strerror(errors[i]));
        assert_non_null(strstr(reason, why));
#else
        assert_non_null(strstr(reason, "this build has no liburing"));
#endif
        stop(&b);
        check_file(b.path, 0, (int64_t)BLOCKS * BLOCK - 77, 1);
        remove_file("a");
    }
}

static void test_ring_faults(void **state)
{
    (void)state;
    if (!works_here(&as_engine_uring)) {
        return;
    }
    as_sys_table.uring_register = no_registering;
    set_fault(1, 1, ENOMEM, 0);
    expect_mended(&as_engine_uring, "uring", NULL);
    as_sys_table = good;

    as_sys_table.uring_submit = bad_submit;
    const int passing[] = {EAGAIN, EBUSY, EINTR};
    for (int i = 0; i < 3; i++) {
        set_fault(2, 5, passing[i], 0);
        expect_mended(&as_engine_uring, "uring", NULL);
    }
    for (int at = 1; at < 6; at += 2) {
        set_fault(at, at, ENOMEM, 0);
        expect_mended(&as_engine_uring, "direct", "io_uring: submit: Cannot allocate memory");
    }
    set_fault(1, 1 << 30, EAGAIN, 0);
    expect_mended(&as_engine_uring, "direct", "io_uring: submit: Resource temporarily unavailable");
}

#ifdef ALLSHARD_HAVE_URING
static void test_completions(void **state)
{
    (void)state;
    if (!works_here(&as_engine_uring)) {
        return;
    }
    as_sys_table.uring_peek = bad_completion;
    for (int at = 1; at < 8; at += 3) {
        set_fault(at, at, EINVAL, 0);
        expect_mended(&as_engine_uring, "uring", "O_DIRECT: write of the file: Invalid argument");
        set_fault(at, at + 1, EINTR, 0);
        expect_mended(&as_engine_uring, "uring", NULL);
        set_fault(at, at + 1, EAGAIN, 0);
        expect_mended(&as_engine_uring, "uring", NULL);
        set_fault(at, at, EFAULT, 0);
        expect_mended(&as_engine_uring, "uring", NULL);
        set_fault(at, at + 2, 0, 512);
        expect_mended(&as_engine_uring, "uring", NULL);
        set_fault(at, at + 2, 0, 999);
        expect_mended(&as_engine_uring, "uring", NULL);
        set_fault(at, at, EIO, 0);
        expect_failure(&as_engine_uring, "the file: cannot write 1048576 bytes at offset",
                       "Input/output error");
        set_fault(at, 99, ENOSPC, 0);
        expect_failure(&as_engine_uring, "the file: cannot write", "No space left");
    }
    /* The sync's completion is the one after the blocks', of which the last has two pieces. */
    set_fault(BLOCKS + 2, BLOCKS + 2, EIO, 0);
    expect_failure(&as_engine_uring, "the file: cannot fsync", "Input/output error");
    set_fault(BLOCKS + 2, BLOCKS + 2, EINVAL, 0);
    expect_mended(&as_engine_uring, "direct", "io_uring: fsync: Invalid argument");
}
#endif

/* Through the ring and the page cache, the write-back is started as well. */
static void test_buffered_ring(void **state)
{
    (void)state;
    as_sys_table.openat = refuse_direct_open;
    set_fault(1, 99, EINVAL, 0);
    as_engine_options o = options();
    bench b = start(&as_engine_uring, &o, "a", true);
    assert_int_equal(write_blocks(&b), AS_OK);
    const char *reason;
    (void)used(&b, &reason);
    assert_non_null(strstr(reason, "O_DIRECT: open of the file"));
    stop(&b);
    check_file(b.path, 0, (int64_t)BLOCKS * BLOCK - 77, 1);
    remove_file("a");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_direct_refused, restore_table),
        cmocka_unit_test_teardown(test_direct_reads, restore_table),
        cmocka_unit_test_teardown(test_errors, restore_table),
        cmocka_unit_test_teardown(test_write_back, restore_table),
        cmocka_unit_test_teardown(test_dirty_bound, restore_table),
        cmocka_unit_test_teardown(test_no_thread, restore_table),
        cmocka_unit_test_teardown(test_ring_refused, restore_table),
        cmocka_unit_test_teardown(test_ring_faults, restore_table),
#ifdef ALLSHARD_HAVE_URING
        cmocka_unit_test_teardown(test_completions, restore_table),
#endif
        cmocka_unit_test_teardown(test_buffered_ring, restore_table),
    };
    return cmocka_run_group_tests(tests, open_scratch, close_scratch);
}
