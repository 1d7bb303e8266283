/* SPDX-License-Identifier: Apache-2.0
 * What the ranks found (look.c), put together on rank 0.
 */
#ifndef ALLSHARD_CLI_LOOK_JOIN_H
#define ALLSHARD_CLI_LOOK_JOIN_H

#include "cli/look.h"

/* One rank's message: how many bytes it read and blocks it compared, its runs and its specials. */
typedef struct as_look_found {
    int64_t bytes;
    int64_t blocks;
    as_buffer runs;     /* as_look_run[] */
    as_buffer specials; /* as_look_special[] */
} as_look_found;

int as_look_found_write(const as_look_found *f, as_buffer *out, as_error *e);

/* Joins messages that stand one after the other: sorted, and each run and tensor told once. */
int as_look_join(as_looked *out, const as_buffer *told, as_error *e);

void as_look_found_free(as_look_found *f);

#endif
