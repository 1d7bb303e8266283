/* SPDX-License-Identifier: Apache-2.0
 * allshard copy: reads a checkpoint as N ranks would hold it, and saves from there.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/path.h"
#include "base/quote.h"
#include "base/sys.h"
#include "cli/casts.h"
#include "cli/command.h"
#include "cli/companions.h"
#include "cli/layout.h"
#include "cli/options.h"
#include "cli/read_checkpoint.h"
#include "cli/spread.h"
#include "commit/view.h"
#include "format/checkpoint.h"

static struct {
    as_save_arguments save;
    const char *pattern;
    const char *source_pattern;
    const char *layout;
    as_arg_list metadata;
    as_arg_list dtypes;
    const char *mode;
    const char *trace;
    bool weights_only;
    bool json;
} options = {.layout = "whole"};

static const as_arg_option table[] = {
    {.name = "layout",
     .value = "L",
     .help = "how the ranks hold the model meanwhile: whole (default),\n"
             "replicated, fsdp, columns, flat, or factors such as\n"
             "tp=2,pp=4,dp=1,ep=1 whose product is the number of ranks.\n"
             "The files are the same with any",
     .text = &options.layout},
    {.name = "pattern",
     .value = "P",
     .help = "file name with {suffix}; default model{suffix}.safetensors",
     .text = &options.pattern},
    {.name = "source-pattern",
     .value = "P",
     .help = "which checkpoint to read, if SRC holds several",
     .text = &options.source_pattern},
    {.name = "dtype",
     .value = "FROM=TO",
     .help = "save tensors of type FROM as TO, such as F32=BF16, each\n"
             "element rounded to the nearest; may be given several\n"
             "times. Types: F64, F32, BF16, F16, F8_E4M3, F8_E5M2",
     .list = &options.dtypes},
    {.name = "metadata",
     .value = "K=V",
     .help = "metadata of the new checkpoint; may be given several\n"
             "times. That of SRC is not carried over",
     .list = &options.metadata},
    {.name = "mode",
     .value = "OCTAL",
     .help = "permission bits of the new files; default 666 less the\n"
             "umask",
     .text = &options.mode},
    {.name = "weights-only",
     .help = "leave config, tokenizer and other small files behind",
     .flag = &options.weights_only},
    AS_SAVE_ROWS(options.save),
    {.name = "trace",
     .value = "FILE",
     .help = "what every rank did when, in Chrome's trace format:\n"
             "look at it at ui.perfetto.dev",
     .text = &options.trace},
    {.name = "json", .help = "print one JSON object", .flag = &options.json},
    {.name = NULL},
};

static const as_arg_command arguments = {
    .name = "copy",
    .usage = "SRC DST [OPTIONS]",
    .summary = "Reads the checkpoint SRC (a folder or a file) with all ranks and saves it into the "
               "folder DST\n"
               "with shards of another size: byte for byte what huggingface_hub writes for the "
               "same tensors\n"
               "in the same order. DST is made if it is not there. A checkpoint in DST is "
               "replaced, and stays\n"
               "whole until the new one is durable. Each rank needs memory for the tensors that it "
               "holds.\n",
    .examples = "  allshard copy model.safetensors sharded/ --max-shard-size 500MB\n"
                "  mpirun -n 8 allshard copy llama-3-8b/ resharded/ --max-shard-size 2GB\n"
                "  allshard copy fp32/ bf16/ --dtype F32=BF16\n"
                "  srun -n 64 allshard copy llama-3-405b/ out/ --layout tp=8,pp=8\n",
    .least = 2,
    .most = 2,
    .operands = "SRC and DST",
    .options = table,
};

/* Values of options, read. */
static struct {
    int mode;
    allshard_save_options save;
    int64_t memory;
    as_casts casts;
} values;

static int check(const as_arg_result *args, as_error *e)
{
    (void)args;
    int code = as_save_options_check(options.save.max_shard_size, options.pattern, e);
    if (code == AS_OK && options.source_pattern) {
        code = as_pattern_check(options.source_pattern, e);
    }
    code = code == AS_OK ? as_metadata_check(&options.metadata, e) : code;
    code = code == AS_OK ? as_casts_read(&values.casts, &options.dtypes, e) : code;
    if (code == AS_OK && options.mode) {
        code = as_args_mode(options.mode, &values.mode, e);
    }
    return code == AS_OK ? as_save_arguments_read(&options.save, &values.save, &values.memory, e)
                         : code;
}

/* -------------------------------------------------------------- SRC is not DST */

static int refuse_same(const char *source, const char *target, as_error *e)
{
    struct stat from;
    struct stat to;
    if (as_sys_table.fstatat(AT_FDCWD, source, &from, 0) < 0) {
        return errno == ENOENT || errno == ENOTDIR
                   ? as_fail(e, AS_NOT_FOUND, 0, "%s: there is no such file or folder", source)
                   : as_fail(e, AS_SYSTEM, errno, "%s: cannot be looked at", source);
    }
    if (as_sys_table.fstatat(AT_FDCWD, target, &to, 0) < 0) {
        return AS_OK; /* it will be made, or the save says why not */
    }
    if (!S_ISDIR(to.st_mode)) {
        return as_fail(e, AS_INVALID, 0,
                       "%s is a file; DST must be a folder, which is made if it is "
                       "not there",
                       target);
    }
    bool is_file = !S_ISDIR(from.st_mode);
    if (is_file) {
        char *real = realpath(source, NULL); /* a link may lead to a file in DST */
        char *folder = as_path_folder(real ? real : source);
        free(real);
        if (!folder) {
            return as_fail_nomem(e);
        }
        int found = as_sys_table.fstatat(AT_FDCWD, folder, &from, 0);
        free(folder);
        if (found < 0) {
            return as_fail(e, AS_SYSTEM, errno, "%s: its folder cannot be looked at", source);
        }
    }
    if (from.st_dev == to.st_dev && from.st_ino == to.st_ino) {
        return as_fail(e, AS_INVALID, 0,
                       is_file ? "DST is the folder that SRC lies in (%s); copy into another folder"
                               : "SRC and DST are the same folder (%s); copy into another folder",
                       target);
    }
    return AS_OK;
}

/* -------------------------------------------------------------------- copying */

typedef struct as_copy {
    const char *source;
    const char *target;
    as_contents contents;
    as_layout layout;
    as_spread spread;
    int companions;
    int64_t bytes;  /* of the tensors, as they are saved */
    double reading; /* seconds */
    double writing;
} as_copy;

/* The pattern of what was found in SRC, so that the load, whose state is named after DST's pattern,
 * looks for nothing else; heap. */
static int find_pattern(const as_contents *c, char **out, as_error *e)
{
    const char *name = c->index_name ? c->index_name : c->files.items[0];
    const char *tail = c->index_name ? ".safetensors.index.json" : ".safetensors";
    size_t length = strlen(name);
    bool known = length > strlen(tail) && strcmp(name + length - strlen(tail), tail) == 0;
    char *stem = strndup(name, known ? length - strlen(tail) : length);
    int code = stem ? as_pattern_default(stem, out, e) : as_fail_nomem(e);
    free(stem);
    return code;
}

static int read_source(as_copy *c, as_tool *tool, as_error *e)
{
    const char *pattern = options.pattern ? options.pattern : AS_DEFAULT_PATTERN;
    int code = as_spread_open(&c->spread, tool, pattern, values.memory, options.trace, e);
    code =
        code == AS_OK ? as_spread_declare(&c->spread, &c->contents.tensors, &c->layout, e) : code;
    char *found = NULL;
    if (code == AS_OK && !options.source_pattern) {
        (void)find_pattern(&c->contents, &found, e);
        code = as_world_agree(&tool->world, e);
    }
    if (code != AS_OK) {
        free(found);
        return code;
    }
    allshard_load_options load = {
        .size = sizeof load,
        .pattern = options.source_pattern ? options.source_pattern : found,
        .allow_unexpected = 1, /* what the index does not name was told already */
        .block_bytes = values.save.block_bytes,
        .engine = values.save.engine,
        .checksum = as_load_checksum(&options.save),
    };
    double begin = as_seconds();
    as_progress_begin(&c->spread.progress, &tool->out, "reading");
    code = allshard_load(c->spread.state, c->source, &load);
    as_progress_end(&c->spread.progress);
    c->reading = as_seconds() - begin;
    free(found);
    return code == AS_OK ? AS_OK : as_spread_error(&c->spread, code, e);
}

/* What was read is declared anew, with the types to save it as. */
static int apply_casts(as_copy *c, as_tool *tool, as_error *e)
{
    for (int from = 1; from < AS_DTYPE_END && tool->world.rank == 0; from++) {
        if (values.casts.to[from] && as_casts_count(&c->contents.tensors, from) == 0) {
            as_say_warning(&tool->out, "--dtype %s=%s: %s holds no tensor of type %s",
                           as_dtype_name(from), as_dtype_name(values.casts.to[from]), c->source,
                           as_dtype_name(from));
        }
    }
    return as_spread_store_as(&c->spread, options.pattern ? options.pattern : AS_DEFAULT_PATTERN,
                              &c->contents.tensors, &c->layout, &values.casts, e);
}

/* Before the statistics of the save are gone, which a trace does not change. */
static int write_trace(const as_copy *c, as_error *e)
{
    if (!options.trace) {
        return e->code;
    }
    int code = allshard_trace_write(c->spread.context, options.trace);
    if (code != AS_OK && e->code == AS_OK) {
        (void)as_spread_error(&c->spread, code, e);
        as_error_prefix(e, "%s is complete, but its trace is not", c->target);
    }
    return e->code;
}

static int write_target(as_copy *c, as_tool *tool, as_error *e)
{
    if (values.casts.any) {
        int code = apply_casts(c, tool, e);
        if (code != AS_OK) {
            return code;
        }
    }
    if (tool->world.rank == 0) {
        int code = as_tool_usage(tool, as_spread_metadata(&c->spread, &options.metadata, e));
        if (code == AS_OK && !options.weights_only) {
            (void)as_companions_add(&c->spread, c->source, &c->companions, e);
        }
    }
    int code = as_world_agree(&tool->world, e);
    if (code != AS_OK) {
        return code;
    }
    allshard_save_options save = values.save;
    save.size = sizeof save;
    save.pattern = options.pattern;
    save.mode = values.mode;
    double begin = as_seconds();
    as_progress_begin(&c->spread.progress, &tool->out, "writing");
    code = allshard_save(c->spread.state, c->target, &save);
    as_progress_end(&c->spread.progress);
    c->writing = as_seconds() - begin;
    if (code != AS_OK) {
        (void)as_spread_error(&c->spread, code, e);
    }
    return code == AS_OK || code == AS_PENDING ? write_trace(c, e) : code;
}

/* How many shards the index of the new checkpoint names; 0 if it cannot be read any more. */
static size_t count_shards(const char *target)
{
    const char *pattern = options.pattern ? options.pattern : AS_DEFAULT_PATTERN;
    as_checkpoint checkpoint = AS_CHECKPOINT_INIT;
    as_view *view = NULL;
    size_t count = 0;
    if (as_view_open(&view, target, NULL) == AS_OK) {
        as_opener opener = as_view_opener(view);
        if (as_checkpoint_resolve(&opener, pattern, &checkpoint, NULL, NULL) == AS_OK) {
            count = as_checkpoint_file_count(&checkpoint);
            as_checkpoint_free(&checkpoint);
        }
        as_view_close(view);
    }
    return count;
}

/* What did the work, and where the main process's time went. */
static void set_stats(const as_copy *c, as_tool *tool)
{
    allshard_stats s = {.size = sizeof s};
    if (allshard_get_stats(c->spread.context, tool->world.rank, &s) == ALLSHARD_OK) {
        as_tool_set(tool, "engine", as_json_text(s.engine, strlen(s.engine)));
        as_tool_set(tool, "engine_reason", as_json_text(s.engine_reason, strlen(s.engine_reason)));
        as_tool_set(tool, "plan_seconds", json_real(s.plan_s));
        as_tool_set(tool, "transfer_seconds", json_real(s.transfer_s));
        as_tool_set(tool, "durable_seconds", json_real(s.durable_s));
    }
}

static void tell(const as_copy *c, as_tool *tool)
{
    const as_tensors *t = &c->contents.tensors;
    size_t shards = count_shards(c->target);
    if (options.json) {
        tool->result = json_object();
        as_tool_set(tool, "source", as_json_text(c->source, strlen(c->source)));
        as_tool_set(tool, "target", as_json_text(c->target, strlen(c->target)));
        as_tool_set(tool, "tensors", json_integer((json_int_t)as_tensors_count(t)));
        as_tool_set(tool, "tensor_bytes", json_integer(c->bytes));
        as_tool_set(tool, "casts", as_casts_json(&values.casts, t));
        as_tool_set(tool, "other_files", json_integer(c->companions));
        as_tool_set(tool, "shards", json_integer((json_int_t)shards));
        as_tool_set(tool, "ranks", json_integer(tool->world.size));
        as_tool_set(tool, "read_seconds", json_real(c->reading));
        as_tool_set(tool, "write_seconds", json_real(c->writing));
        set_stats(c, tool);
        return;
    }
    as_print(&tool->out,
             "%s: %s tensors, %s, in %zu shard%s, and %d other file%s; %d rank%s read in %s, wrote "
             "in %s\n",
             c->target, as_grouped((int64_t)as_tensors_count(t)).text,
             as_human_bytes(c->bytes).text, shards, shards == 1 ? "" : "s", c->companions,
             c->companions == 1 ? "" : "s", tool->world.size, tool->world.size == 1 ? "" : "s",
             as_human_seconds(c->reading).text, as_human_seconds(c->writing).text);
}

static int copy(as_copy *c, as_tool *tool, as_error *e)
{
    int code =
        as_tool_usage(tool, as_layout_parse(&c->layout, options.layout, tool->world.size, e));
    if (code == AS_OK && tool->world.rank == 0) {
        (void)as_tool_usage(tool, refuse_same(c->source, c->target, e));
        (void)as_trace_check(options.trace, e);
    }
    as_log log = as_output_as_log(&tool->out);
    code = as_world_agree(&tool->world, e);
    code = code == AS_OK ? as_contents_share(&c->contents, &tool->world, c->source,
                                             options.source_pattern, &log, e)
                         : code;
    code = code == AS_OK ? as_tensors_check(&c->contents.tensors, e) : code;
    code = code == AS_OK ? as_casts_bytes(&values.casts, &c->contents.tensors, &c->bytes, e) : code;
    if (code == AS_OK) {
        (void)as_layout_fit(&c->layout, &c->contents.tensors, e);
        code = as_world_agree(&tool->world, e);
    }
    code = code == AS_OK ? read_source(c, tool, e) : code;
    code = code == AS_OK ? write_target(c, tool, e) : code;
    if ((code == AS_OK || code == AS_PENDING) && tool->world.rank == 0) {
        tell(c, tool);
    }
    return code;
}

static int run(as_tool *tool, const as_arg_result *args, as_error *e)
{
    as_copy c = {.source = args->operands[0], .target = args->operands[1]};
    int code = copy(&c, tool, e);
    as_spread_close(&c.spread);
    as_layout_free(&c.layout);
    as_contents_free(&c.contents);
    as_arg_list_free(&options.metadata);
    as_arg_list_free(&options.dtypes);
    return code;
}

const as_command as_cmd_copy = {
    .args = &arguments, .json = &options.json, .mpi = true, .check = check, .run = run};
