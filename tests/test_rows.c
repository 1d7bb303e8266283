/* SPDX-License-Identifier: Apache-2.0
 * Rows in global order: the sort in place against a plain one, and looking rows up.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "box_support.h"
#include "plan/rows.h"

static int compare(const void *a, const void *b)
{
    const as_row *x = a;
    const as_row *y = b;
    if (x->order != y->order) {
        return x->order < y->order ? -1 : 1;
    }
    return (x->name > y->name) - (x->name < y->name);
}

static void check(as_row *rows, size_t count)
{
    as_row *expected = malloc((count + 1) * sizeof *expected);
    assert_non_null(expected);
    for (size_t i = 0; i < count; i++) {
        rows[i].piece = (uint32_t)i;
        rows[i].teller = (int32_t)(rows[i].name % 1000);
    }
    memcpy(expected, rows, count * sizeof *rows);
    qsort(expected, count, sizeof *expected, compare);
    as_rows_sort(rows, count);
    uint64_t pieces = 0;
    for (size_t i = 0; i < count; i++) {
        assert_true(rows[i].order == expected[i].order);
        assert_true(rows[i].name == expected[i].name);
        assert_int_equal(rows[i].teller, rows[i].name % 1000);
        pieces += rows[i].piece;
    }
    assert_int_equal(pieces, count * (count - (count > 0)) / 2);
    free(expected);
}

static void sorts_whatever_the_keys(void **state)
{
    (void)state;
    uint64_t seed = 3;
    enum { MOST = 4000 };
    as_row *rows = calloc(MOST, sizeof *rows);
    assert_non_null(rows);
    for (int i = 0; i < 300; i++) {
        size_t count = (size_t)between(&seed, 0, between(&seed, 0, 1) ? 40 : MOST);
        int64_t most = (int64_t)(UINT64_C(1) << between(&seed, 0, 62));
        uint64_t names = between(&seed, 0, 1) ? UINT64_MAX : 3;
        for (size_t k = 0; k < count; k++) {
            rows[k].order = between(&seed, 0, most);
            rows[k].name = chance(&seed) & names;
        }
        check(rows, count);
        check(rows, count); /* sorted already */
    }
    /* ranks and places, as without keys */
    for (size_t k = 0; k < MOST; k++) {
        rows[k].order = (int64_t)(MOST - k) % 7 << 32 | (int64_t)(k * 37 % 1000);
        rows[k].name = k;
    }
    check(rows, MOST);
    free(rows);
}

static void finds_a_declared_tensor(void **state)
{
    (void)state;
    as_row rows[100];
    for (int i = 0; i < 100; i++) {
        rows[i] = (as_row){.order = 2 * i, .name = (uint64_t)i << 40, .size = (uint64_t)i << 2 | 3};
    }
    for (int i = 0; i < 100; i++) {
        as_hash name = {.high = 9, .low = (uint64_t)i << 40};
        as_hash another = {.high = 9, .low = (uint64_t)i << 40 | 1};
        assert_ptr_equal(as_rows_find(rows, 100, 2 * i, name, i), &rows[i]);
        assert_null(as_rows_find(rows, 100, 2 * i + 1, name, i));
        assert_null(as_rows_find(rows, 100, 2 * i, another, i));
        assert_null(as_rows_find(rows, 100, 2 * i, name, i + 1));
        assert_true(as_row_mark(2 * i, name, i) != as_row_mark(2 * i, another, i));
        assert_true(as_row_mark(2 * i, name, i) != as_row_mark(2 * i, name, i + 1));
        assert_true(as_row_mark(2 * i, name, i) != as_row_mark(2 * i + 1, name, i));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sorts_whatever_the_keys),
        cmocka_unit_test(finds_a_declared_tensor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
