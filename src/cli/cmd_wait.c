/* SPDX-License-Identifier: Apache-2.0
 * allshard wait: until a series has come to a step.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/sys.h"
#include "cli/series_root.h"
#include "commit/folder.h"
#include "series/words.h"

static struct {
    bool json;
    const char *step;
    const char *timeout;
    const char *pattern;
} options;

static struct {
    int64_t step;
    double timeout; /* seconds; infinite: for ever */
} wanted;

static const as_arg_option table[] = {
    {.name = "step", .value = "N", .help = "the step; must be given", .text = &options.step},
    {.name = "timeout",
     .value = "S",
     .help = "give up after so many seconds, with exit status 1;\n"
             "0 only looks; default: never",
     .text = &options.timeout},
    AS_ROOT_PATTERN_OPTION(&options.pattern),
    {.name = "json", .help = "print one JSON object", .flag = &options.json},
    {.name = NULL},
};

static const as_arg_command arguments = {
    .name = "wait",
    .usage = "ROOT --step N [--timeout S] [--pattern P] [--json]",
    .summary = "Waits until a good checkpoint of step N or a later one is there, durably, and "
               "prints the path\n"
               "of the newest. ROOT need not be there yet. It looks every second or two.\n",
    .examples = "  allshard wait runs/a --step 1000 && evaluate runs/a/checkpoint-1000\n"
                "  allshard wait runs/a --step 1000 --timeout 600\n",
    .least = 1,
    .most = 1,
    .operands = "one ROOT",
    .options = table,
};

static int check(const as_arg_result *args, as_error *e)
{
    (void)args;
    if (!options.step) {
        return as_fail(e, AS_INVALID, 0, "--step N must be given: the step to wait for");
    }
    wanted.timeout = (double)INFINITY;
    if (options.timeout) {
        char *end;
        wanted.timeout = strtod(options.timeout, &end);
        if (end == options.timeout || *end || !(wanted.timeout >= 0) || !isfinite(wanted.timeout)) {
            return as_fail(e, AS_INVALID, 0,
                           "--timeout takes seconds, 0 or more, such as 600 or 0.5, not \"%s\"",
                           options.timeout);
        }
    }
    int code = as_args_number(options.step, "--step", 0, INT64_MAX, &wanted.step, e);
    return code == AS_OK ? as_root_check_pattern(options.pattern, e) : code;
}

/* Does the name tell an earlier step? Then its folder need not be looked into. */
static bool is_earlier(const as_folder_pattern *usual, const char *name)
{
    int64_t step;
    return as_folder_pattern_read(usual, name, &step, NULL) && step >= 0 && step < wanted.step;
}

/* *found: there is one, the newest of those is *out. */
static int look(const char *root, const as_folder_pattern *pattern, const as_folder_pattern *usual,
                as_member *out, bool *found, as_error *e)
{
    as_names names = AS_NAMES_INIT;
    as_error why = AS_ERROR_INIT;
    int fd = -1;
    *found = false;
    int code = as_folder_open(root, &fd, &why);
    if (code == AS_NOT_FOUND) {
        as_error_clear(&why);
        return AS_OK;
    }
    code = code == AS_OK ? as_folder_list(fd, root, &names, &why) : code;
    for (size_t i = 0; code == AS_OK && i < names.count; i++) {
        as_member m;
        bool is_one = false;
        if (!is_earlier(usual, names.items[i])) {
            code = as_member_read(&m, fd, root, names.items[i], pattern, &is_one, &why);
        }
        if (code != AS_OK || !is_one) {
            continue;
        }
        if (m.state == AS_MEMBER_GOOD && m.step >= wanted.step && as_root_name_is_line(&m) &&
            (!*found || m.step > out->step || (m.step == out->step && m.time_ms > out->time_ms))) {
            if (*found) {
                as_member_free(out);
            }
            *out = m;
            *found = true;
        } else {
            as_member_free(&m);
        }
    }
    if (fd >= 0) {
        (void)as_sys_table.close(fd);
    }
    as_names_free(&names);
    if (code != AS_OK && *found) {
        as_member_free(out);
        *found = false;
    }
    return as_error_pass(e, &why);
}

static void pause_for(double seconds)
{
    struct timespec left = {.tv_sec = (time_t)seconds,
                            .tv_nsec = (long)((seconds - floor(seconds)) * 1e9)};
    while (nanosleep(&left, &left) < 0 && errno == EINTR) {
    }
}

static int wait_for_it(const char *root, const as_folder_pattern *pattern, as_member *out,
                       bool *found, as_error *e)
{
    as_folder_pattern *usual = NULL;
    double begin = as_seconds();
    double pause = 0.1;
    int code = pattern ? AS_OK : as_folder_pattern_make(&usual, NULL, e);
    *found = false;
    while (code == AS_OK) {
        code = look(root, pattern, pattern ? pattern : usual, out, found, e);
        double left = begin + wanted.timeout - as_seconds();
        if (code != AS_OK || *found || left <= 0) {
            break;
        }
        pause_for(pause < left ? pause : left);
        pause = pause < 1 ? pause * 1.5 : 1.5;
    }
    as_folder_pattern_free(usual);
    return code;
}

static int tell(as_tool *tool, const char *root, const as_member *m, as_error *e)
{
    as_buffer path = AS_BUFFER_INIT;
    int code = m ? as_root_path(root, m->name, &path, e) : AS_OK;
    tool->bad = !m;
    if (options.json) {
        tool->result = m ? as_root_json(m, root, as_stamp_now()) : json_object();
        if (!m) {
            as_tool_set(tool, "path", json_null());
        }
    } else if (m && code == AS_OK) {
        as_print(&tool->out, "%s\n", path.data);
    }
    if (!m && wanted.timeout == 0) {
        as_say_warning(&tool->out, "%s: there is no good checkpoint of step %lld or a later one",
                       root, (long long)wanted.step);
    } else if (!m) {
        as_say_warning(&tool->out,
                       "%s: after %s there is no good checkpoint of step %lld or a later one", root,
                       as_human_seconds(wanted.timeout).text, (long long)wanted.step);
    }
    as_buffer_free(&path);
    return code;
}

static int run(as_tool *tool, const as_arg_result *args, as_error *e)
{
    if (tool->world.rank == 0) {
        const char *root = args->operands[0];
        as_folder_pattern *pattern = NULL;
        as_member m;
        bool found = false;
        int code = options.pattern ? as_folder_pattern_make(&pattern, options.pattern, e) : AS_OK;
        code = code == AS_OK ? wait_for_it(root, pattern, &m, &found, e) : code;
        if (code == AS_OK) {
            (void)tell(tool, root, found ? &m : NULL, e);
        }
        if (found) {
            as_member_free(&m);
        }
        as_folder_pattern_free(pattern);
    }
    return as_world_agree(&tool->world, e);
}

const as_command as_cmd_wait = {
    .args = &arguments, .json = &options.json, .check = check, .run = run};
