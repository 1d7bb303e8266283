/* SPDX-License-Identifier: Apache-2.0 */
#include "commit/holder.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>

#include "base/clock.h"
#include "base/sys.h"
#include "commit/folder.h"
#include "commit/held.h"

enum { GARBAGE_AGE_MS = 600000 }; /* more than clocks of a cluster differ */

int64_t as_moment_ms(void)
{
    return as_clock() / 1000000;
}

void as_sleep_ms(int64_t ms)
{
    struct timespec t = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};
    while (nanosleep(&t, &t) < 0 && errno == EINTR) {
    }
}

static bool same_file(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

static bool same_moment(struct timespec a, struct timespec b)
{
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

void as_holder_close(as_holder *h)
{
    if (h->fd >= 0) {
        (void)as_sys_table.close(h->fd);
        h->fd = -1;
    }
}

static int fail_open(int meta, const char *path, as_error *e)
{
    int reason = errno;
    struct stat status;
    if (reason == ELOOP || reason == EISDIR || reason == ENXIO) {
        return as_fail(e, AS_INVALID, 0, "%s: this is not a regular file; remove it", path);
    }
    if (reason == EACCES &&
        as_sys_table.fstatat(meta, AS_LOCK_NAME, &status, AT_SYMLINK_NOFOLLOW) == 0) {
        return as_fail(
            e, AS_SYSTEM, reason,
            "%s: cannot open the lock, which user %u made; if no save of that user is at "
            "work, let that user run `allshard recover`",
            path, (unsigned)status.st_uid);
    }
    return as_fail(e, AS_SYSTEM, reason, "%s: cannot open the lock", path);
}

/* Each look opens the file anew: that is what makes an NFS client ask its server. */
int as_holder_look(as_holder *h, int meta, const char *path, as_error *e)
{
    memset(h, 0, sizeof *h);
    /* flock on NFS wants a descriptor that can write; another user's lock cannot be had so. */
    h->fd = as_open(meta, AS_LOCK_NAME, O_RDWR | O_NOFOLLOW | O_NONBLOCK, 0);
    if (h->fd < 0 && (errno == EACCES || errno == EPERM || errno == EROFS)) {
        h->fd = as_open(meta, AS_LOCK_NAME, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
    }
    if (h->fd < 0) {
        return errno == ENOENT ? AS_OK : fail_open(meta, path, e);
    }
    int code = AS_OK;
    if (as_sys_table.fstat(h->fd, &h->status) < 0) {
        code = as_fail(e, AS_SYSTEM, errno, "%s: cannot stat the lock", path);
    } else if (!S_ISREG(h->status.st_mode)) {
        code = as_fail(e, AS_INVALID, 0, "%s: this is not a regular file; remove it", path);
    } else {
        ssize_t got = as_sys_table.pread(h->fd, h->content, sizeof h->content, 0);
        if (got < 0) {
            code = as_fail(e, AS_SYSTEM, errno, "%s: cannot read the lock", path);
        }
        h->size = got > 0 ? (size_t)got : 0;
    }
    if (code == AS_OK) {
        h->newer = as_owner_from_json(h->content, h->size, path, &h->owner, NULL) != AS_OK &&
                   as_owner_is_newer(h->content, h->size);
    } else {
        as_holder_close(h);
    }
    return code;
}

static bool unchanged(const as_holder *a, const as_holder *b)
{
    return a->status.st_size == b->status.st_size &&
           same_moment(a->status.st_mtim, b->status.st_mtim) &&
           same_moment(a->status.st_ctim, b->status.st_ctim) && a->size == b->size &&
           memcmp(a->content, b->content, a->size) == 0;
}

/* Watches for a lease whether the lock gives a sign of life. */
static int watch(const as_holder *first, int meta, const char *path, int64_t lease_ms,
                 enum as_verdict *verdict, as_error *e)
{
    int64_t end = as_moment_ms() + lease_ms;
    int64_t step = lease_ms / 20;
    step = step < 1 ? 1 : step;
    step = step > 500 ? 500 : step;
    *verdict = AS_HOLDER_DEAD;
    while (*verdict == AS_HOLDER_DEAD && as_moment_ms() < end) {
        as_sleep_ms(step);
        as_holder next;
        int code = first->tick.call ? first->tick.call(first->tick.self, e) : AS_OK;
        if (code == AS_OK) {
            code = as_holder_look(&next, meta, path, e);
        }
        if (code != AS_OK) {
            return code;
        }
        if (next.fd < 0 || !same_file(&next.status, &first->status) ||
            (first->owner.pid == 0 && next.owner.pid != 0)) {
            *verdict = AS_HOLDER_CHANGED;
        } else if (!unchanged(first, &next)) {
            *verdict = AS_HOLDER_LIVE;
        }
        as_holder_close(&next);
    }
    return AS_OK;
}

/* A lock is there only with its content, or (as_lock_take without hard links) without it for the
 * blink of an eye. What has been unreadable for so long, by whatever clocks, and was not touched
 * either, was damaged when nobody held it any more, or was emptied by one who could not remove it. */
static bool is_old_garbage(const as_holder *h, int64_t lease_ms)
{
    int64_t age_ms = ((int64_t)time(NULL) - (int64_t)h->status.st_mtim.tv_sec) * 1000;
    return h->owner.pid == 0 && !h->newer && age_ms > GARBAGE_AGE_MS && age_ms > 2 * lease_ms;
}

int as_holder_judge(const as_holder *h, int meta, const char *path, const as_owner *self,
                    int64_t lease_ms, const as_log *log, enum as_verdict *verdict, as_error *e)
{
    switch (as_owner_life(&h->owner, self)) {
    case AS_LIFE_ALIVE:
        *verdict = h->owner.pid == self->pid && !as_held_find(h->status.st_dev, h->status.st_ino)
                       ? AS_HOLDER_DEAD /* ours once: it could not be removed */
                       : AS_HOLDER_LIVE;
        return AS_OK;
    case AS_LIFE_GONE:
        *verdict = AS_HOLDER_DEAD;
        return AS_OK;
    case AS_LIFE_FAR:
        break;
    }
    if (is_old_garbage(h, lease_ms)) {
        *verdict = AS_HOLDER_DEAD;
        return AS_OK;
    }
    lease_ms = lease_ms > h->owner.lease_ms ? lease_ms : h->owner.lease_ms;
    as_log_say(log, AS_LOG_INFO,
               "%s: held by process %" PRId64 " on %s; watching up to %" PRId64
               " ms whether it gives a sign of life",
               path, h->owner.pid, h->owner.pid ? h->owner.host : "an unknown host", lease_ms);
    return watch(h, meta, path, lease_ms, verdict, e);
}

int as_holder_busy(const char *path, const as_owner *owner, as_error *e)
{
    if (owner->pid == 0) {
        return as_fail(
            e, AS_BUSY, 0,
            "%s: another save, perhaps of a newer allshard, holds this folder, by a lock "
            "that cannot be read but is being refreshed; wait until that save ends",
            path);
    }
    return as_fail(e, AS_BUSY, 0,
                   "%s: process %" PRId64
                   " on host %s has held this folder since %s; wait until it "
                   "ends, or save into another folder",
                   path, owner->pid, owner->host, owner->created);
}

bool as_holder_guard(int fd)
{
    int result;
    do {
        result = as_sys_table.flock(fd, LOCK_EX | LOCK_NB);
    } while (result < 0 && errno == EINTR);
    return result == 0;
}

/* Where flock does not work: move the name away, look at what was moved, and put it back if
 * that is somebody's new lock, which came in the moment since the last look. (That
 * somebody refreshes, and learns if it could not be put back.) */
static int break_by_rename(const as_holder *h, int meta, const char *path, const char *unique,
                           bool *broke, as_error *e)
{
    if (as_sys_table.renameat(meta, AS_LOCK_NAME, meta, unique) < 0) {
        return errno == ENOENT
                   ? AS_OK
                   : as_fail(e, AS_SYSTEM, errno, "%s: cannot move the stale lock away", path);
    }
    struct stat moved;
    *broke = as_sys_table.fstatat(meta, unique, &moved, AT_SYMLINK_NOFOLLOW) == 0 &&
             same_file(&moved, &h->status);
    if (!*broke && as_sys_table.linkat(meta, unique, meta, AS_LOCK_NAME, 0) < 0 &&
        errno != EEXIST) {
        /* No hard links here. */
        (void)as_sys_table.renameat(meta, unique, meta, AS_LOCK_NAME);
    }
    (void)as_sys_table.unlinkat(meta, unique, 0);
    return AS_OK;
}

int as_holder_break(const as_holder *h, int meta, const char *path, const char *unique, bool *broke,
                    bool *refused, as_error *e)
{
    *broke = false;
    bool guarded = as_holder_guard(h->fd);
    *refused = !guarded && errno == EWOULDBLOCK;
    if (*refused) {
        return AS_OK;
    }
    struct stat now;
    if (as_sys_table.fstatat(meta, AS_LOCK_NAME, &now, AT_SYMLINK_NOFOLLOW) < 0) {
        return errno == ENOENT ? AS_OK
                               : as_fail(e, AS_SYSTEM, errno, "%s: cannot stat the lock", path);
    }
    if (!same_file(&now, &h->status) || !same_moment(now.st_mtim, h->status.st_mtim)) {
        return AS_OK;
    }
    if (!guarded) {
        return break_by_rename(h, meta, path, unique, broke, e);
    }
    if (as_sys_table.unlinkat(meta, AS_LOCK_NAME, 0) < 0) {
        return as_fail(e, AS_SYSTEM, errno, "%s: cannot remove the stale lock; remove it by hand",
                       path);
    }
    *broke = true;
    return AS_OK;
}
