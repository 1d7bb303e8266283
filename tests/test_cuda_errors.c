/* SPDX-License-Identifier: Apache-2.0
 * simulated: cuda
 * long-timeout: 1800
 * Every call of a round of copies fails once, in turn, with several codes, and every copy and launch
 * when its turn comes: the error is told, or what it would have done was done another way; no byte
 * is wrong that counts as right; nothing is left over.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "support_cuda_copies.h"

enum { PIECES = 10, OUTS = 2, CUTS = 3, PART = 2000, LARGEST = 20000 };

static const int codes[] = {AS_CU_INVALID_VALUE, AS_CU_OUT_OF_MEMORY, AS_CU_ILLEGAL_ADDRESS, 999};

/* A round of copies: a channel is opened, pieces go out and in, it is closed. */
typedef struct round {
    cuda_world w;
    as_cu_stream streams[2]; /* the caller's: of the channel's context and of another */
    as_error error;          /* the first */
    bool failed;             /* something was */
} round_of_copies;

/* Has it ended well? */
static bool settle(round_of_copies *r, int code, const as_copies *c)
{
    as_error e = AS_ERROR_INIT;
    for (int i = 0; c->under_way > 0; i++) {
        bool moved = false;
        as_channel_step(r->w.channel, i % 4 == 3, &moved, &e);
        assert_true(i < 1000000);
    }
    bool moved = false;
    as_channel_step(r->w.channel, false, &moved, &e);
    cuda_check_context(&r->w);
    bool good = code == AS_OK && c->code == AS_OK;
    r->failed = r->failed || !good || e.code != AS_OK;
    (void)as_error_pass(&r->error, &e);
    assert_true(good || r->error.code != AS_OK);
    return good;
}

static char *bytes_for(round_of_copies *r, int64_t size, bool pinned)
{
    char *bytes = pinned ? cuda_pinned(&r->w, size) : malloc((size_t)size + 1);
    assert_non_null(bytes);
    return bytes;
}

static void out(uint64_t *seed, round_of_copies *r, const cuda_piece *p, bool pinned)
{
    const as_device *host = &as_device_host;
    const as_device *device = &r->w.channel->device;
    bool window = between(seed, 0, 1);
    char *bytes = bytes_for(r, p->line, pinned);
    char *expected = bytes_for(r, p->line, false);
    as_copies copies = {0};
    memset(bytes, 0x5a, (size_t)p->line);
    memset(expected, 0x5a, (size_t)p->line);
    (void)(window ? host->to_window : host->pack)(host, &p->geometry, p->data, 0, p->line, expected,
                                                  NULL, NULL);
    int code = (window ? device->to_window : device->pack)(
        device, &p->geometry, cuda_device_pointer(p), 0, p->line, bytes, &copies, &r->error);
    cuda_check_context(&r->w);
    if (settle(r, code, &copies)) {
        assert_memory_equal(bytes, expected, (size_t)p->line);
    }
    free(expected);
    if (!pinned) {
        free(bytes);
    }
}

/* In ranges that begin together; `good` if all did well. */
static bool in(uint64_t *seed, round_of_copies *r, cuda_piece *p)
{
    const as_device *host = &as_device_host;
    const as_device *device = &r->w.channel->device;
    char *bytes[CUTS];
    bool pinned[CUTS];
    as_copies copies[CUTS] = {{0}};
    int begun[CUTS];
    int64_t low = 0;
    for (int i = 0; i < CUTS; i++) {
        int64_t high = i == CUTS - 1 ? p->line : between(seed, low, p->line);
        bool window = between(seed, 0, 1);
        pinned[i] = between(seed, 0, 1);
        bytes[i] = bytes_for(r, high - low, pinned[i]);
        cuda_noise(seed, bytes[i], high - low);
        (void)(window ? host->from_window : host->unpack)(host, &p->geometry, p->data, low, high,
                                                          bytes[i], NULL, NULL);
        begun[i] = (window ? device->from_window
                           : device->unpack)(device, &p->device_geometry, cuda_device_pointer(p),
                                             low, high, bytes[i], &copies[i], &r->error);
        cuda_check_context(&r->w);
        low = high;
    }
    bool good = true;
    for (int i = 0; i < CUTS; i++) {
        good = settle(r, begun[i], &copies[i]) && good;
    }
    for (int i = 0; i < CUTS; i++) {
        if (!pinned[i]) {
            free(bytes[i]);
        }
    }
    return good;
}

/* Both ways, while the channel is there. */
static void copy_pieces(uint64_t seed, round_of_copies *r)
{
    for (int i = 0; i < 3; i++) {
        as_cu_stream stream = i < 2 ? r->streams[i] : AS_CU_STREAM_PER_THREAD;
        int code = as_channel_follow(r->w.channel, stream, &r->error);
        r->failed = r->failed || code != AS_OK;
        assert_int_equal(code, code == AS_OK ? AS_OK : r->error.code);
    }
    cuda_check_context(&r->w);
    for (int i = 0; i < PIECES; i++) {
        cuda_piece p;
        while (!cuda_make_piece(&seed, &r->w, &p, i % 2 == 0, LARGEST)) {
        }
        for (int k = 0; k < OUTS; k++) {
            out(&seed, r, &p, k == 0);
        }
        if (in(&seed, r, &p)) {
            cuda_check_memory(&r->w, &p);
        }
        cuda_free_piece(&p);
    }
}

static void make_streams(round_of_copies *r)
{
    as_cu_context contexts[2] = {r->w.context, r->w.callers};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(r->w.cuda->context_push(contexts[i]), 0);
        assert_int_equal(r->w.cuda->stream_create(&r->streams[i], AS_CU_STREAM_NON_BLOCKING, 0), 0);
        assert_int_equal(r->w.cuda->context_pop(NULL), 0);
    }
}

static void destroy_streams(round_of_copies *r)
{
    as_cu_context contexts[2] = {r->w.context, r->w.callers};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(r->w.cuda->context_push(contexts[i]), 0);
        assert_int_equal(r->w.cuda->stream_destroy(r->streams[i]), 0);
        assert_int_equal(r->w.cuda->context_pop(NULL), 0);
    }
}

/* What goes another way then, or can wait. */
static bool is_tolerated(const char *call)
{
    static const char *const names[] = {
        "cuMemHostRegister", "cuMemAlloc",      "cuModuleLoadData", "cuModuleGetFunction",
        "cuCtxPushCurrent",  "cuCtxPopCurrent", "cuEventDestroy"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(names[i], call) == 0) {
            return true;
        }
    }
    return false;
}

/* Returns false when there is no nth call of the name. */
static bool fail_once(const char *call, int nth, int code, bool late, bool kernel, int64_t *told)
{
    round_of_copies r = {.error = AS_ERROR_INIT};
    cuda_begin(&r.w, kernel);
    make_streams(&r);
    r.w.sim->delay(1, 5);
    (late ? r.w.sim->inject_late : r.w.sim->inject)(call, nth, code);
    int opened =
        as_channel_open(&r.w.channel, r.w.cuda, r.w.context, 0, false, &r.w.pins, &r.error);
    cuda_check_context(&r.w);
    r.failed = opened != AS_OK;
    if (opened == AS_OK) {
        r.w.channel->part = PART;
        copy_pieces(77, &r);
    }
    bool before_close = r.w.sim->failed() > 0;
    as_channel_close(r.w.channel);
    bool happened = r.w.sim->failed() > 0;
    if (before_close && !r.failed && !is_tolerated(call)) {
        fail_msg("%s %d (%d): nobody was told", call, nth, code);
    }
    if (r.failed) {
        char number[32];
        (void)snprintf(number, sizeof number, "%d", code);
        assert_true(happened);
        assert_true(r.error.code == (code == AS_CU_OUT_OF_MEMORY ? AS_NOMEM : AS_CUDA));
        assert_non_null(strstr(r.error.text, number));
        /* After some codes the context is lost, and a later call is the first to be told of. */
        if (!late && !is_tolerated(call) && !strstr(r.error.text, call)) {
            fail_msg("%s %d (%d) is told as: %s", call, nth, code, r.error.text);
        }
        (*told)++;
    }
    if (r.w.sim->faults()[0]) {
        fail_msg("%s %d (%d): %s", call, nth, code, r.w.sim->faults());
    }
    as_error_clear(&r.error);
    r.w.sim->reset();
    destroy_streams(&r);
    cuda_end(&r.w);
    return happened;
}

static const char *const calls[] = {"cuCtxPushCurrent",
                                    "cuCtxPopCurrent",
                                    "cuDeviceGet",
                                    "cuDeviceGetAttribute",
                                    "cuCtxGetStreamPriorityRange",
                                    "cuStreamCreateWithPriority",
                                    "cuStreamGetCtx",
                                    "cuStreamWaitEvent",
                                    "cuStreamQuery",
                                    "cuStreamSynchronize",
                                    "cuStreamDestroy",
                                    "cuEventCreate",
                                    "cuEventDestroy",
                                    "cuEventRecord",
                                    "cuEventQuery",
                                    "cuMemAlloc",
                                    "cuMemFree",
                                    "cuMemHostRegister",
                                    "cuMemHostUnregister",
                                    "cuMemcpyDtoHAsync",
                                    "cuMemcpyHtoDAsync",
                                    "cuMemcpy2DAsync",
                                    "cuModuleLoadData",
                                    "cuModuleGetFunction",
                                    "cuModuleUnload",
                                    "cuLaunchKernel"};

/* Of the calls of one name the first ones, and of later ones some; in the long run each, with each
 * code. */
static bool is_long(void)
{
    return getenv("ALLSHARD_LONG") != NULL;
}

static int after(int nth)
{
    return nth + 1 + (is_long() ? 0 : nth / 8);
}

static void every_call_in_turn(bool kernel)
{
    int64_t cases = 0;
    int64_t told = 0;
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        bool happened = true;
        for (int nth = 1; happened; nth = after(nth)) {
            for (size_t k = 0; k < (is_long() ? 4 : 1); k++) {
                int code = codes[((size_t)nth + k) % 4];
                happened = fail_once(calls[i], nth, code, false, kernel, &told);
                cases += happened;
            }
        }
    }
    print_message("%lld failures, %lld of them told\n", (long long)cases, (long long)told);
    assert_true(cases > 100 && told > cases / 2);
}

static void every_call(void **state)
{
    (void)state;
    every_call_in_turn(false);
}

static void every_call_with_the_kernel(void **state)
{
    (void)state;
    every_call_in_turn(true);
}

/* What was begun and fails on the device takes the whole context with it. */
static void every_copy_and_launch_when_its_turn_comes(void **state)
{
    (void)state;
    static const char *const late[] = {"cuMemcpyDtoHAsync", "cuMemcpyHtoDAsync", "cuMemcpy2DAsync",
                                       "cuLaunchKernel"};
    int64_t told = 0;
    for (size_t i = 0; i < sizeof late / sizeof *late; i++) {
        bool happened = true;
        for (int nth = 1; happened; nth = after(nth)) {
            happened =
                fail_once(late[i], nth, AS_CU_ILLEGAL_ADDRESS, true, nth % 2 || i == 3, &told);
        }
    }
    print_message("%lld failures told\n", (long long)told);
    assert_true(told > 20);
}

/* None at all: the round does what it is there for. */
static void no_call(void **state)
{
    (void)state;
    int64_t told = 0;
    assert_false(fail_once("cuInit", 1, 1, false, true, &told));
    assert_false(fail_once("cuInit", 1, 1, false, false, &told));
    assert_int_equal(told, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_call),
        cmocka_unit_test(every_call),
        cmocka_unit_test(every_call_with_the_kernel),
        cmocka_unit_test(every_copy_and_launch_when_its_turn_comes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
