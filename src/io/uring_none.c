/* SPDX-License-Identifier: Apache-2.0
 * The ring where the build has no liburing: there is none. The last functions are never reached,
 * but the table of engines names them.
 */
#include "io/uring.h"

#ifndef ALLSHARD_HAVE_URING

#include <stdio.h>

bool as_uring_works(char why[AS_URING_WHY])
{
    (void)snprintf(why, AS_URING_WHY, "this build has no liburing");
    return false;
}

int as_uring_open(as_uring **out, const as_engine_options *options, as_direct *direct, as_error *e)
{
    (void)options;
    (void)e;
    char why[AS_URING_WHY];
    *out = NULL;
    (void)as_uring_works(why);
    as_direct_note(direct, "%s", why);
    return AS_OK;
}

void as_uring_close(as_uring *u)
{
    (void)u;
}

void as_uring_submit(as_uring *u, as_io *io)
{
    (void)u;
    (void)io;
}

as_io *as_uring_reap(as_uring *u, as_error *e)
{
    (void)u;
    (void)e;
    return NULL;
}

bool as_uring_alive(const as_uring *u)
{
    (void)u;
    return false;
}

#endif
