/* SPDX-License-Identifier: Apache-2.0
 * allshard ls: what is in a checkpoint.
 */
#include <stdlib.h>
#include <string.h>

#include "cli/command.h"
#include "cli/read_checkpoint.h"
#include "cli/series_root.h"
#include "format/pattern.h"
#include "tensor/dtype.h"

static struct {
    bool tensors;
    bool json;
    const char *pattern;
    const char *series_pattern;
} options;

static const as_arg_option table[] = {
    {.name = "tensors", .help = "list every tensor, too", .flag = &options.tensors},
    {.name = "pattern",
     .value = "P",
     .help = "which checkpoint, if the folder holds several,\n"
             "such as 'optimizer{suffix}.safetensors'",
     .text = &options.pattern},
    {.name = "series-pattern",
     .value = "P",
     .help = "PATH is a series of checkpoints in folders that are\n"
             "named so, such as 'checkpoint-{step}'; without this,\n"
             "all checkpoints that lie in it are shown",
     .text = &options.series_pattern},
    {.name = "json", .help = "print one JSON object", .flag = &options.json},
    {.name = NULL},
};

static const as_arg_command arguments = {
    .name = "ls",
    .usage = "PATH [--tensors] [--pattern P] [--json] | ROOT [--series-pattern P] [--json]",
    .summary =
        "Shows the shards of a checkpoint folder or file: their sizes, types and parameters, and\n"
        "how even they are. Reads the index and the headers only.\n"
        "\n"
        "Of the ROOT of a series, a folder that is no checkpoint itself but has some in it, shows "
        "the\n"
        "checkpoints: step, age, size, how long the save took, parts, metric, tags, and of damaged "
        "ones\n"
        "what is wrong (exit status 1).\n",
    .examples = "  allshard ls llama-3-8b/\n"
                "  allshard ls model.safetensors --tensors\n"
                "  allshard ls llama-3-8b/ --json | jq .parameters\n"
                "  allshard ls runs/a\n",
    .least = 1,
    .most = 1,
    .operands = "one PATH",
    .options = table,
};

/* Sums over the tensors of a file, or of all. */
typedef struct as_sums {
    int64_t tensors;
    int64_t bytes;
    int64_t numel;
    int64_t by_dtype[AS_DTYPE_END]; /* elements */
    bool has_dtype[AS_DTYPE_END];
} as_sums;

static void add_row(as_sums *s, const as_tensor_row *row)
{
    s->tensors++;
    s->bytes += row->bytes;
    s->numel += row->numel;
    s->by_dtype[row->dtype] += row->numel;
    s->has_dtype[row->dtype] = true;
}

/* Sums of each file, and of all behind them; the caller frees. */
static as_sums *sum_up(const as_contents *c, as_error *e)
{
    as_sums *sums = calloc(c->files.count + 1, sizeof *sums);
    if (!sums) {
        (void)as_fail_nomem(e);
        return NULL;
    }
    for (size_t i = 0; i < as_tensors_count(&c->tensors); i++) {
        const as_tensor_row *row = as_tensors_row(&c->tensors, i);
        add_row(&sums[row->file], row);
        add_row(&sums[c->files.count], row);
    }
    return sums;
}

/* ---------------------------------------------------------------------- JSON */

static json_t *json_of_dtypes(const as_sums *s)
{
    json_t *o = json_object();
    for (int d = 0; d < AS_DTYPE_END && o; d++) {
        if (s->has_dtype[d] &&
            json_object_set_new(o, as_dtype_name(d), json_integer(s->by_dtype[d])) != 0) {
            json_decref(o);
            o = NULL;
        }
    }
    return o;
}

static json_t *json_of_files(const as_contents *c, const as_sums *sums)
{
    json_t *files = json_array();
    for (size_t f = 0; f < c->files.count && files; f++) {
        const char *name = c->files.items[f];
        json_t *file =
            json_pack("{s:o, s:I, s:I, s:I, s:I, s:o}", "name", as_json_text(name, strlen(name)),
                      "bytes", (json_int_t)as_contents_size(c, f), "tensors",
                      (json_int_t)sums[f].tensors, "tensor_bytes", (json_int_t)sums[f].bytes,
                      "parameters", (json_int_t)sums[f].numel, "dtypes", json_of_dtypes(&sums[f]));
        if (json_array_append_new(files, file) != 0) {
            json_decref(files);
            files = NULL;
        }
    }
    return files;
}

static json_t *json_of_tensors(const as_contents *c)
{
    json_t *list = json_array();
    for (size_t i = 0; i < as_tensors_count(&c->tensors) && list; i++) {
        const as_tensor_row *row = as_tensors_row(&c->tensors, i);
        const int64_t *shape = as_tensors_shape(&c->tensors, i);
        const char *file = c->files.items[row->file];
        json_t *dims = json_array();
        for (int d = 0; d < row->ndim; d++) {
            (void)json_array_append_new(dims, json_integer(shape[d]));
        }
        json_t *tensor =
            json_pack("{s:o, s:s, s:o, s:I, s:o}", "name",
                      as_json_text(as_tensors_name(&c->tensors, i), row->name_length), "dtype",
                      as_dtype_name(row->dtype), "shape", dims, "bytes", (json_int_t)row->bytes,
                      "file", as_json_text(file, strlen(file)));
        if (json_array_append_new(list, tensor) != 0) {
            json_decref(list);
            list = NULL;
        }
    }
    return list;
}

/* How full the shards are compared with the largest: 1 if all are equal. */
static double balance_of(const as_contents *c, int64_t *largest)
{
    int64_t total = 0;
    *largest = 0;
    for (size_t f = 0; f < c->files.count; f++) {
        int64_t size = as_contents_size(c, f);
        total += size;
        *largest = size > *largest ? size : *largest;
    }
    return *largest > 0 ? (double)total / (double)c->files.count / (double)*largest : 1;
}

static void make_json(as_tool *tool, const char *path, const as_contents *c, const as_sums *sums)
{
    const as_sums *all = &sums[c->files.count];
    int64_t largest = 0;
    tool->result = json_object();
    as_tool_set(tool, "path", as_json_text(path, strlen(path)));
    as_tool_set(tool, "index",
                c->index_name ? as_json_text(c->index_name, strlen(c->index_name)) : json_null());
    as_tool_set(tool, "tensors", json_integer(all->tensors));
    as_tool_set(tool, "parameters", json_integer(all->numel));
    as_tool_set(tool, "tensor_bytes", json_integer(all->bytes));
    as_tool_set(tool, "balance", json_real(balance_of(c, &largest)));
    as_tool_set(tool, "dtypes", json_of_dtypes(all));
    as_tool_set(tool, "files", json_of_files(c, sums));
    if (options.tensors) {
        as_tool_set(tool, "tensor_list", json_of_tensors(c));
    }
}

/* ---------------------------------------------------------------------- text */

static void print_bar(const as_output *o, double part)
{
    enum { WIDTH = 20 };
    char bar[WIDTH + 1];
    int full = (int)(part * WIDTH + 0.5);
    memset(bar, ' ', WIDTH);
    memset(bar, '#', (size_t)full);
    bar[WIDTH] = '\0';
    as_print_in(o, AS_CYAN, "%s", bar);
}

static void print_dtypes(const as_output *o, const as_sums *s)
{
    const char *before = "";
    for (int d = AS_DTYPE_END - 1; d > 0; d--) {
        if (s->has_dtype[d]) {
            as_print(o, "%s%s", before, as_dtype_name(d));
            before = " ";
        }
    }
}

static void print_files(const as_output *o, const as_contents *c, const as_sums *sums)
{
    int widest = 0;
    int64_t largest = 0;
    double balance = balance_of(c, &largest);
    for (size_t f = 0; f < c->files.count; f++) {
        int width = (int)strlen(c->files.items[f]);
        widest = width > widest ? width : widest;
    }
    for (size_t f = 0; f < c->files.count; f++) {
        int64_t size = as_contents_size(c, f);
        as_print(o, "  %-*s  %8s ", widest, c->files.items[f], as_human_bytes(size).text);
        print_bar(o, largest > 0 ? (double)size / (double)largest : 0);
        as_print(o, "  %lld tensor%s  ", (long long)sums[f].tensors,
                 sums[f].tensors == 1 ? "" : "s");
        print_dtypes(o, &sums[f]);
        as_print(o, "\n");
    }
    if (c->index_name) {
        as_print(o, "  %s\n", c->index_name);
    }
    if (c->files.count > 1) {
        as_print(o, "Balance: on average a shard is %.0f %% of the largest.\n", balance * 100);
    }
}

static void print_tensors(const as_output *o, const as_contents *c)
{
    as_print(o, "\n");
    for (size_t i = 0; i < as_tensors_count(&c->tensors); i++) {
        const as_tensor_row *row = as_tensors_row(&c->tensors, i);
        as_print(o, "%s  %s ", as_tensors_name(&c->tensors, i), as_dtype_name(row->dtype));
        as_print_shape(o, as_tensors_shape(&c->tensors, i), row->ndim);
        as_print_in(o, AS_DIM, "  %s  %s\n", as_human_bytes(row->bytes).text,
                    c->files.items[row->file]);
    }
}

static void print_text(const as_output *o, const char *path, const as_contents *c,
                       const as_sums *sums)
{
    const as_sums *all = &sums[c->files.count];
    as_print_in(o, AS_BOLD, "%s", path);
    as_print(o, ": %s tensor%s, %s parameters, %s (%s bytes)", as_grouped(all->tensors).text,
             all->tensors == 1 ? "" : "s", as_human_count((double)all->numel).text,
             as_human_bytes(all->bytes).text, as_grouped(all->bytes).text);
    as_print(o, "%s", all->tensors > 0 ? ", " : "");
    print_dtypes(o, all);
    as_print(o, "\n");
    print_files(o, c, sums);
    if (options.tensors) {
        print_tensors(o, c);
    }
}

/* ------------------------------------------------------------------- command */

static int check(const as_arg_result *args, as_error *e)
{
    (void)args;
    if (options.series_pattern && (options.pattern || options.tensors)) {
        return as_fail(e, AS_INVALID, 0,
                       "--series-pattern is for a series of checkpoints, --%s for a single one",
                       options.tensors ? "tensors" : "pattern");
    }
    int code = options.pattern ? as_pattern_check(options.pattern, e) : AS_OK;
    return code == AS_OK ? as_root_check_pattern(options.series_pattern, e) : code;
}

static int show_checkpoint(as_tool *tool, const char *path, as_error *e)
{
    as_contents c = AS_CONTENTS_INIT;
    as_log log = as_output_as_log(&tool->out);
    as_sums *sums = NULL;
    as_progress progress;
    as_progress_begin(&progress, &tool->out, "reading");
    int code = as_contents_read(&c, path, options.pattern, &progress, &log, e);
    as_progress_end(&progress);
    if (code == AS_OK) {
        sums = sum_up(&c, e);
    }
    if (sums && options.json) {
        make_json(tool, path, &c, sums);
    } else if (sums) {
        print_text(&tool->out, path, &c, sums);
    }
    free(sums);
    as_contents_free(&c);
    return code;
}

static int run(as_tool *tool, const as_arg_result *args, as_error *e)
{
    if (tool->world.rank == 0) {
        const char *path = args->operands[0];
        bool is_series = false;
        int code = AS_OK;
        if (!options.pattern && !options.tensors) {
            code = as_root_is_series(path, options.series_pattern, &is_series, e);
        }
        if (code == AS_OK && (is_series || options.series_pattern)) {
            (void)as_ls_series(tool, path, options.series_pattern, options.json, e);
        } else if (code == AS_OK) {
            (void)show_checkpoint(tool, path, e);
        }
    }
    return as_world_agree(&tool->world, e);
}

const as_command as_cmd_ls = {
    .args = &arguments, .json = &options.json, .check = check, .run = run};
