/* SPDX-License-Identifier: Apache-2.0
 * allshard recover: what a killed save left is finished or cleared away.
 */
#include <string.h>

#include "cli/command.h"
#include "cli/recover_series.h"
#include "commit/recover.h"

static struct {
    bool dry_run;
    bool json;
} options;

static const as_arg_option table[] = {
    {.name = "dry-run", .help = "only say what would be done", .flag = &options.dry_run},
    {.name = "json", .help = "print one JSON object", .flag = &options.json},
    {.name = NULL},
};

static const as_arg_command arguments = {
    .name = "recover",
    .usage = "DIR [--dry-run] [--json]",
    .summary = "Finishes or clears away what a killed save left in a checkpoint folder. A save "
               "that counted\n"
               "(its journal is there) is carried out to the end; one that did not is removed, and "
               "the old\n"
               "checkpoint stays as it was. One process is enough, whatever number of ranks saved. "
               "It is no\n"
               "error if there is nothing to do. Another save does the same by itself. DIR may be "
               "the root of a\n"
               "series, too: then its checkpoints are looked at, and the damaged ones are told.\n",
    .examples = "  allshard recover checkpoints/step-1000\n"
                "  allshard recover checkpoints/step-1000 --dry-run\n"
                "  allshard recover run1/\n",
    .least = 1,
    .most = 1,
    .operands = "one DIR",
    .options = table,
};

static json_t *json_of_names(const as_names *names)
{
    json_t *list = json_array();
    for (size_t i = 0; i < names->count && list; i++) {
        const char *name = names->items[i];
        if (json_array_append_new(list, as_json_text(name, strlen(name))) != 0) {
            json_decref(list);
            list = NULL;
        }
    }
    return list;
}

/* The dead save's process; null if no lock was left, or none that can be read. */
static json_t *json_of_holder(const as_recover_report *r)
{
    if (!r->had_owner || r->owner.pid == 0) {
        return json_null();
    }
    json_t *holder = json_object();
    json_t *host = as_json_text(r->owner.host, strlen(r->owner.host));
    json_t *since = as_json_text(r->owner.created, strlen(r->owner.created));
    if (!holder || json_object_set_new(holder, "host", host) != 0 ||
        json_object_set_new(holder, "pid", json_integer((json_int_t)r->owner.pid)) != 0 ||
        json_object_set_new(holder, "since", since) != 0) {
        json_decref(holder);
        return NULL;
    }
    return holder;
}

static void make_json(as_tool *tool, const char *path, const as_recover_report *r,
                      const as_members *series)
{
    static const char *const outcomes[] = {
        [AS_RECOVER_NOTHING] = "nothing",
        [AS_RECOVER_CLEARED] = "cleared",
        [AS_RECOVER_FINISHED] = "finished",
    };
    tool->result = json_object();
    as_tool_set(tool, "path", as_json_text(path, strlen(path)));
    as_tool_set(tool, "outcome", json_string(outcomes[r->outcome]));
    as_tool_set(tool, "complete",
                r->outcome == AS_RECOVER_CLEARED && (r->had_old || r->had_staging)
                    ? json_boolean(r->had_old)
                    : json_null());
    as_tool_set(tool, "dry_run", json_boolean(options.dry_run));
    as_tool_set(tool, "holder", json_of_holder(r));
    as_tool_set(tool, "incoming", json_of_names(&r->incoming));
    as_tool_set(tool, "outgoing", json_of_names(&r->outgoing));
    as_tool_set(tool, "cleared", json_of_names(&r->cleared));
    as_tool_set(tool, "cleared_bytes", json_integer((json_int_t)r->cleared_bytes));
    as_tool_set(tool, "freed", json_of_names(&r->freed));
    as_tool_set(tool, "freed_bytes", json_integer((json_int_t)r->freed_bytes));
    as_tool_set(tool, "others", json_of_names(&r->others));
    as_tool_set(tool, "series", series ? as_recover_series_json(series) : json_null());
}

static void print_names(const as_output *o, const char *what, const as_names *names)
{
    for (size_t i = 0; i < names->count; i++) {
        as_print(o, "  %s %s\n", what, names->items[i]);
    }
}

/* Whose leftovers they are. */
static void print_holder(const as_output *o, const as_recover_report *r)
{
    if (r->had_owner && r->owner.pid != 0) {
        as_print(o, "  It was process %lld on host %s, at work since %s, and is dead.\n",
                 (long long)r->owner.pid, r->owner.host, r->owner.created);
    } else if (r->had_owner) {
        as_print(o, "  Its lock cannot be read, and nobody has refreshed it.\n");
    }
}

static void print_cleared(const as_output *o, const char *path, const as_recover_report *r)
{
    const char *done = options.dry_run ? "would be" : "were";
    if (r->had_old) {
        as_print(o,
                 "%s: the checkpoint is complete. The save that wrote it had been cut off while it "
                 "removed old files;\n%zu of them (%lld bytes) %s removed.\n",
                 path, r->freed.count, (long long)r->freed_bytes, done);
    } else if (r->had_staging) {
        as_print(o,
                 "%s: a save had been cut off before it counted. Its leftovers (%zu staged files, "
                 "%lld bytes)\n%s removed; the checkpoint is as it was before that save.\n",
                 path, r->cleared.count, (long long)r->cleared_bytes, done);
    } else {
        as_print(o,
                 "%s: a save had been cut off in its first or last moments; no data of it was "
                 "left. Its leftovers\n%s removed; the checkpoint is whole, the one before that "
                 "save or the new one.\n",
                 path, done);
    }
}

static void print_text(const as_output *o, const char *path, const as_recover_report *r)
{
    switch (r->outcome) {
    case AS_RECOVER_NOTHING:
        as_print(o, "%s: nothing to recover.\n", path);
        break;
    case AS_RECOVER_CLEARED:
        print_cleared(o, path, r);
        break;
    case AS_RECOVER_FINISHED:
        if (r->incoming.count == 0) {
            as_print(o, "%s: a prune had been cut off after it counted. It %s finished.\n", path,
                     options.dry_run ? "would be" : "was");
            break;
        }
        as_print(o,
                 "%s: a save had been cut off after it counted. It %s finished; the folder %s its "
                 "checkpoint.\n",
                 path, options.dry_run ? "would be" : "was",
                 options.dry_run ? "would hold" : "holds");
        break;
    }
    print_holder(o, r);
    print_names(o, "new", &r->incoming);
    print_names(o, "old, gone", &r->outgoing);
    print_names(o, "staged, removed", &r->cleared);
    if (r->outcome == AS_RECOVER_CLEARED) {
        print_names(o, "old, removed", &r->freed);
    }
    print_names(o, "also removed from .allshard/", &r->others);
    if (options.dry_run && r->outcome != AS_RECOVER_NOTHING) {
        as_print(o, "Nothing was changed; without --dry-run it is done.\n");
    }
}

static int run(as_tool *tool, const as_arg_result *args, as_error *e)
{
    const char *path = args->operands[0];
    if (tool->world.rank == 0) {
        as_recover_report report = AS_RECOVER_REPORT_INIT;
        as_log log = as_output_as_log(&tool->out);
        as_members members = AS_MEMBERS_INIT;
        bool is_series = false;
        int code = as_recover(path, options.dry_run, 0, &report, &log, e);
        if (code == AS_OK) {
            code = as_recover_series(path, &report, options.dry_run, &members, &is_series, &log, e);
        }
        if (code == AS_OK && options.json) {
            make_json(tool, path, &report, is_series ? &members : NULL);
        } else if (code == AS_OK) {
            print_text(&tool->out, path, &report);
            if (is_series) {
                as_recover_series_print(&tool->out, &members);
            }
        }
        as_members_free(&members);
        as_recover_report_free(&report);
    }
    return as_world_agree(&tool->world, e);
}

const as_command as_cmd_recover = {.args = &arguments, .json = &options.json, .run = run};
