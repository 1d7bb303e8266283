/* SPDX-License-Identifier: Apache-2.0
 * simulated: cuda
 * Programs that destroy a CUDA context, or reset a device, that pieces have lain in: between two
 * calls, in the middle of one, and before the end. The devices are simulated ones.
 */
#include "devices_scene.h"

#include "device/cuda_channel.h"

enum { ARENA = 1 << 18, ROUNDS = 3 };

static _Alignas(4096) char arena[ARENA];

static as_pin pin; /* of it */

/* The program's context on device 0: one that it makes, or the primary one. */
static as_cu_context begin_context(const scene *s, bool primary)
{
    as_cu_context context = NULL;
    if (primary) {
        assert_int_equal(s->cuda->primary_retain(&context, 0), 0);
    } else {
        assert_int_equal(s->sim->context_create(&context, 0, 0), 0);
        assert_int_equal(s->cuda->context_pop(NULL), 0);
    }
    return context;
}

static void put_bytes(scene *s, as_cu_pointer memory, unsigned seed)
{
    static unsigned char bytes[SCENE_BYTES];
    for (size_t i = 0; i < SCENE_BYTES; i++) {
        bytes[i] = (unsigned char)(i * 31 + i / 200 + seed);
    }
    s->sim->write(memory, bytes, SCENE_BYTES);
}

/* Finds the piece and begins to copy it, by way of memory that is pinned or not. */
static int begin_copy(scene *s, char *out, as_copies *copies, as_error *e)
{
    as_geometry g;
    as_box box = as_state_memory_box(&s->state, 0);
    assert_int_equal(as_geometry_memory(&box, &g, NULL), AS_OK);
    int code = as_devices_find(s->devices, &s->state, &s->homes, e);
    if (code == AS_OK) {
        code = as_devices_begin(s->devices, &s->homes, NULL, e);
    }
    if (code == AS_OK) {
        const as_device *home = as_home(&s->homes, 0);
        assert_false(home->is_host);
        as_devices_pin(s->devices, &s->homes, &pin, arena, ARENA);
        assert_ptr_equal(pin.base, arena);
        assert_int_equal(pin.bytes, ARENA);
        code = home->pack(home, &g, as_state_piece(&s->state, 0)->data, 0, SCENE_BYTES, out, copies,
                          e);
    }
    return code;
}

static void check_bytes(const char *out, unsigned seed)
{
    for (size_t i = 0; i < SCENE_BYTES; i++) {
        assert_int_equal((unsigned char)out[i], (unsigned char)(i * 31 + i / 200 + seed));
    }
}

static void copy(scene *s, char *out, unsigned seed)
{
    as_error e = AS_ERROR_INIT;
    as_copies copies = {0};
    memset(out, 0, SCENE_BYTES);
    if (begin_copy(s, out, &copies, &e) != AS_OK) {
        fail_msg("%s", as_error_text(&e));
    }
    scene_drain(s, &e);
    if (e.code != AS_OK || copies.code != AS_OK) {
        fail_msg("%s", as_error_text(&e));
    }
    check_bytes(out, seed);
}

enum when { BETWEEN, WITHIN, AT_THE_END };

typedef struct ending {
    bool primary; /* the context is: the device is reset */
    bool token;   /* there was memory for one */
    bool strict;  /* the driver wants a current context to look at pointers */
    bool current; /* the thread has one that is no more */
    enum when when;
} ending;

static void end_within(scene *s, as_cu_context context)
{
    static char out[SCENE_BYTES];
    as_error e = AS_ERROR_INIT;
    as_copies copies = {0};
    assert_int_equal(begin_copy(s, out, &copies, &e), AS_OK);
    assert_int_equal(s->sim->end_context(context), 0);
    scene_drain(s, &e);
    assert_int_equal(copies.under_way, 0);
    assert_int_equal(copies.code, AS_CUDA);
    assert_int_equal(e.code, AS_CUDA);
    if (!strstr(as_error_text(&e), "the program has destroyed the CUDA context")) {
        fail_msg("%s", as_error_text(&e));
    }
    as_error_clear(&e);
}

/* The piece's memory is gone, and its pointer is still declared. */
static void check_lost_pointer(scene *s)
{
    as_error e = AS_ERROR_INIT;
    assert_int_equal(as_devices_find(s->devices, &s->state, &s->homes, &e), AS_INVALID);
    if (!strstr(as_error_text(&e), "\"piece\"") || !strstr(as_error_text(&e), "cudaDeviceReset")) {
        fail_msg("%s", as_error_text(&e));
    }
    as_error_clear(&e);
}

static void check_ending(scene *s, const ending *c)
{
    static char out[SCENE_BYTES];
    scene_open(s);
    pin = (as_pin){0};
    as_cu_context old = NULL;
    const as_channel *before = NULL;
    for (unsigned round = 0; round < ROUNDS; round++) {
        as_cu_context context = begin_context(s, c->primary);
        as_cu_pointer memory = scene_alloc(s, context, SCENE_BYTES);
        assert_true(!c->primary || !old || context == old);
        scene_clear(s);
        scene_put(s, "piece", scene_pointer(memory), SCENE_BYTES);
        put_bytes(s, memory, round);
        if (!c->token) {
            s->sim->inject("cuMemAlloc", 1, AS_CU_OUT_OF_MEMORY);
        }
        s->sim->strict_pointers(c->strict);
        int64_t locked = s->sim->pageable();
        copy(s, arena + 4096, round); /* which is pinned, */
        assert_int_equal(s->sim->pageable(), locked);
        copy(s, out, round); /* and by way of the channel's own buffers, which are */
        assert_int_equal(s->sim->pageable(), locked);
        s->sim->inject("cuMemAlloc", 0, 0);
        const as_channel *channel = as_channel_of(as_home(&s->homes, 0));
        assert_ptr_equal(channel->context, context);
        assert_int_equal(channel->token != 0, c->token);
        assert_ptr_not_equal(channel, before);
        before = channel;
        if (c->current) {
            assert_int_equal(s->cuda->context_push(context), 0);
        }
        if (c->when == WITHIN) {
            end_within(s, context);
        } else {
            assert_int_equal(s->sim->end_context(context), 0);
        }
        old = context;
        if (c->when == AT_THE_END) {
            break;
        }
        check_lost_pointer(s);
        s->sim->strict_pointers(false);
    }
    int64_t streams = s->sim->live("streams");
    assert_int_equal(s->sim->live("registered"), 0);
    as_homes_free(&s->homes);
    as_devices_close(s->devices);
    s->devices = NULL;
    s->sim->strict_pointers(false);
    assert_int_equal(s->sim->live("streams"), streams); /* there were none */
    assert_int_equal(streams, 0);
    assert_int_equal(s->sim->live("events"), 0);
    assert_int_equal(s->sim->live("registered"), 0);
    assert_string_equal(s->sim->faults(), "");
    while (s->sim->live("depth") > 0) {
        (void)s->cuda->context_pop(NULL);
    }
}

static void contexts_end_at_any_time(void **state)
{
    scene *s = *state;
    int cases = 0;
    for (int i = 0; i < 16; i++) {
        for (int when = BETWEEN; when <= AT_THE_END; when++) {
            ending c = {.primary = i & 1,
                        .token = i & 2,
                        .strict = i & 4,
                        .current = i & 8,
                        .when = (enum when)when};
            check_ending(s, &c);
            cases++;
        }
    }
    print_message("%d endings\n", cases);
    /* What the scene had on device 0 went with its primary context. */
    as_cu_context again = begin_context(s, true);
    assert_ptr_equal(again, s->primary[0]);
    s->memory[0] = scene_alloc(s, again, SCENE_BYTES);
    scene_count(s, s->live);
}

/* The driver may give what it has at another time to another: handles, and addresses. */
static void memory_at_the_same_place_is_not_the_same(void **state)
{
    scene *s = *state;
    static char out[SCENE_BYTES];
    pin = (as_pin){0};
    scene_put(s, "piece", scene_pointer(s->memory[1]), SCENE_BYTES);
    put_bytes(s, s->memory[1], 9);
    scene_open(s);
    copy(s, out, 9);
    as_channel *c = as_channel_of(as_home(&s->homes, 0));
    bool gone = true;
    assert_int_equal(as_channel_check(c, &gone, NULL), AS_OK);
    assert_false(gone);
    c->token_id--;
    assert_int_equal(as_channel_check(c, &gone, NULL), AS_OK);
    assert_true(gone);
    c->token_id++;
    copy(s, out, 9);
    assert_ptr_equal(as_channel_of(as_home(&s->homes, 0)), c);
}

/* An error of the question is no answer. */
static void questions_that_fail(void **state)
{
    scene *s = *state;
    static char out[SCENE_BYTES];
    pin = (as_pin){0};
    scene_put(s, "piece", scene_pointer(s->memory[1]), SCENE_BYTES);
    put_bytes(s, s->memory[1], 1);
    scene_open(s);
    copy(s, out, 1);
    const as_channel *c = as_channel_of(as_home(&s->homes, 0));
    for (int code = 1; code < 1000; code++) {
        as_error e = AS_ERROR_INIT;
        s->sim->inject("cuPointerGetAttributes", 1, code);
        int found = as_devices_find(s->devices, &s->state, &s->homes, &e);
        bool again = code == AS_CU_INVALID_CONTEXT || code == AS_CU_CONTEXT_DESTROYED;
        assert_int_equal(found, again ? AS_OK : code == AS_CU_OUT_OF_MEMORY ? AS_NOMEM : AS_CUDA);
        assert_int_equal(e.code, found);
        s->sim->reset();
        as_error_clear(&e);
        assert_false(c->gone);
    }
    copy(s, out, 1);
    assert_ptr_equal(as_channel_of(as_home(&s->homes, 0)), c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(contexts_end_at_any_time, scene_begin, scene_end),
        cmocka_unit_test_setup_teardown(memory_at_the_same_place_is_not_the_same, scene_begin,
                                        scene_end),
        cmocka_unit_test_setup_teardown(questions_that_fail, scene_begin, scene_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
