/* SPDX-License-Identifier: Apache-2.0
 * allshard log: what happened in a series.
 */
#include <inttypes.h>
#include <string.h>

#include "base/sys.h"
#include "cli/series_root.h"
#include "commit/folder.h"
#include "series/history.h"
#include "series/words.h"

static struct {
    bool json;
    const char *note;
    const char *last;
} options;

static const as_arg_option table[] = {
    {.name = "note",
     .value = "TEXT",
     .help = "add this line to the history",
     .text = &options.note},
    {.name = "last", .value = "N", .help = "only the last N events", .text = &options.last},
    {.name = "json", .help = "print one JSON object", .flag = &options.json},
    {.name = NULL},
};

static const as_arg_command arguments = {
    .name = "log",
    .usage = "ROOT [--note TEXT] [--last N] [--json]",
    .summary =
        "Shows the history of a series, the oldest event first: saves, failures, loads, "
        "removals, tags,\n"
        "and notes, also of those checkpoints that are gone. With --note it adds a note, and "
        "shows nothing.\n",
    .examples = "  allshard log runs/a\n"
                "  allshard log runs/a --note 'halved the learning rate'\n"
                "  allshard log runs/a --json | jq '.events[] | select(.event == \"failed\")'\n",
    .least = 1,
    .most = 1,
    .operands = "one ROOT",
    .options = table,
};

enum { LONGEST_NOTE = 64 << 10 };

static int64_t most;

static int check(const as_arg_result *args, as_error *e)
{
    (void)args;
    most = INT64_MAX;
    if (options.note && (!*options.note || strlen(options.note) > LONGEST_NOTE)) {
        return as_fail(e, AS_INVALID, 0, "--note takes a text of 1 to 65,536 bytes");
    }
    return options.last ? as_args_number(options.last, "--last", 0, INT64_MAX, &most, e) : AS_OK;
}

static json_t *json_of(const as_event *event)
{
    char stamp[AS_STAMP_SIZE];
    as_stamp_write(event->time_ms, stamp);
    const char *const texts[] = {event->name, event->text};
    json_t *values[2];
    for (int i = 0; i < 2; i++) {
        values[i] = texts[i] ? as_json_text(texts[i], strlen(texts[i])) : json_null();
    }
    return json_pack("{s:s,s:o,s:o,s:o,s:o}", "time", stamp, "event",
                     as_json_text(event->kind_name, strlen(event->kind_name)), "name", values[0],
                     "step", event->step < 0 ? json_null() : json_integer(event->step), "text",
                     values[1]);
}

static void make_json(as_tool *tool, const char *root, const as_history *h, size_t first)
{
    json_t *list = json_array();
    for (size_t i = first; list && i < h->count; i++) {
        if (json_array_append_new(list, json_of(&h->items[i])) != 0) {
            json_decref(list);
            list = NULL;
        }
    }
    tool->result = json_object();
    as_tool_set(tool, "path", as_json_text(root, strlen(root)));
    as_tool_set(tool, "events", list);
    as_tool_set(tool, "damaged_lines", json_integer((json_int_t)h->damaged));
}

/* "2026-01-31 12:00:00  saved     checkpoint-500  step 500  a note" */
static void print_event(const as_output *o, const as_event *event)
{
    char stamp[AS_STAMP_SIZE];
    as_stamp_write(event->time_ms, stamp);
    bool bad = event->kind == AS_EVENT_FAILED;
    as_print_in(o, AS_DIM, "%.10s %.8s", stamp, stamp + 11);
    as_print_in(o, bad ? AS_RED : AS_BOLD, "  %-8s", event->kind_name);
    if (event->name) {
        as_print(o, "  %s", event->name);
    }
    if (event->step >= 0) {
        as_print(o, "  step %" PRId64, event->step);
    }
    if (event->text) {
        as_print(o, "  %s", event->text);
    }
    as_print(o, "\n");
}

static int show(as_tool *tool, const char *root, int fd, as_error *e)
{
    as_history h;
    int code = as_history_read(fd, root, &h, e);
    if (code != AS_OK) {
        return code;
    }
    size_t first = (int64_t)h.count > most ? h.count - (size_t)most : 0;
    if (h.damaged > 0) {
        as_say_warning(&tool->out, "%s/" AS_HISTORY_NAME ": %lld line%s cannot be read", root,
                       (long long)h.damaged, h.damaged == 1 ? "" : "s");
    }
    if (options.json) {
        make_json(tool, root, &h, first);
    } else if (h.count == 0) {
        as_print(&tool->out, "%s: nothing has been written into the history\n", root);
    } else {
        for (size_t i = first; i < h.count; i++) {
            print_event(&tool->out, &h.items[i]);
        }
    }
    as_history_free(&h);
    return AS_OK;
}

static int add_note(as_tool *tool, const char *root, int fd, as_error *e)
{
    const as_event event = {.kind = AS_EVENT_NOTE, .step = -1, .text = options.note};
    int code = as_history_append(fd, root, &event, e);
    if (code == AS_OK) {
        as_print(&tool->out, "%s: noted\n", root);
        tool->result = options.json ? json_object() : NULL;
        as_tool_set(tool, "path", as_json_text(root, strlen(root)));
        as_tool_set(tool, "note", as_json_text(options.note, strlen(options.note)));
    }
    return code;
}

static int run(as_tool *tool, const as_arg_result *args, as_error *e)
{
    if (tool->world.rank == 0) {
        const char *root = args->operands[0];
        int fd = -1;
        int code = as_root_expect(root, NULL, e);
        code = code == AS_OK ? as_folder_open(root, &fd, e) : code;
        if (code == AS_OK) {
            (void)(options.note ? add_note(tool, root, fd, e) : show(tool, root, fd, e));
        }
        if (fd >= 0) {
            (void)as_sys_table.close(fd);
        }
    }
    return as_world_agree(&tool->world, e);
}

const as_command as_cmd_log = {
    .args = &arguments, .json = &options.json, .check = check, .run = run};
