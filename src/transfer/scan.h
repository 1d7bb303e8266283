/* SPDX-License-Identifier: Apache-2.0
 * Reads ranges of files, several at a time, and hands each one's bytes over in the order in which
 * they were named: for looking at bytes, not for moving them. With `fresh` they come from storage
 * and not out of the page cache, which may hold what storage has lost.
 */
#ifndef ALLSHARD_TRANSFER_SCAN_H
#define ALLSHARD_TRANSFER_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "comm/comm.h"
#include "io/engine.h"
#include "transfer/meter.h"

typedef struct as_scan_range {
    int32_t file;   /* a number that `open_file` knows; ranges of a file follow one another */
    int64_t offset; /* bytes */
    int64_t bytes;  /* 1 … as_scan.longest */
} as_scan_range;

/* All is borrowed. The functions are called by the calling thread alone. */
typedef struct as_scan {
    as_comm *comm; /* NULL: one process */
    const as_engine_type *engine;
    as_engine_options engine_options; /* arena and trace are set here */
    char *memory;        /* for buffers, on a page (an arena); NULL: had for this scan alone */
    size_t memory_bytes; /* of it; room for one range at least */
    int64_t longest;     /* bytes of the longest range, ≤ 1 GiB */
    int slots;           /* ranges under way at the most; 0: as many as keep storage busy */
    bool fresh;          /* past the page cache: O_DIRECT where engine_options have it, else the
                             cache lets go of each range before it is read */
    bool go_on;          /* what cannot be read does not end the scan, `take` is told */
    as_meter *meter;     /* what was done is added to it */

    /* The next range; false: that was all. */
    bool (*next)(void *user, as_scan_range *out);
    /* *fd is the scan's to close; *name lives until the next call. */
    int (*open_file)(void *user, int32_t file, int *fd, const char **name, as_error *e);
    /* Gets the ranges in their order. Only with `go_on`: `bytes` is NULL if the range could not be
     * read, and `why` (else NULL) has code and errno; of its text only one of several failures that
     * came at once may be left. An error ends the scan. */
    int (*take)(void *user, const as_scan_range *range, const char *bytes, const as_error *why,
                as_error *e);
    void *user;
} as_scan;

/* Each rank reads its own ranges; some may have none. `e` may hold an error already: then the rank
 * reads nothing. Collective: all ranks return together, with one code. */
int as_scan_run(const as_scan *scan, as_error *e);

#endif
