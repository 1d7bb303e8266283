/* SPDX-License-Identifier: Apache-2.0 */
#include "plan/state.h"

#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/quote.h"
#include "base/utf8.h"
#include "tensor/cast.h"
#include "tensor/dtype.h"

enum { STORAGE_SEED = 0x53 };

int as_state_init(as_state *s, const char *part, as_error *e)
{
    *s = (as_state){0};
    s->part = strdup(part);
    s->seams = calloc(1, sizeof *s->seams);
    if (!s->part || !s->seams) {
        as_state_free(s);
        return as_fail_nomem(e);
    }
    return AS_OK;
}

static void free_file(as_small_file *f)
{
    free(f->name);
    free(f->bytes);
}

void as_state_free(as_state *s)
{
    for (size_t i = 0; i < as_state_file_count(s); i++) {
        free_file((as_small_file *)(void *)s->files.data + i);
    }
    free(s->part);
    as_buffer_free(&s->pieces);
    as_buffer_free(&s->names);
    as_buffer_free(&s->dims);
    as_buffer_free(&s->files);
    as_pairs_free(&s->metadata);
    if (s->seams) {
        as_buffer_free(s->seams);
        free(s->seams);
    }
    *s = (as_state){0};
}

as_hash as_name_hash(const char *name, size_t length)
{
    return as_hash_bytes(name, length);
}

static int check_name(const char *name, as_error *e)
{
    if (strcmp(name, "__metadata__") == 0) {
        return as_fail(e, AS_INVALID, 0,
                       "a tensor cannot be named \"__metadata__\": the format keeps that name");
    }
    if (!as_utf8_valid(name, strlen(name))) {
        return as_fail(e, AS_INVALID, 0, "a tensor name is not valid UTF-8");
    }
    return AS_OK;
}

static int check(const as_declaration *d, int64_t *bytes, as_error *e)
{
    const as_box *b = &d->box;
    if (!as_dtype_valid(b->dtype)) {
        return as_fail(e, AS_INVALID, 0, "%d is no dtype", b->dtype);
    }
    int stored = d->stored ? d->stored : b->dtype;
    if (!as_dtype_valid(stored)) {
        return as_fail(e, AS_INVALID, 0, "the dtype to store as, %d, is no dtype", stored);
    }
    if (b->dtype != stored && !as_cast_known(b->dtype, stored)) {
        return as_fail(e, AS_INVALID, 0,
                       "%s in memory cannot be stored as %s: only " AS_CAST_NAMES
                       " are cast into each other",
                       as_dtype_name(b->dtype), as_dtype_name(stored));
    }
    if (b->ndim < 0 || b->ndim > AS_MAX_DIMS) {
        return as_fail(e, AS_INVALID, 0, "%d dimensions; 0 to %d are possible", b->ndim,
                       (int)AS_MAX_DIMS);
    }
    int code = as_box_tensor_bytes(b->dtype, b->ndim, b->shape, bytes, e);
    int64_t in_file;
    if (code == AS_OK) {
        code = as_box_tensor_bytes(stored, b->ndim, b->shape, &in_file, e);
    }
    if (code == AS_OK) {
        code = as_box_check(b, e);
    }
    as_geometry g;
    if (code == AS_OK) {
        code = as_geometry_memory(b, &g, e);
    }
    if (code == AS_OK) {
        code = as_geometry_file(b, &g, e);
    }
    if (code != AS_OK) {
        return code;
    }
    if (d->order < 0) {
        return as_fail(e, AS_INVALID, 0, "the order key is %lld; keys begin at 1",
                       (long long)d->order);
    }
    int64_t storage = d->storage_bytes ? d->storage_bytes : *bytes;
    int64_t end;
    if (d->storage && (storage < 0 || d->storage_offset < 0 ||
                       !as_add_i64(d->storage_offset, *bytes, &end) || end > storage)) {
        return as_fail(e, AS_INVALID, 0,
                       "%lld bytes at offset %lld do not lie in a storage of %lld bytes",
                       (long long)*bytes, (long long)d->storage_offset, (long long)storage);
    }
    return AS_OK;
}

static int add_dims(as_state *s, const as_box *b, as_error *e)
{
    size_t n = (size_t)b->ndim * sizeof(int64_t);
    int code = as_buffer_append(&s->dims, b->shape, n, e);
    if (b->flat) {
        int64_t range[2] = {b->flat_offset, b->flat_count};
        return code == AS_OK ? as_buffer_append(&s->dims, range, sizeof range, e) : code;
    }
    if (code == AS_OK) {
        code = as_buffer_append(&s->dims, b->offset, n, e);
    }
    if (code == AS_OK) {
        code = as_buffer_append(&s->dims, b->local, n, e);
    }
    if (code == AS_OK && b->strides) {
        code = as_buffer_append(&s->dims, b->strides, n, e);
    }
    return code;
}

/* What was declared before is the seed of what comes after it. */
static void revise(as_state *s, const void *bytes, size_t count)
{
    s->revision = as_hash_seeded(bytes, count, s->revision.low ^ s->revision.high);
}

/* Bytes of a storage in memory → bytes that its elements have in the file. */
static int64_t stored_bytes(const as_piece *p, int64_t bytes)
{
    int64_t from = as_dtype_bits(p->memory);
    int64_t to = as_dtype_bits(p->dtype);
    return p->memory == p->dtype ? bytes : (int64_t)((__int128)bytes * to / from);
}

int as_state_add_meta(as_state *s, const char *key, const char *value, as_error *e)
{
    revise(s, key, strlen(key) + 1);
    revise(s, value, strlen(value) + 1);
    return as_pairs_set(&s->metadata, key, strlen(key), value, strlen(value), e);
}

int as_state_add_known(as_state *s, const as_declaration *d, as_hash name, int64_t bytes,
                       as_error *e)
{
    as_piece p = {
        .name = name,
        .name_at = s->names.size,
        .dims_at = s->dims.size / sizeof(int64_t),
        .data = d->data,
        .order = d->order,
        .bytes = bytes,
        .dtype = (uint8_t)(d->stored ? d->stored : d->box.dtype),
        .memory = (uint8_t)d->box.dtype,
        .ndim = (uint8_t)d->box.ndim,
        .flat = d->box.flat,
        .has_strides = !d->box.flat && d->box.strides,
    };
    if (p.dtype != p.memory) {
        (void)as_box_tensor_bytes(p.dtype, p.ndim, d->box.shape, &p.bytes, NULL);
    }
    if (d->storage) {
        p.storage_bytes = stored_bytes(&p, d->storage_bytes ? d->storage_bytes : bytes);
        p.storage_offset = stored_bytes(&p, d->storage_offset);
        /* As in huggingface_hub, storages of one number and another size are others. So are views
         * that are cast, if not in the same way: one cannot be loaded from the other. */
        uint64_t cast = p.dtype == p.memory ? 0 : (uint64_t)p.memory << 8 | p.dtype;
        uint64_t identity[3] = {d->storage, (uint64_t)p.storage_bytes, cast};
        p.storage = as_hash_seeded(identity, sizeof identity, STORAGE_SEED);
    }
    int code = as_buffer_append(&s->names, d->name, strlen(d->name) + 1, e);
    if (code == AS_OK) {
        code = add_dims(s, &d->box, e);
    }
    if (code == AS_OK) {
        code = as_buffer_append(&s->pieces, &p, sizeof p, e);
    }
    if (code != AS_OK) {
        s->names.size = p.name_at;
        s->dims.size = p.dims_at * sizeof(int64_t);
    }
    return code;
}

int as_state_add(as_state *s, const as_declaration *d, as_error *e)
{
    int64_t bytes = 0;
    int code = check_name(d->name, e);
    if (code == AS_OK) {
        code = check(d, &bytes, e);
        if (code != AS_OK) {
            as_error_prefix(e, "tensor %s", as_quote(d->name, strlen(d->name)).text);
        }
    }
    if (code == AS_OK) {
        code = as_state_add_known(s, d, as_name_hash(d->name, strlen(d->name)), bytes, e);
    }
    if (code != AS_OK) {
        return code;
    }
    const as_piece *p = as_state_piece(s, as_state_count(s) - 1);
    revise(s, s->dims.data ? s->dims.data + p->dims_at * sizeof(int64_t) : "",
           s->dims.size - p->dims_at * sizeof(int64_t));
    revise(s, p, sizeof *p); /* made by an initializer: what lies between its members is zero */
    return AS_OK;
}

int as_state_add_file(as_state *s, const char *name, const void *bytes, size_t size, as_error *e)
{
    as_small_file f = {.name = strdup(name), .bytes = malloc(size ? size : 1), .size = size};
    if (!f.name || !f.bytes) {
        free_file(&f);
        return as_fail_nomem(e);
    }
    if (size) {
        memcpy(f.bytes, bytes, size);
    }
    f.hash = as_hash_bytes(bytes, size);
    revise(s, name, strlen(name) + 1);
    revise(s, &f.hash, sizeof f.hash);
    for (size_t i = 0; i < as_state_file_count(s); i++) {
        as_small_file *old = (as_small_file *)(void *)s->files.data + i;
        if (strcmp(old->name, name) == 0) {
            free_file(old);
            *old = f;
            return AS_OK;
        }
    }
    int code = as_buffer_append(&s->files, &f, sizeof f, e);
    if (code != AS_OK) {
        free_file(&f);
    }
    return code;
}

const as_small_file *as_state_file_find(const as_state *s, const char *name)
{
    for (size_t i = 0; i < as_state_file_count(s); i++) {
        if (strcmp(as_state_file(s, i)->name, name) == 0) {
            return as_state_file(s, i);
        }
    }
    return NULL;
}

as_box as_state_memory_box(const as_state *s, size_t i)
{
    as_box box = as_state_box(s, i);
    box.dtype = as_state_piece(s, i)->memory;
    return box;
}

as_box as_state_box(const as_state *s, size_t i)
{
    const as_piece *p = as_state_piece(s, i);
    as_box box = {.dtype = p->dtype, .ndim = p->ndim, .flat = p->flat};
    if (!s->dims.data) { /* scalars only */
        return box;
    }
    const int64_t *dims = (const int64_t *)(const void *)s->dims.data + p->dims_at;
    box.shape = dims;
    if (p->flat) {
        box.flat_offset = dims[p->ndim];
        box.flat_count = dims[p->ndim + 1];
    } else if (p->ndim) {
        box.offset = dims + p->ndim;
        box.local = dims + 2 * p->ndim;
        box.strides = p->has_strides ? dims + 3 * p->ndim : NULL;
    }
    return box;
}

static int compare_pieces(const void *a, const void *b, void *state)
{
    size_t i = *(const size_t *)a;
    size_t j = *(const size_t *)b;
    int order = as_hash_compare(as_state_piece(state, i)->name, as_state_piece(state, j)->name);
    return order ? order : (i > j) - (i < j);
}

int as_state_sorted(const as_state *s, size_t **out, as_error *e)
{
    size_t count = as_state_count(s);
    size_t *sorted = calloc(count ? count : 1, sizeof *sorted);
    if (!sorted) {
        return as_fail_nomem(e);
    }
    for (size_t i = 0; i < count; i++) {
        sorted[i] = i;
    }
    qsort_r(sorted, count, sizeof *sorted, compare_pieces, (void *)(uintptr_t)s);
    *out = sorted;
    return AS_OK;
}

size_t as_state_find(const as_state *s, const size_t *sorted, as_hash name)
{
    size_t low = 0;
    size_t high = as_state_count(s);
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (as_hash_compare(as_state_piece(s, sorted[middle])->name, name) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    bool found =
        low < as_state_count(s) && as_hash_equal(as_state_piece(s, sorted[low])->name, name);
    return found ? low : as_state_count(s);
}
