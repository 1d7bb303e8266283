/* SPDX-License-Identifier: Apache-2.0
 * AdamW (Loshchilov and Hutter 2019), whose state is spread over the copies of the weights as in
 * ZeRO's first stage (Rajbhandari et al. 2020): each of the ranks that hold the same weights keeps
 * the two averages of a stretch of the flat array, updates that stretch, and hands it to the
 * others. */
#ifndef TRAIN_GPT2_ADAMW_H
#define TRAIN_GPT2_ADAMW_H

#include "model.h"

typedef struct adamw {
    size_t begin, end;   /* this rank's stretch of the flat array */
    real *mean, *square; /* averages of its gradients and of their squares */
    real *parts;         /* its gradients from all copies */
    int *counts, *places, *part_counts, *part_places; /* for MPI */
} adamw;

void adamw_open(adamw *o, const params *p, const ranks *r);
void adamw_close(adamw *o);

/* Sums the gradients over the copies and makes step `step` (1, 2, ...). Collective. */
void adamw_step(adamw *o, model *m, int64_t step);

#endif
