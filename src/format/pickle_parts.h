/* SPDX-License-Identifier: Apache-2.0
 * The unpickler's parts: text, stack, nodes and memo. pickle_read.c has the opcodes that use them.
 * Each function fails with AS_FORMAT where the pickle is at fault, AS_LIMIT where it is too large.
 */
#ifndef ALLSHARD_FORMAT_PICKLE_PARTS_H
#define ALLSHARD_FORMAT_PICKLE_PARTS_H

#include "format/pickle_read.h"

as_pickle_value as_pickle_value_of(int kind, uint64_t number, uint32_t length);
int as_pickle_refuse(as_error *e, const char *reason);
int as_pickle_too_large(as_error *e);

/* Takes the next `bytes` ≤ 8 bytes of the text as a number, little-endian. */
int as_pickle_take_number(as_pickle *p, int bytes, uint64_t *out, as_error *e);

/* A run of bytes whose length stands before it, in `bytes` bytes. */
int as_pickle_take_text(as_pickle *p, int bytes, int kind, as_pickle_value *out, as_error *e);

/* Up to the end of the line, which is taken too. */
int as_pickle_take_line(as_pickle *p, as_pickle_value *out, as_error *e);

/* A LONG whose length stands before it: an AS_PICKLE_INT if it fits. */
int as_pickle_take_long(as_pickle *p, int bytes, as_pickle_value *out, as_error *e);

/* The stack. pop and top do not reach below the last mark. */
size_t as_pickle_stack_count(const as_pickle *p);
int as_pickle_stack_push(as_pickle *p, as_pickle_value v, as_error *e);
int as_pickle_stack_pop(as_pickle *p, as_pickle_value *out, as_error *e);
int as_pickle_stack_top(const as_pickle *p, as_pickle_value *out, as_error *e);
int as_pickle_set_mark(as_pickle *p, as_error *e);

/* Makes an empty node of that kind. AS_NOMEM, AS_LIMIT. */
int as_pickle_new(as_pickle *p, int kind, as_pickle_value *out, as_error *e);

/* Puts a value at a node's end. */
int as_pickle_push(as_pickle *p, const as_pickle_value *node, const as_pickle_value *value,
                   as_error *e);

/* Makes a node of the stack's entries from number `from` on, of those above the last mark, or of
 * the `count` on top (a tuple), and pushes it in their place. */
int as_pickle_gather(as_pickle *p, int kind, size_t from, as_error *e);
int as_pickle_gather_marked(as_pickle *p, int kind, as_error *e);
int as_pickle_gather_last(as_pickle *p, size_t count, as_error *e);

/* Puts the stack's entries above the last mark, or the `count` on top, into the list or dict that
 * lies below them. */
int as_pickle_add_marked(as_pickle *p, int kind, as_error *e);
int as_pickle_add_last(as_pickle *p, int kind, size_t count, as_error *e);

/* The memo: puts what is on top of the stack, pushes what was put. */
int as_pickle_put_memo(as_pickle *p, uint64_t index, as_error *e);
int as_pickle_get_memo(as_pickle *p, int bytes, as_error *e);

#endif
