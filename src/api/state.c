/* SPDX-License-Identifier: Apache-2.0
 * States: what a rank declares.
 */
#include <stdlib.h>
#include <string.h>

#include "api/flights.h"
#include "api/handles.h"
#include "base/quote.h"
#include "base/utf8.h"
#include "tensor/dtype.h"

int allshard_state_create(allshard_state **out, allshard *as, const char *part)
{
    if (!out || !as) {
        return ALLSHARD_INVALID;
    }
    *out = NULL;
    as_error *e = as_begin(as);
    if (!part || !as_name_is_plain(part) || !as_utf8_valid(part, strlen(part))) {
        (void)as_fail(e, AS_INVALID, 0,
                      "a part needs a name that can begin a file name, such as \"model\"");
        return as_end(as);
    }
    allshard_state *s = calloc(1, sizeof *s);
    if (!s) {
        (void)as_fail_nomem(e);
    } else if (as_state_init(&s->state, part, e) == AS_OK) {
        s->context = as;
        *out = s;
    } else {
        free(s);
    }
    return as_end(as);
}

/* The caller's arrays, with what it may leave out filled in. */
typedef struct dims {
    int64_t offset[ALLSHARD_MAX_DIMS];
    int64_t local[ALLSHARD_MAX_DIMS];
} dims;

/* The box that the caller describes; it borrows `m` and the caller's shape. */
static int take_box(const allshard_tensor *t, as_box *box, dims *m, as_error *e)
{
    *box = (as_box){.dtype = t->dtype, .ndim = t->ndim, .shape = t->shape};
    if (t->ndim < 0 || t->ndim > ALLSHARD_MAX_DIMS) {
        return as_fail(e, AS_INVALID, 0, "%d dimensions; 0 to %d are possible", t->ndim,
                       (int)ALLSHARD_MAX_DIMS);
    }
    if (t->ndim && !t->shape) {
        return as_fail(e, AS_INVALID, 0, "the shape is NULL");
    }
    if (t->flat) {
        if (t->offset || t->local_shape || t->strides) {
            return as_fail(e, AS_INVALID, 0, "a flat range has no offset, local shape or strides");
        }
        box->flat = true;
        box->flat_offset = t->flat_offset;
        box->flat_count = t->flat_count;
        return AS_OK;
    }
    for (int d = 0; d < t->ndim; d++) {
        m->offset[d] = t->offset ? t->offset[d] : 0;
        /* Wrong offsets give a negative extent, which the state refuses with the reason. */
        bool inside = m->offset[d] >= 0 && m->offset[d] <= t->shape[d];
        m->local[d] = t->local_shape ? t->local_shape[d] : inside ? t->shape[d] - m->offset[d] : -1;
    }
    box->offset = m->offset;
    box->local = m->local;
    box->strides = t->strides;
    return AS_OK;
}

static int check_data(const allshard_tensor *t, const as_box *box, as_error *e)
{
    as_geometry g;
    int code = as_box_check(box, e);
    if (code == AS_OK) {
        code = as_geometry_file(box, &g, e);
    }
    if (code == AS_OK && g.ndim && !t->data) {
        code = as_fail(e, AS_INVALID, 0, "the data pointer is NULL");
    }
    return code;
}

int allshard_state_tensor(allshard_state *s, const allshard_tensor *tensor)
{
    if (!s) {
        return ALLSHARD_INVALID;
    }
    as_error *e = as_begin(s->context);
    allshard_tensor t = {.size = 0};
    dims m;
    as_box box;
    int code = tensor ? as_take_options(&t, sizeof t, tensor, tensor->size, "allshard_tensor", e)
                      : as_fail(e, AS_INVALID, 0, "the tensor is NULL");
    if (code == AS_OK && !t.name) {
        code = as_fail(e, AS_INVALID, 0, "a tensor has no name");
    }
    if (code == AS_OK && !as_dtype_valid(t.dtype)) {
        code = as_fail(e, AS_INVALID, 0, "%d is no dtype", t.dtype);
    }
    if (code == AS_OK && t.stored_dtype && !as_dtype_valid(t.stored_dtype)) {
        code = as_fail(e, AS_INVALID, 0, "the dtype to store as, %d, is no dtype", t.stored_dtype);
    }
    if (code == AS_OK) {
        code = take_box(&t, &box, &m, e);
    }
    if (code == AS_OK) {
        code = check_data(&t, &box, e);
    }
    if (code != AS_OK && t.name) {
        as_error_prefix(e, "tensor %s", as_quote(t.name, strlen(t.name)).text);
    }
    if (code == AS_OK) {
        as_declaration d = {
            .name = t.name,
            .box = box,
            .stored = t.stored_dtype,
            .data = t.data,
            .order = t.order,
            .storage = t.storage,
            .storage_bytes = t.storage_bytes,
            .storage_offset = t.storage_offset,
        };
        (void)as_state_add(&s->state, &d, e);
    }
    return as_end(s->context);
}

int allshard_state_meta(allshard_state *s, const char *key, const char *value)
{
    if (!s) {
        return ALLSHARD_INVALID;
    }
    as_error *e = as_begin(s->context);
    if (!key || !value || !as_utf8_valid(key, strlen(key)) ||
        !as_utf8_valid(value, strlen(value))) {
        (void)as_fail(e, AS_INVALID, 0, "metadata needs a key and a value in UTF-8");
    } else {
        (void)as_state_add_meta(&s->state, key, value, e);
    }
    return as_end(s->context);
}

int allshard_state_file(allshard_state *s, const char *name, const void *bytes, size_t n)
{
    if (!s) {
        return ALLSHARD_INVALID;
    }
    as_error *e = as_begin(s->context);
    if (!name || !as_name_is_plain(name) || !as_utf8_valid(name, strlen(name))) {
        (void)as_fail(e, AS_INVALID, 0, "a small file needs a plain name in UTF-8, without '/'");
    } else if (n && !bytes) {
        (void)as_fail(e, AS_INVALID, 0, "the bytes of the small file \"%s\" are NULL", name);
    } else {
        (void)as_state_add_file(&s->state, name, bytes, n, e);
    }
    return as_end(s->context);
}

int allshard_state_free(allshard_state *s)
{
    if (s && s->flight && !as_isave_move(s->flight->save)) {
        (void)as_fail(as_begin(s->context), AS_BUSY, 0,
                      "a nonblocking save of this state is in flight: call allshard_wait first");
        return as_end(s->context);
    }
    if (s) {
        if (s->flight) {
            s->flight->state = NULL;
        }
        as_plan_cache_clear(&s->plans);
        as_state_free(&s->state);
        free(s);
    }
    return ALLSHARD_OK;
}
