/* SPDX-License-Identifier: Apache-2.0
 * Carrying out a journal, and clearing .allshard/ afterwards: the same steps for a
 * commit and for a recovery, as often as need be.
 */
#ifndef ALLSHARD_COMMIT_APPLY_H
#define ALLSHARD_COMMIT_APPLY_H

#include "base/error.h"
#include "commit/journal.h"
#include "commit/lock.h"

/* Moves the outgoing files, or folders, to .allshard/old/ and the incoming ones in from .allshard/new/, in
 * the order of the journal, and fsyncs DIR (`folder`, open; `dir` its path for texts). What
 * is done already is left. AS_FORMAT, before anything is moved, if an incoming file is
 * neither in staging nor in DIR with its size; AS_INVALID if a folder is in the way of a file,
 * or something else in the way of a folder. */
int as_apply(const as_journal *j, as_lock *lock, int folder, const char *dir, as_error *e);

/* Would it go well? The checks of as_apply, and those that it makes on its way; changes nothing. */
int as_apply_check(const as_journal *j, int meta, const char *meta_path, int folder,
                   const char *dir, as_error *e);

/* Takes the journal away for good: from then on nothing is left to be carried out. */
int as_apply_end(as_lock *lock, as_error *e);

/* Removes everything in .allshard/ but the lock. There must be no journal that counts: the
 * caller has seen that there is none. Its absence is made durable first, so that no
 * crash can bring a journal back whose files are gone. */
int as_meta_clear(as_lock *lock, as_error *e);

/* Is there a folder under this name? A link to one is none. *there: is anything there? */
int as_name_is_folder(int folder, const char *dir, const char *name, bool *there, bool *is_folder,
                      as_error *e);

#endif
