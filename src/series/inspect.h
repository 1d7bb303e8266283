/* SPDX-License-Identifier: Apache-2.0
 * Is a checkpoint folder whole, as far as names, sizes, manifest, indexes and headers tell? No
 * weights are read.
 */
#ifndef ALLSHARD_SERIES_INSPECT_H
#define ALLSHARD_SERIES_INSPECT_H

#include <stdbool.h>

#include "base/error.h"
#include "commit/manifest.h"
#include "commit/view.h"

typedef struct as_inspected {
    bool has_manifest; /* and it could be read: */
    as_manifest manifest;
    bool has_weights; /* there is a file, or an index, that looks like weights */
} as_inspected;

#define AS_INSPECTED_INIT ((as_inspected){0})

/* With a manifest: the shards and indexes of all its parts must be there with their sizes, the
 * headers keep the rules of their format, and the tensors be as many as the manifest says, each where
 * the index says. Small files beside the weights may have changed: people edit a config.json. Without
 * one, all *.safetensors must keep the format, and so must the indexes, whose tensors must be there.
 *
 * AS_OK: nothing is amiss (or there are neither manifest nor weights). Else the first thing that is:
 * AS_FORMAT, AS_NOT_FOUND, AS_INVALID, AS_LIMIT, AS_SYSTEM; and AS_NOMEM, AS_BUSY (a save replaced
 * files just now). *out is overwritten, and to be freed in any case. */
int as_inspect(as_inspected *out, as_view *v, as_error *e);

void as_inspected_free(as_inspected *i);

#endif
