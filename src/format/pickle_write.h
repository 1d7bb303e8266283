/* SPDX-License-Identifier: Apache-2.0
 * Writes a pickle of protocol 2 opcode for opcode as CPython's own pickler does (3.10 to 3.13),
 * which torch.save uses: what it puts into its memo, how it writes numbers, where it cuts a dict.
 *
 * That pickler refers to an object that it has met before by its number in the memo. Two strings of
 * the same text may or may not be one object in a Python program; here each is its own unless the
 * caller keeps its number.
 */
#ifndef ALLSHARD_FORMAT_PICKLE_WRITE_H
#define ALLSHARD_FORMAT_PICKLE_WRITE_H

#include <stdbool.h>

#include "base/buffer.h"

enum { AS_PICKLE_BATCH = 1000 }; /* items of a dict that are written at once */

/* The number of what has none yet. */
#define AS_PICKLER_NEW UINT32_MAX

typedef struct as_pickler {
    as_buffer *out; /* borrowed */
    uint32_t memo;  /* numbers given so far */
} as_pickler;

/* One opcode without an argument. */
int as_pickler_op(as_pickler *w, char opcode, as_error *e);

/* Gives what was written last a number: *number, if not NULL. AS_LIMIT past 2^32. */
int as_pickler_put(as_pickler *w, uint32_t *number, as_error *e);
int as_pickler_get(as_pickler *w, uint32_t number, as_error *e);

int as_pickler_int(as_pickler *w, uint64_t value, as_error *e);
int as_pickler_bool(as_pickler *w, bool value, as_error *e);

/* A string, with its number: the one in *number, or a new one, which is kept there. NULL: always
 * new. */
int as_pickler_string(as_pickler *w, const char *text, size_t length, uint32_t *number,
                      as_error *e);

/* A class or function, likewise. */
int as_pickler_global(as_pickler *w, const char *module, const char *name, uint32_t *number,
                      as_error *e);

/* A tuple of whole numbers. */
int as_pickler_ints(as_pickler *w, const uint64_t *values, size_t count, as_error *e);

/* Ends a tuple of `count` ≤ 3 things, or one that began with MARK, and gives it a number. */
int as_pickler_tuple(as_pickler *w, size_t count, as_error *e);

/* What comes before and after item i of `count` of a dict, exactly or (ordered) an OrderedDict: the
 * pickler's batches, with their quirks. */
int as_pickler_before_item(as_pickler *w, bool ordered, size_t i, size_t count, as_error *e);
int as_pickler_after_item(as_pickler *w, bool ordered, size_t i, size_t count, as_error *e);

#endif
