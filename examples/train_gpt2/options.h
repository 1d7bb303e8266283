/* SPDX-License-Identifier: Apache-2.0
 * The trainer's command line. */
#ifndef TRAIN_GPT2_OPTIONS_H
#define TRAIN_GPT2_OPTIONS_H

#include <stdint.h>

typedef struct options {
    const char *root;           /* --root: the series of checkpoints */
    const char *size;           /* --size: tiny or small */
    int64_t steps;              /* --steps: in all, those of earlier runs among them */
    int tp;                     /* --tp: ranks that share one copy of the weights */
    int batch;                  /* --batch: sequences of a step, of all ranks together */
    uint64_t seed;              /* --seed: of a fresh run */
    int64_t every_steps;        /* --every */
    double every_s;             /* --every-s */
    double mtbf_s;              /* --mtbf */
    int64_t keep_last;          /* --keep-last */
    const char *max_shard_size; /* --max-shard-size */
    int nonblocking;            /* --nonblocking */
    int save_first;             /* --save-first */
    int64_t delay_ms;           /* --delay-ms */
    const char *logits;         /* --logits: the file, or NULL */
    char **texts;               /* the files to learn from */
    int text_count;
} options;

enum options_result { OPTIONS_GOOD, OPTIONS_HELP, OPTIONS_BAD };

/* Reads the command line. Of what it does not like it tells on standard error if `loud`. */
enum options_result options_read(options *o, int argc, char **argv, int loud);

extern const char options_usage[];

#endif
