/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/casts.h"

#include <string.h>
#include <strings.h>

#include "base/checked.h"
#include "base/quote.h"
#include "tensor/cast.h"

static int find_dtype(const char *name, size_t length)
{
    for (int dtype = 1; dtype < AS_DTYPE_END; dtype++) {
        const char *known = as_dtype_name(dtype);
        if (strlen(known) == length && strncasecmp(known, name, length) == 0) {
            return dtype;
        }
    }
    return AS_DTYPE_NONE;
}

static int read_one(as_casts *c, const char *value, as_error *e)
{
    const char *equals = strchr(value, '=');
    if (!equals) {
        return as_fail(e, AS_INVALID, 0, "--dtype is %s; it must be FROM=TO, such as F32=BF16",
                       as_quote(value, strlen(value)).text);
    }
    const char *names[2] = {value, equals + 1};
    size_t lengths[2] = {(size_t)(equals - value), strlen(equals + 1)};
    int dtypes[2];
    for (int i = 0; i < 2; i++) {
        dtypes[i] = find_dtype(names[i], lengths[i]);
        if (!dtypes[i]) {
            as_quoted name = as_quote(names[i], lengths[i]);
            return as_fail(e, AS_INVALID, 0,
                           "--dtype is %s, but %s is no type; " AS_CAST_NAMES " can be cast",
                           as_quote(value, strlen(value)).text, name.text);
        }
    }
    if (!as_cast_known(dtypes[0], dtypes[1])) {
        return as_fail(e, AS_INVALID, 0,
                       dtypes[0] == dtypes[1]
                           ? "--dtype %s=%s changes nothing; leave it out"
                           : "--dtype: %s cannot be cast to %s; only " AS_CAST_NAMES
                             " are cast into each other",
                       as_dtype_name(dtypes[0]), as_dtype_name(dtypes[1]));
    }
    int *to = &c->to[dtypes[0]];
    if (*to && *to != dtypes[1]) {
        return as_fail(e, AS_INVALID, 0, "--dtype: %s is to become both %s and %s",
                       as_dtype_name(dtypes[0]), as_dtype_name(*to), as_dtype_name(dtypes[1]));
    }
    *to = dtypes[1];
    c->any = true;
    return AS_OK;
}

int as_casts_read(as_casts *out, const as_arg_list *values, as_error *e)
{
    *out = (as_casts){0};
    int code = AS_OK;
    for (size_t i = 0; i < values->count && code == AS_OK; i++) {
        code = read_one(out, values->items[i], e);
    }
    return code;
}

int as_casts_bytes(const as_casts *c, const as_tensors *t, int64_t *out, as_error *e)
{
    int64_t sum = 0;
    for (size_t i = 0; i < as_tensors_count(t); i++) {
        const as_tensor_row *row = as_tensors_row(t, i);
        uint64_t bytes;
        bool whole;
        if (!as_dtype_bytes(as_casts_to(c, row->dtype), (uint64_t)row->numel, &bytes, &whole) ||
            !as_add_i64(sum, (int64_t)bytes, &sum)) {
            return as_fail(e, AS_LIMIT, 0, "as %s tensor %s makes the model larger than 2^63 bytes",
                           as_dtype_name(as_casts_to(c, row->dtype)),
                           as_quote(as_tensors_name(t, i), row->name_length).text);
        }
    }
    *out = sum;
    return AS_OK;
}

int64_t as_casts_count(const as_tensors *t, int dtype)
{
    int64_t count = 0;
    for (size_t i = 0; i < as_tensors_count(t); i++) {
        count += as_tensors_row(t, i)->dtype == dtype;
    }
    return count;
}

json_t *as_casts_json(const as_casts *c, const as_tensors *t)
{
    json_t *list = json_array();
    for (int from = 1; from < AS_DTYPE_END && list; from++) {
        if (c->to[from]) {
            json_t *one = json_pack("{s:s, s:s, s:I}", "from", as_dtype_name(from), "to",
                                    as_dtype_name(c->to[from]), "tensors",
                                    (json_int_t)as_casts_count(t, from));
            if (json_array_append_new(list, one) < 0) {
                json_decref(list);
                list = NULL;
            }
        }
    }
    return list;
}
