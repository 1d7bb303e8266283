/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/bench_room.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/hash.h"
#include "cli/bench_usage.h"
#include "cli/output.h"
#include "io/filesystems.h"

int as_bench_place_look(int fd, const char *path, as_bench_place *out, as_error *e)
{
    struct statfs s;
    if (fstatfs(fd, &s) < 0) {
        return as_fail(e, AS_SYSTEM, errno, "%s: its file system cannot be looked at", path);
    }
    const as_file_system *fs = as_file_system_by_magic((uint32_t)s.f_type);
    *out = (as_bench_place){.available = INT64_MAX, .in_memory = fs->in_memory};
    (void)as_mul_i64((int64_t)s.f_bavail, (int64_t)(s.f_frsize ? s.f_frsize : s.f_bsize),
                     &out->available);
    if (fs->magic == 0) {
        (void)snprintf(out->name, sizeof out->name, "0x%x", (unsigned)s.f_type);
    } else {
        (void)snprintf(out->name, sizeof out->name, "%s", fs->name);
    }
    return AS_OK;
}

/* ---------------------------------------------------------------------- hosts */

static int64_t host_number(void)
{
    char name[256] = "";
    (void)gethostname(name, sizeof name - 1);
    return (int64_t)(as_hash_bytes(name, strlen(name)).low >> 1);
}

/* One value of each rank; heap. */
static int share(as_world *w, int64_t mine, int64_t **out, as_error *e)
{
    *out = calloc((size_t)w->size, sizeof **out);
    if (!*out) {
        (void)as_fail_nomem(e);
    } else {
        (*out)[w->rank] = mine;
    }
    int code = as_world_agree(w, e);
    code = code == AS_OK ? as_world_sum(w, *out, w->size, e) : code;
    if (code != AS_OK) {
        free(*out);
        *out = NULL;
    }
    return code;
}

int as_world_alike(as_world *w, uint64_t key, int *before, int *count, as_error *e)
{
    int64_t *keys = NULL;
    int64_t mine = host_number() ^ (int64_t)(key >> 1);
    int code = share(w, mine, &keys, e);
    *before = 0;
    *count = 0;
    for (int r = 0; r < w->size && code == AS_OK; r++) {
        *before += r < w->rank && keys[r] == mine;
        *count += keys[r] == mine;
    }
    free(keys);
    return code;
}

int as_world_hosts(as_world *w, int64_t *out, bool *first, as_error *e)
{
    int before = 0;
    int count = 0;
    int code = as_world_alike(w, 0, &before, &count, e);
    *first = before == 0;
    *out = *first;
    return code == AS_OK ? as_world_sum(w, out, 1, e) : code;
}

/* ----------------------------------------------------------------------- room */

/* What is needed on this host, by all its ranks. */
static int needed_here(as_world *w, int64_t memory, int64_t *out, int *ranks, as_error *e)
{
    int64_t *hosts = NULL;
    int64_t *needs = NULL;
    int code = share(w, host_number(), &hosts, e);
    code = code == AS_OK ? share(w, memory, &needs, e) : code;
    *out = 0;
    *ranks = 0;
    for (int r = 0; code == AS_OK && r < w->size; r++) {
        if (hosts[r] == hosts[w->rank]) {
            (*ranks)++;
            if (!as_add_i64(*out, needs[r], out)) {
                *out = INT64_MAX;
            }
        }
    }
    free(hosts);
    free(needs);
    return code;
}

int as_bench_room(as_world *w, const as_bench_place *on, const char *path, int64_t memory,
                  int64_t disk, as_error *e)
{
    int64_t needed = 0;
    int ranks = 0;
    int code = needed_here(w, memory, &needed, &ranks, e);
    if (code != AS_OK) {
        return code;
    }
    if (on->in_memory && !as_add_i64(needed, disk, &needed)) {
        needed = INT64_MAX;
    }
    int64_t available = as_proc_number("/proc/meminfo", "MemAvailable:");
    if (disk > on->available) {
        (void)as_fail(
            e, AS_LIMIT, 0,
            "%s needs %s on disk, but %s are free; take a smaller --size or --scale, fewer "
            "--layout with --keep, or another folder",
            path, as_human_bytes(disk).text, as_human_bytes(on->available).text);
    } else if (available >= 0 && needed > available) {
        (void)as_fail(e, AS_LIMIT, 0,
                      "%d rank%s on this host need%s %s of memory%s, but %s are available; take a "
                      "smaller --size or --scale, a --layout that spreads the model, or more hosts",
                      ranks, ranks == 1 ? "" : "s", ranks == 1 ? "s" : "",
                      as_human_bytes(needed).text, on->in_memory ? " and files in memory" : "",
                      as_human_bytes(available).text);
    }
    return as_world_agree(w, e);
}
