/* SPDX-License-Identifier: Apache-2.0
 * Command lines: each sub-command describes its options in a table, from which
 * they are parsed and its --help is written.
 */
#ifndef ALLSHARD_CLI_ARGS_H
#define ALLSHARD_CLI_ARGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/error.h"

/* What an option that may be given several times collects; the strings are those of argv. */
typedef struct as_arg_list {
    const char **items; /* heap */
    size_t count;
} as_arg_list;

typedef struct as_arg_option {
    const char *name;  /* without the dashes; NULL ends the table */
    const char *value; /* what --help calls its value; NULL: it takes none */
    const char *help;  /* one or more lines, put apart by \n */
    /* The values that it takes, for --help; NULL past the last. May be NULL. */
    const char *(*choice)(size_t i);
    /* One of these: */
    bool *flag;
    const char **text; /* the last one given counts */
    as_arg_list *list;
} as_arg_option;

typedef struct as_arg_command {
    const char *name;
    const char *usage;    /* what follows "allshard NAME " in the usage line */
    const char *summary;  /* what it does, in whole lines */
    const char *examples; /* whole lines, indented */
    int least, most;      /* how many operands it takes */
    const char *operands; /* what they are, for errors: "SRC and DST" */
    const as_arg_option *options;
} as_arg_command;

typedef struct as_arg_result {
    const char **operands; /* heap; strings of argv */
    int operand_count;
    bool help; /* --help was given; nothing else was checked */
} as_arg_result;

/* Parses the arguments after the sub-command's name. `--name VALUE` and `--name=VALUE`;
 * options and operands in any order; `--` ends the options. AS_INVALID with a text that names
 * the argument and points to --help; the flag --json is then set if it stands anywhere in the line.
 * The lists in the table are the caller's to free. */
int as_args_parse(const as_arg_command *command, int argc, char **argv, as_arg_result *out,
                  as_error *e);

void as_arg_result_free(as_arg_result *r);
void as_arg_list_free(as_arg_list *l);

/* The whole help of a sub-command. */
void as_args_help(const as_arg_command *command, FILE *out);

/* A whole number between the limits, decimal; `what` is "--ranks". AS_INVALID. */
int as_args_number(const char *text, const char *what, int64_t least, int64_t most, int64_t *out,
                   as_error *e);

/* Permission bits in octal, 1…0777. AS_INVALID. */
int as_args_mode(const char *text, int *out, as_error *e);

/* An amount of memory: "64MiB", "4MB", "65536" (bytes). Units KB, MB, GB, TB and KiB, MiB, GiB,
 * TiB in any case; whole numbers only. AS_INVALID. */
int as_args_memory(const char *text, const char *what, int64_t *out, as_error *e);

/* The word among `words` (`count` of them, `stride` bytes apart, each a const char *) that is
 * nearest to a mistyped one, or NULL if none is near. */
const char *as_args_nearest(const char *word, const void *words, size_t count, size_t stride);

#endif
