/* SPDX-License-Identifier: Apache-2.0
 * Keeping a lock that was taken: its sign of life, whether it is still ours, and the guard. What
 * others use of it stands in lock.h; this is for lock.c.
 */
#ifndef ALLSHARD_COMMIT_LOCK_KEEP_H
#define ALLSHARD_COMMIT_LOCK_KEEP_H

#include <stdbool.h>
#include <sys/stat.h>

#include "base/log.h"
#include "commit/lock.h"

/* Is that the file that we made? */
bool as_lock_is_ours(const as_lock *lock, const struct stat *status);

/* Starts the lock's thread; without one the log has a warning. */
void as_lock_start_heart(as_lock *lock, const as_log *log);

/* flock of our file; waits a while for a breaker that is at work on it. False with errno. */
bool as_lock_flock(const as_lock *lock);

#endif
