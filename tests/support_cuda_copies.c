/* SPDX-License-Identifier: Apache-2.0 */
#include "support_cuda_copies.h"

#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "tensor/cast.h"
#include "tensor/span.h"

enum { PINNED_BYTES = 16 << 20, MEMORY_BYTES = 16 << 20 };

/* ---- the kernel, as the simulation runs it ---- */

#define AS_PACK_LOAD(type, at) (*(const type *)simulated()->translate((at), sizeof(type)))
#define AS_PACK_STORE(type, at, value)                                                             \
    (*(type *)simulated()->translate((at), sizeof(type)) = (value))
#include "device/pack_body.h"

static uint32_t number_of(unsigned block_x, unsigned block, unsigned thread)
{
    return block * block_x + thread;
}

static void run_pack(void **parameters, unsigned grid_x, unsigned block_x, unsigned block,
                     unsigned thread)
{
    (void)grid_x;
    as_pack_thread(parameters[0], number_of(block_x, block, thread));
}

static void run_unpack(void **parameters, unsigned grid_x, unsigned block_x, unsigned block,
                       unsigned thread)
{
    (void)grid_x;
    as_unpack_thread(parameters[0], number_of(block_x, block, thread));
}

/* ---- the world ---- */

void cuda_begin(cuda_world *w, bool kernel)
{
    const char *reason = NULL;
    *w = (cuda_world){.sim = simulated()};
    w->sim->reset();
    w->cuda = as_cuda_library(AS_CUDA_ON, &reason);
    assert_non_null(w->cuda);
    size_t bytes = sizeof(as_pack_args);
    w->sim->kernel("as_pack", run_pack, &bytes, 1);
    w->sim->kernel("as_unpack", run_unpack, &bytes, 1);
    as_kernel_image = kernel ? SIM_MODULE_IMAGE : NULL;
    assert_int_equal(w->cuda->primary_retain(&w->context, 0), 0);
    assert_int_equal(w->cuda->primary_retain(&w->callers, 1), 0);
    assert_int_equal(w->cuda->context_push(w->context), 0);
    assert_int_equal(w->cuda->memory_alloc(&w->memory, MEMORY_BYTES), 0);
    w->pinned =
        mmap(NULL, PINNED_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(w->pinned != MAP_FAILED);
    assert_int_equal(w->cuda->host_register(w->pinned, PINNED_BYTES, AS_CU_REGISTER_PORTABLE), 0);
    assert_int_equal(as_pins_add(&w->pins, w->pinned, PINNED_BYTES, NULL), AS_OK);
    assert_int_equal(w->cuda->context_pop(NULL), 0);
    assert_int_equal(w->cuda->context_push(w->callers), 0);
}

void cuda_end(cuda_world *w)
{
    cuda_check_context(w);
    assert_int_equal(w->cuda->host_unregister(w->pinned), 0);
    assert_int_equal(munmap(w->pinned, PINNED_BYTES), 0);
    assert_int_equal(w->cuda->context_pop(NULL), 0);
    assert_int_equal(w->cuda->context_push(w->context), 0);
    assert_int_equal(w->cuda->memory_free(w->memory), 0);
    assert_int_equal(w->cuda->context_pop(NULL), 0);
    assert_int_equal(w->cuda->primary_release(0), 0);
    assert_int_equal(w->cuda->primary_release(1), 0);
    as_pins_free(&w->pins);
    static const char *const things[] = {"memory",     "events",   "streams", "modules",
                                         "registered", "contexts", "depth"};
    for (size_t i = 0; i < sizeof things / sizeof *things; i++) {
        if (w->sim->live(things[i]) != 0) {
            fail_msg("%s are left over: %lld", things[i], (long long)w->sim->live(things[i]));
        }
    }
    assert_string_equal(w->sim->faults(), "");
}

void cuda_open(cuda_world *w, bool kernel)
{
    as_error e = AS_ERROR_INIT;
    cuda_begin(w, kernel);
    cuda_no_error(as_channel_open(&w->channel, w->cuda, w->context, 0, false, &w->pins, &e), &e);
    cuda_check_context(w);
}

void cuda_close(cuda_world *w)
{
    as_channel_close(w->channel);
    cuda_end(w);
}

void cuda_noise(uint64_t *seed, char *bytes, int64_t count)
{
    for (int64_t i = 0; i < count; i += (int64_t)sizeof(uint64_t)) {
        uint64_t x = chance(seed);
        int64_t n = count - i < (int64_t)sizeof x ? count - i : (int64_t)sizeof x;
        memcpy(bytes + i, &x, (size_t)n);
    }
}

char *cuda_pinned(cuda_world *w, int64_t bytes)
{
    static uint64_t seed = 1;
    int64_t at = w->used + between(&seed, 0, 15);
    if (at + bytes > PINNED_BYTES) {
        return NULL;
    }
    w->used = at + bytes;
    return w->pinned + at;
}

/* ---- pieces ---- */

/* Few bytes together everywhere: without a kernel the block around them is changed and put back. */
static void scattered_box(uint64_t *seed, test_box *t)
{
    t->box = (as_box){.dtype = between(seed, 0, 1) ? AS_BF16 : AS_F32, .ndim = 3};
    t->box.shape = t->shape;
    t->shape[0] = between(seed, 20, 400);
    t->shape[1] = between(seed, 2, 3);
    t->shape[2] = between(seed, 1, 8);
    t->box.offset = t->offset;
    t->box.local = t->local;
    for (int d = 0; d < 3; d++) {
        t->offset[d] = between(seed, 0, 1) ? 0 : between(seed, 0, t->shape[d] - 1);
        t->local[d] = t->shape[d] - t->offset[d];
    }
    t->strides[2] = between(seed, 1, 2);
    t->strides[1] = t->strides[2] * t->local[2] + between(seed, 0, 3);
    t->strides[0] = t->strides[1] * t->local[1] + between(seed, 1, 5);
    t->strides[between(seed, 0, 1)] *= between(seed, 0, 3) ? 1 : -1;
    t->repeats = false;
    t->box.strides = t->strides;
}

/* One to three dimensions, rows of up to 40 KB, with gaps between them of up to as much. */
static void large_box(uint64_t *seed, test_box *t)
{
    static const int types[] = {AS_U8, AS_BF16, AS_F16, AS_F8_E4M3, AS_F32, AS_F64, AS_I32};
    static const int64_t rows[] = {1, 4, 60, 500, 3000, 40000};
    t->box = (as_box){.dtype = types[between(seed, 0, 6)], .ndim = (int)between(seed, 1, 3)};
    t->box.shape = t->shape;
    int64_t size = as_dtype_bits(t->box.dtype) / 8;
    int64_t left = 500000 / size;
    for (int d = t->box.ndim - 1; d >= 0; d--) {
        int64_t most = rows[between(seed, 0, 5)];
        most = most < left ? most : left;
        t->shape[d] = between(seed, most / 2 > 0 ? most / 2 : 1, most > 0 ? most : 1);
        left /= t->shape[d];
    }
    random_place(seed, t);
    random_strides(seed, t);
    if (!t->box.flat && between(seed, 0, 2) == 0) {
        int64_t stride = between(seed, 0, 3) ? 1 : between(seed, 1, 9);
        for (int d = t->box.ndim - 1; d >= 0; d--) {
            t->strides[d] = between(seed, 0, 4) ? stride : -stride;
            stride *= t->local[d];
            stride += between(seed, 0, 1) ? between(seed, 0, stride) : 0;
        }
        t->repeats = false;
        t->box.strides = t->strides;
    }
}

static int cast_of(uint64_t *seed, int dtype)
{
    static const int types[] = {AS_F64, AS_F32, AS_BF16, AS_F16, AS_F8_E4M3, AS_F8_E5M2};
    int to = types[between(seed, 0, 5)];
    return between(seed, 0, 1) && as_cast_known(dtype, to) ? to : AS_DTYPE_NONE;
}

bool cuda_make_piece(uint64_t *seed, cuda_world *w, cuda_piece *p, bool large, int64_t most)
{
    *p = (cuda_piece){.seams = AS_BUFFER_INIT};
    if (large && between(seed, 0, 3) == 0) {
        scattered_box(seed, &p->t);
    } else if (large) {
        large_box(seed, &p->t);
    } else {
        random_shape(seed, &p->t);
        random_place(seed, &p->t);
        random_strides(seed, &p->t);
    }
    const as_box *box = &p->t.box;
    int to = cast_of(seed, box->dtype);
    int file = to ? to : box->dtype;
    int code = to ? as_geometry_cast(box, to, &p->seams, &p->geometry, NULL)
                  : as_geometry_memory(box, &p->geometry, NULL);
    if (code != AS_OK ||
        as_box_tensor_bytes(file, box->ndim, box->shape, &p->line, NULL) != AS_OK) {
        return false;
    }
    p->device_geometry = p->geometry;
    p->device_geometry.seams = &p->device_seams;
    as_geometry plain = as_span_uncast(&p->geometry);
    int64_t low = 0;
    int64_t high = 0;
    if (plain.ndim > 0) {
        as_span(&plain, 0, as_geometry_bytes(&plain), &low, &high);
    }
    p->size = high - low + (int64_t)2 * CUDA_MARGIN;
    if (p->line > most || p->size > most || p->size > MEMORY_BYTES - 64) {
        return false;
    }
    p->block = malloc((size_t)p->size);
    assert_non_null(p->block);
    cuda_noise(seed, p->block, p->size);
    p->data = p->block + CUDA_MARGIN - low;
    p->device = w->memory + (as_cu_pointer)between(seed, 0, 63);
    w->sim->write(p->device, p->block, (size_t)p->size);
    w->used = 0;
    return true;
}

void cuda_free_piece(cuda_piece *p)
{
    free(p->block);
    as_buffer_free(&p->seams);
    as_buffer_free(&p->device_seams);
}

void cuda_check_memory(const cuda_world *w, const cuda_piece *p)
{
    char *now = malloc((size_t)p->size);
    assert_non_null(now);
    w->sim->read(now, p->device, (size_t)p->size);
    assert_memory_equal(now, p->block, (size_t)p->size);
    free(now);
}

/* ---- moving on ---- */

void cuda_check_context(const cuda_world *w)
{
    as_cu_context now = NULL;
    assert_int_equal(w->cuda->context_current(&now), 0);
    assert_ptr_equal(now, w->callers);
    assert_int_equal(w->sim->live("depth"), 1);
}

void cuda_no_error(int code, as_error *e)
{
    if (code != AS_OK || e->code != AS_OK) {
        fail_msg("%s", as_error_text(e));
    }
}

static void move_on(cuda_world *w, bool wait)
{
    as_error e = AS_ERROR_INIT;
    bool moved = false;
    as_channel_step(w->channel, wait, &moved, &e);
    cuda_no_error(e.code, &e);
    cuda_check_context(w);
    if (!moved) {
        (void)sched_yield();
    }
}

void cuda_maybe_step(uint64_t *seed, cuda_world *w)
{
    cuda_check_context(w);
    int64_t what = between(seed, 0, 5);
    if (what < 2) {
        move_on(w, what == 0);
    }
}

void cuda_wait(cuda_world *w, const as_copies *c)
{
    for (int i = 0; c->under_way > 0; i++) {
        move_on(w, i % 8 == 7);
    }
}
