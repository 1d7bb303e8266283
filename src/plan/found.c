/* SPDX-License-Identifier: Apache-2.0 */
#include "plan/found.h"

#include <stdlib.h>

void as_found_free(as_found_list *f)
{
    as_buffer_free(&f->tensors);
    as_buffer_free(&f->lines);
    as_buffer_free(&f->aliases);
}

static int compare_found(const void *a, const void *b)
{
    const int64_t *x = ((const as_found *)a)->words;
    const int64_t *y = ((const as_found *)b)->words;
    int order = as_hash_compare(as_words_hash(x), as_words_hash(y));
    return order ? order : (x[AS_F_FILE] > y[AS_F_FILE]) - (x[AS_F_FILE] < y[AS_F_FILE]);
}

/* Lines and aliases both begin with the name's hash. */
static int compare_named_words(const void *a, const void *b)
{
    return as_hash_compare(as_words_hash(*(const int64_t *const *)a),
                           as_words_hash(*(const int64_t *const *)b));
}

static void sort(as_buffer *b, size_t item, int (*compare)(const void *, const void *))
{
    if (b->size) {
        qsort(b->data, b->size / item, item, compare);
    }
}

int as_found_settle(as_found_list *f, bool indexed, as_fault *fault, as_error *e)
{
    sort(&f->tensors, sizeof(as_found), compare_found);
    sort(&f->lines, sizeof(const int64_t *), compare_named_words);
    sort(&f->aliases, sizeof(const int64_t *), compare_named_words);
    if (!indexed) {
        return AS_OK;
    }
    as_found *found = (as_found *)(void *)f->tensors.data;
    const int64_t *const *lines = (const int64_t *const *)(const void *)f->lines.data;
    size_t found_count = f->tensors.size / sizeof *found;
    size_t line_count = f->lines.size / sizeof *lines;
    size_t kept = 0;
    size_t at = 0;
    for (size_t i = 0; i < line_count; i++) {
        as_hash name = as_words_hash(lines[i]);
        bool here = false;
        for (; at < found_count; at++) {
            int order = as_hash_compare(as_words_hash(found[at].words), name);
            if (order > 0) {
                break;
            }
            if (order == 0 && found[at].words[AS_F_FILE] == lines[i][AS_I_FILE]) {
                here = true;
                found[kept++] = found[at];
            }
        }
        if (!here) {
            fault->rank[0] = 0;
            fault->label[0] = lines[i][AS_I_LABEL];
            fault->rank[1] = 0;
            fault->label[1] = AS_LABEL_FILE(lines[i][AS_I_FILE]);
            return as_fail(e, AS_FORMAT, 0,
                           "the index says that tensor " AS_NAME_1 " is in " AS_NAME_2
                           ", but that file does not hold it");
        }
    }
    f->tensors.size = kept * sizeof *found;
    return AS_OK;
}

const as_found *as_found_find(const as_found_list *f, as_hash name)
{
    int64_t words[2] = {(int64_t)name.high, (int64_t)name.low};
    const as_found *found = (const as_found *)(const void *)f->tensors.data;
    size_t low = 0;
    size_t high = f->tensors.size / sizeof *found;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (as_hash_compare(as_words_hash(found[middle].words), as_words_hash(words)) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    bool here = low < f->tensors.size / sizeof *found &&
                as_hash_equal(as_words_hash(found[low].words), name);
    return here ? &found[low] : NULL;
}

const int64_t *as_found_alias(const as_found_list *f, as_hash name)
{
    if (f->aliases.size == 0) {
        return NULL;
    }
    int64_t words[2] = {(int64_t)name.high, (int64_t)name.low};
    const int64_t *key = words;
    const int64_t *const *hit = bsearch(&key, f->aliases.data, f->aliases.size / sizeof key,
                                        sizeof key, compare_named_words);
    return hit ? *hit : NULL;
}
