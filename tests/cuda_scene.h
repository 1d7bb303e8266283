/* SPDX-License-Identifier: Apache-2.0
 * Two simulated devices with some memory each, for tests of the simulation itself.
 */
#ifndef ALLSHARD_TESTS_CUDA_SCENE_H
#define ALLSHARD_TESTS_CUDA_SCENE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "support_simulated.h"

#include <cmocka.h>

enum { SCENE_BYTES = 1 << 16 };

typedef struct cuda_scene {
    const sim_library *s;
    const as_cuda *cu;
    as_cu_context context[2]; /* that of device 0 is current */
    as_cu_pointer memory[2];  /* SCENE_BYTES on each */
    as_cu_stream stream[2];   /* non-blocking, of device 0 */
    as_cu_stream blocking[2]; /* of device 0 */
    char *host;               /* SCENE_BYTES, registered */
} cuda_scene;

#define OK(call) assert_int_equal(call, AS_CU_SUCCESS)

/* One call to refuse, and a word of what is noted. */
#define REFUSED(scene, call, code, word)                                                           \
    do {                                                                                           \
        assert_int_equal(call, code);                                                              \
        assert_noted(scene, word);                                                                 \
    } while (0)

static inline void assert_noted(const cuda_scene *c, const char *word)
{
    if (!strstr(c->s->faults(), word)) {
        print_message("noted: \"%s\", without \"%s\"\n", c->s->faults(), word);
        fail();
    }
    c->s->reset();
    assert_string_equal(c->s->faults(), "");
}

static inline int scene_open(void **state)
{
    static cuda_scene c;
    memset(&c, 0, sizeof c);
    c.s = simulated();
    c.cu = &c.s->cuda;
    c.s->reset();
    OK(c.cu->init(0));
    for (int i = 1; i >= 0; i--) {
        OK(c.cu->primary_retain(&c.context[i], i));
        OK(c.cu->context_push(c.context[i]));
        OK(c.cu->memory_alloc(&c.memory[i], SCENE_BYTES));
        if (i == 1) {
            OK(c.cu->context_pop(NULL));
        }
    }
    for (int i = 0; i < 2; i++) {
        OK(c.cu->stream_create(&c.stream[i], AS_CU_STREAM_NON_BLOCKING, 0));
        OK(c.s->stream_create_plain(&c.blocking[i], 0));
    }
    c.host = calloc(1, SCENE_BYTES);
    assert_non_null(c.host);
    OK(c.cu->host_register(c.host, SCENE_BYTES, AS_CU_REGISTER_PORTABLE));
    assert_string_equal(c.s->faults(), "");
    *state = &c;
    return 0;
}

/* Nothing may be left of what a test made, and nothing noted that it has not asserted. */
static inline int scene_close(void **state)
{
    const cuda_scene *c = *state;
    assert_string_equal(c->s->faults(), "");
    c->s->reset();
    OK(c->s->context_synchronize());
    OK(c->cu->host_unregister(c->host));
    free(c->host);
    for (int i = 0; i < 2; i++) {
        OK(c->cu->stream_destroy(c->stream[i]));
        OK(c->cu->stream_destroy(c->blocking[i]));
    }
    static const char *const kinds[] = {"host", "events", "streams", "modules", "registered"};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        assert_int_equal(c->s->live(kinds[i]), 0);
    }
    assert_int_equal(c->s->live("memory"), 2 * SCENE_BYTES);
    assert_int_equal(c->s->live("depth"), 1);
    OK(c->cu->memory_free(c->memory[0]));
    OK(c->cu->context_pop(NULL));
    OK(c->cu->primary_release(0));
    OK(c->cu->primary_release(1)); /* with its memory */
    assert_int_equal(c->s->live("memory"), 0);
    assert_int_equal(c->s->live("contexts"), 0);
    assert_string_equal(c->s->faults(), "");
    return 0;
}

#endif
