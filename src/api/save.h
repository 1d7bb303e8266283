/* SPDX-License-Identifier: Apache-2.0
 * A caller's save options, taken apart.
 */
#ifndef ALLSHARD_API_SAVE_H
#define ALLSHARD_API_SAVE_H

#include "api/handles.h"
#include "transfer/save.h"

/* Fills *call; a fault goes to e and is agreed on by the call itself. */
void as_save_call_from(as_save_call *call, allshard_state *s, const char *directory,
                       const allshard_save_options *options, as_error *e);

#endif
