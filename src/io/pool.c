/* SPDX-License-Identifier: Apache-2.0 */
#include "io/pool.h"

#include <stdlib.h>

int as_pool_init(as_pool *p, char *memory, size_t buffer_bytes, int limit, as_error *e)
{
    *p = (as_pool){0};
    p->spare = calloc((size_t)limit + 1, sizeof *p->spare);
    if (!p->spare) {
        return as_fail_nomem(e);
    }
    p->limit = limit;
    while (limit-- > 0) { /* so that the first buffer is taken first */
        as_pool_give(p, memory + (size_t)limit * as_pool_step(buffer_bytes));
    }
    return AS_OK;
}

void as_pool_free(as_pool *p)
{
    free(p->spare);
    *p = (as_pool){0};
}

char *as_pool_take(as_pool *p)
{
    return p->free > 0 ? p->spare[--p->free] : NULL;
}

void as_pool_give(as_pool *p, char *buffer)
{
    if (buffer) {
        p->spare[p->free++] = buffer;
    }
}
