/* SPDX-License-Identifier: Apache-2.0
 * The last half of a save: index and manifest are staged, then the commit. In one go while all
 * ranks wait (as_publish, then the commit), or in steps that need no rank to wait for a disk
 * (as_publish_early … as_publish_report, then the commit in a thread in the background).
 */
#ifndef ALLSHARD_TRANSFER_PUBLISH_H
#define ALLSHARD_TRANSFER_PUBLISH_H

#include "base/log.h"
#include "commit/transaction.h"
#include "transfer/block_sums.h"
#include "transfer/prepare.h"

/* What the caller sets is borrowed, and lives until as_publication_free. */
typedef struct as_publication {
    as_comm *comm;         /* collective steps only */
    const as_state *state; /* its small files; collective steps only: it may change afterwards */
    as_log log;            /* may be set anew before the commit, for the thread that makes it */
    const char *part;      /* of the state */
    const as_prepared *prepared;
    as_txn *txn; /* main process only, from as_publish or the commit on */
    const char *directory;
    as_buffer *checksums; /* as_block_sum[] of this rank; NULL: none were taken */
    bool no_checksums;    /* the manifest gets none all the same */
    bool read_back;       /* the small files are read from storage and compared */
    const char *engine; /* that wrote, and why that one, for the manifest: set before the commit; */
    const char *engine_reason; /* NULL: not told */
    /* Called between steps on the main process, by the thread that makes them; an error ends them.
     * May be NULL. */
    int (*look)(void *user, as_error *e);
    void *user;

    /* Made by the functions below. */
    int ranks;
    char *index;          /* heap: the index's name; NULL if there is one file */
    as_buffer index_text; /* main process: all of it, until it is written; as_publish makes none */
    int64_t index_size;   /* bytes */
    int64_t *writers;     /* [ranks]: bytes that each wrote */
    bool *reported;       /* [ranks]: has the rank reported? NULL where none has to */
    as_block_sums sums;   /* of shards, then of small files; main process only */
    as_sum_stream index_sums;
} as_publication;

/* Brings the lines of the index from their builders to the main process, which streams them
 * into the staged index in bounded memory, and what the manifest needs. Collective. */
int as_publish(as_publication *p, as_error *e);

/* Before the bytes are on disk: the index's text is brought to the main process, in memory, and the
 * small files of this rank are hashed into p->checksums. Nothing is written. `e` may hold this rank's
 * error already: the ranks agree before anything is brought. Collective. */
int as_publish_early(as_publication *p, as_error *e);

/* Main process, before as_publish_report: room for what each rank has to report when its bytes are on
 * disk. */
int as_publish_expect(as_publication *p, as_error *e);

/* Main process: rank `from` wrote so many bytes more, in blocks of these sums: `count` of
 * as_block_sum[], of any alignment. Each rank, the main process among them, reports in one piece or
 * in several, the last of which says so, until all that its p->checksums holds is told. AS_INTERNAL
 * for what cannot be. */
int as_publish_report(as_publication *p, int from, int64_t own_bytes, const void *sums,
                      size_t count, bool last, as_error *e);

/* Index (after as_publish_early), manifest, cleaning list and commit. Main process, in any thread:
 * it makes no MPI call unless p->look does, and looks at nothing that the caller of a save may
 * change. AS_INTERNAL if a rank has not reported, or a block has no checksum. Codes as of
 * as_txn_commit. */
int as_publication_commit(as_publication *p, as_error *e);

void as_publication_free(as_publication *p);

/* ---- for the files that publish.c is made of ---- */

static inline int as_publication_look(const as_publication *p, as_error *e)
{
    return p->look ? p->look(p->user, e) : AS_OK;
}

static inline int32_t as_publication_files(const as_publication *p)
{
    return p->prepared->plan.file_count;
}

#endif
