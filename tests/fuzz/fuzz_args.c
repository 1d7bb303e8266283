/* SPDX-License-Identifier: Apache-2.0
 * Fuzzes the command line of every sub-command up to where it would begin to work. The first
 * byte chooses the sub-command, each line is an argument.
 */
#include "cli/command.h"
#include "fuzz.h"

enum { MOST_ARGUMENTS = 64 };

static const as_command *const commands[] = {
    &as_cmd_copy,    &as_cmd_ls,   &as_cmd_verify, &as_cmd_diff,
    &as_cmd_recover, &as_cmd_plan, &as_cmd_demo,   &as_cmd_bench,
};

enum { COMMANDS = sizeof commands / sizeof commands[0] };

/* Options keep what was given in static variables, whose first values are the defaults. */
typedef struct defaults {
    const char *text[64];
    bool saved;
} defaults;

static void save_options(const as_arg_option *o, defaults *d)
{
    for (size_t i = 0; o[i].name && !d->saved; i++) {
        MUST(i < sizeof d->text / sizeof d->text[0]);
        d->text[i] = o[i].text ? *o[i].text : NULL;
    }
    d->saved = true;
}

static void reset_options(const as_arg_option *o, const defaults *d)
{
    for (size_t i = 0; o[i].name; i++) {
        if (o[i].flag) {
            *o[i].flag = false;
        }
        if (o[i].text) {
            *o[i].text = d->text[i];
        }
        if (o[i].list) {
            as_arg_list_free(o[i].list);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static defaults kept[COMMANDS];
    if (size == 0) {
        return 0;
    }
    size_t which = data[0] % COMMANDS;
    const as_command *command = commands[which];
    save_options(command->args->options, &kept[which]);
    char *text = fuzz_text(data + 1, size - 1);
    char *argv[MOST_ARGUMENTS + 1];
    int argc = 0;
    for (char *at = text; at && argc < MOST_ARGUMENTS;) {
        char *end = strchr(at, '\n');
        argv[argc++] = at;
        if (end) {
            *end++ = '\0';
        }
        at = end;
    }
    argv[argc] = NULL;
    as_error e = AS_ERROR_INIT;
    as_arg_result args;
    int code = as_args_parse(command->args, argc, argv, &args, &e);
    if (code == AS_OK && !args.help) {
        MUST(args.operand_count >= command->args->least);
        MUST(args.operand_count <= command->args->most);
        code = command->check ? command->check(&args, &e) : AS_OK;
    }
    MUST(code == AS_OK || code == AS_INVALID || code == AS_SIZE || code == AS_PATTERN);
    fuzz_end(code, &e);
    as_arg_result_free(&args);
    reset_options(command->args->options, &kept[which]);
    free(text);
    return 0;
}
