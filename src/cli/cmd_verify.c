/* SPDX-License-Identifier: Apache-2.0
 * allshard verify: is a checkpoint good?
 */
#include <string.h>

#include "cli/command.h"
#include "cli/verify.h"
#include "format/pattern.h"

static struct {
    bool json;
    const char *pattern;
} options;

static const as_arg_option table[] = {
    {.name = "pattern",
     .value = "P",
     .help = "which checkpoint, if the folder holds several,\n"
             "such as 'optimizer{suffix}.safetensors'",
     .text = &options.pattern},
    {.name = "json", .help = "print one JSON object", .flag = &options.json},
    {.name = NULL},
};

static const as_arg_command arguments = {
    .name = "verify",
    .usage = "PATH [--pattern P] [--json]",
    .summary = "Checks a checkpoint folder or file: every rule of the format, the index against "
               "the headers,\n"
               "sizes, stale files and what a killed save left. Prints one line for each fault, "
               "and warnings\n"
               "for what loads, but may surprise. The values of the tensors are not read.\n",
    .examples = "  allshard verify llama-3-8b/\n"
                "  allshard verify model.safetensors --json | jq '.faults[].text'\n",
    .least = 1,
    .most = 1,
    .operands = "one PATH",
    .options = table,
};

static json_t *json_of_findings(const as_findings *f, bool faults)
{
    json_t *list = json_array();
    for (size_t i = 0; i < f->count && list; i++) {
        const as_finding *x = &f->items[i];
        if (x->is_fault != faults) {
            continue;
        }
        json_t *one =
            json_pack("{s:o, s:o, s:o}", "file", as_json_text(x->file, strlen(x->file)), "tensor",
                      x->tensor ? as_json_text(x->tensor, strlen(x->tensor)) : json_null(), "text",
                      as_json_text(x->text, strlen(x->text)));
        if (json_array_append_new(list, one) != 0) {
            json_decref(list);
            list = NULL;
        }
    }
    return list;
}

static void make_json(as_tool *tool, const char *path, const as_verdict *v)
{
    tool->result = json_object();
    as_tool_set(tool, "path", as_json_text(path, strlen(path)));
    as_tool_set(tool, "faults", json_of_findings(&v->findings, true));
    as_tool_set(tool, "warnings", json_of_findings(&v->findings, false));
    as_tool_set(tool, "files", json_integer(v->files));
    as_tool_set(tool, "tensors", json_integer(v->tensors));
    as_tool_set(tool, "tensor_bytes", json_integer(v->bytes));
}

static void print_text(const as_output *o, const char *path, const as_verdict *v)
{
    for (size_t i = 0; i < v->findings.count; i++) {
        const as_finding *x = &v->findings.items[i];
        as_print_in(o, x->is_fault ? AS_RED : AS_YELLOW, "%s",
                    x->is_fault ? "fault:   " : "warning: ");
        /* Texts of the reader begin with the tensor, too. */
        bool name = x->tensor && strncmp(x->text, "tensor \"", 8) != 0;
        as_print(o, "%s: %s%s%s%s\n", x->file, name ? "tensor \"" : "", name ? x->tensor : "",
                 name ? "\": " : "", x->text);
    }
    size_t faults = v->findings.faults;
    size_t warnings = v->findings.warnings;
    as_print(o, "%s: ", path);
    if (faults > 0) {
        as_print_in(o, AS_RED, "bad");
        as_print(o, ", %zu fault%s", faults, faults == 1 ? "" : "s");
    } else {
        as_print_in(o, AS_GREEN, "good");
        as_print(o, ", %lld tensor%s in %lld file%s, %s", (long long)v->tensors,
                 v->tensors == 1 ? "" : "s", (long long)v->files, v->files == 1 ? "" : "s",
                 as_human_bytes(v->bytes).text);
    }
    if (warnings > 0) {
        as_print(o, ", %zu warning%s", warnings, warnings == 1 ? "" : "s");
    }
    as_print(o, "\n");
}

static int check(const as_arg_result *args, as_error *e)
{
    (void)args;
    return options.pattern ? as_pattern_check(options.pattern, e) : AS_OK;
}

static int run(as_tool *tool, const as_arg_result *args, as_error *e)
{
    int64_t bad = 0;
    if (tool->world.rank == 0) {
        as_verdict v = AS_VERDICT_INIT;
        as_progress progress;
        as_progress_begin(&progress, &tool->out, "checking");
        int code = as_verify(&v, args->operands[0], options.pattern, &progress, e);
        as_progress_end(&progress);
        if (code == AS_OK) {
            bad = v.findings.faults > 0;
            if (options.json) {
                make_json(tool, args->operands[0], &v);
            } else {
                print_text(&tool->out, args->operands[0], &v);
            }
        }
        as_verdict_free(&v);
    }
    tool->bad = bad > 0;
    return as_world_agree(&tool->world, e);
}

const as_command as_cmd_verify = {
    .args = &arguments, .json = &options.json, .check = check, .run = run};
