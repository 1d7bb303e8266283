/* SPDX-License-Identifier: Apache-2.0
 * What every rank learns of every tensor, in 32 bytes; all tensors' rows in global order.
 */
#ifndef ALLSHARD_PLAN_ROWS_H
#define ALLSHARD_PLAN_ROWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/hash.h"

typedef struct as_row {
    int64_t order;  /* the caller's key, or (lowest rank << 32 | piece) */
    uint64_t name;  /* half of its hash */
    uint64_t size;  /* bytes << 2 | AS_ROW_… */
    int32_t teller; /* a rank that declares it, and tells name and shape */
    uint32_t piece; /* of the tensor there */
} as_row;

/* The order is the caller's; the tensor is tied and not saved. */
enum { AS_ROW_KEYED = 1, AS_ROW_DROPPED = 2 };

static inline int64_t as_row_bytes(const as_row *r)
{
    return (int64_t)(r->size >> 2);
}

static inline bool as_row_keyed(const as_row *r)
{
    return r->size & AS_ROW_KEYED;
}

static inline bool as_row_dropped(const as_row *r)
{
    return r->size & AS_ROW_DROPPED;
}

/* Sorts by order (not negative), then name, in place: a million rows are too many for a copy. */
void as_rows_sort(as_row *rows, size_t count);

/* What stands for a tensor of that order, name and size in a sum over many. */
uint64_t as_row_mark(int64_t order, as_hash name, int64_t bytes);

/* The sorted row of a tensor that was declared like this; NULL if there is none. */
const as_row *as_rows_find(const as_row *rows, size_t count, int64_t order, as_hash name,
                           int64_t bytes);

#endif
