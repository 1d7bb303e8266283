/* SPDX-License-Identifier: Apache-2.0
 * Which tensor goes into which file: the greedy split of huggingface_hub
 * (serialization/_base.py, split_state_dict_into_shards_factory), name for name.
 */
#ifndef ALLSHARD_PLAN_SPLIT_H
#define ALLSHARD_PLAN_SPLIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"

/* Where an item goes. */
typedef struct as_split_place {
    size_t item;
    int32_t shard; /* 0 … shard count − 1 */
    int32_t place; /* position among the keys of its shard */
} as_split_place;

typedef struct as_split_result {
    int64_t total_size; /* bytes */
    int32_t shard_count;
} as_split_result;

/* Items go by in global order, and only the places of those that are asked for are kept: a rank
 * holds no list of all tensors for this. */
typedef struct as_splitter {
    int64_t limit;
    int64_t total;
    int64_t open_bytes; /* of the shard that is being filled */
    int64_t open_keys;
    int64_t shards;     /* numbered so far */
    size_t count;       /* items so far */
    size_t open_places; /* from here on places may wait for the open shard's number */
    int64_t empty;      /* items of no bytes after the first */
    int64_t empty_keys; /* keys of the shard of the first, without those */
    int32_t empty_shard;
    bool empty_open; /* the first is in the open shard */
    bool empty_seen;
    as_buffer places; /* as_split_place[]: by item */
} as_splitter;

/* A shard holds at most `limit` bytes, unless one tensor alone is larger: it becomes a shard of its
 * own, numbered at once, while the open shard goes on filling. `limit` may be 0 or negative. */
void as_splitter_init(as_splitter *s, int64_t limit);

/* The next item. All tensors of no bytes share torch's storage (cpu, 0, 0) and stay together: all
 * but the first go to the end of the shard of the first. Keeps its place if `keep`. AS_LIMIT past
 * 2^31−1 items or shards, or 2^63−1 bytes; AS_NOMEM. */
int as_splitter_add(as_splitter *s, int64_t bytes, bool keep, as_error *e);

/* After the last: fills in all places. */
int as_splitter_end(as_splitter *s, as_split_result *out, as_error *e);

void as_splitter_free(as_splitter *s);

static inline size_t as_splitter_count(const as_splitter *s)
{
    return s->places.size / sizeof(as_split_place);
}

static inline const as_split_place *as_splitter_place(const as_splitter *s, size_t i)
{
    return (const as_split_place *)(const void *)s->places.data + i;
}

#endif
