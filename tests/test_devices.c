/* SPDX-License-Identifier: Apache-2.0
 * simulated: cuda
 * Which device each piece lies on, by its pointer, and that copies come after the work that the caller
 * has put into streams. The devices are simulated ones.
 */
#include "devices_scene.h"

#include "device/cuda_channel.h"

enum { SEEDS = 30, WORK = 40 };

/* ---- contexts that look for none, or too early ---- */

static void without_devices(void **state)
{
    scene *s = *state;
    const char *reason = NULL;
    bool moved = false;
    as_pin pin = {0};
    static char memory[64];
    scene_put(s, "x", scene_pointer(s->memory[0]), 64);
    int64_t calls = s->sim->calls(NULL);
    assert_int_equal(as_devices_open(&s->devices, AS_CUDA_OFF, NULL), AS_OK);
    assert_null(s->devices);
    scene_find(s);
    assert_null(s->homes.of);
    assert_int_equal(as_devices_begin(NULL, &s->homes, NULL, NULL), AS_OK);
    as_devices_step(NULL, &moved, NULL);
    as_devices_pin(NULL, &s->homes, &pin, memory, sizeof memory);
    assert_null(pin.base);
    as_devices_unpin(NULL, &pin);
    assert_false(moved || as_devices_busy(NULL));
    assert_string_equal(as_devices_note(NULL, &reason), "");
    assert_non_null(strstr(reason, "off"));
    assert_int_equal(as_devices_bytes(NULL), 0);
    assert_int_equal(s->sim->calls(NULL), calls);
}

static void on_needs_a_driver(void **state)
{
    scene *s = *state;
    as_error e = AS_ERROR_INIT;
    s->sim->inject("cuInit", 1, AS_CU_NO_DEVICE);
    assert_int_equal(as_devices_open(&s->devices, AS_CUDA_ON, &e), AS_CUDA);
    assert_null(s->devices);
    assert_non_null(strstr(as_error_text(&e), "cuInit: CUDA_ERROR_NO_DEVICE (100"));
    assert_non_null(strstr(as_error_text(&e), "ALLSHARD_CUDA"));
    as_error_clear(&e);
    assert_int_equal(as_devices_open(&s->devices, AS_CUDA_ON, &e), AS_OK);
    assert_non_null(s->devices);
}

/* The program has the driver, but uses no device. It comes first. */
static void before_it_is_initialised(void **state)
{
    (void)state;
    scene s = {.sim = simulated()};
    static char bytes[100];
    const char *reason = NULL;
    assert_int_equal(as_state_init(&s.state, "model", NULL), AS_OK);
    for (int i = 0; i < 100; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "t%d", i);
        scene_put(&s, name, bytes, i);
    }
    scene_open(&s);
    assert_int_equal(s.sim->calls(NULL), 0);
    scene_find(&s);
    assert_null(s.homes.of);
    assert_string_equal(as_devices_note(s.devices, &reason), "");
    assert_non_null(strstr(reason, "not initialised"));
    assert_true(s.sim->calls(NULL) <= 2);
    as_devices_close(s.devices);
    as_state_free(&s.state);
}

/* ---- where pieces lie ---- */

static void every_piece_has_its_device(void **state)
{
    scene *s = *state;
    static char host[100];
    static char locked[4096];
    void *allocated = NULL;
    as_cu_pointer managed = 0;
    const char *reason = "";
    assert_int_equal(s->cuda->context_push(s->primary[1]), 0);
    assert_int_equal(s->sim->managed_alloc(&managed, 100, 1), 0);
    assert_int_equal(s->sim->host_alloc(&allocated, 100, 0), 0);
    assert_int_equal(s->cuda->host_register(locked, sizeof locked, 1), 0);
    scene_put(s, "host", host, 100);
    scene_put(s, "device 0", scene_pointer(s->memory[0] + 5), 100);
    scene_put(s, "device 1", scene_pointer(s->memory[1] + 5), 100);
    scene_put(s, "managed", scene_pointer(managed), 100);
    scene_put(s, "registered", locked + 7, 100);
    scene_put(s, "cuMemHostAlloc", allocated, 100);
    scene_put(s, "empty", scene_pointer(s->memory[0]), 0);
    scene_put(s, "none", NULL, 0);
    const char *homes[] = {"host", "cuda:0", "cuda:1", "cuda:1", "host", "host", "host", "host"};
    scene_open(s);
    int64_t looks = s->sim->calls("cuPointerGetAttributes");
    scene_find(s);
    /* Of each piece that is not empty, and once for each device. */
    assert_int_equal(s->sim->calls("cuPointerGetAttributes") - looks, 6 + 2);
    assert_int_equal(s->homes.count, 8);
    for (size_t i = 0; i < 8; i++) {
        assert_string_equal(scene_home(s, i), homes[i]);
    }
    assert_ptr_equal(as_home(&s->homes, 2), as_home(&s->homes, 3));
    assert_string_equal(as_devices_note(s->devices, &reason), "cuda:0, cuda:1");
    assert_string_equal(reason, "");

    /* The same pointers: nothing new. Others: what was found before does not count. */
    int64_t before[5];
    int64_t after[5];
    const as_device *first = as_home(&s->homes, 1);
    scene_count(s, before);
    scene_find(s);
    scene_count(s, after);
    assert_memory_equal(before, after, sizeof before);
    assert_ptr_equal(as_home(&s->homes, 1), first);
    scene_clear(s);
    scene_put(s, "device 1", scene_pointer(s->memory[1]), 1);
    scene_find(s);
    assert_int_equal(s->homes.count, 1);
    assert_string_equal(scene_home(s, 0), "cuda:1");
    assert_string_equal(as_devices_note(s->devices, &reason), "cuda:1");
    scene_clear(s);
    scene_put(s, "host", host, 100);
    scene_find(s);
    assert_null(s->homes.of);
    assert_string_equal(as_devices_note(s->devices, &reason), "");
    assert_non_null(strstr(reason, "no piece lies in device memory"));

    scene_close(s);
    assert_int_equal(s->cuda->host_unregister(locked), 0);
    assert_int_equal(s->cuda->memory_free(managed), 0);
    assert_int_equal(s->sim->host_free(allocated), 0);
    assert_int_equal(s->cuda->context_pop(NULL), 0);
    scene_count(s, s->live);
}

/* No context is current in this thread, and the driver wants one. */
static void pointers_are_known_without_a_context(void **state)
{
    scene *s = *state;
    static char host[100];
    const char *homes[] = {"host", "cuda:0", "cuda:1"};
    scene_put(s, "host", host, 100);
    scene_put(s, "device 0", scene_pointer(s->memory[0] + 5), 100);
    scene_put(s, "device 1", scene_pointer(s->memory[1] + 5), 100);
    scene_open(s);
    s->sim->strict_pointers(true);
    int64_t contexts = s->sim->live("contexts");
    for (int with = 0; with < 2; with++) {
        if (with) {
            assert_int_equal(s->cuda->context_push(s->primary[1]), 0);
        }
        scene_find(s);
        for (size_t i = 0; i < 3; i++) {
            assert_string_equal(scene_home(s, i), homes[i]);
        }
        assert_int_equal(s->sim->live("contexts"), contexts);
        assert_int_equal(s->sim->live("depth"), with);
    }
    assert_int_equal(s->cuda->context_pop(NULL), 0);
}

/* ---- contexts ---- */

static as_cu_context current(const scene *s)
{
    as_cu_context c = NULL;
    assert_int_equal(s->cuda->context_current(&c), 0);
    return c;
}

static const as_channel *channel(const scene *s, size_t i)
{
    return as_channel_of(as_home(&s->homes, i));
}

static void contexts_are_the_owners(void **state)
{
    scene *s = *state;
    as_cu_context own = NULL;
    assert_int_equal(s->sim->context_create(&own, 0, 0), 0);
    as_cu_pointer in_own = scene_alloc(s, own, 100);
    scene_put(s, "primary", scene_pointer(s->memory[0]), 100);
    scene_put(s, "own", scene_pointer(in_own), 100);
    scene_put(s, "other device", scene_pointer(s->memory[1]), 100);
    scene_open(s);
    scene_find(s);
    const char *reason = NULL;
    assert_ptr_equal(channel(s, 0)->context, s->primary[0]);
    assert_ptr_equal(channel(s, 1)->context, own);
    assert_ptr_equal(channel(s, 2)->context, s->primary[1]);
    assert_string_equal(as_devices_note(s->devices, &reason), "cuda:0, cuda:1");
    assert_ptr_equal(current(s), own);
    assert_int_equal(as_devices_begin(s->devices, &s->homes, NULL, NULL), AS_OK);
    assert_ptr_equal(current(s), own);
    scene_close(s);
    assert_int_equal(s->sim->live("depth"), 1);
    assert_int_equal(s->sim->context_destroy(own), 0);
    scene_count(s, s->live);
}

static void what_no_context_owns(void **state)
{
    scene *s = *state;
    as_cu_context own = NULL;
    as_cu_pointer pool[2] = {s->sim->alloc_unowned(0, 100), s->sim->alloc_unowned(1, 100)};
    assert_int_equal(s->sim->context_create(&own, 0, 0), 0);
    scene_put(s, "device 0", scene_pointer(pool[0]), 100);
    scene_put(s, "device 1", scene_pointer(pool[1]), 100);
    int64_t contexts = s->sim->live("contexts");
    scene_open(s);
    scene_find(s);
    assert_ptr_equal(channel(s, 0)->context, own); /* the current one */
    assert_ptr_equal(channel(s, 1)->context, s->primary[1]);
    assert_int_equal(s->sim->live("contexts"), contexts + 1); /* retained once */
    assert_int_equal(s->cuda->context_pop(NULL), 0);
    /* Other threads, other current contexts: the channel that is there serves. */
    scene_find(s);
    assert_ptr_equal(channel(s, 0)->context, own);
    assert_int_equal(s->sim->live("contexts"), contexts + 1);
    assert_int_equal(s->sim->live("depth"), 0);
    scene_close(s);
    assert_int_equal(s->sim->live("contexts"), contexts);
    assert_int_equal(s->sim->context_destroy(own), 0);
    scene_count(s, s->live);
    scene_free(s, s->primary[0], pool[0]);
    scene_free(s, s->primary[1], pool[1]);
}

/* ---- sizes ---- */

static void refused(scene *s, const char *name)
{
    as_error e = AS_ERROR_INIT;
    assert_int_equal(as_devices_find(s->devices, &s->state, &s->homes, &e), AS_INVALID);
    assert_null(s->homes.of);
    assert_non_null(strstr(as_error_text(&e), name));
    assert_non_null(strstr(as_error_text(&e), "on cuda:1"));
    assert_string_equal(s->sim->faults(), "");
    as_error_clear(&e);
}

/* Rows of 10 floats; the pointer's element, the strides, and whether that fits into 400 bytes. */
static void pieces_reach_no_further_than_their_memory(void **state)
{
    scene *s = *state;
    const struct {
        int64_t first;
        int64_t strides[2];
        bool fits;
    } cases[] = {
        {0, {10, 1}, true},     {1, {10, 1}, false},  {0, {1, 10}, true},   {0, {11, 1}, false},
        {99, {-10, -1}, true},  {0, {-10, 1}, false}, {90, {-10, 1}, true}, {91, {-10, 1}, false},
        {98, {-10, -1}, false}, {9, {10, -1}, true},  {8, {10, -1}, false}, {0, {0, 0}, true},
        {99, {0, 0}, true},     {100, {0, 0}, false},
    };
    as_cu_pointer memory = scene_alloc(s, s->primary[1], 400);
    as_cu_pointer next = scene_alloc(s, s->primary[1], 400);
    static char host[4];
    scene_open(s);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t shape[] = {20, 10};
        int64_t offset[] = {10, 0};
        int64_t local[] = {10, 10};
        as_declaration d = {.name = "layer.weight",
                            .box = {.dtype = AS_F32,
                                    .ndim = 2,
                                    .shape = shape,
                                    .offset = offset,
                                    .local = local,
                                    .strides = cases[i].strides},
                            .stored =
                                i % 2 ? AS_BF16 : AS_DTYPE_NONE, /* memory counts, not the file */
                            .data = scene_pointer(memory + (as_cu_pointer)cases[i].first * 4)};
        scene_clear(s);
        scene_put(s, "fine", host, 4);
        assert_int_equal(as_state_add(&s->state, &d, NULL), AS_OK);
        if (cases[i].fits) {
            scene_find(s);
            assert_string_equal(scene_home(s, 1), "cuda:1");
        } else if (cases[i].first < 100) {
            refused(s, "\"layer.weight\"");
        }
    }
    scene_clear(s);
    scene_put(s, "all", scene_pointer(memory), 400);
    scene_find(s);
    scene_put(s, "more\n", scene_pointer(memory + 1), 400);
    refused(s, "\"more\\n\"");
    scene_close(s);
    scene_free(s, s->primary[1], memory);
    scene_free(s, s->primary[1], next);
}

/* ---- streams ---- */

/* The bytes that the device's piece has, by way of its channel. */
static void pack(scene *s, size_t i, char *out, int64_t bytes, as_copies *copies)
{
    as_geometry g;
    as_box box = as_state_memory_box(&s->state, i);
    const as_device *home = as_home(&s->homes, i);
    assert_int_equal(as_geometry_memory(&box, &g, NULL), AS_OK);
    assert_int_equal(
        home->pack(home, &g, as_state_piece(&s->state, i)->data, 0, bytes, out, copies, NULL),
        AS_OK);
}

/* Work on both devices that takes its time: the memory is filled with one byte after the other, the
 * last of which is to be saved. `streams`: one for each device. */
static void work(scene *s, as_cu_stream *streams, unsigned seed)
{
    static char bytes[WORK][SCENE_DEVICES][SCENE_BYTES];
    for (int i = 0; i < WORK; i++) {
        for (int d = 0; d < SCENE_DEVICES; d++) {
            memset(bytes[i][d], (int)(seed + (unsigned)(i * 3 + d)), SCENE_BYTES);
            assert_int_equal(s->cuda->context_push(s->primary[d]), 0);
            assert_int_equal(
                s->cuda->copy_to_device(s->memory[d], bytes[i][d], SCENE_BYTES, streams[d]), 0);
            assert_int_equal(s->cuda->context_pop(NULL), 0);
        }
    }
}

static void check_order(scene *s, as_cu_stream given, as_cu_stream *streams, unsigned seed)
{
    static char out[SCENE_DEVICES][SCENE_BYTES];
    static char want[SCENE_BYTES];
    as_copies copies = {0};
    as_error e = AS_ERROR_INIT;
    s->sim->delay(seed, 100);
    work(s, streams, seed);
    scene_find(s);
    assert_int_equal(as_devices_begin(s->devices, &s->homes, given, &e), AS_OK);
    for (size_t i = 0; i < SCENE_DEVICES; i++) {
        pack(s, i, out[i], SCENE_BYTES, &copies);
    }
    scene_drain(s, &e);
    assert_int_equal(e.code, AS_OK);
    assert_int_equal(copies.under_way, 0);
    for (int d = 0; d < SCENE_DEVICES; d++) {
        memset(want, (int)(seed + (unsigned)((WORK - 1) * 3 + d)), SCENE_BYTES);
        assert_memory_equal(out[d], want, SCENE_BYTES);
    }
    assert_string_equal(s->sim->faults(), "");
}

static void copies_come_after_the_callers_work(void **state)
{
    scene *s = *state;
    as_cu_stream made[SCENE_DEVICES] = {NULL};
    as_cu_stream own[SCENE_DEVICES] = {NULL};
    for (int d = 0; d < SCENE_DEVICES; d++) {
        assert_int_equal(s->cuda->context_push(s->primary[d]), 0);
        assert_int_equal(s->cuda->stream_create(&made[d], AS_CU_STREAM_NON_BLOCKING, 0), 0);
        own[d] = AS_CU_STREAM_PER_THREAD;
        assert_int_equal(s->cuda->context_pop(NULL), 0);
    }
    scene_put(s, "a", scene_pointer(s->memory[0]), SCENE_BYTES);
    scene_put(s, "b", scene_pointer(s->memory[1]), SCENE_BYTES);
    scene_open(s);
    for (unsigned seed = 1; seed <= SEEDS; seed++) {
        as_cu_stream legacy[] = {NULL, seed % 2 ? NULL : AS_CU_STREAM_LEGACY};
        as_cu_stream first[] = {made[0], NULL}; /* its own device's, and the other's legacy one */
        as_cu_stream second[] = {NULL, made[1]};
        const bool has_current = seed % 4 < 2;
        if (has_current) {
            assert_int_equal(s->cuda->context_push(s->primary[seed % 2]), 0);
        }
        check_order(s, seed % 3 ? NULL : AS_CU_STREAM_LEGACY, legacy, seed);
        check_order(s, made[0], first, seed);
        check_order(s, made[1], second, seed);
        check_order(s, AS_CU_STREAM_PER_THREAD, own, seed);
        if (has_current) {
            as_cu_stream mixed[] = {seed % 2 ? NULL : AS_CU_STREAM_PER_THREAD,
                                    seed % 2 ? AS_CU_STREAM_PER_THREAD : NULL};
            check_order(s, AS_CU_STREAM_PER_THREAD, mixed, seed);
            assert_ptr_equal(current(s), s->primary[seed % 2]);
            assert_int_equal(s->cuda->context_pop(NULL), 0);
        }
        assert_int_equal(s->sim->live("depth"), 0);
    }
    int64_t moved = as_devices_bytes(s->devices);
    assert_int_equal(moved, (SEEDS * 4 + SEEDS / 2) * SCENE_DEVICES * SCENE_BYTES);
    scene_close(s);
    for (int d = 0; d < SCENE_DEVICES; d++) {
        assert_int_equal(s->cuda->context_push(s->primary[d]), 0);
        assert_int_equal(s->cuda->stream_destroy(made[d]), 0);
        assert_int_equal(s->cuda->context_pop(NULL), 0);
    }
    scene_count(s, s->live);
}

/* What the caller puts into a graph does not run: nothing can come after it, and the capture is not
 * to be drawn into. */
static void streams_that_are_captured(void **state)
{
    scene *s = *state;
    static char out[SCENE_BYTES];
    as_cu_context other = NULL;
    assert_int_equal(s->sim->context_create(&other, 0, 0), 0);
    assert_int_equal(s->cuda->context_pop(NULL), 0);
    scene_put(s, "a", scene_pointer(s->memory[0]), SCENE_BYTES);
    scene_open(s);
    scene_find(s);
    as_copies first = {0};
    pack(s, 0, out, SCENE_BYTES, &first); /* buffers are page-locked before */
    scene_drain(s, NULL);
    for (int i = 0; i < 8; i++) {
        bool given = i & 1; /* it is the one that copies come after; */
        unsigned flags = i & 2 ? 0 : AS_CU_STREAM_NON_BLOCKING; /* the legacy one waits for it; */
        as_cu_context context = i & 4 ? other : s->primary[0];
        as_cu_stream stream = NULL;
        as_error e = AS_ERROR_INIT;
        as_copies copies = {0};
        assert_int_equal(s->cuda->context_push(context), 0);
        assert_int_equal(s->cuda->stream_create(&stream, flags, 0), 0);
        s->sim->capture(stream, true);
        int code = as_devices_begin(s->devices, &s->homes, given ? stream : NULL, &e);
        if (given) {
            assert_int_equal(code, AS_INVALID);
        } else if (!flags) {
            assert_int_equal(code, AS_CUDA);
        } else {
            /* Others' captures forbid to ask how far copies are: what was begun ends all the same. */
            assert_int_equal(code, AS_OK);
            s->sim->delay((unsigned)i + 1, 5000);
            pack(s, 0, out, SCENE_BYTES, &copies);
            scene_drain(s, &e);
            assert_int_equal(copies.code, AS_CUDA);
            assert_true(s->sim->idle());
        }
        if (!strstr(as_error_text(&e), "being captured into a graph") ||
            !strstr(as_error_text(&e), "cudaStreamEndCapture")) {
            fail_msg("%d: %s", i, as_error_text(&e));
        }
        as_error_clear(&e);
        s->sim->capture(stream, false);
        assert_int_equal(as_devices_begin(s->devices, &s->homes, given ? stream : NULL, &e), AS_OK);
        copies = (as_copies){0};
        pack(s, 0, out, SCENE_BYTES, &copies);
        scene_drain(s, &e);
        assert_int_equal(e.code, AS_OK);
        assert_int_equal(s->cuda->stream_destroy(stream), 0);
        assert_ptr_equal(current(s), context);
        assert_int_equal(s->cuda->context_pop(NULL), 0);
        assert_string_equal(s->sim->faults(), "");
    }
    scene_close(s);
    assert_int_equal(s->sim->context_destroy(other), 0);
    scene_count(s, s->live);
}

/* What is under way when a context is closed comes to its end. */
static void closing_waits(void **state)
{
    scene *s = *state;
    static char out[SCENE_BYTES];
    as_copies copies = {0};
    scene_put(s, "a", scene_pointer(s->memory[0]), SCENE_BYTES);
    scene_open(s);
    scene_find(s);
    s->sim->delay(3, 20000);
    assert_int_equal(as_devices_begin(s->devices, &s->homes, NULL, NULL), AS_OK);
    pack(s, 0, out, SCENE_BYTES, &copies);
    assert_true(as_devices_busy(s->devices));
    assert_int_equal(copies.under_way > 0, true);
    as_devices_close(s->devices);
    s->devices = NULL;
    assert_int_equal(copies.under_way, 0);
    for (size_t k = 0; k < SCENE_BYTES; k++) {
        assert_int_equal((unsigned char)out[k], scene_byte(0, k));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(before_it_is_initialised),
        cmocka_unit_test_setup_teardown(without_devices, scene_begin, scene_end),
        cmocka_unit_test_setup_teardown(on_needs_a_driver, scene_begin, scene_end),
        cmocka_unit_test_setup_teardown(every_piece_has_its_device, scene_begin, scene_end),
        cmocka_unit_test_setup_teardown(pointers_are_known_without_a_context, scene_begin,
                                        scene_end),
        cmocka_unit_test_setup_teardown(contexts_are_the_owners, scene_begin, scene_end),
        cmocka_unit_test_setup_teardown(what_no_context_owns, scene_begin, scene_end),
        cmocka_unit_test_setup_teardown(pieces_reach_no_further_than_their_memory, scene_begin,
                                        scene_end),
        cmocka_unit_test_setup_teardown(copies_come_after_the_callers_work, scene_begin, scene_end),
        cmocka_unit_test_setup_teardown(streams_that_are_captured, scene_begin, scene_end),
        cmocka_unit_test_setup_teardown(closing_waits, scene_begin, scene_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
