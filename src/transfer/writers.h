/* SPDX-License-Identifier: Apache-2.0
 * Which ranks write, where a caller wants fewer of them than ranks on a node.
 */
#ifndef ALLSHARD_TRANSFER_WRITERS_H
#define ALLSHARD_TRANSFER_WRITERS_H

#include <stdint.h>

#include "base/error.h"

/* node_of[ranks]: the number of each rank's node, 0 … ranks − 1. writers[ranks] (out): the rank of
 * its node that writes in place of each; at most `per_node` (≥ 1) ranks of a node write, evenly
 * apart by rank, each for about as many neighbours. */
int as_writers_choose(const int32_t *node_of, int32_t ranks, int32_t per_node, int32_t *writers,
                      as_error *e);

#endif
