/* SPDX-License-Identifier: Apache-2.0
 * Which ranks share a node, and with it memory.
 */
#ifndef ALLSHARD_COMM_NODE_H
#define ALLSHARD_COMM_NODE_H

#include <stdint.h>

#include "comm/comm.h"

/* node_of[rank] for every rank of `c` ([ranks], the caller's): nodes are numbered from 0 in the
 * order of their lowest ranks. Collective. */
int as_comm_nodes(as_comm *c, int32_t *node_of, as_error *e);

#endif
