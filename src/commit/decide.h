/* SPDX-License-Identifier: Apache-2.0
 * The moment that counts: the journal gets its name.
 */
#ifndef ALLSHARD_COMMIT_DECIDE_H
#define ALLSHARD_COMMIT_DECIDE_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"
#include "commit/journal.h"
#include "commit/lock.h"

/* Writes the journal under the draft's name, fsyncs it, makes sure that the lock is not lost, and
 * renames it. `e` holds no error yet; `dir` is DIR's path for texts, `mode` the journal's, as for
 * as_file_create. AS_OK: the save counts and is
 * durable, and the lock is guarded. AS_UNKNOWN, with *unknown true: the journal could be neither
 * made durable nor taken away for sure. AS_BUSY: the lock is lost. Any other code: nothing has
 * changed. */
int as_decide(const as_journal *j, as_lock *lock, const char *dir, mode_t mode, bool *unknown,
              as_error *e);

#endif
