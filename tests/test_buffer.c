/* SPDX-License-Identifier: Apache-2.0
 * The meter of buffers: what they take and give back, at the peak too.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/buffer.h"

static void the_meter_counts_what_is_held(void **state)
{
    (void)state;
    as_buffer before = AS_BUFFER_INIT;
    as_buffer b = AS_BUFFER_INIT;
    as_buffer_meter meter = {0};
    assert_int_equal(as_buffer_reserve(&before, 1000, NULL), 0);
    assert_null(as_buffer_meter_set(&meter));
    assert_int_equal(as_buffer_reserve(&b, 5000, NULL), 0);
    assert_int_equal(b.capacity, 5000); /* a new one has what was asked for */
    assert_int_equal(meter.now, 5000);
    void *place;
    assert_int_equal(as_buffer_extend(&b, 5001, &place, NULL), 0);
    assert_true(b.capacity > 5000);
    assert_int_equal(meter.now, b.capacity);
    as_buffer_meter_add(100000);
    as_buffer_meter_add(-100000);
    int64_t most = 100000 + (int64_t)b.capacity;
    as_buffer_free(&b);
    assert_int_equal(meter.now, 0);
    assert_int_equal(meter.most, most);
    as_buffer_free(&before); /* taken when nobody counted */
    assert_int_equal(meter.now, -1000);
    assert_ptr_equal(as_buffer_meter_set(NULL), &meter);
    as_buffer_meter_add(7);
    assert_int_equal(meter.now, -1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_meter_counts_what_is_held)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
