/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/bench_state.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/hash.h"
#include "base/quote.h"
#include "cli/random.h"
#include "tensor/cast.h"
#include "tensor/dtype.h"

enum { SEED = 1, LEAST_ALIGN = 64, SPOIL = 0xa5 };

int64_t as_bench_state_bytes(const as_tensors *t, const as_layout *l, int rank)
{
    int64_t bytes = 0;
    for (size_t i = 0; i < as_tensors_count(t); i++) {
        as_layout_piece piece;
        bytes += as_layout_get(l, t, i, rank, &piece) ? piece.bytes : 0;
    }
    return bytes;
}

/* Makes of random bits elements that come back from the type in the file as they were. Where that
 * type is the smaller one its bits are to be the random ones: random numbers of a type of larger
 * range would nearly all be infinite or zero in it. Each element is made of its own bits alone, so
 * that it is the same in every layout. */
static void round_to(int dtype, int stored, unsigned char *bytes, int64_t count)
{
    enum { STEP = 1024 };
    unsigned char there[STEP * sizeof(double)];
    unsigned char back[STEP * sizeof(double)];
    size_t size = (size_t)as_dtype_bits(dtype) / 8;
    size_t small = (size_t)as_dtype_bits(stored) / 8;
    bool smaller = as_dtype_bits(stored) < as_dtype_bits(dtype);
    while (count > 0) {
        int64_t n = count < STEP ? count : STEP;
        if (smaller) {
            for (int64_t k = 0; k < n; k++) {
                memcpy(there + (size_t)k * small, bytes + (size_t)k * size, small);
            }
            as_cast(stored, dtype, there, bytes, n);
        }
        as_cast(dtype, stored, bytes, there, n);
        as_cast(stored, dtype, there, back, n);
        memcpy(bytes, back, (size_t)n * size);
        bytes += (size_t)n * size;
        count -= n;
    }
}

static uint64_t sum_of(const void *bytes, int64_t count)
{
    return as_hash_bytes(bytes, (size_t)count).low;
}

static int make_piece(as_bench_state *s, size_t i, const as_layout_piece *piece, int64_t align,
                      as_error *e)
{
    const as_tensor_row *row = as_tensors_row(s->tensors, i);
    int stored = s->casts->to[row->dtype];
    if (piece->bytes > 0) {
        s->memory[i] = as_bench_memory_take(s->where, align, piece->bytes, e);
        if (!s->memory[i]) {
            return e->code;
        }
        void *host = s->host ? s->host : s->memory[i];
        as_random_bits(s->tensors, i, SEED, piece, host);
        if (stored) {
            round_to(row->dtype, stored, host, piece->bytes * 8 / as_dtype_bits(row->dtype));
        }
        s->sums[i] = sum_of(host, piece->bytes);
        if (s->host &&
            as_bench_memory_put(s->where, s->memory[i], host, piece->bytes, e) != AS_OK) {
            return e->code;
        }
    }
    allshard_tensor tensor = {
        .size = sizeof tensor,
        .name = as_tensors_name(s->tensors, i),
        .dtype = row->dtype,
        .ndim = row->ndim,
        .shape = as_tensors_shape(s->tensors, i),
        .offset = piece->flat ? NULL : piece->offset,
        .local_shape = piece->flat ? NULL : piece->shape,
        .flat = piece->flat,
        .flat_offset = piece->flat ? piece->flat_offset : 0,
        .flat_count = piece->flat ? piece->flat_count : 0,
        .data = s->memory[i],
        .order = (int64_t)i + 1,
        .stored_dtype = stored,
    };
    int code = allshard_state_tensor(s->state, &tensor);
    return code == AS_OK
               ? AS_OK
               : as_fail(e, code, 0, "tensor %s could not be declared: %s",
                         as_quote(tensor.name, row->name_length).text, as_code_text(code));
}

/* Room for the largest piece. */
static int open_host(as_bench_state *s, as_error *e)
{
    int64_t most = 1;
    for (size_t i = 0; i < as_tensors_count(s->tensors); i++) {
        as_layout_piece piece;
        if (as_layout_get(s->layout, s->tensors, i, s->rank, &piece)) {
            most = as_max_i64(most, piece.bytes);
        }
    }
    s->host = malloc((size_t)most);
    return s->host ? AS_OK : as_fail_nomem(e);
}

int as_bench_state_make(as_bench_state *s, allshard *context, int64_t align, as_error *e)
{
    size_t count = as_tensors_count(s->tensors);
    s->memory = calloc(count + 1, sizeof *s->memory);
    s->sums = calloc(count + 1, sizeof *s->sums);
    if (!s->memory || !s->sums) {
        return as_fail_nomem(e);
    }
    if (s->where->cuda && open_host(s, e) != AS_OK) {
        return e->code;
    }
    int code = allshard_state_create(&s->state, context, "model");
    if (code != AS_OK) {
        return as_fail(e, code, 0, "%s", as_code_text(code));
    }
    for (size_t i = 0; i < count && code == AS_OK; i++) {
        as_layout_piece piece;
        if (as_layout_get(s->layout, s->tensors, i, s->rank, &piece)) {
            code = make_piece(s, i, &piece, align > LEAST_ALIGN ? align : LEAST_ALIGN, e);
        }
    }
    return code;
}

int as_bench_state_spoil(as_bench_state *s, as_error *e)
{
    int code = AS_OK;
    for (size_t i = 0; i < as_tensors_count(s->tensors) && code == AS_OK; i++) {
        as_layout_piece piece;
        if (s->memory[i] && as_layout_get(s->layout, s->tensors, i, s->rank, &piece)) {
            memset(s->host ? s->host : s->memory[i], SPOIL, (size_t)piece.bytes);
            code = s->host ? as_bench_memory_put(s->where, s->memory[i], s->host, piece.bytes, e)
                           : AS_OK;
        }
    }
    return code;
}

/* Is the piece what it was? */
static int compare(const as_bench_state *s, size_t i, int64_t bytes, bool *same, as_error *e)
{
    int code = s->host ? as_bench_memory_get(s->where, s->host, s->memory[i], bytes, e) : AS_OK;
    *same = code == AS_OK && sum_of(s->host ? s->host : s->memory[i], bytes) == s->sums[i];
    return code;
}

int as_bench_state_check(const as_bench_state *s, as_error *e)
{
    for (size_t i = 0; i < as_tensors_count(s->tensors); i++) {
        as_layout_piece piece;
        bool same = true;
        if (s->memory[i] && as_layout_get(s->layout, s->tensors, i, s->rank, &piece) &&
            compare(s, i, piece.bytes, &same, e) != AS_OK) {
            return e->code;
        }
        if (!same) {
            return as_fail(
                e, AS_MISMATCH, 0,
                "tensor %s came back with other bytes than were saved; the figures of "
                "this run are worth nothing, please report it",
                as_quote(as_tensors_name(s->tensors, i), as_tensors_row(s->tensors, i)->name_length)
                    .text);
        }
    }
    return AS_OK;
}

void as_bench_state_free(as_bench_state *s)
{
    (void)allshard_state_free(s->state);
    for (size_t i = 0; s->memory && i < as_tensors_count(s->tensors); i++) {
        as_bench_memory_give(s->where, s->memory[i]);
    }
    free((void *)s->memory);
    free(s->sums);
    free(s->host);
    *s = (as_bench_state){0};
}
