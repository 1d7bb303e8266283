/* SPDX-License-Identifier: Apache-2.0 */
#include "comm/node.h"

#include <stdlib.h>

int as_comm_nodes(as_comm *c, int32_t *node_of, as_error *e)
{
    int size = as_comm_size(c);
    int lowest = 0;
    int code = as_comm_lowest_on_node(c, &lowest, e);
    int64_t *of = calloc((size_t)size, sizeof *of);
    if (!of) {
        (void)as_fail_nomem(e);
    }
    code = as_comm_is_lost(code) ? code : as_comm_agree(c, e);
    if (code == AS_OK && of) {
        of[as_comm_rank(c)] = lowest;
        code = as_comm_max(c, of, size, e);
    }
    int32_t nodes = 0;
    for (int r = 0; code == AS_OK && of && r < size; r++) {
        /* The lowest rank of a node comes before its others. */
        node_of[r] = of[r] == r ? nodes++ : node_of[of[r]];
    }
    free(of);
    return code;
}
