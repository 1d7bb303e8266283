/* SPDX-License-Identifier: Apache-2.0
 * Opening a name out of an untrusted file so that it stays beneath a folder.
 */
#ifndef ALLSHARD_COMMIT_BENEATH_H
#define ALLSHARD_COMMIT_BENEATH_H

#include <stdbool.h>

#include "base/error.h"

/* "a", "./a" and "sub/a" are fine; "", "/a", "..", "sub/../a", and whatever begins with .allshard,
 * in any case of its letters, are not: AS_INVALID. *name loses what it begins with that means
 * nothing. `what` names the folder in errors. */
int as_beneath_check(const char **name, const char *what, as_error *e);

/* Opens a name that passed the check for reading: fd, or -1 with errno. Sub-folders in it must be
 * real ones; a link in place of one gives ELOOP. In place of the file itself links are
 * followed, since the Hub's cache is made of them, unless `links` is false: then ELOOP as
 * well. What is no regular file is not opened for reading, which waits on a pipe and can set
 * off a device: the descriptor is then good for fstat alone. */
int as_beneath_open(int folder, const char *name, bool links);

#endif
