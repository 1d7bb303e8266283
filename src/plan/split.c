/* SPDX-License-Identifier: Apache-2.0 */
#include "plan/split.h"

#include "base/checked.h"

/* Shards of places that are not known yet. */
enum { WAITS_FOR_SHARD = -1, WAITS_FOR_EMPTY = -2 };

void as_splitter_init(as_splitter *s, int64_t limit)
{
    *s = (as_splitter){.limit = limit};
}

void as_splitter_free(as_splitter *s)
{
    as_buffer_free(&s->places);
}

static as_split_place *places_of(as_splitter *s)
{
    return (as_split_place *)(void *)s->places.data;
}

static int keep_place(as_splitter *s, int32_t shard, int64_t place, as_error *e)
{
    as_split_place p = {.item = s->count, .shard = shard, .place = (int32_t)place};
    return as_buffer_append(&s->places, &p, sizeof p, e);
}

static int number_shard(as_splitter *s, as_error *e)
{
    if (s->shards == INT32_MAX) {
        return as_fail(e, AS_LIMIT, 0, "more than %d shards; take a larger shard size", INT32_MAX);
    }
    s->shards++;
    return AS_OK;
}

static int close_shard(as_splitter *s, as_error *e)
{
    if (s->open_keys == 0) {
        return AS_OK;
    }
    as_split_place *places = places_of(s);
    for (; s->open_places < as_splitter_count(s); s->open_places++) {
        if (places[s->open_places].shard == WAITS_FOR_SHARD) {
            places[s->open_places].shard = (int32_t)s->shards;
        }
    }
    if (s->empty_open) {
        s->empty_open = false;
        s->empty_shard = (int32_t)s->shards;
        s->empty_keys = s->open_keys;
    }
    s->open_keys = 0;
    s->open_bytes = 0;
    return number_shard(s, e);
}

static int add_large(as_splitter *s, int64_t bytes, bool keep, as_error *e)
{
    if (bytes == 0) {
        s->empty_shard = (int32_t)s->shards;
        s->empty_keys = 1;
    }
    int code = keep ? keep_place(s, (int32_t)s->shards, 0, e) : AS_OK;
    return code == AS_OK ? number_shard(s, e) : code;
}

int as_splitter_add(as_splitter *s, int64_t bytes, bool keep, as_error *e)
{
    int code = AS_OK;
    if (s->count == INT32_MAX) {
        return as_fail(e, AS_LIMIT, 0, "more than %d tensors", INT32_MAX);
    }
    if (bytes == 0 && s->empty_seen) {
        code = keep ? keep_place(s, WAITS_FOR_EMPTY, s->empty, e) : AS_OK;
        s->empty++;
        s->count++;
        return code;
    }
    if (!as_add_i64(s->total, bytes, &s->total)) {
        return as_fail(e, AS_LIMIT, 0, "the tensors sum to more than 2^63 bytes");
    }
    s->empty_seen = s->empty_seen || bytes == 0;
    if (bytes > s->limit) {
        code = add_large(s, bytes, keep, e);
        s->count++;
        return code;
    }
    if (bytes > s->limit - s->open_bytes) {
        code = close_shard(s, e);
    }
    if (code == AS_OK && keep) {
        code = keep_place(s, WAITS_FOR_SHARD, s->open_keys, e);
    }
    s->empty_open = s->empty_open || bytes == 0;
    s->open_keys++;
    s->open_bytes += bytes;
    s->count++;
    return code;
}

int as_splitter_end(as_splitter *s, as_split_result *out, as_error *e)
{
    int code = close_shard(s, e);
    as_split_place *places = places_of(s);
    for (size_t i = 0; i < as_splitter_count(s) && s->empty; i++) {
        if (places[i].shard == WAITS_FOR_EMPTY) {
            places[i].shard = s->empty_shard;
            places[i].place += (int32_t)s->empty_keys;
        }
    }
    *out = (as_split_result){.total_size = s->total, .shard_count = (int32_t)s->shards};
    return code;
}
