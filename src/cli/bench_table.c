/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/bench_table.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

int as_table_open(as_table *t, size_t rows, const char *const *head, size_t columns, as_error *e)
{
    *t = (as_table){.columns = columns};
    t->cells = calloc(rows + 1, sizeof *t->cells);
    if (!t->cells) {
        return as_fail_nomem(e);
    }
    as_table_row(t);
    for (size_t i = 0; i < columns; i++) {
        as_table_text(t, head[i]);
    }
    return AS_OK;
}

void as_table_row(as_table *t)
{
    t->rows++;
    t->column = 0;
}

static char *next_cell(as_table *t)
{
    return t->cells[t->rows - 1][t->column++];
}

void as_table_text(as_table *t, const char *text)
{
    (void)snprintf(next_cell(t), AS_TABLE_CELL, "%s", text);
}

void as_table_number(as_table *t, double value, int digits)
{
    if (isfinite(value)) {
        (void)snprintf(next_cell(t), AS_TABLE_CELL, "%.*f", digits, value);
    } else {
        as_table_text(t, "-");
    }
}

void as_table_seconds(as_table *t, double seconds)
{
    if (!isfinite(seconds)) {
        as_table_text(t, "-");
    } else if (seconds < 1e-3) {
        (void)snprintf(next_cell(t), AS_TABLE_CELL, "%.0f µs", seconds * 1e6);
    } else if (seconds < 1) {
        (void)snprintf(next_cell(t), AS_TABLE_CELL, "%.*f ms", seconds < 0.1 ? 1 : 0,
                       seconds * 1e3);
    } else {
        as_table_text(t, as_human_seconds(seconds).text);
    }
}

void as_table_bytes(as_table *t, double bytes)
{
    as_table_text(t, isfinite(bytes) ? as_human_bytes((int64_t)bytes).text : "-");
}

void as_table_range(as_table *t, double from, double to, int digits)
{
    if (isfinite(from) && isfinite(to)) {
        (void)snprintf(next_cell(t), AS_TABLE_CELL, "%.*f–%.*f", digits, from, digits, to);
    } else {
        as_table_text(t, "-");
    }
}

/* Characters, not bytes: – and µ have several. */
static int width_of(const char *text)
{
    int width = 0;
    for (; *text; text++) {
        width += ((unsigned char)*text & 0xc0) != 0x80;
    }
    return width;
}

static void print_row(const as_table *t, size_t row, const int *widths, const as_output *out,
                      bool markdown)
{
    for (size_t c = 0; c < t->columns; c++) {
        const char *text = t->cells[row][c];
        const char *bar = c == 0 ? (markdown ? "| " : "  ") : (markdown ? " | " : "  ");
        int gap = widths[c] - width_of(text);
        as_print_in(out, row == 0 && !markdown ? AS_BOLD : AS_PLAIN, "%s%*s%s%*s", bar,
                    c == 0 ? 0 : gap, "", text, c == 0 ? gap : 0, "");
    }
    as_print(out, markdown ? " |\n" : "\n");
}

void as_table_print(const as_table *t, const as_output *out, bool markdown)
{
    int widths[AS_TABLE_COLUMNS] = {0};
    for (size_t r = 0; r < t->rows; r++) {
        for (size_t c = 0; c < t->columns; c++) {
            int width = width_of(t->cells[r][c]);
            widths[c] = width > widths[c] ? width : widths[c];
        }
    }
    for (size_t r = 0; r < t->rows; r++) {
        print_row(t, r, widths, out, markdown);
        for (size_t c = 0; markdown && r == 0 && c < t->columns; c++) {
            as_print(out, c == 0 ? "|---|" : "--:|");
        }
        as_print(out, markdown && r == 0 ? "\n" : "");
    }
}

void as_table_close(as_table *t)
{
    free(t->cells);
    *t = (as_table){0};
}
