/* SPDX-License-Identifier: Apache-2.0
 * Tells allshard which parts of which tensors this rank holds. */
#ifndef TRAIN_GPT2_DECLARE_H
#define TRAIN_GPT2_DECLARE_H

#include "adamw.h"

#include <allshard.h>

/* All of this rank's weights, and the output layer, which is the same as the word embedding. An
 * allshard code. */
int declare_weights(allshard_state *state, const model *m);

/* This rank's stretch of AdamW's averages, under the names of the tensors with ".exp_avg" and
 * ".exp_avg_sq". An allshard code. */
int declare_averages(allshard_state *state, const model *m, const adamw *a);

#endif
