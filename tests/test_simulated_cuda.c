/* SPDX-License-Identifier: Apache-2.0
 * simulated: cuda
 * The simulated driver refuses what it is there to refuse, and runs what is asked of it in the order
 * that streams and events give.
 */
#include "support_simulated.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void basics(void **state)
{
    (void)state;
    const sim_library *s = simulated();
    const as_cuda *cu = &s->cuda;
    as_cu_context context = NULL;
    as_cu_pointer memory = 0;
    as_cu_stream stream = NULL;
    static char out[64] = "";
    char text[64] = "";
    int count = 0;
    assert_int_equal(cu->device_count(&count), AS_CU_NOT_INITIALIZED);
    assert_int_equal(cu->init(0), 0);
    assert_int_equal(cu->memory_alloc(&memory, 100), AS_CU_INVALID_CONTEXT);
    assert_int_equal(cu->primary_retain(&context, 1), 0);
    assert_int_equal(cu->context_push(context), 0);
    assert_int_equal(cu->memory_alloc(&memory, 100), 0);
    assert_int_equal(cu->stream_create(&stream, 1, 0), 0);
    assert_int_equal(cu->host_register(out, sizeof out, 1), 0);
    memcpy(out, "to the device and back", 23);
    s->delay(1, 1000);
    assert_int_equal(cu->copy_to_device(memory + 10, out, 64, stream), 0);
    assert_int_equal(cu->copy_to_host(out, memory + 10, 64, stream), 0);
    assert_int_equal(cu->stream_synchronize(stream), 0);
    assert_string_equal(out, "to the device and back");
    s->read(text, memory + 10, 64);
    assert_string_equal(text, "to the device and back");
    assert_string_equal(s->faults(), "");
    assert_true(s->idle());
    assert_int_equal(cu->stream_destroy(stream), 0);
    assert_int_equal(cu->host_unregister(out), 0);
    assert_int_equal(cu->memory_free(memory), 0);
    assert_int_equal(cu->context_pop(NULL), 0);
    assert_int_equal(cu->primary_release(1), 0);
    assert_string_equal(s->faults(), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(basics),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
