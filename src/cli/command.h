/* SPDX-License-Identifier: Apache-2.0
 * What main.c and the sub-commands (cmd_*.c) agree on.
 */
#ifndef ALLSHARD_CLI_COMMAND_H
#define ALLSHARD_CLI_COMMAND_H

#include <jansson.h>
#include <stdbool.h>

#include "base/error.h"
#include "cli/args.h"
#include "cli/output.h"
#include "cli/world.h"

/* Exit statuses, the same on all ranks. */
enum as_status {
    AS_STATUS_GOOD = 0,
    AS_STATUS_BAD = 1,   /* the checkpoint was read and is bad, or differs */
    AS_STATUS_USAGE = 2, /* wrong usage, size, pattern or layout */
    AS_STATUS_FAILED = 3 /* it could not be done */
};

typedef struct as_tool {
    as_world world;
    as_output out;
    bool usage;     /* set by as_tool_usage: the error is one of usage */
    bool bad;       /* set by a command, on all ranks: the status is AS_STATUS_BAD */
    bool failed;    /* set by a command with an error of damage: the status is AS_STATUS_FAILED */
    json_t *result; /* set by a command, on the rank that speaks: what --json prints */
} as_tool;

typedef struct as_command {
    const as_arg_command *args;
    bool *json; /* the option --json of its table; NULL: it has none */
    bool mpi;   /* it opens an allshard context */

    /* Checks the values of options that need no MPI, before anything is read or made. May be
     * NULL. AS_INVALID, AS_SIZE, AS_PATTERN. */
    int (*check)(const as_arg_result *args, as_error *e);

    /* Collective. Returns the same code on all ranks; main prints the error of a failure. */
    int (*run)(as_tool *tool, const as_arg_result *args, as_error *e);
} as_command;

extern const as_command as_cmd_copy;
extern const as_command as_cmd_ls;
extern const as_command as_cmd_verify;
extern const as_command as_cmd_diff;
extern const as_command as_cmd_recover;
extern const as_command as_cmd_plan;
extern const as_command as_cmd_demo;
extern const as_command as_cmd_bench;
extern const as_command as_cmd_info;
extern const as_command as_cmd_log;
extern const as_command as_cmd_latest;
extern const as_command as_cmd_wait;
extern const as_command as_cmd_tag;
extern const as_command as_cmd_best;
extern const as_command as_cmd_prune;
extern const as_command as_cmd_stop;
extern const as_command as_cmd_save_now;
extern const as_command as_cmd_hold;

/* The code of an argument's reader, passed on: if it says that the argument is wrong, the status
 * will be AS_STATUS_USAGE. The same codes out of the library tell of what lies on disk. */
int as_tool_usage(as_tool *tool, int code);

/* Puts a value into the tool's JSON object, taking it over; nothing where there is no object. */
void as_tool_set(as_tool *tool, const char *key, json_t *value);

#endif
