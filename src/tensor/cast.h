/* SPDX-License-Identifier: Apache-2.0
 * Casts between the floating-point types that models are kept in: F64, F32, BF16, F16, F8_E4M3 and
 * F8_E5M2, each into each.
 *
 * Values are those of a cast of torch (tensor.to(dtype)) and of ml_dtypes (array.astype(dtype)): to
 * the nearest, ties to the even one; subnormals on both sides count. What rounds to more than the
 * largest value becomes infinity; in F8_E4M3 (torch's float8_e4m3fn), which has none, it becomes
 * NaN, and so does infinity. Nothing saturates. Rounded is once, from the value itself: where torch
 * takes F64 to the narrower types by way of F32 (as ml_dtypes does to BF16), and so rounds twice,
 * the two can be a last bit apart.
 *
 * NaN stays NaN and keeps its sign. Into F64, and into F32 from the narrower types, its payload is
 * kept; into the others the leading bits of it, and the quiet bit is set. F8_E4M3 has one NaN of
 * each sign.
 *
 * All is done with integers, or with floating-point operations that are exact on normal numbers:
 * rounding mode, flush-to-zero and trapped exceptions of the caller's thread make no difference.
 */
#ifndef ALLSHARD_TENSOR_CAST_H
#define ALLSHARD_TENSOR_CAST_H

#include <stdbool.h>
#include <stdint.h>

/* What can be cast, for messages. */
#define AS_CAST_NAMES "F64, F32, BF16, F16, F8_E4M3 and F8_E5M2"

/* Can elements of `from` (enum as_dtype) become elements of `to`, another type? */
bool as_cast_known(int from, int to);

/* Casts `count` elements that lie one after the other; neither side needs to be aligned. The two
 * must not overlap. The pair is known (as_cast_known). */
void as_cast(int from, int to, const void *in, void *out, int64_t count);

/* The same with the instructions that every processor of the kind has: what as_cast falls back to,
 * for tests and benchmarks. */
void as_cast_plain(int from, int to, const void *in, void *out, int64_t count);

#endif
