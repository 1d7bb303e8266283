/* SPDX-License-Identifier: Apache-2.0
 * simulated: cuda
 * gpu: yes
 * Launches of the pack kernel against the host's own ways. With the simulated driver the kernel's body
 * runs on the host, and its PTX is only loaded; with a real one (ALLSHARD_REAL_CUDA=1, ./run gpu) the
 * PTX runs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "device/cuda_kernel.h"
#include "pack_support.h"
#include "support_simulated.h"

enum { ROOM = 4 << 20, SKIPPED = 77 };

static struct {
    const as_cuda *cu;
    as_cu_context context;
    as_cu_stream stream;
    as_cu_pointer block; /* ROOM bytes each */
    as_cu_pointer packed;
    as_kernel kernel;
    bool real;
} gpu;

static void to_device(as_cu_pointer to, const void *from, int64_t bytes)
{
    assert_true(bytes <= ROOM);
    assert_int_equal(gpu.cu->copy_to_device(to, from, (size_t)bytes, gpu.stream), AS_CU_SUCCESS);
    assert_int_equal(gpu.cu->stream_synchronize(gpu.stream), AS_CU_SUCCESS);
}

static void to_host(void *to, as_cu_pointer from, int64_t bytes)
{
    assert_int_equal(gpu.cu->copy_to_host(to, from, (size_t)bytes, gpu.stream), AS_CU_SUCCESS);
    assert_int_equal(gpu.cu->stream_synchronize(gpu.stream), AS_CU_SUCCESS);
}

static int64_t check_range(uint64_t *seed, piece *p, int64_t low, int64_t high)
{
    const as_geometry *g = &p->geometry;
    if (!as_kernel_can(&gpu.kernel, g, low, high)) {
        as_error e = AS_ERROR_INIT;
        assert_true(g->memory_dtype);
        assert_int_equal(as_kernel_pack(&gpu.kernel, gpu.cu, g, gpu.block, low, high, gpu.packed,
                                        gpu.stream, &e),
                         AS_INTERNAL);
        as_error_clear(&e);
        return 0;
    }
    int64_t bytes = as_geometry_before(g, high) - as_geometry_before(g, low);
    int64_t room = bytes + 3 * MARGIN;
    int64_t shift = MARGIN + (between(seed, 0, 2) ? 0 : between(seed, 0, 16));
    as_cu_pointer memory = gpu.block + (uint64_t)(p->data - p->block);
    as_cu_pointer place = gpu.packed + (uint64_t)shift;
    char *expected = need(room);
    char *packed = need(room);
    fill(seed, expected, room);
    to_device(gpu.packed, expected, room);
    to_device(gpu.block, p->block, p->size);
    if (g->memory_dtype) {
        as_cast_pack(g, p->data, low, high, expected + shift);
    } else {
        (void)as_tiles_pack(g, p->data, low, high, expected + shift);
    }
    assert_int_equal(
        as_kernel_pack(&gpu.kernel, gpu.cu, g, memory, low, high, place, gpu.stream, NULL), AS_OK);
    to_host(packed, gpu.packed, room);
    assert_memory_equal(packed, expected, (size_t)room);

    if (!p->t.repeats) { /* where elements share memory, it is open which is written last */
        char *after = need(p->size);
        fill(seed, packed, room);
        to_device(gpu.packed, packed, room);
        if (g->memory_dtype) {
            assert_int_equal(as_cast_unpack(g, p->data, low, high, packed + shift, NULL), AS_OK);
        } else {
            (void)as_tiles_unpack(g, p->data, low, high, packed + shift);
        }
        assert_int_equal(
            as_kernel_unpack(&gpu.kernel, gpu.cu, g, memory, low, high, place, gpu.stream, NULL),
            AS_OK);
        to_host(after, gpu.block, p->size);
        assert_memory_equal(p->block, after, (size_t)p->size);
        free(after);
    }
    free(expected);
    free(packed);
    return 1;
}

static void random_pieces(bool casts, uint64_t seed)
{
    int64_t ranges = 0;
    for (int i = 0; i < 800; i++) {
        piece p;
        make_piece(&seed, &p, casts);
        int64_t line = line_of(&p);
        ranges += check_range(&seed, &p, 0, line);
        int64_t low = between(&seed, 0, line) & ~INT64_C(7);
        ranges += check_range(&seed, &p, low, between(&seed, low, line) & ~INT64_C(7));
        low = between(&seed, 0, line);
        ranges += check_range(&seed, &p, low, between(&seed, low, line));
        free_piece(&p);
    }
    printf("%lld ranges out and in\n", (long long)ranges);
    assert_true(ranges > 1500);
}

static void pieces_as_they_are(void **state)
{
    (void)state;
    random_pieces(false, 31);
}

static void pieces_that_are_cast(void **state)
{
    (void)state;
    random_pieces(true, 32);
}

static void every_pair_as_the_host_casts(void **state)
{
    (void)state;
    uint64_t seed = 33;
    for (int f = 0; f < TYPES; f++) {
        char *in;
        int64_t count = values_of(&seed, types[f], gpu.real ? 400000 : 40000, &in);
        to_device(gpu.block, in, count * bytes_of(types[f]));
        for (int t = 0; t < TYPES; t++) {
            if (!as_cast_known(types[f], types[t])) {
                continue;
            }
            int64_t bytes = count * bytes_of(types[t]);
            char *expected = need(bytes);
            char *out = need(bytes);
            as_buffer seams = AS_BUFFER_INIT;
            as_box box = {.dtype = types[f], .ndim = 1, .shape = &count, .flat = true};
            box.flat_count = count;
            as_geometry g;
            assert_int_equal(as_geometry_cast(&box, types[t], &seams, &g, NULL), AS_OK);
            as_cast(types[f], types[t], in, expected, count);
            assert_int_equal(as_kernel_pack(&gpu.kernel, gpu.cu, &g, gpu.block, 0, bytes,
                                            gpu.packed, gpu.stream, NULL),
                             AS_OK);
            to_host(out, gpu.packed, bytes);
            assert_memory_equal(out, expected, (size_t)bytes);
            free(expected);
            free(out);
        }
        free(in);
    }
}

/* The pieces above are far smaller than what a device is given at once. */
static void many_blocks(void **state)
{
    (void)state;
    static const int dtypes[] = {AS_U8, AS_BF16, AS_F32, AS_F64};
    uint64_t seed = 34;
    for (int i = 0; i < 4; i++) {
        int64_t columns = 1000;
        int64_t bytes = gpu.real ? ROOM - 3 * MARGIN : 200000;
        int64_t rows = bytes / bytes_of(dtypes[i]) / columns;
        int64_t shape[2] = {rows, columns};
        int64_t offset[2] = {0, 0};
        int64_t strides[2] = {1, rows};
        piece p = {.size = rows * columns * bytes_of(dtypes[i])};
        p.t.box = (as_box){.dtype = dtypes[i], .ndim = 2, .shape = shape, .local = shape};
        p.t.box.offset = offset;
        p.t.box.strides = strides;
        assert_int_equal(as_geometry_memory(&p.t.box, &p.geometry, NULL), AS_OK);
        p.data = p.block = need(p.size);
        fill(&seed, p.block, p.size);
        assert_int_equal(check_range(&seed, &p, 0, p.size), 1);
        free_piece(&p);
    }
}

static int open_device(void **state)
{
    (void)state;
    const char *how;
    const char *reason = NULL;
    gpu.real = getenv("ALLSHARD_REAL_CUDA") != NULL;
    if (!gpu.real) {
        (void)simulated();
    }
    bool built = as_kernel_built(&how);
    gpu.cu = as_cuda_library(AS_CUDA_ON, &reason);
    if (!gpu.cu || (gpu.real && !built)) {
        printf("skipped: %s\n", gpu.cu ? how : reason);
        exit(SKIPPED);
    }
    char name[100] = "";
    as_cu_device device;
    assert_int_equal(gpu.cu->device_get(&device, 0), AS_CU_SUCCESS);
    assert_int_equal(gpu.cu->device_name(name, (int)sizeof name, device), AS_CU_SUCCESS);
    assert_int_equal(gpu.cu->primary_retain(&gpu.context, device), AS_CU_SUCCESS);
    assert_int_equal(gpu.cu->context_push(gpu.context), AS_CU_SUCCESS);
    assert_int_equal(gpu.cu->stream_create(&gpu.stream, AS_CU_STREAM_NON_BLOCKING, 0),
                     AS_CU_SUCCESS);
    assert_int_equal(gpu.cu->memory_alloc(&gpu.block, ROOM), AS_CU_SUCCESS);
    assert_int_equal(gpu.cu->memory_alloc(&gpu.packed, ROOM), AS_CU_SUCCESS);
    as_kernel_load(&gpu.kernel, gpu.cu);
    printf("%s, kernel: %s; its PTX was %s\n", name, how,
           gpu.real ? "run" : "not run: this is the simulation");
    if (gpu.kernel.reason) {
        printf("%s\n", gpu.kernel.reason);
    }
    return gpu.kernel.reason != NULL;
}

static int close_device(void **state)
{
    (void)state;
    as_kernel_unload(&gpu.kernel, gpu.cu);
    bool bad = gpu.cu->memory_free(gpu.block) != AS_CU_SUCCESS;
    bad = gpu.cu->memory_free(gpu.packed) != AS_CU_SUCCESS || bad;
    bad = gpu.cu->stream_destroy(gpu.stream) != AS_CU_SUCCESS || bad;
    bad = gpu.cu->context_pop(NULL) != AS_CU_SUCCESS || bad;
    bad = gpu.cu->primary_release(0) != AS_CU_SUCCESS || bad;
    if (!gpu.real && strcmp(simulated()->faults(), "") != 0) {
        printf("%s\n", simulated()->faults());
        bad = true;
    }
    return bad;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_as_they_are),
        cmocka_unit_test(pieces_that_are_cast),
        cmocka_unit_test(every_pair_as_the_host_casts),
        cmocka_unit_test(many_blocks),
    };
    return cmocka_run_group_tests(tests, open_device, close_device);
}
