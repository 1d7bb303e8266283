/* SPDX-License-Identifier: Apache-2.0
 * pwrite and pread by threads: the engines `posix` and `direct`.
 */
#ifndef ALLSHARD_IO_POSIX_H
#define ALLSHARD_IO_POSIX_H

#include "base/error.h"
#include "io/direct.h"
#include "io/engine.h"

typedef struct as_posix as_posix;

/* `direct` is borrowed, and settles what goes through O_DIRECT; files are attached to it.
 * AS_NOMEM. */
int as_posix_open(as_posix **out, const as_engine_options *options, as_direct *direct, as_error *e);
void as_posix_close(as_posix *p); /* NULL is allowed */

/* As those of as_engine_type. */
void as_posix_submit(as_posix *p, as_io *io);
as_io *as_posix_reap(as_posix *p, as_error *e);

#endif
