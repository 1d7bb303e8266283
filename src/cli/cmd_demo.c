/* SPDX-License-Identifier: Apache-2.0
 * allshard demo: a known model with seeded random weights, saved by all ranks.
 */
#include <stdlib.h>
#include <string.h>

#include "cli/command.h"
#include "cli/layout.h"
#include "cli/models.h"
#include "cli/random.h"
#include "cli/read_checkpoint.h"
#include "cli/spread.h"

static struct {
    const char *model;
    const char *layout;
    const char *seed;
    const char *max_shard_size;
    const char *pattern;
    bool json;
} options = {.model = "gpt2", .layout = "whole", .seed = "1"};

static const as_arg_option table[] = {
    {.name = "model",
     .value = "NAME",
     .help = "default gpt2; one of",
     .choice = as_models_name,
     .text = &options.model},
    {.name = "layout",
     .value = "L",
     .help = "how the ranks hold the model; see `allshard copy --help`",
     .text = &options.layout},
    {.name = "seed",
     .value = "N",
     .help = "another number gives other weights; default 1",
     .text = &options.seed},
    {.name = "max-shard-size",
     .value = "SIZE",
     .help = "largest shard; default 5GB",
     .text = &options.max_shard_size},
    {.name = "pattern",
     .value = "P",
     .help = "file name with {suffix}; default model{suffix}.safetensors",
     .text = &options.pattern},
    {.name = "json", .help = "print one JSON object", .flag = &options.json},
    {.name = NULL},
};

static const as_arg_command arguments = {
    .name = "demo",
    .usage = "DIR [OPTIONS]",
    .summary = "Saves a known model (true names and shapes, seeded random weights) into DIR: every "
               "rank makes\n"
               "its own part. The same seed gives the same bytes with any layout on any number of "
               "ranks.\n",
    .examples = "  mpirun -n 4 allshard demo demo-out/ --layout tp=2,pp=2 --max-shard-size 100MB\n"
                "  allshard verify demo-out/\n",
    .least = 1,
    .most = 1,
    .operands = "one DIR",
    .options = table,
};

static struct {
    int64_t seed;
} values;

static int check(const as_arg_result *args, as_error *e)
{
    (void)args;
    int code = as_args_number(options.seed, "--seed", 0, INT64_MAX, &values.seed, e);
    return code == AS_OK ? as_save_options_check(options.max_shard_size, options.pattern, e) : code;
}

static void fill(const as_spread *s, const as_tensors *t, const as_layout *l)
{
    for (size_t i = 0; i < as_tensors_count(t); i++) {
        as_layout_piece piece;
        if (s->memory[i] && as_layout_get(l, t, i, s->tool->world.rank, &piece)) {
            as_random_fill(t, i, (uint64_t)values.seed, &piece, s->memory[i]);
        }
    }
}

static int save(as_spread *s, const char *target, double *seconds, as_error *e)
{
    allshard_save_options save = {
        .size = sizeof save,
        .max_shard_size = options.max_shard_size,
        .pattern = options.pattern,
    };
    double begin = as_seconds();
    as_progress_begin(&s->progress, &s->tool->out, "writing");
    int code = allshard_save(s->state, target, &save);
    as_progress_end(&s->progress);
    *seconds = as_seconds() - begin;
    return code == AS_OK ? AS_OK : as_spread_error(s, code, e);
}

/* What was written, as `ls` sees it. */
static void tell(as_tool *tool, const char *target, double seconds, as_error *e)
{
    as_contents c = AS_CONTENTS_INIT;
    as_log log = as_output_as_log(&tool->out);
    const char *pattern = options.pattern ? options.pattern : AS_DEFAULT_PATTERN;
    if (as_contents_read(&c, target, pattern, NULL, &log, e) != AS_OK) {
        return;
    }
    int64_t bytes = 0;
    for (size_t f = 0; f < c.files.count; f++) {
        bytes += as_contents_size(&c, f);
    }
    if (options.json) {
        tool->result = json_object();
        as_tool_set(tool, "target", as_json_text(target, strlen(target)));
        as_tool_set(tool, "model", json_string(options.model));
        as_tool_set(tool, "ranks", json_integer(tool->world.size));
        as_tool_set(tool, "files", json_integer((json_int_t)c.files.count));
        as_tool_set(tool, "bytes", json_integer(bytes));
        as_tool_set(tool, "tensors", json_integer((json_int_t)as_tensors_count(&c.tensors)));
        as_tool_set(tool, "parameters", json_integer(c.tensors.numel));
        as_tool_set(tool, "seconds", json_real(seconds));
    } else {
        as_print_in(&tool->out, AS_BOLD, "%s", options.model);
        as_print(&tool->out, ", %s parameters, held by %d rank%s as %s, is now in %s:\n",
                 as_human_count((double)c.tensors.numel).text, tool->world.size,
                 tool->world.size == 1 ? "" : "s", options.layout, target);
        for (size_t f = 0; f < c.files.count; f++) {
            as_print(&tool->out, "  %-40s %10s\n", c.files.items[f],
                     as_human_bytes(as_contents_size(&c, f)).text);
        }
        if (c.index_name) {
            as_print(&tool->out, "  %s\n", c.index_name);
        }
        as_print(&tool->out, "%zu file%s, %s, written in %s", c.files.count,
                 c.files.count == 1 ? "" : "s", as_human_bytes(bytes).text,
                 as_human_seconds(seconds).text);
        if (seconds > 0) {
            as_print(&tool->out, " (%s/s)",
                     as_human_bytes((int64_t)((double)bytes / seconds)).text);
        }
        as_print(&tool->out, "\n");
    }
    as_contents_free(&c);
}

static int run(as_tool *tool, const as_arg_result *args, as_error *e)
{
    as_tensors tensors = AS_TENSORS_INIT;
    as_layout layout = AS_LAYOUT_INIT;
    as_spread spread = {.tool = tool};
    double seconds = 0;
    /* The same on all ranks, apart from a lack of memory. */
    int code = as_layout_parse(&layout, options.layout, tool->world.size, e);
    code = code == AS_OK ? as_models_make(options.model, 0, &tensors, e) : code;
    (void)as_tool_usage(tool, code);
    if (code == AS_OK) {
        (void)as_layout_fit(&layout, &tensors, e);
    }
    code = as_world_agree(&tool->world, e);
    const char *pattern = options.pattern ? options.pattern : AS_DEFAULT_PATTERN;
    code = code == AS_OK ? as_spread_open(&spread, tool, pattern, 0, false, e) : code;
    code = code == AS_OK ? as_spread_declare(&spread, &tensors, &layout, e) : code;
    if (code == AS_OK) {
        fill(&spread, &tensors, &layout);
        code = save(&spread, args->operands[0], &seconds, e);
    }
    bool saved = code == AS_OK || code == AS_PENDING;
    if (saved && tool->world.rank == 0) {
        tell(tool, args->operands[0], seconds, e);
    }
    code = saved ? as_world_agree(&tool->world, e) : code;
    as_spread_close(&spread);
    as_layout_free(&layout);
    as_tensors_free(&tensors);
    return code;
}

const as_command as_cmd_demo = {
    .args = &arguments, .json = &options.json, .mpi = true, .check = check, .run = run};
