/* SPDX-License-Identifier: Apache-2.0 */
#include "series/timing.h"

#include <math.h>
#include <string.h>

void as_timing_add(as_timing *t, double seconds)
{
    memmove(t->seconds + 1, t->seconds, (AS_TIMING_KEPT - 1) * sizeof *t->seconds);
    t->seconds[0] = isfinite(seconds) && seconds > 0 ? seconds : 0;
    t->count += t->count < AS_TIMING_KEPT;
}

double as_timing_typical(const as_timing *t)
{
    double sorted[AS_TIMING_KEPT];
    for (int i = 0; i < t->count; i++) {
        int at = i;
        for (; at > 0 && sorted[at - 1] > t->seconds[i]; at--) {
            sorted[at] = sorted[at - 1];
        }
        sorted[at] = t->seconds[i];
    }
    return t->count > 0 ? sorted[t->count / 2] : 0;
}

double as_timing_careful(const as_timing *t)
{
    double most = as_timing_typical(t);
    double weight = 1;
    for (int i = 0; i < t->count; i++) {
        most = fmax(most, t->seconds[i] * weight);
        weight *= 0.9;
    }
    return most;
}

double as_timing_last(const as_timing *t)
{
    return t->count > 0 ? t->seconds[0] : 0;
}
