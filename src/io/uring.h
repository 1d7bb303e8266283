/* SPDX-License-Identifier: Apache-2.0
 * Operations through the kernel's io_uring, several at a time.
 */
#ifndef ALLSHARD_IO_URING_H
#define ALLSHARD_IO_URING_H

#include <stdbool.h>

#include "base/error.h"
#include "io/direct.h"
#include "io/engine.h"

typedef struct as_uring as_uring;

/* Can a ring be made here? If not, why says it: "io_uring: Operation not permitted". */
enum { AS_URING_WHY = 96 };
bool as_uring_works(char why[AS_URING_WHY]);

/* `direct` is borrowed, and settles what goes through O_DIRECT; files are attached to it.
 * *out is NULL if this build or this kernel has no io_uring for us, which `direct` then remembers.
 * AS_NOMEM. */
int as_uring_open(as_uring **out, const as_engine_options *options, as_direct *direct, as_error *e);
void as_uring_close(as_uring *u); /* NULL is allowed */

/* As those of as_engine_type. What the ring does not do is done by threads. */
void as_uring_submit(as_uring *u, as_io *io);
as_io *as_uring_reap(as_uring *u, as_error *e);

/* Is the ring still in use? */
bool as_uring_alive(const as_uring *u);

#endif
