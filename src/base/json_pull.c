/* SPDX-License-Identifier: Apache-2.0 */
#include "base/json_pull.h"

#include <stdlib.h>
#include <string.h>

#include "base/json_lex.h"

enum {
    SERDE_LEVELS = 127, /* serde_json refuses the 128th */
    PYTHON_LEVELS = 1000,
};

/* What may come next. */
enum state {
    VALUE,         /* a value: the only one, or a member's */
    FIRST_ELEMENT, /* after [ : a value or ] */
    FIRST_KEY,     /* after { : a key or } */
    AFTER_VALUE,   /* , or the end of what holds the value */
    DONE,
};

struct as_json {
    as_json_lex lex;
    int state;
    int depth;
    int levels;                                 /* deepest allowed */
    unsigned char in_object[PYTHON_LEVELS + 1]; /* what each level is */
};

int as_json_fill_memory(void *self, void *bytes, size_t capacity, size_t *count, as_error *e)
{
    as_json_memory *t = self;
    (void)e;
    *count = t->left < capacity ? t->left : capacity;
    if (*count > 0) {
        memcpy(bytes, t->at, *count);
        t->at = (const char *)t->at + *count;
        t->left -= *count;
    }
    return AS_OK;
}

int as_json_open(as_json **out, as_json_fill fill, void *self, int dialect, as_error *e)
{
    *out = NULL;
    as_json *j = calloc(1, sizeof *j);
    if (!j) {
        return as_fail_nomem(e);
    }
    j->state = VALUE;
    j->levels = dialect == AS_JSON_SERDE ? SERDE_LEVELS : PYTHON_LEVELS;
    int code = as_json_lex_open(&j->lex, fill, self, dialect, e);
    if (code != AS_OK) {
        free(j);
        return code;
    }
    *out = j;
    return AS_OK;
}

void as_json_close(as_json *j)
{
    if (j) {
        as_json_lex_close(&j->lex);
        free(j);
    }
}

static int enter(as_json *j, as_json_token *t, bool object, as_error *e)
{
    if (j->depth == j->levels) {
        return as_json_lex_fail(&j->lex, "arrays and objects lie too deep in one another", e);
    }
    as_json_lex_take(&j->lex);
    j->in_object[++j->depth] = object;
    j->state = object ? FIRST_KEY : FIRST_ELEMENT;
    t->kind = object ? AS_JSON_OBJECT : AS_JSON_ARRAY;
    return AS_OK;
}

static int leave(as_json *j, as_json_token *t)
{
    as_json_lex_take(&j->lex);
    t->kind = j->in_object[j->depth--] ? AS_JSON_OBJECT_END : AS_JSON_ARRAY_END;
    j->state = AFTER_VALUE;
    return AS_OK;
}

static int literal(as_json *j, as_json_token *t, int kind, const char *word, as_error *e)
{
    t->kind = kind;
    return as_json_lex_literal(&j->lex, word, e);
}

static int value(as_json *j, as_json_token *t, int c, as_error *e)
{
    as_json_lex *l = &j->lex;
    j->state = AFTER_VALUE;
    if (c == '-' || (c >= '0' && c <= '9')) {
        t->kind = AS_JSON_NUMBER;
        return as_json_lex_number(l, t, e);
    }
    switch (c) {
    case '{':
    case '[':
        return enter(j, t, c == '{', e);
    case '"':
        t->kind = AS_JSON_STRING;
        return as_json_lex_string(l, t, e);
    case 'n':
        return literal(j, t, AS_JSON_NULL, "null", e);
    case 'f':
        return literal(j, t, AS_JSON_FALSE, "false", e);
    case 't':
        return literal(j, t, AS_JSON_TRUE, "true", e);
    default:
        break;
    }
    if (l->dialect == AS_JSON_PYTHON && (c == 'N' || c == 'I')) {
        return literal(j, t, AS_JSON_NUMBER, c == 'N' ? "NaN" : "Infinity", e);
    }
    return as_json_lex_fail(
        l, c < 0 ? "the text ends where a value should stand" : "this is no JSON value", e);
}

static int key(as_json *j, as_json_token *t, int c, as_error *e)
{
    as_json_lex *l = &j->lex;
    if (c != '"') {
        return as_json_lex_fail(l, "the name of a member should stand here, in quotes", e);
    }
    t->kind = AS_JSON_KEY;
    int code = as_json_lex_string(l, t, e);
    if (code == AS_OK && as_json_lex_peek_word(l, e) != ':') {
        code = as_json_lex_fail(l, "a colon should stand here", e);
    }
    if (code == AS_OK) {
        as_json_lex_take(l);
        j->state = VALUE;
    }
    return code;
}

static int after_value(as_json *j, as_json_token *t, int c, as_error *e)
{
    as_json_lex *l = &j->lex;
    if (j->depth == 0) {
        if (c >= 0) {
            return as_json_lex_fail(l, "something stands behind the end of the JSON text", e);
        }
        t->kind = AS_JSON_END;
        j->state = DONE;
        return l->failed; /* the end may be fill's failure */
    }
    bool object = j->in_object[j->depth];
    if (c == (object ? '}' : ']')) {
        return leave(j, t);
    }
    if (c != ',') {
        return as_json_lex_fail(l,
                                c < 0 ? "the text ends inside an array or object"
                                      : "a comma or a closing bracket should stand here",
                                e);
    }
    as_json_lex_take(l);
    c = as_json_lex_peek_word(l, e);
    return object ? key(j, t, c, e) : value(j, t, c, e);
}

static int next(as_json *j, as_json_token *t, as_error *e)
{
    if (j->state == DONE) {
        t->kind = AS_JSON_END;
        return AS_OK;
    }
    int c = as_json_lex_peek_word(&j->lex, e);
    switch (j->state) {
    case FIRST_ELEMENT:
        return c == ']' ? leave(j, t) : value(j, t, c, e);
    case FIRST_KEY:
        return c == '}' ? leave(j, t) : key(j, t, c, e);
    case VALUE:
        return value(j, t, c, e);
    default:
        return after_value(j, t, c, e);
    }
}

int as_json_next(as_json *j, as_json_token *t, as_error *e)
{
    *t = (as_json_token){.kind = AS_JSON_END};
    if (j->lex.failed != AS_OK) {
        return as_fail(e, j->lex.failed, 0, "the JSON text could not be read");
    }
    int code = next(j, t, e);
    j->lex.failed = code;
    return code;
}

int as_json_skip(as_json *j, const as_json_token *t, as_error *e)
{
    as_json_token inner = *t;
    int code = AS_OK;
    if (inner.kind == AS_JSON_KEY) {
        code = as_json_next(j, &inner, e);
    }
    if (inner.kind != AS_JSON_ARRAY && inner.kind != AS_JSON_OBJECT) {
        return code;
    }
    /* The opening bracket is taken: go on until its level is left. */
    int level = j->depth;
    while (code == AS_OK && j->depth >= level) {
        code = as_json_next(j, &inner, e);
    }
    return code;
}

bool as_json_fill_failed(const as_json *j)
{
    return j->lex.fill_failed;
}

const char *as_json_kind_name(int kind)
{
    switch (kind) {
    case AS_JSON_NULL:
        return "null";
    case AS_JSON_FALSE:
    case AS_JSON_TRUE:
        return "a truth value";
    case AS_JSON_NUMBER:
        return "a number";
    case AS_JSON_STRING:
    case AS_JSON_KEY:
        return "a string";
    case AS_JSON_ARRAY:
        return "an array";
    case AS_JSON_OBJECT:
        return "an object";
    default:
        return "the end";
    }
}
