/* SPDX-License-Identifier: Apache-2.0
 * Which ranks of each node write.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "transfer/writers.h"

enum { MOST = 64 };

/* Limits kept, every rank's writer is on its node and writes for itself, shares are even. */
static void check(const int32_t *node_of, int32_t ranks, int32_t per_node)
{
    int32_t writers[MOST];
    as_error e = AS_ERROR_INIT;
    assert_int_equal(as_writers_choose(node_of, ranks, per_node, writers, &e), AS_OK);
    int32_t served[MOST] = {0};
    for (int32_t r = 0; r < ranks; r++) {
        int32_t w = writers[r];
        assert_in_range(w, 0, r);
        assert_int_equal(node_of[w], node_of[r]);
        assert_int_equal(writers[w], w);
        served[w]++;
    }
    for (int32_t node = 0; node < ranks; node++) {
        int32_t size = 0;
        int32_t count = 0;
        int32_t most = 0;
        int32_t least = MOST;
        for (int32_t r = 0; r < ranks; r++) {
            if (node_of[r] != node) {
                continue;
            }
            size++;
            if (writers[r] == r) {
                count++;
                most = served[r] > most ? served[r] : most;
                least = served[r] < least ? served[r] : least;
            }
        }
        assert_int_equal(count, size < per_node ? size : per_node);
        assert_true(size == 0 || most - least <= 1);
    }
}

static void blocks_and_rounds(void **state)
{
    (void)state;
    for (int32_t ranks = 1; ranks <= 24; ranks++) {
        for (int32_t nodes = 1; nodes <= ranks; nodes++) {
            int32_t by_block[MOST];
            int32_t by_round[MOST];
            for (int32_t r = 0; r < ranks; r++) {
                by_block[r] = r * nodes / ranks;
                by_round[r] = r % nodes;
            }
            for (int32_t per_node = 1; per_node <= ranks + 1; per_node++) {
                check(by_block, ranks, per_node);
                check(by_round, ranks, per_node);
            }
        }
    }
}

static void uneven_nodes(void **state)
{
    (void)state;
    const int32_t node_of[] = {0, 0, 0, 1, 0, 0, 2, 2, 0, 0, 2};
    for (int32_t per_node = 1; per_node < 8; per_node++) {
        check(node_of, sizeof node_of / sizeof *node_of, per_node);
    }
    int32_t writers[11];
    assert_int_equal(as_writers_choose(node_of, 11, 2, writers, NULL), AS_OK);
    const int32_t expected[] = {0, 0, 0, 3, 0, 5, 6, 6, 5, 5, 10};
    assert_memory_equal(writers, expected, sizeof expected);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_and_rounds),
        cmocka_unit_test(uneven_nodes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
