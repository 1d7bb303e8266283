/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/look_share.h"

#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "plan/words.h"

enum { HEAD = 9, TENSOR = 4 }; /* words */

_Static_assert(sizeof(as_look_tensor) == TENSOR * sizeof(int64_t), "a tensor is four words");

static int64_t span_of(const as_look_file *f)
{
    return f->sums ? f->saved_size : as_max_i64(f->size, 0);
}

static int64_t block_of(const as_look_file *f)
{
    return f->sums ? f->block_bytes : AS_LOOK_PIECE;
}

/* The begin of a rank's share of so many bytes. */
static int64_t share_at(int64_t bytes, int rank, int ranks)
{
    return bytes / ranks * rank + bytes % ranks * rank / ranks;
}

/* The first of the file's blocks that begins at `low` or after it. */
static int64_t block_from(const as_look_file *f, int64_t low)
{
    int64_t blocks = as_ceil_div(span_of(f), block_of(f));
    return low <= 0 ? 0 : as_min_i64(as_ceil_div(low, block_of(f)), blocks);
}

/* The tensors of a file that hold floats, have bytes, and touch [begin, end). */
static int write_tensors(const as_table *t, int64_t begin, int64_t end, as_buffer *out, as_error *e)
{
    int code = AS_OK;
    for (size_t i = 0; t && i < as_table_count(t) && code == AS_OK; i++) {
        const as_entry *x = as_table_entry(t, i);
        if (x->end > x->begin && (int64_t)x->begin < end && (int64_t)x->end > begin &&
            as_specials_bytes(x->dtype) > 0) {
            as_look_tensor one = {.begin = (int64_t)x->begin,
                                  .end = (int64_t)x->end,
                                  .dtype = x->dtype,
                                  .entry = (int64_t)i};
            code = as_buffer_append(out, &one, sizeof one, e);
        }
    }
    return code;
}

static int write_part(const as_look_order *order, size_t file, int64_t first, int64_t last,
                      as_buffer *out, as_error *e)
{
    const as_look_file *f = &order->files[file];
    int64_t block = block_of(f);
    /* The last block's end may lie past what 63 bits hold. */
    int64_t end = last > span_of(f) / block ? span_of(f) : last * block;
    as_buffer tensors = AS_BUFFER_INIT;
    int code = write_tensors(f->table, first * block, end, &tensors, e);
    size_t words = tensors.size / sizeof(int64_t);
    const int64_t head[HEAD] = {(int64_t)file, f->size,       span_of(f),
                                block,         first * block, end,
                                f->sums != 0,  last - first,  (int64_t)words / TENSOR};
    if (code == AS_OK) {
        code = as_words_put(out, head, HEAD, e);
    }
    if (code == AS_OK) {
        code = as_words_put_bytes(out, f->name, strlen(f->name), e);
    }
    if (code == AS_OK && f->sums) {
        code = as_buffer_append(out, f->sums + first, (size_t)(last - first) * sizeof *f->sums, e);
    }
    if (code == AS_OK && words > 0) {
        code = as_buffer_append(out, tensors.data, tensors.size, e);
    }
    as_buffer_free(&tensors);
    return code;
}

int as_look_share_write(const as_look_order *order, int rank, int ranks, as_buffer *out,
                        as_error *e)
{
    int64_t total = 0;
    for (size_t i = 0; i < order->file_count; i++) {
        if (!as_add_i64(total, span_of(&order->files[i]), &total)) {
            return as_fail(e, AS_LIMIT, 0, "%s: all files together pass 2^63 bytes", order->path);
        }
    }
    int64_t low = share_at(total, rank, ranks);
    int64_t high = share_at(total, rank + 1, ranks);
    int code = AS_OK;
    for (size_t i = 0; i < order->file_count && code == AS_OK; i++) {
        int64_t first = block_from(&order->files[i], low);
        int64_t last = block_from(&order->files[i], high);
        if (first < last) {
            code = write_part(order, i, first, last, out, e);
        }
        low -= span_of(&order->files[i]);
        high -= span_of(&order->files[i]);
    }
    return code;
}

static int broken(as_error *e)
{
    return as_fail(e, AS_INTERNAL, 0, "the share of a rank cannot be read");
}

static int read_part(as_look_part *p, as_words *w, as_error *e)
{
    const int64_t *head = as_words_take(w, HEAD);
    if (!head) {
        return broken(e);
    }
    *p = (as_look_part){.file = head[0],
                        .size = head[1],
                        .span = head[2],
                        .block_bytes = head[3],
                        .begin = head[4],
                        .end = head[5],
                        .tensor_count = (size_t)head[8]};
    size_t length;
    const char *name = as_words_take_bytes(w, &length);
    if (!name) {
        return broken(e);
    }
    p->name = strndup(name, length);
    if (!p->name) {
        return as_fail_nomem(e);
    }
    if (head[6]) {
        p->sums = (const uint64_t *)as_words_take(w, (size_t)head[7]);
    }
    p->tensors = (const as_look_tensor *)(const void *)as_words_take(w, TENSOR * p->tensor_count);
    return (head[6] && !p->sums) || !p->tensors ? broken(e) : AS_OK;
}

int as_look_share_read(as_look_share *out, as_buffer *text, as_error *e)
{
    *out = (as_look_share){.text = *text};
    *text = AS_BUFFER_INIT;
    as_words w = as_words_of(out->text.data, out->text.size);
    size_t room = 0;
    int code = AS_OK;
    while (w.at < w.end && code == AS_OK) {
        if (out->count == room) {
            room = room ? 2 * room : 8;
            as_look_part *grown = realloc(out->parts, room * sizeof *grown);
            if (!grown) {
                return as_fail_nomem(e);
            }
            out->parts = grown;
        }
        as_look_part *p = &out->parts[out->count++];
        code = read_part(p, &w, e);
        out->bytes += p->end - p->begin;
    }
    return code;
}

void as_look_share_free(as_look_share *s)
{
    for (size_t i = 0; i < s->count; i++) {
        free(s->parts[i].name);
    }
    free(s->parts);
    as_buffer_free(&s->text);
    *s = (as_look_share){0};
}
