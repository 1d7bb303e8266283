/* SPDX-License-Identifier: Apache-2.0
 * Checkpoints that go: out of the root in one journaled step, by renames; what they hold is removed
 * afterwards, while others work (sweep.h).
 */
#ifndef ALLSHARD_SERIES_AWAY_H
#define ALLSHARD_SERIES_AWAY_H

#include "base/error.h"
#include "commit/names.h"
#include "commit/transaction.h"

/* Takes the folders `names` (any order) out of ROOT, all of them or none, however it is cut off. `t`
 * is a transaction on ROOT in which nothing waits for a commit: just begun, or settled
 * (as_txn_settle). Then the tags of each are read once more (as_prune_comes_back): one that got a tag
 * meanwhile, which needs no lock, is put back under its name, and told to the log.
 *
 * Those that went for good are added to *gone (may be NULL): they lie in ROOT/.allshard/old/, and are
 * removed at the latest by as_txn_finish, or by whoever recovers ROOT. Names that are no more in ROOT
 * are no error.
 *
 * AS_OK. AS_INVALID: a name is that of something else than a folder. AS_PENDING: they count as gone,
 * but some could not be moved; recovery sees to it. AS_UNKNOWN, AS_BUSY, AS_SYSTEM, AS_NOMEM as of
 * as_txn_commit. In any case as_txn_finish (after AS_OK) or as_txn_abort follows. */
int as_away_move(as_txn *t, const as_names *names, as_names *gone, as_error *e);

#endif
