/* SPDX-License-Identifier: Apache-2.0
 * The lock of a checkpoint folder, DIR/.allshard/lock: only its holder changes DIR.
 *
 * Taken by a hard link to a file of a unique name, judged by that file's count of
 * links, which is right on NFS, too, where the answer to link(2) may get lost.
 * Left by a dead process it is found stale: on the same host by looking for the
 * process, on another host when its time stands still for a whole lease: the longer
 * one of the holder's, which the lock tells, and of the one who asks.
 */
#ifndef ALLSHARD_COMMIT_LOCK_H
#define ALLSHARD_COMMIT_LOCK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/log.h"
#include "commit/folder.h"
#include "commit/heartbeat.h"
#include "commit/held.h"
#include "commit/owner.h"

enum { AS_LEASE_DEFAULT_MS = 30000 };

/* The default where the environment has it: whole seconds. */
#define AS_LEASE_VARIABLE "ALLSHARD_LEASE"

/* What the drafts of journals begin with. Each save's draft has a name of its own. */
#define AS_DRAFT_PREFIX "journal-"

typedef struct as_lock {
    int meta;             /* DIR/.allshard, open */
    int fd;               /* the lock file, open */
    as_held held;         /* its identity */
    int64_t lease_ms;     /* how long the sign of life may stand still */
    atomic_llong renewed; /* monotonic milliseconds of the last sign of life */
    atomic_bool lost;     /* the heartbeat found that it is another's */
    bool guarded;         /* between as_lock_guard and as_lock_unguard, and flock works */
    as_heartbeat *heart;  /* NULL: no thread could be had */
    int64_t refused;      /* monotonic milliseconds since when a dead holder is guarded; 0 */
    char draft[40];       /* name of this save's draft of a journal */
    char *meta_path;      /* DIR/.allshard, for texts; heap */
    char *path;           /* DIR/.allshard/lock, for texts; heap */
    as_tick tick;         /* called by every refresh; may be empty */
    bool deaf;            /* what it returns does not count any more */
    bool broke_stale;     /* it was taken from a dead holder ... */
    as_owner before;      /* ... namely this one; pid 0 if its content could not be read */
} as_lock;

/* Makes DIR/.allshard if need be and takes the lock. `folder` is DIR, open; `dir`
 * its path for texts. lease_ms <= 0: the environment's or the default. May wait up
 * to a lease while it watches a holder on another host. A live holder: AS_BUSY, with host, pid,
 * since when and what to do. On failure nothing is left behind and *out is NULL. */
int as_lock_take(as_lock **out, int folder, const char *dir, int64_t lease_ms, const as_log *log,
                 as_error *e);

/* The same with a tick, which is called while another host's holder is watched, and by the lock's
 * refreshes. NULL: none. */
int as_lock_take_ticking(as_lock **out, int folder, const char *dir, int64_t lease_ms,
                         const as_tick *tick, const as_log *log, as_error *e);

/* Looks without touching anything: AS_BUSY if a live holder has the lock, AS_OK
 * if it is free or there is no DIR/.allshard, or (*stale true, with *who of pid 0 if
 * unreadable) if its holder is dead. May watch for a lease. */
int as_lock_look(int folder, const char *dir, int64_t lease_ms, const as_log *log, bool *stale,
                 as_owner *who, as_error *e);

/* Calls the tick, whose code it returns if that is not AS_OK, and gives the sign of life if a
 * quarter of the lease has passed since the last (by this call or by the lock's own thread, which
 * does not call the tick); cheap to call often. With `now` it gives it at once and makes sure that
 * the lock is still this process's. AS_BUSY if it was taken away. */
int as_lock_refresh(as_lock *lock, bool now, as_error *e);

/* Calls the tick, if there is one: AS_OK, or its code, which ends what is under way. */
int as_lock_tick(const as_lock *lock, as_error *e);

/* For the few steps that would do harm in another's folder: as_lock_refresh with `now`, and until
 * as_lock_unguard nobody can break the lock, however long this process stands still, where
 * flock works between those who use the folder. */
int as_lock_guard(as_lock *lock, as_error *e);
void as_lock_unguard(as_lock *lock);

/* Takes the lock away if it is still ours, and DIR/.allshard if that is empty then.
 * Frees the structure in any case. A failure to remove the file is AS_SYSTEM; the
 * lock is stale as soon as this process ends. NULL is no error. */
int as_lock_release(as_lock *lock, int folder, as_error *e);

#endif
