/* SPDX-License-Identifier: Apache-2.0
 * Who holds a lock: one process on one machine since its last boot, and whether
 * that process can still be alive.
 */
#ifndef ALLSHARD_COMMIT_OWNER_H
#define ALLSHARD_COMMIT_OWNER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"

enum { AS_LEASE_LARGEST_MS = 3600 * 1000 }; /* longer ones count as this */

typedef struct as_owner {
    char host[256];
    char machine[24]; /* hash of the machine's id in hex; empty if it has none */
    char boot[64];    /* boot id; empty if unknown */
    char space[64];   /* namespace of process ids; empty if unknown */
    int64_t pid;
    int64_t start;    /* start of the process, clock ticks since boot; 0 if unknown */
    char created[24]; /* when the lock was made, "2025-01-31T12:00:00Z" */
    int64_t lease_ms; /* the lock's sign of life comes several times in that time; 0: not told */
} as_owner;

enum as_life {
    AS_LIFE_GONE,  /* certainly gone */
    AS_LIFE_ALIVE, /* certainly alive */
    AS_LIFE_FAR    /* cannot be seen from here: watch its sign of life */
};

/* The calling process, now. */
int as_owner_self(as_owner *out, as_error *e);

int as_owner_to_json(const as_owner *o, as_buffer *out, as_error *e);

/* AS_FORMAT if the bytes are not a lock of ours (`what` names the file). */
int as_owner_from_json(const char *bytes, size_t count, const char *what, as_owner *out,
                       as_error *e);

/* Is it a lock of a later version of allshard's? */
bool as_owner_is_newer(const char *bytes, size_t count);

/* `self` is as_owner_self of the one who asks. A zombie is gone; another boot id is far. */
enum as_life as_owner_life(const as_owner *o, const as_owner *self);

/* "2025-01-31T12:00:00Z" of a time in seconds since 1970, into at least 21 bytes. */
void as_utc_text(int64_t seconds, char *out, size_t size);

#endif
