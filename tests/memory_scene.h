/* SPDX-License-Identifier: Apache-2.0
 * For tests of peak memory: what the kernel counts for this process, tensors of 32-bit words that
 * tell their place, and a folder on a disk.
 */
#ifndef ALLSHARD_TESTS_MEMORY_SCENE_H
#define ALLSHARD_TESTS_MEMORY_SCENE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include "checkpoint_folder.h"
#include "support_ranks.h"

/* "VmHWM" and the like of this process, in bytes. */
static inline int64_t status_of(const char *key)
{
    char line[256];
    long long kib = -1;
    size_t length = strlen(key);
    FILE *f = fopen("/proc/self/status", "r");
    CHECK(f != NULL);
    while (fgets(line, sizeof line, f)) {
        if (strncmp(line, key, length) == 0 && line[length] == ':') {
            kib = strtoll(line + length + 1, NULL, 10);
        }
    }
    (void)fclose(f);
    CHECK(kib >= 0);
    return kib * 1024;
}

/* Sets the peak back to what is in use now. */
static inline bool reset_peak(void)
{
    FILE *f = fopen("/proc/self/clear_refs", "w");
    if (!f) {
        return false;
    }
    bool good = fputs("5\n", f) >= 0;
    return fclose(f) == 0 && good;
}

static inline uint32_t value_at(int tensor, int64_t element)
{
    uint64_t x = ((uint64_t)tensor << 32 | (uint64_t)element) * UINT64_C(0x9e3779b97f4a7c15);
    return (uint32_t)(x >> 32);
}

/* A folder on a disk with so many GiB free, for all ranks; NULL if there is none. */
static inline const char *disk_folder(unsigned gib)
{
    static char path[256];
    const char *base = getenv("TMPDIR");
    struct statvfs status;
    if (world_rank() == 0) {
        (void)snprintf(path, sizeof path, "%s/allshard-memory-XXXXXX",
                       base && *base ? base : "/tmp");
        bool room = statvfs(base && *base ? base : "/tmp", &status) == 0 &&
                    (uint64_t)status.f_bavail * status.f_frsize > (uint64_t)gib << 30;
        if (!room || !mkdtemp(path)) {
            *path = '\0';
        }
    }
    ranks_broadcast(world_comm(), path, sizeof path);
    return *path ? path : NULL;
}

#endif
