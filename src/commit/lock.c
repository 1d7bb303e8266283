/* SPDX-License-Identifier: Apache-2.0 */
#include "commit/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/hash.h"
#include "base/quote.h"
#include "base/sys.h"
#include "commit/folder.h"
#include "commit/holder.h"
#include "commit/lock_keep.h"
#include "commit/meta.h"

enum {
    MOST_TRIES = 200, /* of taking it, each lost to another process */
    PAUSE_MS = 5      /* between them */
};

/* What the environment says, in milliseconds; 0 if it says nothing, or nonsense, which is told. */
static int64_t lease_of_environment(const as_log *log)
{
    const char *text = getenv(AS_LEASE_VARIABLE);
    char *end = NULL;
    if (!text || !*text) {
        return 0;
    }
    long long seconds = strtoll(text, &end, 10);
    if (seconds <= 0 || *end != '\0') {
        as_log_say(log, AS_LOG_WARNING,
                   AS_LEASE_VARIABLE " is %s; it must be a whole number of seconds, and %d are "
                                     "taken",
                   as_quote(text, strlen(text)).text, AS_LEASE_DEFAULT_MS / 1000);
        return 0;
    }
    return seconds < AS_LEASE_LARGEST_MS / 1000 ? seconds * 1000 : AS_LEASE_LARGEST_MS;
}

static int64_t lease_or_default(int64_t lease_ms, const as_log *log)
{
    lease_ms = lease_ms > 0 ? lease_ms : lease_of_environment(log);
    return lease_ms > 0 ? lease_ms : AS_LEASE_DEFAULT_MS;
}

/* "first/second" on the heap; NULL without memory. */
static char *join(const char *first, const char *second, as_error *e)
{
    char *path;
    if (!first || asprintf(&path, "%s/%s", first, second) < 0) {
        (void)as_fail_nomem(e);
        return NULL;
    }
    return path;
}

/* Part of a name that no other process uses: of this process and this moment. */
static void unique_name(const as_owner *self, char *out, size_t size)
{
    struct timespec moment;
    (void)clock_gettime(CLOCK_REALTIME, &moment);
    uint64_t seed = (uint64_t)moment.tv_sec * 1000000000U + (uint64_t)moment.tv_nsec;
    (void)snprintf(out, size, "%016" PRIx64, as_hash_seeded(self, sizeof *self, seed).low);
}

/* The holder seems dead, yet its lock is guarded: usually by another breaker, for a moment. A host
 * that stands still, or one that is gone and whose server has not noticed, keeps it longer. */
static int face_guard(as_lock *lock, const as_owner *owner, as_error *e)
{
    int64_t now = as_moment_ms();
    if (lock->refused == 0) {
        lock->refused = now;
    }
    if (now - lock->refused <= 2 * lock->lease_ms) {
        return AS_OK;
    }
    return as_fail(e, AS_BUSY, 0,
                   "%s: process %" PRId64
                   " on host %s gives no sign of life, but the file system still keeps that "
                   "host's file lock on it. If the host stands still, it may go on: wait for it. "
                   "If it is dead, wait until the file system has noticed, or remove this lock "
                   "by hand",
                   lock->path, owner->pid, owner->pid ? owner->host : "unknown");
}

/* Looks at the lock if there is one and breaks it if its holder is dead. *again: the name
 * may be free now, or has changed. */
static int face_holder(as_lock *lock, const as_owner *self, const char *unique, const as_log *log,
                       bool *again, as_error *e)
{
    *again = false;
    as_holder holder;
    int code = as_holder_look(&holder, lock->meta, lock->path, e);
    if (code != AS_OK || holder.fd < 0) {
        return code;
    }
    *again = true;
    holder.tick = lock->tick;
    enum as_verdict verdict;
    code = as_holder_judge(&holder, lock->meta, lock->path, self, lock->lease_ms, log, &verdict, e);
    if (code == AS_OK && verdict == AS_HOLDER_LIVE) {
        code = as_holder_busy(lock->path, &holder.owner, e);
    } else if (code == AS_OK && verdict == AS_HOLDER_DEAD) {
        bool broke;
        bool refused;
        code = as_holder_break(&holder, lock->meta, lock->path, unique, &broke, &refused, e);
        if (code == AS_OK && broke) {
            lock->broke_stale = true;
            lock->before = holder.owner;
        }
        if (code == AS_OK && refused) {
            code = face_guard(lock, &holder.owner, e);
        }
    }
    as_holder_close(&holder);
    return code;
}

/* If our file lies under the name, the name goes. */
static int remove_if_ours(const as_lock *lock, as_error *e)
{
    (void)as_lock_flock(lock);
    struct stat now;
    bool there = as_sys_table.fstatat(lock->meta, AS_LOCK_NAME, &now, AT_SYMLINK_NOFOLLOW) == 0;
    if (there &&
        (!as_lock_is_ours(lock, &now) || as_sys_table.unlinkat(lock->meta, AS_LOCK_NAME, 0) == 0)) {
        return AS_OK;
    }
    if (errno == ENOENT) {
        return AS_OK;
    }
    int reason = errno;
    /* This process lives on and others would take it for the holder: an empty lock names
     * nobody and is stale after a lease. */
    (void)as_sys_table.ftruncate(lock->fd, 0);
    return as_fail(e, AS_SYSTEM, reason, "%s: cannot remove the lock; remove it by hand",
                   lock->path);
}

/* Learns the identity of the file that is to be the lock. */
static int identify(as_lock *lock, as_error *e)
{
    struct stat status;
    if (as_sys_table.fstat(lock->fd, &status) < 0) {
        return as_fail(e, AS_SYSTEM, errno, "%s: cannot stat a new lock", lock->path);
    }
    lock->held.device = status.st_dev;
    lock->held.inode = status.st_ino;
    return AS_OK;
}

/* Writes who we are into the new file. */
static int fill(const as_lock *lock, const as_owner *self, as_error *e)
{
    as_buffer text = AS_BUFFER_INIT;
    int code = as_owner_to_json(self, &text, e);
    if (code == AS_OK) {
        code = as_write_all(lock->fd, text.data, text.size, 0, lock->path, e);
    }
    as_buffer_free(&text);
    return code == AS_OK ? as_sync(lock->fd, lock->path, e) : code;
}

static void drop_file(as_lock *lock)
{
    as_held_drop(&lock->held);
    (void)as_sys_table.close(lock->fd);
    lock->fd = -1;
}

/* A new file; fd -1 without an error if the name is there, or .allshard/ went away. */
static int open_new(as_lock *lock, const char *name, as_error *e)
{
    struct stat status;
    lock->fd = as_open(lock->meta, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0644);
    if (lock->fd >= 0 || errno == ENOENT || errno == EEXIST || errno == ESTALE) {
        return AS_OK;
    }
    int reason = errno;
    if (reason == EACCES && as_sys_table.fstat(lock->meta, &status) == 0) {
        return as_fail(e, AS_SYSTEM, reason,
                       "%s: cannot create a lock in this folder, which user %u made; if no save of "
                       "that user is at work, let that user run `allshard recover`",
                       lock->path, (unsigned)status.st_uid);
    }
    return as_fail(e, AS_SYSTEM, reason, "%s: cannot create a lock", lock->path);
}

/* File systems without hard links: the file is made under its name, which of several only one
 * can do, and is empty for a moment; then nobody takes it for a dead one's. */
static int create_name(as_lock *lock, const as_owner *self, bool *ours, as_error *e)
{
    int code = open_new(lock, AS_LOCK_NAME, e);
    if (code != AS_OK || lock->fd < 0) {
        return code;
    }
    code = identify(lock, e);
    if (code == AS_OK) {
        as_held_add(&lock->held);
        code = fill(lock, self, e);
    }
    *ours = code == AS_OK;
    if (!*ours) {
        (void)as_sys_table.unlinkat(lock->meta, AS_LOCK_NAME, 0);
        drop_file(lock);
    }
    return code;
}

static bool knows_no_links(int reason)
{
    return reason == EPERM || reason == EOPNOTSUPP || reason == ENOSYS || reason == EMLINK;
}

/* Links the file to the name of the lock. *ours says whether it is ours now; *refused: the file
 * system knows no hard links. */
static int link_name(as_lock *lock, const char *unique, bool *ours, bool *refused, as_error *e)
{
    *ours = as_sys_table.linkat(lock->meta, unique, lock->meta, AS_LOCK_NAME, 0) == 0;
    if (*ours) {
        return AS_OK;
    }
    int reason = errno;
    struct stat status;
    if (as_sys_table.fstat(lock->fd, &status) == 0 && status.st_nlink == 2) {
        /* The link was made and only the answer got lost. */
        *ours = true;
        return AS_OK;
    }
    *refused = knows_no_links(reason);
    if (*refused || reason == EEXIST || reason == ENOENT || reason == ESTALE) {
        return AS_OK;
    }
    (void)remove_if_ours(lock, NULL);
    return as_fail(e, AS_SYSTEM, reason, "%s: cannot make this lock, which is a hard link",
                   lock->path);
}

/* Writes our file under its unique name and links it to the name of the lock. *again:
 * somebody else was faster, or .allshard/ went away under our feet. */
static int link_ours(as_lock *lock, const as_owner *self, const char *unique, bool *again,
                     as_error *e)
{
    *again = true;
    int code = open_new(lock, unique, e);
    if (code != AS_OK || lock->fd < 0) {
        return code;
    }
    bool ours = false;
    bool refused = false;
    code = identify(lock, e);
    if (code == AS_OK) {
        code = fill(lock, self, e);
    }
    if (code == AS_OK) {
        /* Before it can be seen: another thread must not take it for a leftover. */
        as_held_add(&lock->held);
        code = link_name(lock, unique, &ours, &refused, e);
    }
    (void)as_sys_table.unlinkat(lock->meta, unique, 0);
    if (!ours) {
        drop_file(lock);
    }
    if (refused) {
        code = create_name(lock, self, &ours, e);
    }
    *again = !ours;
    return code;
}

/* One try. *again: take another. */
static int try_take(as_lock *lock, int folder, const as_owner *self, const as_log *log, bool *again,
                    as_error *e)
{
    *again = true;
    int code = as_meta_make(folder, lock->meta_path, e);
    if (code != AS_OK) {
        return code;
    }
    as_error own = AS_ERROR_INIT;
    code = as_meta_open(folder, lock->meta_path, &lock->meta, &own);
    if (code == AS_NOT_FOUND) {
        as_error_clear(&own);
        return AS_OK;
    }
    if (code != AS_OK) {
        return as_error_pass(e, &own);
    }
    char number[24];
    char unique[40];
    unique_name(self, number, sizeof number);
    (void)snprintf(unique, sizeof unique, "lock-%s", number);
    (void)snprintf(lock->draft, sizeof lock->draft, AS_DRAFT_PREFIX "%s", number);
    code = face_holder(lock, self, unique, log, again, e);
    if (code == AS_OK && !*again) {
        code = link_ours(lock, self, unique, again, e);
    }
    if (code != AS_OK || *again) {
        (void)as_sys_table.close(lock->meta);
        lock->meta = -1;
    }
    return code;
}

static int take(as_lock *lock, int folder, const as_log *log, as_error *e)
{
    as_owner self;
    int code = as_owner_self(&self, e);
    self.lease_ms = lock->lease_ms;
    bool again = code == AS_OK;
    for (int i = 0; again && i < MOST_TRIES; i++) {
        if (i > 0) {
            as_sleep_ms(PAUSE_MS);
        }
        code = try_take(lock, folder, &self, log, &again, e);
        again = again && code == AS_OK;
    }
    if (again) {
        return as_fail(e, AS_BUSY, 0,
                       "%s: other processes keep taking this lock away; run again later",
                       lock->path);
    }
    return code;
}

static void free_lock(as_lock *lock)
{
    free(lock->meta_path);
    free(lock->path);
    free(lock);
}

int as_lock_take(as_lock **out, int folder, const char *dir, int64_t lease_ms, const as_log *log,
                 as_error *e)
{
    return as_lock_take_ticking(out, folder, dir, lease_ms, NULL, log, e);
}

int as_lock_take_ticking(as_lock **out, int folder, const char *dir, int64_t lease_ms,
                         const as_tick *tick, const as_log *log, as_error *e)
{
    *out = NULL;
    as_lock *lock = calloc(1, sizeof *lock);
    if (!lock) {
        return as_fail_nomem(e);
    }
    lock->meta = -1;
    lock->fd = -1;
    lock->lease_ms = lease_or_default(lease_ms, log);
    lock->tick = tick ? *tick : (as_tick){0};
    lock->meta_path = join(dir, AS_META_NAME, e);
    lock->path = join(lock->meta_path, AS_LOCK_NAME, e);
    int code = lock->path ? take(lock, folder, log, e) : AS_NOMEM;
    if (code != AS_OK) {
        /* Goes only if it is empty: then nobody needs it. */
        (void)as_sys_table.unlinkat(folder, AS_META_NAME, AT_REMOVEDIR);
        free_lock(lock);
        return code;
    }
    as_lock_start_heart(lock, log);
    if (lock->broke_stale) {
        as_log_say(log, AS_LOG_WARNING,
                   "%s: took over the lock of a dead save (process %" PRId64 " on %s)", lock->path,
                   lock->before.pid, lock->before.pid ? lock->before.host : "an unknown host");
    }
    *out = lock;
    return AS_OK;
}

/* as_lock_look in the open folder .allshard/. */
static int look(int meta, const char *path, int64_t lease_ms, const as_log *log, bool *stale,
                as_owner *who, as_error *e)
{
    as_owner self;
    int code = as_owner_self(&self, e);
    for (int i = 0; code == AS_OK && i < MOST_TRIES; i++) {
        as_holder holder;
        code = as_holder_look(&holder, meta, path, e);
        if (code != AS_OK || holder.fd < 0) {
            return code;
        }
        enum as_verdict verdict;
        code = as_holder_judge(&holder, meta, path, &self, lease_ms, log, &verdict, e);
        if (code == AS_OK && verdict == AS_HOLDER_LIVE) {
            code = as_holder_busy(path, &holder.owner, e);
        } else if (code == AS_OK && verdict == AS_HOLDER_DEAD) {
            *stale = true;
            *who = holder.owner;
        }
        as_holder_close(&holder);
        if (*stale) {
            break;
        }
    }
    return code;
}

int as_lock_look(int folder, const char *dir, int64_t lease_ms, const as_log *log, bool *stale,
                 as_owner *who, as_error *e)
{
    *stale = false;
    *who = (as_owner){0};
    as_error own = AS_ERROR_INIT;
    char *meta_path = join(dir, AS_META_NAME, &own);
    char *path = join(meta_path, AS_LOCK_NAME, &own);
    int meta;
    int code = path ? as_meta_open(folder, meta_path, &meta, &own) : AS_NOMEM;
    if (code == AS_OK) {
        code = look(meta, path, lease_or_default(lease_ms, log), log, stale, who, &own);
        (void)as_sys_table.close(meta);
    }
    free(path);
    free(meta_path);
    if (code == AS_NOT_FOUND) {
        as_error_clear(&own);
    }
    return as_error_pass(e, &own);
}

int as_lock_release(as_lock *lock, int folder, as_error *e)
{
    if (!lock) {
        return AS_OK;
    }
    as_heartbeat_stop(lock->heart);
    int code = remove_if_ours(lock, e);
    as_held_drop(&lock->held);
    (void)as_sys_table.close(lock->fd);
    (void)as_sys_table.close(lock->meta);
    if (code == AS_OK) {
        (void)as_sys_table.unlinkat(folder, AS_META_NAME, AT_REMOVEDIR);
    }
    free_lock(lock);
    return code;
}
