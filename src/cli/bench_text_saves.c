/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "cli/bench_text.h"

as_summary as_text_sum(const as_text *t, const as_bench_layout *l, enum as_metric m)
{
    return as_summarize(l->samples, t->bench->repeat, m, t->scratch);
}

static void print_title(const as_text *t, const char *title)
{
    as_print_in(t->out, t->markdown ? AS_PLAIN : AS_BOLD, "\n%s", title);
    as_print(t->out, t->markdown ? "\n\n" : "\n");
}

void as_text_table(const as_text *t, as_table *table, const char *title)
{
    print_title(t, title);
    as_table_print(table, t->out, t->markdown);
    as_table_close(table);
}

/* Median, quartiles and extremes of a rate. */
static void put_rate(as_table *table, as_summary s, int digits)
{
    as_table_number(table, s.median, digits);
    as_table_range(table, s.quarter, s.three_quarters, digits);
    as_table_range(table, s.least, s.most, digits);
}

/* Saves or loads, and with --baseline the plain loops beside them. */
struct rates {
    const char *title;
    const char *title_beside;
    bool loads;
    enum as_metric rate, seconds, ratio;
    enum as_metric plain[2];
    size_t plain_count;
    const char *names[AS_TABLE_COLUMNS];
    size_t columns; /* with the plain loops; without them there are OWN_COLUMNS */
};

enum { OWN_COLUMNS = 6 };

static const struct rates save_rates = {
    .title = "Saves",
    .title_beside = "Saves, and plain loops that write as many bytes (GiB/s)",
    .rate = AS_M_SAVE_GIB_S,
    .seconds = AS_M_SAVE_DURABLE_S,
    .ratio = AS_M_WRITE_RATIO,
    .plain = {AS_M_DIRECT_GIB_S, AS_M_BUFFERED_GIB_S},
    .plain_count = 2,
    .names = {"layout", "engine", "GiB/s", "quartiles", "min–max", "durable in", "O_DIRECT",
              "buffered", "÷ better", "its quartiles", "its range"},
    .columns = 11,
};

static const struct rates load_rates = {
    .title = "Cold loads",
    .title_beside = "Cold loads, and a plain loop that reads the same files (GiB/s)",
    .loads = true,
    .rate = AS_M_LOAD_GIB_S,
    .seconds = AS_M_LOAD_S,
    .ratio = AS_M_READ_RATIO,
    .plain = {AS_M_READ_GIB_S},
    .plain_count = 1,
    .names = {"layout", "engine", "GiB/s", "quartiles", "min–max", "in", "plain read", "÷ plain",
              "its quartiles", "its range"},
    .columns = 10,
};

static int print_rates(const as_text *t, const struct rates *r, as_error *e)
{
    bool beside = t->bench->baseline;
    as_table table;
    int code = as_table_open(&table, t->bench->layout_count, r->names,
                             beside ? r->columns : OWN_COLUMNS, e);
    for (size_t i = 0; i < t->bench->layout_count && code == AS_OK; i++) {
        const as_bench_layout *l = &t->bench->layouts[i];
        as_table_row(&table);
        as_table_text(&table, l->name);
        as_table_text(&table, r->loads ? l->loaded.engine : l->saved.engine);
        put_rate(&table, as_text_sum(t, l, r->rate), 2);
        as_table_seconds(&table, as_text_sum(t, l, r->seconds).median);
        for (size_t p = 0; p < r->plain_count && beside; p++) {
            as_table_number(&table, as_text_sum(t, l, r->plain[p]).median, 2);
        }
        if (beside) {
            put_rate(&table, as_text_sum(t, l, r->ratio), 2);
        }
    }
    if (code == AS_OK) {
        as_text_table(t, &table, beside ? r->title_beside : r->title);
    }
    return code;
}

static int print_costs(const as_text *t, as_error *e)
{
    static const char *const names[] = {
        "layout",         "blocked",      "first save",     "plan, first", "plan", "CPU s/GB",
        "CPU s/GB, load", "written÷size", "read in a save", "peak, first", "peak",
    };
    as_table table;
    int code = as_table_open(&table, t->bench->layout_count, names, COUNT(names), e);
    for (size_t i = 0; i < t->bench->layout_count && code == AS_OK; i++) {
        const as_bench_layout *l = &t->bench->layouts[i];
        as_table_row(&table);
        as_table_text(&table, l->name);
        as_table_seconds(&table, as_text_sum(t, l, AS_M_SAVE_BLOCKING_S).median);
        as_table_seconds(&table, l->first.value[AS_M_SAVE_DURABLE_S]);
        as_table_seconds(&table, l->first.value[AS_M_SAVE_PLAN_S]);
        as_table_seconds(&table, as_text_sum(t, l, AS_M_SAVE_PLAN_S).median);
        as_table_number(&table, as_text_sum(t, l, AS_M_SAVE_CPU_S_PER_GB).median, 3);
        as_table_number(&table, as_text_sum(t, l, AS_M_LOAD_CPU_S_PER_GB).median, 3);
        as_table_number(&table, as_text_sum(t, l, AS_M_SAVE_WRITTEN_RATIO).median, 4);
        as_table_bytes(&table, as_text_sum(t, l, AS_M_SAVE_READ).most);
        as_table_bytes(&table, l->first.value[AS_M_SAVE_PEAK]);
        as_table_bytes(&table, as_text_sum(t, l, AS_M_SAVE_PEAK).most);
    }
    if (code == AS_OK) {
        as_text_table(t, &table, "What a save costs (peak: memory above that before, per rank)");
    }
    return code;
}

int as_text_phases(const as_text *t, bool nonblocking, as_error *e)
{
    static const char *const names[] = {"layout", "plan", "begin", "transfer", "(copy", "checksum",
                                        "io",     "sync", "wait)", "commit",   "clean"};
    static const enum as_metric of_saves[] = {
        AS_M_SAVE_PLAN_S,     AS_M_SAVE_BEGIN_S, AS_M_SAVE_TRANSFER_S, AS_M_SAVE_COPY_S,
        AS_M_SAVE_CHECKSUM_S, AS_M_SAVE_IO_S,    AS_M_SAVE_SYNC_S,     AS_M_SAVE_WAIT_S,
        AS_M_SAVE_COMMIT_S,   AS_M_SAVE_CLEAN_S};
    static const enum as_metric of_flights[] = {
        AS_M_FLIGHT_PLAN_S,     AS_M_FLIGHT_BEGIN_S, AS_M_FLIGHT_TRANSFER_S, AS_M_FLIGHT_COPY_S,
        AS_M_FLIGHT_CHECKSUM_S, AS_M_FLIGHT_IO_S,    AS_M_FLIGHT_SYNC_S,     AS_M_FLIGHT_WAIT_S,
        AS_M_FLIGHT_COMMIT_S,   AS_M_FLIGHT_CLEAN_S};
    const enum as_metric *phases = nonblocking ? of_flights : of_saves;
    as_table table;
    int code = as_table_open(&table, t->bench->layout_count, names, COUNT(names), e);
    for (size_t i = 0; i < t->bench->layout_count && code == AS_OK; i++) {
        const as_bench_layout *l = &t->bench->layouts[i];
        as_table_row(&table);
        as_table_text(&table, l->name);
        for (size_t p = 0; p < COUNT(of_saves); p++) {
            as_table_seconds(&table, as_text_sum(t, l, phases[p]).median);
        }
    }
    if (code == AS_OK) {
        char title[128];
        (void)snprintf(
            title, sizeof title,
            "Where the time of a %ssave goes, on the slowest rank (in brackets: parts of "
            "the transfer, which overlap)",
            nonblocking ? "nonblocking " : "");
        as_text_table(t, &table, title);
    }
    return code;
}

int as_text_saves(const as_text *t, as_error *e)
{
    return print_rates(t, &save_rates, e);
}

int as_text_blocking(const as_text *t, as_error *e)
{
    int code = print_rates(t, &save_rates, e);
    code = code == AS_OK ? print_rates(t, &load_rates, e) : code;
    code = code == AS_OK ? print_costs(t, e) : code;
    return code == AS_OK ? as_text_phases(t, false, e) : code;
}
