/* SPDX-License-Identifier: Apache-2.0
 * The locks that this process holds, so that a lock of its own that it could not
 * remove (the disk failed) is not taken for a live one ever after.
 */
#ifndef ALLSHARD_COMMIT_HELD_H
#define ALLSHARD_COMMIT_HELD_H

#include <stdbool.h>
#include <sys/types.h>

/* One lock file, by its identity. Kept by the one who holds it, in place, until as_held_drop. */
typedef struct as_held {
    dev_t device;
    ino_t inode;
    struct as_held *next;
} as_held;

/* Any thread may call these. */
void as_held_add(as_held *held);
void as_held_drop(as_held *held); /* no error if it was never added */
bool as_held_find(dev_t device, ino_t inode);

#endif
