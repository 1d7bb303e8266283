/* SPDX-License-Identifier: Apache-2.0
 * What happened in a series, ROOT/allshard.history.jsonl: a line of JSON for each event, appended
 * and synced, never rewritten. A torn last line (a crash) is passed over by readers, and ended by
 * the next writer.
 *
 *   {"time": "2026-01-31T12:00:00.123Z", "event": "saved", "name": "checkpoint-500", "step": 500,
 *    "text": "the note of the save"}
 */
#ifndef ALLSHARD_SERIES_HISTORY_H
#define ALLSHARD_SERIES_HISTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define AS_HISTORY_NAME "allshard.history.jsonl"

enum as_event_kind {
    AS_EVENT_SAVED,    /* text: the note of the save */
    AS_EVENT_REPLACED, /* likewise, a checkpoint of that name was there */
    AS_EVENT_FAILED,   /* a save; text: why */
    AS_EVENT_LOADED,   /* a run goes on from it; text: what was passed over */
    AS_EVENT_PRUNED,   /* text: bytes freed */
    AS_EVENT_TAGGED,   /* text: the tag */
    AS_EVENT_UNTAGGED, /* text: the tag */
    AS_EVENT_NOTE,     /* text: of a person */
    AS_EVENT_STOP,     /* a run ends; text: why */
    AS_EVENT_OTHER,    /* a reader does not know it */
};

typedef struct as_event {
    int64_t time_ms; /* since the epoch */
    enum as_event_kind kind;
    const char *kind_name; /* as in the file */
    const char *name;      /* of the checkpoint; NULL: none */
    int64_t step;          /* −1: none */
    const char *text;      /* NULL: none */
} as_event;

typedef struct as_history {
    as_event *items; /* in the order of the file; strings live with it */
    size_t count;
    int64_t damaged; /* lines that are none; they are passed over */
    void *store;
} as_history;

#define AS_HISTORY_INIT ((as_history){0})

/* Appends one; time_ms 0: now; kind_name does not count, and kind is not AS_EVENT_OTHER. `root` is
 * open, `path` for texts. Several processes may do so at the same time, with and without the root's
 * lock. What is not UTF-8 is written with its broken bytes as \xNN. AS_LIMIT: a text of more than 64
 * KiB; AS_INVALID: a link or no regular file has that name; AS_SYSTEM, AS_NOMEM. */
int as_history_append(int root, const char *path, const as_event *event, as_error *e);

/* No file: none. At most 64 MiB of its end are read; what follows the last newline is passed over (it
 * may just be written). *out is overwritten. AS_INVALID: as above; AS_SYSTEM, AS_NOMEM. */
int as_history_read(int root, const char *path, as_history *out, as_error *e);

void as_history_free(as_history *h);

#endif
