/* SPDX-License-Identifier: Apache-2.0 */
#include "plan/descriptor.h"

#include <string.h>

enum { POINTER_SEED = 0x50 };

/* How the box lies in the shape: AS_D_FLAT, AS_D_WHOLE, AS_D_CUT with the dimension, or 0. */
static int form_of(const as_box *b, int *dimension)
{
    if (b->flat) {
        return AS_D_FLAT;
    }
    int cuts = 0;
    for (int d = 0; d < b->ndim; d++) {
        if (b->offset[d] != 0 || b->local[d] != b->shape[d]) {
            cuts++;
            *dimension = d;
        }
    }
    return cuts == 0 ? AS_D_WHOLE : cuts == 1 ? AS_D_CUT : 0;
}

/* What the pointer of a piece shows: two tensors are tied if these sum to the same over all
 * their pieces (the same dtype in memory and in the file, shape, holders, pointers and places).
 * Views of another shape are not tied: dropped, they could not be loaded again from the one that
 * is kept. Pieces of no bytes show nothing, and neither do those without data, which are declared
 * for a plan alone. */
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

/* The numbers behind the head; returns how many. */
static size_t list_dims(const as_box *b, int form, int dimension, int64_t *out)
{
    size_t n = 0;
    for (int d = 0; d < b->ndim; d++) {
        out[n++] = b->shape[d];
    }
    if (form == AS_D_FLAT) {
        out[n++] = b->flat_offset;
        out[n++] = b->flat_count;
    } else if (form == AS_D_CUT) {
        out[n++] = b->offset[dimension];
        out[n++] = b->local[dimension];
    } else if (form == 0) {
        for (int d = 0; d < b->ndim; d++) {
            out[n + (size_t)d] = b->offset[d];
            out[n + (size_t)(b->ndim + d)] = b->local[d];
        }
        n += 2 * (size_t)b->ndim;
    }
    return n;
}

static bool are_narrow(const int64_t *dims, size_t count)
{
    uint64_t all = 0;
    for (size_t i = 0; i < count; i++) {
        all |= (uint64_t)dims[i];
    }
    return all <= UINT32_MAX;
}

size_t as_descriptor_length(const as_state *s, size_t i, bool load)
{
    const as_piece *p = as_state_piece(s, i);
    as_box box = as_state_box(s, i);
    int dimension = 0;
    int64_t dims[3 * AS_MAX_DIMS];
    size_t count = list_dims(&box, form_of(&box, &dimension), dimension, dims);
    size_t storage = load ? 0 : !as_hash_is_zero(p->storage) ? 4 : p->data ? 2 : 0;
    return AS_D_HEAD + storage + (are_narrow(dims, count) ? (count + 1) / 2 : count);
}

typedef struct descriptor_words {
    int64_t words[AS_D_HEAD + 4 + 3 * AS_MAX_DIMS];
    size_t count;
} descriptor_words;

static size_t put_dims(const int64_t *dims, size_t count, bool narrow, int64_t *out)
{
    if (!narrow) {
        memcpy(out, dims, count * sizeof *out);
        return count;
    }
    for (size_t i = 0; i < count; i += 2) {
        uint64_t high = i + 1 < count ? (uint64_t)dims[i + 1] : 0;
        out[i / 2] = (int64_t)((uint64_t)dims[i] | high << 32);
    }
    return (count + 1) / 2;
}

static int make(descriptor_words *out, const as_state *s, size_t i, int rank, bool load,
                as_error *e)
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
    bool tied = !as_hash_is_zero(storage);
    int dimension = 0;
    int form = form_of(&box, &dimension);
    int64_t dims[3 * AS_MAX_DIMS];
    size_t count = list_dims(&box, form, dimension, dims);
    bool narrow = are_narrow(dims, count);
    out->words[AS_D_NAME] = (int64_t)p->name.high;
    out->words[AS_D_NAME + 1] = (int64_t)p->name.low;
    out->words[AS_D_ORDER] = load ? 0 : p->order;
    out->words[AS_D_KIND] =
        (int64_t)(p->dtype | (uint64_t)p->ndim << 8 | (uint64_t)dimension << 13 | (uint64_t)form |
                  (stored ? AS_D_STORED : 0) | (tied ? AS_D_TIED : 0) | (narrow ? AS_D_NARROW : 0) |
                  (uint64_t)i << 32);
    out->count = AS_D_HEAD;
    if (tied) {
        out->words[out->count++] = (int64_t)storage.high;
        out->words[out->count++] = (int64_t)storage.low;
    }
    if (stored) {
        out->words[out->count++] = p->storage_bytes;
        out->words[out->count++] = p->storage_offset;
    }
    out->count += put_dims(dims, count, narrow, out->words + out->count);
    return AS_OK;
}

int as_descriptor_put(as_buffer *out, const as_state *s, size_t i, int rank, bool load, as_error *e)
{
    descriptor_words d;
    int code = make(&d, s, i, rank, load, e);
    return code == AS_OK ? as_words_put(out, d.words, d.count, e) : code;
}

/* Where the dimensions begin, and how many numbers they are. */
static const int64_t *dims_of(const as_descriptor *d, size_t *count)
{
    int64_t kind = d->words[AS_D_KIND];
    size_t ndim = (size_t)as_descriptor_ndim(d);
    size_t head =
        (size_t)AS_D_HEAD + ((kind & AS_D_TIED) ? 2U : 0U) + ((kind & AS_D_STORED) ? 2U : 0U);
    size_t box = (kind & (AS_D_FLAT | AS_D_CUT)) ? 2 : (kind & AS_D_WHOLE) ? 0 : 2 * ndim;
    *count = ndim + box;
    return d->words + head;
}

size_t as_descriptor_size(const as_descriptor *d)
{
    size_t count;
    const int64_t *dims = dims_of(d, &count);
    return (size_t)(dims - d->words) +
           ((d->words[AS_D_KIND] & AS_D_NARROW) ? (count + 1) / 2 : count);
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

static int64_t dim_at(const int64_t *dims, bool narrow, size_t i)
{
    return narrow ? (int64_t)((uint64_t)dims[i / 2] >> (i % 2 * 32) & UINT32_MAX) : dims[i];
}

const int64_t *as_descriptor_shape(const as_descriptor *d, as_dims *room)
{
    size_t count;
    const int64_t *dims = dims_of(d, &count);
    bool narrow = d->words[AS_D_KIND] & AS_D_NARROW;
    for (int k = 0; k < as_descriptor_ndim(d); k++) {
        room->shape[k] = dim_at(dims, narrow, (size_t)k);
    }
    return room->shape;
}

as_box as_descriptor_box(const as_descriptor *d, as_dims *room)
{
    size_t count;
    const int64_t *dims = dims_of(d, &count);
    int64_t kind = d->words[AS_D_KIND];
    bool narrow = kind & AS_D_NARROW;
    int ndim = as_descriptor_ndim(d);
    size_t at = (size_t)ndim;
    as_box box = {.dtype = as_descriptor_dtype(d),
                  .ndim = ndim,
                  .shape = as_descriptor_shape(d, room),
                  .offset = room->offset,
                  .local = room->local};
    if (kind & AS_D_FLAT) {
        box.flat = true;
        box.flat_offset = dim_at(dims, narrow, at);
        box.flat_count = dim_at(dims, narrow, at + 1);
        return box;
    }
    bool all = !(kind & (AS_D_WHOLE | AS_D_CUT));
    for (int k = 0; k < ndim; k++) {
        room->offset[k] = all ? dim_at(dims, narrow, at + (size_t)k) : 0;
        room->local[k] = all ? dim_at(dims, narrow, at + (size_t)(ndim + k)) : room->shape[k];
    }
    if (kind & AS_D_CUT) {
        int cut = (int)(kind >> 13 & 0x1f);
        room->offset[cut] = dim_at(dims, narrow, at);
        room->local[cut] = dim_at(dims, narrow, at + 1);
    }
    return box;
}
