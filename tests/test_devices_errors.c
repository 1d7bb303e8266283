/* SPDX-License-Identifier: Apache-2.0
 * simulated: cuda
 * Memory of the host that is page-locked, and every call of CUDA between the opening and the closing of
 * a context's devices that fails, each time that it is made, with one code after the other: an error
 * that names call and code, or the right bytes; nothing is left behind. The devices are simulated
 * ones.
 */
#include "devices_scene.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "device/cuda_channel.h"

enum { ARENA = 1 << 18, MOST = 12 };

/* ---- page-locked memory ---- */

static void *arena(void)
{
    static _Alignas(4096) char memory[ARENA];
    return memory;
}

static void memory_is_locked_once(void **state)
{
    scene *s = *state;
    as_pin pin = {0};
    const char *reason = "";
    static char host[8];
    char *base = arena();
    int64_t calls = s->sim->calls("cuMemHostRegister");
    scene_put(s, "host", host, 8);
    scene_open(s);
    int64_t live = s->sim->live("registered");
    scene_find(s);
    as_devices_pin(s->devices, &s->homes, &pin, base, ARENA); /* no piece lies on a device */
    assert_null(pin.base);
    assert_int_equal(s->sim->calls("cuMemHostRegister"), calls);
    scene_put(s, "device", scene_pointer(s->memory[1]), 8);
    scene_find(s);
    for (int i = 0; i < 3; i++) {
        as_devices_pin(s->devices, &s->homes, &pin, base, ARENA);
        assert_ptr_equal(pin.base, base);
        assert_int_equal(pin.bytes, ARENA);
        assert_int_equal(s->sim->calls("cuMemHostRegister"), calls + 1);
        assert_int_equal(s->sim->live("registered"), live + 1);
    }
    /* Less of it, and no longer any device: what was locked is not any more. */
    as_devices_pin(s->devices, &s->homes, &pin, base, ARENA / 2);
    assert_int_equal(pin.bytes, ARENA / 2);
    assert_int_equal(s->sim->live("registered"), live + 1);
    as_pin other = {0};
    as_devices_pin(s->devices, &s->homes, &other, base + ARENA / 2, ARENA / 2);
    assert_int_equal(s->sim->live("registered"), live + 2);
    assert_string_equal(as_devices_note(s->devices, &reason), "cuda:1");
    assert_string_equal(reason, "");
    scene_clear(s);
    scene_put(s, "host", host, 8);
    scene_find(s);
    as_devices_pin(s->devices, &s->homes, &pin, base, ARENA / 2); /* the same: it stays */
    assert_ptr_equal(pin.base, base);
    as_devices_pin(s->devices, &s->homes, &pin, base, ARENA / 4);
    assert_null(pin.base);
    assert_int_equal(s->sim->live("registered"), live + 1);
    as_devices_unpin(s->devices, &pin);
    as_devices_unpin(s->devices, &other);
    assert_null(other.base);
    assert_int_equal(s->sim->live("registered"), live);
    /* What is locked when the context is closed is not afterwards: scene_end looks. */
    scene_put(s, "device", scene_pointer(s->memory[1]), 8);
    scene_find(s);
    as_devices_pin(s->devices, &s->homes, &pin, base, ARENA);
    assert_non_null(pin.base);
}

static bool child_has(char *memory)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        unsigned char resident;
        _exit(mincore(memory, 4096, &resident) != 0 && errno == ENOMEM ? 0 : 1);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status) != 0;
}

/* Else the kernel may give this process another page, and the device goes on to use the child's. */
static void children_do_not_have_it(void **state)
{
    scene *s = *state;
    as_pin pin = {0};
    as_copies copies = {0};
    as_error e = AS_ERROR_INIT;
    static char out[SCENE_BYTES];
    char *base = mmap(NULL, ARENA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(base, MAP_FAILED);
    memset(base, 1, ARENA);
    assert_true(child_has(base));
    scene_put(s, "device", scene_pointer(s->memory[0]), SCENE_BYTES);
    scene_open(s);
    scene_find(s);
    as_devices_pin(s->devices, &s->homes, &pin, base, ARENA);
    assert_ptr_equal(pin.base, base);
    assert_false(child_has(base));
    assert_false(child_has(base + ARENA - 4096));
    /* By a buffer, since this is not pinned. */
    as_box box = as_state_memory_box(&s->state, 0);
    as_geometry g;
    assert_int_equal(as_geometry_memory(&box, &g, &e), AS_OK);
    const as_device *d = s->homes.of[0];
    assert_int_equal(d->pack(d, &g, scene_pointer(s->memory[0]), 0, SCENE_BYTES, out, &copies, &e),
                     AS_OK);
    assert_non_null(as_channel_of(d)->bounces);
    assert_false(child_has(as_channel_of(d)->bounces));
    while (copies.under_way > 0) {
        bool moved = false;
        as_devices_step(s->devices, &moved, &e);
    }
    assert_int_equal(copies.code, AS_OK);
    as_devices_unpin(s->devices, &pin);
    assert_int_equal(munmap(base, ARENA), 0);
}

static void what_others_have_locked_stays_so(void **state)
{
    scene *s = *state;
    as_pin pin = {0};
    const char *reason = "";
    char *base = arena();
    assert_int_equal(s->cuda->context_push(s->primary[0]), 0);
    assert_int_equal(s->cuda->host_register(base, ARENA / 2, 1), 0);
    assert_int_equal(s->cuda->context_pop(NULL), 0);
    scene_put(s, "device", scene_pointer(s->memory[1]), 8);
    scene_open(s);
    scene_find(s);
    as_devices_pin(s->devices, &s->homes, &pin, base + 4096, ARENA / 4);
    assert_ptr_equal(pin.base, base + 4096);
    assert_string_equal(as_devices_note(s->devices, &reason), "cuda:1");
    assert_string_equal(reason, "");
    as_devices_unpin(s->devices, &pin);
    assert_int_equal(s->sim->live("registered"), s->live[3]);
    /* A part of it alone is locked. */
    as_devices_pin(s->devices, &s->homes, &pin, base + ARENA / 4, ARENA / 2);
    assert_null(pin.base);
    assert_string_equal(as_devices_note(s->devices, &reason), "cuda:1");
    assert_non_null(strstr(reason, "cuMemHostRegister: CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED"));
    scene_find(s);
    (void)as_devices_note(s->devices, &reason); /* that was the last one's */
    assert_string_equal(reason, "");
    as_devices_pin(s->devices, &s->homes, &pin, base, ARENA / 2);
    assert_ptr_equal(pin.base, base);
    scene_close(s);
    assert_int_equal(s->cuda->context_push(s->primary[0]), 0);
    assert_int_equal(s->cuda->host_unregister(base), 0);
    assert_int_equal(s->cuda->context_pop(NULL), 0);
    scene_count(s, s->live);
}

/* ---- calls that fail ---- */

typedef struct outcome {
    as_error e;
    char reason[512];
    bool right; /* all bytes */
    bool late;  /* nothing had failed before the closing */
} outcome;

static int begin_pack(const scene *s, size_t i, char *out, as_copies *copies, as_error *e)
{
    as_geometry g;
    as_box box = as_state_memory_box(&s->state, i);
    const as_device *home = as_home(&s->homes, i);
    const as_piece *piece = as_state_piece(&s->state, i);
    assert_int_equal(as_geometry_memory(&box, &g, NULL), AS_OK);
    return home->pack(home, &g, piece->data, 0, piece->bytes, out, copies, e);
}

/* A save in short: the pieces into one buffer. */
static void save_in_short(scene *s, as_cu_stream stream, outcome *o)
{
    as_pin pin = {0};
    as_copies copies = {0};
    const char *reason = "";
    char *out = arena();
    *o = (outcome){.e = AS_ERROR_INIT};
    memset(out, 0, ARENA);
    int code = as_devices_open(&s->devices, AS_CUDA_ON, &o->e);
    code = code == AS_OK ? as_devices_find(s->devices, &s->state, &s->homes, &o->e) : code;
    code = code == AS_OK ? as_devices_begin(s->devices, &s->homes, stream, &o->e) : code;
    if (code == AS_OK) {
        as_devices_pin(s->devices, &s->homes, &pin, out, ARENA);
    }
    for (size_t i = 0; code == AS_OK && i < SCENE_DEVICES; i++) {
        code = begin_pack(s, i, out + i * SCENE_BYTES, &copies, &o->e);
    }
    scene_drain(s, &o->e);
    assert_int_equal(copies.under_way, 0);
    assert_true(copies.code == AS_OK || o->e.code != AS_OK);
    (void)as_devices_note(s->devices, &reason);
    (void)snprintf(o->reason, sizeof o->reason, "%s", reason);
    o->right = true;
    for (int d = 0; d < SCENE_DEVICES; d++) {
        for (size_t k = 0; k < SCENE_BYTES; k++) {
            o->right =
                o->right && (unsigned char)out[(size_t)d * SCENE_BYTES + k] == scene_byte(d, k);
        }
    }
    as_devices_unpin(s->devices, &pin);
    o->late = s->sim->failed() == 0;
    scene_close(s);
    assert_int_equal(s->sim->live("depth"), 0);
}

static bool is_one_of(const char *name, const char *const *names)
{
    for (size_t i = 0; names[i]; i++) {
        if (strcmp(name, names[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* They give back, or wait: nothing depends on their answer, if it is not about the copies. */
static const char *const ends[] = {"cuCtxPopCurrent_v2",
                                   "cuEventDestroy_v2",
                                   "cuStreamDestroy_v2",
                                   "cuMemFree_v2",
                                   "cuDevicePrimaryCtxRelease_v2",
                                   "cuMemHostUnregister",
                                   "cuStreamQuery",
                                   "cuStreamSynchronize",
                                   "cuModuleUnload",
                                   "cuCtxPushCurrent_v2",
                                   NULL};
/* It goes another way. */
static const char *const ways[] = {"cuMemHostRegister_v2", "cuMemAlloc_v2", "cuModuleLoadData",
                                   "cuModuleGetFunction", NULL};

/* Does the outcome fit the failure? */
static bool fits(const outcome *o, const char *name, int code)
{
    char call[64];
    char number[16];
    (void)snprintf(call, sizeof call, "%s", name);
    char *version = strstr(call, "_v2");
    if (version) {
        *version = '\0';
    }
    (void)snprintf(number, sizeof number, "(%d", code);
    /* Where the context is lost the next call may be the first that has an error to tell. */
    bool lost = (is_one_of(name, ends) || is_one_of(name, ways)) && code >= 700 && code <= 719;
    bool told =
        (lost || strstr(as_error_text(&o->e), call)) && strstr(as_error_text(&o->e), number);
    bool memory = code == AS_CU_OUT_OF_MEMORY && strcmp(name, "cuInit") != 0;
    int want = memory ? AS_NOMEM : AS_CUDA;
    if (o->e.code != AS_OK) {
        return o->e.code == want && told;
    }
    if (!o->right) {
        return false;
    }
    return o->late || is_one_of(name, ends) || is_one_of(name, ways) ||
           /* It is asked again, with a context. */
           (strcmp(name, "cuPointerGetAttributes") == 0 &&
            (code == AS_CU_INVALID_CONTEXT || code == AS_CU_CONTEXT_DESTROYED)) ||
           (strcmp(name, "cuEventQuery") == 0 && code == AS_CU_NOT_READY);
}

static void every_call_that_fails(void **state)
{
    static const char *const names[] = {
#define NAME(member, symbol, parameters) symbol,
        AS_CUDA_FUNCTIONS(NAME)
#undef NAME
    };
    static const int codes[] = {1,   2,   3,   4,   34,  46,  100, 101, 201, 304, 400, 401,
                                500, 600, 700, 702, 709, 712, 719, 800, 801, 802, 999};
    enum { NAMES = sizeof names / sizeof *names, CODES = sizeof codes / sizeof *codes };
    scene *s = *state;
    as_cu_stream stream = NULL;
    outcome o;
    int64_t calls[NAMES];
    int cases = 0;
    int refused = 0;
    assert_int_equal(s->cuda->context_push(s->primary[0]), 0);
    assert_int_equal(s->cuda->stream_create(&stream, AS_CU_STREAM_NON_BLOCKING, 0), 0);
    assert_int_equal(s->cuda->context_pop(NULL), 0);
    scene_put(s, "a", scene_pointer(s->memory[0]), SCENE_BYTES);
    scene_put(s, "b", scene_pointer(s->memory[1]), SCENE_BYTES);
    scene_count(s, s->live);
    for (int i = 0; i < NAMES; i++) {
        calls[i] = s->sim->calls(names[i]);
    }
    save_in_short(s, stream, &o);
    assert_int_equal(o.e.code, AS_OK);
    assert_true(o.right);
    for (int i = 0; i < NAMES; i++) {
        calls[i] = s->sim->calls(names[i]) - calls[i];
    }
    for (int i = 0; i < NAMES; i++) {
        /* First all calls from the first one on, if what would give things back is not among them. */
        for (int nth = is_one_of(names[i], ends) ? 1 : -1; nth <= calls[i] && nth <= MOST; nth++) {
            for (int k = 0; k < CODES; k++) {
                bool waits = strcmp(names[i], "cuEventQuery") == 0 && codes[k] == AS_CU_NOT_READY;
                if (nth == 0 || calls[i] == 0 || strncmp(names[i], "cuGetError", 10) == 0 ||
                    (nth < 0 && waits)) { /* for ever */
                    continue;
                }
                s->sim->inject(names[i], nth, codes[k]);
                save_in_short(s, stream, &o);
                bool happened = s->sim->failed() > 0; /* polls may be fewer this time */
                if (happened ? !fits(&o, names[i], codes[k]) : o.e.code != AS_OK || !o.right) {
                    fail_msg("%s, call %d, code %d: %d %s (%s); bytes are %s", names[i], nth,
                             codes[k], o.e.code, as_error_text(&o.e), o.reason,
                             o.right ? "right" : "wrong");
                }
                refused += o.e.code != AS_OK;
                cases++;
                as_error_clear(&o.e);
                s->sim->reset();
            }
        }
    }
    print_message("%d failures, %d of them an error\n", cases, refused);
    assert_true(cases > 500 && refused > cases / 3);
    assert_int_equal(s->cuda->context_push(s->primary[0]), 0);
    assert_int_equal(s->cuda->stream_destroy(stream), 0);
    assert_int_equal(s->cuda->context_pop(NULL), 0);
    scene_count(s, s->live);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(memory_is_locked_once, scene_begin, scene_end),
        cmocka_unit_test_setup_teardown(children_do_not_have_it, scene_begin, scene_end),
        cmocka_unit_test_setup_teardown(what_others_have_locked_stays_so, scene_begin, scene_end),
        cmocka_unit_test_setup_teardown(every_call_that_fails, scene_begin, scene_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
