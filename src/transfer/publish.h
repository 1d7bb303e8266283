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

/* ---- nonblocking saves: what as_publish does, in steps that need no rank to wait for a disk ---- */

/* While the ranks are together: the index's text is brought to the main process, in memory, and the
 * small files of this rank are hashed into p->checksums. Collective. */
int as_publish_early(as_publication *p, as_error *e);

/* Main process: room for what each rank has to report when its bytes are on disk. */
int as_publish_expect(as_publication *p, as_error *e);

/* Main process: rank `from` wrote so many bytes, in blocks of these sums (as_block_sum[]). */
int as_publish_report(as_publication *p, int from, int64_t own_bytes, const void *sums,
                      size_t count, as_error *e);

/* Then as_publication_commit, in any thread: it makes no MPI call, looks at nothing that the caller
 * may change meanwhile, and calls p->look between its steps. */

void as_publication_free(as_publication *p);

#endif
