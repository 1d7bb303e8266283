/* SPDX-License-Identifier: Apache-2.0
 * A program with two simulated devices, and a state whose pieces lie here and there.
 */
#ifndef ALLSHARD_TESTS_DEVICES_SCENE_H
#define ALLSHARD_TESTS_DEVICES_SCENE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "device/devices.h"
#include "support_simulated.h"
#include "tensor/dtype.h"

#include <cmocka.h>

enum { SCENE_DEVICES = 2, SCENE_BYTES = 1 << 16 };

typedef struct scene {
    const sim_library *sim;
    const as_cuda *cuda;
    as_cu_context primary[SCENE_DEVICES]; /* as programs that use the runtime have them */
    as_cu_pointer
        memory[SCENE_DEVICES]; /* SCENE_BYTES of each, with bytes that are all different */
    as_state state;
    as_devices *devices;
    as_homes homes;
    int64_t live[5];
} scene;

static const char *const scene_kinds[5] = {"streams", "events", "modules", "registered",
                                           "contexts"};

static inline void scene_count(const scene *s, int64_t *out)
{
    for (size_t i = 0; i < 5; i++) {
        out[i] = s->sim->live(scene_kinds[i]);
    }
}

static inline as_cu_pointer scene_alloc(const scene *s, as_cu_context context, size_t bytes)
{
    as_cu_pointer memory = 0;
    assert_int_equal(s->cuda->context_push(context), 0);
    assert_int_equal(s->cuda->memory_alloc(&memory, bytes), 0);
    assert_int_equal(s->cuda->context_pop(NULL), 0);
    return memory;
}

static inline void scene_free(const scene *s, as_cu_context context, as_cu_pointer memory)
{
    assert_int_equal(s->cuda->context_push(context), 0);
    assert_int_equal(s->cuda->memory_free(memory), 0);
    assert_int_equal(s->cuda->context_pop(NULL), 0);
}

static inline unsigned char scene_byte(int device, size_t i)
{
    return (unsigned char)(i * 7 + i / 251 + (size_t)device * 101);
}

static inline int scene_begin(void **state)
{
    static scene all;
    scene *s = &all;
    memset(s, 0, sizeof *s);
    s->sim = simulated();
    s->cuda = &s->sim->cuda;
    s->sim->reset();
    assert_int_equal(s->cuda->init(0), 0);
    for (int i = 0; i < SCENE_DEVICES; i++) {
        static unsigned char bytes[SCENE_BYTES];
        assert_int_equal(s->cuda->primary_retain(&s->primary[i], i), 0);
        s->memory[i] = scene_alloc(s, s->primary[i], SCENE_BYTES);
        for (size_t k = 0; k < SCENE_BYTES; k++) {
            bytes[k] = scene_byte(i, k);
        }
        s->sim->write(s->memory[i], bytes, SCENE_BYTES);
    }
    assert_int_equal(as_state_init(&s->state, "model", NULL), AS_OK);
    scene_count(s, s->live);
    *state = s;
    return 0;
}

/* Nothing of CUDA is left behind, and no rule was broken. */
static inline void scene_close(scene *s)
{
    int64_t live[5];
    as_homes_free(&s->homes);
    as_devices_close(s->devices);
    s->devices = NULL;
    assert_string_equal(s->sim->faults(), "");
    scene_count(s, live);
    for (size_t i = 0; i < 5; i++) {
        if (live[i] != s->live[i]) {
            (void)fprintf(stderr, "%s: %lld, before %lld\n", scene_kinds[i], (long long)live[i],
                          (long long)s->live[i]);
        }
        assert_int_equal(live[i], s->live[i]);
    }
}

static inline int scene_end(void **state)
{
    scene *s = *state;
    scene_close(s);
    as_state_free(&s->state);
    for (int i = 0; i < SCENE_DEVICES; i++) {
        scene_free(s, s->primary[i], s->memory[i]);
        assert_int_equal(s->cuda->primary_release(i), 0);
    }
    return 0;
}

static inline void *scene_pointer(as_cu_pointer memory)
{
    return (void *)(uintptr_t)memory;
}

/* A piece of so many bytes. */
static inline void scene_put(scene *s, const char *name, void *data, int64_t bytes)
{
    int64_t shape[] = {bytes};
    int64_t zero[] = {0};
    as_declaration d = {
        .name = name,
        .box = {.dtype = AS_U8, .ndim = 1, .shape = shape, .offset = zero, .local = shape},
        .data = data};
    assert_int_equal(as_state_add(&s->state, &d, NULL), AS_OK);
}

static inline void scene_clear(scene *s)
{
    as_state_free(&s->state);
    assert_int_equal(as_state_init(&s->state, "model", NULL), AS_OK);
}

static inline void scene_open(scene *s)
{
    scene_count(s, s->live);
    assert_int_equal(as_devices_open(&s->devices, AS_CUDA_AUTO, NULL), AS_OK);
    assert_non_null(s->devices);
}

static inline void scene_find(scene *s)
{
    as_error e = AS_ERROR_INIT;
    int code = as_devices_find(s->devices, &s->state, &s->homes, &e);
    if (code != AS_OK) {
        (void)fprintf(stderr, "%s\n", as_error_text(&e));
    }
    assert_int_equal(code, AS_OK);
    as_error_clear(&e);
}

/* "cuda:1" of piece i. */
static inline const char *scene_home(const scene *s, size_t i)
{
    return as_home(&s->homes, i)->name;
}

/* All that is under way ends. */
static inline void scene_drain(scene *s, as_error *e)
{
    bool moved = false;
    while (as_devices_busy(s->devices)) {
        as_devices_step(s->devices, &moved, e);
    }
}

#endif
