/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/bench_samples.h"

#include <math.h>
#include <stdlib.h>

static const struct {
    const char *group;
    const char *key;
} names[] = {
#define AS_METRIC_NAME(id, group, key) {group, key},
    AS_METRICS(AS_METRIC_NAME)
#undef AS_METRIC_NAME
};

const char *as_metric_group(enum as_metric m)
{
    return names[m].group;
}

const char *as_metric_key(enum as_metric m)
{
    return names[m].key;
}

void as_sample_init(as_sample *s)
{
    for (int m = 0; m < AS_METRIC_COUNT; m++) {
        s->value[m] = NAN;
    }
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

/* `part` of the way from the first to the last of sorted values. */
static double value_at(const double *sorted, size_t count, double part)
{
    double place = part * (double)(count - 1);
    size_t low = (size_t)place;
    size_t high = low + 1 < count ? low + 1 : low;
    return sorted[low] + (sorted[high] - sorted[low]) * (place - (double)low);
}

as_summary as_summarize(const as_sample *samples, size_t count, enum as_metric m, double *scratch)
{
    size_t known = 0;
    for (size_t i = 0; i < count; i++) {
        if (!isnan(samples[i].value[m])) {
            scratch[known++] = samples[i].value[m];
        }
    }
    if (known == 0) {
        return (as_summary){NAN, NAN, NAN, NAN, NAN};
    }
    qsort(scratch, known, sizeof *scratch, compare);
    return (as_summary){
        .least = scratch[0],
        .quarter = value_at(scratch, known, 0.25),
        .median = value_at(scratch, known, 0.5),
        .three_quarters = value_at(scratch, known, 0.75),
        .most = scratch[known - 1],
    };
}
