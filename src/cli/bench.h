/* SPDX-License-Identifier: Apache-2.0
 * What the parts of `allshard bench` share: the settings, and what was measured for each layout.
 */
#ifndef ALLSHARD_CLI_BENCH_H
#define ALLSHARD_CLI_BENCH_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include <allshard.h>

#include "cli/bench_cpus.h"
#include "cli/bench_folder.h"
#include "cli/bench_loaders.h"
#include "cli/bench_memory.h"
#include "cli/bench_model.h"
#include "cli/bench_plain.h"
#include "cli/bench_room.h"
#include "cli/bench_samples.h"
#include "cli/casts.h"
#include "cli/command.h"
#include "cli/layout.h"
#include "cli/spread.h"

/* Which engine did the work, and why. */
typedef struct as_worker {
    char engine[32];
    char reason[320];
} as_worker;

/* One --layout. Samples are complete on rank 0 only. */
typedef struct as_bench_layout {
    const char *name;
    as_layout layout;
    as_layout load_layout; /* the same for the ranks that load */
    int64_t bytes;         /* of all files of the checkpoint */
    int64_t files;         /* that hold tensors */
    as_worker saved, loaded, flown;
    bool stream;              /* the last nonblocking save was one, and not a snapshot */
    char staging_reason[256]; /* why */
    bool direct_refused;      /* the plain loop could not write with O_DIRECT */
    bool direct_read_refused; /* nor read; the page cache was used, cold */
    as_sample first;          /* the first save and load of all: plan, pool and files are new */
    as_sample *samples;       /* heap: one per repetition */
} as_bench_layout;

typedef struct as_bench {
    as_tool *tool;
    const char *directory;

    const char *model; /* "gpt2", "2GiB" */
    const as_workload *workload;
    as_tensors tensors;
    as_casts casts;
    int64_t stored_bytes; /* of the tensors in the files */

    allshard_save_options save;
    int32_t load_checksum; /* as in allshard_load_options */
    int64_t memory;
    int64_t snapshot_memory;
    bool nonblocking;
    size_t repeat;
    int load_ranks; /* 0: all */
    bool baseline;
    bool keep;
    const char *trace; /* NULL: none */

    as_bench_layout *layouts; /* heap */
    size_t layout_count;

    as_spread spread; /* its context; a state is made for each layout */
    as_bench_loaders loaders;
    const char *device;        /* "cuda", "cuda:0"; NULL: the host's memory */
    as_bench_memory memory_of; /* the tensors */
    as_bench_folder folder;
    as_bench_place on;
    as_plain plain;
    as_bench_cpus cpus;
    int64_t hosts;
    bool first_of_host; /* this rank */
    int chilled;        /* as_chill flags that were true each time */
    bool peak_reset;    /* peaks are those of the save or load alone, on all ranks */
    as_progress progress;
    int64_t steps_done, steps;
} as_bench;

/* Set by a signal: the benchmark ends at the next step. */
extern volatile sig_atomic_t as_bench_stopped;

/* Measures all layouts. Collective. */
int as_bench_run(as_bench *b, as_error *e);

#endif
