/* SPDX-License-Identifier: Apache-2.0
 * How much memory is to be had.
 */
#ifndef ALLSHARD_IO_ROOM_H
#define ALLSHARD_IO_ROOM_H

#include <stdint.h>

/* Bytes that this process could take now without others being put out: what the node has available
 * (MemAvailable; where the kernel promises no more than there is, what it may still promise), or
 * less if a control group's limit (v1 or v2, of any level; file cache that is not in use counts as
 * free), RLIMIT_AS or RLIMIT_DATA leaves less. 1: none. 0: nobody knows. */
int64_t as_room_memory(void);

/* The same by the files below `root` ("" for the system's), for tests: /proc/meminfo, /proc/self
 * and /sys/fs/cgroup. */
int64_t as_room_memory_below(const char *root);

/* Processors that the calling thread may run on; 1 at least. */
int as_room_processors(void);

#endif
