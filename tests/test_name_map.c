/* SPDX-License-Identifier: Apache-2.0
 * Names and their numbers: what is added is found, the first number stays, nothing else is found,
 * and a hundred thousand names are no more work each than ten.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/codes.h"
#include "base/name_map.h"

enum { MANY = 100000, LONGEST = 24 };

static void finds_what_was_added(void **state)
{
    (void)state;
    as_error e = AS_ERROR_INIT;
    as_name_map m = AS_NAME_MAP_INIT;
    size_t number = 7;
    assert_false(as_name_map_find(&m, "", NULL));
    assert_int_equal(as_name_map_add(&m, "", 1, &e), AS_OK);
    assert_int_equal(as_name_map_add(&m, "a", 2, &e), AS_OK);
    assert_int_equal(as_name_map_add(&m, "a", 3, &e), AS_OK);
    assert_true(as_name_map_find(&m, "", &number));
    assert_int_equal(number, 1);
    assert_true(as_name_map_find(&m, "a", &number));
    assert_int_equal(number, 2);
    assert_false(as_name_map_find(&m, "b", &number));
    as_name_map_free(&m);
    assert_false(as_name_map_find(&m, "a", NULL));
    as_name_map_free(&m);
}

static void holds_many(void **state)
{
    (void)state;
    as_error e = AS_ERROR_INIT;
    as_name_map m = AS_NAME_MAP_INIT;
    char(*names)[LONGEST] = calloc(MANY, sizeof *names);
    assert_non_null(names);
    for (size_t i = 0; i < MANY; i++) {
        (void)snprintf(names[i], LONGEST, "model-%zu", i);
        assert_int_equal(as_name_map_add(&m, names[i], i, &e), AS_OK);
    }
    for (size_t i = 0; i < MANY; i++) {
        char other[LONGEST];
        size_t number = SIZE_MAX;
        assert_true(as_name_map_find(&m, names[i], &number));
        assert_int_equal(number, i);
        (void)snprintf(other, LONGEST, "Model-%zu", i);
        assert_false(as_name_map_find(&m, other, &number));
    }
    as_name_map_free(&m);
    free(names);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_what_was_added),
        cmocka_unit_test(holds_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
