/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/writers.h"

#include <stdlib.h>

int as_writers_choose(const int32_t *node_of, int32_t ranks, int32_t per_node, int32_t *writers,
                      as_error *e)
{
    int32_t *sizes = calloc((size_t)ranks, sizeof *sizes); /* ranks of each node */
    int32_t *seen = calloc((size_t)ranks, sizeof *seen);   /* of them, gone by */
    int32_t *last = calloc((size_t)ranks, sizeof *last);   /* writer of the rank before */
    if (!sizes || !seen || !last) {
        free(sizes);
        free(seen);
        free(last);
        return as_fail_nomem(e);
    }
    for (int32_t r = 0; r < ranks; r++) {
        sizes[node_of[r]]++;
    }
    for (int32_t r = 0; r < ranks; r++) {
        int32_t node = node_of[r];
        int64_t count = per_node < sizes[node] ? per_node : sizes[node];
        int64_t place = seen[node]++;
        /* The node's ranks fall into `count` even groups; the first of each writes for it. */
        if (place == 0 || place * count / sizes[node] != (place - 1) * count / sizes[node]) {
            last[node] = r;
        }
        writers[r] = last[node];
    }
    free(sizes);
    free(seen);
    free(last);
    return AS_OK;
}
