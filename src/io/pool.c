/* SPDX-License-Identifier: Apache-2.0 */
#include "io/pool.h"

#include <stdlib.h>

enum { PAGE = 4096 };

int as_pool_init(as_pool *p, size_t buffer_bytes, int limit, as_error *e)
{
    *p = (as_pool){.buffer_bytes = buffer_bytes, .limit = limit};
    p->spare = calloc((size_t)limit, sizeof *p->spare);
    return p->spare ? AS_OK : as_fail_nomem(e);
}

void as_pool_free(as_pool *p)
{
    for (int i = 0; i < p->free; i++) {
        free(p->spare[i]);
    }
    free(p->spare);
    *p = (as_pool){0};
}

static int make(as_pool *p, char **out, as_error *e)
{
    void *buffer = NULL;
    if (posix_memalign(&buffer, PAGE, p->buffer_bytes) != 0) {
        return as_fail_nomem(e);
    }
    p->made++;
    *out = buffer;
    return AS_OK;
}

int as_pool_fill(as_pool *p, as_error *e)
{
    int code = AS_OK;
    while (p->made < p->limit && code == AS_OK) {
        char *buffer = NULL;
        code = make(p, &buffer, e);
        as_pool_give(p, buffer);
    }
    return code;
}

int as_pool_take(as_pool *p, char **out, as_error *e)
{
    *out = NULL;
    if (p->free > 0) {
        *out = p->spare[--p->free];
        return AS_OK;
    }
    return p->made == p->limit ? AS_OK : make(p, out, e);
}

void as_pool_give(as_pool *p, char *buffer)
{
    if (buffer) {
        p->spare[p->free++] = buffer;
    }
}
