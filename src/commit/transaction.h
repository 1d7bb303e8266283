/* SPDX-License-Identifier: Apache-2.0
 * One save, seen from the main process: staging folder, commit, end.
 *
 *   as_txn_begin  →  ranks write and fsync DIR/.allshard/new/NAME (staged.h)  →  as_txn_put
 *   for small files  →  as_txn_commit  →  AS_OK: as_txn_finish, else: as_txn_abort
 *
 * In the root of a series what is staged, comes in and goes out are folders, and there may be several
 * commits one after the other: as_txn_commit_folders → AS_OK: as_txn_settle → AS_OK: another commit,
 * or as_txn_finish.
 *
 * Before the journal is durable a crash or an abort leaves the old checkpoint as it
 * was; after it, the new one counts, whatever happens.
 */
#ifndef ALLSHARD_COMMIT_TRANSACTION_H
#define ALLSHARD_COMMIT_TRANSACTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/log.h"
#include "commit/folder.h"
#include "commit/names.h"
#include "commit/staged.h"

typedef struct as_txn as_txn;

typedef struct as_txn_options {
    mode_t mode;      /* of the files; 0: 0666 less the umask, else exactly this */
    int64_t lease_ms; /* of the lock; 0: the default */
    as_tick tick;     /* called between steps; ends the save until its journal is written */
    /* DIR is new, and lies in what another transaction stages: nobody looks at it before that one
     * commits, and it goes if that one fails. Then there is no journal, and no other folder than DIR
     * is fsynced; commits give neither AS_PENDING nor AS_UNKNOWN. */
    bool inner;
} as_txn_options;

/* Makes DIR (and what is missing above it) and DIR/.allshard/, takes the lock, finishes
 * or clears what dead saves left, makes .allshard/new/. `options` may be NULL; `log`
 * is copied. On failure nothing that this call made is left. AS_BUSY: another save
 * holds DIR. AS_FORMAT: a damaged journal lies there. */
int as_txn_begin(as_txn **out, const char *dir, const as_txn_options *options, const as_log *log,
                 as_error *e);

/* Writes and fsyncs one small staged file by the main process. */
int as_txn_put(as_txn *t, const char *name, const void *bytes, size_t count, as_error *e);

/* Creates an empty staged file for the main process to write and fsync. */
int as_txn_create(as_txn *t, const char *name, int *fd, as_error *e);

/* Opens a staged file for reading. */
int as_txn_open(as_txn *t, const char *name, int *fd, as_error *e);

/* The size of a staged file; AS_SYSTEM if it is not there, AS_INVALID if it is no file. */
int as_txn_staged_size(as_txn *t, const char *name, int64_t *size, as_error *e);

/* Names in DIR itself, sorted, without .allshard. */
int as_txn_list(as_txn *t, as_names *out, as_error *e);

/* A whole small file of DIR as it is before this save; none: AS_OK and *found false. */
int as_txn_read(as_txn *t, const char *name, uint64_t limit, as_buffer *out, bool *found,
                as_error *e);

/* The sign of life of the lock: to be called now and then while ranks write, at
 * least every quarter of the lease; costs nothing if called oftener. AS_BUSY: the
 * lock was taken away because this process stood still too long; the save must end. */
int as_txn_refresh(as_txn *t, as_error *e);

/* Makes it count. All incoming files lie in staging, written and fsynced by those who
 * wrote them. Files of DIR that incoming ones replace need not be among the outgoing;
 * outgoing names that are not there are no error. A name of DIR that is a folder
 * and would have to go is AS_INVALID.
 * AS_OK: the new checkpoint is in its place and durable.
 * AS_PENDING: it counts and is durable, but some of its names wait for recovery.
 * AS_UNKNOWN: the journal could be neither made durable nor taken away for sure.
 * Any other code: nothing has changed, the old checkpoint counts. */
int as_txn_commit(as_txn *t, const char *const *incoming, size_t incoming_count,
                  const char *const *outgoing, size_t outgoing_count, as_error *e);

/* The same with folders in place of files: what is in those that come in is fsynced all the way down.
 * Here a name of DIR that is no folder and would have to go is AS_INVALID. */
int as_txn_commit_folders(as_txn *t, const char *const *incoming, size_t incoming_count,
                          const char *const *outgoing, size_t outgoing_count, as_error *e);

/* Is the name plain, and nothing of DIR in the way of a file (or a folder) of that name but another
 * file (or folder), which has to go (*there), and, if it is a folder, can be moved? AS_INVALID. */
int as_txn_check_name(as_txn *t, const char *name, bool folder, bool *there, as_error *e);

/* After a commit that gave AS_OK: removes the journal, durably. What went lies in .allshard/old/, and
 * another commit may follow. AS_PENDING if the journal stays for recovery; AS_BUSY if the folder is
 * another's by now, who has finished this save: as_txn_abort follows after both. */
int as_txn_settle(as_txn *t, as_error *e);

/* After as_txn_settle: what went gets another place, .allshard/NAME-<number>, so that who removes it
 * meets nothing of later commits. NAME begins with AS_GONE_PREFIX. *any false: nothing went. */
int as_txn_set_aside(as_txn *t, const char *name, bool *any, as_error *e);

/* After as_txn_settle: opens .allshard/old/, where what went lies. AS_NOT_FOUND: nothing went. */
int as_txn_open_old(as_txn *t, int *fd, as_error *e);

/* After as_txn_settle: what went comes back under its name, durably. AS_SYSTEM. */
int as_txn_put_back(as_txn *t, const char *name, as_error *e);

/* DIR as it was given, for texts; DIR, open; .allshard/new, open; where it tells things. They live as
 * long as the transaction. */
const char *as_txn_dir(const as_txn *t);
int as_txn_folder(const as_txn *t);
int as_txn_staged(const as_txn *t);
const as_log *as_txn_log(const as_txn *t);

/* After a commit that gave AS_OK: removes the journal, the old files (which may take
 * seconds), lock and .allshard/, and frees the transaction in any case. AS_PENDING
 * if the journal stays for recovery; other leftovers are only a warning in the log. */
int as_txn_finish(as_txn *t, as_error *e);

/* Ends a transaction in any other state and frees it; NULL is allowed. Not committed:
 * staging goes, folders that were made for it go, DIR is as it was. After AS_PENDING or
 * AS_UNKNOWN: everything stays for recovery, only the lock is given up. */
void as_txn_abort(as_txn *t);

#endif
