/* SPDX-License-Identifier: Apache-2.0 */
#include "format/pickle_read.h"

#include <stdlib.h>
#include <string.h>

#include "format/pickle_parts.h"
#include "format/pickle_torch.h"

/* Opcodes, as pickletools names them. */
enum opcode {
    MARK = '(',
    STOP = '.',
    BINFLOAT = 'G',
    BININT = 'J',
    BININT1 = 'K',
    BININT2 = 'M',
    NONE = 'N',
    BINPERSID = 'Q',
    REDUCE = 'R',
    BINSTRING = 'T',
    SHORT_BINSTRING = 'U',
    BINUNICODE = 'X',
    EMPTY_LIST = ']',
    APPEND = 'a',
    BUILD = 'b',
    GLOBAL = 'c',
    DICT = 'd',
    APPENDS = 'e',
    BINGET = 'h',
    LONG_BINGET = 'j',
    LIST = 'l',
    BINPUT = 'q',
    LONG_BINPUT = 'r',
    SETITEM = 's',
    TUPLE = 't',
    EMPTY_TUPLE = ')',
    SETITEMS = 'u',
    EMPTY_DICT = '}',
    BINBYTES = 'B',
    SHORT_BINBYTES = 'C',
    PROTO = 0x80,
    TUPLE1 = 0x85,
    TUPLE2 = 0x86,
    TUPLE3 = 0x87,
    NEWTRUE = 0x88,
    NEWFALSE = 0x89,
    LONG1 = 0x8a,
    LONG4 = 0x8b,
    SHORT_BINUNICODE = 0x8c,
    BINUNICODE8 = 0x8d,
    BINBYTES8 = 0x8e,
    STACK_GLOBAL = 0x93,
    MEMOIZE = 0x94,
    FRAME = 0x95,
};

void as_pickle_open(as_pickle *p, const as_source *source, const char *what, uint64_t begin,
                    uint64_t room)
{
    *p = (as_pickle){.source = source, .what = what, .begin = begin, .room = room};
}

void as_pickle_close(as_pickle *p)
{
    for (size_t i = 0; i < as_pickle_storage_count(p); i++) {
        free(as_pickle_storage_at(p, i)->key);
    }
    as_buffer *const all[] = {&p->text,  &p->stack, &p->marks,   &p->memo,    &p->nodes,
                              &p->cells, &p->views, &p->tensors, &p->storages};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        as_buffer_free(all[i]);
    }
    as_name_map_free(&p->keys);
}

bool as_pickle_is_string(const as_pickle *p, const as_pickle_value *v, const char *text)
{
    return v->kind == AS_PICKLE_STRING && v->length == strlen(text) &&
           memcmp(as_pickle_text(p, v), text, v->length) == 0;
}

const char *as_pickle_kind_name(int kind)
{
    static const char *const names[] = {
        "None",    "a boolean", "a number", "a long number", "a float",   "a string", "bytes",
        "a tuple", "a list",    "a dict",   "a class",       "a storage", "a tensor"};
    return kind >= 0 && kind <= AS_PICKLE_TENSOR ? names[kind] : "?";
}

/* ---- names and calls ---- */

static int push_global(as_pickle *p, const as_pickle_value *module, const as_pickle_value *name,
                       as_error *e)
{
    uint32_t number;
    int code = as_pickle_global_find(as_pickle_text(p, module), module->length,
                                     as_pickle_text(p, name), name->length, &number, e);
    return code == AS_OK
               ? as_pickle_stack_push(p, as_pickle_value_of(AS_PICKLE_GLOBAL, number, 0), e)
               : code;
}

static int take_global(as_pickle *p, as_error *e)
{
    as_pickle_value module;
    as_pickle_value name;
    int code = as_pickle_take_line(p, &module, e);
    code = code == AS_OK ? as_pickle_take_line(p, &name, e) : code;
    return code == AS_OK ? push_global(p, &module, &name, e) : code;
}

static int stack_global(as_pickle *p, as_error *e)
{
    as_pickle_value module;
    as_pickle_value name;
    int code = as_pickle_stack_pop(p, &name, e);
    code = code == AS_OK ? as_pickle_stack_pop(p, &module, e) : code;
    if (code == AS_OK && (module.kind != AS_PICKLE_STRING || name.kind != AS_PICKLE_STRING)) {
        return as_pickle_refuse(e, "it names something by what is no string");
    }
    return code == AS_OK ? push_global(p, &module, &name, e) : code;
}

static int reduce(as_pickle *p, as_error *e)
{
    as_pickle_value arguments;
    as_pickle_value global;
    as_pickle_value result;
    int code = as_pickle_stack_pop(p, &arguments, e);
    code = code == AS_OK ? as_pickle_stack_pop(p, &global, e) : code;
    code = code == AS_OK ? as_pickle_reduce(p, &global, &arguments, &result, e) : code;
    return code == AS_OK ? as_pickle_stack_push(p, result, e) : code;
}

static int persistent(as_pickle *p, as_error *e)
{
    as_pickle_value id;
    as_pickle_value result;
    int code = as_pickle_stack_pop(p, &id, e);
    code = code == AS_OK ? as_pickle_persistent(p, &id, &result, e) : code;
    return code == AS_OK ? as_pickle_stack_push(p, result, e) : code;
}

/* Attributes of an OrderedDict (a module's _metadata): not data, left out. */
static int build(as_pickle *p, as_error *e)
{
    as_pickle_value state;
    as_pickle_value object;
    int code = as_pickle_stack_pop(p, &state, e);
    code = code == AS_OK ? as_pickle_stack_top(p, &object, e) : code;
    if (code == AS_OK && (object.kind != AS_PICKLE_DICT || state.kind != AS_PICKLE_DICT)) {
        code = as_fail(e, AS_FORMAT, 0,
                       "it sets a state of %s, which allshard knows of an OrderedDict alone",
                       as_pickle_kind_name(object.kind));
    }
    return code;
}

/* ---- opcodes ---- */

static int put_numbered(as_pickle *p, int bytes, as_error *e)
{
    uint64_t index;
    int code = as_pickle_take_number(p, bytes, &index, e);
    return code == AS_OK ? as_pickle_put_memo(p, index, e) : code;
}

static int push_number(as_pickle *p, int bytes, as_error *e)
{
    uint64_t number;
    int code = as_pickle_take_number(p, bytes, &number, e);
    number = bytes == 4 && code == AS_OK ? (uint64_t)(int64_t)(int32_t)(uint32_t)number : number;
    return code == AS_OK ? as_pickle_stack_push(p, as_pickle_value_of(AS_PICKLE_INT, number, 0), e)
                         : code;
}

static int push_float(as_pickle *p, as_error *e)
{
    uint64_t number;
    int code = as_pickle_take_number(p, 8, &number, e);
    return code == AS_OK
               ? as_pickle_stack_push(
                     p, as_pickle_value_of(AS_PICKLE_FLOAT, __builtin_bswap64(number), 0), e)
               : code;
}

static int push_text(as_pickle *p, int bytes, int kind, as_error *e)
{
    as_pickle_value v;
    int code = as_pickle_take_text(p, bytes, kind, &v, e);
    return code == AS_OK ? as_pickle_stack_push(p, v, e) : code;
}

static int push_long(as_pickle *p, int bytes, as_error *e)
{
    as_pickle_value v;
    int code = as_pickle_take_long(p, bytes, &v, e);
    return code == AS_OK ? as_pickle_stack_push(p, v, e) : code;
}

static int take_protocol(as_pickle *p, as_error *e)
{
    uint64_t number;
    int code = as_pickle_take_number(p, 1, &number, e);
    if (code == AS_OK && (number < 2 || number > 5)) {
        code = as_fail(e, AS_FORMAT, 0, "it is of pickle protocol %llu; 2 to 5 can be read",
                       (unsigned long long)number);
    }
    return code;
}

/* Python reads ahead by frames; for who does not they mean nothing. */
static int take_frame(as_pickle *p, as_error *e)
{
    uint64_t length;
    return as_pickle_take_number(p, 8, &length, e);
}

static int unknown(int opcode, as_error *e)
{
    return as_fail(e, AS_FORMAT, 0,
                   "opcode 0x%02x is none of those that a state dict of tensors needs (protocols 2 "
                   "to 5); nothing was run",
                   (unsigned)opcode);
}

/* Opcodes that push one thing. */
static int step_push(as_pickle *p, int opcode, as_error *e)
{
    switch (opcode) {
    case NONE:
        return as_pickle_stack_push(p, as_pickle_value_of(AS_PICKLE_NONE, 0, 0), e);
    case NEWTRUE:
        return as_pickle_stack_push(p, as_pickle_value_of(AS_PICKLE_BOOL, 1, 0), e);
    case NEWFALSE:
        return as_pickle_stack_push(p, as_pickle_value_of(AS_PICKLE_BOOL, 0, 0), e);
    case BININT1:
        return push_number(p, 1, e);
    case BININT2:
        return push_number(p, 2, e);
    case BININT:
        return push_number(p, 4, e);
    case BINFLOAT:
        return push_float(p, e);
    case LONG1:
        return push_long(p, 1, e);
    case LONG4:
        return push_long(p, 4, e);
    case SHORT_BINSTRING: /* of Python 2: what is text there */
    case SHORT_BINUNICODE:
        return push_text(p, 1, AS_PICKLE_STRING, e);
    case BINSTRING:
    case BINUNICODE:
        return push_text(p, 4, AS_PICKLE_STRING, e);
    case BINUNICODE8:
        return push_text(p, 8, AS_PICKLE_STRING, e);
    case SHORT_BINBYTES:
        return push_text(p, 1, AS_PICKLE_BYTES, e);
    case BINBYTES:
        return push_text(p, 4, AS_PICKLE_BYTES, e);
    case BINBYTES8:
        return push_text(p, 8, AS_PICKLE_BYTES, e);
    case EMPTY_TUPLE:
        return as_pickle_gather(p, AS_PICKLE_TUPLE, as_pickle_stack_count(p), e);
    case EMPTY_LIST:
        return as_pickle_gather(p, AS_PICKLE_LIST, as_pickle_stack_count(p), e);
    case EMPTY_DICT:
        return as_pickle_gather(p, AS_PICKLE_DICT, as_pickle_stack_count(p), e);
    case BINGET:
        return as_pickle_get_memo(p, 1, e);
    case LONG_BINGET:
        return as_pickle_get_memo(p, 4, e);
    case GLOBAL:
        return take_global(p, e);
    default:
        return unknown(opcode, e);
    }
}

static int step(as_pickle *p, int opcode, as_error *e)
{
    switch (opcode) {
    case PROTO:
        return take_protocol(p, e);
    case FRAME:
        return take_frame(p, e);
    case MARK:
        return as_pickle_set_mark(p, e);
    case TUPLE:
        return as_pickle_gather_marked(p, AS_PICKLE_TUPLE, e);
    case LIST:
        return as_pickle_gather_marked(p, AS_PICKLE_LIST, e);
    case DICT:
        return as_pickle_gather_marked(p, AS_PICKLE_DICT, e);
    case TUPLE1:
        return as_pickle_gather_last(p, 1, e);
    case TUPLE2:
        return as_pickle_gather_last(p, 2, e);
    case TUPLE3:
        return as_pickle_gather_last(p, 3, e);
    case APPEND:
        return as_pickle_add_last(p, AS_PICKLE_LIST, 1, e);
    case APPENDS:
        return as_pickle_add_marked(p, AS_PICKLE_LIST, e);
    case SETITEM:
        return as_pickle_add_last(p, AS_PICKLE_DICT, 2, e);
    case SETITEMS:
        return as_pickle_add_marked(p, AS_PICKLE_DICT, e);
    case BINPUT:
        return put_numbered(p, 1, e);
    case LONG_BINPUT:
        return put_numbered(p, 4, e);
    case MEMOIZE:
        return as_pickle_put_memo(p, p->memo_set, e);
    case STACK_GLOBAL:
        return stack_global(p, e);
    case REDUCE:
        return reduce(p, e);
    case BUILD:
        return build(p, e);
    case BINPERSID:
        return persistent(p, e);
    default:
        return step_push(p, opcode, e);
    }
}

static int run(as_pickle *p, as_pickle_value *out, as_error *e)
{
    p->stack.size = 0;
    p->marks.size = 0;
    p->memo.size = 0;
    p->memo_set = 0;
    for (size_t i = 0;; i++) {
        uint64_t opcode;
        int code = as_pickle_take_number(p, 1, &opcode, e);
        if (code == AS_OK && i == 0 && opcode != PROTO) {
            return as_pickle_refuse(e, "it is no pickle of protocol 2 to 5");
        }
        if (code == AS_OK && opcode == STOP) {
            break;
        }
        code = code == AS_OK ? step(p, (int)opcode, e) : code;
        if (code != AS_OK) {
            return code;
        }
    }
    if (as_pickle_stack_count(p) != 1 || p->marks.size > 0) {
        return as_pickle_refuse(e, "it does not end with one value");
    }
    return as_pickle_stack_pop(p, out, e);
}

int as_pickle_run(as_pickle *p, as_pickle_value *out, as_error *e)
{
    as_error reason = AS_ERROR_INIT;
    int code = run(p, out, &reason);
    if (code == AS_FORMAT || code == AS_LIMIT) {
        as_error_prefix(&reason, "%s: %s: at byte %zu", p->source->name, p->what, p->at);
    }
    (void)as_error_pass(e, &reason);
    return code;
}
