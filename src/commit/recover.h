/* SPDX-License-Identifier: Apache-2.0
 * What a killed save left: finish it if its journal is there, else clear it away.
 * May be done any number of times and be killed at any step.
 */
#ifndef ALLSHARD_COMMIT_RECOVER_H
#define ALLSHARD_COMMIT_RECOVER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/log.h"
#include "commit/lock.h"
#include "commit/names.h"

enum as_recover_outcome {
    AS_RECOVER_NOTHING, /* there was nothing to do */
    AS_RECOVER_CLEARED, /* what a save left was removed: one that never counted, or a complete one */
    AS_RECOVER_FINISHED, /* a save that counted was finished */
};

typedef struct as_recover_report {
    enum as_recover_outcome outcome; /* on a dry run: what would be done */
    as_names incoming;               /* FINISHED: names of the new checkpoint */
    as_names outgoing;               /* FINISHED: names of the old one that went */
    bool had_staging;                /* CLEARED: it never counted ... */
    bool had_old;          /* ... or it was complete; neither: its first or last moments */
    as_names cleared;      /* CLEARED: staged files that were removed */
    int64_t cleared_bytes; /* of the files, and of those in staged folders */
    as_names freed;        /* old files that waited in .allshard/old/ to be removed */
    int64_t freed_bytes;   /* likewise */
    as_names others;       /* removed from .allshard/, too: drafts, and what no save made */
    bool had_owner;        /* a dead holder's lock was found ... */
    as_owner owner;        /* ... of this process; pid 0 if unreadable */
} as_recover_report;

#define AS_RECOVER_REPORT_INIT ((as_recover_report){0})

/* Recovers DIR under its lock. AS_BUSY if a live save holds it; AS_NOT_FOUND if
 * there is no DIR; AS_FORMAT if the journal is damaged or a file that it promises
 * is missing: then everything is kept and the text says what to do. dry_run: only
 * looks. lease_ms <= 0: the default. AS_SYSTEM if something in an old checkpoint that went may not
 * be removed; without a report (NULL), from who only wants to go on, that is a warning. */
int as_recover(const char *dir, bool dry_run, int64_t lease_ms, as_recover_report *report,
               const as_log *log, as_error *e);

void as_recover_report_free(as_recover_report *report);

/* The same for one who holds the lock already; `folder` is DIR, open. The lock
 * stays, .allshard/ holds nothing else afterwards but what may not be removed. */
int as_recover_held(as_lock *lock, int folder, const char *dir, as_recover_report *report,
                    const as_log *log, as_error *e);

#endif
