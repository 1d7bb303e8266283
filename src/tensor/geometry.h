/* SPDX-License-Identifier: Apache-2.0
 * Where the bytes of a piece lie: in the tensor's own line of bytes (C order, as
 * in the file) and in memory. Every piece of any dtype is brought into one form:
 * dimensions counted in bytes, as few as possible, the innermost contiguous in
 * the file and in memory.
 */
#ifndef ALLSHARD_TENSOR_GEOMETRY_H
#define ALLSHARD_TENSOR_GEOMETRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"

enum { AS_MAX_DIMS = 16 };

/* A piece as it was declared. Arrays are borrowed and have ndim elements. */
typedef struct as_box {
    int dtype;
    int ndim;
    const int64_t *shape;   /* global shape, elements */
    const int64_t *offset;  /* elements; unused if flat */
    const int64_t *local;   /* shape of the box; unused if flat */
    const int64_t *strides; /* elements; NULL: C order of `local`; unused if flat */
    bool flat;              /* elements [flat_offset, flat_offset + flat_count) in C order */
    int64_t flat_offset;
    int64_t flat_count;
} as_box;

/* One dimension more than the user may give: the bytes of a strided element. */
enum { AS_GEOMETRY_DIMS = AS_MAX_DIMS + 1 };

/* Dimensions from outer to inner; the innermost is a run of bytes. A piece of no
 * bytes has ndim 0. */
typedef struct as_geometry {
    int ndim;
    int64_t global[AS_GEOMETRY_DIMS]; /* extent of the tensor */
    int64_t offset[AS_GEOMETRY_DIMS]; /* where the box begins */
    int64_t shape[AS_GEOMETRY_DIMS];  /* extent of the box, ≥ 1 */
    int64_t stride[AS_GEOMETRY_DIMS]; /* bytes in memory between neighbours; innermost: 1 */

    /* If elements are cast on their way between memory and file: their dtypes, of which that in the
     * file counts in all of the above but the strides. AS_DTYPE_NONE: they are not cast. */
    int memory_dtype;
    int file_dtype;
    as_buffer *seams; /* elements that have come in half, see cast_tiles.h; borrowed */
} as_geometry;

/* Bytes of a whole tensor. AS_INVALID if a dimension is negative, the size passes
 * 2^61, or its bits do not fill whole bytes. */
int as_box_tensor_bytes(int dtype, int ndim, const int64_t *shape, int64_t *bytes, as_error *e);

/* Is the box inside the tensor, and does its memory span less than 2^61 bytes? AS_INVALID with
 * the reason if not. */
int as_box_check(const as_box *box, as_error *e);

/* Geometry in the file alone (strides are left 0): the same for the same elements,
 * however they lie in memory, so that it can be compared and sent. The box must
 * have passed as_box_check. AS_INVALID if it cuts a byte of F4 or F6. */
int as_geometry_file(const as_box *box, as_geometry *out, as_error *e);

/* Geometry in the file and in memory; as_box_check as above. AS_INVALID if the memory of F4 or
 * F6 has gaps inside bytes. */
int as_geometry_memory(const as_box *box, as_geometry *out, as_error *e);

/* Geometry of a box whose elements have another dtype in the file, which its own can be cast to
 * (cast.h). The tensor has less than 2^61 bytes there too. `seams` is needed to write to memory. */
int as_geometry_cast(const as_box *box, int file_dtype, as_buffer *seams, as_geometry *out,
                     as_error *e);

/* Bytes of the piece. */
int64_t as_geometry_bytes(const as_geometry *g);

/* First byte, and byte after the last, in the tensor's line of bytes. */
int64_t as_geometry_begin(const as_geometry *g);
int64_t as_geometry_end(const as_geometry *g);

/* Bytes of the piece that lie before place `at` of the tensor's line of bytes. */
int64_t as_geometry_before(const as_geometry *g, int64_t at);

/* Are all bytes of [begin, end) the piece's own? */
bool as_geometry_contiguous(const as_geometry *g);

/* Equal in the file. */
bool as_geometry_same(const as_geometry *a, const as_geometry *b);

#endif
