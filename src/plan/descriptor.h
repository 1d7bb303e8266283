/* SPDX-License-Identifier: Apache-2.0
 * What a rank tells the owner of a tensor about one of its pieces: words of a
 * fixed head, then the shape and the box. No name travels.
 */
#ifndef ALLSHARD_PLAN_DESCRIPTOR_H
#define ALLSHARD_PLAN_DESCRIPTOR_H

#include <stdbool.h>
#include <stdint.h>

#include "plan/state.h"
#include "plan/words.h"

/* A descriptor in a message that stays in memory. */
typedef struct as_descriptor {
    const int64_t *words;
    int32_t rank; /* holder */
} as_descriptor;

/* Words of the head. The storage follows if AS_D_TIED is set: its identity, or what the pointer
 * shows (2 words), and with AS_D_STORED its bytes and the tensor's offset in it. Then come the
 * shape and the box: numbers of 64 bits, or with AS_D_NARROW of 32. */
enum {
    AS_D_NAME = 0,  /* 2 words: hash */
    AS_D_ORDER = 2, /* order key, 0: none */
    AS_D_KIND =
        3, /* from the lowest bit: dtype (8), ndim (5), dimension of the cut (5), flags (14),
                       index of the piece at its holder (32) */
    AS_D_HEAD = 4
};

/* Flags of the kind. AS_D_ALIAS: to load, declared under a name that was dropped when it was
 * saved; the descriptor carries the name that was kept. Of the box there are: flat, offset and
 * count; whole, nothing; cut in one dimension, offset and count there; else offsets and counts of
 * all. */
enum {
    AS_D_FLAT = 1 << 18,
    AS_D_WHOLE = 1 << 19,
    AS_D_CUT = 1 << 20,
    AS_D_STORED = 1 << 21,
    AS_D_TIED = 1 << 22,
    AS_D_ALIAS = 1 << 23,
    AS_D_NARROW = 1 << 24,
};

/* Indexes of pieces travel as 32 bits. */
enum { AS_MOST_PIECES = INT32_MAX };

/* Room for the dimensions of a box: shape, offset, extent. */
typedef struct as_dims {
    int64_t shape[AS_MAX_DIMS];
    int64_t offset[AS_MAX_DIMS];
    int64_t local[AS_MAX_DIMS];
} as_dims;

/* Appends the descriptor of piece i (below AS_MOST_PIECES). To save, with order key and storage
 * (pointers are hashed together with `rank`); to load neither counts, and both are left out. */
int as_descriptor_put(as_buffer *out, const as_state *s, size_t i, int rank, bool load,
                      as_error *e);

/* Words that it will have, or a few more. */
size_t as_descriptor_length(const as_state *s, size_t i, bool load);

/* Takes the next descriptor of a message; false at its end. */
bool as_descriptor_take(as_words *w, int rank, as_descriptor *out);

/* Words of the whole descriptor. */
size_t as_descriptor_size(const as_descriptor *d);

/* Its box; the arrays are in `room`. */
as_box as_descriptor_box(const as_descriptor *d, as_dims *room);

/* Its shape alone, in room->shape, which comes back. */
const int64_t *as_descriptor_shape(const as_descriptor *d, as_dims *room);

static inline as_hash as_descriptor_name(const as_descriptor *d)
{
    return as_words_hash(d->words + AS_D_NAME);
}

static inline int as_descriptor_dtype(const as_descriptor *d)
{
    return (int)(d->words[AS_D_KIND] & 0xff);
}

static inline int as_descriptor_ndim(const as_descriptor *d)
{
    return (int)(d->words[AS_D_KIND] >> 8 & 0x1f);
}

static inline int64_t as_descriptor_piece(const as_descriptor *d)
{
    return (int64_t)((uint64_t)d->words[AS_D_KIND] >> 32);
}

/* Zero if there is none. */
static inline as_hash as_descriptor_storage(const as_descriptor *d)
{
    return d->words[AS_D_KIND] & AS_D_TIED ? as_words_hash(d->words + AS_D_HEAD) : (as_hash){0};
}

/* Bytes of a stored descriptor's storage, and the tensor's offset in it. */
static inline const int64_t *as_descriptor_extent(const as_descriptor *d)
{
    return d->words + AS_D_HEAD + 2;
}

#endif
