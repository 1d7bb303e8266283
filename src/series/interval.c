/* SPDX-License-Identifier: Apache-2.0 */
#include "series/interval.h"

#include <math.h>

double as_interval_failures(double cost, double mtbf)
{
    if (cost >= 2 * mtbf) {
        return mtbf + cost;
    }
    double x = cost / (2 * mtbf);
    double work = sqrt(2 * cost * mtbf) * (1 + sqrt(x) / 3 + x / 9) - cost;
    return work + cost;
}

double as_interval_overhead(double cost, double percent)
{
    return percent >= 100 ? cost : cost * 100 / percent;
}
