/* SPDX-License-Identifier: Apache-2.0
 * A caller's load options, taken apart, and the names that a load found.
 */
#ifndef ALLSHARD_API_LOAD_H
#define ALLSHARD_API_LOAD_H

#include "api/handles.h"
#include "transfer/load.h"

/* Fills *call; a fault goes to e and is agreed on by the call itself. */
void as_load_call_from(as_load_call *call, allshard_state *s, const char *path,
                       const allshard_load_options *options, as_error *e);

/* What lies in as->missing_names and as->unexpected_names is to be had one by one. */
void as_load_point(allshard *as);

#endif
