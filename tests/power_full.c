/* SPDX-License-Identifier: Apache-2.0
 * Saves on a disk that is full to several levels, on all ranks: the save succeeds, or all ranks say
 * that the disk is full; then the old checkpoint is there bit for bit, nothing of the save is left,
 * as much is free as before, loads work, and the next save does when there is room.
 *   mpirun -n 3 power_full FOLDER WHAT LEVELS BYTES SLACK [nonblocking|late]
 *     FOLDER  on a small file system that nobody else uses
 *     WHAT    "bytes", "inodes", or "fsync": write takes everything there and fsync fails
 *     BYTES   of a tensor
 *     SLACK   bytes of its own tables that a file system may keep
 *     nonblocking  the saves are; late: and the disk is filled when they are in flight
 * Prints one line that begins with "full:".
 */
/* needs: mpi */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "checkpoint_folder.h"
#include "commit/recover.h"
#include "support_ranks.h"
#include "support_snapshot.h"
#include "support_versions.h"

enum {
    PAGE = 4096,
    MOST_FILLERS = 100000,
    HANG_SECONDS = 600,
    PATIENCE_MS = 5000,
    LARGEST_DISK = 1 << 30
};

static const char *folder;
static char directory[512];
static int root; /* the folder, open: what fills it never fills another file system */
static int64_t slack;

static enum { BLOCKING, NONBLOCKING, LATE } how;

static const char filler[] = "filler";

/* The root of a small file system that is not the machine's own, or the end: a disk that others use
 * must not be filled. */
static void open_root(void)
{
    struct stat here;
    struct stat above;
    struct stat top;
    struct statvfs s;
    root = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK(root >= 0 && fstat(root, &here) == 0 && fstatat(root, "..", &above, 0) == 0 &&
          stat("/", &top) == 0 && fstatvfs(root, &s) == 0);
    CHECK_TEXT(here.st_dev != above.st_dev && here.st_dev != top.st_dev &&
                   (int64_t)s.f_blocks * (int64_t)s.f_frsize < LARGEST_DISK,
               "%s is not a small file system of its own", folder);
}

/* ---- filling the disk; the main process's doing ---- */

static struct statvfs status_now(void)
{
    struct statvfs s;
    (void)syncfs(root); /* what is freed later by itself */
    CHECK(fstatvfs(root, &s) == 0);
    return s;
}

static int64_t free_bytes(void)
{
    struct statvfs s = status_now();
    return (int64_t)s.f_bavail * (int64_t)s.f_frsize;
}

/* Takes so many bytes at the end of the file; false if there are not as many. */
static bool take_bytes(int fd, int64_t at, int64_t count)
{
    static char zeros[PAGE];
    if (fallocate(fd, 0, at, count) == 0) {
        return true;
    }
    if (errno != EOPNOTSUPP) {
        return false;
    }
    for (int64_t done = 0; done < count; done += PAGE) {
        if (pwrite(fd, zeros, PAGE, at + done) != PAGE) {
            return false;
        }
    }
    return true;
}

/* Until no more than `leave` bytes are free, or until nothing can be had any more. */
static void fill_bytes(int64_t leave)
{
    int fd = openat(root, filler, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    struct stat status;
    int64_t most = INT64_MAX;
    CHECK(fd >= 0);
    while (most >= PAGE) {
        int64_t step = free_bytes() - leave;
        step = step < most ? step : most;
        step -= step % PAGE;
        if (step < PAGE) {
            break;
        }
        CHECK(fstat(fd, &status) == 0);
        if (!take_bytes(fd, status.st_size, step)) {
            most = step / 2;
        }
    }
    CHECK(close(fd) == 0);
}

/* Until no more than `leave` files can be made. */
static void fill_inodes(int64_t leave)
{
    CHECK(mkdirat(root, filler, 0700) == 0);
    for (int i = 0; i < MOST_FILLERS; i++) {
        char path[64];
        struct statvfs s = status_now();
        if ((int64_t)s.f_favail <= leave) {
            return;
        }
        (void)snprintf(path, sizeof path, "%s/%d", filler, i);
        int fd = openat(root, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        CHECK(fd >= 0 && close(fd) == 0);
    }
    CHECK_TEXT(false, "%s never runs out of files", folder);
}

/* ---- what must hold ---- */

static void check_error(const versions *v, int code, const char *word)
{
    allshard_error e = {.size = sizeof e};
    (void)allshard_last_error(v->as, &e);
    static const char *const bytes[] = {"No space left", "make room", NULL};
    CHECK_TEXT(e.rank >= 0 && strstr(e.text, directory) != NULL, "no file is named: %s", e.text);
    for (const char *const *piece = bytes; !word && *piece; piece++) {
        CHECK_TEXT(strstr(e.text, *piece) != NULL, "\"%s\" is not in: %s", *piece, e.text);
    }
    if (word) {
        const char *pieces[] = {directory, word, NULL};
        check_fails(__FILE__, __LINE__, world_comm(), v->as, code, ALLSHARD_SYSTEM, pieces);
    } else {
        check_fails(__FILE__, __LINE__, world_comm(), v->as, code, ALLSHARD_SYSTEM, bytes);
    }
}

static void check_free(const struct statvfs *before)
{
    struct statvfs now = status_now();
    int64_t bytes = 0;
    for (int ms = 0; ms < PATIENCE_MS; ms += 50) {
        now = status_now();
        bytes = ((int64_t)before->f_bfree - (int64_t)now.f_bfree) * (int64_t)now.f_frsize;
        if (bytes <= slack && now.f_ffree >= before->f_ffree) {
            return;
        }
        (void)nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    }
    CHECK_TEXT(now.f_ffree >= before->f_ffree, "%lld files fewer are free",
               (long long)before->f_ffree - (long long)now.f_ffree);
    CHECK_TEXT(bytes <= slack, "%lld bytes fewer are free", (long long)bytes);
}

static void check_recover(enum as_recover_outcome expected)
{
    as_error e = AS_ERROR_INIT;
    as_recover_report report = AS_RECOVER_REPORT_INIT;
    int code = as_recover(directory, false, 0, &report, NULL, &e);
    CHECK_TEXT(code == AS_OK, "recover: %s", as_error_text(&e));
    CHECK(report.outcome == expected);
    as_recover_report_free(&report);
}

static void check_same(const snapshot *expected)
{
    snapshot found;
    CHECK(snapshot_take(&found, directory));
    CHECK_TEXT(snapshot_same(&found, expected), "there is %s",
               snapshot_difference(&found, expected));
    snapshot_free(&found);
}

/* What is to be done to the disk, by the main process. */
typedef struct filling {
    void (*fill)(int64_t leave);
    int64_t leave;
} filling;

static void fill_now(void *user)
{
    const filling *f = user;
    if (world_rank() == 0) {
        f->fill(f->leave);
    }
}

/* `f`: when it is in flight; or NULL. */
static int save(versions *v, int version, filling *f)
{
    static const char *const engines[] = {"posix", "direct", "uring"};
    char limit[32];
    (void)snprintf(limit, sizeof limit, "%lld",
                   (long long)(v->rows * v->columns * (1 + version % 3) + 1000));
    const char *engine = engines[version % 3];
    return how == BLOCKING
               ? versions_save(v, version, directory, limit, engine)
               : versions_isave(v, version, directory, limit, engine, f ? fill_now : NULL, f);
}

/* ---- levels ---- */

/* Bytes that are left free: nothing, hardly anything, parts of what is needed, all but a little,
 * a little more. */
static int64_t level(int i, int levels, int64_t need)
{
    static const int64_t few[] = {0, 1, 2, 3, 5, 8};
    static const int64_t near[] = {-64 * 1024, -16 * 1024, -8192, -4096, 0, 8192, 512 * 1024};
    int first = (int)(sizeof few / sizeof *few);
    int last = (int)(sizeof near / sizeof *near);
    if (i < first) {
        return few[i] * PAGE;
    }
    if (i >= levels - last) {
        return need + near[i - (levels - last)];
    }
    return need * (i - first + 1) / (levels - last - first + 1);
}

static void remove_filler(void)
{
    char path[600];
    (void)snprintf(path, sizeof path, "%s/%s", folder, filler);
    remove_tree(path);
    (void)unlink(path);
}

/* One save on the full disk. True: it was good. */
static bool one_level(versions *v, int *version, filling *f)
{
    snapshot old = SNAPSHOT_INIT;
    struct statvfs before = {0};
    if (world_rank() == 0) {
        if (how != LATE) {
            f->fill(f->leave);
        }
        CHECK(snapshot_take(&old, directory));
        before = status_now();
    }
    ranks_wait(world_comm());
    int code = save(v, *version + 1, how == LATE ? f : NULL);
    if (code != ALLSHARD_OK) {
        check_error(v, code, NULL);
    }
    ranks_wait(world_comm());
    int there = *version + (code == ALLSHARD_OK);
    CHECK(versions_load(v, directory, false) == there);
    if (world_rank() == 0) {
        if (how == LATE) {
            remove_filler();
        }
        if (code != ALLSHARD_OK) {
            check_same(&old);
            check_free(&before);
        }
        check_recover(AS_RECOVER_NOTHING);
        remove_filler();
    }
    ranks_wait(world_comm());
    GOOD(v->as, save(v, there + 1, NULL));
    CHECK(versions_load(v, directory, false) == there + 1);
    *version = there + 1;
    snapshot_free(&old);
    ranks_wait(world_comm());
    return code == ALLSHARD_OK;
}

static void try_levels(versions *v, const char *what, int levels)
{
    int64_t need = 0;
    int version = 1;
    int good = 0;
    bool inodes = strcmp(what, "inodes") == 0;
    GOOD(v->as, save(v, version, NULL));
    ranks_wait(world_comm());
    if (world_rank() == 0) {
        snapshot s;
        CHECK(snapshot_take(&s, directory));
        for (size_t i = 0; i < s.count; i++) {
            need += (int64_t)(s.files[i].size + PAGE - 1) / PAGE * PAGE;
        }
        snapshot_free(&s);
        /* Lock, folders, journal. */
        need += 6L * PAGE;
    }
    need = ranks_max(world_comm(), need);
    for (int i = 0; i < levels; i++) {
        filling f = {.fill = inodes ? fill_inodes : fill_bytes,
                     .leave = inodes ? i : level(i, levels, need)};
        bool was_good = one_level(v, &version, &f);
        good += was_good;
    }
    if (world_rank() == 0) {
        static const char *const kinds[] = {"saves", "nonblocking saves",
                                            "nonblocking saves in flight"};
        (void)printf("full: %s: %d levels of %s on %d ranks: %d %s failed, %d succeeded\n", folder,
                     levels, what, world_size(), levels - good, kinds[how], good);
        CHECK_TEXT(good > 0 && good < levels, "only one outcome occurred");
    }
}

/* The old checkpoint is small and there; the new one is more than what lies under the disk. */
static void try_fsync(versions *v, int64_t bytes)
{
    versions small;
    versions_open(&small, 10000);
    GOOD(small.as, save(&small, 1, NULL));
    ranks_wait(world_comm());
    snapshot old = SNAPSHOT_INIT;
    CHECK(snapshot_take(&old, directory));
    char limit[32];
    (void)snprintf(limit, sizeof limit, "%lld", (long long)(2 * bytes + 1000));
    int code = versions_save(v, 2, directory, limit, "posix");
    check_error(v, code, "fsync");
    if (world_rank() == 0) {
        allshard_error e = {.size = sizeof e};
        (void)allshard_last_error(v->as, &e);
        (void)printf("full: fsync: %s\n", e.text);
        snapshot found;
        bool can_read = snapshot_view(&found, directory);
        CHECK_TEXT(can_read && snapshot_same(&found, &old), "the old checkpoint: %s",
                   can_read ? snapshot_difference(&found, &old) : strerror(errno));
        snapshot_free(&found);
    }
    ranks_wait(world_comm());
    CHECK(versions_load(&small, directory, false) == 1);
    versions_close(&small);
    snapshot_free(&old);
}

int main(int argc, char **argv)
{
    ranks_start(&argc, &argv, HANG_SECONDS);
    CHECK_TEXT(argc == 6 || argc == 7,
               "usage: power_full FOLDER WHAT LEVELS BYTES SLACK [nonblocking|late]");
    how = argc < 7 ? BLOCKING : strcmp(argv[6], "late") == 0 ? LATE : NONBLOCKING;
    folder = argv[1];
    int64_t bytes = strtoll(argv[4], NULL, 10);
    slack = strtoll(argv[5], NULL, 10);
    (void)snprintf(directory, sizeof directory, "%s/run/checkpoint", folder);
    open_root();
    versions v;
    versions_open(&v, bytes);
    if (strcmp(argv[2], "fsync") == 0) {
        try_fsync(&v, bytes);
    } else {
        try_levels(&v, argv[2], (int)strtol(argv[3], NULL, 10));
    }
    versions_close(&v);
    return ranks_end();
}
