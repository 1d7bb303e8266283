/* SPDX-License-Identifier: Apache-2.0 */
#include "commit/lock_keep.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/file.h>

#include "base/sys.h"
#include "commit/folder.h"
#include "commit/holder.h"

enum {
    MOST_TRIES = 200, /* of guarding the lock against a breaker that is at work */
    PAUSE_MS = 5      /* between them */
};

bool as_lock_is_ours(const as_lock *lock, const struct stat *status)
{
    return status->st_dev == lock->held.device && status->st_ino == lock->held.inode;
}

bool as_lock_flock(const as_lock *lock)
{
    bool guarded = as_holder_guard(lock->fd);
    for (int i = 0; !guarded && errno == EWOULDBLOCK && i < MOST_TRIES; i++) {
        as_sleep_ms(PAUSE_MS);
        guarded = as_holder_guard(lock->fd);
    }
    return guarded;
}

/* The sign of life. *ours: the lock is still this process's. False: it could not be given, errno. */
static bool touch(as_lock *lock, bool *ours)
{
    struct stat status;
    *ours = true;
    int seen = as_sys_table.futimens(lock->fd, NULL);
    if (seen >= 0) {
        seen = as_sys_table.fstatat(lock->meta, AS_LOCK_NAME, &status, AT_SYMLINK_NOFOLLOW);
    }
    if (seen < 0 && errno != ENOENT && errno != ESTALE) {
        return false;
    }
    *ours = seen >= 0 && as_lock_is_ours(lock, &status);
    if (*ours) {
        atomic_store(&lock->renewed, as_moment_ms());
    }
    return true;
}

/* The heartbeat's. Trouble is left to the holder's own next look. */
static void beat(void *user)
{
    as_lock *lock = user;
    bool ours;
    if (touch(lock, &ours) && !ours) {
        atomic_store(&lock->lost, true);
    }
}

void as_lock_start_heart(as_lock *lock, const as_log *log)
{
    int reason;
    atomic_store(&lock->renewed, as_moment_ms());
    lock->heart = as_heartbeat_start(lock->lease_ms / 4, beat, lock, &reason);
    if (!lock->heart) {
        char why[128];
        as_log_say(
            log, AS_LOG_WARNING,
            "%s: no thread can be had to give the sign of life (%s): while this process waits "
            "for one long system call, other hosts may take it for dead",
            lock->path, strerror_r(reason, why, sizeof why));
    }
}

static int fail_lost(as_lock *lock, as_error *e)
{
    int64_t silence = as_moment_ms() - atomic_load(&lock->renewed);
    as_holder now = {.fd = -1};
    (void)as_holder_look(&now, lock->meta, lock->path, NULL);
    if (now.fd >= 0 && now.owner.pid != 0) {
        (void)as_fail(
            e, AS_BUSY, 0,
            "%s: the lock was taken away from this save, whose last sign of life was %" PRId64
            " ms ago, by process %" PRId64 " on host %s; save again when that one is done",
            lock->path, silence, now.owner.pid, now.owner.host);
    } else {
        (void)as_fail(
            e, AS_BUSY, 0,
            "%s: the lock was taken away from this save, whose last sign of life was %" PRId64
            " ms ago; save again",
            lock->path, silence);
    }
    as_holder_close(&now);
    return AS_BUSY;
}

int as_lock_tick(const as_lock *lock, as_error *e)
{
    as_error own = AS_ERROR_INIT;
    int code = lock->tick.call ? lock->tick.call(lock->tick.self, &own) : AS_OK;
    if (code == AS_OK || lock->deaf) {
        as_error_clear(&own);
        return AS_OK;
    }
    (void)as_error_pass(e, &own);
    return code;
}

int as_lock_refresh(as_lock *lock, bool now, as_error *e)
{
    int code = as_lock_tick(lock, e);
    if (code != AS_OK) {
        return code;
    }
    bool ours = !atomic_load(&lock->lost);
    if (ours && !now && as_moment_ms() - atomic_load(&lock->renewed) < lock->lease_ms / 4) {
        return AS_OK;
    }
    if (ours && !touch(lock, &ours)) {
        return as_fail(e, AS_SYSTEM, errno, "%s: cannot refresh the lock", lock->path);
    }
    return ours ? AS_OK : fail_lost(lock, e);
}

int as_lock_guard(as_lock *lock, as_error *e)
{
    lock->guarded = as_lock_flock(lock);
    bool refused = !lock->guarded && errno == EWOULDBLOCK;
    int code = as_lock_refresh(lock, true, e);
    if (code == AS_OK && refused) {
        /* Whoever guards it has perhaps taken its last look before this sign of life. */
        code = as_fail(e, AS_BUSY, 0,
                       "%s: another process takes this save for dead and is breaking its lock; "
                       "save again",
                       lock->path);
    }
    if (code != AS_OK) {
        as_lock_unguard(lock);
    }
    return code;
}

void as_lock_unguard(as_lock *lock)
{
    if (lock->guarded) {
        (void)as_sys_table.flock(lock->fd, LOCK_UN);
        lock->guarded = false;
    }
}
