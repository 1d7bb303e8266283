/* SPDX-License-Identifier: Apache-2.0 */
#include "device/cuda_pins.h"

#include <stdint.h>
#include <sys/mman.h>

static as_pinned *ranges_of(const as_pins *p, size_t *count)
{
    *count = p->ranges.size / sizeof(as_pinned);
    return (as_pinned *)(void *)p->ranges.data;
}

void as_pins_keep(char *base, size_t bytes)
{
    (void)madvise(base, bytes, MADV_DONTFORK);
}

bool as_pins_cover(const as_pins *p, const char *memory, size_t bytes)
{
    size_t count;
    const as_pinned *all = ranges_of(p, &count);
    for (size_t i = 0; i < count; i++) {
        /* As numbers: the two may be of different objects. */
        uintptr_t into = (uintptr_t)memory - (uintptr_t)all[i].base;
        if ((uintptr_t)memory >= (uintptr_t)all[i].base && into <= all[i].bytes &&
            bytes <= all[i].bytes - into) {
            return true;
        }
    }
    return false;
}

int as_pins_add(as_pins *p, const char *base, size_t bytes, as_error *e)
{
    as_pinned range = {.base = base, .bytes = bytes};
    return as_buffer_append(&p->ranges, &range, sizeof range, e);
}

bool as_pins_remove(as_pins *p, const char *base)
{
    size_t count;
    as_pinned *all = ranges_of(p, &count);
    for (size_t i = 0; i < count; i++) {
        if (all[i].base == base) {
            all[i] = all[count - 1];
            p->ranges.size -= sizeof *all;
            return true;
        }
    }
    return false;
}

void as_pins_free(as_pins *p)
{
    as_buffer_free(&p->ranges);
}
