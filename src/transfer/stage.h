/* SPDX-License-Identifier: Apache-2.0
 * The staged files of a save: made at their full size, opened by their writers.
 */
#ifndef ALLSHARD_TRANSFER_STAGE_H
#define ALLSHARD_TRANSFER_STAGE_H

#include "transfer/prepare.h"

/* Staged files are opened by path on every rank; only the main process has the transaction. What is
 * not collective may be called in any thread, by one at a time: of `call` that looks at directory,
 * mode and this rank's number. */
typedef struct as_stage {
    const as_save_call *call;
    const as_prepared *prepared;
    bool is_open;
    int folder;     /* the staging folder, if is_open */
    as_buffer path; /* of the file opened last, for error texts */
} as_stage;

/* Opens the staging folder, if this rank has to do with files in it: to be followed by an agreement
 * before the folder is used, while the main process holds the lock. Then it is surely this save's:
 * should the lock be lost, or this rank stall until the others have given up and another save has
 * begun, the folder of that name is another one. Not collective: `e` goes to that agreement. */
int as_stage_enter(as_stage *s, as_error *e);

/* Makes the files whose headers this rank built, and the small files that fall to it; at most
 * call->creators ranks at a time. To be followed by an agreement, unless AS_MPI or AS_TIMEOUT is
 * returned. Collective; but if none has failed before, it waits for others only where not all may make
 * files at once. */
int as_stage_create(as_stage *s, as_error *e);

/* Opens the staged file of that number for writing; *name lives until the next call. */
int as_stage_open(as_stage *s, int32_t file, int *fd, const char **name, as_error *e);

/* The same for reading. */
int as_stage_open_written(as_stage *s, int32_t file, int *fd, const char **name, as_error *e);

/* Do the files get their mode only when they are written? */
bool as_stage_settles(const as_stage *s);

/* Gives the files the mode that the caller wants, where they could not be written with it.
 * Collective. */
int as_stage_settle(as_stage *s, as_error *e);

/* The same for the files that this rank made, without an agreement: for a thread in the background.
 * All ranks must have written theirs. AS_OK at once where the mode lets their owner in. */
int as_stage_settle_own(as_stage *s, as_error *e);

void as_stage_free(as_stage *s);

#endif
