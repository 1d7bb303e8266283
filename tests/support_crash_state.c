/* SPDX-License-Identifier: Apache-2.0 */
#include "support_crash_state.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/hash.h"
#include "checkpoint_folder.h"

enum { SECTOR = 512 };

/* What of the op's bytes from `at` on is there, up to *end. */
static bool has_bytes(const crash *c, int i, int64_t at, int64_t *end)
{
    const trace_event *e = c->ops[i].event;
    *end = e->count;
    if (c->choice[i] != CRASH_TORN) {
        return c->choice[i] == CRASH_DONE;
    }
    /* Sectors of the file, not of the write. */
    int64_t sector = (e->offset + at) / SECTOR;
    int64_t next = (sector + 1) * SECTOR - e->offset;
    *end = next < e->count ? next : e->count;
    uint64_t key[2] = {c->torn[i], (uint64_t)sector};
    return as_hash_bytes(key, sizeof key).low & 1;
}

static unsigned char *content_of_node(const crash *c, int which, int64_t *size)
{
    unsigned char *bytes = NULL;
    int64_t have = 0;
    *size = 0;
    for (int i = 0; i < c->op_count; i++) {
        const crash_op *o = &c->ops[i];
        const trace_event *e = o->event;
        if (o->is_name || o->node != which || c->choice[i] == CRASH_LOST) {
            continue;
        }
        int64_t least = e->kind == TRACE_SIZE ? e->count : e->offset + e->count;
        if (least > have) {
            bytes = realloc(bytes, (size_t)least);
            if (!bytes) {
                abort();
            }
            memset(bytes + have, 0, (size_t)(least - have));
            have = least;
        }
        if (bytes && e->kind == TRACE_SIZE && e->count < *size) {
            memset(bytes + e->count, 0, (size_t)(*size - e->count));
        }
        int64_t end = 0;
        int64_t last = 0;
        for (int64_t at = 0; bytes && e->kind == TRACE_WRITE && at < e->count; at = end) {
            if (has_bytes(c, i, at, &end)) {
                memcpy(bytes + e->offset + at, e->bytes + at, (size_t)(end - at));
                last = e->offset + end;
            }
        }
        if (e->kind == TRACE_SIZE) {
            *size = e->count;
        } else if (e->kind == TRACE_GROW) {
            *size = least > *size ? least : *size;
        } else {
            *size = last > *size ? last : *size;
        }
    }
    return bytes;
}

void crash_settle(crash *c)
{
    for (int i = 0; i < c->place_count; i++) {
        c->at_place[i] = -1;
    }
    for (int i = 0; i < c->op_count; i++) {
        if (c->ops[i].is_name && c->choice[i] != CRASH_LOST) {
            c->at_place[c->ops[i].place] = c->ops[i].node;
        }
    }
}

static void hash_in(uint64_t *hash, uint64_t value)
{
    *hash = as_hash_seeded(&value, sizeof value, *hash).low;
}

static void hash_tree(const crash *c, int folder, uint64_t *hash)
{
    for (int i = 0; i < c->place_count; i++) {
        int what = c->at_place[i];
        if (c->places[i].folder != folder || what < 0) {
            continue;
        }
        hash_in(hash, (uint64_t)i);
        hash_in(hash, (uint64_t)what);
        if (c->nodes[what].is_folder) {
            hash_tree(c, what, hash);
            continue;
        }
        for (int k = 0; k < c->op_count; k++) {
            if (!c->ops[k].is_name && c->ops[k].node == what && c->choice[k] != CRASH_LOST) {
                hash_in(hash, (uint64_t)k);
                hash_in(hash, c->choice[k] == CRASH_TORN ? c->torn[k] : 0);
            }
        }
    }
}

void crash_hash(const crash *c, uint64_t *hash)
{
    hash_tree(c, 0, hash);
}

static void build_file(const crash *c, const char *path, int which, char **known)
{
    /* A second name of a file that is there already. */
    if (known[which]) {
        must(link(known[which], path) == 0, path);
        return;
    }
    int64_t size = 0;
    unsigned char *bytes = content_of_node(c, which, &size);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    must(fd >= 0 && (size == 0 || write(fd, bytes, (size_t)size) == size) && close(fd) == 0, path);
    free(bytes);
    known[which] = strdup(path);
    must(known[which] != NULL, "memory");
}

static void build_tree(const crash *c, const char *path, int folder, char **known)
{
    must(mkdir(path, 0777) == 0, path);
    for (int i = 0; i < c->place_count; i++) {
        int what = c->at_place[i];
        if (c->places[i].folder != folder || what < 0) {
            continue;
        }
        char *below;
        must(asprintf(&below, "%s/%s", path, c->places[i].name) >= 0, "memory");
        if (c->nodes[what].is_folder) {
            build_tree(c, below, what, known);
        } else {
            build_file(c, below, what, known);
        }
        free(below);
    }
}

void crash_rebuild(const crash *c)
{
    char **known = calloc((size_t)c->node_count, sizeof *known);
    if (!known) {
        abort();
    }
    remove_tree(c->scratch);
    build_tree(c, c->scratch, 0, known);
    for (int i = 0; i < c->node_count; i++) {
        free(known[i]);
    }
    free((void *)known);
}
