/* SPDX-License-Identifier: Apache-2.0 */
#include "plan/catalog.h"

#include <string.h>

#include "plan/sort.h"
#include "tensor/dtype.h"

void as_catalog_free(as_catalog *c)
{
    as_buffer_free(&c->messages[0]);
    as_buffer_free(&c->messages[1]);
    as_buffer_free(&c->descriptors);
    as_buffer_free(&c->tensors);
}

int as_catalog_add(as_catalog *c, as_words words, int rank, as_error *e)
{
    as_descriptor d;
    int code = AS_OK;
    while (code == AS_OK && as_descriptor_take(&words, rank, &d)) {
        code = as_buffer_append(&c->descriptors, &d, sizeof d, e);
    }
    return code;
}

static int compare_descriptors(const void *a, const void *b)
{
    const as_descriptor *x = a;
    const as_descriptor *y = b;
    int order = as_hash_compare(as_descriptor_name(x), as_descriptor_name(y));
    if (order) {
        return order;
    }
    if (x->rank != y->rank) {
        return x->rank < y->rank ? -1 : 1;
    }
    int64_t i = as_descriptor_piece(x);
    int64_t k = as_descriptor_piece(y);
    return (i > k) - (i < k);
}

static void put_shape(as_buffer *text, const int64_t *shape, int ndim)
{
    (void)as_buffer_char(text, '[', NULL);
    for (int i = 0; i < ndim; i++) {
        (void)as_buffer_format(text, NULL, i ? ",%lld" : "%lld", (long long)shape[i]);
    }
    (void)as_buffer_char(text, ']', NULL);
}

/* Do they agree about the storage, if the caller has named one? */
static bool same_storage(const as_descriptor *a, const as_descriptor *b)
{
    bool stored = a->words[AS_D_KIND] & AS_D_STORED;
    if (stored != (bool)(b->words[AS_D_KIND] & AS_D_STORED)) {
        return false;
    }
    return !stored ||
           (as_hash_equal(as_descriptor_storage(a), as_descriptor_storage(b)) &&
            memcmp(as_descriptor_extent(a), as_descriptor_extent(b), 2 * sizeof(int64_t)) == 0);
}

/* What a and b disagree about, in words; false if they agree. */
static bool describe_difference(const as_descriptor *a, const as_descriptor *b, as_buffer *first,
                                as_buffer *second)
{
    int ndim = as_descriptor_ndim(a);
    if (as_descriptor_dtype(a) != as_descriptor_dtype(b)) {
        (void)as_buffer_format(first, NULL, "dtype %s", as_dtype_name(as_descriptor_dtype(a)));
        (void)as_buffer_format(second, NULL, "%s", as_dtype_name(as_descriptor_dtype(b)));
        return true;
    }
    as_dims x;
    as_dims y;
    if (ndim != as_descriptor_ndim(b) ||
        memcmp(as_descriptor_shape(a, &x), as_descriptor_shape(b, &y),
               (size_t)ndim * sizeof(int64_t)) != 0) {
        (void)as_buffer_format(first, NULL, "shape ");
        put_shape(first, as_descriptor_shape(a, &x), ndim);
        put_shape(second, as_descriptor_shape(b, &y), as_descriptor_ndim(b));
        return true;
    }
    if (a->words[AS_D_ORDER] != b->words[AS_D_ORDER]) {
        (void)as_buffer_format(first, NULL, "order key %lld", (long long)a->words[AS_D_ORDER]);
        (void)as_buffer_format(second, NULL, "%lld", (long long)b->words[AS_D_ORDER]);
        return true;
    }
    if (!same_storage(a, b)) {
        (void)as_buffer_format(first, NULL, "one storage (number, bytes, offset)");
        (void)as_buffer_format(second, NULL, "another");
        return true;
    }
    return false;
}

static int check_agreement(const as_descriptor *a, const as_descriptor *b, as_fault *fault,
                           as_error *e)
{
    as_buffer first = AS_BUFFER_INIT;
    as_buffer second = AS_BUFFER_INIT;
    int code = AS_OK;
    if (describe_difference(a, b, &first, &second)) {
        const char *x = as_buffer_string(&first);
        const char *y = as_buffer_string(&second);
        bool alias = (a->words[AS_D_KIND] | b->words[AS_D_KIND]) & AS_D_ALIAS;
        fault->rank[0] = a->rank;
        fault->label[0] = as_descriptor_piece(a);
        fault->rank[1] = b->rank;
        fault->label[1] = as_descriptor_piece(b);
        code = as_fail(e, AS_MISMATCH, 0,
                       alias ? "tensor " AS_NAME_1
                               ": rank %d declares %s, rank %d declares %s for " AS_NAME_2
                               ", which the checkpoint holds as the same tensor"
                             : "tensor " AS_NAME_1 ": rank %d declares %s, rank %d declares %s",
                       a->rank, x ? x : "?", b->rank, y ? y : "?");
    }
    as_buffer_free(&first);
    as_buffer_free(&second);
    return code;
}

/* The tensor of descriptors [first, last). */
static int add_tensor(as_catalog *c, size_t first, size_t last, as_fault *fault, as_error *e)
{
    const as_descriptor *d = as_catalog_descriptor(c, first);
    as_dims room;
    as_owned t = {
        .name = as_descriptor_name(d),
        .first = first,
        .count = last - first,
        .keyed = d->words[AS_D_ORDER] != 0,
        .source = d->rank,
        .file = -1,
    };
    t.order = t.keyed ? d->words[AS_D_ORDER] : (int64_t)d->rank << 32 | as_descriptor_piece(d);
    int code = as_box_tensor_bytes(as_descriptor_dtype(d), as_descriptor_ndim(d),
                                   as_descriptor_shape(d, &room), &t.bytes, e);
    bool stored = d->words[AS_D_KIND] & AS_D_STORED;
    t.storage = as_descriptor_storage(d);
    for (size_t i = first + 1; i < last && code == AS_OK; i++) {
        const as_descriptor *other = as_catalog_descriptor(c, i);
        code = check_agreement(d, other, fault, e);
        if (!stored) {
            t.storage = as_hash_sum(t.storage, as_descriptor_storage(other));
        }
    }
    return code == AS_OK ? as_buffer_append(&c->tensors, &t, sizeof t, e) : code;
}

int as_catalog_merge(as_catalog *c, as_fault *fault, as_error *e)
{
    size_t count = c->descriptors.size / sizeof(as_descriptor);
    c->tensors.size = 0;
    if (count > UINT32_MAX - 1) {
        return as_fail(e, AS_LIMIT, 0, "more than 2^32 pieces meet at one rank");
    }
    as_sort(c->descriptors.data, count, sizeof(as_descriptor), compare_descriptors);
    int code = AS_OK;
    size_t first = 0;
    for (size_t i = 1; i <= count && code == AS_OK; i++) {
        if (i == count || !as_hash_equal(as_descriptor_name(as_catalog_descriptor(c, first)),
                                         as_descriptor_name(as_catalog_descriptor(c, i)))) {
            code = add_tensor(c, first, i, fault, e);
            first = i;
        }
    }
    return code;
}

as_owned *as_catalog_find(const as_catalog *c, as_hash name)
{
    size_t low = 0;
    size_t high = as_catalog_count(c);
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = as_hash_compare(as_catalog_tensor(c, middle)->name, name);
        if (order == 0) {
            return as_catalog_tensor(c, middle);
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return NULL;
}
