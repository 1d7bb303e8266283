/* SPDX-License-Identifier: Apache-2.0
 * simulated: cuda
 * long-timeout: 1800
 * Copies out of and into device memory, of the simulated driver, against those of the same piece in
 * the host's memory: random boxes, strides, casts and ranges, many at a time.
 */
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "box_support.h"
#include "support_cuda_copies.h"
#include "tensor/cast.h"

enum { MOST_CUTS = 12 };

/* One range on its way: what came, or was sent, and what should have. */
typedef struct transfer {
    as_copies copies;
    char *bytes; /* of the range, with a margin; pinned or not */
    char *expected;
    int64_t size;
    bool pinned;
} transfer;

static transfer new_transfer(uint64_t *seed, cuda_world *w, int64_t size)
{
    transfer t = {.size = size + (int64_t)2 * CUDA_MARGIN, .pinned = between(seed, 0, 1)};
    t.bytes = t.pinned ? cuda_pinned(w, t.size) : NULL;
    t.pinned = t.bytes != NULL;
    if (!t.pinned) {
        t.bytes = malloc((size_t)t.size);
    }
    t.expected = malloc((size_t)t.size);
    assert_true(t.bytes && t.expected);
    cuda_noise(seed, t.bytes, t.size);
    memcpy(t.expected, t.bytes, (size_t)t.size);
    return t;
}

static void free_transfer(transfer *t)
{
    if (!t->pinned) {
        free(t->bytes);
    }
    free(t->expected);
}

static void begin_out(uint64_t *seed, cuda_world *w, const cuda_piece *p, transfer *t, int64_t low,
                      int64_t high)
{
    bool window = between(seed, 0, 1);
    const as_device *host = &as_device_host;
    const as_device *device = &w->channel->device;
    as_error e = AS_ERROR_INIT;
    assert_int_equal((window ? host->to_window : host->pack)(host, &p->geometry, p->data, low, high,
                                                             t->expected + CUDA_MARGIN, NULL, &e),
                     AS_OK);
    int code = (window ? device->to_window : device->pack)(device, &p->geometry,
                                                           cuda_device_pointer(p), low, high,
                                                           t->bytes + CUDA_MARGIN, &t->copies, &e);
    cuda_no_error(code, &e);
}

static void begin_in(uint64_t *seed, cuda_world *w, cuda_piece *p, transfer *t, int64_t low,
                     int64_t high)
{
    bool window = between(seed, 0, 1);
    const as_device *host = &as_device_host;
    const as_device *device = &w->channel->device;
    as_error e = AS_ERROR_INIT;
    assert_int_equal((window ? host->from_window : host->unpack)(
                         host, &p->geometry, p->data, low, high, t->bytes + CUDA_MARGIN, NULL, &e),
                     AS_OK);
    int code = (window ? device->from_window
                       : device->unpack)(device, &p->device_geometry, cuda_device_pointer(p), low,
                                         high, t->bytes + CUDA_MARGIN, &t->copies, &e);
    cuda_no_error(code, &e);
}

/* Several ranges of one piece, on their way together. */
static void check_out(uint64_t *seed, cuda_world *w, const cuda_piece *p)
{
    transfer all[4];
    int count = (int)between(seed, 1, 4);
    for (int i = 0; i < count; i++) {
        int64_t low = i ? between(seed, 0, p->line) : 0;
        int64_t high = i ? between(seed, low, p->line) : p->line;
        all[i] = new_transfer(seed, w, high - low);
        begin_out(seed, w, p, &all[i], low, high);
        cuda_maybe_step(seed, w);
    }
    for (int i = count - 1; i >= 0; i--) {
        cuda_wait(w, &all[i].copies);
        assert_int_equal(all[i].copies.code, AS_OK);
        assert_memory_equal(all[i].bytes, all[i].expected, (size_t)all[i].size);
        free_transfer(&all[i]);
    }
}

/* The whole piece, in ranges that meet anywhere. */
static void check_in(uint64_t *seed, cuda_world *w, cuda_piece *p)
{
    int64_t cuts[MOST_CUTS] = {0, p->line};
    int count = (int)between(seed, 2, MOST_CUTS);
    for (int i = 2; i < count; i++) {
        cuts[i] = between(seed, 0, p->line);
        for (int k = i; k > 0 && cuts[k] < cuts[k - 1]; k--) {
            int64_t keep = cuts[k];
            cuts[k] = cuts[k - 1];
            cuts[k - 1] = keep;
        }
    }
    transfer all[MOST_CUTS];
    /* Where elements share memory the order counts, and is kept. */
    int first = p->t.repeats ? 0 : (int)between(seed, 0, count - 2);
    for (int i = 0; i < count - 1; i++) {
        int k = (first + i) % (count - 1);
        all[i] = new_transfer(seed, w, cuts[k + 1] - cuts[k]);
        begin_in(seed, w, p, &all[i], cuts[k], cuts[k + 1]);
        cuda_maybe_step(seed, w);
    }
    for (int i = 0; i < count - 1; i++) {
        cuda_wait(w, &all[i].copies);
        assert_int_equal(all[i].copies.code, AS_OK);
        assert_memory_equal(all[i].bytes, all[i].expected, (size_t)all[i].size);
        free_transfer(&all[i]);
    }
    assert_int_equal(p->seams.size, p->device_seams.size);
    cuda_check_memory(w, p);
}

/* In the long run twenty times as many. */
static void random_pieces(uint64_t seed, int pieces, bool kernel, bool large)
{
    pieces *= getenv("ALLSHARD_LONG") ? 20 : 1;
    int checked = 0;
    cuda_world w;
    cuda_open(&w, kernel);
    int64_t launches = w.sim->calls("cuLaunchKernel");
    int64_t rows = w.sim->calls("cuMemcpy2DAsync");
    w.sim->delay((unsigned)seed, 30);
    for (int i = 0; i < pieces; i++) {
        cuda_piece p;
        static const int64_t parts[] = {8, 40, 256, 1000, 4096, 65536, AS_BOUNCE_BYTES};
        w.channel->part = parts[between(&seed, large ? 3 : 0, 6)];
        w.channel->max_pitch = between(&seed, 0, 3) ? INT32_MAX : between(&seed, 1, 4000);
        if (!cuda_make_piece(&seed, &w, &p, large, INT64_MAX)) {
            continue;
        }
        check_out(&seed, &w, &p);
        check_in(&seed, &w, &p);
        check_out(&seed, &w, &p);
        cuda_free_piece(&p);
        checked++;
        assert_string_equal(w.sim->faults(), "");
        assert_int_equal(w.channel->under_way, 0);
        assert_int_equal(w.channel->spare_count, w.channel->bounces ? AS_BOUNCE_COUNT : 0);
    }
    assert_true(kernel || w.sim->calls("cuMemcpy2DAsync") > rows);
    assert_int_equal(w.sim->calls("cuLaunchKernel") > launches, kernel);
    assert_true(w.channel->moved > 0);
    print_message("%d pieces\n", checked);
    cuda_close(&w);
}

static void small_pieces(void **state)
{
    (void)state;
    random_pieces(31, 700, false, false);
}

static void small_pieces_with_the_kernel(void **state)
{
    (void)state;
    random_pieces(32, 700, true, false);
}

static void large_pieces(void **state)
{
    (void)state;
    random_pieces(33, 150, false, true);
}

static void large_pieces_with_the_kernel(void **state)
{
    (void)state;
    random_pieces(34, 150, true, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_pieces),
        cmocka_unit_test(small_pieces_with_the_kernel),
        cmocka_unit_test(large_pieces),
        cmocka_unit_test(large_pieces_with_the_kernel),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
