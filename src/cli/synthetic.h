/* SPDX-License-Identifier: Apache-2.0
 * A model of any number of small tensors: what plans of very many tensors are measured on.
 */
#ifndef ALLSHARD_CLI_SYNTHETIC_H
#define ALLSHARD_CLI_SYNTHETIC_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "cli/tensors.h"

/* Is that a name of such a model, "synthetic:N" with N from 1 to 100 million? *count is N. */
bool as_synthetic_name(const char *name, int64_t *count);

/* The first `count` tensors of layers of 4096 low-rank experts each:
 *   model.layers.<l>.mlp.experts.<e>.gate_proj.weight  BF16 [8, 8192]
 *   model.layers.<l>.mlp.experts.<e>.up_proj.weight    BF16 [16, 4096]
 *   model.layers.<l>.mlp.experts.<e>.down_proj.weight  BF16 [32, 2048]
 *   model.layers.<l>.mlp.experts.<e>.scale             F32  [16]
 * so that three in four have 128 KiB, and FSDP over 32 ranks or more cuts a tensor into 18 pieces
 * on average, the first 8 ranks having one of each. `dtype` (enum as_dtype), if not 0, is that of
 * all. */
int as_synthetic_make(int64_t count, int dtype, as_tensors *out, as_error *e);

#endif
