/* SPDX-License-Identifier: Apache-2.0
 * allshard bench: how fast saves and loads are here, by the rules of those who measure storage.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/quote.h"
#include "cli/bench.h"
#include "cli/bench_report.h"
#include "cli/models.h"
#include "cli/options.h"
#include "tensor/dtype.h"

static struct {
    const char *model;
    const char *size;
    const char *scale;
    as_arg_list layouts;
    as_arg_list dtypes;
    as_save_arguments save;
    as_isave_arguments isave;
    const char *repeat;
    const char *load_ranks;
    const char *trace;
    bool baseline;
    bool nonblocking;
    bool keep;
    const char *device;
    bool markdown;
    bool json;
} options = {.repeat = "7", .scale = "1"};

static const as_arg_option table[] = {
    {.name = "model",
     .value = "NAME",
     .help = "what is saved: a known model, or the weights and the\n"
             "optimizer of a checkpoint workload of MLPerf Storage",
     .choice = as_bench_model_name,
     .text = &options.model},
    {.name = "size",
     .value = "SIZE",
     .help = "or a plain model of so many bytes; default 1GiB",
     .text = &options.size},
    {.name = "scale",
     .value = "1/N",
     .help = "with --model mlperf:…: so much of it",
     .text = &options.scale},
    {.name = "layout",
     .value = "L",
     .help = "how the ranks hold the model; see `allshard copy --help`.\n"
             "May be given several times; default whole, for a\n"
             "workload its own",
     .list = &options.layouts},
    {.name = "dtype",
     .value = "FROM=TO",
     .help = "save tensors of type FROM as TO, such as F32=BF16; may\n"
             "be given several times. A model of a --size is in the\n"
             "first FROM, else in BF16",
     .list = &options.dtypes},
    {.name = "repeat",
     .value = "N",
     .help = "repetitions, after a first save and load that do not\n"
             "count; default 7",
     .text = &options.repeat},
    {.name = "load-ranks",
     .value = "M",
     .help = "the first M ranks alone load, in the same layout for M\n"
             "ranks, what all have saved",
     .text = &options.load_ranks},
    {.name = "baseline",
     .help = "by turns, move as many bytes with the plainest loops,\n"
             "with and without O_DIRECT, and give the ratios",
     .flag = &options.baseline},
    {.name = "nonblocking",
     .help = "measure nonblocking saves beside a compute loop, by\n"
             "turns with a plain memcpy, the loop alone, and saves;\n"
             "loads compare, and are not measured",
     .flag = &options.nonblocking},
    {.name = "device",
     .value = "CUDA",
     .help = "hold the tensors in the memory of CUDA devices: cuda, which\n"
             "deals those of a host to its ranks, or cuda:0, cuda:1, ….\n"
             "Then --engine may be gds, too: GPU-direct by cuFile",
     .text = &options.device},
    AS_ISAVE_ROWS(options.isave),
    AS_SAVE_ROWS(options.save),
    {.name = "trace",
     .value = "FILE",
     .help = "write what each rank did and when, for Perfetto or\n"
             "chrome://tracing",
     .text = &options.trace},
    {.name = "keep", .help = "leave the last checkpoint of each layout", .flag = &options.keep},
    {.name = "markdown", .help = "print tables in Markdown", .flag = &options.markdown},
    {.name = "json", .help = "print one JSON object, with all samples", .flag = &options.json},
    {.name = NULL},
};

static const as_arg_command arguments = {
    .name = "bench",
    .usage = "DIR [--model NAME | --size SIZE] [--layout L]... [OPTIONS]",
    .summary =
        "Measures saves and cold loads of a model of random bits in DIR, from all ranks. A save's "
        "clock\n"
        "runs until the checkpoint is durable (fsync and rename) on the slowest rank; old files "
        "are removed\n"
        "and caches dropped outside of it. Every load is compared with what was saved. It works "
        "in a folder\n"
        "of its own in DIR, which it removes in the end. DIR is made if it is not there.\n",
    .examples =
        "  allshard bench /scratch/x --size 2GiB --baseline\n"
        "  mpirun -n 4 allshard bench /scratch/x --layout whole --layout fsdp --baseline --json\n"
        "  srun -n 64 allshard bench /lustre/x --model mlperf:70b --scale 1/4\n"
        "  mpirun -n 4 allshard bench /scratch/x --nonblocking --layout fsdp --trace fsdp.json\n",
    .least = 1,
    .most = 1,
    .operands = "one DIR",
    .options = table,
};

enum { MOST_REPEAT = 1000, MOST_SCALE = 1000000 };
static const char default_size[] = "1GiB";

/* Values of options, read. */
static struct {
    allshard_save_options save;
    int64_t memory;
    int64_t snapshot_memory;
    int64_t repeat;
    int64_t load_ranks; /* 0: all */
    int64_t size;
    int64_t scale;
    as_casts casts;
    int dtype; /* of a model of a size */
    const as_workload *workload;
} values = {.save = {.size = sizeof(allshard_save_options)}, .dtype = AS_BF16};

static int read_scale(as_error *e)
{
    const char *text = options.scale;
    const char *number = strncmp(text, "1/", 2) == 0 ? text + 2 : text;
    as_error inner = AS_ERROR_INIT;
    int code = as_args_number(number, "--scale", 1, MOST_SCALE, &values.scale, &inner);
    as_error_clear(&inner);
    if (code != AS_OK || (number == text && values.scale != 1)) {
        return as_fail(e, AS_INVALID, 0, "--scale is %s; it must be 1/N, N from 1 to %d",
                       as_quote(text, strlen(text)).text, (int)MOST_SCALE);
    }
    if (values.scale > 1 && !values.workload) {
        return as_fail(e, AS_INVALID, 0,
                       "--scale goes with --model mlperf:8b and the like; for another model take "
                       "--size");
    }
    return AS_OK;
}

static int check(const as_arg_result *args, as_error *e)
{
    (void)args;
    if (options.model && options.size) {
        return as_fail(e, AS_INVALID, 0, "--model and --size exclude each other; give one");
    }
    if (options.markdown && options.json) {
        return as_fail(e, AS_INVALID, 0, "--markdown and --json exclude each other; give one");
    }
    if (options.nonblocking && (options.baseline || options.load_ranks)) {
        return as_fail(e, AS_INVALID, 0, "--nonblocking and %s exclude each other; give one",
                       options.baseline ? "--baseline" : "--load-ranks");
    }
    values.workload = options.model ? as_workload_find(options.model) : NULL;
    if (options.model && !values.workload && strncmp(options.model, "mlperf:", 7) == 0) {
        return as_fail(e, AS_INVALID, 0,
                       "there is no workload named %s; it must be mlperf:8b, mlperf:70b, "
                       "mlperf:405b or mlperf:1t",
                       as_quote(options.model, strlen(options.model)).text);
    }
    int code = read_scale(e);
    int number;
    code = code == AS_OK ? as_bench_memory_read(options.device, &number, e) : code;
    options.save.device = options.device != NULL;
    code = code == AS_OK ? as_save_arguments_read(&options.save, &values.save, &values.memory, e)
                         : code;
    code = code == AS_OK ? as_isave_arguments_read(&options.isave, options.nonblocking,
                                                   &values.save, &values.snapshot_memory, e)
                         : code;
    code = code == AS_OK
               ? as_args_number(options.repeat, "--repeat", 1, MOST_REPEAT, &values.repeat, e)
               : code;
    if (code == AS_OK && options.load_ranks) {
        code =
            as_args_number(options.load_ranks, "--load-ranks", 1, INT32_MAX, &values.load_ranks, e);
    }
    if (code == AS_OK && options.load_ranks && options.trace) {
        code = as_fail(e, AS_INVALID, 0,
                       "--load-ranks and --trace exclude each other; give one: a trace is of ranks "
                       "that both save and load");
    }
    code = code == AS_OK ? as_casts_read(&values.casts, &options.dtypes, e) : code;
    if (code == AS_OK && options.dtypes.count > 0) {
        as_casts first = {0};
        as_arg_list one = {.items = options.dtypes.items, .count = 1};
        code = as_casts_read(&first, &one, e);
        for (int from = 1; from < AS_DTYPE_END; from++) {
            values.dtype = first.to[from] ? from : values.dtype;
        }
    }
    if (code == AS_OK && !options.model) {
        code =
            as_args_memory(options.size ? options.size : default_size, "--size", &values.size, e);
    }
    return code;
}

/* ------------------------------------------------------------------- preparing */

static int make_model(as_bench *b, as_error *e)
{
    if (values.workload) {
        b->workload = values.workload;
        b->model = values.workload->name;
        return as_workload_make(values.workload, values.scale, &b->tensors, e);
    }
    if (options.model) {
        b->model = options.model;
        return as_models_make(options.model, 0, &b->tensors, e);
    }
    b->model = options.size ? options.size : default_size;
    return as_sized_make(values.size, values.dtype, &b->tensors, e);
}

static int make_layout(as_bench_layout *l, const char *name, int ranks, int load_ranks, as_error *e)
{
    l->name = name;
    int code = as_layout_parse(&l->layout, name, ranks, e);
    if (code == AS_OK && l->layout.kind == AS_LAYOUT_PARALLEL && load_ranks != ranks) {
        return as_fail(e, AS_INVALID, 0,
                       "--layout %s is for %d rank%s, the product of its factors, and --load-ranks "
                       "is %d; give --load-ranks %d, or a layout without factors",
                       name, ranks, ranks == 1 ? "" : "s", load_ranks, ranks);
    }
    return code == AS_OK ? as_layout_parse(&l->load_layout, name, load_ranks, e) : code;
}

static int make_layouts(as_bench *b, as_error *e)
{
    int ranks = b->tool->world.size;
    int load_ranks = b->load_ranks > 0 ? b->load_ranks : ranks;
    if (load_ranks > ranks) {
        return as_fail(e, AS_INVALID, 0,
                       "--load-ranks is %d, but %d rank%s; it must be a number from 1 to %d",
                       load_ranks, ranks, ranks == 1 ? " runs" : "s run", ranks);
    }
    bool own = values.workload && values.workload->ranks == ranks;
    const char *const usual = own ? values.workload->layout : "whole";
    const char *const *names = options.layouts.count > 0 ? options.layouts.items : &usual;
    size_t count = options.layouts.count > 0 ? options.layouts.count : 1;
    b->layouts = calloc(count, sizeof *b->layouts);
    if (!b->layouts) {
        return as_fail_nomem(e);
    }
    b->layout_count = count;
    int code = AS_OK;
    for (size_t i = 0; i < count && code == AS_OK; i++) {
        code = make_layout(&b->layouts[i], names[i], ranks, load_ranks, e);
    }
    return code;
}

/* What needs memory and no more. */
static int fit_layouts(as_bench *b, as_error *e)
{
    int code = AS_OK;
    for (size_t i = 0; i < b->layout_count && code == AS_OK; i++) {
        as_bench_layout *l = &b->layouts[i];
        code = as_layout_fit(&l->layout, &b->tensors, e);
        code = code == AS_OK ? as_layout_fit(&l->load_layout, &b->tensors, e) : code;
        l->samples = calloc(b->repeat, sizeof *l->samples);
        if (code == AS_OK && !l->samples) {
            code = as_fail_nomem(e);
        }
    }
    return code;
}

static void free_all(as_bench *b)
{
    for (size_t i = 0; i < b->layout_count; i++) {
        as_layout_free(&b->layouts[i].layout);
        as_layout_free(&b->layouts[i].load_layout);
        free(b->layouts[i].samples);
    }
    free(b->layouts);
    as_bench_cpus_free(&b->cpus);
    as_tensors_free(&b->tensors);
    as_arg_list_free(&options.layouts);
    as_arg_list_free(&options.dtypes);
}

/* --------------------------------------------------------------------- command */

static void on_signal(int number)
{
    (void)number;
    as_bench_stopped = 1;
}

/* The first ^C ends the run at the next step, with the folder cleared; a second one kills. */
static void watch_signals(bool on)
{
    struct sigaction action = {.sa_handler = on ? on_signal : SIG_DFL,
                               .sa_flags = on ? (int)(SA_RESETHAND | SA_RESTART) : 0};
    (void)sigemptyset(&action.sa_mask);
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
}

static int run(as_tool *tool, const as_arg_result *args, as_error *e)
{
    as_bench b = {
        .tool = tool,
        .directory = args->operands[0],
        .tensors = AS_TENSORS_INIT,
        .save = values.save,
        .casts = values.casts,
        .load_checksum = as_load_checksum(&options.save),
        .memory = values.memory,
        .snapshot_memory = values.snapshot_memory,
        .nonblocking = options.nonblocking,
        .repeat = (size_t)values.repeat,
        .load_ranks = (int)values.load_ranks,
        .baseline = options.baseline,
        .keep = options.keep,
        .trace = options.trace,
        .device = options.device,
        .folder = AS_BENCH_FOLDER_INIT,
        .cpus = AS_BENCH_CPUS_INIT,
    };
    int code = as_tool_usage(tool, make_layouts(&b, e));
    code = code == AS_OK ? as_tool_usage(tool, make_model(&b, e)) : code;
    code = code == AS_OK ? as_casts_bytes(&b.casts, &b.tensors, &b.stored_bytes, e) : code;
    if (code == AS_OK) {
        (void)fit_layouts(&b, e);
        if (tool->world.rank == 0) {
            (void)as_trace_check(b.trace, e);
        }
    }
    code = as_world_agree(&tool->world, e);
    if (code == AS_OK) {
        watch_signals(true);
        code = as_bench_run(&b, e);
        watch_signals(false);
    }
    if (code == AS_OK && tool->world.rank == 0) {
        (void)(options.json ? as_bench_json(&b, e) : as_bench_text(&b, options.markdown, e));
    }
    code = code == AS_OK ? as_world_agree(&tool->world, e) : code;
    free_all(&b);
    return code;
}

const as_command as_cmd_bench = {
    .args = &arguments, .json = &options.json, .mpi = true, .check = check, .run = run};
