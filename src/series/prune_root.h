/* SPDX-License-Identifier: Apache-2.0
 * A prune of a root by hand, beside the run that saves into it: what `allshard prune` does.
 */
#ifndef ALLSHARD_SERIES_PRUNE_ROOT_H
#define ALLSHARD_SERIES_PRUNE_ROOT_H

#include <stdint.h>

#include "base/error.h"
#include "base/log.h"
#include "commit/transaction.h"
#include "series/members.h"
#include "series/prune.h"

typedef struct as_prune_call {
    const char *root;
    const char *pattern; /* of the folders; NULL: all checkpoints in the root */
    as_keep_rules rules;
    const as_names *in_use; /* beside the one that ROOT/latest leads to; NULL: none */
    int64_t now_ms;         /* since the epoch */
} as_prune_call;

/* What would go; changes nothing and asks no lock. The caller frees members and plan, also after an
 * error. AS_NOT_FOUND: there is no such root, or something would go and no checkpoint has the metric
 * of the rules; AS_PATTERN, AS_SYSTEM, AS_NOMEM. */
int as_prune_look(const as_prune_call *call, as_members *members, as_prune *plan, const as_log *log,
                  as_error *e);

/* Takes the root's lock, settles what dead saves left, looks, and moves those that go out of the
 * root, all of them or none; the history tells of each. The caller frees members, plan and gone, also
 * after an error, and ends the transaction: as_txn_finish, which removes what the folders hold unless
 * others (sweep.h) did. *out NULL: nothing went, or it failed; then the lock is given back already.
 * AS_BUSY: a save holds the root; AS_PENDING: they are gone for good, but recovery has to move some;
 * others as above and of as_away_move. */
int as_prune_begin(as_txn **out, const as_prune_call *call, as_members *members, as_prune *plan,
                   as_names *gone, const as_log *log, as_error *e);

#endif
