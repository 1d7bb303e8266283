/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/json_write.h"
#include "base/quote.h"
#include "base/utf8.h"
#include "format/repeats.h"
#include "format/safetensors.h"
#include "tensor/dtype.h"

enum { LENGTH_BYTES = 8, HEADER_ALIGNMENT = 8 };

static int compare_bytes(const char *a, size_t a_length, const char *b, size_t b_length)
{
    size_t shorter = a_length < b_length ? a_length : b_length;
    int order = shorter == 0 ? 0 : memcmp(a, b, shorter);
    return order ? order : (a_length > b_length) - (a_length < b_length);
}

/* The reference's order: dtype from the highest down, then the name's bytes. */
static int compare_tensors(const void *left, const void *right)
{
    const as_format_tensor *a = *(as_format_tensor *const *)left;
    const as_format_tensor *b = *(as_format_tensor *const *)right;
    if (a->dtype != b->dtype) {
        return a->dtype > b->dtype ? -1 : 1;
    }
    return compare_bytes(a->name, a->name_length, b->name, b->name_length);
}

static int compare_pairs(const void *left, const void *right)
{
    const as_pair *a = *(const as_pair *const *)left;
    const as_pair *b = *(const as_pair *const *)right;
    return compare_bytes(a->key, a->key_length, b->key, b->key_length);
}

static int check_tensor(const as_format_tensor *t, as_error *e)
{
    as_quoted name = as_quote(t->name, t->name_length);
    if (!as_utf8_valid(t->name, t->name_length)) {
        return as_fail(e, AS_INVALID, 0, "tensor %s: its name is not UTF-8", name.text);
    }
    if (t->name_length == strlen(AS_SAFETENSORS_METADATA) &&
        memcmp(t->name, AS_SAFETENSORS_METADATA, t->name_length) == 0) {
        return as_fail(e, AS_INVALID, 0,
                       "tensor %s: safetensors keeps this name for metadata; rename the tensor",
                       name.text);
    }
    uint64_t numel;
    uint64_t bytes;
    bool whole;
    if (!as_dtype_valid(t->dtype) || t->ndim < 0 || !as_shape_numel(t->shape, t->ndim, &numel) ||
        !as_dtype_bytes(t->dtype, numel, &bytes, &whole)) {
        return as_fail(e, AS_INVALID, 0, "tensor %s: its dtype or shape is out of range",
                       name.text);
    }
    if (!whole) {
        return as_fail(e, AS_INVALID, 0,
                       "tensor %s: %llu elements of %s do not fill whole bytes, as safetensors "
                       "needs",
                       name.text, (unsigned long long)numel, as_dtype_name(t->dtype));
    }
    if (bytes != t->bytes) {
        return as_fail(e, AS_INVALID, 0,
                       "tensor %s: %llu bytes were declared, its shape takes %llu", name.text,
                       (unsigned long long)t->bytes, (unsigned long long)bytes);
    }
    return AS_OK;
}

static void name_text(const void *list, size_t i, const char **text, size_t *length)
{
    const as_format_tensor *tensors = list;
    *text = tensors[i].name;
    *length = tensors[i].name_length;
}

static int check_tensors(const as_format_tensor *tensors, size_t count, as_error *e)
{
    for (size_t i = 0; i < count; i++) {
        int code = check_tensor(&tensors[i], e);
        if (code != AS_OK) {
            return code;
        }
    }
    uint32_t *first;
    int code = as_repeats_find(tensors, count, name_text, &first, e);
    if (code == AS_OK && first) {
        size_t i = 0;
        while (first[i] == i) {
            i++;
        }
        code = as_fail(e, AS_INVALID, 0, "tensor %s stands twice in one file",
                       as_quote(tensors[i].name, tensors[i].name_length).text);
    }
    free(first);
    return code;
}

static int append_text(as_buffer *b, const char *text, as_error *e)
{
    return as_buffer_append(b, text, strlen(text), e);
}

/* "key":"value" pairs, sorted: the reference's order is random from two on, so
 * this is one of the outputs that it may write. */
static int write_pairs(as_buffer *b, const as_pairs *pairs, as_error *e)
{
    const as_pair **sorted = malloc((pairs->count + 1) * sizeof *sorted);
    if (!sorted) {
        return as_fail_nomem(e);
    }
    for (size_t i = 0; i < pairs->count; i++) {
        sorted[i] = &pairs->items[i];
    }
    qsort(sorted, pairs->count, sizeof *sorted, compare_pairs);
    int code = append_text(b, "\"" AS_SAFETENSORS_METADATA "\":{", e);
    for (size_t i = 0; code == AS_OK && i < pairs->count; i++) {
        code = append_text(b, i > 0 ? "," : "", e);
        code =
            code == AS_OK ? as_json_write_serde(b, sorted[i]->key, sorted[i]->key_length, e) : code;
        code = code == AS_OK ? as_buffer_char(b, ':', e) : code;
        code = code == AS_OK ? as_json_write_serde(b, sorted[i]->value, sorted[i]->value_length, e)
                             : code;
        if (code == AS_INVALID) {
            as_error_prefix(e, "metadata");
        }
    }
    free(sorted);
    return code == AS_OK ? as_buffer_char(b, '}', e) : code;
}

static int write_tensor(as_buffer *b, const as_format_tensor *t, uint64_t begin, as_error *e)
{
    int code = as_json_write_serde(b, t->name, t->name_length, e);
    if (code == AS_OK) {
        code = as_buffer_format(b, e, ":{\"dtype\":\"%s\",\"shape\":[", as_dtype_name(t->dtype));
    }
    for (int d = 0; code == AS_OK && d < t->ndim; d++) {
        code = as_buffer_format(b, e, "%s%llu", d > 0 ? "," : "", (unsigned long long)t->shape[d]);
    }
    return code == AS_OK
               ? as_buffer_format(b, e, "],\"data_offsets\":[%llu,%llu]}",
                                  (unsigned long long)begin, (unsigned long long)(begin + t->bytes))
               : code;
}

static int check_length(const as_buffer *b, as_error *e)
{
    if (b->size - LENGTH_BYTES <= AS_SAFETENSORS_LONGEST_HEADER) {
        return AS_OK;
    }
    return as_fail(e, AS_LIMIT, 0,
                   "the header of a safetensors file may have 100000000 bytes at most, and these "
                   "tensors and metadata need more: use smaller shards or shorter metadata");
}

/* Length, JSON and padding → *b; each tensor's offset, still counted from the data's start. */
static int write_header(as_buffer *b, as_format_tensor *const *sorted, size_t count,
                        const as_pairs *metadata, size_t align, uint64_t *data_size, as_error *e)
{
    static const char nothing[LENGTH_BYTES] = {0};
    int code = as_buffer_append(b, nothing, LENGTH_BYTES, e);
    code = code == AS_OK ? as_buffer_char(b, '{', e) : code;
    if (code == AS_OK && metadata) {
        code = write_pairs(b, metadata, e);
    }
    uint64_t at = 0;
    for (size_t i = 0; code == AS_OK && i < count; i++) {
        as_format_tensor *t = sorted[i];
        code = append_text(b, i > 0 || metadata ? "," : "", e);
        code = code == AS_OK ? write_tensor(b, t, at, e) : code;
        t->offset = at;
        if (code == AS_OK && !as_add_u64(at, t->bytes, &at)) {
            code = as_fail(e, AS_LIMIT, 0, "the tensors of one file take more than 2^64 bytes");
        }
        /* Refused as it passes the limit, not after gigabytes of header. */
        code = code == AS_OK ? check_length(b, e) : code;
    }
    code = code == AS_OK ? as_buffer_char(b, '}', e) : code;
    while (code == AS_OK && b->size % align != 0) {
        code = as_buffer_char(b, ' ', e);
    }
    *data_size = at;
    return code == AS_OK ? check_length(b, e) : code;
}

/* Puts the length in, makes offsets absolute, hands the header over as the only literal. */
static int finish(as_buffer *b, as_format_tensor *tensors, size_t count, uint64_t data_size,
                  as_file_layout *out, as_error *e)
{
    uint64_t header = b->size;
    uint64_t file_size;
    if (!as_add_u64(header, data_size, &file_size) || file_size > INT64_MAX) {
        return as_fail(e, AS_LIMIT, 0, "the tensors of one file take more than 2^63 bytes");
    }
    as_literal *literal = malloc(sizeof *literal);
    if (!literal) {
        return as_fail_nomem(e);
    }
    for (int i = 0; i < LENGTH_BYTES; i++) {
        b->data[i] = (char)((header - LENGTH_BYTES) >> (8 * i) & 0xff);
    }
    for (size_t i = 0; i < count; i++) {
        tensors[i].offset += header;
    }
    *literal = (as_literal){.offset = 0, .size = header, .bytes = b->data};
    *b = AS_BUFFER_INIT;
    *out = (as_file_layout){.literals = literal, .literal_count = 1, .file_size = file_size};
    return AS_OK;
}

int as_safetensors_layout(as_format_tensor *tensors, size_t count, const as_pairs *metadata,
                          int64_t align, as_file_layout *out, as_error *e)
{
    *out = (as_file_layout){0};
    int code = check_tensors(tensors, count, e);
    if (code != AS_OK) {
        return code;
    }
    as_format_tensor **sorted = calloc(count + 1, sizeof(as_format_tensor *));
    if (!sorted) {
        return as_fail_nomem(e);
    }
    for (size_t i = 0; i < count; i++) {
        sorted[i] = &tensors[i];
    }
    qsort(sorted, count, sizeof *sorted, compare_tensors);
    as_buffer header = AS_BUFFER_INIT;
    uint64_t data_size = 0;
    code = write_header(&header, sorted, count, metadata,
                        (size_t)as_max_i64(align, HEADER_ALIGNMENT), &data_size, e);
    code = code == AS_OK ? finish(&header, tensors, count, data_size, out, e) : code;
    as_buffer_free(&header);
    free(sorted);
    return code;
}
