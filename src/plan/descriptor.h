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

/* Words of the head. */
enum {
    AS_D_NAME = 0,    /* 2 words: hash */
    AS_D_ORDER = 2,   /* order key, 0: none */
    AS_D_KIND = 3,    /* dtype, ndim, flags */
    AS_D_PIECE = 4,   /* index of the piece at its holder */
    AS_D_STORAGE = 5, /* 2 words: identity of the storage, or what the pointer shows */
    AS_D_STORAGE_BYTES = 7,
    AS_D_STORAGE_OFFSET = 8,
    AS_D_HEAD = 9
};

/* Flags of the kind. AS_D_ALIAS: to load, declared under a name that was dropped when it was
 * saved; the descriptor carries the name that was kept. */
enum { AS_D_FLAT = 1 << 16, AS_D_WHOLE = 1 << 17, AS_D_STORED = 1 << 18, AS_D_ALIAS = 1 << 19 };

/* Appends the descriptor of piece i. To save, with order key and storage (pointers are
 * hashed together with `rank`); to load neither counts, and both are left out. */
int as_descriptor_put(as_buffer *out, const as_state *s, size_t i, int rank, bool load,
                      as_error *e);

/* Takes the next descriptor of a message; false at its end. */
bool as_descriptor_take(as_words *w, int rank, as_descriptor *out);

/* Words of the whole descriptor. */
size_t as_descriptor_size(const as_descriptor *d);

as_box as_descriptor_box(const as_descriptor *d);

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
    return (int)(d->words[AS_D_KIND] >> 8 & 0xff);
}

static inline const int64_t *as_descriptor_shape(const as_descriptor *d)
{
    return d->words + AS_D_HEAD;
}

#endif
