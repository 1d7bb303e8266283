/* SPDX-License-Identifier: Apache-2.0
 * What is told of the folder when a rank stalls in a save (as_comm_outcome).
 */
#ifndef ALLSHARD_TRANSFER_OUTCOME_H
#define ALLSHARD_TRANSFER_OUTCOME_H

extern const char as_outcome_unchanged[];
extern const char as_outcome_unknown_here[]; /* a rank that is not the main process */

/* After the commit, of that code. */
const char *as_outcome_of(int code);

#endif
