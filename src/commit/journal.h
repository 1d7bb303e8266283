/* SPDX-License-Identifier: Apache-2.0
 * The journal, DIR/.allshard/journal: which names come in and which go out. As
 * soon as it is durable the save counts; whoever finds it carries it out.
 *
 *   {"allshard_journal": 1,
 *    "incoming": [{"name": "model-00001-of-00002.safetensors", "size": 123}, …],
 *    "outgoing": ["model.safetensors.index.json", …],
 *    "checksum": "<XXH3-64 of the rest, 16 hex digits>"}
 *
 * The moves are made in the order of the lists, all outgoing ones first. A name in
 * both lists goes out only as long as the new file still lies in .allshard/new/.
 *
 * In a root of a series all names are those of folders, each moved with all that is in it. Then the
 * version is 2, for those that know of files alone, "folders" is true, and entries have no "size".
 */
#ifndef ALLSHARD_COMMIT_JOURNAL_H
#define ALLSHARD_COMMIT_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "base/buffer.h"
#include "base/error.h"
#include "commit/names.h"

typedef struct as_journal {
    as_names incoming;        /* indexes last */
    int64_t *sizes;           /* bytes of each incoming file; heap. Of folders: 0 */
    as_names outgoing;        /* indexes first */
    as_names incoming_sorted; /* for look-ups */
    as_names outgoing_sorted;
    bool folders; /* all names are those of folders, not of files */
} as_journal;

#define AS_JOURNAL_INIT ((as_journal){0})

/* Makes a journal from the names that come in, with their sizes, and those that go
 * out. Puts the indexes where they belong, drops names given twice in `outgoing`.
 * AS_INVALID: a name that is not plain, or comes in twice. That they are folders the
 * caller says afterwards. */
int as_journal_make(as_journal *out, const char *const *incoming, const int64_t *sizes,
                    size_t incoming_count, const char *const *outgoing, size_t outgoing_count,
                    as_error *e);

/* Deterministic. AS_INVALID if a name is not UTF-8. */
int as_journal_to_bytes(const as_journal *j, as_buffer *out, as_error *e);

/* Checks everything, the checksum first. AS_FORMAT, with what to do; `what` names the file. */
int as_journal_from_bytes(const char *bytes, size_t count, const char *what, as_journal *out,
                          as_error *e);

/* Reads the journal in the open folder .allshard; none: AS_OK with *found false. `status`
 * (may be NULL) gets the identity of the file that was read. */
int as_journal_read(int meta, const char *what, as_journal *out, struct stat *status, bool *found,
                    as_error *e);

bool as_journal_brings(const as_journal *j, const char *name);
bool as_journal_takes(const as_journal *j, const char *name);

void as_journal_free(as_journal *j);

#endif
