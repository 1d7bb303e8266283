/* SPDX-License-Identifier: Apache-2.0
 * ROOT/latest: a symbolic link to the checkpoint that was saved last, for people and scripts; a text
 * file with its name and a newline where the file system has no links. allshard itself looks for the
 * newest good one (members.h) and does not believe it.
 */
#ifndef ALLSHARD_SERIES_LATEST_H
#define ALLSHARD_SERIES_LATEST_H

#include "base/error.h"

#define AS_LATEST_NAME "latest"

/* Leads it to the folder `name`, in one rename, durably; NULL: away with it. `root` is open, `path`
 * for texts; the caller holds the root's lock. Something else under that name (a folder, a file that
 * is no such text) stays: AS_INVALID. Any link, wherever it leads, is replaced. */
int as_latest_set(int root, const char *path, const char *name, as_error *e);

/* The name it leads to; *name is the caller's, heap, NULL: there is none, or it is not such a link
 * (it leads out of the root, or below a folder of it). It may lead to nothing. */
int as_latest_get(int root, const char *path, char **name, as_error *e);

#endif
