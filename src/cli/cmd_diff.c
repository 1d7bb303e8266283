/* SPDX-License-Identifier: Apache-2.0
 * allshard diff: do two checkpoints hold the same tensors?
 */
#include <stdio.h>
#include <string.h>

#include "base/quote.h"
#include "cli/command.h"
#include "cli/compare.h"
#include "format/pattern.h"
#include "tensor/dtype.h"

static struct {
    bool json;
    const char *pattern;
} options;

static const as_arg_option table[] = {
    {.name = "pattern",
     .value = "P",
     .help = "which checkpoint, if a folder holds several,\n"
             "such as 'optimizer{suffix}.safetensors'",
     .text = &options.pattern},
    {.name = "json", .help = "print one JSON object", .flag = &options.json},
    {.name = NULL},
};

static const as_arg_command arguments = {
    .name = "diff",
    .usage = "A B [--pattern P] [--json]",
    .summary = "Compares two checkpoints, folders or files: do they have the same names, dtypes, "
               "shapes and\n"
               "bytes, however they are sharded and ordered? Names the first difference, and "
               "tensors\n"
               "that are on one side only (20 of each; --json: all). Ranks share the reading.\n",
    .examples = "  allshard diff llama-3-8b/ resharded/\n"
                "  mpirun -n 8 allshard diff a/ b/\n",
    .least = 2,
    .most = 2,
    .operands = "A and B",
    .options = table,
};

/* ---------------------------------------------------------------------- JSON */

static json_t *json_of_only(const as_side *side, const size_t *tensors, size_t count)
{
    json_t *list = json_array();
    for (size_t i = 0; i < count && list; i++) {
        const as_tensors *t = &side->contents.tensors;
        json_t *name = as_json_text(as_tensors_name(t, tensors[i]),
                                    as_tensors_row(t, tensors[i])->name_length);
        if (json_array_append_new(list, name) != 0) {
            json_decref(list);
            list = NULL;
        }
    }
    return list;
}

/* Which element a byte belongs to. */
static int64_t element_of(int64_t byte, int dtype)
{
    return byte / as_dtype_group_bytes(dtype) * as_dtype_group(dtype) +
           byte % as_dtype_group_bytes(dtype) * 8 / as_dtype_bits(dtype);
}

static json_t *json_of_first(const as_comparison *c, const as_side sides[2])
{
    static const char *const kinds[] = {
        [AS_SAME] = "none",
        [AS_DIFFERENT_DTYPE] = "dtype",
        [AS_DIFFERENT_SHAPE] = "shape",
        [AS_DIFFERENT_BYTES] = "bytes",
    };
    if (c->kind == AS_SAME) {
        return json_null();
    }
    const as_tensors *t = &sides[0].contents.tensors;
    const as_tensor_row *row = as_tensors_row(t, c->tensor[0]);
    json_t *o = json_pack("{s:o, s:s}", "tensor",
                          as_json_text(as_tensors_name(t, c->tensor[0]), row->name_length), "kind",
                          kinds[c->kind]);
    if (o && c->kind == AS_DIFFERENT_BYTES) {
        (void)json_object_set_new(o, "byte", json_integer(c->byte));
        (void)json_object_set_new(o, "element", json_integer(element_of(c->byte, row->dtype)));
    }
    return o;
}

static void make_json(as_tool *tool, const as_comparison *c, const as_side sides[2])
{
    tool->result = json_object();
    as_tool_set(tool, "a", as_json_text(sides[0].path, strlen(sides[0].path)));
    as_tool_set(tool, "b", as_json_text(sides[1].path, strlen(sides[1].path)));
    as_tool_set(tool, "same", json_boolean(!tool->bad));
    as_tool_set(tool, "common", json_integer((json_int_t)c->common_count));
    as_tool_set(tool, "different", json_integer(c->different));
    as_tool_set(tool, "only_in_a", json_of_only(&sides[0], c->only_in[0], c->only_count[0]));
    as_tool_set(tool, "only_in_b", json_of_only(&sides[1], c->only_in[1], c->only_count[1]));
    as_tool_set(tool, "first_difference", json_of_first(c, sides));
}

/* ---------------------------------------------------------------------- text */

static void print_head(const as_output *o, const as_side *side, size_t tensor)
{
    const as_tensors *t = &side->contents.tensors;
    const as_tensor_row *row = as_tensors_row(t, tensor);
    as_print(o, "%s ", as_dtype_name(row->dtype));
    as_print_shape(o, as_tensors_shape(t, tensor), row->ndim);
    as_print(o, " in %s", side->path);
}

static void print_first(const as_output *o, const as_comparison *c, const as_side sides[2])
{
    const as_tensors *t = &sides[0].contents.tensors;
    const as_tensor_row *row = as_tensors_row(t, c->tensor[0]);
    as_print(o, "First difference: tensor %s ",
             as_quote(as_tensors_name(t, c->tensor[0]), row->name_length).text);
    if (c->kind == AS_DIFFERENT_BYTES) {
        as_print(o, "differs at byte %lld of %lld (element %lld)\n", (long long)c->byte,
                 (long long)row->bytes, (long long)element_of(c->byte, row->dtype));
        return;
    }
    as_print(o, "is ");
    print_head(o, &sides[0], c->tensor[0]);
    as_print(o, " and ");
    print_head(o, &sides[1], c->tensor[1]);
    as_print(o, "\n");
}

enum { MOST_NAMES = 20 }; /* --json has them all */

static void print_text(const as_tool *tool, const as_comparison *c, const as_side sides[2])
{
    const as_output *o = &tool->out;
    if (c->kind != AS_SAME) {
        print_first(o, c, sides);
    }
    for (int s = 0; s < 2; s++) {
        const as_tensors *t = &sides[s].contents.tensors;
        for (size_t i = 0; i < c->only_count[s] && i < MOST_NAMES; i++) {
            as_print(o, "Only in %s: %s\n", sides[s].path, as_tensors_name(t, c->only_in[s][i]));
        }
        if (c->only_count[s] > MOST_NAMES) {
            as_print(o, "Only in %s: … %zu more\n", sides[s].path, c->only_count[s] - MOST_NAMES);
        }
    }
    if (tool->bad) {
        as_print_in(o, AS_RED, "different");
        as_print(o, ": of %zu common tensors %lld differ%s; %zu only in %s, %zu only in %s\n",
                 c->common_count, (long long)c->different, c->different == 1 ? "s" : "",
                 c->only_count[0], sides[0].path, c->only_count[1], sides[1].path);
    } else {
        as_print_in(o, AS_GREEN, "same");
        as_print(o, ": %zu tensor%s, %s\n", c->common_count, c->common_count == 1 ? "" : "s",
                 as_human_bytes(sides[0].contents.tensors.bytes).text);
    }
}

/* ------------------------------------------------------------------- command */

static int check(const as_arg_result *args, as_error *e)
{
    (void)args;
    return options.pattern ? as_pattern_check(options.pattern, e) : AS_OK;
}

static int run(as_tool *tool, const as_arg_result *args, as_error *e)
{
    as_side sides[2] = {{.path = args->operands[0]}, {.path = args->operands[1]}};
    as_log log = as_output_as_log(&tool->out);
    as_comparison c = AS_COMPARISON_INIT;
    as_progress progress;
    as_progress_begin(&progress, &tool->out, "comparing");
    int code = AS_OK;
    for (int s = 0; s < 2 && code == AS_OK; s++) {
        code = as_contents_share(&sides[s].contents, &tool->world, sides[s].path, options.pattern,
                                 &log, e);
    }
    code = code == AS_OK ? as_compare(&c, &tool->world, sides, &progress, e) : code;
    as_progress_end(&progress);
    if (code == AS_OK) {
        tool->bad = c.different > 0 || c.only_count[0] > 0 || c.only_count[1] > 0;
        if (tool->world.rank == 0 && options.json) {
            make_json(tool, &c, sides);
        } else if (tool->world.rank == 0) {
            print_text(tool, &c, sides);
        }
    }
    as_comparison_free(&c);
    as_contents_free(&sides[0].contents);
    as_contents_free(&sides[1].contents);
    return code;
}

const as_command as_cmd_diff = {
    .args = &arguments, .json = &options.json, .check = check, .run = run};
