/* SPDX-License-Identifier: Apache-2.0
 * Parts of a piece, told by the bytes of the piece that lie before them (as_geometry_before), and
 * the memory around them: for memory that cannot be read where it lies, but is copied in blocks.
 */
#ifndef ALLSHARD_TENSOR_SPAN_H
#define ALLSHARD_TENSOR_SPAN_H

#include <stdbool.h>
#include <stdint.h>

#include "tensor/geometry.h"

/* Bytes [*low, *high), counted from the piece's pointer, are the smallest block of memory that
 * holds bytes [from, to) of the piece; from < to. The geometry is without a cast. */
void as_span(const as_geometry *g, int64_t from, int64_t to, int64_t *low, int64_t *high);

/* The largest `to` with from < to ≤ most such that the block of [from, to) has at most `limit` bytes
 * (≥ 1). */
int64_t as_span_cut(const as_geometry *g, int64_t from, int64_t most, int64_t limit);

/* Where byte `at` of the piece lies in the tensor's line of bytes. */
int64_t as_span_place(const as_geometry *g, int64_t at);

/* May two of the piece's bytes be one in memory? False only if none are. */
bool as_span_overlaps(const as_geometry *g);

/* The piece of its elements as they are in memory, if they are cast; else the same again. Its places
 * in the file are those of a tensor of that dtype. */
as_geometry as_span_uncast(const as_geometry *g);

/* The same piece, its elements one after the other in memory. */
as_geometry as_span_packed(const as_geometry *g);

#endif
