/* SPDX-License-Identifier: Apache-2.0
 * simulated: cuda
 * The simulated driver's copies and kernels: they move what they should, and are refused where
 * memory is not there, not theirs, or touched while they are under way.
 */
#include <stdio.h>
#include <sys/mman.h>

#include "cuda_scene.h"

static void fill(char *memory, size_t n, unsigned seed)
{
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1103515245 + 12345;
        memory[i] = (char)(seed >> 16);
    }
}

static void there_and_back(void **state)
{
    const cuda_scene *c = *state;
    char was[3000];
    char is[3000];
    as_cu_pointer m = c->memory[0];
    for (unsigned round = 1; round <= 20; round++) {
        c->s->delay(round, 50);
        fill(c->host, sizeof was, round);
        memcpy(was, c->host, sizeof was);
        OK(c->cu->copy_to_device(m + round, c->host, sizeof was, c->stream[0]));
        OK(c->cu->copy_on_device(m + 9000, m + round, sizeof was, c->stream[0]));
        OK(c->cu->copy_to_host(c->host + 4000, m + 9000, sizeof was, c->stream[0]));
        OK(c->cu->stream_synchronize(c->stream[0]));
        assert_memory_equal(c->host + 4000, was, sizeof was);
        c->s->read(is, m + 9000, sizeof is);
        assert_memory_equal(is, was, sizeof was);
    }
    OK(c->cu->copy_to_host(c->host, m, 0, c->stream[0]));
    memcpy(c->host, "now", 4);
    c->s->hold(true);
    OK(c->s->copy_to_device_now(m, c->host, 4));
    assert_true(c->s->idle());
    OK(c->s->copy_to_host_now(is, m, 4));
    assert_string_equal(is, "now");
}

/* Rows of 5 bytes from (3, 2) at pitch 16 to (1, 4) at pitch 11, and so on. */
static as_cu_copy_2d rows(const cuda_scene *c, unsigned from, unsigned to)
{
    return (as_cu_copy_2d){.from_x = 3,
                           .from_y = 2,
                           .from_type = from,
                           .from_host = c->host,
                           .from_device = c->memory[0],
                           .from_pitch = 16,
                           .to_x = 1,
                           .to_y = 4,
                           .to_type = to,
                           .to_host = c->host + 8192,
                           .to_device = c->memory[0] + 8192,
                           .to_pitch = 11,
                           .width = 5,
                           .height = 7};
}

static void rows_in_two_dimensions(void **state)
{
    const cuda_scene *c = *state;
    static const unsigned ways[][2] = {{AS_CU_MEMORY_HOST, AS_CU_MEMORY_DEVICE},
                                       {AS_CU_MEMORY_DEVICE, AS_CU_MEMORY_HOST},
                                       {AS_CU_MEMORY_DEVICE, AS_CU_MEMORY_DEVICE}};
    static char from[4096];
    static char to[4096];
    static char is[4096];
    for (unsigned i = 0; i < 3; i++) {
        fill(from, sizeof from, i);
        fill(to, sizeof to, i + 10);
        memcpy(c->host, from, sizeof from);
        c->s->write(c->memory[0], from, sizeof from);
        memcpy(c->host + 8192, to, sizeof to);
        c->s->write(c->memory[0] + 8192, to, sizeof to);
        for (size_t y = 0; y < 7; y++) {
            memcpy(to + (4 + y) * 11 + 1, from + (2 + y) * 16 + 3, 5);
        }
        as_cu_copy_2d d = rows(c, ways[i][0], ways[i][1]);
        OK(c->cu->copy_2d(&d, c->stream[0]));
        OK(c->cu->stream_synchronize(c->stream[0]));
        memcpy(is, c->host + 8192, sizeof is);
        if (ways[i][1] == AS_CU_MEMORY_DEVICE) {
            c->s->read(is, c->memory[0] + 8192, sizeof is);
        }
        assert_memory_equal(is, to, sizeof is);
    }
    as_cu_copy_2d d = rows(c, AS_CU_MEMORY_HOST, AS_CU_MEMORY_DEVICE);
    d.height = 0;
    OK(c->cu->copy_2d(&d, c->stream[0]));
    d = rows(c, AS_CU_MEMORY_HOST, AS_CU_MEMORY_DEVICE);
    d.to_pitch = 5;
    REFUSED(c, c->cu->copy_2d(&d, c->stream[0]), AS_CU_INVALID_VALUE, "pitch 5");
    d.to_pitch = (size_t)1 << 31;
    REFUSED(c, c->cu->copy_2d(&d, c->stream[0]), AS_CU_INVALID_VALUE, "pitch 2147483648");
    d = rows(c, AS_CU_MEMORY_HOST, AS_CU_MEMORY_HOST);
    REFUSED(c, c->cu->copy_2d(&d, c->stream[0]), AS_CU_INVALID_VALUE, "to the host");
    d.to_type = AS_CU_MEMORY_ARRAY;
    REFUSED(c, c->cu->copy_2d(&d, c->stream[0]), AS_CU_INVALID_VALUE, "type 3");
    d = rows(c, AS_CU_MEMORY_DEVICE, AS_CU_MEMORY_HOST);
    d.from_device += SCENE_BYTES - (8 * 16 + 8);
    OK(c->cu->copy_2d(&d, c->stream[0]));
    d.from_device++;
    REFUSED(c, c->cu->copy_2d(&d, c->stream[0]), AS_CU_INVALID_VALUE, "beyond the allocation");
    OK(c->cu->stream_synchronize(c->stream[0]));
}

static void wrong_memory(void **state)
{
    const cuda_scene *c = *state;
    const as_cuda *cu = c->cu;
    as_cu_stream s = c->stream[0];
    as_cu_pointer m = c->memory[0];
    as_cu_pointer freed = 0;
    OK(cu->copy_to_host(c->host, m + SCENE_BYTES - 10, 10, s));
    REFUSED(c, cu->copy_to_host(c->host, m + SCENE_BYTES - 10, 11, s), AS_CU_INVALID_VALUE,
            "beyond the allocation");
    REFUSED(c, cu->copy_to_device(m - 1, c->host, 2, s), AS_CU_INVALID_VALUE, "no device memory");
    REFUSED(c, cu->copy_to_host(c->host, c->memory[1], 1, s), AS_CU_INVALID_VALUE,
            "memory of device 1");
    REFUSED(c, cu->copy_on_device(m, c->memory[1], 1, s), AS_CU_INVALID_VALUE,
            "memory of device 1");
    REFUSED(c, cu->copy_to_host(c->host, (uintptr_t)c->host + 100, 1, s), AS_CU_INVALID_VALUE,
            "no device memory");
    REFUSED(c, cu->copy_to_device(m, (void *)(uintptr_t)m, 1, s), AS_CU_INVALID_VALUE,
            "given as the host's");
    REFUSED(c, cu->copy_to_device(m, (void *)4096, 1, s), AS_CU_ILLEGAL_ADDRESS, "not mapped");
    OK(cu->memory_alloc(&freed, 100));
    OK(cu->memory_free(freed));
    REFUSED(c, cu->copy_to_host(c->host, freed, 1, s), AS_CU_INVALID_VALUE, "freed memory");
    REFUSED(c, cu->memory_free(freed), AS_CU_INVALID_VALUE, "not the beginning");
    static char part[64];
    OK(cu->host_register(part, 32, 0));
    REFUSED(c, cu->copy_to_host(part + 16, m, 32, s), AS_CU_INVALID_VALUE, "in part");
    OK(cu->host_unregister(part));
    c->s->read(part, freed, 1);
    assert_noted(c, "sim_read");
    c->s->write(m + SCENE_BYTES, part, 1);
    assert_noted(c, "sim_write");
    as_cu_pointer most = 0;
    assert_int_equal(cu->memory_alloc(&most, SIZE_MAX), AS_CU_OUT_OF_MEMORY);
    assert_int_equal(cu->memory_alloc(&most, (size_t)16 << 30), AS_CU_OUT_OF_MEMORY);
    assert_int_equal(cu->memory_alloc(&most, 0), AS_CU_INVALID_VALUE);
    OK(cu->stream_synchronize(s));
}

/* Who touches memory of the host before the copy has ended. */
static void too_early(void **state)
{
    const cuda_scene *c = *state;
    as_cu_pointer m = c->memory[0];
    memcpy(c->host, "old", 4);
    c->s->write(m, "new", 4);
    c->s->hold(true);
    OK(c->cu->copy_to_host(c->host, m, 4, c->stream[0]));
    assert_string_not_equal(c->host, "old");
    assert_string_not_equal(c->host, "new");
    c->s->hold(false);
    OK(c->cu->stream_synchronize(c->stream[0]));
    assert_string_equal(c->host, "new");

    c->s->hold(true);
    OK(c->cu->copy_to_host(c->host, m, 4, c->stream[0]));
    c->host[3] = 1;
    c->s->hold(false);
    OK(c->cu->stream_synchronize(c->stream[0]));
    assert_noted(c, "was written before the copy to it ended");

    c->s->hold(true);
    OK(c->cu->copy_to_device(m, c->host, 4, c->stream[0]));
    c->host[3] = 1;
    c->s->hold(false);
    OK(c->cu->stream_synchronize(c->stream[0]));
    assert_noted(c, "changed before the copy from it ended");

    /* What the stream itself does to it in between is in order. */
    memcpy(c->host, "old", 4);
    c->s->write(m, "new", 4);
    c->s->hold(true);
    OK(c->cu->copy_to_device(m + 8, c->host, 4, c->stream[0]));
    OK(c->cu->copy_to_host(c->host, m, 4, c->stream[0]));
    OK(c->cu->copy_to_device(m + 16, c->host, 4, c->stream[0]));
    c->s->hold(false);
    OK(c->cu->stream_synchronize(c->stream[0]));
    char is[20];
    c->s->read(is, m, sizeof is);
    assert_string_equal(is + 8, "old");
    assert_string_equal(is + 16, "new");
}

static void gone_too_early(void **state)
{
    const cuda_scene *c = *state;
    const as_cuda *cu = c->cu;
    as_cu_stream s = c->stream[0];
    as_cu_pointer memory = 0;
    static char some[64];
    OK(cu->memory_alloc(&memory, 64));
    c->s->hold(true);
    OK(cu->copy_to_host(c->host, memory, 64, s));
    OK(cu->memory_free(memory));
    assert_noted(c, "cuMemFree: ");

    OK(cu->host_register(some, sizeof some, 0));
    c->s->hold(true);
    OK(cu->copy_to_host(some, c->memory[0], 64, s));
    OK(cu->host_unregister(some));
    assert_noted(c, "cuMemHostUnregister: ");

    char *mapped = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(mapped, MAP_FAILED);
    OK(cu->host_register(mapped, 4096, 0));
    c->s->hold(true);
    OK(cu->copy_to_host(mapped, c->memory[0], 64, s));
    OK(munmap(mapped, 4096));
    c->s->hold(false);
    assert_int_equal(cu->stream_synchronize(s), AS_CU_ILLEGAL_ADDRESS);
    assert_noted(c, "unmapped while the copy was under way");
    OK(cu->host_unregister(mapped));
    assert_noted(c, "unmapped while it was registered");
}

static void pageable_memory(void **state)
{
    const cuda_scene *c = *state;
    char here[8] = "before";
    char there[8] = "";
    int64_t before = c->s->pageable();
    c->s->hold(true);
    OK(c->cu->copy_to_device(c->memory[0], here, 8, c->stream[0]));
    memcpy(here, "after", 6); /* the driver has a copy */
    OK(c->cu->copy_to_host(there, c->memory[0], 8, c->stream[0]));
    assert_string_equal(there, "before"); /* it waited */
    c->s->hold(false);
    assert_int_equal(c->s->pageable(), before + 2);
    OK(c->cu->copy_to_host(c->host, c->memory[0], 8, c->stream[0]));
    assert_int_equal(c->s->pageable(), before + 2);
    OK(c->cu->stream_synchronize(c->stream[0]));

    /* Registered for one context is not so for the others, unless it is portable. */
    static char own[8];
    OK(c->cu->host_register(own, 8, 0));
    OK(c->cu->context_push(c->context[1]));
    OK(c->cu->copy_to_host(own, c->memory[1], 8, NULL));
    assert_int_equal(c->s->pageable(), before + 3);
    OK(c->cu->copy_to_host(c->host, c->memory[1], 8, NULL));
    assert_int_equal(c->s->pageable(), before + 3);
    OK(c->s->context_synchronize());
    OK(c->cu->context_pop(NULL));
    OK(c->cu->host_unregister(own));
}

/* ---- kernels ---- */

typedef struct task {
    uint64_t at;
    uint32_t bytes; /* of an access */
    uint32_t add;
} task;

static void add_to_each(void **parameters, unsigned grid_x, unsigned block_x, unsigned block,
                        unsigned thread)
{
    const task *t = parameters[0];
    const sim_library *s = simulated();
    assert_true(block < grid_x && thread < block_x);
    uint64_t at = t->at + (uint64_t)(block * block_x + thread) * t->bytes;
    uint8_t *byte = s->translate(at, t->bytes);
    *byte = (uint8_t)(*byte + t->add);
}

static as_cu_result launch(const cuda_scene *c, as_cu_function f, task t)
{
    void *parameters[] = {&t};
    return c->cu->launch(f, 3, 1, 1, 4, 1, 1, 0, c->stream[0], parameters, NULL);
}

static void kernels(void **state)
{
    const cuda_scene *c = *state;
    const as_cuda *cu = c->cu;
    as_cu_module module = NULL;
    as_cu_function f = NULL;
    as_cu_pointer m = c->memory[0];
    uint8_t is[16];
    c->s->kernel("add", add_to_each, &(size_t){sizeof(task)}, 1);
    REFUSED(c, cu->module_load(&module, "cubin"), 200, "neither PTX");
    OK(cu->module_load(&module, "// PTX\n.version 7.0\n.visible .entry  add(\n) { }"));
    OK(cu->module_function(&f, module, "add"));
    assert_int_equal(cu->module_function(&f, module, "ad"), 500);
    c->s->kernel("ad", add_to_each, &(size_t){sizeof(task)}, 1);
    assert_int_equal(cu->module_function(&f, module, "ad"), 500);
    OK(cu->module_function(&f, module, "add"));

    memset(is, 0, sizeof is);
    c->s->write(m + 16, is, 16);
    c->s->delay(1, 1000);
    OK(launch(c, f, (task){m + 16, 1, 3}));
    OK(launch(c, f, (task){m + 17, 1, 4}));
    OK(cu->stream_synchronize(c->stream[0]));
    c->s->read(is, m + 16, 16);
    assert_memory_equal(is, "\3\7\7\7\7\7\7\7\7\7\7\7\4\0\0\0", 16);

    OK(launch(c, f, (task){m + SCENE_BYTES - 11, 1, 1}));
    assert_int_equal(cu->stream_synchronize(c->stream[0]), AS_CU_ILLEGAL_ADDRESS);
    assert_noted(c, "is no device memory");
    OK(launch(c, f, (task){m + 1, 48, 1}));
    OK(launch(c, f, (task){m + SCENE_BYTES - 16, 32, 1}));
    assert_int_equal(cu->stream_synchronize(c->stream[0]), AS_CU_ILLEGAL_ADDRESS);
    assert_noted(c, "beyond the allocation");
    OK(launch(c, f, (task){m + 2, 4, 1}));
    assert_int_equal(cu->stream_synchronize(c->stream[0]), 716);
    assert_noted(c, "not aligned");
    OK(launch(c, f, (task){c->memory[1], 4, 1}));
    assert_int_equal(cu->stream_synchronize(c->stream[0]), AS_CU_ILLEGAL_ADDRESS);
    assert_noted(c, "memory of device 1");

    REFUSED(c, cu->launch(f, 1, 1, 1, 2000, 1, 1, 0, NULL, NULL, NULL), AS_CU_INVALID_VALUE,
            "block 2000");
    REFUSED(c, cu->launch(f, 1, 1, 1, 1, 1, 1, 0, NULL, NULL, NULL), AS_CU_INVALID_VALUE,
            "without parameters");
    OK(cu->context_push(c->context[1]));
    REFUSED(c, launch(c, f, (task){m, 1, 1}), 400, "another context");
    OK(cu->context_pop(NULL));
    c->s->hold(true);
    OK(launch(c, f, (task){m, 1, 1}));
    OK(cu->module_unload(module));
    assert_noted(c, "cuModuleUnload");
    REFUSED(c, launch(c, f, (task){m, 1, 1}), 400, "was unloaded");
    REFUSED(c, cu->module_unload(module), 400, "the module was destroyed");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, scene_open, scene_close)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(there_and_back), TEST(rows_in_two_dimensions), TEST(wrong_memory), TEST(too_early),
        TEST(gone_too_early), TEST(pageable_memory),        TEST(kernels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
