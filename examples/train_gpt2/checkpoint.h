/* SPDX-License-Identifier: Apache-2.0
 * The run's checkpoints: what of it is saved, when, and how it comes back. */
#ifndef TRAIN_GPT2_CHECKPOINT_H
#define TRAIN_GPT2_CHECKPOINT_H

#include "adamw.h"
#include "options.h"
#include "text.h"

#include <allshard.h>

/* What makes the next step, beside weights and averages. */
typedef struct run {
    int64_t step;     /* the last one that is done */
    uint64_t sampler; /* the generator of the draw of sequences, the same on all ranks */
    uint64_t dropout; /* this copy's own generator */
    double loss;      /* of the last step */
} run;

typedef struct checkpoints {
    const options *o;
    const model *m;
    const adamw *a;
    const ranks *r;
    const text *t;
    allshard *as;
    allshard_series *series;
    allshard_state *model, *optimizer;
    int64_t saved;     /* the step that was last loaded or saved, or is on its way; -1: none */
    int64_t in_flight; /* the step that is saved in the background; -1: none */
} checkpoints;

/* All dies of what fails, but a save that is not the last one, which is told of. All collective. */
void checkpoints_open(checkpoints *c, const options *o, const model *m, const adamw *a,
                      const text *t);
void checkpoints_close(checkpoints *c);

/* Fills weights, averages and the run from the newest good checkpoint; 0 if there is none. */
int checkpoints_resume(checkpoints *c, run *now);

/* Saves the run. `why`: for the log. `last`: not in the background, and it must succeed. */
void checkpoints_save(checkpoints *c, const run *now, const char *why, int last);

/* After a step: saves if it is time to. Not 0: the run is to stop, having saved; *status: with this
 * exit status. */
int checkpoints_step(checkpoints *c, const run *now, int *status);

/* Waits for a save in the background. */
void checkpoints_wait(checkpoints *c);

/* A line "WHAT step N ... weights CHECKSUM optimizer CHECKSUM". */
void checkpoints_tell(const checkpoints *c, const char *what, int64_t step, const char *more);

#endif
