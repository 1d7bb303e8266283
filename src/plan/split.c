/* SPDX-License-Identifier: Apache-2.0 */
#include "plan/split.h"

#include <stdlib.h>

#include "base/buffer.h"
#include "base/checked.h"

/* A tensor of a storage that was seen before. */
typedef struct later {
    size_t first; /* item that brought the storage */
    size_t item;
} later;

/* First item of each storage: open addressing over a power of two of slots. */
typedef struct storages {
    size_t *slots; /* item + 1; 0: free */
    size_t mask;
} storages;

static size_t find_first(storages *s, const as_split_item *items, size_t i)
{
    size_t slot = (size_t)(items[i].storage * UINT64_C(0x9E3779B97F4A7C15) >> 20) & s->mask;
    while (s->slots[slot] && items[s->slots[slot] - 1].storage != items[i].storage) {
        slot = (slot + 1) & s->mask;
    }
    if (!s->slots[slot]) {
        s->slots[slot] = i + 1;
    }
    return s->slots[slot] - 1;
}

static int make_storages(storages *s, const as_split_item *items, size_t count, as_error *e)
{
    size_t with_storage = 0;
    for (size_t i = 0; i < count; i++) {
        with_storage += items[i].storage != 0;
    }
    size_t size = 16;
    while (size < 2 * with_storage) {
        size *= 2;
    }
    s->slots = calloc(size, sizeof *s->slots);
    s->mask = size - 1;
    return s->slots ? AS_OK : as_fail_nomem(e);
}

static int compare_later(const void *a, const void *b)
{
    const later *x = a;
    const later *y = b;
    if (x->first != y->first) {
        return x->first < y->first ? -1 : 1;
    }
    return (x->item > y->item) - (x->item < y->item);
}

typedef struct splitter {
    as_split_item *items;
    int64_t limit;
    int64_t total;
    int64_t open_bytes; /* of the shard that is being filled */
    int64_t open_keys;
    int64_t shards;       /* numbered so far */
    as_buffer open;       /* size_t[]: items of the open shard, whose number is not known yet */
    as_buffer next_place; /* int64_t per numbered shard: keys it has */
} splitter;

static int number_shard(splitter *s, int64_t keys, as_error *e)
{
    if (s->shards == INT32_MAX) {
        return as_fail(e, AS_LIMIT, 0, "more than %d shards; take a larger shard size", INT32_MAX);
    }
    s->shards++;
    return as_buffer_append(&s->next_place, &keys, sizeof keys, e);
}

static int close_shard(splitter *s, as_error *e)
{
    if (s->open_keys == 0) {
        return AS_OK;
    }
    const size_t *open = (const size_t *)(const void *)s->open.data;
    for (int64_t k = 0; k < s->open_keys; k++) {
        s->items[open[k]].shard = (int32_t)s->shards;
    }
    int code = number_shard(s, s->open_keys, e);
    s->open.size = 0;
    s->open_keys = 0;
    s->open_bytes = 0;
    return code;
}

static int place_item(splitter *s, size_t i, as_error *e)
{
    as_split_item *item = &s->items[i];
    if (!as_add_i64(s->total, item->bytes, &s->total)) {
        return as_fail(e, AS_LIMIT, 0, "the tensors sum to more than 2^63 bytes");
    }
    if (item->bytes > s->limit) {
        item->shard = (int32_t)s->shards;
        item->place = 0;
        return number_shard(s, 1, e);
    }
    int code = AS_OK;
    if (s->open_bytes + item->bytes > s->limit) {
        code = close_shard(s, e);
    }
    if (code == AS_OK) {
        item->place = s->open_keys++;
        s->open_bytes += item->bytes;
        code = as_buffer_append(&s->open, &i, sizeof i, e);
    }
    return code;
}

int as_split(as_split_item *items, size_t count, int64_t limit, as_split_result *out, as_error *e)
{
    splitter s = {.items = items, .limit = limit};
    storages seen = {0};
    as_buffer rest = AS_BUFFER_INIT;
    int code = make_storages(&seen, items, count, e);
    for (size_t i = 0; i < count && code == AS_OK; i++) {
        size_t first = items[i].storage ? find_first(&seen, items, i) : i;
        if (first == i) {
            code = place_item(&s, i, e);
        } else {
            code = as_buffer_append(&rest, &(later){first, i}, sizeof(later), e);
        }
    }
    if (code == AS_OK) {
        code = close_shard(&s, e);
    }
    if (code == AS_OK && rest.size) {
        later *l = (later *)(void *)rest.data;
        size_t n = rest.size / sizeof *l;
        qsort(l, n, sizeof *l, compare_later);
        int64_t *next = (int64_t *)(void *)s.next_place.data;
        for (size_t k = 0; k < n; k++) {
            items[l[k].item].shard = items[l[k].first].shard;
            items[l[k].item].place = next[items[l[k].first].shard]++;
        }
    }
    *out = (as_split_result){.total_size = s.total, .shard_count = (int32_t)s.shards};
    free(seen.slots);
    as_buffer_free(&rest);
    as_buffer_free(&s.open);
    as_buffer_free(&s.next_place);
    return code;
}
