/* SPDX-License-Identifier: Apache-2.0
 * Fuzzes the reader of safetensors files: the input is a whole file. What is accepted must lie in
 * the file without overlap, and be read again the same when our writer has written it.
 */
#include "base/checked.h"
#include "base/json_pull.h"
#include "format/format.h"
#include "format/safetensors.h"
#include "fuzz.h"
#include "tensor/dtype.h"

enum { PREFIX = 8 };

/* Memory with as many zeros behind it as make up the size: a header's tensors need not be there
 * for it to be judged. */
typedef struct sparse {
    const uint8_t *bytes;
    size_t count;
} sparse;

static int read_sparse(const as_source *source, uint64_t offset, void *bytes, size_t count,
                       as_error *e)
{
    const sparse *s = source->self;
    MUST(offset <= source->size && count <= source->size - offset);
    memset(bytes, 0, count);
    if (offset < s->count) {
        size_t there = s->count - (size_t)offset;
        memcpy(bytes, s->bytes + offset, there < count ? there : count);
    }
    (void)e;
    return AS_OK;
}

static void check_table(const as_table *t, uint64_t file_size)
{
    uint64_t end = t->data_begin;
    MUST(t->data_begin >= PREFIX && t->data_begin <= file_size && t->file_size == file_size);
    for (size_t i = 0; i < as_table_count(t); i++) {
        const as_entry *x = as_table_entry(t, i);
        uint64_t numel;
        uint64_t bytes;
        bool whole;
        MUST(x->begin == end && x->end >= x->begin && x->end <= file_size);
        MUST(x->name_at + x->name_length < t->names.size);
        MUST(as_table_name(t, i)[x->name_length] == '\0');
        MUST(as_utf8_valid(as_table_name(t, i), x->name_length));
        MUST((x->shape_at + x->ndim) * sizeof(uint64_t) <= t->shapes.size);
        MUST(as_dtype_valid(x->dtype));
        MUST(as_shape_numel(as_table_shape(t, i), (int)x->ndim, &numel));
        MUST(as_dtype_bytes(x->dtype, numel, &bytes, &whole) && whole);
        MUST(bytes == x->end - x->begin);
        end = x->end;
    }
    MUST(end == file_size);
}

static bool same_entry(const as_table *a, size_t i, const as_table *b, size_t k)
{
    const as_entry *x = as_table_entry(a, i);
    const as_entry *y = as_table_entry(b, k);
    return x->name_length == y->name_length && x->ndim == y->ndim && x->dtype == y->dtype &&
           x->end - x->begin == y->end - y->begin &&
           memcmp(as_table_name(a, i), as_table_name(b, k), x->name_length) == 0 &&
           (x->ndim == 0 ||
            memcmp(as_table_shape(a, i), as_table_shape(b, k), x->ndim * sizeof(uint64_t)) == 0);
}

/* Each tensor of `a` is in `b`, and no other. */
static void compare_tables(const as_table *a, const as_table *b)
{
    size_t count = as_table_count(a);
    MUST(as_table_count(b) == count && b->metadata.count == a->metadata.count);
    for (size_t i = 0; i < count && count < 64; i++) {
        size_t k = 0;
        while (k < count && !same_entry(a, i, b, k)) {
            k++;
        }
        MUST(k < count);
    }
    for (size_t i = 0; i < a->metadata.count && a->metadata.count < 64; i++) {
        const as_pair *p = &a->metadata.items[i];
        const as_pair *q = as_pairs_find(&b->metadata, p->key, p->key_length);
        MUST(q && q->value_length == p->value_length &&
             memcmp(q->value, p->value, p->value_length) == 0);
    }
}

/* Lays the tensors out anew and reads that. */
static void write_again(const as_table *t)
{
    size_t count = as_table_count(t);
    as_format_tensor *tensors = calloc(count + 1, sizeof *tensors);
    MUST(tensors != NULL);
    for (size_t i = 0; i < count; i++) {
        const as_entry *x = as_table_entry(t, i);
        tensors[i] = (as_format_tensor){.name = as_table_name(t, i),
                                        .name_length = x->name_length,
                                        .shape = as_table_shape(t, i),
                                        .ndim = (int)x->ndim,
                                        .dtype = x->dtype,
                                        .bytes = x->end - x->begin};
    }
    as_error e = AS_ERROR_INIT;
    as_file_layout layout;
    int code = as_format_safetensors.layout(tensors, count, t->has_metadata ? &t->metadata : NULL,
                                            0, &layout, &e);
    MUST(code == AS_OK || code == AS_LIMIT);
    if (code == AS_OK) {
        sparse s = {.bytes = (const uint8_t *)layout.literals[0].bytes,
                    .count = layout.literals[0].size};
        as_source source = {
            .read = read_sparse, .self = &s, .size = layout.file_size, .name = "written"};
        as_table again;
        int verdict;
        MUST(as_safetensors_read(&source, &again, NULL, &verdict, &e) == AS_OK);
        check_table(&again, layout.file_size);
        compare_tables(t, &again);
        as_table_free(&again);
        as_file_layout_free(&layout);
    }
    fuzz_end(code, &e);
    free(tensors);
}

static int judge(const as_source *source)
{
    as_error e = AS_ERROR_INIT;
    as_table t;
    int verdict = -1;
    int code = as_safetensors_read(source, &t, NULL, &verdict, &e);
    MUST((code == AS_OK) == (verdict == AS_SAFETENSORS_OK));
    MUST(code == AS_OK || (as_table_count(&t) == 0 && t.names.data == NULL));
    if (code == AS_OK) {
        check_table(&t, source->size);
        write_again(&t);
        as_table_free(&t);
    }
    fuzz_end(code, &e);
    return verdict;
}

typedef struct text {
    const uint8_t *at;
    size_t left;
} text;

static int fill(void *self, void *bytes, size_t capacity, size_t *count, as_error *e)
{
    text *t = self;
    (void)e;
    *count = t->left < capacity ? t->left : capacity;
    memcpy(bytes, t->at, *count);
    t->at += *count;
    t->left -= *count;
    return AS_OK;
}

/* Where the tensors end by the header itself, if it can be read: the size that makes the
 * file complete. */
static bool complete_size(const uint8_t *data, size_t size, uint64_t header, uint64_t *out)
{
    text t = {.at = data + PREFIX, .left = (size_t)header};
    as_error e = AS_ERROR_INIT;
    as_json *json;
    as_table table = AS_TABLE_INIT;
    uint64_t end = 0;
    MUST(as_json_open(&json, fill, &t, AS_JSON_SERDE, &e) == AS_OK);
    int code = as_safetensors_parse(json, &table, &e);
    as_json_close(json);
    for (size_t i = 0; i < as_table_count(&table); i++) {
        const as_entry *x = as_table_entry(&table, i);
        end = x->end > end ? x->end : end;
    }
    as_table_free(&table);
    fuzz_end(code, &e);
    return code == AS_OK && as_add_u64(PREFIX + header, end, out) && *out > size;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    as_source whole = as_source_memory(data, size, "input");
    int verdict = judge(&whole);
    if (verdict != AS_SAFETENSORS_INCOMPLETE) {
        return 0;
    }
    /* Only bytes are missing, or too many: with a size that fits it must be accepted. */
    uint64_t header = 0;
    for (int i = PREFIX - 1; i >= 0; i--) {
        header = header << 8 | data[i];
    }
    sparse s = {.bytes = data, .count = size};
    as_source longer = {.read = read_sparse, .self = &s, .name = "input"};
    if (complete_size(data, size, header, &longer.size)) {
        /* Of a name that stands twice only the last entry counts, so that less may be enough. */
        verdict = judge(&longer);
        MUST(verdict == AS_SAFETENSORS_OK || verdict == AS_SAFETENSORS_INCOMPLETE);
    }
    return 0;
}
