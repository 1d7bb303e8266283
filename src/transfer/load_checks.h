/* SPDX-License-Identifier: Apache-2.0
 * What the manifest tells a load of the files that it reads: their sizes, and the
 * checksums of their blocks. The main process has all of it, every rank the sizes and the
 * checksums that it asks for.
 */
#ifndef ALLSHARD_TRANSFER_LOAD_CHECKS_H
#define ALLSHARD_TRANSFER_LOAD_CHECKS_H

#include <stdbool.h>

#include "base/log.h"
#include "comm/comm.h"
#include "commit/manifest.h"
#include "commit/view.h"
#include "format/checkpoint.h"
#include "transfer/checked_source.h"

typedef struct as_load_checks {
    const char *path;        /* what is loaded; borrowed */
    bool has_manifest;       /* main process only, and so are these: */
    as_manifest manifest;    /* */
    as_buffer files;         /* const as_manifest_file *[]: those of the checkpoint, by number */
    as_checked_source index; /* the source that the index is read through, if it is checked */
    bool described;          /* the manifest tells the sizes of the files */
    bool summed;             /* and the checksums of their blocks */
    int64_t block_bytes;     /* of the blocks, if summed */
    as_buffer sizes;         /* int64_t[]: of the files, if described */
} as_load_checks;

/* Reads the manifest, if there is one. AS_CORRUPT if it is damaged. Main process. */
int as_load_checks_read(as_load_checks *c, as_view *v, as_error *e);

/* For as_opener: the index comes through its checksums. `checks` is an as_load_checks. */
int as_load_checks_guard(void *checks, const char *name, as_source *source, as_error *e);

/* Finds the checkpoint in the manifest; it is no error if it is not there, which the log tells.
 * AS_CORRUPT if the manifest has the index, but not a file that it names. Main process. */
int as_load_checks_match(as_load_checks *c, const as_checkpoint *checkpoint, const as_log *log,
                         as_error *e);

/* Tells all ranks what there is. Collective; ranks may come with an error. */
int as_load_checks_share(as_load_checks *c, as_comm *comm, as_error *e);

/* Has the file the size that the manifest tells? AS_CORRUPT. */
int as_load_checks_size(const as_load_checks *c, int32_t file, const char *name, uint64_t size,
                        as_error *e);

/* A run of blocks. */
typedef struct as_block_run {
    int64_t file;
    int64_t first;
    int64_t count;
} as_block_run;

/* The checksums (uint64_t[]) of these blocks (as_block_run[]), in this order. Every rank asks for
 * its own. Collective; a rank may come with an error. */
int as_load_checks_fetch(const as_load_checks *c, as_comm *comm, const as_buffer *runs,
                         as_buffer *sums, as_error *e);

void as_load_checks_free(as_load_checks *c);

#endif
