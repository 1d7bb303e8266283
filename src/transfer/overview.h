/* SPDX-License-Identifier: Apache-2.0
 * A plan as a whole, the same on every rank: for those who want to look at it.
 */
#ifndef ALLSHARD_TRANSFER_OVERVIEW_H
#define ALLSHARD_TRANSFER_OVERVIEW_H

#include "comm/comm.h"
#include "plan/plan.h"

typedef struct as_overview {
    int ranks;
    int64_t total_size; /* bytes of tensors */
    size_t file_count;
    char **file_names;    /* [file_count], heap */
    int64_t *file_bytes;  /* [file_count] */
    size_t *first_tensor; /* [file_count + 1] */
    size_t tensor_count;
    const char **tensors; /* names in the order of the index; into `text` */
    size_t *by_name;      /* [tensor_count]: tensors sorted by name */
    size_t dropped_count;
    const char **dropped;  /* pairs (dropped, kept); into `text` */
    int64_t *writer_bytes; /* [ranks] */
    int64_t exchanged_bytes;
    as_buffer text;
} as_overview;

/* Collective. Free the result in any case. */
int as_overview_gather(as_overview *o, as_comm *c, const as_plan *plan, const char *pattern,
                       as_error *e);

/* The tensor of that name; tensor_count if there is none. */
size_t as_overview_find(const as_overview *o, const char *name);

/* The file that holds a tensor < tensor_count. */
size_t as_overview_file(const as_overview *o, size_t tensor);

void as_overview_free(as_overview *o);

#endif
