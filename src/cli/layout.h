/* SPDX-License-Identifier: Apache-2.0
 * Layouts: how a model is spread over ranks. A pure function of the layout, the tensors, the
 * number of ranks and a rank, which tells what that rank holds of a tensor.
 *
 *   whole       contiguous groups of whole tensors, one group a rank, balanced by bytes
 *   replicated  every rank holds everything
 *   fsdp        dimension 0 in equal chunks of ceil(n/N) rows; the last ones are short or empty.
 *               Scalars are on rank 0, since there is nothing to cut
 *   columns     the same for the last dimension
 *   flat        equal ranges of ceil(elements/N) elements in C order (ZeRO-1)
 *   tp=T,pp=P,dp=D,ep=E
 *               the product must be the number of ranks N; a factor left out is 1. Rank r has
 *               the coordinates r = ((p·D + d)·E + e)·T + t. Stage p holds the p-th contiguous
 *               group of whole tensors, balanced by bytes. Matrices (two dimensions or more) are
 *               cut over T into balanced chunks, in turn by rows and by columns, counted over
 *               all tensors of the model; vectors and scalars are replicated over T. A tensor
 *               whose name contains "experts.<n>." is held by expert rank e = n mod E only;
 *               everything else is replicated over E, and all is replicated over D.
 *
 * F4 and F6 are cut where bytes end: chunks of the last dimension are whole groups of 2 or 4
 * elements. If the last dimension of such a tensor is no multiple of the group, rows end
 * inside a byte: fsdp and columns then leave the tensor whole on rank 0, and T replicates it.
 * flat cuts at groups in any case.
 */
#ifndef ALLSHARD_CLI_LAYOUT_H
#define ALLSHARD_CLI_LAYOUT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "cli/tensors.h"
#include "tensor/geometry.h"

enum as_layout_kind {
    AS_LAYOUT_WHOLE,
    AS_LAYOUT_REPLICATED,
    AS_LAYOUT_FSDP,
    AS_LAYOUT_COLUMNS,
    AS_LAYOUT_FLAT,
    AS_LAYOUT_PARALLEL,
};

typedef struct as_layout {
    enum as_layout_kind kind;
    int ranks;
    int tp, pp, dp, ep; /* PARALLEL; their product is ranks */
    as_buffer marks;    /* one per tensor, see layout.c */
} as_layout;

#define AS_LAYOUT_INIT ((as_layout){0})

/* What one rank holds of one tensor. Empty pieces have a 0 in their shape, or no elements. */
typedef struct as_layout_piece {
    bool flat;
    int64_t flat_offset;
    int64_t flat_count;
    int64_t offset[AS_MAX_DIMS];
    int64_t shape[AS_MAX_DIMS];
    int64_t bytes;
} as_layout_piece;

/* Reads the name of a layout for a number of ranks. AS_INVALID with what is accepted. */
int as_layout_parse(as_layout *out, const char *text, int ranks, as_error *e);

/* The same, where `ranks` is what --ranks says and none of them runs. */
int as_layout_plan(as_layout *out, const char *text, int ranks, as_error *e);

/* Fits a layout to a model; to be done before as_layout_get, anew for each model. Tensors have
 * passed as_tensors_check. AS_NOMEM. */
int as_layout_fit(as_layout *l, const as_tensors *t, as_error *e);

/* What `rank` holds of tensor i: false if nothing. A rank has one piece of a tensor at most. */
bool as_layout_get(const as_layout *l, const as_tensors *t, size_t i, int rank,
                   as_layout_piece *out);

/* The tensors [first, last) beyond which `rank` holds nothing. */
void as_layout_range(const as_layout *l, const as_tensors *t, int rank, size_t *first,
                     size_t *last);

/* WHOLE: the rank that holds tensor i. Any number of dimensions. */
int as_layout_owner(const as_layout *l, size_t i);

/* How many pieces all ranks together declare, at most; INT64_MAX if that passes it. Fitted. */
int64_t as_layout_piece_count(const as_layout *l, const as_tensors *t);

/* The same without empty pieces. */
int64_t as_layout_held_count(const as_layout *l, const as_tensors *t);

void as_layout_free(as_layout *l);

#endif
