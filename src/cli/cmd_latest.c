/* SPDX-License-Identifier: Apache-2.0
 * allshard latest: the newest good checkpoint of a series, for scripts.
 */
#include <string.h>

#include "cli/series_root.h"
#include "series/words.h"

static struct {
    bool json;
    const char *pattern;
} options;

static const as_arg_option table[] = {
    AS_ROOT_PATTERN_OPTION(&options.pattern),
    {.name = "json", .help = "print one JSON object", .flag = &options.json},
    {.name = NULL},
};

static const as_arg_command arguments = {
    .name = "latest",
    .usage = "ROOT [--pattern P] [--json]",
    .summary =
        "Prints the path of the newest good checkpoint of a series: the one with the highest "
        "step.\n"
        "Damaged ones that are newer are passed over, each with a warning. Names, sizes, manifest, "
        "index\n"
        "and headers are looked at, weights are not (see `allshard verify`). Exit status 1: there "
        "is no\n"
        "checkpoint (an empty ROOT, or none at all, as before the first save); 3: there are some, "
        "and none\n"
        "is good, or ROOT cannot be read.\n",
    .examples = "  allshard latest runs/a\n"
                "  if path=$(allshard latest runs/a); then resume \"$path\"; fi\n",
    .least = 1,
    .most = 1,
    .operands = "one ROOT",
    .options = table,
};

static int check(const as_arg_result *args, as_error *e)
{
    (void)args;
    return as_root_check_pattern(options.pattern, e);
}

/* A run that begins anew where all checkpoints are damaged would train over what can be mended. */
static int tell_none(as_tool *tool, const char *root, const as_members *all, bool is_there,
                     as_error *e)
{
    tool->bad = all->count == 0;
    tool->failed = all->count > 0;
    if (all->count > 0) {
        return as_fail(e, AS_CORRUPT, 0,
                       "%s: there is no good checkpoint: none of %zu is; `allshard verify` tells "
                       "more of each",
                       root, all->count);
    }
    as_say_warning(&tool->out, "%s: there is no good checkpoint: there is %s%s", root,
                   is_there ? "none at all" : "no such folder",
                   is_there && options.pattern ? " that is named so" : "");
    return AS_OK;
}

/* Warns of newer ones that are damaged; NULL: none is good. */
static const as_member *pick(as_tool *tool, const char *root, const as_members *all, json_t *passed)
{
    for (size_t i = all->count; i-- > 0;) {
        const as_member *m = &all->items[i];
        const char *why = as_root_why(m, root);
        if (m->state == AS_MEMBER_GOOD && as_root_name_is_line(m)) {
            return m;
        }
        why = why ? why : "its name has control characters, or is not UTF-8";
        as_say_warning(&tool->out, "%s/%s is passed over: %s", root, m->name, why);
        (void)json_array_append_new(passed, json_pack("{s:o,s:o}", "name",
                                                      as_json_text(m->name, strlen(m->name)), "why",
                                                      as_json_text(why, strlen(why))));
    }
    return NULL;
}

static int tell(as_tool *tool, const char *root, const as_members *all, bool is_there, as_error *e)
{
    as_buffer path = AS_BUFFER_INIT;
    json_t *passed = json_array();
    const as_member *m = pick(tool, root, all, passed);
    int code = m ? as_root_path(root, m->name, &path, e) : AS_OK;
    if (options.json) {
        tool->result = m ? as_root_json(m, root, as_stamp_now()) : json_object();
        if (!m) {
            as_tool_set(tool, "path", json_null());
        }
        as_tool_set(tool, "passed_over", passed);
        passed = NULL;
    } else if (m && code == AS_OK) {
        as_print(&tool->out, "%s\n", path.data);
    }
    if (!m) {
        code = tell_none(tool, root, all, is_there, e);
    }
    json_decref(passed);
    as_buffer_free(&path);
    return code;
}

static int run(as_tool *tool, const as_arg_result *args, as_error *e)
{
    if (tool->world.rank == 0) {
        as_members all;
        as_error why = AS_ERROR_INIT;
        const char *root = args->operands[0];
        int code = as_root_members(&all, tool, root, options.pattern, &why);
        bool is_there = code != AS_NOT_FOUND;
        if (!is_there) { /* as before the first save */
            as_error_clear(&why);
            code = AS_OK;
        }
        if (code == AS_OK) {
            (void)tell(tool, root, &all, is_there, &why);
        }
        as_members_free(&all);
        (void)as_error_pass(e, &why);
    }
    return as_world_agree(&tool->world, e);
}

const as_command as_cmd_latest = {
    .args = &arguments, .json = &options.json, .check = check, .run = run};
