/* SPDX-License-Identifier: Apache-2.0
 * How the bytes of one save or load get to storage: chosen by the main process, the
 * same on all ranks.
 */
#ifndef ALLSHARD_TRANSFER_STORAGE_H
#define ALLSHARD_TRANSFER_STORAGE_H

#include "commit/view.h"
#include "io/probe.h"
#include "transfer/save.h"

/* Looks at the folder of the staged files, which the main process has made, and gives it the
 * stripes that the call asks for. Collective. */
int as_storage_for_save(as_engine_choice *out, const as_save_call *call, as_error *e);

/* `first` and `last` are files of the checkpoint, NULL if it has none: what lies in the page cache is
 * read from there, unless the caller asks for an engine. Collective; `path`, `opener`
 * and the names count on the main process. */
int as_storage_for_load(as_engine_choice *out, as_session *s, const char *engine, const char *path,
                        const as_opener *opener, const char *first, const char *last, as_error *e);

/* After a transfer: the reason for the engine that did the work, where it has none of its own. */
void as_storage_explain(as_meter *m, const as_engine_choice *choice);

#endif
