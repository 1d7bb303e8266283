/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/meter.h"

#include <stdio.h>

void as_meter_engine(as_meter *m, const as_engine_type *type, const as_engine *engine)
{
    const char *reason = NULL;
    const char *used = type->used(engine, &reason);
    (void)snprintf(m->engine, sizeof m->engine, "%s", used);
    (void)snprintf(m->engine_reason, sizeof m->engine_reason, "%s", reason ? reason : "");
}

void as_wait_rest(as_wait *w, int64_t longest)
{
    if (w->since == 0) {
        w->since = as_clock();
    }
    as_comm_rest(&w->idle, longest);
}

void as_wait_end(as_wait *w, as_meter *m)
{
    if (w->since) {
        (void)as_meter_end(m, "wait", w->since, 0, &m->tally.wait);
    }
    *w = (as_wait){0};
}
