/* SPDX-License-Identifier: Apache-2.0
 * allshard stop: a run saves and stops.
 */
#include "cli/control_words.h"
#include "series/control.h"

static struct {
    bool withdraw;
    bool json;
} options;

static const as_arg_option table[] = {
    {.name = "withdraw",
     .help = "a run that has not stopped yet is to go on",
     .flag = &options.withdraw},
    {.name = "json", .help = "print one JSON object", .flag = &options.json},
    {.name = NULL},
};

static const as_arg_command arguments = {
    .name = "stop",
    .usage = "ROOT [--withdraw] [--json]",
    .summary =
        "Asks the run that saves into ROOT to save and stop, and not to be started again: the "
        "word\n"
        "'stop' goes into ROOT/allshard.control, where the run finds it within seconds; it stops "
        "after\n"
        "the step that it is at, and strikes the word out. If none runs, the next one stops as it\n"
        "begins. It is no error if it was asked already.\n",
    .examples = "  allshard stop runs/a\n"
                "  allshard stop runs/a --withdraw\n",
    .least = 1,
    .most = 1,
    .operands = "one ROOT",
    .options = table,
};

static const as_word_texts texts = {
    .added = "a run is asked to save and stop",
    .there = "a run was asked to stop already, and has not done so yet",
    .taken = "a run is not asked to stop any more",
    .missing = "no run was asked to stop, or it has stopped already",
};

static int run(as_tool *tool, const as_arg_result *args, as_error *e)
{
    return as_word_run(tool, args->operands[0], AS_CONTROL_STOP, options.withdraw, options.json,
                       &texts, e);
}

const as_command as_cmd_stop = {.args = &arguments, .json = &options.json, .run = run};
