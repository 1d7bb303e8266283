/* SPDX-License-Identifier: Apache-2.0
 * What an owner knows: the tensors whose name hash falls to it, and who holds
 * which box of them.
 */
#ifndef ALLSHARD_PLAN_CATALOG_H
#define ALLSHARD_PLAN_CATALOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "plan/descriptor.h"
#include "plan/fault.h"

/* One tensor. */
typedef struct as_owned {
    as_hash name;
    size_t first; /* of its descriptors */
    size_t count;
    int64_t order; /* key, or (source rank << 32 | piece) if there are no keys */
    int64_t bytes;
    int64_t offset; /* of its first byte in the file; set later */
    as_hash storage;
    int32_t source; /* lowest rank that declares it */
    int32_t file;   /* −1 until known */
    bool keyed;
    bool dropped; /* tied, and another name is kept */
} as_owned;

typedef struct as_catalog {
    as_buffer messages[2]; /* where the descriptors' words live */
    as_buffer descriptors; /* as_descriptor[], sorted by name, rank, piece */
    as_buffer tensors;     /* as_owned[], sorted by name */
} as_catalog;

void as_catalog_free(as_catalog *c);

/* Appends the descriptors of a message to the list. */
int as_catalog_add(as_catalog *c, as_words words, int rank, as_error *e);

/* Sorts the descriptors and makes the tensors: all declarers must agree on dtype, shape,
 * order key and storage; AS_MISMATCH names the tensor and both ranks. */
int as_catalog_merge(as_catalog *c, as_fault *fault, as_error *e);

static inline size_t as_catalog_count(const as_catalog *c)
{
    return c->tensors.size / sizeof(as_owned);
}

static inline as_owned *as_catalog_tensor(const as_catalog *c, size_t i)
{
    return (as_owned *)(void *)c->tensors.data + i;
}

static inline const as_descriptor *as_catalog_descriptor(const as_catalog *c, size_t i)
{
    return (const as_descriptor *)(const void *)c->descriptors.data + i;
}

/* NULL if this rank owns no tensor of that name. */
as_owned *as_catalog_find(const as_catalog *c, as_hash name);

#endif
