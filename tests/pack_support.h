/* SPDX-License-Identifier: Apache-2.0
 * Random pieces with memory of their own, and values to cast, for tests of the pack kernel.
 */
#ifndef ALLSHARD_TESTS_PACK_SUPPORT_H
#define ALLSHARD_TESTS_PACK_SUPPORT_H

#include "base/buffer.h"
#include "box_support.h"
#include "device/pack_args.h"
#include "tensor/cast.h"
#include "tensor/cast_tiles.h"
#include "tensor/tiles.h"

static const int types[] = {AS_F64, AS_F32, AS_BF16, AS_F16, AS_F8_E4M3, AS_F8_E5M2};
enum { TYPES = 6, MARGIN = 32 };

static inline void *need(int64_t size)
{
    void *memory = calloc(1, (size_t)size + 1);
    assert_non_null(memory);
    return memory;
}

static inline void fill(uint64_t *seed, char *bytes, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        bytes[i] = (char)chance(seed);
    }
}

/* A piece with memory of its own, all of which the piece may touch but for a margin. */
typedef struct piece {
    test_box t;
    as_geometry geometry;
    as_buffer seams;
    char *block;
    int64_t size;
    char *data;
} piece;

/* Any piece; with casts, one whose elements are cast. */
static inline void make_piece(uint64_t *seed, piece *p, bool casts)
{
    *p = (piece){.seams = AS_BUFFER_INIT};
    int code;
    do {
        do {
            random_shape(seed, &p->t);
        } while (casts && !as_cast_known(p->t.box.dtype, AS_F32) &&
                 !as_cast_known(p->t.box.dtype, AS_F64));
        random_place(seed, &p->t);
        random_strides(seed, &p->t);
        int file_dtype = types[between(seed, 0, TYPES - 1)];
        code = casts ? AS_OK : as_geometry_memory(&p->t.box, &p->geometry, NULL);
        if (casts && file_dtype != p->t.box.dtype) {
            code = as_geometry_cast(&p->t.box, file_dtype, &p->seams, &p->geometry, NULL);
        } else if (casts) {
            code = AS_INVALID;
        }
    } while (code != AS_OK);
    test_elements model = model_elements(&p->t.box);
    int64_t low = 0;
    int64_t high = 0;
    for (int64_t i = 0; i < model.count; i++) {
        low = model.memory[i] < low ? model.memory[i] : low;
        high = model.memory[i] >= high ? model.memory[i] + 1 : high;
    }
    free_elements(&model);
    int64_t bits = as_dtype_bits(p->t.box.dtype);
    int64_t before = (-low * bits + 7) / 8;
    int64_t shift = between(seed, 0, 2) ? 16 * between(seed, 0, 1) : between(seed, 0, 16);
    before += (16 - before % 16) % 16 + shift;
    p->size = before + (high * bits + 7) / 8 + 2 * MARGIN;
    p->block = need(p->size);
    fill(seed, p->block, p->size);
    p->data = p->block + MARGIN + before;
}

static inline void free_piece(piece *p)
{
    free(p->block);
    as_buffer_free(&p->seams);
}

static inline int64_t line_of(const piece *p)
{
    int64_t bytes = 0;
    int dtype = p->geometry.memory_dtype ? p->geometry.file_dtype : p->t.box.dtype;
    assert_int_equal(as_box_tensor_bytes(dtype, p->t.box.ndim, p->t.shape, &bytes, NULL), AS_OK);
    return bytes;
}

static inline int bytes_of(int dtype)
{
    return as_dtype_bits(dtype) / 8;
}

/* All of the narrow types; of the others `count` that stand close to what decides, or anywhere.
 * Returns how many. */
static inline int64_t values_of(uint64_t *seed, int from, int64_t count, char **out)
{
    int64_t bytes = bytes_of(from);
    count = bytes <= 2 ? INT64_C(1) << (8 * bytes) : count;
    *out = need(count * bytes);
    for (int64_t i = 0; i < count; i++) {
        uint64_t x = (uint64_t)i;
        if (bytes > 2) {
            /* Exponents that all types have numbers for; fractions that are nearly a tie. */
            int fraction = bytes == 8 ? 52 : 23;
            uint64_t middle = bytes == 8 ? 1023 : 127;
            x = chance(seed);
            if (i % 4 != 0) {
                uint64_t kept =
                    (UINT64_C(1) << fraction) - (UINT64_C(1) << between(seed, 0, fraction));
                x = (x & kept) + (uint64_t)between(seed, -1, 1);
                x += (middle + (uint64_t)between(seed, -155, 155)) << fraction;
                x ^= (uint64_t)between(seed, 0, 1) << (8 * bytes - 1);
            }
            if (i % 64 == 1) {
                x |= (2 * middle + 1) << fraction; /* infinity and NaN */
                x &= between(seed, 0, 1) ? UINT64_MAX : ~((UINT64_C(1) << fraction) - 1);
            }
        }
        memcpy(*out + i * bytes, &x, (size_t)bytes);
    }
    return count;
}

#endif
