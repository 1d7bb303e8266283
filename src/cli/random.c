/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/random.h"

#include <stdbool.h>
#include <string.h>

#include "base/checked.h"
#include "base/hash.h"
#include "tensor/dtype.h"

/* SplitMix64 (Steele, Lea, Flood 2014): its state after n steps is key + n·γ, so that any element
 * can be had at once. */
static uint64_t random_at(uint64_t key, uint64_t n)
{
    uint64_t x = key + n * UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/* −0.05 … 0.05; 24 bits, exact in a float. */
static float weight(uint64_t bits)
{
    return ((float)(bits >> 40) / 16777216.0F - 0.5F) * 0.1F;
}

static uint16_t bfloat_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

/* Elements [first, first + count) of the tensor, one byte or more each. */
static void fill_run(int dtype, uint64_t key, uint64_t first, uint64_t count, unsigned char *out)
{
    size_t size = (size_t)as_dtype_bits(dtype) / 8;
    for (uint64_t n = first; n < first + count; n++, out += size) {
        uint64_t bits = random_at(key, n);
        float f32 = weight(bits);
        double f64 = (double)f32;
        uint16_t bf16 = bfloat_of(f32);
        switch (dtype) {
        case AS_F32:
            memcpy(out, &f32, sizeof f32);
            break;
        case AS_F64:
            memcpy(out, &f64, sizeof f64);
            break;
        case AS_BF16:
            memcpy(out, &bf16, sizeof bf16);
            break;
        case AS_BOOL:
            out[0] = (unsigned char)(bits & 1);
            break;
        case AS_F8_E4M3:
            /* 0x7f and 0xff are its NaNs. */
            out[0] = (unsigned char)((bits & 0x7f) == 0x7f ? bits & 0x80 : bits & 0xff);
            break;
        default:
            memcpy(out, &bits, size);
            break;
        }
    }
}

/* Groups of elements that share bytes: each byte by itself. */
static void fill_bytes(uint64_t key, uint64_t first, uint64_t count, unsigned char *out)
{
    for (uint64_t n = 0; n < count; n++) {
        out[n] = (unsigned char)random_at(key, first + n);
    }
}

/* Bytes [first, first + count) of the tensor, whose words are numbered from its begin. */
static void fill_words(uint64_t key, uint64_t first, uint64_t count, unsigned char *out)
{
    uint64_t word = 0;
    while (count > 0) {
        size_t skip = (size_t)(first % sizeof word);
        size_t take = sizeof word - skip < count ? sizeof word - skip : (size_t)count;
        word = random_at(key, first / sizeof word);
        memcpy(out, (const unsigned char *)&word + skip, take);
        out += take;
        first += take;
        count -= take;
        for (; count >= sizeof word; count -= sizeof word) {
            word = random_at(key, first / sizeof word);
            memcpy(out, &word, sizeof word);
            out += sizeof word;
            first += sizeof word;
        }
    }
}

typedef struct as_run {
    int dtype;
    bool bits;
    uint64_t key;
    unsigned char *out;
} as_run;

static void put_run(as_run *r, int64_t first, int64_t count)
{
    int group = as_dtype_group(r->dtype);
    int64_t size = as_dtype_group_bytes(r->dtype);
    if (r->bits) {
        fill_words(r->key, (uint64_t)(first / group * size), (uint64_t)(count / group * size),
                   r->out);
    } else if (group == 1) {
        fill_run(r->dtype, r->key, (uint64_t)first, (uint64_t)count, r->out);
    } else {
        fill_bytes(r->key, (uint64_t)(first / group * size), (uint64_t)(count / group * size),
                   r->out);
    }
    r->out += count / group * size;
}

static void put_piece(const as_tensors *t, size_t i, uint64_t seed, const as_layout_piece *piece,
                      bool bits, void *out)
{
    const as_tensor_row *row = as_tensors_row(t, i);
    const int64_t *shape = as_tensors_shape(t, i);
    as_hash name = as_hash_seeded(as_tensors_name(t, i), row->name_length, seed);
    as_run run = {.dtype = row->dtype, .bits = bits, .key = name.low, .out = out};
    if (piece->bytes == 0) {
        return;
    }
    if (piece->flat || piece->bytes == row->bytes) {
        put_run(&run, piece->flat ? piece->flat_offset : 0,
                piece->flat ? piece->flat_count : row->numel);
        return;
    }
    /* Row by row of the last dimension; `at` counts through the others. */
    int last = row->ndim - 1;
    int64_t at[AS_MAX_DIMS] = {0};
    for (int d = 0; d >= 0;) {
        int64_t place = 0;
        for (int k = 0; k <= last; k++) {
            place = place * shape[k] + piece->offset[k] + at[k];
        }
        put_run(&run, place, piece->shape[last]);
        for (d = last - 1; d >= 0 && ++at[d] == piece->shape[d]; d--) {
            at[d] = 0;
        }
    }
}

void as_random_fill(const as_tensors *t, size_t i, uint64_t seed, const as_layout_piece *piece,
                    void *out)
{
    put_piece(t, i, seed, piece, false, out);
}

void as_random_bits(const as_tensors *t, size_t i, uint64_t seed, const as_layout_piece *piece,
                    void *out)
{
    put_piece(t, i, seed, piece, true, out);
}

void as_random_words(void *out, size_t count, uint64_t seed)
{
    fill_words(seed, 0, count, out);
}
