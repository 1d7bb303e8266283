/* SPDX-License-Identifier: Apache-2.0 */
#include "series/retention.h"

#include <math.h>
#include <string.h>

/* Does its metric count? */
static bool measured(const as_keep_rules *rules, const as_kept_one *one)
{
    return one->good && one->metric && !isnan(one->metric_value) &&
           (!rules->metric || strcmp(rules->metric, one->metric) == 0);
}

/* Is the later item's metric as good as the earlier one's, or better? */
static bool as_good(const as_keep_rules *rules, const as_kept_one *later,
                    const as_kept_one *earlier)
{
    return rules->metric_max ? later->metric_value >= earlier->metric_value
                             : later->metric_value <= earlier->metric_value;
}

/* Are fewer than `best` of the items better than the one at `at`? */
static bool among_best(const as_keep_rules *rules, const as_kept_one *items, size_t count,
                       size_t at)
{
    int64_t better = 0;
    for (size_t i = 0; i < count && better < rules->best; i++) {
        if (i == at || !measured(rules, &items[i])) {
            continue;
        }
        better +=
            i > at ? as_good(rules, &items[i], &items[at]) : !as_good(rules, &items[at], &items[i]);
    }
    return better < rules->best;
}

/* In doubles, for a damaged manifest may hold any time. One from the future is young: a clock that
 * jumped back must not cost a checkpoint. */
static bool is_young(const as_keep_rules *rules, const as_kept_one *one, int64_t now_ms)
{
    return ((double)now_ms - (double)one->time_ms) / 1000.0 < rules->seconds;
}

bool as_keep_rules_any(const as_keep_rules *rules)
{
    return rules->last > 0 || rules->every > 0 || rules->best > 0 || rules->seconds > 0;
}

void as_retention(const as_keep_rules *rules, const as_kept_one *items, size_t count,
                  int64_t now_ms, uint32_t *reasons)
{
    bool any = as_keep_rules_any(rules);
    int64_t newer = 0; /* good ones after the item */
    for (size_t i = count; i-- > 0;) {
        const as_kept_one *one = &items[i];
        uint32_t why = any ? 0 : AS_KEEP_NO_RULE;
        if (one->good) {
            why |= newer == 0 ? AS_KEEP_NEWEST : 0;
            why |= newer < rules->last ? AS_KEEP_LAST : 0;
            newer++;
        } else {
            why |= AS_KEEP_DAMAGED;
        }
        why |= one->tagged ? AS_KEEP_TAGGED : 0;
        why |= one->in_use ? AS_KEEP_IN_USE : 0;
        if (one->step < 0) {
            why |= AS_KEEP_UNKNOWN;
        } else if (rules->every > 0 && one->step % rules->every == 0) {
            why |= AS_KEEP_EVERY;
        }
        if (rules->best > 0 && measured(rules, one) && among_best(rules, items, count, i)) {
            why |= AS_KEEP_BEST;
        }
        if (rules->seconds > 0 && is_young(rules, one, now_ms)) {
            why |= AS_KEEP_YOUNG;
        }
        reasons[i] = why;
    }
}
