/* SPDX-License-Identifier: Apache-2.0
 * A JSON pull parser for huge or hostile text. It reads through a window of
 * 256 KiB and keeps no tree: memory is bounded by the longest single string.
 * It needs no locale, and it says yes and no where the reference reader does.
 */
#ifndef ALLSHARD_BASE_JSON_PULL_H
#define ALLSHARD_BASE_JSON_PULL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum as_json_dialect {
    /* serde_json 1.x where every value is decoded, also those that are skipped: lone
     * surrogates and numbers beyond a double are refused; 127 levels at most. */
    AS_JSON_SERDE,
    /* Python's json.load: NaN and Infinity are numbers, lone surrogates pass (as
     * three bytes, WTF-8), whole numbers have at most 4300 digits; 1000 levels at
     * most, where Python stops at a number that depends on its version. */
    AS_JSON_PYTHON,
};

enum as_json_kind {
    AS_JSON_END, /* after the only value, with nothing but whitespace behind it */
    AS_JSON_NULL,
    AS_JSON_FALSE,
    AS_JSON_TRUE,
    AS_JSON_NUMBER,
    AS_JSON_STRING,
    AS_JSON_ARRAY,      /* [ */
    AS_JSON_ARRAY_END,  /* ] */
    AS_JSON_OBJECT,     /* { */
    AS_JSON_KEY,        /* the name of a member; its value comes next */
    AS_JSON_OBJECT_END, /* } */
};

typedef struct as_json_token {
    int kind;         /* enum as_json_kind */
    const char *text; /* KEY, STRING: decoded, UTF-8, NUL behind it; valid until the next call */
    size_t length;    /* bytes of text */
    bool is_u64;      /* NUMBER: written as a plain whole number (not -0, 1.0, 1e0) below 2^64 */
    uint64_t u64;     /* its value then */
} as_json_token;

/* Gives up to `capacity` (> 0) more bytes of the text; *count 0 at the end. */
typedef int (*as_json_fill)(void *self, void *bytes, size_t capacity, size_t *count, as_error *e);

typedef struct as_json as_json;

/* Text in memory, borrowed; as_json_fill_memory takes it off, with the as_json_memory as `self`. */
typedef struct as_json_memory {
    const void *at;
    size_t left; /* bytes */
} as_json_memory;

int as_json_fill_memory(void *self, void *bytes, size_t capacity, size_t *count, as_error *e);

/* AS_OK, AS_NOMEM. */
int as_json_open(as_json **out, as_json_fill fill, void *self, int dialect, as_error *e);

/* The next token. AS_FORMAT with the place and the reason where the text is not
 * JSON; what fill returned; AS_NOMEM. After an error every call returns it again. */
int as_json_next(as_json *j, as_json_token *t, as_error *e);

/* Takes the rest of the value that *t begins: of an array or object to its end, of a key
 * its value, of anything else nothing. */
int as_json_skip(as_json *j, const as_json_token *t, as_error *e);

/* Whether the error came from fill, not from the text. */
bool as_json_fill_failed(const as_json *j);

/* For error texts: "a string", "an object", … */
const char *as_json_kind_name(int kind);

void as_json_close(as_json *j); /* NULL is fine */

#endif
