/* SPDX-License-Identifier: Apache-2.0
 * DIR/.allshard and the folders in it: made so that nobody gains rights by them, and opened so
 * that neither a link nor a folder that a stranger planted is taken for ours.
 */
#ifndef ALLSHARD_COMMIT_META_H
#define ALLSHARD_COMMIT_META_H

#include <stdbool.h>

#include <sys/types.h>

#include "base/error.h"

/* Makes DIR/.allshard if it is not there; `folder` is DIR, open, `meta_path` the path for texts.
 * Who may not write to DIR may not write there either. AS_SYSTEM. */
int as_meta_make(int folder, const char *meta_path, as_error *e);

/* Opens DIR/.allshard, for saves and recovery. AS_NOT_FOUND: there is none. AS_INVALID: a link or a
 * file lies there, or the folder may be a trap: writable for those who cannot write to DIR, or, in a
 * DIR that is writable for everybody, or for its group and has the sticky bit, neither this user's
 * nor root's nor that of DIR's owner (a file made and removed there tells who this user is to the
 * server, where the numbers differ). */
int as_meta_open(int folder, const char *meta_path, int *fd, as_error *e);

/* The same for readers, who change nothing: no file is made. Without the sticky bit it may be
 * anybody's: who can make it could as well replace the files of the checkpoint. */
int as_meta_open_to_read(int folder, const char *meta_path, int *fd, as_error *e);

/* Makes the folder `name` in .allshard/ (`meta`, open). *made false: something lies there already;
 * NULL: that is an error. */
int as_meta_make_inside(int meta, const char *meta_path, const char *name, bool *made, as_error *e);

/* Lets those read in an open folder in .allshard/, or .allshard/ itself, who may read files of
 * `mode`: they look through the journal, whatever the umask of the one who saves. What cannot be
 * changed stays as it is. */
void as_meta_let_in(int folder, mode_t mode);

/* Opens it, no link followed; codes as as_folder_open_at, the text names the path. */
int as_meta_open_inside(int meta, const char *meta_path, const char *name, int *fd, as_error *e);

#endif
