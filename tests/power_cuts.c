/* SPDX-License-Identifier: Apache-2.0
 * Real power cuts: saves over the checkpoint before on a file system that is shut down in the middle
 * without writing back its log (FS_IOC_SHUTDOWN), mounted again, loaded, recovered and compared.
 *   mpirun -n 2 power_cuts DEVICE MOUNTPOINT TYPE CUTS SEED BYTES
 *     DEVICE  with a file system of that TYPE, not mounted
 *     BYTES   of a tensor
 * Half of the cuts come at a random time, half at a random system call of a random rank. Prints one
 * line that begins with "cuts:". Both outcomes must occur.
 */
/* needs: mpi */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <time.h>
#include <unistd.h>

#include "base/sys.h"
#include "checkpoint_folder.h"
#include "commit/recover.h"
#include "support_ranks.h"
#include "support_snapshot.h"
#include "support_versions.h"

enum { PATIENCE_MS = 10000, WARM = 6, HANG_SECONDS = 900 };

static const char *device;
static const char *mount_point;
static const char *type;
static char directory[512];
static uint64_t dice;

/* The same on all ranks. */
static uint64_t next_random(uint64_t below)
{
    dice ^= dice << 13;
    dice ^= dice >> 7;
    dice ^= dice << 17;
    return dice % below;
}

/* ---- the cut ---- */

static struct {
    int fd; /* of the root of the file system */
    double delay;
    bool timed;
    int at;           /* at this call of this rank; 0: not */
    atomic_int calls; /* so far */
    atomic_bool done;
} cut;

static void shut_down(void)
{
    uint32_t no_log_flush = 2;
    if (!atomic_exchange(&cut.done, true)) {
        /* FS_IOC_SHUTDOWN, which older headers lack. */
        CHECK_TEXT(ioctl(cut.fd, _IOR('X', 125, uint32_t), &no_log_flush) == 0, "%s: shutdown: %s",
                   type, strerror(errno));
    }
}

static void count_call(void)
{
    if (atomic_fetch_add(&cut.calls, 1) + 1 == cut.at) {
        shut_down();
    }
}

static as_sys real;

static int cut_openat(int folder, const char *path, int flags, mode_t mode)
{
    count_call();
    return real.openat(folder, path, flags, mode);
}

static ssize_t cut_pwrite(int fd, const void *bytes, size_t count, off_t offset)
{
    count_call();
    return real.pwrite(fd, bytes, count, offset);
}

/* Before or after it: both are moments of their own. */
static int cut_fsync(int fd)
{
    count_call();
    int result = real.fsync(fd);
    int reason = errno;
    count_call();
    errno = reason;
    return result;
}

static int cut_mkdirat(int folder, const char *path, mode_t mode)
{
    count_call();
    return real.mkdirat(folder, path, mode);
}

static int cut_unlinkat(int folder, const char *path, int flags)
{
    count_call();
    return real.unlinkat(folder, path, flags);
}

static int cut_renameat(int from_folder, const char *from, int to_folder, const char *to)
{
    count_call();
    return real.renameat(from_folder, from, to_folder, to);
}

static int cut_linkat(int from_folder, const char *from, int to_folder, const char *to, int flags)
{
    count_call();
    return real.linkat(from_folder, from, to_folder, to, flags);
}

static int cut_symlinkat(const char *target, int folder, const char *path)
{
    count_call();
    return real.symlinkat(target, folder, path);
}

static int cut_fallocate(int fd, int mode, off_t offset, off_t count)
{
    count_call();
    return real.fallocate(fd, mode, offset, count);
}

static int cut_uring_submit(struct io_uring *ring)
{
    count_call();
    return real.uring_submit(ring);
}

static void install(void)
{
    real = as_sys_table;
    as_sys_table.openat = cut_openat;
    as_sys_table.pwrite = cut_pwrite;
    as_sys_table.fsync = cut_fsync;
    as_sys_table.mkdirat = cut_mkdirat;
    as_sys_table.unlinkat = cut_unlinkat;
    as_sys_table.renameat = cut_renameat;
    as_sys_table.linkat = cut_linkat;
    as_sys_table.symlinkat = cut_symlinkat;
    as_sys_table.fallocate = cut_fallocate;
    as_sys_table.uring_submit = cut_uring_submit;
}

static void *cut_in_time(void *unused)
{
    struct timespec t = {.tv_sec = (time_t)cut.delay,
                         .tv_nsec = (long)((cut.delay - (double)(time_t)cut.delay) * 1e9)};
    (void)nanosleep(&t, NULL);
    shut_down();
    return unused;
}

/* ---- mounting ---- */

static void pause_ms(long ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    (void)nanosleep(&t, NULL);
}

/* Collective, like unmount_all. */
static void mount_all(void)
{
    if (world_rank() == 0) {
        CHECK_TEXT(mount(device, mount_point, type, 0, NULL) == 0, "mount %s: %s", device,
                   strerror(errno));
    }
    ranks_wait(world_comm());
    struct stat here;
    struct stat above;
    struct stat top;
    cut.fd = open(mount_point, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK(cut.fd >= 0 && fstat(cut.fd, &here) == 0 && fstatat(cut.fd, "..", &above, 0) == 0 &&
          stat("/", &top) == 0);
    /* Nothing else is to be shut down, whatever comes between. */
    CHECK_TEXT(here.st_dev != above.st_dev && here.st_dev != top.st_dev,
               "%s is not a file system of its own", mount_point);
}

/* The kernel may hold on for a moment to what an io_uring had open. That nothing of the library's
 * is open shows in that it comes off at all. */
static void unmount_all(void)
{
    (void)close(cut.fd);
    ranks_wait(world_comm());
    if (world_rank() == 0) {
        int result = -1;
        for (int ms = 0; ms < PATIENCE_MS && result < 0; ms += 10) {
            result = umount2(mount_point, 0);
            if (result < 0) {
                pause_ms(10);
            }
        }
        CHECK_TEXT(result == 0, "umount %s: %s", mount_point, strerror(errno));
    }
    ranks_wait(world_comm());
}

/* ---- one cut ---- */

enum outcome { FAILED_OLD, UNKNOWN_OLD, UNKNOWN_NEW, PENDING_NEW, GOOD_NEW, OUTCOMES };

static const char *const outcome_names[] = {"failed, old", "unknown, old", "unknown, new",
                                            "pending, new", "good, new"};

/* How a save is made: the sizes of the shards change, and with them the names. */
static int save(versions *v, int version, const char *to)
{
    static const char *const engines[] = {"posix", "direct", "uring"};
    char limit[32];
    int64_t tensor = v->rows * v->columns;
    (void)snprintf(limit, sizeof limit, "%lld", (long long)(tensor * (1 + version % 4) + 1000));
    return versions_save(v, version, to, limit, engines[version / 4 % 3]);
}

static enum outcome outcome_of(int code, bool is_new)
{
    if (code == ALLSHARD_OK) {
        return GOOD_NEW;
    }
    if (code == ALLSHARD_PENDING) {
        return PENDING_NEW;
    }
    if (code == ALLSHARD_UNKNOWN) {
        return is_new ? UNKNOWN_NEW : UNKNOWN_OLD;
    }
    return FAILED_OLD;
}

static void check_code(const versions *v, int code)
{
    allshard_error e = {.size = sizeof e};
    CHECK(ranks_max(world_comm(), code) == code && -ranks_max(world_comm(), -code) == code);
    if (code != ALLSHARD_OK) {
        CHECK(allshard_last_error(v->as, &e) == code && e.text && *e.text);
        CHECK_TEXT(code == ALLSHARD_SYSTEM || code == ALLSHARD_PENDING || code == ALLSHARD_UNKNOWN,
                   "%s: %s", allshard_error_name(code), e.text);
    }
}

/* The files that this save makes, exactly; in the same place, for the manifest tells of it. */
static void make_reference(versions *v, int version, snapshot *out)
{
    char reference[600];
    (void)snprintf(reference, sizeof reference, "%s/reference", mount_point);
    GOOD(v->as, save(v, version, reference));
    ranks_wait(world_comm());
    if (world_rank() == 0) {
        CHECK(snapshot_take(out, reference));
        snapshot_forget_time(out);
        remove_tree(reference);
    }
    ranks_wait(world_comm());
}

static void recover_and_compare(const snapshot *expected, bool is_new)
{
    as_error e = AS_ERROR_INIT;
    snapshot found;
    int code = as_recover(directory, false, 0, NULL, NULL, &e);
    CHECK_TEXT(code == AS_OK, "recover: %s", as_error_text(&e));
    CHECK(snapshot_take(&found, directory));
    if (is_new) {
        snapshot_forget_time(&found);
    }
    CHECK_TEXT(snapshot_same(&found, expected), "after the recovery there is %s",
               snapshot_difference(&found, expected));
    snapshot_free(&found);
}

static enum outcome one_cut(versions *v, int old, int new, const snapshot *before,
                            const snapshot *after, bool *had_leftovers)
{
    pthread_t cutter;
    bool is_cutter = cut.timed && world_rank() == 0;
    ranks_wait(world_comm());
    if (is_cutter) {
        CHECK(pthread_create(&cutter, NULL, cut_in_time, NULL) == 0);
    }
    int code = save(v, new, directory);
    check_code(v, code);
    if (is_cutter) {
        CHECK(pthread_join(cutter, NULL) == 0);
    }
    ranks_wait(world_comm());
    int done = (int)ranks_max(world_comm(), atomic_load(&cut.done));
    if (!done && world_rank() == 0) {
        shut_down();
    }
    cut.at = 0;
    unmount_all();
    mount_all();
    char meta[600];
    (void)snprintf(meta, sizeof meta, "%s/.allshard", directory);
    *had_leftovers = access(meta, F_OK) == 0;
    int seen = versions_load(v, directory, false);
    CHECK_TEXT(seen == old || seen == new, "version %d is neither the old one nor the new", seen);
    enum outcome outcome = outcome_of(code, seen == new);
    bool may_be_old = outcome == FAILED_OLD || outcome == UNKNOWN_OLD;
    CHECK_TEXT((seen == old) == may_be_old, "the save said %s, but the %s checkpoint is there",
               allshard_error_name(code), seen == old ? "old" : "new");
    ranks_wait(world_comm());
    if (world_rank() == 0) {
        recover_and_compare(seen == old ? before : after, seen == new);
    }
    ranks_wait(world_comm());
    CHECK(versions_load(v, directory, false) == seen);
    return outcome;
}

/* How long a save takes, and of how many calls on this rank it is made. */
static void measure(versions *v, double *seconds, int *calls, int *version)
{
    *seconds = 0;
    *calls = 1;
    for (int i = 0; i < WARM; i++) {
        double begin = seconds_now();
        atomic_store(&cut.calls, 0);
        GOOD(v->as, save(v, ++*version, directory));
        ranks_wait(world_comm());
        *seconds += (seconds_now() - begin) / WARM;
        *calls = atomic_load(&cut.calls) > *calls ? atomic_load(&cut.calls) : *calls;
    }
}

static void aim(int i, double seconds, int calls)
{
    uint64_t thousandth = next_random(1000);
    int who = (int)next_random((uint64_t)world_size());
    /* The main process does more, and what counts. */
    who = next_random(2) ? 0 : who;
    cut.timed = i % 2 == 0;
    cut.delay = seconds * 1.15 * (double)thousandth / 1000;
    cut.at = !cut.timed && who == world_rank() ? 1 + (int)((uint64_t)calls * thousandth / 1000) : 0;
    atomic_store(&cut.calls, 0);
    atomic_store(&cut.done, false);
}

int main(int argc, char **argv)
{
    ranks_start(&argc, &argv, HANG_SECONDS);
    CHECK_TEXT(argc == 7, "usage: power_cuts DEVICE MOUNTPOINT TYPE CUTS SEED BYTES");
    device = argv[1];
    mount_point = argv[2];
    type = argv[3];
    int cuts = (int)strtol(argv[4], NULL, 10);
    dice = strtoull(argv[5], NULL, 10) * 0x9E3779B97F4A7C15U + 1;
    (void)snprintf(directory, sizeof directory, "%s/run/checkpoint", mount_point);
    install();
    versions v;
    versions_open(&v, strtoll(argv[6], NULL, 10));
    mount_all();
    int version = 0;
    double seconds;
    int calls;
    measure(&v, &seconds, &calls, &version);
    int64_t counts[OUTCOMES] = {0};
    int64_t leftovers = 0;
    int old = version;
    for (int i = 0; i < cuts; i++) {
        version = version % 200 + 1;
        snapshot before = SNAPSHOT_INIT;
        snapshot after = SNAPSHOT_INIT;
        bool had_leftovers;
        make_reference(&v, version, &after);
        if (world_rank() == 0) {
            CHECK(snapshot_take(&before, directory));
        }
        aim(i, seconds, calls);
        enum outcome outcome = one_cut(&v, old, version, &before, &after, &had_leftovers);
        counts[outcome]++;
        leftovers += had_leftovers;
        old = outcome == FAILED_OLD || outcome == UNKNOWN_OLD ? old : version;
        snapshot_free(&before);
        snapshot_free(&after);
    }
    unmount_all();
    versions_close(&v);
    if (world_rank() == 0) {
        (void)printf("cuts: %s: %d; ", type, cuts);
        for (int i = 0; i < OUTCOMES; i++) {
            (void)printf("%s: %lld; ", outcome_names[i], (long long)counts[i]);
        }
        (void)printf("with leftovers: %lld; a save takes %.1f ms and %d calls\n",
                     (long long)leftovers, seconds * 1e3, calls);
        int64_t olds = counts[FAILED_OLD] + counts[UNKNOWN_OLD];
        CHECK_TEXT(olds > 0 && olds < cuts, "only one outcome occurred");
    }
    return ranks_end();
}
