/* SPDX-License-Identifier: Apache-2.0
 * The staged files of a save, DIR/.allshard/new/NAME, as any rank makes and opens them: only DIR
 * itself may be reached through links, what lies beneath is opened component by component.
 */
#ifndef ALLSHARD_COMMIT_STAGED_H
#define ALLSHARD_COMMIT_STAGED_H

#include <sys/types.h>

#include "base/buffer.h"
#include "base/error.h"

/* Path of the folder that new files are staged in. */
int as_staged_folder(const char *dir, as_buffer *out, as_error *e);

/* DIR/.allshard/new/NAME, for texts; who opens it uses what is below. `out` is overwritten;
 * NUL-terminated. AS_INVALID if the name is not plain. Needs no transaction. */
int as_staged_path(const char *dir, const char *name, as_buffer *out, as_error *e);

/* Opens DIR/.allshard/new, whose descriptor the following take. AS_NOT_FOUND; AS_INVALID: a link
 * or a stranger's folder lies in its way (see as_meta_open). */
int as_staged_open(const char *dir, int *staged, as_error *e);

/* A new file, O_EXCL; mode as in as_file_create. `path` is its path for texts. */
int as_staged_create_file(int staged, const char *name, mode_t mode, const char *path, int *fd,
                          as_error *e);

/* Opens an existing one with O_RDONLY, O_WRONLY or O_RDWR. AS_INVALID: a link lies there, or a file
 * that has other names too, or no file at all. */
int as_staged_open_file(int staged, const char *name, int flags, const char *path, int *fd,
                        as_error *e);

#endif
