/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/checked_source.h"

#include <string.h>

#include "base/checked.h"
#include "base/checksum.h"

/* Makes `block` the one that is held. */
static int hold(as_checked_source *c, int64_t block, as_error *e)
{
    if (c->held == block) {
        return AS_OK;
    }
    c->held = -1;
    if ((size_t)block >= c->sum_count) {
        return as_fail(e, AS_INTERNAL, 0, "%s: the checksum of block %lld was not asked for",
                       c->plain.name, (long long)block);
    }
    int64_t low = block * c->block_bytes;
    int64_t high = as_min_i64(low + c->block_bytes, (int64_t)c->plain.size);
    void *bytes = NULL;
    c->block.size = 0;
    int code = as_buffer_extend(&c->block, (size_t)(high - low), &bytes, e);
    if (code == AS_OK) {
        code = c->plain.read(&c->plain, (uint64_t)low, bytes, (size_t)(high - low), e);
    }
    if (code != AS_OK) {
        return code;
    }
    c->hashed += high - low;
    uint64_t found = as_checksum(bytes, (size_t)(high - low));
    if (found != c->sums[block]) {
        c->bad = (as_bad_block){
            .file = c->file, .low = low, .high = high, .expected = c->sums[block], .found = found};
        return as_bad_block_fail(&c->bad, c->plain.name, NULL, c->path, e);
    }
    c->held = block;
    return AS_OK;
}

static int read_checked(const as_source *source, uint64_t offset, void *bytes, size_t count,
                        as_error *e)
{
    /* The source is constant to its readers; what it remembers is not. */
    as_checked_source *c = (as_checked_source *)(uintptr_t)source->self;
    if (offset > source->size || count > source->size - offset) {
        return c->plain.read(&c->plain, offset, bytes, count, e); /* which says so */
    }
    char *to = bytes;
    int64_t at = (int64_t)offset;
    while (count) {
        int64_t block = at / c->block_bytes;
        int code = hold(c, block, e);
        if (code != AS_OK) {
            return code;
        }
        size_t inside = (size_t)(at - block * c->block_bytes);
        size_t n = count < c->block.size - inside ? count : c->block.size - inside;
        memcpy(to, c->block.data + inside, n);
        to += n;
        at += (int64_t)n;
        count -= n;
    }
    return AS_OK;
}

void as_checked_source_open(as_checked_source *c, as_source *out)
{
    c->block = AS_BUFFER_INIT;
    c->held = -1;
    c->hashed = 0;
    c->bad = AS_BAD_BLOCK_NONE;
    *out =
        (as_source){.read = read_checked, .self = c, .size = c->plain.size, .name = c->plain.name};
}

void as_checked_source_close(as_checked_source *c)
{
    as_buffer_free(&c->block);
}
