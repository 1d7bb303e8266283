/* SPDX-License-Identifier: Apache-2.0
 * How a checkpoint's files are found and opened: in a plain folder, as one file,
 * or, by the commit room, through the journal of a save under way.
 */
#ifndef ALLSHARD_FORMAT_OPENER_H
#define ALLSHARD_FORMAT_OPENER_H

#include "base/error.h"

struct as_source;

/* Takes one name of a folder; anything but AS_OK ends the listing and is returned. */
typedef int (*as_opener_visit)(void *user, const char *name, as_error *e);

typedef struct as_opener {
    /* Opens `name` (relative to the folder) for reading: *fd, the caller's. AS_NOT_FOUND if it is
     * not there, AS_SYSTEM. */
    int (*open)(void *self, const char *name, int *fd, as_error *e);
    /* Visits the names that lie in the folder itself, in no order; "." and ".." left out. */
    int (*list)(void *self, as_opener_visit visit, void *user, as_error *e);
    void *self;
    const char *path; /* what the user named, for error texts */
    const char *file; /* NULL for a folder; else the checkpoint is this one file */
    /* Called with the source of an index before it is read, and may put another in its place, which
     * lives as long as `guarded`. NULL: the index is read as it is. */
    int (*guard)(void *guarded, const char *name, struct as_source *source, as_error *e);
    void *guarded;
} as_opener;

/* A path on disk. For a file the folder is the one that it lies in. */
typedef struct as_disk_path {
    int folder; /* descriptor */
    char *path; /* heap */
    char *name; /* heap; the last part of the path if it is a file, else NULL */
} as_disk_path;

/* Opens the folder that `path` is, or lies in. The opener borrows *self, which as_disk_path_close
 * ends; after an error there is nothing to close. AS_NOT_FOUND if there is no such path,
 * AS_SYSTEM, AS_FORMAT if it is neither file nor folder. */
int as_disk_path_open(as_disk_path *self, const char *path, as_opener *out, as_error *e);

void as_disk_path_close(as_disk_path *self);

#endif
