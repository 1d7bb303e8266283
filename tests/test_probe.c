/* SPDX-License-Identifier: Apache-2.0
 * Which engine `auto` chooses: by a table of file systems that are played, by trials that go
 * wrong in every way, and on this machine as it is. No trial leaves a file.
 */
#include "engine_support.h"

#include <dirent.h>
#include <sys/vfs.h>

#include "io/filesystems.h"
#include "io/probe.h"
#include "io/uring.h"
#include "support_faults.h"

static as_engine_choice choice;

static void probe(const char *engine, bool write)
{
    as_error e = AS_ERROR_INIT;
    int code = as_probe_folder(scratch, engine, write, &choice, &e);
    if (code != AS_OK) {
        fail_msg("%s", as_error_text(&e));
    }
    assert_true(strlen(choice.reason) > 8);
    assert_non_null(as_engine_by_name(choice.engine));
    assert_true(choice.offset_align >= 1 && choice.memory_align >= 1);
}

static void check_empty(void)
{
    DIR *d = opendir(scratch);
    assert_non_null(d);
    struct dirent *entry;
    while ((entry = readdir(d))) {
        if (entry->d_name[0] != '.' || strlen(entry->d_name) > 2) {
            fail_msg("%s was left", entry->d_name);
        }
    }
    assert_int_equal(closedir(d), 0);
}

static const char *best(void)
{
    char why[AS_URING_WHY];
    return as_uring_works(why) ? "uring" : "direct";
}

static uint32_t magic;

static int play_fstatfs(int fd, struct statfs *out)
{
    (void)fd;
    *out = (struct statfs){.f_type = (long)(int32_t)magic};
    return 0;
}

/* ---- here ---- */

static void test_here(void **state)
{
    (void)state;
    const char *const names[] = {NULL, "auto", "posix", "direct", "uring"};
    for (int i = 0; i < 10; i++) {
        probe(names[i % 5], i < 5);
        print_message("%s, %s: %s%s, %lld, %lld: %s\n", names[i % 5] ? names[i % 5] : "-",
                      i < 5 ? "write" : "read", choice.engine, choice.direct ? " O_DIRECT" : "",
                      (long long)choice.offset_align, (long long)choice.memory_align,
                      choice.reason);
        if (i % 5 > 1) {
            assert_string_equal(choice.engine, names[i % 5]);
        }
        check_empty();
        /* What was chosen works. */
        as_engine_options options = {.depth = 2};
        as_probe_options(&choice, &options);
        bench b = start(as_engine_by_name(choice.engine), &options, "a", true);
        fill(memory, 0, MIB, 1);
        assert_int_equal(one(&b, 0, MIB, 0), AS_OK);
        const char *reason;
        (void)used(&b, &reason);
        if (choice.direct && i < 5) {
            assert_true(!reason || strstr(reason, "io_uring") || strstr(reason, "liburing"));
        }
        stop(&b);
        check_file(b.path, 0, MIB, 1);
        remove_file("a");
    }
}

static void test_names(void **state)
{
    (void)state;
    as_error e = AS_ERROR_INIT;
    assert_int_equal(as_probe_folder(scratch, "Direct", true, &choice, &e), AS_INVALID);
    assert_string_equal(
        as_error_text(&e),
        "there is no engine named \"Direct\"; it must be auto, posix, direct, uring or gds");
    as_error_clear(&e);
    assert_int_equal(as_probe_name("auto", &e), AS_OK);
    assert_int_equal(as_probe_name("uring", &e), AS_OK);
    assert_int_equal(as_probe_folder("/nowhere/at/all", NULL, true, &choice, &e), AS_NOT_FOUND);
    assert_non_null(strstr(as_error_text(&e), "/nowhere/at/all: cannot open the folder"));
    as_error_clear(&e);
    assert_int_equal(as_probe_folder("/dev/null", NULL, true, &choice, &e), AS_SYSTEM);
    as_error_clear(&e);
}

/* ---- file systems that are played ---- */

static ssize_t take_all(int fd, const void *bytes, size_t count, off_t offset)
{
    (void)fd;
    (void)bytes;
    (void)offset;
    return (ssize_t)count;
}

static int open_plainly(int folder, const char *path, int flags, mode_t mode)
{
    return good.openat(folder, path, flags & ~O_DIRECT, mode);
}

static int tell_512(int folder, const char *path, int flags, unsigned mask, struct statx *out)
{
    (void)folder;
    (void)path;
    (void)flags;
    uint32_t dio[2] = {4, 512};
    out->stx_mask = mask;
    memcpy((char *)out + 0x98, dio, sizeof dio);
    return 0;
}

/* A disk whose O_DIRECT works, whatever this machine has. */
static void play(uint32_t type)
{
    as_sys_table.fstatfs = play_fstatfs;
    as_sys_table.openat = open_plainly;
    as_sys_table.pwrite = take_all;
    as_sys_table.statx = tell_512;
    magic = type;
}

static void test_table(void **state)
{
    (void)state;
    static const struct {
        uint32_t magic;
        bool direct;
        const char *name;
        int64_t align;
    } rows[] = {
        {0xEF53, true, "ext4", 512},        {0x58465342, true, "xfs", 512},
        {0x9123683E, false, "btrfs", 0},    {0x01021994, false, "tmpfs", 0},
        {0x6969, false, "nfs", 0},          {0x0BD00BD0, true, "lustre", 4 << 20},
        {0x47504653, false, "gpfs", 0},     {0x19830326, false, "beegfs", 0},
        {0x794C7630, true, "overlay", 512}, {0x65735546, false, "fuse", 0},
        {0x2FC12FC1, false, "zfs", 0},      {0xFF534D42, false, "cifs", 0},
        {12345, true, "unknown", 512},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        play(rows[i].magic);
        probe(NULL, true);
        assert_string_equal(choice.file_system, rows[i].name);
        assert_string_equal(choice.engine, rows[i].direct ? best() : "posix");
        assert_int_equal(choice.direct, rows[i].direct);
        assert_true(strncmp(choice.reason, rows[i].name, strlen(rows[i].name)) == 0);
        if (rows[i].direct) {
            assert_int_equal(choice.offset_align, rows[i].align);
            assert_int_equal(choice.memory_align, 4);
        }
        /* Asked for by name it is given everywhere. */
        probe("direct", true);
        assert_true(choice.direct);
        assert_string_equal(choice.engine, "direct");
        probe("uring", true);
        assert_int_equal(choice.direct, rows[i].direct);
        probe("posix", true);
        assert_false(choice.direct);
        probe("auto", false);
        assert_int_equal(choice.direct, rows[i].direct);
        check_empty();
    }
}

/* ---- trials that fail ---- */

static int no_direct(int folder, const char *path, int flags, mode_t mode)
{
    if (flags & O_DIRECT) {
        errno = EINVAL;
        return -1;
    }
    return good.openat(folder, path, flags, mode);
}

static int tell_none(int folder, const char *path, int flags, unsigned mask, struct statx *out)
{
    (void)tell_512(folder, path, flags, mask, out);
    memset((char *)out + 0x98, 0, 8);
    return 0;
}

static int no_ring(unsigned entries, struct io_uring *ring, unsigned flags)
{
    (void)entries;
    (void)ring;
    (void)flags;
    return -EPERM;
}

static void test_refusals(void **state)
{
    (void)state;
    play(0xEF53);
    as_sys_table.openat = no_direct;
    probe(NULL, true);
    assert_string_equal(choice.engine, "posix");
    assert_string_equal(choice.reason, "ext4: O_DIRECT does not work (open: Invalid argument)");
    probe("direct", true);
    assert_string_equal(choice.engine, "direct");
    assert_false(choice.direct);

    play(0xEF53);
    as_sys_table.statx = tell_none;
    probe(NULL, true);
    assert_string_equal(choice.engine, "posix");
    assert_non_null(strstr(choice.reason, "the kernel says"));

    play(0xEF53);
    as_sys_table.uring_init = no_ring;
    probe(NULL, true);
    assert_string_equal(choice.engine, "direct");
    assert_true(choice.direct);
#ifdef ALLSHARD_HAVE_URING
    assert_string_equal(choice.reason, "ext4: O_DIRECT works (512-byte alignment), io_uring: "
                                       "Operation not permitted");
#endif
}

/* Whichever call fails, the answer is some engine, nothing stays, and no descriptor is lost. */
static void test_every_call(void **state)
{
    (void)state;
    int before = dup(0);
    assert_true(before >= 0);
    assert_int_equal(close(before), 0);
    fault_install();
    for (int at = 1;; at++) {
        as_error e = AS_ERROR_INIT;
        fault_set(FAULT_FAIL, at, EIO);
        int code = as_probe_folder(scratch, NULL, true, &choice, &e);
        int calls = fault_end();
        if (calls < at) {
            assert_int_equal(code, AS_OK);
            break;
        }
        /* Only a folder that does not open is an error. */
        assert_int_equal(code, at == 1 ? AS_SYSTEM : AS_OK);
        as_error_clear(&e);
        check_empty();
        int after = dup(0);
        assert_int_equal(after, before);
        assert_int_equal(close(after), 0);
    }
}

/* ---- the page cache ---- */

static ssize_t not_there(int fd, const struct iovec *parts, int count, off_t offset, int flags)
{
    (void)fd;
    (void)parts;
    (void)count;
    (void)offset;
    (void)flags;
    errno = EAGAIN;
    return -1;
}

static void test_cached(void **state)
{
    (void)state;
    char path[300];
    make_file("a", 2 * MIB, 1);
    path_of("a", path);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    char byte;
    struct iovec part = {.iov_base = &byte, .iov_len = 1};
    bool told = preadv2(fd, &part, 1, 0, RWF_NOWAIT) == 1;
    if (!told) {
        print_message("the file system does not tell what is cached: %s\n", strerror(errno));
    }
    assert_int_equal(as_probe_cached(fd, 2 * MIB), told);
    assert_false(as_probe_cached(fd, 0));
    assert_false(as_probe_cached(fd, 200 * MIB)); /* most of it is not there at all */
    as_sys_table.preadv2 = not_there;
    assert_false(as_probe_cached(fd, 2 * MIB));
    assert_int_equal(close(fd), 0);
    remove_file("a");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_here, restore_table),
        cmocka_unit_test_teardown(test_names, restore_table),
        cmocka_unit_test_teardown(test_table, restore_table),
        cmocka_unit_test_teardown(test_refusals, restore_table),
        cmocka_unit_test_teardown(test_every_call, restore_table),
        cmocka_unit_test_teardown(test_cached, restore_table),
    };
    return cmocka_run_group_tests(tests, open_scratch, close_scratch);
}
