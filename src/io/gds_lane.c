/* SPDX-License-Identifier: Apache-2.0 */
#include "io/gds_lane.h"

#include <stdlib.h>
#include <sys/mman.h>

#include "base/checked.h"
#include "base/clock.h"
#include "device/cuda_pins.h"

enum { BOTH = 2 * AS_GDS_TILE };

int as_gds_lane_open(as_gds_lane **out, const as_cuda *cuda, as_cu_context context, as_error *e)
{
    as_gds_lane *l = calloc(1, sizeof *l);
    if (!l) {
        return as_fail_nomem(e);
    }
    l->cuda = cuda;
    l->context = context;
    void *map = mmap(NULL, BOTH, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED) {
        free(l);
        return as_fail_nomem(e);
    }
    l->tiles = map;
    as_pins_keep(l->tiles, BOTH);
    as_cu_result r = cuda->stream_create(&l->stream, AS_CU_STREAM_NON_BLOCKING, 0);
    if (r) {
        l->stream = NULL;
        as_gds_lane_close(l);
        return as_cuda_fail(e, cuda, "cuStreamCreateWithPriority", r, "for GPU-direct");
    }
    /* If not, copies are slower, no more. */
    l->pinned = cuda->host_register(map, BOTH, AS_CU_REGISTER_PORTABLE) == AS_CU_SUCCESS;
    *out = l;
    return AS_OK;
}

void as_gds_lane_close(as_gds_lane *l)
{
    if (!l) {
        return;
    }
    if (l->stream) {
        (void)l->cuda->stream_destroy(l->stream);
    }
    if (l->pinned) {
        (void)l->cuda->host_unregister(l->tiles);
    }
    as_checksum_close(l->sum);
    (void)munmap(l->tiles, BOTH);
    free(l);
}

/* What was begun has ended, well or not, so that the tiles can be used again. */
static int settle(const as_gds_lane *l, const char *call, as_cu_result begun, int64_t count,
                  as_error *e)
{
    as_cu_result r = l->cuda->stream_synchronize(l->stream);
    if (begun) {
        return as_cuda_fail(e, l->cuda, call, begun, "%lld bytes", (long long)count);
    }
    return r ? as_cuda_fail(e, l->cuda, "cuStreamSynchronize", r, "after %s of %lld bytes", call,
                            (long long)count)
             : AS_OK;
}

int as_gds_lane_out(as_gds_lane *l, as_cu_pointer from, int64_t count, as_error *e)
{
    as_cu_result r = l->cuda->copy_to_host(l->tiles, from, (size_t)count, l->stream);
    return settle(l, "cuMemcpyDtoHAsync", r, count, e);
}

int as_gds_lane_in(as_gds_lane *l, as_cu_pointer to, int64_t count, as_error *e)
{
    as_cu_result r = l->cuda->copy_to_device(to, l->tiles, (size_t)count, l->stream);
    return settle(l, "cuMemcpyHtoDAsync", r, count, e);
}

int as_gds_lane_hash(as_gds_lane *l, as_cu_pointer from, int64_t count, uint64_t *sum,
                     int64_t *nanoseconds, as_error *e)
{
    if (!l->sum && as_checksum_open(&l->sum, e) != AS_OK) {
        return e ? e->code : AS_NOMEM;
    }
    as_checksum_begin(l->sum);
    /* One tile comes while the one before it is hashed. */
    int code = AS_OK;
    int64_t there = 0; /* bytes of the tile that has come */
    for (int64_t at = 0, i = 0; code == AS_OK && (at < count || there > 0); i++) {
        char *tile = l->tiles + (i % 2) * AS_GDS_TILE;
        const char *before = l->tiles + ((i + 1) % 2) * AS_GDS_TILE;
        int64_t next = as_min_i64(count - at, AS_GDS_TILE);
        as_cu_result r = AS_CU_SUCCESS;
        if (next > 0) {
            r = l->cuda->copy_to_host(tile, from + (as_cu_pointer)at, (size_t)next, l->stream);
        }
        int64_t begin = as_clock();
        as_checksum_add(l->sum, before, (size_t)there);
        *nanoseconds += as_clock() - begin;
        if (next > 0) {
            code = settle(l, "cuMemcpyDtoHAsync", r, next, e);
        }
        there = next;
        at += next;
    }
    *sum = as_checksum_end(l->sum);
    return code;
}
