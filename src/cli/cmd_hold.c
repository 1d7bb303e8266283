/* SPDX-License-Identifier: Apache-2.0
 * allshard hold: saves of a run that can wait, wait.
 */
#include "cli/control_words.h"
#include "series/control.h"

static struct {
    bool release;
    bool json;
} options;

static const as_arg_option table[] = {
    {.name = "release", .help = "saves are made as ever again", .flag = &options.release},
    {.name = "json", .help = "print one JSON object", .flag = &options.json},
    {.name = NULL},
};

static const as_arg_command arguments = {
    .name = "hold",
    .usage = "ROOT [--release] [--json]",
    .summary =
        "Holds back saves into ROOT that can wait, as while its file system is in trouble: those "
        "for\n"
        "steps, seconds, overhead and the time between failures. Saves for signals, the job's end, "
        "stop\n"
        "and save-now are made. It holds until --release, also for later runs: the word 'hold' is "
        "in\n"
        "ROOT/allshard.control. It is no error if it was so already.\n",
    .examples = "  allshard hold runs/a\n"
                "  allshard hold runs/a --release\n",
    .least = 1,
    .most = 1,
    .operands = "one ROOT",
    .options = table,
};

static const as_word_texts texts = {
    .added = "saves that can wait are held back until `allshard hold ROOT --release`",
    .there = "saves were held back already",
    .taken = "saves are not held back any more",
    .missing = "saves were not held back",
};

static int run(as_tool *tool, const as_arg_result *args, as_error *e)
{
    return as_word_run(tool, args->operands[0], AS_CONTROL_HOLD, options.release, options.json,
                       &texts, e);
}

const as_command as_cmd_hold = {.args = &arguments, .json = &options.json, .run = run};
