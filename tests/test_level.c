/* SPDX-License-Identifier: Apache-2.0
 * Levelling: quotas against the plain rule, block by block, and who gets what is given away.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "box_support.h"
#include "plan/level.h"

enum { MOST = 30 };

/* Each block to the rank that has least by then. Fills in what each has in the end. */
static void plain_level(const as_level_rank *ranks, int count, int64_t unit, int64_t *load)
{
    int64_t blocks = 0;
    for (int r = 0; r < count; r++) {
        blocks += ranks[r].blocks;
        load[r] = ranks[r].fixed;
    }
    for (; blocks > 0; blocks--) {
        int least = -1;
        for (int r = 0; r < count; r++) {
            if (ranks[r].writes && (least < 0 || load[r] < load[least])) {
                least = r;
            }
        }
        load[least] += unit;
    }
}

static int compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a;
    int64_t y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void quotas_follow_the_plain_rule(void **state)
{
    (void)state;
    uint64_t seed = 4;
    for (int i = 0; i < 5000; i++) {
        as_level_rank ranks[MOST] = {{0}};
        int count = (int)between(&seed, 1, MOST);
        int64_t unit = between(&seed, 1, 40);
        int64_t most = between(&seed, 0, 6) * unit;
        for (int r = 0; r < count; r++) {
            ranks[r].writes = r == 0 || between(&seed, 0, 3);
            ranks[r].fixed = between(&seed, 0, 1) ? between(&seed, 0, most) : 0;
            ranks[r].blocks = ranks[r].writes ? between(&seed, 0, 9) : 0;
        }
        int64_t expected[MOST];
        int64_t found[MOST] = {0};
        plain_level(ranks, count, unit, expected);
        as_level(ranks, count, unit);
        int64_t surplus = 0;
        int64_t kept_less = 0; /* could have stayed with one that gave, but went to its equal */
        for (int r = 0; r < count; r++) {
            assert_true(ranks[r].writes || ranks[r].quota == 0);
            found[r] = ranks[r].fixed + ranks[r].quota * unit;
            surplus += ranks[r].blocks > ranks[r].quota ? ranks[r].blocks - ranks[r].quota : 0;
            for (int k = 0; k < count; k++) {
                kept_less += ranks[r].writes && ranks[k].writes &&
                             ranks[r].fixed == ranks[k].fixed && ranks[r].quota < ranks[k].quota &&
                             ranks[r].blocks > ranks[r].quota && ranks[k].blocks < ranks[k].quota;
            }
        }
        assert_int_equal(kept_less, 0);
        qsort(expected, (size_t)count, sizeof *expected, compare);
        qsort(found, (size_t)count, sizeof *found, compare);
        assert_memory_equal(expected, found, (size_t)count * sizeof *found);

        /* All that is given away finds its rank, also if each rank looks for itself. */
        as_level_walk walk = as_level_walk_begin(ranks, count, 0);
        int64_t taken[MOST] = {0};
        for (int r = 0; r < count; r++) {
            as_level_walk own = as_level_walk_begin(ranks, count, r);
            for (int64_t k = ranks[r].quota; k < ranks[r].blocks; k++) {
                int to = as_level_walk_next(&walk);
                assert_int_equal(to, as_level_walk_next(&own));
                assert_in_range(to, 0, count - 1);
                taken[to]++;
                surplus--;
            }
        }
        assert_int_equal(surplus, 0);
        assert_int_equal(as_level_walk_next(&walk), -1);
        for (int r = 0; r < count; r++) {
            int64_t room = ranks[r].quota - ranks[r].blocks;
            assert_int_equal(taken[r], room > 0 ? room : 0);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(quotas_follow_the_plain_rule)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
