/* SPDX-License-Identifier: Apache-2.0
 * The index of a checkpoint, whose lines the builders of the headers have: brought to the main
 * process, and into the staged file on the way or later.
 */
#ifndef ALLSHARD_TRANSFER_PUBLISH_INDEX_H
#define ALLSHARD_TRANSFER_PUBLISH_INDEX_H

#include "transfer/publish.h"

/* Writes and fsyncs the staged index while the lines come. Sets p->index_size and p->index_sums.
 * Collective. */
int as_publish_index_stream(as_publication *p, as_error *e);

/* Brings all of it into p->index_text. Collective. */
int as_publish_index_gather(as_publication *p, as_error *e);

/* Writes and fsyncs the staged index from p->index_text, which is empty then; sets what
 * as_publish_index_stream does. Main process. */
int as_publish_index_write(as_publication *p, as_error *e);

#endif
