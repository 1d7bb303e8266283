/* SPDX-License-Identifier: Apache-2.0
 * allshard best: the checkpoints of a series with the best metric.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/series_root.h"
#include "series/record.h"
#include "series/words.h"

static struct {
    bool json;
    bool max;
    bool min;
    const char *metric;
    const char *count;
    const char *pattern;
} options;

static const as_arg_option table[] = {
    {.name = "metric",
     .value = "NAME",
     .help = "must be given, such as loss",
     .text = &options.metric},
    {.name = "min", .help = "smaller is better (the default)", .flag = &options.min},
    {.name = "max", .help = "larger is better", .flag = &options.max},
    {.name = "count",
     .value = "K",
     .help = "so many, the best first; default 1",
     .text = &options.count},
    AS_ROOT_PATTERN_OPTION(&options.pattern),
    {.name = "json", .help = "print one JSON object", .flag = &options.json},
    {.name = NULL},
};

static const as_arg_command arguments = {
    .name = "best",
    .usage = "ROOT --metric NAME [--max|--min] [--count K] [--pattern P] [--json]",
    .summary = "Prints the paths of the good checkpoints of a series with the best values of a "
               "metric, the best\n"
               "first; of equal ones the newer is better, and NaN is no value. Exit status 1: no "
               "good\n"
               "checkpoint was saved with that metric.\n",
    .examples = "  allshard best runs/a --metric loss\n"
                "  allshard best runs/a --metric accuracy --max --count 3\n",
    .least = 1,
    .most = 1,
    .operands = "one ROOT",
    .options = table,
};

static int64_t most;

static int check(const as_arg_result *args, as_error *e)
{
    (void)args;
    if (!options.metric) {
        return as_fail(e, AS_INVALID, 0, "--metric NAME must be given, such as --metric loss");
    }
    if (options.min && options.max) {
        return as_fail(e, AS_INVALID, 0, "--min and --max exclude each other");
    }
    most = 1;
    int code = as_metric_check(options.metric, e);
    if (code == AS_OK && options.count) {
        code = as_args_number(options.count, "--count", 1, INT64_MAX, &most, e);
    }
    return code == AS_OK ? as_root_check_pattern(options.pattern, e) : code;
}

static bool counts(const as_member *m)
{
    return m->state == AS_MEMBER_GOOD && m->has_record && m->record.metric &&
           strcmp(m->record.metric, options.metric) == 0 && !isnan(m->record.metric_value) &&
           as_root_name_is_line(m);
}

/* Both point into one array, whose order is that of age. */
static int compare(const void *a, const void *b)
{
    const as_member *x = *(const as_member *const *)a;
    const as_member *y = *(const as_member *const *)b;
    double p = x->record.metric_value;
    double q = y->record.metric_value;
    if (p != q) {
        return (p < q) == options.max ? 1 : -1;
    }
    return x < y ? 1 : -1;
}

static int tell(as_tool *tool, const char *root, const as_member *const *best, size_t count,
                as_error *e)
{
    as_buffer path = AS_BUFFER_INIT;
    int64_t now = as_stamp_now();
    json_t *list = options.json ? json_array() : NULL;
    int code = AS_OK;
    for (size_t i = 0; code == AS_OK && i < count; i++) {
        code = as_root_path(root, best[i]->name, &path, e);
        if (code == AS_OK && options.json) {
            int failed = json_array_append_new(list, as_root_json(best[i], root, now));
            code = failed ? as_fail_nomem(e) : AS_OK;
        } else if (code == AS_OK) {
            as_print(&tool->out, "%s\n", path.data);
        }
    }
    if (options.json) {
        tool->result = json_object();
        as_tool_set(tool, "path", as_json_text(root, strlen(root)));
        as_tool_set(tool, "metric", as_json_text(options.metric, strlen(options.metric)));
        as_tool_set(tool, "best", list);
    }
    if (count == 0) {
        as_say_warning(&tool->out, "%s: there is no good checkpoint with the metric \"%s\"", root,
                       options.metric);
    }
    tool->bad = count == 0;
    as_buffer_free(&path);
    return code;
}

static int run(as_tool *tool, const as_arg_result *args, as_error *e)
{
    if (tool->world.rank == 0) {
        as_members all;
        const char *root = args->operands[0];
        int code = as_root_members(&all, tool, root, options.pattern, e);
        const as_member **best = code == AS_OK ? calloc(all.count + 1, sizeof *best) : NULL;
        size_t count = 0;
        for (size_t i = 0; best && i < all.count; i++) {
            if (counts(&all.items[i])) {
                best[count++] = &all.items[i];
            }
        }
        if (best) {
            qsort(best, count, sizeof *best, compare);
            (void)tell(tool, root, best, (int64_t)count > most ? (size_t)most : count, e);
        } else if (code == AS_OK) {
            (void)as_fail_nomem(e);
        }
        free(best);
        as_members_free(&all);
    }
    return as_world_agree(&tool->world, e);
}

const as_command as_cmd_best = {
    .args = &arguments, .json = &options.json, .check = check, .run = run};
