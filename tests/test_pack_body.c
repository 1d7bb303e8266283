/* SPDX-License-Identifier: Apache-2.0
 * The body of the pack kernel, run on the host thread by thread, against the host's own ways
 * (tiles.h, cast_tiles.h): pieces, ranges, addresses and casts of all kinds. Of its code for devices
 * this says nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

/* What it goes to must be its own, and aligned as devices want it. */
static void touch(uint64_t at, uint64_t bytes);
#define AS_PACK_LOAD(type, at) (touch((at), sizeof(type)), *(const type *)(uintptr_t)(at))
#define AS_PACK_STORE(type, at, value)                                                             \
    (touch((at), sizeof(type)), *(type *)(uintptr_t)(at) = (value))

#include "pack_support.h"

typedef struct region {
    uint64_t low;
    uint64_t high;
} region;

static region regions[2];
static int64_t bad_touches;
static int64_t touches_of[17]; /* by their bytes */

static void touch(uint64_t at, uint64_t bytes)
{
    bool inside = false;
    for (int i = 0; i < 2; i++) {
        inside = inside || (at >= regions[i].low && at + bytes <= regions[i].high);
    }
    bad_touches += !inside || at % bytes != 0;
    touches_of[bytes]++;
}

/* All launches for a part, of `most` units each, with some threads too many as in a last block. */
static int64_t run(const as_geometry *g, as_pack_part part, char *memory, char *packed,
                   uint32_t most, bool unpack)
{
    int64_t launches = 0;
    while (part.at < part.end) {
        as_pack_args args;
        int64_t bytes = as_pack_args_make(g, part, (uint64_t)(uintptr_t)memory,
                                          (uint64_t)(uintptr_t)packed, most, &args);
        assert_true(args.count > 0 && args.count <= most);
        assert_int_equal(bytes, (int64_t)args.count * args.packed_bytes);
        for (uint32_t i = 0; i < args.count + 3; i++) {
            if (unpack) {
                as_unpack_thread(&args, i);
            } else {
                as_pack_thread(&args, i);
            }
        }
        part.at += bytes;
        packed += bytes;
        launches++;
    }
    return launches;
}

/* A range out and in, from and to a place of any alignment; 0 if the kernel cannot. */
static int64_t check_range(uint64_t *seed, piece *p, int64_t low, int64_t high)
{
    const as_geometry *g = &p->geometry;
    as_pack_part part;
    bool can = as_pack_part_of(g, low, high, &part);
    assert_int_equal(part.end - part.at, as_geometry_before(g, high) - as_geometry_before(g, low));
    if (!can) {
        assert_true(g->memory_dtype);
        return 0;
    }
    regions[0] =
        (region){(uintptr_t)p->block + MARGIN, (uintptr_t)p->block + (uint64_t)(p->size - MARGIN)};
    int64_t bytes = part.end - part.at;
    int64_t room = bytes + 3 * MARGIN;
    char *expected = need(room);
    char *packed = need(room);
    fill(seed, expected, room);
    memcpy(packed, expected, (size_t)room);
    int64_t shift = MARGIN + (between(seed, 0, 2) ? 0 : between(seed, 0, 16));
    regions[1] = (region){(uintptr_t)packed + (uint64_t)shift,
                          (uintptr_t)packed + (uint64_t)(shift + bytes)};
    uint32_t most = between(seed, 0, 1) ? AS_PACK_MOST : (uint32_t)between(seed, 1, 40);

    if (g->memory_dtype) {
        as_cast_pack(g, p->data, low, high, expected + shift);
    } else {
        (void)as_tiles_pack(g, p->data, low, high, expected + shift);
    }
    int64_t launches = run(g, part, p->data, packed + shift, most, false);
    assert_memory_equal(packed, expected, (size_t)room);

    if (!p->t.repeats) { /* where elements share memory, it is open which is written last */
        char *after = need(p->size);
        memcpy(after, p->block, (size_t)p->size);
        fill(seed, packed + shift, bytes);
        char *data = after + (p->data - p->block);
        if (g->memory_dtype) {
            assert_int_equal(as_cast_unpack(g, data, low, high, packed + shift, NULL), AS_OK);
        } else {
            (void)as_tiles_unpack(g, data, low, high, packed + shift);
        }
        (void)run(g, part, p->data, packed + shift, most, true);
        assert_memory_equal(p->block, after, (size_t)p->size);
        free(after);
    }
    assert_int_equal(bad_touches, 0);
    free(expected);
    free(packed);
    return launches;
}

static void random_pieces(bool casts, uint64_t seed)
{
    int64_t ranges = 0;
    int64_t launches = 0;
    int64_t cut = 0;
    memset(touches_of, 0, sizeof touches_of);
    for (int i = 0; i < 10000; i++) {
        piece p;
        make_piece(&seed, &p, casts);
        int64_t line = line_of(&p);
        launches += check_range(&seed, &p, 0, line);
        for (int k = 0; k < 4; k++) {
            int64_t low = between(&seed, 0, line);
            int64_t high = between(&seed, low, line);
            if (between(&seed, 0, 1)) { /* else few are whole elements, or more than single bytes */
                low &= ~INT64_C(7);
                high &= ~INT64_C(7);
            }
            as_pack_part part;
            cut += !as_pack_part_of(&p.geometry, low, high, &part);
            launches += check_range(&seed, &p, low, high);
            ranges++;
        }
        free_piece(&p);
    }
    printf("%lld ranges, %lld launches, %lld ranges that cut elements\n", (long long)ranges,
           (long long)launches, (long long)cut);
    for (int bytes = 1; bytes <= (casts ? 8 : 16); bytes *= 2) {
        assert_true(touches_of[bytes] > 10000);
    }
    assert_int_equal(cut > 1000, casts);
}

static void pieces_as_they_are(void **state)
{
    (void)state;
    random_pieces(false, 21);
}

static void pieces_that_are_cast(void **state)
{
    (void)state;
    random_pieces(true, 22);
}

/* Which units it takes: rows of bytes whose length, distance, address or range allow no more. */
static void units_are_the_largest_that_fit(void **state)
{
    (void)state;
    for (int64_t length = 16; length <= 32; length++) {
        for (int64_t extra = 0; extra < 17; extra++) {
            for (uint64_t shift = 0; shift < 17; shift++) {
                int64_t shape[2] = {4, length};
                int64_t offset[2] = {0, 0};
                int64_t strides[2] = {length + extra + 1, 1};
                as_box box = {.dtype = AS_U8, .ndim = 2, .shape = shape, .local = shape};
                box.offset = offset;
                box.strides = strides;
                as_geometry g;
                as_pack_part part;
                as_pack_args args;
                assert_int_equal(as_geometry_memory(&box, &g, NULL), AS_OK);
                assert_true(as_pack_part_of(&g, 0, 4 * length, &part));
                (void)as_pack_args_make(&g, part, 4096 + shift, 8192, AS_PACK_MOST, &args);
                int unit = 16;
                while (length % unit || strides[0] % unit || shift % (uint64_t)unit) {
                    unit /= 2;
                }
                assert_int_equal(args.packed_bytes, unit);
                assert_int_equal(args.memory_bytes, unit);
                (void)as_pack_args_make(&g, part, 4096, 8192 + shift, AS_PACK_MOST, &args);
                unit = 16;
                while (length % unit || strides[0] % unit || shift % (uint64_t)unit) {
                    unit /= 2;
                }
                assert_int_equal(args.packed_bytes, unit);
            }
        }
    }
}

/* ---- every value ---- */

static void every_pair_as_the_host_casts(void **state)
{
    (void)state;
    uint64_t seed = 23;
    int pairs = 0;
    for (int f = 0; f < TYPES; f++) {
        char *in;
        int64_t count = values_of(&seed, types[f], 400000, &in);
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
            as_pack_part part;
            assert_int_equal(as_geometry_cast(&box, types[t], &seams, &g, NULL), AS_OK);
            assert_true(as_pack_part_of(&g, 0, bytes, &part));
            regions[0] =
                (region){(uintptr_t)in, (uintptr_t)in + (uint64_t)(count * bytes_of(types[f]))};
            regions[1] = (region){(uintptr_t)out, (uintptr_t)out + (uint64_t)bytes};
            as_cast(types[f], types[t], in, expected, count);
            (void)run(&g, part, in, out, AS_PACK_MOST, false);
            assert_memory_equal(out, expected, (size_t)bytes);
            assert_int_equal(bad_touches, 0);
            pairs++;
            free(expected);
            free(out);
        }
        free(in);
    }
    assert_int_equal(pairs, TYPES * (TYPES - 1));
}

/* ---- numbers too great for memory of a test ---- */

/* Dimensions of all sizes up to 2^40 around powers of two: where the units of a part that begins
 * anywhere lie, told in plain arithmetic. */
static void places_of_huge_pieces(void **state)
{
    (void)state;
    uint64_t seed = 24;
    int wide = 0;
    for (int i = 0; i < 200000; i++) {
        as_geometry g = {.ndim = (int)between(&seed, 1, 4)};
        int64_t bytes = 1;
        for (int d = g.ndim - 1; d >= 0; d--) {
            int64_t most = (INT64_C(1) << 60) / bytes;
            int64_t near = (INT64_C(1) << between(&seed, 0, 40)) + between(&seed, -2, 2);
            near = near < 1 ? 1 : near;
            g.shape[d] = near > most ? most : near;
            g.global[d] = g.shape[d];
            g.stride[d] = d == g.ndim - 1 ? 1 : (int64_t)chance(&seed) >> between(&seed, 3, 60);
            bytes *= g.shape[d];
            wide += d > 0 && g.shape[d] > INT64_C(1) << 31;
        }
        as_pack_part part = {.at = between(&seed, 0, bytes - 1), .end = bytes};
        int64_t row = g.shape[g.ndim - 1];
        if (i % 2 && part.at >= row) { /* just before the end of a run */
            part.at = part.at / row * row - between(&seed, 1, row < 8 ? row : 8);
        }
        as_pack_args args;
        (void)as_pack_args_make(&g, part, 0, 0, AS_PACK_MOST, &args);
        for (int k = 0; k < 12; k++) {
            uint32_t most = args.count - 1;
            uint32_t unit = k == 8 ? most : (uint32_t)between(&seed, 0, most);
            unit = k < 8 ? ((uint32_t)k < most ? (uint32_t)k : most) : unit;
            int64_t rest = part.at + (int64_t)unit * args.packed_bytes;
            uint64_t place = 0;
            for (int d = g.ndim - 1; d >= 0; d--) {
                place += (uint64_t)(rest % g.shape[d]) * (uint64_t)g.stride[d];
                rest /= g.shape[d];
            }
            assert_true(as_pack_memory(&args, unit) == place);
        }
    }
    assert_true(wide > 10000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_as_they_are),
        cmocka_unit_test(pieces_that_are_cast),
        cmocka_unit_test(units_are_the_largest_that_fit),
        cmocka_unit_test(every_pair_as_the_host_casts),
        cmocka_unit_test(places_of_huge_pieces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
