/* SPDX-License-Identifier: Apache-2.0 */
#include "format/pickle_parts.h"

#include <string.h>

enum {
    PIECE = 64 * 1024,    /* of the text, read at once */
    LONGEST_LINE = 1024,  /* of a GLOBAL: module and name are far shorter */
    MOST_NODES = 1 << 24, /* 200 MB */
    MOST_CELLS = 1 << 25, /* 800 MB: what 1.2 million tensors take */
    MOST_VALUES = 1 << 24,
    NOT_SET = 0xff, /* kind of a memo entry that nobody has put */
};

#define LONGEST_TEXT (UINT64_C(128) << 20)

as_pickle_value as_pickle_value_of(int kind, uint64_t number, uint32_t length)
{
    return (as_pickle_value){.kind = (uint8_t)kind, .number = number, .length = length};
}

int as_pickle_refuse(as_error *e, const char *reason)
{
    return as_fail(e, AS_FORMAT, 0, "%s", reason);
}

int as_pickle_too_large(as_error *e)
{
    return as_fail(e, AS_LIMIT, 0,
                   "the pickle has more parts, or more bytes, than allshard reads "
                   "(128 MiB, some tens of millions of parts)");
}

/* ---- the text ---- */

/* Sees to it that `count` bytes of text lie at p->at. */
static int need(as_pickle *p, uint64_t count, as_error *e)
{
    uint64_t have = p->text.size - p->at;
    if (count <= have) {
        return AS_OK;
    }
    uint64_t left = p->room - p->text.size;
    if (count - have > left) {
        return as_pickle_refuse(e,
                                "it is cut short, or claims a string that is longer than the file");
    }
    uint64_t more = count - have < PIECE ? PIECE : count - have;
    more = more < left ? more : left;
    if (more > LONGEST_TEXT - p->text.size) {
        return as_pickle_too_large(e);
    }
    uint64_t from = p->begin + p->text.size;
    void *place;
    int code = as_buffer_extend(&p->text, (size_t)more, &place, e);
    return code == AS_OK ? p->source->read(p->source, from, place, (size_t)more, e) : code;
}

/* The next `bytes` ≤ 8 bytes as a number, little-endian. */
int as_pickle_take_number(as_pickle *p, int bytes, uint64_t *out, as_error *e)
{
    int code = need(p, (uint64_t)bytes, e);
    if (code != AS_OK) {
        return code;
    }
    *out = 0;
    for (int i = bytes - 1; i >= 0; i--) {
        *out = *out << 8 | (unsigned char)p->text.data[p->at + (size_t)i];
    }
    p->at += (size_t)bytes;
    return AS_OK;
}

/* A run of bytes whose length stands before it, in `bytes` bytes. */
int as_pickle_take_text(as_pickle *p, int bytes, int kind, as_pickle_value *out, as_error *e)
{
    uint64_t length;
    int code = as_pickle_take_number(p, bytes, &length, e);
    code = code == AS_OK ? need(p, length, e) : code;
    if (code == AS_OK) {
        *out = as_pickle_value_of(kind, p->at, (uint32_t)length);
        p->at += (size_t)length;
    }
    return code;
}

/* Up to the end of the line, which is taken too. */
int as_pickle_take_line(as_pickle *p, as_pickle_value *out, as_error *e)
{
    size_t begin = p->at;
    for (;;) {
        int code = need(p, 1, e);
        if (code != AS_OK) {
            return code;
        }
        if (p->text.data[p->at++] == '\n') {
            *out = as_pickle_value_of(AS_PICKLE_STRING, begin, (uint32_t)(p->at - 1 - begin));
            return AS_OK;
        }
        if (p->at - begin > LONGEST_LINE) {
            return as_pickle_refuse(e, "it names something in more than 1024 bytes");
        }
    }
}

int as_pickle_take_long(as_pickle *p, int bytes, as_pickle_value *out, as_error *e)
{
    int code = as_pickle_take_text(p, bytes, AS_PICKLE_LONG, out, e);
    if (code != AS_OK || out->length > 8) {
        return code;
    }
    const unsigned char *text = (const unsigned char *)as_pickle_text(p, out);
    bool negative = out->length > 0 && text[out->length - 1] >= 0x80;
    uint64_t number = negative ? UINT64_MAX : 0;
    for (size_t i = out->length; i > 0; i--) {
        number = number << 8 | text[i - 1];
    }
    *out = as_pickle_value_of(AS_PICKLE_INT, number, 0);
    return AS_OK;
}

/* ---- the stack ---- */

size_t as_pickle_stack_count(const as_pickle *p)
{
    return p->stack.size / sizeof(as_pickle_value);
}

static as_pickle_value *stack_at(const as_pickle *p, size_t i)
{
    return (as_pickle_value *)(void *)p->stack.data + i;
}

/* Entries below the last MARK, which opcodes do not reach. */
static size_t stack_floor(const as_pickle *p)
{
    size_t count = p->marks.size / sizeof(size_t);
    return count > 0 ? ((const size_t *)(const void *)p->marks.data)[count - 1] : 0;
}

int as_pickle_stack_push(as_pickle *p, as_pickle_value v, as_error *e)
{
    if (as_pickle_stack_count(p) >= MOST_VALUES) {
        return as_pickle_too_large(e);
    }
    return as_buffer_append(&p->stack, &v, sizeof v, e);
}

static int underflow(as_error *e)
{
    return as_pickle_refuse(e, "it takes more from its stack than there is");
}

int as_pickle_stack_pop(as_pickle *p, as_pickle_value *out, as_error *e)
{
    if (as_pickle_stack_count(p) <= stack_floor(p)) {
        return underflow(e);
    }
    *out = *stack_at(p, as_pickle_stack_count(p) - 1);
    p->stack.size -= sizeof *out;
    return AS_OK;
}

/* The entry on top, which stays. */
int as_pickle_stack_top(const as_pickle *p, as_pickle_value *out, as_error *e)
{
    if (as_pickle_stack_count(p) <= stack_floor(p)) {
        return underflow(e);
    }
    *out = *stack_at(p, as_pickle_stack_count(p) - 1);
    return AS_OK;
}

int as_pickle_set_mark(as_pickle *p, as_error *e)
{
    size_t count = as_pickle_stack_count(p);
    if (p->marks.size / sizeof count >= MOST_VALUES) {
        return as_pickle_too_large(e);
    }
    return as_buffer_append(&p->marks, &count, sizeof count, e);
}

static int pop_mark(as_pickle *p, size_t *from, as_error *e)
{
    if (p->marks.size == 0) {
        return as_pickle_refuse(e, "it looks for a mark that it has not set");
    }
    *from = stack_floor(p);
    p->marks.size -= sizeof(size_t);
    return AS_OK;
}

/* ---- nodes ---- */

int as_pickle_new(as_pickle *p, int kind, as_pickle_value *out, as_error *e)
{
    size_t count = p->nodes.size / sizeof(as_pickle_node);
    if (count >= MOST_NODES) {
        return as_pickle_too_large(e);
    }
    *out = as_pickle_value_of(kind, count, 0);
    void *place;
    return as_buffer_extend(&p->nodes, sizeof(as_pickle_node), &place, e);
}

int as_pickle_push(as_pickle *p, const as_pickle_value *node, const as_pickle_value *value,
                   as_error *e)
{
    static const as_pickle_cell none;
    int code = p->cells.size == 0 ? as_buffer_append(&p->cells, &none, sizeof none, e) : AS_OK;
    size_t count = p->cells.size / sizeof none;
    if (count >= MOST_CELLS) {
        return as_pickle_too_large(e);
    }
    as_pickle_cell cell = {.value = *value};
    code = code == AS_OK ? as_buffer_append(&p->cells, &cell, sizeof cell, e) : code;
    if (code != AS_OK) {
        return code;
    }
    as_pickle_node *n = (as_pickle_node *)(void *)p->nodes.data + node->number;
    if (n->last) {
        ((as_pickle_cell *)(void *)p->cells.data)[n->last].next = (uint32_t)count;
    } else {
        n->first = (uint32_t)count;
    }
    n->last = (uint32_t)count;
    n->count++;
    return AS_OK;
}

/* Moves the stack's entries from number `from` on into a node, and takes them off. */
static int move_to(as_pickle *p, const as_pickle_value *node, size_t from, as_error *e)
{
    int code = AS_OK;
    for (size_t i = from; i < as_pickle_stack_count(p) && code == AS_OK; i++) {
        code = as_pickle_push(p, node, stack_at(p, i), e);
    }
    p->stack.size = from * sizeof(as_pickle_value);
    return code;
}

/* A new node of the stack's entries from number `from` on takes their place. */
int as_pickle_gather(as_pickle *p, int kind, size_t from, as_error *e)
{
    if (kind == AS_PICKLE_DICT && (as_pickle_stack_count(p) - from) % 2 != 0) {
        return as_pickle_refuse(e, "it makes a dict of an odd number of keys and values");
    }
    as_pickle_value node;
    int code = as_pickle_new(p, kind, &node, e);
    code = code == AS_OK ? move_to(p, &node, from, e) : code;
    return code == AS_OK ? as_pickle_stack_push(p, node, e) : code;
}

int as_pickle_gather_marked(as_pickle *p, int kind, as_error *e)
{
    size_t from = 0;
    int code = pop_mark(p, &from, e);
    return code == AS_OK ? as_pickle_gather(p, kind, from, e) : code;
}

int as_pickle_gather_last(as_pickle *p, size_t count, as_error *e)
{
    if (as_pickle_stack_count(p) - stack_floor(p) < count) {
        return underflow(e);
    }
    return as_pickle_gather(p, AS_PICKLE_TUPLE, as_pickle_stack_count(p) - count, e);
}

/* Puts the stack's entries from number `from` on into the list or dict below them. */
static int add_items(as_pickle *p, int kind, size_t from, as_error *e)
{
    if (from <= stack_floor(p)) {
        return underflow(e);
    }
    as_pickle_value node = *stack_at(p, from - 1);
    if (node.kind != kind) {
        return as_fail(e, AS_FORMAT, 0, "it adds items to %s as if that were %s",
                       as_pickle_kind_name(node.kind), as_pickle_kind_name(kind));
    }
    if (kind == AS_PICKLE_DICT && (as_pickle_stack_count(p) - from) % 2 != 0) {
        return as_pickle_refuse(e, "it adds a key without a value to a dict");
    }
    return move_to(p, &node, from, e);
}

int as_pickle_add_marked(as_pickle *p, int kind, as_error *e)
{
    size_t from = 0;
    int code = pop_mark(p, &from, e);
    return code == AS_OK ? add_items(p, kind, from, e) : code;
}

int as_pickle_add_last(as_pickle *p, int kind, size_t count, as_error *e)
{
    if (as_pickle_stack_count(p) - stack_floor(p) < count) {
        return underflow(e);
    }
    return add_items(p, kind, as_pickle_stack_count(p) - count, e);
}

/* ---- the memo ---- */

static as_pickle_value *memo_at(const as_pickle *p, uint64_t i)
{
    return i < p->memo.size / sizeof(as_pickle_value) ? (as_pickle_value *)(void *)p->memo.data + i
                                                      : NULL;
}

int as_pickle_put_memo(as_pickle *p, uint64_t index, as_error *e)
{
    as_pickle_value v;
    int code = as_pickle_stack_top(p, &v, e);
    if (code != AS_OK) {
        return code;
    }
    if (index > p->at || index >= MOST_VALUES) {
        /* Numbers run on, and each costs two bytes: a larger one is there to cost memory. */
        return as_pickle_refuse(e, "it uses a memo number that no pickler gives");
    }
    as_pickle_value unset = as_pickle_value_of(NOT_SET, 0, 0);
    while (code == AS_OK && !memo_at(p, index)) {
        code = as_buffer_append(&p->memo, &unset, sizeof unset, e);
    }
    if (code != AS_OK) {
        return code;
    }
    p->memo_set += memo_at(p, index)->kind == NOT_SET;
    *memo_at(p, index) = v;
    return AS_OK;
}

int as_pickle_get_memo(as_pickle *p, int bytes, as_error *e)
{
    uint64_t index;
    int code = as_pickle_take_number(p, bytes, &index, e);
    if (code != AS_OK) {
        return code;
    }
    const as_pickle_value *v = memo_at(p, index);
    if (!v || v->kind == NOT_SET) {
        return as_pickle_refuse(e, "it asks its memo for something that it has not put there");
    }
    return as_pickle_stack_push(p, *v, e);
}
