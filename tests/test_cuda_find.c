/* SPDX-License-Identifier: Apache-2.0
 * What is made of the driver's answers about a pointer, with a driver of this file's own that gives
 * any: kinds of memory, contexts, allocations in parts, and the memory that pieces reach.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "box_support.h"
#include "device/cuda_find.h"

enum { MOST_RANGES = 8, MOST_DEPTH = 8, MOST_DEVICES = 4, BOXES = 20000 };

/* ---- a driver ---- */

typedef struct range {
    as_cu_pointer start;
    size_t bytes;
    unsigned type;
    unsigned managed;
    int ordinal;
    as_cu_context owner;
} range;

static struct {
    range ranges[MOST_RANGES];
    int range_count;
    as_cu_result attributes; /* what calls answer */
    as_cu_result current;
    as_cu_result push;
    as_cu_result pop;
    as_cu_result device;
    as_cu_result get;
    as_cu_result retain;
    as_cu_result count;
    as_cu_result state;
    bool strict; /* pointers are looked up in the current context */
    int devices;
    bool active[MOST_DEVICES]; /* primary contexts */
    as_cu_context stack[MOST_DEPTH];
    int depth;
    int looks;
    int retained;
} driver;

#define CONTEXT(ordinal, which) ((as_cu_context)(uintptr_t)(0x1000 + 0x10 * (ordinal) + (which)))

/* The driver's function is so. NOLINTBEGIN(readability-non-const-parameter) */
/* cppcheck-suppress constParameter */
static as_cu_result attributes(unsigned count, int *wanted, void **values, as_cu_pointer pointer)
{
    driver.looks++;
    if (driver.attributes != AS_CU_SUCCESS) {
        return driver.attributes;
    }
    if (driver.strict && driver.depth == 0) {
        return AS_CU_INVALID_CONTEXT;
    }
    const range none = {.ordinal = -2};
    const range *r = &none;
    for (int i = 0; i < driver.range_count; i++) {
        const range *at = &driver.ranges[i];
        r = pointer >= at->start && pointer - at->start < (at->bytes ? at->bytes : 1) ? at : r;
    }
    for (unsigned i = 0; i < count; i++) {
        const struct {
            int attribute;
            const void *from;
            size_t bytes;
        } all[] = {{AS_CU_POINTER_CONTEXT, (const void *)&r->owner, sizeof r->owner},
                   {AS_CU_POINTER_MEMORY_TYPE, &r->type, sizeof r->type},
                   {AS_CU_POINTER_IS_MANAGED, &r->managed, sizeof r->managed},
                   {AS_CU_POINTER_DEVICE_ORDINAL, &r->ordinal, sizeof r->ordinal},
                   {AS_CU_POINTER_RANGE_START, &r->start, sizeof r->start},
                   {AS_CU_POINTER_RANGE_SIZE, &r->bytes, sizeof r->bytes}};
        bool known = false;
        for (size_t k = 0; k < sizeof all / sizeof *all; k++) {
            if (all[k].attribute == wanted[i]) {
                memcpy(values[i], all[k].from, all[k].bytes);
                known = true;
            }
        }
        assert_true(known);
    }
    return AS_CU_SUCCESS;
}

/* NOLINTEND(readability-non-const-parameter) */

static as_cu_result context_current(as_cu_context *out)
{
    *out = driver.depth ? driver.stack[driver.depth - 1] : NULL;
    return driver.current;
}

static as_cu_result context_push(as_cu_context context)
{
    if (driver.push == AS_CU_SUCCESS) {
        assert_true(driver.depth < MOST_DEPTH);
        driver.stack[driver.depth++] = context;
    }
    return driver.push;
}

static as_cu_result context_pop(as_cu_context *out)
{
    assert_true(driver.depth > 0);
    *out = driver.stack[--driver.depth];
    return driver.pop;
}

static as_cu_result context_device(as_cu_device *out)
{
    *out = (int)(((uintptr_t)driver.stack[driver.depth - 1] - 0x1000) / 0x10);
    return driver.device;
}

static as_cu_result device_get(as_cu_device *out, int ordinal)
{
    *out = ordinal;
    return driver.get;
}

static as_cu_result primary_retain(as_cu_context *out, as_cu_device device)
{
    driver.retained += driver.retain == AS_CU_SUCCESS;
    *out = CONTEXT(device, 9);
    return driver.retain;
}

static as_cu_result primary_release(as_cu_device device)
{
    assert_true(device >= 0 && driver.retained > 0);
    driver.retained--;
    return AS_CU_SUCCESS;
}

static as_cu_result primary_state(as_cu_device device, unsigned *flags, int *active)
{
    *flags = 0;
    *active = driver.active[device];
    return driver.state;
}

static as_cu_result device_count(int *out)
{
    *out = driver.devices;
    return driver.count;
}

static as_cu_result no_name(as_cu_result code, const char **out)
{
    (void)code, (void)out;
    return AS_CU_INVALID_VALUE;
}

static const as_cuda cuda = {.pointer_attributes = attributes,
                             .context_current = context_current,
                             .context_push = context_push,
                             .context_pop = context_pop,
                             .context_device = context_device,
                             .device_get = device_get,
                             .device_count = device_count,
                             .primary_retain = primary_retain,
                             .primary_release = primary_release,
                             .primary_state = primary_state,
                             .error_name = no_name,
                             .error_text = no_name};

static int reset(void **state)
{
    (void)state;
    memset(&driver, 0, sizeof driver);
    return 0;
}

static void put(range r)
{
    driver.ranges[driver.range_count++] = r;
}

static const void *pointer_to(as_cu_pointer address)
{
    return (const void *)(uintptr_t)address;
}

static int look(as_cu_pointer address, as_allocation *out, const char **asleep)
{
    as_error e = AS_ERROR_INIT;
    int code = as_cuda_look(&cuda, pointer_to(address), out, asleep, &e);
    assert_int_equal(code, e.code);
    as_error_clear(&e);
    return code;
}

/* ---- kinds of memory ---- */

static void kinds_of_memory(void **state)
{
    (void)state;
    const struct {
        unsigned type;
        unsigned managed;
        bool device;
        int code;
    } kinds[] = {{0, 0, false, AS_OK},
                 {AS_CU_MEMORY_HOST, 0, false, AS_OK},
                 {AS_CU_MEMORY_DEVICE, 0, true, AS_OK},
                 {AS_CU_MEMORY_UNIFIED, 0, true, AS_OK},
                 {AS_CU_MEMORY_DEVICE, 1, true, AS_OK},
                 {AS_CU_MEMORY_HOST, 1, true, AS_OK},
                 {AS_CU_MEMORY_ARRAY, 0, false, AS_INVALID}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        const char *asleep = "";
        as_allocation a;
        (void)reset(NULL);
        put((range){.start = 1000,
                    .bytes = 100,
                    .type = kinds[i].type,
                    .managed = kinds[i].managed,
                    .ordinal = 3,
                    .owner = CONTEXT(3, 0)});
        assert_int_equal(look(1050, &a, &asleep), kinds[i].code);
        assert_null(asleep);
        assert_int_equal(a.on_device, kinds[i].device);
        if (kinds[i].device) {
            assert_int_equal(a.ordinal, 3);
            assert_ptr_equal(a.owner, CONTEXT(3, 0));
            assert_int_equal(a.start, 1000);
            assert_int_equal(a.bytes, 100);
        }
        assert_int_equal(driver.looks, 1);
    }
}

/* Managed memory may be on no device. */
static void the_device_is_that_of_a_context(void **state)
{
    (void)state;
    as_allocation a;
    const char *asleep;
    put((range){.start = 1000, .bytes = 100, .type = 2, .managed = 1, .ordinal = -2});
    assert_int_equal(look(1000, &a, &asleep), AS_OK);
    assert_int_equal(a.ordinal, 0);
    driver.stack[driver.depth++] = CONTEXT(2, 0);
    assert_int_equal(look(1000, &a, &asleep), AS_OK);
    assert_int_equal(a.ordinal, 2);
    driver.ranges[0].owner = CONTEXT(4, 1);
    assert_int_equal(look(1000, &a, &asleep), AS_OK);
    assert_int_equal(a.ordinal, 4);
    assert_int_equal(driver.depth, 1);
    as_cu_result *calls[] = {&driver.push, &driver.pop, &driver.device};
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        *calls[i] = 999;
        assert_int_equal(look(1000, &a, &asleep), AS_CUDA);
        assert_int_equal(driver.depth, 1);
        *calls[i] = 0;
    }
    driver.ranges[0].owner = NULL;
    driver.current = 999;
    assert_int_equal(look(1000, &a, &asleep), AS_CUDA);
}

/* ---- a driver that is not at work ---- */

static void without_cuda_at_work_all_is_the_hosts(void **state)
{
    (void)state;
    driver.active[(driver.devices = 2) - 1] = true;
    for (int code = 1; code < 1000; code++) {
        bool sleeps = code == AS_CU_NOT_INITIALIZED || code == AS_CU_DEINITIALIZED ||
                      code == AS_CU_STUB_LIBRARY || code == AS_CU_NO_DEVICE;
        for (int other = 0; other < 3; other++) {
            for (int known = 0; known < 2; known++) {
                as_allocation a;
                const char *asleep = NULL;
                driver.attributes = code;
                driver.current = other == 0 ? code : other == 1 ? 0 : AS_CU_INVALID_CONTEXT;
                bool same = driver.current == code;
                int want = sleeps && same && !known      ? AS_OK
                           : code == AS_CU_OUT_OF_MEMORY ? AS_NOMEM
                                                         : AS_CUDA;
                assert_int_equal(look(77, &a, known ? NULL : &asleep), want);
                assert_false(a.on_device);
                assert_int_equal(asleep != NULL, want == AS_OK);
            }
        }
    }
}

/* ---- a driver that wants a current context ---- */

static void pointers_are_looked_up_without_a_context(void **state)
{
    (void)state;
    const char *asleep = NULL;
    as_allocation a;
    driver.strict = true;
    driver.devices = MOST_DEVICES;
    put((range){.start = 1000, .bytes = 100, .type = 2, .ordinal = 3, .owner = CONTEXT(3, 0)});
    /* Where no device is in use no memory of one can be there. */
    assert_int_equal(look(1050, &a, &asleep), AS_OK);
    assert_false(a.on_device);
    assert_null(asleep);
    assert_int_equal(driver.looks, 1);
    driver.active[1] = driver.active[3] = true;
    driver.looks = 0;
    assert_int_equal(look(1050, &a, &asleep), AS_OK);
    assert_true(a.on_device);
    assert_int_equal(a.ordinal, 3);
    assert_ptr_equal(a.owner, CONTEXT(3, 0));
    assert_int_equal(driver.looks, 2);
    driver.looks = 0;
    assert_int_equal(look(10, &a, &asleep), AS_OK); /* of the host: all are asked */
    assert_false(a.on_device);
    assert_int_equal(driver.looks, 3);
    /* What goes wrong is told, and nothing is left behind. */
    as_cu_result *calls[] = {&driver.count,  &driver.get,  &driver.state,
                             &driver.retain, &driver.push, &driver.pop};
    const char *names[] = {"cuDeviceGetCount",           "cuDeviceGet",
                           "cuDevicePrimaryCtxGetState", "cuDevicePrimaryCtxRetain",
                           "cuCtxPushCurrent",           "cuCtxPopCurrent"};
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        as_error e = AS_ERROR_INIT;
        *calls[i] = 801;
        assert_int_equal(as_cuda_look(&cuda, pointer_to(1050), &a, &asleep, &e), AS_CUDA);
        assert_non_null(strstr(as_error_text(&e), names[i]));
        assert_non_null(strstr(as_error_text(&e), "801"));
        *calls[i] = 0;
        as_error_clear(&e);
        assert_int_equal(driver.depth, 0);
        assert_int_equal(driver.retained, 0);
    }
}

/* ---- contexts ---- */

static void contexts(void **state)
{
    (void)state;
    as_cu_context out = NULL;
    bool retained = true;
    as_allocation a = {.on_device = true, .ordinal = 2, .owner = CONTEXT(2, 5)};
    assert_int_equal(as_cuda_context(&cuda, &a, &out, &retained, NULL), AS_OK);
    assert_ptr_equal(out, CONTEXT(2, 5));
    assert_false(retained);
    a.owner = NULL;
    assert_int_equal(as_cuda_context(&cuda, &a, &out, &retained, NULL), AS_OK);
    assert_ptr_equal(out, CONTEXT(2, 9));
    assert_true(retained);
    driver.stack[driver.depth++] = CONTEXT(1, 0);
    assert_int_equal(as_cuda_context(&cuda, &a, &out, &retained, NULL), AS_OK);
    assert_ptr_equal(out, CONTEXT(2, 9));
    assert_true(retained);
    assert_int_equal(driver.retained, 2);
    a.ordinal = 1;
    assert_int_equal(as_cuda_context(&cuda, &a, &out, &retained, NULL), AS_OK);
    assert_ptr_equal(out, CONTEXT(1, 0));
    assert_false(retained);
    a.ordinal = 7;
    as_cu_result *calls[] = {&driver.current, &driver.push, &driver.pop,
                             &driver.device,  &driver.get,  &driver.retain};
    const char *names[] = {"cuCtxGetCurrent", "cuCtxPushCurrent", "cuCtxPopCurrent",
                           "cuCtxGetDevice",  "cuDeviceGet",      "cuDevicePrimaryCtxRetain"};
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        as_error e = AS_ERROR_INIT;
        *calls[i] = 801;
        assert_int_equal(as_cuda_context(&cuda, &a, &out, &retained, &e), AS_CUDA);
        assert_false(retained);
        assert_non_null(strstr(as_error_text(&e), names[i]));
        assert_non_null(strstr(as_error_text(&e), "801"));
        *calls[i] = 0;
        as_error_clear(&e);
        assert_int_equal(driver.depth, 1);
    }
}

/* ---- what pieces reach ---- */

static void reaches_of_random_pieces(void **state)
{
    (void)state;
    uint64_t seed = 6;
    int compared = 0;
    for (int i = 0; i < BOXES; i++) {
        test_box t;
        random_shape(&seed, &t);
        random_place(&seed, &t);
        random_strides(&seed, &t);
        test_bytes m = model_bytes(&t.box);
        as_state s;
        assert_int_equal(as_state_init(&s, "model", NULL), AS_OK);
        static char memory;
        as_declaration d = {.name = "x", .box = t.box, .data = &memory};
        if (m.file_valid && m.memory_valid && as_state_add(&s, &d, NULL) == AS_OK) {
            int64_t low = 0;
            int64_t high = 0;
            for (int64_t k = 0; k < m.count; k++) {
                low = m.memory[k] < low ? m.memory[k] : low;
                high = m.memory[k] >= high ? m.memory[k] + 1 : high;
            }
            as_reach reach = {1, 1};
            assert_int_equal(as_cuda_reach(&s, 0, &reach, NULL), AS_OK);
            assert_int_equal(reach.before, -low);
            assert_int_equal(reach.after, high);
            compared++;
        }
        as_state_free(&s);
        free_bytes(&m);
    }
    assert_true(compared > BOXES / 2);
}

static int check(as_cu_pointer pointer, uint64_t before, uint64_t after, as_error *e)
{
    as_allocation a;
    const char *asleep = NULL;
    assert_int_equal(as_cuda_look(&cuda, pointer_to(pointer), &a, &asleep, NULL), AS_OK);
    return as_cuda_check(&cuda, &a, pointer_to(pointer), &(as_reach){before, after}, e);
}

static void pieces_lie_in_their_allocation(void **state)
{
    (void)state;
    put((range){.start = 5000, .bytes = 1000, .type = 2, .owner = CONTEXT(0, 0)});
    /* A neighbour, of the same context: what goes on into it is a fault all the same. */
    put((range){.start = 6000, .bytes = 1000, .type = 2, .owner = CONTEXT(0, 0)});
    put((range){.start = 4000, .bytes = 1000, .type = 2, .owner = CONTEXT(0, 0)});
    assert_int_equal(check(5000, 0, 1000, NULL), AS_OK);
    assert_int_equal(check(5999, 999, 1, NULL), AS_OK);
    assert_int_equal(check(5999, 0, 1, NULL), AS_OK);
    assert_int_equal(check(5999, 0, 2, NULL), AS_INVALID);
    assert_int_equal(check(5000, 1, 1, NULL), AS_INVALID);
    assert_int_equal(check(5500, 500, 500, NULL), AS_OK);
    assert_int_equal(check(5500, 501, 500, NULL), AS_INVALID);
    assert_int_equal(check(5500, 500, 501, NULL), AS_INVALID);
    assert_int_equal(check(5500, UINT64_C(1) << 61, UINT64_C(1) << 61, NULL), AS_INVALID);
    as_error e = AS_ERROR_INIT;
    assert_int_equal(check(5400, 10, 601, &e), AS_INVALID);
    assert_non_null(strstr(as_error_text(&e), "611 bytes of memory, from 10 before"));
    assert_non_null(strstr(as_error_text(&e), "cuda:0"));
    assert_non_null(strstr(as_error_text(&e), "1000, from 400 before"));
    as_error_clear(&e);
    /* Drivers that do not tell how large allocations are. */
    driver.ranges[0].bytes = 0;
    assert_int_equal(check(5000, 7, 1001, NULL), AS_OK);
}

static void what_no_context_owns_may_be_in_parts(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        put((range){.start = 5000 + (as_cu_pointer)i * 100, .bytes = 100, .type = 2});
    }
    put((range){.start = 5400, .bytes = 100, .type = 2, .ordinal = 1});
    assert_int_equal(check(5000, 0, 400, NULL), AS_OK);
    assert_int_equal(check(5150, 150, 250, NULL), AS_OK);
    assert_int_equal(check(5399, 399, 1, NULL), AS_OK);
    assert_int_equal(check(5000, 0, 401, NULL), AS_INVALID); /* another device's follows */
    assert_int_equal(check(5399, 400, 1, NULL), AS_INVALID); /* nothing comes before */
    driver.ranges[2].start += 1;
    driver.ranges[2].bytes -= 1; /* a gap */
    assert_int_equal(check(5000, 0, 200, NULL), AS_OK);
    assert_int_equal(check(5000, 0, 201, NULL), AS_INVALID);
    driver.ranges[2] = (range){.start = 5200, .bytes = 100, .type = 2, .owner = CONTEXT(0, 0)};
    assert_int_equal(check(5000, 0, 201, NULL), AS_INVALID);
    assert_int_equal(check(5350, 51, 1, NULL), AS_INVALID);
    driver.ranges[2] = (range){.start = 5200, .bytes = 100, .type = AS_CU_MEMORY_HOST};
    assert_int_equal(check(5000, 0, 201, NULL), AS_INVALID);
    /* The look at the next part fails. */
    as_allocation a;
    const char *asleep = NULL;
    as_error e = AS_ERROR_INIT;
    assert_int_equal(as_cuda_look(&cuda, pointer_to(5000), &a, &asleep, NULL), AS_OK);
    driver.attributes = driver.current = AS_CU_DEINITIALIZED;
    assert_int_equal(as_cuda_check(&cuda, &a, pointer_to(5000), &(as_reach){0, 200}, &e), AS_CUDA);
    assert_non_null(strstr(as_error_text(&e), "cuPointerGetAttributes: error 4"));
    as_error_clear(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(kinds_of_memory, reset),
        cmocka_unit_test_setup(the_device_is_that_of_a_context, reset),
        cmocka_unit_test_setup(without_cuda_at_work_all_is_the_hosts, reset),
        cmocka_unit_test_setup(pointers_are_looked_up_without_a_context, reset),
        cmocka_unit_test_setup(contexts, reset),
        cmocka_unit_test_setup(reaches_of_random_pieces, reset),
        cmocka_unit_test_setup(pieces_lie_in_their_allocation, reset),
        cmocka_unit_test_setup(what_no_context_owns_may_be_in_parts, reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
