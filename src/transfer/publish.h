/* SPDX-License-Identifier: Apache-2.0
 * The last half of a save: index and manifest are staged, then the commit.
 */
#ifndef ALLSHARD_TRANSFER_PUBLISH_H
#define ALLSHARD_TRANSFER_PUBLISH_H

#include "commit/transaction.h"
#include "transfer/block_sums.h"
#include "transfer/prepare.h"

typedef struct as_publication {
    as_session *session;
    const as_state *state;
    const as_prepared *prepared;
    as_txn *txn; /* main process only */
    const char *directory;
    as_buffer *checksums; /* as_block_sum[] of this rank; NULL: none were taken */
    bool no_checksums;    /* the manifest gets none all the same */
    bool read_back;       /* the small files are read from storage and compared */

    /* Made by as_publish. */
    char *index;        /* heap: the index's name; NULL if there is one file */
    int64_t *writers;   /* [ranks]: bytes that each wrote */
    int64_t index_size; /* bytes */
    as_block_sums sums; /* of shards, then of small files; main process only */
    as_sum_stream index_sums;
} as_publication;

/* Brings the lines of the index from their builders to the main process, which streams them
 * into the staged index, and what the manifest needs. Collective. */
int as_publish(as_publication *p, as_error *e);

/* Manifest, cleaning list and commit. Main process. */
int as_publication_commit(as_publication *p, as_error *e);

void as_publication_free(as_publication *p);

#endif
