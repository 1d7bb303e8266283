/* SPDX-License-Identifier: Apache-2.0
 * Which tensor goes into which file: the greedy split of huggingface_hub
 * (serialization/_base.py, split_state_dict_into_shards_factory), name for name.
 */
#ifndef ALLSHARD_PLAN_SPLIT_H
#define ALLSHARD_PLAN_SPLIT_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

typedef struct as_split_item {
    int64_t bytes;
    uint64_t storage; /* tensors of one number other than 0 stay together, as one */
    int64_t place;    /* out: position among the keys of its shard */
    int32_t shard;    /* out: 0 … shard count − 1 */
} as_split_item;

typedef struct as_split_result {
    int64_t total_size; /* bytes; a storage counts once */
    int32_t shard_count;
} as_split_result;

/* Splits `items`, which stand in global order. A shard holds at most `limit` bytes,
 * unless one tensor alone is larger: it becomes a shard of its own, numbered at once,
 * while the open shard goes on filling. `limit` may be 0 or negative. A later tensor
 * of a storage goes to the end of the shard of the first. AS_LIMIT past 2^31−1 shards
 * or 2^63−1 bytes, AS_NOMEM. */
int as_split(as_split_item *items, size_t count, int64_t limit, as_split_result *out, as_error *e);

#endif
