/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/tensors.h"

#include <string.h>

#include <allshard.h>

#include "base/checked.h"
#include "base/quote.h"
#include "tensor/dtype.h"

static int too_big(const char *name, size_t length, as_error *e)
{
    return as_fail(e, AS_LIMIT, 0, "tensor %s: its shape passes what 63 bits hold",
                   as_quote(name, length).text);
}

int as_tensors_add(as_tensors *t, const char *name, size_t name_length, int dtype, int ndim,
                   const uint64_t *shape, uint32_t file, uint64_t begin, as_error *e)
{
    static const int64_t nobody = 0;
    if (t->shapes.size == 0 && as_buffer_append(&t->shapes, &nobody, sizeof nobody, e) != AS_OK) {
        return AS_NOMEM;
    }
    as_tensor_row row = {
        .name_at = t->names.size,
        .shape_at = t->shapes.size / sizeof(int64_t),
        .begin = begin,
        .name_length = (uint32_t)name_length,
        .file = file,
        .dtype = dtype,
        .ndim = ndim,
    };
    uint64_t numel = 0;
    uint64_t bytes = 0;
    bool whole = false;
    for (int d = 0; d < ndim; d++) {
        if (shape[d] > INT64_MAX) {
            return too_big(name, name_length, e);
        }
    }
    if (!as_shape_numel(shape, ndim, &numel) || !as_dtype_bytes(dtype, numel, &bytes, &whole) ||
        numel > INT64_MAX || bytes > INT64_MAX) {
        return too_big(name, name_length, e);
    }
    if (!whole) {
        return as_fail(e, AS_INVALID, 0, "tensor %s: its bits do not fill whole bytes",
                       as_quote(name, name_length).text);
    }
    row.numel = (int64_t)numel;
    row.bytes = (int64_t)bytes;
    if (!as_add_i64(t->bytes, row.bytes, &t->bytes) ||
        !as_add_i64(t->numel, row.numel, &t->numel)) {
        return as_fail(e, AS_LIMIT, 0, "the tensors together pass what 63 bits hold");
    }
    /* shape is NULL where ndim is 0 */
    int code =
        ndim > 0 ? as_buffer_append(&t->shapes, shape, (size_t)ndim * sizeof *shape, e) : AS_OK;
    if (code == AS_OK) {
        code = as_buffer_append(&t->names, name, name_length, e);
    }
    if (code == AS_OK) {
        code = as_buffer_char(&t->names, '\0', e);
    }
    return code == AS_OK ? as_buffer_append(&t->rows, &row, sizeof row, e) : code;
}

int as_tensors_check(const as_tensors *t, as_error *e)
{
    for (size_t i = 0; i < as_tensors_count(t); i++) {
        const as_tensor_row *row = as_tensors_row(t, i);
        const char *name = as_tensors_name(t, i);
        if (row->ndim > ALLSHARD_MAX_DIMS) {
            return as_fail(
                e, AS_LIMIT, 0, "tensor %s has %d dimensions; allshard saves and loads up to %d",
                as_quote(name, row->name_length).text, row->ndim, (int)ALLSHARD_MAX_DIMS);
        }
        if (strlen(name) != row->name_length) {
            return as_fail(e, AS_LIMIT, 0,
                           "tensor %s has a NUL byte in its name; allshard cannot save such a name",
                           as_quote(name, row->name_length).text);
        }
    }
    return AS_OK;
}

void as_tensors_free(as_tensors *t)
{
    as_buffer_free(&t->rows);
    as_buffer_free(&t->names);
    as_buffer_free(&t->shapes);
    *t = AS_TENSORS_INIT;
}
