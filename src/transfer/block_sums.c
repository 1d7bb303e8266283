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
    free(s->known);
    *s = (as_block_sums){0};
}

static size_t total(const as_block_sums *s)
{
    return s->first[s->files];
}

int as_block_sums_begin(as_block_sums *s, const as_block_files *files, as_error *e)
{
    s->files = files->count;
    s->first = calloc(files->count + 1, sizeof *s->first);
    if (!s->first) {
        return as_fail_nomem(e);
    }
    for (size_t f = 0; f < files->count; f++) {
        s->first[f + 1] = s->first[f] + (size_t)as_ceil_div(files->sizes[f], files->block_bytes);
    }
    s->sums = calloc(total(s) + 1, sizeof *s->sums);
    s->known = calloc(total(s) + 1, sizeof *s->known);
    return s->sums && s->known ? AS_OK : as_fail_nomem(e);
}

int as_block_sums_take(as_block_sums *s, int from, const void *records, size_t bytes, as_error *e)
{
    if (bytes % sizeof(as_block_sum) != 0) {
        return as_fail(e, AS_INTERNAL, 0, "a message with checksums of rank %d is cut off", from);
    }
    for (size_t i = 0; i < bytes / sizeof(as_block_sum); i++) {
        as_block_sum b;
        memcpy(&b, (const char *)records + i * sizeof b, sizeof b);
        bool inside = b.file >= 0 && b.file < (int64_t)s->files && b.block >= 0;
        size_t count = inside ? s->first[b.file + 1] - s->first[b.file] : 0;
        inside = (uint64_t)b.block < count;
        size_t at = inside ? s->first[b.file] + (size_t)b.block : 0;
        if (!inside || s->known[at]) {
            return as_fail(e, AS_INTERNAL, 0,
                           "rank %d has a checksum of block %lld of file %lld, which is not there "
                           "or was written twice",
                           from, (long long)b.block, (long long)b.file);
        }
        s->known[at] = 1;
        s->sums[at] = b.sum;
    }
    return AS_OK;
}

int as_block_sums_end(as_block_sums *s, as_error *e)
{
    const char *hole = memchr(s->known, 0, total(s));
    int code = hole ? as_fail(e, AS_INTERNAL, 0, "block %zu of all has no checksum",
                              (size_t)(hole - s->known))
                    : AS_OK;
    free(s->known);
    s->known = NULL;
    return code;
}

static int take(void *user, int from, const char *bytes, size_t count, as_error *e)
{
    return as_block_sums_take(user, from, bytes, count, e);
}

int as_block_sums_collect(as_block_sums *out, as_comm *c, const as_block_files *files,
                          const as_buffer *mine, as_error *e)
{
    bool is_main = as_comm_rank(c) == 0;
    *out = (as_block_sums){0};
    if (is_main) {
        (void)as_block_sums_begin(out, files, e);
    }
    int code = as_comm_collect(c, mine, take, out, e);
    if (code == AS_OK && is_main) {
        (void)as_block_sums_end(out, e);
    }
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
