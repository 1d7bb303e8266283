/* SPDX-License-Identifier: Apache-2.0
 * A caller's save options, taken apart.
 */
#ifndef ALLSHARD_API_SAVE_H
#define ALLSHARD_API_SAVE_H

#include "api/handles.h"
#include "transfer/isave.h"
#include "transfer/save.h"

/* Fills *call; a fault goes to e and is agreed on by the call itself. */
void as_save_call_from(as_save_call *call, allshard_state *s, const char *directory,
                       const allshard_save_options *options, as_error *e);

/* The same for a nonblocking save, with what is for those alone; *known gets the caller's options as
 * this version knows them. */
void as_isave_call_from(as_isave_call *call, allshard_state *s, const char *directory,
                        const allshard_save_options *options, allshard_save_options *known,
                        as_error *e);

#endif
