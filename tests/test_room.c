/* SPDX-License-Identifier: Apache-2.0
 * How much memory there is, by files of the kernel that were planted: nodes, control groups of both
 * versions at every level, containers, and files that are missing, garbled or huge.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/cpus.h"
#include "io/room.h"

#include <cmocka.h>

#define GIB (INT64_C(1) << 30)

static char root[200];

static int remove_one(const char *path, const struct stat *at, int kind, struct FTW *where)
{
    (void)at;
    (void)kind;
    (void)where;
    return remove(path);
}

static int make_root(void **state)
{
    (void)state;
    const char *tmp = getenv("TMPDIR");
    (void)snprintf(root, sizeof root, "%s/room-XXXXXX", tmp ? tmp : "/tmp");
    return mkdtemp(root) ? 0 : -1;
}

static int remove_root(void **state)
{
    (void)state;
    return nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void plant_bytes(const char *name, const char *bytes, size_t count)
{
    char path[600];
    int n = snprintf(path, sizeof path, "%s%s", root, name);
    assert_true(n > 0 && (size_t)n < sizeof path);
    for (char *slash = path + strlen(root); (slash = strchr(slash + 1, '/'));) {
        *slash = '\0';
        assert_true(mkdir(path, 0700) == 0 || errno == EEXIST);
        *slash = '/';
    }
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, count), count);
    assert_int_equal(close(fd), 0);
}

static void plant(const char *name, const char *text)
{
    plant_bytes(name, text, strlen(text));
}

static void plant_node(void)
{
    plant("/proc/meminfo", "MemTotal:       33554432 kB\nMemFree:   1 kB\n"
                           "MemAvailable:   16777216 kB\nCommitLimit:   9437184 kB\n"
                           "Committed_AS:    1048576 kB\n");
}

static void check(int64_t bytes)
{
    assert_int_equal(as_room_memory_below(root), bytes);
}

static void test_node(void **state)
{
    (void)state;
    check(0);
    plant_node();
    check(16 * GIB);
    plant("/proc/sys/vm/overcommit_memory", "0\n");
    check(16 * GIB);
    plant("/proc/sys/vm/overcommit_memory", "2\n");
    check(8 * GIB);
    plant("/proc/meminfo", "MemAvailable: 0 kB\n");
    check(1);
}

static void test_v2(void **state)
{
    (void)state;
    plant_node();
    plant("/proc/self/cgroup", "0::/a/b\n");
    check(16 * GIB);
    plant("/sys/fs/cgroup/a/b/memory.max", "max\n");
    check(16 * GIB);
    plant("/sys/fs/cgroup/a/b/memory.max", "4294967296\n");
    check(4 * GIB);
    plant("/sys/fs/cgroup/a/b/memory.current", "3221225472\n");
    check(1 * GIB);
    /* The same words in longer ones are not meant. */
    plant("/sys/fs/cgroup/a/b/memory.stat",
          "anon 5\nnot_inactive_file 7\ninactive_file_x 9\ninactive_file 2147483648\n");
    check(3 * GIB);
    plant("/sys/fs/cgroup/a/memory.max", "8589934592\n");
    plant("/sys/fs/cgroup/a/memory.current", "6442450944\n");
    check(2 * GIB);
    plant("/sys/fs/cgroup/memory.max", "1073741824\n");
    check(1 * GIB);
    plant("/sys/fs/cgroup/memory.high", "1000000\n");
    check(1000000);
    plant("/sys/fs/cgroup/memory.current", "2000000\n");
    check(1);
    /* More cache than is used: all of it is free. */
    plant("/sys/fs/cgroup/memory.stat", "inactive_file 3000000\n");
    check(1000000);
    plant("/sys/fs/cgroup/memory.high", "0\n");
    check(1);
}

static void test_v1(void **state)
{
    (void)state;
    plant_node();
    plant("/proc/self/cgroup", "9:name=systemd:/\n8:hugetlb,memory:/slurm/job:1/step\n0::/\n");
    plant("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    plant("/sys/fs/cgroup/memory/memory.usage_in_bytes", "1766629376\n");
    plant("/sys/fs/cgroup/memory/slurm/job:1/step/memory.usage_in_bytes", "5\n");
    check(16 * GIB);
    plant("/sys/fs/cgroup/memory/slurm/job:1/memory.limit_in_bytes", "4294967296\n");
    plant("/sys/fs/cgroup/memory/slurm/job:1/memory.usage_in_bytes", "3221225472\n");
    check(1 * GIB);
    plant("/sys/fs/cgroup/memory/slurm/job:1/memory.stat",
          "inactive_file 5\ntotal_inactive_file 1073741824\n");
    check(2 * GIB);
    plant("/sys/fs/cgroup/memory/slurm/job:1/step/memory.limit_in_bytes", "12345678\n");
    check(12345673);
    plant("/proc/self/cgroup", "8:cpu,memoryx:/slurm/job:1/step\n");
    check(16 * GIB);
}

/* A container sees its own groups alone, by a path that is the node's. */
static void test_container(void **state)
{
    (void)state;
    plant_node();
    plant("/proc/self/cgroup", "0::/docker/1234/inner/most\n4:memory:/docker/1234\n");
    plant("/sys/fs/cgroup/inner/most/memory.current", "0\n");
    plant("/sys/fs/cgroup/memory.max", "6442450944\n");
    check(6 * GIB);
    plant("/sys/fs/cgroup/inner/memory.max", "5368709120\n");
    check(5 * GIB);
    plant("/sys/fs/cgroup/inner/most/memory.max", "4294967296\n");
    check(4 * GIB);
    plant("/sys/fs/cgroup/memory/memory.limit_in_bytes", "3221225472\n");
    check(3 * GIB);
    plant("/sys/fs/cgroup/unified/memory.max", "2147483648\n");
    check(2 * GIB);
}

static void test_limits(void **state)
{
    (void)state;
    int64_t page = sysconf(_SC_PAGESIZE);
    plant_node();
    plant("/proc/self/statm", "100 90 80 70 0 60 0\n");
    check(16 * GIB);
    for (int i = 0; i < 2; i++) {
        struct rlimit before;
        assert_int_equal(getrlimit(i == 0 ? RLIMIT_AS : RLIMIT_DATA, &before), 0);
        struct rlimit tight = before;
        /* More than a sanitizer takes, and less than the node has by these files. */
        tight.rlim_cur = (rlim_t)1 << 46;
        plant("/proc/meminfo", "MemAvailable: 999999999999999 kB\n");
        if (tight.rlim_cur > before.rlim_max ||
            setrlimit(i == 0 ? RLIMIT_AS : RLIMIT_DATA, &tight) != 0) {
            skip();
        }
        int64_t room = as_room_memory_below(root);
        assert_int_equal(setrlimit(i == 0 ? RLIMIT_AS : RLIMIT_DATA, &before), 0);
        assert_int_equal(room, (INT64_C(1) << 46) - (i == 0 ? 100 : 60) * page);
    }
}

/* None of it makes sense; nothing is believed, and nothing crashes. */
static void test_garbled(void **state)
{
    static const char *const files[] = {"/proc/meminfo",
                                        "/proc/self/cgroup",
                                        "/proc/self/statm",
                                        "/proc/sys/vm/overcommit_memory",
                                        "/sys/fs/cgroup/memory.max",
                                        "/sys/fs/cgroup/memory.current",
                                        "/sys/fs/cgroup/memory.stat"};
    static const char *const texts[] = {
        "",
        "\n",
        ":",
        "::",
        "0::",
        "0:",
        "0::\n::\n:",
        "0::a/b\n",
        "0::/",
        "0::////\n",
        "0::/../../..\n",
        "-1\n",
        "max",
        "memory",
        "MemAvailable:",
        "MemAvailable: \n",
        "MemAvailable: -5 kB\n",
        "MemAvailableX: 5 kB\n",
        "inactive_file",
        "inactive_file \n",
        "a b c d e f g\n",
        "1",
        "1 2 3\n",
    };
    enum { FILES = (int)(sizeof files / sizeof *files), LONG = 300000 };
    (void)state;
    for (int i = 0; i < FILES; i++) {
        for (size_t k = 0; k < sizeof texts / sizeof *texts; k++) {
            plant(files[i], texts[k]);
            assert_true(as_room_memory_below(root) >= 0);
        }
    }
    char *bytes = malloc(LONG);
    assert_non_null(bytes);
    uint64_t seed = 88172645463325252U;
    for (int round = 0; round < 42; round++) {
        for (int i = 0; i < LONG; i++) {
            static const char some[] = "0:/,m\n aMemAvilb9 \t";
            seed = seed * 6364136223846793005U + 1442695040888963407U;
            bytes[i] = round % 3 == 0   ? (char)(seed >> 56)
                       : round % 3 == 1 ? some[(seed >> 40) % (sizeof some - 1)]
                                        : "0::/"[i < 4 ? i : 3];
        }
        plant_bytes(files[round % FILES], bytes, round % 2 ? LONG : 5000);
        assert_true(as_room_memory_below(root) >= 0);
    }
    free(bytes);
    plant("/proc/meminfo", "MemAvailable: 99999999999999999999999 kB\n");
    for (int i = 1; i < FILES; i++) {
        plant(files[i], "x\n");
    }
    check(INT64_MAX);
    plant("/proc/meminfo", "MemAvailable: 9223372036854775807 kB\n");
    check(INT64_MAX);
    /* A folder where a file should be. */
    plant("/proc/self/cgroup", "0::/\n");
    plant("/sys/fs/cgroup/memory.high/x", "5\n");
    check(INT64_MAX);
}

/* This machine's own. */
static void test_here(void **state)
{
    (void)state;
    int64_t bytes = as_room_memory();
    print_message("room for %lld MiB, %d processors\n", (long long)(bytes >> 20),
                  as_room_processors());
    assert_true(bytes > 0);
    as_cpus cpus;
    assert_true(as_cpus_of_thread(&cpus));
    assert_int_equal(as_room_processors(), as_cpus_count(&cpus));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_node, make_root, remove_root),
        cmocka_unit_test_setup_teardown(test_v2, make_root, remove_root),
        cmocka_unit_test_setup_teardown(test_v1, make_root, remove_root),
        cmocka_unit_test_setup_teardown(test_container, make_root, remove_root),
        cmocka_unit_test_setup_teardown(test_limits, make_root, remove_root),
        cmocka_unit_test_setup_teardown(test_garbled, make_root, remove_root),
        cmocka_unit_test(test_here),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
