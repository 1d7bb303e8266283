/* SPDX-License-Identifier: Apache-2.0
 * The small files beside the weights (config.json, tokenizer, …), which `allshard
 * copy` takes along.
 */
#ifndef ALLSHARD_CLI_COMPANIONS_H
#define ALLSHARD_CLI_COMPANIONS_H

#include <stdbool.h>

#include "base/error.h"
#include "cli/output.h"
#include "cli/spread.h"

/* Does a file of that name come along? Not weights of any kind, nor their indexes, nor hidden
 * files, nor allshard's own manifest and tags, which are of that place. */
bool as_companion_name(const char *name);

/* Adds the companions of the folder `path` to the state; nothing if it is a file. What is too
 * large (over 512 MiB) or a broken link is left out with a warning; folders are left out.
 * Local: for one rank. *count: how many. */
int as_companions_add(as_spread *s, const char *path, int *count, as_error *e);

#endif
