/* SPDX-License-Identifier: Apache-2.0
 * Random boxes, and the plainest model of them: one number per element.
 */
#ifndef ALLSHARD_TESTS_BOX_SUPPORT_H
#define ALLSHARD_TESTS_BOX_SUPPORT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "tensor/dtype.h"
#include "tensor/geometry.h"

/* ------------------------------------------------------------------ chance (splitmix64) */

static inline uint64_t chance(uint64_t *seed)
{
    uint64_t z = *seed += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}

/* low … high, both included */
static inline int64_t between(uint64_t *seed, int64_t low, int64_t high)
{
    return low + (int64_t)(chance(seed) % (uint64_t)(high - low + 1));
}

/* ------------------------------------------------------------------------- random boxes */

typedef struct test_box {
    int64_t shape[AS_MAX_DIMS];
    int64_t offset[AS_MAX_DIMS];
    int64_t local[AS_MAX_DIMS];
    int64_t strides[AS_MAX_DIMS];
    bool has_strides;
    bool repeats; /* a stride of 0, or elements that share memory */
    as_box box;
} test_box;

enum { LARGEST_NUMEL = 1200 };

/* A shape of 0 to 16 dimensions whose elements fill whole bytes. */
static inline void random_shape(uint64_t *seed, test_box *t)
{
    int64_t bytes;
    do {
        t->box = (as_box){.dtype = (int)between(seed, 1, AS_DTYPE_END - 1)};
        t->box.ndim = (int)(between(seed, 0, 2) ? between(seed, 0, 5) : between(seed, 6, 16));
        int64_t numel = 1;
        for (int d = 0; d < t->box.ndim; d++) {
            int64_t most = t->box.ndim > 6 ? 3 : 9;
            bool small = numel * most > LARGEST_NUMEL;
            t->shape[d] = small ? 1 : between(seed, between(seed, 0, 30) ? 1 : 0, most);
            if (as_dtype_group(t->box.dtype) > 1 && between(seed, 0, 1) && !small && numel < 40) {
                t->shape[d] = 4 * between(seed, 1, 3);
            }
            numel *= t->shape[d] ? t->shape[d] : 1;
        }
        t->box.shape = t->shape;
    } while (as_box_tensor_bytes(t->box.dtype, t->box.ndim, t->shape, &bytes, NULL) != AS_OK);
}

static inline int64_t test_numel(const int64_t *shape, int ndim)
{
    int64_t numel = 1;
    for (int d = 0; d < ndim; d++) {
        numel *= shape[d];
    }
    return numel;
}

static inline void random_place(uint64_t *seed, test_box *t)
{
    t->box.flat = between(seed, 0, 4) == 0;
    t->box.strides = NULL;
    t->has_strides = false;
    t->repeats = false;
    int64_t group = between(seed, 0, 3) ? as_dtype_group(t->box.dtype) : 1;
    if (t->box.flat) {
        int64_t numel = test_numel(t->shape, t->box.ndim);
        t->box.flat_offset = between(seed, 0, numel) / group * group;
        t->box.flat_count = between(seed, 0, numel - t->box.flat_offset) / group * group;
        return;
    }
    for (int d = 0; d < t->box.ndim; d++) {
        bool whole = between(seed, 0, 2) == 0;
        int64_t unit = d == t->box.ndim - 1 ? group : 1;
        t->offset[d] = whole ? 0 : between(seed, 0, t->shape[d]) / unit * unit;
        t->local[d] = whole ? t->shape[d]
                            : between(seed, between(seed, 0, 9) ? t->shape[d] > t->offset[d] : 0,
                                      t->shape[d] - t->offset[d]);
    }
    t->box.offset = t->offset;
    t->box.local = t->local;
}

/* C order, transposed, padded, flipped, broadcast or plain nonsense. */
static inline void random_strides(uint64_t *seed, test_box *t)
{
    enum { C_ORDER, TRANSPOSED, PADDED, FLIPPED, BROADCAST, WILD, KINDS };
    int64_t kind = between(seed, 0, KINDS); /* one more: none */
    if (t->box.flat || kind == KINDS) {
        return;
    }
    int order[AS_MAX_DIMS];
    int ndim = t->box.ndim;
    for (int d = 0; d < AS_MAX_DIMS; d++) {
        order[d] = d;
    }
    for (int d = ndim - 1; d > 0 && kind == TRANSPOSED; d--) {
        int swap = (int)between(seed, 0, d);
        int keep = order[d];
        order[d] = order[swap];
        order[swap] = keep;
    }
    int64_t stride = 1;
    int64_t pad = as_dtype_group(t->box.dtype);
    for (int k = ndim - 1; k >= 0; k--) {
        int d = order[k];
        t->strides[d] = stride;
        stride *= t->local[d];
        if (kind == PADDED && between(seed, 0, 1)) {
            stride += pad * between(seed, 0, 3);
        }
        if (kind == FLIPPED && between(seed, 0, 1)) {
            t->strides[d] = -t->strides[d];
        }
        if (kind == BROADCAST && between(seed, 0, 1)) {
            t->strides[d] = 0;
            t->repeats = true;
        }
        if (kind == WILD) {
            t->strides[d] = between(seed, -40, 40);
            t->repeats = true;
        }
        if (t->local[d] == 1 && between(seed, 0, 1)) {
            t->strides[d] = between(seed, 0, 1) ? INT64_MIN : INT64_MAX; /* never used */
        }
    }
    t->has_strides = true;
    t->box.strides = t->strides;
}

/* ----------------------------------------------------------------------------- the model */

/* Every element of the piece in C order: its number in the tensor and its place in memory,
 * both counted in elements. */
typedef struct test_elements {
    int64_t count;
    int64_t *number;
    int64_t *memory;
} test_elements;

static inline test_elements model_elements(const as_box *b)
{
    test_elements m = {0};
    int64_t most = b->flat ? b->flat_count : test_numel(b->local, b->ndim);
    m.number = calloc((size_t)most + 1, sizeof *m.number);
    m.memory = calloc((size_t)most + 1, sizeof *m.memory);
    if (!m.number || !m.memory) {
        abort();
    }
    m.count = most;
    for (int64_t i = 0; i < most; i++) {
        if (b->flat) {
            m.number[i] = b->flat_offset + i;
            m.memory[i] = i;
            continue;
        }
        int64_t rest = i;
        int64_t step = 1;
        m.memory[i] = b->strides ? 0 : i;
        for (int d = b->ndim - 1; d >= 0; d--) {
            int64_t index = rest % b->local[d];
            rest /= b->local[d];
            m.number[i] += (b->offset[d] + index) * step;
            step *= b->shape[d];
            m.memory[i] += b->strides && index ? index * b->strides[d] : 0;
        }
    }
    return m;
}

static inline void free_elements(test_elements *m)
{
    free(m->number);
    free(m->memory);
}

/* Bytes: place[i] in the tensor's line and memory[i] from the piece's pointer. */
typedef struct test_bytes {
    int64_t count;
    int64_t *place;
    int64_t *memory;
    bool file_valid;   /* no byte of F4 or F6 is cut in the file */
    bool memory_valid; /* nor in memory */
} test_bytes;

static inline test_bytes model_bytes(const as_box *b)
{
    test_elements m = model_elements(b);
    int64_t group = as_dtype_group(b->dtype);
    int64_t bytes = as_dtype_group_bytes(b->dtype);
    test_bytes r = {.file_valid = m.count % group == 0, .memory_valid = true};
    r.place = calloc((size_t)(m.count * bytes) + 1, sizeof *r.place);
    r.memory = calloc((size_t)(m.count * bytes) + 1, sizeof *r.memory);
    if (!r.place || !r.memory) {
        abort();
    }
    for (int64_t i = 0; i + group <= m.count; i += group) {
        r.file_valid = r.file_valid && m.number[i] % group == 0;
        r.memory_valid = r.memory_valid && m.memory[i] % group == 0;
        for (int64_t k = 1; k < group; k++) {
            r.file_valid = r.file_valid && m.number[i + k] == m.number[i] + k;
            r.memory_valid = r.memory_valid && m.memory[i + k] == m.memory[i] + k;
        }
        for (int64_t k = 0; k < bytes; k++) {
            r.place[r.count] = m.number[i] / group * bytes + k;
            r.memory[r.count++] = m.memory[i] / group * bytes + k;
        }
    }
    r.memory_valid = r.memory_valid && r.file_valid;
    free_elements(&m);
    return r;
}

static inline void free_bytes(test_bytes *r)
{
    free(r->place);
    free(r->memory);
}

#endif
