/* SPDX-License-Identifier: Apache-2.0
 * allshard tag: marks a checkpoint of a series, so that it is kept and found again.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/sys.h"
#include "cli/series_root.h"
#include "commit/folder.h"
#include "series/history.h"
#include "series/tags.h"

static struct {
    bool json;
    bool remove;
    const char *pattern;
} options;

static const as_arg_option table[] = {
    {.name = "remove", .help = "take the tags away", .flag = &options.remove},
    {.name = "pattern",
     .value = "P",
     .help = "look only at folders that are named so, such as\n"
             "'checkpoint-{step}'; default: at all checkpoints in ROOT",
     .text = &options.pattern},
    {.name = "json", .help = "print one JSON object", .flag = &options.json},
    {.name = NULL},
};

enum { MOST_OPERANDS = 2 + AS_MOST_TAGS };

static const as_arg_command arguments = {
    .name = "tag",
    .usage = "ROOT STEP|NAME TAG... [--remove] [--pattern P] [--json]",
    .summary =
        "Tags a checkpoint of a series, which is given by its step or by its folder's name. A "
        "tagged\n"
        "one is kept, whatever the rules of retention say. A tag has no spaces, '/' or ','. What "
        "changes\n"
        "is written into the history. A tag that is there already, or with --remove is not there, "
        "is no\n"
        "error. It may be done while a run saves.\n",
    .examples = "  allshard tag runs/a 1000 best\n"
                "  allshard tag runs/a checkpoint-1000 best --remove\n",
    .least = 3,
    .most = MOST_OPERANDS,
    .operands = "ROOT, STEP or NAME, and one TAG or several",
    .options = table,
};

static int check(const as_arg_result *args, as_error *e)
{
    int code = as_root_check_pattern(options.pattern, e);
    for (int i = 2; code == AS_OK && i < args->operand_count; i++) {
        code = as_tag_check(args->operands[i], e);
    }
    return code;
}

/* The one that is meant. A name goes before a step. */
static int find(const as_members *all, const char *root, const char *word, const as_member **out,
                as_error *e)
{
    int64_t step = -1;
    as_error why = AS_ERROR_INIT;
    *out = as_members_named(all, word);
    bool is_number = !*out && as_args_number(word, "STEP", 0, INT64_MAX, &step, &why) == AS_OK;
    as_error_clear(&why);
    size_t same = 0;
    for (size_t i = 0; is_number && i < all->count; i++) {
        same += all->items[i].step == step;
    }
    if (same > 1) {
        return as_fail(e, AS_INVALID, 0,
                       "%s: %zu checkpoints have the step %lld; give the name of the one that is "
                       "meant",
                       root, same, (long long)step);
    }
    *out = is_number ? as_members_of_step(all, step) : *out;
    if (!*out) {
        return as_fail(e, AS_NOT_FOUND, 0,
                       "%s: there is no checkpoint %s%s; `allshard ls` lists "
                       "them",
                       root, is_number ? "of step " : "named ", word);
    }
    return AS_OK;
}

/* Is the open folder still the one of that name? A prune moves checkpoints away, looks for tags
 * once more, and moves back those that have got one. */
static bool is_in_place(int root, const char *name, int folder)
{
    enum { LOOKS = 20 };
    const struct timespec pause = {.tv_nsec = 100000000};
    for (int i = 0; i < LOOKS; i++) {
        struct stat here;
        struct stat there;
        if (as_sys_table.fstat(folder, &here) == 0 &&
            as_sys_table.fstatat(root, name, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
            here.st_dev == there.st_dev && here.st_ino == there.st_ino) {
            return true;
        }
        (void)nanosleep(&pause, NULL);
    }
    return false;
}

static int change(const char *root, const as_member *m, const as_names *tags, as_names *before,
                  as_names *after, as_error *e)
{
    as_buffer path = AS_BUFFER_INIT;
    int fd = -1;
    int folder = -1;
    int code = as_root_path(root, m->name, &path, e);
    code = code == AS_OK ? as_folder_open(root, &fd, e) : code;
    code = code == AS_OK ? as_folder_open_at(fd, m->name, path.data, &folder, e) : code;
    if (code == AS_OK) {
        code = as_tags_change(folder, path.data, options.remove ? NULL : tags,
                              options.remove ? tags : NULL, before, after, e);
    }
    if (code == AS_OK && !is_in_place(fd, m->name, folder)) {
        code = as_fail(e, AS_NOT_FOUND, 0, "%s: this checkpoint was removed, or replaced, just now",
                       path.data);
    }
    if (folder >= 0) {
        (void)as_sys_table.close(folder);
    }
    if (fd >= 0) {
        (void)as_sys_table.close(fd);
    }
    as_buffer_free(&path);
    return code;
}

/* Those of `a` that are not in `b`; both sorted. */
static void tell_differences(as_tool *tool, const char *root, const as_member *m, const as_names *a,
                             const as_names *b, int kind)
{
    for (size_t i = 0; i < a->count; i++) {
        if (!as_names_find(b, a->items[i])) {
            as_root_tell_history(tool, root, m, kind, a->items[i]);
        }
    }
}

static json_t *json_of_names(const as_names *names)
{
    json_t *list = json_array();
    for (size_t i = 0; list && i < names->count; i++) {
        if (json_array_append_new(list, json_string(names->items[i])) != 0) {
            json_decref(list);
            list = NULL;
        }
    }
    return list;
}

static void tell(as_tool *tool, const char *root, const as_member *m, const as_names *before,
                 const as_names *after)
{
    tell_differences(tool, root, m, after, before, AS_EVENT_TAGGED);
    tell_differences(tool, root, m, before, after, AS_EVENT_UNTAGGED);
    if (options.json) {
        tool->result = json_object();
        as_tool_set(tool, "path", as_json_text(root, strlen(root)));
        as_tool_set(tool, "name", as_json_text(m->name, strlen(m->name)));
        as_tool_set(tool, "step", m->step < 0 ? json_null() : json_integer(m->step));
        as_tool_set(tool, "before", json_of_names(before));
        as_tool_set(tool, "tags", json_of_names(after));
        return;
    }
    as_print(&tool->out, "%s:%s", m->name, after->count == 0 ? " no tags" : "");
    for (size_t i = 0; i < after->count; i++) {
        as_print(&tool->out, " %s", after->items[i]);
    }
    as_print(&tool->out, "\n");
}

static int run(as_tool *tool, const as_arg_result *args, as_error *e)
{
    if (tool->world.rank == 0) {
        as_members all;
        as_names tags = AS_NAMES_INIT;
        as_names before = AS_NAMES_INIT;
        as_names after = AS_NAMES_INIT;
        const as_member *m = NULL;
        const char *root = args->operands[0];
        int code = as_root_members(&all, tool, root, options.pattern, e);
        for (int i = 2; code == AS_OK && i < args->operand_count; i++) {
            code = as_names_add(&tags, args->operands[i], e);
        }
        code = code == AS_OK ? find(&all, root, args->operands[1], &m, e) : code;
        if (code == AS_OK && m && change(root, m, &tags, &before, &after, e) == AS_OK) {
            tell(tool, root, m, &before, &after);
        }
        as_names_free(&tags);
        as_names_free(&before);
        as_names_free(&after);
        as_members_free(&all);
    }
    return as_world_agree(&tool->world, e);
}

const as_command as_cmd_tag = {
    .args = &arguments, .json = &options.json, .check = check, .run = run};
