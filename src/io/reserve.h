/* SPDX-License-Identifier: Apache-2.0
 * Memory for what was copied and is not written yet: had once, all pages touched, kept.
 */
#ifndef ALLSHARD_IO_RESERVE_H
#define ALLSHARD_IO_RESERVE_H

#include <stddef.h>

#include "base/error.h"

/* Zero at first. */
typedef struct as_reserve {
    char *base; /* on a page, of 2 MiB where it is that large */
    size_t bytes;
} as_reserve;

/* Makes it `bytes` large, if it is smaller: what was in it is lost then. The pages are had now, huge
 * ones where the system has them, touched by so many threads at once, near the processors that the
 * calling thread may run on. *touched: bytes that were had from the system. AS_NOMEM: it is empty,
 * nothing is kept, and the process lives on. */
int as_reserve_fit(as_reserve *r, size_t bytes, int threads, size_t *touched, as_error *e);

void as_reserve_free(as_reserve *r);

#endif
