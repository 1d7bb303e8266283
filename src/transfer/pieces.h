/* SPDX-License-Identifier: Apache-2.0
 * A list of ranges of pieces, as it goes into a message: who asks for bytes, or
 * sends them, says so piece by piece, and the bytes follow in the same order.
 */
#ifndef ALLSHARD_TRANSFER_PIECES_H
#define ALLSHARD_TRANSFER_PIECES_H

#include <stdint.h>

/* Bytes [low, high) of the line of bytes of the tensor that the piece is of. */
typedef struct as_range {
    int64_t piece; /* at the rank that holds it */
    int64_t low;
    int64_t high;
    int64_t at; /* place of byte `low` in the window, where bytes go through one */
} as_range;

#endif
