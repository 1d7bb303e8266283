/* SPDX-License-Identifier: Apache-2.0
 * What each rank wants back: a part like any other, of which each rank declares one tensor of bytes
 * under its number.
 */
#include <stdio.h>

#include "series/parts.h"
#include "tensor/dtype.h"

int as_rank_state_declare(as_state *s, int rank, void *bytes, int64_t count, as_error *e)
{
    int code = as_state_init(s, AS_RANKS_PART, e);
    if (code != AS_OK || count == 0) {
        return code;
    }
    char name[32];
    (void)snprintf(name, sizeof name, "rank-%05d", rank);
    const int64_t from[] = {0};
    const int64_t shape[] = {count};
    const as_declaration d = {
        .name = name,
        .box = {.dtype = AS_U8, .ndim = 1, .shape = shape, .offset = from, .local = shape},
        .data = bytes,
    };
    code = as_state_add(s, &d, e);
    if (code != AS_OK) {
        as_state_free(s);
    }
    return code;
}
