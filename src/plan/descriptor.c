/* SPDX-License-Identifier: Apache-2.0 */
#include "plan/descriptor.h"

#include <string.h>

enum { POINTER_SEED = 0x50 };

static const int64_t zeros[AS_MAX_DIMS];

static bool is_whole(const as_box *b)
{
    if (b->flat) {
        return false;
    }
    return b->ndim == 0 || (memcmp(b->offset, zeros, (size_t)b->ndim * sizeof *b->offset) == 0 &&
                            memcmp(b->local, b->shape, (size_t)b->ndim * sizeof *b->shape) == 0);
}

/* What the pointer of a piece shows: two tensors are tied if these sum to the same over all
 * their pieces (the same dtype in memory and in the file, shape, holders, pointers and places). Views of another shape are
 * not tied: dropped, they could not be loaded again from the one that is kept. Pieces of no bytes show nothing, and
 * neither do those without data, which are declared for a plan alone. */
static int pointer_identity(const as_state *s, size_t i, int rank, as_hash *out, as_error *e)
{
    *out = (as_hash){0};
    if (!as_state_piece(s, i)->data) {
        return AS_OK;
    }
    as_box box = as_state_memory_box(s, i);
    as_geometry g;
    int code = as_geometry_memory(&box, &g, e);
    if (code != AS_OK || g.ndim == 0) {
        return code;
    }
    int64_t seen[4 + AS_MAX_DIMS + 4 * AS_GEOMETRY_DIMS];
    size_t n = 0;
    seen[n++] = (int64_t)box.dtype << 8 | box.ndim;
    seen[n++] = as_state_piece(s, i)->dtype;
    for (int d = 0; d < box.ndim; d++) {
        seen[n++] = box.shape[d];
    }
    seen[n++] = rank;
    seen[n++] = (int64_t)(intptr_t)as_state_piece(s, i)->data;
    for (int d = 0; d < g.ndim; d++) {
        seen[n++] = g.global[d];
        seen[n++] = g.offset[d];
        seen[n++] = g.shape[d];
        seen[n++] = g.stride[d];
    }
    *out = as_hash_seeded(seen, n * sizeof *seen, POINTER_SEED);
    return AS_OK;
}

int as_descriptor_put(as_buffer *out, const as_state *s, size_t i, int rank, bool load, as_error *e)
{
    const as_piece *p = as_state_piece(s, i);
    as_box box = as_state_box(s, i);
    bool stored = !load && !as_hash_is_zero(p->storage);
    as_hash storage = stored ? p->storage : (as_hash){0};
    int code = AS_OK;
    if (!load && !stored) {
        code = pointer_identity(s, i, rank, &storage, e);
    }
    if (code != AS_OK) {
        return code;
    }
    bool whole = is_whole(&box);
    int64_t head[AS_D_HEAD] = {
        [AS_D_NAME] = (int64_t)p->name.high,
        [AS_D_NAME + 1] = (int64_t)p->name.low,
        [AS_D_ORDER] = load ? 0 : p->order,
        [AS_D_KIND] = p->dtype | p->ndim << 8 | (box.flat ? AS_D_FLAT : 0) |
                      (whole ? AS_D_WHOLE : 0) | (stored ? AS_D_STORED : 0),
        [AS_D_PIECE] = (int64_t)i,
        [AS_D_STORAGE] = (int64_t)storage.high,
        [AS_D_STORAGE + 1] = (int64_t)storage.low,
        [AS_D_STORAGE_BYTES] = stored ? p->storage_bytes : 0,
        [AS_D_STORAGE_OFFSET] = stored ? p->storage_offset : 0,
    };
    code = as_words_put(out, head, AS_D_HEAD, e);
    if (code == AS_OK) {
        code = as_words_put(out, box.shape, (size_t)box.ndim, e);
    }
    if (code == AS_OK && box.flat) {
        code = as_words_put(out, (int64_t[]){box.flat_offset, box.flat_count}, 2, e);
    } else if (code == AS_OK && !whole) {
        code = as_words_put(out, box.offset, (size_t)box.ndim, e);
        if (code == AS_OK) {
            code = as_words_put(out, box.local, (size_t)box.ndim, e);
        }
    }
    return code;
}

size_t as_descriptor_size(const as_descriptor *d)
{
    size_t ndim = (size_t)as_descriptor_ndim(d);
    int64_t kind = d->words[AS_D_KIND];
    size_t box = kind & AS_D_FLAT ? 2 : kind & AS_D_WHOLE ? 0 : 2 * ndim;
    return AS_D_HEAD + ndim + box;
}

bool as_descriptor_take(as_words *w, int rank, as_descriptor *out)
{
    as_words look = *w;
    const int64_t *head = as_words_take(&look, AS_D_HEAD);
    if (!head) {
        return false;
    }
    *out = (as_descriptor){.words = head, .rank = rank};
    return as_words_take(w, as_descriptor_size(out)) != NULL;
}

as_box as_descriptor_box(const as_descriptor *d)
{
    int ndim = as_descriptor_ndim(d);
    const int64_t *shape = as_descriptor_shape(d);
    as_box box = {.dtype = as_descriptor_dtype(d), .ndim = ndim, .shape = shape};
    if (d->words[AS_D_KIND] & AS_D_FLAT) {
        box.flat = true;
        box.flat_offset = shape[ndim];
        box.flat_count = shape[ndim + 1];
    } else if (d->words[AS_D_KIND] & AS_D_WHOLE) {
        box.offset = zeros;
        box.local = shape;
    } else {
        box.offset = shape + ndim;
        box.local = shape + 2 * ndim;
    }
    return box;
}
