/* SPDX-License-Identifier: Apache-2.0
 * Between the command line and the library: contexts, and states that hold a model
 * as a layout spreads it.
 */
#ifndef ALLSHARD_CLI_SPREAD_H
#define ALLSHARD_CLI_SPREAD_H

#include <stdint.h>

#include <allshard.h>

#include "base/error.h"
#include "base/log.h"
#include "cli/casts.h"
#include "cli/command.h"
#include "cli/layout.h"
#include "cli/progress.h"
#include "cli/tensors.h"
#include "format/pattern.h"

/* What copy, demo and bench share. */
typedef struct as_spread {
    as_tool *tool;
    allshard *context;
    allshard_state *state;
    as_progress progress;
    as_log log;    /* of the options that the context was opened with */
    char *trouble; /* what the library told of a context that it could not open; heap */
    void **memory; /* of this rank's pieces, one per tensor; NULL: none */
    size_t count;  /* of tensors */
} as_spread;

/* Opens a context on all ranks, with an empty state. `memory` and `trace` as in allshard_options.
 * `pattern` tells the part's name: "model" for "model{suffix}.safetensors". Collective. */
int as_spread_open(as_spread *s, as_tool *tool, const char *pattern, int64_t memory, bool trace,
                   as_error *e);

/* Opens a context alone, as the options say. `ranks`: of which ranks, NULL for all. *s stays where
 * it is until as_spread_close. Collective over them. */
int as_spread_start(as_spread *s, as_tool *tool, const allshard_comm *ranks,
                    const allshard_options *options, as_error *e);

/* Declares this rank's pieces, in zeroed memory of their own, with order keys by the place in
 * `t`. The layout has been fitted. Collective. */
int as_spread_declare(as_spread *s, const as_tensors *t, const as_layout *l, as_error *e);

/* Another state of the same pieces in the same memory takes the place of the old one: what was read
 * is to be saved as other types. `pattern` as before. Collective. */
int as_spread_store_as(as_spread *s, const char *pattern, const as_tensors *t, const as_layout *l,
                       const as_casts *casts, as_error *e);

/* The error of a call of the library, on this rank. Returns the code. */
int as_spread_error(const as_spread *s, int code, as_error *e);

/* Collective. Also after a failure half way. */
void as_spread_close(as_spread *s);

/* Metadata given as K=V, into the state. AS_INVALID. Local. */
int as_spread_metadata(as_spread *s, const as_arg_list *pairs, as_error *e);

/* Is each of them K=V, with a key? AS_INVALID. */
int as_metadata_check(const as_arg_list *pairs, as_error *e);

/* --max-shard-size and --pattern, either of which may be NULL. AS_SIZE, AS_PATTERN. */
int as_save_options_check(const char *max_shard_size, const char *pattern, as_error *e);

/* --block-size and --memory, either of which may be NULL (*out stays). AS_INVALID. */
int as_block_size_read(const char *text, int64_t *out, as_error *e);
int as_memory_read(const char *text, int64_t *out, as_error *e);

#endif
