/* SPDX-License-Identifier: Apache-2.0 */
#include "base/checked.h"
#include "transfer/context.h"

enum { FEWEST_BUFFERS = 4, MOST_BUFFERS = 4096, PAGE = 4096 };

int as_transfer_buffers(const as_transfer *t, int64_t head)
{
    /* The pool's buffers begin on pages, so that small ones take a page too. */
    int64_t count = t->memory / (as_ceil_div(t->plan->block_bytes + head, PAGE) * PAGE);
    return (int)as_max_i64(FEWEST_BUFFERS, as_min_i64(count, MOST_BUFFERS));
}
