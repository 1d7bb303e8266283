/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/block_sums.h"

#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "comm/collect.h"

_Static_assert(AS_COLLECT_CHUNK % sizeof(as_block_sum) == 0, "chunks hold whole records");

void as_block_sums_free(as_block_sums *s)
{
    free(s->first);
    free(s->sums);
    *s = (as_block_sums){0};
}

typedef struct collector {
    const as_block_files *files;
    as_block_sums *sums;
    char *known; /* [blocks]: 1 where a sum has come */
} collector;

static size_t total(const collector *k)
{
    return k->sums->first[k->files->count];
}

static int prepare(collector *k, as_error *e)
{
    const as_block_files *files = k->files;
    as_block_sums *s = k->sums;
    s->first = calloc(files->count + 1, sizeof *s->first);
    if (!s->first) {
        return as_fail_nomem(e);
    }
    for (size_t f = 0; f < files->count; f++) {
        s->first[f + 1] = s->first[f] + (size_t)as_ceil_div(files->sizes[f], files->block_bytes);
    }
    s->sums = calloc(total(k) + 1, sizeof *s->sums);
    k->known = calloc(total(k) + 1, sizeof *k->known);
    return s->sums && k->known ? AS_OK : as_fail_nomem(e);
}

static int take(void *user, int from, const char *bytes, size_t count, as_error *e)
{
    collector *k = user;
    for (size_t i = 0; i < count / sizeof(as_block_sum); i++) {
        as_block_sum b;
        memcpy(&b, bytes + i * sizeof b, sizeof b);
        bool inside = b.file >= 0 && b.file < (int64_t)k->files->count && b.block >= 0;
        size_t at = inside ? k->sums->first[b.file] + (size_t)b.block : 0;
        if (!inside || at >= k->sums->first[b.file + 1] || k->known[at]) {
            return as_fail(e, AS_INTERNAL, 0,
                           "rank %d has a checksum of block %lld of file %lld, which is not there "
                           "or was written twice",
                           from, (long long)b.block, (long long)b.file);
        }
        k->known[at] = 1;
        k->sums->sums[at] = b.sum;
    }
    return AS_OK;
}

int as_block_sums_collect(as_block_sums *out, as_comm *c, const as_block_files *files,
                          const as_buffer *mine, as_error *e)
{
    *out = (as_block_sums){0};
    collector k = {.files = files, .sums = out};
    bool is_main = as_comm_rank(c) == 0;
    if (is_main) {
        (void)prepare(&k, e);
    }
    int code = as_comm_collect(c, mine, take, &k, e);
    if (code == AS_OK && is_main) {
        const char *hole = memchr(k.known, 0, total(&k));
        if (hole) {
            (void)as_fail(e, AS_INTERNAL, 0, "block %zu of all has no checksum",
                          (size_t)(hole - k.known));
        }
    }
    free(k.known);
    return code == AS_OK ? as_comm_agree(c, e) : code;
}

int as_block_sums_add(as_buffer *mine, int64_t file, const void *bytes, size_t count,
                      int64_t block_bytes, as_error *e)
{
    as_sum_stream s = {.block_bytes = block_bytes};
    int code = as_sum_stream_add(&s, bytes, count, e);
    if (code == AS_OK) {
        code = as_sum_stream_end(&s, e);
    }
    const uint64_t *sums = (const uint64_t *)(const void *)s.sums.data;
    for (size_t i = 0; i < s.sums.size / sizeof *sums && code == AS_OK; i++) {
        as_block_sum b = {.file = file, .block = (int64_t)i, .sum = sums[i]};
        code = as_buffer_append(mine, &b, sizeof b, e);
    }
    as_sum_stream_free(&s);
    return code;
}

static int close_block(as_sum_stream *s, as_error *e)
{
    uint64_t sum = as_checksum_end(s->hash);
    as_checksum_begin(s->hash);
    s->filled = 0;
    return as_buffer_append(&s->sums, &sum, sizeof sum, e);
}

int as_sum_stream_add(as_sum_stream *s, const void *bytes, size_t count, as_error *e)
{
    const char *at = bytes;
    int code = s->hash ? AS_OK : as_checksum_open(&s->hash, e);
    while (code == AS_OK && count) {
        size_t n = (size_t)as_min_i64((int64_t)count, s->block_bytes - s->filled);
        as_checksum_add(s->hash, at, n);
        s->filled += (int64_t)n;
        at += n;
        count -= n;
        if (s->filled == s->block_bytes) {
            code = close_block(s, e);
        }
    }
    return code;
}

int as_sum_stream_end(as_sum_stream *s, as_error *e)
{
    return s->filled ? close_block(s, e) : AS_OK;
}

void as_sum_stream_free(as_sum_stream *s)
{
    as_checksum_close(s->hash);
    as_buffer_free(&s->sums);
    *s = (as_sum_stream){0};
}
