/* SPDX-License-Identifier: Apache-2.0
 * Which way a range of a piece goes between a device and the host: the rule alone, without CUDA.
 *
 *   a run   bytes that lie one after the other in memory and on the host: one copy
 *   rows    runs of at least AS_WIDE_ROW bytes, by 2D copies where their distance is constant and one
 *           that 2D copies can do. Calls cost time, too: there are AS_FEW_CALLS at the most, or each
 *           moves AS_CALL_BYTES in the mean
 *   block   runs of at least AS_NARROW_ROW bytes that make up half of the block of memory around
 *           them, or more: the block is copied, and the host gathers from it. Also bytes that share
 *           memory, as those of an expanded tensor do: they are copied once. Into memory, only if all
 *           bytes of the block are the piece's: what lies between them is another's
 *   kernel  all else: the kernel packs them into a buffer on the device, or unpacks from it. If
 *           elements are cast, all
 *
 * Without a kernel single elements are worth a block, too, and the host casts. What is left goes by
 * rows or by block, whichever takes less time, at so much for each call, row and byte. A block that
 * has others' bytes is then copied out, changed and copied back, if that is faster by far.
 */
#ifndef ALLSHARD_DEVICE_CUDA_RULE_H
#define ALLSHARD_DEVICE_CUDA_RULE_H

#include <stdbool.h>
#include <stdint.h>

#include "tensor/geometry.h"

enum { AS_WIDE_ROW = 1024, AS_NARROW_ROW = 64, AS_CALL_BYTES = 16 << 10, AS_FEW_CALLS = 4 };

enum as_way_kind { AS_WAY_ROWS, AS_WAY_BLOCK, AS_WAY_KERNEL };

/* What there is. */
typedef struct as_way_limits {
    int64_t max_pitch; /* of 2D copies */
    bool window;       /* rows go straight to a window, or come from one; else packed */
    bool is_cast;      /* the host or the kernel casts elements: nothing goes straight */
    bool writes;       /* into the device's memory */
    int64_t rows;      /* bytes at the most that go as rows; INT64_MAX: there is no limit */
    int64_t block;     /* of a block */
    int64_t kernel;    /* by the kernel; 0: there is none */
} as_way_limits;

typedef struct as_way {
    enum as_way_kind kind; /* a run is rows of one copy */
    bool whole;            /* block: all of its bytes are the piece's, each once */
    int64_t to;            /* the first part of the range that goes this way ends there */
    int64_t low;           /* block: where it begins in memory, from the piece's pointer */
    int64_t high;
} as_way;

/* Which way bytes [from, to) of the piece go, from < to, or a first part of them. Bytes are those
 * of the piece in memory (as_span_uncast). Parts hold at least one byte; those that end early end at
 * a multiple of `unit` bytes, the size of an element that is cast, which from and to are, too, and
 * the limits are not less than. */
as_way as_cuda_way(const as_geometry *m, int64_t unit, int64_t from, int64_t to,
                   const as_way_limits *limits);

/* Can 2D copies move the rows of the piece? `window`: to or from one. */
bool as_cuda_rows_2d(const as_geometry *m, bool window, int64_t max_pitch);

#endif
