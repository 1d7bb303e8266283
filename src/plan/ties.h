/* SPDX-License-Identifier: Apache-2.0
 * Tied tensors: which of the names that share one storage is kept. The rule is
 * huggingface_hub's (serialization/_torch.py, _remove_duplicate_names), its
 * peculiar way of telling areas apart included.
 */
#ifndef ALLSHARD_PLAN_TIES_H
#define ALLSHARD_PLAN_TIES_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* One name of a storage. */
typedef struct as_tied {
    const char *name; /* borrowed; NUL-terminated */
    int64_t begin;    /* first byte in the storage */
    int64_t end;      /* byte after the last */
    size_t tag;       /* the caller's */
    size_t kept;      /* out: tag of the name that is kept in place of this one; its own if kept */
    int64_t place;    /* out: order in which the dropped names of this storage are recorded */
} as_tied;

/* Decides over all names of one storage of `bytes` bytes; `discard` are names that
 * give way if another can be kept. Sorts `names`. AS_TIED, with *culprit set to the tag
 * of a name, if an area of the storage has no name that covers the storage whole. */
int as_ties_resolve(as_tied *names, size_t count, int64_t bytes, const char *const *discard,
                    size_t discard_count, size_t *culprit, as_error *e);

#endif
