/* SPDX-License-Identifier: Apache-2.0
 * What the saves of a checkpoint's parts measured, taken together.
 */
#include <stdlib.h>
#include <string.h>

#include "series/parts.h"

/* Sums, but for what no sum can be told of. Texts are those of the first part that has any. */
static void add(as_meter *to, const as_meter *from, bool first)
{
    as_tally before = to->tally;
    int64_t *sum = (int64_t *)(void *)&to->tally;
    const int64_t *more = (const int64_t *)(const void *)&from->tally;
    for (size_t i = 0; i < sizeof(as_tally) / sizeof *sum; i++) {
        sum[i] += more[i];
    }
    to->tally.staging = from->tally.staging;
    to->tally.plan_cached = from->tally.plan_cached && (first || before.plan_cached);
    if (!*to->engine) {
        memcpy(to->engine, from->engine, sizeof to->engine);
        memcpy(to->engine_reason, from->engine_reason, sizeof to->engine_reason);
    }
    if (!*to->staging_reason) {
        memcpy(to->staging_reason, from->staging_reason, sizeof to->staging_reason);
    }
    if (!*to->device && !*to->device_reason) {
        memcpy(to->device, from->device, sizeof to->device);
        memcpy(to->device_reason, from->device_reason, sizeof to->device_reason);
    }
}

void as_saving_add_figures(as_saving *s, const as_session *session)
{
    int ranks = as_comm_size(session->comm);
    bool first = s->measured == 0;
    add(&s->meter, &session->meter, first);
    if (first && session->meters) {
        s->meters = calloc((size_t)ranks, sizeof *s->meters);
    }
    for (int i = 0; i < ranks && s->meters && session->meters; i++) {
        add(&s->meters[i], &session->meters[i], first);
    }
    if (!session->meters) { /* of some part the others' are not known */
        free(s->meters);
        s->meters = NULL;
    }
    s->measured++;
}

void as_saving_publish_figures(as_saving *s, as_session *session, enum as_operation operation)
{
    s->meter.trace = session->meter.trace;
    session->operation = operation;
    session->meter = s->meter;
    free(session->meters);
    session->meters = s->meters;
    s->meters = NULL;
}
