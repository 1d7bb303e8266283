/* SPDX-License-Identifier: Apache-2.0 */
#include "base/checked.h"
#include "transfer/context.h"

enum { FEWEST_BUFFERS = 4, MOST_BUFFERS = 4096 };

int as_transfer_buffers(const as_transfer *t)
{
    int64_t count = t->memory / t->plan->block_bytes;
    return (int)as_max_i64(FEWEST_BUFFERS, as_min_i64(count, MOST_BUFFERS));
}
