/* SPDX-License-Identifier: Apache-2.0
 * What a transaction is, for the files that it is made of: transaction.c, and settle.c with what
 * comes between one commit and the next.
 */
#ifndef ALLSHARD_COMMIT_TRANSACTION_PARTS_H
#define ALLSHARD_COMMIT_TRANSACTION_PARTS_H

#include "commit/lock.h"
#include "commit/transaction.h"

enum as_txn_state {
    AS_TXN_OPEN,      /* nothing counts yet */
    AS_TXN_COMMITTED, /* all moves are made and durable */
    AS_TXN_SETTLED,   /* and the journal is gone: another commit may follow */
    AS_TXN_LEFT       /* pending or unknown: everything stays for recovery */
};

struct as_txn {
    char *dir;
    int folder; /* DIR */
    int staged; /* DIR/.allshard/new */
    as_lock *lock;
    as_made made;
    mode_t mode;
    as_log log;
    enum as_txn_state state;
    bool inner;    /* as_txn_options */
    int set_aside; /* the next number */
};

#endif
