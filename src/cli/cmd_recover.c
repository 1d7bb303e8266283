/* SPDX-License-Identifier: Apache-2.0
 * allshard recover: what a killed save left is finished or cleared away.
 */
#include <string.h>

#include "cli/command.h"
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
               "error if there is nothing to do. Another save does the same by itself.\n",
    .examples = "  allshard recover checkpoints/step-1000\n"
                "  allshard recover checkpoints/step-1000 --dry-run\n",
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

static void make_json(as_tool *tool, const char *path, const as_recover_report *r)
{
    static const char *const outcomes[] = {
        [AS_RECOVER_NOTHING] = "nothing",
        [AS_RECOVER_CLEARED] = "cleared",
        [AS_RECOVER_FINISHED] = "finished",
    };
    tool->result = json_object();
    as_tool_set(tool, "path", as_json_text(path, strlen(path)));
    as_tool_set(tool, "outcome", json_string(outcomes[r->outcome]));
    as_tool_set(tool, "dry_run", json_boolean(options.dry_run));
    as_tool_set(tool, "incoming", json_of_names(&r->incoming));
    as_tool_set(tool, "outgoing", json_of_names(&r->outgoing));
    as_tool_set(tool, "cleared", json_of_names(&r->cleared));
}

static void print_names(const as_output *o, const char *what, const as_names *names)
{
    for (size_t i = 0; i < names->count; i++) {
        as_print(o, "  %s %s\n", what, names->items[i]);
    }
}

static void print_text(const as_output *o, const char *path, const as_recover_report *r)
{
    bool dry = options.dry_run;
    switch (r->outcome) {
    case AS_RECOVER_NOTHING:
        as_print(o, "%s: nothing to recover.\n", path);
        break;
    case AS_RECOVER_CLEARED:
        as_print(
            o,
            "%s: a save that was killed before it counted %s cleared away; the checkpoint is as "
            "it was before.\n",
            path, dry ? "would be" : "was");
        print_names(o, "removed", &r->cleared);
        break;
    case AS_RECOVER_FINISHED:
        as_print(o, "%s: a save that was killed after it counted %s finished.\n", path,
                 dry ? "would be" : "was");
        print_names(o, "new", &r->incoming);
        print_names(o, "old, gone", &r->outgoing);
        break;
    }
}

static int run(as_tool *tool, const as_arg_result *args, as_error *e)
{
    const char *path = args->operands[0];
    if (tool->world.rank == 0) {
        as_recover_report report = AS_RECOVER_REPORT_INIT;
        as_log log = as_output_as_log(&tool->out);
        if (as_recover(path, options.dry_run, 0, &report, &log, e) == AS_OK) {
            if (options.json) {
                make_json(tool, path, &report);
            } else {
                print_text(&tool->out, path, &report);
            }
        }
        as_recover_report_free(&report);
    }
    return as_world_agree(&tool->world, e);
}

const as_command as_cmd_recover = {.args = &arguments, .json = &options.json, .run = run};
