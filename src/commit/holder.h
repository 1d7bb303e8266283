/* SPDX-License-Identifier: Apache-2.0
 * Looking at a lock that somebody holds: whose it is, whether that process can be
 * alive, and how the lock of a dead one is broken so that of several breakers none
 * takes away a new lock by mistake.
 */
#ifndef ALLSHARD_COMMIT_HOLDER_H
#define ALLSHARD_COMMIT_HOLDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/log.h"
#include "commit/folder.h"
#include "commit/owner.h"

enum { AS_LOCK_LARGEST = 4096 }; /* bytes that are looked at; ours have some 300 */

/* The lock file as it was at one moment. */
typedef struct as_holder {
    int fd; /* -1: there is no lock */
    struct stat status;
    char content[AS_LOCK_LARGEST];
    size_t size;
    as_tick tick;   /* called while it is watched; empty at first */
    as_owner owner; /* pid 0: the content does not tell */
    bool newer;     /* a later version's, which cannot be read here */
} as_holder;

enum as_verdict {
    AS_HOLDER_LIVE,
    AS_HOLDER_DEAD,
    AS_HOLDER_CHANGED /* another lock lies there by now, or none: look again */
};

/* Opens and reads the lock in the folder `meta`; `path` is its path for texts. */
int as_holder_look(as_holder *h, int meta, const char *path, as_error *e);

void as_holder_close(as_holder *h);

/* Is the holder alive? Watches for a lease, this one or its own if that is longer, if it cannot
 * be seen from here. */
int as_holder_judge(const as_holder *h, int meta, const char *path, const as_owner *self,
                    int64_t lease_ms, const as_log *log, enum as_verdict *verdict, as_error *e);

/* Removes the lock of a dead holder unless it changed since it was looked at, or somebody guards
 * it (*refused): then *broke is false. `unique` is a name that no other process uses in `meta`. */
int as_holder_break(const as_holder *h, int meta, const char *path, const char *unique, bool *broke,
                    bool *refused, as_error *e);

/* AS_BUSY: who holds it, since when, and what to do. */
int as_holder_busy(const char *path, const as_owner *owner, as_error *e);

/* flock of the lock file keeps breakers and a committing or releasing holder apart: whoever has it and
 * still finds that very file under the name may remove the name. False with errno. */
bool as_holder_guard(int fd);

/* Milliseconds of a clock that never goes back; a sleep that signals do not cut short. */
int64_t as_moment_ms(void);
void as_sleep_ms(int64_t ms);

#endif
