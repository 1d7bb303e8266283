/* SPDX-License-Identifier: Apache-2.0
 * simulated: cuda
 * The simulated driver refuses what it is there to refuse: calls too early, without a context or of
 * another one, memory that is not there, and the failures that are asked for.
 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cuda_scene.h"

static void nothing_before_init(void **state)
{
    (void)state;
    const as_cuda *cu = &simulated()->cuda;
    int n = 0;
    as_cu_context context = NULL;
    as_cu_pointer memory = 0;
    unsigned type = 0;
    void *value = &type;
    assert_int_equal(cu->device_count(&n), AS_CU_NOT_INITIALIZED);
    assert_int_equal(cu->primary_retain(&context, 0), AS_CU_NOT_INITIALIZED);
    assert_int_equal(cu->primary_release(0), AS_CU_NOT_INITIALIZED);
    assert_int_equal(cu->context_current(&context), AS_CU_NOT_INITIALIZED);
    assert_int_equal(cu->context_pop(&context), AS_CU_NOT_INITIALIZED);
    assert_int_equal(cu->memory_alloc(&memory, 1), AS_CU_NOT_INITIALIZED);
    assert_int_equal(cu->memory_free(1), AS_CU_NOT_INITIALIZED);
    assert_int_equal(
        cu->pointer_attributes(1, &(int){AS_CU_POINTER_MEMORY_TYPE}, &value, (uintptr_t)&n),
        AS_CU_NOT_INITIALIZED);
    OK(cu->driver_version(&n));
    const char *name = NULL;
    OK(cu->error_name(700, &name));
    assert_string_equal(name, "CUDA_ERROR_ILLEGAL_ADDRESS");
    assert_int_equal(simulated()->devices(17), AS_CU_INVALID_VALUE);
    OK(simulated()->devices(0));
    assert_int_equal(cu->init(0), AS_CU_NO_DEVICE);
    OK(simulated()->devices(2));
    assert_int_equal(cu->init(1), AS_CU_INVALID_VALUE);
    OK(cu->init(0));
    assert_int_equal(simulated()->devices(3), AS_CU_INVALID_VALUE);
    OK(cu->device_count(&n));
    assert_int_equal(n, 2);
    assert_int_equal(cu->device_get(&n, 2), 101);
    assert_string_equal(simulated()->faults(), "");
}

static void needs_a_context(void **state)
{
    const cuda_scene *c = *state;
    const as_cuda *cu = c->cu;
    void *any = NULL;
    as_cu_pointer memory = 0;
    OK(cu->context_pop(NULL));
    assert_int_equal(cu->context_device(&(int){0}), AS_CU_INVALID_CONTEXT);
    assert_int_equal(cu->memory_alloc(&memory, 1), AS_CU_INVALID_CONTEXT);
    assert_int_equal(cu->memory_free(c->memory[0]), AS_CU_INVALID_CONTEXT);
    assert_int_equal(cu->host_register(&any, 8, 1), AS_CU_INVALID_CONTEXT);
    assert_int_equal(cu->host_unregister(c->host), AS_CU_INVALID_CONTEXT);
    assert_int_equal(cu->copy_to_host(c->host, c->memory[0], 1, NULL), AS_CU_INVALID_CONTEXT);
    assert_int_equal(cu->copy_to_device(c->memory[0], c->host, 1, NULL), AS_CU_INVALID_CONTEXT);
    assert_int_equal(cu->stream_create((as_cu_stream *)&any, 1, 0), AS_CU_INVALID_CONTEXT);
    assert_int_equal(cu->stream_destroy(c->stream[0]), AS_CU_INVALID_CONTEXT);
    assert_int_equal(cu->stream_synchronize(c->stream[0]), AS_CU_INVALID_CONTEXT);
    assert_int_equal(cu->event_create((as_cu_event *)&any, 0), AS_CU_INVALID_CONTEXT);
    assert_int_equal(cu->module_load((as_cu_module *)&any, SIM_MODULE_IMAGE),
                     AS_CU_INVALID_CONTEXT);
    REFUSED(c, cu->context_pop(NULL), AS_CU_INVALID_CONTEXT, "there is none");
    OK(cu->context_push(c->context[0]));
}

static void *look_from_a_thread(void *scene)
{
    const cuda_scene *c = scene;
    as_cu_context current = c->context[0];
    bool none = c->cu->context_current(&current) == 0 && !current && c->s->live("depth") == 0;
    return none ? scene : NULL;
}

static void contexts(void **state)
{
    cuda_scene *c = *state;
    const as_cuda *cu = c->cu;
    as_cu_context context = NULL;
    as_cu_context own = NULL;
    void *none = NULL;
    pthread_t thread;
    OK(pthread_create(&thread, NULL, look_from_a_thread, c));
    OK(pthread_join(thread, &none));
    assert_non_null(none); /* every thread has a stack of its own */

    OK(cu->primary_retain(&context, 1));
    assert_ptr_equal(context, c->context[1]);
    assert_int_equal(c->s->live("contexts"), 3);
    OK(cu->primary_release(1));
    OK(c->s->context_create(&own, 0, 1));
    OK(cu->context_device(&(int){0}));
    OK(cu->context_current(&context));
    assert_ptr_equal(context, own);

    /* What another context has cannot be used here. */
    as_cu_event event = NULL;
    OK(cu->event_create(&event, 0));
    assert_int_equal(cu->event_record(event, c->stream[0]), 400);
    assert_noted(c, "the stream belongs to another context");
    REFUSED(c, cu->stream_synchronize(c->stream[0]), 400, "another context");
    OK(cu->context_push(c->context[0]));
    REFUSED(c, cu->event_record(event, c->stream[0]), 400, "the event belongs to another context");
    REFUSED(c, cu->event_destroy(event), 400, "another context");
    OK(cu->stream_wait(c->stream[0], event, 0)); /* but this may be */
    OK(cu->event_query(event));
    OK(cu->context_pop(&context));
    assert_ptr_equal(context, c->context[0]);
    REFUSED(c, cu->event_record((as_cu_event)c, NULL), 400, "is no event");
    REFUSED(c, cu->stream_synchronize((as_cu_stream)c), 400, "is no stream");
    OK(cu->stream_context(c->stream[0], &context));
    assert_ptr_equal(context, c->context[0]);

    OK(c->s->context_destroy(own));
    OK(cu->context_current(&context));
    assert_ptr_equal(context, c->context[0]);
    REFUSED(c, cu->context_push(own), AS_CU_INVALID_CONTEXT, "destroyed");
    REFUSED(c, cu->event_query(event), 400, "is no event");
    OK(cu->primary_release(1));
    REFUSED(c, cu->primary_release(1), AS_CU_INVALID_CONTEXT, "not retained");
    OK(cu->primary_retain(&c->context[1], 1));
    OK(cu->context_push(c->context[1]));
    OK(cu->memory_alloc(&c->memory[1], SCENE_BYTES));
    OK(cu->primary_release(1));
    REFUSED(c, cu->memory_alloc(&c->memory[1], 1), 709, "was destroyed");
    OK(cu->context_pop(NULL));
    OK(cu->primary_retain(&c->context[1], 1));
    OK(c->s->context_set(c->context[1]));
    OK(cu->memory_alloc(&c->memory[1], SCENE_BYTES));
    OK(c->s->context_set(c->context[0]));
}

typedef struct looks {
    as_cu_context context;
    unsigned type;
    unsigned managed;
    int ordinal;
    as_cu_pointer start;
    size_t size;
} looks;

static looks look(const cuda_scene *c, as_cu_pointer pointer)
{
    looks l;
    memset(&l, 0xff, sizeof l);
    int ids[] = {AS_CU_POINTER_CONTEXT,        AS_CU_POINTER_MEMORY_TYPE, AS_CU_POINTER_IS_MANAGED,
                 AS_CU_POINTER_DEVICE_ORDINAL, AS_CU_POINTER_RANGE_START, AS_CU_POINTER_RANGE_SIZE};
    void *values[] = {&l.context, &l.type, &l.managed, &l.ordinal, &l.start, &l.size};
    OK(c->cu->pointer_attributes(6, ids, values, pointer));
    return l;
}

static void assert_looks(looks l, as_cu_context context, unsigned type, int ordinal)
{
    assert_ptr_equal(l.context, context);
    assert_int_equal(l.type, type);
    assert_int_equal(l.ordinal, ordinal);
}

static void pointers(void **state)
{
    const cuda_scene *c = *state;
    as_cu_pointer managed = 0;
    void *host = NULL;
    looks l = look(c, c->memory[1] + 5);
    assert_looks(l, c->context[1], AS_CU_MEMORY_DEVICE, 1);
    assert_int_equal(l.managed, 0);
    assert_int_equal(l.start, c->memory[1]);
    assert_int_equal(l.size, SCENE_BYTES);
    assert_looks(look(c, c->memory[1] - 1), NULL, 0, -2);
    assert_looks(look(c, c->memory[1] + SCENE_BYTES), NULL, 0, -2);

    OK(c->s->managed_alloc(&managed, 100, 1));
    memset((void *)(uintptr_t)managed, 7, 100); /* the CPU can reach it */
    l = look(c, managed + 99);
    assert_looks(l, c->context[0], AS_CU_MEMORY_DEVICE, 0);
    assert_int_equal(l.managed, 1);
    char seven = 0;
    c->s->read(&seven, managed + 99, 1);
    assert_int_equal(seven, 7);
    OK(c->cu->memory_free(managed));
    assert_looks(look(c, managed), NULL, 0, -2);

    as_cu_pointer unowned = c->s->alloc_unowned(1, 1000);
    assert_looks(look(c, unowned), NULL, AS_CU_MEMORY_DEVICE, 1);
    OK(c->cu->memory_free(unowned));
    assert_int_equal(c->s->alloc_unowned(2, 1000), 0);

    OK(c->s->host_alloc(&host, 4096, 0));
    memset(host, 1, 4096);
    assert_looks(look(c, (uintptr_t)host), c->context[0], AS_CU_MEMORY_HOST, 0);
    REFUSED(c, c->cu->memory_free((uintptr_t)host), AS_CU_INVALID_VALUE, "not the beginning");
    OK(c->s->host_free(host));
    assert_looks(look(c, (uintptr_t)c->host + 1), c->context[0], AS_CU_MEMORY_HOST, 0);
    assert_looks(look(c, (uintptr_t)&host), NULL, 0, -2);
    REFUSED(c, c->cu->memory_free(c->memory[0] + 1), AS_CU_INVALID_VALUE, "not the beginning");
}

/* What a child process that reads there dies of. */
static int signal_of_reading(as_cu_pointer at)
{
    pid_t child = fork();
    if (child == 0) {
        struct rlimit none = {0, 0};
        (void)setrlimit(RLIMIT_CORE, &none);
        (void)signal(SIGSEGV, SIG_DFL);
        _exit(*(volatile char *)(uintptr_t)at == 1);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void untouchable(void **state)
{
    const cuda_scene *c = *state;
    as_cu_pointer managed = 0;
    assert_int_equal(signal_of_reading(c->memory[0]), SIGSEGV);
    assert_int_equal(signal_of_reading(c->memory[0] + SCENE_BYTES - 1), SIGSEGV);
    OK(c->s->managed_alloc(&managed, 1 << 20, 1));
    assert_int_equal(signal_of_reading(managed), 0);
    OK(c->cu->memory_free(managed));
    assert_int_equal(signal_of_reading(managed), SIGSEGV);

    /* CUDA does not outlive fork(). */
    pid_t child = fork();
    if (child == 0) {
        bool told = c->cu->init(0) == AS_CU_NOT_INITIALIZED &&
                    c->cu->memory_alloc(&managed, 1) == AS_CU_NOT_INITIALIZED &&
                    strstr(c->s->faults(), "fork") != NULL;
        _exit(told ? 0 : 1);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static void registering(void **state)
{
    const cuda_scene *c = *state;
    const as_cuda *cu = c->cu;
    static char some[100];
    OK(cu->host_register(some + 1, 50, 0));
    assert_int_equal(cu->host_register(some, 2, 0), AS_CU_ALREADY_REGISTERED);
    assert_int_equal(cu->host_register(some + 50, 10, 0), AS_CU_ALREADY_REGISTERED);
    OK(cu->host_register(some + 51, 10, 0));
    REFUSED(c, cu->host_unregister(some + 2), AS_CU_NOT_REGISTERED, "is not registered");
    OK(cu->host_unregister(some + 1));
    OK(cu->host_unregister(some + 51));
    REFUSED(c, cu->host_unregister(some + 51), AS_CU_NOT_REGISTERED, "is not registered");
    assert_int_equal(cu->host_register(some, 0, 0), AS_CU_INVALID_VALUE);

    char *gone = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(gone, MAP_FAILED);
    OK(cu->host_register(gone, 8192, 1));
    OK(munmap(gone + 4096, 4096));
    OK(cu->copy_to_host(gone, c->memory[0], 4096, c->stream[0]));
    REFUSED(c, cu->copy_to_host(gone + 1, c->memory[0], 4096, c->stream[0]), AS_CU_ILLEGAL_ADDRESS,
            "not mapped");
    OK(cu->stream_synchronize(c->stream[0]));
    OK(cu->host_unregister(gone));
    assert_noted(c, "unmapped while it was registered");
    REFUSED(c, cu->host_register(gone, 8192, 1), AS_CU_INVALID_VALUE, "not mapped");
    OK(munmap(gone, 4096));
}

static void failures(void **state)
{
    const cuda_scene *c = *state;
    const as_cuda *cu = c->cu;
    as_cu_pointer memory = 0;
    as_cu_event event = NULL;
    c->s->inject("cuMemAlloc", 2, AS_CU_OUT_OF_MEMORY);
    c->s->inject("cuMemFree_v2", -1, 999);
    OK(cu->memory_alloc(&memory, 10));
    assert_int_equal(cu->memory_free(memory), 999); /* it is freed */
    assert_int_equal(cu->memory_alloc(&memory, 10), AS_CU_OUT_OF_MEMORY);
    OK(cu->memory_alloc(&memory, 10));
    assert_int_equal(cu->memory_free(memory), 999);
    assert_int_equal(c->s->failed(), 3);
    c->s->inject("cuMemFree", 0, 999);
    c->s->inject("", 2, 801);
    OK(cu->event_create(&event, 0));
    assert_int_equal(cu->event_destroy(event), 801);
    OK(cu->event_create(&event, 0));

    /* After some nothing works but what gives things back. */
    c->s->inject("cuEventRecord", 1, AS_CU_ILLEGAL_ADDRESS);
    assert_int_equal(cu->event_record(event, NULL), AS_CU_ILLEGAL_ADDRESS);
    assert_int_equal(cu->memory_alloc(&memory, 10), AS_CU_ILLEGAL_ADDRESS);
    assert_int_equal(cu->event_query(event), AS_CU_ILLEGAL_ADDRESS);
    assert_int_equal(cu->event_destroy(event), AS_CU_ILLEGAL_ADDRESS);
    OK(cu->context_push(c->context[1]));
    OK(cu->memory_alloc(&memory, 10)); /* the other context is well */
    OK(cu->memory_free(memory));
    OK(cu->context_pop(NULL));
    c->s->reset();

    /* A copy that fails when its turn comes: it and what follows is not done. */
    c->s->write(c->memory[0], "new", 4);
    c->s->hold(true);
    c->s->inject_late("cuMemcpyDtoHAsync", 1, AS_CU_ILLEGAL_ADDRESS);
    OK(cu->event_create(&event, 0));
    OK(cu->copy_to_host(c->host, c->memory[0], 4, c->stream[0]));
    OK(cu->event_record(event, c->stream[0]));
    assert_int_equal(cu->event_query(event), AS_CU_NOT_READY);
    c->s->hold(false);
    assert_int_equal(c->s->event_synchronize(event), AS_CU_ILLEGAL_ADDRESS);
    assert_int_equal(cu->stream_synchronize(c->stream[0]), AS_CU_ILLEGAL_ADDRESS);
    assert_string_not_equal(c->host, "new");
    assert_int_equal(cu->event_destroy(event), AS_CU_ILLEGAL_ADDRESS);
    c->s->reset();
}

static void counts(void **state)
{
    const cuda_scene *c = *state;
    int64_t before = c->s->calls("cuDeviceGetCount");
    int64_t all = c->s->calls(NULL);
    int n = 0;
    OK(c->cu->device_count(&n));
    OK(c->cu->device_attribute(&n, AS_CU_DEVICE_GPU_DIRECT_RDMA, 0));
    assert_int_equal(n, 0);
    c->s->attribute(AS_CU_DEVICE_GPU_DIRECT_RDMA, 1);
    OK(c->cu->device_attribute(&n, AS_CU_DEVICE_GPU_DIRECT_RDMA, 0));
    assert_int_equal(n, 1);
    assert_int_equal(c->s->calls("cuDeviceGetCount"), before + 1);
    assert_int_equal(c->s->calls(NULL), all + 3);
    assert_int_equal(c->s->live("nonsense"), -1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, scene_open, scene_close)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_before_init),
        TEST(needs_a_context),
        TEST(contexts),
        TEST(pointers),
        TEST(untouchable),
        TEST(registering),
        TEST(failures),
        TEST(counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
