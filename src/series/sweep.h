/* SPDX-License-Identifier: Apache-2.0
 * The bytes of checkpoints that went: files are removed by many ranks at once, each its share.
 */
#ifndef ALLSHARD_SERIES_SWEEP_H
#define ALLSHARD_SERIES_SWEEP_H

#include "base/error.h"

/* Removes this rank's share of the files of the checkpoints in ROOT/.allshard/GONE…: those whose
 * name's hash modulo `ranks` is `rank`. `gone` is what as_txn_set_aside was given; that nothing is
 * there, or goes away meanwhile, is no error. The folders themselves, and what other
 * ranks do not get to, are left to as_txn_finish. Nothing
 * outside is touched: no link is followed. AS_SYSTEM, AS_NOMEM, AS_INVALID. Local, makes no MPI
 * call. */
int as_sweep(const char *root, const char *gone, int rank, int ranks, as_error *e);

#endif
