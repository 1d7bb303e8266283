/* SPDX-License-Identifier: Apache-2.0
 * allshard plan: what a save would do, without doing it.
 */
#include <string.h>

#include "base/checked.h"
#include "base/quote.h"
#include "base/size.h"
#include "cli/bench_usage.h"
#include "cli/command.h"
#include "cli/layout.h"
#include "cli/models.h"
#include "cli/plan_costs.h"
#include "cli/read_checkpoint.h"
#include "cli/spread.h"
#include "format/format.h"
#include "plan/simulate.h"
#include "tensor/dtype.h"

static struct {
    const char *model;
    const char *layout;
    const char *ranks;
    const char *max_shard_size;
    const char *pattern;
    const char *dtype;
    const char *block_size;
    bool simulate;
    bool json;
} options = {.layout = "whole", .max_shard_size = "5GB"};

static const as_arg_option table[] = {
    {.name = "model",
     .value = "NAME",
     .help = "instead of a PATH, synthetic:N (N small tensors) or one of",
     .choice = as_models_name,
     .text = &options.model},
    {.name = "layout",
     .value = "L",
     .help = "how the ranks hold the model; see `allshard copy --help`.\n"
             "Default whole",
     .text = &options.layout},
    {.name = "ranks",
     .value = "N",
     .help = "how many ranks save; default: as many as run this",
     .text = &options.ranks},
    {.name = "max-shard-size",
     .value = "SIZE",
     .help = "largest shard; default 5GB",
     .text = &options.max_shard_size},
    {.name = "pattern",
     .value = "P",
     .help = "with a PATH: which checkpoint, if the folder holds\n"
             "several; with --model: file name with {suffix}",
     .text = &options.pattern},
    {.name = "dtype",
     .value = "D",
     .help = "with --model: all tensors in this type, such as F32\n"
             "(without the scales of FP8 blocks)",
     .text = &options.dtype},
    {.name = "block-size",
     .value = "SIZE",
     .help = "unit of writing and exchange; default 4MiB",
     .text = &options.block_size},
    {.name = "simulate",
     .help = "also tell what the plan itself costs each rank: CPU time,\n"
             "memory, messages and bytes",
     .flag = &options.simulate},
    {.name = "json", .help = "print one JSON object", .flag = &options.json},
    {.name = NULL},
};

static const as_arg_command arguments = {
    .name = "plan",
    .usage = "(--model NAME | PATH) [--layout L] [--ranks N] [OPTIONS]",
    .summary = "Tells what a save would do, without doing it: the shards, who writes how much, and "
               "how many\n"
               "bytes go from rank to rank. The model is that of a checkpoint (only its headers "
               "are read) or a\n"
               "known one. One process plans for all ranks; what needs more memory than is free is "
               "refused.\n",
    .examples =
        "  allshard plan --model llama-3-70b --layout tp=8,pp=4 --ranks 32\n"
        "  allshard plan --model deepseek-v3 --layout ep=64 --ranks 64 --max-shard-size 10GB\n"
        "  allshard plan --model llama-3-405b --layout fsdp --ranks 16384 --simulate\n"
        "  allshard plan mixtral/ --layout fsdp --ranks 16 --json | jq .exchanged_bytes\n",
    .least = 0,
    .most = 1,
    .operands = "--model NAME or one PATH",
    .options = table,
};

enum { DEFAULT_BLOCK = 4 * 1024 * 1024, MOST_RANKS = 1000000 };

/* Values of options, read. */
static struct {
    int64_t ranks; /* 0: as many as run this */
    int64_t limit;
    int64_t block_size;
    int dtype;
} values = {.block_size = DEFAULT_BLOCK};

static int check(const as_arg_result *args, as_error *e)
{
    if ((options.model != NULL) == (args->operand_count == 1)) {
        return as_fail(e, AS_INVALID, 0,
                       "plan needs either --model NAME or one PATH; see `allshard plan --help`");
    }
    if (options.dtype) {
        values.dtype = as_dtype_from_name(options.dtype, strlen(options.dtype));
        if (!options.model || values.dtype == AS_DTYPE_NONE) {
            return as_fail(e, AS_INVALID, 0,
                           options.model
                               ? "--dtype is %s; it must be a type of safetensors, such as "
                                 "F32, BF16 or F8_E4M3"
                               : "--dtype %s goes with --model only",
                           as_quote(options.dtype, strlen(options.dtype)).text);
        }
    }
    int code = as_save_options_check(options.max_shard_size, options.pattern, e);
    code = code == AS_OK ? as_size_parse(options.max_shard_size, &values.limit, e) : code;
    code = code == AS_OK ? as_block_size_read(options.block_size, &values.block_size, e) : code;
    if (code == AS_OK && options.ranks) {
        code = as_args_number(options.ranks, "--ranks", 1, MOST_RANKS, &values.ranks, e);
    }
    return code;
}

/* ----------------------------------------------------------------- simulation */

typedef struct as_model {
    as_tensors tensors;
    as_layout layout;
    as_buffer hashes; /* as_hash[]: of the names */
} as_model;

static as_declaration declaration(const as_model *m, size_t i, const as_layout_piece *piece)
{
    const as_tensors *t = &m->tensors;
    return (as_declaration){
        .name = as_tensors_name(t, i),
        .box = {.dtype = as_tensors_row(t, i)->dtype,
                .ndim = as_tensors_row(t, i)->ndim,
                .shape = as_tensors_shape(t, i),
                .offset = piece->offset,
                .local = piece->shape,
                .flat = piece->flat,
                .flat_offset = piece->flat ? piece->flat_offset : 0,
                .flat_count = piece->flat ? piece->flat_count : 0},
        .order = (int64_t)i + 1,
    };
}

/* Called many times for each rank; check_declarations has looked at the tensors. */
static int declare(void *user, int rank, as_state *state, as_error *e)
{
    const as_model *m = user;
    const as_tensors *t = &m->tensors;
    const as_hash *hashes = (const as_hash *)(const void *)m->hashes.data;
    size_t first;
    size_t last;
    as_layout_range(&m->layout, t, rank, &first, &last);
    int code = AS_OK;
    for (size_t i = first; i < last && code == AS_OK; i++) {
        as_layout_piece piece;
        if (as_layout_get(&m->layout, t, i, rank, &piece)) {
            as_declaration d = declaration(m, i, &piece);
            code = as_state_add_known(state, &d, hashes[i], as_tensors_row(t, i)->bytes, e);
        }
    }
    return code;
}

/* Can each tensor be declared? Each is, once, whole; and its name is hashed. */
static int check_declarations(as_model *m, as_error *e)
{
    const as_tensors *t = &m->tensors;
    as_layout whole = {.kind = AS_LAYOUT_REPLICATED, .ranks = 1};
    int code = as_buffer_reserve(&m->hashes, as_tensors_count(t) * sizeof(as_hash), e);
    for (size_t i = 0; i < as_tensors_count(t) && code == AS_OK; i++) {
        as_layout_piece piece;
        (void)as_layout_get(&whole, t, i, 0, &piece);
        as_declaration d = declaration(m, i, &piece);
        as_state one;
        code = as_state_init(&one, "model", e);
        if (code == AS_OK) {
            code = as_state_add(&one, &d, e);
        }
        as_hash hash = code == AS_OK ? as_state_piece(&one, 0)->name : (as_hash){0};
        as_state_free(&one);
        if (code == AS_OK) {
            code = as_buffer_append(&m->hashes, &hash, sizeof hash, e);
        }
    }
    return code;
}

static int make_model(as_tool *tool, const as_arg_result *args, as_model *m, as_error *e)
{
    int ranks = values.ranks ? (int)values.ranks : tool->world.size;
    int code = as_tool_usage(tool, as_layout_plan(&m->layout, options.layout, ranks, e));
    if (code != AS_OK) {
        return code;
    }
    if (options.model) {
        code = as_tool_usage(tool, as_models_make(options.model, values.dtype, &m->tensors, e));
    } else {
        as_contents c = AS_CONTENTS_INIT;
        as_log log = as_output_as_log(&tool->out);
        code = as_contents_read(&c, args->operands[0], options.pattern, NULL, &log, e);
        m->tensors = c.tensors;
        c.tensors = AS_TENSORS_INIT;
        as_contents_free(&c);
    }
    code = code == AS_OK ? as_tensors_check(&m->tensors, e) : code;
    code = code == AS_OK ? check_declarations(m, e) : code;
    return code == AS_OK ? as_layout_fit(&m->layout, &m->tensors, e) : code;
}

/* --------------------------------------------------------------------- memory */

/* What a simulation was measured to take, rounded up: llama-3-405b and deepseek-v3 on 64 to 16384
 * ranks, synthetic:1000000 on 1024, in all layouts. Pieces that are not empty count, and the state
 * of one rank at a time. */
enum { PIECE_MEMORY = 300, BOX_MEMORY = 80, TENSOR_MEMORY = 900, RANK_MEMORY = 12288 };

/* Where columns lie side by side each block has bytes of all ranks, and a box for each of them. */
static bool add_boxes(const as_model *m, int64_t *needed)
{
    bool fits = true;
    for (size_t i = 0; i < as_tensors_count(&m->tensors) && fits; i++) {
        const as_tensor_row *row = as_tensors_row(&m->tensors, i);
        int64_t last = row->ndim ? as_tensors_shape(&m->tensors, i)[row->ndim - 1] : 1;
        int64_t boxes = row->bytes / values.block_size + 1;
        fits = as_mul_i64(boxes, as_min_i64(last, m->layout.ranks) * BOX_MEMORY, &boxes) &&
               as_add_i64(*needed, boxes, needed);
    }
    return fits;
}

/* All that ranks hold of the plan is here at the same time: better an answer than a kill. */
static int check_memory(const as_model *m, as_error *e)
{
    int64_t pieces = as_layout_held_count(&m->layout, &m->tensors);
    int64_t tensors = (int64_t)as_tensors_count(&m->tensors);
    int64_t available = as_proc_number("/proc/meminfo", "MemAvailable:");
    int64_t needed = 0;
    int64_t fixed = 0;
    bool fits = as_mul_i64(pieces, PIECE_MEMORY, &needed) &&
                as_mul_i64(tensors, TENSOR_MEMORY, &fixed) && as_add_i64(needed, fixed, &needed) &&
                as_mul_i64(m->layout.ranks, RANK_MEMORY, &fixed) &&
                as_add_i64(needed, fixed, &needed) &&
                (m->layout.kind != AS_LAYOUT_COLUMNS || add_boxes(m, &needed));
    needed = fits ? needed : INT64_MAX;
    if (available < 0 || needed <= available) { /* < 0: the kernel does not tell */
        return AS_OK;
    }
    return as_fail(e, AS_LIMIT, 0,
                   "a plan for %d ranks that declare %s pieces of %s tensors takes about %s of "
                   "memory in this one process, but %s are available; plan for fewer ranks, or on "
                   "a machine with more memory",
                   m->layout.ranks, as_grouped(pieces).text, as_grouped(tensors).text,
                   as_human_bytes(needed).text, as_human_bytes(available).text);
}

/* ---------------------------------------------------------------------- JSON */

static void make_json(as_tool *tool, const char *name, const as_model *m, const as_simulation *s)
{
    json_t *shards = json_array();
    for (int32_t f = 0; f < s->shard_count && shards; f++) {
        const char *file = s->file_names[f];
        json_t *one =
            json_pack("{s:o, s:I, s:I}", "name", as_json_text(file, strlen(file)), "bytes",
                      (json_int_t)s->file_bytes[f], "tensors", (json_int_t)s->file_tensors[f]);
        if (json_array_append_new(shards, one) != 0) {
            json_decref(shards);
            shards = NULL;
        }
    }
    json_t *writers = json_array();
    for (int r = 0; r < s->ranks && writers; r++) {
        if (json_array_append_new(writers, json_integer(s->writer_bytes[r])) != 0) {
            json_decref(writers);
            writers = NULL;
        }
    }
    tool->result = json_object();
    as_tool_set(tool, "model", as_json_text(name, strlen(name)));
    as_tool_set(tool, "layout", json_string(options.layout));
    as_tool_set(tool, "ranks", json_integer(s->ranks));
    as_tool_set(tool, "tensors", json_integer(s->tensor_count));
    as_tool_set(tool, "parameters", json_integer(m->tensors.numel));
    as_tool_set(tool, "total_size", json_integer(s->total_size));
    as_tool_set(tool, "shards", shards);
    as_tool_set(tool, "writer_bytes", writers);
    as_tool_set(tool, "exchanged_bytes", json_integer(s->exchanged_bytes));
}

/* ---------------------------------------------------------------------- text */

enum { MOST_LINES = 16 };

static void print_shards(const as_output *o, const as_simulation *s)
{
    for (int32_t f = 0; f < s->shard_count; f++) {
        if (s->shard_count > MOST_LINES && f == MOST_LINES / 2) {
            as_print(o, "  … %d more\n", s->shard_count - MOST_LINES);
            f = s->shard_count - MOST_LINES / 2;
        }
        as_print(o, "  %s  %s, %lld tensor%s\n", s->file_names[f],
                 as_human_bytes(s->file_bytes[f]).text, (long long)s->file_tensors[f],
                 s->file_tensors[f] == 1 ? "" : "s");
    }
}

static void print_writers(const as_output *o, const as_simulation *s)
{
    int64_t least = INT64_MAX;
    int64_t most = 0;
    int64_t sum = 0;
    int busy = 0;
    for (int r = 0; r < s->ranks; r++) {
        int64_t bytes = s->writer_bytes[r];
        least = bytes < least ? bytes : least;
        most = bytes > most ? bytes : most;
        sum += bytes;
        busy += bytes > 0;
    }
    as_print(o, "%d of %d ranks write: %s at least, %s at most, %s on average\n", busy, s->ranks,
             as_human_bytes(least).text, as_human_bytes(most).text,
             as_human_bytes(sum / s->ranks).text);
    for (int r = 0; r < s->ranks && s->ranks <= MOST_LINES; r++) {
        char bar[33] = "";
        int full = most > 0 ? (int)((double)s->writer_bytes[r] / (double)most * 32 + 0.5) : 0;
        memset(bar, '#', (size_t)full);
        as_print(o, "  rank %-3d %9s ", r, as_human_bytes(s->writer_bytes[r]).text);
        as_print_in(o, AS_CYAN, "%s\n", bar);
    }
    as_print(o, "%s go from rank to rank (%.1f %% of what is written)\n",
             as_human_bytes(s->exchanged_bytes).text,
             sum > 0 ? 100.0 * (double)s->exchanged_bytes / (double)sum : 0.0);
}

static void print_text(const as_output *o, const char *name, const as_model *m,
                       const as_simulation *s)
{
    as_print_in(o, AS_BOLD, "%s", name);
    as_print(o, ": %s tensors, %s parameters, %s, held by %d rank%s as %s\n",
             as_grouped(s->tensor_count).text, as_human_count((double)m->tensors.numel).text,
             as_human_bytes(s->total_size).text, s->ranks, s->ranks == 1 ? "" : "s",
             options.layout);
    as_print(o, "%d shard%s, limit %s\n", s->shard_count, s->shard_count == 1 ? "" : "s",
             options.max_shard_size);
    print_shards(o, s);
    print_writers(o, s);
}

/* ------------------------------------------------------------------- command */

static void report(as_tool *tool, const char *name, const as_model *m, const as_simulation *s,
                   double seconds)
{
    as_plan_costs costs = as_plan_costs_of(s, seconds);
    if (options.json) {
        make_json(tool, name, m, s);
    } else {
        print_text(&tool->out, name, m, s);
    }
    if (options.json && options.simulate) {
        as_plan_costs_json(tool, s, &costs);
    } else if (options.simulate) {
        as_plan_costs_print(&tool->out, s, &costs);
    }
}

static int plan(as_tool *tool, const as_arg_result *args, as_error *e)
{
    as_model m = {.tensors = AS_TENSORS_INIT, .layout = AS_LAYOUT_INIT};
    const char *name = options.model ? options.model : args->operands[0];
    int code = make_model(tool, args, &m, e);
    code = code == AS_OK ? check_memory(&m, e) : code;
    if (code == AS_OK) {
        as_save_request request = {
            .limit = values.limit,
            .pattern = options.model && options.pattern ? options.pattern : AS_DEFAULT_PATTERN,
            .format = &as_format_safetensors,
            .block_bytes = values.block_size,
        };
        as_simulation s = {0};
        double begin = as_seconds();
        code = as_simulate_save(m.layout.ranks, declare, &m, &request, &s, e);
        if (code == AS_OK) {
            report(tool, name, &m, &s, as_seconds() - begin);
        }
        as_simulation_free(&s);
    }
    as_buffer_free(&m.hashes);
    as_layout_free(&m.layout);
    as_tensors_free(&m.tensors);
    return code;
}

static int run(as_tool *tool, const as_arg_result *args, as_error *e)
{
    if (tool->world.rank == 0) {
        (void)plan(tool, args, e);
    }
    return as_world_agree(&tool->world, e);
}

const as_command as_cmd_plan = {
    .args = &arguments, .json = &options.json, .check = check, .run = run};
