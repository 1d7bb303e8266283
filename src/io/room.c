/* SPDX-License-Identifier: Apache-2.0 */
#include "io/room.h"

#include <sched.h>
#include <stdio.h>

int64_t as_room_memory(void)
{
    long long kib = 0;
    char line[128];
    FILE *f = fopen("/proc/meminfo", "re");
    while (f && fgets(line, sizeof line, f) && sscanf(line, "MemAvailable: %lld kB", &kib) != 1) {
    }
    if (f) {
        (void)fclose(f);
    }
    return (int64_t)kib * 1024;
}

int as_room_processors(void)
{
    cpu_set_t set;
    int count = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    return count > 0 ? count : 1;
}
