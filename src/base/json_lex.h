/* SPDX-License-Identifier: Apache-2.0
 * The words of JSON: strings, numbers and literals, read through a window. Used
 * by json_pull.c alone.
 */
#ifndef ALLSHARD_BASE_JSON_LEX_H
#define ALLSHARD_BASE_JSON_LEX_H

#include "base/buffer.h"
#include "base/json_pull.h"

typedef struct as_json_lex {
    as_json_fill fill;
    void *self;
    int dialect;
    char *window;
    size_t at, end;   /* unread bytes of the window */
    uint64_t base;    /* place of the window's first byte in the text */
    bool ended;       /* fill has given its last byte */
    bool fill_failed; /* the error is fill's */
    int failed;       /* AS_OK, or the code of the error that ended it */
    as_buffer text;   /* the string read last */
} as_json_lex;

int as_json_lex_open(as_json_lex *l, as_json_fill fill, void *self, int dialect, as_error *e);
void as_json_lex_close(as_json_lex *l);

/* The next byte, not taken; −1 at the end or if fill failed. */
int as_json_lex_peek(as_json_lex *l, as_error *e);

/* Takes the byte that peek gave. */
static inline void as_json_lex_take(as_json_lex *l)
{
    l->at++;
}

/* Skips whitespace and peeks. */
int as_json_lex_peek_word(as_json_lex *l, as_error *e);

/* Ends the reading: AS_FORMAT with place and reason, or fill's code if that failed. */
int as_json_lex_fail(as_json_lex *l, const char *reason, as_error *e);

/* Each begins at the byte that was peeked last. */
int as_json_lex_string(as_json_lex *l, as_json_token *t, as_error *e);
int as_json_lex_number(as_json_lex *l, as_json_token *t, as_error *e);
int as_json_lex_literal(as_json_lex *l, const char *word, as_error *e);

#endif
