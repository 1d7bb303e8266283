/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/bench_text.h"

static void put_quartiles(as_table *table, as_summary s, int digits)
{
    as_table_number(table, s.median, digits);
    as_table_range(table, s.quarter, s.three_quarters, digits);
}

/* How long the caller waits, against the plainest copy of as many bytes; what its loop loses; when
 * the checkpoint counts, against a blocking save. */
static int print_flights(const as_text *t, as_error *e)
{
    static const char *const names[] = {
        "layout",       "staging",   "memcpy",        "blocked",    "÷ memcpy", "quartiles",
        "loop loses %", "quartiles", "by CPU time %", "durable in", "÷ save",   "quartiles",
    };
    as_table table;
    int code = as_table_open(&table, t->bench->layout_count, names, COUNT(names), e);
    for (size_t i = 0; i < t->bench->layout_count && code == AS_OK; i++) {
        const as_bench_layout *l = &t->bench->layouts[i];
        as_table_row(&table);
        as_table_text(&table, l->name);
        as_table_text(&table, l->stream ? "stream" : "snapshot");
        as_table_seconds(&table, as_text_sum(t, l, AS_M_COPY_S).median);
        as_table_seconds(&table, as_text_sum(t, l, AS_M_FLIGHT_BLOCKING_S).median);
        put_quartiles(&table, as_text_sum(t, l, AS_M_BLOCKING_RATIO), 2);
        put_quartiles(&table, as_text_sum(t, l, AS_M_LOOP_LOSS), 1);
        as_table_number(&table, as_text_sum(t, l, AS_M_LOOP_CPU_LOSS).median, 1);
        as_table_seconds(&table, as_text_sum(t, l, AS_M_FLIGHT_DURABLE_S).median);
        put_quartiles(&table, as_text_sum(t, l, AS_M_DURABLE_RATIO), 2);
    }
    if (code == AS_OK) {
        as_text_table(
            t, &table,
            "Nonblocking saves, with a plain memcpy of as many bytes, a compute loop beside "
            "them, and blocking saves");
    }
    return code;
}

static int print_costs(const as_text *t, as_error *e)
{
    static const char *const names[] = {
        "layout",
        "staged",
        "first time",
        "longest test",
        "memory",
        "touched, first",
        "touched",
        "peak, first",
        "peak",
        "CPU s/GB",
        "staging ÷ memcpy, CPU",
        "memcpy GiB/s",
    };
    as_table table;
    int code = as_table_open(&table, t->bench->layout_count, names, COUNT(names), e);
    for (size_t i = 0; i < t->bench->layout_count && code == AS_OK; i++) {
        const as_bench_layout *l = &t->bench->layouts[i];
        as_table_row(&table);
        as_table_text(&table, l->name);
        as_table_seconds(&table, as_text_sum(t, l, AS_M_FLIGHT_STAGED_S).median);
        as_table_seconds(&table, l->first.value[AS_M_FLIGHT_STAGED_S]);
        as_table_seconds(&table, as_text_sum(t, l, AS_M_FLIGHT_TEST_S).median);
        as_table_bytes(&table, as_text_sum(t, l, AS_M_FLIGHT_SNAPSHOT).most);
        as_table_bytes(&table, l->first.value[AS_M_FLIGHT_TOUCHED]);
        as_table_bytes(&table, as_text_sum(t, l, AS_M_FLIGHT_TOUCHED).most);
        as_table_bytes(&table, l->first.value[AS_M_FLIGHT_PEAK]);
        as_table_bytes(&table, as_text_sum(t, l, AS_M_FLIGHT_PEAK).most);
        as_table_number(&table, as_text_sum(t, l, AS_M_FLIGHT_CPU_S_PER_GB).median, 3);
        as_table_number(&table, as_text_sum(t, l, AS_M_STAGED_CPU_RATIO).median, 2);
        as_table_number(&table, as_text_sum(t, l, AS_M_COPY_GIB_S).median, 2);
    }
    if (code == AS_OK) {
        as_text_table(
            t, &table,
            "What a nonblocking save costs (memory and touched: of all ranks; peak: memory "
            "above that before, per rank)");
    }
    return code;
}

int as_text_nonblocking(const as_text *t, as_error *e)
{
    int code = print_flights(t, e);
    code = code == AS_OK ? as_text_saves(t, e) : code;
    code = code == AS_OK ? print_costs(t, e) : code;
    code = code == AS_OK ? as_text_phases(t, true, e) : code;
    return code == AS_OK ? as_text_phases(t, false, e) : code;
}
