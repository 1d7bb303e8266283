/* SPDX-License-Identifier: Apache-2.0
 * Brings bytes of any length from all ranks to the main process, one rank after the
 * other, in bounded memory there.
 */
#ifndef ALLSHARD_COMM_COLLECT_H
#define ALLSHARD_COMM_COLLECT_H

#include "comm/comm.h"

enum { AS_COLLECT_CHUNK = 3 << 20 };

/* Takes the next bytes, of `from`; ranks come in ascending order, and in chunks of AS_COLLECT_CHUNK
 * but for the last of each. */
typedef int (*as_collect_take)(void *user, int from, const char *bytes, size_t count, as_error *e);

/* `take` is called on the main process only. After it has failed the rest is received and dropped.
 * A rank that enters with an error ends it for all. Collective. */
int as_comm_collect(as_comm *c, const as_buffer *mine, as_collect_take take, void *user,
                    as_error *e);

#endif
