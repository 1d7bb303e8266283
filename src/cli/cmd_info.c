/* SPDX-License-Identifier: Apache-2.0
 * allshard info: what this build and this machine can do.
 */
#include <string.h>
#include <unistd.h>

#include <allshard.h>

#include "cli/info.h"

static struct {
    bool cuda;
    bool json;
} options;

static const as_arg_option table[] = {
    {.name = "cuda",
     .help = "initialise CUDA, which may take seconds and some device\n"
             "memory, and show its devices",
     .flag = &options.cuda},
    {.name = "json", .help = "print one JSON object", .flag = &options.json},
    {.name = NULL},
};

static const as_arg_command arguments = {
    .name = "info",
    .usage = "[DIR] [--cuda] [--json]",
    .summary = "Tells what this build and this machine can do, and for each thing that it cannot "
               "why not: MPI,\n"
               "memory shared between ranks, ways to the storage of a folder (the current one by "
               "default),\n"
               "CUDA, other formats, limits. A small file is made in the folder to try O_DIRECT, "
               "and removed\n"
               "at once. On several ranks, what rank 0 sees.\n",
    .examples = "  allshard info\n"
                "  allshard info /scratch/me --cuda --json\n"
                "  mpirun -n 4 allshard info /scratch/me\n",
    .least = 0,
    .most = 1,
    .operands = "no more than one DIR",
    .options = table,
};

static void tell_build(const as_info *i)
{
    char host[256] = "?";
    (void)gethostname(host, sizeof host - 1);
    as_print_in(&i->tool->out, AS_BOLD, "allshard %s on %s\n", allshard_version(), host);
    as_tool_set(i->tool, "version", json_string(allshard_version()));
    as_tool_set(i->tool, "host", as_json_text(host, strlen(host)));
}

static int run(as_tool *tool, const as_arg_result *args, as_error *e)
{
    as_info info = {.tool = tool,
                    .folder = args->operand_count ? args->operands[0] : ".",
                    .cuda = options.cuda};
    bool first = tool->world.rank == 0;
    if (first) {
        (void)as_info_try_folder(&info, e);
    }
    if (as_world_agree(&tool->world, e) != AS_OK) {
        return e->code;
    }
    if (first) {
        tool->result = json_object();
        tell_build(&info);
    }
    int code = as_info_mpi(&info, e);
    if (code == AS_OK && first) {
        as_info_storage(&info);
        as_info_cuda(&info);
        as_info_formats(&info);
        as_info_limits(&info);
    }
    return code;
}

const as_command as_cmd_info = {.args = &arguments, .json = &options.json, .run = run};
