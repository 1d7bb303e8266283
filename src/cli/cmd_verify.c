/* SPDX-License-Identifier: Apache-2.0
 * allshard verify: is a checkpoint good?
 */
#include <string.h>

#include "cli/command.h"
#include "cli/options.h"
#include "cli/verify.h"

static struct {
    bool json;
    as_verify_options verify;
} options;

static const as_arg_option table[] = {
    {.name = "pattern",
     .value = "P",
     .help = "which checkpoint, if the folder holds several,\n"
             "such as 'optimizer{suffix}.safetensors'",
     .text = &options.verify.pattern},
    {.name = "no-checksums",
     .help = "headers, index and sizes only, which takes no time;\n"
             "default: every byte is read and compared with the\n"
             "checksums in the manifest, if there is one",
     .flag = &options.verify.no_checksums},
    {.name = "deep",
     .help = "also tell which tensors hold NaN or infinities",
     .flag = &options.verify.deep},
    {.name = "against",
     .value = "DIR",
     .help = "another copy of the checkpoint: tell which rotten\n"
             "bytes can be had from there, and how",
     .text = &options.verify.against},
    {.name = "engine",
     .value = "E",
     .help = "how bytes are read, past the page cache where that\n"
             "works; auto (default) takes what fits. One of",
     .choice = as_engine_choice,
     .text = &options.verify.engine},
    {.name = "json", .help = "print one JSON object", .flag = &options.json},
    {.name = NULL},
};

static const as_arg_command arguments = {
    .name = "verify",
    .usage = "PATH [--against DIR] [--deep] [--no-checksums] [--pattern P] [--json]",
    .summary = "Checks a checkpoint folder or file: every rule of the format, the index against "
               "the headers,\n"
               "every block against its checksum in the manifest, stale files and what a killed "
               "save left.\n"
               "Prints one line for each fault, and warnings for what loads, but may surprise. "
               "Ranks share\n"
               "the reading.\n",
    .examples = "  allshard verify llama-3-8b/\n"
                "  mpirun -n 8 allshard verify /scratch/step-1000 --against /backup/step-1000\n"
                "  allshard verify step-1000 --deep --json | jq '.warnings[] | select(.nan > 0)'\n",
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
        if ((one && x->more && json_object_update(one, x->more) != 0) ||
            json_array_append_new(list, one) != 0) {
            json_decref(list);
            list = NULL;
        }
    }
    return list;
}

static json_t *json_of_names(const as_names *names)
{
    json_t *list = json_array();
    for (size_t i = 0; i < names->count && list; i++) {
        if (json_array_append_new(list, as_json_text(names->items[i], strlen(names->items[i]))) !=
            0) {
            json_decref(list);
            list = NULL;
        }
    }
    return list;
}

/* What was read; null if nothing was. */
static json_t *json_of_reading(const as_verdict *v)
{
    if (!v->engine[0]) {
        return json_null();
    }
    return json_pack("{s:I, s:I, s:f, s:s}", "bytes", (json_int_t)v->bytes_read, "blocks_compared",
                     (json_int_t)v->blocks_compared, "seconds", v->seconds, "engine", v->engine);
}

static void make_json(as_tool *tool, const char *path, as_verdict *v)
{
    tool->result = json_object();
    as_tool_set(tool, "path", as_json_text(path, strlen(path)));
    as_tool_set(tool, "faults", json_of_findings(&v->findings, true));
    as_tool_set(tool, "warnings", json_of_findings(&v->findings, false));
    as_tool_set(tool, "files", json_integer(v->files));
    as_tool_set(tool, "tensors", json_integer(v->tensors));
    as_tool_set(tool, "tensor_bytes", json_integer(v->bytes));
    as_tool_set(tool, "read", json_of_reading(v));
    as_tool_set(tool, "not_compared", v->unknown ? json_string(v->unknown) : json_null());
    if (options.verify.against) {
        as_tool_set(tool, "replicas", v->replicas ? json_incref(v->replicas) : json_array());
        as_tool_set(tool, "mend", json_of_names(&v->mend));
    }
}

/* "; 12.3 GB read in 4.1 s (3.0 GB/s), 2,934 blocks compared with their checksums" */
static void print_reading(const as_output *o, const as_verdict *v)
{
    if (v->engine[0]) {
        double rate = v->seconds > 0 ? (double)v->bytes_read / v->seconds : 0;
        as_print(o, "; %s read in %s (%s/s)", as_human_bytes(v->bytes_read).text,
                 as_human_seconds(v->seconds).text, as_human_bytes((int64_t)rate).text);
    }
    if (v->unknown) {
        as_print(o, "; %s", v->unknown);
    } else {
        as_print(o, ", %s block%s compared with their checksums",
                 as_grouped(v->blocks_compared).text, v->blocks_compared == 1 ? "" : "s");
    }
}

static void print_mending(const as_output *o, const char *path, const as_verdict *v)
{
    enum { MOST = 20 };
    if (v->mend.count == 0) {
        return;
    }
    as_print(o, "what can be had from %s comes over by (then verify again):\n",
             options.verify.against);
    for (size_t i = 0; i < v->mend.count && i < MOST; i++) {
        as_print(o, "  %s\n", v->mend.items[i]);
    }
    if (v->mend.count > MOST) {
        as_print(o, "  and %zu more, which `allshard verify %s --against %s --json` lists\n",
                 v->mend.count - MOST, path, options.verify.against);
    }
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
    print_reading(o, v);
    as_print(o, "\n");
    print_mending(o, path, v);
}

static int check(const as_arg_result *args, as_error *e)
{
    (void)args;
    return as_verify_options_check(&options.verify, e);
}

static int run(as_tool *tool, const as_arg_result *args, as_error *e)
{
    as_verdict v = AS_VERDICT_INIT;
    as_progress progress;
    as_progress_begin(&progress, &tool->out, "checking");
    int code = as_verify(&v, &tool->world, args->operands[0], &options.verify, &progress, e);
    as_progress_end(&progress);
    int64_t bad = v.findings.faults > 0;
    if (code == AS_OK && tool->world.rank == 0) {
        if (options.json) {
            make_json(tool, args->operands[0], &v);
        } else {
            print_text(&tool->out, args->operands[0], &v);
        }
    }
    as_verdict_free(&v);
    tool->bad = bad > 0;
    return as_world_agree(&tool->world, e);
}

const as_command as_cmd_verify = {
    .args = &arguments, .json = &options.json, .check = check, .run = run};
