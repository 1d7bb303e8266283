/* SPDX-License-Identifier: Apache-2.0
 * allshard save-now: a run saves and goes on.
 */
#include "cli/control_words.h"
#include "series/control.h"

static struct {
    bool withdraw;
    bool json;
} options;

static const as_arg_option table[] = {
    {.name = "withdraw",
     .help = "a run that has not saved yet need not",
     .flag = &options.withdraw},
    {.name = "json", .help = "print one JSON object", .flag = &options.json},
    {.name = NULL},
};

static const as_arg_command arguments = {
    .name = "save-now",
    .usage = "ROOT [--withdraw] [--json]",
    .summary =
        "Asks the run that saves into ROOT for a checkpoint: the word 'save-now' goes into\n"
        "ROOT/allshard.control, where the run finds it within seconds; it saves after the step "
        "that it\n"
        "is at, and strikes the word out once the checkpoint is durable. `allshard wait` waits for "
        "one.\n"
        "It is no error if it was asked already.\n",
    .examples = "  allshard save-now runs/a\n"
                "  allshard save-now runs/a --withdraw\n",
    .least = 1,
    .most = 1,
    .operands = "one ROOT",
    .options = table,
};

static const as_word_texts texts = {
    .added = "a run is asked for a checkpoint",
    .there = "a run was asked for a checkpoint already, and it is not durable yet",
    .taken = "a run is not asked for a checkpoint any more",
    .missing = "no run was asked for a checkpoint, or it is durable already",
};

static int run(as_tool *tool, const as_arg_result *args, as_error *e)
{
    return as_word_run(tool, args->operands[0], AS_CONTROL_SAVE, options.withdraw, options.json,
                       &texts, e);
}

const as_command as_cmd_save_now = {.args = &arguments, .json = &options.json, .run = run};
