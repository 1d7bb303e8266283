/* SPDX-License-Identifier: Apache-2.0
 * Memory for what was copied and is not written yet: had once, all pages touched, kept.
 */
#ifndef ALLSHARD_IO_RESERVE_H
#define ALLSHARD_IO_RESERVE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "io/memory_file.h"

enum { AS_RESERVE_THREADS = 64 };

/* Zero at first. */
typedef struct as_reserve {
    char *base; /* on a page; of 2 MiB where it is that large and address space allows */
    size_t bytes;
    bool shared;         /* others can map it: it is one of */
    as_memory_file file; /* this, which is open as long as the reserve is there */
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

/* The same, but of a memory file that others can map, if that can have huge pages (Linux 6.1 and
 * later): r->shared tells. Memory that is large enough stays what it is. */
int as_reserve_fit_shared(as_reserve *r, size_t bytes, int threads, size_t *touched, as_error *e);

/* Empty afterwards. The system has the pages back, even if others have them mapped still: they would
 * find new ones. */
void as_reserve_free(as_reserve *r);

#endif
