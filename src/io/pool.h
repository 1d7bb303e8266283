/* SPDX-License-Identifier: Apache-2.0
 * Buffers of one size, carved from memory that is had already: each begins on a page.
 */
#ifndef ALLSHARD_IO_POOL_H
#define ALLSHARD_IO_POOL_H

#include <stddef.h>

#include "base/error.h"

enum { AS_POOL_PAGE = 4096 };

/* What a buffer takes of the memory. */
static inline size_t as_pool_step(size_t buffer_bytes)
{
    return (buffer_bytes + AS_POOL_PAGE - 1) / AS_POOL_PAGE * AS_POOL_PAGE;
}

typedef struct as_pool {
    int limit;    /* buffers in all */
    int free;     /* of them, not taken */
    char **spare; /* [limit]: the free ones are the first; the last one given is taken first */
} as_pool;

/* `memory`, which begins on a page and stays the caller's, has limit × as_pool_step(buffer_bytes)
 * bytes. AS_NOMEM, and then nothing can be taken. */
int as_pool_init(as_pool *p, char *memory, size_t buffer_bytes, int limit, as_error *e);

/* The buffers go with the memory, given back or not. */
void as_pool_free(as_pool *p);

/* NULL if all are taken. What was used last comes first: few buffers mean few pages. */
char *as_pool_take(as_pool *p);
void as_pool_give(as_pool *p, char *buffer); /* NULL is allowed */

#endif
