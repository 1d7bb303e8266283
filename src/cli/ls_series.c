/* SPDX-License-Identifier: Apache-2.0
 * allshard ls ROOT: the checkpoints of a series.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/sys.h"
#include "cli/series_root.h"
#include "commit/folder.h"
#include "series/latest.h"
#include "series/words.h"

enum column { NAME, STEP, AGE, SIZE, TOOK, PARTS, METRIC, TAGS, COLUMN_COUNT };

static const char *const heads[COLUMN_COUNT] = {"NAME",     "STEP",  "AGE",    "SIZE",
                                                "SAVED IN", "PARTS", "METRIC", "TAGS"};

/* Texts of one line. */
typedef struct row {
    as_buffer cells[COLUMN_COUNT]; /* NUL-terminated */
} row;

static int join_names(as_buffer *out, const as_names *names, as_error *e)
{
    int code = AS_OK;
    for (size_t i = 0; code == AS_OK && i < names->count; i++) {
        code = as_buffer_format(out, e, "%s%s", i > 0 ? "," : "", names->items[i]);
    }
    return code;
}

static int fill_row(row *r, const as_member *m, int64_t now, as_error *e)
{
    const as_record *record = m->has_record ? &m->record : NULL;
    as_buffer *c = r->cells;
    int code = as_buffer_format(&c[NAME], e, "%s", m->name);
    if (code == AS_OK && m->step >= 0) {
        code = as_buffer_format(&c[STEP], e, "%" PRId64, m->step);
    }
    if (code == AS_OK) {
        code = as_buffer_format(&c[AGE], e, "%s", as_human_age(now - m->time_ms).text);
    }
    if (code == AS_OK) {
        code = as_buffer_format(&c[SIZE], e, "%s", as_human_bytes(m->bytes).text);
    }
    if (code == AS_OK && record) {
        code = as_buffer_format(&c[TOOK], e, "%s", as_human_seconds(record->save_seconds).text);
    }
    code = code == AS_OK ? join_names(&c[PARTS], &m->parts, e) : code;
    if (code == AS_OK && record && record->metric) {
        code = as_buffer_format(&c[METRIC], e, "%s %.6g", record->metric, record->metric_value);
    }
    code = code == AS_OK ? join_names(&c[TAGS], &m->tags, e) : code;
    if (code == AS_OK && m->tags_unknown) {
        code = as_buffer_format(&c[TAGS], e, "?");
    }
    for (int i = 0; code == AS_OK && i < COLUMN_COUNT; i++) {
        code = as_buffer_string(&c[i]) ? AS_OK : as_fail_nomem(e);
    }
    return code;
}

/* `r` NULL: the heads. Nothing stands behind the last text. */
static void print_row(as_tool *tool, const row *r, const int *widths, enum as_colour colour)
{
    int last = 0;
    for (int c = 0; c < COLUMN_COUNT; c++) {
        last = widths[c] > 0 && (!r || r->cells[c].size > 0) ? c : last;
    }
    as_print(&tool->out, "  ");
    for (int c = 0; c <= last; c++) {
        const char *text = r ? r->cells[c].data : heads[c];
        bool right = c == STEP || c == SIZE || c == TOOK || c == AGE;
        int width = c == last && !right ? 0 : widths[c];
        if (widths[c] > 0) {
            as_print_in(&tool->out, colour, "%*s%s", right ? width : -width, text,
                        c == last ? "" : "  ");
        }
    }
    as_print(&tool->out, "\n");
}

static void print_rows(as_tool *tool, const row *rows, const as_members *all, const char *root)
{
    int widths[COLUMN_COUNT];
    for (int c = 0; c < COLUMN_COUNT; c++) {
        size_t width = 0;
        for (size_t i = 0; rows && i < all->count; i++) {
            width = rows[i].cells[c].size > width ? rows[i].cells[c].size : width;
        }
        /* A column that nobody fills is left out. */
        size_t head = strlen(heads[c]);
        widths[c] = width == 0 ? 0 : (int)(width > head ? width : head);
    }
    print_row(tool, NULL, widths, AS_DIM);
    for (size_t i = 0; i < all->count; i++) {
        const as_member *m = &all->items[i];
        bool good = m->state == AS_MEMBER_GOOD;
        print_row(tool, &rows[i], widths, good ? AS_PLAIN : AS_RED);
        if (!good) {
            as_print(&tool->out, "      damaged: %s\n", as_root_why(m, root));
        }
    }
}

/* Where ROOT/latest leads; the caller's. NULL: nowhere, or it cannot be told. */
static char *read_latest(const char *root)
{
    char *name = NULL;
    int fd;
    if (as_folder_open(root, &fd, NULL) == AS_OK) {
        (void)as_latest_get(fd, root, &name, NULL);
        (void)as_sys_table.close(fd);
    }
    return name;
}

static size_t count_damaged(const as_members *all)
{
    size_t count = 0;
    for (size_t i = 0; i < all->count; i++) {
        count += all->items[i].state != AS_MEMBER_GOOD;
    }
    return count;
}

static int print_text(as_tool *tool, const char *root, const as_members *all, int64_t now,
                      as_error *e)
{
    const as_member *newest = as_members_newest(all);
    int64_t bytes = 0;
    for (size_t i = 0; i < all->count; i++) {
        bytes += all->items[i].bytes;
    }
    as_print_in(&tool->out, AS_BOLD, "%s", root);
    if (all->count == 0) {
        as_print(&tool->out, ": a series without a checkpoint so far\n");
        return AS_OK;
    }
    as_print(&tool->out, ": %zu checkpoint%s, %s", all->count, all->count == 1 ? "" : "s",
             as_human_bytes(bytes).text);
    if (count_damaged(all) > 0) {
        as_print_in(&tool->out, AS_RED, ", %zu damaged", count_damaged(all));
    }
    if (newest) {
        as_print(&tool->out, "; newest good: %s, %s%s\n", newest->name,
                 as_human_age(now - newest->time_ms).text,
                 now < newest->time_ms - 1000 ? " of this clock" : " ago");
    } else {
        as_print(&tool->out, "; none is good\n");
    }
    row *rows = calloc(all->count, sizeof *rows);
    int code = rows ? AS_OK : as_fail_nomem(e);
    for (size_t i = 0; code == AS_OK && i < all->count; i++) {
        code = fill_row(&rows[i], &all->items[i], now, e);
    }
    if (code == AS_OK) {
        print_rows(tool, rows, all, root);
    }
    for (size_t i = 0; rows && i < all->count; i++) {
        for (int c = 0; c < COLUMN_COUNT; c++) {
            as_buffer_free(&rows[i].cells[c]);
        }
    }
    free(rows);
    return code;
}

static json_t *json_of_members(const as_members *all, const char *root, int64_t now)
{
    json_t *list = json_array();
    for (size_t i = 0; list && i < all->count; i++) {
        if (json_array_append_new(list, as_root_json(&all->items[i], root, now)) != 0) {
            json_decref(list);
            list = NULL;
        }
    }
    return list;
}

int as_ls_series(as_tool *tool, const char *root, const char *pattern, bool json, as_error *e)
{
    as_members all;
    int64_t now = as_stamp_now();
    int code = as_root_members(&all, tool, root, pattern, e);
    if (code != AS_OK) {
        return code;
    }
    const as_member *newest = as_members_newest(&all);
    char *latest = read_latest(root);
    if (newest && latest && strcmp(latest, newest->name) != 0) {
        as_say_warning(&tool->out,
                       "%s/" AS_LATEST_NAME " leads to \"%s\", not to the newest good checkpoint",
                       root, latest);
    }
    if (json) {
        tool->result = json_object();
        as_tool_set(tool, "path", as_json_text(root, strlen(root)));
        as_tool_set(tool, "checkpoints", json_of_members(&all, root, now));
        as_tool_set(tool, "damaged", json_integer((json_int_t)count_damaged(&all)));
        as_tool_set(tool, "newest",
                    newest ? as_json_text(newest->name, strlen(newest->name)) : json_null());
        as_tool_set(tool, "latest", latest ? as_json_text(latest, strlen(latest)) : json_null());
    } else {
        code = print_text(tool, root, &all, now, e);
    }
    tool->bad = count_damaged(&all) > 0;
    free(latest);
    as_members_free(&all);
    return code;
}
