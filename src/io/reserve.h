/* SPDX-License-Identifier: Apache-2.0
 * Memory for what was copied and is not written yet: had once, all pages touched, kept.
 */
#ifndef ALLSHARD_IO_RESERVE_H
#define ALLSHARD_IO_RESERVE_H

#include <stddef.h>

#include "base/error.h"

enum { AS_RESERVE_THREADS = 64 };

/* Zero at first. */
typedef struct as_reserve {
    char *base; /* on a page; of 2 MiB where it is that large and address space allows */
    size_t bytes;
} as_reserve;

/* Makes it `bytes` large, and a page's rest, if it is smaller: what was in it is lost then, and
 * given back before more is asked for, so that never both are had. The pages are had now, huge
 * ones where the system has them, touched by `threads` threads at once (the calling one among them;
 * AS_RESERVE_THREADS at the most; fewer if they cannot be made), near the processors that the
 * calling thread may run on. *touched (NULL: no): bytes that were had from the system; 0: it was
 * large enough.
 *
 * Children of fork do not have this memory.
 *
 * AS_NOMEM, with a text that tells how much was asked for: it is empty, nothing is kept, and the
 * process lives on. The kernel cannot always tell: where it has promised more than there is, it
 * kills some process instead. So compare with as_room_memory first. */
int as_reserve_fit(as_reserve *r, size_t bytes, int threads, size_t *touched, as_error *e);

/* Empty afterwards. */
void as_reserve_free(as_reserve *r);

#endif
