/* SPDX-License-Identifier: Apache-2.0
 * The names are those of torch.serialization and torch._utils (torch 0.4 to 2.15). What an old or
 * odd pickle may hold besides (sparse and quantised tensors, subclasses, numpy's scalars, nested
 * pickles) is refused by name.
 */
#include "format/pickle_torch.h"

#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/quote.h"
#include "format/pickle_parts.h"
#include "tensor/dtype.h"

enum { MOST_DIMS = 64, LONGEST_KEY = 256 };

#define CLASS(name, dtype, bytes)                                                                  \
    {                                                                                              \
        "torch", name "Storage", AS_PICKLE_CLASS, dtype, bytes                                     \
    }
#define DTYPE(name, dtype, bytes)                                                                  \
    {                                                                                              \
        "torch", name, AS_PICKLE_DTYPE, dtype, bytes                                               \
    }
#define NAME(module, name, role)                                                                   \
    {                                                                                              \
        module, name, role, AS_DTYPE_NONE, 0                                                       \
    }

const as_pickle_global as_pickle_globals[] = {
    NAME("collections", "OrderedDict", AS_PICKLE_ORDERED_DICT),
    NAME("torch._utils", "_rebuild_tensor_v2", AS_PICKLE_REBUILD_2),
    NAME("torch._utils", "_rebuild_tensor_v3", AS_PICKLE_REBUILD_3),
    NAME("torch._utils", "_rebuild_tensor", AS_PICKLE_REBUILD_1),
    NAME("torch._utils", "_rebuild_parameter", AS_PICKLE_PARAMETER),
    NAME("torch._utils", "_rebuild_parameter_with_state", AS_PICKLE_PARAMETER_STATE),
    NAME("torch", "Size", AS_PICKLE_SIZE),
    NAME("torch", "device", AS_PICKLE_DEVICE),
    NAME("_codecs", "encode", AS_PICKLE_ENCODE),
    {"torch.storage", "UntypedStorage", AS_PICKLE_UNTYPED, AS_DTYPE_NONE, 1},
    {"torch", "UntypedStorage", AS_PICKLE_UNTYPED, AS_DTYPE_NONE, 1},
    CLASS("Float", AS_F32, 4),
    CLASS("Half", AS_F16, 2),
    CLASS("BFloat16", AS_BF16, 2),
    CLASS("Double", AS_F64, 8),
    CLASS("Long", AS_I64, 8),
    CLASS("Int", AS_I32, 4),
    CLASS("Short", AS_I16, 2),
    CLASS("Char", AS_I8, 1),
    CLASS("Byte", AS_U8, 1),
    CLASS("Bool", AS_BOOL, 1),
    CLASS("ComplexFloat", AS_C64, 8),
    CLASS("ComplexDouble", AS_DTYPE_NONE, 16),
    CLASS("QInt8", AS_DTYPE_NONE, 1),
    CLASS("QUInt8", AS_DTYPE_NONE, 1),
    CLASS("QInt32", AS_DTYPE_NONE, 4),
    CLASS("QUInt4x2", AS_DTYPE_NONE, 1),
    CLASS("QUInt2x4", AS_DTYPE_NONE, 1),
    DTYPE("uint16", AS_U16, 2),
    DTYPE("uint32", AS_U32, 4),
    DTYPE("uint64", AS_U64, 8),
    DTYPE("float8_e4m3fn", AS_F8_E4M3, 1),
    DTYPE("float8_e5m2", AS_F8_E5M2, 1),
    DTYPE("float8_e4m3fnuz", AS_F8_E4M3FNUZ, 1),
    DTYPE("float8_e5m2fnuz", AS_F8_E5M2FNUZ, 1),
    DTYPE("float8_e8m0fnu", AS_F8_E8M0, 1),
    DTYPE("float4_e2m1fn_x2", AS_F4, 1),
    DTYPE("float32", AS_F32, 4),
    DTYPE("float16", AS_F16, 2),
    DTYPE("bfloat16", AS_BF16, 2),
    DTYPE("float64", AS_F64, 8),
    DTYPE("int64", AS_I64, 8),
    DTYPE("int32", AS_I32, 4),
    DTYPE("int16", AS_I16, 2),
    DTYPE("int8", AS_I8, 1),
    DTYPE("uint8", AS_U8, 1),
    DTYPE("bool", AS_BOOL, 1),
    DTYPE("complex64", AS_C64, 8),
    DTYPE("complex128", AS_DTYPE_NONE, 16),
    DTYPE("complex32", AS_DTYPE_NONE, 4),
};

enum { GLOBALS = sizeof as_pickle_globals / sizeof as_pickle_globals[0] };

static const as_pickle_global *global_of(const as_pickle_value *v)
{
    return v->kind == AS_PICKLE_GLOBAL ? &as_pickle_globals[v->number] : NULL;
}

static bool equals(const char *text, size_t length, const char *name)
{
    return strlen(name) == length && memcmp(text, name, length) == 0;
}

int as_pickle_global_find(const char *module, size_t module_length, const char *name,
                          size_t name_length, uint32_t *number, as_error *e)
{
    for (uint32_t i = 0; i < GLOBALS; i++) {
        if (equals(name, name_length, as_pickle_globals[i].name) &&
            equals(module, module_length, as_pickle_globals[i].module)) {
            *number = i;
            return AS_OK;
        }
    }
    return as_fail(e, AS_FORMAT, 0,
                   "it names %s of module %s, which no plain state dict of tensors needs; nothing "
                   "was run. If you trust the file, load it with torch and save its tensors alone",
                   as_quote(name, name_length).text, as_quote(module, module_length).text);
}

bool as_pickle_class_of(int dtype, uint32_t *number, uint32_t *dtype_number)
{
    uint32_t untyped = 0;
    for (uint32_t i = 0; i < GLOBALS; i++) {
        const as_pickle_global *g = &as_pickle_globals[i];
        if (g->role == AS_PICKLE_UNTYPED && untyped == 0) {
            untyped = i;
        }
        if ((g->role == AS_PICKLE_CLASS || g->role == AS_PICKLE_DTYPE) && g->dtype == dtype &&
            dtype != AS_DTYPE_NONE) {
            *number = g->role == AS_PICKLE_CLASS ? i : untyped;
            *dtype_number = i;
            return true;
        }
    }
    return false;
}

static int refuse(as_error *e, const char *reason)
{
    return as_fail(e, AS_FORMAT, 0, "%s", reason);
}

/* The items of a tuple or list, of which there must be `least` to `most`; missing ones are None. */
static bool items_of(const as_pickle *p, const as_pickle_value *v, size_t least, size_t most,
                     as_pickle_value *items)
{
    if (v->kind != AS_PICKLE_TUPLE && v->kind != AS_PICKLE_LIST) {
        return false;
    }
    const as_pickle_node *node = as_pickle_node_at(p, v->number);
    if (node->count < least || node->count > most) {
        return false;
    }
    size_t count = 0;
    for (uint32_t c = node->first; c; c = as_pickle_cell_at(p, c)->next) {
        items[count++] = as_pickle_cell_at(p, c)->value;
    }
    while (count < most) {
        items[count++] = (as_pickle_value){.kind = AS_PICKLE_NONE};
    }
    return true;
}

static bool is_size(const as_pickle_value *v)
{
    return v->kind == AS_PICKLE_INT && v->number <= INT64_MAX;
}

/* A shape or strides: a tuple of sizes; *count: of them. */
static bool is_sizes(const as_pickle *p, const as_pickle_value *v, uint32_t *count)
{
    if (v->kind != AS_PICKLE_TUPLE) {
        return false;
    }
    const as_pickle_node *node = as_pickle_node_at(p, v->number);
    *count = node->count;
    if (node->count > MOST_DIMS) {
        return false;
    }
    for (uint32_t c = node->first; c; c = as_pickle_cell_at(p, c)->next) {
        if (!is_size(&as_pickle_cell_at(p, c)->value)) {
            return false;
        }
    }
    return true;
}

static bool is_empty_dict(const as_pickle *p, const as_pickle_value *v)
{
    return v->kind == AS_PICKLE_DICT && as_pickle_node_at(p, v->number)->count == 0;
}

static int add_tensor(as_pickle *p, const as_pickle_tensor *t, as_pickle_value *out, as_error *e)
{
    *out = (as_pickle_value){.kind = AS_PICKLE_TENSOR, .number = p->tensors.size / sizeof *t};
    return as_buffer_append(&p->tensors, t, sizeof *t, e);
}

/* _rebuild_tensor(storage, offset, size, stride), v2(…, requires_grad, hooks, metadata = None),
 * v3(…, requires_grad, hooks, dtype, metadata = None) */
static int rebuild(as_pickle *p, int role, const as_pickle_value *arguments, as_pickle_value *out,
                   as_error *e)
{
    enum { STORAGE, OFFSET, SHAPE, STRIDES, GRAD, HOOKS, LAST = 8 };
    size_t least = role == AS_PICKLE_REBUILD_1 ? 4 : role == AS_PICKLE_REBUILD_2 ? 6 : 7;
    size_t most = role == AS_PICKLE_REBUILD_1 ? 4 : role == AS_PICKLE_REBUILD_2 ? 7 : 8;
    as_pickle_value a[LAST];
    uint32_t dims;
    uint32_t strides;
    if (!items_of(p, arguments, least, most, a) || a[STORAGE].kind != AS_PICKLE_STORAGE ||
        !is_size(&a[OFFSET]) || !is_sizes(p, &a[SHAPE], &dims) ||
        !is_sizes(p, &a[STRIDES], &strides) || dims != strides) {
        return refuse(e, "a tensor is made of the wrong things: it needs a storage, an offset, and "
                         "a shape and strides of the same length");
    }
    uint32_t dtype =
        as_pickle_storage_at(p, as_pickle_view_at(p, a[STORAGE].number)->storage)->class;
    as_pickle_tensor t = {.view = (uint32_t)a[STORAGE].number,
                          .offset = a[OFFSET].number,
                          .shape = (uint32_t)a[SHAPE].number,
                          .strides = (uint32_t)a[STRIDES].number,
                          .dtype = dtype};
    if (role != AS_PICKLE_REBUILD_1) {
        if (a[GRAD].kind != AS_PICKLE_BOOL || !is_empty_dict(p, &a[HOOKS])) {
            return refuse(e, "a tensor has hooks, or says in another way than by a boolean whether "
                             "it takes a gradient");
        }
        t.requires_grad = a[GRAD].number != 0;
    }
    const as_pickle_value *metadata = role == AS_PICKLE_REBUILD_2   ? &a[6]
                                      : role == AS_PICKLE_REBUILD_3 ? &a[7]
                                                                    : NULL;
    if (metadata && metadata->kind != AS_PICKLE_NONE && !is_empty_dict(p, metadata)) {
        return refuse(e,
                      "a tensor is a conjugate or negative view, whose values are not those that "
                      "are stored; save it with .resolve_conj().resolve_neg()");
    }
    if (role == AS_PICKLE_REBUILD_3) {
        const as_pickle_global *g = global_of(&a[6]);
        if (!g || g->role != AS_PICKLE_DTYPE) {
            return refuse(e, "a tensor has no dtype");
        }
        t.dtype = (uint32_t)a[6].number;
    } else if (as_pickle_globals[dtype].role != AS_PICKLE_CLASS) {
        return refuse(e, "a tensor of an UntypedStorage has no dtype");
    }
    return add_tensor(p, &t, out, e);
}

/* _rebuild_parameter(data, requires_grad, hooks), …_with_state(…, state) */
static int parameter(as_pickle *p, int role, const as_pickle_value *arguments, as_pickle_value *out,
                     as_error *e)
{
    size_t count = role == AS_PICKLE_PARAMETER ? 3 : 4;
    as_pickle_value a[4];
    if (!items_of(p, arguments, count, count, a) || a[0].kind != AS_PICKLE_TENSOR ||
        a[1].kind != AS_PICKLE_BOOL || !is_empty_dict(p, &a[2])) {
        return refuse(e,
                      "a parameter is made of the wrong things: it needs a tensor, a boolean and "
                      "no hooks");
    }
    as_pickle_tensor t = *as_pickle_tensor_at(p, a[0].number);
    t.parameter = true;
    t.requires_grad = a[1].number != 0;
    return add_tensor(p, &t, out, e);
}

/* OrderedDict(), or, as Python 2 has it, OrderedDict([[key, value], …]) */
static int ordered_dict(as_pickle *p, const as_pickle_value *arguments, as_pickle_value *out,
                        as_error *e)
{
    static const char fault[] = "an OrderedDict is made of something other than pairs";
    as_pickle_value pairs;
    if (!items_of(p, arguments, 0, 1, &pairs)) {
        return refuse(e, fault);
    }
    int code = as_pickle_new(p, AS_PICKLE_DICT, out, e);
    if (code != AS_OK || as_pickle_node_at(p, arguments->number)->count == 0) {
        return code;
    }
    if (pairs.kind != AS_PICKLE_LIST) {
        return refuse(e, fault);
    }
    uint32_t next = as_pickle_node_at(p, pairs.number)->first;
    while (next && code == AS_OK) {
        as_pickle_cell cell = *as_pickle_cell_at(p, next);
        as_pickle_value pair[2];
        if (!items_of(p, &cell.value, 2, 2, pair)) {
            return refuse(e, fault);
        }
        code = as_pickle_push(p, out, &pair[0], e);
        code = code == AS_OK ? as_pickle_push(p, out, &pair[1], e) : code;
        next = cell.next;
    }
    return code;
}

int as_pickle_reduce(as_pickle *p, const as_pickle_value *global, const as_pickle_value *arguments,
                     as_pickle_value *out, as_error *e)
{
    const as_pickle_global *g = global_of(global);
    if (!g || arguments->kind != AS_PICKLE_TUPLE) {
        return as_fail(e, AS_FORMAT, 0, "it calls %s with %s; nothing was run",
                       as_pickle_kind_name(global->kind), as_pickle_kind_name(arguments->kind));
    }
    as_pickle_value a[2];
    switch (g->role) {
    case AS_PICKLE_ORDERED_DICT:
        return ordered_dict(p, arguments, out, e);
    case AS_PICKLE_REBUILD_1:
    case AS_PICKLE_REBUILD_2:
    case AS_PICKLE_REBUILD_3:
        return rebuild(p, g->role, arguments, out, e);
    case AS_PICKLE_PARAMETER:
    case AS_PICKLE_PARAMETER_STATE:
        return parameter(p, g->role, arguments, out, e);
    case AS_PICKLE_SIZE:
        if (!items_of(p, arguments, 1, 1, a) || a[0].kind != AS_PICKLE_TUPLE) {
            return refuse(e, "a torch.Size is made of something other than a tuple");
        }
        *out = a[0];
        return AS_OK;
    case AS_PICKLE_DEVICE:
        if (!items_of(p, arguments, 1, 2, a) || a[0].kind != AS_PICKLE_STRING) {
            return refuse(e, "a torch.device is made of something other than a string");
        }
        *out = a[0];
        return AS_OK;
    case AS_PICKLE_ENCODE:
        if (!items_of(p, arguments, 2, 2, a) || a[0].kind != AS_PICKLE_STRING ||
            a[1].kind != AS_PICKLE_STRING) {
            return refuse(e, "bytes are made of something other than two strings");
        }
        *out = a[0];
        out->kind = AS_PICKLE_BYTES;
        return AS_OK;
    default:
        return as_fail(e, AS_FORMAT, 0, "it calls %s.%s, which is no function; nothing was run",
                       g->module, g->name);
    }
}

/* The storage of that key, class and size: the one that is known, or a new one. */
static int find_storage(as_pickle *p, const as_pickle_value *key, uint32_t class, uint64_t numel,
                        uint32_t *number, as_error *e)
{
    const char *text = as_pickle_text(p, key);
    if (key->length == 0 || key->length > LONGEST_KEY || memchr(text, '\0', key->length)) {
        return refuse(e, "a storage has an unusable key");
    }
    char *copy = strndup(text, key->length);
    if (!copy) {
        return as_fail_nomem(e);
    }
    size_t found;
    if (as_name_map_find(&p->keys, copy, &found)) {
        const as_pickle_storage *s = as_pickle_storage_at(p, found);
        free(copy);
        *number = (uint32_t)found;
        if (s->class != class || s->numel != numel) {
            return as_fail(e, AS_FORMAT, 0,
                           "storage %s has two dtypes or two sizes: %llu of %s, %llu of %s",
                           as_quote(s->key, strlen(s->key)).text, (unsigned long long)s->numel,
                           as_pickle_globals[s->class].name, (unsigned long long)numel,
                           as_pickle_globals[class].name);
        }
        return AS_OK;
    }
    found = as_pickle_storage_count(p);
    as_pickle_storage s = {.key = copy, .class = class, .numel = numel};
    int code = as_buffer_append(&p->storages, &s, sizeof s, e);
    if (code != AS_OK) {
        free(copy);
        return code;
    }
    *number = (uint32_t)found;
    return as_name_map_add(&p->keys, copy, found, e);
}

int as_pickle_persistent(as_pickle *p, const as_pickle_value *id, as_pickle_value *out, as_error *e)
{
    enum { WORD, CLASS_OF, KEY, LOCATION, NUMEL, VIEW, ITEMS };
    as_pickle_value a[ITEMS];
    const as_pickle_global *g = NULL;
    if (id->kind == AS_PICKLE_TUPLE && items_of(p, id, NUMEL + 1, ITEMS, a)) {
        g = global_of(&a[CLASS_OF]);
    }
    if (!g || !as_pickle_is_string(p, &a[WORD], "storage") ||
        (g->role != AS_PICKLE_CLASS && g->role != AS_PICKLE_UNTYPED) ||
        a[KEY].kind != AS_PICKLE_STRING || a[LOCATION].kind != AS_PICKLE_STRING ||
        !is_size(&a[NUMEL])) {
        return refuse(e, "it refers to something outside of itself that is no storage");
    }
    as_pickle_view view = {.numel = a[NUMEL].number};
    int code =
        find_storage(p, &a[KEY], (uint32_t)a[CLASS_OF].number, a[NUMEL].number, &view.storage, e);
    if (code == AS_OK && a[VIEW].kind != AS_PICKLE_NONE) {
        as_pickle_value v[3];
        uint64_t end;
        if (!items_of(p, &a[VIEW], 3, 3, v) || !is_size(&v[1]) || !is_size(&v[2]) ||
            !as_add_u64(v[1].number, v[2].number, &end) || end > view.numel) {
            return refuse(e, "a storage's view reaches past its end");
        }
        view.offset = v[1].number;
        view.numel = v[2].number;
    }
    *out = (as_pickle_value){.kind = AS_PICKLE_STORAGE, .number = p->views.size / sizeof view};
    return code == AS_OK ? as_buffer_append(&p->views, &view, sizeof view, e) : code;
}
