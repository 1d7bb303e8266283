/* SPDX-License-Identifier: Apache-2.0
 * The last look at a load: has every byte that was declared come in, and each once?
 */
#ifndef ALLSHARD_TRANSFER_FILLED_H
#define ALLSHARD_TRANSFER_FILLED_H

#include "base/buffer.h"
#include "plan/state.h"

/* `filled` counts the bytes that came into each piece; `missing` are the names that the
 * checkpoint lacks, sorted by bytes, each followed by a NUL: their pieces got none. AS_INTERNAL
 * names the first tensor that is wrong. */
int as_filled_check(const as_state *s, const int64_t *filled, const as_buffer *missing,
                    as_error *e);

#endif
