/* SPDX-License-Identifier: Apache-2.0
 * simulated: cuda
 * The simulated driver's streams: what they order happens in that order, what they leave open
 * happens in any; and operations that reach the same memory without an order are noted.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#include "cuda_scene.h"

enum { SEEDS = 400, DELAY = 400 }; /* microseconds; to see both orders takes a few seeds */

/* Kernels that write their letter down. */
static char written[16];
static atomic_int letters;

static void write_letter(void **parameters, unsigned grid_x, unsigned block_x, unsigned block,
                         unsigned thread)
{
    (void)grid_x, (void)block_x, (void)block, (void)thread;
    written[atomic_fetch_add(&letters, 1)] = *(const char *)parameters[0];
}

static as_cu_function letter;
static as_cu_module module;

static int open_letters(void **state)
{
    (void)scene_open(state);
    const cuda_scene *c = *state;
    c->s->kernel("letter", write_letter, &(size_t){1}, 1);
    OK(c->cu->module_load(&module, SIM_MODULE_IMAGE));
    OK(c->cu->module_function(&letter, module, "letter"));
    return 0;
}

static int close_letters(void **state)
{
    const cuda_scene *c = *state;
    OK(c->cu->module_unload(module));
    return scene_close(state);
}

static void put(const cuda_scene *c, as_cu_stream stream, char what)
{
    void *parameters[] = {&what};
    OK(c->cu->launch(letter, 1, 1, 1, 1, 1, 1, 0, stream, parameters, NULL));
}

/* What was written, when all of it was. */
static const char *wait_for_letters(const cuda_scene *c)
{
    OK(c->s->context_synchronize());
    written[atomic_exchange(&letters, 0)] = 0;
    return written;
}

static void streams_keep_their_order(void **state)
{
    const cuda_scene *c = *state;
    for (unsigned seed = 1; seed <= 20; seed++) {
        c->s->delay(seed, DELAY);
        for (int i = 0; i < 5; i++) {
            put(c, c->stream[0], "abcde"[i]);
        }
        assert_string_equal(wait_for_letters(c), "abcde");
    }
}

/* What comes of the scene. It is held back until all of it is asked for, so that the seed alone
 * decides, not the machine's haste. */
static const char *play(const cuda_scene *c, void (*scene)(const cuda_scene *c), unsigned seed)
{
    c->s->delay(seed, DELAY);
    c->s->hold(true);
    scene(c);
    const char *text = wait_for_letters(c);
    c->s->hold(false);
    return text;
}

/* All of the texts must come up, and no other. */
static void assert_all(const cuda_scene *c, void (*scene)(const cuda_scene *c),
                       const char *const *texts, int count)
{
    unsigned seen = 0;
    for (unsigned seed = 1; seed <= SEEDS && seen != (1U << count) - 1; seed++) {
        const char *text = play(c, scene, seed);
        int i = 0;
        while (i < count && strcmp(texts[i], text) != 0) {
            i++;
        }
        if (i == count) {
            print_message("\"%s\" with seed %u\n", text, seed);
        }
        assert_int_not_equal(i, count);
        seen |= 1U << i;
    }
    assert_int_equal(seen, (1U << count) - 1);
}

static void never_in_any_other_order(const cuda_scene *c, void (*scene)(const cuda_scene *c),
                                     const char *text)
{
    for (unsigned seed = 1; seed <= 30; seed++) {
        assert_string_equal(play(c, scene, seed), text);
    }
}

static void two_streams(const cuda_scene *c)
{
    put(c, c->stream[0], 'a');
    put(c, c->stream[1], 'b');
}

static void two_blocking_streams(const cuda_scene *c)
{
    put(c, c->blocking[0], 'a');
    put(c, c->blocking[1], 'b');
}

static void legacy_between_blocking(const cuda_scene *c)
{
    put(c, c->blocking[0], 'a');
    put(c, NULL, 'b');
    put(c, AS_CU_STREAM_LEGACY, 'c');
    put(c, c->blocking[1], 'd');
}

static void legacy_and_free(const cuda_scene *c)
{
    put(c, NULL, 'a');
    put(c, c->stream[0], 'b');
}

static void free_and_legacy(const cuda_scene *c)
{
    put(c, c->stream[0], 'a');
    put(c, NULL, 'b');
}

static void streams_of_others(const cuda_scene *c)
{
    put(c, AS_CU_STREAM_PER_THREAD, 'a');
    put(c, c->stream[0], 'b');
}

static void per_thread_after_legacy(const cuda_scene *c)
{
    put(c, NULL, 'a');
    put(c, AS_CU_STREAM_PER_THREAD, 'b');
    put(c, NULL, 'c');
}

static as_cu_event event;

static void one_waits(const cuda_scene *c)
{
    put(c, c->stream[0], 'a');
    OK(c->cu->event_record(event, c->stream[0]));
    put(c, c->stream[0], 'x');
    OK(c->cu->stream_wait(c->stream[1], event, 0));
    OK(c->cu->event_record(event, c->stream[1])); /* what was waited for stays what it was */
    put(c, c->stream[1], 'b');
}

static void free_waits_for_legacy(const cuda_scene *c)
{
    put(c, c->blocking[0], 'a');
    OK(c->cu->event_record(event, NULL));
    OK(c->cu->stream_wait(c->stream[0], event, 0));
    put(c, c->stream[0], 'b');
}

static void streams_go_their_own_ways(void **state)
{
    const cuda_scene *c = *state;
    static const char *const both[] = {"ab", "ba"};
    assert_all(c, two_streams, both, 2);
    assert_all(c, two_blocking_streams, both, 2);
    assert_all(c, legacy_and_free, both, 2);
    assert_all(c, free_and_legacy, both, 2);
    assert_all(c, streams_of_others, both, 2);
}

static void legacy_order(void **state)
{
    const cuda_scene *c = *state;
    never_in_any_other_order(c, legacy_between_blocking, "abcd");
    never_in_any_other_order(c, per_thread_after_legacy, "abc");
    /* Who waits for the legacy stream waits for what that waits for. */
    c->s->delay(1, DELAY);
    put(c, c->blocking[0], 'a');
    OK(c->cu->stream_synchronize(NULL));
    assert_int_equal(atomic_load(&letters), 1);
    assert_string_equal(wait_for_letters(c), "a");
}

static void events(void **state)
{
    const cuda_scene *c = *state;
    static const char *const after[] = {"axb", "abx"};
    OK(c->cu->event_create(&event, AS_CU_EVENT_DISABLE_TIMING));
    OK(c->cu->event_query(event)); /* of one that was never recorded, as all of these */
    OK(c->s->event_synchronize(event));
    OK(c->cu->stream_wait(c->stream[0], event, 0));
    assert_all(c, one_waits, after, 2);
    never_in_any_other_order(c, free_waits_for_legacy, "ab");

    c->s->hold(true);
    put(c, c->stream[0], 'a');
    OK(c->cu->event_record(event, c->stream[0]));
    assert_int_equal(c->cu->event_query(event), AS_CU_NOT_READY);
    assert_int_equal(c->cu->stream_query(c->stream[0]), AS_CU_NOT_READY);
    assert_false(c->s->idle());
    c->s->hold(false);
    OK(c->s->event_synchronize(event));
    OK(c->cu->event_query(event));
    assert_string_equal(wait_for_letters(c), "a");
    assert_true(c->s->idle());
    OK(c->cu->event_destroy(event));
    assert_int_equal(c->cu->event_query(event), 400);
    assert_noted(c, "is no event");
}

static void *put_from_a_thread(void *scene)
{
    const cuda_scene *c = scene;
    OK(c->cu->context_push(c->context[0]));
    put(c, AS_CU_STREAM_PER_THREAD, 'b');
    OK(c->cu->context_pop(NULL));
    return NULL;
}

static void two_threads(const cuda_scene *c)
{
    pthread_t thread;
    put(c, AS_CU_STREAM_PER_THREAD, 'a');
    OK(pthread_create(&thread, NULL, put_from_a_thread, (void *)(uintptr_t)c));
    OK(pthread_join(thread, NULL));
}

static void a_stream_per_thread(void **state)
{
    static const char *const both[] = {"ab", "ba"};
    assert_all(*state, two_threads, both, 2);
}

static void destroyed_streams_end(void **state)
{
    const cuda_scene *c = *state;
    as_cu_stream stream = NULL;
    unsigned flags = 0;
    int priority = 0;
    OK(c->cu->stream_create(&stream, AS_CU_STREAM_NON_BLOCKING, -9));
    OK(c->s->stream_flags(stream, &flags));
    OK(c->s->stream_priority(stream, &priority));
    assert_int_equal(flags, AS_CU_STREAM_NON_BLOCKING);
    assert_int_equal(priority, -5);
    c->s->hold(true);
    put(c, stream, 'a');
    OK(c->cu->stream_destroy(stream));
    c->s->hold(false);
    assert_string_equal(wait_for_letters(c), "a");
    REFUSED(c, c->cu->stream_synchronize(stream), 400, "the stream was destroyed");
}

/* ---- without an order ---- */

typedef struct pair {
    as_cu_stream first;
    as_cu_stream second;
    bool event; /* the second waits for one behind the first */
    bool noted;
} pair;

/* Two copies to the same device memory, both under way. */
static void copy_twice(const cuda_scene *c, pair p, size_t apart)
{
    c->s->hold(true);
    OK(c->cu->copy_to_device(c->memory[0], c->host, 100, p.first));
    if (p.event) {
        OK(c->cu->event_record(event, p.first));
        OK(c->cu->stream_wait(p.second, event, 0));
    }
    OK(c->cu->copy_to_device(c->memory[0] + apart, c->host + 1000, 100, p.second));
    c->s->hold(false);
    OK(c->s->context_synchronize());
    if (p.noted) {
        assert_noted(c, "another stream");
    }
    assert_string_equal(c->s->faults(), "");
}

static void races(void **state)
{
    const cuda_scene *c = *state;
    const pair pairs[] = {
        {c->stream[0], c->stream[1], false, true},
        {c->stream[0], c->stream[1], true, false},
        {c->stream[0], c->stream[0], false, false},
        {c->blocking[0], c->blocking[1], false, true},
        {c->blocking[0], NULL, false, false},
        {NULL, c->blocking[0], false, false},
        {NULL, c->stream[0], false, true},
        {NULL, c->stream[0], true, false},
        {NULL, AS_CU_STREAM_PER_THREAD, false, false},
    };
    OK(c->cu->event_create(&event, 0));
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        copy_twice(c, pairs[i], 99);
    }
    copy_twice(c, (pair){c->stream[0], c->stream[1], false, false}, 100);

    /* Through a third stream. */
    c->s->hold(true);
    OK(c->cu->copy_to_device(c->memory[0], c->host, 100, c->blocking[0]));
    OK(c->cu->event_record(event, NULL));
    OK(c->cu->stream_wait(c->stream[0], event, 0));
    OK(c->cu->event_record(event, c->stream[0]));
    OK(c->cu->stream_wait(c->stream[1], event, 0));
    OK(c->cu->copy_to_host(c->host + 1000, c->memory[0], 100, c->stream[1]));
    c->s->hold(false);
    OK(c->s->context_synchronize());
    assert_string_equal(c->s->faults(), "");

    /* A copy that began before what is read was written. */
    c->s->hold(true);
    OK(c->cu->copy_to_device(c->memory[0], c->host, 100, NULL));
    OK(c->cu->copy_to_host(c->host + 1000, c->memory[0], 100, c->stream[0]));
    assert_noted(c, "cuMemcpyDtoHAsync: a cuMemcpyHtoDAsync of another stream");
    OK(c->s->context_synchronize());
    OK(c->cu->event_destroy(event));
}

/* Columns between each other's. */
static void columns(void **state)
{
    const cuda_scene *c = *state;
    as_cu_copy_2d d = {.from_type = AS_CU_MEMORY_DEVICE,
                       .from_device = c->memory[0],
                       .from_pitch = 64,
                       .to_type = AS_CU_MEMORY_HOST,
                       .to_host = c->host,
                       .to_pitch = 64,
                       .width = 32,
                       .height = 100};
    c->s->hold(true);
    OK(c->cu->copy_2d(&d, c->stream[0]));
    d.from_x = 32;
    d.to_x = 32;
    OK(c->cu->copy_2d(&d, c->stream[1]));
    assert_string_equal(c->s->faults(), "");
    d.to_x = 31;
    OK(c->cu->copy_2d(&d, c->stream[1]));
    assert_noted(c, "another stream");
    OK(c->s->context_synchronize());
    c->s->reset();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_letters, close_letters)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(streams_keep_their_order),
        TEST(streams_go_their_own_ways),
        TEST(legacy_order),
        TEST(events),
        TEST(a_stream_per_thread),
        TEST(destroyed_streams_end),
        TEST(races),
        TEST(columns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
