/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/copying.h"

#include "base/checked.h"

enum {
    /* Nanoseconds: a block of 4 MiB crosses in 80 µs, and several are under way. */
    REST = 20000
};

void as_copying_step(as_copying *c, const as_transfer *t, bool *moved, as_error *e)
{
    if (!t->devices || (c->since == 0 && !as_devices_busy(t->devices))) {
        return;
    }
    bool ended = false;
    if (c->since == 0) {
        c->since = as_clock();
        c->bytes = as_devices_bytes(t->devices);
    }
    as_devices_step(t->devices, &ended, e);
    bool busy = as_devices_busy(t->devices);
    if (ended || !busy) {
        as_span span = {.name = "device",
                        .thread = AS_TRACE_DEVICE,
                        .begin = c->since,
                        .end = as_clock(),
                        .bytes = as_devices_bytes(t->devices) - c->bytes};
        as_trace_add(t->meter->trace, &span);
        *c = (as_copying){.since = busy ? span.end : 0, .bytes = c->bytes + span.bytes};
    }
    *moved = *moved || ended;
}

int as_copying_check(const as_transfer *t, const as_copies *copies, as_error *e)
{
    if (copies->code != AS_OK) {
        bool moved = false;
        as_devices_step(t->devices, &moved, e); /* it tells why, if it has not yet */
        (void)as_fail(e, copies->code, 0, "a copy between device and host memory failed");
    }
    return copies->code;
}

bool as_copying_busy(const as_transfer *t, int64_t *ended)
{
    *ended += t->devices ? as_devices_bytes(t->devices) : 0;
    return t->devices && as_devices_busy(t->devices);
}

int64_t as_copying_rest(const as_transfer *t, int64_t longest)
{
    return t->devices && as_devices_busy(t->devices) ? as_min_i64(REST, longest) : longest;
}

void as_copying_drain(as_copying *c, const as_transfer *t, as_error *e)
{
    int idle = 0;
    while (t->devices && as_devices_busy(t->devices)) {
        bool moved = false;
        as_copying_step(c, t, &moved, e);
        if (moved) {
            idle = 0;
        } else {
            as_comm_rest(&idle, REST);
        }
    }
}
