/* SPDX-License-Identifier: Apache-2.0
 * data.pkl as torch.save writes it, from the tensors alone.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/quote.h"
#include "format/pickle_torch.h"
#include "format/pickle_write.h"
#include "format/torch.h"
#include "tensor/dtype.h"

enum { MOST_GLOBALS = 128 };

/* One pickle: what has a number already. */
typedef struct state {
    as_pickler w;
    const as_torch_tensor *tensors;
    const as_torch_storage *storages;
    const as_torch_options *options;
    size_t *keys;                   /* storages in the order of their first use */
    size_t key_count;               /* of them so far */
    size_t *key_of;                 /* per storage; SIZE_MAX: not used yet */
    uint32_t *key_memo;             /* per storage */
    uint32_t globals[MOST_GLOBALS]; /* per as_pickle_globals */
    uint32_t word_storage, word_cpu, word_version;
} state;

static int put_global(state *s, uint32_t number, as_error *e)
{
    const as_pickle_global *g = &as_pickle_globals[number];
    return as_pickler_global(&s->w, g->module, g->name, &s->globals[number], e);
}

/* The function or class of that role. */
static int put_role(state *s, int role, as_error *e)
{
    uint32_t i = 0;
    while (as_pickle_globals[i].role != role) {
        i++;
    }
    return put_global(s, i, e);
}

/* OrderedDict(), which everything begins with that is one. */
static int put_empty_ordered(state *s, as_error *e)
{
    int code = put_role(s, AS_PICKLE_ORDERED_DICT, e);
    code = code == AS_OK ? as_pickler_op(&s->w, ')', e) : code;
    code = code == AS_OK ? as_pickler_op(&s->w, 'R', e) : code;
    return code == AS_OK ? as_pickler_put(&s->w, NULL, e) : code;
}

/* ('storage', class, key, 'cpu', numel), which stands for the storage. */
static int put_storage(state *s, size_t storage, uint32_t class, as_error *e)
{
    if (s->key_of[storage] == SIZE_MAX) {
        s->key_of[storage] = s->key_count;
        s->keys[s->key_count++] = storage;
    }
    char key[24];
    int length = snprintf(key, sizeof key, "%zu", s->key_of[storage]);
    uint64_t numel = s->storages[storage].bytes / (uint64_t)as_pickle_globals[class].bytes;
    int code = as_pickler_op(&s->w, '(', e);
    code = code == AS_OK ? as_pickler_string(&s->w, "storage", 7, &s->word_storage, e) : code;
    code = code == AS_OK ? put_global(s, class, e) : code;
    code = code == AS_OK ? as_pickler_string(&s->w, key, (size_t)length, &s->key_memo[storage], e)
                         : code;
    code = code == AS_OK ? as_pickler_string(&s->w, "cpu", 3, &s->word_cpu, e) : code;
    code = code == AS_OK ? as_pickler_int(&s->w, numel, e) : code;
    code = code == AS_OK ? as_pickler_tuple(&s->w, 5, e) : code;
    return code == AS_OK ? as_pickler_op(&s->w, 'Q', e) : code;
}

/* Shape and strides, in torch's elements: pairs of F4 are one. */
static int put_shape(state *s, const as_torch_tensor *t, as_error *e)
{
    size_t ndim = (size_t)t->ndim;
    uint64_t *sizes = malloc((2 * ndim + 1) * sizeof *sizes);
    if (!sizes) {
        return as_fail_nomem(e);
    }
    uint64_t *strides = sizes + ndim;
    uint64_t stride = 1;
    for (size_t d = ndim; d > 0; d--) {
        uint64_t size = t->shape[d - 1];
        sizes[d - 1] = t->dtype == AS_F4 && d == ndim ? size / 2 : size;
        strides[d - 1] = t->strides ? t->strides[d - 1] : stride;
        /* torch counts an empty dimension as one here; what it multiplies was checked. */
        stride *= sizes[d - 1] > 0 ? sizes[d - 1] : 1;
    }
    int code = as_pickler_ints(&s->w, sizes, ndim, e);
    code = code == AS_OK ? as_pickler_ints(&s->w, strides, ndim, e) : code;
    free(sizes);
    return code;
}

static int put_view(state *s, const as_torch_tensor *t, bool needs_grad, as_error *e)
{
    uint32_t class = 0;
    uint32_t dtype = 0;
    (void)as_pickle_class_of(t->dtype, &class, &dtype); /* was checked */
    bool untyped = class != dtype;
    int code = put_role(s, untyped ? AS_PICKLE_REBUILD_3 : AS_PICKLE_REBUILD_2, e);
    code = code == AS_OK ? as_pickler_op(&s->w, '(', e) : code;
    code = code == AS_OK ? put_storage(s, t->storage, class, e) : code;
    code = code == AS_OK ? as_pickler_int(&s->w, t->first, e) : code;
    code = code == AS_OK ? put_shape(s, t, e) : code;
    code = code == AS_OK ? as_pickler_bool(&s->w, needs_grad, e) : code;
    code = code == AS_OK ? put_empty_ordered(s, e) : code;
    code = code == AS_OK && untyped ? put_global(s, dtype, e) : code;
    code = code == AS_OK ? as_pickler_tuple(&s->w, 6, e) : code; /* or 7: the same */
    code = code == AS_OK ? as_pickler_op(&s->w, 'R', e) : code;
    return code == AS_OK ? as_pickler_put(&s->w, NULL, e) : code;
}

static int put_tensor(state *s, const as_torch_tensor *t, as_error *e)
{
    if (!t->parameter) {
        return put_view(s, t, t->needs_grad, e);
    }
    int code = put_role(s, AS_PICKLE_PARAMETER, e);
    code = code == AS_OK ? put_view(s, t, false, e) : code;
    code = code == AS_OK ? as_pickler_bool(&s->w, t->needs_grad, e) : code;
    code = code == AS_OK ? put_empty_ordered(s, e) : code;
    code = code == AS_OK ? as_pickler_tuple(&s->w, 3, e) : code;
    code = code == AS_OK ? as_pickler_op(&s->w, 'R', e) : code;
    return code == AS_OK ? as_pickler_put(&s->w, NULL, e) : code;
}

static int put_empty_dict(state *s, as_error *e)
{
    int code = as_pickler_op(&s->w, '}', e);
    return code == AS_OK ? as_pickler_put(&s->w, NULL, e) : code;
}

/* {'version': 1} */
static int put_version(state *s, int64_t version, as_error *e)
{
    int code = put_empty_dict(s, e);
    code = code == AS_OK ? as_pickler_string(&s->w, "version", 7, &s->word_version, e) : code;
    code = code == AS_OK ? as_pickler_int(&s->w, (uint64_t)version, e) : code;
    return code == AS_OK ? as_pickler_op(&s->w, 's', e) : code;
}

/* The attributes of a module's OrderedDict: {'_metadata': OrderedDict of versions}. */
static int put_modules(state *s, as_error *e)
{
    size_t count = s->options->module_count;
    int code = put_empty_dict(s, e);
    code = code == AS_OK ? as_pickler_string(&s->w, "_metadata", 9, NULL, e) : code;
    code = code == AS_OK ? put_empty_ordered(s, e) : code;
    for (size_t i = 0; i < count && code == AS_OK; i++) {
        const as_torch_module *m = &s->options->modules[i];
        code = as_pickler_before_item(&s->w, true, i, count, e);
        code = code == AS_OK ? as_pickler_string(&s->w, m->name, m->name_length, NULL, e) : code;
        code = code == AS_OK ? put_version(s, m->version, e) : code;
        code = code == AS_OK ? as_pickler_after_item(&s->w, true, i, count, e) : code;
    }
    code = code == AS_OK ? as_pickler_op(&s->w, 's', e) : code;
    return code == AS_OK ? as_pickler_op(&s->w, 'b', e) : code;
}

static int put_dict(state *s, size_t count, as_error *e)
{
    bool ordered = s->options->ordered;
    int code = as_buffer_append(s->w.out, "\x80\x02", 2, e);
    if (code == AS_OK) {
        code = ordered ? put_empty_ordered(s, e) : put_empty_dict(s, e);
    }
    for (size_t i = 0; i < count && code == AS_OK; i++) {
        const as_torch_tensor *t = &s->tensors[i];
        code = as_pickler_before_item(&s->w, ordered, i, count, e);
        code = code == AS_OK ? as_pickler_string(&s->w, t->name, t->name_length, NULL, e) : code;
        code = code == AS_OK ? put_tensor(s, t, e) : code;
        code = code == AS_OK ? as_pickler_after_item(&s->w, ordered, i, count, e) : code;
    }
    if (code == AS_OK && ordered && s->options->modules) {
        code = put_modules(s, e);
    }
    return code == AS_OK ? as_pickler_op(&s->w, '.', e) : code;
}

int as_torch_pickle(const as_torch_tensor *tensors, size_t count, const as_torch_storage *storages,
                    size_t storage_count, const as_torch_options *options, size_t *keys,
                    as_buffer *out, as_error *e)
{
    state s = {.w = {.out = out},
               .tensors = tensors,
               .storages = storages,
               .options = options,
               .word_storage = AS_PICKLER_NEW,
               .word_cpu = AS_PICKLER_NEW,
               .word_version = AS_PICKLER_NEW};
    s.keys = keys;
    memset(s.globals, 0xff, sizeof s.globals);
    s.key_of = malloc((storage_count + 1) * sizeof *s.key_of);
    s.key_memo = malloc((storage_count + 1) * sizeof *s.key_memo);
    if (!s.key_of || !s.key_memo) {
        free(s.key_of);
        free(s.key_memo);
        return as_fail_nomem(e);
    }
    for (size_t i = 0; i < storage_count; i++) {
        s.key_of[i] = SIZE_MAX;
        s.key_memo[i] = AS_PICKLER_NEW;
    }
    int code = put_dict(&s, count, e);
    free(s.key_of);
    free(s.key_memo);
    return code;
}
