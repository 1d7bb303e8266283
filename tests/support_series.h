/* SPDX-License-Identifier: Apache-2.0
 * Tiny checkpoints of a series, and the simplest possible account of which of them should be there:
 * a list, and the rules of retention put to it by sorting.
 */
#ifndef ALLSHARD_TESTS_SUPPORT_SERIES_H
#define ALLSHARD_TESTS_SUPPORT_SERIES_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "series/retention.h"

enum { BOOK_MOST = 96, BOOK_NAME = 64 };

/* ---- the account ---- */

typedef struct book_one {
    char name[BOOK_NAME];
    int64_t id; /* of the bytes: no two saves have the same */
    int64_t step;
    int64_t time_ms;
    const char *metric; /* NULL: none */
    double value;
    bool tagged;
    bool damaged;
    bool foreign; /* no series saved it */
    bool may_go;  /* a prune that met trouble may have taken it, or not */
} book_one;

typedef struct book {
    book_one items[BOOK_MOST]; /* by step, time, name */
    size_t count;
    char latest[BOOK_NAME]; /* empty: there is none */
} book;

/* In its place, over one of the same name. */
void book_put(book *b, const book_one *one);
void book_drop(book *b, const char *name);
book_one *book_find(book *b, const char *name);

/* The newest good one; NULL: there is none. */
const book_one *book_newest(const book *b);

/* What the rules let go is dropped, or, with `only_may`, marked. `used`: names, ends with NULL. */
void book_prune(book *b, const as_keep_rules *rules, const char *const *used, int64_t now_ms,
                bool only_may);

/* Does the root hold just what the account says? What may have gone is dropped from it if it is
 * not there. NULL: yes; else what is wrong (static). Looks with plain system calls. */
const char *book_compare(book *b, const char *root);

/* For who looks into a failure. */
void book_print(const book *b);

/* ---- the disk ---- */

/* What they are tagged with. */
#define SERIES_TAG "keep"

/* Lays the checkpoint `one` into the open folder `parent`, through as_sys_table; a foreign one
 * without a manifest. `path` is the parent's. */
int series_lay(int parent, const char *path, const book_one *one, as_error *e);

/* The same as the saves of two parts leave it, for as_assemble: part-0 and part-1 in the folder
 * `staged`. */
int series_lay_parts(int staged, const char *path, const book_one *one, as_error *e);

/* What the checkpoint tells of itself; *out is the caller's. */
int series_record(const book_one *one, json_t **out, as_error *e);

/* Breaks it, as a dying disk does. */
void series_damage(const char *root, const char *name);

/* Sets or takes its tag by plain system calls: another process at work. */
void series_tag(const char *root, const char *name, bool tagged);

#endif
