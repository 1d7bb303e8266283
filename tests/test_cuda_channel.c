/* SPDX-License-Identifier: Apache-2.0
 * simulated: cuda
 * The channel of a device: how few calls a copy takes, whom it comes after, what happens when there
 * are more copies than places, and when memory or page-locked memory is short.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "support_cuda_copies.h"

enum { BLOCK = 4 << 20, TINY = 100, MANY = 3 * AS_JOBS };

static as_geometry dense(int64_t bytes)
{
    as_box box = {.dtype = AS_U8, .ndim = 1, .flat = true, .flat_count = bytes, .shape = &bytes};
    as_geometry g;
    assert_int_equal(as_geometry_memory(&box, &g, NULL), AS_OK);
    return g;
}

/* One element of two bytes in three. */
static as_geometry strided(int64_t elements)
{
    const int64_t offset[] = {0};
    const int64_t strides[] = {3};
    as_box box = {.dtype = AS_BF16,
                  .ndim = 1,
                  .shape = &elements,
                  .local = &elements,
                  .offset = offset,
                  .strides = strides};
    as_geometry g;
    assert_int_equal(as_geometry_memory(&box, &g, NULL), AS_OK);
    return g;
}

static void pack(cuda_world *w, const as_geometry *g, char *to, as_copies *copies)
{
    as_error e = AS_ERROR_INIT;
    int code = as_cuda_pack(&w->channel->device, g, (const char *)(uintptr_t)w->memory, 0,
                            as_geometry_bytes(g), to, copies, &e);
    cuda_no_error(code, &e);
    cuda_check_context(w);
}

static char *fill_device(cuda_world *w, int64_t bytes)
{
    uint64_t seed = 51;
    char *content = malloc((size_t)bytes);
    assert_non_null(content);
    cuda_noise(&seed, content, bytes);
    w->sim->write(w->memory, content, (size_t)bytes);
    return content;
}

/* A block that lies together: a copy and an event, and the caller's context; nothing waits. */
static void a_dense_block_takes_four_calls(void **state)
{
    (void)state;
    cuda_world w;
    cuda_open(&w, true);
    char *content = fill_device(&w, BLOCK);
    as_geometry g = dense(BLOCK);
    char *to[2] = {cuda_pinned(&w, BLOCK), cuda_pinned(&w, BLOCK)};
    for (int round = 0; round < 2; round++) {
        as_copies copies[2] = {{0}};
        w.sim->hold(true);
        int64_t before = w.sim->calls(NULL);
        int64_t made = w.sim->calls("cuEventCreate");
        for (int i = 0; i < 2; i++) {
            as_error e = AS_ERROR_INIT;
            cuda_no_error(as_cuda_pack(&w.channel->device, &g, (const char *)(uintptr_t)w.memory, 0,
                                       BLOCK, to[i], &copies[i], &e),
                          &e);
            assert_int_equal(copies[i].under_way, 1);
        }
        assert_int_equal(w.sim->calls(NULL) - before, 8 + w.sim->calls("cuEventCreate") - made);
        before = w.sim->calls(NULL);
        bool moved = false;
        as_channel_step(w.channel, false, &moved, NULL);
        assert_int_equal(w.sim->calls(NULL) - before, 3);
        assert_false(moved);
        w.sim->hold(false);
        cuda_wait(&w, &copies[1]);
        assert_int_equal(copies[0].under_way, 0);
        assert_memory_equal(to[0], content, BLOCK);
        assert_memory_equal(to[1], content, BLOCK);
    }
    assert_null(w.channel->bounces);
    assert_int_equal(w.channel->stagings, 0);
    assert_false(w.channel->kernel_loaded);
    assert_int_equal(w.channel->moved, 4 * BLOCK);
    assert_null(w.channel->reason);
    assert_null(w.channel->device.direct(&g, NULL, 0, BLOCK));
    free(content);
    cuda_close(&w);
}

/* Nothing is there to be copied: no call. */
static void no_bytes_take_no_calls(void **state)
{
    (void)state;
    cuda_world w;
    cuda_open(&w, true);
    as_geometry g = dense(TINY);
    as_geometry none = {0};
    as_copies copies = {0};
    as_error e = AS_ERROR_INIT;
    const as_device *d = &w.channel->device;
    int64_t before = w.sim->calls(NULL);
    char bytes[TINY] = "";
    cuda_no_error(as_cuda_pack(d, &g, NULL, 7, 7, bytes, &copies, &e), &e);
    cuda_no_error(as_cuda_to_window(d, &g, NULL, TINY, TINY, bytes, &copies, &e), &e);
    cuda_no_error(as_cuda_unpack(d, &none, NULL, 0, 50, bytes, &copies, &e), &e);
    cuda_no_error(as_cuda_from_window(d, &none, NULL, 0, 50, bytes, &copies, &e), &e);
    assert_int_equal(copies.under_way, 0);
    assert_int_equal(w.sim->calls(NULL), before);
    cuda_close(&w);
}

/* More than there are places and buffers: older ones end first; their places serve again. */
static void more_copies_than_places(void **state)
{
    (void)state;
    cuda_world w;
    cuda_open(&w, false);
    w.sim->delay(3, 100);
    char *content = fill_device(&w, (int64_t)3 * TINY);
    as_geometry g[2] = {dense(TINY), strided(TINY / 2)};
    char *to = calloc(MANY, TINY);
    as_copies *copies = calloc(MANY, sizeof *copies);
    assert_true(to && copies);
    for (int i = 0; i < MANY; i++) {
        bool pinned = i % 3 > 0;
        char *at = pinned ? cuda_pinned(&w, TINY) : to + (ptrdiff_t)i * TINY;
        pack(&w, &g[i % 2], at, &copies[i]);
        assert_true(w.channel->under_way <= AS_JOBS);
    }
    assert_true(w.channel->ended);
    bool moved = false;
    as_channel_step(w.channel, false, &moved, NULL);
    assert_true(moved);
    for (int i = 0; i < MANY; i++) {
        cuda_wait(&w, &copies[i]);
        assert_int_equal(copies[i].code, AS_OK);
    }
    for (int i = 0; i < MANY; i += 3) {
        char expected[TINY];
        (void)as_device_host.pack(&as_device_host, &g[i % 2], content, 0, TINY, expected, NULL,
                                  NULL);
        assert_memory_equal(to + (ptrdiff_t)i * TINY, expected, TINY);
    }
    assert_true(w.sim->live("events") <= AS_JOBS + 1);
    free(content);
    free(to);
    free(copies);
    cuda_close(&w);
}

/* What the caller's stream has still to do comes first, of whatever context the stream is. */
static void copies_come_after_the_callers_stream(void **state)
{
    (void)state;
    enum { LEGACY, PER_THREAD, NONE, OWN, OTHER, KINDS };
    cuda_world w;
    cuda_open(&w, false);
    as_geometry g = dense(BLOCK / 4);
    char *from = cuda_pinned(&w, BLOCK / 4);
    char *to = cuda_pinned(&w, BLOCK / 4);
    as_cu_context other = NULL;
    assert_int_equal(w.sim->context_create(&other, 0, 0), 0);
    assert_int_equal(w.cuda->context_pop(NULL), 0);
    for (int kind = 0; kind < KINDS; kind++) {
        as_cu_stream streams[KINDS] = {AS_CU_STREAM_LEGACY, AS_CU_STREAM_PER_THREAD, NULL};
        as_cu_context context = kind == OTHER ? other : w.context;
        assert_int_equal(w.cuda->context_push(context), 0);
        if (kind >= OWN) {
            assert_int_equal(w.cuda->stream_create(&streams[kind], AS_CU_STREAM_NON_BLOCKING, 0),
                             0);
        }
        as_cu_stream stream = streams[kind];
        memset(from, 'a' + kind, BLOCK / 4);
        memset(to, 0, BLOCK / 4);
        w.sim->hold(true);
        assert_int_equal(w.cuda->copy_to_device(w.memory, from, BLOCK / 4, stream), 0);
        assert_int_equal(w.cuda->context_pop(NULL), 0);
        as_error e = AS_ERROR_INIT;
        int64_t events = w.sim->live("events");
        cuda_no_error(as_channel_follow(w.channel, stream, &e), &e);
        cuda_check_context(&w);
        assert_int_equal(w.sim->live("events"), events);
        as_copies copies = {0};
        pack(&w, &g, to, &copies);
        w.sim->hold(false);
        cuda_wait(&w, &copies);
        assert_memory_equal(to, from, BLOCK / 4);
        assert_string_equal(w.sim->faults(), "");
        if (kind >= OWN) {
            assert_int_equal(w.cuda->context_push(context), 0);
            assert_int_equal(w.cuda->stream_destroy(stream), 0);
            assert_int_equal(w.cuda->context_pop(NULL), 0);
        }
    }
    assert_int_equal(w.sim->context_destroy(other), 0);
    cuda_close(&w);
}

/* Device memory for some staging buffers, or for none, until the next save or load. */
static void staging_memory_is_short(void **state)
{
    (void)state;
    cuda_world w;
    cuda_open(&w, true);
    char *content = fill_device(&w, 30000);
    as_geometry g = strided(5000);
    char expected[10000];
    (void)as_device_host.pack(&as_device_host, &g, content, 0, 10000, expected, NULL, NULL);
    int64_t launches = w.sim->calls("cuLaunchKernel");
    for (int some = 0; some < 2; some++) {
        as_error e = AS_ERROR_INIT;
        cuda_no_error(as_channel_follow(w.channel, NULL, &e), &e);
        assert_null(w.channel->reason);
        w.sim->inject("cuMemAlloc", some ? 1 : -1, AS_CU_OUT_OF_MEMORY);
        for (int i = 0; i < 20; i++) {
            as_copies copies = {0};
            char *to = cuda_pinned(&w, 10000);
            pack(&w, &g, to, &copies);
            cuda_wait(&w, &copies);
            assert_memory_equal(to, expected, 10000);
        }
        assert_int_equal(w.sim->calls("cuLaunchKernel") > launches, some);
        if (some) {
            assert_null(w.channel->reason);
        } else {
            assert_non_null(strstr(w.channel->reason, "cuMemAlloc"));
            assert_non_null(strstr(w.channel->reason, "(2"));
            assert_non_null(strstr(w.channel->reason, "cuda:0"));
        }
        w.sim->inject("cuMemAlloc", 0, 0);
    }
    assert_int_equal(w.channel->spare_staging_count, AS_BOUNCE_COUNT / 2);
    free(content);
    cuda_close(&w);
}

/* Buffers that cannot be page-locked serve all the same. */
static void buffers_are_not_pinned(void **state)
{
    (void)state;
    cuda_world w;
    cuda_open(&w, false);
    w.sim->inject("cuMemHostRegister", 1, AS_CU_NOT_SUPPORTED);
    char *content = fill_device(&w, 30000);
    as_geometry g = strided(5000);
    char expected[10000];
    char to[10000];
    (void)as_device_host.pack(&as_device_host, &g, content, 0, 10000, expected, NULL, NULL);
    as_copies copies = {0};
    pack(&w, &g, to, &copies);
    cuda_wait(&w, &copies);
    assert_memory_equal(to, expected, sizeof to);
    assert_non_null(strstr(w.channel->reason, "cuMemHostRegister"));
    assert_non_null(strstr(w.channel->reason, "801"));
    assert_true(w.sim->pageable() > 0);
    cuda_no_error(as_channel_follow(w.channel, NULL, NULL), &(as_error){0});
    assert_non_null(w.channel->reason); /* they still are not */
    free(content);
    cuda_close(&w);
}

/* A piece that the kernel would be for says that there is none; others do not. */
static void the_kernel_is_missed_where_it_is_wanted(void **state)
{
    (void)state;
    cuda_world w;
    cuda_open(&w, false);
    free(fill_device(&w, 30000));
    char to[10000];
    as_geometry pieces[] = {dense(5000), strided(5000), dense(5000)};
    for (int i = 0; i < 3; i++) {
        as_copies copies = {0};
        cuda_no_error(as_channel_follow(w.channel, NULL, NULL), &(as_error){0});
        pack(&w, &pieces[i], to, &copies);
        cuda_wait(&w, &copies);
        assert_int_equal(w.channel->reason != NULL, i == 1);
    }
    cuda_close(&w);
}

/* Copies that nobody waits for any more end before their memory goes away. */
static void closing_waits(void **state)
{
    (void)state;
    cuda_world w;
    cuda_open(&w, true);
    w.sim->delay(5, 2000);
    free(fill_device(&w, 30000));
    as_geometry pieces[] = {dense(30000), strided(5000)};
    as_copies copies[6] = {{0}};
    char *to[6];
    for (int i = 0; i < 6; i++) {
        to[i] = malloc(30000);
        assert_non_null(to[i]);
        pack(&w, &pieces[i % 2], i % 3 ? to[i] : cuda_pinned(&w, 30000), &copies[i]);
    }
    assert_int_equal(w.cuda->primary_retain(&w.context, 0), 0);
    w.channel->retained = true;
    as_channel_close(w.channel);
    for (int i = 0; i < 6; i++) {
        assert_int_equal(copies[i].under_way, 0);
        free(to[i]);
    }
    assert_true(w.sim->idle());
    cuda_end(&w);
    as_channel_close(NULL);
}

/* The caller destroyed the context: all ends with the error. */
static void the_context_is_gone(void **state)
{
    (void)state;
    cuda_world w;
    cuda_begin(&w, false);
    as_cu_context context = NULL;
    as_cu_pointer memory = 0;
    assert_int_equal(w.sim->context_create(&context, 0, 0), 0);
    assert_int_equal(w.cuda->memory_alloc(&memory, 10000), 0);
    assert_int_equal(w.cuda->context_pop(NULL), 0);
    as_error e = AS_ERROR_INIT;
    cuda_no_error(as_channel_open(&w.channel, w.cuda, context, 0, false, &w.pins, &e), &e);
    as_geometry g = dense(10000);
    as_copies copies = {0};
    char *to = cuda_pinned(&w, 10000);
    cuda_no_error(as_cuda_pack(&w.channel->device, &g, (const char *)(uintptr_t)memory, 0, 10000,
                               to, &copies, &e),
                  &e);
    assert_int_equal(w.sim->context_destroy(context), 0);
    bool moved = false;
    as_channel_step(w.channel, false, &moved, &e);
    assert_true(moved);
    assert_int_equal(copies.under_way, 0);
    assert_int_equal(copies.code, AS_CUDA);
    assert_non_null(strstr(e.text, "cuCtxPushCurrent"));
    as_error_clear(&e);
    assert_int_equal(as_cuda_pack(&w.channel->device, &g, (const char *)(uintptr_t)memory, 0, 10000,
                                  to, &copies, &e),
                     AS_CUDA);
    assert_int_equal(copies.under_way, 0);
    as_error_clear(&e);
    as_channel_close(w.channel);
    w.sim->reset();
    cuda_end(&w);
}

static void pins(void **state)
{
    (void)state;
    as_pins p = {0};
    static char area[300];
    assert_false(as_pins_cover(&p, area, 1));
    assert_int_equal(as_pins_add(&p, area + 100, 100, NULL), AS_OK);
    assert_int_equal(as_pins_add(&p, area + 200, 50, NULL), AS_OK);
    assert_int_equal(as_pins_add(&p, area, 50, NULL), AS_OK);
    assert_true(as_pins_cover(&p, area + 100, 100));
    assert_true(as_pins_cover(&p, area + 199, 1));
    assert_false(as_pins_cover(&p, area + 199, 2)); /* of two registrations */
    assert_false(as_pins_cover(&p, area + 99, 2));
    assert_false(as_pins_cover(&p, area + 100, SIZE_MAX));
    assert_false(as_pins_cover(&p, area + 250, 1));
    assert_true(as_pins_remove(&p, area + 100));
    assert_false(as_pins_remove(&p, area + 100));
    assert_false(as_pins_cover(&p, area + 100, 1));
    assert_true(as_pins_cover(&p, area + 240, 10));
    assert_true(as_pins_cover(&p, area, 50));
    as_pins_free(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_dense_block_takes_four_calls),
        cmocka_unit_test(no_bytes_take_no_calls),
        cmocka_unit_test(more_copies_than_places),
        cmocka_unit_test(copies_come_after_the_callers_stream),
        cmocka_unit_test(staging_memory_is_short),
        cmocka_unit_test(buffers_are_not_pinned),
        cmocka_unit_test(the_kernel_is_missed_where_it_is_wanted),
        cmocka_unit_test(closing_waits),
        cmocka_unit_test(the_context_is_gone),
        cmocka_unit_test(pins),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
