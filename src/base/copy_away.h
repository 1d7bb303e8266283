/* SPDX-License-Identifier: Apache-2.0
 * Copies of bytes that nobody looks at again soon.
 */
#ifndef ALLSHARD_BASE_COPY_AWAY_H
#define ALLSHARD_BASE_COPY_AWAY_H

#include <stddef.h>

/* memcpy past the caches: half the traffic of memory that a plain copy of a few MiB makes, which
 * first reads what it then overwrites, and the caller's cache is left as it was. Any alignment. */
void as_copy_away(void *to, const void *from, size_t bytes);

#endif
