/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/hash.h"
#include "base/quote.h"
#include "base/utf8.h"
#include "format/pickle_torch.h"
#include "format/repeats.h"
#include "format/torch.h"
#include "format/zip_write.h"
#include "tensor/dtype.h"

enum { ALIGNMENT = 64, MOST_DIMS = 64, ID_DIGITS = 40 };

static int refuse(const as_torch_tensor *t, as_error *e, const char *reason)
{
    return as_fail(e, AS_INVALID, 0, "tensor %s: %s", as_quote(t->name, t->name_length).text,
                   reason);
}

/* Bytes from the storage's begin to the last one that the tensor reaches. False: too large. */
static bool reach(const as_torch_tensor *t, uint64_t size, uint64_t *bytes)
{
    uint64_t numel;
    uint64_t last = t->first;
    if (!as_shape_numel(t->shape, t->ndim, &numel)) {
        return false;
    }
    *bytes = 0;
    if (numel == 0) {
        return true;
    }
    if (!t->strides) {
        numel = t->dtype == AS_F4 ? numel / 2 : numel;
        return as_add_u64(last, numel, &last) && as_mul_u64(last, size, bytes);
    }
    for (int d = 0; d < t->ndim; d++) {
        uint64_t step;
        if (!as_mul_u64(t->shape[d] - 1, t->strides[d], &step) || !as_add_u64(last, step, &last)) {
            return false;
        }
    }
    return as_add_u64(last, 1, &last) && as_mul_u64(last, size, bytes);
}

static int check_tensor(const as_torch_tensor *t, const as_torch_storage *storages,
                        size_t storage_count, int *dtypes, const as_torch_options *o, as_error *e)
{
    uint32_t class = 0;
    uint32_t dtype = 0;
    uint64_t bytes;
    if (!as_utf8_valid(t->name, t->name_length)) {
        return refuse(t, e, "its name is not UTF-8");
    }
    if (t->ndim < 0 || t->ndim > MOST_DIMS || t->storage >= storage_count) {
        return refuse(t, e, "it has more than 64 dimensions, or a storage that there is not");
    }
    if (!as_pickle_class_of(t->dtype, &class, &dtype)) {
        return as_fail(e, AS_INVALID, 0,
                       "tensor %s: torch has no dtype for %s; store it as another one",
                       as_quote(t->name, t->name_length).text, as_dtype_name(t->dtype));
    }
    if (class != dtype && o->version == AS_TORCH_1_6) {
        return as_fail(e, AS_INVALID, 0,
                       "tensor %s: torch before 2.1 has no dtype for %s; write for a newer one",
                       as_quote(t->name, t->name_length).text, as_dtype_name(t->dtype));
    }
    if (t->dtype == AS_F4 && (t->strides || t->ndim == 0 || t->shape[t->ndim - 1] % 2 != 0)) {
        return refuse(t, e,
                      "torch holds F4 in pairs: its last dimension must be even, and it must "
                      "be contiguous");
    }
    const as_torch_storage *s = &storages[t->storage];
    uint64_t size = (uint64_t)as_pickle_globals[dtype].bytes;
    if (!reach(t, size, &bytes) || bytes > s->bytes || t->first > INT64_MAX) {
        return refuse(t, e, "its elements reach past the end of its storage");
    }
    if (s->bytes % (uint64_t)as_pickle_globals[class].bytes != 0) {
        return refuse(t, e, "its storage ends in the middle of an element");
    }
    uint64_t stride = 1;
    for (int d = 0; d < t->ndim; d++) {
        uint64_t steps = t->shape[d] > 0 ? t->shape[d] : 1;
        if ((t->strides && t->strides[d] > INT64_MAX) || !as_mul_u64(stride, steps, &stride) ||
            stride > INT64_MAX) {
            return refuse(t, e, "its shape or strides pass 2^63");
        }
    }
    /* torch.save: "Cannot save multiple tensors or storages that view the same data as different
     * types" */
    if (dtypes[t->storage] != AS_DTYPE_NONE && dtypes[t->storage] != t->dtype) {
        return refuse(t, e,
                      "it shares its storage with a tensor of another dtype, which torch "
                      "cannot save");
    }
    dtypes[t->storage] = t->dtype;
    return AS_OK;
}

static void name_text(const void *list, size_t i, const char **text, size_t *length)
{
    const as_torch_tensor *tensors = list;
    *text = tensors[i].name;
    *length = tensors[i].name_length;
}

static int check_names(const as_torch_tensor *tensors, size_t count, as_error *e)
{
    uint32_t *first;
    int code = as_repeats_find(tensors, count, name_text, &first, e);
    if (code == AS_OK && first) {
        size_t i = 0;
        while (first[i] == i) {
            i++;
        }
        code = refuse(&tensors[i], e, "stands twice in one file");
    }
    free(first);
    return code;
}

static int check_options(const as_torch_options *o, as_error *e)
{
    if (o->version < AS_TORCH_NEWEST || o->version > AS_TORCH_2_7) {
        return as_fail(e, AS_INVALID, 0, "there is no version %d of torch's files", o->version);
    }
    if (o->archive && (o->archive[0] == '\0' || strchr(o->archive, '/') ||
                       !as_utf8_valid(o->archive, strlen(o->archive)))) {
        return as_fail(e, AS_INVALID, 0, "%s cannot be a folder in a file of torch",
                       as_quote(o->archive, strlen(o->archive)).text);
    }
    for (size_t i = 0; o->modules && i < o->module_count; i++) {
        const as_torch_module *m = &o->modules[i];
        if (m->version < 0 || !as_utf8_valid(m->name, m->name_length)) {
            return as_fail(e, AS_INVALID, 0,
                           "module %s: its name is not UTF-8, or its version below 0",
                           as_quote(m->name, m->name_length).text);
        }
    }
    return AS_OK;
}

static int check(const as_torch_tensor *tensors, size_t count, const as_torch_storage *storages,
                 size_t storage_count, const as_torch_options *o, as_error *e)
{
    int code = check_options(o, e);
    if (code != AS_OK) {
        return code;
    }
    int *dtypes = calloc(storage_count + 1, sizeof *dtypes);
    if (!dtypes) {
        return as_fail_nomem(e);
    }
    for (size_t i = 0; i < count && code == AS_OK; i++) {
        code = check_tensor(&tensors[i], storages, storage_count, dtypes, o, e);
    }
    for (size_t i = 0; i < storage_count && code == AS_OK; i++) {
        if (dtypes[i] == AS_DTYPE_NONE) {
            code = as_fail(e, AS_INVALID, 0, "storage %zu is of no tensor", i);
        }
    }
    free(dtypes);
    return code == AS_OK ? check_names(tensors, count, e) : code;
}

/* "10" comes before "2". */
static int compare_keys(const void *left, const void *right)
{
    char a[24];
    char b[24];
    (void)snprintf(a, sizeof a, "%zu", *(const size_t *)left);
    (void)snprintf(b, sizeof b, "%zu", *(const size_t *)right);
    return strcmp(a, b);
}

typedef struct layout {
    as_zip_writer zip;
    const char *archive;
    as_buffer name;
    as_buffer names; /* of all records, for the id */
} layout;

/* The name of a record → l->name. */
static int name_record(layout *l, as_error *e, const char *name, const size_t *key)
{
    l->name.size = 0;
    int code = key ? as_buffer_format(&l->name, e, "%s/%s%zu", l->archive, name, *key)
                   : as_buffer_format(&l->name, e, "%s/%s", l->archive, name);
    code = code == AS_OK ? as_buffer_append(&l->names, l->name.data + strlen(l->archive) + 1,
                                            l->name.size - strlen(l->archive) - 1, e)
                         : code;
    return code == AS_OK ? as_buffer_char(&l->names, '\0', e) : code;
}

static int add_word(layout *l, const char *name, const char *word, as_error *e)
{
    int code = name_record(l, e, name, NULL);
    return code == AS_OK
               ? as_zip_add_bytes(&l->zip, l->name.data, l->name.size, word, strlen(word), NULL, e)
               : code;
}

/* Records of storages, in the version's order. keys[k]: the storage of number k. */
static int add_storages(layout *l, as_torch_storage *storages, const size_t *keys, size_t count,
                        bool as_text, as_error *e)
{
    size_t *order = malloc((count + 1) * sizeof *order);
    if (!order) {
        return as_fail_nomem(e);
    }
    for (size_t k = 0; k < count; k++) {
        order[k] = k;
    }
    if (as_text) {
        qsort(order, count, sizeof *order, compare_keys);
    }
    int code = AS_OK;
    for (size_t k = 0; k < count && code == AS_OK; k++) {
        as_torch_storage *s = &storages[keys[order[k]]];
        code = name_record(l, e, "data/", &order[k]);
        code = code == AS_OK
                   ? as_zip_add_room(&l->zip, l->name.data, l->name.size, s->bytes, &s->offset, e)
                   : code;
    }
    free(order);
    return code;
}

/* torch's id is made of hashes that depend on its C++ library and of the CRCs of all records. It
 * identifies a file in torch's logs, and no reader looks at it. Ours has the form, and depends on
 * the names and on data.pkl alone, so that it is known before the data are. */
static int add_id(layout *l, const as_buffer *pickle, as_error *e)
{
    char id[ID_DIGITS + 1];
    (void)snprintf(id, sizeof id, "%020" PRIu64 "%020" PRIu64,
                   as_hash_bytes(l->names.data, l->names.size).low,
                   as_hash_bytes(pickle->data, pickle->size).low);
    return add_word(l, ".data/serialization_id", id, e);
}

static int add_records(layout *l, as_torch_storage *storages, const size_t *keys, size_t count,
                       int version, const as_buffer *pickle, as_error *e)
{
    bool is_old = version == AS_TORCH_1_6;
    bool is_new = version == AS_TORCH_NEWEST || version == AS_TORCH_2_7;
    int code = name_record(l, e, "data.pkl", NULL);
    code = code == AS_OK ? as_zip_add_bytes(&l->zip, l->name.data, l->name.size, pickle->data,
                                            pickle->size, NULL, e)
                         : code;
    code = code == AS_OK && is_new ? add_word(l, ".format_version", "1", e) : code;
    code = code == AS_OK && is_new ? add_word(l, ".storage_alignment", "64", e) : code;
    code = code == AS_OK && !is_old ? add_word(l, "byteorder", "little", e) : code;
    code = code == AS_OK ? add_storages(l, storages, keys, count, !is_new, e) : code;
    code = code == AS_OK ? add_word(l, "version", "3\n", e) : code;
    return code == AS_OK && !is_old ? add_id(l, pickle, e) : code;
}

int as_torch_layout(const as_torch_tensor *tensors, size_t count, as_torch_storage *storages,
                    size_t storage_count, const as_torch_options *options, as_file_layout *out,
                    as_error *e)
{
    static const as_torch_options none;
    const as_torch_options *o = options ? options : &none;
    *out = (as_file_layout){0};
    int code = check(tensors, count, storages, storage_count, o, e);
    if (code != AS_OK) {
        return code;
    }
    as_buffer pickle = AS_BUFFER_INIT;
    layout l = {.archive = o->archive ? o->archive : "archive"};
    size_t *keys = malloc((storage_count + 1) * sizeof *keys);
    if (!keys) {
        return as_fail_nomem(e);
    }
    as_zip_begin(&l.zip, AS_ZIP_TORCH, ALIGNMENT);
    code = as_torch_pickle(tensors, count, storages, storage_count, o, keys, &pickle, e);
    code = code == AS_OK ? add_records(&l, storages, keys, storage_count, o->version, &pickle, e)
                         : code;
    code = code == AS_OK ? as_zip_end(&l.zip, out, e) : code;
    as_zip_drop(&l.zip);
    as_buffer_free(&l.name);
    as_buffer_free(&l.names);
    as_buffer_free(&pickle);
    free(keys);
    return code;
}

int as_torch_archive(const char *path, char **out, as_error *e)
{
    const char *base = path;
    const char *dot = NULL;
    bool is_ascii = true;
    for (const char *c = path; *c; c++) {
        is_ascii = is_ascii && (unsigned char)*c < 0x80;
        if (*c == '/' || *c == '\\') {
            base = c + 1;
            dot = NULL;
        } else if (*c == '.') {
            dot = c;
        }
    }
    size_t length = dot ? (size_t)(dot - base) : strlen(base);
    *out = is_ascii && length > 0 ? strndup(base, length) : strdup("archive");
    return *out ? AS_OK : as_fail_nomem(e);
}
