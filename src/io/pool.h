/* SPDX-License-Identifier: Apache-2.0
 * Page-aligned buffers of one size, so that memory stays bounded and is touched
 * first only once. Buffers come into being when they are first taken.
 */
#ifndef ALLSHARD_IO_POOL_H
#define ALLSHARD_IO_POOL_H

#include <stddef.h>

#include "base/error.h"

typedef struct as_pool {
    size_t buffer_bytes;
    int limit; /* buffers at the most */
    int made;
    int free;     /* of them, not taken */
    char **spare; /* [limit]: the free ones are the first */
} as_pool;

int as_pool_init(as_pool *p, size_t buffer_bytes, int limit, as_error *e);

/* Makes all buffers now: after this as_pool_take does not fail. AS_NOMEM. */
int as_pool_fill(as_pool *p, as_error *e);

/* Frees the buffers that have been given back. One that has not stays for good: whoever took it
 * knows that something outside of the process's hands may still write to it. */
void as_pool_free(as_pool *p);

/* *out is NULL if all are taken. AS_NOMEM. */
int as_pool_take(as_pool *p, char **out, as_error *e);
void as_pool_give(as_pool *p, char *buffer); /* NULL is allowed */

#endif
