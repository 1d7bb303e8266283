/* SPDX-License-Identifier: Apache-2.0
 * The command line tool: finds the sub-command, starts MPI if need be, prints the
 * outcome and ends with the same status on every rank.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <allshard.h>

#include "base/quote.h"
#include "cli/command.h"

static const as_command *const commands[] = {
    &as_cmd_copy, &as_cmd_ls,    &as_cmd_verify, &as_cmd_diff, &as_cmd_recover,  &as_cmd_plan,
    &as_cmd_demo, &as_cmd_bench, &as_cmd_info,   &as_cmd_log,  &as_cmd_latest,   &as_cmd_wait,
    &as_cmd_tag,  &as_cmd_best,  &as_cmd_prune,  &as_cmd_stop, &as_cmd_save_now, &as_cmd_hold,
};

enum { COMMAND_COUNT = sizeof commands / sizeof commands[0] };

static const char general_help[] =
    "Usage: allshard COMMAND [ARGUMENTS]\n"
    "\n"
    "Saves, loads and looks after Hugging Face checkpoints (safetensors) on any number of ranks.\n"
    "\n"
    "Commands:\n"
    "  copy      read a checkpoint as N ranks and save it anew, with other shards\n"
    "  ls        show shards, sizes, types and parameters; of a series, its checkpoints\n"
    "  verify    check every rule of the format, every byte's checksum, and stale files\n"
    "  diff      compare two checkpoints, however they are sharded\n"
    "  recover   finish or clear away what a killed save left\n"
    "  plan      tell what a save would do, without doing it\n"
    "  demo      save a known model with seeded random weights\n"
    "  bench     measure saves and loads here, beside the plainest loops\n"
    "  info      tell what this build and this machine can do, and why not\n"
    "\n"
    "For a series, a folder in which a run's checkpoints lie:\n"
    "  log       show its history, or add a note\n"
    "  latest    print the path of the newest good checkpoint\n"
    "  wait      wait until there is a checkpoint of a step\n"
    "  tag       tag a checkpoint, so that it is kept\n"
    "  best      print the paths of the checkpoints with the best metric\n"
    "  prune     remove the checkpoints that no rule keeps\n"
    "  stop      ask a run to save and stop\n"
    "  save-now  ask a run for a checkpoint\n"
    "  hold      hold back saves that can wait\n"
    "\n"
    "`allshard COMMAND --help` explains a command, with examples. `allshard --version` tells the\n"
    "version. All commands work plain and under mpirun or srun.\n"
    "\n"
    "Exit status: 0 good; 1 the checkpoint is bad, or differs, or there is none; 2 wrong usage;\n"
    "3 it could not be done.\n";

/* ------------------------------------------------------------------- statuses */

/* The exit status of a result code. */
static int status_of(int code)
{
    switch (code) {
    case AS_OK:
    case AS_PENDING: /* durable: the next save or `allshard recover` finishes the renames */
        return AS_STATUS_GOOD;
    case AS_FORMAT:
    case AS_CORRUPT:
    case AS_NAMES:
    case AS_MISMATCH:
        return AS_STATUS_BAD;
    default:
        return AS_STATUS_FAILED;
    }
}

/* ---------------------------------------------------------------- the outcome */

static void tell_error(as_tool *tool, const as_error *e)
{
    if (e->code == AS_PENDING) {
        as_say_warning(&tool->out, "%s", as_error_text(e));
    } else if (e->code != AS_OK && e->rank > 0) {
        as_say_error(&tool->out, "%s (rank %d on %s)", as_error_text(e), e->rank, e->host);
    } else if (e->code != AS_OK) {
        as_say_error(&tool->out, "%s", as_error_text(e));
    }
}

/* Prints the JSON object; false if that failed. */
static bool tell_json(as_tool *tool, const as_error *e, int status)
{
    if (!tool->out.json || !tool->out.speaks) {
        json_decref(tool->result);
        return true;
    }
    if (e->code != AS_OK && e->code != AS_PENDING) {
        json_decref(tool->result);
        tool->result = json_pack("{s:o}", "error", as_json_error(e));
    }
    if (e->code == AS_PENDING) {
        tool->result = tool->result ? tool->result : json_object();
        as_tool_set(tool, "pending", json_true());
    }
    as_tool_set(tool, "ok", json_boolean(status == AS_STATUS_GOOD));
    return as_output_json(tool->result);
}

/* After a rank has stalled, by all others: one of them tells it, and when it has had the time to, the
 * job ends, with the rank that does not end by itself. */
static void end_lost(const as_tool *tool, int status)
{
    if (!tool->out.speaks) {
        const struct timespec while_told = {.tv_sec = 3};
        (void)nanosleep(&while_told, NULL);
    }
    as_world_abort(status);
}

/* Prints what is left to print and ends MPI. All ranks leave with the worst status of any, and only
 * when all have printed: a launcher may kill the others as soon as one has failed. */
static int finish(as_tool *tool, as_error *e)
{
    int status = tool->usage ? AS_STATUS_USAGE : status_of(e->code);
    if (status == AS_STATUS_GOOD && tool->bad) {
        status = AS_STATUS_BAD;
    }
    if (status == AS_STATUS_BAD && tool->failed) {
        status = AS_STATUS_FAILED;
    }
    if (as_world_is_lost()) {
        tool->out.speaks = tool->world.rank == (e->rank == 0);
    }
    tell_error(tool, e);
    if (!tell_json(tool, e, status) || !as_output_flush(&tool->out)) {
        as_say_error(&tool->out, "the output could not be written");
        status = AS_STATUS_FAILED;
    }
    if (as_world_is_lost()) {
        end_lost(tool, status);
    }
    /* Wrong usage is found by some ranks, and told to the others as an error like any. */
    int64_t worst[2] = {status, tool->usage};
    as_error ignored = AS_ERROR_INIT;
    if (as_world_max(&tool->world, worst, 2, &ignored) == AS_OK) {
        status = worst[1] ? AS_STATUS_USAGE : (int)worst[0];
    }
    as_error_clear(&ignored);
    as_error_clear(e);
    as_output_close(&tool->out);
    as_world_stop(&tool->world);
    return status;
}

/* ------------------------------------------------------------------- commands */

/* Starts MPI if need be; then all ranks have the error of any. A usage error on a single process
 * needs no MPI; of several processes rank 0 tells it. */
static void meet(as_tool *tool, bool mpi, as_error *e)
{
    if (e->code != AS_OK && as_world_launched_size() == 1) {
        return;
    }
    as_error start = AS_ERROR_INIT;
    if (as_world_start(&tool->world, mpi && e->code == AS_OK, &start) != AS_OK) {
        as_error_move(e, &start);
        return;
    }
    tool->out.speaks = tool->world.rank == 0;
    (void)as_world_agree(&tool->world, e);
}

static int prepare(as_tool *tool, const as_command *command, int argc, char **argv,
                   as_arg_result *args, as_error *e)
{
    int code = as_args_parse(command->args, argc, argv, args, e);
    if (code == AS_OK && !args->help && command->check) {
        code = command->check(args, e);
    }
    return as_tool_usage(tool, code);
}

static int run_command(as_tool *tool, const as_command *command, int argc, char **argv)
{
    as_arg_result args = {0};
    as_error e = AS_ERROR_INIT;
    (void)prepare(tool, command, argc, argv, &args, &e);
    if (args.help) {
        if (tool->out.speaks) {
            as_args_help(command->args, stdout);
        }
        as_arg_result_free(&args);
        return finish(tool, &e);
    }
    tool->out.json = command->json && *command->json;
    meet(tool, command->mpi, &e);
    if (e.code == AS_OK) {
        (void)command->run(tool, &args, &e);
    }
    as_arg_result_free(&args);
    return finish(tool, &e);
}

static const as_command *find_command(const char *name)
{
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (strcmp(name, commands[i]->args->name) == 0) {
            return commands[i];
        }
    }
    return NULL;
}

static int unknown_command(as_tool *tool, const char *name)
{
    const char *names[COMMAND_COUNT];
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        names[i] = commands[i]->args->name;
    }
    const char *near = as_args_nearest(name, names, COMMAND_COUNT, sizeof names[0]);
    as_error e = AS_ERROR_INIT;
    int code =
        as_fail(&e, AS_INVALID, 0, "there is no command %s; %s%s%s`allshard --help` lists all",
                as_quote(name, strlen(name)).text, near ? "did you mean " : "", near ? near : "",
                near ? "? " : "");
    (void)as_tool_usage(tool, code);
    meet(tool, false, &e);
    return finish(tool, &e);
}

static int print_text(as_tool *tool, const char *text)
{
    as_error e = AS_ERROR_INIT;
    if (tool->out.speaks) {
        (void)fputs(text, stdout);
    }
    return finish(tool, &e);
}

int main(int argc, char **argv)
{
    /* A reader of stdout that goes away is an error to be told, not a death of one rank. */
    (void)signal(SIGPIPE, SIG_IGN);
    /* Likewise a file that passes the limit of the shell (ulimit -f). */
    (void)signal(SIGXFSZ, SIG_IGN);
    as_tool tool = {.world = {.rank = 0, .size = 1}};
    as_output_open(&tool.out, as_world_launched_rank() == 0);
    const char *name = argc > 1 ? argv[1] : "";
    if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0) {
        char text[64];
        (void)snprintf(text, sizeof text, "allshard %s\n", allshard_version());
        return print_text(&tool, text);
    }
    bool asks = strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0;
    if (asks && argc > 2 && find_command(argv[2])) {
        char *help[] = {"--help"};
        return run_command(&tool, find_command(argv[2]), 1, help);
    }
    if (asks) {
        return print_text(&tool, general_help);
    }
    if (argc < 2) {
        as_error e = AS_ERROR_INIT;
        int code = as_fail(&e, AS_INVALID, 0, "a command is missing; `allshard --help` lists all");
        (void)as_tool_usage(&tool, code);
        meet(&tool, false, &e);
        return finish(&tool, &e);
    }
    const as_command *command = find_command(name);
    return command ? run_command(&tool, command, argc - 2, argv + 2) : unknown_command(&tool, name);
}
