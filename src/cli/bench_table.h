/* SPDX-License-Identifier: Apache-2.0
 * Small tables of text, for a terminal or in Markdown.
 */
#ifndef ALLSHARD_CLI_BENCH_TABLE_H
#define ALLSHARD_CLI_BENCH_TABLE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "cli/output.h"

enum { AS_TABLE_COLUMNS = 12, AS_TABLE_CELL = 64 };

typedef struct as_table {
    size_t columns;
    size_t rows;                                    /* the head is one */
    size_t column;                                  /* the next cell's */
    char (*cells)[AS_TABLE_COLUMNS][AS_TABLE_CELL]; /* heap */
} as_table;

/* A table for so many rows besides the head, whose cells follow. AS_NOMEM. */
int as_table_open(as_table *t, size_t rows, const char *const *head, size_t columns, as_error *e);

/* Begins the next row. */
void as_table_row(as_table *t);

/* The next cell of the row. */
void as_table_text(as_table *t, const char *text);

/* "1.234"; "-" if it is not finite. */
void as_table_number(as_table *t, double value, int digits);

/* "12.3 ms"; "-". */
void as_table_seconds(as_table *t, double seconds);

/* "12.3 MB"; "-". */
void as_table_bytes(as_table *t, double bytes);

/* "1.20–1.31"; "-" */
void as_table_range(as_table *t, double from, double to, int digits);

/* The first column stands to the left, the others to the right. */
void as_table_print(const as_table *t, const as_output *out, bool markdown);

void as_table_close(as_table *t);

#endif
