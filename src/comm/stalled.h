/* SPDX-License-Identifier: Apache-2.0
 * What is told of ranks that stalled.
 */
#ifndef ALLSHARD_COMM_STALLED_H
#define ALLSHARD_COMM_STALLED_H

#include <stddef.h>

enum as_stall {
    AS_STALL_SILENT, /* no sign of life */
    AS_STALL_ABSENT, /* likewise, and it had not come to the call */
    AS_STALL_STORAGE /* alive, but its storage ends nothing */
};

enum { AS_STALLED_TOLD = 4, AS_STALLED_TEXT = 952 };

typedef struct as_stalled {
    enum as_stall kind;
    const char *function; /* of the library */
    double seconds;       /* the limit */
    int count;            /* of stalled ranks */
    int ranks[AS_STALLED_TOLD];
    const char *hosts[AS_STALLED_TOLD];
    const char *outcome; /* of a save, as far as it is known; may be NULL */
} as_stalled;

/* One line into `out`, AS_STALLED_TEXT bytes. */
void as_stalled_text(const as_stalled *s, char *out);

#endif
