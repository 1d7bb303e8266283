/* SPDX-License-Identifier: Apache-2.0
 * Which folders of a series go: the rules of retention.h, put to its members.
 *
 * It only decides. Who carries it out holds the root's lock, moves those that go away (away.h), then
 * reads the tags of each once more (as_prune_comes_back), for `allshard tag` needs no lock, and only
 * then removes them.
 */
#ifndef ALLSHARD_SERIES_PRUNE_H
#define ALLSHARD_SERIES_PRUNE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "commit/names.h"
#include "series/members.h"
#include "series/retention.h"

typedef struct as_prune {
    uint32_t *reasons; /* of each member, in their order: bits of enum as_keep_reason; 0: it goes */
    size_t count;      /* of the members */
    as_names going;    /* folder names of those that go, the oldest first */
    int64_t bytes;     /* of their files */
} as_prune;

#define AS_PRUNE_INIT ((as_prune){0})

/* `members` as as_members_read gives them, borrowed for the call. Those without a record (has_record)
 * stay, for no series saved them; if they are good they count like any. in_use: folder names, in any
 * order, that stay whatever the rules say, such as that of the checkpoint that this run was loaded
 * from and of the one that it saved last (which may have a lower step than others, if the run went
 * back); NULL: none. Names that are no members do not count. now_ms: since the epoch. AS_NOMEM. */
int as_prune_plan(as_prune *out, const as_members *members, const as_keep_rules *rules,
                  const as_names *in_use, int64_t now_ms, as_error *e);

/* Takes off the plan what could not be moved out of the root: folders that this user may not write
 * to (`chmod a-w` protects one), another's in a root with the sticky bit, mounts. To be asked before
 * anything is moved: once the journal of a prune is written, a move that cannot be made holds up
 * every save. `root` is open. AS_NOMEM. */
int as_prune_spare(as_prune *p, const as_members *members, int root, as_error *e);

/* Did somebody tag the checkpoint after it was looked at? `folder` is the parent of the folder
 * `name`, where that lies now; `what` the path of `folder` for texts. Tags that cannot be read bring
 * it back, too: it is better to keep one too many. */
bool as_prune_comes_back(int folder, const char *what, const char *name);

/* Appends why one stays, in words ("newest good, tagged, last"), or "goes". AS_NOMEM. */
int as_prune_words(uint32_t reasons, as_buffer *out, as_error *e);

void as_prune_free(as_prune *p);

#endif
