/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/bench_report.h"
#include "cli/bench_table.h"

typedef struct as_text {
    const as_bench *bench;
    const as_output *out;
    bool markdown;
    double *scratch;
} as_text;

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

const char *as_bench_chill_text(const as_bench *b)
{
    switch (b->chilled) {
    case AS_CHILL_FILES | AS_CHILL_SYSTEM:
        return "POSIX_FADV_DONTNEED and /proc/sys/vm/drop_caches";
    case AS_CHILL_FILES:
        return "POSIX_FADV_DONTNEED";
    case AS_CHILL_SYSTEM:
        return "/proc/sys/vm/drop_caches";
    default:
        return "nothing";
    }
}

static as_summary sum_up(const as_text *t, const as_bench_layout *l, enum as_metric m)
{
    return as_summarize(l->samples, t->bench->repeat, m, t->scratch);
}

static void print_title(const as_text *t, const char *title)
{
    as_print_in(t->out, t->markdown ? AS_PLAIN : AS_BOLD, "\n%s", title);
    as_print(t->out, t->markdown ? "\n\n" : "\n");
}

static void print_table(const as_text *t, as_table *table, const char *title)
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
        put_rate(&table, sum_up(t, l, r->rate), 2);
        as_table_seconds(&table, sum_up(t, l, r->seconds).median);
        for (size_t p = 0; p < r->plain_count && beside; p++) {
            as_table_number(&table, sum_up(t, l, r->plain[p]).median, 2);
        }
        if (beside) {
            put_rate(&table, sum_up(t, l, r->ratio), 2);
        }
    }
    if (code == AS_OK) {
        print_table(t, &table, beside ? r->title_beside : r->title);
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
        as_table_seconds(&table, sum_up(t, l, AS_M_SAVE_BLOCKING_S).median);
        as_table_seconds(&table, l->first.value[AS_M_SAVE_DURABLE_S]);
        as_table_seconds(&table, l->first.value[AS_M_SAVE_PLAN_S]);
        as_table_seconds(&table, sum_up(t, l, AS_M_SAVE_PLAN_S).median);
        as_table_number(&table, sum_up(t, l, AS_M_SAVE_CPU_S_PER_GB).median, 3);
        as_table_number(&table, sum_up(t, l, AS_M_LOAD_CPU_S_PER_GB).median, 3);
        as_table_number(&table, sum_up(t, l, AS_M_SAVE_WRITTEN_RATIO).median, 4);
        as_table_bytes(&table, sum_up(t, l, AS_M_SAVE_READ).most);
        as_table_bytes(&table, l->first.value[AS_M_SAVE_PEAK]);
        as_table_bytes(&table, sum_up(t, l, AS_M_SAVE_PEAK).most);
    }
    if (code == AS_OK) {
        print_table(t, &table, "What a save costs (peak: memory above that before, per rank)");
    }
    return code;
}

static int print_phases(const as_text *t, as_error *e)
{
    static const struct {
        const char *name;
        enum as_metric metric;
    } phases[] = {
        {"plan", AS_M_SAVE_PLAN_S},         {"begin", AS_M_SAVE_BEGIN_S},
        {"transfer", AS_M_SAVE_TRANSFER_S}, {"(copy", AS_M_SAVE_COPY_S},
        {"checksum", AS_M_SAVE_CHECKSUM_S}, {"io", AS_M_SAVE_IO_S},
        {"sync", AS_M_SAVE_SYNC_S},         {"wait)", AS_M_SAVE_WAIT_S},
        {"commit", AS_M_SAVE_COMMIT_S},     {"clean", AS_M_SAVE_CLEAN_S},
    };
    const char *names[COUNT(phases) + 1] = {"layout"};
    for (size_t p = 0; p < COUNT(phases); p++) {
        names[p + 1] = phases[p].name;
    }
    as_table table;
    int code = as_table_open(&table, t->bench->layout_count, names, COUNT(names), e);
    for (size_t i = 0; i < t->bench->layout_count && code == AS_OK; i++) {
        const as_bench_layout *l = &t->bench->layouts[i];
        as_table_row(&table);
        as_table_text(&table, l->name);
        for (size_t p = 0; p < COUNT(phases); p++) {
            as_table_seconds(&table, sum_up(t, l, phases[p].metric).median);
        }
    }
    if (code == AS_OK) {
        print_table(t, &table,
                    "Where the time of a save goes, on the slowest rank (in brackets: parts of the "
                    "transfer, which overlap)");
    }
    return code;
}

static void print_head(const as_text *t)
{
    const as_bench *b = t->bench;
    int ranks = b->tool->world.size;
    as_print_in(t->out, AS_BOLD, "%s", b->model);
    as_print(t->out, ": %s tensors, %s, in the memory of %d rank%s on %lld host%s; %s is %s\n",
             as_grouped((int64_t)as_tensors_count(&b->tensors)).text,
             as_human_bytes(b->stored_bytes).text, ranks, ranks == 1 ? "" : "s",
             (long long)b->hosts, b->hosts == 1 ? "" : "s", b->directory, b->on.name);
    as_print(t->out,
             "%zu repetition%s after a first one; medians. Every load was compared with what was "
             "saved: equal\n"
             "Caches dropped before each read: %s\n",
             b->repeat, b->repeat == 1 ? "" : "s", as_bench_chill_text(b));
    if (b->load_ranks > 0) {
        char loaders[64] = "rank 0 alone";
        if (b->load_ranks > 1) {
            (void)snprintf(loaders, sizeof loaders, "ranks 0 to %d", b->load_ranks - 1);
        }
        as_print(t->out, "Saved by all ranks, loaded and plainly read by %s\n", loaders);
    }
    if (b->on.in_memory) {
        as_print(t->out, "Files lie in memory here: nothing is durable, and no read is cold\n");
    }
    if (b->workload && b->workload->ranks != ranks) {
        as_print(t->out, "The workload is made for %d ranks (tp=%d, pp=%d, dp=%d), not for %d\n",
                 b->workload->ranks, b->workload->tp, b->workload->pp, b->workload->dp, ranks);
    }
}

static void print_engines(const as_text *t)
{
    as_print(t->out, "\n");
    for (size_t i = 0; i < t->bench->layout_count; i++) {
        const as_bench_layout *l = &t->bench->layouts[i];
        as_print(t->out, "%s%s: saved with %s (%s), loaded with %s (%s)\n", t->markdown ? "* " : "",
                 l->name, l->saved.engine, l->saved.reason, l->loaded.engine, l->loaded.reason);
        if (l->direct_refused) {
            as_print(t->out, "%s%s: the plain loop could not use O_DIRECT here\n",
                     t->markdown ? "* " : "", l->name);
        }
        if (l->direct_read_refused) {
            as_print(t->out, "%s%s: the plain read went through the page cache\n",
                     t->markdown ? "* " : "", l->name);
        }
    }
}

int as_bench_text(const as_bench *b, bool markdown, as_error *e)
{
    as_text t = {.bench = b, .out = &b->tool->out, .markdown = markdown};
    t.scratch = calloc(b->repeat, sizeof *t.scratch);
    if (!t.scratch) {
        return as_fail_nomem(e);
    }
    print_head(&t);
    int code = print_rates(&t, &save_rates, e);
    code = code == AS_OK ? print_rates(&t, &load_rates, e) : code;
    code = code == AS_OK ? print_costs(&t, e) : code;
    code = code == AS_OK ? print_phases(&t, e) : code;
    print_engines(&t);
    free(t.scratch);
    return code;
}
