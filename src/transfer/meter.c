/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/meter.h"

#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

void as_meter_reason(as_meter *m, const char *reason)
{
    char *at = m->engine_reason;
    (void)snprintf(at, sizeof m->engine_reason, "%s", reason);
    while (*at) {
        uint32_t character;
        size_t length = as_utf8_decode(at, strlen(at), &character);
        if (length == 0 || (unsigned char)*at < ' ') {
            *at = '?';
            length = 1;
        }
        at += length;
    }
}

void as_meter_engine(as_meter *m, const as_engine_type *type, const as_engine *engine)
{
    const char *reason = NULL;
    const char *used = type->used(engine, &reason);
    (void)snprintf(m->engine, sizeof m->engine, "%s", used);
    as_meter_reason(m, reason ? reason : "");
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
