/* SPDX-License-Identifier: Apache-2.0 */
#include "comm/stalled.h"

#include <stdio.h>
#include <string.h>

/* "rank 2 (node7)", "ranks 2 (node7), 3 (node7) and 14 more" */
static void list(const as_stalled *s, char *out, size_t size)
{
    int told = s->count < AS_STALLED_TOLD ? s->count : AS_STALLED_TOLD;
    size_t at = (size_t)snprintf(out, size, "%s", s->count == 1 ? "rank" : "ranks");
    for (int i = 0; i < told && at < size; i++) {
        at += (size_t)snprintf(out + at, size - at, "%s %d (%.63s)", i ? "," : "", s->ranks[i],
                               s->hosts[i]);
    }
    int more = s->count - told;
    if (more > 0 && at < size) {
        (void)snprintf(out + at, size - at, " and %d more", more);
    }
}

void as_stalled_text(const as_stalled *s, char *out)
{
    char who[352];
    char what[128] = "";
    list(s, who, sizeof who);
    switch (s->kind) {
    case AS_STALL_SILENT:
        (void)snprintf(what, sizeof what, "gave no sign of life for %g s in %s", s->seconds,
                       s->function);
        break;
    case AS_STALL_ABSENT:
        (void)snprintf(what, sizeof what, "did not come to %s within %g s", s->function,
                       s->seconds);
        break;
    case AS_STALL_STORAGE:
        (void)snprintf(
            what, sizeof what,
            "waited %g s in %s without one operation of its storage or devices coming to an end",
            s->seconds, s->function);
        break;
    }
    (void)snprintf(out, AS_STALLED_TEXT,
                   "%s %s%s%s; this context can only be closed: look after that process, its host "
                   "and its storage, and start the job again",
                   who, what, s->outcome ? "; " : "", s->outcome ? s->outcome : "");
}
