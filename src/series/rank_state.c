/* SPDX-License-Identifier: Apache-2.0
 * What each rank wants back: a part like any other, of which each rank declares one tensor of bytes
 * under its number.
 */
#include <stdio.h>

#include "series/parts.h"
#include "tensor/dtype.h"

int as_series_ranks_declare(as_series *r, void *bytes, int64_t count, as_error *e)
{
    if (r->has_ranks_state) {
        as_state_free(&r->ranks_state);
        r->has_ranks_state = false;
    }
    int code = as_state_init(&r->ranks_state, AS_RANKS_PART, e);
    r->has_ranks_state = code == AS_OK;
    if (code != AS_OK || count == 0) {
        return code;
    }
    char name[32];
    (void)snprintf(name, sizeof name, "rank-%05d", as_comm_rank(r->session->comm));
    const int64_t from[] = {0};
    const int64_t shape[] = {count};
    const as_declaration d = {
        .name = name,
        .box = {.dtype = AS_U8, .ndim = 1, .shape = shape, .offset = from, .local = shape},
        .data = bytes,
    };
    return as_state_add(&r->ranks_state, &d, e);
}
