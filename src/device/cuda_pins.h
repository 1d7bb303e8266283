/* SPDX-License-Identifier: Apache-2.0
 * Host memory that this context has had page-locked (cuMemHostRegister): devices copy from and to it
 * without the driver's own buffers in between. This is the list alone; who pins calls CUDA.
 */
#ifndef ALLSHARD_DEVICE_CUDA_PINS_H
#define ALLSHARD_DEVICE_CUDA_PINS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buffer.h"

typedef struct as_pins {
    as_buffer ranges; /* as_pinned[], few */
} as_pins;

typedef struct as_pinned {
    const char *base;
    size_t bytes;
} as_pinned;

/* Keeps memory that is to be pinned, whole pages, from children that the program forks: with them
 * pages would be shared until one side writes, and older kernels (before Linux 5.9) may give the new
 * page to this process, while devices go on to use the old one, which is the child's: wrong bytes,
 * with checksums of their own. Until it is unmapped. */
void as_pins_keep(char *base, size_t bytes);

/* Does all of it lie in one range that is pinned? */
bool as_pins_cover(const as_pins *p, const char *memory, size_t bytes);

/* Notes a range that is pinned. AS_NOMEM. */
int as_pins_add(as_pins *p, const char *base, size_t bytes, as_error *e);

/* Forgets the range that begins at `base`. False: there is none. */
bool as_pins_remove(as_pins *p, const char *base);

void as_pins_free(as_pins *p);

#endif
