/* SPDX-License-Identifier: Apache-2.0
 * Folders: make them, open them, make their names durable, list them and clear
 * them away without ever following a link that somebody planted.
 */
#ifndef ALLSHARD_COMMIT_FOLDER_H
#define ALLSHARD_COMMIT_FOLDER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/log.h"
#include "commit/names.h"

/* What lies in a checkpoint folder only while a save is under way or after a crash. */
#define AS_META_NAME ".allshard"
#define AS_NEW_NAME "new"
#define AS_OLD_NAME "old"
#define AS_GONE_PREFIX "gone-" /* what lay in old/, and is being removed */
#define AS_LOCK_NAME "lock"
#define AS_JOURNAL_NAME "journal"
#define AS_MANIFEST_NAME "allshard.manifest.json"

/* The folders that as_folder_make created, outermost first. */
typedef struct as_made {
    as_names paths;
} as_made;

/* mkdir -p; modes follow the umask. What had to be created is added to *made,
 * also if the call fails half way. AS_OK, AS_SYSTEM, AS_INVALID (empty path), AS_NOMEM. */
int as_folder_make(const char *path, as_made *made, as_error *e);

/* Makes the entries of the created folders durable: fsyncs the parent of each. A parent that may
 * not be opened is told to the log, and no error. */
int as_made_sync(const as_made *made, const as_log *log, as_error *e);

/* The same for an open folder that was there before; perhaps somebody made it a moment ago. */
int as_folder_sync_parent(int folder, const char *path, const as_log *log, as_error *e);

/* Takes away those created folders that are empty, innermost first, and forgets
 * all. Whatever cannot be taken away stays. */
void as_made_undo(as_made *made);

void as_made_free(as_made *made);

/* Opens a folder; links are followed. AS_NOT_FOUND if there is none, AS_SYSTEM. */
int as_folder_open(const char *path, int *fd, as_error *e);

/* Opens a folder of ours inside an open one. A link or anything else in its place is
 * AS_INVALID, and so is a folder to which everybody may write though not to the outer one. Whose
 * .allshard/ is tells commit/meta.h. Nothing is AS_NOT_FOUND. `what` names it in errors. */
int as_folder_open_at(int folder, const char *name, const char *what, int *fd, as_error *e);

/* fsync of a folder. File systems that know no such thing (EINVAL, ENOTSUP) are
 * taken to keep names without it. */
int as_folder_sync(int fd, const char *what, as_error *e);

/* Names in an open folder, sorted, without "." and "..". */
int as_folder_list(int fd, const char *what, as_names *out, as_error *e);

/* Removes `name` and all that is below it; links are removed, not followed. It is
 * no error if it is not there. `tick`, if not NULL, is called before each removal
 * and ends the work with its code if that is not AS_OK. */
typedef struct as_tick {
    int (*call)(void *self, as_error *e);
    void *self;
} as_tick;

int as_tree_remove(int folder, const char *name, const char *what, const as_tick *tick,
                   as_error *e);

/* A new file for writing and reading, O_EXCL, no link followed. mode 0: 0666 less
 * the umask; else exactly that mode, whatever the umask. `what` names it in errors. */
int as_file_create(int folder, const char *name, mode_t mode, const char *what, int *fd,
                   as_error *e);

/* Creates a file, writes it whole and fsyncs it; takes it away again if that fails. */
int as_file_put(int folder, const char *name, mode_t mode, const char *what, const void *bytes,
                size_t count, as_error *e);

/* Reads a whole small regular file, links not followed. Not there: AS_OK with
 * *found false. More than `limit` bytes: AS_LIMIT; not a regular file: AS_INVALID. */
int as_file_read(int folder, const char *name, uint64_t limit, const char *what, as_buffer *out,
                 struct stat *status, bool *found, as_error *e);

#endif
