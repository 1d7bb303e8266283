/* SPDX-License-Identifier: Apache-2.0
 * How Lustre spreads files over its servers: read, and set on folders. By Lustre's ioctls, so
 * that nothing of Lustre is needed to build or to run.
 */
#ifndef ALLSHARD_IO_STRIPES_H
#define ALLSHARD_IO_STRIPES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

typedef struct as_stripes {
    int32_t count; /* servers that a file is spread over; -1: all that there are; 0: the default */
    int64_t bytes; /* of a stripe; 0: the file system's default */
} as_stripes;

/* Of an open file, or what new files in an open folder will get. A layout that changes within a
 * file counts as that of its last part, where a large file lies. *is_lustre false, with AS_OK: no
 * Lustre, or nothing is known. `name` is for errors. */
int as_stripes_read(int fd, const char *name, bool *is_lustre, as_stripes *out, as_error *e);

/* For files that will be made in an open folder. *is_lustre false, with AS_OK: nothing to set.
 * AS_INVALID: Lustre takes stripes of multiples of 64 KiB below 4 GiB, and at most 2000 servers.
 * AS_SYSTEM. */
int as_stripes_set(int folder, const char *name, as_stripes stripes, bool *is_lustre, as_error *e);

#endif
