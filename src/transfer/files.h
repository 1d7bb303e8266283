/* SPDX-License-Identifier: Apache-2.0
 * The files that a transfer has open: one after the other, each closed (and, after
 * writing, fsynced in the background) as soon as its last operation is done.
 */
#ifndef ALLSHARD_TRANSFER_FILES_H
#define ALLSHARD_TRANSFER_FILES_H

#include "transfer/context.h"

typedef struct as_open_file {
    int32_t file;
    as_io_file io;
    int under_way; /* operations, the fsync among them */
    bool ended;    /* no further operation will come, but the fsync */
    bool synced;   /* the fsync has been submitted */
    as_io sync;
    char *name; /* heap, owned: errors of the last operations need it longer than the opener
                      keeps it */
} as_open_file;

typedef struct as_open_files {
    const as_transfer *transfer;
    as_engine *engine; /* borrowed */
    bool sync;         /* the files are written */
    as_buffer list;    /* as_open_file *[] */
} as_open_files;

/* The open file of that number; opens it, and ends all others. */
int as_open_files_get(as_open_files *f, int32_t file, as_open_file **out, as_error *e);

/* An operation that the engine gave back is done: an AS_IO_SYNC, whose owner is the file, or
 * another one on that file. */
void as_open_files_done(as_open_files *f, as_open_file *file, as_error *e);

/* No further operation will come on any file: those that are through are fsynced, and closed when
 * that is done. After an error in `e` there is no fsync: nothing of what was written counts. */
void as_open_files_end(as_open_files *f, as_error *e);

/* Are all closed? */
bool as_open_files_closed(const as_open_files *f);

/* Has the engine an fsync of one of them? */
bool as_open_files_syncing(const as_open_files *f);

/* Closes all that are left, without fsync (after an error). */
void as_open_files_free(as_open_files *f);

#endif
