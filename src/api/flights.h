/* SPDX-License-Identifier: Apache-2.0
 * The nonblocking saves of a context that are in flight, or over and not waited for yet, in the
 * order in which they began, which is the same on all ranks.
 */
#ifndef ALLSHARD_API_FLIGHTS_H
#define ALLSHARD_API_FLIGHTS_H

#include "api/handles.h"
#include "transfer/isave.h"

struct allshard_request {
    allshard *context;
    allshard_state *state; /* NULL: another save of it may begin */
    int64_t number;        /* from 1, among those of the context */
    as_isave *save;
    bool borrowed; /* the save is a part of a series' one, which frees it */
    allshard_request *next;
};

/* A new one; `r` comes zeroed from calloc. */
void as_flights_add(allshard_request *r, allshard_state *s, as_isave *save);

/* Takes the next steps of all, and of those of series. Local, never blocks. */
void as_flights_move(allshard *as);

/* Before another save of the state: waits for the one that is in flight, if there is one, or
 * refuses: AS_BUSY. Some ranks may have ended it before. AS_MISMATCH if ranks come with different states. A rank may come with an error:
 * then all get it. Collective. */
int as_flights_settle(allshard_state *s, bool refuse, as_error *e);

/* Waits for one and gives back all but its outcome and figures. Collective. */
void as_flight_finish(allshard_request *r);

/* Takes it from the list and frees it. It was finished. */
void as_flight_free(allshard_request *r);

/* Asks for all to be given up. Local, never blocks. */
void as_flights_cancel(allshard *as);

/* Waits for all and frees them. The first failure goes to `e`; that one was cancelled is none if
 * that was asked for. Collective. */
void as_flights_close(allshard *as, bool cancel, as_error *e);

#endif
