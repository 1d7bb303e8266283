/* SPDX-License-Identifier: Apache-2.0
 * Runs a command of the scheduler, which may be missing, fail, hang, or write without end.
 */
#ifndef ALLSHARD_SERIES_RUN_COMMAND_H
#define ALLSHARD_SERIES_RUN_COMMAND_H

#include <stdatomic.h>
#include <stddef.h>

#include "base/buffer.h"
#include "base/error.h"

enum { AS_COMMAND_OUTPUT = 1 << 20 };

/* The strings of an environment: the program may change its own at any time, from other threads. */
typedef struct as_environment {
    char **items; /* heap; NULL ends it */
} as_environment;

int as_environment_copy(as_environment *out, as_error *e);
const char *as_environment_get(const as_environment *env, const char *name); /* NULL: not set */
void as_environment_free(as_environment *env);

/* Runs argv[0], found on the PATH of `env`, with the arguments after it, in a process group of its
 * own, with no signal blocked or ignored and none of the caller's files. Appends what it writes to
 * its standard output to `out`. AS_NOT_FOUND: there is no such command; AS_SYSTEM: it cannot be
 * run, was not done in the time (ETIMEDOUT) or until *cancel was set (ECANCELED; may be NULL), or
 * ended with another status than 0; AS_LIMIT: it wrote more than AS_COMMAND_OUTPUT bytes; AS_NOMEM.
 * Whatever happens its process group is killed and waited for. */
int as_run_command(const char *const *argv, const as_environment *env, double seconds,
                   const atomic_bool *cancel, as_buffer *out, as_error *e);

#endif
