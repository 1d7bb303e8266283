/* SPDX-License-Identifier: Apache-2.0
 * simulated: cuda
 * Loading the pack kernel and launching it where the driver refuses.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "device/cuda_kernel.h"
#include "support_simulated.h"
#include "tensor/dtype.h"

static const sim_library *sim;
static const as_cuda *cu;
static as_cu_context context;
static as_cu_pointer memory;

enum { BYTES = 4096, INVALID_PTX = 218, NEWER_PTX = 222, NO_SUCH_NAME = 500 };

static as_geometry columns_of(int file_dtype, as_buffer *seams)
{
    static const int64_t shape[2] = {32, 16};
    static const int64_t offset[2] = {0, 0};
    static const int64_t strides[2] = {1, 32};
    as_box box = {.dtype = AS_F32, .ndim = 2, .shape = shape, .local = shape};
    box.offset = offset;
    box.strides = strides;
    as_geometry g;
    int code = file_dtype ? as_geometry_cast(&box, file_dtype, seams, &g, NULL)
                          : as_geometry_memory(&box, &g, NULL);
    assert_int_equal(code, AS_OK);
    return g;
}

static void what_was_built_in(void **state)
{
    (void)state;
    const char *how = NULL;
    bool built = as_kernel_built(&how);
    printf("%s; its PTX is not run here\n", how);
    assert_true(strlen(how) > 10);
    if (built) {
        assert_non_null(strstr(as_kernel_image, ".visible .entry as_pack("));
        assert_non_null(strstr(as_kernel_image, ".visible .entry as_unpack("));
        assert_non_null(strstr(how, "PTX"));
    }
}

static void loads_and_unloads(void **state)
{
    (void)state;
    as_kernel k;
    as_kernel_load(&k, cu);
    assert_null(k.reason);
    assert_int_equal(sim->live("modules"), 1);
    as_kernel_unload(&k, cu);
    assert_int_equal(sim->live("modules"), 0);
    assert_non_null(k.reason);
    as_kernel_unload(&k, cu); /* once more does no harm */
    assert_string_equal(sim->faults(), "");
}

static void without_an_image(void **state)
{
    (void)state;
    as_buffer seams = AS_BUFFER_INIT;
    as_geometry g = columns_of(0, &seams);
    const char *image = as_kernel_image;
    int64_t calls = sim->calls(NULL);
    as_kernel k;
    as_kernel_image = NULL;
    as_kernel_load(&k, cu);
    as_kernel_image = image;
    assert_non_null(k.reason);
    assert_false(as_kernel_can(&k, &g, 0, BYTES / 2));
    as_kernel_unload(&k, cu);
    assert_int_equal(sim->calls(NULL), calls);
}

/* Every call, with codes that drivers give: a reason that names both, and nothing left behind. */
static void refused_by_the_driver(void **state)
{
    (void)state;
    static const struct {
        const char *call;
        int nth;
        int code;
    } cases[] = {
        {"cuModuleLoadData", 1, INVALID_PTX},
        {"cuModuleLoadData", 1, NEWER_PTX},
        {"cuModuleLoadData", 1, 209},
        {"cuModuleLoadData", 1, AS_CU_OUT_OF_MEMORY},
        {"cuModuleLoadData", 1, 12345},
        {"cuModuleGetFunction", 1, NO_SUCH_NAME},
        {"cuModuleGetFunction", 2, NO_SUCH_NAME},
        {"cuModuleGetFunction", 2, AS_CU_INVALID_CONTEXT},
    };
    as_buffer seams = AS_BUFFER_INIT;
    as_geometry g = columns_of(0, &seams);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char number[16];
        as_kernel k;
        sim->inject(cases[i].call, cases[i].nth, cases[i].code);
        as_kernel_load(&k, cu);
        sim->reset();
        assert_non_null(k.reason);
        assert_non_null(strstr(k.reason, cases[i].call));
        (void)snprintf(number, sizeof number, "%d", cases[i].code);
        assert_non_null(strstr(k.reason, number));
        assert_false(as_kernel_can(&k, &g, 0, BYTES / 2));
        assert_int_equal(sim->live("modules"), 0);
        as_kernel_unload(&k, cu);
    }
}

static void a_launch_that_is_refused(void **state)
{
    (void)state;
    as_buffer seams = AS_BUFFER_INIT;
    as_geometry g = columns_of(0, &seams);
    as_kernel k;
    as_kernel_load(&k, cu);
    static const int codes[] = {1, AS_CU_OUT_OF_MEMORY, 701, 98, 400};
    for (int i = 0; i < 10; i++) {
        as_error e = AS_ERROR_INIT;
        sim->inject("cuLaunchKernel", 1, codes[i / 2]);
        int code = (i % 2 ? as_kernel_unpack : as_kernel_pack)(
            &k, cu, &g, memory, 0, BYTES / 2, memory + BYTES, AS_CU_STREAM_LEGACY, &e);
        sim->reset();
        char number[16];
        (void)snprintf(number, sizeof number, "(%d", codes[i / 2]);
        assert_int_equal(code, codes[i / 2] == AS_CU_OUT_OF_MEMORY ? AS_NOMEM : AS_CUDA);
        assert_non_null(strstr(as_error_text(&e), "cuLaunchKernel"));
        assert_non_null(strstr(as_error_text(&e), i % 2 ? "as_unpack" : "as_pack"));
        assert_true(codes[i / 2] == 98 || strstr(as_error_text(&e), number));
        as_error_clear(&e);
    }
    assert_true(sim->idle());
    as_kernel_unload(&k, cu);
}

/* What it can move and what not; and no call is made for nothing. */
static void limits(void **state)
{
    (void)state;
    as_buffer seams = AS_BUFFER_INIT;
    as_geometry plain = columns_of(0, &seams);
    as_geometry cast = columns_of(AS_BF16, &seams);
    as_kernel k;
    as_kernel_load(&k, cu);
    for (int64_t low = 0; low < 40; low++) {
        for (int64_t high = low; high < 80; high++) {
            assert_true(as_kernel_can(&k, &plain, low, high));
            assert_int_equal(as_kernel_can(&k, &cast, low, high), low % 2 == 0 && high % 2 == 0);
        }
    }
    int64_t calls = sim->calls(NULL);
    assert_int_equal(as_kernel_pack(&k, cu, &plain, memory, 40, 40, memory + BYTES, NULL, NULL),
                     AS_OK);
    assert_int_equal(as_kernel_unpack(&k, cu, &cast, memory, 0, 0, memory + BYTES, NULL, NULL),
                     AS_OK);
    assert_int_equal(as_kernel_pack(&k, cu, &cast, memory, 3, 40, memory + BYTES, NULL, NULL),
                     AS_INTERNAL);
    assert_int_equal(sim->calls(NULL), calls);
    as_kernel_unload(&k, cu);
}

/* The simulation looks after it: a kernel that went one byte beyond would be told of. */
static void beyond_an_allocation(void **state)
{
    (void)state;
    as_buffer seams = AS_BUFFER_INIT;
    as_geometry g = columns_of(0, &seams);
    as_kernel k;
    as_kernel_load(&k, cu);
    assert_int_equal(as_kernel_pack(&k, cu, &g, memory + 2 * BYTES - BYTES / 2, 0, BYTES / 2,
                                    memory, AS_CU_STREAM_LEGACY, NULL),
                     AS_OK);
    assert_int_equal(cu->stream_synchronize(AS_CU_STREAM_LEGACY), AS_CU_SUCCESS);
    assert_string_equal(sim->faults(), "");
    assert_int_equal(as_kernel_pack(&k, cu, &g, memory + 2 * BYTES - BYTES / 2 + 4, 0, BYTES / 2,
                                    memory, AS_CU_STREAM_LEGACY, NULL),
                     AS_OK);
    assert_int_equal(cu->stream_synchronize(AS_CU_STREAM_LEGACY), AS_CU_ILLEGAL_ADDRESS);
    assert_string_not_equal(sim->faults(), "");
    sim->reset();
    as_kernel_unload(&k, cu);
}

static int open_device(void **state)
{
    (void)state;
    sim = simulated();
    cu = &sim->cuda;
    return cu->init(0) || cu->primary_retain(&context, 0) || cu->context_push(context) ||
           cu->memory_alloc(&memory, (size_t)2 * BYTES);
}

static int close_device(void **state)
{
    (void)state;
    return cu->memory_free(memory) || cu->context_pop(NULL) || cu->primary_release(0) ||
           sim->live("modules") != 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_built_in),        cmocka_unit_test(loads_and_unloads),
        cmocka_unit_test(without_an_image),         cmocka_unit_test(refused_by_the_driver),
        cmocka_unit_test(a_launch_that_is_refused), cmocka_unit_test(limits),
        cmocka_unit_test(beyond_an_allocation),
    };
    return cmocka_run_group_tests(tests, open_device, close_device);
}
