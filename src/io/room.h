/* SPDX-License-Identifier: Apache-2.0
 * How much memory is to be had.
 */
#ifndef ALLSHARD_IO_ROOM_H
#define ALLSHARD_IO_ROOM_H

#include <stdint.h>

/* Bytes that this process could take now without others being put out: what the node has available,
 * or less if a control group's limit (v1 or v2, of any level), or RLIMIT_AS, leaves less. 0: nobody
 * knows. */
int64_t as_room_memory(void);

/* Processors that the calling thread may run on; 1 at least. */
int as_room_processors(void);

#endif
