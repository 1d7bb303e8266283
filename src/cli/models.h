/* SPDX-License-Identifier: Apache-2.0
 * Known models: true names, shapes and types of released checkpoints, in their order.
 */
#ifndef ALLSHARD_CLI_MODELS_H
#define ALLSHARD_CLI_MODELS_H

#include <stddef.h>

#include "base/error.h"
#include "cli/tensors.h"

size_t as_models_count(void);
const char *as_models_name(size_t i); /* "gpt2"; NULL past the last */

/* Makes the tensors of the model of that name, one of the above or synthetic:N (synthetic.h).
 * `dtype` (enum as_dtype) 0: as released; else all tensors get that type, and the scales of FP8
 * blocks are left out. AS_INVALID if there is no such model, with the names of all; *out is
 * overwritten. */
int as_models_make(const char *name, int dtype, as_tensors *out, as_error *e);

#endif
