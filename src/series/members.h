/* SPDX-License-Identifier: Apache-2.0
 * The checkpoints of a series as they lie in its root.
 */
#ifndef ALLSHARD_SERIES_MEMBERS_H
#define ALLSHARD_SERIES_MEMBERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/hash.h"
#include "base/log.h"
#include "commit/names.h"
#include "series/folder_name.h"
#include "series/record.h"

enum as_member_state {
    AS_MEMBER_GOOD,   /* nothing amiss in names, sizes, manifest, index and headers */
    AS_MEMBER_DAMAGED /* `why` tells */
};

typedef struct as_member {
    char *name;      /* of its folder; heap */
    int64_t step;    /* of the manifest, else of the name; −1: neither tells */
    int64_t time_ms; /* since the epoch: of the manifest, else of the folder */
    char *why;       /* heap; damaged: the first thing that is wrong, with the file; else NULL */
    enum as_member_state state;
    bool has_manifest; /* else somebody else's checkpoint, good if its files keep the format */
    bool has_record;
    bool tags_unknown; /* the list of tags cannot be read: it counts as tagged */
    bool has_print;
    as_record record; /* has_record */
    as_names parts;   /* of the manifest */
    as_names tags;    /* sorted */
    int64_t bytes;    /* of its files */
    /* has_print, its files could be listed: of their names, inodes, sizes and times: the same while
     * nobody writes. */
    as_hash print;
} as_member;

typedef struct as_members {
    as_member *items; /* by step, then time, then name: the newest is the last */
    size_t count;
} as_members;

#define AS_MEMBERS_INIT ((as_members){0})

/* All folders of the root that the pattern can have named, and looks at each without reading
 * weights. `pattern` NULL: every folder that has an allshard manifest or weights, whatever its name
 * (for tools that do not know the pattern). Links to folders are not followed and no checkpoints;
 * names that begin with '.' are none. `log` (may be NULL) is warned of a save that was killed after
 * it counted. *out is overwritten. AS_NOT_FOUND: there is no such root; AS_INVALID: it is no folder;
 * AS_SYSTEM, AS_NOMEM. Local. */
int as_members_read(as_members *out, const char *root, const as_folder_pattern *pattern,
                    const as_log *log, as_error *e);

/* The same for who looks again and again: *m is what an earlier call gave (or nothing), and what is
 * there now takes its place. Good ones whose files have the names, inodes, sizes and times of then
 * are not looked into, but for their tags. After an error *m is empty. */
int as_members_read_again(as_members *m, const char *root, const as_folder_pattern *pattern,
                          const as_log *log, as_error *e);

/* One folder of the root, which is open; root_path is for texts and must lead to it. *is_one false: it
 * is no checkpoint at all (another folder, or it went away), and *out is untouched. AS_NOMEM, AS_SYSTEM
 * where this process has no more descriptors: whatever else goes wrong is the checkpoint's damage. */
int as_member_read(as_member *out, int root, const char *root_path, const char *name,
                   const as_folder_pattern *pattern, bool *is_one, as_error *e);

/* The same; `known` (may be NULL) is what an earlier look gave: what it holds is taken over, all but
 * its name and its tags, if nothing can have changed. It is to be freed in any case. */
int as_member_read_again(as_member *out, as_member *known, int root, const char *root_path,
                         const char *name, const as_folder_pattern *pattern, bool *is_one,
                         as_error *e);

/* The newest good one; NULL: there is none. */
const as_member *as_members_newest(const as_members *m);

/* The last one of that step, good or not; NULL: there is none. */
const as_member *as_members_of_step(const as_members *m, int64_t step);

const as_member *as_members_named(const as_members *m, const char *name);

void as_member_free(as_member *m);
void as_members_free(as_members *m);

#endif
